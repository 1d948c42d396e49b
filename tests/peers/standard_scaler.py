"""scikit-learn's StandardScaler and `scale` as they are called in its tests, computed by `lo.Standardize`."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator

import lectopt as lo


def _dense(X):
    if sparse.issparse(X):
        pytest.skip("there are no sparse arrays")
    return np.asarray(X)


class StandardScaler(BaseEstimator):
    def __init__(self, *, with_mean=True, with_std=True, copy=True):
        self.with_mean, self.with_std, self.copy = with_mean, with_std, copy

    def fit(self, X, y=None, sample_weight=None):
        X = _dense(X)
        self.layer = lo.Standardize(X.shape[-1])
        return self.partial_fit(X, y, sample_weight)

    def partial_fit(self, X, y=None, sample_weight=None):
        if not self.with_std:
            pytest.skip("Standardize always divides by the standard deviation")
        X = _dense(X)
        if not hasattr(self, "layer"):
            self.layer = lo.Standardize(X.shape[-1])
        weights = 1 if sample_weight is None else np.asarray(sample_weight)[:, None]
        if np.ndim(weights) > 2:
            raise ValueError("sample_weight must have one axis")
        self.layer.partial_fit(X, ~np.isnan(X) * weights)
        self.n_samples_seen_, self.mean_, self.var_ = map(np.asarray, self.layer.statistics())
        if np.ptp(self.n_samples_seen_) == 0:
            self.n_samples_seen_ = self.n_samples_seen_[0]
        varies = np.asarray(self.layer(self.mean_ + 1 + abs(self.mean_))) != 0
        self.scale_ = np.where(varies, np.sqrt(self.var_), 1)
        return self

    def transform(self, X, copy=True):
        if not copy:
            pytest.skip("JAX arrays are never changed in place")
        if not self.with_mean:
            pytest.skip("Standardize always subtracts the mean")
        return np.asarray(self.layer(_dense(X)))

    def fit_transform(self, X, y=None, sample_weight=None):
        return self.fit(X, y, sample_weight).transform(X)

    def inverse_transform(self, X):
        return _dense(X) * self.scale_ + self.mean_


def scale(X, *, axis=0, with_mean=True, with_std=True):
    X = _dense(X)
    if not (with_mean and with_std):
        pytest.skip("Standardize always subtracts the mean and divides by the standard deviation")
    columns = X[:, None] if X.ndim == 1 else X
    layer = lo.Standardize(columns.shape[1 - axis], axis=1 - axis)
    return np.asarray(layer.fit(columns)(columns)).reshape(X.shape)
