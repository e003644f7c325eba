"""The ring: set-up with what the kernel has, preparation of requests, one wait, correct iteration of completions.

Everything that is known of the `liburing` package's traps is in this module and nowhere else. It knows nothing of
programs, order or the coordinator.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import liburing as uring

from ringtape.engine.buffers import Buffers
from ringtape.engine.completion_ring import open_completion_ring
from ringtape.engine.requests import FLAG_DATA_ONLY, FLAG_FUA, Request
from ringtape.proto.errors import RingUnavailable

if TYPE_CHECKING:  # only where requests go by columns
    from ringtape.engine.columns_ring import ColumnsRing, Completed, Words

# Of the submission ring; the smaller ones where RLIMIT_MEMLOCK leaves an unprivileged user no room for the first.
ENTRIES = (512, 128, 32)
# The completion ring is twice the submission ring; more requests in the kernel than it holds would overflow it.
IN_KERNEL_MAX = ENTRIES[0]
# How long a worker waits for many completions where it could go on with one.
MANY_WAIT_NS_MAX = 500_000
LINK_USER_DATA = (1 << 63) - 1
_get_sqe, _prep_readv_fixed = uring.io_uring_get_sqe, uring.io_uring_prep_readv_fixed
_POLLIN = 1
_RWF_DSYNC = 2

_FLAG_SETS = (
    ("SINGLE_ISSUER", "DEFER_TASKRUN", "SUBMIT_ALL"),
    ("SINGLE_ISSUER", "COOP_TASKRUN", "SUBMIT_ALL"),
    ("COOP_TASKRUN", "SUBMIT_ALL"),
    (),
)


class Ring:
    """One io_uring with the disks' files and the buffer region registered where the kernel allows it."""

    def __init__(self, files: Sequence[int], buffers: Buffers) -> None:
        """Raise `RingUnavailable` where io_uring cannot be used."""
        self._ring = uring.Ring()
        self._cqe = uring.Cqe()
        self._short = uring.timespec(MANY_WAIT_NS_MAX / 1e9)
        # Of the last wait that had a limit.
        self._limit_ns, self._limit = 1, uring.timespec(1e-9)
        self.flags = self._set_up()
        operations = uring.probe() or {}
        self._file_flag, self._files = self._register_files(files)
        self.fixed_buffers = bool(
            operations.get("IORING_OP_READV_FIXED") and operations.get("IORING_OP_WRITEV_FIXED")
        ) and self._register_buffers(buffers)
        self._link_fd = -1
        # SQEs put into the ring and not yet handed to the kernel.
        self.unsubmitted = 0
        # Only with this flag are completions written by this thread alone.
        self._alone = "DEFER_TASKRUN" in self.flags
        self._completion_ring = (
            open_completion_ring(self._ring, self.entries, self._flags) if self._alone else None
        )
        self._columns: ColumnsRing | None = None
        # Put by columns and not yet taken. While there is none, completions are few and taken one by one.
        self._by_columns = 0
        #: Of what was put by columns, what `completions` took last.
        self.taken: list[Completed] = []

    def _set_up(self) -> str:
        refusal = OSError(errno.EINVAL, "no set of flags was taken")
        for self.entries in ENTRIES:
            for names in _FLAG_SETS:
                flags = 0
                for name in names:
                    flags |= getattr(uring, f"IORING_SETUP_{name}")
                try:
                    uring.io_uring_queue_init(self.entries, self._ring, flags)
                except OSError as error:
                    refusal = error
                    if error.errno != errno.EINVAL:
                        break
                else:
                    self._flags = flags
                    return "|".join(names)
            if refusal.errno != errno.ENOMEM:
                break
        raise unavailable(refusal) from None

    def _register_files(self, files: Sequence[int]) -> tuple[int, list[int]]:
        # -1 stands for a disk that this worker does not use, here and for the kernel.
        self._file_index = uring.FileIndex(list(files)) if files else None
        if self._file_index is not None:
            try:
                uring.io_uring_register_files(self._ring, self._file_index)
            except OSError:
                pass  # an old kernel or a low limit: plain descriptors work as well
            else:
                return uring.IOSQE_FIXED_FILE, list(range(len(files)))
        return 0, list(files)

    def _register_buffers(self, buffers: Buffers) -> bool:
        self._region_iovec = uring.Iovec([buffers.region])
        try:
            uring.io_uring_register_buffers(self._ring, self._region_iovec)
        except OSError:
            return False  # RLIMIT_MEMLOCK of an unprivileged user: unregistered memory works as well
        return True

    def describe(self) -> str:
        """The set-up in force, for people."""
        registered = [
            name for name, on in (("files", self._file_flag), ("buffers", self.fixed_buffers)) if on
        ]
        return f"{self.flags or 'no flags'}; registered: {' and '.join(registered) or 'nothing'}"

    def watch_link(self, fd: int) -> None:
        """Complete `LINK_USER_DATA` whenever `fd` has something to read."""
        self._link_fd = fd
        sqe = self._sqe()
        uring.io_uring_prep_poll_multishot(sqe, fd, _POLLIN)
        sqe.user_data = LINK_USER_DATA

    def _sqe(self) -> Any:
        sqe = uring.io_uring_get_sqe(self._ring)
        if sqe is None:
            self.submit()
            sqe = uring.io_uring_get_sqe(self._ring)
            assert sqe is not None, "the kernel has taken every entry, yet the ring is full"
        self.unsubmitted += 1
        return sqe

    @property
    def files(self) -> tuple[list[int], int]:
        """Of each disk, its file as entries name it, and the flag that goes with it."""
        return self._files, self._file_flag

    def open_columns(self) -> ColumnsRing | None:
        """Entries as columns, from now on; None where that cannot be, or where completions are kept back."""
        if self._columns is None and type(self) is Ring and self._alone:
            from ringtape.engine.columns_ring import open_columns

            self._columns = open_columns(self._ring, self.entries, self._flags)
        return self._columns

    def put_columns(self, entries: Words) -> None:
        """Queue requests by columns: entries, whose user data are marked."""
        assert self._columns is not None
        count = len(entries)
        self._by_columns += count
        if self.unsubmitted + count <= self.entries:
            self._columns.put(entries, self.unsubmitted)
            self.unsubmitted += count
            return
        done = 0
        while done < len(entries):
            if self.unsubmitted >= self.entries:
                self.submit()
            last = min(len(entries), done + self.entries - self.unsubmitted)
            self._columns.put(entries[done:last], self.unsubmitted)
            self.unsubmitted += last - done
            done = last

    def put_transfer(
        self, request: Request, iovec: uring.Iovec, *, registered: bool, offset: int, write: bool
    ) -> None:
        """Queue a read or write between the disk at `offset` and the memory of the iovec.

        `registered` says that the memory lies in the region; the caller keeps it and the iovec until completion.
        """
        sqe = self._sqe()
        file = self._files[request.disk]
        if registered and self.fixed_buffers:
            if write:
                flags = _RWF_DSYNC if request.flags & FLAG_FUA else 0
                uring.io_uring_prep_writev_fixed(sqe, file, iovec, 0, offset, flags)
            else:
                uring.io_uring_prep_readv_fixed(sqe, file, iovec, 0, offset, 0)
        elif write:
            flags = _RWF_DSYNC if request.flags & FLAG_FUA else 0
            uring.io_uring_prep_writev(sqe, file, iovec, offset, flags)
        else:
            uring.io_uring_prep_readv(sqe, file, iovec, offset, 0)
        sqe.flags = self._file_flag
        sqe.user_data = request.sequence

    def put_read(self, request: Request, iovec: uring.Iovec) -> None:
        """As `put_transfer`, of a read into registered memory, which is what is asked for most."""
        ring = self._ring
        sqe = _get_sqe(ring)
        if sqe is None:
            sqe = self._sqe()
        else:
            self.unsubmitted += 1
        _prep_readv_fixed(sqe, self._files[request.disk], iovec, 0, request.offset, 0)
        sqe.flags = self._file_flag
        sqe.user_data = request.sequence

    def put_fsync(self, request: Request) -> None:
        """Queue an fsync."""
        sqe = self._sqe()
        flags = uring.IORING_FSYNC_DATASYNC if request.flags & FLAG_DATA_ONLY else 0
        uring.io_uring_prep_fsync(sqe, self._files[request.disk], flags)
        sqe.flags = self._file_flag
        sqe.user_data = request.sequence

    def put_fallocate(self, request: Request, mode: int) -> None:
        """Queue a fallocate over the request's range, size kept."""
        sqe = self._sqe()
        uring.io_uring_prep_fallocate(
            sqe, self._files[request.disk], mode | uring.FALLOC_FL_KEEP_SIZE, request.offset, request.length
        )
        sqe.flags = self._file_flag
        sqe.user_data = request.sequence

    def put_device_discard(self, request: Request) -> None:
        """Queue the block device's own discard."""
        sqe = self._sqe()
        uring.io_uring_prep_cmd_discard(sqe, self._files[request.disk], request.offset, request.length)
        sqe.flags = self._file_flag
        sqe.user_data = request.sequence

    def submit(self) -> None:
        """Hand everything queued to the kernel and run what it has finished; does not wait."""
        self.unsubmitted = 0
        _restarted(uring.io_uring_submit_and_get_events, self._ring)

    def wait(self, timeout_ns: int | None) -> None:
        """Hand everything queued to the kernel and wait for a completion, the link or the timeout."""
        if timeout_ns is None:
            self.unsubmitted = 0
            _restarted(uring.io_uring_submit_and_wait, self._ring, 1)
            return
        if timeout_ns != self._limit_ns:
            self._limit_ns, self._limit = timeout_ns, uring.timespec(max(timeout_ns, 1) / 1e9)
        self._wait_at_most(self._limit, 1)

    def wait_for(self, count: int, timeout_ns: int) -> None:
        """As `wait`, for so many completions."""
        self._wait_at_most(uring.timespec(max(timeout_ns, 1) / 1e9), count)

    def wait_for_many(self, count: int, timeout_ns: int | None) -> None:
        """As `wait_for`, but not for long, whatever the timeout."""
        if timeout_ns is None or timeout_ns >= MANY_WAIT_NS_MAX:
            self._wait_at_most(self._short, count)
        else:
            self.wait_for(count, timeout_ns)

    def _wait_at_most(self, limit: uring.timespec, count: int) -> None:
        self.unsubmitted = 0
        try:
            uring.io_uring_submit_and_wait_timeout(self._ring, self._cqe, count, limit)
        except OSError as error:
            if error.errno not in (errno.ETIME, errno.EINTR):
                raise

    def completions(self) -> tuple[list[tuple[int, int]], bool]:
        """Take all completions: pairs of user data and result (minus errno), and whether the link has something.

        `cqe[i]` past the first ignores the wrap of the ring and gives garbage: the iterator is the way.
        """
        if self._columns is not None and self._by_columns:
            return self._completions_by_columns(self._columns)
        if self._completion_ring is not None:
            data, results, flags = self._completion_ring.take()
            linked = LINK_USER_DATA in data
            if not linked:
                return list(zip(data, results, strict=True)), False
            others = list(zip(data, results, flags, strict=True))
            return self._without_link(others), True
        ring, cqe = self._ring, self._cqe
        pairs: list[tuple[int, int]] = []
        linked = False
        count = 0
        for _ in uring.CqeIter(ring, cqe):
            entry = cqe[0]
            count += 1
            try:
                result = entry.res
            except OSError as error:  # how the package tells a negative result
                assert error.errno is not None
                result = -error.errno
            data = entry.user_data
            if data == LINK_USER_DATA:
                linked = True
                if not entry.flags & uring.IORING_CQE_F_MORE:
                    uring.io_uring_cq_advance(ring, count)
                    count = 0
                    self.watch_link(self._link_fd)
            else:
                pairs.append((data, result))
        if count:
            uring.io_uring_cq_advance(ring, count)
        return pairs, linked

    def _completions_by_columns(self, columns: ColumnsRing) -> tuple[list[tuple[int, int]], bool]:
        self.taken, others = columns.take()
        for completed in self.taken:
            self._by_columns -= len(completed[1])
        pairs = self._without_link(others)
        return pairs, len(pairs) < len(others)

    def _without_link(self, completions: list[tuple[int, int, int]]) -> list[tuple[int, int]]:
        """Pairs of user data and result; the link is watched anew where the kernel has stopped watching it."""
        pairs: list[tuple[int, int]] = []
        for data, result, flags in completions:
            if data != LINK_USER_DATA:
                pairs.append((data, result))
            elif not flags & uring.IORING_CQE_F_MORE:
                self.watch_link(self._link_fd)
        return pairs

    def close(self) -> None:
        """Give the ring back to the kernel."""
        uring.io_uring_queue_exit(self._ring)


