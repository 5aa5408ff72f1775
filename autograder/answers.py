"""Answers whose score is known: wrong ones that must lose a named cell, right ones that must not.

tests/answers/<stem>/ holds
  wrong.toml   edits of the reference, a table each: why, fails, and old/new (or edits = [...])
  wrong_*.py   wrong answers written on their own; the docstring ends with `fails: <grade_id>`
  right_*.py   right answers in another style; each earns every point
A .py answer replaces the solution cell. Where a problem has several, `# %% <grade_id>` opens the
text for each; a cell that is not named keeps the reference.
"""

import ast
import copy
import re
import tomllib
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from nbformat import NotebookNode

from autograder import notebooks
from autograder.course import Course
from autograder.errors import AnswerError

SECTION = re.compile(r"^# %% (\S+)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Answer:
    """One answer to one problem."""

    stem: str
    name: str
    why: str
    fails: str | None  # the grade_id of the cell that it loses; None for a right answer
    cells: dict[str, str] = field(hash=False)  # grade_id of a solution cell: its text

    @property
    def label(self) -> str:
        return f"{self.stem.split('_')[0]}-{self.name}"


def grading(cell: NotebookNode) -> dict:
    return cell.metadata.get("nbgrader", {})


def solution_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if grading(cell).get("solution")]


def graded_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if grading(cell).get("grade")]


def imports(notebook: NotebookNode) -> list[str]:
    """Give the import statements of set-ups and checks, at whatever depth they stand.

    A cell that is no plain Python, with a magic for one, has none.
    """
    found = []
    for cell in notebook.cells:
        if cell.cell_type == "code" and grading(cell).get("locked"):
            with suppress(SyntaxError):
                nodes = ast.walk(ast.parse(cell.source))
                found += [
                    ast.unparse(n) for n in nodes if isinstance(n, ast.Import | ast.ImportFrom)
                ]
    return list(dict.fromkeys(found))


def load(course: Course, stem: str) -> list[Answer]:
    """Read every answer to a problem.

    Raises: AnswerError naming the entry and what is wrong with it.
    """
    folder = course.answers(stem)
    notebook = notebooks.read(course.source(stem))
    reference = {cell.metadata.nbgrader.grade_id: cell.source for cell in solution_cells(notebook)}
    grade_ids = {cell.metadata.nbgrader.grade_id for cell in graded_cells(notebook)}
    answers = []
    if (folder / "wrong.toml").exists():
        text = (folder / "wrong.toml").read_text(encoding="utf-8")
        for name, entry in tomllib.loads(text).items():
            answers.append(_edited(stem, name, entry, reference))
    for path in sorted(folder.glob("*.py")):
        answers.append(_written(stem, path, reference))
    for answer in answers:
        if answer.fails is not None and answer.fails not in grade_ids:
            raise AnswerError(
                f"{stem}, {answer.name}: fails names {answer.fails!r}; the graded cells are "
                + ", ".join(sorted(grade_ids))
            )
    return answers


def fill(notebook: NotebookNode, answer: Answer) -> NotebookNode:
    """Return the notebook with the answer in its solution cells."""
    notebook = copy.deepcopy(notebook)
    for cell in solution_cells(notebook):
        cell.source = answer.cells.get(cell.metadata.nbgrader.grade_id, cell.source)
    return notebook


def _edited(stem: str, name: str, entry: dict, reference: dict[str, str]) -> Answer:
    missing = {"why", "fails"} - entry.keys()
    if missing:
        raise AnswerError(f"{stem}, {name}: expected {' and '.join(sorted(missing))} in wrong.toml")
    cells = dict(reference)
    for edit in entry.get("edits") or [{"old": entry.get("old", ""), "new": entry.get("new", "")}]:
        holders = [key for key, text in cells.items() if edit["old"] and edit["old"] in text]
        if len(holders) != 1 or cells[holders[0]].count(edit["old"]) != 1:
            raise AnswerError(
                f"{stem}, {name}: the text {edit['old']!r} must stand exactly once in the reference"
            )
        cells[holders[0]] = cells[holders[0]].replace(edit["old"], edit["new"])
    return Answer(stem, name, entry["why"], entry["fails"], cells)


def _written(stem: str, path: Path, reference: dict[str, str]) -> Answer:
    text = path.read_text(encoding="utf-8")
    why = (ast.get_docstring(ast.parse(text)) or "").strip()
    kind = path.stem.split("_")[0]
    if kind not in ("right", "wrong") or not why:
        raise AnswerError(
            f"{stem}, {path.name}: expected right_*.py or wrong_*.py that opens with a docstring"
        )
    found = re.search(r"^fails: (\S+)$", why, re.MULTILINE)
    if (kind == "wrong") != bool(found):
        raise AnswerError(
            f"{stem}, {path.name}: wrong answers, and they alone, say 'fails: <grade_id>'"
        )
    parts = SECTION.split(text)
    if len(parts) == 1:
        if len(reference) != 1:
            raise AnswerError(f"{stem}, {path.name}: name the cells with '# %% <grade_id>'")
        cells = {next(iter(reference)): text}
    else:
        cells = dict(zip(parts[1::2], parts[2::2], strict=True))
    unknown = cells.keys() - reference.keys()
    if unknown:
        raise AnswerError(f"{stem}, {path.name}: no solution cell is called {', '.join(unknown)}")
    return Answer(stem, path.stem, why, found[1] if found else None, {**reference, **cells})
