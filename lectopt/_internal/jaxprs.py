"""What a traced program consists of."""

from typing import Any

import jax


def primitives(program: Any) -> set[str]:
    """The names of all primitives in a jaxpr, nested ones included."""
    names = set()
    for equation in program.eqns:
        names.add(equation.primitive.name)
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            if hasattr(inner := getattr(inner, "jaxpr", inner), "eqns"):
                names |= primitives(inner)
    return names
