"""`ringtape tape stats`: how the disks were used, by disk and by worker.

It reads the tape once, as a stream, and prints what is whole before it lets a damage through. What is an estimate
says so.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ringtape.coordinator.tape import TapeReader
from ringtape.jobs.histogram import ERROR
from ringtape.proto.errors import TapeDamaged
from ringtape.proto.messages_pb2 import KIND_FSYNC
from ringtape.tape.opening import joined_until_damage, opened, say_unsealed
from ringtape.tape.tallies import OTHERS, Depth, KindTally, PairTally, Tallies
from ringtape.tape.words import KINDS
from ringtape.tape.working_set import WorkingSet

if TYPE_CHECKING:
    from rich.table import Table as RichTable

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99_9": 0.999, "p99_99": 0.9999}
# What tables may be as wide as where there is no terminal that says: nothing is cut off then.
_WIDTH = 1000


def print_stats(path: str, *, as_json: bool) -> None:
    """Print the statistics. Raises TapeError, TapeDamaged after those of what is whole were printed."""
    damage: list[TapeDamaged] = []
    with opened(path, "adding up") as reader:
        tallies = Tallies(reader.header.workers, len(reader.header.disks))
        for joined in joined_until_damage(reader, damage):
            tallies.take(joined)
        tallies.finish()
    stats = {"tape": path, **_stats(reader, tallies)}
    if as_json:
        print(json.dumps(stats))
    else:
        _print(stats)
    if damage:
        raise damage[0]
    sys.stdout.flush()
    say_unsealed(reader, path)


def _stats(reader: TapeReader, tallies: Tallies) -> dict[str, Any]:
    pairs = tallies.pairs
    disks = sorted({disk for disk, _ in pairs if disk >= 0})
    workers = sorted({worker for _, worker in pairs if worker >= 0})
    sets = tallies.working_sets
    # One worker: what it touched of a disk is what was touched of the disk.
    of_disk = tallies.disk_sets or {disk: found for (disk, _), found in sets.items()}
    return {
        "latency_error": ERROR,
        "all": _group(pairs.values(), of_disk.values(), tallies.depth),
        "disks": [
            {"name": reader.header.disks[disk].name}
            | _group(
                (tally for (one, _), tally in pairs.items() if one == disk),
                [of_disk[disk]] if disk in of_disk else [],
                tallies.disk_depths[disk],
            )
            for disk in disks
        ],
        "workers": [
            {"worker": worker}
            | _group(
                (tally for (_, one), tally in pairs.items() if one == worker),
                [found for (_, one), found in sets.items() if one == worker],
                tallies.worker_depths[worker],
            )
            for worker in workers
        ],
        "others": _group([pairs[OTHERS]], [], Depth()) if OTHERS in pairs else None,
    }


def _group(tallies: Iterable[PairTally], working_sets: Iterable[WorkingSet], depth: Depth) -> dict[str, Any]:
    """What a disk, a worker or the whole tape comes to."""
    tally = PairTally()
    for one in tallies:
        tally.merge(one)
    sets = list(working_sets)
    touched = sum(found.bytes for found in sets)
    used = sum(kind.bytes for number, kind in tally.kinds.items() if KINDS[number] != "discard")
    span_ns = (tally.last_ns or 0) - (tally.first_ns or 0)
    in_flight_ns = sum(kind.latency_ns.sum for kind in tally.kinds.values())
    return {
        "requests": sum(kind.requests for kind in tally.kinds.values()),
        "bytes": sum(kind.bytes for kind in tally.kinds.values()),
        "failed_requests": sum(kind.failed for kind in tally.kinds.values()),
        "first_ns": tally.first_ns,
        "last_ns": tally.last_ns,
        "working_set": {
            "bytes": touched,
            "estimated": any(found.estimated for found in sets),
            "reused": max(0.0, 1 - touched / used) if used else None,
        },
        "in_flight": {"mean": in_flight_ns / span_ns if span_ns > 0 else None, "max": depth.max},
        "conflicts": tally.conflicts,
        "kinds": {
            name: _kind(tally.kinds[kind], kind) for kind, name in KINDS.items() if kind in tally.kinds
        },
    }


def _kind(tally: KindTally, kind: int) -> dict[str, Any]:
    latency = tally.latency_ns
    found: dict[str, Any] = {"requests": tally.requests, "completed": tally.completed, "failed": tally.failed}
    if kind != KIND_FSYNC:
        found |= {
            "bytes": tally.bytes,
            "moved_bytes": tally.moved_bytes,
            "length": {
                "min": tally.length_min,
                "mean": tally.bytes / tally.requests if tally.requests else None,
                "max": tally.length_max,
                # By the power of two that a length reaches.
                "classes": {
                    str(1 << max(bits - 1, 0)): int(number)
                    for bits, number in enumerate(tally.length_classes.tolist())
                    if number
                },
            },
            "sequential": tally.sequential / tally.requests if tally.requests else None,
        }
    if latency.count:
        found["latency_ns"] = {
            "min": latency.min,
            "mean": latency.sum / latency.count,
            **{name: latency.percentile(share) for name, share in PERCENTILES.items()},
            "max": latency.max,
        }
    return found


# ---- for people


def _print(stats: dict[str, Any]) -> None:
    from ringtape.screen import Screen

    width = None if sys.stdout.isatty() else _WIDTH
    screen = Screen(file=sys.stdout, width=width, highlight=False, markup=False)
    disks = [(one["name"], one) for one in stats["disks"]]
    workers = [(str(one["worker"]), one) for one in stats["workers"]]
    everything = [("all", stats["all"])]
    others = [("others", stats["others"])] if stats["others"] else []
    # All together stand with the disks, where they are not one disk's.
    disks += others + (everything if len(disks) != 1 or others else [])
    for of, rows in (("disk", disks), ("worker", workers + others)):
        screen.print(_use_table(of, rows))
        screen.print(_kinds_table(of, rows))
    screen.print(f"percentiles are off by at most {100 * ERROR:.1f} %")
    if stats["all"]["working_set"]["estimated"]:
        screen.print("≈ working sets are estimates, from a sample of each disk")


def _use_table(of: str, rows: list[tuple[str, dict[str, Any]]]) -> RichTable:
    table = _table(
        f"by {of}",
        of,
        ("requests", "bytes", "failed", "working set", "reused", "in flight, mean", "max", "conflicts"),
    )
    for name, one in rows:
        touched, depth = one["working_set"], one["in_flight"]
        table.add_row(
            name,
            f"{one['requests']:,}",
            f"{one['bytes']:,}",
            f"{one['failed_requests']:,}",
            f"{'≈ ' if touched['estimated'] else ''}{touched['bytes']:,}",
            _share(touched["reused"]),
            "" if depth["mean"] is None else f"{depth['mean']:.2f}",
            f"{depth['max']:,}",
            f"{one['conflicts']:,}",
        )
    return table


def _kinds_table(of: str, rows: list[tuple[str, dict[str, Any]]]) -> RichTable:
    names = ("requests", "mean size", "sequential", *(name.replace("_", ".") for name in PERCENTILES), "max")
    table = _table(f"by {of} and kind; latencies in µs", of, ("kind", *names))
    for name, one in rows:
        for kind, found in one["kinds"].items():
            latency = found.get("latency_ns", {})
            mean = found["length"]["mean"] if "length" in found else None
            table.add_row(
                name,
                kind,
                f"{found['requests']:,}",
                "" if mean is None else f"{mean:,.0f}",
                _share(found.get("sequential")),
                *(f"{latency[key] / 1e3:,.1f}" if latency else "" for key in (*PERCENTILES, "max")),
            )
            name = ""
    return table


def _table(title: str, first: str, names: tuple[str, ...]) -> RichTable:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for name in names:
        table.add_column(name, justify="left" if name == "kind" else "right", no_wrap=True)
    return table


def _share(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"
