"""The pages of problems: a Sphinx extension that Jupyter Book loads.

A problem's page shows the students' stub, folds the set-up, the solution and the checks, and holds
nothing of a hidden check. Other pages stay as they are.
"""

import copy
import hashlib
import html
import os
import re
import shutil
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import nbformat
from docutils import nodes
from nbformat import NotebookNode
from sphinx.addnodes import download_reference
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from autograder import feedback, notebooks, release
from autograder.answers import grading
from autograder.course import Course
from autograder.errors import AutograderError, CourseError, NotebookError

SOLUTION_MARKER = re.compile(r"^[ \t]*### (BEGIN|END) SOLUTION[^\n]*\n?", re.MULTILINE)
HIDDEN_NOTE = "# Hidden checks run here when your work is graded.\n"
TITLE = re.compile(r"\A\s*# [^\n]+\n?")
DESCRIPTION = (60, 160)  # characters, at least and at most

# All that a page loads of MathJax, out of the 24 MB that the package carries.
MATHJAX = ("tex-chtml.js", "input/tex/extensions", "output/chtml/fonts/woff-v2")


def transform(
    notebook: NotebookNode, stubs: dict[str, str], *, solutions: bool = True
) -> NotebookNode:
    """Return a source notebook as its page shows it; cells that grade nothing stay as they are.

    `stubs` gives, for each solution cell, what the student's notebook holds in its place.
    Raises: NotebookError where a marker is unknown or unmatched, or a stub is missing.
    """
    faults = list(release.marker_faults(notebook))
    if faults:
        raise NotebookError("; ".join(faults))
    notebook = copy.deepcopy(notebook)
    cells = []
    for cell in notebook.cells:
        if grading(cell).get("solution"):
            cells += _solution(cell, stubs, solutions)
        elif grading(cell).get("grade") and cell.cell_type == "code":
            cells.append(_check(cell))
        elif grading(cell).get("locked") and cell.cell_type == "code":
            part = grading(cell).grade_id.partition("_setup_")[2].replace("_", " ")
            cells.append(_folded(cell, f"the set-up{f' ({part})' if part else ''}"))
        else:
            cells.append(cell)
    notebook.cells = cells
    return notebook


def _solution(cell: NotebookNode, stubs: dict[str, str], solutions: bool) -> list[NotebookNode]:
    grade_id = grading(cell).grade_id
    if grade_id not in stubs:
        raise NotebookError(f"the release has no cell {grade_id}; run 'autograder release'")
    stub = _cleared(copy.deepcopy(cell))
    stub.source = stubs[grade_id]
    if not solutions:
        return [stub]
    cell.source = SOLUTION_MARKER.sub("", cell.source)
    cell.id = f"{cell.id[:55]}-solution"
    return [stub, _folded(_cleared(cell), "the solution")]


def _check(cell: NotebookNode) -> NotebookNode:
    cell.source = feedback.HIDDEN.sub(HIDDEN_NOTE, cell.source).rstrip("\n")
    points = grading(cell).get("points", 0)
    worth = f"{points:g} point{'' if points == 1 else 's'}"
    return _folded(_cleared(cell), f"the check {grading(cell).grade_id} ({worth})")


def _cleared(cell: NotebookNode) -> NotebookNode:
    if cell.cell_type == "code":
        cell.outputs, cell.execution_count = [], None
    return cell


def _folded(cell: NotebookNode, what: str) -> NotebookNode:
    cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide-input"]
    prompts = {"code_prompt_show": f"Show {what}", "code_prompt_hide": f"Hide {what}"}
    cell.metadata["mystnb"] = {**cell.metadata.get("mystnb", {}), **prompts}
    return cell


def offer(notebook: NotebookNode, line: str) -> NotebookNode:
    """Return the notebook with a line under its title.

    Raises: NotebookError where it does not open with a title.
    """
    notebook = copy.deepcopy(notebook)
    first = notebook.cells[0].source if notebook.cells else ""
    title = TITLE.match(first)
    if not title or notebook.cells[0].cell_type != "markdown":
        raise NotebookError("the first cell must open with the page's title, '# …'")
    rest = first[title.end() :]
    notebook.cells[0].source = f"{title[0].rstrip()}\n\n{line}\n\n{rest.lstrip()}".rstrip()
    return notebook


