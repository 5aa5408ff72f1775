"""The recipe cell of a problem that ships weights."""

import nbformat
import pytest
from conftest import ROOT
from nbformat.v4 import new_code_cell, new_notebook

from autograder import notebooks, weights
from autograder.course import Course
from autograder.errors import NotebookError

STEM = "p01_small"
WRITE = "import os\nfrom pathlib import Path\nif os.environ.get('COURSE_WEIGHTS'):\n    {body}"


def laid_out(root, *recipes):
    """Make a course of one problem: a cell that fails, a check with data, and recipes."""
    checked = new_code_cell("held_out = bytes(x)\nassert False", id="check")
    checked.metadata["nbgrader"] = {"grade": True, "grade_id": "check"}
    cells = [new_code_cell("x = 3\n1 / 0", id="figure"), checked]
    for number, body in enumerate(recipes):
        source = WRITE.format(body=body)
        cells.append(new_code_cell(source, id=f"recipe-{number}", metadata={"tags": ["recipe"]}))
    cells.append(new_code_cell("Path('after.txt').write_text('')", id="after"))
    course = Course(root)
    course.source(STEM).parent.mkdir(parents=True)
    nbformat.write(notebooks.canonical(new_notebook(cells=cells)), course.source(STEM))
    return course


def files(course):
    return {path.name for path in course.source(STEM).parent.iterdir()} - {f"{STEM}.ipynb"}


def test_recipe_writes_into_the_problems_folder(tmp_path):
    """With what stands before it, checks among it, though some of that fails; without the rest."""
    course = laid_out(tmp_path, "Path('w.bin').write_bytes(held_out)")
    assert list(weights.Recipe(course, STEM).run()) == [f"source/{STEM}/w.bin: 3 bytes"]
    assert files(course) == {"w.bin"}


def test_recipe_does_nothing_unasked(tmp_path):
    course = laid_out(tmp_path, "Path('w.bin').write_bytes(b'')")
    made = notebooks.read(course.source(STEM))
    made.cells = [cell for cell in made.cells if weights.is_recipe(cell)]
    nbformat.write(made, course.source(STEM))
    notebooks.execute(course.source(STEM), tmp_path)
    assert files(course) == set()


@pytest.mark.parametrize(
    ("bodies", "said"),
    [
        ([], "one cell with the tag 'recipe', got 0"),
        (["pass", "pass"], "got 2"),
        (["raise ValueError('too large')"], "the recipe fails: ValueError: too large"),
        (["pass"], "wrote no file"),
    ],
    ids=["none", "two", "fails", "writes nothing"],
)
def test_recipe_that_cannot_be_run_says_why(tmp_path, bodies, said):
    with pytest.raises(NotebookError, match=said):
        list(weights.Recipe(laid_out(tmp_path, *bodies), STEM).run())


def test_shipped_files_are_small():
    shipped = sorted((ROOT / "source").glob("*/*.safetensors"))
    assert shipped
    assert [path.name for path in shipped if path.stat().st_size > 1_000_000] == []
