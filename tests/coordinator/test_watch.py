"""Goal: a watch tells of every request that touches a range, in the order of ids, with the right digests.

Method: Hypothesis makes requests of two workers, what came of each and in which order the workers tell of it; a model
that has the whole disk as bytes says what each range held before and after.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from ringtape.coordinator.errors import ProtocolError
from ringtape.coordinator.requests import Place
from ringtape.coordinator.watch import Range, Watch, WatchedRequest
from ringtape.proto import messages_pb2, wire_pb2
from tests.searching import slow

SIZE = 64
RANGES = [Range(0, "a", 8, 16, True), Range(0, "a", 20, 12, True), Range(1, "b", 0, SIZE, False)]
READ, WRITE, ZEROES, DISCARD = 1, 2, 3, 4


@dataclass
class Made:
    worker: int
    kind: int
    disk: int
    offset: int
    data: bytes
    result: int


@st.composite
def requests(draw: st.DrawFn) -> list[Made]:
    made = []
    for number in range(draw(st.integers(1, 12))):
        offset = draw(st.integers(0, SIZE - 1))
        length = draw(st.integers(1, SIZE - offset))
        kind = draw(st.sampled_from((READ, WRITE, ZEROES, DISCARD)))
        failed = draw(st.integers(0, 4)) == 0
        whole = length if kind in (READ, WRITE) else 0
        result = -5 if failed else draw(st.integers(0, whole)) if draw(st.booleans()) else whole
        data = bytes([number + 1]) * length
        made.append(Made(draw(st.integers(0, 1)), kind, draw(st.integers(0, 1)), offset, data, result))
    return made


def model(made: list[Made], *, loaded: bool) -> list[tuple[int, str, int | None, int | None]]:
    """Id, range and digests before and after of each request that touches one; None in a byte is unknown."""
    disks: list[list[int | None]] = [[0 if loaded else None] * SIZE for _ in range(2)]

    def digest(one: Range) -> int | None:
        held = disks[one.disk][one.offset : one.end]
        return None if None in held else xxh3_64_intdigest(bytes(byte or 0 for byte in held))

    told = []
    for number, request in enumerate(made, 1):
        touched = [
            one
            for one in RANGES
            if one.disk == request.disk
            and one.offset < request.offset + len(request.data)
            and request.offset < one.end
        ]
        before = [digest(one) for one in touched]
        new: list[int | None] = list(request.data[: max(request.result, 0)])
        if request.kind in (ZEROES, DISCARD) and request.result >= 0:
            new = [0 if request.kind == ZEROES or request.disk == 0 else None] * len(request.data)
        disks[request.disk][request.offset : request.offset + len(new)] = new
        told += [(number, str(one), was, digest(one)) for one, was in zip(touched, before, strict=True)]
    return told


def tell(watch: Watch, request: Made, sequence: int, *, completed: bool) -> None:
    """As a worker does: what it writes when it makes a request, what it has read when that has completed."""
    touches = [
        (max(one.offset, request.offset), min(one.offset + one.length, request.offset + len(request.data)))
        for one in watch.merged()
        if one.disk == request.disk
    ]
    touches = [(start, end) for start, end in touches if start < end]
    if not touches:
        return
    for start, end in touches:
        piece = request.data[start - request.offset : end - request.offset]
        if completed:
            piece = piece[: max(request.offset + request.result - start, 0)] if request.kind == READ else b""
        elif request.kind != WRITE:
            piece = b""
        if piece or not completed:
            watch.touched(request.worker, wire_pb2.Touched(sequence=sequence, offset=start, data=piece))
    if completed:
        watch.touched(
            request.worker, wire_pb2.Touched(sequence=sequence, completed=True, result=request.result)
        )


def columns(request: Made) -> messages_pb2.Requests:
    return messages_pb2.Requests(
        kind=bytes([request.kind]),
        flags=b"\0",
        disk=struct.pack("<H", request.disk),
        offset=struct.pack("<Q", request.offset),
        length=struct.pack("<Q", len(request.data)),
    )


@slow(40)
@given(requests(), st.booleans(), st.integers(0, 1 << 32))
def test_it_tells_what_a_model_of_the_disks_says(made: list[Made], loaded: bool, chance: int) -> None:
    seen: list[WatchedRequest] = []
    watch = Watch(RANGES, ["a", "b"], 2, seen.append)
    if loaded:
        watch.load(lambda one: bytes(one.length))
    sequences = [sum(other.worker == one.worker for other in made[:i]) for i, one in enumerate(made)]
    # Each request is made, then the tape comes to it in the order of ids, and it completes when it likes.
    order = random.Random(chance)
    unmade = {worker: [i for i, one in enumerate(made) if one.worker == worker] for worker in (0, 1)}
    uncompleted: list[int] = []
    came, is_made = 0, [False] * len(made)
    while any(unmade.values()) or came < len(made) or uncompleted:
        acts = [("make", worker) for worker, left in unmade.items() if left]
        acts += [("complete", i) for i in uncompleted]
        if came < len(made) and is_made[came]:
            acts.append(("come", came))
        act, which = order.choice(acts)
        if act == "make":
            i = unmade[which].pop(0)
            tell(watch, made[i], sequences[i], completed=False)
            is_made[i] = True
            uncompleted.append(i)
        elif act == "complete":
            uncompleted.remove(which)
            tell(watch, made[which], sequences[which], completed=True)
        else:
            watch.requests(columns(made[came]), 1, Place(made[came].worker, 0, came + 1, sequences[came]))
            came += 1
    told = [(one.request.id, one.range, one.before, one.after) for one in seen]
    assert told == model(made, loaded=loaded)
    assert [one.result for one in seen] == [made[one.request.id - 1].result for one in seen]


def test_what_has_not_completed_is_told_at_the_end() -> None:
    seen: list[WatchedRequest] = []
    watch = Watch(RANGES[:1], ["a", "b"], 1, seen.append)
    watch.load(lambda one: bytes(one.length))
    for sequence, kind in enumerate((WRITE, READ)):
        request = Made(0, kind, 0, 0, b"x" * 32, 32)
        tell(watch, request, sequence, completed=False)
        watch.requests(columns(request), 1, Place(0, 0, sequence + 1, sequence))
    assert seen == []
    watch.end()
    zeros = xxh3_64_intdigest(bytes(16))
    assert [(one.result, one.before, one.after) for one in seen] == [(None, zeros, None), (None, None, None)]


def test_ranges_that_overlap_are_one_to_the_workers() -> None:
    ranges = [
        Range(1, "b", 8, 8, True),
        Range(0, "a", 4, 4, True),
        Range(0, "a", 0, 4, True),
        Range(0, "a", 9, 1, True),
    ]
    merged = Watch(ranges, ["a", "b"], 1, lambda _: None).merged()
    assert [(one.disk, one.offset, one.length) for one in merged] == [(0, 0, 8), (0, 9, 1), (1, 8, 8)]


@pytest.mark.parametrize(
    "told", [[wire_pb2.Touched(completed=True)], [wire_pb2.Touched(sequence=1), wire_pb2.Touched(sequence=0)]]
)
def test_a_worker_that_tells_out_of_turn_is_refused(told: list[wire_pb2.Touched]) -> None:
    watch = Watch(RANGES, ["a", "b"], 1, lambda _: None)
    with pytest.raises(ProtocolError, match="out of turn"):
        for one in told:
            watch.touched(0, one)
