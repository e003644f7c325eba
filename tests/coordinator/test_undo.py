"""What is told of a block first goes to the tape, once; in a replay only what the tape has is answered."""

from __future__ import annotations

import random

import pytest

from ringtape.coordinator.errors import ProtocolError
from ringtape.coordinator.tape import NullTape
from ringtape.coordinator.undo import UndoKeeper
from ringtape.proto import tape_pb2, wire_pb2
from ringtape.proto.ranges import BlockSet

BLOCK = 512
DISKS = [
    tape_pb2.DiskHeader(name="plain", size=1 << 20, block_size=BLOCK),
    tape_pb2.DiskHeader(name="undone", size=1 << 20, block_size=BLOCK, undo=True),
]


class Kept(NullTape):
    def __init__(self) -> None:
        super().__init__()
        self.ranges: list[tuple[int, int, bytes]] = []

    def undo(self, disk: int, offset: int, data: bytes) -> None:
        self.ranges.append((disk, offset, data))


def test_the_first_that_is_told_of_a_block_is_kept_and_nothing_else() -> None:
    tape, rng = Kept(), random.Random(1)
    keeper = UndoKeeper(tape, DISKS)
    expected: dict[int, int] = {}
    for value in range(1, 60):
        first, count = rng.randrange(100), rng.randint(1, 20)
        before = wire_pb2.Before(disk=1, offset=first * BLOCK, data=bytes([value]) * (count * BLOCK))
        answer = keeper.before(value % 3, before)
        assert answer is not None
        assert (answer.kept.disk, answer.kept.offset) == (1, first * BLOCK)
        for block in range(first, first + count):
            expected.setdefault(block, value)
    kept: dict[int, int] = {}
    for disk, offset, data in tape.ranges:
        assert disk == 1
        for place in range(0, len(data), BLOCK):
            assert (offset + place) // BLOCK not in kept
            kept[(offset + place) // BLOCK] = data[place]
    assert kept == expected


def test_a_replay_is_answered_what_the_tape_has() -> None:
    allowed = {1: BlockSet()}
    allowed[1].add(4, 8)
    keeper = UndoKeeper(NullTape(), DISKS, allowed)

    def answered(first: int, count: int) -> bool:
        before = wire_pb2.Before(disk=1, offset=first * BLOCK, data=bytes(count * BLOCK))
        return keeper.before(0, before) is not None

    assert answered(4, 4)
    assert answered(5, 1)
    assert not answered(3, 2)
    assert not answered(7, 2)
    assert not answered(0, 1)


@pytest.mark.parametrize(
    ("disk", "offset", "length"),
    [
        (0, 0, 512),
        (2, 0, 512),
        (1, 0, 0),
        (1, 1, 512),
        (1, 0, 511),
        (1, 1 << 20, 512),
        (1, 0, (1 << 20) + 512),
    ],
)
def test_what_no_worker_tells_is_refused(disk: int, offset: int, length: int) -> None:
    with pytest.raises(
        ProtocolError, match=f"worker 5 told what {length} bytes at {offset} of disk {disk} held"
    ):
        UndoKeeper(NullTape(), DISKS).before(5, wire_pb2.Before(disk=disk, offset=offset, data=bytes(length)))
