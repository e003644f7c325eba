"""Goal: pages show what they should, in a real browser. Method: open them in Chromium, look and touch.

With RINGTAPE_SCREENSHOTS=1 in the environment, the pictures in docs/images are taken anew.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ringtape.coordinator.tape import TapeReader
from ringtape.proto import messages_pb2
from ringtape.tape.plot import write_plot
from tests.api.command_line import record
from tests.api.tape.large import MEMORY_MIB_MAX, REQUESTS, large_page, large_tape
from tests.browser import Browser, Tab, browser
from tests.coordinator.tape.making import (
    Call,
    Completion,
    Completions,
    Request,
    Requests,
    Token,
    make_header,
    make_run,
    write,
)

IMAGES = Path(__file__).resolve().parents[3] / "docs" / "images"
IMAGE_BYTES_MAX = 150_000
MS = 1_000_000
READ, WRITE, FSYNC = messages_pb2.KIND_READ, messages_pb2.KIND_WRITE, messages_pb2.KIND_FSYNC

# A program with phases, so that there is something to see: the picture in the documents is of it.
PROGRAM = """
import asyncio


async def main(io):
    data, log = io.disk("data"), io.disk("log")
    rng, at = io.random, 0

    async def reads():
        for _ in range(30):
            await data.read(rng.randrange(4088) * 4096, 4096 * rng.choice((1, 1, 2, 8)))

    async def writes():
        for _ in range(10):
            await data.write((io.index * 1365 + rng.randrange(1300)) * 4096, bytes(16384))

    for _ in range(3):
        await asyncio.gather(*(reads() for _ in range(5)), *(writes() for _ in range(3)))
        for _ in range(4):
            await log.write((io.index * 1024 + at) * 4096, bytes(4096))
            at += 1
            await log.fsync()
"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium")) as one:
        yield one


def opened(chromium: Browser, page: Path, **options: Any) -> Tab:
    """The page, drawn; it complained of nothing and asked for nothing but itself."""
    tab = chromium.open(page, width=1180, height=900, **options)
    settle(tab)
    assert tab.requested == [page.as_uri()]
    return tab


def settle(tab: Tab) -> None:
    tab.until("document.body.dataset.settled === 'yes'")
    assert tab.complaints == []


def colours(tab: Tab, chart: str) -> dict[str, int]:
    """How many pixels of each colour are on a chart's canvas."""
    found: dict[str, int] = tab.value(
        f"""(() => {{
          const canvas = document.querySelector("#{chart} canvas"), counts = {{}};
          const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", {{willReadFrequently: true}});
          copy.drawImage(canvas, 0, 0);
          const {{data}} = copy.getImageData(0, 0, canvas.width, canvas.height);
          for (let at = 0; at < data.length; at += 4) {{
            if (data[at + 3] < 255) continue;
            const hex = "#" + [0, 1, 2].map((i) => data[at + i].toString(16).padStart(2, "0")).join("");
            counts[hex] = (counts[hex] || 0) + 1;
          }}
          return counts;
        }})()"""
    )
    return found


def colour(tab: Tab, name: str) -> str:
    value: str = tab.value(f"getComputedStyle(document.documentElement).getPropertyValue('--{name}').trim()")
    return value


def text(tab: Tab, id_: str) -> str:
    value: str = tab.value(f"document.getElementById('{id_}').innerText")
    return re.sub(r"\s+", " ", value)


def point(tab: Tab, chart: str, at_ns: float, down: float) -> tuple[float, float]:
    """Where a time and a height (of the chart's area, or of its scale if that is negative) are in the window."""
    x, y = tab.value(
        f"""(() => {{
          const {{u}} = ringtapePlot.{chart};
          u.root.scrollIntoView({{block: "center"}});
          const box = u.over.getBoundingClientRect();
          return [box.left + u.valToPos({at_ns}, "x"), box.top + {down}];
        }})()"""
    )
    return x, y


