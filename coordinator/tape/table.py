"""A tape as a table: a row a request, joined with its completion and its release, in NumPy arrays.

Responsible for the join, a block at a time: a request comes out with the block that released it. It holds one block
and the requests that are not released yet, and looks at no row by itself. For the order in which things happened see
`BlockView.runs`; for one row at a time, `iter_rows`.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ringtape.coordinator.tape.ledger import COMPLETIONS, REQUESTS, TOKENS
from ringtape.coordinator.tape.reader import Position, TapeReader
from ringtape.coordinator.tape.runs import BlockView
from ringtape.proto.messages_pb2 import KIND_FSYNC

Table = NDArray[Any]

NEVER = -1  # as a time: it did not happen, or not on this tape
ROW = np.dtype(
    [
        ("id", "<u8"),
        ("worker", "<u2"),
        ("sequence", "<u8"),  # among the worker's requests, from 0
        ("checkpoint", "<u8"),  # the last one that the worker had passed; 0 before the first
        ("kind", "u1"),  # of messages_pb2.Kind
        ("flags", "u1"),  # of messages_pb2.RequestFlag
        ("disk", "<u2"),  # index into the header's disks
        ("offset", "<u8"),  # bytes
        ("length", "<u8"),  # bytes
        ("covers", "<i8"),  # of an fsync: how many of the worker's requests had completed; else -1
        ("request_digest", "<u8"),  # of what it wrote; 0 below DATA_LEVEL_DIGEST
        ("submitted_ns", "<i8"),  # since the start of the run, as all times; handed to the kernel
        ("completed_ns", "<i8"),  # taken from the kernel; NEVER
        ("result", "<i8"),  # bytes moved or minus errno; 0 where it did not complete
        ("digest", "<u8"),  # of what it read; 0 below DATA_LEVEL_DIGEST
        ("released_ns", "<i8"),  # given to the program; NEVER
        ("released_at", "<u8"),  # the worker's checkpoint that released it; 0 for none
    ]
)


class Joined(NamedTuple):
    """A block, and what became of requests in it, as arrays of `ROW` by id.

    `made` are the requests of the block itself, without what came of them; `completed` and `released` those that it
    completes and releases, with all that is known by then. `open_from` is the lowest id that is not released yet,
    beyond the last one made where all are.
    """

    block: BlockView
    made: Table
    completed: Table
    released: Table
    open_from: int


def iter_joined(
    reader: TapeReader, start: Position | None = None, leftover: list[Table] | None = None
) -> Iterator[Joined]:
    """The blocks of the tape, each with its requests joined to what came of them.

    From `start` on, requests that were made before it are left out. Those that were never released are put into
    `leftover` at the end, also where that is a damage. Raises what `TapeReader.blocks` raises.
    """
    yield from join(reader.blocks(start), leftover)


def join(blocks: Iterable[BlockView], leftover: list[Table] | None = None) -> Iterator[Joined]:
    """`iter_joined` for blocks that are taken one by one and follow one another."""
    waiting = np.zeros(0, dtype=ROW)
    made: list[Table] = []  # by blocks in which nothing completed
    try:
        for block in blocks:
            new = requests_of(block)
            if len(new):  # blocks of notes alone must not add up to a list that is searched each time
                made.append(new)
            completed = released = waiting[:0]
            if len(block.completed_ids) or len(block.released_ids):
                waiting = np.concatenate((waiting, *made))
                made.clear()
                places = _join(waiting, block)
                completed = waiting[places]
                done = waiting["released_at"] != 0
                released = waiting[done]
                waiting = waiting[~done]
            oldest = next((rows for rows in (waiting, *made) if len(rows)), None)
            open_from = block.first_id + len(new) if oldest is None else int(oldest["id"][0])
            yield Joined(block, new, completed, released, open_from)
    finally:
        if leftover is not None:
            leftover.extend(rows for rows in (waiting, *made) if len(rows))


def iter_table(reader: TapeReader, start: Position | None = None) -> Iterator[Table]:
    """The requests of the tape as arrays of `ROW`, each with the block that released it, by id within an array.

    The last arrays hold those that were never released. From `start` on, requests that were made before it are left
    out. Raises what `TapeReader.blocks` raises, after what was released before the damage; `reader.end` and
    `reader.seal` are set at the end.
    """
    leftover: list[Table] = []
    for joined in iter_joined(reader, start, leftover):
        if len(joined.released):
            yield joined.released
    yield from leftover


def requests_of(block: BlockView) -> Table:
    """The block's requests, without what came of them."""
    tables = block.tables
    layout = tables.layout
    rows = np.zeros(block.request_count, dtype=ROW)
    slot = layout.worker_of(REQUESTS)
    rows["id"] = np.arange(block.first_id, block.first_id + len(rows), dtype=np.uint64)
    rows["worker"] = layout.workers[slot]
    rows["sequence"] = layout.sequences(block.followed.before)
    passed = layout.per_row(REQUESTS, layout.before_in_block(TOKENS)).astype(np.uint64)
    rows["checkpoint"] = block.followed.before.tokens[slot] + passed
    for name, column, dtype in (
        ("kind", tables.kind, "u1"),
        ("flags", tables.flags, "u1"),
        ("disk", tables.disk, "<u2"),
        ("offset", tables.offset, "<u8"),
        ("length", tables.length, "<u8"),
        ("request_digest", tables.request_digest, "<u8"),
    ):
        if column:
            rows[name] = np.frombuffer(column, dtype=dtype)
    rows["covers"] = -1
    rows["covers"][rows["kind"] == KIND_FSYNC] = np.frombuffer(tables.fsync_covers, dtype="<i8")
    rows["submitted_ns"] = layout.per_row(REQUESTS, tables.run_ns).view(np.int64)
    rows["completed_ns"] = rows["released_ns"] = NEVER
    return rows


def _join(rows: Table, block: BlockView) -> NDArray[Any]:
    """Fills in what the block says about the rows, which are in the order of their ids. Which ones it completes."""
    tables = block.tables
    layout = tables.layout
    completed, known = _places(rows["id"], block.completed_ids)
    rows["result"][completed] = np.frombuffer(tables.result, dtype="<i8")[known]
    if tables.completion_digest:
        rows["digest"][completed] = np.frombuffer(tables.completion_digest, dtype="<u8")[known]
    rows["completed_ns"][completed] = layout.per_row(COMPLETIONS, tables.run_ns).view(np.int64)[known]
    place, known = _places(rows["id"], block.released_ids)
    checkpoint = block.followed.before.tokens[layout.worker_of(TOKENS)] + layout.ranks(TOKENS).astype(
        np.uint64
    )
    released = tables.released.astype(np.int64)
    rows["released_at"][place] = np.repeat(checkpoint + np.uint64(1), released)[known]
    at_ns = layout.per_row(TOKENS, tables.run_ns).view(np.int64)
    rows["released_ns"][place] = np.repeat(at_ns, released)[known]
    return completed


def _places(ids: NDArray[np.uint64], wanted: NDArray[np.uint64]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Where those ids are, and which of them are there at all."""
    if not len(ids):
        return np.zeros(0, dtype=np.int64), np.zeros(len(wanted), dtype=bool)
    place = np.searchsorted(ids, wanted)
    known = ids[np.minimum(place, len(ids) - 1)] == wanted
    return place[known], known
