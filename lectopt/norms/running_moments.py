"""Moments of data that come in parts, however many, without losing digits on the way."""

import jax
import jax.numpy as jnp

from lectopt._internal.types import Array
from lectopt.norms.moments import Moments


def accumulate(running: Moments, errors: Array, part: Moments) -> tuple[Moments, Array]:
    r"""The moments of the parts so far and of another one together.

    .. math:: n = n_a + n_b, \qquad \delta = \mu_b - \mu_a, \qquad \mu = \mu_a + \frac{n_b}{n} \delta, \qquad
        \sigma^2 = \sigma_a^2 + \frac{n_b}{n} \left( \sigma_b^2 - \sigma_a^2 + \frac{n_a}{n} \delta^2 \right)

    Late parts change the moments by less than one of their rounding steps, and would be lost: a count of 2^24 in
    float32 does not go on, and a mean of 1e5 stands still after some 10 000 parts. So what rounding takes away from
    each number is kept beside it (Kahan's compensated summation), and added with the next part.

    Args:
        running: the moments of the parts so far; zeros at first.
        errors: [3, ...], what is missing in count, mean and variance; zeros at first.
        part: the moments of the new part; with count 0 it changes nothing.

    Returns:
        The new moments, and their errors.

    Source: Chan et al. (1983), "Algorithms for computing the sample variance", equation 2.1; Kahan (1965).
    """
    count = running.count + part.count
    new_share, old_share = (n / jnp.where(count > 0, count, 1) for n in (part.count, running.count))
    difference = part.mean - running.mean - errors[1]
    # In this order it overflows with the variance, not before it.
    between = jnp.square(jnp.sqrt(new_share * old_share) * difference)
    steps = Moments(part.count, new_share * difference, new_share * (part.var - running.var - errors[2]) + between)
    steps = jax.tree.map(lambda step: jnp.where(part.count > 0, step, 0), steps)
    sums = [_add_compensated(*term) for term in zip(running, errors, steps, strict=True)]
    return Moments(*(total for total, _ in sums)), jnp.stack([error for _, error in sums])


def _add_compensated(total: Array, error: Array, step: Array) -> tuple[Array, Array]:
    """Returns total + step, rounded, and the rounding error; `error` is that of the total (Knuth's TwoSum)."""
    step = step + error
    # Behind a barrier, so that no compiler takes new - total for what step is.
    new = jax.lax.optimization_barrier(total + step)
    added = new - total
    return new, (total - (new - added)) + (step - added)
