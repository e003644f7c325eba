"""A worker's batch taken apart: its program's acts in their order, then its completions, then what it waits for."""

from __future__ import annotations

from collections.abc import Iterator, MutableSequence, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ringtape.coordinator.columns import check_completions, check_requests
from ringtape.coordinator.errors import ProtocolError
from ringtape.coordinator.tape.slices import (
    CompletionColumns,
    Completions,
    RequestColumns,
    Requests,
    slice_requests,
)
from ringtape.coordinator.tape.turns import Turns
from ringtape.proto import messages_pb2, wire_pb2
from ringtape.proto.framing import MESSAGE_BYTES_MAX


@dataclass(frozen=True, slots=True)
class RequestRows:
    """Requests that follow one another without a note between them."""

    columns: messages_pb2.Requests
    count: int
    at_ns: int


@dataclass(frozen=True, slots=True)
class RecordedRows:
    """The same of a recording, where columns are taken out of the message once and for all."""

    columns: RequestColumns
    count: int
    at_ns: int


class TurnRows(NamedTuple):
    """Checkpoints, at least one, at which a leased worker released completions on its own, with all their rows."""

    turns: Turns
    columns: RequestColumns
    completions: CompletionColumns


class NoteOfTurn(NamedTuple):
    """A note that a program made, and when."""

    note: messages_pb2.Note
    at_ns: int


Act = RequestRows | messages_pb2.Note
RecordedAct = RecordedRows | TurnRows | NoteOfTurn

_MODES = bytes(range(wire_pb2.Checkpoint.MODE_POLL + 1))


class BatchChecker:
    """Knows what a batch may hold."""

    def __init__(self, *, disks: int, workers: int, digests: bool, contents: bool = False) -> None:
        self._disks = disks
        self._workers = workers
        self._digests = digests
        #: Do rows refer to contents?
        self.contents = contents

    def acts(self, batch: wire_pb2.Batch) -> Iterator[Act]:
        """The program's requests and notes, in the order in which it made them; `ProtocolError` if broken."""
        count = self._requests(batch.requests)
        at_ns = batch.requests_ns
        if not batch.notes:
            if count:
                yield RequestRows(batch.requests, count, at_ns)
            return
        for act in self._acts_between(batch.notes, 0, count):
            if isinstance(act, messages_pb2.Note):
                yield act
            else:
                yield RequestRows(slice_requests(batch.requests, *act), act[1] - act[0], at_ns)

    def _acts_between(
        self, notes: Sequence[messages_pb2.Note], done: int, count: int
    ) -> Iterator[tuple[int, int] | messages_pb2.Note]:
        """The notes, and the requests from `done` to `count` around them: from where to where."""
        for one in notes:
            until = self._check_note(one, done, count)
            if until > done:
                yield done, until
                done = until
            yield one
        if count > done:
            yield done, count

    def recorded_acts(
        self, batch: wire_pb2.Batch, columns: RequestColumns, completions: CompletionColumns
    ) -> Iterator[RecordedAct]:
        """As `acts`, of columns that were counted, with the turns of a leased worker among them.

        Their completions are the first of the batch; what is left is behind the last turn.
        """
        count, done = len(columns.kind), 0
        notes: Sequence[messages_pb2.Note] = batch.notes
        if batch.HasField("turns"):
            turns, notes_of_turns = turns_of(batch.turns)
            if len(turns):
                made, came, _, _ = turns.totals
                noted = int(notes_of_turns.sum())
                if made > count or 8 * came > len(completions.sequence) or noted > len(notes):
                    raise ProtocolError("a batch has turns of more rows than it has")
                if noted:
                    yield from self._acts_in_turns(notes, turns, notes_of_turns, columns, completions)
                else:
                    yield TurnRows(turns, columns.between(0, made), completions.between(0, came))
                notes, done = notes[noted:], made
        requests_ns = batch.requests_ns
        for act in self._acts_between(notes, done, count):
            if isinstance(act, messages_pb2.Note):
                yield NoteOfTurn(act, requests_ns)
            else:
                yield RecordedRows(columns.between(*act), act[1] - act[0], requests_ns)

    def _acts_in_turns(
        self,
        notes: Sequence[messages_pb2.Note],
        turns: Turns,
        notes_of_turns: npt.NDArray[np.int64],
        columns: RequestColumns,
        completions: CompletionColumns,
    ) -> Iterator[RecordedAct]:
        """Turns with notes between their requests. What of a turn is in front of a note is given before it."""
        turn = done = 0  # what has been given
        made = turns.sums[0].tolist()
        requests_ns = turns.times[0].tolist()
        of_turn = np.repeat(np.arange(len(turns)), notes_of_turns).tolist()
        for note, until_turn in zip(notes, of_turn, strict=False):
            if until_turn > turn:
                yield _turn_rows(turns, turn, until_turn, columns, done, completions)
                turn, done = until_turn, made[until_turn - 1]
            until = self._check_note(note, done, made[turn])
            if until > done:
                yield RecordedRows(columns.between(done, until), until - done, requests_ns[turn])
                done = until
            yield NoteOfTurn(note, requests_ns[turn])
        yield _turn_rows(turns, turn, len(turns), columns, done, completions)

    def counts(self, requests: Requests, completions: Completions) -> tuple[int, int]:
        """How many requests and completions; `ProtocolError` if broken."""
        return self._requests(requests), self._completions(completions)

    def _check_note(self, note: messages_pb2.Note, done: int, count: int) -> int:
        """How many requests were made before it: `done` at least, `count` at most."""
        until = note.after_requests
        if not done <= until <= count:
            raise ProtocolError(f"a note after {until} of {count} requests, {done} of which were before it")
        if note.HasField("sent"):
            self._check_sent(note.sent)
        return until

    def _check_sent(self, sent: messages_pb2.Sent) -> None:
        if sent.to >= self._workers or sent.size != len(sent.payload) or sent.size > MESSAGE_BYTES_MAX:
            raise ProtocolError(
                f"a message of {len(sent.payload)} bytes, said to be {sent.size}, to worker {sent.to}"
            )

    def completions(self, batch: wire_pb2.Batch) -> int:
        """The number of completions; `ProtocolError` if broken."""
        return self._completions(batch.completions)

    def _requests(self, columns: Requests) -> int:
        return check_requests(columns, disks=self._disks, digests=self._digests, contents=self.contents)

    def _completions(self, columns: Completions) -> int:
        return check_completions(columns, digests=self._digests, contents=self.contents)


