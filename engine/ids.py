"""The global ids of the worker's requests, as far as the coordinator has told them and somebody may ask."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ringtape.proto import wire_pb2

if TYPE_CHECKING:  # NumPy is there where arrays of ids are asked for
    import numpy as np
    from numpy.typing import NDArray

# Forgetting moves what is left: it is done for many at once.
_FORGET_MIN = 256


class Ids:
    """Ranges of sequence numbers and their ids, in ascending order."""

    def __init__(self) -> None:
        self._first: list[int] = []
        # What is to be added to a sequence number from there on.
        self._distance: list[int] = []
        self._end = 0

    def __len__(self) -> int:
        """How many ranges are kept."""
        return len(self._first)

    def add(self, ranges: Iterable[wire_pb2.IdRange]) -> None:
        """The coordinator has told these, which follow those told before."""
        for told in ranges:
            distance = told.first_id - told.first_sequence
            if not self._distance or self._distance[-1] != distance:
                self._first.append(told.first_sequence)
                self._distance.append(distance)
            self._end = told.first_sequence + told.count

    def of(self, sequence: int) -> int:
        """The id of one request."""
        place = bisect_right(self._first, sequence) - 1
        assert place >= 0 and sequence < self._end, f"the id of request {sequence} has not been told"
        return sequence + self._distance[place]

    def of_many(self, sequences: NDArray[np.int64]) -> NDArray[np.int64]:
        """The ids of many."""
        import numpy as np

        if len(self._first) == 1:
            return sequences + self._distance[0]
        places = np.searchsorted(np.array(self._first), sequences, side="right") - 1
        found: NDArray[np.int64] = sequences + np.array(self._distance)[places]
        return found

    def forget(self, oldest: int) -> None:
        """Nobody will ask for a request before this one."""
        if len(self._first) >= _FORGET_MIN:
            place = max(bisect_right(self._first, oldest) - 1, 0)
            del self._first[:place]
            del self._distance[:place]
