"""Broken frames by the thousand: nothing but ProtocolError may come out of either side.

The frames are real ones that were damaged, in both codecs, and random ones; the seed is
fixed, so a failure repeats and names the frame. More of them, such as a million:

    ALPACA_NB_FUZZ=1000000 .venv/bin/pytest tests/wire/test_fuzz.py
"""

from __future__ import annotations

import contextlib
import json
import os
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from msgspec.msgpack import Ext

from alpaca_nb.credentials import Credentials, Secret
from alpaca_nb.errors import ProtocolError
from alpaca_nb.wire.codec import CODECS, JSON, MSGPACK, Codec, decode, time_ns
from alpaca_nb.wire.endpoints import ENDPOINTS
from alpaca_nb.wire.messages import CHANNEL_OF, CHANNELS, Error, Subscription, Success
from alpaca_nb.wire.protocol import (
    ClientProtocol,
    DataReceived,
    ServerProtocol,
    SubscriptionsChanged,
    UnreadableReceived,
)

CREDENTIALS = Credentials(Secret("K"), Secret("S"))
COUNT = int(os.environ.get("ALPACA_NB_FUZZ", "50000"))
FRAMES_PER_CONNECTION = 50

EXACT_NS = 1_790_000_000_535_000_001
SAMPLE = {int: 3, float: 131.25, str: "AAPL", list[str]: ["@", " "]}

TOKENS = [
    *(b'[ ] { } , : " \\ null true NaN Infinity -0 1e999 -1e-999 0x1 \\u0000 \\ud800'.split()),
    b'"\\ud800\\u0041"',
    b'"\\ud83d\\ude00"',
    b"\xed\xa0\x80",
    b"\xff\xfe",
    b"\x00",
    b"9" * 30,
    b"9" * 5000,
    b"[" * 3000,
    b'{"a":' * 3000,
    b"\x91" * 3000,
    b"\x81\xa1a" * 3000,
    b"\xc0",
    b"\xc1",
    b"\xc4\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xc7\x0c\xff" + b"\xff" * 12,
    b"\xc7\x00\xff",
    b"\xc9\xff\xff\xff\xff\xff",
    b"\xca\x7f\xc0\x00\x00",
    b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00",
    b"\xcf" + b"\xff" * 8,
    b"\xd3\x80" + b"\x00" * 7,
    b"\xd6\x05ABCD",
    b"\xd7\xff" + b"\xff" * 8,
    b"\xd9\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xdc\xff\xff",
    b"\xdd\xff\xff\xff\xff",
    b"\xde\xff\xff",
    b"\xdf\xff\xff\xff\xff",
]
VALUES: list[Any] = [
    None, True, False, 0, -1, 2**63, 2**64 - 1, -(2**63), 0.0, -0.0, 1e308, 5e-324, "", "*", "AAPL",
    "\0", "é" * 300, "connected", "authenticated", "success", "error", "subscription", "trades",
    400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 500, [], {}, [[]], [None],
    ["A", "A"], {"T": "t"}, "2026-09-21T14:13:20Z", "0001-01-01T00:00:00Z",
]  # fmt: skip


def data_messages() -> list[Any]:
    """One message of each type."""
    messages = []
    for kind in CHANNEL_OF:
        hints = {each.name: each.type for each in msgspec.structs.fields(kind)}
        values = {name: SAMPLE.get(hint, 5) for name, hint in hints.items()}
        messages.append(kind(**values | {"timestamp": EXACT_NS}))
    return messages


def server_frames(codec: Codec) -> list[bytes]:
    """What a server says in a conversation, and data in small and large arrays."""
    data = data_messages()
    listed = {name: ["AAPL", "BRK.B", "*"] for name in CHANNELS}
    control: list[Any] = [
        Success("connected"),
        Success("authenticated"),
        Subscription(**listed),
        Subscription(trades=["A"]),
        *(Error(code, "text") for code in (400, 401, 403, 405, 406, 407, 410, 413, 500)),
    ]
    return [codec.encode([each]) for each in control + data] + [codec.encode(data)] * 3


def client_frames(codec: Codec) -> list[bytes]:
    """What a client asks for in a conversation."""
    requests: list[dict[str, Any]] = [
        {"action": "auth", "key": "K", "secret": "S"},
        {"action": "subscribe", "trades": ["AAPL"], "quotes": ["*"], "news": None, "bars": []},
        {"action": "unsubscribe", "trades": ["AAPL"], "updatedBars": ["BRK.B"]},
    ]
    return [codec.encode_request(each) for each in requests]


