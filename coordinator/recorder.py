"""The recording conductor: ids in order of arrival, tokens by the release policy, everything into the journal."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

from ringtape.coordinator.admission import Admissions
from ringtape.coordinator.batches import BatchChecker, RecordedRows, TurnRows, add_ids
from ringtape.coordinator.completions import CompletionQueue, Released, order_of_places
from ringtape.coordinator.conductor import Returns, Send, start_token
from ringtape.coordinator.contents import ContentsKeeper
from ringtape.coordinator.errors import ProtocolError
from ringtape.coordinator.journal import Journal
from ringtape.coordinator.policy import ReleasePolicy
from ringtape.coordinator.post import Post
from ringtape.coordinator.tape.slices import (
    CompletionColumns,
    RequestColumns,
    completion_columns,
    request_columns,
)
from ringtape.proto import messages_pb2, wire_pb2
from ringtape.proto.errors import RingtapeError

_WAIT = wire_pb2.Checkpoint.MODE_WAIT


class _Recorded:
    """One worker, as the recorder knows it."""

    def __init__(self) -> None:
        self.made = 0
        self.completed = 0
        self.checkpoints = 0
        #: What its clock reads: that of the last token.
        self.clock_ns = 0
        self.queue = CompletionQueue()
        #: The message of its next token, which has the ids that are new by then.
        self.next_token = wire_pb2.CoordinatorMessage()
        self.waits: wire_pb2.Checkpoint | None = None
        self.calling = False
        self.finished = False
        self.leased = False
        # Of a leased worker: the ids of requests that it may ask for, and how many messages are on their way to it.
        self.ids: deque[wire_pb2.IdRange] = deque()
        self.on_their_way = 0
        self.oldest = 0


class Recorder:
    """Conducts a recording; see `Conductor`."""

    def __init__(
        self,
        journal: Journal,
        policy: ReleasePolicy,
        checker: BatchChecker,
        *,
        workers: int,
        shared: Sequence[bool] = (),
        leased: Sequence[bool] = (),
        on_log: Callable[[int, str], None],
    ) -> None:
        """`shared` says of each disk whether its requests wait to be admitted, `leased` which workers have a lease."""
        self.done = False
        self.returns = Returns(workers)
        self._journal = journal
        self._policy = policy
        self._checker = checker
        self._contents = ContentsKeeper(journal.tape)
        self._workers = [_Recorded() for _ in range(workers)]
        for state, one in zip(self._workers, leased, strict=False):
            state.leased = one
        self._admissions = Admissions(shared, workers)
        self._post = Post(workers)
        self._deadlines: dict[int, int] = {}
        self._on_log = on_log
        self._started_ns = 0

    def start(self, send: Send) -> None:
        """See `Conductor`."""
        self._send = send
        self._started_ns = time.monotonic_ns()
        for worker in range(len(self._workers)):
            send(worker, start_token(self._started_ns))

    def data(self, worker: int, data: bytearray) -> None:
        """See `Conductor`."""
        self._contents.data(worker, data)

    def batch(self, worker: int, batch: wire_pb2.Batch) -> None:
        """See `Conductor`."""
        state = self._workers[worker]
        if state.finished or (state.waits is not None and batch.WhichOneof("waits") is not None):
            raise ProtocolError(f"worker {worker} went on without a token")
        if self._checker.contents or batch.HasField("contents"):
            self._contents.take(worker, batch)
        if state.leased:
            while state.ids and state.ids[0].first_sequence + state.ids[0].count <= state.oldest:
                state.ids.popleft()
            state.oldest = batch.oldest
        brought, completed = self._acts(worker, state, batch)
        completions, count = completed
        if count:
            self._journal.completions(worker, completions, count, batch.completions_ns)
            self._completed(worker, state, completions, count)
        for admitted, sequences in self._admissions.take():
            message = wire_pb2.CoordinatorMessage(admission=wire_pb2.Admission(sequences=sequences))
            self._send(admitted, message)
        self._waits(worker, state, batch)
        for other in brought:
            if self._workers[other].waits is not None:
                self._release(other, self._workers[other])
            elif self._workers[other].leased:
                self._send_mail(other, self._workers[other])
        if state.finished or state.waits is not None:
            self._wake_one_if_all_are_stuck()

    def _acts(
        self, worker: int, state: _Recorded, batch: wire_pb2.Batch
    ) -> tuple[list[int], tuple[CompletionColumns, int]]:
        """Take what the program did, with its turns: whom it brings something, and the completions behind them."""
        checker = self._checker
        columns, completions = request_columns(batch.requests), completion_columns(batch.completions)
        count, completed = checker.counts(columns, completions)
        if not batch.HasField("turns") and not batch.notes:  # nearly always, without a lease
            if count:
                self._requests(worker, state, columns, count)
                self._journal.requests(worker, columns, count, batch.requests_ns)
            return [], (completions, completed)
        brought: list[int] = []  # workers that have got something to wake them
        came = 0  # completions of turns
        for act in checker.recorded_acts(batch, columns, completions):
            if isinstance(act, RecordedRows):
                self._requests(worker, state, act.columns, act.count)
                self._journal.requests(worker, act.columns, act.count, act.at_ns)
            elif isinstance(act, TurnRows):
                came += self._turns(worker, state, act)
            else:
                brought += self._note(worker, act.note, act.at_ns or self._now_ns())
        return brought, (completions.between(came, completed), completed - came)

    def _requests(self, worker: int, state: _Recorded, columns: RequestColumns, count: int) -> None:
        """They get the next ids, which the journal has not counted yet."""
        add_ids(
            state.ids if state.leased else state.next_token.token.ids,
            state.made,
            self._journal.next_id,
            count,
        )
        self._admissions.requests(worker, state.made, columns, count)
        state.made += count

    def _completed(self, worker: int, state: _Recorded, columns: CompletionColumns, count: int) -> None:
        state.queue.add(columns)
        state.completed += count
        self._admissions.completed(worker, columns.sequence)

    def _turns(self, worker: int, state: _Recorded, rows: TurnRows) -> int:
        """A leased worker has released completions on its own: all at once what would be turn by turn.

        Returns how many completions came.
        """
        turns, columns, completions = rows
        queue, (made, came, went, delivered) = state.queue, turns.totals
        short = (turns.sums[2] > turns.sums[1] + len(queue)).any()
        if not state.leased or short or delivered > state.on_their_way:
            raise ProtocolError(f"worker {worker} released what it did not have")
        clock_ns = turns.times[2]
        if int(clock_ns[0]) < state.clock_ns:
            raise ProtocolError(f"worker {worker} has turned its clock back")
        state.clock_ns = int(clock_ns[-1])
        state.on_their_way -= delivered
        if made:
            self._requests(worker, state, columns, made)
        if came:
            self._completed(worker, state, completions, came)
        released = queue.first(went)
        queue.take(released)
        self._journal.turns(
            worker,
            state.checkpoints + 1,
            turns,
            requests=columns,
            completions=completions,
            released=released,
        )
        state.checkpoints += len(turns)
        return came

    def _send_mail(self, worker: int, state: _Recorded) -> None:
        """To a worker that does not ask: it takes its messages at its next checkpoint."""
        deliveries = self._post.take(worker, self._post.waiting(worker))
        if deliveries:
            state.on_their_way += len(deliveries)
            self._send(worker, wire_pb2.CoordinatorMessage(mail=wire_pb2.Mail(deliveries=deliveries)))

    def _note(self, worker: int, note: messages_pb2.Note, at_ns: int) -> list[int]:
        """Returns the workers that it brings something."""
        what = note.WhichOneof("what")
        if what == "captured":
            self._workers[worker].calling = False
        elif what == "log":
            self._on_log(worker, note.log)
        brought = self._post.note(worker, note)
        self._journal.note(worker, note, at_ns)
        return brought

    def _waits(self, worker: int, state: _Recorded, batch: wire_pb2.Batch) -> None:
        what = batch.WhichOneof("waits")
        if what == "checkpoint":
            state.checkpoints += 1
            if batch.checkpoint.number != state.checkpoints:
                raise ProtocolError(
                    f"worker {worker} is at checkpoint {batch.checkpoint.number}, expected {state.checkpoints}"
                )
            state.waits = batch.checkpoint
            if batch.checkpoint.deadline_ns:
                self._deadlines[worker] = batch.checkpoint.deadline_ns
        elif what == "capture":
            state.calling = True
            self._send(worker, wire_pb2.CoordinatorMessage(capture=wire_pb2.CaptureAnswer(call=True)))
        elif what == "ids":
            self._tell_ids(worker, state, batch.ids.first_sequence, batch.ids.count)
        elif what == "finish":
            state.finished = True
            self._note(worker, messages_pb2.Note(outcome=batch.finish.outcome), self._now_ns())
            self.returns.add(worker, batch.finish)
            self.done = self.returns.left == 0
        if state.waits is not None:
            self._release(worker, state)

    def _tell_ids(self, worker: int, state: _Recorded, first: int, count: int) -> None:
        message = wire_pb2.CoordinatorMessage()
        ranges = message.ids.ranges
        for known in state.ids:
            start = max(known.first_sequence, first)
            stop = min(known.first_sequence + known.count, first + count)
            if start < stop:
                first_id = known.first_id + start - known.first_sequence
                ranges.add(first_sequence=start, first_id=first_id, count=stop - start)
        if sum(one.count for one in ranges) != count:
            raise ProtocolError(f"worker {worker} asks for the ids of {count} requests from {first} on")
        self._send(worker, message)

    def _wake_one_if_all_are_stuck(self) -> None:
        """If no worker can ever go on, let the first know: its token holds nothing.

        Every program that has not ended waits for a message or a barrier then, with no request under way and no
        deadline. The others are looked at again when that one has sent something or ended.
        """
        stuck = -1
        for worker, state in enumerate(self._workers):
            if state.finished:
                continue
            if (
                state.waits is None
                or state.waits.deadline_ns
                or state.made != state.completed
                or len(state.queue)
                or self._post.waiting(worker)
                or state.on_their_way
            ):
                return
            if stuck < 0:
                stuck = worker
        if stuck >= 0:
            self._release(stuck, self._workers[stuck], empty=True)

    def _release(self, worker: int, state: _Recorded, *, empty: bool = False) -> None:
        """Give the waiting worker a token, if there is something to put in it; one with nothing in it if `empty`."""
        waits = state.waits
        assert waits is not None
        now_ns = self._now_ns()
        released = self._choose(worker, state)
        waiting = self._post.waiting(worker)
        messages = state.on_their_way + waiting
        nothing = not released.count and not messages and not 0 < waits.deadline_ns <= now_ns
        if waits.mode == _WAIT and nothing and not empty:
            return
        clock_ns = now_ns
        state.queue.take(released)
        state.waits = None
        state.clock_ns = clock_ns
        self._deadlines.pop(worker, None)
        journal = self._journal
        message, state.next_token = state.next_token, wire_pb2.CoordinatorMessage()
        # Field by field: a fraction of what it costs by keywords.
        token = message.token
        token.number = journal.next_token
        token.checkpoint = state.checkpoints
        token.clock_ns = clock_ns
        token.sequences = released.sequences
        if messages:
            token.deliveries.extend(self._post.take(worker, waiting))
            token.delivered_before = state.on_their_way
            state.on_their_way = 0
        journal.token(
            worker,
            state.checkpoints,
            clock_ns=clock_ns,
            deadline_ns=waits.deadline_ns,
            mode=waits.mode,
            released=released,
            delivered=messages,
            at_ns=now_ns,
        )
        self._send(worker, message)

    def _choose(self, worker: int, state: _Recorded) -> Released:
        queue = state.queue
        if not len(queue):
            return queue.first(0)
        places = self._policy.choose(worker, queue)
        return queue.first(len(queue)) if places is None else queue.chosen(order_of_places(places))

    def died(self, worker: int, error: RingtapeError) -> None:
        """See `Conductor`: that is how a recording ends."""
        raise error

    def wants(self, worker: int) -> bool:
        """See `Conductor`: what it reads goes straight to the tape; messages for others alone are kept."""
        return self._post.may_send(worker)

    def next_due_ns(self) -> int | None:
        """See `Conductor`."""
        return min(self._deadlines.values()) if self._deadlines else None

    def tick(self, now_ns: int) -> None:
        """See `Conductor`."""
        for worker, deadline_ns in list(self._deadlines.items()):
            if deadline_ns <= now_ns:
                self._release(worker, self._workers[worker])

    def _now_ns(self) -> int:
        return time.monotonic_ns() - self._started_ns
