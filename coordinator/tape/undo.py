"""Frames that say what ranges of disks held before their first change.

Responsible for making them, for finding them in a file, damaged or not, and for what one must be before anything is
written to a disk by it. It never touches a disk.

Which of a tape's bytes are its frames is known up to the first damage. After it a frame may as well be part of what a
damaged frame holds, and disks may hold tapes: each undo frame names its tape by a digest of the header, and one that
names another is not this tape's.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import xxhash

from ringtape.coordinator.tape import frames
from ringtape.coordinator.tape.frames import FrameType, Problem
from ringtape.coordinator.tape.tables import parse
from ringtape.proto import tape_pb2

UNDO_BYTES_MAX = 1 << 20
UNDO_SINCE = 3  # the format version
# Of each disk that can be taken back: bytes of a block, and of the disk.
UndoBlocks = Mapping[int, tuple[int, int]]


class UndoFrames:
    """Makes the undo frames of one tape, in their order."""

    def __init__(self, encoder: frames.FrameEncoder, header: bytes, blocks: UndoBlocks) -> None:
        """`header` is the header's payload."""
        self.count = 0
        self._encoder = encoder
        self._tape = tape_name(header)
        self._blocks = blocks

    def encode(self, disk: int, offset: int, data: bytes) -> bytes:
        """The frame that says what this range held. Raises Problem if it cannot be a range of that disk."""
        undo = tape_pb2.Undo(disk=disk, offset=offset, data=data, number=self.count + 1, tape=self._tape)
        check_undo(undo, self._blocks)
        self.count += 1
        return self._encoder.encode(FrameType.UNDO, undo.SerializeToString())


def tape_name(header: bytes) -> int:
    """What the undo frames of a tape call it; `header` is the header's payload."""
    return xxhash.xxh3_64_intdigest(header)


def check_undo(undo: tape_pb2.Undo, blocks: UndoBlocks) -> None:
    """Raises Problem for a range that the tape's header does not have."""
    block, size = blocks.get(undo.disk, (0, 0))
    length = len(undo.data)
    if not block:
        raise Problem(f"it has what disk {undo.disk} held, which is not a disk that it can take back")
    if not 0 < length <= UNDO_BYTES_MAX or length % block or undo.offset % block:
        raise Problem(f"it has what {length} bytes at {undo.offset} of disk {undo.disk} held")
    if undo.offset + length > size:
        raise Problem(f"it has what {length} bytes at {undo.offset} held, beyond the end of disk {undo.disk}")
    if not undo.number:
        raise Problem("it has what a range held, without a number")


@dataclass(slots=True)
class UndoScan:
    """Goes along the undo frames of a file; afterwards it knows what is missing among them.

    `damage` is the byte at which the first damage begins, None if there is none. `torn` says that nothing whole comes
    after it: a frame that was being written when the recording was cut, as a rule. `lost` counts the undo frames that
    are known to be missing.
    """

    count: int = 0
    last: int = 0
    damage: int | None = None
    torn: bool = False

    @property
    def lost(self) -> int:
        """How many undo frames there are no longer, as far as the others tell."""
        return self.last - self.count

    def ranges(
        self,
        read: Callable[[int, int], bytes],
        start: int,
        file_bytes: int,
        header: bytes,
        blocks: UndoBlocks,
    ) -> Iterator[tuple[int, tape_pb2.Undo]]:
        """Each undo frame that is whole, and where its frame begins; `start` is where the header's frame ends."""
        name = tape_name(header)
        offset = start
        while True:
            try:
                # The others too: where the next one begins is only known where their checksums hold.
                frame = frames.read_frame(read, offset, file_bytes)
                if frame is None:
                    return
                undo = self._take(frame, name, blocks)
            except Problem:
                self.damage = offset
                break
            if undo is not None:
                yield offset, undo
            offset += frame.frame_bytes
        self.torn = True
        for at, frame in frames.frames_after(read, offset + 1, file_bytes):
            self.torn = False
            try:
                undo = self._take(frame, name, blocks)
            except Problem:
                continue
            if undo is not None:
                yield at, undo

    def _take(self, frame: frames.Frame, name: int, blocks: UndoBlocks) -> tape_pb2.Undo | None:
        if frame.type == FrameType.SEAL:
            self.last = max(self.last, parse(frames.unpack(frame), tape_pb2.Seal()).undos)
        if frame.type != FrameType.UNDO:
            return None
        undo = parse(frames.unpack(frame), tape_pb2.Undo())
        check_undo(undo, blocks)
        if undo.tape != name:
            raise Problem("it has what a disk held that is of another tape")
        self.count += 1
        self.last = max(self.last, undo.number)
        return undo
