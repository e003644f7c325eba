"""Payloads into checked columns: what a header, a block and a seal must be for anything else to use them.

Responsible for every rule that can be checked on one message alone; `ledger` has the rules that need what came
before. It never reads files and never corrects: a message holds together or raises Problem. The writer sends
its own blocks through here too, before they reach the file, so that a mistake shows where it is made.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message
from numpy.typing import NDArray

from ringtape.coordinator.tape.frames import Problem
from ringtape.coordinator.tape.layout import Layout
from ringtape.proto import messages_pb2, tape_pb2, wire_pb2

U8, U16, U32, U64, I64 = (np.dtype(name) for name in ("u1", "<u2", "<u4", "<u8", "<i8"))
Column = NDArray[Any]
MessageT = TypeVar("MessageT", bound=Message)

BLOCK_ROWS_LIMIT = 1 << 16  # of all tables together; a writer stays well below
WORKERS_LIMIT = 1 << 16  # a worker is a u16 on the tape
DISKS_LIMIT = 1 << 16  # and so is a disk
# Top-level protobuf fields of one payload. Two bytes of payload can ask for a whole object, so they are
# counted before they are parsed. Enough for every row of a block to be a note, and for every disk.
FIELDS_LIMIT = BLOCK_ROWS_LIMIT + 64
# Fields of all messages within a payload that is longer than is harmless. Enough for every row to be an outcome with
# all its fields; so many numbers in a list count as one field.
NESTED_FIELDS_LIMIT = 1 << 20
NUMBERS_A_FIELD = 16
SMALL_PAYLOAD_BYTES = 1 << 20

KIND_LAST = messages_pb2.KIND_FSYNC
FLAGS_KNOWN = messages_pb2.REQUEST_FLAG_FUA | messages_pb2.REQUEST_FLAG_DATA_ONLY
MODE_LAST = wire_pb2.Checkpoint.MODE_POLL
DATA_LEVELS = (
    messages_pb2.DATA_LEVEL_ORDER,
    messages_pb2.DATA_LEVEL_DIGEST,
    messages_pb2.DATA_LEVEL_FULL,
)


class Shape(NamedTuple):
    """What a header says about the rows that follow."""

    workers: int
    disks: int
    digests: bool  # requests and completions carry a digest column
    contents: bool  # and a contents column
    # Of each disk that can be taken back: bytes of a block and of the disk.
    undo_blocks: dict[int, tuple[int, int]]

    @classmethod
    def of(cls, header: tape_pb2.Header) -> "Shape":
        """The shape of a header that `check_header` has passed."""
        full = header.data == messages_pb2.DATA_LEVEL_FULL
        digests = full or header.data == messages_pb2.DATA_LEVEL_DIGEST
        undo = {i: (disk.block_size, disk.size) for i, disk in enumerate(header.disks) if disk.undo}
        return cls(header.workers, len(header.disks), digests, full, undo)


def check_header(header: tape_pb2.Header) -> None:
    """Raises Problem for a header that no rows can be read by."""
    if not 1 <= header.workers <= WORKERS_LIMIT:
        raise Problem(f"its header names {header.workers} workers")
    if header.data not in DATA_LEVELS:
        raise Problem(f"its header names data level {header.data}, which this ringtape does not know")
    if len(header.disks) > DISKS_LIMIT:
        raise Problem(f"its header names {len(header.disks)} disks")
    names = {disk.name for disk in header.disks}
    if "" in names or len(names) != len(header.disks):
        raise Problem("its header names a disk twice or not at all")
    if any(disk.block_size == 0 for disk in header.disks):
        raise Problem("its header has a disk with blocks of 0 bytes")


def check_seal(seal: tape_pb2.Seal, disks: int) -> None:
    """Raises Problem for a seal whose values this version cannot mean."""
    if seal.end == tape_pb2.Seal.END_UNKNOWN or seal.end not in tape_pb2.Seal.End.values():
        raise Problem(
            f"its seal says that the run ended in way {seal.end}, which this ringtape does not know"
        )
    if any(made.disk >= disks for made in seal.made):
        raise Problem("its seal has the contents of a disk that its header does not name")


def parse(payload: bytes, message: MessageT) -> MessageT:
    """The payload as that message. Raises Problem when it is not one."""
    descriptor: Any = message.DESCRIPTOR  # its type is another in the stubs of each implementation
    _bound_fields(payload, descriptor)
    try:
        message.ParseFromString(payload)
    except DecodeError:
        raise Problem(f"it holds no {type(message).__name__.lower()} that can be parsed") from None
    return message


@dataclass(frozen=True, slots=True)
class Tables:
    """The columns of one block, checked. The arrays are views of the block's bytes."""

    layout: Layout
    first_id: int
    first_token: int
    run_table: Column
    run_worker: Column
    run_count: Column
    run_ns: Column
    kind: bytes
    flags: bytes
    disk: bytes
    offset: bytes
    length: bytes
    request_digest: bytes  # empty below DATA_LEVEL_DIGEST
    request_contents: bytes  # empty below DATA_LEVEL_FULL
    fsync_covers: bytes
    fsync_rows: Column  # the rows of requests that are fsyncs
    sequence: bytes
    result: bytes
    completion_digest: bytes  # empty below DATA_LEVEL_DIGEST
    completion_contents: bytes  # empty below DATA_LEVEL_FULL
    clock_ns: Column
    deadline_ns: Column
    mode: Column
    released: Column
    order: Column  # empty where every place is 0
    delivered: Column  # empty where none of them delivers anything
    notes: tuple[messages_pb2.Note, ...]

    @property
    def run_start(self) -> Column:
        """Of each run: where its rows begin in its table."""
        return self.layout.starts()

    @classmethod
    def of(cls, block: tape_pb2.Block, shape: Shape, layout: Layout | None = None) -> "Tables":
        """The checked columns of a block; `layout` is that of its runs, if it is known. Raises Problem."""
        table, worker, count, ns = _runs(block, shape)
        rows = int(count.sum(dtype=np.uint64))
        if rows > BLOCK_ROWS_LIMIT:
            raise Problem(f"its runs claim {rows} rows")
        if layout is None:
            layout = Layout(table, worker, count)
        requests, completions, tokens = block.requests, block.completions, block.tokens
        fsync_rows = _check_requests(requests, layout.rows(tape_pb2.TABLE_REQUESTS), shape)
        _check_completions(completions, layout.rows(tape_pb2.TABLE_COMPLETIONS), shape)
        clock, deadline, mode, released, order, delivered = _tokens(
            tokens, layout.rows(tape_pb2.TABLE_TOKENS)
        )
        return cls(
            layout=layout,
            first_id=block.first_id,
            first_token=block.first_token,
            run_table=table,
            run_worker=worker,
            run_count=count,
            run_ns=ns,
            kind=requests.kind,
            flags=requests.flags,
            disk=requests.disk,
            offset=requests.offset,
            length=requests.length,
            request_digest=requests.digest,
            request_contents=requests.contents,
            fsync_covers=requests.fsync_covers,
            fsync_rows=fsync_rows,
            sequence=completions.sequence,
            result=completions.result,
            completion_digest=completions.digest,
            completion_contents=completions.contents,
            clock_ns=clock,
            deadline_ns=deadline,
            mode=mode,
            released=released,
            order=order,
            delivered=delivered,
            notes=_notes(block, layout.rows(tape_pb2.TABLE_NOTES)),
        )


