"""The frames of a tape: bytes in, checked payload out, and the other way round.

Responsible for the file's first bytes, the frame header, checksums, compression and the bounds on all of them.
It never opens a file and never looks inside a payload: what a block means is for `tables`. docs/tape-format.md
describes the same bytes in words.

Every length in a frame header is a claim by whoever wrote the file. It is held against a bound, and against
what is left of the file, before a byte is allocated for it.
"""

import enum
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import xxhash
import zstandard

from ringtape.proto.errors import TapeError

MAGIC = b"RINGTAPE"
FORMAT_VERSION = 3  # what is written; all from 1 on are read
FILE_HEADER = struct.Struct("<8sII")  # magic, format version, what `file_check` gives for it
_CHECKED_SINCE = 3  # the first format version that has one

FRAME_MAGIC = int.from_bytes(b"RTfr", "little")
# Magic, type, codec, reserved, stored length, raw length; the checksum covers these and the stored payload.
_CHECKED = struct.Struct("<IBBHII")
_CHECKSUM = struct.Struct("<Q")
FRAME_HEADER_BYTES = _CHECKED.size + _CHECKSUM.size

RAW_BYTES_MAX = 64 << 20  # of one frame's payload, in memory
_SEARCH_BYTES = 1 << 20  # read at once where a frame is looked for
SAMPLE_BYTES = 4096  # of so much of some parts of a long payload is seen whether it compresses
_SAMPLES = 8
_WORTH_IT = 0.95  # what it has to come to at least
COMPRESSION_LEVEL = 1  # the coordinator compresses between two messages; higher levels gain little on columns


class FrameType(enum.IntEnum):
    """What a frame holds. Numbers not listed are left to later versions, and skipped."""

    HEADER = 1
    BLOCK = 2
    SEAL = 3
    PACKED = 4  # a block in fewer bytes; from version 2 on
    INDEX = 5  # from version 2 on
    CONTENTS = 6  # data of reads and writes; from version 3 on
    UNDO = 7  # what a range of a disk held before its first change; from version 3 on


class Codec(enum.IntEnum):
    """How a frame's payload is stored."""

    NONE = 0
    ZSTD = 1


class Problem(Exception):
    """What does not hold together in a tape, as one clause. Who catches it knows the place and adds it."""


class CutShort(Problem):
    """A frame of which only the beginning is in the file."""


class Limit(Problem):
    """What would hold together and is more than a tape may hold."""


class Frame(NamedTuple):
    """A frame whose checksum holds, its payload still as stored."""

    type: int
    codec: int
    reserved: int
    raw_bytes: int
    stored: bytes

    @property
    def frame_bytes(self) -> int:
        """How much of the file the frame takes, header included."""
        return FRAME_HEADER_BYTES + len(self.stored)


