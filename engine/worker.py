"""A worker process from its start to its end.

It is started with the descriptor of its end of the link and lives as long as the coordinator does and no longer.
"""

from __future__ import annotations

import ctypes
import functools
import inspect
import pickle
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from xxhash import xxh3_128_digest

from ringtape.engine import loop, program, stacks
from ringtape.engine.buffers import Buffers
from ringtape.engine.clock import Clock
from ringtape.engine.disks import open_disk
from ringtape.engine.faces import AsyncDisk, BlockingDisk, BlockingWorker, UnknownDisk, Worker
from ringtape.engine.gate import CoordinatedGate, PlainGate
from ringtape.engine.link import Link
from ringtape.engine.outbox import NoOutbox, Outbox
from ringtape.engine.queue import RequestQueue
from ringtape.engine.requests import InvalidRequest
from ringtape.engine.ring import Ring
from ringtape.proto import messages_pb2, wire_pb2
from ringtape.proto.errors import DiskError, ProgramError, RingtapeError, RingUnavailable, Stalled
from ringtape.proto.framing import FramingError

_PR_SET_PDEATHSIG = 1
_SUMMARY_CHARACTERS_MAX = 1000


def main() -> NoReturn:
    """Run one worker; the process's entry."""
    # Ctrl-C goes to the whole foreground group: the coordinator decides what becomes of the run.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The end of file on the link ends a worker that waits; this ends one that computes.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
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


def _work(link: Link, start: wire_pb2.Start) -> NoReturn:
    clock = Clock()
    clock.started_at_ns = start.started_at_ns
    files = [open_disk(disk.path, direct=disk.direct) for disk in start.disks]
    buffers = Buffers()
    ring = Ring(files, buffers)
    ring.watch_link(link.fd)
    digests = start.data == messages_pb2.DATA_LEVEL_DIGEST and not start.plain
    outbox = NoOutbox() if start.plain else Outbox(digests=digests)
    queue = RequestQueue(
        ring,
        buffers,
        [disk.block_device for disk in start.disks],
        outbox,
        digests=digests,
        ordered=start.overlap != "race",
    )
    function = program.load(start.program, start.main_file)
    asynchronous = _is_asynchronous(function)
    stack = stacks.task_stack if asynchronous else stacks.thread_stack
    gate: CoordinatedGate | PlainGate
    gate = (
        PlainGate(link, queue, clock) if start.plain else CoordinatedGate(link, queue, outbox, clock, stack)
    )
    world = {
        "index": start.worker,
        "worker_count": start.workers,
        "arguments": program.unpickle_arguments(start.arguments),
        "seed": start.seed,
    }
    io: Worker | BlockingWorker
    if asynchronous:
        io = Worker(gate, [AsyncDisk(gate, i, disk) for i, disk in enumerate(start.disks)], **world)
    else:
        io = BlockingWorker(
            gate, [BlockingDisk(gate, i, disk) for i, disk in enumerate(start.disks)], **world
        )
    link.send(wire_pb2.WorkerMessage(ready=wire_pb2.Ready(ring=ring.describe())))
    gate.start()
    outcome, pickled = _run(function, io, gate, asynchronous=asynchronous)
    sys.stdout.flush()
    sys.stderr.flush()
    gate.finish(outcome, pickled)


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
    except (program.StartedInWorker, FramingError):
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
    summary = repr(value)
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
        exception=kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}",
        text=str(error),
        traceback=stacks.program_traceback(error),
        refused=isinstance(error, InvalidRequest | UnknownDisk | RingtapeError),
        where=stacks.where(error),
        stalled=isinstance(error, Stalled),
    )


def _refuse(link: Link, reason: wire_pb2.Refusal.Reason, error: RingtapeError) -> NoReturn:
    message = wire_pb2.WorkerMessage()
    message.refusal.reason = reason
    message.refusal.text = str(error)
    link.send(message)
    link.finished = True
    while True:
        link.receive_one()
