"""What there is to say of a replay in which something does not come.

It puts it into words, and names the worker that is asked where its program is; when it is a stall is the replayer's
business.
"""

from __future__ import annotations

from collections.abc import Sequence

from ringtape.coordinator.replayed import ReplayedWorker
from ringtape.proto.errors import Stalled

IDS_SHOWN_MAX = 10


def stalled_at_stop(reached: str, workers: Sequence[ReplayedWorker]) -> Stalled:
    """The replay has come to its stop, and what was made before it does not complete."""
    late = next(state for state in workers if state.in_flight())
    ids = _listed([id_ for sequence, id_ in late.ids.items() if sequence not in late.completed])
    text = f"the replay has come to its stop {reached}, but request ids {ids} do not complete"
    return Stalled(text, worker=late.index)


def stalled_in_wait(state: ReplayedWorker, missing: Sequence[int], awaited: int | None) -> Stalled:
    """A worker waits for requests that do not complete, those of another one maybe first (`awaited`)."""
    text = (
        f"worker {state.index} waits at checkpoint {state.checkpoints + 1} for the completion of "
        f"request ids {_listed([state.ids[one] for one in missing])}, which does not come"
    )
    if awaited is not None:
        text += f", nor does that of requests of worker {awaited} on a shared disk that come first"
    worker = state.index if awaited is None else awaited
    return Stalled(f"{text}; completed and queued: {_queued(state)}", worker=worker)


def stalled_before(state: ReplayedWorker, words: str) -> Stalled:
    """A worker does not come to what the tape has next, which is `words`."""
    text = (
        f"worker {state.index} has done nothing for too long after checkpoint {state.checkpoints}: the tape "
        f"goes on with {words}; completed and queued: {_queued(state)}"
    )
    return Stalled(text, worker=state.index)


def _queued(state: ReplayedWorker) -> str:
    return _listed([state.ids[sequence] for sequence in state.completed if sequence in state.ids])


def _listed(ids: Sequence[int]) -> str:
    if not ids:
        return "none"
    return ", ".join(map(str, ids[:IDS_SHOWN_MAX])) + (", …" if len(ids) > IDS_SHOWN_MAX else "")
