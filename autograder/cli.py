"""The `autograder` command."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from autograder.course import Course
from autograder.errors import AutograderError, CourseError

app = typer.Typer(
    help="Build, release and grade the course on attention.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
console = Console()
Problems = Annotated[list[str] | None, typer.Argument(help="p01, a full name, or nothing for all")]


def main() -> None:
    """Run the command; an expected error is one message and exit status 1."""
    # nbgrader starts `alembic` and `jupyter` by name.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    try:
        app()
    except AutograderError as error:
        Console(stderr=True).print(f"[bold red]autograder:[/] {error}", highlight=False)
        raise SystemExit(1) from None


@app.command("all")
def everything() -> None:
    """Check the folders, then build the releases, the book and the sample class."""
    course = Course.find()
    check()
    release()
    book()
    sample()
    console.print("\n[bold]Done.[/] Open next:", highlight=False)
    for what, path in (
        ("the book", course.build / "html" / "index.html"),
        ("the sample class's report", course.build / "sample_class" / "report.html"),
        ("the students' notebooks", course.root / "release"),
    ):
        console.print(f"  {what:<26} {path.relative_to(course.root)}", highlight=False)
    console.print("  [bold]make lab[/] opens JupyterLab, [bold]make test[/] checks everything.")


@app.command()
def check() -> None:
    """Check that sources, releases, answers and pages belong together."""
    found = list(Course.find().faults())
    missing_release = [line for line in found if line.startswith("release/")]
    serious = [line for line in found if line not in missing_release]
    if serious:
        raise CourseError("\n  ".join(["the course does not fit together:", *serious]))


@app.command()
def release(problems: Problems = None) -> None:
    """Generate release/ from source/ by nbgrader, and record it in gradebook.db."""
    from autograder.release import generate_all

    course = Course.find()
    stems = course.select(problems or [])
    with _progress() as progress:
        task = progress.add_task("releases", total=len(stems))
        for stem, done in generate_all(course, stems):
            progress.console.print(f"  release/{stem}: {done}", highlight=False)
            progress.advance(task)


@app.command()
def book(
    solutions: Annotated[
        bool, typer.Option(help="show the folded solutions; leave them out for a graded class")
    ] = True,
) -> None:
    """Build the HTML book: _build/html, or _build/class/html without solutions."""
    from autograder.book import build

    course = Course.find()
    index = build(course, solutions=solutions)
    console.print(f"  book: {index.relative_to(course.root)}", highlight=False)


@app.command()
def sample() -> None:
    """Grade a small class with known scores through nbgrader, into _build/sample_class."""
    from autograder.sample import SampleClass

    sample_class = SampleClass(Course.find())
    if sample_class.fresh:
        console.print("  sample class: up to date", highlight=False)
        return
    with _progress() as progress:
        students = sample_class.prepare()
        for _ in progress.track(sample_class.grade(students), len(students), description="grading"):
            pass
    table = Table("student", "score", "why points were lost", title="Sample class")
    for result in sample_class.finish():
        score = "none" if result.fault else f"{result.score:g} of {result.possible:g}"
        reasons = [result.fault] if result.fault else list(result.reasons.values())
        first = reasons[0].splitlines()[0] if reasons else ""
        table.add_row(result.student, score, first)
    console.print(table, highlight=False)


@app.command()
def notebooks(
    names: Annotated[
        list[str] | None, typer.Argument(help="p01, q1, a full name, or nothing for all")
    ] = None,
) -> None:
    """Run chapters and sources and rewrite them in canonical form, with their outputs."""
    from autograder.notebooks import refresh

    course = Course.find()
    every = [*course.chapters, *(course.source(stem) for stem in course.stems)]
    paths = [
        path for path in every if not names or {path.stem, path.stem.split("_")[0]} & set(names)
    ]
    if not paths:
        raise CourseError(f"no notebook is called {' or '.join(names or [])}")
    with _progress() as progress:
        for path in progress.track(paths, description="notebooks"):
            changed = refresh(path, course.root)
            what = "written" if changed else "unchanged"
            progress.console.print(f"  {path.relative_to(course.root)}: {what}", highlight=False)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
