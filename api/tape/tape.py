"""`ringtape.open_tape`: a tape in Python, by request or by columns.

Responsible for a face that stays the same while the format grows. It reads as a stream and checks all it gives out,
runs nothing that is on a tape, and keeps a block and what is in flight.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack

from ringtape.coordinator.tape import Table, TapeReader
from ringtape.settings import UsageError
from ringtape.tape import records
from ringtape.tape.selection import Selection, first_id_after, select, selected
from ringtape.tape.words import level_name


@dataclass(frozen=True, slots=True)
class TapeDisk:
    """A disk of a tape, as it was when the run began. `workers` are those that use it; empty is all."""

    name: str
    path: str
    size: int
    block_size: int
    direct: bool
    block_device: bool
    fresh: bool
    made: bool
    workers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TapeHeader:
    """What a tape says before its first request. `arguments` is text for people; `cut_of` is None for a whole run."""

    format: int
    program: str
    program_file: str
    program_sha256: str
    arguments: str
    workers: int
    seed: int
    data: str
    overlap: str
    policy: str
    started_at_ns: int
    ringtape: str
    python: str
    kernel: str
    replay_of: str | None
    cut_of: str | None
    disks: tuple[TapeDisk, ...]


@dataclass(frozen=True, slots=True)
class TapeRequest:
    """A request with what came of it; None is what did not happen, or is not on the tape.

    Times are nanoseconds since the start of the run. `checkpoint` is the last that the worker had passed when it
    made the request, `released_at` the one that gave it the completion. `covers` is of an fsync: how many of the
    worker's completions it covers. Digests are xxh3-64 in hex: `request_digest` of what it wrote, `digest` of what
    it read.
    """

    id: int
    worker: int
    sequence: int
    checkpoint: int
    kind: str
    disk: str
    offset: int
    length: int
    flags: tuple[str, ...]
    covers: int | None
    request_digest: str | None
    submitted_ns: int
    completed_ns: int | None
    result: int | None
    digest: str | None
    released_ns: int | None
    released_at: int | None

    @property
    def latency_ns(self) -> int | None:
        """From the hand to the kernel to the completion."""
        return None if self.completed_ns is None else self.completed_ns - self.submitted_ns


class Filters(TypedDict, total=False):
    """Which requests: the arguments of `Tape.columns`."""

    first_id: int | None
    last_id: int | None
    after: tuple[int, int] | None
    disk: str | Collection[str]
    worker: int | Collection[int]
    kind: str | Collection[str]


def open_tape(path: str | os.PathLike[str]) -> Tape:
    """Open a tape to look into it. Close it, or use it in a `with`; runs cannot write it anew while it is open.

    Raises:
        TapeError: there is no such file, it cannot be read, is not a tape, or is of a newer ringtape.
        TapeDamaged: not even its header is whole.
    """
    return Tape(os.fspath(path))


class Tape:
    """A tape that is there to be read; `open_tape` makes one.

    Every method that gives requests takes the same filters, all by keyword: `first_id` and `last_id` (both included),
    `after` (a pair of worker and checkpoint: what anybody asked for after that), `disk`, `worker` and `kind` (one, or
    several of them). What is before the first request is not read. Requests come with the block of the
    tape that released them, by id within a block, and those that were never released come last. Their ids are the
    order in which those that conflict were done, unless `header.overlap` is "race".

    Each raises TapeDamaged at the first damage, after everything before it was given out; TapeError where the tape
    has no such request or checkpoint; UsageError where it cannot have such a disk, worker or kind. One at a time:
    what an earlier call gave is to be used up, or left, before the next.
    """

    def __init__(self, path: str) -> None:
        self._reader = TapeReader.open(path)
        self.path = path
        self.header = _header(self._reader)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[TapeRequest]:
        return self.requests()

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    @property
    def ended(self) -> str | None:
        """How the tape ends: `sealed`, `unsealed` or `damaged`; None until something has read to its end."""
        end = self._reader.end
        return None if end is None else end.value

    def requests(self, **filters: Unpack[Filters]) -> Iterator[TapeRequest]:
        """The requests, one by one."""
        for rows in self.columns(**filters):
            found = records.columns(rows, self._reader.header)
            found["flags"] = [tuple(flags.split()) for flags in found["flags"]]
            for values in zip(*found.values(), strict=True):
                yield TapeRequest(*values)

    def columns(
        self,
        *,
        first_id: int | None = None,
        last_id: int | None = None,
        after: tuple[int, int] | None = None,
        disk: str | Collection[str] = (),
        worker: int | Collection[int] = (),
        kind: str | Collection[str] = (),
    ) -> Iterator[Table]:
        """The requests as NumPy arrays, one or none for each block of the tape.

        Their fields are those of `TapeRequest`, as numbers: `kind` from 1 (read, write, write_zeroes, discard,
        fsync), `flags` as bits (1 fua, 2 data-only), `disk` as the index into `header.disks`, digests as they are.
        What is None there is -1 here in `covers`, `completed_ns` and `released_ns`, and 0 elsewhere.
        """
        selection = self._select(first_id, last_id, after, disk, worker, kind)
        return selected(self._reader, selection)

    def to_arrow(self, **filters: Unpack[Filters]) -> Any:
        """The requests as a `pyarrow.Table`, in memory. Raises UsageError where pyarrow is not installed."""
        from ringtape.tape import arrow

        return arrow.to_arrow(self.columns(**filters), self._reader.header)

    def to_pandas(self, **filters: Unpack[Filters]) -> Any:
        """The requests as a `pandas.DataFrame`, in memory. Raises UsageError where pandas is not installed."""
        from ringtape.tape import arrow

        return arrow.to_pandas(self.columns(**filters), self._reader.header)

    def _select(
        self,
        first_id: int | None,
        last_id: int | None,
        after: tuple[int, int] | None,
        disk: str | Collection[str],
        worker: int | Collection[int],
        kind: str | Collection[str],
    ) -> Selection:
        if after is not None:
            if first_id is not None:
                raise UsageError("first_id and after both say where to begin: give one of them")
            first_id = first_id_after(self._reader, *after)
        return select(
            self._reader,
            first_id=first_id,
            last_id=last_id,
            disks=(disk,) if isinstance(disk, str) else disk,
            workers=(worker,) if isinstance(worker, int) else worker,
            kinds=(kind,) if isinstance(kind, str) else kind,
        )


def _header(reader: TapeReader) -> TapeHeader:
    header = reader.header
    return TapeHeader(
        format=reader.version,
        program=header.program,
        program_file=header.program_file,
        program_sha256=header.program_sha256.hex(),
        arguments=header.arguments_text,
        workers=header.workers,
        seed=header.seed,
        data=level_name(header.data),
        overlap=header.overlap,
        policy=header.policy,
        started_at_ns=header.started_at_ns,
        ringtape=header.ringtape_version,
        python=header.python_version,
        kernel=header.kernel_version,
        replay_of=header.replay_of or None,
        cut_of=header.cut.of if header.HasField("cut") else None,
        disks=tuple(
            TapeDisk(
                name=disk.name,
                path=disk.path,
                size=disk.size,
                block_size=disk.block_size,
                direct=disk.direct,
                block_device=disk.block_device,
                fresh=disk.fresh,
                made=disk.made,
                workers=tuple(disk.workers),
            )
            for disk in header.disks
        ),
    )
