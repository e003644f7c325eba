"""How a run can fail that is not a program's own exception."""

from __future__ import annotations

from dataclasses import dataclass

from ringtape.proto.errors import RingtapeError


@dataclass(frozen=True)
class LastWriter:
    """What wrote a range last before a request, in the recording; nothing did if `request_id` is None.

    Attributes:
        worker: index of the worker.
        checkpoint: how many checkpoints it had passed.
        request_id: the global id of the request.
        words: the request.
    """

    worker: int | None = None
    checkpoint: int | None = None
    request_id: int | None = None
    words: str = ""

    def __str__(self) -> str:
        if self.request_id is None:
            return "none, the range had its initial contents"
        return f"worker {self.worker}, request id {self.request_id}, after checkpoint {self.checkpoint} ({self.words})"


@dataclass(frozen=True)
class DifferentData:
    """Data that is not the tape's: of which request, and where the tape has its own (0: nowhere) of so many bytes."""

    sequence: int
    is_read: bool
    contents: int
    length: int


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
        last_writer: of a read that returned other data: what had written that range last in the recording; None for
            other divergences.
        difference: of data that differs, where the tape has it (level `full`): the first lines that do, 16 bytes each,
            as offset on the disk, what the tape has, what the program read or wrote. Else empty.
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
        self.last_writer: LastWriter | None = None
        self.difference = ""
        # What `difference` has to be found in.
        self.data: DifferentData | None = None
        where = "" if request_id is None else f", request id {request_id}"
        super().__init__(
            f"divergence in worker {worker} after checkpoint {checkpoint}{where}: "
            f"the tape has {recorded}; the program made {actual}"
        )

    def __str__(self) -> str:
        text = super().__str__()
        return text if self.last_writer is None else f"{text}; last recorded writer: {self.last_writer}"
