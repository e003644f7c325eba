"""What a block of the tape says, worker by worker, as columns.

Responsible for many turns of one worker at once, for those who need no object a run: which of its rows are before a
place in the block, and these rows cut out of the block. It never checks (that is done before a `BlockView` exists).
"""

from __future__ import annotations

import functools
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ringtape.coordinator.tape.layout import Rows, Values, changes
from ringtape.coordinator.tape.runs import BlockView, Place
from ringtape.coordinator.tape.tables import Tables
from ringtape.proto import messages_pb2, tape_pb2

#: Of requests, the columns that a program decides, by their names in `Requests`, and what a row of each is.
REQUEST_COLUMNS: tuple[tuple[str, np.dtype[Any]], ...] = (
    ("kind", np.dtype("u1")),
    ("flags", np.dtype("u1")),
    ("disk", np.dtype("<u2")),
    ("offset", np.dtype("<u8")),
    ("length", np.dtype("<u8")),
    ("digest", np.dtype("<u8")),
)
_U64 = np.dtype("<u8")


class Done(NamedTuple):
    """How many of a worker's rows of a block are before a place."""

    requests: int
    completions: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of one worker, a row each: what is in the block of each, and how many requests are before it.

    Requests are those since the token before, or since the place that was asked about.
    """

    requests: Rows
    clock_ns: Values
    deadline_ns: Values
    mode: NDArray[np.uint8]
    released: Rows
    delivered: Rows

    def __len__(self) -> int:
        return len(self.mode)

    def rows(self, checkpoint: int) -> Values:
        """As `RunDigest.passed` takes them; the first answers this checkpoint."""
        count = len(self.mode)
        found = np.zeros((count, 5), dtype=_U64)
        found[:, 0] = np.arange(checkpoint, checkpoint + count)
        found[:, 1] = self.clock_ns
        found[:, 2] = self.requests.cumsum()
        found[:, 4] = self.released
        return found


class _Runs:
    """The runs of one worker and table: which they are, and how many rows there are up to the end of each."""

    def __init__(self, is_here: NDArray[np.bool_], tables: Tables, *, alone: bool) -> None:
        self.runs: Rows = is_here.nonzero()[0]
        counts = tables.run_count[self.runs].astype(np.int64)
        until = counts.cumsum()
        #: With 0 before the first run.
        self.until: Rows = np.append(0, until)
        self.rows: Rows | slice = slice(None)
        if not alone:
            self.rows = np.arange(self.until[-1]) + (tables.run_start[self.runs] - until + counts).repeat(
                counts
            )
        self._run_list: list[int] = self.runs.tolist()
        self._until_list: list[int] = self.until.tolist()

    def before(self, place: Place) -> int:
        """How many rows are in runs before that place."""
        return self._until_list[bisect_left(self._run_list, place.run)]

    def column(self, column: bytes, dtype: np.dtype[Any]) -> bytes:
        """The worker's rows of a column of the table."""
        if isinstance(self.rows, slice) or not column:
            return column
        return np.frombuffer(column, dtype)[self.rows].tobytes()


