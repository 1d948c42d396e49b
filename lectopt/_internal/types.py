"""Names for arrays in signatures, which chex has too; importing that would take longer than all of lectopt."""

from typing import Any, TypeAlias

import jax
import numpy as np

Array: TypeAlias = jax.Array
Numeric: TypeAlias = jax.Array | np.ndarray | np.number | np.bool_ | float | int
ArrayTree: TypeAlias = Any  # arrays in tuples, lists, dictionaries and other pytrees
