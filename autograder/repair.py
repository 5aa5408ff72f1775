"""Bring a submission's cells back into the form of the release, and say what was wrong.

The truth about a cell is what nbgrader recorded when the assignment was released: never what a
submission says of itself.
"""

import bisect
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_raw_cell
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.coursedir import CourseDirectory
from nbgrader.nbgraderformat import SCHEMA_VERSION
from nbgrader.preprocessors import NbGraderPreprocessor
from nbgrader.utils import compute_checksum

from autograder.incoming import free_id, plain
from autograder.originals import FLAGS, Known, bare, known_cells

KEY = "autograder"  # of the notebook's metadata
NEW = {"code": new_code_cell, "markdown": new_markdown_cell, "raw": new_raw_cell}
MOST_NAMES = 3
SKIP = ("skip-execution", "raises-exception")  # tags that tell a kernel to go easy on a cell


def claimed(cell: NotebookNode) -> str | None:
    """Give the name that a cell's metadata say."""
    found = cell.metadata.get("nbgrader")
    name = found.get("grade_id") if isinstance(found, dict) else None
    return name if isinstance(name, str) else None


def rank(notebook: NotebookNode, known: dict[str, Known]) -> tuple[int, int]:
    """Say how well a notebook fits: how many known cells it holds, and how many are answered."""
    held = {name: cell for cell in notebook.cells if (name := claimed(cell)) in known}
    answered = [n for n, cell in held.items() if known[n].solution and _is_own(cell, known[n])]
    return len(held), len(answered)


def _is_own(cell: NotebookNode, known: Known) -> bool:
    """Say whether somebody wrote in a cell of the release."""
    if bare(cell.source) in known.texts:
        return False
    try:
        return cell.metadata["nbgrader"]["checksum"] != compute_checksum(cell)
    except (KeyError, TypeError, AttributeError, ValueError):
        return True


