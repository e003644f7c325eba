"""The volume face: arrays of requests in, arrays of results out, so many requests under way at once.

A volume decides which of its requests are made when; that follows from its arrays and from what has been released to
it, and from nothing else, so it is the same in a recording and its replay. How they are carried out, by columns or one
by one, is decided here too, and no program can tell. Loaded when a program first submits; so is NumPy.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import operator
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ringtape.engine.chunks import Chunk, Way, data_of_row
from ringtape.engine.columns import Columns
from ringtape.engine.columns_ring import array_number
from ringtape.engine.gate import WAIT, Gate
from ringtape.engine.pattern import pattern
from ringtape.engine.queue import RequestQueue
from ringtape.engine.requests import InvalidRequest, Kind, Request, data_of
from ringtape.engine.rows import RELEASED, RowDisk, Rows

DEPTH_MAX = 1 << 16
# All rows of a turn go alone where between those that have to there are fewer than this, on average.
SHORT = 8
_WRITE = int(Kind.WRITE)
_KINDS = {int(kind): kind for kind in Kind}

_numbers = itertools.count()

Results = NDArray[Any]
OnResults = Callable[[Results], object]
OnMade = Callable[[int], object]


class Volume:
    """One call of `submit`."""

    def __init__(
        self,
        gate: Gate,
        disks: Sequence[RowDisk],
        requests: Any,
        *,
        worker: int,
        depth: int,
        data: Any,
        into: Any,
        on_results: OnResults | None,
        on_made: OnMade | None = None,
    ) -> None:
        """Raise `InvalidRequest` for what cannot be."""
        self._gate, self._disks, self.worker = gate, disks, worker
        self.number = next(_numbers)
        self._depth = _checked_depth(depth)
        self._on_results, self._on_made = on_results, on_made
        self._results: Results | None = None
        #: Those that are not done, the oldest first.
        self.arrays: deque[Rows] = deque()
        self._made_rows = self._made_arrays = 0
        self._next = 0  # row of the last array
        self._due_next_ns = 0  # not after the time of that row, by the array's own clock
        self._unreleased = 0
        self._began_ns = gate.clock.ns
        self._source: Iterator[Any] | None = None
        self.streams = not isinstance(requests, np.ndarray) and hasattr(requests, "__iter__")
        if self.streams:
            if data is not None or into is not None:
                raise InvalidRequest(errno.EINVAL, "'data' and 'into' go with one array, not with many")
            self._source = iter(requests)
        elif on_results is not None:
            raise InvalidRequest(errno.EINVAL, "'on_results' goes with many arrays, not with one")
        self.submitted = 0
        self.task: asyncio.Task[Any] | None = None
        self._future: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._chunk: Chunk | None = None
        self._closed = False
        first = None if self.streams else Rows(requests, disks, data=data, into=into)
        self._columns, self._way = _fast_path(gate, self)
        if first is not None:
            self._add(first)

    # ---- the two faces

    async def carry_out(self) -> Any:
        """For an asynchronous program: the results of the one array, or how many requests the many had."""
        loop = asyncio.get_running_loop()
        self.task = asyncio.current_task(loop)
        try:
            while self._go_on():
                future = self._future = loop.create_future()
                self._arm(loop)
                try:
                    await future
                finally:
                    self._future = None
        finally:
            self._close()
        return self._outcome()

    def carry_out_blocking(self) -> Any:
        """For a blocking program; see `carry_out`."""
        try:
            while self._go_on():
                while not self._wants_program():
                    self._gate.checkpoint(WAIT, self._due_ns())
                    self._refill()
        finally:
            self._close()
        return self._outcome()

    def _outcome(self) -> Any:
        return self.submitted if self.streams else self._results

    # ---- what runs as the program's

    def _go_on(self) -> bool:
        """Make requests, ask for arrays, give results; False at the end."""
        while True:
            self._refill()
            while self.arrays and not self.arrays[0].left:
                done = self.arrays.popleft()
                done.finish(self._gate.request_ids(done.sequence) if done.count else None)
                self._gate.queue.held.pop(done, None)
                self._results = done.results
                if self._on_results is not None:
                    self._on_results(done.results)
            if not self._wants_array():
                return bool(self.arrays)
            assert self._source is not None
            try:
                requests = next(self._source)
            except StopIteration:
                self._source = None
                continue
            requests, into = requests if isinstance(requests, tuple) else (requests, None)
            number = array_number(self._made_arrays)
            self._add(Rows(requests, self._disks, number=number, base=self._made_rows, into=into))

    def _add(self, rows: Rows) -> None:
        self.arrays.append(rows)
        self._made_rows += rows.count
        self._made_arrays += 1
        self._next = self._due_next_ns = 0
        self._chunk = None
        if rows.time_ns is not None and rows.count and self._columns is not None:
            # There is more time for it now than when many are due.
            self._prepare(rows, 0, self._columns)

    def _wants_array(self) -> bool:
        if self._source is None or self._unreleased >= self._depth:
            return False
        return not self.arrays or self._next == self.arrays[-1].count

    def _wants_program(self) -> bool:
        return self._wants_array() or not self.arrays or not self.arrays[0].left

    def _close(self) -> None:
        self._closed = True
        for rows in self.arrays:
            self._gate.queue.held.pop(rows, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._columns is not None:
            self._columns.leave()
            self._columns = None

    # ---- what runs at checkpoints as well

    def wake(self) -> None:
        """A token has released some of these requests; the rest of what it released has been told."""
        if self._closed:
            return
        self._refill()
        self._wake_program()

    def _wake_program(self) -> None:
        if self._future is None or self._future.done():
            return
        if self._wants_program():
            self._future.set_result(None)
        else:
            self._arm(self._future.get_loop())

    def _due_ns(self) -> int:
        """When the next row may be made, if it is too early for it and for nothing else; else 0."""
        if not self.arrays or self._unreleased >= self._depth:
            return 0
        rows = self.arrays[-1]
        if rows.time_ns is None or self._next >= rows.count:
            return 0
        if rows.room is not None and rows.room[self._next] <= self._unreleased - self._next:
            return 0
        return self._began_ns + int(rows.time_ns[self._next])

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            return
        due_ns = self._due_ns()
        if due_ns:
            left_ns = max(due_ns - self._gate.clock.ns, 1)
            self._timer = loop.call_later(left_ns / 1e9, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if not self._closed:
            self._refill()
            self._wake_program()

    def _refill(self) -> None:
        """Make as many requests as may be under way."""
        if not self.arrays:
            return
        rows = self.arrays[-1]
        first = self._next
        last = first + self._depth - self._unreleased
        if last > rows.count:
            last = rows.count
        if first >= last:
            return
        if rows.time_ns is not None:
            since_ns = self._gate.clock.ns - self._began_ns
            if self._due_next_ns > since_ns:
                return
            due = int(rows.time_ns[first:last].searchsorted(since_ns, side="right"))
            if not due:
                self._due_next_ns = int(rows.time_ns[first])
                return
            last = first + due
        if rows.room is not None:
            full = rows.room[first:last] <= self._unreleased - first
            if full.any():
                last = first + int(full.argmax())
            if first >= last:
                return
        if first == 0:
            self._gate.queue.held[rows] = self._gate.queue.made
        self._next = last
        self._unreleased += last - first
        self.submitted += last - first
        if self._columns is None:
            self._issue_alone(rows, first, last)
        else:
            self._issue(rows, first, last, self._columns)
        self._gate.issued()
        if self._on_made is not None:
            self._gate.queue.submit()
            self._on_made(self.submitted)

    def _issue(self, rows: Rows, first: int, last: int, columns: Columns) -> None:
        while first < last:
            chunk = self._chunk
            if chunk is None or first >= chunk.first + chunk.count:
                chunk = self._prepare(rows, first, columns)
            stop = chunk.first + chunk.count
            if stop > last:
                stop = last
            first = self._issue_run(rows, chunk, first, stop, columns)
            if first < last:
                self._gate.issued()

    def _prepare(self, rows: Rows, first: int, columns: Columns) -> Chunk:
        assert self._way is not None
        self._chunk = columns.prepare(rows, first, self._way, self._depth)
        return self._chunk

    def _issue_run(self, rows: Rows, chunk: Chunk, first: int, stop: int, columns: Columns) -> int:
        """Make rows that go in the same way, from `first` on; returns the first that was not made."""
        begin, end = first - chunk.first, stop - chunk.first
        alone = None if chunk.fit is None else ~chunk.fit[begin:end]
        if self._gate.queue.outstanding:
            conflicts = columns.conflicts(chunk, begin, end)
            if conflicts is not None:
                alone = conflicts if alone is None else alone | conflicts
        run = end - begin
        if alone is not None and alone.any():
            count = int(alone.sum())
            if run - count < SHORT * count:
                # What is between them would go by columns in short stretches.
                self._issue_alone(rows, first, stop)
                return stop
            run = int(alone.argmax())
        ones = 1
        if run:
            room = columns.room(chunk, begin, begin + run)
            if room:
                columns.issue(chunk, begin, begin + room, self._gate.clock.ns)
                return first + room
        elif alone is not None:
            # More that go alone, as far as they follow each other.
            ones = end - begin if alone.all() else int(alone.argmin())
        self._issue_alone(rows, first, first + ones)
        return first + ones

    def _issue_alone(self, rows: Rows, first: int, last: int) -> None:
        """Make each of these rows by itself."""
        queue, columns, chunk = self._gate.queue, self._columns, self._chunk
        rows.issued_ns[first:last] = self._gate.clock.ns
        values = zip(
            *(
                column[first:last].tolist()
                for column in (rows.kind, rows.disk, rows.offset, rows.length, rows.flags)
            ),
            strict=True,
        )
        for row, (kind, disk, offset, length, flags) in enumerate(values, first):
            request = Request(_KINDS[kind], disk, offset, length, flags)
            request.task = self.task
            request.waiter = _OneByOne(self, rows, row)
            made = queue.made
            rows.sequence[row] = made
            if columns is not None:
                assert chunk is not None
                fit = chunk.fit is None or bool(chunk.fit[row - chunk.first])
                columns.make_alone(rows, row, made, fit=fit)
            data: memoryview | bytes | None = None
            if kind == _WRITE:
                if rows.data is not None:
                    data = data_of_row(rows, row)
                else:
                    data = pattern(self.worker, made, offset, length)
            queue.issue(request, data)

    # ---- what comes back

    def released_one(self, request: Request, rows: Rows, row: int) -> None:
        """A token released a request that was made alone."""
        if self._closed:
            return
        rows.result[row], rows.released_ns[row] = request.result, self._gate.clock.ns
        rows.status[row] = RELEASED
        if rows.into is not None and request.kind is Kind.READ and request.result > 0:
            data = data_of(request)
            assert data is not None
            place = int(rows.place[row])
            rows.into[place : place + request.result] = data
        rows.left -= 1
        self.released_columns(1)

    def released_columns(self, count: int) -> None:
        """A token released so many requests that went by columns; their arrays know."""
        if self._closed:
            return
        self._unreleased -= count
        self._gate.queue.touched[self] = None


class _OneByOne:
    """Told of the release of one row that was made alone."""

    __slots__ = ("_row", "_rows", "_volume")

    def __init__(self, volume: Volume, rows: Rows, row: int) -> None:
        self._volume, self._rows, self._row = volume, rows, row

    def released(self, request: Request) -> None:
        """A token let this request through."""
        self._volume.released_one(request, self._rows, self._row)


def _checked_depth(depth: Any) -> int:
    try:
        number = operator.index(depth)
    except TypeError:
        number = 0
    if not 1 <= number <= DEPTH_MAX:
        raise InvalidRequest(errno.EINVAL, f"depth {depth!r} must be a whole number from 1 to {DEPTH_MAX}")
    return number


def _fast_path(gate: Gate, volume: Volume) -> tuple[Columns | None, Way | None]:
    """The columns of the worker's queue, if this volume may have them."""
    queue = gate.queue
    if not isinstance(queue, RequestQueue):
        return None, None
    columns = queue.open_columns()
    if columns is None or not columns.claim(volume):
        return None, None
    files, file_flag = queue.registered_files
    return columns, Way(
        # -1 is a disk that this worker does not use, and no row names.
        np.array(files, np.int64).astype(np.uint64) & np.uint64(0xFFFFFFFF),
        file_flag,
        by_columns=~np.array(queue.shared, np.bool_),
        ordered=queue.ordered,
        worker=volume.worker,
    )
