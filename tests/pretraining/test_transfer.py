"""Taking trained arrays into another model: from every kind of source, by path, exactly, and what is learned then."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import linen, nnx

import lectopt as lo

X, Y = lo.datasets.digits()
X = X[:200] / 16
Y = Y[:200]


class Net(nnx.Module):
    def __init__(self, classes, rngs, norm=nnx.BatchNorm):
        self.first = nnx.Linear(64, 8, rngs=rngs)
        self.norm = norm(8, rngs=rngs)
        self.last = nnx.Linear(8, classes, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.relu(self.norm(self.first(x))))


class LinenNet(linen.Module):
    @linen.compact
    def __call__(self, x, train=False):
        x = linen.BatchNorm(use_running_average=not train, name="norm")(linen.Dense(8, name="first")(x))
        return linen.Dense(10, name="last")(linen.relu(x))


def trained():
    """A module whose arrays are all different from fresh ones."""
    module = Net(10, nnx.Rngs(0))
    for _, variable in nnx.iter_graph(module):
        if isinstance(variable, nnx.Variable) and jnp.issubdtype(variable.get_value().dtype, jnp.floating):
            variable.set_value(variable.get_value() + jnp.arange(variable.get_value().size).reshape(variable.shape) / 7)
    return module


SOURCE = trained()


def arrays(module):
    return {
        "/".join(map(str, path)): np.asarray(value)
        for path, value in nnx.to_flat_state(nnx.as_pure(nnx.state(module, (nnx.Param, nnx.BatchStat))))
    }


def linen_variables():
    params, stats = {}, {}
    for name, value in arrays(SOURCE).items():
        layer, leaf = name.split("/")
        (stats if leaf in ("mean", "var") else params).setdefault(layer, {})[leaf] = jnp.asarray(value)
    return {"params": params, "batch_stats": stats}


def saved_run(tmp_path):
    task = lo.classification(SOURCE)
    run = lo.fit(task, optax.set_to_zero(), (X, Y), batch_size=50, steps=1, key=0, progress=False)
    run.save(tmp_path / "run")
    return run, tmp_path / "run"


def manager(tmp_path):
    with ocp.CheckpointManager(tmp_path / "steps") as steps:
        for step, model in ((2, Net(10, nnx.Rngs(5))), (10, SOURCE)):
            steps.save(step, args=ocp.args.StandardSave(nnx.as_pure(nnx.state(model, (nnx.Param, nnx.BatchStat)))))
    return tmp_path / "steps"


def standard(tmp_path, tree):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "checkpoint", tree)
    return tmp_path / "checkpoint"


def safetensors_file(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    numpy.save_file({k.replace("/", "."): v for k, v in arrays(SOURCE).items()}, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def pair(tmp_path):
    variables = linen_variables()
    return variables["params"], {"batch_stats": variables["batch_stats"]}


SOURCES = {
    "module": lambda tmp_path: SOURCE,
    "Linen variables": lambda tmp_path: linen_variables(),
    "pair": pair,
    "safetensors": safetensors_file,
    "text": lambda tmp_path: str(safetensors_file(tmp_path)),
    "Orbax, nnx.State": lambda tmp_path: standard(tmp_path, nnx.state(SOURCE, (nnx.Param, nnx.BatchStat))),
    "Orbax, Linen": lambda tmp_path: standard(tmp_path, linen_variables()),
    "Orbax, last step": manager,
    "Orbax, one step": lambda tmp_path: manager(tmp_path) / "10",
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_gives_the_same(source, tmp_path):
    target = Net(10, nnx.Rngs(1))
    before = arrays(target)
    got = lo.transfer(SOURCES[source](tmp_path), target, statistics="take")
    for name, value in arrays(got.model).items():
        np.testing.assert_array_equal(value, arrays(SOURCE)[name], err_msg=name)
    assert {row.outcome for row in got.rows} == {"taken"}
    for name, value in arrays(target).items():
        np.testing.assert_array_equal(value, before[name])


def test_from_a_run_and_from_where_it_was_saved(tmp_path):
    run, path = saved_run(tmp_path)
    for source in (run, path):
        got = arrays(lo.transfer(source, Net(10, nnx.Rngs(1)), statistics="take").model)
        assert got.keys() == arrays(SOURCE).keys()
        for name in ("first/kernel", "norm/scale", "last/bias"):
            np.testing.assert_array_equal(got[name], arrays(SOURCE)[name])
        np.testing.assert_array_equal(got["norm/mean"], arrays(run.model)["norm/mean"])


@pytest.mark.parametrize("kind", ["Linen variables", "pair"])
def test_every_target(kind, tmp_path):
    blank = jax.tree.map(jnp.zeros_like, SOURCES[kind](tmp_path))
    got = lo.transfer(SOURCE, blank, statistics="take")
    assert jax.tree.structure(got.model) == jax.tree.structure(blank)
    for value, wanted in zip(jax.tree.leaves(got.model), jax.tree.leaves(SOURCES[kind](tmp_path)), strict=True):
        np.testing.assert_array_equal(value, wanted)
    outputs = LinenNet().apply(linen_variables(), X)
    np.testing.assert_allclose(outputs, trained_in_evaluation()(X), rtol=1e-5, atol=1e-5)


def trained_in_evaluation():
    module = trained()
    module.eval()
    return module


RENAMES = {
    "whole": ({"first": "one", "last": "two"}, {"first/bias": "one/bias", "last/kernel": "two/kernel"}),
    "longest first": ({"first": None, "first/bias": "b"}, {"first/bias": "b", "first/kernel": None}),
    "any step": ({"*/bias": "bias/*"}, {"first/bias": "bias/first", "norm/bias": "bias/norm", "first/kernel": None}),
    "deeper": ({"": "inner"}, {"first/bias": "inner/first/bias"}),
    "higher": ({"first": ""}, {"first/bias": "bias", "last/bias": "last/bias"}),
    "dots": ({"first.bias": "a.b"}, {"first/bias": "a/b"}),
    "function": (lambda p: p.upper() if "bias" in p else None, {"first/bias": "FIRST/BIAS", "first/kernel": None}),
}


@pytest.mark.parametrize("case", RENAMES)
def test_rename(case):
    rules, wanted = RENAMES[case]
    target = {"params": {}}
    values = arrays(SOURCE)
    for origin, path in wanted.items():
        if path is not None:
            *steps, leaf = path.split("/")
            node = target["params"]
            for step in steps:
                node = node.setdefault(step, {})
            node[leaf] = jnp.zeros(values[origin].shape)
    got = lo.transfer(SOURCE, target, rename=rules)
    rows = {row.source: row.path for row in got.rows if row.outcome == "taken"}
    assert rows == {origin: path for origin, path in wanted.items() if path is not None}
    left = {row.path for row in got.rows if row.outcome == "left"}
    assert {origin for origin, path in wanted.items() if path is None} <= left


def test_table():
    got = lo.transfer(SOURCE, Net(5, nnx.Rngs(1)), rename={"last": None}, statistics="keep")
    assert [(row.path, row.outcome, row.source) for row in got.rows] == [
        ("first/bias", "taken", "first/bias"),
        ("first/kernel", "taken", "first/kernel"),
        ("last/bias", "new", ""),
        ("last/kernel", "new", ""),
        ("norm/bias", "taken", "norm/bias"),
        ("norm/scale", "taken", "norm/scale"),
        ("norm/mean", "kept", ""),
        ("norm/var", "kept", ""),
        ("last/bias", "left", ""),
        ("last/kernel", "left", ""),
        ("norm/mean", "left", ""),
        ("norm/var", "left", ""),
    ]
    assert str(got).splitlines()[2].split() == ["first/kernel", "(64,", "8)", "taken", "first/kernel"]
    assert got._repr_html_().count("<tr>") == 13
    assert got.to_pandas().loc["first/bias", "outcome"] == "taken"
    assert got.labels["first"] == {"bias": "taken", "kernel": "taken"}
    assert got.labels["last"] == {"bias": "new", "kernel": "new"}


def test_statistics_are_taken_or_kept():
    taken, kept = (lo.transfer(SOURCE, Net(10, nnx.Rngs(1)), statistics=s) for s in ("take", "keep"))
    np.testing.assert_array_equal(taken.model.norm.mean[...], SOURCE.norm.mean[...])
    np.testing.assert_array_equal(kept.model.norm.mean[...], np.zeros(8))
    np.testing.assert_array_equal(taken.start.variables["norm"]["var"], SOURCE.norm.var[...])
    with pytest.raises(ValueError, match=r"statistics must be 'take' or 'keep', since.*norm/mean, norm/var"):
        lo.transfer(SOURCE, Net(10, nnx.Rngs(1)))


def plain(classes, rngs):
    return nnx.Sequential(nnx.Linear(64, 8, rngs=rngs), nnx.relu, nnx.Linear(8, classes, rngs=rngs))


def small(rngs):
    return plain(10, rngs)


def test_a_run_brings_how_its_inputs_are_standardised():
    task, options = lo.classification(small, standardize=True), {"batch_size": 20, "steps": 1, "progress": False}
    still = {"hyperparameters": {"learning_rate": 0.0}, "key": 1}
    moving = {"hyperparameters": {"learning_rate": 0.1}, "key": 0}
    run = lo.fit(task, lo.sgd, (X[-20:], Y[-20:]), **moving, **options)
    fresh = small(nnx.Rngs(3))
    with pytest.raises(ValueError, match="how the run standardises"):
        lo.transfer(run, fresh)
    start = lo.transfer(run, fresh, statistics="take").start
    again = lo.fit(task, lo.sgd, (X[:20], Y[:20]), start=start, **still, **options)
    np.testing.assert_allclose(again.predict(X), run.predict(X), rtol=1e-6, atol=1e-6)
    kept = lo.transfer(run, fresh, statistics="keep").start
    other = lo.fit(task, lo.sgd, (X[:20], Y[:20]), start=kept, **still, **options)
    assert np.abs(other.predict(X) - run.predict(X)).max() > 1e-2


@pytest.mark.slow
def test_transfers_within_a_search():
    """Each lane takes the same layer and draws another output layer."""
    source, task = plain(10, nnx.Rngs(0)), lo.classification(lambda rngs: plain(5, rngs))
    data = X[Y < 5], Y[Y < 5]

    def lane(key):
        got = lo.transfer(source, plain(5, nnx.Rngs(key)), rename={"layers/2": None})
        frozen = optax.partition({"taken": optax.set_to_zero(), "new": lo.sgd(0.1)}, got.labels)
        return lo.train(task, frozen, data, batch_size=20, steps=3, key=key, start=got.start).params["layers"]

    ends = jax.jit(jax.vmap(lane))(jax.vmap(jax.random.key)(jnp.arange(2)))
    np.testing.assert_array_equal(ends[0]["kernel"], np.stack([source.layers[0].kernel[...]] * 2))
    assert np.abs(ends[2]["kernel"][0] - ends[2]["kernel"][1]).max() > 0.01
    alone = jax.jit(lane)(jax.random.key(1))
    np.testing.assert_allclose(ends[2]["kernel"][1], alone[2]["kernel"], rtol=1e-5, atol=1e-6)


def test_the_targets_dtype():
    half = nnx.Linear(64, 8, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    got = lo.transfer(nnx.Linear(64, 8, rngs=nnx.Rngs(1)), half).model
    assert got.kernel[...].dtype == jnp.bfloat16


HEAD = {"last": {"weight": jnp.ones((10, 8))}}, {}
BAD = {
    "no path": (
        lambda: lo.transfer(SOURCE, plain(10, nnx.Rngs(0))),
        ValueError,
        "paths in common.*first/bias.*layers/0/bias",
    ),
    "names of PyTorch": (
        lambda: lo.transfer(({"a": {"weight": jnp.ones(3)}}, {}), SOURCE),
        ValueError,
        "layout='torch'",
    ),
    "shapes": (
        lambda: lo.transfer(plain(10, nnx.Rngs(0)), plain(5, nnx.Rngs(0))),
        ValueError,
        r"layers/2/bias of source has \(10,\), layers/2/bias of target \(5,\).*rename=\{'layers/2': None\}",
    ),
    "integers": (
        lambda: lo.transfer(({"a": jnp.ones(3, int)}, {}), ({"a": jnp.ones(3)}, {})),
        ValueError,
        "same kind of numbers.*int32.*float32",
    ),
    "missing": (lambda: lo.transfer("nowhere.safetensors", SOURCE), FileNotFoundError, "nothing at .*nowhere"),
    "source": (lambda: lo.transfer(3, SOURCE), TypeError, "source must be.*int"),
    "target": (lambda: lo.transfer(SOURCE, lo.classification(small)), TypeError, "target must be.*got Classification"),
    "layout": (
        lambda: lo.transfer(SOURCE, SOURCE, layout="keras"),
        ValueError,
        "layout must be one of 'flax', 'torch'; got 'keras'",
    ),
    "statistics": (
        lambda: lo.transfer(SOURCE, SOURCE, statistics=True),
        ValueError,
        "statistics must be one of 'take', 'keep'",
    ),
    "rename's kind": (
        lambda: lo.transfer(SOURCE, SOURCE, rename=["a"]),
        TypeError,
        "rename must be a dictionary.*list",
    ),
    "rename's values": (
        lambda: lo.transfer(SOURCE, SOURCE, rename={"a": 1}),
        TypeError,
        "rename must hold paths.*'a': 1",
    ),
    "rename nothing": (
        lambda: lo.transfer(SOURCE, SOURCE, rename={"fist": "a"}),
        ValueError,
        "rename must hold beginnings of paths of source, first/bias.*; none begins with 'fist'",
    ),
    "stars": (lambda: lo.transfer(SOURCE, SOURCE, rename={"*": "a"}), ValueError, r"as many \*"),
    "collision": (
        lambda: lo.transfer(SOURCE, SOURCE, rename={"first": "last"}),
        ValueError,
        "first/bias and last/bias both become last/bias",
    ),
    "function": (
        lambda: lo.transfer(SOURCE, SOURCE, rename=lambda path: 3),
        TypeError,
        "rename must return a path.*returned 3",
    ),
    "flattened alone": (
        lambda: lo.transfer(SOURCE, SOURCE, flattened={"last": (2, 2, 2)}),
        ValueError,
        "flattened goes with layout='torch'",
    ),
    "flattened's kind": (
        lambda: lo.transfer(SOURCE, SOURCE, layout="torch", flattened=[3]),
        TypeError,
        "flattened must be a dictionary",
    ),
    "flattened's size": (
        lambda: lo.transfer(HEAD, SOURCE, layout="torch", flattened={"last": (3, 2, 2)}),
        ValueError,
        r"of 8 numbers; got \(3, 2, 2\), 12 numbers",
    ),
    "flattened nowhere": (
        lambda: lo.transfer(HEAD, SOURCE, layout="torch", flattened={"lst": (2, 2, 2)}),
        ValueError,
        "'lst' is not one",
    ),
    "transposed alone": (
        lambda: lo.transfer(SOURCE, SOURCE, transposed=["last"]),
        ValueError,
        "transposed goes with layout='torch'",
    ),
    "transposed's kind": (
        lambda: lo.transfer(HEAD, linen_variables(), layout="torch", transposed="up"),
        TypeError,
        "transposed must be a list of paths; got 'up'",
    ),
    "transposed of a module": (
        lambda: lo.transfer(HEAD, SOURCE, layout="torch", transposed=["up"]),
        ValueError,
        "transposed is for Linen's variables",
    ),
    "transposed nowhere": (
        lambda: lo.transfer(HEAD, ({"last": {"kernel": jnp.ones((8, 10))}}, {}), layout="torch", transposed=["up"]),
        ValueError,
        "transposed must hold layers of target that are taken; 'up' is not one",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()


FILES = {
    "garbage": (b"not a tensor at all", "weights.safetensors", "source must be a safetensors file; .* is not"),
    "empty": (b"", "weights.safetensors", "source must be a safetensors file"),
    "a pickle": (b"\x80\x04.", "weights.pt", "not a pickle, which could run any program"),
    "a pickle by another name": (b"\x80\x04.", "weights.safetensors", "source must be a safetensors file"),
}


@pytest.mark.parametrize("case", FILES)
def test_foreign_files(case, tmp_path):
    pytest.importorskip("safetensors")
    content, name, message = FILES[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        lo.transfer(tmp_path / name, SOURCE)


def test_a_truncated_file(tmp_path):
    path = safetensors_file(tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="source must be a safetensors file"):
        lo.transfer(path, SOURCE)


@pytest.mark.parametrize("inside", ["", "3/default"])
def test_a_directory_that_is_no_checkpoint(inside, tmp_path):
    (tmp_path / "folder" / inside).mkdir(parents=True)
    with pytest.raises(ValueError, match=r"source must be an Orbax checkpoint; .*folder is not"):
        lo.transfer(tmp_path / "folder", SOURCE)
