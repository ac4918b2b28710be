"""Frames that no Alpaca server should send, in either codec."""

from __future__ import annotations

from typing import Any

import msgspec

from alpaca_nb.wire.codec import Codec

_UNKNOWN_KEY = "zz"
_FILLER = "x" * 1000


def unknown_message(codec: Codec, tag: str) -> bytes:
    """An array of one message of a type that nobody knows."""
    return _encode(codec, [{"T": tag, "S": "AAPL", "zz": 1.5, "t": "soon"}])


def oversize_frame(codec: Codec, size: int) -> bytes:
    """An array of at least so many bytes, of messages of a type that nobody knows."""
    return _encode(codec, [{"T": "zz", "text": _FILLER}] * (size // len(_FILLER) + 1))


def with_unknown_key(codec: Codec, frame: bytes) -> bytes:
    """The same messages, each with a key more than it has at Alpaca."""
    # Raw values stay as they are, the nanoseconds of a time among them.
    messages: list[dict[str, Any]]
    kind = list[dict[str, msgspec.Raw]]
    messages = (
        msgspec.json.decode(frame, type=kind)
        if codec.text
        else msgspec.msgpack.decode(frame, type=kind)
    )
    return _encode(codec, [message | {_UNKNOWN_KEY: 1} for message in messages])


def _encode(codec: Codec, messages: object) -> bytes:
    return msgspec.json.encode(messages) if codec.text else msgspec.msgpack.encode(messages)
