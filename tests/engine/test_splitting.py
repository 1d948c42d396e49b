"""Rows split over devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from lectopt.engine.splitting import DeviceRow


@pytest.mark.parametrize(("axis", "spec"), [(None, P()), (0, P("lanes")), (1, P(None, "lanes"))])
def test_an_axis_is_named_as_by_vmap(axis, spec):
    row = DeviceRow(jax.devices()[:1], "lanes")
    assert row.sharding(axis).spec == spec
    assert row.size == 1


def test_each_device_works_on_its_part(several_devices):
    row, rows, whole = DeviceRow(jax.devices()[:3], "lanes"), jnp.arange(12.0).reshape(6, 2), jnp.arange(4.0)
    assert row.size == 3

    def part(rows, whole):
        assert rows.shape == (2, 2)  # a third
        assert whole.shape == (4,)
        return rows + whole.sum()

    np.testing.assert_array_equal(jax.jit(row.split(part, in_axes=(0, None), out_axes=0))(rows, whole), rows + 6)
    doubled = jax.jit(row.split(lambda columns: 2 * columns, in_axes=(1,), out_axes=1))(rows.T)
    np.testing.assert_array_equal(doubled, 2 * rows.T)
    assert len({shard.device for shard in doubled.addressable_shards}) == 3
