"""The built book: complete, without a hidden check, and working offline straight from its files."""

import hashlib
import html
import json
import re
import shutil
import subprocess
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from axe_playwright_python.base import AXE_SCRIPT
from bs4 import BeautifulSoup
from conftest import ROOT, browser_test

from autograder import book, notebooks
from autograder.answers import graded_cells, grading, solution_cells
from autograder.course import Course
from autograder.errors import CourseError

COURSE = Course(ROOT)
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
PAGES = [TOC["root"], *(page["file"] for part in TOC["parts"] for page in part["chapters"])]
PROBLEMS = [f"source/{stem}/{stem}" for stem in COURSE.stems]
# Words that stand in the copy's solutions and hidden checks alone; stemming leaves them alone.
CANARY = {"SOLUTION": "canarysong", "HIDDEN TESTS": "canarynest"}
PHONE = 360


def last(page):
    return page.rsplit("/", 1)[-1]


every_page = pytest.mark.parametrize("page", PAGES, ids=last)
every_problem = pytest.mark.parametrize("page", PROBLEMS, ids=last)


@dataclass
class Site:
    course: Course  # a copy with canaries
    open: Path
    closed: Path  # without solutions

    def soup(self, page, folder=None):
        text = ((folder or self.open) / f"{page}.html").read_text(encoding="utf-8")
        return BeautifulSoup(text, "html.parser")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Both books, built into empty folders of a copy whose path has a space in it."""
    root = tmp_path_factory.mktemp("a course")
    for name in ("chapters", "source", "release"):
        shutil.copytree(ROOT / name, root / name)
    for name in ("_config.yml", "_toc.yml", "nbgrader_config.py", "requirements.lock"):
        shutil.copy(ROOT / name, root)
    course = Course(root)
    for stem in course.stems:
        notebook = notebooks.read(course.source(stem))
        for cell in notebook.cells:
            for region, word in CANARY.items():
                marker = rf"^( *)(### BEGIN {region})$"
                cell.source = re.sub(
                    marker, rf"\1\2\n\1{word} = 0", cell.source, flags=re.MULTILINE
                )
        course.source(stem).write_text(notebooks.dumps(notebook), encoding="utf-8")
    for command in ("autograder book", "autograder book --no-solutions"):
        done = subprocess.run(command.split(), cwd=root, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return Site(course, course.build / "html", course.build / "class" / "html")


# What is in it


@every_page
def test_page_is_complete(site, page):
    for folder in (site.open, site.closed):
        soup = site.soup(page, folder)
        title = soup.h1.get_text().removesuffix("#").strip()
        assert title
        assert title in soup.title.get_text()
        assert soup.html["lang"] == "en"
        assert 60 <= len(soup.find("meta", {"name": "description"})["content"]) <= 161
        assert all(image.get("alt", "").strip() for image in soup.find_all("img"))


def test_books_stand_where_they_are_looked_for(site):
    assert site.open == site.course.root / "_build" / "html"
    assert site.closed == site.course.root / "_build" / "class" / "html"
    assert "chapters/intro.html" in (site.open / "index.html").read_text(encoding="utf-8")
    assert (site.open / ".nojekyll").exists(), "GitHub Pages drops _static without it"


@every_page
def test_links_lead_somewhere(site, page):
    here = site.open / f"{page}.html"
    targets = {a["href"] for a in site.soup(page).find_all("a", href=True)}
    local = {urlsplit(target) for target in targets if not urlsplit(target).scheme}
    assert local
    for target in local:
        path = (here.parent / unquote(target.path)).resolve() if target.path else here
        assert path.exists(), f"{page} links to {target.path}"


@every_problem
def test_download_is_the_release(site, page):
    """Right under the title, named for its file, byte for byte what nbgrader wrote."""
    soup = site.soup(page)
    link = soup.h1.find_next("a", class_="download")
    assert soup.h1.find_next("p").find("a") == link
    released = site.course.root / Path(page.replace("source", "release", 1)).parent
    files = {path.name: path.read_bytes() for path in released.iterdir()}
    suffix = "zip" if len(files) > 1 else "ipynb"
    assert link.get_text() == f"Download {released.name}.{suffix}"
    file = (site.open / f"{page}.html").parent / link["href"]
    if suffix == "zip":
        with zipfile.ZipFile(file) as archive:
            names = {name: name.partition("/")[2] for name in archive.namelist()}
            assert {names[name]: archive.read(name) for name in names} == files
    else:
        assert file.read_bytes() == files[f"{released.name}.ipynb"]


def set_up_cells(notebook):
    locked = [cell for cell in notebook.cells if grading(cell).get("locked")]
    return [cell for cell in locked if not grading(cell)["grade"]]


@every_problem
def test_stub_is_open_and_the_rest_of_the_code_is_folded(site, page):
    source = notebooks.read(site.course.root / f"{page}.ipynb")
    soup = site.soup(page)
    folds = [fold for fold in soup.find_all("details") if "hide" in fold.get("class", [])]
    summaries = [" ".join(fold.summary.get_text(" ").split()) for fold in folds]
    assert sum("Show the solution" in s for s in summaries) == len(solution_cells(source))
    assert sum("Show the check" in s for s in summaries) == len(graded_cells(source))
    assert sum("Show the set-up" in s for s in summaries) == len(set_up_cells(source))
    assert any(CANARY["SOLUTION"] in fold.get_text() for fold in folds)
    for fold in folds:
        fold.decompose()
    unfolded = soup.get_text()
    assert "# YOUR CODE HERE" in unfolded
    assert CANARY["SOLUTION"] not in unfolded


@every_problem
def test_book_without_solutions_keeps_the_rest(site, page):
    text = site.soup(page, site.closed).get_text()
    assert "# YOUR CODE HERE" in text
    assert "Show the check" in text
    assert "Show the solution" not in text


# What is not in it


@cache
def texts(folder):
    """Give each file's name and what it says, as it stands and as a reader sees it."""
    return list(_texts(folder))


