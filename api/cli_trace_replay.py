"""The command `ringtape trace replay`: a trace of the field done again on disks.

It turns words into a call of `replay_trace` and what came of it into words, and decides nothing else.
"""

from __future__ import annotations

import enum
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ringtape import console
from ringtape.cli_runs import disks_of
from ringtape.cli_trace import (
    Action,
    ActionOption,
    FormatOption,
    SkipBadOption,
    TimeUnit,
    TimeUnitOption,
    TraceArgument,
    TraceFormat,
    trace_app,
)
from ringtape.console import Exit
from ringtape.proto.errors import RingtapeError

if TYPE_CHECKING:
    from ringtape.trace_replaying import TraceReplay

_CODES = """\
[bold]Exit codes[/]
[cyan]  0[/]  done
[cyan]  1[/]  a request failed, or a block did not hold what was written
[cyan]  2[/]  the command is wrong, or the trace or a disk cannot be used; nothing was written
[cyan]  5[/]  there is no usable io_uring here
[cyan]130[/]  interrupted; a tape is sealed and can be replayed"""

# With this command in it.
__all__ = ["trace_app"]

# A cloud's trace may be of thousands.
_DEVICES_SHOWN = 16


class Mode(enum.StrEnum):
    """What kind of run it is."""

    PLAIN = "plain"
    RECORD = "record"


class Overlap(enum.StrEnum):
    """What happens to requests that overlap."""

    ORDER = "order"
    RACE = "race"


@trace_app.command(epilog=_CODES)
def replay(
    file: TraceArgument,
    disk: Annotated[
        list[str] | None,
        typer.Option(
            "--disk",
            "-d",
            metavar="NAME=PATH[,...]",
            show_default=False,
            help="A file or a block device; once for each. What may come after the path is the same as in "
            "[bold]ringtape record[/].",
        ),
    ] = None,
    maps: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            "-m",
            metavar="DEVICE=DISK[+OFFSET]",
            show_default=False,
            help="Which disk stands for a device of the trace, and where on it; once for each. The device "
            "[bold]*[/] is all others. Without it a device goes to the disk of its name, and a single one to a "
            "single disk.",
        ),
    ] = None,
    scale: Annotated[
        bool, typer.Option("--scale", help="Shrink the offsets of a device that is larger than its room.")
    ] = False,
    wrap: Annotated[
        bool, typer.Option("--wrap", help="Go round where a device is larger than its room.")
    ] = False,
    clip: Annotated[
        bool, typer.Option("--clip", help="Leave out what is past the end of a device's room.")
    ] = False,
    align: Annotated[
        bool, typer.Option("--align", help="Take all blocks of the disk that a request touches.")
    ] = False,
    speed: Annotated[
        str,
        typer.Option(
            "--speed",
            metavar="original|Nx|max",
            help="By the trace's times, N times as fast, or as fast as the disks go.",
        ),
    ] = "original",
    depth: Annotated[
        str,
        typer.Option(
            "--depth",
            metavar="N|trace",
            help="How many requests are under way at once, at most; or as many as were with each in the traced system.",
        ),
    ] = "256",
    overlap: Annotated[
        Overlap,
        typer.Option(
            "--overlap", help="Overlapping requests go to the disk in the order of the trace, or race."
        ),
    ] = Overlap.ORDER,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Compare what is read with what was written before, and read all of that once more at the end.",
        ),
    ] = False,
    mode: Annotated[
        Mode,
        typer.Option(
            "--mode", help="Record it, so that [bold]ringtape replay[/] repeats it exactly; or not."
        ),
    ] = Mode.PLAIN,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="TAPE",
            show_default="run.tape",
            help="With [bold]--mode record[/], the tape to write; one that is there is replaced.",
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="With [bold]--mode record[/], wait for every token; see [bold]ringtape record[/].",
        ),
    ] = False,
    format: FormatOption = TraceFormat.AUTO,
    action: ActionOption = Action.QUEUED,
    time_unit: TimeUnitOption = TimeUnit.AUTO,
    skip_bad: SkipBadOption = False,
    json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print the report as one JSON object; everything else goes to standard error."
        ),
    ] = False,
) -> int:
    """Do on disks what a trace says, in its order across all devices, and say how late it was.

    The whole trace is checked first. Writes write a pattern that says where and in which request.

    [cyan]ringtape trace replay mysql.load.gz --disk a=a.img,size=4G --scale --align --speed 100x[/]
    [cyan]ringtape trace replay web.spc -d a=/dev/loop0 -d b=/dev/loop1 --map 0=a --map '*=b' --wrap[/]
    [cyan]ringtape trace replay sda -d a=a.img,size=1T,fresh --mode record -o sda.tape --speed max[/]
    """
    try:
        with console.shown_run(as_json=json) as shown:
            from ringtape.trace_replaying import replay_trace

            tape = _tape_of(mode, output, strict=strict)
            done = replay_trace(
                file,
                disks=disks_of(disk),
                mapping=_mapping_of(maps),
                format=format.value,
                action=action.value,
                time_unit=time_unit.value,
                skip_bad=skip_bad,
                fit=_fit_of(scale=scale, wrap=wrap, clip=clip),  # type: ignore[arg-type]  # checked there
                align=align,
                speed=speed,
                depth=_depth_of(depth),
                overlap=overlap.value,
                verify=verify,
                tape=tape,
                strict=strict,
                console=shown,
            )
    except KeyboardInterrupt as interrupt:
        report = getattr(interrupt, "report", None)
        code = _show(report, as_json=json) if report is not None else Exit.DONE
        return code or console.interrupted(report["tape"] if report is not None else None)
    except RingtapeError as error:
        return console.fail(error)
    return _show(done.report, as_json=json) or _say_what_went_wrong(done)


