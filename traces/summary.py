"""What a trace holds, added up batch by batch: by device and kind, and the spans of time and offsets.

Its size goes with the number of devices, never with the number of requests.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ringtape.traces.columns import FSYNC, KIND_NAMES, Array

_KINDS = max(KIND_NAMES) + 1
_ROWS_MAX = 1 << 20
_NEVER_LOW = np.iinfo(np.int64).max
_NEVER_HIGH = np.iinfo(np.int64).min


class Summary:
    """Counts of a trace: a row a device, and a column a kind where they are by kind."""

    def __init__(self) -> None:
        self._requests = np.zeros((0, _KINDS), dtype=np.int64)
        # The upper and the lower halves of lengths, so that no sum is beyond 64 bits.
        self._bytes = np.zeros((2, 0, _KINDS), dtype=np.uint64)
        # First and last time, lowest offset and highest end.
        self._lows = np.zeros((2, 0), dtype=np.int64)
        self._highs = np.zeros((2, 0), dtype=np.int64)
        #: The most that were under way with a request; 0 if nobody asked.
        self.under_way_max = 0

    def add(self, batch: Array, devices: int) -> None:
        """One more batch of a trace that has so many devices by now."""
        self._grow(devices)
        for begin in range(0, len(batch), _ROWS_MAX):
            self._add(batch[begin : begin + _ROWS_MAX], devices)

    def _add(self, batch: Array, devices: int) -> None:
        self.under_way_max = max(self.under_way_max, int(batch["under_way"].max(initial=0)))
        device = batch["device"].astype(np.int64)
        both = device * _KINDS + batch["kind"]
        size = devices * _KINDS
        counts = np.bincount(both, minlength=size)
        self._requests[:devices] += counts.reshape(devices, _KINDS)
        # Sums of so many halves are exact as floating-point numbers.
        length = batch["length"]
        for half, part in enumerate((length >> np.uint64(32), length & np.uint64(0xFFFFFFFF))):
            sums = np.bincount(both, weights=part, minlength=size).astype(np.uint64)
            self._bytes[half, :devices] += sums.reshape(devices, _KINDS)
        time_ns = np.ascontiguousarray(batch["time_ns"])
        moves = batch["kind"] != FSYNC
        begin = batch["offset"][moves].astype(np.int64)
        end = begin + batch["length"][moves].astype(np.int64)
        for at, rows, low, high in ((0, device, time_ns, time_ns), (1, device[moves], begin, end)):
            np.minimum.at(self._lows[at], rows, low)
            np.maximum.at(self._highs[at], rows, high)

    def _grow(self, devices: int) -> None:
        more = devices - len(self._requests)
        if more <= 0:
            return
        # By half as much again, so that a trace of many devices does not copy at every batch.
        more = max(more, len(self._requests) // 2)
        self._requests = np.pad(self._requests, ((0, more), (0, 0)))
        self._bytes = np.pad(self._bytes, ((0, 0), (0, more), (0, 0)))
        self._lows = np.pad(self._lows, ((0, 0), (0, more)), constant_values=_NEVER_LOW)
        self._highs = np.pad(self._highs, ((0, 0), (0, more)), constant_values=_NEVER_HIGH)

    def facts(self, devices: list[str]) -> dict[str, Any]:
        """All of it, as `ringtape trace info --json` has it."""
        return {
            **self._facts_of(range(len(devices))),
            "devices": [{"name": name, **self._facts_of([one])} for one, name in enumerate(devices)],
        }

    def _facts_of(self, some: Iterable[int]) -> dict[str, Any]:
        rows = np.array(list(some), dtype=np.int64)
        requests = self._requests[rows].sum(axis=0).tolist()
        # As Python's integers, which have no limit.
        upper, lower = self._bytes[:, rows].sum(axis=1).tolist()
        moved = [(high << 32) + low for high, low in zip(upper, lower, strict=True)]
        low, high = self._lows[:, rows], self._highs[:, rows]
        first_ns, offset_min = (int(one.min(initial=_NEVER_LOW)) for one in low)
        last_ns, offset_end = (int(one.max(initial=_NEVER_HIGH)) for one in high)
        some_time, some_offset = first_ns <= last_ns, offset_min <= offset_end
        return {
            "requests": sum(requests),
            "bytes": sum(moved),
            "first_ns": first_ns if some_time else None,
            "last_ns": last_ns if some_time else None,
            "span_ns": last_ns - first_ns if some_time else 0,
            "offset_min": offset_min if some_offset else None,
            "offset_end": offset_end if some_offset else None,
            "kinds": {
                name: {"requests": requests[kind], "bytes": moved[kind]}
                for kind, name in KIND_NAMES.items()
                if requests[kind]
            },
        }
