"""Which requests on one disk must wait for an earlier one.

Two requests conflict when their ranges overlap and at least one of them changes the disk. The later waits until the
earlier has completed in the kernel, so the order in which they were entered decides the data. Disjoint requests never
wait. A worker keeps such an order for each disk that it alone uses, the coordinator one for each shared disk.

While only reads are active nothing is looked up. From the first change on, the active requests are indexed by the
64 KiB stretches they touch, so that a thousand waiting writes cost no more each than ten.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Generic, Protocol, TypeVar

_STRETCH_SHIFT = 16
# A request over more stretches than this is kept in a list of its own that every look-up walks.
_STRETCHES_MAX = 64


class Ordered(Protocol):
    """What is ordered: a range in bytes, not empty, and what it waits for."""

    offset: int
    length: int
    #: How many active requests it waits for.
    blockers: int
    #: Those that wait for it.
    dependents: list[Ordered]

    @property
    def changes(self) -> bool:
        """Does it change what a later read sees?"""


R = TypeVar("R", bound=Ordered)


class DiskOrder(Generic[R]):
    """The active requests (made and not completed) on one disk."""

    def __init__(self) -> None:
        # Dictionaries for their order: keys alone, by identity.
        self._active: dict[R, None] = {}
        #: Those that were entered and not removed, oldest first.
        self.active: Collection[R] = self._active.keys()
        #: How many of them change the disk.
        self.changing = 0
        self._indexed = False
        self._stretches: dict[int, dict[R, None]] = {}
        self._large: dict[R, None] = {}

    def add(self, request: R, *, waits: bool = True) -> None:
        """Enter a request; afterwards `request.blockers` says how many active ones it waits for.

        Without `waits` it does not wait here: somebody else sees to that.
        """
        if request.changes:
            self.changing += 1
            if not self._indexed:
                self._indexed = True
                for other in self._active:
                    self._enter(other)
        if self._indexed:
            if waits:
                self._find_conflicts(request)
            self._enter(request)
        self._active[request] = None

    def remove(self, request: R) -> list[R]:
        """Take out a completed request; returns those that waited for nothing else, in the order they were entered."""
        del self._active[request]
        if self._indexed:
            self._leave(request)
            if request.changes:
                self.changing -= 1
                if self.changing == 0:
                    self._indexed = False
                    self._stretches.clear()
                    self._large.clear()
        freed: list[R] = []
        for dependent in request.dependents:
            dependent.blockers -= 1
            if dependent.blockers == 0:
                freed.append(dependent)  # type: ignore[arg-type]  # only what was entered here depends on it
        request.dependents = []
        return freed

    def _find_conflicts(self, request: R) -> None:
        start, end, changes = request.offset, request.offset + request.length, request.changes
        groups = [self._large]
        stretches = _stretches(request)
        if stretches is None:
            groups = [self._active]
        else:
            groups.extend(group for key in stretches if (group := self._stretches.get(key)))
        for group in groups:
            for other in group:
                if other.offset < end and start < other.offset + other.length and (changes or other.changes):
                    # One that spans several stretches is met several times in a row.
                    if other.dependents and other.dependents[-1] is request:
                        continue
                    other.dependents.append(request)
                    request.blockers += 1

    def _enter(self, request: R) -> None:
        stretches = _stretches(request)
        if stretches is None:
            self._large[request] = None
            return
        for key in stretches:
            group = self._stretches.get(key)
            if group is None:
                group = self._stretches[key] = {}
            group[request] = None

    def _leave(self, request: R) -> None:
        stretches = _stretches(request)
        if stretches is None:
            del self._large[request]
            return
        for key in stretches:
            group = self._stretches[key]
            del group[request]
            if not group:
                del self._stretches[key]


def _stretches(request: Ordered) -> range | None:
    first = request.offset >> _STRETCH_SHIFT
    last = (request.offset + request.length - 1) >> _STRETCH_SHIFT
    return None if last - first >= _STRETCHES_MAX else range(first, last + 1)
