"""A bar on a terminal that says how far a tool is with a tape.

It is there where standard error is a terminal and the work takes longer than a moment, and gone when the work ends.
It never prints on standard output, and loads what draws it only when it draws.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

SHOWN_AFTER_S = 0.5
DRAWN_EVERY_S = 0.1


class ProgressBar:
    """How many bytes of a tape are done. Call it with that and the size of the tape, as often as you like."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._due_s = time.monotonic() + SHOWN_AFTER_S if sys.stderr.isatty() else float("inf")
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __call__(self, done_bytes: int, all_bytes: int) -> None:
        """Draw it anew if that is due."""
        now_s = time.monotonic()
        if now_s < self._due_s:
            return
        self._due_s = now_s + DRAWN_EVERY_S
        if self._progress is None:
            self._begin()
        assert self._progress is not None and self._task is not None
        self._progress.update(self._task, completed=done_bytes, total=all_bytes, refresh=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def _begin(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        # Drawn by the calls alone: no thread of its own, and nothing is done to what else is printed.
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._progress.add_task(self._what, total=None)
        self._progress.start()
