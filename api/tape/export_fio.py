"""A log that fio replays with `--read_iolog`: what was asked for, in the order and at the times at which it was.

Version 3 (a time in microseconds before every line). fio has no word for zeroes that a disk writes by itself, nor for
writes that go through: these become plain writes, which `write` says. It keeps what is within the window of
`in_time`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

import numpy as np

from ringtape.coordinator.tape import Table, TapeReader, iter_joined
from ringtape.proto import messages_pb2, tape_pb2
from ringtape.proto.errors import TapeDamaged
from ringtape.settings import UsageError
from ringtape.tape.in_time import InTime
from ringtape.tape.selection import Selection

_NAME_MAX = 255  # what fio reads a name into, less its end
_DATA_ONLY = "datasync"
_ACTIONS = {
    messages_pb2.KIND_READ: "read",
    messages_pb2.KIND_WRITE: "write",
    messages_pb2.KIND_WRITE_ZEROES: "write",
    messages_pb2.KIND_DISCARD: "trim",
    messages_pb2.KIND_FSYNC: "sync",
}
_ROW = np.dtype(
    [
        *(("at_ns", "<i8"), ("disk", "<u2"), ("kind", "u1"), ("flags", "u1")),
        *(("offset", "<u8"), ("length", "<u8")),
    ]
)


def paths_of(header: tape_pb2.Header, mapped: list[str]) -> list[str]:
    """What each disk is called: as `DISK=PATH` says, or where it was. Raises UsageError: fio could not read that."""
    paths = {disk.name: disk.path for disk in header.disks}
    for text in mapped:
        name, equals, path = text.partition("=")
        if not equals or not path:
            raise UsageError(f"--path {text!r} must be DISK=PATH")
        if name not in paths:
            raise UsageError(f"the tape has no disk {name!r}; it has {', '.join(paths) or 'none'}")
        paths[name] = path
    for name, path in paths.items():
        if len(path.encode()) > _NAME_MAX or path.split() != [path]:
            raise UsageError(
                f"fio cannot read {path!r} in a log: it takes {_NAME_MAX} bytes without spaces; "
                f"give disk {name!r} another name with --path {name}=PATH"
            )
    return list(paths.values())


def write(
    file: TextIO, reader: TapeReader, selection: Selection, paths: list[str], damage: list[TapeDamaged]
) -> list[str]:
    """Write the log; returns what it could not say. A damage is put into `damage`."""
    file.write("fio version 3 iolog\n")
    for action in ("add", "open"):
        file.write("".join(f"0 {path} {action}\n" for path in paths))
    in_time = InTime(_ROW)
    writer = _Writer(file, paths)
    counts = dict.fromkeys(_ACTIONS, 0)
    through = 0
    for made in made_of(reader, selection, damage):
        rows = np.zeros(len(made), dtype=_ROW)
        for name in ("disk", "kind", "flags", "offset", "length"):
            rows[name] = made[name]
        rows["at_ns"] = made["submitted_ns"]
        for kind in counts:
            counts[kind] += int((rows["kind"] == kind).sum())
        through += int((rows["flags"] & messages_pb2.REQUEST_FLAG_FUA != 0).sum())
        writer.write(in_time.take(rows))
    writer.write(in_time.rest())
    file.write("".join(f"{writer.last_us} {path} close\n" for path in paths))
    said = []
    if counts[messages_pb2.KIND_WRITE_ZEROES]:
        said.append(f"{counts[messages_pb2.KIND_WRITE_ZEROES]:,} write_zeroes are writes in the log")
    if through:
        said.append(f"{through:,} writes that went through (fua) are plain writes in the log")
    return said


def made_of(reader: TapeReader, selection: Selection, damage: list[TapeDamaged]) -> Iterator[Table]:
    """The selected requests in the order of their ids, without what came of them."""
    try:
        for joined in iter_joined(reader, selection.start(reader)):
            if selection.last_id is not None and joined.block.first_id > selection.last_id:
                return
            made = selection.of(joined.made)
            if len(made):
                yield made
    except TapeDamaged as error:
        damage.append(error)


class _Writer:
    """Writes lines; time counts from the first of them and does not go back."""

    def __init__(self, file: TextIO, paths: list[str]) -> None:
        self.last_us = 0
        self._file = file
        self._paths = paths
        self._first_ns: int | None = None

    def write(self, rows: np.ndarray[tuple[int], np.dtype[np.void]]) -> None:
        if not len(rows):
            return
        if self._first_ns is None:
            self._first_ns = int(rows["at_ns"][0])
        at_us = np.maximum((rows["at_ns"] - self._first_ns) // 1000, self.last_us)
        at_us = np.maximum.accumulate(at_us)
        self.last_us = int(at_us[-1])
        lines = []
        for us, disk, kind, flags, offset, length in zip(
            at_us.tolist(),
            *(rows[name].tolist() for name in ("disk", "kind", "flags", "offset", "length")),
            strict=True,
        ):
            action = _ACTIONS[kind]
            if kind == messages_pb2.KIND_FSYNC and flags & messages_pb2.REQUEST_FLAG_DATA_ONLY:
                action = _DATA_ONLY
            lines.append(f"{us} {self._paths[disk]} {action} {offset} {length}\n")
        self._file.write("".join(lines))
