"""What a fork takes over from the warm process is what a fresh kernel would have."""

from nbformat.v4 import new_code_cell, new_notebook

from autograder import answers
from autograder.sandbox import Sandbox, can_isolate
from autograder.scaffold import code_cell

# More texts than matplotlib keeps the layout of, so that it drops those of the rehearsal.
MANY_FORMULAS = """
import matplotlib.pyplot as plt
for number in range(60):
    figure = plt.figure(figsize=(2, 2))
    figure.suptitle(f"$x_{{{number}}}$")
    figure.canvas.draw()
    plt.close(figure)
plt.loglog([1, 1e5], [1e-12, 1])
plt.xlabel(r"scale of the scores, $\\sigma$")
plt.show()
"""
OPEN_FILES = """
import os
links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
print([os.readlink(link) for link in links if os.path.isfile(link)])
"""


def test_no_file_of_the_template_stays_open():
    """A file object that comes along would close its number, which is another file's by then."""
    with Sandbox(isolate=can_isolate() is None) as sandbox:
        cells = [new_code_cell(text) for text in (OPEN_FILES, MANY_FORMULAS)]
        done = sandbox.run(new_notebook(cells=cells), {})
    files, formulas = done.notebook.cells
    assert files.outputs[0].text == "[]\n"
    assert [output.output_type for output in formulas.outputs] == ["display_data"]


def test_imports_of_set_ups_and_checks_are_made_once():
    """What is not installed, or breaks on import, is left to the cell."""
    isolate = can_isolate() is None
    seen = new_code_cell(
        "import sys\nprint('colorsys' in sys.modules, 'antigravity' in sys.modules)"
    )
    lines = ["from nowhere_at_all import x", "1 / 0", "import colorsys"]
    with Sandbox(isolate=isolate, imports=lines) as sandbox:
        done = sandbox.run(new_notebook(cells=[seen]), {})
    assert done.notebook.cells[0].outputs[0].text == "True False\n"


def test_imports_stand_at_any_depth():
    check = "def compare():\n    from math import pi\n\n\nimport os\nimport os"
    magic = "%matplotlib inline\nimport time"
    cells = [code_cell("c", check, "p00_c", points=1), code_cell("m", magic, "p00_m")]
    own = new_code_cell("import random")
    assert answers.imports(new_notebook(cells=[*cells, own])) == [
        "import os",
        "from math import pi",
    ]
