"""What a submission does to the machinery around it is named, and no honest one is."""

import json
from types import ModuleType, SimpleNamespace

import pytest
from conftest import ROOT
from nbformat.v4 import new_notebook

from autograder import answers, mutants, notebooks, report, tampering, witness
from autograder.course import Course
from autograder.judge.interface import Interface
from autograder.process import Ending
from autograder.sandbox import Sandbox, can_isolate
from autograder.scaffold import code_cell

COURSE = Course(ROOT)
# All other answers are looked at where they are graded, in test_problems.
STEMS = [stem for stem in COURSE.stems if stem.startswith(("p01", "p02"))]
EACH = 5  # wrong answers of a problem
SOLUTION = "def double(x):\n    return 2 * x"
CHECKS = ["assert double(2) == 4", "assert double(3) == 6"]


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(isolate=can_isolate() is None) as found:
        yield found


def events(done):
    return [event.message.removeprefix("tampering: ") for event in done.events]


def seen(
    sandbox, cell, files=None, setup="import math\nimport torch\nfrom autograder.lab import checks"
):
    """Run a notebook of a set-up, a student's cell and two checks; give what was seen."""
    cells = [
        code_cell("setup", setup, "p00_setup"),
        code_cell("solution", cell, "p00_solution", solution=True),
        *(code_cell(f"check{n}", text, f"p00_{n}", points=1) for n, text in enumerate(CHECKS)),
    ]
    notebook = notebooks.canonical(new_notebook(cells=cells))
    interface = Interface.of_source(notebook)
    return events(sandbox.run(notebook, files or {}, interface=interface, own=[]))


def honest():
    for stem in STEMS:
        known = answers.load(COURSE, stem)
        wrong = [answer for answer in known if answer.fails]
        for answer in [a for a in known if not a.fails] + wrong[:: max(1, len(wrong) // EACH)]:
            yield pytest.param(answer, id=answer.label)


@pytest.mark.parametrize("answer", list(honest()))
def test_honest_answers_are_not_named(sandbox, answer):
    source = mutants.bare(notebooks.read(COURSE.source(answer.stem)))
    files, interface = COURSE.files(answer.stem), Interface.of_source(source)
    notebook = answers.fill(source, answer)
    done = sandbox.run(notebook, files, stop_after=answer.fails, interface=interface, own=files)
    assert events(done) == []


@pytest.mark.parametrize(
    "cell",
    [
        "import collections, dataclasses, enum, functools, logging, typing, warnings\n"
        "Pair = collections.namedtuple('Pair', 'left right')\n"
        "class Kind(enum.Enum):\n    ONE = 1\n"
        "class Row(typing.NamedTuple):\n    a: int\n"
        "logging.getLogger('mine').debug('text')\n"
        "warnings.simplefilter('ignore')\n"
        "@dataclasses.dataclass\nclass Point:\n    x: float = 0.0\n"
        "@functools.lru_cache\n",
        "%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()\n",
        "torch.set_default_dtype(torch.float32)\ntorch.set_num_threads(1)\n"
        "torch.set_printoptions(precision=3)\ntorch.manual_seed(1)\n",
        "with checks.by_hand('torch.nn.functional.softmax'):\n    pass\n",
        "import gc, threading\ngc.collect()\nthreading.Thread(target=print).start()\n",
        "sum = 0\nmax = 3\nF = 12\n",
        "%load_ext autoreload\n%autoreload 2\n",
        "from pathlib import Path\nPath('notes.txt').write_text('x')\nopen('notes.txt').read()\n",
        "torch.set_default_device('cpu')\nmodel = torch.nn.Linear(2, 2)\n"
        "model.forward = lambda x: x\nmodel.register_forward_hook(lambda *_: None)\n",
    ],
)
def test_ordinary_notebooks_are_not_named(sandbox, cell):
    assert seen(sandbox, cell + SOLUTION) == []


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("torch.allclose = print", "replaced torch.allclose"),
        ("vars(torch)['allclose'] = print", "replaced torch.allclose"),
        ("del torch.allclose", "replaced torch.allclose"),
        ("kept = torch.equal\ntorch.equal = print\ntorch.equal = kept", "replaced torch.equal"),
        ("torch.Tensor.all = print", "replaced torch.Tensor.all"),
        ("import builtins\nbuiltins.zip = print", "replaced builtins.zip"),
        ("from unittest import mock\nmock.patch('math.sqrt').start()", "replaced math.sqrt"),
        ("checks.close.__defaults__ = ()", "what is inside"),
        ("checks.TOLERANCE.clear()", "replaced checks.TOLERANCE"),
        ("import gc\ngc.get_objects()", "used gc.get_objects"),
        ("import sys\nsys.settrace(print)\nsys.settrace(None)", "used sys.settrace"),
        ("import inspect\ninspect.stack()", "used sys._getframe"),
        ("open('other.ipynb', 'w')", "opened"),
        ("get_ipython().run_cell = print", "replaced get_ipython().run_cell"),
        ("get_ipython().ast_transformers.append(lambda tree: tree)", "ast_transformers"),
        ("torch.__class__ = type(math)", "replaced torch.__class__"),
    ],
)
def test_what_a_cell_changes_is_named(sandbox, cell, said):
    found = seen(sandbox, f"{cell}\n{SOLUTION}")
    assert any(said in text for text in found), found


