"""Trainings that are watched while they go on: TensorBoard files, and curves in a notebook."""

import io
import re
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from rich.console import Console

import lectopt as lo
from lectopt._internal import progress
from lectopt.training import compiled_loop, running, tensorboard

pytest.importorskip("tensorboardX")
accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

X, Y = lo.datasets.iris()
TASK = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs))
MOMENTUM = lo.momentum(0.01)  # one object, so that the tests share a program


def fit(epochs=4, **options):
    optimizer = options.pop("optimizer", MOMENTUM)
    return lo.fit(TASK, optimizer, (X, Y), valid=(X, Y), batch_size=40, epochs=epochs, key=0, **options)


def read(path):
    events = accumulator.EventAccumulator(str(path), size_guidance={"scalars": 0, "histograms": 0})
    events.Reload()
    return events


def scalars(events, tag):
    return [e.step for e in events.Scalars(tag)], np.float32([e.value for e in events.Scalars(tag)])


def test_tensorboard_reads_back_all_that_was_recorded(tmp_path):
    run = fit(watch=3, log_dir=tmp_path / "logs")
    events = read(tmp_path / "logs")
    for name, record in run.history.steps.items():
        steps, values = scalars(events, f"steps/{name}")
        assert steps == list(range(1, 17))
        np.testing.assert_array_equal(values, record)
    for name, record in run.history.epochs.items():
        steps, values = scalars(events, f"epochs/{name}")
        assert steps == [4, 8, 12, 16]
        np.testing.assert_array_equal(values, record)
    ((layer, statistics),) = run.history.layers.items()
    for name, record in statistics.items():
        steps, values = scalars(events, f"{name}/{layer}")
        assert steps == [1, 4, 7, 10, 13, 16]
        np.testing.assert_array_equal(values, record)
    assert events.Tags()["histograms"] == ["weights/bias", "weights/kernel"]
    last = events.Histograms("weights/kernel")[-1]
    assert last.step == 16
    assert last.histogram_value.num == 12
    np.testing.assert_allclose(last.histogram_value.sum, np.sum(run.params["kernel"]), rtol=1e-6)


def test_weights_of_every_kind(tmp_path):
    """Complex ones by their parts; what cannot be counted is left out."""
    rng = np.random.default_rng(0)
    weights = {
        "complex": jnp.asarray(rng.normal(size=(5, 2)) + 3j * rng.normal(size=(5, 2)), jnp.complex64),
        "half": jnp.asarray(rng.normal(size=7), jnp.bfloat16),
        "counts": jnp.array([2**24, 2**24 + 1], jnp.int32),
        "flags": jnp.array([True, False, True]),
        "scalar": jnp.float32(2),
        "nothing": jnp.zeros((0, 3)),
        "nan": jnp.array([1, jnp.nan]),
        "inf": jnp.array([1, -jnp.inf]),
    }
    history = lo.History({"loss": np.ones(1)}, {}, {}, np.ones(()), -1, 1, 1, 0)
    run = types.SimpleNamespace(history=history, params=weights)
    writer = tensorboard.TensorBoard(tmp_path / "a [1] #")
    writer.open(0)
    writer.show(run)
    writer.close()
    events = read(tmp_path / "a [1] #")
    found = {
        tag.removeprefix("weights/"): events.Histograms(tag)[0].histogram_value for tag in events.Tags()["histograms"]
    }
    parts = {"complex/real": weights["complex"].real, "complex/imag": weights["complex"].imag}
    wanted = parts | {name: weights[name] for name in ("half", "counts", "flags", "scalar")}
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        assert found[name].sum == np.asarray(values, float).sum()
        assert found[name].num == values.size
        assert (found[name].min, found[name].max) == (np.asarray(values, float).min(), np.asarray(values, float).max())


def test_names_that_tensorboard_does_not_take(tmp_path):
    records = {"acc@1": np.array([1.0]), "acc 1": np.array([2.0]), "m" * 300: np.array([3.0]), "loss": np.ones(1)}
    history = lo.History(records, {}, {}, np.ones(()), -1, 1, 1, 0)
    writer = tensorboard.TensorBoard(tmp_path)
    writer.open(0)
    writer.show(types.SimpleNamespace(history=history, params={}))
    writer.close()
    events = read(tmp_path)
    for tag, value in {"acc_1": 1, "acc_1_": 2, "m" * 300: 3}.items():
        assert scalars(events, f"steps/{tag}") == ([1], [value])


def test_a_full_disk_ends_the_log_alone(tmp_path, monkeypatch):
    def full(self):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tensorboard.EventsWriter, "flush", full)
    with pytest.warns(
        UserWarning, match=r"log_dir cannot be written any more \(No space left on device\).* goes on"
    ) as told:
        run = fit(log_dir=tmp_path, progress=False)
    assert sum("log_dir" in str(warning.message) for warning in told) == 1
    assert len(run.history.steps["loss"]) == 16


