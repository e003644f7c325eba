"""Which requests of a tape the kernel failed, or moved less for than they asked.

Responsible for saying so block by block, while a tape is written and while it is read. It keeps the lengths of what is
in flight and nothing else, and never looks at a row by itself.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ringtape.coordinator.tape.tables import Tables
from ringtape.proto import messages_pb2

# The kinds whose result says how much was moved are those up to this one.
_TRANSFER_LAST = messages_pb2.KIND_WRITE
assert sorted((messages_pb2.KIND_READ, messages_pb2.KIND_WRITE)) == [1, _TRANSFER_LAST]


class FaultScan:
    """Follows the blocks of one tape from the first."""

    def __init__(self) -> None:
        self.count = 0
        # Of reads and writes in flight, in the order of their ids.
        self._ids = np.zeros(0, dtype=np.uint64)
        self._lengths = np.zeros(0, dtype=np.uint64)

    def take(self, tables: Tables, completed_ids: NDArray[Any]) -> NDArray[np.intp]:
        """The next block: which of its completions are faults, as rows. `completed_ids` has the id of each."""
        transfers = np.flatnonzero(np.frombuffer(tables.kind, dtype="u1") <= _TRANSFER_LAST)
        ids = np.concatenate((self._ids, transfers.astype(np.uint64) + np.uint64(tables.first_id)))
        lengths = np.concatenate((self._lengths, np.frombuffer(tables.length, dtype="<u8")[transfers]))
        result = np.frombuffer(tables.result, dtype="<i8")
        faulty = result < 0
        if len(ids):
            places = np.minimum(np.searchsorted(ids, completed_ids), len(ids) - 1)
            moves = ids[places] == completed_ids
            faulty |= moves & (result.view("<u8") < lengths[places])
            left = np.ones(len(ids), dtype=bool)
            left[places[moves]] = False
            ids, lengths = ids[left], lengths[left]
        self._ids, self._lengths = ids, lengths
        rows = np.flatnonzero(faulty)
        self.count += len(rows)
        return rows
