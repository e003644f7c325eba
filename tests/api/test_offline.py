"""Goal: a recording that keeps the data replays without disks, io_uring or liburing; its size follows what differs.

Method: programs as in `test_exactness`, recorded and replayed with their disks deleted; the command in a process that a
seccomp filter refuses rings and in which liburing does not import; data that is changed under a replay.
"""

from __future__ import annotations

import errno
import pickle
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ringtape
from ringtape import Disk, console
from ringtape.coordinator.tape import RequestRow, TapeReader, iter_rows, verify
from tests.api.command_line import SCRIPT, make_programs
from tests.api.command_line import ringtape as command
from tests.api.test_exactness import DISKS_MAX, WORKERS_MAX, machine, same, seeds
from tests.coordinator.tape.test_damage import frames_of, make_frame
from tests.programs import full, planned, scripted, sharing
from tests.programs.full import BLOCK, LARGE
from tests.programs.scripted import Script
from tests.programs.scripts import async_scripts, blocking_scripts
from tests.searching import slow


def check_offline(program: Callable[[Any], Any], scripts: list[Script], *, disks: int, seed: int) -> None:
    with machine(disks) as m:
        first, online, offline = (m.tape(f"{name}.tape") for name in ("first", "online", "offline"))
        recorded = ringtape.record(
            program,
            disks=m.disks,
            workers=len(scripts),
            seed=seed,
            arguments=scripts,
            tape=first,
            data="full",
        )
        m.put_back()
        same(recorded, ringtape.replay(first, output=online))
        for file in m.files:
            file.unlink()
        same(recorded, ringtape.replay(first, offline=True, output=offline))
        for tape in (online, offline):
            same(recorded, ringtape.replay(tape, offline=True))
            assert verify(tape).sound
        assert not any(file.exists() for file in m.files)


@slow(3)
@given(st.data(), st.integers(1, DISKS_MAX), seeds())
def test_asynchronous_programs_replay_without_disks(data: st.DataObject, disks: int, seed: int) -> None:
    scripts = data.draw(st.lists(async_scripts(disks), min_size=1, max_size=WORKERS_MAX))
    check_offline(scripted.run_async, scripts, disks=disks, seed=seed)


@slow(2)
@given(st.data(), st.integers(1, DISKS_MAX), seeds())
def test_blocking_programs_replay_without_disks(data: st.DataObject, disks: int, seed: int) -> None:
    scripts = data.draw(st.lists(blocking_scripts(disks), min_size=1, max_size=WORKERS_MAX))
    check_offline(scripted.run_blocking, scripts, disks=disks, seed=seed)


@pytest.mark.parametrize("program", [full.large, full.failing, full.unawaited])
def test_odd_requests_replay_without_disks(program: Callable[[Any], Any], tmp_path: Path) -> None:
    """Longer than a piece; cut short; failed; ended without being waited for."""
    image, tape, again = tmp_path / "a.img", tmp_path / "t", tmp_path / "again"
    recorded = ringtape.record(
        program, disks=[Disk("a", image, size="8M")], arguments=str(image), tape=tape, data="full"
    )
    image.unlink()
    same(recorded, ringtape.replay(tape, offline=True, output=again))
    same(recorded, ringtape.replay(again, offline=True))
    if program is full.failing:
        seen = recorded.failures[0].message
        assert seen.startswith(f"[{2 * BLOCK}, 0, {BLOCK}, {4 * BLOCK}, ") and "EFBIG" not in seen
        assert "File too large" in seen
    assert verify(tape).sound and verify(again).sound
    # In another order, perhaps, but no more and no less.
    assert abs(again.stat().st_size - tape.stat().st_size) < BLOCK


@pytest.mark.parametrize("length", [BLOCK, 16 << 20])
def test_the_same_data_costs_its_size_once(length: int, tmp_path: Path) -> None:
    tape = tmp_path / "t"
    size = "64M" if length > BLOCK else "4M"
    disks = [Disk("a", tmp_path / "a", size=size)]
    recorded = ringtape.record(full.zeros, disks=disks, arguments=length, tape=tape, data="full")
    assert tape.stat().st_size < 40_000
    same(recorded, ringtape.replay(tape, offline=True))
    with TapeReader.open(tape) as reader:
        assert len(list(reader.blocks())) > 0
        assert reader.contents.count == (1 if length <= 1 << 20 else 2)


