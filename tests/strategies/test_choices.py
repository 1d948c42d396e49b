"""Searches over vectors of choices: the controller against NumPy, REINFORCE, evolution, random search, their rounds."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from choice_tables import OPTIONS, lookup, table
from flax import nnx

import lectopt as lo
from lectopt.engine.claimed_directory import ClaimedDirectory
from lectopt.search import Controller, Record, evolve, random_choices, reinforce
from lectopt.strategies.choices import Decisions
from lectopt.strategies.controller import ControllerNetwork
from lectopt.strategies.evolution import Evolution, Population
from lectopt.strategies.random_search import RandomSearch
from lectopt.strategies.reinforcement import Reinforce
from lectopt.strategies.round_program import RoundProgram
from lectopt.strategies.rounds import Rounds
from lectopt.strategies.running import run_program
from lectopt.strategies.snapshots import Snapshots

SMALL = Controller(units=4, layers=1)
METHODS = {
    "reinforce": functools.partial(reinforce, controller=SMALL),
    "evolve": functools.partial(evolve, population=4, tournament=2),
    "random": random_choices,
}
EACH = [pytest.param(m, id=name, marks=[pytest.mark.slow] * (name == "reinforce")) for name, m in METHODS.items()]
CHOICES = (3, 2, 4)
ANCHORED = Decisions((3, 2, 2, 2), anchors=(-1, -1, 0, 1))


def total(vectors):
    return vectors.sum(axis=1)


# The controller ------------------------------------------------------------------------------------------------------


def by_hand(params, decisions, vector):
    """float64[decisions, most]: the log-probabilities, by the formulas of an LSTM; gates in the order i, f, g, o."""
    p = jax.tree.map(lambda a: np.asarray(a, np.float64), params)

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    units = len(p["start"])
    states = [(np.zeros(units), np.zeros(units)) for _ in p["cells"]]
    x, seen, rows = p["start"], [], []
    for t, options in enumerate(decisions.options):
        for layer, (c, h) in enumerate(states):
            cell = p["cells"][layer]
            z = x @ cell["dense_i"]["kernel"] + h @ cell["dense_h"]["kernel"] + cell["dense_h"]["bias"]
            i, f, g, o = np.split(z, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)  # noqa: PLW2901
            x = sigmoid(o) * np.tanh(c)
            states[layer] = c, x
        seen.append(x)
        logits = (x @ p["kernels"][t] + p["biases"][t])[:options]
        if decisions.anchors is not None and decisions.anchors[t] >= 0:
            mixed = np.tanh(seen[decisions.anchors[t]] @ p["previous"] + x @ p["current"])
            logits = np.array([0, p["connection"] @ mixed])
        row = np.full(max(decisions.options), -np.inf)
        row[:options] = logits - np.log(np.sum(np.exp(logits)))
        rows.append(row)
        x = p["embeddings"][t, vector[t]]
    return np.array(rows)


@pytest.mark.parametrize("decisions", [Decisions(CHOICES), ANCHORED], ids=["softmax", "anchors"])
def test_the_controller_is_an_lstm(decisions):
    network = ControllerNetwork(decisions, 5, 2, 1.0, nnx.Rngs(0))  # large weights, so that everything shows
    params = nnx.as_pure(nnx.state(network, nnx.Param))
    for vector in ([0, 0, 1, 0], [2, 1, 1, 1]):
        chosen = jnp.array(vector[: len(decisions.options)])
        outputs = network.unroll(lambda t, _, chosen=chosen: chosen[t])
        expected = by_hand(params, decisions, vector)
        possible = np.isfinite(expected)
        np.testing.assert_allclose(outputs.log_probabilities[possible], expected[possible], rtol=2e-5, atol=2e-5)
        assert (np.exp(outputs.log_probabilities)[~possible] == 0).all()


def test_the_gradient_is_that_of_reinforce():
    """Of mean over children of (advantage x sum of log P over what matters + bonus), by differences of NumPy's."""
    decisions = ANCHORED._replace(active=lambda vector: jnp.array([True, True, vector[0] > 0, True]))
    method = Reinforce(decisions, 3, SMALL._replace(layers=2, entropy=0.2, init_scale=1.0))
    params = method.init(jax.random.key(0)).params
    vectors, advantages = np.array([[0, 1, 0, 1], [2, 0, 1, 0], [1, 1, 1, 1]], np.int32), np.array([1.0, -0.5, 2.0])

    def objective(flat):
        value = 0
        for vector, advantage in zip(vectors, advantages, strict=True):
            rows = by_hand(unravel(flat), decisions, vector)
            counts = np.array([True, True, vector[0] > 0, True])
            with np.errstate(invalid="ignore"):
                entropy = -np.nansum(np.exp(rows) * rows, axis=1)
            value += advantage * np.sum(rows[np.arange(4), vector] * counts) + 0.2 * np.sum(entropy * counts)
        return value / 3

    flat, unravel = jax.flatten_util.ravel_pytree(params)
    gradient = jax.jit(jax.grad(method.loss))(params, vectors, advantages.astype(np.float32))
    gradient = jax.flatten_util.ravel_pytree(gradient)[0]
    flat = np.asarray(flat, np.float64)
    with jax.enable_x64(True):
        unravel = jax.flatten_util.ravel_pytree(jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), params))[1]
        for place in np.random.default_rng(0).choice(len(flat), 25, replace=False):
            step = 1e-6 * (np.arange(len(flat)) == place)
            slope = (objective(flat + step) - objective(flat - step)) / 2e-6
            assert float(-gradient[place]) == pytest.approx(slope, rel=1e-3, abs=2e-5)


