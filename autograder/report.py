"""Scores of a graded class, as a table for the terminal and a page for the instructor."""

import html
from dataclasses import dataclass, field

from nbgrader.api import MissingEntry

from autograder import notebooks, tampering
from autograder.pipeline import Pipeline

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem;
  padding: 0 1rem; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; }}
th, td {{ border-bottom: 1px solid #8886; padding: .4rem .8rem; text-align: left; }}
td.score {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }}
td.lost {{ font-weight: 600; }}
pre {{ margin: 0; white-space: pre-wrap; font-size: .85rem; }}
</style></head><body>
<h1>{title}</h1>
<p>{summary}</p>
<h2>Scores</h2>
<div class="scroll"><table><tr><th>student</th><th>score</th>{heads}</tr>
{scores}
</table></div>
<h2>Why points were lost</h2>
<div class="scroll"><table><tr><th>student</th><th>cell</th><th>what the check said</th></tr>
{reasons}
</table></div>
{tampering}</body></html>
"""
TAMPERING = """<h2>Tampering</h2>
<p>What submissions did to the machinery around them. It changed no score. Somebody may have had a
reason: read the notebook before you ask.</p>
<div class="scroll"><table><tr><th>student</th><th>cell</th><th>what was seen</th></tr>
{rows}
</table></div>
"""


@dataclass
class Result:
    """One graded submission: points by cell, why points were lost, and what it tampered with."""

    student: str
    scores: dict[str, tuple[float, float]] = field(default_factory=dict)  # cell: (score, of)
    reasons: dict[str, str] = field(default_factory=dict)  # cell: what the check said
    tampering: list[tuple[str, str]] = field(default_factory=list)  # (cell, what was seen)
    fault: str = ""  # why there is no score

    @property
    def score(self) -> float:
        return sum(score for score, _ in self.scores.values())

    @property
    def possible(self) -> float:
        return sum(possible for _, possible in self.scores.values())


def results(pipeline: Pipeline, assignment: str, faults: dict[str, str]) -> list[Result]:
    """Read every submission's points from the gradebook and its reasons from autograded/.

    `faults` names the students whose submission could not be graded, and why.
    """
    found = []
    submitted = sorted(
        path.parent.name for path in (pipeline.root / "submitted").glob(f"*/{assignment}")
    )
    with pipeline.gradebook() as gradebook:
        for student in submitted:
            result = Result(student, fault=faults.get(student, ""))
            found.append(result)
            if result.fault:
                continue
            try:
                submission = gradebook.find_submission(assignment, student)
            except MissingEntry:
                result.fault = "not graded"
                continue
            for notebook in submission.notebooks:
                for grade in notebook.grades:
                    result.scores[grade.name] = (grade.score, grade.max_score)
            folder = pipeline.root / "autograded" / student / assignment
            for path in sorted(folder.glob("*.ipynb")):
                notebook = notebooks.read(path)
                result.reasons.update(notebooks.reasons(notebook))
                result.tampering += tampering.of_record(notebook.metadata.get("autograder", {}))
    return found


def page(assignment: str, found: list[Result], feedback: str = "") -> str:
    """Write one page that needs no other file; `feedback` is where the students' pages stand."""
    cells = sorted({cell for result in found for cell in result.scores})
    rows, reasons = [], []
    for result in found:
        name = html.escape(result.student)
        if feedback and not result.fault:
            name = f'<a href="{feedback}/{name}/{assignment}/{assignment}.html">{name}</a>'
        points = "".join(_points(*result.scores.get(cell, (0, 0))) for cell in cells)
        rows.append(f"<tr><td>{name}</td>{_points(result.score, result.possible)}{points}</tr>")
        shown = {"": result.fault} if result.fault else result.reasons
        for cell, why in shown.items():
            text = html.escape(why)
            reasons.append(
                f"<tr><td>{html.escape(result.student)}</td><td>{cell}</td><td><pre>{text}</pre></td></tr>"
            )
    return PAGE.format(
        title=f"Scores of {html.escape(assignment)}",
        summary=summary(found),
        heads="".join(f"<th>{html.escape(cell)}</th>" for cell in cells),
        scores="\n".join(rows),
        reasons="\n".join(reasons),
        tampering=_tampering(found),
    )


def summary(found: list[Result]) -> str:
    graded = [result for result in found if not result.fault]
    full = sum(result.score == result.possible for result in graded)
    tampered = sum(bool(result.tampering) for result in found)
    return (
        f"{len(found)} submissions: {len(graded)} graded, {full} with full marks, "
        f"{len(found) - len(graded)} that could not be graded"
        + (f", {tampered} that tampered." if tampered else ".")
    )


def _tampering(found: list[Result]) -> str:
    rows = [
        f"<tr><td>{html.escape(result.student)}</td><td>{html.escape(cell)}</td>"
        f"<td>{html.escape(what)}</td></tr>"
        for result in found
        for cell, what in result.tampering
    ]
    return TAMPERING.format(rows="\n".join(rows)) if rows else ""


def _points(score: float, possible: float) -> str:
    lost = " lost" if score < possible else ""
    return f'<td class="score{lost}">{score:g} / {possible:g}</td>'
