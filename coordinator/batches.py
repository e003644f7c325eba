"""A worker's batch taken apart: its program's acts in their order, then its completions, then what it waits for."""

from __future__ import annotations

from collections.abc import Iterator, MutableSequence
from dataclasses import dataclass

from ringtape.coordinator.columns import check_completions, check_requests
from ringtape.coordinator.errors import ProtocolError
from ringtape.coordinator.tape.slices import slice_completions, slice_requests
from ringtape.proto import messages_pb2, wire_pb2
from ringtape.proto.framing import MESSAGE_BYTES_MAX


@dataclass(frozen=True, slots=True)
class RequestRows:
    """Requests that follow one another without a note between them."""

    columns: messages_pb2.Requests
    count: int
    at_ns: int


Act = RequestRows | messages_pb2.Note


@dataclass(frozen=True, slots=True)
class Turn:
    """A checkpoint at which a leased worker released completions on its own."""

    clock_ns: int
    deadline_ns: int
    mode: int
    released: int
    delivered: int


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
        at_ns = batch.requests_ns
        if not batch.notes:
            if count:
                yield RequestRows(batch.requests, count, at_ns)
            return
        done = 0
        for note in batch.notes:
            until = note.after_requests
            if not done <= until <= count:
                raise ProtocolError(
                    f"a note after {until} of {count} requests, {done} of which were before it"
                )
            if note.HasField("sent"):
                self._check_sent(note.sent)
            if until > done:
                yield RequestRows(slice_requests(batch.requests, done, until), until - done, at_ns)
                done = until
            yield note
        if count > done:
            yield RequestRows(slice_requests(batch.requests, done, count), count - done, at_ns)

    def pieces(self, batch: wire_pb2.Batch) -> Iterator[tuple[wire_pb2.Batch, Turn | None]]:
        """The batch in pieces, each with the turn that ended it; the last is the rest, and has none.

        A batch without turns, of a worker without a lease, is its own one piece.
        """
        if not batch.HasField("turns"):
            yield batch, None
            return
        turns = batch.turns
        count = len(turns.mode)
        narrow = (turns.requests, turns.notes, turns.completions, turns.released, turns.delivered)
        wide = (turns.requests_ns, turns.completions_ns, turns.clock_ns, turns.deadline_ns)
        if any(len(one) != 4 * count for one in narrow) or any(len(one) != 8 * count for one in wide):
            raise ProtocolError(f"a batch of {count} turns has columns of other lengths")
        request = note = completion = 0
        rows = zip(
            *(memoryview(one).cast("I") for one in narrow),
            *(memoryview(one).cast("Q") for one in wide),
            turns.mode,
            strict=True,
        )
        for (
            requests,
            notes,
            completions,
            released,
            delivered,
            made_ns,
            done_ns,
            clock,
            deadline,
            mode,
        ) in rows:
            piece = _piece(batch, (request, note, completion), (requests, notes, completions))
            piece.requests_ns, piece.completions_ns = made_ns, done_ns
            request, note, completion = request + requests, note + notes, completion + completions
            yield piece, Turn(clock, deadline, mode, released, delivered)
        left = (len(batch.requests.kind) - request, len(batch.notes) - note, None)
        if left[0] < 0 or left[1] < 0:
            raise ProtocolError("a batch has turns of more rows than it has")
        rest = _piece(batch, (request, note, completion), left)
        rest.requests_ns, rest.completions_ns = batch.requests_ns, batch.completions_ns
        waits = batch.WhichOneof("waits")
        if waits is not None:
            getattr(rest, waits).CopyFrom(getattr(batch, waits))
        yield rest, None

    def _check_sent(self, sent: messages_pb2.Sent) -> None:
        if sent.to >= self._workers or sent.size != len(sent.payload) or sent.size > MESSAGE_BYTES_MAX:
            raise ProtocolError(
                f"a message of {len(sent.payload)} bytes, said to be {sent.size}, to worker {sent.to}"
            )

    def completions(self, batch: wire_pb2.Batch) -> int:
        """The number of completions; `ProtocolError` if broken."""
        return check_completions(batch.completions, digests=self._digests, contents=self._contents)


def _piece(
    batch: wire_pb2.Batch, start: tuple[int, int, int], rows: tuple[int, int, int | None]
) -> wire_pb2.Batch:
    """So many requests, notes and completions from there on; None is all that are left."""
    request, note, completion = start
    requests, notes, completions = rows
    piece = wire_pb2.Batch()
    if requests:
        piece.requests.CopyFrom(slice_requests(batch.requests, request, request + requests))
    for one in batch.notes[note : note + notes]:
        added = piece.notes.add()
        added.CopyFrom(one)
        if not request <= one.after_requests <= request + requests:
            raise ProtocolError("a note is among the requests of another turn")
        added.after_requests -= request
    if completions is None or completions:
        until = None if completions is None else completion + completions
        piece.completions.CopyFrom(slice_completions(batch.completions, completion, until))
    return piece


def add_ids(ranges: MutableSequence[wire_pb2.IdRange], sequence: int, first_id: int, count: int) -> None:
    """Add to `ranges` that requests `sequence` on have the ids `first_id` on; extends the last where it can."""
    if ranges:
        last = ranges[-1]
        if last.first_sequence + last.count == sequence and last.first_id + last.count == first_id:
            last.count += count
            return
    ranges.append(wire_pb2.IdRange(first_sequence=sequence, first_id=first_id, count=count))
