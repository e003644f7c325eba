"""Where a replay stops before its tape does, and who is told of its requests on the way.

It says when; how a replay stops is the replayer's business. A replay that is asked for nothing of this has no
`Inspection` at all, and pays nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ringtape.coordinator.completions import Released
from ringtape.coordinator.requests import Place, ReplayedRequest, request_of
from ringtape.coordinator.watch import Watch
from ringtape.proto import messages_pb2, wire_pb2


@dataclass(frozen=True)
class Stop:
    """Where to stop: after a request, at a worker's checkpoint, or at the first failure.

    A failure is a program that raised, or a request with an error for a result that a token released: whatever comes
    first on the tape. Requests that failed and that no token released are none.
    """

    request_id: int | None = None
    worker: int | None = None
    checkpoint: int | None = None

    def __str__(self) -> str:
        if self.request_id is not None:
            return f"request id {self.request_id}"
        if self.worker is not None:
            return f"checkpoint {self.checkpoint} of worker {self.worker}"
        return "a failure"


class Inspection:
    """What the user of a replay wants to see of it, beside its end."""

    def __init__(
        self,
        disks: Sequence[str],
        *,
        stop: Stop | None = None,
        on_request: Callable[[ReplayedRequest], None] | None = None,
        watch: Watch | None = None,
    ) -> None:
        self._disks = disks
        self._stop = stop
        self._on_request = on_request
        self.watch = watch
        #: Where the replay has come to its stop, in words; empty until then.
        self.reached = ""
        #: The user has left the debugger.
        self.quit = False
        #: The workers whose programs stand in the debugger.
        self.standing: set[int] = set()

    def rows_to_stop(self, first_id: int, count: int) -> int:
        """How many of the next `count` requests come before the stop, the one to stop after included."""
        last = None if self._stop is None else self._stop.request_id
        return count if last is None else max(min(count, last + 1 - first_id), 0)

    def requests(self, columns: messages_pb2.Requests, count: int, place: Place) -> None:
        """The tape has come to these, and they are what the program made."""
        if self.watch is not None:
            self.watch.requests(columns, count, place)
        if self._on_request is not None:
            for row in range(count):
                self._on_request(request_of(columns, row, place, self._disks))
        last = None if self._stop is None else self._stop.request_id
        if last is not None and place.first_id + count > last:
            self.reached = f"after {request_of(columns, last - place.first_id, place, self._disks)}"
            self._add_where(place.worker, place.checkpoint)

    def token(self, worker: int, checkpoint: int, released: Released, ids: Mapping[int, int]) -> None:
        """The tape has come to a token, which is not given yet. `ids` has the requests' ids by sequence."""
        stop = self._stop
        if stop is None or stop.request_id is not None:
            return
        if stop.worker is not None:
            if (worker, checkpoint) == (stop.worker, stop.checkpoint):
                self.reached = f"at checkpoint {checkpoint} of worker {worker}"
            return
        results = memoryview(released.results).cast("q")
        for sequence, result in zip(memoryview(released.sequences).cast("Q"), results, strict=True):
            if result < 0:
                error = f"{os.strerror(-result)}, errno {-result}"
                self.reached = f"at the first failure: request id {ids[sequence]} failed ({error})"
                self._add_where(worker, checkpoint)
                return

    def outcome(self, worker: int, checkpoint: int, outcome: messages_pb2.Outcome) -> None:
        """A program has ended, as on the tape."""
        stop = self._stop
        if outcome.raised and stop is not None and stop.request_id is None and stop.worker is None:
            place = f" at {outcome.where}" if outcome.where else ""
            self.reached = f"at the first failure: worker {worker} raised {outcome.exception}{place}"
            self._add_where(worker, checkpoint, named=True)

    def _add_where(self, worker: int, checkpoint: int, *, named: bool = False) -> None:
        who = "," if named else f", by worker {worker}"
        self.reached += f"{who} after its checkpoint {checkpoint}"

    def missed(self) -> str:
        """What to add to how the recording ended where the replay went on to its end; empty without a stop."""
        return "" if self._stop is None else f", without coming to {self._stop}"

    def take(self, worker: int, message: wire_pb2.WorkerMessage) -> bool:
        """Take a message that is about the debugger or a watched range; False if it is about something else."""
        what = message.WhichOneof("body")
        if what == "touched" and self.watch is not None:
            self.watch.touched(worker, message.touched)
            return True
        if what != "stopped":
            return False
        if message.stopped.quit:
            self.quit, self.reached = True, f"where worker {worker} stood in the debugger"
        if message.stopped.stopped:
            self.standing.add(worker)
        else:
            self.standing.discard(worker)
        return True