def tape_of_known_requests(path: Path) -> None:
    """A read of 1 to 3 ms, released at 4; a write that fails at 6 ms, at once released; an fsync that never ends."""
    header = make_header(workers=2)
    header.disks[1].name = "<b>log</b>"
    calls: list[Call] = [
        Requests(0, (Request(READ, 0, 0, 1 << 20, 8192, 0, 0),), 1 * MS),
        Completions(0, (Completion(0, 8192, 0),), 3 * MS),
        Token(0, 0, 0, 0, 1, None, 4 * MS),
        Requests(1, (Request(WRITE, 0, 1, 4096, 4096, 0, 0),), 5 * MS),
        Completions(1, (Completion(0, -5, 0),), 6 * MS),
        Token(1, 0, 0, 0, 1, None, 6 * MS),
        Requests(1, (Request(FSYNC, 0, 1, 0, 0, 0, 1),), 7 * MS),
        Requests(0, (Request(READ, 0, 0, 0, 512, 0, 0),), 9 * MS),
        Completions(0, (Completion(1, 100, 0),), 10 * MS),
    ]
    write(path, header, calls)


def test_a_page_shows_its_requests(chromium: Browser, tmp_path: Path) -> None:
    """Colours where they are, and under the pointer what each of them is."""
    tape_of_known_requests(tmp_path / "known.tape")
    write_plot(tmp_path / "known.tape", tmp_path / "known.html")
    tab = opened(chromium, tmp_path / "known.html")
    assert text(tab, "tape") == "known.tape"
    assert "2 workers · 2 disks · 4 requests · ended: finished" in text(tab, "what")
    seen = colours(tab, "lanes")
    for name in ("read", "fsync", "failed"):
        assert seen.get(colour(tab, name), 0) > 200, name
    assert text(tab, "lanes-note").startswith("Every request. 4 of 4 requests in view, each drawn")

    tab.move_to(*point(tab, "lanes", 2 * MS, 20))
    assert text(tab, "tip").startswith(
        "request 1: read worker 0 disk disk0 offset 1 048 576 B length 8 192 B result 8 192 B "
        "submitted 1.000000 ms completed 3.000000 ms released 4.000000 ms latency 2 ms held 1 ms".replace(
            " 2 ms", " 2.00 ms"
        ).replace(" 1 ms", " 1.00 ms")
    )
    below = tab.value("ringtapePlot.model.drawn[0].height") + 20
    tab.move_to(*point(tab, "lanes", 5.5 * MS, below))
    assert "request 2: write worker 1 disk <b>log</b>" in text(tab, "tip")
    assert "result failed: EIO" in text(tab, "tip")
    tab.move_to(*point(tab, "lanes", 8 * MS, below))
    assert "request 3: fsync" in text(tab, "tip")
    assert "result none: it did not complete" in text(tab, "tip")
    tab.move_to(*point(tab, "lanes", 9.5 * MS, 20))
    assert "result 100 B (short)" in text(tab, "tip")
    tab.move_to(*point(tab, "lanes", 4 * MS + 10, 2))
    assert text(tab, "tip") == "checkpoint 1 of worker 0 at 4.000000 ms released 1"
    tab.move_to(*point(tab, "lanes", 4.5 * MS, 20))
    assert tab.value("document.getElementById('tip').hidden")
    tab.move_to(*point(tab, "offsets", 1 * MS, 8))
    assert "request 1: read" in text(tab, "tip")


def test_a_view_is_chosen_by_dragging_keys_and_the_address(chromium: Browser, tmp_path: Path) -> None:
    tape_of_known_requests(tmp_path / "known.tape")
    write_plot(tmp_path / "known.tape", tmp_path / "known.html")
    tab = opened(chromium, tmp_path / "known.html", address=f"#view={4 * MS},{8 * MS}")
    assert tab.value("[ringtapePlot.view.from, ringtapePlot.view.to]") == [4 * MS, 8 * MS]
    assert text(tab, "lanes-note").startswith("Every request. 3 of 4 requests in view")  # one ends at 4 ms
    x, y = point(tab, "latency", 5 * MS, 30)
    to_x, _ = point(tab, "latency", 6 * MS, 30)
    tab.drag(x, y, to_x=to_x)
    settle(tab)
    seen = tab.value("[ringtapePlot.view.from, ringtapePlot.view.to]")
    assert seen == pytest.approx([5 * MS, 6 * MS], rel=0.005)
    assert tab.value("location.hash") == f"#view={round(seen[0])},{round(seen[1])}"
    assert all(tab.value(f"ringtapePlot.{chart}.u.scales.x.min") == seen[0] for chart in ("lanes", "offsets"))
    tab.call("Input.dispatchKeyEvent", type="keyDown", key="0")
    tab.until("ringtapePlot.view.from === 0")
    settle(tab)
    assert tab.value("ringtapePlot.view.to") == 10 * MS + 1
    tab.value("document.querySelector('#kinds input').click()")  # no reads
    tab.until("document.body.dataset.requests === '2'")
    settle(tab)
    assert colour(tab, "read") not in colours(tab, "lanes")


