"""Options as users write them, on the command line or in a file, and the job that they make.

An option's name is that of the command line with `_` for `-`. What applies to every job of a file is left out of a job
for which it has no meaning; what is given to a job itself is refused there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from ringtape.engine.disks import parse_size
from ringtape.engine.requests import Kind
from ringtape.jobs.blocks import Blocks
from ringtape.jobs.errors import JobError
from ringtape.jobs.job import PATTERNS, Distribution, Job, Percent
from ringtape.proto.errors import DiskError

_TIME = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(us|ms|s|m|h|d)?", re.IGNORECASE)
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _whole(value: Any) -> int:
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value.strip()):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("a whole number")
    return value


def _size(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        return 0 if str(value).strip() == "0" else parse_size(str(value))
    except DiskError:
        raise ValueError('a size, "4096" or "64M"') from None


def _extent(value: Any) -> int | Percent:
    """A size, or with a percent sign a share of the disk."""
    text = value.strip() if isinstance(value, str) else ""
    if not text.endswith("%"):
        return _size(value)
    if not re.fullmatch(r"[0-9]{1,9}(?:\.[0-9]{1,9})?\s*%", text):
        raise ValueError('a size or a share of the disk, "64M" or "50%"')
    return Percent(float(text[:-1]))


def seconds(value: Any) -> float:
    """From 10, "10", "10s", "500ms", "2m", "1h"; raises ValueError that says what it should be."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    found = _TIME.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ValueError('seconds, or a time such as "500ms" or "2m"')
    return float(found[1]) * _SECONDS[(found[2] or "s").lower()]


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("text")
    return value


def _blocks(value: Any) -> tuple[Blocks, Blocks]:
    reads, comma, writes = str(value).partition(",")
    parsed = Blocks.parse(reads.strip())
    return parsed, Blocks.parse(writes.strip()) if comma else parsed


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not value or not all(isinstance(one, str) for one in value):
        raise ValueError("a list of names of disks")
    return tuple(value)


def _distribution(value: Any) -> Distribution:
    return Distribution.parse(_text(value))


#: Every option, and what makes its value of what was written; it raises ValueError, which says what it should be.
OPTIONS: dict[str, Callable[[Any], Any]] = {
    "rw": _text,
    "bs": _blocks,
    "rwmixread": _whole,
    "iodepth": _whole,
    "workers": _whole,
    "disks": _names,
    "offset": _extent,
    "size": _extent,
    "io_size": _size,
    "runtime": seconds,
    "number_ios": _whole,
    "rate_iops": _whole,
    "fsync": _whole,
    "fdatasync": _whole,
    "fua": _flag,
    "random_distribution": _distribution,
    "random_map": _flag,
    "verify": _flag,
    "stonewall": _flag,
}


def job_of(name: str, own: Mapping[str, Any], common: Mapping[str, Any] | None = None) -> Job:
    """The job of that name; `JobError` names the option and the value that cannot be."""
    parsed = {option: _parsed(name, option, value) for option, value in {**(common or {}), **own}.items()}
    rw = parsed.get("rw", "read")
    if rw in PATTERNS:
        for option in list(parsed):
            missing = missing_for(option, parsed[option], rw)
            if missing and option in own:
                raise JobError(f"job {name}: {option} goes with {missing}, and rw is {rw}")
            if missing:
                del parsed[option]
    if "bs" in parsed:
        parsed["reads"], parsed["writes"] = parsed.pop("bs")
    if "runtime" in parsed:
        parsed["runtime_s"] = parsed.pop("runtime")
    return Job(name, **parsed)


def missing_for(option: str, value: Any, rw: str) -> str:
    """What a job of this pattern would need for the option to mean something; empty if it does."""
    kinds, random = PATTERNS[rw]
    if option == "rwmixread" and len(kinds) < 2:
        return "a mix of reads and writes"
    if option in ("fsync", "fdatasync", "fua") and Kind.WRITE not in kinds:
        return "writes"
    if option in ("random_distribution", "random_map") and not random:
        return "random places"
    if option == "bs" and value[0] != value[1] and len(kinds) < 2:
        return "a mix of reads and writes where it has two parts"
    return ""


def _parsed(name: str, option: str, value: Any) -> Any:
    check_known(option, OPTIONS, f"job {name}")
    try:
        return OPTIONS[option](value)
    except JobError as error:
        raise JobError(f"job {name}: {error}") from None
    except ValueError as error:
        raise JobError(f"job {name}: {option} {value!r} must be {error}") from None


def check_known(option: str, known: Iterable[str], where: str) -> None:
    """Raise `JobError` for an option that nobody knows, with the one that it is most like."""
    names = list(known)
    if option not in names:
        near = get_close_matches(option, names, 1, 0.5)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
        raise JobError(f"{where}: there is no option {option!r}; {hint}")


def with_disks(jobs: Iterable[Job], names: Iterable[str]) -> list[Job]:
    """The jobs with the names of the disks that they go to; `JobError` for a disk that is not there."""
    there = tuple(names)
    found = []
    for job in jobs:
        if not there:
            raise job.error("there is no disk; give one with --disk NAME=PATH")
        for name in job.disks:
            if name not in there:
                raise job.error(f"there is no disk {name!r}; there are {', '.join(there)}")
        if len(set(job.disks)) < len(job.disks):
            raise job.error(f"disks names one of them twice: {', '.join(job.disks)}")
        found.append(replace(job, disks=job.disks or there))
    return found
