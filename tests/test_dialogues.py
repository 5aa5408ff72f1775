"""Dialogues: what holds in each turn, that train and test do not meet, what bad files are told."""

import json
import re

import pytest

from autograder.lab.data import dialogues
from autograder.lab.errors import DataError

PLACES = {r.name: r for r in (*dialogues.RESTAURANTS, *dialogues.UNKNOWN)}
SUMMARY = re.compile(
    r"the (?P<name>\w+ \w+) on (?P<day>\w+day)(?: for (?P<people>\w+) people)?"
    r"(?: at (?P<time>\d\d:\d\d))? \."
)
TALK = [
    {"speaker": "user", "text": "A table for 2, please!"},
    {"speaker": "system", "text": "At what time?"},
    {"speaker": "user", "text": "At “8”."},
    {"speaker": "system", "text": "Done: 2 people, 8:30."},
]


@pytest.fixture(scope="module")
def made():
    return dialogues.booking_dialogues(train=3000, test=300, unseen=300, seed=5)


@pytest.fixture
def write(tmp_path):
    """Write dialogues as JSON lines, or a text as it is, and give the path."""

    def call(content, name="talks.jsonl"):
        path = tmp_path / name
        if isinstance(content, list):
            content = "".join(json.dumps(turns) + "\n" for turns in content)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return call


def complaint(path):
    """Give the text of a DataError; a call that succeeds fails the test."""
    with pytest.raises(DataError) as caught:
        dialogues.booking_dialogues(path)
    return str(caught.value)


def state(reply):
    return SUMMARY.search(reply).groupdict()


def words(part):
    return {word for turns in part for text in turns for word in text.split()}


def talk(number):
    return [{**TALK[0], "text": f"Table {number}, please!"}, *TALK[1:]]


def test_dialogues_are_the_same_for_a_seed(made):
    again = dialogues.booking_dialogues(train=3000, test=300, unseen=300, seed=5)
    assert again == made
    assert dialogues.booking_dialogues(train=10, test=10, seed=6).train != made.train[:10]
    assert (len(made.train), len(made.test), len(made.unseen)) == (3000, 300, 300)
    assert dialogues.booking_dialogues(train=1).unseen == ()


def test_turns_alternate_and_end_with_a_booking(made):
    for turns in made.train + made.test + made.unseen:
        assert len(turns) in (4, 6, 8)
        assert turns[-2] in dialogues.AGREED
        assert re.fullmatch(f"done : {SUMMARY.pattern}", turns[-1])
        assert all(state(turns[-1]).values())
        assert all(text == " ".join(text.split()) for text in turns)
        assert sum(len(text.split()) for text in turns[:-1]) <= 140


def test_no_context_and_no_reply_of_test_is_in_train(made):
    """For other seeds as well: a pair of a restaurant and a day belongs to one part."""
    other = dialogues.booking_dialogues(train=3000, test=300, unseen=300, seed=77)
    for train in (made.train, other.train):
        learnt = dialogues.exchanges(train)
        for part in (made.test, other.test, made.unseen, other.unseen):
            asked = dialogues.exchanges(part)
            assert set(asked.contexts) & set(learnt.contexts) == set()
            assert set(asked.replies) & set(learnt.replies) == set()


def test_pairs_of_a_restaurant_and_a_day_are_held_out(made):
    pairs = [
        {(found["name"], found["day"]) for turns in part for found in map(state, turns[1::2])}
        for part in (made.train, made.test)
    ]
    assert pairs[0] & pairs[1] == set()
    assert len(pairs[0] | pairs[1]) > 0.97 * len(dialogues.RESTAURANTS) * len(dialogues.DAYS)
    assert 0.1 < len(pairs[1]) / len(pairs[0] | pairs[1]) < 0.35
    # Each of the two alone is known.
    for place in (0, 1):
        assert {pair[place] for pair in pairs[1]} <= {pair[place] for pair in pairs[0]}


