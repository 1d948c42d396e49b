"""`search_architecture` on real digits: what it returns, that it is right, resumes, and refuses what is wrong."""

import dataclasses
import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import lectopt as lo
from lectopt.architecture.children import Children, Goal
from lectopt.architecture.final_trainings import FinalTrainings
from lectopt.search import Architecture, Layer
from lectopt.strategies.round_program import RoundProgram

SPACE = lo.ArchitectureSpace(depth=[1, 2], width=[2, 8], activation=["relu", "tanh"])
OPTIONS = {"rounds": 3, "children": 3, "epochs": 3, "optimizer": lo.adam(0.01), "progress": False, "key": 0}


@pytest.fixture(scope="module")
def data():
    """Some of the digits, and a test set."""
    rest, test = lo.holdout(lo.datasets.digits(), 0.2, key=0, stratify=True)
    return lo.holdout(rest, 0.6, key=1, stratify=True)[0], test


@pytest.fixture(scope="module")
def found(data, tmp_path_factory):
    """A small search, and the directory that it was kept in."""
    directory = tmp_path_factory.mktemp("search") / "kept"
    return lo.search_architecture(SPACE, data[0], test=data[1], directory=directory, **OPTIONS), directory


@pytest.mark.slow
def test_what_a_search_returns(found, data):
    results, _ = found
    assert list(results.records) == ["reinforce", "evolve", "random"]
    for record in results.records.values():
        assert record.choices.shape == (3, 3, 5)
        assert record.choices.dtype == jnp.int32
        assert record.scores.dtype == jnp.float32
        assert ((record.scores > 0) & (record.scores <= 1)).all()
    assert [one.method for one in results.finalists] == ["reinforce", "evolve", "random", "by hand"]
    assert all(one.scores.shape == one.test_metrics["accuracy"].shape == (3,) for one in results.finalists)
    assert results.children == 27
    by_mean = {one.architecture: one.scores.mean() for one in results.finalists[:3]}
    assert results.winner in by_mean
    assert by_mean[results.winner] == max(by_mean.values())
    assert results.test_metrics == results.run.evaluate(data[1])
    assert results.test_metrics["accuracy"] > 0.3
    assert len(results.to_pandas()) == 27
    assert "winner" in repr(results)
    (score, architecture), *_ = results.best(2)
    assert score == pytest.approx(max(one.scores.max() for one in results.records.values()), abs=0.05)
    assert isinstance(architecture, Architecture)


@pytest.mark.slow
def test_the_winner_is_a_plain_network_of_its_architecture(found, data):
    results, _ = found
    network = results.run.model.layers[1]
    assert type(network).__name__ == "Network"
    assert [hidden.linear.out_features for hidden in network.layers] == [layer.width for layer in results.winner.layers]
    assert "ArchitectureChoice" not in str(nnx.state(network))
    assert results.run.history.steps["loss"].shape == (3 * 18,)  # 3 epochs of all 575 examples but the test set
    x = jnp.asarray(data[1].arrays[0][:5])
    np.testing.assert_allclose(results.run.model(x), results.run.predict(x), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_the_finals_are_trainings_from_other_starts(found, data):
    """Scored on the validation part, and tested when trained on all but the test set: each training by itself."""
    results, _ = found
    one = results.finalists[0]
    children = Children.of(SPACE, data[0], optimizer=lo.adam(0.01), batch_size=32, epochs=3, folds=0.2, last=5, key=0)
    vector = jnp.asarray(SPACE.encode(one.architecture))
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 3), 2)
    assert one.scores[2] == pytest.approx(
        float(jax.jit(children.score, static_argnums=0)(children.model(vector), key)), abs=0.012
    )
    task = lo.classification(children.model(vector), standardize=True)
    run = jax.jit(lambda: lo.train(task, lo.adam(0.01), data[0], batch_size=32, epochs=3, key=key))()
    scores = run.evaluate(data[1])
    assert one.test_metrics["loss"][2] == pytest.approx(scores["loss"], rel=0.01)
    assert one.test_metrics["accuracy"][2] == pytest.approx(scores["accuracy"], abs=0.012)
    assert len(set(one.test_metrics["loss"].tolist())) == 3


