"""Goal: `ringtape bench` runs what is described, and whatever cannot be is one clear line before a disk is touched.

Method: the installed script, on files made here.
"""

from __future__ import annotations

import json
import typing
from pathlib import Path

import pytest
import typer.main

import ringtape as api
from ringtape import cli, cli_bench
from ringtape.jobs.job import PATTERNS
from ringtape.jobs.options import OPTIONS
from ringtape.settings import Data
from tests.api.command_line import check_one_line, ringtape, snapshot

DISK = "a=a.img,size=4M"

JOBS = """
[global]
bs = "16k"
rwmixread = 70

[disks]
a = "a.img,size=4M,fresh"
b = "b.img,size=1M,fresh"

[job.fill]
rw = "write"
disks = ["b"]

[job.mix]
rw = "randrw"
iodepth = 8
number_ios = 100

[job.check]
rw = "read"
disks = ["b"]
stonewall = true
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.img").write_bytes(bytes(range(256)) * 16384)
    (tmp_path / "jobs.toml").write_text(JOBS)
    return tmp_path


def test_the_command_line_offers_what_there_is() -> None:
    assert {one.value for one in cli_bench.Pattern} == set(PATTERNS)
    assert {one.value for one in cli_bench.Data} == set(typing.get_args(Data))
    (command,) = (
        command
        for name, command in typer.main.get_command(cli.app).commands.items()  # type: ignore[attr-defined]
        if name == "bench"
    )
    given = {parameter.name for parameter in command.params}
    # Which disks a job goes to, and when it begins, makes a difference in files only.
    assert set(OPTIONS) - {"disks", "stonewall"} <= given


def test_a_recording_replays(folder: Path) -> None:
    options = [
        "--rw",
        "randrw",
        "--iodepth",
        "16",
        "--workers",
        "2",
        "--number-ios",
        "300",
        "--verify",
        "--seed",
        "4",
    ]
    done = ringtape("bench", *options, "--disk", "a=a.img,fresh", "-o", "bench.tape", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "next: ringtape replay bench.tape"
    info = json.loads(ringtape("tape", "info", "bench.tape", "--json", cwd=folder).stdout)
    again = ringtape("replay", "bench.tape", cwd=folder)
    assert again.returncode == 0, again.stderr
    assert info["digest"] in again.stdout
    with api.open_tape(folder / "bench.tape") as tape:
        assert (tape.header.workers, tape.header.seed) == (2, 4)


def test_a_plain_run_leaves_no_tape(folder: Path) -> None:
    before = snapshot(folder)
    done = ringtape("bench", "--rw", "randread", "--number-ios", "100", "--disk", "a=a.img", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert snapshot(folder) == before


def test_a_file_of_jobs_and_options_that_count_more(folder: Path) -> None:
    done = ringtape(
        "bench", "--job", "jobs.toml", "--bs", "32k", "--disk", "b=c.img,size=2M", "-o", "t", cwd=folder
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not (folder / "b.img").exists()
    with api.open_tape(folder / "t") as tape:
        made = [(one.worker, one.disk, one.kind, one.length) for one in tape.requests()]
    assert made.count((0, "b", "write", 32768)) == made.count((0, "b", "read", 32768)) == 64
    assert len([one for one in made if one[0] == 1]) == 100
    assert {one[3] for one in made} == {32768}


def test_data_that_is_not_what_it_should_be(folder: Path) -> None:
    disk = ["--disk", "a=a.img", "--verify", "--iodepth", "4"]
    assert ringtape("bench", "--rw", "write", *disk, cwd=folder).returncode == 0
    with (folder / "a.img").open("r+b") as file:
        file.seek(8192)
        file.write(bytes(4096))
    done = ringtape("bench", "--rw", "read", *disk, cwd=folder)
    check_one_line(done, 1, "job bench, worker 0: disk a, 4096 bytes at 8192: expected", "found zeros")


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--iodepth", "0"], ["iodepth 0", "1 to 65536"]),
        (["--iodepth", "65537"], ["iodepth 65537"]),
        (["--iodepth", "x"], ["--iodepth", "integer"]),
        (["--rw", "readwrite"], ["--rw", "readwrite"]),
        (["--bs", "8M"], ["a block size of 8388608", "disk 'a'", "4194304"]),
        (["--bs", "1000"], ["bs 1000", "512"]),
        (["--bs", "4k/50:8k/20"], ["bs 4k/50:8k/20", "70 %"]),
        (["--bs", "4k,8k"], ["bs goes with a mix of reads and writes"]),
        (["--rw", "randrw", "--rwmixread", "120"], ["rwmixread 120", "0 to 100"]),
        (["--rwmixread", "50"], ["rwmixread goes with a mix"]),
        (["--workers", "0"], ["workers 0"]),
        (["--size", "8M"], ["size 8388608", "disk 'a'", "4194304"]),
        (["--size", "big"], ["size 'big'", "a size"]),
        (["--size", "1k"], ["a block size of 4096 is more than size 1024"]),
        (["--offset", "4M"], ["a block size of 4096", "0 bytes from offset 4194304"]),
        (["--offset", "-4096"], ["offset '-4096'"]),
        (["--offset", "100"], ["offset 100", "block size"]),
        (["--size", "0%"], ["size 0% must be more than 0 to 100 percent"]),
        (["--size", "101%"], ["size 101%"]),
        (["--size", "x%"], ["size 'x%'", "50%"]),
        (["--offset", "-1%"], ["offset '-1%'"]),
        (["--offset", "100%"], ["a block size of 4096", "0 bytes from offset"]),
        (["--offset", "50%", "--size", "75%"], ["size 75% from offset 50% is more than disk 'a' has"]),
        (["--runtime", "0"], ["runtime 0"]),
        (["--runtime", "soon"], ["runtime 'soon'", "seconds"]),
        (["--number-ios", "0"], ["number_ios 0"]),
        (["--rate-iops", "0"], ["rate_iops 0"]),
        (["--io-size", "0"], ["io_size 0"]),
        (["--rw", "write", "--fsync", "-1"], ["fsync -1"]),
        (["--fsync", "3"], ["fsync goes with writes", "read"]),
        (["--fua"], ["fua goes with writes"]),
        (["--random-distribution", "zipf:1"], ["random_distribution goes with random places"]),
        (["--rw", "randread", "--random-distribution", "zipf"], ["'zipf'", "theta"]),
        (["--rw", "randread", "--random-distribution", "zipf:-1"], ["'zipf:-1'", "above 0"]),
        (["--rw", "randread", "--random-distribution", "pareto:1"], ["'pareto:1'", "below 1"]),
        (["--rw", "randread", "--random-distribution", "gauss:1"], ["'gauss:1'", "normal:SIGMA"]),
        (["--rw", "randread", "--random-distribution", "normal:nan"], ["'normal:nan'"]),
        (["--rw", "randread", "--bs", "4k-8k", "--random-map"], ["random_map", "one block size"]),
        (["--rw", "trim", "--verify"], ["verify", "trim"]),
        (["--rw", "write", "--verify", "--workers", "2000"], ["workers 2000"]),
        (
            ["--verify", "--workers", "1024", "--bs", "8k"],
            ["a block size of 8192", "4096 bytes for each of 1024"],
        ),
        (["--data", "full"], ["--data goes with a recording"]),
        (["--strict"], ["--strict goes with a recording"]),
        (["--mode", "plain", "-o", "t"], ["--output goes with a recording"]),
        (["--skip-unknown"], ["--skip-unknown goes with --from-fio"]),
        (["--job", "jobs.toml", "--from-fio", "jobs.toml"], ["give one"]),
        (["--disk", "b=missing.img"], ["disk 'b'", "missing.img"]),
        (["--seed", "-1"], ["seed -1"]),
        (["--disk", "a=other.img,size=4M"], ["'a'", "given twice"]),
        (["--workers", "2", "--disk", "b=b.img,size=4M,workers=0"], ["worker 1 needs disk 'b'"]),
    ],
)
def test_what_cannot_be_is_refused_before_a_disk_is_touched(
    options: list[str], parts: list[str], folder: Path
) -> None:
    jobs = "--job" in options
    (folder / "jobs.toml").write_text(JOBS.replace("a.img,size=4M,fresh", "a.img"))
    before = snapshot(folder)
    disks = [] if jobs else ["--disk", "a=a.img,fresh", "--disk", "new=new.img,size=4M"]
    done = ringtape("bench", *options, *disks, cwd=folder)
    check_one_line(done, 2, *parts)
    assert snapshot(folder) == before


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("iodepth", "iodeth", ["jobs.toml: job mix", "'iodeth'", "did you mean iodepth?"]),
        ("bs =", "block =", ["jobs.toml: global", "'block'"]),
        ("[disks]", "[disk]", ["'disk'", "did you mean disks?"]),
        ('disks = ["b"]', 'disks = ["c"]', ["job fill", "no disk 'c'", "a, b"]),
        ('disks = ["b"]', 'disks = ["b", "b"]', ["job fill", "twice"]),
        ('disks = ["b"]', 'disks = "b"', ["disks 'b'", "a list of names"]),
        ("iodepth = 8", "iodepth = 8.5", ["job mix: iodepth 8.5", "a whole number"]),
        ("iodepth = 8", "iodepth = true", ["job mix: iodepth True"]),
        ("stonewall = true", "stonewall = 1", ["stonewall 1", "true or false"]),
        ('rw = "randrw"', 'rw = "mix"', ["job mix: rw 'mix' is none of read, write"]),
        ('rw = "read"', 'rw = "read"\nfsync = 3', ["job check: fsync goes with writes"]),
        ("[job.fill]", "[job]\nfill = 3\n[job.other]", ["job.fill must be a table"]),
        ('b = "b.img', "b = 3 #", ["disk b is text"]),
        ('b = "b.img,size=1M,fresh"', 'b = "b.img,size=1M,frsh"', ["frsh"]),
        ('b = "b.img,size=1M', 'b = "b.img,size=4k', ["job fill: a block size of 16384", "4096 bytes"]),
        ("[job.fill]", "[job.fill", ["is not TOML"]),
    ],
)
def test_a_bad_file_of_jobs(old: str, new: str, parts: list[str], folder: Path) -> None:
    assert old in JOBS
    (folder / "jobs.toml").write_text(JOBS.replace(old, new, 1))
    before = snapshot(folder)
    check_one_line(ringtape("bench", "--job", "jobs.toml", cwd=folder), 2, *parts)
    assert snapshot(folder) == before


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (b"", ["there is no job"]),
        (b"\x80\x81", ["is not text"]),
        (b"# " + b"x" * (1 << 20), ["is larger than"]),
    ],
)
def test_what_is_no_file_of_jobs(text: bytes, parts: list[str], tmp_path: Path) -> None:
    (tmp_path / "jobs").write_bytes(text)
    for option in ("--job", "--from-fio"):
        check_one_line(ringtape("bench", option, "jobs", cwd=tmp_path), 2, "jobs", *parts)
        check_one_line(ringtape("bench", option, "missing", cwd=tmp_path), 2, "missing cannot be read")


def test_a_job_needs_a_disk(tmp_path: Path) -> None:
    check_one_line(ringtape("bench", "--rw", "read", cwd=tmp_path), 2, "there is no disk", "--disk NAME=PATH")
