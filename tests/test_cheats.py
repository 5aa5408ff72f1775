"""Cheats gain nothing: each is graded beside the submission that it starts from, as one class."""

from collections import Counter

import pytest
from conftest import ROOT

from autograder import cheats, report
from autograder.course import Course
from autograder.errors import AnswerError
from autograder.sandbox import can_isolate

FOLDER = ROOT / "tests" / "cheats"
CHEATS = cheats.load(FOLDER)
TAMPERING = [cheat for cheat in CHEATS if cheat.tampers]
isolated = pytest.mark.skipif(
    can_isolate() is not None, reason="cheats are graded isolated, which this host does not allow"
)


def name(cheat):
    return f"{cheat.family}-{cheat.name}"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Grade every cheat and every honest base; give the report's results by student."""
    root = tmp_path_factory.mktemp("cheats")
    return cheats.CheatClass(Course(ROOT), root, CHEATS).grade(2)


def test_corpus_is_large_and_wide():
    families = Counter(cheat.family for cheat in CHEATS)
    assert len(CHEATS) >= 40
    assert len(families) >= 10
    assert min(families.values()) >= 3


@isolated
@pytest.mark.parametrize("cheat", CHEATS, ids=name)
def test_cheat_gains_no_point(results, cheat):
    cheated, honest = results[cheat.name], results[cheat.honest]
    assert (cheated.fault, honest.fault) == ("", "")
    assert honest.score < honest.possible, "there is nothing to gain"
    gained = {c: s for c, (s, _) in cheated.scores.items() if s > honest.scores[c][0]}
    assert gained == {}, cheat.why


@isolated
@pytest.mark.parametrize("cheat", TAMPERING, ids=name)
def test_tampering_is_named_in_the_report(results, cheat):
    found = results[cheat.name]
    assert found.tampering, cheat.why
    assert found.tampering[0][1] in report.page("p01", [found]).replace("&#x27;", "'")


@isolated
@pytest.mark.parametrize("student", sorted({cheat.honest for cheat in CHEATS}))
def test_honest_bases_are_not_named(results, student):
    assert results[student].tampering == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[a]\nwhy = "x"\ncode = "y"\nbasis = "no_scale"\n', "a.toml, a: .*basis"),
        ('[a]\nwhy = "x"\n', "missing 1 required positional argument: 'code'"),
        ('[a]\nwhy="x"\ncode="y"\n', "more than one cheat is called a"),
    ],
)
def test_faulty_cheat_is_named(tmp_path, text, said):
    (tmp_path / "a.toml").write_text(text)
    (tmp_path / "b.toml").write_text('[a]\nwhy="x"\ncode="y"\n')
    with pytest.raises(AnswerError, match=said):
        cheats.load(tmp_path)


def test_base_that_is_missing_is_named(tmp_path):
    cheat = cheats.Cheat("family", "name", "why", "code", base="nobody")
    with pytest.raises(AnswerError, match="family, name: p01"):
        cheats.CheatClass(Course(ROOT), tmp_path / "class", [cheat])
