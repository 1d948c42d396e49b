"""The lanes of a rectangle of settings x pairs as one compiled program, split over the devices."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lectopt.engine.devices import devices_that_factorize
from lectopt.engine.lanes import FoldAndSeed, Outcome, Shared
from lectopt.engine.program_cache import Programs, programs_of
from lectopt.engine.splitting import DeviceRow
from lectopt.engine.tiling import Rectangle
from lectopt.engine.tracing import CompiledProgram, TracedProgram

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


class LaneGroup(NamedTuple):
    """The lanes that share a program: each of some settings, on each fold from each seed."""

    numbers: dict[str, np.ndarray]  # the settings, [settings] each
    pairs: FoldAndSeed  # int32[pairs] each
    starts: Any  # what the lanes start from, arrays [settings, pairs, ...]; None where they start afresh
    data: Any  # what all of them read, as `LaneProgram.place` returns it

    def take(self, rows: np.ndarray, columns: np.ndarray) -> "LaneGroup":
        """Returns the lanes of these settings on these pairs."""
        return LaneGroup(
            {name: column[rows] for name, column in self.numbers.items()},
            FoldAndSeed(self.pairs.fold[columns], self.pairs.seed[columns]),
            jax.tree.map(lambda leaf: leaf[np.ix_(rows, columns)], self.starts),
            self.data,
        )


class LaneProgram:
    """A lane, traced once; compiled for each shape of rectangle that is asked for."""

    def __init__(
        self,
        lane: Callable[..., Outcome],
        numbers: Mapping[str, Any],
        start: Any,
        shared: Shared,
        devices: Sequence[Any],
        trial: Callable[..., Any],
    ):
        """Traces lane(numbers, pair, start, shared) for these arguments, or ones with their shapes.

        What is compiled is kept for later searches, as long as there is the user's function `trial`.
        """
        self.lane = lane
        self.told_seconds = 0.0  # of compiling, for which a line has been printed
        began = time.perf_counter()
        arguments = (dict(numbers), FoldAndSeed(jnp.int32(0), jnp.int32(0)), start, shared)
        try:
            # The fingerprints of directories depend on this name.
            self._traced = TracedProgram(lane, *arguments, name="_lane")
        except Exception as error:
            if _asks_for_a_number(error):
                error.add_note(_HINT)
            raise
        self.outcome: Outcome = self._traced.returned
        self.trace_seconds = time.perf_counter() - began  # in Python: tracing, and lowering each rectangle
        self._own: list[Rectangle] = []  # what is compiled for this search, and for none before it
        self.devices = devices_that_factorize(devices) if self._traced.factorizes() else devices
        self._row = DeviceRow(self.devices, "lanes")
        self._closed_over = jax.device_put(self._traced.closed_over, self._row.sharding(None))
        self._trial = trial

    def place(self, shared: Shared) -> Any:
        """Places what all lanes read on the devices."""
        return self._closed_over, jax.device_put(shared, self._row.sharding(None))

    @functools.cached_property
    def text(self) -> str:
        """Returns the lowered program of one lane, equal between processes."""
        *others, shared = self._traced.arguments
        return self._traced.lower(*others, (_shapes(self._closed_over), shared)).as_text()

    def reads_start(self) -> bool:
        """Returns whether the outcome depends on what a lane starts from; True if there is nothing."""
        return not jax.tree.leaves(self._traced.arguments[2]) or self._traced.reads(2)

    def unread(self) -> list[str]:
        """Returns the names of the numbers in a setting that the outcome does not depend on."""
        names = sorted(self._traced.arguments[0])  # as JAX orders them
        return [name for name, is_read in zip(names, self._traced.leaves_read(0), strict=True) if not is_read]

    @property
    def compile_seconds(self) -> float:
        """How long XLA took for the programs that were not there before."""
        return sum(map(self._programs.seconds, self._own)) if self._own else 0.0

    def begin(self, shape: Rectangle, threads: Executor | None = None) -> None:
        """Begins to compile for a rectangle in one of the threads, unless that has been done."""
        began = time.perf_counter()
        lowered = None if shape in self._programs else self._lower(shape)
        self.trace_seconds += time.perf_counter() - began
        if lowered is not None:
            self._programs.begin(shape, lowered, threads)
            self._own.append(shape)

    def compile(self, shape: Rectangle) -> CompiledProgram:
        """Returns the program for a rectangle, one side of which is a multiple of the devices."""
        self.begin(shape)
        return self._programs.get(shape)

    def run(self, shape: Rectangle, group: LaneGroup) -> Outcome:
        """Returns the outcomes of a group that has this shape, np[settings, pairs] each."""
        lanes = (group.numbers, group.pairs, group.starts)
        placed = map(jax.device_put, lanes, map(self._row.sharding, self._axes(shape)))
        return jax.tree.map(np.asarray, self.compile(shape).call(*placed, group.data))

    @functools.cached_property
    def _programs(self) -> Programs:
        return programs_of(self._trial, lambda: self.text, jax.tree.structure(self._traced.arguments))

    def _axes(self, shape: Rectangle) -> tuple[int | None, int | None, int]:
        """Returns which axis of settings, pairs and lanes is split over the devices."""
        return (0, None, 0) if shape.rows % self._row.size == 0 else (None, 0, 1)

    def _lower(self, shape: Rectangle) -> jax.stages.Lowered:
        *lanes, shared = self._traced.arguments
        sizes: list[tuple[int, ...]] = [(shape.rows,), (shape.pairs,), tuple(shape)]
        stacked = [
            _shapes(tree, size, self._row.sharding(axis))
            for tree, size, axis in zip(lanes, sizes, self._axes(shape), strict=True)
        ]
        data = _shapes((self._closed_over, shared), (), self._row.sharding(None))
        return jax.jit(self._rectangle(shape)).lower(*stacked, data)

    def _rectangle(self, shape: Rectangle) -> Callable[..., Outcome]:
        # Pairs inside of settings, not lanes in one row: what depends on the fold alone (the shuffling, the batches,
        # their standardization) is then computed once for all settings.
        settings, pairs, lanes = self._axes(shape)
        inner = jax.vmap(self._traced, in_axes=(None, 0, 0, None))
        rows = shape.rows if settings is None else shape.rows // self._row.size
        both = jax.vmap(inner, in_axes=(0, None, 0, None), axis_size=rows)  # there may be no numbers at all
        return self._row.split(both, in_axes=(settings, pairs, lanes, None), out_axes=lanes)


def _shapes(tree: Any, lanes: tuple[int, ...] = (), sharding: Any = None) -> Any:
    """Returns the shapes of arrays, with axes for lanes in front."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct((*lanes, *a.shape), a.dtype, sharding=sharding), tree)


def _asks_for_a_number(error: Exception) -> bool:
    """Returns whether a traced value stood for a Python number: JAX's errors, and others that name the tracer."""
    if isinstance(error, _CONCRETE):
        return True
    return isinstance(error, (TypeError, ValueError, IndexError)) and "Tracer" in str(error)
