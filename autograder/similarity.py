"""Solutions that are alike: places to look, never a verdict.

Source: Schleimer, Wilkerson and Aiken, Winnowing (SIGMOD 2003), with the names of variables and
functions taken out. Of the hashes of all runs of K tokens, those of the release are dropped and the
least of each WINDOW neighbours is kept. So two texts that share K + WINDOW - 1 tokens in a row
share a fingerprint, wherever these stand and whatever their names are, and a run of fewer than K
tokens never counts.
"""

import builtins
import itertools
import keyword
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

K, WINDOW = 6, 3
# Of the fingerprints of the shorter one, how many have to be in the other. Of this course's
# answers, right ones that were written apart share at most 0.31, and nine in ten of those that are
# the reference with a mistake put in share 0.9 or more with it.
ALIKE = 0.75
FEWEST = 12  # fingerprints; a shorter text is like any other

TOKEN = re.compile(
    r"""
      (?P<comment>\#[^\n]*)
    | (?P<string>[rRbBuUfF]{0,2}(?:
          \"{3}(?:\\.|[^\\])*?(?:\"{3}|\Z) | '{3}(?:\\.|[^\\])*?(?:'{3}|\Z)
        | "(?:\\.|[^"\\\n])*"? | '(?:\\.|[^'\\\n])*'?))
    | (?P<number>\.?\d(?:[eE][-+]|[\w.])*)
    | (?P<name>[^\W\d]\w*)
    | (?P<sign>\*\*=?|//=?|->|:=|[-+*/%@&|^=<>!]=|[^\s\w])
    """,
    re.VERBOSE | re.DOTALL,
)
# Names behind a dot that are no library's: of self, assigned, or defined as a function.
OWN = re.compile(r"\bself\s*\.\s*(\w+)|\.\s*(\w+)\s*=(?!=)|\bdef\s+(\w+)")
KEPT = {*keyword.kwlist, *dir(builtins)}


class Token(NamedTuple):
    """A token with its name taken out, and where it stands in the text."""

    kind: str
    start: int
    end: int


@dataclass(frozen=True)
class Member:
    """One of a group, with the other that is most like it."""

    name: str
    nearest: str
    share: float
    """Of the fingerprints of the shorter one, how many are in the other."""


@dataclass(frozen=True)
class Group:
    """Solutions each of which is like another one of them."""

    members: list[Member]
    pair: tuple[str, str]
    """The two that have most in common that nobody else has."""
    shared: int
    """Fingerprints that these two share."""
    rare: int
    """Those that nobody outside of the group has."""


def tokens(text: str) -> list[Token]:
    """Cut a program, which need not be right, into tokens; comments and docstrings are none.

    Names that can be changed freely become one: variables, functions, attributes, methods.
    Keywords, built-in functions and what is called of a library stay.
    """
    own = {name for names in OWN.findall(text) for name in names if name}
    found: list[Token] = []
    after_dot = False
    for match in TOKEN.finditer(text):
        kind, shown = match.lastgroup, match[0]
        line = text.rfind("\n", 0, match.start()) + 1
        if kind == "comment" or (kind == "string" and not text[line : match.start()].strip()):
            continue
        if kind == "string":
            shown = '""'
        elif kind == "name" and (shown in own if after_dot else shown not in KEPT):
            shown = "x"
        found.append(Token(shown, match.start(), match.end()))
        after_dot = shown == "."
    return found


def grams(found: list[Token]) -> list[int]:
    """Hash each run of K tokens, alike in every process: Python salts no numbers."""
    codes = [zlib.crc32(token.kind.encode(errors="replace")) for token in found]
    return [hash(run) for run in zip(*(codes[start:] for start in range(K)), strict=False)]


def winnow(hashes: list[int]) -> frozenset[int]:
    """Keep the least hash of each WINDOW neighbours."""
    if len(hashes) < WINDOW:
        return frozenset([min(hashes)] if hashes else [])
    return frozenset(map(min, zip(*(hashes[start:] for start in range(WINDOW)), strict=False)))


