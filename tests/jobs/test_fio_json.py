"""The JSON report is one of fio's: the same code reads both, and finds in ours what was measured."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ringtape.engine.requests import Kind
from ringtape.jobs import fio_json
from ringtape.jobs.errors import JobError
from ringtape.jobs.histogram import ERROR
from ringtape.jobs.outcome import JobOutcome
from tests.jobs.making import DEPTHS, USAGE, make_job, make_outcome, make_record

READS = [[1000 * (1 + place % 100) for place in range(200)] for _ in range(20)]
FSYNCS = [[3_000_000] for _ in range(20)]


def a_job() -> JobOutcome:
    latencies = {(0, Kind.READ): READS, (1, Kind.READ): READS, (1, Kind.FSYNC): FSYNCS}
    records = [make_record(latencies, worker=worker) for worker in range(2)]
    return make_job("first", *records, rw="randread", bs="4k", iodepth="8")


def report() -> Any:
    return json.loads(fio_json.dumps(make_outcome([a_job()])))


def shape(value: Any) -> Any:
    """Names and types, all that there are."""
    if isinstance(value, dict):
        return {name: shape(below) for name, below in value.items()}
    return "number" if isinstance(value, int | float) else type(value).__name__


def figures(report: Any) -> dict[str, Any]:
    """A reader of fio's reports, as there are many: it asks for everything without a default."""
    found: dict[str, Any] = {"version": report["fio version"], "time": report["timestamp"]}
    for job in report["jobs"]:
        name = job["jobname"], job["groupid"], job["error"], job["job options"]["rw"]
        found["job"] = (
            name,
            job["usr_cpu"] + job["sys_cpu"],
            job["ctx"],
            job["majf"] + job["minf"],
            job["elapsed"],
        )
        for direction in ("read", "write", "trim"):
            part = job[direction]
            found[direction] = {
                "requests": part["total_ios"],
                "bytes": part["io_bytes"],
                "rate": part["iops"],
                "rate from bytes": part["bw_bytes"],
                "seconds": part["runtime"] / 1000,
                "samples": (part["iops_samples"], part["bw_samples"]),
                "mean": part["lat_ns"]["mean"],
                "parts": part["slat_ns"]["mean"] + part["clat_ns"]["mean"],
                "deviation": part["clat_ns"]["stddev"],
            }
            if part["total_ios"]:
                found[direction]["p"] = {
                    float(key): value for key, value in part["clat_ns"]["percentile"].items()
                }
        found["sync"] = job["sync"]["total_ios"], job["sync"]["lat_ns"]["mean"]
        found["shares"] = sum(sum(job[f"latency_{unit}"].values()) for unit in ("ns", "us", "ms"))
        found["depths"] = job["iodepth_level"]
    return found


