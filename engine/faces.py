"""The two faces of a worker towards its program: asynchronous and blocking.

A program gets a `Worker` (`async def main(io)`) or a `BlockingWorker` (`def main(io)`) and, from `io.disk(name)`, disks
with the same five requests. What enters here is checked here and nowhere below.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import math
import operator
from asyncio import current_task
from collections.abc import Callable, Generator, Sequence
from threading import get_ident
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from ringtape.engine import mail, own_path
from ringtape.engine.gate import POLL, WAIT, Gate
from ringtape.engine.loop import RingLoop
from ringtape.engine.mail import AsyncMail, BlockingMail, Message
from ringtape.engine.requests import (
    FLAG_DATA_ONLY,
    FLAG_FUA,
    REQUEST_BYTES_MAX,
    InvalidRequest,
    Kind,
    Request,
)
from ringtape.engine.world import World
from ringtape.proto import messages_pb2, wire_pb2

if TYPE_CHECKING:  # loaded when a program first submits: it takes NumPy
    from ringtape.engine.volume import Volume


_READ = Kind.READ
# Reads that are kept to be made once more.
FREE_MAX = 512
# After so many requests it is looked at how much has gathered to be told.
LOOK_EVERY = 64


class DiskFace:
    """What both kinds of disk have: `name`, `size` and `block_size` in bytes."""

    def __init__(self, gate: Gate, index: int, disk: wire_pb2.WorkerDisk) -> None:
        self._gate = gate
        self._index = index  # among the disks of the run
        # Reads that have been released, to be made once more.
        self._free: list[Request] = []
        #: The disk's name in the run.
        self.name = disk.name
        #: Bytes; a multiple of `block_size`.
        self.size = disk.size
        #: Bytes; every offset and length is a multiple.
        self.block_size = disk.block_size

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} of {self.size} bytes>"

    def _new_read(self, offset: int, length: int) -> Request:
        """A read into memory of the queue's, not yet made."""
        free = self._free
        if free:
            request = free.pop()
            request.offset, request.length, request.completed = offset, length, False
        else:
            request = Request(_READ, self._index, offset, length)
            request.waiter = self
        return request

    def _read_into(self, offset: int, buffer: Any) -> Request:
        view = _bytes_of(buffer)
        if view.readonly:
            self._refuse(f"the buffer to read into on disk {self.name!r} is read-only")
        offset, length = self._checked(offset, len(view), REQUEST_BYTES_MAX)
        request = Request(Kind.READ, self._index, offset, length)
        request.target = view
        if ctypes.addressof(ctypes.c_char.from_buffer(view)) % self.block_size == 0:
            request.aligned = True
        return self._issue(request)

    def _write(self, offset: int, data: Any, *, fua: bool) -> Request:
        view = _bytes_of(data)
        offset, length = self._checked(offset, len(view), REQUEST_BYTES_MAX)
        return self._issue(Request(Kind.WRITE, self._index, offset, length, FLAG_FUA if fua else 0), view)

    def _change_range(self, kind: Kind, offset: int, length: int) -> Request:
        offset, length = self._checked(offset, length, self.size)
        return self._issue(Request(kind, self._index, offset, length))

    def _fsync(self, *, data_only: bool) -> Request:
        return self._issue(Request(Kind.FSYNC, self._index, 0, 0, FLAG_DATA_ONLY if data_only else 0))

    def _issue(self, request: Request, data: memoryview | None = None) -> Request:
        raise NotImplementedError

    def released(self, request: Request) -> None:
        """A token let this request through."""
        raise NotImplementedError

    def _checked(self, offset: int, length: int, length_max: int) -> tuple[int, int]:
        try:
            offset, length = operator.index(offset), operator.index(length)
        except TypeError:
            self._refuse(
                f"offset {offset!r} and length {length!r} on disk {self.name!r} must be whole numbers"
            )
        block = self.block_size
        if offset % block:
            self._refuse(f"offset {offset} on disk {self.name!r} is not a multiple of its block size {block}")
        if length % block:
            self._refuse(f"length {length} on disk {self.name!r} is not a multiple of its block size {block}")
        if length <= 0:
            self._refuse(f"length {length} on disk {self.name!r} must be at least one block of {block} bytes")
        if offset < 0 or offset + length > self.size:
            self._refuse(
                f"offset {offset} with length {length} is out of range on disk {self.name!r} of {self.size} bytes"
            )
        if length > length_max:
            self._refuse(
                f"length {length} on disk {self.name!r} is more than {length_max} bytes in one request"
            )
        return offset, length

    def _check_range(self, kind: Kind, offset: int, length: int) -> None:
        """Raise `InvalidRequest` for a range that a request of this kind may not have."""
        self._checked(offset, length, REQUEST_BYTES_MAX if kind in (Kind.READ, Kind.WRITE) else self.size)

    def _refuse(self, text: str) -> NoReturn:
        raise InvalidRequest(errno.EINVAL, text)

    def _take_value(self, request: Request) -> OSError | None:
        """Set the request's value from its result and its memory, or return its error."""
        if request.result < 0:
            return request.error(self._gate.request_id(request.sequence), self.name)
        if request.kind is _READ:
            if request.target is None:
                assert request.slot is not None
                request.value = bytes(request.slot.view[: request.result])
            else:
                if request.slot is not None:
                    request.target[: request.result] = request.slot.view[: request.result]
                request.value = request.result
        elif request.kind is Kind.WRITE:
            request.value = request.result
        return None


