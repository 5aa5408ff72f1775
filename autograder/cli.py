"""The `autograder` command."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from autograder.course import Course
from autograder.errors import AutograderError, CourseError, IsolationError

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
    scripts = Path(sys.executable).absolute().parent
    os.environ["PATH"] = os.pathsep.join([str(scripts), os.environ["PATH"]])
    # jsonschema would import it to check a kind of address that no notebook has: two seconds.
    sys.modules.setdefault("rfc3987_syntax", None)
    try:
        app()
    except AutograderError as error:
        errors = Console(stderr=True)
        errors.print("[bold red]autograder:[/] ", end="")
        _say(errors, str(error))
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
    if sample_class.refusal:
        _say(console, f"  sample class: graded without isolation; {sample_class.refusal}")
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


@app.command()
def grade(
    assignment: Annotated[str, typer.Argument(help="p01, or the full name")],
    students: Annotated[
        str, typer.Option(help="names or patterns, separated by commas; all by default")
    ] = "",
    workers: Annotated[int, typer.Option(min=1, help="how many grade at once")] = os.cpu_count()
    or 1,
    scheduler: Annotated[
        str,
        typer.Option(help="address of a Dask scheduler, tcp://host:port, to grade on its workers"),
    ] = "",
    isolation: Annotated[
        bool, typer.Option(help="keep student code away from this machine")
    ] = True,
    force: Annotated[bool, typer.Option(help="grade unchanged submissions again")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the outcome as JSON")] = False,
) -> None:
    """Grade what stands in submitted/, many at once; a run that was stopped goes on where it was.

    Exit status: 0 where every submission has a score, 1 where one could not be graded, 130 where
    the run was stopped.
    """
    from autograder import workers as work
    from autograder.grading import Grading
    from autograder.pipeline import Pipeline
    from autograder.sandbox import can_isolate

    course = Course.find()
    (stem,) = course.select([assignment])
    if isolation and not scheduler:
        refuse = can_isolate()
        if refuse:
            raise IsolationError(f"{refuse}\nOr grade without isolation: --no-isolation")
    pipeline = Pipeline(course, root=course.root, log=course.build / "log" / "grade.log")
    patterns = [pattern.strip() for pattern in students.split(",") if pattern.strip()]
    outcomes = []
    grading = Grading(pipeline, stem, isolate=isolation, force=force)
    with (
        _on_interrupt(grading.stop),
        grading,
        work.cluster(scheduler) if scheduler else work.local(workers) as executor,
        _progress(quiet=as_json) as progress,
    ):
        chosen = grading.students(patterns)
        ahead = 2 * (len(executor._client.nthreads()) if scheduler else workers)
        ended = grading.run(chosen, executor, ahead)
        for outcome in progress.track(ended, len(chosen), description="grading"):
            outcomes.append(outcome)
            if outcome.fault:
                progress.console.print(f"  {outcome.student}: {outcome.fault}", markup=False)
    if len(outcomes) < len(chosen):
        rest = "starts over" if force else "does the rest"
        out = Console(stderr=True) if as_json else console
        _say(out, f"stopped: {len(outcomes)} of {len(chosen)} done; the same command {rest}")
        raise typer.Exit(130)
    if as_json:
        print(json.dumps({"assignment": stem, "submissions": [asdict(o) for o in outcomes]}))
    else:
        console.print(_scores(stem, outcomes), highlight=False)
        for outcome in outcomes:
            for repair in outcome.repairs:
                _say(console, f"  {outcome.student}: {repair}")
    if any(outcome.status == "failed" for outcome in outcomes):
        raise typer.Exit(1)


@contextmanager
def _on_interrupt(stop: Callable) -> Iterator[None]:
    """Let Ctrl-C ask for an orderly end, however often it is pressed."""
    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _scores(stem: str, outcomes: list) -> Table:
    table = Table("student", "score", "", "why points were lost", title=f"Scores of {stem}")
    for outcome in sorted(outcomes, key=lambda outcome: outcome.student):
        score = f"{outcome.score:g} of {outcome.possible:g}" if not outcome.fault else "none"
        signs = [f"tampering: {what}" for _, what in outcome.tampering]
        events = [e["message"] for r in outcome.record.values() for e in r.get("events", [])]
        why = [outcome.fault] if outcome.fault else [*signs, *events, *outcome.reasons.values()]
        first = escape(why[0].splitlines()[0]) if why else ""
        table.add_row(escape(outcome.student), score, outcome.status, first)
    return table


@app.command()
def report(
    assignment: Annotated[str, typer.Argument(help="p01, or the full name")],
    output: Annotated[
        Path | None, typer.Option(help="folder of the page; _build/report/<assignment> by default")
    ] = None,
) -> None:
    """Write the report on a graded class: one page, and its lists as CSV beside it."""
    from autograder import report as reports
    from autograder.pipeline import Pipeline

    course = Course.find()
    (stem,) = course.select([assignment])
    pipeline = Pipeline(course, root=course.root, log=course.build / "log" / "report.log")
    folder = output or course.build / "report" / stem
    found = reports.write(pipeline, stem, folder)
    _say(console, f"  {reports.summary(found)}")
    page = (folder / "report.html").resolve()
    inside = page.is_relative_to(course.root)
    _say(console, f"  report: {page.relative_to(course.root) if inside else page}")


@app.command()
def doctor() -> None:
    """Say what this host has, whether it can isolate, and what to do about what is missing."""
    from autograder.doctor import findings

    table = Table("what", "found")
    rows = list(findings())
    for row in rows:
        table.add_row(row.what, row.found, style="yellow" if row.remedy else "")
    console.print(table, highlight=False)
    for row in rows:
        if row.remedy:
            _say(console, f"{row.what}: {row.remedy}")
    if any(row.remedy and row.needed for row in rows):
        raise typer.Exit(1)


@app.command()
def new(
    stem: Annotated[str, typer.Argument(help="pNN_subject, for example p05_sagan_generator")],
) -> None:
    """Lay down a problem: notebook, answers and page; the tests fail until it is written."""
    from autograder import scaffold

    course = Course.find()
    for path in scaffold.new(course, stem):
        console.print(f"  {path.relative_to(course.root)}", highlight=False)
    console.print("CONTRIBUTING.md says what comes next", highlight=False)


@app.command()
def weights(problems: Annotated[list[str], typer.Argument(help="p03, for example")]) -> None:
    """Run a problem's own recipe, which writes the files that it ships; this takes minutes."""
    from autograder.weights import Recipe

    course = Course.find()
    for stem in course.select(problems):
        recipe = Recipe(course, stem)
        with console.status(f"{stem}: the recipe runs, for minutes"):
            written = list(recipe.run())
        for line in written:
            console.print(f"  {line}", highlight=False)


