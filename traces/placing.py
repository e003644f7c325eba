"""From the requests of a trace to requests of the disks that stand for its devices: the same ones, in the same order.

Whole batches at once, and the same rows whenever it is given the same. What cannot be placed is named before anything
is replayed; nothing here reads a trace or touches a disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ringtape.traces.columns import END_MAX, FSYNC, KIND_NAMES, WRITE, Array, Bools, Unsigned

#: What becomes of a device that is larger than its room: it is shrunk, goes round, is cut off; or is refused.
Fit = Literal["refuse", "scale", "wrap", "clip"]
FITS: tuple[str, ...] = get_args(Fit)

#: A request of the disks: `disk` is an index, `time_ns` since the beginning.
ROW = np.dtype(
    [
        ("time_ns", "<i8"),
        ("offset", "<u8"),  # bytes
        ("length", "<u8"),  # bytes
        ("disk", "<u2"),
        ("kind", "u1"),
        ("flags", "u1"),
    ]
)
#: And with it, so many may be under way.
ROW_WITH_DEPTH = np.dtype([*ROW.descr, ("depth", "<u4")])


@dataclass(frozen=True)
class Place:
    """Where a device of the trace is: `room` bytes from byte `offset` of a disk, an index; all in whole blocks.

    `end` is the highest end of its requests in the trace.
    """

    device: str
    disk: int
    disk_name: str
    offset: int
    room: int
    block: int
    end: int


class Placing:
    """Places the requests of a trace, batch by batch.

    Attributes:
        empty: requests that move nothing and were left out so far.
        left_out: requests that were cut off whole so far.
        shortened: requests that were cut short so far.
    """

    def __init__(
        self,
        places: Sequence[Place],
        *,
        fit: Fit,
        align: bool,
        transfer_bytes_max: int,
        speed: float,
        with_depth: bool = False,
    ) -> None:
        """`speed`: how many times faster than in the trace; 0 leaves all times at 0. `with_depth`: as in the trace."""
        self._row = ROW_WITH_DEPTH if with_depth else ROW
        self._places, self._fit, self._align, self._speed = places, fit, align, speed
        self._transfer_bytes_max = transfer_bytes_max
        self._disk = np.array([place.disk for place in places], np.uint16)
        self._base, self._room, self._block, self._end = (
            np.array([getattr(place, name) for place in places], np.uint64)
            for name in ("offset", "room", "block", "end")
        )
        if align:
            self._end += (self._block - self._end % self._block) % self._block
        self._due_ns = 0
        self.empty = self.left_out = self.shortened = 0

    def refused(self, batch: Array) -> tuple[int, str] | None:
        """The first row that cannot be placed, and why not; None if there is none."""
        offset, length, block, room = self._columns(batch)
        moves = (batch["kind"] != FSYNC) & (batch["length"] > 0)
        transfers = moves & (batch["kind"] <= WRITE)
        uneven = moves & (((offset | length) % block) != 0)
        beyond = moves & ((offset > room) | (length > room - np.minimum(offset, room)))
        too_long = transfers & (length > self._transfer_bytes_max)
        if self._fit == "clip":
            beyond[:] = False
        elif self._fit != "refuse":
            beyond = moves & (length > room)
        bad = uneven | beyond | too_long
        if not bad.any():
            return None
        row = int(np.argmax(bad))
        return row, self._why(batch[row], uneven=bool(uneven[row]), beyond=bool(beyond[row]))

    def _why(self, one: Any, *, uneven: bool, beyond: bool) -> str:
        place = self._places[one["device"]]
        kind, offset, length = KIND_NAMES[int(one["kind"])], one["offset"], one["length"]
        what = f"{kind} of device {place.device!r}, offset {offset} length {length},"
        if uneven:
            return (
                f"{what} is not in whole blocks of disk {place.disk_name!r} ({place.block} bytes): give --align to "
                "take the blocks that it touches"
            )
        if beyond and self._fit == "refuse":
            return (
                f"{what} ends past the {place.room} bytes that the device has on disk {place.disk_name!r}: give "
                "--scale, --wrap or --clip"
            )
        if beyond:
            return f"{what} is longer than the {place.room} bytes that the device has on disk {place.disk_name!r}"
        return f"{what} is longer than a request may be ({self._transfer_bytes_max} bytes)"

    def _columns(self, batch: Array) -> tuple[Unsigned, Unsigned, Unsigned, Unsigned]:
        """Offsets and lengths, in whole blocks if asked for; and block and room of each row."""
        device = batch["device"]
        block, room = self._block[device], self._room[device]
        offset, length = batch["offset"].copy(), batch["length"].copy()
        if self._align:
            end = offset + length
            offset -= offset % block
            end += (block - end % block) % block
            length = np.where(length > 0, end - offset, length)
        return offset, length, block, room

    def rows(self, batch: Array) -> Array:
        """The requests of a batch of which none is refused, as requests of the disks (`ROW`)."""
        offset, length, block, room = self._columns(batch)
        is_fsync = batch["kind"] == FSYNC
        keep = is_fsync | (length > 0)
        self.empty += len(keep) - int(np.count_nonzero(keep))
        if self._fit == "clip":
            keep = self._clip(offset, length, room, keep, is_fsync)
        elif self._fit != "refuse":
            self._bring_in(offset, length, room, block, batch["device"])
        rows = np.empty(len(batch), self._row)
        if self._row is ROW_WITH_DEPTH:
            rows["depth"] = batch["under_way"]
        rows["time_ns"] = self._due(batch["time_ns"])
        rows["offset"] = np.where(is_fsync, np.uint64(0), offset + self._base[batch["device"]])
        rows["length"] = length
        rows["disk"] = self._disk[batch["device"]]
        rows["kind"], rows["flags"] = batch["kind"], batch["flags"]
        return rows if keep.all() else rows[keep]

    def _clip(
        self, offset: Unsigned, length: Unsigned, room: Unsigned, keep: Bools, is_fsync: Bools
    ) -> Bools:
        inside = is_fsync | (offset < room)
        self.left_out += int(np.count_nonzero(keep & ~inside))
        keep = keep & inside
        too_long = keep & ~is_fsync & (length > room - np.minimum(offset, room))
        self.shortened += int(np.count_nonzero(too_long))
        length[too_long] = (room - offset)[too_long]
        return keep

    def _bring_in(
        self, offset: Unsigned, length: Unsigned, room: Unsigned, block: Unsigned, device: NDArray[Any]
    ) -> None:
        """Move requests into their room; one that would cross its end ends there."""
        if self._fit == "scale":
            end = self._end[device]
            larger = end > room
            # Positions, not amounts: what a float cannot tell apart is less than a block.
            shrunk = np.floor(offset * (room / np.maximum(end, np.uint64(1)))).astype(np.uint64)
            shrunk -= shrunk % block
            offset[larger] = shrunk[larger]
        else:
            offset %= room
        np.minimum(offset, room - np.minimum(length, room), out=offset)

    def _due(self, time_ns: NDArray[np.int64]) -> NDArray[np.int64]:
        """When each is due: a request is never due before one that stands before it."""
        if not self._speed or not len(time_ns):
            return np.zeros(len(time_ns), np.int64)
        due = time_ns if self._speed == 1 else np.rint(time_ns / self._speed).astype(np.int64)
        due = np.maximum(np.maximum.accumulate(due), self._due_ns)
        self._due_ns = int(due[-1])
        return due


def latest_due_fits(last_ns: int, speed: float) -> bool:
    """Is the time of the last request, at this speed, one that a clock of 64 bits has?"""
    return not speed or last_ns / speed < END_MAX / 2
