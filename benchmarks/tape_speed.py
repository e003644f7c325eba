"""How many requests a second a tape takes and gives, on one core, from and to columns.

`python -m ringtape.benchmarks.tape_speed` prints a line for each size of message. Writing is `TapeWriter` from
columns in memory to a file in memory (`/dev/shm` where there is one); reading is `TapeReader.blocks`, which unpacks
and checks every column; the table is `iter_table`, joined rows. Beside each: the time as a multiple of what `zstd -3`
takes to compress, or decompress, the same rows as plain columns. Process time is measured, so that a busy machine
changes little; the best of some rounds counts.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import zstandard

from ringtape.benchmarks import tapes
from ringtape.coordinator.tape import TapeReader, TapeWriter, iter_table
from ringtape.proto import tape_pb2

WRITE_TARGET, READ_TARGET = 3e6, 5e6  # requests a second
ROUNDS = 3
ZSTD_PIECE_BYTES = 1 << 20


def seconds(action: Callable[[], object]) -> float:
    """Of process time, at best."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.process_time()
        action()
        best = min(best, time.process_time() - start)
    return best


def plain_bytes(messages: list[tapes.Step]) -> bytes:
    """The columns of the messages, as they come."""
    return b"".join(
        (step.requests.SerializeToString() if step.requests else b"")
        + (step.completions.SerializeToString() if step.completions else b"")
        for step in messages
    )


def write(path: Path, load: tapes.Load, messages: list[tapes.Step]) -> None:
    """The whole tape."""
    with TapeWriter(path, tapes.header_of(load)) as tape:
        tapes.give(tape, messages)
        tape.seal(tape_pb2.Seal(end=tape_pb2.Seal.END_FINISHED))


def read(path: Path) -> int:
    """Every block, unpacked and checked."""
    with TapeReader.open(path) as reader:
        return sum(block.request_count for block in reader.blocks())


def read_table(path: Path) -> int:
    """Every request, with its completion and release."""
    with TapeReader.open(path) as reader:
        return sum(len(rows) for rows in iter_table(reader))


def zstd_seconds(plain: bytes) -> tuple[float, float]:
    """To compress and to decompress, at level 3, in pieces that a cache holds."""
    compressor, decompressor = zstandard.ZstdCompressor(level=3), zstandard.ZstdDecompressor()
    pieces = [plain[at : at + ZSTD_PIECE_BYTES] for at in range(0, len(plain), ZSTD_PIECE_BYTES)]
    stored = [compressor.compress(piece) for piece in pieces]
    return (
        seconds(lambda: [compressor.compress(piece) for piece in pieces]),
        seconds(lambda: [decompressor.decompress(piece) for piece in stored]),
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="Requests a second, to and from tapes of level `order`.")
    parser.add_argument("--requests", type=int, default=400_000)
    count = parser.parse_args().requests
    shared = Path("/dev/shm")
    print(f"targets: {WRITE_TARGET:.0f} written and {READ_TARGET:.0f} read a second, from and to columns")
    print("requests a message    written/s  × zstd -3     read/s  × zstd -d    table/s")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        path = Path(folder) / "t"
        for depth, batch in ((8192, (4096, 4096)), (1024, (256, 512)), (64, (10, 60)), (1, (1, 1))):
            load = tapes.random_reads(count if batch[0] > 1 else count // 8)
            messages = list(tapes.steps(load, depth=depth, batch=batch))
            zstd_write, zstd_read = zstd_seconds(plain_bytes(messages))
            written = seconds(lambda load=load, messages=messages: write(path, load, messages))  # type: ignore[misc]
            was_read, table = seconds(lambda: read(path)), seconds(lambda: read_table(path))
            rows = len(load.kind)
            print(
                f"{f'{batch[0]}-{batch[1]}':<18} {rows / written:>12,.0f} {written / zstd_write:>10.1f}"
                f" {rows / was_read:>10,.0f} {was_read / zstd_read:>10.1f} {rows / table:>10,.0f}"
            )


if __name__ == "__main__":
    main()
