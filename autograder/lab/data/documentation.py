"""What docstrings say, labelled with the package that they document."""

import functools
import hashlib
import inspect
import itertools
import os
import re
import sysconfig
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from autograder.lab.data.files import fault, read_rows
from autograder.lab.data.packages import folder

# The label: the module, and the package that installs it; none for the standard library.
PACKAGES = {
    "matplotlib": ("matplotlib", "matplotlib"),
    "numpy": ("numpy", "numpy"),
    "scikit-learn": ("sklearn", "scikit-learn"),
    "scipy": ("scipy", "scipy"),
    "standard library": None,
    "torch": ("torch", "torch"),
}
TRAIN, TEST = 450, 150  # texts of each package
OF_ONE_FILE = 20
FEWEST_WORDS, MOST_WORDS = 12, 100
NEAR = 0.4  # the share of common word triples from which on two texts are near-duplicates
TEST_SHARE = 0.25  # of a file's texts
# Tests, other projects' code, and what some systems leave out of the standard library.
LEFT_OUT = {
    "__pycache__", "_vendor", "_vendored", "array_api_compat", "distutils", "ensurepip",
    "externals", "idlelib", "lib2to3", "site-packages", "test", "testing", "tests", "tkinter",
    "turtledemo",
}  # fmt: skip
# Parsing the two thousand files of torch takes 14 s. In 480 files this finds 3,199 of 3,202
# docstrings, and one string that is none.
DOCSTRING = re.compile(r':[ \t]*(?:#[^\n]*)?\n\s*[rR]?("""|\'\'\')(.*?)\1', re.DOTALL)
# Where the prose ends: a heading of parameters or examples, a field, a directive, code.
SECTION = re.compile(
    r"^\s*(?:[A-Z][\w ]*\n\s*[-=~]{3,}|>>>|\.\. |:\w+|(?:Args|Arguments|Attributes|Examples?|"
    r"Inputs?|Keyword args?|Notes?|Outputs?|Parameters?|Raises|References?|Returns?|See also|"
    r"Shape|Usage|Yields)\s*:)",
    re.MULTILINE | re.IGNORECASE,
)
NAME = re.compile(
    r"\b\w*(?:matplotlib|numpy|pylab|pyplot|python|scikit|scipy|sklearn|torch)\w*(?:[- ]learn\b)?"
    r"|\b(?:mpl|np|plt|sp)\b",
    re.IGNORECASE,
)
MASK = "package"


@dataclass(frozen=True)
class Part:
    """Texts and the numbers of their labels."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Labelled:
    """Labelled texts; `names[label]` is the name of a label."""

    train: Part
    test: Part
    names: tuple[str, ...]


def docstrings(path: str | os.PathLike | None = None) -> Labelled:
    """Give what docstrings of six installed packages say, or a file's texts, with their labels.

    Without a path: the prose that opens a docstring, up to its parameters or examples, 12 to 100
    words. The sources are read, nothing is imported. The names of the packages are masked by
    `package`; how often that word occurs tells the label in 18% of the test part, and chance in
    17%. What gives a package away otherwise is what it is about: "tensor", "axes", "estimator".
    Texts are distinct; train and test come from different files, and of two near-duplicates across
    them (at least 40% of the word triples in common) only the one for testing stays. The choice
    and the order depend on nothing but the packages' versions. Each part is in a random order, so
    its first texts are a fair sample.
    With a path: a CSV file with the header text,label, divided by a hash of the text, a quarter
    for testing. Nothing in it is masked.

    Shapes: 2,700 texts for training, 450 of each of 6 labels; 900 for testing, 150 of each.
    Source: the installed packages; BSD-3-Clause (torch, numpy, scipy, scikit-learn), Python
    Software Foundation License (the standard library, and matplotlib's in its style).
    Raises: DataError where a package is missing, or with the line of the file that is wrong.
    """
    return _installed() if path is None else _read_file(path)


@functools.cache
def _installed() -> Labelled:
    seen: set[str] = set()
    test, left = [], {}
    for label, package in PACKAGES.items():
        root = folder(*package) if package else Path(sysconfig.get_path("stdlib"))
        left[label] = iter(_sources(root))
        texts = _take(left[label], TEST, lambda text: _new(text, seen))
        test += [(text, label) for text in texts]
    near, train = Near(text for text, _ in test), []
    for label, files in left.items():
        texts = _take(files, TRAIN, lambda text: _new(text, seen) and text not in near)
        train += [(text, label) for text in texts]
    return _labelled(train, test)


def _take(files: Iterator[Path], wanted: int, good: Callable[[str], bool]) -> list[str]:
    """Take good texts from the next files; what is left of the last one is lost."""
    taken: list[str] = []
    for file in files:
        room = min(OF_ONE_FILE, wanted - len(taken))
        taken += itertools.islice(filter(good, _prose(file)), room)
        if len(taken) == wanted:
            break
    return taken


def _sources(root: Path) -> list[Path]:
    """List a package's files in an order that a new version hardly changes."""
    found = {}
    for folder_name, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in LEFT_OUT]
        for name in files:
            if name.endswith(".py"):
                path = Path(folder_name, name)
                found[_hash(path.relative_to(root).as_posix())] = path
    return [found[key] for key in sorted(found)]


