"""What a block of the tape says, run by run, as objects.

Responsible for handing out the rows of a checked block in the order in which they happened. It never checks
(that is done before a `BlockView` exists) and never looks at a row before somebody asks: `columns` is cut out of
the block's bytes when it is read, so following a tape costs a few objects a run, not a row.

Runs follow the writer's calls, but not one to one: neighbours of one worker, table and time may have become one
run, and a long run may have become several. Only the rows and their order mean something.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

from ringtape.coordinator.tape.ledger import Followed
from ringtape.coordinator.tape.tables import Column, Tables
from ringtape.proto import messages_pb2, tape_pb2


@dataclass(frozen=True, slots=True)
class RequestsRun:
    """Requests that follow one another in one worker's program.

    Request i of the run has id `first_id + i` and is number `first_sequence + i` of the worker.
    `at_ns` is when they were handed to the kernel, since the start of the run.
    """

    worker: int
    count: int
    at_ns: int
    first_id: int
    first_sequence: int
    _tables: Tables
    _start: int

    @property
    def columns(self) -> messages_pb2.Requests:
        """The run's rows. Cut out of the block at each call: keep it if it is needed twice."""
        tables, start, stop = self._tables, self._start, self._start + self.count
        fsync_start, fsync_stop = np.searchsorted(tables.fsync_rows, (start, stop))
        return messages_pb2.Requests(
            kind=tables.kind[start:stop],
            flags=tables.flags[start:stop],
            disk=tables.disk[2 * start : 2 * stop],
            offset=tables.offset[8 * start : 8 * stop],
            length=tables.length[8 * start : 8 * stop],
            digest=tables.request_digest[8 * start : 8 * stop],
            fsync_covers=tables.fsync_covers[8 * int(fsync_start) : 8 * int(fsync_stop)],
            contents=tables.request_contents[8 * start : 8 * stop],
        )


@dataclass(frozen=True, slots=True)
class CompletionsRun:
    """Completions of one worker, as taken from the kernel at `at_ns` since the start of the run."""

    worker: int
    count: int
    at_ns: int
    _tables: Tables
    _start: int

    @property
    def columns(self) -> messages_pb2.Completions:
        """The run's rows. Cut out of the block at each call: keep it if it is needed twice."""
        tables, start, stop = self._tables, self._start, self._start + self.count
        return messages_pb2.Completions(
            sequence=tables.sequence[8 * start : 8 * stop],
            result=tables.result[8 * start : 8 * stop],
            digest=tables.completion_digest[8 * start : 8 * stop],
            contents=tables.completion_contents[8 * start : 8 * stop],
        )


@dataclass(frozen=True, slots=True)
class TokenRun:
    """One release token.

    `checkpoint` is the worker's checkpoint that it answers, from 1; what starts a worker is not on the tape.
    `order` holds, for each released completion, its place in the worker's queue of completions not yet released,
    after those before it were taken out; None where all are 0, which is the order in which they completed.
    """

    worker: int
    number: int
    checkpoint: int
    at_ns: int
    clock_ns: int
    deadline_ns: int
    mode: int  # of wire_pb2.Checkpoint.Mode
    released: int
    order: tuple[int, ...] | None
    delivered: int = 0  # messages and openings of barriers, the oldest of those that had come to the worker


@dataclass(frozen=True, slots=True)
class NoteRun:
    """One note."""

    worker: int
    at_ns: int
    note: messages_pb2.Note


Run: TypeAlias = RequestsRun | CompletionsRun | TokenRun | NoteRun


class Place(NamedTuple):
    """Somewhere between the rows of a block: before a run, or before one row of a run of tokens or notes."""

    run: int
    row: int


@dataclass(frozen=True, slots=True)
class BlockView:
    """One whole block of the tape.

    `number` counts the blocks of a tape from 1; `offset` and `frame_bytes` say where in the file it is.
    """

    number: int
    offset: int
    frame_bytes: int
    tables: Tables
    followed: Followed

    @property
    def completed_ids(self) -> Column:
        """Of each of its completions, in their order: the id of the request."""
        return self.followed.completed_ids

    @property
    def released_ids(self) -> Column:
        """Of each completion that its tokens release, one token after another: the id of the request."""
        return self.followed.released_ids

    @property
    def first_id(self) -> int:
        """Of its first request; of the next request of the tape where it has none."""
        return self.tables.first_id

    @property
    def request_count(self) -> int:
        """How many requests it holds."""
        return len(self.tables.kind)

    def runs(self) -> Iterator[Run]:
        """Its runs, in the order in which they happened."""
        return iter(Cursor(self).next, None)


class Cursor:
    """Goes along the runs of a block, one by one, and jumps where it is told to."""

    def __init__(self, block: BlockView) -> None:
        tables = block.tables
        self._tables = tables
        self._runs = list(
            zip(
                tables.run_table.tolist(),
                tables.run_worker.tolist(),
                tables.run_count.tolist(),
                tables.run_ns.tolist(),
                tables.run_start.tolist(),
                block.followed.first,
                strict=True,
            )
        )
        self._tokens = list(_tokens(tables))
        #: Where the run is that `next` gave last, and the one that it gives next.
        self.place = self._next = Place(0, 0)

    def jump(self, place: Place) -> None:
        """Go on from that place."""
        self._next = place

    def next(self) -> Run | None:
        """The next run; None at the end of the block."""
        self.place = run, row = self._next
        if run == len(self._runs):
            return None
        table, worker, count, at_ns, start, first = self._runs[run]
        tables = self._tables
        if table == tape_pb2.TABLE_REQUESTS:
            self._next = Place(run + 1, 0)
            return RequestsRun(worker, count, at_ns, tables.first_id + start, first, tables, start)
        if table == tape_pb2.TABLE_COMPLETIONS:
            self._next = Place(run + 1, 0)
            return CompletionsRun(worker, count, at_ns, tables, start)
        self._next = Place(run, row + 1) if row + 1 < count else Place(run + 1, 0)
        if table == tape_pb2.TABLE_TOKENS:
            number = tables.first_token + start + row
            return TokenRun(worker, number, first + row, at_ns, *self._tokens[start + row])
        return NoteRun(worker, at_ns, tables.notes[start + row])


def _tokens(tables: Tables) -> Iterator[tuple[int, int, int, int, tuple[int, ...] | None, int]]:
    """Clock, deadline, mode, released, order and delivered of each token of the block."""
    delivered = tables.delivered if len(tables.delivered) else np.zeros(len(tables.mode), dtype="<u4")
    columns = (tables.clock_ns, tables.deadline_ns, tables.mode, tables.released, delivered)
    stop = 0
    for clock_ns, deadline_ns, mode, released, messages in zip(
        *(column.tolist() for column in columns), strict=True
    ):
        order = None
        if len(tables.order):
            start, stop = stop, stop + released
            if tables.order[start:stop].any():
                order = tuple(tables.order[start:stop].tolist())
        yield clock_ns, deadline_ns, mode, released, order, messages
