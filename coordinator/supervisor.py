"""Starts the workers of a run, moves messages between them and the conductor, and ends them, whatever happens.

It does not know whether the run is a recording, a replay or plain. No worker is left when `run` comes back.
"""

from __future__ import annotations

import contextlib
import functools
import os
import selectors
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import IO

from ringtape.coordinator.conductor import AskData, Conductor
from ringtape.coordinator.errors import Divergence, Interrupted, ProtocolError, WorkerDied
from ringtape.coordinator.faults import Faults
from ringtape.coordinator.processes import WorkerProcess
from ringtape.coordinator.tape.sink import TapeSink
from ringtape.coordinator.undo import UndoKeeper
from ringtape.proto import wire_pb2
from ringtape.proto.errors import DiskError, ProgramError, RingtapeError, RingUnavailable, Stalled

PROGRESS_EVERY_NS = 100_000_000
# How long a finished worker may take to go, and how long a worker may take to say where its program is.
LET_GO_S_MAX = 2.0
STACK_S_MAX = 2.0
# The loop looks around at least so often: epoll takes no timeout above 24 days, and programs sleep as they like.
SELECT_S_MAX = 3600.0

_REFUSALS: dict[int, type[RingtapeError]] = {
    wire_pb2.Refusal.REASON_PROGRAM: ProgramError,
    wire_pb2.Refusal.REASON_DISK: DiskError,
    wire_pb2.Refusal.REASON_RING: RingUnavailable,
    wire_pb2.Refusal.REASON_PROTOCOL: ProtocolError,
}


