"""People who book a table, and an assistant that answers: dialogues made by rules."""

import hashlib
import json
import os
import random
import re
from dataclasses import dataclass

from autograder.lab.data.files import fault, read_text
from autograder.lab.data.vocabulary import Vocabulary, fold

TEST_SHARE = 0.2  # of all pairs of a restaurant and a day
MOST_WORDS = 5000  # of the vocabulary that a file gets
SPEAKERS = ("user", "system")

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
PEOPLE = ("two", "three", "four", "five", "six", "seven", "eight", "nine")
TIMES = tuple(f"{hour}:{minutes}" for hour in range(18, 22) for minutes in ("00", "30"))
FOODS = ("thai", "indian", "greek", "mexican", "korean", "french")
AREAS = ("north", "south", "east", "west")


@dataclass(frozen=True)
class Restaurant:
    """What the assistant knows of one place; no two have the same food and area."""

    name: str
    food: str
    area: str


def _places(first: str, second: str) -> tuple[Restaurant, ...]:
    """Join words to names, whose second words are shared, and deal foods and areas out."""
    firsts, seconds = first.split(), second.split()
    kinds = [(food, area) for area in AREAS for food in FOODS]
    return tuple(
        Restaurant(f"{word} {seconds[n % len(seconds)]}", *kinds[n * 7 % len(kinds)])
        for n, word in enumerate(firsts)
    )


RESTAURANTS = _places(
    "golden red old blue quiet little white black royal lucky wild sunny iron copper crystal lemon "
    "maple river harbour market corner village summer winter",
    "bowl lantern mill garden door spoon kettle",
)
# Of words that stand in no dialogue for training or testing, so nothing is known of them.
UNKNOWN = _places("silver hidden tall velvet amber marble cedar ivory", "heron anchor cellar")

OPENINGS = (
    "hello , i would like a table",
    "can you book a table",
    "i need a table",
    "please find us a table",
    "good evening , a table please",
)
# What holds a value that is not asked for.
ASIDES = (
    "we were at the {name} last week",
    "i am away until {day}",
    "there were {people} of us last time",
    "i have to work until {time}",
    "my sister told me about the {name}",
    "my train gets in at {time}",
)
REQUESTS = {
    "food": ("what food do they serve ?", "it serves {food} food ."),
    "area": ("where is it ?", "it is in the {area} ."),
}
FORMS = {
    "name": ("at the {name}", "in the {name}"),
    "day": ("on {day}", "this {day}", "for {day}"),
    "people": ("for {people} people", "for {people}", "for the {people} of us"),
    "time": ("at {time}", "around {time}"),
}
DESCRIBED = ("somewhere {food} in the {area}", "at the {food} place in the {area}")
# A value, and one that it takes the place of, which stands before it or after it.
CHANGED = ("{old} , no , {new}", "{old} , sorry , i mean {new}", "{new} , not {old}")
CORRECTIONS = (
    "make it {new} instead of {old}",
    "not {old} but {new} please",
    "{new} would be better than {old}",
    "sorry , i meant {new}",
    "change that to {new}",
)
ASKED = {
    ("people", "time"): "for how many , and at what time ?",
    ("people",): "for how many people ?",
    ("time",): "at what time ?",
    (): "shall i book it ?",
}
SHOWN = {"name": "the {}", "day": "{}", "people": "{} people", "time": "at {}"}
AGREED = ("yes please", "yes , that is right", "please do", "perfect , thank you")

Dialogue = tuple[str, ...]
"""Turns of a user and an assistant, who take turns; the user begins, the assistant ends."""


@dataclass(frozen=True)
class Dialogues:
    """Dialogues in parts; no context of `test` or of `unseen` is one of `train`."""

    train: tuple[Dialogue, ...]
    test: tuple[Dialogue, ...]
    unseen: tuple[Dialogue, ...]
    """With names of restaurants whose words stand in no other part; () for a file."""
    vocabulary: Vocabulary
    """The words of `train`, and of `test` where dialogues are made by rules."""


@dataclass(frozen=True)
class Exchanges:
    """What was said so far, and what the assistant answers."""

    contexts: tuple[Dialogue, ...]
    """Each ends with a turn of the user."""
    replies: tuple[str, ...]


