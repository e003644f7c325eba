"""Goal: cost over size compares the same job at other sizes, within its time, and says what it left out.

Method: jobs, disks and costs on numbers made up here; one quick run along two axes beside a real fio.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ringtape.benchmarks import fio, sizes_report
from ringtape.benchmarks.__main__ import app
from ringtape.benchmarks.jobs import JOBS, Measurement
from ringtape.benchmarks.sizes import AXES, Point, Sizes, Survey, job_of, targets_of
from ringtape.benchmarks.targets import Setup, Target

SURVEY = Survey(list(AXES), "tmpfs", 3, 1.0, Setup(1 << 20))


def test_one_thing_varies_along_an_axis() -> None:
    base = JOBS["volume"]
    many = [Target("tmpfs", "a file", str(number)) for number in range(16)]
    one = Target("tmpfs", "a file", "one")
    seen = set()
    for axis, values in AXES.items():
        for value in values:
            job, targets = job_of(axis, value), targets_of(axis, value, one, many)
            changed = {
                "depth": job.depth if job.depth != base.depth else None,
                "block": job.block_bytes if job.block_bytes != base.block_bytes else None,
                "workers": job.workers if job.workers != 1 else None,
                "disks": len(targets) if len(targets) != job.workers else None,
            }
            assert {name for name, other in changed.items() if other} <= {axis}
            seen |= {(name, other) for name, other in changed.items() if other}
    assert {name for name, _ in seen} == {"depth", "block", "workers", "disks"}
    assert {("depth", 256), ("block", 1 << 20), ("workers", 16), ("disks", 16)} <= seen


def sizes_of(*points: Point) -> Sizes:
    found = Sizes(SURVEY, fio.Fio("/usr/bin/fio", "3.33"))
    found.points += points
    found.left_out.append("length 10000000: it takes 90 s, and 3 are left")
    return found


def point(axis: str, value: int, *ns: float) -> Point:
    return Point(axis, value, [{"plain": Measurement(1000, one * 1000 / 1e9)} for one in ns])


FOUND = (
    point("length", 10_000, 400, 500, 600),
    point("length", 100_000, 200, 200, 200),
    point("length", 1_000_000, 240, 300, 360),
)


def test_growth_is_the_far_end_over_the_least() -> None:
    found = sizes_of(*FOUND)
    assert found.growth("length", "plain") == pytest.approx(1.5)
    assert found.growth("length", "record") is None
    assert found.growth("disks", "plain") is None


def test_tables_have_what_was_measured_and_what_was_left_out() -> None:
    text = sizes_report.markdown(sizes_of(*FOUND))
    assert "| 1,000,000 |  | 300 (240…360) |  |" in text
    assert "Cost at the most length, as a multiple of the least on that axis: plain 1.50." in text
    assert "Left out: length 10000000: it takes 90 s, and 3 are left" in text
    assert "requests under way" not in text


def test_a_chart_of_sizes_is_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from ringtape.benchmarks import charts

    charts.draw_sizes(sizes_of(*FOUND, point("depth", 1, 900)), tmp_path / "chart.svg")
    text = (tmp_path / "chart.svg").read_text()
    assert text.startswith("<?xml") and text.count('<g id="axes_') == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--axes", "width"], "width"),
        (["--target", "all"], "--target all"),
        (["--minutes", "0"], "--minutes 0"),
        (["--rounds", "0"], "--rounds 0"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_2(arguments: list[str], says: str) -> None:
    done = CliRunner().invoke(app, ["sizes", *arguments])
    assert done.exit_code == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(shutil.which("fio") is None, reason="needs fio")
def test_a_quick_run_measures_along_its_axes_and_leaves_nothing(tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    command = [sys.executable, "-m", "ringtape.benchmarks", "sizes", "--quick", "--target", "file"]
    more = ["--axes", "disks,length", "--folder", str(tmp_path), "--json", str(output), "--size", "16M"]
    done = subprocess.run([*command, *more], capture_output=True, text=True, timeout=100, check=False)
    if done.returncode == 5 or "O_DIRECT" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    found = json.loads(output.read_text())
    assert found["complete"]
    for one in found["points"]:
        names = {"fio", "plain", "record"} if one["axis"] == "disks" else {"plain", "record"}
        assert set(one["ns"]) == names
    assert [one["value"] for one in found["points"]] == [*AXES["disks"], AXES["length"][0]]
    assert len(found["left_out"]) == len(AXES["length"]) - 1
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]