def _restarted(call: Any, *arguments: Any) -> None:
    while True:
        try:
            call(*arguments)
        except InterruptedError:
            continue
        return


def unavailable(error: OSError) -> RingUnavailable:
    """Say why the kernel refused a ring, and what to do."""
    if error.errno == errno.ENOSYS:
        why = "this kernel or sandbox has no io_uring (ENOSYS): ringtape needs Linux 5.19 or newer with io_uring"
    elif error.errno in (errno.EPERM, errno.EACCES):
        setting = _disabled_setting()
        if setting in ("1", "2"):
            why = f"io_uring is switched off by kernel.io_uring_disabled={setting}: sysctl kernel.io_uring_disabled=0"
        else:
            why = (
                "io_uring is forbidden here though kernel.io_uring_disabled is 0 (EPERM): a seccomp filter, as in a "
                "container's default profile; run with one that allows io_uring_setup"
            )
    elif error.errno in (errno.ENOMEM, errno.EMFILE, errno.ENFILE):
        why = f"io_uring cannot be set up: {os.strerror(error.errno)}; raise RLIMIT_MEMLOCK or RLIMIT_NOFILE"
    else:
        why = f"io_uring cannot be set up: {error.strerror or error}"
    return RingUnavailable(why)


def _disabled_setting() -> str:
    try:
        return Path("/proc/sys/kernel/io_uring_disabled").read_text().strip()
    except OSError:
        return ""


def check_available() -> None:
    """Raise `RingUnavailable` if no ring can be made here; costs one small ring."""
    ring = uring.Ring()
    try:
        uring.io_uring_queue_init(2, ring, 0)
    except OSError as error:
        raise unavailable(error) from None
    uring.io_uring_queue_exit(ring)
