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
from pathlib import Path
from typing import Any

from ringtape.benchmarks.errors import BenchmarkError
from ringtape.benchmarks.jobs import Job, Measurement

VERSION_MIN = (3, 0)
RUN_S_MAX = 3600
_INSTALL = "install it (Debian and Ubuntu: apt-get install fio; Fedora: dnf install fio; Arch: pacman -S fio)"

# What the second of the two ways of running it adds to the first.
REGISTERED: Mapping[str, object] = {"registerfiles": 1, "fixedbufs": 1}
# Fewer system calls; of no use where that many are never under way.
BATCH = 16
BATCHES: Mapping[str, object] = {"iodepth_batch_submit": BATCH, "iodepth_batch_complete_min": BATCH}


@dataclass(frozen=True)
class Fio:
    """An fio that can be used."""

    path: str
    version: str

    def measure(
        self,
        files: Sequence[Sequence[str]],
        job: Job,
        *,
        requests: int,
        seed: int,
        options: Mapping[str, object],
        write_iolog: Path | None = None,
    ) -> Measurement:
        """Run the job once, a process for each list of files; `BenchmarkError` with fio's own words where it fails."""
        if write_iolog is not None:
            for number in range(len(files)):  # fio would append to it
                _own_iolog(write_iolog, number).unlink(missing_ok=True)
        command = command_line(
            self.path,
            files,
            job,
            requests=requests,
            seed=seed,
            options=options,
            write_iolog=write_iolog,
        )
        return parse(_output_of(command), jobs=len(files), writes=job.writes)

    def replay(self, iolog: Path, job: Job, *, requests: int, options: Mapping[str, object]) -> Measurement:
        """Do what fio wrote down in a file, without waiting in between."""
        found = parse(_output_of(replay_line(self.path, iolog, job, options=options)), writes=job.writes)
        # It does not count what is under way when the file ends.
        if not requests - job.depth <= found.requests <= requests:
            raise BenchmarkError(f"fio replayed {found.requests} requests instead of {requests}")
        return found


def _output_of(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=RUN_S_MAX)
    except subprocess.TimeoutExpired:
        raise BenchmarkError(f"fio has not ended within {RUN_S_MAX} s: {' '.join(command)}") from None
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())[:500]
        raise BenchmarkError(f"fio ended with exit status {done.returncode}: {said}")
    return done.stdout


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
    fio: str,
    files: Sequence[Sequence[str]],
    job: Job,
    *,
    requests: int,
    seed: int,
    options: Mapping[str, object],
    write_iolog: Path | None = None,
) -> list[str]:
    """Random reads or writes anywhere on whole files or devices, `requests` in all, some blocks more than once.

    Each list of files has a process of its own, which goes to any of them at random; each process writes an iolog of
    its own, if they do.
    """
    settings = {
        "rw": "randwrite" if job.writes else "randread",
        "bs": job.block_bytes,
        "iodepth": job.depth,
        "ioengine": "io_uring",
        "direct": 1,
        "norandommap": 1,
        "randseed": seed + 1,
        "allow_file_create": 0,
        "io_size": requests // len(files) * job.block_bytes,
        **options,
    }
    command = [fio, *_always(job)]
    for number, own in enumerate(files):
        # fio takes a bare colon for the end of a name.
        name = ":".join(path.replace(":", r"\:") for path in own)
        command += _arguments({"name": f"worker{number}", "filename": name, **settings})
        if len(own) > 1:
            command += _arguments({"file_service_type": "random"})
        if write_iolog is not None:
            command += _arguments({"write_iolog": _own_iolog(write_iolog, number)})
    return command


def _own_iolog(path: Path, number: int) -> Path:
    """That of a process; the first has the name that was given."""
    return path.with_name(f"{path.name}.{number}") if number else path


def replay_line(fio: str, iolog: Path, job: Job, *, options: Mapping[str, object]) -> list[str]:
    """What an iolog says, one request after the other as the depth lets them."""
    settings = {
        "name": "worker0",
        "read_iolog": iolog,
        "replay_no_stall": 1,
        "iodepth": job.depth,
        "ioengine": "io_uring",
        "direct": 1,
        "allow_file_create": 0,
        # It has no files to register before it has read the iolog, and then fails.
        **{name: value for name, value in options.items() if name != "registerfiles"},
    }
    return [fio, *_always(job), *_arguments(settings)]


def _always(job: Job) -> list[str]:
    return [*([] if job.writes else ["--readonly"]), "--output-format=json"]


def _arguments(settings: Mapping[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in settings.items()]


def ways(job: Job) -> dict[str, Mapping[str, object]]:
    """The ways of running fio that are tried, by name; ringtape is measured beside the better."""
    tuned = REGISTERED if job.depth <= BATCH else {**REGISTERED, **BATCHES}
    return {"fio": {}, "fio-registered": tuned}


def parse(text: str, *, jobs: int = 1, writes: bool = False) -> Measurement:
    """The jobs of fio's JSON report, which may stand behind notes: all requests, and the longest run time.

    `BenchmarkError` for anything else.
    """
    try:
        report: Any = json.loads(text[text.index("{") :])
        found: Sequence[Any] = report["jobs"]
        if len(found) != jobs:
            raise BenchmarkError(f"fio reports {len(found)} jobs instead of {jobs}")
        errors = [int(one["error"]) for one in found]
        parts = [one["write" if writes else "read"] for one in found]
        requests = sum(int(part["total_ios"]) for part in parts)
        runtime_ms = max(float(part["runtime"]) for part in parts)
    except (ValueError, KeyError, TypeError) as problem:
        raise BenchmarkError(
            f"fio's report is not understood ({type(problem).__name__}: {problem})"
        ) from None
    if any(errors):
        raise BenchmarkError(f"fio's job failed with error {max(errors)}")
    if requests <= 0 or runtime_ms <= 0:
        word = "wrote" if writes else "read"
        raise BenchmarkError(f"fio {word} {requests} blocks in {runtime_ms:g} ms: too short to measure")
    return Measurement(requests, runtime_ms / 1e3)