def test_the_controller_begins_as_the_paper_says():
    params = Reinforce(Decisions(CHOICES), 3).init(jax.random.key(0)).params
    weights = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params)])
    assert 0.079 < np.abs(weights).max() <= 0.08
    assert weights.std() == pytest.approx(0.08 / np.sqrt(3), rel=0.02)
    assert params["cells"][1]["dense_h"]["kernel"].shape == (35, 4 * 35)


def test_advantages_are_of_the_rounds_before():
    """The first round's baseline is its own mean reward; then the moving average b <- d b + (1 - d) mean."""
    method = Reinforce(Decisions(CHOICES), 2, SMALL._replace(baseline_decay=0.75, reward=lambda s: 2 * s))
    state, tell = method.init(jax.random.key(0)), jax.jit(method.tell)
    vectors = jnp.zeros((2, 3), jnp.int32)
    state = tell(state, vectors, jnp.array([1.0, 3.0]))
    assert state.baseline == 4
    state = tell(state, vectors, jnp.array([2.0, 6.0]))
    assert state.baseline == 0.75 * 4 + 0.25 * 8


def test_what_is_better_than_before_becomes_likelier():
    """A single child: of its own round's mean it has no advantage, of the baseline before it has."""
    method = Reinforce(Decisions(CHOICES), 1, SMALL._replace(entropy=0.0))
    vectors = jnp.array([[2, 0, 1]], jnp.int32)
    begin, tell, loss = method.init(jax.random.key(0)), jax.jit(method.tell), jax.jit(method.loss)
    first = tell(begin, vectors, jnp.array([0.5]))
    for one, other in zip(jax.tree.leaves(begin.params), jax.tree.leaves(first.params), strict=True):
        assert np.array_equal(one, other)
    second = tell(first, vectors, jnp.array([0.6]))
    assert loss(second.params, vectors, jnp.ones(1)) < loss(first.params, vectors, jnp.ones(1))


@pytest.mark.parametrize("normalize", [True, False])
def test_a_rewarded_vector_becomes_likelier(normalize):
    """After rounds in which one of two vectors is better than the baseline of the rounds before."""
    controller = SMALL._replace(normalize=normalize, entropy=0.0, learning_rate=0.01)
    method = Reinforce(Decisions(CHOICES), 2, controller)
    vectors = jnp.array([[0, 1, 3], [2, 0, 1]], jnp.int32)
    state = before = method.init(jax.random.key(0))
    tell, loss = jax.jit(method.tell), jax.jit(method.loss)
    for _ in range(3):
        state = tell(state, vectors, jnp.array([1.0, 0.0]))

    def likelihood(params, vector):
        return -float(loss(params, vector[None], jnp.ones(1)))

    assert likelihood(state.params, vectors[0]) > likelihood(before.params, vectors[0])
    assert likelihood(state.params, vectors[1]) < likelihood(before.params, vectors[1])


@pytest.mark.slow
def test_entropy_and_probabilities_of_a_record():
    record = reinforce(CHOICES, total, 2, 50, 0, controller=SMALL, progress=False)
    assert record.probabilities.shape == (2, 3, 4)
    np.testing.assert_allclose(record.probabilities.sum(axis=2), 1, rtol=1e-5)
    assert (record.probabilities[:, 1, 2:] == 0).all()
    assert float(record.entropy[0]) == pytest.approx(np.log(3 * 2 * 4), abs=0.02)
    assert random_choices(CHOICES, total, 1, 1, 0, progress=False).entropy is None


