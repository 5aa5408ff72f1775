"""MovieLens: what the parts hold, that no test rating is early, what is said of bad files."""

import re
from collections import Counter

import pytest
import torch

from autograder.lab.data import films, packages
from autograder.lab.errors import DataError

U_DATA = "7\t30\t4\t881250949\n5\t10\t1\t881250950\n7\t10\t5\t881250951\n5\t30\t3\t881250951\n"
FLAGS = "|".join("0" * 19)
ANIMATED = "|".join("1" if place in (3, 5) else "0" for place in range(19))
U_ITEM = f"10|Misérables, Les (1995)|01-Jan-1995||http://x|{ANIMATED}\n30|unknown||||{FLAGS}\n"
CSV = "userId,movieId,rating,timestamp\n" + "".join(
    f"{user},{film},{stars},{881250900 + time}\n"
    for time, (user, film, stars) in enumerate(
        [(9, 500, 0.5), (9, 2, 4.5), (3, 2, 5.0), (3, 70000, 3.0), (9, 70000, 4.0)]
    )
)
MOVIES = (
    'movieId,title,genres\n2,"American President, The (1995)",Comedy|Drama|Romance\n'
    "500,Heat (1995),(no genres listed)\n600,Never rated (1995),War\n70000,Up (2009),Animation\n"
)


@pytest.fixture(scope="module")
def installed():
    return films.ratings()


@pytest.fixture
def write(tmp_path):
    """Write a small file and give its path."""

    def call(content, name):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return call


def complaint(path=None):
    """Give the text of a DataError; a call that succeeds fails the test."""
    with pytest.raises(DataError) as caught:
        films.ratings(path)
    return str(caught.value)


def rows(part):
    columns = (part.users, part.films, part.stars, part.times)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_ratings_are_movielens_100k(installed):
    """The counts that GroupLens states for this set."""
    every = rows(installed.train) + rows(installed.test)
    assert len(every) == 100_000
    assert (installed.people, installed.films) == (943, 1682)
    assert {user for user, *_ in every} == set(range(1, 944))
    assert {film for _, film, *_ in every} == set(range(1, 1683))
    assert Counter(stars for _, _, stars, _ in every) == {
        1: 6110,
        2: 11370,
        3: 27145,
        4: 34174,
        5: 21201,
    }
    assert min(Counter(user for user, *_ in every).values()) == 20
    assert len({(user, film) for user, film, *_ in every}) == 100_000
    # The first two lines of u.data, as its README shows them.
    assert {(196, 242, 3.0, 881250949), (186, 302, 3.0, 891717742)} <= set(every)


def test_ratings_are_cut_by_time(installed):
    train, test = installed.train, installed.test
    assert (len(train), len(test)) == (90_000, 10_000)
    assert (train.times.diff() >= 0).all()
    assert (test.times.diff() >= 0).all()
    assert train.times[-1] < test.times[0]
    assert 0.7 < (~torch.isin(test.users, train.users)).float().mean() < 0.72
    for part in (train, test):
        assert {column.dtype for column in (part.users, part.films, part.times)} == {torch.int64}
        assert part.stars.dtype == torch.float32


def test_ratings_know_the_films(installed):
    assert installed.titles[0] == ""
    assert installed.titles[1] == "Toy Story (1995)"
    assert installed.genres[1] == ("Animation", "Children's", "Comedy")
    assert installed.titles[50] == "Star Wars (1977)"
    # A title with a year of its own, one without a year, and the one film that has no name.
    assert installed.titles[1412] == "Land Before Time III: The Time of the Great Giving (1995)"
    assert installed.titles[267].startswith("un")
    assert installed.genres[267] == ()
    named = {name for names in installed.genres for name in names}
    assert named == set(films.GENRES) - {"unknown"}
    assert len(installed.titles) == len(installed.genres) == 1683


def test_ratings_read_u_data(write):
    path = write(U_DATA, "u.data")
    found = films.ratings(path)
    assert rows(found.train) == [(2, 2, 4, 881250949), (1, 1, 1, 881250950)]
    # Two of one second stand together, by the number of the user.
    assert rows(found.test) == [(1, 2, 3, 881250951), (2, 1, 5, 881250951)]
    assert (found.people, found.films) == (2, 2)
    assert found.titles == ("", "film 10", "film 30")
    write(U_ITEM.encode("latin-1"), "u.item")
    found = films.ratings(path)
    assert found.titles == ("", "Misérables, Les (1995)", "unknown")
    assert found.genres == ((), ("Animation", "Comedy"), ())


def test_ratings_read_ratings_csv(write):
    path = write(CSV.replace("\n", "\r\n"), "ratings.csv")
    found = films.ratings(path)
    assert found.titles == ("", "film 2", "film 500", "film 70000")
    assert rows(found.train)[:2] == [(2, 2, 0.5, 881250900), (2, 1, 4.5, 881250901)]
    assert rows(found.test) == [(2, 3, 4, 881250904)]
    write(MOVIES, "movies.csv")
    found = films.ratings(path)
    assert found.titles[1:3] == ("American President, The (1995)", "Heat (1995)")
    assert found.genres[1:] == (("Comedy", "Drama", "Romance"), (), ("War",), ("Animation",))
    # A film that nobody rated has a number, too.
    assert rows(found.test) == [(2, 4, 4, 881250904)]


