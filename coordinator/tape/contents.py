"""The data of reads and writes on a tape: gathered into frames when it is written, found by number when it is read.

Responsible for the frames of contents and for nothing else of the tape. The builder holds less than two frames' worth.
The reader keeps, of each frame, where it is and what its first number is, decodes a frame again when it is asked for,
and holds a bounded number of bytes of decoded ones: a tape of a terabyte takes some megabytes.
"""

from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64, xxh3_64_intdigest

from ringtape.coordinator.tape import frames
from ringtape.coordinator.tape.frames import FrameType, Problem
from ringtape.coordinator.tape.tables import Tables, parse
from ringtape.proto import tape_pb2
from ringtape.proto.contents import PIECE_BYTES

FRAME_BYTES = 1 << 20  # of data; a frame is closed when it has so much
FRAME_CONTENTS_MAX = 1 << 14
# A reader refuses more. (The builder stops at FRAME_BYTES and a piece.)
FRAME_BYTES_LIMIT = 4 << 20
CACHE_BYTES_MAX = 64 << 20
_DATA_TAG = b"\x1a"  # field 3, of bytes


class ContentsBuilder:
    """Contents that are not in the file yet."""

    def __init__(self) -> None:
        self.count = 0  # all that were ever added
        self._first = 1
        self._lengths = array("I")
        self._data: list[bytes | memoryview] = []
        self._bytes = 0

    def add(self, data: bytes | memoryview) -> int:
        """The number of these contents. A view is kept until the frame is taken: what it views must not change."""
        assert 0 < len(data) <= PIECE_BYTES, f"contents of {len(data)} bytes"
        self._lengths.append(len(data))
        self._data.append(data)
        self._bytes += len(data)
        self.count += 1
        return self.count

    @property
    def empty(self) -> bool:
        """Is there nothing to write?"""
        return not self._lengths

    @property
    def full(self) -> bool:
        """Is it time to write a frame?"""
        return self._bytes >= FRAME_BYTES or len(self._lengths) >= FRAME_CONTENTS_MAX

    def take(self, encoder: frames.FrameEncoder) -> list[bytes | memoryview]:
        """A frame of all that was added, in parts."""
        start = tape_pb2.Contents(first=self._first, length=self._lengths.tobytes()).SerializeToString()
        start += _DATA_TAG + _varint(self._bytes)
        parts = encoder.encode_parts(FrameType.CONTENTS, [start, *self._data])
        self._first = self.count + 1
        self._lengths, self._data, self._bytes = array("I"), [], 0
        return parts


@dataclass(frozen=True, slots=True)
class Decoded:
    """A frame's contents, of which number `first` ends at `ends[0]` in the data."""

    first: int
    ends: NDArray[np.int64]
    data: bytes

    def of(self, number: int) -> memoryview:
        """The data that has this number."""
        i = number - self.first
        return memoryview(self.data)[int(self.ends[i - 1]) if i else 0 : int(self.ends[i])]


def decode(frame: frames.Frame) -> Decoded:
    """What a frame of contents holds. Raises Problem."""
    if frame.raw_bytes > FRAME_BYTES_LIMIT:
        raise Problem(f"its contents claim {frame.raw_bytes} bytes")
    contents = parse(frames.unpack(frame), tape_pb2.Contents())
    count, rest = divmod(len(contents.length), 4)
    if rest or not 0 < count <= FRAME_CONTENTS_MAX:
        raise Problem(f"its contents have a column length of {len(contents.length)} bytes")
    lengths = np.frombuffer(contents.length, dtype="<u4")
    ends = np.cumsum(lengths, dtype=np.int64)
    if int(lengths.min()) == 0 or int(lengths.max()) > PIECE_BYTES or int(ends[-1]) != len(contents.data):
        raise Problem("its contents have other lengths than their data")
    return Decoded(contents.first, ends, contents.data)


