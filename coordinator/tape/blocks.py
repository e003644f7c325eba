"""A block while it grows: columns appended as bytes, a Block message at the end.

Responsible for the accumulation alone. It never looks at a row, decides nothing about when a block is full (the
writer does) and never writes. One call appends a handful of byte strings whatever the number of rows.
"""

import struct
import sys
from array import array
from collections.abc import Sequence

import numpy as np

from ringtape.coordinator.tape.turns import Turns
from ringtape.proto import messages_pb2, tape_pb2

assert sys.byteorder == "little", "columns are little-endian and written as the machine has them"

# Of a token's row, of a run, and of a note beyond itself, for the estimate of a block's size.
_TOKEN_BYTES = 8 + 8 + 1 + 4 + 4
_RUN_BYTES = 1 + 2 + 4 + 8
_NOTE_FIELD_BYTES = 8
_PLACE_BYTES = 4
_COUNT_BYTES = 4
_REQUEST_BYTES_MAX = 1 + 1 + 2 + 8 + 8 + 8 + 8 + 8  # of a row with all columns
_COMPLETION_BYTES_MAX = 8 + 8 + 8 + 8
_TABLES_OF_TURN = np.array(
    (tape_pb2.TABLE_REQUESTS, tape_pb2.TABLE_COMPLETIONS, tape_pb2.TABLE_TOKENS), dtype=np.uint8
)


