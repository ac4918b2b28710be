"""Frames decoded by compiled code are what msgspec makes of them, or are left to it."""

from __future__ import annotations

import importlib.util
import os
import random
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpaca_nb.data import compiled, scan
from alpaca_nb.data.batch import Batch, Lexicon, batch_of
from alpaca_nb.data.scan import Scanned, Scanner
from alpaca_nb.wire.codec import JSON, MSGPACK, decode, time_ns
from alpaca_nb.wire.messages import (
    Bar,
    CancelError,
    Correction,
    DailyBar,
    Error,
    Imbalance,
    Message,
    PriceBand,
    Quote,
    Status,
    Subscription,
    Success,
    Trade,
    UpdatedBar,
)

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("numba") is None, reason="numba is not installed (alpaca-nb[fast])"
)

NOW = 1_790_000_000_535_000_001


def join(batches: Sequence[Batch]) -> Batch:
    """Batches of one channel and lexicon, one behind the other."""
    blocks = zip(*((each.numbers, each.prices, each.codes) for each in batches), strict=True)
    first = batches[0]
    return Batch(first.layout, first.lexicon, *(np.concatenate(block, axis=1) for block in blocks))


@pytest.fixture(scope="module", autouse=True)
def ready() -> None:
    compiled.warm_up()
    assert compiled.wait_ready(120)


# -- both ways ---------------------------------------------------------------------------


class Both:
    """Decodes frames as a stream does, and holds what came out against msgspec alone."""

    def __init__(self, scanner: Scanner | None = None) -> None:
        self.lexicon = Lexicon()
        self.scanner = Scanner(self.lexicon) if scanner is None else scanner
        self.decoded = self.refused = self.scans = 0
        self._batches: dict[type, list[Batch]] = {Quote: [], Trade: []}
        self._messages: dict[type, list[Message[Any]]] = {Quote: [], Trade: []}
        self._received: dict[type, list[int]] = {Quote: [], Trade: []}

    def take(self, frames: Sequence[bytes], first_received: int = NOW) -> None:
        received = [first_received + i for i in range(len(frames))]
        start = 0
        while start < len(frames):
            scanned = self.scanner.scan(frames, received, start)
            self.scans += 1
            assert scanned.frames or scanned.refused
            stop = start + scanned.frames
            self._check(scanned, frames[start:stop], received[start:stop])
            self.decoded += scanned.frames
            self.refused += scanned.refused
            start = stop + scanned.refused

    def _check(self, scanned: Scanned, frames: Sequence[bytes], received: Sequence[int]) -> None:
        came: list[Message[Any]] = []
        newest = []
        for frame, when in zip(frames, received, strict=True):
            messages: list[Any] = decode(frame)
            newest.append(time_ns(messages[-1].timestamp))
            for message in messages:
                self._messages[type(message)].append(message)
                self._received[type(message)].append(when)
            came += messages
        assert scanned.newest.tolist() == newest
        in_order: list[tuple[int, Message[Any]]] = []
        for batch in scanned.batches:
            rows = np.arange(len(batch))
            places = scanned.sequence(batch).tolist()
            in_order += zip(places, scanned.messages(batch, rows), strict=True)
            self._batches[batch.layout.message].append(batch)
        assert packed(message for _, message in sorted(in_order, key=first)) == packed(came)

    def compare(self) -> None:
        """The columns of everything taken in so far."""
        for kind, batches in self._batches.items():
            if not batches:
                assert self._messages[kind] == []
                continue
            ours, lexicon = join(batches), Lexicon()
            theirs = batch_of(self._messages[kind], np.array(self._received[kind]), lexicon)
            assert ours.lexicon is self.lexicon
            assert ours.numbers.tolist() == theirs.numbers.tolist()
            assert ours.prices.view(np.int64).tolist() == theirs.prices.view(np.int64).tolist()
            assert texts(ours.codes, self.lexicon) == texts(theirs.codes, lexicon)
        assert len(set(self.lexicon.texts)) == len(self.lexicon)


def first(pair: tuple[int, Any]) -> int:
    return pair[0]


def texts(codes: Any, lexicon: Lexicon) -> list[list[str]]:
    return [[lexicon.texts[code] for code in row] for row in codes.tolist()]