def _texts(folder):
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        text = path.read_bytes().decode("utf-8", errors="ignore")
        if path.suffix == ".html":
            text += html.unescape(text) + BeautifulSoup(text, "html.parser").get_text()
        if path.suffix == ".ipynb":
            text += "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
        yield path.relative_to(folder), text


def found(folder, lines):
    return [(str(path), line) for path, text in texts(folder) for line in lines if line in text]


def lines_of(course, *regions):
    """Give the lines in these regions of the sources that no visible text of the course holds."""
    secret, shown = set(), []
    for path in [*course.chapters, *(course.source(stem) for stem in course.stems)]:
        for cell in notebooks.read(path).cells:
            inside = False
            for line in cell.source.splitlines():
                marker = re.fullmatch(r"\s*### (BEGIN|END) (.+)", line)
                if marker:
                    inside = marker[1] == "BEGIN" and marker[2] in regions
                elif inside and len(line.strip()) >= 12:
                    secret.add(line.strip())
                elif not inside:
                    shown.append(line)
    shown = "\n".join(shown)
    return sorted(line for line in secret if line not in shown)


def test_no_hidden_check_is_anywhere(site):
    lines = lines_of(site.course, "HIDDEN TESTS")
    assert len(lines) > len(site.course.stems)
    for folder in (site.open, site.closed):
        assert found(folder, [*lines, CANARY["HIDDEN TESTS"]]) == []


def test_no_solution_is_in_the_book_without_solutions(site):
    lines = lines_of(site.course, "HIDDEN TESTS", "SOLUTION")
    assert len(lines) > len(lines_of(site.course, "HIDDEN TESTS"))
    assert found(site.closed, [*lines, *CANARY.values()]) == []


def test_the_search_would_find_a_leak(site):
    """The solutions that may be in the open book are found there, in its search index too."""
    lines = set(lines_of(site.course, "SOLUTION"))
    leaks = found(site.open, [*lines, CANARY["SOLUTION"]])
    assert {line for _, line in leaks} == {*lines, CANARY["SOLUTION"]}
    assert ("searchindex.js", CANARY["SOLUTION"]) in leaks