class Fuzzer:
    """Makes damaged frames out of whole ones."""

    def __init__(self, codec: Codec, frames: list[bytes], seed: int) -> None:
        self.rng = random.Random(seed)
        self.codec = codec
        self.frames = frames
        self.trees = [self.parse(frame) for frame in frames]
        self.kinds: list[Callable[[], bytes | str]] = [
            self.whole,
            *[self.damaged] * 5,
            *[self.rebuilt] * 3,
            self.noise,
            self.text,
        ]

    def parse(self, frame: bytes) -> Any:
        """The frame as plain objects, with times as they stand."""
        if self.codec is JSON:
            return json.loads(frame)
        return msgspec.msgpack.decode(frame)

    def frame(self) -> bytes | str:
        """One frame of any kind."""
        return self.rng.choice(self.kinds)()

    def whole(self) -> bytes:
        """An undamaged frame, so that the conversation gets somewhere."""
        return self.rng.choice(self.frames)

    def damaged(self) -> bytes:
        """A frame with some of its bytes changed, lost, doubled or replaced."""
        rng = self.rng
        data = bytearray(rng.choice(self.frames))
        for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
            at = rng.randrange(len(data) + 1)
            match rng.randrange(7):
                case 0:
                    data[at:at] = rng.choice(TOKENS)
                case 1:
                    data[at : at + 1] = bytes([rng.randrange(256)])
                case 2:
                    del data[at : at + rng.randrange(1, 9)]
                case 3:
                    del data[at:]
                case 4:
                    data[at:at] = data[at : at + rng.randrange(1, 40)]
                case 5 if at < len(data):
                    data[at] ^= 1 << rng.randrange(8)
                case _:
                    data[at:] = rng.choice(self.frames)[at:]
        return bytes(data)

    def rebuilt(self) -> bytes:
        """A well-formed frame with other values, keys and shapes in it."""
        tree = self.changed(self.rng.choice(self.trees), 0)
        if self.codec is JSON:
            return json.dumps(tree, default=repr).encode()
        return msgspec.msgpack.encode(tree, enc_hook=repr)

    def changed(self, tree: Any, depth: int) -> Any:
        rng = self.rng
        if rng.random() < 0.04 + 0.04 * depth:
            return self.value(depth)
        if isinstance(tree, list):
            return [self.changed(each, depth + 1) for each in tree]
        if isinstance(tree, dict):
            return {
                (self.key() if rng.random() < 0.02 else key): self.changed(each, depth + 1)
                for key, each in tree.items()
                if rng.random() > 0.02
            }
        return tree

    def key(self) -> Any:
        odd = ["T", "", "unheard", *(() if self.codec is JSON else (1, 1.5, b"T", True, None))]
        return self.rng.choice(odd)

    def value(self, depth: int) -> Any:
        rng = self.rng
        if depth < 6 and rng.random() < 0.2:
            return [self.value(depth + 1) for _ in range(rng.randrange(4))]
        if self.codec is MSGPACK and rng.random() < 0.2:
            kinds = (-1, 0, 5, 127)
            return rng.choice((
                Ext(rng.choice(kinds), rng.randbytes(rng.choice((0, 1, 4, 8, 12, 16)))),
                rng.randbytes(5),
                float("nan"),
                float("-inf"),
            ))  # fmt: skip
        if rng.random() < 0.1:
            return rng.randrange(-(2**63), 2**64)
        return rng.choice(VALUES)

    def noise(self) -> bytes:
        """Random bytes that may begin as a frame does."""
        lead = self.rng.choice((b"[", b"[{", b"\x91", b"\x92\x82", b"\xdc\x00\x02", b"{", b""))
        return lead + self.rng.randbytes(self.rng.randrange(60))

    def text(self) -> str:
        """Text as a text frame has it, with what no UTF-8 can hold."""
        text = self.damaged().decode("utf-8", "surrogateescape")
        return text + self.rng.choice(("", "\ud800", "]"))


SHARES = [pytest.param(codec, seed, id=codec.name) for seed, codec in enumerate(CODECS.values())]
"""Each codec with a seed of its own."""


