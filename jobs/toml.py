"""Job files in TOML: disks, options for all jobs, and jobs by name. Unknown words are refused."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ringtape.disks import Disk
from ringtape.jobs.errors import JobError
from ringtape.jobs.job import Job
from ringtape.jobs.options import OPTIONS, check_known, job_of, missing_for

_TABLES = ("global", "disks", "job")
FILE_BYTES_MAX = 1 << 20


@dataclass(frozen=True)
class JobFile:
    """What a file describes, as written.

    Attributes:
        jobs: the own options of each job, by name, in the order of the file.
        common: options for all of them.
        disks: those that the file names.
        notes: what a reader should know of how it was understood.
        lenient: an option that has no meaning for a job is left out, whoever it was given to.
    """

    jobs: dict[str, dict[str, Any]]
    common: dict[str, Any]
    disks: tuple[Disk, ...] = ()
    notes: tuple[str, ...] = ()
    lenient: bool = False

    def jobs_with(self, given: Mapping[str, Any]) -> list[Job]:
        """The jobs, with options for all of them that count more than the file's; raises `JobError`."""
        jobs = []
        for name, options in self.jobs.items():
            left = {option: value for option, value in options.items() if option not in given}
            own, common = ({}, {**self.common, **left}) if self.lenient else (left, self.common)
            jobs.append(job_of(name, own, {**common, **given}))
        for option, value in given.items():
            missing = [missing_for(option, OPTIONS[option](value), job.rw) for job in jobs]
            if all(missing):
                raise JobError(f"{option} goes with {missing[0]}, and no job has that")
        return jobs


def read_jobs(path: str | os.PathLike[str]) -> JobFile:
    """The file as it is; `JobError` in one line for what is no job file. Values are looked at when jobs are made."""
    try:
        found = tomllib.loads(text_of(path))
    except tomllib.TOMLDecodeError as error:
        raise JobError(f"{os.fspath(path)} is not TOML: {error}") from None
    for table, value in found.items():
        check_known(table, _TABLES, os.fspath(path))
        _check_table(value, f"{os.fspath(path)}: {table}")
    common, jobs = found.get("global", {}), found.get("job", {})
    _check_options(common, f"{os.fspath(path)}: global")
    if not jobs:
        raise JobError(f"{os.fspath(path)}: there is no job; a table [job.NAME] is one")
    for name, own in jobs.items():
        _check_table(own, f"{os.fspath(path)}: job.{name}")
        _check_options(own, f"{os.fspath(path)}: job {name}")
    disks = []
    for name, value in found.get("disks", {}).items():
        if not isinstance(value, str):
            raise JobError(f"{os.fspath(path)}: disk {name} is text, as after --disk {name}=, not {value!r}")
        disks.append(Disk.parse(f"{name}={value}"))
    return JobFile(jobs, common, tuple(disks))


def text_of(path: str | os.PathLike[str]) -> str:
    """The text of a job file; `JobError` if it cannot be read."""
    try:
        with open(path, "rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
        if len(data) > FILE_BYTES_MAX:
            raise JobError(f"{os.fspath(path)} is larger than {FILE_BYTES_MAX} bytes: it is no job file")
        return data.decode()
    except OSError as error:
        raise JobError(f"{os.fspath(path)} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise JobError(f"{os.fspath(path)} is not text: it is no job file") from None


def _check_table(value: Any, where: str) -> None:
    if not isinstance(value, Mapping):
        raise JobError(f"{where} must be a table, not {value!r}")


def _check_options(options: Mapping[str, Any], where: str) -> None:
    for option in options:
        check_known(option, OPTIONS, where)
