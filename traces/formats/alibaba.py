"""Alibaba block traces: comma-separated, one line a request, times in µs.

`device_id,opcode,offset,length,timestamp`: "An In-Depth Analysis of Cloud Block Storage Workloads", IISWC 2020,
github.com/alibaba/block-traces.
"""

from __future__ import annotations

import re

from ringtape.traces.columns import END_MAX
from ringtape.traces.formats.base import READ_WRITE, CommaFormat, Requests
from ringtape.traces.lines import Lines

_DEVICE, _OPCODE, _OFFSET, _LENGTH, _TIME = range(5)


class Alibaba(CommaFormat):
    name = "alibaba"
    tick_ns = 1000
    fields = 5
    pattern = re.compile(rb"\d+,[RW],\d+,\d+,\d+$", re.IGNORECASE)

    def requests(self, lines: Lines) -> Requests:
        return Requests(
            lines,
            ticks=lines.limited(_TIME, "time", END_MAX).view("<i8"),
            kind=lines.choice(_OPCODE, "opcode", READ_WRITE),
            offset=lines.limited(_OFFSET, "offset", END_MAX),
            length=lines.limited(_LENGTH, "length", END_MAX),
            device=self.numbered(lines.unsigned(_DEVICE, "device")),
        )
