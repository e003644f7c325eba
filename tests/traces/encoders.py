"""Traces of each format, made from rows by code that shares nothing with the readers, and rows read back."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import strategies as st

from ringtape import traces

READ, WRITE, WRITE_ZEROES, DISCARD, FSYNC = range(1, 6)
FUA, DATA_ONLY = 1, 2


class Row(NamedTuple):
    """One request; times since the first one."""

    time_ns: int
    kind: int
    device: str
    offset: int
    length: int
    flags: int = 0


def read(path: str | os.PathLike[str], format: str = "auto", **options: Any) -> list[Row]:
    """All rows of a trace."""
    rows: list[Row] = []
    with traces.open(path, format, **options) as trace:
        for batch in trace:
            assert batch.dtype == traces.REQUEST
            assert len(batch)
            names = ("time_ns", "kind", "device", "offset", "length", "flags")
            for time_ns, kind, device, offset, length, flags in zip(
                *(batch[name].tolist() for name in names), strict=True
            ):
                rows.append(Row(time_ns, kind, trace.devices[device], offset, length, flags))
        assert trace.requests == len(rows)
    return rows


def write(path: Path, data: str | bytes) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


# ---- rows that a format can hold


class Holds(NamedTuple):
    """What a format can hold: its tick, unit of offsets, kinds, devices, and whether lengths are in that unit too."""

    encode: Callable[[Sequence[Row]], str | bytes]
    tick_ns: int
    unit: int
    length_unit: int
    devices: tuple[str, ...]
    kinds: tuple[tuple[int, int], ...] = ((READ, 0), (WRITE, 0))


def rows_for(holds: Holds, *, max_size: int = 30) -> st.SearchStrategy[list[Row]]:
    """Rows that a format can hold, whose times may go back; the first is at 0."""

    def row(kind: tuple[int, int], tick: int, device: str, offset: int, length: int) -> Row:
        if kind[0] == FSYNC:
            offset, length = 0, 0
        return Row(
            tick * holds.tick_ns, kind[0], device, offset * holds.unit, length * holds.length_unit, kind[1]
        )

    most = 10**17 // max(holds.tick_ns, holds.unit)
    numbers = st.one_of(st.integers(0, 9), st.integers(0, min(10**10, most)), st.integers(0, most))
    rows = st.lists(
        st.builds(
            row,
            kind=st.sampled_from(holds.kinds),
            tick=numbers,
            device=st.sampled_from(holds.devices),
            offset=numbers,
            length=st.integers(1, 1 << 20),
        ),
        min_size=1,
        max_size=max_size,
    )
    return rows.map(lambda found: [found[0]._replace(time_ns=0), *found[1:]])


# ---- encoders of text

MSR_START = 128166372003061629
ALIBABA_START = 1577808144360767


def msr(rows: Sequence[Row], took_ns: Sequence[int] = ()) -> str:
    lines = []
    for row, took in zip_longest(rows, took_ns, fillvalue=4128600):
        host, disk = row.device.rsplit("_", 1)
        kind = {READ: "Read", WRITE: "Write"}[row.kind]
        lines.append(
            f"{MSR_START + row.time_ns // 100},{host},{disk},{kind},{row.offset},{row.length},{took // 100}\n"
        )
    return "".join(lines)


def alibaba(rows: Sequence[Row]) -> str:
    letter = {READ: "R", WRITE: "W"}
    return "".join(
        f"{row.device},{letter[row.kind]},{row.offset},{row.length},{ALIBABA_START + row.time_ns // 1000}\n"
        for row in rows
    )


def tencent(rows: Sequence[Row]) -> str:
    return "".join(
        f"{1538323200 + row.time_ns // 10**9},{row.offset // 512},{row.length // 512},{row.kind - 1},{row.device}\n"
        for row in rows
    )


def spc(rows: Sequence[Row]) -> str:
    letters = {READ: "Rr", WRITE: "wW"}
    lines = []
    for number, row in enumerate(rows):
        time = f"{row.time_ns // 10**9}.{row.time_ns % 10**9:09}"
        letter = letters[row.kind][number % 2]
        more = ",Alpha/NT" if number % 3 == 2 else ""
        lines.append(f"{row.device},{row.offset // 512},{row.length},{letter},{time}{more}\n")
    return "".join(lines)


def mqsim(rows: Sequence[Row]) -> str:
    return "".join(
        f"{938513000 + row.time_ns} {row.device} {row.offset // 512} {row.length // 512} {int(row.kind == READ)}\n"
        for row in rows
    )


def disksim(rows: Sequence[Row]) -> str:
    return "".join(
        f"{row.time_ns // 10**6}.{row.time_ns % 10**6:06}\t{row.device}  {row.offset // 512} {row.length // 512} "
        f"{int(row.kind == READ)}\n"
        for row in rows
    )


BLKREPLAY_HEAD = """\
Made for a test.

