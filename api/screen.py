"""What draws tables on standard output.

It never decides how the process ends: rich would end it with code 1 where nobody reads any more.
"""

from __future__ import annotations

import errno
import os

from rich.console import Console


class Screen(Console):
    """rich's console, but that a reader who has seen enough is the command line's to judge."""

    def on_broken_pipe(self) -> None:
        """Raises BrokenPipeError, as `print` does."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
