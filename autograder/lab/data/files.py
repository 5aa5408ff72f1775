"""Read files that came from elsewhere, and say exactly what is wrong with one."""

import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path

from autograder.lab.errors import DataError


def fault(path: str | os.PathLike, place: str, expected: str, came: str, advice: str) -> DataError:
    """Word an error: the file and the place in it, both sides, and what to do."""
    where = f"{path}, {place}" if place else f"{path}"
    return DataError(f"{where}: expected {expected}, got {came}. {advice}")


def read_text(path: str | os.PathLike, expected: str) -> str:
    """Read a UTF-8 file; `expected` says in the error what it should have been.

    Raises: DataError where it is missing or empty, or with the first byte that is not UTF-8.
    """
    advice = "Give the path of such a file."
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise fault(path, "", expected, f"no file to read ({error.strerror})", advice) from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        came = f"the byte 0x{content[error.start]:02x}, which is not UTF-8"
        advice = "Save it as UTF-8, or give another file."
        raise fault(path, f"byte {error.start}", expected, came, advice) from error
    if not text.strip():
        raise fault(path, "", expected, "an empty file", advice)
    return text.replace("\r\n", "\n")


def read_rows(path: str | os.PathLike, columns: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    """Read a CSV file with this header; give the line on which each row ends, and its fields.

    Raises: DataError with the line of the first row that is not one, or has an empty field.
    """
    header = ",".join(columns)
    expected = f"a CSV file with the header {header}"
    text = read_text(path, expected)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        first = next(reader)
        if first != list(columns):
            came = repr(",".join(first)[:60])
            raise fault(path, "line 1", expected, came, "Put these names in the first line.")
        for row in reader:
            place, wanted = f"line {reader.line_num}", f"{len(columns)} fields ({header})"
            if len(row) != len(columns):
                advice = "Quote fields that hold a comma; leave no line empty."
                raise fault(path, place, wanted, f"{len(row)}", advice)
            for name, field in zip(columns, row, strict=True):
                if not field.strip():
                    raise fault(path, place, f"a {name}", "nothing", "Fill it in or drop the row.")
            yield reader.line_num, row
    except csv.Error as error:
        advice = "A quote may be open, or the end of the file missing: get the file again."
        raise fault(path, f"line {reader.line_num}", expected, str(error), advice) from error
