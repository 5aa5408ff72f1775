"""What students hand in: moved, doubled, lost and damaged parts, odd files; graded all the same."""

import copy
import json
import warnings

import classroom
import nbformat
import pytest
from bs4 import BeautifulSoup

from autograder import incoming, notebooks, originals, release, repair, workers
from autograder.errors import NotebookError
from autograder.grading import Grading
from autograder.pipeline import Pipeline
from autograder.sandbox import can_isolate

ISOLATE = can_isolate() is None
STEM = classroom.STEM
WITH_TORCH = "def double(x):\n    return 2 * torch.as_tensor(x)"
CHECKS = [f"p01_check_{number}" for number in (1, 2, 3, 1000, 2000)]
CELLS = {}  # name: (what happens to a notebook, its points, what is said)
FILES = {}  # name: (what becomes of a notebook's bytes, what is said)
LOTS = 50 * 2**20


def cells(points, *said):
    """Register a way to spoil the cells of a right answer."""

    def register(function):
        CELLS[function.__name__] = (function, points, said)
        return function

    return register


def file(*said):
    """Register a way to spoil the file of a right answer; what is said may be nothing."""

    def register(function):
        FILES[function.__name__] = (function, said)
        return function

    return register


def cell(data, name):
    return next(c for c in data["cells"] if c["id"] == name)


def place(data, name):
    return data["cells"].index(cell(data, name))


def own(source, name="own"):
    """Make a cell of the student's own."""
    empty = {"execution_count": None, "outputs": [], "metadata": {}}
    return {"cell_type": "code", "id": name, "source": source, **empty}


def double_cell(data, name, first, second):
    """Let a cell stand twice, the second time with another id, as JupyterLab's paste has it."""
    before = cell(data, name)
    after = copy.deepcopy(before) | {"id": f"{name}-copy", "source": second}
    before["source"] = first
    data["cells"].insert(place(data, name) + 1, after)


def drop(data, *names):
    data["cells"] = [c for c in data["cells"] if c["id"] not in names]


@cells(10)
def untouched(data):
    pass


@cells(10, "p01_solution stands more than once; the last one with an answer counts")
def solution_twice(data):
    double_cell(data, "p01_solution", classroom.EMPTY, classroom.RIGHT)


@cells(10, "p01_solution stands more than once")
def solution_before_an_empty_copy(data):
    stub = "def double(x):\n    # YOUR CODE HERE\n    raise NotImplementedError"
    double_cell(data, "p01_solution", classroom.RIGHT, stub)


@cells(10, "p01_solution stands more than once")
def solution_split(data):
    first = "def twice(x):\n    return x + x"
    double_cell(data, "p01_solution", first, "def double(x):\n    return twice(x)")


@cells(10, "p01_check_2 stands more than once; the original was run, once.")
def check_twice(data):
    double_cell(data, "p01_check_2", "assert double(2) == 5", "assert double(2) == 4, 'double 2'")


@cells(10, "p01_check_1 and p01_check_2 are missing; they were put back.")
def checks_deleted(data):
    drop(data, "p01_check_1", "p01_check_2")


@cells(10, "p01_check_1, p01_check_2, p01_check_3 and 2 more are missing; they were put back.")
def every_check_deleted(data):
    drop(data, *CHECKS)


@cells(10, "p01_setup is missing; it was put back.")
def set_up_deleted(data):
    cell(data, "p01_solution")["source"] = WITH_TORCH
    drop(data, "p01_setup")


@cells(10, "p01_solution is missing; what you wrote in cells of your own counts.")
def solution_in_a_cell_of_its_own(data):
    at = place(data, "p01_solution")
    drop(data, "p01_solution")
    data["cells"].insert(at, own(classroom.RIGHT))


@cells(0, "p01_solution is missing")
def solution_deleted(data):
    drop(data, "p01_solution")


@cells(10, "What you wrote in p01_check_1 was run before it as well.")
def solution_merged_into_a_check(data):
    drop(data, "p01_solution")
    cell(data, "p01_check_1")["source"] += f"\n\n{classroom.RIGHT}"


@cells(10, "are missing; they were put back.", "p01_solution is missing")
def only_a_cell_of_its_own(data):
    data["cells"] = [own(classroom.RIGHT)]


@cells(0, "are missing; they were put back.")
def no_cell(data):
    data["cells"] = []


@cells(10, "stood in another place than in the release")
def reversed_cells(data):
    data["cells"].reverse()


