"""Products as accelerators form them: of float32 numbers that are first rounded, to the 10 bits of TensorFloat-32 on a
GPU or to the 7 bits of bfloat16 on a TPU.

A CPU forms them exactly, whatever precision is asked for. After `round_products`, it takes JAX's names at their word:
under `jax.default_matmul_precision("tensorfloat32")` or `"bfloat16"` the inputs of products and convolutions are
rounded, those of their gradients too; where a program asks for "highest", or for nothing, they are not. This happens
where a product is lowered, so that no `jit`, `vmap`, `scan` or gradient goes past it. And since precision belongs to
what is traced, no program is taken for another one.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax._src.interpreters import mlir
from jax._src.lib.mlir import ir
from jax._src.lib.mlir.dialects import hlo
from jax.extend.core import primitives

NAMES = {10: "tensorfloat32", 7: "bfloat16"}
"""What JAX calls the precision of so many bits."""

_BITS: dict[jax.lax.Precision | None, int] = {jax.lax.Precision.HIGH: 10, jax.lax.Precision.DEFAULT: 7}
_EXPONENT_BITS = 8


def round_products() -> None:
    """From now on, products on the CPU have the precision that their program asks for."""
    for product in (primitives.dot_general_p, primitives.conv_general_dilated_p):
        exact = mlir._platform_specific_lowerings["cpu"][product].rule
        mlir.register_lowering(product, _with_rounded_inputs(exact), platform="cpu")


def _with_rounded_inputs(exact: Callable[..., Any]) -> Callable[..., Any]:
    def lower(context: Any, *inputs: ir.Value, precision: Any, **options: Any) -> Sequence[ir.Value]:
        asked = precision if isinstance(precision, tuple) else (None, None)
        return exact(context, *map(_rounded, inputs, asked), precision=precision, **options)

    return lower


def _rounded(value: ir.Value, precision: jax.lax.Precision | None) -> ir.Value:
    if precision not in _BITS or not isinstance(ir.RankedTensorType(value.type).element_type, ir.F32Type):
        return value
    bits = ir.IntegerAttr.get(ir.IntegerType.get_signless(32), _BITS[precision])
    exponent = ir.IntegerAttr.get(ir.IntegerType.get_signless(32), _EXPONENT_BITS)
    return hlo.reduce_precision(value, exponent_bits=exponent, mantissa_bits=bits)


@contextlib.contextmanager
def whatever_is_asked_for(bits: int) -> Iterator[None]:
    """Rounds the inputs of all products to so many bits, as a device does that cannot form them exactly."""
    before = dict(_BITS)
    _BITS.update(dict.fromkeys([*jax.lax.Precision, None], bits))
    jax.clear_caches()  # of programs whose products are exact
    try:
        yield
    finally:
        _BITS.clear()
        _BITS.update(before)
        jax.clear_caches()
