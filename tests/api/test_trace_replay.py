"""Goal: a replay of a trace that is verified finds what was spoiled, and nothing else. Method: real files, spoiled."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ringtape
from ringtape import Disk, trace_program, trace_replaying, trace_verifying
from ringtape.engine.disks import probe
from ringtape.traces import KIND_NAMES
from tests.api.command_line import check_one_line
from tests.api.command_line import ringtape as command
from tests.programs import spoiling
from tests.traces.encoders import DISCARD, FSYNC, READ, TEXTS, WRITE, Row, read, write

BLOCK = 4096
TPCC = next(
    (
        path
        for folder in Path(__file__).resolve().parents[3:5]
        if (path := folder / "shared" / "traces" / "tpcc-small.trace").exists()
    ),
    Path("not here"),
)
# The middle one of the three blocks that the first writes is spoiled when that has completed.
ROWS = [
    (WRITE, 4, 3),
    (READ, 0, 4),
    (READ, 5, 1),
    (WRITE, 20, 2),
    (READ, 3, 4),
]


def trace_of(folder: Path, rows: list[tuple[int, int, int]]) -> Path:
    made = [
        Row(number * 1000, kind, "a", offset * BLOCK, length * BLOCK)
        for number, (kind, offset, length) in enumerate(rows)
    ]
    return write(folder / "trace", TEXTS["fio-iolog"].encode(made))


def replayed(trace: Path, **options: Any) -> ringtape.TraceReplay:
    done = ringtape.replay_trace(
        trace, disks=[Disk("a", "a.img", size="1M", fresh=True)], speed="max", verify=True, **options
    )
    done.result.raise_for_failures()
    return done


@pytest.mark.parametrize(
    ("program", "expected", "found"),
    [
        (spoiling.with_zeros, "what request 1 wrote", "zeros"),
        (spoiling.with_the_data_of_another_place, "what request 1 wrote", "what no request wrote there: "),
    ],
)
def test_a_block_that_something_else_has_changed_is_named(
    program: Any, expected: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trace = trace_of(tmp_path, ROWS)
    good = replayed(trace, depth=1).report["verify"]
    monkeypatch.setattr(trace_replaying, "main", program)
    verify = replayed(trace, depth=1).report["verify"]
    block = block_size_of(tmp_path)
    blocks = BLOCK // block
    spoiled = 1 if program is spoiling.with_zeros and block == 512 else blocks
    # One block by request 3, four by request 5 of which three are known, and the five written at the end.
    assert good == {"checked": (1 + 3 + 5) * blocks, "wrong": 0, "first": None}
    assert (verify["checked"], verify["wrong"]) == (good["checked"], 3 * spoiled)
    first = verify["first"]
    assert first["found"].startswith(found)
    assert (first["disk"], first["offset"], first["length"]) == ("a", 5 * BLOCK, block)
    assert (first["read_by"], first["expected"]) == (3, expected)


def block_size_of(folder: Path) -> int:
    return probe(str(folder / "a.img"), "a").block_size


def test_a_lost_write_shows_the_one_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second write goes to a block that has the first one's data when it is read: it never came."""
    monkeypatch.chdir(tmp_path)
    trace = trace_of(tmp_path, [(FSYNC, 0, 0), (WRITE, 5, 1), (READ, 5, 1)])
    assert replayed(trace).report["verify"]["wrong"] == 0
    monkeypatch.setattr(trace_replaying, "main", lost_write)
    verify = replayed(trace, depth=1).report["verify"]
    assert verify["wrong"] == verify["checked"] > 0
    assert (verify["first"]["expected"], verify["first"]["found"]) == (
        "what request 2 wrote",
        "what request 1 wrote",
    )


def lost_write(io: ringtape.BlockingWorker) -> Any:
    mark = trace_verifying._Written.mark

    def spoiled_mark(self: Any, first: int, count: int, sequence: int) -> None:
        mark(self, first, count, sequence)
        spoiling.spoil("a.img", 5 * BLOCK, spoiling.pattern(0, 0, 5 * BLOCK, BLOCK))

    trace_verifying._Written.mark = spoiled_mark  # type: ignore[method-assign]
    trace_program.ARRAY_ROWS = 1
    return trace_program.main(io)


