"""The documentation of every public name: each argument, what is returned and raised, an example, a source."""

import ast
import importlib
import inspect
import re
import textwrap
import types

import pytest

import lectopt

NAMESPACES = ["lectopt", "lectopt.initializers", "lectopt.data.datasets", "lectopt.search", "lectopt.search.space",
              "lectopt.search.optuna", "lectopt.sklearn", "lectopt.exercises"]  # fmt: skip

# Taken from no lecture and no paper: how data are split and stored, how JAX and its programs are handled.
WITHOUT_SOURCE = {
    "lectopt.accept_dicts",
    "lectopt.register_eval_params",
    "lectopt.from_indices",
    "lectopt.few_labels",
    "lectopt.use_all_cores",
    "lectopt.load",
    "lectopt.stream",
    "lectopt.whole_set",
    "lectopt.Comparison",
    "lectopt.Folds",
    "lectopt.History",
    "lectopt.Keep",
    "lectopt.Minibatches",
    "lectopt.Racer",
    "lectopt.Results",
    "lectopt.Run",
    "lectopt.Subset",
    "lectopt.Task",
    "lectopt.exercises.Verdict",
}

# What the public functions return, and users read the fields of.
RETURNED = [
    "lectopt.architecture.results.ArchitectureResults",
    "lectopt.architecture.results.Finalist",
    "lectopt.monitoring.findings.Finding",
    "lectopt.monitoring.inspection.Inspection",
    "lectopt.monitoring.layer_reports.LayerReport",
    "lectopt.norms.moments.Moments",
    "lectopt.optim.AddL2State",
    "lectopt.optim.AverageParamsState",
    "lectopt.optim.ClipByNormState",
    "lectopt.optim.ClipByValueState",
    "lectopt.optim.ClipLayersByNormState",
    "lectopt.optim.DecayWeightsState",
    "lectopt.optim.ScaleByAdagradState",
    "lectopt.optim.ScaleByAdamState",
    "lectopt.optim.ScaleByLearningRateState",
    "lectopt.optim.ScaleByRmspropState",
    "lectopt.optim.TraceMomentumState",
    "lectopt.optim.TraceNesterovState",
    "lectopt.optim.WatchNormsState",
    "lectopt.pretraining.transfer_learning.TransferRow",
    "lectopt.search.learning_rate.RateSuggestion",
    "lectopt.search.nesting.NestedResults",
    "lectopt.search.score_curves.ScoreCurve",
    "lectopt.search.selection.Selection",
    "lectopt.search.significance.Difference",
    "lectopt.tasks.model_state.ModelState",
    "lectopt.training.ensembling.Ensemble",
]

# An argument is explained where it stands, though that repeats.
ELSEWHERE = re.compile(
    r"\bas (for|in|of|with) `(?!jax|optax|numpy)|^as `|^the same as|same kinds? of value|^see `|: see `"
)
# The reference is built from Markdown: what that takes in a formula for an escape, or a break of the line.
LOST = re.compile(r"\\[\\`*_{}\[\]()#+.!-]")
FORMULA = re.compile(r":math:`([^`]*)`|^\.\. math::((?:.*\n)(?: +.*\n|\n)*)", re.MULTILINE)
SECTIONS = ("Args", "Attributes", "Returns", "Raises", "Example", "Source")
VERB = re.compile(r"^[A-Z][a-z]+s\b")


def public_names():
    """{qualified name: object}: what this package defines in each namespace, and of each class the public members."""
    found = {}
    for namespace in NAMESPACES:
        module = importlib.import_module(namespace)
        for name, found_there in vars(module).items():
            thing = inspect.unwrap(found_there) if callable(found_there) else found_there  # what is marked by whole_set
            if name.startswith("_") or not (inspect.isclass(thing) or inspect.isfunction(thing)):
                continue
            if not thing.__module__.startswith("lectopt"):
                continue
            handed_on = module.__spec__.submodule_search_locations is not None  # a package's __init__
            if not handed_on and thing.__module__ != namespace:
                continue
            if any(thing is known for known in found.values()):
                continue
            found[f"{namespace}.{name}"] = thing
            if inspect.isclass(thing):
                found |= {f"{namespace}.{name}.{key}": member for key, member in members(thing)}
    for name in RETURNED:
        thing = getattr(importlib.import_module(name.rpartition(".")[0]), name.rpartition(".")[2])
        found |= {name: thing} | {f"{name}.{key}": member for key, member in members(thing)}
    return found


def members(cls):
    for name, attribute in vars(cls).items():
        member = getattr(attribute, "__func__", attribute)  # of a static or class method
        if (not name.startswith("_") or name == "__call__") and isinstance(member, (types.FunctionType, property)):
            yield name, member


def sections(docstring):
    """{heading: text} of a docstring in Google's style; what stands before the first one is called ""."""
    found, heading = {"": []}, ""
    for line in inspect.cleandoc(docstring).splitlines():
        start = re.fullmatch(rf"({'|'.join(SECTIONS)}):(?: (.*))?", line)
        if start:
            heading = start[1]
            found[heading] = []
        elif line and not line.startswith(" ") and heading != "Source":  # which is the last one, a paragraph
            heading = ""
        found[heading].append((start[2] or "") if start else line)
    return {heading: textwrap.dedent("\n".join(lines)) for heading, lines in found.items()}


def entries(text):
    """{name: explanation} of a section such as Args."""
    found, name = {}, None
    for line in text.splitlines():
        if start := re.match(r"\*{0,2}(\w+): ?(.*)", line):
            name = start[1]
            found[name] = start[2]
        elif name:
            found[name] += f" {line.strip()}"
    return found