class Comparison:
    """The solutions of a class, without what stands in the release."""

    def __init__(self, solutions: dict[str, str], skeleton: str = ""):
        self.solutions = solutions
        self.known = frozenset(grams(tokens(skeleton)))
        self.prints = {
            name: winnow([h for h in grams(tokens(text)) if h not in self.known])
            for name, text in solutions.items()
        }
        self.prints = {n: prints for n, prints in self.prints.items() if len(prints) >= FEWEST}

    def share(self, one: str, other: str) -> float:
        """Say how much of the shorter solution is in the other, from 0 to 1."""
        a, b = (self.prints.get(name, frozenset()) for name in (one, other))
        return len(a & b) / max(1, min(len(a), len(b)))

    def groups(self) -> list[Group]:
        """Find who is like whom; first what is long and shared by few."""
        holders = Counter(h for prints in self.prints.values() for h in prints)
        nearest, links = self._nearest()
        found = []
        for names in _components(links):
            inside = Counter(h for name in names for h in self.prints[name])
            alone = {h for h, count in inside.items() if count == holders[h]}
            pairs = {tuple(sorted((name, nearest[name][0]))) for name in names}
            common = {pair: self.prints[pair[0]] & self.prints[pair[1]] for pair in pairs}
            pair = min(pairs, key=lambda pair: (-len(common[pair] & alone), pair))
            members = [Member(name, *nearest[name]) for name in sorted(names)]
            rare = len(common[pair] & alone)
            found.append(Group(members, pair, len(common[pair]), rare))
        return sorted(found, key=lambda g: (len(g.members) > 5, -g.rare, -g.shared, g.pair))

    def marked(self, one: str, other: str) -> tuple[list[tuple[bool, str]], ...]:
        """Cut both texts into pieces; True marks what the other has and the release has not."""
        found = [tokens(self.solutions[name]) for name in (one, other)]
        hashes = [grams(each) for each in found]
        both = set(hashes[0]) & set(hashes[1]) - self.known
        return tuple(
            list(_pieces(self.solutions[name], each, [h in both for h in own]))
            for name, each, own in zip((one, other), found, hashes, strict=True)
        )

    def _nearest(self) -> tuple[dict[str, tuple[str, float]], list[tuple[str, str]]]:
        """Give for each solution the one most like it, and all pairs that are alike.

        Sets are kept as the bits of a number: a thousand solutions are half a million pairs.
        """
        places = {h: n for n, h in enumerate(sorted(set().union(*self.prints.values())))}
        twins: dict[frozenset[int], list[str]] = {}
        for name, prints in self.prints.items():
            twins.setdefault(prints, []).append(name)
        rows = []
        for prints, names in twins.items():
            bits = bytearray(len(places) // 8 + 1)
            for h in prints:
                bits[places[h] >> 3] |= 1 << (places[h] & 7)
            rows.append((len(prints), int.from_bytes(bits, "little"), names[0]))
        rows.sort(key=lambda row: (row[0], row[2]))
        nearest: dict[str, tuple[str, float]] = {}
        links = []
        for place, (size, bits, name) in enumerate(rows):
            least = ALIKE * size
            for _, others, other in rows[place + 1 :]:
                common = (bits & others).bit_count()
                if common >= least:
                    share = common / size
                    links.append((name, other))
                    for a, b in ((name, other), (other, name)):
                        if a not in nearest or share > nearest[a][1]:
                            nearest[a] = (b, share)
        for names in twins.values():
            for name in names[1:]:
                links.append((names[0], name))
                nearest[name] = (names[0], 1.0)
            if len(names) > 1:
                nearest[names[0]] = (names[1], 1.0)
        return nearest, links


def _components(links: list[tuple[str, str]]) -> list[list[str]]:
    """Join what is linked."""
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        while leader.setdefault(name, name) != name:
            leader[name] = name = leader[leader[name]]
        return name

    for one, other in links:
        leader[find(one)] = find(other)
    joined: dict[str, list[str]] = {}
    for name in leader:
        joined.setdefault(find(name), []).append(name)
    return list(joined.values())


def _pieces(text: str, found: list[Token], starts: list[bool]) -> Iterator[tuple[bool, str]]:
    """Cut a text where a marked run of tokens begins or ends."""
    marked = [any(starts[max(0, place - K + 1) : place + 1]) for place in range(len(found))]
    at = 0
    for mark, run in itertools.groupby(zip(marked, found, strict=True), key=lambda one: one[0]):
        if mark:
            each = [token for _, token in run]
            yield False, text[at : each[0].start]
            yield True, text[each[0].start : each[-1].end]
            at = each[-1].end
    yield False, text[at:]