def packed(messages: Any) -> bytes:
    """Messages as bytes, which are equal where NaN is not."""
    return msgspec.msgpack.encode(list(messages))


def check(frames: Sequence[bytes]) -> Both:
    both = Both()
    both.take(frames)
    both.compare()
    return both


# -- messages spelled by hand ------------------------------------------------------------

Random = random.Random
Spelling = Callable[[Random], bytes]


def text(value: bytes, lead: int = 0) -> bytes:
    """A string with the shortest header, or with this one."""
    if lead == 0xD9:
        return struct.pack(">BB", lead, len(value)) + value
    if lead == 0xDA:
        return struct.pack(">BH", lead, len(value)) + value
    if lead == 0xC4:
        return struct.pack(">BB", lead, len(value)) + value
    return bytes([0xA0 | len(value)]) + value if len(value) < 32 else text(value, 0xD9)


INTEGERS = {
    0xCC: ">BB", 0xCD: ">BH", 0xCE: ">BI", 0xCF: ">BQ",
    0xD0: ">Bb", 0xD1: ">Bh", 0xD2: ">Bi", 0xD3: ">Bq",
}  # fmt: skip


def integer(value: int, lead: int = 0) -> bytes:
    """An integer in the shortest spelling, or in this one."""
    return struct.pack(INTEGERS[lead], lead, value) if lead else msgspec.msgpack.encode(value)


def double(value: float) -> bytes:
    return struct.pack(">Bd", 0xCB, value)


def single(value: float) -> bytes:
    return struct.pack(">Bf", 0xCA, value)


def time_ext(seconds: int, rest: int, length: int, *, lead: int = 0xC7, code: int = -1) -> bytes:
    """A time in 4, 8 or 12 bytes, with the header for any length or with the fixed one."""
    data = {
        4: struct.pack(">I", seconds & 0xFFFFFFFF),
        8: struct.pack(">Q", (rest << 34 | seconds) & (2**64 - 1)),
        12: struct.pack(">Iq", rest, seconds),
        16: bytes(16),
    }[length]
    if lead == 0xC7:
        return struct.pack(">BBb", lead, length, code) + data
    return struct.pack(">Bb", {4: 0xD6, 8: 0xD7, 16: 0xD8}[length], code) + data


def labels(*values: bytes, lead: int = 0) -> bytes:
    header = struct.pack(">BH", lead, len(values)) if lead else bytes([0x90 | len(values)])
    return header + b"".join(values)


def mapping(pairs: Sequence[tuple[bytes, bytes]], lead: int = 0) -> bytes:
    header = bytes([0x80 | len(pairs)])
    if lead or len(pairs) > 15:
        header = struct.pack(">BH", 0xDE, len(pairs))
    return header + b"".join(key + value for key, value in pairs)


def array(elements: Sequence[bytes], lead: int = 0) -> bytes:
    if lead == 0xDD:
        return struct.pack(">BI", lead, len(elements)) + b"".join(elements)
    if lead or len(elements) > 15:
        return struct.pack(">BH", 0xDC, len(elements)) + b"".join(elements)
    return bytes([0x90 | len(elements)]) + b"".join(elements)


Pairs = dict[str, bytes]


def quote(**changed: bytes | None) -> bytes:
    return one({
        "T": text(b"q"), "S": text(b"AAPL"), "bx": text(b"V"), "bp": double(189.5),
        "bs": integer(300), "ax": text(b"Q"), "ap": double(189.52), "as": integer(2),
        "c": labels(text(b"R")), "z": text(b"C"), "t": time_ext(1_790_000_000, 5, 8, lead=0),
    }, changed)  # fmt: skip


def trade(**changed: bytes | None) -> bytes:
    return one({
        "T": text(b"t"), "S": text(b"MSFT"), "i": integer(52_983_525_029_461), "x": text(b"D"),
        "p": double(411.25), "s": integer(100), "c": labels(text(b"@"), text(b"I")),
        "z": text(b"C"), "t": time_ext(1_790_000_001, 0, 4, lead=0),
    }, changed)  # fmt: skip


