"""What the codec must hold, checked against bytes computed independently of it."""

from __future__ import annotations

import contextlib
import math

import msgpack
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.msgpack import Ext

from alpaca_nb.credentials import Secret
from alpaca_nb.errors import ProtocolError
from alpaca_nb.wire import codec
from alpaca_nb.wire.messages import (
    CHANNEL_OF,
    Bar,
    Error,
    Quote,
    Status,
    Subscription,
    Success,
    Trade,
    Unreadable,
)

EXACT_NS = 1_790_000_000_535_000_001
TRADE = Trade[int](
    symbol="FAKEPACA",
    trade_id=7,
    exchange="N",
    price=131.25,
    size=3,
    conditions=[" "],
    tape="A",
    timestamp=EXACT_NS,
)
QUOTE = Quote[int](
    symbol="FAKEPACA",
    bid_exchange="O",
    bid_price=131.2,
    bid_size=4,
    ask_exchange="R",
    ask_price=133.05,
    ask_size=5,
    conditions=["R"],
    tape="A",
    timestamp=EXACT_NS,
)
BAR = Bar[int](
    symbol="FAKEPACA",
    open=132.5,
    high=136.0,
    low=131.75,
    close=134.25,
    volume=205,
    timestamp=1_789_999_980_000_000_000,
    trade_count=16,
    vwap=133.5,
)

VECTORS = [
    (
        TRADE,
        "91 89 a1 54 a1 74 a1 53 a8 46 41 4b 45 50 41 43 41 a1 69 07 a1 78 a1 4e a1 70 cb 40 60 68"
        "00 00 00 00 00 a1 73 03 a1 63 91 a1 20 a1 7a a1 41 a1 74 d7 ff 7f 8d cf 04 6a b1 3b 80",
    ),
    (
        QUOTE,
        "91 8b a1 54 a1 71 a1 53 a8 46 41 4b 45 50 41 43 41 a2 62 78 a1 4f a2 62 70 cb 40 60 66 66"
        "66 66 66 66 a2 62 73 04 a2 61 78 a1 52 a2 61 70 cb 40 60 a1 99 99 99 99 9a a2 61 73 05 a1"
        "63 91 a1 52 a1 7a a1 41 a1 74 d7 ff 7f 8d cf 04 6a b1 3b 80",
    ),
    (
        BAR,
        "91 8a a1 54 a1 62 a1 53 a8 46 41 4b 45 50 41 43 41 a1 6f cb 40 60 90 00 00 00 00 00 a1 68"
        "cb 40 61 00 00 00 00 00 00 a1 6c cb 40 60 78 00 00 00 00 00 a1 63 cb 40 60 c8 00 00 00 00"
        "00 a1 76 cc cd a1 74 d6 ff 6a b1 3b 6c a1 6e 10 a2 76 77 cb 40 60 b0 00 00 00 00 00",
    ),
    (
        Success("connected"),
        "91 82 a1 54 a7 73 75 63 63 65 73 73 a3 6d 73 67 a9 63 6f 6e 6e 65 63 74 65 64",
    ),
    (
        Error(406, "connection limit exceeded"),
        "91 83 a1 54 a5 65 72 72 6f 72 a4 63 6f 64 65 cd 01 96 a3 6d 73 67 b9 63 6f 6e 6e 65 63 74"
        "69 6f 6e 20 6c 69 6d 69 74 20 65 78 63 65 65 64 65 64",
    ),
]


@pytest.mark.parametrize(("message", "expected"), VECTORS)
def test_msgpack_is_byte_exact(message: object, expected: str) -> None:
    """Alpaca's own bytes come out of the encoder, and the same message out of the decoder."""
    data = bytes.fromhex(expected)
    assert codec.MSGPACK.encode([message]) == data  # type: ignore[list-item]
    (decoded,) = codec.decode(data)
    if hasattr(message, "timestamp"):
        decoded = msgspec.structs.replace(decoded, timestamp=codec.time_ns(decoded.timestamp))  # type: ignore
    assert decoded == message


@pytest.mark.parametrize(
    ("ns", "data"),
    [
        (1_790_000_000 * 10**9, "6ab13b80"),
        (EXACT_NS, "7f8dcf046ab13b80"),
        (-62_135_596_800 * 10**9, "00000000fffffff1886e0900"),
    ],
)
def test_timestamp_extension_vectors(ns: int, data: str) -> None:
    """The three lengths of the timestamp extension hold exact nanoseconds both ways."""
    assert bytes(codec.pack_timestamp(ns).data) == bytes.fromhex(data)
    assert codec.time_ns(Ext(-1, bytes.fromhex(data))) == ns


