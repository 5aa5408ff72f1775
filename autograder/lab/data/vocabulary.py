"""Symbols and their numbers."""

import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

# The line break and the 95 printable characters of ASCII: what `fold` leaves of a text.
CHARACTERS = "\n" + "".join(map(chr, range(ord(" "), ord("~") + 1)))
# Typographic signs that have no decomposition, and what is typed for them.
TYPED = str.maketrans(
    {"“": '"', "”": '"', "‘": "'", "’": "'", "–": "-", "—": "--", "ß": "ss", "\t": " "}
)
_KEPT = frozenset(CHARACTERS)


def fold(text: str) -> str:
    """Write a text with CHARACTERS alone: quotes straight, accents off, other signs left out."""
    decomposed = unicodedata.normalize("NFKD", text.translate(TYPED))
    return "".join(character for character in decomposed if character in _KEPT)


@dataclass(frozen=True)
class Vocabulary:
    """Numbers for symbols: four special ones, then `symbols` in their order.

    A symbol is a character or a word: `encode` takes a string, or a list of words.
    """

    symbols: tuple[str, ...]

    pad: ClassVar[int] = 0
    start: ClassVar[int] = 1
    end: ClassVar[int] = 2
    unknown: ClassVar[int] = 3
    special: ClassVar[tuple[str, ...]] = ("<pad>", "<start>", "<end>", "<unknown>")

    @classmethod
    def of(cls, texts: Iterable[Iterable[str]], size: int) -> "Vocabulary":
        """Number the most frequent symbols of some texts, `size` with the special ones.

        Of equally frequent ones the first in the order of the alphabet goes first.
        Raises: ValueError where size leaves no room for a symbol.
        """
        if size <= len(cls.special):
            raise ValueError(f"expected a size above {len(cls.special)}, got {size}")
        counts = Counter(symbol for text in texts for symbol in text)
        ranked = sorted(counts, key=lambda symbol: (-counts[symbol], symbol))
        return cls(tuple(ranked[: size - len(cls.special)]))

    def __len__(self) -> int:
        return len(self.special) + len(self.symbols)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {symbol: n for n, symbol in enumerate(self.symbols, start=len(self.special))}

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return self.special + self.symbols

    def encode(self, text: Iterable[str]) -> list[int]:
        """Give the number of each symbol; that of `unknown` for one that is not here."""
        return [self._numbers.get(symbol, self.unknown) for symbol in text]

    def decode(self, numbers: Iterable[int]) -> list[str]:
        """Give the symbols up to the first `end`, without `pad` and `start`.

        Raises: ValueError for a number outside the vocabulary.
        """
        symbols = []
        for number in map(int, numbers):
            if not 0 <= number < len(self):
                raise ValueError(f"expected numbers from 0 to {len(self) - 1}, got {number}")
            if number == self.end:
                break
            if number not in (self.pad, self.start):
                symbols.append(self._names[number])
        return symbols


ASCII = Vocabulary(tuple(CHARACTERS))
