"""Rows cut out of columns, as columns of their own: the same on the wire and on the tape.

Responsible for nothing but the cut: what is in a row, and whether the columns hold together, is for others.
"""

from ringtape.proto import messages_pb2


def slice_requests(columns: messages_pb2.Requests, start: int, stop: int) -> messages_pb2.Requests:
    """Rows `start` to `stop`; the columns themselves where that is all of them."""
    kind = columns.kind
    if start == 0 and stop == len(kind):
        return columns
    fsyncs = kind.count(messages_pb2.KIND_FSYNC, 0, start)
    until = fsyncs + kind.count(messages_pb2.KIND_FSYNC, start, stop)
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
