"""The gate of a worker that holds leases in a replay: it is told ahead what is to come, and passes exactly that.

At a checkpoint that a lease names it compares what the program did with what the lease says, waits for the completions
that the lease releases, compares their results and the digests of what they read, and goes on: no message has to go
there and back. Of what was as the lease says the coordinator is told the count alone; it has the tape. Where something
differs, comes late or is not in a lease, it asks as without one, and the coordinator finds out what there is to say.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from ringtape.engine.gate import CoordinatedGate, wake_volumes
from ringtape.engine.offline import OfflineQueue
from ringtape.engine.outbox import Outbox
from ringtape.engine.requests import Request
from ringtape.proto import wire_pb2
from ringtape.proto.framing import FramingError

# The count is told when so many requests have been passed, or when it was told last so long ago; a checkpoint whose
# completions have not come after that time is asked for.
REPORT_ROWS = 2048
REPORT_NS_MAX = 20_000_000


class HeldOutbox(Outbox):
    """Keeps completions to itself until somebody has to be told."""

    def __init__(self, *, digests: bool) -> None:
        super().__init__(digests=digests)
        #: Results of what has completed and is not released, by sequence number, in the order of completion, and of
        #: reads the digests.
        self.results: dict[int, int] = {}
        self.read_digests: dict[int, int] = {}
        self._told: set[int] = set()
        self._last: Sequence[int] = ()

    def completion(self, request: Request, digest: int, contents: int = 0) -> None:
        """See `Outbox`."""
        self.results[request.sequence] = request.result
        if digest:
            self.read_digests[request.sequence] = digest

    def completion_columns(self, sequences: bytes, results: bytes) -> None:
        """See `Outbox`."""
        self._last = memoryview(sequences).cast("Q").tolist()
        self.results.update(zip(self._last, memoryview(results).cast("q"), strict=True))

    def completion_digests(self, digests: Sequence[int], contents: Sequence[int]) -> None:
        """See `Outbox`."""
        self.read_digests.update(zip(self._last, digests, strict=True))

    def released(self, sequences: Sequence[int]) -> None:
        """The program has these."""
        for sequence in sequences:
            del self.results[sequence]
            self.read_digests.pop(sequence, None)
        if self._told:
            self._told.difference_update(sequences)

    @property
    def empty(self) -> bool:
        """See `Outbox`."""
        return super().empty and len(self._told) == len(self.results)

    def take(self, now_ns: int) -> wire_pb2.Batch:
        """See `Outbox`."""
        for sequence, result in self.results.items():
            if sequence not in self._told:
                self._told.add(sequence)
                self._sequence.append(sequence)
                self._result.append(result)
                if self.digests:
                    self._completion_digest.append(self.read_digests.get(sequence, 0))
        return super().take(now_ns)


class _Turn:
    """A checkpoint to come."""

    __slots__ = ("clock_ns", "deadline_ns", "digests", "mode", "requests", "results", "sequences")

    def __init__(
        self,
        mode: int,
        deadline_ns: int,
        clock_ns: int,
        requests: tuple[bytes, ...],
        sequences: list[int],
        results: list[int],
        digests: list[int],
    ) -> None:
        self.mode, self.deadline_ns, self.clock_ns = mode, deadline_ns, clock_ns
        self.requests = requests
        self.sequences, self.results, self.digests = sequences, results, digests


class AheadGate(CoordinatedGate):
    """See `Gate`; its outbox is a `HeldOutbox`."""

    _outbox: HeldOutbox

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._turns: deque[tuple[int, _Turn]] = deque()
        # How many requests the program had made at the last checkpoint.
        self._made = 0
        # What has been passed and not told: checkpoints, requests, and when it is to be told.
        self._passed = self._passed_rows = self._report_due_ns = 0

    def _goes_on(self, mode: int, deadline_ns: int) -> bool:
        turns, number = self._turns, self._number + 1
        while turns and turns[0][0] < number:
            turns.popleft()
        made, self._made = self.queue.made - self._made, self.queue.made
        if not turns or turns[0][0] != number:
            return False
        turn, outbox = turns[0][1], self._outbox
        if turn.mode != mode or turn.deadline_ns != deadline_ns:
            return False
        if outbox.made != made or outbox.has_notes or outbox.request_bytes() != turn.requests:
            return False
        if not self._wait_for(turn):
            return False
        results, digests = outbox.results, outbox.read_digests
        if [results[one] for one in turn.sequences] != turn.results:
            return False
        if turn.digests and [digests.get(one, 0) for one in turn.sequences] != turn.digests:
            return False
        turns.popleft()
        outbox.forget_requests()
        self._pass(turn, made)
        return True

    def _wait_for(self, turn: _Turn) -> bool:
        """Wait for what the checkpoint releases; False if it takes long, or cannot come."""
        results, queue = self._outbox.results, self.queue
        assert not isinstance(queue, OfflineQueue), "an offline replay has no leases"
        until_ns = 0
        self._stamp()
        queue.submit()
        while True:
            if self._reap() and self._receive() is not None:
                raise FramingError("the coordinator answered and was not asked")
            missing = sum(one not in results for one in turn.sequences)
            if not missing:
                return True
            now_ns = self._now_ns()
            until_ns = until_ns or now_ns + REPORT_NS_MAX
            if now_ns >= until_ns or not queue.active:
                return False
            queue.wait_for(missing, until_ns - now_ns)

    def _pass(self, turn: _Turn, made: int) -> None:
        """Let the program go on as the lease says."""
        self._number += 1
        self.clock.set_ns(turn.clock_ns)
        self._passed += 1
        self._passed_rows += made
        now_ns = self._now_ns()
        if self._passed_rows >= REPORT_ROWS or now_ns >= self._report_due_ns:
            self._send(wire_pb2.Batch())
        self._release(turn.sequences)
        if self.queue.touched:
            wake_volumes(self.queue)
        self._ids.forget(self.queue.oldest())
        self._collector.checkpoint()

    def _release(self, sequences: Sequence[int]) -> None:
        queue = self.queue
        self._outbox.released(sequences)
        if queue.columns is not None and queue.columns.completed:
            sequences, count = queue.columns.release(sequences, self.clock.ns)
            self._released += count
        self._let_through([queue.outstanding[sequence] for sequence in sequences])

    def _take_token(self, token: wire_pb2.Token) -> None:
        self._outbox.released(memoryview(token.sequences).cast("Q").tolist())
        super()._take_token(token)

    def _send(self, batch: wire_pb2.Batch) -> None:
        batch.passed = self._passed
        self._passed = self._passed_rows = 0
        self._report_due_ns = self._now_ns() + REPORT_NS_MAX
        super()._send(batch)

    def _take_other(self, message: wire_pb2.CoordinatorMessage) -> bool:
        if message.WhichOneof("body") != "lease":
            return False
        self._ids.add(message.lease.ids)
        self._turns.extend(_turns_of(message.lease))
        return True


def _turns_of(lease: wire_pb2.Lease) -> list[tuple[int, _Turn]]:
    """The checkpoints of a lease, with their numbers."""
    turns, requests, released = lease.turns, lease.requests, lease.released
    columns = requests.kind, requests.flags, requests.disk, requests.offset, requests.length, requests.digest
    widths = 1, 1, 2, 8, 8, 8 if requests.digest else 0
    sequences = memoryview(released.sequence).cast("Q").tolist()
    results = memoryview(released.result).cast("q").tolist()
    digests = memoryview(released.digest).cast("Q").tolist()
    found = []
    row = done = 0
    for number, count, clock_ns, deadline_ns, mode, releases in zip(
        memoryview(lease.checkpoint).cast("Q"),
        memoryview(turns.requests).cast("I"),
        memoryview(turns.clock_ns).cast("Q"),
        memoryview(turns.deadline_ns).cast("Q"),
        turns.mode,
        memoryview(turns.released).cast("I"),
        strict=True,
    ):
        made = tuple(
            column[width * row : width * (row + count)] for column, width in zip(columns, widths, strict=True)
        )
        end = done + releases
        turn = _Turn(
            mode, deadline_ns, clock_ns, made, sequences[done:end], results[done:end], digests[done:end]
        )
        found.append((number, turn))
        row, done = row + count, end
    return found
