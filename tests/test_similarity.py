"""Which solutions are named as alike: copies in disguise are, answers written apart are not."""

import ast
import itertools
import subprocess
import sys

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from autograder import answers, notebooks, release, similarity
from autograder.course import Course
from autograder.similarity import ALIKE, FEWEST, WINDOW, Comparison, K

COURSE = Course(ROOT)
STEM = COURSE.select(["p01"])[0]
RIGHT = {
    path.stem: path.read_text(encoding="utf-8")
    for path in sorted(COURSE.answers(STEM).glob("right_*.py"))
}
STUB = "\n".join(cell.source for cell in answers.solution_cells(release.stub(COURSE, STEM)))
SPLIT = """
def split(x, heads):
    B, T, D = x.shape
    return x.reshape(B, T, heads, D // heads).transpose(1, 2)
"""
MERGE = """
def merge(x):
    B, heads, T, Dh = x.shape
    return x.transpose(1, 2).contiguous().view(B, T, heads * Dh)
"""
WHOLE = """
class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.query = nn.Linear(width, width)
        self.rest = nn.Linear(width, 2 * width)
        self.heads = heads

    def forward(self, x):
        q = split(self.query(x), self.heads)
        k, v = (split(y, self.heads) for y in self.rest(x).chunk(2, dim=-1))
        return merge(torch.softmax(q @ k.mT / q.size(-1) ** 0.5, dim=-1) @ v)
"""


class Renamed(ast.NodeTransformer):
    """Gives each name that is assigned, each argument and each function another one."""

    def __init__(self, tree):
        kinds = (ast.Store, ast.Del)
        own = [n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, kinds)]
        own += [n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)]
        self.names = {name: f"thing_{number}" for number, name in enumerate(dict.fromkeys(own))}

    def visit_Name(self, node):
        node.id = self.names.get(node.id, node.id)
        return node

    def visit_arg(self, node):
        node.arg = self.names[node.arg]
        return node


def renamed(text):
    """Change every name, the layout and the comments of a program, and none of what it does."""
    tree = ast.parse(text)
    return ast.unparse(Renamed(tree).visit(tree))


def kinds(text):
    return [token.kind for token in similarity.tokens(text)]


def test_names_comments_and_docstrings_are_no_difference():
    one = 'def f(a, b=None):\n    """Doc."""\n    c = a.sum(dim=-1)  # why\n    return c'
    other = "def g(x, y=None):\n    out = x.sum(dim=-1)\n\n    return out"
    assert kinds(one) == kinds(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a.softmax(b)", "a.sigmoid(b)"),  # of a library
        ("len(a)", "sum(a)"),  # of Python
        ("a - b", "a + b"),
        ("a ** 2", "a * 2"),
        ("a * 2", "a * 3"),
        ("if a: b", "while a: b"),
    ],
)
def test_what_is_done_is_a_difference(one, other):
    assert kinds(one) != kinds(other)


@pytest.mark.parametrize(
    "text",
    [
        "self.key = a\nb = model.key(self.key)",
        "me.key = a\nb = me.key(a)",
        "def key(me, a):\n    return me.key(a)",
    ],
)
def test_attributes_of_ones_own_are_names(text):
    assert kinds(text) == kinds(text.replace("key", "wk"))


def test_attributes_of_others_are_no_names():
    assert kinds("b = a.key == a.key(b)") != kinds("b = a.wk == a.wk(b)")


@given(st.text(alphabet="ab.(\"'\\\n #1e+=", max_size=60))
def test_any_text_can_be_read(text):
    """Broken programs too; tokens stand in order and lose nothing but strings and comments."""
    found = similarity.tokens(text)
    assert all(a.end <= b.start for a, b in itertools.pairwise(found))
    assert all(text[token.start : token.end].strip() for token in found)


@given(st.lists(st.integers(0, 2**32), max_size=40))
def test_winnowing_keeps_one_of_each_window(hashes):
    """The law of the paper: no WINDOW neighbours without a fingerprint, and none from elsewhere."""
    kept = similarity.winnow(hashes)
    assert kept <= set(hashes)
    for start in range(len(hashes) - WINDOW + 1):
        assert kept & set(hashes[start : start + WINDOW])


@given(st.text(alphabet="abcd", max_size=8), st.text(alphabet="abcd", max_size=8))
def test_long_matches_are_never_missed(before, after):
    """K + WINDOW - 1 tokens in common give a fingerprint in common, wherever they stand."""
    shared = " ".join(f"{number} +" for number in range(K + WINDOW))
    texts = [f"{before} {shared} {after}", f"{after} {after} {shared} {before}"]
    prints = [similarity.winnow(similarity.grams(similarity.tokens(text))) for text in texts]
    assert prints[0] & prints[1]


def test_fingerprints_are_the_same_in_every_process():
    code = (
        "from autograder.similarity import *\n"
        "print(sorted(winnow(grams(tokens('a.b(c, d=1) + e[2:] @ f.mT')))))"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]


