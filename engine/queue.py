"""The worker's requests on their way: from the program to the kernel in the order the rules allow, and back.

Completions come out in the order in which the kernel gave them. Nothing here decides when the program sees one.
"""

from __future__ import annotations

import errno
import mmap
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import liburing as uring
from xxhash import xxh3_64_intdigest

from ringtape.engine.buffers import Buffers
from ringtape.engine.faults import Faults
from ringtape.engine.outbox import Outbox
from ringtape.engine.requests import Kind, Request, data_of
from ringtape.engine.ring import IN_KERNEL_MAX, Ring
from ringtape.engine.undo import OWN_FIRST, Undo
from ringtape.engine.watched import Watched
from ringtape.proto import wire_pb2
from ringtape.proto.framing import FramingError
from ringtape.proto.order import DiskOrder, Ordered

if TYPE_CHECKING:
    from ringtape.engine.columns import Columns
    from ringtape.engine.columns_ring import Words
    from ringtape.engine.debugger import Debugger
    from ringtape.engine.rows import Rows
    from ringtape.engine.volume import Volume

# Zeros are written in pieces of this size where the file system cannot zero a range itself.
ZERO_PIECE_BYTES = 1 << 20

# So many completions are waited for, shortly, while twice as many requests are under way by columns; of more, a
# fourth.
MANY = 16

_READ, _FSYNC = Kind.READ, Kind.FSYNC
_PIECEWISE = frozenset({Kind.WRITE_ZEROES, Kind.DISCARD})
_UNSUPPORTED = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY, errno.ENOSYS})
_ZERO_RANGE, _ZERO_WRITES, _DEVICE_DISCARD, _PUNCH_HOLE = range(4)


