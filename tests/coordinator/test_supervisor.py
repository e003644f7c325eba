"""Goal: a run waits as long as its programs want to sleep.

Method: the supervisor's wait for a conductor whose next moment is far away, given to a real selector that has something
to tell, so that it comes back at once.
"""

from __future__ import annotations

import os
import selectors
import subprocess
from unittest import mock

import pytest

from ringtape.coordinator.plain import PlainConductor
from ringtape.coordinator.supervisor import Supervisor
from ringtape.coordinator.tape import NullTape


@pytest.mark.parametrize("due_s", [0.001, 10.0, 3e6, 1e12])
def test_no_moment_is_too_far_away_to_wait_for(due_s: float) -> None:
    conductor = PlainConductor(1, lambda worker, text: None)
    supervisor = Supervisor(
        conductor,
        [],
        NullTape(),
        hash_seed="0",
        stdout=subprocess.DEVNULL,
        on_begin=lambda: None,
        on_progress=None,
    )
    supervisor._started_ns = 1
    reader, writer = os.pipe()
    os.write(writer, b"x")
    far = mock.patch("ringtape.coordinator.supervisor.time.monotonic_ns", lambda: 1)
    due = mock.patch.object(conductor, "next_due_ns", lambda: int(due_s * 1e9))
    with far, due, selectors.DefaultSelector() as selector:
        selector.register(reader, selectors.EVENT_READ)
        timeout_s = supervisor._timeout_s()
        assert timeout_s is not None
        assert 0 < timeout_s <= due_s
        assert len(selector.select(timeout_s)) == 1
    os.close(reader)
    os.close(writer)
