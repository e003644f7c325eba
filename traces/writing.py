"""Writing a trace in another form: fio's I/O log, blkparse's text, CSV, or JSON a line.

A file is written beside its place and takes it when it is whole, so a conversion that fails leaves what was there. It
refuses what a form cannot hold, and never rounds it silently but for times, which each form has in its own unit.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

import numpy as np

from ringtape.proto.errors import TraceError
from ringtape.traces.columns import (
    DATA_ONLY,
    DISCARD,
    FLAG_NAMES,
    FSYNC,
    FUA,
    KIND_NAMES,
    READ,
    SECTOR,
    WRITE,
    WRITE_ZEROES,
    Array,
    Bools,
)
from ringtape.traces.source import STDIN
from ringtape.traces.trace import Trace

STDOUT = STDIN
# Each number of flags in words; there are few.
_FLAGS = [[name for bit, name in FLAG_NAMES.items() if flags & bit] for flags in range(256)]


class Form(ABC):
    """One trace while it is written. `devices` are those known so far; the list grows."""

    def __init__(self, devices: Sequence[str]) -> None:
        self._devices = devices
        self._written = 0

    def head(self) -> str:
        """What stands before all requests."""
        return ""

    @abstractmethod
    def rows(self, batch: Array) -> Iterator[str]:
        """The lines of a batch."""

    def tail(self) -> str:
        """What stands after all requests."""
        return ""

    def text(self, batch: Array) -> str:
        """A batch as text."""
        text = "".join(self.rows(batch))
        self._written += len(batch)
        return text

    def refuse(self, batch: Array, where: Bools, why: str) -> None:
        """Raise TraceError if there is a request that the form cannot hold."""
        if where.any():
            row = int(np.argmax(where))
            one = batch[row]
            raise TraceError(
                f"request {self._written + row + 1} (a {KIND_NAMES[int(one['kind'])]} of {one['length']} bytes at "
                f"{one['offset']}) cannot be written so: {why}"
            )


def _columns(batch: Array, *names: str) -> Iterator[tuple[int, ...]]:
    return zip(*(batch[name].tolist() for name in names), strict=True)


class Csv(Form):
    def head(self) -> str:
        return "time_ns,kind,device,offset,length,flags\n"

    def rows(self, batch: Array) -> Iterator[str]:
        names = [_quoted(name) for name in self._devices]
        flags_of = ["|".join(flags) for flags in _FLAGS]
        for time_ns, kind, device, offset, length, flags in _columns(
            batch, "time_ns", "kind", "device", "offset", "length", "flags"
        ):
            yield f"{time_ns},{KIND_NAMES[kind]},{names[device]},{offset},{length},{flags_of[flags]}\n"


def _quoted(name: str) -> str:
    special = any(one in name for one in ',"\r\n')
    return '"' + name.replace('"', '""') + '"' if special else name


class JsonLines(Form):
    def rows(self, batch: Array) -> Iterator[str]:
        names = [json.dumps(name) for name in self._devices]
        flags_of = [json.dumps(flags) for flags in _FLAGS]
        for time_ns, kind, device, offset, length, flags in _columns(
            batch, "time_ns", "kind", "device", "offset", "length", "flags"
        ):
            yield (
                f'{{"time_ns": {time_ns}, "kind": "{KIND_NAMES[kind]}", "device": {names[device]}, '
                f'"offset": {offset}, "length": {length}, "flags": {flags_of[flags]}}}\n'
            )


_FIO_ACTIONS = {READ: "read", WRITE: "write", DISCARD: "trim", FSYNC: "sync"}


class FioIolog(Form):
    """Version 3. fio reads a length into 32 bits, and a name up to the next blank."""

    _LENGTH_MAX = (1 << 32) - 1
    _NAME_MAX = 255

    def __init__(self, devices: Sequence[str]) -> None:
        super().__init__(devices)
        self._names: list[str] = []
        self._last_us = 0

    def head(self) -> str:
        return "fio version 3 iolog\n"

    def rows(self, batch: Array) -> Iterator[str]:
        kind = batch["kind"]
        self.refuse(batch, kind == WRITE_ZEROES, "fio has no such request")
        self.refuse(batch, batch["length"] > self._LENGTH_MAX, "fio's lengths end at 4 GiB")
        # fio waits for the difference to the line before; where the time goes back it does not wait.
        time_us = np.maximum(batch["time_ns"], 0) // 1000
        for name in self._devices[len(self._names) :]:
            at = self._last_us
            plain = _plain(name, self._NAME_MAX)
            if plain in self._names:
                raise TraceError(f"devices {name!r} and another would both be called {plain!r} in fio's log")
            self._names.append(plain)
            yield f"{at} {plain} add\n{at} {plain} open\n"
        if len(batch):
            self._last_us = int(time_us[-1])
        data_only = (batch["flags"] & DATA_ONLY) != 0
        for at, (kind_of, device, offset, length), only in zip(
            time_us.tolist(),
            _columns(batch, "kind", "device", "offset", "length"),
            data_only.tolist(),
            strict=True,
        ):
            action = "datasync" if only and kind_of == FSYNC else _FIO_ACTIONS[kind_of]
            yield f"{at} {self._names[device]} {action} {offset} {length}\n"

    def tail(self) -> str:
        return "".join(f"{self._last_us} {name} close\n" for name in self._names)


def _plain(name: str, most: int) -> str:
    """The name as one word of ASCII."""
    return "".join(one if "!" <= one <= "~" else "_" for one in name)[:most] or "_"


class Blkparse(Form):
    """Queue events. A device that is no pair of numbers gets a minor number under the major number 0."""

    def __init__(self, devices: Sequence[str]) -> None:
        super().__init__(devices)
        self._names: list[str] = []

    def rows(self, batch: Array) -> Iterator[str]:
        self.refuse(batch, batch["kind"] == WRITE_ZEROES, "blkparse has no name for it")
        uneven = (batch["offset"] | batch["length"]) % np.uint64(SECTOR) != 0
        self.refuse(batch, uneven, f"blkparse counts sectors of {SECTOR} bytes")
        moves_nothing = (batch["length"] == 0) & (batch["kind"] != FSYNC)
        self.refuse(batch, moves_nothing, "blkparse has no requests without data but flushes")
        for one, name in enumerate(self._devices[len(self._names) :], len(self._names)):
            major, _, minor = name.partition(",")
            pair = (major, minor) if major.isdecimal() and minor.isdecimal() else ("0", str(one))
            self._names.append(f"{pair[0]:>3},{pair[1]:<3}")
        number = self._written
        # Times that are before the first one's count as its.
        for time_ns, kind, device, offset, length, flags in _columns(
            batch, "time_ns", "kind", "device", "offset", "length", "flags"
        ):
            number += 1
            second, ns = divmod(max(time_ns, 0), 10**9)
            rwbs = {READ: "R", WRITE: "WF" if flags & FUA else "W", DISCARD: "D", FSYNC: "FN"}[kind]
            data = "" if kind == FSYNC else f"{offset // SECTOR} + {length // SECTOR} "
            yield f"{self._names[device]}  0 {number:>8} {second:>5}.{ns:09}     0  Q {rwbs:>3} {data}[trace]\n"


FORMS: dict[str, type[Form]] = {
    "csv": Csv,
    "jsonl": JsonLines,
    "fio-iolog": FioIolog,
    "blkparse": Blkparse,
}


def convert(trace: Trace, output: str, form_name: str) -> None:
    """Write the requests of a trace to a file, or to standard output.

    Raises TraceError if the trace cannot be read, or the file not written, or a request has no place in the form;
    OSError if standard output takes no more.
    """
    if form_name not in FORMS:
        raise TraceError(f"form {form_name!r} is not one of {', '.join(FORMS)}")
    form = FORMS[form_name](trace.devices)
    if output == STDOUT:
        for text in _texts(trace, form):
            sys.stdout.write(text)
        return
    with _replacing(output) as file:
        for text in _texts(trace, form):
            file.write(text.encode("utf-8", "surrogateescape"))


def _texts(trace: Trace, form: Form) -> Iterable[str]:
    yield form.head()
    for batch in trace:
        yield form.text(batch)
    yield form.tail()


@contextlib.contextmanager
def _replacing(output: str) -> Iterator[BinaryIO]:
    """A file that takes the place of what is there when all went well."""
    beside = None
    try:
        if os.path.exists(output) and not stat.S_ISREG(os.stat(output).st_mode):
            with open(output, "wb") as file:  # a pipe, say: there is nothing to keep
                yield file
            return
        # What a name stands for stays where it is, and so does what may be done with it.
        place = os.path.realpath(output)
        mode = os.stat(place).st_mode & 0o777 if os.path.exists(place) else 0o666 & ~_umask()
        descriptor, beside = tempfile.mkstemp(dir=os.path.dirname(place), prefix=".ringtape-")
        with open(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), mode)
        os.replace(beside, place)
        beside = None
    except OSError as error:  # the trace's own are TraceErrors
        raise TraceError(f"cannot write {output}: {error.strerror}") from None
    finally:
        if beside is not None:
            with contextlib.suppress(OSError):
                os.unlink(beside)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
