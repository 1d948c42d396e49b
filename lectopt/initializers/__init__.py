"""Initializers: functions (key, shape, dtype) -> array, for `kernel_init` and `bias_init` of Flax NNX and Linen.

The axes of a kernel are explicit, as in `jax.nn.initializers`: `in_axis` and `out_axis` (one axis or several) are those
of the inputs and of the units, `batch_axis` is that of independent kernels, and all other axes are a convolution's
receptive field. A unit has m = inputs x field incoming weights (the fan-in) and an input feeds n = outputs x field
units (the fan-out). An argument of the wrong type, such as a shape that is a single number, raises TypeError; a key may
be an int.

Imports `_internal` only.
"""

from lectopt.initializers.biases import output_bias as output_bias
from lectopt.initializers.biases import relu_bias as relu_bias
from lectopt.initializers.weights import fan_in_uniform as fan_in_uniform
from lectopt.initializers.weights import glorot_uniform as glorot_uniform
from lectopt.initializers.weights import sparse as sparse

__all__ = [
    "fan_in_uniform", "glorot_uniform", "output_bias", "relu_bias", "sparse",
]  # fmt: skip
