"""Checks tell right from wrong: every answer whose score is known gets that score."""

import pytest
from conftest import ROOT

from autograder import answers, mutants, notebooks, release
from autograder.answers import grading
from autograder.course import Course
from autograder.errors import AnswerError
from autograder.lab.data import bert, films

COURSE = Course(ROOT)
ANSWERS = [answer for stem in COURSE.stems for answer in answers.load(COURSE, stem)]
RIGHT = [answer for answer in ANSWERS if answer.fails is None]
WRONG = [answer for answer in ANSWERS if answer.fails is not None]
MODULES = [bert.MODULE, films.MODULE]  # of the packages that are read as data
WITH_PACKAGE = [
    stem
    for stem in COURSE.stems
    if "except DataError" in COURSE.source(stem).read_text(encoding="utf-8")
]


def label(answer):
    return answer.label


def bare(stem):
    """Read a problem without the cells that earn no point and that nothing graded needs."""
    return mutants.bare(notebooks.read(COURSE.source(stem)))


def points(notebook):
    return {c.metadata.nbgrader.grade_id: c.metadata.nbgrader.points for c in graded(notebook)}


def graded(notebook):
    return answers.graded_cells(notebook)


@pytest.mark.parametrize("stem", COURSE.stems)
def test_problem_has_the_agreed_form(stem):
    notebook = notebooks.read(COURSE.source(stem))
    assert sum(points(notebook).values()) == 10
    assert len(points(notebook)) >= 4
    assert all(grade_id.startswith(stem[:4]) for grade_id in points(notebook))
    assert sum(answer.stem == stem for answer in RIGHT) >= 2
    assert sum(answer.stem == stem for answer in WRONG) >= 8
    sources = [cell.source for cell in graded(notebook)]
    assert any("### BEGIN HIDDEN TESTS" in source for source in sources)
    assert any("### BEGIN HIDDEN TESTS" not in source for source in sources)


@pytest.mark.parametrize("stem", COURSE.stems)
def test_each_graded_cell_is_lost_by_some_wrong_answer(stem):
    """A cell that no wrong answer fails is not a check."""
    cells = points(notebooks.read(COURSE.source(stem))).keys()
    assert cells == {answer.fails for answer in WRONG if answer.stem == stem}


@pytest.mark.parametrize("stem", COURSE.stems)
def test_reference_earns_every_point(run, stem):
    """With the checks from the last to the first: no check needs what another one defines."""
    notebook = bare(stem)
    checks = graded(notebook)
    others = [cell for cell in notebook.cells if cell not in checks]
    notebook.cells = [*others, *reversed(checks)]
    assert run(COURSE, stem, notebook) == {}


@pytest.mark.parametrize("stem", WITH_PACKAGE)
def test_missing_package_costs_no_point(run, stem):
    """Cells that need data of a package say how to install it, and give their points."""
    notebook = bare(stem)
    setup = next(cell for cell in notebook.cells if "except DataError" in cell.source)
    # What `import` meets where nothing of that name is installed.
    setup.source = f"import sys\n\nsys.modules |= dict.fromkeys({MODULES})\n{setup.source}"
    for cell in graded(notebook):
        if "print(missing)" in cell.source:
            cell.source += '\nassert "pip install" in missing'
    assert 'assert "pip install" in missing' in str(notebook)
    assert run(COURSE, stem, notebook) == {}


@pytest.mark.parametrize("stem", COURSE.stems)
def test_untouched_release_earns_none(run, stem):
    """In the instructor's form: hidden checks are there, the solution is not."""
    notebook = bare(stem)
    for cell, empty in zip(
        answers.solution_cells(notebook),
        answers.solution_cells(release.stub(COURSE, stem)),
        strict=True,
    ):
        cell.source = empty.source
    assert run(COURSE, stem, notebook).keys() == points(notebook).keys()


@pytest.mark.parametrize("answer", RIGHT, ids=label)
def test_right_answer_earns_every_point(run, answer):
    assert run(COURSE, answer.stem, answers.fill(bare(answer.stem), answer)) == {}


@pytest.mark.parametrize("answer", WRONG, ids=label)
def test_wrong_answer_loses_its_cell(run, answer):
    """By that check alone; the others may say what they like, and training takes its time."""
    notebook = answers.fill(bare(answer.stem), answer)
    own = next(cell for cell in graded(notebook) if grading(cell).grade_id == answer.fails)
    before = notebook.cells[: notebook.cells.index(own)]
    notebook.cells = [*(cell for cell in before if not grading(cell).get("grade")), own]
    lost = run(COURSE, answer.stem, notebook)
    assert answer.fails in lost, f"{answer.why} This went unnoticed."


@pytest.fixture
def small(tmp_path, course):
    """A course with the first problem's notebook and an empty folder for its answers."""
    stem = COURSE.stems[0]
    copy = Course(tmp_path)
    copy.source(stem).parent.mkdir(parents=True)
    copy.source(stem).write_bytes(course.source(stem).read_bytes())
    copy.answers(stem).mkdir(parents=True)
    return copy


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("wrong.toml", '[a]\nwhy = "x"\n', "expected fails"),
        ("wrong.toml", '[a]\nwhy="x"\nfails="p01_x"\nold="not there"\nnew=""', "exactly once"),
        ("wrong_a.py", "x = 1\n", "opens with a docstring"),
        ("wrong_a.py", '"""No cell is named."""\n', "say 'fails: <grade_id>'"),
        ("right_a.py", '"""Right.\n\nfails: p01_x\n"""\n', "say 'fails: <grade_id>'"),
        ("wrong_a.py", '"""Wrong.\n\nfails: p01_x\n"""\n', "fails names 'p01_x'"),
        ("right_a.py", '"""Right."""\n# %% p01_other\nx = 1\n', "no solution cell is called"),
    ],
)
def test_faulty_answer_is_named(small, name, text, said):
    stem = small.stems[0]
    (small.answers(stem) / name).write_text(text)
    with pytest.raises(AnswerError, match=said):
        answers.load(small, stem)
