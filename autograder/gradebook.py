"""nbgrader's gradebook, opened once for a run and written once for a submission.

nbgrader opens it nine times a submission and commits each score by itself. Each opening looks up
every table and starts with an empty cache of compiled statements, which is most of what a
submission costs outside of the student's code. The classes here do what nbgrader's do, on one open
gradebook, through the places that nbgrader has for it: the lists of preprocessors.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from nbformat import NotebookNode
from nbgrader import preprocessors
from nbgrader.api import Gradebook, SubmittedAssignment
from nbgrader.preprocessors import NbGraderPreprocessor

Resources = dict


class HeldGradebook(Gradebook):
    """A gradebook in which a submission is one transaction: all of it is recorded, or nothing."""

    def __init__(self, db_url: str, course_id: str):
        super().__init__(db_url, course_id)
        self._commit = self.db.commit

    @contextmanager
    def submission(self) -> Iterator["HeldGradebook"]:
        """Hold back every commit of the block until it ends; undo all of it where it raises."""
        self.db.commit = self._settle
        try:
            yield self
            self._commit()
        except BaseException:
            self.db.rollback()
            raise
        finally:
            self.db.commit = self._commit

    def add_submission(self, *args: object, **kwargs: object) -> SubmittedAssignment:
        """Add a submission whole; nbgrader's queries would flush it half-made, with a warning."""
        with self.db.no_autoflush:
            return super().add_submission(*args, **kwargs)

    def _settle(self) -> None:
        # Scores are summed by the database: what was read before a change is out of date.
        self.db.flush()
        self.db.expire_all()


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
