"""The gate of a worker that holds leases in a replay: it is told ahead what is to come, and passes exactly that.

At a checkpoint that a lease names it compares what the program did with what the lease says, waits for the completions
that the lease releases, compares their results and the digests of what they read, and goes on: no message has to go
there and back. Of what was as the lease says the coordinator is told the count alone; it has the tape. Where something
differs, comes late or is not in a lease, it asks as without one, and the coordinator finds out what there is to say.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ringtape.engine.gate import CoordinatedGate, wake_volumes
from ringtape.engine.offline import OfflineQueue
from ringtape.engine.outbox import Outbox
from ringtape.engine.requests import Request
from ringtape.proto import wire_pb2
from ringtape.proto.framing import FramingError

if TYPE_CHECKING:  # only where requests go by columns
    from numpy.typing import NDArray

# The count is told when so many requests have been passed, or when it was told last so long ago; a checkpoint whose
# completions have not come after that time is asked for.
REPORT_ROWS = 2048
REPORT_NS_MAX = 20_000_000
# Rows of an array are compared so many at once, ahead of their being made: what they are does not change.
COMPARED_ROWS = 1024
_WIDTHS = 1, 1, 2, 8, 8


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
        # What was compared last, and ahead: rows of these columns are the lease's, up to the last of them, if its
        # number is so much higher than that of the lease's row.
        self._compared: tuple[Sequence[NDArray[Any]], _Lease, int, int] | None = None

    def completion(self, request: Request, digest: int, contents: int = 0) -> None:
        """See `Outbox`."""
        self.results[request.sequence] = request.result
        if digest:
            self.read_digests[request.sequence] = digest

    def completion_columns(self, sequences: bytes, results: bytes) -> None:
        """See `Outbox`."""
        self._last = memoryview(sequences).cast("Q").tolist()
        self.results.update(zip(self._last, memoryview(results).cast("q").tolist(), strict=True))

    def completion_digests(self, digests: Sequence[int], contents: Sequence[int]) -> None:
        """See `Outbox`."""
        self.read_digests.update(zip(self._last, digests, strict=True))

    def released(self, sequences: Sequence[int]) -> None:
        """The program has these."""
        for sequence in sequences:
            del self.results[sequence]
        if self.read_digests:
            for sequence in sequences:
                self.read_digests.pop(sequence, None)
        if self._told:
            self._told.difference_update(sequences)

    def holds(self, lease: _Lease, first: int, last: int) -> bool:
        """Are the requests that it holds the lease's, from row `first` to before `last`?"""
        rows = self._rows
        if rows is None or self._kind or self._digest:
            return self.request_bytes() == lease.rows(first, last)
        told, start, stop = rows
        if stop - start != last - first:
            return False
        compared = self._compared
        if compared is not None:
            columns, of, shift, until = compared
            if columns is told and of is lease and start - first == shift and stop <= until:
                return True
        count = min(len(told[0]) - start, lease.made - first, COMPARED_ROWS)
        if count > last - first and lease.has(told, start, first, count):
            stop = start + count
        elif not lease.has(told, start, first, last - first):
            return False
        self._compared = told, lease, start - first, stop
        return True

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


class _Lease:
    """Checkpoints to come, in columns; the first of them that is left, and where its rows begin."""

    def __init__(self, lease: wire_pb2.Lease) -> None:
        turns, requests, released = lease.turns, lease.requests, lease.released
        self.numbers = memoryview(lease.checkpoint).cast("Q").tolist()
        self.counts = memoryview(turns.requests).cast("I").tolist()
        self.clocks_ns = memoryview(turns.clock_ns).cast("Q").tolist()
        self.deadlines_ns = memoryview(turns.deadline_ns).cast("Q").tolist()
        self.modes = turns.mode
        self.releases = memoryview(turns.released).cast("I").tolist()
        self._columns = requests.kind, requests.flags, requests.disk, requests.offset, requests.length
        self._digests = requests.digest
        self.made = len(requests.kind)
        self.sequences: list[int] = memoryview(released.sequence).cast("Q").tolist()
        self.results: list[int] = memoryview(released.result).cast("q").tolist()
        self.digests: list[int] = memoryview(released.digest).cast("Q").tolist()
        self.turn = self.row = self.done = 0

    def skip(self) -> None:
        """Its first checkpoint is behind the program."""
        self.row += self.counts[self.turn]
        self.done += self.releases[self.turn]
        self.turn += 1

    def rows(self, first: int, last: int) -> tuple[bytes, ...]:
        """Its requests from `first` to before `last`, as `Outbox.request_bytes` has them."""
        cut = [
            column[width * first : width * last] for column, width in zip(self._columns, _WIDTHS, strict=True)
        ]
        return *cut, self._digests[8 * first : 8 * last]

    def has(self, told: Sequence[NDArray[Any]], start: int, first: int, count: int) -> bool:
        """Are so many rows of these columns, from `start` on, its requests from `first` on, and none with a digest?"""
        *rows, digests = self.rows(first, first + count)
        return not digests.strip(b"\0") and all(
            column[start : start + count].tobytes() == own for column, own in zip(told, rows, strict=True)
        )


