"""CSV and JSON lines: a row a request, with what came of it, in the columns of `records`."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from typing import TextIO

from ringtape.coordinator.tape import Table
from ringtape.proto import tape_pb2
from ringtape.tape import records


def write_csv(file: TextIO, tables: Iterable[Table], header: tape_pb2.Header) -> None:
    """RFC 4180, but lines end as they do here; what is not known is empty, and flags are words with spaces between."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(records.NAMES)
    for rows in tables:
        writer.writerows(zip(*records.columns(rows, header).values(), strict=True))


def write_jsonl(file: TextIO, tables: Iterable[Table], header: tape_pb2.Header) -> None:
    """One object a line; what is not known is null, and flags are a list."""
    for rows in tables:
        file.write("".join(f"{json.dumps(record)}\n" for record in records.records(rows, header)))
