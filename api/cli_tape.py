"""What `ringtape tape` prints: a tape at a glance, and a tape row by row.

It reads a tape as a stream, in bounded memory, and prints what is whole before it lets an error through. It never says
how a command ends: `cli` does.
"""

from __future__ import annotations

import datetime
import errno
import json
import os
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ringtape import console
from ringtape.coordinator.tape import (
    BlockView,
    CompletionRow,
    NoteRow,
    RequestRow,
    Row,
    TapeReader,
    TokenRow,
    iter_rows,
)
from ringtape.coordinator.words import kind_name
from ringtape.proto import messages_pb2, tape_pb2, wire_pb2
from ringtape.proto.errors import TapeDamaged

_KINDS = {kind: kind_name(kind) for kind in messages_pb2.Kind.values() if kind}
_FLAGS = {messages_pb2.REQUEST_FLAG_FUA: "fua", messages_pb2.REQUEST_FLAG_DATA_ONLY: "data-only"}
_LEVELS = {
    messages_pb2.DATA_LEVEL_ORDER: "order",
    messages_pb2.DATA_LEVEL_DIGEST: "digest",
    messages_pb2.DATA_LEVEL_FULL: "full",
}
_ENDS = {
    tape_pb2.Seal.END_FINISHED: "finished",
    tape_pb2.Seal.END_WORKER_DIED: "worker died",
    tape_pb2.Seal.END_INTERRUPTED: "interrupted",
    tape_pb2.Seal.END_ERROR: "error",
    tape_pb2.Seal.END_DIVERGED: "diverged",
    tape_pb2.Seal.END_STALLED: "stalled",
    tape_pb2.Seal.END_STOPPED: "stopped",
}
_MODES: dict[int, str] = {wire_pb2.Checkpoint.MODE_WAIT: "wait", wire_pb2.Checkpoint.MODE_POLL: "poll"}
_UNSEALED = "unsealed"
_TEXT_MAX = 200


# ---- at a glance


@dataclass
class _Count:
    requests: int = 0
    bytes: int = 0


@dataclass
class _Counts:
    """What the blocks of a tape hold, added up."""

    by_disk: list[dict[str, _Count]]
    requests: int = 0
    completions: int = 0
    failed: int = 0
    tokens: int = 0
    notes: Counter[str] = field(default_factory=Counter)
    raised: int = 0

    def add(self, block: BlockView) -> None:
        """One more block."""
        tables = block.tables
        self.requests += len(tables.kind)
        results = np.frombuffer(tables.result, dtype="<i8")
        self.completions += len(results)
        self.failed += int((results < 0).sum())
        self.tokens += len(tables.released)
        for note in tables.notes:
            self.notes[note.WhichOneof("what") or ""] += 1
            self.raised += note.outcome.raised
        disk = np.frombuffer(tables.disk, dtype="<u2").astype(np.uint32)
        length = np.frombuffer(tables.length, dtype="<u8")
        both = disk << 8 | np.frombuffer(tables.kind, dtype="u1")
        for one in np.unique(both).tolist():
            rows = both == one
            count = self.by_disk[one >> 8].setdefault(_KINDS[one & 0xFF], _Count())
            count.requests += int(rows.sum())
            count.bytes += int(length[rows].sum(dtype=np.uint64))


def print_info(path: str, *, as_json: bool) -> None:
    """Print what the tape is of, what it holds and how it ends.

    Raises TapeError, TapeDamaged after what is whole was printed.
    """
    with TapeReader.open(path) as reader:
        counts = _Counts([{} for _ in reader.header.disks])
        damage: TapeDamaged | None = None
        try:
            for block in reader.blocks():
                counts.add(block)
        except TapeDamaged as error:
            damage = error
        size = os.stat(path).st_size
        facts = _info(path, size, reader, counts, damage)
        if as_json:
            print(json.dumps(facts))
        else:
            _print_info(facts)
        if damage is not None:
            raise damage


