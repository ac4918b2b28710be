"""What comes in as messages and what comes in as batches become the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from alpaca_nb.data.batch import Batch, Lexicon, batch_of
from alpaca_nb.data.frame import LiveFrame
from alpaca_nb.errors import BadInputError
from alpaca_nb.wire.messages import Message, Quote, Trade

NOW = 1_790_000_000_000_000_001


def make_trade(i: int) -> Trade[int]:
    return Trade(
        symbol=f"S{i % 7}",
        trade_id=2**64 - 1 - i,
        exchange="VQ"[i % 2],
        price=i / 4,
        size=i,
        conditions=["@", "I"][: i % 3],
        tape="ABC"[i % 3],
        timestamp=NOW + i,
    )


def make_quote(i: int, symbol: str) -> Quote[int]:
    return Quote(symbol=symbol, bid_price=i, ask_price=i, bid_size=i, timestamp=NOW + i)


def batch(messages: Sequence[Message[Any]], lexicon: Lexicon, at: int = 0) -> Batch:
    received = NOW + np.arange(at, at + len(messages), dtype=np.int64)
    return batch_of(messages, received, lexicon)


def trades(start: int, stop: int) -> list[Message[Any]]:
    return [make_trade(i) for i in range(start, stop)]


def test_a_batch_becomes_the_rows_of_its_messages() -> None:
    """Every value and category is that of the message, and `received` that of the batch."""
    lexicon = Lexicon()
    lexicon.encode(["of", "another", "channel"])
    frame, other = LiveFrame("trades", "*"), LiveFrame("trades", "*")
    frame.take(batch(trades(0, 40), lexicon))
    other.extend(trades(0, 40), received_ns=NOW)
    assert frame.snapshot()["received"].tolist() == [NOW + i for i in range(40)]
    received = ["received"]
    pd.testing.assert_frame_equal(frame.df.drop(columns=received), other.df.drop(columns=received))
    pd.testing.assert_frame_equal(
        frame.latest.drop(columns=received), other.latest.drop(columns=received)
    )
    assert frame.snapshot().categories("symbol") == other.snapshot().categories("symbol")


_PARTS = st.lists(
    st.tuples(
        st.integers(0, 30),
        st.sampled_from(["take", "take", "piece", "part", "extend", "other lexicon"]),
        st.sampled_from(["live", "live", "backfill", "replay"]),
        st.sampled_from(["", "", "read", "clear"]),
    ),
    max_size=12,
)


@settings(max_examples=80, deadline=None)
@given(parts=_PARTS, write_at=st.sampled_from([1, 20, 1_000]))
def test_batches_and_messages_mixed(parts: list[Any], write_at: int) -> None:
    """In any order, cut anyhow, with reads and clears between, rows are those of messages."""
    lexicons = [Lexicon(), Lexicon()]
    lexicons[1].encode([f"S{i}" for i in range(6, 0, -1)])
    frame, other = LiveFrame("trades", "*", maxlen=50), LiveFrame("trades", "*", maxlen=50)
    at = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("alpaca_nb.data.frame._WRITE_MESSAGES_AT", write_at)
        patch.setattr("alpaca_nb.data.frame._WRITE_ROWS_AT", 2 * write_at)
        patch.setattr("alpaca_nb.data.frame._WRITE_PIECES_AT", 5)
        for count, way, origin, then in parts:
            messages = trades(at, at + count)
            other.extend(messages, received_ns=NOW, origin=origin)
            if way == "extend" or not messages:
                frame.extend(messages, received_ns=NOW, origin=origin)
            else:
                whole = batch(messages, lexicons[way == "other lexicon"])
                cut = count // 2 if way in ("piece", "part") else 0
                if way == "part":
                    frame.take(whole, origin=origin, stop=cut)
                    frame.take(whole, origin=origin, start=cut)
                else:
                    frame.take(whole.piece(0, cut), origin=origin)
                    frame.take(whole.piece(cut, count), origin=origin)
            at += count
            if then == "read":
                assert frame.position == other.position == at
            if then == "clear":
                frame.clear()
                other.clear()
    for mine, theirs in ((frame.df, other.df), (frame.latest, other.latest)):
        pd.testing.assert_frame_equal(
            mine.drop(columns="received"), theirs.drop(columns="received")
        )


def test_more_texts_than_a_byte_holds() -> None:
    """Codes widen at 127 and 32,767 texts; rows and older snapshots keep what they had."""
    lexicon, frame = Lexicon(), LiveFrame("quotes", "*")
    seen, taken = [], 0
    for count in (100, 26, 1, 1, 1_000, 31_638, 1, 1, 500):
        quotes = [make_quote(i, f"S{taken + i}") for i in range(count)]
        frame.take(batch(quotes, lexicon))
        taken += count
        seen.append((taken, frame.df))
    for rows, df in seen:
        assert df["symbol"].tolist() == [f"S{i}" for i in range(rows)]
    assert frame.latest["symbol"].tolist() == [f"S{i}" for i in range(taken)]
    types = [df["symbol"].cat.codes.dtype for _, df in seen]
    assert types[1:4] == [np.int8, np.int16, np.int16]
    assert types[5:8] == [np.int16, np.int32, np.int32]


@pytest.mark.parametrize("way", ["messages", "batch"])
def test_odd_quotes_are_kept_as_they_are(way: str) -> None:
    """No number, zero, negative, infinite, one side only, time going backwards: all is stored."""
    nan, inf = float("nan"), float("inf")
    prices = [(nan, 1.0), (0.0, 0.0), (-1.5, -1.0), (inf, -inf), (0.0, 101.0), (101.0, 0.0)]
    quotes: list[Any] = [
        Quote(
            symbol="AAPL",
            bid_price=bid,
            bid_size=0 if bid == 0 else 2**62,
            ask_price=ask,
            ask_size=0 if ask == 0 else -1,
            timestamp=NOW - i * 10**i,
        )
        for i, (bid, ask) in enumerate(prices)
    ]
    frame = LiveFrame("quotes", "*")
    if way == "batch":
        frame.take(batch(quotes, Lexicon()))
    else:
        frame.extend(quotes, received_ns=NOW)
    rows = frame.snapshot()
    np.testing.assert_array_equal(rows["bid_price"], [bid for bid, _ in prices])
    np.testing.assert_array_equal(rows["ask_price"], [ask for _, ask in prices])
    assert rows["bid_size"].tolist() == [2**62, 0, 2**62, 2**62, 0, 2**62]
    assert rows["timestamp"].tolist() == [NOW - i * 10**i for i in range(6)]
    assert frame.latest["bid_price"].tolist() == [101.0]
    assert (frame.stats.rejected, frame.stats.duplicates) == (0, 0)
    assert frame.df["conditions"].tolist() == [""] * 6


def test_more_conditions_than_a_byte_holds() -> None:
    """Any number of sets of conditions is stored, and older snapshots keep theirs."""
    frame, lexicon, seen = LiveFrame("trades", "*"), Lexicon(), []
    for first in range(0, 33_000, 60):
        new = [
            structs.replace(make_trade(i), conditions=["@", str(i)])
            for i in range(first, first + 60)
        ]
        frame.take(batch(new, lexicon))
        if first % 6_000 < 180:
            seen.append((first + 60, frame.df["conditions"]))
    for rows, conditions in seen:
        assert conditions.tolist() == [f"@,{i}" for i in range(rows)]
    assert frame.df["conditions"].cat.codes.dtype == np.int32
    assert len(frame) == 33_000


def test_texts_that_come_later() -> None:
    """A lexicon grows between batches, also by texts that another frame got first."""
    lexicon, frame, other = Lexicon(), LiveFrame("quotes", "*"), LiveFrame("quotes", "*")
    for i in range(300):
        (other if i % 3 else frame).take(batch([make_quote(i, f"S{i}")], lexicon))
        assert (other if i % 3 else frame).df["symbol"].tolist()[-1] == f"S{i}"
    assert frame.df["symbol"].tolist() == [f"S{i}" for i in range(0, 300, 3)]


def test_a_batch_of_another_channel() -> None:
    """What is of another channel is refused: it could not be counted as rows of this one."""
    quotes = batch([make_quote(1, "A")], Lexicon())
    with pytest.raises(BadInputError, match="takes batches of trades, not of quotes"):
        LiveFrame("trades", "*").take(quotes)


def test_closed_frames_take_nothing() -> None:
    """A closed frame keeps what it has; an empty batch is none."""
    frame, lexicon = LiveFrame("trades", "*"), Lexicon()
    whole = batch(trades(0, 3), lexicon)
    frame.take(whole.piece(0, 0))
    frame.take(whole.piece(0, 2))
    frame.close()
    frame.take(whole.piece(2, 3))
    assert len(frame) == 2


def test_whoever_waits_is_woken_by_a_batch() -> None:
    """`wait` counts rows of batches like any other."""
    frame = LiveFrame("trades", "*")
    frame.take(batch(trades(0, 3), Lexicon()))
    frame.wait(3, timeout=0)


def test_many_small_batches_do_not_pile_up() -> None:
    """Where rows come one by one and nobody reads, they are written from time to time."""
    lexicon, frame = Lexicon(), LiveFrame("trades", "*")
    for i in range(1_100):
        frame.take(batch(trades(i, i + 1), lexicon))
    assert frame._store.snapshot().last >= 1_000
    assert frame.position == 1_100
