"""Input normalization, with statistics of the training set."""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from lectopt._internal import arrays, checks, numerics
from lectopt._internal.types import Array
from lectopt.norms import affine, moments
from lectopt.norms.moment_checks import check_integers, check_moments
from lectopt.norms.running_moments import accumulate

A = TypeVar("A")


class DataStat(nnx.Variable[A]):
    """A statistic of a data set: saved and restored with the module, and not trained."""


class Standardize(nnx.Module):
    r"""Brings each input feature to zero mean and unit variance.

    .. math::
        \tilde{x}_i^{(n)} = \frac{x_i^{(n)} - \operatorname{mean}(x_i^{(1)}, \dots, x_i^{(N)})}
        {\operatorname{std}(x_i^{(1)}, \dots, x_i^{(N)})}

    The statistics (ddof 0) are those of the data given to `fit` and `partial_fit`, the training set; training,
    validation and test set are then transformed alike. Before that, inputs pass unchanged. A constant feature, whose
    standard deviation is at most one rounding step of its mean, becomes zeros. Statistics are computed and kept in
    float32 (float64 under x64), which represents the variances of standard deviations from 2e-19 to 1e19.

    Args:
        num_features: the number of features, at least 1.
        axis: the axis of the features, or several (num_features is then their product); all other axes are reduced.
        dtype: the dtype of the result; None keeps that of the input, float32 for integers.

    Raises:
        ValueError: if num_features is below 1.
        TypeError: if an argument is of the wrong type.

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> standardize = lo.Standardize(2).fit(jnp.array([[1.0, 7.0], [3.0, 7.0]]))
        >>> print(standardize(jnp.array([[4.0, 7.0]])))
        [[2. 0.]]

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Input normalization"; Y. LeCun, L. Bottou,
    G. Orr and K.-R. Müller (1998), "Efficient BackProp", section 4.3.
    """

    def __init__(self, num_features: int, *, axis: moments.Axes = -1, dtype: Any = None):
        moments.check_axes(axis=axis)
        self.num_features = checks.check_count("num_features", num_features)
        checks.check_dtypes(dtype=dtype)
        self.axis = axis
        self.dtype = dtype
        self.count, self.mean, self.var = (
            DataStat(jnp.zeros(num_features, jnp.result_type(float))) for _ in moments.Moments._fields
        )
        self.errors = DataStat(jnp.zeros((3, num_features), jnp.result_type(float)))  # of these three: see accumulate

    def fit(self, x: Array, mask: Array | None = None) -> "Standardize":
        """Learns the statistics of x and forgets what was learned before.

        Args:
            x: the training set, with num_features entries along `axis`.
            mask: booleans or finite weights of at least 0, broadcastable to x: which entries count, and how much. The
                others may be NaN. None counts all entries.

        Returns:
            This module.

        Raises:
            ValueError: if x has another number of features, or mask does not broadcast to it; where they are concrete,
                if entries that count are NaN or infinite, a standard deviation is out of range, rounding to float32
                makes different entries of a feature equal, or the mask holds NaN, infinite or negative numbers.
            TypeError: if x is complex or not numeric, or mask neither booleans nor numbers.
        """
        x = arrays.as_examples("inputs", x)
        check_integers("inputs", x)
        return self.store(self._moments(x, mask))

    def partial_fit(self, x: Array, mask: Array | None = None) -> "Standardize":
        """Learns the statistics of x in addition to what was learned before.

        One pass over data that does not fit into memory gives the statistics that `fit` would, in however many parts it
        comes: what float32 rounds away is kept and added later (T. F. Chan, G. H. Golub and R. J. LeVeque (1983),
        "Algorithms for computing the sample variance", The American Statistician 37(3); W. Kahan's compensated
        summation).

        Args:
            x: the next part of the training set, with num_features entries along `axis`.
            mask: booleans or finite weights of at least 0, broadcastable to x: which entries count, and how much. The
                others may be NaN. None counts all entries.

        Returns:
            This module.

        Raises:
            ValueError: if x has another number of features, or mask does not broadcast to it; where they are concrete,
                if entries that count are NaN or infinite, a standard deviation is out of range, or the mask holds NaN,
                infinite or negative numbers.
            TypeError: if x is complex or not numeric, or mask neither booleans nor numbers.
        """
        learned, errors = accumulate(self.statistics(), self.errors[...], self._moments(x, mask))
        self.store(learned).errors[...] = errors
        return self

    def __call__(self, x: Array) -> jax.Array:
        """Standardizes x with the statistics that were learned.

        Args:
            x: numbers with num_features entries along `axis`.

        Returns:
            The standardized x, of the same shape, with the `dtype` of the layer.

        Raises:
            ValueError: if x has another number of features.
            TypeError: if x is complex or not numeric.
        """
        x, features = self._checked(x)
        shape = tuple(size if axis in features else 1 for axis, size in enumerate(x.shape))
        learned = moments.Moments(*(m.reshape(shape) for m in self.statistics()))
        return standardized(x, learned).astype(affine.output_dtype(x, dtype=self.dtype))

    def statistics(self) -> moments.Moments:
        """Returns what was learned: count, mean and variance, each of shape [num_features]."""
        return moments.Moments(self.count[...], self.mean[...], self.var[...])

    def _moments(self, x: Array, mask: Array | None) -> moments.Moments:
        x, features = self._checked(x)
        mask = affine.as_mask(x, mask)
        if not checks.is_traced((x, mask)):
            self._check_moments(x, features, mask)
        measured = moments.measure(x, [axis for axis in range(x.ndim) if axis not in features], mask)
        return moments.Moments(*(m.reshape(-1).astype(self.mean[...].dtype) for m in measured))

    def _check_moments(self, x: jax.Array, features: tuple[int, ...], mask: jax.Array | None) -> None:
        def columns(entries: Any) -> np.ndarray:
            last = np.moveaxis(np.broadcast_to(entries, x.shape), features, range(-len(features), 0))
            return last.reshape(-1, self.num_features)

        counts = True if mask is None else columns(np.asarray(mask) > 0)
        check_moments("inputs", columns(np.asarray(x)), numerics.working_dtype(x), counts)

    def _checked(self, x: Array) -> tuple[jax.Array, tuple[int, ...]]:
        x = arrays.as_array("inputs", x)
        if jnp.iscomplexobj(x):
            raise TypeError("Standardize keeps real statistics; got complex inputs")
        return x, affine.check_features("Standardize", x, self.axis, self.num_features)

    def store(self, learned: moments.Moments) -> "Standardize":
        """Replaces what was learned by the given statistics.

        Args:
            learned: count, mean and variance, each of shape [num_features].

        Returns:
            This module.
        """
        self.count[...], self.mean[...], self.var[...] = learned
        self.errors[...] = jnp.zeros_like(self.errors[...])
        return self


def standardized(x: Array, learned: moments.Moments) -> jax.Array:
    """Computes (x - mean) / sd in float32 or wider: 0 for constant features, x itself if nothing was learned.

    Args:
        x: numbers.
        learned: moments that are broadcastable to x, as `center` returns them.
    """
    x = moments.as_float(x)
    count, mean, var = (jnp.expand_dims(jnp.asarray(m, x.dtype), range(x.ndim - jnp.ndim(m))) for m in learned)
    step = jnp.finfo(x.dtype).eps * jnp.abs(mean)
    varies = (jnp.sqrt(var) > step) & (var < jnp.inf)
    # A variance that overflowed while it was traced gives NaN, which is seen, not the zeros of a constant.
    factor = jnp.where(varies, jax.lax.rsqrt(jnp.where(varies, var, 1)), 0 * var)
    return jnp.where(count > 0, (x - mean) * factor, x)
