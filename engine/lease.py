"""The gate of a worker that holds a lease: in a recording it releases its completions on its own, and reports.

Where no policy has to decide and no shared disk needs admission, a token could only say what the worker knows: all that
has completed, in that order, and what time it is. So it does not ask. What it did goes to the coordinator in batches,
turn by turn, and onto the tape as if each token had been asked for; a program cannot tell, nor can a replay.

It asks, as without a lease, when it waits for something that only others can bring, and for captured values. It never
keeps back what it did for longer than `REPORT_NS_MAX`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ringtape.engine.gate import WAIT, CoordinatedGate, wake_volumes
from ringtape.engine.ids import Ids
from ringtape.engine.requests import Request
from ringtape.proto import wire_pb2
from ringtape.proto.framing import FramingError

if TYPE_CHECKING:  # only where a program submits arrays
    import numpy as np
    from numpy.typing import NDArray

# A report is sent when it has so many requests and completions, or when the last one is so long ago.
REPORT_ROWS = 2048
REPORT_NS_MAX = 20_000_000
# With something to report, a wait is no longer than this.
WAIT_NS_MAX = 4_000_000


class LeasedGate(CoordinatedGate):
    """See `Gate`."""

    def __init__(self, *arguments: Any, only_worker: bool) -> None:
        """Has the run no other worker? Then ids follow each other as its requests do."""
        super().__init__(*arguments)
        self._only_worker = only_worker
        # Completed and not released, the oldest first.
        self._completed: deque[Request] = deque()
        # Messages that have come and no checkpoint has delivered.
        self._mail: deque[wire_pb2.Delivery] = deque()
        self._report_due_ns = 0

    def _goes_on(self, mode: int, deadline_ns: int) -> bool:
        queue = self.queue
        self._stamp()
        if mode != WAIT:
            queue.submit()
            self._look()
        elif deadline_ns or queue.many or not queue.active or self._ready():
            queue.hand_over(deadline_ns - self._now_ns() if deadline_ns else None)
            self._look()
        # Else the wait hands over: one system call does for both.
        if mode == WAIT and not self._completed and not self._wait(deadline_ns):
            return False
        self._turn(mode, deadline_ns)
        return True

    def _wait(self, deadline_ns: int) -> bool:
        """Wait until there is something to release or to deliver, or the deadline has passed.

        False if only the coordinator knows whether anything can come.
        """
        queue, outbox = self.queue, self._outbox
        while not self._ready():
            if not queue.active and not deadline_ns:
                return False
            timeout_ns = None
            if deadline_ns:
                timeout_ns = deadline_ns - self._now_ns()
                if timeout_ns <= 0:
                    return True
            if not outbox.empty:
                if outbox.urgent or self._now_ns() >= self._report_due_ns:
                    self._report()
                else:
                    # Always as long: what is due meanwhile is told when it is over.
                    timeout_ns = WAIT_NS_MAX if timeout_ns is None else min(timeout_ns, WAIT_NS_MAX)
            queue.wait(timeout_ns)
            self._look()
        return True

    def _ready(self) -> bool:
        """Is there something for the program?"""
        return bool(self._completed or self._mail or self._by_columns())

    def _by_columns(self) -> int:
        """How many completions of a volume wait to be released."""
        columns = self.queue.columns
        return 0 if columns is None else columns.completed

    def _look(self) -> None:
        """Take what has completed and what has come."""
        completed, linked = self.queue.reap()
        self._completed += completed
        if linked and self._receive() is not None:
            raise FramingError("the coordinator answered and was not asked")

    def _turn(self, mode: int, deadline_ns: int) -> None:
        """Let the program go on with all that has completed and come."""
        self._number += 1
        now_ns = self._now_ns()
        completed, self._completed = self._completed, deque()
        mail, self._mail = self._mail, deque()
        by_columns = self._by_columns()
        rows = self._outbox.turn(
            now_ns,
            deadline_ns=deadline_ns,
            mode=mode,
            released=len(completed) + by_columns,
            delivered=len(mail),
        )
        self.clock.set_ns(now_ns)
        if rows >= REPORT_ROWS or self._outbox.urgent or now_ns >= self._report_due_ns:
            self._report()
        queue = self.queue
        if by_columns:
            assert queue.columns is not None
            queue.columns.release(None, now_ns)
            self._released += by_columns
        self._let_through(completed)
        for delivery in mail:
            self.mail.deliver(delivery)
        if queue.touched:
            wake_volumes(queue)
        self._collector.checkpoint()

    def _report(self) -> None:
        self._send(self._outbox.take(self._now_ns()))

    def _send(self, batch: wire_pb2.Batch) -> None:
        batch.oldest = self.queue.oldest()
        self._report_due_ns = self._now_ns() + REPORT_NS_MAX - WAIT_NS_MAX
        super()._send(batch)

    def _reap(self) -> bool:
        completed, linked = self.queue.reap()
        self._completed.extend(completed)
        return linked

    def _take_token(self, token: wire_pb2.Token) -> None:
        # What it was asked for it released in the same order as this gate would have.
        completed = self._completed
        for sequence in memoryview(token.sequences).cast("Q"):
            if completed and completed[0].sequence == sequence:  # else it goes by columns
                completed.popleft()
        before = [self._mail.popleft() for _ in range(token.delivered_before)]
        for delivery in before:
            self.mail.deliver(delivery)
        super()._take_token(token)

    def _take_other(self, message: wire_pb2.CoordinatorMessage) -> bool:
        if message.WhichOneof("body") != "mail":
            return False
        self._mail.extend(message.mail.deliveries)
        return True

    def request_id(self, sequence: int) -> int | None:
        """See `Gate`."""
        return next(self._ask_for_ids(sequence, 1)).first_id

    def request_ids(self, sequences: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """See `Gate`."""
        first = int(sequences.min())
        ids = Ids()
        ids.add(self._ask_for_ids(first, int(sequences.max()) + 1 - first))
        return ids.of_many(sequences)

    def _ask_for_ids(self, first: int, count: int) -> Iterator[wire_pb2.IdRange]:
        """Ask, since ids are given where the requests are reported; but those of an only worker are known."""
        if self._only_worker:
            yield wire_pb2.IdRange(first_sequence=first, first_id=first + 1, count=count)
            return
        batch = self._outbox.take(self._now_ns())
        batch.ids.first_sequence, batch.ids.count = first, count
        self._send(batch)
        answer = self._wait_for_answer()
        if answer.WhichOneof("body") != "ids":
            raise FramingError(f"waited for ids, got {answer.WhichOneof('body')}")
        yield from answer.ids.ranges
