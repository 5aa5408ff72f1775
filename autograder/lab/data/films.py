"""Ratings of films by people, and when they gave them: MovieLens."""

import os
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from autograder.lab.data.files import fault, read_rows, read_text
from autograder.lab.data.packages import folder

MODULE = PACKAGE = "recbole"
INSTALLED = Path("dataset_example", "ml-100k")
TEST_SHARE = 0.1  # of all ratings
# The first rating of any MovieLens file is of January 1995; a number that was cut off is smaller.
FIRST, LAST = 788_918_400, 2**32 - 1  # seconds since 1970
STARS = {half / 2 for half in range(1, 11)}
GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi",
    "Thriller", "War", "Western",
)  # fmt: skip
CSV = ("userId", "movieId", "rating", "timestamp")
MOVIES = ("movieId", "title", "genres")
INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
ITEM = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"
ADVICE = "Give MovieLens' ratings.csv or u.data, or get the file again."
INSTALL_AGAIN = "Install the package recbole again."


@dataclass(frozen=True)
class Events:
    """Ratings in the order of their times, all columns of one length."""

    users: Tensor
    """Numbers from 1."""
    films: Tensor
    """Numbers from 1, so that 0 is free for padding."""
    stars: Tensor
    """From 0.5, the worst, to 5; whole numbers in MovieLens 100k."""
    times: Tensor
    """Seconds since 1970, UTC."""

    def __len__(self) -> int:
        return len(self.times)


@dataclass(frozen=True)
class Ratings:
    """Ratings in two parts, every one of `test` later than all of `train`."""

    train: Events
    test: Events
    people: int
    """The largest number of a user."""
    titles: tuple[str, ...]
    """By the number of a film; "" for 0."""
    genres: tuple[tuple[str, ...], ...]
    """By the number of a film; () for 0."""

    @property
    def films(self) -> int:
        """Give the largest number of a film."""
        return len(self.titles) - 1


def ratings(path: str | os.PathLike | None = None) -> Ratings:
    """Give people's ratings of films, in two parts by time.

    Without a path: MovieLens 100k, as it lies in the package recbole: 100,000 ratings that 943
    people gave to 1,682 films from September 1997 to April 1998.
    With a path: the ratings.csv or the u.data of any MovieLens set. Titles and genres come from
    movies.csv or u.item in the same folder; without it a film is called by its number there.
    Users and films are numbered from 1 in the order of the file's own numbers.
    The last tenth of the ratings is for testing, with all that share the second of its first.
    Most of its users are new: they have no rating in `train`.

    Shapes: in MovieLens 100k, 90,000 ratings for training and 10,000 for testing; int64 columns,
    stars float32.
    Source: MovieLens 100k (Harper and Konstan 2015), collected by GroupLens at the University of
    Minnesota. Its terms: name the source in what you publish, imply no endorsement by it, pass the
    data on only with permission, and ask before any use that earns money. The package's own code
    is MIT.
    Raises: DataError where the package or a file is missing, or with the line that is wrong.
    """
    if path is None:
        root = folder(MODULE, PACKAGE) / INSTALLED
        path = root / "ml-100k.inter"
        rows, films = _tabbed(path, INTER, INSTALL_AGAIN), _items(root / "ml-100k.item")
        return _ratings(path, *_table(rows, path), dict(films))
    path = Path(path)
    text = read_text(path, "a MovieLens ratings.csv or u.data")
    if "," in text.split("\n", 1)[0]:
        rows, films = read_rows(path, CSV), _movies(path.with_name("movies.csv"))
    else:
        rows, films = _tabbed(path, "", ADVICE), _u_item(path.with_name("u.item"))
    return _ratings(path, *_table(rows, path), dict(films))


def _tabbed(path: Path, header: str, advice: str) -> Iterator[tuple[int, list[str]]]:
    """Read lines of four fields with tabs between them, below a header or without one."""
    lines = read_text(path, "lines of user, film, rating and time").rstrip("\n").split("\n")
    if header and lines[0] != header:
        raise fault(path, "line 1", f"the header {header!r}", repr(lines[0][:60]), advice)
    for number, line in enumerate(lines, start=1):
        if header and number == 1:
            continue
        fields = line.split("\t")
        if len(fields) != 4:
            wanted = "user, film, rating and time with tabs between them"
            raise fault(path, f"line {number}", wanted, repr(line[:60]), advice)
        yield number, fields


