"""A worker's batch taken apart: its program's acts in their order, then its completions, then what it waits for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ringtape.coordinator.columns import check_completions, check_requests, slice_requests
from ringtape.coordinator.errors import ProtocolError
from ringtape.proto import messages_pb2, wire_pb2
from ringtape.proto.framing import MESSAGE_BYTES_MAX


@dataclass(frozen=True, slots=True)
class RequestRows:
    """Requests that follow one another without a note between them."""

    columns: messages_pb2.Requests
    count: int
    at_ns: int


Act = RequestRows | messages_pb2.Note


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

    def _check_sent(self, sent: messages_pb2.Sent) -> None:
        if sent.to >= self._workers or sent.size != len(sent.payload) or sent.size > MESSAGE_BYTES_MAX:
            raise ProtocolError(
                f"a message of {len(sent.payload)} bytes, said to be {sent.size}, to worker {sent.to}"
            )

    def completions(self, batch: wire_pb2.Batch) -> int:
        """The number of completions; `ProtocolError` if broken."""
        return check_completions(batch.completions, digests=self._digests, contents=self._contents)


def add_ids(ranges: list[wire_pb2.IdRange], sequence: int, first_id: int, count: int) -> None:
    """Add to `ranges` that requests `sequence` on have the ids `first_id` on; extends the last where it can."""
    if ranges:
        last = ranges[-1]
        if last.first_sequence + last.count == sequence and last.first_id + last.count == first_id:
            last.count += count
            return
    ranges.append(wire_pb2.IdRange(first_sequence=sequence, first_id=first_id, count=count))