class Supervisor:
    """One run's processes and the one event loop over their links."""

    def __init__(
        self,
        conductor: Conductor,
        starts: list[wire_pb2.Start],
        tape: TapeSink,
        *,
        hash_seed: str,
        stdout: IO[str] | int | None,
        on_begin: Callable[[], None],
        on_progress: Callable[[], None] | None,
        take_other: Callable[[int, wire_pb2.WorkerMessage], bool] | None = None,
        faults: Faults | None = None,
        undo: UndoKeeper | None = None,
        explain: Callable[[Divergence, AskData], None] | None = None,
    ) -> None:
        self._conductor = conductor
        self._starts = starts
        self._tape = tape
        self._hash_seed = hash_seed
        self._stdout = stdout
        self._on_begin = on_begin
        self._on_progress = on_progress
        # Messages that are not the conductor's everyday business.
        self._take_other = take_other
        self._faults = faults
        self._undo = undo
        self._explain = explain
        self._workers: list[WorkerProcess] = []
        self._selector = selectors.DefaultSelector()
        self._watched: dict[int, int] = {}
        self._not_ready = len(starts)
        self._started_ns = 0
        #: How long the programs have run, nanoseconds.
        self.elapsed_ns = 0

    @property
    def began(self) -> bool:
        """Have the programs been let go?"""
        return self._started_ns > 0

    def run(self) -> None:
        """Conduct the run to its end; raises the `RingtapeError` that ended it early."""
        with self._selector, _lifeline() as lifeline, _interruptions() as interruption:
            if interruption.fd >= 0:
                self._selector.register(interruption.fd, selectors.EVENT_READ)
            try:
                for start in self._starts:
                    worker = WorkerProcess(
                        start, lifeline=lifeline, hash_seed=self._hash_seed, stdout=self._stdout
                    )
                    self._workers.append(worker)
                    if self._faults is not None:
                        for message in self._faults.messages(start.worker):
                            worker.send(message)
                    if worker.end_fd >= 0:
                        self._selector.register(worker.end_fd, selectors.EVENT_READ, worker)
                self._loop(interruption)
            except (Divergence, Stalled) as error:
                self._add_stack(error)
                if isinstance(error, Divergence) and self._explain is not None:
                    self._explain(error, functools.partial(self._ask_data, error.worker))
                raise
            except BaseException:
                self._kill()
                raise
            finally:
                if self._started_ns:
                    self.elapsed_ns = time.monotonic_ns() - self._started_ns
                self._end()

    def _loop(self, interruption: Interruption) -> None:
        conductor, tape = self._conductor, self._tape
        progress_ns = 0
        while not conductor.done:
            for worker in self._workers:
                self._watch(worker)
            for key, _ in self._selector.select(self._timeout_s()):
                if key.data is not None:
                    self._attend(key.data, ended=key.fd == key.data.end_fd)
            if interruption.name:
                raise Interrupted(f"interrupted by {interruption.name}")
            if self._started_ns:
                now_ns = time.monotonic_ns() - self._started_ns
                conductor.tick(now_ns)
                tape.flush_due(now_ns)
                if self._on_progress is not None and now_ns >= progress_ns:
                    progress_ns = now_ns + PROGRESS_EVERY_NS
                    self._on_progress()

    def _timeout_s(self) -> float | None:
        if not self._started_ns:
            return None
        dues = [self._conductor.next_due_ns(), self._tape.next_flush_ns()]
        now_ns = time.monotonic_ns() - self._started_ns
        if self._on_progress is not None:
            dues.append(now_ns + PROGRESS_EVERY_NS)
        known = [due for due in dues if due is not None]
        return min(max((min(known) - now_ns) / 1e9, 0), SELECT_S_MAX) if known else None

    def _watch(self, worker: WorkerProcess) -> None:
        """Look for what can be done for this worker now: read from it, send the rest to it."""
        wanted = 0
        if not worker.closed:
            if self._conductor.wants(worker.index):
                wanted |= selectors.EVENT_READ
            if worker.unsent:
                wanted |= selectors.EVENT_WRITE
        watched = self._watched.get(worker.index, 0)
        if wanted == watched:
            return
        if not watched:
            self._selector.register(worker.socket, wanted, worker)
        elif not wanted:
            self._selector.unregister(worker.socket)
        else:
            self._selector.modify(worker.socket, wanted, worker)
        self._watched[worker.index] = wanted

    def _attend(self, worker: WorkerProcess, *, ended: bool) -> None:
        worker.flush()
        for message in worker.receive_rest() if ended else worker.receive():
            self._take(worker, message)
        if ended:
            self._selector.unregister(worker.end_fd)
        if worker.closed and not worker.died and not self._conductor.done:
            worker.died = True
            error = WorkerDied(
                f"worker {worker.index} (pid {worker.pid}) {worker.how_it_ended()} before its program ended",
                worker.index,
            )
            if not self.began:
                raise error
            self._conductor.died(worker.index, error)

    def _take(self, worker: WorkerProcess, message: wire_pb2.WorkerMessage | bytearray) -> None:
        if isinstance(message, bytearray):
            self._conductor.data(worker.index, message)
            return
        what = message.WhichOneof("body")
        if what == "batch":
            if self._not_ready:
                raise ProtocolError(f"worker {worker.index} ran before it was started")
            self._conductor.batch(worker.index, message.batch)
        elif what == "before" and self._undo is not None:
            if self._not_ready:
                raise ProtocolError(f"worker {worker.index} ran before it was started")
            kept = self._undo.before(worker.index, message.before)
            if kept is not None:
                worker.send(kept)
        elif what == "refusal":
            kind = _REFUSALS.get(message.refusal.reason, ProtocolError)
            raise kind(message.refusal.text)
        elif what == "ready":
            self._not_ready -= 1
            if not self._not_ready:
                # Every worker has its program, its disks and its ring: only now is anything given up or changed.
                self._tape.begin()
                self._on_begin()
                self._started_ns = time.monotonic_ns()
                self._conductor.start(lambda index, answer: self._workers[index].send(answer))
        elif self._take_other is None or not self._take_other(worker.index, message):
            raise ProtocolError(f"worker {worker.index} sent {what or 'an empty message'} unasked")

    def _add_stack(self, error: Divergence | Stalled) -> None:
        """Ask the worker where its program is; a worker that computes may not answer in time."""
        if error.worker is None:
            return
        ask = wire_pb2.StackAsk(sequence=getattr(error, "sequence", None))
        answer = self._ask(error.worker, wire_pb2.CoordinatorMessage(stack=ask), "stack")
        if answer is not None:
            error.stack = answer.stack.text

    def _ask_data(self, worker: int, sequence: int, start: int, length: int) -> bytes:
        """See `AskData`."""
        ask = wire_pb2.DataAsk(sequence=sequence, start=start, length=length)
        answer = self._ask(worker, wire_pb2.CoordinatorMessage(data=ask), "data")
        return b"" if answer is None else answer.data.data

    def _ask(self, index: int, ask: wire_pb2.CoordinatorMessage, what: str) -> wire_pb2.WorkerMessage | None:
        """The worker's answer, or None if it does not come soon. Whatever else it says is of no use any more."""
        worker = self._workers[index]
        worker.send(ask)
        until = time.monotonic() + STACK_S_MAX
        with selectors.DefaultSelector() as selector, contextlib.suppress(ProtocolError):
            selector.register(worker.socket, selectors.EVENT_READ)
            while not worker.closed:
                selector.modify(
                    worker.socket, selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.unsent else 0)
                )
                if not selector.select(max(until - time.monotonic(), 0)):
                    break
                worker.flush()
                for message in worker.receive():
                    if not isinstance(message, bytearray) and message.WhichOneof("body") == what:
                        return message
        return None

    def _kill(self) -> None:
        for worker in self._workers:
            worker.kill()

    def _end(self) -> None:
        if self._conductor.done:
            for worker in self._workers:
                worker.socket.close()
            until = time.monotonic() + LET_GO_S_MAX
            for worker in self._workers:
                worker.let_go(max(until - time.monotonic(), 0))
        else:
            self._kill()


@contextlib.contextmanager
def _lifeline() -> Iterator[int]:
    """The reading end of a pipe that hangs up when this process ends, however it ends."""
    reader, writer = os.pipe()
    try:
        yield reader
    finally:
        os.close(reader)
        os.close(writer)


class Interruption:
    """A signal that asks the run to end."""

    def __init__(self) -> None:
        #: The signal's name once it has come.
        self.name = ""
        #: Readable when it has come; -1 where signals are not ours to handle.
        self.fd = -1


@contextlib.contextmanager
def _interruptions() -> Iterator[Interruption]:
    """Turn SIGINT and SIGTERM into an end of the run that keeps the tape whole; in the main thread alone."""
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return

    def handle(number: int, _frame: object) -> None:
        interruption.name = signal.Signals(number).name

    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    interruption.fd = reader
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield interruption
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)
