"""What blkparse prints: a line an event, and a summary at the end.

`maj,min cpu sequence seconds.ns pid action RWBS sector + count [process]`. One action is the request: `Q`, when it was
queued (what the system asked for), or `D`, when it went to the device (after merging and splitting). Lines of other
actions are passed over, and so are requests that pass through to the driver (they have no sector). A flush without
data is an fsync; one with data is the write that it comes with.
"""

from __future__ import annotations

import re

import numpy as np

from ringtape.traces import numbers
from ringtape.traces.columns import DISCARD, FSYNC, FUA, READ, SECTOR, WRITE, Array, Bools, Ints, Unsigned
from ringtape.traces.devices import Devices
from ringtape.traces.formats.base import SECTOR_MAX, Head, Options, Requests, TextFormat
from ringtape.traces.lines import Lines, split_spaces
from ringtape.traces.under_way import ByCompletion

_DEVICE, _CPU, _SEQUENCE, _TIME, _PID, _ACTION, _RWBS, _SECTOR, _PLUS, _COUNT = range(10)
_LINE = re.compile(rb"\d+,\d+\s+\d+\s+\d+\s+\d+\.\d{9}\s+\d+\s+\S+")
_SUMMARY = re.compile(rb"(?:CPU\s*\d+|Total) \(.*\):\s*$")
_RWBS_LIKE = re.compile(r"(F?)([RWDN]?)E?(F?)[AE]?S?M?")
_COMPLETED = b"C"
_OPS = {"R": READ, "W": WRITE, "D": DISCARD}
# Between the codes of kinds: it moves nothing and is no flush.
_NOTHING = 255


