"""One compiled program: the lanes of a rectangle of settings x pairs side by side, split over the devices."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from lectopt.engine.lanes import FoldAndSeed, Outcome, Shared

_HINT = (
    "raised by trial while it was traced. Numbers in a setting are traced; one that decides a shape, a batch size or "
    "a Python branch must stay a Python number: lo.space.choice([...], static=True)"
)


_CONCRETE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)


class Rectangle(NamedTuple):
    """So many settings times so many pairs at once."""

    rows: int
    pairs: int

    @property
    def lanes(self) -> int:
        """How many trainings that is."""
        return self.rows * self.pairs


class Compiled(NamedTuple):
    """A program for one rectangle."""

    shape: Rectangle
    call: Callable[..., Outcome]
    memory: int  # bytes, on all devices of this process together
    seconds: float  # that compiling took


def memory_of(call: Any) -> int:
    """The bytes that a compiled program takes on each device, beside its arguments."""
    analysis = call.memory_analysis()
    return 0 if analysis is None else analysis.temp_size_in_bytes + analysis.output_size_in_bytes


class Program:
    """A lane, traced once; compiled for each shape of rectangle that is asked for."""

    def __init__(
        self, lane: Callable[..., Outcome], numbers: Mapping[str, Any], start: Any, shared: Shared, devices: Sequence
    ):
        """Traces lane(numbers, pair, start, shared) for these arguments, or ones with their shapes."""
        arguments = (dict(numbers), FoldAndSeed(jnp.int32(0), jnp.int32(0)), start, shared)
        try:
            closed, shape = jax.make_jaxpr(lane, return_shape=True)(*arguments)
        except Exception as error:
            if _asks_for_a_number(error):
                error.add_note(_HINT)
            raise
        self.outcome: Outcome = shape
        self._arguments = jax.eval_shape(lambda *a: a, *arguments)
        self._jaxpr = closed.jaxpr
        self._mesh = jax.make_mesh((len(devices),), ("lanes",), (AxisType.Auto,), devices=devices)
        # Data that the trial closes over are arguments of the program: as constants they would be compiled into it.
        self._consts = jax.device_put(closed.consts, NamedSharding(self._mesh, P()))
        self.compiled: dict[Rectangle, Compiled] = {}
        self.compile_seconds = 0.0
        self._text: str | None = None

    def place(self, shared: Shared) -> Any:
        """What all lanes read, on the devices."""
        return self._consts, jax.device_put(shared, NamedSharding(self._mesh, P()))

    def text(self) -> str:
        """The lowered program of one lane, equal between processes."""
        if self._text is None:
            consts = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), self._consts)
            lowered = jax.jit(self._lane).lower(*self._arguments[:-1], (consts, self._arguments[-1]))
            self._text = lowered.as_text()
        return self._text

    def reads_start(self) -> bool:
        """Whether the outcome depends on what a lane starts from; True where there is nothing to start from."""
        numbers, pair, start, _ = (len(jax.tree.leaves(tree)) for tree in self._arguments)
        if not start:
            return True
        read = set(map(id, self._jaxpr.outvars))
        for equation in reversed(self._jaxpr.eqns):
            if not read.isdisjoint(map(id, equation.outvars)):
                read.update(map(id, equation.invars))
        return not read.isdisjoint(map(id, self._jaxpr.invars[numbers + pair :][:start]))

    def compile(self, shape: Rectangle) -> Compiled:
        """The program for a rectangle, one side of which is a multiple of the devices."""
        if shape not in self.compiled:
            began = time.perf_counter()
            numbers, pair, start, shared = self._arguments
            sizes: list[tuple[int, ...]] = [(shape.rows,), (shape.pairs,), tuple(shape)]
            looks = [
                jax.tree.map(lambda a, s=size, p=place: jax.ShapeDtypeStruct((*s, *a.shape), a.dtype, sharding=p), tree)  # type: ignore[misc]
                for tree, size, place in zip((numbers, pair, start), sizes, self._places(shape), strict=True)
            ]
            everywhere = NamedSharding(self._mesh, P())
            data = jax.tree.map(
                lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=everywhere), (self._consts, shared)
            )
            call = jax.jit(self._chunk(shape)).lower(*looks, data).compile()
            seconds = time.perf_counter() - began
            self.compile_seconds += seconds
            self.compiled[shape] = Compiled(shape, call, memory_of(call) * self._mesh.size, seconds)
        return self.compiled[shape]

    def run(self, compiled: Compiled, numbers: Any, pairs: FoldAndSeed, start: Any, data: Any) -> Outcome:
        """The outcomes, np[rows, pairs] each; `data` as `place` gives it."""
        arguments = map(jax.device_put, (numbers, pairs, start), self._places(compiled.shape))
        return jax.tree.map(np.asarray, compiled.call(*arguments, data))

    def _splits_rows(self, shape: Rectangle) -> bool:
        return shape.rows % self._mesh.size == 0

    def _specs(self, shape: Rectangle) -> tuple[P, P, P]:
        """How settings, pairs and lanes are split over the devices."""
        if self._splits_rows(shape):
            return P("lanes"), P(), P("lanes")
        return P(), P("lanes"), P(None, "lanes")

    def _places(self, shape: Rectangle) -> list[NamedSharding]:
        return [NamedSharding(self._mesh, spec) for spec in self._specs(shape)]

    def _chunk(self, shape: Rectangle) -> Callable[..., Outcome]:
        # Pairs inside of settings, not lanes in one row: what depends on the fold alone (the shuffling, the batches,
        # their standardisation) is then computed once for all settings.
        inner = jax.vmap(self._lane, in_axes=(None, 0, 0, None))
        rows = shape.rows // self._mesh.size if self._splits_rows(shape) else shape.rows
        both = jax.vmap(inner, in_axes=(0, None, 0, None), axis_size=rows)  # there may be no numbers at all
        *ins, lanes = self._specs(shape)
        return jax.shard_map(both, mesh=self._mesh, in_specs=(*ins, lanes, P()), out_specs=lanes, check_vma=False)

    def _lane(self, numbers: Any, pair: FoldAndSeed, start: Any, shared: Any) -> Outcome:
        consts, arguments = shared
        leaves = jax.tree.leaves((numbers, pair, start, arguments))
        outputs = jax.core.eval_jaxpr(self._jaxpr, consts, *leaves)
        return jax.tree.unflatten(jax.tree.structure(self.outcome), outputs)


def _asks_for_a_number(error: Exception) -> bool:
    """Whether a traced value stood where a Python number was wanted: JAX's errors, and others that name the tracer."""
    if isinstance(error, _CONCRETE):
        return True
    return isinstance(error, (TypeError, ValueError, IndexError)) and "Tracer" in str(error)
