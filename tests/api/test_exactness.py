"""Goal: promise 1. A replay lets every worker see what it saw, in the same order, and leaves the same on the disks.

Method: Hypothesis makes programs (as data, see `tests/programs`); each is recorded by real workers on real files,
replayed, and the replay's own tape is replayed. Beside that a model that knows nothing of queues or rings says, from
the order of the requests on the tape alone, what each read must have returned and what must be on the disks.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from hypothesis import event, given
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

import ringtape
from ringtape import Disk
from ringtape.coordinator.tape import CompletionRow, RequestRow, TapeReader, iter_rows
from ringtape.proto import messages_pb2
from tests.programs import scripted
from tests.programs.scripted import BLOCK, REGION_BLOCKS, Script
from tests.programs.scripts import async_scripts, blocking_scripts
from tests.searching import slow

WORKERS_MAX = 4
DISKS_MAX = 3
DISK_BYTES = WORKERS_MAX * REGION_BLOCKS * BLOCK


class Machine:
    """Three disks: one that the recording makes, one that is fresh each time, one that is put back by the test."""

    def __init__(self, folder: Path, memory: Path, disks: int) -> None:
        self.folder = folder
        self.files = [folder / "made.img", memory / "fresh.img", folder / "kept.img"][:disks]
        self.disks = [
            Disk("made", self.files[0], size=DISK_BYTES),
            *[Disk("fresh", file, size=DISK_BYTES, fresh=True) for file in self.files[1:2]],
            *[Disk("kept", file) for file in self.files[2:]],
        ]
        self.initial = [bytes(DISK_BYTES), bytes(DISK_BYTES), bytes(range(256)) * (DISK_BYTES // 256)][:disks]
        self.put_back()

    def put_back(self) -> None:
        for file, initial in zip(self.files[2:], self.initial[2:], strict=True):
            file.write_bytes(initial)

    def contents(self) -> list[bytes]:
        return [file.read_bytes() for file in self.files]

    def tape(self, name: str) -> Path:
        return self.folder / name


@contextmanager
def machine(disks: int) -> Iterator[Machine]:
    with ExitStack() as stack:
        shared = Path("/dev/shm")
        folders = [
            Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ringtape-", dir=parent)))
            for parent in (None, shared if shared.is_dir() else None)
        ]
        yield Machine(folders[0], folders[1], disks)


def same(one: ringtape.Result, other: ringtape.Result) -> None:
    assert other.digest == one.digest
    assert other.returns == one.returns
    assert other.failures == one.failures
    assert (other.requests, other.checkpoints, other.ended) == (one.requests, one.checkpoints, "finished")


def check_against_model(tape: Path, machine: Machine, *, data: bool) -> None:
    """Requests act as if in the order of their ids: what overlaps keeps that order, what does not can have any."""
    model = {
        disk.name: bytearray(initial) for disk, initial in zip(machine.disks, machine.initial, strict=True)
    }
    expected: dict[int, tuple[int, int | None]] = {}
    with TapeReader.open(tape) as reader:
        for row in iter_rows(reader):
            if isinstance(row, RequestRow):
                expected[row.id] = apply(row, model[row.disk], data=data)
            elif isinstance(row, CompletionRow):
                result, digest = expected.pop(row.id)
                assert row.result == result, row
                assert not data or row.digest == digest, row
    assert expected == {}, "every request was completed"
    if data:
        assert machine.contents() == [bytes(content) for content in model.values()]


def apply(row: RequestRow, disk: bytearray, *, data: bool) -> tuple[int, int | None]:
    """Do what a request asks for; its result, and the digest of what it returns."""
    stretch = slice(row.offset, row.offset + row.length)
    if row.kind == messages_pb2.KIND_READ:
        return row.length, xxh3_64_intdigest(bytes(disk[stretch]))
    if row.kind == messages_pb2.KIND_WRITE:
        # Scripts write one byte over and over; which one, the digest on the tape tells.
        if data:
            contents = (bytes([value]) * row.length for value in range(256))
            disk[stretch] = next(one for one in contents if xxh3_64_intdigest(one) == row.digest)
        return row.length, 0
    if row.kind in (messages_pb2.KIND_WRITE_ZEROES, messages_pb2.KIND_DISCARD):
        disk[stretch] = bytes(row.length)
    return 0, 0


def check_exact(
    program: Callable[[Any], Any],
    scripts: list[Script],
    *,
    disks: int,
    seed: int,
    data: str,
    strict: bool = False,
) -> None:
    with machine(disks) as m:
        first = m.tape("first.tape")
        recorded = ringtape.record(
            program,
            disks=m.disks,
            workers=len(scripts),
            seed=seed,
            arguments=scripts,
            tape=first,
            data=data,  # type: ignore[arg-type]
            strict=strict,
        )
        left = m.contents()
        check_against_model(first, m, data=data == "digest")
        for failure in recorded.failures:
            event(failure.exception)
        second = m.tape("second.tape")
        for tape, output in ((first, second), (second, None)):
            m.put_back()
            same(recorded, ringtape.replay(tape, output=output))
            assert m.contents() == left


def seeds() -> st.SearchStrategy[int]:
    return st.integers(0, 2**64 - 1)


@slow(12)
@given(st.data(), st.integers(1, DISKS_MAX), seeds(), st.sampled_from(["digest", "digest", "order"]))
def test_asynchronous_programs_replay_exactly(data: st.DataObject, disks: int, seed: int, level: str) -> None:
    scripts = data.draw(st.lists(async_scripts(disks), min_size=1, max_size=WORKERS_MAX))
    strict = data.draw(st.booleans())
    check_exact(scripted.run_async, scripts, disks=disks, seed=seed, data=level, strict=strict)


@slow(10)
@given(st.data(), st.integers(1, DISKS_MAX), seeds())
def test_programs_that_share_every_block_replay_exactly(data: st.DataObject, disks: int, seed: int) -> None:
    """All workers on one region, in which nearly everything overlaps."""
    scripts = data.draw(st.lists(async_scripts(disks), min_size=2, max_size=WORKERS_MAX))
    check_exact(scripted.run_async_shared, scripts, disks=disks, seed=seed, data="digest")


@slow(6)
@given(st.data(), st.integers(1, DISKS_MAX), seeds())
def test_blocking_programs_that_share_replay_exactly(data: st.DataObject, disks: int, seed: int) -> None:
    scripts = data.draw(st.lists(blocking_scripts(disks), min_size=2, max_size=WORKERS_MAX))
    check_exact(scripted.run_blocking_shared, scripts, disks=disks, seed=seed, data="digest")


@slow(6)
@given(st.data(), st.integers(1, DISKS_MAX), seeds(), st.sampled_from(["digest", "digest", "order"]))
def test_blocking_programs_replay_exactly(data: st.DataObject, disks: int, seed: int, level: str) -> None:
    scripts = data.draw(st.lists(blocking_scripts(disks), min_size=1, max_size=WORKERS_MAX))
    strict = data.draw(st.booleans())
    check_exact(scripted.run_blocking, scripts, disks=disks, seed=seed, data=level, strict=strict)
