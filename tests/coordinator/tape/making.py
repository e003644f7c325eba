"""Runs made up from a seed, as the calls that write them, for the tests of the tape and of the digest.

A made-up run keeps the promises of a real one (completions of requests in flight, releases of completions that
wait, fsyncs that cover what came before) and is otherwise as random as the format allows.
"""

import random
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TypeAlias

from ringtape.coordinator.tape import (
    CompletionRow,
    CompletionsRun,
    NoteRow,
    RequestRow,
    RequestsRun,
    Row,
    Run,
    TapeSink,
    TapeWriter,
    TokenRow,
    TokenRun,
)
from ringtape.coordinator.tape.frames import FORMAT_VERSION
from ringtape.proto import messages_pb2, tape_pb2

U64_MAX = (1 << 64) - 1


@dataclass(frozen=True)
class Request:
    kind: int
    flags: int
    disk: int
    offset: int
    length: int
    digest: int
    covers: int  # only means something for an fsync


@dataclass(frozen=True)
class Completion:
    sequence: int
    result: int
    digest: int


@dataclass(frozen=True)
class Requests:
    worker: int
    rows: tuple[Request, ...]
    at_ns: int


@dataclass(frozen=True)
class Completions:
    worker: int
    rows: tuple[Completion, ...]
    at_ns: int


@dataclass(frozen=True)
class Token:
    worker: int
    clock_ns: int
    deadline_ns: int
    mode: int
    released: int
    order: tuple[int, ...] | None
    at_ns: int
    delivered: int = 0


@dataclass(frozen=True)
class Note:
    worker: int
    note: messages_pb2.Note
    at_ns: int


Call: TypeAlias = Requests | Completions | Token | Note


def make_header(*, workers: int = 3, disks: int = 2, digests: bool = True) -> tape_pb2.Header:
    level = messages_pb2.DATA_LEVEL_DIGEST if digests else messages_pb2.DATA_LEVEL_ORDER
    header = tape_pb2.Header(workers=workers, data=level, seed=7, policy="fifo")
    for index in range(disks):
        header.disks.add(name=f"disk{index}", path=f"/disk{index}", size=1 << 40, block_size=512)
    return header


def request_columns(rows: Sequence[Request], *, digests: bool = True) -> messages_pb2.Requests:
    return messages_pb2.Requests(
        kind=bytes(row.kind for row in rows),
        flags=bytes(row.flags for row in rows),
        disk=struct.pack(f"<{len(rows)}H", *(row.disk for row in rows)),
        offset=u64(row.offset for row in rows),
        length=u64(row.length for row in rows),
        digest=u64(row.digest for row in rows) if digests else b"",
        fsync_covers=u64(row.covers for row in rows if row.kind == messages_pb2.KIND_FSYNC),
    )


def completion_columns(rows: Sequence[Completion], *, digests: bool = True) -> messages_pb2.Completions:
    return messages_pb2.Completions(
        sequence=u64(row.sequence for row in rows),
        result=struct.pack(f"<{len(rows)}q", *(row.result for row in rows)),
        digest=u64(row.digest for row in rows) if digests else b"",
    )


def u64(values: Iterable[int]) -> bytes:
    return b"".join(value.to_bytes(8, "little") for value in values)


def make_run(
    seed: int,
    *,
    workers: int = 3,
    disks: int = 2,
    steps: int = 40,
    rows_max: int = 6,
    version: int = FORMAT_VERSION,
) -> list[Call]:
    """A run with everything in it that a tape of that version can hold."""
    rng = random.Random(seed)
    made = [0] * workers
    in_flight: list[list[int]] = [[] for _ in range(workers)]
    waiting = [0] * workers
    calls: list[Call] = []
    at_ns = 0
    for _ in range(steps):
        worker = rng.randrange(workers)
        at_ns += rng.choice((0, 0, 1, 1000, 1 << 40))
        match rng.randrange(4):
            case 0:
                rows = tuple(_request(rng, made[worker] + i, disks) for i in range(rng.randint(1, rows_max)))
                in_flight[worker] += range(made[worker], made[worker] + len(rows))
                made[worker] += len(rows)
                calls.append(Requests(worker, rows, at_ns))
            case 1 if in_flight[worker]:
                rng.shuffle(in_flight[worker])
                count = rng.randint(1, len(in_flight[worker]))
                done = [in_flight[worker].pop() for _ in range(count)]
                waiting[worker] += count
                calls.append(
                    Completions(worker, tuple(_completion(rng, sequence) for sequence in done), at_ns)
                )
            case 2:
                calls.append(_token(rng, worker, waiting[worker], at_ns))
                waiting[worker] -= calls[-1].released
            case 3:
                calls.append(Note(worker, make_note(rng), at_ns))
    return calls if version < 3 else list(_with_messages(calls, random.Random(seed), workers))


