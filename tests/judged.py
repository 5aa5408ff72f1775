"""Cells for the judge: a solution and checks that call it, to be run in one process and in two."""

import re

import nbformat
from nbformat import NotebookNode

from autograder.notebooks import ANSI
from autograder.scaffold import code_cell

SET_UP = """
import copy, math, sys, warnings
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from autograder.lab import checks
from autograder.lab.training import Batches, fit


def squares(model, batch):
    x, y = batch
    return F.mse_loss(model(x), y)


def level(model):
    return float(model.lin.weight.sum())


def show(*values):
    for value in values:
        print(value.detach() if isinstance(value, torch.Tensor) else value)


x = torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.5, -1.0, 2.0, 0.0]])
"""

SOLUTION = """
import warnings
import torch
from torch import nn

TABLE = {"a": [1, 2.5], "t": torch.arange(3)}
LIMIT: int = 7


def double(x):
    return 2 * x


def same(x):
    return x


def named(a, b=0, *more, c=3, **others):
    return [a, b, more, c, others]


def split(x):
    return x * 2, x.argmax(-1), x.sum(), 5


def labelled(x):
    return {"y": x ** 2, "parts": [x.sin(), (x.cos(), None)]}


def total(parts, scale=1.0):
    return sum(part.sum() for part in parts) * scale


def cube(x):
    return x ** 3


def detached(x):
    return x.detach() + 1


def fill(x) -> None:
    x.fill_(7.0)


def draw(n):
    return torch.rand(n)


def says(text):
    print(text)
    return len(text)


def complains(text):
    warnings.warn(text, stacklevel=1)
    return text


def fails(x):
    if x == 3:
        return helper(
            x,
            1)
    raise KeyError("k", x)


def helper(a, b=1, *more, c=2, **kw):
    raise ValueError("three", a)


def caused(x):
    try:
        {}["k"]
    except KeyError as error:
        raise RuntimeError("from") from error


def implied(x):
    try:
        helper(x)
    except ValueError:
        1 / 0


def down(n):
    return down(n - 1) if n else 1 / 0


class OwnError(LookupError):
    pass


def own(x):
    error = OwnError("own", x)
    error.add_note("a note")
    raise error


def compiles():
    eval("1 +")


def lists():
    return [1 / i for i in range(2)]


def opens():
    open("/nowhere")


def decodes():
    b"\\xff".decode()


def leaves():
    raise SystemExit(3)


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 3

    @staticmethod
    def backward(ctx, grad):
        raise ValueError("in backward")


def broken(x):
    return Cube.apply(x)


class Net(nn.Module):
    kind = "net"

    def __init__(self, width, out=2, p=0.0):
        super().__init__()
        if width > 50:
            raise ValueError(f"{width} is too wide")
        self.width, self.names = width, ["a", "b"]
        self.lin = nn.Linear(width, out)
        self.drop = nn.Dropout(p)
        self.norm = nn.BatchNorm1d(out)
        self.layers = nn.ModuleList([nn.Linear(out, out), nn.Linear(out, out, bias=False)])
        self.register_buffer("shift", torch.ones(out))
        self.register_buffer("hidden", torch.zeros(out), persistent=False)

    def forward(self, x, scale=1.0):
        x = self.norm(self.drop(self.lin(x))) + self.shift
        for layer in self.layers:
            x = layer(x).tanh()
        return x * scale

    def parts(self, x, *, twice=False):
        return {"lin": self.lin(x), "twice": twice}

    def count(self, start: int) -> int:
        return start + sum(p.numel() for p in self.parameters())

    def lacks(self):
        return self.nothing

    @staticmethod
    def build(width) -> "Net":
        return Net(width, out=3)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Embedding(5, 4)
        self.outer = nn.Linear(4, 5, bias=False)
        self.outer.weight = self.inner.weight

    def forward(self, tokens):
        return self.outer(self.inner(tokens))


class Around(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.factor = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return self.inner(x) * self.factor


def applied(model, x):
    return model(x) * 3


def make(width) -> nn.Module:
    return Net(width)


class Counter:
    def __init__(self, start=0):
        self.total = start

    def add(self, n=1):
        self.total += n
        return self.total

    def __call__(self, x):
        return x * self.total

    def fails(self):
        return self.more()

    def more(self):
        raise LookupError("no more")
"""

