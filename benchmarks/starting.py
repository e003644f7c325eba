"""How long `ringtape record` takes to start, beside Python with asyncio.

The program is empty but for what tells when it begins, which is where its first request would be.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from ringtape.benchmarks.contenders import Case, Contender, output_of
from ringtape.benchmarks.errors import BenchmarkError
from ringtape.benchmarks.jobs import Measurement

PYTHON = "python -c 'import asyncio'"
BEGUN = "record, until the program begins"
ENDED = "record, until the command has ended"

_PROGRAM = """\
import time


async def main(io):
    print(time.monotonic_ns(), flush=True)
"""


class ImportAsyncio(Contender):
    """A Python that loads asyncio, from start to end."""

    name, paced_by = PYTHON, ""

    def measure(self, case: Case, requests: int, seed: int) -> Measurement:
        """See `Contender`."""
        begun_s = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import asyncio"], check=True)
        return Measurement(1, time.perf_counter() - begun_s)


class RecordNothing(Contender):
    """`ringtape record` of an empty program, one worker, until its program begins or the command has ended."""

    paced_by = ""

    def __init__(self, *, until_end: bool) -> None:
        self.name = ENDED if until_end else BEGUN
        self._until_end = until_end

    def prepare(self, case: Case, requests: int) -> None:
        """See `Contender`; once to warm the caches."""
        self._path(case).write_text(_PROGRAM)
        self.measure(case, 1, seed=0)

    def measure(self, case: Case, requests: int, seed: int) -> Measurement:
        """See `Contender`."""
        tape = str(case.folder / "nothing.tape")
        command = [sys.executable, "-m", "ringtape", "record", str(self._path(case)), "-o", tape]
        begun_ns = time.monotonic_ns()
        said = output_of(command)
        ended_ns = time.monotonic_ns()
        first = said.split()[:1]
        if not first or not first[0].isdecimal():
            raise BenchmarkError(f"{' '.join(command)} did not run its program, it said: {said.strip()}")
        until_ns = ended_ns if self._until_end else int(first[0])
        return Measurement(1, (until_ns - begun_ns) / 1e9)

    def _path(self, case: Case) -> Path:
        return case.folder / "nothing.py"
