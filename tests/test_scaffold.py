"""A new problem fits into the course at once, and fails its tests until it is written."""

import re
import subprocess
import sys

import pytest
import test_problems
from conftest import ROOT

from autograder import answers, notebooks, release, scaffold
from autograder.course import Course
from autograder.errors import CourseError

STEM = "p05_sagan_generator"
TOC = """\
format: jb-book
root: chapters/intro  # the first page
parts:
  - caption: Problems
    chapters:
      - file: source/p02_b/p02_b
      - file: source/p07_g/p07_g
  - caption: Readers
    chapters:
      - file: chapters/intro
"""
PAGE = f"      - file: source/{STEM}/{STEM}\n"


@pytest.fixture
def small(tmp_path):
    """A course of the problems p02_b and p07_g, without a fault."""
    for stem in ("p02_b", "p07_g"):
        for folder in ("source", "release"):
            path = tmp_path / folder / stem / f"{stem}.ipynb"
            path.parent.mkdir(parents=True)
            path.write_text("{}")
        (tmp_path / "tests" / "answers" / stem).mkdir(parents=True)
    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters" / "intro.md").write_text("# Intro")
    (tmp_path / "nbgrader_config.py").write_text("")
    (tmp_path / "_toc.yml").write_text(TOC)
    return Course(tmp_path)


def tree(course):
    """Everything in the course's folder, byte for byte."""
    return {
        str(path.relative_to(course.root)): path.read_bytes() if path.is_file() else None
        for path in course.root.rglob("*")
    }


def test_new_problem_fits_into_the_course(small):
    before = tree(small)
    written = scaffold.new(small, STEM)
    assert list(small.faults()) == [f"release/{STEM}: missing; run 'autograder release {STEM}'"]
    after = tree(small)
    assert {k: v for k, v in after.items() if k in before and k != "_toc.yml"} == {
        k: v for k, v in before.items() if k != "_toc.yml"
    }
    added = {small.root / name for name in after.keys() - before.keys() if after[name] is not None}
    assert set(written) == added | {small.root / "_toc.yml"}
    assert (small.root / "_toc.yml").read_text() == TOC.replace(
        "      - file: source/p07", PAGE + "      - file: source/p07"
    )


@pytest.mark.parametrize(
    ("stem", "before"),
    [
        ("p01_a", "      - file: source/p02_b"),
        ("p03_c", "      - file: source/p07_g"),
        ("p99_z", "  - caption: Readers"),
    ],
)
def test_page_stands_in_order(stem, before):
    page = f"      - file: source/{stem}/{stem}\n"
    assert scaffold.with_page(TOC, stem) == TOC.replace(before, page + before)


def test_page_keeps_line_ends():
    windows = TOC.replace("\n", "\r\n")
    assert scaffold.with_page(windows, "p03_c") == scaffold.with_page(TOC, "p03_c").replace(
        "\n", "\r\n"
    )
    cut = "- file: source/p02_b/p02_b"
    assert scaffold.with_page(cut, "p03_c") == f"{cut}\n- file: source/p03_c/p03_c\n"


@pytest.mark.parametrize(
    ("stem", "said"),
    [
        ("P05_generator", "expected pNN_subject"),
        ("p5_generator", "expected pNN_subject"),
        ("p05", "expected pNN_subject"),
        ("p05-generator", "expected pNN_subject"),
        ("p05_generator\n", "expected pNN_subject"),
        ("p05_x/../p06_y", "expected pNN_subject"),
        ("p02_b", "p02 is taken by p02_b"),
        ("p02_other", "p02 is taken by p02_b"),
        ("p08_left", "tests/answers/p08_left is there already"),
        ("p09_gone", "source/p09_gone/p09_gone is listed already"),
    ],
)
def test_name_that_does_not_fit_changes_nothing(small, stem, said):
    small.answers("p08_left").mkdir()
    toc = TOC.replace("  - caption: R", "      - file: source/p09_gone/p09_gone\n  - caption: R")
    (small.root / "_toc.yml").write_text(toc)
    before = tree(small)
    with pytest.raises(CourseError, match=said):
        scaffold.new(small, stem)
    assert tree(small) == before


def test_pages_without_a_problem_are_refused(small):
    (small.root / "_toc.yml").write_text("format: jb-book\nroot: chapters/intro\n")
    before = tree(small)
    with pytest.raises(CourseError, match="write the first one by hand"):
        scaffold.new(small, STEM)
    assert tree(small) == before


