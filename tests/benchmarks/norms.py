"""Speed and accuracy of BatchNorm and LayerNorm against Flax: `python tests/benchmarks/norms.py`.

Forward and backward, compiled; runs of ours and of a peer in turn, medians of each and the ratio over the pairs. Beside
it the largest error of the normalised output against float64, for N(mean, 1) inputs.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import lectopt as lo
from tests.benchmarks import timing

PAIRS = 11
# Calls in a row: with every call in turn, what is timed is who finds the other's freed buffers (0.9 became 1.2).
CALLS = 4
SHAPES = [(4096, 1024), (64, 56, 56, 64)]
MEANS = [0.0, 1e2, 1e4, 1e5]
LAYERS = {
    "BatchNorm": (lo.BatchNorm, nnx.BatchNorm, lambda shape: tuple(range(len(shape) - 1))),
    "LayerNorm": (lo.LayerNorm, nnx.LayerNorm, lambda shape: (-1,)),
}


def compiled(make, shape, **arguments):
    """Output, new state, and the gradients with respect to input, scale and bias."""
    graphdef, params, rest = nnx.split(make(shape[-1], **arguments, rngs=nnx.Rngs(0)), nnx.Param, ...)

    @jax.jit
    def step(x, params, rest, cotangent):
        def call(x, params):
            layer = nnx.merge(graphdef, params, rest, copy=True)
            return layer(x), nnx.state(layer, nnx.BatchStat)

        y, pullback, state = jax.vjp(call, x, params, has_aux=True)
        return y, state, pullback(cotangent)

    return lambda x, cotangent: jax.block_until_ready(step(x, params, rest, cotangent))


def repeated(step, x, cotangent):
    def calls():
        for _ in range(CALLS):
            step(x, cotangent)

    return calls


def error(step, shape, mean, axes, eps):
    x = (np.random.default_rng(1).normal(size=shape) + mean).astype(np.float32)
    wide = x.astype(np.float64)
    exact = (wide - wide.mean(axes, keepdims=True)) / np.sqrt(wide.var(axes, keepdims=True) + eps)
    return np.abs(np.asarray(step(x, jnp.zeros(shape))[0]) - exact).max()


def main():
    """Prints one row for each layer, shape and peer."""
    rng = np.random.default_rng(0)
    for name, (make, peer_make, axes_of) in LAYERS.items():
        for shape in SHAPES:
            x, cotangent = (jnp.asarray(rng.normal(size=shape), jnp.float32) for _ in range(2))
            steps = {
                "lectopt": compiled(make, shape),
                "Flax two-pass": compiled(peer_make, shape, use_fast_variance=False),
                "Flax default": compiled(peer_make, shape),
            }
            if make is lo.BatchNorm:
                steps["lectopt, window=36"] = compiled(make, shape, window=36)
            eps = 1e-5 if make is lo.BatchNorm else 1e-6
            for key, step in steps.items():
                errors = "  ".join(f"{error(step, shape, mean, axes_of(shape), eps):.1e}" for mean in MEANS)
                ours, peer = timing.alternate(
                    {"ours": repeated(steps["lectopt"], x, cotangent), "peer": repeated(step, x, cotangent)}, PAIRS
                ).values()
                print(
                    f"{name} {shape!s:18} {key:18} {timing.milliseconds(peer / CALLS):>6} ms  "
                    f"lectopt / it {timing.ratio(ours, peer)}  errors at means {MEANS}: {errors}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
