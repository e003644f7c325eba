"""A tape's requests and checkpoints side by side, for the tools that draw it.

Responsible for following a tape once, block by block, to its end or its damage. It holds what
`coordinator.tape.iter_table` holds, a block and what is not released, and looks at no row by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ringtape.coordinator.tape import BlockView, Position, TapeReader
from ringtape.coordinator.tape.layout import Layout
from ringtape.coordinator.tape.table import Table, join
from ringtape.proto import tape_pb2
from ringtape.proto.errors import TapeDamaged


class Checkpoints(NamedTuple):
    """The tokens of a block, in their order."""

    worker: NDArray[Any]
    number: NDArray[np.uint64]  # among the worker's checkpoints, from 1
    at_ns: NDArray[np.int64]  # since the start of the run
    released: NDArray[np.int64]  # how many completions the token released


def checkpoints_of(block: BlockView) -> Checkpoints:
    """The tokens of the block."""
    tables = block.tables
    layout = Layout(tables.run_table, tables.run_worker, tables.run_count)
    slot = layout.worker_of(tape_pb2.TABLE_TOKENS)
    before = block.followed.before.tokens[slot] + layout.ranks(tape_pb2.TABLE_TOKENS).astype(np.uint64)
    at_ns = layout.per_row(tape_pb2.TABLE_TOKENS, tables.run_ns).view(np.int64)
    return Checkpoints(layout.workers[slot], before + np.uint64(1), at_ns, tables.released.astype(np.int64))


class Following:
    """Follows a tape: gives out its tables, and each block to `on_block` before the table that it completes.

    A damage ends it like the end of a recording that was cut; `damage` then has it.
    """

    def __init__(self, reader: TapeReader, start: Position | None = None) -> None:
        self._reader = reader
        self._start = start
        self.damage: TapeDamaged | None = None

    def on_block(self, block: BlockView) -> None:
        """For who wants to see the blocks."""

    def tables(self) -> Iterator[Table]:
        """As `iter_table` gives them; what was not released before a damage comes too."""
        leftover: list[Table] = []
        for joined in join(self._blocks(), leftover):
            if len(joined.released):
                yield joined.released
        yield from leftover

    def _blocks(self) -> Iterator[BlockView]:
        try:
            for block in self._reader.blocks(self._start):
                self.on_block(block)
                yield block
        except TapeDamaged as damage:
            self.damage = damage

    @property
    def ended(self) -> str:
        """How the tape ends, in words."""
        if self.damage is not None:
            return "damaged"
        if self._reader.seal is not None:
            end = tape_pb2.Seal.End.Name(self._reader.seal.end)
            return end.removeprefix("END_").lower().replace("_", " ")
        return "a run is writing it" if self._reader.being_written else "the recording was cut"
