"""Frames of the link: a little-endian u32 length and that many bytes of payload, made and taken apart.

A length with its highest bit set is of data, which is no message: it goes from the program's buffer to the tape without
a copy that can be avoided.

It knows nothing of sockets or of what a payload means, never waits, and never makes memory for bytes that have
not come: a length is only a claim.
"""

from __future__ import annotations

from struct import Struct

from ringtape.proto.errors import RingtapeError

# Of one payload. No message comes near it; a length over it is not a length but bytes out of place.
FRAME_BYTES_MAX = 1 << 30
# Of the payload of one message from worker to worker.
MESSAGE_BYTES_MAX = 1 << 20

_DATA = 1 << 31
_LENGTH = Struct("<I")
_LENGTH_BYTES = _LENGTH.size


class FramingError(RingtapeError):
    """A frame longer than `FRAME_BYTES_MAX`, made here or announced by the other side."""


def frame(payload: bytes) -> bytes:
    """The frame of `payload` in one piece, to be sent in one call.

    Raises:
        FramingError: the payload is longer than `FRAME_BYTES_MAX`.
    """
    return _LENGTH.pack(_checked(len(payload))) + payload


def data_start(length: int) -> bytes:
    """What goes before so many bytes of data."""
    return _LENGTH.pack(_DATA | _checked(length))


def _checked(length: int) -> int:
    if length > FRAME_BYTES_MAX:
        raise FramingError(f"a frame of {length} bytes is over the link's limit of {FRAME_BYTES_MAX} bytes")
    return length


class Deframer:
    """Takes a stream of frames apart, in whatever pieces it comes.

    A frame that lies whole in one piece is copied once, out of that piece. What comes in several pieces is
    gathered in a buffer that grows in proportion to itself, so that each byte is copied a bounded number of
    times however small the pieces are.
    """

    def __init__(self, *, data_bytes_max: int = 0) -> None:
        """Frames of data may have so many bytes; with 0 there are none."""
        self._data_bytes_max = data_bytes_max
        # Of a frame of data that has begun: its bytes, those that have come in front.
        self._data: bytearray | None = None
        self._data_filled = 0
        # Of the frame that has begun: None while its length is not complete, with the bytes of the length that
        # are there in `_held`; then the length, with the bytes of the payload in `_held`.
        self._length: int | None = None
        self._held = bytearray()

    @property
    def pending(self) -> int:
        """How many bytes of a frame that is not complete are held; not 0 at the end of a stream that was cut."""
        if self._data is not None:
            return _LENGTH_BYTES + self._data_filled
        return len(self._held) + (0 if self._length is None else _LENGTH_BYTES)

    @property
    def room(self) -> memoryview | None:
        """In the middle of a frame of data: where its next bytes may be put, instead of `feed`; then call `filled`."""
        return None if self._data is None else memoryview(self._data)[self._data_filled :]

    def filled(self, count: int) -> bytearray | None:
        """So many bytes have been put where `room` says: the frame's data, if they were the last."""
        assert self._data is not None, "no frame of data has begun"
        self._data_filled += count
        if self._data_filled < len(self._data):
            return None
        data, self._data = self._data, None
        return data

    def feed(self, data: bytes | memoryview) -> list[bytes | bytearray]:
        """The payloads that `data`, the next piece of the stream, completes. It keeps no reference to `data`.

        Messages are `bytes`, data is `bytearray`.

        Raises:
            FramingError: a length is over `FRAME_BYTES_MAX`. The stream has no frames to be found from there on,
                and this object is of no more use; payloads that `data` completed before it are dropped.
        """
        view = memoryview(data)
        end = len(view)
        assert end == view.nbytes, "a view of bytes, not of wider items"
        if end >= _LENGTH_BYTES and not self.pending:
            # Nearly always one message is sent, and comes, in one piece.
            length = _LENGTH.unpack_from(view)[0]
            if length == end - _LENGTH_BYTES and length <= FRAME_BYTES_MAX:
                return [bytes(view[_LENGTH_BYTES:])]
        payloads: list[bytes | bytearray] = []
        at = 0
        while at < end:
            if self._data is not None:
                count = min(end - at, len(self._data) - self._data_filled)
                self._data[self._data_filled : self._data_filled + count] = view[at : at + count]
                at += count
                whole = self.filled(count)
                if whole is not None:
                    payloads.append(whole)
                continue
            if self._length is None:
                at = self._take_length(view, at)
                if self._length is None:
                    continue
            at, payload = self._take_payload(view, at, self._length)
            if payload is not None:
                payloads.append(payload)
                self._length = None
        return payloads

    def _take_length(self, view: memoryview, at: int) -> int:
        """Set `_length` if its last byte is in `view`; where to go on from."""
        end = min(at + _LENGTH_BYTES - len(self._held), len(view))
        self._held += view[at:end]
        if len(self._held) == _LENGTH_BYTES:
            length = _LENGTH.unpack(self._held)[0]
            if _DATA < length <= _DATA | self._data_bytes_max:
                self._data, self._data_filled = bytearray(length ^ _DATA), 0
            else:
                self._length = _checked(length)
            self._held.clear()
        return end

    def _take_payload(self, view: memoryview, at: int, length: int) -> tuple[int, bytes | None]:
        """Where to go on from, and the payload if its last byte is in `view`."""
        end = min(at + length - len(self._held), len(view))
        if end - at == length:
            return end, bytes(view[at:end])
        self._held += view[at:end]
        if len(self._held) < length:
            return end, None
        payload = bytes(self._held)
        self._held.clear()
        return end, payload
