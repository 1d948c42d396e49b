"""Mistakes to plant: each is one node of a module's syntax tree, replaced by one that is as easily written."""

import ast
import copy
import dataclasses
from collections.abc import Iterator
from types import CodeType

OPERATORS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
BRANCHING = {"where", "cond", "select"}  # their second and third arguments are branches
COMMUTING = {"maximum", "minimum", "max", "min", "isclose", "array_equal", "add", "multiply"}
CONVERSIONS = {"float", "int", "list", "tuple", "asarray"}  # they are mostly about the type of what is returned
SKIPPED = (ast.Raise, ast.Import, ast.ImportFrom, ast.JoinedStr, ast.Assert)  # messages, and what fails aloud
FIXED = (ast.Starred, ast.Constant)


@dataclasses.dataclass(frozen=True)
class Mutation:
    """One mistake: the node of this number, in the order in which `nodes` meets them, becomes another."""

    module: str  # the path of the file below lectopt/
    line: int
    text: str  # of the line
    change: str  # "<before> -> <after>"
    place: tuple[int, int]  # the number of the node, and of its variant

    @property
    def key(self) -> tuple[str, str, str]:
        """Where the mistake is, also when other lines of the file move."""
        return self.module, self.text, self.change

    def __str__(self) -> str:
        return f"{self.module}:{self.line}: {self.change}    in    {self.text}"


def mutations(module: str, source: str) -> list[Mutation]:
    """Returns all mistakes that can be planted in a module."""
    lines, found = source.splitlines(), []
    for number, (node, _, _) in enumerate(nodes(ast.parse(source))):
        for which, variant in enumerate(variants(node)):
            change = f"{ast.unparse(node)} -> {ast.unparse(variant)}".replace("\n", " ")
            found.append(Mutation(module, node.lineno, lines[node.lineno - 1].strip(), change, (number, which)))
    return found


def compiled(mutation: Mutation, source: str, path: str) -> CodeType:
    """Returns the code of a module with a mistake."""
    tree = ast.parse(source)
    number, which = mutation.place
    node, parent, (field, index) = list(nodes(tree))[number]
    variant = ast.copy_location(list(variants(node))[which], node)
    if index is None:
        setattr(parent, field, variant)
    else:
        getattr(parent, field)[index] = variant
    return compile(ast.fix_missing_locations(tree), path, "exec")


def nodes(parent: ast.AST) -> Iterator[tuple[ast.AST, ast.AST, tuple[str, int | None]]]:
    """Yields expressions and statements that do something, each with its parent and where it hangs there."""
    for field, value in ast.iter_fields(parent):
        if field in ("annotation", "returns", "decorator_list", "bases", "type_params"):
            continue
        for index, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(node, SKIPPED) or not isinstance(node, ast.AST) or _says_only(node):
                continue
            if isinstance(node, (ast.expr, ast.stmt)):
                yield node, parent, (field, index)
            yield from nodes(node)


def _says_only(node: ast.AST) -> bool:
    """Tells whether this is documentation or of interest to type checkers alone."""
    if isinstance(node, ast.If):
        return ast.unparse(node.test) == "TYPE_CHECKING"
    if isinstance(node, ast.Assign):
        return ast.unparse(node.targets[0]).startswith("__")
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def variants(node: ast.AST) -> Iterator[ast.AST]:
    """Yields what may stand in a node's place by mistake; the node itself is left as it is."""
    match node:
        case ast.BinOp(op=op) | ast.BoolOp(op=op) if type(op) in OPERATORS:
            yield _with(node, op=OPERATORS[type(op)]())
        case ast.Compare(ops=[op]):
            yield _with(node, ops=[OPERATORS[type(op)]()])
        case ast.Compare(ops=[first, *others]):
            yield _with(node, ops=[OPERATORS[type(first)](), *others])
        case ast.UnaryOp(operand=operand) if not isinstance(operand, ast.Constant):
            yield copy.deepcopy(operand)
        case ast.Constant(value=bool() | int() | float() as value):
            yield _with(node, value=_other(value))
        case ast.IfExp(test=test, body=body, orelse=orelse):
            yield _with(node, body=orelse, orelse=body)
        case ast.If(test=test) | ast.While(test=test):
            yield _with(node, test=ast.UnaryOp(ast.Not(), copy.deepcopy(test)))
        case ast.Expr(value=ast.Call()):
            yield ast.Pass()
        case ast.Call():
            yield from _calls(node)


def _calls(node: ast.Call) -> Iterator[ast.AST]:
    name, args = ast.unparse(node.func).rpartition(".")[2], node.args
    if name in BRANCHING and len(args) >= 3:
        yield _with(node, args=[args[0], args[2], args[1], *args[3:]])
    elif len(args) >= 2 and name not in COMMUTING and not any(isinstance(a, FIXED) for a in args[:2]):
        yield _with(node, args=[args[1], args[0], *args[2:]])
    if len(args) == 1 and name not in CONVERSIONS and not isinstance(args[0], (ast.Starred, ast.GeneratorExp)):
        yield copy.deepcopy(args[0])
    if not args and not node.keywords and isinstance(node.func, ast.Attribute):
        yield copy.deepcopy(node.func.value)
    for i, keyword in enumerate(node.keywords):
        if keyword.arg is not None:
            yield _with(node, keywords=[k for j, k in enumerate(node.keywords) if j != i])


def _other(value: bool | int | float) -> bool | int | float:
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else value * 1.5 or 1.0


def _with(node: ast.AST, **fields: object) -> ast.AST:
    changed = copy.deepcopy(node)
    for name, value in fields.items():
        setattr(changed, name, copy.deepcopy(value))
    return changed