def _prose(file: Path) -> Iterator[str]:
    """Give the opening prose of each docstring in a file, masked, on one line."""
    for match in DOCSTRING.finditer(file.read_text(encoding="utf-8", errors="replace")):
        text = inspect.cleandoc(match[2].replace("\\\n", ""))
        section = SECTION.search(text)
        words = text[: section.start() if section else None].split()
        if len(words) >= FEWEST_WORDS:
            yield NAME.sub(MASK, " ".join(words[:MOST_WORDS]))


def _read_file(path: str | os.PathLike) -> Labelled:
    train, test = [], []
    seen: set[str] = set()
    for _, (text, label) in read_rows(path, ("text", "label")):
        if _new(text, seen):
            part = test if int(_hash(_key(text)), 16) < TEST_SHARE * 2**256 else train
            part.append((text, label))
    near = Near(text for text, _ in test)
    train = [(text, label) for text, label in train if text not in near]
    labels = {label for _, label in train}
    if len(labels) < 2 or not test:
        came = f"{len(train)} texts of {len(labels)} for training and {len(test)} for testing"
        raise fault(path, "", "texts of two labels or more", came, "Give a longer file.")
    return _labelled(train, test)


def _new(text: str, seen: set[str]) -> bool:
    """Say whether a text was never seen before, in whatever case and punctuation, and note it."""
    key = _key(text)
    new = key not in seen
    seen.add(key)
    return new


class Near:
    """Finds out whether a text is a near-duplicate of one of these."""

    def __init__(self, texts: Iterable[str]):
        self.triples = [_triples(text) for text in texts]
        self.holders = defaultdict(list)
        for number, triples in enumerate(self.triples):
            for triple in triples:
                self.holders[triple].append(number)

    def __contains__(self, text: str) -> bool:
        own = _triples(text)
        common = Counter(number for triple in own for number in self.holders.get(triple, ()))
        return any(n >= NEAR * len(own | self.triples[number]) for number, n in common.items())


def _triples(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return set(zip(words, words[1:], words[2:], strict=False))


def _labelled(train: list[tuple[str, str]], test: list[tuple[str, str]]) -> Labelled:
    names = tuple(sorted({label for _, label in (*train, *test)}))
    return Labelled(_part(train, names), _part(test, names), names)


def _part(pairs: list[tuple[str, str]], names: tuple[str, ...]) -> Part:
    pairs = sorted(pairs, key=lambda pair: _hash(_key(pair[0])))
    number = {name: n for n, name in enumerate(names)}
    return Part(tuple(text for text, _ in pairs), tuple(number[label] for _, label in pairs))


def _key(text: str) -> str:
    return re.sub(r"\W+", "", text.lower())


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
