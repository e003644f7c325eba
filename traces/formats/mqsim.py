"""ASCII traces of MQSim and DiskSim: five columns between blanks.

Time, device, LBA in sectors of 512 bytes, sectors, type (1 is a read). MQSim's times are whole nanoseconds, DiskSim's
are milliseconds with a fraction: where no time at the beginning has a point, they are taken for MQSim's.
"""

from __future__ import annotations

import re

from ringtape.traces.columns import READ, SECTOR, WRITE
from ringtape.traces.devices import Devices
from ringtape.traces.formats.base import SECTOR_MAX, Head, Options, Requests, TextFormat, check_fields
from ringtape.traces.lines import Lines, split_spaces

_TIME, _DEVICE, _LBA, _SECTORS, _TYPE = range(5)
_FIELDS = 5
_LINE = re.compile(rb"\d+(?:\.\d*)?\s+\d+\s+\d+\s+\d+\s+[01]$")
_UNITS_NS = {"ns": 1, "ms": 10**6}


class Mqsim(TextFormat):
    name = "mqsim"

    def __init__(self, devices: Devices, options: Options, head: Head) -> None:
        super().__init__(devices, options, head)
        with_points = any(b"." in line.split(None, 1)[0] for line in head.lines)
        unit = options.time_unit
        self._unit_ns = _UNITS_NS[("ms" if with_points else "ns") if unit == "auto" else unit]

    @classmethod
    def matches(cls, head: Head) -> bool:
        return head.mostly(_LINE)

    def split(self, data: bytes, first_number: int) -> Lines:
        lines = Lines(data, first_number, split_spaces(_FIELDS)).without_blank()
        check_fields(lines, _FIELDS, more=False)
        return lines

    def requests(self, lines: Lines) -> Requests:
        return Requests(
            lines,
            ticks=lines.decimal_ns(_TIME, "time", self._unit_ns),
            kind=lines.choice(_TYPE, "type", {b"0": WRITE, b"1": READ}),
            offset=lines.limited(_LBA, "LBA", SECTOR_MAX, SECTOR),
            length=lines.limited(_SECTORS, "number of sectors", SECTOR_MAX, SECTOR),
            device=self.numbered(lines.unsigned(_DEVICE, "device")),
        )
