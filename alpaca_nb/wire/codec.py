"""JSON and MessagePack into messages, and back.

Which of the two is spoken is agreed in the WebSocket handshake (`Content-Type`), but
frames are told apart by their first byte: real servers send JSON in binary frames too.
"""

from __future__ import annotations

import functools
import re
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import numpy as np
from msgspec.msgpack import Ext
from numpy.typing import NDArray

from alpaca_nb.credentials import Secret
from alpaca_nb.errors import ProtocolError
from alpaca_nb.wire.messages import (
    CHANNEL_OF,
    Error,
    Message,
    Subscription,
    Success,
    Unreadable,
)

WireTime = str | Ext | int
"""A time as it stands in a message; see `wire.messages`."""

Control = Success | Error | Subscription
"""What the server says about the conversation itself."""

Incoming = Message[Any] | Control | Unreadable
"""One element of a server's frame."""

_SECOND = 1_000_000_000
_LAST_SECOND = 2**63 // _SECOND


# -- times -------------------------------------------------------------------------------

_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):?(\d\d))"
)
_SHORTEST = len("2026-09-21T14:13:20Z")
_EXT_NS_AND_SECONDS = struct.Struct(">Iq")


def time_ns(value: WireTime) -> int:
    """Nanoseconds since 1970 (UTC) of a time in any of its spellings.

    Digits past the nanosecond are cut. Raises ValueError for what is no time.
    """
    if isinstance(value, str):
        return _parse_rfc3339(value)
    if isinstance(value, Ext):
        return _unpack_timestamp(value)
    return value


def times_ns(values: Sequence[WireTime]) -> NDArray[np.int64]:
    """The same for many times at once; ValueError if any of them is no time."""
    if not values:
        return np.empty(0, np.int64)
    first = values[0]
    if isinstance(first, Ext):
        return _unpack_timestamps(values)
    if isinstance(first, str):
        return _parse_rfc3339_all(values)
    return np.array([time_ns(value) for value in values], np.int64)


def format_time(ns: int) -> str:
    """RFC 3339 in UTC with "Z" and no trailing zeros in the fraction, as Alpaca writes it."""
    seconds, fraction = divmod(ns, _SECOND)
    whole = _format_second(seconds)
    return f"{whole}.{fraction:09d}".rstrip("0") + "Z" if fraction else whole + "Z"


@functools.lru_cache(maxsize=1024)
def _format_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _parse_rfc3339(text: str) -> int:
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is not an RFC 3339 time")
    whole, fraction, sign, hours, minutes = match.groups()
    moment = datetime.fromisoformat(whole).replace(tzinfo=UTC)
    # Go's zero time, year 1, is 62 billion seconds before 1970: do it in integers.
    since_1970 = moment - datetime(1970, 1, 1, tzinfo=UTC)
    seconds = since_1970.days * 86_400 + since_1970.seconds
    if sign:
        offset_s = int(hours) * 3600 + int(minutes) * 60
        seconds -= offset_s if sign == "+" else -offset_s
    return seconds * _SECOND + int((fraction or "0")[:9].ljust(9, "0"))


def _parse_rfc3339_all(values: Sequence[WireTime]) -> NDArray[np.int64]:
    try:
        if _are_plain(values):
            # NumPy reads the fraction to the nanosecond but knows no zone.
            return np.array([value[:-1] for value in values], "M8[ns]").view(np.int64)  # type: ignore[index]
    except (ValueError, TypeError, LookupError):
        pass  # one at a time, so that the error names the value
    return np.array([time_ns(value) for value in values], np.int64)


def _are_plain(values: Any) -> bool:
    """Whether all are in UTC, to the second at least, and within what 64 bits can hold.

    NumPy would take more for a time ("now", "NaT", "2026") and wraps what it cannot hold.
    """
    if {value[-1] for value in values} != {"Z"} or min(map(len, values)) < _SHORTEST:
        return False
    years = {value[:4] for value in values}
    return all(year.isdigit() and 1678 <= int(year) <= 2261 for year in years)


def _unpack_timestamp(value: Ext) -> int:
    """MessagePack's timestamp extension in its three lengths."""
    data = bytes(value.data)
    if value.code != -1:
        raise ValueError(f"extension type {value.code} is not a time")
    if len(data) == 8:
        packed = int.from_bytes(data, "big")
        return (packed & 0x3_FFFF_FFFF) * _SECOND + (packed >> 34)
    if len(data) == 4:
        return int.from_bytes(data, "big") * _SECOND
    if len(data) == 12:
        nanoseconds, seconds = _EXT_NS_AND_SECONDS.unpack(data)
        return int(seconds) * _SECOND + int(nanoseconds)
    raise ValueError(f"a time extension has 4, 8 or 12 bytes, not {len(data)}")