def test_logs_in_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    tensorboard.TensorBoard("~/logs")
    assert (tmp_path / "logs").is_dir()
    for log_dir, error in ((3, TypeError), ("", ValueError)):
        with pytest.raises(error, match="log_dir must be a path"):
            fit(log_dir=log_dir)


def test_looks_in_between_write_nothing_twice_and_leave_nothing_out(tmp_path, monkeypatch, chunks_of):
    monkeypatch.setattr(progress.Throttle, "due", lambda self: True)  # a look after each chunk
    chunks_of(3)
    run = fit(log_dir=tmp_path)
    events = read(tmp_path)
    steps, values = scalars(events, "steps/loss")
    assert steps == list(range(1, 17))
    np.testing.assert_array_equal(values, run.history.steps["loss"])
    assert scalars(events, "epochs/valid_loss")[0] == [4, 8, 12, 16]
    assert len(events.Histograms("weights/bias")) == 6


@pytest.mark.slow
def test_many_steps_are_thinned(tmp_path, monkeypatch):
    monkeypatch.setattr(tensorboard, "_POINTS", 5)
    run = fit(epochs=10, log_dir=tmp_path, progress=False)
    steps, values = scalars(read(tmp_path), "steps/loss")
    assert steps[0] == 1
    assert steps[-1] == 40
    assert len(steps) <= 10  # of two looks at most
    np.testing.assert_array_equal(values, np.asarray(run.history.steps["loss"])[np.array(steps) - 1])


@pytest.mark.slow
def test_a_training_that_goes_on_writes_on(tmp_path, monkeypatch, chunks_of):
    monkeypatch.setattr(running, "_SAVE_SECONDS", -1)
    chunks_of(2)
    monkeypatch.setattr(progress.Throttle, "due", lambda self: True)
    advance, calls = compiled_loop.advance, []

    def killed(*arguments):
        calls.append(0)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return advance(*arguments)

    places = {"directory": tmp_path / "training", "log_dir": tmp_path / "logs"}
    with monkeypatch.context() as context:
        context.setattr(compiled_loop, "advance", killed)
        with pytest.raises(KeyboardInterrupt):
            fit(**places)
    run = fit(**places)
    steps, values = scalars(read(tmp_path / "logs"), "steps/loss")
    assert steps == list(range(1, 17))
    np.testing.assert_array_equal(values, run.history.steps["loss"])


def test_the_steps_of_a_second_training_count_on(tmp_path):
    first = fit(epochs=1, log_dir=tmp_path)
    run = fit(epochs=1, start=first, log_dir=tmp_path)
    steps, values = scalars(read(tmp_path), "steps/loss")
    assert steps == list(range(1, 9))
    np.testing.assert_array_equal(values, run.history.steps["loss"])
    assert scalars(read(tmp_path), "epochs/valid_loss")[0] == [4, 8]


@pytest.mark.filterwarnings("ignore:training diverged")
@pytest.mark.slow
def test_numbers_that_are_not_finite_are_left_out(tmp_path):
    run = fit(optimizer=lo.sgd(3e38), log_dir=tmp_path)
    steps, _ = scalars(read(tmp_path), "steps/loss")
    assert len(steps) == np.sum(~np.isnan(run.history.steps["loss"]))


@pytest.mark.parametrize("argument", ["log_dir", "directory"])
def test_a_directory_that_cannot_be_written_is_refused(tmp_path, argument):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=f"{argument} must be a directory that can be written; .*file/logs"):
        fit(**{argument: tmp_path / "file" / "logs"})


def test_curves_grow_in_their_place(screen, monkeypatch, chunks_of):
    monkeypatch.setattr(progress.Throttle, "due", lambda self: True)
    chunks_of(4)
    run = fit()
    assert len(screen.shown) == 1
    lengths = [
        len(next(line for line in figure.axes[0].get_lines() if line.get_label() == "each batch").get_xdata())
        for figure in [*screen.shown, *screen.updates]
    ]
    assert lengths == [1, 5, 9, 13, 16, 16]
    assert len(run.history.steps["loss"]) == 16


def test_a_short_training_shows_no_curves(screen, monkeypatch):
    monkeypatch.setattr(progress.time, "monotonic", lambda: 0.0)  # however long it compiles here
    fit()
    assert not screen.shown


def test_no_curves_without_progress(screen, monkeypatch):
    monkeypatch.setattr(progress.Throttle, "due", lambda self: True)
    fit(progress=False)
    assert not screen.shown


def test_no_curves_without_matplotlib(screen, monkeypatch):
    monkeypatch.setattr(progress.Throttle, "due", lambda self: True)
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib" or "lectopt.plots" in name]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert len(fit().history.steps["loss"]) == 16
    assert not screen.shown


