"""Frames come out as they went in, however the stream is cut, and a bad length is refused at once."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtape.proto.errors import RingtapeError
from ringtape.proto.framing import FRAME_BYTES_MAX, Deframer, FramingError, frame

LENGTH_BYTES = 4

payload_lists = st.lists(st.binary(max_size=40) | st.binary(min_size=250, max_size=300), max_size=8)


@st.composite
def cut_streams(draw: st.DrawFn) -> tuple[list[bytes], list[bytes]]:
    """Payloads, and the stream of their frames in pieces; empty pieces are among them."""
    payloads = draw(payload_lists)
    stream = b"".join(map(frame, payloads))
    cuts = [0, *sorted(draw(st.lists(st.integers(0, len(stream)), max_size=20))), len(stream)]
    return payloads, [stream[start:end] for start, end in pairwise(cuts)]


def test_a_frame_is_the_length_in_little_endian_and_the_payload() -> None:
    assert frame(b"tape") == b"\x04\x00\x00\x00tape"
    assert frame(b"") == b"\x00\x00\x00\x00"


@given(cut_streams(), st.booleans())
def test_payloads_come_out_as_they_went_in_however_the_stream_is_cut(
    cut: tuple[list[bytes], list[bytes]], as_views: bool
) -> None:
    payloads, pieces = cut
    deframer = Deframer()
    received: list[bytes] = []
    fed_bytes = 0
    for piece in pieces:
        received += deframer.feed(memoryview(piece) if as_views else piece)
        fed_bytes += len(piece)
        # Each payload is there as soon as its last byte is, and what is held is exactly the rest.
        delivered_bytes = sum(LENGTH_BYTES + len(payload) for payload in received)
        assert deframer.pending == fed_bytes - delivered_bytes
        following = payloads[len(received) : len(received) + 1]
        assert all(deframer.pending < LENGTH_BYTES + len(payload) for payload in following)
    assert received == payloads
    assert deframer.pending == 0


@given(payload_lists.filter(bool), st.data())
def test_a_stream_that_was_cut_leaves_bytes_pending(payloads: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(map(frame, payloads))
    last_frame_bytes = LENGTH_BYTES + len(payloads[-1])
    missing = data.draw(st.integers(1, last_frame_bytes - 1), label="missing bytes")
    deframer = Deframer()
    assert deframer.feed(stream[:-missing]) == payloads[:-1]
    assert deframer.pending == last_frame_bytes - missing


def test_payloads_do_not_change_with_the_buffer_they_came_in() -> None:
    buffer = bytearray(frame(b"one") + frame(b"two")[:-1])
    deframer = Deframer()
    payloads = deframer.feed(memoryview(buffer))
    buffer[:] = bytes(len(buffer))
    assert payloads + deframer.feed(b"o") == [b"one", b"two"]


def test_a_large_frame_in_small_pieces_is_not_copied_again_for_each_piece() -> None:
    # 2**17 pieces: copying what is held for each of them would move 2 TiB, and run into the time limit.
    payload = bytes(range(256)) * (1 << 17)
    stream = memoryview(frame(payload))
    deframer = Deframer()
    received: list[bytes] = []
    for start in range(0, len(stream), 256):
        received += deframer.feed(stream[start : start + 256])
    assert received == [payload]


@given(payload_lists, st.integers(FRAME_BYTES_MAX + 1, (1 << 32) - 1), st.integers(0, LENGTH_BYTES - 1))
def test_a_length_over_the_limit_is_refused_when_its_last_byte_comes(
    payloads: list[bytes], length: int, cut: int
) -> None:
    header = length.to_bytes(LENGTH_BYTES, "little")
    deframer = Deframer()
    assert deframer.feed(b"".join(map(frame, payloads)) + header[:cut]) == payloads
    with pytest.raises(FramingError, match=f"{length} bytes is over the link's limit"):
        deframer.feed(header[cut:])


def test_the_longest_frame_is_accepted_and_takes_no_memory_before_it_comes() -> None:
    deframer = Deframer()
    assert deframer.feed(FRAME_BYTES_MAX.to_bytes(LENGTH_BYTES, "little") + b"begin") == []
    assert deframer.pending == LENGTH_BYTES + len(b"begin")


def test_a_payload_over_the_limit_is_not_framed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringtape.proto.framing.FRAME_BYTES_MAX", 8)
    assert frame(bytes(8)) == b"\x08\x00\x00\x00" + bytes(8)
    with pytest.raises(FramingError, match="9 bytes"):
        frame(bytes(9))


def test_a_framing_error_is_one_of_ringtapes_own() -> None:
    assert issubclass(FramingError, RingtapeError)
