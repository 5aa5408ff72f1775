"""The table of what a host has names what is missing and what to do about it."""

import sys

from autograder import doctor, sandbox


def rows():
    return {finding.what: finding for finding in doctor.findings()}


def test_versions_of_this_host_are_shown():
    found = rows()
    assert found["python"].found == sys.version.split()[0]
    assert found["nbgrader"].found == "0.9.6"
    assert all(not found[name].remedy for name in doctor.NEEDED)


def test_missing_package_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setattr(doctor, "NEEDED", ("no-such-package",))
    found = rows()["no-such-package"]
    assert (found.found, found.remedy) == ("missing", "pip install no-such-package")
    assert found.needed


def test_host_that_cannot_isolate_is_told_what_to_enable(monkeypatch):
    monkeypatch.setattr(sandbox, "can_isolate", lambda: "enable user namespaces")
    found = rows()["isolation"]
    assert (found.found, found.remedy) == ("no", "enable user namespaces")


def test_folder_without_a_course_is_said(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert "expected a folder with nbgrader_config.py" in rows()["course"].remedy
