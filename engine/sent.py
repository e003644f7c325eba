"""Which data of reads and writes the coordinator has already, so that the same is sent once.

Responsible for numbering what goes out (as `proto/contents.py` and `wire.proto` have it) and for remembering the
digests of a bounded number of what went out last. It never keeps data that has been sent.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Callable, Sequence

from xxhash import xxh3_128_digest

from ringtape.proto import wire_pb2
from ringtape.proto.contents import LINK_DATA_BYTES_MAX, PIECE_BYTES, SENT_MAX

# What has gathered goes out when it comes to this much.
GATHERED_BYTES_MAX = 1 << 19
# Data of this size goes out at once, from where it is: a copy would take longer than a message more.
AT_ONCE_BYTES = 1 << 18
assert GATHERED_BYTES_MAX + PIECE_BYTES <= LINK_DATA_BYTES_MAX

Part = bytes | memoryview


class SentContents:
    """Numbers data, and gathers what is new until it is taken along with a batch, or sent when it is much."""

    def __init__(
        self, send: Callable[[wire_pb2.Batch], None], send_data: Callable[[Sequence[Part]], None]
    ) -> None:
        """`send_data` sends the parts of a frame of data, `send` the message behind it; both may wait."""
        self._send = send
        self._send_data = send_data
        self._gathered = memoryview(bytearray(GATHERED_BYTES_MAX + AT_ONCE_BYTES))
        self._gathered_bytes = 0
        self._numbers: OrderedDict[bytes, int] = OrderedDict()
        self._sent = 0
        self._length = array("I")
        self._list = bytearray()
        self._digest = bytearray()

    def number_of(self, data: memoryview) -> int:
        """The number by which the coordinator knows this data, once it has what has gathered here."""
        digest = xxh3_128_digest(data)
        number = self._numbers.get(digest)
        if number is not None:
            return number
        if len(data) <= PIECE_BYTES:
            return self._add(digest, data, is_list=False)
        # Each piece is looked for by itself, so that long data shares what it has in common with other data.
        pieces = array("Q")
        for start in range(0, len(data), PIECE_BYTES):
            pieces.append(self.number_of(data[start : start + PIECE_BYTES]))
        return self._add(digest, pieces.tobytes(), is_list=True)

    def _add(self, digest: bytes, data: Part, *, is_list: bool) -> int:
        self._sent += 1
        self._numbers[digest] = self._sent
        if len(self._numbers) > SENT_MAX:
            self._numbers.popitem(last=False)
        self._length.append(len(data))
        self._list.append(is_list)
        self._digest += digest
        if len(data) >= AT_ONCE_BYTES:
            self._send_all(data)
            return self._sent
        start = self._gathered_bytes
        self._gathered_bytes = start + len(data)
        self._gathered[start : self._gathered_bytes] = data
        if self._gathered_bytes >= GATHERED_BYTES_MAX:
            self._send_all(b"")
        return self._sent

    def _send_all(self, last: Part) -> None:
        batch = wire_pb2.Batch()
        self.take(batch, last)
        self._send(batch)

    def take(self, batch: wire_pb2.Batch, last: Part = b"") -> None:
        """Send the data of what has gathered, and `last`; the batch, which has to be sent next, says what it is."""
        if not self._list:
            return
        self._send_data((self._gathered[: self._gathered_bytes], last))
        self._gathered_bytes = 0
        contents = batch.contents
        contents.length = self._length.tobytes()
        contents.list = bytes(self._list)
        contents.digest = bytes(self._digest)
        del self._length[:]
        self._list.clear()
        self._digest.clear()