def test_what_a_call_changes_and_puts_back_is_named(sandbox):
    call = "    kept = torch.allclose\n    torch.allclose = print\n    torch.allclose = kept\n"
    assert seen(sandbox, SOLUTION.replace("    return", f"{call}    return")) == [
        "replaced torch.allclose"
    ]


def test_files_in_the_place_of_a_library_are_named(sandbox):
    assert seen(sandbox, SOLUTION, {"torch/__init__.py": b"", "data.csv": b""}) == [
        "came with torch/__init__.py, which Python would load in the place of a library"
    ]


def test_each_thing_is_named_once_in_the_cell_that_did_it(sandbox):
    cells = [code_cell("s", f"import torch\n{SOLUTION}\ntorch.equal = print", "s", solution=True)]
    cells.append(code_cell("c", CHECKS[0], "c", points=1))
    notebook = notebooks.canonical(new_notebook(cells=cells))
    done = sandbox.run(notebook, {}, interface=Interface.of_source(notebook))
    assert [(e.cell, e.kind, e.message) for e in done.events] == [
        ("s", "tampering", "tampering: replaced torch.equal")
    ]
    assert tampering.of_record(done.record()) == [("s", "replaced torch.equal")]


def test_notes_are_put_into_words_that_are_ours():
    assert tampering.text("replaced", "torch.equal") == "tampering: replaced torch.equal"
    assert "<b>" not in tampering.text("opened", "\x1b[2J&;" * 100)
    assert len(tampering.text("opened", "x" * 1000)) < 160
    for forged in (None, 3, [], "student02 is a cheat"):
        assert tampering.text(forged, "x") == "tampering: sent its grader what is no output"


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        (Ending(None, "", 0), "ended its own process"),
        (Ending(None, "", 3 << 8), "ended its own process"),
        (Ending(None, "", 70 << 8), None),  # our own, for whatever reason
        (Ending(None, "", 9), None),  # the host may have run out of memory
        (Ending(None, "timeout", 0), None),
        (Ending(None, "protocol", None), "sent its grader what is no output"),
        (Ending({"status": "ok"}, "", 0), None),
        (
            Ending({"status": "error", "ename": "ProtocolError", "evalue": "what is no answer: x"}),
            "sent the judge what is no answer",
        ),
    ],
)
def test_ends_say_what_they_show(ending, said):
    assert tampering.of_ending(ending) == ([f"tampering: {said}"] if said else [])


def test_report_names_who_tampered():
    quiet = report.Result("ada", {"c": (1, 1)})
    named = report.Result("bob", {"c": (0, 1)}, tampering=[("c", "replaced <torch.equal>")])
    page = report.page("p01", [quiet, named])
    assert "<h2>Tampering</h2>" in page
    assert "replaced &lt;torch.equal&gt;" in page
    assert "1 that tampered" in report.summary([quiet, named])
    assert "Tampering" not in report.page("p01", [quiet])
    assert "tampered" not in report.summary([quiet])


def test_table_shows_tampering_before_all_else():
    from autograder.cli import _scores

    event = {"cell": "c", "kind": "crash", "message": "lost"}
    outcome = SimpleNamespace(
        student="bob", status="graded", score=0, possible=1, fault="", reasons={"c": "wrong"},
        record={"n": {"events": [event]}}, tampering=[("c", "replaced sys.modules[torch]")],
    )  # fmt: skip
    cells = [next(iter(column.cells)) for column in _scores("p01", [outcome]).columns]
    assert cells[-1] == r"tampering: replaced sys.modules\[torch]"
    assert json.dumps(outcome.tampering)


@pytest.mark.parametrize("tagged", [True, False])
@pytest.mark.parametrize(
    "make",
    [lambda: ModuleType("owner"), lambda: type("Owner", (dict,), {})],
    ids=["module", "class"],
)
def test_places_know_what_was_replaced(monkeypatch, make, tagged):
    """Also where Python keeps no number of a dict's changes."""
    monkeypatch.setattr(witness, "TAGGED", witness.TAGGED and tagged)
    owner = make()
    owner.first, owner.second, owner.number = print, len, 1
    place = witness.Place("owner", owner)
    assert list(place.replaced()) == []
    owner.number, owner.first = 2, max
    del owner.second
    owner.get = min  # of a class it hides what the base has
    hidden = ["get"] if isinstance(owner, type) else []
    assert list(place.replaced()) == ["first", "second", *hidden]
    assert list(place.replaced()) == []
