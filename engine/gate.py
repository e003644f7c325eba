"""Where a worker's program waits: checkpoints, release tokens, captured values.

Two gates behind one interface: the coordinated one asks the coordinator and waits for its token; the plain one lets
completions through as they come. The program and its event loop cannot tell which one they wait at, and the
coordinated gate cannot tell a recording from a replay.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from threading import get_ident
from typing import TYPE_CHECKING, NoReturn, Protocol

from ringtape.engine.clock import Clock
from ringtape.engine.collector import Collector
from ringtape.engine.ids import Ids
from ringtape.engine.link import Link
from ringtape.engine.mail import Mail
from ringtape.engine.outbox import Outbox
from ringtape.engine.requests import Request, data_of
from ringtape.proto import messages_pb2, wire_pb2
from ringtape.proto.errors import RingtapeError, Stalled
from ringtape.proto.framing import FramingError

if TYPE_CHECKING:  # the ring is not loaded where there is none, nor NumPy where it is not needed
    import numpy as np
    from numpy.typing import NDArray

    from ringtape.engine.offline import OfflineQueue
    from ringtape.engine.queue import RequestQueue

WAIT = wire_pb2.Checkpoint.MODE_WAIT
POLL = wire_pb2.Checkpoint.MODE_POLL


# How long a checkpoint is kept back for the completion that it waits for, so that one message tells both.
WITHHOLD_NS_MAX = 2_000_000


class Unrecorded(RingtapeError, RuntimeError):
    """A way to the outside that the tape does not see; the message names the recorded one."""


class Owner:
    """Who may use `io`: the worker's one thread, and not from inside a captured call."""

    def __init__(self) -> None:
        #: The thread that may, or 0 while a captured call is made. Compared at each use; no thread is 0.
        self.thread = self._thread = get_ident()
        self._called = ""

    @contextmanager
    def calling(self, name: str) -> Iterator[None]:
        """A captured call is made: a replay does not make it, nor what it would do with `io`."""
        self.thread, self._called = 0, name
        try:
            yield
        finally:
            self.thread = self._thread

    def refuse(self) -> NoReturn:
        """Raise `Unrecorded` for a use of `io` by someone else than `thread`."""
        if get_ident() == self._thread:
            raise Unrecorded(
                f"{self._called} was called through io.capture and uses io, but a replay does not make the call: "
                "capture only what it needs from the outside, and use io around it"
            )
        raise Unrecorded(
            "io was used in a thread that the program started: the order in which threads run is not on the tape; "
            "use asyncio tasks, or more workers"
        )


