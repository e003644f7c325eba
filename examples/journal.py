"""A write-ahead journal over two disks: transactions, a crash in the worst moment, and the recovery.

A small table lives on the disk "data", a block for each slot. A transaction changes several slots, and after a crash
either all of its changes are there or none. That takes a second disk, "journal", and two rules:

- A transaction is durable in the journal before the first of its changes goes to the data disk.
- The journal forgets a transaction only when its changes are durable on the data disk.

The program crashes when the latest transactions are in the journal and not yet in the table, and when the very last is
not even all in the journal. Recovery knows nothing but the two disks: it finds by checksums where the journal ends,
carries out what is there, and drops the torn tail.

    python examples/journal.py

    ringtape record examples/journal.py --disk journal=j.img,size=4M --disk data=d.img,size=4M -o run.tape
    ringtape replay run.tape

This is a blocking program: `main` is an ordinary function, and each call on a disk returns when it is done.
"""

from __future__ import annotations

import struct
import tempfile
import zlib
from dataclasses import dataclass
from typing import Any

import ringtape
from ringtape import BlockingDisk, BlockingWorker, Disk

BLOCK_BYTES = 4096  # a multiple of every usual block size
SLOTS = 32
APPLIED = 10  # transactions that reach the data disk before the crash
UNAPPLIED = 5  # transactions that only reach the journal

Change = tuple[int, bytes]  # a slot, and the block that it is to hold


class Region:
    """A worker's own part of a disk, in blocks counted from 0."""

    def __init__(self, disk: BlockingDisk, io: BlockingWorker) -> None:
        self.disk = disk
        self.blocks = disk.size // io.worker_count // BLOCK_BYTES
        self._start = io.index * self.blocks * BLOCK_BYTES

    def read(self, block: int, count: int = 1) -> bytes:
        return self.disk.read(self._start + block * BLOCK_BYTES, count * BLOCK_BYTES)

    def write(self, block: int, data: bytes, *, fua: bool = False) -> None:
        self.disk.write(self._start + block * BLOCK_BYTES, data, fua=fua)

    def clear(self) -> None:
        self.disk.write_zeroes(self._start, self.blocks * BLOCK_BYTES)


@dataclass
class Record:
    """A transaction as the journal keeps it: a block that names the slots, then the blocks for them."""

    number: int
    changes: list[Change]

    # CRC-32 of all that follows, count of changes, number of the transaction; then the slots.
    HEAD = struct.Struct("<IIQ")

    def pack(self) -> bytes:
        slots = struct.pack(f"<{len(self.changes)}I", *(slot for slot, _ in self.changes))
        head = (self.HEAD.pack(0, len(self.changes), self.number) + slots).ljust(BLOCK_BYTES, b"\0")
        body = head[4:] + b"".join(block for _, block in self.changes)
        return struct.pack("<I", zlib.crc32(body)) + body

    @classmethod
    def find(cls, region: Region, block: int, number: int) -> Record | None:
        """The record with this number, if it begins at this block and all of it is there."""
        if block >= region.blocks:
            return None
        head = region.read(block)
        crc, count, found = cls.HEAD.unpack_from(head)
        if found != number or count > min(SLOTS, region.blocks - block - 1):
            return None
        # A head is no proof of the blocks that follow it: a record may have reached the disk in part.
        body = region.read(block + 1, count)
        if zlib.crc32(head[4:] + body) != crc:
            return None
        slots = struct.unpack_from(f"<{count}I", head, cls.HEAD.size)
        return cls(number, [(slot, body[i * BLOCK_BYTES :][:BLOCK_BYTES]) for i, slot in enumerate(slots)])


