"""nbgrader's gradebook, opened once for a run and written once for a submission.

nbgrader opens it nine times a submission, looks up each cell by itself and commits each score by
itself. Each opening looks up every table and starts with an empty cache of compiled statements,
which is most of what a submission costs outside of the student's code. The classes here do what
nbgrader's do, on one open gradebook, through the places that nbgrader has for it: the lists of
preprocessors.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nbformat import NotebookNode
from nbgrader import preprocessors
from nbgrader.api import (
    Assignment,
    BaseCell,
    Comment,
    Grade,
    Gradebook,
    GradeCell,
    MissingEntry,
    Notebook,
    SourceCell,
    SubmittedAssignment,
    SubmittedNotebook,
    TaskCell,
)
from nbgrader.nbgraderformat import MetadataValidator, ValidationError
from nbgrader.preprocessors import NbGraderPreprocessor

from autograder.errors import GradingError

Resources = dict


class HeldGradebook(Gradebook):
    """A gradebook in which a submission is one transaction: all of it is recorded, or nothing."""

    def __init__(self, db_url: str, course_id: str):
        super().__init__(db_url, course_id)
        self._commit = self.db.commit
        self._cells: dict[tuple[str, ...], BaseCell] = {}
        self._entries: dict[tuple, dict[str, Grade | Comment]] = {}

    @contextmanager
    def submission(self) -> Iterator["HeldGradebook"]:
        """Hold back every commit of the block until it ends; undo all of it where it raises."""
        self.db.commit = lambda: None
        try:
            yield self
            self._commit()
        except BaseException:
            self.db.rollback()
            raise
        finally:
            self.db.commit = self._commit
            self._entries.clear()

    def settle(self) -> None:
        """Let what is read from now on count what was written: the database sums the scores."""
        self.db.flush()
        self.db.expire_all()

    def add_submission(self, *args: object, **kwargs: object) -> SubmittedAssignment:
        """Add a submission whole; nbgrader's queries would flush it half-made, with a warning."""
        with self.db.no_autoflush:
            return super().add_submission(*args, **kwargs)

    def find_source_cell(self, *names: str) -> SourceCell:
        """Find a cell of the source by its name, its notebook's and its assignment's."""
        return self._kept(super().find_source_cell, names)

    def find_graded_cell(self, *names: str) -> GradeCell | TaskCell:
        """Find a cell that gives points, named as in `find_source_cell`."""
        return self._kept(super().find_graded_cell, names)

    def _kept(self, find: Callable[..., BaseCell], names: tuple[str, ...]) -> BaseCell:
        """Look a cell up once: no run changes the source."""
        key = (find.__name__, *names)
        if key not in self._cells:
            self._cells[key] = find(*names)
            self.db.expunge(self._cells[key])  # each submission's end would have it read again
        return self._cells[key]

    def find_grade(self, cell: str, notebook: str, assignment: str, student: str) -> Grade:
        """Find a grade; the first of a notebook brings all of them."""
        return self._entry(Grade, cell, notebook, assignment, student)

    def find_comment(self, cell: str, notebook: str, assignment: str, student: str) -> Comment:
        """Find a comment; the first of a notebook brings all of them."""
        return self._entry(Comment, cell, notebook, assignment, student)

    def _entry(
        self, kind: type, cell: str, notebook: str, assignment: str, student: str
    ) -> Grade | Comment:
        key = (kind, notebook, assignment, student)
        if key not in self._entries:
            found = (
                self.db.query(BaseCell.name, kind)
                .join(BaseCell, BaseCell.id == kind.cell_id)
                .join(SubmittedNotebook, SubmittedNotebook.id == kind.notebook_id)
                .join(SubmittedNotebook.notebook)
                .join(SubmittedNotebook.assignment)
                .join(SubmittedAssignment.assignment)
                .filter(Notebook.name == notebook, Assignment.name == assignment)
                .filter(SubmittedAssignment.student_id == student)
            )
            self._entries[key] = dict(found.all())
        if cell not in self._entries[key]:
            raise MissingEntry(f"no {kind.__name__} of {cell} in {notebook} of {student}")
        return self._entries[key][cell]


