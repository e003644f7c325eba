"""The live table shows what workers tell, at the rate at which they tell it, and how long is left."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import pytest
from rich.console import Console

from ringtape.jobs import live
from ringtape.jobs.live import Expected, LiveTable
from ringtape.jobs.side import LiveDisk, Side, place_of, read_live, side_file


@pytest.fixture
def file() -> Iterator[str]:
    with side_file() as file:
        yield file


def side_of(file: str, job: int, worker: int, disks: int = 1) -> Side:
    side = Side.open(place_of(file, job, worker), disks)
    assert side is not None
    return side


def shown(file: str, jobs: Sequence[Expected], ticks: Sequence[float] = (0.0,)) -> str:
    """What stands there after these ticks, as a terminal gets it."""
    console = Console(record=True, force_terminal=True, width=120, height=50, file=io.StringIO())
    with LiveTable(jobs, file, console) as table:
        for now_s in ticks:
            table.tick(now_s)
        table._live.console.print(table._drawn())
    return console.export_text()


def row(text: str, *begins: str) -> list[str]:
    """The cells after the first ones of the last row that begins so."""
    rows = [line.split() for line in text.splitlines()]
    (*_, last) = [cells for cells in rows if cells[: len(begins)] == list(begins)]
    return last[len(begins) :]


def test_rates_are_those_between_two_looks(file: str) -> None:
    job = Expected("one", ["a", "b"], [3], runtime_s=10)
    side = side_of(file, 0, 3, disks=2)
    console = Console(force_terminal=True, width=120, file=io.StringIO())
    with LiveTable([job], file, console) as table:
        side.show(1_000_000_000, [LiveDisk(700, 700 * 4096, 0, 0), LiveDisk(0, 0, 0, 0)], ended=False)
        table.tick(100.0)
        numbers = [LiveDisk(2700, 2700 * 4096, 0, 80_000), LiveDisk(500, 500 * 8192, 3, 2_000_000)]
        side.show(1_500_000_000, numbers, ended=False)
        table.tick(100.5)
        recording = Console(record=True, width=120, file=io.StringIO())
        recording.print(table._drawn())
    text = recording.export_text()
    assert row(text, "one", "a", "0") == ["4.00k", "15.6", "MiB/s", "80.0", "µs", "2,700", "0"]
    assert row(text, "one", "b", "0") == ["1.00k", "7.81", "MiB/s", "2.00", "ms", "500", "3"]
    assert row(text, "all") == ["5.00k", "23.4", "MiB/s", "2.00", "ms", "3,200", "3"]
    assert "time left: 8 s" in text  # 8.5 s, to the even one


def test_it_is_drawn_no_more_often_than_need_be(file: str) -> None:
    side_of(file, 0, 0).show(1, [LiveDisk(1, 1, 0, 1)], ended=False)
    drawn = io.StringIO()
    with LiveTable([Expected("one", ["a"], [0])], file, Console(force_terminal=True, file=drawn)) as table:
        table.tick(0)
        size = len(drawn.getvalue())
        table.tick(live.DRAWN_EVERY_S * 0.9)
        assert len(drawn.getvalue()) == size
        table.tick(live.DRAWN_EVERY_S)
        assert len(drawn.getvalue()) > size


@pytest.mark.parametrize(
    ("job", "left"),
    [
        (Expected("j", ["a"], [0], runtime_s=60), "50 s"),
        (Expected("j", ["a"], [0], requests=400), "30 s"),
        (Expected("j", ["a"], [0], bytes=200 * 4096), "10 s"),
        (Expected("j", ["a"], [0], runtime_s=60, requests=400, bytes=200 * 4096), "10 s"),
        (Expected("j", ["a"], [0]), "not known"),
        (Expected("j", ["a"], [0, 1], runtime_s=60), "60 s"),
    ],
)
def test_time_left(file: str, job: Expected, left: str) -> None:
    """After ten seconds, 100 requests and 400 KiB; whichever end comes first, and the last of the workers."""
    side_of(file, 0, 0).show(10_000_000_000, [LiveDisk(100, 100 * 4096, 0, 0)], ended=False)
    assert f"time left: {left}" in shown(file, [job])


def test_what_has_ended_has_no_rate(file: str) -> None:
    side_of(file, 0, 0).show(10_000_000_000, [LiveDisk(100, 409600, 0, 5)], ended=True)
    text = shown(file, [Expected("j", ["a"], [0], runtime_s=60), Expected("later", ["a"], [0], runtime_s=60)])
    assert row(text, "j", "a", "0") == ["–", "–", "–", "100", "0"]
    assert "time left: 0 s" in text
    assert "later" not in text


def test_many_workers_are_added_up(file: str) -> None:
    workers = range(live.ROWS_MAX + 1)
    for worker in workers:
        side_of(file, 0, worker).show(1_000_000_000, [LiveDisk(10, 40960, 0, worker)], ended=False)
    text = shown(file, [Expected("j", ["a"], list(workers))])
    assert row(text, "j", "a", "all", str(len(workers)))[-2:] == [f"{10 * len(workers)}", "0"]


def test_nothing_is_shown_before_a_worker_tells(file: str) -> None:
    assert read_live(place_of(file, 0, 0)) is None
    side_of(file, 0, 0)
    assert read_live(place_of(file, 0, 0)) is None
    assert "not known" in shown(file, [Expected("j", ["a"], [0])])


def test_a_worker_that_is_writing_is_not_read(file: str) -> None:
    """Numbers that are half old and half new are never shown."""
    side = side_of(file, 0, 0)
    side.show(5, [LiveDisk(1, 2, 3, 4)], ended=False)
    assert read_live(place_of(file, 0, 0)) == (5, False, ((1, 2, 3, 4),))
    side._words[0] += 1
    assert read_live(place_of(file, 0, 0)) is None
