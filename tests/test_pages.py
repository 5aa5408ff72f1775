"""A problem's page: what is folded, what is left out, and that other notebooks stay as they are."""

import zipfile
from types import SimpleNamespace

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from autograder import pages
from autograder.course import Course
from autograder.errors import CourseError, NotebookError

STUB = 'def f(x):\n    """Double it."""\n    # YOUR CODE HERE\n    raise NotImplementedError'
ANSWER = STUB.replace(
    "# YOUR CODE HERE\n    raise NotImplementedError",
    "### BEGIN SOLUTION\n    return 2 * x\n    ### END SOLUTION",
)
CHECK = (
    '"""It doubles."""\nassert f(1) == 2\n'
    "### BEGIN HIDDEN TESTS\nassert f(3) == 6\n### END HIDDEN TESTS\nassert f(0) == 0"
)
STUBS = {"p99_solution": STUB}


def cell(source, *, outputs=(), **nbgrader):
    metadata = {"nbgrader": nbgrader} if nbgrader else {}
    shown = [new_output("stream", text=text) for text in outputs]
    return new_code_cell(source, metadata=metadata, outputs=shown)


def solution(source=ANSWER):
    return cell(source, outputs=["6\n"], grade_id="p99_solution", solution=True, grade=False)


def check(source=CHECK, points=2):
    graded = {"grade_id": "p99_doubles", "solution": False, "grade": True, "points": points}
    return cell(source, outputs=["failed\n"], **graded)


def page(*cells, **options):
    return pages.transform(new_notebook(cells=list(cells)), STUBS, **options).cells


def test_notebook_without_graded_cells_stays_as_it_is():
    cells = [new_markdown_cell("# Title"), cell("print(1)", outputs=["1\n"])]
    notebook = new_notebook(cells=cells)
    assert pages.transform(notebook, {}) == notebook


def test_only_what_is_folded_changes():
    text, tried = new_markdown_cell("# Title"), cell("f(3)", outputs=["6\n"])
    shown = page(text, solution(), tried, check())
    assert [shown[0], shown[3]] == [text, tried]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("p99_setup", "Show the set-up"),
        ("p99_setup_search_oracles", "Show the set-up (search oracles)"),
    ],
)
def test_set_up_is_folded_as_it_is(name, said):
    locked = cell("import torch", grade_id=name, locked=True, grade=False, solution=False)
    (shown,) = page(locked)
    assert shown.source == "import torch"
    assert shown.metadata.tags == ["hide-input"]
    assert shown.metadata.mystnb.code_prompt_show == said


def test_stub_stands_open_before_the_folded_solution():
    stub, answer = page(solution())
    assert stub.source == STUB
    assert "hide-input" not in stub.metadata.get("tags", [])
    assert answer.source == 'def f(x):\n    """Double it."""\n    return 2 * x\n'
    assert answer.metadata.tags == ["hide-input"]
    assert answer.metadata.mystnb.code_prompt_show == "Show the solution"
    assert stub.id != answer.id
    assert stub.outputs == answer.outputs == []


def test_book_without_solutions_has_the_stub_alone():
    (stub,) = page(solution(), solutions=False)
    assert stub.source == STUB
    assert stub.outputs == []


def test_check_is_folded_without_its_hidden_part_and_outputs():
    (shown,) = page(check())
    assert shown.source == (
        f'"""It doubles."""\nassert f(1) == 2\n{pages.HIDDEN_NOTE}assert f(0) == 0'
    )
    assert shown.outputs == []
    assert shown.metadata.tags == ["hide-input"]
    assert shown.metadata.mystnb.code_prompt_show == "Show the check p99_doubles (2 points)"
    one = page(check(points=1))[0].metadata.mystnb
    assert one.code_prompt_hide == "Hide the check p99_doubles (1 point)"


def test_transform_leaves_its_input_alone():
    notebook = new_notebook(cells=[solution(), check()])
    before = str(notebook)
    pages.transform(notebook, STUBS)
    assert str(notebook) == before


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (ANSWER.replace("    ### END SOLUTION", ""), "p99_solution: ### BEGIN SOLUTION is never"),
        (ANSWER.replace("BEGIN SOLUTION", "BEGIN ANSWER"), "unknown marker '### BEGIN ANSWER'"),
        (ANSWER.replace("### BEGIN SOLUTION", "pass"), "closes nothing"),
    ],
)
def test_unmatched_solution_marker_is_an_error(source, said):
    with pytest.raises(NotebookError, match=said):
        page(solution(source))


