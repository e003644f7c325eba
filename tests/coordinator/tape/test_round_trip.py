"""What is written to a tape is what is read from it, whatever it is and however it was cut into blocks."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringtape.coordinator.tape import (
    NullTape,
    RequestsRun,
    TapeEnd,
    TapeReader,
    TapeSink,
    TapeWriter,
    TokenRun,
    iter_rows,
    writer,
)
from ringtape.proto import messages_pb2, tape_pb2
from tests.coordinator.tape.making import (
    Note,
    Request,
    Requests,
    Token,
    all_completed,
    calls_of,
    faults_of,
    give,
    joined,
    make_header,
    make_run,
    request_columns,
    rows_of,
    without_digests,
    write,
)

SEEDS = st.integers(0, 2**32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tape")


def read_calls(path: Path) -> list:
    with TapeReader.open(path) as reader:
        calls = [call for block in reader.blocks() for call in calls_of(block.runs())]
        assert reader.end is TapeEnd.SEALED
    return calls


@settings(deadline=None)
@given(seed=SEEDS, steps=st.integers(0, 60), flush_every=st.integers(0, 7), digests=st.booleans())
def test_runs_come_back_as_written(
    folder: Path, seed: int, steps: int, flush_every: int, digests: bool
) -> None:
    header = make_header(digests=digests)
    calls = make_run(seed, steps=steps)
    write(folder / "a", header, calls, flush_every=flush_every)
    assert joined(read_calls(folder / "a")) == joined(calls if digests else without_digests(calls))


@settings(deadline=None)
@given(seed=SEEDS, flush_every=st.integers(0, 7), digests=st.booleans())
def test_rows_name_ids_checkpoints_and_disks(
    folder: Path, seed: int, flush_every: int, digests: bool
) -> None:
    header = make_header(digests=digests)
    calls = make_run(seed, steps=60)
    write(folder / "b", header, calls, flush_every=flush_every)
    with TapeReader.open(folder / "b") as reader:
        assert list(iter_rows(reader)) == rows_of(header, calls)


@settings(deadline=None, max_examples=30)
@given(seed=SEEDS, rows_max=st.sampled_from((7, 50)))
def test_blocks_split_calls_anywhere(folder: Path, seed: int, rows_max: int) -> None:
    """With blocks of 11 rows, calls of up to 50 rows are cut over several blocks, fsyncs and all."""
    calls = make_run(seed, steps=30, rows_max=rows_max)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "BLOCK_ROWS_MAX", 11)
        write(folder / "c", make_header(), calls)
    with TapeReader.open(folder / "c") as reader:
        sizes = [int(block.tables.run_count.sum()) for block in reader.blocks()]
    assert all(size == 11 for size in sizes[:-1])
    assert sum(sizes) == sum(len(getattr(call, "rows", [0])) for call in calls)
    assert joined(read_calls(folder / "c")) == joined(calls)


def test_header_seal_counts_and_places_come_back(tmp_path: Path) -> None:
    header = make_header()
    calls = make_run(3, steps=50)[:50]
    with TapeWriter(tmp_path / "t", header) as tape:
        give(tape, calls, flush_every=10)
        seal = tape_pb2.Seal(end=tape_pb2.Seal.END_ERROR, text="why", digest="ab", elapsed_ns=5)
        tape.seal(seal)
        assert seal.requests == 0, "the caller's seal was changed"
    with TapeReader.open(tmp_path / "t") as reader:
        assert (reader.header, reader.version, reader.end, reader.seal) == (header, 3, None, None)
        blocks = list(reader.blocks())
        seal.requests, seal.completions, seal.tokens = reader.totals
        seal.faults = len(faults_of(rows_of(header, calls)))
        assert reader.seal == seal
        assert (tape.request_count, tape.completion_count, tape.token_count) == reader.totals
        assert [block.number for block in blocks] == [1, 2, 3, 4, 5]
        assert sum(block.request_count for block in blocks) == tape.request_count
        first, last = blocks[0], blocks[-1]
        assert first.first_id == 1
        assert [b.offset for b in blocks[1:]] == [b.offset + b.frame_bytes for b in blocks[:-1]]
        assert last.offset + last.frame_bytes < (tmp_path / "t").stat().st_size
        assert [b.first_id for b in reader.blocks()] == [b.first_id for b in blocks], (
            "a second reading differs"
        )


def test_runs_carry_ids_sequences_numbers_and_checkpoints(tmp_path: Path) -> None:
    row = Request(1, 0, 0, 0, 512, 0, 0)
    calls = [
        Requests(0, (row, row), 1),
        Requests(2, (row,), 1),
        Requests(0, (row,), 2),
        Token(2, 10, 0, 0, 0, None, 3),
        Token(0, 20, 0, 0, 0, None, 3),
        Token(2, 30, 0, 1, 0, (), 3),
    ]
    write(tmp_path / "t", make_header(), calls, flush_every=4)
    with TapeReader.open(tmp_path / "t") as reader:
        runs = [run for block in reader.blocks() for run in block.runs()]
    requests = [(r.worker, r.first_id, r.first_sequence) for r in runs if isinstance(r, RequestsRun)]
    tokens = [(r.worker, r.number, r.checkpoint, r.order) for r in runs if isinstance(r, TokenRun)]
    assert requests == [(0, 1, 0), (2, 3, 0), (0, 4, 2)]
    assert tokens == [(2, 1, 1, None), (0, 2, 1, None), (2, 3, 2, None)]


def test_neighbours_of_one_time_become_one_run(tmp_path: Path) -> None:
    row = Request(1, 0, 0, 0, 512, 0, 0)
    write(tmp_path / "t", make_header(), [Requests(0, (row,), 5)] * 3 + [Requests(0, (row,), 6)])
    with TapeReader.open(tmp_path / "t") as reader:
        counts = [run.count for block in reader.blocks() for run in block.runs()]  # type: ignore[union-attr]
    assert counts == [3, 1]


def test_after_requests_is_cleared(tmp_path: Path) -> None:
    write(tmp_path / "t", make_header(), [Note(0, messages_pb2.Note(log="x", after_requests=3), 0)])
    assert read_calls(tmp_path / "t") == [Note(0, messages_pb2.Note(log="x"), 0)]


def test_a_block_is_due_100_ms_after_its_first_row(tmp_path: Path) -> None:
    row = request_columns([Request(1, 0, 0, 0, 512, 0, 0)])
    path = tmp_path / "t"
    with TapeWriter(path, make_header()) as tape:
        empty = path.stat().st_size
        assert tape.next_flush_ns() is None
        tape.flush_due(10**12)
        tape.requests(0, row, 1, 7)
        tape.requests(1, row, 1, 90_000_000)
        assert tape.next_flush_ns() == 100_000_007
        tape.flush_due(100_000_006)
        assert path.stat().st_size == empty
        tape.flush_due(100_000_007)
        whole = path.stat().st_size
        assert whole > empty
        assert tape.next_flush_ns() is None
        tape.flush()
        assert path.stat().st_size == whole, "a block without rows was written"
        assert tape.request_count == 2


def test_long_notes_close_blocks_and_bound_them(tmp_path: Path) -> None:
    note = messages_pb2.Note(
        captured=messages_pb2.Captured(name="m:f", pickled=random.Random(1).randbytes(3 << 20))
    )
    write(tmp_path / "t", make_header(), [Note(0, note, 0)] * 3)
    with TapeReader.open(tmp_path / "t") as reader:
        assert [len(block.tables.notes) for block in reader.blocks()] == [1, 1, 1]
    assert read_calls(tmp_path / "t") == [Note(0, note, 0)] * 3


def test_a_block_that_is_long_enough_is_written_at_once(tmp_path: Path) -> None:
    with TapeWriter(tmp_path / "t", make_header()) as tape:
        tape.note(0, messages_pb2.Note(log="x" * (writer.BLOCK_BYTES_MAX - 100)), 0)
        assert tape.next_flush_ns() is not None
        tape.requests(0, request_columns([Request(1, 0, 0, 0, 512, 0, 0)] * 10), 10, 0)
        assert tape.next_flush_ns() is None


def test_the_places_of_an_order_count_towards_the_size_of_a_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token with an order needs the places of all tokens before it in its block: as many as fit none, here."""
    monkeypatch.setattr(writer, "BLOCK_BYTES_MAX", 40_000)
    count = 6000
    order = (1, *(0,) * (count - 1))
    with TapeWriter(tmp_path / "t", make_header()) as tape:
        give(tape, all_completed(3 * count))
        tape.flush()
        for released, places in ((count, None), (count, order), (0, None), (count, None)):
            tape.token(0, 0, 0, 0, released, places, 0)
            assert tape._block.raw_bytes < writer.BLOCK_BYTES_MAX
    with TapeReader.open(tmp_path / "t") as reader:
        tokens = [len(block.tables.mode) for block in reader.blocks()]
    assert [count for count in tokens if count] == [1, 2, 1]


def test_a_null_tape_counts_as_a_tape_does(tmp_path: Path) -> None:
    calls = make_run(11, steps=80)
    null: TapeSink = NullTape()
    tape: TapeSink = TapeWriter(tmp_path / "t", make_header())
    for sink in (null, tape):
        give(sink, calls)
    counts = [(sink.request_count, sink.completion_count, sink.token_count) for sink in (null, tape)]
    assert counts[0] == counts[1]
    assert min(counts[0]) > 0
    null.flush_due(1 << 60)
    assert null.next_flush_ns() is None
    for sink in (null, tape):
        sink.flush()
        sink.seal(tape_pb2.Seal(end=tape_pb2.Seal.END_FINISHED))
        sink.close()
