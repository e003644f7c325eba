"""The replay that needs no disks: what requests came to, and what reads returned, is told from the tape.

Responsible for results and data ahead of a token, and for the replay's own tape, whose rows are the recording's. All
else, the comparison above all, is the replayer's. It never holds more data than a message of it.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ringtape.coordinator.batches import BatchChecker, RequestRows
from ringtape.coordinator.completions import Released
from ringtape.coordinator.contents import KNOWN_MAX
from ringtape.coordinator.journal import Journal
from ringtape.coordinator.replayed import ReplayedWorker
from ringtape.coordinator.replayer import Replayer
from ringtape.coordinator.stops import Inspection
from ringtape.coordinator.tape.contents import TapeContents
from ringtape.coordinator.tape.frames import Problem
from ringtape.coordinator.tape.reader import TapeDamagedAt, TapeReader
from ringtape.coordinator.tape.runs import CompletionsRun
from ringtape.coordinator.tape.sink import NullTape, TapeSink
from ringtape.proto import messages_pb2, wire_pb2
from ringtape.proto.contents import PIECE_BYTES

# A message of data is closed when it has so much.
GIVEN_BYTES_MAX = 1 << 18


class _Read(NamedTuple):
    """What a read returned, by where it is on the tape."""

    sequence: int
    contents: int
    length: int
    digest: int


class OfflineReplayer(Replayer):
    """Conducts a replay without disks; its workers have an `OfflineQueue`. The tape has data level full."""

    def __init__(
        self,
        reader: TapeReader,
        journal: Journal,
        checker: BatchChecker,
        *,
        stall_ns: int,
        on_log: Callable[[int, str], None],
        inspection: Inspection | None = None,
    ) -> None:
        super().__init__(reader, journal, checker, stall_ns=stall_ns, on_log=on_log, inspection=inspection)
        self._reader = reader
        # By worker and sequence: the lengths of reads that are not released.
        self._lengths: dict[int, dict[int, int]] = {}
        # Where the replay has a tape of its own, what its rows refer to goes there as well.
        self._copier = None if isinstance(journal.tape, NullTape) else _Copier(reader.contents, journal.tape)

    def _journal_requests(self, worker: int, made: RequestRows, recorded: messages_pb2.Requests) -> None:
        # They are equal but for what the program does not know: what an fsync covers, and where contents are.
        columns = messages_pb2.Requests()
        columns.CopyFrom(recorded)
        kinds, lengths = np.frombuffer(recorded.kind, dtype="u1"), np.frombuffer(recorded.length, dtype="<u8")
        first, own = self._workers[worker].made - made.count, self._lengths_of(worker)
        for row in np.flatnonzero(kinds == messages_pb2.KIND_READ).tolist():
            own[first + row] = int(lengths[row])
        columns.contents = self._copied(recorded.contents, lengths)
        self._journal.requests(worker, columns, made.count, made.at_ns)

    def _completions(self, run: CompletionsRun) -> None:
        recorded = run.columns
        self._workers[run.worker].recorded.add(recorded)
        columns = messages_pb2.Completions()
        columns.CopyFrom(recorded)
        columns.contents = self._copied(recorded.contents, np.frombuffer(recorded.result, dtype="<u8"))
        self._journal.completions(run.worker, columns, run.count, self._now_ns())

    def _has_come(self, state: ReplayedWorker, released: Released) -> bool:
        """Everything has: it is on the tape."""
        results = memoryview(released.results).cast("q")
        digests = memoryview(released.digests).cast("Q")
        for sequence, result, digest in zip(
            memoryview(released.sequences).cast("Q"), results, digests, strict=True
        ):
            state.completed[sequence] = result, digest
        return True

    def _under_way(self) -> bool:
        """Nothing is, where there is no disk: a request completes with the token that releases it."""
        return False

    def _order_of(self, state: ReplayedWorker, released: Released) -> Sequence[int] | None:
        return released.order

    def _send_token(self, worker: int, token: wire_pb2.Token, released: Released) -> None:
        token.results = released.results
        reads = self._reads(worker, released)
        if reads:
            self._send(worker, self._messages(reads, token))
        else:
            super()._send_token(worker, token, released)

    def _reads(self, worker: int, released: Released) -> list[_Read]:
        """Those of the released requests that returned data."""
        own = self._lengths_of(worker)
        reads = []
        for sequence, result, contents, digest in zip(
            memoryview(released.sequences).cast("Q"),
            memoryview(released.results).cast("q"),
            memoryview(released.contents).cast("Q"),
            memoryview(released.digests).cast("Q"),
            strict=True,
        ):
            length = own.pop(sequence, None)
            if length is not None and result > 0:
                if result > length:
                    raise self._damaged(f"it has a read of {length} bytes that returned {result}")
                reads.append(_Read(sequence, contents, result, digest))
        return reads

    def _messages(self, reads: list[_Read], token: wire_pb2.Token) -> Iterator[wire_pb2.CoordinatorMessage]:
        """The data, and behind it the token."""
        sequences, lengths, pieces, gathered = array("Q"), array("I"), [], 0
        contents = self._reader.contents
        try:
            for read in reads:
                contents.check(read.contents, read.length, read.digest)
                for piece in contents.pieces(read.contents, read.length):
                    sequences.append(read.sequence)
                    lengths.append(len(piece))
                    pieces.append(piece)
                    gathered += len(piece)
                    if gathered >= GIVEN_BYTES_MAX:
                        yield _given(sequences, lengths, pieces)
                        sequences, lengths, pieces, gathered = array("Q"), array("I"), [], 0
        except Problem as problem:
            raise self._damaged(str(problem)) from None
        if pieces:
            yield _given(sequences, lengths, pieces)
        yield wire_pb2.CoordinatorMessage(token=token)

    def _lengths_of(self, worker: int) -> dict[int, int]:
        """Of the worker's reads that are not released, by sequence."""
        return self._lengths.setdefault(worker, {})

    def _copied(self, numbers: bytes, lengths: npt.NDArray[np.uint64]) -> bytes:
        if self._copier is None:
            return numbers
        try:
            return self._copier.copied(numbers, lengths)
        except Problem as problem:
            raise self._damaged(str(problem)) from None

    def _damaged(self, problem: str) -> TapeDamagedAt:
        assert self._block is not None, "rows come from blocks"
        return TapeDamagedAt(
            self._reader.path,
            problem,
            offset=self._block.offset,
            block=self._block.number,
            requests_whole=self._block.first_id - 1,
        )


