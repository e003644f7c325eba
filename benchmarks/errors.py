"""How a benchmark cannot be run."""

from ringtape.proto.errors import RingtapeError


class BenchmarkError(RingtapeError):
    """A benchmark that cannot be run as asked: an argument, a missing tool, a tool that fails."""


class TargetUnavailable(BenchmarkError):
    """Something to measure on that is not to be had here; the message says why."""
