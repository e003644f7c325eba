"""Looking into a replay: what `until`, `break_at` and `watch` ask for, understood and made ready before it begins.

Everything that is wrong with them is said here, in one line, before a worker is started or a disk is changed.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ringtape.coordinator.requests import ReplayedRequest, flag_names
from ringtape.coordinator.stops import Inspection, Stop
from ringtape.coordinator.tape.reader import TapeReader
from ringtape.coordinator.tape.table import ROW, requests_of
from ringtape.coordinator.watch import Range, Watch, WatchedRequest
from ringtape.coordinator.words import kind_name
from ringtape.engine import contents
from ringtape.engine.disks import parse_size
from ringtape.proto import tape_pb2, wire_pb2
from ringtape.proto.errors import DiskError
from ringtape.settings import UsageError

# All watched ranges together: the coordinator keeps a copy.
WATCH_BYTES_MAX = 64 << 20
# Breakpoints of `break_at="watch"`; beyond these, the first so many.
BREAKS_MAX = 1 << 16

One = TypeVar("One")

_ID_MAX = (1 << 63) - 1
_NUMBER = re.compile(r"[0-9]{1,19}")
_ZEROED_BY_DISCARD = ("/dev/loop", "/dev/zram")


@dataclass(frozen=True)
class Wanted:
    """What the user of a replay asked to see of it, as it was given; see `replay`."""

    until: int | str | None = None
    on_request: Callable[[ReplayedRequest], None] | None = None
    break_at: Sequence[int | str] = ()
    watch: Sequence[str] = ()
    on_watched: Callable[[WatchedRequest], None] | None = None

    def __post_init__(self) -> None:
        for name, called in (("on_request", self.on_request), ("on_watched", self.on_watched)):
            if called is not None and not callable(called):
                raise UsageError(f"{name} {called!r} is nothing that can be called")
        if self.watch and self.on_watched is None and "watch" not in self.break_at:
            raise UsageError("watch needs on_watched, which is told of the requests, or break_at='watch'")
        if self.on_watched is not None and not self.watch:
            raise UsageError("on_watched needs watch: the ranges to tell of, as DISK:OFFSET:LENGTH")
        if "watch" in self.break_at and not self.watch:
            raise UsageError("break at 'watch' needs a range to watch, as DISK:OFFSET:LENGTH")


def several(name: str, given: Iterable[One]) -> tuple[One, ...]:
    """What was given as a list; `UsageError` for one where a list belongs."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise UsageError(f"{name} is {given!r}: give a list")
    return tuple(given)


def inspection_of(wanted: Wanted, header: tape_pb2.Header) -> Inspection | None:
    """What goes along the tape with the replayer; None where nothing was asked for."""
    if wanted == Wanted():
        return None
    disks = [disk.name for disk in header.disks]
    watch = None
    if wanted.watch:
        ranges = [_range_of(text, header.disks) for text in wanted.watch]
        if sum(one.length for one in ranges) > WATCH_BYTES_MAX:
            raise UsageError(f"the watched ranges are over {WATCH_BYTES_MAX} bytes together: watch less")
        watch = Watch(ranges, disks, header.workers, wanted.on_watched or _nobody)
    return Inspection(
        disks, stop=_stop_of(wanted.until, header.workers), on_request=wanted.on_request, watch=watch
    )


def _nobody(_: WatchedRequest) -> None:
    pass


def _stop_of(until: int | str | None, workers: int) -> Stop | None:
    if until is None:
        return None
    if isinstance(until, int) and not isinstance(until, bool) and until > 0:
        return Stop(request_id=until)
    if isinstance(until, str):
        if until == "failure":
            return Stop()
        if _is_number(until) and int(until) > 0:
            return Stop(request_id=int(until))
        kind, _, place = until.partition(":")
        worker, _, checkpoint = place.partition(":")
        if kind == "checkpoint" and _is_number(worker) and _is_number(checkpoint) and int(checkpoint) > 0:
            if int(worker) >= workers:
                raise UsageError(
                    f"until {until}: the run has no worker {worker}; it has workers 0 to {workers - 1}"
                )
            return Stop(worker=int(worker), checkpoint=int(checkpoint))
    raise UsageError(
        f"until {until!r} is none of: a request id (from 1), checkpoint:WORKER:NUMBER (from 1), failure"
    )


def _is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None