def own_nodes(function):
    """The nodes of a function's body, without those of the functions that it defines."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    waiting = list(tree.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.Lambda, ast.ClassDef)):
            waiting.extend(ast.iter_child_nodes(node))


def raises(function):
    """Whether it refuses something itself: by `raise`, or by one of the checks."""
    return any(
        isinstance(node, ast.Raise)
        or (isinstance(node, ast.Attribute) and ast.unparse(node).startswith(("checks.check_", "task_checks.check_")))
        for node in own_nodes(function)
    )


def gives_back(function):
    return any(
        isinstance(node, ast.Return) and node.value is not None and ast.unparse(node.value) != "None"
        for node in own_nodes(function)
    )


def arguments(function):
    return [name for name in inspect.signature(function).parameters if name not in ("self", "cls") and name[0] != "_"]


def complaints(name, thing):
    """What the documentation of a public name lacks."""
    docstring = thing.__doc__ or ""
    if not docstring.strip():
        return ["there is no docstring"]
    if inspect.isclass(thing):
        found = list(of_class(thing, docstring))
    elif isinstance(thing, property):
        found = list(of_function(thing.fget, docstring, [], is_property=True))
    else:
        found = list(of_function(thing, docstring, arguments(thing)))
    if name.count(".") == top_level(name):
        found += of_top_level(name, docstring)
    return found + list(of_markdown(inspect.cleandoc(docstring) + "\n"))


def of_markdown(text):
    for inline, block in FORMULA.findall(text):
        if LOST.search(inline + block) or "\n" in inline:
            yield f"Markdown would change the formula {inline or block}"
    for tag in re.findall(r"<\w[^>]*>", re.sub(r"`[^`]*`|^ *(>>>|\.\.\.) .*", "", text, flags=re.MULTILINE)):
        yield f"Markdown would take {tag} for a tag: put it into backticks"


def top_level(name):
    """The number of dots in the name of what stands in a namespace itself, not in a class."""
    return 1 + max(namespace.count(".") for namespace in NAMESPACES if name.startswith(f"{namespace}."))


def of_top_level(name, docstring):
    parts = sections(docstring)
    if ">>>" not in parts.get("Example", ""):
        yield "there is no example"
    if ("Source" in parts) == (name in WITHOUT_SOURCE):
        yield f"there is {'a' if 'Source' in parts else 'no'} source"
    if "Source" in parts and not re.search(r"R\. Legenstein|\(\d{4}\)", parts["Source"]):
        yield f"nobody finds this source: {parts['Source']}"


def of_class(cls, docstring):
    parts = sections(docstring)
    makers = [vars(cls).get(name) for name in ("__init__", "__post_init__", "__new__")]
    makers = [maker for maker in makers if isinstance(maker, types.FunctionType)]
    fields = [name for name in getattr(cls, "_fields", ()) if not name.startswith("_")]
    wanted = fields or (arguments(makers[0]) if makers and not is_protocol(cls) else [])
    yield from of_arguments(wanted, parts)
    if any(raises(maker) for maker in makers if is_written(maker) and not is_protocol(cls)) and "Raises" not in parts:
        yield "it does not say what is raised"


def is_protocol(cls):
    return getattr(cls, "_is_protocol", False)


def is_written(function):
    """Whether it stands in a file, as those of a dataclass or a NamedTuple do not."""
    return function.__code__.co_filename.endswith(".py")


def of_function(function, docstring, wanted, is_property=False):
    parts, first = sections(docstring), docstring.strip().splitlines()[0]
    if not is_property and not VERB.match(first):
        yield f"the first line does not begin with a verb: {first}"
    if is_property and first.startswith("Returns "):
        yield f"a property is what it is, and returns nothing: {first}"
    yield from of_arguments(wanted, parts)
    said = is_property or first.startswith("Returns ") or "Returns" in parts
    if gives_back(function) and not said:
        yield "it does not say what is returned"
    if raises(function) and "Raises" not in parts:
        yield "it does not say what is raised"


def of_arguments(wanted, parts):
    given = entries(parts.get("Args", ""))
    explained = given | entries(parts.get("Attributes", ""))
    yield from (f"the argument {name} is not explained" for name in wanted if not explained.get(name))
    yield from (f"there is no argument {name}" for name in given if name not in wanted)
    for heading in ("Args", "Attributes", "Raises"):
        for line in parts.get(heading, "").splitlines():
            if re.match(r"\S", line) and not re.match(r"\*{0,2}\w+: ", line):
                yield f"{heading} must hold entries `name: explanation`; got {line}"
        for name, text in entries(parts.get(heading, "")).items():
            if ELSEWHERE.search(text):
                yield f"{name} is explained elsewhere: {text}"


PUBLIC = public_names()


@pytest.mark.parametrize("name", PUBLIC)
def test_documentation_is_complete(name):
    assert not complaints(name, PUBLIC[name])


@pytest.mark.parametrize(
    "namespace", ["lectopt", "lectopt.initializers", "lectopt.search", "lectopt.sklearn", "lectopt.exercises"]
)
def test_the_reference_shows_what_a_namespace_imports(namespace):
    module = importlib.import_module(namespace)
    imports = [node for node in ast.parse(inspect.getsource(module)).body if isinstance(node, ast.ImportFrom)]
    assert set(module.__all__) == {alias.asname for node in imports for alias in node.names}


def test_the_front_page_names_everything():
    assert set(lectopt.__all__) <= set(re.findall(r"`(?:lectopt\.)?(\w+)`", lectopt.__doc__))


def test_public_names_are_found():
    assert {"lectopt.train", "lectopt.Run.predict", "lectopt.search.optuna.optimize"} <= set(PUBLIC)
    assert set(dir(lectopt)) >= {name.split(".")[1] for name in PUBLIC}
