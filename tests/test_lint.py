"""What a check may not do, each found in its line."""

import pytest
from nbformat.v4 import new_notebook

from autograder import notebooks
from autograder.course import Course
from autograder.judge import lint
from autograder.scaffold import code_cell

SET_UP = "import torch\nfrom autograder.lab import checks\nfrom autograder.lab.training import fit"
SET_UP += "\n\n\ndef loss(model, batch):\n    return model(batch).sum()"
SOLUTION = "def double(x):\n    return 2 * x\n\n\nclass Net(torch.nn.Module):\n    pass"
GOOD = """
x = torch.ones(2, requires_grad=True)
for factor in (2.0,):
    out = double(x)
    checks.close(out, factor * x.detach(), "double")
assert type(out) is torch.Tensor or out is not None
model = Net()
fit(model, loss, [x], 3)
torch.autograd.gradcheck(double, (x.double(),))
checks.raises(ValueError, lambda: double(None), "nothing to double")
"""
BAD = {
    "assert not x > y": "NaN passes",
    "assert torch.allclose(double(x), y)": "it broadcasts",
    "assert double(x).allclose(y)": "it broadcasts",
    "double(x).stride()": "no strides",
    "assert double(x) is not x": "no identity",
    "import inspect": "sees the proxy",
    "double(lambda: x)": "gets a function of a check",
    "def f(m, b):\n    return x\nfit(Net(), f, [x], 3)": "gets a function of a check",
    "torch.autograd.grad(double(x).sum(), x, create_graph=True)": "second derivatives",
    "Net().register_forward_hook(print)": "a hook stays",
    "torch.func.grad(double)(x)": "torch.func",
    "double.__code__": "code does not cross",
    "scratch + 1": "defines scratch",
}


def problem(check):
    cells = [
        code_cell("setup", SET_UP, "p01_setup"),
        code_cell("scratch", "scratch = 1"),
        code_cell("solution", SOLUTION, "p01_solution", solution=True),
        code_cell("check", "x = y = torch.ones(2)", "p01_check_first", points=1),
        code_cell("second", check, "p01_check_second", points=9),
    ]
    return notebooks.canonical(new_notebook(cells=cells))


def test_natural_check_is_let_through():
    assert list(lint.faults(problem(GOOD))) == []


@pytest.mark.parametrize(("check", "said"), BAD.items(), ids=BAD)
def test_line_outside_the_rules_is_named(check, said):
    (fault,) = lint.faults(problem(check))
    assert fault.startswith(f"p01_check_second line {check.count(chr(10)) + 1}: ")
    assert said in fault


@pytest.mark.parametrize("stem", Course.find().stems)
def test_no_check_of_the_course_steps_outside(course, stem):
    assert list(lint.faults(notebooks.read(course.source(stem)))) == []
