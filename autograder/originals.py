"""The cells of a release, as nbgrader recorded them: what a submission is brought back to."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nbgrader.api import Notebook
from nbgrader.nbgraderformat import SCHEMA_VERSION

from autograder.feedback import HIDDEN

FLAGS = ("grade", "solution", "locked", "task")
KEYS = {*FLAGS, "grade_id", "checksum", "cell_type", "points", "schema_version"}


@dataclass(frozen=True)
class Known:
    """A cell of the release that nbgrader knows."""

    name: str
    cell_type: str
    source: str  # with hidden checks
    checksum: str
    locked: bool
    grade: bool
    solution: bool
    task: bool
    points: float | None
    id: str | None = None  # in the course's own notebook

    @cached_property
    def texts(self) -> set[str]:
        """Its text with and without hidden checks."""
        return {bare(self.source), bare(HIDDEN.sub("", self.source))}

    @property
    def must(self) -> bool:
        """Whether it is put back where it is missing: an answer may stand elsewhere."""
        return self.locked or self.grade or self.task

    def metadata(self) -> dict[str, Any]:
        found = {name: getattr(self, name) for name in FLAGS}
        found |= {"grade_id": self.name, "checksum": self.checksum, "cell_type": self.cell_type}
        if self.points is not None:
            found["points"] = self.points
        return found | {"schema_version": SCHEMA_VERSION}

    def fits(self, found: object) -> bool:
        """Say whether metadata are those of the release; its checksum leaves hidden checks out."""
        if not isinstance(found, dict) or not {"grade", "solution", "locked"} <= set(found) <= KEYS:
            return False
        flags = {name: found.get(name, False) for name in FLAGS}
        if any(type(flag) is not bool for flag in flags.values()):
            return False
        # nbgrader takes a check for locked and an answer for unlocked, whatever they say.
        told = FLAGS if not (self.grade or self.solution) else ("grade", "solution", "task")
        checksum = found.get("checksum", self.checksum)
        return (
            all(flags[name] == getattr(self, name) for name in told)
            and found.get("schema_version") == SCHEMA_VERSION
            and found.get("cell_type", self.cell_type) == self.cell_type
            and found.get("grade_id") == self.name
            and (self.points is None or found.get("points") == self.points)
            and isinstance(checksum, str)
            and len(checksum) == 32
        )


def known_cells(recorded: Notebook, source: Path) -> dict[str, Known]:
    """Read the cells of a release from the gradebook, in the order of the source notebook.

    Without that file, the order is the one in which they were recorded.
    """
    points = {cell.name: cell.max_score for cell in (*recorded.grade_cells, *recorded.task_cells)}
    graded = {cell.name for cell in recorded.grade_cells}
    solutions = {cell.name for cell in recorded.solution_cells}
    tasks = {cell.name for cell in recorded.task_cells}
    ids = _ids(source)
    cells = list(recorded.source_cells)
    if all(cell.name in ids for cell in cells):
        cells.sort(key=lambda cell: list(ids).index(cell.name))
    return {
        cell.name: Known(
            name=cell.name,
            cell_type=cell.cell_type,
            source=cell.source or "",
            checksum=cell.checksum,
            locked=bool(cell.locked),
            grade=cell.name in graded,
            solution=cell.name in solutions,
            task=cell.name in tasks,
            points=points.get(cell.name),
            id=ids.get(cell.name),
        )
        for cell in cells
    }


def _ids(source: Path) -> dict[str, str | None]:
    """Give the ids of a source notebook's cells by nbgrader's name, in order."""
    try:
        cells = json.loads(source.read_text(encoding="utf-8"))["cells"]
        named = [(cell["metadata"].get("nbgrader"), cell.get("id")) for cell in cells]
        return {found["grade_id"]: key for found, key in named if found and "grade_id" in found}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def bare(text: str) -> str:
    """Take out the white space that editors change."""
    return "\n".join(line.rstrip() for line in text.strip().splitlines())
