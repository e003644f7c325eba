"""Goal: every request of a trace goes where it should on a disk. Method: the same in plain Python, row by row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ringtape
from ringtape.trace_program import ending_before_pauses
from ringtape.traces import REQUEST
from ringtape.traces.mapping import Entry, resolved
from ringtape.traces.placing import ROW, Fit, Place, Placing
from tests.traces.encoders import DISCARD, FSYNC, READ, WRITE

BLOCK = 512
ROOMS = (40, 7)  # blocks, of each of two devices


def blocks(most: int) -> st.SearchStrategy[int]:
    """Mostly whole blocks."""
    whole = st.integers(0, most).map(lambda number: number * BLOCK)
    return st.one_of(whole, whole, whole, st.integers(0, most * BLOCK))


requests = st.lists(
    st.tuples(
        st.integers(-1000, 10**12),
        blocks(60),
        blocks(5),
        st.integers(0, 1),
        st.sampled_from([READ, WRITE, DISCARD, FSYNC]),
    ),
    min_size=1,
    max_size=30,
)


def batch_of(rows: list[tuple[int, int, int, int, int]]) -> np.ndarray:
    plain = [
        (time, 0, 0, device, FSYNC, 0, 0) if kind == FSYNC else (time, offset, length, device, kind, 0, 0)
        for time, offset, length, device, kind in rows
    ]
    return np.array(plain, REQUEST)


def placing_of(batch: np.ndarray, *, fit: Fit, align: bool, speed: float = 1.0) -> Placing:
    places = []
    for device, room in enumerate(ROOMS):
        mine = batch[batch["device"] == device]
        end = int((mine["offset"] + mine["length"]).max()) if len(mine) else 0
        places.append(
            Place(str(device), device, "ab"[device], device * 100 * BLOCK, room * BLOCK, BLOCK, end)
        )
    return Placing(places, fit=fit, align=align, transfer_bytes_max=1 << 30, speed=speed)


@given(rows=requests, fit=st.sampled_from(["refuse", "scale", "wrap", "clip"]), align=st.booleans())
def test_what_is_not_refused_is_in_whole_blocks_in_its_room(
    rows: list[tuple[int, int, int, int, int]], fit: Fit, align: bool
) -> None:
    batch = batch_of(rows)
    placing = placing_of(batch, fit=fit, align=align)
    refused = placing.refused(batch)
    if refused is not None:
        number, why = refused
        batch = batch[:number]
        assert not align or "--align" not in why
        assert fit == "refuse" or "--wrap" not in why
    placed = placing.rows(batch)
    assert placed.dtype == ROW
    assert len(placed) == len(batch) - placing.empty - placing.left_out
    moves = placed[placed["kind"] != FSYNC]
    begin = moves["offset"].astype(int) - moves["disk"].astype(int) * 100 * BLOCK
    length = moves["length"].astype(int)
    assert not (begin % BLOCK).any()
    assert not (length % BLOCK).any()
    assert (length > 0).all()
    assert (begin >= 0).all()
    assert (begin + length <= np.array(ROOMS)[moves["disk"]] * BLOCK).all()
    assert (np.diff(placed["time_ns"]) >= 0).all()
    kept = batch[(batch["kind"] == FSYNC) | (batch["length"] > 0)]
    if fit != "clip":
        assert placed["kind"].tolist() == kept["kind"].tolist()
        assert placed["disk"].tolist() == kept["device"].tolist()
    if fit == "refuse":
        # Every byte of the request is in what is placed, and not a block more.
        asked = kept[kept["kind"] != FSYNC]
        low, high = asked["offset"].astype(int), (asked["offset"] + asked["length"]).astype(int)
        assert ((begin <= low) & (low < begin + BLOCK)).all()
        assert ((begin + length >= high) & (begin + length < high + BLOCK)).all()


def test_times_are_those_of_the_trace_in_its_order() -> None:
    batch = batch_of([(time, 0, BLOCK, 0, READ) for time in (0, 3000, -50, 2000, 7001)])
    for speed, expected in (
        (1.0, [0, 3000, 3000, 3000, 7001]),
        (2.0, [0, 1500, 1500, 1500, 3500]),
        (0.0, [0] * 5),
    ):
        placing = placing_of(batch, fit="refuse", align=False, speed=speed)
        found = [placing.rows(part)["time_ns"].tolist() for part in (batch[:3], batch[3:])]
        assert [time for part in found for time in part] == expected


@given(st.lists(st.lists(st.integers(0, 100), max_size=9), max_size=6))
def test_arrays_end_before_pauses_and_lose_nothing(steps: list[list[int]]) -> None:
    flat = np.cumsum([0, *(step for part in steps for step in part)])
    arrays, first = [], 0
    for step in steps:
        rows = np.zeros(len(step), ROW)
        rows["time_ns"] = flat[first : first + len(step)]
        arrays.append(rows)
        first += len(step)
    cut = list(ending_before_pauses(arrays))
    assert all(len(one) for one in cut)
    assert [time for one in cut for time in one["time_ns"].tolist()] == flat[:first].tolist()


def test_the_longest_pause_is_found() -> None:
    rows = np.zeros(10, ROW)
    rows["time_ns"] = [0, 50, 51, 52, 53, 54, 55, 99, 100, 101]
    assert [len(one) for one in ending_before_pauses([rows])] == [7, 3]


def test_devices_are_resolved_by_name_then_by_star_then_by_the_disk_of_their_name() -> None:
    found = resolved([Entry("x", "b", 512), Entry("*", "a")], ["b", "x", "y"], ["a", "b"], trace="t")
    assert found == [Entry("b", "a"), Entry("x", "b", 512), Entry("y", "a")]
    assert resolved([Entry("x", "b")], ["x", "a"], ["a", "b"], trace="t") == [
        Entry("x", "b"),
        Entry("a", "a"),
    ]
    with pytest.raises(ringtape.TraceError, match="for devices 'd0', 'd1', 'd2', 'd3', 'd4' and 3 more"):
        resolved([], [f"d{number}" for number in range(8)], ["a"], trace="t")
