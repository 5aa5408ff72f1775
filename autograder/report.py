"""The instructor's report on a graded class: one page that needs no other file, and its lists."""

import base64
import csv
import io
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

import autograder
from autograder import figures, items
from autograder.errors import GradingError
from autograder.pipeline import Pipeline
from autograder.results import Result, plain, skeleton
from autograder.results import read as results
from autograder.similarity import ALIKE, Comparison, Group

__all__ = ["Result", "page", "results", "summary", "write"]

TEMPLATES = Path(__file__).parent / "templates"
# What the page shows of a list; its CSV file has all of it.
MOST_SLOW, MOST_GROUPS, MOST_PAIRS = 10, 20, 8
FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass
class Listing:
    """The list behind a figure, as a CSV file."""

    name: str
    columns: list[str]
    rows: list[list[Any]] = field(default_factory=list)

    def text(self) -> str:
        """Write it out. A spreadsheet would run a text that opens like a formula."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\r\n")
        writer.writerow(self.columns)
        for row in self.rows:
            writer.writerow([_cell(value) for value in row])
        return out.getvalue()

    @property
    def link(self) -> str:
        """Give it as an address that holds it."""
        code = base64.b64encode(self.text().encode("utf-8-sig")).decode()
        return f"data:text/csv;charset=utf-8;base64,{code}"


def write(
    pipeline: Pipeline, assignment: str, folder: Path, faults: dict[str, str] | None = None
) -> list[Result]:
    """Write report.html and the lists beside it, and give what they show.

    Raises: GradingError where nobody submitted.
    """
    found = results(pipeline, assignment, faults or {})
    if not found:
        raise GradingError(f"no submission: expected submitted/<student>/{assignment}/")
    directory = pipeline.directory(assignment)
    feedback = Path(directory.format_path("feedback", ".", ".")).resolve()
    view = _view(
        assignment,
        found,
        feedback=Path(os.path.relpath(feedback, folder.resolve())).as_posix(),
        stub=skeleton(directory, assignment),
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.html").write_text(_render(view), encoding="utf-8")
    for listing in view["lists"].values():
        (folder / listing.name).write_text(listing.text(), encoding="utf-8-sig", newline="")
    return found


def page(assignment: str, found: list[Result], feedback: str = "", stub: str = "") -> str:
    """Write the page alone; `feedback` is where the students' pages stand, seen from it.

    `stub` is the code that every student started from.
    """
    return _render(_view(assignment, found, feedback=feedback, stub=stub))


def summary(found: list[Result]) -> str:
    """Count the submissions in one sentence."""
    done = [result for result in found if not result.fault]
    full = sum(result.score >= result.possible for result in done)
    tampered = sum(bool(result.tampering) for result in found)
    what = "submission" if len(found) == 1 else "submissions"
    return (
        f"{len(found)} {what}: {len(done)} graded, {full} with full marks, "
        f"{len(found) - len(done)} that could not be graded"
        + (f", {tampered} that tampered." if tampered else ".")
    )


def _render(view: dict[str, Any]) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(view)


def _view(assignment: str, found: list[Result], *, feedback: str, stub: str) -> dict[str, Any]:
    """Gather all that the page shows; the template decides nothing."""
    done = [result for result in found if not result.fault]
    problem = assignment.split("_")[0]
    cells = items.analyse(result.scores for result in done)
    comparison = Comparison({result.student: result.code for result in done}, stub)
    groups = comparison.groups()
    events = [(result.name, *event) for result in found for event in result.events]
    signs = [(result.name, *sign) for result in found for sign in result.tampering]
    repairs = [(result.name, line) for result in found for line in result.repairs]
    lists = {
        name: Listing(f"{problem}_{name}.csv", columns, rows)
        for name, columns, rows in _lists(found, cells, events, signs, repairs, groups)
    }
    return {
        "assignment": assignment,
        "summary": summary(found),
        "version": autograder.__version__,
        "lists": lists,
        "tiles": figures.tiles(found, done),
        "columns": figures.columns(done),
        "items": [figures.cell(item) for item in cells],
        "doubt": figures.chance(len(done)),
        "count": len(done),
        "messages": figures.messages(done),
        "plot": figures.plot(done),
        "slow": figures.slowest(done, MOST_SLOW),
        "unrecorded": sum(result.seconds is None for result in done),
        "exposed": sum(result.isolated is False for result in done),
        "kinds": Counter(kind for _, _, kind, _ in events).most_common(),
        "events": events[: figures.MOST_EVENTS],
        "more_events": max(0, len(events) - figures.MOST_EVENTS),
        "signs": signs[: figures.MOST_EVENTS],
        "more_signs": max(0, len(signs) - figures.MOST_EVENTS),
        "repairs": repairs[: figures.MOST_EVENTS],
        "more_repairs": max(0, len(repairs) - figures.MOST_EVENTS),
        "alike": f"{ALIKE:.0%}",
        "compared": len(comparison.prints),
        "has_stub": bool(comparison.known),
        "groups": [
            figures.group(group, comparison, place < MOST_PAIRS)
            for place, group in enumerate(groups[:MOST_GROUPS])
        ],
        "more_groups": max(0, len(groups) - MOST_GROUPS),
        "in_groups": sum(len(group.members) for group in groups),
        "people": [figures.person(result, assignment, feedback) for result in found],
        "ungraded": [result for result in found if result.fault],
    }


def _lists(
    found: list[Result],
    cells: list[items.Item],
    events: list[tuple[str, str, str, str]],
    signs: list[tuple[str, str, str]],
    repairs: list[tuple[str, str]],
    groups: list[Group],
) -> Iterable[tuple[str, list[str], list[list[Any]]]]:
    """Give the list behind each figure: its name, its columns and its rows."""
    names = [item.name for item in cells]
    yield (
        "scores",
        ["student", "score", "possible", "penalty", "fault", *names],
        [
            [
                r.student,
                r.score,
                r.possible,
                r.penalty,
                "",
                *(r.scores.get(n, ("",))[0] for n in names),
            ]
            if not r.fault
            else [r.student, "", "", "", r.fault, *[""] * len(names)]
            for r in found
        ],
    )
    yield (
        "cells",
        ["cell", "points", "graded", "passed", "pass_rate", "mean_share", "item_rest_correlation",
         "upper_27_percent", "lower_27_percent", "upper_lower_difference"],
        [
            [i.name, i.points, i.graded, i.passed, i.rate, i.share, i.rest, i.upper, i.lower,
             i.difference]
            for i in cells
        ],
    )  # fmt: skip
    yield (
        "messages",
        ["student", "cell", "message"],
        [[r.student, cell, why] for r in found if not r.fault for cell, why in r.reasons.items()],
    )
    yield (
        "resources",
        ["student", "seconds", "peak_bytes", "isolated"],
        [[r.student, r.seconds, r.peak_bytes, r.isolated] for r in found if not r.fault],
    )
    yield "limits", ["student", "cell", "kind", "message"], [list(event) for event in events]
    yield "tampering", ["student", "cell", "seen"], [list(sign) for sign in signs]
    yield "repairs", ["student", "repair"], [list(repair) for repair in repairs]
    yield (
        "alike",
        ["group", "student", "nearest", "share_of_the_shorter"],
        [
            [number, member.name, member.nearest, member.share]
            for number, group in enumerate(groups, start=1)
            for member in group.members
        ],
    )


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str):
        text = plain(value)
        return f"'{text}" if text.startswith(FORMULA) else text
    return value
