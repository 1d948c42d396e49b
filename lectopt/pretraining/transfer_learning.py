"""`transfer`: the arrays of a trained model, taken into another by their paths."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lectopt._internal import checks
from lectopt._internal.tables import as_html, as_text, import_pandas
from lectopt._internal.types import Array, ArrayTree
from lectopt.pretraining import pytorch_names
from lectopt.pretraining.model_arrays import model_paths, take_apart
from lectopt.pretraining.pytorch_kernels import Layout, convert
from lectopt.pretraining.renaming_rules import ModelPath, Rules, rename_all
from lectopt.pretraining.transfer_sources import Source, read
from lectopt.training.origin import Origin

LAYOUTS = ("flax", "torch")
STATISTICS = ("take", "keep")
_COUNTERS = ("num_batches_tracked",)  # of PyTorch's BatchNorm, which Flax's has no use for


class TransferRow(NamedTuple):
    """What became of one array."""

    path: str  # in the target; in the source, where it was left
    shape: tuple[int, ...]
    outcome: str  # "taken", "new" (as the target has it), "kept" (a statistic that was to be), or "left"
    source: str  # the path that it was taken from, "" otherwise


@dataclasses.dataclass(frozen=True, repr=False)
class Transfer:
    """What `transfer` returns. Print it for a table of what was taken, is new, was kept and was left."""

    model: Any
    """A model of the target's kind with what was taken."""
    start: Origin
    """Give it to `fit` or `train`: `start=transferred.start`."""
    labels: ArrayTree
    """A tree like the parameters, "taken" or "new" for each: for `optax.partition`."""
    rows: Sequence[TransferRow]
    """The table."""

    def to_pandas(self) -> Any:
        """The table as a pandas DataFrame."""
        return import_pandas().DataFrame(self.rows).set_index("path")

    def __repr__(self) -> str:
        return as_text(self._cells())

    def _repr_html_(self) -> str:
        return as_html(self._cells())

    def _cells(self) -> list[list[str]]:
        head = ["array", "shape", "outcome", "from"]
        return [head, *([row.path, str(row.shape), row.outcome, row.source or "-"] for row in self.rows)]