class Mending:
    """The repair of one notebook, in place."""

    def __init__(self, notebook: NotebookNode, known: dict[str, Known]):
        self.notebook, self.known = notebook, known
        self.cells: list[NotebookNode] = notebook.cells
        self.names: dict[int, str] = {}  # id() of a cell: its name in the release
        self.found: dict[str, list[str]] = defaultdict(list)  # sentence: cells that it is said of

    def run(self) -> list[str]:
        """Repair all that there is to repair; give the sentences."""
        self._line_ends()
        self._recognise()
        self._keep_one()
        for cell in self.cells:
            if id(cell) in self.names:
                self._restore(cell, self.known[self.names[id(cell)]])
            else:
                self._let_go(cell)
        self._order()
        self._put_back()
        self.notebook.cells = self.cells
        return [_sentence(text, names) for text, names in self.found.items()]

    def _line_ends(self) -> None:
        count = 0
        for cell in self.cells:
            if "\r" in cell.source:
                cell.source = cell.source.replace("\r\n", "\n").replace("\r", "\n")
                count += 1
        if count:
            cells = "cell" if count == 1 else "cells"
            self.found[f"Windows line ends in {count} {cells} were replaced."] = []

    def _recognise(self) -> None:
        """Name the cells: by their metadata; without those, a check by its text, an answer by id"""
        for cell in self.cells:
            if claimed(cell) in self.known:
                self.names[id(cell)] = claimed(cell)
        lacking = self._lacking()
        by_text = {text: known for known in lacking if known.locked for text in known.texts}
        by_id = {known.id: known for known in lacking if not known.locked and known.id}
        for cell in self.cells:
            if id(cell) in self.names:
                continue
            known = by_id.get(cell.get("id")) or by_text.get(bare(cell.source) or None)
            if known:
                self.names[id(cell)] = known.name

    def _lacking(self) -> list[Known]:
        present = set(self.names.values())
        return [known for name, known in self.known.items() if name not in present]

    def _keep_one(self) -> None:
        """Of a cell that stands more than once, keep the name of the last that has an answer."""
        copies = defaultdict(list)
        for cell in self.cells:
            if id(cell) in self.names:
                copies[self.names[id(cell)]].append(cell)
        left_out = set()
        for name, cells in copies.items():
            if len(cells) == 1:
                continue
            known = self.known[name]
            own = [cell for cell in cells if _is_own(cell, known)]
            kept = own[-1] if own and not known.locked else cells[-1]
            for cell in cells:
                if cell is kept:
                    continue
                del self.names[id(cell)]
                cell.metadata.pop("nbgrader", None)
                if not any(cell is other for other in own):
                    left_out.add(id(cell))
            if known.locked:
                self.found["{} {stand} more than once; the original was run, once."].append(name)
            else:
                last = "the last one with an answer counts, and what you wrote in others runs too"
                self.found[f"{{}} {{stand}} more than once; {last}."].append(name)
        self.cells = [cell for cell in self.cells if id(cell) not in left_out]

    def _restore(self, cell: NotebookNode, known: Known) -> None:
        """Give a cell of the release its metadata and type back; nbgrader restores the text."""
        own = known.locked and _is_own(cell, known)
        if cell.cell_type != known.cell_type:
            _retype(cell, known.cell_type)
            text = f"{{}} {{was}} no {known.cell_type} any more; {{it}} {{was}} graded as such."
            self.found[text].append(known.name)
        if not known.fits(cell.metadata.get("nbgrader")):
            cell.metadata["nbgrader"] = NotebookNode(known.metadata())
            self.found[
                "The nbgrader metadata of {} were changed or damaged; those of the release count."
            ].append(known.name)
        tags = cell.metadata.pop("tags", None)
        if isinstance(tags, list) and any(tag in tags for tag in SKIP):
            self.found["A tag told Jupyter to skip {}; {it} {was} run."].append(known.name)
        if own:
            self.found["{} {was} not as released; the original was run."].append(known.name)

    def _let_go(self, cell: NotebookNode) -> None:
        """Make an ordinary cell of one that only says that it is nbgrader's."""
        found = cell.metadata.get("nbgrader")
        if found is None and "nbgrader" not in cell.metadata:
            return
        del cell.metadata["nbgrader"]
        if _has_no_role(found):  # nothing is lost, and nbgrader stumbles over it
            return
        name = claimed(NotebookNode(metadata={"nbgrader": found}))
        if name is None:
            self.found["Damaged nbgrader metadata of an ordinary cell were left out."] = []
        else:
            text = "No cell of the assignment is called {}; {it} {counts} as {your}."
            self.found[text].append(plain(name))

    def _order(self) -> None:
        """Put the release's cells in order; an ordinary cell stays with the one it belongs to."""
        places = {name: place for place, name in enumerate(self.known)}
        order = [places[self.names[id(cell)]] for cell in self.cells if id(cell) in self.names]
        if order == sorted(order):
            return
        names = list(self.known)
        moved = sorted(set(order) - set(_longest_rising(order)))
        text = "{} stood in another place than in the release; {it} {was} put back."
        self.found[text] += [names[place] for place in moved]
        groups = self._groups()
        groups.sort(key=lambda group: group[0])
        self.cells = [cell for _, cells in groups for cell in cells]

    def _groups(self) -> list[tuple[int, list[NotebookNode]]]:
        """Put each ordinary cell to the cell before it, if that is an answer, or the one behind."""
        places = {name: place for place, name in enumerate(self.known)}
        head = 0  # titles stay at the top
        while self.cells[head].cell_type != "code" and id(self.cells[head]) not in self.names:
            head += 1
        groups = [(-1, self.cells[:head])]
        waiting: list[NotebookNode] = []
        for cell in self.cells[head:]:
            name = self.names.get(id(cell))
            if name is None:
                waiting.append(cell)
                continue
            known = self.known[name]
            if self._is_answer(groups[-1][1]) and not known.solution:
                groups[-1][1].extend(waiting)
                waiting = []
            groups.append((places[name], [*waiting, cell]))
            waiting = []
        if waiting:
            groups[-1][1].extend(waiting)
        return groups

    def _is_answer(self, group: list[NotebookNode]) -> bool:
        return any(
            self.known[self.names[id(cell)]].solution for cell in group if id(cell) in self.names
        )

    def _put_back(self) -> None:
        """Add what is missing: a set-up as early as it may stand, a check as late."""
        taken = {cell.get("id") for cell in self.cells}
        lacking = self._lacking()
        edited = [name for text, names in self.found.items() if "not as released" in text
                  for name in names]  # fmt: skip
        for known in lacking:
            if not known.must:
                text = "{} {is} missing; what you wrote in cells of your own counts."
                self.found[text].append(known.name)
                self._keep_texts(edited, taken)
                edited = []
        for known in lacking:
            if known.must:
                cell = NEW[known.cell_type](known.source)
                cell["id"] = free_id(known.name, taken)
                taken.add(cell["id"])
                cell.metadata["nbgrader"] = NotebookNode(known.metadata())
                self.cells.insert(self._place(known), cell)
                self.names[id(cell)] = known.name
                self.found["{} {is} missing; {it} {was} put back."].append(known.name)

    def _keep_texts(self, edited: Iterable[str], taken: set[str]) -> None:
        """Keep what stands in changed cells of the course: the missing answer may be there."""
        for name in edited:
            index = next(n for n, cell in enumerate(self.cells) if self.names.get(id(cell)) == name)
            if self.cells[index].cell_type != "code":
                continue
            text = bare(self.cells[index].source)
            for released in self.known[name].texts:
                text = text.replace(released, "")  # it fails where the answer stands behind it
            cell = new_code_cell(text.strip("\n"))
            cell["id"] = free_id(f"{name}-changed", taken)
            taken.add(cell["id"])
            self.cells.insert(index, cell)
            self.found["What you wrote in {} was run before {it} as well."].append(name)

    def _place(self, known: Known) -> int:
        order = list(self.known)
        before = set(order[: order.index(known.name)])
        names = [self.names.get(id(cell)) for cell in self.cells]
        if known.grade or known.task or known.cell_type != "code":
            behind = [n for n, name in enumerate(names) if name and name not in before]
            return behind[0] if behind else len(names)
        earlier = [n for n, name in enumerate(names) if name in before]
        if earlier:
            return earlier[-1] + 1
        code = [n for n, cell in enumerate(self.cells) if cell.cell_type == "code" or names[n]]
        return code[0] if code else len(names)


