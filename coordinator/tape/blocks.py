"""A block while it grows: columns appended as bytes, a Block message at the end.

Responsible for the accumulation alone. It never looks at a row, decides nothing about when a block is full (the
writer does) and never writes. One call appends a handful of byte strings whatever the number of rows.
"""

import struct
import sys
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ringtape.coordinator.tape.slices import (
    CompletionColumns,
    Completions,
    RequestColumns,
    Requests,
    completion_columns,
    request_columns,
)
from ringtape.coordinator.tape.turns import Turns, joined
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
_TURN_BYTES = _TOKEN_BYTES + 3 * _RUN_BYTES
_REQUESTS, _COMPLETIONS = tape_pb2.TABLE_REQUESTS, tape_pb2.TABLE_COMPLETIONS
_TOKENS, _NOTES = tape_pb2.TABLE_TOKENS, tape_pb2.TABLE_NOTES
_TABLES_OF_TURN = np.array((_REQUESTS, _COMPLETIONS, _TOKENS), dtype=np.uint8)
_TIME_OF = {_REQUESTS: 0, _COMPLETIONS: 1, _TOKENS: 2}  # of a turn's runs: which of its times
_FSYNC = messages_pb2.KIND_FSYNC


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
        self._after_turns = False
        self._last = (
            0,
            0,
            0,
        )  # table, worker and time of the last run; only means something where there are rows
        self._run_table = bytearray()
        self._run_worker = array("H")
        self._run_count = array("I")
        self._run_ns = array("Q")
        # The columns of each call, in the order of their fields. Joined when the block is finished: a call costs one
        # append, not one for each column.
        self._requests: list[RequestColumns] = []
        self._completions: list[CompletionColumns] = []
        # Turns likewise: their worker, and how many runs and tokens were appended by themselves before them.
        self._turns: list[Turns] = []
        self._turns_of: list[tuple[int, int, int]] = []
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

    def add_requests(self, worker: int, columns: Requests, count: int, at_ns: int) -> None:
        """Appends `count` rows."""
        self._keep_requests(request_columns(columns), count)
        self._run(_REQUESTS, worker, count, at_ns)

    def _keep_requests(self, columns: RequestColumns, count: int) -> None:
        kind, flags, disk, offset, length, digest, covers, contents = columns
        wide = 8 * count
        assert (
            len(kind) == len(flags) == count
            and len(disk) == 2 * count
            and len(offset) == len(length) == wide
            and len(digest) == (wide if self._digests else 0)
            and len(covers) == 8 * kind.count(_FSYNC)
            and len(contents) == (wide if self._contents else 0)
        ), f"columns of other lengths than {count} requests have"
        self._requests.append(columns)
        self.raw_bytes += 4 * count + 2 * wide + len(digest) + len(covers) + len(contents)
        self.requests += count

    def add_completions(self, worker: int, columns: Completions, count: int, at_ns: int) -> None:
        """Appends `count` rows."""
        self._keep_completions(completion_columns(columns), count)
        self._run(_COMPLETIONS, worker, count, at_ns)

    def _keep_completions(self, columns: CompletionColumns, count: int) -> None:
        sequence, result, digest, contents = columns
        wide = 8 * count
        assert (
            len(sequence) == len(result) == wide
            and len(digest) == (wide if self._digests else 0)
            and len(contents) == (wide if self._contents else 0)
        ), f"columns of other lengths than {count} completions have"
        self._completions.append(columns)
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
        self._run(_TOKENS, worker, 1, at_ns)
        self.tokens += 1

    def turns_that_fit(self, turns: Turns, *, rows_max: int, bytes_max: int) -> int:
        """How many of these, the first, certainly leave the block with fewer rows and bytes than these."""
        count = len(turns)
        requests, completions, released, _ = turns.totals
        bytes_ = requests * _REQUEST_BYTES_MAX + completions * _COMPLETION_BYTES_MAX
        bytes_ += count * _TURN_BYTES + _PLACE_BYTES * released
        if self.rows + requests + completions + count < rows_max and self.raw_bytes + bytes_ < bytes_max:
            return count
        made, came, went, _ = turns.sums
        numbers = np.arange(1, count + 1)
        sums = made * _REQUEST_BYTES_MAX + came * _COMPLETION_BYTES_MAX + numbers * _TURN_BYTES
        if self._order is not None:
            sums += _PLACE_BYTES * went
        fit = (self.rows + made + came + numbers < rows_max) & (self.raw_bytes + sums < bytes_max)
        return int(np.count_nonzero(fit))

    def add_turns(
        self, worker: int, turns: Turns, requests: RequestColumns, completions: CompletionColumns
    ) -> None:
        """Appends turns, at least one, and all their rows: what `add_requests` and the others would, one by one."""
        count = len(turns)
        made, came, released, delivered = turns.totals
        if made:
            self._keep_requests(requests, made)
        if came:
            self._keep_completions(completions, came)
        if delivered and self._delivered is None:
            self._delivered = bytearray(_COUNT_BYTES * self.tokens)
        if self._delivered is not None:
            self._delivered += turns.counts[3].astype("<u4").tobytes()
        if self._order is not None:
            self._order += bytes(_PLACE_BYTES * released)
            self.raw_bytes += _PLACE_BYTES * released
        requests_here, completions_here = turns.counts[:2, 0].tolist()
        first = _REQUESTS if requests_here else _COMPLETIONS if completions_here else _TOKENS
        first_ns = int(turns.times[_TIME_OF[first], 0])
        runs = count + int(np.count_nonzero(turns.counts[:2])) - _joining(turns)
        if not self.rows:
            self.first_row_ns = first_ns
        elif self._last == (first, worker, first_ns):
            runs -= 1
        self._turns.append(turns)
        self._turns_of.append((worker, len(self._run_table), len(self._mode)))
        self._after_turns, self._last = True, (_TOKENS, worker, int(turns.times[2, -1]))
        self._released += released
        self.raw_bytes += _TOKEN_BYTES * count + _RUN_BYTES * runs
        self.tokens += count
        self.rows += made + came + count

    def add_note(self, worker: int, note: messages_pb2.Note, at_ns: int) -> None:
        """Appends one note. Its place among the requests is told by the runs, not by `after_requests`."""
        kept = self._block.notes.add()
        kept.CopyFrom(note)
        kept.after_requests = 0
        self.raw_bytes += self.note_bytes(note)
        self._run(_NOTES, worker, 1, at_ns)

    def finish(self) -> tape_pb2.Block:
        """The Block message. The builder is not to be used again."""
        block = self._block
        runs = _arrays(
            (self._run_table, np.uint8),
            (self._run_worker, np.uint16),
            (self._run_count, np.uint32),
            (self._run_ns, np.uint64),
        )
        tokens = _arrays(
            (self._clock_ns, np.uint64),
            (self._deadline_ns, np.uint64),
            (self._mode, np.uint8),
            (self._released_by, np.uint32),
        )
        if self._turns:
            runs, tokens = self._with_turns(runs, tokens)
        block.run_table, block.run_worker, block.run_count, block.run_ns = (one.tobytes() for one in runs)
        for message, calls, names in (
            (block.requests, self._requests, RequestColumns._fields),
            (block.completions, self._completions, CompletionColumns._fields),
        ):
            for name, column in zip(names, zip(*calls, strict=True), strict=False):
                whole = b"".join(column)
                if whole:
                    setattr(message, name, whole)
        if self.tokens:
            of = block.tokens
            of.clock_ns, of.deadline_ns, of.mode, of.released = (one.tobytes() for one in tokens)
        if self._order is not None:
            block.tokens.order = bytes(self._order)
        if self._delivered is not None:
            block.tokens.delivered = bytes(self._delivered)
        return block

    def _with_turns(
        self, runs: Sequence[NDArray[Any]], tokens: Sequence[NDArray[Any]]
    ) -> tuple[tuple[NDArray[Any], ...], tuple[NDArray[Any], ...]]:
        """The runs and tokens that were appended by themselves, with those of turns in their places among them."""
        counts, times, mode = joined(self._turns)
        lengths = np.array(list(map(len, self._turns)))
        worker, runs_before, tokens_before = np.array(self._turns_of).T
        of_tokens = (times[2], times[3], mode, counts[2])
        tokens = _put_between(tokens, of_tokens, tokens_before, lengths)
        # A turn's are three runs, of which those without rows are no runs.
        count = np.ones((len(mode), 3), dtype=np.int64)
        count[:, :2] = counts[:2].T
        of_runs = (
            np.tile(_TABLES_OF_TURN, len(mode)),
            worker.repeat(3 * lengths),
            count.reshape(-1),
            times[:3].T.reshape(-1),
        )
        table, number, rows, ns = _put_between(runs, of_runs, runs_before, 3 * lengths)
        if not rows.all():
            some = rows.nonzero()[0]
            table, number, rows, ns = table[some], number[some], rows[some], ns[some]
        # What follows a run of the same table and worker at the same time is part of it.
        new = np.ones(len(table), dtype=bool)
        new[1:] = (table[1:] != table[:-1]) | (ns[1:] != ns[:-1]) | (number[1:] != number[:-1])
        starts = new.nonzero()[0]
        if len(starts) < len(table):
            table, number, ns = table[starts], number[starts], ns[starts]
            rows = np.add.reduceat(rows, starts)
        return (table, number, rows.astype(np.uint32), ns), tokens

    def _run(self, table: int, worker: int, count: int, at_ns: int) -> None:
        run = (table, worker, at_ns)
        if not self.rows:
            self.first_row_ns = at_ns
        elif self._last == run:
            if not self._after_turns:
                self._run_count[-1] += count
                self.rows += count
                return
            self.raw_bytes -= _RUN_BYTES  # it becomes a part of the last turn's when the block is finished
        self._after_turns, self._last = False, run
        self._run_table.append(table)
        self._run_worker.append(worker)
        self._run_count.append(count)
        self._run_ns.append(at_ns)
        self.raw_bytes += _RUN_BYTES
        self.rows += count


