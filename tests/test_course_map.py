"""The map in the introduction says what the chapters say."""

import re

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from autograder import notebooks
from autograder.course import Course
from autograder.course_map import picture, problems, questions
from autograder.errors import NotebookError


@pytest.fixture
def small(tmp_path):
    """Two chapters and two problems; one chapter names both, in a text of its own."""
    cells = {
        "chapters/q1_first": [
            new_markdown_cell("# The first & best?"),
            new_markdown_cell(
                "**Practise it:** [a](../source/p02_b/p02_b.ipynb), "
                "then [b](../source/p01_a/p01_a.ipynb)."
            ),
            new_code_cell("1"),
        ],
        "chapters/q2_second": [
            new_markdown_cell("# Second"),
            new_markdown_cell("See [a](../source/p02_b/p02_b.ipynb)."),
        ],
        "source/p01_a/p01_a": [new_markdown_cell("# p01 · A")],
        "source/p02_b/p02_b": [new_markdown_cell("# p02 · " + "long " * 20)],
    }
    for name, made in cells.items():
        path = tmp_path / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(notebooks.dumps(new_notebook(cells=made)), encoding="utf-8")
    return Course(tmp_path)


def test_questions_have_the_problems_behind_practise_it(small):
    assert [(q.short, q.practised_by) for q in questions(small)] == [
        ("q1", ("p02_b", "p01_a")),
        ("q2", ()),
    ]


@pytest.mark.parametrize("narrow", [False, True])
def test_picture_has_a_link_for_each_page_and_a_line_for_each_practice(small, narrow):
    drawn = picture(questions(small), problems(small), narrow=narrow)
    assert re.findall(r'href="([^"]+)"', drawn) == [
        "q1_first.html",
        "q2_second.html",
        "../source/p01_a/p01_a.html",
        "../source/p02_b/p02_b.html",
    ]
    assert drawn.count("<path") == 2
    assert "The first &amp; best?" in drawn
    assert all(len(text) <= 40 for text in re.findall(r"<text[^>]*>([^<]*)<", drawn))


def test_unknown_problem_is_named(small):
    path = small.chapters[1]
    cells = [new_markdown_cell("# Second\n\n**Practise it:** [x](../source/p09_x/p09_x.ipynb)")]
    path.write_text(notebooks.dumps(new_notebook(cells=cells)), encoding="utf-8")
    with pytest.raises(NotebookError, match="p09_x"):
        questions(small)


def test_every_problem_of_the_course_is_practised(course):
    """A problem that no chapter names would stand on the map without a line."""
    named = {stem for question in questions(course) for stem in question.practised_by}
    assert named == set(course.stems)
