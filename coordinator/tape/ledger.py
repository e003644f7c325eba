"""What each worker has done up to here: the rules of a tape that need what came before.

Responsible for ids and numbers that continue, for completions that answer a request in flight exactly once, and
for tokens that release what has completed. It never keeps more than what is in flight, so a long tape takes no
more memory than a short one.
"""

from typing import NamedTuple

import numpy as np

from ringtape.coordinator.tape.frames import Problem
from ringtape.coordinator.tape.tables import U64, Column, Tables
from ringtape.proto import tape_pb2


class Totals(NamedTuple):
    """Rows so far."""

    requests: int
    completions: int
    tokens: int


class _Worker:
    __slots__ = ("completed", "in_flight", "requests", "tokens")

    def __init__(self) -> None:
        self.requests = 0
        self.tokens = 0
        self.in_flight: set[int] = set()
        self.completed = 0  # and not released


class Ledger:
    """Follows a tape block by block. After a Problem it is not to be used again."""

    def __init__(self) -> None:
        # Only workers that did something: a header may claim many.
        self._workers: dict[int, _Worker] = {}
        self.totals = Totals(0, 0, 0)

    def take(self, tables: Tables) -> list[int]:
        """Checks one block against everything before it. Raises Problem.

        Returns a number for each run: of its first row, the worker's sequence number (requests) or the worker's
        checkpoint (tokens); 0 for other tables.
        """
        totals = self.totals
        if tables.first_id != totals.requests + 1:
            raise Problem(f"its requests begin at id {tables.first_id}, not {totals.requests + 1}")
        if tables.first_token != totals.tokens + 1:
            raise Problem(f"its tokens begin at number {tables.first_token}, not {totals.tokens + 1}")
        sequences: list[int] = np.frombuffer(tables.sequence, dtype=U64).tolist()
        released: list[int] = tables.released.tolist()
        places = _Places(tables)
        first = []
        for table, number, count, start in _runs(tables):
            worker = self._workers.setdefault(number, _Worker())
            if table == tape_pb2.TABLE_REQUESTS:
                first.append(worker.requests)
                worker.in_flight.update(range(worker.requests, worker.requests + count))
                worker.requests += count
            elif table == tape_pb2.TABLE_TOKENS:
                first.append(worker.tokens + 1)
                worker.tokens += count
                for row in range(start, start + count):
                    worker.completed = _release(number, worker.completed, released[row], places.of(row))
            else:
                first.append(0)
                if table == tape_pb2.TABLE_COMPLETIONS:
                    _complete(number, worker, sequences[start : start + count])
        _check_covers(tables, first)
        self.totals = Totals(
            totals.requests + len(tables.kind),
            totals.completions + len(sequences),
            totals.tokens + len(released),
        )
        return first


class _Places:
    """The places in the queue that each token of a block released from."""

    def __init__(self, tables: Tables) -> None:
        self._order = tables.order
        self._ends: list[int] = (
            np.cumsum(tables.released, dtype=np.int64).tolist() if len(self._order) else []
        )
        self._released = tables.released

    def of(self, row: int) -> Column | None:
        if not self._ends:
            return None
        return self._order[self._ends[row] - int(self._released[row]) : self._ends[row]]


def _runs(tables: Tables) -> "zip[tuple[int, int, int, int]]":
    return zip(
        tables.run_table.tolist(),
        tables.run_worker.tolist(),
        tables.run_count.tolist(),
        tables.run_start.tolist(),
        strict=True,
    )


def _complete(number: int, worker: _Worker, sequences: list[int]) -> None:
    before = len(worker.in_flight)
    worker.in_flight.difference_update(sequences)
    if before - len(worker.in_flight) != len(sequences):
        raise Problem(f"it completes a request of worker {number} that is not in flight")
    worker.completed += len(sequences)


def _release(number: int, completed: int, released: int, places: Column | None) -> int:
    """How many completions are left after the token."""
    if released > completed:
        raise Problem(f"it releases {released} completions of worker {number}, of which {completed} wait")
    if places is not None and released:
        # Each place is counted in a queue one shorter than the one before.
        queue = np.arange(completed, completed - released, -1, dtype=np.int64)
        if (places >= queue).any():
            raise Problem(f"it releases a completion of worker {number} from beyond the end of its queue")
    return completed - released


def _check_covers(tables: Tables, first: list[int]) -> None:
    """An fsync cannot cover more requests than were made before it."""
    if not tables.fsync_covers:
        return
    of_requests = tables.run_table == tape_pb2.TABLE_REQUESTS
    starts = tables.run_start[of_requests]
    run = np.searchsorted(starts, tables.fsync_rows, side="right") - 1
    base = np.array(first, dtype=np.uint64)[of_requests]
    sequence = base[run] + (tables.fsync_rows - starts[run]).astype(np.uint64)
    if (np.frombuffer(tables.fsync_covers, dtype=U64) > sequence).any():
        raise Problem("it has an fsync that covers more requests than were made before it")
