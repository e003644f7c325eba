"""Everything that happened in a run, in the order in which it counts: onto the tape and into the digest.

Both conductors write it; what they write is what the run was.
"""

from __future__ import annotations

from ringtape.coordinator.completions import Released
from ringtape.coordinator.digest import RunDigest
from ringtape.coordinator.tape import NullTape
from ringtape.coordinator.tape.layout import Values
from ringtape.coordinator.tape.parts import Tokens
from ringtape.coordinator.tape.sink import TapeSink
from ringtape.coordinator.tape.slices import Completions, Requests
from ringtape.coordinator.tape.turns import Turns
from ringtape.proto import messages_pb2, tape_pb2


class Journal:
    """The tape (or none) and the digest of one run."""

    def __init__(self, tape: TapeSink, workers: int) -> None:
        self.tape = tape
        self._digest = RunDigest(workers)

    @property
    def next_id(self) -> int:
        """The id that the next request gets."""
        return self.tape.request_count + 1

    @property
    def next_token(self) -> int:
        """The number that the next token gets."""
        return self.tape.token_count + 1

    def requests(self, worker: int, columns: Requests, count: int, at_ns: int) -> None:
        """A worker's program made requests; they get the next ids."""
        self._digest.requests(worker, columns, count, self.next_id)
        self.tape.requests(worker, columns, count, at_ns)

    def completions(self, worker: int, columns: Completions, count: int, at_ns: int) -> None:
        """The kernel finished requests of a worker; in no digest, since a replay may see them in another order."""
        self.tape.completions(worker, columns, count, at_ns)

    def token(
        self,
        worker: int,
        checkpoint: int,
        *,
        clock_ns: int,
        deadline_ns: int,
        mode: int,
        released: Released,
        delivered: int,
        at_ns: int,
    ) -> None:
        """A token was given."""
        self._digest.token(
            worker, checkpoint, clock_ns, released.sequences, released.results, released.digests, delivered
        )
        self.tape.token(worker, clock_ns, deadline_ns, mode, released.count, released.order, at_ns, delivered)

    def turns(
        self,
        worker: int,
        checkpoint: int,
        turns: Turns,
        *,
        requests: Requests,
        completions: Completions,
        released: Released,
    ) -> None:
        """A worker released on its own, at checkpoints from `checkpoint` on; the columns are of all turns."""
        self._digest.turns(
            worker,
            checkpoint,
            turns,
            requests,
            self.next_id,
            (released.sequences, released.results, released.digests),
        )
        self.tape.turns(worker, turns, requests, completions)

    def passed(
        self,
        worker: int,
        checkpoint: int,
        tokens: Tokens,
        requests: messages_pb2.Requests,
        ids: Values,
        released: Released,
        untold: int,
    ) -> None:
        """A worker did on its own what the tape has: went through checkpoints from `checkpoint` on, maybe none.

        Requests may go on behind the last; `ids` are of all of them. Of what was released so many completions had
        not been told before.
        """
        columns = released.sequences, released.results, released.digests
        self._digest.passed(worker, tokens.rows(checkpoint), tokens.delivered, requests, ids, columns)
        assert isinstance(self.tape, NullTape), "a replay that writes a tape has no leases"
        self.tape.count(requests=len(ids), completions=untold, tokens=len(tokens))

    def note(self, worker: int, note: messages_pb2.Note, at_ns: int) -> None:
        """A worker's program did something other than a request."""
        note.after_requests = 0
        self._digest.note(worker, note)
        self.tape.note(worker, note, at_ns)

    def hexdigest(self) -> str:
        """The digest of the run so far."""
        return self._digest.hexdigest()

    def seal(
        self, end: tape_pb2.Seal.End, text: str, elapsed_ns: int, made: list[tape_pb2.FinalContents]
    ) -> None:
        """The run has ended, and how."""
        self.tape.seal(
            tape_pb2.Seal(end=end, text=text, digest=self.hexdigest(), elapsed_ns=elapsed_ns, made=made)
        )