def _given(
    sequences: array[int], lengths: array[int], pieces: list[memoryview]
) -> wire_pb2.CoordinatorMessage:
    given = wire_pb2.Given(sequence=sequences.tobytes(), length=lengths.tobytes(), data=b"".join(pieces))
    return wire_pb2.CoordinatorMessage(given=given)


class _Copier:
    """Contents from one tape to another: each once, as far as a bounded memory of numbers tells."""

    def __init__(self, source: TapeContents, tape: TapeSink) -> None:
        self._source = source
        self._tape = tape
        # The one tape's numbers to the other's, in two generations.
        self._young: dict[int, int] = {}
        self._old: dict[int, int] = {}

    def copied(self, numbers: bytes, lengths: npt.NDArray[np.uint64]) -> bytes:
        """The other tape's numbers for a column of data of these lengths. Raises Problem."""
        pairs = zip(memoryview(numbers).cast("Q"), lengths.tolist(), strict=True)
        return array(
            "Q", (self._number_of(number, length) if number else 0 for number, length in pairs)
        ).tobytes()

    def _number_of(self, number: int, length: int) -> int:
        known = self._young.get(number)
        if known is not None:
            return known
        known = self._old.get(number)
        if known is None:
            if length <= PIECE_BYTES:
                data = bytes(self._source.one(number, length))
            else:
                parts = self._source.parts(number, length)
                data = array("Q", (self._number_of(*part) for part in parts)).tobytes()
            known = self._tape.content(data)
        if len(self._young) >= KNOWN_MAX:
            self._young, self._old = {}, self._young
        self._young[number] = known
        return known
