"""The conductor of a plain run: it starts the workers, carries their messages and collects what they return."""

from __future__ import annotations

import time
from collections.abc import Callable

from ringtape.coordinator.batches import BatchChecker
from ringtape.coordinator.conductor import Returns, Send, start_token
from ringtape.coordinator.errors import ProtocolError
from ringtape.coordinator.post import Post
from ringtape.proto import messages_pb2, wire_pb2
from ringtape.proto.errors import RingtapeError


class PlainConductor:
    """Coordinates nothing but the messages between workers: the baseline that recording is measured against."""

    def __init__(self, workers: int, on_log: Callable[[int, str], None]) -> None:
        self.done = False
        self.returns = Returns(workers)
        self._workers = workers
        self._on_log = on_log
        self._checker = BatchChecker(disks=0, workers=workers, digests=False)
        self._post = Post(workers)
        # Workers that can go on by a message alone: how many deliveries they had when they said so.
        self._idle: dict[int, int] = {}

    def start(self, send: Send) -> None:
        """See `Conductor`."""
        self._send = send
        for worker in range(self._workers):
            send(worker, start_token(time.monotonic_ns()))

    def data(self, worker: int, data: bytearray) -> None:
        """See `Conductor`."""
        raise ProtocolError(f"worker {worker} of a plain run sent data")

    def batch(self, worker: int, batch: wire_pb2.Batch) -> None:
        """See `Conductor`."""
        for act in self._checker.acts(batch):
            assert isinstance(act, messages_pb2.Note), "a plain worker tells no requests"
            if act.HasField("log"):
                self._on_log(worker, act.log)
            for other in self._post.note(worker, act):
                self._deliver(other)
        if batch.HasField("checkpoint"):
            self._idle[worker] = batch.checkpoint.number
        elif batch.HasField("finish"):
            self._post.note(worker, messages_pb2.Note(outcome=batch.finish.outcome))
            self.returns.add(worker, batch.finish)
            self._idle.pop(worker, None)
            self.done = self.returns.left == 0
        self._wake_one_if_all_are_stuck()

    def _deliver(self, worker: int) -> None:
        deliveries = self._post.take(worker, self._post.waiting(worker))
        if deliveries:
            self._idle.pop(worker, None)
            token = wire_pb2.Token(deliveries=deliveries)
            self._send(worker, wire_pb2.CoordinatorMessage(token=token))

    def _wake_one_if_all_are_stuck(self) -> None:
        """As in a recording: a token without deliveries says that none will come."""
        if self._idle and len(self._idle) == self.returns.left:
            stuck = [worker for worker, had in self._idle.items() if had == self._post.taken[worker]]
            if len(stuck) == len(self._idle):
                first = min(stuck)
                del self._idle[first]
                self._send(first, wire_pb2.CoordinatorMessage(token=wire_pb2.Token()))

    def died(self, worker: int, error: RingtapeError) -> None:
        """See `Conductor`."""
        raise error

    def wants(self, worker: int) -> bool:
        """See `Conductor`."""
        return True

    def next_due_ns(self) -> int | None:
        """See `Conductor`."""
        return None

    def tick(self, now_ns: int) -> None:
        """See `Conductor`."""
