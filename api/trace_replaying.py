"""Replaying a trace of the field on disks: everything about it is checked first, then it is a run like any other.

Nothing here touches a disk before the whole trace was read and every request has its place.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ringtape import disks as disk_setup
from ringtape import runs, traces
from ringtape.conducting import Console
from ringtape.disks import Disk
from ringtape.engine.disks import parse_size
from ringtape.engine.program import refuse_in_worker
from ringtape.engine.volume import DEPTH_MAX
from ringtape.jobs.side import place_of, read_so_far, side_file
from ringtape.proto import tape_pb2
from ringtape.proto.errors import DiskError, TraceError
from ringtape.results import Result
from ringtape.settings import Data, Overlap, StrPath, UsageError, checked_seed
from ringtape.trace_program import Plan, main
from ringtape.traces.mapping import Entry, resolved
from ringtape.traces.placing import FITS, Fit, Place, latest_due_fits
from ringtape.traces.source import STDIN, STDIN_NAME
from ringtape.traces.survey import fingerprint, surveyed
from ringtape.traces.trace import AUTO

DEPTH = 256
ORIGINAL, AS_FAST_AS_IT_GOES = "original", "max"
AS_IN_THE_TRACE = "trace"


@dataclass(frozen=True)
class TraceReplay:
    """What came of the replay of a trace.

    Attributes:
        result: of the run.
        report: what `ringtape trace replay --json` prints; see the reference.
    """

    result: Result
    report: dict[str, Any]


class TraceReplayInterrupted(KeyboardInterrupt):
    """The replay was interrupted after it had begun.

    Attributes:
        report: of what had come of it shortly before, with the keys of `TraceReplay.report`, `digest` None; only with
            those that are known beforehand where nothing had.
    """

    def __init__(self, text: str, report: dict[str, Any]) -> None:
        super().__init__(text)
        self.report = report


def replay_trace(
    trace: StrPath,
    *,
    disks: Iterable[Disk],
    mapping: Mapping[str, str] | None = None,
    format: str = AUTO,
    action: str = "Q",
    time_unit: str = AUTO,
    skip_bad: bool = False,
    fit: Fit = "refuse",
    align: bool = False,
    speed: str | float = ORIGINAL,
    depth: int | Literal["trace"] = DEPTH,
    overlap: Overlap = "order",
    verify: bool = False,
    tape: StrPath | None = None,
    data: Data = "digest",
    strict: bool = False,
    seed: int | None = None,
    console: Console | None = None,
) -> TraceReplay:
    """Do on disks what a trace says, in its order across all devices, by one worker.

    Args:
        trace: a file, as in `traces.open`; `-` is standard input.
        disks: where it is done.
        mapping: for devices of the trace, and `*` for all others, the disk: "DISK", or "DISK+OFFSET" for where on it.
            A device that is not in it goes to the disk of its name; a single one to a single disk.
        format: as in `traces.open`.
        action: as in `traces.open`.
        time_unit: as in `traces.open`.
        skip_bad: as in `traces.open`.
        fit: what becomes of requests past the end of the room that a device has (to the next device on the disk, or to
            the disk's end). "refuse" refuses the trace; "scale" shrinks the device's offsets in proportion; "wrap"
            takes them modulo the room; "clip" cuts off what is beyond.
        align: take all blocks of the disk that a request touches; else one that is not in whole blocks is refused.
        speed: "original", "2x" or 2 (twice as fast), or "max".
        depth: so many requests under way at once, at most. What has to wait for that is late. "trace" is, with each
            request, as many as were under way with it in the traced system, where the trace tells.
        overlap: as in `record`.
        verify: compare what is read with what was written before in the replay, and read all of that once more at the
            end. The report says how many blocks were wrong. Not with overlap "race", where nobody knows the order.
        tape: a tape to record it on; None records nothing.
        data: as in `record`, and without meaning where nothing is recorded.
        strict: as in `record`, and without meaning where nothing is recorded. Each token is waited for, so it is late
            more often.
        seed: of the run, which draws nothing at random.
        console: for those who show runs on a terminal.

    Raises:
        TraceError: the trace cannot be read or has no place on the disks; nothing on any disk was touched.
        UsageError: an argument is impossible.
        TraceReplayInterrupted: a KeyboardInterrupt, when it had begun.
        DiskError, TapeError, RingUnavailable, WorkerDied, KeyboardInterrupt: as in `record`.
    """
    refuse_in_worker()
    given = disk_setup.checked(disks)
    factor = speed_of(speed)
    _check(fit, depth)
    if verify and overlap == "race":
        raise UsageError("overlap 'race' leaves unknown what a block has to hold: it cannot be verified")
    checked_seed(1, seed)
    entries = [_entry(device, place) for device, place in (mapping or {}).items()]
    options: dict[str, Any] = {"action": action, "time_unit": time_unit, "skip_bad": skip_bad}
    as_traced = depth == AS_IN_THE_TRACE
    name = os.fspath(trace)
    shown = STDIN_NAME if name == STDIN else name
    with _readable_twice(name, recorded=tape is not None) as path:
        with _named(path, shown), traces.open(path, format, under_way=as_traced, **options) as opened:
            facts = surveyed(opened)
        if as_traced and not opened.completions:
            raise TraceError(
                f"{shown} does not say when requests completed: it has not one completion; give a depth"
            )
        plan = Plan(
            path=os.path.abspath(path),
            format=opened.format,
            fingerprint=fingerprint(opened.files),
            places=tuple(_places(facts["devices"], entries, given, shown)),
            fit=fit,
            align=align,
            speed=factor,
            depth=depth if isinstance(depth, int) else facts["under_way_max"],
            under_way=as_traced,
            verify=verify,
            side_file="",
            **options,
        )
        if facts["last_ns"] is not None and not latest_due_fits(facts["last_ns"], factor):
            raise UsageError(f"at speed {speed} the trace takes longer than a clock of 64 bits goes")
        _check_requests(plan, shown)
        how: dict[str, Any] = {"disks": given, "seed": seed, "overlap": overlap, "console": console}
        if tape is not None:
            # It alone uses its disks, and a token that it had to wait for would make it late.
            how |= {"tape": tape, "data": data, "strict": strict}
        report = {
            "trace": name,
            "trace_requests": facts["requests"],
            "skipped": opened.skipped,
            "speed": speed,
            "overlap": overlap,
        }
        result = _carried_out(plan, how, report)
    return TraceReplay(result, _report(plan, report, result))


def _carried_out(plan: Plan, how: Mapping[str, Any], report: Mapping[str, Any]) -> Result:
    """The result of the run."""
    with side_file() as beside:
        try:
            run = runs.record if "tape" in how else runs.run
            return run(main, arguments=replace(plan, side_file=beside), **how)
        except KeyboardInterrupt as interrupt:
            # With words where the run had begun.
            if not interrupt.args:
                raise
            returned = read_so_far(place_of(beside, 0, 0)) or {}
            tape = os.fspath(how["tape"]) if "tape" in how else None
            run_facts = {"mode": "record" if tape else "plain", "tape": tape, "digest": None}
            so_far = _report_of(plan, report, run_facts, returned, interrupted=True)
            raise TraceReplayInterrupted(str(interrupt), so_far) from None


def speed_of(speed: str | float) -> float:
    """How many times faster than in the trace: 0 for "max"; `UsageError` if it is no speed."""
    if speed == ORIGINAL:
        return 1.0
    if speed == AS_FAST_AS_IT_GOES:
        return 0.0
    text = speed.removesuffix("x") if isinstance(speed, str) and speed.endswith("x") else speed
    factor = 0.0
    if not isinstance(text, bool):
        with contextlib.suppress(ValueError, TypeError):
            factor = float(text)
    # Text without an x might be meant as anything.
    if not 1e-6 <= factor <= 1e9 or (isinstance(speed, str) and not speed.endswith("x")):
        raise UsageError(
            f"speed {speed!r} must be {ORIGINAL}, {AS_FAST_AS_IT_GOES}, or a number and x, as in 2x"
        )
    return factor


def _check(fit: str, depth: int | str) -> None:
    if fit not in FITS:
        raise UsageError(f"fit {fit!r} must be one of: {', '.join(FITS)}")
    if depth == AS_IN_THE_TRACE:
        return
    if isinstance(depth, bool) or not isinstance(depth, int) or not 1 <= depth <= DEPTH_MAX:
        raise UsageError(
            f"depth {depth!r} must be {AS_IN_THE_TRACE!r} or a whole number from 1 to {DEPTH_MAX}"
        )


def _entry(device: str, place: str) -> Entry:
    disk, plus, offset = place.partition("+")
    if not disk or (plus and not offset):
        raise UsageError(
            f"device {device!r} is mapped onto {place!r}: expected DISK or DISK+OFFSET, as in a+64M"
        )
    try:
        return Entry(device, disk, parse_size(offset) if plus else 0)
    except DiskError as error:
        raise UsageError(f"device {device!r} is mapped onto {place!r}: {error}") from None


@contextlib.contextmanager
def _readable_twice(name: str, *, recorded: bool) -> Iterator[str]:
    """The path of the trace; of what can be read only once, of a copy that goes with the context or the process."""
    is_stream = name == STDIN or (os.path.exists(name) and not (os.path.isfile(name) or os.path.isdir(name)))
    if not is_stream:
        yield name
        return
    shown = STDIN_NAME if name == STDIN else name
    if recorded:
        raise TraceError(
            f"{shown} can be read only once, and a replay of the tape reads the trace again: give a file"
        )
    with contextlib.ExitStack() as stack:
        try:
            copy = stack.enter_context(tempfile.TemporaryFile())
            source = sys.stdin.buffer if name == STDIN else stack.enter_context(open(name, "rb"))
            shutil.copyfileobj(source, copy)
            copy.flush()
        except OSError as error:
            raise TraceError(f"cannot keep a copy of {shown} in a temporary file: {error.strerror}") from None
        # It has no name of its own.
        path = f"/proc/{os.getpid()}/fd/{copy.fileno()}"
        with _named(path, shown):
            yield path


@contextlib.contextmanager
def _named(path: str, name: str) -> Iterator[None]:
    """Errors name the trace as the user did, not its copy."""
    try:
        yield
    except TraceError as error:
        if path == name or path not in str(error):
            raise
        raise TraceError(str(error).replace(path, name)) from None


def _places(
    devices: Sequence[Mapping[str, Any]], entries: Sequence[Entry], disks: Sequence[Disk], trace: str
) -> Iterator[Place]:
    """Of each device its place; `TraceError` where it has none."""
    names = [str(device["name"]) for device in devices]
    found = resolved(entries, names, [disk.name for disk in disks], trace=trace)
    headers = _looked_at(disks)
    index_of = {header.name: index for index, header in enumerate(headers)}
    begins: dict[str, set[int]] = {header.name: {header.size} for header in headers}
    for entry in found:
        header = headers[index_of[entry.disk]]
        if entry.offset % header.block_size or entry.offset >= header.size:
            raise TraceError(
                f"device {entry.device!r} is mapped onto offset {entry.offset} of disk {header.name!r}, which is not "
                f"a multiple of its block size {header.block_size} below its size {header.size}"
            )
        begins[entry.disk].add(entry.offset)
    for device, entry in zip(devices, found, strict=True):
        header = headers[index_of[entry.disk]]
        end = min(begin for begin in begins[entry.disk] if begin > entry.offset)
        yield Place(
            device=entry.device,
            disk=index_of[entry.disk],
            disk_name=entry.disk,
            offset=entry.offset,
            room=end - entry.offset,
            block=header.block_size,
            end=device["offset_end"] or 0,
        )


class _SeenEnough(Exception):
    """Ends a look at disks as an error does: a file that it made goes again."""


def _looked_at(disks: Sequence[Disk]) -> list[tape_pb2.DiskHeader]:
    """The disks as the run will find them, sizes and blocks; nothing is changed. `DiskError` as from the run."""
    found: list[tape_pb2.DiskHeader] = []
    plain = [replace(disk, snapshot=None, undo=False) for disk in disks]
    with contextlib.suppress(_SeenEnough), disk_setup.prepared(plain, workers=1, tape=None) as headers:
        found += headers
        raise _SeenEnough
    return found


def _check_requests(plan: Plan, name: str) -> None:
    """Raise `TraceError` for the first request that has no place on its disk."""
    placing = plan.placing()
    with plan.open() as trace, _named(plan.path, name):
        before = 0
        for batch in trace:
            refused = placing.refused(batch)
            if refused is not None:
                row, why = refused
                raise TraceError(f"{name}: request {before + row + 1}: {why}")
            before += len(batch)


def _report(plan: Plan, report: Mapping[str, Any], result: Result) -> dict[str, Any]:
    returned = result.returns[0] if isinstance(result.returns[0], dict) else {}
    run_facts = {"mode": result.mode, "tape": result.tape, "digest": result.digest}
    return _report_of(plan, report, run_facts, returned, interrupted=False)


def _report_of(
    plan: Plan,
    report: Mapping[str, Any],
    run_facts: Mapping[str, Any],
    returned: Mapping[str, Any],
    *,
    interrupted: bool,
) -> dict[str, Any]:
    return {
        "trace": report["trace"],
        "format": plan.format,
        **run_facts,
        "requests": sum(one["requests"] for one in returned.get("kinds", {}).values()),
        "interrupted": interrupted,
        **report,
        "devices": [
            {"name": place.device, "disk": place.disk_name, "offset": place.offset, "room": place.room}
            for place in plan.places
        ],
        "fit": plan.fit,
        "align": plan.align,
        "depth": AS_IN_THE_TRACE if plan.under_way else plan.depth,
        **returned,
    }