def test_workers_share_what_is_the_same(tmp_path: Path) -> None:
    tape = tmp_path / "t"
    disks = [Disk("a", tmp_path / "a.img", size="8M")]
    recorded = ringtape.record(full.large, disks=disks, workers=1, seed=5, tape=tape, data="full")
    size = tape.stat().st_size
    plan = [[[planned.Planned("write", 0, worker * 8, 1, False, 7)]] for worker in range(3)]
    assert recorded.requests and size < 2 * LARGE + (1 << 20), "the data that was read is what was written"
    (tmp_path / "plan").write_bytes(pickle.dumps(plan))
    ringtape.record(
        planned.run_async,
        disks=disks,
        workers=3,
        arguments=str(tmp_path / "plan"),
        tape=tape,
        data="full",
    )
    with TapeReader.open(tape) as reader:
        assert sum(len(block.tables.request_contents) for block in reader.blocks()) == 24
        assert reader.contents.count == 1


@pytest.mark.parametrize("program", [sharing.count, sharing.talk_blocking])
def test_workers_that_race_and_talk_replay_without_disks(
    program: Callable[[Any], Any], tmp_path: Path
) -> None:
    """Nothing is admitted offline, and the order is the recorded one all the same."""
    tape, disk = tmp_path / "t", Disk("shared", tmp_path / "a.img", size="1M")
    recorded = ringtape.record(program, disks=[disk], workers=3, tape=tape, data="full")
    (tmp_path / "a.img").unlink()
    again = tmp_path / "again"
    same(recorded, ringtape.replay(tape, offline=True, output=again))
    same(recorded, ringtape.replay(again, offline=True))


# ---- where there is neither


_SECCOMP = """
import ctypes, runpy, struct, sys
number = {number}
code = struct.pack("HBBI" * 4, 0x20, 0, 0, 0, 0x15, 0, 1, number, 6, 0, 0, 0x50000 | {errno}, 6, 0, 0, 0x7FFF0000)
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
if libc.prctl(22, 2, ctypes.byref(Program(4, code)), 0, 0):
    sys.exit(77)
sys.argv = ["ringtape", *sys.argv[1:]]
runpy.run_path({script!r}, run_name="__main__")
"""


def without_ring(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command where io_uring_setup is refused, as a container's default profile does."""
    code = _SECCOMP.format(number=425, errno=errno.EPERM, script=SCRIPT)
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode == 77:
        pytest.skip("seccomp filters are not to be had here")
    return done


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="the filter is for these")
def test_it_needs_no_io_uring(tmp_path: Path) -> None:
    make_programs(tmp_path)
    recorded = command(
        *("record", "prog.py", "-d", "a=a.img,size=1M", "-w", "2", "--data", "full", "--json"), cwd=tmp_path
    )
    assert recorded.returncode == 0, recorded.stderr
    (tmp_path / "a.img").unlink()
    refused = without_ring("replay", "run.tape", cwd=tmp_path)
    assert refused.returncode == 5 and "seccomp" in refused.stderr
    offline = without_ring("replay", "run.tape", "--offline", "--json", cwd=tmp_path)
    assert offline.returncode == 0, offline.stderr
    digest = re.compile(r'"digest": "\w+"')
    assert digest.findall(offline.stdout) == digest.findall(recorded.stdout) != []
    assert not (tmp_path / "a.img").exists()


def test_it_does_not_even_load_liburing(tmp_path: Path) -> None:
    make_programs(tmp_path)
    words = ("record", "prog.py", "-d", "a=a.img,size=1M", "-w", "2", "--data", "full")
    assert command(*words, cwd=tmp_path).returncode == 0
    (tmp_path / "absent").mkdir()
    (tmp_path / "absent" / "liburing.py").write_text("raise ImportError('not here')\n")
    there = command("replay", "run.tape", cwd=tmp_path, PYTHONPATH=str(tmp_path / "absent"))
    assert "not here" in there.stderr, "the test hides nothing"
    offline = command("replay", "run.tape", "--offline", cwd=tmp_path, PYTHONPATH=str(tmp_path / "absent"))
    assert offline.returncode == 0, offline.stderr


