"""A process that has loaded what the script loads, and forks for every command that is to be run.

The fork runs the installed script. It must be as a process that was started for it: nothing that a command does or
finds may differ.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import pkgutil
import runpy
import socket
import sys
import threading
from importlib import import_module
from typing import NoReturn

REQUEST_BYTES_MAX = 1 << 18
# What takes long to load: all that commands use, of which each loads some when it needs it.
LIBRARIES = ("asyncio", "liburing", "rich.console", "typer._adapters", "typer.rich_utils")
PACKAGES = (
    "ringtape",
    "ringtape.tape",
    "ringtape.jobs",
    "ringtape.coordinator.tape",
    "ringtape.traces.formats",
)


def load() -> None:
    for name in LIBRARIES:
        import_module(name)
    for name in PACKAGES:
        for module in pkgutil.iter_modules(import_module(name).__path__, f"{name}."):
            import_module(module.name)
    gc.collect()
    gc.freeze()  # The collector of a fork would look at, and so copy, all of it.


def serve(link: socket.socket, script: str) -> bool:
    """Fork for every command that is asked for; True in the process that is to run one, False at the end."""
    while True:
        request, descriptors, _, _ = socket.recv_fds(link, REQUEST_BYTES_MAX, 3)
        if not request:
            return False
        child = os.fork()
        if not child:
            link.close()
            _become(json.loads(request), descriptors, script)
            return True
        for descriptor in descriptors:
            os.close(descriptor)
        link.send(str(child).encode())
        _, status = os.waitpid(child, 0)
        link.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(request: dict[str, object], descriptors: list[int], script: str) -> None:
    """Be as if started anew: here, with these words, this environment, and these for input and outputs."""
    for standard, descriptor in enumerate(descriptors):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    os.chdir(str(request["folder"]))
    os.environ.clear()
    os.environ.update(request["environment"])  # type: ignore[call-overload]
    sys.argv[:] = [script, *request["words"]]  # type: ignore[misc]


def run(script: str) -> int:
    """Run it; its exit code. For any other end than by an exit code the interpreter's own end is wanted."""
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as ended:
        if isinstance(ended.code, int):
            return ended.code
        raise
    return 0


def leave(code: int) -> NoReturn:
    """End as an interpreter does, but for giving back all memory, which touches, and so copies, every page of it."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    descriptor, script = sys.argv[1:]
    sys.path[0] = os.path.dirname(script)
    load()
    if serve(socket.socket(fileno=int(descriptor)), script):
        leave(run(script))
