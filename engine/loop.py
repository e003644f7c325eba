"""The asyncio event loop of a worker: its selector is the gate, its clock the recorded one.

When every task waits, the loop's `select` is a checkpoint. What would bring the outside in without the tape knowing
(threads, sockets, signals, subprocesses) raises `Unrecorded`.

It stands on `asyncio.BaseEventLoop` and its selector, whose parts are named with an underscore but have not changed
since Python 3.4; the tests run on each Python that is supported. What asyncio does for each callback is done anew here,
without what only its debug mode needs: beside a request that the page cache answers it is what costs most.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator
from typing import Any, NoReturn

from ringtape.engine.gate import POLL, WAIT, Gate, Unrecorded
from ringtape.proto.errors import Stalled

# Turns of the loop without a wait after which it looks for completions and the time, for programs that spin.
TURNS_MAX = 64

_numbers = itertools.count(1)


class CountedFuture(asyncio.Future[Any]):
    """A future whose hash is a counter: a set of futures has the same order in every run."""

    __slots__ = ("_number",)
    _number: int

    def __hash__(self) -> int:
        return self._number


class CountedTask(asyncio.Task[Any]):
    """A task whose hash is a counter: asyncio keeps tasks in sets."""

    def __init__(self, coro: Coroutine[Any, Any, Any], **kwargs: Any) -> None:
        # Before the base, which enters the task into a set.
        self._number = next(_numbers)
        super().__init__(coro, **kwargs)

    def __hash__(self) -> int:
        return self._number


class _InOrder:
    """A weak set of asynchronous generators in the order in which they began: the loop closes them in this order."""

    def __init__(self) -> None:
        self._generators: dict[int, weakref.ref[AsyncGenerator[Any, Any]]] = {}

    def add(self, generator: AsyncGenerator[Any, Any]) -> None:
        key = id(generator)
        self._generators[key] = weakref.ref(generator, lambda _: self._generators.pop(key, None))

    def discard(self, generator: AsyncGenerator[Any, Any]) -> None:
        self._generators.pop(id(generator), None)

    def clear(self) -> None:
        self._generators.clear()

    def __len__(self) -> int:
        return len(self._generators)

    def __iter__(self) -> Iterator[AsyncGenerator[Any, Any]]:
        for reference in list(self._generators.values()):
            generator = reference()
            if generator is not None:
                yield generator


class _GateSelector:
    """What the base loop takes for a selector."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._turns = 0

    def select(self, timeout: float | None) -> list[Any]:
        gate = self._gate
        if timeout is not None and timeout <= 0:
            # Callbacks are ready: no checkpoint, but for a program that never waits.
            self._turns += 1
            if self._turns >= TURNS_MAX:
                self._turns = 0
                gate.checkpoint(POLL)
            return []
        self._turns = 0
        if timeout is None:
            if not gate.queue.waits and not gate.mail.waiting:
                raise Stalled(
                    "every task waits, but no request is under way and no timer is set: nothing can ever wake them"
                )
            gate.checkpoint(WAIT)
        else:
            gate.checkpoint(WAIT, gate.clock.ns + max(math.ceil(timeout * 1e9), 1))
        return []

    def close(self) -> None:
        pass