def _with_messages(calls: Iterable[Call], rng: random.Random, workers: int) -> Iterator[Call]:
    any_delivered = rng.random() < 0.7
    for call in calls:
        if isinstance(call, Token) and any_delivered:
            yield replace(call, delivered=rng.choice((0, 0, 1, 70_000)))
            continue
        yield call
        if isinstance(call, Note) and rng.random() < 0.5:
            sent = messages_pb2.Sent(to=rng.randrange(workers), size=7, digest=rng.randbytes(16))
            one = rng.choice((messages_pb2.Note(sent=sent), messages_pb2.Note(barrier="a barrier")))
            yield Note(call.worker, one, call.at_ns)


def all_completed(count: int) -> list[Call]:
    """Reads of worker 0, all completed, none released."""
    requests = tuple(Request(messages_pb2.KIND_READ, 0, 0, 512 * i, 512, 0, 0) for i in range(count))
    return [Requests(0, requests, 0), Completions(0, tuple(Completion(i, 512, 0) for i in range(count)), 0)]


def make_note(rng: random.Random) -> messages_pb2.Note:
    match rng.randrange(3):
        case 0:
            return messages_pb2.Note(log=rng.choice(("", "línea", "x" * 200)))
        case 1:
            return messages_pb2.Note(
                captured=messages_pb2.Captured(
                    name="m:f", pickled=rng.randbytes(rng.randrange(50)), raised=rng.random() < 0.5
                )
            )
        case _:
            return messages_pb2.Note(
                outcome=messages_pb2.Outcome(digest=rng.randbytes(16), text="t", exception="e", traceback="x")
            )


def write(
    path: Path, header: tape_pb2.Header, calls: Iterable[Call], *, flush_every: int = 0, seal: bool = True
) -> int:
    """Writes the run; a block after every `flush_every` calls, if it is not 0. The bytes of the file."""
    with TapeWriter(path, header) as tape:
        give(tape, calls, digests=header.data == messages_pb2.DATA_LEVEL_DIGEST, flush_every=flush_every)
        if seal:
            tape.seal(tape_pb2.Seal(end=tape_pb2.Seal.END_FINISHED))
    return path.stat().st_size


def give(tape: TapeSink, calls: Iterable[Call], *, digests: bool = True, flush_every: int = 0) -> None:
    for index, call in enumerate(calls, 1):
        match call:
            case Requests(worker, rows, at_ns):
                tape.requests(worker, request_columns(rows, digests=digests), len(rows), at_ns)
            case Completions(worker, rows, at_ns):
                tape.completions(worker, completion_columns(rows, digests=digests), len(rows), at_ns)
            case Token(worker, clock_ns, deadline_ns, mode, released, order, at_ns, delivered):
                tape.token(worker, clock_ns, deadline_ns, mode, released, order, at_ns, delivered)
            case Note(worker, note, at_ns):
                tape.note(worker, note, at_ns)
        if flush_every and index % flush_every == 0:
            tape.flush()


def calls_of(runs: Iterable[Run]) -> Iterator[Call]:
    """The calls that would have written these runs."""
    for run in runs:
        if isinstance(run, RequestsRun):
            yield Requests(run.worker, tuple(_request_rows(run.columns, run.count)), run.at_ns)
        elif isinstance(run, CompletionsRun):
            columns = run.columns
            results = struct.unpack(f"<{run.count}q", columns.result)
            sequences, digests = _values(columns.sequence), _values(columns.digest) or (0,) * run.count
            rows = map(Completion, sequences, results, digests)
            yield Completions(run.worker, tuple(rows), run.at_ns)
        elif isinstance(run, TokenRun):
            token = Token(
                run.worker,
                run.clock_ns,
                run.deadline_ns,
                run.mode,
                run.released,
                run.order,
                run.at_ns,
                run.delivered,
            )
            yield token
        else:
            yield Note(run.worker, run.note, run.at_ns)


def joined(calls: Iterable[Call]) -> list[Call]:
    """The same rows, neighbours of one worker, table and time joined: what two writings of a run agree on."""
    result: list[Call] = []
    for (kind, _, _), group in groupby(calls, key=lambda call: (type(call), call.worker, call.at_ns)):
        members = list(group)
        if kind in (Requests, Completions):
            result.append(replace(members[0], rows=tuple(row for call in members for row in call.rows)))
        else:
            result += members
    return result