class RequestQueue:
    """Takes the program's requests, keeps the kernel busy with them and collects what it finished."""

    def __init__(
        self,
        ring: Ring,
        buffers: Buffers,
        block_devices: list[bool],
        outbox: Outbox,
        *,
        digests: bool,
        ordered: bool,
        shared: Sequence[bool] = (),
        faults: Faults | None = None,
        undo: Undo | None = None,
    ) -> None:
        """`ordered`: conflicting requests keep their order; on `shared` disks the coordinator sees to it."""
        self._ring = ring
        self.buffers = buffers
        self.outbox = outbox
        self._digests = digests
        self._tells = outbox.tells
        self._contents = outbox.contents
        self.shared = list(shared) or [False] * len(block_devices)
        self.ordered = ordered
        # None where the worker keeps no order: the coordinator does, or nobody.
        self._orders: list[DiskOrder[Ordered] | None] = [
            DiskOrder() if ordered and not one else None for one in self.shared
        ]
        # On shared disks, made and not yet admitted.
        self._unadmitted: dict[int, Request] = {}
        # What to try for a request that kernels and file systems do in different ways; the first that is supported.
        self._ways: dict[tuple[int, Kind], tuple[int, ...]] = {}
        for disk, block_device in enumerate(block_devices):
            # A hole in a file is zeros as well, and comes about as a whole. Written zeros are the last way: where room
            # is short some of them are there when the request fails, which a replay does not know of.
            self._ways[disk, Kind.WRITE_ZEROES] = (
                (_ZERO_RANGE, _ZERO_WRITES) if block_device else (_ZERO_RANGE, _PUNCH_HOLE, _ZERO_WRITES)
            )
            self._ways[disk, Kind.DISCARD] = (
                (_DEVICE_DISCARD, _PUNCH_HOLE) if block_device else (_PUNCH_HOLE,)
            )
        # The place in `_ways` of the first that has not been found unsupported.
        self._supported = dict.fromkeys(self._ways, 0)
        self._in_kernel: dict[int, Request] = {}
        self.in_kernel_max = min(IN_KERNEL_MAX, ring.entries)
        # Free to go, but the kernel has as many as it may have.
        self._backlog: deque[Request] = deque()
        # What may keep a request whose turn has come from the kernel; most runs have neither.
        self._faults = faults or Faults()
        self._undo = undo
        self._detours = undo is not None or self._faults.next >= 0
        # Results that did not come from the kernel.
        self._answered: deque[tuple[Request, int]] = deque()
        self._zeros: memoryview | None = None
        # Made and not yet released, oldest first.
        self.outstanding: dict[int, Request] = {}
        self.made = 0
        self.completed = 0
        # Made and not yet completed.
        self.active = 0
        # In a replay that is looked into: who stops before a request, and who is told of it.
        self.debugger: Debugger | None = None
        self.watched: Watched | None = None
        #: The requests that go by columns, once a program has made such.
        self.columns: Columns | None = None
        #: Volumes of which a token has released something, to be woken when it has released the rest.
        self.touched: dict[Volume, None] = {}
        #: Arrays of volumes that are not done, and the sequence number of their first request: the oldest first.
        self.held: dict[Rows, int] = {}

    def open_columns(self) -> Columns | None:
        """The way by columns; None where it cannot be had: then each request needs to be looked at by itself."""
        if self._detours or self.watched is not None or self.debugger is not None:
            return None
        if self.columns is None:
            ring = self._ring.open_columns()
            if ring is None:
                return None
            from ringtape.engine.columns import Columns

            self.columns = Columns(ring, self)
        return self.columns

    @property
    def registered_files(self) -> tuple[list[int], int]:
        """Of each disk, its file as the ring knows it, and the flag that says how."""
        return self._ring.files

    @property
    def fixed_buffers(self) -> bool:
        """Is the buffer region registered with the ring?"""
        return self._ring.fixed_buffers

    def order(self, disk: int) -> DiskOrder[Ordered] | None:
        """The order of a disk; None where this worker keeps none. It may lack reads: see `order_with_reads`."""
        return self._orders[disk]

    def order_with_reads(self, disk: int) -> DiskOrder[Ordered] | None:
        """As `order`, with all single requests that are active there: reads are entered when something is to change."""
        order = self._orders[disk]
        if order is not None and self.outstanding:
            self._enter_reads(disk, order)
        return order

    def _enter_reads(self, disk: int, order: DiskOrder[Ordered], but: Request | None = None) -> None:
        if order.changing:
            return  # then they are there
        for request in self.outstanding.values():
            active = request.disk == disk and not request.completed and request is not but
            if active and request.kind is _READ and request not in order.active:
                order.add(request)

    @property
    def put_columns(self) -> Callable[[Words], None]:
        """What queues requests that go by columns on the ring."""
        return self._ring.put_columns

    def find(self, sequence: int) -> Request | None:
        """What is known of a request that is not released."""
        found = self.outstanding.get(sequence)
        return self.columns.request(sequence) if found is None and self.columns is not None else found

    @property
    def waits(self) -> bool:
        """Is there a request that has been made and not released?"""
        return bool(self.outstanding) or (self.columns is not None and self.columns.unreleased > 0)

    def issue(self, request: Request, data: memoryview | bytes | None = None) -> None:
        """Take a request from the program; `data` of a write is copied here and now."""
        if self.debugger is not None:
            self.debugger.about_to_make(self.made)
        request.sequence = self.made
        self.made += 1
        self.active += 1
        self.outstanding[request.sequence] = request
        kind = request.kind
        if kind is Kind.WRITE:
            assert data is not None
            slot = request.slot = self.buffers.take(request.length)
            slot.view[: request.length] = data
            if self._digests:
                request.digest = xxh3_64_intdigest(data)
                if self._contents is not None:
                    request.contents = self._contents.number_of(slot.view[: request.length])
        elif request.aligned:
            request.memory = (request.target, uring.Iovec([request.target]))
        self.outbox.request(request, self.completed)
        if self.watched is not None:
            self.watched.made(request, data)
        if request.sequence == self._faults.next:
            self._faults.made(request)
        if kind is not Kind.FSYNC:
            if self.shared[request.disk]:
                self._unadmitted[request.sequence] = request
                return
            order = self._orders[request.disk]
            if order is not None:
                columns = self.columns
                if columns is not None and not (
                    columns.active if request.changes else columns.active_for_reads
                ):
                    columns = None
                if request.changes or columns is not None:
                    self._enter_reads(request.disk, order, request)
                if columns is not None:
                    columns.enter_conflicts(request)
                order.add(request)
                if request.blockers:
                    return
        self._start(request)

    def issue_read(self, request: Request) -> None:
        """As `issue`, of a read into memory of the queue's; what it does not need is left out."""
        order = self._orders[request.disk]
        if (
            order is None
            or order.changing
            or self._detours
            or self.watched is not None
            or self.debugger is not None
            or len(self._in_kernel) >= self.in_kernel_max
            or (self.columns is not None and self.columns.active)
        ):
            self.issue(request)
            return
        sequence = request.sequence = self.made
        self.made = sequence + 1
        self.active += 1
        self.outstanding[sequence] = self._in_kernel[sequence] = request
        length = request.length
        if self._tells:
            self.outbox.read(request.disk, request.offset, length)
        slot = request.slot = self.buffers.take(length)
        if slot.registered and self._ring.fixed_buffers:
            self._ring.put_read(request, slot.iovec(length))
        else:
            self._put(request)

    @property
    def unadmitted(self) -> bool:
        """Are there requests that wait for the coordinator to admit them?"""
        return bool(self._unadmitted)

    def admit(self, sequences: bytes) -> None:
        """The coordinator admits these requests, a u64 column; `submit` or `wait` hands them over."""
        for sequence in memoryview(sequences).cast("Q"):
            self._start(self._unadmitted.pop(sequence))

    def _start(self, request: Request) -> None:
        if self._detours and self._detoured(request):
            return
        if len(self._in_kernel) >= self.in_kernel_max:
            self._backlog.append(request)
            return
        # Of all that wait for the kernel's attention, reads alone need no memory yet.
        if request.kind is Kind.READ and request.memory is None:
            request.slot = self.buffers.take(request.length)
        self._in_kernel[request.sequence] = request
        self._put(request)

    def _detoured(self, request: Request) -> bool:
        """Is its turn not for the kernel yet, or not at all? It is asked anew whenever its turn comes again."""
        if request.sequence in self._faults.due:
            result = self._faults.answer(request)
            if result is not None:
                self.answer(request, result)
                return True
        return self._undo is not None and request.changes and self._undo.holds(request, self)

    def answer(self, request: Request, result: int) -> None:
        """A request whose turn has come is not for the kernel: it completes with this result."""
        self._answered.append((request, result))

    def resume(self, request: Request) -> None:
        """Nothing holds this request any more."""
        self._start(request)

    def read_for_undo(self, request: Request) -> None:
        """Put on the ring a read that the program knows nothing of."""
        self._in_kernel[request.sequence] = request
        self._put(request)

    def kept(self, disk: int, offset: int) -> None:
        """What the range there held is on the tape."""
        assert self._undo is not None, "this run keeps nothing for undo"
        self._undo.kept(disk, offset, self)

    def _put(self, request: Request) -> None:
        """Queue the request, or the next piece of it, on the ring."""
        kind = request.kind
        if kind is Kind.READ or kind is Kind.WRITE:
            slot = request.slot
            if slot is not None:
                length = request.length
                if self._faults.due and request.sequence in self._faults.due:
                    length = self._faults.transfer_bytes(request)
                iovec, registered = slot.iovec(length), slot.registered
            else:
                iovec, registered = request.memory[1], False
            self._ring.put_transfer(
                request, iovec, registered=registered, offset=request.offset, write=kind is Kind.WRITE
            )
        elif kind is Kind.FSYNC:
            self._ring.put_fsync(request)
        else:
            if request.way < 0:
                request.way = self._supported[request.disk, kind]
            self._put_range(request)

    def _put_range(self, request: Request) -> None:
        way = self._ways[request.disk, request.kind][request.way]
        if way == _ZERO_RANGE:
            self._ring.put_fallocate(request, uring.FALLOC_FL_ZERO_RANGE)
        elif way == _PUNCH_HOLE:
            self._ring.put_fallocate(request, uring.FALLOC_FL_PUNCH_HOLE)
        elif way == _DEVICE_DISCARD:
            self._ring.put_device_discard(request)
        else:
            if self._zeros is None:
                self._zeros = memoryview(mmap.mmap(-1, ZERO_PIECE_BYTES))
            done = request.result
            length = min(request.length - done, ZERO_PIECE_BYTES)
            iovec = uring.Iovec([self._zeros[:length]])
            request.memory = (self._zeros, iovec)
            self._ring.put_transfer(
                request, iovec, registered=False, offset=request.offset + done, write=True
            )

    def submit(self) -> None:
        """Hand what is ready to the kernel, and let it finish what it can."""
        if self._ring.unsubmitted or self._in_kernel or (self.columns is not None and self.columns.in_kernel):
            self._ring.submit()

    @property
    def many(self) -> bool:
        """Is much under way by columns, and nothing else? Then it pays to let some of it finish before going on."""
        columns = self.columns
        if columns is None or columns.in_kernel < 2 * MANY:
            return False
        return not self.outstanding and not columns.completed

    def hand_over(self, left_ns: int | None = None) -> None:
        """As `submit`, before a wait of at most so long; where there is nothing to submit, the wait does all.

        Where there are many the wait is here, for several: what a turn costs is shared by more requests. Where no time
        is left nobody waits, and what has completed is only seen if the kernel is asked here.
        """
        waits = left_ns is None or left_ns > 0
        if waits and self.many:
            assert self.columns is not None
            self._ring.wait_for_many(max(MANY, self.columns.in_kernel // 4), left_ns)
        elif not waits or left_ns is None or self._ring.unsubmitted:
            self.submit()

    def wait(self, timeout_ns: int | None = None) -> None:
        """Wait for a completion, the link or the timeout; submits first."""
        if self._answered:
            self._ring.submit()
        else:
            self._ring.wait(timeout_ns)

    def wait_for(self, count: int, timeout_ns: int) -> None:
        """As `wait`, for so many completions, where that many can come of what the kernel has."""
        columns = self.columns
        if columns is None or self.outstanding or self._answered:
            self.wait(timeout_ns)
        else:
            self._ring.wait_for(max(min(count, columns.in_kernel), 1), timeout_ns)

    def reap(self) -> tuple[list[Request], bool]:
        """Take what the kernel has finished: requests in its order, and whether the link has something to read.

        Requests that waited for these are started; `submit` or `wait` hands them over.
        """
        pairs, linked = self._ring.completions()
        finished: list[Request] = []
        if self._ring.taken:
            taken, self._ring.taken = self._ring.taken, []
            assert self.columns is not None
            for freed in self.columns.complete(taken):
                self._start(freed)
        in_kernel, particular = self._in_kernel, self._detours or self.watched is not None
        for sequence, result in pairs:
            request = in_kernel[sequence]
            if particular or request.kind in _PIECEWISE:
                if self._detours and sequence >= OWN_FIRST:
                    assert self._undo is not None
                    del in_kernel[sequence]
                    self._undo.was_read(request, result, self)
                    continue
                if sequence in self._faults.due:
                    result = self._faults.completed(request, result)
                if request.kind in _PIECEWISE and self._goes_on(request, result):
                    continue
            del in_kernel[sequence]
            self._complete(request, result)
            finished.append(request)
        while self._answered:
            request, result = self._answered.popleft()
            self._complete(request, result)
            finished.append(request)
        if finished:
            if self.columns is not None and self.columns.alone:
                self.columns.complete_alone(finished)
            self.completed += len(finished)
            self.active -= len(finished)
            if self._tells:
                self._tell(finished)
        while self._backlog and len(self._in_kernel) < self.in_kernel_max:
            self._start(self._backlog.popleft())
        return finished, linked

    def _goes_on(self, request: Request, result: int) -> bool:
        """Is there another way to try, or another piece to write?"""
        key = request.disk, request.kind
        ways = self._ways[key]
        if -result in _UNSUPPORTED and request.way + 1 < len(ways):
            request.way += 1
            self._supported[key] = max(self._supported[key], request.way)
            self._put(request)
            return True
        if ways[request.way] == _ZERO_WRITES and result > 0:
            request.result += result
            if request.result < request.length:
                self._put(request)
                return True
        return False

    def _complete(self, request: Request, result: int) -> None:
        kind = request.kind
        if kind in _PIECEWISE:
            result = min(result, 0)
            request.memory = None
        request.result = result
        if request.aligned and result < request.length:
            request.blank_rest()
        request.completed = True
        if self.watched is not None:
            self.watched.completed(request, data_of(request) if kind is _READ and result > 0 else None)
        order = self._orders[request.disk]
        # A read is entered only once something changes the disk.
        if order is not None and order.active and kind is not _FSYNC and request in order.active:
            for freed in order.remove(request):
                self._start(freed)  # type: ignore[arg-type]  # what goes by columns waits for nothing

    def _tell(self, finished: list[Request]) -> None:
        """Tell of completed requests, and of the data that they have read."""
        outbox = self.outbox
        if not self._digests and len(finished) > 1:
            sequences = array("Q", [request.sequence for request in finished])
            results = array("q", [request.result for request in finished])
            outbox.completion_columns(sequences.tobytes(), results.tobytes())
            return
        for request in finished:
            digest = contents = 0
            if self._digests and request.kind is _READ and request.result > 0:
                read = data_of(request)
                assert read is not None
                digest = xxh3_64_intdigest(read)
                if self._contents is not None:
                    contents = self._contents.number_of(read)
            outbox.completion(request, digest, contents)

    def give(self, given: wire_pb2.Given) -> None:
        """Data is read from the disk."""
        raise FramingError(f"{len(given.data)} bytes came for requests that read their own")

    def complete(self, token: wire_pb2.Token) -> None:
        """What a token releases has completed in the kernel."""

    def release(self, requests: Iterable[Request]) -> None:
        """A token released these requests, in this order: who waits for them is told."""
        outstanding, buffers = self.outstanding, self.buffers
        for request in requests:
            assert request.completed, f"request {request.sequence} released before it completed"
            del outstanding[request.sequence]
            request.waiter.released(request)  # type: ignore[union-attr]  # who made it waits for it
            slot = request.slot
            if slot is not None:  # the program has what it was given
                request.slot = None
                buffers.give_back(slot)

    def oldest(self) -> int:
        """The sequence number of the oldest request whose id may be asked for, or the next to be made."""
        oldest = next(iter(self.outstanding), self.made)
        return min(oldest, next(iter(self.held.values()))) if self.held else oldest