VALUES = r"""
# %% numbers
show(double(3), double('ab'), double([1, 2]), double(1.5))

# %% keywords
show(named(1, b=2), named(b=1, a=2), named(1, 2, 3, 4, c=5, d=6))

# %% lambda_beforehand
f = double
g = lambda n: f(n) + 1
show(g(2))

# %% plain_data
for value in (None, True, 1, 2 ** 70, -1.5, 'ü\n', b'\0\xff', 1j, (), [], {}, set(),
              slice(1, None), range(3), ..., torch.Size([2, 3]), torch.float16,
              {'a': (1, [2, {3: {4, 5}}])}, np.arange(3.0), np.array(True)):
    out = same(value)
    print(type(out).__name__, out)

# %% not_finite
out = same(torch.tensor([math.nan, math.inf, -math.inf, -0.0]))
show(out, 1 / out)
show(same(math.nan), same([math.inf, -math.inf]))

# %% dtypes
for dtype in (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
              torch.float16, torch.bfloat16, torch.float32, torch.float64,
              torch.complex64, torch.complex128):
    out = same(torch.tensor([[0, 1], [1, 3]]).to(dtype))
    print(out.dtype, out.tolist(), double(out.sum()))

# %% shapes
for shape in ((), (0,), (2, 0, 3), (1, 1, 1, 1, 2)):
    out = same(torch.zeros(shape))
    print(out.shape, double(torch.ones(shape)).sum())

# %% views
base = torch.arange(6.0).reshape(2, 3)
show(double(base.T), double(base[:, ::2]), double(base[0].expand(2, 3)), same(base[1, 1]))
z = torch.tensor([1 + 2j, 3j])
show(same(z.conj()), same(z.conj().imag), same(z.real))

# %% values
show(TABLE, LIMIT, TABLE['t'] + 1)

# %% several
a, b, c, n = split(x)
show(a, b, c, n, [t.requires_grad for t in (a, b, c)])

# %% in_place
y = torch.zeros(2, 2)
fill(y)
show(y)

# %% random
torch.manual_seed(3)
show(draw(2), draw(2))
torch.manual_seed(3)
show(draw(3))

# %% gradient
y = x.clone().requires_grad_()
double(y).pow(2).sum().backward()
show(y.grad)

# %% gradient_through_both
y = x.clone().requires_grad_()
(double((y * 3).exp()) + double(double(y))).sum().backward()
show(y.grad)

# %% gradients_of_several
y = x.clone().requires_grad_()
a, b, c, n = split(y)
show([t.requires_grad for t in (a, b, c)])
(a.sum() + c * n).backward()
show(y.grad)

# %% gradient_of_one_output
y = x.clone().requires_grad_()
out = labelled(y)
out['parts'][1][0].sum().backward()
show(y.grad, out['y'], out['parts'][1][1])

# %% gradients_of_containers
ys = [x.clone().requires_grad_(), torch.ones(3), torch.ones(2, requires_grad=True)]
total(ys, scale=0.5).backward()
show([y.grad for y in ys])

# %% same_tensor_twice
y = x.clone().requires_grad_()
total([y, y, y]).backward()
show(y.grad)

# %% gradient_kept
y = x.clone().requires_grad_()
out = cube(y).sum()
out.backward(retain_graph=True)
out.backward()
show(y.grad, *torch.autograd.grad(cube(y).mean(), y))

# %% no_gradient
y = x.clone().requires_grad_()
with torch.no_grad():
    out = double(y)
show(out.requires_grad, detached(y).requires_grad, double(x).requires_grad)

# %% gradcheck
y = x.double().requires_grad_()
show(torch.autograd.gradcheck(cube, (y,)))
show(torch.autograd.gradcheck(lambda a, b: total([a, cube(b)]), (y, y.detach() + 1)))

# %% module
torch.manual_seed(1)
model = Net(4)
show(model(x), model(x, scale=2.0), type(model).__name__, isinstance(model, Net))
show([(name, tuple(p.shape)) for name, p in model.named_parameters()])
show([name for name, _ in model.named_buffers()], list(model.state_dict()))
show([name for name, _ in model.named_modules()], len(model.layers))

# %% attributes
torch.manual_seed(1)
model = Net(4)
show(model.width, model.names, model.shift, model.count(1), Net.kind)

# %% methods
torch.manual_seed(1)
model = Net(4)
out = model.parts(x, twice=True)
show(out['lin'], out['twice'], model.lin(x), model.layers[1].weight)

# %% factories
show(Net.build(4)(x).shape, make(4)(x).shape, make(width=3).count(0))

# %% state_dict
torch.manual_seed(1)
model = Net(4)
state = {name: torch.full_like(t, 0.5) for name, t in model.state_dict().items()}
show(model.load_state_dict(state), model.eval()(x), model.lin.weight)

# %% gradients_of_parameters
torch.manual_seed(1)
model = Net(4)
model(x).sum().backward()
show({n: p.grad for n, p in model.named_parameters()})
model.zero_grad()
model.lin(x).sum().backward()
show(model.lin.weight.grad)

# %% gradients_of_inputs_too
torch.manual_seed(1)
model = Net(4)
y = x.clone().requires_grad_()
model.parts(y)['lin'].pow(2).sum().backward()
show(y.grad, model.lin.weight.grad, model.layers[0].weight.grad)

# %% frozen
torch.manual_seed(1)
model = Net(4)
for p in model.parameters():
    p.requires_grad_(False)
show(model(x).requires_grad)
model.lin.weight.requires_grad_()
model(x).sum().backward()
show(model.lin.weight.grad, model.lin.bias.grad)

# %% train_and_eval
torch.manual_seed(1)
model = Net(4, p=0.5)
torch.manual_seed(2)
show(model.training, model(x), model(x))
model.eval()
show(model.drop.training, model(x), model(x))
model.train()
torch.manual_seed(2)
show(model(x), model.norm.running_mean)

# %% double
torch.manual_seed(1)
model = Net(4)
model.double()
out = model(x.double())
show(out.dtype, out, model.shift.dtype)

# %% changed_weights
torch.manual_seed(1)
model = Net(4)
with torch.no_grad():
    model.lin.weight.zero_()
model.shift.data = torch.zeros(2)
nn.init.ones_(model.layers[1].weight)
model.lin.bias = nn.Parameter(torch.ones(2))
show(model.eval()(x), model.count(0))

# %% buffers
torch.manual_seed(1)
model = Net(4)
model(x)
model(x)
show(model.norm.running_mean, model.norm.num_batches_tracked)
state = {name: 2 * tensor for name, tensor in model.state_dict().items() if "num" not in name}
print(model.load_state_dict(state))
show(model.norm.running_mean, model.norm.num_batches_tracked, model.eval()(x))

# %% tied
torch.manual_seed(1)
model = Tied()
show(len(list(model.parameters())))
with torch.no_grad():
    model.inner.weight.fill_(0.5)
model(torch.tensor([[1, 2]])).sum().backward()
show(model.outer.weight.grad)

# %% module_in_module
torch.manual_seed(1)
model = Net(4)
outer = Around(model)
outer(x).sum().backward()
show(model.lin.weight.grad, outer.factor.grad, len(list(outer.parameters())))
with torch.no_grad():
    model.lin.weight.zero_()
show(outer.eval()(x))

# %% module_as_argument
torch.manual_seed(1)
model = Net(4)
applied(model, x).sum().backward()
show(model.lin.weight.grad, applied(model, x))

# %% sequential
torch.manual_seed(1)
model = Net(4)
torch.manual_seed(2)
both = nn.Sequential(nn.Linear(4, 4), nn.Sequential(model, nn.Tanh()))
both(x).sum().backward()
show(both[0].weight.grad, model.lin.weight.grad, len(both.state_dict()))

# %% optimisers
for make_one in (torch.optim.SGD, torch.optim.AdamW):
    torch.manual_seed(1)
    model = Net(4)
    optimiser = make_one(model.parameters(), lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        loss = model(x).pow(2).sum()
        loss.backward()
        show(nn.utils.clip_grad_norm_(model.parameters(), 1.0), loss)
        optimiser.step()
    show(model(x))

# %% deepcopy
torch.manual_seed(1)
model = Net(4)
other = copy.deepcopy(model)
with torch.no_grad():
    other.lin.weight.zero_()
show(model.eval()(x), other.eval()(x), isinstance(other, Net))

# %% fit
torch.manual_seed(1)
model = Net(4)
data = Batches(x.repeat(4, 1), torch.ones(8, 2), size=3)
history = fit(model, squares, data, 6, lr=0.05, validate=level, validate_every=2)
show(history.losses, history.checks, history.best_step, model.training, model(x))
show(fit(model, squares, [(x, torch.zeros(2, 2))], 2).losses)

# %% fit_of_own
torch.manual_seed(1)
model = nn.Sequential(nn.Linear(4, 2))
show(fit(model, squares, [(x, torch.zeros(2, 2))], 2).losses)

# %% objects
counter = Counter(start=2)
show(counter.add(), counter.add(n=4), counter.total, counter(x))
show(Counter().total, isinstance(counter, Counter), isinstance(x, Counter))

# %% many_models
for width in range(1, 20):
    model = Net(width)
    show(model(torch.ones(2, width)).shape)
part = Net(3).lin
show(part(torch.ones(2, 3)).shape)

# %% order_of_text
print('one')
show(says('two'))
print('three')
sys.stderr.write('four\n')
show(complains('five'))
print('six')

# %% caught
for call in (lambda: fails(3), lambda: fails(4), lambda: own(5), opens, decodes, compiles):
    try:
        call()
    except (ValueError, LookupError, OSError, SyntaxError) as error:
        print(type(error).__name__, error, isinstance(error, LookupError))
        print(error.args[:2])
"""

