"""The history of a training that went on from another one: that one's, then its own."""

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._internal.checks import is_traced
from lectopt._internal.types import Array
from lectopt.training.history import History
from lectopt.training.run import Run


def history_to_join(history: History | None) -> History | None:
    """Returns what of a history led to the weights of its run, to be gone on from; None if nothing is recorded.

    Nothing after the last finite epoch of a training that diverged, nor what one that ran out of patience left open.
    """
    if history is None or not history.steps or not history.parts:
        return None
    if is_traced(history):
        return history
    done = np.isfinite(np.asarray(history.steps["loss"]))
    steps = int(np.max(np.flatnonzero(done), initial=-1)) + 1
    if int(history.diverged_at) >= 0:
        ends = history.epoch_ends
        steps = int(np.max(ends[ends <= int(history.diverged_at)], initial=0))
    return _first_steps(history, steps) if steps else None


def join(earlier: History | None, run: Run) -> Run:
    """Returns the run with the history of both trainings; its steps are counted on."""
    if earlier is None:
        return run
    begin, later = earlier.length, run.history
    before, after = (_lengths(history) for history in (earlier, later))
    diverged_at = later.diverged_at
    if isinstance(diverged_at, int):
        diverged_at = diverged_at if diverged_at < 0 else diverged_at + begin
    else:
        diverged_at = jnp.where(diverged_at < 0, diverged_at, diverged_at + begin)
    layers = OrderedDict[str, dict[str, Array]]()
    for layer in [*later.layers, *(name for name in earlier.layers if name not in later.layers)]:
        a, b = (history.layers.get(layer, {}) for history in (earlier, later))
        layers[layer] = _joined(a, b, before["looks"], after["looks"])
    history = dataclasses.replace(
        later,
        steps=_joined(earlier.steps, later.steps, before["steps"], after["steps"]),
        epochs=_joined(earlier.epochs, later.epochs, before["epochs"], after["epochs"]),
        layers=layers,
        validations=_joined(earlier.validations, later.validations, before["validations"], after["validations"]),
        diverged_at=diverged_at,
        earlier=(*earlier.parts, *later.parts[:-1]),
    )
    return dataclasses.replace(run, history=history, diverged_at=diverged_at)


def _lengths(history: History) -> dict[str, int]:
    """Returns how many rows there are of each kind of records."""
    return {
        kind: sum(getattr(part, kind) for part in history.parts) for kind in ("steps", "epochs", "looks", "validations")
    }


def _joined(a: Mapping[str, Array], b: Mapping[str, Array], before: int, after: int) -> dict[str, Array]:
    """Returns records one behind the other; NaN where one has none of that name."""
    traced = is_traced((a, b))
    xp: Any = jnp if traced else np

    def part(records: Mapping[str, Array], name: str, count: int) -> Any:
        return records[name] if name in records else xp.full(count, xp.nan, xp.float32)

    rows = {
        name: xp.concatenate([part(a, name, before), part(b, name, after)]) for name in [*b, *(a.keys() - b.keys())]
    }
    # On the host, as in `outcome`: `jax_debug_nans` would take the NaN of what was not recorded for a fault.
    return rows if traced else jax.device_put({name: row.astype(np.float32) for name, row in rows.items()})


def _first_steps(history: History, steps: int) -> History:
    """Returns the history of so many steps, whole parts and then the beginning of one."""
    if steps == history.length:
        return history
    parts, left = [], steps
    for part in history.parts:
        if left:
            parts.append(part.first(min(left, part.steps)))
            left -= parts[-1].steps
    *earlier, last = parts
    cut = dataclasses.replace(
        history,
        earlier=tuple(earlier),
        steps_per_epoch=last.steps_per_epoch,
        watched_every=last.watched_every,
        validated_every=last.validated_every,
    )
    rows = {kind: sum(getattr(part, kind) for part in parts) for kind in ("steps", "epochs", "looks", "validations")}
    return dataclasses.replace(
        cut,
        steps=_first(history.steps, rows["steps"]),
        epochs=_first(history.epochs, rows["epochs"]),
        layers=OrderedDict((name, _first(layer, rows["looks"])) for name, layer in history.layers.items()),
        validations=_first(history.validations, rows["validations"]),
        diverged_at=-1,
    )


def _first(records: Mapping[str, Array], count: int) -> dict[str, Array]:
    return {name: jax.device_put(np.asarray(record)[:count]) for name, record in records.items()}
