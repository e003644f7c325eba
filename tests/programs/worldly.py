"""Programs for each part of the world that a worker's program is given, and for ways around it."""

from __future__ import annotations

import asyncio
import datetime
import functools
import gc
import os
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import ringtape

BLOCK = 4096


# --- what is captured -------------------------------------------------------------------------------------------------


class Problem(Exception):
    """An exception with more to it than a text."""

    def __init__(self, number: int) -> None:
        super().__init__(f"problem {number}")
        self.number = number

    def __reduce__(self) -> Any:
        return Problem, (self.number,)


def raises_problem() -> None:
    raise Problem(time.time_ns())


def echo(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
    return args, kwargs, time.time_ns()


async def asynchronous() -> None:
    """Cannot be captured."""


def uses_io(io: ringtape.BlockingWorker, what: str) -> Any:
    match what:
        case "capture":
            return io.capture(os.getpid)
        case "log":
            return io.log("inside")
        case "read":
            return io.disks[0].read(0, BLOCK)
        case "checkpoint":
            return io.checkpoint()
        case "sleep":
            return io.sleep(0.001)
    raise AssertionError(what)


def kept(io: ringtape.BlockingWorker) -> Iterator[Any]:
    """What captured calls give; each an own object, equal in the recording and the replay."""
    yield io.capture(os.getpid)
    yield io.capture(time.time_ns)
    yield io.capture(echo, 1, two=2)[:2]
    yield io.capture(functools.partial(echo, 1), 2)[:2]
    yield io.capture(datetime.datetime.now)
    shared = [1]
    copy = io.capture(lambda: shared)
    yield copy, copy is shared


def refused(io: ringtape.BlockingWorker) -> Iterator[Any]:
    """What captured calls raise."""
    calls: list[Any] = [raises_problem, sys.exit, lambda: threading.Lock(), asynchronous, 5]
    calls += [
        functools.partial(uses_io, io, what) for what in ("capture", "log", "read", "checkpoint", "sleep")
    ]
    for call in calls:
        try:
            yield "returned", io.capture(call)
        except BaseException as error:
            yield type(error).__name__, str(error), getattr(error, "number", None)


def captures(io: ringtape.BlockingWorker) -> list[Any]:
    seen = [*kept(io), *refused(io)]
    io.disks[0].read(0, BLOCK)  # io is as it was
    return seen


# --- the clock --------------------------------------------------------------------------------------------------------


def blocking_clock(io: ringtape.BlockingWorker) -> list[Any]:
    """Clock readings between which the program does all that moves the clock, and what does not."""
    readings: list[Any] = [io.now_ns(), io.now_ns()]
    io.disks[0].read(0, BLOCK)
    readings.append(io.now_ns())
    io.checkpoint()
    readings.append(io.now_ns())
    io.sleep(0.01)
    readings.append(io.now_ns())
    readings.append(io.capture(time.monotonic_ns))
    io.checkpoint()  # the sleep counts from after the capture, however long that took
    io.sleep(0.25)
    readings.append(io.now_ns())
    readings.append(io.capture(time.monotonic_ns))
    return readings


async def async_clock(io: ringtape.Worker) -> list[Any]:
    loop = asyncio.get_running_loop()
    readings: list[Any] = [loop.time(), loop.time()]
    await io.disks[0].read(0, BLOCK)
    readings.append(loop.time())
    await io.checkpoint()
    readings.append(loop.time())
    await asyncio.sleep(0.25)
    readings.append(loop.time())
    return readings


def sleeps(io: ringtape.BlockingWorker) -> int:
    """Sleeps for ten hours; how long it took."""
    start = io.now_ns()
    for _ in range(10):
        io.sleep(3600)
    return io.now_ns() - start


async def spins(io: ringtape.Worker) -> list[float]:
    """Waits for time to pass in every way in which it can be waited for without waiting."""
    loop = asyncio.get_running_loop()
    seen = []
    until = io.now() + 0.002
    while io.now() < until:
        pass
    seen.append(io.now())
    until = loop.time() + 0.002
    while loop.time() < until:
        await asyncio.sleep(0)
    seen.append(loop.time())
    read = asyncio.create_task(io.disks[0].read(0, BLOCK))
    turns = 0
    while not read.done():
        await asyncio.sleep(0)
        turns += 1
    seen.append(turns)
    return seen


# --- chance and order -------------------------------------------------------------------------------------------------


async def naps(io: ringtape.Worker) -> list[Any]:
    """Naps that are over before they are waited for, beside a read; whether it came back, and how many there were."""
    await io.disks[0].write(0, b"1" * BLOCK)
    reading = asyncio.ensure_future(io.disks[0].read(0, BLOCK))
    count = 0
    while not reading.done() and count < 20_000:
        await asyncio.sleep(1e-7)
        count += 1
    done = reading.done()
    await reading
    return [done, count]


def chance(io: ringtape.BlockingWorker) -> Any:
    """Random numbers, and what Python's string hashes make of a set."""
    names = [f"name {number}" for number in range(50)]
    return [io.random.random() for _ in range(3)], list(set(names)), os.environ["PYTHONHASHSEED"]


async def sets_of_tasks(io: ringtape.Worker) -> list[Any]:
    """The orders that asyncio's sets of tasks and futures come in."""
    disk = io.disks[0]
    seen: list[Any] = []

    async def read(block: int) -> int:
        await disk.read(block * BLOCK, BLOCK)
        await asyncio.sleep(0.0005 * io.random.random())
        return block

    for round_ in range(10):
        tasks = {asyncio.create_task(read(block), name=f"{round_}/{block}") for block in range(16)}
        while tasks:
            done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            seen.append([task.get_name() for task in done])
        groups = [asyncio.gather(read(block), read(block + 1)) for block in range(0, 16, 2)]
        done, _ = await asyncio.wait(groups)
        seen.append([groups.index(group) for group in done])  # type: ignore[arg-type]
        for first in asyncio.as_completed([read(block) for block in range(16)]):
            seen.append(await first)
    return seen


async def group_of_50(io: ringtape.Worker) -> list[Any]:
    """One of fifty fails; the others are cancelled in the order of a set, and say so on the disk."""
    disk = io.disks[0]
    seen: list[Any] = []

    async def member(number: int) -> None:
        try:
            await disk.read(number % 16 * BLOCK, BLOCK)
            if number == 17:
                raise Problem(number)
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append(number)
            await disk.write(number % 16 * BLOCK, bytes([number]) * BLOCK)
            raise

    try:
        async with asyncio.TaskGroup() as group:
            for number in range(50):
                group.create_task(member(number))
    except* Problem as errors:
        seen.append(str(errors.exceptions))
    return seen


async def garbage(io: ringtape.Worker) -> list[Any]:
    """What garbage says when it is collected: when, and in which order, must be the program's doing alone."""
    disk = io.disks[0]
    seen: list[Any] = []

    class Cycle:
        def __init__(self, number: int) -> None:
            self.number, self.me = number, self

        def __del__(self) -> None:
            seen.append(self.number)
            io.log(f"collected {self.number}")

    async def generator(number: int) -> AsyncIterator[int]:
        try:
            yield number
        finally:
            seen.append(-number)
            await disk.write(number % 16 * BLOCK, bytes([number % 256]) * BLOCK)

    async def make(first: int) -> None:
        for number in range(first, first + 200):
            Cycle(number)
            weakref.finalize(Cycle(-1), seen.append, f"reference to {number}")
            left: list[Any] = [generator(number)]
            left.append(left)
            await anext(left[0])
            await disk.read(number % 16 * BLOCK, BLOCK)

    await asyncio.gather(*[make(1000 * task) for task in range(3)])
    return seen


async def clean(io: ringtape.Worker) -> int:
    """How much garbage a program that makes none is left with after many checkpoints: ringtape's own."""
    await asyncio.gather(*[io.disks[0].read(block % 16 * BLOCK, BLOCK) for block in range(64)])
    gc.collect()
    for _ in range(20):
        await io.disks[0].read(0, BLOCK)
        await asyncio.sleep(0)
        await io.checkpoint()
        io.capture(os.getpid)
    return gc.collect()


async def generators_left_open(io: ringtape.Worker) -> list[int]:
    disk = io.disks[0]

    async def generator(number: int) -> AsyncIterator[int]:
        try:
            while True:
                yield number
        finally:
            io.log(f"closing {number}")
            await disk.write(number % 16 * BLOCK, bytes([number]) * BLOCK)

    open_ = [generator(number) for number in range(40)]
    io.random.shuffle(open_)
    seen = [await anext(one) for one in open_]
    _left.extend(open_)
    return seen


_left: list[Any] = []


async def tasks_left_running(io: ringtape.Worker) -> str:
    """They are cancelled when the program returns; some take it badly."""
    disk = io.disks[0]

    async def task(number: int) -> None:
        for lap in range(1000):
            try:
                await disk.read(number * BLOCK, BLOCK)
                await asyncio.sleep(0.0001 * number)
            except asyncio.CancelledError:
                io.log(f"cancelled {number} in lap {lap}")
                await disk.write(number * BLOCK, bytes([number]) * BLOCK)
                if number % 3 == 0:
                    raise Problem(number) from None
                if number % 3 == 1:
                    raise
                return

    _left.extend(asyncio.create_task(task(number)) for number in range(16))
    await asyncio.sleep(0.003)
    return "done"


async def requests_in_flight(io: ringtape.Worker) -> str:
    """Returns while its requests are on their way."""
    _left.extend(
        asyncio.create_task(io.disks[0].write(number % 16 * BLOCK, bytes([number]) * BLOCK))
        for number in range(200)
    )
    await asyncio.sleep(0)
    return "done"


async def catches_cancellation(io: ringtape.Worker) -> list[Any]:
    disk = io.disks[0]
    seen = []

    async def task(number: int) -> int:
        for lap in range(5):
            try:
                await disk.read(number * BLOCK, BLOCK)
                await asyncio.sleep(0.002)
            except asyncio.CancelledError:
                seen.append((number, lap))
        return number

    tasks = [asyncio.create_task(task(number)) for number in range(10)]
    for _ in range(3):
        await asyncio.sleep(0.001)
        for one in tasks:
            one.cancel()
    seen.append(await asyncio.gather(*tasks, return_exceptions=True))
    return seen


# --- ways to the outside that the tape does not see -------------------------------------------------------------------


async def unrecorded(io: ringtape.Worker) -> list[Any]:
    """The message of each."""
    loop = asyncio.get_running_loop()

    async def threads() -> None:
        await asyncio.to_thread(os.getpid)

    async def executor() -> None:
        await loop.run_in_executor(None, os.getpid)

    async def name() -> None:
        await loop.getaddrinfo("localhost", 80)

    async def connection() -> None:
        await asyncio.open_connection("127.0.0.1", 9)

    async def server() -> None:
        await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)

    async def reader() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            loop.add_reader(ours, print)

    async def receive() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            await loop.sock_recv(ours, 1)

    async def process() -> None:
        await asyncio.create_subprocess_exec("true")

    async def shell() -> None:
        await asyncio.create_subprocess_shell("true")

    async def pipe() -> None:
        await loop.connect_read_pipe(asyncio.Protocol, sys.stdin)

    async def signals() -> None:
        loop.add_signal_handler(15, print)

    async def io_in_a_thread() -> None:
        raised: list[BaseException] = []

        def run() -> None:
            try:
                io.log("from a thread")
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        raise raised[0]

    seen = []
    ways = (
        *(threads, executor, name, connection, server, reader, receive),
        *(process, shell, pipe, signals, io_in_a_thread),
    )
    for way in ways:
        try:
            await way()
            seen.append((way.__name__, "nothing", ""))
        except Exception as error:
            seen.append((way.__name__, type(error).__name__, str(error)))
    return seen


