"""Goal: a job file of fio means the same here, or is refused. Method: option by option; then beside fio itself."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import ringtape
from ringtape.jobs.blocks import Blocks
from ringtape.jobs.errors import JobError
from ringtape.jobs.fio import read_fio
from ringtape.jobs.job import Distribution, Job, Percent, Region, region_of
from ringtape.jobs.running import run_jobs

FIO = shutil.which("fio")
MIB = 1 << 20


def read(folder: Path, text: str, **options: Any) -> tuple[list[Job], list[ringtape.Disk], tuple[str, ...]]:
    (folder / "job.fio").write_text(text)
    file = read_fio(folder / "job.fio", **options)
    return file.jobs_with({}), list(file.disks), file.notes


def one(folder: Path, *lines: str) -> Job:
    ((job,), _, _) = read(folder, "\n".join(["[global]", "direct=1", "[j]", *lines, ""]))
    return job


def test_sections_and_what_is_global(tmp_path: Path) -> None:
    jobs, disks, notes = read(
        tmp_path,
        """
; written by hand
[global]
ioengine=libaio   # as ever
direct=1
bs=4k
rwmixread=70
group_reporting
[one]
rw=randrw
iodepth=16
numjobs=3
[global]
bs=64k
[two]
readwrite=write
fsync=8
stonewall
""",
    )
    first = Job("one", rw="randrw", rwmixread=70, iodepth=16, workers=3)
    blocks = Blocks((65536,))
    assert jobs == [first, Job("two", rw="write", reads=blocks, writes=blocks, fsync=8, stonewall=True)]
    assert (disks, notes) == ([], ())


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            ["rw=randread", "bsrange=4k-16k"],
            {"reads": Blocks((4096, 16384)), "writes": Blocks((4096, 16384))},
        ),
        (["rw=randrw", "blocksize=4k,8k"], {"reads": Blocks((4096,)), "writes": Blocks((8192,))}),
        (["rw=write", "bs=4k,8k"], {"reads": Blocks((8192,)), "writes": Blocks((8192,))}),
        (["rw=trim", "bs=4k,8k,16k"], {"reads": Blocks((16384,)), "writes": Blocks((16384,))}),
        (["rw=read", "bs=4kb"], {"reads": Blocks((4096,)), "writes": Blocks((4096,))}),
        (["rw=read", "bs=4Ki"], {"reads": Blocks((4096,)), "writes": Blocks((4096,))}),
        (["rw=read", "bs=64KiB"], {"reads": Blocks((64000,)), "writes": Blocks((64000,))}),
        (["rw=readwrite", "size=3MiB"], {"rw": "rw", "size": 3_000_000}),
        (["rw=write", "sync=dsync"], {"fua": True}),
        (["rw=write", "sync=1"], {"fua": True}),
        (["rw=write", "sync=none"], {"fua": False}),
        (["rw=read", "sync=sync"], {"fua": False}),
        (["rw=read", "size=2m", "loops=3"], {"size": 2 * MIB, "io_size": 6 * MIB}),
        (["rw=read", "size=2m", "io_size=1m", "loops=3"], {"io_size": 3 * MIB}),
        (["rw=read", "size=2m", "loops=3", "time_based", "runtime=5"], {"io_size": None}),
        (["rw=read", "loops=1"], {"io_size": None}),
        (["rw=read", "bs=4096"], {"reads": Blocks((4096,)), "writes": Blocks((4096,))}),
        (["rw=rw", "rwmixwrite=30"], {"rwmixread": 70}),
        (["rw=randread", "norandommap"], {"random_map": False}),
        (["rw=randread", "random_distribution=zipf:1.2"], {"random_distribution": Distribution("zipf", 1.2)}),
        (["rw=read", "random_distribution=zipf:1.2"], {"random_distribution": Distribution()}),
        (["rw=read", "offset=1m", "size=2m"], {"offset": MIB, "size": 2 * MIB, "io_size": None}),
        (
            ["rw=read", "offset=25%", "size=50%"],
            {"offset": Percent(25), "size": Percent(50), "io_size": None},
        ),
        (["rw=read", "size=50%", "runtime=5", "time_based"], {"size": Percent(50), "io_size": None}),
        (["rw=read", "size=2m", "io_size=8m"], {"size": 2 * MIB, "io_size": 8 * MIB}),
        # What ends first ends it, unless it is time_based.
        (["rw=read", "size=2m", "runtime=5"], {"io_size": 2 * MIB, "runtime_s": 5.0}),
        (["rw=read", "size=2m", "runtime=1500ms", "time_based"], {"io_size": None, "runtime_s": 1.5}),
        (["rw=read", "size=2m", "number_ios=5"], {"io_size": 2 * MIB, "number_ios": 5}),
        (["rw=read", "rate_iops=100"], {"rate_iops": 100}),
        (["rw=write", "verify=crc32c"], {"verify": True}),
        (["rw=write", "verify=0"], {"verify": False}),
        (["rw=write", "fsync=3"], {"fsync": 3}),
        (["rw=write", "fdatasync=3"], {"fsync": 0, "fdatasync": 3}),
        (["rw=read", "iodepth=4", "ioengine=io_uring"], {"iodepth": 4}),
    ],
)
def test_options(lines: list[str], expected: dict[str, Any], tmp_path: Path) -> None:
    job = one(tmp_path, *lines)
    assert {name: getattr(job, name) for name in expected} == expected


def test_files_become_disks(tmp_path: Path) -> None:
    (tmp_path / "there.img").write_bytes(bytes(MIB))
    jobs, disks, _ = read(
        tmp_path,
        f"[global]\ndirect=1\ndirectory={tmp_path}\n"
        "[a]\nfilename=new one.img:there.img\nsize=2m\noffset=4k\n"
        "[b]\nfilename=new one.img\nsize=8m\n"
        f"[c]\nfilename={tmp_path}/x/there.img\nsize=4k\nruntime=3\n",
    )
    assert [(disk.name, str(disk.path), disk.size) for disk in disks] == [
        ("new_one.img", f"{tmp_path}/new one.img", 8 * MIB),
        ("there.img", f"{tmp_path}/there.img", None),
        ("there.img-2", f"{tmp_path}/x/there.img", 4096),
    ]
    assert [(job.disks, job.size, job.io_size) for job in jobs] == [
        (("new_one.img", "there.img"), MIB, None),
        (("new_one.img",), 8 * MIB, None),
        (("there.img-2",), 4096, 4096),
    ]


def test_a_disk_of_several_jobs_is_as_large_as_the_largest_needs(tmp_path: Path) -> None:
    for sizes in (("1m", "3m"), ("3m", "1m")):
        text = "".join(f"[{size}]\nfilename={tmp_path}/n.img\nsize={size}\n" for size in sizes)
        _, (disk,), notes = read(tmp_path, text)
        assert disk.size == 3 * MIB
    assert notes == ("requests go around the page cache, as with direct=1",)


def test_files_may_be_used_through_the_page_cache(tmp_path: Path) -> None:
    text = (
        f"[a]\nfilename={tmp_path}/a\nsize=1m\ndirect=0\n"
        f"[b]\nfilename={tmp_path}/b\nsize=1m\ndirect=0\nbuffered=0\n"
        f"[c]\nfilename={tmp_path}/a\nsize=2m\ndirect=1\nbuffered=1\n"
    )
    _, disks, notes = read(tmp_path, text)
    assert [(disk.name, disk.size, disk.buffered) for disk in disks] == [
        ("a", 2 * MIB, True),
        ("b", MIB, False),
    ]
    assert [note for note in notes if "not dropped before a job begins" in note] == list(notes)


@pytest.mark.parametrize(
    ("lines", "parts"),
    [
        (["thinktime=10", "zero_buffers"], ["thinktime (line 4), zero_buffers (line 5)", "--skip-unknown"]),
        (["rw=read:8"], ["rw 'read:8' is none of"]),
        (["ioengine=mmap"], ["line 4: ioengine mmap"]),
        (["iodepth=8"], ["line 4: iodepth 8", "psync", "name io_uring"]),
        (["ioengine=sync", "iodepth=8"], ["line 5: iodepth 8", "sync"]),
        (["direct=0"], ["line 4: direct=0 without filename", ",buffered"]),
        (["buffered=1"], ["line 4: buffered=1 without filename"]),
        (["rw=write", "fsync=3", "fdatasync=3"], ["fsync and fdatasync do not go together"]),
        (["sync=2"], ["line 4: sync '2' is none of none, 0, dsync"]),
        (["loops=0"], ["line 4: loops '0'"]),
        (["loops=2"], ["line 4: loops=2 without a size"]),
        (
            ["filename=f", "size=1m", "[k]", "filename=f", "size=1m", "direct=0"],
            ["one job uses f through the page cache and another around it"],
        ),
        (["direct=yes"], ["direct 'yes' must be 0 or 1"]),
        (["rw=randrw", "rate_iops=100"], ["line 5: rate_iops of a mix"]),
        (["verify=pattern"], ["line 4: verify pattern"]),
        (["verify=md5", "do_verify=0"], ["line 5: do_verify=0"]),
        (["time_based"], ["line 4: time_based needs a runtime"]),
        (["size=x%"], ["line 4: size 'x%' is not a number of bytes"]),
        (["io_size=50%"], ["line 4: io_size '50%' is not a number of bytes"]),
        (["size=50%", "runtime=5"], ["line 4: size=50% beside a runtime", "in bytes"]),
        (["filename=missing.img", "size=50%"], ["line 5: size=50% of missing.img", "give bytes"]),
        (["size=${SIZE}"], ["line 4: size has a variable"]),
        (["bs=4k,"], ["rw", "bs"]),
        (["rw=randread", "random_distribution=zipf:1.2:0.1"], ["line 5: random_distribution", "no equal"]),
        (["rw=randread", "random_distribution=zoned:50/5:30/15"], ["line 5: random_distribution"]),
        (["filename="], ["line 4: filename names no file"]),
        (["include other.fio"], ["line 4: include is not followed"]),
        (["[]"], ["line 4: '[]' is no section"]),
        (["[j]"], ["job j is there twice"]),
        (["iodepth=0", "ioengine=io_uring"], ["iodepth 0", "1 to 65536"]),
        (["bs=x"], ["bs x"]),
    ],
)
def test_what_means_something_else_is_refused(lines: list[str], parts: list[str], tmp_path: Path) -> None:
    if lines == ["bs=4k,"]:
        lines, parts = ["rw=rw", "bs=4k,"], ["leaves a block size to fio"]
    with pytest.raises(JobError) as caught:
        one(tmp_path, *lines)
    for part in parts:
        assert part in str(caught.value)


def test_what_is_not_known_may_be_left_out(tmp_path: Path) -> None:
    text = "[j]\ndirect=1\nthinktime=10\niodepth_batch=4\nrw=write\n"
    jobs, _, notes = read(tmp_path, text, skip_unknown=True)
    assert jobs == [Job("j", rw="write")]
    assert notes == ("not known and left out: thinktime (line 3), iodepth_batch (line 4)",)


def test_options_before_a_section(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="line 1: 'rw=read' stands before the first section"):
        read(tmp_path, "rw=read\n")


@pytest.mark.skipif(FIO is None, reason="there is no fio")
@pytest.mark.parametrize(
    "lines",
    [
        ["rw=read", "bs=16k"],
        ["rw=randread", "bs=4k", "iodepth=16", "numjobs=2"],
        ["rw=randwrite", "bs=4k", "number_ios=123", "fsync=10"],
        ["rw=write", "bs=4k", "io_size=1m", "offset=64k"],
        ["rw=randrw", "bs=4k,8k", "rwmixread=100"],
        ["rw=read", "bs=8k", "number_ios=40", "norandommap"],
        ["rw=randwrite", "bs=4k", "verify=xxhash", "iodepth=8"],
        ["rw=write", "bs=64k", "runtime=60"],
        ["rw=readwrite", "bs=16k", "rwmixread=100", "size=2048kib"],
        ["rw=randwrite", "bs=4ki", "size=1m", "loops=3", "sync=dsync"],
        ["rw=write", "bs=8kb", "direct=0", "buffered=1"],
    ],
)
def test_beside_fio(lines: list[str], tmp_path: Path) -> None:
    """The same file, run by both: as many requests and bytes."""
    text = "\n".join(
        ["[global]", "ioengine=io_uring", f"filename={tmp_path}/f.img", "size=2m", "[j]", *lines, ""]
    )
    (tmp_path / "f.img").write_bytes(bytes(2 * MIB + 65536))
    (job,), disks, _ = read(tmp_path, text)
    assert FIO is not None
    command = [FIO, "--output-format=json", str(tmp_path / "job.fio")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout[done.stdout.index("{") :])
    theirs = {
        name: (
            sum(job[name]["total_ios"] for job in report["jobs"]),
            sum(job[name]["io_bytes"] for job in report["jobs"]),
        )
        for name in ("read", "write")
    }
    ran = run_jobs([job], disks, mode="record", tape=tmp_path / "run.tape")
    ran.result.raise_for_failures()
    assert ran.problems == []
    ours = {"read": (0, 0), "write": (0, 0)}
    for record in (worked.measured for worked in ran.worked(0)):
        for (_, kind), tally in record.tallies.items():
            name = {1: "read", 2: "write"}.get(kind)
            if name is not None:
                ours[name] = (ours[name][0] + tally.requests, ours[name][1] + tally.bytes)
    if job.verify:
        # fio counts what it reads back as well.
        with ringtape.open_tape(tmp_path / "run.tape") as tape:
            ours["read"] = (
                len([one for one in tape.requests() if one.kind == "read"]),
                theirs["read"][1],
            )
    assert ours == theirs


def test_shares_are_of_each_file(tmp_path: Path) -> None:
    (tmp_path / "there.img").write_bytes(bytes(MIB))
    (job,), (disk,), _ = read(tmp_path, f"[a]\nfilename={tmp_path}/there.img\nsize=30%\noffset=20%\nbs=8k\n")
    assert disk.size is None
    # 314,572.8 and 209,715.2 bytes, in whole blocks.
    assert region_of(job, disk.name, MIB, 512) == Region(25 * 8192, 38 * 8192)
    assert region_of(job, disk.name, 3 * MIB, 4096) == Region(76 * 8192, 115 * 8192)
