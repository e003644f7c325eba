"""The commands `ringtape trace`: a block trace of the field at a glance, and in another form.

They turn words into calls of `ringtape.traces` and what comes back into words, and decide nothing else.
"""

from __future__ import annotations

import enum
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ringtape import console
from ringtape.cli_runs import look
from ringtape.console import Exit

if TYPE_CHECKING:
    from ringtape.traces import Trace

_CODES = """\
[bold]Exit codes[/]
[cyan]  0[/]  done
[cyan]  2[/]  the trace cannot be read, is of another format or has a bad line; or the output cannot be written"""

# A cloud's trace may be of thousands.
_DEVICES_SHOWN = 32

trace_app = typer.Typer(help="Read block traces of the field, and replay them on disks.")


class TraceFormat(enum.StrEnum):
    """The formats of traces."""

    AUTO = "auto"
    FIO_IOLOG = "fio-iolog"
    BLKTRACE = "blktrace"
    BLKPARSE = "blkparse"
    BLKREPLAY = "blkreplay"
    MSR = "msr"
    ALIBABA = "alibaba"
    TENCENT = "tencent"
    SPC = "spc"
    MQSIM = "mqsim"


class Action(enum.StrEnum):
    """Which event is the request."""

    QUEUED = "Q"
    ISSUED = "D"


class TimeUnit(enum.StrEnum):
    """The unit of the times of an ASCII trace."""

    AUTO = "auto"
    NS = "ns"
    MS = "ms"


class OutputForm(enum.StrEnum):
    """What a trace can be written as."""

    CSV = "csv"
    JSONL = "jsonl"
    FIO_IOLOG = "fio-iolog"
    BLKPARSE = "blkparse"


TraceArgument = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        show_default=False,
        help="A trace, packed with gzip, zstd or bz2 or not; [bold]-[/] is standard input. Of blktrace the name that "
        "its files have in common, or one of them: all are read.",
    ),
]
FormatOption = Annotated[
    TraceFormat,
    typer.Option("--format", "-f", help="The trace's format; by what it begins with unless it is given."),
]
ActionOption = Annotated[
    Action,
    typer.Option(
        "--action",
        help="Which event of blktrace and blkparse is the request: queued, or sent to the device.",
    ),
]
TimeUnitOption = Annotated[
    TimeUnit,
    typer.Option(
        "--time-unit",
        help="Of the times of an mqsim trace: ns (MQSim) or ms (DiskSim); unless it is given, ms where they have a "
        "point.",
    ),
]
SkipBadOption = Annotated[bool, typer.Option("--skip-bad", help="Leave bad lines out and count them.")]


@trace_app.callback(invoke_without_command=True)
def _trace(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(Exit.DONE)


@trace_app.command(epilog=_CODES)
def info(
    file: TraceArgument,
    format: FormatOption = TraceFormat.AUTO,
    action: ActionOption = Action.QUEUED,
    time_unit: TimeUnitOption = TimeUnit.AUTO,
    skip_bad: SkipBadOption = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Show what a trace holds: requests and bytes by kind and device, spans of time and offsets.

    [cyan]ringtape trace info mysql.load.gz[/]
    [cyan]zstdcat huge.csv.zst | ringtape trace info - --format alibaba --json[/]
    """

    def act() -> None:
        from ringtape.traces import open as open_trace
        from ringtape.traces.summary import Summary

        summary = Summary()
        with open_trace(file, format, action=action, time_unit=time_unit, skip_bad=skip_bad) as trace:
            for batch in trace:
                summary.add(batch, len(trace.devices))
            facts = {
                "trace": file,
                "format": trace.format,
                "packing": trace.packing,
                "files": trace.files,
                "skipped": trace.skipped,
                **summary.facts(trace.devices),
            }
        if json:
            from json import dumps

            print(dumps(facts))
        else:
            _print_info(facts)
        _say_notes(trace)

    return look(act)


@trace_app.command(epilog=_CODES)
def convert(
    file: TraceArgument,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            show_default=False,
            help="The file to write; one that is there is replaced when all is written. [bold]-[/] is standard output.",
        ),
    ],
    to: Annotated[
        OutputForm,
        typer.Option("--to", help="What to write: fio's log of version 3, blkparse's text, or a table."),
    ] = OutputForm.CSV,
    format: FormatOption = TraceFormat.AUTO,
    action: ActionOption = Action.QUEUED,
    time_unit: TimeUnitOption = TimeUnit.AUTO,
    skip_bad: SkipBadOption = False,
) -> int:
    """Write a trace in another form.

    [cyan]ringtape trace convert web.spc.bz2 -o web.log --to fio-iolog[/]
    [cyan]ringtape trace convert sda -o - --to csv --action D | head[/]
    """

    def act() -> None:
        from ringtape.traces import open as open_trace
        from ringtape.traces.writing import STDOUT
        from ringtape.traces.writing import convert as convert_trace

        with open_trace(file, format, action=action, time_unit=time_unit, skip_bad=skip_bad) as trace:
            convert_trace(trace, output, to)
        if output != STDOUT:
            console.say(f"wrote {trace.requests:,} requests of {len(trace.devices):,} devices: {output}")
        _say_notes(trace)

    return look(act)


def _say_notes(trace: Trace) -> None:
    sys.stdout.flush()
    if trace.requests == 0 and trace.format in ("blktrace", "blkparse"):
        console.say("ringtape: note: there is no request of this action; --action chooses another")
    if trace.skipped:
        s = "" if trace.skipped == 1 else "s"
        console.say(
            f"ringtape: note: {trace.skipped:,} bad line{s} left out; the first: {trace.first_skipped}"
        )


def _print_info(facts: dict[str, Any]) -> None:
    """The facts for people: in all, and a table of devices."""
    packed = f", {facts['packing']}" if facts["packing"] else ""
    lines = {
        "requests": f"{facts['requests']:,}",
        **{kind: _count(count, kind) for kind, count in facts["kinds"].items()},
        "bytes": f"{facts['bytes']:,}",
        "time": f"{facts['span_ns'] / 1e9:,.6f} s",
        "offsets": _offsets(facts),
        "devices": f"{len(facts['devices']):,}",
    }
    if len(facts["files"]) > 1:
        lines["files"] = f"{len(facts['files'])}, {facts['files'][0]} to {facts['files'][-1]}"
    if facts["skipped"]:
        lines["bad lines"] = f"{facts['skipped']:,}, left out"
    console.print_facts(f"{facts['trace']}: a trace of {facts['format']}{packed}", lines)
    devices = sorted(facts["devices"], key=lambda device: device["requests"], reverse=True)
    shown = facts["devices"] if len(devices) <= _DEVICES_SHOWN else devices[:_DEVICES_SHOWN]
    for device in shown:
        first, last = (device[key] / 1e9 for key in ("first_ns", "last_ns"))
        kinds = "; ".join(f"{kind} {_count(count, kind)}" for kind, count in device["kinds"].items())
        print(f"device {device['name']}: {kinds}")
        print(f"  from {first:,.6f} s to {last:,.6f} s, offsets {_offsets(device)}")
    if len(shown) < len(devices):
        print(f"and {len(devices) - len(shown):,} devices with fewer requests, which --json shows as well")


def _count(count: dict[str, int], kind: str) -> str:
    return f"{count['requests']:,}" + ("" if kind == "fsync" else f" of {count['bytes']:,} bytes")


def _offsets(facts: dict[str, Any]) -> str:
    if facts["offset_min"] is None:
        return "none"
    return f"{facts['offset_min']:,} to {facts['offset_end']:,}"
