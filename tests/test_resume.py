"""A run that is killed at any moment and started again ends like one that was not."""

import multiprocessing
import os
import random
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import classroom
import nbformat
import pytest
from nbformat.v4 import new_output

from autograder import workers
from autograder.answers import graded_cells
from autograder.grading import Grading
from autograder.pipeline import Pipeline

CLASS = {
    f"student{number:02d}": text
    for number, text in enumerate([classroom.RIGHT, classroom.WRONG, classroom.EMPTY] * 2, start=1)
}
KILLS = 16


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
