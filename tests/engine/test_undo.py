"""Goal: no change reaches a disk before what it changes is told and kept, and what is told is what there was.

Method: a queue on real files; a made-up coordinator keeps what is told, in its own time. The ring that is watched looks
at every change that is put on it.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Sequence
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringtape.engine import undo as undo_module
from ringtape.engine.buffers import Buffers
from ringtape.engine.disks import open_disk, probe
from ringtape.engine.outbox import Outbox
from ringtape.engine.queue import RequestQueue
from ringtape.engine.requests import Kind, Request
from ringtape.engine.ring import Ring
from ringtape.engine.undo import Undo
from ringtape.proto import wire_pb2
from ringtape.proto.framing import FramingError
from tests.engine.test_queue import BLOCK, BLOCKS, files

UNDONE = 0  # of the two disks


class Checking(Ring):
    """Knows what is kept, and that every change is."""

    def __init__(self, files: Sequence[int], buffers: Buffers) -> None:
        super().__init__(files, buffers)
        self.kept: dict[int, bytes] = {}  # by block, the first that was told

    def enter(self, request: Request) -> None:
        if request.disk == UNDONE:
            blocks = range(request.offset // BLOCK, (request.offset + request.length) // BLOCK)
            assert all(block in self.kept for block in blocks), f"{request.sequence} is too early"

    def put_transfer(self, request: Request, *args: object, write: bool, **kwargs: object) -> None:
        if write:
            self.enter(request)
        super().put_transfer(request, *args, write=write, **kwargs)  # type: ignore[arg-type]

    def put_fallocate(self, request: Request, mode: int) -> None:
        self.enter(request)
        super().put_fallocate(request, mode)


class Run:
    def __init__(self, paths: list, *, ordered: bool) -> None:  # type: ignore[type-arg]
        self.fds = [open_disk(str(path), direct=probe(str(path), "").direct) for path in paths]
        buffers = Buffers(16 * BLOCK)
        self.ring = Checking(self.fds, buffers)
        self.told: list[wire_pb2.Before] = []
        self.outbox = Outbox(digests=False)
        self.undo = Undo({UNDONE: BLOCK}, buffers, lambda message: self.told.append(message.before))
        self.queue = RequestQueue(
            self.ring, buffers, [False, False], self.outbox, digests=False, ordered=ordered, undo=self.undo
        )

    def keep(self, place: int) -> None:
        before = self.told.pop(place)
        first = before.offset // BLOCK
        for i in range(len(before.data) // BLOCK):
            self.ring.kept.setdefault(first + i, before.data[i * BLOCK : (i + 1) * BLOCK])
        self.queue.kept(before.disk, before.offset)

    def results(self) -> list[int]:
        columns = self.outbox.take(0).completions
        rows = zip(memoryview(columns.sequence).cast("Q"), memoryview(columns.result).cast("q"), strict=True)
        return [result for _, result in sorted(rows)]

    def close(self) -> None:
        self.ring.close()
        for fd in self.fds:
            os.close(fd)


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.booleans())
def test_what_changes_is_told_and_kept_first(seed: int, ordered: bool) -> None:
    """Whether requests keep their order or race; pieces are small here, and few may be under way."""
    rng = random.Random(seed)
    with (
        files() as paths,
        mock.patch.object(undo_module, "PIECE_BYTES_MAX", 2 * BLOCK),
        mock.patch.object(undo_module, "PIECES_MAX", rng.choice([1, 3])),
    ):
        initial = rng.randbytes(BLOCKS * BLOCK)
        for path in paths:
            path.write_bytes(initial)
        run = Run(paths, ordered=ordered)
        try:
            for _ in range(rng.randint(1, 60)):
                kind = rng.choice([Kind.READ, Kind.WRITE, Kind.WRITE, Kind.WRITE_ZEROES, Kind.DISCARD])
                count = rng.randint(1, 8)
                request = Request(kind, rng.randint(0, 1), rng.randrange(BLOCKS - 8) * BLOCK, count * BLOCK)
                run.queue.issue(request, rng.randbytes(request.length) if kind is Kind.WRITE else None)
                if rng.random() < 0.3:
                    run.queue.submit()
                    run.queue.reap()
                if run.told and rng.random() < 0.3:
                    run.keep(rng.randrange(len(run.told)))
            while run.queue.active:
                if run.told:
                    run.keep(rng.randrange(len(run.told)))
                else:
                    run.queue.wait()
                run.queue.reap()
            assert all(result >= 0 for result in run.results())
            rewound = bytearray(paths[UNDONE].read_bytes())
            for block, data in run.ring.kept.items():
                rewound[block * BLOCK : (block + 1) * BLOCK] = data
            assert rewound == initial
        finally:
            run.close()


def test_a_change_of_what_cannot_be_read_fails_and_is_not_made() -> None:
    with files() as paths:
        run = Run(paths, ordered=True)
        try:
            os.truncate(paths[UNDONE], 3 * BLOCK)
            run.queue.issue(Request(Kind.WRITE, UNDONE, BLOCK, 4 * BLOCK), bytes(4 * BLOCK))
            run.queue.issue(Request(Kind.WRITE, UNDONE, 4 * BLOCK, BLOCK), bytes(BLOCK))
            run.queue.issue(Request(Kind.WRITE, UNDONE, 0, BLOCK), b"w" * BLOCK)
            while run.queue.active:
                run.queue.wait()
                run.queue.reap()
                while run.told:
                    run.keep(0)
            assert run.results() == [-errno.EIO, -errno.EIO, BLOCK]
            assert paths[UNDONE].read_bytes() == b"w" * BLOCK + bytes(2 * BLOCK)
        finally:
            run.close()


def test_an_answer_to_what_was_not_told_is_refused() -> None:
    with files() as paths:
        run = Run(paths, ordered=True)
        try:
            with pytest.raises(FramingError, match="kept what was not told: disk 0, offset 4096"):
                run.queue.kept(0, 4096)
        finally:
            run.close()
