"""fio as the peer: found on PATH, run with the job that ringtape runs, its JSON read.

Where a job only reads, its command line says `--readonly`; what is written to, the benchmark has made. What fio reports
of a job is taken as it is: the number of requests and its own run time, without its start.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ringtape.benchmarks.errors import BenchmarkError
from ringtape.benchmarks.jobs import Job, Measurement

VERSION_MIN = (3, 0)
RUN_S_MAX = 3600
_INSTALL = "install it (Debian and Ubuntu: apt-get install fio; Fedora: dnf install fio; Arch: pacman -S fio)"

# What the second of the two ways of running it adds to the first.
REGISTERED: Mapping[str, object] = {"registerfiles": 1, "fixedbufs": 1}
# Fewer system calls; of no use at depth 1.
BATCHES: Mapping[str, object] = {"iodepth_batch_submit": 16, "iodepth_batch_complete_min": 16}


@dataclass(frozen=True)
class Fio:
    """An fio that can be used."""

    path: str
    version: str

    def measure(
        self, path: str, job: Job, *, requests: int, seed: int, options: Mapping[str, object]
    ) -> Measurement:
        """Run the job once; `BenchmarkError` with fio's own words where it fails."""
        command = command_line(self.path, path, job, requests=requests, seed=seed, options=options)
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=RUN_S_MAX)
        except subprocess.TimeoutExpired:
            raise BenchmarkError(f"fio has not ended within {RUN_S_MAX} s: {' '.join(command)}") from None
        if done.returncode:
            said = " ".join((done.stderr or done.stdout).split())[:500]
            raise BenchmarkError(f"fio ended with exit status {done.returncode}: {said}")
        return parse(done.stdout, writes=job.writes)


def find() -> Fio:
    """The fio on PATH; `BenchmarkError` says how to get one."""
    path = shutil.which("fio")
    if path is None:
        raise BenchmarkError(f"fio is not on PATH, and it is what ringtape is measured beside: {_INSTALL}")
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchmarkError(f"{path} cannot be run: {error}") from None
    version = parse_version(done.stdout)
    if version is None or version < VERSION_MIN:
        found = " ".join(done.stdout.split()) or f"exit status {done.returncode}"
        raise BenchmarkError(f"{path} is not fio 3 or newer ({found}): {_INSTALL}")
    return Fio(path, ".".join(map(str, version)))


def parse_version(text: str) -> tuple[int, int] | None:
    """Of what `fio --version` prints, `fio-3.33` or `fio-3.36-17-gabcdef`; None for anything else."""
    found = re.match(r"fio-(\d+)\.(\d+)", text.strip())
    return (int(found[1]), int(found[2])) if found else None


def command_line(
    fio: str, path: str, job: Job, *, requests: int, seed: int, options: Mapping[str, object]
) -> list[str]:
    """Random reads or writes anywhere on the whole file or device, `requests` of them, some blocks more than once."""
    settings = {
        "name": "ringtape",
        "filename": path.replace(":", r"\:"),  # fio takes a bare colon for the end of a name
        "rw": "randwrite" if job.writes else "randread",
        "bs": job.block_bytes,
        "iodepth": job.depth,
        "ioengine": "io_uring",
        "direct": 1,
        "norandommap": 1,
        "randseed": seed + 1,
        "allow_file_create": 0,
        "io_size": requests * job.block_bytes,
        **options,
    }
    return [
        fio,
        *([] if job.writes else ["--readonly"]),
        "--output-format=json",
        *(f"--{name}={value}" for name, value in settings.items()),
    ]


def ways(job: Job) -> dict[str, Mapping[str, object]]:
    """The ways of running fio that are tried, by name; ringtape is measured beside the better."""
    tuned = REGISTERED if job.depth == 1 else {**REGISTERED, **BATCHES}
    return {"fio": {}, "fio-registered": tuned}


def parse(text: str, *, writes: bool = False) -> Measurement:
    """The one job of fio's JSON report, which may stand behind notes; `BenchmarkError` for anything else."""
    try:
        report: Any = json.loads(text[text.index("{") :])
        jobs: Sequence[Any] = report["jobs"]
        if len(jobs) != 1:
            raise BenchmarkError(f"fio reports {len(jobs)} jobs instead of one")
        error, read = int(jobs[0]["error"]), jobs[0]["write" if writes else "read"]
        requests, runtime_ms = int(read["total_ios"]), float(read["runtime"])
    except (ValueError, KeyError, TypeError) as problem:
        raise BenchmarkError(
            f"fio's report is not understood ({type(problem).__name__}: {problem})"
        ) from None
    if error:
        raise BenchmarkError(f"fio's job failed with error {error}")
    if requests <= 0 or runtime_ms <= 0:
        word = "wrote" if writes else "read"
        raise BenchmarkError(f"fio {word} {requests} blocks in {runtime_ms:g} ms: too short to measure")
    return Measurement(requests, runtime_ms / 1e3)
