"""`ringtape tape info`: a tape at a glance.

It reads the tape once, as a stream, and prints what is whole before it lets a damage through.
"""

from __future__ import annotations

import datetime
import json
import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ringtape import console
from ringtape.coordinator.tape import Joined, Table, TapeReader
from ringtape.proto import messages_pb2, tape_pb2
from ringtape.proto.errors import TapeDamaged
from ringtape.tape.opening import how_it_ends, joined_until_damage, opened
from ringtape.tape.words import KINDS, level_name, short

_ENDS = {
    tape_pb2.Seal.END_FINISHED: "finished",
    tape_pb2.Seal.END_WORKER_DIED: "worker died",
    tape_pb2.Seal.END_INTERRUPTED: "interrupted",
    tape_pb2.Seal.END_ERROR: "error",
    tape_pb2.Seal.END_DIVERGED: "diverged",
    tape_pb2.Seal.END_STALLED: "stalled",
    tape_pb2.Seal.END_STOPPED: "stopped",
}
_UNSEALED = "unsealed"
_NOTES = ("log", "captured", "outcome")  # what is said of a tape even where it has none


@dataclass
class _Count:
    requests: int = 0
    bytes: int = 0  # asked for
    moved: int = 0  # read or written, by what the kernel said


@dataclass
class _Counts:
    """What the blocks of a tape hold, added up."""

    by_disk: list[dict[int, _Count]]
    requests: int = 0
    completions: int = 0
    failed: int = 0
    tokens: int = 0
    notes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_NOTES, 0))
    raised: int = 0
    first_ns: int | None = None
    last_ns: int | None = None

    def add(self, joined: Joined) -> None:
        """One more block."""
        tables = joined.block.tables
        self.requests += len(joined.made)
        self.completions += len(tables.result) // 8
        self.failed += int((np.frombuffer(tables.result, dtype="<i8") < 0).sum())
        self.tokens += len(tables.released)
        for note in tables.notes:
            what = note.WhichOneof("what") or "unknown"
            self.notes[what] = self.notes.get(what, 0) + 1
            self.raised += note.outcome.raised
        first_ns, last_ns = int(tables.run_ns.min()), int(tables.run_ns.max())
        self.first_ns = first_ns if self.first_ns is None else min(first_ns, self.first_ns)
        self.last_ns = last_ns if self.last_ns is None else max(last_ns, self.last_ns)
        for count, rows in self._by_disk_and_kind(joined.made):
            count.requests += len(rows)
            count.bytes += int(rows["length"].sum(dtype=np.uint64))
        for count, rows in self._by_disk_and_kind(joined.completed):
            if rows["kind"][0] in (messages_pb2.KIND_READ, messages_pb2.KIND_WRITE):
                count.moved += int(rows["result"].clip(0).sum())

    def _by_disk_and_kind(self, rows: Table) -> list[tuple[_Count, Table]]:
        both = rows["disk"].astype(np.uint32) << 8 | rows["kind"]
        found = np.unique(both).tolist()
        counts = [self.by_disk[one >> 8].setdefault(one & 0xFF, _Count()) for one in found]
        if len(found) == 1:
            return [(counts[0], rows)]
        return [(count, rows[both == one]) for count, one in zip(counts, found, strict=True)]


def print_info(path: str, *, as_json: bool) -> None:
    """Print what the tape is of, what it holds and how it ends.

    Raises TapeError, TapeDamaged after what is whole was printed.
    """
    damage: list[TapeDamaged] = []
    with opened(path, "reading") as reader:
        counts = _Counts([{} for _ in reader.header.disks])
        for joined in joined_until_damage(reader, damage):
            counts.add(joined)
    facts = _info(path, os.stat(path).st_size, reader, counts, damage)
    if as_json:
        print(json.dumps(facts))
    else:
        _print_info(facts)
    if damage:
        raise damage[0]


def _info(
    path: str, size: int, reader: TapeReader, counts: _Counts, damage: list[TapeDamaged]
) -> dict[str, Any]:
    header, seal = reader.header, reader.seal
    if damage:
        ended, text = "damaged", str(damage[0])
    elif seal is not None:
        ended, text = _ENDS.get(seal.end, "unknown"), seal.text
    else:
        ended, text = _UNSEALED, how_it_ends(reader)
    return {
        "tape": path,
        "bytes": size,
        "format": reader.version,
        "ended": ended,
        "ended_text": text,
        "digest": seal.digest if seal is not None else None,
        "elapsed_s": seal.elapsed_ns / 1e9 if seal is not None else None,
        "replay_of": header.replay_of or None,
        "cut_of": header.cut.of if header.HasField("cut") else None,
        "cut_first_id": header.cut.first_id if header.HasField("cut") else None,
        "program": header.program or None,
        "program_file": header.program_file or None,
        "program_sha256": header.program_sha256.hex() or None,
        "arguments": header.arguments_text,
        "workers": header.workers,
        "seed": header.seed,
        "hash_seed": header.hash_seed,
        "data": level_name(header.data),
        "overlap": header.overlap,
        "leased": header.leased,
        "policy": header.policy,
        "started_at": _time(header.started_at_ns),
        "ringtape": header.ringtape_version,
        "python": header.python_version,
        "kernel": header.kernel_version,
        **_counted(counts, size),
        "contents": reader.contents.count,
        "contents_bytes": reader.contents.bytes,
        "disks": [_disk(disk, found) for disk, found in zip(header.disks, counts.by_disk, strict=True)],
    }


