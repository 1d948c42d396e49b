"""A function traced once, with what it closes over as an argument; and its compiled programs, with what they cost."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class CompiledProgram(NamedTuple):
    """A compiled program, and what it costs."""

    call: Callable[..., Any]
    memory: int  # bytes on each device, beside its arguments
    seconds: float  # that compiling took


def compiled(lowered: jax.stages.Lowered) -> CompiledProgram:
    """Compiles a lowered program. XLA does so outside of Python's lock, in whatever thread this is."""
    began = time.perf_counter()
    call = lowered.compile()
    seconds = time.perf_counter() - began
    analysis = call.memory_analysis()
    memory = 0 if analysis is None else analysis.temp_size_in_bytes + analysis.output_size_in_bytes
    return CompiledProgram(call, memory, seconds)


_FACTORIZATIONS = frozenset(
    [
        "cholesky",
        "eig",
        "eigh",
        "geqp3",
        "geqrf",
        "hessenberg",
        "householder_product",
        "lu",
        "qr",
        "schur",
        "svd",
        "tridiagonal",
    ]
)
"""Primitives of JAX that call LAPACK on a CPU."""


def _factorizes(jaxpr: Any) -> bool:
    inner = (leaf for e in jaxpr.eqns for leaf in jax.tree.leaves(list(e.params.values()), is_leaf=_is_jaxpr))
    return any(e.primitive.name in _FACTORIZATIONS for e in jaxpr.eqns) or any(
        _factorizes(getattr(part, "jaxpr", part)) for part in inner if _is_jaxpr(part)
    )


def _is_jaxpr(value: Any) -> bool:
    return hasattr(getattr(value, "jaxpr", value), "eqns")


class TracedProgram:
    """A function of arrays, traced once.

    Arrays that the function closes over are arguments of the program: as constants they would be compiled into it. They
    go in with the last argument, as the pair `(closed_over, last)`.
    """

    def __init__(self, function: Callable[..., Any], *arguments: Any, name: str):
        """Traces `function(*arguments)`; the lowered program bears the name."""
        closed, self.returned = jax.make_jaxpr(function, return_shape=True)(*arguments)
        self.closed_over = closed.consts
        self.arguments = jax.eval_shape(lambda *a: a, *arguments)
        self._jaxpr = closed.jaxpr
        self._name = name

    def __call__(self, *arguments: Any) -> Any:
        """Returns what the function returns; the last argument is `(closed_over, last)`."""
        *others, (closed_over, last) = arguments
        leaves = jax.core.eval_jaxpr(self._jaxpr, closed_over, *jax.tree.leaves((*others, last)))
        return jax.tree.unflatten(jax.tree.structure(self.returned), leaves)

    def lower(self, *arguments: Any) -> jax.stages.Lowered:
        """Returns the lowered program for such arguments. Its text is equal between processes."""

        def named(*arguments: Any) -> Any:
            return self(*arguments)

        named.__name__ = self._name
        return jax.jit(named).lower(*arguments)

    def reads(self, number: int) -> bool:
        """Returns whether the outputs depend on an argument, by its number."""
        return any(self.leaves_read(number))

    def factorizes(self) -> bool:
        """Returns whether it factorizes matrices anywhere."""
        return _factorizes(self._jaxpr)

    def leaves_read(self, number: int) -> list[bool]:
        """Returns whether the outputs depend on each leaf of an argument, by its number."""
        sizes = [len(jax.tree.leaves(tree)) for tree in self.arguments]
        read = set(map(id, self._jaxpr.outvars))
        for equation in reversed(self._jaxpr.eqns):
            if not read.isdisjoint(map(id, equation.outvars)):
                read.update(map(id, equation.invars))
        first = sum(sizes[:number])
        return [id(leaf) in read for leaf in self._jaxpr.invars[first : first + sizes[number]]]
