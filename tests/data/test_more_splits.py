"""Splits in time, of one group each, repeated; and what makes folds where a search asks for them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import model_selection as sk

import lectopt as lo
from lectopt.data.as_folds import as_folds

pytestmark = pytest.mark.filterwarnings("error")

X, Y = np.arange(46, dtype=np.float32).reshape(23, 2), np.arange(23) % 2
ROWS = np.random.default_rng(0).permutation(23)[:17]
PART = lo.Subset((jnp.asarray(X), jnp.asarray(Y)), jnp.asarray(np.append(ROWS, ROWS[:3])), jnp.int32(17), least=17)


def check_splits(found, theirs, rows):
    assert len(found) == len(theirs)
    for pair, own in zip(found, theirs, strict=True):
        for part, positions in zip(pair, own, strict=True):
            np.testing.assert_array_equal(part.indices, rows[positions])


# time_series_split ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("max_train_size", [None, 1, 4])
@pytest.mark.parametrize("test_size", [None, 1, 3])
@pytest.mark.parametrize("gap", [0, 2])
@pytest.mark.parametrize("folds", [2, 3])
def test_time_is_split_as_by_scikit_learn(folds, gap, test_size, max_train_size):
    theirs = sk.TimeSeriesSplit(folds, gap=gap, test_size=test_size, max_train_size=max_train_size)
    options = {"gap": gap, "test_size": test_size, "max_train_size": max_train_size}
    for data, rows in (((X, Y), np.arange(23)), (PART, ROWS)):
        check_splits(lo.time_series_split(data, folds, **options), list(theirs.split(rows)), rows)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"folds": 1}, ValueError, "folds must be at least 2"),
        ({"folds": 2.0}, TypeError, "folds must be a whole number"),
        ({"folds": 23}, ValueError, "folds must leave an example to train on"),
        ({"folds": 4, "test_size": 5, "gap": 3}, ValueError, "folds must leave an example .* 4 of 5 examples"),
        ({"folds": 3, "gap": -1}, ValueError, "gap must be at least 0"),
        ({"folds": 3, "test_size": 0}, ValueError, "test_size must be at least 1"),
        ({"folds": 3, "max_train_size": 0}, ValueError, "max_train_size must be at least 1"),
    ],
)
def test_time_that_cannot_be_split(options, error, message):
    with pytest.raises(error, match=message):
        lo.time_series_split((X, Y), **options)


# leave_one_group_out --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "groups", [np.arange(17) * 7 % 5, np.array(list("bacbacbacbacbacba"))], ids=["numbers", "text"]
)
def test_each_group_is_left_out_as_by_scikit_learn(groups):
    theirs = list(sk.LeaveOneGroupOut().split(ROWS, groups=groups))
    check_splits(lo.leave_one_group_out(PART, groups=groups), theirs, ROWS)


@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        (np.zeros(23), ValueError, "groups must be at least 2"),
        (np.zeros(22), ValueError, "groups must have shape"),
        ([None, *range(22)], ValueError, "groups must hold a group for each example"),
        (["a", *range(22)], TypeError, "groups must be numbers, strings, or others that can be sorted"),
    ],
)
def test_groups_that_cannot_be_left_out(groups, error, message):
    with pytest.raises(error, match=message):
        lo.leave_one_group_out((X, Y), groups=groups)


# repeated -------------------------------------------------------------------------------------------------------------
def test_repetitions_stand_one_after_the_other():
    found = lo.repeated(lambda key: lo.stratified_k_fold(PART, 3, key=key), 2, key=5)
    keys = [jax.random.fold_in(jax.random.key(5), i) for i in range(2)]
    wanted = [pair for key in keys for pair in lo.stratified_k_fold(PART, 3, key=key)]
    assert len(found) == len(wanted) == 6
    for pair, own in zip(found, wanted, strict=True):
        for part, other in zip(pair, own, strict=True):
            np.testing.assert_array_equal(part.indices, other.indices)
            assert part.arrays[0] is PART.arrays[0]
    valid = np.sort([np.concatenate([v.indices for _, v in list(found)[i : i + 3]]) for i in (0, 3)])
    np.testing.assert_array_equal(valid, [np.sort(ROWS)] * 2)
    assert set(found[0][1].indices.tolist()) != set(found[3][1].indices.tolist())


def test_a_part_that_is_held_out_several_times():
    found = lo.repeated(lambda key: lo.holdout(PART, 0.2, key=key), 3, key=0)
    assert [len(valid) for _, valid in found] == [3, 3, 3]


@pytest.mark.parametrize(
    ("split", "repeats", "error", "message"),
    [
        (lo.k_fold(PART, 2, key=0), 2, TypeError, "split must be a function of a key"),
        (
            lambda _: None,
            2,
            TypeError,
            r"split must return a pair \(train, valid\), or lectopt.Folds; it returned None",
        ),
        (lambda _: (X, Y), 2, TypeError, "split must return a pair of Subsets"),
        (lambda key: lo.k_fold(PART, 2, key=key), 0, ValueError, "repeats must be at least 1"),
        (
            lambda key: lo.k_fold((jax.random.normal(key, (6,)),), 2, key=key),
            2,
            ValueError,
            "split must return parts of the same examples",
        ),
    ],
)
def test_what_cannot_be_repeated(split, repeats, error, message):
    with pytest.raises(error, match=message):
        lo.repeated(split, repeats, key=0)


# What makes folds where a search asks for them ------------------------------------------------------------------------
def test_folds_are_made_by_splitters_and_functions():
    check_splits(as_folds(PART, sk.KFold(4), 0), list(sk.KFold(4).split(ROWS)), ROWS)
    made = as_folds(PART, lambda part: lo.time_series_split(part, 3), 0)
    check_splits(made, list(sk.TimeSeriesSplit(3).split(ROWS)), ROWS)


@pytest.mark.parametrize(
    ("folds", "error", "message"),
    [
        (lambda part: [part], TypeError, "folds must return lectopt.Folds where it is a function of the examples"),
        (lambda _: lo.k_fold((X, Y), 2, key=0), ValueError, "folds must be over the examples that are given"),
        (sk.GroupKFold(2), ValueError, "splits must be a splitter that can split these examples"),
        ("5", TypeError, "folds must be a whole number, a share"),
    ],
)
def test_what_makes_no_folds(folds, error, message):
    with pytest.raises(error, match=message):
        as_folds(PART, folds, 0)
