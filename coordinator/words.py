"""Requests, notes and waits in words, for the messages of a divergence."""

from __future__ import annotations

from collections.abc import Sequence

from ringtape.coordinator.columns import u64
from ringtape.proto import messages_pb2, wire_pb2

_FLAGS = {1: " fua", 2: " data-only"}


def kind_name(kind: int) -> str:
    """`read`, `write`, `write_zeroes`, `discard` or `fsync`."""
    return messages_pb2.Kind.Name(kind).removeprefix("KIND_").lower()


def request_in_words(
    columns: messages_pb2.Requests, row: int, disks: Sequence[str], *, data: bool = False
) -> str:
    """One row of request columns; with `data` also the digest of what it writes."""
    kind = columns.kind[row]
    disk = disks[int.from_bytes(columns.disk[2 * row : 2 * row + 2], "little")]
    name = kind_name(kind) + _FLAGS.get(columns.flags[row], "")
    if kind == messages_pb2.KIND_FSYNC:
        return f"{name} on disk {disk!r}"
    words = f"{name} of {u64(columns.length, row)} bytes at {u64(columns.offset, row)} on disk {disk!r}"
    if data:
        words += f" with data of digest {u64(columns.digest, row):016x}"
    return words


def note_in_words(note: messages_pb2.Note) -> str:
    """A log line, a captured call or a program's end."""
    what = note.WhichOneof("what")
    if what == "log":
        return f"log line {_short(note.log)}"
    if what == "captured":
        return f"a captured call of {note.captured.name}"
    if what == "sent":
        sent = note.sent
        return f"a message of {sent.size} bytes to worker {sent.to} (digest {sent.digest.hex()[:16]})"
    if what == "barrier":
        return f"the arrival at barrier {_short(note.barrier)}"
    return outcome_in_words(note.outcome)


def outcome_in_words(outcome: messages_pb2.Outcome) -> str:
    """What a program returned or raised."""
    if outcome.raised:
        return f"the program's end by {outcome.exception}: {_short(outcome.text)}"
    return f"the program's return of {outcome.summary} (pickle {outcome.digest.hex()[:16]})"


def waits_in_words(batch: wire_pb2.Batch) -> str:
    """What a worker waits for."""
    what = batch.WhichOneof("waits")
    if what == "checkpoint":
        return checkpoint_in_words(batch.checkpoint.mode, batch.checkpoint.deadline_ns)
    if what == "capture":
        return f"a captured call of {batch.capture.name}"
    return outcome_in_words(batch.finish.outcome)


def checkpoint_in_words(mode: int, deadline_ns: int) -> str:
    """A checkpoint by what it waits for."""
    if mode == wire_pb2.Checkpoint.MODE_POLL:
        return "a checkpoint that does not wait"
    until = f" until {deadline_ns} ns" if deadline_ns else ""
    return f"a checkpoint that waits for a completion{until}"


def _short(text: str) -> str:
    return repr(text if len(text) <= 200 else text[:200] + "…")
