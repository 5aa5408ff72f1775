"""How fast the engine is, beside stock nbgrader: ratios measured in one run on one machine."""

import json
import shutil
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import wraps
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook
from nbgrader.converters import Autograde
from nbgrader.preprocessors import Execute
from rich.table import Table
from traitlets.config import Config

from autograder import answers, notebooks, release, sample, scaffold, workers
from autograder import stock as stock_nbgrader
from autograder.cheats import CheatClass, load
from autograder.course import Course
from autograder.errors import GradingError
from autograder.grading import Grading
from autograder.judge.interface import Interface
from autograder.pipeline import CONFIG, Pipeline
from autograder.sandbox import Limits, Sandbox

# nbgrader's own list: an executor, and what this course runs after its own.
STOCK = Autograde.autograde_preprocessors.default()
# And how it reads and mends what came in.
UNMENDED = {
    "exporter_class": "nbconvert.exporters.NotebookExporter",
    "sanitize_preprocessors": Autograde.sanitize_preprocessors.default(),
}
MEMORY = "print(next(x for x in open('/proc/self/smaps_rollup') if x.startswith('Private_Dirty')))"
# What a notebook may take: seconds of its own, and of one graded cell.
NOTEBOOK_SECONDS, CELL_SECONDS = 30, 10
CHEATS = "tests/cheats"

# What calls are timed on, and the check that times them: the quickest of some rounds.
SOLUTION = """
def double(x):
    return 2 * x


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.LayerNorm(8))

    def forward(self, x):
        return self.layers(x)
"""
CALLS = """
import json, time

def each(call, times=100, rounds=7):
    found = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        for _ in range(times):
            call()
        found.append((time.perf_counter() - start) / times)
    return min(found[1:])

x, model = torch.ones(4, 8, requires_grad=True), Net()
megabyte = torch.ones(1 << 18)
print(json.dumps({
    "a call with a number": each(lambda: double(2)),
    "a call with a small tensor": each(lambda: double(x.detach())),
    "forward and backward": each(lambda: double(x).sum().backward()),
    "forward and backward of a module": each(lambda: model(x).sum().backward()),
    "a call with a megabyte, which comes back": each(lambda: double(megabyte), times=20),
}))
"""


class TimedExecute(Execute):
    """nbgrader's own executor, and how long it took in all."""

    seconds = 0.0

    def preprocess(self, *arguments: object, **keywords: object):
        start = time.perf_counter()
        try:
            return super().preprocess(*arguments, **keywords)
        finally:
            TimedExecute.seconds += time.perf_counter() - start


class TimedGrading(Grading):
    """Grading that counts what the coordinator's steps take."""

    def __init__(self, *arguments: object, **keywords: object):
        super().__init__(*arguments, **keywords)
        self.seconds = Counter()
        for part, step in (("sanitising", "_prepare"), ("recording", "_finish")):
            setattr(self, step, self._timed(part, getattr(self, step)))

    def _timed(self, part: str, step):
        @wraps(step)
        def timed(*arguments: object):
            start = time.perf_counter()
            try:
                return step(*arguments)
            finally:
                self.seconds[part] += time.perf_counter() - start

        return timed


@dataclass
class Run:
    """What one submission of a class took, in seconds, and when each of them was done."""

    start: float
    ended: list[float]
    parts: dict[str, float]

    @property
    def each(self) -> float:
        return self.ended[-1] / len(self.ended)

    def slope(self, size: int) -> float:
        """Compare the cost of the last `size` submissions with that of the first."""
        return (self.ended[-1] - self.ended[-size - 1]) / self.ended[size - 1]