@cells(10, "p01_solution stood in another place than in the release; it was put back.")
def solution_at_the_end_with_its_helper(data):
    solution = cell(data, "p01_solution")
    solution["source"] = "kept = twice\n\n\ndef double(x):\n    return kept(x)"
    drop(data, "p01_solution")
    data["cells"] += [own("def twice(x):\n    return x + x"), solution]


@cells(10, "p01_solution was no code any more; it was graded as such.")
def solution_as_markdown(data):
    solution = cell(data, "p01_solution")
    solution["cell_type"] = "markdown"
    del solution["outputs"], solution["execution_count"]


@cells(10, "p01_check_1 and p01_check_2 were no code any more; they were graded as such.")
def checks_as_text(data):
    for name, kind in (("p01_check_1", "raw"), ("p01_check_2", "markdown")):
        cell(data, name)["cell_type"] = kind


@cells(4, "The nbgrader metadata of p01_check_1 were changed or damaged")
def check_that_says_it_is_none(data):
    cell(data, "p01_solution")["source"] = classroom.WRONG
    cell(data, "p01_check_1")["metadata"]["nbgrader"]["grade"] = False


@cells(4, "The nbgrader metadata of p01_check_1000 were changed or damaged")
def points_raised(data):
    cell(data, "p01_solution")["source"] = classroom.WRONG
    cell(data, "p01_check_1000")["metadata"]["nbgrader"]["points"] = 100


@cells(4, "p01_check_1 was not as released; the original was run.")
def check_weakened(data):
    cell(data, "p01_solution")["source"] = classroom.WRONG
    cell(data, "p01_check_1")["source"] = "assert True"


@cells(4, "No cell of the assignment is called bonus; it counts as a cell of your own.")
def check_of_its_own(data):
    cell(data, "p01_solution")["source"] = classroom.WRONG
    bonus = copy.deepcopy(cell(data, "p01_check_1")) | {"id": "bonus", "source": "pass"}
    bonus["metadata"]["nbgrader"] |= {"grade_id": "bonus", "points": 100}
    data["cells"].append(bonus)


@cells(10, "The nbgrader metadata of p01_solution, p01_check_1 and p01_check_2")
def metadata_of_other_kinds(data):
    for name, found in {
        "p01_solution": [],
        "p01_check_1": {"grade_id": "p01_check_1"},
        "p01_check_2": None,
    }.items():
        cell(data, name)["metadata"]["nbgrader"] = found
    cell(data, "title")["metadata"]["nbgrader"] = {"grade_id": ["x"]}


@cells(10, "The nbgrader metadata of p01_setup, p01_solution, p01_check_1 and 4 more")
def metadata_of_an_old_nbgrader(data):
    for entry in data["cells"][1:]:
        entry["metadata"]["nbgrader"] |= {"schema_version": 1}
        del entry["metadata"]["nbgrader"]["task"], entry["metadata"]["nbgrader"]["cell_type"]


@cells(10, "The nbgrader metadata of p01_")
def metadata_lost(data):
    """As where a notebook was carried through a service that does not keep them."""
    for entry in data["cells"]:
        entry["metadata"] = {}


@cells(10, "The metadata of 2 cells were damaged and left out.")
def metadata_that_are_none(data):
    cell(data, "title")["metadata"] = None
    cell(data, "p01_check_3")["metadata"] = "locked"


@cells(10, "Metadata that Jupyter does not know were left out.")
def metadata_that_jupyter_refuses(data):
    data["metadata"] = {"kernelspec": 3}
    cell(data, "p01_setup")["metadata"]["tags"] = "all"


@cells(10, "A tag told Jupyter to skip p01_setup; it was run.")
def set_up_skipped(data):
    cell(data, "p01_solution")["source"] = WITH_TORCH
    cell(data, "p01_setup")["metadata"]["tags"] = ["skip-execution"]


@cells(10, "Windows line ends in 8 cells were replaced.")
def windows_line_ends_in_cells(data):
    for entry in data["cells"]:
        entry["source"] = f"{entry['source']}\n".replace("\n", "\r\n")


@cells(10, "1 entry that is no cell was left out.")
def entry_that_is_no_cell(data):
    data["cells"].insert(2, "cell")


@cells(10)
def ids_missing_or_twice(data):
    del data["cells"][2]["id"]
    data["cells"][4]["id"] = data["cells"][3]["id"] = "same"


@cells(10)
def record_forged(data):
    data["metadata"]["autograder"] = {"repairs": ["All is well."], "key": "x", "isolated": True}