def test_latency_is_told_exactly(chromium: Browser, tmp_path: Path) -> None:
    tape_of_known_requests(tmp_path / "known.tape")
    write_plot(tmp_path / "known.tape", tmp_path / "known.html")
    tab = opened(chromium, tmp_path / "known.html")
    assert "requests p50 p90 p99 p99.9 p99.99 slowest" in text(tab, "percentiles")
    assert "read 2 1.00 ms 2.00 ms 2.00 ms 2.00 ms 2.00 ms 2.00 ms" in text(tab, "percentiles")
    assert "fsync 0 – – – – – –" in text(tab, "percentiles")
    half_ms, whole_ms, all_of_them = tab.value(
        f"""[{MS} / 1.1, {MS} * 1.001, {2 * MS} * 1.001].map((wanted) => {{
          const [points, reads] = ringtapePlot.distribution.u.data;
          return reads[points.findIndex((point) => point > wanted)];
        }})"""
    )
    assert (half_ms, whole_ms, all_of_them) == (None, 50, 100) or (half_ms, whole_ms, all_of_them) == (
        0,
        50,
        100,
    )


def test_whatever_is_on_a_tape_can_be_drawn(chromium: Browser, tmp_path: Path) -> None:
    """Made-up runs: every kind, results and offsets up to the limits, requests that never end, a damage, nothing."""
    header = make_header(workers=5)
    header.disks[0].name = "</script><script>document.title = 'wrong'</script>"
    write(tmp_path / "odd.tape", header, make_run(11, workers=5, steps=200))
    write(tmp_path / "empty.tape", header, [])
    for name in ("odd", "empty"):
        write_plot(tmp_path / f"{name}.tape", tmp_path / f"{name}.html")
        tab = opened(chromium, tmp_path / f"{name}.html", dark=name == "odd")
        assert tab.value("document.title") == f"{name}.tape · ringtape"
    assert text(tab, "trouble") == "There are no requests on this tape."


def test_of_many_lanes_the_page_says_which_it_leaves_out(chromium: Browser, tmp_path: Path) -> None:
    workers = 300
    calls: list[Call] = []
    for worker in range(workers):
        rows = tuple(Request(READ, 0, 0, 4096 * i, 4096, 0, 0) for i in range(2 if worker % 6 else 1))
        calls.append(Requests(worker, rows, worker * MS))
    write(tmp_path / "wide.tape", make_header(workers=workers, disks=1), calls)
    write_plot(tmp_path / "wide.tape", tmp_path / "wide.html")
    tab = opened(chromium, tmp_path / "wide.html")
    assert tab.value("ringtapePlot.model.drawn.length") == 256
    assert "44 lanes with fewer requests, 44 in all, are not drawn here." in text(tab, "lanes-note")


