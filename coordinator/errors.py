"""How a run can fail that is not a program's own exception."""

from __future__ import annotations

from ringtape.proto.errors import RingtapeError


class WorkerDied(RingtapeError):
    """A worker process ended before its program did; `worker` is its index."""

    def __init__(self, message: str, worker: int) -> None:
        super().__init__(message)
        self.worker = worker


class ProtocolError(RingtapeError):
    """A message that does not parse or came out of turn."""


class Interrupted(RingtapeError):
    """The run was stopped from outside (Ctrl-C, SIGTERM)."""


class Divergence(RingtapeError):
    """In a replay, a program did something other than what the tape says.

    Attributes:
        worker: index of the worker.
        checkpoint: how many checkpoints it had passed.
        request_id: the global id of the request, None where it is about something else.
        recorded: what the tape has, in words.
        actual: what the program did, in words.
        stack: where the program is, as traceback text; empty if it could not be had.
    """

    def __init__(
        self, *, worker: int, checkpoint: int, request_id: int | None, recorded: str, actual: str
    ) -> None:
        self.worker = worker
        self.checkpoint = checkpoint
        self.request_id = request_id
        self.recorded = recorded
        self.actual = actual
        self.stack = ""
        # The worker's own number of the request, to ask for the stack of the task that made it.
        self.sequence: int | None = None
        where = "" if request_id is None else f", request id {request_id}"
        super().__init__(
            f"divergence in worker {worker} after checkpoint {checkpoint}{where}: "
            f"the tape has {recorded}; the program made {actual}"
        )