def _retype(cell: NotebookNode, cell_type: str) -> None:
    cell.cell_type = cell_type
    for key in ("outputs", "execution_count", "attachments"):
        cell.pop(key, None)
    if cell_type == "code":
        cell.outputs, cell.execution_count = [], None


def _has_no_role(found: object) -> bool:
    """Say whether metadata are what nbgrader leaves on a cell that it does nothing with."""
    return (
        isinstance(found, dict)
        and found.get("schema_version") == SCHEMA_VERSION
        and all(found.get(name, False) is False for name in FLAGS)
        and {"grade", "solution", "locked"} <= set(found) <= {*FLAGS, "schema_version", "grade_id"}
        and isinstance(found.get("grade_id", ""), str)
    )


def _longest_rising(numbers: list[int]) -> list[int]:
    """Give the longest part that is in order already: what is not in it was moved."""
    best: list[list[int]] = []  # by length, the part whose last number is least
    for number in numbers:
        at = bisect.bisect_left([part[-1] for part in best], number)
        part = [*(best[at - 1] if at else []), number]
        best[at : at + 1] = [part]
    return best[-1]


def _sentence(text: str, names: list[str]) -> str:
    """Fill in the cells that a sentence is said of, and the numerus."""
    if not names:
        return text
    if len(names) > MOST_NAMES + 1:
        listed = f"{', '.join(names[:MOST_NAMES])} and {len(names) - MOST_NAMES} more"
    else:
        listed = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    one = len(names) == 1
    words = {
        "was": "was" if one else "were",
        "is": "is" if one else "are",
        "it": "it" if one else "they",
        "stand": "stands" if one else "stand",
        "counts": "counts" if one else "count",
        "your": "a cell of your own" if one else "cells of your own",
    }
    return text.format(listed, **words)


def kept(notebook: NotebookNode) -> dict[str, list[str]]:
    """Give what the record of a repaired notebook says of its repair; nothing of another's."""
    record = notebook.metadata.get(KEY)
    found = record.get("repairs") if isinstance(record, dict) else None
    return {"repairs": list(found)} if found else {}


class Repair(NbGraderPreprocessor):
    """Repair a submission before nbgrader looks at it; the notebook's metadata keep what was said.

    resources["repairs"] holds what was said of its file, and resources["known"] the release's
    cells, where they are read already.
    """

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        known = resources.get("known")
        if known is None:
            known = self._read_known(resources["nbgrader"])
        nb.metadata.pop(KEY, None)  # a student may have written it
        said = [*resources.get("repairs", ()), *Mending(nb, known).run()]
        if said:
            nb.metadata[KEY] = {"repairs": said}
            for sentence in said:
                self.log.warning("%s: %s", resources["nbgrader"].get("student", ""), sentence)
        return nb, resources

    def _read_known(self, names: dict[str, str]) -> dict[str, Known]:
        directory = CourseDirectory(parent=self)
        folder = Path(directory.format_path("source", ".", names["assignment"]))
        with Gradebook(names["db_url"]) as gradebook:
            try:
                recorded = gradebook.find_notebook(names["notebook"], names["assignment"])
            except MissingEntry:
                return {}
            return known_cells(recorded, folder / f"{names['notebook']}.ipynb")
