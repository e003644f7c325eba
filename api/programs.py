"""From what a user names as the program to what a worker can load, and to what the tape keeps of it."""

from __future__ import annotations

import functools
import hashlib
import os
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ringtape.engine.program import MAIN_MODULE
from ringtape.proto import wire_pb2
from ringtape.proto.errors import ProgramError


@dataclass(frozen=True)
class Named:
    """A program, ready to be sent to workers.

    `name` is empty for one that cannot be found again by name; `file` is empty without source.
    """

    wire: wire_pb2.Program
    name: str
    file: str

    def sha256(self) -> bytes:
        """Of the source; empty if there is none."""
        try:
            with open(self.file, "rb") as source:
                return hashlib.sha256(source.read()).digest()
        except OSError:
            return b""


def named(program: Callable[..., Any] | str, *, file: str = "") -> Named:
    """What was given as the program; `ProgramError` in one line if workers cannot have it.

    A string is `file.py:function`, `package.module:function`, or either without a function, which is then `main`.
    `file` is where a module's source was when it was recorded, for when it is not found by its name.
    """
    if isinstance(program, str):
        return _by_name(program, file)
    if not callable(program):
        raise ProgramError(f"a program is a function or its name, not {type(program).__name__}")
    module, qualname = getattr(program, "__module__", None), getattr(program, "__qualname__", None)
    if (
        isinstance(program, type)
        or module is None
        or qualname is None
        or isinstance(program, functools.partial)
    ):
        return _pickled(program)
    if "<" in qualname:
        raise ProgramError(
            f"{qualname} cannot be sent to the workers: a program is a function at the top level of a module, "
            "not a lambda or one defined inside another function"
        )
    return _by_reference(program, module, qualname)


def _by_name(program: str, file: str) -> Named:
    place, colon, function = program.rpartition(":")
    if not colon or not all(part.isidentifier() for part in function.split(".")):
        place, function = program, "main"
    if not place:
        raise ProgramError(f"program {program!r}: expected file.py:function or package.module:function")
    if place.endswith(".py") or os.sep in place or os.path.isfile(place):
        path = os.path.abspath(place)
        if os.path.isdir(path):
            raise ProgramError(f"program {program!r}: {place} is a directory")
        if not os.path.isfile(path):
            raise ProgramError(f"program {program!r}: there is no file {place}")
        return _in_file(path, function)
    if not all(part.isidentifier() for part in place.split(".")):
        raise ProgramError(f"program {program!r}: {place!r} is neither a file nor the name of a module")
    found = _source_of(place)
    if found is None:
        if file and os.path.isfile(file):
            return _in_file(file, function)
        raise ProgramError(f"program {program!r}: there is no module {place!r}")
    return Named(wire_pb2.Program(module=place, function=function), f"{place}:{function}", found)


def _in_file(path: str, function: str) -> Named:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise ProgramError(
            f"program {path!r}: the path is not UTF-8 text, which is what a tape keeps; give a link to it"
        ) from None
    return Named(wire_pb2.Program(file=path, function=function), f"{path}:{function}", path)


def _by_reference(program: Callable[..., Any], module: str, qualname: str) -> Named:
    source = getattr(sys.modules.get(module), "__file__", None)
    if module == "__main__":
        if source is None:
            raise ProgramError(
                f"{qualname} was typed in and is in no file: the workers cannot load it; put it into a module"
            )
        # Objects of that module that come back from workers are found here under the name they have there.
        sys.modules.setdefault(MAIN_MODULE, sys.modules["__main__"])
        return _in_file(os.path.abspath(source), qualname)
    found = _source_of(module)
    if found is not None and (source is None or os.path.realpath(found) == os.path.realpath(source)):
        return Named(wire_pb2.Program(module=module, function=qualname), f"{module}:{qualname}", found)
    if source is not None and os.path.isfile(source):
        return _in_file(os.path.abspath(source), qualname)
    return _pickled(program)


def _pickled(program: Callable[..., Any]) -> Named:
    try:
        pickled = pickle.dumps(program, protocol=5)
    except Exception as error:
        raise ProgramError(f"the program {program!r} cannot be sent to the workers: {error}") from None
    return Named(wire_pb2.Program(pickled=pickled), "", "")


def _spec_of(name: str, path: Any) -> Any:
    """What the first finder that knows the module says of it; None if none does."""
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec(name, path)
        except (ImportError, AttributeError, ValueError):
            continue
        if spec is not None:
            return spec
    return None


def _source_of(module: str) -> str | None:
    """Where a fresh interpreter with this one's path would import a module from; None if it would not find it."""
    path: Any = None
    origin: str | None = None
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        name = ".".join(parts[:count])
        try:
            spec = _spec_of(name, path)
        except KeyError:
            # A folder without __init__.py in another such: its spec wants the outer one to be imported.
            origin, path = (
                None,
                [folder for one in path if os.path.isdir(folder := f"{one}/{parts[count - 1]}")],
            )
            continue
        if spec is None:
            return None
        origin, path = spec.origin, spec.submodule_search_locations
    return origin or ""


def main_file(*pickles: bytes) -> str:
    """The file of `__main__`, if any of the pickles refers to something in it; else empty."""
    if any(b"__main__" in pickled for pickled in pickles):
        source: str | None = getattr(sys.modules["__main__"], "__file__", None)
        if source is not None:
            sys.modules.setdefault(MAIN_MODULE, sys.modules["__main__"])
            return os.path.abspath(source)
    return ""
