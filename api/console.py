"""What the command line shows: results on standard output, everything else on standard error.

Every error becomes one line and an exit code here and nowhere else. What is only there for a terminal (rich) is loaded
where there is one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import errno
import json
import logging
import os
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ringtape.proto.errors import (
    DiskError,
    ProgramError,
    RingtapeError,
    RingUnavailable,
    Stalled,
    TapeDamaged,
    TapeError,
    TraceError,
)

if TYPE_CHECKING:
    from ringtape.conducting import Console, Progress
    from ringtape.coordinator.errors import Divergence
    from ringtape.results import Failure, Result

# The rate that the progress line shows is that of the last so many calls, which is about a second.
_RATE_SAMPLES = 10
_DRAW_EVERY_S = 0.1
# Lines for what programs returned.
RETURNS_SHOWN_MAX = 16


class Exit(enum.IntEnum):
    """The exit codes; the help of the commands lists the same."""

    DONE = 0
    PROGRAM_RAISED = 1
    UNUSABLE = 2
    NOT_EXACT = 3
    TAPE_DAMAGED = 4
    NO_RING = 5
    INTERRUPTED = 130


def exit_code(error: RingtapeError) -> Exit:
    """The code that an error of a run ends the command with."""
    from ringtape.coordinator.errors import Divergence
    from ringtape.jobs.errors import JobError
    from ringtape.settings import UsageError
    from ringtape.tape.writing import OutputError

    # In this order: a damaged tape is a TapeError as well.
    codes: tuple[tuple[type[RingtapeError], Exit], ...] = (
        (TapeDamaged, Exit.TAPE_DAMAGED),
        (Divergence, Exit.NOT_EXACT),
        (Stalled, Exit.NOT_EXACT),
        (RingUnavailable, Exit.NO_RING),
        (DiskError, Exit.UNUSABLE),
        (ProgramError, Exit.UNUSABLE),
        (TapeError, Exit.UNUSABLE),
        (TraceError, Exit.UNUSABLE),
        (JobError, Exit.UNUSABLE),
        (UsageError, Exit.UNUSABLE),
        (OutputError, Exit.UNUSABLE),
    )
    return next((code for kind, code in codes if isinstance(error, kind)), Exit.PROGRAM_RAISED)


def find_modules_here() -> None:
    """Let programs be found in the current folder; a console script has its own folder on the path instead."""
    # What is loaded late would be a file of that name in the folder: what newer Pythons need for a seed that is text,
    # and what runs need of rings. An offline replay does without that.
    import random

    random.Random("")
    with contextlib.suppress(ImportError):
        import liburing  # noqa: F401
    with contextlib.suppress(FileNotFoundError):
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())


def one_line(text: str) -> str:
    """The text without line breaks, which a path or a program's message may bring."""
    return " ".join(line.strip() for line in text.splitlines())


def say(line: str) -> None:
    """A line for people, on standard error; nobody may be there to read it."""
    with contextlib.suppress(BrokenPipeError):
        print(line, file=sys.stderr, flush=True)


def say_error(text: str) -> None:
    """The one line of an error."""
    say(f"ringtape: error: {one_line(text)}")


def fail(error: RingtapeError) -> Exit:
    """Show what ended a run, and where its program was if that is known."""
    from ringtape.coordinator.errors import Divergence

    say_error(str(error))
    if isinstance(error, Divergence):
        _say_difference(error)
    stack = getattr(error, "stack", "")
    if stack:
        say("the program was here:")
        say(stack.rstrip("\n"))
    return exit_code(error)


def _say_difference(error: Divergence) -> None:
    """What the tape has and what the program did, with a mark where they part."""
    labels = ("the tape has      ", "the program made  ")
    pairs = enumerate(zip(error.recorded, error.actual, strict=False))
    shorter, longest = sorted((len(error.recorded), len(error.actual)))
    same = next((at for at, (one, other) in pairs if one != other), shorter)
    say(f"  {labels[0]}{error.recorded}")
    say(f"  {labels[1]}{error.actual}")
    indent = 2 + len(labels[0])
    if same and indent + longest < shutil.get_terminal_size().columns:
        say(" " * (indent + same) + "^")
    if error.last_writer is not None:
        say(f"  last writer       {error.last_writer}")
    for line in error.difference.splitlines():
        say(f"  {line}")


def interrupted(tape: str | None) -> Exit:
    """Show that the run was interrupted; `tape` is what was sealed, if anything."""
    say("ringtape: interrupted" + (f"; the tape is sealed: {tape}" if tape else ""))
    return Exit.INTERRUPTED


def say_failures(failures: Sequence[Failure]) -> Exit:
    """Show what the programs raised, once where several raised the same; `DONE` if none did."""
    alike: dict[tuple[str, str, str], list[Failure]] = {}
    for failure in failures:
        alike.setdefault((failure.exception, failure.message, failure.where), []).append(failure)
    for same in alike.values():
        one = same[0]
        others = ", ".join(str(failure.worker) for failure in same[1:])
        say_error(str(one) + (f" (as did worker{'s' * (len(same) > 2)} {others})" if others else ""))
        if not one.refused:
            say(one.traceback.rstrip("\n"))
    if any(failure.stalled for failure in failures):
        return Exit.NOT_EXACT
    return Exit.PROGRAM_RAISED if failures else Exit.DONE