def test_a_real_recording_in_light_and_dark(chromium: Browser, tmp_path: Path) -> None:
    (tmp_path / "phases.py").write_text(PROGRAM)
    disks = ["data=data.img,size=16M", "log=log.img,size=16M"]
    record(tmp_path, "phases.py", disks=disks, workers=3)
    write_plot(tmp_path / "run.tape", tmp_path / "run.html")
    tab = opened(chromium, tmp_path / "run.html")
    with TapeReader.open(tmp_path / "run.tape") as reader:
        list(reader.blocks())
        requests = reader.totals.requests
    assert requests == 3 * (3 * (5 * 30 + 3 * 10 + 8))
    assert tab.value("document.body.dataset.requests") == str(requests)
    light = colours(tab, "lanes")
    tab.darken(True)
    tab.until("matchMedia('(prefers-color-scheme: dark)').matches")
    settle(tab)
    tab.until(
        "ringtapePlot.colours.text === getComputedStyle(document.documentElement).getPropertyValue('--text').trim()"
    )
    dark = colours(tab, "lanes")
    for name in ("read", "write", "fsync"):
        assert dark.get(colour(tab, name), 0) > 100, name
        assert colour(tab, name) not in light
    tab.darken(False)
    middle = tab.value(
        """(() => {
          const {model} = ringtapePlot, rows = [...model.drawn[0].rows], row = rows[Math.floor(rows.length / 2)];
          const from = model.submitted[row] - model.latency[row];
          ringtapePlot.setView(from, model.completed[row] + model.latency[row]);
          return from;
        })()"""
    )
    tab.until(f"Math.abs(ringtapePlot.view.from - {middle}) < 1")
    settle(tab)
    assert tab.value("document.body.dataset.lanes") == "single"
    x, y = tab.value(
        """(() => {
          const {model, view, lanes: {u}} = ringtapePlot, lane = model.drawn[0], height = lane.height - LANE_GAP;
          const inside = (row) => model.submitted[row] > view.from && model.completed[row] < view.to;
          const longest = [...lane.rows].filter(inside).reduce((a, b) => model.latency[a] > model.latency[b] ? a : b);
          const middle = (model.submitted[longest] + model.completed[longest]) / 2;
          const box = u.over.getBoundingClientRect();
          const down = lane.height - (model.slot[longest] + 0.5) * height / lane.slots;
          return [box.left + u.valToPos(middle, "x"), box.top + down];
        })()"""
    )
    tab.move_to(x, y)
    assert text(tab, "tip").startswith("request ")
    keep_picture(tab, "plot-requests.png", height=610)
    tab.move_to(5, 5)
    tab.value("ringtapePlot.setView(0, ringtapePlot.model.last / 3)")
    tab.darken(True)
    tab.until("ringtapePlot.colours.text !== '#1f2630'")
    settle(tab)
    top = tab.value("document.getElementById('latency').closest('section').offsetTop")
    keep_picture(
        tab, "plot-latency.png", top=top, height=tab.value("document.querySelector('footer').offsetTop") - top
    )


def test_a_million_requests(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Built in bounded memory, shown in sums that the page calls so, and one by one when zoomed in."""
    checkpoints = large_tape(tmp_path / "million.tape")
    assert large_page(tmp_path / "million.tape", tmp_path / "million.html") < MEMORY_MIB_MAX
    assert (tmp_path / "million.html").stat().st_size < 12_000_000
    chromium: Browser = request.getfixturevalue("chromium")  # the rest is skipped where there is none
    tab = opened(chromium, tmp_path / "million.html")
    assert tab.value("document.body.dataset.requests") == str(REQUESTS)
    assert tab.value("document.body.dataset.checkpoints") == str(checkpoints)
    for chart in ("lanes", "latency", "offsets"):
        assert text(tab, f"{chart}-note").startswith("Aggregated. "), chart
    for name in ("read", "write"):
        assert colours(tab, "lanes").get(colour(tab, name), 0) > 2000, name
    assert sum(colours(tab, "latency").get(colour(tab, name), 0) for name in ("p50", "p99")) > 500
    # What is drawn for each lane adds up to all that was in the kernel.
    drawn, exact = tab.value(
        """(() => {
          const {model, view, lanes: {u}} = ringtapePlot, at = horizontal(u, view);
          let drawn = 0, exact = 0;
          for (const lane of model.lanes) {
            for (const layer of depthOf(model, lane, at).layers.values()) {
              for (let i = 0; i < at.columns; i++) drawn += layer[i] * (view.to - view.from) / at.columns;
            }
          }
          for (let row = 0; row < model.count; row++) exact += model.latency[row];
          return [drawn, exact];
        })()"""
    )
    assert drawn == pytest.approx(exact, rel=1e-6)
    tab.move_to(*point(tab, "lanes", tab.value("ringtapePlot.model.last") / 2, 60))
    assert re.search(r"worker 0 · data, a pixel column .*submitted \d+", text(tab, "tip"))
    tab.move_to(5, 5)
    tab.value("window.scrollTo(0, 0)")
    keep_picture(tab, "plot-million.png", height=940)

    tab.value("ringtapePlot.zoom(1 / 400)")
    tab.until("document.body.dataset.lanes === 'single'")
    settle(tab)
    for chart in ("lanes", "latency", "offsets"):
        assert text(tab, f"{chart}-note").startswith("Every request. "), chart


def keep_picture(tab: Tab, name: str, *, height: int, top: int = 0) -> None:
    """A picture; one that is small enough goes to the documents if that was asked for."""
    picture = tab.screenshot(top=top, height=height)
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 10_000, f"{name} has next to nothing on it"
    if os.environ.get("RINGTAPE_SCREENSHOTS"):
        assert len(picture) < IMAGE_BYTES_MAX, f"{name} has {len(picture):,} bytes"
        IMAGES.mkdir(exist_ok=True)
        (IMAGES / name).write_bytes(picture)