class BlockBuilder:
    """The rows of one block. `digests` and `contents` say which columns requests and completions bring."""

    def __init__(self, first_id: int, first_token: int, digests: bool, contents: bool = False) -> None:
        self.rows = 0
        self.first_row_ns = 0  # only means something where there are rows
        self.requests = 0
        self.tokens = 0
        self.raw_bytes = 0  # about how long the serialized block is
        self._digests = digests
        self._contents = contents
        self._released = 0  # by all tokens: how many places `_order` would hold
        self._order: bytearray | None = None  # None while every place is 0
        self._block = tape_pb2.Block(first_id=first_id, first_token=first_token)
        self._run_table = bytearray()
        self._run_worker = array("H")
        self._run_count = array("I")
        self._run_ns = array("Q")
        # The columns of each call, in the order of their fields. Joined when the block is finished: a call costs one
        # append, not one for each column.
        self._requests: list[tuple[bytes, ...]] = []
        self._completions: list[tuple[bytes, ...]] = []
        self._clock_ns = array("Q")
        self._deadline_ns = array("Q")
        self._mode = bytearray()
        self._released_by = array("I")
        self._delivered: bytearray | None = None  # None while every count is 0

    def note_bytes(self, note: messages_pb2.Note) -> int:
        """About how much the note would add to `raw_bytes`."""
        return note.ByteSize() + _NOTE_FIELD_BYTES

    def token_bytes(self, released: int, ordered: bool) -> int:
        """How much a token would add to `raw_bytes`: a token with an order brings in the places of all before."""
        if self._order is not None:
            return _TOKEN_BYTES + _PLACE_BYTES * released
        return _TOKEN_BYTES + (_PLACE_BYTES * (self._released + released) if ordered else 0)

    def add_requests(self, worker: int, columns: messages_pb2.Requests, count: int, at_ns: int) -> None:
        """Appends `count` rows."""
        self._keep_requests(columns, count)
        self._run(tape_pb2.TABLE_REQUESTS, worker, count, at_ns)

    def _keep_requests(self, columns: messages_pb2.Requests, count: int) -> None:
        kind, flags, disk = columns.kind, columns.flags, columns.disk
        offset, length, digest, covers = columns.offset, columns.length, columns.digest, columns.fsync_covers
        contents = columns.contents
        wide = 8 * count
        assert (
            len(kind) == len(flags) == count
            and len(disk) == 2 * count
            and len(offset) == len(length) == wide
            and len(digest) == (wide if self._digests else 0)
            and len(covers) == 8 * kind.count(messages_pb2.KIND_FSYNC)
            and len(contents) == (wide if self._contents else 0)
        ), f"columns of other lengths than {count} requests have"
        self._requests.append((kind, flags, disk, offset, length, digest, covers, contents))
        self.raw_bytes += 4 * count + 2 * wide + len(digest) + len(covers) + len(contents)
        self.requests += count

    def add_completions(self, worker: int, columns: messages_pb2.Completions, count: int, at_ns: int) -> None:
        """Appends `count` rows."""
        self._keep_completions(columns, count)
        self._run(tape_pb2.TABLE_COMPLETIONS, worker, count, at_ns)

    def _keep_completions(self, columns: messages_pb2.Completions, count: int) -> None:
        sequence, result, digest = columns.sequence, columns.result, columns.digest
        contents = columns.contents
        wide = 8 * count
        assert (
            len(sequence) == len(result) == wide
            and len(digest) == (wide if self._digests else 0)
            and len(contents) == (wide if self._contents else 0)
        ), f"columns of other lengths than {count} completions have"
        self._completions.append((sequence, result, digest, contents))
        self.raw_bytes += 2 * wide + len(digest) + len(contents)

    def add_token(
        self,
        worker: int,
        clock_ns: int,
        deadline_ns: int,
        mode: int,
        released: int,
        order: Sequence[int] | None,
        at_ns: int,
        delivered: int,
    ) -> None:
        """Appends one token. An `order` of zeros is as good as None."""
        assert order is None or len(order) == released, f"{released} completions in an order of {order}"
        if delivered and self._delivered is None:
            self._delivered = bytearray(_COUNT_BYTES * self.tokens)
        if self._delivered is not None:
            self._delivered += delivered.to_bytes(_COUNT_BYTES, "little")
        self._clock_ns.append(clock_ns)
        self._deadline_ns.append(deadline_ns)
        self._mode.append(mode)
        self._released_by.append(released)
        if order is not None and self._order is None and any(order):
            self._order = bytearray(_PLACE_BYTES * self._released)
            self.raw_bytes += _PLACE_BYTES * self._released
        if self._order is not None:
            self._order += (
                bytes(_PLACE_BYTES * released) if order is None else struct.pack(f"<{released}I", *order)
            )
            self.raw_bytes += _PLACE_BYTES * released
        self._released += released
        self.raw_bytes += _TOKEN_BYTES
        self._run(tape_pb2.TABLE_TOKENS, worker, 1, at_ns)
        self.tokens += 1

    def turns_that_fit(self, turns: Turns, *, rows_max: int, bytes_max: int) -> int:
        """How many of these, the first, certainly leave the block with fewer rows and bytes than these."""
        rows = self.rows + (turns.requests + turns.completions + 1).cumsum()
        bytes_ = turns.requests * _REQUEST_BYTES_MAX + turns.completions * _COMPLETION_BYTES_MAX
        bytes_ += _TOKEN_BYTES + 3 * _RUN_BYTES
        if self._order is not None:
            bytes_ += _PLACE_BYTES * turns.released
        return int(np.count_nonzero((rows < rows_max) & (self.raw_bytes + bytes_.cumsum() < bytes_max)))

    def add_turns(
        self,
        worker: int,
        turns: Turns,
        requests: messages_pb2.Requests,
        completions: messages_pb2.Completions,
    ) -> None:
        """Appends turns, at least one, and all their rows: what `add_requests` and the others would, one by one."""
        self._keep_requests(requests, int(turns.requests.sum()))
        self._keep_completions(completions, int(turns.completions.sum()))
        count, released = len(turns), int(turns.released.sum())
        if self._delivered is None and turns.delivered.any():
            self._delivered = bytearray(_COUNT_BYTES * self.tokens)
        if self._delivered is not None:
            self._delivered += turns.delivered.astype("<u4").tobytes()
        self._clock_ns.frombytes(turns.clock_ns.tobytes())
        self._deadline_ns.frombytes(turns.deadline_ns.tobytes())
        self._mode += turns.mode.tobytes()
        self._released_by.frombytes(turns.released.astype("<u4").tobytes())
        if self._order is not None:
            self._order += bytes(_PLACE_BYTES * released)
            self.raw_bytes += _PLACE_BYTES * released
        self._released += released
        self.raw_bytes += _TOKEN_BYTES * count
        self.tokens += count
        self._runs_of(worker, turns)

    def _runs_of(self, worker: int, turns: Turns) -> None:
        counts = np.ones((len(turns), 3), dtype=np.int64)
        at_ns = np.empty((len(turns), 3), dtype=np.uint64)
        tables = np.empty((len(turns), 3), dtype=np.uint8)
        counts[:, 0], counts[:, 1] = turns.requests, turns.completions
        at_ns[:, 0], at_ns[:, 1], at_ns[:, 2] = turns.requests_ns, turns.completions_ns, turns.clock_ns
        tables[:] = _TABLES_OF_TURN
        count, ns, table = counts.reshape(-1), at_ns.reshape(-1), tables.reshape(-1)
        if not count.all():
            some = np.flatnonzero(count)
            count, ns, table = count[some], ns[some], table[some]
        # What follows a run of the same table at the same time is part of it.
        starts = np.flatnonzero((table[1:] != table[:-1]) | (ns[1:] != ns[:-1])) + 1
        if len(starts) + 1 < len(table):
            starts = np.concatenate((np.zeros(1, dtype=starts.dtype), starts))
            count, table, ns = np.add.reduceat(count, starts), table[starts], ns[starts]
        self._run(int(table[0]), worker, int(count[0]), int(ns[0]))
        others = len(table) - 1
        self._run_table += table[1:].tobytes()
        self._run_worker.extend(array("H", (worker,)) * others)
        self._run_count.frombytes(count[1:].astype("<u4").tobytes())
        self._run_ns.frombytes(ns[1:].tobytes())
        self.rows += int(count[1:].sum())
        self.raw_bytes += _RUN_BYTES * others

    def add_note(self, worker: int, note: messages_pb2.Note, at_ns: int) -> None:
        """Appends one note. Its place among the requests is told by the runs, not by `after_requests`."""
        kept = self._block.notes.add()
        kept.CopyFrom(note)
        kept.after_requests = 0
        self.raw_bytes += self.note_bytes(note)
        self._run(tape_pb2.TABLE_NOTES, worker, 1, at_ns)

    def finish(self) -> tape_pb2.Block:
        """The Block message. The builder is not to be used again."""
        block = self._block
        block.run_table = bytes(self._run_table)
        block.run_worker = self._run_worker.tobytes()
        block.run_count = self._run_count.tobytes()
        block.run_ns = self._run_ns.tobytes()
        for message, calls in ((block.requests, self._requests), (block.completions, self._completions)):
            # The columns are kept in the order of their fields.
            names = [field.name for field in message.DESCRIPTOR.fields]
            for name, column in zip(names, zip(*calls, strict=True), strict=False):
                joined = b"".join(column)
                if joined:
                    setattr(message, name, joined)
        if self.tokens:
            tokens = block.tokens
            tokens.clock_ns = self._clock_ns.tobytes()
            tokens.deadline_ns = self._deadline_ns.tobytes()
            tokens.mode = bytes(self._mode)
            tokens.released = self._released_by.tobytes()
        if self._order is not None:
            block.tokens.order = bytes(self._order)
        if self._delivered is not None:
            block.tokens.delivered = bytes(self._delivered)
        return block

    def _run(self, table: int, worker: int, count: int, at_ns: int) -> None:
        if not self.rows:
            self.first_row_ns = at_ns
        elif self._run_ns[-1] == at_ns and self._run_table[-1] == table and self._run_worker[-1] == worker:
            self._run_count[-1] += count
            self.rows += count
            return
        self._run_table.append(table)
        self._run_worker.append(worker)
        self._run_count.append(count)
        self._run_ns.append(at_ns)
        self.raw_bytes += _RUN_BYTES
        self.rows += count
