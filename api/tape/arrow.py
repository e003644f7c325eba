"""A tape as Arrow tables, and from there as Parquet and pandas.

pyarrow and pandas are optional: they are imported here when they are used, and what is missing is named. A column is
typed as on the tape; kinds, disks and flags are dictionaries; what did not happen is null.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from ringtape.coordinator.tape import ROW, Table
from ringtape.proto import tape_pb2
from ringtape.proto.errors import TapeDamaged
from ringtape.settings import UsageError
from ringtape.tape import records
from ringtape.tape.words import KINDS
from ringtape.tape.writing import OutputError

_ROW_GROUP = 1 << 16  # rows of a Parquet row group, which is what is held


def optional(package: str, wanted_by: str, extra: str) -> Any:
    """The package. Raises UsageError, which says how to get it, where it is not installed."""
    try:
        return importlib.import_module(package)
    except ImportError:
        raise UsageError(
            f"{wanted_by} needs {package.partition('.')[0]}, which is not installed: pip install 'ringtape[{extra}]'"
        ) from None


def to_arrow(tables: Iterable[Table], header: tape_pb2.Header, wanted_by: str = "to_arrow()") -> Any:
    """A `pyarrow.Table` of all the requests. Raises UsageError: pyarrow is not installed."""
    pyarrow = optional("pyarrow", wanted_by, "arrow")
    schema = _schema(pyarrow, header)
    return pyarrow.Table.from_batches([_batch(pyarrow, rows, header, schema) for rows in tables], schema)


def to_pandas(tables: Iterable[Table], header: tape_pb2.Header) -> Any:
    """A `pandas.DataFrame` of all the requests. Raises UsageError: pandas is not installed."""
    pandas = optional("pandas", "to_pandas()", "pandas")
    found = list(tables)
    rows = np.concatenate(found) if found else np.zeros(0, dtype=ROW)
    unknown = records.unknown(rows)
    columns: dict[str, Any] = {}
    for name in records.NAMES:
        values = np.ascontiguousarray(rows[name])
        words = _words(name, header)
        if words is not None:
            columns[name] = pandas.Categorical.from_codes(_codes(name, values), categories=words)
        elif name in unknown:
            dtype = "UInt64" if values.dtype.kind == "u" else "Int64"
            columns[name] = pandas.array(values, dtype=dtype)
            columns[name][unknown[name]] = pandas.NA
        else:
            columns[name] = values
    return pandas.DataFrame(columns)


def write_parquet(path: str, tables: Iterable[Table], header: tape_pb2.Header) -> None:
    """Write a new Parquet file. Raises UsageError: pyarrow is not installed; OutputError: it cannot be written."""
    pyarrow = optional("pyarrow", "the format parquet", "arrow")
    parquet = optional("pyarrow.parquet", "the format parquet", "arrow")
    if os.path.lexists(path):
        raise OutputError(f"cannot write {path}: it exists already")
    schema = _schema(pyarrow, header)
    try:
        with parquet.ParquetWriter(path, schema) as writer:
            waiting: list[Table] = []
            for rows in tables:
                waiting.append(rows)
                if sum(map(len, waiting)) >= _ROW_GROUP:
                    writer.write_batch(_batch(pyarrow, np.concatenate(waiting), header, schema))
                    waiting = []
            if waiting:
                writer.write_batch(_batch(pyarrow, np.concatenate(waiting), header, schema))
    except TapeDamaged:
        raise
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(path)
        if isinstance(error, OSError):
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from None
        raise


def _words(name: str, header: tape_pb2.Header) -> list[str] | None:
    """What the numbers of a column stand for, in their order; None where they stand for themselves."""
    return {
        "kind": list(KINDS.values()),
        "disk": [disk.name for disk in header.disks],
        "flags": list(records.FLAG_WORDS),
    }.get(name)


def _codes(name: str, values: Any) -> Any:
    return values.astype(np.int32) - (1 if name == "kind" else 0)  # kinds count from 1


def _schema(pyarrow: Any, header: tape_pb2.Header) -> Any:
    fields = []
    for name in records.NAMES:
        type_ = pyarrow.from_numpy_dtype(ROW[name])
        if _words(name, header) is not None:
            type_ = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
        fields.append(pyarrow.field(name, type_))
    about = {"ringtape.program": header.program, "ringtape.arguments": header.arguments_text}
    return pyarrow.schema(fields, metadata=about)


def _batch(pyarrow: Any, rows: Table, header: tape_pb2.Header, schema: Any) -> Any:
    unknown = records.unknown(rows)
    arrays = []
    for name in records.NAMES:
        values = np.ascontiguousarray(rows[name])
        words = _words(name, header)
        if words is not None:
            codes = pyarrow.array(_codes(name, values))
            arrays.append(pyarrow.DictionaryArray.from_arrays(codes, pyarrow.array(words, pyarrow.string())))
        else:
            arrays.append(pyarrow.array(values, mask=unknown.get(name)))
    return pyarrow.RecordBatch.from_arrays(arrays, schema=schema)
