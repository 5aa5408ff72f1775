"""`autograder report`: its numbers, its lists, what it shows of untrusted text, and its page."""

import csv
import io
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import classroom
import numpy as np
import pytest
from bs4 import BeautifulSoup
from conftest import browser_test
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pointbiserialr, rankdata
from test_book import contrast

from autograder import figures, items, notebooks, report, workers
from autograder.errors import GradingError
from autograder.grading import Grading
from autograder.pipeline import Pipeline
from autograder.results import plain
from autograder.sandbox import can_isolate

ISOLATE = can_isolate() is None
ATTACK = "<script>document.title='taken'</script>"
STRANGE = "<script>alert(1)<&\"'>"
EVIL = (
    f"def double(x):\n    text = {ATTACK!r} + chr(0x202E) + chr(27) + '[31m'\n"
    "    raise ValueError(text + 'y' * 9000)"
)
LONG = (
    "def double(x):\n    total = torch.zeros_like(torch.as_tensor(x))\n    for step in range(2):\n"
    "        total = total + torch.as_tensor(x) * (step + 1) / (step + 1)\n    return total.to(int)"
)
COPY = LONG.replace("total", "summe").replace("step", "schritt") + "  # my own"
CLASS = {
    "ada": classroom.RIGHT,
    "bob": classroom.WRONG,
    "cyd": classroom.EMPTY,
    "dan": LONG,
    "eve": COPY,
    "evil": EVIL,
    STRANGE: classroom.WRONG,
    "gone": "def double(x):\n    import os\n    os._exit(3)",
}
CHECKS = [f"p01_check_{number}" for number in (1, 2, 3, 1000, 2000)]
WIDE, PHONES = 1200, (390, 360)


# Items


def points(table):
    """Give the rows of a table of points as the classes that `items` takes: of one point each."""
    return [{f"c{n}": (float(score), 1.0) for n, score in enumerate(row)} for row in table]


@pytest.mark.parametrize("seed", range(5))
def test_indices_equal_those_of_scipy_and_numpy(seed):
    """A hundred submissions, none of which tie: 27 stand above and 27 below."""
    random = np.random.default_rng(seed)
    ability = random.normal(size=(100, 1))
    table = (ability + random.normal(size=(100, 8)) > random.normal(size=8)).astype(float)
    unique = np.arange(100)[:, None] / 1000  # a cell of its own, which keeps totals apart
    found = items.analyse(points(np.hstack([table, unique])))
    totals = table.sum(1) + unique[:, 0]
    order = np.argsort(totals)
    for n, item in enumerate(found[:8]):
        own = table[:, n]
        assert item.rest == pytest.approx(pointbiserialr(own == 1, totals - own).statistic)
        assert item.rest == pytest.approx(np.corrcoef(own, totals - own)[0, 1])
        assert item.upper == pytest.approx(own[order[-27:]].mean())
        assert item.lower == pytest.approx(own[order[:27]].mean())
        assert item.difference == pytest.approx(item.upper - item.lower)
        assert (item.passed, item.rate) == (own.sum(), own.mean())


def test_indices_by_hand():
    """Four submissions: a cell that the good have, its opposite, and one that all have."""
    good, bad, easy = items.analyse(points([[1, 0, 1], [1, 0, 1], [0, 1, 1], [0, 1, 1]]))
    assert (good.rest, bad.rest, easy.rest) == (-1, -1, None)
    assert (good.upper, good.lower) == (None, None), "all totals are equal"
    first, second = items.analyse(points([[1, 1], [1, 1], [0, 0], [0, 0]]))
    assert first.rest == second.rest == pytest.approx(1)
    assert (first.upper, first.lower, first.difference) == (1, 0, 1)


@given(
    st.lists(st.lists(st.sampled_from([0, 0.5, 1]), min_size=3, max_size=3), min_size=1),
    st.randoms(),
)
def test_no_order_decides(table, random):
    """Ties share the places in a group, so who stands first in the list changes nothing."""
    rows = points(table)
    mixed = random.sample(rows, len(rows))
    for one, other in zip(items.analyse(rows), items.analyse(mixed), strict=True):
        assert (one.passed, one.graded) == (other.passed, other.graded)
        for index in ("rest", "upper", "lower"):
            assert getattr(one, index) == pytest.approx(getattr(other, index)), index