def test_cells_stand_in_the_order_of_the_first_problem(course):
    """What the scaffold lays down, p01 has too, in the same order."""
    model = notebooks.read(course.source("p01_scaled_dot_product_attention"))
    order = [cell.id for cell in model.cells]
    shared = [cell.id for cell in scaffold.problem(STEM).cells if cell.id in order]
    assert shared == sorted(shared, key=order.index)
    assert len(shared) >= 14


def test_notebook_is_sound(small):
    scaffold.new(small, STEM)
    notebook = notebooks.read(small.source(STEM))
    assert list(release.marker_faults(notebook)) == []
    assert notebooks.dumps(notebooks.canonical(notebook)) == small.source(STEM).read_text()


def test_what_is_laid_down_is_linted(small):
    scaffold.new(small, STEM)
    settings = ["--config", ROOT / "pyproject.toml"]
    settings += ["--config", "lint.isort.known-first-party = ['autograder']"]  # it is not beside it
    folders = [small.source(STEM).parent, small.answers(STEM)]
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--no-cache", *settings, *folders],
            cwd=small.root,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_says_that_it_is_to_be_done(small):
    """Each text says what to write there instead."""
    for path in scaffold.new(small, STEM):
        assert not re.search(r"to-?do|placeholder|fixme|stub|lorem", path.read_text(), re.I)


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        (STEM, "sagan_generator"),
        ("p05_2d_attention", "answer_2d_attention"),
        ("p05_lambda", "answer_lambda"),
    ],
)
def test_student_writes_a_function_named_for_the_subject(stem, name):
    assert scaffold.function_name(stem) == name
    (cell,) = answers.solution_cells(scaffold.problem(stem))
    compile(cell.source, stem, "exec")
    assert f"def {name}(" in cell.source


@pytest.fixture
def unwritten(small, monkeypatch):
    """The tests of problems, pointed at a course with the new one."""
    scaffold.new(small, STEM)
    known = answers.load(small, STEM)
    monkeypatch.setattr(test_problems, "COURSE", small)
    monkeypatch.setattr(test_problems, "RIGHT", [a for a in known if a.fails is None])
    monkeypatch.setattr(test_problems, "WRONG", [a for a in known if a.fails is not None])
    return small


def test_form_fails_until_it_is_written(unwritten):
    with pytest.raises(AssertionError):
        test_problems.test_problem_has_the_agreed_form(STEM)
    with pytest.raises(AssertionError):
        test_problems.test_each_graded_cell_is_lost_by_some_wrong_answer(STEM)


def test_points_fail_until_they_are_given(unwritten):
    points = test_problems.points(notebooks.read(unwritten.source(STEM)))
    assert len(points) == 4
    assert sum(points.values()) == 0


def test_every_check_fails_until_it_is_written(run, unwritten):
    """Those that are left fail for the reference and for each right answer."""
    notebook = notebooks.read(unwritten.source(STEM))
    graded = {cell.metadata.nbgrader.grade_id for cell in answers.graded_cells(notebook)}
    assert run(unwritten, STEM, notebook).keys() == graded
    with pytest.raises(AssertionError):
        test_problems.test_reference_earns_every_point(run, STEM)
    assert len(test_problems.RIGHT) == 2
    for answer in test_problems.RIGHT:
        with pytest.raises(AssertionError):
            test_problems.test_right_answer_earns_every_point(run, answer)


def test_code_that_is_not_graded_raises_too(unwritten):
    """So that `autograder notebooks` refuses the notebook."""
    notebook = notebooks.read(unwritten.source(STEM))
    (solution,) = answers.solution_cells(notebook)
    names = {}
    setup, *rest = (cell for cell in notebook.cells if cell.cell_type == "code")
    exec(setup.source, names)
    exec(solution.source, names)
    for cell in rest:
        if cell.id != "solution":
            with pytest.raises((AssertionError, NotImplementedError)):
                exec(cell.source, names)
    names["plt"].close("all")


def test_wrong_answer_is_refused_once_the_reference_is_written(unwritten):
    """Its edit no longer fits: the author is told to write others."""
    path = unwritten.source(STEM)
    notebook = notebooks.read(path)
    (solution,) = answers.solution_cells(notebook)
    solution.source = solution.source.replace(scaffold.UNWRITTEN, "return x")
    path.write_text(notebooks.dumps(notebook), encoding="utf-8")
    with pytest.raises(answers.AnswerError, match="returns_nothing"):
        answers.load(unwritten, STEM)
