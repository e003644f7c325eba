"""Goal: the demo shows what it promises. Method: run it as users do, hold its words against its tapes, and paste the
commands that it ends with.
"""

from __future__ import annotations

import dataclasses
import errno
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import ringtape
from ringtape import demo
from ringtape.console import Exit
from ringtape.coordinator.tape import RequestRow, TapeReader, iter_rows
from ringtape.coordinator.words import kind_name
from ringtape.examples import pipeline
from tests.api.command_line import SCRIPT, TIMEOUT_S, check_one_line, started, without_io_uring
from tests.api.command_line import ringtape as command

DIGEST = re.compile(r"^ *(first|second|recorded|replay \d) +\d+ +[\d.]+ +([0-9a-f]{32})(?:  the same)? *$")
REQUEST = re.compile(r"^ (.) +(\d+) +(\d+)   (\S.*?) +(\d+)   (\S.*?) *$")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the demo makes its own folder."""
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def shown(folder: Path) -> list[str]:
    """The lines that the demo prints to a pipe."""
    done = command("demo", cwd=folder, TMPDIR=str(folder))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def commands_in(lines: Sequence[str]) -> list[str]:
    return [line.strip() for line in lines if line.startswith((f"  {SCRIPT} ", "  rm "))]


def digests_in(lines: Sequence[str]) -> dict[str, str]:
    return {found[1]: found[2] for line in lines if (found := DIGEST.match(line))}


def tapes(folder: Path) -> tuple[Path, Path]:
    [kept] = folder.glob("ringtape-demo-*")
    return kept / "first.tape", kept / "second.tape"


def requests(tape: Path) -> list[RequestRow]:
    with TapeReader.open(tape) as reader:
        return [row for row in iter_rows(reader) if isinstance(row, RequestRow)]


def test_fits_a_terminal_and_a_pipe(shown: list[str], folder: Path) -> None:
    """At most 80 columns, but for what is to be copied as a whole, and no control codes."""
    copied = {f"  {line}" for line in (*commands_in(shown), str(tapes(folder)[0].parent), pipeline.__file__)}
    for line in shown:
        assert len(line.rstrip()) <= 80 or line in copied
        assert line.isprintable()


def test_the_tapes_hold_the_digests_that_it_shows(shown: list[str], folder: Path) -> None:
    digests = digests_in(shown)
    first, second = (sealed_digest(tape) for tape in tapes(folder))
    assert first != second
    assert digests == {"first": first, "second": second, "recorded": first} | {
        f"replay {n}": first for n in (1, 2, 3)
    }
    assert sum("  the same" in line for line in shown if DIGEST.match(line)) == 3


def sealed_digest(tape: Path) -> str:
    with TapeReader.open(tape) as reader:
        seal = reader.find_seal()
        assert seal is not None
        return str(seal.digest)


def test_shows_the_first_request_that_differs(shown: list[str], folder: Path) -> None:
    """The marked request is the first in which its worker differs, and every row shows what is on the tapes."""
    rows = [found.groups() for line in shown if (found := REQUEST.match(line))]
    [marked] = [row for row in rows if row[0] == ">"]
    [worker] = [int(found[1]) for line in shown if (found := re.search(r"requests of worker (\d+)", line))]
    one, other = ([row for row in requests(tape) if row.worker == worker] for tape in tapes(folder))

    at = int(marked[1]) - 1
    assert [as_made(row) for row in one[:at]] == [as_made(row) for row in other[:at]]
    assert as_made(one[at]) != as_made(other[at])
    assert f"The first {at} requests of worker {worker}" in "\n".join(shown)

    assert [int(row[1]) for row in rows] == list(range(at + 1 - demo.ROWS_BEFORE, at + 2 + demo.ROWS_AFTER))
    for _, number, *cells in rows:
        for row, id_, words in zip(
            (one[int(number) - 1], other[int(number) - 1]), cells[::2], cells[1::2], strict=True
        ):
            assert int(id_) == row.id
            for part in (
                kind_name(row.kind),
                row.disk,
                f"{row.length // 1024}K",
                f"at {row.offset // 1024}K",
            ):
                assert part in words.split(" #")[0]


def as_made(row: RequestRow) -> tuple[object, ...]:
    return row.kind, row.disk, row.offset, row.length, row.flags, row.digest


def test_its_commands_work_when_pasted(shown: list[str], folder: Path, tmp_path: Path) -> None:
    """In a shell that is somewhere else, in their order; the last one leaves nothing."""
    pasted = [(line, paste(line, tmp_path)) for line in commands_in(shown)]
    replay, info, dump, other, record, remove = (done for _, done in pasted)
    digest = digests_in(shown)["recorded"]
    for (line, done), code in zip(pasted, (0, 0, 0, Exit.NOT_EXACT, 0, 0), strict=True):
        assert done.returncode == code, f"{line}: {done.stderr}"
    assert digest in replay.stdout
    assert digest in info.stdout
    assert dump.stdout.count("request ") > 100
    assert "divergence" in other.stderr
    assert "scrub found damage" in record.stderr
    assert remove.stdout == remove.stderr == ""
    assert list(folder.iterdir()) == list(tmp_path.iterdir()) == []


def paste(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", line],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def test_without_io_uring_it_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    done = command("demo", cwd=tmp_path, launcher=without_io_uring(errno.ENOSYS), TMPDIR=str(tmp_path))
    check_one_line(done, Exit.NO_RING, "io_uring")
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with started("demo", cwd=tmp_path) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().startswith("One program")
        process.stdout.close()
        process.stdout = None
        _, errors = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, errors) == (0, "")
    assert list(tmp_path.iterdir()) == []


# ---- what hardly ever happens


@pytest.fixture
def one_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every recording comes out as the first one; the tapes that were asked for."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    record = ringtape.record
    made: list[ringtape.Result] = []
    asked: list[str] = []

    def record_once(*args: object, tape: str, **kwargs: object) -> ringtape.Result:
        asked.append(Path(tape).name)
        if not made:
            made.append(record(*args, tape=tape, **kwargs))  # type: ignore[arg-type]
        return made[0]

    monkeypatch.setattr("ringtape.runs.record", record_once)
    return asked


def test_recordings_that_do_not_differ_are_made_again(
    one_recording: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.main() == Exit.DONE
    assert one_recording == ["first.tape"] + ["second.tape"] * demo.ATTEMPTS_MAX
    assert "by a rare chance" in capsys.readouterr().out


def test_a_replay_that_is_not_exact_is_shown(
    one_recording: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    replay = ringtape.replay
    monkeypatch.setattr(
        "ringtape.replaying.replay",
        lambda tape: dataclasses.replace(replay(tape), returns=["something else"]),
    )
    assert demo.main() == Exit.NOT_EXACT
    lines = capsys.readouterr().out.splitlines()
    assert sum("NOT THE SAME" in line for line in lines) == demo.REPLAYS
    assert not any("A digest covers" in line for line in lines)


def test_no_temporary_folder_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    with pytest.raises(ringtape.DiskError, match="temporary folder: No such file"):
        demo.main()


def test_a_run_that_fails_leaves_what_there_is_and_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(demo, "DISK_SIZE", "64K")
    with pytest.raises(ringtape.ProgramFailed, match="each disk needs"):
        demo.main()
    [kept] = tmp_path.iterdir()
    assert (kept / "first.tape").exists()
    assert f"  {kept}" in capsys.readouterr().out.splitlines()


def test_the_commands_call_ringtape_as_it_was_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "bin" / "ringtape"
    script.parent.mkdir()
    script.touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    for called, command_line in (
        (str(script), [str(script)]),
        ("bin/ringtape", [str(script)]),
        ("api/__main__.py", [sys.executable, "-m", "ringtape"]),
        ("-c", [sys.executable, "-m", "ringtape"]),
    ):
        monkeypatch.setattr(sys, "argv", [called, "demo"])
        assert demo._command() == command_line, called
    monkeypatch.setenv("PATH", str(script.parent))
    monkeypatch.setattr(sys, "argv", [str(script), "demo"])
    assert demo._command() == ["ringtape"]


def test_a_folder_of_any_name_is_quoted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "it's [bold] here; $HOME"
    demo._show_commands(Console(highlight=False), str(folder))
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert str(folder) in lines
    assert [sys.executable, "-m", "ringtape", "replay", f"{folder}/first.tape"] in map(
        shlex.split, filter(lambda line: line.startswith(sys.executable), lines)
    )


# ---- finding the difference


@given(st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2)))
def test_the_first_difference_has_the_same_before_it_and_something_else_at_it(
    one: list[int], other: list[int]
) -> None:
    place = demo.first_difference(one, other)
    if place is None:
        assert one == other
    else:
        assert one[:place] == other[:place]
        assert one[place : place + 1] != other[place : place + 1]


def test_requests_that_only_take_turns_otherwise_are_no_difference() -> None:
    def course(worker: int, ids: list[int], offsets: list[int]) -> demo.Course:
        return demo.Course(
            [demo.Made(i, worker, 1, "a", o, 4096, 0, None) for i, o in zip(ids, offsets, strict=True)]
        )

    one = [course(0, [1, 2], [0, 4096]), course(1, [3, 4], [0, 8192])]
    assert demo.parted(one, [course(0, [3, 4], [0, 4096]), course(1, [1, 2], [0, 8192])]) is None
    assert demo.parted(one, [course(0, [3, 4], [0, 8192]), course(1, [1, 2], [4096, 8192])]) == (0, 1)
    assert demo.parted(one, [course(0, [1, 2], [0, 4096]), course(1, [3], [0])]) == (1, 1)
