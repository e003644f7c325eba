"""A program whose import is watched: it tells the pipe named in the environment, and waits there if told so."""

from __future__ import annotations

import os
import sys

import ringtape
from tests.programs.lasting import tell, wait_if_told

if sys.argv[0] == "ringtape-worker":
    tell(os.environ["RINGTAPE_TEST_PIPE"], "importing")
    wait_if_told(os.environ["RINGTAPE_TEST_PIPE"], "import")


def main(io: ringtape.BlockingWorker) -> int:
    return io.index
