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
        made = len(tables.kind)
        transfers = np.frombuffer(tables.kind, dtype="u1") <= _TRANSFER_LAST
        # What each request of the block is to move at least; behind them 0, for one of a block before.
        due = np.zeros(made + 1, dtype=np.uint64)
        np.multiply(np.frombuffer(tables.length, dtype="<u8"), transfers, out=due[:made])
        row = completed_ids - np.uint64(tables.first_id)  # wraps around for those
        early = (row >= made).nonzero()[0]
        row[early] = made
        wanted = due[row.view(np.int64)]
        ids, lengths = self._ids, self._lengths
        if len(early) and len(ids):
            places = np.minimum(np.searchsorted(ids, completed_ids[early]), len(ids) - 1)
            moves = ids[places] == completed_ids[early]
            wanted[early[moves]] = lengths[places[moves]]
            left = np.ones(len(ids), dtype=bool)
            left[places[moves]] = False
            ids, lengths = ids[left], lengths[left]
        flies = np.append(transfers, False)
        flies[row.view(np.int64)] = False
        new = flies.nonzero()[0]
        self._ids = np.concatenate((ids, new.view(np.uint64) + np.uint64(tables.first_id)))
        self._lengths = np.concatenate((lengths, due[new]))
        result = np.frombuffer(tables.result, dtype="<i8")
        rows = ((result < 0) | (result.view("<u8") < wanted)).nonzero()[0]
        self.count += len(rows)
        return rows
