"""Goal: memory that a request holds is nobody else's until it is given back.

Method: slots are taken and given back at random from a small region; each holds a pattern of its own meanwhile, and
addresses are compared.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from ringtape.engine.buffers import SLOT_BYTES_MIN, SPARE_BYTES_MAX, Buffers, Slot

REGION = 16 * SLOT_BYTES_MIN
LENGTHS = st.integers(1, 9 * SLOT_BYTES_MIN) | st.sampled_from(
    [1, SLOT_BYTES_MIN, SLOT_BYTES_MIN + 1, REGION, REGION + 1]
)


def address(view: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


@settings(max_examples=200)
@given(st.lists(LENGTHS | st.tuples(st.integers(0, 20)), max_size=60))
def test_no_slot_is_handed_out_twice(acts: list[int | tuple[int]]) -> None:
    """A number takes a slot for that many bytes; a tuple gives one back."""
    buffers = Buffers(REGION)
    region = range(address(buffers.region), address(buffers.region) + REGION)
    held: list[tuple[Slot, int, bytes]] = []
    for number, act in enumerate(acts):
        if isinstance(act, tuple):
            if held:
                slot, length, pattern = held.pop(act[0] % len(held))
                assert slot.view[:length] == pattern * length
                buffers.give_back(slot)
            continue
        slot = buffers.take(act)
        start = address(slot.view)
        assert start % SLOT_BYTES_MIN == 0
        assert len(slot.view) == slot.capacity >= act
        assert slot.registered == (start in region)
        assert not slot.registered or start + slot.capacity <= region.stop
        for other, _, _ in held:
            other_start = address(other.view)
            assert start + slot.capacity <= other_start or other_start + other.capacity <= start
        pattern = bytes([number % 255 + 1])
        slot.view[:act] = pattern * act
        held.append((slot, act, pattern))
    for slot, length, pattern in held:
        assert slot.view[:length] == pattern * length


def test_a_slot_of_the_region_is_used_again() -> None:
    buffers = Buffers(REGION)
    for _ in range(100):
        slots = [buffers.take(SLOT_BYTES_MIN) for _ in range(REGION // SLOT_BYTES_MIN)]
        assert all(slot.registered for slot in slots)
        for slot in slots:
            buffers.give_back(slot)


def test_memory_beyond_the_region_is_kept_only_up_to_its_limit() -> None:
    buffers = Buffers(SLOT_BYTES_MIN)
    length = SPARE_BYTES_MAX // 4
    first = [buffers.take(length) for _ in range(6)]
    assert not any(slot.registered for slot in first)
    for slot in first:
        buffers.give_back(slot)
    again = [buffers.take(length) for _ in range(6)]
    assert sum(slot in first for slot in again) == 4


def test_very_many_slots_take_few_mappings() -> None:
    """A process may have some 65,000; a program may have more requests than that on their way."""

    def mappings() -> int:
        return len(Path("/proc/self/maps").read_text().splitlines())

    before = mappings()
    buffers = Buffers(SLOT_BYTES_MIN)
    slots = [buffers.take(SLOT_BYTES_MIN) for _ in range(20_000)]
    assert len({address(slot.view) for slot in slots}) == len(slots)
    assert mappings() - before < len(slots) // 100
