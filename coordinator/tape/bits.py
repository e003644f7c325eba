"""Columns of numbers as few bytes, and back: the innermost layer of a packed block.

Responsible for the five ways in which a column of unsigned 64-bit numbers is stored, and for choosing among them.
It knows nothing of what a column means; `packing` subtracts what can be foretold before a column comes here.

Why not zstd over the whole block: its one table of symbols would be shared by columns that have nothing in common
(random offsets beside constant lengths), and it sees bytes where the entropy is in bits. `CLASSES` is the remedy for
numbers of any scale: how many bits each has goes through zstd, the bits below the first go as they are. It comes
within some per cent of the entropy for anything smooth. `PLANES` and `PLAIN` are better where values repeat.

Every length is checked against the number of rows, which the caller has bounded, before it is allocated.
"""

import enum
import struct
import threading
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from ringtape.coordinator.tape.frames import Problem

Values = NDArray[np.uint64]

COMPRESSION_LEVEL = 1
TRY_AGAIN_AFTER = 16  # columns of one name that are stored the way that was best before
_SMALL = 64  # bytes; below, zstd's own header takes more than it gains
_PART = struct.Struct("<I")
_U64 = np.dtype("<u8")
_of_thread = threading.local()
_ONE, _WORD, _WORD_BITS = np.uint64(1), np.uint64(63), np.uint64(6)


class Encoding(enum.IntEnum):
    """The first byte of a stored column."""

    CONSTANT = 1  # the value that all rows have
    PLAIN = 2  # rows of a few bytes, one part
    PLANES = 3  # the rows' lowest bytes, then the next, a part each
    CLASSES = 4  # how many bits each row has, then the bits below the first


class ColumnPacker:
    """Stores columns. Remembers by name what was best, so that not every column is tried in every way."""

    def __init__(self) -> None:
        self._compressor = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL)
        self._best: dict[str, tuple[Encoding, int]] = {}  # and how often it is to be used unseen

    def part(self, raw: bytes) -> bytes:
        """Bytes whose length the reader knows, compressed where that helps, behind their stored length."""
        if len(raw) >= _SMALL:
            stored = self._compressor.compress(raw)
            if len(stored) < len(raw):
                return _PART.pack(len(stored) << 1 | 1) + stored
        return _PART.pack(len(raw) << 1) + raw

    def pack(self, name: str, values: Values) -> bytes:
        """The column; nothing where it has no rows or they are all 0."""
        if not len(values):
            return b""
        highest = int(np.maximum.reduce(values))
        if highest == int(np.minimum.reduce(values)):
            size = (highest.bit_length() + 7) // 8
            return bytes((Encoding.CONSTANT,)) + highest.to_bytes(size, "little") if highest else b""
        common = int(np.bitwise_or.reduce(values))
        shift = (common & -common).bit_length() - 1
        if shift:
            values = values >> np.uint64(shift)
        width = ((highest >> shift).bit_length() + 7) // 8
        best, left = self._best.get(name, (Encoding.PLAIN, 0))
        if left and not (best is Encoding.PLANES and width == 1):
            self._best[name] = best, left - 1
            return self._as(best, values, width, shift)
        ways = [Encoding.PLAIN, Encoding.CLASSES] + [Encoding.PLANES] * (width > 1)
        stored = min((self._as(way, values, width, shift) for way in ways), key=len)
        self._best[name] = Encoding(stored[0]), TRY_AGAIN_AFTER
        return stored

    def _as(self, encoding: Encoding, values: Values, width: int, shift: int) -> bytes:
        start = bytes((encoding, width, shift))
        if encoding is Encoding.CLASSES:
            sizes = _bit_lengths(values)
            return start + self.part(sizes.tobytes()) + _join_bits(values, sizes)
        octets = values.astype(_U64, copy=False).view(np.uint8).reshape(-1, 8)[:, :width]
        if encoding is Encoding.PLAIN:
            return start + self.part(octets.tobytes())
        return start + b"".join(self.part(plane.tobytes()) for plane in octets.T)


class _Parts:
    """Takes a stored column apart."""

    def __init__(self, data: bytes, position: int) -> None:
        self.data = data
        self.position = position

    def take(self, raw_bytes: int) -> bytes:
        if len(self.data) - self.position < _PART.size:
            raise Problem("a column ends inside a length")
        (word,) = _PART.unpack_from(self.data, self.position)
        start = self.position + _PART.size
        self.position = start + (word >> 1)
        if self.position > len(self.data):
            raise Problem("a column ends inside a part")
        stored = self.data[start : self.position]
        if word & 1:
            return decompress(stored, raw_bytes)
        if len(stored) != raw_bytes:
            raise Problem(f"a column has {len(stored)} bytes where {raw_bytes} are due")
        return stored


def unpack_part(data: bytes, raw_bytes: int) -> bytes:
    """The one part that `data` is. Raises Problem unless it has exactly that many bytes."""
    parts = _Parts(data, 0)
    raw = parts.take(raw_bytes)
    if parts.position != len(data):
        raise Problem("a part is followed by more")
    return raw


