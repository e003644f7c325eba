"""What ranges of disks held before their first change: onto the tape, before the change may be made.

A worker tells what a range holds and waits. In a recording all of it that no worker has told before goes to the tape,
and the worker goes on: the first that is told wins, since whatever is told later was read after a change. In a replay
the tape says what may be changed, so that it can be taken back by the same tape: a worker that is about to change
anything else gets no answer, and its request never reaches the disk. Such a request is not the recording's either, or
lies beyond the end of a recording that was cut; the replayer comes to it and says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ringtape.coordinator.errors import ProtocolError
from ringtape.coordinator.tape.sink import TapeSink
from ringtape.coordinator.tape.undo import UNDO_BYTES_MAX
from ringtape.proto import tape_pb2, wire_pb2
from ringtape.proto.ranges import BlockSet


class UndoKeeper:
    """Of one run, for all its workers."""

    def __init__(
        self,
        tape: TapeSink,
        disks: Sequence[tape_pb2.DiskHeader],
        allowed: Mapping[int, BlockSet] | None = None,
    ) -> None:
        """`allowed` has, by disk, what a replay may change; None is everything."""
        self._tape = tape
        self._disks = {index: disk for index, disk in enumerate(disks) if disk.undo}
        self._kept = {index: BlockSet() for index in self._disks}
        self._allowed = allowed

    def before(self, worker: int, before: wire_pb2.Before) -> wire_pb2.CoordinatorMessage | None:
        """Take what a range holds; the answer, or None if there is to be none."""
        index, offset, length = before.disk, before.offset, len(before.data)
        disk = self._disks.get(index)
        if (
            disk is None
            or not 0 < length <= UNDO_BYTES_MAX
            or offset % disk.block_size
            or length % disk.block_size
            or offset + length > disk.size
        ):
            raise ProtocolError(f"worker {worker} told what {length} bytes at {offset} of disk {index} held")
        block = disk.block_size
        start, end = offset // block, (offset + length) // block
        if self._allowed is not None and not self._allowed[index].has(start, end):
            return None
        for first, last in list(self._kept[index].missing(start, end)):
            data = before.data[(first - start) * block : (last - start) * block]
            self._tape.undo(index, first * block, data)
        self._kept[index].add(start, end)
        return wire_pb2.CoordinatorMessage(kept=wire_pb2.Kept(disk=index, offset=offset))
