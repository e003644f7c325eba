"""A block while it grows: columns appended as bytes, a Block message at the end.

Responsible for the accumulation alone. It never looks at a row, decides nothing about when a block is full (the
writer does) and never writes. One call appends a handful of byte strings whatever the number of rows.
"""

import struct
from collections.abc import Sequence

from ringtape.proto import messages_pb2, tape_pb2

# Of a token's row, of a run, and of a note beyond itself, for the estimate of a block's size.
_TOKEN_BYTES = 8 + 8 + 1 + 4 + 4
_RUN_BYTES = 1 + 2 + 4 + 8
_NOTE_FIELD_BYTES = 8
_PLACE_BYTES = 4
_COUNT_BYTES = 4


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
        self._runs: list[tuple[int, int, int]] = []  # table, worker, time
        self._run_count: list[int] = []
        # The columns of each call, in the order of their fields. Joined when the block is finished: a call costs one
        # append, not one for each column.
        self._requests: list[tuple[bytes, ...]] = []
        self._completions: list[tuple[bytes, ...]] = []
        self._tokens: list[tuple[int, int, int, int]] = []  # clock, deadline, mode, released
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
        self._run(tape_pb2.TABLE_REQUESTS, worker, count, at_ns)
        self.requests += count

    def add_completions(self, worker: int, columns: messages_pb2.Completions, count: int, at_ns: int) -> None:
        """Appends `count` rows."""
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
        self._run(tape_pb2.TABLE_COMPLETIONS, worker, count, at_ns)

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
        self._tokens.append((clock_ns, deadline_ns, mode, released))
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

    def add_note(self, worker: int, note: messages_pb2.Note, at_ns: int) -> None:
        """Appends one note. Its place among the requests is told by the runs, not by `after_requests`."""
        kept = self._block.notes.add()
        kept.CopyFrom(note)
        kept.after_requests = 0
        self.raw_bytes += self.note_bytes(note)
        self._run(tape_pb2.TABLE_NOTES, worker, 1, at_ns)

    def finish(self) -> tape_pb2.Block:
        """The Block message. The builder is not to be used again."""
        block, runs = self._block, len(self._runs)
        table, worker, at_ns = zip(*self._runs, strict=True)
        block.run_table = bytes(table)
        block.run_worker = struct.pack(f"<{runs}H", *worker)
        block.run_count = struct.pack(f"<{runs}I", *self._run_count)
        block.run_ns = struct.pack(f"<{runs}Q", *at_ns)
        for message, calls in ((block.requests, self._requests), (block.completions, self._completions)):
            # The columns are kept in the order of their fields.
            names = [field.name for field in message.DESCRIPTOR.fields]
            for name, column in zip(names, zip(*calls, strict=True), strict=False):
                joined = b"".join(column)
                if joined:
                    setattr(message, name, joined)
        if self._tokens:
            clock, deadline, mode, released = zip(*self._tokens, strict=True)
            tokens, count = block.tokens, len(self._tokens)
            tokens.clock_ns = struct.pack(f"<{count}Q", *clock)
            tokens.deadline_ns = struct.pack(f"<{count}Q", *deadline)
            tokens.mode = bytes(mode)
            tokens.released = struct.pack(f"<{count}I", *released)
        if self._order is not None:
            block.tokens.order = bytes(self._order)
        if self._delivered is not None:
            block.tokens.delivered = bytes(self._delivered)
        return block

    def _run(self, table: int, worker: int, count: int, at_ns: int) -> None:
        run = (table, worker, at_ns)
        if not self.rows:
            self.first_row_ns = at_ns
        elif self._runs[-1] == run:
            self._run_count[-1] += count
            self.rows += count
            return
        self._runs.append(run)
        self._run_count.append(count)
        self.raw_bytes += _RUN_BYTES
        self.rows += count
