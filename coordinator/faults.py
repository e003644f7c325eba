"""Requests that the kernel failed or cut short in a recording, got from the tape for the workers of its replay.

A replay on healthy disks has to answer them as the recording did, and a worker cannot know that before it makes the
request: so each is told all of its own before its program begins. They take 16 bytes each, here and there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ringtape.coordinator.tape.faults import FaultScan
from ringtape.coordinator.tape.reader import TapeReader
from ringtape.proto import tape_pb2, wire_pb2
from ringtape.proto.errors import TapeDamaged

# In one message to a worker.
FAULTS_ROWS_MAX = 1 << 16


class Faults:
    """Those of one tape, by worker."""

    def __init__(self, workers: int) -> None:
        self._rows: list[list[tuple[NDArray[Any], NDArray[Any]]]] = [[] for _ in range(workers)]

    @classmethod
    def of_tape(cls, reader: TapeReader) -> Faults:
        """Read what comes before any damage; nothing at all where the seal says that there is none."""
        faults = cls(reader.header.workers)
        seal = reader.find_seal()
        if seal is not None and seal.HasField("faults") and seal.faults == 0:
            return faults
        scan = FaultScan()
        try:
            for block in reader.blocks():
                tables = block.tables
                rows = scan.take(tables, block.completed_ids)
                if len(rows):
                    completions = tables.run_table == tape_pb2.TABLE_COMPLETIONS
                    worker = np.repeat(tables.run_worker[completions], tables.run_count[completions])[rows]
                    sequence = np.frombuffer(tables.sequence, dtype="<u8")[rows]
                    faults._add(worker, sequence, np.frombuffer(tables.result, dtype="<i8")[rows])
        except TapeDamaged:
            pass  # the replay comes to it as well, and says so
        return faults

    def _add(self, worker: NDArray[Any], sequence: NDArray[Any], result: NDArray[Any]) -> None:
        for index in np.unique(worker).tolist():
            own = worker == index
            self._rows[index].append((sequence[own], result[own]))

    def has(self, worker: int) -> bool:
        """Is there anything to tell this worker?"""
        return bool(self._rows[worker])

    def messages(self, worker: int) -> Iterator[wire_pb2.CoordinatorMessage]:
        """What this worker is told after its first message; nothing if it has no faults."""
        if not self._rows[worker]:
            return
        sequence, result = (np.concatenate(column) for column in zip(*self._rows[worker], strict=True))
        order = np.argsort(sequence)
        sequence, result = sequence[order], result[order]
        for start in range(0, len(sequence), FAULTS_ROWS_MAX):
            stop = start + FAULTS_ROWS_MAX
            faults = wire_pb2.Faults(
                sequence=sequence[start:stop].tobytes(),
                result=result[start:stop].tobytes(),
                last=stop >= len(sequence),
            )
            yield wire_pb2.CoordinatorMessage(faults=faults)