def one(pairs: Pairs, changed: dict[str, bytes | None]) -> bytes:
    """A message with other values, further keys, or without those that are None."""
    together = {**pairs, **changed}
    kept = [(text(key.encode()), value) for key, value in together.items() if value is not None]
    return mapping(kept)


def is_decoded(*messages: bytes) -> bool:
    """Whether a frame of such messages is decoded here, after seeing that it is the same."""
    return check([array(messages)]).decoded == 1


# -- what is decoded, and what is not ----------------------------------------------------


def test_what_alpaca_sends_is_decoded() -> None:
    """Quotes and trades as our own encoder writes them, one to a hundred a frame."""
    messages = list(tape(200))
    for size in (1, 10, 100):
        frames = [MSGPACK.encode(messages[i : i + size]) for i in range(0, 200, size)]
        both = check(frames)
        assert (both.decoded, both.refused) == (len(frames), 0)


def tape(count: int, symbols: int = 7) -> Iterator[Message[Any]]:
    conditions = (["R"], [" "], [], ["@", "I"], ["@", "F", "T", "I"], ["O", "X", "T", "I", "7"])
    for i in range(count):
        if i % 3:
            yield Quote(
                symbol=f"S{i % symbols}",
                bid_exchange="VQP "[i % 4],
                bid_price=i / 7,
                bid_size=i * 331,
                ask_exchange="KZ"[i % 2],
                ask_price=float(i),
                ask_size=-i,
                conditions=conditions[i % 6],
                tape="ABC"[i % 3],
                timestamp=NOW + i,
            )
        else:
            yield Trade(
                symbol=f"LONGER.SYMBOL{i % symbols}",
                trade_id=2**63 + i,
                exchange="D",
                price=1e-5 * i,
                size=i,
                conditions=conditions[i % 6],
                tape="",
                timestamp=NOW - NOW % 10**9 + i * 10**9,
            )


def every(values: dict[str, list[bytes]]) -> list[tuple[str, bytes]]:
    return [(key, value) for key, some in values.items() for value in some]


