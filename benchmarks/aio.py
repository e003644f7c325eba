"""caio and aiofile as peers of awaited reads: optional packages, run in a process of their own."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from ringtape.benchmarks.contenders import Case, Contender, output_of
from ringtape.benchmarks.errors import PeerUnavailable
from ringtape.benchmarks.jobs import Measurement

LIBRARIES = ("caio", "aiofile")


def check_installed() -> None:
    """`PeerUnavailable` in one line, if they are not."""
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if missing:
        raise PeerUnavailable(f"{' and '.join(missing)} not installed: pip install 'ringtape[bench]'")


class AioReads(Contender):
    """One of the libraries, reading a file through the page cache."""

    def __init__(self, library: str) -> None:
        self.name = self.paced_by = library

    def measure(self, case: Case, requests: int, seed: int) -> Measurement:
        """See `Contender`."""
        (target,), job = case.targets, case.job
        assert target.cached, "with O_DIRECT they would do other work"
        numbers = (requests, job.depth, job.block_bytes, seed)
        command = [sys.executable, "-m", "ringtape.benchmarks.aio_reads", self.name, target.path]
        return Measurement(requests, float(output_of([*command, *map(str, numbers)])))
