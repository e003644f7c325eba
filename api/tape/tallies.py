"""What the requests of a tape add up to, by disk and worker, while it is read block by block.

Responsible for everything that can be added up in columns; the working set, conflicts and the order of time have
modules of their own. It keeps what is in flight, and a bounded number of sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ringtape.coordinator.tape import Joined, Table
from ringtape.jobs.histogram import Histogram
from ringtape.proto.messages_pb2 import KIND_DISCARD, KIND_FSYNC, KIND_READ, KIND_WRITE
from ringtape.tape.conflicts import Conflicts
from ringtape.tape.in_time import InTime
from ringtape.tape.working_set import INTERVALS_MAX, WorkingSet

# Pairs of disk and worker that are told apart; what else there is goes into one.
PAIRS_MAX = 2048
INTERVALS_OF_ALL_MAX = 1 << 21  # of all working sets together
STREAMS_MAX = 1 << 18  # of worker, disk and kind, of which it is known where they ended
OTHERS = (-1, -1)

Pair: TypeAlias = tuple[int, int]  # index of the disk, worker

_EVENT = np.dtype([("at_ns", "<i8"), ("disk", "<u2"), ("worker", "<u2"), ("change", "i1")])


@dataclass
class KindTally:
    """Requests of one kind."""

    requests: int = 0
    bytes: int = 0
    length_min: int = 0
    length_max: int = 0
    length_classes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(65, dtype=np.int64))
    sequential: int = 0
    completed: int = 0
    failed: int = 0
    moved_bytes: int = 0
    latency_ns: Histogram = field(default_factory=Histogram)

    def merge(self, other: KindTally) -> None:
        """Takes in what another has."""
        if other.requests:
            self.length_min = min(self.length_min, other.length_min) if self.requests else other.length_min
            self.length_max = max(self.length_max, other.length_max)
        self.requests += other.requests
        self.bytes += other.bytes
        self.length_classes = self.length_classes + other.length_classes
        self.sequential += other.sequential
        self.completed += other.completed
        self.failed += other.failed
        self.moved_bytes += other.moved_bytes
        self.latency_ns.merge(other.latency_ns)

    def made(self, rows: Table, sequential: NDArray[np.bool_]) -> None:
        """Takes in requests."""
        length = rows["length"]
        low, high = int(length.min()), int(length.max())
        self.length_min = min(self.length_min, low) if self.requests else low
        self.length_max = max(self.length_max, high)
        self.requests += len(rows)
        self.bytes += int(length.sum(dtype=np.uint64))
        # The class of a length: how many bits it has.
        bits = np.frexp(length.astype(np.float64))[1]
        self.length_classes += np.bincount(bits, minlength=65)[:65]
        self.sequential += int(sequential.sum())

    def done(self, rows: Table) -> None:
        """Takes in completions."""
        result = rows["result"]
        self.completed += len(rows)
        self.failed += int((result < 0).sum())
        if rows["kind"][0] in (KIND_READ, KIND_WRITE):
            self.moved_bytes += int(result.clip(0).sum())
        self.latency_ns.add((rows["completed_ns"] - rows["submitted_ns"]).clip(0))


@dataclass
class PairTally:
    """Requests of one worker on one disk."""

    kinds: dict[int, KindTally] = field(default_factory=dict)
    conflicts: int = 0
    first_ns: int | None = None
    last_ns: int | None = None

    def merge(self, other: PairTally) -> None:
        """Takes in what another has."""
        for kind, tally in other.kinds.items():
            self.kinds.setdefault(kind, KindTally()).merge(tally)
        self.conflicts += other.conflicts
        for at_ns in (other.first_ns, other.last_ns):
            if at_ns is not None:
                self.spans(at_ns, at_ns)

    def spans(self, first_ns: int, last_ns: int) -> None:
        """It was at work from then to then."""
        self.first_ns = first_ns if self.first_ns is None else min(first_ns, self.first_ns)
        self.last_ns = last_ns if self.last_ns is None else max(last_ns, self.last_ns)


class Depth:
    """How many requests are in flight, and the most there were, of one disk, one worker or all."""

    def __init__(self) -> None:
        self.now = 0
        self.max = 0

    def take(self, changes: NDArray[Any]) -> None:
        """Takes in changes, in the order of time."""
        if len(changes):
            depth = np.cumsum(changes, dtype=np.int64) + self.now
            self.max = max(self.max, int(depth.max()))
            self.now = int(depth[-1])


class Tallies:
    """Everything that `tape stats` adds up. `take` every block, then `finish`."""

    def __init__(self, workers: int, disks: int) -> None:
        self.pairs: dict[Pair, PairTally] = {}
        self.working_sets: dict[Pair, WorkingSet] = {}
        self.disk_sets: dict[int, WorkingSet] = {}
        self.depth = Depth()
        self.disk_depths: dict[int, Depth] = {}
        self.worker_depths: dict[int, Depth] = {}
        # Of worker, disk and kind: where the last request ended.
        self._stream_keys = np.zeros(0, dtype=np.uint64)
        self._stream_ends = np.zeros(0, dtype=np.uint64)
        self._conflicts = Conflicts()
        self._events = InTime(_EVENT)
        sets = min(workers * disks, PAIRS_MAX) + (disks if workers > 1 else 0)
        self._intervals_max = max(64, min(INTERVALS_MAX, INTERVALS_OF_ALL_MAX // max(sets, 1)))
        self._shared = workers > 1

    def take(self, joined: Joined) -> None:
        """One more block."""
        made, completed = joined.made, joined.completed
        if len(made):
            sequential = self._sequential(made)
            conflicts = self._conflicts.take(joined)
            for pair, place in _by_pair(made):
                self._made(pair, made[place], sequential[place], int(conflicts[place].sum()))
            if self._shared:
                for disk, place in _groups(made["disk"]):
                    self._touched(self.disk_sets, disk, made[place])
        else:
            self._conflicts.take(joined)
        for pair, place in _by_pair(completed):
            rows = completed[place]
            tally = self._pair(pair)
            tally.spans(int(rows["completed_ns"].min()), int(rows["completed_ns"].max()))
            for kind, of_kind in _groups(rows["kind"]):
                tally.kinds.setdefault(kind, KindTally()).done(rows[of_kind])
        self._sweep(self._events.take(np.concatenate((_events(made, 1), _events(completed, -1)))))

    def finish(self) -> None:
        """There is no more."""
        self._sweep(self._events.rest())

    def _pair(self, pair: Pair) -> PairTally:
        if pair not in self.pairs and len(self.pairs) >= PAIRS_MAX:
            pair = OTHERS
        return self.pairs.setdefault(pair, PairTally())

    def _made(self, pair: Pair, rows: Table, sequential: NDArray[np.bool_], conflicts: int) -> None:
        tally = self._pair(pair)
        tally.conflicts += conflicts
        tally.spans(int(rows["submitted_ns"].min()), int(rows["submitted_ns"].max()))
        for kind, place in _groups(rows["kind"]):
            tally.kinds.setdefault(kind, KindTally()).made(rows[place], sequential[place])
        if pair in self.pairs:
            self._touched(self.working_sets, pair, rows)

    def _touched(self, sets: dict[Any, WorkingSet], key: Any, rows: Table) -> None:
        """Bytes of the disk that the rows read or write; what is discarded is not used."""
        if key not in sets:
            if len(sets) >= PAIRS_MAX:
                return
            sets[key] = WorkingSet(self._intervals_max)
        used = (rows["kind"] != KIND_DISCARD) & (rows["kind"] != KIND_FSYNC)
        if used.any():
            sets[key].add(rows["offset"][used], rows["length"][used])

    def _sequential(self, made: Table) -> NDArray[np.bool_]:
        """Which requests begin where the one before of the same worker, disk and kind ended."""
        key = made["worker"].astype(np.uint64) << 24 | made["disk"].astype(np.uint64) << 8 | made["kind"]
        order: Any = np.argsort(key, kind="stable") if (key[1:] != key[0]).any() else slice(None)
        keys, offset = key[order], made["offset"][order]
        end = offset + made["length"][order]
        first = np.flatnonzero(np.diff(keys, prepend=~keys[:1]))
        before = np.concatenate((end[:1], end[:-1]))
        follows = before == offset
        # The first ones go on from blocks before.
        place = np.searchsorted(self._stream_keys, keys[first])
        known = np.append(self._stream_keys, np.uint64(2**64 - 1))[place] == keys[first]
        follows[first] = False
        follows[first[known]] = self._stream_ends[place[known]] == offset[first[known]]
        last = np.append(first[1:], len(keys)) - 1
        self._stream_ends[place[known]] = end[last[known]]
        if not known.all() and len(self._stream_keys) < STREAMS_MAX:
            all_keys = np.concatenate((self._stream_keys, keys[first[~known]]))
            by_key = np.argsort(all_keys)
            self._stream_keys = all_keys[by_key]
            self._stream_ends = np.concatenate((self._stream_ends, end[last[~known]]))[by_key]
        result = np.empty(len(made), dtype=bool)
        result[order] = follows & (made["kind"][order] != KIND_FSYNC)
        return result

    def _sweep(self, events: NDArray[Any]) -> None:
        self.depth.take(events["change"])
        for depths, name in ((self.disk_depths, "disk"), (self.worker_depths, "worker")):
            for one, place in _groups(events[name]):
                depths.setdefault(one, Depth()).take(events["change"][place])


def _events(rows: Table, change: int) -> NDArray[Any]:
    events = np.zeros(len(rows), dtype=_EVENT)
    events["at_ns"] = rows["submitted_ns" if change > 0 else "completed_ns"]
    events["disk"], events["worker"], events["change"] = rows["disk"], rows["worker"], change
    return events


def _by_pair(rows: Table) -> Iterator[tuple[Pair, Any]]:
    for key, place in _groups(rows["disk"].astype(np.uint32) << 16 | rows["worker"]):
        yield (key >> 16, key & 0xFFFF), place


def _groups(keys: NDArray[Any]) -> Iterator[tuple[int, Any]]:
    """Each key, in order, and where its rows are, in their order."""
    if not len(keys):
        return
    if not (keys != keys[0]).any():
        yield int(keys[0]), slice(None)
        return
    order = np.argsort(keys, kind="stable")
    of_order = keys[order]
    first = np.flatnonzero(of_order[1:] != of_order[:-1]) + 1
    for place in np.split(order, first):
        yield int(keys[place[0]]), place
