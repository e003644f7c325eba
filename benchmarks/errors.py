"""How a benchmark cannot be run."""

from ringtape.proto.errors import RingtapeError


class BenchmarkError(RingtapeError):
    """A benchmark that cannot be run as asked: an argument, a missing tool, a tool that fails."""


class Unavailable(BenchmarkError):
    """Something that a row needs is not to be had here; the message says why."""


class TargetUnavailable(Unavailable):
    """Something to measure on that is not to be had here."""


class PeerUnavailable(Unavailable):
    """Something to measure beside that is not installed."""
