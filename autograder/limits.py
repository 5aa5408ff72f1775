"""What a submission may use, and what is recorded when it uses more."""

import re
from dataclasses import dataclass

MB = 1 << 20
GB = 1 << 30

# What a library says when the kernel refuses: an error's name and text, and the kind of limit.
REFUSALS = [
    (re.compile(r"MemoryError|Cannot allocate memory|can't allocate memory"), "memory"),
    (re.compile(r"No space left on device|\[Errno 28\]"), "disk"),
    # torch.save names neither the limit nor the error.
    (re.compile(r"File too large|\[Errno 27\]|inline_container"), "file"),
    (re.compile(r"can't start new thread|Resource temporarily unavailable"), "processes"),
    (re.compile(r"Too many open files|\[Errno 24\]"), "open files"),
]


@dataclass(frozen=True)
class Limits:
    """What one submission may use.

    Units: `_seconds` are seconds of wall time unless said otherwise, `_bytes` are bytes.
    """

    cell_seconds: float = 120.0
    """A cell's time; then it is interrupted."""
    grace_seconds: float = 2.0
    """What an interrupted cell gets to stop; then its process is killed."""
    notebook_seconds: float = 600.0
    """The time of all cells, replays included; what is left is not run."""
    cpu_seconds: int = 1200
    """Processor time of one process, summed over its threads."""
    memory_bytes: int = 2 * GB
    """Memory of all processes beyond the template's, and the address space of each beyond it."""
    processes: int = 64
    """Processes and threads together."""
    disk_bytes: int = 256 * MB
    """Everything in the work folder, /tmp and /dev/shm; it lies in memory."""
    file_bytes: int = 64 * MB
    """The largest file."""
    open_files: int = 256
    """File descriptors of one process."""
    output_bytes: int = 4 * MB
    """What is kept of one cell's standard output, of its standard error, and of its displays."""
    flood_bytes: int = 64 * MB
    """What one cell may write at all; then it is interrupted."""
    restarts: int = 3
    """How often a submission that lost its process gets a new one."""

    def text(self, kind: str) -> str:
        """Say in words what a limit is, with its unit and its name."""
        return {
            "timeout": f"a cell may run for {self.cell_seconds:g} s (cell_seconds)",
            "notebook": f"a notebook may run for {self.notebook_seconds:g} s (notebook_seconds)",
            "cpu": f"a process may compute for {self.cpu_seconds} s (cpu_seconds)",
            "memory": f"a submission may use {size(self.memory_bytes)} (memory_bytes)",
            "processes": f"{self.processes} processes and threads are allowed (processes)",
            "disk": f"all files together may take {size(self.disk_bytes)} (disk_bytes)",
            "file": f"a file may take {size(self.file_bytes)} (file_bytes)",
            "open files": f"{self.open_files} files may be open (open_files)",
            "output": f"{size(self.output_bytes)} of an output are kept (output_bytes)",
            "flood": f"a cell may write {size(self.flood_bytes)} (flood_bytes)",
            "restarts": f"a submission gets {self.restarts} new processes (restarts)",
            "protocol": "a process may send its grader nothing but outputs",
        }[kind]


@dataclass(frozen=True)
class Event:
    """Something that happened to a submission beside its own errors."""

    cell: str
    """The grade_id of the cell, or its id; empty where no cell is concerned."""
    kind: str
    """One that Limits.text knows, crash, or tampering."""
    message: str

    def __str__(self) -> str:
        return f"{self.cell}: {self.message}" if self.cell else self.message


def refusal(ename: str, evalue: str) -> str | None:
    """Recognise the limit behind an error that a cell raised; None where there is none."""
    text = f"{ename}: {evalue}"
    return next((kind for pattern, kind in REFUSALS if pattern.search(text)), None)


def size(number: int) -> str:
    """Write a number of bytes in a unit that a person reads."""
    for unit, worth in (("GB", GB), ("MB", MB), ("kB", 1024)):
        if number >= worth:
            return f"{number / worth:.3g} {unit}"
    return f"{number} bytes"
