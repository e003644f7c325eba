"""Goal: a bad line is named with its file, number and what is wrong with it; or it is counted, and the rest is read.

Method: one line of a good trace is spoiled; what was before it still comes.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ringtape
from ringtape import traces
from ringtape.traces import trace as reading
from ringtape.traces.numbers import PAD
from tests.searching import slow
from tests.traces.encoders import BLKPARSE_TAIL, READ, TEXTS, WRITE, Row, blkparse, read, write

COUNT = 12
BAD_AT = 7

# By format: how a line is spoiled (what is replaced by what), and what is said.
SPOILED: dict[str, list[tuple[str, str, str]]] = {
    "msr": [
        (r"Read|Write", "Raed", "'Raed' is no type (one of Read, Write, read, write, READ, WRITE)"),
        (r",41286$", "", "it has 6 fields, not 7"),
        (r",41286$", ",41286,1", "it has 8 fields, not 7"),
        (r"^\d+", "12x", "'12x' is no time (a whole number)"),
        (r"^\d+", "", "'' is no time"),
        (r",\d+,41286$", ",-1,41286", "'-1' is no size (a whole number)"),
        (r",\d+,41286$", ",9223372036854775808,41286", "'9223372036854775808' is too large to be the size"),
        (r",usr", ",", "its host has no name"),
        (r"^\d+", "1", "its time is further from the first one than 64 bits of nanoseconds go"),
        (r"^\d+", "1281\x00", "it has zero bytes in it: the file is damaged"),
        (r",usr", "," + "h" * 300, "its device has a name of more than 255 bytes"),
    ],
    "alibaba": [
        (r",[RW],", ",X,", "'X' is no opcode (one of R, W, r, w)"),
        (r",\d+$", "", "it has 4 fields, not 5"),
        (r",([RW]),\d+", r",\1,9223372036854775807", "it ends beyond what 63 bits of bytes can address"),
    ],
    "tencent": [
        (r",[01],(\d+)$", r",2,\1", "'2' is no type (one of 0, 1)"),
        (r"^\d+", "1.5", "'1.5' is no time"),
    ],
    "spc": [
        (r",\d+\.\d+", ",1.2.3", "'1.2.3' is no time"),
        (r",\d+\.\d+.*", "", "it has 4 fields, not at least 5"),
        (r",\d+\.\d+", ",1e-05", "'1e-05' is no time"),
        (r",\d+\.\d+", ",9999999999999.0", "'9999999999999.0' is too large to be the time"),
        (r"^(\d+),\d+", r"\1,18014398509481984", "'18014398509481984' is too large to be the LBA"),
    ],
    "mqsim": [(r" [01]$", " 7", "'7' is no type (one of 0, 1)"), (r" [01]$", "", "it has 4 fields, not 5")],
    "blkreplay": [
        (r"; *[RW][AS]? *;", "; X ;", "'X' is no op (it begins with one of R, W)"),
        (r";.*", "", "it has 1 field, not at least 4"),
    ],
    "fio-iolog": [
        (r" (read|write|trim|sync|datasync)\b", " scrub", "'scrub' is no action"),
        (r" \d+ \d+$", "", "'' is no offset"),
        (r"^\d+", "soon", "'soon' is no time"),
        (r"^.*", "lonely", "it has too few fields for a file and an action"),
    ],
    "blkparse": [
        (r"^.*", "what is this", "it is no line of blkparse"),
        (r" 0 \+ 512 ", " zero + 512 ", "'zero' is no sector"),
        (r"Q  *(R|WS|WFSM|FW)\b", "Q XYZ", "'XYZ' is no RWBS"),
    ],
}
CASES = [(format, *case) for format, cases in SPOILED.items() for case in cases]


def good_lines(format: str) -> tuple[list[Row], list[str], int]:
    """Rows, their lines, and the index of a line that holds one of the rows."""
    holds = TEXTS[format]
    rows = [
        Row(number * 10**9, (READ, WRITE)[number % 2], holds.devices[0], 0, 512 * 512)
        for number in range(COUNT)
    ]
    lines = str(holds.encode(rows)).splitlines()
    if format == "blkparse":
        (at,) = (
            number for number, line in enumerate(lines) if re.search(rf" {BAD_AT}\.0+ .* Q .*\+ 512", line)
        )
    else:
        at = len(lines) - COUNT + BAD_AT - (format == "fio-iolog")
    return rows, lines, at


@pytest.mark.parametrize(("format", "pattern", "by", "said"), CASES)
@pytest.mark.parametrize("size", [1 << 20, 150])
def test_a_bad_line_is_named_or_left_out(
    format: str, pattern: str, by: str, said: str, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_CHUNK_BYTES", size)
    rows, lines, at = good_lines(format)
    spoiled, changes = re.subn(pattern, by, lines[at], count=1)
    assert changes, lines[at]
    path = write(tmp_path / "trace", "\n".join([*lines[:at], spoiled, *lines[at + 1 :], ""]))

    given: list[int] = []
    with (
        pytest.raises(ringtape.TraceError, match=re.escape(f"{path}: line {at + 1}: {said}")),
        traces.open(path, format) as trace,
    ):
        for batch in trace:
            given += batch["time_ns"].tolist()
    assert given == [row.time_ns for row in rows[:BAD_AT]]

    left = [*rows[:BAD_AT], *rows[BAD_AT + 1 :]]
    assert read(path, skip_bad=True) == left
    with traces.open(path, skip_bad=True) as trace:
        list(trace)
        assert trace.skipped == 1
        assert trace.first_skipped is not None
        assert trace.first_skipped.startswith(f"line {at + 1}: {said}")
        assert trace.devices == [rows[0].device]


@pytest.mark.parametrize("format", TEXTS)
@slow(10)
@given(data=st.data())
def test_no_damage_is_worse_than_a_bad_line(
    format: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Any bytes over any stretch: the trace is read, or there is an error of ringtape's own."""
    _, lines, _ = good_lines(format)
    text = bytearray("\n".join(lines).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        text[at : at + data.draw(st.integers(0, 30))] = data.draw(
            st.one_of(st.binary(max_size=12), st.text("0123456789 ,;.\nRW+-", max_size=12).map(str.encode))
        )
    path = write(tmp_path_factory.mktemp("damaged") / "trace", bytes(text))
    for options in ({}, {"skip_bad": True}):
        try:
            read(path, format, **options)
        except ringtape.TraceError as error:
            assert str(path) in str(error)


def test_a_line_without_end_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "trace", "1,R,0,512,1\n" * 3 + "1" * (3 << 20))
    with pytest.raises(ringtape.TraceError, match="line 4: it is longer than"):
        read(path)


