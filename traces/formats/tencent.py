"""Tencent CBS: comma-separated, one line a request, times in whole seconds, offsets and sizes in sectors.

`Timestamp,Offset,Size,IOType,VolumeID`: "OSCA", USENIX ATC 2020, SNIA trace 27917.
"""

from __future__ import annotations

import re

from ringtape.traces.columns import END_MAX, READ, SECTOR, WRITE
from ringtape.traces.formats.base import SECTOR_MAX, CommaFormat, Requests
from ringtape.traces.lines import Lines

_TIME, _OFFSET, _SIZE, _TYPE, _VOLUME = range(5)


class Tencent(CommaFormat):
    name = "tencent"
    tick_ns = 10**9
    fields = 5
    pattern = re.compile(rb"\d+,\d+,\d+,[01],\d+$")

    def requests(self, lines: Lines) -> Requests:
        return Requests(
            lines,
            ticks=lines.limited(_TIME, "time", END_MAX).view("<i8"),
            kind=lines.choice(_TYPE, "type", {b"0": READ, b"1": WRITE}),
            offset=lines.limited(_OFFSET, "offset", SECTOR_MAX, SECTOR),
            length=lines.limited(_SIZE, "size", SECTOR_MAX, SECTOR),
            device=self.numbered(lines.unsigned(_VOLUME, "volume")),
        )
