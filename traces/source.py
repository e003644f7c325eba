"""Where a trace's bytes come from: a file or standard input, unpacked as they come.

Whatever is wrong with a file becomes a `TraceError` here that names it. It never looks at what the bytes mean, but for
the first few, which tell how they are packed.
"""

from __future__ import annotations

import bz2
import contextlib
import errno
import gzip
import io
import os
import sys
import zlib
from collections.abc import Iterator
from types import TracebackType
from typing import BinaryIO, Protocol

from ringtape.proto.errors import TraceError

STDIN = "-"
STDIN_NAME = "standard input"

_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2"}
# Frames that hold no data and may come before others.
_ZSTD_SKIPPABLE = tuple(bytes([0x50 + low]) + b"\x2a\x4d\x18" for low in range(16))
_MAGIC_BYTES = 4
_RAW_BYTES = 1 << 17
# A zstd block of four bytes may unpack to 128 KiB: this bounds what one step can come to.
_ZSTD_STEP = 4096
_ZSTD_WINDOW_MAX = 1 << 31


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Source:
    """A trace's bytes.

    Attributes:
        name: what to call it in messages.
        packing: `gzip`, `zstd`, `bz2`, or None.
    """

    def __init__(self, path: str) -> None:
        self.name = STDIN_NAME if path == STDIN else path
        self._closing = contextlib.ExitStack()
        try:
            with self._named():
                raw = self._opened(path)
                begin = _read_fully(raw, _MAGIC_BYTES)
                self.packing = packing_of(begin)
                self._unpacked = _unpacked(_Rejoined(begin, raw), self.packing)
        except BaseException:
            self.close()
            raise
        self._head = b""
        self._failure: TraceError | None = None
        if not begin:
            raise TraceError(f"{self.name} is empty")

    def _opened(self, path: str) -> _Readable:
        if path == STDIN:
            if sys.stdin is None:
                raise TraceError("there is no standard input")
            return sys.stdin.buffer
        opened: BinaryIO = open(path, "rb", buffering=0)  # noqa: SIM115  # closed by `close`
        self._closing.callback(opened.close)
        return opened

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; standard input stays open."""
        self._closing.close()

    def head(self, size: int) -> bytes:
        """The first `size` bytes, fewer only where there are no more; they are read again."""
        if len(self._head) < size and self._failure is None:
            self._head += self._next(size - len(self._head))
        return self._head

    def skip(self, begin: bytes) -> None:
        """Do not read these bytes, if it begins with them."""
        self._head = self.head(len(begin)).removeprefix(begin)

    def read(self, size: int) -> bytes:
        """`size` bytes; fewer before the end, or before damage, which the next call raises. None at the end."""
        begin, self._head = self._head[:size], self._head[size:]
        if len(begin) == size or (begin and self._failure is not None):
            return begin
        return begin + self._next(size - len(begin))

    def _next(self, size: int) -> bytes:
        """What is not read yet."""
        if self._failure is not None:
            raise self._failure
        parts: list[bytes] = []
        try:
            with self._named():
                while size > 0 and (part := self._unpacked.read(size)):
                    parts.append(part)
                    size -= len(part)
        except TraceError as error:
            self._failure = error
            if not parts:
                raise
        return parts[0] if len(parts) == 1 else b"".join(parts)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if isinstance(error, gzip.BadGzipFile) or error.errno is None:
                raise TraceError(f"{self.name}: its {self.packing} data is damaged: {error}") from None
            raise TraceError(f"cannot read {self.name}: {_reason(error)}") from None
        except ValueError as error:  # a path with a zero byte in it
            raise TraceError(f"cannot read {self.name!r}: {error}") from None
        except EOFError:
            raise TraceError(f"{self.name}: its {self.packing} data is cut short") from None
        except zlib.error as error:
            raise TraceError(f"{self.name}: its {self.packing} data is damaged: {error}") from None


def packing_of(begin: bytes) -> str | None:
    """How a file that begins so is packed; None if it is not."""
    if begin.startswith(_ZSTD_SKIPPABLE):
        return "zstd"
    return next((packing for magic, packing in _MAGIC.items() if begin.startswith(magic)), None)


def _reason(error: OSError) -> str:
    if error.errno == errno.EISDIR:
        return "it is a directory"
    if error.errno == errno.ENOENT:
        return "there is no such file"
    return os.strerror(error.errno or errno.EIO)


def _read_fully(readable: _Readable, size: int) -> bytes:
    """Until there is as much or the end is reached: a pipe gives what it has."""
    parts: list[bytes] = []
    while size > 0 and (part := readable.read(size)):
        parts.append(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


class _Rejoined(io.RawIOBase):
    """What was read already, and then the rest."""

    def __init__(self, begin: bytes, rest: _Readable) -> None:
        self._begin = begin
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object, /) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]  # typeshed has no name for it before 3.12
        data = self._begin[: len(view)] or self._rest.read(len(view))
        self._begin = self._begin[len(view) :]
        view[: len(data)] = data
        return len(data)


def _unpacked(raw: _Rejoined, packing: str | None) -> _Readable:
    if packing == "gzip":
        return _Stepwise(gzip.GzipFile(fileobj=io.BufferedReader(raw, _RAW_BYTES), mode="rb"))
    if packing == "bz2":
        return _Stepwise(bz2.BZ2File(io.BufferedReader(raw, _RAW_BYTES)))
    if packing == "zstd":
        return _Zstd(raw)
    return raw


class _Stepwise:
    """Unpacks no more at a time than comes of one piece, so that what is before damage is not lost with it."""

    def __init__(self, packed: gzip.GzipFile | bz2.BZ2File) -> None:
        self._packed = packed

    def read(self, size: int, /) -> bytes:
        return self._packed.read1(size)


class _Zstd:
    """Frames of zstd, one after the other. The package's own stream reader does not tell a cut one from a whole."""

    def __init__(self, raw: _Rejoined) -> None:
        import zstandard

        self._error = zstandard.ZstdError
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_MAX)
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._raw = io.BufferedReader(raw, _RAW_BYTES)
        self._packed = b""
        self._ready = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        while not self._ready:
            packed = self._packed or self._raw.read(_ZSTD_STEP)
            if not packed:
                if self._frame is not None:
                    raise EOFError
                return b""
            if self._frame is None:
                self._frame = self._decompressor.decompressobj()
            try:
                self._ready = memoryview(self._frame.decompress(packed))
            except self._error as error:
                raise zlib.error(str(error)) from None
            self._packed = b""
            if self._frame.eof:
                self._packed = self._frame.unused_data
                self._frame = None
        data, self._ready = bytes(self._ready[:size]), self._ready[size:]
        return data