def threads_use_disks(io: ringtape.BlockingWorker) -> list[str]:
    seen: list[str] = []

    def run() -> None:
        try:
            io.disks[0].write(0, bytes(BLOCK))
        except Exception as error:
            seen.append(f"{type(error).__name__}: {error}")

    for _ in range(3):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    io.disks[0].read(0, BLOCK)
    return seen


def starts_a_run(io: ringtape.BlockingWorker) -> None:
    ringtape.run(chance)


# --- how programs end -------------------------------------------------------------------------------------------------


class Untold(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Unshown:
    def __repr__(self) -> str:
        raise RuntimeError("no text")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unshown)

    __hash__ = None  # type: ignore[assignment]


def ends(io: ringtape.BlockingWorker) -> Any:
    match io.arguments:
        case "text":
            raise ValueError("half a pair: \udcff")
        case "no text":
            raise Untold
        case "no repr":
            return Unshown()
        case "exit":
            sys.exit(3)
        case "interrupt":
            raise KeyboardInterrupt("by hand")
        case "stop":
            raise StopIteration
        case "generator":
            raise GeneratorExit
        case "group":
            raise ExceptionGroup("two", [ValueError(1), KeyError(2)])
        case "lambda":
            return lambda: None
        case "request":
            io.disks[0].read(1, BLOCK)
        case "disk":
            io.disk("none")
        case "recursion":
            return ends_deep(io, 0)
        case "child":
            return subprocess.run(["true"], check=True).returncode
    return None