def _unpack_timestamps(values: Sequence[WireTime]) -> NDArray[np.int64]:
    extensions: Any = values
    try:
        datas = [value.data for value in extensions]
        usual, lengths = {value.code for value in extensions} == {-1}, set(map(len, datas))
    except AttributeError:
        usual, lengths = False, set()
    if not usual or not lengths <= {4, 8}:
        return np.array([time_ns(value) for value in values], np.int64)
    if lengths != {8}:
        # A whole second in four bytes is the same number as in eight.
        datas = [data.rjust(8, b"\0") for data in datas]
    packed = np.frombuffer(b"".join(datas), ">u8")
    seconds = (packed & np.uint64(0x3_FFFF_FFFF)).astype(np.int64)
    if seconds.max() >= _LAST_SECOND:
        # The field reaches to the year 2514, 64 bits of nanoseconds to 2262.
        return np.array([time_ns(value) for value in values], np.int64)
    return seconds * _SECOND + (packed >> np.uint64(34)).astype(np.int64)


def pack_timestamp(ns: int) -> Ext:
    """MessagePack's timestamp extension in the shortest length that holds it."""
    seconds, nanoseconds = divmod(ns, _SECOND)
    if 0 <= seconds < 1 << 34:
        if nanoseconds == 0 and seconds < 1 << 32:
            return Ext(-1, seconds.to_bytes(4, "big"))
        return Ext(-1, (nanoseconds << 34 | seconds).to_bytes(8, "big"))
    return Ext(-1, _EXT_NS_AND_SECONDS.pack(nanoseconds, seconds))


# -- decoding ----------------------------------------------------------------------------


def _message_types(time_type: Any) -> Any:
    types: Any = Success | Error | Subscription
    for message_type in CHANNEL_OF:
        types = types | message_type[time_type]
    return types


def _list_of(types: Any) -> Any:
    return list[types]


class _Tag(msgspec.Struct, rename={"tag": "T"}):
    tag: str = ""


_UNREADABLE = (msgspec.DecodeError, UnicodeError, RecursionError, TypeError)
"""What decoding raises for bytes that are none of ours.

They are broken, not UTF-8, nested too deeply, or, where older versions of msgspec say
TypeError, a map with keys that are none.
"""

_JSON_TYPES = _message_types(str)
_MSGPACK_TYPES = _message_types(Ext)
_JSON_FRAME: Any = msgspec.json.Decoder(_list_of(_JSON_TYPES))
_JSON_ONE: Any = msgspec.json.Decoder(_JSON_TYPES)
_JSON_PARTS = msgspec.json.Decoder(list[msgspec.Raw])
_JSON_TAG = msgspec.json.Decoder(_Tag)
_MSGPACK_FRAME: Any = msgspec.msgpack.Decoder(_list_of(_MSGPACK_TYPES))
_MSGPACK_ONE: Any = msgspec.msgpack.Decoder(_MSGPACK_TYPES)
_MSGPACK_PARTS = msgspec.msgpack.Decoder(list[msgspec.Raw])
_MSGPACK_TAG = msgspec.msgpack.Decoder(_Tag)


def decode(data: bytes | str) -> list[Incoming]:
    """Decode a server's frame, JSON or MessagePack, told apart by its first byte.

    Unknown keys are ignored; a message of an unknown type or a wrong shape becomes an
    `Unreadable` in its place and costs its neighbours nothing. Raises ProtocolError for
    what is not an array of messages at all.
    """
    codec = codec_of(data)
    try:
        raw = data.encode() if isinstance(data, str) else data
    except UnicodeError as error:
        raise ProtocolError(f"The server sent a frame that cannot be read: {error}.") from error
    if codec is JSON:
        return _decode(raw, _JSON_FRAME, _JSON_PARTS, _JSON_ONE, _JSON_TAG)
    return _decode(raw, _MSGPACK_FRAME, _MSGPACK_PARTS, _MSGPACK_ONE, _MSGPACK_TAG)


def decode_all(frames: Sequence[bytes]) -> list[list[Incoming]] | None:
    """The same for many frames, where all are in one codec and nothing is wrong with them.

    None where it is otherwise: then `decode` tells of each.
    """
    try:
        decoder = _JSON_FRAME if codec_of(frames[0]) is JSON else _MSGPACK_FRAME
        return list(map(decoder.decode, frames))
    except (ProtocolError, msgspec.ValidationError, *_UNREADABLE):
        return None


def codec_of(data: bytes | str) -> Codec:
    """The codec that a server's frame is in; ProtocolError when it is in neither."""
    lead = data[:1].encode(errors="replace") if isinstance(data, str) else data[:1]
    if lead and lead in b"[{ \t\r\n":
        return JSON
    if lead and (0x90 <= lead[0] <= 0x9F or lead[0] in (0xDC, 0xDD)):
        return MSGPACK
    raise ProtocolError(
        f"The server sent a frame of {len(data)} bytes that is neither a JSON nor a "
        "MessagePack array; is this address an Alpaca market-data stream?"
    )