@given(st.integers(-(2**62), 2**62))
def test_timestamp_extension_agrees_with_msgpack(ns: int) -> None:
    """Our packing of a time is the one that the msgpack library makes."""
    theirs = msgpack.packb(msgpack.Timestamp.from_unix_nano(ns))
    assert msgspec.msgpack.encode(codec.pack_timestamp(ns)) == theirs
    assert codec.time_ns(codec.pack_timestamp(ns)) == ns


@given(st.integers(0, 2**61))
def test_json_time_round_trip(ns: int) -> None:
    """A time written as RFC 3339 reads back to the nanosecond, without trailing zeros."""
    text = codec.format_time(ns)
    assert codec.time_ns(text) == ns
    assert "." not in text or text[-2] != "0"


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("2026-09-21T14:13:20Z", 1_790_000_000_000_000_000),
        ("2026-09-21T14:13:20.535Z", 1_790_000_000_535_000_000),
        ("2026-09-21T14:13:20.5350001Z", 1_790_000_000_535_000_100),
        ("2026-09-21T14:13:20.535000001Z", EXACT_NS),
        ("2026-09-21T10:13:20.535000001-04:00", EXACT_NS),
        ("2026-09-21T14:13:20.5350000019Z", EXACT_NS),
    ],
)
def test_json_time_spellings(text: str, ns: int) -> None:
    """Any number of digits and any offset is understood."""
    assert codec.time_ns(text) == ns
    assert codec.times_ns([text, text]).tolist() == [ns, ns]


@given(st.lists(st.integers(0, 2**61), max_size=20))
def test_bulk_times_agree_with_single(values: list[int]) -> None:
    """Reading many times at once gives what reading each gives, in both spellings."""
    for spell in (codec.format_time, codec.pack_timestamp):
        spelled = [spell(ns) for ns in values]
        result = codec.times_ns(spelled)  # type: ignore[arg-type]
        assert result.dtype == np.int64
        assert result.tolist() == values


def test_bulk_times_hold_what_numpy_cannot() -> None:
    """Mixed lengths, other zones and times that only just fit are read in bulk as alone."""
    texts = ["2026-09-21T14:13:20Z", "2026-09-21T10:13:20-04:00", "1800-01-01T00:00:00.5Z"]
    assert codec.times_ns(texts).tolist() == [codec.time_ns(text) for text in texts]
    with pytest.raises(OverflowError):
        codec.times_ns(["0001-01-01T00:00:00Z"])
    mixed = [codec.pack_timestamp(ns) for ns in (10**18, 10**18 + 1)]
    assert codec.times_ns(mixed).tolist() == [10**18, 10**18 + 1]
    with pytest.raises(ValueError, match="extension type 5"):
        codec.times_ns([mixed[0], Ext(5, b"12345678")])
    last = codec.pack_timestamp(2**63 - 1)
    assert codec.times_ns([last, last]).tolist() == [2**63 - 1] * 2
    for beyond in (2**63, 10**9 * (2**34 - 1)):
        with pytest.raises(OverflowError):
            codec.times_ns([last, codec.pack_timestamp(beyond)])


@pytest.mark.parametrize(
    "bad",
    ["", "Z", "yesterday", "nowZ", "todayZ", "NaTZ", "2026Z", "2026-09-21T14:13Z",
     "2026-13-01T00:00:00Z", "2026-09-21 14:13"],
)  # fmt: skip
def test_bad_times_are_refused(bad: str) -> None:
    """What is no time raises ValueError, alone and in bulk."""
    with pytest.raises(ValueError, match=".+"):
        codec.time_ns(bad)
    with pytest.raises(ValueError, match=".+"):
        codec.times_ns(["2026-09-21T14:13:20Z", bad])


def test_json_is_written_as_alpaca_writes_it() -> None:
    """T first, Alpaca's key order, no spaces, whole floats without a point, HTML escaped."""
    assert codec.JSON.encode([BAR]) == (
        b'[{"T":"b","S":"FAKEPACA","o":132.5,"h":136,"l":131.75,"c":134.25,"v":205,'
        b'"t":"2026-09-21T14:13:00Z","n":16,"vw":133.5}]'
    )
    assert codec.JSON.encode([QUOTE]) == (
        b'[{"T":"q","S":"FAKEPACA","bx":"O","bp":131.2,"bs":4,"ax":"R","ap":133.05,"as":5,'
        b'"c":["R"],"z":"A","t":"2026-09-21T14:13:20.535000001Z"}]'
    )
    status = Status[int](symbol="A", status_message='<"p":1.0,&>', timestamp=0)
    data = codec.JSON.encode([status])
    assert rb"\u003c\"p\":1.0,\u0026\u003e" in data
    (read,) = codec.decode(data)
    assert read.status_message == '<"p":1.0,&>'  # type: ignore[union-attr]


