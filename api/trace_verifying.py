"""Whether reads return what was written before: which request wrote each block last, and whether that is what is there.

Writes write the volume face's pattern, so a block tells where it belongs and which request wrote it. What was not
written in this replay, or may have been half written, or was discarded, is not looked at. Memory goes with what is
written, 8 bytes a block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ringtape.engine.faces import BlockingDisk
from ringtape.engine.pattern import pattern_of, pattern_words, stamps
from ringtape.traces.columns import FSYNC, READ, WRITE, Array
from ringtape.traces.placing import ROW

#: So much is read at once by an array.
READ_BYTES_MAX = 8 << 20

_UNKNOWN = -1
# Blocks that are kept track of together.
_REGION = 4096
_BACK_BYTES = 1 << 20


class _Written:
    """Of each block of a disk the sequence number of the request that wrote it last."""

    def __init__(self) -> None:
        self._regions: dict[int, NDArray[np.int64]] = {}

    def mark(self, first: int, count: int, sequence: int) -> None:
        end = first + count
        for number in self._touched(first, end, also_new=sequence != _UNKNOWN):
            region = self._regions.get(number)
            if region is None:
                region = self._regions[number] = np.full(_REGION, _UNKNOWN, np.int64)
            begin = number * _REGION
            region[max(first - begin, 0) : end - begin] = sequence

    def _touched(self, first: int, end: int, *, also_new: bool) -> list[int]:
        numbers = range(first // _REGION, (end - 1) // _REGION + 1)
        if also_new or len(numbers) <= len(self._regions):
            return [number for number in numbers if also_new or number in self._regions]
        return [number for number in self._regions if number in numbers]

    def of(self, first: int, count: int) -> NDArray[np.int64]:
        """The writers of these blocks, `_UNKNOWN` where there is none."""
        found = np.full(count, _UNKNOWN, np.int64)
        for number in self._touched(first, first + count, also_new=False):
            begin = number * _REGION
            low, high = max(first, begin), min(first + count, begin + _REGION)
            found[low - first : high - first] = self._regions[number][low - begin : high - begin]
        return found

    def stretches(self) -> Iterator[tuple[int, int]]:
        """First block and number of those that are known, in their order, none across regions."""
        for number in sorted(self._regions):
            known = np.concatenate(([False], self._regions[number] != _UNKNOWN, [False]))
            edges = np.flatnonzero(known[1:] != known[:-1])
            for low, high in edges.reshape(-1, 2).tolist():
                yield number * _REGION + low, high - low


class Verifier:
    """Follows a replay, array by array, and compares what its reads have read."""

    def __init__(self, disks: Sequence[BlockingDisk]) -> None:
        self._disks = disks
        self._written = [_Written() for _ in disks]
        self._made = 0
        self._checked = self._wrong = 0
        self._first: dict[str, Any] | None = None

    def buffer(self, rows: Array) -> bytearray:
        """Room for what the reads of an array read."""
        return bytearray(int(rows["length"][rows["kind"] == READ].sum()))

    def take(self, rows: Array, results: Any, into: bytearray) -> None:
        """An array has completed, all those before it too."""
        place = 0
        columns = (rows[name].tolist() for name in ("kind", "disk", "offset", "length"))
        outcome = (results[name].tolist() for name in ("sequence", "result"))
        for kind, disk, offset, length, sequence, result in zip(*columns, *outcome, strict=True):
            self._made = sequence + 1
            block = self._disks[disk].block_size
            if kind == READ:
                whole = max(result, 0) // block
                if whole:
                    self._compare(
                        disk, offset, sequence, np.frombuffer(into, np.uint64, whole * block // 8, place)
                    )
                place += length
            elif kind != FSYNC:
                good = kind == WRITE and result == length
                self._written[disk].mark(offset // block, length // block, sequence if good else _UNKNOWN)

    def _compare(self, disk: int, offset: int, sequence: int, words: NDArray[np.uint64]) -> None:
        block = self._disks[disk].block_size
        found = words.reshape(-1, block // 8)
        writers = self._written[disk].of(offset // block, len(found))
        (known,) = np.nonzero(writers != _UNKNOWN)
        if not len(known):
            return
        self._checked += len(known)
        offsets = offset + known * block
        expected = pattern_words(stamps(0, writers[known], offsets), offsets, block)
        wrong = known[(found[known] != expected).any(axis=1)]
        self._wrong += len(wrong)
        if len(wrong) and self._first is None:
            at = int(wrong[0])
            place = offset + at * block
            self._first = {
                "disk": self._disks[disk].name,
                "offset": place,
                "length": block,
                "read_by": sequence + 1,
                "expected": f"what request {int(writers[at]) + 1} wrote",
                "found": self._what_is(found[at], place),
            }

    def _what_is(self, words: NDArray[np.uint64], offset: int) -> str:
        if not words.any():
            return "zeros"
        wrote = pattern_of(words.tobytes(), offset)
        if wrote is not None and wrote[0] == 0 and wrote[1] < self._made:
            return f"what request {wrote[1] + 1} wrote"
        return f"what no request wrote there: {words.tobytes()[:16].hex(' ')} …"

    def all_written(self) -> Iterator[Array]:
        """Reads of all blocks that are known, in the order of the disks and offsets."""
        most = READ_BYTES_MAX // _BACK_BYTES
        reads: list[tuple[int, int, int, int, int, int]] = []
        for index, (disk, written) in enumerate(zip(self._disks, self._written, strict=True)):
            step = _BACK_BYTES // disk.block_size
            for first, count in written.stretches():
                for begin in range(first, first + count, step):
                    length = min(step, first + count - begin) * disk.block_size
                    reads.append((0, begin * disk.block_size, length, index, READ, 0))
                    if len(reads) == most:
                        yield np.array(reads, ROW)
                        reads = []
        if reads:
            yield np.array(reads, ROW)

    def facts(self) -> dict[str, Any]:
        """How many blocks were compared and how many were wrong, and the first that was."""
        return {"checked": self._checked, "wrong": self._wrong, "first": self._first}
