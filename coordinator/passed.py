"""What workers passed on their own in a replay: taken off the tape for all their turns in a block at once.

A worker that holds leases has compared its requests and completions with the tape before it went on, so the tape's rows
are what happened. They go into the journal, and the accounts of the worker are what turn by turn would have left.
"""

from __future__ import annotations

from collections.abc import Sequence

from ringtape.coordinator.ahead import take_released
from ringtape.coordinator.journal import Journal
from ringtape.coordinator.replayed import ReplayedWorker
from ringtape.coordinator.tape.parts import Part, Parts
from ringtape.coordinator.tape.runs import Place


def pass_on(parts: Parts, start: Place, workers: Sequence[ReplayedWorker], journal: Journal) -> Place:
    """Go along the tape from `start` as far as the workers have passed it in this block; where that is."""
    stop = parts.end_of(start, [state.passed for state in workers])
    if stop != start:
        for part in parts.of:
            _pass_part(part, start, stop, workers[part.worker], journal)
    return stop


def _pass_part(part: Part, start: Place, stop: Place, state: ReplayedWorker, journal: Journal) -> None:
    before, after = part.done(start), part.done(stop)
    if after.completions > before.completions:
        state.recorded.add(part.completions(before.completions, after.completions))
    if after.tokens == before.tokens and after.requests == before.requests:
        return
    released = take_released(state.recorded, part, before.tokens, after.tokens)
    requests = part.requests(before.requests, after.requests)
    tokens = part.between(before, after)
    checkpoint, ids = state.checkpoints + 1, part.ids[before.requests : after.requests]
    untold = state.pass_turns(len(tokens), requests.kind, ids, released)
    journal.passed(state.index, checkpoint, tokens, requests, ids, released, untold)
