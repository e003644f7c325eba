"""What a run comes back with."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ringtape.proto import wire_pb2
from ringtape.proto.errors import RingtapeError


@dataclass(frozen=True)
class Failure:
    """A program that raised.

    Attributes:
        worker: index of the worker.
        exception: the exception's type, with its module unless it is a builtin.
        message: `str()` of the exception.
        traceback: as text.
        where: `file:line` in the program; empty if unknown.
        refused: ringtape itself refused what the program asked; `message` says it all.
        stalled: every task waited for something that could not come.
    """

    worker: int
    exception: str
    message: str
    traceback: str = field(repr=False)
    where: str
    refused: bool
    stalled: bool

    def __str__(self) -> str:
        place = f" at {self.where}" if self.where else ""
        message = f": {self.message}" if self.message else ""
        return f"worker {self.worker} raised {self.exception}{place}{message}"


class ProgramFailed(RingtapeError):
    """Programs raised; `failures` has them."""

    def __init__(self, failures: Sequence[Failure]) -> None:
        super().__init__("; ".join(str(failure) for failure in failures))
        self.failures = list(failures)


@dataclass(frozen=True)
class Result:
    """What came of a run.

    Attributes:
        mode: "plain", "record" or "replay".
        digest: hex; equal for a recording and its replays. None for a plain run, which keeps no account.
        requests: how many the programs made.
        checkpoints: how many there were, over all workers.
        returns: what the programs returned, by worker; None for one that raised or did not come to its end. A value
            that does not unpickle in this process is given as its `repr`.
        failures: the programs that raised.
        elapsed_s: seconds from the start of the programs to the end of the last one.
        seed: the run's.
        tape: path of the tape that was written; None if none was.
        ended: "finished"; or, of a replay of a tape that does, how the recording ended before its programs did.
    """

    mode: str
    digest: str | None
    requests: int
    checkpoints: int
    returns: list[Any]
    failures: list[Failure]
    elapsed_s: float
    seed: int
    tape: str | None
    ended: str

    def raise_for_failures(self) -> None:
        """Raise `ProgramFailed` if a program raised."""
        if self.failures:
            raise ProgramFailed(self.failures)


def failures_of(finished: Sequence[wire_pb2.Finish | None]) -> list[Failure]:
    """The programs that raised."""
    return [
        Failure(
            worker=worker,
            exception=finish.outcome.exception,
            message=finish.outcome.text,
            traceback=finish.outcome.traceback,
            where=finish.outcome.where,
            refused=finish.outcome.refused,
            stalled=finish.outcome.stalled,
        )
        for worker, finish in enumerate(finished)
        if finish is not None and finish.outcome.raised
    ]


def returns_of(finished: Sequence[wire_pb2.Finish | None]) -> list[Any]:
    """What the programs returned."""
    return [None if finish is None or finish.outcome.raised else _value(finish) for finish in finished]


def _value(finish: wire_pb2.Finish) -> Any:
    try:
        return pickle.loads(finish.pickled)
    except Exception:  # of a class that only the worker knows
        return finish.outcome.summary
