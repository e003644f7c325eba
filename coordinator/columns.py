"""Columns of the wire: their row counts, slices of them, and the check that they hold together."""

from __future__ import annotations

import numpy as np

from ringtape.coordinator.errors import ProtocolError
from ringtape.proto import messages_pb2

KIND_FSYNC = messages_pb2.KIND_FSYNC
KIND_MAX = messages_pb2.KIND_FSYNC
_U16 = np.dtype("<u2")


def check_requests(
    columns: messages_pb2.Requests, *, disks: int, digests: bool, contents: bool = False
) -> int:
    """The number of rows, or `ProtocolError` if the columns do not hold together."""
    kind = columns.kind
    count = len(kind)
    agree = (
        len(columns.flags) == count
        and len(columns.disk) == 2 * count
        and len(columns.offset) == 8 * count
        and len(columns.length) == 8 * count
        and len(columns.digest) == (8 * count if digests else 0)
        and len(columns.fsync_covers) == 8 * kind.count(KIND_FSYNC)
        and len(columns.contents) == (8 * count if contents else 0)
    )
    if not agree:
        raise ProtocolError(f"a batch of {count} requests has columns of other lengths")
    if count and (min(kind) == 0 or max(kind) > KIND_MAX):
        raise ProtocolError(f"a batch of requests has the unknown kind {max(kind) if min(kind) else 0}")
    if count and np.frombuffer(columns.disk, _U16).max() >= disks:
        raise ProtocolError("a batch of requests names a disk that the run does not have")
    return count


def check_completions(columns: messages_pb2.Completions, *, digests: bool, contents: bool = False) -> int:
    """The number of rows, or `ProtocolError` if the columns do not hold together."""
    count, rest = divmod(len(columns.sequence), 8)
    agree = (
        not rest
        and len(columns.result) == 8 * count
        and len(columns.digest) == (8 * count if digests else 0)
        and len(columns.contents) == (8 * count if contents else 0)
    )
    if not agree:
        raise ProtocolError(f"a batch of {count} completions has columns of other lengths")
    return count


def slice_requests(columns: messages_pb2.Requests, start: int, stop: int) -> messages_pb2.Requests:
    """Rows `start` to `stop` as columns of their own."""
    if start == 0 and stop == len(columns.kind):
        return columns
    fsyncs = columns.kind.count(KIND_FSYNC, 0, start)
    until = fsyncs + columns.kind.count(KIND_FSYNC, start, stop)
    return messages_pb2.Requests(
        kind=columns.kind[start:stop],
        flags=columns.flags[start:stop],
        disk=columns.disk[2 * start : 2 * stop],
        offset=columns.offset[8 * start : 8 * stop],
        length=columns.length[8 * start : 8 * stop],
        digest=columns.digest[8 * start : 8 * stop],
        fsync_covers=columns.fsync_covers[8 * fsyncs : 8 * until],
        contents=columns.contents[8 * start : 8 * stop],
    )


def slice_completions(
    columns: messages_pb2.Completions, start: int, stop: int | None
) -> messages_pb2.Completions:
    """Rows `start` to `stop`, or to the end, as columns of their own."""
    first, last = 8 * start, None if stop is None else 8 * stop
    return messages_pb2.Completions(
        sequence=columns.sequence[first:last],
        result=columns.result[first:last],
        digest=columns.digest[first:last],
        contents=columns.contents[first:last],
    )


def u64(column: bytes, row: int) -> int:
    """One value of a u64 column."""
    return int.from_bytes(column[8 * row : 8 * row + 8], "little")
