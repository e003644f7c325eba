"""A job: what workers are to ask of disks, said in fio's words and checked.

Whatever cannot be is refused here with one line, before a disk is opened. Nothing here makes a request.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ringtape.engine.requests import Kind
from ringtape.engine.volume import DEPTH_MAX
from ringtape.jobs.blocks import Blocks
from ringtape.jobs.errors import JobError

WORKERS_MAX = 1024
RATE_MAX = 1_000_000_000
#: Of a job, by name: its kinds, reads before writes, and whether it goes by random places.
PATTERNS: dict[str, tuple[tuple[Kind, ...], bool]] = {
    "read": ((Kind.READ,), False),
    "write": ((Kind.WRITE,), False),
    "randread": ((Kind.READ,), True),
    "randwrite": ((Kind.WRITE,), True),
    "rw": ((Kind.READ, Kind.WRITE), False),
    "randrw": ((Kind.READ, Kind.WRITE), True),
    "trim": ((Kind.DISCARD,), False),
    "randtrim": ((Kind.DISCARD,), True),
}
#: The distributions, with what their parameter is called and what is below and above it; None where there is none.
DISTRIBUTIONS: dict[str, tuple[str, float, float] | None] = {
    "random": None,
    "zipf": ("theta", 0.0, 100.0),
    "pareto": ("h", 0.0, 1.0),
    "normal": ("sigma", 0.0, 100.0),
}


DEFAULT_BLOCKS = Blocks((4096,))


@dataclass(frozen=True)
class Distribution:
    """How random places are distributed: `shape` is one of DISTRIBUTIONS, `parameter` is 0 for the one without."""

    shape: str = "random"
    parameter: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Distribution:
        """From `random`, `zipf:1.2`, `pareto:0.2` or `normal:10`; raises `JobError`."""
        shape, colon, rest = text.partition(":")
        if shape not in DISTRIBUTIONS:
            raise JobError(
                f"random_distribution {text!r} is none of random, zipf:THETA, pareto:H, normal:SIGMA"
            )
        limits = DISTRIBUTIONS[shape]
        if limits is None:
            if colon:
                raise JobError(f"random_distribution {text!r}: {shape} has no parameter")
            return cls(shape)
        name, low, high = limits
        try:
            parameter = float(rest)
        except ValueError:
            parameter = low
        if not low < parameter <= high or (shape == "pareto" and parameter == high):
            ends = (
                f"above {low:g} and below {high:g}"
                if shape == "pareto"
                else f"above {low:g}, {high:g} at most"
            )
            usual = 1.2 if shape == "zipf" else high / 5
            raise JobError(
                f"random_distribution {text!r}: {name} is a number {ends}, as in {shape}:{usual:g}"
            )
        return cls(shape, parameter)

    def __str__(self) -> str:
        return f"{self.shape}:{self.parameter:g}" if self.parameter else self.shape


@dataclass(frozen=True)
class Percent:
    """A share of a disk, in percent."""

    share: float

    def of(self, size: int, multiple: int) -> int:
        """So much of so many bytes, rounded down to a multiple."""
        return int(size * self.share / 100) // multiple * multiple

    def __str__(self) -> str:
        return f"{self.share:g}%"


@dataclass(frozen=True)
class Job:
    """The work of one or more workers.

    Attributes:
        name: in reports and errors.
        rw: one of PATTERNS.
        reads, writes: how long requests are; `reads` is that of discards too.
        rwmixread: of a mix, the share of reads in percent.
        iodepth: so many requests of a worker are under way at once.
        workers: how many do this work, each all of it.
        disks: names of those that it goes to, in turn; empty is every disk there is.
        offset: where its stretch of each disk begins, in bytes or in percent of the disk.
        size: how long that is, in bytes or in percent of the disk; None is up to the end of the disk.
        io_size: a worker ends after so many bytes. None is once through the stretch of every disk, or no limit where
            `runtime_s` or `number_ios` is one.
        runtime_s: a worker ends after so many seconds on the recorded clock.
        number_ios: a worker ends after so many requests, without fsyncs.
        rate_iops: so many requests a second and worker are made, and not more.
        fsync: an fsync after so many writes on a disk; 0 is none.
        fdatasync: the same, of data only; one of the two at most.
        fua: writes are on stable storage when they complete.
        random_distribution: of random places.
        random_map: each place once before any comes again. None is yes where that can be.
        verify: what is written can be known again, and is checked when it is read.
        stonewall: begins when all jobs before it have ended.
    """

    name: str
    rw: str = "read"
    reads: Blocks = DEFAULT_BLOCKS
    writes: Blocks = DEFAULT_BLOCKS
    rwmixread: int = 50
    iodepth: int = 1
    workers: int = 1
    disks: tuple[str, ...] = ()
    offset: int | Percent = 0
    size: int | Percent | None = None
    io_size: int | None = None
    runtime_s: float | None = None
    number_ios: int | None = None
    rate_iops: int | None = None
    fsync: int = 0
    fdatasync: int = 0
    fua: bool = False
    random_distribution: Distribution = Distribution()
    random_map: bool | None = None
    verify: bool = False
    stonewall: bool = False

    def __post_init__(self) -> None:
        """Raise `JobError` for what cannot be."""
        if self.rw not in PATTERNS:
            raise self.error(f"rw {self.rw!r} is none of {', '.join(PATTERNS)}")
        self._check_numbers()
        if self.fsync and self.fdatasync:
            raise self.error("fsync and fdatasync do not go together: choose one")
        if self.verify and not self.reading and not self.writing:
            raise self.error(f"verify goes with what is read or written, and rw is {self.rw}")
        if self.random_map and not self._can_cover:
            raise self.error("random_map goes with one block size and random_distribution random")

    def _check_numbers(self) -> None:
        numbers: dict[str, tuple[float | None, float, float | None]] = {
            "rwmixread": (self.rwmixread, 0, 100),
            "iodepth": (self.iodepth, 1, DEPTH_MAX),
            "workers": (self.workers, 1, WORKERS_MAX),
            "number_ios": (self.number_ios, 1, None),
            "rate_iops": (self.rate_iops, 1, RATE_MAX),
            "offset": (_bytes_or_none(self.offset), 0, None),
            "size": (_bytes_or_none(self.size), 1, None),
            "io_size": (self.io_size, 1, None),
            "fsync": (self.fsync, 0, None),
            "fdatasync": (self.fdatasync, 0, None),
        }
        for name, (value, low, high) in numbers.items():
            if value is not None and (value < low or (high is not None and value > high)):
                limits = f"{low} to {high}" if high is not None else f"{low} at least"
                raise self.error(f"{name} {value} must be a whole number, {limits}")
        for name, share in (("offset", self.offset), ("size", self.size)):
            if isinstance(share, Percent) and not (
                0 <= share.share <= 100 and (share.share or name == "offset")
            ):
                raise self.error(
                    f"{name} {share} must be {'0' if name == 'offset' else 'more than 0'} to 100 percent"
                )
        if self.runtime_s is not None and not 0 < self.runtime_s <= 1e9:
            raise self.error(f"runtime {self.runtime_s:g} must be seconds, more than 0 and 1e9 at most")

    def error(self, text: str) -> JobError:
        """The error that says this of the job."""
        return JobError(f"job {self.name}: {text}")

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of its requests, without fsync."""
        return PATTERNS[self.rw][0]

    @property
    def random(self) -> bool:
        """Does it go by random places?"""
        return PATTERNS[self.rw][1]

    @property
    def reading(self) -> bool:
        """Does it read?"""
        return Kind.READ in self.kinds

    @property
    def writing(self) -> bool:
        """Does it write?"""
        return Kind.WRITE in self.kinds

    @property
    def blocks(self) -> tuple[Blocks, ...]:
        """The block sizes that are in use."""
        return tuple(dict.fromkeys(self.writes if kind is Kind.WRITE else self.reads for kind in self.kinds))

    @property
    def largest(self) -> int:
        """The longest request there may be."""
        return max(blocks.largest for blocks in self.blocks)

    @property
    def unit(self) -> int:
        """What all offsets, from the start of the stretch, and all lengths are multiples of."""
        return math.gcd(*(blocks.unit for blocks in self.blocks))

    @property
    def covers(self) -> bool:
        """Does each random place come once before any comes again?"""
        return self._can_cover and self.random_map is not False

    @property
    def _can_cover(self) -> bool:
        return self.largest == self.unit and self.random_distribution.shape == "random"


