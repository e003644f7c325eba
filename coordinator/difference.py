"""What there is to say about data that is not the tape's: where it differs, and what had written it last.

Responsible for finding both out once a replay has diverged, never before: it reads the tape from its start, as a
stream. It asks for the worker's data piece by piece and holds one piece of it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ringtape.coordinator.conductor import AskData
from ringtape.coordinator.errors import DifferentData, Divergence, LastWriter
from ringtape.coordinator.tape.contents import TapeContents
from ringtape.coordinator.tape.frames import Problem
from ringtape.coordinator.tape.reader import TapeReader
from ringtape.coordinator.tape.runs import BlockView
from ringtape.coordinator.tape.table import Table, requests_of
from ringtape.coordinator.words import kind_name
from ringtape.proto import messages_pb2
from ringtape.proto.contents import PIECE_BYTES
from ringtape.proto.errors import TapeError

LINE_BYTES = 16
LINES_MAX = 8
_CHANGES = (messages_pb2.KIND_WRITE, messages_pb2.KIND_WRITE_ZEROES, messages_pb2.KIND_DISCARD)


def explain(tape: str, error: Divergence, ask: AskData) -> None:
    """Add to a divergence over data what the tape, read anew, and the worker's data tell about it."""
    data = error.data
    if data is None or error.request_id is None:
        return
    try:
        with TapeReader.open(tape) as reader:
            request = _request(reader, error.request_id)
            start, length = int(request["offset"]), int(request["length"])
            if data.is_read:
                length = data.length
            first = _add_difference(error, data, reader.contents, start, ask) if data.contents else None
            if data.is_read:
                end = start + length
                if first is not None:
                    start, end = start + first, start + first + 1
                error.last_writer = last_writer(reader, error.request_id, int(request["disk"]), start, end)
    except (TapeError, Problem):
        return  # the divergence stands by itself, and the tape's damage is not what ended the replay


def last_writer(reader: TapeReader, request_id: int, disk: int, start: int, end: int) -> LastWriter:
    """What wrote any of these bytes of a disk last, of the requests before this one that had succeeded by its end."""
    last: Table | None = None
    flying: dict[int, Table] = {}
    for block in reader.blocks():
        for row in _changes(block, request_id, disk, start, end):
            flying[int(row["id"])] = row
        awaited = np.array([request_id, *flying], dtype=np.uint64)
        for place in np.flatnonzero(np.isin(block.completed_ids, awaited)).tolist():
            id_ = int(block.completed_ids[place])
            if id_ == request_id:
                return _in_words(reader, last)
            row, result = flying.pop(id_), _result(block, place)
            written = result if row["kind"] == messages_pb2.KIND_WRITE else int(row["length"])
            if result < 0 or not written or int(row["offset"]) + written <= start:
                continue  # it failed, or ended before it came to the range
            if last is None or id_ > int(last["id"]):
                last = row
    return _in_words(reader, last)


def _request(reader: TapeReader, request_id: int) -> Table:
    for block in reader.blocks(reader.seek(request_id=request_id)):
        row: Table = requests_of(block)[request_id - block.first_id]
        return row
    raise AssertionError(f"seek found a block with request {request_id}, and there is none")


def _changes(block: BlockView, request_id: int, disk: int, start: int, end: int) -> Table:
    """The block's requests before this one that change any of the range."""
    tables = block.tables
    offset, length = np.frombuffer(tables.offset, dtype="<u8"), np.frombuffer(tables.length, dtype="<u8")
    kind = np.frombuffer(tables.kind, dtype="u1")
    ids = np.arange(block.first_id, block.first_id + len(kind), dtype=np.uint64)
    # A tape may have lengths whose ends are beyond 2^64: the difference of offsets never is.
    reaches = (offset >= start) | (np.uint64(start) - offset < length)
    rows = (
        np.isin(kind, _CHANGES)
        & (np.frombuffer(tables.disk, dtype="<u2") == disk)
        & (offset < end)
        & reaches
        & (ids < request_id)
    )
    return requests_of(block)[rows] if rows.any() else np.zeros(0, dtype=np.uint64)


def _result(block: BlockView, place: int) -> int:
    return int(np.frombuffer(block.tables.result, dtype="<i8")[place])


def _in_words(reader: TapeReader, row: Table | None) -> LastWriter:
    if row is None:
        return LastWriter()
    disk = reader.header.disks[int(row["disk"])].name
    words = f"{kind_name(int(row['kind']))} of {row['length']} bytes at {row['offset']} on disk {disk!r}"
    return LastWriter(int(row["worker"]), int(row["checkpoint"]), int(row["id"]), words)


def _add_difference(
    error: Divergence, data: DifferentData, contents: TapeContents, offset: int, ask: AskData
) -> int | None:
    """Set `difference`; where the data differs first. None if the worker does not tell what it has."""
    start = 0
    for piece in contents.pieces(data.contents, data.length):
        actual = ask(data.sequence, start, len(piece))
        if len(actual) != len(piece):
            return None
        recorded = np.frombuffer(piece, dtype="u1")
        differ = np.flatnonzero(recorded != np.frombuffer(actual, dtype="u1"))
        if len(differ):
            error.difference = _dump(offset + start, bytes(piece), actual, differ)
            return start + int(differ[0])
        start += PIECE_BYTES
    return None


def _dump(offset: int, recorded: bytes, actual: bytes, differ: npt.NDArray[np.int64]) -> str:
    """The first lines that differ."""
    lines = np.unique(differ // LINE_BYTES).tolist()
    width = 3 * LINE_BYTES - 1
    text = [f"{'offset':<12}  {'the tape has':<{width}}  the program has"]
    for line in lines[:LINES_MAX]:
        part = slice(LINE_BYTES * line, LINE_BYTES * (line + 1))
        text.append(
            f"{offset + LINE_BYTES * line:<#12x}  {recorded[part].hex(' '):<{width}}  {actual[part].hex(' ')}"
        )
    rest = len(lines) - LINES_MAX
    if rest > 0:
        text.append(f"and {rest} more lines of this piece of {len(recorded)} bytes")
    return "\n".join(text)
