"""Goal: how many requests the traced system had under way follows from the trace alone, whatever its format.

Method: made-up schedules of requests and completions, counted one by one; written as each of the formats that tell.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ringtape
from ringtape import traces
from ringtape.traces import under_way as counting
from ringtape.traces.formats import blktrace
from tests.searching import slow
from tests.traces.encoders import (
    ACTIONS,
    FSYNC,
    READ,
    T_WRITE,
    TEXTS,
    WRITE,
    Row,
    blkreplay,
    event,
    msr,
    request_event,
    write,
)

# When it is made (in µs after the one before) and how long it takes (µs; one that takes none is done at once).
schedules = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 90)), min_size=1, max_size=80)
START_NS = 10**9


def requests_of(schedule: list[tuple[int, int]], device: str) -> tuple[list[Row], list[int]]:
    """Rows and how long each took, in ns."""
    times = np.cumsum([0, *(gap for gap, _ in schedule[1:])]).tolist()
    rows = [
        Row(time * 1000, FSYNC if number % 5 == 4 and device != "h_0" else WRITE, device, number * 4096, 4096)
        for number, time in enumerate(times)
    ]
    rows = [row._replace(offset=0, length=0) if row.kind == FSYNC else row for row in rows]
    return rows, [took * 1000 for _, took in schedule]


def expected(rows: list[Row], took_ns: list[int]) -> list[int]:
    ends = [row.time_ns + took for row, took in zip(rows, took_ns, strict=True)]
    return [1 + sum(end > row.time_ns for end in ends[:number]) for number, row in enumerate(rows)]


def found(path: Path, **options: Any) -> list[int]:
    with traces.open(path, under_way=True, **options) as trace:
        return [int(count) for batch in trace for count in batch["under_way"]]


@slow(40)
@given(schedule=schedules, size=st.sampled_from([60, 1 << 20]))
def test_by_how_long_requests_took(
    schedule: list[tuple[int, int]], size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("traces")
    for name, encode, device in (("msr", msr, "h_0"), ("blkreplay", blkreplay, "h_0")):
        rows, took_ns = requests_of(schedule, device)
        # One that took no time is under way for itself alone.
        path = write(folder / name, encode(rows, took_ns))
        assert found(path, chunk_bytes=size) == expected(rows, took_ns)


def events_of(rows: list[Row], took_ns: list[int]) -> list[tuple[int, int, int, str]]:
    """Requests and completions in order of time: (time, whether it is a request, row, action)."""
    made = [(row.time_ns, 1, number, "Q") for number, row in enumerate(rows)]
    done = [
        (row.time_ns + took, 0, number, "C")
        for number, (row, took) in enumerate(zip(rows, took_ns, strict=True))
    ]
    return sorted(made + done)


@slow(40)
@given(schedule=schedules, size=st.sampled_from([200, 1 << 20]))
def test_by_completions(
    schedule: list[tuple[int, int]], size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Flushes complete in the order in which they were made, since a completion does not say which it is."""
    folder = tmp_path_factory.mktemp("traces")
    rows, took_ns = requests_of([(gap, took + 1) for gap, took in schedule], "8,0")
    flushes = [number for number, row in enumerate(rows) if row.kind == FSYNC]
    ends = sorted(rows[number].time_ns + took_ns[number] for number in flushes)
    for number, end in zip(flushes, ends, strict=True):
        took_ns[number] = end - rows[number].time_ns
    counts = expected(rows, took_ns)
    events = events_of(rows, took_ns)
    lines, data = [], b""
    for sequence, (time, _, number, action) in enumerate(events, 1):
        row = rows[number]
        span = "" if row.kind == FSYNC else f"{row.offset // 512} + {row.length // 512} "
        rwbs = "FN" if row.kind == FSYNC else "W"
        lines.append(
            f"  8,0    1 {sequence:>8} {time // 10**9:>5}.{time % 10**9:09}    77  {action}  {rwbs} {span}[0]\n"
        )
        data += (
            request_event(row, START_NS + time, sequence=sequence)
            if action == "Q"
            else event(ACTIONS["C"] | T_WRITE, START_NS + time, sector=row.offset // 512, length=row.length)
        )
    text, binary = write(folder / "text", "".join(lines)), write(folder / "binary", data)
    assert found(text, chunk_bytes=size) == counts
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blktrace, "_READ_BYTES", size)
        patch.setattr(blktrace, "_HELD_MIN", 3)
        assert found(binary) == counts


def counted(events: list[tuple[str, int, int, int]]) -> list[int]:
    """(action, time in s, offset, length) of one device."""
    action, time, offset, length = zip(*events, strict=True)
    return (
        counting.ByCompletion()
        .count(
            np.array([one == "C" for one in action]),
            np.array(time) * 10**9,
            np.zeros(len(events), np.int64),
            np.array(offset, np.uint64),
            np.array(length, np.uint64),
        )
        .tolist()
    )


def test_a_completion_is_of_all_that_was_merged_into_it_and_of_nothing_else() -> None:
    merged = [("Q", 0, 0, 8), ("Q", 0, 8, 8), ("Q", 0, 16, 8), ("C", 1, 0, 16), ("Q", 2, 40, 8)]
    assert counted(merged) == [1, 2, 3, 2]
    split = [("Q", 0, 0, 16), ("C", 1, 0, 8), ("Q", 1, 99, 1), ("C", 1, 8, 8), ("Q", 2, 50, 1)]
    assert counted(split) == [1, 2, 2]
    before_the_trace = [("C", 0, 0, 8), ("C", 0, 0, 0), ("Q", 0, 0, 8)]
    assert counted(before_the_trace) == [1]


def test_completions_that_are_lost_are_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "_LOOKED_FOR_LOST_EVERY", 3)
    assert counted([("Q", 0, 0, 8), ("Q", 0, 0, 0), ("Q", 31, 64, 8)]) == [1, 2, 1]
    monkeypatch.setattr(counting, "UNDER_WAY_MAX", 2)
    assert counted([("Q", second, second * 8, 8) for second in range(9)])[-1] == 2


@pytest.mark.parametrize("format", sorted({"fio-iolog", "alibaba", "tencent", "spc", "mqsim"}))
def test_a_format_that_does_not_tell_says_so(format: str, tmp_path: Path) -> None:
    holds = TEXTS[format]
    path = write(tmp_path / "trace", holds.encode([Row(0, READ, holds.devices[0], 0, 4096)]))
    with pytest.raises(ringtape.TraceError, match=f"{format} does not say when requests completed"):
        traces.open(path, format, under_way=True)
