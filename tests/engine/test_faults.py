"""Goal: a recorded fault comes back, in its turn, and leaves the disk as it was left then.

Method: a queue on real files is told faults that a seed chose; a model that carries out one request after the other
says what comes back and what the files hold.
"""

from __future__ import annotations

import errno
import os
import random
from array import array
from contextlib import closing
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from ringtape.engine.buffers import Buffers
from ringtape.engine.disks import open_disk, probe
from ringtape.engine.faults import Faults
from ringtape.engine.outbox import Outbox
from ringtape.engine.queue import RequestQueue
from ringtape.engine.requests import Kind, Request
from ringtape.proto import wire_pb2
from ringtape.proto.framing import FramingError
from tests.engine.test_queue import BLOCK, BLOCKS, WatchedRing, files

KINDS = [Kind.READ, Kind.WRITE, Kind.WRITE, Kind.WRITE_ZEROES, Kind.DISCARD, Kind.FSYNC]


def told(faults: dict[int, int], rows_max: int = 3) -> list[wire_pb2.CoordinatorMessage]:
    rows = sorted(faults.items())
    messages = []
    for start in range(0, len(rows), rows_max):
        part = rows[start : start + rows_max]
        message = wire_pb2.CoordinatorMessage()
        message.faults.sequence = array("Q", (row[0] for row in part)).tobytes()
        message.faults.result = array("q", (row[1] for row in part)).tobytes()
        message.faults.last = start + rows_max >= len(rows)
        messages.append(message)
    return messages


@settings(max_examples=40)
@given(st.integers(0, 2**32))
def test_faults_come_back_and_the_rest_goes_well(seed: int) -> None:
    rng = random.Random(seed)
    made = []
    faults: dict[int, int] = {}
    for sequence in range(rng.randint(1, 80)):
        kind = rng.choice(KINDS)
        first = rng.randrange(BLOCKS - 8)
        count = rng.randint(1, 8)
        request = Request(kind, rng.randint(0, 1), first * BLOCK, count * BLOCK)
        if kind is Kind.FSYNC:
            request = Request(kind, request.disk, 0, 0)
        made.append(request)
        if rng.random() < 0.4:
            errors = [-errno.EIO, -errno.ENOSPC, -errno.ECANCELED]
            short = rng.choice([0, 1, BLOCK, BLOCK - 1, rng.randrange(count * BLOCK)])
            transfer = kind in (Kind.READ, Kind.WRITE)
            faults[sequence] = (
                rng.choice([*errors, short]) if transfer and short < request.length else errors[0]
            )
    with files() as paths:
        geometries = [probe(str(path), "") for path in paths]
        fds = [open_disk(str(path), direct=one.direct) for path, one in zip(paths, geometries, strict=True)]
        buffers = Buffers(8 * BLOCK)
        ring = WatchedRing(fds, buffers)
        outbox = Outbox(digests=True)
        told_faults = Faults(fds, [BLOCK, BLOCK])
        if faults:
            told_faults.add(told(faults))
        queue = RequestQueue(
            ring, buffers, [False, False], outbox, digests=True, ordered=True, faults=told_faults
        )
        model = [bytearray(BLOCKS * BLOCK) for _ in paths]
        expected = {}
        for sequence, request in enumerate(made):
            content, stretch = model[request.disk], slice(request.offset, request.offset + request.length)
            result = faults.get(sequence, request.length if request.kind <= Kind.WRITE else 0)
            digest = 0
            data = None
            if request.kind is Kind.READ and result > 0:
                digest = xxh3_64_intdigest(bytes(content[stretch])[:result])
            elif request.kind is Kind.WRITE:
                data = rng.randbytes(request.length)
                if result > 0:
                    content[request.offset : request.offset + result] = data[:result]
            elif request.changes and result == 0:
                content[stretch] = bytes(request.length)
            expected[sequence] = (result, digest)
            queue.issue(request, data)
            if rng.random() < 0.1:
                queue.submit()
                queue.reap()
        while queue.active:
            queue.wait()
            queue.reap()
        columns = outbox.take(0).completions
        rows = zip(
            memoryview(columns.sequence).cast("Q"),
            memoryview(columns.result).cast("q"),
            memoryview(columns.digest).cast("Q"),
            strict=True,
        )
        assert {sequence: (result, digest) for sequence, result, digest in rows} == expected
        assert [path.read_bytes() for path in paths] == [bytes(content) for content in model]
        assert not told_faults.due
        assert told_faults.next == -1
        ring.close()
        for fd in fds:
            os.close(fd)


def test_what_is_answered_is_not_waited_for() -> None:
    """Nothing is in the kernel: a wait there would never end. What waited for the answer comes with it."""
    with files() as paths:
        fds = [open_disk(str(path), direct=False) for path in paths]
        buffers = Buffers(8 * BLOCK)
        ring = WatchedRing(fds, buffers)
        faults = Faults(fds, [BLOCK, BLOCK])
        faults.add(told({0: -errno.EIO, 1: 0}))
        queue = RequestQueue(
            ring, buffers, [False, False], Outbox(digests=True), digests=True, ordered=True, faults=faults
        )
        with closing(ring), mock.patch.object(ring, "wait", side_effect=AssertionError("waits")):
            for _ in range(2):
                queue.issue(Request(Kind.WRITE, 0, 0, BLOCK), bytes(BLOCK))
            queue.wait()
            finished, _ = queue.reap()
        assert [request.result for request in finished] == [-errno.EIO, 0]
        for fd in fds:
            os.close(fd)


def test_something_else_than_faults_is_refused() -> None:
    with pytest.raises(FramingError, match="waited for faults, got token"):
        Faults().add([wire_pb2.CoordinatorMessage(token=wire_pb2.Token())])
