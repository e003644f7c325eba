"""The command line: its commands, their help, and what they print.

It turns words into a call of the Python API and a result into words, and decides nothing else. What is slow to load is
loaded by the command that needs it.
"""

from __future__ import annotations

import enum
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ringtape import __version__, console
from ringtape.cli_bench import bench_app
from ringtape.cli_runs import (
    conduct,
    disks_of,
    look,
    show_plain,
    show_recording,
    show_replay,
    watched_lines,
)
from ringtape.cli_trace_replay import trace_app
from ringtape.console import Exit
from ringtape.tape import commands as tape_commands

if TYPE_CHECKING:
    from ringtape.conducting import Console
    from ringtape.results import Result

_RUN_CODES = """\
[bold]Exit codes[/]
[cyan]  0[/]  done
[cyan]  1[/]  the program raised, in a recording and its replay alike; or a worker died
[cyan]  2[/]  the command is wrong, or a disk, a tape or the program cannot be used
[cyan]  3[/]  the replay parted from the tape, or what is waited for does not come
[cyan]  4[/]  the tape is damaged; what comes before the damage was replayed
[cyan]  5[/]  there is no usable io_uring here
[cyan]130[/]  interrupted; the tape is sealed and can be replayed"""

_REWIND_CODES = """\
[bold]Exit codes[/]
[cyan]  0[/]  done
[cyan]  2[/]  the command is wrong, or a disk or the tape cannot be used
[cyan]  4[/]  the tape is damaged; what is whole was put back"""

app = typer.Typer(
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(tape_commands.app, name="tape")
app.add_typer(trace_app, name="trace")
app.add_typer(bench_app, name="bench")


class Data(enum.StrEnum):
    """How much of the data goes on the tape."""

    ORDER = "order"
    DIGEST = "digest"
    FULL = "full"


class TapeSync(enum.StrEnum):
    """When a recording waits for the tape's device."""

    NONE = "none"
    BLOCK = "block"
    CHECKPOINT = "checkpoint"


class Overlap(enum.StrEnum):
    """What happens to requests of a worker that overlap."""

    ORDER = "order"
    RACE = "race"


ProgramArgument = Annotated[
    str,
    typer.Argument(
        metavar="PROGRAM",
        show_default=False,
        help="file.py:function or package.module:function; without a function it is [bold]main[/].",
    ),
]
ArgsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="ARGS",
        show_default=False,
        help="What the program finds as [bold]io.arguments[/], a list of strings. Put [bold]--[/] before those that "
        "begin with a dash.",
    ),
]
DiskOption = Annotated[
    list[str] | None,
    typer.Option(
        "--disk",
        "-d",
        metavar="NAME=PATH[,...]",
        show_default=False,
        help="A file or a block device, and what the program calls it; once for each disk. After the path may come "
        "[bold],size=64M[/], which makes a missing file, [bold],fresh[/], which starts every run from zeros, "
        "[bold],force[/], which takes a device that is in use or holds something, [bold],buffered[/], which goes "
        "through the page cache; and in a recording "
        "[bold],snapshot=DIR[/], which keeps there what the disk held for replays to begin with, and [bold],undo[/], "
        "which keeps on the tape what [bold]ringtape rewind[/] puts back.",
    ),
]
DiskAgainOption = Annotated[
    list[str] | None,
    typer.Option(
        "--disk",
        "-d",
        metavar="NAME=PATH[,...]",
        show_default=False,
        help="Where a disk of the tape is now; once for each that is not where it was. After the path may come "
        "[bold],fresh[/], which gives up what it holds, and [bold],force[/].",
    ),
]
DiskToRewindOption = Annotated[
    list[str] | None,
    typer.Option(
        "--disk",
        "-d",
        metavar="NAME=PATH[,force]",
        show_default=False,
        help="Where a disk of the tape is now; once for each that is not where it was. [bold],force[/] takes a device "
        "that is in use or holds something.",
    ),
]
WorkersOption = Annotated[
    int, typer.Option("--workers", "-w", metavar="N", help="How many processes run the program.")
]
SeedOption = Annotated[
    int | None,
    typer.Option(
        "--seed",
        metavar="N",
        show_default="chosen and kept",
        help="Of [bold]io.random[/] and of Python's hashes.",
    ),
]
OverlapOption = Annotated[
    Overlap,
    typer.Option(
        "--overlap",
        help="Overlapping requests of a worker go to the disk in the order in which they were made, or race.",
    ),
]
StrictOption = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Let every worker wait for the coordinator at every checkpoint. Else one that uses no shared disk goes on "
        "by itself and reports.",
    ),
]
DataOption = Annotated[
    Data,
    typer.Option(
        "--data",
        help="What the tape keeps of the data read and written: digests, by which a replay finds out a read that "
        "returns something else; nothing but the order; or all of it, so that a replay needs no disks.",
    ),
]
StallOption = Annotated[
    float,
    typer.Option(
        "--stall-timeout",
        metavar="SECONDS",
        help="How long to wait for something that the recording had, beside ten times as long as it took then.",
    ),
]
JsonOption = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print the result as one JSON object; everything else goes to standard error.",
    ),
]
TapeArgument = Annotated[str, typer.Argument(metavar="TAPE", show_default=False, help="A tape.")]


