"""Runs notebooks where they lie: `python -m tests.rerun_notebooks [01 05 ...] [--keep]`, all of them without numbers.

Pictures become small (a palette of colours) and get their caption as alternative text. Nothing is written if a cell
fails or prints to stderr. With `--keep` nothing runs: alternative texts alone follow the captions.
"""

import base64
import io
import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image, ImageColor

from lectopt.plots.style import COLOURS

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
LINES = [(255, 255, 255), (0, 0, 0), *(ImageColor.getrgb(colour) for colour in COLOURS)]
LARGEST = 415_000  # bytes of a file
DPI, SHOWN_DPI = 110, 100


def caption(cell):
    """The emphasised beginning of a cell, as plain text."""
    found = re.match(r"\*(.+?)\*(\s|$)", re.sub(r"\*\*", "", cell.source), re.DOTALL)
    return re.sub(r"[${}\\*`]", "", found[1]).replace("\n", " ") if found else ""


def with_palette(picture, most):
    """The picture in at most so many colours: those of lines, then those that it has most of, no two of them alike."""
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    present = [colour for _, colour in sorted(image.getcolors(1 << 24), reverse=True)]
    kept = [colour for colour in LINES if colour in present]
    for colour in present:
        if len(kept) < most and all(sum((a - b) ** 2 for a, b in zip(colour, one, strict=True)) > 250 for one in kept):
            kept.append(colour)
    table = Image.new("P", (1, 1))
    table.putpalette([part for colour in [*kept, *[kept[0]] * (256 - len(kept))] for part in colour])
    file = io.BytesIO()
    image.quantize(palette=table, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def joined(outputs):
    """With what was printed in a row as one output, however it came in pieces."""
    kept = []
    for output in outputs:
        if kept and output.output_type == "stream" == kept[-1].output_type and output.name == kept[-1].name:
            kept[-1].text += output.text
        else:
            kept.append(output)
    return kept


def describe(notebook):
    """Alternative texts from the captions that follow pictures, and widths on the page."""
    for cell, after in zip(notebook.cells, notebook.cells[1:], strict=False):
        for output in cell.get("outputs", []):
            for kind in {"image/png", "image/gif"} & {*output.get("data", {})}:
                output.metadata[kind] = {"alt": caption(after)}
                if kind == "image/png":
                    width = Image.open(io.BytesIO(base64.b64decode(output.data[kind]))).width
                    output.metadata[kind]["width"] = round(width * SHOWN_DPI / DPI)


def run(notebook):
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=900, resources={"metadata": {"path": folder}}).execute()
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        cell.metadata.pop("execution", None)
        cell.outputs = joined(cell.outputs)
        if errors := [output.text for output in cell.outputs if output.get("name") == "stderr"]:
            raise RuntimeError(f"printed to stderr: {errors}")


def squeeze(notebook):
    """Fewer colours in the pictures until the file is small enough."""
    pictures = [output.data for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    pictures = [(data, data["image/png"]) for data in pictures if "image/png" in data]
    for most in (64, 40, 24, 20, 16):
        for data, picture in pictures:
            data["image/png"] = with_palette(picture, most)
        if len(nbformat.writes(notebook).encode()) < LARGEST:
            return


def main(arguments):
    numbers = [argument for argument in arguments if argument != "--keep"]
    for file in NOTEBOOKS:
        if numbers and file.stem[:2] not in numbers:
            continue
        notebook, began = nbformat.read(file, as_version=4), time.monotonic()
        if "--keep" not in arguments:
            run(notebook)
            squeeze(notebook)
        seconds = time.monotonic() - began
        describe(notebook)
        nbformat.write(notebook, file)
        print(f"{file.stem}: {seconds:.0f} s, {file.stat().st_size // 1000} kB", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
