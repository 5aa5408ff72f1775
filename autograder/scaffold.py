"""A new problem, laid down in the agreed form: what is to be written stands where it is to stand.

Until it is written, the notebook's cells raise and the tests of the problem fail.
"""

import keyword
import re
from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from autograder import notebooks
from autograder.course import STEM, Course
from autograder.errors import CourseError

PAGE = re.compile(r"(\s*- file: )source/(p\d\d_[a-z0-9_]+)/\2(?:\.ipynb)?\s*")
UNWRITTEN = 'raise NotImplementedError("write the reference solution between the markers")'

# A name of the cell that checks it, and what to check there: three that students see.
VISIBLE = {
    "interface_shapes": ("Shapes: say which sizes go in and come out.", "checks.shape, all sizes"),
    "parity_values": ("Values: name the independent oracle.", "checks.close and the oracle"),
    "gradients_gradcheck": ("Gradients: say of what.", "torch.autograd.gradcheck in float64"),
}
HIDDEN = "fresh_sizes"

WRONG = """\
# Edits of the reference; each says what is wrong with it and which cell it must lose.
# Write at least eight, and let each graded cell be lost by one.

[returns_nothing]
why = "Say in one sentence what the mistake is; name the table after it."
fails = "{number}_interface_shapes"
old = '{unwritten}'
new = "return None"
"""
RIGHT = '''\
"""{how}"""


def {function}(x):
    raise NotImplementedError("write a right answer that looks unlike the reference")
'''
STYLES = {
    "right_loops.py": "Say which slow loops follow the formula term by term.",
    "right_style.py": "Say in which other style this is written: einsum, one big product.",
}


def new(course: Course, stem: str) -> list[Path]:
    """Lay down a problem's notebook and answers, give it a page, and return what was written.

    Raises: CourseError where the name does not fit or is taken; nothing is changed then.
    """
    if not STEM.fullmatch(stem):
        raise CourseError(
            f"{stem!r} is no name of a problem: expected pNN_subject in lower case, "
            "for example p05_sagan_generator"
        )
    number = stem[:3]
    for other in course.stems:
        if other.split("_")[0] == number:
            raise CourseError(f"{number} is taken by {other}; choose another number")
    for path in (course.source(stem).parent, course.answers(stem), course.release(stem).parent):
        if path.exists():
            raise CourseError(f"{path.relative_to(course.root)} is there already; move it away")
    toc = course.root / "_toc.yml"
    pages = with_page(toc.read_bytes().decode(), stem)

    function = function_name(stem)
    texts = {
        course.source(stem): notebooks.dumps(problem(stem)),
        course.answers(stem) / "wrong.toml": WRONG.format(number=number, unwritten=UNWRITTEN),
    }
    for name, how in STYLES.items():
        texts[course.answers(stem) / name] = RIGHT.format(how=how, function=function)
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    toc.write_bytes(pages.encode())
    return [*texts, toc]


def function_name(stem: str) -> str:
    """Name what the student writes after the problem's subject."""
    subject = stem.split("_", 1)[1]
    fits = subject.isidentifier() and not keyword.iskeyword(subject)
    return subject if fits else f"answer_{subject}"


def with_page(toc: str, stem: str) -> str:
    """Return the text of _toc.yml with the problem's page among the others, in order.

    Raises: CourseError where it lists no problem, or this one already.
    """
    lines = toc.splitlines(keepends=True)
    found = {}  # place: (what stands before the page, problem)
    for place, line in enumerate(lines):
        match = PAGE.fullmatch(line)
        if match:
            found[place] = (match[1], match[2])
    if not found:
        raise CourseError(
            "_toc.yml: expected a line '- file: source/pNN_subject/pNN_subject' to put the new "
            "page beside; write the first one by hand"
        )
    if stem in {problem for _, problem in found.values()}:
        raise CourseError(f"_toc.yml: source/{stem}/{stem} is listed already; remove that line")
    after = [place for place, (_, problem) in found.items() if problem < stem]
    beside = max(after) if after else min(found)
    end = "\r\n" if lines[beside].endswith("\r\n") else "\n"
    lines[beside] = lines[beside].rstrip("\r\n") + end
    page = f"{found[beside][0]}source/{stem}/{stem}{end}"
    lines.insert(beside + 1 if after else beside, page)
    return "".join(lines)


