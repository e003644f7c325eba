"""The report of made-up measurements, to the letter."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from ringtape.engine.requests import Kind
from ringtape.jobs import report
from ringtape.jobs.outcome import JobOutcome, Outcome
from tests.jobs.making import make_job, make_outcome, make_record

READS = [[60_000, 80_000, 80_000, 100_000] * 250 for _ in range(20)]
WRITES = [[400_000] * 50 for _ in range(20)]
FSYNCS = [[3_000_000] for _ in range(20)]


def printed(outcome: Outcome) -> str:
    file = io.StringIO()
    report.show(Console(file=file, width=80), outcome)
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


def mixed(**options: str) -> JobOutcome:
    latencies = {(0, Kind.READ): READS, (1, Kind.WRITE): WRITES, (1, Kind.FSYNC): FSYNCS}
    return make_job("mixed", *(make_record(latencies, worker=worker) for worker in range(2)), **options)


def test_a_mixed_job_on_two_disks() -> None:
    assert printed(make_outcome([mixed(rw="randrw", bs="4k", iodepth="8", unknown="x")])) == GOLDEN


def test_what_was_not_measured_is_said() -> None:
    """A replay knows latencies, and nothing of what is told beside a run."""
    job = mixed()
    text = printed(make_outcome([JobOutcome("mixed", {}, job.records, {})], mode="replay"))
    assert "not measured in this run" in text
    assert "completion  " not in text
    assert "CPU of each worker" not in text
    assert "tape" not in text


def test_failed_and_short_requests_are_counted() -> None:
    job = mixed()
    job.records[0].tallies[0, Kind.READ].errors = 17
    job.records[1].tallies[1, Kind.WRITE].short = 1234
    lines = printed(make_outcome([job])).splitlines()
    assert any(line.split()[0:1] == ["read"] and line.split()[-2:] == ["17", "0"] for line in lines)
    assert any(line.split()[0:1] == ["write"] and line.split()[-2:] == ["0", "1,234"] for line in lines)


@pytest.mark.parametrize(
    "blocks", [{"bs": "4096"}, {"bsrange": "4096-65536"}, {"bssplit": "4096/60:8192/40"}]
)
def test_the_headline_says_the_block_size(blocks: dict[str, str]) -> None:
    (said,) = blocks.items()
    assert f" {'='.join(said)}" in printed(make_outcome([mixed(rw="randrw", **blocks)])).splitlines()[0]


def test_a_job_without_a_request() -> None:
    job = make_job("none", make_record({}))
    assert "none: 1 worker, disks a, b, 0.000 s" in printed(make_outcome([job]))


GOLDEN = """\
mixed: rw=randrw bs=4k iodepth=8, 2 workers, disks a, b, 10.000 s

  kind     IOPS    bandwidth   requests      bytes   latency p99   failed   short
 ─────────────────────────────────────────────────────────────────────────────────
  read    4.00k   15.6 MiB/s     40,000    156 MiB       99.8 µs        0       0
  write     200    800 KiB/s      2,000   7.81 MiB        400 µs        0       0
  fsync       4            –         40          –       3.00 ms        0       0


  kind    latency          min      mean    stddev       p50       p90       p99     p99.9    p99.99       max
 ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
  read    total        60.0 µs   80.0 µs   14.1 µs   80.4 µs   99.8 µs   99.8 µs   99.8 µs   99.8 µs    100 µs
          submission   15.0 µs   20.0 µs   3.54 µs   20.1 µs   25.0 µs   25.0 µs   25.0 µs   25.0 µs   25.0 µs
          completion   45.0 µs   60.0 µs   10.6 µs   60.2 µs   75.0 µs   75.0 µs   75.0 µs   75.0 µs   75.0 µs
  write   total         400 µs    400 µs      0 ns    400 µs    400 µs    400 µs    400 µs    400 µs    400 µs
          submission    100 µs    100 µs      0 ns    100 µs    100 µs    100 µs    100 µs    100 µs    100 µs
          completion    300 µs    300 µs      0 ns    300 µs    300 µs    300 µs    300 µs    300 µs    300 µs
  fsync   total        3.00 ms   3.00 ms      0 ns   3.00 ms   3.00 ms   3.00 ms   3.00 ms   3.00 ms   3.00 ms
          submission    750 µs    750 µs      0 ns    750 µs    750 µs    750 µs    750 µs    750 µs    750 µs
          completion   2.25 ms   2.25 ms      0 ns   2.25 ms   2.25 ms   2.25 ms   2.25 ms   2.25 ms   2.25 ms


  disk    IOPS    bandwidth   requests      bytes   latency p99   failed   short
 ────────────────────────────────────────────────────────────────────────────────
  a      4.00k   15.6 MiB/s     40,000    156 MiB       99.8 µs        0       0
  b        204    800 KiB/s      2,040   7.81 MiB       3.00 ms        0       0

  CPU of each worker: 2.5 % user, 5.0 % system; context switches: 2,000; page faults: 4 major, 600 minor

record: 42,040 requests and 400 checkpoints in 10.500 s, seed 7
CPU of the coordinator: 0.125 s user, 0.062 s system, 4.46 µs a request
tape: run.tape, 64,000 bytes, 1.5 bytes a request
"""
