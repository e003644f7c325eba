"""The replaying conductor: goes along the tape and lets each worker have exactly what the recording let it have.

The tape is followed in its one global order. What a worker did is compared when the tape comes to it, so the first
difference in that order is the one that is reported, however the workers race. Memory is bounded: a worker can run
ahead of the tape no further than its next token, and its messages are left in the link when that is much.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from ringtape.coordinator.admission import Admissions
from ringtape.coordinator.ahead import LookAhead
from ringtape.coordinator.batches import BatchChecker, RequestRows
from ringtape.coordinator.completions import Released
from ringtape.coordinator.conductor import Returns, Send, start_token
from ringtape.coordinator.contents import ContentsKeeper
from ringtape.coordinator.errors import ProtocolError
from ringtape.coordinator.journal import Journal
from ringtape.coordinator.passed import pass_on
from ringtape.coordinator.post import Post
from ringtape.coordinator.replayed import NOTES_UNASKED, ReplayedWorker, same_note
from ringtape.coordinator.requests import Place
from ringtape.coordinator.stalls import stalled_at_stop, stalled_before, stalled_in_wait
from ringtape.coordinator.stops import Inspection
from ringtape.coordinator.tape.parts import Parts
from ringtape.coordinator.tape.reader import TapeReader
from ringtape.coordinator.tape.runs import (
    BlockView,
    CompletionsRun,
    Cursor,
    NoteRun,
    RequestsRun,
    Run,
    TokenRun,
)
from ringtape.coordinator.tape.slices import slice_requests
from ringtape.coordinator.words import checkpoint_in_words, note_in_words, request_in_words
from ringtape.proto import messages_pb2, tape_pb2, wire_pb2
from ringtape.proto.errors import RingtapeError, Stalled, TapeDamaged, TapeError

# A worker's requests that the tape has not come to; beyond these its link is not read.
AHEAD_ROWS_MAX = 1 << 16
# The same where disks are shared: a completion that another worker waits for may come behind the rows.
AHEAD_ROWS_MAX_SHARED = 1 << 24
# A stall is reported after the given time and so many times what the recording took for the same stretch.
_RECORDED_GAPS = 10


class Replayer:
    """Conducts a replay; see `Conductor`."""

    def __init__(
        self,
        reader: TapeReader,
        journal: Journal,
        checker: BatchChecker,
        *,
        shared: Sequence[bool] = (),
        stall_ns: int,
        on_log: Callable[[int, str], None],
        inspection: Inspection | None = None,
        ahead: LookAhead | None = None,
    ) -> None:
        """`ahead` gives leases to workers."""
        self.done = False
        #: Where the replay has stopped before the tape's end, in words; empty if it has not.
        self.stopped = ""
        self._inspection = inspection
        self._ahead = ahead
        #: The damage that ended the tape early, if it was damage.
        self.damage: TapeDamaged | None = None
        workers = reader.header.workers
        self.returns = Returns(workers)
        self._journal = journal
        self._checker = checker
        self._contents = ContentsKeeper(journal.tape)
        self._disks = [disk.name for disk in reader.header.disks]
        self._workers = [ReplayedWorker(index, self._disks) for index in range(workers)]
        self._admissions = Admissions(shared, workers)
        self._post = Post(workers)
        self._ahead_max = AHEAD_ROWS_MAX_SHARED if self._admissions.any else AHEAD_ROWS_MAX
        self._heard_ns = [0] * workers
        # Those whose process has ended, and what there is to say of it when the tape asks for more of them.
        self._died: dict[int, RingtapeError] = {}
        seal = reader.find_seal()
        self._ends_as_planned = seal is not None and seal.end != tape_pb2.Seal.END_WORKER_DIED
        self._blocks = self._blocks_of(reader)
        self._block: BlockView | None = None
        self._cursor: Cursor | None = None
        self._parts: Parts | None = None
        self._run: Run | None = None
        self._cut: messages_pb2.Requests | None = None
        self._offset = 0  # rows of the current run that are done
        self._stall_ns = stall_ns
        self._on_log = on_log
        self._tape_ns = 0
        self._gap_ns = 0
        self._came_ns = 0
        # Checkpoints that workers have passed and the tape has not come to.
        self._passed = 0

    def _blocks_of(self, reader: TapeReader) -> Iterator[BlockView]:
        try:
            if self._ahead is None:
                yield from reader.blocks()
            else:
                for parts in self._ahead.blocks():
                    self._parts = parts
                    yield parts.block
        except TapeDamaged as error:
            self.damage = error

    def start(self, send: Send) -> None:
        """See `Conductor`."""
        self._send = send
        self._started_ns = time.monotonic_ns()
        for worker in range(len(self._workers)):
            send(worker, start_token(self._started_ns))
        self._next_run()
        self._tell_ahead()
        self._follow()

    def _tell_ahead(self) -> None:
        if self._ahead is not None:
            self._ahead.tell(self._send, self._journal.next_id)

    def data(self, worker: int, data: bytearray) -> None:
        """See `Conductor`."""
        self._contents.data(worker, data)

    def batch(self, worker: int, batch: wire_pb2.Batch) -> None:
        """See `Conductor`."""
        self._heard_ns[worker] = self._now_ns()
        self._contents.take(worker, batch)
        state = self._workers[worker]
        if batch.passed:
            if self._ahead is None:
                raise ProtocolError(f"worker {worker} passed checkpoints without a lease")
            self._ahead.passed(worker, batch.passed)
            state.passed += batch.passed
            self._passed += batch.passed
        state.add(batch, self._checker)
        self._admissions.completed(worker, batch.completions.sequence)
        self._follow()
        self._tell_ahead()
        self._admit()

    def _admit(self) -> None:
        for worker, sequences in self._admissions.take():
            message = wire_pb2.CoordinatorMessage(admission=wire_pb2.Admission(sequences=sequences))
            self._send(worker, message)

    def died(self, worker: int, error: RingtapeError) -> None:
        """See `Conductor`: a recording that ended because a worker died is followed to its end without that one."""
        if self._ends_as_planned:
            raise error
        self._died[worker] = error
        self._follow()

    def _follow(self) -> None:
        """Go along the tape as far as the workers have come."""
        while self._run is not None:
            if self._inspection is not None and self._stops():
                return
            run = self._run
            if self._passed and self._pass_on():
                continue
            if isinstance(run, RequestsRun):
                went_on = self._requests(run)
            elif isinstance(run, TokenRun):
                went_on = self._token(run)
            elif isinstance(run, CompletionsRun):
                self._completions(run)
                went_on = True
            else:
                went_on = self._note(run)
            if not went_on:
                if not self._stops():
                    self._raise_for_death(run)
                return
            self._next_run()
        if not self._stops():
            self.done = True

    def _raise_for_death(self, run: Run) -> None:
        """Raise what there is to say of a worker that has died if the tape waits for it or for its requests."""
        died = self._died
        if died and run.worker not in died and isinstance(run, TokenRun):
            state = self._workers[run.worker]
            missing = set(state.missing(state.released_by(run)))
            awaited = self._admissions.awaited(run.worker, missing, died)
            if awaited is not None:
                raise died[awaited]
        if run.worker in died:
            raise died[run.worker]

    def _stops(self) -> bool:
        """Has the tape come to the stop? The replay ends when all that was made up to it has completed."""
        inspection = self._inspection
        if inspection is None or not inspection.reached:
            return False
        if self._died and self._under_way() and not inspection.quit:
            for worker, error in self._died.items():
                if self._workers[worker].in_flight():
                    raise error  # what it made does not complete any more
        # Whoever stands in the debugger is left to it.
        if inspection.quit or not (inspection.standing or self._under_way()):
            more = self._run is not None or self.damage is not None
            self.damage = None  # the tape is whole as far as it was replayed
            self.stopped = f"stopped {inspection.reached}; the tape {'goes on' if more else 'ends there too'}"
            self.done = True
        return True

    def _under_way(self) -> bool:
        """Is there a request that the tape has come to and that has not completed?"""
        return any(state.in_flight() for state in self._workers)

    def _next_run(self) -> None:
        self._run = None if self._cursor is None else self._cursor.next()
        while self._run is None:
            block = next(self._blocks, None)
            if block is None:
                break
            self._block = block
            self._cursor = Cursor(block)
            self._run = self._cursor.next()
        self._offset = 0
        self._cut = None
        self._came_ns = self._now_ns()
        if self._run is not None:
            self._gap_ns = max(self._run.at_ns - self._tape_ns, 0)
            self._tape_ns = max(self._tape_ns, self._run.at_ns)

    def _pass_on(self) -> bool:
        """Go along the tape as far as workers have passed it on their own, in this block; False if that is nowhere."""
        parts, cursor = self._parts, self._cursor
        assert parts is not None and cursor is not None, "who has leases is told of blocks with their parts"
        start = cursor.place
        stop = pass_on(parts, start, self._workers, self._journal)
        if stop == start:
            return False
        assert not self._offset, "what was passed is whole"
        self._passed = sum(state.passed for state in self._workers)
        self._tape_ns = max(self._tape_ns, parts.latest_ns(start, stop))
        cursor.jump(stop)
        self._next_run()
        return True

    def _completions(self, run: CompletionsRun) -> None:
        self._workers[run.worker].recorded.add(run.columns)

    def _columns(self, run: RequestsRun) -> messages_pb2.Requests:
        """The current run's rows, cut out of the tape once."""
        if self._cut is None:
            self._cut = run.columns
        return self._cut

    def _requests(self, run: RequestsRun) -> bool:
        state = self._workers[run.worker]
        while self._offset < run.count:
            if state.act is None and state.waits is None:
                return False
            first_id = run.first_id + self._offset
            count_max = run.count - self._offset
            if self._inspection is not None:
                count_max = self._inspection.rows_to_stop(first_id, count_max)
                if not count_max:
                    return False
            if not isinstance(state.act, RequestRows):
                words = request_in_words(self._columns(run), self._offset, self._disks)
                raise state.divergence(words, request_id=first_id)
            made = state.peek_requests(count_max)
            recorded = slice_requests(self._columns(run), self._offset, self._offset + made.count)
            state.compare_requests(recorded, made, first_id)
            self._admissions.requests(run.worker, state.made, made.columns, made.count)
            assert first_id == self._journal.next_id, "the journal counts requests as the tape does"
            place = Place(run.worker, state.checkpoints, first_id, state.made)
            state.take_requests(made, first_id)
            self._journal_requests(run.worker, made, recorded)
            self._offset += made.count
            if self._inspection is not None:
                self._inspection.requests(made.columns, made.count, place)
        return True

    def _journal_requests(self, worker: int, made: RequestRows, recorded: messages_pb2.Requests) -> None:
        self._journal.requests(worker, made.columns, made.count, made.at_ns)

    def _token(self, run: TokenRun) -> bool:
        state = self._workers[run.worker]
        if state.act is None and state.waits is None:
            return False
        same = False
        if state.act is None and state.waits is not None and state.waits.WhichOneof("waits") == "checkpoint":
            waits = state.waits.checkpoint
            same = waits.mode == run.mode and waits.deadline_ns == run.deadline_ns
        if not same:
            raise state.divergence(checkpoint_in_words(run.mode, run.deadline_ns))
        released = state.released_by(run)
        if not self._has_come(state, released):
            return False
        if self._post.waiting(run.worker) < run.delivered:
            raise TapeError(
                f"token {run.number} of the tape delivers {run.delivered} messages to worker {run.worker}, and only "
                f"{self._post.waiting(run.worker)} were sent"
            )
        state.compare_results(released)
        if self._inspection is not None:
            self._inspection.token(run.worker, run.checkpoint, released, state.ids)
        state.release(released)
        self._give_token(run, state, released)
        return True

    def _has_come(self, state: ReplayedWorker, released: Released) -> bool:
        return not state.missing(released)

    def _give_token(self, run: TokenRun, state: ReplayedWorker, released: Released) -> None:
        assert run.number == self._journal.next_token, "the journal counts tokens as the tape does"
        now_ns = self._now_ns()
        self._journal_arrived(state, now_ns)
        self._journal.token(
            run.worker,
            state.checkpoints,
            clock_ns=run.clock_ns,
            deadline_ns=run.deadline_ns,
            mode=run.mode,
            released=replace(released, order=self._order_of(state, released)),
            delivered=run.delivered,
            at_ns=now_ns,
        )
        if self._inspection is not None and self._inspection.reached:
            return  # the program stays where it is
        token = wire_pb2.Token(
            number=run.number,
            checkpoint=state.checkpoints,
            clock_ns=run.clock_ns,
            sequences=released.sequences,
            ids=self._untold_ids(state),
            deliveries=self._post.take(run.worker, run.delivered),
        )
        state.new_ids = []
        self._send_token(run.worker, token, released)

    def _untold_ids(self, state: ReplayedWorker) -> list[wire_pb2.IdRange]:
        """The ids that the token has to tell: leases tell those of their workers, ahead of it."""
        if self._ahead is None or not self._ahead.has(state.index):
            return state.new_ids
        self._tell_ahead()
        self._ahead.asked(state.index, state.checkpoints)
        return []

    def _order_of(self, state: ReplayedWorker, released: Released) -> Sequence[int] | None:
        return state.order_of(released)

    def _send_token(self, worker: int, token: wire_pb2.Token, released: Released) -> None:
        self._send(worker, wire_pb2.CoordinatorMessage(token=token))

    def _journal_arrived(self, state: ReplayedWorker, now_ns: int) -> None:
        arrived = state.take_arrived()
        if arrived.count:
            columns = messages_pb2.Completions(
                sequence=arrived.sequences,
                result=arrived.results,
                digest=arrived.digests,
                contents=arrived.contents,
            )
            self._journal.completions(state.index, columns, arrived.count, now_ns)

    def _note(self, run: NoteRun) -> bool:
        state = self._workers[run.worker]
        if state.act is None and state.waits is None:
            return False
        what = run.note.WhichOneof("what")
        if not same_note(run.note, state):
            raise state.divergence(note_in_words(run.note))
        now_ns = self._now_ns()
        if what in NOTES_UNASKED:
            self._post.note(run.worker, state.take_note())
            self._journal.note(run.worker, run.note, now_ns)
            if what == "log":
                self._on_log(run.worker, run.note.log)
            return True
        assert state.waits is not None
        finish, state.waits = state.waits.finish, None
        if what == "captured":
            self._journal.note(run.worker, run.note, now_ns)
            answer = wire_pb2.CaptureAnswer(recorded=run.note.captured)
            self._send(run.worker, wire_pb2.CoordinatorMessage(capture=answer))
        else:
            self._journal_arrived(state, now_ns)
            outcome = messages_pb2.Note(outcome=finish.outcome)
            self._post.note(run.worker, outcome)
            self._journal.note(run.worker, outcome, now_ns)
            self.returns.add(run.worker, finish)
            if self._inspection is not None:
                self._inspection.outcome(run.worker, state.checkpoints, finish.outcome)
        return True

    def take(self, worker: int, message: wire_pb2.WorkerMessage) -> bool:
        """Take a message that only an inspected replay gets; False if it is none of those."""
        if self._inspection is None or not self._inspection.take(worker, message):
            return False
        # Nobody was late while the program stood still.
        self._came_ns = self._now_ns()
        self._follow()
        return True

    def wants(self, worker: int) -> bool:
        """See `Conductor`."""
        return self._workers[worker].rows_ahead < self._ahead_max

    def next_due_ns(self) -> int | None:
        """See `Conductor`: when the worker that the tape waits for has taken too long."""
        if self._inspection is not None and self._inspection.standing:
            return None
        if self._inspection is not None and self._inspection.reached:
            return max(self._came_ns, *self._heard_ns) + self._stall_ns
        if self._run is None:
            return None
        heard_ns = max(self._came_ns, self._heard_ns[self._run.worker])
        return heard_ns + self._stall_ns + _RECORDED_GAPS * self._gap_ns

    def tick(self, now_ns: int) -> None:
        """See `Conductor`."""
        due_ns = self.next_due_ns()
        if due_ns is not None and now_ns >= due_ns:
            raise self._stalled()

    def _stalled(self) -> Stalled:
        if self._inspection is not None and self._inspection.reached:
            return stalled_at_stop(self._inspection.reached, self._workers)
        run = self._run
        assert run is not None
        state = self._workers[run.worker]
        if isinstance(run, TokenRun) and state.waits is not None:
            missing = state.missing(state.released_by(run))
            others = [worker for worker in range(len(self._workers)) if worker != run.worker]
            return stalled_in_wait(state, missing, self._admissions.awaited(run.worker, set(missing), others))
        return stalled_before(state, self._in_words(run))

    def _in_words(self, run: Run) -> str:
        if isinstance(run, RequestsRun):
            words = request_in_words(self._columns(run), self._offset, self._disks)
            return f"request id {run.first_id + self._offset}, {words}"
        if isinstance(run, TokenRun):
            return checkpoint_in_words(run.mode, run.deadline_ns)
        return note_in_words(run.note) if isinstance(run, NoteRun) else "completions"

    def _now_ns(self) -> int:
        return time.monotonic_ns() - self._started_ns
