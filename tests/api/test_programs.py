"""Goal: whatever lies beside a program, and whatever it is called, it runs; and what is odd about it is said in a line.

Method: the installed script in folders of files that are in the way, and programs that lie elsewhere in a replay.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import ringtape as api
from ringtape import console
from tests.api.command_line import SCRIPT, check_one_line, finished, record, ringtape

DISK = "a=a.img,size=1M,fresh"
PROGRAM = """
import asyncio
import time

import ringtape


async def main(io):
    io.capture(time.time)
    await asyncio.gather(io.disk("a").write(0, b"x" * 4096), asyncio.sleep(0.001))
    return (await io.disk("a").read(0, 4096))[:1]


def other(io):
    return len(io.disk("a").read(0, 4096))


def submits(io):
    return io.submit([])


def raises(io):
    raise ValueError("as asked")


def starts(io):
    return ringtape.run(other)


class StartsWhenSent:
    def __reduce__(self):
        return ringtape.run, (other,)

    def __call__(self, io):
        return None


def passes(io):
    return io.arguments
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "prog.py").write_text(PROGRAM)
    return tmp_path


@pytest.fixture
def in_the_way(folder: Path) -> Path:
    """With a file for every module of Python, and of what ringtape needs, that must not be imported in its place."""
    for name in {
        *sys.stdlib_module_names,
        "google",
        "liburing",
        "numpy",
        "rich",
        "typer",
        "xxhash",
        "zstandard",
    }:
        (folder / f"{name}.py").write_text(f"raise RuntimeError('this is not {name}')\n")
    return folder


@pytest.mark.parametrize(
    ("program", "returned"), [("prog.py", "b'x'"), ("prog.py:submits", "0"), ("prog.py:raises", None)]
)
def test_files_beside_the_program_are_not_python_s_own(
    program: str, returned: str | None, in_the_way: Path
) -> None:
    for words in (("record", program, "-d", DISK), ("replay", "run.tape"), ("check", program, "-d", DISK)):
        done = finished([SCRIPT, *words], in_the_way)
        if returned is None:
            assert (done.returncode, done.stderr.splitlines()[-1]) == (1, "ValueError: as asked")
            continue
        assert (done.returncode, done.stderr) == (0, "")
        if words[0] != "check":
            assert re.search(rf"^  returned +{returned}$", done.stdout, re.MULTILINE), done.stdout


def test_files_beside_a_tape_of_jobs_are_not_either(in_the_way: Path) -> None:
    """Its program is ringtape's own, and needs more than a worker has when it starts."""
    for words in (
        ("bench", "--rw", "randrw", "--number-ios", "9", "-d", DISK, "-o", "run.tape"),
        ("replay", "run.tape"),
    ):
        done = finished([SCRIPT, *words], in_the_way)
        assert (done.returncode, done.stderr) == (0, "")


def test_the_program_s_own_modules_are_found(folder: Path) -> None:
    (folder / "own_module.py").write_text("def main(io):\n    import own_other\n    return own_other.VALUE\n")
    (folder / "own_other.py").write_text("VALUE = 7\n")
    assert "  returned     7\n" in ringtape("record", "own_module:main", cwd=folder).stdout


def test_folders_that_are_no_packages_lead_to_a_module(folder: Path) -> None:
    """One in another: what such a folder is made of is only found through the outer one."""
    inner = folder / "outer" / "middle" / "inner"
    inner.mkdir(parents=True)
    (inner / "module.py").write_text("def main(io):\n    return 11\n")
    assert "  returned     11\n" in ringtape("record", "outer.middle.inner.module:main", cwd=folder).stdout
    check_one_line(
        ringtape("record", "outer.middle.none.module:main", cwd=folder),
        2,
        "there is no module 'outer.middle.none",
    )


# ---- another program in the replay


def test_a_replay_says_that_a_program_is_not_the_one_recorded(folder: Path) -> None:
    record(folder, "prog.py:other", disks=[DISK])
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "copied.py").write_text(PROGRAM)
    (folder / "edited.py").write_text(PROGRAM + "\n# Edited.\n")
    going_on = "going on, a difference that matters shows as a divergence\n"
    was = f"is not the program that was recorded, {folder}/prog.py:other; {going_on}"
    for program, warning in (
        ("elsewhere/copied.py:other", ""),
        ("edited.py:other", f"ringtape: warning: {folder}/edited.py:other {was}"),
    ):
        done = ringtape("replay", "run.tape", "--program", program, cwd=folder)
        assert (done.returncode, done.stderr) == (0, warning)
    (folder / "prog.py").write_text(PROGRAM + "\n# Changed.\n")
    for words in ((), ("--program", "prog.py:other")):
        done = ringtape("replay", "run.tape", *words, cwd=folder)
        assert done.stderr == (
            f"ringtape: warning: {folder}/prog.py has changed since the recording; "
            "going on, a change that matters shows as a divergence\n"
        )


# ---- runs in runs


def test_a_run_in_a_worker_is_refused_where_the_program_starts_it(folder: Path) -> None:
    line = 1 + PROGRAM.splitlines().index("    return ringtape.run(other)")
    done = ringtape("run", "prog.py:starts", cwd=folder)
    check_one_line(done, 1, f"at {folder}/prog.py:{line}: a run cannot be started from inside a worker")


def test_what_starts_a_run_while_it_is_unpickled_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(folder)
    import prog  # type: ignore[import-not-found]

    starts = prog.StartsWhenSent()
    message = " unpickle in a worker: StartedInWorker: a run cannot be started from inside a worker$"
    with pytest.raises(api.ProgramError, match=f"the program does not{message}"):
        api.record(starts, tape=folder / "run.tape")
    with pytest.raises(api.ProgramError, match=f"the arguments do not{message}"):
        api.record(prog.passes, arguments=starts, tape=folder / "run.tape")
    sys.modules.pop("prog")


# ---- what they returned


class Unshowable:
    def __repr__(self) -> str:
        raise ValueError


def test_what_programs_returned_is_shown_in_a_line_each() -> None:
    assert console.returned_lines([None], 80) == []
    assert console.returned_lines(["x" * 100], 20) == ["'xxxxxxxxxxxxxxxxxx…"]
    assert console.returned_lines([1, None, Unshowable()], 80) == ["worker 0: 1", "worker 2: <Unshowable>"]
    many = console.returned_lines(list(range(100)), 80)
    assert many[-2:] == ["worker 15: 15", "… and 84 more; --json has them all"]
    assert len(many) == console.RETURNS_SHOWN_MAX + 1


def test_the_command_line_shows_what_programs_returned(folder: Path) -> None:
    done = ringtape("record", "prog.py:passes", "word " * 30, "-w", "2", cwd=folder, COLUMNS="60")
    shown = [line for line in done.stdout.splitlines() if "worker" in line]
    text = repr(["word " * 30])
    lines = [f"  returned     worker 0: {text}", f"               worker 1: {text}"]
    assert shown == [line[:59] + "…" for line in lines]
