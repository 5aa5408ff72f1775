"""Read, run and write notebooks in one canonical form, so that a diff shows what changed."""

import os
import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from autograder.errors import NotebookError

METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
KEPT_CELL_METADATA = ("mystnb", "nbgrader", "tags")
CELL_SECONDS = 120
ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")  # colours, and what else a terminal obeys
# What a traceback or a warning leaks of the machine that ran the notebook.
MACHINE_PATH = re.compile(
    r"/(?:home|root|Users|tmp|work|opt|usr)/[\w.-]+|site-packages/|ipykernel_\d+"
)


def environment(root: Path) -> dict[str, str]:
    """Give the environment in which every notebook of the course runs."""
    return {
        **os.environ,
        "MATPLOTLIBRC": str(root / "chapters" / "matplotlibrc"),
        "OMP_NUM_THREADS": "1",
        "PYTHONHASHSEED": "0",
    }


def read(path: Path) -> NotebookNode:
    """Read a notebook of format 4.

    Raises: NotebookError where the file is not one.
    """
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except Exception as error:  # nbformat raises whatever a malformed file makes it trip over
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise NotebookError(f"{path.name} is not a Jupyter notebook: {reason}") from error
    return notebook


def dumps(notebook: NotebookNode) -> str:
    return nbformat.writes(notebook, version=4).rstrip("\n") + "\n"


def canonical(notebook: NotebookNode) -> NotebookNode:
    """Return the notebook with nothing in it that depends on when or where it was saved."""
    notebook = nbformat.from_dict(notebook)
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for cell in notebook.cells:
        kept = {key: cell.metadata[key] for key in KEPT_CELL_METADATA if cell.metadata.get(key)}
        cell.metadata = nbformat.from_dict(kept)
        cell.source = "\n".join(line.rstrip() for line in cell.source.strip("\n").split("\n"))
        if cell.cell_type == "code":
            cell.outputs = _merged(cell.outputs)
            for output in cell.outputs:
                output.pop("transient", None)
                if "metadata" in output:
                    output.metadata = nbformat.from_dict({})
    return notebook


def _merged(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Join what one stream printed in several pieces: where a kernel cuts it is luck."""
    merged: list[NotebookNode] = []
    for output in outputs:
        last = merged[-1] if merged else None
        if last and output.output_type == "stream" == last.output_type and output.name == last.name:
            last.text += output.text
        else:
            merged.append(output)
    return merged


def faults(notebook: NotebookNode) -> list[str]:
    """Say what keeps a committed notebook from being canonical, in one line each."""
    found = []
    count = 0
    for index, cell in enumerate(notebook.cells):
        where = f"cell {index} ({cell.get('id', 'no id')})"
        if cell.cell_type != "code":
            continue
        for output in cell.outputs:
            if output.output_type == "stream" and output.name == "stderr":
                found.append(f"{where} writes to stderr: {output.text.strip()[:80]}")
            if output.output_type == "error":
                found.append(f"{where} stores an error: {output.ename}")
            leak = MACHINE_PATH.search(str(output.get("text", "")) + str(output.get("data", "")))
            if leak:
                found.append(f"{where} prints a path of this machine: {leak[0]}")
        if cell.source.strip():
            count += 1
            if cell.execution_count != count:
                found.append(f"{where} ran as {cell.execution_count}, expected {count}")
    if dumps(canonical(notebook)) != dumps(notebook):
        found.append("the file is not in canonical form")
    return found


def execute(path: Path, root: Path) -> NotebookNode:
    """Run every cell of a notebook in a fresh kernel and return it in canonical form.

    Raises: NotebookError naming the first cell that fails.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError

    notebook = canonical(read(path))
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
    )
    try:
        client.execute(env=environment(root))
    except (CellExecutionError, CellTimeoutError) as error:
        raise NotebookError(f"{path.relative_to(root)} does not run: {error}") from error
    return canonical(notebook)


def refresh(path: Path, root: Path) -> bool:
    """Run a notebook and rewrite its file; say whether the file changed.

    Raises: NotebookError where it fails, writes to stderr or prints a path; the file then stays.
    """
    notebook = execute(path, root)
    problems = faults(notebook)
    if problems:
        raise NotebookError(f"{path.relative_to(root)}: " + "; ".join(problems))
    text = dumps(notebook)
    if path.read_text(encoding="utf-8") == text:
        return False
    path.write_text(text, encoding="utf-8")
    return True


def reasons(notebook: NotebookNode) -> dict[str, str]:
    """Say for each graded cell that failed what its error was."""
    found = {}
    for cell in notebook.cells:
        nbgrader = cell.metadata.get("nbgrader", {})
        for output in cell.get("outputs", []):
            if output.output_type == "error" and nbgrader.get("grade"):
                found[nbgrader.grade_id] = f"{output.ename}: {output.evalue}"
    return found
