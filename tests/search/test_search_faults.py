"""Searches that are killed and go on, that are not what a directory holds, and that several processes share."""

import functools
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from flax import nnx

import lectopt as lo

pytestmark = pytest.mark.filterwarnings("ignore:the best learning_rate")

SEARCH = textwrap.dedent("""
    import sys, numpy as np, jax, warnings
    warnings.simplefilter("ignore")
    import lectopt as lo
    from flax import nnx

    task = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs), standardize=True)

    def trial(setting, train, valid, key, epochs=150, start=None):
        optimizer = lo.momentum(setting["learning_rate"])
        return lo.train(task, optimizer, train, valid=valid, batch_size=10, epochs=epochs, key=key, start=start)

    def search(directory=None, halving=None, chunk=2):
        settings = lo.sample({"learning_rate": lo.space.log_uniform(1e-3, 10.0)}, 48, key=0)
        folds = lo.stratified_k_fold(lo.datasets.iris(), 3, key=0)
        return lo.cross_validate(trial, settings, folds, minimize="valid_loss", key=0, seeds=2, chunk=chunk,
                                 progress=False, directory=directory, halving=halving)
""")
HALVING = "lo.Halving(16, factor=2, least=4)"


def child(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", SEARCH + textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process):
    output, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return output


def equal(file, other):
    with np.load(file) as a, np.load(other) as b:
        assert a.files == b.files
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name])


SAVE = """
r = search(sys.argv[1], {halving})
np.savez(sys.argv[2], **r.metrics, d=r.diverged_at, rungs=r.rungs)
"""


KILLS = int(os.environ.get("LECTOPT_TEST_KILLS", "2"))


@pytest.mark.slow
@pytest.mark.parametrize("halving", [pytest.param("None", marks=pytest.mark.exhaustive), HALVING])
def test_killed_at_any_moment_a_search_goes_on(tmp_path, halving):
    """From when it has its directory: before, there is nothing to be lost. LECTOPT_TEST_KILLS=20 tries 20 times."""
    code, draw, kills, searches = SAVE.format(halving=halving), random.Random(0), 0, 0
    whole = child(code, tmp_path / "whole", tmp_path / "whole.npz")
    wait_for_lanes(whole, tmp_path / "whole")
    began = time.monotonic()
    finish(whole)
    usual = time.monotonic() - began
    while kills < KILLS:
        searches += 1
        directory, file = tmp_path / f"search{searches}", tmp_path / f"{searches}.npz"
        while not file.exists():
            process = child(code, directory, file)
            wait_for_lanes(process, directory)
            try:
                process.wait(timeout=draw.uniform(0, usual / 2) if kills < KILLS else 300)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                kills += 1
            else:
                assert process.returncode == 0, process.stderr.read()
        equal(file, tmp_path / "whole.npz")
    assert kills == KILLS


def wait_for_lanes(process, directory):
    """Until the process has written something new, or has ended."""
    there = set(directory.rglob("*"))
    while process.poll() is None and set(directory.rglob("*")) <= there:
        time.sleep(0.02)


@pytest.mark.slow
def test_what_is_finished_is_not_computed_again(tmp_path, monkeypatch):
    from lectopt.engine import running  # noqa: PLC0415

    ran, run = [], running.run_rectangle

    def counted(*arguments):
        ran.append(len(arguments[-2]))
        if len(ran) == 3 and stops:
            raise KeyboardInterrupt
        return run(*arguments)

    monkeypatch.setattr(running, "run_rectangle", counted)
    stops = True
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "a")
    stops = False
    done = lanes_of(tmp_path / "a")
    assert len(done) == 2
    done[1].rename(done[1].with_name("lanes-9.npz.77.part"))  # killed while it was being written
    ran.clear()
    found = search(tmp_path / "a")
    assert sum(ran) == 6 - 2
    np.testing.assert_array_equal(found.metrics["valid_loss"], search(None).metrics["valid_loss"])
    ran.clear()
    search(tmp_path / "a")
    assert not ran


