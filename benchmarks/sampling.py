"""A statistical profile of the main thread: where it is, by wall-clock time, at each tick of a timer.

A timer and not a deterministic profile (cProfile): that one makes each small Python function look half as dear again
and hides what the kernel costs. Each tick is weighed by the time since the last one, so that a long call into C, in
which no signal handler of Python's can run, counts for as long as it took. The handler's own time counts for nothing.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from types import CodeType, FrameType, TracebackType
from typing import Any, NamedTuple, Self

STACK_FRAMES_MAX = 64


class Frame(NamedTuple):
    """A function on the stack; `line` is where it was, and 0 for all but the innermost."""

    module: str
    function: str
    line: int


Stack = tuple[Frame, ...]  # innermost first
Samples = dict[Stack, int]  # nanoseconds


class Sampler:
    """Samples between `start` and `stop`, or in a `with` block; in the main thread, once."""

    def __init__(self, every_s: float) -> None:
        assert every_s > 0, f"a sample every {every_s} s"
        self._every_s = every_s
        self._ns: dict[tuple[int, tuple[CodeType, ...]], int] = {}
        self._modules: dict[CodeType, str] = {}
        self._last_ns = 0
        self._timer_s = (0.0, 0.0)
        self._handler: Callable[[int, FrameType | None], Any] | int | None = None

    @property
    def started(self) -> bool:
        """Has it begun?"""
        return self._last_ns > 0

    def start(self) -> None:
        """Begin to take samples."""
        assert not self.started, "a sampler is used once"
        # A descriptor that wakes an event loop up at signals would be written to at each sample.
        signal.set_wakeup_fd(-1)
        self._handler = signal.signal(signal.SIGALRM, self._take)
        self._last_ns = time.perf_counter_ns()
        self._timer_s = signal.setitimer(signal.ITIMER_REAL, self._every_s, self._every_s)

    def stop(self) -> None:
        """Take no more samples; handler and timer are again what they were."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._handler)
        signal.setitimer(signal.ITIMER_REAL, *self._timer_s)

    def _take(self, _signal: int, frame: FrameType | None) -> None:
        ns = time.perf_counter_ns() - self._last_ns
        while frame is not None and frame.f_code is Sampler._take.__code__:
            frame = frame.f_back  # a tick during the handling of a tick
        line = frame.f_lineno if frame is not None else 0
        codes: list[CodeType] = []
        while frame is not None and len(codes) < STACK_FRAMES_MAX:
            code = frame.f_code
            if code not in self._modules:
                self._modules[code] = str(frame.f_globals.get("__name__", ""))
            codes.append(code)
            frame = frame.f_back
        key = line, tuple(codes)
        self._ns[key] = self._ns.get(key, 0) + ns
        self._last_ns = time.perf_counter_ns()

    @property
    def samples(self) -> Samples:
        """Nanoseconds by stack, so far."""
        found: Samples = {}
        for (line, codes), ns in list(self._ns.items()):
            stack = tuple(
                Frame(self._modules[code], code.co_qualname, line if depth == 0 else 0)
                for depth, code in enumerate(codes)
            )
            found[stack] = found.get(stack, 0) + ns
        return found

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