def test_what_cannot_be_is_said_in_a_line(tmp_path: Path) -> None:
    make_programs(tmp_path)
    image, tape = tmp_path / "a.img", tmp_path / "t"
    for data, arguments, said in (
        (
            "digest",
            {},
            f"{tape} cannot be replayed offline: it does not have the data; record with data level full",
        ),
        (
            "full",
            {"disks": [Disk("a", image)]},
            "an offline replay opens no disk: there is nothing to say or to force",
        ),
        ("full", {"force": True}, "an offline replay opens no disk: there is nothing to say or to force"),
    ):
        if not tape.exists() or data == "full":
            disks = [Disk("a", image, size="1M")]
            ringtape.record(full.nothing, disks=disks, tape=tape, data=data)  # type: ignore[arg-type]
        with pytest.raises(ringtape.UsageError, match=re.escape(said)):
            ringtape.replay(tape, offline=True, **arguments)  # type: ignore[arg-type]
    done = command("replay", "t", "--offline", "-o", "a.img", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "is disk 'a' of this run and cannot be its tape" in done.stderr


# ---- data that is not the tape's


def diverged(tape: Path, **arguments: Any) -> ringtape.Divergence:
    with pytest.raises(ringtape.Divergence) as caught:
        ringtape.replay(tape, **arguments)
    return caught.value


def record_writers(folder: Path, data: Any) -> tuple[Path, Path]:
    image, tape = folder / "a.img", folder / f"{data}.tape"
    image.write_bytes(bytes(16 * BLOCK))
    ringtape.record(
        full.writers,
        disks=[Disk("a", image)],
        workers=2,
        arguments=str(folder),
        tape=tape,
        data=data,
    )
    image.write_bytes(bytes(16 * BLOCK))
    return image, tape


@pytest.mark.parametrize("data", ["digest", "full"])
def test_a_read_of_other_data_names_who_wrote_it_last(data: str, tmp_path: Path) -> None:
    """Between write and read another hand changes a byte: of a range that one, two or none have written."""
    image, tape = record_writers(tmp_path, data)
    with TapeReader.open(tape) as reader:
        requests = [row for row in iter_rows(reader) if isinstance(row, RequestRow)]
    whole, second, initial = (row.id for row in requests if row.worker == 0)
    wrote, wrote_again, zeroed = (row for row in requests if row.worker == 1)
    for at, read, last in (
        (3 * BLOCK + 20, whole, wrote if data == "full" else zeroed),
        (BLOCK + 20, whole, wrote_again if data == "full" else zeroed),
        (2 * BLOCK + 20, whole, zeroed),
        (8 * BLOCK + 20, initial, None),
    ):
        image.write_bytes(bytes(16 * BLOCK))
        (tmp_path / "tamper").write_text(str(at))
        error = diverged(tape)
        assert (error.worker, error.request_id) == (0, read)
        assert error.last_writer is not None
        assert (error.last_writer.request_id, error.last_writer.worker, error.last_writer.checkpoint) == (
            (None, None, None) if last is None else (last.id, 1, last.checkpoint)
        )
        assert f"; last recorded writer: {error.last_writer}" in str(error)
        assert ("initial contents" if last is None else f"worker 1, request id {last.id},") in str(error)
        old = {wrote: "01", wrote_again: "02"}.get(last, "00") if data == "full" else ""
        lines = [line.split() for line in error.difference.splitlines()[1:]]
        there = at // 16 * 16
        row = [f"{there:#x}", *[old] * 16, *[old] * 4, "05", *[old] * 11]
        assert lines == ([row] if data == "full" else [])
    assert second not in (whole, initial)


def test_a_write_of_other_data_shows_the_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Online and offline alike, in a request of several pieces; and the command shows it."""
    tape, plan = tmp_path / "run.tape", tmp_path / "plan"
    write = planned.Planned("write", 0, 0, 600, False, 7)
    plan.write_bytes(pickle.dumps([[[write]]]))
    disks = [Disk("a", tmp_path / "a.img", size="8M", fresh=True)]
    ringtape.record(planned.run_async, disks=disks, arguments=str(plan), tape=tape, data="full")
    plan.write_bytes(pickle.dumps([[[write._replace(value=8)]]]))
    for offline in (False, True):
        error = diverged(tape, offline=offline)
        assert error.request_id == 1 and error.last_writer is None
        lines = error.difference.splitlines()
        assert [line.split() for line in lines[1:3]] == [
            ["0x0", *["07"] * 16, *["08"] * 16],
            ["0x10", *["07"] * 16, *["08"] * 16],
        ]
        assert (
            len(lines) == 10
            and lines[-1] == f"and {(1 << 16) - 8} more lines of this piece of {1 << 20} bytes"
        )
    assert console.fail(error) == 3
    shown = capsys.readouterr().err
    assert all(f"  {line}\n" in shown for line in lines), shown


def test_a_tape_whose_data_was_changed_is_damaged(tmp_path: Path) -> None:
    """By somebody who makes the checksum fit: what is told then is never other data."""
    tape, image = tmp_path / "t", tmp_path / "a.img"
    ringtape.record(full.large, disks=[Disk("a", image, size="8M")], tape=tape, data="full")
    data = bytearray(tape.read_bytes())
    offset, frame = next((at, one) for at, one in frames_of(bytes(data)) if one.type == 6)
    stored = bytearray(frame.stored)
    assert frame.codec == 0, "random data does not compress"
    stored[-1] ^= 1
    data[offset : offset + frame.frame_bytes] = make_frame(6, bytes(stored))
    tape.write_bytes(data)
    report = verify(tape)
    assert not report.sound and "have digest" in report.damages[0].problem
    with pytest.raises(ringtape.TapeDamaged, match="have digest"):
        ringtape.replay(tape, offline=True)
