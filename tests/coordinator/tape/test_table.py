"""A tape by columns and from the middle says what it says row by row from the start."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringtape.coordinator.tape import (
    NEVER,
    CompletionRow,
    RequestRow,
    Row,
    TapeReader,
    TokenRow,
    index,
    iter_rows,
    iter_table,
)
from ringtape.coordinator.tape import reader as reader_module
from ringtape.proto.errors import TapeError
from tests.coordinator.tape.making import make_header, make_run, rows_of, write

HEADER = make_header()
SEEDS = st.integers(0, 2**32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tapes")


def expected_table(rows: list[Row], disks: list[str]) -> dict[int, tuple[object, ...]]:
    """By id, what `iter_table` has to give, worked out from the rows."""
    completions = {row.id: row for row in rows if isinstance(row, CompletionRow)}
    tokens = {id_: row for row in rows if isinstance(row, TokenRow) for id_ in row.ids}
    result: dict[int, tuple[object, ...]] = {}
    for row in rows:
        if not isinstance(row, RequestRow):
            continue
        done, token = completions.get(row.id), tokens.get(row.id)
        result[row.id] = (
            *(row.id, row.worker, row.sequence, row.checkpoint, row.kind, row.flags, disks.index(row.disk)),
            *(row.offset, row.length, -1 if row.covers is None else row.covers, row.digest or 0, row.at_ns),
            *((done.at_ns, done.result, done.digest or 0) if done else (NEVER, 0, 0)),
            *((token.at_ns, token.checkpoint) if token else (NEVER, 0)),
        )
    return result


@settings(deadline=None, max_examples=15)
@given(seed=SEEDS, flush_every=st.sampled_from((0, 1, 7)))
def test_the_table_joins_requests_completions_and_releases(folder: Path, seed: int, flush_every: int) -> None:
    calls = make_run(seed, steps=60)
    write(folder / "t", HEADER, calls, flush_every=flush_every)
    with TapeReader.open(folder / "t") as reader:
        tables = list(iter_table(reader))
    for table in tables:
        assert (np.diff(table["id"].astype(np.int64)) > 0).all()
    found = {row[0]: row for table in tables for row in table.tolist()}
    assert found == expected_table(rows_of(HEADER, calls), [disk.name for disk in HEADER.disks])
    assert sum(map(len, tables)) == len(found)


@settings(deadline=None, max_examples=15)
@given(seed=SEEDS, stride=st.sampled_from((1, 3, 1000)), sealed=st.booleans())
def test_seek_goes_on_as_if_all_before_had_been_read(
    folder: Path, seed: int, stride: int, sealed: bool
) -> None:
    """From every position that an index can give, with an index and without."""
    calls = make_run(seed, steps=60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index, "STRIDE_BLOCKS", stride)
        write(folder / "s", HEADER, calls, flush_every=4, seal=sealed)
    rows = rows_of(HEADER, calls)
    rng = random.Random(seed)
    wanted = [row for row in rows if isinstance(row, RequestRow | TokenRow)]
    with TapeReader.open(folder / "s") as reader:
        has_index = reader.find_index() is not None
        assert has_index == (sealed and stride < 10 and len(list(reader.blocks())) > stride)
        for row in rng.sample(wanted, min(5, len(wanted))):
            if isinstance(row, RequestRow):
                position = reader.seek(request_id=row.id)
            else:
                position = reader.seek(worker=row.worker, checkpoint=row.checkpoint)
            rest = list(iter_rows(reader, position))
            assert rest == rows[len(rows) - len(rest) :]
            assert row in rest
            first = next(reader.blocks(position))
            assert (first.offset, first.number) == (position.offset, position.block)
            assert row in list(iter_rows(reader, position))[: int(first.tables.run_count.sum())]
            assert list(iter_rows(reader, position)) == rest, "a position can be used once only"


def test_a_seek_reads_little_of_what_is_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "STRIDE_BLOCKS", 4)
    calls = make_run(4, steps=600)
    write(tmp_path / "t", HEADER, calls, flush_every=5)
    with TapeReader.open(tmp_path / "t") as reader:
        blocks = list(reader.blocks())
        last = max(block.first_id + block.request_count - 1 for block in blocks)
        reads: list[int] = []
        read = reader.read

        def counted(length: int, offset: int) -> bytes:
            reads.append(offset)
            return read(length, offset)

        monkeypatch.setattr(reader, "read", counted)
        monkeypatch.setattr(reader_module, "SEAL_BYTES_MAX", 1024)
        assert len(blocks) > 100
        for wanted in ({"request_id": last}, {"request_id": last // 2}, {"worker": 1, "checkpoint": 40}):
            reads.clear()
            reader.seek(**wanted)
            # The end, the seal and the index, and as many blocks as are between two snapshots: a header and a payload
            # each, and nothing else of what is before.
            assert len(reads) <= 6 + 2 * 5, wanted


def test_an_index_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "STRIDE_BLOCKS", 1)
    monkeypatch.setattr(index, "INDEX_BYTES_MAX", 4000)
    calls = make_run(4, steps=300, version=2)
    write(tmp_path / "t", HEADER, calls, flush_every=2)
    with TapeReader.open(tmp_path / "t") as reader:
        kept = reader.find_index()
        assert kept is not None and 0 < kept.ByteSize() <= 4400
        assert 4 < len(kept.snapshots) < 100
        rows = rows_of(HEADER, calls)
        rest = list(iter_rows(reader, reader.seek(request_id=50)))
        assert rest == rows[len(rows) - len(rest) :]


@pytest.mark.parametrize(
    ("wanted", "what"),
    [
        ({"request_id": 10**9}, "request 1000000000"),
        ({"request_id": 0}, "request 0"),
        ({"worker": 0, "checkpoint": 10**6}, "checkpoint 1000000 of worker 0"),
        ({"worker": 7, "checkpoint": 1}, "checkpoint 1 of worker 7"),
    ],
)
def test_what_is_not_there_is_named(tmp_path: Path, wanted: dict[str, int], what: str) -> None:
    write(tmp_path / "t", HEADER, make_run(4))
    with TapeReader.open(tmp_path / "t") as reader, pytest.raises(TapeError) as caught:
        reader.seek(**wanted)
    assert str(caught.value) == f"{tmp_path / 't'} has no {what}"


def test_the_table_from_a_position_leaves_out_what_was_made_before(tmp_path: Path) -> None:
    calls = [replace(call) for call in make_run(8, steps=80)]
    write(tmp_path / "t", HEADER, calls, flush_every=8)
    with TapeReader.open(tmp_path / "t") as reader:
        whole = np.sort(np.concatenate(list(iter_table(reader))), order="id")
        position = reader.seek(request_id=40)
        part = np.sort(np.concatenate(list(iter_table(reader, position))), order="id")
    first = position.totals.requests + 1
    assert part.tolist() == whole[whole["id"] >= first].tolist()