def as_json(result: Result) -> str:
    """The result as one JSON object on one line."""
    fields = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    fields["returns"] = [_json_value(value) for value in result.returns]
    fields["failures"] = [dataclasses.asdict(failure) for failure in result.failures]
    return json.dumps(fields)


def _json_value(value: Any) -> Any:
    """The value as JSON has it, or its `repr` if JSON does not."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return repr(value)
    return value


def print_facts(headline: str, facts: Mapping[str, str]) -> None:
    """A headline and what there is to say under it, one fact a line, or as many lines as it has."""
    print(headline)
    width = max(map(len, facts), default=0)
    for name, fact in facts.items():
        for number, line in enumerate(fact.split("\n")):
            print(f"  {'' if number else name:<{width}}  {line}")


def returned_lines(returns: Sequence[Any], columns: int) -> list[str]:
    """What the programs returned, a line for each that returned something, each cut to so many columns."""
    named = len(returns) > 1
    said = [(worker, value) for worker, value in enumerate(returns) if value is not None]
    lines = [
        (f"worker {worker}: " if named else "") + _repr(value) for worker, value in said[:RETURNS_SHOWN_MAX]
    ]
    lines = [line if len(line) <= columns else line[: columns - 1] + "…" for line in lines]
    left = len(said) - len(lines)
    return [*lines, f"… and {left} more; --json has them all"] if left else lines


def _repr(value: Any) -> str:
    try:
        return one_line(repr(value))
    except Exception:  # a class of the program's own
        return f"<{type(value).__name__}>"


def flushed(code: int) -> int:
    """The exit code, once what was printed has left."""
    try:
        sys.stdout.flush()
    except OSError as error:
        return code or output_failed(error)
    return code


def output_failed(error: OSError) -> Exit:
    """Standard output takes no more. A reader that has seen enough (`| head`) is no error."""
    # What is left in the buffer would be tried again, and complained about, at the very end.
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)
    if error.errno == errno.EPIPE:
        return Exit.DONE
    say_error(f"cannot write to standard output: {error.strerror}")
    return Exit.UNUSABLE


@contextlib.contextmanager
def shown_run(*, as_json: bool, progress: bool = True) -> Iterator[Console]:
    """Where a run shows itself while the context lasts: its logs and warnings, and a progress line on a terminal.

    With `as_json` nothing that runs in the context can print on standard output.
    """
    from ringtape.conducting import Console

    with contextlib.ExitStack() as stack:
        if as_json:
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        show: Callable[[str], None] = say
        on_progress = on_copy = None
        if progress and sys.stderr.isatty():
            on_progress = stack.enter_context(ProgressLine())
            show = on_progress.say
            on_copy = on_progress.copying
        handler = _Lines(show)
        logger = logging.getLogger("ringtape")
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        stack.callback(logger.removeHandler, handler)
        yield Console(stdout=sys.stderr if as_json else None, on_progress=on_progress, on_copy=on_copy)


@contextlib.contextmanager
def shown_bytes(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """Something to call with how many bytes are done and how many there are; None where there is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    with ProgressLine() as line:
        yield lambda done, size: line.bytes(what, done, size)


class _Lines(logging.Handler):
    """Shows what is logged: the programs' own lines as they are, the rest as ringtape's."""

    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__()
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.name != "ringtape.worker":
            message = f"ringtape: {record.levelname.lower()}: {one_line(message)}"
        self._show(message)


class ProgressLine:
    """One line on a terminal that says how far a run is, and goes when the run ends."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        # It is drawn by the calls alone: no thread beside the coordinator's loop.
        self._live = Live(
            console=Console(stderr=True),
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._drawn_s = 0.0
        self.begin("")

    def begin(self, prefix: str) -> None:
        """A run begins, of which the line says this before all else."""
        self._prefix = prefix
        self._samples: deque[tuple[float, int]] = deque([(0.0, 0)], maxlen=_RATE_SAMPLES)

    def __enter__(self) -> ProgressLine:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def __call__(self, progress: Progress) -> None:
        """Draw the line anew."""
        from rich.text import Text

        then_s, before = self._samples[0]
        self._samples.append((progress.elapsed_s, progress.requests))
        rate = (progress.requests - before) / max(progress.elapsed_s - then_s, 1e-9)
        workers = "1 worker" if progress.workers == 1 else f"{progress.workers} workers"
        line = (
            f"{self._prefix}{progress.requests:,} requests, {rate:,.0f}/s, {workers} running, "
            f"checkpoint {progress.checkpoints:,}, {progress.elapsed_s:.0f} s"
        )
        self._live.update(Text(line, no_wrap=True, overflow="ellipsis"), refresh=True)

    def copying(self, disk: str, done: int, size: int) -> None:
        """Say how far a copy of a disk is."""
        self.bytes(f"copying disk {disk}", done, size)

    def bytes(self, what: str, done: int, size: int) -> None:
        """Say how far it is with something that goes through so many bytes; drawn some ten times a second."""
        from rich.text import Text

        now_s = time.monotonic()
        if now_s - self._drawn_s >= _DRAW_EVERY_S:
            self._drawn_s = now_s
            line = f"{what}: {done / (1 << 20):,.0f} of {size / (1 << 20):,.0f} MiB, {100 * done // max(size, 1)} %"
            self._live.update(Text(line, no_wrap=True, overflow="ellipsis"), refresh=True)

    def say(self, line: str) -> None:
        """A line above it."""
        from rich.text import Text

        self._live.console.print(Text(line), soft_wrap=True)
