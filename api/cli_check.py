"""The command `check`: what it shows while it runs, and of what came of it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from ringtape import console
from ringtape.cli_runs import disks_of, facts_of, look
from ringtape.console import Exit

if TYPE_CHECKING:
    from ringtape.checking import CheckResult


def conduct_check(
    program: str, *, disks: list[str] | None, runs: int, as_json: bool, **arguments: Any
) -> int:
    """Carry out a check and show what came of it; returns the exit code."""

    def act() -> int:
        from ringtape.checking import check

        with console.shown_run(as_json=as_json) as shown:
            console.find_modules_here()

            def on_replay(number: int, conditions: str) -> None:
                if isinstance(shown.on_progress, console.ProgressLine):
                    shown.on_progress.begin(f"replay {number} of {runs}, {conditions}: ")

            result = check(
                program, disks=disks_of(disks), runs=runs, on_replay=on_replay, console=shown, **arguments
            )
        return _show(result, runs, as_json=as_json)

    return look(act)


def _show(result: CheckResult, runs: int, *, as_json: bool) -> int:
    difference = result.difference
    if as_json:
        print(_json(result))
    elif difference is None:
        replays = "1 replay" if result.runs == 1 else f"{result.runs} replays"
        console.print_facts(
            f"the same: {replays} under other conditions, all with the digest of the recording",
            _facts(result),
        )
    else:
        console.print_facts(
            f"NOT THE SAME: replay {difference.replay} of {runs}, with {difference.conditions}",
            _facts(result),
        )
        print(f"again: {difference.repeat}")
    sys.stdout.flush()
    if difference is not None:
        console.fail(difference.error)
        return Exit.NOT_EXACT
    return console.say_failures(result.recorded.failures)


def _facts(result: CheckResult) -> dict[str, str]:
    facts = facts_of(result.recorded)
    facts["elapsed"] = f"{result.elapsed_s:.3f} s in all, {result.recorded.elapsed_s:.3f} s the recording"
    return facts


def _json(result: CheckResult) -> str:
    """The result as one JSON object on one line."""
    fields: dict[str, Any] = {
        "recorded": json.loads(console.as_json(result.recorded)),
        "runs": result.runs,
        "same": result.difference is None,
        "difference": None,
        "tape": result.tape,
        "elapsed_s": result.elapsed_s,
    }
    if result.difference is not None:
        error = result.difference.error
        fields["difference"] = {
            "replay": result.difference.replay,
            "conditions": result.difference.conditions,
            "kind": type(error).__name__,
            "error": str(error),
            "repeat": result.difference.repeat,
        }
    return json.dumps(fields)
