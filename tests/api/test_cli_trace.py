"""Goal: `ringtape trace` shows and converts traces, and whatever is wrong is one clear line and exit code 2.

Method: the installed script on traces made here.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ringtape import cli_trace, traces
from ringtape.traces import formats, writing
from ringtape.traces import trace as reading
from tests.api.command_line import (
    SCRIPT,
    TIMEOUT_S,
    WITHOUT_PRIVILEGE,
    check_one_line,
    finished,
    ringtape,
)
from tests.traces.encoders import FSYNC, READ, TEXTS, WRITE, Row, write

ROWS = [
    Row(0, WRITE, "8,0", 4096, 8192),
    Row(1_500_000_000, READ, "8,16", 0, 512),
    Row(2_000_000_000, FSYNC, "8,0", 0, 0),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "events.txt", str(TEXTS["blkparse"].encode(ROWS)))
    volume = [Row(number * 1000, READ, "1", number * 4096, 4096) for number in range(2000)]
    write(tmp_path / "volume.csv.gz", gzip.compress(str(TEXTS["alibaba"].encode(volume)).encode()))
    write(tmp_path / "bad.csv", "1,R,0,512,1\n1,R,zero,512,2\n1,W,512,512,3\n")
    write(tmp_path / "empty", "")
    write(tmp_path / "garbage", os.urandom(64) * 100)
    write(tmp_path / "prose", "This is no trace.\nIt has lines, though.\n")
    write(tmp_path / "cut.gz", (tmp_path / "volume.csv.gz").read_bytes()[:-200])
    (tmp_path / "folder").mkdir()
    write(tmp_path / "locked", "1,R,0,512,1\n").chmod(0)
    return tmp_path


def test_the_command_line_offers_what_there_is() -> None:
    assert (
        {one.value for one in cli_trace.TraceFormat}
        == {reading.AUTO, *formats.NAMES}
        == {"auto", *traces.FORMATS}
    )
    assert {one.value for one in cli_trace.Action} == set(reading.ACTIONS)
    assert {one.value for one in cli_trace.TimeUnit} == set(reading.TIME_UNITS)
    assert {one.value for one in cli_trace.OutputForm} == set(writing.FORMS)


def test_info_as_json(folder: Path) -> None:
    done = ringtape("trace", "info", "events.txt", "--json", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    facts = json.loads(done.stdout)
    devices = facts.pop("devices")
    assert facts == {
        "trace": "events.txt",
        "format": "blkparse",
        "packing": None,
        "files": ["events.txt"],
        "skipped": 0,
        "requests": 3,
        "bytes": 8704,
        "first_ns": 0,
        "last_ns": 2_000_000_000,
        "span_ns": 2_000_000_000,
        "offset_min": 0,
        "offset_end": 12288,
        "kinds": {
            "read": {"requests": 1, "bytes": 512},
            "write": {"requests": 1, "bytes": 8192},
            "fsync": {"requests": 1, "bytes": 0},
        },
    }
    assert [(one["name"], one["requests"], one["bytes"], one["offset_end"]) for one in devices] == [
        ("8,0", 2, 8192, 12288),
        ("8,16", 1, 512, 512),
    ]


def test_info_for_people_from_standard_input(folder: Path) -> None:
    with (folder / "volume.csv.gz").open("rb") as file:
        done = subprocess.run(
            [SCRIPT, "trace", "info", "-"], stdin=file, capture_output=True, timeout=TIMEOUT_S, check=True
        )
    text = done.stdout.decode()
    assert "-: a trace of alibaba, gzip" in text
    assert "read      2,000 of 8,192,000 bytes" in text
    assert "device 1: read 2,000 of 8,192,000 bytes" in text


def test_bad_lines_can_be_left_out(folder: Path) -> None:
    check_one_line(
        ringtape("trace", "info", "bad.csv", cwd=folder),
        2,
        "bad.csv: line 2: 'zero' is no offset (a whole number)",
    )
    done = ringtape("trace", "info", "bad.csv", "--skip-bad", "--json", cwd=folder)
    facts = json.loads(done.stdout)
    assert (done.returncode, facts["requests"], facts["skipped"]) == (0, 2, 1)
    assert (
        done.stderr
        == "ringtape: note: 1 bad line left out; the first: line 2: 'zero' is no offset (a whole number)\n"
    )


def test_an_action_that_the_trace_does_not_have_is_noted(folder: Path) -> None:
    write(folder / "issued.txt", "  8,0    0        1     0.000000001     1  D   W 8 + 8 [a]\n")
    done = ringtape("trace", "info", "issued.txt", "--json", cwd=folder)
    assert (done.returncode, json.loads(done.stdout)["requests"]) == (0, 0)
    assert done.stderr == "ringtape: note: there is no request of this action; --action chooses another\n"


def test_of_many_devices_the_busiest_are_shown(folder: Path) -> None:
    lines = [f"{number % 50},R,0,512,1\n" for number in range(60)]
    write(folder / "many.csv", "".join(lines))
    done = ringtape("trace", "info", "many.csv", cwd=folder)
    shown = [line for line in done.stdout.splitlines() if line.startswith("device ")]
    assert len(shown) == 32
    assert {f"device {number}: read 2 of 1,024 bytes" for number in range(10)} <= set(shown)
    assert done.stdout.splitlines()[-1].startswith("and 18 devices with fewer requests")


UNREADABLE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "missing": (("none",), ("cannot read none: there is no such file",)),
    "folder": (("folder",), ("cannot read folder: it is a directory",)),
    "no permission": (("locked",), ("cannot read locked: Permission denied",)),
    "empty": (("empty",), ("empty is empty",)),
    "garbage": (("garbage",), ("garbage is binary and no trace of blktrace",)),
    "garbage as text": (("garbage", "--format", "msr"), ("garbage is binary and no trace of msr",)),
    "garbage as blktrace": (("garbage", "--format", "blktrace"), ("garbage is no trace of blktrace",)),
    "prose": (("prose",), ("prose is no trace that ringtape knows", "--format")),
    "cut": (("cut.gz",), ("cut.gz: its gzip data is cut short",)),
    "another format": (("events.txt", "--format", "spc"), ("line 1", "it looks like blkparse")),
    "unknown format": (("events.txt", "--format", "csv"), ("'--format'", "see ringtape trace info --help")),
    "unknown action": (("events.txt", "--action", "C"), ("'--action'",)),
    "no file": ((), ("FILE",)),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_cannot_be_read_is_one_line(case: str, folder: Path) -> None:
    words, parts = UNREADABLE[case]
    check_one_line(ringtape("trace", "info", *words, cwd=folder, launcher=WITHOUT_PRIVILEGE), 2, *parts)


@pytest.mark.parametrize("case", ["missing", "cut", "another format"])
def test_what_cannot_be_read_is_not_converted(case: str, folder: Path) -> None:
    words, parts = UNREADABLE[case]
    before = sorted(folder.iterdir())
    check_one_line(ringtape("trace", "convert", *words, "-o", "out", cwd=folder), 2, *parts)
    assert sorted(folder.iterdir()) == before


def test_convert_to_a_file_and_to_standard_output(folder: Path) -> None:
    done = ringtape("trace", "convert", "events.txt", "-o", "out.log", "--to", "fio-iolog", cwd=folder)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "wrote 3 requests of 2 devices: out.log\n"
    again = ringtape("trace", "convert", "out.log", "-o", "-", cwd=folder)
    assert again.stdout.splitlines() == [
        "time_ns,kind,device,offset,length,flags",
        "0,write,8,0,4096,8192,".replace("8,0", '"8,0"', 1),
        '1500000000,read,"8,16",0,512,',
        '2000000000,fsync,"8,0",0,0,',
    ]


@pytest.mark.parametrize(
    ("output", "said"),
    [("folder", "cannot write folder"), ("none/out", "cannot write none/out"), ("locked/out", "")],
)
def test_an_output_that_cannot_be_written_is_one_line(output: str, said: str, folder: Path) -> None:
    check_one_line(
        ringtape("trace", "convert", "events.txt", "-o", output, cwd=folder), 2, said or "cannot write"
    )


def test_a_reader_that_has_seen_enough_is_no_error(folder: Path) -> None:
    rows = [Row(number * 1000, READ, "1", number * 4096, 4096) for number in range(50_000)]
    write(folder / "long.csv", str(TEXTS["alibaba"].encode(rows)))
    done = finished(
        ["bash", "-c", f"set -o pipefail; '{SCRIPT}' trace convert long.csv -o - | head -1"], folder
    )
    assert done.stdout == "time_ns,kind,device,offset,length,flags\n"
    assert done.returncode == 0
    assert "error" not in done.stderr


def test_memory_does_not_grow_with_the_trace(tmp_path: Path) -> None:
    """Twenty times the requests take no more than a few MB more; read twice, so that both have whole batches."""
    code = (
        "import resource, sys\n"
        "from ringtape import traces\n"
        "for path in sys.argv[1:]:\n"
        "    with traces.open(path) as trace:\n"
        "        for batch in trace: pass\n"
        "    print(trace.requests, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    part = str(
        TEXTS["mqsim"].encode([Row(number, READ, "1", 512, 512) for number in range(100_000)])
    ).encode()
    small = write(tmp_path / "small", gzip.compress(part, 1))
    large = write(tmp_path / "large", gzip.compress(part, 1) * 20)
    words = [sys.executable, "-c", code, str(small), str(large)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    (requests, kib), (more_requests, more_kib) = (map(int, line.split()) for line in done.stdout.splitlines())
    assert more_requests == 20 * requests
    assert more_kib - kib < 10_000