def _runs(block: tape_pb2.Block, shape: Shape) -> tuple[Column, Column, Column, Column]:
    runs = len(block.run_table)
    if not 0 < runs <= BLOCK_ROWS_LIMIT:
        raise Problem(f"it has {runs} runs")
    table = _column("run_table", block.run_table, U8, runs)
    worker = _column("run_worker", block.run_worker, U16, runs)
    count = _column("run_count", block.run_count, U32, runs)
    if int(table.min()) < tape_pb2.TABLE_REQUESTS or int(table.max()) > tape_pb2.TABLE_NOTES:
        raise Problem("it has a run of a table that this ringtape does not know")
    if int(worker.max()) >= shape.workers:
        raise Problem(f"it has a run of worker {int(worker.max())}, and the run has {shape.workers} workers")
    if int(count.min()) == 0:
        raise Problem("it has a run without rows")
    return table, worker, count, _column("run_ns", block.run_ns, U64, runs)


def _check_requests(requests: messages_pb2.Requests, rows: int, shape: Shape) -> Column:
    """The rows that are fsyncs."""
    kind = _column("kind", requests.kind, U8, rows)
    flags = _column("flags", requests.flags, U8, rows)
    disk = _column("disk", requests.disk, U16, rows)
    offset = _column("offset", requests.offset, U64, rows)
    length = _column("length", requests.length, U64, rows)
    _column("digest", requests.digest, U64, rows if shape.digests else 0)
    contents = _column("contents", requests.contents, U64, rows if shape.contents else 0)
    fsync_rows = np.flatnonzero(kind == messages_pb2.KIND_FSYNC)
    _column("fsync_covers", requests.fsync_covers, U64, len(fsync_rows))
    if rows == 0:
        return fsync_rows
    if int(kind.min()) == messages_pb2.KIND_UNKNOWN or int(kind.max()) > KIND_LAST:
        raise Problem("it has a request of a kind that this ringtape does not know")
    if int(np.bitwise_or.reduce(flags)) & ~FLAGS_KNOWN:
        raise Problem("it has a request with a flag that this ringtape does not know")
    if int(disk.max()) >= shape.disks:
        raise Problem(f"it has a request on disk {int(disk.max())}, and the run has {shape.disks} disks")
    if offset[fsync_rows].any() or length[fsync_rows].any():
        raise Problem("it has an fsync with an offset or a length")
    if shape.contents and ((contents != 0) != (kind == messages_pb2.KIND_WRITE)).any():
        raise Problem("it has a write without contents, or another request with some")
    return fsync_rows


