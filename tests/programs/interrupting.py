"""The command line, interrupted by SIGINT as soon as all its workers have told what they have measured so far.

Run as a script, with how many workers that are and then the command's words.
"""

from __future__ import annotations

import contextlib
import glob
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ringtape import console, trace_replaying
from ringtape.__main__ import main
from ringtape.jobs import side


@contextlib.contextmanager
def known_folder() -> Iterator[str]:
    with side.side_folder() as folder:
        folders.append(folder)
        yield folder
    assert not os.path.exists(folder)


@contextlib.contextmanager
def interrupting_run(**options: Any) -> Iterator[Any]:
    def tick() -> None:
        if len(glob.glob(f"{folders[0]}/*.so-far")) >= workers:
            signal.raise_signal(signal.SIGINT)

    with shown_run(**options) as shown:
        yield replace(shown, on_tick=tick)


if __name__ == "__main__":
    from ringtape import cli_bench_run

    folders: list[str] = []
    workers = int(sys.argv.pop(1))
    shown_run = console.shown_run
    console.shown_run = interrupting_run
    cli_bench_run.side_folder = trace_replaying.side_folder = known_folder
    sys.exit(main())
