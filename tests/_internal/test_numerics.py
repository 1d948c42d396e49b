"""Rules applied to all leaves of a tree."""

import jax
import numpy as np
import pytest

from lectopt._internal import numerics


@pytest.mark.parametrize(("alike", "traces"), [(9, 1), (3, 3)])
def test_many_leaves_of_one_shape_are_traced_once(alike, traces):
    traced = []
    leaves = [np.full(2, i, np.float32) for i in range(alike)]
    doubled = jax.jit(lambda leaves: numerics.map_leaves(lambda g: (traced.append(0), (2 * g,))[1], leaves))(leaves)
    assert len(traced) == traces
    np.testing.assert_array_equal(doubled[0], 2 * np.array(leaves))