class TapeContents:
    """The contents of a tape that is being read.

    `take` is told of each frame as a reading from the start passes it. What is asked for and was not passed, since a
    reading began later, is looked for.
    """

    def __init__(self, read: Callable[[int, int], bytes], start: int) -> None:
        """`read(length, offset)` gives bytes of the file; `start` is where its first frame after the header begins."""
        self._read = read
        self._next = start  # where the first frame of contents that is not known may be
        self._firsts = array("Q")
        self._offsets = array("Q")
        self.count = 0  # that are known
        self.bytes = 0  # of the known ones
        self._decoded: OrderedDict[int, Decoded] = OrderedDict()
        self._decoded_bytes = 0

    def take(self, frame: frames.Frame, offset: int, number: int) -> int:
        """A frame of contents is passed, the first of which has to have this number: how many it holds."""
        decoded = decode(frame)
        if decoded.first != number:
            raise Problem(f"its contents begin at number {decoded.first}, not {number}")
        if number == self.count + 1:
            self._know(decoded, offset, offset + frame.frame_bytes)
        return len(decoded.ends)

    def pieces(self, number: int, length: int) -> Iterator[memoryview]:
        """The data of so many bytes that has this number, in pieces. Raises Problem if that is not what it is."""
        for part in self.parts(number, length):
            yield self.one(*part)

    def parts(self, number: int, length: int) -> Iterator[tuple[int, int]]:
        """Numbers and lengths of the pieces that the data is stored in. Raises Problem."""
        if length <= PIECE_BYTES:
            yield number, length
            return
        count = -(-length // PIECE_BYTES)
        if 8 * count > PIECE_BYTES:
            raise Problem(f"contents {number} cannot be of {length} bytes")
        for piece in memoryview(bytes(self.one(number, 8 * count))).cast("Q"):
            yield piece, min(length, PIECE_BYTES)
            length -= PIECE_BYTES

    def check(self, number: int, length: int, digest: int) -> None:
        """Raises Problem unless there is data of this length and digest under the number."""
        if length <= PIECE_BYTES:
            found = xxh3_64_intdigest(self.one(number, length))
        else:
            hasher = xxh3_64()
            for piece in self.pieces(number, length):
                hasher.update(piece)
            found = hasher.intdigest()
        if found != digest:
            raise Problem(f"contents {number} have digest {found:016x}, and are referred to by {digest:016x}")

    def check_block(self, tables: Tables) -> None:
        """Raises Problem unless all that the block refers to has the lengths and digests that the block says."""
        for numbers, lengths, digests in (
            (tables.request_contents, tables.length, tables.request_digest),
            (tables.completion_contents, tables.result, tables.completion_digest),
        ):
            columns = np.frombuffer(numbers + lengths + digests, dtype="<u8").reshape(3, -1)
            for number, length, digest in np.unique(columns[:, columns[0] != 0], axis=1).T.tolist():
                self.check(number, length, digest)

    def one(self, number: int, length: int) -> memoryview:
        """A piece. Raises Problem if there is none of this number and length."""
        if number < 1:
            raise Problem(f"it refers to contents {number} for {length} bytes")
        if number > self.count:
            self._look_for(number)
        data = self._frame_of(number).of(number)
        if len(data) != length:
            raise Problem(f"contents {number} are of {len(data)} bytes, and are referred to as of {length}")
        return data

    def _frame_of(self, number: int) -> Decoded:
        place = bisect_right(self._firsts, number) - 1
        decoded = self._decoded.get(place)
        if decoded is None:
            # It was decoded before; the file may have changed since.
            offset = self._offsets[place]
            frame = frames.read_frame(self._read, offset, offset + _FRAME_FILE_BYTES_MAX)
            if frame is None or frame.type != FrameType.CONTENTS:
                raise Problem(f"the contents {number} have gone")
            decoded = decode(frame)
            if not decoded.first <= number < decoded.first + len(decoded.ends):
                raise Problem(f"the contents {number} have changed")
            self._hold(place, decoded)
        else:
            self._decoded.move_to_end(place)
        return decoded

    def _hold(self, place: int, decoded: Decoded) -> None:
        self._decoded[place] = decoded
        self._decoded_bytes += len(decoded.data)
        while self._decoded_bytes > CACHE_BYTES_MAX:
            self._decoded_bytes -= len(self._decoded.popitem(last=False)[1].data)

    def _know(self, decoded: Decoded, offset: int, end: int) -> None:
        self._firsts.append(decoded.first)
        self._offsets.append(offset)
        self.count += len(decoded.ends)
        self.bytes += len(decoded.data)
        self._next = end
        self._hold(len(self._firsts) - 1, decoded)

    def _look_for(self, number: int) -> None:
        """Go along the frames until the number is known. Raises Problem where the tape does not have it."""
        while number > self.count:
            found = frames.skip_frame(self._read, self._next, 1 << 62)
            if found is None:
                raise Problem(f"there are no contents {number}")
            type_, frame_bytes = found
            if type_ == FrameType.CONTENTS:
                frame = frames.read_frame(self._read, self._next, self._next + frame_bytes)
                assert frame is not None
                self.take(frame, self._next, self.count + 1)
            else:
                self._next += frame_bytes


_FRAME_FILE_BYTES_MAX = frames.FRAME_HEADER_BYTES + FRAME_BYTES_LIMIT


def _varint(value: int) -> bytes:
    octets = bytearray()
    while value >= 0x80:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)