def rows_of(header: tape_pb2.Header, calls: Iterable[Call]) -> list[Row]:
    """What `iter_rows` has to give for a tape of these calls, worked out the plain way."""
    digests = header.data == messages_pb2.DATA_LEVEL_DIGEST
    ids: dict[tuple[int, int], int] = {}
    made, tokens, queues = (
        {worker: start() for worker in range(header.workers)} for start in (int, int, list)
    )
    rows: list[Row] = []
    for call in calls:
        worker = call.worker
        match call:
            case Requests():
                for row in call.rows:
                    id_ = ids[worker, made[worker]] = len(ids) + 1
                    rows.append(
                        RequestRow(
                            id=id_,
                            worker=worker,
                            sequence=made[worker],
                            checkpoint=tokens[worker],
                            kind=row.kind,
                            disk=header.disks[row.disk].name,
                            offset=row.offset,
                            length=row.length,
                            flags=row.flags,
                            digest=row.digest if digests else None,
                            covers=row.covers if row.kind == messages_pb2.KIND_FSYNC else None,
                            at_ns=call.at_ns,
                        )
                    )
                    made[worker] += 1
            case Completions():
                for row in call.rows:
                    id_ = ids[worker, row.sequence]
                    queues[worker].append(id_)
                    digest = row.digest if digests else None
                    rows.append(CompletionRow(id_, worker, row.sequence, row.result, digest, call.at_ns))
            case Token():
                released = tuple(queues[worker].pop(place) for place in call.order or (0,) * call.released)
                tokens[worker] += 1
                number = sum(tokens.values())
                mode, clock_ns, deadline_ns = call.mode, call.clock_ns, call.deadline_ns
                rows.append(
                    TokenRow(
                        number,
                        worker,
                        tokens[worker],
                        mode,
                        clock_ns,
                        deadline_ns,
                        released,
                        call.at_ns,
                        call.delivered,
                    )
                )
            case Note():
                what = call.note.WhichOneof("what")
                rows.append(NoteRow(worker, tokens[worker], what, call.note, call.at_ns))
    return rows


def _request(rng: random.Random, sequence: int, disks: int) -> Request:
    kind = rng.randint(1, 5)
    fsync = kind == messages_pb2.KIND_FSYNC
    return Request(
        kind=kind,
        flags=rng.randrange(4),
        disk=rng.randrange(disks),
        offset=0 if fsync else rng.choice((0, 512, U64_MAX)),
        length=0 if fsync else rng.choice((512, 4096, U64_MAX)),
        digest=rng.choice((0, rng.getrandbits(64))),
        covers=rng.randint(0, sequence) if fsync else 0,
    )


def _completion(rng: random.Random, sequence: int) -> Completion:
    return Completion(sequence, rng.choice((4096, 0, -5, -(1 << 63))), rng.choice((0, rng.getrandbits(64))))


def _token(rng: random.Random, worker: int, waiting: int, at_ns: int) -> Token:
    released = rng.randint(0, waiting)
    order: tuple[int, ...] | None = tuple(rng.randrange(waiting - i) for i in range(released))
    if not any(order) or rng.random() < 0.5:
        order = None
    clock_ns, deadline_ns = rng.getrandbits(64), rng.choice((0, U64_MAX))
    return Token(worker, clock_ns, deadline_ns, rng.randrange(2), released, order, at_ns)


def _request_rows(columns: messages_pb2.Requests, count: int) -> Iterator[Request]:
    disks = struct.unpack(f"<{count}H", columns.disk)
    offsets, lengths = _values(columns.offset), _values(columns.length)
    digests = _values(columns.digest) or (0,) * count
    covers = iter(_values(columns.fsync_covers))
    for i, kind in enumerate(columns.kind):
        cover = next(covers) if kind == messages_pb2.KIND_FSYNC else 0
        yield Request(kind, columns.flags[i], disks[i], offsets[i], lengths[i], digests[i], cover)
    assert next(covers, None) is None, "more rows of fsync_covers than fsyncs"


def _values(column: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(column) // 8}Q", column)


def without_digests(calls: Iterable[Call]) -> list[Call]:
    """The calls as a tape below DATA_LEVEL_DIGEST keeps them."""
    result: list[Call] = []
    for call in calls:
        if isinstance(call, Requests | Completions):
            call = replace(call, rows=tuple(replace(row, digest=0) for row in call.rows))
        result.append(call)
    return result


def faults_of(rows: Iterable[Row]) -> set[tuple[int, int, int]]:
    """Worker, sequence number and result of each request that failed or was cut short, one row after another."""
    found: set[tuple[int, int, int]] = set()
    moves: dict[tuple[int, int], int] = {}
    for row in rows:
        if isinstance(row, RequestRow):
            transfer = row.kind in (messages_pb2.KIND_READ, messages_pb2.KIND_WRITE)
            moves[row.worker, row.sequence] = row.length if transfer else 0
        elif isinstance(row, CompletionRow) and row.result < moves[row.worker, row.sequence]:
            found.add((row.worker, row.sequence, row.result))
    return found
