"""MSR Cambridge: comma-separated, one line a request, times in 100 ns since 1601 (Windows file time).

`Timestamp,Hostname,DiskNumber,Type,Offset,Size,ResponseTime`: "Write Off-Loading", FAST 2008, SNIA trace 388. A device
is called `host_number`, as the traces' files are.
"""

from __future__ import annotations

import re

import numpy as np

from ringtape.traces.columns import END_MAX, READ, WRITE
from ringtape.traces.formats.base import CommaFormat, Requests
from ringtape.traces.lines import Lines

_TIME, _HOST, _DISK, _TYPE, _OFFSET, _SIZE, _RESPONSE = range(7)
# A hundred years, in ticks: no sum with it is beyond 64 bits.
_TOOK_MAX = np.uint64(100 * 365 * 86400 * 10**7)
_TYPES = {b"Read": READ, b"Write": WRITE, b"read": READ, b"write": WRITE, b"READ": READ, b"WRITE": WRITE}


class Msr(CommaFormat):
    name = "msr"
    tick_ns = 100
    tells_completions = True
    fields = 7
    pattern = re.compile(rb"\d+,[^,]+,\d+,(?:read|write),\d+,\d+,\d+$", re.IGNORECASE)

    def requests(self, lines: Lines) -> Requests:
        lines.unsigned(_DISK, "disk number")
        lines.fail(lines.starts[_HOST] == lines.ends[_HOST], "its host has no name")
        took = lines.unsigned(_RESPONSE, "response time")
        return Requests(
            lines,
            ticks=lines.limited(_TIME, "time", END_MAX).view("<i8"),
            kind=lines.choice(_TYPE, "type", _TYPES),
            offset=lines.limited(_OFFSET, "offset", END_MAX),
            length=lines.limited(_SIZE, "size", END_MAX),
            device=self.named(lines, _HOST, _DISK, _name),
            took_ns=(np.minimum(took, _TOOK_MAX) * np.uint64(self.tick_ns)).view(np.int64),
        )


def _name(text: str) -> str:
    return "_".join(part.strip() for part in text.rsplit(",", 1))
