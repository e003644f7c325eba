"""The text that blkparse prints of a trace: a line when a request is queued, when it is issued, when it completes.

What a tape does not have is made up: disks are devices 8,0, 8,16 and so on, a worker is a processor, a process and its
name. It keeps what is in flight, and what is within the window of `in_time`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from ringtape.coordinator.tape import Table, TapeReader, iter_joined
from ringtape.proto import messages_pb2, tape_pb2
from ringtape.proto.errors import TapeDamaged
from ringtape.tape.in_time import InTime
from ringtape.tape.selection import Selection

_MAJOR = 8
_MINORS = 16  # from one disk to the next, as for SCSI disks
_SECTOR_BYTES = 512
_FIRST_PID = 1000  # of worker 0
_LETTERS = {
    messages_pb2.KIND_READ: "R",
    messages_pb2.KIND_WRITE: "W",
    messages_pb2.KIND_WRITE_ZEROES: "W",
    messages_pb2.KIND_DISCARD: "D",
    messages_pb2.KIND_FSYNC: "FWS",
}
_FIELDS = ("worker", "disk", "kind", "flags", "offset", "length")
_ROW = np.dtype(
    [
        *(("at_ns", "<i8"), ("completes", "?"), ("worker", "<u2"), ("disk", "<u2"), ("kind", "u1")),
        *(("flags", "u1"), ("offset", "<u8"), ("length", "<u8"), ("error", "<i8")),
    ]
)


def devices_in_words(header: tape_pb2.Header) -> str:
    """Which device each disk is."""
    devices = [f"disk {disk.name} is {_device(index)}" for index, disk in enumerate(header.disks)]
    return ", ".join(devices) or "there are no disks"


def write(file: TextIO, reader: TapeReader, selection: Selection, damage: list[TapeDamaged]) -> None:
    """Write the trace, in the order of time. A damage is put into `damage`."""
    in_time = InTime(_ROW)
    numbers: dict[int, int] = {}  # of each processor: of its last line
    for rows in _events(reader, selection, damage):
        _write(file, in_time.take(rows), numbers)
    _write(file, in_time.rest(), numbers)


def _events(reader: TapeReader, selection: Selection, damage: list[TapeDamaged]) -> Iterator[NDArray[Any]]:
    try:
        for joined in iter_joined(reader, selection.start(reader)):
            made, completed = selection.of(joined.made), selection.of(joined.completed)
            if len(made) or len(completed):
                yield np.concatenate((_rows(made, "submitted_ns"), _rows(completed, "completed_ns")))
            if selection.last_id is not None and joined.open_from > selection.last_id:
                return
    except TapeDamaged as error:
        damage.append(error)


def _rows(requests: Table, at: str) -> NDArray[Any]:
    rows = np.zeros(len(requests), dtype=_ROW)
    for name in _FIELDS:
        rows[name] = requests[name]
    rows["at_ns"] = requests[at]
    rows["completes"] = at == "completed_ns"
    rows["error"] = np.minimum(requests["result"], 0)
    return rows


def _write(file: TextIO, rows: NDArray[Any], numbers: dict[int, int]) -> None:
    lines = []
    names = ("at_ns", "completes", *_FIELDS, "error")
    for at_ns, completes, worker, disk, kind, flags, offset, length, error in zip(
        *(rows[name].tolist() for name in names), strict=True
    ):
        letters = _LETTERS[kind]
        if flags & messages_pb2.REQUEST_FLAG_FUA:
            letters += "F"
        what = f"[{error}]" if completes else f"[worker{worker}]"
        if kind != messages_pb2.KIND_FSYNC:
            # A length that is no whole number of sectors takes up the last one.
            what = f"{offset // _SECTOR_BYTES} + {-(-length // _SECTOR_BYTES)} {what}"
        seconds, nanoseconds = divmod(at_ns, 1_000_000_000)
        pid = 0 if completes else _FIRST_PID + worker
        for action in "C" if completes else "QD":
            number = numbers[worker] = numbers.get(worker, 0) + 1
            lines.append(
                f"{_device(disk):>7} {worker:>2} {number:>8} {seconds:>5}.{nanoseconds:09d} {pid:>5} "
                f"{action:>2} {letters:>3} {what}\n"
            )
    file.write("".join(lines))


def _device(disk: int) -> str:
    return f"{_MAJOR},{_MINORS * disk}"
