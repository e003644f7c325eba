"""A worker process from its start to its end.

It is started with the descriptor of its end of the link and lives as long as the coordinator does and no longer.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import inspect
import os
import pickle
import select
import signal
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from xxhash import xxh3_128_digest

from ringtape.engine import loop, own_path, program, stacks
from ringtape.engine.clock import Clock
from ringtape.engine.faces import AsyncDisk, BlockingDisk, BlockingWorker, UnknownDisk, Worker
from ringtape.engine.gate import CoordinatedGate, PlainGate
from ringtape.engine.link import Link
from ringtape.engine.mail import AsyncMail, BlockingMail
from ringtape.engine.offline import OfflineQueue
from ringtape.engine.outbox import NoOutbox, Outbox
from ringtape.engine.requests import InvalidRequest
from ringtape.engine.sent import SentContents
from ringtape.engine.watched import Watched
from ringtape.proto import messages_pb2, wire_pb2
from ringtape.proto.errors import DiskError, ProgramError, RingtapeError, RingUnavailable, Stalled
from ringtape.proto.framing import FramingError

if TYPE_CHECKING:
    from ringtape.engine.debugger import Debugger
    from ringtape.engine.queue import RequestQueue

_PR_SET_PDEATHSIG = 1
_F_SETSIG = 10
_SUMMARY_CHARACTERS_MAX = 1000


def main(path: list[str]) -> NoReturn:
    """Run one worker; the process's entry. `path` is where ringtape and what it needs are found."""
    own_path.entries[:] = path
    # Ctrl-C goes to the whole foreground group: the coordinator decides what becomes of the run.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with_the_coordinator(int(sys.argv[2]))
    link = Link(socket.socket(fileno=int(sys.argv[1])))
    sys.argv[:] = ["ringtape-worker"]
    message = link.receive_one()
    try:
        _work(link, message.start)
    except FramingError as error:
        _refuse(link, wire_pb2.Refusal.REASON_PROTOCOL, error)
    except ProgramError as error:
        _refuse(link, wire_pb2.Refusal.REASON_PROGRAM, error)
    except RingUnavailable as error:
        _refuse(link, wire_pb2.Refusal.REASON_RING, error)
    except DiskError as error:
        _refuse(link, wire_pb2.Refusal.REASON_DISK, error)