@pytest.fixture
def person(monkeypatch):
    """Somebody sits in front of it."""
    monkeypatch.setattr("lectopt.search.partial_results.interactive", lambda: True)


@pytest.fixture
def ctrl_c(monkeypatch):
    """A function that says after how many rectangles Ctrl-C is pressed."""
    from lectopt.engine import running  # noqa: PLC0415

    run, left = running.run_rectangle, [10**9]

    def counted(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return run(*arguments)

    monkeypatch.setattr(running, "run_rectangle", counted)
    return lambda rectangles: left.__setitem__(0, rectangles)


def test_ctrl_c_gives_back_what_is_done(tmp_path, person, ctrl_c):
    whole = search(None)
    ctrl_c(2)
    with pytest.warns(UserWarning, match=r"interrupted: 4 of 6 settings were run.*to continue, call"):
        found = search(tmp_path)
    assert found.rungs.tolist() == [1, 1, 1, 1, 0, 0]
    np.testing.assert_array_equal(found.metrics["valid_loss"][:4], whole.metrics["valid_loss"][:4])
    assert np.isnan(found.metrics["valid_loss"][4:]).all()
    assert list(found.ranking()) == [*[i for i in whole.ranking() if i < 4], 4, 5]
    assert "2 not run" in repr(found)
    with pytest.raises(ValueError, match="interrupted before setting 5"):
        found.replay(5)
    ctrl_c(1)  # what is left is a single rectangle
    again = search(tmp_path)
    np.testing.assert_array_equal(again.metrics["valid_loss"], whole.metrics["valid_loss"])
    assert again.rungs.tolist() == [1] * 6


def test_ctrl_c_tells_a_program_what_is_done(tmp_path, ctrl_c, right):
    ctrl_c(2)
    with pytest.raises(KeyboardInterrupt) as error:
        search(tmp_path)
    for found in (error.value.results, lo.Results.partial(tmp_path)):
        assert found.rungs[:4].tolist() == [1] * 4
        np.testing.assert_array_equal(found.metrics["valid_loss"][:4], right.metrics["valid_loss"][:4])
    assert error.value.results.rungs[4:].tolist() == [0, 0]


@pytest.mark.slow
def test_ctrl_c_on_a_later_rung_keeps_the_scores_of_the_one_before(person, ctrl_c):
    ctrl_c(4)
    with pytest.warns(UserWarning, match="interrupted: 6 of 6 settings were run"):
        found = search(None, halving=lo.Halving(4, factor=1.5, least=2))
    assert sorted(found.rungs.tolist()) == [1, 1, 1, 1, 2, 2]
    assert np.isfinite(found.mean()).all()
    assert set(found.ranking()[:2]) == set(np.flatnonzero(found.rungs == 2))


@pytest.mark.parametrize("rectangles", [0, 2])
def test_ctrl_c_is_raised_where_there_is_nothing_or_nobody(ctrl_c, rectangles, monkeypatch):
    monkeypatch.setattr("lectopt.search.partial_results.interactive", lambda: rectangles == 0)
    ctrl_c(rectangles)
    with pytest.raises(KeyboardInterrupt):
        search(None)


@pytest.mark.slow
def test_ctrl_c_in_a_selection(person, ctrl_c):
    options = {"minimize": "valid_loss", "key": 0, "chunk": 2, "progress": False}
    rates = {"learning_rate": [0.01, 0.03, 0.1, 0.3]}
    ctrl_c(1)
    with pytest.warns(UserWarning, match="interrupted: 2 of 4 settings were run"):
        chosen = lo.select(trial, rates, lo.datasets.iris(), folds=3, test=lo.datasets.iris(), **options)
    assert chosen.setting == chosen.results.best()
    assert chosen.run is chosen.test_metrics is None
    ctrl_c(1)
    with pytest.warns(UserWarning, match="interrupted: 2 of 4 settings were run"):
        nested = lo.nested_cross_validate(trial, rates, lo.datasets.iris(), outer=2, inner=2, **options)
    assert len(nested.settings) == 2
    assert "interrupted before the retraining" in repr(nested)


TASK = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs), standardize=True)


