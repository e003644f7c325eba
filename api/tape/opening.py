"""How every tool opens a tape: with a bar that shows how far it is, and a word on how the tape ends.

It adds nothing to what a reader gives out and hides nothing: a damage is raised as the reader raises it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from ringtape import console
from ringtape.coordinator.tape import BlockView, Joined, Position, Table, TapeReader, iter_joined
from ringtape.coordinator.tape.ledger import Ledger
from ringtape.proto.errors import TapeDamaged
from ringtape.tape.progress import ProgressBar


class WatchedReader(TapeReader):
    """A reader that says after every block where in the file it is."""

    on_block: Callable[[int, int], None] | None = None

    def follow(self, start: Position | None = None) -> Iterator[tuple[Ledger, BlockView]]:
        """See TapeReader."""
        for ledger, view in super().follow(start):
            if self.on_block is not None:
                self.on_block(view.offset + view.frame_bytes, self.file_bytes)
            yield ledger, view


@contextlib.contextmanager
def opened(path: str, doing: str) -> Iterator[TapeReader]:
    """The tape, with a bar while it is read; `doing` is what stands before the bar.

    Raises what `TapeReader.open` raises.
    """
    with WatchedReader.open(path) as reader, ProgressBar(doing) as bar:
        reader.on_block = bar
        yield reader


def until_damage(reader: TapeReader, damage: list[TapeDamaged]) -> Iterator[BlockView]:
    """The whole blocks. A damage ends them and is put into `damage`, for when what is whole has been shown."""
    try:
        yield from reader.blocks()
    except TapeDamaged as error:
        damage.append(error)


def joined_until_damage(
    reader: TapeReader, damage: list[TapeDamaged], leftover: list[Table] | None = None
) -> Iterator[Joined]:
    """Like `until_damage`, with the requests of the blocks joined to what came of them."""
    try:
        yield from iter_joined(reader, leftover=leftover)
    except TapeDamaged as error:
        damage.append(error)


def how_it_ends(reader: TapeReader) -> str:
    """Of a tape without a seal: why there is none."""
    if reader.being_written:
        return "a run is writing it"
    if reader.header.HasField("cut"):
        cut = reader.header.cut
        if cut.first_id == 1:
            return f"it is a cut of {cut.of}, from its start"
        return f"it is a cut of {cut.of}, whose request id {cut.first_id} is 1 here, and cannot be replayed"
    return "the recording was cut"


def say_unsealed(reader: TapeReader, path: str) -> None:
    """On standard error, that the tape has no seal; for tools that have come to its end."""
    if reader.seal is None:
        ends = f"after request id {reader.totals.requests}"
        if reader.header.HasField("cut"):
            ends = f"and ends {ends}"
        console.say(f"ringtape: note: {path} is unsealed: {how_it_ends(reader)} {ends}")
