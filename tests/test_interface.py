"""What the checks may reach of an answer: it is read from the course's notebook alone."""

import nbformat
import pytest
from nbgrader.api import Gradebook

from autograder import answers, notebooks, release
from autograder.course import Course
from autograder.errors import GradingError
from autograder.judge.interface import CLASS, FUNCTION, VALUE, Interface
from autograder.scaffold import code_cell

SET_UP = 'BY_HAND = ["torch.bmm", "torch.nn.Linear"]\n\n\ndef oracle(x):\n    return x'
SOLUTION = """
import torch

WIDTH, DEPTH = 3, 4
RATE: float = 0.1


class Net(torch.nn.Module):
    def build(self) -> "Net":
        inner = 5
        return self

    def reset(self) -> None:
        pass


def double(x: int) -> int:
    def inside():
        pass
    return 2 * x


def make() -> torch.nn.Module:
    return Net()


def again() -> Net:
    return Net()
"""


def notebook(solution=SOLUTION, set_up=SET_UP):
    cells = [
        code_cell("setup", set_up, "p01_setup"),
        code_cell("scratch", "scratch = 1"),
        code_cell("solution", solution, "p01_solution", solution=True),
        code_cell("check", "assert double(1) == 2\nfound = 1", "p01_check_one", points=10),
    ]
    return nbformat.v4.new_notebook(cells=cells)


def test_names_and_kinds_are_read():
    found = Interface.of_source(notebook())
    assert found.names == {
        "WIDTH": VALUE, "DEPTH": VALUE, "RATE": VALUE,
        "Net": CLASS, "double": FUNCTION, "make": FUNCTION, "again": FUNCTION,
    }  # fmt: skip
    assert sorted(found.objects) == ["again", "build", "make"]
    assert found.changing == ("reset",)
    assert found.by_hand == ("torch.bmm", "torch.nn.Linear")
    assert (found.judged, found.set_up) == ({"p01_check_one"}, {"p01_setup"})


def test_both_processes_are_told_it():
    found = Interface.of_source(notebook())
    told = Interface.told(found.data())
    for name in ("names", "objects", "by_hand", "changing"):
        assert getattr(told, name) == getattr(found, name)


def test_cell_of_magics_is_passed_over():
    assert Interface.of_source(notebook("%matplotlib inline\nx = 1")).names == {}


@pytest.mark.parametrize("text", ["BY_HAND = names", "BY_HAND = ['a' + b]"])
def test_by_hand_is_written_out(text):
    with pytest.raises(GradingError, match="written out"):
        Interface.of_source(notebook(set_up=f"names = []\nb = ''\n{text}"))


def test_gradebook_knows_what_stands_outside_of_the_markers(tmp_path):
    """Where the source is not there; and of it, where it is."""
    solution = (
        "def double(x):\n    ### BEGIN SOLUTION\n    return 2 * x\n    ### END SOLUTION\n\n\n"
        "class Net:\n    ### BEGIN SOLUTION\n    x = 1\n    ### END SOLUTION\n\n\n"
        "### BEGIN SOLUTION\nHELPER = 1\n### END SOLUTION"
    )
    course = Course(tmp_path)
    stem = "p01_double"
    course.source(stem).parent.mkdir(parents=True)
    nbformat.write(notebooks.canonical(notebook(solution)), course.source(stem))
    (tmp_path / "nbgrader_config.py").write_text(
        (Course.find().root / "nbgrader_config.py").read_text()
    )
    release.generate(course, stem)
    with Gradebook(f"sqlite:///{tmp_path}/gradebook.db") as book:
        recorded = book.find_notebook(stem, stem)
        found = Interface.of_gradebook(recorded)
        assert Interface.find(course.source(stem), recorded) == Interface.of_source(
            notebooks.read(course.source(stem))
        )
        assert Interface.find(tmp_path / "missing.ipynb", recorded) == found
    assert found.names == {"double": FUNCTION, "Net": CLASS}
    assert found.by_hand == ("torch.bmm", "torch.nn.Linear")
    assert (found.judged, found.set_up) == ({"p01_check_one"}, {"p01_setup"})


@pytest.mark.parametrize("stem", Course.find().stems)
def test_every_problem_is_judged_apart(course, stem):
    """Each graded cell is the judge's, and what the checks call is defined by a solution cell."""
    source = notebooks.read(course.source(stem))
    found = Interface.of_source(source)
    graded = {answers.grading(cell)["grade_id"] for cell in answers.graded_cells(source)}
    assert found.judged == graded
    assert FUNCTION in found.names.values() or CLASS in found.names.values()
    assert found.set_up.isdisjoint(graded)
    stub = Interface.of_source(release.stub(course, stem))
    assert found.names.items() >= stub.names.items()
