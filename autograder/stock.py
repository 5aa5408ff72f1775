"""A class of cheats graded by stock nbgrader, to see what they gain there.

Stock nbgrader isolates nothing, and some of the cheats kill every process or write into every
gradebook that they find. So it runs in bubblewrap, where it may write in the class's folder alone.
A process that is killed is started again for the students who are left.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from traitlets.config import Config

from autograder.course import Course
from autograder.errors import GradingError
from autograder.isolation import PYTHON, bubblewrap
from autograder.pipeline import Pipeline

CELL_SECONDS = 60


def scores(root: Path, students: list[tuple[str, str]], workers: int) -> dict[str, float | None]:
    """Grade submissions, pairs of a problem and a student; None where nbgrader gave no score."""
    parts = [students[n::workers] for n in range(workers)]
    copies = [root.with_name(f"{root.name}_{n}") for n in range(workers)]
    for copy in copies:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(root, copy)
    with ThreadPoolExecutor(workers) as pool:
        found = pool.map(lambda pair: dict(_in_turn(*pair)), zip(copies, parts, strict=True))
        return {student: score for part in found for student, score in part.items()}


def _in_turn(root: Path, students: list[tuple[str, str]]) -> Iterator[tuple[str, float | None]]:
    """Grade one after the other, and go on behind whoever ends the process."""
    left = list(students)
    while left:
        command = [*_bubblewrap(root), PYTHON, "-m", __name__, str(root)]
        done = subprocess.run(
            command, input=json.dumps(left), capture_output=True, text=True, cwd=root, check=False
        )
        lines = [line for line in done.stdout.splitlines() if line.startswith('{"student"')]
        if not lines and left == students:
            raise GradingError(f"stock nbgrader does not start: {done.stderr[-500:]}")
        for line in lines:
            told = json.loads(line)
            yield told["student"], told["score"]
        left = left[len(lines) :]
        if left:
            yield left.pop(0)[1], None


def _bubblewrap(root: Path) -> list[str]:
    """Show the whole host, read-only, and hide its processes and its network."""
    return [
        bubblewrap(), "--unshare-pid", "--unshare-net", "--unshare-ipc", "--die-with-parent",
        "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp",
        "--bind", str(root), str(root), "--setenv", "HOME", "/tmp", "--setenv", "OMP_NUM_THREADS",
        "1", "--",
    ]  # fmt: skip


def main() -> None:
    """Grade the students that stand in standard input; the argument is the class's folder."""
    from autograder.bench import STOCK, UNMENDED

    root = Path(sys.argv[1])
    overrides = Config(
        Autograde={**UNMENDED, "autograde_preprocessors": STOCK},
        Execute={"timeout": CELL_SECONDS},
    )
    pipeline = Pipeline(Course(root), root=root, log=root / "log", overrides=overrides)
    for stem, student in json.load(sys.stdin):
        score = None
        try:
            pipeline.autograde(stem, student)
            with pipeline.gradebook() as gradebook:
                score = gradebook.find_submission(stem, student).score
        except GradingError:
            pass
        print(json.dumps({"student": student, "score": score}), flush=True)


if __name__ == "__main__":
    main()
