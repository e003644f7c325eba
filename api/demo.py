"""`ringtape demo`: two recordings of one program that differ, and replays that do not.

It uses no more of the package than its users can. The tapes and the disk images stay, so that the commands that it
ends with work.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ringtape import replaying, runs
from ringtape.console import Exit
from ringtape.coordinator.tape import RequestRow, TapeReader, TokenRow, iter_rows
from ringtape.coordinator.words import kind_name
from ringtape.disks import Disk
from ringtape.examples import pipeline
from ringtape.proto.errors import DiskError, RingtapeError
from ringtape.results import Result
from ringtape.screen import Screen

WORKERS = 2
SEED = 7
DISK_SIZE = "4M"
REPLAYS = 3
# Two recordings hardly ever are the same by chance; if they are, the second is made again.
ATTEMPTS_MAX = 5
COLUMNS_MAX = 80
# How much of the two orders is shown around the first difference.
ROWS_BEFORE = 3
ROWS_AFTER = 4
MARK = ">"


@dataclass(frozen=True)
class Made:
    """A request as its program made it; the id is left out of comparisons, since other workers count in it."""

    id: int = field(compare=False)
    worker: int
    kind: int
    disk: str
    offset: int
    length: int
    flags: int
    digest: int | None  # of what it writes


@dataclass
class Course:
    """What one worker did and saw in a recording."""

    made: list[Made] = field(default_factory=list)
    released: list[int] = field(default_factory=list)  # places in `made`, as their completions were released


def main() -> int:
    """Give the demonstration on standard output; returns the exit code.

    Raises:
        DiskError: there is no temporary folder to be had.
        RingtapeError: what `record` and `replay` raise.
    """
    console = Screen(highlight=False)
    console.width = min(console.width, COLUMNS_MAX)
    with _folder(console) as folder:
        console.print("[bold]One program, recorded twice, and replayed[/]\n")
        _say(
            console,
            f"The program reads items that are on two disks and writes them to logs, by tasks with timeouts and a "
            f"queue between them; {WORKERS} processes run it. It draws no random number, but what it does next "
            "depends on which request completes first.",
        )
        _show_path(console, pipeline.__file__)
        first, second = _recordings(folder)
        _show_recordings(console, first, second)
        exact = _show_replays(console, first, [replaying.replay(_tape(first)) for _ in range(REPLAYS)])
        _show_commands(console, folder)
    return Exit.DONE if exact else Exit.NOT_EXACT


@contextlib.contextmanager
def _folder(console: Console) -> Iterator[str]:
    """A new folder. It stays, also after a run that failed; what nobody was told of does not."""
    try:
        folder = tempfile.mkdtemp(prefix="ringtape-demo-")
    except OSError as error:
        raise DiskError(f"the demo needs a temporary folder: {error.strerror or error}") from None
    told = False
    try:
        yield folder
        told = True
    except RingtapeError:
        if os.listdir(folder):
            _say(console, "\nWhat was written up to here is in this folder:")
            _show_path(console, folder)
            told = True
        raise
    finally:
        if not told:
            shutil.rmtree(folder)


def _recordings(folder: str) -> tuple[Result, Result]:
    """Two recordings, which differ unless each of `ATTEMPTS_MAX` came out the same."""
    # Fresh disks are zeros whenever a run begins, so all runs can have the same ones.
    disks = [Disk(name, f"{folder}/{name}.img", size=DISK_SIZE, fresh=True) for name in ("a", "b")]

    def record(name: str) -> Result:
        tape = f"{folder}/{name}.tape"
        result = runs.record(pipeline.main, disks=disks, workers=WORKERS, seed=SEED, tape=tape)
        result.raise_for_failures()
        return result

    first = record("first")
    for _ in range(ATTEMPTS_MAX):
        second = record("second")
        if parted(courses_of(_tape(first)), courses_of(_tape(second))) is not None:
            break
    return first, second


def courses_of(tape: str) -> list[Course]:
    """What the tape has of each worker."""
    with TapeReader.open(tape) as reader:
        courses = [Course() for _ in range(reader.header.workers)]
        places: dict[int, int] = {}
        for row in iter_rows(reader):
            course = courses[row.worker]
            if isinstance(row, RequestRow):
                places[row.id] = len(course.made)
                course.made.append(
                    Made(
                        row.id, row.worker, row.kind, row.disk, row.offset, row.length, row.flags, row.digest
                    )
                )
            elif isinstance(row, TokenRow):
                course.released += [places.pop(id_) for id_ in row.ids]
    return courses


def parted(one: list[Course], other: list[Course]) -> tuple[int, int] | None:
    """The place of the first request that one of the workers made otherwise, and the worker.

    None if all made the same: that their requests came in turns of their own is no difference.
    """
    places = [first_difference(a.made, b.made) for a, b in zip(one, other, strict=True)]
    return min(((place, worker) for worker, place in enumerate(places) if place is not None), default=None)


def first_difference(one: Sequence[object], other: Sequence[object]) -> int | None:
    """The first place where two sequences differ, or where the shorter one ends; None if they are the same."""
    pairs = enumerate(zip(one, other, strict=False))
    shorter = min(len(one), len(other))
    place = next((place for place, (left, right) in pairs if left != right), shorter)
    return None if place == len(one) == len(other) else place


def _tape(result: Result) -> str:
    assert result.tape is not None, "a recording has a tape"
    return result.tape


# ---- what is shown


def _say(console: Console, text: str) -> None:
    """A paragraph, as it is: what looks like markup may be part of a path."""
    console.print(Text(text))


def _show_path(console: Console, path: str) -> None:
    """A line that stays one line, however long it is, so that it can be copied."""
    console.print(Text(f"  {path}"), soft_wrap=True)


def _show_recordings(console: Console, first: Result, second: Result) -> None:
    console.print("\n[bold]1. Recorded twice[/], with the same seed, on the same empty disks\n")
    console.print(_digests({"first": (first, ""), "second": (second, "")}), "")
    one, other = courses_of(_tape(first)), courses_of(_tape(second))
    difference = parted(one, other)
    if difference is None:
        _say(console, f"{ATTEMPTS_MAX} more recordings came out like the first one, by a rare chance.")
        return
    place, worker = difference
    _say(
        console,
        f"The first {place} requests of worker {worker} are the same in both, and the next is not; {MARK} marks it, "
        "and # stands before the digest of what a write writes:",
    )
    console.print("", _side_by_side(one[worker].made, other[worker].made, place), "")
    released = one[worker].released, other[worker].released
    at = first_difference(*released)
    if at is None or at == min(map(len, released)):
        _say(
            console,
            "The completions of the worker's requests came in the same order, but not at the same time.",
        )
    else:
        _say(
            console,
            "The disks were not done in the same order either. The completion that came to the worker as number "
            f"{at + 1} was that of its request {released[0][at] + 1} in the first recording, and of its request "
            f"{released[1][at] + 1} in the second.",
        )


def _side_by_side(one: list[Made], other: list[Made], place: int) -> Table:
    """Both orders of a worker's requests, with their ids, around the first difference, which is marked."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for name in ("", "no.", "id", "first recording", "id", "second recording"):
        table.add_column(name, justify="right" if name in ("no.", "id") else "left", no_wrap=True)
    for i in range(max(place - ROWS_BEFORE, 0), place + ROWS_AFTER + 1):
        left, right = one[i : i + 1], other[i : i + 1]
        style = "bold red" if i == place else "red" if left != right else ""
        if left or right:
            table.add_row(
                MARK if i == place else "", str(i + 1), *_in_words(left), *_in_words(right), style=style
            )
    return table


