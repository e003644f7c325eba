"""The error of what is asked for and cannot be."""

from __future__ import annotations

from ringtape.proto.errors import RingtapeError


class JobError(RingtapeError, ValueError):
    """A job, or a file of jobs, that cannot be; one line that names the option and its value."""
