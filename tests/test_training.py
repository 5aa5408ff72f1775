"""The training loop, its bar, batches, paired intervals and shipped weights."""

import io
import json
import math
import re
import subprocess
import sys

import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from nbclient import NotebookClient
from safetensors.torch import load_file, save, save_file
from torch import nn

from autograder import notebooks
from autograder.lab import training
from autograder.lab.errors import DataError, LabError, TrainingError, WeightsError
from autograder.lab.progress import in_notebook

STEPS = 30


def line(seed=0):
    """Give a model and batches of y = 2x - 1."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 1))
    x = torch.linspace(-1, 1, 24)[:, None]
    return model, training.Batches(x, 2 * x - 1, size=5, seed=seed)


def squared(model, batch):
    x, y = batch
    return F.mse_loss(model(x), y)


def weights_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


# fit


def test_fit_learns():
    model, batches = line()
    history = training.fit(model, squared, batches, 300, lr=0.02)
    assert len(history.losses) == history.best_step == 300
    assert history.checks == []
    assert sum(history.losses[-20:]) < 0.1 * sum(history.losses[:20])
    assert not model.training
    first, last = history.losses[0], history.losses[-1]
    assert repr(history) == f"300 steps, loss {first:.3g} → {last:.3g}, weights of step 300"


def test_fit_repeats_for_a_seed():
    """Dropout and the order of batches, too, and twice with the same batches."""
    runs = []
    for seed in (0, 0, 1):
        model, batches = line()
        torch.manual_seed(100 + len(runs))  # what the global generator did before has no say
        history = training.fit(model, squared, batches, STEPS, seed=seed)
        runs.append((history.losses, weights_of(model)))
    assert runs[0][0] == runs[1][0]
    assert same(runs[0][1], runs[1][1])
    assert runs[0][0] != runs[2][0]
    once, again = line()[0], line()[0]
    assert training.fit(once, squared, batches, 7) == training.fit(again, squared, batches, 7)


def test_fit_leaves_the_global_generator_alone():
    model, batches = line()
    before = torch.get_rng_state()
    training.fit(model, squared, batches, 3)
    assert torch.equal(torch.get_rng_state(), before)


def test_fit_goes_through_batches_again():
    seen = []

    def loss(model, number):
        seen.append(number)
        return model.weight.sum() * number

    training.fit(nn.Linear(1, 1), loss, [1, 2, 3], 7)
    assert seen == [1, 2, 3, 1, 2, 3, 1]


def test_fit_follows_the_schedule():
    """A constant gradient moves a weight by the learning rate of the step, with Adam."""
    moves = []

    class One(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(()))

    def loss(model, batch):
        moves.append(model.weight.item())
        return -model.weight

    def rates(**options):
        moves.clear()
        model = One()
        training.fit(model, loss, [0], 10, lr=0.5, **options)
        values = torch.tensor([*moves, model.weight.item()])
        return (values[1:] - values[:-1]).tolist()

    assert rates() == pytest.approx([0.5] * 10, abs=1e-5)
    assert rates(warmup=4) == pytest.approx([0.125, 0.25, 0.375, *[0.5] * 7], abs=1e-5)
    cosine = [0.25 + 0.25 * math.cos(math.pi * step / 10) for step in range(10)]
    assert rates(cosine=True) == pytest.approx(cosine, abs=1e-5)


def test_fit_clips_the_gradient():
    """Adam would hide the size of one gradient, so a small one follows a large one."""

    def run(clip):
        torch.manual_seed(0)
        model = nn.Linear(1, 1, bias=False)
        training.fit(model, lambda m, scale: scale * m.weight.sum(), [1e6, 1.0], 2, clip=clip)
        return model.weight.item()

    torch.manual_seed(0)
    start = nn.Linear(1, 1, bias=False).weight.item()
    assert start - run(1.0) == pytest.approx(2e-3, rel=1e-3)
    assert start - run(math.inf) == pytest.approx(1.67e-3, rel=1e-2)


def test_fit_trains_only_what_takes_a_gradient():
    model, batches = line()
    model[0].requires_grad_(False)
    before = weights_of(model)
    training.fit(model, squared, batches, 3)
    after = model.state_dict()
    assert torch.equal(after["0.weight"], before["0.weight"])
    assert not torch.equal(after["3.weight"], before["3.weight"])


def test_fit_keeps_the_best_weights():
    """The third validation is the lowest."""
    model, batches = line()
    kept, values = [], [3.0, 2.0, 1.0, 1.5, 1.0]

    def validate(model):
        assert not model.training
        assert not torch.is_grad_enabled()
        kept.append(weights_of(model))
        return values[len(kept) - 1]

    history = training.fit(model, squared, batches, 25, validate=validate, validate_every=5)
    assert history.checks == list(zip([5, 10, 15, 20, 25], values, strict=True))
    assert history.best_step == 15
    assert same(weights_of(model), kept[2])
    assert not same(kept[2], kept[4])


def test_fit_stops_early():
    model, batches = line()
    values = iter([2.0, 1.0, 1.0, 1.5, 0.0])
    history = training.fit(
        model, squared, batches, 100, validate=lambda m: next(values), validate_every=4, patience=2
    )
    assert len(history.losses) == 16
    assert history.best_step == 8
    with pytest.raises(ValueError, match="expected validate with it"):
        training.fit(model, squared, batches, 5, patience=2)


def test_fit_validates_after_the_last_step():
    model, batches = line()
    modes = []

    def loss(model, batch):
        modes.append(model.training)
        return squared(model, batch)

    history = training.fit(model, loss, batches, 7, validate=lambda m: 1.0, validate_every=5)
    assert [step for step, _ in history.checks] == [5, 7]
    assert modes == [True] * 7


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_fit_names_the_step_of_a_loss_that_is_no_number(value):
    model, batches = line()
    losses = iter([1.0, 1.0, value])

    def loss(model, batch):
        return squared(model, batch) * next(losses)

    with pytest.raises(TrainingError, match=f"step 3: the loss is {value}"):
        training.fit(model, loss, batches, 5)


def test_fit_names_the_gradient_that_is_no_number():
    class Root(nn.Module):
        def __init__(self):
            super().__init__()
            self.fine = nn.Parameter(torch.ones(2))
            self.broken = nn.Parameter(torch.zeros(2))

    with pytest.raises(TrainingError, match=r"step 1: the loss is finite and .* broken is not"):
        training.fit(Root(), lambda m, _: m.fine.sum() + m.broken.sqrt().sum(), [0], 2)


def test_fit_says_what_it_cannot_train():
    model, batches = line()
    with pytest.raises(TrainingError, match="expected a model with parameters to train, got none"):
        training.fit(nn.Flatten(), squared, batches, 3)
    with pytest.raises(TrainingError, match="expected a model with parameters to train, got none"):
        training.fit(nn.Linear(1, 1).requires_grad_(False), squared, batches, 3)
    with pytest.raises(TrainingError, match="the batches ran out after 2"):
        training.fit(model, squared, (batch for batch in [next(iter(batches))] * 2), 3)
    with pytest.raises(TrainingError, match="the batches ran out after 0"):
        training.fit(model, squared, [], 3)
    with pytest.raises(ValueError, match="at least 1 step, got 0"):
        training.fit(model, squared, batches, 0)
    with pytest.raises(TrainingError, match="step 2: expected a number from validate, got nan"):
        training.fit(model, squared, batches, 2, validate=lambda m: math.nan)


@pytest.mark.parametrize(
    ("loss", "came"),
    [
        (lambda m, b: 0.5, "got float"),
        (lambda m, b: None, "got NoneType"),
        (lambda m, b: m(b[0]), r"got shape \(5, 1\), requires_grad=True"),
        (lambda m, b: squared(m, b).detach(), r"got shape \(\), requires_grad=False"),
    ],
)
def test_fit_says_what_a_loss_is(loss, came):
    model, batches = line()
    with pytest.raises(TrainingError, match=f"step 1: expected one number with a gradient, {came}"):
        training.fit(model, loss, batches, 3)


def test_lab_imports_nothing_of_the_rest():
    for path in (ROOT / "autograder" / "lab").rglob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if re.match(r"\s*(from|import) autograder\b", line):
                assert re.match(r"from autograder\.lab(\.\w+)* import ", line), f"{path}: {line}"


def test_lab_errors_have_one_base():
    for error in (DataError, TrainingError, WeightsError):
        assert issubclass(error, LabError)


# Progress

CELLS = [
    "from autograder.lab.progress import Progress, in_notebook\nassert in_notebook()",
    "print('before')\nbar = Progress(200, 'fitting')\nfor step in bar:\n"
    "    bar.note = f'loss {1 / step:.3f}'\nprint('after')",
    "bar = Progress(200)\nfor step in bar:\n    if step == 70:\n        bar.close()\n        break",
]


class Recorder(NotebookClient):
    """Keeps each text that the displays showed."""

    shown: list[str]

    def process_message(self, message, cell, index):
        if message["msg_type"] in ("display_data", "update_display_data"):
            self.shown.append(message["content"]["data"]["text/plain"])
        return super().process_message(message, cell, index)


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """Run the cells in a kernel; give the notebook, its file and what a front end saw."""
    cells = [nbformat.v4.new_code_cell(cell, id=f"c{n}") for n, cell in enumerate(CELLS)]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=notebooks.METADATA)
    client = Recorder(notebook, kernel_name="python3", timeout=60, record_timing=False)
    client.shown = []
    client.execute()
    path = tmp_path_factory.mktemp("progress") / "bar.ipynb"
    path.write_text(notebooks.dumps(notebooks.canonical(notebook)), encoding="utf-8")
    return notebooks.read(path), path, client.shown


def test_progress_moves_in_a_live_front_end(executed):
    shown = executed[2][: executed[2].index("fitting: 200 steps", 1) + 1]
    assert len(shown) == 52
    assert shown[0] == shown[51] == "fitting: 200 steps"
    assert shown[1] == f"fitting [{' ' * 24}] 4/200 loss 0.250"
    assert shown[25] == f"fitting [{'█' * 12}{' ' * 12}] 100/200 loss 0.010"
    assert shown[50] == f"fitting [{'█' * 24}] 200/200 loss 0.005"


def test_progress_leaves_one_line_in_a_stored_notebook(executed):
    notebook = executed[0]
    assert notebooks.faults(notebook) == []
    outputs = [
        output.get("text") or output["data"]["text/plain"] for output in notebook.cells[1].outputs
    ]
    assert outputs == ["before\n", "fitting: 200 steps", "after\n"]
    assert notebook.cells[2].outputs[0]["data"] == {"text/plain": "training: 200 steps"}


def test_progress_passes_nbval(executed):
    """nbval takes no update of a display: what it compares is the first state with the last."""
    command = [sys.executable, "-m", "pytest", "--nbval", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "--rootdir", str(executed[1].parent), str(executed[1])],
        cwd=executed[1].parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def test_progress_is_silent_in_a_script(capsys):
    assert not in_notebook()
    assert list(training.Progress(3)) == [1, 2, 3]
    assert capsys.readouterr() == ("", "")
    with pytest.raises(ValueError, match="at least 1 step, got 0"):
        training.Progress(0)


def test_progress_uses_one_line_of_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    for _ in training.Progress(2, "fit"):
        pass
    states = sys.stderr.getvalue().split("\r\x1b[2K")
    assert states[1:] == [
        f"fit [{'█' * 12}{' ' * 12}] 1/2",
        f"fit [{'█' * 24}] 2/2",
        "fit: 2 steps\n",
    ]


# Batches


def test_batches_in_order_are_one_pass():
    x = torch.arange(14).view(7, 2)
    batches = training.Batches(x, list("0123456") and list(range(7)), size=3)
    got = list(batches)
    assert [tuple(part.shape) for part, _ in got] == [(3, 2), (3, 2), (1, 2)]
    assert torch.equal(torch.cat([part for part, _ in got]), x)
    assert torch.cat([numbers for _, numbers in got]).tolist() == list(range(7))
    assert len(batches) == 3
    assert len(list(batches)) == 3


def test_batches_with_a_seed_never_end_and_begin_again():
    batches = training.Batches(np.arange(10), size=4, seed=3)
    stream = iter(batches)
    passes = [[next(stream) for _ in range(len(batches))] for _ in range(3)]
    orders = [torch.cat(batch).tolist() for batch in passes]
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    assert [len(batch) for batch in passes[1]] == [4, 4, 2]
    assert torch.equal(next(iter(batches)), passes[0][0])
    other = iter(training.Batches(np.arange(10), size=4, seed=4))
    assert torch.cat([next(other) for _ in range(3)]).tolist() != orders[0]


def test_batches_keep_columns_together_and_pad_to_the_longest():
    texts = [[1] * n for n in (2, 5, 1, 4, 3, 2, 1)]
    lengths = torch.tensor([len(text) for text in texts])
    stream = iter(training.Batches(texts, lengths, size=3, seed=0, padding=-1))
    for _ in range(6):
        ids, counts = next(stream)
        assert ids.dtype == torch.int64
        assert ids.shape[1] == counts.max()
        assert torch.equal((ids == 1).sum(1), counts)
        assert torch.equal((ids == -1).sum(1), counts.max() - counts)


def test_pad_joins_frames():
    frames = [torch.ones(2, 3), torch.ones(4, 3)]
    joined = training.pad(frames, value=7.0)
    assert joined.shape == (2, 4, 3)
    assert joined[0, :, 0].tolist() == [1, 1, 7, 7]
    assert training.pad([[1], []]).tolist() == [[1], [0]]


def test_batches_say_what_is_wrong():
    with pytest.raises(ValueError, match=r"columns of one length above 0, got \[2, 3\]"):
        training.Batches([1, 2], [1, 2, 3], size=2)
    with pytest.raises(ValueError, match=r"got \[0\]"):
        training.Batches([], size=2)
    with pytest.raises(ValueError, match="1 example or more, got 0"):
        training.Batches([1], size=0)


# paired_interval

# Hours of sleep that ten patients gained with two drugs: Student, The Probable Error of a Mean.
FIRST = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SECOND = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def test_interval_of_students_own_example():
    interval = training.paired_interval(SECOND, FIRST)
    assert (interval.mean, interval.low, interval.high) == pytest.approx(
        (1.58, 0.7001142, 2.4598858), abs=1e-6
    )
    assert str(interval) == "+1.580 (95%: +0.700 to +2.460, n = 10)"
    other = training.paired_interval(torch.tensor(FIRST), np.array(SECOND), level=0.99)
    assert (other.low, other.high) == pytest.approx((-2.8440520, -0.3159480), abs=1e-5)


def test_interval_holds_the_truth_as_often_as_it_says():
    """Four seeds each, 2,000 times: 95% within what chance allows."""
    generator = torch.Generator().manual_seed(0)
    held = 0
    for differences in torch.randn(2000, 4, generator=generator, dtype=torch.float64) + 0.3:
        interval = training.paired_interval(differences, torch.zeros(4))
        held += interval.low <= 0.3 <= interval.high
    assert 0.935 < held / 2000 < 0.965


@pytest.mark.parametrize(("a", "b"), [([1.0], [2.0]), ([1.0, 2.0], [1.0]), ([], [])])
def test_interval_needs_pairs(a, b):
    with pytest.raises(ValueError, match=f"two or more pairs, got {len(a)} and {len(b)} values"):
        training.paired_interval(a, b)


def test_interval_takes_numbers_alone():
    with pytest.raises(ValueError, match="finite values"):
        training.paired_interval([1.0, math.nan], [1.0, 2.0])


# Weights


class Tied(nn.Module):
    """Two names for one tensor, a buffer that is saved and a mask that is not."""

    def __init__(self, width=4, mask=False):
        super().__init__()
        self.embedding = nn.Embedding(5, width)
        self.norm = nn.BatchNorm1d(width)
        self.head = nn.Linear(width, 5, bias=False)
        self.head.weight = self.embedding.weight
        if mask:
            self.register_buffer("mask", torch.ones(3, 3).tril())


@pytest.fixture
def shipped(tmp_path):
    """Give a model and the file of its weights."""
    torch.manual_seed(0)
    model, path = Tied(), tmp_path / "p00.safetensors"
    model.norm(torch.randn(6, 4))
    training.save_weights(model, path, recipe="make weights P=p00", seed=3, metric={"loss": 0.25})
    return model, path


def test_weights_round_trip(shipped):
    model, path = shipped
    torch.manual_seed(1)
    other = Tied(mask=True)
    mask = other.mask.clone()
    origin = training.load_weights(other, path)
    assert origin == training.Origin("make weights P=p00", 3, {"loss": 0.25})
    assert same(model.state_dict(), other.state_dict())
    assert torch.equal(other.mask, mask)
    assert other.head.weight is other.embedding.weight


def test_weights_load_where_nothing_is_tied(shipped):
    model, path = shipped
    other = Tied()
    other.head.weight = nn.Parameter(torch.zeros(5, 4))
    training.load_weights(other, path)
    assert torch.equal(other.head.weight, model.embedding.weight)


def test_weights_need_one_name_of_a_tied_parameter(tmp_path):
    path = tmp_path / "one.safetensors"
    alone = nn.Module()
    alone.embedding = nn.Embedding(5, 4)
    training.save_weights(alone, path, recipe="r", seed=0, metric={})
    tied = nn.Module()
    tied.head = nn.Linear(4, 5, bias=False)
    tied.embedding = nn.Embedding(5, 4)
    assert "the file has no head.weight" in refused(tied, path)
    tied.head.weight = tied.embedding.weight
    training.load_weights(tied, path)
    assert torch.equal(tied.head.weight, alone.embedding.weight)


def test_weights_are_the_same_bytes_again(shipped, tmp_path):
    model, path = shipped
    again = tmp_path / "again.safetensors"
    metric = {"loss": 0.25}
    training.save_weights(model, again, recipe="make weights P=p00", seed=3, metric=metric)
    assert again.read_bytes() == path.read_bytes()


def test_weights_in_half_the_size(shipped, tmp_path):
    model, _ = shipped
    half = tmp_path / "half.safetensors"
    training.save_weights(model, half, recipe="r", seed=0, metric={}, half=True)
    stored = load_file(half)
    assert stored["head.weight"].dtype == torch.float16
    assert stored["norm.num_batches_tracked"].dtype == torch.int64
    other = Tied().double()
    training.load_weights(other, half)
    assert other.head.weight.dtype == torch.float64
    error = (other.head.weight - model.head.weight).abs().max()
    assert 0 < error < 1e-3


def test_weights_have_to_be_small_and_finite(tmp_path):
    path = tmp_path / "big.safetensors"
    about = {"recipe": "r", "seed": 0, "metric": {}}
    big = nn.Linear(600, 500)
    with pytest.raises(WeightsError, match=r"at most 1,000,000 bytes, got 1,20\d,\d+\. Save"):
        training.save_weights(big, path, **about)
    training.save_weights(big, path, half=True, **about)
    assert path.stat().st_size < 1_000_000
    huge = nn.Linear(2, 2, bias=False)
    nn.init.constant_(huge.weight, 1e6)
    with pytest.raises(WeightsError, match=r"weight: expected finite numbers as torch.float16"):
        training.save_weights(huge, path, half=True, **about)
    nn.init.constant_(huge.weight, math.nan)
    with pytest.raises(WeightsError, match=r"weight: expected finite numbers as torch.float32"):
        training.save_weights(huge, path, **about)


def refused(model, path):
    """Give the text of the refusal; nothing of the file may have reached the model."""
    before = weights_of(model)
    with pytest.raises(WeightsError) as caught:
        training.load_weights(model, path)
    assert same(before, model.state_dict())
    return str(caught.value)


def test_weights_name_what_does_not_fit(shipped):
    path = shipped[1]
    other = nn.Module()
    other.embed = nn.Embedding(5, 4)
    other.norm = nn.BatchNorm1d(3)
    other.head = nn.Linear(4, 5)
    assert refused(other, path) == (
        "p00.safetensors does not fit your model: it has no embedding.weight; "
        "the file has no embed.weight, head.bias; "
        "shapes differ: norm.bias is (3,) and has to be (4,), "
        "norm.running_mean is (3,) and has to be (4,), "
        "norm.running_var is (3,) and has to be (4,), norm.weight is (3,) and has to be (4,). "
        "Use the names and sizes of the specification, and create parameters in __init__."
    )


def test_weights_name_the_first_of_many(shipped):
    other = Tied()
    for number in range(9):
        other.register_parameter(f"extra{number}", nn.Parameter(torch.zeros(1)))
    assert "the file has no extra0, extra1, extra2, extra3, extra4, extra5 and 3 more." in refused(
        other, shipped[1]
    )


def test_weights_from_a_file_that_is_none(shipped, tmp_path):
    model, path = shipped
    whole = path.read_bytes()
    foreign = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(1)}, foreign)
    listed = save({"weight": torch.zeros(1)}, {"autograder": json.dumps({"seed": 1})})
    for content, reason in (
        (None, "FileNotFoundError"),
        (b"", "SafetensorError"),
        (whole[:-1], "SafetensorError"),
        (whole[:20], "SafetensorError"),
        (b"PK\x03\x04" + whole, "SafetensorError"),
        (foreign.read_bytes(), "KeyError: 'autograder'"),
        (listed, "TypeError"),
        (whole.replace(b'{\\"metric', b'[\\"metric'), "JSONDecodeError"),
    ):
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        wanted = f"{re.escape(str(path))}: expected weights that save_weights wrote, got {reason}"
        with pytest.raises(DataError, match=wanted):
            training.load_weights(model, path)