def problem(stem: str) -> NotebookNode:
    """Make the notebook in canonical form, its cells in the agreed order."""
    number, function = stem[:3], function_name(stem)
    subject = stem.split("_", 1)[1].replace("_", " ").strip() or stem
    rows = [
        f"| `{number}_{name}` | {text.split(':')[0].lower()} | 0 |"
        for name, (text, _) in VISIBLE.items()
    ]
    rows.append(f"| `{number}_{HIDDEN}` | hidden: odd sizes | 0 |")
    cells = [
        _text(
            "title",
            f"# {number} · {subject.capitalize()}",
            "Say in two or three sentences what this is and where it is used.",
            "When you are done, you can\n\n- (list three or four things, each with a verb).",
        ),
        _text(
            "points",
            "## Points",
            "\n".join(["| cell | checks | points |", "| --- | --- | --- |", *rows]),
            "Name the cells and give ten points in all; each cell's metadata says the same.",
        ),
        code_cell(
            "setup",
            "import matplotlib.pyplot as plt\nimport torch\n\nfrom autograder.lab import checks",
            f"{number}_setup",
        ),
        _text(
            "specification",
            "## Specification",
            f"Write `{function}(x)`. Give the formula and cite its paper, then a table of shapes.",
        ),
        _text(
            "specification-rules",
            "Say which dtypes are allowed, what the tolerance is, what raises an error, and which "
            "functions are the answer itself and so may not be called.",
        ),
        _text(
            "picture",
            "## The data flow",
            "Draw how shapes change on the way, in plain text.",
        ),
        _text(
            "hint-1",
            "## Hints",
            "Open them one at a time, and try in between.",
            "<details>\n<summary>Hint 1: name what it is about</summary>\n\n"
            "Say what to look at, not what to write.\n\n</details>",
        ),
        code_cell(
            "solution",
            f"def {function}(x: torch.Tensor) -> torch.Tensor:\n"
            '    """Say in one imperative line what it returns.\n\n'
            "    Shapes: give those of the arguments and of the result.\n"
            "    Source: name the paper and the equation.\n"
            '    """\n'
            "    ### BEGIN SOLUTION\n"
            f"    {UNWRITTEN}\n"
            "    ### END SOLUTION",
            f"{number}_solution",
            solution=True,
        ),
        _text(
            "try-it",
            "## Try it",
            "Give an example small enough for pen and paper, and the value that comes out.",
        ),
        code_cell("try-it-code", f"print({function}(torch.ones(2, 3)))"),
        _text(
            "checks",
            "## Checks",
            "Each cell below is worth the points in the table. A cell that runs without an error "
            "is passed; an error says what to look at.",
        ),
    ]
    for seed, (name, (text, look_at)) in enumerate(VISIBLE.items(), start=1):
        check = f'checks.that(False, "this check is written", "{look_at}")'
        source = f"# {text}\ntorch.manual_seed({seed})\n{check}"
        cells.append(code_cell(f"check-{name.split('_')[0]}", source, f"{number}_{name}", points=0))
    cells += [
        code_cell(
            "check-fresh",
            "# Fresh sizes: say which, without giving the hidden ones away.\n"
            'checks.that(False, "the visible part is written", "a case that students may see")\n'
            "### BEGIN HIDDEN TESTS\n"
            "torch.manual_seed(101)\n"
            'checks.that(False, "the hidden part is written", "sizes that no visible cell has")\n'
            "### END HIDDEN TESTS",
            f"{number}_{HIDDEN}",
            points=0,
        ),
        _text(
            "seen",
            "## What it does",
            "Say what the figure shows. Draw it with the student's own function.",
        ),
        code_cell(
            "seen-figure",
            "figure, ax = plt.subplots()\n"
            'raise NotImplementedError("draw; give caption, name and alternative text in mystnb")',
            tags=["hide-input"],
        ),
        _text(
            "usual",
            "## What the usual answer gets wrong",
            "Say what the popular answer leaves out, and show it in a cell that runs.",
            tags=["book-only"],
        ),
        _text(
            "follow-up-1",
            "## Interview follow-ups",
            "<details>\n<summary>Ask what an interviewer asks next</summary>\n\n"
            "Answer in a few sentences.\n\n</details>",
            tags=["book-only"],
        ),
    ]
    return notebooks.canonical(new_notebook(cells=cells))


def _text(name: str, *paragraphs: str, tags: list[str] | None = None) -> NotebookNode:
    return new_markdown_cell("\n\n".join(paragraphs), id=name, metadata={"tags": tags or []})


def code_cell(
    name: str,
    source: str,
    grade_id: str | None = None,
    *,
    solution: bool = False,
    points: int | None = None,
    tags: list[str] | None = None,
) -> NotebookNode:
    """Make a code cell; nbgrader is told of one with a `grade_id`, and grades one with points."""
    metadata: dict = {"tags": tags or []}
    if grade_id:
        metadata["nbgrader"] = {
            "cell_type": "code",
            "grade": points is not None,
            "grade_id": grade_id,
            "locked": not solution,
            "schema_version": 3,
            "solution": solution,
            "task": False,
        }
        if points is not None:
            metadata["nbgrader"]["points"] = points
    return new_code_cell(source, id=name, metadata=metadata)
