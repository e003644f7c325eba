"""Reads whatever atheris comes up with as a tape: `python tests/fuzz/fuzz_tape.py tests/data`, with atheris.

Not run with the tests, which do the same with Hypothesis from tapes that are nearly whole. The first byte says what
the bytes after it are: a whole file, or the payload of one frame behind a right checksum, which gets past the frames.
"""

import contextlib
import sys
import tempfile
from pathlib import Path

import atheris  # type: ignore[import-not-found, unused-ignore]

with atheris.instrument_imports():
    from ringtape.coordinator.tape import TapeReader, frames, iter_rows, iter_table, verify
    from ringtape.proto import messages_pb2, tape_pb2
    from ringtape.proto.errors import TapeError

HEADER = tape_pb2.Header(workers=2, data=messages_pb2.DATA_LEVEL_ORDER)
HEADER.disks.add(name="a", size=1 << 30, block_size=512)
ENCODER = frames.FrameEncoder()
START = frames.encode_file_header() + ENCODER.encode(frames.FrameType.HEADER, HEADER.SerializeToString())
PATH = Path(tempfile.mkdtemp()) / "t"


def read(data: bytes) -> None:
    """Anything but a TapeError is a find."""
    type_, payload = data[:1], data[1:]
    if type_ and type_[0] in iter(frames.FrameType):
        payload = START + ENCODER.encode(frames.FrameType(type_[0]), payload)
    PATH.write_bytes(payload)
    for use in (lambda reader: list(iter_rows(reader)), lambda reader: list(iter_table(reader))):
        with contextlib.suppress(TapeError), TapeReader.open(PATH) as reader:
            use(reader)
    with contextlib.suppress(TapeError), TapeReader.open(PATH) as reader:
        reader.seek(request_id=2)
    with contextlib.suppress(TapeError):
        verify(PATH)


if __name__ == "__main__":
    atheris.Setup(sys.argv, read)
    atheris.Fuzz()
