"""The judge against one process: the same cells give the same outputs; forged answers cost a cell.

Every behaviour is a check that calls what a solution defines. All of them are run twice, in one
process and with a judge, and what they print and raise has to be equal.
"""

import judged
import pytest
from nbgrader.utils import determine_grade

from autograder.judge.interface import Interface
from autograder.sandbox import Limits, Sandbox, can_isolate

VALUES, ERRORS = judged.cells(judged.VALUES), judged.cells(judged.ERRORS)


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(isolate=can_isolate() is None) as made:
        yield made


@pytest.fixture(scope="module")
def both(sandbox):
    """Every behaviour in one process, and with a judge."""
    made = judged.notebook(VALUES | ERRORS)
    alone = sandbox.run(made, {})
    apart = sandbox.run(made, {}, interface=Interface.of_source(made))
    assert apart.events == []
    pairs = zip(alone.notebook.cells, apart.notebook.cells, strict=True)
    return {cell.metadata.nbgrader.grade_id: (cell, other) for cell, other in pairs}


@pytest.mark.parametrize("name", VALUES | ERRORS)
def test_judge_equals_one_process(both, name):
    alone, apart = both[name]
    assert judged.outputs(apart) == judged.outputs(alone)
    assert determine_grade(apart) == determine_grade(alone)
    assert bool(judged.errors(alone)) == (name in ERRORS)


def test_checks_run_where_no_answer_ran(sandbox):
    """What an answer patches is not patched there, and its names are proxies."""
    solution = "import builtins, torch\nbuiltins.mark = torch.mark = 1\ndef double(x): return mark"
    checks = {
        "clean": "import builtins, torch\nassert not hasattr(torch, 'mark')\n"
        "assert not hasattr(builtins, 'mark')",
        "proxy": "assert type(double).__name__ == 'RemoteFunction' and double(2) == 1",
    }
    made = judged.notebook(checks, solution, "x = 1")
    done = sandbox.run(made, {}, interface=Interface.of_source(made))
    assert [judged.errors(cell) for cell in done.notebook.cells] == [{}] * 4


