"""Goal: the examples do what they say, and replay. Method: run them on real disks and see what they leave there."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import ringtape
from ringtape import Disk, examples
from ringtape.coordinator.tape import RequestRow, TapeReader, iter_rows
from ringtape.examples import journal, mirror, pipeline
from ringtape.proto import messages_pb2
from ringtape.settings import Data
from tests.engine.loop_devices import loop_device, needs_loop_devices, sparse

FOLDER = Path(examples.__file__).parent
DISKS = {
    "mirror": ("a", "b"),
    "journal": ("journal", "data"),
    "pipeline": ("a", "b"),
    "sqlite_vfs": ("db", "journal"),
}
SIZE = 8 << 20  # bytes; enough for four workers of each
SCRIPT_TIMEOUT_S = 60

# Workers, where the disks are, data level.
SETTINGS: list[tuple[int, str, Data]] = [
    (1, "file", "digest"),
    (1, "shm", "order"),
    (2, "file", "order"),
    (2, "shm", "digest"),
    (4, "shm", "digest"),
]


@pytest.fixture
def shm() -> Iterator[Path]:
    """A folder in memory, where requests take next to no time."""
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("needs a writable /dev/shm")
    folder = tempfile.mkdtemp(prefix="ringtape-test-", dir="/dev/shm")
    yield Path(folder)
    shutil.rmtree(folder)


def disks_in(folder: Path, name: str) -> list[Disk]:
    return [Disk(disk, folder / f"{disk}.img", size=SIZE) for disk in DISKS[name]]


def record(
    name: str, disks: list[Disk], tape: Path, *, workers: int, data: Data = "digest"
) -> ringtape.Result:
    """Record an example as a user does, by its file; it must not fail."""
    program = str(FOLDER / f"{name}.py")
    result = ringtape.record(program, disks=disks, workers=workers, seed=workers, tape=tape, data=data)
    result.raise_for_failures()
    assert len(result.returns) == workers
    return result


def check_replay(recorded: ringtape.Result, tape: Path) -> None:
    """Once for each setting: the determinism check, below, is what replays again and again."""
    replayed = ringtape.replay(tape)
    assert replayed.ended == "finished"
    assert replayed.digest == recorded.digest
    assert replayed.returns == recorded.returns


# ---- what holds for each


@pytest.mark.parametrize("name", sorted(DISKS.keys() - {"sqlite_vfs"}))  # which has tests of its own
@pytest.mark.parametrize(("workers", "place", "data"), SETTINGS)
def test_a_replay_is_the_recording(
    name: str, workers: int, place: str, data: Data, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = tmp_path if place == "file" else request.getfixturevalue("shm")
    tape = tmp_path / "run.tape"
    check_replay(record(name, disks_in(folder, name), tape, workers=workers, data=data), tape)


@needs_loop_devices
def test_a_replay_is_the_recording_on_block_devices(tmp_path: Path) -> None:
    tape = tmp_path / "run.tape"
    with ExitStack() as stack:
        files = [sparse(tmp_path / f"{disk}.img", SIZE) for disk in DISKS["pipeline"]]
        devices = [stack.enter_context(loop_device(file)) for file in files]
        disks = [
            Disk(disk, device, fresh=True) for disk, device in zip(DISKS["pipeline"], devices, strict=True)
        ]
        check_replay(record("pipeline", disks, tape, workers=2), tape)


# Found, so that a new example cannot be forgotten.
EXAMPLES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")
# Each disturbance by itself, and some together.
CHECK_REPLAYS = 5


@pytest.mark.parametrize("name", EXAMPLES)
def test_leaves_nothing_to_chance(name: str, tmp_path: Path) -> None:
    """The determinism check, on disks as the example itself says in its docstring how to record it."""
    program = FOLDER / f"{name}.py"
    command = re.search(rf"ringtape record examples/{name}\.py (.*)", program.read_text())
    assert command, f"{name} does not say how it is recorded"
    disks = [Disk.parse(text) for text in re.findall(r"--disk (\S+)", command[1])]
    assert disks
    result = ringtape.check(
        str(program),
        disks=[replace(disk, path=tmp_path / disk.path) for disk in disks],
        workers=2,
        runs=CHECK_REPLAYS,
        console=ringtape.Console(stdout=subprocess.DEVNULL),
    )
    result.raise_for_difference()
    result.recorded.raise_for_failures()
    assert (result.runs, result.recorded.ended) == (CHECK_REPLAYS, "finished")


@pytest.mark.parametrize("name", DISKS)
def test_runs_as_a_script(name: str, tmp_path: Path) -> None:
    """It shows recordings and replays that have the digest of the recording before them, and leaves nothing behind."""
    done = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py")],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SCRIPT_TIMEOUT_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    shown = re.findall(
        r"(recorded|replayed)\b.*?(same|DIFFERENT|requests), digest (\w+)$", done.stdout, re.MULTILINE
    )
    recordings, replays = (2, 4) if name == "pipeline" else (1, 1)
    assert len({digest for what, _, digest in shown if what == "recorded"}) == recordings, done.stdout
    assert [what for what, _, _ in shown] == [
        "recorded",
        *["replayed"] * (replays // recordings),
    ] * recordings
    for (_, _, before), (what, remark, digest) in itertools.pairwise(shown):
        if what == "replayed":
            assert (remark, digest) == ("same", before)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", DISKS)
def test_says_when_the_disks_are_too_small(name: str, tmp_path: Path) -> None:
    disks = [Disk(disk, tmp_path / disk, size="64K") for disk in DISKS[name]]
    result = ringtape.record(str(FOLDER / f"{name}.py"), disks=disks, seed=1, tape=tmp_path / "run.tape")
    [failure] = result.failures
    assert failure.exception == "ValueError"
    assert re.search(r"disk needs .*\d+ bytes", failure.message), failure.message


# ---- what each is about


def test_the_mirror_finds_the_damage_and_mends_it(tmp_path: Path) -> None:
    workers = 2
    result = record("mirror", disks_in(tmp_path, "mirror"), tmp_path / "run.tape", workers=workers)
    a, b = ((tmp_path / f"{disk}.img").read_bytes() for disk in DISKS["mirror"])
    assert a == b
    assert b"writer" in a
    for outcome in result.returns:
        assert len(outcome["damaged"]) == mirror.CHUNKS_DAMAGED
        assert outcome["found"] == outcome["damaged"]
        assert outcome["rebuilt"] == mirror.CHUNKS_DAMAGED
        assert outcome["left"] == []
        assert outcome["writes"] == mirror.WRITERS * mirror.WRITES
        assert sorted(outcome["order"]) == [
            (w, n) for w in range(mirror.WRITERS) for n in range(mirror.WRITES)
        ]


def test_the_mirror_rests_on_the_order_of_overlapping_requests(tmp_path: Path) -> None:
    """Side b, as the tape has it, got its writes in the order in which side a got them."""
    tape = tmp_path / "run.tape"
    record("mirror", disks_in(tmp_path, "mirror"), tape, workers=1)
    writes = written(tape)
    undamaged = mirror.WRITERS * mirror.WRITES
    assert writes["a"][:undamaged] == writes["b"][:undamaged]
    ranges = [range(offset, offset + length) for offset, length, _ in writes["a"][:undamaged]]
    overlaps = sum(
        one.start < other.stop and other.start < one.stop for one, other in itertools.pairwise(ranges)
    )
    assert overlaps > 0, "no two writes in a row overlap: the example shows nothing"


def requests_on(tape: Path) -> list[RequestRow]:
    with TapeReader.open(tape) as reader:
        return [row for row in iter_rows(reader) if isinstance(row, RequestRow)]


def written(tape: Path) -> dict[str, list[tuple[int, int, int | None]]]:
    """Offset, length and digest of every write on a tape, by disk."""
    writes: dict[str, list[tuple[int, int, int | None]]] = {}
    for row in requests_on(tape):
        if row.kind == messages_pb2.KIND_WRITE:
            writes.setdefault(row.disk, []).append((row.offset, row.length, row.digest))
    return writes


def test_the_journal_recovers_what_was_logged_and_drops_the_torn_tail(tmp_path: Path) -> None:
    workers = 2
    result = record("journal", disks_in(tmp_path, "journal"), tmp_path / "run.tape", workers=workers)
    data = (tmp_path / "data.img").read_bytes()
    logged = (tmp_path / "journal.img").read_bytes()
    part = SIZE // workers
    last = journal.APPLIED + journal.UNAPPLIED
    for worker, outcome in enumerate(result.returns):
        assert outcome["replayed"] == list(range(journal.APPLIED + 1, last + 1))
        assert outcome["torn"] == last + 1
        assert outcome["mended"], "all changes were on the data disk before the recovery"
        # The disks say the same: the table is at the last whole transaction, and the torn one is still in the journal.
        table = [
            struct.unpack_from("<Q", data, worker * part + slot * journal.BLOCK_BYTES)[0]
            for slot in range(journal.SLOTS)
        ]
        assert table == outcome["slots"]
        assert max(table) == last
        assert any(
            struct.unpack_from("<IIQ", logged, block)[2] == last + 1
            for block in range(worker * part + journal.BLOCK_BYTES, (worker + 1) * part, journal.BLOCK_BYTES)
        )


def test_the_journal_keeps_its_two_rules(tmp_path: Path) -> None:
    """As the tape has it: logged durably before the data changes, and forgotten when the changes are durable."""
    tape = tmp_path / "run.tape"
    record("journal", disks_in(tmp_path, "journal"), tape, workers=1)
    logged = forgotten = 0
    durable = True  # is all that was written to the data disk on stable storage?
    for row in requests_on(tape):
        match row.disk, row.kind:
            case "journal", messages_pb2.KIND_WRITE if row.offset:
                logged += row.flags == messages_pb2.REQUEST_FLAG_FUA
            case "journal", messages_pb2.KIND_WRITE:
                assert row.flags == messages_pb2.REQUEST_FLAG_FUA
                assert durable, f"request {row.id} forgets changes that are not durable"
                forgotten += 1
            case "data", messages_pb2.KIND_FSYNC:
                durable = True
            case "data", messages_pb2.KIND_WRITE | messages_pb2.KIND_WRITE_ZEROES:
                assert logged >= forgotten, f"request {row.id} changes what is not in the journal"
                durable = False
    # Every transaction but the torn one; at the beginning, after each that was applied, and after both recoveries.
    assert logged == journal.APPLIED + journal.UNAPPLIED
    assert forgotten == 1 + journal.APPLIED + 2


@pytest.mark.parametrize("place", ["file", "shm"])
def test_two_recordings_of_the_pipeline_differ(
    place: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Not in times alone: what the program did and returned is something else."""
    folder = tmp_path if place == "file" else request.getfixturevalue("shm")
    outcomes: list[dict[str, Any]] = []
    tapes = [tmp_path / "one.tape", tmp_path / "other.tape"]
    for tape in tapes:
        disks = [Disk(disk, folder / f"{disk}.img", size=SIZE, fresh=True) for disk in DISKS["pipeline"]]
        outcomes += record("pipeline", disks, tape, workers=1).returns
    assert outcomes[0]["stored"] != outcomes[1]["stored"]
    assert written(tapes[0]) != written(tapes[1])
    for outcome in outcomes:
        assert sorted(item for item, _, _ in outcome["stored"]) == list(range(pipeline.ITEMS))