def test_words_of_test_are_known_and_those_of_unseen_names_are_not(made):
    known = set(made.vocabulary.symbols)
    assert words(made.train) | words(made.test) <= known
    assert len(words(made.train)) > 0.97 * len(known)
    strange = words(made.unseen) - known
    assert strange == {word for r in dialogues.UNKNOWN for word in r.name.split()}
    assert strange & words(made.train + made.test) == set()
    told = [text for turns in made.unseen for text in turns[1::2]]
    assert not any(text.startswith("it ") for text in told)


def test_restaurants_are_told_apart_by_food_and_area():
    kinds = {(r.food, r.area) for r in dialogues.RESTAURANTS}
    assert len(kinds) == len(dialogues.RESTAURANTS) == 24
    assert len(PLACES) == 24 + len(dialogues.UNKNOWN)


def meant(turn, before):
    """Read a turn of the user, word by word, with rules that share nothing with the loader's."""
    now, asked = dict(before), None
    for clause in turn.split(" . "):
        for kind, word in (("food", "food do"), ("area", "where is")):
            asked = kind if word in clause else asked
        if "?" in clause or re.search(
            r"last week|away until|last time|work until|told|train", clause
        ):
            continue
        found = []  # (place, slot, value, whether it is refused)
        for slot, pattern in {
            "name": "the (" + "|".join(PLACES) + ")",
            "day": r"(\w+day)",
            "people": r"for (?:the )?(\w+)(?: of us| people)?(?= |$)|(\w+) people",
            "time": r"(?:at|around) (\d\d:\d\d)",
        }.items():
            for match in re.finditer(pattern, clause):
                value = next(filter(None, match.groups()))
                if slot == "people" and value not in dialogues.PEOPLE:
                    continue
                refused = clause[: match.start()].endswith(("not ", "instead of ", "better than "))
                found.append((match.start(), slot, value, refused))
        place = re.search(r"(?:somewhere|the) (\w+) (?:place )?in the (\w+)", clause)
        for r in dialogues.RESTAURANTS if place else ():
            if (r.food, r.area) == place.groups():
                found.append((place.start(), "name", r.name, False))
        for _, slot, value, refused in sorted(found):
            now |= {} if refused else {slot: value}
    return now, asked


def test_replies_follow_from_what_the_user_said(made):
    """A second reader, with rules of its own, agrees with the assistant on all that is said."""
    for turns in made.train[:1000] + made.test + made.unseen:
        now = {}
        for said, reply in zip(turns[::2], turns[1::2], strict=True):
            now, asked = meant(said, now)
            found = {slot: value for slot, value in state(reply).items() if value}
            assert found == now, (said, reply)
            if asked:
                place = PLACES[now["name"]]
                facts = {
                    "food": f"it serves {place.food} food .",
                    "area": f"it is in the {place.area} .",
                }
                assert reply.startswith(facts[asked])
            questions = [
                ("people" not in now, "for how many"),
                ("time" not in now, "at what time ?"),
                (len(now) == 4 and not reply.startswith("done"), "shall i book it ?"),
            ]
            assert all((text in reply) == wanted for wanted, text in questions)


def test_exchanges_are_the_turns_of_the_assistant(made):
    turns = next(turns for turns in made.train if len(turns) == 6)
    cut = dialogues.exchanges((turns, turns[:2]))
    assert cut.contexts == (turns[:1], turns[:3], turns[:5], turns[:1])
    assert cut.replies == (turns[1], turns[3], turns[5], turns[1])
    assert dialogues.exchanges(()) == dialogues.Exchanges((), ())


@pytest.mark.parametrize("name", ["train", "test", "unseen"])
def test_negative_numbers_are_refused(name):
    with pytest.raises(ValueError, match=f"{name}: expected 0 or more, got -1"):
        dialogues.booking_dialogues(**{name: -1})


