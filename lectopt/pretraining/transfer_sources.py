"""Trained arrays from wherever they are, by their paths: a model, a run, an Orbax checkpoint, a safetensors file."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._internal.files import checked_path
from lectopt._internal.types import Array
from lectopt.norms.moments import Moments
from lectopt.pretraining.model_arrays import is_array, model_paths, split_model, within_model
from lectopt.pretraining.renaming_rules import ModelPath, as_path
from lectopt.pretraining.results import Pretrained
from lectopt.training import checkpoints
from lectopt.training.run import Run

_PICKLES = (".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt")


class SourceArrays(NamedTuple):
    """What there is to take."""

    arrays: dict[ModelPath, Array]  # parameters and statistics
    inputs: Moments | None = None  # by which a run standardizes


def read_source(source: Any) -> SourceArrays:
    """Returns the arrays of `source`, in any form that `transfer` takes.

    Raises:
        TypeError: if it is nothing of the kind.
        FileNotFoundError, ValueError: if a path leads to nothing, or to a file that cannot be read.
    """
    if isinstance(source, (str, Path)):
        return _read_path(checked_path("source", source))
    if isinstance(source, (Run, Pretrained)):
        if isinstance(source, Run):
            source.check_single()
        return SourceArrays(_arrays(source.params) | _arrays(source.model_state.variables), source.model_state.inputs)
    parts = split_model("source", source, also=", a Run or Pretrained, or a path")
    return SourceArrays(_arrays(parts.params) | _arrays(parts.variables))


def _read_path(path: Path) -> SourceArrays:
    if not path.exists():
        raise FileNotFoundError(f"source must be a safetensors file or an Orbax checkpoint; there is nothing at {path}")
    if path.is_dir():
        return _read_run(path) if checkpoints.is_ours(path) else SourceArrays(_arrays(checkpoints.read_tree(path)))
    if path.suffix.lower() in _PICKLES:
        raise ValueError(
            f"source must be a safetensors file, not a pickle, which could run any program; got {path}. In PyTorch: "
            "safetensors.torch.save_file(model.state_dict(), 'model.safetensors')"
        )
    return SourceArrays(_read_safetensors(path))


def _read_run(path: Path) -> SourceArrays:
    archive = checkpoints.read("source", path)
    if archive.ordered:
        raise ValueError(
            f"source must be a run that was saved with the names of its arrays; {path} was saved before they were "
            "kept: give lectopt.load(path, task)"
        )
    state = archive.trees["model_state"]
    variables = {name[1:]: array for name, array in state.items() if name[0] == "variables"}
    inputs = {name[1]: array for name, array in state.items() if name[0] == "inputs"}
    arrays = {within_model(name): array for name, array in (archive.trees["params"] | variables).items()}
    return SourceArrays(arrays, Moments(**inputs) if inputs else None)


def _read_safetensors(path: Path) -> dict[ModelPath, Array]:
    try:
        from safetensors import SafetensorError, safe_open  # noqa: PLC0415, optional
    except ImportError as error:
        raise ImportError("safetensors files need the package: pip install 'lectopt[safetensors]'") from error
    try:
        with safe_open(path, framework="flax") as file:
            return {as_path(name): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dictionary
    except (SafetensorError, OSError) as error:
        raise ValueError(f"source must be a safetensors file; {path} is not: {error}") from error
    except (AttributeError, TypeError) as error:  # numbers of 8 bits
        raise ValueError(f"source must hold numbers that NumPy knows; {path} holds others: {error}") from error


def _arrays(tree: Any) -> dict[ModelPath, Array]:
    """Returns the numbers in a tree."""
    leaves = zip(model_paths(tree), jax.tree.leaves(tree), strict=True)
    arrays: dict[ModelPath, Any] = {p: x if hasattr(x, "dtype") else np.asarray(x) for p, x in leaves if is_array(x)}
    return {path: array for path, array in arrays.items() if jnp.issubdtype(array.dtype, jnp.number)}