@pytest.mark.parametrize(("codec", "seed"), SHARES)
def test_no_frame_breaks_the_client(codec: Codec, seed: int) -> None:
    """Whatever a server sends, at any point of the conversation, is an event or a ProtocolError."""
    fuzzer = Fuzzer(codec, server_frames(codec), seed)
    rng = random.Random(seed)
    protocol = ClientProtocol(codec, CREDENTIALS, header_auth=bool(seed))
    seen: Counter[str] = Counter()
    for number in range(COUNT // 2):
        if number % FRAMES_PER_CONNECTION == 0:
            begin(protocol, fuzzer, number)
        frame = fuzzer.frame()
        try:
            events = protocol.receive(frame)
        except ProtocolError:
            seen["ProtocolError"] += 1
        except Exception as error:
            pytest.fail(f"{error!r} for {frame[:300]!r} ({len(frame)}), frame {number}")
        else:
            for event in events:
                seen[type(event).__name__] += 1
                if isinstance(event, DataReceived):
                    read_times(event)
        churn(protocol, rng)
        assert sum(map(len, protocol.data_to_send())) < 200_000
    # All ways through were taken, not one of them only.
    for kind in ("ProtocolError", *(each.__name__ for each in KINDS)):
        assert seen[kind] > COUNT // 1000, seen


KINDS = (DataReceived, UnreadableReceived, SubscriptionsChanged)


def begin(protocol: ClientProtocol, fuzzer: Fuzzer, number: int) -> None:
    """A new connection, in one of the states that it can be in."""
    protocol.reset()
    for frame in fuzzer.frames[: number // FRAMES_PER_CONNECTION % 3]:
        protocol.receive(frame)


def churn(protocol: ClientProtocol, rng: random.Random) -> None:
    match rng.randrange(12):
        case 0:
            protocol.want(rng.choice(list(CHANNELS)), rng.choices("ABCDEFG*", k=2))
        case 1:
            protocol.unwant(rng.choice(list(CHANNELS)), rng.choices("ABCDEFG*", k=3))
        case 2:
            protocol.skip_answer()


def read_times(event: DataReceived) -> None:
    """A time in a data message is one, or a ValueError."""
    for message in event.messages:
        with contextlib.suppress(ValueError):
            assert isinstance(time_ns(message.timestamp), int)


@pytest.mark.parametrize(("codec", "seed"), SHARES)
def test_no_request_breaks_the_server(codec: Codec, seed: int) -> None:
    """Whatever a client sends is answered; a server never raises."""
    fuzzer = Fuzzer(codec, client_frames(codec), seed)
    for number in range(COUNT // 10):
        if number % FRAMES_PER_CONNECTION == 0:
            server = ServerProtocol(ENDPOINTS["iex"], codec, authenticate=lambda key, secret: None)
            server.start()
            if number // FRAMES_PER_CONNECTION % 2:
                server.receive(fuzzer.frames[0])
        frame = fuzzer.frame()
        try:
            server.receive(frame)
            answers = server.data_to_send()
        except Exception as error:
            pytest.fail(f"{error!r} for {frame[:300]!r} ({len(frame)}), frame {number}")
        for answer in answers:
            decode(answer)


@pytest.mark.parametrize(
    "frame",
    [
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'[{"T":"t","x":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}]",
        b"\x91" * 100_000,
        b"\x91\x82\xa1T\xa1t\xa1x" + b"\x91" * 100_000 + b"\x01",
        b"\xdd\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff" + b"\xc0" * 1000,
        b"\x91\xdf\xff\xff\xff\xff",
        b"\x91\xdb\xff\xff\xff\xff",
        b"\x91\xc6\xff\xff\xff\xff",
        b"\x91\xc9\xff\xff\xff\xff\xff",
        "\ud800",
        "[\ud800]",
        b'[{"T":"success","msg":"\xed\xa0\x80"}]',
        b'[{"T":"success","msg":"\\ud800"}]',
        b'[{"T":"q","S":"A","bp":NaN,"ap":1,"t":"x"}]',
        b'[{"T":"q","S":"A","bp":Infinity,"ap":1,"t":"x"}]',
    ],
    ids=lambda frame: repr(frame[:24]),
)
def test_monsters_are_refused(frame: bytes | str) -> None:
    """Nesting without end, lengths without content and text that is none raise ProtocolError."""
    with pytest.raises(ProtocolError):
        decode(frame)
    with pytest.raises(ProtocolError):
        ClientProtocol(JSON, CREDENTIALS).receive(frame)


@pytest.mark.parametrize(
    "element",
    [
        b'{"T":"error","code":' + b"9" * 5000 + b"}",
        b'{"T":"t","S":"A","p":1e999,"s":1,"t":"x"}',
        b'{"T":"t","S":"A","p":1,"s":1.5,"t":"x"}',
        b'{"T":null}',
        b'{"T":["t"]}',
        b"{}",
        b"[[[]]]",
        b"null",
    ],
)
def test_odd_elements_cost_their_neighbours_nothing(element: bytes) -> None:
    """A number that is too large, or a tag that is none, spoils one element of a frame only."""
    good = JSON.encode(data_messages()[:1])[1:-1]
    frame = b"[" + b",".join([good, element, good]) + b"]"
    assert [type(each).__name__ for each in decode(frame)] == ["Trade", "Unreadable", "Trade"]


def test_odd_keys_cost_their_neighbours_nothing() -> None:
    """A MessagePack map with keys that are no text is one unreadable element."""
    good = MSGPACK.encode(data_messages()[:1])[1:]
    for odd in (
        b"\x81\x01\x02",
        b"\x81\xc0\x02",
        b"\x81\x80\x02",
        b"\x81\x90\x02",
        b"\xd6\x05ABCD",
    ):
        kinds = [type(each).__name__ for each in decode(b"\x93" + good + odd + good)]
        assert kinds == ["Trade", "Unreadable", "Trade"]
