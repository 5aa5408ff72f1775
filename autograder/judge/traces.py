"""Tracebacks across the line: the judge shows the frames of the student's code as its own.

The answer's process tells its frames as plain data. The judge makes real ones of them, which run
nothing, so that IPython shows them as it would in one process. No frame of this package is shown.
"""

import ast
import builtins
import linecache
import os
import sys
import tempfile
from collections.abc import Iterator
from inspect import CO_VARARGS, CO_VARKEYWORDS, modulesbyfile
from pathlib import Path
from types import CodeType, FrameType, FunctionType, TracebackType
from typing import Any

from autograder.judge.values import PlainDataError, Writer
from autograder.lab import errors as lab_errors
from autograder.wire import ProtocolError

OWN = str(Path(__file__).parent) + os.sep
# Between a call and its question, and in its backward, torch calls one of our classes from here.
BETWEEN = os.path.join("torch", "autograd", "function.py")
GRAPH = os.path.join("torch", "autograd", "graph.py")
MOST_FRAMES, MOST_CHAINED, MOST_NAMES = 1000, 20, 100
MOST_TEXT, MOST_NAME, MOST_SOURCE = 20_000, 300, 500_000  # characters
MOST_LINE = 1_000_000
ERRORS = {
    name: found
    for source in (builtins, lab_errors)
    for name, found in vars(source).items()
    if isinstance(found, type)
    and issubclass(found, Exception | KeyboardInterrupt | SystemExit)
    and not issubclass(found, StopIteration | StopAsyncIteration | BaseExceptionGroup)
}


class _StopError(Exception):
    """Ends a made frame."""


# ---- in the answer's process


def told(error: BaseException, cells: dict[str, int], depth: int = MOST_CHAINED) -> dict[str, Any]:
    """Say what was raised, and where in the student's code; `cells` are the numbers of files."""
    entries, codes, sources = [], {}, {}
    for trace in _outside(error.__traceback__):
        code = trace.tb_frame.f_code
        number = codes.setdefault(code, len(codes))
        entries.append([number, trace.tb_lineno or 1, trace.tb_frame.f_lineno or 1])
        if code.co_filename not in sources:
            text = "".join(linecache.getlines(code.co_filename))[:MOST_SOURCE]
            own = code.co_filename in cells or code.co_filename.startswith(os.getcwd())
            sources[code.co_filename] = [cells.get(code.co_filename), text if own else ""]
    said = {
        "kinds": [str(kind.__name__) for kind in type(error).__mro__],
        "text": _string(error),
        "args": _plain(error.args),
        "notes": [str(note)[:MOST_TEXT] for note in getattr(error, "__notes__", [])][:MOST_NAMES],
        "frames": entries,
        "codes": [_described(code, error.__traceback__) for code in codes],
        "sources": sources,
        "quiet": error.__suppress_context__,
    }
    name = "cause" if error.__suppress_context__ else "context"
    other = getattr(error, f"__{name}__")
    if other is not None and depth:
        said[name] = told(other, cells, depth - 1)
    return said


def begin_behind_torch(said: dict[str, Any]) -> None:
    """Leave out the frames of a backward that the judge's own torch has too."""
    files = [said["codes"][number][0] for number, *_ in said["frames"]]
    last = max((n for n, file in enumerate(files) if file.endswith(GRAPH)), default=-1)
    del said["frames"][: last + 1]


def _outside(trace: TracebackType | None) -> list[TracebackType]:
    """List the frames behind those of this package, the first and the last where there are many."""
    found = list(_entries(trace))
    while found and _is_own(found[0].tb_frame):
        del found[0]
    while found and found[0].tb_frame.f_code.co_name.endswith("_call_impl"):
        del found[0]  # those of a module, which the judge's proxy has too
    if len(found) > MOST_FRAMES:
        half = MOST_FRAMES // 2
        found = [*found[:half], *found[-half:]]
    return found


def _described(code: CodeType, trace: TracebackType | None) -> list:
    """Tell of a code what a line of a traceback shows of it."""
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    rest = iter(code.co_varnames[len(names) :])
    stars = [next(rest) if code.co_flags & flag else None for flag in (CO_VARARGS, CO_VARKEYWORDS)]
    hidden = "__tracebackhide__" in code.co_varnames and any(
        entry.tb_frame.f_code is code and bool(entry.tb_frame.f_locals.get("__tracebackhide__"))
        for entry in _entries(trace)
    )
    place = [code.co_filename, code.co_name, code.co_qualname, code.co_firstlineno]
    return [*place, list(names), *stars, hidden]


def _string(error: BaseException) -> str:
    try:
        return str.__getitem__(str(error), slice(MOST_TEXT))
    except Exception:
        return "<exception str() failed>"


def _plain(args: tuple) -> list | None:
    """Give what an exception was made with, where that is plain and short."""
    try:
        written = Writer().pack(list(args))
    except (PlainDataError, ProtocolError):
        return None
    return list(args) if sum(map(len, written)) < MOST_TEXT else None


# ---- in the judge's process


def rebuilt(said: Any, depth: int = MOST_CHAINED) -> BaseException:
    """Make the exception that was told, as one of a known kind, with its traceback.

    Raises: ProtocolError where it is none.
    """
    try:
        error = _exception(said)
        for note in said["notes"][:MOST_NAMES]:
            error.add_note(_text(note, MOST_TEXT))
        error.__traceback__ = _traceback(said)
        for name in ("cause", "context"):
            if said.get(name) is not None and depth:
                setattr(error, f"__{name}__", rebuilt(said[name], depth - 1))
        error.__suppress_context__ = said["quiet"] is True
    except ProtocolError:
        raise
    except Exception as fault:  # whatever a forged one makes it trip over
        raise ProtocolError(f"expected an error and its frames: {fault!r}") from None
    return error