def test_what_is_discarded_or_never_written_is_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [(READ, 0, 8), (WRITE, 2, 2), (DISCARD, 3, 100), (READ, 0, 16), (WRITE, 3, 1), (READ, 3, 2)]
    done = replayed(trace_of(tmp_path, rows), tape="run.tape")
    blocks = BLOCK // block_size_of(tmp_path)
    # Block 2 by request 4, block 3 by request 6, both at the end.
    assert done.report["verify"] == {"checked": 4 * blocks, "wrong": 0, "first": None}
    assert done.report["requests"] == 6
    again = ringtape.replay("run.tape")
    assert (again.digest, again.returns) == (done.result.digest, done.result.returns)


def test_writes_over_writes_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many requests that overlap, many at once: each read is held against the last write before it."""
    monkeypatch.chdir(tmp_path)
    rows = [((READ, WRITE)[n * 7 % 3 > 0], n * n % 61, 1 + n % 9) for n in range(3000)]
    verify = replayed(trace_of(tmp_path, rows), depth=64).report["verify"]
    assert verify["wrong"] == 0
    assert verify["checked"] > 4000


@pytest.mark.skipif(not TPCC.exists(), reason="the trace is not here")
def test_a_trace_of_the_field_keeps_its_order_over_all_its_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixteen devices on four disks, four on each; what was asked for is read from the tape."""
    monkeypatch.chdir(tmp_path)
    disks = [Disk(name, f"{name}.img", size="64M", fresh=True) for name in "abcd"]
    mapping = {str(device): f"{'abcd'[device % 4]}+{4 + device // 4 * 16}M" for device in range(16)}
    done = ringtape.replay_trace(TPCC, disks=disks, mapping=mapping, fit="wrap", speed="max", tape="run.tape")
    done.result.raise_for_failures()
    with ringtape.open_tape("run.tape") as tape:
        found = [
            (one.kind, one.disk, one.offset, one.length)
            for one in sorted(tape.requests(), key=lambda one: one.id)
        ]
    expected = []
    for row in read(TPCC):
        device, last = int(row.device), (12 << 20 if int(row.device) > 11 else 16 << 20)
        offset = min(row.offset % last, last - row.length) + ((4 + device // 4 * 16) << 20)
        expected.append((KIND_NAMES[row.kind], "abcd"[device % 4], offset, row.length))
    assert found == expected
    again = ringtape.replay("run.tape")
    assert (again.digest, again.returns) == (done.result.digest, done.result.returns)


def test_verify_from_the_command_line(tmp_path: Path) -> None:
    trace_of(tmp_path, ROWS)
    words = ("trace", "replay", "trace", "-d", "a=a.img,size=1M", "--verify")
    done = command(*words, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "blocks, 0 wrong" in done.stdout
    before = (tmp_path / "a.img").read_bytes()
    check_one_line(command(*words, "--overlap", "race", cwd=tmp_path), 2, "overlap 'race'", "verified")
    assert (tmp_path / "a.img").read_bytes() == before


def test_a_wrong_block_ends_the_command_with_code_1(tmp_path: Path) -> None:
    """The installed command, with the program of the replay spoiled by what python loads first."""
    trace_of(tmp_path, ROWS)
    root = str(Path(__file__).parents[2])
    write(
        tmp_path / "spoiled.py",
        "import sys\nfrom ringtape import cli, trace_replaying\nfrom tests.programs import spoiling\n"
        "trace_replaying.main = spoiling.with_zeros\nsys.exit(cli.main())\n",
    )
    done = subprocess.run(
        [
            sys.executable,
            "spoiled.py",
            "trace",
            "replay",
            "trace",
            "-d",
            "a=a.img,size=1M",
            "--verify",
            "--depth",
            "1",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )
    check_one_line(
        done, 1, "blocks were wrong", f"disk 'a' offset {5 * BLOCK}", "expected what request 1 wrote"
    )
    assert done.stdout
