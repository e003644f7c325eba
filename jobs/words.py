"""Numbers of reports in words, to three digits that count."""

from __future__ import annotations

_TIMES = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1, "ns"))
_BYTES = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B"))
_COUNTS = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""))


def duration(ns: float) -> str:
    """A time."""
    return _scaled(ns, _TIMES, " ")


def amount(count: float) -> str:
    """Bytes."""
    return _scaled(count, _BYTES, " ")


def rate(per_second: float) -> str:
    """Requests a second."""
    return _scaled(per_second, _COUNTS, "")


def _scaled(value: float, units: tuple[tuple[float, str], ...], between: str) -> str:
    scale, unit = next((pair for pair in units if value >= pair[0]), units[-1])
    scaled = value / scale
    if scaled >= 99.95 or (scale == 1 and scaled == int(scaled)):
        digits = 0
    else:
        digits = 1 if scaled >= 9.995 else 2
    return f"{scaled:.{digits}f}{between}{unit}"
