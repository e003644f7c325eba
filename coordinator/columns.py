"""Columns of the wire: their row counts, and the check that they hold together."""

from __future__ import annotations

import numpy as np

from ringtape.coordinator.errors import ProtocolError
from ringtape.coordinator.tape.slices import Completions, Requests
from ringtape.proto import messages_pb2

KIND_FSYNC = messages_pb2.KIND_FSYNC
KIND_MAX = messages_pb2.KIND_FSYNC
_U16 = np.dtype("<u2")
_OCTETS = bytes(range(256))
_KINDS = _OCTETS[1 : KIND_MAX + 1]


def check_requests(columns: Requests, *, disks: int, digests: bool, contents: bool = False) -> int:
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
    # Removing all bytes that are allowed is the fastest way through a few rows and through thousands.
    if kind.translate(None, _KINDS):
        raise ProtocolError(f"a batch of requests has the unknown kind {max(kind) if min(kind) else 0}")
    if not _disks_known(columns.disk, disks):
        raise ProtocolError("a batch of requests names a disk that the run does not have")
    return count


def _disks_known(column: bytes, disks: int) -> bool:
    """Are all values of the u16 column below `disks`?"""
    if disks <= len(_OCTETS):
        return not column[1::2].strip(b"\0") and not column[::2].translate(None, _OCTETS[:disks])
    return not column or int(np.frombuffer(column, _U16).max()) < disks


def check_completions(columns: Completions, *, digests: bool, contents: bool = False) -> int:
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


def u64(column: bytes, row: int) -> int:
    """One value of a u64 column."""
    return int.from_bytes(column[8 * row : 8 * row + 8], "little")
