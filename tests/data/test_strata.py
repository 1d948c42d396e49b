"""Splits stratified by columns of labels, by quantiles of targets, and by strata that are given."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import model_selection as sk

import lectopt as lo

pytestmark = pytest.mark.filterwarnings("error")

RNG = np.random.default_rng(0)
ROWS = np.arange(60)
X = ROWS.astype(np.float32)
COLUMNS = RNG.permutation(np.repeat([[0, 2], [0, -1], [5, 2], [5, -1]], [31, 17, 8, 4], axis=0))
PLAIN = np.array([2 * (first == 5) + (second == 2) for first, second in COLUMNS])  # the same four, by hand
TARGETS = RNG.permutation(60).astype(np.float32) ** 3
KEYS = st.integers(0, 2**31 - 1)


def part_of(*arrays):
    """A part of 40 of 60 examples, in no order, filled up with 3 more indices; and its rows."""
    rows = np.random.default_rng(1).permutation(60)[:40]
    arrays = tuple(map(jnp.asarray, arrays))
    return lo.Subset(arrays, jnp.asarray(np.append(rows, rows[:3])), jnp.int32(40), least=40), rows


def counts(parts, strata):
    """Members of each stratum, numbered from 0 on, in each part: [parts, strata]."""
    return np.array([np.bincount(strata[np.asarray(rows)], minlength=strata.max() + 1) for rows in parts])


def validated(folds):
    return [valid.indices.tolist() for _, valid in folds]


def check_folds(found, strata, rows=ROWS):
    """Every row is validated on once, and the strata have the counts of scikit-learn's folds."""
    parts = validated(found)
    assert sorted(np.concatenate(parts)) == sorted(rows.tolist())
    ours = counts(parts, strata)
    assert np.ptp(ours, axis=0).max() <= 1
    assert np.ptp(ours.sum(axis=1)) <= 1
    splits = sk.StratifiedKFold(len(found)).split(rows, strata[rows])
    theirs = counts([rows[valid] for _, valid in splits], strata)
    np.testing.assert_array_equal(np.sort(ours, axis=0), np.sort(theirs, axis=0))


def check_held_out(held, strata, rows=ROWS):
    ours, whole = counts([held.indices], strata)[0], np.bincount(strata[rows])
    assert (np.abs(ours - len(held) / len(rows) * whole) < 1).all()


