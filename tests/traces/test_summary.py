"""Goal: a summary is what adding up row by row gives, however many devices there are and however batches fall."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtape import traces
from ringtape.traces import summary
from tests.searching import slow
from tests.traces.encoders import TEXTS, write

ROW = st.tuples(
    st.integers(-(10**15), 10**15),
    st.integers(0, 1 << 62),
    st.integers(0, 1 << 62),
    st.integers(0, 99),
    st.integers(1, 5),
)


@slow(25)
@given(rows=st.lists(ROW, max_size=40), cut=st.integers(0, 40), most=st.sampled_from([1 << 20, 3]))
def test_a_summary_adds_up(rows: list[tuple[int, ...]], cut: int, most: int) -> None:
    rows = [
        (at, 0, 0, device, kind) if kind == 5 else (at, *span, device, kind)
        for at, *span, device, kind in rows
    ]
    batch = np.array([(*row, 0, 0) for row in rows], dtype=traces.REQUEST)
    names = [f"d{number}" for number in range(100)]
    found = summary.Summary()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summary, "_ROWS_MAX", most)
        found.add(batch[:cut], 100)
        found.add(batch[cut:], 100)
    facts = found.facts(names)
    check(facts, rows)
    for number, device in enumerate(facts["devices"]):
        assert device["name"] == names[number]
        check(device, [row for row in rows if row[3] == number])


def check(facts: dict[str, object], rows: list[tuple[int, ...]]) -> None:
    times = [row[0] for row in rows]
    spans = [row[1:3] for row in rows if row[4] != 5]
    assert facts["requests"] == len(rows)
    assert facts["bytes"] == sum(row[2] for row in rows)
    assert facts["first_ns"] == min(times, default=None)
    assert facts["last_ns"] == max(times, default=None)
    assert facts["span_ns"] == max(times, default=0) - min(times, default=0)
    assert facts["offset_min"] == min((offset for offset, _ in spans), default=None)
    assert facts["offset_end"] == max((offset + length for offset, length in spans), default=None)
    assert facts["kinds"] == {
        name: {
            "requests": sum(row[4] == kind for row in rows),
            "bytes": sum(row[2] for row in rows if row[4] == kind),
        }
        for kind, name in traces.KIND_NAMES.items()
        if any(row[4] == kind for row in rows)
    }


@pytest.mark.parametrize("format", TEXTS)
def test_a_trace_without_a_request_has_no_device(format: str, tmp_path: Path) -> None:
    text = "fio version 3 iolog\n" if format == "fio-iolog" else str(TEXTS[format].encode([])) or "\n"
    path = write(tmp_path / "trace", text.encode())
    with traces.open(path, format, under_way=format in ("msr", "blkreplay", "blkparse")) as trace:
        found = summary.Summary()
        for batch in trace:
            found.add(batch, len(trace.devices))
        facts = found.facts(trace.devices)
    assert (facts["requests"], facts["kinds"], facts["devices"], facts["first_ns"]) == (0, {}, [], None)