@pytest.mark.slow
def test_a_score_is_that_of_a_training_alone(found, data):
    """The first child of the first round, trained again by itself: the best of the last epochs."""
    results, _ = found
    record = results.records["reinforce"]
    children = Children.of(SPACE, data[0], optimizer=lo.adam(0.01), batch_size=32, epochs=3, folds=0.2, last=5, key=0)
    _, rounds = jax.random.split(jax.random.key(0))
    _, key = jax.random.split(jax.random.fold_in(rounds, 0))
    train, valid = children.folds.at(0)
    task = lo.classification(children.model(record.choices[0, 0]), standardize=True)
    run = jax.jit(lambda: lo.train(task, lo.adam(0.01), train, valid=valid, batch_size=32, epochs=3, key=key))()
    assert float(record.scores[0, 0]) == pytest.approx(float(run.history.epochs["valid_accuracy"].max()), abs=0.012)


@pytest.mark.slow
def test_equal_architectures_of_a_round_score_alike(found):
    """They start from the same weights and see the same batches."""
    results, _ = found
    for number in range(3):
        seen = {}
        for record in results.records.values():
            for vector, score in zip(record.choices[number], record.scores[number], strict=True):
                assert seen.setdefault(tuple(vector.tolist()), float(score)) == pytest.approx(float(score), abs=0.012)


@pytest.mark.slow
def test_a_kept_search_is_not_run_again(found, data, monkeypatch):
    results, directory = found
    again = lo.search_architecture(SPACE, data[0], test=data[1], directory=directory, **OPTIONS)
    assert all(np.array_equal(again.records[n].scores, r.scores) for n, r in results.records.items())
    assert again.winner == results.winner
    with pytest.raises(ValueError, match="directory must be new, or of the same search"):
        lo.search_architecture(SPACE, data[0], test=data[1], directory=directory, **OPTIONS | {"key": 1})


@pytest.mark.slow
def test_devices_and_chunks_change_nothing(data, several_devices):
    """7 children on 3 devices, 2 at a time, score as they do all at once on one."""
    vectors = SPACE.members()[:28:4]
    options = {"optimizer": lo.adam(0.01), "batch_size": 32, "epochs": 3, "folds": 3, "last": 5, "key": 0}
    alone = Children.of(SPACE, data[0], chunk=7, **options)
    several = dataclasses.replace(alone, devices=jax.devices()[:3], at_once=2)
    key = jax.random.key(0)
    expected = np.asarray(jax.jit(alone.__call__)(vectors, key))
    assert len(alone.devices) == 1
    assert len(set(expected.tolist())) > 3
    np.testing.assert_allclose(jax.jit(several.__call__)(vectors, key), expected, atol=0.012)


def test_the_goal():
    """Of each metric the best of the last epochs, and higher is better; nothing for what diverged."""

    def run(diverged_at):
        history = type("History", (), {"epochs": {"valid_loss": jnp.array([1.0, 5.0, 4.0, 6.0])}})
        return type("Run", (), {"history": history, "diverged_at": diverged_at})

    assert Goal("valid_loss", False, 3).score(run(-1)) == -4
    assert Goal("valid_loss", False, 9).score(run(-1)) == -1
    assert Goal("valid_loss", True, 2).score(run(-1)) == 6
    assert jnp.isnan(Goal("valid_loss", True, 2).score(run(3)))


@pytest.mark.slow
def test_regression_with_folds_and_a_network_of_ones_own():
    rest, test = lo.holdout(lo.datasets.diabetes(), 0.2, key=0)
    space = lo.ArchitectureSpace(depth=[1, 2], width=[4, 8], norm=["none", "layer"], skip=True)
    task = functools.partial(lo.regression, standardize=True, output_bias=None)
    results = lo.search_architecture(
        space, rest, test=test, task=task, folds=3, by_hand=lambda rngs: nnx.Linear(10, 1, rngs=rngs),
        **OPTIONS | {"optimizer": lo.adam(0.1), "epochs": 20},
    )  # fmt: skip
    assert results.metric == "valid_loss"
    assert not results.maximizes
    assert all((record.scores < 0).all() for record in results.records.values())
    assert results.finalists[-1].architecture is None
    assert all(one.scores.min() > 0 for one in results.finalists)
    assert results.test_metrics["loss"] < 6000  # the variance of the targets
    assert results.best(1)[0][0] > 0


