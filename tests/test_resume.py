"""A run that is stopped or killed at any moment and started again ends like one that was not."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import classroom
import nbformat
import psutil
import pytest
from nbformat.v4 import new_notebook, new_output

from autograder import workers
from autograder.answers import graded_cells
from autograder.errors import GradingError
from autograder.grading import Grading
from autograder.judge.interface import Interface
from autograder.pipeline import Pipeline
from autograder.sandbox import Limits, can_isolate

CLASS = {
    f"student{number:02d}": text
    for number, text in enumerate([classroom.RIGHT, classroom.WRONG, classroom.EMPTY] * 2, start=1)
}
KILLS = 16

ISOLATE = can_isolate() is None
# Student code that starts a process and is at work for a second.
BUSY = "import subprocess, time\nsubprocess.Popen(['sleep', '98763'])\ntime.sleep(1)\n"
REAL = CLASS | {"student03": BUSY + CLASS["student03"]}
# `autograder grade` with a template that starts in half the time. Its first argument says what is
# done to it at which of the system's audit events: {event: {count: what}}.
COMMAND = """
import json, os, signal, sys, time
from collections import Counter
from contextlib import suppress
import psutil
from autograder import cli, sandbox

sandbox.START = "from autograder import template; template.REHEARSAL.clear(); template.main()"
plan, seen = json.loads(sys.argv.pop(1)), Counter()

def below(word=""):
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # some end meanwhile
            if word in " ".join(process.cmdline()):
                found.append(process)
    return found

def look(event, arguments):
    if event not in plan:
        return
    seen[event] += 1
    what = plan[event].get(str(seen[event]))
    if what == "kill templates":
        for process in below("autograder.template"):
            with suppress(psutil.Error):
                process.kill()
    elif what == "interrupt again":
        os.killpg(0, signal.SIGINT)
    elif what in ("interrupt", "kill"):
        busy, tries = [], 6000 if what == "interrupt" else 0
        while not busy and tries:
            busy, tries = below("sleep 98763"), tries - 1
            time.sleep(0.01)
        folder = ""
        with suppress(psutil.Error, IndexError):
            folder = busy[0].cwd()
        with open("left.json", "w") as file:
            json.dump([folder, [(p.pid, p.create_time()) for p in below()]], file)
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        os.killpg(0, signal.SIGINT)

sys.addaudithook(look)
cli.main()
"""


def fake_execute(job):
    """Stand in for a worker: what matters here is what the coordinator does around it."""
    executed = {}
    for name, text in job.notebooks.items():
        notebook = nbformat.reads(text, as_version=4)
        space = {}
        for cell in notebook.cells:
            try:
                exec(cell.source if cell.cell_type == "code" else "", space)
            except Exception as error:
                cell.outputs = [
                    new_output("error", ename=type(error).__name__, evalue=str(error), traceback=[])
                ]
        executed[name] = nbformat.writes(notebook)
    return workers.Done(executed, {name: {"events": []} for name in executed})


def grade(course, kill_at=None):
    """Grade the class in a fork; count the system's audit events and end at one of them."""

    def child(pipe):
        seen = 0

        def count(event, args):
            nonlocal seen
            seen += 1
            if seen == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

        workers.execute = fake_execute
        pipeline = Pipeline(course, root=course.root, log=course.root / "log" / "grade.log")
        sys.addaudithook(count)
        with Grading(pipeline, classroom.STEM) as grading, ThreadPoolExecutor(1) as pool:
            ended = [o.status for o in grading.run(grading.students([]), pool, ahead=2)]
        pipe.send((seen, ended))

    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=child, args=(there,))
    process.start()
    there.close()
    try:
        return here.recv()
    except EOFError:
        return None
    finally:
        process.join()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    course = classroom.course(tmp_path_factory.mktemp("undisturbed"), CLASS)
    events, ended = grade(course)
    assert ended == ["graded"] * len(CLASS)
    return course, events


def test_a_second_run_does_no_work_twice(undisturbed):
    course, _ = undisturbed
    before = classroom.tables(course)
    assert grade(course)[1] == ["unchanged"] * len(CLASS)
    assert classroom.tables(course) == before


def test_scores_are_recorded(undisturbed):
    course, _ = undisturbed
    scores = dict.fromkeys(CLASS, 0.0)
    for student, _, auto, *_ in classroom.tables(course)["grade"]:
        scores[student] += auto
    assert scores == {student: classroom.POINTS[text] for student, text in CLASS.items()}


