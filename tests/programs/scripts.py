"""Hypothesis strategies for the scripts that `scripted.py` runs."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.programs.scripted import OUTSIDE, REFUSALS, REGION_BLOCKS, Act, Script

# Few blocks, so that most requests overlap others; at times the whole region.
BLOCKS = st.integers(0, 7) | st.integers(0, REGION_BLOCKS - 4)
COUNTS = st.integers(1, 4)
NANOSECONDS = st.sampled_from([0, 1, 1_000, 50_000, 300_000, 1_000_000])


def requests(disks: int) -> SearchStrategy[Act]:
    """All five requests, and such as are refused."""
    disk = st.integers(0, disks - 1)
    return st.one_of(
        st.tuples(st.just("read"), disk, BLOCKS, COUNTS),
        st.tuples(st.just("write"), disk, BLOCKS, COUNTS, st.integers(0, 255), st.booleans()),
        st.tuples(st.just("read_into"), disk, BLOCKS, COUNTS, st.booleans()),
        st.tuples(st.sampled_from(["write_zeroes", "discard"]), disk, BLOCKS, COUNTS),
        st.tuples(st.just("fsync"), disk, st.booleans()),
        st.tuples(st.just("refused"), disk, st.sampled_from(sorted(REFUSALS))),
    )


def _plain() -> SearchStrategy[Act]:
    """What both faces have beside requests."""
    return st.one_of(
        st.tuples(st.sampled_from(["random", "now", "checkpoint"])),
        st.tuples(st.just("sleep"), NANOSECONDS),
        st.tuples(st.just("capture"), st.sampled_from(sorted(OUTSIDE))),
        st.tuples(st.just("log"), st.integers(0, 9)),
        st.tuples(st.just("spin_now"), st.sampled_from([1, 100_000])),
    )


_SEND: SearchStrategy[Act] = st.tuples(
    st.just("send"), st.integers(0, 3), st.integers(0, 255), st.sampled_from([0, 1, 100, 1 << 20])
)


# Who waits for ever for what never comes is stalled, which is a failure like any other; few should be.
_PATIENCE = st.sampled_from([0, 1_000, 300_000, 300_000, 300_000, 1_000_000, 1_000_000, None])
# One in some thirty acts, so that most programs come to their end.
_FAILURE: SearchStrategy[Act] = st.tuples(st.just("raise"), st.integers(0, 9))


def blocking_scripts(disks: int) -> SearchStrategy[Script]:
    """Scripts for the blocking face."""
    waiting = st.tuples(st.just("receive"), st.none()) | st.tuples(st.just("barrier"), st.just(0), st.none())
    act = st.one_of(*[requests(disks)] * 20, *[_plain()] * 10, *[_SEND] * 4, waiting, _FAILURE)
    return st.lists(act, max_size=25)


def async_scripts(disks: int, depth: int = 3) -> SearchStrategy[Script]:
    """Scripts for the asynchronous face, tasks within tasks."""
    waiting: SearchStrategy[Act] = st.one_of(
        st.tuples(st.just("time")),
        st.tuples(st.just("spin"), st.integers(0, 200)),
        st.tuples(st.just("spin_time"), st.sampled_from([1, 100_000])),
        st.tuples(st.just("put"), st.integers(0, 1), st.integers(0, 9), _PATIENCE),
        st.tuples(st.just("get"), st.integers(0, 1), _PATIENCE),
        _SEND,
        st.tuples(st.just("receive"), _PATIENCE),
        st.tuples(st.just("barrier"), st.integers(0, 1), _PATIENCE),
    )
    kinds = [requests(disks)] * 12 + [_plain()] * 5 + [waiting] * 4 + [_FAILURE]
    if depth:
        script = async_scripts(disks, depth - 1)
        scripts = st.lists(script, min_size=1, max_size=4)
        kinds += [
            st.one_of(
                st.tuples(st.just("lock"), st.integers(0, 1), script),
                st.tuples(st.just("timeout"), NANOSECONDS, script),
                st.tuples(st.just("gather"), scripts, st.booleans()),
                st.tuples(st.sampled_from(["group", "wait", "completed"]), scripts),
                st.tuples(st.just("spawn"), script),
                st.tuples(st.just("cancel"), NANOSECONDS, script),
                st.tuples(st.just("generator"), script, st.booleans()),
            )
        ] * 9
    return st.lists(st.one_of(*kinds), min_size=1, max_size=6)
