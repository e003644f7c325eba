"""The commands under `ringtape tape`: their help, and which tool they call.

It turns words into a call of a tool and decides nothing else; each tool is loaded by its command.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from ringtape.cli_runs import look
from ringtape.console import Exit

if TYPE_CHECKING:
    from ringtape.coordinator.tape import TapeReader
    from ringtape.tape.selection import Selection

_CODES = """\
[bold]Exit codes[/]
[cyan]  0[/]  done, also where the tape has no seal
[cyan]  2[/]  the command is wrong, or a file cannot be read, is not a tape, or cannot be written
[cyan]  4[/]  the tape is damaged; what comes before the damage was used"""

_DIFF_CODES = """\
[bold]Exit codes[/]
[cyan]  0[/]  done: the tapes are the same but for times, and for what was ignored
[cyan]  1[/]  they are different
[cyan]  2[/]  the command is wrong, or a file cannot be read or is not a tape
[cyan]  4[/]  a tape is damaged; what comes before the damage was compared, and is the same"""

_VERIFY_CODES = """\
[bold]Exit codes[/]
[cyan]  0[/]  done: the tape is whole, though it may lack a seal
[cyan]  2[/]  the file cannot be read or is not a tape
[cyan]  4[/]  the tape is damaged"""

_REPAIR_CODES = """\
[bold]Exit codes[/]
[cyan]  0[/]  done: the new tape has all that is whole
[cyan]  2[/]  a file cannot be read, is not a tape, exists already or cannot be written
[cyan]  4[/]  not even the header is whole"""

app = typer.Typer(help="Look into a tape.")


class Kind(enum.StrEnum):
    """Of requests."""

    READ = "read"
    WRITE = "write"
    WRITE_ZEROES = "write_zeroes"
    DISCARD = "discard"
    FSYNC = "fsync"


class Format(enum.StrEnum):
    """What a tape can be exported to."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"
    FIO_IOLOG = "fio-iolog"
    BLKPARSE = "blkparse"
    PERFETTO = "perfetto"


class Aspect(enum.StrEnum):
    """What `tape diff` compares."""

    ORDER = "order"
    RESULT = "result"
    DATA = "data"
    CLOCK = "clock"