class KnownCells(MetadataValidator):
    """Validates what it has not seen: a class's notebooks hold the same cells again and again."""

    def __init__(self):
        super().__init__()
        self.seen: set[str] = set()

    def validate_cell(self, cell: NotebookNode) -> None:
        # All that decides about a cell, beside its metadata, is its type.
        key = json.dumps([cell.cell_type, cell.metadata.get("nbgrader")], sort_keys=True)
        if key not in self.seen:
            super().validate_cell(cell)
            self.seen.add(key)


class CheckCellMetadata(preprocessors.CheckCellMetadata):
    """Check that the cells' metadata are nbgrader's and no name stands twice.

    Raises: GradingError where they are not.
    """

    def __init__(self, **kwargs: object):
        super().__init__(**kwargs)
        self.validator = KnownCells()

    def preprocess(self, nb: NotebookNode, resources: Resources) -> tuple[NotebookNode, Resources]:
        try:
            self.validator.validate_nb(nb)
        except ValidationError as error:
            raise GradingError(f"the cells' nbgrader metadata are damaged: {error}") from error
        return nb, resources


class OnHeldGradebook(NbGraderPreprocessor):
    """Mix-in: take the gradebook from resources["gradebook"] in place of opening it."""

    def take(self, resources: Resources) -> None:
        names = resources["nbgrader"]
        self.notebook_id, self.assignment_id = names["notebook"], names["assignment"]
        self.student_id = names["student"]
        self.gradebook = resources["gradebook"]

    def each_cell(self, nb: NotebookNode, resources: Resources) -> None:
        for index, cell in enumerate(nb.cells):
            nb.cells[index], _ = self.preprocess_cell(cell, resources, index)


class OverwriteKernelspec(OnHeldGradebook):
    """Give the notebook the kernel of the course: there is only one."""

    def preprocess(self, nb: NotebookNode, resources: Resources) -> tuple[NotebookNode, Resources]:
        nb.metadata.kernelspec = {
            "display_name": "Python 3 (ipykernel)",
            "language": "python",
            "name": "python3",
        }
        return nb, resources


class OverwriteCells(OnHeldGradebook, preprocessors.OverwriteCells):
    """Restore every locked cell and add those that the student deleted."""

    def preprocess(self, nb: NotebookNode, resources: Resources) -> tuple[NotebookNode, Resources]:
        self.take(resources)
        self.each_cell(nb, resources)
        if self.add_missing_cells:
            nb, resources = self.add_missing_grade_cells(nb, resources)
            nb, resources = self.add_missing_task_cells(nb, resources)
        for cell in nb.cells:  # nbgrader adds cells without the id that the format asks for
            cell.setdefault("id", cell.metadata.get("nbgrader", {}).get("grade_id"))
        return nb, resources


class SaveAutoGrades(OnHeldGradebook, preprocessors.SaveAutoGrades):
    """Record the score of each graded cell."""

    def preprocess(self, nb: NotebookNode, resources: Resources) -> tuple[NotebookNode, Resources]:
        self.take(resources)
        self.each_cell(nb, resources)
        return nb, resources


class AssignLatePenalties(OnHeldGradebook, preprocessors.AssignLatePenalties):
    """Record what a late submission loses, by nbgrader's plugin."""

    def preprocess(self, nb: NotebookNode, resources: Resources) -> tuple[NotebookNode, Resources]:
        self.take(resources)
        self.init_plugin()
        self.gradebook.settle()
        submission = self.gradebook.find_submission(self.assignment_id, self.student_id)
        notebook = self.gradebook.find_submission_notebook(
            self.notebook_id, self.assignment_id, self.student_id
        )
        notebook.late_submission_penalty = None
        if submission.total_seconds_late > 0:
            penalty = self.plugin_inst.late_submission_penalty(
                self.student_id, notebook.score, submission.total_seconds_late
            )
            if penalty is not None:
                penalty = self._check_late_penalty(notebook, penalty)
            notebook.late_submission_penalty = penalty
        self.gradebook.db.commit()
        return nb, resources