@given(st.lists(st.integers(0, 10), min_size=1, max_size=60))
def test_groups_hold_27_percent(totals):
    weights = items.group(totals)
    assert sum(weights) == pytest.approx(0.27 * len(totals))
    assert all(0 <= weight <= 1 for weight in weights)
    ranks = rankdata(totals)
    for (a, rank), (b, other) in itertools.combinations(zip(weights, ranks, strict=True), 2):
        assert a >= b if rank > other else a <= b if rank < other else a == b


def test_partial_points_and_missing_cells():
    rows = [{"a": (1.5, 2.0), "b": (0.1, 1.0)}, {"a": (2.0, 2.0)}, {}, {"a": (0.0, 2.0)}]
    a, b = items.analyse(rows)
    assert (a.graded, a.passed, a.points) == (3, 1, 2)
    assert a.share == pytest.approx((0.75 + 1 + 0) / 3)
    assert (b.graded, b.passed, b.rest) == (1, 0, None)


def test_sums_that_round_vary_no_more_than_they_do():
    """0.1 + 0.2 - 0.2 is not 0.1 to a computer; a correlation with that would be luck."""
    rows = [{"a": (a, 1.0), "b": (0.1, 1.0), "c": (0.2, 1.0)} for a in (0.1, 0.7, 0.3, 0.2, 1.0)]
    assert [item.rest for item in items.analyse(rows)] == [None, None, None]


def test_no_class_has_no_items():
    assert items.analyse([]) == items.analyse([{}]) == []


# A graded class


def pipeline_of(course):
    return Pipeline(course, root=course.root, log=course.root / "log" / "log")


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """A class with everything in it; two submissions came later, one graded one lost its record."""
    root = tmp_path_factory.mktemp("class")
    course = classroom.course(root, CLASS)
    beside = root / "submitted" / "bob" / classroom.STEM
    (beside / f"{classroom.STEM}.ipynb").rename(beside / "mine.ipynb")
    (beside / "<img src=x onerror=alert(1)>.txt").write_bytes(b"x" * (65 << 20))
    with (
        workers.local(2) as executor,
        Grading(pipeline_of(course), classroom.STEM, isolate=ISOLATE) as grading,
    ):
        outcomes = list(grading.run(grading.students([]), executor, ahead=2))
    assert [outcome.fault for outcome in outcomes if outcome.fault] == []
    classroom.submit(course, "late", classroom.RIGHT)
    classroom.submit(course, "torn", "").write_text(f"no notebook {ATTACK}")
    (root / "submitted" / "void" / classroom.STEM).mkdir(parents=True)
    bare = root / "autograded" / "cyd" / classroom.STEM / f"{classroom.STEM}.ipynb"
    notebook = notebooks.read(bare)
    del notebook.metadata["autograder"]
    bare.chmod(0o644)
    bare.write_text(notebooks.dumps(notebook), encoding="utf-8")
    page = root / "feedback" / STRANGE / classroom.STEM / f"{classroom.STEM}.html"
    page.parent.mkdir(parents=True)
    page.write_text("what the student reads")
    return course


@pytest.fixture(scope="module")
def written(graded):
    """Give the folder of the report, and what was found."""
    folder = graded.build / "report" / classroom.STEM
    found = report.write(pipeline_of(graded), classroom.STEM, folder)
    return folder, {result.student: result for result in found}


@pytest.fixture(scope="module")
def soup(written):
    return BeautifulSoup((written[0] / "report.html").read_text("utf-8"), "html.parser")


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))


def listed(written, name):
    return rows_of((written[0] / f"p01_{name}.csv").read_text("utf-8"))


def test_scores_are_those_of_the_gradebook(written):
    _, found = written
    assert {s: r.score for s, r in found.items() if not r.fault} == {
        "ada": 10, "bob": 4, "cyd": 0, "dan": 10, "eve": 10, "evil": 0, STRANGE: 4, "gone": 0,
    }  # fmt: skip
    assert all(list(result.scores) == CHECKS for result in found.values() if not result.fault)