All lines above the one that names the columns are free: 1 ; 2 ; 3 ; R ; even this one.
start ; sector; length ; op ;  replay_delay=0 ; replay_duration=0
"""


def blkreplay(rows: Sequence[Row], took_ns: Sequence[int] = ()) -> str:
    ops = {READ: (" R ", "RA "), WRITE: (" W ", " WS")}
    lines = []
    for number, (row, took) in enumerate(zip_longest(rows, took_ns, fillvalue=0)):
        time = f"{row.time_ns // 10**9:>7}.{row.time_ns % 10**9:09}"
        duration = f"{took // 10**9}.{took % 10**9:09}" if took else "0.0"
        op = ops[row.kind][number % 2]
        lines.append(f"{time} ; {row.offset // 512:>12} ; {row.length // 512:>4} ;{op}; 0.0 ; {duration}\n")
    return BLKREPLAY_HEAD + "".join(lines)


_FIO = {
    (READ, 0): "read",
    (WRITE, 0): "write",
    (DISCARD, 0): "trim",
    (FSYNC, 0): "sync",
    (FSYNC, DATA_ONLY): "datasync",
}


def fio_3(rows: Sequence[Row]) -> str:
    lines = ["fio version 3 iolog\n"]
    for name in dict.fromkeys(row.device for row in rows):
        lines += [f"0 {name} add\n", f"1 {name} open\n"]
    for number, row in enumerate(rows):
        short = row.kind == FSYNC and number % 2
        span = "" if short else f" {row.offset} {row.length}"
        lines.append(f"{500 + row.time_ns // 1000} {row.device} {_FIO[row.kind, row.flags]}{span}\n")
    return "".join([*lines, f"999999 {rows[0].device} close\n"])


def fio_2(rows: Sequence[Row]) -> str:
    """A wait may not go back: neither do the times of what this is given."""
    lines = ["fio version 2 iolog\n"]
    for name in dict.fromkeys(row.device for row in rows):
        lines += [f"{name} add\n", f"{name} open\n"]
    before = 0
    for row in rows:
        if row.time_ns > before:
            lines.append(f"{row.device} wait {(row.time_ns - before) // 1000} 0\n")
            before = row.time_ns
        lines.append(f"{row.device} {_FIO[row.kind, row.flags]} {row.offset} {row.length}\n")
    return "".join([*lines, f"{rows[0].device} close\n"])


BLKPARSE_TAIL = """\
CPU0 (8,0):
 Reads Queued:           1,        4KiB\t Writes Queued:           0,        0KiB
 Read Dispatches:        1,        4KiB\t Write Dispatches:        0,        0KiB
 Read depth:             1        \t Write depth:             0
 IO unplugs:             1        \t Timer unplugs:           0

Total (8,0):
 Reads Queued:           1,        4KiB\t Writes Queued:           0,        0KiB

