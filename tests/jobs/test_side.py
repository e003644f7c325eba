"""What workers tell beside a run is read whole; it goes into that run's file, or nowhere."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from ringtape.jobs import side
from ringtape.jobs.side import Ended, LiveDisk, Side, SoFar, Usage, place_of, side_file


def memory_files() -> list[str]:
    """Those of this process that are of this kind."""
    links = [entry.readlink() for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    return [str(link) for link in links if "ringtape-side" in str(link)]


def test_the_file_is_gone_afterwards_whatever_happens() -> None:
    with side_file() as file:
        assert len(memory_files()) == 1
        assert Side.open(place_of(file, 0, 0), 1) is not None
    with pytest.raises(KeyboardInterrupt), side_file() as other:
        raise KeyboardInterrupt
    assert memory_files() == []
    assert Side.open(place_of(file, 0, 0), 1) is None
    assert Side.open(place_of(other, 0, 0), 1) is None


def test_another_file_under_its_number_is_left_alone(tmp_path: Path) -> None:
    """As a replay may find it: the program's arguments name a descriptor of a process that is long gone."""
    with side_file() as first:
        pass
    path = tmp_path / "somebodys"
    path.write_bytes(b"theirs")
    for again in (path.open("r+b"), side_file()):
        with again as other:
            if isinstance(other, str):
                assert other.partition(" ")[0] == first.partition(" ")[0], "the number was to be the same"
            else:
                assert other.fileno() == int(first.partition(" ")[0].rpartition("/")[2])
            assert Side.open(place_of(first, 0, 0), 1) is None
            so_far = SoFar(place_of(first, 0, 0))
            so_far.tell(lambda: 1 / 0)
    assert path.read_bytes() == b"theirs"


def test_each_worker_and_job_has_a_place_of_its_own() -> None:
    """And what is told anew takes the place of what was told before, longer or shorter."""
    places = [(0, 0), (0, 1), (1, 0), (0, 1023), (200, 1023)]
    with side_file() as file:
        for round_ in range(3):
            for job, worker in places:
                if not round_:
                    assert side.read_so_far(place_of(file, job, worker)) is None
                    assert side.read_end(place_of(file, job, worker)) is None
                told = (round_, job, worker, "x" * (2 - round_) * 100_000)
                SoFar(place_of(file, job, worker)).tell(lambda told=told: told)
            for job, worker in places:
                assert side.read_so_far(place_of(file, job, worker))[:3] == (round_, job, worker)
        for job, worker in places:
            one = Side.open(place_of(file, job, worker), 2)
            assert one is not None
            one.show(job, [LiveDisk(worker, 2, 3, 4)] * 2, ended=False)
            one.end(Ended({}, Usage(user_s=job + worker), (worker,)))
        for job, worker in places:
            assert side.read_live(place_of(file, job, worker)) == (job, False, ((worker, 2, 3, 4),) * 2)
            ended = side.read_end(place_of(file, job, worker))
            assert ended is not None
            assert (ended.usage.user_s, ended.depths) == (job + worker, (worker,))


def test_what_was_told_before_stays_until_the_new_is_there_as_a_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with side_file() as file:
        place = place_of(file, 0, 0)
        for number in range(3):
            SoFar(place).tell(lambda number=number: number)
        # Cut off where a kill may: all but the last step.
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", lambda *_: 0)
            SoFar(place).tell(lambda: "half")
        assert side.read_so_far(place) == 2


def test_what_has_no_room_is_not_told() -> None:
    with side_file() as file:
        place = place_of(file, 0, 0)
        SoFar(place).tell(lambda: 1)
        so_far = SoFar(place)
        so_far.tell(lambda: np.zeros(side._HALF_BYTES, np.uint8))
        so_far.tell(lambda: 2, ended=True)
        assert side.read_so_far(place) == 1
