"""The recorded clock: it stands still while the program runs and moves at release tokens alone."""

from __future__ import annotations

from collections.abc import Callable

# A program that reads the clock this often between two checkpoints is waiting for time to pass: it is given one.
READS_MAX = 1000


class Clock:
    """Nanoseconds since the start of the run, as the last token told them."""

    def __init__(self) -> None:
        self.ns = 0
        self.started_at_ns = (
            0  # wall clock of the start of the run (of the recording, in a replay), since 1970
        )
        self._reads = 0
        self.on_many_reads: Callable[[], None] = _nothing

    def read_ns(self) -> int:
        """What the program is told; never goes back."""
        self._reads += 1
        if self._reads > READS_MAX:
            self._reads = 0
            self.on_many_reads()
        return self.ns

    def set_ns(self, ns: int) -> None:
        """A token moves the clock."""
        assert ns >= self.ns, f"a token turned the clock back from {self.ns} to {ns} ns"
        self.ns = ns
        self._reads = 0


def _nothing() -> None:
    pass
