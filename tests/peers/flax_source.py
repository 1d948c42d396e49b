"""Flax's tests, which its wheel lacks: from its source distribution in the package registry."""

import subprocess
import sys
import tarfile
from pathlib import Path

import flax

NAME = f"flax-{flax.__version__}"
FOLDER = Path(__file__).parents[2] / ".pytest_cache/d"
TESTS = FOLDER / NAME / "tests/nnx/nn"


def download() -> None:
    """Downloads the sources and unpacks the tests, unless they are there."""
    if TESTS.exists():
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "flax", "--dest", FOLDER]
    subprocess.run([*pip, f"flax=={flax.__version__}"], check=True)
    with tarfile.open(FOLDER / f"{NAME}.tar.gz") as archive:
        archive.extractall(FOLDER, [file for file in archive if "/tests/nnx/nn/" in file.name], filter="data")
