"""The engine against nbgrader's own executor: the same outputs, the same points, nothing lost."""

import gc
import logging
import re
import select
import threading
from pathlib import Path

import nbformat
import pytest
from nbgrader.api import Gradebook
from nbgrader.converters import Autograde, GenerateAssignment
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import Execute
from nbgrader.utils import determine_grade
from traitlets import TraitError
from traitlets.config import Config

from autograder import executor, process, wire
from autograder.errors import GradingError, IsolationError
from autograder.executor import Executor
from autograder.judge.interface import Interface
from autograder.limits import MB
from autograder.sandbox import Limits, Sandbox, can_isolate

# What two runs of one cell cannot repeat: where an object lies, and the number of a process.
UNREPEATABLE = [(r"0x[0-9a-f]{6,}", "0x"), (r"ipykernel_\d+", "ipykernel"), (r"<ipython-.*?>", "")]

# Each behaviour is a few cells; all of them are the cells of one notebook.
BEHAVIOURS = {
    "stdout": ["print('a', end=''); print('b')"],
    "streams": ["import sys\nprint(1); print(2, file=sys.stderr); print(3)"],
    "no_output": ["x = 1", "", "x;"],
    "result": ["1 + 1", "_ + 1", "{'a': [1, 2], 'b': None}", "None", "Out[max(Out)]"],
    "last_expression": ["x = 2\nx\nx + 1", "for i in range(2):\n    i", "'ü\\n'"],
    "display": [
        "print('before'); display(1, 'two'); print('between'); display({'x': 3}); print('after'); 4"
    ],
    "rich": [
        "from IPython.display import HTML, Markdown, JSON\ndisplay(Markdown('**a**'), JSON({'b': 1}))\n"
        "HTML('<b>c</b>')",
        "class Rich:\n    def _repr_html_(self): return '<i>r</i>'\n    def _repr_latex_(self): return '$r$'"
        "\n    def __repr__(self): return 'r'\nRich()",
    ],
    "update_display": [
        "handle = display('old', display_id='shown')",
        "handle.update('new')\ndisplay('again', display_id='shown')",
        "from IPython.display import update_display\nupdate_display('newest', display_id='shown')",
    ],
    "clear_output": [
        "from IPython.display import clear_output\nprint('gone'); clear_output(); print('kept')",
        "print('gone too'); clear_output(wait=True); print('kept too')",
        "print('stays'); clear_output(wait=True)",
    ],
    "figure": [
        "import matplotlib.pyplot as plt\nplt.figure(figsize=(2, 1))\nplt.plot([1, 2, 1]);",
        "%matplotlib inline\nfigure, axes = plt.subplots(1, 2, figsize=(2, 1))\nprint('text')",
        "plt.figure(figsize=(1, 1)); plt.show(); print('then'); plt.figure(figsize=(1, 2)); figure",
        "plt.get_fignums()",
    ],
    "error": [
        "print('first')\n1 / 0",
        "def f(n):\n    if n: return f(n - 1)\n    raise ValueError('deep', n)\nf(3)",
        "try:\n    {}['k']\nexcept KeyError as e:\n    raise RuntimeError('from') from e",
        "class Odd(Exception):\n    pass\nraise Odd",
        "assert x == 3, f'x is {x}'",
    ],
    "syntax_error": ["def f(:\n    pass", "  x = 1\n y = 2", "x = 'open", "return 5"],
    "system_exit": ["raise SystemExit(3)", "import sys\nsys.exit()"],
    "warnings": [
        "import warnings\nwarnings.warn('mine')",
        "def old():\n    warnings.warn('soon gone', DeprecationWarning, stacklevel=2)\nold(); old()",
        "def hidden():\n    warnings.warn('unseen', DeprecationWarning, stacklevel=1)",
        "import torch\ntorch.tensor(torch.ones(2))",
        "[str(f) for f in warnings.filters][-7:]",
        "eval('1 is 1')",
        "'\\d'",
    ],
    "await": [
        "import asyncio\nawait asyncio.sleep(0, 'slept')",
        "async def later(): return 7\nprint(await later())\nawait later()",
        "task = asyncio.ensure_future(later())",
        "await task",
        "coroutine = later()\ntry:\n    asyncio.run(coroutine)\nfinally:\n    coroutine.close()",
        "await asyncio.gather(later(), asyncio.sleep(0))\n1 / 0",
    ],
    "input": ["input('name? ')", "import getpass\ngetpass.getpass()"],
    "namespace": [
        "__name__, type(get_ipython().kernel).__mro__[-4].__name__, In[1], len(In)",
        "sorted(name for name in globals() if not name.startswith('_i'))",
        "import sys\n[type(sys.stdout).__mro__[1].__name__, sys.stdout.encoding, sys.stdout.isatty()]",
        "import __main__\n__main__.x == x, [a[-21:] for a in sys.argv[:2]], sys.path, len(sys.argv)",
        "import os\nos.environ['NBGRADER_EXECUTION'], os.environ['MPLBACKEND'], os.path.exists('data.txt')",
        "del x\nx",
        "_i, __, _ih[-2] == In[-2]",
    ],
    "magics": [
        "%%capture caught\nprint('caught')",
        "caught.stdout, get_ipython().execution_count",
        "%time_is_no_magic",
        "%%python3 --version",
        "%pinfo_is_no_magic 3",
        "%run missing.py",
        "?len",
    ],
    # Not os.system: what a program writes by itself, stock nbgrader catches in time by luck.
    "shell": ["!echo from the shell", "files = !ls\nfiles"],
    "logging": ["import logging\nlogging.warning('logged')"],
    "large": ["print('line of text\\n' * 20_000)", "'long' * 10_000"],
    "torch": [
        "import torch\ntorch.manual_seed(0); torch.randn(2, 3)",
        "torch.nn.Linear(2, 3)(torch.ones(4))",
        "torch.testing.assert_close(torch.zeros(2), torch.ones(2))",
        "from autograder.lab import checks\nchecks.close(torch.zeros(2), torch.ones(2), 'equal', 'ones')",
        "torch.nn.functional.softmax('x', -1)",
    ],
    "recursion": ["def down(n): return down(n - 1) if n else 1 / 0\ndown(30)"],
    "big_numbers": ["2 ** 100", "float('nan'), float('inf')"],
    "unprintable": ["'\\ud800'.encode('utf-8')", "print('nul \\x00 bell \\x07')"],
    "showtraceback": [
        "try:\n    1 / 0\nexcept ZeroDivisionError:\n    get_ipython().showtraceback()",
        "get_ipython()._showtraceback = lambda *a: None\n1 / 0",
    ],
}


