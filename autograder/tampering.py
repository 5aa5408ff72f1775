"""Tampering: what a submission does to the machinery around it, named in the instructor's report.

It decides about no point: checks run where no student's code does. Two kinds of evidence are kept
apart only by where they come from. What the grader or the judge saw is sound: messages that are
none, ends that were forged, a process that ended itself, files that would take a library's place.
What `witness` saw stands in the answer's own process, under the student's hand: it can be kept from
speaking, so that nothing named proves nothing, and all that it sends is one of the codes below.
"""

import os
import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autograder.process import Ending

KIND = "tampering"
SAYINGS = {
    "replaced": "replaced {}",
    "code": "changed what is inside {}",
    "used": "used {}, which no answer needs",
    "left": "left something of its own in {}",
    "opened": "opened {}",
    "gave": "gave a check a {}, which decides itself how it compares",
    "sent": "sent {} while a check ran",
    "ended": "ended its own process",
    "twice": "said that a cell had ended which had not",
    "protocol": "sent its grader what is no output",
    "forged": "sent the judge what is no answer",
    "files": "came with {}, which Python would load in the place of a library",
}
MOST = 20  # notes of one process
STRANGE = re.compile(r"[^\w .,:/()\[\]<>*-]")
FAILED = 70  # what a process that fails by itself ends with
# Whose names a file that is handed in must not have.
LIBRARIES = {"autograder", "torch", "numpy", "IPython", "ipykernel", "nbgrader"}
LIBRARIES |= {"sitecustomize", "usercustomize"}


def text(code: object, subject: object = "") -> str:
    """Put a note into words; it may come from the student's own process."""
    saying = SAYINGS.get(code) if isinstance(code, str) else None
    if saying is None:
        return f"{KIND}: {SAYINGS['protocol']}"
    return f"{KIND}: " + saying.format(STRANGE.sub("?", str(subject))[:120])


def of_record(record: dict[str, Any]) -> list[tuple[str, str]]:
    """Read from what is kept with a grade: the cells, and what was seen in each."""
    signs = [event for event in record.get("events", []) if event["kind"] == KIND]
    return [(event["cell"], event["message"].removeprefix(f"{KIND}: ")) for event in signs]


def of_ending(ending: "Ending") -> list[str]:
    """Name what the end of a cell shows, where it ran in one of two processes."""
    found = []
    if ending.stopped == "protocol":
        found.append(text("protocol"))
    lost = ending.reply is None and not ending.stopped and ending.status is not None
    # Behind a signal there may be somebody else.
    if lost and os.WIFEXITED(ending.status) and os.WEXITSTATUS(ending.status) != FAILED:
        found.append(text("ended"))
    reply = ending.reply or {}
    if reply.get("ename") == "ProtocolError" and "no answer" in str(reply.get("evalue")):
        found.append(text("forged"))
    return found


def of_files(names: Iterable[str], own: Iterable[str]) -> list[str]:
    """Name the files that would be imported in the place of a library; the course's `own` may."""
    theirs = set(names) - set(own)
    tops = {name: PurePosixPath(name).parts[0].partition(".")[0] for name in sorted(theirs)}
    return [text("files", name) for name, top in tops.items() if top in LIBRARIES]
