"""Where the rows of a block's tables stand: what follows from the block's runs alone.

Responsible for "how many before this one, of the same worker" over whole blocks at once. It never looks at more than
the runs, and its costs go by rows: a block of many workers takes no longer than a block of one.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ringtape.proto import tape_pb2
from ringtape.proto.messages_pb2 import KIND_READ, KIND_WRITE

Rows = NDArray[np.int64]
Values = NDArray[np.uint64]

_MOVED_BYTES = np.zeros(256, dtype=np.uint64)  # by kind: 1 if its result says how many bytes it moved, else 0
_MOVED_BYTES[[KIND_READ, KIND_WRITE]] = 1


class Before(NamedTuple):
    """What each worker that has a run in a block had done before the block; workers in the order of their numbers."""

    workers: NDArray[Any]
    requests: Values
    completions: Values  # how many of the requests had completed
    tokens: Values


class Layout:
    """Where the rows of a block's tables stand. Costs are by row, not by worker; what is asked twice is kept."""

    def __init__(self, table: NDArray[Any], worker: NDArray[Any], count: NDArray[Any]) -> None:
        self._table = table
        self._count = count.astype(np.int64)
        if (worker == worker[:1]).all():
            self.workers, self.run_worker = worker[:1], np.zeros(len(worker), dtype=np.int64)
        else:
            # Their numbers, in order; and of each run, its worker's place among them.
            is_here = np.zeros(int(worker.max()) + 1, dtype=bool)
            is_here[worker] = True
            self.workers = np.flatnonzero(is_here).astype(worker.dtype)
            self.run_worker = (is_here.cumsum() - 1)[worker]
        self._worker = worker
        self._run_of: dict[int, Rows] = {number: (table == number).nonzero()[0] for number in range(1, 5)}
        self._count_of: dict[int, Rows] = {number: self._count[runs] for number, runs in self._run_of.items()}
        self._rows = {number: int(np.add.reduce(count)) for number, count in self._count_of.items()}
        # What has been worked out once, by table. Whoever is given an array does not change it.
        self._before: dict[int, Rows] = {}
        self._worker_of: dict[int, Rows] = {}
        self._ranks: dict[int, Rows] = {}
        self._rows_by_worker: dict[int, Rows] = {}

    @functools.cached_property
    def _by_worker(self) -> tuple[Rows, Rows, Rows]:
        """Runs by worker, each worker's in their order; the worker's place of each; where each worker's begin."""
        order = np.argsort(self._worker, kind="stable")  # by digits, since these are short numbers
        slot = self.run_worker[order]
        return order, slot, np.flatnonzero(changes(slot))

    def rows(self, table: int) -> int:
        """How many rows the table has."""
        return self._rows[table]

    def starts(self) -> Rows:
        """Of each run: where its rows begin in its table."""
        starts = np.empty(len(self._table), dtype=np.int64)
        for table, runs in self._run_of.items():
            count = self._count_of[table]
            starts[runs] = count.cumsum() - count
        return starts

    def totals(self, table: int) -> Rows:
        """How many rows of the table each worker has."""
        if len(self.workers) == 1:
            return np.array((self._rows[table],), dtype=np.int64)
        # Floats hold every count exactly.
        of_worker = np.bincount(
            self.run_worker[self._run_of[table]], self._count_of[table], minlength=len(self.workers)
        )
        return of_worker.astype(np.int64)

    def per_row(self, table: int, of_run: NDArray[Any]) -> NDArray[Any]:
        """What each run has, for each row of the table."""
        return of_run[self._run_of[table]].repeat(self._count_of[table])

    def worker_of(self, table: int) -> Rows:
        """The place in `workers` of each row's worker."""
        if table not in self._worker_of:
            if len(self.workers) == 1:
                self._worker_of[table] = np.zeros(self._rows[table], dtype=np.int64)
            else:
                self._worker_of[table] = self.per_row(table, self.run_worker)
        return self._worker_of[table]

    def rows_by_worker(self, table: int) -> Rows | slice:
        """What puts the table's rows in the order of their workers, each worker's in their order."""
        if len(self.workers) == 1:
            return slice(None)
        if table not in self._rows_by_worker:
            self._rows_by_worker[table] = np.argsort(self.per_row(table, self._worker), kind="stable")
        return self._rows_by_worker[table]

    def before_in_block(self, table: int) -> Rows:
        """For each run: how many rows of the table its worker had in the runs before it."""
        known = self._before.get(table)
        if known is not None:
            return known
        counts = np.where(self._table == table, self._count, 0)
        if len(self.workers) == 1:
            result = counts.cumsum() - counts
        else:
            order, slot, firsts = self._by_worker
            counts = counts[order]
            starts = counts.cumsum() - counts
            result = np.empty(len(counts), dtype=np.int64)
            result[order] = starts - starts[firsts][slot]
        self._before[table] = result
        return result

    def ranks(self, table: int) -> Rows:
        """For each row of the table: how many rows of the table its worker had before it in the block."""
        if table not in self._ranks:
            ranks = np.arange(self._rows[table], dtype=np.int64)
            if len(self.workers) != 1:
                count = self._count_of[table]
                first = count.cumsum() - count
                ranks += (self.before_in_block(table)[self._run_of[table]] - first).repeat(count)
            self._ranks[table] = ranks
        return self._ranks[table]

    def sequences(self, before: Before) -> Values:
        """Of each request: its sequence number."""
        table = tape_pb2.TABLE_REQUESTS
        return self.of_worker(before.requests, table) + self.ranks(table).view(np.uint64)

    def completed(self, before: Before) -> Values:
        """Of each completion: how many requests of its worker had completed before it."""
        table = tape_pb2.TABLE_COMPLETIONS
        return self.of_worker(before.completions, table) + self.ranks(table).view(np.uint64)

    def completed_since_token(self) -> Values:
        """Of each token: how many completions its worker had since its token before, in this block."""
        runs, count = self._run_of[tape_pb2.TABLE_TOKENS], self._count_of[tape_pb2.TABLE_TOKENS]
        result = np.zeros(self._rows[tape_pb2.TABLE_TOKENS], dtype=np.uint64)
        if not len(runs):
            return result
        by_run = self.before_in_block(tape_pb2.TABLE_COMPLETIONS)[runs]
        # Each counts from the one before it of the same worker.
        if len(self.workers) == 1:
            by_run[1:] -= by_run[:-1].copy()
        else:
            order = self._worker[runs].argsort(kind="stable")  # by digits, since these are short numbers
            sorted_ = by_run[order]
            same = (~changes(self._worker[runs][order])).nonzero()[0]
            by_run[order[same]] -= sorted_[same - 1]
        # Only the first token of a run can have completions before it.
        result[count.cumsum() - count] = by_run.view(np.uint64)
        return result

    def lengths_of(self, sequence: Values, before: Before, kind: bytes, length: Values) -> Values:
        """Of each completion: the length of its request, if that is a read or a write of this block; else 0."""
        table = tape_pb2.TABLE_REQUESTS
        if not len(length):
            return np.zeros(len(sequence), dtype=np.uint64)
        made = self.totals(table)
        # By worker, and behind them one 0 for what is not here.
        expected = np.zeros(len(length) + 1, dtype=np.uint64)
        moved = _MOVED_BYTES[np.frombuffer(kind, dtype=np.uint8)]
        expected[:-1] = (length * moved)[self.rows_by_worker(table)]
        # Wraps around for requests of blocks before: too large, then.
        rank = sequence - self.of_worker(before.requests, tape_pb2.TABLE_COMPLETIONS)
        if len(self.workers) == 1:
            place = np.minimum(rank, np.uint64(len(length)))
        else:
            start = self.of_worker((made.cumsum() - made).view(np.uint64), tape_pb2.TABLE_COMPLETIONS)
            here = rank < self.of_worker(made.view(np.uint64), tape_pb2.TABLE_COMPLETIONS)
            place = np.where(here, rank + start, np.uint64(len(length)))
        lengths: Values = expected[place.view(np.int64)]
        return lengths

    def of_worker(self, values: Values, table: int) -> Values:
        """The value of each row's worker: one that stands for all rows where there is one worker."""
        return values if len(self.workers) == 1 else values[self.worker_of(table)]


def changes(sorted_: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of the values are other than the one before them; the first is."""
    result = np.ones(len(sorted_), dtype=bool)
    np.not_equal(sorted_[1:], sorted_[:-1], out=result[1:])
    return result
