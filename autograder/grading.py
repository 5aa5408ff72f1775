"""Many submissions: prepared and recorded here, executed by workers, resumable at any point.

Only this process touches the gradebook. A submission is recorded in one transaction, then its
folder is moved into autograded/ in one step. The graded notebook carries the key of everything its
grade depends on, so a run that was killed and is started again does just what is left.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
from nbconvert.preprocessors import ClearMetadataPreprocessor
from nbformat import NotebookNode
from nbgrader.api import MissingEntry
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import ClearOutput, DeduplicateIds, IgnorePattern, LimitOutput
from nbgrader.utils import find_all_files
from sqlalchemy.exc import SQLAlchemyError

import autograder
from autograder import (
    answers,
    gradebook,
    incoming,
    notebooks,
    originals,
    repair,
    tampering,
    workers,
)
from autograder.errors import AutograderError, GradingError
from autograder.judge.interface import Interface
from autograder.pipeline import Pipeline
from autograder.sandbox import Limits

SANITIZE = (
    repair.Repair,
    ClearOutput,
    DeduplicateIds,
    gradebook.OverwriteKernelspec,
    gradebook.OverwriteCells,
    gradebook.CheckCellMetadata,
)
RECORD = (
    IgnorePattern,
    ClearMetadataPreprocessor,
    LimitOutput,
    gradebook.SaveAutoGrades,
    gradebook.AssignLatePenalties,
)
STAGING = ".grading"
STOP_TICK = 0.1  # seconds between two looks at whether the run is to stop
NOTEBOOK_KEY = "autograder"


@dataclass(frozen=True)
class Submitted:
    """What a student handed in, as it was when it was read."""

    student: str
    said: list[str]  # of the folder
    files: dict[Path, bytes]
    key: str  # of everything that the grade depends on

    @property
    def beside(self) -> dict[Path, bytes]:
        """The files that are no notebooks."""
        return {path: text for path, text in self.files.items() if path.suffix != ".ipynb"}


@dataclass
class Outcome:
    """How one submission ended."""

    student: str
    status: str  # graded, unchanged or failed
    score: float = 0.0
    possible: float = 0.0
    reasons: dict[str, str] = field(default_factory=dict)  # cell: what its check said
    record: dict[str, Any] = field(default_factory=dict)  # notebook: isolated, seconds, events, ...
    tampering: list[tuple[str, str]] = field(default_factory=list)  # (cell, what was seen)
    repairs: list[str] = field(default_factory=list)  # what was wrong and what was done
    fault: str = ""  # why it could not be graded


class Grading:
    """One run over the submissions of one assignment."""

    def __init__(
        self,
        pipeline: Pipeline,
        assignment: str,
        *,
        limits: Limits | None = None,
        isolate: bool = True,
        force: bool = False,
    ):
        self.pipeline, self.assignment = pipeline, assignment
        self.limits, self.isolate, self.force = limits or Limits(), isolate, force
        self.directory: CourseDirectory = pipeline.directory(assignment)
        self.submitted = Path(self.directory.format_path("submitted", ".", ".")).resolve()
        self.autograded = Path(self.directory.format_path("autograded", ".", ".")).resolve()
        self.staging = self.autograded / STAGING
        self.stopped = False

    def __enter__(self) -> "Grading":
        self.book = gradebook.HeldGradebook(self.directory.db_url, self.directory.course_id)
        try:
            self._read_assignment()
        except MissingEntry as error:
            self.book.close()
            raise GradingError(
                f"the gradebook has no assignment {self.assignment}; "
                f"run 'autograder release {self.assignment}' first"
            ) from error
        shutil.rmtree(self.staging, ignore_errors=True)
        log = self.pipeline.logger()
        config = self.pipeline.config
        self._sanitize = [step(config=config, log=log) for step in SANITIZE]
        self._record = [step(config=config, log=log) for step in RECORD]
        return self

    def __exit__(self, *_: object) -> None:
        self.book.close()
        shutil.rmtree(self.staging, ignore_errors=True)

    def students(self, patterns: list[str]) -> list[str]:
        """Name the students who submitted, all or those that a pattern fits.

        Raises: GradingError where nobody submitted, or a pattern fits nobody.
        """
        found = list(incoming.folders(self.submitted, self.assignment))
        if not found:
            raise GradingError(
                f"no submission: expected {self.submitted.name}/<student>/{self.assignment}/"
                f"{self.assignment}.ipynb"
            )
        for pattern in patterns:
            if not any(fnmatch(student, pattern) for student in found):
                raise GradingError(f"no student called {pattern!r} submitted {self.assignment}")
        return [s for s in found if not patterns or any(fnmatch(s, p) for p in patterns)]

    def stop(self, *_: object) -> None:
        """End `run` before its next submission; a signal's handler, which breaks off no record."""
        self.stopped = True

    def run(self, students: list[str], executor: Executor, ahead: int) -> Iterator[Outcome]:
        """Grade the students, at most `ahead` of them in preparation; yield each as it ends."""
        left = list(reversed(students))
        running: dict[Future, Submitted] = {}
        try:
            while (left or running) and not self.stopped:
                while left and len(running) < ahead and not self.stopped:
                    submitted = self._read(left.pop())
                    outcome = None if self.force else self._unchanged(submitted)
                    try:
                        if outcome is None:
                            job = self._prepare(submitted)
                            running[executor.submit(workers.execute, job)] = submitted
                    except AutograderError as error:
                        outcome = self._failed(submitted, error)
                    if outcome:
                        yield outcome
                ready, _ = wait(running, STOP_TICK, FIRST_COMPLETED)
                for future in ready:
                    submitted = running.pop(future)
                    try:
                        yield self._finish(submitted, _result(future))
                    except AutograderError as error:
                        yield self._failed(submitted, error)
        finally:
            for future in running:
                future.cancel()

    def _read_assignment(self) -> None:
        """Read once what every submission needs of the gradebook and the source folder."""
        found = self.book.find_assignment(self.assignment)
        self.names = [notebook.name for notebook in found.notebooks]
        source = Path(self.directory.format_path("source", ".", self.assignment))
        self.interfaces = {
            notebook.name: Interface.find(source / f"{notebook.name}.ipynb", notebook)
            for notebook in found.notebooks
        }
        paths = [source / f"{name}.ipynb" for name in self.names]
        present = [notebooks.read(path) for path in paths if path.exists()]
        self.imports = tuple(line for found in present for line in answers.imports(found))
        self.known = {
            notebook.name: originals.known_cells(notebook, source / f"{notebook.name}.ipynb")
            for notebook in found.notebooks
        }
        self.source_files = {
            path.relative_to(source): path.read_bytes()
            for path in map(Path, find_all_files(str(source), [*self.directory.ignore, "*.ipynb"]))
        }
        digest = hashlib.sha256(f"{autograder.__version__} {self.limits} {self.isolate}".encode())
        for notebook in found.notebooks:
            for cell in sorted(notebook.source_cells, key=lambda cell: cell.name):
                digest.update(f"{cell.name} {cell.checksum}".encode())
        for path, content in sorted(self.source_files.items()):
            digest.update(str(path).encode() + content)
        self.assignment_key = digest.hexdigest()

    def _read(self, student: str) -> Submitted:
        """Read what a student handed in. A link could point at anything, so none is followed."""
        folder, said = self._folder(student)
        is_loose = folder == self.submitted / student
        files = {}
        digest = hashlib.sha256(self.assignment_key.encode())
        for path in sorted(map(Path, find_all_files(str(folder), self.directory.ignore))):
            if is_loose and path.parent != folder:
                continue
            if path.is_symlink() or not path.is_file():
                self.pipeline.logger().warning("%s: %s is no plain file, left out", student, path)
                continue
            files[path.relative_to(folder)] = content = path.read_bytes()
            digest.update(str(path.relative_to(folder)).encode() + hashlib.sha256(content).digest())
        return Submitted(student, said, files, digest.hexdigest())

    def _folder(self, student: str) -> tuple[Path, list[str]]:
        own = self.submitted / student
        return incoming.folder(own, self.assignment) or (own / self.assignment, [])

    def _unchanged(self, submitted: Submitted) -> Outcome | None:
        """Give the outcome of an earlier run where nothing that it depends on has changed."""
        student = submitted.student
        folder = self.autograded / student / self.assignment
        kept = {}
        for name in self.names:
            try:
                kept[name] = notebooks.read(folder / f"{name}.ipynb")
            except AutograderError:
                return None
            if kept[name].metadata.get(NOTEBOOK_KEY, {}).get("key") != submitted.key:
                return None
        try:
            submission = self.book.find_submission(self.assignment, student)
        except MissingEntry:
            return None
        if any(grade.auto_score is None for nb in submission.notebooks for grade in nb.grades):
            return None
        return self._outcome(student, "unchanged", kept)

    def _prepare(self, submitted: Submitted) -> workers.Job:
        """Bring a submission into the form that the source prescribes.

        Raises: GradingError where no notebook of the assignment can be read.
        """
        student, files = submitted.student, submitted.files
        with self.book.submission() as book:
            book.update_or_create_student(student)
            book.update_or_create_submission(self.assignment, student, **self._timestamp(student))
        sanitised = {}
        for name in self.names:
            known = self.known[name]
            chosen = incoming.choose(files, name, self.names, partial(repair.rank, known=known))
            if chosen is None:
                continue
            notebook, said = chosen
            said = [*submitted.said, *said]
            resources = self._resources(student, name) | {"repairs": said, "known": known}
            try:
                for step in self._sanitize:
                    notebook, resources = step(notebook, resources)
            except (SQLAlchemyError, AutograderError):
                raise
            except Exception as error:  # nobody foresees all that is handed in
                raise GradingError(f"{name}.ipynb cannot be prepared: {error!r}") from error
            sanitised[name] = nbformat.writes(notebook)
        if not sanitised:
            came = ", ".join(sorted(map(str, files))) or "an empty folder"
            wanted = " and ".join(f"{name}.ipynb" for name in self.names)
            raise GradingError(f"expected {wanted}, got {came}")
        return workers.Job(
            student=student,
            notebooks=sanitised,
            files={str(p): text for p, text in {**submitted.beside, **self.source_files}.items()},
            limits=self.limits,
            isolate=self.isolate,
            interfaces=self.interfaces,
            own=tuple(map(str, self.source_files)),
            imports=self.imports,
        )

    def _timestamp(self, student: str) -> dict[str, Any]:
        timestamp = self.directory.get_existing_timestamp(str(self._folder(student)[0]))
        return {"timestamp": timestamp} if timestamp else {}

    def _resources(self, student: str, name: str) -> dict[str, Any]:
        return {
            "nbgrader": {
                "student": student,
                "assignment": self.assignment,
                "notebook": name,
                "db_url": self.directory.db_url,
            },
            "gradebook": self.book,
        }

    def _finish(self, submitted: Submitted, done: workers.Done) -> Outcome:
        """Record a submission: the gradebook in one transaction, then the folder in one move."""
        student, graded = submitted.student, {}
        with self.book.submission():
            for name, text in done.notebooks.items():
                notebook = nbformat.reads(text, as_version=4)
                record = {**done.record[name], **repair.kept(notebook), "key": submitted.key}
                resources = self._resources(student, name)
                for step in self._record:
                    notebook, resources = step(notebook, resources)
                notebook.metadata[NOTEBOOK_KEY] = record
                graded[name] = notebook
            self._zero_missing(student, graded.keys())
        self._write(submitted, graded)
        return self._outcome(student, "graded", graded)

    def _zero_missing(self, student: str, present) -> None:
        for name in self.names:
            if name not in present:
                submitted = self.book.find_submission_notebook(name, self.assignment, student)
                for grade in submitted.grades:
                    grade.auto_score, grade.needs_manual_grade = 0, False

    def _write(self, submitted: Submitted, graded: dict[str, NotebookNode]) -> None:
        """Put the graded folder in its place, read-only as nbgrader leaves it."""
        student = submitted.student
        staged = self.staging / student / self.assignment
        texts = {Path(f"{name}.ipynb"): notebooks.dumps(nb).encode() for name, nb in graded.items()}
        for path, content in {**submitted.beside, **self.source_files, **texts}.items():
            (staged / path).parent.mkdir(parents=True, exist_ok=True)
            (staged / path).write_bytes(content)
            os.chmod(staged / path, 0o444)
        place = self.autograded / student / self.assignment
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists():
            shutil.move(place, self.staging / student / "old")
        staged.rename(place)
        shutil.rmtree(self.staging / student)

    def _failed(self, submitted: Submitted, error: AutograderError) -> Outcome:
        """Name what is wrong with a submission; what an earlier run graded of it is withdrawn."""
        folder = self.autograded / submitted.student / self.assignment
        shutil.rmtree(folder, ignore_errors=True)
        return Outcome(submitted.student, "failed", fault=str(error))

    def _outcome(self, student: str, status: str, graded: dict[str, NotebookNode]) -> Outcome:
        submission = self.book.find_submission(self.assignment, student)
        score = max(0.0, submission.score - submission.late_submission_penalty)
        outcome = Outcome(student, status, score, submission.max_score)
        for name, notebook in graded.items():
            outcome.record[name] = dict(notebook.metadata.get(NOTEBOOK_KEY, {}))
            outcome.reasons.update(notebooks.reasons(notebook))
            outcome.tampering += tampering.of_record(outcome.record[name])
            outcome.repairs += outcome.record[name].get("repairs", [])
        return outcome


def _result(future: Future) -> workers.Done:
    """Give what a worker did.

    Raises: GradingError also where a cluster lost the worker or the task, each in its own words.
    """
    try:
        return future.result()
    except AutograderError:
        raise
    except Exception as error:
        raise GradingError(
            f"its worker was lost ({type(error).__name__}: {error}); run the same command again"
        ) from error