def transfer(
    source: Any,
    target: Any,
    *,
    rename: Rules | None = None,
    statistics: str | None = None,
    layout: str = "flax",
    flattened: Mapping[str, Sequence[int]] | None = None,
    transposed: Collection[str] | None = None,
) -> Transfer:
    """Takes the trained arrays of one model into another, wherever their paths agree.

    Pure: it can stand inside of `jit` and `vmap`, so that a search can transfer in each of its lanes.

    Args:
        source: the trained model: an nnx.Module, Linen variables {"params": ..., "batch_stats": ...}, (params,
            variables), a Run, or the path of a safetensors file, of what `Run.save` wrote, or of an Orbax checkpoint
            (`StandardCheckpointer`; the last step of a `CheckpointManager`). Pickled files are refused.
        target: the model to train: an nnx.Module, Linen variables, or (params, variables). It is left as it is.
        rename: {old: new}, by which paths of the source that begin with `old` begin with `new`. Steps are parted by
            slashes (or dots); "*" stands for any one step, in `new` for the same; None leaves a part out; the longest
            rule counts. Or a function of a path, "layers/0/kernel", that returns a path or None.
        statistics: "take" or "keep" for the variables that are not trained, such as the mean and variance of
            BatchNorm, and (of a Run) how inputs are standardised, which `start` then holds. It must be said where
            there are any in both models.
        layout: "torch" if names and layouts are PyTorch's: weight, running_mean and running_var become kernel (or
            scale, or embedding), mean and var; kernels of dense layers (also `nnx.Einsum` of two axes, `LinearGeneral`)
            and convolutions are turned as the target's layer reads them. Linen's variables do not say what layer they
            are of: a kernel of two axes is taken for a dense layer's. What is no array stays the target's: paddings,
            and of norms momentum and epsilon, 1e-5 in PyTorch's LayerNorm and 1e-6 in Flax's.
        flattened: with layout "torch", {path in the target: (channels, height, width)} for dense layers that read a
            flattened image, whose order differs: PyTorch has the channels first, Flax last.
        transposed: with layout "torch" and Linen's variables, the paths in the target of its transposed convolutions
            (of transpose_kernel=False, Linen's default), whose kernels turn another way; () if there are none. It must
            be said where a kernel has as many inputs as outputs, and its layer is not called Conv_0, Conv_1 ...

    Returns:
        A Transfer: `.model`, `.start` for `fit` and `train`, `.labels` for `optax.partition`, and a table when it is
        printed. Arrays have the target's dtypes. Under `optax.partition`, the part that is "taken" is frozen by
        `optax.set_to_zero()`, learns less by a smaller rate, and is unfrozen at a step k by
        `optax.conditionally_mask(optimizer, lambda step: step >= k)`. In training, BatchNorm layers that are frozen
        still normalise with the batch and update their statistics, as in Flax.

    Raises:
        ValueError: if no path agrees, the shapes of two arrays that are to be one differ, the statistics of a layer
            that is taken have no place in the target (a `BatchNorm` with a window), a layer cannot be converted, or an
            argument is not as described above; if a file is not what its name says, or is a pickle.
        TypeError: if source or target is no model.
        FileNotFoundError: if there is nothing at the path.
        ImportError: for a safetensors file without `pip install 'lectopt[safetensors]'`.

    Example:
        >>> import lectopt as lo, optax
        >>> from flax import nnx
        >>> def net(classes, rngs):
        ...     return nnx.Sequential(nnx.Linear(64, 32, rngs=rngs), nnx.relu, nnx.Linear(32, classes, rngs=rngs))
        >>> trained, fresh = net(10, nnx.Rngs(0)), net(5, nnx.Rngs(1))
        >>> transferred = lo.transfer(trained, fresh, rename={"layers/2": None})
        >>> transferred
        array            shape     outcome  from
        layers/0/bias    (32,)     taken    layers/0/bias
        layers/0/kernel  (64, 32)  taken    layers/0/kernel
        layers/2/bias    (5,)      new      -
        layers/2/kernel  (32, 5)   new      -
        layers/2/bias    (10,)     left     -
        layers/2/kernel  (32, 10)  left     -
        >>> frozen = optax.partition({"taken": optax.set_to_zero(), "new": lo.adam(1e-2)}, transferred.labels)
        >>> task = lo.classification(transferred.model)  # lo.fit(task, frozen, ...) trains the new layer alone

    Source: the lecture, "Further techniques": pre-training on similar tasks.
    """
    checks.check_choice("layout", layout, LAYOUTS)
    if statistics is not None:
        checks.check_choice("statistics", statistics, STATISTICS)
    images = pytorch_names.parse_flattened(flattened)
    if images and layout == "flax":
        raise ValueError("flattened goes with layout='torch': in Flax the channels are last everywhere")
    if transposed is not None and layout == "flax":
        raise ValueError("transposed goes with layout='torch': in Flax kernels are taken as they are")
    known = Layout.of(target, images, pytorch_names.parse_transposed(transposed, target))
    found, parts = read(source), take_apart("target", target)
    trained, others = model_paths(parts.params), model_paths(parts.variables)
    offered = rename_all(list(found.arrays), rename)
    if layout == "torch":
        offered = pytorch_names.translate_all(offered, {*trained, *others})
    _check_overlap(offered, trained, layout)
    _check_statistics(statistics, [path for path in others if path in offered], found)

    def take(path: ModelPath, own: Array) -> Array:
        array = found.arrays[offered[path]]
        converted = array if layout == "flax" else convert(path, array, own, known)
        return _fitting("/".join(offered[path]), array, converted, "/".join(path), own)

    def fill(tree: ArrayTree, paths: list[ModelPath], wanted: Collection[ModelPath]) -> ArrayTree:
        leaves, treedef = jax.tree.flatten(tree)
        new = [take(p, own) if p in wanted else own for p, own in zip(paths, leaves, strict=True)]
        return jax.tree.unflatten(treedef, new)

    taken = {*trained, *(others if statistics == "take" else ())} & {*offered}
    for name, layers in (("flattened", images), ("transposed", known.transposed or ())):
        pytorch_names.check_taken(name, layers, taken)
    if statistics != "keep":
        _check_all_statistics(others, trained, offered, taken)
    params, variables = fill(parts.params, trained, taken), fill(parts.variables, others, taken)
    labels = ["taken" if path in taken else "new" for path in trained]
    return Transfer(
        model=parts.rebuild(params, variables),
        start=Origin(params, variables, found.inputs if statistics == "take" else None),
        labels=jax.tree.unflatten(jax.tree.structure(parts.params), labels),
        rows=_rows({**_leaves(trained, params), **_leaves(others, variables)}, taken, offered, found, statistics),
    )


