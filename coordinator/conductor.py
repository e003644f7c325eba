"""What the event loop that moves the messages needs of whoever conducts a run.

It does not know whether it moves the messages of a recording, a replay or a plain run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from ringtape.proto import wire_pb2
from ringtape.proto.errors import RingtapeError

# Messages that are much are asked for one by one, as the link takes them.
Send = Callable[[int, wire_pb2.CoordinatorMessage | Iterator[wire_pb2.CoordinatorMessage]], None]
# Given a request's sequence, where in its data to begin, and how many bytes: what the worker read or wrote there;
# nothing if that cannot be had.
AskData = Callable[[int, int, int], bytes]


class Conductor(Protocol):
    """Answers what workers ask."""

    #: Every program has ended, or the recording has.
    done: bool

    def start(self, send: Send) -> None:
        """All workers are ready: let their programs begin. `send` takes a worker and a message for it."""

    def data(self, worker: int, data: bytearray) -> None:
        """Take data that a worker sent, of which its next batch says what it is; it is the conductor's from now on."""

    def batch(self, worker: int, batch: wire_pb2.Batch) -> None:
        """Take what a worker did; raises a `RingtapeError` that ends the run."""

    def died(self, worker: int, error: RingtapeError) -> None:
        """A worker's process has ended before its program did, and all that it sent was taken.

        Raises `error` unless the run can go on without that worker.
        """

    def wants(self, worker: int) -> bool:
        """May this worker's messages be read now? If not, they stay in its link, and it waits when that is full."""

    def next_due_ns(self) -> int | None:
        """When `tick` should be called at the latest, in time since the start of the run; None: no need."""

    def tick(self, now_ns: int) -> None:
        """Time has passed."""


class Returns:
    """What the programs gave back, by worker."""

    def __init__(self, workers: int) -> None:
        self.finished: list[wire_pb2.Finish | None] = [None] * workers
        self.left = workers

    def add(self, worker: int, finish: wire_pb2.Finish) -> None:
        """A program has ended."""
        assert self.finished[worker] is None, f"worker {worker} finished twice"
        self.finished[worker] = finish
        self.left -= 1


def start_token(started_ns: int) -> wire_pb2.CoordinatorMessage:
    """The message that lets a program begin; `started_ns` is CLOCK_MONOTONIC at the start of the run."""
    return wire_pb2.CoordinatorMessage(token=wire_pb2.Token(checkpoint=0, started_ns=started_ns))
