"""Goal: what is said about data that differs is right: who wrote a range last, and where two data part.

Method: tapes of made-up runs, in which requests overlap, overtake, fail and are cut short, and a plain model.
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from ringtape.coordinator.difference import explain, last_writer
from ringtape.coordinator.errors import DifferentData, Divergence, LastWriter
from ringtape.coordinator.tape import CompletionRow, RequestRow, TapeReader, iter_rows
from ringtape.proto import messages_pb2
from tests.coordinator.tape.making import Call, Completion, Completions, Request, Requests, make_header, write

KINDS = messages_pb2.Kind.values()[1:]


def make_calls(rng: random.Random) -> list[Call]:
    """Few blocks, of two workers on two disks, written again and again; some requests fail or are cut short."""
    calls: list[Call] = []
    made = [0, 0]
    flying: list[list[tuple[int, Request]]] = [[], []]
    for _ in range(rng.randint(1, 40)):
        worker = rng.randrange(2)
        if rng.random() < 0.6 or not flying[worker]:
            kind = rng.choice(KINDS)
            offset, length = (0, 0) if kind == 5 else (512 * rng.randrange(6), 512 * rng.randint(1, 4))
            if rng.random() < 0.05 and kind != 5:
                length = (1 << 64) - 512
            request = Request(kind, 0, rng.randrange(2), offset, length, 0, 0)
            flying[worker].append((made[worker], request))
            made[worker] += 1
            calls.append(Requests(worker, (request,), 0))
        else:
            sequence, request = flying[worker].pop(rng.randrange(len(flying[worker])))
            moved = request.kind in (1, 2)
            result = rng.choice((request.length % (1 << 63), 512, 0)) if moved else 0
            result = -5 if rng.random() < 0.2 else result
            calls.append(Completions(worker, (Completion(sequence, result, 0),), 0))
    return calls


def model(path: Path, request_id: int, disk: str, start: int, end: int) -> int | None:
    """The last that changed a byte of the range, by what the tape has row by row."""
    requests: dict[int, RequestRow] = {}
    done: list[int] = []
    with TapeReader.open(path) as reader:
        for row in iter_rows(reader):
            if isinstance(row, RequestRow):
                requests[row.id] = row
            elif isinstance(row, CompletionRow):
                if row.id == request_id:
                    break
                one = requests[row.id]
                changed = row.result if one.kind == 2 else one.length if row.result >= 0 else 0
                bytes_ = range(max(one.offset, start), min(one.offset + changed, end))
                if one.kind in (2, 3, 4) and one.disk == disk and bytes_:
                    done.append(row.id)
    return max((id_ for id_ in done if id_ < request_id), default=None)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_last_writer_is_the_one_of_the_model(seed: int) -> None:
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t"
        calls = make_calls(rng)
        write(path, make_header(workers=2), calls, flush_every=rng.choice((0, 1, 5)))
        count = sum(isinstance(call, Requests) for call in calls)
        with TapeReader.open(path) as reader:
            for _ in range(4):
                id_, disk = rng.randint(1, count), rng.randrange(2)
                start = rng.randrange(8 * 512)
                end = start + rng.choice((1, 512, 4096))
                found = last_writer(reader, id_, disk, start, end)
                assert found.request_id == model(path, id_, f"disk{disk}", start, end)


def test_without_the_data_there_is_only_the_writer(tmp_path: Path) -> None:
    """And where the tape cannot be read any more, the divergence stands by itself."""
    read = Request(messages_pb2.KIND_READ, 0, 1, 512, 512, 0, 0)
    zeroes = Request(messages_pb2.KIND_WRITE_ZEROES, 0, 1, 0, 4096, 0, 0)
    calls: list[Call] = [
        Requests(0, (zeroes, read), 0),
        Completions(0, (Completion(0, 0, 0), Completion(1, 512, 7)), 1),
    ]
    write(tmp_path / "t", make_header(workers=1), calls)
    error = Divergence(worker=0, checkpoint=0, request_id=2, recorded="this", actual="that")
    error.data = DifferentData(sequence=1, is_read=True, contents=0, length=512)
    plain = str(error)
    explain(str(tmp_path / "gone"), error, lambda *_: b"")
    assert str(error) == plain
    explain(str(tmp_path / "t"), error, lambda *_: b"")
    assert error.last_writer == LastWriter(0, 0, 1, "write_zeroes of 4096 bytes at 0 on disk 'disk1'")
    assert str(error) == (
        f"{plain}; last recorded writer: worker 0, request id 1, after checkpoint 0 "
        "(write_zeroes of 4096 bytes at 0 on disk 'disk1')"
    )
    assert error.difference == ""
