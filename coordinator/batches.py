"""A worker's batch taken apart: its program's acts in their order, then its completions, then what it waits for."""

from __future__ import annotations

from collections.abc import Iterator, MutableSequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ringtape.coordinator.columns import check_completions, check_requests
from ringtape.coordinator.errors import ProtocolError
from ringtape.coordinator.tape.slices import slice_completions, slice_requests
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
class TurnRows:
    """Checkpoints, at least one, at which a leased worker released completions on its own, with all their rows."""

    turns: Turns
    columns: messages_pb2.Requests
    count: int
    completions: messages_pb2.Completions
    completed: int


@dataclass(frozen=True, slots=True)
class NoteOfTurn:
    """A note that a leased worker's program made before a checkpoint, and when."""

    note: messages_pb2.Note
    at_ns: int


Act = RequestRows | messages_pb2.Note
ActInTurns = Act | TurnRows | NoteOfTurn

_MODE_MAX = wire_pb2.Checkpoint.MODE_POLL


class BatchChecker:
    """Knows what a batch may hold."""

    def __init__(self, *, disks: int, workers: int, digests: bool, contents: bool = False) -> None:
        self._disks = disks
        self._workers = workers
        self._digests = digests
        self._contents = contents

    def acts(self, batch: wire_pb2.Batch) -> Iterator[Act]:
        """The program's requests and notes, in the order in which it made them; `ProtocolError` if broken."""
        count = check_requests(
            batch.requests, disks=self._disks, digests=self._digests, contents=self._contents
        )
        if batch.notes:
            yield from self._acts_between(batch, 0, 0, count)
        elif count:
            yield RequestRows(batch.requests, count, batch.requests_ns)

    def _acts_between(self, batch: wire_pb2.Batch, note: int, done: int, count: int) -> Iterator[Act]:
        """Notes from `note` on, and the requests from `done` to `count` around them."""
        at_ns = batch.requests_ns
        for one in batch.notes[note:]:
            until = self._check_note(one, done, count)
            if until > done:
                yield RequestRows(slice_requests(batch.requests, done, until), until - done, at_ns)
                done = until
            yield one
        if count > done:
            yield RequestRows(slice_requests(batch.requests, done, count), count - done, at_ns)

    def acts_in_turns(self, batch: wire_pb2.Batch) -> Iterator[ActInTurns]:
        """As `acts`, of a batch of a leased worker that has turns, with these among them.

        Their completions are the first of the batch; what is left is behind the last turn.
        """
        count = check_requests(
            batch.requests, disks=self._disks, digests=self._digests, contents=self._contents
        )
        turns, notes = turns_of(batch.turns)
        completed = self.completions(batch)
        if (
            turns.requests.sum() > count
            or turns.completions.sum() > completed
            or notes.sum() > len(batch.notes)
        ):
            raise ProtocolError("a batch has turns of more rows than it has")
        made = turns.requests.cumsum()
        after = turns.requests  # of each turn, what is left of it behind the notes so far
        turn = done = came = 0  # what has been given: turns, requests, completions
        of_turn = np.repeat(np.arange(len(turns)), notes).tolist()
        for note, until_turn in zip(batch.notes, of_turn, strict=False):
            if until_turn > turn:
                some = turns.between(turn, until_turn)
                rows = _turn_rows(batch, some, done, came)
                yield rows
                turn, done, came = until_turn, done + rows.count, came + rows.completed
            until = self._check_note(note, done, int(made[turn]))
            if until > done:
                columns = slice_requests(batch.requests, done, until)
                yield RequestRows(columns, until - done, int(turns.requests_ns[turn]))
                after[turn] -= until - done
                done = until
            yield NoteOfTurn(note, int(turns.requests_ns[turn]))
        if turn < len(turns):
            rows = _turn_rows(batch, turns.between(turn, len(turns)), done, came)
            yield rows
            done += rows.count
        yield from self._acts_between(batch, len(of_turn), done, count)

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
        return check_completions(batch.completions, digests=self._digests, contents=self._contents)


def turns_of(message: wire_pb2.Turns) -> tuple[Turns, npt.NDArray[np.int64]]:
    """The turns, and how many notes each has; `ProtocolError` if the columns do not hold together.

    The counts are copies and may be changed.
    """
    count = len(message.mode)
    narrow = (message.requests, message.notes, message.completions, message.released, message.delivered)
    wide = (message.requests_ns, message.completions_ns, message.clock_ns, message.deadline_ns)
    if any(len(one) != 4 * count for one in narrow) or any(len(one) != 8 * count for one in wide):
        raise ProtocolError(f"a batch of {count} turns has columns of other lengths")
    mode = np.frombuffer(message.mode, np.uint8)
    if count and mode.max() > _MODE_MAX:
        raise ProtocolError(f"a batch has a turn at a checkpoint of the unknown mode {mode.max()}")
    requests, notes, completions, released, delivered = (
        np.frombuffer(one, "<u4").astype(np.int64) for one in narrow
    )
    requests_ns, completions_ns, clock_ns, deadline_ns = (np.frombuffer(one, "<u8") for one in wide)
    if (clock_ns[1:] < clock_ns[:-1]).any():
        raise ProtocolError("a batch has turns whose clock goes back")
    turns = Turns(
        requests=requests,
        completions=completions,
        requests_ns=requests_ns,
        completions_ns=completions_ns,
        clock_ns=clock_ns,
        deadline_ns=deadline_ns,
        mode=mode,
        released=released,
        delivered=delivered,
    )
    return turns, notes


def _turn_rows(batch: wire_pb2.Batch, turns: Turns, request: int, completion: int) -> TurnRows:
    """The turns with their rows of the batch, which begin there."""
    count, completed = int(turns.requests.sum()), int(turns.completions.sum())
    return TurnRows(
        turns,
        slice_requests(batch.requests, request, request + count),
        count,
        slice_completions(batch.completions, completion, completion + completed),
        completed,
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
