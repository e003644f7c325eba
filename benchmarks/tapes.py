"""Made-up runs with realistic messages, as column batches, for the benchmarks of the tape.

Responsible for what a worker at some depth would send: it submits what it was released, the disk completes a part of
what is in flight in an order that is nearly that of submission, and each message carries both. Nothing here measures.
"""

import gzip
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ringtape.coordinator.tape import TapeWriter
from ringtape.proto import messages_pb2, tape_pb2

# Not ours to hand on: beside the repository where there is one.
TRACE = Path(__file__).resolve().parents[2] / "shared" / "traces" / "linux-mysql.load.gz"
# How far the times of a message spread, evenly: from the message before to the submission, from there to the
# completions (for each), from those to the token.
SUBMIT_SPREAD_NS = 10_000
REQUEST_SPREAD_NS = 2_400
TOKEN_SPREAD_NS = 40_000


class Load(NamedTuple):
    """What a program asks for, in its order."""

    name: str
    disk_bytes: int
    kind: NDArray[np.uint8]
    offset: NDArray[np.uint64]
    length: NDArray[np.uint64]


class Step(NamedTuple):
    """One message: what was submitted, what had completed, and when."""

    requests: messages_pb2.Requests | None
    requests_count: int
    requests_ns: int
    completions: messages_pb2.Completions | None
    completions_count: int
    completions_ns: int
    sequence: NDArray[np.uint64]  # of the completions
    token_ns: int


def random_reads(count: int, *, disk_bytes: int = 1 << 30) -> Load:
    """4 KiB, anywhere."""
    blocks = np.random.default_rng(1).integers(0, disk_bytes // 4096, count, dtype=np.uint64)
    return _reads("random", disk_bytes, blocks)


def sequential_reads(count: int, *, disk_bytes: int = 1 << 30) -> Load:
    """4 KiB, one after another, from the start again at the end."""
    return _reads("sequential", disk_bytes, np.arange(count, dtype=np.uint64) % np.uint64(disk_bytes // 4096))


def trace_load(path: Path = TRACE) -> Load:
    """A trace in blkreplay's format: its requests, as fast as the depth lets them go."""
    with gzip.open(path, "rt", encoding="utf-8", errors="replace") as file:
        rows = re.findall(r"^\s*[\d.]+\s*;\s*(\d+)\s*;\s*(\d+)\s*;\s*([RW])\s*;", file.read(), re.MULTILINE)
    offset = np.array([int(sector) * 512 for sector, _, _ in rows], dtype=np.uint64)
    length = np.array([int(sectors) * 512 for _, sectors, _ in rows], dtype=np.uint64)
    kind = np.array([1 if way == "R" else 2 for _, _, way in rows], dtype=np.uint8)
    return Load("trace", int((offset + length).max()), kind, offset, length)


def _reads(name: str, disk_bytes: int, blocks: NDArray[np.uint64]) -> Load:
    kind = np.full(len(blocks), messages_pb2.KIND_READ, dtype=np.uint8)
    return Load(name, disk_bytes, kind, blocks * np.uint64(4096), np.full(len(blocks), 4096, dtype=np.uint64))


def steps(
    load: Load, *, depth: int = 64, batch: tuple[int, int] = (10, 60), swaps: float = 8.0
) -> Iterator[Step]:
    """The messages. `batch` bounds how many requests complete by one; a completion is early or late by about `swaps`.

    Times are those of a busy disk: a message when its batch has completed, some microseconds of jitter on all.
    """
    rng = np.random.default_rng(2)
    total, made, at_ns = len(load.kind), 0, 0
    due = np.arange(total) + rng.exponential(swaps, total) if swaps else np.arange(total, dtype=np.float64)
    flying = np.zeros(0, dtype=np.int64)
    while made < total or len(flying):
        start, made = made, min(total, made + depth - len(flying))
        requests = _requests(load, start, made) if made > start else None
        flying = np.concatenate((flying, np.arange(start, made)))
        requests_ns = at_ns + 2_000 + int(rng.integers(SUBMIT_SPREAD_NS))
        flying = flying[np.argsort(due[flying], kind="stable")]
        done = flying[: int(rng.integers(batch[0], batch[1] + 1))]
        flying = flying[len(done) :]
        at_ns = requests_ns + int(len(done) * (2_800 + REQUEST_SPREAD_NS * rng.random()))
        completions = messages_pb2.Completions(
            sequence=done.astype("<u8").tobytes(), result=load.length[done].tobytes()
        )
        completions_ns, at_ns = at_ns, at_ns + 20_000 + int(rng.integers(TOKEN_SPREAD_NS))
        yield Step(
            requests,
            made - start,
            requests_ns,
            completions,
            len(done),
            completions_ns,
            done.astype(np.uint64),
            at_ns,
        )


def _requests(load: Load, start: int, stop: int) -> messages_pb2.Requests:
    return messages_pb2.Requests(
        kind=load.kind[start:stop].tobytes(),
        flags=bytes(stop - start),
        disk=bytes(2 * (stop - start)),
        offset=load.offset[start:stop].tobytes(),
        length=load.length[start:stop].tobytes(),
    )


def header_of(load: Load) -> tape_pb2.Header:
    """One worker, one disk, level `order`."""
    header = tape_pb2.Header(
        workers=1, data=messages_pb2.DATA_LEVEL_ORDER, policy="fifo", program="load.py:main"
    )
    header.disks.add(name="a", path="/dev/a", size=load.disk_bytes, block_size=512)
    return header


def give(tape: TapeWriter, messages: Iterator[Step] | list[Step]) -> None:
    """Writes the messages, as the recorder would: blocks close by size, and 100 ms after their first row."""
    for requests, made, requests_ns, completions, done, completions_ns, _, token_ns in messages:
        if requests is not None:
            tape.requests(0, requests, made, requests_ns)
        if completions is not None:
            tape.completions(0, completions, done, completions_ns)
        tape.token(0, token_ns, 0, 0, done, None, token_ns)
        tape.flush_due(token_ns)
