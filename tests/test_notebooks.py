"""Canonical form: nothing in a stored notebook depends on when or where it was saved."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from autograder import notebooks
from autograder.errors import NotebookError


def notebook(*sources):
    return notebooks.canonical(new_notebook(cells=[new_code_cell(source) for source in sources]))


def test_canonical_form_is_a_fixed_point():
    once = notebook("x = 1  ", "\n\nx\n")
    assert notebooks.dumps(notebooks.canonical(once)) == notebooks.dumps(once)
    assert [cell.source for cell in once.cells] == ["x = 1", "x"]


def test_what_a_lab_adds_is_dropped():
    dirty = notebook("x = 1")
    dirty.metadata["toc"] = {"depth": 2}
    dirty.cells[0].metadata.update(collapsed=True, execution={"iopub": "now"}, tags=["hide-input"])
    assert notebooks.faults(dirty)[-1] == "the file is not in canonical form"
    clean = notebooks.canonical(dirty)
    assert set(clean.metadata) == {"kernelspec", "language_info"}
    assert clean.cells[0].metadata == {"tags": ["hide-input"]}


def test_pieces_of_one_stream_are_joined():
    dirty = notebook("x = 1")
    pieces = [("stdout", "a\n"), ("stdout", "b\n"), ("stderr", "c"), ("stdout", "d")]
    dirty.cells[0].outputs = [new_output("stream", name=n, text=t) for n, t in pieces]
    texts = [output.text for output in notebooks.canonical(dirty).cells[0].outputs]
    assert texts == ["a\nb\n", "c", "d"]


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (new_output("stream", name="stderr", text="careful"), "writes to stderr: careful"),
        (new_output("error", ename="E", evalue="", traceback=[]), "stores an error: E"),
        (new_output("stream", text="/home/" + "me/x.py"), "prints a path of this machine"),
    ],
    ids=["stderr", "error", "path"],
)
def test_outputs_that_do_not_repeat_are_named(output, said):
    dirty = notebook("x = 1")
    dirty.cells[0].execution_count = 1
    assert notebooks.faults(dirty) == []
    dirty.cells[0].outputs = [output]
    assert said in notebooks.faults(dirty)[0]


def test_cells_that_did_not_run_are_named():
    assert "ran as None, expected 1" in notebooks.faults(notebook("x = 1"))[0]


def test_refresh_runs_and_rewrites(tmp_path):
    path = tmp_path / "a.ipynb"
    nbformat.write(notebook("print(6 * 7)"), path)
    assert notebooks.refresh(path, tmp_path)
    assert not notebooks.refresh(path, tmp_path)
    assert notebooks.read(path).cells[0].outputs[0].text == "42\n"


def test_refresh_keeps_the_file_when_a_cell_fails(tmp_path):
    path = tmp_path / "a.ipynb"
    nbformat.write(notebook("1 / 0"), path)
    before = path.read_text()
    with pytest.raises(NotebookError, match="ZeroDivisionError"):
        notebooks.refresh(path, tmp_path)
    assert path.read_text() == before


@pytest.mark.parametrize("text", ["", "not json", "[]", '{"cells": 3}'])
def test_what_is_no_notebook_is_named(tmp_path, text):
    path = tmp_path / "a.ipynb"
    path.write_text(text)
    with pytest.raises(NotebookError, match=r"a\.ipynb is not a Jupyter notebook"):
        notebooks.read(path)
