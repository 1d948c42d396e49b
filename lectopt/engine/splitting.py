"""Arrays and functions split over devices."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P


class DeviceRow:
    """Devices side by side, over which an axis of arrays is split.

    Which axis, is said as by `jax.vmap`: its number, or None for arrays that are whole on every device.
    """

    def __init__(self, devices: Sequence[Any], name: str):
        """Arranges the devices along one axis, whose name is in the text of lowered programs."""
        self.mesh = jax.make_mesh((len(devices),), (name,), (AxisType.Auto,), devices=devices)
        self._name = name

    @property
    def size(self) -> int:
        """How many devices there are."""
        return self.mesh.size

    def sharding(self, axis: int | None) -> NamedSharding:
        """Returns the sharding of arrays that are split along an axis."""
        return NamedSharding(self.mesh, self._spec(axis))

    def split(self, function: Callable[..., Any], in_axes: Sequence[int | None], out_axes: int) -> Callable[..., Any]:
        """Returns the function with each device working on its part of the arguments."""
        specs = tuple(map(self._spec, in_axes))
        return jax.shard_map(function, mesh=self.mesh, in_specs=specs, out_specs=self._spec(out_axes), check_vma=False)

    def _spec(self, axis: int | None) -> P:
        return P() if axis is None else P(*[None] * axis, self._name)
