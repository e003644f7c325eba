"""Goal: traces of the field say what other readers find in them.

Method: what awk makes of the same lines, and a reader of this module's own, row by row. The traces are not part of the
project; without them the tests are skipped.
"""

from __future__ import annotations

import gzip
import subprocess
from pathlib import Path

import pytest

from ringtape import traces
from tests.traces.encoders import READ, WRITE, Row, read

# Beside the repository, or beside the folder in which its work trees are.
FOLDERS = [folder / "shared" / "traces" for folder in Path(__file__).resolve().parents[3:5]]
FOLDER = next((folder for folder in FOLDERS if folder.exists()), FOLDERS[0])
MYSQL = FOLDER / "linux-mysql.load.gz"
TPCC = FOLDER / "tpcc-small.trace"


def by_awk(path: Path, script: str) -> list[int]:
    pipeline = f"zcat -f '{path}' | awk {script}"
    out = subprocess.run(["bash", "-c", pipeline], capture_output=True, text=True, check=True).stdout
    return [int(word) for word in out.split()]


@pytest.mark.skipif(not MYSQL.exists(), reason="the trace is not here")
def test_an_hour_of_mysql() -> None:
    script = (
        """-F';' 'NF == 6 && !/start/ {n++; b += $3 * 512; r += /; *R/} END {printf "%d %d %d", n, b, r}'"""
    )
    count, moved, reads = by_awk(MYSQL, script)
    rows = read(MYSQL)
    assert (len(rows), sum(row.length for row in rows)) == (count, moved)
    assert sum(row.kind == READ for row in rows) == reads
    text = gzip.decompress(MYSQL.read_bytes()).decode()
    lines = [
        line.split(";") for line in text.splitlines() if line.count(";") == 5 and not line.startswith("start")
    ]
    kinds = {"R": READ, "W": WRITE}
    assert rows == [
        Row(
            int(start.strip().replace(".", "")),
            kinds[op.strip()[0]],
            "disk",
            int(sector) * 512,
            int(length) * 512,
        )
        for start, sector, length, op, _, _ in lines
    ]
    with traces.open(MYSQL) as trace:
        assert (trace.format, trace.packing) == ("blkreplay", "gzip")


@pytest.mark.skipif(not TPCC.exists(), reason="the trace is not here")
def test_tpcc_of_mqsim() -> None:
    script = """'NF == 5 {n++; b += $4 * 512; r += $5} END {printf "%d %d %d", n, b, r}'"""
    count, moved, reads = by_awk(TPCC, script)
    rows = read(TPCC)
    assert (len(rows), sum(row.length for row in rows)) == (count, moved)
    assert sum(row.kind == READ for row in rows) == reads
    lines = [line.split() for line in TPCC.read_text().splitlines()]
    first = int(lines[0][0])
    assert rows == [
        Row(int(time) - first, READ if kind == "1" else WRITE, device, int(lba) * 512, int(sectors) * 512)
        for time, device, lba, sectors, kind in lines
    ]
    with traces.open(TPCC) as trace:
        list(trace)
        assert trace.format == "mqsim"
        assert sorted(trace.devices, key=int) == [str(number) for number in range(16)]
