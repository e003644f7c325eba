"""Goal: a request waits for exactly the earlier active ones that it conflicts with, and is freed with the last of them.

Method: random requests made and completed in random order, beside a model that compares ranges pair by pair. Ranges
are near the borders of the 64 KiB stretches by which the real thing looks them up, and at times larger than it indexes.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ringtape.engine.requests import Kind, Request
from ringtape.proto.order import DiskOrder

STRETCH = 1 << 16
OFFSETS = st.builds(
    lambda stretch, by: max(stretch * STRETCH + by * 512, 0), st.integers(0, 3), st.integers(-2, 2)
)
LENGTHS = st.sampled_from(
    [512, 1024, STRETCH - 512, STRETCH, 2 * STRETCH, 63 * STRETCH, 64 * STRETCH, 200 * STRETCH]
)
KINDS = st.sampled_from([Kind.READ, Kind.READ, Kind.WRITE, Kind.WRITE_ZEROES, Kind.DISCARD])
MADE = st.tuples(KINDS, OFFSETS, LENGTHS)


def conflict(one: Request, other: Request) -> bool:
    overlap = one.offset < other.offset + other.length and other.offset < one.offset + one.length
    return overlap and not (one.kind is Kind.READ and other.kind is Kind.READ)


class Model:
    """The active requests, oldest first; what each waits for is found by looking at all before it."""

    def __init__(self) -> None:
        self.active: list[Request] = []

    def blockers(self, request: Request) -> list[Request]:
        before = self.active[: self.active.index(request)]
        return [other for other in before if conflict(request, other)]

    def free(self) -> list[Request]:
        return [request for request in self.active if not self.blockers(request)]


@settings(max_examples=400)
@given(st.lists(MADE | st.integers(0, 30), min_size=1, max_size=60))
def test_a_request_waits_for_all_that_it_conflicts_with_and_for_nothing_else(
    acts: list[tuple[Kind, int, int] | int],
) -> None:
    """A number completes one of the requests that are free to be in the kernel; at the end all are completed."""
    order: DiskOrder[Request] = DiskOrder()
    model = Model()
    made = 0

    def complete(which: int) -> None:
        free = model.free()
        if not free:
            return
        done = free[which % len(free)]
        model.active.remove(done)
        freed = order.remove(done)
        assert freed == [request for request in model.free() if request not in free]
        assert all(request.blockers == len(model.blockers(request)) for request in model.active)

    for act in acts:
        if isinstance(act, int):
            complete(act)
            continue
        request = Request(act[0], 0, act[1], act[2])
        request.sequence = made
        made += 1
        order.add(request)
        model.active.append(request)
        assert request.blockers == len(model.blockers(request))
    while model.active:
        active = len(model.active)
        complete(made)
        assert len(model.active) < active, "something is always free"
