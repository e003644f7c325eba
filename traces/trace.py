"""Reading a trace: opening it, finding out its format, and giving its requests in batches.

Memory is bounded by the size of a batch, whatever the size of the trace. A bad line ends the reading, after all that
stands before it was given, or is counted and left out.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from types import TracebackType

import numpy as np

from ringtape.proto.errors import TraceError
from ringtape.traces import formats
from ringtape.traces.columns import DEVICES_MAX, END_MAX, REQUEST, Array, Ints
from ringtape.traces.devices import Devices, TooManyDevices
from ringtape.traces.formats import blktrace
from ringtape.traces.formats.base import BYTE_ORDER_MARK, HEAD_BYTES, Head, Options, TextFormat
from ringtape.traces.formats.blkparse import Blkparse
from ringtape.traces.lines import Lines
from ringtape.traces.numbers import PAD
from ringtape.traces.source import STDIN, Source
from ringtape.traces.under_way import ByCompletion, ByDuration

AUTO = "auto"
ACTIONS = ("Q", "D")
TIME_UNITS = (AUTO, "ns", "ms")

# Arrays of so much text stay in a processor's cache; larger batches are slower.
_CHUNK_BYTES = 1 << 20
LINE_BYTES_MAX = 1 << 20

_OF_CPU = re.compile(r"(.*)\.blktrace\.(\d+)(\.(?:gz|zst|bz2))?", re.DOTALL)


class Trace:
    """A trace that is open; iterating over it gives its requests, once, in batches of type `REQUEST`.

    Attributes:
        format: the format's name.
        files: the files it is read from.
        packing: how they are packed: `gzip`, `zstd`, `bz2`, or None.
        devices: the devices' names; one is there when its first request was given.
        requests: how many requests were given so far.
        skipped: how many bad lines were left out so far.
        first_skipped: the first of them, and what is wrong with it; None if there was none.
        completions: how many completions were found so far; 0 if nobody asked what was under way.
    """

    def __init__(self, path: str, *, format: str, options: Options, skip_bad: bool, chunk_bytes: int) -> None:
        self.requests = 0
        self.skipped = 0
        self.first_skipped: str | None = None
        self._skip_bad = skip_bad
        self._chunk_bytes = chunk_bytes
        self._options = options
        self._devices = Devices()
        self._first: int | None = None
        self._closing = contextlib.ExitStack()
        try:
            self._sources = [self._closing.enter_context(Source(one)) for one in _files_of(path, format)]
            # Of a packed file of a processor that had nothing to do it does not show that it is empty.
            source = next((one for one in self._sources if one.head(1)), self._sources[0])
            self.files = [one.name for one in self._sources]
            self.packing = source.packing
            head = Head(source.head(HEAD_BYTES))
            if not head.data:
                but = f" but for its {source.packing} wrapping" if source.packing else ""
                raise TraceError(f"{source.name} is empty{but}")
            formats.refuse_wrapped(head, source.name)
            self._looks_like = [] if format == AUTO else formats.detected(head)
            self.format = formats.the_detected(head, source.name) if format == AUTO else format
            if options.under_way and not formats.tells_completions(self.format):
                raise TraceError(
                    f"{source.name}: a trace of {self.format} does not say when requests completed; give a depth"
                )
            self._by_duration = ByDuration()
            self._by_completion: ByCompletion | None = None
            self._batches = self._binary() if self.format == blktrace.NAME else self._text(head, source)
        except BaseException:
            self.close()
            raise

    @property
    def completions(self) -> int:
        if self._by_completion is not None:
            return self._by_completion.completions
        return self._by_duration.completions

    @property
    def devices(self) -> list[str]:
        return self._devices.names

    def __enter__(self) -> Trace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        self._closing.close()

    def __iter__(self) -> Iterator[Array]:
        return self

    def __next__(self) -> Array:
        try:
            batch = next(self._batches)
        except TooManyDevices:
            raise TraceError(f"{self.files[0]} has more than {DEVICES_MAX} devices") from None
        self.requests += len(batch)
        return batch

    # ---- text

    def _text(self, head: Head, source: Source) -> Iterator[Array]:
        if formats.is_binary(head):
            raise TraceError(f"{source.name} is binary and no trace of {self.format}{self._hint()}")
        reader = formats.TEXT_FORMATS[self.format](self._devices, self._options, head)
        self._by_completion = reader.by_completion if isinstance(reader, Blkparse) else None
        return self._text_batches(reader, source)

    def _text_batches(self, reader: TextFormat, source: Source) -> Iterator[Array]:
        number = 1
        for data in _whole_lines(source, self._chunk_bytes):
            if not data:
                raise TraceError(f"{source.name}: line {number}: it is longer than {LINE_BYTES_MAX} bytes")
            lines = reader.split(data, number)
            batch, up_to = self._of_lines(reader, lines)
            if len(batch):
                yield batch
            if up_to is not None:
                raise TraceError(f"{source.name}: {up_to}{self._hint()}")
            number += lines.all_lines
        if self.skipped and self._first is None:
            raise TraceError(f"{source.name} has not one good line: {self.first_skipped}{self._hint()}")

    def _of_lines(self, reader: TextFormat, lines: Lines) -> tuple[Array, str | None]:
        """The requests on good lines; and what is wrong with the bad line that ends the reading, if one does."""
        found = reader.requests(lines)
        mine = found.lines
        # Neither is beyond END_MAX on a good line, so the sum fits.
        mine.fail(found.offset + found.length > END_MAX, "it ends beyond what 63 bits of bytes can address")
        good = np.arange(len(mine)) if mine.bad is None else np.flatnonzero(~mine.bad)
        ticks = self._since_first(found.ticks[good])
        far = np.abs(ticks) > END_MAX // reader.tick_ns
        if far.any():
            all_far = np.zeros(len(mine), dtype=np.bool_)
            all_far[good[far]] = True
            mine.fail(all_far, "its time is further from the first one than 64 bits of nanoseconds go")
            good, ticks = good[~far], ticks[~far]
        up_to = None
        if lines.complaints:
            row, what = lines.first_bad()
            what = f"line {lines.first_number + row}: {what}"
            if self._skip_bad:
                self.skipped += lines.bad_count
                self.first_skipped = self.first_skipped or what
            else:
                before = mine.rows[good] < row
                good, ticks, up_to = good[before], ticks[before], what
        batch = np.empty(len(good), dtype=REQUEST)
        batch["time_ns"] = ticks * reader.tick_ns
        batch["offset"] = found.offset[good]
        batch["length"] = found.length[good]
        batch["kind"] = found.kind[good]
        batch["flags"] = 0 if found.flags is None else found.flags[good]
        batch["device"] = found.device(good)
        batch["under_way"] = 0
        if found.under_way is not None:
            batch["under_way"] = found.under_way[good]
        elif found.took_ns is not None and self._options.under_way:
            batch["under_way"] = self._by_duration.count(batch["time_ns"], found.took_ns[good])
        return batch, up_to

    def _since_first(self, ticks: Ints) -> Ints:
        if self._first is None:
            if len(ticks) == 0:
                return ticks
            self._first = int(ticks[0])
        return ticks - self._first

    def _hint(self) -> str:
        """What an explicitly named format may have to do with what is wrong."""
        others = [one for one in self._looks_like if one != self.format]
        if not others or self.format in self._looks_like:
            return ""
        return f" (read as {self.format}, but it looks like {' or '.join(others)})"

    # ---- binary

    def _binary(self) -> Iterator[Array]:
        reader = blktrace.Blktrace(self._sources, self._devices, self._options, self._bad_event)
        self._by_completion = reader.under_way
        return self._binary_batches(reader)

    def _binary_batches(self, reader: blktrace.Blktrace) -> Iterator[Array]:
        for found in reader.batches():
            batch = np.empty(len(found.kind), dtype=REQUEST)
            batch["time_ns"] = self._since_first(found.time_ns)
            batch["offset"], batch["length"] = found.columns
            batch["kind"], batch["flags"], batch["device"] = found.kind, found.flags, found.device
            batch["under_way"] = found.under_way
            yield batch

    def _bad_event(self, name: str, where: str, what: str) -> None:
        if not self._skip_bad:
            raise TraceError(f"{name}: {where}: {what}")
        self.skipped += 1
        self.first_skipped = self.first_skipped or f"{where} of {name}: {what}"


def open_trace(
    path: str | os.PathLike[str],
    format: str = AUTO,
    *,
    action: str = "Q",
    time_unit: str = AUTO,
    skip_bad: bool = False,
    under_way: bool = False,
    chunk_bytes: int | None = None,
) -> Trace:
    """Open a trace of block requests; a context manager that gives its requests in batches.

    A batch is a NumPy array of type `REQUEST`, in the trace's order: `time_ns` since the first request, `offset` and
    `length` in bytes, `device` (index into `Trace.devices`), `kind` and `flags` as in the requests of a program, and
    `under_way`.

    Args:
        path: a file, packed with gzip, zstd or bz2 or not at all; `-` is standard input. Of blktrace the name that its
            files have in common, or one of them: all are read.
        format: one of `FORMATS`, or `auto`: by what the trace begins with.
        action: which event of blktrace and blkparse is the request: `Q` (queued) or `D` (sent to the device).
        time_unit: of the times of an ASCII trace: `ns` (MQSim), `ms` (DiskSim), or `auto`.
        skip_bad: leave bad lines out and count them.
        under_way: find out of each request how many were under way with it in the traced system, itself included, on
            all devices together. Else the column is 0.
        chunk_bytes: how much text becomes a batch, about; 1 MiB unless given. Less is smoother, more is faster.

    Raises:
        TraceError: it cannot be read, its format is unknown or another, or does not say what is under way; and, from
            the iteration, for a bad line.
    """
    for name, value, known in (
        ("format", format, (AUTO, *formats.NAMES)),
        ("action", action, ACTIONS),
        ("time unit", time_unit, TIME_UNITS),
    ):
        if value not in known:
            raise TraceError(f"{name} {value!r} is not one of {', '.join(known)}")
    options = Options(action=action, time_unit=time_unit, under_way=under_way)
    return Trace(
        os.fspath(path),
        format=format,
        options=options,
        skip_bad=skip_bad,
        chunk_bytes=chunk_bytes or _CHUNK_BYTES,
    )


def _files_of(path: str, format: str) -> list[str]:
    """All files of a trace: of blktrace there is one for each processor."""
    if path == STDIN or format not in (AUTO, blktrace.NAME):
        return [path]
    found = _OF_CPU.fullmatch(path)
    base = found[1] if found else path
    if found is None and os.path.exists(path) and not os.path.isdir(path):
        return [path]
    folder, name = os.path.split(base.removesuffix(".blktrace"))
    try:
        names = os.listdir(folder or ".")
    except OSError:
        return [path]
    of_cpus = sorted(
        (int(one[2]), one[0]) for one in map(_OF_CPU.fullmatch, names) if one is not None and one[1] == name
    )
    there = [os.path.join(folder, one) for _, one in of_cpus]
    # A processor that had nothing to do leaves an empty file.
    return [one for one in there if os.path.getsize(one)] or there[:1] or [path]


def _whole_lines(source: Source, chunk_bytes: int) -> Iterator[bytes]:
    """The text in stretches of whole lines, each behind a `PAD`; the last line is ended if it is not.

    An empty stretch stands for a line that is too long, and is the last.
    """
    rest = b""
    source.skip(BYTE_ORDER_MARK)
    while chunk := source.read(chunk_bytes):
        cut = chunk.rfind(b"\n") + 1
        if cut:
            yield b"".join((PAD, rest, memoryview(chunk)[:cut]))
            rest = chunk[cut:]
        else:
            rest += chunk
        if len(rest) > LINE_BYTES_MAX:
            yield b""
            return
    if rest:
        yield PAD + rest + b"\n"
