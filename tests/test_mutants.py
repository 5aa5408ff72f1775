"""Each small change of a solution is made once, under a name that stays, and judged by checks."""

import ast
from dataclasses import replace

import pytest
from conftest import ROOT
from nbformat.v4 import new_code_cell, new_notebook

from autograder import mutants, notebooks
from autograder.course import Course
from autograder.errors import AnswerError
from autograder.sandbox import Sandbox, can_isolate

COURSE = Course(ROOT)
STEM = "p01_larger"
SOLUTION = '''\
def larger(a, b):
    """Return the larger number."""
    ### BEGIN SOLUTION
    if a < b:
        return b
    return a
    ### END SOLUTION
'''


def names(source):
    return [new for _, _, new, _ in mutants.changes(source)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        # Operators: another one, either side alone, sides exchanged where that matters.
        ("y = f + 1", ["y = f - 1", "y = f", "y = 1", "y = f + 2", "y = f + 0"]),
        ("y = f / g", ["y = f * g", "y = g / f", "y = f", "y = g"]),
        ("y = f @ g", ["y = f * g", "y = g @ f", "y = f", "y = g"]),
        ("y = f // g", ["y = f * g", "y = f % g", "y = g // f", "y = f", "y = g"]),
        ("y += f", ["y -= f"]),
        # Comparisons and conditions.
        ("y = f < g", ["y = f <= g", "y = f >= g"]),
        ("y = f is None", ["y = f is not None"]),
        ("y = f and g", ["y = f or g", "y = f", "y = g"]),
        ("y = not f", ["y = f"]),
        ("y = ~f", ["y = f"]),
        ("y = f if g else h", ["y = f", "y = h", "y = f if not g else h"]),
        ("if f: g()", ["if True:", "if not f:", "removed: if f:", "removed: g()"]),
        (
            "if f:\n    g()\nelse:\n    h()",
            [
                "if True:",
                "if False:",
                "if not f:",
                "removed: if f:",
                "removed: g()",
                "removed: h()",
            ],
        ),
        ("while f:\n    g()", ["removed: while f:", "removed: g()"]),
        # Constants.
        ("y = True", ["y = False"]),
        ("y = 3", ["y = 4", "y = 2", "y = 0"]),
        ("y = -1", ["y = 0", "y = -2"]),
        ("y = 0.5", ["y = 1.5", "y = -0.5", "y = 0.0"]),
        # Calls: dropped, and arguments exchanged; axes are constants.
        ("y = f(g)", ["y = g"]),
        ("y = f(g).h()", ["y = f(g)", "y = g.h()"]),
        ("y = m.f(g, h)", ["y = g", "y = m.f(h, g)"]),
        ("y = m.n.f(g)", ["y = g"]),
        ("y = self.f(g)", ["y = g"]),
        ("y = self.a.f(g)", ["y = self.a"]),
        (
            "y = f().softmax(dim=-1)",
            ["y = f()", "y = f().softmax(dim=0)", "y = f().softmax(dim=-2)"],
        ),
        (
            "y = f().transpose(1, 2)",
            ["y = f()"]
            + [f"y = f().transpose({axes})" for axes in ("2, 2", "0, 2", "1, 3", "1, 1", "1, 0")],
        ),
        ("y = f.any", ["y = f.all"]),
    ],
)
def test_operator(source, expected):
    removed = [] if source.startswith(("if", "while")) else [f"removed: {source}"]
    assert sorted(names(source)) == sorted(expected + removed)


def test_values_are_exchanged_where_they_are_known():
    source = "def f(a, b):\n    c = a\n    return c"
    expected = {"c = b", "return a", "return b", "removed: c = a", "removed: return c"}
    assert set(names(source)) == expected


def test_parts_of_an_object_are_exchanged():
    source = "def f(self, x):\n    self.a = self.b = x\n    return self.a(x)"
    assert {"return self.b(x)", "return x"} <= set(names(source))


def test_what_no_check_can_see_is_left_alone():
    """Annotations, docstrings, decorators and the text of an error."""
    source = '''
@cache
def f(x: Tensor[1]) -> Tensor[2]:
    """Text."""
    y: Tensor[3] = x
    raise ValueError(f"expected {x + 1}, got " + "2")
'''
    assert names(source) == [
        "removed: y: Tensor[3] = x",
        "removed: raise ValueError(f'expected {x + 1}, got ' + '2')",
    ]


def test_only_what_the_student_writes_is_changed():
    source = SOLUTION.replace("def larger(a, b)", "def larger(a, b=1)")
    changes = list(mutants.changes(source))
    assert {line for line, *_ in changes} == {4, 5, 6}
    assert all("b=1" in text for *_, text in changes)


def test_no_two_mutants_are_the_same():
    """x = x stands for nothing that the removed statement does not."""
    source = "def f(x):\n    x = -x\n    x = x * 1 + 0 * 1"
    texts = [ast.dump(ast.parse(text)) for *_, text in mutants.changes(source)]
    assert len(texts) == len(set(texts))
    assert ast.dump(ast.parse(source)) not in texts
    assert "x = x" not in names(source)


@pytest.fixture
def small(tmp_path):
    """A course of one problem whose check does not look at equal numbers, nor need it."""
    course = Course(tmp_path)
    course.source(STEM).parent.mkdir(parents=True)
    course.answers(STEM).mkdir(parents=True)
    cells = [
        new_code_cell(SOLUTION, metadata=given(solution=True), id="solution"),
        new_code_cell("raise RuntimeError('not graded, not run')", id="figure"),
        new_code_cell("assert larger(1, 2) == 2", metadata=given(grade=True), id="check"),
    ]
    write(course, new_notebook(cells=cells))
    return course


