"""A progress bar for notebooks whose last state is always the same plain text.

A bar of tqdm writes to stderr or leaves a widget, with times in it, so a stored notebook would
change with each run. This one is a display that is replaced in place and ends as it began: a live
front end shows it moving, and a stored notebook holds one line.
"""

import sys
from collections.abc import Iterator
from typing import Any

WIDTH = 24
UPDATES = 50


class Progress:
    """Counts steps from 1 and shows how far they are: `for step in Progress(300): ...`.

    `note` stands beside the bar while it moves. In a terminal the bar goes to stderr; where nobody
    is looking, nowhere.
    """

    def __init__(self, steps: int, title: str = "training"):
        if steps < 1:
            raise ValueError(f"expected at least 1 step, got {steps}")
        self.steps, self.title, self.note = steps, title, ""
        self._handle: Any = None

    def __iter__(self) -> Iterator[int]:
        self._open()
        for step in range(1, self.steps + 1):
            yield step
            if step * UPDATES // self.steps > (step - 1) * UPDATES // self.steps:
                self._show(self._bar(step))
        self.close()

    def close(self) -> None:
        """Show the last state; needed only after a `break`."""
        self._show(self._summary())
        if self._handle is None and sys.stderr.isatty():
            print(file=sys.stderr)

    def _summary(self) -> str:
        return f"{self.title}: {self.steps} steps"

    def _bar(self, step: int) -> str:
        full = step * WIDTH // self.steps
        bar = "█" * full + " " * (WIDTH - full)
        return f"{self.title} [{bar}] {step}/{self.steps} {self.note}".rstrip()

    def _open(self) -> None:
        if in_notebook():
            from IPython.display import display

            self._handle = display({"text/plain": self._summary()}, raw=True, display_id=True)

    def _show(self, text: str) -> None:
        if self._handle is not None:
            self._handle.update({"text/plain": text}, raw=True)
        elif sys.stderr.isatty():
            print(f"\r\x1b[2K{text}", end="", file=sys.stderr, flush=True)


def in_notebook() -> bool:
    """Say whether a notebook's kernel runs this code; a terminal's IPython has no kernel."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")
