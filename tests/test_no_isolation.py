"""A host on which user namespaces are forbidden: what it refuses, and what works all the same.

The commands run in a user namespace in which no other one may be made.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import classroom
import pytest
from conftest import ROOT

from autograder import confine, notebooks, sample

# The command with a template that starts in half the time; of the sample class, two submissions.
COMMAND = """
from autograder import cli, sample, sandbox

sandbox.START = "from autograder import template; template.REHEARSAL.clear(); template.main()"
everybody = sample.submissions
sample.submissions = lambda course: dict(list(everybody(course).items())[::7])
cli.main()
"""
ADVICE = "as root, run 'sysctl user.max_user_namespaces=10000'"


def forbid():
    """Enter a user namespace with the same user, and let nobody make one in it."""
    user, group = os.geteuid(), os.getegid()
    confine.unshare(confine.CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    Path("/proc/sys/user/max_user_namespaces").write_text("0")


@pytest.fixture(scope="module", autouse=True)
def can_forbid():
    if sys.platform != "linux":
        pytest.skip("this host knows no user namespaces")
    try:
        subprocess.run(["true"], preexec_fn=forbid, check=True)
    except subprocess.SubprocessError:
        pytest.skip("this host lets this user make no user namespace to forbid others in")


def call(folder, *arguments):
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        preexec_fn=forbid,
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "80"},
    )
    assert "Traceback" not in done.stderr
    return done


def autograder(folder, *arguments):
    return call(folder, "-c", COMMAND, *arguments)


def test_grading_refuses_and_says_what_to_enable(tmp_path):
    course = classroom.course(tmp_path, {"student01": classroom.RIGHT})
    before = classroom.tables(course)
    done = autograder(tmp_path, "grade", "p01")
    assert (done.returncode, done.stdout.strip()) == (1, "")
    assert done.stderr.count("user namespaces") == 1
    assert ADVICE in done.stderr
    assert "--no-isolation" in done.stderr
    assert classroom.tables(course) == before
    assert not (tmp_path / "autograded").exists()


def test_grading_without_isolation_is_recorded(tmp_path):
    course = classroom.course(
        tmp_path, {"student01": classroom.RIGHT, "student02": classroom.WRONG}
    )
    done = autograder(tmp_path, "grade", "p01", "--no-isolation", "--json")
    assert (done.returncode, done.stderr.strip()) == (0, "")
    for outcome in json.loads(done.stdout)["submissions"]:
        text = {"student01": classroom.RIGHT, "student02": classroom.WRONG}[outcome["student"]]
        assert outcome["score"] == classroom.POINTS[text]
        assert outcome["record"][classroom.STEM]["isolated"] is False
        path = f"autograded/{outcome['student']}/{classroom.STEM}/{classroom.STEM}.ipynb"
        assert notebooks.read(course.root / path).metadata.autograder.isolated is False


def test_sample_class_is_graded_all_the_same(tmp_path):
    """Its submissions are the course's own: `make` grades them, and says how."""
    folders = [f"{place}/{sample.STEM}" for place in ("source", "release", "tests/answers")]
    for name in ("nbgrader_config.py", *folders):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, tmp_path / name)
    done = autograder(tmp_path, "sample")
    assert done.returncode == 0, done.stderr
    assert "graded without isolation; this host forbids user namespaces" in done.stdout
    assert ADVICE in done.stdout
    assert [done.stdout.count(score) for score in ("10 of 10", " 0 of 10")] == [1, 1]
    path = f"_build/sample_class/autograded/student01/{sample.STEM}/{sample.STEM}.ipynb"
    assert notebooks.read(tmp_path / path).metadata.autograder.isolated is False


def test_doctor_says_it(tmp_path):
    done = autograder(tmp_path, "doctor")
    assert done.returncode == 1
    said = [line.split() for line in done.stdout.splitlines()]
    assert ["│", "isolation", "│", "no", "│"] in said
    assert f"\nisolation: this host forbids user namespaces: {ADVICE}" in done.stdout


def test_tests_of_isolation_are_skipped_by_name():
    done = call(ROOT, "-m", "pytest", "tests/test_isolation.py", "-q", "--no-header")
    assert done.returncode == 0, done.stdout
    assert "tests/test_isolation.py" in done.stdout
    assert f"no isolation here: this host forbids user namespaces: {ADVICE}" in done.stdout
    assert "0 passed, 0 failed" in done.stdout
