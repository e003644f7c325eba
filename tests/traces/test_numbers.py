"""Goal: digits become the numbers that they are, whatever surrounds them, and nothing else does.

Method: against `int()`, field by field, in columns of mixed lengths.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtape.traces import numbers

DIGITS = st.integers(0, 10**19 - 1).map(str)
SHORT = st.integers(0, 10**4).map(str)
WITH_ZEROS = st.builds(lambda zeros, number: "0" * zeros + number, st.integers(0, 9), SHORT)
TEXTS = st.text(st.sampled_from("0123456789/:;<.-+ aZ\x00\x7f\x80é"), max_size=26)


def laid_out(fields: list[bytes]) -> tuple[bytes, np.ndarray, np.ndarray]:
    data = numbers.PAD + b"".join(field + b"9,"[i % 2 :] for i, field in enumerate(fields)) + b"\n"
    starts, ends, at = [], [], len(numbers.PAD)
    for i, field in enumerate(fields):
        starts.append(at)
        ends.append(at + len(field))
        at += len(field) + len(b"9,"[i % 2 :])
    return data, np.array(starts, dtype=np.int64), np.array(ends, dtype=np.int64)


@given(st.lists(st.one_of(DIGITS, SHORT, WITH_ZEROS, TEXTS), min_size=1, max_size=40))
def test_fields_are_the_numbers_that_int_finds_in_them(texts: list[str]) -> None:
    fields = [text.encode() for text in texts]
    data, starts, ends = laid_out(fields)
    value, wrong = numbers.unsigned(numbers.words_of(data), starts, ends)
    for row, field in enumerate(fields):
        is_number = field.isdigit() and len(field) <= numbers.DIGITS_MAX
        assert (wrong is None or not wrong[row]) == is_number, field
        if is_number:
            assert int(value[row]) == int(field)


@given(st.lists(st.one_of(DIGITS, SHORT, TEXTS), min_size=1, max_size=40))
def test_fractions_are_cut_to_nine_digits(texts: list[str]) -> None:
    fields = [text.encode() for text in texts]
    data, starts, ends = laid_out(fields)
    value, wrong = numbers.fraction(numbers.words_of(data), starts, ends, 9)
    for row, field in enumerate(fields):
        is_fraction = field.isdigit() or not field
        if len(field) <= 9 + numbers.DIGITS_MAX:
            assert (wrong is None or not wrong[row]) == is_fraction, field
        if is_fraction:
            assert int(value[row]) == int(field.ljust(9, b"0")[:9])


@pytest.mark.parametrize("strange", ["\x2f", "\x3a", "\x80", "\xff", "\x00", "-"])
@pytest.mark.parametrize("at", range(19))
def test_a_strange_byte_is_found_wherever_it_stands(strange: str, at: int) -> None:
    field = bytearray(b"1234567890123456789")
    field[at] = ord(strange)
    data, starts, ends = laid_out([b"12", bytes(field), b"3"])
    _, wrong = numbers.unsigned(numbers.words_of(data), starts, ends)
    assert wrong is not None
    assert wrong.tolist() == [False, True, False]


@pytest.mark.parametrize("digits", range(17, 31))
def test_more_digits_than_fit_are_no_number(digits: int) -> None:
    data, starts, ends = laid_out([b"7", b"1" * digits, b"8"])
    value, wrong = numbers.unsigned(numbers.words_of(data), starts, ends)
    assert (wrong is not None) == (digits > numbers.DIGITS_MAX)
    if wrong is None:
        assert value.tolist() == [7, int("1" * digits), 8]
    else:
        assert wrong.tolist() == [False, True, False]
