"""Read what students hand in: any encoding and format, damaged parts left out, any file name.

What was not as it should be is told in plain sentences, for the student and for the instructor.
"""

import codecs
import json
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
from nbconvert.exporters import NotebookExporter
from nbformat import NotebookNode
from nbformat.v4.rwbase import strip_transient

from autograder.errors import NotebookError
from autograder.tampering import STRANGE

MAJOR, MINOR = 4, 5
TYPES = ("code", "markdown", "raw")
# What the formats 4, 3 and 1 call a cell's text.
TEXTS = ("source", "input", "code", "text")
OLD_TYPES = {"text": "markdown", "html": "markdown", "heading": "markdown"}
ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
HALF = re.compile(r"\\u[dD][89a-fA-F]")  # half of a character, where the other may be missing
CONFLICT = re.compile(r"^(?:<{7}|>{7}) ", re.MULTILINE)
NUMBERS = re.compile(r"(\d+)")
MOST_NAME = 80


def plain(text: object) -> str:
    """Give what a student called something, as it may stand in a sentence."""
    return STRANGE.sub("?", str(text)[:MOST_NAME])


def read(content: bytes, name: str) -> tuple[NotebookNode, list[str]]:
    """Read a notebook as format 4.5 without outputs, and say what was wrong with the file.

    Raises: NotebookError where there are no cells to be found in it.
    """
    try:
        text, said = _decoded(content)
        data = _parsed(text, said)
        notebook = _built(data, said)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else error
        raise NotebookError(f"{plain(name)} is not a Jupyter notebook: {reason}") from error
    return notebook, said


def _decoded(content: bytes) -> tuple[str, list[str]]:
    if content.startswith(b"PK\x03\x04"):
        raise ValueError("it is a zip archive; unpack it")
    encoding = json.detect_encoding(content)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        text = content.decode("cp1252", errors="replace")
        return text, ["The file was not written in UTF-8; it was read as Windows-1252."]
    if content.startswith(codecs.BOM_UTF8):
        return text, ["The file began with a byte order mark, which was left out."]
    if encoding != "utf-8":
        return text, [f"The file was written in {encoding.upper()} and read as that."]
    return text, []


def _parsed(text: str, said: list[str]) -> dict[str, Any]:
    """Give the notebook as JSON.

    Raises: ValueError that says why there is none, RecursionError.
    """
    text = text.strip("\ufeff\0 \t\r\n")
    if not text:
        raise ValueError("the file is empty")
    try:
        data, end = json.JSONDecoder().raw_decode(text)
    except json.JSONDecodeError as error:
        if CONFLICT.search(text):
            raise ValueError("it holds both sides of a merge that was not resolved") from error
        if text.startswith("{") and (error.pos >= len(text) or "Unterminated" in error.msg):
            raise ValueError("it breaks off in the middle; save it and hand it in again") from error
        raise ValueError(f"line {error.lineno} is no JSON ({error.msg})") from error
    if text[end:].strip():
        said.append("What stood behind the end of the notebook in its file was left out.")
    if not isinstance(data, dict):
        raise ValueError(f"expected an object with cells, got {type(data).__name__}")
    if HALF.search(text):
        whole = json.dumps(data, ensure_ascii=False).encode("utf-16", "surrogatepass")
        mended = json.loads(whole.decode("utf-16", errors="replace"))
        if mended != data:
            said.append("Broken characters were replaced.")
        data = mended
    return data