SPELLINGS: dict[str, list[bytes]] = {
    "S": [text(b""), text(b"A"), text(b"A" * 31), text(b"A" * 32), text(b"A" * 61, 0xD9),
          text(b"BRK.B"), text(b"AAPL", 0xD9), text(b"\0A"), text(b"\x7f")],
    "x": [text(b" "), text(b"", 0xD9), text(b"V", 0xD9), text(b"VV")],
    "p": [double(0.0), double(-0.0), double(float("inf")), single(1.1), single(float("-inf")),
          struct.pack(">BQ", 0xCB, 0x7FF8_0000_0000_0001), struct.pack(">BI", 0xCA, 0x7FA0_0001),
          integer(0), integer(2**53 + 1), integer(2**63), integer(2**64 - 1), integer(-(2**63)),
          integer(-1), integer(7, 0xD3), integer(2**24 + 1, 0xCE)],
    "s": [integer(0), integer(127), integer(128), integer(-32), integer(-33), integer(2**63 - 1),
          integer(-(2**63)), *(integer(9, lead) for lead in INTEGERS),
          integer(-9, 0xD0), integer(-9, 0xD1), integer(-9, 0xD2), integer(-9, 0xD3)],
    "i": [integer(0), integer(2**64 - 1), integer(2**63), *(integer(9, lead) for lead in INTEGERS)],
    "c": [labels(), labels(text(b"")), labels(text(b"R"), text(b"R")), labels(text(b"A,B")),
          labels(text(b"A"), text(b"B")), labels(text(b"A,B", 0xD9)),
          labels(*[text(b"ABC")] * 15), labels(text(b"R", 0xD9))],
    "t": [time_ext(0, 0, 4, lead=0), time_ext(2**32 - 1, 0, 4, lead=0), time_ext(7, 0, 4),
          time_ext(9_223_372_030, 999_999_999, 8, lead=0), time_ext(7, 2**30 - 1, 8),
          time_ext(-62_135_596_800 // 7, 0, 12), time_ext(-9_223_372_030, 0, 12),
          time_ext(9_223_372_030, 2**32 - 1, 12)],
    "z": [text(b"N"), text(b"\x00")],
    "new": [b"\xc0", b"\xc2", b"\xc3", double(1.0), single(1.0), integer(5), integer(-5),
            integer(5, 0xCF), integer(5, 0xD3), text(b""), text(b"abc"), text(b"x" * 200)],
    "": [integer(1)], "n": [b"\xc0"], "nn": [b"\xc0"], "n" * 40: [integer(1)],
}  # fmt: skip


@pytest.mark.parametrize(("key", "value"), every(SPELLINGS))
def test_every_usual_spelling_is_decoded(key: str, value: bytes) -> None:
    """Whatever width a number or a text has, and whatever simple fields there are beside."""
    assert is_decoded(trade(**{key: value}))
    assert is_decoded(quote(), trade(**{key: value}), quote())


def test_the_keys_may_come_in_any_order() -> None:
    """Only the type must stand first."""
    fields = [(text(b"T"), text(b"q"))]
    rest = quote()[1 + 4 :]
    parts = msgspec.msgpack.decode(b"\x8a" + rest, type=dict[str, msgspec.Raw])
    for seed in range(10):
        keys = Random(seed).sample(list(parts), len(parts))
        pairs = fields + [(text(key.encode()), bytes(parts[key])) for key in keys]
        assert is_decoded(mapping(pairs), mapping(pairs, 0xDE))


@pytest.mark.parametrize("lead", [0, 0xDC, 0xDD])
def test_every_header_of_a_frame_is_read(lead: int) -> None:
    """An array of 1 to 15, of up to 65,535 and of more elements."""
    for count in (1, 3, 15, 16, 40):
        assert check([array([quote(), trade()] * count, lead)]).decoded == 1


ODD: dict[str, list[bytes]] = {
    "T": [text(b"b"), text(b"qq"), text(b"q", 0xD9), text(b"Q"), b"\xc0", integer(1)],
    "S": [b"\xc0", text(b"AAPL", 0xC4), integer(5), text("Ä".encode()), text(b"\xff"),
          text(b"AB\xff"), text(b"A" * 64), text(b"A" * 200), text(b"AAPL", 0xDA), labels()],
    "x": [b"\xc0", text(b"\xff"), b"\xc3", double(1.0)],
    "p": [b"\xc0", b"\xc3", text(b"1"), labels(), time_ext(1, 0, 4), b"\xc1"],
    "s": [double(1.0), single(1.0), integer(2**63), integer(2**64 - 1), b"\xc0", b"\xc2"],
    "i": [integer(-1), integer(-1, 0xD3), integer(-200), double(5.0), b"\xc0", text(b"5")],
    "c": [b"\xc0", text(b"R"), labels(integer(1)), labels(b"\xc0"), labels(labels()),
          labels(text(b"R"), lead=0xDC), labels(text("é".encode())), labels(text(b"\xff\xfe")),
          labels(*[text(b"ABCDE")] * 15), labels(text(b"R", 0xC4)), mapping([]),
          labels(text(b"A" * 200), text(b"B"))],
    "t": [time_ext(7, 0, 4, code=5), time_ext(0, 0, 16, lead=0), integer(NOW), b"\xc0",
          time_ext(9_223_372_037, 0, 8), time_ext(2**34 - 1, 0, 8, lead=0),
          time_ext(2**62, 0, 12), time_ext(-(2**63), 0, 12), text(b"2026-09-21T14:13:20Z"),
          b"\xc8\x00\x08\xff" + bytes(8)],
    "new": [labels(), mapping([]), b"\xd4\x05\x00", text(b"a", 0xC4), text(b"\xff"), b"\xc1"],
    "\xff": [integer(1)], "\xffx": [integer(1)],
}  # fmt: skip


@pytest.mark.parametrize(("key", "value"), every(ODD))
def test_anything_else_is_left_to_msgspec(key: str, value: bytes) -> None:
    """The whole frame is, wherever in it the odd message stands, and the next one is not."""
    odd = trade(**{key: value})
    frames = [array([odd]), array([quote(), odd, trade()]), array([quote()])]
    both = Both()
    both.take(frames)
    assert (both.decoded, both.refused) == (1, 2)
    assert len(both.lexicon) == 5, "a frame that is refused leaves no texts behind"


ALL_KEYS = {"q": quote, "t": trade}


@pytest.mark.parametrize("tag", ALL_KEYS)
def test_a_message_that_lacks_a_field_is_left_to_msgspec(tag: str) -> None:
    """Any field: what stands in its place is known to msgspec."""
    make = ALL_KEYS[tag]
    for key in msgspec.msgpack.decode(make()):
        assert not is_decoded(make(**{key: None}))


def test_a_message_with_a_field_twice_is_left_to_msgspec() -> None:
    """Also the type, and also with the same value."""
    parts = msgspec.msgpack.decode(quote(), type=dict[str, msgspec.Raw])
    pairs = [(text(key.encode()), bytes(value)) for key, value in parts.items()]
    for twice in pairs:
        assert not is_decoded(mapping([*pairs, twice]))
    assert not is_decoded(mapping(pairs[1:] + pairs[:1]))


OTHERS: list[Any] = [
    Bar(symbol="A", open=1, high=2, low=1, close=2, volume=3, timestamp=NOW),
    UpdatedBar(symbol="A", open=1, high=2, low=1, close=2, volume=3, timestamp=NOW),
    DailyBar(symbol="A", open=1, high=2, low=1, close=2, volume=3, timestamp=NOW),
    Status(symbol="A", status_code="H", timestamp=NOW),
    PriceBand(symbol="A", limit_up=2.0, limit_down=1.0, timestamp=NOW),
    Imbalance(symbol="A", price=2.0, timestamp=NOW),
    CancelError(symbol="A", trade_id=1, price=2.0, size=3, timestamp=NOW),
    Correction(
        symbol="A", original_trade_id=1, original_price=2.0, original_size=3,
        corrected_trade_id=4, corrected_price=5.0, corrected_size=6, timestamp=NOW,
    ),
    Success("connected"),
    Error(code=402, message="auth failed"),
    Subscription(trades=["A"]),
]  # fmt: skip


@pytest.mark.parametrize("other", OTHERS, ids=lambda other: type(other).__name__)
def test_other_messages_are_left_to_msgspec(other: Any) -> None:
    """Alone, between quotes and trades, and in frames between such of them."""
    usual = list(tape(6))
    frames = [[other], usual, [*usual, other], [other, *usual], usual]
    both = check([MSGPACK.encode(messages) for messages in frames])
    assert (both.decoded, both.refused) == (2, 3)


def test_json_and_nonsense_are_left_to_others() -> None:
    """Frames that are no MessagePack arrays, empty ones, broken ones, ones with more behind."""
    good = array([quote(), trade()])
    odd = [b"", b"\x90", b"\xdc\0\0", b"\xdd\0\0\0\0", b"\x80", b"\xc0", b"\xff" * 40]
    odd += [JSON.encode(list(tape(2))), good + b"\0", good + good, b"\x93" + good[1:]]
    odd += [b"\xdd\xff\xff\xff\xff" + good[1:], b"\x9f", b"\xdc\xff", b"\x91\xde\xff\xff"]
    odd += [good[:stop] for stop in range(1, len(good))]
    both = Both()
    both.take([frame for pair in zip(odd, [good] * len(odd), strict=True) for frame in pair])
    both.compare()
    assert (both.decoded, both.refused) == (len(odd), len(odd))


# -- texts -------------------------------------------------------------------------------


def test_a_text_has_the_number_that_the_lexicon_gives_it() -> None:
    """Known before or new, alone or in a list, however it is spelled: one text, one number."""
    lexicon = Lexicon()
    before = [lexicon.code("IBM"), lexicon.code("A")]
    spelled = [text(b"IBM"), text(b"IBM", 0xD9), text(b"A"), text(b"A", 0xD9)]
    frames = [array([trade(S=symbol, x=text(b"A"), c=labels(text(b"A")))]) for symbol in spelled]
    (batch,) = Scanner(lexicon).scan(frames, [NOW] * 4).batches
    assert batch.symbols.tolist() == [before[0], before[0], before[1], before[1]]
    names = [column.name for column in batch.layout.columns]
    for name in ("exchange", "conditions"):
        row = batch.layout.places[names.index(name)][1]
        assert batch.codes[row].tolist() == [before[1]] * 4
    assert lexicon.texts == ["IBM", "A", "C"]


def test_a_new_text_counts_once_however_often_it_comes() -> None:
    """In one call a text may be new a thousand times."""
    both = check([array([quote(S=text(b"NEW1")), trade(S=text(b"NEW1"))])] * 1_000)
    assert both.lexicon.texts.count("NEW1") == 1


def test_twenty_thousand_symbols_and_many_conditions() -> None:
    """Tables grow as far as there are texts, and keep what they had."""
    both = Both()
    chance = Random(1)
    for _ in range(2):
        frames = []
        for i in range(0, 20_000, 20):
            conditions = [chance.choice("ABCDEFGH").encode() for _ in range(chance.randrange(6))]
            names = [f"{'SYMBOL' * (j % 3)}{j:X}".encode() for j in range(i, i + 20)]
            marks = labels(*map(text, conditions))
            frames.append(array([trade(S=text(name), c=marks) for name in names]))
        both.take(frames)
    both.compare()
    assert (both.decoded, both.refused) == (2_000, 0)


def test_one_frame_may_bring_more_new_texts_than_there_is_room_for() -> None:
    """The tables then grow before it is decoded, and nothing is left of the first try."""
    long = [trade(S=text(f"{i:050}".encode())) for i in range(5_000)]
    both = check([array([quote()]), array(long), array([quote()])])
    assert (both.decoded, both.refused) == (3, 0)


def test_more_texts_than_allowed_are_left_to_msgspec(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known texts are decoded for ever; the memory for new ones has an end."""
    monkeypatch.setattr(scan, "MOST_TEXTS", 2_048)
    both = Both()
    frames = [array([trade(S=text(f"S{i}".encode()))]) for i in range(3_000)]
    both.take(frames)
    assert 2_000 < both.decoded < 2_048
    assert both.decoded + both.refused == 3_000
    both.take(frames[:2_000])
    both.compare()
    assert both.refused <= 1_000


def test_texts_that_share_all_slots_are_left_to_msgspec() -> None:
    """Somebody who chooses texts so that all want one place gets refusals, not a long search."""
    constants = compiled.kernels().constants  # type: ignore[union-attr]
    crowd = []
    for number in range(1_000_000):
        name = f"{number:06}".encode()
        key = int.from_bytes(text(name) + b"\0", "big", signed=False)
        if (key * constants._SPREAD >> 44) & 0xFFF == 7:
            crowd.append(name)
    both = check([array([trade(S=text(name))]) for name in crowd])
    assert 128 <= both.decoded < len(crowd)
    assert both.decoded + both.refused == len(crowd)


# -- one call after the other ------------------------------------------------------------


def test_a_call_ends_early_and_the_next_goes_on() -> None:
    """No call decodes more than some 8,192 messages; together they decode all."""
    frames = [MSGPACK.encode(list(tape(50)))] * 500
    scanner = Scanner(Lexicon())
    start, sizes = 0, []
    while start < len(frames):
        scanned = scanner.scan(frames, [NOW] * 500, start)
        assert not scanned.refused
        sizes.append(sum(map(len, scanned.batches)))
        start += scanned.frames
    assert sum(sizes) == 25_000
    assert max(sizes) <= 8_193
    assert check(frames).decoded == 500


def test_a_frame_of_any_length_is_decoded_at_once() -> None:
    """A frame is not cut, up to a length that msgspec is for."""
    messages = list(tape(30_000))
    both = check([MSGPACK.encode(messages[:5]), MSGPACK.encode(messages), MSGPACK.encode(messages)])
    assert (both.decoded, both.refused) == (3, 0)


def test_a_very_long_frame_is_left_to_msgspec(monkeypatch: pytest.MonkeyPatch) -> None:
    """The room for its rows would be a multiple of it."""
    monkeypatch.setattr(scan, "LONGEST_FRAME", 1_000)
    monkeypatch.setattr(scan, "MOST_BYTES", 1_000)
    both = check([MSGPACK.encode(list(tape(count))) for count in (3, 300, 3)])
    assert (both.decoded, both.refused) == (2, 1)


def test_refusals_cost_no_second_look_at_everything_behind() -> None:
    """Where every second frame is odd, each call looks at a few frames, not at thousands."""
    looked_at = []

    class Watched(bytes):
        def __len__(self) -> int:
            looked_at.append(1)
            return super().__len__()

    frames = [Watched(array([message])) for message in [quote(), mapping([])] * 2_000]
    scanner, start, scans = Scanner(Lexicon()), 0, 0
    while start < len(frames):
        scanned = scanner.scan(frames, [NOW] * len(frames), start)
        start += scanned.frames + scanned.refused
        scans += 1
    assert scans == 2_000
    assert len(looked_at) < 4_096 + 2_000 * 16


def test_received_may_be_an_array_and_belongs_to_the_frame() -> None:
    """Each row has the arrival of its frame, wherever the scan starts."""
    frames = [MSGPACK.encode(list(tape(3)))] * 4
    for received in ([1, 2, 3, 4], np.array([1, 2, 3, 4])):
        scanned = Scanner(Lexicon()).scan(frames, received, 1)
        quotes, trades = scanned.batches
        assert quotes.received.tolist() == [2, 2, 3, 3, 4, 4]
        assert trades.received.tolist() == [2, 3, 4]


def test_nothing_comes_of_nothing() -> None:
    """No frames, or a start behind the last one: nothing is decoded and nothing refused."""
    for frames, start in (([], 0), ([array([quote()])], 1)):
        scanned = Scanner(Lexicon()).scan(frames, [NOW] * len(frames), start)
        assert (scanned.frames, scanned.refused, scanned.batches) == (0, False, [])
        assert len(scanned.newest) == 0


def test_messages_are_made_in_the_order_in_which_they_are_named() -> None:
    """Any rows, any number of times, or none."""
    messages = list(tape(9))
    scanned = Scanner(Lexicon()).scan([MSGPACK.encode(messages)], [NOW])
    quotes, _ = scanned.batches
    expected = [message for message in decode(MSGPACK.encode(messages)) if type(message) is Quote]
    rows = np.array([3, 0, 0])
    assert scanned.messages(quotes, rows) == [expected[row] for row in rows]
    assert scanned.messages(quotes, np.array([], np.intp)) == []


def test_batches_do_not_change_when_scanning_goes_on() -> None:
    """Each scan has arrays of its own."""
    scanner = Scanner(Lexicon())
    frames = [MSGPACK.encode([message]) for message in tape(60)]
    batch = scanner.scan(frames[:30], [1] * 30).batches[0]
    before = batch.numbers.copy(), batch.prices.copy(), batch.codes.copy()
    scanner.scan(frames[30:], [2] * 30)
    after = batch.numbers, batch.prices, batch.codes
    assert all((a == b).all() for a, b in zip(before, after, strict=True))


# -- anything at all ---------------------------------------------------------------------


LIKE = {"bx": "x", "ax": "x", "bp": "p", "ap": "p", "bs": "s", "as": "s"}


class Writer:
    """Writes messages in all the ways there are, mostly usual ones."""

    def __init__(self, chance: Random, *, odd: float = 0.02) -> None:
        self._chance, self._odd = chance, odd

    def frame(self) -> bytes:
        """A frame of some messages, nearly always quotes and trades."""
        count = self._chance.choice((1, 1, 2, 3, 17))
        return array(
            [self._message() for _ in range(count)], self._chance.choice((0, 0, 0xDC, 0xDD))
        )

    def _is_odd(self) -> bool:
        return self._chance.random() < self._odd

    def _message(self) -> bytes:
        if self._is_odd():
            # Without the header of the frame.
            return MSGPACK.encode([self._chance.choice(OTHERS)])[1:]
        make = self._chance.choice((quote, trade))
        pairs = []
        for key, value in msgspec.msgpack.decode(make(), type=dict[str, msgspec.Raw]).items():
            kind, spelled = LIKE.get(key, key), bytes(value)
            if self._is_odd():
                spelled = self._chance.choice(ODD.get(kind, [b"\xc0"]))
            elif key != "T" and self._chance.random() < 0.5:
                spelled = self._chance.choice(SPELLINGS[kind])
            pairs.append((text(key.encode()), spelled))
        self._rearrange(pairs)
        return mapping(pairs, self._chance.choice((0, 0, 0xDE)))

    def _rearrange(self, pairs: list[tuple[bytes, bytes]]) -> None:
        chance = self._chance
        if chance.random() < 0.2:
            pairs.append((text(b"new"), chance.choice(SPELLINGS["new"])))
        if chance.random() < 0.2:
            pairs[1:] = chance.sample(pairs[1:], len(pairs) - 1)
        if self._is_odd():
            del pairs[chance.randrange(len(pairs))]
        if self._is_odd():
            pairs.append(chance.choice(pairs))
        if self._is_odd():
            chance.shuffle(pairs)


def broken(frame: bytes, chance: Random) -> bytes:
    """A frame in which some bytes are others, more or less."""
    data = bytearray(frame)
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(6):
            case 0 if at < len(data):
                data[at] ^= 1 << chance.randrange(8)
            case 1 if at < len(data):
                data[at] = chance.choice((0x00, 0x7F, 0x80, 0x90, 0xA1, 0xC0, 0xCF, 0xD9, 0xFF))
            case 2:
                data.insert(at, chance.randrange(256))
            case 3:
                del data[at : at + chance.randrange(1, 4)]
            case 4:
                del data[at:]
            case _:
                data[at:at] = data[at : at + 9]
    return bytes(data)


@settings(max_examples=100, deadline=None)
@given(chance=st.randoms(use_true_random=False), count=st.integers(1, 30))
def test_both_ways_are_the_same_for_any_messages(chance: Random, count: int) -> None:
    """All types, all spellings, missing and repeated and unknown keys, in any order."""
    writer = Writer(chance)
    check([writer.frame() for _ in range(count)])


@settings(max_examples=100, deadline=None)
@given(
    chance=st.randoms(use_true_random=False),
    junk=st.lists(st.binary(max_size=80), max_size=5),
    count=st.integers(1, 20),
)
def test_both_ways_are_the_same_for_any_bytes(
    chance: Random, junk: list[bytes], count: int
) -> None:
    """Frames with wrong, missing and further bytes among good ones."""
    writer = Writer(chance)
    frames = [writer.frame() for _ in range(count)]
    frames += [broken(frame, chance) for frame in frames] + junk
    chance.shuffle(frames)
    check(frames)


def test_a_hundred_thousand_broken_frames() -> None:
    """Whatever is decoded of them is the same; most are refused, and none does harm."""
    chance = Random(20_260_921)
    writer = Writer(chance, odd=0.002)
    pool = [writer.frame() for _ in range(400)]
    both = Both()
    for _ in range(500):
        both.take([broken(chance.choice(pool), chance) for _ in range(200)])
    both.compare()
    assert both.decoded + both.refused == 100_000
    assert both.decoded > 5_000


GUARDED = """
import ctypes, dataclasses, mmap, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from test_scan import ODD, SPELLINGS, Both, Random, Writer, array, broken, every, trade
from alpaca_nb.data import compiled

compiled.warm_up()
assert compiled.wait_ready(120)
kernels = compiled.kernels()
page, size = mmap.PAGESIZE, 1 << 20
memory = mmap.mmap(-1, size + page)
whole = np.frombuffer(memory, np.uint8)
protect = ctypes.CDLL(None, use_errno=True).mprotect
assert protect(ctypes.c_void_p(whole.ctypes.data + size), ctypes.c_size_t(page), 0) == 0

def scan(data, *rest):
    guarded = whole[size - len(data) : size]
    guarded[:] = data
    guarded.flags.writeable = False
    return kernels.scan(guarded, *rest)

compiled._loader.loaded = dataclasses.replace(kernels, scan=scan)
chance = Random(7)
writer = Writer(chance)
both = Both()
for _ in range(1_500):
    frames = [writer.frame() for _ in range(2)]
    frames += [broken(chance.choice(frames), chance) for _ in range(8)]
    both.take(frames)
for key, value in every(SPELLINGS) + every(ODD):
    frame = array([trade(**{key: value})])
    for stop in range(len(frame)):
        both.take([frame[:stop]])
both.compare()
print(both.decoded > 1_000)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="protects memory as Linux does")
def test_no_byte_is_read_behind_the_data(tmp_path: Path) -> None:
    """With memory behind the data that nobody may read, and every index checked, all goes well."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", GUARDED, str(Path(__file__).parent)],
        env=os.environ | {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "True\n")
