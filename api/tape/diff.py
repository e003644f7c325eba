"""`ringtape tape diff`: where two tapes first differ.

Order, results, data and clock readings are what a program can see, and what the digest of a run is made of; the
times at which the kernel took and finished requests are not, and make no difference. Each is looked for by itself.
Behind the first difference in order nothing is compared: from there on an id is not the same request.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ringtape.console import Exit
from ringtape.coordinator.tape import TapeReader
from ringtape.proto import messages_pb2
from ringtape.tape.around import around
from ringtape.tape.opening import how_it_ends, opened
from ringtape.tape.streams import LATEST, Side
from ringtape.tape.words import KINDS, flag_names, hex_digest, level_name, short

ASPECTS = ("order", "result", "data", "clock", "timing")
COUNTED = ASPECTS[:-1]
# By stream and aspect: the columns that must be the same.
_COLUMNS: dict[str, dict[str, tuple[str, ...]]] = {
    "request": {
        "order": ("worker", "kind", "flags", "disk", "offset", "length"),
        "data": ("request_digest",),
        "timing": ("submitted_ns",),
    },
    "token": {
        "order": ("requests", "notes", "released", "delivered"),
        "clock": ("clock_ns",),
        "timing": ("at_ns",),
    },
    "release": {
        "order": ("sequence",),
        "result": ("result",),
        "data": ("digest",),
        "timing": ("completed_ns", "released_ns"),
    },
    "note": {"order": ("requests", "what", "name"), "data": ("content",), "timing": ("at_ns",)},
}


@dataclass(frozen=True)
class Difference:
    """Where two tapes first differ in one aspect. A row is None where its tape has ended."""

    aspect: str
    stream: str
    place: int
    one: dict[str, int] | None
    other: dict[str, int] | None


def print_diff(one: str, other: str, *, ignored: frozenset[str], context: int, as_json: bool) -> Exit:
    """Print where the tapes first differ; the exit code.

    Raises TapeError: one cannot be read, or they are too far apart to be compared in bounded memory. Raises
    TapeDamaged, when no difference was found before a damage.
    """
    with opened(one, f"comparing {one}") as first, TapeReader.open(other) as second:
        sides = [Side(reader, disks) for reader, disks in _with_disks(first, second)]
        found = _compare(*sides, digests=_have_digests(first, second))
        differs = any(aspect in found and aspect not in ignored for aspect in COUNTED)
        headers = _headers(first, second)
        if as_json:
            print(json.dumps(_fields(one, other, sides, headers, found, ignored=ignored, differs=differs)))
        else:
            _print_summary(one, other, sides, headers, found, ignored)
    damage = next((side.damage for side in sides if side.damage is not None), None)
    if not as_json:
        _print_contexts((one, other), found, context, ignored)
    if not differs and damage is not None:
        raise damage
    return Exit.PROGRAM_RAISED if differs else Exit.DONE


def _with_disks(*readers: TapeReader) -> list[tuple[TapeReader, list[int]]]:
    """The readers, each with the numbers of its disks: of one name, one number."""
    numbers: dict[str, int] = {}
    return [
        (reader, [numbers.setdefault(disk.name, len(numbers)) for disk in reader.header.disks])
        for reader in readers
    ]


def _have_digests(*readers: TapeReader) -> bool:
    return all(reader.header.data != messages_pb2.DATA_LEVEL_ORDER for reader in readers)


# ---- comparing


def _compare(one: Side, other: Side, *, digests: bool) -> dict[str, Difference]:
    """The first difference in each aspect that has any."""
    found: dict[str, Difference] = {}
    while "order" not in found and not (one.ended and other.ended):
        behind = one if other.ended or (not one.ended and one.rows <= other.rows) else other
        if any(side.damage is not None for side in (one, other)) and behind.rows > min(one.rows, other.rows):
            break  # the other has come to its damage: there is nothing to compare with
        behind.pull()
        _compare_streams(one, other, found, digests=digests)
    if "order" not in found and one.damage is None and other.damage is None:
        _compare_ends(one, other, found)
    order = found.get("order")
    if order is not None:
        found = {
            aspect: difference
            for aspect, difference in found.items()
            if aspect == "order" or difference.place < order.place
        }
    return found


def _compare_streams(one: Side, other: Side, found: dict[str, Difference], *, digests: bool) -> None:
    for key in sorted(one.streams.keys() & other.streams.keys()):
        ours, theirs = one.streams[key], other.streams[key]
        count = min(len(ours), len(theirs))
        if not count:
            continue
        ours, theirs = ours[:count], theirs[:count]
        for aspect, names in _COLUMNS[key[0]].items():
            if key[0] != "note" and aspect == "data" and not digests:
                continue
            differs = np.zeros(count, dtype=bool)
            for name in names:
                differs |= ours[name] != theirs[name]
            if differs.any():
                row = int(differs.argmax())
                place = int(ours["place"][row])
                if aspect not in found or place < found[aspect].place:
                    found[aspect] = Difference(
                        aspect, key[0], place, _values(ours[row]), _values(theirs[row])
                    )
        one.drop(key, count)
        other.drop(key, count)


def _compare_ends(one: Side, other: Side, found: dict[str, Difference]) -> None:
    """One tape has more than the other."""
    candidates = []
    for side in (one, other):
        for (stream, _), rows in side.streams.items():
            if len(rows):
                row = _values(rows[0])
                place = row["place"] if side is one else LATEST + row["place"]
                ours, theirs = (row, None) if side is one else (None, row)
                candidates.append(Difference("order", stream, place, ours, theirs))
    if candidates:
        found["order"] = min(candidates, key=lambda difference: difference.place)


def _values(row: Any) -> dict[str, int]:
    return {name: int(row[name]) for name in row.dtype.names}


# ---- showing


def _headers(one: TapeReader, other: TapeReader) -> dict[str, tuple[str, str]]:
    """What the headers say differently, of what decides a run. It is said and does not count."""

    def facts(reader: TapeReader) -> dict[str, str]:
        header = reader.header
        return {
            "program": f"{header.program or 'without a name'}, source {header.program_sha256.hex()[:16] or 'unknown'}",
            "arguments": short(header.arguments_text),
            "seed": str(header.seed),
            "workers": str(header.workers),
            "disks": ", ".join(disk.name for disk in header.disks),
            "data": level_name(header.data),
            "overlap": header.overlap,
            "policy": header.policy,
        }

    ours, theirs = facts(one), facts(other)
    return {name: (ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]}


def _fields(
    one: str,
    other: str,
    sides: list[Side],
    headers: dict[str, tuple[str, str]],
    found: dict[str, Difference],
    *,
    ignored: frozenset[str],
    differs: bool,
) -> dict[str, Any]:
    names = list(dict.fromkeys(disk.name for side in sides for disk in side.reader.header.disks))
    return {
        "a": one,
        "b": other,
        "same": not differs,
        "ignored": sorted(ignored),
        "compared_requests": min(side.reader.totals.requests for side in sides),
        "damaged": [str(side.damage) for side in sides if side.damage is not None],
        "header": {name: list(values) for name, values in headers.items()},
        "differences": {
            aspect: {
                "what": difference.stream,
                "a": _shown(difference.one, names),
                "b": _shown(difference.other, names),
            }
            if (difference := found.get(aspect)) is not None
            else None
            for aspect in ASPECTS
        },
    }


def _shown(row: dict[str, int] | None, disks: list[str]) -> dict[str, Any] | None:
    """A row as `--json` has it: numbers that stand for something as that, and none of our own."""
    if row is None:
        return None
    shown: dict[str, Any] = {}
    for name, value in row.items():
        if name == "kind":
            shown[name] = KINDS[value]
        elif name == "flags":
            shown[name] = flag_names(value)
        elif name == "disk":
            shown[name] = disks[value]
        elif name in ("request_digest", "digest"):
            shown[name] = hex_digest(value)
        elif name == "what":
            shown[name] = messages_pb2.Note.DESCRIPTOR.fields_by_number[value].name
        elif name not in ("place", "name", "content"):
            shown[name] = value
    return shown


def _print_summary(
    one: str,
    other: str,
    sides: list[Side],
    headers: dict[str, tuple[str, str]],
    found: dict[str, Difference],
    ignored: frozenset[str],
) -> None:
    print(f"A  {one}\nB  {other}")
    for name, (ours, theirs) in headers.items():
        print(f"{name}: A has {ours}; B has {theirs}")
    for aspect in ASPECTS:
        difference = found.get(aspect)
        if difference is None:
            said = "same" if "order" not in found or aspect == "order" else "same up to there"
            if aspect == "data" and not _have_digests(*(side.reader for side in sides)):
                said += ", without what was read and written: there are no digests"
        else:
            said = f"differs first in {_where(difference)}"
            if aspect == "timing":
                said += "; that does not count"
            elif aspect in ignored:
                said += "; ignored"
        print(f"{aspect:<6}  {said}")
    for name, side in zip("AB", sides, strict=True):
        if side.damage is not None:
            print(f"{name} is damaged: {side.damage}")
        elif side.reader.end is not None and side.reader.seal is None:
            print(f"{name} is unsealed: {how_it_ends(side.reader)}")


def _where(difference: Difference) -> str:
    row = difference.one or difference.other
    assert row is not None
    if difference.stream == "request":
        what = f"request {row['id']} of worker {row['worker']}"
    elif difference.stream == "release" and difference.aspect != "order":
        what = f"the completion of request {row['id']}"
    elif difference.stream == "note":
        what = f"what worker {row['worker']} did after checkpoint {row['checkpoint']}"
    else:
        what = f"the token for checkpoint {row['checkpoint']} of worker {row['worker']}"
    if difference.one is None or difference.other is None:
        what += f": {'A' if difference.one is None else 'B'} ends before"
    return what


def _print_contexts(
    paths: Iterable[str], found: dict[str, Difference], count: int, ignored: frozenset[str]
) -> None:
    """Around each difference that counts, what both tapes have there."""
    for aspect in COUNTED:
        difference = found.get(aspect)
        if difference is None or aspect in ignored:
            continue
        print(f"\n{aspect}:")
        for name, path, row in zip("AB", paths, (difference.one, difference.other), strict=True):
            for line in around(path, difference.stream, aspect, row, count):
                print(f"{name}{line}")
