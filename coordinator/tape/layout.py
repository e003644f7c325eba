"""Where the rows of a block's tables stand: what follows from the block's runs alone.

Responsible for "how many before this one, of the same worker" over whole blocks at once. It never looks at more than
the runs, and its costs go by rows: a block of many workers takes no longer than a block of one.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ringtape.proto import tape_pb2
from ringtape.proto.messages_pb2 import KIND_READ, KIND_WRITE

Rows = NDArray[np.int64]
Values = NDArray[np.uint64]


class Before(NamedTuple):
    """What each worker that has a run in a block had done before the block; workers in the order of their numbers."""

    workers: NDArray[Any]
    requests: Values
    completions: Values  # how many of the requests had completed
    tokens: Values


class Layout:
    """Where the rows of a block's tables stand: what follows from its runs alone. Costs are by row, not by worker."""

    def __init__(self, table: NDArray[Any], worker: NDArray[Any], count: NDArray[Any]) -> None:
        self._table = table
        self._count = count.astype(np.int64)
        self.workers, slot = np.unique(worker, return_inverse=True)  # their numbers, in order
        self.run_worker = slot.astype(np.int64)  # of each run: its worker's place in `workers`
        # Runs by worker, each worker's in their order.
        self._by_worker = np.argsort(self.run_worker, kind="stable")
        self._before: dict[int, Rows] = {}  # from before_in_block
        self._run_of = {number: np.flatnonzero(table == number) for number in range(1, 5)}

    def rows(self, table: int) -> int:
        """How many rows the table has."""
        return int(self._count[self._run_of[table]].sum())

    def totals(self, table: int) -> Rows:
        """How many rows of the table each worker has."""
        result = np.zeros(len(self.workers), dtype=np.int64)
        runs = self._run_of[table]
        np.add.at(result, self.run_worker[runs], self._count[runs])
        return result

    def per_row(self, table: int, of_run: NDArray[Any]) -> NDArray[Any]:
        """What each run has, for each row of the table."""
        runs = self._run_of[table]
        return np.repeat(of_run[runs], self._count[runs])

    def worker_of(self, table: int) -> Rows:
        """The place in `workers` of each row's worker."""
        return self.per_row(table, self.run_worker)

    def before_in_block(self, table: int) -> Rows:
        """For each run: how many rows of the table its worker had in the runs before it."""
        known = self._before.get(table)
        if known is not None:
            return known
        counts = np.where(self._table == table, self._count, 0)[self._by_worker]
        ends = np.cumsum(counts)
        starts = ends - counts
        workers = self.run_worker[self._by_worker]
        firsts = np.flatnonzero(np.diff(workers, prepend=-1))
        result = np.empty(len(counts), dtype=np.int64)
        result[self._by_worker] = starts - starts[firsts][workers]
        self._before[table] = result
        return result

    def ranks(self, table: int) -> Rows:
        """For each row of the table: how many rows of the table its worker had before it in the block."""
        runs = self._run_of[table]
        count = self._count[runs]
        first = np.cumsum(count) - count
        within = np.arange(int(count.sum()), dtype=np.int64) - np.repeat(first, count)
        return np.repeat(self.before_in_block(table)[runs], count) + within

    def sequences(self, before: Before) -> Values:
        """Of each request: its sequence number."""
        table = tape_pb2.TABLE_REQUESTS
        return before.requests[self.worker_of(table)] + self.ranks(table).astype(np.uint64)

    def completed(self, before: Before) -> Values:
        """Of each completion: how many requests of its worker had completed before it."""
        table = tape_pb2.TABLE_COMPLETIONS
        return before.completions[self.worker_of(table)] + self.ranks(table).astype(np.uint64)

    def completed_since_token(self) -> Values:
        """Of each token: how many completions its worker had since its token before, in this block."""
        runs = self._run_of[tape_pb2.TABLE_TOKENS]
        count = self._count[runs]
        result = np.zeros(int(count.sum()), dtype=np.uint64)
        if not len(runs):
            return result
        completed = self.before_in_block(tape_pb2.TABLE_COMPLETIONS)[runs]
        # Token runs by worker: each counts from the one before it of the same worker.
        order = np.argsort(self.run_worker[runs], kind="stable")
        sorted_ = completed[order]
        since = np.diff(sorted_, prepend=0)
        firsts = np.flatnonzero(np.diff(self.run_worker[runs][order], prepend=-1))
        since[firsts] = sorted_[firsts]
        by_run = np.empty(len(runs), dtype=np.int64)
        by_run[order] = since
        # Only the first token of a run can have completions before it.
        result[np.cumsum(count) - count] = by_run.astype(np.uint64)
        return result

    def lengths_of(self, sequence: Values, before: Before, kind: bytes, length: Values) -> Values:
        """Of each completion: the length of its request, if that is a read or a write of this block; else 0."""
        result = np.zeros(len(sequence), dtype=np.uint64)
        table = tape_pb2.TABLE_REQUESTS
        if not len(length):
            return result
        worker = self.worker_of(table)
        by_worker = np.argsort(worker, kind="stable")  # rows, so that a worker's follow one another
        made = np.bincount(worker, minlength=len(self.workers))
        slot = self.worker_of(tape_pb2.TABLE_COMPLETIONS)
        rank = sequence - before.requests[slot]  # wraps around for requests of blocks before: too large, then
        here = rank < made[slot].astype(np.uint64)
        row = by_worker[(np.cumsum(made) - made)[slot[here]] + rank[here].astype(np.int64)]
        kinds = np.frombuffer(kind, dtype=np.uint8)[row]
        result[here] = np.where((kinds == KIND_READ) | (kinds == KIND_WRITE), length[row], np.uint64(0))
        return result
