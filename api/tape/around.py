"""The rows around a place on a tape, as lines.

It goes there by the tape's index, and keeps no more rows than it shows.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator

from ringtape.coordinator.tape import (
    CompletionRow,
    NoteRow,
    Position,
    RequestRow,
    Row,
    TapeReader,
    TokenRow,
    iter_rows,
)
from ringtape.proto.errors import TapeDamaged, TapeError
from ringtape.tape.words import row_line


def around(path: str, stream: str, aspect: str, row: dict[str, int] | None, count: int) -> Iterator[str]:
    """The row of a stream (see `streams`) in which an aspect differs, marked, with `count` rows before and after it.

    Where there is no such row, because the tape has ended, the last rows.
    """
    with TapeReader.open(path) as reader:
        is_it, start = _find(reader, stream, aspect, row, count)
        before: deque[Row] = deque(maxlen=count)
        rows = iter_rows(reader, start)
        end = "the tape ends"
        try:
            for one in rows:
                if is_it(one):
                    yield from (f"   {row_line(early)}" for early in before)
                    yield f" > {row_line(one)}"
                    yield from (f"   {row_line(late)}" for late in itertools.islice(rows, count))
                    return
                before.append(one)
        except TapeDamaged as damage:
            end = str(damage)
        yield from (f"   {row_line(early)}" for early in before)
        yield f" > {end}"


def _find(
    reader: TapeReader, stream: str, aspect: str, row: dict[str, int] | None, count: int
) -> tuple[Callable[[Row], bool], Position | None]:
    """What tells the row, and a place before it from which to look for it."""
    if row is None:
        seal = reader.find_seal()
        start = None if seal is None else _position(reader, request_id=seal.requests - count)
        return (lambda one: False), start
    worker = row["worker"]
    if stream == "request":
        wanted = row["id"]
        return (lambda one: isinstance(one, RequestRow) and one.id == wanted), _position(
            reader, request_id=wanted - count
        )
    if stream == "release" and aspect != "order":
        wanted = row["id"]
        return (lambda one: isinstance(one, CompletionRow) and one.id == wanted), _position(
            reader, request_id=wanted
        )
    checkpoint = row["checkpoint"]
    if stream == "note":
        return _NthNote(worker, checkpoint, row["nth"]), _position(
            reader, worker=worker, checkpoint=checkpoint
        )
    return (
        lambda one: isinstance(one, TokenRow) and (one.worker, one.checkpoint) == (worker, checkpoint)
    ), _position(reader, worker=worker, checkpoint=checkpoint - 1)


class _NthNote:
    """Tells a note by its place among those of its worker since a checkpoint; asked about every row in turn."""

    def __init__(self, worker: int, checkpoint: int, nth: int) -> None:
        self._where = (worker, checkpoint)
        self._left = nth

    def __call__(self, row: Row) -> bool:
        if not isinstance(row, NoteRow) or (row.worker, row.checkpoint) != self._where:
            return False
        self._left -= 1
        return self._left < 0


def _position(
    reader: TapeReader,
    *,
    request_id: int | None = None,
    worker: int | None = None,
    checkpoint: int | None = None,
) -> Position | None:
    """The block of it; the start of the tape where there is nothing before."""
    try:
        if request_id is not None:
            return reader.seek(request_id=request_id) if request_id > 1 else None
        assert checkpoint is not None
        return reader.seek(worker=worker, checkpoint=checkpoint) if checkpoint > 0 else None
    except TapeDamaged:
        raise
    except TapeError:
        return None
