"""What a student reads after grading: messages and scores, and no hidden check's source."""

import html
import re

from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell
from nbgrader.preprocessors import NbGraderPreprocessor

from autograder import notebooks
from autograder.answers import grading

HIDDEN = re.compile(
    r"^[ \t]*### BEGIN HIDDEN TESTS.*?(?:^[ \t]*### END HIDDEN TESTS[^\n]*\n?|\Z)",
    re.MULTILINE | re.DOTALL,
)
NOTICE = "# hidden checks ran here\n"
BEFORE_GRADING = "Before grading"


class HideChecks(NbGraderPreprocessor):
    """Take hidden checks out of the feedback, from the cell and from its traceback."""

    def preprocess_cell(
        self, cell: NotebookNode, resources: dict, index: int
    ) -> tuple[NotebookNode, dict]:
        if cell.cell_type == "code" and grading(cell).get("grade") and HIDDEN.search(cell.source):
            hidden = hidden_lines(cell.source)
            cell.source = HIDDEN.sub(NOTICE, cell.source).rstrip("\n")
            for output in cell.outputs:
                if output.output_type == "error":
                    output.traceback = _without(output, hidden)
        return cell, resources


class TellRepairs(NbGraderPreprocessor):
    """Say first what was wrong with the notebook that came in, and what was done about it."""

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        record = nb.metadata.get("autograder")
        repairs = record.get("repairs") if isinstance(record, dict) else None
        if repairs:
            lines = "".join(f"<li>{html.escape(str(line))}</li>\n" for line in repairs)
            text = f"<p><b>{BEFORE_GRADING}</b></p>\n<ul>\n{lines}</ul>"
            nb.cells.insert(0, new_markdown_cell(text, id="repairs"))
        return nb, resources


def hidden_lines(source: str) -> set[str]:
    """Give the lines of a cell that stand in hidden regions alone."""
    hidden = {line.strip() for region in HIDDEN.findall(source) for line in region.splitlines()}
    shown = {line.strip() for line in HIDDEN.sub("", source).splitlines()}
    return {line for line in hidden - shown if len(line) > 3 and not line.startswith("###")}


def _without(output: NotebookNode, hidden: set[str]) -> list[str]:
    """Drop the frames that show a hidden line; the student's own frames stay."""
    frames = [
        frame
        for frame in output.traceback
        if not any(line in notebooks.ANSI.sub("", frame) for line in hidden)
    ]
    return frames or [f"{output.ename}: {output.evalue}"]
