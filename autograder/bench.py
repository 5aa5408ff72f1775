"""How fast the engine is, as ratios measured side by side in one run."""

import cProfile
import pstats
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
from traitlets.config import Config

from autograder import notebooks, release, sample, workers
from autograder.course import Course
from autograder.grading import Grading
from autograder.pipeline import CONFIG, Pipeline
from autograder.sandbox import Limits

STOCK = [
    "nbgrader.preprocessors.Execute",
    "nbgrader.preprocessors.IgnorePattern",
    "nbconvert.preprocessors.ClearMetadataPreprocessor",
    "nbgrader.preprocessors.LimitOutput",
    "nbgrader.preprocessors.SaveAutoGrades",
    "nbgrader.preprocessors.AssignLatePenalties",
    "nbgrader.preprocessors.CheckCellMetadata",
]
# What the coordinator does, by the functions of Grading that do it.
PARTS = {
    "read": "_read",
    "sanitise": "_prepare",
    "record": "_finish",
    "write": "_write",
}


class Bench:
    """A class of copies of the sample class's first submissions, graded in more than one way."""

    def __init__(self, course: Course, folder: Path):
        self.course, self.folder = course, folder
        self.plot_path = folder / "cost.png"

    def classroom(self, name: str, size: int) -> Pipeline:
        """Lay out a course folder with `size` submissions that end by themselves."""
        root = self.folder / name
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(self.course.root / "source" / sample.STEM, root / "source" / sample.STEM)
        shutil.copy(self.course.root / CONFIG, root)
        copy = Course(root)
        release.generate(copy, sample.STEM)
        texts = [notebooks.dumps(nb) for nb in sample.submissions(self.course).values()][:-1]
        for number in range(size):
            path = (
                root / "submitted" / f"student{number:04d}" / sample.STEM / f"{sample.STEM}.ipynb"
            )
            path.parent.mkdir(parents=True)
            path.write_text(texts[number % len(texts)], encoding="utf-8")
        return Pipeline(copy, root=root, log=root / "nbgrader.log")

    def stock(self, size: int) -> float:
        """Give the seconds a submission that stock nbgrader takes, its start left out."""
        pipeline = self.classroom("stock", size)
        pipeline.config.merge(Config(Autograde={"autograde_preprocessors": STOCK}))
        pipeline.autograde(sample.STEM, "student0000")
        start = time.perf_counter()
        pipeline.autograde(sample.STEM, "student*", force=False)
        return (time.perf_counter() - start) / (size - 1)

    def engine(self, size: int, count: int) -> dict:
        """Grade with `count` workers and say where the time went, in seconds."""
        pipeline = self.classroom(f"engine{size}", size)
        start = time.perf_counter()
        with (
            Grading(pipeline, sample.STEM, limits=Limits()) as grading,
            workers.local(count) as executor,
        ):
            students = grading.students([])
            warm = students[: 2 * count]
            list(grading.run(warm, executor, ahead=2 * count))
            ready = time.perf_counter()
            profile, ended, inside = cProfile.Profile(), [], 0.0
            profile.enable()
            for outcome in grading.run(students[2 * count :], executor, ahead=2 * count):
                ended.append(time.perf_counter() - ready)
                inside += sum(record["seconds"] for record in outcome.record.values())
            profile.disable()
        self._plot(ended)
        number = len(students) - len(warm)
        return {
            "start": ready - start,
            "each": ended[-1] / number,
            "sandbox": inside / number,
            "parts": dict(_parts(profile, number)),
            "ended": ended,
        }

    def _plot(self, ended: list[float]) -> None:
        """Draw the time of the n-th submission against n: a line where the cost is constant."""
        fig, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
        ax.plot(range(1, len(ended) + 1), ended)
        ax.set(xlabel="submissions graded", ylabel="seconds since the start")
        fig.savefig(self.plot_path, dpi=100)
        plt.close(fig)


def _parts(profile: cProfile.Profile, number: int) -> Iterator[tuple[str, float]]:
    """Give the seconds a submission that each part of the coordinator took."""
    stats = pstats.Stats(profile).stats
    for name, function in PARTS.items():
        found = [entry for (file, _, called), entry in stats.items() if called == function]
        yield name, sum(entry[3] for entry in found) / number


def slope(ended: list[float], size: int) -> tuple[float, float]:
    """Give the seconds a submission over the first and over the last `size` of a run."""
    return ended[size - 1] / size, (ended[-1] - ended[-size - 1]) / size