def test_no_marker_is_anywhere(site):
    markers = [f"### {side} {region}" for side in ("BEGIN", "END") for region in CANARY]
    for folder in (site.open, site.closed):
        assert found(folder, markers) == []
        assert not (folder / "_sources").exists()


def test_nothing_is_loaded_from_elsewhere(site):
    """Scripts, styles, pictures and fonts are files of the book; links to read are no matter."""
    attributes = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
    checked = 0
    for path in sorted(set(site.open.rglob("*.html")) - set((site.open / "_static").rglob("*"))):
        soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        for tag in soup.find_all(list(attributes)):
            target = tag.get(attributes[tag.name])
            if target and not target.startswith("data:"):
                assert not re.match(r"(\w+:)?//", target), f"{path.name} loads {target}"
                assert (path.parent / unquote(urlsplit(target).path)).exists(), (path.name, target)
                checked += 1
        styles = " ".join(tag.get_text() for tag in soup.find_all("style"))
        assert not re.search(r"(url\(|@import)[\s\"']*(\w+:)?//", styles)
    assert checked > 10 * len(PAGES)
    for path in site.open.rglob("*.css"):
        assert not re.search(r"(url\(|@import)[\s\"']*(https?:)?//", path.read_text("utf-8")), path


# Building


def state(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_second_build_does_no_work_twice(site, capsys):
    before = state(site.course.build)
    assert book.build(site.course) == site.open / "index.html"
    assert "up to date" in capsys.readouterr().out
    assert state(site.course.build) == before


@pytest.fixture
def small(tmp_path):
    """A book of one page, with a file that nothing may delete."""
    shutil.copy(ROOT / "_config.yml", tmp_path)
    shutil.copytree(ROOT / "chapters" / "_static", tmp_path / "chapters" / "_static")
    shutil.copy(ROOT / "chapters" / "references.bib", tmp_path / "chapters")
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: chapters/intro\n")
    (tmp_path / "chapters" / "intro.md").write_text("# Intro\n\nA page of a book.\n")
    return Course(tmp_path)


def test_warning_stops_the_build_each_time_and_keeps_the_old_book(small, capsys):
    """Sphinx alone passes on the second run: it reads only what changed."""
    index = book.build(small, output=small.root / "public")
    assert "reading the pages" in capsys.readouterr().out
    digest = hashlib.sha256((index.parent / "chapters" / "intro.html").read_bytes()).digest()
    (small.root / "chapters" / "intro.md").write_text("# Intro\n\nSee {doc}`nowhere`.\n")
    for _ in range(2):
        with pytest.raises(CourseError, match=r"intro\.md:3: WARNING: unknown document: .*nowhere"):
            book.build(small, output=small.root / "public")
    kept = hashlib.sha256((index.parent / "chapters" / "intro.html").read_bytes()).digest()
    assert kept == digest


def test_error_of_a_page_is_named(small):
    (small.root / "source" / "p99_x").mkdir(parents=True)
    notebook = notebooks.read(COURSE.source(COURSE.stems[0]))
    small.source("p99_x").write_text(notebooks.dumps(notebook), encoding="utf-8")
    (small.root / "_toc.yml").write_text(
        "format: jb-book\nroot: chapters/intro\nchapters:\n- file: source/p99_x/p99_x\n"
    )
    with pytest.raises(CourseError, match="release/p99_x: missing; run 'autograder release p99_x'"):
        book.build(small)


def test_folder_with_something_else_in_it_is_left_alone(small, tmp_path):
    keep = tmp_path / "mine" / "letter.txt"
    keep.parent.mkdir()
    keep.write_text("Dear reader")
    with pytest.raises(CourseError, match="name an empty folder"):
        book.build(small, output=keep.parent)
    assert keep.read_text() == "Dear reader"


# In a browser, from files, without a network


class Reader:
    """A browser that is offline and keeps a list of what went wrong."""

    def __init__(self, browser, site, **options):
        self.site = site
        self.context = browser.new_context(offline=True, **options)
        self.page = self.context.new_page()
        self.faults = []
        self.page.on("request", self._request)
        self.page.on("requestfailed", lambda r: self.faults.append(f"failed: {r.url}"))
        self.page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))
        self.page.on("console", self._console)

    def open(self, page, query=""):
        self.page.goto(f"{(self.site.open / page).as_uri()}.html{query}")
        return self.page

    def _request(self, request):
        if not request.url.startswith(("file:", "data:")):
            self.faults.append(f"network: {request.url}")

    def _console(self, message):
        if message.type == "error":
            self.faults.append(f"console: {message.text}")


