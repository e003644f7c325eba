"""Goal: a check finds what is left to chance, lets nothing else worry its user, and touches none of his files.

Method: programs that are deterministic and programs that are not, on disks of each kind.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

import ringtape
from ringtape import Disk
from ringtape.conditions import conditions_of
from ringtape.proto import tape_pb2
from tests.api.command_line import SCRIPT, check_one_line, record
from tests.api.command_line import ringtape as script
from tests.engine.loop_devices import loop_device, needs_loop_devices, sparse
from tests.programs import inspected
from tests.programs.inspected import BLOCK

SIZE = 256 * BLOCK
PROGRAM = Path(inspected.__file__)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that holds something; temporary folders are beside it."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "tmp").mkdir()
    path = tmp_path / "kept.img"
    path.write_bytes(bytes(range(256)) * (SIZE // 256))
    return path


def test_a_program_that_leaves_nothing_to_chance_is_the_same(kept: Path) -> None:
    before = kept.read_bytes(), kept.stat().st_mtime_ns
    told: list[tuple[int, str]] = []
    made, fresh = kept.with_name("made.img"), kept.with_name("fresh.img")
    disks = [Disk("a", kept), Disk("b", made, size=SIZE), Disk("c", fresh, size=SIZE, fresh=True)]
    result = ringtape.check(
        inspected.leaves_nothing_to_chance,
        disks=disks,
        seed=3,
        runs=3,
        on_replay=lambda number, conditions: told.append((number, conditions)),
        console=ringtape.Console(stdout=subprocess.DEVNULL),
    )
    assert (result.difference, result.runs, result.tape) == (None, 3, None)
    assert result.recorded.requests == 4
    result.raise_for_difference()
    assert [number for number, _ in told] == [1, 2, 3]
    assert told[0][1] == "at most 1 request in the kernel"
    assert "kept back for up to" in told[1][1] and "held up at checkpoints" in told[2][1]
    # Nothing is left but what was there.
    assert (kept.read_bytes(), kept.stat().st_mtime_ns) == before
    assert not made.exists() and not fresh.exists()
    assert list((kept.parent / "tmp").iterdir()) == []


def test_a_program_that_writes_begins_each_time_with_what_its_disk_held(kept: Path) -> None:
    before = kept.read_bytes()
    result = ringtape.check(inspected.writes, disks=[Disk("a", kept)], runs=2)
    assert result.difference is None
    assert kept.read_bytes() == before


@pytest.mark.parametrize("program", ["by_chance", "by_the_clock"])
def test_what_is_left_to_chance_is_found_and_can_be_had_again(program: str, kept: Path) -> None:
    # One of 256 replays by chance is the recording.
    words = ("check", f"{PROGRAM}:{program}", "-d", f"a={kept}", "--json")
    done = script(*words, cwd=kept.parent, TMPDIR=str(kept.parent / "tmp"))
    assert done.returncode == 3, done.stderr
    result = json.loads(done.stdout)
    difference = result["difference"]
    assert (result["same"], difference["kind"]) == (False, "Divergence")
    assert difference["replay"] == result["runs"] <= 20
    assert difference["error"].startswith("divergence in worker 0 after checkpoint")
    assert "inspected.py" in done.stderr, "the line that made the request"
    # The command that is given finds it again: it is left to chance, so in one of a few tries.
    environment = {"PATH": f"{Path(SCRIPT).parent}:/usr/bin:/bin"}
    codes = [
        subprocess.run(
            ["bash", "-c", difference["repeat"]], env=environment, cwd=kept.parent, capture_output=True
        ).returncode
        for _ in range(2)
    ]
    assert 3 in codes and set(codes) <= {0, 3}
    assert f"--disturb {difference['replay']}" in difference["repeat"]


def test_the_command_for_people(kept: Path) -> None:
    keep = kept.with_name("kept.tape")
    words = (f"{PROGRAM}:leaves_nothing_to_chance", "-d", f"a={kept}", "--runs", "1", "--keep", str(keep))
    done = script("check", *words, "--seed", "5", cwd=kept.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(
        "the same: 1 replay under other conditions, all with the digest of the recording\n"
    )
    assert "seed         5\n" in done.stdout and str(keep) in done.stdout
    assert ringtape.replay(keep, disks=[Disk("a", kept)]).ended == "finished"


def test_a_program_that_raises_raises_in_each_and_that_is_said(tmp_path: Path) -> None:
    words = (f"{PROGRAM}:fails", "-d", "a=a.img,size=64K,fresh", "--runs", "1")
    done = script("check", *words, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.startswith("the same: 1 replay")
    assert "worker 0 raised ValueError" in done.stderr and "as it must" in done.stderr


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--runs", "0"), "runs 0 must be a whole number from 1"),
        (("-d", "a=nothing.img"), "disk 'a'"),
        (("-d", "a=kept.img", "-d", "b=kept.img"), "are the same storage"),
    ],
)
def test_what_cannot_be_is_one_line(words: tuple[str, ...], text: str, kept: Path) -> None:
    done = script("check", f"{PROGRAM}:touches", *words, cwd=kept.parent, TMPDIR=str(kept.parent / "tmp"))
    check_one_line(done, 2, text)
    assert list((kept.parent / "tmp").iterdir()) == []


@needs_loop_devices
def test_a_block_device_has_to_be_given_up(tmp_path: Path) -> None:
    with loop_device(sparse(tmp_path / "disk.img", SIZE)) as device:
        with pytest.raises(ringtape.DiskError, match="say fresh to give it up"):
            ringtape.check(inspected.leaves_nothing_to_chance, disks=[Disk("a", device)], runs=1)
        disk = Disk("a", device, fresh=True)
        assert ringtape.check(inspected.leaves_nothing_to_chance, disks=[disk], runs=1).difference is None


def test_conditions_follow_from_the_tape_and_the_number() -> None:
    header = tape_pb2.Header(workers=3, seed=9)
    seal = tape_pb2.Seal(requests=300, tokens=30)
    several = [conditions_of(header, seal, number) for number in range(1, 40)]
    assert several == [conditions_of(header, seal, number) for number in range(1, 40)]
    assert len({one.text for one in several}) > 20
    for one in several:
        assert len(one.disturbances) == 3
        assert any(
            other.kernel_depth_max
            or other.completion_delay_ns_max
            or other.checkpoint_delay_ns_max
            or other.cpus
            for other in one.disturbances
        )
    # What slows a long run down is less each time, so that all of it is about as long.
    longer = conditions_of(header, tape_pb2.Seal(requests=300_000_000, tokens=30), 2)
    assert 0 < max(one.completion_delay_ns_max for one in longer.disturbances) < 1000


def test_any_tape_can_be_replayed_under_the_conditions_of_a_check(tmp_path: Path) -> None:
    shutil.copy(PROGRAM, tmp_path / "prog.py")
    recorded = record(tmp_path, "prog.py:writes", disks=["a=a.img,size=1M,fresh"], workers=2)
    done = script("replay", "run.tape", "--disturb", "7", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["digest"] == recorded.digest
