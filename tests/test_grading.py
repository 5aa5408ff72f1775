"""nbgrader's own commands on this course, as an instructor types them."""

import shutil
import subprocess

import pytest
from bs4 import BeautifulSoup
from conftest import ROOT

from autograder import answers, feedback, notebooks, release, report
from autograder.course import Course
from autograder.pipeline import Pipeline
from autograder.sample import SampleClass
from autograder.sandbox import can_isolate

STEM = "p01_scaled_dot_product_attention"


@pytest.fixture(scope="module")
def classroom(tmp_path_factory):
    """A class of nine, released and graded by command; among them three that are no answer."""
    root = tmp_path_factory.mktemp("class")
    for folder in ("source", "release", "chapters"):
        shutil.copytree(ROOT / folder, root / folder)
    for name in ("nbgrader_config.py", "_toc.yml"):
        shutil.copy(ROOT / name, root)
    shutil.copytree(ROOT / "tests" / "answers", root / "tests" / "answers")
    course = Course(root)
    nbgrader(root, "generate_assignment", STEM, "--force")
    source = notebooks.read(course.source(STEM))
    untouched = release.stub(course, STEM)
    known = {answer.name: answer for answer in answers.load(course, STEM)}
    wrong = known["no_scale"]
    right = next(answer for answer in known.values() if not answer.fails)
    lacking = answers.fill(untouched, right)
    lacking.cells = [c for c in lacking.cells if not c.metadata.get("nbgrader", {}).get("grade")]
    for student, text in {
        "student01": notebooks.dumps(source),
        "student02": notebooks.dumps(answers.fill(untouched, right)),
        "student03": notebooks.dumps(answers.fill(untouched, wrong)),
        "student04": notebooks.dumps(untouched),
        "student05": "this is no notebook",
        "student06": "",
        "student07": notebooks.dumps(lacking),
        "student08": notebooks.dumps(answers.fill(untouched, right)),
    }.items():
        path = root / "submitted" / student / STEM / f"{STEM}.ipynb"
        path.parent.mkdir(parents=True)
        path.write_text(text, encoding="utf-8")
    done = nbgrader(root, "autograde", STEM, check=False)
    nbgrader(root, "generate_feedback", STEM)
    return root, done, wrong


def nbgrader(root, *command, check=True):
    done = subprocess.run(["nbgrader", *command], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0 or not check, done.stderr
    return done


def scores(root):
    pipeline = Pipeline(Course(root), root=root, log=root / "log")
    return {result.student: result for result in report.results(pipeline, STEM, {})}


def test_scores_by_command(classroom):
    root, _, wrong = classroom
    found = scores(root)
    assert {name: found[name].score for name in ("student01", "student02", "student08")} == {
        "student01": 10,
        "student02": 10,
        "student08": 10,
    }
    assert found["student04"].score == 0
    assert 0 < found["student03"].score < 10
    assert found["student03"].scores[wrong.fails][0] == 0


def test_faulty_submissions_are_named_and_stop_nobody(classroom):
    _, done, _ = classroom
    assert done.returncode == 1
    for student in ("student05", "student06"):
        assert f"processing assignment '{STEM}' for student '{student}'" in done.stderr


def test_deleted_graded_cells_come_back(classroom):
    root, _, _ = classroom
    assert scores(root)["student07"].score == 10


def test_graded_notebooks_record_whether_they_were_isolated(classroom):
    root, _, _ = classroom
    graded = notebooks.read(root / "autograded" / "student02" / STEM / f"{STEM}.ipynb")
    assert graded.metadata.autograder.isolated is (can_isolate() is None)
    assert graded.metadata.autograder.events == []


def test_feedback_shows_messages_and_no_hidden_source(classroom):
    root, _, wrong = classroom
    page = root / "feedback" / "student03" / STEM / f"{STEM}.html"
    text = page.read_text(encoding="utf-8")
    assert "AssertionError" in text
    message = scores(root)["student03"].reasons[wrong.fails].splitlines()[0]
    assert message.split(": ", 1)[1][:40] in text


def test_feedback_shows_no_hidden_line(classroom):
    """Neither in the cell nor in a traceback; the empty answer fails every hidden check."""
    root, _, _ = classroom
    cells = answers.graded_cells(notebooks.read(Course(root).source(STEM)))
    hidden = set().union(*(feedback.hidden_lines(cell.source) for cell in cells))
    assert len(hidden) >= 5
    for student in ("student02", "student03", "student04"):
        page = (root / "feedback" / student / STEM / f"{STEM}.html").read_text(encoding="utf-8")
        shown = BeautifulSoup(page, "html.parser").get_text()
        assert "# hidden checks ran here" in shown
        assert [line for line in hidden if line in shown] == []


def test_sample_class_scores_are_known(course, tmp_path):
    """The class that `make` grades: right, wrong in different ways, empty, crashing."""
    sample = SampleClass(course, tmp_path / "sample_class")
    students = sample.prepare()
    assert list(sample.grade(students)) == students
    found = sample.finish()
    assert len(found) >= 6
    assert [result.score for result in found[:2]] == [10, 10]
    assert all(0 < result.score < 10 for result in found[2:5])
    assert [result.score for result in found[5:]] == [0, 0, 0]
    assert [result.fault for result in found] == [""] * len(found)
    assert sample.fresh
    text = sample.page.read_text(encoding="utf-8")
    assert all(student in text for student in students)
