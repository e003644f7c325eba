"""Messages between workers and the barriers at which they meet.

What a program sends arrives in the order in which the coordinator takes it, which is the order on the tape; a token
delivers the oldest of what has arrived. So the tape holds who sent what when, and how many each token delivered: a
replay sends the payloads again. Barriers open with a delivery to every worker.
"""

from __future__ import annotations

from collections import Counter, deque

from ringtape.proto import messages_pb2, wire_pb2

# A worker that has sent this much to one that takes nothing is not heard until it has.
MAILBOX_BYTES_MAX = 64 << 20


class Post:
    """The mailboxes of all workers."""

    def __init__(self, workers: int) -> None:
        self._mailboxes: list[deque[wire_pb2.Delivery]] = [deque() for _ in range(workers)]
        self._bytes = [0] * workers
        self._sent_to: dict[int, int] = {}  # to whom a worker has sent last
        self._ended = [False] * workers
        self._arrived: dict[str, Counter[int]] = {}
        #: How many deliveries each worker was given.
        self.taken = [0] * workers

    def note(self, worker: int, note: messages_pb2.Note) -> list[int]:
        """Take what a program did; returns the workers that it brings something.

        The payload of a message is taken out of the note, which then is as the tape has it.
        """
        what = note.WhichOneof("what")
        if what == "sent":
            sent = note.sent
            self._put(sent.to, wire_pb2.Delivery(payload=sent.payload, sender=worker))
            self._sent_to[worker] = sent.to
            sent.ClearField("payload")
            return [sent.to]
        if what == "barrier":
            return self._arrive(worker, note.barrier)
        if what == "outcome":
            self._ended[worker] = True
            self._mailboxes[worker].clear()
            self._bytes[worker] = 0
        return []

    def _arrive(self, worker: int, name: str) -> list[int]:
        arrived = self._arrived.setdefault(name, Counter())
        arrived[worker] += 1
        everyone = range(len(self._mailboxes))
        if len(arrived) < len(everyone):
            return []
        # A worker may have arrived again already, by another task.
        left = arrived - Counter(everyone)
        if left:
            self._arrived[name] = left
        else:
            del self._arrived[name]
        for one in everyone:
            self._put(one, wire_pb2.Delivery(barrier=name))
        return list(everyone)

    def _put(self, worker: int, delivery: wire_pb2.Delivery) -> None:
        if not self._ended[worker]:  # nobody would ever take it
            self._mailboxes[worker].append(delivery)
            self._bytes[worker] += len(delivery.payload)

    def waiting(self, worker: int) -> int:
        """How many deliveries the worker has not been given."""
        return len(self._mailboxes[worker])

    def take(self, worker: int, count: int) -> list[wire_pb2.Delivery]:
        """The oldest `count` deliveries of the worker, which are given to it now."""
        mailbox = self._mailboxes[worker]
        taken = [mailbox.popleft() for _ in range(count)]
        self._bytes[worker] -= sum(len(delivery.payload) for delivery in taken)
        self.taken[worker] += count
        return taken

    def may_send(self, worker: int) -> bool:
        """May the worker be heard, or has it sent more than whoever gets it has taken?"""
        to = self._sent_to.get(worker)
        return to is None or self._bytes[to] < MAILBOX_BYTES_MAX
