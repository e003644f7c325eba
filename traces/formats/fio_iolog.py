"""fio's I/O logs, versions 2 and 3: a line a request, and lines that add, open and close files.

Version 3 has the time in µs before each line. Version 2 has `wait` lines instead; a wait is counted in µs from the one
before, as fio's manual has it (its code takes the number for milliseconds since the start of the job). As in fio a
`wait` in version 3 means nothing. `sync` and `datasync` are fsyncs, `trim` is a discard.
"""

from __future__ import annotations

import re

import numpy as np

from ringtape.traces.columns import DATA_ONLY, DISCARD, END_MAX, FSYNC, READ, WRITE, Bytes, Ints
from ringtape.traces.devices import Devices
from ringtape.traces.formats.base import Head, Options, Requests, TextFormat
from ringtape.traces.lines import Lines, split_spaces

_HEADLINE = re.compile(rb"fio version (\d+) iolog\s*$")
_VERSIONS = (2, 3)
_DATASYNC, _WAIT, _FILE = 6, 7, 8
_ACTIONS = {
    b"read": READ,
    b"write": WRITE,
    b"trim": DISCARD,
    b"sync": FSYNC,
    b"datasync": _DATASYNC,
    b"wait": _WAIT,
    b"add": _FILE,
    b"open": _FILE,
    b"close": _FILE,
}
# A year: as many as a batch has lines can be added up in 64 bits.
_WAIT_MAX = 1 << 45
_TICKS_MAX = END_MAX // 1000
_KIND = np.array([0, READ, WRITE, 0, DISCARD, FSYNC, FSYNC], dtype=np.uint8)


class FioIolog(TextFormat):
    name = "fio-iolog"
    tick_ns = 1000

    def __init__(self, devices: Devices, options: Options, head: Head) -> None:
        super().__init__(devices, options, head)
        found = _HEADLINE.match(head.lines[0]) if head.lines else None
        self._version = int(found[1]) if found else 0
        # Where the file's name is: version 3 has the time before it.
        self._file = 1 if self._version == 3 else 0
        self._waited = 0

    @classmethod
    def matches(cls, head: Head) -> bool:
        return bool(head.lines) and _HEADLINE.match(head.lines[0]) is not None

    def split(self, data: bytes, first_number: int) -> Lines:
        lines = Lines(data, first_number, split_spaces(self._file + 4)).without_blank()
        if first_number == 1 and self._version in _VERSIONS:
            return lines.select(np.arange(1, len(lines)))
        if self._version not in _VERSIONS:
            is_first = np.zeros(len(lines), dtype=np.bool_)
            is_first[:1] = first_number == 1
            lines.fail(is_first, "it is not 'fio version 2 iolog' or 'fio version 3 iolog'")
        return lines

    def requests(self, lines: Lines) -> Requests:
        file, action, offset, length = range(self._file, self._file + 4)
        lines.fail(lines.counts <= action, "it has too few fields for a file and an action")
        codes = lines.choice(action, "action", _ACTIONS)
        ticks = self._ticks(lines, codes, offset)
        is_request = (codes > 0) & (codes < _WAIT)
        if not is_request.all():
            lines, codes, ticks = lines.select(is_request), codes[is_request], ticks[is_request]
        moves = codes <= DISCARD
        if moves.all():
            offsets = lines.limited(offset, "offset", END_MAX)
            lengths = lines.limited(length, "length", END_MAX)
        else:
            moving = lines.select(moves)
            offsets, lengths = np.zeros((2, len(lines)), dtype=np.uint64)
            offsets[moves] = moving.limited(offset, "offset", END_MAX)
            lengths[moves] = moving.limited(length, "length", END_MAX)
        return Requests(
            lines,
            ticks=ticks,
            kind=_KIND[codes],
            offset=offsets,
            length=lengths,
            device=self.named(lines, file, file),
            flags=(codes == _DATASYNC) * np.uint8(DATA_ONLY),
        )

    def _ticks(self, lines: Lines, codes: Bytes, offset: int) -> Ints:
        if self._version == 3:
            return lines.limited(0, "time", END_MAX).view("<i8")
        waits = np.zeros(len(lines), dtype=np.int64)
        is_wait = codes == _WAIT
        if is_wait.any():
            waits[is_wait] = lines.select(is_wait).limited(offset, "wait", _WAIT_MAX)
            if (bad := lines.bad) is not None:
                waits[bad] = 0
        # Not beyond what the reader finds to be too far.
        ticks = self._waited + np.minimum(np.cumsum(waits), _TICKS_MAX + 1 - self._waited)
        if len(ticks):
            self._waited = int(ticks[-1])
        return ticks