def trial(setting, train, valid, key, epochs=2, start=None):
    rate = setting["learning_rate"]
    return lo.train(TASK, lo.sgd(rate), train, valid=valid, batch_size=30, epochs=epochs, key=key, start=start)


def other_trial(setting, train, valid, key):
    rate = setting["learning_rate"]
    return lo.train(TASK, lo.adam(rate), train, valid=valid, batch_size=30, epochs=2, key=key)


@functools.cache
def split_of(folds, key):
    return lo.stratified_k_fold(lo.datasets.iris(), folds, key=key)


def search(directory, trial=trial, rates=(0.01, 0.03, 0.1, 0.3, 0.5, 1.0), folds=3, **options):
    parts = split_of(folds, options.pop("split", 0))
    options = {"minimize": "valid_loss", "key": 0, "chunk": 2, "progress": False} | options
    return lo.cross_validate(trial, {"learning_rate": list(rates)}, parts, directory=directory, **options)


@pytest.fixture(scope="module")
def right():
    return search(None)


@pytest.fixture(scope="module")
def of_the_module(tmp_path_factory):
    path = tmp_path_factory.mktemp("searched")
    search(path)
    return path


@pytest.fixture
def searched(of_the_module, tmp_path):
    """The directory of a search that has ended."""
    return pathlib.Path(shutil.copytree(of_the_module, tmp_path / "searched"))


def lanes_of(directory):
    return sorted(directory.glob("rung0-*/lanes-*.npz"))