def _info(
    path: str, size: int, reader: TapeReader, counts: _Counts, damage: TapeDamaged | None
) -> dict[str, Any]:
    header, seal = reader.header, reader.seal
    if damage is not None:
        ended, text = "damaged", str(damage)
    elif seal is not None:
        ended, text = _ENDS.get(seal.end, "unknown"), seal.text
    else:
        ended, text = _UNSEALED, "a run is writing it" if reader.being_written else "the recording was cut"
    return {
        "tape": path,
        "bytes": size,
        "format": reader.version,
        "ended": ended,
        "ended_text": text,
        "digest": seal.digest if seal is not None else None,
        "elapsed_s": seal.elapsed_ns / 1e9 if seal is not None else None,
        "replay_of": header.replay_of or None,
        "program": header.program or None,
        "program_file": header.program_file or None,
        "program_sha256": header.program_sha256.hex() or None,
        "arguments": header.arguments_text,
        "workers": header.workers,
        "seed": header.seed,
        "hash_seed": header.hash_seed,
        "data": _LEVELS.get(header.data, "unknown"),
        "overlap": header.overlap,
        "policy": header.policy,
        "started_at": _time(header.started_at_ns),
        "ringtape": header.ringtape_version,
        "python": header.python_version,
        "kernel": header.kernel_version,
        "requests": counts.requests,
        "completions": counts.completions,
        "failed_requests": counts.failed,
        "checkpoints": counts.tokens,
        "log_lines": counts.notes["log"],
        "captured": counts.notes["captured"],
        "contents": reader.contents.count,
        "contents_bytes": reader.contents.bytes,
        "programs_ended": counts.notes["outcome"],
        "programs_raised": counts.raised,
        "disks": [_disk(disk, found) for disk, found in zip(header.disks, counts.by_disk, strict=True)],
    }


def _disk(disk: tape_pb2.DiskHeader, found: dict[str, _Count]) -> dict[str, Any]:
    return {
        "name": disk.name,
        "path": disk.path,
        "size": disk.size,
        "block_size": disk.block_size,
        "direct": disk.direct,
        "block_device": disk.block_device,
        "fresh": disk.fresh,
        "made": disk.made,
        "undo": disk.undo,
        "snapshot": disk.snapshot or None,
        "fingerprint": disk.initial.digest.hex() if disk.HasField("initial") else None,
        "fingerprint_method": disk.initial.method if disk.HasField("initial") else None,
        "kinds": {
            kind: {"requests": found[kind].requests, "bytes": found[kind].bytes}
            for kind in _KINDS.values()
            if kind in found
        },
    }


def _print_info(facts: dict[str, Any]) -> None:
    what = f"a replay of {facts['replay_of']}" if facts["replay_of"] else "a recording"
    ended = facts["ended"] + (f": {facts['ended_text']}" if facts["ended_text"] else "")
    took = "" if facts["elapsed_s"] is None else f", {facts['elapsed_s']:.3f} s"
    raised = f", {facts['programs_raised']} of them raised" if facts["programs_raised"] else ""
    failed = f", {facts['failed_requests']:,} of them failed" if facts["failed_requests"] else ""
    lines = {
        "program": facts["program"] or "without a name",
        "arguments": _short(facts["arguments"]),
        "started": f"{facts['started_at']}{took}",
        "ended": ended,
        "digest": facts["digest"] or "none: there is no seal",
        "workers": f"{facts['workers']}, {facts['programs_ended']} programs ended{raised}",
        "seed": str(facts["seed"]),
        "settings": f"data {facts['data']}, overlap {facts['overlap']}, policy {facts['policy']}",
        "made with": f"ringtape {facts['ringtape']}, Python {facts['python']}, Linux {facts['kernel']}",
        "requests": f"{facts['requests']:,}, {facts['completions']:,} completed{failed}",
        "checkpoints": f"{facts['checkpoints']:,}",
        "notes": f"{facts['log_lines']:,} log lines, {facts['captured']:,} captured values",
    }
    if facts["data"] == "full":
        lines["contents"] = f"{facts['contents']:,} of {facts['contents_bytes']:,} bytes"
    console.print_facts(f"{facts['tape']}: {what}, {facts['bytes']:,} bytes, format {facts['format']}", lines)
    for disk in facts["disks"]:
        marks = [word for word in ("direct", "fresh", "made", "undo") if disk[word]]
        if disk["snapshot"]:
            marks.append(f"snapshot {disk['snapshot']}")
        marks.insert(0, "block device" if disk["block_device"] else "file")
        print(
            f"disk {disk['name']}: {disk['path']}, {disk['size']:,} bytes, blocks of {disk['block_size']}, "
            f"{', '.join(marks)}"
        )
        for kind, count in disk["kinds"].items():
            of_bytes = f"{count['bytes']:>18,} bytes" if kind != "fsync" else ""
            print(f"  {kind:<12}  {count['requests']:>12,}{of_bytes}")


def _time(since_1970_ns: int) -> str:
    try:
        utc = datetime.datetime.fromtimestamp(since_1970_ns / 1e9, datetime.UTC)
    except (OverflowError, ValueError, OSError):
        return f"{since_1970_ns} ns after 1970"
    return utc.isoformat(timespec="milliseconds")


