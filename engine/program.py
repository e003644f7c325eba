"""Loading a program in a worker, by file or module name, the same in a recording and its replay."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ringtape.engine import own_path
from ringtape.proto import wire_pb2
from ringtape.proto.errors import ProgramError

# The name under which a program's file is loaded: what multiprocessing calls the caller's main module, so that
# classes defined there unpickle on both sides.
MAIN_MODULE = "__mp_main__"

_in_worker = False


class StartedInWorker(BaseException):
    """A run was started while a worker loads its program: from here on the file is the starting process's business.

    Not an `Exception`, so that the file's own handlers let it through to the loader.
    """


def refuse_in_worker() -> None:
    """Raise `StartedInWorker` when called in a worker: a run cannot start a run."""
    if _in_worker:
        raise StartedInWorker("a run cannot be started from inside a worker")


def load(program: wire_pb2.Program, main_file: str) -> Callable[..., Any]:
    """The program's function; `ProgramError` with one line if it cannot be had.

    `main_file` is what `__main__` was where the run was started: pickled objects may refer to it.
    """
    global _in_worker
    _in_worker = True
    if program.pickled:
        return _unpickled(program.pickled, main_file)
    if program.file:
        name, module = program.file, _load_file(program.file, MAIN_MODULE, program.function)
    else:
        if main_file:
            _alias_main(main_file)
        # Those of ringtape's own (jobs, traces) need what no file beside a tape is.
        own = program.module.startswith("ringtape.")
        with own_path.looked_at() if own else contextlib.nullcontext():
            name, module = program.module, _import(program.module, program.function)
    function: Any = module
    for part in program.function.split("."):
        function = getattr(function, part, None)
    if function is None:
        raise ProgramError(f"{name} has no function {program.function!r}")
    if not callable(function):
        raise ProgramError(f"{program.function!r} in {name} is not a function but {type(function).__name__}")
    checked: Callable[..., Any] = function
    return checked


def unpickle_arguments(pickled: bytes) -> Any:
    """The run's arguments; `ProgramError` if they refer to something that is not here."""
    try:
        return pickle.loads(pickled)
    except (Exception, StartedInWorker) as error:
        raise ProgramError(f"the arguments do not unpickle in a worker: {_one_line(error)}") from error


def _unpickled(pickled: bytes, main_file: str) -> Callable[..., Any]:
    if main_file:
        _alias_main(main_file)
    try:
        function: Callable[..., Any] = pickle.loads(pickled)
    except (Exception, StartedInWorker) as error:
        raise ProgramError(f"the program does not unpickle in a worker: {_one_line(error)}") from error
    return function


def _alias_main(main_file: str) -> None:
    if MAIN_MODULE not in sys.modules and Path(main_file).is_file():
        _load_file(main_file, MAIN_MODULE, "")


def _load_file(path: str, name: str, function: str) -> types.ModuleType:
    folder = str(Path(path).parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(name, path, loader=None)
    if spec is None or spec.loader is None:
        # A file of another ending is Python source all the same: the user says so.
        loader = importlib.machinery.SourceFileLoader(name, path)
        spec = importlib.util.spec_from_loader(name, loader)
        assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    # Objects of the starting process's main module were pickled under this name.
    sys.modules["__main__"] = module
    _execute(path, function, lambda: spec.loader.exec_module(module), module)  # type: ignore[union-attr]
    return module


def _import(name: str, function: str) -> types.ModuleType:
    module: types.ModuleType | None = None

    def run() -> None:
        nonlocal module
        module = importlib.import_module(name)

    _execute(name, function, run, None)
    assert module is not None
    return module


def _execute(name: str, function: str, run: Callable[[], None], module: types.ModuleType | None) -> None:
    try:
        run()
    except StartedInWorker as error:
        # A script that starts its run at the top level, unguarded: the worker needs what stands above that line.
        if module is None or (function and not hasattr(module, function.split(".")[0])):
            raise ProgramError(f"{name} starts a run while it is imported: {error}") from None
    except FileNotFoundError as error:
        if error.filename == name:
            raise ProgramError(f"{name} does not exist") from None
        raise ProgramError(f"{name} does not import: {_one_line(error)}") from error
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise ProgramError(f"there is no module {error.name!r} to find {function!r} in") from None
        raise ProgramError(f"{name} does not import: {_one_line(error)}") from error
    except (Exception, SystemExit) as error:
        raise ProgramError(f"{name} does not import: {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
