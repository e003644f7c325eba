"""Goal: many workers finish, many requests leave the coordinator's memory as it is, and nobody has to come up for air.

Method: whole runs; the coordinator, which is this process, looks at its own memory while it conducts them.
RINGTAPE_TEST_REQUESTS=2000000 makes the long run longer.
"""

from __future__ import annotations

import os
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import ringtape
from ringtape import Console, Disk, Progress
from tests.programs import many

REQUESTS = int(os.environ.get("RINGTAPE_TEST_REQUESTS", "200000"))
MIB = 1 << 20
# Of what the coordinator has after a quarter of the run; the rest of the run would add this much if it kept but a
# few bytes of each request.
GROWTH_BYTES_MAX = 4 * MIB


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory, where there is such a place: the disk under the tape is not what is measured."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="ringtape-", dir=shared if shared.is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringtape.coordinator.supervisor.PROGRESS_EVERY_NS", 10_000_000)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


class Memory:
    """What this process has, as often as it shows its progress."""

    def __init__(self) -> None:
        self.samples: list[tuple[int, int]] = []
        self.console = Console(on_progress=self.look)

    def look(self, progress: Progress) -> None:
        self.samples.append((progress.requests, resident_bytes()))

    def growth(self, requests: int) -> int:
        """From the most in the first quarter of the requests to the most in what follows."""
        first = [memory for made, memory in self.samples if made <= requests / 4]
        rest = [memory for made, memory in self.samples if made > requests / 4]
        assert len(first) >= 2 and len(rest) >= 2, self.samples
        return max(rest) - max(first)


def test_64_workers_finish(tmp_path: Path) -> None:
    disk = Disk("a", tmp_path / "a.img", size=64 * many.BLOCK)
    recorded = ringtape.record(many.small, disks=[disk], workers=64, tape=tmp_path / "tape")
    assert recorded.returns == [index * many.BLOCK for index in range(64)]
    again = ringtape.replay(tmp_path / "tape")
    assert (again.digest, again.returns) == (recorded.digest, recorded.returns)


@pytest.mark.timeout(0 if REQUESTS > 1_000_000 else 120)
def test_many_requests_leave_memory_flat(folder: Path) -> None:
    disk, tape = Disk("a", folder / "a.img", size="1M"), folder / "tape"
    recording, replaying = Memory(), Memory()
    recorded = ringtape.record(
        many.deep, disks=[disk], arguments=REQUESTS, tape=tape, console=recording.console
    )
    again = ringtape.replay(tape, console=replaying.console)
    assert recorded.requests == REQUESTS
    assert again.digest == recorded.digest
    for name, run, memory in (("record", recorded, recording), ("replay", again, replaying)):
        growth = memory.growth(REQUESTS)
        print(
            f"{name}: {run.requests} requests at {run.requests / run.elapsed_s:.0f}/s, "
            f"{max(bytes_ for _, bytes_ in memory.samples) / MIB:.1f} MiB at most, grew by {growth / MIB:.1f} MiB, "
            f"tape {tape.stat().st_size / MIB:.1f} MiB"
        )
        assert growth < GROWTH_BYTES_MAX, memory.samples


def test_a_program_may_make_very_many_requests_before_it_waits(folder: Path) -> None:
    """More than a link holds, than a coordinator reads ahead in a replay, than a ring has entries."""
    count = 100_000
    disk, tape = Disk("a", folder / "a.img", size="1M"), folder / "tape"
    memory, before = Memory(), resident_bytes()
    recorded = ringtape.record(
        many.all_at_once, disks=[disk], arguments=count, tape=tape, console=memory.console
    )
    again = ringtape.replay(tape, console=memory.console)
    assert recorded.returns == again.returns == [count * many.BLOCK]
    assert recorded.digest == again.digest
    assert max(bytes_ for _, bytes_ in memory.samples) - before < 100 * MIB