# The others ----------------------------------------------------------------------------------------------------------


def test_random_is_uniform_and_independent():
    vectors = np.asarray(random_choices((3, 2, 4), total, 1, 24_000, 0, progress=False).choices[0])
    counts = np.bincount(np.ravel_multi_index(vectors.T, (3, 2, 4)), minlength=24)
    assert np.sum((counts - 1000) ** 2 / 1000) < 50  # chi-square, 23 degrees of freedom: 49.7 at 0.1 %


def evolved(active=None, population=4, tournament=4, children=6):
    method = Evolution(Decisions((3, 1, 4), active), children, population, tournament)
    vectors = jnp.array([[0, 0, 0], [2, 0, 3], [1, 0, 1], [1, 0, 2]], jnp.int32)
    return method, Population(vectors, jnp.array([1.0, 4.0, 2.0, 3.0]), jnp.int32(4))


def test_a_child_is_the_best_of_the_tournament_with_one_decision_changed():
    """All of the living compete, so the parent is the best; a decision with one option cannot change."""
    method, state = evolved()
    asked = np.asarray(jax.jit(method.ask)(state, jax.random.key(0)).vectors)
    changed = asked != np.array([2, 0, 3])
    assert (changed.sum(axis=1) == 1).all()
    assert changed[:, 0].any()
    assert changed[:, 2].any()
    assert (asked < np.array([3, 1, 4])).all()


def test_only_what_matters_changes():
    method, state = evolved(active=lambda vector: jnp.array([True, True, vector[0] != 2]))
    asked = np.asarray(jax.jit(method.ask)(state, jax.random.key(0)).vectors)
    assert (asked[:, 0] != 2).all()  # the best one's last entry means nothing, so the first must change


def test_the_oldest_die():
    method, state = evolved(children=3)
    state = method.tell(state, jnp.full((3, 3), 7, jnp.int32), jnp.array([5.0, 6.0, 7.0]))
    assert state.scores.tolist() == [5, 6, 7, 3]
    state = method.tell(state, jnp.full((3, 3), 8, jnp.int32), jnp.array([8.0, 9.0, 10.0]))
    assert state.scores.tolist() == [9, 10, 7, 8]
    method, state = evolved(children=6)
    assert method.tell(state, jnp.zeros((6, 3), jnp.int32), jnp.arange(6.0)).scores.tolist() == [4, 5, 2, 3]


def test_the_first_population_is_random():
    record = evolve((4,) * 6, total, 3, 4, 0, population=8, tournament=8, progress=False)
    first = np.asarray(record.choices[:2]).reshape(-1, 6)
    best = first[np.asarray(record.scores[:2]).argmax()]
    assert ((first[:, None] != first[None]).sum(axis=2)[~np.eye(8, dtype=bool)] > 1).any()
    assert ((np.asarray(record.choices[2]) != best).sum(axis=1) == 1).all()


# Rounds --------------------------------------------------------------------------------------------------------------


