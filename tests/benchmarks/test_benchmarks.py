"""Goal: the benchmarks compare what they say they compare.

Method: everything that can be wrong without a clock is checked on numbers made up here: reading fio's report (one that
fio 3.33 wrote, shortened), its command line, order and pace of rounds, ratios, arguments. One quick run beside a real
fio sees that it all fits together.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from ringtape.benchmarks import fio, report
from ringtape.benchmarks.__main__ import app
from ringtape.benchmarks.contenders import Case, Contender
from ringtape.benchmarks.errors import BenchmarkError
from ringtape.benchmarks.findings import Pair, ratio
from ringtape.benchmarks.jobs import JOBS, Measurement
from ringtape.benchmarks.programs import shares
from ringtape.benchmarks.rounds import Amount, Outcome, measure, requests_for, rotated
from ringtape.benchmarks.rows import ROWS, Plan
from ringtape.benchmarks.table import Table
from ringtape.benchmarks.targets import Setup, Target

REPORT = (Path(__file__).parent / "fio_report.json").read_text()
CASE = Case((Target("file", "file on ext4", "/nowhere/data"),), JOBS["asyncio"], Path("/nowhere"), "order")
PLAN = Plan(["reads"], ["file"], 2, Amount(), Setup(1 << 20), True, real_requests=1, made_up_requests=1)
PAIRS = (
    Pair("plain", ("fio", "fio-registered"), 0.5),
    Pair("record", ("plain",), 0.9),
    Pair("replay", (), 200.0),
    Pair("replay", ("plain",), 4.0, times=True),
)
SECONDS = st.floats(1e-6, 1e6)


# fio


def test_fio_report_gives_requests_and_its_own_run_time() -> None:
    assert fio.parse(REPORT) == Measurement(512, 0.018)


def changed(change: Callable[[Any], object]) -> str:
    found = json.loads(REPORT[REPORT.index("{") :])
    change(found)
    return json.dumps(found)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not understood"),
        ("fio: engine io_uring not loadable", "not understood"),
        (REPORT[: len(REPORT) // 2], "not understood"),
        ("{}", "not understood"),
        ('{"jobs": 3}', "not understood"),
        (changed(lambda found: found["jobs"].append({})), "2 jobs"),
        (changed(lambda found: found["jobs"][0].update(error=5)), "error 5"),
        (changed(lambda found: found["jobs"][0]["read"].update(total_ios=0)), "too short"),
        (changed(lambda found: found["jobs"][0]["read"].update(runtime=0)), "too short"),
        (changed(lambda found: found["jobs"][0].pop("read")), "not understood"),
    ],
)
def test_fio_report_that_is_none_is_one_line(text: str, says: str) -> None:
    with pytest.raises(BenchmarkError, match=says) as caught:
        fio.parse(text)
    assert "\n" not in str(caught.value)


def test_fio_version_is_read_in_all_its_forms() -> None:
    assert fio.parse_version("fio-3.33\n") == (3, 33)
    assert fio.parse_version("fio-3.36-17-gabcdef") == (3, 36)
    assert fio.parse_version("fio 4") is None
    assert fio.parse_version("") is None


@pytest.mark.parametrize("job", JOBS.values(), ids=list(JOBS))
def test_fio_runs_the_job_that_ringtape_runs_and_never_writes_in_one_that_reads(job: Any) -> None:
    for options in fio.ways(job).values():
        command = fio.command_line("fio", [["/a:b"]], job, requests=1000, seed=3, options=options)
        wanted = {
            *(("--rw=randwrite",) if job.writes else ("--readonly", "--rw=randread")),
            "--direct=1",
            "--norandommap=1",
            "--ioengine=io_uring",
            "--bs=4096",
            f"--iodepth={job.depth}",
            f"--io_size={1000 * 4096}",
            r"--filename=/a\:b",
        }
        assert wanted <= set(command)
        batches = [part for part in command if "batch" in part]
        assert job.depth > 1 or not batches


# rounds and ratios


class Fake(Contender):
    """Takes a fixed time a request, and a fixed time once."""

    def __init__(self, name: str, paced_by: str, ns: float, log: list[str], once_s: float = 0.0) -> None:
        self.name, self.paced_by = name, paced_by
        self._ns, self._once_s, self._log = ns, once_s, log

    def prepare(self, case: Case, requests: int) -> None:
        self._log.append(f"prepare {self.name} {requests}")

    def measure(self, case: Case, requests: int, seed: int) -> Measurement:
        self._log.append(f"{self.name} {requests} {seed}")
        return Measurement(requests, self._once_s + requests * self._ns / 1e9)


def test_everyone_is_measured_once_a_round_after_everyone_is_prepared() -> None:
    log: list[str] = []
    fakes = [
        Fake("fio", "fio", 1000, log),
        Fake("plain", "plain", 4000, log),
        Fake("record", "plain", 9000, log),
    ]
    outcome = Outcome(CASE, ())
    measure(outcome, fakes, rounds=4, amount=Amount(requests=640), on_step=lambda text: None)
    assert log[:3] == ["prepare fio 640", "prepare plain 640", "prepare record 640"]
    assert [list(each) for each in outcome.rounds] == [
        ["fio", "plain", "record"],
        ["plain", "record", "fio"],
        ["record", "fio", "plain"],
        ["fio", "plain", "record"],
    ]
    # One seed a round: the same offsets for all.
    assert [line.rsplit(" ", 1)[1] for line in log[3:]] == ["0"] * 3 + ["1"] * 3 + ["2"] * 3 + ["3"] * 3


def test_pace_is_set_by_the_one_that_is_named() -> None:
    log: list[str] = []
    fakes = [
        Fake("fio", "fio", 1000, log),
        Fake("plain", "plain", 4000, log),
        Fake("record", "plain", 9000, log),
    ]
    outcome = Outcome(CASE, ())
    measure(outcome, fakes, rounds=1, amount=Amount(seconds=2), on_step=lambda text: None)
    counts = {name: one.requests for name, one in outcome.rounds[0].items()}
    assert counts["plain"] == counts["record"]
    assert outcome.rounds[0]["fio"].elapsed_s == pytest.approx(2, rel=0.01)
    assert outcome.rounds[0]["plain"].elapsed_s == pytest.approx(2, rel=0.01)


@given(ns=st.floats(100, 1e7), once_s=st.floats(0, 1), seconds=st.floats(0.01, 100))
def test_the_number_of_requests_is_found_for_every_speed(ns: float, once_s: float, seconds: float) -> None:
    log: list[str] = []
    fake = Fake("fio", "fio", ns, log, once_s)
    requests = requests_for(fake, CASE, Amount(seconds=seconds))
    took_s = fake.measure(CASE, requests, 0).elapsed_s
    floor_s = once_s + CASE.job.depth * ns / 1e9
    assert took_s <= max(5 * seconds, 2 * floor_s)
    assert len(log) <= 14


@given(st.lists(st.tuples(SECONDS, SECONDS), min_size=1, max_size=9))
def test_a_ratio_is_of_two_measurements_of_one_round(times: list[tuple[float, float]]) -> None:
    rounds = [{"a": Measurement(1000, a), "b": Measurement(500, b)} for a, b in times]
    found = ratio(rounds, "a", "b")
    assert found.values == pytest.approx([2 * b / a for a, b in times])
    assert found.median == median(found.values)
    assert found.low == min(found.values) <= found.median <= max(found.values) == found.high


def test_a_slow_minute_that_strikes_both_leaves_the_ratio_alone() -> None:
    rounds = [{"a": Measurement(100, s), "b": Measurement(100, 2 * s)} for s in (1, 1, 30, 1, 2)]
    found = ratio(rounds, "a", "b")
    assert (found.low, found.median, found.high) == (2, 2, 2)


def outcome_of(**seconds: list[float]) -> Outcome:
    names = list(seconds)
    rows = zip(*seconds.values(), strict=True)
    return Outcome(
        CASE,
        PAIRS,
        [{name: Measurement(1000, s) for name, s in zip(names, row, strict=True)} for row in rows],
    )


SAMPLE = {
    # By the median fio-registered is the better; by its best round fio would be.
    "fio": [2.0, 2.0, 0.5],
    "fio-registered": [1.0, 1.0, 1.0],
    "plain": [2.0, 4.0, 2.0],
    "record": [4.0, 4.0, 8.0],
    "replay": [8.0, 8.0, 4.0],
}


def test_a_peer_is_the_way_with_the_better_median_in_every_round() -> None:
    found = [(one.of, one.beside, one.spread.values, one.reached) for one in outcome_of(**SAMPLE).figures()]
    assert found == [
        ("plain", "fio-registered", (0.5, 0.25, 0.5), True),
        ("record", "plain", (0.5, 1.0, 0.25), False),
        ("replay", "", (125.0, 125.0, 250.0), False),
        # As many times as long as plain.
        ("replay", "plain", (4.0, 2.0, 2.0), True),
    ]


def test_rotation_puts_each_into_each_place_once() -> None:
    fakes: list[Contender] = [Fake(str(i), "0", 1, []) for i in range(5)]
    orders = [[one.name for one in rotated(fakes, number)] for number in range(5)]
    assert all(sorted(place) == list("01234") for place in zip(*orders, strict=True))


# what is printed and written


def table_of(outcome: Outcome) -> Table:
    table = Table(PLAN, fio.Fio("/usr/bin/fio", "3.33"))
    # The second was interrupted before its first round: not to be shown.
    table.found.append((ROWS["reads"], [outcome, Outcome(CASE, PAIRS)]))
    table.skipped["zram"] = "zram needs root"
    return table


def test_json_holds_raw_numbers_from_which_the_ratios_follow() -> None:
    found = json.loads(table_of(outcome_of(**SAMPLE)).as_json())
    (row,) = found["rows"]
    (case,) = row["found"]
    rates = [
        {one["contender"]: one["requests"] / one["elapsed_s"] for one in each} for each in case["rounds"]
    ]
    for figure in case["figures"][:2]:
        assert figure["values"] == [each[figure["of"]] / each[figure["beside"]] for each in rates]
        assert figure["median"] == median(figure["values"])
        assert figure["reached"] == (figure["median"] >= figure["reach"])
    assert found["skipped"] == {"zram": "zram needs root"}
    assert not found["complete"]
    assert {"kernel", "cpu", "cores", "python", "versions", "fio"} <= set(found["machine"])


def test_markdown_is_a_table_of_what_is_wanted_and_what_was_found() -> None:
    text = report.markdown(table_of(outcome_of(**SAMPLE)))
    assert "| file on ext4 | plain | fio-registered | ≥ 0.50 | 0.50 (0.25…0.50) | reached |" in text
    assert "| file on ext4 | record | plain | ≥ 0.90 | 0.50 (0.25…1.00) | missed |" in text
    assert "| file on ext4 | replay | plain | ≤ 4.00 | 2.00 (2.00…4.00) | reached |" in text
    assert "2 of 4 figures are reached" in text
    assert "Fewer than 5 rounds" in text
    assert "Not measured: zram: zram needs root" in text


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_a_chart_has_a_bar_for_each_figure(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    from ringtape.benchmarks import charts

    path = tmp_path / f"chart{suffix}"
    charts.draw_table(table_of(outcome_of(**SAMPLE)), path)
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG" if suffix == ".png" else b"<?xml")


# the command line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--rounds", "0"], "--rounds 0"),
        (["--seconds", "0"], "--seconds 0"),
        (["--seconds", "nan"], "--seconds nan"),
        (["--requests", "1"], "--requests 1"),
        (["--requests", "640", "--seconds", "1"], "exclude each other"),
        (["--targets", "tmpfs,floppy"], "floppy"),
        (["--rows", "threads"], "threads"),
        (["--real", "0"], "--real 0"),
        (["--made-up", "0"], "--made-up 0"),
        (["--chart", "chart.gif"], ".svg or .png"),
        (["--chart", "/nowhere/at/all/chart.svg"], "/nowhere/at/all"),
        (["--size", "3"], "multiple of 1M"),
        (["--size", "much"], "--size much"),
        (["--folder", "/nowhere/at/all"], "/nowhere/at/all"),
        (["profile", "--data", "all"], "--data all"),
        (["profile", "--mode", "fast"], "--mode fast"),
        (["profile", "--job", "all"], "--job all"),
        (["profile", "--target", "tmpfs,loop"], "--target tmpfs,loop"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_2(arguments: list[str], says: str) -> None:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_missing_fio_is_one_line_that_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = CliRunner().invoke(app, ["--quick"])
    assert done.exit_code == 2
    assert "apt-get install fio" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_fio_that_is_too_old_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old = tmp_path / "fio"
    old.write_text("#!/bin/sh\necho fio-2.21\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(BenchmarkError, match=r"fio-2\.21"):
        fio.find()


def test_a_json_file_that_cannot_be_written_is_found_out_before_measuring(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fio, "find", lambda: fio.Fio("fio", "3.33"))
    monkeypatch.setattr(Table, "run", lambda self, on_step: pytest.fail("it measured"))
    done = CliRunner().invoke(app, ["--json", str(tmp_path / "missing" / "out.json")])
    assert done.exit_code == 2
    assert "missing/out.json" in done.stderr


# all of it


def test_shares_add_up() -> None:
    assert shares(10, 4) == [3, 3, 2, 2]
    assert sum(shares(1001, 64)) == 1001


def test_who_reads_and_writes_with_two_workers_has_a_disk_each() -> None:
    targets = tuple(Target("file", "a file", f"/nowhere/{name}") for name in "abc")
    case = Case(targets, replace(JOBS["volume"], workers=2), Path("/nowhere"), "order")
    assert case.files() == [["/nowhere/a", "/nowhere/c"], ["/nowhere/b"]]
    assert [disk.workers for disk in case.disks()] == [[0], [1], [0]]
    command = fio.command_line("fio", case.files(), case.job, requests=2000, seed=0, options={})
    assert [part for part in command if "filename" in part] == [
        "--filename=/nowhere/a:/nowhere/c",
        "--filename=/nowhere/b",
    ]
    assert command.count(f"--io_size={1000 * 4096}") == 2


def quick(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    """The rows of a quick run beside a real fio, which leaves nothing behind."""
    output = tmp_path / "out.json"
    command = [sys.executable, "-m", "ringtape.benchmarks", "--quick", "--targets", "file", *arguments]
    more = ["--requests", "512", "--folder", str(tmp_path), "--json", str(output)]
    done = subprocess.run([*command, *more], capture_output=True, text=True, timeout=100, check=False)
    if done.returncode == 5 or "O_DIRECT" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    found = json.loads(output.read_text())
    assert found["complete"]
    assert os.listdir(tmp_path) == ["out.json"]
    return {row["row"]: row["found"] for row in found["rows"]}


@pytest.mark.skipif(shutil.which("fio") is None, reason="needs fio")
def test_a_quick_run_measures_everyone_beside_its_peers(tmp_path: Path) -> None:
    rows = quick(tmp_path, "--rows", "reads,writes,two")
    ways = ("fio", "fio-registered")
    everyone = {f"{way}{what}" for way in ways for what in ("", " write_iolog", " read_iolog")}
    for name, measured in {
        "reads": everyone | {"plain", "record", "replay"},
        "writes": everyone | {"plain", "record", "replay"},
        "two": {"record", *(f"{way} write_iolog" for way in ways)},
    }.items():
        (case,) = rows[name]
        assert [{one["contender"] for one in each} for each in case["rounds"]] == [measured] * 2
        for one in (one for each in case["rounds"] for one in each):
            assert one["elapsed_s"] > 0
            # fio does not count what is under way when an iolog ends.
            assert 512 - 64 * ("read_iolog" in one["contender"]) <= one["requests"] <= 512


@pytest.mark.skipif(shutil.which("fio") is None, reason="needs fio")
def test_rows_without_fio_measure_what_they_say(tmp_path: Path) -> None:
    pytest.importorskip("caio")
    pytest.importorskip("aiofile")
    rows = quick(tmp_path, "--rows", "depth-1,awaited,coordinator,memory,start")
    figures = {name: [one for case in found for one in case["figures"]] for name, found in rows.items()}
    assert [(one["of"], one["beside"]) for one in figures["awaited"]] == [
        ("plain", "caio"),
        ("plain", "aiofile"),
        ("record", "caio"),
        ("record", "aiofile"),
    ]
    assert {one["of"] for one in figures["depth-1"]} == {"record", "record strict"}
    # A rate for 1, 8 and 64 workers and one over the other, for each of four shapes of messages.
    assert [one["unit"] for one in figures["coordinator"]] == ["/s", "/s", "/s", "×"] * 4
    assert {one["of"].split(",")[0] for one in figures["memory"]} == {"coordinator", "worker"}
    assert all(one["at_most"] for one in figures["start"])


def test_peers_that_are_missing_are_one_line_that_says_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fio, "find", lambda: fio.Fio("fio", "3.33"))
    monkeypatch.setattr("ringtape.benchmarks.aio.find_spec", lambda name: None)
    done = CliRunner().invoke(app, ["--rows", "awaited", "--targets", "file"])
    assert done.exit_code == 2
    assert done.stderr == (
        "ringtape benchmarks: caio and aiofile not installed: pip install 'ringtape[bench]'\n"
    )
