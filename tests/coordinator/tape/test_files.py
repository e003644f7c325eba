"""What a tape does to files: which it may overwrite, who may use it, and what a full disk leaves of it."""

import os
import resource
import signal
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ringtape.coordinator.tape import (
    TapeDamagedAt,
    TapeEnd,
    TapeReader,
    TapeWriter,
    frames,
    repair,
    verify,
    writer,
)
from ringtape.proto import messages_pb2, tape_pb2
from ringtape.proto.errors import TapeDamaged, TapeError
from tests.coordinator.tape.making import (
    Request,
    all_completed,
    calls_of,
    give,
    make_header,
    make_run,
    request_columns,
    write,
)

SEAL = tape_pb2.Seal(end=tape_pb2.Seal.END_FINISHED)
NOBODY = 65534


def end_of(path: Path) -> TapeEnd | None:
    with TapeReader.open(path) as reader:
        for _ in reader.blocks():
            pass
        return reader.end


def refusal(use: Callable[[], object]) -> str:
    with pytest.raises(TapeError) as caught:
        use()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_tape_is_started_anew(tmp_path: Path) -> None:
    path = tmp_path / "t"
    write(path, make_header(), make_run(1, steps=300), flush_every=3)
    longer = path.stat().st_size
    write(path, make_header(), make_run(2, steps=5))
    assert path.stat().st_size < longer
    assert end_of(path) is TapeEnd.SEALED


def test_an_empty_file_becomes_a_tape(tmp_path: Path) -> None:
    (tmp_path / "t").touch()
    write(tmp_path / "t", make_header(), [])
    assert end_of(tmp_path / "t") is TapeEnd.SEALED


@pytest.mark.parametrize("contents", [b"x", b"RINGTAP", b"ringtape" * 10, bytes(100)])
def test_a_file_that_is_no_tape_is_left_alone(tmp_path: Path, contents: bytes) -> None:
    path = tmp_path / "precious"
    path.write_bytes(contents)
    said = refusal(lambda: TapeWriter(path, make_header()))
    assert said == f"cannot write the tape {path}: it exists and is not a tape"
    assert path.read_bytes() == contents


def test_places_where_no_tape_can_be(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "socket"))
    for name, reason in (
        (".", "it is a folder"),
        ("missing/t", f"there is no folder {tmp_path}/missing"),
        ("pipe", "it is a device, a pipe or a socket, not a file"),
        ("socket", "it is a device, a pipe or a socket, not a file"),
        ("x" * 300, "File name too long"),
    ):
        said = refusal(lambda name=name: TapeWriter(tmp_path / name, make_header()))  # type: ignore[misc]
        assert said == f"cannot write the tape {tmp_path / name}: {reason}"


def test_places_where_no_tape_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("RINGTOPE")
    (tmp_path / "cut").write_bytes(b"RINGT")
    for name, reason in (
        (".", f"cannot read the tape {tmp_path}: it is a folder"),
        ("missing", f"cannot read the tape {tmp_path}/missing: No such file or directory"),
        ("pipe", f"cannot read the tape {tmp_path}/pipe: it is a device, a pipe or a socket, not a file"),
        ("empty", f"{tmp_path}/empty is empty: its recording was killed before it began, or it is no tape"),
        ("text", f"{tmp_path}/text is not a tape"),
    ):
        assert refusal(lambda name=name: TapeReader.open(tmp_path / name)) == reason  # type: ignore[misc]
    with pytest.raises(TapeDamagedAt, match=r"byte 0 \(the header\): the file ends inside its first bytes"):
        TapeReader.open(tmp_path / "cut")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else, whom permissions stop")
