"""Results: what a graded class left behind in the gradebook and in autograded/, read once."""

import re
from collections import defaultdict
from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbgrader.api import (
    Assignment,
    BaseCell,
    Grade,
    Gradebook,
    SubmittedAssignment,
    SubmittedNotebook,
)
from nbgrader.coursedir import CourseDirectory

from autograder import incoming, notebooks, tampering
from autograder.answers import graded_cells, grading
from autograder.errors import NotebookError
from autograder.pipeline import Pipeline

MOST = 500  # characters that are kept of a message
MOST_NAME = 80
MOST_CODE = 100_000  # characters that are kept of a submission's own code
# Control characters, those that turn the direction of a line, and halves of a character.
UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


@dataclass
class Result:
    """One submission: points by cell, why they were lost, and what its run was like."""

    student: str
    scores: dict[str, tuple[float, float]] = field(default_factory=dict)  # cell: (score, of)
    reasons: dict[str, str] = field(default_factory=dict)  # cell: what the check said
    tampering: list[tuple[str, str]] = field(default_factory=list)  # (cell, what was seen)
    repairs: list[str] = field(default_factory=list)  # what came in damaged, and what was done
    fault: str = ""  # why there is no score
    penalty: float = 0.0  # points that were taken off because it was late
    events: list[tuple[str, str, str]] = field(default_factory=list)  # (cell, kind, message)
    seconds: float | None = None
    peak_bytes: int | None = None
    isolated: bool | None = None
    code: str = ""  # of the solution cells, and of those that the student added
    feedback: bool = False  # there is a page for the student

    @property
    def name(self) -> str:
        """The student's, as it may be shown; a folder can be called anything."""
        return plain(self.student, MOST_NAME)

    @property
    def score(self) -> float:
        return max(0.0, sum(score for score, _ in self.scores.values()) - self.penalty)

    @property
    def possible(self) -> float:
        return sum(possible for _, possible in self.scores.values())


def read(pipeline: Pipeline, assignment: str, faults: dict[str, str]) -> list[Result]:
    """Read every submission's points from the gradebook and the rest from autograded/.

    `faults` names the students whose submission could not be graded, and why.
    """
    directory = pipeline.directory(assignment)
    folders = {
        step: Path(directory.format_path(step, ".", ".")).resolve()
        for step in ("submitted", "autograded", "feedback")
    }
    students = {path.parent.name for path in folders["autograded"].glob(f"*/{assignment}")}
    students |= set(incoming.folders(folders["submitted"], assignment))
    with pipeline.gradebook() as gradebook:
        names, scores = _scores(gradebook, assignment)
        penalties = _penalties(gradebook, assignment)
    released = {
        cell.source for notebook in _released(directory, assignment) for cell in notebook.cells
    }
    found = []
    for student in sorted(students):
        result = Result(student, fault=faults.get(student, ""))
        found.append(result)
        graded = folders["autograded"] / student / assignment
        if not result.fault and (student not in scores or not any(graded.glob("*.ipynb"))):
            own = folders["submitted"] / student
            came, _ = incoming.folder(own, assignment) or (own / assignment, [])
            result.fault = _why(came, assignment, names)
        if result.fault:
            continue
        order = []
        for path in sorted(graded.glob("*.ipynb")):
            order += _read_graded(path, result, released)
        places = {cell: place for place, cell in enumerate(order)}
        cells = sorted(scores[student], key=lambda cell: (places.get(cell, len(places)), cell))
        result.scores = {cell: scores[student][cell] for cell in cells}
        result.penalty = penalties.get(student, 0.0)
        page = folders["feedback"] / student / assignment / f"{assignment}.html"
        result.feedback = page.exists()
    return found


def skeleton(directory: CourseDirectory, assignment: str) -> str:
    """Give the code that every student starts from; none where there is no release."""
    return "\n\n".join(_own_code(notebook) for notebook in _released(directory, assignment))


def _released(directory: CourseDirectory, assignment: str) -> list[NotebookNode]:
    folder = Path(directory.format_path("release", ".", assignment))
    return [found for path in sorted(folder.glob("*.ipynb")) if (found := _loaded(path))]


def plain(text: object, most: int = MOST) -> str:
    """Take out what a terminal or a browser would obey, and all after `most` characters."""
    text = UNSEEN.sub("\ufffd", notebooks.ANSI.sub("", str(text)[: 2 * most]))
    return text if len(text) <= most else text[:most].rstrip() + " …"