def trim(error: BaseException | None) -> None:
    """Take the frames of this package from an exception and from those behind it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        kept: TracebackType | None = None
        entries = list(_entries(error.__traceback__))
        own = [_is_own(entry.tb_frame) for entry in entries]
        for place in reversed(range(len(entries))):
            entry = entries[place]
            beside = any(own[max(0, place - 1) : place + 2])
            if own[place] or (
                beside and entry.tb_frame.f_code.co_filename.endswith(BETWEEN)
                and not isinstance(entry.tb_frame.f_globals.get("made"), _StopError)
            ):  # fmt: skip
                continue
            kept = TracebackType(kept, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
        error.__traceback__ = kept
        error = error.__cause__ or error.__context__


def _exception(said: dict) -> BaseException:
    kinds = [kind for kind in said["kinds"] if type(kind) is str]
    base = next((ERRORS[kind] for kind in kinds if kind in ERRORS), Exception)
    name = kinds[0] if kinds and kinds[0].isidentifier() else "Exception"
    text, args = _text(said.get("text"), MOST_TEXT), said.get("args")
    if type(args) is not list:
        args = [text]
    try:
        error = base(*args)
        same = str(error) == text
    except Exception:  # UnicodeDecodeError, for one, wants five arguments
        error, same = None, False
    if not same or name != base.__name__:
        own = {} if same else {"__str__": lambda self: text}
        kind = type(name[:MOST_NAME], (base,), {"__module__": "__main__", **own})
        try:
            error = kind(*args)
        except Exception:
            error = kind.__new__(kind)
    return error


def _traceback(said: dict) -> TracebackType | None:
    files = _files(said["sources"])
    codes = [_code(files, *described) for described in said["codes"][:MOST_FRAMES]]
    compiled: dict[tuple, CodeType] = {}
    made: TracebackType | None = None
    for number, shown, last in reversed(said["frames"][:MOST_FRAMES]):
        shown, last = _line(shown), _line(last)
        if (number, last) not in compiled:
            compiled[number, last] = _compiled(last, *codes[number])
        frame = _frame(compiled[number, last])  # one each: IPython tells entries apart by it
        made = TracebackType(made, frame, frame.f_lasti, shown)
    return made


def _files(sources: Any) -> dict[str, str]:
    """Register the sources that were told; give the names by which the judge knows the files.

    Of its own files it shows no more than the library's, which both sides have.
    """
    library = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    files = {}
    for number, (name, (cell, text)) in enumerate(sources.items()):
        name, text = _text(name, MOST_NAME), _text(text, MOST_SOURCE)
        known = name
        if name not in library and not name.startswith("<"):
            if type(cell) is int:
                known = os.path.join(tempfile.gettempdir(), "ipykernel_answer", f"{number}.py")
                _cell_numbers()[known] = cell
            elif os.path.exists(name) or name in linecache.cache:
                known = f"<{os.path.basename(name)}>"
            linecache.cache[known] = (len(text), None, text.splitlines(keepends=True), known)
            modulesbyfile[known] = "__main__"  # or inspect would search every module for it
        files[name] = known
    return files


def _cell_numbers() -> dict[str, int]:
    from IPython import get_ipython

    shell = get_ipython()
    return shell.compile._filename_map if shell else {}


def _code(
    files: dict[str, str],
    file: Any,
    name: Any,
    whole: Any,
    first: Any,
    names: Any,
    star: Any,
    stars: Any,
    hidden: Any,
) -> tuple:
    names = [_text(name, MOST_NAME) for name in names[:MOST_NAMES]]
    star, stars = (None if s is None else _text(s, MOST_NAME) for s in (star, stars))
    called = _text(name, MOST_NAME), _text(whole, MOST_NAME)
    return files[file], *called, _line(first), names, star, stars, hidden is True


def _compiled(
    line: int,
    file: str,
    name: str,
    whole: str,
    first: int,
    names: list[str],
    star: str | None,
    stars: str | None,
    hidden: bool,
) -> CodeType:
    """Make a function with these arguments that stops at a line."""
    places = [f"a{number}" for number in range(len(names))]
    rest = [place for place, found in (("*s", star), ("**k", stars)) if found is not None]
    body = "__tracebackhide__ = True; raise made" if hidden else "raise made"
    tree = ast.parse(f"def f({', '.join([*places, *rest])}): {body}")
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt | ast.expr):
            node.lineno = node.end_lineno = line
    tree.body[0].lineno = first
    code = next(c for c in compile(tree, file, "exec").co_consts if isinstance(c, CodeType))
    varnames = [*names, *(found for found in (star, stars) if found is not None)]
    varnames += code.co_varnames[len(varnames) :]
    return code.replace(co_name=name, co_qualname=whole, co_varnames=tuple(varnames))


def _frame(code: CodeType) -> FrameType:
    """Give the frame of a made function."""
    stop = _StopError()
    try:
        FunctionType(code, {"made": stop})(*[None] * code.co_argcount)
    except _StopError:
        return stop.__traceback__.tb_next.tb_frame
    raise TypeError("a made function did not stop")


def _entries(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _is_own(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(OWN)


def _text(value: Any, most: int) -> str:
    if type(value) is not str:
        raise ProtocolError(f"expected text, got {type(value).__name__}")
    return value[:most]


def _line(value: Any) -> int:
    if type(value) is not int:
        raise ProtocolError(f"expected the number of a line, got {type(value).__name__}")
    return min(max(value, 1), MOST_LINE)