class RingLoop(asyncio.BaseEventLoop):
    """An event loop that waits at the gate and nowhere else."""

    # Of the base.
    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]
    _closed: bool
    _debug: bool
    _stopping: bool

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self._selector = _GateSelector(gate)
        self._ring_clock = gate.clock
        self._clock_resolution = 1e-9
        self._asyncgens = _InOrder()
        self.set_task_factory(_make_task)

    def time(self) -> float:
        """Seconds since the start of the run, on the recorded clock."""
        # Only what the program reads counts as waiting for time to pass, and may let something through.
        clock = self._ring_clock
        return (clock.ns if asyncio.current_task(self) is None else clock.read_ns()) / 1e9

    def create_future(self) -> asyncio.Future[Any]:
        """A future with a reproducible hash."""
        future = CountedFuture(loop=self)
        future._number = next(_numbers)
        return future

    def future_of_request(self) -> asyncio.Future[Any]:
        """A future that only the coroutine of a request ever sees, so that nobody can put it into a set."""
        next(_numbers)  # as if it were one with a hash: the others have the numbers that they always had
        return asyncio.Future(loop=self)

    def set_debug(self, enabled: bool) -> None:
        """See asyncio."""
        super().set_debug(enabled)
        # Each new future asks. A class that answers no when it is called does so without a Python frame.
        if enabled:
            vars(self).pop("get_debug", None)
        else:
            vars(self)["get_debug"] = bool

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.Handle:
        """See asyncio."""
        if self._debug or self._closed:
            return super().call_soon(callback, *args, context=context)
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def _run_once(self) -> None:
        if self._debug or self._scheduled:
            super()._run_once()  # type: ignore[misc]
            return
        ready = self._ready
        self._selector.select(0 if ready or self._stopping else None)
        take = ready.popleft
        for _ in range(len(ready)):
            handle: Any = take()
            if handle._cancelled:
                continue
            try:
                handle._context.run(handle._callback, *handle._args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                text = f"Exception in callback {handle!r}"
                self.call_exception_handler({"message": text, "exception": error, "handle": handle})

    def _process_events(self, event_list: list[Any]) -> None:
        assert not event_list, "completions set futures; there are no events"

    def _write_to_self(self) -> None:
        # Called by call_soon_threadsafe, which asyncio itself uses within the one thread: nothing sleeps meanwhile.
        pass


def _make_task(loop: asyncio.AbstractEventLoop, coro: Any, **kwargs: Any) -> CountedTask:
    return CountedTask(coro, loop=loop, **kwargs)


def _forbid(name: str, instead: str) -> Callable[..., NoReturn]:
    def forbidden(self: RingLoop, *args: Any, **kwargs: Any) -> NoReturn:
        raise Unrecorded(f"loop.{name} would let in what the tape does not hold; {instead}")

    forbidden.__name__ = name
    return forbidden


_CAPTURE = "call it through io.capture(function, *args)"
_NO_SOCKETS = "make the exchange in a plain function and call that through io.capture(function, *args)"
for _names, _instead in (
    (("run_in_executor", "getaddrinfo", "getnameinfo", "set_default_executor"), _CAPTURE),
    (("subprocess_exec", "subprocess_shell"), _CAPTURE.replace("it", "subprocess.run")),
    (
        (
            "create_connection",
            "create_server",
            "create_unix_connection",
            "create_unix_server",
            "create_datagram_endpoint",
            "connect_accepted_socket",
            "connect_read_pipe",
            "connect_write_pipe",
            "start_tls",
            "sendfile",
            "sock_accept",
            "sock_connect",
            "sock_recv",
            "sock_recv_into",
            "sock_recvfrom",
            "sock_recvfrom_into",
            "sock_sendall",
            "sock_sendfile",
            "sock_sendto",
            "add_reader",
            "add_writer",
            "remove_reader",
            "remove_writer",
        ),
        _NO_SOCKETS,
    ),
    (("add_signal_handler", "remove_signal_handler"), "signals are the coordinator's; nothing replaces them"),
):
    for _name in _names:
        setattr(RingLoop, _name, _forbid(_name, _instead))


def pin_asyncio() -> None:
    """Take memory addresses out of what asyncio itself puts into sets; in a worker, before the program loads."""
    gathering = asyncio.tasks._GatheringFuture  # type: ignore[attr-defined]
    gathering.__hash__ = _hash_by_counter
    as_completed = asyncio.as_completed

    def as_completed_in_order(fs: Iterable[Any], *, timeout: float | None = None) -> Any:
        # It would make its tasks in the order of a set of coroutines.
        if asyncio.isfuture(fs) or asyncio.iscoroutine(fs):
            return as_completed(fs, timeout=timeout)  # which says what is wrong with it
        futures = [asyncio.ensure_future(awaitable) for awaitable in dict.fromkeys(fs)]
        return as_completed(futures, timeout=timeout)

    as_completed_in_order.__doc__ = as_completed.__doc__
    asyncio.as_completed = asyncio.tasks.as_completed = as_completed_in_order


def _hash_by_counter(future: Any) -> int:
    number: int | None = getattr(future, "_ringtape_number", None)
    if number is None:
        number = future._ringtape_number = next(_numbers)
    return number


def run(main: Coroutine[Any, Any, Any], gate: Gate) -> object:
    """Run a program's coroutine to its end, then cancel what it left, as `asyncio.run` does."""
    loop = RingLoop(gate)
    try:
        asyncio.set_event_loop(loop)
        task = loop.create_task(main)
        try:
            result: object = loop.run_until_complete(task)
        except Stalled:
            raise  # no task can go on, not even to be cancelled
        except BaseException:
            _wind_up(loop)
            raise
        _wind_up(loop)
        return result
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _wind_up(loop: RingLoop) -> None:
    left = sorted(asyncio.all_tasks(loop), key=hash)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        for task in left:
            if not task.cancelled() and task.exception() is not None:
                loop.call_exception_handler(
                    {
                        "message": "a task failed while it was cancelled",
                        "exception": task.exception(),
                        "task": task,
                    }
                )
    loop.run_until_complete(loop.shutdown_asyncgens())