def spoilt(path, **changes):
    """The file with other arrays; None leaves one out."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files} | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})


SPOIL = {
    "flipped": lambda path: path.write_bytes(flipped(path.read_bytes())),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-30]),
    "empty": lambda path: path.write_bytes(b""),
    "foreign": lambda path: np.savez(path, a=np.ones(3)),
    "other shape": lambda path: spoilt(path, leaf0001=np.ones((2, 2), np.float32)),
    "other dtype": lambda path: spoilt(path, leaf0001=np.ones((2, 3), np.float64)),
    "fewer arrays": lambda path: spoilt(path, leaf0001=None),
    "other rows": lambda path: spoilt(path, rows=np.array([5, 6])),
    "negative pairs": lambda path: spoilt(path, pairs=np.array([-1, 0, 1])),
    "another search": lambda path: spoilt(path, fingerprint=np.array("another")),
}


def flipped(content):
    place = content.index(b"NUMPY") + 130  # in the first array
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


@pytest.mark.slow
@pytest.mark.parametrize("spoil", SPOIL.values(), ids=SPOIL)
def test_damaged_lanes_are_computed_again(searched, right, spoil):
    path = lanes_of(searched)[1]
    spoil(path)
    with pytest.warns(UserWarning, match=rf"{path.name} .*: removed, and its trainings are run again"):
        found = search(searched)
    np.testing.assert_array_equal(found.metrics["valid_loss"], right.metrics["valid_loss"])
    before = {path: path.stat().st_mtime_ns for path in lanes_of(searched)}
    assert len(before) == 3
    search(searched)
    assert {path: path.stat().st_mtime_ns for path in lanes_of(searched)} == before


def test_lanes_of_an_earlier_version(searched, right):
    for path in lanes_of(searched):
        spoilt(path, fingerprint=None)
    before = {path: path.stat().st_mtime_ns for path in lanes_of(searched)}
    np.testing.assert_array_equal(search(searched).metrics["valid_loss"], right.metrics["valid_loss"])
    assert {path: path.stat().st_mtime_ns for path in lanes_of(searched)} == before


def test_a_full_disk_loses_no_lanes(tmp_path, right, monkeypatch):
    from lectopt._internal import files  # noqa: PLC0415

    written, write = [], files.os.fsync

    def full(file):
        written.append(file)
        if len(written) == 5:  # after two fingerprints and two chunks
            raise OSError(28, "No space left on device")
        write(file)

    with monkeypatch.context() as context:
        context.setattr(files.os, "fsync", full)
        with pytest.raises(OSError, match=r"directory cannot be written any more \(No space left .*is there still"):
            search(tmp_path)
    assert len(lanes_of(tmp_path)) == 2
    assert not list(tmp_path.rglob("*.part"))
    np.testing.assert_array_equal(search(tmp_path).metrics["valid_loss"], right.metrics["valid_loss"])


@pytest.mark.parametrize(("directory", "error"), [(3, TypeError), (b"x", TypeError), ("", ValueError)])
def test_what_is_no_directory(directory, error):
    with pytest.raises(error, match="directory must be a path"):
        search(directory)


def test_a_search_in_the_home_directory(tmp_path, monkeypatch, right):
    monkeypatch.setenv("HOME", str(tmp_path))
    search("~/a [1]")
    assert len(lanes_of(tmp_path / "a [1]")) == 3
    found = search("~/a [1]")
    np.testing.assert_array_equal(found.metrics["valid_loss"], right.metrics["valid_loss"])
    found.save("~/results [1]")
    np.testing.assert_array_equal(lo.Results.load("~/results [1]").metrics["valid_loss"], right.metrics["valid_loss"])


@pytest.mark.parametrize(
    "change",
    [
        {"trial": other_trial}, {"folds": 4}, {"split": 1}, {"key": 1}, {"halving": lo.Halving(4, factor=2)},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_a_directory_of_another_search_is_refused(searched, change):
    before = {path: path.stat().st_mtime_ns for path in searched.rglob("*")}
    with pytest.raises(ValueError, match="directory must be new, or of the same search"):
        search(searched, **change)
    assert {path: path.stat().st_mtime_ns for path in searched.rglob("*")} == before  # nothing is lost


@pytest.mark.parametrize(
    ("more", "trainings"),
    [
        ({"rates": (0.02, 0.01, 0.03, 0.1, 0.3, 0.5, 1.0, 2.0)}, 2 * 3),
        ({"rates": (0.1, 0.01)}, 0),
        pytest.param({"seeds": 2}, 6 * 3, marks=pytest.mark.slow),
        ({"rates": (0.5, 0.02), "seeds": 3}, 3 * 2 + 3 * 3),
    ],
    ids=["more settings", "some of them", "more seeds", "both"],
)
def test_a_directory_with_more_settings_or_seeds_runs_what_is_new(searched, monkeypatch, more, trainings):
    from lectopt.engine import running  # noqa: PLC0415

    ran, run = [], running.run_rectangle

    def counted(*arguments):
        ran.append(len(arguments[-2]) * len(arguments[-1]))
        return run(*arguments)

    monkeypatch.setattr(running, "run_rectangle", counted)
    found = search(searched, **more)
    assert sum(ran) == trainings
    np.testing.assert_array_equal(found.metrics["valid_loss"], search(None, **more).metrics["valid_loss"])
    ran.clear()
    search(searched)  # the first ones are there still
    search(searched, **more)
    assert not ran


def test_a_directory_of_an_earlier_version_goes_on(tmp_path, right, ctrl_c, monkeypatch):
    """Which had the numbers of all settings in its digest, and the places of lanes in their files."""
    from lectopt._internal.run_directories import claim  # noqa: PLC0415
    from lectopt.search import search_directory  # noqa: PLC0415

    def earlier(self, path, context, programs):
        self._path, self._is_former = path, True
        claim(path, search_directory._former_digest(*next(iter(programs))), "search")

    with monkeypatch.context() as context:
        context.setattr(search_directory.SearchDirectory, "__init__", earlier)
        ctrl_c(2)
        with pytest.raises(KeyboardInterrupt):
            search(tmp_path)
    assert [path.name for path in lanes_of(tmp_path)] == ["lanes-0-1-0-2.npz", "lanes-2-3-0-2.npz"]
    ctrl_c(1)  # what is left is a single rectangle
    np.testing.assert_array_equal(search(tmp_path).metrics["valid_loss"], right.metrics["valid_loss"])
    assert len(lanes_of(tmp_path)) == 3
    with pytest.raises(ValueError, match="directory must be new, or of the same search"):
        search(tmp_path, rates=(0.01,))


@pytest.mark.filterwarnings("ignore:the best width")
def test_a_directory_goes_on_with_other_static_values_beside_those_it_was_begun_with(tmp_path):
    def scored(setting, key):
        return {"loss": setting["rate"] * setting["width"]}

    def swept(widths):
        settings = lo.settings([{"width": width, "rate": 0.5} for width in widths], static=["width"])
        return lo.sweep(scored, settings, minimize="loss", key=0, directory=tmp_path, progress=False)

    swept([1, 2])
    before = set(tmp_path.rglob("lanes-*"))
    assert swept([3, 2, 1]).mean().tolist() == [1.5, 1.0, 0.5]
    assert len(set(tmp_path.rglob("lanes-*")) - before) == 1
    with pytest.raises(ValueError, match="directory must be new, or of the same search"):
        swept([4, 5])


def test_a_directory_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="directory must be new, or of the same search"):
        search(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("halving", [pytest.param("None", marks=pytest.mark.exhaustive), HALVING])
def test_two_processes_share_a_search(tmp_path, halving, port):
    join = f"""
        rank = int(sys.argv[3])
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize("127.0.0.1:{port}", 2, rank)
        from lectopt.engine import running
        ran, run = [], running.run_rectangle
        def counted(*arguments):
            ran.append(len(arguments[-2]))
            return run(*arguments)
        running.run_rectangle = counted
    """
    code = textwrap.dedent(join) + SAVE.format(halving=halving) + "\nprint('rows', sum(ran))\n"
    both = [child(code, tmp_path / "both", tmp_path / f"{rank}.npz", rank) for rank in (0, 1)]
    rows = [int(finish(process).split("rows ")[1]) for process in both]
    finish(child(SAVE.format(halving=halving), tmp_path / "one", tmp_path / "one.npz"))
    equal(tmp_path / "0.npz", tmp_path / "1.npz")
    with np.load(tmp_path / "0.npz") as shared, np.load(tmp_path / "one.npz") as one:
        for name in one.files:
            np.testing.assert_allclose(shared[name], one[name], rtol=1e-4)
    assert rows[0] == rows[1]
    assert sum(rows) == (48 if halving == "None" else 48 + 24 + 12)


@functools.cache
def nine_rounds():
    return lo.search.evolve([3, 3], lambda vectors: vectors.sum(axis=1), 9, children=2, key=0, progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("host", [False, True])
def test_ctrl_c_in_rounds_gives_back_those_that_are_done(monkeypatch, host):
    monkeypatch.setattr("lectopt.strategies.running.interactive", lambda: True)
    told = []

    class Bar:
        def __init__(self, *arguments, **options):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def update(self, done, text=""):
            told.append(done)
            if len(told) == 2:
                raise KeyboardInterrupt

    options = {"children": 2, "key": 0, "host": host, "progress": False}
    whole = nine_rounds()
    monkeypatch.setattr("lectopt.strategies.running.ProgressBar", Bar)
    with pytest.warns(UserWarning, match=r"interrupted: the record holds \d of 9 rounds"):
        record = lo.search.evolve([3, 3], lambda vectors: vectors.sum(axis=1), 9, **options)
    assert 2 <= len(record.scores) == told[1] < 9
    np.testing.assert_array_equal(record.scores, whole.scores[: told[1]])


def test_ctrl_c_amid_a_rectangle_waits_for_its_end(monkeypatch, person):
    from lectopt.engine import running  # noqa: PLC0415

    run, ran = running.run_rectangle, []

    def pressed(*arguments):
        ran.append(1)
        if len(ran) == 2:
            signal.raise_signal(signal.SIGINT)
        return run(*arguments)

    monkeypatch.setattr(running, "run_rectangle", pressed)
    with pytest.warns(UserWarning, match="interrupted: 4 of 6 settings were run"):
        assert search(None).rungs.tolist() == [1, 1, 1, 1, 0, 0]
