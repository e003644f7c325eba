"""What the commands share: carrying out a run, or a look into a tape, to its exit code.

Errors of ringtape's own end here, as a line and a code.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from ringtape import console
from ringtape.console import Exit
from ringtape.proto.errors import RingtapeError

if TYPE_CHECKING:
    from ringtape.conducting import Console
    from ringtape.coordinator.watch import WatchedRequest
    from ringtape.disks import Disk
    from ringtape.results import Result


class _OutputFailed(Exception):
    """Standard output takes no more lines while a run is under way; the cause is the OSError."""


def disks_of(texts: list[str] | None) -> list[Disk]:
    """What `--disk` named, in that order."""
    from ringtape.disks import Disk

    return [Disk.parse(text) for text in texts or []]


def conduct(
    act: Callable[[Console], Result],
    *,
    json: bool,
    tape: str | None,
    show: Callable[[Result], None],
    progress: bool = True,
) -> int:
    """Carry out a run and show what came of it; returns the exit code. `tape` is what it writes, if anything."""
    try:
        with console.shown_run(as_json=json, progress=progress) as shown:
            console.find_modules_here()
            result = act(shown)
    except KeyboardInterrupt as interrupt:
        # It says what interrupted the run if it has sealed the tape.
        return console.interrupted(tape if interrupt.args else None)
    except _OutputFailed as failure:
        assert isinstance(failure.__cause__, OSError)
        return console.output_failed(failure.__cause__)
    except RingtapeError as error:
        return console.fail(error)
    try:
        print(console.as_json(result)) if json else show(result)
        sys.stdout.flush()
    except OSError as error:
        return console.output_failed(error) or console.say_failures(result.failures)
    return console.say_failures(result.failures)


def look(act: Callable[[], int | None]) -> int:
    """Carry out what shows its results itself; returns the exit code, 0 if `act` gives none."""
    try:
        return act() or Exit.DONE
    except OSError as error:  # a tape's are TapeErrors: this is standard output's
        return console.output_failed(error)
    except KeyboardInterrupt:
        return console.interrupted(None)
    except RingtapeError as error:
        console.flushed(Exit.DONE)  # what is whole comes first
        return console.fail(error)


def show_plain(result: Result) -> None:
    """The result of a plain run."""
    console.print_facts("ran", facts_of(result))


def show_recording(result: Result, tape: str) -> None:
    """The result of a recording."""
    console.print_facts("recorded", facts_of(result))
    print(next_step(tape))


def next_step(tape: str) -> str:
    """The line that says how a recording is replayed."""
    from ringtape.coordinator.tape import TapeReader

    with TapeReader.open(tape) as reader:
        disks = reader.header.disks
    # Begun from what they held and perhaps written: a replay would be refused.
    changed = [disk for disk in disks if not (disk.fresh or disk.made or disk.snapshot)]
    kept = [disk.name for disk in changed if not disk.undo]
    first = f"put back what was on {', '.join(kept)}, then " if kept else ""
    if len(kept) < len(changed):
        first += f"ringtape rewind {tape}, then "
    return f"next: {first}ringtape replay {tape}"


def show_replay(result: Result) -> None:
    """The result of a replay."""
    finished, _, rest = result.ended.partition("finished")
    if not finished:
        headline = f"exact: same digest as the recording{rest}"
    elif result.ended.startswith("stopped"):
        headline = f"exact so far: {result.ended}"
    else:
        headline = f"exact as far as the tape goes: {result.ended}"
    console.print_facts(headline, facts_of(result))


def watched_lines(*, json: bool) -> Callable[[WatchedRequest], None]:
    """What prints a line for each request that touches a watched range."""
    out = sys.stderr if json else sys.stdout

    def digest(value: int | None) -> str:
        return "unknown" if value is None else f"{value:016x}"

    def show(one: WatchedRequest) -> None:
        request = one.request
        what = f"{request.kind} {request.disk} offset {request.offset} length {request.length}"
        result = ""
        if one.result is None:
            result = ", not completed"
        elif one.result < 0 or (request.kind in ("read", "write") and one.result != request.length):
            result = f", result {one.result}"
        line = (
            f"w{request.worker:<3} c{request.checkpoint:<6} request {request.id}: {what}{result}; "
            f"{one.range} {digest(one.before)} -> {digest(one.after)}"
        )
        try:
            print(line, file=out)
        except OSError as error:
            raise _OutputFailed from error

    return show


def facts_of(result: Result) -> dict[str, str]:
    """What there is to say of every run."""
    rate = result.requests / result.elapsed_s if result.elapsed_s else 0
    facts = {} if result.digest is None else {"digest": result.digest}
    facts |= {
        "requests": f"{result.requests:,} ({rate:,.0f}/s)",
        "checkpoints": f"{result.checkpoints:,}",
        "elapsed": f"{result.elapsed_s:.3f} s",
        "seed": str(result.seed),
    }
    if result.tape is not None:
        facts["tape"] = f"{result.tape} ({os.path.getsize(result.tape):,} bytes)"
    indent = 2 + len("checkpoints") + 2
    returned = console.returned_lines(result.returns, shutil.get_terminal_size().columns - indent)
    if returned:
        facts["returned"] = "\n".join(returned)
    return facts
