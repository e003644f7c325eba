"""A tape of a million requests that is worth looking at: three workers on two disks, whose loads change.

Made up from columns, so that it takes a second; `large_page` draws it in a process of its own that may not use more
than so much memory.
"""

from __future__ import annotations

import heapq
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ringtape.benchmarks.tapes import Load, Step, steps
from ringtape.coordinator.tape import TapeWriter
from ringtape.proto import messages_pb2, tape_pb2

REQUESTS = 1_000_000
MEMORY_MIB_MAX = 256

_READ, _WRITE = messages_pb2.KIND_READ, messages_pb2.KIND_WRITE
_DISK_BYTES = 8 << 30
# Which share of the requests a worker makes, at which depth, on which disk.
_WORKERS = ((0.62, 64, 0), (0.30, 24, 0), (0.08, 4, 1))


def large_tape(path: Path) -> int:
    """Writes it; how many checkpoints it has."""
    header = tape_pb2.Header(
        workers=3, data=messages_pb2.DATA_LEVEL_ORDER, policy="fifo", program="load.py:main"
    )
    header.started_at_ns = 1_790_000_000_000_000_000
    for name in ("data", "log"):
        header.disks.add(name=name, path=f"/dev/{name}", size=_DISK_BYTES, block_size=512)
    checkpoints = 0
    with TapeWriter(path, header) as tape:
        for at_ns, worker, step in heapq.merge(*map(_messages, range(3))):
            if step.requests is not None:
                disk = np.full(step.requests_count, _WORKERS[worker][2], dtype="<u2")
                step.requests.disk = disk.tobytes()
                tape.requests(worker, step.requests, step.requests_count, step.requests_ns)
            assert step.completions is not None
            tape.completions(worker, step.completions, step.completions_count, step.completions_ns)
            tape.token(worker, at_ns, 0, 0, step.completions_count, None, at_ns)
            checkpoints += 1
        tape.seal(tape_pb2.Seal(end=tape_pb2.Seal.END_FINISHED))
    return checkpoints


def _messages(worker: int) -> Iterator[tuple[int, int, Step]]:
    share, depth, _ = _WORKERS[worker]
    count = round(REQUESTS * share)
    for step in steps(_load(worker, count), depth=depth, batch=(max(1, depth // 8), depth)):
        yield step.token_ns, worker, step


def _load(worker: int, count: int) -> Load:
    """By turns: a sequential scan, a hot region, writes anywhere. The log is written from one end to the other."""
    rng = np.random.default_rng(worker)
    place = np.arange(count)
    phase = place * 6 // count + worker
    blocks: NDArray[np.int64] = np.where(
        phase % 3 == 0,
        place * 5 % (_DISK_BYTES // 4096),
        np.where(
            phase % 3 == 1,
            (np.abs(rng.normal(0, 1 << 16, count)).astype(np.int64) + phase * (1 << 17))
            % (_DISK_BYTES // 4096),
            rng.integers(0, _DISK_BYTES // 4096, count),
        ),
    )
    kind = np.where((phase % 3 == 2) & (rng.random(count) < 0.7), _WRITE, _READ)
    if worker == 2:
        blocks, kind = place * 4, np.where(place % 16 == 0, _READ, _WRITE)
    length = np.where(rng.random(count) < 0.1, 65536, 4096)
    return Load(
        f"worker {worker}",
        _DISK_BYTES,
        kind.astype(np.uint8),
        blocks.astype(np.uint64) * np.uint64(4096),
        length.astype(np.uint64),
    )


def large_page(tape: Path, page: Path) -> int:
    """Draws it; how much memory that took, MiB."""
    code = (
        "import resource, sys\n"
        "from ringtape.tape.plot import write_plot\n"
        "write_plot(sys.argv[1], sys.argv[2])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tape, page], check=True, capture_output=True, text=True
    )
    return int(done.stdout)
