"""Batch normalization: each unit over the batch, and what stands in for the batch at evaluation."""

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
    r"""Normalizes each unit over the examples of a batch.

    .. math::
        y_i^{(n)} = \gamma_i \frac{z_i^{(n)} - \mu_i}{\sqrt{\operatorname{var}_i + \epsilon}} + \beta_i,
        \qquad \mu_i, \operatorname{var}_i \text{ over } z_i^{(1)}, \dots, z_i^{(N')}

    The mean and standard deviation of a unit are then beta and gamma, whatever the weights before it; with gamma = sd
    and beta = mean the network is the one without normalization. The variance is that of the batch (ddof 0), and
    gradients flow through mean and variance. In evaluation (`eval()`, `use_running_average=True`) statistics of
    previous batches replace those of the batch:

    - with `window=W`, those of the last W batches, pooled to the mean and total variance of all their examples, each
      batch weighted by its number of examples. If W batches make up an epoch and the weights do not change, they are
      the statistics of the data set. (The lecture averages the standard deviations of the batches, which ignores how
      the means differ between them: the result is smaller than the data's by a factor near sqrt(1 - 1/N').)
    - otherwise an exponential average of means and variances, `s = decay * s + (1 - decay) * s_batch`, as in Flax,
      starting from mean 0 and variance 1. In float32 it stops within about 3e-8 / (1 - decay) of the mean's size.

    Not for recurrent networks, nor for small batches: use `LayerNorm` there. A fully masked batch leaves the statistics
    unchanged. Under `jit` over a mesh they are those of the global batch.

    A drop-in replacement for `flax.nnx.BatchNorm`, with the same variables unless there is a window, and without
    `use_fast_variance` and `promote_dtype`: moments are always computed in float32 or wider, and to all their digits
    whatever the mean.

    Args:
        num_features: the number of units, at least 1.
        window: W, at least 1, the number of previous batches whose statistics are used in evaluation; None uses the
            exponential average.
        decay: how much of the exponential average is kept at each batch, in [0, 1], a number or a traced value; not
            used with a window.
        momentum: Flax's name for decay, in [0, 1]; None uses decay, any number replaces it.
        use_running_average: True to evaluate with the statistics of previous batches, False to use those of the batch
            and remember them, None to require the argument in each call; `train()` and `eval()` set it.
        axis: the axis of the units, or several (num_features is then their product); all other axes are reduced.
        epsilon: a small constant added to the variance, at least 0, in units of the squared input.
        dtype: the dtype of the result; None uses the one that input and parameters promote to.
        param_dtype: the dtype of scale and bias. The statistics are float32, or wider if this is.
        use_bias: whether to add beta.
        use_scale: whether to multiply by gamma; not needed where a linear layer (or ReLU and a linear layer) follows.
        bias_init: the initializer of beta, a function (key, shape, dtype) -> array; zeros by default.
        scale_init: the initializer of gamma, a function (key, shape, dtype) -> array; ones by default.
        axis_name: the name of an axis of `shard_map`, `vmap` or `pmap` over which the batch is split; None if it is
            not.
        axis_index_groups: groups of indices within that axis to take statistics over, lists of whole numbers such as
            [[0, 1], [2, 3]]; None takes all together.
        rngs: the `nnx.Rngs` that give the initializers their keys.
        bias_metadata: metadata of the bias variable, such as its sharding: a dictionary, empty by default.
        scale_metadata: metadata of the scale variable, such as its sharding: a dictionary, empty by default.

    Raises:
        ValueError: if an argument is out of range.
        TypeError: if an argument is of the wrong type.

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> from flax import nnx
        >>> layer = lo.BatchNorm(1, window=2, epsilon=0.0, rngs=nnx.Rngs(0))
        >>> for batch in ([[1.0], [3.0]], [[5.0], [7.0]]):
        ...     y = layer(jnp.array(batch))
        >>> layer.eval()
        >>> print(y.ravel(), layer(jnp.array([[4.0]])), layer.statistics().var)
        [-1.  1.] [[0.]] [5.]

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Batch Normalization"; S. Ioffe and C.
    Szegedy (2015), "Batch normalization: accelerating deep network training by reducing internal covariate shift",
    ICML, algorithms 1 and 2.
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
        """Normalizes x and, in training, remembers the statistics of the batch.

        Args:
            x: numbers with num_features entries along `axis`; integers are converted to float32. A NaN that counts
                makes its unit NaN, in the statistics too (with a window, until that batch leaves it).
            use_running_average: True to evaluate with the statistics of previous batches, False to use those of the
                batch and remember them; None uses what the constructor, `train()` or `eval()` set.
            mask: booleans, 0 and 1, or weights of at least 0, broadcastable to x: which entries count for mean and
                variance, and how much. The others are normalized all the same, and may be NaN. A traced weight that is
                invalid (negative, NaN, infinite) counts as 0. None counts all entries.

        Returns:
            The normalized x, of the same shape, with the `dtype` of the layer.

        Raises:
            ValueError: if x has another number of features, mask does not broadcast to it or holds concrete numbers
                that are negative, NaN or infinite, if each unit has a single value in training, or if
                use_running_average is None in both the constructor and the call.
            TypeError: if x is complex or not numeric, or another argument is of the wrong type.
        """
        x = as_array("inputs", x)
        features = affine.check_features("BatchNorm", x, self.axis, self.num_features)
        mask = affine.as_mask(x, mask)
        if jnp.iscomplexobj(x):
            raise TypeError("BatchNorm keeps real statistics; got complex inputs")
        if use_running_average is not None:
            checks.check_flag("use_running_average", use_running_average)
        evaluating = self.use_running_average if use_running_average is None else use_running_average
        if evaluating is None:
            raise ValueError("BatchNorm needs use_running_average, in the constructor or in the call")
        if evaluating:
            deviations, var = self._from_statistics(x, features)
        else:
            deviations, var = self._from_batch(x, features, mask)
        scale, bias = affine.value(self.scale), affine.value(self.bias)
        y = affine.apply(deviations, var, scale, bias, features, self.epsilon)
        return y.astype(affine.output_dtype(x, scale, bias, dtype=self.dtype))

    def statistics(self) -> moments.Moments:
        """Returns the mean and variance that evaluation uses, each float32[num_features]; before any batch, 0 and 1.

        Their count is the number of examples in the window, and infinite for an exponential average.
        """
        if self.window is None:
            return moments.Moments(jnp.full(self.num_features, jnp.inf), self.mean[...], self.var[...])
        pooled = moments.pool(self._window_moments())
        return pooled._replace(var=jnp.where(pooled.count > 0, pooled.var, 1))

    def set_view(self, use_running_average: bool | None = None) -> None:
        """Sets the mode: a class method used by ``nnx.view``.

        Raises:
            TypeError: if use_running_average is not a boolean.

        Args:
          use_running_average: True to evaluate with the statistics of previous batches, False to use those of the batch
            and remember them; None leaves the mode as it is.
        """
        # `nnx.view_info` reads these arguments, indented by two spaces, to the end of the docstring.
        if use_running_average is not None:
            self.use_running_average = checks.check_flag("use_running_average", use_running_average)

    def _from_statistics(self, x: Array, features: tuple[int, ...]) -> tuple[Array, Array]:
        _, mean, var = self.statistics()
        shape = tuple(size if axis in features else 1 for axis, size in enumerate(x.shape))
        x = moments.as_float(x)
        dtype = jnp.promote_types(x.dtype, mean.dtype)
        return x.astype(dtype) - mean.reshape(shape).astype(dtype), var.reshape(shape).astype(dtype)

    def _from_batch(self, x: Array, features: tuple[int, ...], mask: Array | None) -> tuple[Array, Array]:
        reduced = tuple(axis for axis in range(x.ndim) if axis not in features)
        self._check_batch(x, reduced)
        deviations, batch = moments.center(x, reduced, mask, self.axis_name, self.axis_index_groups)
        self._update_statistics(moments.Moments(*(jax.lax.stop_gradient(m).reshape(-1) for m in batch)))
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

    def _update_statistics(self, batch: moments.Moments) -> None:
        if self.window is None:
            self._update_average(batch)
        else:
            self._update_window(batch, self.window)

    def _update_average(self, batch: moments.Moments) -> None:
        decay = numerics.as_scalar(self.decay)
        for statistic, new in ((self.mean, batch.mean), (self.var, batch.var)):
            old = statistic[...]
            rho = decay.astype(old.dtype)
            statistic[...] = jnp.where(batch.count > 0, rho * old + (1 - rho) * new.astype(old.dtype), old)

    def _update_window(self, batch: moments.Moments, window: int) -> None:
        # A select over the whole buffer: under vmap, a scatter takes nine times as long.
        position = self.window_position[...]
        has_examples = batch.count > 0
        slots = jax.lax.broadcasted_iota(position.dtype, (window, self.num_features), 0)
        current = (slots == position[None]) & has_examples[None]
        for statistic, new in zip((self.window_count, self.window_mean, self.window_var), batch, strict=True):
            statistic[...] = jnp.where(current, new.astype(statistic[...].dtype)[None], statistic[...])
        self.window_position[...] = jnp.where(has_examples, (position + 1) % window, position)

    def _window_moments(self) -> moments.Moments:
        return moments.Moments(self.window_count[...], self.window_mean[...], self.window_var[...])
