"""The student's way and the instructor's, walked in a real JupyterLab and a real Chromium."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest
from conftest import ROOT, browser_test
from nbformat.v4 import new_code_cell
from playwright.sync_api import expect

from autograder import answers, notebooks, pages, release, sample
from autograder.answers import solution_cells
from autograder.course import Course
from autograder.sandbox import can_isolate

pytestmark = [
    *browser_test,
    pytest.mark.skipif(can_isolate() is not None, reason="the class is graded in isolation"),
]
STEM = sample.STEM
START_SECONDS = 120  # until JupyterLab answers
STEP = 60_000  # milliseconds for one step in the browser; it takes some hundred
SETTLED = 1_800  # looks at the kernel, ten a second, until it has to be idle
MODIFIER = "Meta" if sys.platform == "darwin" else "Control"


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A course folder of one problem, as an instructor has it."""
    root = tmp_path_factory.mktemp("a term")
    shutil.copytree(ROOT / "source" / STEM, root / "source" / STEM)
    shutil.copy(ROOT / "nbgrader_config.py", root)
    command("autograder", "release", STEM, folder=root)
    return Course(root)


class Lab:
    """JupyterLab on a folder, with settings of its own."""

    def __init__(self, folder: Path, home: Path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        places = ("HOME", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
        environment = os.environ | {name: str(home / name.lower()) for name in places}
        command = [str(Path(sys.executable).with_name("jupyter")), "lab", "--no-browser"]
        command += ["--allow-root", f"--port={port}", "--IdentityProvider.token="]
        self.log = home / "lab.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        end = time.monotonic() + START_SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"JupyterLab did not start:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            with urlopen(f"{self.address}/api", timeout=2):
                return True
        except OSError:
            return False

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


@pytest.fixture
def lab(tmp_path):
    """Start JupyterLab on a folder; it ends with the test."""
    running = []

    def start(folder: Path) -> Lab:
        running.append(Lab(folder, tmp_path))
        return running[-1]

    yield start
    for one in running:
        one.stop()


@pytest.fixture
def tab(browser):
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(STEP)
    yield page
    page.close()


class Notebook:
    """A notebook that is open in JupyterLab; cells are found by words in them."""

    def __init__(self, tab, lab: Lab, path: str):
        self.tab = tab
        tab.goto(f"{lab.address}/lab/tree/{path}?reset")
        self.panel = tab.locator(".jp-NotebookPanel:visible")
        expect(self.panel.locator(".jp-Cell").first).to_be_visible(timeout=STEP)
        self.settle()
        expect(tab.get_by_text("Jupyter news")).to_have_count(0)  # nobody is asked

    def settle(self) -> None:
        """Wait until nothing runs; between two cells the kernel is idle for a moment."""
        bar, seen = self.tab.locator("#jp-main-statusbar"), 0
        for _ in range(SETTLED):
            seen = seen + 1 if "| Idle" in bar.inner_text() else 0
            if seen == 15:
                return
            self.tab.wait_for_timeout(100)
        raise AssertionError(f"the kernel does not come to rest: {bar.inner_text()!r}")

    def cell(self, words: str):
        """Scroll to the first cell with some words; JupyterLab draws only what is in sight."""
        found = self.panel.locator(".jp-Cell", has_text=words)
        window = self.panel.locator(".jp-WindowedPanel-outer")
        window.evaluate("e => e.scrollTop = 0")
        for _ in range(100):
            self.tab.wait_for_timeout(100)
            if found.count():
                found.first.scroll_into_view_if_needed()
                return found.first
            window.evaluate("e => e.scrollTop += e.clientHeight / 2")
        raise AssertionError(f"no cell says {words!r}")

    def write(self, words: str, code: str) -> None:
        """Replace a cell's code, as somebody who types."""
        self.cell(words).locator(".cm-content").click()
        self.tab.keyboard.press(f"{MODIFIER}+A")
        self.tab.keyboard.insert_text(code)

    def menu(self, *items: str) -> None:
        self.tab.locator("#jp-MainMenu").get_by_text(items[0], exact=True).click()
        self.tab.locator(".lm-Menu-item", has_text=items[1]).first.click()

    def run_all(self) -> None:
        """Restart the kernel and run every cell, as the book asks."""
        self.menu("Kernel", "Restart Kernel and Run All Cells")
        self.tab.get_by_role("button", name="Confirm Kernel Restart").click()
        # At each frame: `expect` looks once a second, and the kernel may be done by then.
        self.tab.wait_for_function(
            "document.querySelector('#jp-main-statusbar').innerText.includes('| Busy')"
        )
        self.settle()

    def save(self, path: Path) -> None:
        before = path.stat().st_mtime_ns
        self.tab.keyboard.press(f"{MODIFIER}+S")
        while path.stat().st_mtime_ns == before:
            self.tab.wait_for_timeout(50)

    def validate(self) -> str:
        """Press nbgrader's button; give what its dialog says."""
        self.panel.get_by_text("Validate", exact=True).click()
        dialog = self.tab.locator(".jp-Dialog")
        expect(dialog).to_be_visible(timeout=STEP)
        said = dialog.inner_text()
        dialog.get_by_role("button").last.click()
        return said


def answer(name: str) -> str:
    """Give the solution cell of an answer whose score is known."""
    course = Course(ROOT)
    source = notebooks.read(course.source(STEM))
    if name == "reference":
        return solution_cells(source)[0].source
    found = {one.name: one for one in answers.load(course, STEM)}
    return solution_cells(answers.fill(source, found[name]))[0].source


def command(*words: str, folder: Path) -> None:
    """Run what an instructor types."""
    program = Path(sys.executable).with_name(words[0])
    done = subprocess.run([program, *words[1:]], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def saves(response, kind: str) -> bool:
    """Say whether this is the Formgrader's answer to a change of a grade or a comment."""
    return f"/api/{kind}/" in response.url and response.request.method == "PUT"


def hand_in(course: Course, student: str, path: Path) -> None:
    folder = course.root / "submitted" / student / STEM
    folder.mkdir(parents=True)
    shutil.copy(path, folder / f"{STEM}.ipynb")


def test_student(course, lab, tab, tmp_path):
    """Unpack, answer, check, validate, hand in, read the feedback."""
    folder = tmp_path / "my course" / STEM
    file = pages.bundle(course, STEM, tmp_path / "download")  # what the book's page offers
    folder.mkdir(parents=True)
    shutil.copy(file, folder)
    path = folder / f"{STEM}.ipynb"
    notebook = Notebook(tab, lab(folder.parent), f"{STEM}/{path.name}")

    hint = notebook.cell("Hint 1").locator("details").first
    assert hint.evaluate("e => !e.open")
    hint.locator("summary").click()
    assert hint.evaluate("e => e.open")

    # A wrong answer: the first check that fails says what does not hold and where to look.
    notebook.write("YOUR CODE HERE", answer("no_scale"))
    notebook.run_all()
    shown = notebook.cell("# No mask").locator(".jp-OutputArea")
    expect(shown).to_contain_text("the output without a mask in torch.float64")
    expect(shown).to_contain_text("Look at the scale")
    notebook.save(path)
    said = notebook.validate()
    assert "The following cell failed" in said
    assert "Look at the scale" in said
    hand_in(course, "student02", path)

    notebook.write("def scaled_dot_product_attention", answer("reference"))
    notebook.run_all()
    figure = notebook.cell("largest[name].append").locator(".jp-RenderedImage img")
    expect(figure).to_be_visible(timeout=STEP)
    notebook.save(path)
    assert "passes all the tests" in notebook.validate()
    hand_in(course, "student01", path)

    command("autograder", "grade", STEM, folder=course.root)
    command("nbgrader", "generate_feedback", STEM, folder=course.root)
    # Without the scale, shapes, inputs, masked rows, gradients and large numbers are still right.
    for student, total in (("student01", "10.0"), ("student02", "5.0")):
        page = course.root / "feedback" / student / STEM / f"{STEM}.html"
        tab.goto(page.as_uri())
        text = tab.locator("body").inner_text()
        assert f"Score: {total} / 10.0" in text
        assert "BEGIN HIDDEN" not in page.read_text()


def test_bar_moves_and_clips_play(lab, tab, tmp_path):
    """A training that waits in its middle for somebody to look, and a problem's own clip."""
    stem = "p08_ctc_recognizer"
    shutil.copytree(ROOT / "release" / stem, tmp_path / stem)
    waits = [
        "from pathlib import Path\nimport torch\nfrom autograder.lab.training import fit",
        "def loss(model, batch):\n"
        "    while batch == 5 and not Path('seen').exists():\n"
        "        pass\n"
        "    return model(torch.ones(1, 2)).square().sum()\n\n\n"
        "fit(torch.nn.Linear(2, 1), loss, range(10), 10, title='the model learns')",
    ]
    opened = release.stub(Course(ROOT), stem)
    opened.cells = [*opened.cells[:3], *map(new_code_cell, waits)]
    (tmp_path / stem / "try.ipynb").write_text(notebooks.dumps(opened), encoding="utf-8")
    notebook = Notebook(tab, lab(tmp_path), f"{stem}/try.ipynb")
    notebook.menu("Run", "Run All Cells")
    shown = notebook.cell("the model learns").locator(".jp-OutputArea")
    expect(shown).to_contain_text("the model learns [████████████            ] 5/10")
    (tmp_path / stem / "seen").touch()
    expect(shown).to_contain_text("the model learns: 10 steps", timeout=STEP)
    clip = notebook.cell("display(Audio").locator("audio")
    expect(clip).to_be_visible(timeout=STEP)
    assert clip.evaluate("e => e.play().then(() => e.duration)") > 1


def test_instructor(course, lab, tab, tmp_path):
    """Grade with the Formgrader's button, and see the scores."""
    shutil.rmtree(course.root / "submitted", ignore_errors=True)
    for student, name in (("student01", "reference"), ("student02", "no_scale")):
        notebook = release.stub(course, STEM)
        solution_cells(notebook)[0].source = answer(name)
        (tmp_path / "done.ipynb").write_text(notebooks.dumps(notebook), encoding="utf-8")
        hand_in(course, student, tmp_path / "done.ipynb")
    here = lab(course.root)
    tab.goto(f"{here.address}/formgrader")
    tab.get_by_role("link", name="2", exact=True).click()
    for student, total in (("student01", "10"), ("student02", "5")):
        row = tab.locator("tr", has_text=student)
        row.locator(".autograde a").click()
        dialog = tab.locator(".modal-dialog:visible")
        expect(dialog).to_contain_text("Success", timeout=STEP)
        dialog.get_by_role("button", name="Close").click()
        expect(row).to_contain_text("graded", timeout=STEP)
        expect(row.locator(".score")).to_contain_text(f"{total} / 10")

    # By hand: half a point for an idea, and a comment. Grading again keeps both.
    tab.goto(f"{here.address}/formgrader/manage_students/student02/{STEM}")
    tab.get_by_role("link", name=STEM).last.click()
    for place, text, kind in (
        ("#p01_parity_unmasked", "0.5", "grade"),
        ("#p01_solution-comment", "All but the scale is right.", "comment"),
    ):
        field = tab.locator(f"{place}[placeholder]")  # it has one when the page listens
        field.wait_for()
        with tab.expect_response(lambda r, kind=kind: saves(r, kind)) as saved:
            field.fill(text)
            field.blur()
        assert saved.value.ok
    command("autograder", "grade", STEM, "--force", folder=course.root)
    command("nbgrader", "generate_feedback", STEM, "--force", folder=course.root)
    tab.goto((course.root / "feedback" / "student02" / STEM / f"{STEM}.html").as_uri())
    text = tab.locator("body").inner_text()
    assert "Score: 5.5 / 10.0" in text
    assert "All but the scale is right." in text