Throughput (R/W): 0KiB/s / 0KiB/s
Events (8,0): 7 entries
Skips: 0 forward (0 -   0.0%)
"""


def blkparse(rows: Sequence[Row]) -> str:
    lines = []
    for number, row in enumerate(rows):
        time = f"{row.time_ns // 10**9:>5}.{row.time_ns % 10**9:09}"
        major, minor = row.device.split(",")
        head = f"{major:>3},{minor:<3} {number % 3:>2} {number:>8} {time} {number + 100:>5}"
        rwbs = {READ: ("R", "RA"), WRITE: ("WS", "FW"), DISCARD: ("D", "DS"), FSYNC: ("FN", "F")}[row.kind][
            number % 2
        ]
        rwbs = "WFSM" if row.flags & FUA else rwbs
        span = f"{row.offset // 512} + {row.length // 512} "
        if row.kind == FSYNC:
            span = ""
        lines += [
            f"{head}  P   N [kworker/u8:1]\n",
            f"{head}  A {rwbs:>3} {row.offset // 512} + {row.length // 512} <- (253,0) 7\n",
            f"{head}  Q {rwbs:>3} {span}[a + b]\n",
            f"{head}  G {rwbs:>3} {span}[a + b]\n",
            f"{head}  m   N cfq1234 Q {number} + 8\n",
            f"{head}  Q   R 36 (12 00 00 00 24 00 ..) [udev]\n",
            f"{head}  Q   N [a + b]\n",
            f"{head}  U   N [kworker/u8:1] 1\n",
            f"{head}  D {rwbs:>3} {span}[a + b]\n",
            f"{head}  C {rwbs:>3} {span}[0]\n",
        ]
    return "".join(lines) + BLKPARSE_TAIL


NUMBERED = ("0", "3", "419", "70000", "12345678901")
PAIRS = ("8,0", "259,12", "253,7")
FIO_KINDS = ((READ, 0), (WRITE, 0), (DISCARD, 0), (FSYNC, 0), (FSYNC, DATA_ONLY))
BLOCK_KINDS = ((READ, 0), (WRITE, 0), (WRITE, FUA), (DISCARD, 0), (FSYNC, 0))
FILES = ("a", "/dev/sdb", "exactly8", "a-name-that-is-longer-than-three-words-of-eight.img")

TEXTS = {
    "msr": Holds(msr, 100, 1, 1, ("usr_0", "usr_1", "a-longer-host_0")),
    "alibaba": Holds(alibaba, 1000, 1, 1, NUMBERED),
    "tencent": Holds(tencent, 10**9, 512, 512, NUMBERED),
    "spc": Holds(spc, 1, 512, 1, NUMBERED),
    "mqsim": Holds(mqsim, 1, 512, 512, NUMBERED),
    "blkreplay": Holds(blkreplay, 1, 512, 512, ("disk",)),
    "fio-iolog": Holds(fio_3, 1000, 1, 1, FILES, FIO_KINDS),
    "blkparse": Holds(blkparse, 1, 512, 512, PAIRS, BLOCK_KINDS),
}
DISKSIM = Holds(disksim, 1, 512, 512, NUMBERED)
FIO_2 = Holds(fio_2, 1000, 1, 1, FILES, FIO_KINDS)


# ---- blktrace

ACTIONS = {"Q": 1, "M": 2, "G": 4, "D": 7, "C": 8, "P": 9, "U": 10, "I": 12, "A": 15}
T_READ, T_WRITE, T_FLUSH, T_SYNC, T_QUEUE, T_ISSUE, T_PC, T_NOTIFY, T_META, T_DISCARD, T_FUA = (
    1 << (16 + bit) for bit in (0, 1, 2, 3, 4, 6, 9, 10, 12, 13, 15)
)
_OF_ACTION = {"Q": T_QUEUE, "D": T_ISSUE, "C": 0}


def event(
    action: int,
    time: int,
    *,
    sector: int = 0,
    length: int = 0,
    device: int = 8 << 20,
    cpu: int = 0,
    sequence: int = 1,
    pdu: bytes = b"",
    order: str = "<",
) -> bytes:
    return (
        struct.pack(
            f"{order}IIQQIIIIIHH",
            0x65617407,
            sequence,
            time,
            sector,
            length,
            action,
            4321,
            device,
            cpu,
            0,
            len(pdu),
        )
        + pdu
    )


def request_event(row: Row, time: int, action: str = "Q", **more: Any) -> bytes:
    about = {READ: T_READ, WRITE: T_WRITE | T_SYNC, DISCARD: T_WRITE | T_DISCARD, FSYNC: T_WRITE | T_FLUSH}[
        row.kind
    ]
    about |= T_FUA if row.flags & FUA else 0
    major, minor = map(int, row.device.split(","))
    # What the kernel gives as the sector of a flush.
    sector = (1 << 64) - 1 if row.kind == FSYNC else row.offset // 512
    return event(
        ACTIONS[action] | about | _OF_ACTION[action],
        time,
        sector=sector,
        length=row.length,
        device=major << 20 | minor,
        **more,
    )
