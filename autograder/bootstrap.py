"""Make .venv from requirements.lock. Run as a script, by a bare Python: standard library only."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
BIN = os.path.join(VENV, "Scripts" if os.name == "nt" else "bin")
STAMP = os.path.join(VENV, "course.stamp")
LOCK = os.path.join(ROOT, "requirements.lock")
LAB_SETTINGS = os.path.join(VENV, "share", "jupyter", "lab", "settings")
# JupyterLab would ask each new user whether it may fetch news.
LAB_OVERRIDES = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}
# Packages that are read as data: what they need to be run is left out.
DATA = os.path.join(ROOT, "autograder", "lab", "data", "packages.txt")
OLDEST = (3, 11)


def fail(message):
    sys.exit("setup: " + message)


def run(command):
    """Run a command quietly; show what it printed only where it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        fail("this failed: " + " ".join(command) + "\n" + done.stdout[-3000:])


def may_install():
    """Say whether this is a Debian machine on which we are root."""
    return shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0


def apt(package):
    print("setup: installing the system package " + package, flush=True)
    run(["apt-get", "update", "-qq"])
    run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", package])


def place():
    """Name what a whole environment hangs on: where it stands and which Python made it."""
    return hashlib.sha256((ROOT + sys.version).encode()).hexdigest()


def content():
    """Name what its packages hang on: the locks, and the course's own package."""
    digest = hashlib.sha256()
    for path in (LOCK, DATA, os.path.join(ROOT, "pyproject.toml")):
        with open(path, "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def read_stamp():
    try:
        with open(STAMP) as file:
            return file.read().split()
    except OSError:
        return []


def make_venv():
    try:
        import ensurepip  # noqa: F401
    except ImportError:
        package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
        if not may_install():
            fail("this Python cannot make environments: install " + package + ", then run it again")
        apt(package)
    run([sys.executable, "-m", "venv", "--clear", VENV])


def install():
    """Install the lock, with a line of progress for what is by far the longest step."""
    with open(LOCK) as file:
        total = sum(1 for line in file if "==" in line)
    print(f"setup: installing {total} packages into .venv (once; some minutes)", flush=True)
    pip = [os.path.join(BIN, "python"), "-m", "pip", "--disable-pip-version-check"]
    process = subprocess.Popen(
        [*pip, "install", "--no-warn-script-location", "-r", LOCK],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    seen, tail = 0, []
    for line in process.stdout:
        tail = [*tail[-40:], line]
        if line.startswith(("Collecting", "Requirement already")):
            seen += 1
            progress(f"{min(seen, total)}/{total} found")
        elif line.startswith("Installing collected"):
            progress("unpacking", last=True)
    if process.wait():
        errors = [line for line in tail if line.startswith("ERROR:")] or tail
        fail("pip could not install requirements.lock:\n" + "".join(errors))
    run([*pip, "install", "--no-deps", "-r", DATA])
    run([*pip, "install", "--no-deps", "--no-build-isolation", "-e", ROOT])
    os.makedirs(LAB_SETTINGS, exist_ok=True)
    with open(os.path.join(LAB_SETTINGS, "overrides.json"), "w") as file:
        json.dump(LAB_OVERRIDES, file)


def progress(text, last=False):
    """Rewrite one line on a terminal; elsewhere print only the last state."""
    if sys.stdout.isatty():
        print(f"\r       {text:<30}", end="\n" if last else "", flush=True)
    elif last:
        print(f"       {text}", flush=True)


def chromium():
    """Install Chromium for the browser tests where that is possible, and say so where it is not."""
    if any(shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")):
        return
    if may_install():
        apt("chromium")
    else:
        print(
            "setup: Chromium is missing, so browser tests will be skipped; install it to run them"
        )


def main():
    if sys.version_info < OLDEST:
        found = ".".join(map(str, sys.version_info[:2]))
        fail(f"Python {OLDEST[0]}.{OLDEST[1]} or newer is needed, and {sys.executable} is {found}")
    found = read_stamp()
    if found != [place(), content()]:
        if found[:1] != [place()]:
            make_venv()
            with open(STAMP, "w") as file:
                file.write(place())
        install()
        with open(STAMP, "w") as file:
            file.write(place() + "\n" + content())
    if "--tests" in sys.argv:
        chromium()


if __name__ == "__main__":
    main()
