"""Frames of the link: a little-endian u32 length and that many bytes of payload, made and taken apart.

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

    def __init__(self) -> None:
        # Of the frame that has begun: None while its length is not complete, with the bytes of the length that
        # are there in `_held`; then the length, with the bytes of the payload in `_held`.
        self._length: int | None = None
        self._held = bytearray()

    @property
    def pending(self) -> int:
        """How many bytes of a frame that is not complete are held; not 0 at the end of a stream that was cut."""
        return len(self._held) + (0 if self._length is None else _LENGTH_BYTES)

    def feed(self, data: bytes | memoryview) -> list[bytes]:
        """The payloads that `data`, the next piece of the stream, completes. It keeps no reference to `data`.

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
        payloads = []
        at = 0
        while at < end:
            if self._length is None:
                at = self._take_length(view, at)
                if self._length is None:
                    break
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
            self._length = _checked(_LENGTH.unpack(self._held)[0])
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