def booking_dialogues(
    path: str | os.PathLike | None = None,
    *,
    train: int = 4000,
    test: int = 250,
    unseen: int = 0,
    seed: int = 0,
) -> Dialogues:
    """Give dialogues about a table, word by word with spaces between, and their words.

    Without a path: made with a seed from RESTAURANTS. The user says where and when, changes things,
    mentions what is beside the point and asks about the place; the assistant repeats what holds
    now, answers, and asks for what is missing. One pair in five of a restaurant and a day is for
    testing, the same ones for every seed: no dialogue for training brings the two together, and
    each one for testing does so in its first turn. So no context and no reply of `test` is one of
    `train`, whatever the seeds. The dialogues of `unseen` are about other restaurants, of which
    nobody asks what food they serve.
    With a path: a file of JSON lines, a line for each dialogue, [{"speaker": "user", "text": ...},
    {"speaker": "system", "text": ...}, ...]. Text is written in lower case with spaces around its
    punctuation. One first turn in five is for testing, so no context is in both parts; the
    vocabulary has the 5,000 most frequent words of `train`. `train`, `test`, `unseen` and `seed`
    have no say.

    Shapes: made ones have 4 to 8 turns, and at most 140 words before the last answer.
    Source: made here, no licence needed.
    Raises: DataError with the line of the file that is wrong; ValueError for a negative number.
    """
    if path is not None:
        return _read(path)
    for name, number in (("train", train), ("test", test), ("unseen", unseen)):
        if number < 0:
            raise ValueError(f"{name}: expected 0 or more, got {number}")
    chance = random.Random(seed)
    return Dialogues(
        tuple(_Talk(chance, False).turns() for _ in range(train)),
        tuple(_Talk(chance, True).turns() for _ in range(test)),
        tuple(_Talk(chance, None).turns() for _ in range(unseen)),
        Vocabulary(tuple(sorted(_words()))),
    )


def exchanges(dialogues: tuple[Dialogue, ...]) -> Exchanges:
    """Cut dialogues into one context and reply for each turn of the assistant."""
    contexts, replies = [], []
    for turns in dialogues:
        for place in range(1, len(turns), 2):
            contexts.append(turns[:place])
            replies.append(turns[place])
    return Exchanges(tuple(contexts), tuple(replies))


def held_out(text: str) -> bool:
    """Say whether what has this text is for testing: a pair "golden bowl/friday", a first turn."""
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return number < TEST_SHARE * 2**64


def _words() -> set[str]:
    """Collect every word that a dialogue about RESTAURANTS may hold."""
    texts = [*DAYS, *PEOPLE, *TIMES, *FOODS, *AREAS, *(r.name for r in RESTAURANTS)]
    texts += [*OPENINGS, *ASIDES, *DESCRIBED, *CHANGED, *CORRECTIONS, *AGREED, *ASKED.values()]
    texts += [*SHOWN.values(), "for , and please . done :"]
    texts += [text for forms in FORMS.values() for text in forms]
    texts += [text for pair in REQUESTS.values() for text in pair]
    return {word for text in texts for word in text.split() if "{" not in word}


class _Talk:
    """One dialogue: what holds now, and what is said."""

    def __init__(self, chance: random.Random, testing: bool | None):
        self.chance, self.testing = chance, testing
        self.places = {r.name: r for r in (UNKNOWN if testing is None else RESTAURANTS)}
        self.values = {"name": tuple(self.places), "day": DAYS, "people": PEOPLE, "time": TIMES}
        self.state: dict[str, str] = {}

    def turns(self) -> Dialogue:
        """Talk until the table is booked."""
        first = self._opening()
        turns = [first, self._reply()]
        while self._missing():
            said, asked = self._answer()
            turns += [said, self._reply(asked)]
        while len(turns) < 6 and self.chance.random() < 0.6:
            said, asked = self._more()
            turns += [said, self._reply(asked)]
        return (*turns, self.chance.choice(AGREED), f"done : {self._summary()} .")

    def _opening(self) -> str:
        given = ["name", "day", *(s for s in ("people", "time") if self.chance.random() < 0.5)]
        while not self._fits(pair := {slot: self._any(slot) for slot in given}):
            pass
        self.state = pair
        self.chance.shuffle(given)
        parts = [self.chance.choice(OPENINGS), *map(self._given, given)]
        if self.chance.random() < 0.35:
            parts += [".", self._aside()]
        return " ".join(parts)

    def _answer(self) -> tuple[str, str]:
        """Give some of what is missing; now and then change something, too."""
        given = self._missing()
        if len(given) == 2 and self.chance.random() < 0.3:
            given = [self.chance.choice(given)]
        self.state |= {slot: self._any(slot) for slot in given}
        parts = [" and ".join(map(self._given, given))]
        if self.chance.random() < 0.3:
            change = self._correction(but=given)
            parts.insert(self.chance.randrange(2), change)
        said, asked = self._request(0.35)
        return " . ".join([*parts, *said]), asked

    def _more(self) -> tuple[str, str]:
        """Change something, or ask; or both."""
        if self.chance.random() < 0.6:
            change = [self._correction()]
            said, asked = self._request(0.35)
        else:
            change = []
            said, asked = self._request(1.0)
        return " . ".join([*change, *said]) or self._correction(), asked

    def _request(self, share: float) -> tuple[list[str], str]:
        if self.testing is None or self.chance.random() >= share:
            return [], ""
        kind = self.chance.choice(list(REQUESTS))
        return [REQUESTS[kind][0]], kind

    def _given(self, slot: str) -> str:
        """Say a value: plainly, by a description, or after or before one that does not hold."""
        value, form = self.state[slot], self.chance.choice(FORMS[slot])
        if slot == "name" and self.testing is not None and self.chance.random() < 0.3:
            place = self.places[value]
            return self.chance.choice(DESCRIBED).format(food=place.food, area=place.area)
        if self.chance.random() >= 0.2:
            return form.format(**{slot: value})
        shown, other = SHOWN[slot].format(value), self._any(slot, but=value)
        change = self.chance.choice(CHANGED)
        if change.startswith("{new}"):
            return change.format(new=form.format(**{slot: value}), old=SHOWN[slot].format(other))
        return change.format(old=form.format(**{slot: other}), new=shown)

    def _correction(self, but: list[str] | tuple[()] = ()) -> str:
        """Change a value that was given earlier."""
        changes = [
            (slot, value)
            for slot in self.state
            if slot not in but
            for value in self.values[slot]
            if value != self.state[slot] and self._fits(self.state | {slot: value})
        ]
        slot = self.chance.choice(sorted({slot for slot, _ in changes}))
        old, new = self.state[slot], self.chance.choice([v for s, v in changes if s == slot])
        self.state = self.state | {slot: new}
        old, new = SHOWN[slot].format(old), SHOWN[slot].format(new)
        return self.chance.choice(CORRECTIONS).format(old=old, new=new)

    def _aside(self) -> str:
        return self.chance.choice(ASIDES).format(**{slot: self._any(slot) for slot in self.values})

    def _any(self, slot: str, but: str = "") -> str:
        return self.chance.choice([value for value in self.values[slot] if value != but])

    def _fits(self, state: dict[str, str]) -> bool:
        """Say whether the restaurant and the day may meet in this part."""
        return self.testing is None or held_out(f"{state['name']}/{state['day']}") == self.testing

    def _missing(self) -> list[str]:
        return [slot for slot in ("people", "time") if slot not in self.state]

    def _summary(self) -> str:
        parts = [f"the {self.state['name']} on {self.state['day']}"]
        parts += [f"for {self.state['people']} people"] if "people" in self.state else []
        parts += [f"at {self.state['time']}"] if "time" in self.state else []
        return " ".join(parts)

    def _reply(self, asked: str = "") -> str:
        place = self.places[self.state["name"]]
        told = [REQUESTS[asked][1].format(food=place.food, area=place.area)] if asked else []
        return " ".join([*told, f"{self._summary()} .", ASKED[tuple(self._missing())]])


