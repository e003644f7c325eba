"""What has to be known of a trace before it is replayed: its devices, how far each reaches, and which bytes they are.

It reads the whole trace once, in bounded memory. The fingerprint is of the files as they are, packed or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xxhash import xxh3_128

from ringtape.proto.errors import TraceError
from ringtape.traces.summary import Summary
from ringtape.traces.trace import Trace

_READ_BYTES = 1 << 20


def surveyed(trace: Trace) -> dict[str, Any]:
    """The facts of a trace, as `ringtape trace info --json` has them, and `under_way_max`.

    Raises `TraceError` for a trace without requests.
    """
    summary = Summary()
    for batch in trace:
        summary.add(batch, len(trace.devices))
    if not trace.requests:
        raise TraceError(f"{trace.files[0]} has no requests to replay")
    return {**summary.facts(trace.devices), "under_way_max": summary.under_way_max}


def fingerprint(files: Sequence[str]) -> str:
    """The xxh3-128, in hex, of what is in the files, one behind the other; raises `TraceError`."""
    found = xxh3_128()
    for path in files:
        try:
            with open(path, "rb", buffering=0) as file:
                while piece := file.read(_READ_BYTES):
                    found.update(piece)
        except OSError as error:
            raise TraceError(f"cannot read {path}: {error.strerror}") from None
    return found.hexdigest()
