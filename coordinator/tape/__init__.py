"""The tape: the log file of a run, written as a stream and read back to the last whole block.

This file only re-exports. docs/tape-format.md describes the bytes.
"""

from ringtape.coordinator.tape.ledger import Totals
from ringtape.coordinator.tape.reader import Position, TapeDamagedAt, TapeEnd, TapeReader
from ringtape.coordinator.tape.repair import Damage, VerifyReport, repair, verify
from ringtape.coordinator.tape.rows import CompletionRow, NoteRow, RequestRow, Row, TokenRow, iter_rows
from ringtape.coordinator.tape.runs import BlockView, CompletionsRun, NoteRun, RequestsRun, Run, TokenRun
from ringtape.coordinator.tape.sink import NullTape, TapeSink
from ringtape.coordinator.tape.table import NEVER, ROW, Joined, Table, iter_joined, iter_table
from ringtape.coordinator.tape.writer import TapeWriter

__all__ = [
    "NEVER",
    "ROW",
    "BlockView",
    "CompletionRow",
    "CompletionsRun",
    "Damage",
    "Joined",
    "NoteRow",
    "NoteRun",
    "NullTape",
    "Position",
    "RequestRow",
    "RequestsRun",
    "Row",
    "Run",
    "Table",
    "TapeDamagedAt",
    "TapeEnd",
    "TapeReader",
    "TapeSink",
    "TapeWriter",
    "TokenRow",
    "TokenRun",
    "Totals",
    "VerifyReport",
    "iter_joined",
    "iter_rows",
    "iter_table",
    "repair",
    "verify",
]