@pytest.fixture(scope="module")
def fios(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A report of fio's, on a file that it makes."""
    fio = shutil.which("fio")
    if fio is None:
        pytest.skip("fio is not on PATH")
    disk = tmp_path_factory.mktemp("fio") / "disk"
    command = [fio, "--name=first", f"--filename={disk}", "--size=1M", "--rw=randrw", "--bs=4k", "--fsync=8"]
    done = subprocess.run([*command, "--output-format=json"], capture_output=True, text=True, check=True)
    path = disk.with_name("fio.json")
    path.write_text("fio: a note before it\n" + done.stdout)
    return fio_json.read(str(path))


def test_it_is_laid_out_as_fios(fios: Any) -> None:
    """All that fio's has ours has, with the same types; ours has more only where it says that it is ours."""
    theirs, ours = shape(fios["jobs"][0]), shape(report()["jobs"][0])
    for job in (theirs, ours):
        job.pop("job options")
        for name in ("read", "write"):
            job[name]["clat_ns"].pop("percentile", None)
            job[name]["lat_ns"].pop("percentile", None)
    ours.pop("ringtape")
    assert theirs == ours
    top = shape(fios)
    assert {name: top[name] for name in top if name != "jobs"} == {
        name: value for name, value in shape(report()).items() if name not in ("jobs", "ringtape")
    }
    percentiles = fios["jobs"][0]["read"]["clat_ns"]["percentile"]
    assert list(percentiles) == list(report()["jobs"][0]["read"]["clat_ns"]["percentile"])


def test_one_reader_reads_both(fios: Any) -> None:
    for one in (fios, report()):
        read = figures(one)["read"]
        assert read["bytes"] == 4096 * read["requests"] > 0
        assert read["rate"] == pytest.approx(read["requests"] / read["seconds"], rel=0.05)
        assert read["parts"] == pytest.approx(read["mean"], rel=0.02)
        assert figures(one)["shares"] == pytest.approx(100, abs=0.1)


def test_the_figures_are_those_that_were_measured() -> None:
    found = figures(report())
    times = np.array(READS).reshape(-1)
    read = found["read"]
    assert (read["requests"], read["bytes"], read["seconds"]) == (4 * len(times), 4 * len(times) * 4096, 10)
    assert read["rate"] == 4 * len(times) / 10
    assert read["mean"] == times.mean()
    completion = times - times // 4
    assert read["deviation"] == pytest.approx(completion.std(), rel=1e-3)
    for percent, value in read["p"].items():
        exact = np.percentile(completion, percent, method="inverted_cdf")
        assert abs(value - exact) <= ERROR * exact + 1
    assert read["samples"] == (19, 19)
    assert list(found["depths"].values()) == [*DEPTHS[:4], 0, 0, 0]
    assert found["sync"] == (40, 3_000_000)
    assert found["write"]["requests"] == found["trim"]["requests"] == 0
    usr_and_sys = 100 * (USAGE.user_s + USAGE.system_s) / 10
    assert found["job"] == (("first", 0, 0, "randread"), usr_and_sys, 2000, 604, 10)


def test_shares_of_latency_are_by_fios_bounds() -> None:
    """0.75, 1.5, ... 75 µs of completion, equally often."""
    job = report()["jobs"][0]
    times = np.array(READS).reshape(-1)
    completion = times - times // 4
    for low, high in ((750, 1000), (2_000, 4_000), (20_000, 50_000), (50_000, 100_000)):
        unit, name = ("us", high // 1000) if high > 1000 else ("ns", high)
        exact = 100 * ((completion >= low) & (completion < high)).mean()
        assert job[f"latency_{unit}"][str(name)] == pytest.approx(exact, abs=1.01)


def test_what_was_not_measured_is_not_made_up() -> None:
    """Of a replay nothing was told beside the run: no CPU time, and submission and completion as fio has nothing."""
    job = a_job()
    replay = json.loads(
        fio_json.dumps(make_outcome([JobOutcome("first", {}, job.records, {})], mode="replay"))
    )
    read = replay["jobs"][0]["read"]
    assert read["slat_ns"] == read["clat_ns"] == {"min": 0, "max": 0, "mean": 0, "stddev": 0, "N": 0}
    assert read["lat_ns"]["N"] == read["total_ios"] > 0
    assert "usr_cpu" not in replay["jobs"][0]
    assert "tape" not in replay["ringtape"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no report"),
        ("\0\1\2", "no report"),
        ("[1, 2]", "no report"),
        ("{}", "no jobs"),
        ('{"fio version": "fio-3.33", "jobs": []}', "no jobs"),
        ('{"fio version": "fio-3.33", "jobs": [{}]}', "no name"),
        ('{"fio version": "x", "jobs": [{"jobname": "a", "read": {"iops": NaN}}]}', "NaN is no number"),
        ('{"fio version": "x", "jobs": [{"jobname": "a"}]}\n' * 2, "more behind its first report"),
        ('{"fio version": "x", "jobs": [{"jobname": "a", "ringtape": {"over_time": 3}}]}', "over time"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(JobError, match=said) as error:
        fio_json.read(str(path))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_report_may_stand_amid_what_fio_prints(tmp_path: Path) -> None:
    """As with fio's --output-format=normal,json."""
    path = tmp_path / "report.json"
    path.write_text(f"fio: a note before it\n{json.dumps(report())}\n\na: (groupid=0, jobs=1): err= 0\n")
    assert fio_json.read(str(path)) == json.loads(json.dumps(report()))


def test_a_report_that_is_no_text_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    with pytest.raises(JobError, match="No such file"):
        fio_json.read(str(path))
    path.write_bytes(b"\xff\xfe\x80")
    with pytest.raises(JobError, match="no text"):
        fio_json.read(str(path))