class FrameEncoder:
    """Turns payloads into frames. Holds a compressor, so it belongs to one thread."""

    def __init__(self) -> None:
        self._compressor = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL)

    def encode(self, type_: FrameType, payload: bytes, *, compress: bool = True) -> bytes:
        """The whole frame, `compress`ed where that helps. TapeError when the payload is longer than a frame may be."""
        if len(payload) > RAW_BYTES_MAX:
            raise TapeError(
                f"{len(payload)} bytes do not fit on the tape in one piece; at most {RAW_BYTES_MAX} bytes do"
            )
        codec, stored = Codec.NONE, payload
        if compress:
            compressed = self._compressor.compress(payload)
            if len(compressed) < len(payload):
                codec, stored = Codec.ZSTD, compressed
        checked = _CHECKED.pack(FRAME_MAGIC, type_, codec, 0, len(stored), len(payload))
        return b"".join((checked, _CHECKSUM.pack(_checksum(checked, stored)), stored))

    def encode_parts(self, type_: FrameType, parts: Sequence[bytes | memoryview]) -> list[bytes | memoryview]:
        """The same in parts that follow one another, without a copy where the payload does not compress.

        Whether it does is judged by samples of it: to compress what is random takes longer than to write it.
        """
        raw_bytes = sum(map(len, parts))
        assert raw_bytes <= RAW_BYTES_MAX, f"a payload of {raw_bytes} bytes"
        samples = b"".join(part[:SAMPLE_BYTES] for part in parts[:: max(len(parts) // _SAMPLES, 1)])
        if len(self._compressor.compress(samples)) < _WORTH_IT * len(samples):
            return [self.encode(type_, b"".join(parts))]
        checked = _CHECKED.pack(FRAME_MAGIC, type_, Codec.NONE, 0, raw_bytes, raw_bytes)
        hasher = xxhash.xxh3_64(checked)
        for part in parts:
            hasher.update(part)
        return [checked + _CHECKSUM.pack(hasher.intdigest()), *parts]


def encode_file_header() -> bytes:
    """The first bytes of every tape."""
    return FILE_HEADER.pack(MAGIC, FORMAT_VERSION, file_check(FORMAT_VERSION))


def file_check(version: int) -> int:
    """What has to stand behind the format version: a tape that took itself for an older one would hide its frames."""
    if version < _CHECKED_SINCE:
        return 0
    return xxhash.xxh3_64_intdigest(MAGIC + version.to_bytes(4, "little")) & 0xFFFFFFFF


def read_frame(read: Callable[[int, int], bytes], offset: int, file_bytes: int) -> Frame | None:
    """The frame at `offset`, or None where the file ends there.

    `read(length, offset)` gives as many bytes of the file as there are; `file_bytes` is the file's size.
    Raises CutShort for a frame that is cut, Problem for one that makes impossible claims or fails its checksum.
    """
    left = file_bytes - offset
    if left <= 0:
        return None
    header = read(FRAME_HEADER_BYTES, offset)
    if len(header) < FRAME_HEADER_BYTES:
        raise CutShort(f"the file ends inside a frame's header, {len(header)} bytes into it")
    checked = header[: _CHECKED.size]
    magic, type_, codec, reserved, stored_bytes, raw_bytes = _CHECKED.unpack(checked)
    if magic != FRAME_MAGIC:
        raise Problem("no frame begins there")
    if raw_bytes > RAW_BYTES_MAX or stored_bytes > raw_bytes:
        raise Problem(f"its lengths are impossible: {stored_bytes} bytes stored for {raw_bytes} bytes")
    if stored_bytes > left - FRAME_HEADER_BYTES:
        raise CutShort(
            f"the file ends inside a frame, {left} bytes into its {FRAME_HEADER_BYTES + stored_bytes}"
        )
    stored = read(stored_bytes, offset + FRAME_HEADER_BYTES)
    if len(stored) < stored_bytes:
        raise Problem("the file became shorter while it was read")
    (checksum,) = _CHECKSUM.unpack_from(header, _CHECKED.size)
    if checksum != _checksum(checked, stored):
        raise Problem("its checksum is wrong")
    return Frame(type_, codec, reserved, raw_bytes, stored)


def skip_frame(read: Callable[[int, int], bytes], offset: int, file_bytes: int) -> tuple[int, int] | None:
    """Type and whole length of the frame at `offset`, its payload neither read nor checked; None if none begins."""
    header = read(FRAME_HEADER_BYTES, offset)
    if len(header) < FRAME_HEADER_BYTES:
        return None
    magic, type_, _, _, stored_bytes, _ = _CHECKED.unpack_from(header)
    whole = FRAME_HEADER_BYTES + stored_bytes
    return (type_, whole) if magic == FRAME_MAGIC and offset + whole <= file_bytes else None


def frames_after(
    read: Callable[[int, int], bytes], offset: int, file_bytes: int
) -> Iterator[tuple[int, Frame]]:
    """Whole frames from there on, wherever they begin, each with its offset."""
    magic = FRAME_MAGIC.to_bytes(4, "little")
    while offset < file_bytes:
        try:
            frame = read_frame(read, offset, file_bytes)
        except Problem:
            frame = None
        if frame is not None:
            yield offset, frame
            offset += frame.frame_bytes
            continue
        offset += 1
        while offset < file_bytes:
            chunk = read(_SEARCH_BYTES, offset)
            found = chunk.find(magic)
            if found >= 0:
                offset += found
                break
            # The magic may stand across the end of the chunk.
            offset += max(len(chunk) - len(magic) + 1, 1)


def unpack(frame: Frame) -> bytes:
    """The frame's payload. Raises Problem when it does not decompress to exactly the length it claims."""
    if frame.reserved:
        raise Problem(f"its reserved field is {frame.reserved}, not 0")
    if frame.codec == Codec.NONE:
        if len(frame.stored) != frame.raw_bytes:
            raise Problem(f"it claims {frame.raw_bytes} bytes and stores {len(frame.stored)}")
        return frame.stored
    if frame.codec != Codec.ZSTD:
        raise Problem(f"it is stored in a way (codec {frame.codec}) that this ringtape does not know")
    try:
        # zstandard allocates what the compressed data claims, whatever `max_output_size` says: ask it first.
        claimed = zstandard.get_frame_parameters(frame.stored).content_size
        if claimed != frame.raw_bytes:
            raise Problem(f"it claims {frame.raw_bytes} bytes and its compressed data another length")
        payload = zstandard.ZstdDecompressor(max_window_size=RAW_BYTES_MAX).decompress(
            frame.stored, max_output_size=frame.raw_bytes, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise Problem(f"it does not decompress: {error}") from None
    if len(payload) != frame.raw_bytes:
        raise Problem(f"it claims {frame.raw_bytes} bytes and decompresses to {len(payload)}")
    return payload


def _checksum(checked: bytes, stored: bytes) -> int:
    hasher = xxhash.xxh3_64(checked)
    hasher.update(stored)
    return hasher.intdigest()
