"""A small class with known scores, graded through the real pipeline, to see it all work."""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from nbformat import NotebookNode
from traitlets.config import Config

from autograder import answers, notebooks, release, report
from autograder.course import Course
from autograder.errors import GradingError
from autograder.pipeline import CONFIG, Pipeline
from autograder.sandbox import can_isolate

STEM = "p01_scaled_dot_product_attention"
CODE = (".py", ".html", ".css")  # what decides how a report comes out
CRASH = "import os\n\n\ndef scaled_dot_product_attention(q, k, v, mask=None):\n    os._exit(1)\n"


def submissions(course: Course) -> dict[str, NotebookNode]:
    """Fill the release as eight students would: right, wrong in several ways, empty, crashing."""
    untouched = release.stub(course, STEM)
    known = answers.load(course, STEM)
    right = [answer for answer in known if answer.fails is None][:2]
    wrong = [answer for answer in known if answer.fails is not None]
    chosen = [*right, *wrong[:: max(1, len(wrong) // 3)][:3]]
    filled = [answers.fill(untouched, answer) for answer in chosen]
    filled.append(untouched)
    for text in ("def scaled_dot_product_attention(q, k, v\n    return q", CRASH):
        crashing = notebooks.canonical(untouched)
        answers.solution_cells(crashing)[0].source = text
        filled.append(crashing)
    return {f"student{number:02d}": notebook for number, notebook in enumerate(filled, start=1)}


class SampleClass:
    """The class in _build/sample_class: a course folder of its own with its own gradebook."""

    def __init__(self, course: Course, folder: Path | None = None):
        self.course = course
        self.folder = folder or course.build / "sample_class"
        self.page = self.folder / "report.html"
        # The submissions are the course's own, so a host that cannot isolate may run them.
        self.refusal = can_isolate()
        self.pipeline = Pipeline(
            course,
            root=self.folder,
            log=self.folder / "nbgrader.log",
            overrides=Config(Executor={"isolate": self.refusal is None}),
        )
        self.faults: dict[str, str] = {}

    @property
    def fresh(self) -> bool:
        stamp = self.folder / "stamp"
        return self.page.exists() and stamp.exists() and stamp.read_text() == self._key()

    def prepare(self) -> list[str]:
        """Lay the class out anew and name its students."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.course.root / "source" / STEM, self.folder / "source" / STEM)
        self.pipeline.generate(STEM)
        filled = submissions(self.course)
        for student, notebook in filled.items():
            path = self.folder / "submitted" / student / STEM / f"{STEM}.ipynb"
            path.parent.mkdir(parents=True)
            path.write_text(notebooks.dumps(notebook), encoding="utf-8")
        return list(filled)

    def grade(self, students: list[str]) -> Iterator[str]:
        """Grade each student and write the feedback; yield each name when it is done."""
        self.faults.clear()
        for student in students:
            try:
                self.pipeline.autograde(STEM, student)
                self.pipeline.feedback(STEM, student)
            except GradingError as error:
                self.faults[student] = str(error)
            yield student

    def finish(self) -> list[report.Result]:
        """Write the report and give what it shows."""
        found = report.write(self.pipeline, STEM, self.folder, self.faults)
        (self.folder / "stamp").write_text(self._key())
        return found

    def _key(self) -> str:
        digest = hashlib.sha256()
        package = sorted(p for p in Path(__file__).parent.rglob("*") if p.suffix in CODE)
        folders = (self.course.root / "source" / STEM, self.course.answers(STEM))
        inputs = [
            path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()
        ]
        for path in [self.course.root / CONFIG, *package, *inputs]:
            digest.update(path.name.encode() + path.read_bytes())
        return digest.hexdigest()