@pytest.fixture
def reader(browser, site, request):
    reader = Reader(browser, site, **getattr(request, "param", {}))
    yield reader
    reader.context.close()
    assert reader.faults == []


def at_width(width):
    viewport = {"viewport": {"width": width, "height": 780}}
    return pytest.mark.parametrize("reader", [viewport], indirect=True, ids=[f"{width}px"])


def in_themes(*themes):
    options = [{"color_scheme": theme} for theme in themes]
    return pytest.mark.parametrize("reader", options, indirect=True, ids=themes)


class TestBrowser:
    pytestmark = browser_test

    @every_page
    def test_mathematics_is_drawn(self, reader, page):
        tab = reader.open(page)
        expected = tab.locator(".bd-article .math").count()
        if page in PROBLEMS:
            assert expected
        if expected:
            tab.wait_for_function("window.MathJax?.startup?.promise")
            tab.evaluate("MathJax.startup.promise.then(() => document.fonts.ready)")
            sizes = tab.locator(".bd-article mjx-container").evaluate_all(
                "all => all.filter(e => !e.closest('details:not([open])'))"
                ".map(e => Math.min(e.offsetWidth, e.offsetHeight))"
            )
            assert tab.locator(".bd-article mjx-container").count() >= expected
            assert min(sizes) > 0
            fonts = tab.evaluate("[...document.fonts].map(f => f.family + ' ' + f.status)")
            assert any(f.startswith("MJXTEX") and f.endswith(" loaded") for f in fonts)
            # An unknown command is drawn in red, a wrong formula as an error.
            assert tab.locator("mjx-merror, mjx-mtext[style*=red]").count() == 0

    def test_search_finds_pages(self, reader):
        tab = reader.open("search", "?q=softmax")
        results = tab.locator("#search-results li a")
        # They come one by one, and a problem is not the first.
        tab.locator(f"#search-results li a[href*='{PROBLEMS[0]}']").first.wait_for()
        target = results.first.evaluate("first => first.href")
        results.first.click()
        tab.wait_for_url(target.split("#")[0].split("?")[0] + "*")

    def test_one_search_box(self, reader):
        tab = reader.open(PAGES[0])
        assert (
            tab.locator(".search-button-field:visible, .search-button__button:visible").count() == 1
        )

    def test_dark_theme(self, reader):
        """The button goes round light, dark and automatic; text stays readable in each."""
        tab = reader.open(PROBLEMS[0])
        seen = {}
        for _ in range(3):
            tab.locator(".theme-switch-button:visible").click()
            theme = tab.evaluate("document.documentElement.dataset.theme")
            seen[theme] = tab.evaluate(
                "['color', 'backgroundColor'].map(c => getComputedStyle(document.body)[c])"
            )
        assert seen.keys() == {"light", "dark"}
        assert all(contrast(*colours) > 7 for colours in seen.values())

    @every_page
    def test_page_is_accessible(self, reader, page):
        """Nothing that axe-core calls serious; code, everywhere the same, has its own test."""
        tab = opened_wide(reader, page)
        everywhere_the_same = tab.locator(".highlight, mjx-container")
        everywhere_the_same.evaluate_all("all => all.forEach(e => e.replaceChildren())")
        for theme, rules in (("light", {}), ("dark", {"runOnly": ["color-contrast"]})):
            tab.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
            assert violations(tab, {"exclude": [".highlight", "mjx-container"]}, rules) == []

    @in_themes("light", "dark")
    def test_code_is_legible(self, reader):
        tab = opened_wide(reader, PROBLEMS[0])
        classes = tab.locator(".highlight span").evaluate_all(
            "all => [...new Set(all.map(e => e.className))]"
        )
        assert {"k", "n", "mi", "s2", "c1"} <= set(classes)
        assert violations(tab, {"include": [".highlight"]}, {"runOnly": ["color-contrast"]}) == []

    def test_axe_would_find_something(self, reader):
        tab = opened_wide(reader, PAGES[0])
        tab.locator(".bd-article p").first.evaluate("e => e.style.color = '#ddd'")
        rules = {"runOnly": ["color-contrast"]}
        assert "contrast" in violations(tab, {"include": [".bd-article"]}, rules)[0]

    @every_page
    def test_folds_open_from_the_keyboard(self, reader, page):
        """Each takes the focus; Enter opens the first of a page and the last."""
        tab = reader.open(page)
        folds = tab.locator(".bd-article details:not(details details)")
        reached = folds.locator("> summary").evaluate_all(
            "all => all.map(e => (e.focus(), e === document.activeElement && e.tabIndex === 0))"
        )
        assert len(reached) == folds.count()
        assert all(reached)
        for fold in (folds.first, folds.last) if reached else ():
            before = fold.evaluate("e => e.open")
            fold.locator("> summary").press("Enter")
            assert fold.evaluate("e => e.open") is not before

    @at_width(PHONE)
    @every_page
    def test_page_is_light_and_fits_a_phone(self, reader, site, page):
        """What the page adds to the scripts and styles that all pages share; no sideways scroll."""
        loaded = set()
        reader.page.on("request", lambda request: loaded.add(urlsplit(request.url)))
        tab = reader.open(page)
        tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        tab.wait_for_load_state("load")
        assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE
        files = [Path(unquote(url.path)) for url in loaded if url.scheme == "file"]
        own = [f for f in files if f.relative_to(site.open).parts[0] not in ("_static", "mathjax")]
        assert own
        assert sum(file.stat().st_size for file in own) < 2_000_000

    def test_solution_opens_on_a_click(self, reader):
        tab = reader.open(PROBLEMS[0])
        fold = tab.locator("details.hide", has_text="Show the solution")
        answer = fold.get_by_text(CANARY["SOLUTION"])
        assert not answer.is_visible()
        fold.locator("summary").click()
        assert answer.is_visible()


