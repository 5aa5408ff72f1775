"""Build the HTML book with Jupyter Book. How a problem's page is made stands in pages.py."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from autograder import notebooks
from autograder.course import Course
from autograder.errors import CourseError

# The modules that make a page; the rest of the package may change without a new book.
MAKERS = ("answers", "book", "feedback", "notebooks", "pages", "release")
PROGRAM = "from jupyter_book.cli.main import main; main()"
PHASE = re.compile(r"(reading|writing) (?:sources|output)\.\.\. \[")
COMPLAINT = re.compile(r"(?:WARNING|ERROR|CRITICAL): .*|\A\w+ error\b.*:\Z")


def build(course: Course, *, solutions: bool = True, output: Path | None = None) -> Path:
    """Build the book into `output` and return its first page; where nothing changed, do nothing.

    The default is _build/html, or _build/class/html for the book without solutions. It is built
    elsewhere first, so that a failure leaves the old book as it was.
    Raises: CourseError with the warnings; each of them stops the build.
    """
    if output and output.exists() and any(output.iterdir()) and not _is_book(output):
        raise CourseError(f"{output} holds something that is no book; name an empty folder")
    output = (output or course.build / ("html" if solutions else "class/html")).resolve()
    work = course.build / "book" / ("open" if solutions else "class")
    stamp, made = work / "stamp", work / "_build" / "html"
    key = _key(course, output)
    if stamp.exists() and stamp.read_text() == key and _is_book(output):
        print("  book: up to date", flush=True)
        return output / "index.html"
    if not stamp.exists():  # the last build failed: Sphinx would not repeat its warnings
        shutil.rmtree(work, ignore_errors=True)
    stamp.unlink(missing_ok=True)
    shutil.rmtree(made, ignore_errors=True)
    _run_jupyter_book(course, work, solutions)
    shutil.rmtree(output, ignore_errors=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(made, output)
    stamp.write_text(key)
    return output / "index.html"


def _is_book(folder: Path) -> bool:
    return (folder / "index.html").exists() and (folder / ".buildinfo").exists()


def _run_jupyter_book(course: Course, work: Path, solutions: bool) -> None:
    """Build into `work`, keep what is said in _build/log, print a line when a phase begins."""
    config = yaml.safe_load((course.root / "_config.yml").read_text(encoding="utf-8"))
    config["sphinx"]["config"]["course_solutions"] = solutions
    log = course.build / "log" / f"book-{work.name}.log"
    for folder in (work, log.parent):
        folder.mkdir(parents=True, exist_ok=True)
    (work / "_config.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    command = [sys.executable, "-c", PROGRAM, "build", str(course.root), "-W", "--keep-going"]
    command += ["--path-output", str(work), "--config", str(work / "_config.yml")]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "encoding": "utf-8"}
    environment = {**os.environ, "PYTHONUTF8": "1"}
    lines, begun = [], set()
    with subprocess.Popen(command, env=environment, **streams) as process:
        for line in process.stdout:
            lines.append(notebooks.ANSI.sub("", line).strip().replace(f"{course.root}{os.sep}", ""))
            phase = PHASE.match(lines[-1])
            if phase and phase[1] not in begun:
                begun.add(phase[1])
                print(f"  book: {phase[1]} the pages", flush=True)
    log.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if process.returncode:
        reasons = "\n  ".join(dict.fromkeys(_complaints(lines)))
        where = log.relative_to(course.root)
        raise CourseError(f"the book does not build:\n  {reasons}\n  all of it is in {where}")


def _complaints(lines: list[str]) -> list[str]:
    """Find the warnings, and for an error that names itself alone, the line after it."""
    found = []
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if COMPLAINT.search(line):
            found += [line, after] if line.endswith(":") else [line]
    return found or lines[-15:]


def _key(course: Course, output: Path) -> str:
    """Hash what the book depends on, and where it goes."""
    digest = hashlib.sha256(f"{output} {os.environ.get('GITHUB_REPOSITORY')}".encode())
    files = [course.root / name for name in ("_config.yml", "_toc.yml", "requirements.lock")]
    files += [Path(__file__).with_name(f"{name}.py") for name in MAKERS]
    for folder in ("chapters", "source", "release"):
        files += sorted((course.root / folder).rglob("*"))
    for path in files:
        if path.is_file() and ".ipynb_checkpoints" not in path.parts:
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
