"""Ctrl-C, pressed for real: no training is lost, and no process crashes at its exit."""

import signal
import subprocess
import sys
import textwrap

import pytest

from lectopt._internal import interrupts

TRAINING = """
import os, signal, sys, warnings
import jax, numpy as np
from flax import nnx
import lectopt as lo
from lectopt.training import chunks
chunks.next_size = lambda *_, **__: 7
presses = []
def augment(key, batch):  # whatever runs within a step: Ctrl-C while the program runs
    def press(k):
        presses.append(0)
        if len(presses) == 25:
            os.kill(os.getpid(), signal.SIGINT)
        return k
    return jax.pure_callback(press, jax.ShapeDtypeStruct((), np.float32), batch[0][0, 0]) * 0 + batch[0], batch[1]
task = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs))
options = dict(batch_size=15, epochs=9, key=0, augment=augment, progress=False)
fit = lambda **more: lo.fit(task, MOMENTUM, lo.datasets.iris(), valid=lo.datasets.iris(), **options, **more)
MOMENTUM = lo.nesterov(0.01)
"""


def run(code, *arguments):
    command = [sys.executable, "-c", TRAINING + textwrap.dedent(code), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.slow
def test_a_person_gets_what_is_done():
    """As training for so many steps would have given it."""
    done = run("""
        sys.ps1 = ">>> "
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            broken = fit()
        print([str(w.message) for w in said])
        steps = len(broken.history.steps["loss"])
        options["epochs"], options["steps"] = None, steps
        whole = fit()
        parts = [jax.tree.leaves((r.params, r.opt_state, r.metrics, r.history)) for r in (broken, whole)]
        for a, b in zip(*parts, strict=True):
            np.testing.assert_array_equal(a, b)
        print(steps, len(broken.history.epochs["valid_loss"]))
    """)
    assert done.returncode == 0, done.stderr
    said, lengths = done.stdout.splitlines()
    assert lengths == "29 3"  # chunks of 7 after the first step: the 25th is in the one that ends with the 29th
    assert "training was interrupted: the run is as it was after 29 of 90 steps" in said


@pytest.mark.slow
def test_a_script_ends_and_goes_on_from_its_directory(tmp_path):
    first = run("fit(directory=sys.argv[1])", str(tmp_path / "training"))
    assert "KeyboardInterrupt" in first.stderr
    assert first.returncode in (-signal.SIGINT, 130)  # no crash
    second = run(
        """
        presses += [0] * 99
        stops = []
        from lectopt.training import compiled_loop
        advance = compiled_loop.advance
        compiled_loop.advance = lambda setup, carry, stop, last: (
            stops.append(int(carry.step)), advance(setup, carry, stop, last))[1]
        fit(directory=sys.argv[1])
        print(stops[0])
        """,
        str(tmp_path / "training"),
    )
    assert second.returncode == 0, second.stderr
    assert second.stdout.strip() == "29"


def test_the_first_press_is_noted_and_the_second_raises():
    handler = signal.getsignal(signal.SIGINT)
    assert handler is signal.default_int_handler
    with interrupts.deferred_interrupts() as interrupt:
        signal.raise_signal(signal.SIGINT)
        assert interrupt.pressed
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is handler


def test_who_handles_it_otherwise_still_does():
    pressed = []
    before = signal.signal(signal.SIGINT, lambda *_: pressed.append(0))
    try:
        with interrupts.deferred_interrupts() as interrupt:
            signal.raise_signal(signal.SIGINT)
        assert pressed
        assert not interrupt.pressed
    finally:
        signal.signal(signal.SIGINT, before)
