"""Running a training in chunks: between them it is shown, stored on disk, and looked at by hooks."""

import contextlib
import dataclasses
import functools
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._internal import interrupts, meshes
from lectopt._internal.files import checked_path
from lectopt._internal.out_of_memory import run_fitted
from lectopt._internal.progress import ProgressBar, interactive
from lectopt._internal.run_directories import fingerprint, make_directory
from lectopt.training import compiled_loop
from lectopt.training.carry import Carry, Plan
from lectopt.training.checkpoints import Store
from lectopt.training.chunks import Chunks
from lectopt.training.hooks import Hook
from lectopt.training.joining import join
from lectopt.training.keeping import Keep
from lectopt.training.observers import Observer, observers_of
from lectopt.training.outcome import as_run, trimmed
from lectopt.training.run import Run
from lectopt.training.setup import Setup
from lectopt.training.sources import Source
from lectopt.training.status import Status, status_of

_SAVE_SECONDS = 5.0  # what a crash may cost


def run_in_chunks(
    source: Source,
    progress: bool,
    hooks: Sequence[Hook],
    directory: str | Path | None,
    keep: Keep,
    log_dir: str | Path | None,
) -> Run:
    """Runs a training from the start, or from where `directory` keeps it, to its end."""
    plan = source.setup.plan
    show = progress and meshes.is_first_process(plan.mesh)
    if directory is not None:
        make_directory("directory", checked_path("directory", directory))  # before anything compiles
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(source))
        observers = [stack.enter_context(contextlib.closing(o)) for o in observers_of(plan, log_dir, show)]
        carry = compiled_loop.start(source.setup)
        store = None
        if directory is not None:
            store = stack.enter_context(contextlib.closing(_open_store(directory, source.setup, carry, keep)))
            carry = meshes.put_like(plan.mesh, carry, store.restore(carry, source.shaped))
            source.resume(store.facts)
        carry = _run(source, carry, store, observers, hooks, show=show)
    return _as_run(source.setup, carry)


def _run(
    source: Source,
    carry: Carry,
    store: Store | None,
    observers: Sequence[Observer],
    hooks: Sequence[Hook],
    *,
    show: bool,
) -> Carry:
    """Runs all chunks; between them it shows the progress, stores a copy on disk and calls the hooks."""
    mesh, saved, status = source.setup.plan.mesh, time.monotonic(), status_of(source.setup.plan, carry)
    chunks, stopped, failure = Chunks(compiled_loop.program(source.setup)), False, None
    for observer in observers:
        observer.open(status.step + (0 if source.setup.earlier is None else source.setup.earlier.length))
    with (
        ProgressBar("training", source.steps, show=show, unit="steps") as bar,
        interrupts.deferred_interrupts() as interrupt,
    ):
        while status.running and status.step < source.setup.plan.steps and not stopped:
            stop = min(status.step + meshes.broadcast_from_first(mesh, chunks.size), source.setup.plan.steps)
            stop = min([stop, *_stops(source.setup.plan, status.step, hooks, store)])
            try:
                carry, stop = source.supply(carry, status.step, stop, interrupt)
            except Exception as error:  # of a stream; all steps before are done
                failure = error
                break
            chunks = chunks.of(compiled_loop.program(source.setup))
            try:
                carry = _run_chunk(source, carry, status.step, stop, chunks)
            except MemoryError as error:  # of the device; likewise
                failure = error
                break
            last, status, bar.total = status, status_of(source.setup.plan, carry), source.steps
            bar.update(
                status.step, status.words(source.epochs, source.setup.plan.shown_metric, last), stage=str(status.epoch)
            )
            _show(source.setup, carry, [observer for observer in observers if observer.throttle.due()])
            _keep_best(source.setup, carry, store, status, last)
            if store is not None and meshes.broadcast_from_first(mesh, time.monotonic() - saved > _SAVE_SECONDS):
                _keep(source, carry, store)
                saved = time.monotonic()
            stopped = _stopped_by_hooks(source, carry, store, [hook for hook in hooks if hook.is_due(status, last)])
            stopped |= bool(meshes.broadcast_from_first(mesh, interrupt.pressed))
        _keep(source, carry, store)
        if failure is not None or meshes.broadcast_from_first(mesh, interrupt.pressed):
            carry = _end_early(source.setup, carry, failure or KeyboardInterrupt())
        elif stopped:
            carry = _end_epoch(source.setup, carry)
    _show(source.setup, carry, observers)
    return carry


def _run_chunk(source: Source, carry: Carry, step: int, stop: int, chunks: Chunks) -> Carry:
    """Runs the steps from `step` to `stop`, or as many as the device has memory for; measures how long they take.

    Raises:
        MemoryError: if it has none for a single one; the carry is as it was.
    """
    setup, last = source.setup, np.int32(source.setup.plan.steps)
    if not meshes.broadcast_from_first(setup.plan.mesh, chunks.is_measured):
        # Without a step, it compiles: the time of the first one is to be its own.
        carry = compiled_loop.advance(setup, carry, np.int32(step), last)
    began = time.perf_counter()

    def run(steps: int) -> Carry:
        advanced = compiled_loop.advance(setup, carry, np.int32(step + steps), last)
        source.prefetch()
        return jax.block_until_ready(advanced)

    def fewer(steps: int, error: Exception) -> int:
        if meshes.spans_processes(setup.plan.mesh) or any(leaf.is_deleted() for leaf in jax.tree.leaves(carry)):
            raise error  # the others do not know of it, or what it was given is gone
        if steps == 1:
            raise MemoryError(
                f"the device must have memory for a step, and ran out of it after {step} of {setup.plan.steps}: take "
                f"a smaller batch_size, or a smaller model. {error}"
            ) from error
        warnings.warn(
            f"the device ran out of memory in a chunk of {steps} steps; training goes on with {steps // 2} at once. "
            "Nothing that was done is lost",
            stacklevel=7,
        )
        return chunks.halved(steps)

    done, advanced = run_fitted(stop - step, run, fewer)
    chunks.update(done, time.perf_counter() - began)
    return advanced