def notebook(cells):
    """Make a notebook; a cell that is named in a pair is a graded one, worth a point."""
    made = nbformat.v4.new_notebook()
    made.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    for cell in cells:
        name, text = cell if isinstance(cell, tuple) else (None, cell)
        made.cells.append(nbformat.v4.new_code_cell(text))
        if name:
            flags = {"grade": True, "solution": False, "locked": True, "task": False}
            made.cells[-1].metadata.nbgrader = nbformat.from_dict(
                {"grade_id": name, "points": 1, "schema_version": 3, **flags}
            )
    return made


def repeatable(value):
    if isinstance(value, str):
        for pattern, text in UNREPEATABLE:
            value = re.sub(pattern, text, value)
        return value
    if isinstance(value, dict):
        return {key: repeatable(item) for key, item in value.items()}
    return [repeatable(item) for item in value] if isinstance(value, list) else value


def points(notebook):
    return {
        cell.metadata.nbgrader.grade_id: determine_grade(cell)[0]
        for cell in notebook.cells
        if "nbgrader" in cell.metadata
    }


def errors(cell):
    return [output.ename for output in cell.outputs if output.output_type == "error"]


def text(cell):
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def kinds(done):
    return [event.kind for event in done.events]


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(isolate=can_isolate() is None) as made:
        yield made


@pytest.fixture
def run(sandbox):
    """Run cells under limits that differ from the usual ones."""

    def run(cells, files=None, stop_after=None, **limits):
        limits = Limits(**limits)
        done = sandbox.run(notebook(cells), files or {}, stop_after=stop_after, limits=limits)
        nbformat.validate(done.notebook)
        return done

    return run


@pytest.fixture
def unrehearsed(monkeypatch):
    """Templates that start in half the time, and are slow at first."""
    start = "from autograder import template; template.REHEARSAL.clear(); template.main()"
    monkeypatch.setattr("autograder.sandbox.START", start)