def test_permissions_are_named(tmp_path: Path) -> None:
    path = tmp_path / "t"
    write(path, make_header(), [])
    path.chmod(0)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and folder != Path("/") and "pytest" in str(folder):
            folder.chmod(0o755)
    os.seteuid(NOBODY)
    try:
        wrote = refusal(lambda: TapeWriter(path, make_header()))
        read = refusal(lambda: TapeReader.open(path))
        made = refusal(lambda: TapeWriter(tmp_path / "new", make_header()))
    finally:
        os.seteuid(0)
    assert wrote == f"cannot write the tape {path}: Permission denied"
    assert read == f"cannot read the tape {path}: Permission denied"
    assert made == f"cannot write the tape {tmp_path}/new: Permission denied"


def test_a_newer_format_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t"
    write(path, make_header(), [])
    with path.open("r+b") as file:
        file.seek(8)
        version = frames.FORMAT_VERSION + 1
        file.write(struct.pack("<II", version, frames.file_check(version)))
    with pytest.raises(TapeError) as caught:
        TapeReader.open(path)
    assert str(caught.value) == f"{path} is made by a newer ringtape: format 4, this one reads 3"
    assert not isinstance(caught.value, TapeDamaged)


@pytest.mark.parametrize(
    "field",
    [
        struct.pack("<II", *field)
        for field in ((0, 0), (1, 1), (2, 1), (3, 0), (frames.FORMAT_VERSION + 1, 0))
    ],
)
def test_a_format_without_its_check_is_damage(tmp_path: Path, field: bytes) -> None:
    path = tmp_path / "t"
    path.write_bytes(frames.MAGIC + field)
    with pytest.raises(TapeDamagedAt):
        TapeReader.open(path)


