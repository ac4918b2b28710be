"""Frames found by ourselves are those that the library's parser finds."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from alpaca_nb.feed.framing import frame_length, is_wrong, take_frames

SIZES = st.sampled_from([0, 1, 75, 125, 126, 127, 300, 65_535, 65_536, 70_000])
KINDS = st.sampled_from([Opcode.TEXT, Opcode.BINARY])
FRAMES = st.lists(st.builds(lambda kind, size: Frame(kind, b"x" * size), KINDS, SIZES), max_size=6)


def spelled(frames: list[Frame]) -> bytes:
    return b"".join(frame.serialize(mask=False) for frame in frames)


def library() -> ClientProtocol:
    """The library's parser, past the handshake."""
    return ClientProtocol(parse_uri("ws://server.test/"), max_size=None, state=OPEN)


@given(FRAMES, st.integers(0, 20))
def test_whole_frames_of_data(frames: list[Frame], cut: int) -> None:
    """All that are complete are found, byte for byte, and the rest is where they end."""
    data = spelled(frames)
    data = data[: len(data) - cut] if cut else data
    found: list[bytes] = []
    at = take_frames(data, 0, found)
    whole = len(found)
    assert found == [bytes(frame.data) for frame in frames[:whole]]
    assert at == len(spelled(frames[:whole]))
    if whole < len(frames):
        length = frame_length(data, at)
        assert length is None or at + length > len(data)
        assert length in (None, len(spelled(frames[whole : whole + 1])))


@given(FRAMES)
def test_from_anywhere(frames: list[Frame]) -> None:
    """What lies before the place to begin at is not looked at, and no more is appended twice."""
    data = b"\x00" * 7 + spelled(frames)
    found = [b"before"]
    assert take_frames(data, 7, found) == len(data)
    assert found == [b"before", *(bytes(frame.data) for frame in frames)]


@given(st.binary(min_size=2, max_size=2), st.binary(min_size=140, max_size=140))
def test_what_is_taken_is_what_the_library_takes(head: bytes, rest: bytes) -> None:
    """Any two bytes begin the same frame for both; what is wrong for one is so for the other."""
    data = head + rest
    found: list[bytes] = []
    at = take_frames(data, 0, found)
    length = frame_length(data, 0)
    is_whole = length is not None and length <= len(data)
    if found or (is_whole and not is_wrong(data, 0)):
        data = data[: at or length]
    protocol = library()
    protocol.receive_data(data)
    events = protocol.events_received()
    if is_wrong(data, 0):
        assert events == []
        # It looks at some bits only when it has the whole frame.
        assert protocol.parser_exc is not None or not is_whole
    if found:
        assert [bytes(event.data) for event in events] == found


@pytest.mark.parametrize(
    ("data", "length"),
    [(b"", None), (b"\x82", None), (b"\x82\x00", 2), (b"\x82\x7d", 127), (b"\x82\x7e\x01", None),
     (b"\x82\x7e\x01\x00", 260), (b"\x82\x7f" + struct.pack("!Q", 1 << 40), 10 + (1 << 40))],
)  # fmt: skip
def test_the_length_of_a_frame(data: bytes, length: int | None) -> None:
    """It is known as soon as the head is there."""
    assert frame_length(data, 0) == length


@pytest.mark.parametrize("head", [b"\x83\x00", b"\xc2\x00", b"\x92\x00", b"\x82\x80", b"\x8b\x00"])
def test_what_no_server_may_send(head: bytes) -> None:
    """Unknown kinds, reserved bits and masks."""
    assert is_wrong(head, 0)
    assert take_frames(head, 0, []) == 0


@pytest.mark.parametrize("head", [b"\x81\x00", b"\x02\x7f", b"\x80\x00", b"\x88\x00", b"\x8a\x00"])
def test_what_a_server_may_send(head: bytes) -> None:
    """Data, parts of it, and control frames."""
    assert not is_wrong(head, 0)