class AsyncDisk(DiskFace):
    """A disk of an asynchronous program. Ranges are in bytes and multiples of `block_size`.

    Every method raises `InvalidRequest` for a range that is not aligned or not on the disk, and `RequestError` (an
    `OSError` with `errno` and `request_id`) when the kernel fails the request. Cancelling the task that awaits one
    does not take the request back: it is carried out, and nobody is told.
    """

    def __init__(self, gate: Gate, index: int, disk: wire_pb2.WorkerDisk) -> None:
        super().__init__(gate, index, disk)
        self._loop: RingLoop | None = None

    def _find_loop(self) -> RingLoop:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, RingLoop)
        self._loop = loop
        return loop

    async def read(self, offset: int, length: int) -> bytes:
        """Read `length` bytes at `offset`; fewer come back only if the kernel gave fewer."""
        offset, length = self._checked(offset, length, REQUEST_BYTES_MAX)
        gate = self._gate
        if get_ident() != gate.owner.thread:
            gate.owner.refuse()
        request = self._new_read(offset, length)
        loop = self._loop or self._find_loop()
        future = request.future = loop.future_of_request()
        request.task = current_task(loop)
        gate.queue.issue_read(request)
        if not request.sequence % LOOK_EVERY:
            gate.issued()
        data: bytes = await future
        return data

    async def read_into(self, offset: int, buffer: Any) -> int:
        """Fill a writable buffer from `offset`; returns how many bytes were read.

        Memory that starts at a multiple of `block_size` (an `mmap`, say) is read into directly, without a copy; its
        contents are undefined until the call returns.
        """
        count: int = await self._read_into(offset, buffer).future
        return count

    async def write(self, offset: int, data: Any, *, fua: bool = False) -> int:
        """Write a bytes-like object at `offset`; returns how many bytes were written.

        The data is copied before the call first waits. With `fua` it is on stable storage when the call returns.
        """
        count: int = await self._write(offset, data, fua=fua).future
        return count

    async def write_zeroes(self, offset: int, length: int) -> None:
        """Make a range read back as zeros, by whatever the disk does fastest."""
        await self._change_range(Kind.WRITE_ZEROES, offset, length).future

    async def discard(self, offset: int, length: int) -> None:
        """Tell the disk that a range is not needed.

        Files, loop devices and zram read back zeros afterwards; other block devices may keep the old contents.
        """
        await self._change_range(Kind.DISCARD, offset, length).future

    async def fsync(self, *, data_only: bool = False) -> None:
        """Put everything that had completed before this call on stable storage (`data_only`: fdatasync)."""
        await self._fsync(data_only=data_only).future

    def _issue(self, request: Request, data: memoryview | None = None) -> Request:
        gate = self._gate
        if get_ident() != gate.owner.thread:
            gate.owner.refuse()
        loop = self._loop or self._find_loop()
        request.future = loop.future_of_request()
        request.task = current_task(loop)
        request.waiter = self
        gate.queue.issue(request, data)
        gate.issued()
        return request

    def released(self, request: Request) -> None:
        """A token let this request through."""
        future = request.future
        slot, result = request.slot, request.result
        if request.kind is _READ and request.target is None and result >= 0:
            if not future.done():
                assert slot is not None
                view = slot.view
                future.set_result(bytes(view if result == len(view) else view[:result]))
            request.future = request.task = None
            free = self._free
            if len(free) < FREE_MAX:
                free.append(request)
            return
        if future.done():  # cancelled: nobody waits any more
            return
        error = self._take_value(request)
        if error is None:
            future.set_result(request.value)
        else:
            future.set_exception(error)


