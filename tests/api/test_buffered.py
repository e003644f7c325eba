"""Goal: a buffered disk is open without O_DIRECT, in a recording, its replay and a plain run, and only that one.

Method: a program looks at the flags of its own descriptors.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import ringtape
from ringtape import Disk
from ringtape.engine.disks import probe
from tests.programs import opened


@pytest.mark.parametrize("buffered", [False, True])
def test_a_buffered_disk_is_open_without_o_direct_and_in_its_replay_too(
    tmp_path: Path, *, buffered: bool
) -> None:
    path, tape = tmp_path / "a.img", tmp_path / "tape"
    path.write_bytes(bytes(1 << 16))
    if not probe(str(path), "a").direct:
        pytest.skip("this file system has no O_DIRECT")
    disks = [Disk("a", path, buffered=buffered)]
    expected = [[not buffered]]
    assert ringtape.run(opened.direct, disks=disks, arguments=str(path)).returns == expected
    recorded = ringtape.record(opened.direct, disks=disks, arguments=str(path), tape=tape)
    assert recorded.returns == expected
    again = ringtape.replay(tape)
    assert (again.returns, again.digest) == (expected, recorded.digest)


def test_the_command_line_has_it_too() -> None:
    assert Disk.parse("a=a.img,size=64M,buffered") == Disk("a", "a.img", "64M", buffered=True)
