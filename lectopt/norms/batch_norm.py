"""Batch normalisation: each unit over the batch, and what stands in for the batch at evaluation."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import Initializer

from lectopt._internal import checks, numerics
from lectopt._internal.arrays import as_array
from lectopt._internal.types import Array, Numeric
from lectopt.norms import affine, moments


class BatchNorm(nnx.Module):
    r"""Normalises each unit over the examples of the batch.

    .. math:: y_i^{(n)} = \gamma_i \frac{z_i^{(n)} - \mu_i}{\sqrt{\operatorname{var}_i + \epsilon}} + \beta_i,
        \qquad \mu_i, \operatorname{var}_i \text{ over } z_i^{(1)}, \dots, z_i^{(N')}

    A unit's mean and standard deviation are then beta and gamma, whatever the weights before it; with gamma = sd and
    beta = mean the network is the one without normalisation. The variance is that of the batch (ddof 0), and
    gradients flow through mean and variance. In evaluation (`eval()`, `use_running_average=True`) statistics of
    previous batches take the batch's place:

    * `window=W`: those of the last W batches, pooled to mean and total variance of all their examples, each batch with
      the number of its examples. With W batches that make up an epoch, and weights that stand still, they are the
      statistics of the data set. (The lecture averages the standard deviations of the batches, which misses how the
      means differ between them: smaller than the data's by a factor near sqrt(1 - 1/N').)
    * otherwise an exponential average of means and variances, s <- decay s + (1 - decay) s_batch, as in Flax, from
      mean 0 and variance 1. In float32 it stops within about 3e-8 / (1 - decay) of the mean's size.

    Not for recurrent networks nor small batches: there `LayerNorm`. A fully masked batch leaves the statistics as
    they are. Under `jit` over a mesh they are those of the global batch.

    Drop-in for `flax.nnx.BatchNorm`, with the same variables unless there is a window, and without
    `use_fast_variance` and `promote_dtype`: moments are always computed in float32 or wider, and with all their
    digits at any mean (see `center`).

    Args:
        num_features: the number of units.
        window: W, the number of previous batches that stand in at evaluation, at least 1; None averages exponentially.
        decay: of the exponential average, in [0, 1]; not used with a window.
        momentum: Flax's word for decay; where given, it is used.
        use_running_average: whether to evaluate; `train()` and `eval()` set it.
        axis: the axis (or axes, then num_features is their product) of the units. All others are reduced.
        epsilon: at least 0, in units of the squared input, added to the variance.
        dtype: of the result; None takes that of input and parameters together.
        param_dtype: of scale and bias. The statistics are float32, or wider if this is.
        use_bias: whether to add beta.
        use_scale: whether to multiply by gamma; not needed where a linear layer (or ReLU and one) follows.
        bias_init: initialiser of beta, zeros.
        scale_init: initialiser of gamma, ones.
        axis_name: a named axis of `shard_map`, `vmap` or `pmap` that the batch is split over.
        axis_index_groups: groups of indices within it, as in `jax.lax.psum`.
        rngs: the source of keys for the initialisers.
        bias_metadata: metadata of the bias variable.
        scale_metadata: metadata of the scale variable.

    Call:
        x: numbers with num_features entries along `axis`; integers are taken as float32. A NaN that counts makes its
            unit NaN, in the statistics too (with a window, until the batch leaves it).
        use_running_average: as above, for this call.
        mask: booleans or 0 and 1 (or weights of at least 0), broadcastable to x: which entries count for mean and
            variance. Entries that do not count are normalised like the others; they may be NaN. A traced weight that
            is none (below 0, NaN, infinite) counts as 0.

    Raises:
        ValueError: if the inputs have another number of features, the mask does not fit, there is but one value for a
            unit in training, or an argument is out of range; if concrete numbers of the mask are NaN, infinite or
            negative.
        TypeError: if the inputs are complex or no numbers, or an argument is of another kind.

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> from flax import nnx
        >>> layer = lo.BatchNorm(1, window=2, epsilon=0.0, rngs=nnx.Rngs(0))
        >>> for batch in ([[1.0], [3.0]], [[5.0], [7.0]]):
        ...     y = layer(jnp.array(batch))
        >>> layer.eval()
        >>> print(y.ravel(), layer(jnp.array([[4.0]])), layer.statistics().var)
        [-1.  1.] [[0.]] [5.]

    Source: the lecture, "Batch Normalization"; Ioffe and Szegedy (2015).
    """

    def __init__(
        self,
        num_features: int,
        window: int | None = None,
        decay: Numeric = 0.99,
        *,
        momentum: Numeric | None = None,
        use_running_average: bool | None = False,
        axis: moments.Axes = -1,
        epsilon: Numeric = 1e-5,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        use_bias: bool = True,
        use_scale: bool = True,
        bias_init: Initializer = jax.nn.initializers.zeros,
        scale_init: Initializer = jax.nn.initializers.ones,
        axis_name: Any = None,
        axis_index_groups: Any = None,
        rngs: nnx.Rngs,
        bias_metadata: Mapping[str, Any] = MappingProxyType({}),
        scale_metadata: Mapping[str, Any] = MappingProxyType({}),
    ):
        """Makes the variables: see the class."""
        decay = decay if momentum is None else momentum
        checks.check_number("decay" if momentum is None else "momentum", decay, checks.Interval(0, 1))
        checks.check_number("epsilon", epsilon, checks.NON_NEGATIVE)
        checks.check_dtypes(dtype=dtype, param_dtype=param_dtype)
        moments.check_axes(axis=axis)
        self.num_features = checks.check_count("num_features", num_features)
        if use_running_average is not None:
            use_running_average = checks.check_flag("use_running_average", use_running_average)
        use_bias, use_scale = checks.check_flag("use_bias", use_bias), checks.check_flag("use_scale", use_scale)
        self.window = None if window is None else checks.check_count("window", window)
        dtype_of_statistics = jnp.promote_types(param_dtype, jnp.float32)
        if self.window is None:
            self.mean = nnx.BatchStat(jnp.zeros(num_features, dtype_of_statistics))
            self.var = nnx.BatchStat(jnp.ones(num_features, dtype_of_statistics))
        else:
            empty = jnp.zeros((self.window, num_features), dtype_of_statistics)
            self.window_count, self.window_mean, self.window_var = (nnx.BatchStat(empty) for _ in range(3))
            # A float, since nnx.grad in tree mode takes a module's variables all together, and refuses integers.
            self.window_position = nnx.BatchStat(empty[0])
        self.scale = affine.parameter("scale", use_scale, scale_init, rngs, num_features, param_dtype, scale_metadata)
        self.bias = affine.parameter("bias", use_bias, bias_init, rngs, num_features, param_dtype, bias_metadata)
        self.decay = decay
        self.use_running_average = use_running_average
        self.axis = axis
        self.epsilon = epsilon
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.use_bias = use_bias
        self.use_scale = use_scale
        self.axis_name = axis_name
        self.axis_index_groups = axis_index_groups

    def __call__(self, x: Array, use_running_average: bool | None = None, *, mask: Array | None = None) -> jax.Array:
        """Normalises x, and in training remembers its statistics: see the class."""
        x = as_array("inputs", x)
        features = affine.check_features("BatchNorm", x, self.axis, self.num_features)
        mask = affine.as_mask(x, mask)
        if jnp.iscomplexobj(x):
            raise TypeError("BatchNorm keeps real statistics; got complex inputs")
        if use_running_average is not None:
            checks.check_flag("use_running_average", use_running_average)
        evaluates = self.use_running_average if use_running_average is None else use_running_average
        if evaluates is None:
            raise ValueError("BatchNorm needs use_running_average, in the constructor or in the call")
        if evaluates:
            deviations, var = self._from_statistics(x, features)
        else:
            deviations, var = self._from_batch(x, features, mask)
        scale, bias = affine.value(self.scale), affine.value(self.bias)
        y = affine.apply(deviations, var, scale, bias, features, self.epsilon)
        return y.astype(affine.output_dtype(x, scale, bias, dtype=self.dtype))

    def statistics(self) -> moments.Moments:
        """Mean and variance for evaluation, float32[num_features]; before any batch 0 and 1.

        The count is the number of examples in the window, and infinite for an exponential average.
        """
        if self.window is None:
            return moments.Moments(jnp.full(self.num_features, jnp.inf), self.mean[...], self.var[...])
        pooled = moments.pool(self._window())
        return pooled._replace(var=jnp.where(pooled.count > 0, pooled.var, 1))

    def set_view(self, use_running_average: bool | None = None) -> None:
        """Class method used by ``nnx.view``.

        Args:
          use_running_average: if True, the statistics of previous batches take the batch's place.
        """
        if use_running_average is not None:
            self.use_running_average = checks.check_flag("use_running_average", use_running_average)

    def _from_statistics(self, x: Array, features: tuple[int, ...]) -> tuple[Array, Array]:
        _, mean, var = self.statistics()
        shape = tuple(size if axis in features else 1 for axis, size in enumerate(x.shape))
        x = moments.as_float(x)
        dtype = jnp.promote_types(x.dtype, mean.dtype)
        return x.astype(dtype) - mean.reshape(shape).astype(dtype), var.reshape(shape).astype(dtype)

    def _from_batch(self, x: Array, features: tuple[int, ...], mask: Array | None) -> tuple[Array, Array]:
        others = tuple(axis for axis in range(x.ndim) if axis not in features)
        self._check_batch(x, others)
        deviations, batch = moments.center(x, others, mask, self.axis_name, self.axis_index_groups)
        self._remember(moments.Moments(*(jax.lax.stop_gradient(m).reshape(-1) for m in batch)))
        return deviations, batch.var

    def _check_batch(self, x: Array, reduced: tuple[int, ...]) -> None:
        values = math.prod(x.shape[axis] for axis in reduced)
        if self.axis_name is not None:
            values = jax.lax.psum(values, self.axis_name, axis_index_groups=self.axis_index_groups)
        if values < 2:
            raise ValueError(
                f"BatchNorm in training needs at least 2 values of each unit; got inputs of shape {x.shape}, which "
                "have no variance over the batch. Use LayerNorm, which normalises each example by itself, or eval()"
            )

    def _remember(self, batch: moments.Moments) -> None:
        if self.window is None:
            self._average(batch)
        else:
            self._write(batch, self.window)

    def _average(self, batch: moments.Moments) -> None:
        decay = numerics.as_number(self.decay)
        for kept, new in ((self.mean, batch.mean), (self.var, batch.var)):
            old = kept[...]
            rho = decay.astype(old.dtype)
            kept[...] = jnp.where(batch.count > 0, rho * old + (1 - rho) * new.astype(old.dtype), old)

    def _write(self, batch: moments.Moments, window: int) -> None:
        # A select over the whole buffer: under vmap, a scatter takes nine times as long.
        position = self.window_position[...]
        seen = batch.count > 0
        slots = jax.lax.broadcasted_iota(position.dtype, (window, self.num_features), 0)
        here = (slots == position[None]) & seen[None]
        for kept, new in zip((self.window_count, self.window_mean, self.window_var), batch, strict=True):
            kept[...] = jnp.where(here, new.astype(kept[...].dtype)[None], kept[...])
        self.window_position[...] = jnp.where(seen, (position + 1) % window, position)

    def _window(self) -> moments.Moments:
        return moments.Moments(self.window_count[...], self.window_mean[...], self.window_var[...])
