"""The columns in which every trace is given, and the limits of what can stand in them.

It names types and limits, and reads nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ringtape.proto import messages_pb2

READ = int(messages_pb2.KIND_READ)
WRITE = int(messages_pb2.KIND_WRITE)
WRITE_ZEROES = int(messages_pb2.KIND_WRITE_ZEROES)
DISCARD = int(messages_pb2.KIND_DISCARD)
FSYNC = int(messages_pb2.KIND_FSYNC)
KIND_NAMES = {
    READ: "read",
    WRITE: "write",
    WRITE_ZEROES: "write_zeroes",
    DISCARD: "discard",
    FSYNC: "fsync",
}

FUA = int(messages_pb2.REQUEST_FLAG_FUA)
DATA_ONLY = int(messages_pb2.REQUEST_FLAG_DATA_ONLY)
FLAG_NAMES = {FUA: "fua", DATA_ONLY: "data-only"}

SECTOR = 512
# A request ends below this: what the kernel can address in a file.
END_MAX = (1 << 63) - 1
# So that an index fits its column.
DEVICES_MAX = 1 << 16

REQUEST = np.dtype(
    [
        (
            "time_ns",
            "<i8",
        ),  # since the trace's first request; negative where a later line has an earlier time
        ("offset", "<u8"),  # bytes; 0 for fsync
        ("length", "<u8"),  # bytes; 0 for fsync
        ("device", "<u2"),  # index into the trace's `devices`
        ("kind", "u1"),  # as in messages.proto
        ("flags", "u1"),  # as in messages.proto
        ("under_way", "<u4"),  # with it, so many had not completed in the traced system; 0 if nobody asked
    ],
    align=True,
)
"""One request of a trace: the type of the rows of every batch."""

Array = NDArray[Any]
Bools = NDArray[np.bool_]
Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Unsigned = NDArray[np.uint64]