def test_unmatched_hidden_marker_is_an_error():
    with pytest.raises(NotebookError, match="p99_doubles: ### BEGIN HIDDEN TESTS is never closed"):
        page(check(CHECK.replace("### END HIDDEN TESTS\n", "")))


def test_solution_that_the_release_lacks_is_an_error():
    with pytest.raises(NotebookError, match="no cell p99_solution; run 'autograder release'"):
        pages.transform(new_notebook(cells=[solution()]), {})


def test_offer_stands_right_under_the_title():
    cells = [new_markdown_cell("# Title\n\nText.\n\n## More"), new_markdown_cell("End.")]
    offered = pages.offer(new_notebook(cells=cells), "LINK").cells
    assert [c.source for c in offered] == ["# Title\n\nLINK\n\nText.\n\n## More", "End."]
    assert pages.offer(new_notebook(cells=[new_markdown_cell("# T")]), "L").cells[0].source == (
        "# T\n\nL"
    )


@pytest.mark.parametrize("cells", [[], [new_markdown_cell("## Part")], [cell("# comment")]])
def test_page_without_a_title_is_an_error(cells):
    with pytest.raises(NotebookError, match="must open with the page's title"):
        pages.offer(new_notebook(cells=cells), "LINK")


@pytest.fixture
def released(tmp_path):
    course = Course(tmp_path / "course")
    course.release("p99_x").parent.mkdir(parents=True)
    course.release("p99_x").write_text("{}")
    return course


def test_release_of_one_notebook_is_offered_as_it_is(released, tmp_path):
    assert pages.bundle(released, "p99_x", tmp_path) == released.release("p99_x")


def test_release_of_several_files_is_offered_as_a_zip(released, tmp_path):
    """Twice the same bytes, so that a book built again is the same book."""
    (released.release("p99_x").parent / "p99_x.safetensors").write_bytes(b"weights")
    first = pages.bundle(released, "p99_x", tmp_path / "a")
    second = pages.bundle(released, "p99_x", tmp_path / "b")
    assert first.name == "p99_x.zip"
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            "p99_x/p99_x.ipynb": b"{}",
            "p99_x/p99_x.safetensors": b"weights",
        }


def test_missing_release_is_named(released, tmp_path):
    with pytest.raises(CourseError, match="release/p98_y: missing; run 'autograder release p98_y'"):
        pages.bundle(released, "p98_y", tmp_path)


def named(monkeypatch, url, repository=None):
    for name in ("GITHUB_REPOSITORY", "GITHUB_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)
    if repository:
        monkeypatch.setenv("GITHUB_REPOSITORY", repository)
    options = {"repository_url": url, "launch_buttons": {"colab_url": "https://colab.example"}}
    pages.name_repository(None, SimpleNamespace(html_theme_options=options))
    return options


def test_launch_buttons_need_a_repository(monkeypatch):
    """A name of our own invention would lead readers into somebody else's repository."""
    assert named(monkeypatch, "") == {"launch_buttons": {}}
    assert named(monkeypatch, "", "some/course")["repository_url"] == (
        "https://github.com/some/course"
    )
    kept = named(monkeypatch, "https://github.com/own/address", "some/course")
    assert kept["repository_url"] == "https://github.com/own/address"
    assert kept["launch_buttons"]


def test_launch_buttons_open_what_students_get():
    """The source notebook holds the solution and the hidden checks."""
    button = {"url": "https://colab.example/github/some/course/blob/main/source/p99_x/p99_x.ipynb"}
    context = {"header_buttons": [{"label": "launch-buttons", "buttons": [button]}]}
    pages.launch_release(None, "source/p99_x/p99_x", "", context, None)
    assert button["url"].endswith("/blob/main/release/p99_x/p99_x.ipynb")
    before = dict(button)
    pages.launch_release(None, "chapters/q9_x", "", context, None)
    assert button == before
