"""What a determinism check does to a worker: it changes when things happen, and nothing else.

Completions are kept back, the kernel gets fewer requests at once, checkpoints take longer, and the process runs on some
CPUs only. A program cannot tell: what it sees in a replay comes with tokens. Loaded only in workers that are disturbed.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import random
import time
from collections.abc import Sequence
from typing import Any

from ringtape.engine.buffers import Buffers
from ringtape.engine.gate import CoordinatedGate
from ringtape.engine.ring import Ring
from ringtape.proto import wire_pb2


def settle(disturbance: wire_pb2.Disturbance) -> None:
    """Move this process to the CPUs that it may run on; stay where the system does not allow it."""
    if disturbance.cpus:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, disturbance.cpus)


class DisturbedRing(Ring):
    """Keeps each completion back for a time of its own, so that they come in another order too."""

    def __init__(self, files: Sequence[int], buffers: Buffers, disturbance: wire_pb2.Disturbance) -> None:
        super().__init__(files, buffers)
        if disturbance.kernel_depth_max:
            self.entries = min(self.entries, disturbance.kernel_depth_max)
        self._delay_ns_max = disturbance.completion_delay_ns_max
        self._random = random.Random(disturbance.seed)
        # When each is due, a number that keeps equal ones in their order, and the completion.
        self._held: list[tuple[int, int, tuple[int, int]]] = []
        self._count = 0

    def wait(self, timeout_ns: int | None) -> None:
        """See `Ring`; comes back when a completion that was kept back is due."""
        if self._held:
            left_ns = self._held[0][0] - time.monotonic_ns()
            if left_ns <= 0:
                self.submit()
                return
            timeout_ns = left_ns if timeout_ns is None else min(timeout_ns, left_ns)
        super().wait(timeout_ns)

    def completions(self) -> tuple[list[tuple[int, int]], bool]:
        """See `Ring`; those that are due."""
        pairs, linked = super().completions()
        if not self._delay_ns_max:
            return pairs, linked
        now_ns = time.monotonic_ns()
        for pair in pairs:
            self._count += 1
            due_ns = now_ns + self._random.randrange(self._delay_ns_max)
            heapq.heappush(self._held, (due_ns, self._count, pair))
        due = []
        while self._held and self._held[0][0] <= now_ns:
            due.append(heapq.heappop(self._held)[2])
        return due, linked


class SlowedGate(CoordinatedGate):
    """Sleeps at every checkpoint, each time for another while."""

    def __init__(self, disturbance: wire_pb2.Disturbance, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._delay_ns_max = disturbance.checkpoint_delay_ns_max
        self._random = random.Random(~disturbance.seed)

    def checkpoint(self, mode: int, deadline_ns: int = 0) -> None:
        """See `Gate`."""
        time.sleep(self._random.randrange(self._delay_ns_max) / 1e9)
        super().checkpoint(mode, deadline_ns)