@app.callback(invoke_without_command=True)
def _ringtape(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Record what a multi-process program does to its disks, and replay it exactly.

    See it at work:  [bold]ringtape demo[/]

    A program is a function in a file, [bold]async def main(io)[/] or [bold]def main(io)[/]:

      [cyan]ringtape record prog.py --disk a=a.img,size=64M,fresh --workers 2[/]
      [cyan]ringtape replay run.tape[/]
    """
    if version:
        print(f"ringtape {__version__}")
        raise typer.Exit(Exit.DONE)
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(Exit.DONE)


@app.command(epilog=_RUN_CODES)
def record(
    program: ProgramArgument,
    args: ArgsArgument = None,
    disk: DiskOption = None,
    workers: WorkersOption = 1,
    seed: SeedOption = None,
    output: Annotated[
        str,
        typer.Option(
            "--output", "-o", metavar="TAPE", help="The tape to write; one that is there is replaced."
        ),
    ] = "run.tape",
    tape_sync: Annotated[
        TapeSync,
        typer.Option(
            "--tape-sync",
            help="When to wait until the tape is on its device, which a power failure leaves as it is: when it is "
            "sealed, after each block as well, or before a program gets what a checkpoint released.",
        ),
    ] = TapeSync.NONE,
    data: DataOption = Data.DIGEST,
    overlap: OverlapOption = Overlap.ORDER,
    strict: StrictOption = False,
    json: JsonOption = False,
) -> int:
    """Run a program and put everything that reaches it on a tape.

    [cyan]ringtape record prog.py --disk a=a.img,size=64M,fresh[/]
    [cyan]ringtape record prog.py:check 100 fast -d a=a.img -d log=/dev/loop0 -w 4[/]
    [cyan]ringtape record package.module:main --seed 7 -o seven.tape -- --verbose[/]
    """

    def act(shown: Console) -> Result:
        from ringtape.runs import record

        return record(
            program,
            disks=disks_of(disk),
            workers=workers,
            seed=seed,
            arguments=list(args or []),
            tape=output,
            tape_sync=tape_sync.value,
            data=data.value,
            overlap=overlap.value,
            strict=strict,
            console=shown,
        )

    return conduct(act, json=json, tape=output, show=lambda result: show_recording(result, output))


@app.command(epilog=_RUN_CODES)
def replay(
    tape: TapeArgument,
    disk: DiskAgainOption = None,
    program: Annotated[
        str | None,
        typer.Option(
            "--program",
            "-p",
            metavar="PROGRAM",
            show_default="the one on the tape",
            help="Where the program is now.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="TAPE", show_default=False, help="A tape to write of the replay."
        ),
    ] = None,
    offline: Annotated[
        bool,
        typer.Option(
            "--offline",
            help="Read from the tape, which was recorded with [bold]--data full[/]: no disk is opened, and no io_uring "
            "is needed.",
        ),
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Go on though a disk holds something else than when the recording began."
        ),
    ] = False,
    stall_timeout: StallOption = 30.0,
    until: Annotated[
        str | None,
        typer.Option(
            "--until",
            metavar="WHERE",
            show_default="the end of the tape",
            help="Stop there: after the request of an id, at [bold]checkpoint:WORKER:NUMBER[/], or at the first "
            "[bold]failure[/] of a program or a request.",
        ),
    ] = None,
    breaks: Annotated[
        list[str] | None,
        typer.Option(
            "--break",
            metavar="ID",
            show_default=False,
            help="Stand still before the request of that id, in pdb, at the program's own line; once for each. "
            "[bold]watch[/] is every request that touches a watched range.",
        ),
    ] = None,
    watch: Annotated[
        list[str] | None,
        typer.Option(
            "--watch",
            metavar="DISK:OFFSET:LENGTH",
            show_default=False,
            help="Print every request that touches this range, with the digest of what the range holds before and "
            "after it; once for each.",
        ),
    ] = None,
    disturb: Annotated[
        int | None,
        typer.Option(
            "--disturb",
            metavar="N",
            show_default=False,
            help="Replay under the conditions of the N-th replay of [bold]ringtape check[/].",
        ),
    ] = None,
    strict: StrictOption = False,
    json: JsonOption = False,
) -> int:
    """Run the program of a tape again and let it see exactly what it saw in the recording.

    Disks are where they were unless [bold]--disk[/] says where they are now.

    [cyan]ringtape replay run.tape[/]
    [cyan]ringtape replay run.tape --disk a=/tmp/copy.img[/]
    [cyan]ringtape replay run.tape --program fixed.py -o again.tape[/]
    [cyan]ringtape replay run.tape --until failure[/]
    [cyan]ringtape replay run.tape --watch a:0:4K --break 117[/]
    [cyan]ringtape replay run.tape --offline[/]
    """

    def act(shown: Console) -> Result:
        from ringtape.replaying import replay

        return replay(
            tape,
            program,
            disks=disks_of(disk),
            offline=offline,
            force=force,
            output=output,
            stall_timeout_s=stall_timeout,
            until=until,
            break_at=breaks or (),
            watch=watch or (),
            on_watched=watched_lines(json=json) if watch else None,
            disturb=disturb,
            strict=strict,
            console=shown,
        )

    # The terminal is the debugger's, or has lines of standard output among those of the progress.
    progress = not (breaks or watch)
    return conduct(act, json=json, tape=output, show=show_replay, progress=progress)


@app.command(epilog=_RUN_CODES)
def run(
    program: ProgramArgument,
    args: ArgsArgument = None,
    disk: DiskOption = None,
    workers: WorkersOption = 1,
    seed: SeedOption = None,
    overlap: OverlapOption = Overlap.ORDER,
    json: JsonOption = False,
) -> int:
    """Run a program as it is, without a tape: the baseline of a recording.

    [cyan]ringtape run prog.py --disk a=a.img,size=64M,fresh[/]
    """

    def act(shown: Console) -> Result:
        from ringtape.runs import run

        return run(
            program,
            disks=disks_of(disk),
            workers=workers,
            seed=seed,
            arguments=list(args or []),
            overlap=overlap.value,
            console=shown,
        )

    return conduct(act, json=json, tape=None, show=show_plain)


@app.command(epilog=_RUN_CODES)
def check(
    program: ProgramArgument,
    args: ArgsArgument = None,
    disk: DiskOption = None,
    workers: WorkersOption = 1,
    seed: SeedOption = None,
    runs: Annotated[int, typer.Option("--runs", metavar="N", help="How many replays.")] = 20,
    keep: Annotated[
        str | None,
        typer.Option(
            "--keep",
            metavar="TAPE",
            show_default="only where a replay differs",
            help="Where to leave the tape of the recording.",
        ),
    ] = None,
    data: DataOption = Data.DIGEST,
    overlap: OverlapOption = Overlap.ORDER,
    stall_timeout: StallOption = 30.0,
    json: JsonOption = False,
) -> int:
    """Record a program once, and replay it under conditions that are different on purpose.

    Completions are kept back, workers held up, fewer requests given to the kernel at once, other CPUs used. A program
    that leaves nothing to chance is the same each time. Ends at the first replay that is not, with exit code 3.

    Files that are not fresh are copied first and not changed.

    [cyan]ringtape check prog.py --disk a=a.img,size=64M,fresh --workers 2[/]
    """
    from ringtape.cli_check import conduct_check

    return conduct_check(
        program,
        disks=disk,
        workers=workers,
        seed=seed,
        arguments=list(args or []),
        runs=runs,
        keep=keep,
        data=data.value,
        overlap=overlap.value,
        stall_timeout_s=stall_timeout,
        as_json=json,
    )


@app.command(epilog=_REWIND_CODES)
def rewind(
    tape: TapeArgument,
    disk: DiskToRewindOption = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Write although a disk will not hold then what it held: something else has changed it, or it is "
            "another disk.",
        ),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Put disks back as they were before their recording with [bold],undo[/], however it ended.

    [cyan]ringtape record prog.py --disk a=/dev/loop0,undo[/]
    [cyan]ringtape rewind run.tape[/]
    """

    def act() -> None:
        from ringtape.cli_rewinding import print_rewind

        print_rewind(tape, disks_of(disk), force=force, as_json=json)

    return look(act)


@app.command()
def demo() -> int:
    """Record an example twice and replay it three times, in a temporary folder.

    Shows that two recordings of one program differ and that replays do not. Takes a few seconds.
    """
    from ringtape.demo import main as demo_main

    return look(demo_main)


def main() -> int:
    """Run the command line; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a path may be any bytes
    try:
        code = app(prog_name="ringtape", standalone_mode=False)
    except Exception as error:
        # What the parser raises for a wrong command is click's own or typer's copy of it, by typer's version.
        if not hasattr(error, "format_message"):
            raise
        code = _say_usage_error(error)
    return console.flushed(code or Exit.DONE)


def _say_usage_error(error: Any) -> Exit:
    """One line for a command that cannot be understood."""
    text = console.one_line(error.format_message()).rstrip(".")
    context = getattr(error, "ctx", None)
    path = "ringtape" if context is None else context.command_path
    if type(error).__name__ == "NoSuchOption" and path in ("ringtape record", "ringtape run"):
        text += " (put -- before arguments of the program that begin with a dash)"
    console.say_error(f"{text}; see {path} --help")
    return Exit.UNUSABLE
