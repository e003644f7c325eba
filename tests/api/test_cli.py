"""Goal: the command line does what its help says. Method: the installed script on real files, read as users do."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ringtape import __version__
from tests.api.command_line import (
    SCRIPT,
    TIMEOUT_S,
    check_one_line,
    make_programs,
    plain_environment,
    record,
    ringtape,
    started,
)

DISK = "a=a.img,size=1M,fresh"
RESULT_KEYS = {
    "mode",
    "digest",
    "requests",
    "checkpoints",
    "returns",
    "failures",
    "elapsed_s",
    "seed",
    "tape",
    "ended",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_programs(tmp_path)
    return tmp_path


def result_of(done: subprocess.CompletedProcess[str], code: int = 0) -> dict[str, Any]:
    """The one JSON object that is all of standard output."""
    assert done.returncode == code, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    assert result.keys() == RESULT_KEYS
    assert done.stdout.count("\n") == 1
    return result


# ---- record, replay, run


def test_a_recording_replays_to_the_same_digest(folder: Path) -> None:
    recorded = result_of(ringtape("record", "prog.py", "-d", DISK, "-w", "2", "--json", cwd=folder))
    replayed = result_of(ringtape("replay", "run.tape", "-o", "again.tape", "--json", cwd=folder))
    again = result_of(ringtape("replay", "again.tape", "--json", cwd=folder))
    assert recorded["requests"] == 22
    assert (recorded["mode"], recorded["tape"], recorded["ended"]) == ("record", "run.tape", "finished")
    assert (replayed["mode"], replayed["tape"], again["tape"]) == ("replay", "again.tape", None)
    for same in ("digest", "requests", "checkpoints", "returns", "seed"):
        assert recorded[same] == replayed[same] == again[same], same


def test_without_json_the_result_is_for_people(folder: Path) -> None:
    recorded = ringtape("record", "prog.py", "--disk", DISK, "-o", "other.tape", "--seed", "7", cwd=folder)
    assert recorded.returncode == 0, recorded.stderr
    assert "printed by worker 0\n" in recorded.stdout
    assert recorded.stdout.endswith("next: ringtape replay other.tape\n")
    for fact in (r"digest +[0-9a-f]{32}", r"requests +11 ", r"checkpoints +\d", r"elapsed +0\.", r"seed +7"):
        assert re.search(fact, recorded.stdout), fact
    replayed = ringtape("replay", "other.tape", cwd=folder)
    assert replayed.returncode == 0, replayed.stderr
    assert "exact: same digest as the recording\n" in replayed.stdout
    digest = re.compile("digest +([0-9a-f]{32})")
    assert digest.findall(recorded.stdout) == digest.findall(replayed.stdout)


def test_a_disk_that_was_there_has_to_be_put_back_and_the_command_says_so(folder: Path) -> None:
    (folder / "a.img").write_bytes(bytes(1 << 20))
    recorded = ringtape("record", "prog.py", "--disk", "a=a.img", cwd=folder)
    assert "next: put back what was on a, then ringtape replay run.tape" in recorded.stdout
    check_one_line(ringtape("replay", "run.tape", cwd=folder), 2, "disk 'a'", "--force")
    (folder / "copy.img").write_bytes(bytes(1 << 20))
    elsewhere = ringtape("replay", "run.tape", "--disk", "a=copy.img", cwd=folder)
    assert "exact: same digest" in elsewhere.stdout, elsewhere.stderr
    assert ringtape("replay", "run.tape", "--force", cwd=folder).returncode == 0


def test_json_is_all_of_standard_output_while_workers_print(folder: Path) -> None:
    for command in (
        ("record", "prog.py", "-d", DISK),
        ("run", "prog.py", "-d", DISK),
        ("replay", "run.tape"),
    ):
        workers = () if command[0] == "replay" else ("-w", "2")
        done = ringtape(*command, *workers, "--json", cwd=folder)
        result_of(done)
        for worker in (0, 1):
            assert f"printed by worker {worker}\n" in done.stderr
            assert f"[{worker}] worker {worker} has []\n" in done.stderr


def test_json_is_all_of_standard_output_when_a_returned_value_brings_its_module(folder: Path) -> None:
    # To show the value, its module is imported where the result is printed.
    module = "print('imported', flush=True)\nclass Own: pass\ndef main(io): return Own()\n"
    (folder / "talks.py").write_text(module)
    done = ringtape("run", "talks:main", "--json", cwd=folder)
    assert "talks.Own object at" in result_of(done)["returns"][0]
    assert done.stderr == "imported\nimported\n"


def test_run_keeps_no_tape(folder: Path) -> None:
    result = result_of(ringtape("run", "prog.py", "x", "--disk", DISK, "--json", cwd=folder))
    assert (result["mode"], result["digest"], result["tape"]) == ("plain", None, None)
    assert result["requests"] == 11
    assert result["returns"][0]["arguments"] == ["x"]
    assert not (folder / "run.tape").exists()
    people = ringtape("run", "prog.py", "--disk", DISK, cwd=folder)
    assert re.search(r"\nran\n  requests +11 ", people.stdout)


def test_arguments_are_strings_wherever_the_options_stand(folder: Path) -> None:
    for words, arguments in (
        (("--seed", "1", "prog.py:arguments", "one", "2"), ["one", "2"]),
        (("prog.py:arguments", "one", "--seed", "1", "2"), ["one", "2"]),
        (("prog.py:arguments", "--seed", "1", "--", "--workers", "-2"), ["--workers", "-2"]),
    ):
        assert result_of(ringtape("run", "--json", *words, cwd=folder))["returns"] == [arguments]


def test_a_module_is_found_from_the_current_directory(folder: Path) -> None:
    (folder / "package").mkdir()
    (folder / "package" / "__init__.py").touch()
    (folder / "package" / "module.py").write_text("import prog\ndef go(io): return prog.__name__\n")
    recorded = result_of(ringtape("record", "package.module:go", "--json", cwd=folder))
    assert recorded["returns"] == ["prog"]
    assert result_of(ringtape("replay", "run.tape", "--json", cwd=folder))["digest"] == recorded["digest"]


def test_what_json_cannot_say_of_a_returned_value_is_its_repr(folder: Path) -> None:
    result = result_of(ringtape("run", "prog.py:odd_returns", "-w", "4", "--json", cwd=folder))
    assert result["returns"] == ["nan", "b'bytes'", "{'set': {1}}", None]


def test_a_program_that_raises_is_exit_code_1_in_record_and_replay(folder: Path) -> None:
    recorded = ringtape("record", "prog.py:raises", "x", "-d", DISK, "-w", "3", "--json", cwd=folder)
    replayed = ringtape("replay", "run.tape", "--json", cwd=folder)
    assert result_of(recorded, 1)["digest"] == result_of(replayed, 1)["digest"]
    failure = result_of(recorded, 1)["failures"][1]
    assert (failure["worker"], failure["exception"], failure["refused"]) == (1, "ValueError", False)
    for done in (recorded, replayed):
        line, *traceback = done.stderr.splitlines()
        assert line.startswith(f"ringtape: error: worker 0 raised ValueError at {folder}/prog.py:")
        assert line.endswith(": as asked by ['x'] (as did workers 1, 2)")
        assert traceback[0] == "Traceback (most recent call last):"
        assert '    raise ValueError(f"as asked\\nby {io.arguments}")' in traceback
        # The program's own frame and none of ringtape's.
        assert done.stderr.count('  File "') == 1


def test_a_program_that_can_never_go_on_is_exit_code_3(folder: Path) -> None:
    check_one_line(ringtape("record", "prog.py:stuck", cwd=folder), 3, "worker 0 raised", "every task waits")
    check_one_line(ringtape("replay", "run.tape", cwd=folder), 3, "worker 0 raised", "every task waits")


def test_a_worker_that_dies_is_exit_code_1(folder: Path) -> None:
    check_one_line(ringtape("record", "prog.py:dies", cwd=folder), 1, "worker 0 ", "exit status 7")
    replayed = ringtape("replay", "run.tape", cwd=folder)
    assert replayed.returncode == 0, replayed.stderr
    assert "exact as far as the tape goes" in replayed.stdout
    assert "exit status 7" in replayed.stdout


def test_a_divergence_is_exit_code_3_and_shows_both_sides_and_the_program(folder: Path) -> None:
    record(folder, "prog.py:changes_its_mind", disks=[DISK])
    (folder / "changed").touch()
    done = ringtape("replay", "run.tape", cwd=folder)
    assert done.returncode == 3, done.stderr
    line, tape, program, mark, here, *stack = done.stderr.splitlines()
    assert line.startswith("ringtape: error: divergence in worker 0 after checkpoint 1, request id 2: ")
    assert tape == "  the tape has      write of 4096 bytes at 4096 on disk 'a'"
    assert program == "  the program made  write of 4096 bytes at 8192 on disk 'a'"
    assert mark == " " * tape.index("4096 on") + "^"
    assert here == "the program was here:"
    assert stack[-2].startswith(f'  File "{folder}/prog.py", line ')
    assert 'io.disk("a").write(8192 if' in stack[-1]
    assert len(stack) == 2


def test_a_changed_source_is_a_warning(folder: Path) -> None:
    record(folder, "prog.py:arguments")
    with (folder / "prog.py").open("a") as file:
        file.write("# another line\n")
    done = ringtape("replay", "run.tape", cwd=folder)
    assert done.returncode == 0
    assert done.stderr.startswith(f"ringtape: warning: {folder}/prog.py has changed since the recording")
    (folder / "prog.py").rename(folder / "moved.py")
    assert ringtape("replay", "run.tape", "-p", "moved.py:arguments", cwd=folder).returncode == 0


# ---- tapes


def test_info_and_dump_agree_with_the_run(folder: Path) -> None:
    command = ("record", "prog.py", "x y", "-d", DISK, "-d", "b=b.img,size=1M", "-w", "2", "--seed", "5")
    result = result_of(ringtape(*command, "--json", cwd=folder))
    info = json.loads(ringtape("tape", "info", "run.tape", "--json", cwd=folder).stdout)
    assert info["ended"] == "finished"
    for same in ("digest", "requests", "checkpoints", "seed", "tape", "elapsed_s"):
        assert info[same] == result[same], same
    assert info["program"] == f"{folder}/prog.py:main"
    assert (info["workers"], info["arguments"], info["data"]) == (2, "['x y']", "digest")
    assert (info["log_lines"], info["captured"], info["programs_ended"], info["programs_raised"]) == (
        2,
        2,
        2,
        0,
    )
    assert info["bytes"] == (folder / "run.tape").stat().st_size
    a, b = info["disks"]
    assert (a["name"], a["size"], a["fresh"], b["name"], b["made"]) == ("a", 1 << 20, True, "b", True)
    assert a["kinds"] == {
        "read": {"requests": 2, "bytes": 8192, "moved_bytes": 8192},
        "write": {"requests": 16, "bytes": 65536, "moved_bytes": 65536},
        "write_zeroes": {"requests": 2, "bytes": 8192, "moved_bytes": 0},
        "fsync": {"requests": 2, "bytes": 0, "moved_bytes": 0},
    }
    assert b["kinds"] == {}

    lines = ringtape("tape", "dump", "run.tape", "--json", cwd=folder).stdout.splitlines()
    rows = [json.loads(line) for line in lines]
    requests = [row for row in rows if row["row"] == "request"]
    assert [row["id"] for row in requests] == list(range(1, result["requests"] + 1))
    assert [row["number"] for row in rows if row["row"] == "token"] == list(range(1, info["checkpoints"] + 1))
    assert sorted(i for row in rows if row["row"] == "token" for i in row["released"]) == [
        r["id"] for r in requests
    ]
    assert sorted(row["id"] for row in rows if row["row"] == "completion") == [r["id"] for r in requests]
    assert {row["text"] for row in rows if row["row"] == "log"} == {f"worker {i} has ['x y']" for i in (0, 1)}
    assert [row["raised"] for row in rows if row["row"] == "outcome"] == [False, False]
    fsync = next(row for row in requests if row["kind"] == "fsync")
    assert (fsync["covers"], fsync["offset"], fsync["disk"]) == (8, 0, "a")


def test_info_and_dump_for_people(folder: Path) -> None:
    record(folder, "prog.py", disks=[DISK])
    info = ringtape("tape", "info", "run.tape", cwd=folder).stdout
    assert info.startswith("run.tape: a recording, ")
    assert re.search(
        rf"\ndisk a: {folder}/a.img, 1,048,576 bytes, blocks of \d+, file, (direct, )?fresh\n", info
    )
    assert re.search(r"\n  write +8 +32,768 bytes\n", info)
    dump = ringtape("tape", "dump", "run.tape", cwd=folder).stdout
    assert dump.count(": write a offset ") == 8
    assert re.search(r"w0 +c0 +request 1: write a offset 0 length 4096 data [0-9a-f]{16}\n", dump)
    assert re.search(r"token 1: releases 1(, \d)*; clock \d+ ns\n", dump)
    assert re.search(r"request 9: fsync a, covers 8\n", dump)
    assert "captured time:time: returned a pickle of " in dump
    assert len(dump.splitlines()) == 1 + 11 + 11 + dump.count("token ") + 1 + 1


def test_dump_into_head_ends_quietly(folder: Path) -> None:
    record(folder, "prog.py:many", "3000", disks=[DISK])
    for form in ((), ("--json",)):
        with started("tape", "dump", "run.tape", *form, cwd=folder) as process:
            assert process.stdout is not None and process.stderr is not None
            assert "request" in process.stdout.readline()
            process.stdout.close()
            assert process.stderr.read() == ""
            assert process.wait(TIMEOUT_S) == 0


@pytest.mark.parametrize(
    "words",
    [("info",), ("stats",), ("stats", "--json"), ("verify",), ("export", "-f", "blkparse")],
    ids=" ".join,
)
def test_nobody_reading_is_no_error(folder: Path, words: tuple[str, ...]) -> None:
    record(folder, "prog.py:arguments")
    with started("tape", words[0], "run.tape", *words[1:], cwd=folder) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert "error" not in process.stderr.read()
        assert process.wait(TIMEOUT_S) == 0


def test_output_that_cannot_be_written_is_an_error(folder: Path) -> None:
    record(folder, "prog.py:arguments")
    for command in (("tape", "info", "run.tape"), ("tape", "dump", "run.tape"), ("replay", "run.tape")):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [SCRIPT, *command],
                cwd=folder,
                env=plain_environment(),
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        check_one_line(done, 2, "cannot write to standard output")


def test_a_tape_without_a_seal_says_so(folder: Path) -> None:
    record(folder, "prog.py", disks=[DISK])
    whole = json.loads(ringtape("tape", "info", "run.tape", "--json", cwd=folder).stdout)
    tape = (folder / "run.tape").read_bytes()
    (folder / "run.tape").write_bytes(tape[: tape.rindex(b"RTfr")])  # the last frame is the seal
    dump = ringtape("tape", "dump", "run.tape", cwd=folder)
    assert (dump.returncode, len(dump.stderr.splitlines())) == (0, 1)
    assert "run.tape is unsealed: the recording was cut after request id 11" in dump.stderr
    info = ringtape("tape", "info", "run.tape", cwd=folder)
    assert (info.returncode, info.stderr) == (0, "")
    assert "unsealed: the recording was cut" in info.stdout
    replayed = ringtape("replay", "run.tape", "--json", cwd=folder)
    assert result_of(replayed)["digest"] == whole["digest"]
    assert result_of(replayed)["ended"] == "the recording was cut after request id 11"


# ---- help, version, what is loaded, progress


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ((), ("record", "replay", "run", "demo", "tape", "--version")),
        (
            ("record",),
            (
                *("--disk", "--workers", "--seed", "--output", "--tape-sync", "--data", "--overlap"),
                *("--json", "PROGRAM"),
            ),
        ),
        (("replay",), ("--disk", "--program", "--output", "--force", "--stall-timeout", "--json")),
        (("run",), ("--disk", "--workers", "--seed", "--json")),
        (("demo",), ()),
        (("tape",), ("info", "dump", "stats", "diff", "cut", "export", "plot", "verify", "repair")),
        (("tape", "info"), ("--json",)),
        (("tape", "dump"), ("--from", "--to", "--disk", "--worker", "--kind", "--requests", "--json")),
        (("tape", "stats"), ("--json",)),
        (("tape", "diff"), ("--ignore", "--context", "--json")),
        (("tape", "cut"), ("--from", "--to", "--output")),
        (
            ("tape", "export"),
            ("--format", "--output", "--path", "--from", "--to", "--disk", "--worker", "--kind"),
        ),
        (("tape", "plot"), ("--output", "--from", "--to")),
        (("tape", "verify"), ("--json",)),
        (("tape", "repair"), ("--output", "--json")),
    ],
)
def test_help_teaches(command: tuple[str, ...], words: tuple[str, ...], tmp_path: Path) -> None:
    done = ringtape(*command, "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for word in words:
        assert word in done.stdout
    if command not in ((), ("demo",), ("tape",)):
        name = " ".join(command)
        assert re.search(rf"\n ringtape {name} \S", done.stdout), "an example"
        assert re.search(r"\n +0  done", done.stdout), "exit codes"


def test_no_command_shows_the_help(tmp_path: Path) -> None:
    for command in ((), ("tape",)):
        done = ringtape(*command, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert "Commands" in done.stdout


def test_no_more_is_loaded_than_the_command_needs(folder: Path) -> None:
    code = (
        "import sys\nfrom ringtape.__main__ import main\nsys.argv[1:] = {words}\n"
        "assert main() == 0\nassert not set(sys.modules) & set({unwanted})"
    )
    for words, unwanted in (
        (["--version"], ["typer", "rich", "numpy", "google.protobuf", "ringtape.conducting"]),
        (["record", "prog.py:arguments"], ["rich", "ringtape.tape.info"]),
        (["tape", "info", "run.tape"], ["rich", "liburing", "ringtape.conducting"]),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code.format(words=words, unwanted=unwanted)],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    version = subprocess.run([sys.executable, "-m", "ringtape", "--version"], capture_output=True, text=True)
    assert version.stdout == f"ringtape {__version__}\n"


def test_a_progress_line_where_standard_error_is_a_terminal(folder: Path) -> None:
    terminal, other_end = pty.openpty()
    line = re.compile(
        r"[1-9][\d,]* requests, [1-9][\d,]*/s, 2 workers running, checkpoint [1-9][\d,]*, \d+ s"
    )
    command = ("record", "prog.py:waits_for_a_file", "-d", DISK, "-w", "2")
    with started(*command, cwd=folder, stderr=other_end) as process:
        os.close(other_end)
        shown = ""
        while not line.search(shown):
            shown += read_terminal(terminal)
        (folder / "enough").touch()
        assert process.stdout is not None
        assert process.stdout.read().startswith("recorded\n")
        assert process.wait(TIMEOUT_S) == 0
        while some := read_terminal(terminal):
            shown += some
    os.close(terminal)
    assert "[0] enough" in shown
    assert "[1] enough" in shown
    *_, last = line.finditer(shown)
    assert "\x1b[2K" in shown[last.end() :], "the line is erased at the end"


def read_terminal(terminal: int) -> str:
    """What comes next; nothing once the other end is closed."""
    assert select.select([terminal], [], [], TIMEOUT_S)[0], "nothing is shown"
    try:
        return os.read(terminal, 65536).decode()
    except OSError:  # how Linux says that the other end is closed
        return ""