def turns_of(message: wire_pb2.Turns) -> tuple[Turns, npt.NDArray[np.int64]]:
    """The turns, and how many notes each has; `ProtocolError` if the columns do not hold together."""
    mode = message.mode
    count = len(mode)
    narrow = (message.requests, message.completions, message.released, message.delivered, message.notes)
    wide = (message.requests_ns, message.completions_ns, message.clock_ns, message.deadline_ns)
    if any(len(one) != 4 * count for one in narrow) or any(len(one) != 8 * count for one in wide):
        raise ProtocolError(f"a batch of {count} turns has columns of other lengths")
    if mode.translate(None, _MODES):
        raise ProtocolError(f"a batch has a turn at a checkpoint of the unknown mode {max(mode)}")
    counts = np.frombuffer(b"".join(narrow), "<u4").reshape(5, count).astype(np.int64)
    times = np.frombuffer(b"".join(wide), "<u8").reshape(4, count)
    clock_ns = times[2]
    if (clock_ns[1:] < clock_ns[:-1]).any():
        raise ProtocolError("a batch has turns whose clock goes back")
    sums = counts[:4].cumsum(axis=1)
    return Turns(counts[:4], sums, times, np.frombuffer(mode, np.uint8)), counts[4]


def _turn_rows(
    turns: Turns,
    start: int,
    stop: int,
    columns: RequestColumns,
    done: int,
    completions: CompletionColumns,
) -> TurnRows:
    """The turns with their rows, of which so many requests have been given before."""
    some = turns.between(start, stop)
    before = turns.sums[:, start - 1].tolist() if start else [0, 0]
    made, came = some.totals[:2]
    given = done - before[0]
    if given:
        some = some.without_requests(given)
    return TurnRows(
        some,
        columns.between(done, before[0] + made),
        completions.between(before[1], before[1] + came),
    )


def add_ids(ranges: MutableSequence[wire_pb2.IdRange], sequence: int, first_id: int, count: int) -> None:
    """Add to `ranges` that requests `sequence` on have the ids `first_id` on; extends the last where it can."""
    if ranges:
        last = ranges[-1]
        if last.first_sequence + last.count == sequence and last.first_id + last.count == first_id:
            last.count += count
            return
    new = wire_pb2.IdRange()  # field by field: a fraction of what it costs by keywords
    new.first_sequence, new.first_id, new.count = sequence, first_id, count
    ranges.append(new)
