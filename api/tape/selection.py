"""Which requests of a tape a tool is asked for, and the tables of just those.

Responsible for holding what was asked for against what the tape has, for beginning where the first of them is (by the
tape's index) and for ending where the last of them has been released. It keeps what is in flight and nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ringtape.coordinator.tape import (
    Position,
    RequestRow,
    RequestsRun,
    Table,
    TapeReader,
    TokenRun,
    iter_joined,
)
from ringtape.proto.errors import TapeDamaged
from ringtape.settings import UsageError
from ringtape.tape.words import KIND_OF


@dataclass(frozen=True, slots=True)
class Selection:
    """Requests by id (both ends included), disk, worker and kind; None and nothing mean all.

    `disks` are indexes into the header's, `kinds` those of messages_pb2.
    """

    first_id: int | None = None
    last_id: int | None = None
    disks: frozenset[int] = frozenset()
    workers: frozenset[int] = frozenset()
    kinds: frozenset[int] = frozenset()

    @property
    def is_all(self) -> bool:
        """Nothing is left out."""
        return self == Selection()

    def takes(self, row: RequestRow, disk: int) -> bool:
        """The request is one of them; `disk` is the index of its disk."""
        return (
            (self.first_id is None or row.id >= self.first_id)
            and (self.last_id is None or row.id <= self.last_id)
            and (not self.disks or disk in self.disks)
            and (not self.workers or row.worker in self.workers)
            and (not self.kinds or row.kind in self.kinds)
        )

    def of(self, rows: Table) -> Table:
        """Those of the rows that are selected."""
        if self.is_all:
            return rows
        chosen: NDArray[Any] = np.ones(len(rows), dtype=bool)
        if self.first_id is not None:
            chosen &= rows["id"] >= self.first_id
        if self.last_id is not None:
            chosen &= rows["id"] <= self.last_id
        for name, wanted in (("disk", self.disks), ("worker", self.workers), ("kind", self.kinds)):
            if wanted:
                chosen &= np.isin(rows[name], list(wanted))
        found: Table = rows[chosen]
        return found

    def start(self, reader: TapeReader) -> Position | None:
        """Where the first of them is. Raises what `TapeReader.seek` raises."""
        if self.first_id is None or self.first_id == 1:
            return None
        return reader.seek(request_id=self.first_id)


def select(
    reader: TapeReader,
    *,
    first_id: int | None = None,
    last_id: int | None = None,
    disks: Collection[str] = (),
    workers: Collection[int] = (),
    kinds: Collection[str] = (),
) -> Selection:
    """What was asked for, held against the header. Raises UsageError: the tape cannot have that."""
    for name, value in (("first", first_id), ("last", last_id)):
        if value is not None and not 1 <= value < 1 << 64:
            raise UsageError(f"the {name} request id {value} must be 1 or more")
    if first_id is not None and last_id is not None and first_id > last_id:
        raise UsageError(f"the first request id {first_id} is beyond the last, {last_id}")
    names = [disk.name for disk in reader.header.disks]
    for disk in disks:
        if disk not in names:
            raise UsageError(f"the tape has no disk {disk!r}; it has {', '.join(names) or 'none'}")
    for worker in workers:
        if not 0 <= worker < reader.header.workers:
            raise UsageError(f"the tape has no worker {worker}; it has 0 to {reader.header.workers - 1}")
    for kind in kinds:
        if kind not in KIND_OF:
            raise UsageError(f"there is no kind of request {kind!r}; there are {', '.join(KIND_OF)}")
    return Selection(
        first_id,
        last_id,
        frozenset(names.index(disk) for disk in disks),
        frozenset(workers),
        frozenset(KIND_OF[kind] for kind in kinds),
    )


def selected(
    reader: TapeReader, selection: Selection, damage: list[TapeDamaged] | None = None
) -> Iterator[Table]:
    """Tables of the selected requests: each comes with the block that released it, and at the end those never released.

    Within a table they are in the order of their ids. A damage is raised once what is whole was given out; where
    `damage` is given it is put there instead.
    """
    leftover: list[Table] = []
    found: TapeDamaged | None = None
    joined = iter_joined(reader, selection.start(reader), leftover)
    try:
        for one in joined:
            rows = selection.of(one.released)
            if len(rows):
                yield rows
            if selection.last_id is not None and one.open_from > selection.last_id:
                return
    except TapeDamaged as error:
        found = error
    for table in leftover:
        rows = selection.of(table)
        if len(rows):
            yield rows
    if found is not None:
        if damage is None:
            raise found
        damage.append(found)


def first_id_after(reader: TapeReader, worker: int, checkpoint: int) -> int:
    """The id of the first request that anybody made after that checkpoint of the worker, in the order of the tape.

    Raises what `TapeReader.seek` raises: the worker has no such checkpoint.
    """
    view = next(iter(reader.blocks(reader.seek(worker=worker, checkpoint=checkpoint))))
    next_id = view.first_id
    for run in view.runs():
        if isinstance(run, RequestsRun):
            next_id = run.first_id + run.count
        elif isinstance(run, TokenRun) and (run.worker, run.checkpoint) == (worker, checkpoint):
            break
    return next_id
