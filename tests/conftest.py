"""Settings of all tests: how long Hypothesis searches, and what the processes that they start find compiled.

`make test ARGS="--hypothesis-profile=thorough -o faulthandler_timeout=0"` searches for hours where the normal profile
searches for seconds, and shrinks what it finds.
"""

from __future__ import annotations

import compileall
import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests import forking

_ROOT = Path(__file__).parents[1]

settings.register_profile("normal", deadline=None, print_blob=True)
settings.register_profile("thorough", deadline=None, print_blob=True, max_examples=5000)
settings.load_profile("normal")

# Of every process that a test starts: Python's own cache of a program is not among the files that a command must leave
# as they were, and whether there is one must not hang on the environment in which the tests are run.
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"


def pytest_configure(config: pytest.Config) -> None:
    """Compile what those processes import, once: as they keep no cache, each would compile all of it again."""
    if not hasattr(config, "workerinput"):  # one of xdist's workers: who started it has done so
        for folder in (*(init.parent for init in _ROOT.glob("*/__init__.py")), _ROOT / "tests/programs"):
            compileall.compile_dir(folder, quiet=2)


def pytest_unconfigure() -> None:
    forking.end()
