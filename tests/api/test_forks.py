"""Goal: a command that the tests run in a fork does what the script does. Method: run it in both ways.

Every command once at least, so that none rests on what a fork finds loaded; and what a process is given at its start.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from ringtape import cli
from tests import forking
from tests.api.command_line import SCRIPT, finished, make_programs, record, ringtape
from tests.jobs.test_compare import fio_report
from tests.traces.encoders import TEXTS, WRITE, Row, write

ROOT = Path(__file__).parents[2]
DISK = ("--disk", "a=a.img,size=1M,fresh")
TRACE = [Row(number * 1000, WRITE, "a", number * 4096, 4096) for number in range(8)]

# What is found first in a command's line is the command.
COMMANDS = [
    ("--version",),
    ("--help",),
    ("recrod",),
    ("record", "none.py"),
    ("record", "prog.py:raises", "--seed", "1", *DISK),
    ("record", "prog.py", "--seed", "1", "--json", *DISK),
    ("replay", "run.tape"),
    ("run", "prog.py", "--seed", "1", *DISK),
    ("check", "prog.py", "--runs", "1", "--seed", "1", *DISK),
    ("rewind", "undo.tape"),
    ("demo", "--help"),
    ("tape", "info", "run.tape"),
    ("tape", "dump", "run.tape"),
    ("tape", "stats", "run.tape"),
    ("tape", "diff", "run.tape", "undo.tape"),
    ("tape", "cut", "run.tape", "--to", "3", "-o", "cut.tape"),
    ("tape", "export", "run.tape", "-f", "blkparse"),
    ("tape", "plot", "run.tape", "-o", "run.html"),
    ("tape", "verify", "run.tape"),
    ("tape", "repair", "run.tape", "-o", "whole.tape"),
    ("trace", "info", "trace"),
    ("trace", "convert", "trace", "-o", "-"),
    ("trace", "replay", "trace", "--json", *DISK),
    ("bench", "--rw", "write", "--number-ios", "10", "--seed", "1", *DISK),
    ("bench", "--iodepth", "0", *DISK),
    ("bench", "compare", "one.json", "other.json"),
]


# A module that a command imports itself, to show what a program returned, and which tells what it finds.
TELLING = """
import gc, json, os, resource, signal, sys, threading, warnings
main = sys.modules["__main__"]
begins = ("SigBlk", "SigIgn", "Cap", "NoNewPrivs", "Seccomp")
streams = (sys.stdin, sys.stdout, sys.stderr)
def kind(fd):
    try:
        return os.readlink(f"/proc/self/fd/{fd}").split(":")[0]
    except FileNotFoundError:
        return None
named = "name mode encoding errors line_buffering write_through".split()
print(json.dumps({
    "argv": sys.argv,
    "path": sys.path,
    "flags": str(sys.flags),
    "main": getattr(main, "__file__", ""),
    "folder": os.getcwd(),
    "environment": dict(os.environ),
    "umask": os.umask(0o22),
    "nice": os.nice(0),
    "group": os.getpgrp(),
    "session": os.getsid(0),
    "threads": threading.active_count(),
    "descriptors": [kind(fd) for fd in range(1000)],
    "streams": [[str(getattr(stream, name)) for name in named] for stream in streams],
    "status": [line for line in open("/proc/self/status") if line.startswith(begins)],
    "handlers": [str(getattr(one, "__qualname__", one)) for one in map(signal.getsignal, range(1, 65))],
    "limits": [resource.getrlimit(one) for one in range(16)],
    "personality": open("/proc/self/personality").read(),
    "collector": [gc.isenabled(), gc.get_threshold()],
    "warnings": str(warnings.filters),
}), flush=True)
class Own: pass
def main(io): return Own()
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Where commands find their files, and what is put there for each: tapes name files by where they are."""
    here, kept = tmp_path_factory.mktemp("here"), tmp_path_factory.mktemp("kept") / "kept"
    make_programs(here)
    record(here, "prog.py", disks=["a=here.img,size=1M,fresh"])
    record(here, "prog.py", disks=["a=undone.img,size=1M,undo"], tape="undo.tape")
    write(here / "trace", TEXTS["fio-iolog"].encode(TRACE))
    for name, iops in (("one", 1000), ("other", 1500)):
        write(here / f"{name}.json", json.dumps(fio_report(iops)))
    here.rename(kept)
    return here, kept


def by_the_script(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return finished([SCRIPT, *words], cwd)


def shape(text: str) -> str:
    """Without what differs by run: numbers, the units that they bring, and widths."""
    without = re.sub(r"[0-9a-f]*[0-9][0-9a-f.,]*[kM]?( ([nµm]?s|[KM]?i?B)\b)?", "#", text)
    return re.sub(r"[ ─━-]+", " ", without)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_fork_does_what_the_script_does(words: tuple[str, ...], prepared: tuple[Path, Path]) -> None:
    folder, kept = prepared
    outcomes = []
    for run in (by_the_script, ringtape):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(kept, folder)
        done = run(*words, cwd=folder)
        outcomes.append((done.returncode, shape(done.stdout), shape(done.stderr), sorted(os.listdir(folder))))
    assert outcomes[0] == outcomes[1]


def test_every_command_is_among_them() -> None:
    named = {" ".join(words) for words in COMMANDS}
    for command in commands_of(typer.main.get_command(cli.app), ""):
        assert any(f"{name} ".startswith(command.strip() + " ") for name in named), command


def commands_of(command: Any, name: str) -> Iterator[str]:
    for word, below in getattr(command, "commands", {}).items():
        yield from commands_of(below, f"{name} {word}")
    if not hasattr(command, "commands"):
        yield name


def test_a_fork_finds_what_the_script_finds(tmp_path: Path) -> None:
    (tmp_path / "tells.py").write_text(TELLING)
    told = []
    for run in (by_the_script, ringtape):
        done = run("run", "tells:main", "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        (mine,) = (one for one in map(json.loads, done.stderr.splitlines()) if one["argv"][0] == SCRIPT)
        told.append(mine)
    assert told[0] == told[1]


def test_a_command_that_does_not_end_is_killed(tmp_path: Path) -> None:
    make_programs(tmp_path)
    words = ("run", "prog.py:waits_for_a_file", *DISK)
    with pytest.raises(subprocess.TimeoutExpired):
        forking.forker().run(words, tmp_path, forking.plain_environment(), timeout_s=0.5)
    assert ringtape("--version", cwd=tmp_path).stdout.startswith("ringtape ")


def test_what_a_start_imports_is_compiled(tmp_path: Path) -> None:
    """Else every process that a test starts would compile it again: none of them keeps what it compiles."""
    modules = "ringtape.__main__, ringtape.cli, ringtape.runs, ringtape.engine.worker, tests.programs.planned"
    done = finished([sys.executable, "-v", "-c", f"import {modules}"], ROOT)
    assert done.returncode == 0, done.stderr
    loaded = re.findall(rf"^# code object from '?({re.escape(str(ROOT))}/[^'\n]*)", done.stderr, re.MULTILINE)
    assert len(loaded) > 50
    assert [path for path in loaded if not path.endswith(".pyc") and ".venv" not in path] == []