def test_ungraded_submissions_are_named_with_what_can_be_seen(written):
    _, found = written
    assert found["late"].fault == "not graded; run 'autograder grade p01'"
    assert "is not a Jupyter notebook" in found["torn"].fault
    assert found["void"].fault == "not graded: expected p01_double.ipynb, got an empty folder"
    assert {r["student"] for r in listed(written, "scores") if r["fault"]} == {
        "late", "torn", "void",
    }  # fmt: skip


def test_submission_without_a_record_has_a_score_and_no_time(written, soup):
    result = written[1]["cyd"]
    assert (result.score, result.seconds, result.peak_bytes, result.isolated) == (0, *[None] * 3)
    assert written[1]["ada"].seconds > 0
    assert written[1]["ada"].isolated is ISOLATE
    assert "1 graded without a record" in soup.find(id="resources").get_text()


def test_lists_are_complete(written):
    """Each list against what the gradebook and the graded notebooks say."""
    found = written[1]
    done = {student: result for student, result in found.items() if not result.fault}
    scores = {row["student"]: row for row in listed(written, "scores")}
    assert scores.keys() == found.keys()
    for student, result in done.items():
        assert float(scores[student]["score"]) == result.score
        assert {c: float(scores[student][c]) for c in CHECKS} == {
            cell: score for cell, (score, _) in result.scores.items()
        }
    cells = {row["cell"]: row for row in listed(written, "cells")}
    assert [int(cells[c]["passed"]) for c in CHECKS] == [3, 3, 3, 5, 5]
    assert {(r["student"], r["cell"]) for r in listed(written, "messages")} == {
        (student, cell) for student, result in done.items() for cell in result.reasons
    }
    assert {row["student"] for row in listed(written, "resources")} == done.keys()
    assert {row["student"] for row in listed(written, "alike")} == {"dan", "eve"}


def test_copy_is_listed_and_marked_as_no_verdict(soup):
    section = soup.find(id="alike")
    assert "A place to look, and no verdict" in section.get_text()
    (group,) = section.select(".group")
    assert "dan, eve" in group.get_text()
    assert "but for names and layout" in group.get_text()
    assert [title.get_text() for title in group.find_all("h4")] == ["dan", "eve"]
    assert group.find("mark")


@pytest.mark.skipif(not ISOLATE, reason="without isolation nothing is seen")
def test_tampering_and_lost_processes_are_listed(written):
    assert {r["student"] for r in listed(written, "tampering")} == {"gone"}
    limits = listed(written, "limits")
    assert {row["student"] for row in limits} >= {"bob", "gone"}
    assert any(row["kind"] == "file" and "<img" in row["message"] for row in limits)


def test_repairs_are_listed(written, soup):
    (row,) = listed(written, "repairs")
    assert row["student"] == "bob"
    assert "mine.ipynb" in row["repair"]
    assert row["repair"] in soup.find(id="repairs").get_text()


# Untrusted text


def test_nothing_of_a_student_is_markup(soup):
    """In an id, a message, a file's name and a program; what is shown is what was written."""
    assert soup.find_all(["script", "img", "iframe", "object", "link", "base", "form"]) == []
    attributes = [name for tag in soup.find_all(True) for name in tag.attrs]
    assert [name for name in attributes if name.startswith("on") or name == "src"] == []
    text = soup.get_text()
    assert STRANGE in text
    assert ATTACK in text
    assert "<img src=x onerror=alert(1)>.txt" in text or not ISOLATE
    policy = soup.find("meta", {"http-equiv": "Content-Security-Policy"})["content"]
    assert "default-src 'none'" in policy
    assert "script" not in policy