def _stops(plan: Plan, step: int, hooks: Sequence[Hook], store: Store | None) -> Iterator[int]:
    """Returns the steps after this one at which somebody wants to look."""
    best = store is not None and store.keep.best > 0
    for every in [hook.every for hook in hooks] + [plan.validate_every] * best:
        distance = every or plan.steps_per_epoch
        yield (step // distance + 1) * distance


def _keep_best(setup: Setup, carry: Carry, store: Store | None, status: Status, last: Status) -> None:
    """Stores the run of a validation, if there was one since `last`, where it is among the best."""
    plan = setup.plan
    if store is None or not store.keep.best or len(status.validations) == len(last.validations):
        return
    sign = -1 if plan.judge is not None and plan.judge.maximizes else 1
    every = plan.validate_every or plan.steps_per_epoch
    losses = {min(i * every, plan.steps): sign * float(x) for i, x in enumerate(status.validations, 1)}
    if carry.best is not None:  # the run is to be that of this validation
        records = carry.epoch_records if carry.validations is None else carry.validations.values
        metrics = {name: record[len(status.validations) - 1] for name, record in records.items()}
        carry = carry._replace(best=None, metrics={"train_loss": jnp.float32(status.loss)} | metrics)
    store.save_best(status.step, losses, _run_so_far(setup, carry).to_arrays())


def _stopped_by_hooks(source: Source, carry: Carry, store: Store | None, due: Sequence[Hook]) -> bool:
    """Calls the hooks that are due, and returns whether one of them ends the training; keeps it if one raises."""
    mesh, answers = source.setup.plan.mesh, list[bool]()
    if not due:
        return False

    def call() -> None:
        run = _kept(_run_so_far(source.setup, carry))
        answers.extend([hook.stops(run) for hook in due])

    try:
        meshes.call_in_first_process(call, several=meshes.spans_processes(mesh))
    except BaseException:
        _keep(source, carry, store)
        raise
    return bool(meshes.broadcast_from_first(mesh, any(answers)))


def _keep(source: Source, carry: Carry, store: Store | None) -> None:
    """Stores a copy on disk, if there is a directory for it."""
    if store is not None:
        run = _run_so_far(source.setup, carry).to_arrays()
        store.save(carry, run._replace(facts=run.facts | source.place()))


def _end_early(setup: Setup, carry: Carry, cause: BaseException) -> Carry:
    """Returns, after Ctrl-C or a failure, the carry at the end of an epoch that ends here, for a person.

    Raises:
        The cause, in a script, which is to end.
    """
    if not interactive():
        raise cause
    carry = _end_epoch(setup, carry)
    what = "was interrupted" if isinstance(cause, KeyboardInterrupt) else f"ended early, by {cause!r}"
    warnings.warn(
        f"training {what}: the run is as it was after {int(carry.step)} of {setup.plan.steps} steps; "
        "start=run goes on from there",
        stacklevel=5,
    )
    return carry


def _end_epoch(setup: Setup, carry: Carry) -> Carry:
    """Returns the carry at the end of its epoch, which ends where it is."""
    if carry.running and carry.step % setup.plan.steps_per_epoch and carry.step < setup.plan.steps:
        carry = jax.block_until_ready(compiled_loop.end_early(setup, carry))
    return carry


def _show(setup: Setup, carry: Carry, observers: Sequence[Observer]) -> None:
    if not observers:
        return
    run = _run_so_far(setup, carry)
    for observer in observers:
        with observer.throttle.timed():
            observer.show(run)


def _open_store(directory: str | Path, setup: Setup, carry: Carry, keep: Keep) -> Store:
    text = compiled_loop.text(setup, carry)
    return Store(directory, fingerprint(text, (setup.numbers, setup.data, carry)), setup.plan.mesh, keep)


def _run_so_far(setup: Setup, carry: Carry) -> Run:
    """Returns the run so far, whose arrays are all of this process."""
    mesh, data = setup.plan.mesh, setup.data
    own = setup._replace(data=data._replace(train=meshes.local_copy(mesh, data.train)))
    return _as_run(own, meshes.local_copy(mesh, carry))


def _kept(run: Run) -> Run:
    """Returns the run with copies of what it shares with the carry, which is donated to the next chunk."""
    shared = ("params", "model_state", "opt_state", "lookahead_params")
    copies = jax.tree.map(jnp.copy, {name: getattr(run, name) for name in shared})
    baseline = jax.tree.map(jnp.copy, run.history.baseline_loss)
    return dataclasses.replace(run, **copies, history=dataclasses.replace(run.history, baseline_loss=baseline))


def _as_run(setup: Setup, carry: Carry) -> Run:
    """Returns the run with a history as long as it lasted, and scalars as Python numbers."""
    run = as_run(setup, carry, functools.partial(compiled_loop.eval_params, setup))
    epochs = carry.epoch if carry.running else -(-carry.step // setup.plan.steps_per_epoch)
    validations = 0 if carry.validations is None else carry.validations.rows
    return join(setup.earlier, trimmed(run, int(carry.step), int(epochs), validations))
