"""One stem joins source, release, answers and page; each break is one clear line."""

import shutil

import pytest

from autograder.course import Course
from autograder.errors import CourseError


@pytest.fixture
def small(tmp_path):
    """A course of one problem, p01_a, without a fault."""
    for folder in ("source", "release"):
        path = tmp_path / folder / "p01_a" / "p01_a.ipynb"
        path.parent.mkdir(parents=True)
        path.write_text("{}")
    (tmp_path / "tests" / "answers" / "p01_a").mkdir(parents=True)
    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters" / "intro.md").write_text("# Intro")
    (tmp_path / "nbgrader_config.py").write_text("")
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: chapters/intro\nchapters:\n- file: source/p01_a/p01_a\n"
    )
    return Course(tmp_path)


def test_this_course_fits_together(course):
    assert list(course.faults()) == []


def test_small_course_fits_together(small):
    assert list(small.faults()) == []


def test_missing_page_is_named(small):
    (small.root / "_toc.yml").write_text("format: jb-book\nroot: chapters/intro\n")
    assert list(small.faults()) == [
        "_toc.yml: source/p01_a/p01_a has no page; add a line 'file:' for it"
    ]


def test_missing_answers_are_named(small):
    shutil.rmtree(small.answers("p01_a"))
    assert list(small.faults()) == [
        "tests/answers/p01_a: missing; each problem has wrong and right answers"
    ]


def test_missing_release_is_named(small):
    shutil.rmtree(small.root / "release" / "p01_a")
    assert list(small.faults()) == ["release/p01_a: missing; run 'autograder release p01_a'"]


def test_wrong_name_is_named(small):
    for where in ("source", "release", "tests/answers"):
        (small.root / where / "p01_a").rename(small.root / where / "P1-attention")
    first = next(small.faults())
    assert first == "source/P1-attention: a problem is called pNN_subject in lower case"


def test_release_without_source_is_named(small):
    (small.root / "release" / "p09_gone").mkdir()
    assert list(small.faults()) == ["release/p09_gone: source/p09_gone does not exist"]


def test_page_without_file_is_named(small):
    toc = small.root / "_toc.yml"
    toc.write_text(toc.read_text() + "- file: chapters/q9_gone\n")
    assert list(small.faults()) == [
        "_toc.yml: chapters/q9_gone is listed, but there is no such file"
    ]


def test_course_is_found_from_below(small):
    assert Course.find(small.root / "source" / "p01_a") == small


def test_no_course_is_said(tmp_path):
    with pytest.raises(CourseError, match="expected a folder with nbgrader_config"):
        Course.find(tmp_path)


def test_problems_are_selected_by_number_and_name(small):
    assert small.select(["p01"]) == small.select(["p01_a"]) == small.select([]) == ["p01_a"]
    with pytest.raises(CourseError, match="'p02'; this course has p01_a"):
        small.select(["p02"])
