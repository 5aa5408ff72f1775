"""nbgrader's zip_collect on what learning platforms let an instructor download."""

import shutil
import subprocess
import zipfile

import pytest
from classroom import RIGHT, STEM, course

# Where each lies in the download, and whom nbgrader is to take it for.
DOWNLOADED = {
    f"student01_{STEM}.ipynb": "student01",
    f"student02/{STEM}.ipynb": "student02",
    f"student03/{STEM}/{STEM}.ipynb": "student03",
    f"student04_12345_67890_{STEM}.ipynb": "student04",  # Canvas
    f"student05_LATE_12345_67890_{STEM}-1.ipynb": "student05",  # Canvas, late, handed in again
    f"Student Six_12345_assignsubmission_file/{STEM}.ipynb": "Student Six",  # Moodle
    f"student.seven@example.org_{STEM}.ipynb": "student.seven@example.org",
}


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """Two archives and a loose file, collected by command."""
    root = tmp_path_factory.mktemp("a_course p01_of mine")
    made = course(root, {"student00": RIGHT})
    text = (root / "submitted" / "student00" / STEM / f"{STEM}.ipynb").read_bytes()
    shutil.rmtree(root / "submitted")
    folder = root / "downloaded" / STEM / "archive"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "class.zip", "w") as archive:
        for name in DOWNLOADED:
            archive.writestr(name, text)
    with zipfile.ZipFile(folder / "student08.zip", "w") as archive:
        archive.writestr(f"{STEM}.ipynb", text)
    (folder / f"student09_{STEM}.ipynb").write_bytes(text)
    (folder / "notes.txt").write_text("no notebook")
    command = ["nbgrader", "zip_collect", STEM]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return made, text


def test_everybody_is_found(collected):
    made, text = collected
    found = {path.name for path in (made.root / "submitted").iterdir()}
    assert found == {*DOWNLOADED.values(), "student08", "student09"}
    for student in found:
        path = made.root / "submitted" / student / STEM / f"{STEM}.ipynb"
        assert path.read_bytes() == text
