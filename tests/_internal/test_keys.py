"""Seeds and keys: different ones draw differently, or are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lectopt as lo
from lectopt._internal.keys import as_key

EXAMPLES = (np.arange(9.0),)


@pytest.mark.parametrize("seed", [0, 7, 2**31 - 1, 2**31, 2**32 - 1])
def test_whole_numbers_of_every_kind_are_the_same_seed(seed):
    wanted = jax.random.key_data(jax.random.key(seed))
    kinds = [seed, np.int64(seed), np.uint32(seed), np.array(seed), jnp.uint32(seed)]
    if seed < 2**31:
        kinds += [jnp.int32(seed), np.int32(seed)]
    for kind in kinds:
        np.testing.assert_array_equal(jax.random.key_data(as_key(kind)), wanted)
    np.testing.assert_array_equal(jax.random.key_data(jax.jit(as_key)(jnp.uint32(seed))), wanted)


@pytest.mark.parametrize("seed", [-1, 2**32, 2**63, 10**30, np.int64(-1), np.array(2**32), jnp.int32(-1)])
def test_a_seed_that_would_be_cut_is_refused(seed):
    with pytest.raises(ValueError, match=rf"key must be an int in \[0, 2\*\*32\), .*; got {int(seed)}$"):
        as_key(seed)
    with pytest.raises(ValueError, match=r"key must be an int in \[0, 2\*\*32\)"):
        lo.minibatches(EXAMPLES, 2, key=seed)
    with pytest.raises(ValueError, match=r"key must be an int in \[0, 2\*\*32\)"):
        lo.holdout(EXAMPLES, 0.5, key=seed)


@pytest.mark.parametrize("seed", [True, 1.0, "1", None, jnp.float32(1), np.zeros(2, int), jnp.array([True])])
def test_what_is_no_seed_is_refused(seed):
    with pytest.raises(TypeError, match=r"key must be an int or one jax.random.key; got "):
        as_key(seed)