class BlockingDisk(DiskFace):
    """A disk of a blocking program; see `AsyncDisk` for units and errors. Every call is a checkpoint."""

    def read(self, offset: int, length: int) -> bytes:
        """Read `length` bytes at `offset`; fewer come back only if the kernel gave fewer."""
        offset, length = self._checked(offset, length, REQUEST_BYTES_MAX)
        gate = self._gate
        if get_ident() != gate.owner.thread:
            gate.owner.refuse()
        request = self._new_read(offset, length)
        gate.queue.issue_read(request)
        self._wait_for(request)
        value, request.value = request.value, None
        self._free.append(request)
        assert isinstance(value, bytes)
        return value

    def read_into(self, offset: int, buffer: Any) -> int:
        """Fill a writable buffer from `offset`; returns how many bytes were read."""
        value = self._read_into(offset, buffer).value
        assert isinstance(value, int)
        return value

    def write(self, offset: int, data: Any, *, fua: bool = False) -> int:
        """Write a bytes-like object at `offset`; returns how many bytes were written."""
        value = self._write(offset, data, fua=fua).value
        assert isinstance(value, int)
        return value

    def write_zeroes(self, offset: int, length: int) -> None:
        """Make a range read back as zeros, by whatever the disk does fastest."""
        self._change_range(Kind.WRITE_ZEROES, offset, length)

    def discard(self, offset: int, length: int) -> None:
        """Tell the disk that a range is not needed."""
        self._change_range(Kind.DISCARD, offset, length)

    def fsync(self, *, data_only: bool = False) -> None:
        """Put everything written before this call on stable storage (`data_only`: fdatasync)."""
        self._fsync(data_only=data_only)

    def _issue(self, request: Request, data: memoryview | None = None) -> Request:
        gate = self._gate
        if get_ident() != gate.owner.thread:
            gate.owner.refuse()
        request.waiter = self
        gate.queue.issue(request, data)
        self._wait_for(request)
        return request

    def _wait_for(self, request: Request) -> None:
        gate, sequence = self._gate, request.sequence
        outstanding = gate.queue.outstanding
        while sequence in outstanding:
            gate.checkpoint(WAIT)
        error = request.future
        if error is not None:
            raise error

    def released(self, request: Request) -> None:
        """A token let this request through."""
        request.future = self._take_value(request)


DiskT = TypeVar("DiskT", bound=DiskFace)


class _Disks(World, Generic[DiskT]):
    def __init__(self, gate: Gate, disks: Sequence[DiskT], others: Sequence[str], **world: Any) -> None:
        super().__init__(gate, **world)
        #: The disks that this worker uses, in the order in which they were given.
        self.disks: tuple[DiskT, ...] = tuple(disks)
        self._by_name = {disk.name: disk for disk in disks}
        self._others = others  # names of the run's disks that it does not use

    def disk(self, name: str) -> DiskT:
        """The disk of that name; raises `UnknownDisk` (a `LookupError`) if this worker has none."""
        found = self._by_name.get(name)
        if found is not None:
            return found
        known = ", ".join(repr(known) for known in self._by_name) or "none"
        if name in self._others:
            raise UnknownDisk(
                f"worker {self.index} does not use disk {name!r}: name it in the disk's workers; its disks are: {known}"
            )
        raise UnknownDisk(f"this run has no disk {name!r}; the disks of worker {self.index} are: {known}")

    def _volume(self, requests: Any, **options: Any) -> Volume:
        gate = self._gate
        if get_ident() != gate.owner.thread:
            gate.owner.refuse()
        with own_path.looked_at():
            from ringtape.engine.rows import RowDisk
            from ringtape.engine.volume import Volume
        disks = [
            RowDisk(disk._index, disk.name, disk.size, disk.block_size, disk._check_range)
            for disk in self.disks
        ]
        return Volume(gate, disks, requests, worker=self.index, **options)

    def _sent(self, worker: int, payload: Any) -> messages_pb2.Note:
        return mail.sent(worker, payload, workers=self.worker_count)


class UnknownDisk(LookupError):
    """A name that is not that of a disk of this run, or that this worker does not use."""


