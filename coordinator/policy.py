"""Release policies: what a token holds. No other code knows which one is in force."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt


class Queued(Protocol):
    """A worker's completions that wait for a token, in order of completion."""

    def __len__(self) -> int: ...

    def sequences(self) -> npt.NDArray[np.uint64]:
        """The worker's own numbers of the requests."""


class ReleasePolicy(Protocol):
    """Decides which of a worker's queued completions a token releases, and in which order."""

    #: As it stands on the tape.
    name: str
    #: Does it always release everything in order of completion? Then workers may do it on their own.
    leases: bool

    def choose(self, worker: int, queue: Queued) -> Sequence[int] | None:
        """Places in the queue, which holds at least one completion, in order of release.

        None releases all of them in order of completion. An empty choice keeps the worker waiting.
        """


class Fifo:
    """Releases everything, in order of completion."""

    name = "fifo"
    leases = True

    def choose(self, worker: int, queue: Queued) -> Sequence[int] | None:
        """See `ReleasePolicy`."""
        return None
