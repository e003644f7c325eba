"""One worker in a replay: what its program did and the tape has not come to, and what of it is not released.

It keeps accounts and puts differences into words; what follows from them is the replayer's business.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from ringtape.coordinator.batches import Act, BatchChecker, RequestRows, add_ids
from ringtape.coordinator.columns import u64
from ringtape.coordinator.completions import CompletionQueue, Released
from ringtape.coordinator.errors import DifferentData, Divergence, ProtocolError
from ringtape.coordinator.tape.layout import Values
from ringtape.coordinator.tape.runs import TokenRun
from ringtape.coordinator.tape.slices import slice_requests
from ringtape.coordinator.words import kind_name, note_in_words, request_in_words, waits_in_words
from ringtape.proto import messages_pb2, wire_pb2

# What a request takes while the tape has not come to it, about.
_ROW_BYTES = 64
# Notes that a program makes without waiting for an answer.
NOTES_UNASKED = ("log", "sent", "barrier")
_COLUMNS = ("kind", "flags", "disk", "offset", "length", "digest")


class ReplayedWorker:
    """Everything is in the worker's own numbers (sequence); `ids` has the global ones of what is not released."""

    def __init__(self, index: int, disks: Sequence[str]) -> None:
        self.index = index
        self._disks = disks
        self.made = 0
        self.checkpoints = 0
        # What the program did and the tape has not come to; of the first, `_taken` rows are done with.
        self._acts: deque[Act] = deque()
        self._taken = 0
        self.rows_ahead = 0
        self.waits: wire_pb2.Batch | None = None
        #: How many checkpoints it has passed on its own, that the tape has not come to.
        self.passed = 0
        # What the kernel finished this time and no token has released: sequence to result and digest.
        self.completed: dict[int, tuple[int, int]] = {}
        # The same as columns, for the replay's own tape: what is not on it yet, and the sequences of what is.
        self._arrived = CompletionQueue()
        self._queued: list[int] = []
        # What the kernel finished in the recording and no token on the tape has released.
        self.recorded = CompletionQueue()
        self.new_ids: list[wire_pb2.IdRange] = []
        self.ids: dict[int, int] = {}
        self._kinds: dict[int, int] = {}

    def add(self, batch: wire_pb2.Batch, checker: BatchChecker) -> None:
        """Take what the worker did; `ProtocolError` if it could not have."""
        if self.waits is not None and batch.WhichOneof("waits") is not None:
            raise ProtocolError(f"worker {self.index} went on without a token")
        for act in checker.acts(batch):
            self._acts.append(act)
            self.rows_ahead += act.count if isinstance(act, RequestRows) else _rows_of(act)
        if checker.completions(batch):
            columns = batch.completions
            results = memoryview(columns.result).cast("q")
            digests = memoryview(columns.digest).cast("Q") if columns.digest else [0] * len(results)
            sequences = memoryview(columns.sequence).cast("Q")
            self.completed.update(zip(sequences, zip(results, digests, strict=True), strict=True))
            self._arrived.add(columns)
        if batch.WhichOneof("waits") is not None:
            self.waits = batch

    @property
    def act(self) -> Act | None:
        """The first thing that the program did and the tape has not come to."""
        return self._acts[0] if self._acts else None

    def next_in_words(self) -> str:
        """What the program did next: its first act, or else what it waits for."""
        act = self.act
        if isinstance(act, RequestRows):
            return request_in_words(act.columns, self._taken, self._disks)
        if act is not None:
            return note_in_words(act)
        assert self.waits is not None
        return waits_in_words(self.waits)

    def peek_requests(self, count_max: int) -> RequestRows:
        """The first so many requests, or fewer; the first act is requests."""
        act = self._acts[0]
        assert isinstance(act, RequestRows)
        count = min(count_max, act.count - self._taken)
        columns = slice_requests(act.columns, self._taken, self._taken + count)
        return RequestRows(columns, count, act.at_ns)

    def take_requests(self, made: RequestRows, first_id: int) -> None:
        """These requests, which `peek_requests` gave, are the tape's and have the ids from `first_id` on."""
        sequence, count = self.made, made.count
        self.ids.update(
            zip(range(sequence, sequence + count), range(first_id, first_id + count), strict=True)
        )
        self._kinds.update(zip(range(sequence, sequence + count), made.columns.kind, strict=True))
        self.made += count
        add_ids(self.new_ids, sequence, first_id, count)
        self.rows_ahead -= count
        self._taken += count
        act = self._acts[0]
        assert isinstance(act, RequestRows)
        if self._taken == act.count:
            self._acts.popleft()
            self._taken = 0

    def pass_turns(self, checkpoints: int, kinds: bytes, ids: Values, released: Released) -> int:
        """It has passed so many checkpoints and made such requests with these ids; these came out of `recorded`.

        Returns how many of the released completions it has not told of, and will not.
        """
        self.passed -= checkpoints
        self.checkpoints += checkpoints
        first, count = self.made, len(kinds)
        self.made += count
        # Most of them come and go in one step; accounts are kept of those alone that are there before or behind it.
        rows = np.frombuffer(released.sequences, np.int64) - first
        left = np.ones(count, np.bool_)
        left[rows[rows >= 0]] = False
        for row in rows[rows < 0].tolist():
            del self.ids[first + row]
            del self._kinds[first + row]
        places = left.nonzero()[0]
        for row, id_ in zip(places.tolist(), ids[places].tolist(), strict=True):
            self.ids[first + row] = id_
            self._kinds[first + row] = kinds[row]
        untold = released.count
        if self.completed:
            for sequence in memoryview(released.sequences).cast("Q"):
                if self.completed.pop(sequence, None) is not None:
                    untold -= 1
                    if sequence in self._queued:
                        self._queued.remove(sequence)
        return untold

    def take_note(self) -> messages_pb2.Note:
        """The first act, a note, is the tape's."""
        note = self._acts.popleft()
        assert isinstance(note, messages_pb2.Note)
        self.rows_ahead -= _rows_of(note)
        return note

    def released_by(self, run: TokenRun) -> Released:
        """What the tape's next token of this worker releases."""
        return self.recorded.first(run.released) if run.order is None else self.recorded.chosen(run.order)

    def missing(self, released: Released) -> list[int]:
        """Sequences of what is to be released and has not completed this time."""
        return [s for s in memoryview(released.sequences).cast("Q") if s not in self.completed]

    def release(self, released: Released) -> None:
        """A token released these."""
        self.recorded.take(released)
        self.checkpoints += 1
        self.waits = None
        for sequence in memoryview(released.sequences).cast("Q"):
            del self.completed[sequence]
            del self.ids[sequence]
            del self._kinds[sequence]

    def in_flight(self) -> bool:
        """Is there a request that the tape has come to and the kernel has not finished?"""
        return any(sequence not in self.completed for sequence in self.ids)

    def take_arrived(self) -> Released:
        """The completions, in the order in which they came this time, that this has not given before.

        Their requests have all been taken, which is so when the program waits or has ended.
        """
        arrived = self._arrived.first(len(self._arrived))
        self._arrived.take(arrived)
        self._queued.extend(memoryview(arrived.sequences).cast("Q"))
        return arrived

    def order_of(self, released: Released) -> list[int] | None:
        """Where in the queue of what has arrived the released ones are; None if they are the oldest, in order."""
        order = []
        for sequence in memoryview(released.sequences).cast("Q"):
            place = self._queued.index(sequence)
            del self._queued[place]
            order.append(place)
        return order if any(order) else None

    def divergence(
        self,
        recorded: str,
        actual: str | None = None,
        *,
        request_id: int | None = None,
        sequence: int | None = None,
    ) -> Divergence:
        """The tape has `recorded` and the program did `actual`, or what it did next."""
        error = Divergence(
            worker=self.index,
            checkpoint=self.checkpoints,
            request_id=request_id,
            recorded=recorded,
            actual=self.next_in_words() if actual is None else actual,
        )
        if sequence is not None:
            error.sequence = sequence
        elif actual is None and isinstance(self.act, RequestRows):
            error.sequence = self.made
        return error

    def compare_requests(self, recorded: messages_pb2.Requests, made: RequestRows, first_id: int) -> None:
        """Raise the `Divergence` of the first of the program's rows that differs from the tape's."""
        other = made.columns
        if all(getattr(recorded, name) == getattr(other, name) for name in _COLUMNS):
            return
        for row in range(made.count):
            ours, theirs = slice_requests(recorded, row, row + 1), slice_requests(other, row, row + 1)
            differ = [name for name in _COLUMNS if getattr(ours, name) != getattr(theirs, name)]
            if differ:
                data = differ == ["digest"]
                error = self.divergence(
                    request_in_words(recorded, row, self._disks, data=data),
                    request_in_words(other, row, self._disks, data=data),
                    request_id=first_id + row,
                    sequence=self.made + row,
                )
                if data:
                    contents = u64(recorded.contents, row)
                    error.data = DifferentData(self.made + row, False, contents, u64(recorded.length, row))
                raise error
        raise AssertionError("columns differ but no row does")

    def compare_results(self, released: Released) -> None:
        """Raise the `Divergence` of the first request that came out otherwise than on the tape."""
        results = memoryview(released.results).cast("q")
        digests = memoryview(released.digests).cast("Q") if released.digests else None
        for row, sequence in enumerate(memoryview(released.sequences).cast("Q")):
            result, digest = self.completed[sequence]
            kind = kind_name(self._kinds[sequence])
            if result != results[row]:
                recorded, actual = f"result {results[row]} of a {kind}", f"a {kind} with result {result}"
            elif digests is not None and digest != digests[row]:
                recorded = f"a {kind} that returned data of digest {digests[row]:016x}"
                actual = f"one that returned other data, of digest {digest:016x}"
            else:
                continue
            error = self.divergence(recorded, actual, request_id=self.ids[sequence], sequence=sequence)
            if result == results[row]:
                error.data = DifferentData(sequence, True, u64(released.contents, row), result)
            raise error


def _rows_of(note: messages_pb2.Note) -> int:
    """How many requests take as much room as a note, which may be long."""
    return 1 + note.ByteSize() // _ROW_BYTES


def same_note(recorded: messages_pb2.Note, state: ReplayedWorker) -> bool:
    """Is what the program did next the tape's note?"""
    what = recorded.WhichOneof("what")
    if what in NOTES_UNASKED:
        act = state.act
        if not isinstance(act, messages_pb2.Note) or act.WhichOneof("what") != what:
            return False
        if what == "log":
            return act.log == recorded.log
        if what == "barrier":
            return act.barrier == recorded.barrier
        made, on_tape = act.sent, recorded.sent
        return (made.to, made.size, made.digest) == (on_tape.to, on_tape.size, on_tape.digest)
    if state.act is not None or state.waits is None:
        return False
    if what == "captured":
        return (
            state.waits.WhichOneof("waits") == "capture"
            and state.waits.capture.name == recorded.captured.name
        )
    if state.waits.WhichOneof("waits") != "finish":
        return False
    one, other = state.waits.finish.outcome, recorded.outcome
    if one.raised or other.raised:
        return (one.raised, one.exception, one.text) == (other.raised, other.exception, other.text)
    return one.digest == other.digest