@app.command()
def mutants(problems: Problems = None) -> None:
    """Change the reference solution in many ways and list the changes that no check notices.

    Exit status: 1 where more than one in twenty of those that can be noticed is not.
    """
    from autograder import mutants as mutation

    course = Course.find()
    failed = False
    for stem in course.select(problems or []):
        chosen = mutation.sample(mutation.make(course, stem))
        with _progress() as progress:
            graded = mutation.grade(course, stem, chosen)
            verdicts = list(progress.track(graded, len(chosen), description=stem.split("_")[0]))
        result = mutation.weigh(course, stem, verdicts)
        failed |= result.share < mutation.GOAL
        console.print(
            f"{stem}: {result.killed} of {result.total} mutants lose points, "
            f"{len(result.equivalent)} are equivalent: {result.share:.1%} of those that matter",
            highlight=False,
        )
        for answer in result.survivors:
            console.print(f"  survives: {answer.name}: {answer.why}", markup=False, highlight=False)
        for line in result.stale:
            console.print(f"  mutants.toml: {line}", markup=False, highlight=False)
    if failed:
        raise typer.Exit(1)


@app.command()
def bench(
    size: Annotated[int, typer.Option(help="submissions that both engines grade")] = 40,
    many: Annotated[int, typer.Option(help="submissions that show whether the cost grows")] = 1000,
    workers: Annotated[int, typer.Option(min=1)] = 2,
) -> None:
    """Measure speed, memory and cheats, beside stock nbgrader, then each notebook's own time."""
    from autograder import bench

    course = Course.find()
    for part in (
        bench.speed(course, size=size, many=many, count=workers),
        bench.judge_cost(course),
        bench.memory(),
        bench.cheats(course, count=workers),
        bench.own_time(course),
    ):
        for found in part:
            console.print(found, highlight=False)


def _say(to: Console, text: str) -> None:
    """Print a message in one piece: what to type may stand in it."""
    to.print(text, markup=False, highlight=False, soft_wrap=True)


class Rate(ProgressColumn):
    """How many a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


def _progress(quiet: bool = False) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True) if quiet else console,
        transient=True,
    )


if __name__ == "__main__":
    main()
