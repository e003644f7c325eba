"""`ringtape tape export`: the requests of a tape in the formats of other tools.

Responsible for what is common to them: which requests, where to, and that a damage comes out after what is whole.
Each format is a function that takes tables of requests and writes them; it holds one table at a time.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from ringtape import console
from ringtape.coordinator.tape import TapeReader
from ringtape.proto.errors import TapeDamaged
from ringtape.settings import UsageError
from ringtape.tape import export_fio, export_text, export_trace
from ringtape.tape.opening import opened, say_unsealed
from ringtape.tape.selection import Selection, selected
from ringtape.tape.writing import OutputError, text_output


def export(
    path: str,
    format_: str,
    output: str | None,
    choose: Callable[[TapeReader], Selection],
    disk_paths: list[str],
) -> None:
    """Write the chosen requests.

    Raises TapeError, UsageError, OutputError, and TapeDamaged after what is whole was written.
    """
    if disk_paths and format_ != "fio-iolog":
        raise UsageError(f"--path names disks in a fio log; the format {format_} has no paths")
    if format_ == "perfetto":
        _export_perfetto(path, output, choose)
        return
    damage: list[TapeDamaged] = []
    with opened(path, "exporting") as reader:
        selection = choose(reader)
        if format_ == "parquet":
            from ringtape.tape import arrow

            if output is None:
                raise UsageError("parquet goes to a file: name it with --output")
            arrow.write_parquet(output, selected(reader, selection, damage), reader.header)
        elif format_ == "fio-iolog":
            paths = export_fio.paths_of(reader.header, disk_paths)
            with text_output(output) as file:
                said = export_fio.write(file, reader, selection, paths, damage)
            for line in said:
                console.say(f"ringtape: note: {line}")
        elif format_ == "blkparse":
            with text_output(output) as file:
                export_trace.write(file, reader, selection, damage)
            console.say(f"ringtape: note: {export_trace.devices_in_words(reader.header)}")
        else:
            write = export_text.write_csv if format_ == "csv" else export_text.write_jsonl
            with text_output(output) as file:
                write(file, selected(reader, selection, damage), reader.header)
        if damage:
            raise damage[0]
        if reader.end is not None:
            sys.stdout.flush()
            say_unsealed(reader, path)


def _export_perfetto(path: str, output: str | None, choose: Callable[[TapeReader], Selection]) -> None:
    from ringtape.tape.perfetto import write_perfetto

    if output is None:
        raise UsageError("a Perfetto trace goes to a file: name it with --output")
    if os.path.isfile(output):
        raise OutputError(f"cannot write {output}: it exists already")
    with opened(path, "exporting") as reader:
        if not choose(reader).is_all:
            raise UsageError(
                "a Perfetto trace is of the whole tape: cut the tape first, with `ringtape tape cut`"
            )
        write_perfetto(reader, output)
        say_unsealed(reader, path)