def _read(path: str | os.PathLike) -> Dialogues:
    wanted = "JSON lines, a list of turns in each"
    train, test = [], []
    for number, line in enumerate(read_text(path, wanted).rstrip("\n").split("\n"), start=1):
        turns = _turns(path, number, line)
        (test if held_out(turns[0]) else train).append(turns)
    if not (train and test):
        came = f"{len(train)} dialogues for training and {len(test)} for testing"
        raise fault(path, "", "some of each", came, "Give a longer file.")
    words = Vocabulary.of((text.split() for turns in train for text in turns), MOST_WORDS)
    return Dialogues(tuple(train), tuple(test), (), words)


def _turns(path: str | os.PathLike, number: int, line: str) -> Dialogue:
    """Read one dialogue, and leave out a last turn of the user, which nobody answers."""
    place, form = f"line {number}", '[{"speaker": "user", "text": "..."}, ...]'
    try:
        turns = json.loads(line)
    except json.JSONDecodeError as error:
        came = f"{line[:40]!r} ({error.msg} at character {error.pos + 1})"
        advice = "One dialogue a line; if this is the last line, get the file again."
        raise fault(path, place, f"JSON like {form}", came, advice) from error
    if not isinstance(turns, list):
        advice = "Write the list of turns itself."
        raise fault(path, place, f"a list like {form}", type(turns).__name__, advice)
    texts = []
    for count, turn in enumerate(turns, start=1):
        where, speaker = f"{place}, turn {count}", SPEAKERS[(count - 1) % 2]
        if not isinstance(turn, dict) or not {"speaker", "text"} <= turn.keys():
            advice = "Give each turn a speaker and a text."
            raise fault(path, where, 'an object with "speaker" and "text"', repr(turn)[:60], advice)
        if turn["speaker"] != speaker:
            came, advice = repr(turn["speaker"])[:40], "The user begins; then they take turns."
            raise fault(path, where, f"the speaker {speaker!r}", came, advice)
        text = turn["text"]
        words = (
            re.findall(r"\d+:\d+|\w+|[^\w\s]", fold(text).lower()) if isinstance(text, str) else []
        )
        if not words:
            raise fault(path, where, "a text with words", repr(text)[:40], "Leave the turn out.")
        texts.append(" ".join(words))
    if len(texts) < 2:
        came = f"{len(texts)} turns"
        raise fault(path, place, "a turn of the user and an answer", came, "Leave the line out.")
    return tuple(texts[: len(texts) // 2 * 2])
