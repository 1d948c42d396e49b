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
from lectopt.pretraining.model_arrays import model_paths, split_model
from lectopt.pretraining.pytorch_kernels import Layout, convert
from lectopt.pretraining.renaming_rules import ModelPath, Rules, rename_all
from lectopt.pretraining.transfer_checks import check_all_statistics, check_overlap, check_statistics
from lectopt.pretraining.transfer_sources import SourceArrays, read_source
from lectopt.training.starting import Start

LAYOUTS = ("flax", "torch")
STATISTICS = ("take", "keep")


class TransferRow(NamedTuple):
    """The outcome for one array.

    Attributes:
        path: its path in the target; in the source, if the outcome is "left".
        shape: its shape.
        outcome: "taken" from the source; "new", as it was in the target; "kept", a statistic of the target for which
            the source had one; or "left", an array of the source that was not used.
        source: the path in the source that it was taken from; "" if it was not.
    """

    path: str
    shape: tuple[int, ...]
    outcome: str
    source: str


@dataclasses.dataclass(frozen=True, repr=False)
class Transfer:
    """A model with arrays of another one: what `lo.transfer` returns.

    Print it, or let a notebook show it, for a table of all arrays and their outcomes.

    Attributes:
        model: the new model, of the kind that the target is.
        start: what `lo.fit` and `lo.train` take as `start=transferred.start`.
        labels: a tree of the structure of the parameters with "taken" or "new" in each place, for `optax.partition`.
        rows: the table, a `TransferRow` for each array.

    Example:
        >>> import lectopt as lo
        >>> from flax import nnx
        >>> trained, fresh = nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.Linear(2, 3, rngs=nnx.Rngs(1))
        >>> transferred = lo.transfer(trained, fresh, rename={"bias": None})
        >>> [(row.path, row.outcome) for row in transferred.rows]
        [('bias', 'new'), ('kernel', 'taken'), ('bias', 'left')]

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Parameter Initialization" (further
    techniques); Goodfellow, Bengio and Courville (2016), "Deep Learning", section 15.2.
    """

    model: Any
    start: Start
    labels: ArrayTree
    rows: Sequence[TransferRow]

    def to_pandas(self) -> Any:
        """Returns the table of arrays.

        Returns:
            A `pandas.DataFrame` with the index "path" and the columns "shape", "outcome" and "source".
        """
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
    """Copies the trained arrays of one model into another, wherever their paths agree.

    It is a pure function: it may stand inside `jit` and `vmap`, so that a search can transfer weights in each of its
    trainings.

    Train with `optax.partition` and `labels` to treat both parts differently. The part that is "taken" is frozen by
    `optax.set_to_zero()`, learns more slowly with a smaller rate, or is unfrozen at step k by
    `optax.conditionally_mask(optimizer, lambda step: step >= k)`. As in Flax, frozen BatchNorm layers still normalize
    by the batch in training, and update their statistics.

    Args:
        source: the trained model: an `nnx.Module`; Linen variables `{"params": ..., "batch_stats": ...}`; a tuple
            (params, variables); a `Run`; a `Pretrained`; or the path of a safetensors file, of what `Run.save` wrote,
            or of an Orbax checkpoint (`StandardCheckpointer`, or the last step of a `CheckpointManager`). Pickled files
            are refused, since they may run any program.
        target: the model to be trained: an `nnx.Module`, Linen variables, or a tuple (params, variables). It is not
            changed.
        rename: how paths of the source become paths of the target. A dictionary `{old: new}`: paths that begin with
            `old` begin with `new` instead; parts of a path are separated by slashes or dots; "*" matches any single
            part, and stands for the same part in `new`; `new=None` leaves the arrays out; of several rules that match,
            the longest applies. Or a function from a path such as "layers/0/kernel" to a path or None. None renames
            nothing.
        statistics: "take" or "keep" for variables that are not trained, such as the mean and variance of BatchNorm, and
            (of a `Run` or `Pretrained`) the standardization of inputs, which `start` then holds. It must be given if
            source and target both have such variables, or if the source standardizes its inputs; otherwise None.
        layout: "flax" (the default), or "torch" if the source has PyTorch's names and layouts. With "torch", weight,
            running_mean and running_var become kernel (or scale, or embedding), mean and var, and kernels of dense
            layers (also of `nnx.Einsum` with two axes and `nnx.LinearGeneral`) and convolutions are transposed as the
            target's layers read them. Linen variables do not tell the kind of their layers: kernels with two axes are
            taken for dense ones. What is not an array remains the target's: paddings, and of normalizations the
            momentum and epsilon (for LayerNorm 1e-5 in PyTorch, 1e-6 in Flax).
        flattened: with `layout="torch"`, `{path in the target: (channels, height, width)}` for dense layers that read a
            flattened image, since PyTorch stores channels first and Flax last; None if there are none.
        transposed: with `layout="torch"` and a target of Linen variables, the paths in the target of transposed
            convolutions with `transpose_kernel=False` (Linen's default), whose kernels are stored the other way round;
            () if there are none. It must be given where the shape of a kernel does not tell, that is, with as many
            inputs as outputs in a layer not called Conv_0, Conv_1, ...

    Returns:
        A `Transfer` with the fields `model`, `start`, `labels` and `rows`; it prints as a table. Arrays have the dtypes
        of the target.

    Raises:
        ValueError: if no paths agree; two arrays to be matched differ in shape or in kind of number; the statistics of
            a layer that is taken have no counterpart in the target (a `BatchNorm` with a window); a layer cannot be
            converted; an argument is not as described above; or a file is damaged, or is a pickle.
        TypeError: if `source` or `target` is not a model.
        FileNotFoundError: if there is nothing at the path.
        ImportError: for a safetensors file if the package `safetensors` is not installed.

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

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Parameter Initialization" (further
    techniques); Goodfellow, Bengio and Courville (2016), "Deep Learning", section 15.2; Yosinski, Clune, Bengio and
    Lipson (2014), "How transferable are features in deep neural networks?", NeurIPS.
    """
    checks.check_choice("layout", layout, LAYOUTS)
    if statistics is not None:
        checks.check_choice("statistics", statistics, STATISTICS)
    images = pytorch_names.parse_flattened(flattened)
    if images and layout == "flax":
        raise ValueError("flattened goes with layout='torch': in Flax the channels are last everywhere")
    if transposed is not None and layout == "flax":
        raise ValueError("transposed goes with layout='torch': in Flax kernels are taken as they are")
    target_layout = Layout.of(target, images, pytorch_names.parse_transposed(transposed, target))
    loaded, model = read_source(source), split_model("target", target)
    param_paths, variable_paths = model_paths(model.params), model_paths(model.variables)
    renamed = rename_all(list(loaded.arrays), rename)
    if layout == "torch":
        renamed = pytorch_names.translate_all(renamed, {*param_paths, *variable_paths})
    check_overlap(renamed, param_paths, layout)
    check_statistics(statistics, [path for path in variable_paths if path in renamed], loaded)

    def from_source(path: ModelPath, current: Array) -> Array:
        array = loaded.arrays[renamed[path]]
        converted = array if layout == "flax" else convert(path, array, current, target_layout)
        return _as_target_array("/".join(renamed[path]), array, converted, "/".join(path), current)

    def with_taken(tree: ArrayTree, paths: list[ModelPath], wanted: Collection[ModelPath]) -> ArrayTree:
        leaves, treedef = jax.tree.flatten(tree)
        new = [from_source(p, current) if p in wanted else current for p, current in zip(paths, leaves, strict=True)]
        return jax.tree.unflatten(treedef, new)

    taken = {*param_paths, *(variable_paths if statistics == "take" else ())} & {*renamed}
    for name, layers in (("flattened", images), ("transposed", target_layout.transposed or ())):
        pytorch_names.check_taken(name, layers, taken)
    if statistics != "keep":
        check_all_statistics(variable_paths, param_paths, renamed, taken)
    params = with_taken(model.params, param_paths, taken)
    variables = with_taken(model.variables, variable_paths, taken)
    arrays = {**_by_path(param_paths, params), **_by_path(variable_paths, variables)}
    labels = ["taken" if path in taken else "new" for path in param_paths]
    return Transfer(
        model=model.rebuild(params, variables),
        start=Start(params, variables, loaded.inputs if statistics == "take" else None),
        labels=jax.tree.unflatten(jax.tree.structure(model.params), labels),
        rows=_rows(arrays, taken, renamed, loaded, statistics),
    )


def _as_target_array(origin: str, array: Array, converted: Array, path: str, current: Array) -> Array:
    shape, dtype = jnp.shape(current), jnp.result_type(current)
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
    renamed: Mapping[ModelPath, ModelPath],
    loaded: SourceArrays,
    statistics: str | None,
) -> list[TransferRow]:
    used = {renamed[path] for path in taken}
    rows = []
    for path, array in arrays.items():
        outcome = "taken" if path in taken else "kept" if path in renamed and statistics == "keep" else "new"
        origin = "/".join(renamed[path]) if path in taken else ""
        rows.append(TransferRow("/".join(path), jnp.shape(array), outcome, origin))
    left = ((path, array) for path, array in loaded.arrays.items() if path not in used)
    return rows + [TransferRow("/".join(path), array.shape, "left", "") for path, array in left]


def _by_path(paths: Sequence[ModelPath], tree: ArrayTree) -> dict[ModelPath, Array]:
    return dict(zip(paths, jax.tree.leaves(tree), strict=True))
