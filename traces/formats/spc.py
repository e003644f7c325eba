"""SPC, as the UMass trace repository has it: comma-separated, one line a request, times in seconds with a fraction.

`ASU,LBA,Size,Opcode,Timestamp` and optional fields after them: "SPC Trace File Format Specification", revision 1.0.1.
LBA counts blocks of 512 bytes, sizes are bytes.
"""

from __future__ import annotations

import re

from ringtape.traces.columns import END_MAX, SECTOR
from ringtape.traces.formats.base import READ_WRITE, SECTOR_MAX, CommaFormat, Requests
from ringtape.traces.lines import Lines

_ASU, _LBA, _SIZE, _OPCODE, _TIME = range(5)


class Spc(CommaFormat):
    name = "spc"
    fields = 5
    more_fields = True
    pattern = re.compile(rb"\d+,\d+,\d+,[RW],\d+(?:\.\d*)?(?:,|$)", re.IGNORECASE)

    def requests(self, lines: Lines) -> Requests:
        return Requests(
            lines,
            ticks=lines.decimal_ns(_TIME, "time", 10**9),
            kind=lines.choice(_OPCODE, "opcode", READ_WRITE),
            offset=lines.limited(_LBA, "LBA", SECTOR_MAX, SECTOR),
            length=lines.limited(_SIZE, "size", END_MAX),
            device=self.numbered(lines.unsigned(_ASU, "ASU")),
        )
