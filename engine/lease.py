"""The gate of a worker that holds a lease: in a recording it releases its completions on its own, and reports.

Where no policy has to decide and no shared disk needs admission, a token could only say what the worker knows: all that
has completed, in that order, and what time it is. So it does not ask. What it did goes to the coordinator in batches,
turn by turn, and onto the tape as if each token had been asked for; a program cannot tell, nor can a replay.

It asks, as without a lease, when it waits for something that only others can bring, and for captured values. It never
keeps back what it did for longer than `REPORT_NS_MAX`.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from ringtape.engine.gate import WAIT, CoordinatedGate
from ringtape.engine.requests import Request
from ringtape.proto import wire_pb2
from ringtape.proto.framing import FramingError

# A report is sent when it has so many requests and completions, or when its first turn is so long ago.
REPORT_ROWS = 512
REPORT_NS_MAX = 20_000_000


class LeasedGate(CoordinatedGate):
    """See `Gate`."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        # Completed and not released, the oldest first.
        self._completed: deque[Request] = deque()
        # Messages that have come and no checkpoint has delivered.
        self._mail: deque[wire_pb2.Delivery] = deque()
        self._report_due_ns = 0

    def _goes_on(self, mode: int, deadline_ns: int) -> bool:
        if self.queue.columns is not None:
            return False  # a volume's turns are long already, and its completions are no requests that are kept here
        self.queue.submit()
        self._stamp()
        self._look()
        if mode == WAIT and not self._wait(deadline_ns):
            return False
        self._turn(mode, deadline_ns)
        return True

    def _wait(self, deadline_ns: int) -> bool:
        """Wait until there is something to release or to deliver, or the deadline has passed.

        False if only the coordinator knows whether anything can come.
        """
        queue, outbox = self.queue, self._outbox
        while not self._completed and not self._mail:
            now_ns = self._now_ns()
            if 0 < deadline_ns <= now_ns:
                return True
            if not queue.active and not deadline_ns:
                return False
            if not outbox.empty and (outbox.urgent or now_ns >= self._due_ns(now_ns)):
                self._report()
            timeout_ns = deadline_ns - now_ns if deadline_ns else None
            if not outbox.empty:
                left_ns = self._due_ns(now_ns) - now_ns
                timeout_ns = left_ns if timeout_ns is None else min(timeout_ns, left_ns)
            queue.wait(timeout_ns)
            self._look()
        return True

    def _look(self) -> None:
        """Take what has completed and what has come."""
        if self._reap() and self._receive() is not None:
            raise FramingError("the coordinator answered and was not asked")

    def _turn(self, mode: int, deadline_ns: int) -> None:
        """Let the program go on with all that has completed and come."""
        self._number += 1
        now_ns = self._now_ns()
        completed, self._completed = self._completed, deque()
        mail, self._mail = self._mail, deque()
        self._outbox.turn(
            now_ns, deadline_ns=deadline_ns, mode=mode, released=len(completed), delivered=len(mail)
        )
        self.clock.set_ns(now_ns)
        if not self._report_due_ns:
            self._report_due_ns = now_ns + REPORT_NS_MAX
        if self._outbox.rows >= REPORT_ROWS or self._outbox.urgent or now_ns >= self._report_due_ns:
            self._report()
        queue = self.queue
        for request in completed:
            queue.release(request.sequence)
            self._let_through(request)
        for delivery in mail:
            self.mail.deliver(delivery)
        self._collector.checkpoint()

    def _due_ns(self, now_ns: int) -> int:
        """When what is in the outbox has to be told at the latest."""
        if not self._report_due_ns:
            self._report_due_ns = now_ns + REPORT_NS_MAX
        return self._report_due_ns

    def _report(self) -> None:
        self._send(self._outbox.take(self._now_ns()))

    def _send(self, batch: wire_pb2.Batch) -> None:
        batch.oldest = self.queue.oldest()
        self._report_due_ns = 0
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
        """See `Gate`; asks, since ids are given where the requests are reported."""
        batch = self._outbox.take(self._now_ns())
        batch.id.sequence = sequence
        self._send(batch)
        answer = self._wait_for_answer()
        if answer.WhichOneof("body") != "id":
            raise FramingError(f"waited for a request's id, got {answer.WhichOneof('body')}")
        return answer.id.first_id
