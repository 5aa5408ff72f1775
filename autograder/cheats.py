"""Submissions that try for points without an answer: a corpus to be graded, and to gain nothing.

tests/cheats/<family>.toml holds a table for each cheat:
  why      what it does, in a sentence
  code     what the student writes behind the base in the last solution cell
  base     the honest submission it starts from: a wrong answer of tests/answers/, or "empty"
  problem  p01 unless said otherwise
  first    true: the code stands in a cell of its own at the top of the notebook
  files    files handed in beside the notebook
  tampers  false: it breaks no machinery, so the report need not name it
The table `usual` at the top of a file is what the others have unless they say otherwise.
"""

import copy
import shutil
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from autograder import answers, mutants, notebooks, release, report, workers
from autograder.course import Course
from autograder.errors import AnswerError
from autograder.grading import Grading
from autograder.pipeline import CONFIG, Pipeline

EMPTY = "empty"
# Of the long problems a cheat's class has the checks that train or read trained weights alone.
LONG = {
    "p03": ("p03_shipped_weights", "p03_training_learns"),
    "p04": ("p04_masked_letters", "p04_few_labels"),
}


@dataclass(frozen=True)
class Cheat:
    """One way to a better score, and the submission that it starts from."""

    family: str
    name: str
    why: str
    code: str
    base: str = EMPTY
    problem: str = "p01"
    first: bool = False
    files: dict[str, str] = field(default_factory=dict, hash=False)
    tampers: bool = True

    @property
    def honest(self) -> str:
        """Name the submission without the cheat."""
        return f"{self.problem}-{self.base}"


def load(folder: Path) -> list[Cheat]:
    """Read every cheat of a folder, in the order of its files.

    Raises: AnswerError naming the file and what is wrong with it.
    """
    found = []
    for path in sorted(folder.glob("*.toml")):
        entries = tomllib.loads(path.read_text(encoding="utf-8"))
        usual = entries.pop("usual", {})
        for name, entry in entries.items():
            try:
                found.append(Cheat(path.stem, name, **{**usual, **entry}))
            except TypeError as error:
                raise AnswerError(f"{path.name}, {name}: {error}") from error
    names = [cheat.name for cheat in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise AnswerError(f"{folder.name}: more than one cheat is called {', '.join(twice)}")
    return found


class CheatClass:
    """A course folder in which each cheat is a student, and each honest base another.

    Its problems have no figures: what earns no point would only take time.
    """

    def __init__(self, course: Course, root: Path, cheats: Iterable[Cheat]):
        self.cheats = list(cheats)
        self.course = Course(root)
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        shutil.copy(course.root / CONFIG, root)
        self.stems = {
            problem: course.select([problem])[0] for problem in {c.problem for c in self.cheats}
        }
        self.known = {stem: answers.load(course, stem) for stem in self.stems.values()}
        for stem in self.stems.values():
            shutil.copytree(course.source(stem).parent, self.course.source(stem).parent)
            bare = mutants.bare(notebooks.read(course.source(stem)))
            kept = LONG.get(stem.partition("_")[0])
            bare.cells = [c for c in bare.cells if not (kept and _is_other_check(c, kept))]
            self.course.source(stem).write_text(notebooks.dumps(bare), encoding="utf-8")
            release.generate(self.course, stem)
        for cheat in self.cheats:
            self._hand_in(cheat.honest, cheat, self._base(cheat), {})
            self._hand_in(cheat.name, cheat, self._filled(cheat), cheat.files)

    @property
    def students(self) -> list[tuple[str, str]]:
        """List every submission: its problem and its student."""
        folders = sorted((self.course.root / "submitted").glob("*/*"))
        return [(folder.name, folder.parent.name) for folder in folders]

    def grade(self, count: int) -> dict[str, report.Result]:
        """Grade everybody, isolated, with `count` workers; give what the report says of each."""
        root, found = self.course.root, {}
        for stem in self.stems.values():
            pipeline = Pipeline(self.course, root=root, log=root / "log")
            with Grading(pipeline, stem) as grading, workers.local(count) as executor:
                outcomes = list(grading.run(grading.students([]), executor, ahead=2 * count))
            faults = {outcome.student: outcome.fault for outcome in outcomes if outcome.fault}
            found |= {result.student: result for result in report.results(pipeline, stem, faults)}
        return found

    def _base(self, cheat: Cheat) -> NotebookNode:
        """Give the honest submission.

        Raises: AnswerError where there is no such answer.
        """
        stem = self.stems[cheat.problem]
        stub = release.stub(self.course, stem)
        if cheat.base == EMPTY:
            return stub
        for answer in self.known[stem]:
            if answer.name == cheat.base:
                return answers.fill(stub, answer)
        raise AnswerError(f"{cheat.family}, {cheat.name}: {stem} has no answer {cheat.base!r}")

    def _filled(self, cheat: Cheat) -> NotebookNode:
        notebook = copy.deepcopy(self._base(cheat))
        if cheat.first:
            notebook.cells.insert(0, new_code_cell(cheat.code, id="first-of-all"))
        else:
            last = answers.solution_cells(notebook)[-1]
            last.source = f"{last.source}\n\n\n{cheat.code}"
        return notebook

    def _hand_in(
        self, student: str, cheat: Cheat, notebook: NotebookNode, files: dict[str, str]
    ) -> None:
        stem = self.stems[cheat.problem]
        folder = self.course.root / "submitted" / student / stem
        for name, text in {f"{stem}.ipynb": notebooks.dumps(notebook), **files}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def _is_other_check(cell: NotebookNode, kept: tuple[str, ...]) -> bool:
    grading = answers.grading(cell)
    return bool(grading.get("grade")) and grading["grade_id"] not in kept