def test_a_flip_makes_no_tape_one_of_another_version(tmp_path: Path) -> None:
    """It could hide frames: in version 1 nothing but plain blocks is read, and a recording that was cut has no seal."""
    path = tmp_path / "t"
    write(path, make_header(), make_run(9), seal=False)
    data = bytearray(path.read_bytes())
    for bit in range(8 * 4):
        data[8 + bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        with pytest.raises(TapeDamagedAt):
            TapeReader.open(path)
        data[8 + bit // 8] ^= 1 << bit % 8


def test_two_runs_cannot_write_one_tape(tmp_path: Path) -> None:
    path = tmp_path / "t"
    with TapeWriter(path, make_header()) as first:
        before = path.read_bytes()
        said = refusal(lambda: TapeWriter(path, make_header()))
        assert said == f"cannot write the tape {path}: another run is writing or reading it"
        assert path.read_bytes() == before
        first.seal(SEAL)
    write(path, make_header(), [])


def test_a_tape_is_not_started_anew_while_it_is_read(tmp_path: Path) -> None:
    """A replay that writes its own tape over the one it replays would destroy both."""
    path = tmp_path / "t"
    write(path, make_header(), [])
    with TapeReader.open(path) as reader, TapeReader.open(path):
        assert not reader.being_written
        assert "writing or reading it" in refusal(lambda: TapeWriter(path, make_header()))
    write(path, make_header(), [])


def test_a_tape_can_be_read_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "t"
    row = request_columns([Request(1, 0, 0, 0, 512, 0, 0)])
    tape = TapeWriter(path, make_header())
    tape.begin()
    with tape, TapeReader.open(path) as reader:
        assert reader.being_written
        assert list(reader.blocks()) == []
        tape.requests(0, row, 1, 0)
        tape.flush()
        tape.requests(0, row, 1, 0)
        assert sum(block.request_count for block in reader.blocks()) == 1
        assert reader.end is TapeEnd.UNSEALED
        tape.seal(SEAL)
        assert sum(block.request_count for block in reader.blocks()) == 2
        assert reader.end is TapeEnd.SEALED


def test_closing_keeps_the_rows_and_leaves_no_seal(tmp_path: Path) -> None:
    path = tmp_path / "t"
    calls = make_run(9)
    write(path, make_header(), calls, seal=False)
    with TapeReader.open(path) as reader:
        assert len([call for block in reader.blocks() for call in calls_of(block.runs())]) > 0
        assert reader.end is TapeEnd.UNSEALED


GOOD = Request(1, 0, 0, 0, 512, 0, 0)


@pytest.mark.parametrize(
    ("worker", "row"), [(1, GOOD), (0, Request(7, 0, 0, 0, 512, 0, 0)), (0, Request(5, 0, 0, 0, 512, 0, 0))]
)
def test_what_the_reader_would_refuse_is_not_written(tmp_path: Path, worker: int, row: Request) -> None:
    path = tmp_path / "t"
    with TapeWriter(path, make_header(workers=1)) as tape:
        tape.requests(0, request_columns([GOOD]), 1, 0)
        tape.flush()
        tape.requests(worker, request_columns([row]), 1, 0)
        with pytest.raises(AssertionError, match="does not hold together"):
            tape.flush()
        with pytest.raises(AssertionError, match="has ended"):
            tape.seal(SEAL)
    assert end_of(path) is TapeEnd.UNSEALED


def test_a_header_or_seal_that_the_reader_would_refuse_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "t"
    with pytest.raises(AssertionError, match="names 0 workers"):
        TapeWriter(path, tape_pb2.Header())
    assert not path.exists()
    with TapeWriter(path, make_header()) as tape:
        with pytest.raises(AssertionError, match="ended in way 0"):
            tape.seal(tape_pb2.Seal())
        tape.seal(SEAL)
    assert end_of(path) is TapeEnd.SEALED


def test_columns_of_another_length_are_not_taken(tmp_path: Path) -> None:
    with TapeWriter(tmp_path / "t", make_header()) as tape:
        with pytest.raises(AssertionError, match="columns of other lengths"):
            tape.requests(0, request_columns([GOOD]), 2, 0)
        with pytest.raises(AssertionError, match="columns of other lengths"):
            tape.requests(0, request_columns([GOOD], digests=False), 1, 0)


def test_what_is_too_long_for_a_frame_is_refused_and_the_tape_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real bound is 64 MiB; a small one stands for it."""
    monkeypatch.setattr(writer, "NOTE_BYTES_MAX", 10_000)
    monkeypatch.setattr(frames, "RAW_BYTES_MAX", 12_000)
    path = tmp_path / "t"
    note = messages_pb2.Note(captured=messages_pb2.Captured(name="m:f", pickled=bytes(10_000)))
    with TapeWriter(path, make_header()) as tape:
        said = refusal(lambda: tape.note(1, note, 0))
        assert said.startswith("worker 1 made a captured value of 100")
        tape.note(1, messages_pb2.Note(log="x"), 0)
        tape.seal(SEAL)
    assert end_of(path) is TapeEnd.SEALED
    header = make_header()
    header.arguments = bytes(12_000)
    assert "do not fit on the tape" in refusal(lambda: TapeWriter(path, header))
    assert end_of(path) is TapeEnd.SEALED, "the tape was started anew before the header was looked at"


def test_a_block_too_long_for_a_frame_ends_the_tape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with TapeWriter(tmp_path / "t", make_header()) as tape:
        tape.begin()
        give(tape, all_completed(5001))
        tape.flush()
        monkeypatch.setattr(frames, "RAW_BYTES_MAX", 12_000)
        tape.token(0, 0, 0, 0, 5000, (1,) * 5000, 0)
        said = refusal(tape.flush)
        assert refusal(lambda: tape.seal(SEAL)) == said
    assert end_of(tmp_path / "t") is TapeEnd.UNSEALED


def fill(tape: TapeWriter) -> tuple[TapeError, int]:
    """Writes blocks of 100 requests of random digests until the file takes no more. The error, and the requests."""
    rows = [Request(1, 0, 0, 512 * i, 512, int.from_bytes(os.urandom(8)), 0) for i in range(100)]
    columns = request_columns(rows)
    for _ in range(10_000):
        try:
            tape.requests(0, columns, 100, 0)
            tape.flush()
        except TapeError as error:
            return error, tape.request_count
    pytest.fail("the file system is endless")


def check_full(tape: TapeWriter, path: Path, reason: str) -> None:
    error, requests = fill(tape)
    whole = requests - 100
    assert whole > 0
    assert str(error) == f"{reason} while writing {path}; its first {whole} requests are whole"
    for use in (
        lambda: tape.requests(0, request_columns([]), 0, 0),
        lambda: tape.completions(0, messages_pb2.Completions(), 0, 0),
        lambda: tape.token(0, 0, 0, 0, 0, None, 0),
        lambda: tape.note(0, messages_pb2.Note(log="x"), 0),
        tape.flush,
        lambda: tape.seal(SEAL),
    ):
        with pytest.raises(TapeError) as caught:
            use()
        assert caught.value is error
    assert tape.next_flush_ns() is None
    tape.close()
    with TapeReader.open(path) as reader:
        assert sum(block.request_count for block in reader.blocks()) == whole
        assert reader.end is TapeEnd.UNSEALED


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "ringtape-test", str(tmp_path)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(
            f"a small file system cannot be mounted here (root can): {mounted.stderr.splitlines()[:1]}"
        )
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_full_disk_leaves_whole_blocks(small_disk: Path) -> None:
    path = small_disk / "run.tape"
    with TapeWriter(path, make_header()) as tape:
        check_full(tape, path, "no space left on device")


def test_a_disk_without_room_for_the_header_leaves_nothing(small_disk: Path) -> None:
    path = small_disk / "run.tape"
    header = make_header()
    header.arguments = os.urandom(100_000)
    said = refusal(TapeWriter(path, header).begin)
    assert said == f"no space left on device while writing {path}; its first 0 requests are whole"
    assert path.stat().st_size == 0


def test_a_file_size_limit_leaves_whole_blocks(tmp_path: Path) -> None:
    """The limit cuts a write in the middle: a part of the frame is taken, the rest refused."""
    path = tmp_path / "run.tape"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert signal.getsignal(signal.SIGXFSZ) == signal.SIG_IGN
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with TapeWriter(path, make_header()) as tape:
            check_full(tape, path, "file too large")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("part_bytes", [1, 23, 24, 100])
def test_a_frame_that_is_being_written_is_no_damage(tmp_path: Path, part_bytes: int) -> None:
    """A reader may see the beginning of what one `write` of the run brings; once nobody writes any more it is one."""
    path, frame = tmp_path / "t", frames.FrameEncoder().encode(frames.FrameType.UNDO, os.urandom(1000))
    with TapeWriter(path, make_header()) as tape:
        give(tape, make_run(9))
        tape.flush()
        whole_bytes = path.stat().st_size
        with open(path, "ab") as file:
            file.write(frame[:part_bytes])
        report = verify(path)
        assert (report.sound, report.being_written, report.whole_bytes) == (True, True, whole_bytes)
        assert end_of(path) is TapeEnd.UNSEALED
        repair(path, tmp_path / "copy")
        assert (tmp_path / "copy").stat().st_size == whole_bytes
    assert not verify(path).sound


@pytest.mark.parametrize("before", [None, b"", b"old"])
def test_what_never_began_leaves_the_file_as_it_was(tmp_path: Path, before: bytes | None) -> None:
    path = tmp_path / "t"
    if before == b"old":
        write(path, make_header(), make_run(9), seal=True)
    elif before is not None:
        path.write_bytes(before)
    bytes_before = path.read_bytes() if before is not None else None
    TapeWriter(path, make_header()).abandon()
    assert (path.read_bytes() if path.exists() else None) == bytes_before


def test_dev_full_takes_no_header() -> None:
    said = refusal(TapeWriter("/dev/full", make_header()).begin)
    assert said == "no space left on device while writing /dev/full; its first 0 requests are whole"


def test_dev_null_takes_a_tape() -> None:
    tape = TapeWriter("/dev/null", make_header())
    tape.note(0, messages_pb2.Note(log="x"), 0)
    tape.seal(SEAL)
    tape.close()
