"""What a fork takes over from the warm process is what a fresh kernel would have."""

from nbformat.v4 import new_code_cell, new_notebook

from autograder.sandbox import Sandbox, can_isolate

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
