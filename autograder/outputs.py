"""What a cell's process sends becomes the cell's outputs, checked and bounded."""

import codecs
import logging
from collections.abc import Callable
from typing import Any

from nbclient import NotebookClient
from nbformat import NotebookNode

from autograder.limits import Limits

RED, PLAIN = "\x1b[0;31m", "\x1b[0m"
# The kernel's messages in which text has been written before: it goes first.
IN_ORDER = ("display_data", "execute_result", "error", "clear_output")
# nbgrader takes points for an error and gives those that a result names.
DECISIVE = ("execute_result", "error")
OTHERS = ("update_display_data", "comm_open", "comm_msg", "comm_close")
_quiet = logging.getLogger("autograder.outputs")
_quiet.addHandler(logging.NullHandler())
_quiet.propagate = False


class Collector:
    """Fills the outputs of one notebook. nbclient gives each message its meaning."""

    def __init__(self, notebook: NotebookNode, limits: Limits):
        self.limits = limits
        self.client = NotebookClient(notebook, log=_quiet, record_timing=False)
        self.client.comm_open_handlers = {}  # they would speak to a kernel

    @classmethod
    def nowhere(cls, limits: Limits) -> "Collector":
        """Give one whose outputs nobody keeps."""
        notebook = NotebookNode(cells=[NotebookNode(cell_type="code")])
        collector = cls(notebook, limits)
        collector.begin(notebook.cells[0], 0)
        return collector

    def begin(self, cell: NotebookNode, index: int) -> None:
        """Turn to a cell; it loses its outputs."""
        self.cell, self.index = cell, index
        cell.outputs = []
        self.client.clear_before_next_output = False
        self._written = {"stdout": 0, "stderr": 0, "displays": 0}
        self.cut = False  # something is missing
        self.blind = False  # what is missing decides about points
        self._text: dict[str, list[str]] = {"stdout": [], "stderr": []}
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {name: decoder("replace") for name in self._text}

    @property
    def flooded(self) -> bool:
        return sum(self._written.values()) > self.limits.flood_bytes

    def text(self, name: str, chunk: bytes) -> None:
        """Take what was written to a standard stream."""
        chunk = chunk[: self._room(name, len(chunk))]
        self._text[name].append(self._decoders[name].decode(chunk))

    def message(self, kind: str, content: dict[str, Any], length: int) -> None:
        """Take a message of `length` bytes. One that does not fit, or is no output, is left out."""
        if self._room("displays", length) < length:
            self.blind |= kind in DECISIVE
        elif _is_output(kind, content):
            if kind in IN_ORDER:
                self.flush()
            self._process(kind, content)

    def flush(self) -> None:
        """Put the text so far among the outputs: all of stdout, then all of stderr, as a kernel."""
        for name, parts in self._text.items():
            text = "".join(parts)
            parts.clear()
            outputs = self.cell.outputs
            last = outputs[-1] if outputs and not self.client.clear_before_next_output else {}
            if text and last.get("name") == name:
                last.text += text
            elif text:
                self._process("stream", {"name": name, "text": text})

    def finish(self) -> None:
        """Put what is left of the text among the outputs, and say so where something is missing."""
        if self.cut:
            self._text["stdout"].append(f"\n[cut here: {self.limits.text('output')}]\n")
        self.flush()

    def close(self) -> None:
        """Store the state of widgets in the notebook, as nbclient does."""
        try:
            self.client.set_widgets_metadata()
        except Exception:  # forged states, as in _process
            _quiet.debug("left out the states of widgets", exc_info=True)

    def _room(self, name: str, length: int) -> int:
        """Count what came and say how much of it may stay."""
        left = max(0, self.limits.output_bytes - self._written[name])
        self._written[name] += length
        self.cut |= length > left
        return min(left, length)

    def _process(self, kind: str, content: dict[str, Any]) -> None:
        message = {
            "msg_type": kind,
            "header": {"msg_type": kind},
            "parent_header": {"msg_id": "cell"},
            "content": content,
            "metadata": {},
            "buffers": [],
        }
        try:
            self.client.process_message(message, self.cell, self.index)
        except Exception:  # whatever a forged message makes nbclient trip over
            _quiet.debug("left out a message", exc_info=True)


class Bystander:
    """Takes from a process that answers a check only what decides about no points; notes the rest.

    Text on standard error costs the check its points, as it does where both are one process.
    """

    def __init__(self, sink: Collector, note: Callable[[str, str], None]):
        self.sink, self.note = sink, note

    @property
    def flooded(self) -> bool:
        return self.sink.flooded

    def text(self, name: str, chunk: bytes) -> None:
        self.sink.text(name, chunk)

    def message(self, kind: str, content: dict[str, Any], length: int) -> None:
        if kind in ("display_data", "update_display_data"):
            self.sink.message(kind, content, length)
        elif kind in (*DECISIVE, "clear_output"):
            self.note("sent", kind)
        elif kind in OTHERS and _catches(content):
            self.note("sent", "a widget that catches outputs")


def error(name: str, text: str) -> NotebookNode:
    """Make an error output as a kernel's."""
    traceback = [f"{RED}{name}{PLAIN}: {text}"]
    return NotebookNode(output_type="error", ename=name, evalue=text, traceback=traceback)


def _is_output(kind: str, content: dict[str, Any]) -> bool:
    """Say whether a message is one that a notebook may hold."""
    if kind in ("display_data", "update_display_data", "execute_result"):
        data, metadata = content.get("data"), content.get("metadata")
        counted = kind != "execute_result" or isinstance(content.get("execution_count"), int)
        return (
            counted
            and isinstance(metadata, dict)
            and isinstance(data, dict)
            and all(isinstance(v, str) or mime.endswith("json") for mime, v in data.items())
            and isinstance(content.get("transient") or {}, dict)
            and isinstance((content.get("transient") or {}).get("display_id") or "", str)
        )
    if kind == "error":
        return is_error(content)
    if kind.startswith("comm") and kind in OTHERS:
        return isinstance(content.get("comm_id"), str) and isinstance(content.get("data"), dict)
    return kind == "clear_output"


def _catches(content: dict[str, Any]) -> bool:
    """Say whether a widget's message lets it take the outputs of a cell."""
    data = content.get("data")
    state = data.get("state") if isinstance(data, dict) else None
    return isinstance(state, dict) and bool(state.get("msg_id"))


def is_error(content: dict[str, Any]) -> bool:
    """Say whether something has an error's name, value and traceback."""
    lines = content.get("traceback")
    texts = [content.get("ename"), content.get("evalue")]
    return isinstance(lines, list) and all(isinstance(text, str) for text in [*texts, *lines])