def _table(rows: Iterable[tuple[int, list[str]]], path: Path) -> tuple[array, ...]:
    """Check each row; give columns of users, films, stars, times and lines."""
    lines, fields = array("q"), ([], [], [], [])
    for line, row in rows:
        lines.append(line)
        for column, text in zip(fields, row, strict=True):
            column.append(text)
    if not lines:
        raise fault(path, "", "ratings", "a header alone", ADVICE)
    readers = (
        (_whole, "q", "the number of a user"),
        (_whole, "q", "the number of a film"),
        (_stars, "d", "a rating from 0.5 to 5 in steps of a half"),
        (_second, "q", "a time in seconds since 1970, after 1994"),
    )
    columns = []
    for texts, (read, kind, wanted) in zip(fields, readers, strict=True):
        values = {text: read(text) for text in set(texts)}  # most come again and again
        if None in values.values():
            at = next(n for n, text in enumerate(texts) if values[text] is None)
            raise fault(path, f"line {lines[at]}", wanted, repr(texts[at][:20]), ADVICE)
        columns.append(array(kind, map(values.__getitem__, texts)))
    seen = set()
    for line, user, film in zip(lines, *columns[:2], strict=True):
        if (user, film) in seen:
            came = f"a second one by user {user} for film {film}"
            raise fault(path, f"line {line}", "one rating of a film by a user", came, ADVICE)
        seen.add((user, film))
    return (*columns, lines)


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _stars(text: str) -> float | None:
    try:
        return worth if (worth := float(text)) in STARS else None
    except ValueError:
        return None


def _second(text: str) -> int | None:
    second = _whole(text)
    return second if second is not None and FIRST <= second <= LAST else None


def _ratings(
    path: Path, users: array, films: array, stars: array, times: array, lines: array, known: dict
) -> Ratings:
    """Number users and films, sort by time and cut."""
    people, own = sorted(set(users)), sorted(known or set(films))
    number_of_user, number_of_film = (
        {value: number for number, value in enumerate(values, start=1)} for values in (people, own)
    )
    for film, line in zip(films, lines, strict=True):
        if film not in number_of_film:
            advice = "The file of titles in the same folder belongs to another set, or is cut off."
            raise fault(path, f"line {line}", "a film with a title", f"film {film}", advice)
    columns = (
        torch.tensor([number_of_user[user] for user in users]),
        torch.tensor([number_of_film[film] for film in films]),
        torch.tensor(stars, dtype=torch.float32),
        torch.tensor(times),
    )
    rows = zip(times, users, films, range(len(times)), strict=True)
    order = torch.tensor([row[-1] for row in sorted(rows)])
    columns = [column[order] for column in columns]
    seconds = columns[-1]
    cut = int(torch.searchsorted(seconds, seconds[int(len(seconds) * (1 - TEST_SHARE))].item()))
    if cut == 0:
        came = f"{len(seconds)} of one time"
        raise fault(path, "", "ratings of several times", came, "Give a longer file.")
    train, test = (Events(*(c[part] for c in columns)) for part in (slice(cut), slice(cut, None)))
    names = [known.get(film, (f"film {film}", ())) for film in own]
    titles, genres = zip(("", ()), *names, strict=True)
    return Ratings(train, test, len(people), titles, genres)


def _items(path: Path) -> Iterator[tuple[int, tuple[str, tuple[str, ...]]]]:
    """Read the package's films: number, title, year and genres with tabs between them."""
    for line, (film, title, year, genres) in _tabbed(path, ITEM, INSTALL_AGAIN):
        number = _film(path, line, film, INSTALL_AGAIN)
        words = tuple(word for word in genres.split(" ") if word != "unknown")
        yield number, (f"{title} ({year})" if year.isdigit() else title, words)


def _movies(path: Path) -> Iterator[tuple[int, tuple[str, tuple[str, ...]]]]:
    """Read a movies.csv, where there is one."""
    if not path.exists():
        return
    for line, (film, title, genres) in read_rows(path, MOVIES):
        names = () if genres.startswith("(") else tuple(genres.split("|"))
        yield _film(path, line, film, ADVICE), (title, names)


def _u_item(path: Path) -> Iterator[tuple[int, tuple[str, tuple[str, ...]]]]:
    """Read a u.item, where there is one: number, title, dates, address and 19 flags."""
    if not path.exists():
        return
    # MovieLens 100k is the one set that is not UTF-8, and any byte is a letter in this encoding.
    lines = path.read_bytes().decode("latin-1").replace("\r\n", "\n").rstrip("\n").split("\n")
    for line, text in enumerate(lines, start=1):
        film, title, *rest = text.split("|") if text.count("|") == 23 else ("", "")
        flags = rest[3:]
        if not rest or not set(flags) <= {"0", "1"}:
            wanted = "number, title, two dates, an address and 19 flags with | between them"
            raise fault(path, f"line {line}", wanted, repr(text[:60]), ADVICE)
        pairs = zip(GENRES, flags, strict=True)
        names = tuple(name for name, flag in pairs if flag == "1" and name != "unknown")
        yield _film(path, line, film, ADVICE), (title, names)


def _film(path: Path, line: int, text: str, advice: str) -> int:
    number = _whole(text)
    if number is None:
        raise fault(path, f"line {line}", "the number of a film", repr(text[:20]), advice)
    return number