def _check_overlap(offered: Mapping[ModelPath, ModelPath], trained: Sequence[ModelPath], layout: str) -> None:
    if not {*offered} & {*trained}:
        hint = ""
        if layout == "flax" and any(path[-1:] == ("weight",) for path in offered):
            hint = ". Names such as 'weight' are PyTorch's: give layout='torch'"
        raise ValueError(
            "source and target must have paths in common, or rename must make them so; source has "
            f"{_some(offered)}, target {_some(trained)}{hint}"
        )
    for path in offered if layout == "flax" else ():
        new = pytorch_names.translate(path, {*trained} - {*offered})
        if new != path:
            raise ValueError(
                f"layout must be 'torch' where names are PyTorch's; source has {'/'.join(path)} where target has "
                f"{'/'.join(new)}. If it is not PyTorch's, rename one to the other, or leave it out"
            )


def _check_statistics(statistics: str | None, common: Sequence[ModelPath], found: Source) -> None:
    if statistics is None and (common or found.inputs is not None):
        what = _some(common) if common else "how the run standardises its inputs"
        raise ValueError(
            f"statistics must be 'take' or 'keep', since source holds variables that are not trained: {what}"
        )


def _check_all_statistics(
    others: Sequence[ModelPath],
    trained: Sequence[ModelPath],
    offered: Collection[ModelPath],
    taken: Collection[ModelPath],
) -> None:
    """Raises where a layer has other statistics than what is offered for it: it would go on with its own."""
    for layer in {path[:-1] for path in others if path not in taken}:
        own = [path for path in others if path[:-1] == layer]
        here = [path for path in offered if path[:-1] == layer and path[-1] not in _COUNTERS]
        lost = [path for path in here if path not in taken and path not in trained]
        if lost:
            raise ValueError(
                f"target must have the statistics of source; {_some(lost)} of source have no place among {_some(own)} "
                "(a window keeps batches, not an average). Give statistics='keep' and let target collect its own, or "
                "make it without a window"
            )


def _fitting(origin: str, array: Array, converted: Array, path: str, own: Array) -> Array:
    shape, dtype = jnp.shape(own), jnp.result_type(own)
    if converted.shape != shape:
        turned = "" if converted.shape == array.shape else f", turned to {converted.shape}"
        raise ValueError(
            f"source and target must have arrays of the same shape; {origin} of source has {array.shape}{turned}, "
            f"{path} of target {shape}. Leave it out with rename={{{origin.rpartition('/')[0] or origin!r}: None}}"
        )
    if any(jnp.issubdtype(array.dtype, kind) != jnp.issubdtype(dtype, kind) for kind in (jnp.inexact, jnp.floating)):
        raise ValueError(
            f"source and target must hold the same kind of numbers; {origin} of source is {array.dtype}, {path} of "
            f"target {dtype}"
        )
    return jnp.asarray(converted).astype(dtype)


def _rows(
    arrays: Mapping[ModelPath, Array],
    taken: Collection[ModelPath],
    offered: Mapping[ModelPath, ModelPath],
    found: Source,
    statistics: str | None,
) -> list[TransferRow]:
    used = {offered[path] for path in taken}
    rows = []
    for path, array in arrays.items():
        outcome = "taken" if path in taken else "kept" if path in offered and statistics == "keep" else "new"
        origin = "/".join(offered[path]) if path in taken else ""
        rows.append(TransferRow("/".join(path), jnp.shape(array), outcome, origin))
    left = ((path, array) for path, array in found.arrays.items() if path not in used)
    return rows + [TransferRow("/".join(path), array.shape, "left", "") for path, array in left]


def _leaves(paths: Sequence[ModelPath], tree: ArrayTree) -> dict[ModelPath, Array]:
    return dict(zip(paths, jax.tree.leaves(tree), strict=True))


def _some(paths: Collection[ModelPath]) -> str:
    names = list(map("/".join, paths)) or ["nothing"]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
