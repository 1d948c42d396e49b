"""Dropout whose rate may be traced, so that it is searched like any other hyperparameter."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from lectopt._internal import checks
from lectopt._internal.arrays import as_array
from lectopt._internal.types import Array, Numeric

_SHARE = checks.Interval(0, 1)


class DropoutRate(nnx.Variable[Any]):
    """The rate of a `Dropout` that is an array: not trained, but kept with the model."""


class Dropout(nnx.Dropout):
    r"""Sets a random part of its inputs to zero in training, with a rate that may be traced.

    .. math:: y_i = \frac{m_i x_i}{1 - p}, \qquad m_i \sim \operatorname{Bernoulli}(1 - p)

    In evaluation mode it returns its inputs. `flax.nnx.Dropout` does the same for a Python number; this one takes an
    array too, traced or not, so that a search runs all rates in one program. It makes the same numbers from the same
    keys, and is zero at a rate of 1, without NaN in gradients.

    Args:
        rate: p, the probability with which an entry is dropped, in [0, 1]: a number, or an array of shape ().
        broadcast_dims: dimensions along which entries are dropped together; by default none.
        deterministic: whether to return the inputs as they are; False by default. `train()` and `eval()` set it, and
            training and evaluation of a `Task` do so by themselves.
        rng_collection: the name of the random stream, "dropout" by default.
        rngs: the `nnx.Rngs` that masks are drawn from.

    Raises:
        ValueError: if the rate is not in [0, 1], or not of shape ().
        TypeError: if it is not a number, `deterministic` is not a flag, `broadcast_dims` are not whole numbers, or
            `rng_collection` is not a string.

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> from flax import nnx
        >>> layer = lo.Dropout(jnp.float32(0.5), rngs=nnx.Rngs(0))
        >>> sorted(set(layer(jnp.ones(100)).tolist()))
        [0.0, 2.0]

    Source: Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov (2014), "Dropout: a simple way to prevent neural
    networks from overfitting", Journal of Machine Learning Research 15.
    """

    def __init__(
        self,
        rate: Numeric,
        *,
        broadcast_dims: Sequence[int] = (),
        deterministic: bool | None = False,
        rng_collection: str = "dropout",
        rngs: Any = None,
    ):
        checks.check_number("rate", rate, _SHARE)
        if deterministic is not None:
            checks.check_flag("deterministic", deterministic)
        if not isinstance(rng_collection, str):
            raise TypeError(f"rng_collection must be the name of a random stream, a string; got {rng_collection!r}")
        if not isinstance(broadcast_dims, Sequence) or not all(isinstance(dim, int) for dim in broadcast_dims):
            raise TypeError(f"broadcast_dims must be a list of dimensions, whole numbers; got {broadcast_dims!r}")
        _check_rngs(rngs)
        # A Python number is Flax's affair, and stays out of the arrays that are saved.
        held: Any = DropoutRate(_as_real(rate)) if hasattr(rate, "dtype") else rate
        super().__init__(
            held, broadcast_dims=broadcast_dims, deterministic=deterministic, rng_collection=rng_collection, rngs=rngs
        )

    def __call__(self, inputs: Array, *, deterministic: bool | None = None, rngs: Any = None) -> Array:
        """Drops entries of the inputs, unless it evaluates.

        Args:
            inputs: an array.
            deterministic: whether to return the inputs as they are; None takes the module's own mode.
            rngs: an `nnx.Rngs`, a stream or a key to draw the mask from; None takes the module's own.

        Returns:
            An array of the shape and dtype of the inputs.

        Raises:
            ValueError: if there is nothing to draw a mask from, or the inputs lack one of `broadcast_dims`.
            TypeError: if the inputs are not floating-point numbers, or `deterministic` is not a flag.
        """
        mode = self.deterministic if deterministic is None else checks.check_flag("deterministic", deterministic)
        if mode:
            return inputs
        _check_rngs(rngs, or_key=True)
        if not jnp.issubdtype(getattr(inputs, "dtype", object), jnp.inexact):
            kind = getattr(inputs, "dtype", type(inputs).__name__)
            raise TypeError(f"inputs must be an array of floating-point numbers; got {kind}")
        if odd := [dim for dim in self.broadcast_dims if not -inputs.ndim <= dim < inputs.ndim]:
            raise ValueError(f"broadcast_dims must be dimensions of the inputs, {inputs.ndim} of them; got {odd[0]}")
        if not isinstance(self.rate, nnx.Variable) or mode is None:
            return super().__call__(inputs, deterministic=mode, rngs=rngs)
        keep = 1 - self.rate[...]
        stream = self.rngs if rngs is None else rngs
        if stream is None:
            raise ValueError("rngs must be given to Dropout, or to its call, to draw a mask in training")
        stream = stream[self.rng_collection] if isinstance(stream, nnx.Rngs) else stream
        together = {dim % inputs.ndim for dim in self.broadcast_dims}
        shape = tuple(1 if i in together else size for i, size in enumerate(inputs.shape))
        mask = jax.random.bernoulli(stream() if callable(stream) else stream, keep, shape)
        # Nothing is kept at a rate of 1, whose quotient would have no gradient.
        divisor = jnp.where(keep > 0, keep, jnp.ones_like(keep)).astype(inputs.dtype)
        return jnp.where(mask, inputs / divisor, jnp.zeros_like(inputs))


def _as_real(rate: Any) -> Array:
    """Returns the rate as an array of floating-point numbers: 0 and 1 are rates too."""
    rate = as_array("rate", rate)
    return rate if jnp.issubdtype(rate.dtype, jnp.inexact) else rate.astype(float)


def _check_rngs(rngs: Any, *, or_key: bool = False) -> None:
    """Raises TypeError unless these are random streams, one of them, or None; in a call, a key will do too."""
    if rngs is None or isinstance(rngs, (nnx.Rngs, nnx.RngStream)):
        return
    if or_key and isinstance(rngs, jax.Array):
        typed = jax.dtypes.issubdtype(rngs.dtype, jax.dtypes.prng_key)
        if (typed and not rngs.shape) or (rngs.dtype, rngs.shape) == (jnp.uint32, (2,)):
            return
    raise TypeError(f"rngs must be an nnx.Rngs, such as nnx.Rngs(0); got {checks.value_and_type(rngs)}")
