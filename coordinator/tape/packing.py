"""A block in few bytes, and back.

Responsible for what can be foretold of a column from the columns before it: what is left is stored by `bits`. A
block is packed and unpacked by itself, so that a reader can begin at any block. Unpacking gives the plain `Block`,
which then goes through the same checks as one that was stored plainly: nothing here decides what is valid, only
what has a meaning at all.

What is foretold: a request's offset from the end of the one before it; a completion's request from how many had
completed; its result from the request's length; a token's clock from its time and its count from the completions
since the token before.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ringtape.coordinator.tape import bits, frames
from ringtape.coordinator.tape.bits import ColumnPacker, Values, unpack, unzigzag, zigzag
from ringtape.coordinator.tape.frames import Limit, Problem
from ringtape.coordinator.tape.layout import Before, Layout, Rows, changes
from ringtape.coordinator.tape.tables import BLOCK_ROWS_LIMIT, Tables, parse
from ringtape.proto import messages_pb2, tape_pb2
from ringtape.proto.messages_pb2 import KIND_FSYNC, KIND_WRITE

_RUN_TIMES = ("requests_ns", "completions_ns", "tokens_ns", "notes_ns")  # of tables 1 to 4
_FROM = tape_pb2.PackedRequests.OffsetFrom
_LATER_TRIES = 16  # blocks whose offsets are taken from where they were best taken from before


class Packer:
    """Packs the blocks of one tape."""

    def __init__(self) -> None:
        self._columns = ColumnPacker()
        self._offset_from = _FROM.OFFSET_FROM_ZERO
        self._tries_left = 0

    def pack(self, tables: Tables, before: Before) -> bytes:
        """The payload for checked columns, given what the workers in them had done before."""
        pack = self._columns.pack
        layout = tables.layout
        block = tape_pb2.PackedBlock(
            first_id=tables.first_id,
            first_token=tables.first_token,
            runs=len(tables.run_table),
            run_table=pack("run_table", _u64(tables.run_table)),
            run_worker=pack("run_worker", _u64(tables.run_worker)),
            run_count=pack("run_count", _u64(tables.run_count) - np.uint64(1)),
            start_ns=int(tables.run_ns[0]),
            requests_before=pack("requests_before", before.requests),
            completions_before=pack("completions_before", before.completions),
            tokens_before=pack("tokens_before", before.tokens),
        )
        steps = np.zeros(len(tables.run_ns), dtype=np.uint64)
        steps[1:] = zigzag(tables.run_ns[1:] - tables.run_ns[:-1])
        for table, name in enumerate(_RUN_TIMES, 1):
            setattr(block, name, pack(name, steps[tables.run_table == table]))
        if len(tables.kind):
            self._requests(block.requests, tables, layout, before)
        if tables.sequence:
            self._completions(block.completions, tables, layout, before)
        if len(tables.mode):
            self._tokens(block.tokens, tables, layout)
        if tables.notes:
            notes = tape_pb2.Notes(notes=tables.notes).SerializeToString()
            _fits(len(notes), "the notes of a block")
            block.notes_bytes, block.notes = len(notes), self._columns.part(notes)
        return block.SerializeToString()

    def _requests(
        self, packed: tape_pb2.PackedRequests, tables: Tables, layout: Layout, before: Before
    ) -> None:
        pack = self._columns.pack
        kind = np.frombuffer(tables.kind, dtype=np.uint8)
        disk = np.frombuffer(tables.disk, dtype="<u2")
        offset, length = _column(tables.offset), _column(tables.length)
        packed.kind = pack("kind", _u64(kind))
        packed.flags = pack("flags", _u64(np.frombuffer(tables.flags, dtype=np.uint8)))
        packed.disk = pack("disk", _u64(disk))
        packed.length = pack("length", length)
        packed.digest = pack("request_digest", _column(tables.request_digest))
        if tables.request_contents:
            packed.contents = pack("request_contents", _steps(_some(tables.request_contents)))
        if len(tables.fsync_rows):
            sequence = layout.sequences(before)[tables.fsync_rows]
            packed.fsync_covers = pack("fsync_covers", sequence - _column(tables.fsync_covers))
        worker = layout.worker_of(tape_pb2.TABLE_REQUESTS)
        if self._tries_left:
            self._tries_left -= 1
            ways = [self._offset_from]
        else:
            self._tries_left = _LATER_TRIES
            ways = [_FROM.OFFSET_FROM_ZERO, _FROM.OFFSET_FROM_END, _FROM.OFFSET_FROM_END_OF_KIND]
        tried = []
        for way in ways:
            values = _offsets_from(way, offset, length, _streams(way, worker, disk, kind))
            tried.append((pack(f"offset {way}", values), way))
        packed.offset, self._offset_from = min(tried, key=lambda one: len(one[0]))
        packed.offset_from = self._offset_from

    def _completions(
        self, packed: tape_pb2.PackedCompletions, tables: Tables, layout: Layout, before: Before
    ) -> None:
        pack = self._columns.pack
        sequence, result = _column(tables.sequence), _column(tables.result)
        packed.sequence = pack("sequence", zigzag(sequence - layout.completed(before)))
        lengths = layout.lengths_of(sequence, before, tables.kind, _column(tables.length))
        packed.result = pack("result", zigzag(result - lengths))
        packed.digest = pack("completion_digest", _column(tables.completion_digest))
        if tables.completion_contents:
            some = _column(tables.completion_contents) != 0
            packed.has_contents = pack("has_contents", _u64(some))
            packed.contents = pack("completion_contents", _steps(_some(tables.completion_contents)))

    def _tokens(self, packed: tape_pb2.PackedTokens, tables: Tables, layout: Layout) -> None:
        pack = self._columns.pack
        clock, deadline = tables.clock_ns, tables.deadline_ns
        packed.clock_ns = pack(
            "clock_ns", zigzag(clock - layout.per_row(tape_pb2.TABLE_TOKENS, tables.run_ns))
        )
        packed.mode = pack("mode", _u64(tables.mode))
        packed.released = pack("released", zigzag(_u64(tables.released) - layout.completed_since_token()))
        some = deadline != 0
        packed.has_deadline = pack("has_deadline", _u64(some))
        packed.deadline_ns = pack("deadline_ns", zigzag(deadline[some] - clock[some]))
        if len(tables.order):
            _fits(4 * len(tables.order), "the places of what a token releases")
            packed.order = self._columns.part(tables.order.tobytes())
        packed.delivered = pack("delivered", _u64(tables.delivered))


def unpack_block(
    payload: bytes, *, digests: bool, contents: bool = False
) -> tuple[tape_pb2.Block, Before, Layout]:
    """The plain block, not yet checked, what it says about what its workers had done before, and its layout.

    Raises Problem for a payload that says nothing that could be checked.
    """
    packed = parse(payload, tape_pb2.PackedBlock())
    if not 0 < packed.runs <= BLOCK_ROWS_LIMIT:
        raise Problem(f"it has {packed.runs} runs")
    table = _narrow("run_table", packed.run_table, packed.runs, np.dtype(np.uint8))
    worker = _narrow("run_worker", packed.run_worker, packed.runs, np.dtype("<u2"))
    count = unpack("run_count", packed.run_count, packed.runs)
    if int(count.max()) >= BLOCK_ROWS_LIMIT or int(count.sum()) + packed.runs > BLOCK_ROWS_LIMIT:
        raise Problem(f"its runs claim more than {BLOCK_ROWS_LIMIT} rows")
    count = count + np.uint64(1)
    layout = Layout(table, worker, count)
    steps = np.zeros(packed.runs, dtype=np.uint64)
    for number, name in enumerate(_RUN_TIMES, 1):
        of_table = table == number
        steps[of_table] = unzigzag(unpack(name, getattr(packed, name), int(of_table.sum())))
    run_ns = np.cumsum(steps, dtype=np.uint64) + np.uint64(packed.start_ns)
    workers = len(layout.workers)
    before = Before(
        layout.workers,
        unpack("requests_before", packed.requests_before, workers),
        unpack("completions_before", packed.completions_before, workers),
        unpack("tokens_before", packed.tokens_before, workers),
    )
    block = tape_pb2.Block(
        first_id=packed.first_id,
        first_token=packed.first_token,
        run_table=table.tobytes(),
        run_worker=worker.tobytes(),
        run_count=count.astype("<u4").tobytes(),
        run_ns=run_ns.tobytes(),
    )
    kind, length = _unpack_requests(packed.requests, block.requests, layout, before, digests)
    _unpack_completions(packed.completions, block.completions, layout, before, digests, kind, length)
    _unpack_tokens(packed.tokens, block.tokens, layout, run_ns)
    if contents:
        _unpack_contents(packed, block)
    if packed.notes:
        if packed.notes_bytes > frames.RAW_BYTES_MAX:
            raise Problem(f"it claims {packed.notes_bytes} bytes of notes")
        block.notes.extend(parse(bits.unpack_part(packed.notes, packed.notes_bytes), tape_pb2.Notes()).notes)
    return block, before, layout


def _fits(raw_bytes: int, what: str) -> None:
    if raw_bytes > frames.RAW_BYTES_MAX:
        raise Limit(f"{what} take {raw_bytes} bytes; at most {frames.RAW_BYTES_MAX} fit")


def _unpack_requests(
    packed: tape_pb2.PackedRequests,
    requests: messages_pb2.Requests,
    layout: Layout,
    before: Before,
    digests: bool,
) -> tuple[bytes, Values]:
    rows = layout.rows(tape_pb2.TABLE_REQUESTS)
    kind = _narrow("kind", packed.kind, rows, np.dtype(np.uint8))
    disk = _narrow("disk", packed.disk, rows, np.dtype("<u2"))
    length = unpack("length", packed.length, rows)
    offset = unpack("offset", packed.offset, rows)
    if packed.offset_from not in _FROM.values():
        raise Problem(
            f"its offsets are counted in a way ({packed.offset_from}) that this ringtape does not know"
        )
    worker = layout.worker_of(tape_pb2.TABLE_REQUESTS)
    offset = _offsets_back(
        packed.offset_from, offset, length, _streams(packed.offset_from, worker, disk, kind)
    )
    fsyncs = np.flatnonzero(kind == KIND_FSYNC)
    covers = layout.sequences(before)[fsyncs] - unpack("fsync_covers", packed.fsync_covers, len(fsyncs))
    requests.kind, requests.disk = kind.tobytes(), disk.tobytes()
    requests.flags = _narrow("flags", packed.flags, rows, np.dtype(np.uint8)).tobytes()
    requests.offset, requests.length = offset.tobytes(), length.tobytes()
    requests.digest = _digest(packed.digest, rows, digests)
    requests.fsync_covers = covers.tobytes()
    return requests.kind, length


def _unpack_completions(
    packed: tape_pb2.PackedCompletions,
    completions: messages_pb2.Completions,
    layout: Layout,
    before: Before,
    digests: bool,
    kind: bytes,
    length: Values,
) -> None:
    rows = layout.rows(tape_pb2.TABLE_COMPLETIONS)
    sequence = unzigzag(unpack("sequence", packed.sequence, rows)) + layout.completed(before)
    result = unzigzag(unpack("result", packed.result, rows))
    result += layout.lengths_of(sequence, before, kind, length)
    completions.sequence, completions.result = sequence.tobytes(), result.tobytes()
    completions.digest = _digest(packed.digest, rows, digests)


def _unpack_contents(packed: tape_pb2.PackedBlock, block: tape_pb2.Block) -> None:
    requests, completions = packed.requests, packed.completions
    writes = np.frombuffer(block.requests.kind, dtype=np.uint8) == KIND_WRITE
    some = unpack("has_contents", completions.has_contents, len(block.completions.sequence) // 8) != 0
    for rows, stored, columns in (
        (writes, requests.contents, block.requests),
        (some, completions.contents, block.completions),
    ):
        numbers = np.zeros(len(rows), dtype=np.uint64)
        steps = unzigzag(unpack("contents", stored, int(rows.sum())))
        numbers[rows] = np.cumsum(steps, dtype=np.uint64)
        columns.contents = numbers.tobytes()


def _unpack_tokens(
    packed: tape_pb2.PackedTokens, tokens: tape_pb2.Tokens, layout: Layout, run_ns: Values
) -> None:
    rows = layout.rows(tape_pb2.TABLE_TOKENS)
    clock = unzigzag(unpack("clock_ns", packed.clock_ns, rows))
    clock += layout.per_row(tape_pb2.TABLE_TOKENS, run_ns)
    released = unzigzag(unpack("released", packed.released, rows)) + layout.completed_since_token()
    if rows and int(released.max()) >= 1 << 32:
        raise Problem(f"it has a token that releases {int(released.max())} completions")
    some = unpack("has_deadline", packed.has_deadline, rows) != 0
    deadline = np.zeros(rows, dtype=np.uint64)
    deadline[some] = unzigzag(unpack("deadline_ns", packed.deadline_ns, int(some.sum()))) + clock[some]
    tokens.clock_ns, tokens.deadline_ns = clock.tobytes(), deadline.tobytes()
    tokens.mode = _narrow("mode", packed.mode, rows, np.dtype(np.uint8)).tobytes()
    tokens.released = released.astype("<u4").tobytes()
    if packed.order:
        places = 4 * int(released.sum())
        if places > frames.RAW_BYTES_MAX:
            raise Problem(f"it claims the places of {places // 4} completions")
        tokens.order = bits.unpack_part(packed.order, places)
    if packed.delivered:
        tokens.delivered = _narrow("delivered", packed.delivered, rows, np.dtype("<u4")).tobytes()


def _streams(
    way: int, worker: Rows, disk: NDArray[Any], kind: NDArray[Any]
) -> tuple[Rows | slice, NDArray[np.bool_]]:
    """Rows by stream (worker and disk, perhaps kind), and which of those are the first of their stream."""
    if way == _FROM.OFFSET_FROM_ZERO:
        return slice(None), np.zeros(0, dtype=bool)
    key = worker * (1 << 16) + disk
    if way == _FROM.OFFSET_FROM_END_OF_KIND:
        key = key * 256 + kind
    if (key == key[:1]).all():
        first = np.zeros(len(key), dtype=bool)
        first[:1] = True
        return slice(None), first
    order = np.argsort(key, kind="stable")
    return order, changes(key[order])


def _offsets_from(
    way: int, offset: Values, length: Values, streams: tuple[Rows | slice, NDArray[np.bool_]]
) -> Values:
    if way == _FROM.OFFSET_FROM_ZERO:
        return offset
    order, first = streams
    sorted_, ends = offset[order], (offset + length)[order]
    expected = np.where(first, np.uint64(0), np.roll(ends, 1))
    result = np.empty(len(offset), dtype=np.uint64)
    result[order] = zigzag(sorted_ - expected)
    return result


def _offsets_back(
    way: int, values: Values, length: Values, streams: tuple[Rows | slice, NDArray[np.bool_]]
) -> Values:
    if way == _FROM.OFFSET_FROM_ZERO or not len(values):
        return values
    order, first = streams
    steps = unzigzag(values[order])
    # An offset is the sum of all steps and lengths before it in its stream.
    steps += np.where(first, np.uint64(0), np.roll(length[order], 1))
    total = steps.cumsum(dtype=np.uint64)
    before = (total - steps)[np.flatnonzero(first)][first.cumsum() - 1]
    result = np.empty(len(values), dtype=np.uint64)
    result[order] = total - before
    return result


def _narrow(name: str, data: bytes, rows: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    values = unpack(name, data, rows)
    if rows and int(values.max()) > np.iinfo(dtype).max:
        raise Problem(f"its column {name} has a number that is too large: {int(values.max())}")
    return values.astype(dtype)


def _digest(data: bytes, rows: int, digests: bool) -> bytes:
    if not digests:
        if data:
            raise Problem(f"its column digest has {len(data)} bytes for 0 rows")
        return b""
    return unpack("digest", data, rows).tobytes()


def _some(column: bytes) -> Values:
    """The numbers that are not 0."""
    numbers = _column(column)
    some: Values = numbers[numbers != 0]
    return some


def _steps(numbers: Values) -> Values:
    return zigzag(np.diff(numbers, prepend=np.uint64(0)))


def _column(data: bytes) -> Values:
    return np.frombuffer(data, dtype="<u8")


def _u64(values: NDArray[Any]) -> Values:
    return values.astype(np.uint64)