@functools.cache
def whole(method):
    """Four rounds in one compiled program."""
    return method(CHOICES, total, 4, 5, jax.random.key(3), progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("method", EACH)
def test_compiled_on_the_host_and_under_vmap_it_is_the_same(method):
    compiled = whole(method)
    host = method(CHOICES, lambda vectors: vectors.sum(axis=1).tolist(), 4, 5, 3, host=True, progress=False)
    lanes = jax.vmap(lambda key: method(CHOICES, total, 4, 5, key))(jax.vmap(jax.random.key)(jnp.array([0, 3])))
    assert compiled.choices.shape == (4, 5, 3)
    assert compiled.choices.dtype == jnp.int32
    assert compiled.scores.dtype == jnp.float32
    assert np.array_equal(compiled.scores, compiled.choices.sum(axis=2))
    for other in (host, jax.tree.map(lambda leaf: leaf[1], lanes)):
        assert np.array_equal(compiled.choices, other.choices)
        assert np.array_equal(compiled.scores, other.scores)
    assert len({row.tobytes() for row in np.asarray(compiled.choices)}) > 1  # rounds differ
    assert not np.array_equal(lanes.choices[0], lanes.choices[1])


def test_a_table_of_an_outer_program_may_be_traced():
    best = jax.jit(lambda values: random_choices((4, 4), lambda v: values[v[:, 0], v[:, 1]], 3, 4, 0).scores.max())
    assert best(jnp.full((4, 4), 2.5)) == 2.5


@pytest.mark.slow
@pytest.mark.parametrize("method", EACH)
def test_broken_off_it_goes_on(method, tmp_path):
    calls = []

    def fails(vectors):
        calls.append(len(vectors))
        if len(calls) == 3:
            raise RuntimeError("power cut")
        return total(vectors)

    with pytest.raises(RuntimeError, match="power cut"):
        method(CHOICES, fails, 4, 5, 3, host=True, progress=False, directory=tmp_path / "kept")
    again = method(CHOICES, fails, 4, 5, 3, host=True, progress=False, directory=tmp_path / "kept")
    assert len(calls) == 3 + 2
    assert np.array_equal(again.choices, whole(method).choices)
    assert np.array_equal(again.scores, whole(method).scores)
    if again.probabilities is not None:
        np.testing.assert_allclose(again.probabilities, whole(method).probabilities, rtol=1e-5)


def test_a_compiled_search_is_kept(tmp_path):
    kept = random_choices(CHOICES, total, 3, 3, 0, progress=False, directory=tmp_path / "kept")
    again = random_choices(CHOICES, total, 3, 3, 0, progress=False, directory=tmp_path / "kept")
    assert np.array_equal(kept.choices, again.choices)
    with pytest.raises(ValueError, match="directory must be new, or of the same search"):
        random_choices(CHOICES, total, 3, 3, 1, progress=False, directory=tmp_path / "kept")
    with pytest.raises(ValueError, match="directory must be new, or of the same search"):
        random_choices(CHOICES, lambda v: 2 * total(v), 3, 3, 0, progress=False, directory=tmp_path / "kept")
    (tmp_path / "kept" / "status.npz").write_bytes(b"half a file")
    before = tmp_path / "kept" / "status-before.npz"
    assert before.exists()
    with pytest.warns(UserWarning, match=r"status\.npz is damaged.* continues from the previous state"):
        again = random_choices(CHOICES, total, 3, 3, 0, progress=False, directory=tmp_path / "kept")
    assert np.array_equal(kept.choices, again.choices)
    for path in (before, tmp_path / "kept" / "status.npz"):
        path.write_bytes(b"half a file")
    with pytest.raises(ValueError, match=r"directory must hold an undamaged state; .*status\.npz is damaged"):
        random_choices(CHOICES, total, 3, 3, 0, progress=False, directory=tmp_path / "kept")


def test_a_status_goes_in_by_its_names(tmp_path):
    snapshots = Snapshots(ClaimedDirectory(tmp_path, "mark"))
    snapshots.write({"a": np.zeros(2), "b": np.ones(2)})
    assert np.array_equal(snapshots.latest({"b": np.zeros(2), "a": np.ones(2)})["b"], [1, 1])
    with pytest.raises(ValueError, match=r"the status in .*status\.npz .* missing there: c; not asked for: b"):
        snapshots.latest({"a": np.zeros(2), "c": np.zeros(2)})


def test_a_status_of_an_earlier_version(tmp_path):
    snapshots = Snapshots(ClaimedDirectory(tmp_path, "mark"))
    np.savez(tmp_path / "status.npz", leaf0000=np.zeros(2), leaf0001=np.ones(3))
    assert np.array_equal(snapshots.latest({"a": np.ones(2), "b": np.zeros(3)})["b"], [1, 1, 1])


@pytest.mark.slow
def test_what_has_no_score_is_as_bad_as_the_worst():
    """The record has it as it was; before there is any score, there is nothing to learn."""
    scores = jnp.array([jnp.nan, jnp.inf, jnp.nan]), jnp.array([-4.0, jnp.nan, -2.0])
    controller = SMALL._replace(baseline_decay=0.5, entropy=0.0)
    methods = {"a": Reinforce(Decisions(CHOICES), 3, controller), "b": Evolution(Decisions(CHOICES), 3, 6, 6)}
    search = Rounds(methods, lambda vectors, key: total(vectors), 2)
    begin = status = search.start(jax.random.key(0))
    ask, tell, baselines = jax.jit(search.ask), jax.jit(search.tell), []
    for row in scores:
        vectors, notes = ask(status)
        status = tell(status, vectors, notes, jnp.concatenate([row, row]))
        baselines.append(float(status.states["a"].baseline))
        if len(baselines) == 1:
            for one, other in zip(*(jax.tree.leaves(s.states["a"].params) for s in (begin, status)), strict=True):
                assert np.array_equal(one, other)
    np.testing.assert_allclose(baselines, [np.nan, -10 / 3], rtol=1e-6)  # of -4, -4 and -2
    np.testing.assert_array_equal(status.records["a"].scores, scores)
    assert status.states["b"].scores.tolist() == [-np.inf, -np.inf, -np.inf, -4, -np.inf, -2]
    bred, _ = ask(status._replace(round=jnp.int32(1)))
    parent = status.states["b"].vectors[5]
    assert ((bred[3:] != parent).sum(axis=1) == 1).all()


def test_nobody_is_bred_of_the_unborn():
    first = np.asarray(evolve([8] * 6, total, 1, 60, key=0, population=20, progress=False).choices[0])
    assert ((first != 0).sum(axis=1) > 1).all()


def test_what_comes_to_mean_something_is_drawn():
    """The last entry does only where the first is 1: an evolved first entry brings any value of the last."""
    method, state = evolved(active=lambda vector: jnp.array([True, True, vector[0] == 1]), children=60)
    asked = np.asarray(jax.jit(method.ask)(state, jax.random.key(0)).vectors)
    assert set(asked[asked[:, 0] == 1, 2].tolist()) == {0, 1, 2, 3}
    assert set(asked[asked[:, 0] == 0, 2].tolist()) == {0}


@pytest.mark.slow
def test_a_search_on_the_host_knows_its_settings(tmp_path):
    options = {"host": True, "progress": False, "directory": tmp_path / "kept"}
    reinforce(CHOICES, total, 1, 2, 0, controller=SMALL, **options)
    with pytest.raises(ValueError, match="of the same search"):
        reinforce(CHOICES, total, 1, 2, 0, controller=SMALL._replace(entropy=0.5), **options)


def test_python_in_a_score_that_is_compiled():
    with pytest.raises(jax.errors.TracerArrayConversionError) as caught:
        random_choices(CHOICES, lambda vectors: np.asarray(vectors).sum(axis=1), 1, 2, 0)
    assert "host=True" in "".join(caught.value.__notes__)
    with pytest.raises(ValueError, match="host must be False within jit"):
        jax.jit(lambda key: random_choices(CHOICES, total, 1, 2, key, host=True))(jax.random.key(0))
    with pytest.raises(ValueError, match="reward must return one number for each score"):
        reinforce(CHOICES, total, 1, 2, 0, controller=SMALL._replace(reward=jnp.sum), progress=False)


def test_what_means_nothing_is_0():
    """What is drawn and what the controller asks for; of what is bred see above."""

    class Space:
        decisions = Decisions((2, 5), active=lambda vector: jnp.array([True, vector[0] == 1]))

    method = Reinforce(Space.decisions, 20, SMALL)
    asked = jax.jit(lambda key: method.ask(method.init(key), key).vectors)(jax.random.key(0))
    for vectors in map(np.asarray, (asked, random_choices(Space(), total, 1, 20, 0, progress=False).choices[0])):
        assert (vectors[vectors[:, 0] == 0, 1] == 0).all()
        assert vectors[vectors[:, 0] == 1, 1].any()


def test_the_best_of_a_record():
    choices = jnp.array([[[0, 1], [1, 1]], [[0, 1], [1, 0]]], jnp.int32)
    record = Record(choices, jnp.array([[9.0, 5.0], [1.0, jnp.nan]]))
    (first, score), (second, other) = record.best(5)
    assert (first.tolist(), score, second.tolist(), other) == ([0, 1], 5.0, [1, 1], 5.0)
    assert record.best_so_far().tolist() == [9, 9, 9, 9]
    assert repr(record) == "Record(choices=int32[2, 2, 2], scores=float32[2, 2])"


BAD = {
    "no choices": ({"choices": []}, ValueError, "choices must be .* at least one decision; got none"),
    "no option": ({"choices": [3, 0]}, ValueError, r"choices\[1\] must be at least 1; got 0"),
    "float": ({"choices": [3, 2.0]}, TypeError, r"choices\[1\] must be a whole number"),
    "number": ({"choices": 5}, TypeError, "choices must be the numbers of options, or an ArchitectureSpace; got 5"),
    "text": ({"choices": "35"}, TypeError, "choices must be the numbers of options"),
    "score": ({"score": 3}, TypeError, "score must be a function; got int"),
    "rounds": ({"rounds": 0}, ValueError, "rounds must be at least 1; got 0"),
    "children": ({"children": 0}, ValueError, "children must be at least 1; got 0"),
    "key": ({"key": "a"}, TypeError, "key must be an int"),
    "shape": ({"score": lambda v: v}, ValueError, r"one number for each of 2 vectors; got shape \(2, 3\)"),
    "complex": ({"score": lambda v: v[:, 0] * 1j}, TypeError, "score must return real numbers; got complex64"),
    "nothing": ({"score": lambda v: None}, TypeError, "score must return real numbers; got NoneType"),
    "nan": ({"score": lambda v: v[:, 0] * jnp.nan}, ValueError, r"finite .* \[\d, \d, \d\] in round 0 .* nan"),
}  # fmt: skip


@pytest.mark.parametrize("host", [False, True])
@pytest.mark.parametrize(("change", "error", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(change, error, message, host):
    arguments = {"choices": CHOICES, "score": total, "rounds": 2, "children": 2, "key": 0} | change
    for method in (random_choices,) if host else (random_choices, METHODS["evolve"]):
        with pytest.raises(error, match=message):
            method(**arguments, host=host, progress=False)


@pytest.mark.parametrize(
    ("controller", "error", "message"),
    [
        ({"units": 3}, TypeError, "controller must be a lectopt.search.Controller"),
        (Controller(layers=0), ValueError, "layers must be at least 1"),
        (Controller(learning_rate=0), ValueError, r"learning_rate must be in \(0, inf\)"),
        (Controller(baseline_decay=1), ValueError, r"baseline_decay must be in \[0, 1\)"),
        (Controller(entropy=-0.1), ValueError, r"entropy must be in \[0, inf\)"),
        (Controller(reward=3), TypeError, "reward must be a function"),
    ],
)
def test_bad_controllers(controller, error, message):
    with pytest.raises(error, match=message):
        reinforce(CHOICES, total, 1, 1, 0, controller=controller)


def test_bad_populations():
    with pytest.raises(ValueError, match="tournament must be at most the population, 3; got 4"):
        evolve(CHOICES, total, 1, 1, 0, population=3, tournament=4)
    with pytest.raises(ValueError, match="population must be at least 1"):
        evolve(CHOICES, total, 1, 1, 0, population=0)


@pytest.mark.slow
def test_on_a_synthetic_table_learning_beats_chance():
    """300 evaluations of 65 536 vectors, 100 seeds, on a table that nothing was tuned on; the best possible is 1."""
    score, keys = lookup(table(100)), jax.vmap(jax.random.key)(jnp.arange(100))
    best = {}
    for name, method in {"reinforce": reinforce, "evolve": evolve, "random": random_choices}.items():
        scores = jax.jit(jax.vmap(lambda key, method=method: method(OPTIONS, score, 30, 10, key).scores.max()))(keys)
        best[name] = np.asarray(scores, np.float64)
        print(f"{name:10} {best[name].mean():.4f} ± {best[name].std(ddof=1) / 10:.4f}")
    for name in ("reinforce", "evolve"):
        difference = best[name] - best["random"]
        assert difference.mean() > 3 * difference.std(ddof=1) / 10
        assert difference.mean() > 0.05
    assert table(100).max() == 1
    assert lo.search.ZOPH_LE.learning_rate == 6e-4


def test_rounds_that_need_too_much_memory_go_on_smaller_from_where_they_are(monkeypatch):
    """A program that runs out of memory after its first round, and what takes its place."""
    advance, ran = RoundProgram.advance, []

    def small(program, state):
        ran.append((program.rounds.score, int(state.round)))
        if state.round and program.rounds.score is not half:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes.")
        return advance(program, state)

    def whole(vectors, key):
        return vectors.sum(axis=1)

    def half(vectors, key):
        return vectors.sum(axis=1)

    def smaller(program, error):
        return RoundProgram(dataclasses.replace(program.rounds, score=half), jax.random.key(1))

    def make():
        return RoundProgram(Rounds({"it": RandomSearch(Decisions((3, 3)), 2)}, whole, 4), jax.random.key(0))

    expected = run_program(make(), None, False)
    monkeypatch.setattr(RoundProgram, "advance", small)
    found = run_program(make(), None, False, smaller=smaller)
    np.testing.assert_array_equal(found["it"].choices, expected["it"].choices)
    np.testing.assert_array_equal(found["it"].scores, expected["it"].scores)
    assert [round_ for score, round_ in ran if score is whole] == [0, 1]
    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
        run_program(make(), None, False)