def test_messages_are_bounded_and_plain(written, soup):
    reasons = written[1]["evil"].reasons
    assert all(len(reason) <= 502 for reason in reasons.values())
    text = (written[0] / "report.html").read_text("utf-8")
    assert "y" * 1000 not in text
    assert not re.search("[\x1b\u202e]", text)
    assert "\ufffd" in soup.get_text(), "what was taken out is seen to be gone"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb\x1b[0m", "ab"),
        ("a\x00b\rc\u202ed", "a\ufffdb\ufffdc\ufffdd"),
        ("half \ud800", "half \ufffd"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("é ü 漢 نص", "é ü 漢 نص"),
        ("x" * 20, "x" * 10 + " …"),
    ],
)
def test_plain_text(text, shown):
    assert plain(text, 10 if len(text) == 20 else 100) == shown


@pytest.mark.parametrize("student", ["=1+1", "+1", "-1", "@x", "\tx", "=cmd|' /C calc'!A0"])
def test_no_list_holds_a_formula(student):
    listing = report.Listing("x.csv", ["student", "score"], [[student, -1.5]])
    (row,) = rows_of(listing.text())
    assert row["student"].startswith("'")
    assert row["score"] == "-1.5"


def test_forged_records_are_no_records(graded, tmp_path):
    """Where a kernel of nbgrader's graded, this metadata may be what a student wrote."""
    path = graded.root / "autograded" / "ada" / classroom.STEM / f"{classroom.STEM}.ipynb"
    before = path.read_text("utf-8")
    path.chmod(0o644)
    try:
        for forged in (
            3,
            {"seconds": "1e999", "peak_bytes": True, "isolated": "yes", "events": "none"},
            {"seconds": float("nan"), "events": [1, {"cell": 1}, {"kind": ATTACK}], "repairs": 1},
            {"seconds": -1, "peak_bytes": 10**400, "events": {"cell": "c"}, "repairs": [2, None]},
        ):
            notebook = notebooks.read(path)
            notebook.metadata["autograder"] = forged
            path.write_text(notebooks.dumps(notebook), encoding="utf-8")
            found = report.results(pipeline_of(graded), classroom.STEM, {})
            ada = next(result for result in found if result.student == "ada")
            assert (ada.score, ada.seconds, ada.peak_bytes) == (10, None, None)
            assert (ada.events, ada.tampering, ada.repairs, ada.isolated) == ([], [], [], None)
            assert "ada" in report.page(classroom.STEM, found)
        path.write_text("{", encoding="utf-8")
        found = report.results(pipeline_of(graded), classroom.STEM, {})
        assert next(result for result in found if result.student == "ada").score == 10
    finally:
        path.write_text(before, encoding="utf-8")


# Small and large classes


def made(student, *scores, **other):
    return report.Result(
        student, {f"p01_c{n}": (score, 1.0) for n, score in enumerate(scores)}, **other
    )


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([], "0 submissions: 0 graded"),
        ([made("ada", 1, 0, 1)], "1 submission: 1 graded"),
        ([report.Result("ada", fault="not graded")], "Nothing is graded yet"),
        ([made("ada", 0, 0), made("bob", 0, 0)], "nobody has it"),
        ([made("ada", 1, 1), made("bob", 1, 1)], "everybody has it"),
        ([made("ada", 1, 1, penalty=0.5, seconds=0.0, peak_bytes=0)], "−0.5 late"),
        ([report.Result("ada", {"c": (0.0, 0.0)})], "1 graded"),
        ([report.Result("ada", {"c": (70.0, 90.0)}), made("bob")], "81"),
        ([made("a", 1, 0, seconds=5e-4, peak_bytes=1 << 45), made("b", 0, 1)], "b"),
        (
            [made("a", 1, seconds=9e14, peak_bytes=10**14), made("b", 0, seconds=1, peak_bytes=1)],
            "b",
        ),
    ],
)
def test_every_class_has_a_page(found, said):
    assert said in BeautifulSoup(report.page("p01_x", found), "html.parser").get_text()


