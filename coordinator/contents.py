"""From the contents that workers send to contents on the tape: each once, whoever sends it.

Responsible for the numbers in the columns, which are a worker's on the wire and the tape's afterwards. What it
remembers is bounded: of each worker as many numbers as it may refer to, of all workers together so many digests.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ringtape.coordinator.errors import ProtocolError
from ringtape.coordinator.tape.sink import TapeSink
from ringtape.proto import wire_pb2
from ringtape.proto.contents import PIECE_BYTES, SENT_MAX

# Digests that are remembered at least; twice as many at most.
KNOWN_MAX = 1 << 17
_REMEMBERED = 2 * SENT_MAX
_DIGEST_BYTES = 16


class _Sender:
    """One worker: the tape's numbers of the last contents that it sent."""

    def __init__(self) -> None:
        self.sent = 0
        self.data = memoryview(b"")  # that has come, and nothing has been said of
        self.numbers = np.zeros(_REMEMBERED, dtype=np.uint64)


class ContentsKeeper:
    """Takes the contents out of batches before anything else looks at them."""

    def __init__(self, tape: TapeSink) -> None:
        self._tape = tape
        self._senders: dict[int, _Sender] = {}
        # Digest to number on the tape, in two generations: what is not asked for goes with the older one.
        self._young: dict[bytes, int] = {}
        self._old: dict[bytes, int] = {}

    def data(self, worker: int, data: bytearray) -> None:
        """The worker has sent data, of which its next batch says what it is."""
        sender = self._sender(worker)
        if sender.data:
            raise ProtocolError(f"worker {worker} sent data without saying of what")
        # Nobody changes it any more.
        sender.data = memoryview(data)

    def take(self, worker: int, batch: wire_pb2.Batch) -> None:
        """Put new contents on the tape; the batch's columns have the tape's numbers afterwards.

        Raises `ProtocolError` for contents, or numbers of contents, that cannot be.
        """
        sender = self._sender(worker)
        if batch.HasField("contents") or sender.data:
            self._keep(worker, sender, batch.contents)
            batch.ClearField("contents")
        if batch.requests.contents:
            batch.requests.contents = self._on_tape(worker, sender, batch.requests.contents)
        if batch.completions.contents:
            batch.completions.contents = self._on_tape(worker, sender, batch.completions.contents)

    def _sender(self, worker: int) -> _Sender:
        sender = self._senders.get(worker)
        if sender is None:
            sender = self._senders[worker] = _Sender()
        return sender

    def _keep(self, worker: int, sender: _Sender, new: wire_pb2.NewContents) -> None:
        lengths, lists, digests = new.length, new.list, new.digest
        data, sender.data = sender.data, memoryview(b"")
        count = len(lists)
        if len(lengths) != 4 * count or len(digests) != _DIGEST_BYTES * count:
            raise ProtocolError(f"worker {worker} sent {count} contents with columns of other lengths")
        start = 0
        for row, length in enumerate(memoryview(lengths).cast("I")):
            one = data[start : start + length]
            if not 0 < length <= PIECE_BYTES or len(one) != length:
                raise ProtocolError(f"worker {worker} sent contents of {length} bytes, which cannot be")
            digest = digests[_DIGEST_BYTES * row : _DIGEST_BYTES * (row + 1)]
            number = self._young.get(digest)
            if number is None:
                number = self._find_or_add(worker, sender, digest, one, is_list=lists[row] != 0)
            sender.numbers[sender.sent % _REMEMBERED] = number
            sender.sent += 1
            start += length
        if start != len(data):
            raise ProtocolError(f"worker {worker} sent contents of other lengths than their data")

    def _find_or_add(
        self, worker: int, sender: _Sender, digest: bytes, data: memoryview, *, is_list: bool
    ) -> int:
        number = self._old.pop(digest, None)
        if number is None:
            number = self._tape.content(self._on_tape(worker, sender, bytes(data)) if is_list else data)
        if len(self._young) >= KNOWN_MAX:
            self._young, self._old = {}, self._young
        self._young[digest] = number
        return number

    def _on_tape(self, worker: int, sender: _Sender, column: bytes) -> bytes:
        """The tape's numbers for a column of the worker's."""
        if len(column) % 8:
            raise ProtocolError(f"worker {worker} sent a column of contents of {len(column)} bytes")
        numbers: npt.NDArray[np.uint64] = np.frombuffer(column, dtype="<u8")
        if int(numbers.max()) > sender.sent:
            raise ProtocolError(f"worker {worker} refers to contents that it has not sent")
        some = numbers != 0
        if some.any() and int(numbers[some].min()) + _REMEMBERED <= sender.sent:
            raise ProtocolError(f"worker {worker} refers to contents that it has sent too long ago")
        found = np.zeros(len(numbers), dtype=np.uint64)
        found[some] = sender.numbers[(numbers[some] - np.uint64(1)) % np.uint64(_REMEMBERED)]
        return found.tobytes()