@pytest.fixture(scope="module")
def both(tmp_path_factory, sandbox):
    """Every behaviour, run by nbgrader's executor and by the engine."""
    folder = tmp_path_factory.mktemp("stock")
    (folder / "data.txt").write_text("data")
    cells = [text for texts in BEHAVIOURS.values() for text in texts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NBGRADER_EXECUTION", "autograde")
        patch.delenv("PYTEST_CURRENT_TEST", raising=False)  # ipykernel captures less below pytest
        stock, _ = Execute().preprocess(notebook(cells), {"metadata": {"path": str(folder)}})
    ours = sandbox.run(notebook(cells), {"data.txt": b"data"})
    assert ours.events == []
    assert ours.notebook.metadata == stock.metadata
    pairs = iter(zip(stock.cells, ours.notebook.cells, strict=True))
    return {name: [next(pairs) for _ in texts] for name, texts in BEHAVIOURS.items()}


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_outputs_equal_stock(both, name):
    for stock, ours in both[name]:
        assert repeatable(ours.outputs) == repeatable(stock.outputs), stock.source
        assert ours.execution_count == stock.execution_count


def test_points_equal_stock(run):
    """Full, none for an error or a word on stderr, partial, too much, no number."""
    checks = {
        "full": "x = 1",
        "error": "assert False",
        "stderr": "import sys\nprint('!', file=sys.stderr)",
        "half": "0.5",
        "printed": "print('fine')\n0.25",
        "string": "'no number'",
    }
    cells = list(checks.items())
    stock, _ = Execute().preprocess(notebook(cells), {"metadata": {"path": "/"}})
    done = run(cells)
    assert points(done.notebook) == points(stock)
    assert points(stock) == {
        "full": 1, "error": 0, "stderr": 0, "half": 0.5, "printed": 0.25, "string": 1
    }  # fmt: skip


def test_interrupted_cell_equals_stock(run):
    """The kernel's KeyboardInterrupt, then nbgrader's error; ours says which limit it was."""
    cells = ["print('before')\nwhile True:\n    pass", "print('after')"]
    stock, _ = Execute(timeout=1).preprocess(notebook(cells), {"metadata": {"path": "/"}})
    done = run(cells, cell_seconds=1)
    first, second = done.notebook.cells
    assert repeatable(first.outputs[:2]) == repeatable(stock.cells[0].outputs[:2])
    assert errors(first) == errors(stock.cells[0]) == ["KeyboardInterrupt", "CellTimeoutError"]
    assert "1 s (cell_seconds)" in first.outputs[-1].evalue
    assert second.outputs == stock.cells[1].outputs
    assert kinds(done) == ["timeout"]


CRASHES = {
    "exit": "os._exit(0)",
    "status": "os._exit(3)",
    "segfault": "import ctypes; ctypes.string_at(0)",
    "kill": "import signal; os.kill(os.getpid(), signal.SIGKILL)",
    "terminate": "import signal; os.kill(os.getpid(), signal.SIGTERM)",
    "abort": "os.abort()",
}


@pytest.mark.parametrize("name", CRASHES)
def test_crash_costs_its_cell_and_what_needs_it(run, name):
    done = run(
        [
            "print('once'); display('shown'); x = [1]",
            "x.append(2)",
            f"import os\nprint('last words', flush=True)\n{CRASHES[name]}\ny = 3",
            ("free", "assert x == [1, 2]"),
            ("needs", "assert y == 3"),
            "print(len(In), In[3][:9]); x",
        ]
    )
    first, _, crashed, _, needs, last = done.notebook.cells
    assert text(first) == "once\n"
    assert [len(cell.outputs) for cell in done.notebook.cells[:4]] == [2, 0, 2, 0]
    assert text(crashed).startswith("last words\n")
    assert errors(crashed) == ["CellCrashError"]
    assert points(done.notebook) == {"free": 1, "needs": 0}
    assert errors(needs) == ["NameError"]
    assert text(last) == "7 \n"
    assert [cell.execution_count for cell in done.notebook.cells] == [1, 2, 3, 4, 5, 6]
    assert kinds(done) == ["crash"]


def test_process_that_ends_between_cells_costs_no_check(run, monkeypatch):
    """What a cell left running ends the process when that cell is done."""
    original = process.Process.run

    def wait_for_the_end(self, code, *arguments):
        ending = original(self, code, *arguments)
        if "Timer" in code:
            assert select.select([self.control], [], [], 20)[0]
        return ending

    monkeypatch.setattr(process.Process, "run", wait_for_the_end)
    late = "import os, threading\nthreading.Timer(0.2, os._exit, [1]).start()\n'fine'"
    done = run(["y = 1", late, ("free", "assert y == 1")])
    assert points(done.notebook) == {"free": 1}
    assert [len(cell.outputs) for cell in done.notebook.cells] == [0, 1, 0]
    assert kinds(done) == ["crash"]


def test_killer_is_never_run_again(run):
    """A cell that ends the process only when it is run again loses that, and keeps its outputs.

    It tells the runs apart by the cell before it, which was stopped and so is not run again.
    """
    done = run(
        [
            "import os\nx = 1",
            "first = True\nwhile True: print('x' * 1000)",
            "print('fine')\nif 'first' not in globals(): os._exit(1)\ny = 2",
            "os._exit(1)",
            ("free", "assert x == 1"),
            ("needs", "assert y == 2"),
        ],
        output_bytes=100_000,
        flood_bytes=2 * MB,
    )
    assert text(done.notebook.cells[2]) == "fine\n"
    assert errors(done.notebook.cells[2]) == []
    assert points(done.notebook) == {"free": 1, "needs": 0}
    assert kinds(done) == ["flood", "output", "crash", "crash"]
    assert "run again" in done.events[-1].message


def test_restarts_are_bounded(run):
    """What is left then is marked as not run, as a graded cell without outputs earns its points."""
    killer = "import os\nos._exit(0)"
    done = run([killer, killer, killer, ("left", "assert True"), "print('left')"], restarts=1)
    assert points(done.notebook) == {"left": 0}
    assert errors(done.notebook.cells[3]) == ["NotRunError"]
    assert kinds(done) == ["crash", "crash", "restarts"]
    assert "left" in done.events[-1].message


def test_notebook_has_its_own_limit(run):
    done = run(
        ["import time", "time.sleep(30)", ("left", "assert True")],
        notebook_seconds=1,
        grace_seconds=1,
    )
    assert errors(done.notebook.cells[1]) == ["KeyboardInterrupt", "CellTimeoutError"]
    assert points(done.notebook) == {"left": 0}
    assert kinds(done) == ["notebook", "notebook"]
    assert "1 s (notebook_seconds)" in done.notebook.cells[2].outputs[0].evalue


def test_refused_memory_is_named(run):
    done = run(
        ["x = 1", "y = bytearray(1 << 40)", ("free", "assert x == 1")], memory_bytes=500 * MB
    )
    assert errors(done.notebook.cells[1]) == ["MemoryError", "CellLimitError"]
    assert "500 MB (memory_bytes)" in done.notebook.cells[1].outputs[1].evalue
    assert points(done.notebook) == {"free": 1}
    assert kinds(done) == ["memory"]


def test_refused_memory_of_a_tensor_is_named(run):
    done = run(["import torch\ntorch.zeros(1 << 30)"], memory_bytes=500 * MB)
    assert errors(done.notebook.cells[0]) == ["RuntimeError", "CellLimitError"]
    assert kinds(done) == ["memory"]


def test_endless_recursion_is_an_error(run):
    done = run(["def f(): return f()\nf()", ("free", "assert True")])
    assert errors(done.notebook.cells[0]) == ["RecursionError"]
    assert points(done.notebook) == {"free": 1}


def test_output_is_bounded_and_decides_nothing(run):
    done = run(
        [
            ("loud", "print('x' * 3000)\nprint('y' * 3000)"),
            ("wrong", "print('x' * 3000)\nimport sys\nprint('!', file=sys.stderr)"),
            ("half", "print('x' * 3000)\n0.5"),
            ("blind", "'z' * 3000"),
            ("failed", "raise ValueError('v' * 3000)"),
        ],
        output_bytes=2048,
    )
    assert points(done.notebook) == {"loud": 1, "wrong": 0, "half": 0.5, "blind": 0, "failed": 0}
    assert text(done.notebook.cells[0]).startswith("x" * 2048 + "\n[cut here: 2 kB of")
    assert set(kinds(done)) == {"output"}


def test_stop_after(run):
    cells = ["x = 1", ("first", "assert x == 1"), "x = 2", ("second", "assert x == 2")]
    done = run(cells, stop_after="first")
    assert points(done.notebook) == {"first": 1, "second": 0}
    assert done.notebook.cells[2].execution_count is None
    assert kinds(done) == []
    with pytest.raises(GradingError, match="no code cell is called 'third'"):
        run(cells, stop_after="third")


def test_files_stand_beside_the_notebook(run):
    read = (
        "import helper; from pathlib import Path; print(helper.x, Path('sub/a.bin').read_bytes())"
    )
    files = {"helper.py": b"x = 5", "sub/a.bin": bytes(range(3)), "../out.txt": b"", "/abs": b""}
    done = run([read, "!ls; ls .."], {**files, "large.bin": bytes(3 * MB)}, file_bytes=2 * MB)
    assert text(done.notebook.cells[0]) == "5 b'\\x00\\x01\\x02'\n"
    assert "out.txt" not in text(done.notebook.cells[1])
    assert sorted(event.message.split("'")[1] for event in done.events) == [
        "../out.txt", "/abs", "large.bin",
    ]  # fmt: skip


def test_tag_does_not_skip_a_check(run, sandbox):
    made = notebook(["x = 1", ("check", "assert False")])
    for cell in made.cells:
        cell.metadata.tags = ["skip-execution"]
    done = sandbox.run(made, {})
    assert [cell.execution_count for cell in done.notebook.cells] == [None, 1]
    assert points(done.notebook) == {"check": 0}


def test_nothing_is_left_of_an_earlier_submission(run):
    """Neither names, files, modules, random numbers nor the history."""
    folders = [".", "/tmp"] if can_isolate() is None else ["."]  # else /tmp is everybody's
    look = (
        "import os, sys, random, torch, numpy as np\n"
        f"print(sorted(n for n in globals() if n[0] != '_'), [*map(os.listdir, {folders})],"
        " 'left' in sys.modules, hasattr(torch, 'mine'), random.random(), np.random.rand(),"
        " torch.rand(1), len(In))"
    )
    first = run([look])
    run(
        [
            "import sys, torch, random, os\nsys.modules['left'] = torch.mine = 1\nrandom.random()",
            f"for folder in {folders}: open(os.path.join(folder, 'file'), 'w').close()",
        ]
    )
    assert text(run([look]).notebook.cells[0]) == text(first.notebook.cells[0])


def test_forked_children_do_not_speak_for_the_notebook(run):
    cells = ["import os\npid = os.fork()\nif pid: os.waitpid(pid, 0)\npid > 0", "2"]
    done = run(cells)
    assert [len(cell.outputs) for cell in done.notebook.cells] == [1, 1]
    assert done.notebook.cells[0].outputs[0].data["text/plain"] == "True"


FORGERIES = {
    "noise": b"\xff" * 64,
    "empty": b"\x00\x00\x00\x00",
    "list": b"\x00\x00\x00\x02[]",
    "deep": wire.LENGTH.pack(2000) + b"[" * 1000 + b"]" * 1000,
    "kind": wire.pack({"kind": 5, "content": {}}),
    "done": wire.pack({"kind": "done", "content": {"status": "error", "count": 2}}),
    "count": wire.pack({"kind": "done", "content": {"status": "ok", "count": 3}}),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_message_costs_its_cell(run, name):
    forge = f"import os\nos.write(3, {FORGERIES[name]!r})\nimport time; time.sleep(20)"
    done = run(["x = 1", forge, ("free", "assert x == 1")])
    assert errors(done.notebook.cells[1]) == ["CellLimitError"]
    assert points(done.notebook) == {"free": 1}
    assert kinds(done) == ["protocol"]


@pytest.mark.parametrize(
    "content",
    [
        {"data": {"text/plain": 5}, "metadata": {}},
        {"data": [], "metadata": {}},
        {"data": {"text/plain": "x"}, "metadata": {}, "transient": 3},
        {},
    ],
)
def test_forged_output_is_left_out(run, content):
    message = wire.pack({"kind": "display_data", "content": content, "number": 10_000})
    done = run([f"import os\nx = os.write(3, {message!r})", "1"])
    assert done.notebook.cells[0].outputs == []
    assert errors(done.notebook.cells[1]) == []


@pytest.mark.usefixtures("unrehearsed")
@pytest.mark.parametrize("interface", [None, Interface.of([], {}, ["check"])], ids=["one", "pair"])
def test_template_that_dies_under_a_submission_is_tried_once_more(sandbox, monkeypatch, interface):
    trials = []
    original = process.Process.run

    def kill_first(self, *arguments, **named):
        trials.append(1)
        if len(trials) == 1:
            sandbox._process.kill()
            select.select([self.control], [], [])  # until what serves submissions is gone, too
        return original(self, *arguments, **named)

    monkeypatch.setattr(process.Process, "run", kill_first)
    cells = ["answer = 1", ("check", "assert True")]
    done = sandbox.run(notebook(cells), {}, interface=interface)
    assert points(done.notebook) == {"check": 1}
    assert len(trials) == 3  # of the first cell two
    gc.collect()  # a socket that was left open is a warning, and so an error


@pytest.mark.usefixtures("unrehearsed")
def test_template_that_died_is_replaced(run, sandbox):
    sandbox._process.kill()
    sandbox._process.wait()
    assert points(run([("check", "assert True")]).notebook) == {"check": 1}


def test_host_that_cannot_isolate_refuses(monkeypatch):
    monkeypatch.setattr("autograder.sandbox.can_isolate", lambda: "run this")
    with Sandbox() as refusing, pytest.raises(IsolationError, match="run this"):
        refusing.run(notebook(["1"]), {})


@pytest.mark.usefixtures("unrehearsed")
def test_limits_hold_without_isolation():
    """Where nothing else can be promised: an endless call is killed, nothing is left behind."""
    left = (
        "subprocess.Popen(['sleep', '98764'], start_new_session=True)\nos.fork() or time.sleep(999)"
    )
    with Sandbox(isolate=False) as open_one:
        done = open_one.run(
            notebook(
                [
                    f"import os, subprocess, time\n{left}",
                    "import collections, itertools\ncollections.deque(itertools.repeat(0), maxlen=0)",
                    "import threading\n"
                    "while True: threading.Thread(target=threading.Event().wait).start()",
                    ("check", "assert os.getcwd()"),
                ]
            ),
            {},
            limits=Limits(cell_seconds=1, grace_seconds=0.5, processes=20),
        )
        open_one.run(notebook(["1"]), {})  # starts when the last process of the one before is gone
    assert not done.isolated
    assert kinds(done) == ["timeout", "processes"]
    assert points(done.notebook) == {"check": 1}
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not any(b"98764" in line for line in lines)


@pytest.fixture
def classroom(tmp_path):
    """A small assignment, and two who submitted: one is right, the other's answer exits."""
    solution = notebook(["### BEGIN SOLUTION\nx = 1\n### END SOLUTION"]).cells[0]
    solution.metadata.nbgrader = nbformat.from_dict(
        {"grade_id": "answer", "grade": False, "solution": True, "locked": False, "task": False,
         "schema_version": 3}
    )  # fmt: skip
    checks = [("right", "assert x == 1"), ("partial", "x / 2"), ("file", "open('data.txt').read()")]
    source = notebook(checks)
    source.cells.insert(0, solution)
    folder = tmp_path / "source" / "ps"
    folder.mkdir(parents=True)
    nbformat.write(source, folder / "ps.ipynb")
    (folder / "data.txt").write_text("data")
    config = Config({"ClearSolutions": {"code_stub": {"python": "pass"}}})
    config.CourseDirectory.root = str(tmp_path)
    convert(GenerateAssignment, config, student=".")
    released = nbformat.read(tmp_path / "release" / "ps" / "ps.ipynb", as_version=4)
    for student, answer in {"student01": "x = 1", "student02": "import os\nos._exit(0)"}.items():
        released.cells[0].source = answer
        place = tmp_path / "submitted" / student / "ps"
        place.mkdir(parents=True)
        nbformat.write(released, place / "ps.ipynb")
        (place / "link.txt").symlink_to(tmp_path / "gradebook.db")
    return tmp_path, config


def convert(step, config, student):
    directory = CourseDirectory(config=config, assignment_id="ps", student_id=student)
    converter = step(coursedir=directory, config=config, force=True)
    converter.log.setLevel("CRITICAL")
    converter.start()


@pytest.fixture
def ours(sandbox, monkeypatch):
    """Let the preprocessor use this module's sandbox, which is warm."""
    monkeypatch.setattr(executor, "shared", lambda isolate: sandbox)


def test_nbgrader_runs_the_engine(classroom, ours):
    """nbgrader's own steps record the same points with its executor and with ours."""
    root, config = classroom
    steps = [
        "nbgrader.preprocessors.IgnorePattern",
        "nbconvert.preprocessors.ClearMetadataPreprocessor",
        "nbgrader.preprocessors.LimitOutput",
        "nbgrader.preprocessors.SaveAutoGrades",
        "nbgrader.preprocessors.AssignLatePenalties",
        "nbgrader.preprocessors.CheckCellMetadata",
    ]

    def grade(name, student):
        config.Autograde.autograde_preprocessors = [name, *steps]
        convert(Autograde, config, student)
        with Gradebook(f"sqlite:///{root}/gradebook.db") as book:
            grades = book.find_submission_notebook("ps", "ps", student).grades
            return {grade.name: grade.score for grade in grades}

    stock = grade("nbgrader.preprocessors.Execute", "student01")
    assert grade("autograder.executor.Executor", "student01") == stock
    assert stock == {"right": 1, "partial": 0.5, "file": 1}
    crashed = grade("autograder.executor.Executor", "student02")
    assert crashed == {"right": 0, "partial": 0, "file": 1}
    graded = nbformat.read(root / "autograded" / "student02" / "ps" / "ps.ipynb", as_version=4)
    assert errors(graded.cells[0]) == ["CellCrashError"]


def test_links_are_not_followed(tmp_path):
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "kept.txt").write_text("kept")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "up").symlink_to(tmp_path)
    (folder / "ps.ipynb").write_text("{}")
    assert executor.beside({"metadata": {"path": str(folder)}}, 100) == {"sub/kept.txt": b"kept"}