class AheadGate(CoordinatedGate):
    """See `Gate`; its outbox is a `HeldOutbox`."""

    _outbox: HeldOutbox

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._leases: deque[_Lease] = deque()
        # How many requests the program had made at the last checkpoint.
        self._made = 0
        # What has been passed and not told: checkpoints, requests, and when it is to be told.
        self._passed = self._passed_rows = self._report_due_ns = 0

    def _goes_on(self, mode: int, deadline_ns: int) -> bool:
        outbox, made = self._outbox, self.queue.made - self._made
        self._made = self.queue.made
        lease = self._lease_of(self._number + 1)
        if lease is None:
            return False
        turn, row = lease.turn, lease.row
        if lease.modes[turn] != mode or lease.deadlines_ns[turn] != deadline_ns:
            return False
        if lease.counts[turn] != made or outbox.made != made or outbox.has_notes:
            return False
        if made and not outbox.holds(lease, row, row + made):
            return False
        start, stop = lease.done, lease.done + lease.releases[turn]
        sequences = lease.sequences[start:stop]
        if not self._wait_for(sequences, lease.results[start:stop]):
            return False
        if lease.digests:
            digests = outbox.read_digests
            if [digests.get(one, 0) for one in sequences] != lease.digests[start:stop]:
                return False
        outbox.forget_requests()
        lease.skip()
        self._pass(sequences, lease.clocks_ns[turn], made)
        return True

    def _lease_of(self, number: int) -> _Lease | None:
        """The lease whose first checkpoint is that one; None if there is none."""
        leases = self._leases
        while leases:
            lease = leases[0]
            numbers, turns = lease.numbers, len(lease.numbers)
            while lease.turn < turns and numbers[lease.turn] < number:
                lease.skip()
            if lease.turn < turns:
                return lease if numbers[lease.turn] == number else None
            leases.popleft()
        return None

    def _wait_for(self, sequences: Sequence[int], expected: Sequence[int]) -> bool:
        """Wait for what the checkpoint releases.

        False if it has another result than is expected, or takes long, or cannot come.
        """
        results, queue = self._outbox.results, self.queue
        assert not isinstance(queue, OfflineQueue), "an offline replay has no leases"
        self._stamp()
        until_ns = 0
        while True:
            found: list[int | None] = list(map(results.get, sequences))
            if found == expected:
                if not until_ns:
                    queue.submit()
                    self._look()
                return True
            missing = found.count(None)
            if not missing:
                return False
            now_ns = self._now_ns()
            until_ns = until_ns or now_ns + REPORT_NS_MAX
            if now_ns >= until_ns or not queue.active:
                return False
            # One system call hands over and waits.
            queue.wait_for(missing, until_ns - now_ns)
            self._look()

    def _look(self) -> None:
        """Take what has completed and what has come."""
        if self._reap() and self._receive() is not None:
            raise FramingError("the coordinator answered and was not asked")

    def _pass(self, sequences: Sequence[int], clock_ns: int, made: int) -> None:
        """Let the program go on as the lease says."""
        self._number += 1
        self.clock.set_ns(clock_ns)
        self._passed += 1
        self._passed_rows += made
        queue = self.queue
        if self._passed_rows >= REPORT_ROWS or self._now_ns() >= self._report_due_ns:
            self._send(wire_pb2.Batch())
            self._ids.forget(queue.oldest())
        self._release(sequences)
        if queue.touched:
            wake_volumes(queue)
        self._collector.checkpoint()

    def _release(self, sequences: Sequence[int]) -> None:
        queue, columns = self.queue, self.queue.columns
        self._outbox.released(sequences)
        if columns is not None and (completed := columns.completed):
            # In which order they are released within a checkpoint nobody can see: all is the same as each of them.
            every = completed == len(sequences) and not queue.outstanding
            sequences, count = columns.release(None if every else sequences, self.clock.ns)
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
        if message.lease.checkpoint:
            self._leases.append(_Lease(message.lease))
        return True