class Classroom:
    """A class of copies of the sample class's first submissions, graded in more than one way.

    A short one has the set-up, the solution and the first two checks of the problem alone.
    """

    def __init__(self, course: Course, folder: Path, *, short: bool):
        self.course, self.folder = course, folder
        self.name = "two checks" if short else "all of p01, two figures among it"
        self.source = notebooks.read(course.source(sample.STEM))
        found = list(sample.submissions(course).values())[:-1]  # all but the one that crashes
        self.submissions = [_cut(nb) for nb in found] if short else found
        if short:
            self.source = _cut(self.source)

    def lay_out(self, name: str, size: int) -> Pipeline:
        """Write a course folder with `size` submissions."""
        root = self.folder / name
        shutil.rmtree(root, ignore_errors=True)
        copy = Course(root)
        copy.source(sample.STEM).parent.mkdir(parents=True)
        copy.source(sample.STEM).write_text(notebooks.dumps(self.source), encoding="utf-8")
        shutil.copy(self.course.root / CONFIG, root)
        release.generate(copy, sample.STEM)
        texts = [notebooks.dumps(notebook) for notebook in self.submissions]
        for number in range(size):
            folder = root / "submitted" / f"student{number:04d}" / sample.STEM
            folder.mkdir(parents=True)
            text = texts[number % len(texts)]
            (folder / f"{sample.STEM}.ipynb").write_text(text, encoding="utf-8")
        return Pipeline(copy, root=root, log=root / "nbgrader.log")

    def stock(self, size: int) -> tuple[float, float]:
        """Give the seconds a submission that stock nbgrader takes, and those in its executor."""
        pipeline = self.lay_out("stock", size + 1)
        steps = [TimedExecute, *STOCK[1:]]
        pipeline.config.merge(Config(Autograde={**UNMENDED, "autograde_preprocessors": steps}))
        pipeline.autograde(sample.STEM, "student0000")
        start, TimedExecute.seconds = time.perf_counter(), 0.0
        pipeline.autograde(sample.STEM, "student*", force=False)
        return (time.perf_counter() - start) / size, TimedExecute.seconds / size

    def engine(self, size: int, count: int) -> Run:
        """Grade with `count` workers, the start of their templates left out and told."""
        warm = 2 * count
        pipeline = self.lay_out("engine", size + warm)
        start = time.perf_counter()
        with (
            TimedGrading(pipeline, sample.STEM, limits=Limits()) as grading,
            workers.local(count) as executor,
        ):
            students = grading.students([])
            list(grading.run(students[:warm], executor, ahead=warm))
            grading.seconds.clear()
            ready, ended, inside = time.perf_counter(), [], 0.0
            for outcome in grading.run(students[warm:], executor, ahead=warm):
                ended.append(time.perf_counter() - ready)
                inside += sum(record["seconds"] for record in outcome.record.values())
        parts = {part: seconds / size for part, seconds in grading.seconds.items()}
        return Run(ready - start, ended, {"in the sandbox, on each worker": inside / size, **parts})

    def own(self) -> float:
        """Give the seconds of computing that a submission asks for, whoever grades it."""
        with Sandbox(Limits()) as sandbox:
            runs = [sandbox.run(notebook, {}).seconds for notebook in 2 * self.submissions]
        return statistics.mean(runs[len(self.submissions) :])


def _cut(notebook: NotebookNode) -> NotebookNode:
    """Leave out all that stands behind the second graded cell."""
    cut = notebooks.canonical(notebook)
    graded = [n for n, cell in enumerate(cut.cells) if answers.grading(cell).get("grade")]
    del cut.cells[graded[1] + 1 :]
    return cut