def _built(data: dict[str, Any], said: list[str]) -> NotebookNode:
    """Make a notebook of what is whole.

    Raises: ValueError where there are no cells.
    """
    found = data.get("cells")
    sheets = data.get("worksheets")
    if not isinstance(found, list) and isinstance(sheets, list):
        lists = [sheet.get("cells") for sheet in sheets if isinstance(sheet, dict)]
        found = [cell for part in lists if isinstance(part, list) for cell in part]
    if not isinstance(found, list):
        raise ValueError("expected a list of cells, got none")
    _tell_format(data, said)
    cells = [cell for cell in found if isinstance(cell, dict)]
    if len(cells) < len(found):
        said.append(f"{_count(len(found) - len(cells), 'entry', 'entries')} that is no cell "
                    "was left out.")  # fmt: skip
    damaged = sum(not isinstance(cell.get("metadata", {}), dict) for cell in cells)
    if damaged:
        said.append(
            f"The metadata of {_count(damaged, 'cell', 'cells')} were damaged and left out."
        )
    taken: set[str] = set()
    made = [_cell(cell, taken) for cell in cells]
    metadata = data.get("metadata")
    whole = {"cells": made, "metadata": metadata if isinstance(metadata, dict) else {}}
    whole |= {"nbformat": MAJOR, "nbformat_minor": MINOR}
    try:
        return _valid(whole)
    except (nbformat.ValidationError, RecursionError):
        said.append("Metadata that Jupyter does not know were left out.")
    whole["metadata"] = {}
    for cell in made:
        cell["metadata"] = {k: v for k, v in cell["metadata"].items() if k == "nbgrader"}
        cell.pop("attachments", None)
    try:
        return _valid(whole)
    except nbformat.ValidationError as error:
        raise ValueError(str(error).strip().splitlines()[0]) from error


def _valid(data: dict[str, Any]) -> NotebookNode:
    notebook = strip_transient(nbformat.from_dict(data))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what nbformat would mend by itself
        nbformat.validate(notebook)
    return notebook


def _tell_format(data: dict[str, Any], said: list[str]) -> None:
    """Say where the format is not 4; older minor versions of it differ in nothing that counts."""
    major, minor = data.get("nbformat"), data.get("nbformat_minor")
    numbers = [n for n in (major, minor) if isinstance(n, int) and not isinstance(n, bool)]
    if len(numbers) < 2:
        said.append(f"The file does not say its format; it was read as {MAJOR}.{MINOR}.")
    elif numbers > [MAJOR, MINOR]:
        said.append(
            f"The file is of the newer format {major}.{minor}; it was read as {MAJOR}.{MINOR}."
        )
    elif major < MAJOR:
        said.append(f"The file is of the old format {major}; it was converted.")


def _cell(raw: dict[str, Any], taken: set[str]) -> dict[str, Any]:
    """Make a cell of what is whole in one of any format; `taken` are the ids before it."""
    kind = raw.get("cell_type")
    kind = OLD_TYPES.get(kind, kind) if isinstance(kind, str) else "raw"
    kind = kind if kind in TYPES else "raw"
    text = next((raw[key] for key in TEXTS if key in raw), "")
    if isinstance(text, list):
        text = "".join(line for line in text if isinstance(line, str))
    text = text if isinstance(text, str) else ""
    if raw.get("cell_type") == "heading":
        level = raw.get("level")
        text = f"{'#' * (level if level in range(1, 7) else 1)} {text}"
    metadata = raw.get("metadata")
    made = {"cell_type": kind, "source": text}
    made["metadata"] = metadata if isinstance(metadata, dict) else {}
    if kind == "code":  # what it printed plays no part, and may be large
        made |= {"outputs": [], "execution_count": None}
    elif isinstance(raw.get("attachments"), dict):
        made["attachments"] = raw["attachments"]
    name = raw.get("id")
    if not isinstance(name, str) or not ID.fullmatch(name):
        name = f"cell-{len(taken)}"
    made["id"] = free_id(name, taken)
    taken.add(made["id"])
    return made


def free_id(name: str, taken: set[str]) -> str:
    """Give an id like `name` that no other cell has."""
    found, number = name[:64], 2
    while found in taken:
        found, number = f"{name[:56]}-{number}", number + 1
    return found


