"""The figures of the report: what the template draws, as plain numbers and texts."""

import math
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from autograder import items
from autograder.limits import MB
from autograder.results import MOST_NAME, Result, plain
from autograder.similarity import Comparison, Group

NUMBER = re.compile(r"0x[0-9a-fA-F]+|\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
INDENT = re.compile(r"(\n[ \t]*)")
# What the page shows of a list; its CSV file has all of it.
MOST_MESSAGES, MOST_EVENTS = 20, 40
MOST_TEXT, MOST_LINES = 400, 8  # of a message
MOST_PROGRAM = 8000  # characters of a solution that stands beside another one


def tiles(found: list[Result], done: list[Result]) -> list[tuple[str, str]]:
    scores = [result.score for result in done]
    possible = max((result.possible for result in done), default=0)
    tiles = [(str(len(found)), "submissions"), (str(len(done)), "graded")]
    if scores:
        full = sum(result.score >= result.possible for result in done)
        tiles += [
            (f"{statistics.fmean(scores):.3g}", f"mean of {possible:g}"),
            (f"{statistics.median(scores):g}", "median"),
            (str(full), "with full marks"),
            (str(sum(score == 0 for score in scores)), "with none"),
        ]
    return tiles


def columns(done: list[Result]) -> list[dict[str, Any]]:
    """Count the scores: whole points up to twenty, ten equal steps beyond."""
    possible = max((result.possible for result in done), default=0)
    if not possible:
        return []
    steps = math.ceil(possible) if possible <= 20 else 10
    width = 1 if possible <= 20 else possible / 10
    counts = Counter(min(steps, int(result.score / width + 1e-9)) for result in done)
    top = max(counts.values())
    return [
        {"label": f"{step * width:g}", "count": counts[step], "high": f"{counts[step] / top:.1%}"}
        for step in range(steps + 1)
    ]


def chance(count: int) -> float | None:
    """Give the correlation that chance alone seldom exceeds, one time in twenty."""
    return min(1.0, 1.96 / math.sqrt(count - 3)) if count > 3 else None


def cell(item: items.Item) -> dict[str, Any]:
    """Put a cell into words: what its numbers ask you to look at."""
    doubt = chance(item.graded) or 1.0
    note, warn = "", False
    if item.passed == 0:
        note, warn = "nobody has it: is the check right, is the text?", True
    elif item.rest is not None and item.rest < -doubt:
        note, warn = "those who lose it do better elsewhere: read it again", True
    elif item.rest is not None and item.rest < 0:
        note = "below 0, but no more than chance gives"
    elif item.passed == item.graded:
        note = "everybody has it"
    return {
        "item": item,
        "note": note,
        "warn": warn,
        "rate": f"{item.rate:.0%}",
        "rest": _signed(item.rest),
        "difference": _signed(item.difference),
    }


def messages(done: list[Result]) -> dict[str, Any]:
    """Group what the checks said; texts that differ in their numbers alone are one."""
    students: dict[str, set[str]] = defaultdict(set)
    shown: dict[str, Counter] = defaultdict(Counter)
    cells: dict[str, Counter] = defaultdict(Counter)
    for result in done:
        for cell, why in result.reasons.items():
            text = _short(why)
            key = NUMBER.sub("#", text)
            students[key].add(result.student)
            shown[key][text] += 1
            cells[key][cell] += 1
    order = sorted(students, key=lambda key: (-len(students[key]), key))
    rows = [
        {
            "count": len(students[key]),
            "wide": f"{len(students[key]) / len(students[order[0]]):.1%}",
            "text": max(shown[key], key=lambda text: (shown[key][text], text)),
            "variants": len(shown[key]),
            "cells": [cell for cell, _ in cells[key].most_common(4)],
            "more_cells": max(0, len(cells[key]) - 4),
        }
        for key in order[:MOST_MESSAGES]
    ]
    return {"rows": rows, "more": max(0, len(order) - MOST_MESSAGES)}


def plot(done: list[Result]) -> dict[str, Any] | None:
    """Place a dot for each submission, on axes on which each step is a factor."""
    known = [r for r in done if r.seconds is not None and r.peak_bytes is not None]
    if not known:
        return None
    xs = [max(0.01, result.seconds) for result in known]
    ys = [max(1.0, result.peak_bytes / MB) for result in known]
    across, up = axis(xs), axis(ys)
    return {
        "dots": [
            {
                "x": f"{_place(x, across):.2%}",
                "y": f"{_place(y, up):.2%}",
                "hit": bool(result.events),
                "text": f"{result.name}: {_seconds(result.seconds)}, {_megabytes(result)}",
            }
            for result, x, y in zip(known, xs, ys, strict=True)
        ],
        # The last but one is left out where a phone has no room for both.
        "across": [
            (f"{_place(tick, across):.2%}", f"{tick:g}")
            for tick in across
            if tick == across[-1] or _place(tick, across) < 0.85
        ],
        "up": [(f"{_place(tick, up):.2%}", f"{tick:g}") for tick in up],
        "seconds": [_seconds(number) for number in _quantiles(xs)],
        "memory": [_size(number) for number in _quantiles([r.peak_bytes / MB for r in known])],
        "hit": any(result.events for result in known),
    }


def _quantiles(values: list[float]) -> tuple[float, float, float]:
    """Give what half, 19 in 20 and all of the values do not exceed."""
    ordered = sorted(values)
    return tuple(ordered[math.ceil(part * len(ordered)) - 1] for part in (0.5, 0.95, 1))


def axis(values: list[float]) -> list[float]:
    """Choose ticks that enclose the values: 1, 2, 5, 10, … or, where these are many, powers of ten.

    They span a factor of ten at least.
    """
    steps = [10.0**power * digit for power in range(-3, 18) for digit in (1, 2, 5)]
    low = max(step for step in steps if step <= min(values))
    high = max(min(step for step in steps if step >= max(values)), 9 * low)
    ticks = [step for step in steps if low <= step < 1.2 * high]
    if len(ticks) <= 7:
        return ticks
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = math.ceil((last - first) / 6)
    return [10.0**power for power in range(first, last + every, every)]


def _place(value: float, ticks: list[float]) -> float:
    return math.log(value / ticks[0]) / math.log(ticks[-1] / ticks[0])


def group(group: Group, comparison: Comparison, whole: bool) -> dict[str, Any]:
    """Describe a group of solutions that are alike; `whole` brings two of them to compare."""
    shares = [member.share for member in group.members]
    same = len({comparison.solutions[member.name].strip() for member in group.members}) == 1
    pair = []
    if whole:
        one, other = group.pair
        names = [plain(name, MOST_NAME) for name in group.pair]
        if comparison.solutions[one].strip() == comparison.solutions[other].strip():
            text = plain(comparison.solutions[one].strip(), MOST_PROGRAM)
            pair = [{"name": " and ".join(names), "pieces": [(False, text)]}]
        else:
            for name, pieces in zip(names, comparison.marked(one, other), strict=True):
                pair.append({"name": name, "pieces": _cut(pieces, MOST_PROGRAM)})
    return {
        "names": [plain(member.name, MOST_NAME) for member in group.members[:12]],
        "more": max(0, len(group.members) - 12),
        "size": len(group.members),
        "how": _how(shares, same),
        "shared": group.shared,
        "rare": group.rare,
        "pair": pair,
    }


def _how(shares: list[float], same: bool) -> str:
    if same:
        return "letter for letter"
    if min(shares) == 1:
        return "but for names and layout"
    low, high = f"{min(shares):.0%}", f"{max(shares):.0%}"
    return low if low == high else f"{low} to {high}"


def _cut(pieces: Iterable[tuple[bool, str]], most: int) -> list[tuple[bool, str]]:
    """Take no more than `most` characters of a text in pieces."""
    kept = []
    for marked, text in pieces:
        for part in INDENT.split(plain(text, most)):  # no mark where a line is empty
            kept.append((marked and not part.isspace(), part))
        most -= len(text)
        if most <= 0:
            break
    return kept


def slowest(done: list[Result], most: int) -> list[dict[str, str]]:
    """Give those that ran longest."""
    known = sorted(
        (result for result in done if result.seconds is not None),
        key=lambda result: (-result.seconds, result.student),
    )
    return [
        {"name": r.name, "seconds": f"{r.seconds:.2f} s", "memory": _megabytes(r) or "–"}
        for r in known[:most]
    ]


def person(result: Result, assignment: str, feedback: str) -> dict[str, Any]:
    """Give a submission's row: points, cells as squares, and why points were lost."""
    grouped: dict[str, list[str]] = defaultdict(list)
    for cell, why in result.reasons.items():
        grouped[_short(why)].append(cell)
    lost = [cell for cell, (score, possible) in result.scores.items() if score < possible]
    href = ""
    if feedback and result.feedback:
        href = f"{quote(feedback)}/{quote(result.student, errors='replace')}/"
        href += f"{quote(assignment)}/{quote(assignment)}.html"
    return {
        "name": result.name,
        "href": href,
        "fault": _short(result.fault),
        "score": f"{result.score:g} / {result.possible:g}",
        "late": f"{result.penalty:g}" if result.penalty else "",
        "strip": [
            (cell, "full" if score >= possible else "part" if score else "none")
            for cell, (score, possible) in result.scores.items()
        ],
        "lost": "no point lost" if not lost else "lost points in " + ", ".join(lost),
        "seconds": "" if result.seconds is None else _seconds(result.seconds),
        "memory": _megabytes(result),
        "reasons": [(", ".join(cells), why) for why, cells in grouped.items()],
        "events": [(cell, message) for cell, _, message in result.events[:MOST_EVENTS]],
        "signs": result.tampering[:MOST_EVENTS],
        "repairs": result.repairs[:MOST_EVENTS],
    }


def _short(text: str) -> str:
    """Take a message's beginning; an error without a text is its name alone."""
    lines = plain(text, MOST_TEXT).strip().removesuffix(":").splitlines()
    return "\n".join(lines[:MOST_LINES]) + ("\n…" if len(lines) > MOST_LINES else "")


def _seconds(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def _megabytes(result: Result) -> str:
    return "" if result.peak_bytes is None else _size(result.peak_bytes / MB)


def _size(megabytes: float) -> str:
    return "under 1 MB" if megabytes < 1 else f"{megabytes:.0f} MB"


def _signed(number: float | None) -> str:
    return "–" if number is None else f"{number:.2f}".replace("-", "−")