class Worker(_Disks[AsyncDisk]):
    """What an asynchronous program, `async def main(io)`, is given."""

    def checkpoint(self) -> Turn:
        """Take in what has completed by now, and move the clock, without waiting for anything.

        May be awaited, to let the tasks go on that this has woken.
        """
        self._gate.checkpoint(POLL)
        return Turn()

    async def submit(
        self,
        requests: Any,
        *,
        depth: int = 64,
        data: Any = None,
        into: Any = None,
        on_results: Callable[[Any], object] | None = None,
        on_made: Callable[[int], object] | None = None,
    ) -> Any:
        """Carry out many requests, `depth` of them under way at once; what fails raises nothing but is in the results.

        Args:
            requests: a NumPy structured array with the fields kind, disk (an index into `disks`), offset and length
                (bytes), and where wanted flags and time_ns (not before so long after the call, on the recorded clock).
                Or an iterable of such arrays, or of pairs of one and its `into`, taken one after the other as room for
                their requests comes.
            depth: requests are made in the order given, so many before the first is released.
            data: the bytes of the array's writes, one behind the other, not to be changed meanwhile; without it a
                pattern is written.
            into: a writable buffer for the bytes of the array's reads, one behind the other; without it they are
                dropped.
            on_results: called with the results of each array of an iterable, in order; it and the iterable run as part
                of this call.
            on_made: called whenever some were made, with how many of this call there are by now; the kernel has been
                given those that wait for no other. It may not use this object.

        Returns:
            An array with a row for each request, with the fields id, sequence, result (bytes or minus errno) and
            latency_ns. For an iterable, how many requests there were.

        Raises:
            InvalidRequest: naming the row; nothing of the array is submitted then.
        """
        volume = self._volume(
            requests, depth=depth, data=data, into=into, on_results=on_results, on_made=on_made
        )
        return await volume.carry_out()

    async def send(self, worker: int, payload: bytes | bytearray | memoryview) -> None:
        """Send bytes, 1 MiB at most, to the program of another worker (or to this one's own).

        It is on its way when the call returns; it does not wait for the receiver. What is sent to one worker arrives in
        one order, which is on the tape. To a worker whose program has ended it is lost. Raises `InvalidMessage`.
        """
        self._gate.note(self._sent(worker, payload))

    async def receive(self) -> Message:
        """Wait for the next message to this worker: `sender` (a worker's index) and `payload` (bytes).

        Raises `Stalled` in the program whose every task waits when no message can come any more.
        """
        return await self._mail.receive()

    async def barrier(self, name: str) -> None:
        """Wait until every worker of the run has arrived at the barrier of that name; it can be used again."""
        self._gate.note(mail.arrived(name))
        await self._mail.opening(name)

    @property
    def _mail(self) -> AsyncMail:
        found = self._gate.mail
        assert isinstance(found, AsyncMail)
        return found


class BlockingWorker(_Disks[BlockingDisk]):
    """What a blocking program, `def main(io)`, is given."""

    def checkpoint(self) -> None:
        """Move the clock, without waiting for anything."""
        self._gate.checkpoint(POLL)

    def submit(
        self,
        requests: Any,
        *,
        depth: int = 64,
        data: Any = None,
        into: Any = None,
        on_results: Callable[[Any], object] | None = None,
        on_made: Callable[[int], object] | None = None,
    ) -> Any:
        """Carry out many requests, `depth` of them under way at once; see `Worker.submit`."""
        volume = self._volume(
            requests, depth=depth, data=data, into=into, on_results=on_results, on_made=on_made
        )
        return volume.carry_out_blocking()

    def send(self, worker: int, payload: bytes | bytearray | memoryview) -> None:
        """Send bytes, 1 MiB at most, to the program of another worker; see `Worker.send`."""
        self._gate.post(self._sent(worker, payload))

    def receive(self) -> Message:
        """Wait for the next message to this worker; see `Worker.receive`."""
        mailbox = self._mail
        while not mailbox.messages:
            self._wait_for_mail(mailbox)
        return mailbox.messages.popleft()

    def barrier(self, name: str) -> None:
        """Wait until every worker of the run has arrived at the barrier of that name; it can be used again."""
        self._gate.post(mail.arrived(name))
        mailbox = self._mail
        while not mailbox.opened[name]:
            self._wait_for_mail(mailbox)
        mailbox.opened[name] -= 1

    def _wait_for_mail(self, mailbox: BlockingMail) -> None:
        mailbox.waiting = 1
        try:
            self._gate.checkpoint(WAIT)
        finally:
            mailbox.waiting = 0

    @property
    def _mail(self) -> BlockingMail:
        found = self._gate.mail
        assert isinstance(found, BlockingMail)
        return found

    def sleep(self, seconds: float) -> None:
        """Wait on the recorded clock: a replay does not take the time."""
        if not seconds >= 0 or math.isinf(seconds):
            raise ValueError(f"cannot sleep {seconds!r} seconds")
        until_ns = self._clock.read_ns() + math.ceil(seconds * 1e9)
        while self._clock.read_ns() < until_ns:
            self._gate.checkpoint(WAIT, until_ns)


class Turn:
    """Awaiting it gives the other tasks a turn."""

    def __await__(self) -> Generator[None, None, None]:
        yield


def _bytes_of(data: Any) -> memoryview:
    try:
        view = memoryview(data)
    except TypeError:
        raise InvalidRequest(
            errno.EINVAL, f"data must be bytes or another contiguous buffer, not {type(data).__name__}"
        ) from None
    if not view.contiguous:
        raise InvalidRequest(errno.EINVAL, "data must be a contiguous buffer")
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")