class Table:
    """The slots, with the journal before them."""

    def __init__(self, io: BlockingWorker) -> None:
        self.journal = Region(io.disk("journal"), io)
        self.data = Region(io.disk("data"), io)
        if self.data.blocks < SLOTS:
            raise ValueError(f"the data disk needs {SLOTS * BLOCK_BYTES * io.worker_count} bytes")
        self.number = 1  # of the next transaction
        self.end = 1  # the block of the journal where its record goes

    def format(self) -> None:
        """Begin anew, with a table of zeros."""
        self.data.clear()
        self.journal.clear()
        self.data.disk.fsync()
        self._forget_applied()

    def log(self, changes: list[Change]) -> Record:
        """Make a transaction durable: from here on it has happened, whatever comes."""
        record = Record(self.number, changes)
        packed = record.pack()
        if self.end + len(packed) // BLOCK_BYTES > self.journal.blocks:
            raise ValueError("the journal is full")
        # With `fua` the call returns when the record is on stable storage. Its blocks may get there in any order: one
        # that is missing shows in the checksum.
        self.journal.write(self.end, packed, fua=True)
        self.number += 1
        self.end += len(packed) // BLOCK_BYTES
        return record

    def apply(self, records: list[Record]) -> None:
        """Make the changes that are in the journal, and let the journal forget them."""
        for record in records:
            for slot, block in record.changes:
                self.data.write(slot, block)
        # Without this line the journal might forget what the data disk does not have yet.
        self.data.disk.fsync(data_only=True)
        self._forget_applied()

    def _forget_applied(self) -> None:
        # Block 0 says from where on the journal counts. It is the one block that is overwritten, and small enough to
        # be written as a whole or not at all.
        self.journal.write(0, struct.pack("<QQ", self.number, self.end).ljust(BLOCK_BYTES, b"\0"), fua=True)

    def recover(self) -> list[int]:
        """Bring the table to where the journal is; the numbers of the transactions that it lacked."""
        self.number, self.end = struct.unpack_from("<QQ", self.journal.read(0))
        records = []
        while (record := Record.find(self.journal, self.end, self.number)) is not None:
            records.append(record)
            self.number += 1
            self.end += 1 + len(record.changes)
        # Changes that had been made before the crash are made again, which does no harm.
        self.apply(records)
        return [record.number for record in records]

    def slots(self) -> list[bytes]:
        """The table, as the data disk has it."""
        return [self.data.read(slot) for slot in range(SLOTS)]


def main(io: BlockingWorker) -> dict[str, Any]:
    """Make transactions, crash, recover: what was recovered, and the table after it."""
    table = Table(io)
    table.format()
    expected = [bytes(BLOCK_BYTES)] * SLOTS  # what the table must hold in the end

    def changes_of(number: int) -> list[Change]:
        slots = io.random.sample(range(SLOTS), io.random.randint(2, 6))
        return [(slot, struct.pack("<Q", number) * (BLOCK_BYTES // 8)) for slot in slots]

    for number in range(1, APPLIED + UNAPPLIED + 1):
        changes = changes_of(number)
        record = table.log(changes)
        if number <= APPLIED:
            table.apply([record])
        for slot, block in changes:
            expected[slot] = block

    # The crash comes while the last of these is applied, and while the next one is logged: of its record, all but
    # the last block gets to the disk.
    table.data.write(*changes[0])
    torn = Record(table.number, changes_of(table.number))
    table.journal.write(table.end, torn.pack()[:-BLOCK_BYTES])
    before = table.slots()

    # After the crash nothing is left in memory: a new table begins with what the disks hold.
    table = Table(io)
    replayed = table.recover()
    after = table.slots()
    assert after == expected, "recovery has lost or invented a change"
    assert table.recover() == [], "the journal has not forgotten what was recovered"
    io.log(f"recovered transactions {replayed}")
    return {
        "replayed": replayed,
        "torn": torn.number,
        "mended": [slot for slot in range(SLOTS) if before[slot] != after[slot]],
        "slots": [
            struct.unpack_from("<Q", block)[0] for block in after
        ],  # the transaction that each slot is from
        "digest": f"{zlib.crc32(b''.join(after)):08x}",
    }


def demonstrate() -> None:
    """Record the program with two workers, and replay it."""
    with tempfile.TemporaryDirectory(prefix="ringtape-") as folder:
        disks = [Disk(name, f"{folder}/{name}.img", size="2M") for name in ("journal", "data")]
        recorded = ringtape.record(main, disks=disks, workers=2, seed=1, tape=f"{folder}/run.tape")
        recorded.raise_for_failures()
        print(f"recorded {recorded.requests} requests, digest {recorded.digest}")
        for worker, outcome in enumerate(recorded.returns):
            print(
                f"  worker {worker}: recovered transactions {outcome['replayed']}, dropped {outcome['torn']},"
            )
            print(f"    which mended the slots {outcome['mended']}")
        replayed = ringtape.replay(f"{folder}/run.tape")
        same = replayed.digest == recorded.digest and replayed.returns == recorded.returns
        print(f"replayed: {'the same' if same else 'DIFFERENT'}, digest {replayed.digest}")


if __name__ == "__main__":
    demonstrate()
