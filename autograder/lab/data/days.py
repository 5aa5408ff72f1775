"""Days as people write them, in running text, and the same days as ISO dates."""

import hashlib
import os
import random
import re
from dataclasses import dataclass
from datetime import date

from autograder.lab.data.files import fault, read_rows
from autograder.lab.data.vocabulary import ASCII, Vocabulary, fold

# A hundred years, so that two digits name one of them.
FIRST, LAST = date(1950, 1, 1), date(2049, 12, 31)
TEST_SHARE = 0.2  # of all days
ISO = re.compile(r"\d{4}-\d\d-\d\d")

# Not from `calendar`, whose names follow the locale.
MONTHS = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
]  # fmt: skip
WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
UNITS = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth"]
TEENS = [
    "tenth", "eleventh", "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth",
    "seventeenth", "eighteenth", "nineteenth",
]  # fmt: skip
TWENTIES = [f"twenty-{unit}" for unit in UNITS]
SPELLED = [*UNITS, *TEENS, "twentieth", *TWENTIES, "thirtieth", "thirty-first"]

# With dots the day stands first, with slashes the month, unless the year does.
FORMATS = (
    "{Weekday} the {nth} of {Month}, {year}",
    "{Weekday}, {Month} {d}, {year}",
    "{Weekday} {nth} {Month} {year}",
    "{Wed} {d} {Month} {year}",
    "the {nth} of {Month} {year}",
    "the {spelled} of {Month} {year}",
    "the {spelled} of {Month}, '{yy}",
    "{Month} the {spelled}, {year}",
    "{d} {Month} {year}",
    "{nth} {Month}, {year}",
    "{Month} {d}, {year}",
    "{Month} {nth}, {year}",
    "{Mar} {d}, '{yy}",
    "{d} {mar} {year}",
    "{d}-{Mar}-{year}",
    "{dd}-{MAR}-{yy}",
    "{dd}.{mm}.{yy}",
    "{d}.{m}.{year}",
    "{m}/{d}/{year}",
    "{mm}/{dd}/{yy}",
    "{year}/{mm}/{dd}",
    "{year}, {Month} {d}",
)

# What stands around a day in a letter: numbers and words that a date may hold, but no date. None
# begins or ends with such a word, which would run into the day.
PHRASES = (
    "please send 12 copies to the office",
    "our order 4471 has not arrived",
    "the meeting may be moved to the large hall",
    "as I said on the phone",
    "if nothing else comes up in between",
    "they march for 20 miles without a rest",
    "you can reach me in room 305 after lunch",
    "the doors open at 7:30 and close at 10 as always",
    "we have decided to begin a little later",
    "the price is 49.50 for two people",
    "a second reader has marked 17 pages so far",
    "nobody knows whether the sun will shine",
    "I would be glad of a short answer",
    "the bill of 1200 was paid in full",
    "they sat on the third bench by the sea",
    "one of the 31 boxes was empty again",
)


@dataclass(frozen=True)
class Pairs:
    """Texts, and for each the ISO date of the day that it names."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]


@dataclass(frozen=True)
class Dates:
    """Texts that name a day, of the characters of `vocabulary`; no day of `test` is in `train`."""

    train: Pairs
    test: Pairs
    vocabulary: Vocabulary = ASCII


def dates(
    path: str | os.PathLike | None = None,
    *,
    train: int = 8000,
    test: int = 500,
    words: int = 0,
    seed: int = 0,
) -> Dates:
    """Give texts like "Tuesday the 3rd of March, 1987", and dates like "1987-03-03" for them.

    Without a path: made with a seed, in FORMATS, for days from 1950 to 2049. `words` words of other
    text surround each day, some before and some after it, to lengthen the input. One day in five is
    for testing, the same ones for every seed, so another seed's test part is as new to a model.
    With a path: a CSV file with the header source,target, whose targets are ISO dates. The same
    days are for testing, and `train`, `test`, `words` and `seed` have no say.

    Shapes: `train` and `test` texts of 8 to 37 characters, and about 5 more for each of `words`;
    10 characters in a target.
    Source: made here, no licence needed.
    Raises: DataError with the line of the file that is wrong; ValueError for a negative number.
    """
    if path is not None:
        return _read(path)
    for name, number in (("train", train), ("test", test), ("words", words)):
        if number < 0:
            raise ValueError(f"{name}: expected 0 or more, got {number}")
    chance = random.Random(seed)
    return Dates(_made(chance, train, words, False), _made(chance, test, words, True))


def held_out(day: date) -> bool:
    """Say whether a day is for testing."""
    number = int.from_bytes(hashlib.sha256(day.isoformat().encode()).digest()[:8], "big")
    return number < TEST_SHARE * 2**64


def written(day: date, form: str) -> str:
    """Write a day in one of FORMATS."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10, "th")
    weekday, month = WEEKDAYS[day.weekday()], MONTHS[day.month - 1]
    return form.format(
        d=day.day,
        dd=f"{day.day:02}",
        nth=f"{day.day}{'th' if day.day in (11, 12, 13) else ending}",
        spelled=SPELLED[day.day - 1],
        Weekday=weekday,
        Wed=weekday[:3],
        m=day.month,
        mm=f"{day.month:02}",
        Month=month,
        Mar=month[:3],
        mar=month[:3].lower(),
        MAR=month[:3].upper(),
        year=day.year,
        yy=f"{day.year % 100:02}",
    )


def _made(chance: random.Random, count: int, words: int, testing: bool) -> Pairs:
    sources, targets = [], []
    while len(sources) < count:
        day = date.fromordinal(chance.randint(FIRST.toordinal(), LAST.toordinal()))
        if held_out(day) == testing:
            sources.append(_surrounded(chance, written(day, chance.choice(FORMATS)), words))
            targets.append(day.isoformat())
    return Pairs(tuple(sources), tuple(targets))


def _surrounded(chance: random.Random, text: str, words: int) -> str:
    before = chance.randint(0, words)
    head, tail = _running(chance, before), _running(chance, words - before)
    return " ".join([*head[len(head) - before :], text, *tail[: words - before]])


def _running(chance: random.Random, words: int) -> list[str]:
    """Give phrases of at least so many words."""
    text: list[str] = []
    while len(text) < words:
        text += chance.choice(PHRASES).split()
    return text


def _read(path: str | os.PathLike) -> Dates:
    train, test = [], []
    for line, (source, target) in read_rows(path, ("source", "target")):
        try:
            day = date.fromisoformat(target if ISO.fullmatch(target) else "")
        except ValueError as error:
            advice = "Write year, month and day of a real day, with hyphens."
            came = repr(target[:40])
            raise fault(path, f"line {line}", "a date like 1987-03-31", came, advice) from error
        part = test if held_out(day) else train
        part.append((fold(source), target))
    if not (train and test):
        came = f"{len(train)} rows for training and {len(test)} for testing"
        raise fault(path, "", "some of each", came, "Give a longer file.")
    return Dates(Pairs(*zip(*train, strict=True)), Pairs(*zip(*test, strict=True)))
