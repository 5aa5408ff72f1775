"""Item analysis: what each graded cell says about a class.

A cell discriminates where those who do well elsewhere have it and the others have not. Two common
indices say how much:
  rest         the correlation of a cell's points with the points of all other cells (Henrysson,
               Psychometrika 28, 1963: with itself left out, or it would agree with itself)
  upper-lower  the share of a cell's points in the best 27 % less that in the worst 27 % (Johnson,
               Journal of Educational Psychology 42, 1951; the 27 % are Kelley's, same journal 30,
               1939)
"""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

Scores = dict[str, tuple[float, float]]  # cell: (score, of)
GROUP = 0.27
DIGITS = 9  # of a sum of points; behind them stands how a computer rounds


@dataclass(frozen=True)
class Item:
    """What a class made of one graded cell."""

    name: str
    points: float
    graded: int
    """Submissions that have a score for it."""
    passed: int
    """Those with all of its points."""
    share: float
    """The mean share of its points."""
    rest: float | None
    """The correlation with the other cells; None where either does not vary."""
    upper: float | None
    """The mean share in the best 27 %; None where all totals are equal."""
    lower: float | None

    @property
    def rate(self) -> float:
        """The share of submissions with all of its points."""
        return self.passed / self.graded

    @property
    def difference(self) -> float | None:
        """Upper less lower."""
        return None if self.upper is None or self.lower is None else self.upper - self.lower


def analyse(scores: Iterable[Scores]) -> list[Item]:
    """Look at every cell that a class has points for, in the order of the first submission."""
    rows = [row for row in scores if row]
    cells = dict.fromkeys(cell for row in rows for cell in row)
    totals = [round(sum(score for score, _ in row.values()), DIGITS) for row in rows]
    upper, lower = group(totals), group([-total for total in totals])
    return [_item(cell, rows, totals, upper, lower) for cell in cells]


def group(totals: list[float]) -> list[float]:
    """Say how much of each submission stands in the best 27 %: 1, 0, or a part where totals tie.

    Those who tie at the edge share the places that are left, so that no name decides.
    """
    size = GROUP * len(totals)
    weights = [0.0] * len(totals)
    for total in sorted(set(totals), reverse=True):
        tied = [place for place, other in enumerate(totals) if other == total]
        part = min(1.0, size / len(tied))
        for place in tied:
            weights[place] = part
        size -= part * len(tied)
        if size < 1e-9:
            break
    return weights


def _item(
    cell: str, rows: list[Scores], totals: list[float], upper: list[float], lower: list[float]
) -> Item:
    places = [place for place, row in enumerate(rows) if cell in row]
    points = max(rows[place][cell][1] for place in places)
    own = [rows[place][cell][0] for place in places]
    shares = [score / points if points else 1.0 for score in own]
    rest = [round(totals[place] - score, DIGITS) for place, score in zip(places, own, strict=True)]
    vary = len(set(totals)) > 1
    return Item(
        name=cell,
        points=points,
        graded=len(places),
        passed=sum(score >= points for score in own),
        share=statistics.fmean(shares),
        rest=_correlation(own, rest),
        upper=_mean(shares, [upper[place] for place in places]) if vary else None,
        lower=_mean(shares, [lower[place] for place in places]) if vary else None,
    )


def _correlation(xs: list[float], ys: list[float]) -> float | None:
    if len(set(xs)) < 2 or len(set(ys)) < 2:
        return None
    return statistics.correlation(xs, ys)


def _mean(values: list[float], weights: list[float]) -> float | None:
    return statistics.fmean(values, weights) if any(weights) else None
