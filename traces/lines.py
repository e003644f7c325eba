"""A batch of a text's lines, split into fields: where each field of each line is, and what is wrong with which line.

Columns of fields come out as arrays; no line becomes a Python object but one that an error is about. A batch remembers
what was found wrong, and never raises for it: whether that ends the reading is for others to say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ringtape.traces import numbers
from ringtape.traces.columns import Bools, Bytes, Ints, Unsigned
from ringtape.traces.numbers import PAD, WORD

_NEWLINE, _RETURN, _COMMA, _SEMICOLON, _SPACE, _TAB, _POINT = b"\n\r,; \t."
_SHOWN_MAX = 40
NAME_MAX = 255

Split = tuple[list[Ints], list[Ints], Ints]


class Complaint(NamedTuple):
    """Lines with something wrong: their rows in the batch (sorted), what, and where the field is that it is about."""

    rows: Ints
    what: str
    starts: Ints | None
    ends: Ints | None


class _Wrong:
    """What is wrong with the lines of a batch; all that are selected from it share it."""

    def __init__(self) -> None:
        self.bad: Bools | None = None
        self.complaints: list[Complaint] = []


class Lines:
    """Some lines of a text, or all. Rows are counted from 0.

    Attributes:
        first_number: the number in the file of the batch's first line, `all_lines` how many the batch has.
        rows: which lines of the batch these are.
        starts, ends: for each field, where it is in `data`, by row; empty where a line has fewer fields.
        counts: how many fields each line has; not above the number of arrays unless `split` says so.
    """

    def __init__(self, data: bytes, first_number: int, split: Callable[[Bytes, Ints, Ints], Split]) -> None:
        assert data.startswith(PAD)
        assert data.endswith(b"\n")
        self.data = data
        self.bytes = np.frombuffer(data, dtype=np.uint8)
        self.words = numbers.words_of(data)
        newlines = np.flatnonzero(self.bytes == _NEWLINE)
        begins = np.empty_like(newlines)
        begins[0] = len(PAD)
        begins[1:] = newlines[:-1] + 1
        self.first_number = first_number
        self.all_lines = len(newlines)
        self.begins, self.stops = begins, newlines
        if b"\r" in data:
            ends_so = (newlines > begins) & (self.bytes[newlines - 1] == _RETURN)
            self.stops = newlines - ends_so
        self.starts, self.ends, self.counts = split(self.bytes, self.begins, self.stops)
        self.rows: Ints = np.arange(len(newlines))
        self._wrong = _Wrong()
        if data.find(b"\0", len(PAD)) >= 0:
            nuls = np.flatnonzero(self.bytes[len(PAD) :] == 0) + len(PAD)
            with_nuls = np.unique(np.searchsorted(newlines, nuls))
            self._complain(with_nuls, "it has zero bytes in it: the file is damaged", None, None)

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, rows: Bools | Ints) -> Lines:
        """Some of the lines; what is wrong with them is kept with the batch."""
        part = object.__new__(Lines)
        part.__dict__.update(self.__dict__)
        part.starts = [one[rows] for one in self.starts]
        part.ends = [one[rows] for one in self.ends]
        for name in ("counts", "rows", "begins", "stops"):
            setattr(part, name, getattr(self, name)[rows])
        return part

    def without_blank(self) -> Lines:
        """The lines that have something on them."""
        blank = self.counts == 0
        return self.select(~blank) if blank.any() else self

    # ---- what is wrong

    @property
    def bad(self) -> Bools | None:
        """Which of these lines something is wrong with; None if with none."""
        if self._wrong.bad is None:
            return None
        mine = self._wrong.bad[self.rows]
        return mine if mine.any() else None

    @property
    def bad_count(self) -> int:
        """How many lines of the batch are bad."""
        return 0 if self._wrong.bad is None else int(self._wrong.bad.sum())

    @property
    def complaints(self) -> Sequence[Complaint]:
        """All that was found wrong in the batch."""
        return self._wrong.complaints

    def fail(self, where: Bools | None, what: str, field: int | None = None) -> None:
        """Something is wrong with the lines of the mask; `what` goes on after the field's text."""
        if where is None or not where.any():
            return
        if field is None:
            self._complain(self.rows[where], what, None, None)
        else:
            self._complain(self.rows[where], what, self.starts[field][where], self.ends[field][where])

    def _complain(self, rows: Ints, what: str, starts: Ints | None, ends: Ints | None) -> None:
        if self._wrong.bad is None:
            self._wrong.bad = np.zeros(self.all_lines, dtype=np.bool_)
        self._wrong.bad[rows] = True
        self._wrong.complaints.append(Complaint(rows, what, starts, ends))

    def first_bad(self) -> tuple[int, str]:
        """Row of the first bad line of the batch, and what is wrong with it."""
        first = min(self.complaints, key=lambda complaint: int(complaint.rows[0]))
        what = first.what
        if first.starts is not None and first.ends is not None:
            what = f"{shown(self.data[first.starts[0] : first.ends[0]])} {what}"
        return int(first.rows[0]), what

    def text(self, row: int) -> bytes:
        """A line of these as it is."""
        return self.data[self.begins[row] : self.stops[row]]

    # ---- columns

    def unsigned(self, field: int, name: str) -> Unsigned:
        """A column of numbers without sign."""
        value, wrong = numbers.unsigned(self.words, self.starts[field], self.ends[field])
        self.fail(wrong, f"is no {name} (a whole number)", field)
        return value

    def limited(self, field: int, name: str, most: int, scale: int = 1) -> Unsigned:
        """A column of numbers up to `most`, times `scale`."""
        value = self.unsigned(field, name)
        over = value > most
        self.fail(over, f"is too large to be the {name}", field)
        if scale != 1:
            value *= np.uint64(scale)
        return value

    def decimal_ns(self, field: int, name: str, unit_ns: int) -> Ints:
        """A column of times with or without a point, in ns; what is finer than the unit's 1e-9 is cut."""
        starts, ends = self.starts[field], self.ends[field]
        points = np.flatnonzero(self.bytes == _POINT)
        if len(points):
            points = np.append(points, len(self.bytes))
            found = points[np.searchsorted(points, starts)]
            found = np.minimum(found, ends)
        else:
            found = ends
        whole, wrong = numbers.unsigned(self.words, starts, found)
        after = np.minimum(found + 1, ends)
        parts, also_wrong = numbers.fraction(self.words, after, ends, 9)
        wrong_text = f"is no {name}"
        self.fail(wrong, wrong_text, field)
        self.fail(also_wrong, wrong_text, field)
        self.fail(whole >= np.uint64((1 << 63) // unit_ns), f"is too large to be the {name}", field)
        whole *= np.uint64(unit_ns)
        if unit_ns != 10**9:
            parts = parts * np.uint64(unit_ns) // np.uint64(10**9)
        whole += parts
        return whole.view(np.int64)

    def choice(self, field: int, name: str, codes: Mapping[bytes, int]) -> Bytes:
        """A column of words, each as its code; codes are not 0."""
        lengths = self.ends[field] - self.starts[field]
        words = numbers.text_words(self.words, self.ends[field], lengths)
        chosen = np.zeros(len(words), dtype=np.uint8)
        for text, code in codes.items():
            assert 0 < len(text) <= WORD
            assert code
            chosen[words == np.uint64(int.from_bytes(text, "little"))] = code
        chosen[lengths > WORD] = 0
        of = ", ".join(text.decode() for text in codes)
        self.fail(chosen == 0, f"is no {name} (one of {of})", field)
        return chosen

    def initial(self, field: int, name: str, codes: Mapping[bytes, int]) -> Bytes:
        """A column of words, each by its first byte; codes are not 0."""
        table = np.zeros(256, dtype=np.uint8)
        for first, code in codes.items():
            table[ord(first)] = code
        chosen = table[self.bytes[self.starts[field]]]
        chosen[self.starts[field] == self.ends[field]] = 0
        of = ", ".join(first.decode() for first in codes)
        self.fail(chosen == 0, f"is no {name} (it begins with one of {of})", field)
        return chosen

    def texts_match(self, field: int, text: bytes) -> Bools:
        """Where the field is that text."""
        lengths = self.ends[field] - self.starts[field]
        words = numbers.text_words(self.words, self.ends[field], lengths)
        same: Bools = words == np.uint64(int.from_bytes(text, "little"))
        same &= lengths == len(text)
        return same


def shown(text: bytes) -> str:
    """A field for an error message."""
    words = text[: _SHOWN_MAX + 1].decode("utf-8", "backslashreplace")
    words = words if len(words) <= _SHOWN_MAX else words[:_SHOWN_MAX] + "…"
    return repr(words)


# ---- how lines are split


def split_commas(fields: int) -> Callable[[Bytes, Ints, Ints], Split]:
    """Fields between commas, of which the first `fields` are wanted; spaces around them do not belong to them."""

    def split(data: Bytes, begins: Ints, stops: Ints) -> Split:
        commas = np.flatnonzero(data == _COMMA)
        lines = len(begins)
        between = fields - 1
        if len(commas) == lines * between and _each_has(commas, begins, stops, between):
            grid = commas.reshape(lines, between)
            columns = [np.ascontiguousarray(grid[:, one]) for one in range(between)]
            counts = np.full(lines, fields)
            starts = [begins, *(column + 1 for column in columns)]
            ends = [*columns, stops]
        else:
            starts, ends, counts = _uneven(commas, begins, stops, fields)
        if _is_blank(data).any():
            for one in range(fields):
                starts[one], ends[one] = _trimmed(data, starts[one], ends[one])
            counts[(counts == 1) & (starts[0] == ends[0])] = 0
        return starts, ends, counts

    return split


def _each_has(separators: Ints, begins: Ints, stops: Ints, count: int) -> bool:
    """Whether each line has exactly `count` of the separators, given that there are as many in all."""
    return bool((separators[::count] >= begins).all() and (separators[count - 1 :: count] < stops).all())


def _uneven(commas: Ints, begins: Ints, stops: Ints, fields: int) -> Split:
    first = np.searchsorted(commas, begins)
    found = np.searchsorted(commas, stops) - first
    counts = np.where(stops > begins, found + 1, 0)
    commas = np.append(commas, np.int64(0))
    starts, ends = [], []
    begin = begins
    for one in range(fields):
        comma = commas[np.minimum(first + one, len(commas) - 1)]
        end = np.where(one < found, comma, stops)
        starts.append(begin)
        ends.append(end)
        begin = np.where(one < found, comma + 1, stops)
    return starts, ends, counts


def _trimmed(data: Bytes, starts: Ints, ends: Ints) -> tuple[Ints, Ints]:
    starts, ends = starts.copy(), ends.copy()
    while (blank := (starts < ends) & _is_blank(data[starts])).any():
        starts += blank
    while (blank := (starts < ends) & _is_blank(data[ends - 1])).any():
        ends -= blank
    return starts, ends


def _is_blank(one: Bytes) -> Bools:
    blank: Bools = (one == _SPACE) | (one == _TAB)
    return blank


def split_spaces(fields: int, *, semicolons: bool = False) -> Callable[[Bytes, Ints, Ints], Split]:
    """Fields between runs of blanks (and semicolons), of which the first `fields` are wanted."""

    def split(data: Bytes, begins: Ints, stops: Ints) -> Split:
        blank = data <= _SPACE
        if semicolons:
            blank |= data == _SEMICOLON
        edges = np.flatnonzero(blank[1:] != blank[:-1])
        edges += 1
        # What stands before the first line and at the end of the last is blank, so edges come in pairs.
        assert len(edges) % 2 == 0
        token_starts, token_ends = edges[0::2], edges[1::2]
        lines = len(begins)
        if len(token_starts) == lines * fields and _each_has(token_starts, begins, stops, fields):
            starts = [np.ascontiguousarray(token_starts[one::fields]) for one in range(fields)]
            ends = [np.ascontiguousarray(token_ends[one::fields]) for one in range(fields)]
            return starts, ends, np.full(lines, fields)
        first = np.searchsorted(token_starts, begins)
        counts = np.searchsorted(token_starts, stops) - first
        token_starts = np.append(token_starts, np.int64(0))
        token_ends = np.append(token_ends, np.int64(0))
        starts, ends = [], []
        for one in range(fields):
            at = np.minimum(first + one, len(token_starts) - 1)
            there = one < counts
            starts.append(np.where(there, token_starts[at], stops))
            ends.append(np.where(there, token_ends[at], stops))
        return starts, ends, counts

    return split
