"""Which completions tokens take out of workers' queues, where a policy took them out of order.

Responsible for that alone, one by one: the slow way, for orders that need it. A tape may claim any order of a queue as
long as what may be open at once, so nothing here takes longer than the logarithm of the queue a completion, nor much
more memory than the queue itself.
"""

from array import array

import numpy as np

from ringtape.coordinator.tape.layout import Rows


def take_by_place(places: Rows, released: Rows, start: Rows, worker: Rows) -> Rows:
    """Which rows of the queues each token takes, one after another.

    `worker` is of each row of the queues, which stand one behind the other, the oldest row of each first. Token i
    takes `released[i]` rows out of the queue that begins at row `start[i]`, each by its place after those before it
    were taken out; `places` has them, one token after another, and none is beyond its queue's end.
    """
    queues: dict[int, _Queue] = {}
    taken = array("q")
    ends = np.append(np.flatnonzero(np.diff(worker)) + 1, len(worker))
    stop = 0
    for count, first in zip(released.tolist(), start.tolist(), strict=True):
        if not count:
            continue
        if first not in queues:
            queues[first] = _Queue(first, int(ends[np.searchsorted(ends, first, side="right")]))
        queue = queues[first]
        of_token = places[stop : stop + count]
        stop += count
        # A tail of zeros is one slice.
        one_by_one = int(np.flatnonzero(of_token)[-1]) + 1 if of_token.any() else 0
        for place in array("q", of_token[:one_by_one].tobytes()):
            taken.append(queue.take(place))
        queue.take_first(count - one_by_one, taken)
    return np.array(taken, dtype=np.int64)


class _Queue:
    """The rows from `first` to `end`, of which any may be taken.

    A Fenwick tree: node i counts what is left of the rows (i - lowest bit of i, i], counted from 1.
    """

    def __init__(self, first: int, end: int) -> None:
        self._first = first
        rows = end - first
        self._span = 1 << max(rows - 1, 0).bit_length()
        node = np.arange(self._span + 1, dtype=np.int64)
        self._left = np.maximum(np.minimum(node, rows) - node + (node & -node), 0).tolist()

    def take(self, place: int) -> int:
        """The row at that place among those that are left."""
        left, row, bit = self._left, 0, self._span
        while bit:
            node = row + bit
            if left[node] <= place:
                place -= left[node]
                row = node
            else:
                left[node] -= 1
            bit >>= 1
        return self._first + row

    def take_first(self, count: int, taken: "array[int]") -> None:
        """The oldest rows that are left, as many."""
        for _ in range(count):
            taken.append(self.take(0))
