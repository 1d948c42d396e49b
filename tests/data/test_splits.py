"""Folds and held-out groups: partition laws that hold for any sizes, labels and groups, as scikit-learn keeps them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import model_selection as sk

import lectopt as lo

pytestmark = pytest.mark.filterwarnings("error")

KEYS = st.integers(0, 2**31 - 1)
SIZES = st.sampled_from([2, 3, 7, 12, 30])  # few shapes, since JAX compiles for each
IRIS = lo.datasets.iris()


def examples(n, classes=3):
    return np.arange(n, dtype=np.float32)[:, None] * [1, -1], np.arange(n) % classes


def part_of(n, loose, labels=None):
    """A part of n of 60 examples, in no order, filled up with `loose` more indices; and its rows."""
    rows = np.random.default_rng(n).permutation(60)[:n]
    y = np.zeros(60, int)
    y[rows] = 0 if labels is None else labels
    arrays = (jnp.asarray(examples(60)[0]), jnp.asarray(y))
    indices = np.append(rows, np.resize(rows[::-1], loose))
    return lo.Subset(arrays, jnp.asarray(indices), jnp.int32(n), least=n), rows


def draw_labels(data, folds):
    """Labels of which each class has at least `folds`, in any order."""
    n, classes = data.draw(st.sampled_from([17, 30]), label="n"), data.draw(st.integers(1, 4), label="classes")
    rng = np.random.default_rng(data.draw(st.integers(0, 99), label="sizes and order"))
    sizes = folds + rng.multinomial(n - folds * classes, np.ones(classes) / classes)
    return rng.permutation(np.repeat([3, -1, 7, 0][:classes], sizes))


def check_partition(folds, rows):
    """Each example is validated on once and trained on in all other folds; each part is filled up by its own rows."""
    pairs = list(folds)
    assert len(pairs) == len(folds)
    for train, valid in pairs:
        assert sorted(np.concatenate([train.indices, valid.indices])) == sorted(rows)
    assert sorted(np.concatenate([valid.indices for _, valid in pairs])) == sorted(rows)
    for whole, parts in zip((folds.train, folds.valid), zip(*pairs, strict=True), strict=True):
        sizes = [len(part) for part in parts]
        assert whole.size.tolist() == sizes
        assert whole.indices.shape == (len(folds), whole.capacity)
        assert (whole.least, whole.capacity) == (min(sizes), max(sizes))
        assert whole.indices.dtype == whole.size.dtype == np.int32
        for indices, part in zip(np.asarray(whole.indices), parts, strict=True):
            np.testing.assert_array_equal(indices[: len(part)], part.indices)
            assert set(indices.tolist()) == set(part.indices.tolist())
            assert part.indices.shape == (len(part),)


def sizes_of(folds):
    return sorted(folds.valid.size.tolist())


def validated(folds):
    """The validation parts, as sets of rows."""
    return [frozenset(valid.indices.tolist()) for _, valid in folds]


def positions(rows, subset):
    """Where rows of the arrays stand within a part."""
    where = {row: i for i, row in enumerate(np.asarray(subset.indices)[: len(subset)].tolist())}
    return [where[row] for row in np.asarray(rows).tolist()]


def class_counts(splits, labels):
    """Members of each class in each validation part: [folds, classes]."""
    values = np.unique(labels)
    return np.array([[np.sum(labels[valid] == value) for value in values] for _, valid in splits])


def own_splits(folds, subset):
    """Pairs of positions, as scikit-learn gives them."""
    return [tuple(positions(part.indices, subset) for part in pair) for pair in folds]


# k_fold, leave_one_out ------------------------------------------------------------------------------------------------
@settings(max_examples=25, deadline=None)
@given(data=st.data(), n=SIZES, key=KEYS, loose=st.integers(0, 4))
def test_k_fold_is_a_partition_into_equal_parts(data, n, key, loose):
    folds = data.draw(st.integers(2, n))
    part, rows = part_of(n, loose)
    found = lo.k_fold(part, folds, key=key)
    assert len(found) == folds
    check_partition(found, rows)
    assert sizes_of(found) == sorted(len(valid) for _, valid in sk.KFold(folds).split(rows))


@pytest.mark.parametrize(("n", "loose"), [(2, 0), (5, 0), (5, 3), (12, 1)])
def test_leave_one_out_is_scikit_learns(n, loose):
    part, rows = part_of(n, loose)
    found = lo.leave_one_out(part)
    check_partition(found, rows)
    assert (found.valid.capacity, found.valid.least, found.train.capacity, found.train.least) == (1, 1, n - 1, n - 1)
    for (train, valid), (own_train, own_valid) in zip(found, sk.LeaveOneOut().split(rows), strict=True):
        np.testing.assert_array_equal(train.indices, rows[own_train])
        np.testing.assert_array_equal(valid.indices, rows[own_valid])


# stratified_k_fold ----------------------------------------------------------------------------------------------------
@settings(max_examples=25, deadline=None)
@given(data=st.data(), folds=st.integers(2, 4), key=KEYS, loose=st.integers(0, 4))
def test_every_class_is_spread_over_all_folds(data, folds, key, loose):
    labels = draw_labels(data, folds)
    part, rows = part_of(len(labels), loose, labels)
    found = lo.stratified_k_fold(part, folds, key=key)
    assert len(found) == folds
    check_partition(found, rows)
    theirs = list(sk.StratifiedKFold(folds).split(labels, labels))
    assert sizes_of(found) == sorted(len(valid) for _, valid in theirs)
    counts = class_counts(own_splits(found, part), labels)
    assert (np.ptp(counts, axis=0) <= 1).all()
    np.testing.assert_array_equal(np.sort(counts, axis=0), np.sort(class_counts(theirs, labels), axis=0))


# groups ---------------------------------------------------------------------------------------------------------------
def check_groups(folds, subset, groups):
    for pair in own_splits(folds, subset):
        train, valid = (set(np.asarray(groups)[rows].tolist()) for rows in pair)
        assert train
        assert valid
        assert not train & valid


@settings(max_examples=25, deadline=None)
@given(data=st.data(), n=st.sampled_from([7, 12, 30]), key=KEYS, loose=st.integers(0, 4))
def test_groups_are_kept_together_and_sizes_as_equal_as_scikit_learns(data, n, key, loose):
    groups = np.array(data.draw(st.lists(st.sampled_from(list("abcdefgh")), min_size=n, max_size=n)))
    assume(len(set(groups)) >= 2)
    folds = data.draw(st.integers(2, len(set(groups))))
    part, rows = part_of(n, loose)
    found = lo.k_fold(part, folds, key=key, groups=groups)
    check_partition(found, rows)
    check_groups(found, part, groups)
    theirs = sk.GroupKFold(folds).split(rows, groups=groups)
    assert sizes_of(found) == sorted(len(valid) for _, valid in theirs)


@settings(max_examples=25, deadline=None)
@given(data=st.data(), folds=st.integers(2, 4), key=KEYS, loose=st.integers(0, 4))
def test_stratified_groups_are_kept_together(data, folds, key, loose):
    labels = np.tile([0, 1], 15)
    # Each group holds a pair of both classes, so that none could be put beside the others at no cost.
    groups = np.repeat(data.draw(st.lists(st.integers(0, 9), min_size=15, max_size=15)), 2)
    assume(len(set(groups)) >= folds)
    part, rows = part_of(30, loose, labels)
    found = lo.stratified_k_fold(part, folds, key=key, groups=groups)
    check_partition(found, rows)
    check_groups(found, part, groups)
    assert sizes_of(found) == sorted(len(valid) for _, valid in sk.GroupKFold(folds).split(rows, groups=groups))


GROUPINGS = {
    "of one class": lambda labels, rng: labels * 10 + rng.integers(0, 10, 150),
    "of all classes": lambda labels, rng: rng.integers(0, 20, 150),
    "of both kinds": lambda labels, rng: np.where(rng.random(150) < 0.5, labels * 10, 0) + rng.integers(0, 10, 150),
}


ALIKE, RARE = (0.34, 0.33, 0.33), (0.75, 0.15, 0.1)


@pytest.mark.parametrize(
    ("kind", "shares"),
    [
        *itertools.product(GROUPINGS, [ALIKE]),
        *itertools.product(["of one class", "of all classes"], [RARE]),
        ("of both kinds", RARE),
    ],
)
def test_classes_are_as_even_under_groups_as_scikit_learns(kind, shares):
    spread = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        labels = rng.choice(3, 150, p=shares)
        groups = GROUPINGS[kind](labels, rng)
        found = lo.stratified_k_fold((labels, labels), 4, key=seed, groups=groups)
        ours = np.asarray(found.valid.indices), np.asarray(found.valid.size)
        ours = [(None, indices[:size]) for indices, size in zip(*ours, strict=True)]
        theirs = sk.StratifiedGroupKFold(4).split(labels, labels, groups)
        counts = [class_counts(splits, labels) / np.bincount(labels) for splits in (ours, theirs)]
        spread.append([part.std(axis=0).sum() for part in counts])
    ours, theirs = np.mean(spread, axis=0)
    assert ours <= (theirs * (1 + 1e-9) if kind == "of one class" else theirs * 1.15)


def test_no_part_is_empty_whatever_the_groups():
    rng = np.random.default_rng(0)
    for key in range(150):
        y, groups, folds = rng.integers(0, 2, 14), rng.integers(0, 4, 14), int(rng.integers(2, 5))
        if np.bincount(y, minlength=2).min() >= folds <= len(set(groups)):
            for found in (
                lo.stratified_k_fold((y, y), folds, key=key, groups=groups),
                lo.k_fold((y, y), folds, key=key, groups=groups),
            ):
                assert min(sizes_of(found)) > 0


def test_no_part_is_empty_where_groups_are_of_one_class():
    y = np.array([0, 0, 1, 1])
    found = lo.stratified_k_fold((y, y), 2, key=0, groups=y)
    assert sizes_of(found) == [2, 2]


@settings(max_examples=25, deadline=None)
@given(data=st.data(), n=st.sampled_from([7, 12, 30]), fraction=st.floats(0.3, 0.7), key=KEYS, loose=st.integers(0, 4))
def test_holdout_of_whole_groups(data, n, fraction, key, loose):
    groups = np.array(data.draw(st.lists(st.integers(0, 5), min_size=n, max_size=n)))
    most = round(fraction * n)
    sizes = dict(zip(*np.unique(groups, return_counts=True), strict=True))
    assume(min(sizes.values()) <= most)
    part, rows = part_of(n, loose)
    rest, held = lo.holdout(part, fraction, key=key, groups=groups)
    assert sorted(np.concatenate([rest.indices, held.indices])) == sorted(rows)
    kept, out = (set(groups[positions(side.indices, part)].tolist()) for side in (rest, held))
    assert not kept & out
    assert 0 < len(held) <= most
    assert all(len(held) + sizes[group] > most for group in kept)  # no other one fits in
    for side in (rest, held):
        assert side.capacity == side.least == len(side)


def test_groups_of_one_size_meet_the_share_and_each_is_held_out_as_often():
    groups = np.repeat(list("wxyz"), 3)
    held = [set(groups[lo.holdout(examples(12), 0.5, key=key, groups=groups)[1].indices]) for key in range(300)]
    assert all(len(names) == 2 for names in held)
    counts = [sum(set(pair) == names for names in held) for pair in itertools.combinations("wxyz", 2)]
    assert stats.chisquare(counts).pvalue > 0.01


# from_indices ---------------------------------------------------------------------------------------------------------
GROUPS = np.random.default_rng(0).integers(0, 9, 150)
SPLITTERS = {
    "KFold": (sk.KFold(5, shuffle=True, random_state=0), None),
    "RepeatedStratifiedKFold": (sk.RepeatedStratifiedKFold(n_splits=3, n_repeats=2, random_state=0), None),
    "TimeSeriesSplit": (sk.TimeSeriesSplit(4), None),
    "GroupKFold": (sk.GroupKFold(3), GROUPS),
    "StratifiedGroupKFold": (sk.StratifiedGroupKFold(3), GROUPS),
    "ShuffleSplit": (sk.ShuffleSplit(4, test_size=0.2, random_state=0), None),
}


@pytest.mark.parametrize(("splitter", "groups"), SPLITTERS.values(), ids=SPLITTERS)
@pytest.mark.parametrize("of", ["arrays", "a padded part"])
def test_splitters_of_scikit_learn(splitter, groups, of):
    x, y = IRIS
    rows, data = np.arange(150), IRIS
    if of != "arrays":
        rows = np.random.default_rng(1).permutation(150)[:90]
        indices = jnp.asarray(np.append(rows, rows[:7]))
        data = lo.Subset((jnp.asarray(x), jnp.asarray(y)), indices, jnp.int32(90), least=90)
        groups = None if groups is None else groups[:90]
    theirs = list(splitter.split(x[rows], y[rows], groups))
    found = lo.from_indices(data, splitter, groups=groups)
    assert len(found) == len(theirs)
    np.testing.assert_array_equal(found[0][1].examples()[0], x[rows[theirs[0][1]]])
    for i, (pair, indices) in enumerate(zip(found, theirs, strict=True)):
        for part, filled, own in zip(pair, found.at(i), indices, strict=True):
            np.testing.assert_array_equal(part.indices, rows[own])
            assert len(filled) == len(own)
            np.testing.assert_array_equal(filled.indices[: len(own)], rows[own])
            assert set(filled.indices.tolist()) == set(rows[own].tolist())
    for whole, side in ((found.train, 0), (found.valid, 1)):
        sizes = [len(pair[side]) for pair in theirs]
        assert (whole.least, whole.capacity) == (min(sizes), max(sizes))


def test_pairs_of_indices_keep_their_order_and_need_not_hold_everything():
    pairs = [([5, 0, 3], np.array([1])), ((2,), [4, 1, 0])]
    found = lo.from_indices(examples(6), iter(pairs))
    for (train, valid), (own_train, own_valid) in zip(found, pairs, strict=True):
        assert train.indices.tolist() == list(own_train)
        assert valid.indices.tolist() == list(own_valid)
    assert found.train.indices.tolist() == [[5, 0, 3], [2, 2, 2]]


def test_the_indices_count_within_a_part():
    rest, _ = lo.holdout(examples(9), 1 / 3, key=0)
    ((train, valid),) = lo.from_indices(rest, [([0, 2], [5])])
    np.testing.assert_array_equal(train.indices, rest.indices[jnp.array([0, 2])])
    assert valid.indices.tolist() == [rest.indices[5]]


# chance ---------------------------------------------------------------------------------------------------------------
CLASSES = np.arange(24) % 2
PAIRS = np.arange(24) // 2
MEMBERS = np.repeat(np.arange(12), 2)
DRAWN = {
    "k_fold": lambda key: lo.k_fold((CLASSES, CLASSES), 4, key=key),
    "stratified_k_fold": lambda key: lo.stratified_k_fold((CLASSES, CLASSES), 4, key=key),
    "holdout of groups": lambda key: [lo.holdout((CLASSES,), 0.25, key=key, groups=PAIRS)],
    "k_fold of groups": lambda key: lo.k_fold((CLASSES,), 4, key=key, groups=PAIRS),
    "stratified_k_fold of groups": lambda key: lo.stratified_k_fold((CLASSES, CLASSES), 4, key=key, groups=PAIRS),
}


@pytest.mark.parametrize("split", DRAWN.values(), ids=DRAWN)
def test_a_split_follows_the_key_alone(split):
    parts = [validated(split(key)) for key in (0, 0, jax.random.key(0), 1, 2)]
    assert parts[0] == parts[1] == parts[2]
    assert len({frozenset(part) for part in parts}) == 3


def test_every_split_is_equally_likely():
    """Of 5 examples, each 2 are as often in the smaller of 2 parts."""
    splits = [lo.k_fold(examples(5), 2, key=key).valid for key in range(500)]
    counts = np.zeros((5, 5))
    for valid in splits:
        assert valid.size.tolist() == [3, 2]
        counts[tuple(np.sort(valid.indices[1, :2]))] += 1
    assert stats.chisquare(counts[np.triu_indices(5, 1)]).pvalue > 0.01


def test_every_member_of_a_class_is_as_often_in_each_fold():
    y = np.array([0, 1, 0, 1, 0, 1, 0, 1, 0])  # 5 and 4
    splits = [lo.stratified_k_fold((y, y), 2, key=key).valid for key in range(400)]
    first = np.array([np.isin(np.arange(9), np.asarray(valid.indices)[0, : valid.size[0]]) for valid in splits])
    for c in (0, 1):
        members = first[:, y == c]
        assert (members.sum(axis=1) == members[0].sum()).all()
        assert stats.chisquare(members.sum(axis=0)).pvalue > 0.01


def test_no_class_is_favoured_by_its_label():
    """Of 3 classes of 3 in 2 folds, each is as often the one with fewer members in the larger fold."""
    y = np.arange(9) % 3
    counts = np.zeros(3)
    for key in range(200):
        larger = max(validated(lo.stratified_k_fold((y, y), 2, key=key)), key=len)
        counts += np.bincount(y[list(larger)], minlength=3)
    assert np.ptp(counts) < 60


# views ----------------------------------------------------------------------------------------------------------------
X, Y = map(jnp.asarray, examples(12))
VIEWS = {
    "k_fold": lambda data: lo.k_fold(data, 5, key=0),
    "stratified_k_fold": lambda data: lo.stratified_k_fold(data, 3, key=0),
    "leave_one_out": lo.leave_one_out,
    "from_indices": lambda data: lo.from_indices(data, sk.KFold(5)),
    "groups": lambda data: lo.k_fold(data, 3, key=0, groups=np.arange(12) % 5),
}


@pytest.mark.parametrize("split", VIEWS.values(), ids=VIEWS)
def test_nothing_is_copied(split):
    whole = lo.Subset((X, Y), jnp.arange(12), jnp.int32(12), least=12)
    for data in ((X, Y), whole):
        folds = split(data)
        for part in (folds.train, folds.valid, *folds[1], *folds.at(1), *next(iter(folds))):
            assert part.arrays[0] is X
            assert part.arrays[1] is Y


def test_vmap_maps_the_indices_alone():
    folds = lo.k_fold((X, Y), 5, key=0)

    def part(i, side):
        subset = folds.at(i)[side]
        return subset.arrays, (subset.indices, subset.size)

    for side, whole in enumerate((folds.train, folds.valid)):
        arrays, (indices, size) = jax.vmap(lambda i, side=side: part(i, side), out_axes=(None, 0))(jnp.arange(5))
        assert arrays[0].shape == X.shape  # out_axes=None is refused where they had been mapped
        np.testing.assert_array_equal(indices, whole.indices)
        np.testing.assert_array_equal(size, whole.size)


def test_folds_go_through_jit():
    folds = lo.k_fold((X, Y), 5, key=0)
    sizes = jax.jit(lambda folds: jnp.stack([folds.at(i)[1].size for i in range(len(folds))]))(folds)
    np.testing.assert_array_equal(sizes, [3, 3, 2, 2, 2])


def test_folds_as_text_and_by_number():
    folds = lo.k_fold(IRIS, 4, key=0)
    assert repr(folds) == "Folds(4 x (112 to 113 training, 37 to 38 validation examples))"
    assert [len(valid) for _, valid in folds] == [38, 38, 37, 37]
    np.testing.assert_array_equal(folds[-1][1].indices, list(folds)[3][1].indices)


@pytest.mark.parametrize("i", [4, -5])
def test_no_such_fold(i):
    with pytest.raises(IndexError):
        lo.k_fold(IRIS, 4, key=0)[i]


TASK = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs), standardize=True)


@pytest.mark.slow
def test_training_on_folds_side_by_side_is_training_on_each_alone():
    folds = lo.k_fold(IRIS, 4, key=0)  # 112 or 113 examples: 7 or 8 batches of 16

    def run(train, valid):
        run = lo.train(TASK, lo.momentum(0.1, 0.9), train, valid=valid, batch_size=16, epochs=3, key=0)
        return run.params, run.model_state, run.metrics, run.history.epochs

    together = jax.jit(jax.vmap(lambda i: run(*folds.at(i))))(jnp.arange(4))
    for i, pair in enumerate(folds):
        alone = jax.jit(run)(*pair)
        lane = jax.tree.map(lambda leaf, i=i: leaf[i], together)
        assert jax.tree.structure(alone) == jax.tree.structure(lane)
        for one, other in zip(jax.tree.leaves(alone), jax.tree.leaves(lane), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


# bad input ------------------------------------------------------------------------------------------------------------
def of(y):
    return np.ones(len(y)), np.asarray(y)


def splits(*pairs):
    return lambda: lo.from_indices(examples(9), list(pairs))


k_fold, stratified = lo.k_fold, lo.stratified_k_fold
BAD = {
    "1 fold": (lambda: k_fold(examples(9), 1, key=0), ValueError, "folds must be at least 2; got 1"),
    "-2 folds": (lambda: k_fold(examples(9), -2, key=0), ValueError, "folds must be at least 2; got -2"),
    "2.0 folds": (lambda: k_fold(examples(9), 2.0, key=0), TypeError, r"folds must be a whole number.*got 2\.0"),
    "True folds": (lambda: k_fold(examples(9), True, key=0), TypeError, "folds must be a whole number.*got True"),
    "NaN folds": (lambda: stratified(examples(9), np.nan, key=0), TypeError, "folds must be a whole.*got nan"),
    "folds in words": (lambda: stratified(examples(9), "2", key=0), TypeError, "folds must be a whole.*got '2'"),
    "1 stratified fold": (lambda: stratified(examples(9), 1, key=0), ValueError, "folds must be at least 2; got 1"),
    "10 of 9": (lambda: k_fold(examples(9), 10, key=0), ValueError, "folds.*at most.*number of examples; got 10 of 9"),
    "10 of part": (lambda: k_fold(part_of(9, 5)[0], 10, key=0), ValueError, "number of examples; got 10 of 9 examples"),
    "stratified 10 of 9": (lambda: stratified(of([0] * 9), 10, key=0), ValueError, "number of examples; got 10 of 9"),
    "small class": (
        lambda: stratified(of([4, 4, 4, 7, 7, 7, 7, 5, 5]), 3, key=0),
        ValueError,
        "folds must be at most the number of members of each class; got 3, and class 5 has 2",
    ),
    "small class of a part": (
        lambda: stratified(part_of(7, 20, [0, 0, 0, 0, 6, 6, 6])[0], 4, key=0),
        ValueError,
        "got 4, and class 6 has 3",
    ),
    "no labels": (lambda: stratified((np.ones(9),), 3, key=0), ValueError, r"stratify needs labels:.*whole numbers"),
    "labels of 2 axes": (lambda: stratified((np.ones((9, 2, 1), int),), 3, key=0), ValueError, r"of shape \(n,\)"),
    "columns of floats": (
        lambda: stratified((np.ones((9, 2)),), 3, key=0),
        ValueError,
        r"or \(n, columns\); got float32",
    ),
    "no key": (lambda: k_fold(examples(9), 3, key=None), TypeError, "key must be an int.*got None"),
    "two keys": (lambda: k_fold(examples(9), 3, key=jax.random.split(jax.random.key(0))), TypeError, "key must be an"),
    "text as key": (lambda: stratified(examples(9), 3, key="a"), TypeError, "key must be an int.*got 'a'"),
    "one array": (lambda: k_fold(np.ones((9, 2)), 3, key=0), TypeError, "examples must be a tuple.*got ndarray"),
    "one array, left out": (lambda: lo.leave_one_out(np.ones(9)), TypeError, "examples must be a tuple.*got ndarray"),
    "lengths": (lambda: k_fold((np.ones(3), np.ones(4)), 2, key=0), ValueError, r"equal length; got lengths \[3, 4\]"),
    "1 left out": (lambda: lo.leave_one_out((np.ones(1),)), ValueError, "examples must be at least 2.*got 1"),
    "groups too long": (
        lambda: k_fold(examples(9), 3, key=0, groups=range(10)),
        ValueError,
        r"groups must have shape \(9,\), one entry for each example; got \(10,\)",
    ),
    "groups of all": (
        lambda: stratified(part_of(9, 5)[0], 3, key=0, groups=range(60)),
        ValueError,
        r"groups must have shape \(9,\).*got \(60,\)",
    ),
    "one group": (lambda: lo.holdout(examples(9), 0.5, key=0, groups=1), ValueError, r"groups.*\(9,\).*got \(\)"),
    "few groups": (
        lambda: k_fold(examples(9), 4, key=0, groups=np.arange(9) % 3),
        ValueError,
        "folds must be at most the number of groups; got 4 of 3 groups",
    ),
    "few groups, stratified": (
        lambda: stratified(examples(9), 3, key=0, groups=np.arange(9) % 2),
        ValueError,
        "folds must be at most the number of groups; got 3 of 2 groups",
    ),
    "groups too large": (
        lambda: lo.holdout(examples(9), 0.3, key=0, groups=[1] * 5 + [2] * 4),
        ValueError,
        "groups must fit into the held-out part: each one has more than 3 examples",
    ),
    "both": (
        lambda: lo.holdout(examples(9), 0.4, key=0, stratify=True, groups=range(9)),
        ValueError,
        "one of stratify and groups, not both",
    ),
    "no pairs": (splits(), ValueError, r"splits must be one or more pairs \(training indices, validation indices\)"),
    "three parts": (splits(([0], [1], [2])), ValueError, "splits must be one or more pairs"),
    "overlap": (
        splits(([0], [1]), ([3, 4, 2], [1, 4])),
        ValueError,
        "train and validate on the same.*pair 1 does on 4",
    ),
    "index 9": (splits(([0, 9], [1])), ValueError, "splits must hold indices from 0 to 8; got 0 to 9"),
    "index -1": (splits(([0], [2, -1])), ValueError, "splits must hold indices from 0 to 8; got -1 to 2"),
    "index within all": (
        lambda: lo.from_indices(part_of(5, 3)[0], [([0], [5])]),
        ValueError,
        "splits must hold indices from 0 to 4; got 5 to 5",
    ),
    "empty part": (splits(([0], np.array([], int))), ValueError, "splits must not hold an empty part"),
    "index 1.0": (splits(([0], [1.0])), TypeError, r"splits must hold arrays of whole numbers; got float64.*\(1,\)"),
    "a mask": (splits(([True] * 9, [False] * 9)), TypeError, r"splits must hold arrays of whole numbers; got bool"),
    "two axes": (splits(([[0]], [1])), TypeError, r"splits must hold arrays of whole.*of shape \(1, 1\)"),
    "one pair": (lambda: lo.from_indices(examples(9), ([0], [1])), TypeError, r"splits must hold arrays.*shape \(\)"),
    "a number": (lambda: lo.from_indices(examples(9), 5), TypeError, "splits must be pairs.*or a splitter; got int"),
    "ragged rows": (splits(([[0], [1, 2]], [3])), TypeError, "splits must be an array of numbers; got list"),
    "names of rows": (splits((["a"], ["b"])), TypeError, "splits must be an array of numbers; got list of <U1"),
    "groups beside pairs": (
        lambda: lo.from_indices(examples(9), [([0], [1])], groups=range(9)),
        ValueError,
        "groups are for a splitter",
    ),
    "floats as labels": (lambda: stratified(of([0.0] * 9), 2, key=0), ValueError, r"got float32 of shape \(9,\)"),
    "strings as labels": (
        lambda: stratified((np.ones(9), np.array(["a"] * 9)), 2, key=0),
        TypeError,
        "got ndarray of <U1",
    ),
    "a tree of labels": (lambda: stratified((np.ones(9), {"a": np.ones(9, int)}), 2, key=0), ValueError, "got dict"),
    "groups in two columns": (
        lambda: k_fold(examples(9), 2, key=0, groups=np.ones((9, 1))),
        ValueError,
        r"got \(9, 1\)",
    ),
    "groups that do not compare": (
        lambda: k_fold(examples(9), 2, key=0, groups=[{}] * 9),
        TypeError,
        "groups must be numbers, strings, or others that can be compared: unhashable",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


UNCLEAR = {
    "an empty list": (splits(([0], [])), ValueError, "splits must not hold an empty part"),
    "text": (lambda: lo.from_indices(examples(9), "5"), TypeError, "splits must be"),
    "bare numbers": (splits(1, 2), TypeError, "splits must"),
    "one example": (lambda: lo.leave_one_out((np.ones(1),)), ValueError, "examples must"),
}


@pytest.mark.parametrize(("call", "error", "message"), UNCLEAR.values(), ids=UNCLEAR)
def test_bad_input_is_told_clearly(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("split", [k_fold, stratified])
def test_a_split_that_would_depend_on_traced_values_is_refused(split):
    for call, values in (
        (lambda key: split(examples(9), 3, key=key), jax.random.key(0)),
        (lambda part: split(part, 3, key=0), part_of(9, 2)[0]),
    ):
        with pytest.raises(TypeError, match="examples and key must not be traced here: split outside of jit and vmap"):
            jax.jit(lambda values, call=call: call(values).valid.indices)(values)


def test_other_splits_of_traced_parts_are_refused():
    for split in (lo.leave_one_out, lambda part: lo.from_indices(part, [([0], [1])])):
        with pytest.raises(TypeError, match="examples and key must not be traced here"):
            jax.jit(lambda part, split=split: split(part).valid.indices)(part_of(9, 2)[0])
    with pytest.raises(TypeError, match="labels must not be traced, for stratify"):
        jax.jit(lambda y: stratified((y, y), 2, key=0).valid.indices)(jnp.arange(8) % 2)


def test_splits_of_data_closed_over_by_a_compiled_function():
    inside = jax.jit(lambda: k_fold((X, Y), 5, key=0).valid.indices)()
    np.testing.assert_array_equal(inside, k_fold((X, Y), 5, key=0).valid.indices)


# A few examples of each class -----------------------------------------------------------------------------------------
@given(st.data(), KEYS)
@settings(max_examples=30, deadline=None)
def test_few_labels(data, key):
    """So many of each class, each once, out of the part that is given, however it is filled up."""
    labels = draw_labels(data, 3)
    part, rows = part_of(len(labels), data.draw(st.sampled_from([0, 3]), label="loose"), labels)
    few = lo.few_labels(part, 3, key=key)
    assert few.arrays is part.arrays
    assert len(few) == few.capacity == few.least == 3 * len(set(labels))
    drawn = np.asarray(few.indices)
    assert drawn.dtype == np.int32
    assert len(set(drawn)) == len(drawn)
    assert set(drawn) <= set(rows)
    found, counts = np.unique(few.examples()[1], return_counts=True)
    assert set(found) == set(labels)
    assert np.all(counts == 3)
    np.testing.assert_array_equal(drawn, lo.few_labels(part, 3, key=jax.random.key(key)).indices)


def test_few_labels_reaches_every_example():
    """Equally often, one key as likely as the other; the key may be traced."""
    part, rows = part_of(12, 0, np.arange(12) % 3)
    drawn = jax.jit(jax.vmap(lambda key: lo.few_labels(part, 2, key=key).indices))(
        jax.random.split(jax.random.key(0), 600)
    )
    found, counts = np.unique(drawn, return_counts=True)
    assert sorted(found) == sorted(rows)
    assert np.all(np.abs(counts - 300) < 75)  # of 600 draws of 2 out of 4
    assert len(np.unique(np.sort(drawn, axis=1), axis=0)) > 100
    alone = lo.few_labels(part, 2, key=jax.random.split(jax.random.key(0), 600)[5])
    np.testing.assert_array_equal(alone.indices, drawn[5])


FEW = {
    "too many": (
        {"per_class": 51},
        ValueError,
        "per_class must be at most 50, as many examples as class 0 has; got 51",
    ),
    "none": ({"per_class": 0}, ValueError, "per_class must be at least 1; got 0"),
    "a share": ({"per_class": 0.5}, TypeError, "per_class must be a whole number"),
    "no labels": ({"examples": IRIS[:1]}, ValueError, "few_labels needs labels"),
    "targets": ({"examples": (IRIS[0], IRIS[0][:, 0])}, ValueError, "few_labels needs labels"),
    "folds": (
        {"examples": lo.k_fold(IRIS, 3, key=0).train},
        ValueError,
        r"one part; got 3 folds: take one, folds\[0\]",
    ),
    "an array": ({"examples": IRIS[0]}, TypeError, "examples must be a tuple of arrays"),
    "no key": ({"key": None}, TypeError, "key must be an int"),
}


@pytest.mark.parametrize("name", FEW)
def test_few_labels_of_bad_input(name):
    options, error, message = FEW[name]
    with pytest.raises(error, match=message):
        lo.few_labels(**{"examples": IRIS, "per_class": 2, "key": 0} | options)


def test_few_labels_needs_the_labels():
    with pytest.raises(TypeError, match="labels must not be traced"):
        jax.jit(lambda y: lo.few_labels((IRIS[0], y), 2, key=0).indices)(jnp.asarray(IRIS[1]))
    with pytest.raises(TypeError, match="must not be traced"):
        jax.jit(lambda part: lo.few_labels(part, 2, key=0).indices)(part_of(12, 0, np.arange(12) % 3)[0])


MISSING = {
    "NaN": [0, 0, 1.0, np.nan, 1, np.nan],
    "None": np.array(["a", "a", "b", None, "b", None], object),
    "no time": np.array(["2020", "2020", "2021", "NaT", "2021", "NaT"], "datetime64[ns]"),
    "masked": np.ma.masked_array([0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 0, 1]),
}


@pytest.mark.parametrize("groups", MISSING.values(), ids=MISSING)
@pytest.mark.parametrize("split", [lo.k_fold, lo.stratified_k_fold, lo.holdout])
def test_missing_groups_are_refused(split, groups):
    how = {"folds": 2} if split is not lo.holdout else {"fraction": 0.5}
    with pytest.raises(ValueError, match=r"groups must hold a group for each example; 2 of 6 have none.* in row 3"):
        split(of([0, 1] * 3), **how, key=0, groups=groups)


def test_missing_groups_of_pandas_are_refused():
    pd = pytest.importorskip("pandas")
    for groups in (pd.Series([1, 1, 2, None, 2, None], dtype="Int64"), pd.Categorical([*"aab", None, "b", None])):
        with pytest.raises(ValueError, match="2 of 6 have none, the first in row 3"):
            lo.k_fold(of([0, 1] * 3), 2, key=0, groups=groups)


@pytest.mark.parametrize("targets", [{"a": np.arange(6), "b": np.ones((6, 2))}, (np.arange(6), np.ones(6))], ids=type)
def test_trees_of_targets(targets):
    """They are split like arrays; a splitter that asks for labels is told that there are none."""
    data = np.ones((6, 2)), targets
    for folds in (lo.from_indices(data, sk.KFold(3)), lo.k_fold(data, 3, key=0), lo.leave_one_out(data)):
        for train, valid in folds:
            for leaf in jax.tree.leaves(valid.examples()[-1]):
                assert len(leaf) == len(valid) == 6 - len(train)
    with pytest.raises(ValueError, match=r"splits must be a splitter that can split these.* without labels"):
        lo.from_indices(data, sk.StratifiedKFold(2))
