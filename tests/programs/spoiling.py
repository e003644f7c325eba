"""The replay of a trace, with a block of its disk changed behind its back once the first requests have completed."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import ringtape
from ringtape import trace_program
from ringtape.engine.pattern import pattern

BLOCK = 4096


def spoil(path: str, at: int, data: bytes) -> None:
    file = os.open(path, os.O_WRONLY)
    assert os.pwrite(file, data, at) == len(data)
    os.fsync(file)
    os.close(file)


def _main(io: ringtape.BlockingWorker, data: bytes) -> Any:
    """One request is under way at a time, so that the second is made when the first has been looked at."""
    trace_program.ARRAY_ROWS = 1
    submit, spoiled = io.submit, []

    def submit_and_spoil(
        requests: Any, *, on_results: Callable[[Any], object] | None = None, **options: Any
    ) -> Any:
        if on_results is None:
            return submit(requests, **options)

        def take(results: Any) -> None:
            on_results(results)
            if not spoiled:
                spoil("a.img", 5 * BLOCK, data)
                spoiled.append(True)

        return submit(requests, on_results=take, **options)

    io.submit = submit_and_spoil  # type: ignore[method-assign]
    return trace_program.main(io)


def with_zeros(io: ringtape.BlockingWorker) -> Any:
    return _main(io, bytes(512))


def with_the_data_of_another_place(io: ringtape.BlockingWorker) -> Any:
    return _main(io, pattern(0, 0, 7 * BLOCK, BLOCK))
