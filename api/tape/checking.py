"""`ringtape tape verify` and `ringtape tape repair`: what is damaged on a tape, and what is left of it.

The work is done in `coordinator.tape.repair`; this prints what came of it and gives the exit code.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from ringtape import console
from ringtape.console import Exit
from ringtape.coordinator.tape import TapeEnd, VerifyReport, repair, verify
from ringtape.tape.progress import ProgressBar

SHOWN_MAX = 20  # damages, for people; JSON has all that the report names


def print_verify(path: str, *, as_json: bool) -> Exit:
    """Print whether the tape is whole, and every damage if not. Raises TapeError: it cannot be read at all."""
    with ProgressBar("verifying") as bar:
        report = verify(path, on_bytes=bar)
    if as_json:
        print(json.dumps(_fields(report)))
    else:
        _print_report(report)
    return Exit.DONE if report.sound else Exit.TAPE_DAMAGED


def print_repair(bad: str, good: str, *, as_json: bool) -> Exit:
    """Write what is whole of one tape to another, and print what is lost.

    Raises TapeError: the one cannot be read, or the other exists or cannot be written.
    """
    with ProgressBar("verifying") as bar:
        report = repair(bad, good, on_bytes=bar)
    if as_json:
        print(json.dumps(_fields(report) | {"repaired": good}))
        return Exit.DONE
    _print_report(report)
    if report.sound:
        print(f"nothing to repair: {good} is a copy")
    else:
        print(f"{good} has what is whole: {_rows(report)}; it ends there like a recording that was cut")
    return Exit.DONE


def _fields(report: VerifyReport) -> dict[str, Any]:
    return {
        "tape": report.path,
        "format": report.version,
        "bytes": report.file_bytes,
        "sound": report.sound,
        "end": report.end.value,
        "being_written": report.being_written,
        "blocks": report.blocks,
        "indexed_blocks": report.indexed_blocks,
        "whole_bytes": report.whole_bytes,
        "whole_requests": report.whole.requests,
        "whole_completions": report.whole.completions,
        "whole_tokens": report.whole.tokens,
        "requests_lost": report.requests_lost,
        "stranded_requests": report.stranded_requests,
        "damages": [dataclasses.asdict(damage) for damage in report.damages],
    }


def _print_report(report: VerifyReport) -> None:
    ended = {
        TapeEnd.SEALED: "whole, with its seal",
        TapeEnd.UNSEALED: "whole, without a seal: "
        + ("a run is writing it" if report.being_written else "the recording was cut"),
        TapeEnd.DAMAGED: "damaged",
    }[report.end]
    lines = {"whole": f"{report.whole_bytes:,} of {report.file_bytes:,} bytes: {_rows(report)}"}
    if not report.sound:
        lost = "not known: nothing after the damage tells"
        if report.requests_lost is not None:
            lost = f"{report.requests_lost:,} requests"
            if report.stranded_requests:
                lost += f", {report.stranded_requests:,} of them in whole blocks that nothing can be replayed from"
        lines["lost"] = lost
    console.print_facts(f"{report.path}: {ended}, format {report.version}", lines)
    for damage in report.damages[:SHOWN_MAX]:
        count = damage.requests_lost
        lost = "an unknown number of requests" if count is None else f"{count:,} requests"
        where = f"block {damage.block}" if damage.block else "the header"
        print(f"  bytes {damage.offset:,} to {damage.end:,} ({where}): {damage.problem}; {lost} lost")
    if len(report.damages) > SHOWN_MAX:
        print(f"  and {len(report.damages) - SHOWN_MAX:,} more damages")


def _rows(report: VerifyReport) -> str:
    whole = report.whole
    return (
        f"{report.blocks:,} blocks with {whole.requests:,} requests, {whole.completions:,} completions, "
        f"{whole.tokens:,} tokens"
    )