def _scores(
    gradebook: Gradebook, assignment: str
) -> tuple[set[str], dict[str, dict[str, tuple[float, float]]]]:
    """Give the notebooks' names, and points by student and cell, of those that have any.

    One query: by nbgrader's objects, a thousand submissions take a minute.
    """
    query = (
        gradebook.db.query(
            SubmittedAssignment.student_id, BaseCell.name, Grade.score, Grade.max_score,
            Grade.auto_score, Grade.manual_score,
        )
        .select_from(Grade)
        .join(BaseCell, BaseCell.id == Grade.cell_id)
        .join(SubmittedNotebook, SubmittedNotebook.id == Grade.notebook_id)
        .join(SubmittedAssignment, SubmittedAssignment.id == SubmittedNotebook.assignment_id)
        .join(Assignment, Assignment.id == SubmittedAssignment.assignment_id)
        .filter(Assignment.name == assignment)
    )  # fmt: skip
    scores: dict[str, dict[str, tuple[float, float]]] = defaultdict(dict)
    graded = set()
    for student, cell, score, possible, by_checks, by_hand in query:
        scores[student][cell] = (float(score), float(possible))
        if by_checks is not None or by_hand is not None:
            graded.add(student)
    known = gradebook.db.query(Assignment).filter(Assignment.name == assignment).one_or_none()
    names = {notebook.name for notebook in known.notebooks} if known else {assignment}
    return names, {student: scores[student] for student in graded}


def _penalties(gradebook: Gradebook, assignment: str) -> dict[str, float]:
    query = (
        gradebook.db.query(
            SubmittedAssignment.student_id, SubmittedNotebook.late_submission_penalty
        )
        .join(SubmittedAssignment, SubmittedAssignment.id == SubmittedNotebook.assignment_id)
        .join(Assignment, Assignment.id == SubmittedAssignment.assignment_id)
        .filter(Assignment.name == assignment)
    )
    penalties: dict[str, float] = defaultdict(float)
    for student, penalty in query:
        penalties[student] += penalty or 0.0
    return penalties


def _why(folder: Path, assignment: str, names: Iterable[str]) -> str:
    """Say why a submission has no score: what can be seen of it now, without a run."""
    present = [folder / f"{name}.ipynb" for name in sorted(names)]
    present = [path for path in present if path.is_file()]
    if folder.is_dir() and not present:
        came = ", ".join(sorted(path.name for path in folder.iterdir())) or "an empty folder"
        wanted = " and ".join(f"{name}.ipynb" for name in sorted(names))
        return plain(f"not graded: expected {wanted}, got {came}")
    for path in present:
        try:
            notebooks.read(path)
        except NotebookError as error:
            return plain(f"not graded: {error}")
    return f"not graded; run 'autograder grade {assignment.split('_')[0]}'"


def _loaded(path: Path) -> NotebookNode | None:
    """Read a notebook that nbgrader wrote; None where it is none.

    It was validated when it was written; again, that would be most of what a report costs.
    """
    try:
        notebook = nbformat.v4.reads(path.read_text(encoding="utf-8"))
        return notebook if isinstance(notebook.cells, list) else None
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None


def _read_graded(path: Path, result: Result, released: Set[str]) -> list[str]:
    """Add what a graded notebook says to a result; give the graded cells' names in order."""
    notebook = _loaded(path)
    if notebook is None:
        return []
    result.reasons.update(
        {cell: plain(reason) for cell, reason in notebooks.reasons(notebook).items()}
    )
    result.code = f"{result.code}\n\n{_own_code(notebook, released)}".strip()[:MOST_CODE]
    _read_record(notebook.metadata.get("autograder"), result)
    return [grading(cell)["grade_id"] for cell in graded_cells(notebook)]


def _own_code(notebook: NotebookNode, released: Set[str] = frozenset()) -> str:
    """Give the code that is a student's: of solution cells and of cells that nbgrader does not
    know, those that do not stand in the release as they are.
    """
    return "\n\n".join(
        cell.source
        for cell in notebook.cells
        if cell.cell_type == "code"
        and (grading(cell).get("solution") or not grading(cell))
        and cell.source not in released
    )


def _read_record(record: object, result: Result) -> None:
    """Add what is kept of a run. Where nbgrader alone graded, a student may have written it."""
    if not isinstance(record, dict):
        return
    events = record.get("events")
    events = [event for event in events if _is_event(event)] if isinstance(events, list) else []
    signs = tampering.of_record({"events": events})
    result.tampering += [(plain(cell, 120), plain(what, 400)) for cell, what in signs]
    repairs = record.get("repairs")
    if isinstance(repairs, list):
        result.repairs += [plain(line, 400) for line in repairs if isinstance(line, str)]
    result.events += [
        (plain(event["cell"], 120), plain(event["kind"], 40), plain(event["message"], 400))
        for event in events
        if event["kind"] != tampering.KIND
    ]
    seconds, peak = record.get("seconds"), record.get("peak_bytes")
    if _is_amount(seconds):
        result.seconds = (result.seconds or 0.0) + seconds
    if _is_amount(peak):
        result.peak_bytes = max(result.peak_bytes or 0, int(peak))
    if isinstance(record.get("isolated"), bool):
        result.isolated = record["isolated"] and result.isolated is not False


def _is_event(event: object) -> bool:
    return isinstance(event, dict) and all(
        isinstance(event.get(key), str) for key in ("cell", "kind", "message")
    )


def _is_amount(number: object) -> bool:
    is_number = isinstance(number, (int, float)) and not isinstance(number, bool)
    return is_number and 0 <= number < 1e15
