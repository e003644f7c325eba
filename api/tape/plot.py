"""`ringtape tape plot`: a tape as one HTML page that needs nothing else.

Responsible for the page: the tape's requests and checkpoints as columns, what they are of, and the scripts that draw
them, all in one file. The page asks no network. It never draws: `plot_page/` does, in the browser, with uPlot.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from importlib.resources import files
from typing import Any

from ringtape.coordinator.tape import BlockView, Position, TapeReader
from ringtape.coordinator.words import kind_name
from ringtape.page import Page
from ringtape.proto import messages_pb2
from ringtape.proto.errors import TapeDamaged
from ringtape.settings import StrPath, UsageError
from ringtape.tape.following import Following, checkpoints_of
from ringtape.tape.opening import opened
from ringtape.tape.output import new_file
from ringtape.tape.plot_columns import Gathered, Lane

_BEGINS_WITH = b"<!doctype html>\n<!-- ringtape tape plot -->\n"
_SCRIPTS = ("columns.js", "model.js", "words.js", "parts.js", "painting.js", "charts.js", "page.js")


def write_plot(
    tape: TapeReader | StrPath,
    output_path: StrPath,
    *,
    first_id: int | None = None,
    last_id: int | None = None,
) -> int:
    """Write a page that shows the requests from `first_id` to `last_id`, or all, and the checkpoints among them.

    Returns how many requests it shows.

    A page that is there is replaced; any other file is not. Raises TapeError, UsageError: a range without requests,
    more requests than a page can hold, a file that cannot be written. Raises TapeDamaged after the page was written
    of what is whole.
    """
    first, last = first_id or 1, last_id
    if first < 1 or (last is not None and last < first):
        raise UsageError(f"no request has an id from {first} to {last}")
    with (
        contextlib.nullcontext(tape) if isinstance(tape, TapeReader) else TapeReader.open(tape) as reader,
        new_file(output_path, begins_with=_BEGINS_WITH, what="a page of ringtape tape plot") as file,
    ):
        following = _Gathering(reader, first, last)
        following.gather()
        gathered = following.gathered
        requests = gathered.requests
        if not requests and (first_id is not None or last_id is not None):
            raise UsageError(f"{reader.path} has no requests from {first} to {last or 'its end'}")
        columns, lanes = gathered.stored()
        facts = _facts(reader.path, reader, following, lanes)
        shapes = {name: stored._replace(text="")._asdict() for name, stored in columns.items()}
        folder = files("ringtape.tape") / "plot_page"
        page = Page(folder / "page.html", [folder / name for name in _SCRIPTS])
        page.add_json("facts", facts)
        page.add_json("shapes", shapes)
        for name, stored in columns.items():
            page.add_text(f"column-{name}", stored.text)
        page.write(file.write, _BEGINS_WITH)
    if following.damage is not None:
        raise following.damage
    return requests


def print_plot(
    tape_path: str, output_path: str | None, *, first_id: int | None = None, last_id: int | None = None
) -> None:
    """Write the page, beside the tape if nothing else is said, and say what it is. Raises what `write_plot` raises."""
    output = output_path or os.path.splitext(tape_path)[0] + ".html"
    with opened(tape_path, "drawing") as reader:
        requests = write_plot(reader, output, first_id=first_id, last_id=last_id)
    if os.path.isfile(output):  # not a pipe, which the page went to
        print(f"{output}: {requests:,} requests, {os.path.getsize(output):,} bytes")


class _Gathering(Following):
    """Follows the tape as far as the page needs it."""

    def __init__(self, reader: TapeReader, first: int, last: int | None) -> None:
        super().__init__(reader, _start(reader, first))
        self._first, self._last = first, last
        self.gathered = Gathered()
        self.whole = first == 1 and last is None

    def on_block(self, block: BlockView) -> None:
        """Keeps its checkpoints, up to where the last request was made."""
        if self._last is None or block.first_id <= self._last:
            self.gathered.add_checkpoints(checkpoints_of(block))

    def gather(self) -> None:
        """Reads the tape, until all that is asked for is there."""
        for table in self.tables():
            rows = table[table["id"] >= self._first]
            if self._last is not None:
                rows = rows[rows["id"] <= self._last]
            self.gathered.add_requests(rows)
            if self._last is not None and self.gathered.requests > self._last - self._first:
                return


def _start(reader: TapeReader, first: int) -> Position | None:
    """Where to begin."""
    if first == 1:
        return None
    try:
        return reader.seek(request_id=first)
    except TapeDamaged:
        return None  # what comes before the damage may have it


def _facts(path: str, reader: TapeReader, following: _Gathering, lanes: list[Lane]) -> dict[str, Any]:
    header = reader.header
    since_1970 = datetime.timedelta(microseconds=min(header.started_at_ns // 1000, 1 << 56))
    started = datetime.datetime.fromtimestamp(0, datetime.UTC) + since_1970
    return {
        "tape": os.path.basename(path),
        "program": os.path.basename(header.program) or "a program without a name",
        "replay_of": header.replay_of,
        "started": f"{started:%Y-%m-%d %H:%M:%S} UTC",
        "workers": header.workers,
        "disks": [disk.name for disk in header.disks],
        "kinds": {kind: kind_name(kind) for kind in messages_pb2.Kind.values() if kind},
        "lanes": [lane._asdict() for lane in lanes],
        "whole": following.whole,
        "ended": following.ended,
        "damage": str(following.damage or ""),
    }
