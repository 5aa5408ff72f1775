"""The form of the repository: lint, format, canonical notebooks, short chapters."""

import subprocess
import sys

import pytest
from conftest import ROOT

from autograder import notebooks
from autograder.course import Course

COURSE = Course(ROOT)
NOTEBOOKS = [*COURSE.chapters, *(COURSE.source(stem) for stem in COURSE.stems)]


def name(path):
    return path.stem


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=lambda c: c[0])
def test_ruff(command):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "--no-cache", "."],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_notebook_is_canonical(path):
    """`make notebooks` would leave it as it is."""
    assert notebooks.faults(notebooks.read(path)) == []
    assert notebooks.dumps(notebooks.read(path)) == path.read_text(encoding="utf-8")
    assert path.stat().st_size < 500_000


@pytest.mark.parametrize("path", COURSE.chapters, ids=name)
def test_chapter_reads_in_one_sitting(path):
    cells = notebooks.read(path).cells
    assert len(cells) <= 80
    lengths = sorted(len(c.source.splitlines()) for c in cells if c.cell_type == "code")
    assert lengths[len(lengths) // 2 - 1] <= 6, f"half of the code cells in six lines: {lengths}"
    assert lengths[int(len(lengths) * 0.9) - 1] <= 20, f"nine in ten under 20 lines: {lengths}"
    assert lengths[-1] <= 40
    words = {c.id: len(c.source.split()) for c in cells if c.cell_type == "markdown"}
    assert max(words.values()) <= 120, {key: n for key, n in words.items() if n > 120}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_figures_are_described(path):
    """Each stored picture has a caption, a fig- label and alternative text."""
    for cell in notebooks.read(path).cells:
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
            shown = cell.metadata.get("mystnb", {})
            assert shown.get("figure", {}).get("caption"), f"{cell.id}: no caption"
            assert shown["figure"].get("name", "").startswith("fig-"), f"{cell.id}: no fig- label"
            assert shown.get("image", {}).get("alt"), f"{cell.id}: no alternative text"


def test_package_imports_no_torch():
    """A command that grades nothing starts at once."""
    code = "import sys, autograder, autograder.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_top_level_fits_on_one_screen():
    listed = [path.name for path in ROOT.iterdir() if not path.name.startswith((".", "_build"))]
    made_by_use = {"gradebook.db", "submitted", "autograded", "feedback", "autograder.egg-info"}
    assert len(set(listed) - made_by_use) <= 14, sorted(listed)


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 120