def _count(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"


def folders(submitted: Path, assignment: str) -> Iterator[str]:
    """Name the students who handed something in for an assignment, in order."""
    for own in sorted(submitted.iterdir()) if submitted.is_dir() else ():
        if own.is_dir() and folder(own, assignment):
            yield own.name


def folder(own: Path, assignment: str) -> tuple[Path, list[str]] | None:
    """Find an assignment's folder in a student's own, and say what was wrong with it.

    Where it is missing, one that begins with the assignment's number is taken, P01 or `p01 final`,
    of several the last by name; or the student's own, where such a notebook lies in it.
    """
    if (own / assignment).is_dir():
        return own / assignment, []
    missing = f"The folder {assignment} is missing;"
    number = re.compile(rf"{re.escape(assignment.split('_')[0])}(?![a-z0-9])", re.IGNORECASE)
    found = [path for path in own.iterdir() if number.match(path.name) and not path.is_symlink()]
    if inner := [path for path in found if path.is_dir()]:
        taken = max(inner, key=lambda path: _natural(Path(path.name)))
        return taken, [f"{missing} {plain(taken.name)} was taken in its place."]
    if any(path.is_file() and _may_be_notebook(path) for path in found):
        return own, [f"{missing} the files outside of any were taken."]
    return None


def choose(
    files: dict[Path, bytes], name: str, others: list[str], rank: Callable[[NotebookNode], Any]
) -> tuple[NotebookNode, list[str]] | None:
    """Find the notebook `name` among what was handed in; None where there is no notebook.

    Where it is missing or cannot be read, another is taken, of several the one with the highest
    `rank`, of equals the last by name. `others` are the names of the assignment's other notebooks.
    Raises: NotebookError where none can be read.
    """
    wanted = Path(f"{name}.ipynb")
    reserved = {Path(f"{other}.ipynb") for other in others} | {wanted}
    rest = [path for path in files if path not in reserved and _may_be_notebook(path)]
    fault = None
    if wanted in files:
        try:
            notebook, said = read(files[wanted], wanted.name)
        except NotebookError as error:
            fault = error
        else:
            if rest:
                more = _listed(rest)
                said.insert(0, f"{wanted} was graded; {more} beside it {_was(rest)} not.")
            return notebook, said
    readable = []
    for path in rest:
        try:
            readable.append((path, *read(files[path], str(path))))
        except NotebookError as error:
            fault = fault or error
    if not readable:
        if fault:
            raise fault
        return None
    path, notebook, said = max(readable, key=lambda found: (rank(found[1]), _natural(found[0])))
    why = "cannot be read" if wanted in files else "is missing"
    which = f", of {len(readable)} notebooks the one that fits best" if len(readable) > 1 else ""
    return notebook, [f"{wanted} {why}; {plain(path)} was taken in its place{which}.", *said]


def _may_be_notebook(path: Path) -> bool:
    """Tell by the name: Work.IPYNB, a.ipynb.txt; but not what a Mac writes beside each file."""
    return ".ipynb" in path.name.lower() and not path.name.startswith("._")


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort Copy10 behind Copy9."""
    parts = NUMBERS.split(str(path).lower())
    return [(int(part), "") if n % 2 else (0, part) for n, part in enumerate(parts)]


def _listed(paths: list[Path]) -> str:
    shown = [plain(path) for path in sorted(paths)]
    return " and ".join(shown) if len(shown) < 3 else f"{len(shown)} other notebooks"


def _was(paths: list[Path]) -> str:
    return "was" if len(paths) == 1 else "were"


class Exporter(NotebookExporter):
    """Lets nbgrader's own commands read a submission as `autograder grade` does."""

    def from_file(
        self, file_stream: Any, resources: dict[str, Any] | None = None, **kw: Any
    ) -> tuple[NotebookNode, dict[str, Any]]:
        path = Path(file_stream.name)
        notebook, said = read(path.read_bytes(), path.name)
        resources = {} if resources is None else resources
        resources["repairs"] = said
        return self.from_notebook_node(notebook, resources=resources, **kw)
