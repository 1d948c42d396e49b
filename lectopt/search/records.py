"""What a search has finished, on disk: one file for each chunk, of arrays only, written in one stroke."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lectopt.search.lanes import Outcome


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """One file of these arrays, which takes the place of what was there in one stroke."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with part.open("wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


class Records:
    """The finished chunks of one group of settings."""

    def __init__(self, directory: Path):
        self._directory = directory

    def write(self, rows: np.ndarray, pairs: np.ndarray, outcome: Outcome) -> None:
        """Keeps the outcomes [rows, pairs] of these lanes."""
        arrays = {f"leaf{i:04}": leaf for i, leaf in enumerate(jax.tree.leaves(outcome))}
        path = self._directory / f"lanes-{rows[0]}-{rows[-1]}-{pairs[0]}-{pairs[-1]}.npz"
        write_arrays(path, {"rows": rows, "pairs": pairs, **arrays})

    def read(self, like: Outcome) -> Iterator[tuple[np.ndarray, np.ndarray, Outcome]]:
        """All that was kept, as outcomes like that of one lane."""
        wanted, structure = jax.tree.flatten(like)
        for path in sorted(self._directory.glob("lanes-*.npz")):
            with np.load(path, allow_pickle=False) as file:
                # NumPy reads dtypes that it does not know, such as bfloat16, as bytes.
                leaves = [file[f"leaf{i:04}"].view(leaf.dtype) for i, leaf in enumerate(wanted)]
                yield file["rows"], file["pairs"], jax.tree.unflatten(structure, leaves)
