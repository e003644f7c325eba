"""Where a program is: the stacks that a divergence or a stall shows. Frames of ringtape and asyncio are left out."""

from __future__ import annotations

import asyncio
import sys
import traceback
import types
from pathlib import Path
from typing import Any

from ringtape.engine.requests import Request

# Of a program with a thousand tasks, a few say enough.
STACKS_MAX = 20

_PROGRAMS = ("ringtape.examples.", "ringtape.benchmarks.")
_ASYNCIO = str(Path(asyncio.__file__).resolve().parent)


def thread_stack(_request: Request | None) -> str:
    """The stack of a blocking program, which is this thread's, as traceback text."""
    return _format(_frames_below(sys._getframe()))


def task_stack(request: Request | None) -> str:
    """The stack of the task that made `request`, or of every task that waits, as traceback text."""
    if request is not None and request.task is not None:
        if request.task.done():
            return "the task that made the request has ended\n"
        return _format_task(request.task)
    try:
        tasks = sorted((task for task in asyncio.all_tasks() if not task.done()), key=hash)
    except RuntimeError:  # no loop runs: the program has ended
        return "the program has ended\n"
    return "\n".join(f"{task.get_name()}:\n{_format_task(task)}" for task in tasks[:STACKS_MAX])


def program_frames() -> list[tuple[types.FrameType, int]]:
    """The program's frames and lines, the innermost last: those that called, or of the coroutine that waits for it.

    A task may have no frame of the program's: `gather(disk.read(…), …)` makes one that is the request alone. Then it
    is the task that awaits this one, or else the program's first.
    """
    frames = [one for one in _frames_below(sys._getframe()) if not is_machinery(one[0])]
    if frames:
        return frames
    try:
        current = asyncio.current_task()
    except RuntimeError:
        return []
    assert current is not None, "a request is made in a task"
    tasks = sorted((task for task in asyncio.all_tasks() if task is not current), key=hash)
    awaiting = [task for task in tasks if _awaits(task, current)]
    for task in [*awaiting, *tasks]:
        frames = [one for one in _frames_of(task) if not is_machinery(one[0])]
        if frames:
            return frames
    return []


def _awaits(task: Any, other: Any) -> bool:
    """Does a task await the other: by itself, in a gather or as the owner of a task group?"""
    waiter = getattr(task, "_fut_waiter", None)
    if waiter is other or other in getattr(waiter, "_children", ()):
        return True
    callbacks = [callback for callback, _ in getattr(other, "_callbacks", None) or ()]
    owners = [getattr(callback, "__self__", None) for callback in callbacks]
    return any(getattr(owner, "_parent_task", None) is task for owner in owners)


def _format_task(task: asyncio.Task[Any]) -> str:
    return _format(_frames_of(task))


def _frames_of(task: asyncio.Task[Any]) -> list[tuple[types.FrameType, int]]:
    frames: list[tuple[types.FrameType, int]] = []
    awaited: Any = task.get_coro()
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is None:
            break
        frames.append((frame, frame.f_lineno))
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return frames


def _frames_below(frame: types.FrameType) -> list[tuple[types.FrameType, int]]:
    frames = []
    here: types.FrameType | None = frame
    while here is not None:
        frames.append((here, here.f_lineno))
        here = here.f_back
    return frames[::-1]


def _format(frames: list[tuple[types.FrameType, int]]) -> str:
    shown = [(frame, line) for frame, line in frames if not is_machinery(frame)]
    return "".join(traceback.StackSummary.extract(iter(shown)).format())


def is_machinery(frame: types.FrameType) -> bool:
    """Is this a frame of ringtape, asyncio or the start of the worker, and none of the program's?"""
    module = frame.f_globals.get("__name__") or ""
    if module.startswith("ringtape."):
        return not module.startswith(_PROGRAMS)
    file = frame.f_code.co_filename
    # "<string>" is what started the worker.
    return file == "<string>" or file.startswith((_ASYNCIO, "<frozen"))


def where(error: BaseException) -> str:
    """`file:line` of the program's last own frame in the exception's traceback; empty if it has none."""
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        if not is_machinery(frame):
            return f"{frame.f_code.co_filename}:{line}"
    return ""


def program_traceback(error: BaseException) -> str:
    """The exception's traceback from the program's first own frame on."""
    tb = error.__traceback__
    while tb is not None and is_machinery(tb.tb_frame):
        tb = tb.tb_next
    return "".join(traceback.format_exception(type(error), error, tb or error.__traceback__))
