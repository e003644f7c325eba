"""Goal: a benchmark measures on real data and leaves nothing behind, whatever ends it.

Method: each target is made small and looked at while it is there, and after its block has ended.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from ringtape.benchmarks import targets
from ringtape.benchmarks.errors import TargetUnavailable
from ringtape.benchmarks.targets import Setup


def left_over(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith("ringtape-bench-")]


def test_a_file_is_full_of_data_and_goes_away_even_after_a_failure(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="of the body"),
        targets.local_file(Setup(2 << 20, tmp_path)) as target,
    ):
        path = Path(target.path)
        content = path.read_bytes()
        assert len(content) == 2 << 20
        assert path.stat().st_blocks * 512 >= 2 << 20, "it has holes"
        assert len({block[:64] for block in _blocks(content)}) == 512
        raise OSError("an error of the body is not one of the target")
    assert not left_over(tmp_path)


def test_a_full_file_system_is_said_before_it_is_written_to(tmp_path: Path) -> None:
    size = 1 << 50
    with pytest.raises(TargetUnavailable, match="--size"), targets.local_file(Setup(size, tmp_path)):
        pass
    assert not left_over(tmp_path)


def test_signals_wait_until_a_target_is_made() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGHUP, lambda number, frame: seen.append(number))
    try:
        with targets.undisturbed():
            with targets.undisturbed():
                os.kill(os.getpid(), signal.SIGHUP)
            assert not seen
        assert seen == [signal.SIGHUP]
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("name", ["loop", "zram"])
def test_a_device_is_new_and_full_and_goes_away(name: str) -> None:
    before = set(os.listdir("/sys/block"))
    try:
        with targets.TARGETS[name](Setup(4 << 20)) as target:
            device = os.path.basename(target.path)
            if name == "zram":
                assert device not in before
            with open(target.path, "rb") as file:
                content = file.read()
            assert len(content) == 4 << 20
            assert bytes(4096) not in _blocks(content)
            backing_file = Path(f"/sys/block/{device}/loop/backing_file")
            backing = backing_file.read_text().strip() if name == "loop" else ""
    except TargetUnavailable as error:
        pytest.skip(str(error))
    if name == "zram":
        assert not os.path.exists(f"/sys/block/{device}") or device in before
    else:
        assert not os.path.exists(backing)
        assert not backing_file.exists() or backing_file.read_text().strip() != backing


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_zram_that_is_still_open_somewhere_is_removed_when_it_is_closed() -> None:
    try:
        with targets.zram(Setup(1 << 20)) as target:
            kept_open = os.open(target.path, os.O_RDONLY)
            # Closes while `zram` already tries to remove it, as the kernel does with the disks of a ring.
            closing = threading.Timer(3 * targets.REMOVE_AGAIN_S, os.close, (kept_open,))
            closing.start()
    except TargetUnavailable as error:
        pytest.skip(str(error))
    closing.join()
    assert not os.path.exists(f"/sys/block/{os.path.basename(target.path)}")


def _blocks(content: bytes) -> list[bytes]:
    return [content[offset : offset + 4096] for offset in range(0, len(content), 4096)]
