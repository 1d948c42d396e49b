"""Parts of the examples and their minibatches: laws that hold for any sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import lectopt as lo

pytestmark = pytest.mark.filterwarnings("error")

CAPACITIES = st.sampled_from([7, 25])  # few shapes, since JAX compiles for each
BATCH_SIZES = st.sampled_from([1, 3, 12, 30])
KEYS = st.integers(0, 2**31 - 1)


def examples(n):
    """x whose rows tell which they are, and labels."""
    return np.arange(n, dtype=np.float32)[:, None] * [1, -1], np.arange(n) % 3


def padded(n, capacity, filler=0):
    """A part of n of 60 examples, in no order, filled up to `capacity` indices."""
    x, y = examples(60)
    indices = np.random.default_rng(n).permutation(60)[:n]
    indices = np.append(indices, np.full(capacity - n, indices[filler % n]))
    return lo.Subset((jnp.asarray(x), jnp.asarray(y)), jnp.asarray(indices), jnp.int32(n), least=n)


@pytest.mark.parametrize("n", [1, 6, 7])
def test_the_mask_tells_examples_from_padding(n):
    assert padded(n, 7).mask.tolist() == [True] * n + [False] * (7 - n)


# minibatches ----------------------------------------------------------------------------------------------------------
@settings(max_examples=40, deadline=None)
@given(
    data=st.data(),
    capacity=CAPACITIES,
    batch_size=BATCH_SIZES,
    key=KEYS,
    epoch=st.integers(0, 99),
    shuffle=st.booleans(),
)
def test_each_example_is_met_once_an_epoch(data, capacity, batch_size, key, epoch, shuffle):
    n = data.draw(st.integers(1, capacity))
    subset = padded(n, capacity)
    batches = lo.minibatches(subset, batch_size, key=key, epoch=epoch, shuffle=shuffle)
    steps = -(-capacity // batch_size)
    assert batches.indices.shape == batches.weights.shape == (steps, batch_size)
    assert batches.weights.dtype == np.float32
    weights, rows = np.ravel(batches.weights), np.ravel(batches.indices)
    np.testing.assert_array_equal(weights, np.arange(steps * batch_size) < n)  # real ones first, all full but the last
    real = np.asarray(subset.indices)[:n]
    assert sorted(rows[weights == 1]) == sorted(real)
    assert set(rows) == set(real)  # what fills up is of this part too
    if not shuffle:
        np.testing.assert_array_equal(rows[:n], real)


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(n=st.sampled_from([1, 6, 7, 20]), batch_size=BATCH_SIZES, key=KEYS, epoch=st.integers(0, 99))
def test_padding_changes_no_order(n, batch_size, key, epoch):
    tight, loose = (
        lo.minibatches(s, batch_size, key=key, epoch=epoch) for s in (padded(n, n), padded(n, 25, filler=3))
    )
    steps = len(tight.indices)
    np.testing.assert_array_equal(loose.indices[:steps], tight.indices)
    np.testing.assert_array_equal(loose.weights[:steps], tight.weights)
    assert not np.any(loose.weights[steps:])


def test_shuffled_anew_each_epoch_and_for_each_key():
    orders = {
        (key, epoch): tuple(np.ravel(lo.minibatches(examples(30), 7, key=key, epoch=epoch).indices)[:30])
        for key in range(3)
        for epoch in range(3)
    }
    assert len(set(orders.values())) == 9
    again = lo.minibatches(examples(30), 10, key=jax.random.key(1), epoch=2)
    assert tuple(np.ravel(again.indices)) == orders[1, 2]  # whatever the batch size


def test_every_place_is_equally_likely():
    draw = jax.vmap(lambda epoch: lo.minibatches(examples(5), 5, key=0, epoch=epoch).indices[0])
    orders = np.asarray(draw(jnp.arange(4000)))
    counts = np.array([np.bincount(column, minlength=5) for column in orders.T])
    assert np.abs(counts - 800).max() < 5 * np.sqrt(800 * 0.8)


# as_subset, Subset ----------------------------------------------------------------------------------------------------
def test_a_subset_is_a_view():
    x, y = map(jnp.asarray, examples(10))
    rest, held = lo.holdout((x, y), 0.3, key=0)
    assert rest.arrays[0] is held.arrays[0] is x
    assert (len(rest), len(held)) == (7, 3)
    np.testing.assert_array_equal(held.examples()[0], x[held.indices])
    np.testing.assert_array_equal(padded(4, 9).examples()[1], padded(4, 4).examples()[1])


def test_trees_of_arrays_are_examples():
    inputs = {"image": np.zeros((6, 2, 2)), "age": np.arange(6)}
    _, held = lo.holdout((inputs, np.arange(6)), 0.5, key=0)
    part, labels = held.examples()
    np.testing.assert_array_equal(part["age"], labels)
    assert part["image"].shape == (3, 2, 2)


# holdout --------------------------------------------------------------------------------------------------------------
@settings(max_examples=25, deadline=None)
@given(
    labels=st.lists(st.sampled_from([0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7]), min_size=3, max_size=40),
    fraction=st.floats(0.2, 0.8),
    key=KEYS,
    stratify=st.booleans(),
)
def test_holdout_is_a_partition_with_every_class_in_its_share(labels, fraction, key, stratify):
    y = np.array(labels)
    assume(0 < round(fraction * len(y)) < len(y))
    rest, held = lo.holdout((np.arange(len(y)), y), fraction, key=key, stratify=stratify)
    assert sorted([*rest.indices.tolist(), *held.indices.tolist()]) == list(range(len(y)))
    assert len(held) == round(fraction * len(y))
    if stratify:
        share = len(held) / len(y)
        for c in set(labels):
            assert abs(np.sum(y[held.indices] == c) - share * np.sum(y == c)) < 1


def test_stratified_shares_hold_where_classes_differ_much_in_size():
    y = np.append(np.arange(1, 101), np.zeros(100, int))
    _, held = lo.holdout((y, y), 0.4, key=0, stratify=True)
    assert np.sum(y[held.indices] == 0) == 40


def test_no_class_is_favoured_by_its_name():
    """Where a class's share is no whole number, chance decides who gives one more, not the order of the labels."""
    y = np.arange(8) // 2
    held = [y[lo.holdout((y, y), 0.25, key=key, stratify=True)[1].indices] for key in range(200)]
    counts = np.bincount(np.concatenate(held), minlength=4)
    assert counts.min() > 60