# What is raised, and its traceback.
ERRORS = r"""
# %% state_without_a_count
torch.manual_seed(1)
model = Net(4)
state = model.state_dict()
del state["norm.num_batches_tracked"]
model.load_state_dict(state)

# %% error
fails(3)

# %% error_of_key
fails(5)

# %% error_in_function
def local(n):
    return fails(n)
local(3)

# %% error_in_hidden_checks
x = 1
### BEGIN HIDDEN TESTS
fails(3)
### END HIDDEN TESTS

# %% error_with_cause
caused(1)

# %% error_with_context
implied(1)

# %% error_from_error
try:
    fails(3)
except ValueError as error:
    raise TypeError('x') from error

# %% error_and_note
own(1)

# %% error_deep_down
down(30)

# %% error_in_comprehension
lists()

# %% error_of_syntax
compiles()

# %% error_of_system
opens()

# %% error_of_decoder
decodes()

# %% error_of_arguments
double()

# %% error_of_library
named(1) + torch.ones(1)

# %% error_in_library
double(F.softmax('x', -1))

# %% error_in_init
Net(99)

# %% error_in_forward
Net(4)(torch.ones(3))

# %% error_in_method
Net(4).lacks()

# %% error_of_attribute
Net(4).missing

# %% error_of_class
Net.missing

# %% error_in_sequential
nn.Sequential(Net(3))(torch.ones(4, requires_grad=True))

# %% error_in_backward
broken(torch.ones(2, requires_grad=True)).sum().backward()

# %% error_in_object
Counter().fails()

# %% error_in_fit
fit(Net(4), squares, [(torch.ones(2, 3), x)], 2)

# %% exit
leaves()

# %% undefined
nobody(3)

# %% gradcheck_fails
torch.autograd.gradcheck(detached, (x.double().requires_grad_(),))

# %% state_dict_misfits
Tied().load_state_dict({'inner.weight': torch.ones(3, 3)})

# %% raises
checks.raises(ValueError, lambda: fails(3), 'three')
checks.raises(ValueError, lambda: fails(4), 'four')

# %% finally
try:
    fails(3)
finally:
    print('after')
"""