def bundle(course: Course, stem: str, folder: Path) -> Path:
    """Give the one file that holds a release: its notebook, or a zip where there is more.

    Raises: CourseError where the release is missing.
    """
    notebook = course.release(stem)
    if not notebook.exists():
        raise CourseError(f"release/{stem}: missing; run 'autograder release {stem}'")
    files = sorted(path for path in notebook.parent.rglob("*") if path.is_file())
    if files == [notebook]:
        return notebook
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / f"{stem}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:  # a fixed date, so that the same release makes the same file
            name = f"{stem}/{path.relative_to(notebook.parent).as_posix()}"
            archive.writestr(zipfile.ZipInfo(name), path.read_bytes(), zipfile.ZIP_DEFLATED)
    return folder / f"{stem}.zip"


def setup(app: Sphinx) -> dict:
    """Register the extension; a change of the code that makes a page makes every page again."""
    code = b"".join(
        Path(m.__file__).read_bytes() for m in (sys.modules[__name__], release, feedback)
    )
    app.add_config_value("course_code", hashlib.sha256(code).hexdigest(), "env", types=[str])
    app.add_config_value("course_solutions", True, "env", types=[bool])
    app.connect("config-inited", name_repository)
    app.connect("source-read", read_source)
    app.connect("html-page-context", describe)
    app.connect("html-page-context", mend_roles)
    app.connect("html-page-context", launch_release, priority=900)  # after the theme's buttons
    app.connect("build-finished", copy_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def name_repository(app: Sphinx, config: object) -> None:
    """Let launch buttons lead to the repository that publishes the book; without one, have none."""
    options = config.html_theme_options
    if not options.get("repository_url") and "GITHUB_REPOSITORY" in os.environ:
        server = os.environ.get("GITHUB_SERVER_URL", "https://github.com")
        options["repository_url"] = f"{server}/{os.environ['GITHUB_REPOSITORY']}"
    if not options.get("repository_url"):
        options.pop("repository_url", None)
        options["launch_buttons"] = {}


def read_source(app: Sphinx, docname: str, content: list[str]) -> None:
    """Replace the text of a problem's source by the text of its page."""
    if not docname.startswith("source/"):
        return
    course, stem = Course(Path(app.srcdir)), docname.split("/")[1]
    try:
        download = bundle(course, stem, Path(app.doctreedir).parent / "downloads")
        released = release.stub(course, stem)
        stubs = {c.metadata.nbgrader.grade_id: c.source for c in released.cells if grading(c)}
        notebook = nbformat.reads(content[0], as_version=4)
        page = transform(notebook, stubs, solutions=app.config.course_solutions)
        where = os.path.relpath(download, course.source(stem).parent)
        page = offer(page, f"{{download}}`Download {download.name} <{where}>`")
    except AutograderError as error:
        raise ExtensionError(f"{docname}: {error}") from error
    for path in course.release(stem).parent.rglob("*"):
        app.env.note_dependency(str(path))
    content[0] = notebooks.dumps(page)


def describe(app: Sphinx, pagename: str, template: str, context: dict, doctree: object) -> None:
    """Describe each page to search engines by its first paragraph that says something."""
    if doctree is None:
        return
    texts = [
        " ".join(paragraph.astext().split())
        for paragraph in doctree.findall(nodes.paragraph)
        if not isinstance(paragraph.parent, nodes.list_item)
        and next(paragraph.findall(download_reference), None) is None
    ]
    text = next((text for text in texts if len(text) >= DESCRIPTION[0]), "".join(texts[:1]))
    if len(text) > DESCRIPTION[1]:
        text = text[: DESCRIPTION[1]].rsplit(" ", 1)[0] + "…"
    tag = f'<meta name="description" content="{html.escape(text)}" />'
    context["metatags"] = f"{context.get('metatags', '')}\n{tag}\n"


def mend_roles(app: Sphinx, pagename: str, template: str, context: dict, doctree: object) -> None:
    """Take roles off citations: docutils says `list`, and what it puts in are no items of one."""
    if "body" in context:
        roles = r' role="list"(?= class="citation-list")| role="doc-biblioentry"'
        context["body"] = re.sub(roles, "", context["body"])


def launch_release(
    app: Sphinx, pagename: str, template: str, context: dict, doctree: object
) -> None:
    """Let a problem's launch buttons open what students get, and not the source."""
    for group in context.get("header_buttons", []):
        if group.get("label") == "launch-buttons" and pagename.startswith("source/"):
            for button in group["buttons"]:
                button["url"] = button["url"].replace(pagename, f"release{pagename[6:]}")


def copy_mathjax(app: Sphinx, error: Exception | None) -> None:
    """Put MathJax beside the pages, so that they draw mathematics without a network."""
    if error or app.builder.format != "html":
        return
    data = distribution("sphinx-mathjax-offline").locate_file(
        "sphinx-mathjax-offline/static/mathjax"
    )
    for name in MATHJAX:
        source, target = Path(str(data)) / name, Path(app.outdir) / "mathjax" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copy(source, target)
