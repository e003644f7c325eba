"""The conductor of a plain run: it starts the workers, shows their logs and collects what they return."""

from __future__ import annotations

import time
from collections.abc import Callable

from ringtape.coordinator.conductor import Returns, Send, start_token
from ringtape.proto import wire_pb2


class PlainConductor:
    """Coordinates nothing: the baseline that recording is measured against."""

    def __init__(self, workers: int, on_log: Callable[[int, str], None]) -> None:
        self.done = False
        self.returns = Returns(workers)
        self._workers = workers
        self._on_log = on_log

    def start(self, send: Send) -> None:
        """See `Conductor`."""
        for worker in range(self._workers):
            send(worker, start_token(time.monotonic_ns()))

    def batch(self, worker: int, batch: wire_pb2.Batch) -> None:
        """See `Conductor`."""
        for note in batch.notes:
            self._on_log(worker, note.log)
        if batch.HasField("finish"):
            self.returns.add(worker, batch.finish)
            self.done = self.returns.left == 0

    def wants(self, worker: int) -> bool:
        """See `Conductor`."""
        return True

    def next_due_ns(self) -> int | None:
        """See `Conductor`."""
        return None

    def tick(self, now_ns: int) -> None:
        """See `Conductor`."""
