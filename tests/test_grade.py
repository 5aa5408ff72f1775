"""`autograder grade`: nbgrader's own scores, on threads or a cluster, whatever dies on the way."""

import json
import os
import signal
import subprocess
import sys
import warnings
from contextlib import ExitStack, suppress

import classroom
import nbformat
import psutil
import pytest
from nbformat.warnings import MissingIDFieldWarning
from nbgrader.preprocessors import Execute
from nbgrader.utils import determine_grade
from traitlets.config import Config

from autograder import answers, bench, mutants, notebooks, workers
from autograder.errors import GradingError
from autograder.grading import Grading
from autograder.judge.interface import Interface
from autograder.pipeline import Pipeline
from autograder.sandbox import Sandbox, can_isolate

ISOLATE = can_isolate() is None
CLASS = {
    "student01": classroom.RIGHT,
    "student02": classroom.WRONG,
    "student03": classroom.EMPTY,
    "student04": "def double(x):\n    print('seen', x)\n    return x + x",
    "student05": "def double(x)\n    return x",
}


def lay_out(root):
    """A class in which one submission is late, one lacks a graded cell and one its notebook."""
    course = classroom.course(root, CLASS)
    with Pipeline(course, root=root, log=root / "log" / "log").gradebook() as gradebook:
        gradebook.update_or_create_assignment(classroom.STEM, duedate="2026-03-01 12:00:00 UTC")
    (root / "submitted" / "student02" / classroom.STEM / "timestamp.txt").write_text(
        "2026-03-02 12:00:00 UTC"
    )
    path = root / "submitted" / "student01" / classroom.STEM / f"{classroom.STEM}.ipynb"
    notebook = notebooks.read(path)
    notebook.cells = [cell for cell in notebook.cells if cell.id != "p01_check_2"]
    nbformat.write(notebook, path)
    late = Config(AssignLatePenalties={"plugin_class": "classroom.HalfAPoint"})
    return course, Pipeline(course, root=root, log=root / "log" / "log", overrides=late)


