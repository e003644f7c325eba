"""The devices of a trace: each name or number gets an index when it first comes, for whole columns at once.

It knows nothing of what a device is. Most traces have few, so a column is compared with one name after the other; what
is left after some rounds is looked up row by row.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ringtape.traces import numbers
from ringtape.traces.columns import DEVICES_MAX, Array, Ints, Unsigned
from ringtape.traces.lines import NAME_MAX, Lines
from ringtape.traces.numbers import WORD

# Numbers below this are looked up in an array.
_SMALL_MAX = 1 << 20
_ROUNDS = 16


class TooManyDevices(Exception):
    """More devices than an index can tell apart."""


class Devices:
    """Names in the order in which they first came; `names` grows as a trace is read."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._of_name: dict[str, int] = {}
        self._of_text: dict[bytes, int] = {}
        self._of_small = np.full(0, -1, dtype=np.int32)

    def index(self, name: str) -> int:
        """The index of a name, a new one where it is new."""
        known = self._of_name.get(name)
        if known is None:
            known = len(self.names)
            if known >= DEVICES_MAX:
                raise TooManyDevices
            self._of_name[name] = known
            self.names.append(name)
        return known

    def of_numbers(self, values: Unsigned, name: Callable[[int], str] = str) -> Array:
        """The indices of devices that are numbers."""
        if len(values) == 0:
            return np.zeros(0, dtype=np.uint16)
        if int(values.max()) >= _SMALL_MAX:
            return self._of_large(values, name)
        small = values.astype(np.int64)
        if int(small.max()) >= len(self._of_small):
            grown = np.full(max(int(small.max()) + 1, 2 * len(self._of_small)), -1, dtype=np.int32)
            grown[: len(self._of_small)] = self._of_small
            self._of_small = grown
        found = self._of_small[small]
        missing = found < 0
        if missing.any():
            for value in _in_order(small[missing]):
                self._of_small[value] = self.index(name(value))
            found = self._of_small[small]
        return found.astype(np.uint16)

    def _of_large(self, values: Unsigned, name: Callable[[int], str]) -> Array:
        unique, first, inverse = np.unique(values, return_index=True, return_inverse=True)
        found = np.zeros(len(unique), dtype=np.uint16)
        for at in np.argsort(first, kind="stable").tolist():
            found[at] = self.index(name(int(unique[at])))
        return found[inverse]

    def of_texts(self, lines: Lines, starts: Ints, ends: Ints, name: Callable[[str], str] = str) -> Array:
        """The indices of devices that are texts."""
        lengths = ends - starts
        longest = int(lengths.max(initial=1))
        assert longest <= NAME_MAX
        words = [
            numbers.text_words(lines.words, ends, lengths, back)
            for back in range((longest + WORD - 1) // WORD)
        ]
        found = np.zeros(len(starts), dtype=np.uint16)
        left = np.arange(len(starts))
        for _ in range(_ROUNDS):
            if len(left) == 0:
                return found
            one = left[0]
            same = lengths[left] == lengths[one]
            for word in words:
                same &= word[left] == word[one]
            found[left[same]] = self._of(lines.data[starts[one] : ends[one]], name)
            left = left[~same]
        data = lines.data
        texts = [
            data[start:end] for start, end in zip(starts[left].tolist(), ends[left].tolist(), strict=True)
        ]
        found[left] = [self._of(text, name) for text in texts]
        return found

    def _of(self, text: bytes, name: Callable[[str], str]) -> int:
        known = self._of_text.get(text)
        if known is None:
            known = self._of_text[text] = self.index(name(text.decode("utf-8", "backslashreplace")))
        return known


def _in_order(values: Ints) -> list[int]:
    """Each value once, in the order in which they first come."""
    unique, first = np.unique(values, return_index=True)
    in_order: list[int] = unique[np.argsort(first, kind="stable")].tolist()
    return in_order
