"""How much memory it takes to write, read, verify, seek in and dump a long tape, each in a process of its own.

`python -m ringtape.benchmarks.tape_memory` makes a tape of `--requests` (100 million) and prints, for each use of it,
the most memory that the process had, how long it took, and how many bytes a request the tape has. Dumping writes a
line a row and takes minutes for millions: `--dump-requests` says how many the tape that is dumped has. The tape goes
into `--folder`, takes some 4 bytes a request there, and is removed again. Exits with 1 where a use takes 300 MiB.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ringtape.benchmarks import tapes
from ringtape.coordinator.tape import TapeReader, TapeWriter, iter_table, verify
from ringtape.proto import messages_pb2, tape_pb2

MEMORY_MIB_MAX = 300
BATCH = 256  # requests a message; as many again are in flight
BLOCK_BYTES = 4096
DISK_BLOCKS = 1 << 18


def messages(count: int) -> Iterator[tapes.Step]:
    """Random reads, one message after another, never more than a few at once in memory."""
    rng = np.random.default_rng(1)
    length = np.full(BATCH, BLOCK_BYTES, dtype=np.uint64).tobytes()
    kind = bytes((messages_pb2.KIND_READ,)) * BATCH
    at_ns = made = 0
    while made < count:
        offset = rng.integers(DISK_BLOCKS, size=BATCH, dtype=np.uint64) * np.uint64(BLOCK_BYTES)
        requests = messages_pb2.Requests(
            kind=kind, flags=bytes(BATCH), disk=bytes(2 * BATCH), offset=offset.tobytes(), length=length
        )
        # Nearly in the order of submission, as disks complete.
        order = np.argsort(np.arange(BATCH) + rng.exponential(8, BATCH), kind="stable")
        sequence = order.astype(np.uint64) + np.uint64(made)
        completions = messages_pb2.Completions(sequence=sequence.tobytes(), result=length)
        done_ns = at_ns + 300_000 + int(rng.integers(100_000))
        yield tapes.Step(requests, BATCH, at_ns, completions, BATCH, done_ns, sequence, done_ns + 20_000)
        made += BATCH
        at_ns = done_ns + 30_000


def write(path: Path, count: int) -> str:
    """The tape."""
    none = np.zeros(0, dtype=np.uint64)
    header = tapes.header_of(
        tapes.Load("random", DISK_BLOCKS * BLOCK_BYTES, none.astype(np.uint8), none, none)
    )
    with TapeWriter(path, header) as tape:
        tapes.give(tape, messages(count))
        tape.seal(tape_pb2.Seal(end=tape_pb2.Seal.END_FINISHED))
        return f"{tape.request_count:,} requests"


def read(path: Path, count: int) -> str:
    """Every block, unpacked and checked."""
    with TapeReader.open(path) as reader:
        return f"{sum(block.request_count for block in reader.blocks()):,} requests"


def table(path: Path, count: int) -> str:
    """Every request, joined with its completion and release."""
    with TapeReader.open(path) as reader:
        return f"{sum(len(rows) for rows in iter_table(reader)):,} rows"


def verified(path: Path, count: int) -> str:
    """Every frame, block and snapshot."""
    report = verify(path)
    return f"{report.blocks:,} blocks, {'sound' if report.sound else 'damaged'}"


def seek(path: Path, count: int) -> str:
    """A request near the end, and a checkpoint in the middle."""
    with TapeReader.open(path) as reader:
        late = next(reader.blocks(reader.seek(request_id=count * 9 // 10)))
        middle = next(reader.blocks(reader.seek(worker=0, checkpoint=count // BATCH // 2)))
        return f"blocks {late.number:,} and {middle.number:,}"


def dump(path: Path, count: int) -> str:
    """Every row as a line of text."""
    command = [sys.executable, "-m", "ringtape", "tape", "dump", str(path)]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return f"{count:,} requests"


USES: dict[str, Callable[[Path, int], str]] = {
    "write": write,
    "read": read,
    "table": table,
    "verify": verified,
    "seek": seek,
    "dump": dump,
}


def in_this_process(use: str, path: Path, count: int) -> None:
    """Prints the most MiB, the seconds, and what was done."""
    start = time.perf_counter()
    done = USES[use](path, count)
    who = resource.RUSAGE_CHILDREN if use == "dump" else resource.RUSAGE_SELF
    mib = resource.getrusage(who).ru_maxrss / 1024
    print(f"{mib:.0f}\t{time.perf_counter() - start:.1f}\t{done}")


def main() -> None:
    """Prints a line a use."""
    parser = argparse.ArgumentParser(description="Memory and time that a long tape takes, by use.")
    parser.add_argument("--requests", type=int, default=100_000_000)
    parser.add_argument("--dump-requests", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where there is room for the tape")
    parser.add_argument("--use", choices=USES, help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.use is not None:
        in_this_process(given.use, given.path, given.requests)
        return
    missed = False
    print("use        MiB   seconds   what")
    with tempfile.TemporaryDirectory(prefix="ringtape-", dir=given.folder) as folder:
        path = Path(folder) / "t"
        for use in USES:
            count = given.requests
            if use == "dump":
                count = min(count, given.dump_requests)
                write(path, count)
            command = [sys.executable, "-m", "ringtape.benchmarks.tape_memory", "--use", use]
            command += ["--path", str(path), "--requests", str(count)]
            said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            mib, seconds, what = said.rstrip("\n").split("\t")
            missed = missed or float(mib) >= MEMORY_MIB_MAX
            size = f"; {os.path.getsize(path) / count:.2f} bytes each" if use == "write" else ""
            print(f"{use:<8} {mib:>5} {seconds:>9}   {what}{size}", flush=True)
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