def test_answers_written_apart_are_not_alike():
    assert len(RIGHT) >= 3
    comparison = Comparison(RIGHT, STUB)
    assert comparison.prints.keys() == RIGHT.keys()
    assert max(comparison.share(*pair) for pair in itertools.combinations(RIGHT, 2)) < 0.5
    assert comparison.groups() == []


@pytest.mark.parametrize("name", RIGHT)
def test_copy_with_other_names_is_alike(name):
    copy = renamed(RIGHT[name])
    lines = [{line for line in text.split("\n") if " = " in line} for text in (copy, RIGHT[name])]
    assert not lines[0] & lines[1], "no line of the two is the same"
    (group,) = Comparison({**RIGHT, "copy": copy}, STUB).groups()
    assert [member.name for member in group.members] == sorted([name, "copy"])
    assert group.pair == tuple(sorted([name, "copy"]))
    assert group.members[0].share > 0.9
    assert group.rare > group.shared / 2


@pytest.mark.parametrize("stem", [s for s in COURSE.stems if COURSE.release(s).exists()])
def test_no_right_answers_of_the_course_are_alike(stem):
    cells = answers.solution_cells(notebooks.read(COURSE.source(stem)))
    texts = {a.name: "\n".join(a.cells.values()) for a in answers.load(COURSE, stem) if not a.fails}
    texts["reference"] = "\n".join(cell.source for cell in cells)
    stub = "\n".join(cell.source for cell in answers.solution_cells(release.stub(COURSE, stem)))
    assert Comparison(texts, stub).groups() == []


def test_order_of_functions_is_no_difference():
    one, other = SPLIT + MERGE + WHOLE, WHOLE + renamed(MERGE) + SPLIT
    assert Comparison({"one": one, "other": other}).share("one", "other") > 0.9


def test_copy_inside_of_more_is_alike():
    more = "\n".join(f"unused_{n} = [{n}, '{n}', print({n} << {n})]" for n in range(60))
    assert Comparison({"one": WHOLE, "other": WHOLE + more}).share("one", "other") > 0.9


def test_release_does_not_count():
    """Who shares the skeleton alone shares nothing; untouched notebooks are not compared."""
    skeleton = SPLIT + WHOLE
    texts = {"ada": skeleton, "bob": skeleton, "cyd": skeleton + MERGE}
    assert len(Comparison(texts).groups()[0].members) == 3
    assert Comparison(texts, skeleton).groups() == []


def test_short_texts_do_not_count():
    assert Comparison({"ada": "return q + k", "bob": "return a + b"}).groups() == []


def test_groups_come_rare_ones_first():
    """What many write alike may be the usual answer."""
    usual = {f"u{number}": SPLIT + MERGE for number in range(7)}
    texts = {**usual, "ada": WHOLE, "bob": renamed(WHOLE), "cyd": RIGHT["right_loops"]}
    few, many = Comparison(texts).groups()
    assert [member.name for member in few.members] == ["ada", "bob"]
    assert 0.9 * few.shared < few.rare <= few.shared == len(Comparison(texts).prints["ada"])
    assert sorted(member.name for member in many.members) == sorted(usual)
    assert all(member.share == 1 and member.nearest in usual for member in many.members)
    assert all(member.nearest != member.name for member in many.members)


def test_shares_equal_those_of_plain_sets():
    """The bits of large numbers, against the sets that they stand for."""
    texts = {str(n): "".join(part) for n, part in enumerate(
        part for size in (1, 2, 3) for part in itertools.permutations((SPLIT, MERGE, WHOLE), size)
    )}  # fmt: skip
    comparison = Comparison(texts)
    prints = comparison.prints
    linked = {
        frozenset(pair)
        for pair in itertools.combinations(prints, 2)
        if len(prints[pair[0]] & prints[pair[1]])
        >= ALIKE * min(len(prints[pair[0]]), len(prints[pair[1]]))
    }
    assert linked
    found = comparison.groups()
    named = {member.name for group in found for member in group.members}
    assert named == {name for pair in linked for name in pair}
    for group in found:
        for member in group.members:
            best = max(comparison.share(member.name, o) for o in prints if o != member.name)
            assert member.share == comparison.share(member.name, member.nearest) == best


def test_marks_are_what_both_have():
    one, other = f"first = 1\n{MERGE}", f"{renamed(MERGE)}\nprint('last', 2, 3)"
    left, right = Comparison({"a": one, "b": other}).marked("a", "b")
    assert "".join(text for _, text in left) == one
    assert "".join(text for _, text in right) == other
    marked = "".join(text for mark, text in left if mark)
    assert "x.transpose(1, 2)" in marked
    assert "first" not in marked
    assert "last" not in "".join(text for mark, text in right if mark)


def test_release_is_never_marked():
    left, _ = Comparison({"a": SPLIT + MERGE, "b": SPLIT + MERGE}, SPLIT).marked("a", "b")
    assert "reshape" not in "".join(text for mark, text in left if mark)


def test_no_solution_and_one_make_no_group():
    assert Comparison({}).groups() == []
    assert Comparison({"ada": WHOLE}).groups() == []
    assert len(Comparison({"ada": WHOLE}).prints["ada"]) >= FEWEST