def _joining(turns: Turns) -> int:
    """How many of these tokens are part of the run of the token before: with nothing between, at the same time."""
    nothing = turns.counts[0] + turns.counts[1] == 0
    nothing[0] = False
    if not nothing.any():
        return 0
    clock_ns = turns.times[2]
    return int(np.count_nonzero(nothing[1:] & (clock_ns[1:] == clock_ns[:-1])))


def _put_between(
    alone: Sequence[NDArray[Any]],
    groups: Sequence[NDArray[Any]],
    before: NDArray[np.int64],
    lengths: NDArray[np.int64],
) -> tuple[NDArray[Any], ...]:
    """Columns `alone`, with groups of rows of such lengths put in, each behind so many of its rows."""
    count = len(alone[0])
    if not count:
        return tuple(more.astype(column.dtype) for column, more in zip(alone, groups, strict=True))
    ends = np.append(0, lengths.cumsum())
    place = np.arange(count)
    place += ends[before.searchsorted(place, side="right")]
    is_group = np.ones(count + int(ends[-1]), dtype=bool)
    is_group[place] = False
    place_of_groups = is_group.nonzero()[0]
    columns = []
    for column, more in zip(alone, groups, strict=True):
        whole = np.empty(len(is_group), dtype=column.dtype)
        whole[place], whole[place_of_groups] = column, more
        columns.append(whole)
    return tuple(columns)


def _arrays(*columns: tuple[Any, Any]) -> tuple[NDArray[Any], ...]:
    """Each column as an array of its type, not copied."""
    return tuple(np.frombuffer(column, dtype) for column, dtype in columns)