def _counted(counts: _Counts, size: int) -> dict[str, Any]:
    """What there is of everything, over all disks."""
    by_kind = {
        KINDS[kind]: _count_of([found[kind] for found in counts.by_disk if kind in found])
        for kind in KINDS
        if any(kind in found for found in counts.by_disk)
    }
    others = sum(number for what, number in counts.notes.items() if what not in _NOTES)
    return {
        "requests": counts.requests,
        "completions": counts.completions,
        "failed_requests": counts.failed,
        "checkpoints": counts.tokens,
        "log_lines": counts.notes["log"],
        "captured": counts.notes["captured"],
        "programs_ended": counts.notes["outcome"],
        "programs_raised": counts.raised,
        "other_notes": others,
        "kinds": by_kind,
        "moved_bytes": sum(count["moved_bytes"] for count in by_kind.values()),
        "first_id": 1 if counts.requests else None,
        "last_id": counts.requests or None,
        "first_ns": counts.first_ns,
        "last_ns": counts.last_ns,
        "bytes_per_request": size / counts.requests if counts.requests else None,
    }


def _count_of(counts: list[_Count]) -> dict[str, int]:
    return {
        "requests": sum(count.requests for count in counts),
        "bytes": sum(count.bytes for count in counts),
        "moved_bytes": sum(count.moved for count in counts),
    }


def _disk(disk: tape_pb2.DiskHeader, found: dict[int, _Count]) -> dict[str, Any]:
    return {
        "name": disk.name,
        "path": disk.path,
        "size": disk.size,
        "block_size": disk.block_size,
        "direct": disk.direct,
        "block_device": disk.block_device,
        "fresh": disk.fresh,
        "made": disk.made,
        "workers": list(disk.workers) or None,
        "undo": disk.undo,
        "snapshot": disk.snapshot or None,
        "fingerprint": disk.initial.digest.hex() if disk.HasField("initial") else None,
        "fingerprint_method": disk.initial.method if disk.HasField("initial") else None,
        "kinds": {KINDS[kind]: _count_of([found[kind]]) for kind in KINDS if kind in found},
    }


def _print_info(facts: dict[str, Any]) -> None:
    what = "a recording"
    if facts["replay_of"]:
        what = f"a replay of {facts['replay_of']}"
    ended = facts["ended"] + (f": {facts['ended_text']}" if facts["ended_text"] else "")
    took = "" if facts["elapsed_s"] is None else f", {facts['elapsed_s']:.3f} s"
    raised = f", {facts['programs_raised']} of them raised" if facts["programs_raised"] else ""
    failed = f", {facts['failed_requests']:,} of them failed" if facts["failed_requests"] else ""
    others = f", {facts['other_notes']:,} others" if facts["other_notes"] else ""
    tokens = "tokens leased" if facts["leased"] else "tokens asked for"
    lines = {
        "program": facts["program"] or "without a name",
        "arguments": short(facts["arguments"]),
        "started": f"{facts['started_at']}{took}",
        "ended": ended,
        "digest": facts["digest"] or "none: there is no seal",
        "workers": f"{facts['workers']}, {facts['programs_ended']} programs ended{raised}",
        "seed": str(facts["seed"]),
        "settings": f"data {facts['data']}, overlap {facts['overlap']}, policy {facts['policy']}, {tokens}",
        "made with": f"ringtape {facts['ringtape']}, Python {facts['python']}, Linux {facts['kernel']}",
        "requests": f"{facts['requests']:,}, {facts['completions']:,} completed{failed}",
        "checkpoints": f"{facts['checkpoints']:,}",
        "notes": f"{facts['log_lines']:,} log lines, {facts['captured']:,} captured values{others}",
    }
    if facts["data"] == "full":
        lines["contents"] = f"{facts['contents']:,} of {facts['contents_bytes']:,} bytes"
    if facts["requests"]:
        lines["moved"] = f"{facts['moved_bytes']:,} bytes"
        lines["span"] = (
            f"ids {facts['first_id']:,} to {facts['last_id']:,}, "
            f"{facts['first_ns'] / 1e9:.6f} s to {facts['last_ns'] / 1e9:.6f} s of the run"
        )
        lines["size"] = f"{facts['bytes_per_request']:.1f} bytes a request"
    console.print_facts(f"{facts['tape']}: {what}, {facts['bytes']:,} bytes, format {facts['format']}", lines)
    for disk in facts["disks"]:
        marks = [word for word in ("direct", "fresh", "made", "undo") if disk[word]]
        marks.insert(0, "block device" if disk["block_device"] else "file")
        if disk["snapshot"]:
            marks.append(f"snapshot {disk['snapshot']}")
        if disk["workers"]:
            marks.append(f"workers {' '.join(map(str, disk['workers']))}")
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