@pytest.mark.slow
def test_convolutions_in_two_dimensions(data):
    x, y = data[0].arrays
    rest, test = lo.holdout((x.reshape(-1, 8, 8, 1), y), 0.5, key=0, stratify=True)
    space = lo.ArchitectureSpace(depth=[1, 2], width=[4, 8], kernel_size=[3, 5], norm=["batch", "none"], strides=2)
    results = lo.search_architecture(
        space, rest, test=test, by_hand=Architecture((Layer(8, 3),), (2,)), finalists=1, **OPTIONS | {"epochs": 4}
    )
    assert results.test_metrics["accuracy"] > 0.5


@pytest.mark.slow
def test_killed_and_called_again_it_ends_as_it_would_have(found, data, tmp_path, monkeypatch):
    """Killed after the first round, by an error where it shows how far it is."""
    results, _ = found

    class Killed(Exception):
        pass

    def kill(*_):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("lectopt.strategies.running.ProgressBar.update", kill)
        with pytest.raises(Killed):
            lo.search_architecture(SPACE, data[0], test=data[1], directory=tmp_path / "kept", **OPTIONS)
    rounds = np.load(tmp_path / "kept" / "status.npz")["leaf0000"]
    assert 0 < rounds < 3
    again = lo.search_architecture(SPACE, data[0], test=data[1], directory=tmp_path / "kept", **OPTIONS)
    assert all(np.array_equal(again.records[n].scores, r.scores) for n, r in results.records.items())


@pytest.mark.slow
def test_less_memory_gives_smaller_chunks_and_too_little_says_so_with_numbers(found, data):
    results, _ = found
    with pytest.raises(ValueError, match=r"memory must be enough for one child .* which take [\d,]+ bytes; got 1,000"):
        lo.search_architecture(SPACE, data[0], test=data[1], memory=1000, **OPTIONS)
    chunked = lo.search_architecture(SPACE, data[0], test=data[1], chunk=1, **OPTIONS)
    np.testing.assert_allclose(chunked.records["random"].scores, results.records["random"].scores, atol=0.012)


OUT_OF_MEMORY = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9000000000 bytes.")


@pytest.mark.slow
def test_a_device_that_runs_out_of_memory_is_given_half_as_many_children(found, data, monkeypatch):
    results, _ = found
    advance, side_by_side, seen = RoundProgram.advance, Children.side_by_side, []

    def small(program, state):
        seen.append((program.rounds.score.at_once, int(state.round)))
        if state.round and program.rounds.score.at_once > 4:
            raise OUT_OF_MEMORY
        return advance(program, state)

    def small_in_the_end(children, *arguments):
        if children.at_once > 4 and len(seen) > 3:
            raise OUT_OF_MEMORY
        return side_by_side(children, *arguments)

    monkeypatch.setattr(RoundProgram, "advance", small)
    monkeypatch.setattr(Children, "side_by_side", small_in_the_end)
    with pytest.warns(UserWarning, match=r"a device ran out of memory with \d children at once"):
        halved = lo.search_architecture(SPACE, data[0], test=data[1], **OPTIONS)
    assert seen[:3] == [(8, 0), (8, 1), (4, 1)]  # the first round is not run again
    np.testing.assert_allclose(halved.records["random"].scores, results.records["random"].scores, atol=0.012)


def test_half_as_many_children_after_memory_ran_out():
    children = Children(SPACE, (64,), 10, None, None, None, jax.devices()[:1], 3)
    with pytest.warns(UserWarning, match="ran out of memory with 3 children at once; the search goes on with 1"):
        one = children.halved(OUT_OF_MEMORY)
    assert one == dataclasses.replace(children, at_once=1)
    with pytest.raises(ValueError, match=r"memory must be enough for 1 of the children at once.*RESOURCE_EXHAUSTED"):
        one.halved(OUT_OF_MEMORY)