def _die_with_the_coordinator(lifeline: int) -> None:
    """The end of file on the link ends a worker that waits; this one that computes, and what its program has started.

    The lifeline is a pipe that hangs up when the coordinator ends. The kernel is told to kill this process group then.
    Should another process hold the pipe's other end (the coordinator forked), there is still the signal that the
    kernel sends for the death of a parent. It must not kill this process alone: it may come before the pipe hangs up.
    """
    signal.signal(signal.SIGHUP, _kill_group)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGHUP)
    # Opened anew: whom to kill is kept with the open file, and the one inherited is every worker's.
    own = os.open(f"/proc/self/fd/{lifeline}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    os.close(lifeline)
    fcntl.fcntl(own, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(own, _F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(own, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    if select.select([own], [], [], 0)[0]:  # it has ended before it could be told
        os._exit(1)


def _kill_group(_number: int, _frame: object) -> None:
    os.killpg(0, signal.SIGKILL)


def _work(link: Link, start: wire_pb2.Start) -> NoReturn:
    clock = Clock()
    clock.started_at_ns = start.started_at_ns
    digests = start.data >= messages_pb2.DATA_LEVEL_DIGEST and not start.plain
    outbox = _outbox(link, start, digests=digests)
    queue: RequestQueue | OfflineQueue
    if start.offline:
        queue, ring = OfflineQueue(link.fd, outbox, digests=digests), "none"
    else:
        with own_path.looked_at():
            from ringtape.engine.opening import queue_on_a_ring

        queue, ring = queue_on_a_ring(link, start, outbox, digests=digests)
    if start.watched:
        queue.watched = Watched(link, start.watched)
    if start.breaks:
        queue.debugger = _debugger(link, start)
    loop.pin_asyncio()
    function = program.load(start.program, start.main_file)
    asynchronous = _is_asynchronous(function)
    stack = stacks.task_stack if asynchronous else stacks.thread_stack
    mail = AsyncMail() if asynchronous else BlockingMail()
    gate: CoordinatedGate | PlainGate
    if start.plain:
        gate = PlainGate(link, queue, clock, mail)
    elif start.disturbance.checkpoint_delay_ns_max:
        from ringtape.engine.disturbance import SlowedGate

        gate = SlowedGate(start.disturbance, link, queue, outbox, clock, stack, mail)
    elif start.leased and start.replay:
        from ringtape.engine.ahead import AheadGate

        gate = AheadGate(link, queue, outbox, clock, stack, mail)
    elif start.leased:
        from ringtape.engine.lease import LeasedGate

        gate = LeasedGate(link, queue, outbox, clock, stack, mail, only_worker=start.workers == 1)
    else:
        gate = CoordinatedGate(link, queue, outbox, clock, stack, mail)
    if queue.debugger is not None and isinstance(gate, CoordinatedGate):
        queue.debugger.flush = gate.flush
    world = {
        "index": start.worker,
        "worker_count": start.workers,
        "arguments": program.unpickle_arguments(start.arguments),
        "seed": start.seed,
    }
    used = [(index, disk) for index, disk in enumerate(start.disks) if disk.used]
    others = [disk.name for disk in start.disks if not disk.used]
    io: Worker | BlockingWorker
    if asynchronous:
        io = Worker(gate, [AsyncDisk(gate, i, disk) for i, disk in used], others, **world)
    else:
        io = BlockingWorker(gate, [BlockingDisk(gate, i, disk) for i, disk in used], others, **world)
    link.send(wire_pb2.WorkerMessage(ready=wire_pb2.Ready(ring=ring)))
    gate.start()
    outcome, pickled = _run(function, io, gate, asynchronous=asynchronous)
    sys.stdout.flush()
    sys.stderr.flush()
    gate.finish(outcome, pickled)


def _debugger(link: Link, start: wire_pb2.Start) -> Debugger:
    with own_path.looked_at():
        from ringtape.engine.debugger import Debugger
    return Debugger(link, start.breaks, start.debugger_lock)


def _outbox(link: Link, start: wire_pb2.Start, *, digests: bool) -> Outbox:
    if start.plain:
        return NoOutbox()
    if start.leased and start.replay:
        from ringtape.engine.ahead import HeldOutbox

        return HeldOutbox(digests=digests)
    return Outbox(digests=digests, contents=_contents_of(link, start))


def _contents_of(link: Link, start: wire_pb2.Start) -> SentContents | None:
    if start.data != messages_pb2.DATA_LEVEL_FULL or start.plain:
        return None
    return SentContents(lambda batch: link.send(wire_pb2.WorkerMessage(batch=batch)), link.send_data)


def _is_asynchronous(function: Callable[..., Any]) -> bool:
    called = function
    while isinstance(called, functools.partial):
        called = called.func
    return inspect.iscoroutinefunction(called) or inspect.iscoroutinefunction(type(called).__call__)


def _run(
    function: Callable[..., Any], io: Any, gate: CoordinatedGate | PlainGate, *, asynchronous: bool
) -> tuple[messages_pb2.Outcome, bytes]:
    """Run the program; its outcome, and the pickle of what it returned."""
    try:
        return _returned(loop.run(function(io), gate) if asynchronous else function(io))
    except FramingError:
        raise
    except (
        BaseException
    ) as error:  # whatever a program raises is its outcome, SystemExit and CancelledError included
        return _raised(error), b""


def _returned(value: object) -> tuple[messages_pb2.Outcome, bytes]:
    try:
        pickled = pickle.dumps(value, protocol=5)
    except Exception as error:
        text = f"what the program returned ({type(value).__name__}) cannot be pickled: {error}"
        raise TypeError(text) from error
    try:
        summary = _encodable(repr(value))
    except Exception:  # a summary is for people alone
        summary = f"<{type(value).__name__}>"
    if len(summary) > _SUMMARY_CHARACTERS_MAX:
        summary = summary[:_SUMMARY_CHARACTERS_MAX] + "…"
    outcome = messages_pb2.Outcome(
        digest=xxh3_128_digest(pickled), pickled_bytes=len(pickled), summary=summary
    )
    return outcome, pickled


def _raised(error: BaseException) -> messages_pb2.Outcome:
    kind = type(error)
    return messages_pb2.Outcome(
        raised=True,
        exception=_name_of(kind),
        text=_text_of(error),
        traceback=_encodable(stacks.program_traceback(error)),
        refused=isinstance(error, InvalidRequest | UnknownDisk | RingtapeError | program.StartedInWorker),
        where=_encodable(stacks.where(error)),
        stalled=isinstance(error, Stalled),
    )


def _name_of(kind: type[BaseException]) -> str:
    """As a program would write it: builtins bare, ringtape's own from where they are imported."""
    module = "ringtape" if kind.__module__.startswith("ringtape.") else kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def _text_of(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception as failure:
        return f"(its text cannot be had: str() of it raised {type(failure).__name__})"
    return _encodable(text)


def _encodable(text: str) -> str:
    """Text that a message can hold: half a surrogate pair, from a file name that is not UTF-8, say, is escaped."""
    return text.encode(errors="backslashreplace").decode()


def _refuse(link: Link, reason: wire_pb2.Refusal.Reason, error: RingtapeError) -> NoReturn:
    message = wire_pb2.WorkerMessage()
    message.refusal.reason = reason
    message.refusal.text = str(error)
    link.send(message)
    link.finished = True
    while True:
        link.receive_one()
