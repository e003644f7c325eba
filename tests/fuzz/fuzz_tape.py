"""Reads whatever atheris comes up with as a tape: `python tests/fuzz/fuzz_tape.py -max_total_time=300`.

Needs `pip install atheris`. Not run with the tests, which do the same with Hypothesis from tapes that are nearly whole.
Arguments are libFuzzer's; a folder among them keeps what was found to be worth trying, between one time and the next.
It begins from the tapes in tests/data and their frames.

An input is a whole file, which is read as it is and once more with every checksum mended; or, where its first byte is
a frame's type (128 more at level `digest`), the payload of one frame behind a right checksum. Anything but a TapeError
is a find, and so are more than 10 s or 300 MiB at once.
"""

import contextlib
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import atheris  # type: ignore[import-not-found, unused-ignore]
import xxhash

with atheris.instrument_imports():
    from ringtape.coordinator.digest import digest_of_tape
    from ringtape.coordinator.tape import TapeReader, frames, iter_rows, iter_table, repair, verify
    from ringtape.proto import messages_pb2, tape_pb2
    from ringtape.proto.errors import TapeError

DATA = Path(__file__).resolve().parents[1] / "data"
AT_LEVEL_DIGEST = 0x80
ENCODER = frames.FrameEncoder()
_SHARED = Path("/dev/shm")
FOLDER = Path(tempfile.mkdtemp(dir=_SHARED if _SHARED.is_dir() else None))


def start_of(level: "messages_pb2.DataLevel") -> bytes:
    """A file up to the end of its header."""
    header = tape_pb2.Header(workers=3, data=level)
    for name in ("a", "b"):
        header.disks.add(name=name, size=1 << 30, block_size=512)
    return frames.encode_file_header() + ENCODER.encode(frames.FrameType.HEADER, header.SerializeToString())


STARTS = {
    0: start_of(messages_pb2.DATA_LEVEL_ORDER),
    AT_LEVEL_DIGEST: start_of(messages_pb2.DATA_LEVEL_DIGEST),
}


def tapes_of(data: bytes) -> Iterator[bytes]:
    """The files that the input stands for."""
    type_ = data[0] & ~AT_LEVEL_DIGEST if data else 0
    if type_ in iter(frames.FrameType):
        yield STARTS[data[0] & AT_LEVEL_DIGEST] + ENCODER.encode(frames.FrameType(type_), data[1:])
    else:
        yield data
        yield mended(data)


def mended(data: bytes) -> bytes:
    """With right magic numbers and checksums, as far as the lengths lead."""
    file = bytearray(data)
    file[: len(frames.MAGIC)] = frames.MAGIC
    offset = frames.FILE_HEADER.size
    while offset + frames.FRAME_HEADER_BYTES <= len(file):
        struct.pack_into("<I", file, offset, frames.FRAME_MAGIC)
        (stored,) = struct.unpack_from("<I", file, offset + 8)
        end = offset + frames.FRAME_HEADER_BYTES + stored
        covered = bytes(file[offset : offset + 16]) + bytes(file[offset + 24 : end])
        struct.pack_into("<Q", file, offset + 16, xxhash.xxh3_64_intdigest(covered))
        offset = end
    return bytes(file)


def read(data: bytes) -> None:
    """Everything there is to do with a tape."""
    for tape in tapes_of(data):
        (FOLDER / "t").write_bytes(tape)
        for use in (
            lambda reader: list(iter_rows(reader)),
            lambda reader: list(iter_table(reader)),
            lambda reader: [
                getattr(run, "columns", run) for block in reader.blocks() for run in block.runs()
            ],
            lambda reader: list(iter_rows(reader, reader.seek(request_id=9))),
            lambda reader: reader.seek(worker=1, checkpoint=2),
            digest_of_tape,
        ):
            with contextlib.suppress(TapeError), TapeReader.open(FOLDER / "t") as reader:
                use(reader)
        with contextlib.suppress(TapeError):
            report = repair(FOLDER / "t", FOLDER / "good")
            after = verify(FOLDER / "good")
            assert after.sound and after.whole == report.whole, (report, after)
        (FOLDER / "good").unlink(missing_ok=True)


def seeds() -> Iterator[bytes]:
    """The tapes that are kept, and each of their frames."""
    for path in sorted(DATA.glob("*.tape")):
        data = path.read_bytes()
        yield data
        offset = frames.FILE_HEADER.size
        while frame := frames.read_frame(
            lambda length, at, data=data: data[at : at + length], offset, len(data)
        ):  # type: ignore[misc]
            yield bytes((frame.type | AT_LEVEL_DIGEST,)) + frames.unpack(frame)
            offset += frame.frame_bytes


if __name__ == "__main__":
    corpus = FOLDER / "seeds"
    corpus.mkdir()
    for number, seed in enumerate(seeds()):
        (corpus / str(number)).write_bytes(seed)
    # Its own memory grows by kilobytes an input: what one allocation takes is what tells.
    limits = ["-rss_limit_mb=4096", "-malloc_limit_mb=300", "-timeout=10", "-max_len=16384"]
    # The first folder is where libFuzzer puts what it finds.
    folders = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    options = [argument for argument in sys.argv[1:] if argument.startswith("-")]
    atheris.Setup([sys.argv[0], *limits, *options, *folders, str(corpus)], read)
    atheris.Fuzz()