def quantiles(targets, count):
    """Plainly: the examples in order, cut into `count` parts; equal ones go where the first of them went."""
    first = {value: sum(other < value for other in targets) for value in targets}
    found = [first[value] * count // len(targets) for value in targets]
    return np.unique(found, return_inverse=True)[1]


# columns of labels ----------------------------------------------------------------------------------------------------
@settings(max_examples=10, deadline=None)
@given(folds=st.integers(2, 4), key=KEYS)
def test_each_combination_of_labels_is_a_stratum(folds, key):
    found = lo.stratified_k_fold((X, COLUMNS), folds, key=key)
    check_folds(found, PLAIN)
    assert validated(found) == validated(lo.stratified_k_fold((X, PLAIN), folds, key=key))
    rest, held = lo.holdout((X, COLUMNS), 0.3, key=key, stratify=True)
    check_held_out(held, PLAIN)
    assert sorted(np.append(rest.indices, held.indices)) == list(range(60))


def test_a_rare_combination_is_told_of_as_a_rare_class():
    with pytest.raises(ValueError, match=r"members of each class; got 5, and class \[5, -1\] has 4"):
        lo.stratified_k_fold((X, COLUMNS), 5, key=0)
    once = np.append(COLUMNS[:-1], [[9, 9]], axis=0)
    check_held_out(lo.holdout((X, once), 0.5, key=0, stratify=True)[1], np.append(PLAIN[:-1], 4))


def test_few_labels_of_each_combination():
    few = lo.few_labels((X, COLUMNS), 4, key=0)
    np.testing.assert_array_equal(np.bincount(PLAIN[few.indices]), [4, 4, 4, 4])
    np.testing.assert_array_equal(few.indices, lo.few_labels((X, PLAIN), 4, key=0).indices)
    with pytest.raises(
        ValueError, match=r"per_class must be at most 4, as many examples as class \[5, -1\] has; got 5"
    ):
        lo.few_labels((X, COLUMNS), 5, key=0)


# quantiles ------------------------------------------------------------------------------------------------------------
@settings(max_examples=15, deadline=None)
@given(count=st.integers(2, 15), key=KEYS)
def test_quantiles_are_pandas(count, key):
    pandas = pytest.importorskip("pandas")
    if 60 % count == 0:  # else some are larger by one, by another rule
        np.testing.assert_array_equal(quantiles(TARGETS, count), pandas.qcut(TARGETS, count, labels=False))
    found = lo.stratified_k_fold((X, TARGETS), 4, key=key, stratify=count)
    check_folds(found, quantiles(TARGETS, count))
    check_held_out(lo.holdout((X, TARGETS), 0.3, key=key, stratify=count)[1], quantiles(TARGETS, count))


@pytest.mark.parametrize(
    "targets",
    [np.maximum(TARGETS, np.median(TARGETS)), np.floor(TARGETS / TARGETS.max() * 3.2), np.arange(60) // 7, X[:, None]],
    ids=["half alike", "few values", "whole numbers", "a column"],
)
def test_equal_targets_are_in_one_quantile(targets):
    strata = quantiles(targets.ravel().tolist(), 5)
    if np.bincount(strata).min() >= 3:
        check_folds(lo.stratified_k_fold((X, targets), 3, key=0, stratify=np.int64(5)), strata)
    for key in range(3):
        check_held_out(lo.holdout((X, targets), 0.35, key=key, stratify=5)[1], strata)


def test_quantiles_are_those_of_the_part():
    part, rows = part_of(X, TARGETS)
    strata = np.zeros(60, int)
    strata[rows] = quantiles(TARGETS[rows], 8)
    check_folds(lo.stratified_k_fold(part, 5, key=0, stratify=8), strata, rows)
    check_held_out(lo.holdout(part, 0.3, key=0, stratify=8)[1], strata, rows)


def test_few_examples_in_a_quantile():
    with pytest.raises(ValueError, match="members of each quantile; got 5, and quantile 1 has 4"):
        lo.stratified_k_fold((X, X), 5, key=0, stratify=15)
    with pytest.raises(ValueError, match="members of each quantile; got 8, and quantile 7 has 1"):
        lo.stratified_k_fold((X, np.maximum(X, 51)), 8, key=0, stratify=8)


# strata that are given ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("stratify", [PLAIN, COLUMNS, PLAIN.tolist(), jnp.asarray(COLUMNS), np.uint8(PLAIN)])
def test_strata_that_are_given(stratify):
    found = lo.stratified_k_fold((X, TARGETS), 4, key=3, stratify=stratify)
    assert validated(found) == validated(lo.stratified_k_fold((X, PLAIN), 4, key=3))
    held = [
        lo.holdout((X, y), 0.3, key=3, stratify=given)[1].indices for y, given in ((TARGETS, stratify), (PLAIN, True))
    ]
    np.testing.assert_array_equal(*held)


def test_strata_that_are_given_are_in_the_order_of_the_part():
    part, rows = part_of(X)
    check_folds(lo.stratified_k_fold(part, 2, key=0, stratify=COLUMNS[rows]), PLAIN, rows)
    check_held_out(lo.holdout(part, 0.3, key=0, stratify=COLUMNS[rows] == 2)[1], PLAIN % 2, rows)


def test_strata_beside_groups():
    groups = np.arange(60) // 2
    found = lo.stratified_k_fold((X, TARGETS), 3, key=0, groups=groups, stratify=PLAIN)
    assert validated(found) == validated(lo.stratified_k_fold((X, PLAIN), 3, key=0, groups=groups))


def test_strata_follow_the_key_alone():
    for stratify in (5, COLUMNS):
        found = [
            np.asarray(split.indices).tolist()
            for key in (0, jax.random.key(0), 1)
            for split in (lo.holdout((X, TARGETS), 0.3, key=key, stratify=stratify)[1],)
        ]
        assert found[0] == found[1] != found[2]


# bad input ------------------------------------------------------------------------------------------------------------
BAD = {
    "1 quantile": (X, 1, TypeError, r"^stratify must be True or False; got 1 \(int\). Or give at least 2 quantiles"),
    "5.0 quantiles": (X, 5.0, TypeError, r"^stratify must be True or False; got 5.0 \(float\)"),
    "None": (X, None, TypeError, "^stratify must be True or False; got None"),
    "a name": (X, "site", TypeError, "^stratify must be True or False; got 'site'"),
    "61 quantiles": (X, 61, ValueError, "^stratify must be at most the number of examples; got 61 quantiles of 60 exa"),
    "NaN": (np.where(X == 7, np.nan, X), 5, ValueError, "^targets to stratify by must be finite; 1 of 60.*in row 7"),
    "two targets": (np.stack([X, X], 1), 5, ValueError, r"^stratify by quantiles needs targets.*got shape \(60, 2\)"),
    "a tree": ({"a": X}, 5, ValueError, "^stratify by quantiles needs targets of shape .* got dict"),
    "flags": (X > 7, 5, ValueError, "^stratify by quantiles needs targets that are real numbers; got bool"),
    "floats": (X, X, TypeError, "^stratify must hold whole numbers; got float32. Give a number of quantiles"),
    "names": (X, ["a"] * 60, TypeError, "^stratify must be an array of numbers; got list of <U1: number the classes"),
    "ragged": (X, [[1], [1, 2]], TypeError, "^stratify must be an array of numbers; got list"),
    "too few": (X, PLAIN[1:], ValueError, r"^stratify must have shape \(60,\) or \(60, columns\).*got \(59,\)"),
    "three axes": (X, COLUMNS[..., None], ValueError, r"^stratify must have shape .*got \(60, 2, 1\)"),
    "no column": (X, COLUMNS[:, :0], ValueError, r"^stratify must have shape .*got \(60, 0\)"),
    "no column of labels": (
        COLUMNS[:, :0],
        True,
        ValueError,
        r"^stratify needs labels: .*got int32 of shape \(60, 0\)",
    ),
}


@pytest.mark.parametrize(("targets", "stratify", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input(targets, stratify, error, message):
    for split, size in ((lo.stratified_k_fold, 2), (lo.holdout, 0.3)):
        with pytest.raises(error, match=message):
            split((X, targets), size, key=0, stratify=stratify)


def test_strata_where_none_are_taken():
    with pytest.raises(ValueError, match=r"stratify must not be False: take lectopt\.k_fold"):
        lo.stratified_k_fold((X, PLAIN), 2, key=0, stratify=False)
    for stratify in (5, PLAIN, PLAIN.tolist()):
        with pytest.raises(ValueError, match="one of stratify and groups, not both"):
            lo.holdout((X, X), 0.3, key=0, stratify=stratify, groups=PLAIN)


def test_traced_strata_are_refused():
    for call, values, message in (
        (lambda y: lo.holdout((X, y), 0.3, key=0, stratify=5), X, "targets must not be traced, for stratify"),
        (lambda y: lo.holdout((X, X), 0.3, key=0, stratify=y), PLAIN, "stratify must not be traced"),
    ):
        with pytest.raises(TypeError, match=message):
            jax.jit(lambda y, call=call: call(y)[0].indices)(values)