# ---- row by row


def print_rows(path: str, *, as_json: bool) -> None:
    """Print every row, as a stream; on standard error, that the tape has no seal if it has none.

    Raises TapeError, TapeDamaged after what is whole was printed.
    """
    in_form = (lambda row: json.dumps(_row_fields(row))) if as_json else _row_line
    write = sys.stdout.write
    with TapeReader.open(path) as reader:
        for row in iter_rows(reader):
            write(in_form(row) + "\n")
        if reader.seal is None:
            sys.stdout.flush()
            why = "a run is writing it" if reader.being_written else "the recording was cut"
            console.say(
                f"ringtape: note: {path} is {_UNSEALED}: {why} after request id {reader.totals.requests}"
            )


def _row_fields(row: Row) -> dict[str, Any]:
    """A row as `--json` has it."""
    if isinstance(row, RequestRow):
        return {
            "row": "request",
            "id": row.id,
            "worker": row.worker,
            "sequence": row.sequence,
            "checkpoint": row.checkpoint,
            "kind": _KINDS[row.kind],
            "disk": row.disk,
            "offset": row.offset,
            "length": row.length,
            "flags": _flags(row.flags),
            "digest": _hex(row.digest),
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
            "digest": _hex(row.digest),
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
    else:
        outcome = row.note.outcome
        fields["raised"] = outcome.raised
        if outcome.raised:
            fields |= {"exception": outcome.exception, "message": outcome.text, "where": outcome.where}
        else:
            fields |= {"returned": outcome.summary, "digest": outcome.digest.hex()}
    return fields | {"at_ns": row.at_ns}


def _row_line(row: Row) -> str:
    """A row as a person reads it: time in the run, worker, the checkpoint it had passed, what."""
    checkpoint = "" if isinstance(row, CompletionRow) else f"c{row.checkpoint}"
    return f"{row.at_ns / 1e9:>12.6f}  w{row.worker:<3} {checkpoint:<7} {_row_words(row)}"


def _row_words(row: Row) -> str:
    if isinstance(row, RequestRow):
        words = f"request {row.id}: {_KINDS[row.kind]} {row.disk}"
        if row.kind == messages_pb2.KIND_FSYNC:
            words += f", covers {row.covers}"
        else:
            words += f" offset {row.offset} length {row.length}"
        words += "".join(f" {flag}" for flag in _flags(row.flags))
        return words + (f" data {_hex(row.digest)}" if row.digest else "")
    if isinstance(row, CompletionRow):
        failed = row.result < 0
        result = f"failed with {errno.errorcode.get(-row.result, row.result)}" if failed else str(row.result)
        return f"completion {row.id}: {result}" + (f" data {_hex(row.digest)}" if row.digest else "")
    if isinstance(row, TokenRow):
        released = ", ".join(map(str, row.ids)) or "nothing"
        until = f", waited until {row.deadline_ns} ns" if row.deadline_ns else ""
        mode = ", poll" if row.mode == wire_pb2.Checkpoint.MODE_POLL else ""
        messages = f", delivers {row.delivered}" if row.delivered else ""
        return f"token {row.number}: releases {released}{messages}; clock {row.clock_ns} ns{until}{mode}"
    if row.what == "log":
        return f"log: {_short(row.note.log)}"
    if row.what == "captured":
        captured = row.note.captured
        how = "raised" if captured.raised else "returned"
        return f"captured {captured.name}: {how} a pickle of {len(captured.pickled)} bytes"
    if row.what == "sent":
        return f"sent {row.note.sent.size} bytes to worker {row.note.sent.to}: {row.note.sent.digest.hex()}"
    if row.what == "barrier":
        return f"arrived at barrier {_short(row.note.barrier)}"
    outcome = row.note.outcome
    if outcome.raised:
        return f"end: raised {outcome.exception}: {_short(outcome.text)}"
    return f"end: returned {_short(outcome.summary)}"


def _flags(flags: int) -> list[str]:
    return [name for bit, name in _FLAGS.items() if flags & bit]


def _hex(digest: int | None) -> str | None:
    return None if digest is None else f"{digest:016x}"


def _short(text: str) -> str:
    """On one line, cut to a readable length, and nothing in it that a terminal would obey."""
    line = console.one_line(text[: 2 * _TEXT_MAX])
    line = line if len(line) <= _TEXT_MAX else f"{line[:_TEXT_MAX]}…"
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in line)