def _range_of(text: str, disks: Sequence[tape_pb2.DiskHeader]) -> Range:
    name, first, second = [*text.split(":"), "", ""][:3] if text.count(":") == 2 else ("", "", "")
    if not (name and first and second):
        raise UsageError(f"watch {text!r}: expected DISK:OFFSET:LENGTH, as in a:0:64K")
    index = next((index for index, disk in enumerate(disks) if disk.name == name), None)
    if index is None:
        known = ", ".join(disk.name for disk in disks) or "none"
        raise UsageError(f"watch {text}: the tape has no disk {name!r}; its disks are: {known}")
    try:
        offset = 0 if re.fullmatch("0+", first) else parse_size(first)
        length = parse_size(second)
    except DiskError as error:
        raise UsageError(f"watch {text}: {error}") from None
    disk = disks[index]
    if offset + length > disk.size:
        raise UsageError(f"watch {text}: it ends after the disk, which has {disk.size} bytes")
    device = os.path.realpath(disk.path)
    zeroed = not disk.block_device or device.startswith(_ZEROED_BY_DISCARD)
    return Range(index, name, offset, length, discard_zeroes=zeroed)


def load(watch: Watch, headers: Sequence[tape_pb2.DiskHeader]) -> None:
    """Take in what the watched ranges of the disks hold, which are ready for the run."""
    watch.load(lambda one: contents.read_range(headers[one.disk].path, one.offset, one.length, name=one.name))


def breaks_of(wanted: Wanted, watch: Watch | None, reader: TapeReader) -> dict[int, list[wire_pb2.Break]]:
    """By worker, the requests before which its program is to stand still.

    Raises TapeError where the tape has no request of an id.
    """
    stop = _stop_of(wanted.until, reader.header.workers)
    last_id = (stop.request_id if stop is not None else None) or _ID_MAX
    breaks: dict[int, dict[int, str]] = {}
    for one in wanted.break_at:
        if one == "watch":
            assert watch is not None, "checked where it was given"
            _add_watched(breaks, watch, reader, last_id)
        else:
            _add_request(breaks, one, reader, last_id)
    return {
        worker: [wire_pb2.Break(sequence=sequence, text=text) for sequence, text in sorted(found.items())]
        for worker, found in breaks.items()
    }


def _add_request(
    breaks: dict[int, dict[int, str]], given: int | str, reader: TapeReader, last_id: int
) -> None:
    if isinstance(given, bool) or not _is_number(str(given)) or int(given) < 1:
        raise UsageError(f"break at {given!r}: expected a request id, from 1, or watch")
    request_id = int(given)
    if request_id > last_id:
        raise UsageError(f"break at {request_id}: the replay stops before it, after request id {last_id}")
    block = next(iter(reader.blocks(reader.seek(request_id=request_id))))
    rows = requests_of(block)
    _add(breaks, rows[rows["id"] == request_id][0], reader)


def _add_watched(breaks: dict[int, dict[int, str]], watch: Watch, reader: TapeReader, last_id: int) -> None:
    left = BREAKS_MAX
    for block in reader.blocks():
        rows = requests_of(block)
        touching = np.zeros(len(rows), dtype=bool)
        for one in watch.ranges:
            touching |= (
                (rows["disk"] == one.disk)
                & (rows["offset"] < one.end)
                & (rows["offset"] + rows["length"] > one.offset)
            )
        for row in rows[touching & (rows["id"] <= last_id)][:left]:
            _add(breaks, row, reader)
            left -= 1
        if not left or block.first_id > last_id:
            return


def _add(breaks: dict[int, dict[int, str]], row: Any, reader: TapeReader) -> None:
    fields: dict[str, int] = {name: int(row[name]) for name in ROW.names or ()}
    request = ReplayedRequest(
        id=fields["id"],
        worker=fields["worker"],
        sequence=fields["sequence"],
        checkpoint=fields["checkpoint"],
        kind=kind_name(fields["kind"]),
        disk=reader.header.disks[fields["disk"]].name,
        offset=fields["offset"],
        length=fields["length"],
        flags=flag_names(fields["flags"]),
        digest=None,
    )
    text = f"worker {request.worker}, after its checkpoint {request.checkpoint}, is about to make {request}"
    breaks.setdefault(request.worker, {})[request.sequence] = text


@contextlib.contextmanager
def terminal_for_workers(breaks: Iterable[int]) -> Iterator[str]:
    """While the context lasts workers may take the terminal, one at a time; gives the path of what they lock for it.

    Afterwards it is this process's again, even if a worker was killed that had it. Nothing without breaks.
    """
    if not list(breaks):
        yield ""
        return
    try:
        fd = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        raise UsageError("a breakpoint needs a terminal, and this process has none") from None
    if os.tcgetpgrp(fd) != os.getpgrp():
        os.close(fd)
        raise UsageError("a breakpoint needs the terminal, and this process runs in the background")
    lock = os.memfd_create("ringtape-debugger")
    try:
        yield f"/proc/{os.getpid()}/fd/{lock}"
    finally:
        _take_back(fd)
        os.close(lock)
        os.close(fd)


def _take_back(fd: int) -> None:
    """Put this process's group into the foreground of the terminal, from wherever it is."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        with contextlib.suppress(OSError):  # a terminal that has gone
            if os.tcgetpgrp(fd) != os.getpgrp():
                os.tcsetpgrp(fd, os.getpgrp())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