def test_a_look_costs_a_tenth_of_the_time(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    throttle = progress.Throttle(after=3)
    assert not throttle.due()
    clock[0] = 3.5
    assert throttle.due()
    with throttle.timed():
        clock[0] = 5.5
    clock[0] = 25
    assert not throttle.due()
    clock[0] = 26
    assert throttle.due()
    with throttle.timed():
        pass
    assert not throttle.due()
    clock[0] = 27
    assert throttle.due()


@pytest.mark.slow
def test_the_training_is_the_same_whoever_looks_on(tmp_path, screen, monkeypatch):
    alone = fit(progress=False)
    monkeypatch.setattr(progress.Throttle, "due", lambda self: True)
    jax.tree.map(np.testing.assert_array_equal, fit(log_dir=tmp_path).params, alone.params)


@pytest.mark.slow
def test_in_a_real_notebook_one_picture_grows():
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    code = """
import lectopt as lo
from flax import nnx
task = lo.classification(lambda rngs: nnx.Linear(64, 10, rngs=rngs))
run = lo.fit(task, lo.sgd(1e-3), lo.datasets.digits(), batch_size=32, epochs=6000, key=0)
len(run.history.steps["loss"])
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    updates = []
    client = nbclient.NotebookClient(notebook, timeout=300)
    heard = client.process_message
    client.process_message = lambda message, *rest: (
        updates.append(message["msg_type"] == "update_display_data"),
        heard(message, *rest),
    )[1]
    client.execute()
    outputs = notebook.cells[0].outputs
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 1
    assert sum(updates) >= 1
    assert outputs[-1]["data"]["text/plain"] == str(6000 * lo.steps_per_epoch(1797, 32))
    assert not any(output.get("name") == "stderr" for output in outputs)


def test_whether_a_person_sits_there(monkeypatch):
    """At Python's prompt, in IPython and notebooks; not in a script that merely imports IPython."""
    shell = pytest.importorskip("IPython")
    assert not progress.interactive()
    with monkeypatch.context() as at_prompt:
        at_prompt.setattr(sys, "ps1", ">>> ", raising=False)
        assert progress.interactive()
    monkeypatch.setattr(shell, "get_ipython", object)
    assert progress.interactive()


@pytest.mark.slow
def test_after_python_i_a_person_sits_there():
    command = [sys.executable, "-i", "-c", "from lectopt._internal.progress import interactive; print(interactive())"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    assert done.stdout.strip() == "True"


def told(monkeypatch, capsys, updates, total=100):
    """The lines of a log after updates (seconds, done, words)."""
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with progress.ProgressBar("training", total) as bar:
        for clock[0], done, words in updates:
            bar.update(done, words)
    return capsys.readouterr().err.splitlines()


def test_a_log_has_a_line_for_each_epoch_one_a_second_at_most(monkeypatch, capsys):
    lines = told(
        monkeypatch,
        capsys,
        [
            (0.9, 1, "epoch 1/4"),  # too early for anything
            (1.0, 2, "epoch 1/4"),
            (1.5, 30, "epoch 2/4, loss 3"),  # too soon after the last
            (2.1, 40, "epoch 2/4, loss 3"),
            (9.0, 45, "epoch 2/4, loss 3"),  # nothing new
            (9.1, 50, "epoch 3/4, loss 2"),
            (39.0, 60, "epoch 3/4, loss 2"),
            (39.1, 61, "epoch 3/4, loss 2"),  # a sign of life
            (39.2, 100, "epoch 4/4, loss 1"),  # the end
        ],
    )
    assert lines == [
        "training 2/100: epoch 1/4",
        "training 40/100: epoch 2/4, loss 3",
        "training 50/100: epoch 3/4, loss 2",
        "training 61/100: epoch 3/4, loss 2",
        "training 100/100: epoch 4/4, loss 1",
    ]


def test_a_log_says_nothing_of_what_is_done_in_a_moment(monkeypatch, capsys):
    assert told(monkeypatch, capsys, [(0.5, 50, "epoch 1/2"), (3.0, 100, "epoch 2/2")]) == []


def test_a_training_without_progress_says_nothing(monkeypatch, capsys, chunks_of):
    clock = iter(range(10**6))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    chunks_of(4)
    fit(progress=False)
    assert capsys.readouterr().err == ""
    fit()
    err = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"training 1/16: epoch 1/4, loss [\d.]+", err[0])
    assert re.fullmatch(r"training 16/16: epoch 4/4, loss [\d.]+, valid_loss [\d.]+, [\d.]+ steps/s", err[-1])
    assert re.fullmatch(r".*epoch 3/4, loss [\d.]+, valid_loss [\d.]+, [\d.]+ steps/s, 0:00:\d\d left", err[2])
    assert len(err) == 5


@pytest.mark.parametrize("width", [80, 140])
def test_a_terminal_shows_all_and_shortens_the_bar(width):
    text = "epoch 4/4, loss 0.01056, valid_loss 0.07783, 55 steps/s"
    bar = progress.ProgressBar("training", 180)._bar
    bar.update(bar.task_ids[0], completed=167, text=text)
    screen = io.StringIO()
    Console(width=width, file=screen).print(bar.get_renderable())
    (line,) = screen.getvalue().splitlines()
    assert "167/180" in line
    assert text in line