BAD = {
    "space": ({"space": [1, 2]}, TypeError, "space must be a lectopt.ArchitectureSpace"),
    "no rounds": ({"rounds": 0}, ValueError, "rounds must be at least 1"),
    "children": ({"children": 2.0}, TypeError, "children must be a whole number"),
    "epochs": ({"epochs": 0}, ValueError, "epochs must be at least 1"),
    "batch": ({"batch_size": -1}, ValueError, "batch_size must be at least 1"),
    "both": (
        {"minimize": "valid_loss", "maximize": "valid_accuracy"},
        ValueError,
        "exactly one of minimize and maximize",
    ),
    "metric": ({"maximize": "valid_f1"}, ValueError, "maximize must be one of .*'valid_accuracy'.*; got 'valid_f1'"),
    "folds": ({"folds": 1.5}, ValueError, "folds must be in"),
    "controller": ({"controller": {"units": 3}}, TypeError, "controller must be a lectopt.search.Controller"),
    "units": ({"controller": lo.search.Controller(units=0)}, ValueError, "units must be at least 1"),
    "memory": ({"memory": 0}, ValueError, "memory must be in"),
    "seeds": ({"seeds": 0}, ValueError, "seeds must be at least 1"),
    "by hand": ({"by_hand": 3}, TypeError, "model must be a function"),
    "task": ({"task": lambda model: 3}, TypeError, "task must be a function model -> lectopt.Task"),
    "by hand, conv": ({"by_hand": Architecture((Layer(8, 3),))}, ValueError, "by_hand must have kernel_size None"),
    "by hand, empty": ({"by_hand": Architecture(())}, ValueError, "by_hand must have at least one layer"),
    "by hand, name": ({"by_hand": Architecture((Layer(8, activation="foo"),))}, ValueError, "by_hand must have known"),
    "by hand, skip": (
        {"by_hand": Architecture((Layer(8, skips=(3,)),))},
        ValueError,
        "by_hand must have skips from layers before",
    ),
    "directory": ({"directory": "/proc/x"}, ValueError, "directory must be a directory that can be written"),
    "outputs": ({"outputs": 3}, ValueError, "labels must be in"),
}


@pytest.mark.parametrize(("change", "error", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(data, change, error, message):
    arguments = {"space": SPACE, "examples": data[0], "test": data[1]} | OPTIONS | change
    space, examples = arguments.pop("space"), arguments.pop("examples")
    with pytest.raises(error, match=message):
        lo.search_architecture(space, examples, **arguments)


def test_a_test_set_that_does_not_fit(data):
    with pytest.raises(ValueError, match=r"inputs of test"):
        lo.search_architecture(SPACE, data[0], test=(np.ones((5, 3), np.float32), np.zeros(5, int)), **OPTIONS)


@pytest.mark.slow
def test_results_are_pickled(found):
    results, _ = found
    again = pickle.loads(pickle.dumps(dataclasses.replace(results, run=None)))
    assert again.winner == results.winner
    assert repr(again) == repr(results)


@pytest.mark.slow
def test_a_method_whose_children_all_diverged(found, data):
    """It has a row without an architecture; the others go on."""
    results, _ = found
    children = Children.of(SPACE, data[0], optimizer=lo.adam(0.01), batch_size=32, epochs=1, folds=0.2, last=5, key=0)
    lost = dataclasses.replace(results.records["evolve"], scores=np.full((3, 3), np.nan, np.float32))
    few = dataclasses.replace(results.records["random"], choices=SPACE.members()[None, :1], scores=np.ones((1, 1)))
    finals = FinalTrainings(children, data[0], None, None, 1, 1, jax.random.key(0))
    rows, vector, _ = finals.run({"evolve": lost, "random": few}, progress=False)
    assert [row.method for row in rows] == ["evolve", "random", "by hand"]
    assert rows[0].architecture is None
    assert np.isnan(rows[0].scores).all()
    assert np.array_equal(vector, SPACE.members()[0])
    with pytest.raises(ValueError, match=r"every child diverged.*learning rate"):
        finals.run({"evolve": lost}, progress=False)


def test_inputs_that_do_not_fit_the_space(data):
    x, y = data[0].arrays
    with pytest.raises(ValueError, match=r"inputs of shape \(features,\) for dense layers.*got \(8, 8\)"):
        lo.search_architecture(SPACE, (x.reshape(-1, 8, 8), y), **OPTIONS)
    space = lo.ArchitectureSpace(depth=1, width=[2, 4], kernel_size=3)
    with pytest.raises(ValueError, match=r"\(length, channels\) or .*got \(64,\)"):
        lo.search_architecture(space, (x, y), **OPTIONS)