def _in_words(request: list[Made]) -> tuple[str, str]:
    """The id of a request, and what it is in some 25 characters; both empty if there is none."""
    if not request:
        return "", ""
    made = request[0]
    place = f" {made.length // 1024}K at {made.offset // 1024}K" if made.length else ""
    data = f" #{made.digest:016x}"[:6] if made.digest else ""
    return str(made.id), f"{kind_name(made.kind)} {made.disk}{place}{data}"


def _show_replays(console: Console, first: Result, replays: list[Result]) -> bool:
    """Shows the replays of the first tape; are they exact?"""
    console.print(f"\n[bold]2. Replayed {len(replays)} times[/], from the first tape\n")
    exact = [again.digest == first.digest and again.returns == first.returns for again in replays]
    shown = {"recorded": (first, "")}
    for number, (again, same) in enumerate(zip(replays, exact, strict=True), 1):
        shown[f"replay {number}"] = again, "the same" if same else "NOT THE SAME"
    console.print(_digests(shown), "")
    if all(exact):
        _say(
            console,
            "A digest covers all that the programs saw and did: requests, data, their order, the clock, and what was "
            "returned.",
        )
    return all(exact)


def _digests(results: dict[str, tuple[Result, str]]) -> Table:
    table = Table(box=None)
    table.add_column("", no_wrap=True)
    table.add_column("requests", justify="right")
    table.add_column("seconds", justify="right")
    table.add_column("digest", no_wrap=True)
    table.add_column("")
    for name, (result, remark) in results.items():
        table.add_row(name, str(result.requests), f"{result.elapsed_s:.2f}", result.digest, remark)
    return table


def _show_commands(console: Console, folder: str) -> None:
    console.print("\n[bold]3. What to try next[/]\n")
    _say(console, "The tapes and the images of the disks stay in this folder:")
    _show_path(console, folder)
    ringtape = _command()
    tape = f"{folder}/first.tape"
    mirror = [f"--disk={name}={folder}/mirror-{name}.img,size=4M" for name in ("a", "b")]
    commands = {
        "Replay it once more:": [*ringtape, "replay", tape],
        "Look at what is on the tape:": [*ringtape, "tape", "info", tape],
        "See every request, completion and release:": [*ringtape, "tape", "dump", tape],
        "Replay it with a program that does something else, which is found out:": [
            *ringtape,
            "replay",
            tape,
            "--program",
            "ringtape.examples.mirror",
        ],
        "Record another example, a mirror of two disks with a damaged side:": [
            *ringtape,
            "record",
            "ringtape.examples.mirror",
            *mirror,
            "-o",
            f"{folder}/mirror.tape",
        ],
        "And when you have seen enough:": ["rm", "-r", folder],
    }
    for what, command in commands.items():
        console.print("")
        _say(console, what)
        _show_path(console, shlex.join(command))


def _command() -> list[str]:
    """How this command can be called from anywhere, as it was called now."""
    called = sys.argv[0]
    if os.path.basename(called) != "ringtape":
        return [sys.executable, "-m", "ringtape"]
    found = shutil.which("ringtape")
    if found is not None and os.path.samefile(found, called):
        return ["ringtape"]
    return [os.path.abspath(called)]
