"""WebSocket frames of a server, told apart in what was read from the network (RFC 6455, 5.2).

Nearly all that a stream reads is whole frames of data. Finding those here takes a tenth of
what a library's parser needs; every other frame goes to the library.
"""

from __future__ import annotations

_WHOLE_TEXT = 0x81
_WHOLE_BINARY = 0x82
_OPCODES = frozenset((0x0, 0x1, 0x2, 0x8, 0x9, 0xA))
_RESERVED_BITS = 0x70
_OPCODE_BITS = 0x0F


def take_frames(data: bytes, at: int, frames: list[bytes]) -> int:
    """Append the payload of each whole frame of data from `at` on.

    Returns where it stopped: at a frame that is cut off or of another kind, or at the end.
    """
    end = len(data)
    while end - at >= 2:
        head = data[at]
        if head != _WHOLE_BINARY and head != _WHOLE_TEXT:
            break
        size = data[at + 1]
        start = at + 2
        if size > 125:
            if size == 126:
                start = at + 4
            elif size == 127:
                start = at + 10
            else:
                break  # masked, which no server may do
            if start > end:
                break
            size = int.from_bytes(data[at + 2 : start])
        stop = start + size
        if stop > end:
            break
        frames.append(data[start:stop])
        at = stop
    return at


def frame_length(data: bytes, at: int) -> int | None:
    """How many bytes the frame at `at` has, its head included; None where that is cut off."""
    if len(data) - at < 2:
        return None
    size = data[at + 1] & 0x7F
    if size < 126:
        return 2 + size
    head = 4 if size == 126 else 10
    if len(data) - at < head:
        return None
    return head + int.from_bytes(data[at + 2 : at + head])


def is_wrong(data: bytes, at: int) -> bool:
    """Whether the frame at `at`, of two bytes at least, is one that no server may send."""
    head = data[at]
    masked = data[at + 1] > 0x7F
    return masked or bool(head & _RESERVED_BITS) or head & _OPCODE_BITS not in _OPCODES