def test_file_is_read(write):
    talks = [talk(number) for number in range(40)]
    talks[3].append({"speaker": "user", "text": "Thanks."})  # which nobody answers
    talks[5][0]["mood"] = "glad"  # further keys do not matter
    found = dialogues.booking_dialogues(write(talks))
    every = found.train + found.test
    assert len(every) == 40
    assert 2 <= len(found.test) <= 16
    assert found.unseen == ()
    assert all(len(turns) == 4 for turns in every)
    rest = ("at what time ?", 'at " 8 " .', "done : 2 people , 8:30 .")
    assert ("table 7 , please !", *rest) in every
    assert set(found.vocabulary.symbols) == words(found.train)
    path = write("\ufeff" + "".join(json.dumps(turns) + "\r\n" for turns in talks))
    assert dialogues.booking_dialogues(path) == found


def test_file_has_no_context_twice(write):
    """Dialogues that begin alike are in one part."""
    talks = [talk(number % 20) for number in range(60)]
    found = dialogues.booking_dialogues(write(talks))
    asked, learnt = map(dialogues.exchanges, (found.test, found.train))
    assert set(asked.contexts) & set(learnt.contexts) == set()
    assert sum(turns[0] == found.test[0][0] for turns in found.test) == 3


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "line 3: expected JSON like"),
        ("user,text", "line 3: expected JSON like"),
        ('{"turns": []}', "line 3: expected a list like"),
        ('"hello"', "line 3: expected a list like"),
        ("[]", "line 3: expected a turn of the user and an answer, got 0 turns"),
        (json.dumps(TALK[:1]), "line 3: expected a turn of the user and an answer, got 1 turns"),
        (json.dumps(TALK[1:]), "line 3, turn 1: expected the speaker 'user', got 'system'"),
        (json.dumps(TALK[:1] * 2), "line 3, turn 2: expected the speaker 'system', got 'user'"),
        (json.dumps([*TALK[:2], "yes"]), 'line 3, turn 3: expected an object with "speaker" and'),
        (json.dumps([*TALK[:2], {"speaker": "user"}]), "line 3, turn 3: expected an object with"),
        (
            json.dumps([TALK[0], {"speaker": "system", "text": 7}]),
            "line 3, turn 2: expected a text with words, got 7",
        ),
        (
            json.dumps([{"speaker": "user", "text": "你好"}, TALK[1]]),
            "line 3, turn 1: expected a text with words",
        ),
    ],
)
def test_wrong_line_is_named(write, line, said):
    whole = [json.dumps(talk(1)), json.dumps(talk(2)), line, json.dumps(talk(3))]
    path = write("\n".join(whole) + "\n")
    assert said in (text := complaint(path))
    assert text.startswith(f"{path}, line 3")


def test_truncated_file_is_named(write):
    """Wherever in its last line a file ends."""
    whole = "\n".join(json.dumps(talk(number)) for number in range(4))
    begin = whole.rindex("\n") + 1
    for end in range(begin + 1, len(whole)):
        text = complaint(write(whole[:end]))
        assert "line 4: expected JSON like" in text
        assert "get the file again" in text


def test_foreign_file_is_named(write, tmp_path):
    missing = tmp_path / "none.jsonl"
    assert f"{missing}: expected JSON lines" in complaint(missing)
    assert "an empty file" in complaint(write("\n"))
    assert "byte 1: expected JSON lines" in complaint(write(b"\x1f\x8b\x08", "talks.gz"))
    pretty = json.dumps([talk(1), talk(2)], indent=2)
    assert "talks.jsonl, line 1: expected JSON like" in complaint(write(pretty))
    nested = json.dumps([talk(1), talk(2)])
    assert "line 1, turn 1: expected an object with" in complaint(write(nested))


def test_short_file_is_refused(write):
    path = write([talk(1)])
    assert re.search(
        r"expected some of each, got \d dialogues for training and \d", complaint(path)
    )
