"""Goal: rows cut out of columns are those rows, and columns that do not hold together go no further.

Method: made-up rows, beside the same rows as Python objects.
"""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtape.coordinator.columns import check_completions, check_requests
from ringtape.coordinator.errors import ProtocolError
from ringtape.coordinator.tape.slices import slice_requests
from ringtape.proto import messages_pb2

U64 = st.integers(0, 2**64 - 1)
ROWS = st.lists(
    st.tuples(st.just(5) | st.integers(1, 5), st.integers(0, 3), st.integers(0, 2), U64, U64, U64, U64),
    max_size=20,
)
Row = tuple[int, int, int, int, int, int, int]


def packed(code: str, values: list[int]) -> bytes:
    return struct.pack(f"<{len(values)}{code}", *values)


def requests(rows: list[Row], *, digests: bool = True) -> messages_pb2.Requests:
    kinds, flags, disks, offsets, lengths, digest, _ = ([row[i] for row in rows] for i in range(7))
    return messages_pb2.Requests(
        kind=bytes(kinds),
        flags=bytes(flags),
        disk=packed("H", disks),
        offset=packed("Q", offsets),
        length=packed("Q", lengths),
        digest=packed("Q", digest) if digests else b"",
        fsync_covers=packed("Q", [row[6] for row in rows if row[0] == messages_pb2.KIND_FSYNC]),
    )


@given(ROWS, st.booleans(), st.data())
def test_a_slice_is_those_rows(rows: list[Row], digests: bool, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(rows)))
    stop = data.draw(st.integers(start, len(rows)))
    cut = slice_requests(requests(rows, digests=digests), start, stop)
    assert cut == requests(rows[start:stop], digests=digests)
    assert check_requests(cut, disks=3, digests=digests) == stop - start


ONE = [(5, 0, 2, 0, 0, 0, 7), (2, 1, 0, 4096, 4096, 9, 0)]


@pytest.mark.parametrize("name", ["kind", "flags", "disk", "offset", "length", "digest", "fsync_covers"])
@pytest.mark.parametrize(
    "change", [lambda column: column[:-1], lambda column: column * 2, lambda column: b""]
)
def test_columns_of_other_lengths_are_refused(name: str, change: object) -> None:
    columns = requests(ONE)
    assert check_requests(columns, disks=3, digests=True) == 2
    setattr(columns, name, change(getattr(columns, name)))  # type: ignore[operator]
    with pytest.raises(ProtocolError):
        check_requests(columns, disks=3, digests=True)


@pytest.mark.parametrize("kind", [0, 6, 255])
def test_an_unknown_kind_is_refused(kind: int) -> None:
    with pytest.raises(ProtocolError, match=f"unknown kind {kind}"):
        check_requests(requests([ONE[1], (kind, 0, 0, 0, 0, 0, 0)]), disks=3, digests=True)


def test_an_unknown_disk_is_refused() -> None:
    with pytest.raises(ProtocolError, match="names a disk"):
        check_requests(requests(ONE), disks=2, digests=True)


def test_digests_are_there_if_and_only_if_they_are_wanted() -> None:
    for digests in (True, False):
        with pytest.raises(ProtocolError):
            check_requests(requests(ONE, digests=not digests), disks=3, digests=digests)
        told = messages_pb2.Completions(
            sequence=bytes(16), result=bytes(16), digest=bytes(16 * (not digests))
        )
        with pytest.raises(ProtocolError):
            check_completions(told, digests=digests)


@pytest.mark.parametrize("name", ["sequence", "result", "digest"])
def test_completions_of_other_lengths_are_refused(name: str) -> None:
    told = messages_pb2.Completions(sequence=bytes(16), result=bytes(16), digest=bytes(16))
    assert check_completions(told, digests=True) == 2
    setattr(told, name, bytes(15))
    with pytest.raises(ProtocolError):
        check_completions(told, digests=True)
