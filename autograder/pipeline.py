"""nbgrader's own steps, run in this process with the course's own configuration."""

import logging
from pathlib import Path

from nbgrader.api import Gradebook
from nbgrader.converters import Autograde, GenerateAssignment, GenerateFeedback
from nbgrader.converters.base import BaseConverter, NbGraderException
from nbgrader.coursedir import CourseDirectory
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

from autograder.course import Course
from autograder.errors import GradingError

CONFIG = "nbgrader_config.py"


class Pipeline:
    """The steps of nbgrader for one course folder.

    `root` is the folder that holds source/, submitted/ and gradebook.db; the configuration is
    the course's, changed by `overrides`. What nbgrader says goes to `log`, a file.
    """

    def __init__(self, course: Course, *, root: Path, log: Path, overrides: Config | None = None):
        self.root = root
        self.log = log
        self.config = PyFileConfigLoader(CONFIG, path=str(course.root)).load_config()
        self.config.merge(overrides or Config())

    def generate(self, assignment: str, *, force: bool = True) -> None:
        """Write the release of an assignment and record its cells in the gradebook."""
        self._convert(GenerateAssignment, assignment, ".", force=force)

    def autograde(self, assignment: str, student: str = "*", *, force: bool = True) -> None:
        """Grade what stands in submitted/ and record the scores."""
        self._convert(Autograde, assignment, student, force=force)

    def feedback(self, assignment: str, student: str = "*", *, force: bool = True) -> None:
        """Write what the student gets to read."""
        self._convert(GenerateFeedback, assignment, student, force=force)

    def gradebook(self) -> Gradebook:
        """Open the gradebook; use it in a `with` block."""
        directory = self.directory("")
        return Gradebook(directory.db_url, directory.course_id)

    def directory(self, assignment: str, student: str = "*") -> CourseDirectory:
        """Give nbgrader's view of the folders."""
        return CourseDirectory(
            config=self.config,
            root=str(self.root),
            assignment_id=assignment,
            student_id=student,
            log=self.logger(),
        )

    def _convert(
        self, step: type[BaseConverter], assignment: str, student: str, *, force: bool
    ) -> None:
        directory = self.directory(assignment, student)
        converter = step(coursedir=directory, config=self.config, force=force, log=directory.log)
        try:
            converter.start()
        except NbGraderException as error:
            raise GradingError(
                f"nbgrader could not finish {step.__name__} of {assignment} for "
                f"{'all' if student == '*' else student}: {self._last_error() or error}"
            ) from error

    def logger(self) -> logging.Logger:
        """Give the logger that writes to this pipeline's file."""
        logger = logging.getLogger(f"autograder.nbgrader.{self.log}")
        if not logger.handlers:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            handler = logging.FileHandler(self.log, mode="a", encoding="utf-8", delay=True)
            handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
            logger.addHandler(handler)
            logger.setLevel(logging.INFO)
            logger.propagate = False
        return logger

    def _last_error(self) -> str:
        """Find the exception that nbgrader logged as a traceback and did not pass on."""
        text = self.log.read_text(encoding="utf-8") if self.log.exists() else ""
        _, found, traceback = text.rpartition("Traceback (most recent call last)")
        lines = [
            line for line in traceback.splitlines() if line and not line.startswith((" ", "ERR"))
        ]
        return (
            next((line for line in lines if ":" in line and line[0].isalpha()), "") if found else ""
        )