def given(*, solution=False, grade=False):
    name = "p01_solution" if solution else "p01_check"
    about = {"grade_id": name, "solution": solution, "grade": grade, "locked": grade, "points": 1}
    return {"nbgrader": {**about, "cell_type": "code", "schema_version": 3, "task": False}}


def write(course, notebook):
    text = notebooks.dumps(notebooks.canonical(notebook))
    course.source(STEM).write_text(text, encoding="utf-8")


def test_names_are_unique_and_stay(small):
    """A line above moves no name; one name for two places is numbered."""
    before = mutants.make(small, STEM)
    notebook = notebooks.read(small.source(STEM))
    text = SOLUTION.replace("SOLUTION\n    if", "SOLUTION\n    # A reason.\n\n    if")
    notebook.cells[0].source = text
    write(small, notebook)
    after = mutants.make(small, STEM)
    assert [a.name for a in after] == [a.name for a in before]
    assert [a.why for a in before][:1] == ["line 4 was: if a < b:"]
    assert [a.why for a in after][:1] == ["line 6 was: if a < b:"]
    found = [a.name for a in before]
    assert len(found) == len(set(found))
    notebook.cells[0].source = "def f(x):\n    x = -x\n    print(x)\n    x = -x"
    write(small, notebook)
    assert "removed: x = -x (2)" in [a.name for a in mutants.make(small, STEM)]


def test_sample_is_a_part_in_the_same_order(small):
    made = mutants.make(small, STEM)
    few = mutants.sample(made, 4)
    assert len(few) == 4
    assert few == [answer for answer in made if answer in few]
    assert mutants.sample(made[::-1], 4) == few[::-1]
    assert mutants.sample(made, 100) == made


def verdicts(course, *survivors):
    """As if all but these were noticed."""
    return [
        mutants.Verdict(answer, () if answer.name in survivors else ("p01_check",))
        for answer in mutants.make(course, STEM)
    ]


def test_survivors_lower_the_share_unless_they_are_equivalent(small):
    all_noticed = mutants.weigh(small, STEM, verdicts(small))
    assert (all_noticed.share, all_noticed.survivors) == (1.0, [])
    one = mutants.weigh(small, STEM, verdicts(small, "if a <= b:"))
    assert [answer.name for answer in one.survivors] == ["if a <= b:"]
    assert one.share == one.killed / one.total < 1
    judge(small, '"if a <= b:" = "equal numbers are equal"')
    judged = mutants.weigh(small, STEM, verdicts(small, "if a <= b:"))
    assert (judged.share, judged.survivors, judged.stale) == (1.0, [], [])
    assert judged.equivalent == {"if a <= b:": "equal numbers are equal"}
    assert mutants.Result(total=1, killed=0, equivalent={"x": "y"}).share == 1.0


def judge(course, text):
    (course.answers(STEM) / "mutants.toml").write_text(text, encoding="utf-8")


def test_stale_entries_are_reported(small):
    judge(small, '"if a <= b:" = "equal numbers are equal"\n"if a == b:" = "gone"')
    result = mutants.weigh(small, STEM, verdicts(small))
    assert sorted(result.stale) == [
        "'if a <= b:': noticed by p01_check",
        "'if a == b:': there is no such mutant",
    ]
    assert result.equivalent == {}
    # One that the sample left out is neither.
    rest = [v for v in verdicts(small) if v.answer.name != "if a <= b:"]
    assert mutants.weigh(small, STEM, rest).stale == ["'if a == b:': there is no such mutant"]


@pytest.mark.parametrize("text", ['"if a <= b:" = ""', '"if a <= b:" = 1', "[a]\nb = 'c'"])
def test_entry_without_a_reason_is_refused(small, text):
    judge(small, text)
    with pytest.raises(AnswerError, match="expected a reason"):
        mutants.reasons(small, STEM)


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(isolate=can_isolate() is None) as warm:
        yield warm


def test_checks_say_which_mutants_they_notice(small, sandbox):
    chosen = ["if a >= b:", "if a <= b:", "removed: return a"]
    made = [answer for answer in mutants.make(small, STEM) if answer.name in chosen]
    found = {v.answer.name: v.lost for v in mutants.grade(small, STEM, made, sandbox)}
    assert found == {"if a >= b:": ("p01_check",), "if a <= b:": (), "removed: return a": ()}


def test_mutant_that_hangs_is_noticed(small, sandbox, monkeypatch):
    monkeypatch.setattr(mutants, "LIMITS", replace(mutants.LIMITS, cell_seconds=0.5))
    notebook = notebooks.read(small.source(STEM))
    notebook.cells[0].source = "def larger(a, b):\n    while a < b:\n        a = b\n    return a"
    write(small, notebook)
    made = [answer for answer in mutants.make(small, STEM) if answer.name == "removed: a = b"]
    assert [v.lost for v in mutants.grade(small, STEM, made, sandbox)] == [("p01_check",)]


def test_reference_that_fails_is_refused(small, sandbox):
    notebook = notebooks.read(small.source(STEM))
    notebook.cells[0].source = SOLUTION.replace("<", ">")
    write(small, notebook)
    with pytest.raises(AnswerError, match="the reference itself loses p01_check"):
        list(mutants.grade(small, STEM, [], sandbox))


@pytest.mark.parametrize("stem", COURSE.stems)
def test_each_mutant_that_is_called_equivalent_exists(stem):
    """And replaces the solution by text that compiles."""
    made = mutants.make(COURSE, stem)
    assert mutants.reasons(COURSE, stem).keys() <= {answer.name for answer in made}
    assert len({answer.name for answer in made}) == len(made) >= 20
    for answer in made:
        for text in answer.cells.values():
            compile(text, answer.name, "exec")