class Part:
    """The rows of one worker in a block. Columns are in the order of the worker's rows."""

    def __init__(self, block: BlockView, slot: int) -> None:
        """`slot` is the worker's place among those of the block."""
        tables, layout, before = block.tables, block.tables.layout, block.followed.before
        alone = len(layout.workers) == 1
        table = tables.run_table if alone else tables.run_table * (layout.run_worker == slot)
        self._block, self._tables = block, tables
        self.worker = int(layout.workers[slot])
        #: Of its first request in the block, and of its first token.
        self.first_sequence = int(before.requests[slot])
        self.first_checkpoint = int(before.tokens[slot]) + 1
        self._requests, self._completions, self._tokens = (
            _Runs(table == number, tables, alone=alone)
            for number in (tape_pb2.TABLE_REQUESTS, tape_pb2.TABLE_COMPLETIONS, tape_pb2.TABLE_TOKENS)
        )
        self._notes: Rows = (table == tape_pb2.TABLE_NOTES).nonzero()[0]
        #: The runs of what its program did: all but completions.
        self._acts: list[int] = ((table != 0) & (table != tape_pb2.TABLE_COMPLETIONS)).nonzero()[0].tolist()
        self.tokens = int(self._tokens.until[-1])
        self._token_runs: Rows = self._tokens.runs.repeat(np.diff(self._tokens.until))
        #: Of each token: how many of its requests in the block are before it.
        self.made: Rows = self._requests.until[self._requests.runs.searchsorted(self._token_runs)]
        self.released: Rows = tables.released[self._tokens.rows].astype(np.int64)

    @property
    def all(self) -> tuple[Done, Done]:
        """What is before the block's first run, and before its end."""
        counts = self._requests.until[-1], self._completions.until[-1], self._tokens.until[-1]
        return Done(0, 0, 0), Done(*map(int, counts))

    def done(self, place: Place) -> Done:
        """What is before that place."""
        requests, completions = self._requests.before(place), self._completions.before(place)
        tokens = self._tokens.before(place)
        if tokens < self.tokens and self._token_runs[tokens] == place.run:
            tokens += place.row
        return Done(requests, completions, tokens)

    def end_of(self, start: Place, passed: int) -> Place | None:
        """The first thing from `start` on that is beyond the worker's next `passed` tokens; None: not in this block."""
        acts = self._acts
        if not passed:
            place = bisect_left(acts, start.run)
            if place == len(acts):
                return None
            return Place(acts[place], start.row if acts[place] == start.run else 0)
        last = self.done(start).tokens + passed - 1
        if last >= self.tokens:
            return None
        run = int(self._token_runs[last])
        if last + 1 < self.tokens and self._token_runs[last + 1] == run:
            return Place(run, last + 1 - self._tokens.before(Place(run, 0)))
        place = bisect_right(acts, run)
        return None if place == len(acts) else Place(acts[place], 0)

    @functools.cached_property
    def request_columns(self) -> tuple[bytes, ...]:
        """All its requests: a column for each of `REQUEST_COLUMNS`."""
        tables = self._tables
        columns = tables.kind, tables.flags, tables.disk, tables.offset, tables.length, tables.request_digest
        return tuple(
            self._requests.column(column, dtype)
            for column, (_, dtype) in zip(columns, REQUEST_COLUMNS, strict=True)
        )

    @functools.cached_property
    def _completion_columns(self) -> tuple[bytes, ...]:
        tables = self._tables
        columns = tables.sequence, tables.result, tables.completion_digest, tables.completion_contents
        return tuple(self._completions.column(column, _U64) for column in columns)

    @functools.cached_property
    def ids(self) -> Values:
        """Of each of its requests: the id."""
        first, count = self._tables.first_id, len(self._tables.kind)
        found: Values = np.arange(first, first + count, dtype=_U64)[self._requests.rows]
        return found

    def id_ranges(self) -> list[tuple[int, int, int]]:
        """Its requests, where ids follow one another: the sequence number and the id of the first, and how many."""
        ids = self.ids
        if not len(ids):
            return []
        places = np.arange(len(ids), dtype=_U64)
        first = changes(ids - places).nonzero()[0]
        counts = np.diff(np.append(first, len(ids)))
        sequences = first + self.first_sequence
        return list(zip(sequences.tolist(), ids[first].tolist(), counts.tolist(), strict=True))

    def requests(self, start: int, stop: int) -> messages_pb2.Requests:
        """Its requests from `start` to `stop`; what `fsync_covers` and `contents` say is left out."""
        found = messages_pb2.Requests()
        for column, (name, dtype) in zip(self.request_columns, REQUEST_COLUMNS, strict=True):
            setattr(found, name, column[dtype.itemsize * start : dtype.itemsize * stop])
        return found

    def completions(self, start: int = 0, stop: int | None = None) -> messages_pb2.Completions:
        """Its completions from `start` to `stop`, or to the last."""
        first, last = 8 * start, None if stop is None else 8 * stop
        sequence, result, digest, contents = (column[first:last] for column in self._completion_columns)
        return messages_pb2.Completions(sequence=sequence, result=result, digest=digest, contents=contents)

    def between(self, start: Done, stop: Done) -> Tokens:
        """Its tokens between."""
        tables, tokens = self._tables, slice(start.tokens, stop.tokens)
        rows = tokens if isinstance(self._tokens.rows, slice) else self._tokens.rows[tokens]
        delivered = tables.delivered
        return Tokens(
            requests=np.diff(self.made[tokens], prepend=start.requests),
            clock_ns=tables.clock_ns[rows],
            deadline_ns=tables.deadline_ns[rows],
            mode=tables.mode[rows],
            released=self.released[tokens],
            delivered=(delivered[rows] if len(delivered) else np.zeros(stop.tokens - start.tokens)).astype(
                np.int64
            ),
        )

    def orders(self, start: int, stop: int) -> list[Sequence[int] | None]:
        """The `order` of its tokens from `start` to `stop`, as in `TokenRun`; empty where none of the block has one."""
        order = self._tables.order
        if not len(order):
            return []
        ends = self._tables.released.cumsum(dtype=np.int64)[self._tokens.rows]
        found: list[Sequence[int] | None] = []
        for end, released in zip(ends[start:stop].tolist(), self.released[start:stop].tolist(), strict=True):
            places = order[end - released : end]
            found.append(tuple(places.tolist()) if places.any() else None)
        return found

    def noted(self) -> NDArray[np.bool_]:
        """Of each token, and of what is behind the last: is there a note before it, behind the token before that?"""
        found = np.zeros(self.tokens + 1, dtype=bool)
        found[self._token_runs.searchsorted(self._notes)] = True
        return found


class Parts:
    """A block, and the parts of its workers."""

    def __init__(self, block: BlockView) -> None:
        self.block = block
        self.of = tuple(Part(block, slot) for slot in range(len(block.tables.layout.workers)))
        self._notes: list[int] = (block.tables.run_table == tape_pb2.TABLE_NOTES).nonzero()[0].tolist()
        self.end = Place(len(block.tables.run_table), 0)

    def end_of(self, start: Place, passed: Sequence[int]) -> Place:
        """The first thing from `start` on that some worker has not passed; `passed` counts tokens of each worker.

        A note is none that was passed.
        """
        note = bisect_left(self._notes, start.run)
        end = self.end if note == len(self._notes) else Place(self._notes[note], 0)
        if end.run == start.run:
            return start
        for part in self.of:
            until = part.end_of(start, passed[part.worker])
            if until is not None and until < end:
                end = until
        return end

    def latest_ns(self, start: Place, stop: Place) -> int:
        """The latest time of the runs from `start` to before `stop`, which is behind it."""
        return int(self.block.tables.run_ns[start.run : stop.run + (stop.row > 0)].max())