# What two runs of one cell cannot repeat: the number of a process in the name of a cell's file.
UNREPEATABLE = re.compile(r"ipykernel_\d+")


def cells(text: str) -> dict[str, str]:
    """Take apart what stands behind `# %% name`."""
    return {
        name: code.strip()
        for name, code in re.findall(r"(?ms)^# %% (\w+)$(.*?)(?=^# %% |\Z)", text)
    }


def notebook(
    checks: dict[str, str], solution: str = SOLUTION, set_up: str = SET_UP
) -> NotebookNode:
    """Make a notebook of a set-up, a solution and checks, worth a point each."""
    made = nbformat.v4.new_notebook()
    made.cells = [
        code_cell("setup", set_up, "setup"),
        code_cell("solution", solution, "solution", solution=True),
        *(code_cell(name, text, name, points=1) for name, text in checks.items()),
    ]
    return made


def outputs(cell: NotebookNode) -> list[dict]:
    """Give what a reader sees, without colours: IPython marks what failed in frames of its own."""
    found = []
    for output in cell.outputs:
        seen = {name: output.get(name) for name in ("text", "ename", "evalue", "data")}
        seen["traceback"] = "\n".join(output.get("traceback", []))
        found.append({
            name: UNREPEATABLE.sub("ipykernel", ANSI.sub("", text)) if type(text) is str else text
            for name, text in seen.items()
        })  # fmt: skip
    return found


def errors(cell: NotebookNode) -> dict[str, str]:
    """Give the errors of a cell: name and text."""
    return {o.ename: o.evalue for o in cell.outputs if o.output_type == "error"}
