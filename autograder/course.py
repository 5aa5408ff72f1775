"""Where things are: one stem joins a problem's source, release, answers and page."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from autograder.errors import CourseError

STEM = re.compile(r"p\d\d_[a-z0-9_]+")


@dataclass(frozen=True)
class Course:
    """The folders of one course."""

    root: Path

    @classmethod
    def find(cls, start: Path | None = None) -> "Course":
        """Find the course that holds `start` (the current folder by default).

        Raises: CourseError where neither it nor a folder above it is a course.
        """
        start = (start or Path.cwd()).resolve()
        for folder in (start, *start.parents):
            if (folder / "nbgrader_config.py").exists() and (folder / "source").is_dir():
                return cls(folder)
        raise CourseError(
            f"no course in {start} or above it: expected a folder with nbgrader_config.py and "
            "source/; change into the course's folder and try again"
        )

    @property
    def build(self) -> Path:
        return self.root / "_build"

    @property
    def chapters(self) -> list[Path]:
        return sorted((self.root / "chapters").glob("q*.ipynb"))

    @property
    def stems(self) -> list[str]:
        """The problems that have a source folder, in order."""
        return sorted(
            folder.name
            for folder in (self.root / "source").iterdir()
            if folder.is_dir() and not folder.name.startswith(".")
        )

    def source(self, stem: str) -> Path:
        return self.root / "source" / stem / f"{stem}.ipynb"

    def files(self, stem: str) -> dict[str, bytes]:
        """Read what stands beside a problem's notebook."""
        folder = self.source(stem).parent
        paths = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".ipynb"]
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}

    def release(self, stem: str) -> Path:
        return self.root / "release" / stem / f"{stem}.ipynb"

    def answers(self, stem: str) -> Path:
        return self.root / "tests" / "answers" / stem

    def select(self, names: list[str]) -> list[str]:
        """Turn p01, p01_stem or nothing (all) into stems.

        Raises: CourseError for a name that no problem, or more than one, answers to.
        """
        if not names:
            return self.stems
        selected = []
        for name in names:
            found = [stem for stem in self.stems if stem == name or stem.split("_")[0] == name]
            if len(found) != 1:
                raise CourseError(
                    f"no problem is called {name!r}; this course has {', '.join(self.stems)}"
                )
            selected += found
        return selected

    def faults(self) -> Iterator[str]:
        """Say in one line each what does not fit together: names, pages, answers, releases."""
        pages = set(_pages(yaml.safe_load((self.root / "_toc.yml").read_text(encoding="utf-8"))))
        for stem in self.stems:
            if not STEM.fullmatch(stem):
                yield f"source/{stem}: a problem is called pNN_subject in lower case"
            if not self.source(stem).exists():
                yield f"source/{stem}: expected the notebook source/{stem}/{stem}.ipynb"
            if f"source/{stem}/{stem}" not in pages:
                yield f"_toc.yml: source/{stem}/{stem} has no page; add a line 'file:' for it"
            if not self.answers(stem).is_dir():
                yield f"tests/answers/{stem}: missing; each problem has wrong and right answers"
            if not self.release(stem).exists():
                yield f"release/{stem}: missing; run 'autograder release {stem}'"
        for page in sorted(pages):
            if not any((self.root / f"{page}{suffix}").exists() for suffix in (".md", ".ipynb")):
                yield f"_toc.yml: {page} is listed, but there is no such file"
        for chapter in self.chapters:
            if f"chapters/{chapter.stem}" not in pages:
                yield f"_toc.yml: chapters/{chapter.stem} has no page; add a line 'file:' for it"
        for where in ("release", "tests/answers"):
            folder = self.root / where
            for entry in sorted(folder.iterdir()) if folder.is_dir() else []:
                if entry.is_dir() and entry.name not in self.stems and entry.name[0] not in "._":
                    yield f"{where}/{entry.name}: source/{entry.name} does not exist"


def _pages(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("root", "file"):
                yield str(value).removesuffix(".ipynb").removesuffix(".md")
            else:
                yield from _pages(value)
    elif isinstance(node, list):
        for item in node:
            yield from _pages(item)