@pytest.mark.parametrize(("size", "warned"), [(8, False), (80, True)])
def test_cell_against_the_others_is_named_where_chance_does_not_do_it(size, warned):
    """The last cell goes against the others in six of eight submissions."""
    pattern = [
        (1, 1, 0),
        (1, 1, 0),
        (1, 1, 0),
        (1, 1, 1),
        (0, 0, 1),
        (0, 0, 1),
        (0, 0, 0),
        (0, 0, 1),
    ]
    found = [made(f"s{n}", *pattern[n % 8]) for n in range(size)]
    soup = BeautifulSoup(report.page("p01_x", found), "html.parser")
    assert bool(soup.select("#cells .warn")) == warned
    assert ("read it again" in soup.get_text()) == warned
    assert ("no more than chance gives" in soup.get_text()) != warned


def test_late_penalty_is_taken_off():
    assert made("ada", 1, 1, penalty=0.5).score == 1.5
    assert made("ada", 1, 0, penalty=3).score == 0


def test_columns_count_everybody_once():
    found = [made(str(n), *[1.0] * n, *[0.0] * (5 - n)) for n in (0, 1, 1, 3, 5)]
    soup = BeautifulSoup(report.page("p01_x", found), "html.parser")
    shown = [(li.span.get_text(), li.b.get_text()) for li in soup.select(".columns li")]
    assert shown == [("0", "1"), ("1", "2"), ("2", ""), ("3", "1"), ("4", ""), ("5", "1")]


def test_messages_that_differ_in_numbers_are_one():
    found = [
        made(f"s{n}", 0, reasons={"p01_c0": f"AssertionError: {n}.5e-3 off", "p01_c1": "Other"})
        for n in range(3)
    ]
    found.append(made("last", 0, reasons={"p01_c0": "Other"}))
    soup = BeautifulSoup(report.page("p01_x", found), "html.parser")
    rows = [
        (row.td.get_text(strip=True), row.pre.get_text())
        for row in soup.select("#messages tbody tr")
    ]
    assert rows == [("4", "Other"), ("3", "AssertionError: 2.5e-3 off")]
    assert "3 forms with other numbers" in soup.find(id="messages").get_text()


def test_thousand_submissions_fit_on_a_page():
    """All of them, in a page that a phone can load."""
    found = [
        made(
            f"student{n:04d}",
            *(float((n * step) % 7 > 2) for step in range(1, 11)),
            reasons={"p01_c0": f"AssertionError: {'long ' * 500}{n}"},
            code=f"{LONG}\nprint({n}, {n}, {n})",
            seconds=1 + n / 100,
            peak_bytes=n << 20,
        )
        for n in range(1000)
    ]
    text = report.page("p01_x", found)
    assert len(text) < 6e6
    assert text.count('class="person"') == text.count('title="student') == 1000
    columns = re.search(r'<ol class="columns".*?</ol>', text, re.DOTALL)[0]
    assert sum(map(int, re.findall(r"<b>(\d+)</b>", columns))) == 1000


@given(st.lists(st.floats(1e-2, 1e15), min_size=1, max_size=5))
def test_axes_enclose_their_values(values):
    ticks = figures.axis(values)
    assert 2 <= len(ticks) <= 8
    assert ticks == sorted(set(ticks))
    assert ticks[0] * (1 - 1e-9) <= min(values)
    assert max(values) <= ticks[-1] * (1 + 1e-9)
    assert ticks[-1] >= 9.9 * ticks[0]


# The command


def command(root, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "autograder.cli", "report", *arguments],
        cwd=root,
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "100"},
    )


def test_command_writes_the_page_and_says_where(graded, tmp_path):
    done = command(graded.root, "p01")
    assert done.returncode == 0, done.stderr
    assert "11 submissions: 8 graded, 3 with full marks, 3 that could not" in done.stdout
    assert "_build/report/p01_double/report.html" in done.stdout
    assert (graded.build / "report" / "p01_double" / "p01_scores.csv").exists()
    done = command(graded.root, "p01_double", "--output", str(tmp_path / "there"))
    assert f"{tmp_path}/there/report.html" in done.stdout
    assert len(list((tmp_path / "there").iterdir())) == 9


