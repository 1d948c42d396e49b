"""A random order of the examples, from a concrete key."""

from typing import Any

import jax
import numpy as np

from lectopt._internal import checks
from lectopt._internal.keys import as_key
from lectopt.data.subsets import Subset, as_subset


def shuffled(examples: Any, key: Any) -> tuple[Subset, np.ndarray]:
    """Returns the examples, and an order of them drawn from the key."""
    whole = as_subset(examples)
    check_concrete(whole, key)
    with jax.ensure_compile_time_eval():
        return whole, np.asarray(jax.random.permutation(as_key(key), len(whole)))


def check_concrete(whole: Subset, key: Any) -> None:
    """Raises if an index set would depend on a traced value."""
    checks.check_known("examples and key", (whole.indices, whole.size, key))
