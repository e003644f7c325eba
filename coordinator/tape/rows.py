"""A tape row by row, for people and for tools that do not care for speed.

Responsible for giving every row the names a reader looks for: ids instead of sequence numbers, disks by name,
completions and releases by request id. It never holds more than one block. What is hot (a replay, a
digest) reads `BlockView.runs` instead.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

import numpy as np

from ringtape.coordinator.tape.reader import Position, TapeReader
from ringtape.coordinator.tape.runs import CompletionsRun, RequestsRun, TokenRun
from ringtape.coordinator.tape.tables import I64, U16, U64
from ringtape.proto import messages_pb2


@dataclass(frozen=True, slots=True)
class RequestRow:
    """A request. `checkpoint` is the last one that its worker had passed; 0 before the first."""

    id: int
    worker: int
    sequence: int
    checkpoint: int
    kind: int  # of messages_pb2.Kind
    disk: str
    offset: int  # bytes
    length: int  # bytes
    flags: int  # of messages_pb2.RequestFlag
    digest: int | None  # None below DATA_LEVEL_DIGEST
    covers: int | None  # of an fsync: how many of the worker's requests had completed
    at_ns: int  # since the start of the run


@dataclass(frozen=True, slots=True)
class CompletionRow:
    """What the kernel said about the request with this id: bytes moved, or minus errno."""

    id: int
    worker: int
    sequence: int
    result: int
    digest: int | None  # None below DATA_LEVEL_DIGEST
    at_ns: int  # since the start of the run


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A release token, with the ids of the requests whose completions it released, in that order."""

    number: int
    worker: int
    checkpoint: int
    mode: int  # of wire_pb2.Checkpoint.Mode
    clock_ns: int
    deadline_ns: int  # 0 is none
    ids: tuple[int, ...]
    at_ns: int  # since the start of the run
    delivered: int = 0  # messages and openings of barriers


@dataclass(frozen=True, slots=True)
class NoteRow:
    """Something a program did between two requests. `what` is log, captured, outcome, sent or barrier."""

    worker: int
    checkpoint: int
    what: str
    note: messages_pb2.Note
    at_ns: int  # since the start of the run


Row: TypeAlias = RequestRow | CompletionRow | TokenRow | NoteRow


def iter_rows(reader: TapeReader, start: Position | None = None) -> Iterator[Row]:
    """Every row of the tape, in the order in which they happened; from the block at `start` on, if it is given.

    Raises what `TapeReader.blocks` raises, after the rows before the damage; `reader.end` and `reader.seal` are
    set when it has come to the end.
    """
    disks = [disk.name for disk in reader.header.disks]
    # The last checkpoint that each worker has passed.
    passed = [0] * reader.header.workers if start is None else start.ledger.tokens.tolist()
    for block in reader.blocks(start):
        completed, released = iter(block.completed_ids.tolist()), iter(block.released_ids.tolist())
        for run in block.runs():
            if isinstance(run, RequestsRun):
                yield from _requests(run, passed[run.worker], disks)
            elif isinstance(run, CompletionsRun):
                yield from _completions(run, completed)
            elif isinstance(run, TokenRun):
                passed[run.worker] = run.checkpoint
                yield _token(run, released)
            else:
                what = run.note.WhichOneof("what") or ""
                yield NoteRow(run.worker, passed[run.worker], what, run.note, run.at_ns)


def _requests(run: RequestsRun, checkpoint: int, disks: list[str]) -> Iterator[RequestRow]:
    columns = run.columns
    disk = np.frombuffer(columns.disk, dtype=U16).tolist()
    offset = _u64(columns.offset)
    length = _u64(columns.length)
    digest: list[int] | list[None] = _u64(columns.digest) if columns.digest else [None] * run.count
    covers = iter(_u64(columns.fsync_covers))
    flags = columns.flags
    for i, kind in enumerate(columns.kind):
        yield RequestRow(
            id=run.first_id + i,
            worker=run.worker,
            sequence=run.first_sequence + i,
            checkpoint=checkpoint,
            kind=kind,
            disk=disks[disk[i]],
            offset=offset[i],
            length=length[i],
            flags=flags[i],
            digest=digest[i],
            covers=next(covers) if kind == messages_pb2.KIND_FSYNC else None,
            at_ns=run.at_ns,
        )


def _completions(run: CompletionsRun, ids: Iterator[int]) -> Iterator[CompletionRow]:
    columns = run.columns
    result = np.frombuffer(columns.result, dtype=I64).tolist()
    digest: list[int] | list[None] = _u64(columns.digest) if columns.digest else [None] * run.count
    for i, sequence in enumerate(_u64(columns.sequence)):
        yield CompletionRow(next(ids), run.worker, sequence, result[i], digest[i], run.at_ns)


def _token(run: TokenRun, ids: Iterator[int]) -> TokenRow:
    return TokenRow(
        number=run.number,
        worker=run.worker,
        checkpoint=run.checkpoint,
        mode=run.mode,
        clock_ns=run.clock_ns,
        deadline_ns=run.deadline_ns,
        ids=tuple(islice(ids, run.released)),
        delivered=run.delivered,
        at_ns=run.at_ns,
    )


def _u64(column: bytes) -> list[int]:
    values: list[int] = np.frombuffer(column, dtype=U64).tolist()
    return values