def grade(pipeline, executor, **options):
    with Grading(pipeline, classroom.STEM, isolate=ISOLATE, **options) as grading:
        return {o.student: o for o in grading.run(grading.students([]), executor, ahead=2)}


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    """The class graded by nbgrader's own executor, in a kernel for each submission."""
    course, pipeline = lay_out(tmp_path_factory.mktemp("stock"))
    pipeline.config.merge(Config(Autograde={"autograde_preprocessors": bench.STOCK}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MissingIDFieldWarning)  # of cells that nbgrader adds
        pipeline.autograde(classroom.STEM)
    return course


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    course, pipeline = lay_out(tmp_path_factory.mktemp("graded"))
    with workers.local(2) as executor:
        outcomes = grade(pipeline, executor)
    return course, outcomes


def test_tables_equal_those_of_stock_nbgrader(stock, graded):
    assert classroom.tables(graded[0]) == classroom.tables(stock)


def plain(outputs):
    """Take the colours out: IPython marks what failed in a line, and knows it of its own frames."""
    return [
        out | {"traceback": [notebooks.ANSI.sub("", line) for line in out.traceback]}
        if out.output_type == "error"
        else out
        for out in outputs or []
    ]


def test_outputs_equal_those_of_stock_nbgrader(stock, graded):
    """What students see: streams, errors and tracebacks, cell by cell."""
    for student in CLASS:
        path = f"autograded/{student}/{classroom.STEM}/{classroom.STEM}.ipynb"
        ours, theirs = (notebooks.read(course.root / path) for course in (graded[0], stock))
        assert [c.source for c in ours.cells] == [c.source for c in theirs.cells]
        outputs = [[plain(cell.get("outputs")) for cell in nb.cells] for nb in (ours, theirs)]
        assert outputs[0] == outputs[1]


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(isolate=ISOLATE) as made:
        yield made


def scores(notebook):
    return {
        answers.grading(cell)["grade_id"]: determine_grade(cell)[0]
        for cell in answers.graded_cells(notebook)
    }


@pytest.mark.parametrize(("number", "right"), [(0, False), (1, True)], ids=["wrong", "right"])
def test_answers_score_as_under_stock_nbgrader(sandbox, course, number, right):
    """A sample of real answers, judged apart and in a plain kernel: cell by cell."""
    stem = course.stems[number]
    answer = next(a for a in answers.load(course, stem) if (a.fails is None) == right)
    notebook = answers.fill(mutants.bare(notebooks.read(course.source(stem))), answer)
    folder = {"metadata": {"path": str(course.source(stem).parent)}}
    files, interface = course.files(stem), Interface.of_source(notebook)
    done = sandbox.run(notebook, files, interface=interface, own=files)
    stock, _ = Execute().preprocess(notebook, folder)
    assert scores(done.notebook) == scores(stock)
    assert (sum(scores(stock).values()) == 10) == right
    assert right or scores(stock)[answer.fails] == 0


def test_outcomes_say_scores_and_reasons(graded):
    _, outcomes = graded
    assert {s: o.score for s, o in outcomes.items() if s != "student02"} == {
        "student01": 10,
        "student03": 0,
        "student04": 10,
        "student05": 0,
    }
    assert outcomes["student02"].score == classroom.POINTS[classroom.WRONG] - 0.5
    assert outcomes["student02"].reasons["p01_check_1"] == "AssertionError: double 1"
    assert all(o.record[classroom.STEM]["isolated"] is ISOLATE for o in outcomes.values())


def test_killed_templates_cost_no_submission(graded, tmp_path):
    """Each time a submission ends, every process of the engine is killed; a second run mends it."""
    course, pipeline = lay_out(tmp_path)
    with workers.local(2) as executor:
        with Grading(pipeline, classroom.STEM, isolate=ISOLATE) as grading:
            for _ in grading.run(grading.students([]), executor, ahead=2):
                for process in psutil.Process().children(recursive=True):
                    with suppress(psutil.Error):  # some end by themselves, with their parents
                        if "autograder.template" in " ".join(process.cmdline()):
                            process.send_signal(signal.SIGKILL)
        assert all(o.status != "failed" for o in grade(pipeline, executor).values())
    assert classroom.tables(course) == classroom.tables(graded[0])


@pytest.fixture
def cluster(tmp_path):
    """A scheduler and two workers, each in a folder of its own; gives the address and workers."""
    file = tmp_path / "scheduler.json"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    dask = [sys.executable, "-m", "dask"]
    options = ["--scheduler-file", str(file), "--no-dashboard", "--host", "127.0.0.1"]
    commands = [[*dask, "scheduler", *options, "--port", "0"]]
    for _ in range(2):
        commands.append([*dask, "worker", *options, "--no-nanny", "--nthreads", "1"])
    with ExitStack() as stack:
        started = []
        for number, command in enumerate(commands):
            folder = tmp_path / f"machine{number}"
            folder.mkdir()
            started.append(stack.enter_context(subprocess.Popen(command, cwd=folder, **quiet)))
            stack.callback(started[-1].kill)
        from distributed import Client

        with Client(scheduler_file=str(file), timeout=60) as client:
            client.wait_for_workers(2, timeout=60)
            address = client.scheduler.address
        yield address, started[1:]


def test_cluster_grades_like_threads_and_loses_a_worker(graded, cluster, tmp_path):
    address, machines = cluster
    (tmp_path / "class").mkdir()
    course, pipeline = lay_out(tmp_path / "class")
    with (
        workers.cluster(address) as executor,
        Grading(pipeline, classroom.STEM, isolate=ISOLATE) as grading,
    ):
        outcomes = []
        for outcome in grading.run(grading.students([]), executor, ahead=3):
            if not outcomes:
                machines[0].kill()
            outcomes.append(outcome)
    assert sorted(o.student for o in outcomes) == sorted(CLASS)
    assert classroom.tables(course) == classroom.tables(graded[0])


def test_elsewhere_nbgraders_executor_does_the_work(graded, tmp_path, monkeypatch):
    """On a host that is not Linux, and only where isolation is waived; one kernel dies."""
    monkeypatch.setattr(workers, "ENGINE_RUNS", False)
    course, pipeline = lay_out(tmp_path)
    classroom.submit(course, "student06", "import os\nos._exit(1)")
    with (
        workers.local(2) as executor,
        Grading(pipeline, classroom.STEM, isolate=False) as grading,
    ):
        outcomes = {o.student: o for o in grading.run(grading.students([]), executor, ahead=2)}
    died = outcomes.pop("student06")
    assert died.status == "failed"
    assert "the kernel failed" in died.fault
    assert {s: o.score for s, o in outcomes.items()} == {s: o.score for s, o in graded[1].items()}
    assert all(o.record[classroom.STEM]["isolated"] is False for o in outcomes.values())


def test_no_scheduler_is_said():
    with pytest.raises(GradingError, match="no Dask scheduler answers"), workers.cluster("nowhere"):
        pass


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """Run `autograder grade` in a class of three, one of which handed in no notebook."""
    root = tmp_path_factory.mktemp("command")
    texts = {s: CLASS[s] for s in ("student01", "student02")}
    course = classroom.course(root, texts)
    classroom.submit(course, "student03", "").write_text("no notebook")

    def call(*arguments):
        isolation = [] if ISOLATE else ["--no-isolation"]
        return subprocess.run(
            [sys.executable, "-m", "autograder.cli", "grade", *arguments, *isolation],
            cwd=root,
            capture_output=True,
            text=True,
            env={**os.environ, "COLUMNS": "120"},
        )

    return call


def test_command_prints_a_table_then_json(command):
    done = command("p01", "--students", "student0[12]", "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert "student01" in done.stdout
    assert "10 of 10" in done.stdout
    done = command(classroom.STEM, "--json")
    assert done.returncode == 1, "one submission is no notebook"
    found = {s["student"]: s for s in json.loads(done.stdout)["submissions"]}
    assert found["student01"]["status"] == found["student02"]["status"] == "unchanged"
    assert found["student02"]["score"] == 4
    assert "is not a Jupyter notebook" in found["student03"]["fault"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["p99"], "no problem is called 'p99'"),
        (["p01", "--students", "student99"], "no student called 'student99'"),
    ],
)
def test_command_says_what_is_wrong(command, arguments, said):
    done = command(*arguments)
    assert done.returncode == 1
    assert said in done.stderr.replace("\n", " ")