@cells(10)
def role_that_is_none(data):
    """nbgrader leaves such metadata on cells that it does nothing with."""
    flags = {"grade": False, "solution": False, "locked": False, "schema_version": 3}
    cell(data, "title")["metadata"]["nbgrader"] = flags | {"grade_id": "cell-12"}


@file("The file began with a byte order mark, which was left out.")
def byte_order_mark(text):
    return b"\xef\xbb\xbf" + text


@file("The file was written in UTF-16 and read as that.")
def utf_16(text):
    return text.decode().encode("utf-16")


@file("The file was not written in UTF-8; it was read as Windows-1252.")
def windows_1252(text):
    return text.decode().replace("# Double", "# Doppelt für").encode("cp1252")


@file()
def windows_line_ends(text):
    return text.replace(b"\n", b"\r\n")


@file("What stood behind the end of the notebook in its file was left out.")
def more_behind_the_end(text):
    return text + b"}\n"


@file()
def zeros_behind_the_end(text):
    return text + bytes(512)


@file("The file is of the old format 3; it was converted.")
def format_3(text):
    old = nbformat.convert(nbformat.reads(text.decode(), as_version=4), 3)
    return nbformat.v3.writes_json(old).encode()


@file()
def format_4_0(text):
    data = json.loads(text) | {"nbformat_minor": 0}
    for entry in data["cells"]:
        del entry["id"]
    return json.dumps(data).encode()


@file("The file is of the newer format 4.9; it was read as 4.5.")
def format_4_9(text):
    data = json.loads(text) | {"nbformat_minor": 9}
    for entry in data["cells"]:
        entry["colour"] = "red"
    return json.dumps(data).encode()


@file("The file is of the newer format 5.0; it was read as 4.5.")
def format_5(text):
    return json.dumps(json.loads(text) | {"nbformat": 5, "nbformat_minor": 0}).encode()


@file("The file does not say its format; it was read as 4.5.")
def no_format(text):
    data = json.loads(text)
    del data["nbformat"], data["nbformat_minor"]
    return json.dumps(data).encode()


@file("Broken characters were replaced.")
def half_characters(text):
    return text.replace(b"# Double", b"# \\ud83d Double")