def _bytes_or_none(extent: int | Percent | None) -> int | None:
    return None if isinstance(extent, Percent) else extent


@dataclass(frozen=True)
class Region:
    """A job's stretch of a disk: `size` bytes from byte `begin`, a multiple of the job's unit."""

    begin: int
    size: int


def region_of(job: Job, disk: str, size: int, block_size: int, *, seat: int = 0) -> Region:
    """The stretch of a disk of so many bytes for one of the job's workers; `JobError` if the disk does not do for it.

    All workers have the same, but where they verify: then each has a part, so that it knows what is in it.
    """
    multiple = math.lcm(block_size, job.unit)
    offset, wanted = (
        extent.of(size, multiple) if isinstance(extent, Percent) else extent
        for extent in (job.offset, job.size)
    )
    assert offset is not None
    for name, value in (("offset", offset), *(("bs", blocks.unit) for blocks in job.blocks)):
        if value % block_size:
            raise job.error(
                f"{name} {value} is not a multiple of the block size of disk {disk!r}, {block_size}"
            )
    left = max(size - offset, 0)
    if wanted is not None and wanted > left:
        raise job.error(f"size {job.size} from offset {job.offset} is more than disk {disk!r} has, {size}")
    part = (left if wanted is None else wanted) // (job.workers if job.verify else 1)
    whole = part // job.unit * job.unit
    if job.largest > whole:
        of = f", {part} bytes for each of {job.workers} workers" if job.verify and job.workers > 1 else ""
        raise job.error(
            f"a block size of {job.largest} is more than its stretch of disk {disk!r} has: {left} bytes from offset "
            f"{job.offset}{of}"
            if job.size is None
            else f"a block size of {job.largest} is more than size {job.size}{of}"
        )
    return Region(offset + (whole * seat if job.verify else 0), whole)


def bounded(job: Job, regions: list[Region]) -> Job:
    """The job with an end: without one of its own it goes once through its regions."""
    if job.io_size is None and job.runtime_s is None and job.number_ios is None:
        return replace(job, io_size=sum(region.size for region in regions))
    return job
