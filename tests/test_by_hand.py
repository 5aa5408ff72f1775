"""A library call that would be the answer: in the answer's process it raises, by whatever name."""

import subprocess
import sys

import judged
import pytest

from autograder.judge import by_hand
from autograder.judge.interface import Interface
from autograder.lab import checks
from autograder.sandbox import Sandbox, can_isolate

SET_UP = """
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.functional import scaled_dot_product_attention as imported_before

BY_HAND = [
    "torch.nn.functional.scaled_dot_product_attention",
    "torch.nn.functional.multi_head_attention_forward",
    "torch.nn.MultiheadAttention",
    "torch.nn.TransformerEncoderLayer.__init__",
    "torch.bmm",
    "xml.dom.minidom.parseString",
]
q = torch.ones(1, 2, 3, 4)
"""
ATTENTION = "torch.nn.functional.scaled_dot_product_attention"
# Ways to the library's own attention: cells before the function, and what the function returns.
WAYS = {
    "name": ("", "F.scaled_dot_product_attention(q, q, q)"),
    "full_name": ("", "torch.nn.functional.scaled_dot_product_attention(q, q, q)"),
    "alias": ("from torch.nn import functional as G", "G.scaled_dot_product_attention(q, q, q)"),
    "imported_before": ("", "imported_before(q, q, q)"),
    "captured": ("captured = F.scaled_dot_product_attention", "captured(q, q, q)"),
    "lambda": ("later = lambda q: F.scaled_dot_product_attention(q, q, q)", "later(q)"),
    "partial": (
        "import functools\nheld = functools.partial(F.scaled_dot_product_attention, q, q)",
        "held(q)",
    ),
    "getattr": ("", "getattr(F, 'scaled_dot_' + 'product_attention')(q, q, q)"),
    "vars": ("", "vars(F)['scaled_dot_product_attention'](q, q, q)"),
    "importlib": (
        "import importlib",
        "importlib.import_module('torch.nn.functional').scaled_dot_product_attention(q, q, q)",
    ),
    "sys_modules": (
        "import sys", "sys.modules['torch.nn.functional'].scaled_dot_product_attention(q, q, q)"
    ),
    "compiled": ("", "torch._C._nn.scaled_dot_product_attention(q, q, q)"),
    "ops": ("", "torch.ops.aten.scaled_dot_product_attention(q, q, q)"),
    "overload": ("", "torch.ops.aten.scaled_dot_product_attention.default(q, q, q)"),
    "kernel": ("", "torch._scaled_dot_product_attention_math(q, q, q)[0]"),
    "flash": ("", "torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, q, q)[0]"),
    "functions": ("", "torch._C._VariableFunctions._scaled_dot_product_attention_math(q, q, q)[0]"),
    "operation": (
        "",
        "torch._C._jit_get_operation('aten::scaled_dot_product_attention')[0](q, q, q)",
    ),
    "method": (
        "class Own(nn.Module):\n    def forward(self, q):\n"
        "        return F.scaled_dot_product_attention(q, q, q)",
        "Own()(q)",
    ),
}  # fmt: skip
# Ways to the other names.
OTHERS = {
    "class": ("nn.MultiheadAttention(4, 2)(q[0], q[0], q[0])[0]", "torch.nn.MultiheadAttention"),
    "subclass": (
        "type('Own', (nn.MultiheadAttention,), {})(4, 2)(q[0], q[0], q[0])[0]",
        "torch.nn.MultiheadAttention",
    ),
    "init": ("nn.TransformerEncoderLayer(4, 2)(q[0])", "torch.nn.TransformerEncoderLayer.__init__"),
    "python_function": (
        "torch.nn.functional.multi_head_attention_forward(q)",
        "torch.nn.functional.multi_head_attention_forward",
    ),
    "built_in": ("torch.bmm(q[0], q[0].mT)", "torch.bmm"),
    "built_in_operator": ("torch.ops.aten.bmm(q[0], q[0].mT)", "torch.bmm"),
    "imported_later": (
        "__import__('xml.dom.minidom').dom.minidom.parseString('<a/>').nodeName",
        "xml.dom.minidom.parseString",
    ),
}
FREE = {
    "softmax": "(q @ q.mT / 2).softmax(-1) @ q",
    "linear": "nn.Linear(4, 4)(q)",
    "layer_norm": "F.layer_norm(q, (4,))",
    "matmul": "torch.matmul(q, q.mT)",
    "einsum": "torch.einsum('bhqd,bhkd->bhqk', q, q)",
}


@pytest.fixture(scope="module")
def called():
    """Call every way as an answer's function; give the errors by name."""
    lines = {name: line for name, (_, line) in WAYS.items()}
    lines |= {name: line for name, (line, _) in OTHERS.items()} | FREE
    solution = [before for before, _ in WAYS.values()]
    solution += [f"def way_{name}(q):\n    return {line}" for name, line in lines.items()]
    made = judged.notebook(
        {name: f"found = way_{name}(q)" for name in lines}, "\n\n\n".join(solution), SET_UP
    )
    with Sandbox(isolate=can_isolate() is None) as sandbox:
        done = sandbox.run(made, {}, interface=Interface.of_source(made))
    assert not judged.errors(done.notebook.cells[1])
    return dict(zip(lines, map(judged.errors, done.notebook.cells[2:]), strict=True))


@pytest.mark.parametrize("name", WAYS)
def test_every_way_to_a_function_is_refused(called, name):
    assert called[name] == {
        "AssertionError": f"{ATTENTION} is the answer itself: write this yourself."
    }


@pytest.mark.parametrize("name", OTHERS)
def test_classes_and_modules_that_come_later_are_refused(called, name):
    _, refused = OTHERS[name]
    assert called[name] == {
        "AssertionError": f"{refused} is the answer itself: write this yourself."
    }


@pytest.mark.parametrize("name", FREE)
def test_all_else_may_be_called(called, name):
    assert called[name] == {}


def test_checks_of_a_student_say_the_same():
    """`checks.by_hand` in a graded cell, for those who run the checks themselves."""
    import torch
    import torch.nn.functional as F

    with checks.by_hand(ATTENTION), pytest.raises(AssertionError) as raised:
        F.scaled_dot_product_attention(*[torch.ones(1, 1, 2)] * 3)
    assert str(raised.value) == f"{ATTENTION} is the answer itself: write this yourself."


def test_kernels_are_those_that_carry_the_name():
    assert by_hand.is_kernel("_scaled_dot_product_attention_math", "scaled_dot_product_attention")
    assert by_hand.is_kernel("_bmm", "bmm")
    assert not by_hand.is_kernel("baddbmm", "bmm")
    assert not by_hand.is_kernel("layer_norm", "group_norm")


def test_unknown_name_is_said():
    code = "from autograder.judge.by_hand import refuse; refuse(['torch.nn.functional.nothing'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "nothing" in done.stderr.splitlines()[-1]
