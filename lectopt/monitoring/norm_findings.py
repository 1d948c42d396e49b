"""What is wrong with how a network is normalized."""

from collections.abc import Mapping

from flax import nnx

from lectopt._internal.trees import paths
from lectopt.monitoring.findings import Finding, list_layers
from lectopt.monitoring.thresholds import THRESHOLDS
from lectopt.norms.batch_norm import BatchNorm
from lectopt.training.run import Run


def small_batches(run: Run) -> Finding | None:
    """Reports a BatchNorm that is given few examples at a time."""
    size, layers = run.history.batch_size, _batch_norms(run)
    if size >= THRESHOLDS.batch_norm_batch or not layers:
        return None
    examples = "1 example" if size == 1 else f"{size} examples"
    evidence = f"mean and variance are those of {examples}, which are mostly noise, in {list_layers(layers)}"
    remedy = "Take batches of 32 or more, or lo.LayerNorm, which normalises each example by itself."
    return Finding("batches too small for BatchNorm", evidence, remedy, "Wu and He 2018, Group Normalization")


def _batch_norms(run: Run) -> list[str]:
    """Returns the layers that normalize over the batch; of pairs of functions nothing is known."""
    model = run.model
    if isinstance(model, nnx.Module):
        kinds = BatchNorm, nnx.BatchNorm
        return ["/".join(map(str, path)) for path, layer in nnx.iter_modules(model) if isinstance(layer, kinds)]
    variables = run.model_state.variables
    statistics = variables.get("batch_stats", {}) if isinstance(variables, Mapping) else {}
    return list(dict.fromkeys("/".join(path[:-1]) for path in paths(statistics)))
