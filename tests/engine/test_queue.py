"""Goal: requests that conflict are never in the kernel together, and data is what the program's own order makes it.

Method: a real ring on real files. What is put on the ring and what comes back from it is watched, and a model that
carries out one request after the other says what each read returns and what the files hold in the end.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import example, given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from ringtape.engine.buffers import Buffers
from ringtape.engine.disks import open_disk, probe
from ringtape.engine.disturbance import DisturbedRing
from ringtape.engine.outbox import Outbox
from ringtape.engine.queue import RequestQueue
from ringtape.engine.requests import FLAG_FUA, Kind, Request
from ringtape.engine.ring import Ring
from ringtape.proto import wire_pb2
from tests.proto.test_order import conflict

BLOCK = 4096
BLOCKS = 64


class _Nobody:
    def released(self, request: Request) -> None:
        """Nobody waits."""


_NOBODY = _Nobody()


class WatchedRing(Ring):
    """Knows what is in the kernel, and that no two of it conflict."""

    def __init__(self, files: Sequence[int], buffers: Buffers) -> None:
        super().__init__(files, buffers)
        self.inside: dict[int, Request] = {}
        self.most = 0

    def enter(self, request: Request) -> None:
        for other in self.inside.values():
            together = other.disk == request.disk and conflict(other, request)
            assert request is other or not together, (
                f"{request.sequence} is in the kernel with {other.sequence}"
            )
        self.inside[request.sequence] = request
        self.most = max(self.most, len(self.inside))

    def put_transfer(self, request: Request, *args: Any, **kwargs: Any) -> None:
        self.enter(request)
        super().put_transfer(request, *args, **kwargs)

    def put_read(self, request: Request, *args: Any) -> None:
        self.enter(request)
        super().put_read(request, *args)

    def put_fallocate(self, request: Request, mode: int) -> None:
        self.enter(request)
        super().put_fallocate(request, mode)

    def completions(self) -> tuple[list[tuple[int, int]], bool]:
        pairs, linked = super().completions()
        for sequence, _ in pairs:
            self.inside.pop(sequence, None)
        return pairs, linked


@contextmanager
def files() -> Iterator[list[Path]]:
    """One on the disk and one in memory, where there is such a place."""
    shared = Path("/dev/shm")
    with (
        tempfile.TemporaryDirectory(prefix="ringtape-") as one,
        tempfile.TemporaryDirectory(prefix="ringtape-", dir=shared if shared.is_dir() else None) as other,
    ):
        paths = [Path(one, "a.img"), Path(other, "b.img")]
        for path in paths:
            with path.open("wb") as file:
                file.truncate(BLOCKS * BLOCK)
        yield paths


REQUESTS = st.tuples(
    st.sampled_from(
        [Kind.READ, Kind.READ, Kind.WRITE, Kind.WRITE, Kind.WRITE_ZEROES, Kind.DISCARD, Kind.FSYNC]
    ),
    st.integers(0, 1),
    st.integers(0, 7) | st.integers(0, BLOCKS - 8),
    st.integers(1, 8),
    st.booleans(),
)


class Run:
    """A queue on watched files, and what each read should return."""

    def __init__(self, paths: list[Path]) -> None:
        self.fds = [open_disk(str(path), direct=probe(str(path), "").direct) for path in paths]
        buffers = Buffers(8 * BLOCK)  # so that requests come with registered memory and without
        self.ring = WatchedRing(self.fds, buffers)
        self.outbox = Outbox(digests=True)
        self.queue = RequestQueue(self.ring, buffers, [False, False], self.outbox, digests=True, ordered=True)
        self.model = [bytearray(BLOCKS * BLOCK) for _ in paths]
        self.expected: list[tuple[int, int]] = []
        self.made: list[tuple[int, ...]] = []

    def issue(self, kind: Kind, disk: int, block: int, count: int, fua: bool) -> None:
        if kind is Kind.FSYNC:
            request = Request(kind, disk, 0, 0)
        else:
            request = Request(
                kind, disk, block * BLOCK, count * BLOCK, FLAG_FUA if kind is Kind.WRITE and fua else 0
            )
        stretch = slice(request.offset, request.offset + request.length)
        data = None
        if kind is Kind.WRITE:
            data = len(self.expected).to_bytes(4, "little") * (request.length // 4)
            self.model[disk][stretch] = data
        elif kind in (Kind.WRITE_ZEROES, Kind.DISCARD):
            self.model[disk][stretch] = bytes(request.length)
        moved = request.length if kind in (Kind.READ, Kind.WRITE) else 0
        digest = xxh3_64_intdigest(bytes(self.model[disk][stretch])) if kind is Kind.READ else 0
        self.expected.append((moved, digest))
        written = 0 if data is None else xxh3_64_intdigest(data)
        self.made.append((kind, request.flags, disk, request.offset, request.length, written))
        if kind is Kind.READ:
            self.queue.issue_read(request)
        else:
            self.queue.issue(request, data)

    def reap(self) -> list[Request]:
        finished, _ = self.queue.reap()
        return finished

    def close(self) -> None:
        self.ring.close()
        for fd in self.fds:
            os.close(fd)


@settings(max_examples=60)
@given(st.lists(REQUESTS | st.none(), max_size=120), st.sampled_from([2, 512]), st.booleans())
@example([(Kind.READ, disk, 0, 1, False) for disk in (0, 1, 1, 0)], 512, True)
def test_order_of_the_program_decides_the_data(
    acts: list[tuple[Kind, int, int, int, bool] | None], in_kernel_max: int, mapped: bool
) -> None:
    """None lets the kernel go on and takes what it has finished, through the mapped ring or one by one."""
    with files() as paths, mock.patch("ringtape.engine.queue.IN_KERNEL_MAX", in_kernel_max):
        run = Run(paths)
        assert run.ring._completion_ring is not None, "this kernel lets it be mapped"
        if not mapped:
            run.ring._completion_ring = None
        try:
            finished: list[Request] = []
            for act in acts:
                if act is not None:
                    run.issue(*act)
                else:
                    run.queue.submit()
                    finished += run.reap()
            while run.queue.active:
                run.queue.wait()
                finished += run.reap()
            assert run.ring.most <= in_kernel_max
            assert sorted(request.sequence for request in finished) == list(range(len(run.expected)))
            batch = run.outbox.take(0)
            made, told = batch.requests, batch.completions
            columns = (made.disk, "H"), (made.offset, "Q"), (made.length, "Q"), (made.digest, "Q")
            rest = [memoryview(column).cast(width) for column, width in columns]
            assert list(zip(made.kind, made.flags, *rest, strict=True)) == run.made
            outcomes = {
                sequence: (result, digest)
                for sequence, result, digest in zip(
                    memoryview(told.sequence).cast("Q"),
                    memoryview(told.result).cast("q"),
                    memoryview(told.digest).cast("Q"),
                    strict=True,
                )
            }
            assert [outcomes[sequence] for sequence in range(len(run.expected))] == run.expected
            assert list(outcomes) == [request.sequence for request in finished], (
                "told in the order of completion"
            )
            for request in finished:
                request.waiter = _NOBODY
            run.queue.release(finished)
            assert not run.queue.outstanding
            assert [path.read_bytes() for path in paths] == [bytes(content) for content in run.model]
        finally:
            run.close()


def test_requests_that_do_not_conflict_are_in_the_kernel_together() -> None:
    """Without this, an order that lets one request in at a time would pass the other test."""
    with files() as paths:
        run = Run(paths)
        try:
            for block in range(32):
                run.issue(Kind.WRITE, 0, block, 1, False)
                run.issue(Kind.READ, 1, 0, 8, False)
            assert run.ring.most == 64
            while run.queue.active:
                run.queue.wait()
                run.reap()
        finally:
            run.close()


class DisturbedRun(Run):
    """The same on a ring that keeps completions back."""

    def __init__(self, paths: list[Path], disturbance: wire_pb2.Disturbance) -> None:
        super().__init__(paths)
        self.ring.close()
        buffers = Buffers(8 * BLOCK)
        ring = DisturbedRing(self.fds, buffers, disturbance)
        self.ring = ring  # type: ignore[assignment]
        self.queue = RequestQueue(ring, buffers, [False, False], self.outbox, digests=True, ordered=True)


def test_completions_that_are_kept_back_all_come_and_in_another_order() -> None:
    disturbance = wire_pb2.Disturbance(seed=1, completion_delay_ns_max=2_000_000, kernel_depth_max=8)
    with files() as paths:
        run = DisturbedRun(paths, disturbance)
        try:
            for block in range(32):
                run.issue(Kind.READ, block % 2, block, 1, False)
            finished: list[int] = []
            while run.queue.active:
                run.queue.wait()
                assert len(run.queue._in_kernel) <= 8
                finished += [request.sequence for request in run.reap()]
        finally:
            run.close()
    assert sorted(finished) == list(range(32))
    assert finished != sorted(finished)


def test_a_wait_ends_at_its_timeout_though_completions_are_kept_back() -> None:
    with files() as paths:
        run = DisturbedRun(paths, wire_pb2.Disturbance(seed=1, completion_delay_ns_max=1 << 62))
        try:
            run.issue(Kind.READ, 0, 0, 1, False)
            run.queue.wait()
            assert run.reap() == []
            run.queue.wait(1_000_000)
            assert run.reap() == []
        finally:
            run.close()
