"""Real technical English: the language reference that Python carries for its help()."""

import hashlib
import os
import platform
import pydoc_data.topics
import re
from collections.abc import Iterable
from dataclasses import dataclass

from autograder.lab.data.files import fault, read_text
from autograder.lab.data.vocabulary import ASCII, Vocabulary, fold

# The share of the topics, or of a file's paragraphs, that are for testing.
TEST_SHARE = 0.12
FEWEST_PARAGRAPHS = 20
BLANK = re.compile(r"\n\s*\n")


@dataclass(frozen=True)
class Text:
    """A text in two parts, of the characters of `vocabulary`; a blank line between paragraphs."""

    train: str
    test: str
    source: str
    vocabulary: Vocabulary = ASCII


def python_reference(path: str | os.PathLike | None = None) -> Text:
    """Give Python's language reference, or the text of a file, as a train and a test part.

    Without a path: the 79 topics of the standard library's `pydoc_data.topics`. Topics repeat one
    another, so each paragraph is kept once, and no paragraph of the test part stands in train;
    letter case and white space make no difference. Both parts depend on the version of Python:
    topics go to the test part by a hash of their names, so that another version moves none.
    Equal paragraphs hold 97% of the test part of 3.11.7 in 3.11.2, 98% in 3.12.1 and 85% in 3.13.0,
    and none of theirs stands in its train part.
    With a path: a UTF-8 text file with blank lines between paragraphs; the last 12% are for
    testing, and train loses what it shares with them.

    Shapes: about 338,000 characters for training and 35,000 for testing.
    Source: Python's documentation, Python Software Foundation License.
    Raises: DataError where the file is missing, not UTF-8, not Latin text or too short.
    """
    if path is None:
        source = f"pydoc_data.topics of Python {platform.python_version()}"
        train, test = _split_topics(pydoc_data.topics.topics)
    else:
        source = os.path.basename(path)
        train, test = _split_file(path)
    held_out = _kept_once(test)
    rest = _kept_once(train, without=held_out)
    return Text("\n\n".join(rest.values()), "\n\n".join(held_out.values()), source)


def _split_topics(topics: dict[str, str]) -> tuple[list[str], list[str]]:
    train, test = [], []
    for name in sorted(topics):
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
        part = test if number < TEST_SHARE * 2**64 else train
        part += _paragraphs(fold(topics[name]))
    return train, test


def _split_file(path: str | os.PathLike) -> tuple[list[str], list[str]]:
    expected = "a UTF-8 text in Latin letters"
    text = read_text(path, expected)
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise fault(path, f"line {line}", expected, "a zero byte", "This is no text file.")
    folded = fold(text)
    if len(folded) < 0.9 * len(text):
        came = f"{1 - len(folded) / len(text):.0%} other characters"
        raise fault(path, "", expected, came, "Only Latin letters have a place in the vocabulary.")
    paragraphs = _paragraphs(folded)
    if len(paragraphs) < FEWEST_PARAGRAPHS:
        wanted = f"at least {FEWEST_PARAGRAPHS} paragraphs with blank lines between them"
        raise fault(path, "", wanted, f"{len(paragraphs)}", "Give a longer text.")
    cut = round(len(paragraphs) * (1 - TEST_SHARE))
    return paragraphs[:cut], paragraphs[cut:]


def _paragraphs(text: str) -> list[str]:
    return [paragraph.rstrip() for paragraph in BLANK.split(text.strip("\n")) if paragraph.strip()]


def _kept_once(paragraphs: Iterable[str], without: Iterable[str] = ()) -> dict[str, str]:
    """Keep the first of equal paragraphs, by what makes them equal."""
    kept: dict[str, str] = {}
    for paragraph in paragraphs:
        key = " ".join(paragraph.lower().split())
        if key not in without:
            kept.setdefault(key, paragraph)
    return kept
