"""Goal: a page holds what its tape holds, whole and alone. Method: read its columns back, and compare with the tape."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import json
import re
import sys
import zlib
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ringtape import cli
from ringtape.console import Exit
from ringtape.coordinator.tape import TapeReader, TokenRow, iter_rows, iter_table
from ringtape.proto.errors import TapeDamaged, TapeError
from ringtape.settings import UsageError
from ringtape.tape import plot_columns
from ringtape.tape.plot import write_plot
from tests.api.command_line import ringtape
from tests.coordinator.tape.making import make_header, make_run, write

HEADER = make_header()
TIMES = ("submitted_ns", "completed_ns", "released_ns")
EXACT_MAX = (1 << 53) - 1  # of the numbers of JavaScript


def part(page: str, id_: str) -> str:
    found = re.search(rf'<script id="{id_}" type="[^"]*">([^<]*)</script>', page)
    assert found is not None, id_
    return found[1]


def columns_of(page: str) -> dict[str, NDArray[np.int64]]:
    """As the page reads them."""
    columns = {}
    for name, shape in json.loads(part(page, "shapes")).items():
        rows, width = shape["rows"], shape["width"]
        planes = np.frombuffer(
            zlib.decompress(base64.b64decode(part(page, f"column-{name}"))), dtype=np.uint8
        )
        values = np.zeros(rows, dtype=np.int64)
        for byte, plane in enumerate(planes.reshape(width, rows)):
            values += plane.astype(np.int64) << (8 * byte + shape["shift"])
        if shape["signed"]:
            values = np.where(values % 2, -(values + 1) // 2, values // 2)
        columns[name] = np.cumsum(values) if shape["delta"] else values
    return columns


def requests_in(page: str) -> list[tuple[int, ...]]:
    """By id."""
    facts, columns = json.loads(part(page, "facts")), columns_of(page)
    assert (np.diff(columns["submitted"]) >= 0).all()
    rows = []
    for id_, submitted, kernel, held, offset, length, result, lane, kind in zip(
        *(columns[name].tolist() for name in ("id", "submitted", "kernel", "held", "offset", "length")),
        *(columns[name].tolist() for name in ("result", "lane", "kind")),
        strict=True,
    ):
        completed = submitted + kernel - 1 if kernel else -1
        released = completed + held - 1 if held else -1
        worker, disk = facts["lanes"][lane]["worker"], facts["lanes"][lane]["disk"]
        result += length if kernel and kind <= 2 else 0
        rows.append((id_, worker, disk, kind, offset, length, result, submitted, completed, released))
    return sorted(rows)


def requests_on(tape: Path) -> list[tuple[int, ...]]:
    with TapeReader.open(tape) as reader:
        table = np.sort(np.concatenate(list(iter_table(reader))), order="id")
    names = (
        "id",
        "worker",
        "disk",
        "kind",
        "offset",
        "length",
        "result",
    )
    return [
        tuple(max(-EXACT_MAX, min(value, EXACT_MAX)) for value in row)
        for row in zip(*(table[name].tolist() for name in (*names, *TIMES)), strict=True)
    ]


def checkpoints_in(page: str) -> list[tuple[int, ...]]:
    columns = columns_of(page)
    names = ("token_worker", "token_number", "token_at", "token_released")
    return list(zip(*(columns[name].tolist() for name in names), strict=True))


def checkpoints_on(tape: Path) -> list[tuple[int, ...]]:
    with TapeReader.open(tape) as reader:
        rows = [row for row in iter_rows(reader) if isinstance(row, TokenRow)]
    return sorted((row.worker, row.checkpoint, row.at_ns, len(row.ids)) for row in rows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32), flush_every=st.sampled_from((0, 1, 7)))
def test_a_page_holds_what_the_tape_holds(folder: Path, seed: int, flush_every: int) -> None:
    """Offsets and lengths up to 2^64 among it: those that JavaScript has no number for are its largest."""
    write(folder / "t", HEADER, make_run(seed, steps=80), flush_every=flush_every)
    count = write_plot(folder / "t", folder / "t.html")
    page = (folder / "t.html").read_text()
    assert requests_in(page) == requests_on(folder / "t")
    assert len(requests_on(folder / "t")) == count
    assert checkpoints_in(page) == checkpoints_on(folder / "t")
    assert json.loads(part(page, "facts"))["whole"]
    assert (importlib.resources.files("ringtape.tape") / "plot_page/uPlot.LICENSE").read_text() in page


@pytest.mark.parametrize(("first", "last"), [(1, 20), (30, 60), (90, None), (50, 50)])
def test_a_part_of_a_tape(folder: Path, first: int, last: int | None) -> None:
    write(folder / "t", HEADER, make_run(7, steps=120), flush_every=5)
    every = requests_on(folder / "t")
    expected = [row for row in every if first <= row[0] <= (last or len(every))]
    assert write_plot(folder / "t", folder / "part.html", first_id=first, last_id=last) == len(expected)
    page = (folder / "part.html").read_text()
    assert requests_in(page) == expected
    assert set(checkpoints_in(page)) <= set(checkpoints_on(folder / "t"))
    # Those that released what is shown are there, if they are on the page's part of the tape.
    assert {row[9] for row in expected if row[9] >= 0} - {
        row[2] for row in checkpoints_in(page)
    } == set() or last
    assert not json.loads(part(page, "facts"))["whole"]


def test_more_than_a_page_can_hold_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / "t", HEADER, make_run(7, steps=120))
    monkeypatch.setattr(plot_columns, "REQUESTS_MAX", 30)
    (folder / "many.html").unlink(missing_ok=True)
    with pytest.raises(UsageError, match=r"more than 30 requests.*choose a part with --from and --to"):
        write_plot(folder / "t", folder / "many.html")
    assert not (folder / "many.html").exists()
    assert write_plot(folder / "t", folder / "many.html", first_id=11, last_id=40) == 30


def test_a_damaged_tape_is_drawn_up_to_the_damage(folder: Path) -> None:
    size = write(folder / "whole", HEADER, make_run(3, steps=100), flush_every=10)
    whole = (folder / "whole").read_bytes()
    (folder / "damaged").write_bytes(
        whole[: size // 2] + bytes([whole[size // 2] ^ 1]) + whole[size // 2 + 1 :]
    )
    with pytest.raises(TapeDamaged) as caught:
        write_plot(folder / "damaged", folder / "damaged.html")
    page = (folder / "damaged.html").read_text()
    drawn = requests_in(page)
    assert [row[0] for row in drawn] == list(range(1, caught.value.requests_whole + 1))  # type: ignore[attr-defined]
    assert drawn
    assert json.loads(part(page, "facts"))["damage"] == str(caught.value)


def test_names_on_the_tape_are_not_code_on_the_page(folder: Path) -> None:
    header = make_header()
    header.disks[0].name = "</script><script>alert(1)</script>"
    header.program = "<!--<script>"
    write(folder / "hostile", header, make_run(1))
    write_plot(folder / "hostile", folder / "hostile.html")
    page = (folder / "hostile.html").read_text()
    assert "alert(1)</script>" not in page
    assert "<!--<script>" not in page
    assert json.loads(part(page, "facts"))["disks"][0] == header.disks[0].name


def test_the_page_asks_for_nothing(folder: Path) -> None:
    """It names no address but the one that people can follow, and its policy forbids all others."""
    write(folder / "t", HEADER, make_run(1))
    write_plot(folder / "t", folder / "t.html")
    page = (folder / "t.html").read_text()
    assert set(re.findall(r"https?://[\w./-]+", page)) == {"https://github.com/leeoniya/uPlot"}
    assert "default-src 'none'" in page


def test_uplot_is_the_release_that_it_says() -> None:
    """Nobody has changed it: this is the file of uplot 1.6.32 on npm."""
    digest = hashlib.sha256(
        (files("ringtape.tape") / "plot_page" / "uPlot.iife.min.js").read_bytes()
    ).hexdigest()
    assert digest == "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f"


# ---- the command


def test_the_command_writes_a_page_beside_the_tape(tmp_path: Path) -> None:
    write(tmp_path / "run.tape", HEADER, make_run(1))
    done = ringtape("tape", "plot", "run.tape", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    size = (tmp_path / "run.html").stat().st_size
    assert re.fullmatch(rf"run\.html: \d+ requests, {size:,} bytes\n", done.stdout)
    again = ringtape("tape", "plot", "run.tape", "-o", "run.html", "--from", "2", "--to", "3", cwd=tmp_path)
    assert again.stdout.startswith("run.html: 2 requests"), again.stderr


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["no.tape"], "no.tape: No such file"),
        (["run.tape", "-o", "run.tape"], "run.tape is there and is not a page of ringtape tape plot"),
        (["run.tape", "-o", "."], "cannot write .: it is a folder"),
        (["run.tape", "-o", "missing/run.html"], "cannot write missing/run.html: No such file or directory"),
        (["run.tape", "-o", "/dev/full"], "cannot write /dev/full: No space left on device"),
        (["run.tape", "--from", "100000"], "run.tape has no request 100000"),
        (["run.tape", "--from", "3", "--to", "2"], "no request has an id from 3 to 2"),
    ],
)
def test_what_cannot_be_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    part: str,
) -> None:
    write(tmp_path / "run.tape", HEADER, make_run(1))
    before = (tmp_path / "run.tape").read_bytes()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["ringtape", "tape", "plot", *words])
    assert cli.main() == Exit.UNUSABLE
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("ringtape: error: ")
    assert said.err.count("\n") == 1
    assert part in said.err
    assert (tmp_path / "run.tape").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["run.tape"]


def test_a_page_that_cannot_be_finished_leaves_the_one_before(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "t", HEADER, make_run(1))
    write_plot(folder / "t", folder / "kept.html")
    before = (folder / "kept.html").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plot_columns.Gathered, "stored", full)
    with pytest.raises(UsageError, match=r"kept\.html: No space left on device"):
        write_plot(folder / "t", folder / "kept.html")
    assert (folder / "kept.html").read_bytes() == before
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_an_empty_tape_makes_a_page_that_says_so(folder: Path) -> None:
    write(folder / "empty", HEADER, [])
    assert write_plot(folder / "empty", folder / "empty.html") == 0
    with pytest.raises(TapeError, match="has no request 2"):
        write_plot(folder / "empty", folder / "none.html", first_id=2)
    assert not (folder / "none.html").exists()