class Blkparse(TextFormat):
    name = "blkparse"
    tells_completions = True

    def __init__(self, devices: Devices, options: Options, head: Head) -> None:
        super().__init__(devices, options, head)
        self._action = options.action.encode()
        self._in_summary = False
        self.by_completion = ByCompletion() if options.under_way else None
        # Apart from those of requests: a device that only completes something is none of the trace's.
        self._completing = Devices()
        # Few are in use: each is looked at once.
        self._rwbs = Devices()
        self._meanings: list[tuple[int, int, bool]] = []

    @classmethod
    def matches(cls, head: Head) -> bool:
        return head.mostly(_LINE)

    def split(self, data: bytes, first_number: int) -> Lines:
        return Lines(data, first_number, split_spaces(_COUNT + 1)).without_blank()

    def requests(self, lines: Lines) -> Requests:
        events = self._events(lines)
        wanted = lines.texts_match(_ACTION, self._action)
        if self.by_completion is not None:
            wanted |= lines.texts_match(_ACTION, _COMPLETED)
        lines = lines.select(events & wanted)
        lines.fail(lines.counts <= _RWBS, "it has too few fields for an action and its RWBS")
        ticks = lines.decimal_ns(_TIME, "time", 10**9)
        kinds, flags, flush = self._of_rwbs(lines)
        has_data = lines.texts_match(_PLUS, b"+")
        # A process whose name has a plus in it stands where the sector would.
        has_data &= lines.bytes[lines.starts[_SECTOR]] != ord("[")
        lines.fail(has_data & (kinds == 0), "is no RWBS", _RWBS)
        is_request = (has_data & (kinds != _NOTHING)) | (~has_data & flush)
        if self.by_completion is not None:
            is_request |= lines.texts_match(_ACTION, _COMPLETED)
        lines, ticks, kinds, flags = (
            lines.select(is_request),
            ticks[is_request],
            kinds[is_request],
            flags[is_request],
        )
        has_data = has_data[is_request]
        offsets, lengths = np.zeros((2, len(lines)), dtype=np.uint64)
        moving = lines if has_data.all() else lines.select(has_data)
        offsets[has_data] = moving.limited(_SECTOR, "sector", SECTOR_MAX, SECTOR)
        lengths[has_data] = moving.limited(_COUNT, "count of sectors", SECTOR_MAX, SECTOR)
        kinds = np.where(has_data, kinds, np.uint8(FSYNC))
        flags = np.where(has_data, flags, np.uint8(0))
        under_way = None
        if self.by_completion is not None:
            requests, under_way = self._count(self.by_completion, lines, ticks, offsets, lengths)
            lines = lines.select(requests)
            ticks, kinds, flags = ticks[requests], kinds[requests], flags[requests]
            offsets, lengths = offsets[requests], lengths[requests]
        return Requests(
            lines,
            ticks=ticks,
            kind=kinds,
            offset=offsets,
            length=lengths,
            device=self.named(lines, _DEVICE, _DEVICE),
            flags=flags,
            under_way=under_way,
        )

    def _count(
        self, by_completion: ByCompletion, lines: Lines, ticks: Ints, offsets: Unsigned, lengths: Unsigned
    ) -> tuple[Bools, Array]:
        """Which lines are requests, and with how many each was under way; bad lines are left out of the count."""
        completed = lines.texts_match(_ACTION, _COMPLETED)
        self.named(lines, _DEVICE, _DEVICE)  # for what it complains of
        good = np.ones(len(lines), np.bool_) if lines.bad is None else ~lines.bad
        starts, ends = lines.starts[_DEVICE][good], lines.ends[_DEVICE][good]
        device = self._completing.of_texts(lines, starts, ends).astype(np.int64)
        found = np.zeros(len(lines), np.uint32)
        found[good & ~completed] = by_completion.count(
            completed[good], ticks[good], device, offsets[good], lengths[good]
        )
        return ~completed, found[~completed]

    def _events(self, lines: Lines) -> Bools:
        """Which lines are events; the others are of a summary, or bad."""
        commas = np.append(np.flatnonzero(lines.bytes == ord(",")), len(lines.bytes))
        starts, ends = lines.starts[_DEVICE], lines.ends[_DEVICE]
        comma = np.minimum(commas[np.searchsorted(commas, starts)], ends)
        _, no_major = numbers.unsigned(lines.words, starts, comma)
        _, no_minor = numbers.unsigned(lines.words, np.minimum(comma + 1, ends), ends)
        _, no_cpu = numbers.unsigned(lines.words, lines.starts[_CPU], lines.ends[_CPU])
        events = lines.counts > _ACTION
        for wrong in (no_major, no_minor, no_cpu):
            if wrong is not None:
                events &= ~wrong
        if events.all():
            self._in_summary = self._in_summary and len(lines) == 0
            return events
        strange = np.zeros(len(lines), dtype=np.bool_)
        before = -1
        for row in np.flatnonzero(~events).tolist():
            self._in_summary = (self._in_summary and row == before + 1) or bool(
                _SUMMARY.match(lines.text(row).strip())
            )
            strange[row] = not self._in_summary
            before = row
        self._in_summary = self._in_summary and before == len(lines) - 1
        lines.fail(strange, "it is no line of blkparse")
        return events

    def _of_rwbs(self, lines: Lines) -> tuple[Array, Array, Bools]:
        """Kinds, flags, and which ones flush."""
        starts, ends = lines.starts[_RWBS], lines.ends[_RWBS]
        ends = np.minimum(ends, starts + numbers.WORD)
        codes = self._rwbs.of_texts(lines, starts, ends)
        for text in self._rwbs.names[len(self._meanings) :]:
            self._meanings.append(_meaning(text))
        kinds = np.array([kind for kind, _, _ in self._meanings], dtype=np.uint8)
        flags = np.array([flag for _, flag, _ in self._meanings], dtype=np.uint8)
        flush = np.array([flush for _, _, flush in self._meanings], dtype=np.bool_)
        return kinds[codes], flags[codes], flush[codes]


def _meaning(text: str) -> tuple[int, int, bool]:
    """Kind (0 if it is no RWBS), flags, whether it flushes."""
    found = _RWBS_LIKE.fullmatch(text)
    if found is None or not text:
        return 0, 0, False
    flush, op, fua = found.groups()
    return _OPS.get(op, _NOTHING), FUA if fua and op == "W" else 0, bool(flush)
