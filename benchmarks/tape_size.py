"""How many bytes a request takes on a tape, beside how many it would have to take.

`python -m ringtape.benchmarks.tape_size` writes tapes at level `order` through `TapeWriter`, from made-up messages
(see `tapes`) and, where it is at hand, from a real trace (`--trace`, a gzip in blkreplay's format), and prints whole
file sizes. `--requests` sets how many.
Where the kernel has io_uring it makes recordings as well, of the program in `tape_recording` on a sparse file in
`--folder`: what they take depends on the disk, and there is no bound to tell.

The bound is the sum of the empirical entropies of what no reader could foretell, by a model that is fitted to the
data and told for nothing: of each request, its kind, its length, and its offset (log2 of the number of blocks where
offsets are random by construction, 0 where they follow one another, and else the smaller of the entropies of the
offset and of its distance to the end of the request before); of each completion, its rank among the requests in
flight, oldest first; of each message, how many it submits and completes, and the log2 of how many values each of its
three times can take, which are flat by construction. What the model would cost to tell is left out, which for the
few requests and many offsets of the trace is much: no coder reaches that.
"""

import argparse
import bisect
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import ringtape
from ringtape.benchmarks import tapes
from ringtape.benchmarks.tape_recording import reads
from ringtape.coordinator.tape import TapeWriter
from ringtape.proto import tape_pb2

DISK_BYTES = 1 << 30  # of what is read anywhere or from start to end
TARGETS = {"random": 5.0, "sequential": 1.0, "trace": 9.0}  # bytes a request


def entropy(values: NDArray[Any] | list[Any]) -> float:
    """Bits a value."""
    _, counts = np.unique(np.asarray(values), return_counts=True)
    share = counts / counts.sum()
    return float(-(share * np.log2(share)).sum()) + 0.0


def bound_bytes(load: tapes.Load, messages: list[tapes.Step]) -> float:
    """Of each request; see the top of this file."""
    requests = len(load.kind)
    bits = entropy(load.kind) + entropy(load.length)
    if load.name == "random":
        bits += float(np.log2(load.disk_bytes / 4096))
    elif load.name == "trace":
        ends = np.concatenate((np.zeros(1, dtype=np.uint64), (load.offset + load.length)[:-1]))
        bits += min(entropy(load.offset), entropy(load.offset - ends))
    bits += entropy(_ranks(messages))
    per_message = entropy([step.requests_count for step in messages])
    per_message += entropy([step.completions_count for step in messages])
    bits += per_message * len(messages) / requests
    completed = np.array([step.completions_count for step in messages])
    times = np.log2(tapes.SUBMIT_SPREAD_NS) + np.log2(tapes.TOKEN_SPREAD_NS)
    times += np.log2(np.maximum(completed * tapes.REQUEST_SPREAD_NS, 1)).mean()
    return float(bits + times * len(messages) / requests) / 8


def _ranks(messages: list[tapes.Step]) -> list[int]:
    flying: list[int] = []
    made = 0
    ranks = []
    for step in messages:
        flying.extend(range(made, made + step.requests_count))
        made += step.requests_count
        for sequence in step.sequence.tolist():
            rank = bisect.bisect_left(flying, sequence)
            ranks.append(rank)
            del flying[rank]
    return ranks


def measure(path: Path, load: tapes.Load, messages: list[tapes.Step]) -> float:
    """Bytes a request of the whole file."""
    with TapeWriter(path, tapes.header_of(load)) as tape:
        tapes.give(tape, messages)
        tape.seal(tape_pb2.Seal(end=tape_pb2.Seal.END_FINISHED, digest="0" * 32))
    return path.stat().st_size / len(load.kind)


def recorded(folder: Path, requests: int, *, anywhere: bool) -> float:
    """Bytes a request of a real recording. RingtapeError where there can be none."""
    disk = ringtape.Disk("a", folder / "disk", size=DISK_BYTES)
    arguments = (requests, DISK_BYTES, anywhere)
    ringtape.record(reads, disks=[disk], arguments=arguments, tape=folder / "tape", data="order")
    return (folder / "tape").stat().st_size / requests


def main() -> None:
    """Prints a line a load; exits with 1 where a target is missed."""
    parser = argparse.ArgumentParser(description="Bytes a request on a tape, whole file, level `order`.")
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--folder", type=Path, help="on a file system that takes O_DIRECT")
    parser.add_argument("--trace", type=Path, default=tapes.TRACE)
    given = parser.parse_args()
    count = given.requests
    loads = [tapes.random_reads(count), tapes.sequential_reads(count)]
    if given.trace.exists():
        loads.append(tapes.trace_load(given.trace))
    missed = False
    print("bytes a request             target   bound    tape")
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        for load in loads:
            # A sequential reader's disk answers in order; the others' requests overtake one another.
            swaps = 0.0 if load.name == "sequential" else 8.0
            for batch in ((10, 60), (1, 8)):
                messages = list(tapes.steps(load, batch=batch, swaps=swaps))
                size = measure(Path(folder) / "t", load, messages)
                label = f"{load.name}, {batch[0]}-{batch[1]} a message"
                aim = TARGETS[load.name] if batch == (10, 60) else 0.0
                missed = missed or bool(aim and size > aim)
                print(
                    f"{label:<27} {aim or '':>6} {bound_bytes(load, messages):>7.2f} {size:>7.2f}"
                    f"{'  missed' if aim and size > aim else ''}"
                )
        for name, anywhere in (("random", True), ("sequential", False)):
            try:
                size = recorded(Path(folder), count // 5, anywhere=anywhere)
            except ringtape.RingtapeError as error:
                print(f"no recording: {error}")
                break
            missed = missed or size > TARGETS[name]
            print(f"{f'{name}, recorded':<27} {TARGETS[name]:>6} {'':>7} {size:>7.2f}")
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
