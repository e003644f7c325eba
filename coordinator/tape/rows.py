"""A tape row by row, for people and for tools that do not care for speed.

Responsible for giving every row the names a reader looks for: ids instead of sequence numbers, disks by name,
completions and releases by request id. It never holds more than what is in flight. What is hot (a replay, a
digest) reads `BlockView.runs` instead.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ringtape.coordinator.tape.reader import TapeReader
from ringtape.coordinator.tape.runs import CompletionsRun, NoteRun, RequestsRun, TokenRun
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


@dataclass(frozen=True, slots=True)
class NoteRow:
    """Something a program did between two requests. `what` is log, captured or outcome."""

    worker: int
    checkpoint: int
    what: str
    note: messages_pb2.Note
    at_ns: int  # since the start of the run


Row: TypeAlias = RequestRow | CompletionRow | TokenRow | NoteRow


class _Worker:
    __slots__ = ("checkpoint", "in_flight", "queue")

    def __init__(self) -> None:
        self.checkpoint = 0
        self.in_flight: dict[int, int] = {}  # sequence to id
        self.queue: list[int] = []  # ids that completed and are not released, the oldest first


def iter_rows(reader: TapeReader) -> Iterator[Row]:
    """Every row of the tape, in the order in which they happened.

    Raises what `TapeReader.blocks` raises, after the rows before the damage; `reader.end` and `reader.seal` are
    set when it has come to the end.
    """
    disks = [disk.name for disk in reader.header.disks]
    workers: dict[int, _Worker] = {}
    for block in reader.blocks():
        for run in block.runs():
            worker = workers.setdefault(run.worker, _Worker())
            if isinstance(run, RequestsRun):
                yield from _requests(run, worker, disks)
            elif isinstance(run, CompletionsRun):
                yield from _completions(run, worker)
            elif isinstance(run, TokenRun):
                yield _token(run, worker)
            else:
                yield _note(run, worker)


def _requests(run: RequestsRun, worker: _Worker, disks: list[str]) -> Iterator[RequestRow]:
    columns = run.columns
    disk = np.frombuffer(columns.disk, dtype=U16).tolist()
    offset = _u64(columns.offset)
    length = _u64(columns.length)
    digest: list[int] | list[None] = _u64(columns.digest) if columns.digest else [None] * run.count
    covers = iter(_u64(columns.fsync_covers))
    flags = columns.flags
    for i, kind in enumerate(columns.kind):
        id_, sequence = run.first_id + i, run.first_sequence + i
        worker.in_flight[sequence] = id_
        yield RequestRow(
            id=id_,
            worker=run.worker,
            sequence=sequence,
            checkpoint=worker.checkpoint,
            kind=kind,
            disk=disks[disk[i]],
            offset=offset[i],
            length=length[i],
            flags=flags[i],
            digest=digest[i],
            covers=next(covers) if kind == messages_pb2.KIND_FSYNC else None,
            at_ns=run.at_ns,
        )


def _completions(run: CompletionsRun, worker: _Worker) -> Iterator[CompletionRow]:
    columns = run.columns
    result = np.frombuffer(columns.result, dtype=I64).tolist()
    digest: list[int] | list[None] = _u64(columns.digest) if columns.digest else [None] * run.count
    for i, sequence in enumerate(_u64(columns.sequence)):
        id_ = worker.in_flight.pop(sequence)
        worker.queue.append(id_)
        yield CompletionRow(id_, run.worker, sequence, result[i], digest[i], run.at_ns)


def _token(run: TokenRun, worker: _Worker) -> TokenRow:
    if run.order is None:
        ids = tuple(worker.queue[: run.released])
        del worker.queue[: run.released]
    else:
        ids = tuple(worker.queue.pop(place) for place in run.order)
    worker.checkpoint += 1
    return TokenRow(
        number=run.number,
        worker=run.worker,
        checkpoint=run.checkpoint,
        mode=run.mode,
        clock_ns=run.clock_ns,
        deadline_ns=run.deadline_ns,
        ids=ids,
        at_ns=run.at_ns,
    )


def _note(run: NoteRun, worker: _Worker) -> NoteRow:
    return NoteRow(run.worker, worker.checkpoint, run.note.WhichOneof("what") or "", run.note, run.at_ns)


def _u64(column: bytes) -> list[int]:
    values: list[int] = np.frombuffer(column, dtype=U64).tolist()
    return values
