"""What a worker's program may know of the world: the recorded clock, random numbers, captured calls, the log.

Everything here gives the same in a replay as in the recording. Nothing here may look outside on its own.
"""

from __future__ import annotations

import functools
import inspect
import pickle
import random
from collections.abc import Callable
from typing import Any, TypeVar

from ringtape.engine.gate import POLL, Gate
from ringtape.proto import messages_pb2

T = TypeVar("T")

# Newer Pythons import what a seed of text needs when it is first needed. Here no file beside the program comes first.
random.Random("")


class World:
    """The part of `io` that is the same for both faces."""

    def __init__(self, gate: Gate, *, index: int, worker_count: int, arguments: Any, seed: int) -> None:
        self._gate = gate
        self._clock = gate.clock
        self._clock.on_many_reads = functools.partial(gate.checkpoint, POLL)
        #: This worker's index, from 0.
        self.index = index
        #: How many workers the run has.
        self.worker_count = worker_count
        #: What the run was given as `arguments`; on the command line a list of strings.
        self.arguments = arguments
        #: Random numbers that follow from the run's seed and this worker's index.
        self.random = random.Random(f"{seed}/{index}")

    def now(self) -> float:
        """Seconds since 1970 on the recorded clock; in place of `time.time()`.

        The clock stands still between two checkpoints.
        """
        return self.now_ns() / 1e9

    def now_ns(self) -> int:
        """Nanoseconds since 1970 on the recorded clock; in place of `time.time_ns()`."""
        return self._clock.started_at_ns + self._clock.read_ns()

    def capture(self, call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """The result of a call to the outside, kept on the tape; on replay the call is not made.

        The value, or the exception if it raises one, is pickled, and what comes back is unpickled in the recording
        too, so both see the same object. A result that cannot be pickled raises TypeError; a call that itself uses
        `io` is told so by `Unrecorded`.

        Example: `host = io.capture(socket.gethostname)`.
        """
        name = _name_of(call)
        captured = self._gate.captured(name)
        if captured is None:
            with self._gate.owner.calling(name):
                captured = _call(name, call, args, kwargs)
            self._gate.note(messages_pb2.Note(captured=captured))
        value = pickle.loads(captured.pickled)
        if captured.raised:
            raise value
        result: T = value
        return result

    def log(self, text: str) -> None:
        """Put a line on the tape, in its place among the program's requests."""
        # Half a surrogate pair, from a file name that is not UTF-8, say, fits no message.
        encodable = str(text).encode(errors="backslashreplace").decode()
        self._gate.note(messages_pb2.Note(log=encodable))


def _name_of(call: Callable[..., Any]) -> str:
    while isinstance(call, functools.partial):
        call = call.func
    module = getattr(call, "__module__", None) or type(call).__module__
    return f"{module}:{getattr(call, '__qualname__', type(call).__qualname__)}"


def _call(name: str, call: Callable[..., Any], args: Any, kwargs: Any) -> messages_pb2.Captured:
    value: Any
    try:
        value = call(*args, **kwargs)
        raised = False
    except BaseException as error:  # SystemExit and CancelledError reach the program as well
        value, raised = error, True
    if inspect.isawaitable(value):
        if inspect.iscoroutine(value):
            value.close()
        value, raised = TypeError(f"io.capture takes a plain function; {name} is asynchronous"), True
    try:
        pickled = pickle.dumps(value, protocol=5)
        pickle.loads(pickled)
    except Exception as error:
        kind = "raised" if raised else "returned"
        text = f"io.capture: what {name} {kind} ({type(value).__name__}) cannot be pickled: {error}"
        pickled, raised = pickle.dumps(TypeError(text), protocol=5), True
    return messages_pb2.Captured(name=name, pickled=pickled, raised=raised)