def _decode(raw: bytes, frame: Any, parts: Any, one: Any, tag: Any) -> list[Incoming]:
    try:
        return frame.decode(raw)  # type: ignore[no-any-return]
    except msgspec.ValidationError:
        pass  # one element is not ours: take them one by one
    except _UNREADABLE as error:
        raise ProtocolError(f"The server sent a frame that cannot be read: {error}.") from error
    try:
        elements = parts.decode(raw)
    except _UNREADABLE as error:
        raise ProtocolError(f"The server sent a frame that is no array: {error}.") from error
    return [_decode_one(element, one, tag) for element in elements]


def _decode_one(element: msgspec.Raw, one: Any, tag: Any) -> Incoming:
    try:
        return one.decode(element)  # type: ignore[no-any-return]
    except _UNREADABLE as error:
        reason = str(error)
    try:
        return Unreadable(tag.decode(element).tag, reason)
    except _UNREADABLE:
        return Unreadable("", reason)


# -- encoding ----------------------------------------------------------------------------

# Go writes a whole float without ".0" and escapes the characters that matter to HTML.
# The quotes around the key cannot occur inside a JSON string without a backslash.
_WHOLE_FLOAT = re.compile(rb'("(?:[a-z]{1,2})":-?\d+)\.0(?=[,}])')
_HTML = ((b"<", b"\\u003c"), (b">", b"\\u003e"), (b"&", b"\\u0026"))


class Codec(ABC):
    """One of the two encodings: how a side that agreed on it writes, and reads requests."""

    name: str
    content_type: str
    text: bool
    """Whether its frames are WebSocket text frames."""

    @abstractmethod
    def encode(self, messages: Iterable[Message[Any] | Control]) -> bytes:
        """Encode a server's frame; integer times are written as this codec spells them."""

    @abstractmethod
    def encode_request(self, request: dict[str, Any]) -> bytes:
        """Encode a client's request, with the text of any `Secret` in it."""

    @abstractmethod
    def decode_request(self, data: bytes | str) -> dict[str, Any]:
        """Decode a client's request; ProtocolError if it is not one object in this codec."""


class _Json(Codec):
    name = "json"
    content_type = "application/json"
    text = True

    def encode(self, messages: Iterable[Message[Any] | Control]) -> bytes:
        data = msgspec.json.encode([_spell(message, format_time) for message in messages])
        for plain, escaped in _HTML:
            data = data.replace(plain, escaped)
        return _WHOLE_FLOAT.sub(rb"\1", data)

    def encode_request(self, request: dict[str, Any]) -> bytes:
        return msgspec.json.encode(request, enc_hook=_reveal)

    def decode_request(self, data: bytes | str) -> dict[str, Any]:
        return _as_request(msgspec.json.decode, data)


class _MsgPack(Codec):
    name = "msgpack"
    content_type = "application/msgpack"
    text = False

    def encode(self, messages: Iterable[Message[Any] | Control]) -> bytes:
        return msgspec.msgpack.encode([_spell(message, pack_timestamp) for message in messages])

    def encode_request(self, request: dict[str, Any]) -> bytes:
        return msgspec.msgpack.encode(request, enc_hook=_reveal)

    def decode_request(self, data: bytes | str) -> dict[str, Any]:
        return _as_request(msgspec.msgpack.decode, data)


JSON: Final[Codec] = _Json()
MSGPACK: Final[Codec] = _MsgPack()
CODECS: Final = {codec.name: codec for codec in (JSON, MSGPACK)}


def codec_for(content_type: str | None) -> Codec:
    """The codec that a handshake's `Content-Type` asks for; JSON when it asks for none."""
    return MSGPACK if content_type and "msgpack" in content_type.lower() else JSON


def _reveal(value: object) -> str:
    """Give out a secret, on the way into a frame and no earlier."""
    if isinstance(value, Secret):
        return value.reveal()
    raise NotImplementedError(f"{type(value).__name__} has no place in a request")


def _spell(message: Any, spell: Any) -> Any:
    if type(getattr(message, "timestamp", None)) is int:
        return msgspec.structs.replace(message, timestamp=spell(message.timestamp))
    return message


def _as_request(decode_with: Any, data: bytes | str) -> dict[str, Any]:
    try:
        request = decode_with(data.encode() if isinstance(data, str) else data)
    except _UNREADABLE as error:
        raise ProtocolError(f"This request cannot be read: {error}.") from error
    if not isinstance(request, dict):
        raise ProtocolError("A request is one object.")
    return request
