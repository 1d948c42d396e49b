"""Whether settings differ by more than chance: formulas written apart, in float64, and SciPy's plain t test."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

import lectopt as lo
from lectopt.search.settings import as_settings
from lectopt.search.significance import corrected_t_test, holm, valid_per_train

pytestmark = pytest.mark.filterwarnings("error")

RNG = np.random.default_rng(0)
SCORES = (RNG.normal(size=(6, 10, 2)) + np.linspace(0, 2, 6)[:, None, None]).astype(np.float32)
DATA = (np.arange(30, dtype=np.float32),)


def nadeau_bengio(apart, train, valid):
    apart, count = np.asarray(apart, np.float64), len(apart)
    variance = sum((d - sum(apart) / count) ** 2 for d in apart) / (count - 1)
    t = sum(apart) / count / ((1 / count + valid / train) * variance) ** 0.5
    return 2 * stats.t.sf(abs(t), df=count - 1)


def holm_by_hand(p_values):
    """Each p value times the number of those that are at least as great, and not below those of smaller ones."""
    corrected = [min(1, p * sum(q >= p for q in p_values)) for p in p_values]
    return [max(c for c, q in zip(corrected, p_values, strict=True) if q <= p) for p in p_values]


def searched(scores=SCORES, **changes):
    """Results of these scores, on ten folds."""
    count = len(scores)
    found = lo.Results(
        as_settings({"rate": np.arange(count, dtype=np.float32)}), {"loss": scores},
        np.full(scores.shape, -1, np.int32), "loss", False, np.ones(count, np.int32),
        valid_per_train=valid_per_train(lo.k_fold(DATA, 10, key=0)),
    )  # fmt: skip
    return dataclasses.replace(found, **changes)


@pytest.mark.parametrize(("a", "b", "folds"), [(0, 1, 10), (4, 2, 10), (5, 0, 2)])
def test_the_corrected_resampled_t_test(a, b, folds):
    scores = SCORES[:, :folds]
    apart = scores.mean(axis=2)[a] - scores.mean(axis=2)[b]
    found = searched(scores).difference(a, b)
    np.testing.assert_allclose(found.p_value, nadeau_bengio(apart, train=27, valid=3), rtol=1e-10)
    np.testing.assert_allclose(corrected_t_test(apart, 0.0), stats.ttest_1samp(apart.astype(float), 0).pvalue)
    assert found.p_value > corrected_t_test(apart, 0.0)


def test_seeds_of_a_single_fold_are_not_corrected():
    found = searched(SCORES[:, :1], valid_per_train=0.25).difference(0, 1)
    np.testing.assert_allclose(found.p_value, stats.ttest_rel(*SCORES[:2, 0].astype(float)).pvalue, rtol=1e-5)
    assert np.isnan(searched(SCORES[:, :1, :1]).difference(0, 1).p_value)


def test_differences_without_spread():
    assert corrected_t_test([0.0, 0.0, 0.0], 0.1) == 1.0
    assert corrected_t_test([2.0, 2.0, 2.0], 0.1) == 0.0
    assert corrected_t_test([1.0, -1.0], 0.1) == 1.0
    assert np.isnan(corrected_t_test([1.0, np.nan, 2.0], 0.1))
    assert np.isnan(corrected_t_test([1.0, 1.5, 2.0], np.nan))


@pytest.mark.parametrize("seed", range(5))
def test_holm(seed):
    p_values = np.random.default_rng(seed).random(8) ** 3
    np.testing.assert_allclose(holm(p_values), holm_by_hand(p_values))
    lacking = np.insert(p_values, 3, np.nan)
    np.testing.assert_allclose(np.delete(holm(lacking), 3), holm(p_values))
    assert np.isnan(holm(lacking)[3])


def test_settings_are_compared_with_the_best():
    found = searched()
    best = found.best_index
    others = np.delete(np.arange(6), best)
    wanted = holm_by_hand([found.difference(int(i)).p_value for i in others])
    np.testing.assert_allclose(found.p_values()[others], wanted)
    assert np.isnan(found.p_values()[best])
    table = found.to_pandas()
    assert list(table.columns) == ["rate", "loss", "loss_sem", "diverged", "rank", "p_value"]
    np.testing.assert_array_equal(table["p_value"], found.p_values())


def test_what_was_dropped_or_has_no_score_is_not_compared():
    scores = SCORES.copy()
    scores[5, 2, 0] = np.nan
    found = searched(scores, rungs=np.array([2, 2, 2, 1, 2, 2], np.int32))
    np.testing.assert_array_equal(np.isnan(found.p_values()), [True, False, False, True, False, True])
    assert np.isnan(searched(np.full_like(SCORES, np.nan)).p_values()).all()


def test_searches_and_files_know_the_sizes(tmp_path):
    def trial(setting, train, valid, key):
        return {"loss": setting["x"] * train.size}

    folds = lo.repeated(lambda key: lo.holdout(DATA, 0.2, key=key), 3, key=0)
    found = lo.cross_validate(trial, {"x": [1.0, 2.0]}, folds, minimize="loss", key=0, progress=False)
    assert found.valid_per_train == 6 / 24
    found.save(tmp_path / "results")
    assert lo.Results.load(tmp_path / "results").valid_per_train == 6 / 24
    searched(valid_per_train=np.nan).save(tmp_path / "older")
    older = lo.Results.load(tmp_path / "older")
    assert np.isnan(older.difference(0, 1).p_value)
    assert "p_value" not in older.to_pandas()
    assert valid_per_train(None) == 0