def test_subscription_acknowledgement_keeps_alpacas_order() -> None:
    """Empty channels are written, absent ones are not, in the documented order."""
    ack = Subscription(trades=["A"], quotes=[], bars=["*"], updated_bars=[], cancel_errors=["A"])
    assert codec.JSON.encode([ack]) == (
        b'[{"T":"subscription","trades":["A"],"quotes":[],"bars":["*"],"updatedBars":[],'
        b'"cancelErrors":["A"]}]'
    )


@pytest.mark.parametrize("one", [codec.JSON, codec.MSGPACK])
@pytest.mark.parametrize("as_text", [True, False])
def test_every_type_round_trips(one: codec.Codec, as_text: bool) -> None:
    """Each message type reads back equal from both codecs, whatever the frame's opcode."""
    sample = {int: 3, float: 1.5, str: "X", list[str]: ["@", " "]}
    for message_type in CHANNEL_OF:
        hints = {f.name: f.type for f in msgspec.structs.fields(message_type)}
        values = {name: sample.get(kind, 5) for name, kind in hints.items()} | {
            "timestamp": EXACT_NS
        }
        message = message_type(**values)
        data: bytes | str = one.encode([message])
        if as_text and one.text:
            data = data.decode()  # type: ignore[union-attr]
        (read,) = codec.decode(data)
        assert type(read) is message_type
        assert msgspec.structs.replace(read, timestamp=codec.time_ns(read.timestamp)) == message  # type: ignore


@pytest.mark.parametrize("one", [codec.JSON, codec.MSGPACK])
def test_an_unknown_message_costs_its_neighbours_nothing(one: codec.Codec) -> None:
    """Unknown types, unknown keys and broken messages leave the rest of the frame whole."""
    good = msgspec.msgpack.decode(codec.MSGPACK.encode([TRADE]))[0]
    if one is codec.JSON:
        good["t"] = codec.format_time(EXACT_NS)
    frame = [
        good,
        {"T": "zz", "S": "A", "new": 1},
        {**good, "extra": {"deep": [1]}},
        {"T": "t", "S": "A"},
        {"no": "tag"},
        5,
        good,
    ]
    encode = msgspec.json.encode if one is codec.JSON else msgspec.msgpack.encode
    read = codec.decode(encode(frame))
    assert [type(each) for each in read] == [
        Trade,
        Unreadable,
        Trade,
        Unreadable,
        Unreadable,
        Unreadable,
        Trade,
    ]
    assert read[1].tag == "zz"  # type: ignore[union-attr]
    assert "required field" in read[3].reason  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"[1,", b"{}", b"\xc0", b"\x91", b"[\xff]", "<html>", b"\x00"]
)
def test_a_frame_that_is_no_array_is_refused(data: bytes | str) -> None:
    """Garbage raises ProtocolError and nothing else."""
    with pytest.raises(ProtocolError):
        codec.decode(data)


@given(st.binary(max_size=200))
def test_garbage_never_raises_anything_else(data: bytes) -> None:
    """Any bytes at all are either messages, unreadable ones, or a ProtocolError."""
    for frame in (data, b"[" + data, b"\x91" + data):
        with contextlib.suppress(ProtocolError):
            codec.decode(frame)


def test_numbers_of_the_other_kind_are_accepted() -> None:
    """A whole price may come as an integer; it is a float for us."""
    (read,) = codec.decode(b'[{"T":"t","S":"A","p":136,"s":1,"t":"2026-09-21T14:13:20Z"}]')
    assert isinstance(read.price, float)  # type: ignore[union-attr]
    assert math.isclose(read.price, 136)  # type: ignore[union-attr]


@pytest.mark.parametrize("one", [codec.JSON, codec.MSGPACK])
def test_requests_round_trip_and_others_are_refused(one: codec.Codec) -> None:
    """A request reads back; an array, the other codec and garbage raise ProtocolError."""
    request = {"action": "subscribe", "quotes": ["AAPL"], "news": None}
    assert one.decode_request(one.encode_request(request)) == request
    other = codec.MSGPACK if one is codec.JSON else codec.JSON
    for bad in (other.encode_request(request), b"[]", b"", b"\xff\xff"):
        with pytest.raises(ProtocolError):
            one.decode_request(bad)


@pytest.mark.parametrize("one", [codec.JSON, codec.MSGPACK])
def test_secrets_are_spelled_out_in_a_request_only(one: codec.Codec) -> None:
    """A secret in a request becomes its text; anything else unknown is refused."""
    request = {"action": "auth", "secret": Secret("S")}
    assert one.decode_request(one.encode_request(request)) == {"action": "auth", "secret": "S"}
    with pytest.raises(NotImplementedError, match="object"):
        one.encode_request({"action": object()})


def test_codec_is_chosen_by_content_type() -> None:
    """JSON unless MessagePack is asked for."""
    assert codec.codec_for(None) is codec.JSON
    assert codec.codec_for("application/json") is codec.JSON
    assert codec.codec_for("application/msgpack") is codec.MSGPACK
