"""Small tapes for the tests of the tools, and the plain way to what the tools work out in columns."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ringtape.coordinator.tape import CompletionRow, RequestRow, Row, TokenRow
from ringtape.proto import messages_pb2
from tests.coordinator.tape.making import Call, Completion, Completions, Request, Requests, make_run

HEADER_WORDS = ("id", "worker", "sequence", "checkpoint", "offset", "length", "covers")
DATA_KINDS = (messages_pb2.KIND_READ, messages_pb2.KIND_WRITE, messages_pb2.KIND_WRITE_ZEROES)


def crowded_run(seed: int, *, workers: int = 3, disks: int = 2, steps: int = 60) -> list[Call]:
    """A made-up run on disks so small that requests meet; each call has a time of its own."""
    rng = random.Random(seed)
    calls: list[Call] = []
    for index, call in enumerate(make_run(seed, workers=workers, disks=disks, steps=steps)):
        if isinstance(call, Requests):
            call = replace(call, rows=tuple(_small(row, rng) for row in call.rows))
        elif isinstance(call, Completions):
            call = replace(call, rows=tuple(_done(row, rng) for row in call.rows))
        calls.append(replace(call, at_ns=100 * index + 7))
    return calls


def _small(row: Request, rng: random.Random) -> Request:
    if row.kind == messages_pb2.KIND_FSYNC:
        return row
    return replace(row, offset=512 * rng.randrange(40), length=512 * rng.choice((1, 1, 2, 8, 40)))


def _done(row: Completion, rng: random.Random) -> Completion:
    return replace(row, result=rng.choice((512, 4096, 0, -5)))


@dataclass
class Whole:
    """A request with what came of it, from rows; `made` and `completed` are places among all rows."""

    request: RequestRow
    made: int
    completion: CompletionRow | None = None
    completed: int | None = None
    token: TokenRow | None = None


def wholes(rows: list[Row]) -> dict[int, Whole]:
    """The requests of a tape by id."""
    found: dict[int, Whole] = {}
    for place, row in enumerate(rows):
        if isinstance(row, RequestRow):
            found[row.id] = Whole(row, place)
        elif isinstance(row, CompletionRow):
            found[row.id].completion, found[row.id].completed = row, place
        elif isinstance(row, TokenRow):
            for id_ in row.ids:
                found[id_].token = row
    return found


def record_of(whole: Whole) -> dict[str, Any]:
    """What an export has to say of the request."""
    request, done, token = whole.request, whole.completion, whole.token
    flags = [name for bit, name in ((1, "fua"), (2, "data-only")) if request.flags & bit]
    return {
        **{name: getattr(request, name) for name in HEADER_WORDS},
        "kind": messages_pb2.Kind.Name(request.kind).removeprefix("KIND_").lower(),
        "disk": request.disk,
        "flags": flags,
        "request_digest": f"{request.digest:016x}" if request.digest else None,
        "submitted_ns": request.at_ns,
        "completed_ns": None if done is None else done.at_ns,
        "result": None if done is None else done.result,
        "digest": f"{done.digest:016x}" if done is not None and done.digest else None,
        "released_ns": None if token is None else token.at_ns,
        "released_at": None if token is None else token.checkpoint,
    }


def without_seal(path: Path, cut_bytes: int = 0) -> Path:
    """A copy without its seal, which is the last frame; and without so many bytes of what is before it."""
    data = path.read_bytes()
    copy = path.with_suffix(".cut")
    copy.write_bytes(data[: data.rindex(b"RTfr") - cut_bytes])
    return copy