class Gate(Protocol):
    """What the program's side needs of whoever lets completions through."""

    clock: Clock
    queue: RequestQueue | OfflineQueue
    owner: Owner
    mail: Mail
    #: For those who measure: at each checkpoint, how many requests had been made, what the clock read, and how much
    #: later they were handed to the kernel (ns; of these, it alone is not recorded). Who wants it puts a list here and
    #: empties it.
    handed_over: list[tuple[int, int, int]] | None

    def checkpoint(self, mode: int, deadline_ns: int = 0) -> None:
        """Come back when a token has brought something (`WAIT`) or told what there is (`POLL`).

        Raises `Stalled` where nothing can ever come.
        """

    def captured(self, name: str) -> messages_pb2.Captured | None:
        """The recorded result of a call to the outside, or None: make the call and `note` its result."""

    def note(self, note: messages_pb2.Note) -> None:
        """Tell what the program did."""

    def issued(self) -> None:
        """The program made a request: pass on what has gathered, if it is much."""

    def post(self, note: messages_pb2.Note) -> None:
        """As `note`, and pass it on now: somebody may wait for it."""

    def request_id(self, sequence: int) -> int | None:
        """The global id of a released request of this worker; None in a plain run."""

    def request_ids(self, sequences: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """As `request_id`, of many."""

    def finish(self, outcome: messages_pb2.Outcome, pickled: bytes) -> NoReturn:
        """The program has ended: see its requests complete, tell its outcome, end when the link closes."""


class CoordinatedGate:
    """Waits for the coordinator's tokens."""

    def __init__(
        self,
        link: Link,
        queue: RequestQueue | OfflineQueue,
        outbox: Outbox,
        clock: Clock,
        stack: Callable[[Request | None], str],
        mail: Mail,
    ) -> None:
        self._link = link
        self.mail = mail
        self.queue: RequestQueue | OfflineQueue = queue
        self._outbox = outbox
        self.clock = clock
        self._stack = stack
        self.owner = Owner()
        self.handed_over: list[tuple[int, int, int]] | None = None
        self._collector = Collector()
        self._started_ns = time.monotonic_ns()
        self._number = 0
        self._released = 0
        self._ids = Ids()

    def start(self) -> None:
        """Wait for the token that starts the program."""
        answer = self._wait_for_answer()
        token = self._token_of(answer, 0)
        self._started_ns = token.started_ns
        self.clock.set_ns(token.clock_ns)

    def checkpoint(self, mode: int, deadline_ns: int = 0) -> None:
        """See `Gate`."""
        if get_ident() != self.owner.thread:
            self.owner.refuse()
        if self._goes_on(mode, deadline_ns):
            return
        self._number += 1
        queue = self.queue
        self._stamp()
        # No token can come before something completes: if it does soon, one message tells both.
        withholds = mode == WAIT and not deadline_ns
        if not withholds or queue.many or not self._lacks_completions():
            if mode == WAIT:
                queue.hand_over()
            else:
                queue.submit()
            if self._reap() and self._receive() is not None:
                raise FramingError("the coordinator answered before it was asked")
        # Else the wait hands over: one system call does for both.
        if withholds and self._lacks_completions():
            self._wait_once(WITHHOLD_NS_MAX, tell=False)
        batch = self._outbox.take(self._now_ns())
        waits = batch.checkpoint
        waits.number = self._number
        waits.mode = mode  # type: ignore[assignment]
        waits.deadline_ns = deadline_ns
        self._send(batch)
        token = self._token_of(self._wait_for_answer(), self._number)
        self._take_token(token)
        self._collector.checkpoint()
        brought = token.sequences or token.deliveries or token.delivered_before
        if mode == WAIT and not deadline_ns and not brought:
            raise _stuck()

    def _stamp(self) -> None:
        """What has gathered is handed to the kernel now."""
        now_ns = self._now_ns()
        self._outbox.stamp(now_ns)
        if self.handed_over is not None:
            self.handed_over.append((self.queue.made, self.clock.ns, now_ns - self.clock.ns))

    def _goes_on(self, mode: int, deadline_ns: int) -> bool:
        """Can the program go on without asking? Then it has what there is for it."""
        return False

    def _take_token(self, token: wire_pb2.Token) -> None:
        """Let the program go on with what the token says."""
        queue = self.queue
        self._ids.add(token.ids)
        self.clock.set_ns(token.clock_ns)
        queue.complete(token)
        sequences: Sequence[int] = memoryview(token.sequences).cast("Q")
        if queue.columns is not None and queue.columns.completed:
            sequences, count = queue.columns.release(sequences, token.clock_ns)
            self._released += count
        self._let_through([queue.outstanding[sequence] for sequence in sequences])
        for delivery in token.deliveries:
            self.mail.deliver(delivery)
        if queue.touched:
            wake_volumes(queue)
        self._ids.forget(queue.oldest())

    def _let_through(self, requests: Collection[Request]) -> None:
        """The program sees what came of these, in this order."""
        self.queue.release(requests)
        self._released += len(requests)

    def _reap(self) -> bool:
        """Take what has completed; says whether the link has something."""
        return self.queue.reap()[1]

    def _take_other(self, message: wire_pb2.CoordinatorMessage) -> bool:
        """Take a message that answers no question; False for one that does."""
        return False

    def _lacks_completions(self) -> bool:
        """Has nothing completed that can, and waits nobody for what is told, nor a completion for an answer to it?"""
        if not self.queue.active or self.queue.completed != self._released:
            return False
        return not self.mail.waiting and not self.queue.unadmitted and not self._outbox.urgent

    def captured(self, name: str) -> messages_pb2.Captured | None:
        """See `Gate`."""
        if get_ident() != self.owner.thread:
            self.owner.refuse()
        self.queue.submit()
        batch = self._outbox.take(self._now_ns())
        batch.capture.name = name
        self._send(batch)
        answer = self._wait_for_answer()
        if answer.WhichOneof("body") != "capture":
            raise FramingError(f"waited for a captured value, got {answer.WhichOneof('body')}")
        return None if answer.capture.call else answer.capture.recorded

    def note(self, note: messages_pb2.Note) -> None:
        """See `Gate`."""
        if get_ident() != self.owner.thread:
            self.owner.refuse()
        self._outbox.note(note)
        self.issued()

    def post(self, note: messages_pb2.Note) -> None:
        """See `Gate`."""
        self.note(note)
        self.flush()

    def issued(self) -> None:
        """See `Gate`."""
        if self._outbox.full:
            self.flush()

    def flush(self) -> None:
        """Hand over to the kernel, and tell, what the program did."""
        self.queue.submit()
        if not self._outbox.empty:
            self._send(self._outbox.take(self._now_ns()))

    def request_id(self, sequence: int) -> int | None:
        """See `Gate`."""
        return self._ids.of(sequence)

    def request_ids(self, sequences: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """See `Gate`."""
        return self._ids.of_many(sequences)

    def finish(self, outcome: messages_pb2.Outcome, pickled: bytes) -> NoReturn:
        """See `Gate`."""
        if self.queue.unadmitted and not self._outbox.empty:
            self._send(self._outbox.take(self._now_ns()))
        while self.queue.active:
            self._wait_once()
        batch = self._outbox.take(self._now_ns())
        _fill_finish(batch.finish, outcome, pickled, self.queue.made, self._number)
        self._send(batch)
        # The coordinator ends the worker by closing the link; until then it may ask where the program was.
        self._link.finished = True
        while True:
            self._wait_once()

    def _wait_for_answer(self) -> wire_pb2.CoordinatorMessage:
        while True:
            answer = self._wait_once()
            if answer is not None:
                return answer

    def _wait_once(
        self, timeout_ns: int | None = None, *, tell: bool = True
    ) -> wire_pb2.CoordinatorMessage | None:
        """One turn of the one wait: completions are told at once, questions answered, a token or value returned.

        Without `tell` completions stay in the outbox.
        """
        queue = self.queue
        queue.wait(timeout_ns)
        answer = self._receive() if self._reap() else None
        if tell and answer is None and not self._outbox.empty:
            self._send(self._outbox.take(self._now_ns()))
        return answer

    def _receive(self) -> wire_pb2.CoordinatorMessage | None:
        """Read the link: a token or value is returned, a question answered. What is not read is not told again."""
        answer: wire_pb2.CoordinatorMessage | None = None
        admitted = False
        for message in self._link.receive():
            body = message.WhichOneof("body")
            if body == "stack":
                self._answer_stack(message.stack)
            elif body == "admission":
                self.queue.admit(message.admission.sequences)
                admitted = True
            elif body == "kept":
                self.queue.kept(message.kept.disk, message.kept.offset)
                admitted = True
            elif body == "data":
                self._answer_data(message.data)
            elif body == "given":
                self.queue.give(message.given)
            elif self._take_other(message):
                pass
            elif answer is None:
                answer = message
            else:
                raise FramingError("the coordinator answered one question twice")
        if admitted and answer is not None:
            self.queue.submit()  # the program goes on, and others may wait for these
        return answer

    def _answer_stack(self, ask: wire_pb2.StackAsk) -> None:
        request = self.queue.find(ask.sequence) if ask.HasField("sequence") else None
        message = wire_pb2.WorkerMessage()
        message.stack.text = self._stack(request)
        self._link.send(message)

    def _answer_data(self, ask: wire_pb2.DataAsk) -> None:
        request = self.queue.find(ask.sequence)
        message = wire_pb2.WorkerMessage()
        message.data.SetInParent()
        if request is not None and (data := data_of(request)) is not None:
            message.data.data = bytes(data[ask.start : ask.start + ask.length])
        self._link.send(message)

    def _token_of(self, answer: wire_pb2.CoordinatorMessage, checkpoint: int) -> wire_pb2.Token:
        if answer.WhichOneof("body") != "token" or answer.token.checkpoint != checkpoint:
            raise FramingError(f"waited for the token of checkpoint {checkpoint}, got {answer}")
        return answer.token

    def _send(self, batch: wire_pb2.Batch) -> None:
        self._link.send(wire_pb2.WorkerMessage(batch=batch))

    def _now_ns(self) -> int:
        return time.monotonic_ns() - self._started_ns


class PlainGate:
    """Lets completions through as they come: the baseline, without ids, tokens or a tape."""

    def __init__(self, link: Link, queue: RequestQueue | OfflineQueue, clock: Clock, mail: Mail) -> None:
        self._link = link
        self.mail = mail
        self.queue: RequestQueue | OfflineQueue = queue
        self.clock = clock
        self.owner = Owner()
        self.handed_over: list[tuple[int, int, int]] | None = None
        self._collector = Collector()
        self._started_ns = 0
        self._number = 0
        self._completed: list[Request] = []
        self._deliveries: list[wire_pb2.Delivery] = []
        self._delivered = 0
        self._told_idle = False
        self._stuck = False

    def start(self) -> None:
        """Wait for the message that starts the program."""
        messages: list[wire_pb2.CoordinatorMessage] = []
        while not messages:
            self.queue.wait()
            _, linked = self.queue.reap()
            if linked:
                messages = self._link.receive()
        self._started_ns = time.monotonic_ns()
        self._take_deliveries(messages[1:])  # of workers that were faster

    def checkpoint(self, mode: int, deadline_ns: int = 0) -> None:
        """See `Gate`."""
        if get_ident() != self.owner.thread:
            self.owner.refuse()
        self._number += 1
        if self.handed_over is not None:
            self.handed_over.append((self.queue.made, self.clock.ns, self._now_ns() - self.clock.ns))
        queue = self.queue
        if mode != WAIT:
            queue.submit()
            self._reap()
        elif deadline_ns or queue.many or not queue.active or self._ready():
            queue.hand_over(deadline_ns - self._now_ns() if deadline_ns else None)
            self._reap()
        # Else the wait hands over: one system call does for both.
        while mode == WAIT and not self._ready() and not self._stuck:
            timeout_ns = None
            if deadline_ns:
                timeout_ns = deadline_ns - self._now_ns()
                if timeout_ns <= 0:
                    break
            elif not self.queue.active:
                self._tell_idle()
            self.queue.wait(timeout_ns)
            self._reap()
        self.clock.set_ns(self._now_ns())
        completed, self._completed = self._completed, []
        columns = self.queue.columns
        if columns is not None and columns.completed:
            columns.release(None, self.clock.ns)
        self.queue.release(completed)
        deliveries, self._deliveries = self._deliveries, []
        for delivery in deliveries:
            self.mail.deliver(delivery)
        if self.queue.touched:
            wake_volumes(self.queue)
        self._told_idle = False
        self._collector.checkpoint()
        if self._stuck:
            self._stuck = False
            raise _stuck()

    def _ready(self) -> bool:
        """Is there something for the program?"""
        columns = self.queue.columns
        return bool(self._completed or self._deliveries or (columns is not None and columns.completed))

    def _tell_idle(self) -> None:
        """Only a message can wake this program: the coordinator knows whether one can still come."""
        if not self._told_idle:
            self._told_idle = True
            message = wire_pb2.WorkerMessage()
            message.batch.checkpoint.number = self._delivered
            self._link.send(message)

    def captured(self, name: str) -> messages_pb2.Captured | None:
        """See `Gate`."""
        if get_ident() != self.owner.thread:
            self.owner.refuse()
        return None

    def note(self, note: messages_pb2.Note) -> None:
        """See `Gate`."""
        if get_ident() != self.owner.thread:
            self.owner.refuse()
        if note.WhichOneof("what") != "captured":
            message = wire_pb2.WorkerMessage()
            message.batch.notes.append(note)
            self._link.send(message)

    def post(self, note: messages_pb2.Note) -> None:
        """See `Gate`."""
        self.note(note)

    def issued(self) -> None:
        """See `Gate`."""

    def request_id(self, sequence: int) -> int | None:
        """See `Gate`."""
        return None

    def request_ids(self, sequences: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """See `Gate`."""
        return None

    def finish(self, outcome: messages_pb2.Outcome, pickled: bytes) -> NoReturn:
        """See `Gate`."""
        while self.queue.active:
            self.queue.wait()
            self._reap()
        message = wire_pb2.WorkerMessage()
        _fill_finish(message.batch.finish, outcome, pickled, self.queue.made, self._number)
        self._link.send(message)
        self._link.finished = True
        while True:
            self.queue.wait()
            self._reap()

    def _reap(self) -> None:
        completed, linked = self.queue.reap()
        self._completed.extend(completed)
        if linked:
            self._take_deliveries(self._link.receive())  # ends the process when the link has closed

    def _take_deliveries(self, messages: list[wire_pb2.CoordinatorMessage]) -> None:
        for message in messages:
            deliveries = message.token.deliveries
            self._deliveries += deliveries
            self._delivered += len(deliveries)
            self._stuck = not deliveries

    def _now_ns(self) -> int:
        return time.monotonic_ns() - self._started_ns


def wake_volumes(queue: RequestQueue | OfflineQueue) -> None:
    """Let volumes go on, in the order in which they began: whichever of their requests were released first."""
    touched, queue.touched = queue.touched, {}
    for volume in touched if len(touched) == 1 else sorted(touched, key=lambda volume: volume.number):
        volume.wake()


def _stuck() -> Stalled:
    return Stalled(
        "the program waits for a message or a barrier, no request is under way and no timer is set, and every other "
        "worker waits as well or has ended: nothing can ever wake it"
    )


def _fill_finish(
    finish: wire_pb2.Finish, outcome: messages_pb2.Outcome, pickled: bytes, requests: int, checkpoints: int
) -> None:
    finish.outcome.CopyFrom(outcome)
    finish.pickled = pickled
    finish.requests = requests
    finish.checkpoints = checkpoints
