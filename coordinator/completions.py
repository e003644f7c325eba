"""A worker's completions that no token has released yet, oldest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ringtape.coordinator.tape.slices import CompletionColumns, Completions, completion_columns


@dataclass(frozen=True, slots=True)
class Released:
    """What a token releases: columns, and where in the queue each row was (None: the oldest, one after another)."""

    count: int
    sequences: bytes  # u64 column
    results: bytes  # i64 column
    digests: bytes  # u64 column; empty below data level digest
    contents: bytes  # u64 column; empty below data level full
    order: Sequence[int] | None  # as the tape has it: places in the queue after the removal of those before


class CompletionQueue:
    """Columns in, released columns out; no object a row.

    What comes into an empty queue and is released as a whole, as nearly always, is never copied.
    """

    def __init__(self) -> None:
        self._whole: CompletionColumns | None = None  # all of it, as it came; then the others are empty
        self._sequences = bytearray()
        self._results = bytearray()
        self._digests = bytearray()
        self._contents = bytearray()

    def __len__(self) -> int:
        whole = self._whole
        return len(self._sequences if whole is None else whole.sequence) // 8

    def add(self, columns: Completions) -> None:
        """Queue completions in the order they came."""
        columns = completion_columns(columns)
        if self._whole is None and not self._sequences:
            self._whole = columns
            return
        for column, more in zip(self._columns(), columns, strict=True):
            column += more

    def sequences(self) -> npt.NDArray[np.uint64]:
        """The queued sequence numbers, oldest first; a copy."""
        return np.frombuffer(bytes(self._columns()[0]), "<u8")

    def first(self, count: int) -> Released:
        """The `count` oldest, left in the queue."""
        whole = self._whole
        if whole is not None and len(whole.sequence) == 8 * count:
            return Released(count, *whole, None)
        sequences, results, digests, contents = (_start(column, 8 * count) for column in self._columns())
        return Released(count, sequences, results, digests, contents, None)

    def chosen(self, order: Sequence[int]) -> Released:
        """Those at the places that the tape's `order` names, left in the queue."""
        left = list(range(len(self)))
        rows = [left.pop(place) for place in order]
        sequences, results, digests, contents = (
            b"".join(bytes(column[8 * row : 8 * row + 8]) for row in rows) for column in self._columns()
        )
        return Released(len(rows), sequences, results, digests, contents, tuple(order))

    def take(self, released: Released) -> None:
        """Remove what `first` or `chosen` showed."""
        whole = self._whole
        if whole is not None and released.order is None and len(whole.sequence) == 8 * released.count:
            self._whole = None
            return
        if released.order is None:
            end = 8 * released.count
            for column in self._columns():
                del column[:end]
            return
        for place in released.order:
            for column in self._columns():
                del column[8 * place : 8 * place + 8]

    def _columns(self) -> tuple[bytearray, bytearray, bytearray, bytearray]:
        whole, self._whole = self._whole, None
        if whole is not None:
            self._sequences, self._results, self._digests, self._contents = map(bytearray, whole)
        return self._sequences, self._results, self._digests, self._contents


def _start(column: bytearray, end: int) -> bytes:
    with memoryview(column) as view:
        return bytes(view[:end])


def order_of_places(places: Sequence[int]) -> list[int]:
    """Places in a queue, as the tape has them: each after the removal of those before it."""
    order = []
    for i, place in enumerate(places):
        order.append(place - sum(1 for earlier in places[:i] if earlier < place))
    return order