def test_events_reach_resources_and_log(ours, caplog):
    step = Executor(timeout=1, log=logging.getLogger("steps"))
    resources = {"nbgrader": {"student": "student01"}}
    done, resources = step(notebook([("slow", "while True: pass")]), resources)
    assert points(done) == {"slow": 0}
    assert [event["kind"] for event in resources["autograder"]["events"]] == ["timeout"]
    assert "student01: slow: " in caplog.text
    assert "1 s (cell_seconds)" in caplog.text


def test_limits_are_configured_by_name():
    step = Executor(limits={"memory_bytes": 5, "cell_seconds": 3}, timeout=9)
    assert step.chosen_limits() == Limits(memory_bytes=5, cell_seconds=3)
    assert Executor(timeout=9).chosen_limits() == Limits(cell_seconds=9)


@pytest.mark.parametrize(
    "wrong", [{"memory": 5}, {"processes": 0}, {"processes": 1.5}, {"processes": True}]
)
def test_wrong_limits_are_refused(wrong):
    with pytest.raises(TraitError, match=next(iter(wrong))):
        Executor(limits=wrong)


def test_elsewhere_nbgraders_executor_does_the_work(monkeypatch):
    monkeypatch.setattr(executor.sys, "platform", "darwin")
    monkeypatch.setattr(Execute, "preprocess", lambda self, nb, resources, km: ("stock", resources))
    made = notebook(["1"])
    done, resources = Executor().preprocess(made, {})
    assert done == "stock"
    assert resources["autograder"]["isolated"] is made.metadata.autograder["isolated"] is False


def test_close_ends_what_another_thread_runs(sandbox, monkeypatch):
    started, said = threading.Event(), []
    original = process.Process.run

    def tell(self, *arguments):
        started.set()
        return original(self, *arguments)

    def run():
        with pytest.raises(GradingError) as raised:
            sandbox.run(notebook(["while True: pass"]), {})
        said.append(raised.value)

    monkeypatch.setattr(process.Process, "run", tell)
    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(60)
    sandbox.close()
    thread.join(60)
    assert said
    assert sandbox._process is None
