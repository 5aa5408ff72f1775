"""The introduction's map: which question is practised by which problem, as a picture that links.

What it shows is read from the chapters themselves: each names its problems behind "Practise it".
"""

import html
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

from autograder import notebooks
from autograder.course import Course
from autograder.errors import NotebookError

PRACTICE = re.compile(r"\*\*Practise it:\*\*(.*)")
PROBLEM = re.compile(r"\]\(\.\./source/(p\d\d_\w+)/")
TITLE = re.compile(r"\A\s*# (?:[pq]\d+ · )?([^\n]+)")
ROW = 30  # units of the picture
LETTERS = 38  # that fit in a row
COLOURS = 6  # in course.css
SAYS = "Which question is practised by which problem"


@dataclass(frozen=True)
class Entry:
    """A page on the map."""

    stem: str
    title: str
    href: str
    practised_by: tuple[str, ...] = ()
    """Stems of problems."""

    @property
    def short(self) -> str:
        return self.stem.partition("_")[0]


def questions(course: Course) -> list[Entry]:
    """Read every chapter that asks a question.

    Raises: NotebookError where one has no title, or names a problem that is not there.
    """
    found = []
    for path in course.chapters:
        sources = [cell.source for cell in notebooks.read(path).cells]
        said = PRACTICE.findall("\n".join(sources))
        named = [stem for text in said for stem in PROBLEM.findall(text)]
        if missing := [stem for stem in named if stem not in course.stems]:
            raise NotebookError(f"{path.name}: expected problems of the course, got {missing[0]}")
        href = f"{path.stem}.html"
        found.append(Entry(path.stem, _title(path), href, tuple(dict.fromkeys(named))))
    return found


def problems(course: Course) -> list[Entry]:
    """Read every problem."""
    return [
        Entry(stem, _title(course.source(stem)), f"../source/{stem}/{stem}.html")
        for stem in course.stems
    ]


def _title(path: Path) -> str:
    found = TITLE.match(notebooks.read(path).cells[0].source)
    if not found:
        raise NotebookError(f"{path.name}: the first cell must open with the page's title, '# …'")
    return found[1].strip()


def picture(asked: list[Entry], practice: list[Entry], *, narrow: bool) -> str:
    """Draw questions on the left, problems on the right, and a line for each practice.

    The narrow one names pages by their numbers alone, so that a phone can show it.
    """
    width, column = (340, 60) if narrow else (760, 290)
    rows = max(len(asked), len(practice))
    heights = {
        entry.stem: ROW * rows * (n + 0.5) / len(entries)
        for entries in (asked, practice)
        for n, entry in enumerate(entries)
    }
    parts = [
        f'<svg class="course-map {"narrow" if narrow else "wide"}" role="group" '
        f'aria-label="{SAYS}" viewBox="0 0 {width} {ROW * rows}">'
    ]
    for number, entry in enumerate(asked):
        y = heights[entry.stem]
        parts.append(f'<g class="question colour-{number % COLOURS}">')
        for stem in entry.practised_by:
            middle, end, to = width / 2, width - column, heights[stem]
            parts.append(
                f'<path d="M{column} {y:g}C{middle:g} {y:g} {middle:g} {to:g} {end} {to:g}" />'
            )
        parts += [_link(entry, 0, y, column, narrow), "</g>"]
    parts += [_link(e, width - column, heights[e.stem], column, narrow) for e in practice]
    return "\n".join([*parts, "</svg>"])


def _link(entry: Entry, x: float, y: float, column: int, narrow: bool) -> str:
    name = f"{entry.short} · {entry.title}"
    label = entry.short if narrow else _shortened(name)
    return (
        f'<a href="{entry.href}"><title>{html.escape(name)}</title>'
        f'<rect x="{x + 1:g}" y="{y - ROW / 2 + 3:g}" width="{column - 2}" height="{ROW - 6}" '
        'rx="4" />'
        f'<text x="{x + 8:g}" y="{y + 4:g}">{html.escape(label)}</text></a>'
    )


def _shortened(text: str) -> str:
    return textwrap.shorten(text, LETTERS, placeholder=" …", break_on_hyphens=False)


class CourseMap(Directive):
    """`{course-map}` puts both pictures in; the style sheet shows the one that fits."""

    def run(self) -> list[nodes.Node]:
        env = self.state.document.settings.env
        course = Course(Path(env.srcdir))
        for path in (*course.chapters, *map(course.source, course.stems)):
            env.note_dependency(str(path))
        asked, practice = questions(course), problems(course)
        drawn = [picture(asked, practice, narrow=narrow) for narrow in (False, True)]
        return [nodes.raw("", "\n".join(drawn), format="html")]


def setup(app: Sphinx) -> dict:
    """Register the extension."""
    app.add_directive("course-map", CourseMap)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