def speed(course: Course, *, size: int, many: int, count: int) -> Iterator[Table | str]:
    """Grade a class with stock nbgrader and with the engine; then a long one with the engine."""
    folder = course.build / "bench"
    for short in (True, False):
        classroom = Classroom(course, folder, short=short)
        yield f"{size} submissions, {classroom.name}: with stock nbgrader, then with the engine …"
        stock, inside = classroom.stock(size)
        run = classroom.engine(size, count)
        table = Table("", "ms", title=f"One submission of {size} ({classroom.name})")
        table.add_row("stock nbgrader", f"{stock * 1000:.0f}")
        table.add_row("  in its executor", f"{inside * 1000:.0f}")
        table.add_row("  around it", f"{(stock - inside) * 1000:.0f}")
        table.add_row(f"the engine, {count} workers", f"{run.each * 1000:.0f}")
        for part, seconds in run.parts.items():
            table.add_row(f"  {part}", f"{seconds * 1000:.0f}")
        table.add_row("  start-up of all, once, left out", f"{run.start * 1000:.0f}")
        table.add_row("  what it computes itself, on one core", f"{classroom.own() * 1000:.0f}")
        table.add_row("stock / engine", f"{stock / run.each:.1f} times")
        yield table
    classroom = Classroom(course, folder, short=True)
    yield f"the engine, {many} submissions, {classroom.name} …"
    run = classroom.engine(many, count)
    few = min(size, many // 3)
    yield (
        f"{run.each * 1000:.0f} ms each; the last {few} took {run.slope(few):.2f} times as long "
        f"as the first {few}: {_plot(run, folder / 'cost.png').relative_to(course.root)}"
    )


def memory() -> Iterator[str]:
    """Say what a worker's process holds beyond its template after a short torch notebook."""
    cells = ["import torch\nx = torch.randn(50, 50) @ torch.randn(50, 50)", MEMORY]
    with Sandbox(Limits()) as sandbox:
        done = sandbox.run(new_notebook(cells=[new_code_cell(cell) for cell in cells]), {})
    kilobytes = int(done.notebook.cells[-1].outputs[0].text.split()[1])
    yield f"memory of a short torch notebook beyond its template: {kilobytes / 1024:.0f} MB"


def judge_cost(course: Course, *, size: int = 200) -> Iterator[Table | str]:
    """Run the same submissions with and without a judge in turn; compare medians, then calls."""
    trivial, timed = _judged("assert double(2) == 4"), _judged(CALLS)
    two = _cut(notebooks.read(course.source(sample.STEM)))
    table = Table("", "one process, ms", "with a judge, ms", "more, ms", title=f"Medians of {size}")
    with Sandbox(Limits()) as sandbox:
        for name, notebook in (("a trivial submission", trivial), ("two checks of p01", two)):
            yield f"{size} submissions each way, {name} …"
            alone, judged = _medians(sandbox, notebook, size)
            table.add_row(name, *(f"{1000 * s:.1f}" for s in (alone, judged, judged - alone)))
        runs = [sandbox.run(timed, {}, interface=i) for i in (None, Interface.of_source(timed))]
    printed = [json.loads(run.notebook.cells[-1].outputs[0].text) for run in runs]
    for name in printed[0]:
        alone, judged = (found[name] for found in printed)
        table.add_row(name, *(f"{1000 * s:.3f}" for s in (alone, judged, judged - alone)))
    yield table


def _judged(check: str) -> NotebookNode:
    """Make a notebook of a set-up, a solution and a check."""
    cells = [
        scaffold.code_cell("setup", "import torch\nfrom torch import nn", "p00_setup"),
        scaffold.code_cell("solution", SOLUTION, "p00_solution", solution=True),
        scaffold.code_cell("check", check, "p00_check", points=1),
    ]
    return notebooks.canonical(new_notebook(cells=cells))


def _medians(sandbox: Sandbox, notebook: NotebookNode, size: int) -> list[float]:
    """Give the seconds of a notebook in one process and in two, each way after the other."""
    seconds: list[list[float]] = [[], []]
    for _ in range(size):
        for way, interface in enumerate((None, Interface.of_source(notebook))):
            start = time.perf_counter()
            sandbox.run(notebook, {}, interface=interface)
            seconds[way].append(time.perf_counter() - start)
    return [statistics.median(found) for found in seconds]


def cheats(course: Course, *, count: int) -> Iterator[Table | str]:
    """Grade the corpus of cheats with stock nbgrader and with the engine, side by side."""
    classroom = CheatClass(course, course.build / "bench" / "cheats", load(course.root / CHEATS))
    yield f"{len(classroom.cheats)} cheats with stock nbgrader, in bubblewrap, for minutes …"
    stock = stock_nbgrader.scores(classroom.course.root, classroom.students, count)
    yield "the same with the engine …"
    here = classroom.grade(count)
    table = Table("cheat", "honest", "stock", "engine", "named", title="Points of cheats")
    gained: Counter = Counter()
    for cheat in classroom.cheats:
        honest, cheated = here[cheat.honest], here[cheat.name]
        theirs, base = stock[cheat.name], stock[cheat.honest] or 0.0
        more = (theirs or 0.0) - base, cheated.score - honest.score
        gained.update(stock=more[0] > 0, points=max(0.0, more[0]), here=more[1] > 0)
        gained.update(tampers=cheat.tampers, named=bool(cheat.tampers and cheated.tampering))
        shown = "none" if theirs is None else f"{theirs:g}"
        table.add_row(
            f"{cheat.family}: {cheat.name}",
            f"{base:g}",
            f"[red]{shown}[/red]" if more[0] > 0 else shown,
            f"[red]{cheated.score:g}[/red]" if more[1] > 0 else f"{cheated.score:g}",
            "yes" if cheated.tampering else "-" if cheat.tampers else "",
        )
    yield table
    families = {cheat.family for cheat in classroom.cheats}
    yield (
        f"{len(classroom.cheats)} cheats in {len(families)} families: with stock nbgrader "
        f"{gained['stock']} gain {gained['points']:g} points, with the engine {gained['here']} "
        f"gain any; {gained['named']} of {gained['tampers']} that tamper are named"
    )


def own_time(course: Course) -> Iterator[Table | str]:
    """Run every notebook of the course in one process on one core and say what it takes."""
    yield "each notebook by itself, warm, on one core …"
    table = Table("notebook", "s", "slowest graded cell", "s", "MB", title="What notebooks take")
    with Sandbox(Limits(notebook_seconds=300)) as sandbox:
        for path in [*course.chapters, *map(course.source, course.stems)]:
            files = {p.name: p.read_bytes() for p in path.parent.iterdir() if _is_beside(p, path)}
            done = sandbox.run(notebooks.read(path), files)
            outputs = [out for cell in done.notebook.cells for out in cell.get("outputs", [])]
            failed = [out.ename for out in outputs if out.output_type == "error"]
            if failed:
                raise GradingError(f"{path.stem} does not run: {failed[0]}; run 'make test'")
            graded = [
                answers.grading(cell)["grade_id"] for cell in answers.graded_cells(done.notebook)
            ]
            slowest = max(graded, key=done.cell_seconds.get, default="")
            table.add_row(
                path.stem,
                _limited(done.seconds, NOTEBOOK_SECONDS),
                slowest,
                _limited(done.cell_seconds[slowest], CELL_SECONDS) if slowest else "",
                f"{done.peak_bytes / (1 << 20):.0f}",
            )
    yield table


def _is_beside(path: Path, notebook: Path) -> bool:
    return path.is_file() and path.suffix != ".ipynb" and notebook.parent.name != "chapters"


def _limited(seconds: float, most: float) -> str:
    return f"{seconds:.1f}" + (f" [red](over {most})[/red]" if seconds > most else "")


def _plot(run: Run, path: Path) -> Path:
    """Draw the time of the n-th submission against n: a line where the cost is constant."""
    fig, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
    ax.plot(range(1, len(run.ended) + 1), run.ended)
    ax.set(xlabel="submissions graded", ylabel="seconds since the start")
    fig.savefig(path, dpi=100)
    plt.close(fig)
    return path
