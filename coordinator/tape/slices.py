"""Rows cut out of columns, as columns of their own: the same on the wire and on the tape.

Responsible for nothing but the cut: what is in a row, and whether the columns hold together, is for others.
"""

from typing import NamedTuple, TypeAlias

from ringtape.proto import messages_pb2

_FSYNC = messages_pb2.KIND_FSYNC


class RequestColumns(NamedTuple):
    """The fields of `Requests` taken out of the message, in their order: each time costs a copy and a call."""

    kind: bytes
    flags: bytes
    disk: bytes
    offset: bytes
    length: bytes
    digest: bytes
    fsync_covers: bytes
    contents: bytes

    def between(self, start: int, stop: int) -> "RequestColumns":
        """Rows `start` to `stop`; the columns themselves where that is all of them."""
        kind, flags, disk, offset, length, digest, covers, contents = self
        if start == 0 and stop == len(kind):
            return self
        fsyncs = kind.count(_FSYNC, 0, start)
        until = fsyncs + kind.count(_FSYNC, start, stop)
        wide = slice(8 * start, 8 * stop)
        return RequestColumns(
            kind[start:stop],
            flags[start:stop],
            disk[2 * start : 2 * stop],
            offset[wide],
            length[wide],
            digest[wide],
            covers[8 * fsyncs : 8 * until],
            contents[wide],
        )


class CompletionColumns(NamedTuple):
    """The same of `Completions`."""

    sequence: bytes
    result: bytes
    digest: bytes
    contents: bytes

    def between(self, start: int, stop: int) -> "CompletionColumns":
        """Rows `start` to `stop`; the columns themselves where that is all of them."""
        sequence, result, digest, contents = self
        wide = slice(8 * start, 8 * stop)
        if start == 0 and 8 * stop == len(sequence):
            return self
        return CompletionColumns(sequence[wide], result[wide], digest[wide], contents[wide])


Requests: TypeAlias = messages_pb2.Requests | RequestColumns
Completions: TypeAlias = messages_pb2.Completions | CompletionColumns


def request_columns(columns: Requests) -> RequestColumns:
    """The columns, out of the message if they are in one."""
    if isinstance(columns, RequestColumns):
        return columns
    return RequestColumns(
        columns.kind,
        columns.flags,
        columns.disk,
        columns.offset,
        columns.length,
        columns.digest,
        columns.fsync_covers,
        columns.contents,
    )


def completion_columns(columns: Completions) -> CompletionColumns:
    """The columns, out of the message if they are in one."""
    if isinstance(columns, CompletionColumns):
        return columns
    return CompletionColumns(columns.sequence, columns.result, columns.digest, columns.contents)


def slice_requests(columns: messages_pb2.Requests, start: int, stop: int) -> messages_pb2.Requests:
    """Rows `start` to `stop`; the columns themselves where that is all of them."""
    kind = columns.kind
    if start == 0 and stop == len(kind):
        return columns
    fsyncs = kind.count(_FSYNC, 0, start)
    until = fsyncs + kind.count(_FSYNC, start, stop)
    return messages_pb2.Requests(
        kind=kind[start:stop],
        flags=columns.flags[start:stop],
        disk=columns.disk[2 * start : 2 * stop],
        offset=columns.offset[8 * start : 8 * stop],
        length=columns.length[8 * start : 8 * stop],
        digest=columns.digest[8 * start : 8 * stop],
        fsync_covers=columns.fsync_covers[8 * fsyncs : 8 * until],
        contents=columns.contents[8 * start : 8 * stop],
    )


def slice_completions(
    columns: messages_pb2.Completions, start: int, stop: int | None
) -> messages_pb2.Completions:
    """Rows `start` to `stop`, or to the end; the columns themselves where that is all of them."""
    if start == 0 and (stop is None or 8 * stop == len(columns.sequence)):
        return columns
    first, last = 8 * start, None if stop is None else 8 * stop
    return messages_pb2.Completions(
        sequence=columns.sequence[first:last],
        result=columns.result[first:last],
        digest=columns.digest[first:last],
        contents=columns.contents[first:last],
    )