def test_ratings_do_not_depend_on_the_order_of_lines(write):
    lines = U_DATA.splitlines(keepends=True)
    one, other = (films.ratings(write("".join(some), "u.data")) for some in (lines, lines[::-1]))
    for part in ("train", "test"):
        assert rows(getattr(one, part)) == rows(getattr(other, part))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("5 11 3 881250951", "line 5: expected user, film, rating and time with tabs between them"),
        ("5\t11\t3\t881250951\t1", "line 5: expected user, film, rating and time with tabs"),
        ("", "line 5: expected user, film, rating and time with tabs between them, got ''"),
        ("x\t11\t3\t881250951", "line 5: expected the number of a user, got 'x'"),
        ("5\t-1\t3\t881250951", "line 5: expected the number of a film, got '-1'"),
        ("5\t11\t0\t881250951", "line 5: expected a rating from 0.5 to 5 in steps of a half"),
        ("5\t11\tnan\t881250951", "line 5: expected a rating from 0.5 to 5 in steps of a half"),
        ("5\t11\t3.2\t881250951", "line 5: expected a rating from 0.5 to 5 in steps of a half"),
        ("5\t11\t3\t88125", "line 5: expected a time in seconds since 1970, after 1994"),
        ("5\t11\t3\t881250951.5", "line 5: expected a time in seconds since 1970, after 1994"),
        ("7\t10\t2\t881250952", "got a second one by user 7 for film 10"),
    ],
)
def test_wrong_line_of_u_data_is_named(write, line, said):
    path = write(U_DATA + line + "\n5\t99\t1\t881250960\n", "u.data")
    assert said in (text := complaint(path))
    assert text.startswith(f"{path}, line 5: ")
    assert text.endswith("Give MovieLens' ratings.csv or u.data, or get the file again.")


def test_truncated_file_is_named(write):
    """Wherever in its last line a file ends, and at the end of a line there is nothing to see."""
    whole = U_DATA.rstrip("\n")
    last = whole.rindex("\n") + 1
    for end in range(last + 1, len(whole)):
        assert "line 4: expected " in complaint(write(whole[:end], "u.data"))
    cut = CSV.rstrip("\n")[:-4]
    assert "line 6: expected a time in seconds since 1970" in complaint(write(cut, "ratings.csv"))


def test_foreign_file_is_named(write, tmp_path):
    assert "none.csv: expected a MovieLens ratings.csv or u.data, got no file to read" in complaint(
        tmp_path / "none.csv"
    )
    assert "got an empty file" in complaint(write("\n", "ratings.csv"))
    assert "byte 1: expected a MovieLens ratings.csv or u.data, got the byte 0x8b" in complaint(
        write(b"\x1f\x8b\x08\x00", "ratings.csv.gz")
    )
    assert "line 1: expected a CSV file with the header userId,movieId,rating," in complaint(
        write(MOVIES, "ratings.csv")
    )
    assert "expected ratings, got a header alone" in complaint(
        write("userId,movieId,rating,timestamp\n", "ratings.csv")
    )
    assert "line 3: expected a rating from 0.5 to 5 in steps of a half, got 'good'" in complaint(
        write(CSV.replace("4.5", "good"), "ratings.csv")
    )
    assert "expected ratings of several times, got 2 of one time" in complaint(
        write("1\t1\t3\t881250949\n1\t2\t3\t881250949\n", "u.data")
    )


def test_faulty_titles_are_named(write):
    path = write(U_DATA, "u.data")
    write(U_ITEM.splitlines()[0], "u.item")
    assert f"{path}, line 1: expected a film with a title, got film 30" in complaint(path)
    write(U_ITEM[:-3], "u.item")
    assert "u.item, line 2: expected number, title, two dates, an address" in complaint(path)
    write(U_ITEM.replace("10|Mis", "x|Mis"), "u.item")
    assert "u.item, line 1: expected the number of a film, got 'x'" in complaint(path)
    path = write(CSV, "ratings.csv")
    write(MOVIES.replace("600,", "600,,"), "movies.csv")
    assert "movies.csv, line 4: expected 3 fields (movieId,title,genres), got 4" in complaint(path)


def test_faulty_package_is_named(write, tmp_path, monkeypatch):
    root = tmp_path / films.INSTALLED
    root.mkdir(parents=True)
    monkeypatch.setattr(films, "folder", lambda module, package: tmp_path)
    (root / "ml-100k.inter").write_text(U_DATA)
    assert "line 1: expected the header" in complaint()
    rated = U_DATA.rstrip("\n")
    (root / "ml-100k.inter").write_text(f"{films.INTER}\n{rated}")
    assert "ml-100k.item: expected lines" in complaint()
    (root / "ml-100k.item").write_text(f"{films.ITEM}\n10\tHeat\t1995\tAction\n30\tUp\n")
    assert re.search(r"ml-100k.item, line 3: expected .*Install the package", complaint())
    (root / "ml-100k.item").write_text(
        f"{films.ITEM}\n10\tHeat\t1995\tAction\n30\tUp\tV\tunknown\n"
    )
    assert films.ratings().titles == ("", "Heat (1995)", "Up")
    assert films.ratings().genres == ((), ("Action",), ())


def test_missing_package_names_its_command(monkeypatch):
    monkeypatch.setattr(films, "MODULE", "recbole_is_not_here")
    monkeypatch.setitem(packages.PINS, "recbole", "1.2.1")
    assert complaint() == (
        "the package recbole is not installed, and the data lie in it. "
        "Run: pip install --no-deps recbole==1.2.1"
    )