def test_holdout_follows_the_key_alone():
    data = examples(50)
    parts = [lo.holdout(data, 0.4, key=key)[1].indices.tolist() for key in (0, 0, jax.random.key(0), 1)]
    assert parts[0] == parts[1] == parts[2] != parts[3]
    stratified = [lo.holdout(data, 0.4, key=key, stratify=True)[1].indices.tolist() for key in (0, 0, 1)]
    assert stratified[0] == stratified[1] != stratified[2]


@pytest.mark.parametrize("stratify", [False, True])
def test_holdout_of_a_holdout(stratify):
    data = examples(90)
    rest, test = lo.holdout(data, 0.2, key=0, stratify=stratify)
    train, valid = lo.holdout(rest, 0.25, key=1, stratify=stratify)
    assert [len(train), len(valid), len(test)] == [54, 18, 18]
    assert sorted(np.concatenate([train.indices, valid.indices, test.indices])) == list(range(90))
    if stratify:
        assert all((np.bincount(part.examples()[1]) == len(part) // 3).all() for part in (train, valid, test))


def test_holdout_leaves_out_what_only_fills_up():
    subset = padded(7, 12)
    rest, held = lo.holdout(subset, 0.3, key=0)
    assert sorted(np.append(rest.indices, held.indices)) == sorted(subset.indices[:7])


def test_holdout_inside_jit():
    data = examples(20)
    inside = jax.jit(lambda: lo.holdout(data, 0.5, key=0, stratify=True)[1].indices)()
    np.testing.assert_array_equal(inside, lo.holdout(data, 0.5, key=0, stratify=True)[1].indices)


# bad input ------------------------------------------------------------------------------------------------------------
BAD = {
    "fraction 0": (lambda: lo.holdout(examples(9), 0, key=0), ValueError, r"fraction must be in \(0, 1\); got 0"),
    "fraction 1": (lambda: lo.holdout(examples(9), 1.0, key=0), ValueError, r"fraction must be in \(0, 1\); got 1"),
    "NaN": (lambda: lo.holdout(examples(9), np.nan, key=0), ValueError, r"fraction must be in \(0, 1\); got nan"),
    "text": (lambda: lo.holdout(examples(9), "half", key=0), TypeError, "fraction must be a number.*'half'"),
    "nothing held out": (lambda: lo.holdout(examples(9), 0.01, key=0), ValueError, "fraction must leave.*0.01 of 9"),
    "nothing left": (lambda: lo.holdout(examples(9), 0.99, key=0), ValueError, "fraction must leave.*0.99 of 9"),
    "no labels": (lambda: lo.holdout((np.ones(9),), 0.5, key=0, stratify=True), ValueError, "stratify needs labels"),
    "no key": (lambda: lo.holdout(examples(9), 0.5, key=None), TypeError, "key must be an int.*got None"),
    "two keys": (
        lambda: lo.minibatches(examples(9), 2, key=jax.random.split(jax.random.key(0))),
        TypeError,
        "key must",
    ),
    "shuffle without key": (lambda: lo.minibatches(examples(9), 2), TypeError, "key must be an int.*got None"),
    "batch of 0": (lambda: lo.minibatches(examples(9), 0, key=0), ValueError, "batch_size must be at least 1; got 0"),
    "batch of 2.0": (lambda: lo.minibatches(examples(9), 2.0, key=0), TypeError, "batch_size must be a whole.*2.0"),
    "epoch -1": (
        lambda: lo.minibatches(examples(9), 2, key=0, epoch=-1),
        ValueError,
        "epoch must be at least 0; got -1",
    ),
    "epoch 'a'": (lambda: lo.minibatches(examples(9), 2, key=0, epoch="a"), TypeError, "epoch must be a whole.*'a'"),
    "one array": (lambda: lo.minibatches(np.ones((9, 2)), 2, key=0), TypeError, "examples must be a tuple.*ndarray"),
    "empty tuple": (lambda: lo.minibatches((), 2, key=0), TypeError, "examples must be a tuple"),
    "empty": (lambda: lo.minibatches(examples(0), 2, key=0), ValueError, "examples must hold at least 1 example"),
    "lengths": (lambda: lo.minibatches((np.ones(3), np.ones(4)), 2, key=0), ValueError, r"equal length; got.*\[3, 4\]"),
    "a number": (lambda: lo.minibatches((np.ones(3), 2.0), 2, key=0), ValueError, "one row per example"),
}


@pytest.mark.parametrize("jitted", [False, True])
@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input(call, error, message, jitted):
    with pytest.raises(error, match=message):
        jax.jit(lambda: jnp.zeros_like(jax.tree.leaves(call())[0]))() if jitted else call()


def test_a_split_that_would_depend_on_traced_values_is_refused():
    with pytest.raises(TypeError, match="key must not be traced"):
        jax.jit(lambda key: lo.holdout(examples(9), 0.5, key=key)[0].indices)(jax.random.key(0))
    with pytest.raises(TypeError, match="examples and key must not be traced"):
        jax.jit(lambda subset: lo.holdout(subset, 0.5, key=0)[0].indices)(padded(4, 6))
    with pytest.raises(TypeError, match="labels must not be traced"):
        jax.jit(lambda y: lo.holdout((y, y), 0.5, key=0, stratify=True)[0].indices)(jnp.arange(4))


def test_the_steps_of_a_traced_part_are_those_of_its_training():
    """Folds differ by one; all have the shape of the largest, and as many steps."""
    folds = lo.k_fold((np.arange(11.0),), 3, key=0)
    steps = []

    @jax.vmap
    def trial(indices, size):
        part = lo.Subset(folds.train.arrays, indices, size, folds.train.least)
        steps.append(lo.steps_per_epoch(part, 2))
        with pytest.raises(TypeError, match=r"len\(\) of a Subset must be known: .* lectopt.steps_per_epoch"):
            len(part)
        return lo.minibatches(part, 2, key=0).weights

    weights = trial(folds.train.indices, folds.train.size)
    assert steps == [weights.shape[1]] == [4]
    assert sorted(weights.sum((1, 2)).tolist()) == [7, 7, 8]
    with pytest.raises(TypeError, match=r"len\(\) of a Subset must be known"):
        len(folds.train)
    whole = lo.holdout((np.arange(11.0),), 0.2, key=0)[0]
    assert lo.steps_per_epoch(whole, 2) == len(whole) // 2 + len(whole) % 2


def test_repr_of_a_subset_is_short():
    part, _ = lo.holdout((np.zeros((60, 4), np.float32), np.zeros(60, np.int32)), 0.5, key=0)
    assert repr(part) == "Subset(30 of 60 examples: float32[4], int32[])"
