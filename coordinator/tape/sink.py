"""What a run is written to: a tape, or nothing.

Responsible for the interface between the coordinator and whatever keeps the run, and for the one that keeps
nothing. Nothing here touches a file.
"""

from collections.abc import Sequence
from typing import Protocol

from ringtape.coordinator.tape.slices import Completions, Requests
from ringtape.coordinator.tape.turns import Turns
from ringtape.proto import messages_pb2, tape_pb2


class TapeSink(Protocol):
    """Takes the rows of a run in the order in which they happen. Every method may raise TapeError.

    `worker` is an index below the header's `workers`; `count` is the number of rows in the columns; `at_ns` is
    nanoseconds since the start of the run. Columns carry digests if, and only if, the header's data level is
    DATA_LEVEL_DIGEST or DATA_LEVEL_FULL, and contents at the latter alone.
    """

    @property
    def request_count(self) -> int:
        """Requests so far, written to the file or not. The next request has this id, plus 1."""

    @property
    def completion_count(self) -> int:
        """Completions so far."""

    @property
    def token_count(self) -> int:
        """Tokens so far. The next token has this number, plus 1."""

    def content(self, data: bytes | memoryview) -> int:
        """Data of reads or writes, or a list of such, of at most PIECE_BYTES: its number, by which rows refer to it."""

    def requests(self, worker: int, columns: Requests, count: int, at_ns: int) -> None:
        """Requests that follow one another in the worker's program, handed to the kernel at `at_ns`."""

    def completions(self, worker: int, columns: Completions, count: int, at_ns: int) -> None:
        """Completions of requests given before, in the order in which they were taken from the kernel."""

    def token(
        self,
        worker: int,
        clock_ns: int,
        deadline_ns: int,
        mode: int,
        released: int,
        order: Sequence[int] | None,
        at_ns: int,
        delivered: int = 0,
    ) -> None:
        """A release token: the answer to the worker's next checkpoint. What starts a worker is not written.

        `released` completions are released. `order` gives, for each, its place in the worker's queue of completions
        not yet released after those before it were taken out; None is the order in which they completed. `delivered`
        messages are delivered, the oldest of those that had come.
        """

    def turns(self, worker: int, turns: Turns, requests: Requests, completions: Completions) -> None:
        """For each of these turns, at least one: its requests, its completions and its token, at its clock.

        The same as so many calls of `requests`, `completions` and `token`, each where it has rows; the columns have
        the rows of all of them. Released is in the order of completion.
        """

    def note(self, worker: int, note: messages_pb2.Note, at_ns: int) -> None:
        """Something a program did between the requests given before and those given after."""

    def undo(self, disk: int, offset: int, data: bytes) -> None:
        """What a range of a disk holds before its first change, which may be made once this has returned."""

    def begin(self) -> None:
        """The run begins: whatever was there before is given up."""

    def abandon(self) -> None:
        """The run has not begun and will not: whatever was there before stays."""

    def flush_due(self, now_ns: int) -> None:
        """Writes what has waited long enough. `now_ns` is since the start of the run."""

    def next_flush_ns(self) -> int | None:
        """When `flush_due` has something to do, since the start of the run; None when nothing waits."""

    def flush(self) -> None:
        """Writes all that waits."""

    def seal(self, seal: tape_pb2.Seal) -> None:
        """Ends the tape in order. The counts in `seal` are filled in on the tape; `seal` stays as it is."""

    def close(self) -> None:
        """Ends the tape without a seal, unless it has ended already."""


class NullTape:
    """A TapeSink that counts and keeps nothing, for a run that writes no tape."""

    def __init__(self) -> None:
        self.request_count = 0
        self.completion_count = 0
        self.token_count = 0

    def content(self, data: bytes | memoryview) -> int:
        """None is kept."""
        return 0

    def requests(self, worker: int, columns: Requests, count: int, at_ns: int) -> None:
        """Counts them."""
        self.request_count += count

    def completions(self, worker: int, columns: Completions, count: int, at_ns: int) -> None:
        """Counts them."""
        self.completion_count += count

    def token(
        self,
        worker: int,
        clock_ns: int,
        deadline_ns: int,
        mode: int,
        released: int,
        order: Sequence[int] | None,
        at_ns: int,
        delivered: int = 0,
    ) -> None:
        """Counts it."""
        self.token_count += 1

    def turns(self, worker: int, turns: Turns, requests: Requests, completions: Completions) -> None:
        """Counts what is in them."""
        made, came, _, _ = turns.totals
        self.request_count += made
        self.completion_count += came
        self.token_count += len(turns)

    def count(self, *, requests: int, completions: int, tokens: int) -> None:
        """Counts so many more."""
        self.request_count += requests
        self.completion_count += completions
        self.token_count += tokens

    def note(self, worker: int, note: messages_pb2.Note, at_ns: int) -> None:
        """Nothing."""

    def undo(self, disk: int, offset: int, data: bytes) -> None:
        """Nothing."""

    def begin(self) -> None:
        """Nothing."""

    def abandon(self) -> None:
        """Nothing."""

    def flush_due(self, now_ns: int) -> None:
        """Nothing."""

    def next_flush_ns(self) -> int | None:
        """None: nothing waits."""
        return None

    def flush(self) -> None:
        """Nothing."""

    def seal(self, seal: tape_pb2.Seal) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""