def ends_deep(io: ringtape.BlockingWorker, depth: int) -> int:
    return ends_deep(io, depth + 1)


def fails_in_the_kernel(io: ringtape.BlockingWorker) -> list[Any]:
    """A limit on the size of files makes a write fail that the disk would take."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (8 * BLOCK, 8 * BLOCK))
    disk, seen = io.disks[0], []
    disk.fsync()
    for block in (0, 9):
        try:
            seen.append(disk.write(block * BLOCK, bytes(BLOCK)))
        except OSError as error:
            seen.append((type(error).__name__, error.errno, error.request_id, str(error)))  # type: ignore[attr-defined]
    return seen


# --- how programs are named -------------------------------------------------------------------------------------------


class Caller:
    """A program that is an object."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self, io: ringtape.BlockingWorker) -> int:
        return self.number + len(io.disks[0].read(0, BLOCK))


class AsyncCaller(Caller):
    async def __call__(self, io: ringtape.Worker) -> int:  # type: ignore[override]
        return self.number + len(await io.disks[0].read(0, BLOCK))


def with_number(number: int, io: ringtape.BlockingWorker) -> int:
    return number + len(io.disks[0].read(0, BLOCK))


class Holder:
    @staticmethod
    def main(io: ringtape.BlockingWorker) -> int:
        return len(io.disks[0].read(0, BLOCK))
