"""Opening what a worker works on: its disks, its buffer region, its ring, and the queue over them.

An offline worker has none of these and loads nothing of this.
"""

from __future__ import annotations

from collections.abc import Sequence

from ringtape.engine.buffers import Buffers
from ringtape.engine.disks import open_disk
from ringtape.engine.faults import Faults
from ringtape.engine.link import Link
from ringtape.engine.outbox import Outbox
from ringtape.engine.queue import RequestQueue
from ringtape.engine.ring import Ring
from ringtape.engine.undo import Undo
from ringtape.proto import wire_pb2


def queue_on_a_ring(
    link: Link, start: wire_pb2.Start, outbox: Outbox, *, digests: bool
) -> tuple[RequestQueue, str]:
    """The queue on the opened disks, and the ring in words. Raises `DiskError`, `RingUnavailable`."""
    files = [open_disk(disk.path, direct=disk.direct) if disk.used else -1 for disk in start.disks]
    buffers = Buffers()
    disturbed = start.disturbance if start.HasField("disturbance") else None
    ring = Ring(files, buffers) if disturbed is None else _disturbed_ring(files, buffers, disturbed)
    ring.watch_link(link.fd)
    faults = Faults(files, [disk.block_size for disk in start.disks])
    if start.faults:
        faults.add(iter(link.receive_one, None))
    undone = {index: disk.block_size for index, disk in enumerate(start.disks) if disk.undo}
    queue = RequestQueue(
        ring,
        buffers,
        [disk.block_device for disk in start.disks],
        outbox,
        digests=digests,
        ordered=start.overlap != "race",
        shared=[disk.shared for disk in start.disks],
        faults=faults,
        undo=Undo(undone, buffers, link.send) if undone else None,
    )
    return queue, ring.describe()


def _disturbed_ring(files: Sequence[int], buffers: Buffers, disturbance: wire_pb2.Disturbance) -> Ring:
    from ringtape.engine.disturbance import DisturbedRing, settle

    settle(disturbance)
    return DisturbedRing(files, buffers, disturbance)
