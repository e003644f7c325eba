"""Which requests on shared disks may go to the kernel.

A disk that several workers use is shared. Of two requests on it that conflict, whoever made them, the one with the
lower id goes first and the other when that has completed; what does not conflict goes at once. In a recording ids are
given in order of arrival, in a replay they are the tape's, so in both a read sees the same data. It cannot deadlock:
a request waits for lower ids alone.

It never looks at disks that one worker alone uses, and knows nothing of tokens.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Sequence

from ringtape.coordinator.tape.slices import Requests
from ringtape.proto import messages_pb2
from ringtape.proto.order import DiskOrder, Ordered

_READ = messages_pb2.KIND_READ
_FSYNC = messages_pb2.KIND_FSYNC


class _Entry:
    """A request on a shared disk that has not completed."""

    __slots__ = ("blockers", "changes", "dependents", "disk", "length", "offset", "sequence", "worker")

    def __init__(
        self, worker: int, sequence: int, disk: int, offset: int, length: int, *, changes: bool
    ) -> None:
        self.worker = worker
        self.sequence = sequence
        self.disk = disk
        self.offset = offset
        self.length = length
        self.changes = changes
        self.blockers = 0
        self.dependents: list[Ordered] = []


class Admissions:
    """Keeps the order on the shared disks of a run; `take` has what may go."""

    def __init__(self, shared: Sequence[bool], workers: int) -> None:
        """`shared` says so of each disk of the run."""
        self._orders: list[DiskOrder[_Entry] | None] = [DiskOrder() if one else None for one in shared]
        #: Is there a shared disk at all?
        self.any = any(shared)
        self._entries: list[dict[int, _Entry]] = [{} for _ in range(workers)]
        self._admitted: dict[int, array[int]] = {}

    def requests(self, worker: int, first_sequence: int, columns: Requests, count: int) -> None:
        """The worker's requests from that sequence number on have got their ids, the next ones."""
        if not self.any:
            return
        disks = memoryview(columns.disk).cast("H")
        offsets = memoryview(columns.offset).cast("Q")
        lengths = memoryview(columns.length).cast("Q")
        entries = self._entries[worker]
        for row, kind in enumerate(columns.kind):
            order = self._orders[disks[row]]
            if order is None or kind == _FSYNC:
                continue
            sequence = first_sequence + row
            entry = _Entry(worker, sequence, disks[row], offsets[row], lengths[row], changes=kind != _READ)
            entries[sequence] = entry
            order.add(entry)
            if not entry.blockers:
                self._admit(entry)
        assert row + 1 == count, f"columns of {row + 1} rows for {count} requests"

    def completed(self, worker: int, sequences: bytes) -> None:
        """The kernel finished these requests of the worker, a u64 column; those on other disks count for nothing."""
        entries = self._entries[worker]
        if not entries:
            return
        for sequence in memoryview(sequences).cast("Q"):
            entry = entries.pop(sequence, None)
            if entry is None:
                continue
            order = self._orders[entry.disk]
            assert order is not None and not entry.blockers, "it completed before it was admitted"
            for freed in order.remove(entry):
                self._admit(freed)

    def awaited(self, worker: int, sequences: Collection[int], of: Collection[int]) -> int | None:
        """One of the workers `of` for whose requests these of `worker` wait, maybe by way of others; None if none."""
        for other in of:
            reached: list[Ordered] = list(self._entries[other].values())
            seen = set(map(id, reached))
            while reached:
                entry = reached.pop()
                assert isinstance(entry, _Entry), "nothing else was entered"
                if entry.worker == worker and entry.sequence in sequences:
                    return other
                new = [one for one in entry.dependents if id(one) not in seen]
                seen.update(map(id, new))
                reached += new
        return None

    def _admit(self, entry: _Entry) -> None:
        admitted = self._admitted.get(entry.worker)
        if admitted is None:
            admitted = self._admitted[entry.worker] = array("Q")
        admitted.append(entry.sequence)

    def take(self) -> list[tuple[int, bytes]]:
        """What may go and was not taken before: workers and the sequence numbers of their requests, a u64 column."""
        if not self._admitted:
            return []
        taken, self._admitted = self._admitted, {}
        return [(worker, sequences.tobytes()) for worker, sequences in taken.items()]
