"""What each worker has done up to here: the rules of a tape that need what came before.

Responsible for ids and numbers that continue, for completions that answer a request in flight exactly once, and
for tokens that release what has completed. It never keeps more than what is in flight or waits to be released, which
has a limit, so a long tape takes no more memory than a short one.

A block is taken as a whole: every step is one operation over all rows, whatever the number of runs and workers.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ringtape.coordinator.tape.frames import Limit, Problem
from ringtape.coordinator.tape.layout import Before, Layout, Rows, Values, changes
from ringtape.coordinator.tape.queues import take_by_place
from ringtape.coordinator.tape.tables import Tables
from ringtape.proto import tape_pb2

REQUESTS, COMPLETIONS, TOKENS = tape_pb2.TABLE_REQUESTS, tape_pb2.TABLE_COMPLETIONS, tape_pb2.TABLE_TOKENS
# Requests in flight, or completed and not released. Some bytes of tape can ask for thousands of them.
OPEN_LIMIT = 1 << 22
_SEQUENCE_BITS = np.uint64(44)  # of a key; the bits above hold the worker
_SEQUENCE = np.uint64((1 << 44) - 1)


class Totals(NamedTuple):
    """Rows so far."""

    requests: int
    completions: int
    tokens: int


class Followed(NamedTuple):
    """What a block means after all before it."""

    tables: Tables
    before: Before
    completed_ids: Values  # of each completion: the id of its request
    released_ids: Values  # of each release of each token: the id of its request

    @property
    def first(self) -> list[int]:
        """Of each run's first row: the worker's sequence number (requests) or checkpoint (tokens); else 0."""
        return _first(self.tables, self.tables.layout, self.before)


class Ledger:
    """Follows a tape block by block. After a Problem it is not to be used again."""

    def __init__(self, workers: int) -> None:
        self.totals = Totals(0, 0, 0)
        self.contents = 0  # how many there are so far
        self.requests, self.completions, self.tokens = (np.zeros(workers, dtype=np.uint64) for _ in range(3))
        # Of requests in flight: worker and sequence number as one key, in the order of keys, and ids.
        self.flying_keys = np.zeros(0, dtype=np.uint64)
        self.flying_ids = np.zeros(0, dtype=np.uint64)
        # Of completions that wait to be released: by worker, the oldest first.
        self.waiting_worker = np.zeros(0, dtype=np.int64)
        self.waiting_ids = np.zeros(0, dtype=np.uint64)

    def copy(self) -> "Ledger":
        """One that goes its own way from here."""
        copy = Ledger(0)
        copy.__dict__.update(self.__dict__)
        # All else is replaced, never changed.
        copy.requests, copy.completions, copy.tokens = (
            counter.copy() for counter in (self.requests, self.completions, self.tokens)
        )
        return copy

    def flying(self) -> tuple[Values, Values]:
        """Worker and sequence number of each request in flight."""
        return self.flying_keys >> _SEQUENCE_BITS, self.flying_keys & _SEQUENCE

    def fly(self, worker: NDArray[Any], sequence: Values, ids: Values) -> None:
        """Sets the requests in flight, by worker and sequence number. Raises Problem where they are not in order."""
        keys = _keys(worker, sequence)
        if (keys[1:] <= keys[:-1]).any():
            raise Problem("its index has requests in flight out of order")
        self.flying_keys, self.flying_ids = keys, ids.astype(np.uint64)

    def before(self, layout: Layout) -> Before:
        """What the workers of the next block have done so far."""
        workers = layout.workers
        return Before(workers, self.requests[workers], self.completions[workers], self.tokens[workers])

    def take(self, tables: Tables, claimed: Before | None = None) -> Followed:
        """Checks one block against everything before it, and `claimed`, if the block says so itself. Raises Problem."""
        totals = self.totals
        if tables.first_id != totals.requests + 1:
            raise Problem(f"its requests begin at id {tables.first_id}, not {totals.requests + 1}")
        if tables.first_token != totals.tokens + 1:
            raise Problem(f"its tokens begin at number {tables.first_token}, not {totals.tokens + 1}")
        for column in (tables.request_contents, tables.completion_contents):
            if column and int(np.frombuffer(column, dtype="<u8").max()) > self.contents:
                raise Problem("it refers to contents that are not on the tape before it")
        layout = tables.layout
        before = self.before(layout)
        if claimed is not None and not all(
            np.array_equal(ours, theirs) for ours, theirs in zip(before, claimed, strict=True)
        ):
            raise Problem("it says that its workers had done something else before it")
        completed = self._complete(tables, layout, before)
        released = self._release(tables, layout, completed)
        _check_covers(tables, layout, before)
        if len(self.flying_ids) + len(self.waiting_ids) > OPEN_LIMIT:
            raise Limit(f"it leaves more than {OPEN_LIMIT} requests in flight or waiting to be released")
        for counter, table in (
            (self.requests, REQUESTS),
            (self.completions, COMPLETIONS),
            (self.tokens, TOKENS),
        ):
            counter[layout.workers] += layout.totals(table).astype(np.uint64)
        self.totals = Totals(
            totals.requests + len(tables.kind),
            totals.completions + len(completed),
            totals.tokens + len(tables.mode),
        )
        return Followed(tables, before, completed, released)

    def _complete(self, tables: Tables, layout: Layout, before: Before) -> Values:
        """Takes completed requests out of those in flight. Their ids, in the order of the completions."""
        by_worker = layout.rows_by_worker(REQUESTS)
        made, rows_made = layout.totals(REQUESTS), layout.rows(REQUESTS)
        starts = made.cumsum() - made
        # Of the block's requests by worker, with one more for those of blocks before; and of those in flight.
        new_done, old_done = np.zeros(rows_made + 1, dtype=bool), np.zeros(len(self.flying_ids), dtype=bool)
        sequence = np.frombuffer(tables.sequence, dtype="<u8")
        ids = np.zeros(0, dtype=np.uint64)
        if len(sequence):
            slot = layout.worker_of(COMPLETIONS)
            first = layout.of_worker(before.requests, COMPLETIONS)
            made_before = layout.per_row(COMPLETIONS, layout.before_in_block(REQUESTS)).view(np.uint64)
            good = sequence < first + made_before
            _check_flying(good, slot, layout)
            rows = (sequence - first).view(np.int64)
            if len(starts) > 1:
                rows += starts[slot]
            there = (sequence < first).nonzero()[0]
            keys = _keys(layout.workers[slot[there]], sequence[there])
            places = self.flying_keys.searchsorted(keys)
            # An end that no key is equal to, for what is beyond the end.
            good[there] = np.append(self.flying_keys, np.uint64(2**64 - 1))[places] == keys
            _check_flying(good, slot, layout)
            rows[there] = rows_made
            new_done[rows], old_done[places] = True, True
            if np.count_nonzero(new_done[:rows_made]) + np.count_nonzero(old_done) != len(sequence):
                twice = np.ones(len(sequence), dtype=bool)
                twice[np.unique(_keys(layout.workers[slot], sequence), return_index=True)[1]] = False
                _check_flying(~twice, slot, layout)
            if not isinstance(by_worker, slice):
                rows = np.append(by_worker, 0)[rows]
            ids = rows.view(np.uint64) + np.uint64(tables.first_id)
            ids[there] = self.flying_ids[places]
        new = (~new_done[:rows_made]).nonzero()[0]
        slot = starts.searchsorted(new, side="right") - 1
        sequence = before.requests[slot] + (new - starts[slot]).view(np.uint64)
        if not isinstance(by_worker, slice):
            new = by_worker[new]
        old = (~old_done).nonzero()[0]
        keys = np.concatenate((self.flying_keys[old], _keys(layout.workers[slot], sequence)))
        new_ids = new.view(np.uint64) + np.uint64(tables.first_id)
        order = _sorted_by(keys)
        self.flying_keys = keys[order]
        self.flying_ids = np.concatenate((self.flying_ids[old], new_ids))[order]
        return ids

    def _release(self, tables: Tables, layout: Layout, completed: Values) -> Values:
        """Takes what is released out of what waits. The ids, in the order of release."""
        if len(layout.workers) == 1 and not len(tables.order):
            return self._release_in_order(tables, layout, completed)
        number_of = layout.workers.astype(np.int64)
        worker = np.concatenate((self.waiting_worker, number_of[layout.worker_of(COMPLETIONS)]))
        ids = np.concatenate((self.waiting_ids, completed))
        by_worker = worker.astype(np.uint16).argsort(
            kind="stable"
        )  # by digits, since these are short numbers
        worker, ids = worker[by_worker], ids[by_worker]
        if not len(tables.mode):
            self.waiting_worker, self.waiting_ids = worker, ids
            return np.zeros(0, dtype=np.uint64)
        released = tables.released.astype(np.int64)
        slot = layout.worker_of(TOKENS)
        number = number_of[slot]
        gone = _sums_before(released, slot)
        waits = self._waited(layout, number) - gone
        _check_waits(released, waits, number)
        queued = np.bincount(worker, minlength=len(self.requests))
        start = (queued.cumsum() - queued)[number]  # of each token's worker, in the queue
        if len(tables.order):
            places = _places(tables.order.astype(np.int64), released, waits, number)
            taken = take_by_place(places, released, start, worker)
        else:
            taken = np.repeat(start + gone, released) + _within(released)
        is_left = np.ones(len(ids), dtype=bool)
        is_left[taken] = False
        left = is_left.nonzero()[0]
        self.waiting_worker, self.waiting_ids = worker[left], ids[left]
        return ids[taken]

    def _release_in_order(self, tables: Tables, layout: Layout, completed: Values) -> Values:
        """The same for a block of one worker that releases the oldest: the first of its queue, as many as there are."""
        number = int(layout.workers[0])
        start, end = self.waiting_worker.searchsorted((number, number + 1)).tolist()
        queue = np.concatenate((self.waiting_ids[start:end], completed))
        total = 0
        if len(tables.mode):
            released = tables.released.astype(np.int64)
            went: Rows = released.cumsum()
            numbers = np.full(len(released), number, dtype=np.int64)
            _check_waits(released, self._waited(layout, numbers) - (went - released), numbers)
            total = int(went[-1])
        left = queue[total:]
        self.waiting_ids = np.concatenate((self.waiting_ids[:start], left, self.waiting_ids[end:]))
        self.waiting_worker = np.concatenate(
            (
                self.waiting_worker[:start],
                np.full(len(left), number, dtype=np.int64),
                self.waiting_worker[end:],
            )
        )
        return queue[:total]

    def _waited(self, layout: Layout, number: Rows) -> Rows:
        """For each token, of the worker with that number: how many of its completions have come and waited so far."""
        waited: Rows = layout.per_row(TOKENS, layout.before_in_block(COMPLETIONS))
        waited += np.bincount(self.waiting_worker, minlength=len(self.requests))[number]
        return waited


def _first(tables: Tables, layout: Layout, before: Before) -> list[int]:
    slot = layout.run_worker
    sequence = before.requests[slot].astype(np.int64) + layout.before_in_block(REQUESTS)
    checkpoint = before.tokens[slot].astype(np.int64) + layout.before_in_block(TOKENS) + 1
    of_table = tables.run_table
    first: list[int] = np.where(
        of_table == REQUESTS, sequence, np.where(of_table == TOKENS, checkpoint, 0)
    ).tolist()
    return first


def _check_waits(released: Rows, waits: Rows, number: Rows) -> None:
    short = (released > waits).nonzero()[0]
    if len(short):
        row = short[0]
        raise Problem(
            f"it releases {released[row]} completions of worker {number[row]}, of which {waits[row]} wait"
        )


def _keys(worker: NDArray[Any], sequence: Values) -> Values:
    return (worker.astype(np.uint64) << _SEQUENCE_BITS) + sequence


def _sorted_by(values: NDArray[Any]) -> Rows | slice:
    """What puts the values in order, equal ones as they are; most often they are in order."""
    if not len(values) or (values[1:] >= values[:-1]).all():
        return slice(None)
    return np.argsort(values, kind="stable")


def _check_flying(good: NDArray[np.bool_], slot: Rows, layout: Layout) -> None:
    if not good.all():
        number = layout.workers[slot[np.flatnonzero(~good)[0]]]
        raise Problem(f"it completes a request of worker {number} that is not in flight")


def _within(counts: Rows) -> Rows:
    """0, 1, ... for each count."""
    ends = counts.cumsum()
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total, dtype=np.int64) - (ends - counts).repeat(counts)


def _sums_before(values: Rows, slot: Rows) -> Rows:
    """For each value: the sum of those before it with the same slot."""
    order = _sorted_by(slot)
    sorted_ = values[order]
    starts = sorted_.cumsum() - sorted_
    first = changes(slot[order])
    result = np.empty(len(values), dtype=np.int64)
    result[order] = starts - starts[np.flatnonzero(first)][first.cumsum() - 1]
    return result


def _places(order: Rows, released: Rows, waits: Rows, number: Rows) -> Rows:
    """The places, each of which is in a queue one shorter than the one before."""
    beyond = order >= np.repeat(waits, released) - _within(released)
    if beyond.any():
        worker = np.repeat(number, released)[np.flatnonzero(beyond)[0]]
        raise Problem(f"it releases a completion of worker {worker} from beyond the end of its queue")
    return order


def _check_covers(tables: Tables, layout: Layout, before: Before) -> None:
    """An fsync cannot cover more requests than were made before it."""
    if len(tables.fsync_rows):
        sequence = layout.sequences(before)[tables.fsync_rows]
        if (np.frombuffer(tables.fsync_covers, dtype="<u8") > sequence).any():
            raise Problem("it has an fsync that covers more requests than were made before it")
