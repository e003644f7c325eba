"""Reads tapes in every way there is, in little memory: `hostile.py BYTES TAPE...` says what is wrong with each."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ringtape.coordinator.tape import TapeReader, iter_table, verify
from ringtape.proto.errors import TapeError
from tests.coordinator.tape.test_damage import assert_tape_errors_only


def problem_of(path: Path) -> str:
    """What a tool would say; empty if the tape is sound."""
    if not path.name.startswith("long"):  # each way takes its seconds
        assert_tape_errors_only(path)
    try:
        with TapeReader.open(path) as reader:
            for _ in iter_table(reader):
                pass
    except TapeError as error:
        return str(error)
    report = verify(path)
    return "" if report.sound else report.damages[0].problem


if __name__ == "__main__":
    memory_bytes, *tapes = sys.argv[1:]
    has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (has + int(memory_bytes),) * 2)
    for tape in tapes:
        print(f"{Path(tape).name}\t{problem_of(Path(tape))}", flush=True)