@file()
def fifty_megabytes_of_output(text):
    data = json.loads(text)
    lines = [f"{'x' * 1022}\n"] * (LOTS // 1024)
    output = {"output_type": "stream", "name": "stdout", "text": lines}
    cell(data, "p01_solution")["outputs"] = [output]
    return json.dumps(data).encode()


@file()
def outputs_that_are_none(text):
    return text.replace(b'"outputs": []', b'"outputs": "lost"')


def handed_in(course):
    """Give the bytes of the right answer as the release's form has it."""
    path = classroom.submit(course, "template", classroom.RIGHT)
    text = path.read_bytes()
    path.unlink()
    path.parent.rmdir()
    path.parent.parent.rmdir()
    return text


def lay_out(root):
    """Hand in every case, each as a student of that name."""
    course = classroom.course(root, {})
    text = handed_in(course)
    for name, (spoil, _, _) in CELLS.items():
        data = json.loads(text)
        for entry in data["cells"]:
            entry["source"] = "".join(entry["source"])
        spoil(data)
        put(course, name, f"{STEM}.ipynb", json.dumps(data).encode())
    for name, (spoil, _) in FILES.items():
        put(course, name, f"{STEM}.ipynb", spoil(text))
    return course, Pipeline(course, root=root, log=root / "log" / "log")


def put(course, student, name, content):
    path = course.root / "submitted" / student / STEM / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def grade(pipeline):
    with Grading(pipeline, STEM, isolate=ISOLATE) as grading, workers.local(2) as executor:
        return {o.student: o for o in grading.run(grading.students([]), executor, ahead=4)}


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    course, pipeline = lay_out(tmp_path_factory.mktemp("graded"))
    return course, pipeline, grade(pipeline)


@pytest.fixture(scope="module")
def by_nbgrader(tmp_path_factory):
    """The same class, by nbgrader's own command."""
    course, pipeline = lay_out(tmp_path_factory.mktemp("nbgrader"))
    pipeline.config.Executor.isolate = ISOLATE
    pipeline.autograde(STEM)
    with pipeline.gradebook() as gradebook:
        found = gradebook.find_assignment(STEM).submissions
        return course, {submission.student.id: submission.score for submission in found}


EXPECTED = [
    *(pytest.param(name, points, said, id=name) for name, (_, points, said) in CELLS.items()),
    *(pytest.param(name, 10, said, id=name) for name, (_, said) in FILES.items()),
]


@pytest.mark.parametrize(("name", "points", "said"), EXPECTED)
def test_it_is_graded_and_said(graded, name, points, said):
    outcome = graded[2][name]
    assert outcome.fault == ""
    assert outcome.score == points
    assert len(outcome.repairs) >= len(said)
    for sentence in said:
        assert any(sentence in line for line in outcome.repairs), outcome.repairs
    assert said or outcome.repairs == []


@pytest.mark.parametrize(("name", "points", "said"), EXPECTED)
def test_nbgraders_own_command_says_and_gives_the_same(graded, by_nbgrader, name, points, said):
    course, scores = by_nbgrader
    assert scores[name] == points
    ours, theirs = (
        notebooks.read(root / "autograded" / name / STEM / f"{STEM}.ipynb")
        for root in (graded[0].root, course.root)
    )
    assert repair.kept(theirs) == repair.kept(ours)
    assert [c.source for c in theirs.cells] == [c.source for c in ours.cells]


def test_every_grade_is_recorded_once(graded):
    """Whatever a submission says, each check of the release has its points."""
    rows = classroom.tables(graded[0])["grade"]
    assert sorted(row[:2] for row in rows) == sorted(
        (student, check) for student in graded[2] for check in CHECKS
    )
    assert all(row[2] in (0, 2) for row in rows)


def test_second_run_says_it_again(graded):
    _, pipeline, before = graded
    after = grade(pipeline)
    assert {o.status for o in after.values()} == {"unchanged"}
    assert {s: o.repairs for s, o in after.items()} == {s: o.repairs for s, o in before.items()}


def test_student_reads_it_in_the_feedback(graded):
    course, pipeline, _ = graded
    pages = {}
    for student in ("checks_deleted", "untouched"):
        pipeline.feedback(STEM, student)
        page = course.root / "feedback" / student / STEM / f"{STEM}.html"
        pages[student] = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser").get_text()
    assert "p01_check_1 and p01_check_2 are missing; they were put back." in pages["checks_deleted"]
    assert "Before grading" not in pages["untouched"]


def test_honest_submissions_are_left_alone(graded):
    """In the release's form and in the course's own: nothing is changed, nothing is said."""
    course, pipeline, _ = graded
    with pipeline.gradebook() as gradebook:
        known = originals.known_cells(gradebook.find_notebook(STEM, STEM), course.source(STEM))
    for honest in (release.stub(course, STEM), notebooks.read(course.source(STEM))):
        before = notebooks.dumps(honest)
        assert repair.Mending(honest, known).run() == []
        assert notebooks.dumps(honest) == before
        again, said = incoming.read(before.encode(), "a.ipynb")
        assert said == []
        assert notebooks.dumps(again) == before


def test_order_is_that_of_the_source_notebook(graded, tmp_path):
    """nbgrader's is that of the first release, which an instructor may have changed since."""
    course, pipeline, _ = graded
    moved = notebooks.read(course.source(STEM))
    moved.cells[3], moved.cells[4] = moved.cells[4], moved.cells[3]
    nbformat.write(moved, tmp_path / "moved.ipynb")
    with pipeline.gradebook() as gradebook:
        recorded = gradebook.find_notebook(STEM, STEM)
        orders = [
            list(originals.known_cells(recorded, tmp_path / name))
            for name in ("moved.ipynb", "missing.ipynb")
        ]
    assert orders[1] == ["p01_setup", "p01_solution", *CHECKS]
    assert orders[0] == [*orders[1][:2], CHECKS[1], CHECKS[0], *CHECKS[2:]]


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """A class whose files are called otherwise."""
    root = tmp_path_factory.mktemp("named")
    course = classroom.course(root, {})
    right = handed_in(course)
    stub = notebooks.dumps(release.stub(course, STEM)).encode()
    other = notebooks.dumps(nbformat.v4.new_notebook()).encode()
    for student, files in {
        "other": {"Untitled (1).ipynb": right},
        "below": {f"work/{STEM}.ipynb": right},
        "capitals": {f"{STEM.upper()}.IPYNB": right},
        "text": {f"{STEM}.ipynb.txt": right},
        "several": {"b.ipynb": right, "c.ipynb": other, "d.ipynb": stub},
        "copies": {f"{STEM}-Copy9.ipynb": stub, f"{STEM}-Copy10.ipynb": right},
        "beside": {f"{STEM}.ipynb": right, f"{STEM}-Copy1.ipynb": stub},
        "torn": {f"{STEM}.ipynb": right[:900], "backup.ipynb": right},
        "mac": {f"__MACOSX/._{STEM}.ipynb": b"\0\5\26\7", "work.ipynb": right},
        "unlike": {"other.ipynb": other},
    }.items():
        for name, content in files.items():
            put(course, student, name, content)
    for student, folder in {
        "number": "P01",
        "version": "p01 final 10",
        "loose": "",
    }.items():
        place = root / "submitted" / student
        for one in [folder, "p01 final 9"] if "10" in folder else [folder]:
            (place / one).mkdir(parents=True)
            (place / one / f"{STEM}.ipynb").write_bytes(right if one == folder else stub)
        (place / "p02_other").mkdir()
        (place / "p02_other" / f"{STEM}.ipynb").write_bytes(stub)
    refused = {
        "none": ("notes.md", b"# Notes"),
        "empty": (f"{STEM}.ipynb", b""),
        "cut": (f"{STEM}.ipynb", right[:900]),
        "conflict": (f"{STEM}.ipynb", b"{\n<<<<<<< HEAD\n" + right),
        "zip": ("all.ipynb", b"PK\x03\x04...."),
        "page": (f"{STEM}.ipynb", b"<!doctype html>\n<p>Sign in"),
        "list": (f"{STEM}.ipynb", b"[]"),
        "cells": (f"{STEM}.ipynb", b'{"cells": 3}'),
        "deep": (f"{STEM}.ipynb", b"[" * 100_000),
    }
    for student, (name, content) in refused.items():
        put(course, student, name, content)
    return grade(Pipeline(course, root=root, log=root / "log" / "log"))


@pytest.mark.parametrize(
    ("student", "said"),
    [
        ("other", f"{STEM}.ipynb is missing; Untitled (1).ipynb was taken in its place."),
        ("below", f"{STEM}.ipynb is missing; work/{STEM}.ipynb was taken in its place."),
        ("capitals", f"{STEM}.ipynb is missing; {STEM.upper()}.IPYNB was taken in its place."),
        ("text", f"{STEM}.ipynb is missing; {STEM}.ipynb.txt was taken in its place."),
        ("several", "b.ipynb was taken in its place, of 3 notebooks the one that fits best."),
        ("copies", f"{STEM}-Copy10.ipynb was taken in its place, of 2 notebooks"),
        ("beside", f"{STEM}.ipynb was graded; {STEM}-Copy1.ipynb beside it was not."),
        ("torn", f"{STEM}.ipynb cannot be read; backup.ipynb was taken in its place."),
        ("mac", f"{STEM}.ipynb is missing; work.ipynb was taken in its place."),
        ("number", f"The folder {STEM} is missing; P01 was taken in its place."),
        ("version", f"The folder {STEM} is missing; p01 final 10 was taken in its place."),
        (
            "loose",
            f"The folder {STEM} is missing; the files outside of any were taken.",
        ),
    ],
)
def test_other_names_are_found(named, student, said):
    assert named[student].score == 10
    assert said in named[student].repairs[0]
    assert len(named[student].repairs) == 1


def test_notebook_of_something_else_earns_nothing(named):
    assert named["unlike"].score == 0
    assert "p01_solution is missing" in " ".join(named["unlike"].repairs)


@pytest.mark.parametrize(
    ("student", "said"),
    [
        ("none", f"expected {STEM}.ipynb, got notes.md"),
        ("empty", "is not a Jupyter notebook: the file is empty"),
        ("cut", "it breaks off in the middle; save it and hand it in again"),
        ("conflict", "it holds both sides of a merge that was not resolved"),
        ("zip", "it is a zip archive; unpack it"),
        ("page", "line 1 is no JSON"),
        ("list", "expected an object with cells, got list"),
        ("cells", "expected a list of cells, got none"),
        ("deep", "it is nested too deep"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_reason(named, student, said):
    assert named[student].status == "failed"
    assert said in named[student].fault


def test_reading_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        notebook, said = incoming.read(b'{"cells": [{}, {"source": 3}]}', "a.ipynb")
    assert [c.cell_type for c in notebook.cells] == ["raw", "raw"]
    assert len(said) == 1
    with pytest.raises(NotebookError, match="is not a Jupyter notebook"):
        incoming.read(b"\xff\xfe\x00", "a.ipynb")
