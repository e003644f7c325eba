"""Goal: messages come to a worker in the order in which they were taken, barriers open when all are there."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from ringtape.coordinator.post import MAILBOX_BYTES_MAX, Post
from ringtape.proto import messages_pb2, wire_pb2

WORKERS = 3


def sent(to: int, payload: bytes) -> messages_pb2.Note:
    return messages_pb2.Note(
        sent=messages_pb2.Sent(to=to, size=len(payload), digest=bytes(16), payload=payload)
    )


def outcome() -> messages_pb2.Note:
    return messages_pb2.Note(outcome=messages_pb2.Outcome())


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32))
def test_everyone_is_given_what_was_sent_to_them_in_its_order(seed: int) -> None:
    """Beside lists that are appended to; a barrier opens when every worker has arrived once more than it has opened."""
    rng = random.Random(seed)
    post = Post(WORKERS)
    expected: list[list[wire_pb2.Delivery]] = [[] for _ in range(WORKERS)]
    given_: list[list[wire_pb2.Delivery]] = [[] for _ in range(WORKERS)]
    arrived = {"x": [0] * WORKERS, "y": [0] * WORKERS}
    opened = dict.fromkeys(arrived, 0)
    for number in range(80):
        worker = rng.randrange(WORKERS)
        match rng.randrange(3):
            case 0:
                to, payload = rng.randrange(WORKERS), b"%d" % number
                note = sent(to, payload)
                assert post.note(worker, note) == [to]
                assert not note.sent.payload and note.sent.size == len(payload), "the tape has no payloads"
                expected[to].append(wire_pb2.Delivery(payload=payload, sender=worker))
            case 1:
                name = rng.choice(("x", "y"))
                arrived[name][worker] += 1
                woken = post.note(worker, messages_pb2.Note(barrier=name))
                opens = min(arrived[name]) > opened[name]
                assert woken == (list(range(WORKERS)) if opens else [])
                if opens:
                    opened[name] += 1
                    for one in expected:
                        one.append(wire_pb2.Delivery(barrier=name))
            case 2:
                waiting = post.waiting(worker)
                assert waiting == len(expected[worker]) - len(given_[worker])
                given_[worker] += post.take(worker, rng.randint(0, waiting))
    for worker in range(WORKERS):
        given_[worker] += post.take(worker, post.waiting(worker))
        assert post.taken[worker] == len(given_[worker])
    assert given_ == expected


def test_a_worker_that_sends_more_than_is_taken_is_not_heard() -> None:
    post = Post(2)
    payload = bytes(1 << 20)
    for _ in range(MAILBOX_BYTES_MAX // len(payload)):
        assert post.may_send(0)
        post.note(0, sent(1, payload))
    assert not post.may_send(0)
    assert post.may_send(1)
    post.take(1, 1)
    assert post.may_send(0)


def test_what_is_sent_to_a_program_that_has_ended_is_dropped() -> None:
    post = Post(2)
    for _ in range(2 * MAILBOX_BYTES_MAX >> 20):
        post.note(0, sent(1, bytes(1 << 20)))
        if post.waiting(1) == 3:
            post.note(1, outcome())
    assert post.may_send(0)
    assert post.waiting(1) == 0
