"""Layer normalization: each example by itself."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import Initializer

from lectopt._internal import checks
from lectopt._internal.arrays import as_array
from lectopt._internal.types import Array, Numeric
from lectopt.norms import affine, moments


class LayerNorm(nnx.Module):
    r"""Normalizes each example over the outputs of a layer.

    .. math::
        y_i^{(n)} = \gamma_i \frac{z_i^{(n)} - \mu^{(n)}}{\sqrt{\operatorname{var}^{(n)} + \epsilon}} + \beta_i,
        \qquad \mu^{(n)}, \operatorname{var}^{(n)} \text{ over } z_1^{(n)}, \dots, z_m^{(n)}

    Every example has a transform of its own, so this is not a mere reparametrization of the network. There is no state
    and nothing depends on the batch: training and evaluation are the same, a batch of one is fine, and so is a
    recurrent cell scanned over time. A drop-in replacement for `flax.nnx.LayerNorm`, without `use_fast_variance` and
    `promote_dtype`: moments are always computed in float32 or wider, and to all their digits whatever the mean.

    Args:
        num_features: m, the number of entries along feature_axes, at least 1.
        epsilon: a small constant added to the variance, at least 0, in units of the squared input.
        dtype: the dtype of the result; None uses the one that input and parameters promote to.
        param_dtype: the dtype of scale and bias.
        use_bias: whether to add beta.
        use_scale: whether to multiply by gamma; not needed where a linear layer (or ReLU and a linear layer) follows.
        bias_init: the initializer of beta, a function (key, shape, dtype) -> array; zeros by default.
        scale_init: the initializer of gamma, a function (key, shape, dtype) -> array; ones by default.
        reduction_axes: the axis or axes over which mean and variance are taken; (1, 2, 3) for whole images.
        feature_axes: the axis or axes along which gamma and beta have one entry each.
        axis_name: the name of an axis of `shard_map` or `pmap` over which a single example is split; None if it is not.
        axis_index_groups: groups of indices within that axis to take statistics over, lists of whole numbers such as
            [[0, 1], [2, 3]]; None takes all together.
        rngs: the `nnx.Rngs` that give the initializers their keys.
        bias_metadata: metadata of the bias variable, such as its sharding: a dictionary, empty by default.
        scale_metadata: metadata of the scale variable, such as its sharding: a dictionary, empty by default.

    Raises:
        ValueError: if epsilon is negative or num_features below 1.
        TypeError: if an argument is of the wrong type.

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> from flax import nnx
        >>> layer = lo.LayerNorm(4, rngs=nnx.Rngs(0))
        >>> print(layer(jnp.array([[1.0, 1.0, 3.0, 3.0]])).round(3))
        [[-1. -1.  1.  1.]]

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Layer Normalization"; J. L. Ba, J. R. Kiros
    and G. E. Hinton (2016), "Layer normalization", arXiv:1607.06450, section 3.
    """

    def __init__(
        self,
        num_features: int,
        *,
        epsilon: Numeric = 1e-6,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        use_bias: bool = True,
        use_scale: bool = True,
        bias_init: Initializer = jax.nn.initializers.zeros,
        scale_init: Initializer = jax.nn.initializers.ones,
        reduction_axes: moments.Axes = -1,
        feature_axes: moments.Axes = -1,
        axis_name: Any = None,
        axis_index_groups: Any = None,
        rngs: nnx.Rngs,
        bias_metadata: Mapping[str, Any] = MappingProxyType({}),
        scale_metadata: Mapping[str, Any] = MappingProxyType({}),
    ):
        checks.check_number("epsilon", epsilon, checks.NON_NEGATIVE)
        checks.check_dtypes(dtype=dtype, param_dtype=param_dtype)
        moments.check_axes(reduction_axes=reduction_axes, feature_axes=feature_axes)
        self.num_features = checks.check_count("num_features", num_features)
        use_bias, use_scale = checks.check_flag("use_bias", use_bias), checks.check_flag("use_scale", use_scale)
        self.scale = affine.parameter("scale", use_scale, scale_init, rngs, num_features, param_dtype, scale_metadata)
        self.bias = affine.parameter("bias", use_bias, bias_init, rngs, num_features, param_dtype, bias_metadata)
        self.epsilon = epsilon
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.use_bias = use_bias
        self.use_scale = use_scale
        self.reduction_axes = reduction_axes
        self.feature_axes = feature_axes
        self.axis_name = axis_name
        self.axis_index_groups = axis_index_groups

    def __call__(self, x: Array, *, mask: Array | None = None) -> jax.Array:
        """Normalizes x.

        Args:
            x: numbers of any shape whose feature_axes have num_features entries; integers are converted to float32.
            mask: booleans, 0 and 1, or weights of at least 0, broadcastable to x: which entries count for mean and
                variance, and how much. The others are normalized all the same, and may be NaN. A traced weight that is
                invalid (negative, NaN, infinite) counts as 0. None counts all entries.

        Returns:
            The normalized x, of the same shape, with the `dtype` of the layer.

        Raises:
            ValueError: if x has another number of features, or mask does not broadcast to it or holds concrete numbers
                that are negative, NaN or infinite.
            TypeError: if x is not numeric.
        """
        x = as_array("inputs", x)
        features = affine.check_features("LayerNorm", x, self.feature_axes, self.num_features, "feature_axes")
        reduced = moments.canonical_axes(x.ndim, self.reduction_axes, "reduction_axes")
        mask = affine.as_mask(x, mask)
        scale, bias = affine.value(self.scale), affine.value(self.bias)
        deviations, statistics = moments.center(x, reduced, mask, self.axis_name, self.axis_index_groups)
        y = affine.apply(deviations, statistics.var, scale, bias, features, self.epsilon)
        return y.astype(affine.output_dtype(x, scale, bias, dtype=self.dtype))
