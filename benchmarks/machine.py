"""The facts of a machine that a number means nothing without."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("ringtape", "liburing", "protobuf", "numpy", "xxhash", "zstandard")


def facts() -> dict[str, Any]:
    """Kernel, processor, memory, Python and versions, now; ready for JSON."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "virtual": "hypervisor" in _field("/proc/cpuinfo", "flags").split(),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "load_1min": os.getloadavg()[0],
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": {name: _version(name) for name in PACKAGES},
    }


def in_words(found: dict[str, Any], fio: str = "") -> str:
    """The facts in a line or two."""
    kind = "virtual " if found["virtual"] else ""
    versions = found["versions"]
    peers = f", fio {fio}" if fio else ""
    return (
        f"{found['cpu']}, {found['cores']} {kind}cores, {found['memory_bytes'] / (1 << 30):.0f} GiB, "
        f"Linux {found['kernel'].partition('-')[0]}; {found['python']}, ringtape {versions['ringtape']}, "
        f"liburing {versions['liburing']}{peers}; {found['date'][:10]}, load {found['load_1min']:.1f} at the start"
    )


def _cpu_model() -> str:
    return _field("/proc/cpuinfo", "model name") or platform.processor() or "unknown processor"


def _field(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