def unpack(name: str, data: bytes, rows: int) -> Values:
    """The column. Raises Problem for anything that is not one of so many rows."""
    if not data:
        return np.zeros(rows, dtype=np.uint64)
    if not rows:
        raise Problem(f"its column {name} has {len(data)} bytes for 0 rows")
    if data[0] == Encoding.CONSTANT:
        if not 2 <= len(data) <= 9:
            raise Problem(f"its column {name} is a constant of {len(data) - 1} bytes")
        return np.full(rows, int.from_bytes(data[1:], "little"), dtype=np.uint64)
    if len(data) < 3 or not 1 <= data[1] <= 8 or data[2] > 63:
        raise Problem(f"its column {name} has a form that this ringtape does not know")
    encoding, width, shift = data[:3]
    parts = _Parts(data, 3)
    if encoding == Encoding.CLASSES:
        sizes = np.frombuffer(parts.take(rows), dtype=np.uint8)
        values = _split_bits(name, data[parts.position :], sizes)
    elif encoding in (Encoding.PLAIN, Encoding.PLANES):
        octets = np.zeros((rows, 8), dtype=np.uint8)
        if encoding == Encoding.PLAIN:
            octets[:, :width] = np.frombuffer(parts.take(rows * width), dtype=np.uint8).reshape(rows, width)
        else:
            for plane in range(width):
                octets[:, plane] = np.frombuffer(parts.take(rows), dtype=np.uint8)
        if parts.position != len(data):
            raise Problem(f"its column {name} is followed by more")
        values = octets.view(_U64).reshape(rows)
    else:
        raise Problem(f"its column {name} is stored in a way ({encoding}) that this ringtape does not know")
    return values << np.uint64(shift) if shift else values


def decompress(stored: bytes, raw_bytes: int) -> bytes:
    """One zstd frame of exactly that length. Raises Problem; allocates no more than `raw_bytes`."""
    try:
        # zstandard allocates what the compressed data claims, whatever `max_output_size` says: ask it first.
        claimed = zstandard.get_frame_parameters(stored).content_size
        if claimed != raw_bytes:
            raise Problem(f"a part claims to be {claimed} bytes where {raw_bytes} are due")
        raw = _decompressor().decompress(stored, max_output_size=raw_bytes, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Problem(f"a part does not decompress: {error}") from None
    if len(raw) != raw_bytes:
        raise Problem(f"a part decompresses to {len(raw)} bytes where {raw_bytes} are due")
    return raw


def _decompressor() -> zstandard.ZstdDecompressor:
    """This thread's: making one takes longer than most parts do."""
    decompressor: zstandard.ZstdDecompressor | None = getattr(_of_thread, "decompressor", None)
    if decompressor is None:
        decompressor = _of_thread.decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 26)
    return decompressor


def zigzag(difference: Values) -> Values:
    """Differences modulo 2^64, small ones of either sign to small numbers: 0, -1, 1, -2 to 0, 1, 2, 3."""
    signed = difference.view(np.int64)
    return ((signed << 1) ^ (signed >> 63)).view(np.uint64)


def unzigzag(values: Values) -> Values:
    """The other way round."""
    return (values >> _ONE) ^ (~(values & _ONE) + _ONE)


def _bit_lengths(values: Values) -> NDArray[np.uint8]:
    sizes = np.frexp(values.astype(np.float64))[1].astype(np.uint8)
    # Above 2^53 a float may round up to the next power of two.
    if int(values.max()) >> 53:
        rounded = (sizes > 0) & ((values >> (np.maximum(sizes, 1).astype(np.uint64) - _ONE)) == 0)
        sizes[rounded] -= 1
    return sizes


def _places(sizes: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """How many bits each row takes (those below its first), where they begin, and how many there are."""
    bits = np.maximum(sizes.astype(np.int64) - 1, 0)
    ends = np.cumsum(bits)
    return bits, ends - bits, int(ends[-1])


def _join_bits(values: Values, sizes: NDArray[np.uint8]) -> bytes:
    some = sizes > 0
    bits = (sizes - some).astype(np.uint64)
    ends = bits.cumsum()
    starts = ends - bits
    word, within = starts >> _WORD_BITS, starts & _WORD
    low = (some.astype(np.uint64) << bits) ^ values
    # The sums of what begins in each word: no two have a bit in common. The last may go on in the word after.
    lasts = np.append((word[1:] != word[:-1]).nonzero()[0], len(word) - 1)
    sums = (low << within).cumsum()[lasts]
    sums[1:] -= sums[:-1].copy()
    words = np.zeros(int(ends[-1]) // 64 + 2, dtype=_U64)
    place = word[lasts].view(np.int64)
    words[place] = sums
    # In two shifts, since a shift by 64 is none.
    words[place + 1] |= (low[lasts] >> _ONE) >> (_WORD - within[lasts])
    return words.tobytes()[: (int(ends[-1]) + 7) // 8]


def _split_bits(name: str, data: bytes, sizes: NDArray[np.uint8]) -> Values:
    if int(sizes.max()) > 64:
        raise Problem(f"its column {name} has a number of {int(sizes.max())} bits")
    bits, starts, total = _places(sizes)
    if len(data) != (total + 7) // 8:
        raise Problem(f"its column {name} has {len(data)} bytes for {total} bits")
    words = np.frombuffer(data + bytes(16 - len(data) % 8), dtype=_U64)
    word, within = starts >> 6, (starts & 63).astype(np.uint64)
    size = bits.astype(np.uint64)
    joined = (words[word] >> within) | ((words[word + 1] << _ONE) << (_WORD - within))
    first = np.where(sizes > 0, _ONE << size, np.uint64(0))
    values: Values = (joined & ((_ONE << size) - _ONE)) | first
    return values
