"""A course of one small problem, and submissions to it whose scores are known."""

import shutil
import sqlite3
from pathlib import Path

import nbformat
from conftest import ROOT
from nbformat.v4 import new_markdown_cell, new_notebook
from nbgrader.plugins import BasePlugin

from autograder import answers, notebooks, release
from autograder.course import Course
from autograder.scaffold import code_cell

STEM = "p01_double"
RIGHT = "def double(x):\n    return x + x"
WRONG = "def double(x):\n    return x * 3 if len(str(x)) < 3 else x * 2"
EMPTY = "def double(x):\n    raise NotImplementedError"
POINTS = {RIGHT: 10.0, WRONG: 4.0, EMPTY: 0.0}


def problem():
    """Five graded cells of two points: three on small numbers, two on large ones."""
    solution = "def double(x):\n    ### BEGIN SOLUTION\n    return 2 * x\n    ### END SOLUTION"
    cells = [
        new_markdown_cell("# Double", id="title"),
        code_cell("p01_setup", "import torch", "p01_setup"),
        code_cell("p01_solution", solution, "p01_solution", solution=True),
    ]
    for number in (1, 2, 3, 1000, 2000):
        check = f"assert double({number}) == {2 * number}, 'double {number}'"
        hidden = f"assert (double(torch.tensor([{number}])) == {2 * number}).all()"
        text = f"{check}\n### BEGIN HIDDEN TESTS\n{hidden}\n### END HIDDEN TESTS"
        name = f"p01_check_{number}"
        cells.append(code_cell(name, text if number > 3 else check, name, points=2))
    return notebooks.canonical(new_notebook(cells=cells))


def course(root: Path, texts: dict[str, str]) -> Course:
    """Lay out the course in an empty folder with a submission of each student's text."""
    shutil.copy(ROOT / "nbgrader_config.py", root)
    found = Course(root)
    found.source(STEM).parent.mkdir(parents=True)
    nbformat.write(problem(), found.source(STEM))
    release.generate(found, STEM)
    for student, text in texts.items():
        submit(found, student, text)
    return found


def submit(found: Course, student: str, text: str) -> Path:
    """Put a student's text into the solution cell of the release and hand that in."""
    notebook = release.stub(found, STEM)
    answers.solution_cells(notebook)[0].source = text
    path = found.root / "submitted" / student / STEM / f"{STEM}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


def tables(found: Course) -> dict[str, list[tuple]]:
    """Give every table that grading writes, with names in place of the random identifiers."""
    queries = {
        "student": "select id, first_name, last_name, email, lms_user_id from student",
        "submission": "select student_id, timestamp, extension from submitted_assignment",
        "notebook": (
            "select a.student_id, n.name, s.late_submission_penalty from submitted_notebook s"
            " join submitted_assignment a on a.id = s.assignment_id"
            " join notebook n on n.id = s.notebook_id"
        ),
        "grade": (
            "select a.student_id, c.name, g.auto_score, g.manual_score, g.extra_credit,"
            " g.needs_manual_grade from grade g join submitted_notebook s on s.id = g.notebook_id"
            " join submitted_assignment a on a.id = s.assignment_id"
            " join base_cell c on c.id = g.cell_id"
        ),
        "comment": (
            "select a.student_id, c.name, m.auto_comment, m.manual_comment from comment m"
            " join submitted_notebook s on s.id = m.notebook_id"
            " join submitted_assignment a on a.id = s.assignment_id"
            " join base_cell c on c.id = m.cell_id"
        ),
    }
    with sqlite3.connect(found.root / "gradebook.db") as gradebook:
        return {name: sorted(gradebook.execute(q), key=repr) for name, q in queries.items()}


class HalfAPoint(BasePlugin):
    """A penalty for late submissions, to see that the plugin is asked."""

    def late_submission_penalty(self, student_id, score, total_seconds_late):
        return 0.5 if total_seconds_late == 24 * 60 * 60 else None
