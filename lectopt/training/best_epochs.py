"""After how many epochs the weights were reached that a training returned."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from lectopt._internal.checks import is_traced
from lectopt._internal.types import Numeric
from lectopt.training.history import History


def best_epoch(metrics: Mapping[str, Any], history: History) -> Numeric:
    """Returns the number of epochs, found by the records that equal the metrics: the first ones, of several.

    The carry does not say it: what directories keep of it is laid down.
    """
    records = {name: r for name, r in (history.validations or history.epochs).items() if name in metrics}
    xp = jnp if is_traced((metrics, records)) else np
    apart = sum(xp.abs(xp.asarray(record) - xp.asarray(metrics[name])[..., None]) for name, record in records.items())
    apart = xp.where(xp.isnan(apart), xp.inf, apart)
    epochs = np.arange(1, apart.shape[-1] + 1)
    if history.validations:
        epochs = np.ceil(history.epochs_done[history.validated_steps - 1] - 1e-9).astype(np.int32)
    known = xp.isfinite(xp.asarray(metrics["train_loss"])) & xp.any(xp.isfinite(apart), axis=-1)
    found = xp.where(known, xp.asarray(epochs, np.int32)[xp.argmin(apart, axis=-1)], 0).astype(np.int32)
    return found if xp is jnp or found.ndim else int(found)