def _show(report: dict[str, Any], *, as_json: bool) -> int:
    """Print it; the exit code is that of an output that takes no more."""
    try:
        if as_json:
            from json import dumps

            print(dumps(report))
        else:
            _print_report(report)
        sys.stdout.flush()
    except OSError as error:
        return console.output_failed(error)
    return Exit.DONE


def _tape_of(mode: Mode, output: str | None, *, strict: bool) -> str | None:
    from ringtape.settings import UsageError

    if mode is Mode.RECORD:
        return output or "run.tape"
    if output is not None:
        raise UsageError(f"--output {output}: a plain run writes no tape; give --mode record")
    if strict:
        raise UsageError("--strict goes with a recording; give --mode record")
    return None


def _depth_of(text: str) -> Any:
    """What `replay_trace` looks at: a number where it is one."""
    return int(text) if text.isascii() and text.removeprefix("-").isdigit() else text


def _mapping_of(texts: list[str] | None) -> dict[str, str]:
    from ringtape.settings import UsageError

    mapping: dict[str, str] = {}
    for text in texts or []:
        # A device may be called anything.
        device, equals, place = text.rpartition("=")
        if not equals or not device:
            raise UsageError(f"--map {text}: expected DEVICE=DISK or DEVICE=DISK+OFFSET, as in 8,0=a+64M")
        if device in mapping:
            raise UsageError(f"--map {text}: device {device!r} is mapped twice")
        mapping[device] = place
    return mapping


def _fit_of(**chosen: bool) -> str:
    from ringtape.settings import UsageError

    names = [name for name, given in chosen.items() if given]
    if len(names) > 1:
        raise UsageError(f"{' and '.join(f'--{name}' for name in names)} do not go together: choose one")
    return names[0] if names else "refuse"


def _say_what_went_wrong(done: TraceReplay) -> int:
    """A line for what failed, and the exit code."""
    report = done.report
    if report["skipped"]:
        s = "" if report["skipped"] == 1 else "s"
        console.say(f"ringtape: note: {report['skipped']:,} bad line{s} left out")
    code = console.say_failures(done.result.failures)
    for kind, one in report.get("kinds", {}).items():
        if one["failed"]:
            console.say_error(
                f"{one['failed']:,} of {one['requests']:,} requests ({kind}) failed, the first with: "
                f"{os.strerror(one['first_errno'])}"
            )
            code = code or Exit.PROGRAM_RAISED
    verify = report.get("verify")
    if verify and verify["wrong"]:
        first = verify["first"]
        console.say_error(
            f"{verify['wrong']:,} of {verify['checked']:,} blocks were wrong when they were read; the first: disk "
            f"{first['disk']!r} offset {first['offset']} length {first['length']}, read by request {first['read_by']}: "
            f"expected {first['expected']}, found {first['found']}"
        )
        code = code or Exit.PROGRAM_RAISED
    return code


def _print_report(report: dict[str, Any]) -> None:
    facts: dict[str, str] = {}
    if report["interrupted"]:
        facts["interrupted"] = "this is what had come of it shortly before"
    if report["digest"]:
        facts["digest"] = report["digest"]
    elapsed_s = report.get("elapsed_s")
    rate = f" ({report['requests'] / elapsed_s:,.0f}/s)" if elapsed_s else ""
    facts["requests"] = f"{report['requests']:,}{rate}"
    for kind, one in report.get("kinds", {}).items():
        amount = "" if kind == "fsync" else f" of {one['bytes']:,} bytes"
        facts[kind] = f"{one['requests']:,}{amount}; took {_times(one['latency_ns'])}"
    for name in ("empty", "left_out", "shortened"):
        if report.get(name):
            facts[name.replace("_", " ")] = f"{report[name]:,}"
    if elapsed_s is not None:
        facts["elapsed"] = f"{elapsed_s:.3f} s"
    lag = report.get("lag_ns")
    if lag:
        facts["lag"] = _times(lag)
        facts["late"] = f"{lag['late']:,} by more than 1 ms"
    verify = report.get("verify")
    if verify:
        facts["verified"] = f"{verify['checked']:,} blocks, {verify['wrong']:,} wrong"
    if report["tape"]:
        facts["tape"] = report["tape"]
    console.print_facts(f"{report['trace']}: replayed at speed {report['speed']}", facts)
    for device in report["devices"][:_DEVICES_SHOWN]:
        print(f"device {device['name']}: disk {device['disk']} from {device['offset']:,}")
    left = len(report["devices"]) - _DEVICES_SHOWN
    if left > 0:
        print(f"and {left:,} devices more, which --json shows as well")


def _times(times: dict[str, int]) -> str:
    # A lag has its count of late ones even where nothing was measured.
    if "min" not in times:
        return "none"
    words = {"p99_9": "p99.9"}
    return (
        ", ".join(
            f"{words.get(name, name)} {times[name] / 1e6:,.3f}"
            for name in ("min", "mean", "p50", "p99", "p99_9", "max")
        )
        + " ms"
    )
