"""`replicate`: what a sweep of one setting gives, by name and seed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lectopt as lo


def drawn(key):
    u = jax.random.uniform(key)
    return {"diverged_at": jnp.where(u < 0.5, 3, -1), "drawn": u, "more": u}


@pytest.mark.slow
def test_each_seed_is_a_call_of_its_own_with_the_keys_of_a_sweep():
    found = lo.replicate(drawn, 6, key=3, progress=False)
    options = {"minimize": "u", "seeds": 6, "key": 3, "progress": False}
    swept = lo.sweep(lambda setting, key: {"u": jax.random.uniform(key)}, {"x": [7.0]}, **options)
    assert {name: values.shape for name, values in found.items()} == {"drawn": (6,), "more": (6,)}
    alone = swept.metrics["u"][0, 0]
    assert 0 < np.isnan(found["drawn"]).sum() < 6
    for values in found.values():  # one that diverged has no score
        np.testing.assert_array_equal(values, np.where(alone < 0.5, np.nan, alone))


@pytest.mark.parametrize(
    ("function", "seeds", "key", "error", "message"),
    [
        (0.5, 2, 0, TypeError, "function must be a function of a key; got 0.5"),
        (lambda key: 1.0, 2, 0, TypeError, "a lectopt.Run or a dictionary of scalars; got ShapeDtypeStruct"),
        (lambda key: {}, 2, 0, TypeError, "it returned an empty dict"),
        (drawn, 0, 0, ValueError, "seeds must be at least 1; got 0"),
        (drawn, 2, -1, ValueError, "key must be an int in"),
        (lambda key: {"a": jnp.zeros(2)}, 2, 0, ValueError, "a"),
    ],
)
def test_nonsense_is_refused(function, seeds, key, error, message):
    with pytest.raises(error, match=message):
        lo.replicate(function, seeds, key=key, progress=False)
