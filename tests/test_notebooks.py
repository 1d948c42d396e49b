"""The notebooks: what is kept in the files, and that they run, in a shortened form."""

import ast
import re
from pathlib import Path

import nbformat
import pytest
from exercise_answers import ANSWERS
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def pictures(cell):
    return [output for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]


def shortened(notebook):
    """With what each cell's metadata replace in its source: fewer steps, seeds or settings."""
    for cell in code_cells(notebook):
        for text, shorter in cell.metadata.get("short", {}).items():
            assert text in cell.source
            cell.source = cell.source.replace(text, shorter)
    return notebook


def exercises(file, notebook):
    """The cells that a student changes, each with what is to be replaced in it, the right answer and the wrong ones."""
    heads = [i for i, cell in enumerate(notebook.cells) if "## Exercises" in cell.source]
    cells = [cell for i in heads for cell in notebook.cells[i:] if cell.cell_type == "code"]
    return list(zip(cells, ANSWERS.get(file.stem[:2], []), strict=True))


def answered(file, notebook):
    """With a cell for each answer after the one that asks."""
    for asking, (given, *answers) in exercises(file, notebook):
        for i, answer in enumerate(answers):
            known = {"answer": "wrong" if i else "right"}
            cell = nbformat.v4.new_code_cell(asking.source.replace(given, answer), metadata=known)
            notebook.cells.insert(notebook.cells.index(asking) + 1, cell)
    return notebook


def says(cell):
    text = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return "wrong" if "not yet" in "".join(text).lower() else "right"


@each_notebook
def test_what_is_kept_is_whole_small_and_quiet(file):
    notebook = nbformat.read(file, as_version=4)
    assert file.stat().st_size < 420_000
    assert [cell.execution_count for cell in code_cells(notebook)] == list(range(1, 1 + len(code_cells(notebook))))
    draws = any("plt." in cell.source or ".plot" in cell.source for cell in code_cells(notebook))
    assert any(map(pictures, notebook.cells)) or (file.stem == "00_playbook" and not draws)
    for cell, (given, _, *wrong) in exercises(file, notebook):
        assert (says(cell), cell.source.count(given), len({*wrong})) == ("wrong", 1, 3), cell.source
    for cell, after in zip(notebook.cells, [*notebook.cells[1:], None], strict=True):
        for output in cell.get("outputs", []):
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output.text
        if pictures(cell):
            assert after is not None
            assert after.source.startswith("*"), "a caption follows each picture"
            assert pictures(cell)[0].metadata["image/png"]["alt"], "for those who do not see it"


@each_notebook
def test_each_link_leads_to_a_file_and_to_a_heading_that_are_there(file):
    text = "\n".join(cell.source for cell in nbformat.read(file, as_version=4).cells if cell.cell_type == "markdown")
    for name, _, heading in (link.partition("#") for link in re.findall(r"\]\(([^)]+\.ipynb[^)]*)\)", text)):
        other = nbformat.read(file.parent / name, as_version=4)
        headings = re.findall(r"^#+ (.*)$", "\n".join(cell.source for cell in other.cells), re.MULTILINE)
        assert not heading or heading in [found.replace(" ", "-") for found in headings], (name, heading)


@each_notebook
def test_it_stands_alone(file):
    """It begins with its title and how to get lectopt, and imports nothing from beside it."""
    notebook = nbformat.read(file, as_version=4)
    title, install = notebook.cells[:2]
    assert title.source.startswith(f"# {int(file.stem[:2])} · ")
    assert "import lectopt as lo" in install.source
    assert "%pip install" in install.source
    beside = {path.stem for path in file.parent.iterdir()}
    for cell in code_cells(notebook)[1:]:
        source = "\n".join(line for line in cell.source.splitlines() if not line.startswith("%"))
        for node in ast.walk(ast.parse(source)):
            assert not (isinstance(node, ast.ImportFrom) and (node.level or node.module in beside))


@pytest.mark.slow
@each_notebook
def test_it_runs_and_tells_right_answers_from_wrong_ones(file, tmp_path):
    notebook = answered(file, shortened(nbformat.read(file, as_version=4)))
    kept = [len(pictures(cell)) for cell in notebook.cells]
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    assert [len(pictures(cell)) for cell in notebook.cells] == kept
    for cell in notebook.cells:
        assert "answer" not in cell.metadata or says(cell) == cell.metadata.answer, cell