def _check_completions(completions: messages_pb2.Completions, rows: int, shape: Shape) -> None:
    _column("sequence", completions.sequence, U64, rows)
    _column("result", completions.result, I64, rows)
    _column("digest", completions.digest, U64, rows if shape.digests else 0)
    _column("contents", completions.contents, U64, rows if shape.contents else 0)


def _tokens(tokens: tape_pb2.Tokens, rows: int) -> tuple[Column, Column, Column, Column, Column, Column]:
    mode = _column("mode", tokens.mode, U8, rows)
    released = _column("released", tokens.released, U32, rows)
    if rows and int(mode.max()) > MODE_LAST:
        raise Problem("it has a token for a checkpoint of a mode that this ringtape does not know")
    places = int(released.sum(dtype=np.uint64)) if tokens.order else 0
    order = _column("order", tokens.order, U32, places)
    clock = _column("clock_ns", tokens.clock_ns, U64, rows)
    deadline = _column("deadline_ns", tokens.deadline_ns, U64, rows)
    delivered = _column("delivered", tokens.delivered, U32, rows if tokens.delivered else 0)
    return clock, deadline, mode, released, order, delivered


def _notes(block: tape_pb2.Block, rows: int) -> tuple[messages_pb2.Note, ...]:
    notes = tuple(block.notes)
    if len(notes) != rows:
        raise Problem(f"it has {len(notes)} notes, and its runs claim {rows}")
    for note in notes:
        if note.WhichOneof("what") is None or note.after_requests:
            raise Problem("it has a note that this ringtape does not know")
    return notes


def _column(name: str, data: bytes, dtype: np.dtype[Any], rows: int) -> Column:
    if len(data) != rows * dtype.itemsize:
        raise Problem(f"its column {name} has {len(data)} bytes for {rows} rows of {dtype.itemsize}")
    return np.frombuffer(data, dtype=dtype)


def _bound_fields(payload: bytes, descriptor: Descriptor) -> None:
    """Raises Problem when the payload has more fields than any message of ours.

    Each of them may become an object of a hundred bytes and more, however short it is in the payload: without
    this, a few kilobytes of compressed tape make the parser fill the memory.
    """
    within = _within(descriptor) if len(payload) > SMALL_PAYLOAD_BYTES else {}
    _, waiting = _fields(payload, 0, len(payload), FIELDS_LIMIT, within)
    # All that is further in: fields of a oneof, say, may replace one another, and each is an object for a while.
    left = NESTED_FIELDS_LIMIT
    while waiting:
        start, end, message = waiting.pop()
        if message is None:
            count = (end - start) // NUMBERS_A_FIELD
        else:
            count, found = _fields(payload, start, end, left, _within(message))
            waiting.extend(found)
        left -= count
        if left < 0:
            raise Problem(f"its message has more than {NESTED_FIELDS_LIMIT} fields in all")


_Within: TypeAlias = tuple[
    int, int, Descriptor | None
]  # start and end of what is in a field, and its message


@functools.cache
def _within(descriptor: Descriptor) -> dict[int, Descriptor | None]:
    """The fields that have something within: their message, or None for a list of numbers."""
    return {
        field.number: field.message_type
        for field in descriptor.fields
        if field.message_type is not None or field.is_packed
    }


def _fields(
    payload: bytes, position: int, end: int, limit: int, within: Mapping[int, Descriptor | None]
) -> tuple[int, list[_Within]]:
    """How many fields there are, and those of `within` that are not empty."""
    found: list[_Within] = []
    for count in range(limit + 1):
        if position == end:
            return count, found
        tag, position = _varint(payload, position)
        wire_type = tag & 7
        if wire_type == 0:
            _, position = _varint(payload, position)
        elif wire_type == 1:
            position += 8
        elif wire_type == 2:
            length, start = _varint(payload, position)
            position = start + length
            if length and tag >> 3 in within:
                found.append((start, position, within[tag >> 3]))
        elif wire_type == 5:
            position += 4
        else:
            raise Problem("it holds no message that can be parsed")
        if position > end:
            raise Problem("its message ends inside a field")
    raise Problem(f"its message has more than {limit} fields")


def _varint(payload: bytes, position: int) -> tuple[int, int]:
    """A protobuf varint and where it ends."""
    value = 0
    for shift, byte in enumerate(payload[position : position + 10]):
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value, position + shift + 1
    raise Problem("its message ends inside a number, or the number has no end")
