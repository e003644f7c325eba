"""The command line, sent a signal as soon as all its workers have told what they have measured so far.

Run as a script, with the signal's name, how many workers that are, and then the command's words. Before it is killed it
prints the workers' pids.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ringtape import console, trace_replaying
from ringtape.__main__ import main
from ringtape.jobs import side


@contextlib.contextmanager
def known_file() -> Iterator[str]:
    with side.side_file() as file:
        files.append(file)
        yield file


@contextlib.contextmanager
def interrupting_run(**options: Any) -> Iterator[Any]:
    def tick() -> None:
        places = [side.place_of(files[0], 0, worker) for worker in range(workers)]
        if None not in map(side.read_so_far, places):
            if number == signal.SIGKILL:
                print(Path(f"/proc/self/task/{os.getpid()}/children").read_text(), flush=True)
            signal.raise_signal(number)

    with shown_run(**options) as shown:
        yield replace(shown, on_tick=tick)


if __name__ == "__main__":
    from ringtape import cli_bench_run

    files: list[str] = []
    number = signal.Signals[sys.argv.pop(1)]
    workers = int(sys.argv.pop(1))
    shown_run = console.shown_run
    console.shown_run = interrupting_run
    cli_bench_run.side_file = trace_replaying.side_file = known_file
    sys.exit(main())
