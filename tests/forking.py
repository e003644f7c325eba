"""Commands run in forks of a process that has loaded what the script loads: without most of what a start takes.

A short command takes next to nothing but the start of Python and the loading of modules. `programs/forked.py` has done
both, once for all tests of this process. Every command is a process all the same: its exit code, its outputs and what
it does to files are those of the script. How it starts is not: for that, run the script itself.
"""

from __future__ import annotations

import functools
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.programs import forked

SCRIPT = str(Path(sys.executable).with_name("ringtape"))
_NUMBER_BYTES_MAX = 32


class Forker:
    """The process that forks, and this end of the link to it."""

    def __init__(self) -> None:
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, forked.__file__, str(theirs.fileno()), SCRIPT],
                pass_fds=[theirs.fileno()],
                # Else numpy starts threads, and a process with threads is not to be forked.
                env={**plain_environment(), "OPENBLAS_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                # Python's own streams are made for what they are at its start: pipes, as those of the commands.
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )

    def run(
        self, words: Sequence[str], folder: Path, environment: Mapping[str, str], timeout_s: float
    ) -> subprocess.CompletedProcess[str]:
        """Run the script to its end, with nothing to read."""
        deadline = time.monotonic() + timeout_s
        request = {"words": list(words), "folder": str(folder), "environment": dict(environment)}
        with open(os.devnull) as nothing, _pipe() as out, _pipe() as errors:
            given = [nothing.fileno(), out[1], errors[1]]
            socket.send_fds(self._link, [json.dumps(request).encode()], given)
            child = self._number(timeout_s)
            for _, writing in (out, errors):
                os.close(writing)
            try:
                texts = _read({out[0], errors[0]}, deadline)
                code = self._number(max(0.001, deadline - time.monotonic()))
            except TimeoutError:
                os.kill(child, signal.SIGKILL)
                self._number(timeout_s)
                raise subprocess.TimeoutExpired([SCRIPT, *words], timeout_s) from None
        return subprocess.CompletedProcess(
            [SCRIPT, *words], code, _text(texts[out[0]]), _text(texts[errors[0]])
        )

    def _number(self, timeout_s: float) -> int:
        self._link.settimeout(timeout_s)
        answer = self._link.recv(_NUMBER_BYTES_MAX)
        assert answer, f"the process that forks has ended: {self._process.communicate()}"
        return int(answer)

    def end(self) -> None:
        self._link.close()
        self._process.communicate()


@contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    """Both ends; the reading one is closed in the end, the other by who has given it away."""
    ends = os.pipe()
    try:
        yield ends
    finally:
        os.close(ends[0])


def _read(descriptors: set[int], deadline: float) -> dict[int, bytes]:
    """All that comes of each, to its end of file."""
    texts = dict.fromkeys(descriptors, b"")
    with selectors.DefaultSelector() as selector:
        for descriptor in descriptors:
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError
            for key, _ in ready:
                data = os.read(key.fd, 1 << 16)
                if data:
                    texts[key.fd] += data
                else:
                    selector.unregister(key.fd)
    return texts


def _text(data: bytes) -> str:
    """As `subprocess` reads text."""
    return data.decode().replace("\r\n", "\n").replace("\r", "\n")


def plain_environment() -> dict[str, str]:
    """What every command has, however the tests are run."""
    # What makes rich draw differently, for help and the progress line.
    drawing = {"COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "GITHUB_ACTIONS", "PY_COLORS", "TERM"}
    # And what hides whether output that is kept back is taken care of.
    unwanted = drawing | {"PYTHONUNBUFFERED"}
    return {name: value for name, value in os.environ.items() if name not in unwanted} | {"TERM": "xterm"}


@functools.cache
def forker() -> Forker:
    """The one of this process; it is started for the first command."""
    return Forker()


def end() -> None:
    """End what was started for the tests of this process."""
    if forker.cache_info().currsize:
        forker().end()
