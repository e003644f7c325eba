"""Settings of all tests: how long Hypothesis searches.

`make test ARGS="--hypothesis-profile=thorough -o faulthandler_timeout=0"` searches for hours where the normal profile
searches for seconds, and shrinks what it finds.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("normal", deadline=None, print_blob=True)
settings.register_profile("thorough", deadline=None, print_blob=True, max_examples=5000)
settings.load_profile("normal")

# Of every process that a test starts: Python's own cache of a program is not among the files that a command must leave
# as they were, and whether there is one must not hang on the environment in which the tests are run.
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
