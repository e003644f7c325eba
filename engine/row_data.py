"""Digests and contents of what rows write and have read, as they are told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from ringtape.engine.block import PAGE_BYTES, Block
from ringtape.engine.requests import Kind
from ringtape.engine.rows import Rows

if TYPE_CHECKING:
    from ringtape.engine.chunks import Chunk
    from ringtape.engine.outbox import Outbox

Integers = NDArray[np.int64]


def tell_writes(outbox: Outbox, block: Block, chunk: Chunk, first: int, last: int) -> None:
    """What the writes among these rows of a chunk write."""
    rows, starts = chunk.rows, chunk.starts[first:last]
    if rows.only == Kind.WRITE and rows.only_length and outbox.contents is None:
        outbox.request_digests(_digests(block, starts, rows.only_length), ())
        return
    writes = (chunk.kind[first:last] == Kind.WRITE).nonzero()[0].tolist()
    outbox.request_digests(*_of_some(outbox, block, starts, chunk.length[first:last].tolist(), writes))


def tell_reads(outbox: Outbox, block: Block, rows: Rows, places: Integers, results: Integers) -> None:
    """What the reads among these rows have read."""
    if rows.only == Kind.WRITE:
        zeros = [0] * len(places)
        outbox.completion_digests(zeros, zeros)
        return
    starts, lengths = rows.start[places], results.tolist()
    if rows.only == Kind.READ and outbox.contents is None:
        length = rows.only_length
        if length and lengths.count(length) == len(lengths):
            outbox.completion_digests(_digests(block, starts, length), ())
            return
    reads = ((rows.kind[places] == Kind.READ) & (results > 0)).nonzero()[0].tolist()
    outbox.completion_digests(*_of_some(outbox, block, starts, lengths, reads))


def _of_some(
    outbox: Outbox, block: Block, starts: Integers, lengths: Sequence[int], some: list[int]
) -> tuple[list[int], list[int]]:
    """Digests, and numbers of contents where these are told; 0 for all others than `some`."""
    digests = [0] * len(lengths)
    contents = digests.copy()
    places = starts.tolist()
    for one in some:
        data = block.data(places[one], lengths[one])
        digests[one] = xxh3_64_intdigest(data)
        if outbox.contents is not None:
            contents[one] = outbox.contents.number_of(data)
    return digests, contents


def _digests(block: Block, starts: Integers, length: int) -> list[int]:
    """Digests of data of one length at these places."""
    if (starts % PAGE_BYTES).any():
        return [xxh3_64_intdigest(block.data(start, length)) for start in starts.tolist()]
    views = block.views(length)
    return [xxh3_64_intdigest(views[page]) for page in ((starts & block.mask) // PAGE_BYTES).tolist()]