TapeArgument = Annotated[str, typer.Argument(metavar="TAPE", show_default=False, help="A tape.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
FromOption = Annotated[
    int | None,
    typer.Option("--from", metavar="ID", show_default=False, help="The first request, by its id."),
]
ToOption = Annotated[
    int | None,
    typer.Option("--to", metavar="ID", show_default=False, help="The last request, by its id."),
]
DiskOption = Annotated[
    list[str] | None,
    typer.Option(
        "--disk", "-d", metavar="D", show_default=False, help="Requests on this disk; may be repeated."
    ),
]
WorkerOption = Annotated[
    list[int] | None,
    typer.Option(
        "--worker", "-w", metavar="W", show_default=False, help="Requests of this worker; may be repeated."
    ),
]
KindOption = Annotated[
    list[Kind] | None,
    typer.Option("--kind", "-k", show_default=False, help="Requests of this kind; may be repeated."),
]


@app.callback(invoke_without_command=True)
def _tape(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(Exit.DONE)


def _chooser(
    first_id: int | None,
    last_id: int | None,
    disks: list[str] | None,
    workers: list[int] | None,
    kinds: list[Kind] | None,
) -> Callable[[TapeReader], Selection]:
    """What turns the options into a selection, once there is a tape."""

    def choose(reader: TapeReader) -> Selection:
        from ringtape.tape.selection import select

        return select(
            reader,
            first_id=first_id,
            last_id=last_id,
            disks=disks or (),
            workers=workers or (),
            kinds=[kind.value for kind in kinds or ()],
        )

    return choose


@app.command(epilog=_CODES)
def info(tape: TapeArgument, json: JsonOption = False) -> int:
    """Show what a tape is of: the program, its disks, how many requests of each kind, and how the run ended.

    [cyan]ringtape tape info run.tape[/]
    """
    from ringtape.tape.info import print_info

    return look(lambda: print_info(tape, as_json=json))


@app.command(epilog=_CODES)
def dump(
    tape: TapeArgument,
    first: FromOption = None,
    last: ToOption = None,
    disk: DiskOption = None,
    worker: WorkerOption = None,
    kind: KindOption = None,
    requests: Annotated[
        bool,
        typer.Option(
            "--requests",
            help="One line a request, with its completion and release, instead of a line for each of them. They come "
            "in the order of release.",
        ),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> int:
    """Print a tape row by row in the order in which it happened, as a stream.

    Requests, completions, the tokens that released them, and what the programs logged, captured and returned. Where
    only some requests are chosen, the rows about them. What comes before the first is not read.

    [cyan]ringtape tape dump run.tape | less[/]
    [cyan]ringtape tape dump run.tape --from 1000 --to 1099 --requests[/]
    [cyan]ringtape tape dump run.tape --disk journal --kind fsync[/]
    [cyan]ringtape tape dump run.tape --json | jq 'select(.row == "request")'[/]
    """
    from ringtape.tape.dump import print_requests, print_rows

    show = print_requests if requests else print_rows
    return look(lambda: show(tape, _chooser(first, last, disk, worker, kind), as_json=json))


@app.command(epilog=_CODES)
def stats(tape: TapeArgument, json: JsonOption = False) -> int:
    """Show how the disks were used, by disk and by worker.

    Counts, sizes, sequential share, working set and reuse, requests in flight, latencies, and requests that met one
    in flight which they overlap.

    [cyan]ringtape tape stats run.tape[/]
    [cyan]ringtape tape stats run.tape --json | jq '.disks[] | {name, working_set}'[/]
    """
    from ringtape.tape.stats import print_stats

    return look(lambda: print_stats(tape, as_json=json))


@app.command(epilog=_DIFF_CODES)
def diff(
    one: Annotated[str, typer.Argument(metavar="A", show_default=False, help="A tape.")],
    other: Annotated[str, typer.Argument(metavar="B", show_default=False, help="Another.")],
    ignore: Annotated[
        list[Aspect] | None,
        typer.Option("--ignore", show_default=False, help="What may differ without a word; may be repeated."),
    ] = None,
    context: Annotated[
        int,
        typer.Option(
            "--context", "-c", metavar="N", min=0, help="How many rows to show around a difference."
        ),
    ] = 3,
    json: JsonOption = False,
) -> int:
    """Say where two tapes first differ: in the order of things, in results, in data, in clock readings, in timing.

    Each is looked for by itself, up to the first difference in order. Timing alone (when the kernel took and finished
    requests) makes no difference.

    [cyan]ringtape tape diff run.tape again.tape[/]
    [cyan]ringtape tape diff monday.tape friday.tape --ignore clock[/]
    """
    from ringtape.tape.diff import print_diff

    ignored = frozenset(aspect.value for aspect in ignore or ())
    return look(lambda: print_diff(one, other, ignored=ignored, context=context, as_json=json))


@app.command(epilog=_CODES)
def cut(
    tape: TapeArgument,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="TAPE", show_default=False, help="The tape to write.")
    ],
    first: FromOption = None,
    last: ToOption = None,
) -> int:
    """Make a tape of a stretch of another, from one request to another.

    Without [bold]--from[/] it is as if the recording had been cut there, and can be replayed. With it, it cannot: it
    is for looking into, and its ids begin at 1 again.

    [cyan]ringtape tape cut run.tape --to 500 -o start.tape[/]
    [cyan]ringtape tape cut run.tape --from 100000 --to 101000 -o odd.tape[/]
    """
    from ringtape.tape.cut import cut as cut_tape

    return look(lambda: print(cut_tape(tape, output, first_id=first, last_id=last)))


@app.command(epilog=_CODES)
def export(
    tape: TapeArgument,
    format_: Annotated[Format, typer.Option("--format", "-f", show_default=False, help="What to write.")],
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="FILE", show_default="standard output", help="The file to write."
        ),
    ] = None,
    first: FromOption = None,
    last: ToOption = None,
    disk: DiskOption = None,
    worker: WorkerOption = None,
    kind: KindOption = None,
    path: Annotated[
        list[str] | None,
        typer.Option(
            "--path",
            metavar="DISK=PATH",
            show_default="as on the tape",
            help="What a disk is called in a fio log; once for each.",
        ),
    ] = None,
) -> int:
    """Write the requests of a tape in a format of other tools.

    [bold]csv[/], [bold]jsonl[/] and [bold]parquet[/] have a row a request, with what came of it; [bold]fio-iolog[/]
    is what fio replays with [bold]--read_iolog[/]; [bold]blkparse[/] is the text that blkparse prints of a trace;
    [bold]perfetto[/] is the whole tape for the Perfetto UI.

    [cyan]ringtape tape export run.tape -f csv -o run.csv[/]
    [cyan]ringtape tape export run.tape -f parquet -o run.parquet --kind write[/]
    [cyan]ringtape tape export run.tape -f fio-iolog --path a=copy.img -o run.log[/]
    """
    from ringtape.tape.export import export as export_tape

    choose = _chooser(first, last, disk, worker, kind)
    return look(lambda: export_tape(tape, format_.value, output, choose, path or []))


@app.command(epilog=_CODES)
def plot(
    tape: TapeArgument,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PAGE",
            show_default="TAPE with .html",
            help="The page to write. One that is there is replaced; any other file is refused.",
        ),
    ] = None,
    first: FromOption = None,
    last: ToOption = None,
) -> int:
    """Draw a tape as one HTML page that needs no network.

    Every request of each worker and disk from submission to release, checkpoints, latency and offsets.

    [cyan]ringtape tape plot run.tape -o run.html[/]
    """
    from ringtape.tape.plot import print_plot

    return look(lambda: print_plot(tape, output, first_id=first, last_id=last))


@app.command(epilog=_VERIFY_CODES)
def verify(tape: TapeArgument, json: JsonOption = False) -> int:
    """Read a whole tape and check all there is to check; name every damage, and what it takes away.

    [cyan]ringtape tape verify run.tape[/]
    """
    from ringtape.tape.checking import print_verify

    return look(lambda: print_verify(tape, as_json=json))


@app.command(epilog=_REPAIR_CODES)
def repair(
    tape: TapeArgument,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="TAPE", show_default=False, help="The new tape.")
    ],
    json: JsonOption = False,
) -> int:
    """Keep what is whole of a damaged tape, up to the first damage, as a new tape that replays.

    [cyan]ringtape tape repair bad.tape -o good.tape[/]
    """
    from ringtape.tape.checking import print_repair

    return look(lambda: print_repair(tape, output, as_json=json))
