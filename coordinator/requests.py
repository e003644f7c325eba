"""One request of a replay as people see it: those who watch it, and those who stop at it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ringtape.coordinator.columns import u64
from ringtape.coordinator.words import kind_name
from ringtape.proto import messages_pb2

_FLAGS: dict[int, str] = {
    messages_pb2.REQUEST_FLAG_FUA: "fua",
    messages_pb2.REQUEST_FLAG_DATA_ONLY: "data-only",
}


@dataclass(frozen=True, slots=True)
class ReplayedRequest:
    """A request that a program has made again in a replay, as the tape has it.

    Attributes:
        id: its id, the same as in the recording.
        worker: index of the worker.
        sequence: the worker's own number of it, from 0.
        checkpoint: how many checkpoints the worker had passed.
        kind: "read", "write", "write_zeroes", "discard" or "fsync".
        disk: name of the disk.
        offset: bytes; 0 for fsync.
        length: bytes; 0 for fsync.
        flags: "fua" or "data-only", where it has one.
        digest: xxh3-64 of what it writes; None for what writes nothing, and below data level digest.
    """

    id: int
    worker: int
    sequence: int
    checkpoint: int
    kind: str
    disk: str
    offset: int
    length: int
    flags: tuple[str, ...]
    digest: int | None

    def __str__(self) -> str:
        words = f"request id {self.id}, {self.kind}{''.join(f' {flag}' for flag in self.flags)}"
        if self.kind != "fsync":
            words += f" of {self.length} bytes at {self.offset}"
        return f"{words} on disk {self.disk!r}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the run rows of requests are: row i has id `first_id + i` and the sequence `first_sequence + i`."""

    worker: int
    checkpoint: int
    first_id: int
    first_sequence: int


def request_of(
    columns: messages_pb2.Requests, row: int, place: Place, disks: Sequence[str]
) -> ReplayedRequest:
    """One row of request columns."""
    kind, flag = columns.kind[row], columns.flags[row]
    return ReplayedRequest(
        id=place.first_id + row,
        worker=place.worker,
        sequence=place.first_sequence + row,
        checkpoint=place.checkpoint,
        kind=kind_name(kind),
        disk=disks[int.from_bytes(columns.disk[2 * row : 2 * row + 2], "little")],
        offset=u64(columns.offset, row),
        length=u64(columns.length, row),
        flags=flag_names(flag),
        digest=u64(columns.digest, row) if columns.digest and kind == messages_pb2.KIND_WRITE else None,
    )


def flag_names(flags: int) -> tuple[str, ...]:
    """What a request's flags are called."""
    return tuple(name for flag, name in _FLAGS.items() if flags & flag)
