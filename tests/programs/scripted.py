"""Programs made of data: a script is a list of acts, and `run_async` and `run_blocking` do what the acts say.

What the program sees is gathered in one list, in the order in which it sees it: the order in which tasks went on is in
it as well. It is returned, and its digest is logged whatever happens, so that a program that fails is compared too.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from xxhash import xxh3_64_hexdigest

import ringtape
from ringtape import InvalidRequest

BLOCK = 4096
# Blocks of each disk that belong to one worker, or in the shared programs to all of them.
REGION_BLOCKS = 32

Act = tuple[Any, ...]
Script = list[Act]

REFUSALS: dict[str, Callable[[int], tuple[int, int]]] = {
    "offset": lambda size: (100, BLOCK),
    "length": lambda size: (0, BLOCK + 1),
    "end": lambda size: (size, BLOCK),
    "over": lambda size: (size - BLOCK, 2 * BLOCK),
    "negative": lambda size: (-BLOCK, BLOCK),
    "nothing": lambda size: (0, 0),
    "endless": lambda size: (0, 1 << 40),
}


class Broken(Exception):
    """What a script raises."""


def broken() -> None:
    """A call to the outside that fails."""
    raise Broken(str(time.time_ns()))


OUTSIDE: dict[str, Callable[[], Any]] = {
    "pid": os.getpid,
    "clock": time.time_ns,
    "random": lambda: os.urandom(4).hex(),
    "raises": broken,
}


class Seen:
    """What the program has seen so far."""

    def __init__(self, io: ringtape.Worker | ringtape.BlockingWorker, *, shared: bool) -> None:
        self.io = io
        self.list: list[Any] = []
        self.base = 0 if shared else io.index * REGION_BLOCKS * BLOCK

    def add(self, *what: Any) -> None:
        self.list.append(what)

    def offset(self, block: int) -> int:
        return self.base + block * BLOCK

    def data(self, data: bytes | bytearray | mmap.mmap, count: int) -> None:
        self.add("data", count, xxh3_64_hexdigest(bytes(data[:count])))

    def do_at_once(self, act: Act) -> bool:
        """What both faces do in the same way; False for anything else."""
        io = self.io
        match act:
            case ("random",):
                self.add(io.random.random())
            case ("now",):
                self.add(io.now_ns())
            case ("capture", what):
                try:
                    self.add(io.capture(OUTSIDE[what]))
                except Broken as error:
                    self.add("caught", str(error))
            case ("log", number):
                io.log(f"line {number} after {len(self.list)}")
            case ("spin_now", ns):
                until = io.now_ns() + ns
                while io.now_ns() < until:
                    pass
                self.add("spun", io.now_ns())
            case ("raise", number):
                raise Broken(f"{number} after {len(self.list)}")
            case _:
                return False
        return True

    def end(self) -> None:
        self.io.log(f"saw {len(self.list)}: {xxh3_64_hexdigest(repr(self.list).encode())}")


def memory(length: int, *, aligned: bool) -> Any:
    """A buffer to read into; one that is not aligned starts at an odd address."""
    return mmap.mmap(-1, length) if aligned else memoryview(bytearray(length + 64))[33 : 33 + length]


def run_blocking_shared(io: ringtape.BlockingWorker) -> list[Any]:
    return run_blocking(io, shared=True)


def run_blocking(io: ringtape.BlockingWorker, *, shared: bool = False) -> list[Any]:
    seen = Seen(io, shared=shared)
    try:
        for act in io.arguments[io.index]:
            _do_blocking(seen, io, act)
    finally:
        seen.end()
    return seen.list


def _do_blocking(seen: Seen, io: ringtape.BlockingWorker, act: Act) -> None:
    if seen.do_at_once(act):
        return
    match act:
        case ("read", disk, block, count):
            seen.data(data := io.disks[disk].read(seen.offset(block), count * BLOCK), len(data))
        case ("read_into", disk, block, count, aligned):
            buffer = memory(count * BLOCK, aligned=aligned)
            seen.data(buffer, io.disks[disk].read_into(seen.offset(block), buffer))
        case ("write", disk, block, count, value, fua):
            data = bytes([value]) * (count * BLOCK)
            seen.add("wrote", io.disks[disk].write(seen.offset(block), data, fua=fua))
        case ("write_zeroes", disk, block, count):
            io.disks[disk].write_zeroes(seen.offset(block), count * BLOCK)
        case ("discard", disk, block, count):
            io.disks[disk].discard(seen.offset(block), count * BLOCK)
        case ("fsync", disk, data_only):
            io.disks[disk].fsync(data_only=data_only)
        case ("refused", disk, how):
            try:
                io.disks[disk].read(*REFUSALS[how](io.disks[disk].size))
            except InvalidRequest as error:
                seen.add("refused", str(error))
        case ("send", to, value, size):
            io.send(to % io.worker_count, bytes([value]) * size)
        case ("receive", _):
            seen.add("received", *short(io.receive()))
        case ("barrier", name, _):
            io.barrier(str(name))
            seen.add("passed", name)
        case ("sleep", ns):
            io.sleep(ns / 1e9)
        case ("checkpoint",):
            io.checkpoint()
            seen.add(io.now_ns())
        case _:
            raise AssertionError(act)


def short(message: ringtape.Message) -> tuple[int, int, str]:
    return message.sender, len(message.payload), xxh3_64_hexdigest(message.payload)


async def run_async_shared(io: ringtape.Worker) -> list[Any]:
    return await run_async(io, shared=True)


async def run_async(io: ringtape.Worker, *, shared: bool = False) -> list[Any]:
    program = _Async(io, shared=shared)
    # Called when a failed task is dropped: the moment depends on when garbage is collected.
    asyncio.get_running_loop().set_exception_handler(lambda _, context: io.log(str(context.get("exception"))))
    try:
        await program.script(io.arguments[io.index])
    finally:
        program.seen.end()
    return program.seen.list


class _Async:
    def __init__(self, io: ringtape.Worker, *, shared: bool) -> None:
        self.io = io
        self.seen = Seen(io, shared=shared)
        self.queues: list[asyncio.Queue[int]] = [asyncio.Queue(1), asyncio.Queue()]
        self.locks = [asyncio.Lock(), asyncio.Lock()]
        self.left: list[Any] = []

    async def script(self, script: Script) -> int:
        for act in script:
            if not (self.seen.do_at_once(act) or await self.request(act) or await self.waiting(act)):
                await self.tasks(act)
        return len(self.seen.list)

    async def request(self, act: Act) -> bool:
        seen, disks = self.seen, self.io.disks
        match act:
            case ("read", disk, block, count):
                seen.data(data := await disks[disk].read(seen.offset(block), count * BLOCK), len(data))
            case ("read_into", disk, block, count, aligned):
                buffer = memory(count * BLOCK, aligned=aligned)
                seen.data(buffer, await disks[disk].read_into(seen.offset(block), buffer))
            case ("write", disk, block, count, value, fua):
                data = bytes([value]) * (count * BLOCK)
                seen.add("wrote", await disks[disk].write(seen.offset(block), data, fua=fua))
            case ("write_zeroes", disk, block, count):
                await disks[disk].write_zeroes(seen.offset(block), count * BLOCK)
            case ("discard", disk, block, count):
                await disks[disk].discard(seen.offset(block), count * BLOCK)
            case ("fsync", disk, data_only):
                await disks[disk].fsync(data_only=data_only)
            case ("refused", disk, how):
                try:
                    await disks[disk].read(*REFUSALS[how](disks[disk].size))
                except InvalidRequest as error:
                    seen.add("refused", str(error))
            case _:
                return False
        seen.add("done", *act[:3])
        return True

    async def waiting(self, act: Act) -> bool:
        seen, loop = self.seen, asyncio.get_running_loop()
        match act:
            case ("sleep", ns):
                await asyncio.sleep(ns / 1e9)
            case ("time",):
                seen.add(loop.time())
            case ("checkpoint",):
                await self.io.checkpoint()
            case ("spin", turns):
                for _ in range(turns):
                    await asyncio.sleep(0)
            case ("spin_time", ns):
                until = loop.time() + ns / 1e9
                while loop.time() < until:
                    pass
                seen.add("spun", loop.time())
            case ("put", queue, value, ns):
                try:
                    await asyncio.wait_for(self.queues[queue].put(value), ns and ns / 1e9)
                except TimeoutError:
                    seen.add("full")
            case ("get", queue, ns):
                try:
                    seen.add("got", await asyncio.wait_for(self.queues[queue].get(), ns and ns / 1e9))
                except TimeoutError:
                    seen.add("empty")
            case ("send", to, value, size):
                await self.io.send(to % self.io.worker_count, bytes([value]) * size)
            case ("receive", ns):
                try:
                    message = await asyncio.wait_for(self.io.receive(), ns and ns / 1e9)
                except TimeoutError:
                    seen.add("no message")
                else:
                    seen.add("received", *short(message))
            case ("barrier", name, ns):
                try:
                    await asyncio.wait_for(self.io.barrier(str(name)), ns and ns / 1e9)
                except TimeoutError:
                    seen.add("not all", name)
                else:
                    seen.add("passed", name)
            case ("lock", lock, script):
                async with self.locks[lock]:
                    await self.script(script)
            case _:
                return False
        return True

    async def tasks(self, act: Act) -> None:
        seen = self.seen
        match act:
            case ("timeout", ns, script):
                try:
                    async with asyncio.timeout(ns / 1e9):
                        await self.script(script)
                except TimeoutError:
                    seen.add("timeout")
            case ("gather", scripts, keep):
                ends = await asyncio.gather(*map(self.script, scripts), return_exceptions=keep)
                seen.add("gathered", [repr(end) for end in ends])
            case ("group", scripts):
                try:
                    async with asyncio.TaskGroup() as group:
                        for script in scripts:
                            group.create_task(self.stubborn(script))
                except* Broken as errors:
                    seen.add("group", repr(errors.exceptions))
            case ("wait", scripts):
                done, left = await asyncio.wait(
                    [asyncio.create_task(self.stubborn(script)) for script in scripts],
                    return_when=asyncio.FIRST_COMPLETED,
                )
                seen.add("first", [repr(task.exception()) for task in done])
                for task in left:
                    task.cancel()
            case ("completed", scripts):
                for end in asyncio.as_completed([self.script(script) for script in scripts]):
                    try:
                        seen.add("completed", await end)
                    except Broken as error:
                        seen.add("caught", str(error))
            case ("spawn", script):
                self.left.append(asyncio.create_task(self.stubborn(script)))
            case ("cancel", ns, script):
                task = asyncio.create_task(self.stubborn(script))
                await asyncio.sleep(ns / 1e9)
                task.cancel()
                await asyncio.wait([task])
            case ("generator", script, cycle):
                generator = self.generator(script)
                await anext(generator)
                keep: list[Any] = [generator]
                if cycle:
                    keep.append(keep)  # only a collection finds it
                else:
                    self.left.append(generator)
            case _:
                raise AssertionError(act)

    async def stubborn(self, script: Script) -> None:
        try:
            await self.script(script)
        except asyncio.CancelledError:
            self.seen.add("cancelled")
            if script:
                await self.request(script[0])
            raise

    async def generator(self, script: Script) -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            self.seen.add("closing")
            await self.script(script)
