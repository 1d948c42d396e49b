"""Moments of data that come in parts, however many, without losing digits on the way."""

import jax
import jax.numpy as jnp

from lectopt._internal.types import Array
from lectopt.norms.moments import Moments


def accumulate(kept: Moments, errors: Array, part: Moments) -> tuple[Moments, Array]:
    r"""The moments of what was seen and of another part together.

    .. math:: n = n_a + n_b, \qquad \delta = \mu_b - \mu_a, \qquad \mu = \mu_a + \frac{n_b}{n} \delta, \qquad
        \sigma^2 = \sigma_a^2 + \frac{n_b}{n} \left( \sigma_b^2 - \sigma_a^2 + \frac{n_a}{n} \delta^2 \right)

    Late parts change the moments by less than one of their rounding steps, and would be lost: a count of 2^24 in
    float32 does not go on, and a mean of 1e5 stands still after some 10 000 parts. So what rounding takes away from
    each number is kept beside it (Kahan's compensated summation), and added with the next part.

    Args:
        kept: the moments of what was seen; zeros of nothing.
        errors: [3, ...], what is missing in count, mean and variance; zeros at first.
        part: the moments of what is new; with count 0 it changes nothing.

    Returns:
        The new moments, and their errors.

    Source: Chan et al. (1983), "Algorithms for computing the sample variance", equation 2.1; Kahan (1965).
    """
    count = kept.count + part.count
    new, old = (n / jnp.where(count > 0, count, 1) for n in (part.count, kept.count))
    apart = part.mean - kept.mean - errors[1]
    between = jnp.square(jnp.sqrt(new * old) * apart)  # this way it overflows with the variance, not before it
    steps = Moments(part.count, new * apart, new * (part.var - kept.var - errors[2]) + between)
    steps = jax.tree.map(lambda step: jnp.where(part.count > 0, step, 0), steps)
    sums = [_add(*term) for term in zip(kept, errors, steps, strict=True)]
    return Moments(*(total for total, _ in sums)), jnp.stack([error for _, error in sums])


def _add(kept: Array, error: Array, step: Array) -> tuple[Array, Array]:
    """Returns kept + step, rounded, and the rounding error; `error` is that of the step before (Knuth's TwoSum)."""
    step = step + error
    # Behind a barrier, so that no compiler takes total - kept for what step is.
    total = jax.lax.optimization_barrier(kept + step)
    added = total - kept
    return total, (kept - (total - added)) + (step - added)