def test_killed_runs_end_with_the_same_gradebook(undisturbed, tmp_path):
    """Sixteen runs are killed one after the other at random moments; each takes up what is left."""
    course, events = undisturbed
    killed = classroom.course(tmp_path, CLASS)
    moments = random.Random(0)
    deaths = sum(grade(killed, moments.randrange(1, events // 4)) is None for _ in range(KILLS))
    assert deaths > KILLS // 2, "most runs were cut short"
    assert grade(killed) is not None
    assert classroom.tables(killed) == classroom.tables(course)
    for student in CLASS:
        path = f"autograded/{student}/{classroom.STEM}/{classroom.STEM}.ipynb"
        cells = [graded_cells(nbformat.read(c.root / path, 4)) for c in (killed, course)]
        assert [c.get("outputs") for c in cells[0]] == [c.get("outputs") for c in cells[1]]
    assert sorted(os.listdir(killed.root / "autograded")) == sorted(CLASS)


def test_a_changed_submission_is_graded_again(undisturbed):
    course, _ = undisturbed
    path = classroom.submit(course, "student03", classroom.RIGHT)
    assert sorted(grade(course)[1]) == ["graded"] + ["unchanged"] * (len(CLASS) - 1)
    rows = classroom.tables(course)["grade"]
    assert sum(auto for student, _, auto, *_ in rows if student == "student03") == 10
    path.write_text("no notebook")
    assert "failed" in grade(course)[1]
    assert not (course.root / "autograded" / "student03" / classroom.STEM).exists()


def command(course, plan, *arguments, isolate=ISOLATE):
    """Run `autograder grade` in a process group of its own, and do to it what the plan says."""
    options = [*arguments, "--workers", "1", *([] if isolate else ["--no-isolation"])]
    return subprocess.run(
        [sys.executable, "-c", COMMAND, json.dumps(plan), "grade", "p01", *options],
        cwd=course.root,
        capture_output=True,
        text=True,
        start_new_session=True,
    )


def statuses(done):
    assert done.returncode == 0, done.stderr
    return [outcome["status"] for outcome in json.loads(done.stdout)["submissions"]]


def in_place(course):
    """Name the students whose graded folder is in its place."""
    return sorted(path.parts[-3] for path in course.root.glob("autograded/s*/*/*.ipynb"))


def assert_nothing_left(course):
    """Of the processes that there were at the last moment, none is there; nor is their folder."""
    folder, processes = json.loads((course.root / "left.json").read_text())
    assert len(processes) >= 2
    for pid, created in processes:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            for _ in range(6000):
                if process.create_time() != created or process.status() == psutil.STATUS_ZOMBIE:
                    break
                time.sleep(0.01)
            else:
                pytest.fail(f"{process} is left")
    assert not folder or not Path(folder).exists()


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The class graded by command in one go."""
    course = classroom.course(tmp_path_factory.mktemp("straight"), REAL)
    assert statuses(command(course, {}, "--json")) == ["graded"] * len(REAL)
    return course


@pytest.mark.parametrize("isolate", [True, False], ids=["isolated", "open"])
def test_interrupted_command_stops_cleanly_and_goes_on(straight, tmp_path, isolate):
    """Ctrl-C while the third student's code runs, and once more while all is put away."""
    if isolate and not ISOLATE:
        pytest.skip(f"no isolation here: {can_isolate()}")
    course = classroom.course(tmp_path, REAL)
    again = dict.fromkeys(("3", "4"), "interrupt again")
    plan = {"os.rename": {"2": "interrupt"}, "shutil.rmtree": again}
    done = command(course, plan, isolate=isolate)
    assert done.returncode == 130
    assert done.stderr.strip() == ""
    ready = in_place(course)
    said = f"stopped: {len(ready)} of {len(REAL)} done; the same command does the rest"
    assert done.stdout.strip() == said
    assert ready == sorted(os.listdir(course.root / "autograded")), "the staging folder is gone"
    assert sorted(REAL)[:2] == ready[:2] != sorted(REAL)
    assert_nothing_left(course)
    ended = statuses(command(course, {}, "--json", isolate=isolate))
    assert ended.count("unchanged") == len(ready)
    assert ended.count("graded") == len(REAL) - len(ready)
    assert classroom.tables(course) == classroom.tables(straight)


KILLED = [
    # The second student's scores are recorded, and the folder is not in its place.
    {"os.rename": {"1": "kill templates", "2": "kill"}},
    # A folder is half written.
    {"os.chmod": {"1": "kill"}},
    # A folder is in its place, and what it was made in is still there.
    {"os.rename": {"1": "kill templates", "2": "kill templates"}, "shutil.rmtree": {"4": "kill"}},
]


def test_killed_commands_end_with_the_same_gradebook(straight, tmp_path):
    """SIGKILL to the templates and the coordinator, again and again on one class."""
    course = classroom.course(tmp_path, REAL)
    for plan in KILLED:
        assert command(course, plan).returncode == -signal.SIGKILL
        assert_nothing_left(course)
    ended = statuses(command(course, {}, "--json"))
    assert {"graded", "unchanged"} == set(ended)
    assert classroom.tables(course) == classroom.tables(straight)
    assert sorted(os.listdir(course.root / "autograded")) == sorted(REAL)


def test_interrupt_before_anything_is_graded(tmp_path):
    course = classroom.course(tmp_path, REAL)
    done = command(course, {"sqlite3.connect": {"1": "interrupt again"}}, "--json")
    assert done.returncode == 130
    assert done.stdout == ""
    assert done.stderr.strip() == f"stopped: 0 of {len(REAL)} done; the same command does the rest"


def test_submission_that_starts_as_the_pool_ends_is_ended(monkeypatch):
    """A thread that has taken a submission makes its sandbox after the others were closed."""
    taken, ending, closed = threading.Event(), threading.Event(), threading.Event()

    class Slow:
        def __init__(self, limits, isolate, imports):
            taken.set()
            assert ending.wait(60)

        def run(self, notebook, files, **parts):
            raise GradingError("ended" if closed.wait(60) else "went on")

        def close(self):
            closed.set()

    monkeypatch.setattr(workers, "Sandbox", Slow)
    notebook = {"p01": nbformat.writes(new_notebook())}
    interfaces = {"p01": Interface()}
    job = workers.Job("student01", notebook, {}, Limits(), True, interfaces, own=())
    with workers.local(1) as pool:
        shutdown = pool.shutdown

        def tell(wait=True, cancel_futures=False):
            shutdown(wait=False, cancel_futures=cancel_futures)
            ending.set()
            shutdown(wait=wait)

        pool.shutdown = tell
        future = pool.submit(workers.execute, job)
        assert taken.wait(60)
    with pytest.raises(GradingError, match="ended"):
        future.result()