def opened_wide(reader, page):
    """Open a page and all that is folded on it, at once: what fades in is pale at first."""
    tab = reader.open(page)
    tab.add_style_tag(content="* { animation: none !important; transition: none !important }")
    tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    tab.evaluate(AXE_SCRIPT)
    return tab


def violations(tab, where, rules):
    """Name what axe-core finds there that is serious or critical, with the first place of each."""
    found = tab.evaluate(
        "([where, rules]) =>"
        " axe.run(where, {preload: false, resultTypes: ['violations'], ...rules})"
        ".then(result => result.violations)",
        [where, rules],
    )
    return [
        f"{v['id']}: {v['help']}: {v['nodes'][0]['html'][:200]}"
        for v in found
        if v["impact"] in ("serious", "critical")
    ]


def contrast(*colours):
    """Give the contrast ratio of two colours as WCAG defines it, from 1 to 21."""
    levels = []
    for colour in colours:
        channels = [int(number) / 255 for number in re.findall(r"\d+", colour)[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        levels.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(levels) + 0.05) / (min(levels) + 0.05)


def test_contrast():
    assert contrast("rgb(0, 0, 0)", "rgb(255, 255, 255)") == pytest.approx(21)
    assert contrast("rgb(9, 9, 9)", "rgb(9, 9, 9)") == 1
