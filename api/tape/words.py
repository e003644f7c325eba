"""What is on a tape in words: rows as lines for people and as objects for JSON.

It prints nothing, and knows no more of a note than what it says: captured values stay bytes.
"""

from __future__ import annotations

import errno
from typing import Any

from ringtape import console
from ringtape.coordinator.tape import CompletionRow, NoteRow, RequestRow, Row
from ringtape.coordinator.tape.rows import TokenRow
from ringtape.coordinator.words import kind_name
from ringtape.proto import messages_pb2, wire_pb2

KINDS = {kind: kind_name(kind) for kind in messages_pb2.Kind.values() if kind}
KIND_OF = {name: kind for kind, name in KINDS.items()}
FLAGS = {messages_pb2.REQUEST_FLAG_FUA: "fua", messages_pb2.REQUEST_FLAG_DATA_ONLY: "data-only"}
_MODES: dict[int, str] = {wire_pb2.Checkpoint.MODE_WAIT: "wait", wire_pb2.Checkpoint.MODE_POLL: "poll"}
_TEXT_MAX = 200


def level_name(level: int) -> str:
    """`order`, `digest`, ...: a level of data as the options name it."""
    try:
        return messages_pb2.DataLevel.Name(level).removeprefix("DATA_LEVEL_").lower()
    except ValueError:
        return "unknown"


def row_fields(row: Row) -> dict[str, Any]:
    """A row as `--json` has it."""
    if isinstance(row, RequestRow):
        return {
            "row": "request",
            "id": row.id,
            "worker": row.worker,
            "sequence": row.sequence,
            "checkpoint": row.checkpoint,
            "kind": KINDS[row.kind],
            "disk": row.disk,
            "offset": row.offset,
            "length": row.length,
            "flags": flag_names(row.flags),
            "digest": hex_digest(row.digest),
            "covers": row.covers,
            "at_ns": row.at_ns,
        }
    if isinstance(row, CompletionRow):
        return {
            "row": "completion",
            "id": row.id,
            "worker": row.worker,
            "sequence": row.sequence,
            "result": row.result,
            "digest": hex_digest(row.digest),
            "at_ns": row.at_ns,
        }
    if isinstance(row, TokenRow):
        return {
            "row": "token",
            "number": row.number,
            "worker": row.worker,
            "checkpoint": row.checkpoint,
            "mode": _MODES[row.mode],
            "deadline_ns": row.deadline_ns or None,
            "clock_ns": row.clock_ns,
            "released": list(row.ids),
            "delivered": row.delivered,
            "at_ns": row.at_ns,
        }
    return _note_fields(row)


def _note_fields(row: NoteRow) -> dict[str, Any]:
    fields: dict[str, Any] = {"row": row.what, "worker": row.worker, "checkpoint": row.checkpoint}
    if row.what == "log":
        fields["text"] = row.note.log
    elif row.what == "captured":
        captured = row.note.captured
        fields |= {"name": captured.name, "raised": captured.raised, "pickled_bytes": len(captured.pickled)}
    elif row.what == "sent":
        sent = row.note.sent
        fields |= {"to": sent.to, "bytes": sent.size, "digest": sent.digest.hex()}
    elif row.what == "barrier":
        fields["barrier"] = row.note.barrier
    elif row.what == "outcome":
        outcome = row.note.outcome
        fields["raised"] = outcome.raised
        if outcome.raised:
            fields |= {"exception": outcome.exception, "message": outcome.text, "where": outcome.where}
        else:
            fields |= {"returned": outcome.summary, "digest": outcome.digest.hex()}
    return fields | {"at_ns": row.at_ns}


def row_line(row: Row) -> str:
    """A row as a person reads it: time in the run, worker, the checkpoint it had passed, what."""
    checkpoint = "" if isinstance(row, CompletionRow) else f"c{row.checkpoint}"
    return f"{row.at_ns / 1e9:>12.6f}  w{row.worker:<3} {checkpoint:<7} {_row_words(row)}"


def _row_words(row: Row) -> str:
    if isinstance(row, RequestRow):
        words = f"request {row.id}: {KINDS[row.kind]} {row.disk}"
        if row.kind == messages_pb2.KIND_FSYNC:
            words += f", covers {row.covers}"
        else:
            words += f" offset {row.offset} length {row.length}"
        words += "".join(f" {flag}" for flag in flag_names(row.flags))
        return words + (f" data {hex_digest(row.digest)}" if row.digest else "")
    if isinstance(row, CompletionRow):
        return f"completion {row.id}: {result_words(row.result)}" + (
            f" data {hex_digest(row.digest)}" if row.digest else ""
        )
    if isinstance(row, TokenRow):
        released = ", ".join(map(str, row.ids)) or "nothing"
        until = f", waited until {row.deadline_ns} ns" if row.deadline_ns else ""
        mode = ", poll" if row.mode == wire_pb2.Checkpoint.MODE_POLL else ""
        messages = f", delivers {row.delivered}" if row.delivered else ""
        return f"token {row.number}: releases {released}{messages}; clock {row.clock_ns} ns{until}{mode}"
    if row.what == "log":
        return f"log: {short(row.note.log)}"
    if row.what == "captured":
        captured = row.note.captured
        how = "raised" if captured.raised else "returned"
        return f"captured {captured.name}: {how} a pickle of {len(captured.pickled)} bytes"
    if row.what == "sent":
        return f"sent {row.note.sent.size} bytes to worker {row.note.sent.to}: {row.note.sent.digest.hex()}"
    if row.what == "barrier":
        return f"arrived at barrier {short(row.note.barrier)}"
    if row.what != "outcome":
        return row.what
    outcome = row.note.outcome
    if outcome.raised:
        return f"end: raised {outcome.exception}: {short(outcome.text)}"
    return f"end: returned {short(outcome.summary)}"


def result_words(result: int) -> str:
    """A completion's result: how many bytes, or with which error it failed."""
    if result >= 0:
        return str(result)
    return f"failed with {errno.errorcode.get(-result, result)}"


def flag_names(flags: int) -> list[str]:
    """The names of the flags that are set."""
    return [name for bit, name in FLAGS.items() if flags & bit]


def hex_digest(digest: int | None) -> str | None:
    """A digest of data as it is shown."""
    return None if digest is None else f"{digest:016x}"


def short(text: str) -> str:
    """On one line, cut to a readable length, and nothing in it that a terminal would obey."""
    line = console.one_line(text[: 2 * _TEXT_MAX])
    line = line if len(line) <= _TEXT_MAX else f"{line[:_TEXT_MAX]}…"
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in line)