def test_a_trace_of_another_format_says_what_it_looks_like(tmp_path: Path) -> None:
    path = write(tmp_path / "trace", str(TEXTS["alibaba"].encode([Row(0, READ, "1", 0, 1)] * 3)))
    hint = re.escape("line 1: it has 5 fields, not 7 (read as msr, but it looks like alibaba)")
    with pytest.raises(ringtape.TraceError, match=hint):
        read(path, "msr")
    with pytest.raises(ringtape.TraceError, match=r"has not one good line: line 1: .* looks like alibaba"):
        read(path, "msr", skip_bad=True)


def test_more_devices_than_there_are_numbers_for_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "trace", "".join(f"{device},R,0,512,1\n" for device in range(65_537)))
    with pytest.raises(ringtape.TraceError, match="more than 65536 devices"):
        read(path)


def test_where_two_formats_are_alike_it_asks(tmp_path: Path) -> None:
    """A load of blkreplay whose head has a whole log of fio in it."""
    text = "fio version 3 iolog\n0 f add\nstart ; sector ; length ; op\n0.0 ; 0 ; 8 ; R\n"
    path = write(tmp_path / "trace", text)
    with pytest.raises(
        ringtape.TraceError, match="may be a trace of fio-iolog or blkreplay: say which with --format"
    ):
        read(path)
    assert read(path, "blkreplay") == [Row(0, READ, "disk", 0, 4096)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"format": "csv"}, "format 'csv' is not one of auto, fio-iolog, "),
        ({"action": "C"}, "action 'C' is not one of Q, D"),
        ({"time_unit": "s"}, "time unit 's' is not one of auto, ns, ms"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(ringtape.TraceError, match=re.escape(said)):
        traces.open(tmp_path / "none", **options)  # type: ignore[arg-type]


ONE = blkparse([Row(0, READ, "8,0", 0, 512)])
EVENTS = ONE.removesuffix(BLKPARSE_TAIL)


@pytest.mark.parametrize(
    "pieces",
    [
        (ONE + EVENTS + "no event\n" + ONE,),
        (ONE + EVENTS, "no event\n"),
        (ONE, EVENTS, "no event\n" + EVENTS),
    ],
    ids=["one batch", "events after the summary", "a batch of events"],
)
def test_what_follows_a_summary_of_blkparse_is_looked_at_again(
    pieces: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever batches end."""
    text = "".join(pieces)
    path = write(tmp_path / "trace", text)
    monkeypatch.setattr(reading, "_whole_lines", lambda *_: (PAD + piece.encode() for piece in pieces))
    number = text.count("\n", 0, text.index("no event")) + 1
    with pytest.raises(ringtape.TraceError, match=f"line {number}: it is no line of blkparse"):
        read(path)