# What an answer's process may do in the place of answering: it holds the line's end, and knows the
# question. Each is the body of `double`; with the name of the error that its check ends in, and
# words of that error.
FORGER = """
import json, os, struct, sys, threading, time
import torch
from torch import Tensor, nn
from autograder.judge.link import Link
from autograder.judge.values import HEAD, Writer

LINE = 4


def question():
    frame = sys._getframe()
    while "question" not in frame.f_locals:
        frame = frame.f_back
    return frame.f_locals["question"]


def send(tree, described=(), raw=b"", sizes=()):
    text = json.dumps([tree, list(described), list(sizes)]).encode()
    os.write(LINE, HEAD.pack(len(text), len(raw)) + text + raw)


def reply(**content):
    send({"number": question()["number"], "said": {}, **content})


class Int(int):
    pass


class Dict(dict):
    pass


class Text(str):
    def __eq__(self, other):
        return True
    __hash__ = str.__hash__


class Agreeing:
    def __eq__(self, other):
        return True
    __class__ = property(lambda self: Tensor)


class Sub(Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return True


def double(x):
    return 2 * x


def change(x) -> None:
    x += 1


def made() -> nn.Module:
    return nn.Linear(2, 2)
"""
FORGED = {
    "noise": ("os.write(LINE, b'\\xff' * 64)", "ProtocolError", "a message of at most"),
    "flood": (
        "while True: os.write(LINE, b'\\xff' * (1 << 16))", "ProtocolError", "a message of at most"
    ),
    "no_json": ("os.write(LINE, HEAD.pack(5, 0) + b'noise')", "ProtocolError", "plain data"),
    "lie_about_the_size": ("os.write(LINE, HEAD.pack(2000, 1 << 28))", "CellTimeoutError", "1 s"),
    "lie_about_a_tensor": (
        "send({'number': 1}, [['float32', [1000, 1000], 0, False]], bytes(8), [8])",
        "ProtocolError", "float32 of shape",
    ),
    "one_block_for_many": (
        "send({'number': 1}, [['uint8', [8], 0, False]] * 1000, bytes(8), [8])",
        "ProtocolError", "each block of bytes once",
    ),
    "half_a_message": (
        "os.write(LINE, HEAD.pack(100, 0) + b'[' * 50); os._exit(0)", "CellCrashError", "status 0"
    ),
    "close": ("os.write(LINE, HEAD.pack(100, 0)); os.close(LINE)", "CellCrashError", "status 0"),
    "wrong_number": ("send({'number': 99, 'said': {}, 'value': 4})", "ProtocolError", "got 99"),
    "no_number": ("send({'number': True, 'said': {}, 'value': 4})", "ProtocolError", "got True"),
    "no_answer": ("send(['list', [1, 2]])", "ProtocolError", "expected an answer"),
    "no_value": ("reply()", "ProtocolError", "a value or an error"),
    "too_deep": (
        "tree = 4\nfor _ in range(100): tree = ['list', [tree]]\nreply(value=tree)",
        "ProtocolError", "deep",
    ),
    "much_too_deep": (
        "os.write(LINE, HEAD.pack(200_000, 0) + b'[' * 200_000)", "ProtocolError", "plain data"
    ),
    "too_many": ("reply(value=['list', [0] * 1_100_000])", "ProtocolError", "1000000 items"),
    "too_large": ("os.write(LINE, HEAD.pack(100, (1 << 30)))", "ProtocolError", "at most"),
    "no_kind": ("reply(value=['os.system', 'true'])", "ProtocolError", "a kind of plain data"),
    "no_class": (
        "reply(value=['library', ['autograder.lab.training', 'fit', {}]])",
        "ProtocolError", "a dataclass",
    ),
    "object_unasked": ("reply(value=['ref', ['module', 1]])", "ProtocolError", "plain data"),
    "change_of_nothing": (
        "reply(value=4, mutated=['list', [['list', [5, 1]]]])", "ProtocolError", "an argument"
    ),
    "parts_of_nothing": ("reply(value=4, structures=['list', [7]])", "ProtocolError", "parts"),
    "no_error": ("reply(error={'kinds': 5})", "ProtocolError", "an error"),
    "no_frames": (
        "reply(error={'kinds': ['list', ['ValueError']], 'text': 'x', 'notes': ['list', []],"
        " 'codes': ['list', []], 'sources': {}, 'frames': ['list', [['list', [3, 1, 1]]]]})",
        "ProtocolError", "its frames",
    ),
    "tensor_subclass": ("return torch.ones(2).as_subclass(Sub)", "TypeError", "got __main__.Sub"),
    "pretender": ("return Agreeing()", "TypeError", "got __main__.Agreeing"),
    "int_subclass": ("return Int(4)", "TypeError", "got __main__.Int"),
    "dict_subclass": ("return [Dict()]", "TypeError", "got __main__.Dict"),
    "agreeing_text": ("return {'a': Text('b')}", "TypeError", "got __main__.Text"),
    "module_unasked": ("return nn.Linear(2, 2)", "TypeError", "Linear"),
    "sparse": ("return torch.eye(2).to_sparse()", "TypeError", "a dense tensor"),
    "meta": ("return torch.empty(2, device='meta')", "NotImplementedError", "meta"),
    "itself": ("x = [1]; x.append(x); return x", "TypeError", "60 containers"),
    "long_number": ("return 10 ** 5000", "TypeError", "10000 bits"),
    "long_text": ("return 'x' * (17 << 20)", "ValueError", "more than a check can read"),
    "sleep": ("time.sleep(1000)", "CellTimeoutError", "1 s"),
    "stubborn_sleep": (
        "while True:\n    try: time.sleep(1000)\n    except BaseException: pass",
        "CellTimeoutError", "1 s",
    ),
    "exit": ("os._exit(3)", "CellCrashError", "status 3"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_forged_answer_costs_its_check(sandbox, name):
    """A check that asks for it fails by a named reason; the next one, which does not, passes."""
    body, error, words = FORGED[name]
    attack = "def double(x):\n    " + body.replace("\n", "\n    ") + "\n    return 4"
    checks = {"hit": "assert double(2) == 4", "free": "assert torch.ones(2).sum() == 2"}
    made = judged.notebook(checks, f"{FORGER}\n\n{attack}", "import torch")
    limits = Limits(cell_seconds=1 if error == "CellTimeoutError" else 60, grace_seconds=0.5)
    done = sandbox.run(made, {}, interface=Interface.of_source(made), limits=limits)
    *_, hit, free = done.notebook.cells
    assert words in judged.errors(hit)[error]
    assert [determine_grade(cell)[0] for cell in (hit, free)] == [0, 1]


def test_second_answer_costs_the_next_check(sandbox):
    """What came unasked is the answer to no question."""
    attack = "def double(x):\n    reply(value=4)\n    return 4"
    checks = {
        "first": "assert double(2) == 4",
        "second": "assert double(2) == 4",
        "third": "double(2)",
        "free": "assert True",
    }
    made = judged.notebook(checks, f"{FORGER}\n\n{attack}", "import torch")
    done = sandbox.run(made, {}, interface=Interface.of_source(made))
    assert [determine_grade(cell)[0] for cell in done.notebook.cells[2:]] == [1, 0, 0, 1]
    for cell in done.notebook.cells[3:5]:
        assert "sent what is no answer" in judged.errors(cell)["ProtocolError"]


def test_interrupted_check_shows_where_the_answer_was(sandbox):
    solution = "import time\ndef double(x):\n    while True:\n        time.sleep(0.01)"
    made = judged.notebook({"slow": "double(2)", "free": "assert True"}, solution)
    done = sandbox.run(made, {}, interface=Interface.of_source(made), limits=Limits(cell_seconds=1))
    slow, free = done.notebook.cells[2:]
    assert list(judged.errors(slow)) == ["KeyboardInterrupt", "CellTimeoutError"]
    shown = judged.outputs(slow)[0]["traceback"]
    assert "In[3], line 1\n----> 1 double(2)" in shown
    assert "in double(x)\n      2 def double(x):\n      3     while True:" in shown
    assert "autograder" not in shown
    assert determine_grade(free)[0] == 1


def test_frames_show_no_file_of_the_judge(sandbox):
    """A student names the judge's own files as the source of a frame."""
    told = (
        "def double(x):\n"
        "    code = ['list', [PLACE, 'f', 'f', 1, ['list', []], None, None, False]]\n"
        "    reply(error={'kinds': ['list', ['ValueError']], 'text': 'x', 'args': None,\n"
        "        'notes': ['list', []], 'quiet': False, 'codes': ['list', [code]],\n"
        "        'frames': ['list', [['list', [0, 1, 1]]]],\n"
        "        'sources': {PLACE: ['list', [None, 'another line']]}})"
    )
    made = judged.notebook(
        {"hit": "double(2)"}, f"{FORGER}\nPLACE = 'secret.txt'\n\n{told}", "import torch"
    )
    files = {"secret.txt": b"the secret line\n"}
    done = sandbox.run(made, files, interface=Interface.of_source(made), own=files)
    shown = judged.outputs(done.notebook.cells[2])[0]["traceback"]
    assert "secret.txt" in shown
    assert "the secret line" not in shown
