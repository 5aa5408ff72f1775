"""Files that a notebook ships: its own recipe cell makes them, and takes minutes to."""

from collections.abc import Iterator
from pathlib import Path

from nbformat import NotebookNode

from autograder import notebooks
from autograder.course import Course
from autograder.errors import NotebookError

RECIPE = "recipe"  # the tag of the cell
ASKED = "COURSE_WEIGHTS"  # the variable of the environment without which it does nothing


class Recipe:
    """The recipe of one problem."""

    def __init__(self, course: Course, stem: str):
        self.course, self.path = course, course.source(stem)
        self.notebook = notebooks.canonical(notebooks.read(self.path))
        found = [cell for cell in self.notebook.cells if is_recipe(cell)]
        if len(found) != 1:
            raise NotebookError(
                f"{stem}: expected one cell with the tag {RECIPE!r}, got {len(found)}; "
                "only problems that ship weights have one"
            )
        self.cell = found[0]

    def run(self) -> Iterator[str]:
        """Run the recipe and what stands before it; yield the files it wrote.

        A cell before it that fails, as it needs weights that are not there yet, is passed over.
        Raises: NotebookError where the recipe itself fails, or writes nothing.
        """
        from nbclient import NotebookClient

        folder = self.path.parent
        before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
        del self.notebook.cells[self.notebook.cells.index(self.cell) + 1 :]
        client = NotebookClient(
            self.notebook,
            timeout=None,
            kernel_name="python3",
            allow_errors=True,
            resources={"metadata": {"path": str(folder)}},
            record_timing=False,
        )
        client.execute(env={**notebooks.environment(self.course.root), ASKED: "1"})
        failed = [output for output in self.cell.outputs if output.output_type == "error"]
        if failed:
            raise NotebookError(f"the recipe fails: {failed[0].ename}: {failed[0].evalue}")
        written = [path for path in sorted(folder.iterdir()) if _is_new(path, before)]
        if not written:
            raise NotebookError(f"the recipe wrote no file into {folder.name}")
        for path in written:
            yield f"{path.relative_to(self.course.root)}: {path.stat().st_size:,} bytes"


def is_recipe(cell: NotebookNode) -> bool:
    return cell.cell_type == "code" and RECIPE in cell.metadata.get("tags", [])


def _is_new(path: Path, before: dict[Path, int]) -> bool:
    return path.is_file() and before.get(path) != path.stat().st_mtime_ns
