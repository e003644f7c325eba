"""Loads of blkreplay: text between semicolons below a free-text head, times in seconds with a fraction.

`start ; sector ; length ; op ; replay_delay ; replay_duration`, below a line that says so; sector and length count 512
bytes. An op is what blkparse called it: `R`, `W`, or these with letters behind (`RA` is a read ahead). A load has one
device, without a name: it is called `disk`. A duration is that of the replay that wrote it; in a load that comes from
elsewhere it is 0.
"""

from __future__ import annotations

import re

import numpy as np

from ringtape.traces.columns import READ, SECTOR, WRITE, Array, Ints
from ringtape.traces.devices import Devices
from ringtape.traces.formats.base import SECTOR_MAX, Head, Options, Requests, TextFormat, check_fields
from ringtape.traces.lines import Lines, split_spaces

_START, _SECTOR, _LENGTH, _OP, _DELAY, _DURATION = range(6)
_FIELDS = 4
_HEADLINE = re.compile(rb"^[ \t]*start[ \t]*;[ \t]*sector[^\n]*$", re.MULTILINE)
_LINE = re.compile(rb"\d+(?:\.\d*)?\s*;\s*\d+\s*;\s*\d+\s*;\s*[RW]")
_DEVICE = "disk"
# A hundred years: no sum with it is beyond 64 bits.
_DURATION_MAX_NS = 100 * 365 * 86400 * 10**9


class Blkreplay(TextFormat):
    name = "blkreplay"
    tells_completions = True

    def __init__(self, devices: Devices, options: Options, head: Head) -> None:
        super().__init__(devices, options, head)
        headline = _HEADLINE.search(head.data)
        # The number of the line that names the columns: up to it everything is free text.
        self._head_lines = head.data.count(b"\n", 0, headline.start()) + 1 if headline else 0

    @classmethod
    def matches(cls, head: Head) -> bool:
        return _HEADLINE.search(head.data) is not None or head.mostly(_LINE)

    def split(self, data: bytes, first_number: int) -> Lines:
        fields = _DURATION + 1 if self.options.under_way else _FIELDS
        lines = Lines(data, first_number, split_spaces(fields, semicolons=True))
        if first_number <= self._head_lines:
            lines = lines.select(lines.rows >= self._head_lines + 1 - first_number)
        lines = lines.without_blank()
        check_fields(lines, _FIELDS, more=True)
        return lines

    def requests(self, lines: Lines) -> Requests:
        return Requests(
            lines,
            ticks=lines.decimal_ns(_START, "start", 10**9),
            kind=lines.initial(_OP, "op", {b"R": READ, b"W": WRITE}),
            offset=lines.limited(_SECTOR, "sector", SECTOR_MAX, SECTOR),
            length=lines.limited(_LENGTH, "length", SECTOR_MAX, SECTOR),
            device=self._device,
            took_ns=self._durations(lines) if self.options.under_way else None,
        )

    def _device(self, rows: Array) -> Array:
        """The one there is; a load without a request has none."""
        index = self.devices.index(_DEVICE) if len(rows) else 0
        return np.full(len(rows), index, dtype=np.uint16)

    def _durations(self, lines: Lines) -> Ints:
        found = np.zeros(len(lines), np.int64)
        there = lines.counts > _DURATION
        some = lines.select(there)
        if len(some):
            durations = some.decimal_ns(_DURATION, "duration", 10**9)
            some.fail(durations > _DURATION_MAX_NS, "is too large to be the duration", _DURATION)
            found[there] = np.minimum(durations, _DURATION_MAX_NS)
        return found
