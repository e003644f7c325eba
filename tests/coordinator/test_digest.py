"""The digest of a run: the same however rows are grouped, another as soon as anything a program sees differs."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringtape.coordinator.digest import RunDigest, digest_of_tape
from ringtape.coordinator.tape import TapeReader
from ringtape.proto import messages_pb2
from tests.coordinator.tape.making import (
    Call,
    Completion,
    Completions,
    Note,
    Request,
    Requests,
    Token,
    completion_columns,
    make_header,
    make_run,
    request_columns,
    write,
)

WORKERS = 3
SEEDS = st.integers(0, 2**32)


@dataclass(frozen=True)
class Made:
    """Requests with consecutive ids."""

    worker: int
    first_id: int
    rows: tuple[Request, ...]


@dataclass(frozen=True)
class Given:
    """A token, with what it released."""

    worker: int
    checkpoint: int
    clock_ns: int
    rows: tuple[Completion, ...]
    delivered: int = 0


@dataclass(frozen=True)
class Said:
    """A note."""

    worker: int
    note: messages_pb2.Note


Event: TypeAlias = Made | Given | Said


def events_of(calls: Iterable[Call]) -> list[Event]:
    """What a run is for its digest, a request at a time."""
    events: list[Event] = []
    next_id = 1
    checkpoints = [0] * WORKERS
    queues: list[list[Completion]] = [[] for _ in range(WORKERS)]
    for call in calls:
        worker = call.worker
        match call:
            case Requests():
                for row in call.rows:
                    events.append(Made(worker, next_id, (row,)))
                    next_id += 1
            case Completions():
                queues[worker] += call.rows
            case Token():
                checkpoints[worker] += 1
                rows = tuple(queues[worker].pop(place) for place in call.order or (0,) * call.released)
                events.append(Given(worker, checkpoints[worker], call.clock_ns, rows, call.delivered))
            case Note():
                events.append(Said(worker, call.note))
    return events


def digest_of(events: Iterable[Event], *, workers: int = WORKERS, digests: bool = True) -> str:
    digest = RunDigest(workers)
    for event in events:
        match event:
            case Made(worker, first_id, rows):
                digest.requests(worker, request_columns(rows, digests=digests), len(rows), first_id)
            case Given(worker, checkpoint, clock_ns, rows, delivered):
                columns = completion_columns(rows, digests=digests)
                digest.token(
                    worker,
                    checkpoint,
                    clock_ns,
                    columns.sequence,
                    columns.result,
                    columns.digest,
                    delivered,
                )
            case Said(worker, note):
                digest.note(worker, note)
    return digest.hexdigest()


def regrouped(rng: random.Random, events: Iterable[Event]) -> Iterator[Event]:
    """The same events, workers raced in another way, requests with consecutive ids in calls of any length."""
    left = [[event for event in events if event.worker == worker] for worker in range(WORKERS)]
    held: list[Made | None] = [None] * WORKERS
    while any(left):
        worker = rng.choice([worker for worker in range(WORKERS) if left[worker]])
        event, before = left[worker].pop(0), held[worker]
        if (
            isinstance(event, Made)
            and before is not None
            and event.first_id == before.first_id + len(before.rows)
            and rng.random() < 0.8
        ):
            held[worker] = replace(before, rows=before.rows + event.rows)
            continue
        if before is not None:
            yield before
        held[worker] = event if isinstance(event, Made) else None
        if not isinstance(event, Made):
            yield event
    yield from (made for made in held if made is not None)


@settings(deadline=None)
@given(seed=SEEDS, rows_max=st.sampled_from((3, 60)), digests=st.booleans())
def test_grouping_and_races_never_change_it(seed: int, rows_max: int, digests: bool) -> None:
    events = events_of(make_run(seed, workers=WORKERS, steps=40, rows_max=rows_max))
    other = list(regrouped(random.Random(seed), events))
    assert digest_of(other, digests=digests) == digest_of(events, digests=digests)


def another(rng: random.Random, value: int) -> int:
    return value ^ (1 << rng.randrange(8))


def changed_note(rng: random.Random, note: messages_pb2.Note) -> messages_pb2.Note:
    result = messages_pb2.Note()
    result.CopyFrom(note)
    what = note.WhichOneof("what")
    if what == "log":
        result.log += "!"
        return result
    if what == "barrier":
        result.barrier += "!"
        return result
    if what == "sent":
        name = rng.choice(("to", "size", "digest"))
        value = getattr(result.sent, name)
        setattr(result.sent, name, value + (b"!" if isinstance(value, bytes) else 1))
        return result
    message = result.captured if what == "captured" else result.outcome
    covered = {
        "captured": ("name", "pickled", "raised"),
        "outcome": ("digest", "exception", "text", "raised"),
    }
    name = rng.choice(covered[what or ""])
    value = getattr(message, name)
    setattr(
        message, name, not value if name == "raised" else value + (b"!" if isinstance(value, bytes) else "!")
    )
    return result


def changed(rng: random.Random, event: Event) -> Event:
    """The event with one value changed."""
    match event:
        case Made(_, first_id, (row,)):
            name = rng.choice(("kind", "flags", "disk", "offset", "length", "digest", "first_id"))
            if name == "first_id":
                return replace(event, first_id=another(rng, first_id))
            return replace(event, rows=(replace(row, **{name: another(rng, getattr(row, name))}),))
        case Given(_, checkpoint, clock_ns, rows, delivered):
            name = rng.choice(
                ("checkpoint", "clock_ns", "delivered", *(("sequence", "result", "digest") * bool(rows)))
            )
            if name == "checkpoint":
                return replace(event, checkpoint=another(rng, checkpoint))
            if name == "delivered":
                return replace(event, delivered=delivered + rng.randint(1, 9))
            if name == "clock_ns":
                return replace(event, clock_ns=another(rng, clock_ns))
            at = rng.randrange(len(rows))
            row = replace(rows[at], **{name: another(rng, getattr(rows[at], name))})
            return replace(event, rows=(*rows[:at], row, *rows[at + 1 :]))
        case Said(_, note):
            return replace(event, note=changed_note(rng, note))
    raise AssertionError(event)


@settings(deadline=None, max_examples=300)
@given(seed=SEEDS)
def test_one_changed_value_changes_it(seed: int) -> None:
    rng = random.Random(seed)
    events = events_of(make_run(seed, workers=WORKERS, steps=20))
    if not events:
        return
    at = rng.randrange(len(events))
    other = [*events[:at], changed(rng, events[at]), *events[at + 1 :]]
    assert other != events
    assert digest_of(other) != digest_of(events), f"{events[at]} and {other[at]}"


@settings(deadline=None, max_examples=200)
@given(seed=SEEDS)
def test_a_worker_s_neighbours_that_swap_change_it(seed: int) -> None:
    """What happened between which requests counts: a token or a note cannot move over its neighbour."""
    rng = random.Random(seed)
    events = events_of(make_run(seed, workers=1, steps=20))
    pairs = [i for i in range(len(events) - 1) if events[i] != events[i + 1]]
    if not pairs:
        return
    at = rng.choice(pairs)
    other = [*events[:at], events[at + 1], events[at], *events[at + 2 :]]
    assert digest_of(other) != digest_of(events)
    assert digest_of([*events[:at], *events[at + 1 :]]) != digest_of(events), "an event less"


def test_a_value_that_moves_to_a_neighbouring_field_changes_it() -> None:
    row = Request(1, 0, 0, 0, 512, 0, 0)
    pairs: list[tuple[list[Event], list[Event]]] = [
        (
            [Said(0, messages_pb2.Note(outcome=messages_pb2.Outcome(exception="ab", text="c")))],
            [Said(0, messages_pb2.Note(outcome=messages_pb2.Outcome(exception="a", text="bc")))],
        ),
        (
            [Said(0, messages_pb2.Note(log="a")), Said(0, messages_pb2.Note(log="b"))],
            [Said(0, messages_pb2.Note(log="ab"))],
        ),
        ([Made(0, 1, (row,))], [Made(1, 1, (row,))]),
        ([Given(0, 1, 5, ()), Given(1, 1, 6, ())], [Given(0, 1, 6, ()), Given(1, 1, 5, ())]),
        # Two tokens of one and none, or of none and one: the released columns are the same.
        (
            [Given(0, 1, 0, (Completion(0, 0, 0),)), Given(0, 2, 0, ())],
            [Given(0, 1, 0, ()), Given(0, 2, 0, (Completion(0, 0, 0),))],
        ),
        # A row of zeros at the end, or not.
        ([Given(0, 1, 0, (Completion(0, 0, 0),))], [Given(0, 1, 0, ())]),
    ]
    for one, other in pairs:
        assert digest_of(one) != digest_of(other), f"{one} and {other}"
    assert digest_of([], workers=1) != digest_of([], workers=2)


def test_absent_digests_are_not_zeros() -> None:
    events = [Made(0, 1, (Request(1, 0, 0, 0, 512, 0, 0),)), Given(0, 1, 0, (Completion(0, 512, 0),))]
    for event in events:
        assert digest_of([event], digests=True) != digest_of([event], digests=False)


def test_what_may_differ_in_a_replay_is_left_out() -> None:
    fsync = Request(messages_pb2.KIND_FSYNC, 0, 0, 0, 0, 0, 0)
    later = replace(fsync, covers=9)
    assert digest_of([Made(0, 1, (fsync,))]) == digest_of([Made(0, 1, (later,))])
    plain = messages_pb2.Outcome(raised=True, exception="E", text="t")
    told = messages_pb2.Outcome(raised=True, exception="E", text="t", traceback="x", summary="y", where="z:1")
    assert digest_of([Said(0, messages_pb2.Note(outcome=plain))]) == digest_of(
        [Said(0, messages_pb2.Note(outcome=told, after_requests=4))]
    )


def test_it_is_32_hex_digits_and_asking_changes_nothing() -> None:
    digest, asked = RunDigest(2), RunDigest(2)
    for each in (digest, asked):
        for number in range(3):
            each.token(1, number, 5, b"", b"", b"")
            if each is asked:
                assert len(each.hexdigest()) == 32
                assert int(each.hexdigest(), 16) >= 0
    assert digest.hexdigest() == asked.hexdigest()


def test_its_value_is_part_of_the_format() -> None:
    """Seals of tapes made before have to stay true: if this changes, so does the tape's format version."""
    events: list[Event] = [
        Made(0, 1, (Request(2, 1, 0, 512, 1024, 99, 0), Request(5, 2, 1, 0, 0, 0, 1))),
        Given(0, 1, 123, (Completion(1, 0, 0), Completion(0, -5, 7))),
        Said(0, messages_pb2.Note(log="l")),
        Said(1, messages_pb2.Note(captured=messages_pb2.Captured(name="m:f", pickled=b"p", raised=True))),
        Made(1, 3, tuple(Request(1, 0, 0, 4096 * i, 4096, 0, 0) for i in range(20))),
        Said(1, messages_pb2.Note(outcome=messages_pb2.Outcome(digest=b"d", exception="e", text="t"))),
    ]
    assert digest_of(events, workers=2) == "b6bfc4dff76d16d4768c708c29c42183"


@settings(deadline=None, max_examples=50)
@given(seed=SEEDS, flush_every=st.integers(0, 7), digests=st.booleans())
def test_a_tape_has_the_digest_of_its_run(
    tmp_path_factory: pytest.TempPathFactory, seed: int, flush_every: int, digests: bool
) -> None:
    calls = make_run(seed, workers=WORKERS, steps=60)
    path: Path = tmp_path_factory.getbasetemp() / "tape"
    write(path, make_header(workers=WORKERS, digests=digests), calls, flush_every=flush_every)
    with TapeReader.open(path) as reader:
        assert digest_of_tape(reader) == digest_of(events_of(calls), digests=digests)
        assert reader.seal is not None
