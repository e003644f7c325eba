"""A tape as streams to hold against those of another tape: requests, and tokens, releases and notes by worker.

Responsible for saying the same thing in the same way whatever the blocks and runs of a tape are, and however its
workers raced: ids are global, all else is a worker's own, as in the digest of a run. It holds a block, what is in
flight, and what the other tape has not come to yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from ringtape.coordinator.tape import BlockView, Joined, TapeReader, iter_joined
from ringtape.coordinator.tape.layout import Layout
from ringtape.coordinator.tape.ledger import REQUESTS, TOKENS
from ringtape.proto import messages_pb2, tape_pb2
from ringtape.proto.errors import TapeDamaged, TapeError

Rows = NDArray[Any]

_NOTES = tape_pb2.TABLE_NOTES
# `place` grows along the tape: the number of the block, then that of the run in it.
_PLACE_BITS = 20
LATEST = 1 << 62  # beyond every place
# What one tape may be ahead of the other. Runs that are alike are never so far apart.
AHEAD_MAX = 1 << 20

REQUEST = np.dtype(
    [
        *(("place", "<i8"), ("id", "<u8"), ("worker", "<u2"), ("kind", "u1"), ("flags", "u1")),
        *(("disk", "<u4"), ("offset", "<u8"), ("length", "<u8"), ("request_digest", "<u8")),
        ("submitted_ns", "<i8"),
    ]
)
TOKEN = np.dtype(
    [
        *(("place", "<i8"), ("worker", "<u2"), ("checkpoint", "<u8"), ("requests", "<u8"), ("notes", "<u8")),
        *(("released", "<u8"), ("delivered", "<u8"), ("clock_ns", "<u8"), ("at_ns", "<i8")),
    ]
)
RELEASE = np.dtype(
    [
        *(("place", "<i8"), ("worker", "<u2"), ("checkpoint", "<u8"), ("id", "<u8"), ("sequence", "<u8")),
        *(("result", "<i8"), ("digest", "<u8"), ("completed_ns", "<i8"), ("released_ns", "<i8")),
    ]
)
NOTE = np.dtype(
    [
        *(("place", "<i8"), ("worker", "<u2"), ("checkpoint", "<u8"), ("nth", "<u8"), ("requests", "<u8")),
        # Number of the field, hash of what was called or to whom, hash of all.
        *(("what", "<u2"), ("name", "<u8"), ("content", "<u8"), ("at_ns", "<i8")),
    ]
)
STREAMS = {"request": REQUEST, "token": TOKEN, "release": RELEASE, "note": NOTE}
_ALL = -1  # as the worker of a stream that is not a worker's own


class Side:
    """One of two tapes. `disks` gives each of its disks a number that both tapes have."""

    def __init__(self, reader: TapeReader, disks: list[int]) -> None:
        self.reader = reader
        self.damage: TapeDamaged | None = None
        self.ended = False
        self.rows = 0  # requests and tokens so far
        self.streams: dict[tuple[str, int], Rows] = {}
        self.waiting = 0  # rows in `streams`
        self._disks = np.array(disks, dtype=np.uint32)
        self._joined: Iterator[Joined] = iter_joined(reader)
        self._notes: dict[int, int] = {}  # of each worker, so far
        self._since: dict[int, tuple[int, int]] = {}  # of each worker: a checkpoint, and the notes after it

    def pull(self) -> None:
        """Reads one more block."""
        try:
            joined = next(self._joined)
        except StopIteration:
            self.ended = True
            return
        except TapeDamaged as error:
            self.damage, self.ended = error, True
            return
        view = joined.block
        layout = view.tables.layout
        place = (view.number << _PLACE_BITS) + np.arange(len(view.tables.run_table), dtype=np.int64)
        self.rows += len(joined.made) + len(view.tables.released)
        self._append("request", _ALL, self._requests(joined, layout.per_row(REQUESTS, place)))
        notes = self._note_rows(view, layout, place)
        tokens = self._tokens(view, layout, place)
        releases = _releases(joined, tokens)
        for name, rows in (("token", tokens), ("release", releases), ("note", notes)):
            for worker in np.unique(rows["worker"]).tolist():
                self._append(name, worker, rows[rows["worker"] == worker])
        for worker, number in zip(layout.workers.tolist(), layout.totals(_NOTES).tolist(), strict=True):
            self._notes[worker] = self._notes.get(worker, 0) + number
        if self.waiting > AHEAD_MAX:
            raise TapeError(
                f"the tapes cannot be compared: at request id {self.reader.totals.requests} their workers"
                f" are further apart than {AHEAD_MAX} rows"
            )

    def drop(self, key: tuple[str, int], count: int) -> None:
        """The first so many rows of a stream have been compared."""
        self.streams[key] = self.streams[key][count:]
        self.waiting -= count

    def _append(self, name: str, worker: int, rows: Rows) -> None:
        known = self.streams.get((name, worker))
        self.streams[name, worker] = (
            rows if known is None or not len(known) else np.concatenate((known, rows))
        )
        self.waiting += len(rows)

    def _requests(self, joined: Joined, place: NDArray[np.int64]) -> Rows:
        rows = np.zeros(len(joined.made), dtype=REQUEST)
        for name in REQUEST.names or ():
            if name not in ("place", "disk"):
                rows[name] = joined.made[name]
        rows["place"] = place
        if len(rows):
            rows["disk"] = self._disks[joined.made["disk"]]
        return rows

    def _tokens(self, view: BlockView, layout: Layout, place: NDArray[np.int64]) -> Rows:
        tables, before = view.tables, view.followed.before
        slot = layout.worker_of(TOKENS)
        rows = np.zeros(len(tables.released), dtype=TOKEN)
        rows["place"] = layout.per_row(TOKENS, place)
        rows["worker"] = layout.workers[slot]
        rows["checkpoint"] = before.tokens[slot] + layout.ranks(TOKENS).astype(np.uint64) + np.uint64(1)
        made = layout.per_row(TOKENS, layout.before_in_block(REQUESTS)).astype(np.uint64)
        rows["requests"] = before.requests[slot] + made
        noted = np.array([self._notes.get(worker, 0) for worker in layout.workers.tolist()], dtype=np.int64)
        rows["notes"] = noted[slot] + layout.per_row(TOKENS, layout.before_in_block(_NOTES))
        rows["released"], rows["clock_ns"] = tables.released, tables.clock_ns
        if len(tables.delivered):
            rows["delivered"] = tables.delivered
        rows["at_ns"] = layout.per_row(TOKENS, tables.run_ns)
        return rows

    def _note_rows(self, view: BlockView, layout: Layout, place: NDArray[np.int64]) -> Rows:
        tables, before = view.tables, view.followed.before
        rows = np.zeros(len(tables.notes), dtype=NOTE)
        if not len(rows):
            return rows
        slot = layout.worker_of(_NOTES)
        rows["place"] = layout.per_row(_NOTES, place)
        rows["worker"] = layout.workers[slot]
        for name, counts, table in (
            ("checkpoint", before.tokens, TOKENS),
            ("requests", before.requests, REQUESTS),
        ):
            here = layout.per_row(_NOTES, layout.before_in_block(table)).astype(np.uint64)
            rows[name] = counts[slot] + here
        rows["at_ns"] = layout.per_row(_NOTES, tables.run_ns)
        for row, note in zip(rows, tables.notes, strict=True):
            row["what"], row["name"], row["content"] = _content(note)
            worker, checkpoint = int(row["worker"]), int(row["checkpoint"])
            then, count = self._since.get(worker, (checkpoint, 0))
            count = count if then == checkpoint else 0
            row["nth"] = count
            self._since[worker] = checkpoint, count + 1
        return rows


def _releases(joined: Joined, tokens: Rows) -> Rows:
    """Of each release of the tokens, in their order: what was released."""
    ids = joined.block.released_ids
    rows = np.zeros(len(ids), dtype=RELEASE)
    by_id = joined.released
    found = by_id[np.searchsorted(by_id["id"], ids)]
    for name in ("id", "sequence", "result", "digest", "completed_ns", "released_ns"):
        rows[name] = found[name]
    for name in ("place", "worker", "checkpoint"):
        rows[name] = np.repeat(tokens[name], tokens["released"].astype(np.int64))
    return rows


def _content(note: messages_pb2.Note) -> tuple[int, int, int]:
    """Which field a note has; a hash of what it is about (a call, a barrier, a worker); a hash of what counts."""
    what = note.WhichOneof("what") or ""
    compared = messages_pb2.Note()
    compared.CopyFrom(note)
    if what == "outcome":
        for name in ("traceback", "summary", "where", "pickled_bytes"):  # for people
            compared.outcome.ClearField(name)
    about = {"captured": note.captured.name, "barrier": note.barrier, "sent": str(note.sent.to)}.get(what, "")
    return (
        messages_pb2.Note.DESCRIPTOR.fields_by_name[what].number,
        xxhash.xxh3_64_intdigest(about.encode()),
        xxhash.xxh3_64_intdigest(compared.SerializeToString(deterministic=True)),
    )
