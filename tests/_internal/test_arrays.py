"""Users' arrays: what is numbers is taken as they are, and nothing is cut short without a word."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import lectopt as lo
from lectopt._internal import arrays

pd = pytest.importorskip("pandas")

ONES = np.ones(6)
SECONDS = 1.7e9 + 60 * np.arange(100.0)
NUMBERS = {
    "a frame": (pd.DataFrame({"a": ONES, "b": np.arange(6), "c": ONES > 0}), np.stack([ONES, np.arange(6), ONES], 1)),
    "a frame of pandas' own types": (
        pd.DataFrame({"a": ONES, "b": range(6), "c": ONES > 0}).astype({"b": "Int64", "c": "boolean"}),
        np.stack([ONES, np.arange(6), ONES], 1),
    ),
    "a series of integers": (pd.Series(np.arange(6), dtype="Int64"), np.arange(6)),
    "long doubles": (ONES.astype(np.longdouble), ONES),
    "booleans": (ONES > 0, ONES > 0),
    "whole numbers that fit": (np.array([2**31 - 1, -(2**31)]), np.array([2**31 - 1, -(2**31)])),
    "bfloat16": (ONES.astype(jnp.bfloat16), ONES),
    "large and far apart": (np.array([1e9, 1e9 + 0.1, 2e9]), np.array([1e9, 1e9 + 0.1, 2e9], np.float32)),
    "a constant": (np.full(6, 0.1), np.full(6, np.float32(0.1))),
    "a constant with the noise of float64": (0.1 + 1e-17 * np.arange(6), np.full(6, np.float32(0.1))),
    "near, and still apart": (np.array([1013.25, 1013.2501]), np.array([1013.25, 1013.2501], np.float32)),
    "a feature that vanishes": (np.array([[1, 1e-60], [2, 2e-60]]), np.array([[1, 0], [2, 0]])),
    "whole numbers in floats": (2.0**23 + np.arange(6), 2.0**23 + np.arange(6)),
    "NaN and infinite": (np.array([np.nan, np.inf, 1]), np.array([np.nan, np.inf, 1])),
    "nothing": (np.zeros((0, 3)), np.zeros((0, 3))),
}


@pytest.mark.parametrize(("given", "numbers"), NUMBERS.values(), ids=NUMBERS)
def test_numbers_are_taken(given, numbers):
    taken = arrays.as_examples("x", given)
    assert isinstance(taken, jax.Array)
    np.testing.assert_array_equal(np.asarray(taken, np.float64), numbers)


def test_tensors_are_taken():
    torch = pytest.importorskip("torch")
    x, _ = lo.holdout((torch.arange(6.0), torch.arange(6)), 0.5, key=0)[0].arrays
    np.testing.assert_array_equal(x, np.arange(6.0))
    with pytest.raises(TypeError, match=r"examples\[0\] must be an array of numbers; got Tensor: .*detach"):
        lo.holdout((torch.ones(6, requires_grad=True), ONES), 0.5, key=0)


def sparse():
    return pytest.importorskip("scipy.sparse").csr_matrix(np.eye(6))


REFUSED = {
    "ids": (2**32 + np.arange(6), ValueError, "fit int32, in which JAX keeps int64; got 4294967296 in row 0.*x64"),
    "unsigned": (np.array([1, 2**32], np.uint64), ValueError, "fit uint32.*got 4294967296 in row 1"),
    "negative": (np.array([[0, 0], [0, -(2**31) - 1]]), ValueError, "fit int32.*got -2147483649 in row 1"),
    "too large": (np.array([1, 2, 1e300]), ValueError, r"at most 3.4e\+38, .*of float32.*got 1e\+300 in row 2"),
    "complex": (np.array([1, 1e300j]), ValueError, r"at most 3.4e\+38.*got 1e\+300 in row 1"),
    "one number": (1e300, ValueError, r"at most 3.4e\+38"),
    "seconds": (SECONDS, ValueError, "feature 0 goes from 1700000000 to 1700005940, and of 100 .* 47 .*mean first"),
    "a feature": (np.stack([ONES, 1 + 1e-9 * np.arange(6)], 1), ValueError, "feature 1 goes from 1 to .*of 6 .* 1 are"),
    "too small": (1e-50 * ONES, ValueError, "float32 tells from 0, of at least 1.2e-38; the largest is 1e-50"),
    "a frame with gaps": (pd.DataFrame({"a": [1, None]}, dtype="Int64"), TypeError, "got DataFrame: .*missing values"),
    "strings": (np.array(list("abc")), TypeError, "an array of numbers; got ndarray of <U1: number the classes"),
    "bytes": (b"abc", TypeError, "an array of numbers; got bytes of .S3: number the classes"),
    "objects": (np.array([None, 1]), TypeError, "got ndarray of object: rows must be numbers of one length"),
    "None": (None, TypeError, "got NoneType"),
    "dates": (np.array(["2020-01-01"], "datetime64[D]"), TypeError, r"got ndarray of datetime64\[D\]: give numbers"),
    "durations": (np.array([1], "timedelta64[s]"), TypeError, r"got ndarray of timedelta64\[s\]: give numbers"),
    "fields": (np.zeros(3, [("a", "f4")]), TypeError, "got ndarray of .*'a'.*: give each field as an array of its own"),
    "sparse": (sparse, TypeError, "be a dense array; got csr_matrix. Convert it with .toarray()"),
    "masked": (np.ma.masked_array(ONES, ONES > 0), TypeError, "without a mask; got a masked array.*filled"),
    "categories": (pd.Series(pd.Categorical(["a", "b"])), TypeError, "got Series of category: .*number classes"),
    "a column": (pd.DataFrame({"a": [1], "b": ["x"]}), TypeError, "got DataFrame of (str|object) in column 'b'"),
}


@pytest.mark.parametrize(("given", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_numbers_or_would_be_cut_is_refused(given, error, message):
    with pytest.raises(error, match="^x must .*" + message):
        arrays.as_examples("x", given() if given is sparse else given)


def test_what_a_compiled_program_closes_over_is_refused():
    with pytest.raises(ValueError, match=r"^examples\[0\] must be whole numbers that fit int32"):
        jax.jit(lambda: lo.minibatches((2**32 + np.arange(6),), 2, key=0))()


def test_ragged_lists_are_refused():
    with pytest.raises(TypeError, match=r"^x must be an array of numbers; got list: .*inhomogeneous"):
        arrays.as_array("x", [[1], [2, 3]])


def test_with_64_bits_all_is_kept(x64):
    for given in (2**32 + np.arange(6), np.array([1e300]), SECONDS, np.array([1, 2**63], np.uint64)):
        np.testing.assert_array_equal(arrays.as_examples("x", given), given)


def test_a_few_rows_that_are_only_scored_may_be_alike():
    run = lo.fit(
        lo.regression(line, standardize=True),
        lo.sgd(0.1),
        (np.linspace(1950, 2020, 10)[:, None], np.ones((10, 1))),
        valid=(alike := 2020 + np.arange(3.0)[:, None] / 36500, np.ones((3, 1))),
        batch_size=5,
        steps=1,
        key=0,
        progress=False,
    )
    assert np.isfinite(run.evaluate((alike, np.ones((3, 1))))["loss"])
    assert np.isfinite(run.predict(alike)).all()
    with pytest.raises(ValueError, match="feature 0 goes from 2020 to"):
        lo.minibatches((alike,), 2, key=0)


def test_messages_say_where():
    with pytest.raises(TypeError, match=r"^train\[0\]\['image'\] must be an array of numbers; got str_?"):
        arrays.as_tree("train", ({"age": ONES, "image": "x"}, ONES))
    with pytest.raises(TypeError, match=r"^train\[1\] must be an array of numbers; got NoneType"):
        arrays.as_tree("train", (ONES, None))


ENTRANCES = {
    "parts": lambda a: lo.holdout((np.ones((6, 1)), a), 0.5, key=0),
    "minibatches": lambda a: lo.minibatches((a,), 2, key=0),
    "a network's bias": lambda a: lo.initializers.output_bias(a, "softmax"),
    "weights of a bias": lambda a: lo.initializers.output_bias(ONES, "identity", a),
    "statistics": lambda a: lo.Standardize(6).fit(a),
    "more statistics": lambda a: lo.Standardize(6).partial_fit(a),
    "standardized": lo.Standardize(6),
}


@pytest.mark.parametrize("entrance", ENTRANCES.values(), ids=ENTRANCES)
def test_wherever_arrays_are_taken(entrance):
    with pytest.raises(ValueError, match=r"must be whole numbers that fit int32, .*; got 4294967301 in row 0"):
        entrance(2**32 + 5 + np.arange(6))
    with pytest.raises(TypeError, match="must be an array of numbers; got ndarray of <U1"):
        entrance(np.array(list("abcdef")))


def line(rngs):
    return nnx.Linear(1, 1, rngs=rngs)


TRAININGS = {
    "seconds": ({"x": SECONDS[:, None]}, ValueError, r"train\[0\] must differ by more .* of 100 .* 47 are left"),
    "whole seconds": (
        {"x": SECONDS[:, None].astype(np.int32)},
        ValueError,
        r"train\[0\] must differ by more .* 47 are",
    ),
    "too wide": ({"x": 1e25 * np.arange(100.0)[:, None]}, ValueError, r"train\[0\] must have standard deviations"),
    "weights": (
        {"weights": np.array(list("ab"))},
        TypeError,
        "weights must be .*got dtype <U1",
    ),
    "weights too large": ({"weights": np.full(100, 1e300)}, ValueError, "weights must be numbers of at most 3.4e"),
}


@pytest.mark.parametrize(("changed", "error", "message"), TRAININGS.values(), ids=TRAININGS)
def test_a_training_refuses_what_it_cannot_tell_apart(changed, error, message):
    x, weights = changed.get("x", np.arange(100.0)[:, None]), changed.get("weights")
    task, y = lo.regression(line, standardize=True), np.ones((100, 1))
    with pytest.raises(error, match=message):
        lo.fit(task, lo.sgd(0.1), (x, y), batch_size=50, epochs=1, key=0, weights=weights, progress=False)


def test_a_run_refuses_what_it_cannot_take():
    examples = np.ones((4, 1), np.float32), np.ones((4, 1), np.float32)
    run = lo.fit(lo.regression(line), lo.sgd(0.1), examples, batch_size=4, steps=1, key=0, progress=False)
    with pytest.raises(ValueError, match="x must be whole numbers that fit int32"):
        run.predict(np.full((2, 1), 2**40))
    with pytest.raises(TypeError, match="x must be an array of numbers; got ndarray of <U1"):
        run.predict(np.array([["a"]]))
    with pytest.raises(ValueError, match=r"examples\[1\] must be numbers of at most"):
        run.evaluate((np.ones((2, 1)), np.full((2, 1), 1e300)))
