"""What a format of text has to say of itself, and what formats share.

A format turns a batch of lines into columns of requests. It keeps what goes from batch to batch; it never opens,
raises for a bad line or counts one.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from ringtape.traces.columns import END_MAX, READ, SECTOR, WRITE, Array, Bytes, Ints, Unsigned
from ringtape.traces.devices import Devices
from ringtape.traces.lines import NAME_MAX, Lines, split_commas

HEAD_BYTES = 1 << 16
# What Windows' programs put before text in UTF-8: no part of the first line.
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_HEAD_LINES = 64

SECTOR_MAX = END_MAX // SECTOR
READ_WRITE = {b"R": READ, b"W": WRITE, b"r": READ, b"w": WRITE}


@dataclass(frozen=True)
class Options:
    """What a trace does not say itself.

    Attributes:
        action: which event of blktrace and blkparse is the request: `Q` (queued) or `D` (sent to the device).
        time_unit: of an ASCII trace of MQSim (`ns`) or DiskSim (`ms`); `auto` tells by the point in the times.
        under_way: say of each request how many were under way with it.
    """

    action: str = "Q"
    time_unit: str = "auto"
    under_way: bool = False


class Head:
    """The beginning of a trace, by which its format shows."""

    def __init__(self, data: bytes) -> None:
        data = data.removeprefix(BYTE_ORDER_MARK)
        self.data = data
        whole = data[: data.rfind(b"\n") + 1] or data
        lines = (line.strip() for line in whole.splitlines())
        self.lines = [line for line in lines if line][:_HEAD_LINES]

    def mostly(self, pattern: re.Pattern[bytes]) -> bool:
        """Whether most of its lines are like that: some of them may be bad, and one a headline."""
        return self._mostly(pattern, self.lines)

    def mostly_commas(self, pattern: re.Pattern[bytes]) -> bool:
        """The same, without the spaces around commas."""
        return self._mostly(pattern, [re.sub(rb"[ \t]*,[ \t]*", b",", line) for line in self.lines])

    def _mostly(self, pattern: re.Pattern[bytes], lines: list[bytes]) -> bool:
        return 2 * sum(pattern.match(line) is not None for line in lines) > max(len(lines) - 1, 0)


class Requests(NamedTuple):
    """Columns of requests, as the lines have them.

    `lines` are those that the requests are from; what is on a line that turned out bad means nothing. Times are in the
    format's ticks. `device` gives the indices of some of the rows, of good ones only. Where it is asked for and the
    format says it, there is `took_ns` or `under_way`.
    """

    lines: Lines
    ticks: Ints
    kind: Bytes
    offset: Unsigned
    length: Unsigned
    device: Callable[[Array], Array]
    flags: Bytes | None = None
    took_ns: Ints | None = None
    under_way: Array | None = None


class TextFormat(ABC):
    """One trace of a format while it is read."""

    name: ClassVar[str]
    tick_ns: ClassVar[int] = 1
    #: Whether it says when requests completed, or how long they took.
    tells_completions: ClassVar[bool] = False

    def __init__(self, devices: Devices, options: Options, head: Head) -> None:
        self.devices = devices
        self.options = options

    @classmethod
    @abstractmethod
    def matches(cls, head: Head) -> bool:
        """Whether a trace that begins so is of this format."""

    @abstractmethod
    def split(self, data: bytes, first_number: int) -> Lines:
        """The lines that are to be looked at, in fields."""

    @abstractmethod
    def requests(self, lines: Lines) -> Requests:
        """The requests on the lines."""

    # ---- for formats to use

    def numbered(self, values: Unsigned) -> Callable[[Array], Array]:
        """Devices that are numbers."""
        return lambda rows: self.devices.of_numbers(values[rows])

    def named(
        self, lines: Lines, first: int, last: int, name: Callable[[str], str] = str
    ) -> Callable[[Array], Array]:
        """Devices that are called by what stands in the fields from `first` to `last`."""
        starts, ends = lines.starts[first], lines.ends[last]
        lengths = ends - starts
        lines.fail(lengths == 0, "it names no device")
        lines.fail(lengths > NAME_MAX, f"its device has a name of more than {NAME_MAX} bytes")
        return lambda rows: self.devices.of_texts(lines, starts[rows], ends[rows], name)


class CommaFormat(TextFormat):
    """Fields between commas, without a headline or with one."""

    fields: ClassVar[int]
    more_fields: ClassVar[bool] = False
    pattern: ClassVar[re.Pattern[bytes]]

    @classmethod
    def matches(cls, head: Head) -> bool:
        return head.mostly_commas(cls.pattern)

    def split(self, data: bytes, first_number: int) -> Lines:
        lines = Lines(data, first_number, split_commas(self.fields))
        if first_number == 1 and _is_headline(lines.text(0)):
            lines = lines.select(np.arange(1, len(lines)))
        lines = lines.without_blank()
        check_fields(lines, self.fields, more=self.more_fields)
        return lines


def _is_headline(line: bytes) -> bool:
    return b"," in line and re.search(rb"\d", line) is None


def check_fields(lines: Lines, fields: int, *, more: bool) -> None:
    """A line with too few fields is bad, and one with more unless there may be more."""
    wrong = lines.counts < fields if more else lines.counts != fields
    if wrong.any():
        at_least = "at least " if more else ""
        for count in np.unique(lines.counts[wrong]).tolist():
            s = "" if count == 1 else "s"
            lines.fail(wrong & (lines.counts == count), f"it has {count} field{s}, not {at_least}{fields}")
