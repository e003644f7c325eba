"""The root of every error that ringtape raises, for both sides of the link."""


class RingtapeError(Exception):
    """Base of all errors of ringtape's own; `str()` of one is a line that says what is wrong and what to do."""


class DiskError(RingtapeError):
    """A disk that cannot be used as asked; the message names it by name and path."""


class RingUnavailable(RingtapeError):
    """This kernel or sandbox offers no usable io_uring; the message says which and how to get it."""


class ProgramError(RingtapeError):
    """A program that cannot be loaded or sent to a worker."""


class TapeError(RingtapeError):
    """A tape that cannot be written or read: no permission, not a tape, a newer format."""


class TapeDamaged(TapeError):
    """A tape whose contents do not hold together; what comes before the damage is readable."""


class TraceError(RingtapeError):
    """A trace that cannot be read or converted; the message names the file, and the line if it is about one."""


class Stalled(RingtapeError):
    """Something that is waited for does not come; the message names it and what is there instead.

    `worker` is the index of the worker in a replay that waits, None in a program's own failure; `stack` is where its
    program is, as traceback text, empty if it could not be had.
    """

    def __init__(self, message: str, *, worker: int | None = None) -> None:
        super().__init__(message)
        self.worker = worker
        self.stack = ""