def test_command_says_what_is_missing(tmp_path):
    course = classroom.course(tmp_path, {})
    done = command(course.root, "p01")
    assert done.returncode == 1
    assert "no submission: expected submitted/<student>/p01_double/" in done.stderr
    with pytest.raises(GradingError, match="no submission"):
        report.write(pipeline_of(course), classroom.STEM, tmp_path / "x")


# In a browser, from its file, without a network


@pytest.fixture
def open_page(browser, written):
    """Open the page; at the end, nothing was asked for and nothing ran."""
    contexts, faults = [], []

    def call(width=WIDE, **options):
        context = browser.new_context(
            offline=True, viewport={"width": width, "height": 780}, **options
        )
        contexts.append(context)
        tab = context.new_page()
        tab.on("request", lambda r: faults.append(r.url) if r.url[:5] != "file:" else None)
        tab.on("pageerror", lambda error: faults.append(f"script: {error}"))
        tab.on("console", lambda message: faults.append(f"console: {message.text}"))
        tab.on("dialog", lambda dialog: faults.append("a dialog opened") or dialog.dismiss())
        tab.goto((written[0] / "report.html").as_uri())
        return tab

    yield call
    for context in contexts:
        assert all(tab.title().startswith("Scores of") for tab in context.pages)
        context.close()
    assert faults == []


class TestBrowser:
    pytestmark = browser_test

    @pytest.mark.parametrize("width", [*PHONES, WIDE])
    def test_page_needs_no_sideways_scroll(self, open_page, width):
        tab = open_page(width)
        tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        outside = (
            "all => all.filter(e => e.scrollWidth > e.clientWidth + 1 &&"
            " getComputedStyle(e).overflowX != 'visible').map(e => e.className || e.tagName)"
        )
        assert tab.locator("pre, .columns, .tiles").evaluate_all(outside) == [], "cut off"

    @pytest.mark.parametrize("theme", ["light", "dark"])
    def test_text_is_readable_in_both_themes(self, open_page, theme):
        tab = open_page(color_scheme=theme)
        ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        raised = tab.locator(".tiles li").first.evaluate("e => getComputedStyle(e).backgroundColor")
        assert (contrast(ground, "rgb(255, 255, 255)") < 1.1) == (theme == "light")
        for selector in ("body", ".quiet", ".warn", "a", ".columns span", "th", "mark"):
            colour = tab.locator(selector).first.evaluate("e => getComputedStyle(e).color")
            for behind in (ground, raised):
                assert contrast(colour, behind) >= 4.5, (selector, colour, behind)
        bar = tab.locator(".columns i").first.evaluate("e => getComputedStyle(e).backgroundColor")
        assert contrast(bar, ground) >= 3

    def test_printed_page_is_black_on_white(self, open_page):
        tab = open_page(color_scheme="dark")
        tab.emulate_media(media="print")
        found = tab.evaluate(
            "['color', 'backgroundColor'].map(c => getComputedStyle(document.body)[c])"
        )
        assert found == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]
        assert not tab.locator(".csv").first.is_visible()
        assert tab.pdf().startswith(b"%PDF")

    def test_links_download_the_lists(self, open_page, written):
        tab = open_page()
        for link in tab.locator(".csv a").all():
            with tab.expect_download() as download:
                link.click()
            name = download.value.suggested_filename
            saved = Path(download.value.path()).read_text("utf-8")
            assert saved == (written[0] / name).read_text("utf-8")
            assert rows_of(saved), name

    def test_student_opens_on_a_click_and_leads_to_the_feedback(self, open_page):
        tab = open_page()
        row = tab.locator(".people > li", has_text=STRANGE)
        assert not row.locator("pre").first.is_visible()
        row.locator("summary .strip").click()
        assert row.locator("pre").first.is_visible()
        assert "double 1" in row.inner_text()
        row.get_by_role("link").click()
        assert tab.locator("body").inner_text() == "what the student reads"
        tab.go_back()

    def test_links_of_the_page_lead_somewhere(self, open_page):
        tab = open_page()
        missing = "all => all.map(a => a.hash).filter(h => !document.querySelector(h))"
        assert tab.locator("nav a").count()
        assert tab.locator("nav a").evaluate_all(missing) == []
