"""Candles from columns: all at once, growing with a frame, and one trade after the other."""

from __future__ import annotations

import datetime as dt
import itertools
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpaca_nb.data.candle_table import COLUMNS, Candles
from alpaca_nb.data.candles import CandleBuilder
from alpaca_nb.data.frame import LiveFrame
from alpaca_nb.data.live_candles import LiveCandles, candles_of
from alpaca_nb.errors import BadInputError
from alpaca_nb.wire.codec import time_ns
from alpaca_nb.wire.messages import CancelError, Correction, Quote, Trade

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
OPEN = time_ns("2026-09-21T13:30:00Z")
NUMBERS = ("open", "high", "low", "close", "volume", "trade_count", "vwap")
IDS = itertools.count(1)
VOID = {"canceled", "error", "incorrect"}


def make_trade(
    at_s: float,
    price: float = 10.0,
    size: int = 100,
    conditions: str = "@",
    symbol: str = "AAPL",
    **changes: Any,
) -> Trade[int]:
    """A trade some seconds after the open; each letter is a condition."""
    values: dict[str, Any] = {
        "symbol": symbol,
        "trade_id": next(IDS),
        "exchange": "V",
        "price": price,
        "size": size,
        "conditions": list(conditions),
        "tape": "C",
        "timestamp": OPEN + round(at_s * SECOND),
    }
    return Trade(**values | changes)


def cancel(trade: Trade[int]) -> CancelError[int]:
    return CancelError(
        symbol=trade.symbol,
        trade_id=trade.trade_id,
        exchange=trade.exchange,
        price=trade.price,
        size=trade.size,
        action="C",
        timestamp=trade.timestamp,
    )


def correct(trade: Trade[int], price: float, size: int) -> Correction[int]:
    return Correction(
        symbol=trade.symbol,
        exchange=trade.exchange,
        original_trade_id=trade.trade_id,
        original_price=trade.price,
        original_size=trade.size,
        original_conditions=trade.conditions,
        corrected_trade_id=trade.trade_id + 1_000_000,
        corrected_price=price,
        corrected_size=size,
        corrected_conditions=trade.conditions,
        timestamp=trade.timestamp,
    )


def make_frame(*trades: Trade[int], **options: Any) -> LiveFrame:
    frame = LiveFrame("trades", "*", **options)
    extend(frame, *trades)
    return frame


def extend(frame: LiveFrame, *trades: Trade[int]) -> None:
    frame.extend(list(trades), received_ns=OPEN)


def follow(frame: LiveFrame, interval: Any = "1min", **options: Any) -> LiveCandles:
    return LiveCandles(interval, source=frame.snapshot, **options)


Row = tuple[Any, ...]


def table(candles: Candles, *, state: bool = False) -> list[Row]:
    """Symbol, seconds after the open, and the numbers of each candle, by time and symbol."""
    names = candles.categories("symbol")
    columns = [candles[name].tolist() for name in NUMBERS]
    rows = [
        (names[code], (at - OPEN) / SECOND, *values)
        for code, at, *values in zip(
            candles["symbol"].tolist(), candles["timestamp"].tolist(), *columns, strict=True
        )
    ]
    if state:
        states = [candles.categories("state")[code] for code in candles["state"]]
        rows = [(*row, state) for row, state in zip(rows, states, strict=True)]
    return sorted(rows, key=lambda row: (row[1], row[0]))


def states(candles: LiveCandles) -> list[str]:
    return [str(state) for state in candles.df["state"]]


def one_by_one(trades: Sequence[Trade[int]], interval_s: int = 60) -> list[Row]:
    """What `CandleBuilder` makes of them."""
    builder = CandleBuilder(interval_s)
    for trade in trades:
        builder.add(trade)
    bars = builder.close(1 << 62)
    rows = [
        (bar.symbol, (bar.timestamp - OPEN) / SECOND, *(getattr(bar, name) for name in NUMBERS))
        for bar in bars
    ]
    return sorted(rows, key=lambda row: (row[1], row[0]))


def assert_same(ours: list[Row], theirs: list[Row]) -> None:
    """All equal, and the VWAP up to the order in which floats are added."""
    assert [row[:8] for row in ours] == [row[:8] for row in theirs]
    assert [row[8] for row in ours] == pytest.approx([row[8] for row in theirs], abs=2e-6)


# -- all at once -------------------------------------------------------------------------


def test_a_minute() -> None:
    """A minute's candle holds its trades, from its left edge up to the next one."""
    frame = make_frame(
        make_trade(0, 10, 100),
        make_trade(20, 12, 200),
        make_trade(40, 9, 100),
        make_trade(59.999999999, 11, 100),
        make_trade(60, 50, 100),
    )
    assert table(candles_of(frame.snapshot(), "1min")) == [
        ("AAPL", 0, 10, 12, 9, 11, 500, 4, 10.8),
        ("AAPL", 60, 50, 50, 50, 50, 100, 1, 50),
    ]


def test_what_conditions_leave_out() -> None:
    """An odd lot counts in volume and number only, an official price in nothing."""
    frame = make_frame(
        make_trade(0, 99, 7, "@I"), make_trade(1, 10), make_trade(2, 1, 900, "@M"),
        make_trade(3, 8, 50, "@", symbol="ODD"), make_trade(60, 8, 50, "@I", symbol="ODD"),
    )  # fmt: skip
    assert table(candles_of(frame.snapshot(), "1min")) == [
        ("AAPL", 0, 10, 10, 10, 10, 107, 2, 10),
        ("ODD", 0, 8, 8, 8, 8, 50, 1, 8),
    ]


@pytest.mark.parametrize("price", [0.0, -5.0, float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("size", [100, 0, -100])
def test_what_is_no_trade(price: float, size: int) -> None:
    """A trade without a price or size above zero counts in nothing, in any way of counting."""
    trades = [make_trade(0, 10), make_trade(1, price, size), make_trade(2, 11)]
    expected = [("AAPL", 0, 10, 11, 10, 11, 200, 2, 10.5)]
    assert table(candles_of(make_frame(*trades).snapshot(), "1min")) == expected
    assert one_by_one(trades) == expected


def test_the_daily_rules() -> None:
    """Candles of a day follow the rules of daily bars: late reports, and extended hours."""
    trades = [
        make_trade(-3600, 20, 100, "@T"),
        make_trade(-1800, 9, 100, "@Z"),
        make_trade(0, 10, 100),
        make_trade(1, 12, 100, "@4"),
        make_trade(2, 11, 100),
        make_trade(3, 13, 100, "@9"),
        make_trade(4, 12.5, 100, "@Z"),
    ]
    (candle,) = table(candles_of(make_frame(*trades).snapshot(), "1d"))
    assert candle[1] == -9.5 * 3600
    builder = CandleBuilder()
    for trade in trades:
        builder.add(trade)
    bar = builder.daily_bar("AAPL")
    assert candle[2:] == tuple(getattr(bar, name) for name in NUMBERS)
    assert candle[2:8] == (9, 13, 9, 13, 600, 6)


def test_a_late_report_closes_only_what_it_opens() -> None:
    """A late report sets open and close where it is the first, now as when the rest comes later."""
    first = make_trade(0, 9, 100, "@Z")
    frame = make_frame(first, make_trade(1, 12, 100, "@Z"))
    candles = follow(frame, "1d")
    assert table(candles.read())[0][2:6] == (9, 12, 9, 9)
    extend(frame, make_trade(2, 11), make_trade(3, 8, 100, "@Z"))
    assert table(candles.read())[0][2:6] == (9, 12, 8, 11)
    assert table(candles.read()) == table(candles_of(frame.snapshot(), "1d"))


def test_sessions() -> None:
    """With a session the candles are those of its trades, counted from its beginning."""
    frame = make_frame(*(make_trade(minute * 60) for minute in range(-60, 480)))
    regular = table(candles_of(frame.snapshot(), "65min", session="regular"))
    assert [(row[1] // 60, row[7]) for row in regular] == [(65 * i, 65) for i in range(6)]
    extended = table(candles_of(frame.snapshot(), "1h", session="extended"))
    assert sum(row[7] for row in extended) == 540
    early = table(
        candles_of(
            frame.snapshot(),
            "65min",
            session="regular",
            hours=lambda date: (OPEN, OPEN + 210 * MINUTE) if date.day == 21 else None,
        )
    )
    assert [row[7] for row in early] == [65, 65, 65, 15]


def test_nothing_gives_nothing() -> None:
    """No trades, none that counts and none in the session give no candles."""
    empty = candles_of(LiveFrame("trades", "*").snapshot(), "1min")
    assert (len(empty), list(empty.to_frame().columns)) == (0, [c.name for c in COLUMNS[1:]])
    assert len(candles_of(make_frame(make_trade(0, 10, 100, "M")).snapshot(), "1min")) == 0
    frame = make_frame(make_trade(-60))
    assert len(candles_of(frame.snapshot(), "1min", session="regular")) == 0
    assert len(follow(frame, session="regular").read()) == 0


def test_many_symbols_and_conditions() -> None:
    """More symbols and conditions than a byte counts, and trades in no order of time."""
    trades = [
        make_trade(
            i * 37 % 600, 1 + i % 7, 1 + i % 90, f"@{chr(33 + i % 90)}", symbol=f"S{i % 200}"
        )
        for i in range(3_000)
    ]
    frame = make_frame(*trades)
    assert_same(table(candles_of(frame.snapshot(), "1min")), one_by_one(trades))
    many = make_frame(*(make_trade(0, symbol=f"S{i}") for i in range(40_000)))
    assert len(candles_of(many.snapshot(), "1min")) == 40_000


def test_a_dataframe() -> None:
    """Candles are read as a DataFrame, by time and symbol, in New York's time."""
    frame = make_frame(make_trade(61, symbol="B"), make_trade(0, symbol="B"), make_trade(0))
    df = candles_of(frame.snapshot(), "1min").to_frame()
    assert df.index.name == "timestamp"
    assert [str(at) for at in df.index] == [
        "2026-09-21 09:30:00-04:00", "2026-09-21 09:30:00-04:00", "2026-09-21 09:31:00-04:00",
    ]  # fmt: skip
    assert df["symbol"].tolist() == ["B", "AAPL", "B"]
    assert df["symbol"].dtype.name == df["state"].dtype.name == "category"
    df["open"] = 0.0
    pd.testing.assert_frame_equal(
        candles_of(frame.df, "1min").to_frame().sort_values(["timestamp", "symbol"]),
        candles_of(frame.snapshot(), "1min").to_frame().sort_values(["timestamp", "symbol"]),
        check_categorical=False,
        check_dtype=False,
    )


def test_columns() -> None:
    """Views read columns as of a frame: by name, read-only, texts as codes."""
    frame = make_frame(make_trade(0, symbol="B"), make_trade(61))
    candles = candles_of(frame.snapshot(), "1min")
    assert (len(candles), repr(candles)) == (2, "Candles(2 rows, version 0)")
    assert candles.categories("symbol") == ("B", "AAPL")
    assert candles.of("AAPL")["timestamp"].tolist() == [OPEN + MINUTE]
    assert len(candles.of("TSLA")) == 0
    assert candles.code("state", "updated") == 2
    assert {column.name for column in candles.columns} == {*candles._arrays}
    with pytest.raises(ValueError, match="read-only"):
        candles["open"][0] = 1
    with pytest.raises(KeyError):
        candles.categories("open")
    with pytest.raises(KeyError):
        candles["ask"]


# -- growing -----------------------------------------------------------------------------


def test_states() -> None:
    """A candle is provisional until trades are seen that are ten seconds younger than its end."""
    frame = make_frame(make_trade(0))
    candles = follow(frame)
    assert states(candles) == ["provisional"]
    extend(frame, make_trade(69.9, symbol="MSFT"))
    assert states(candles) == ["provisional", "provisional"]
    extend(frame, make_trade(59, 11))
    assert states(candles) == ["provisional", "provisional"]
    extend(frame, make_trade(70, symbol="MSFT"))
    assert states(candles) == ["final", "provisional"]
    extend(frame, make_trade(58, 12))
    assert states(candles) == ["updated", "provisional"]
    assert table(candles.read())[0] == ("AAPL", 0, 10, 12, 10, 12, 300, 3, 11)


def test_a_late_trade_that_counts_in_nothing() -> None:
    """It does not update a final candle; a candle that only comes late is an updated one."""
    frame = make_frame(make_trade(0), make_trade(200))
    candles = follow(frame, late_s=0)
    extend(frame, make_trade(1, 99, 100, "@M"), make_trade(2, 99, 0))
    assert states(candles) == ["final", "provisional"]
    extend(frame, make_trade(70))
    assert states(candles) == ["final", "updated", "provisional"]


def test_what_changed() -> None:
    """Each look gives what came, grew, or became final since the last, and no more."""
    frame = make_frame(make_trade(0), make_trade(1, symbol="MSFT"))
    candles = follow(frame)
    first = candles.changed_since(-1)
    assert (len(first), len(candles.changed_since(first.version))) == (2, 0)
    extend(frame, make_trade(5, 11))
    second = candles.changed_since(first.version)
    assert table(second, state=True) == [("AAPL", 0, 10, 11, 10, 11, 200, 2, 10.5, "provisional")]
    extend(frame, make_trade(75, symbol="TSLA"))
    third = candles.changed_since(second.version)
    assert [(row[0], row[-1]) for row in table(third, state=True)] == [
        ("AAPL", "final"), ("MSFT", "final"), ("TSLA", "provisional"),
    ]  # fmt: skip
    assert len(candles.changed_since(third.version)) == 0
    frame.amend([cancel(make_trade(0))], received_ns=OPEN)
    assert len(candles.changed_since(third.version)) == 0


def test_amendments() -> None:
    """What is cancelled does not count, what is corrected counts with its right values."""
    trades = [make_trade(0, 10), make_trade(1, 15, 300), make_trade(2, 11), make_trade(90, 12)]
    frame = make_frame(*trades)
    candles = follow(frame)
    before = candles.read()
    frame.amend([cancel(trades[1])], received_ns=OPEN)
    changed = candles.changed_since(before.version)
    assert table(changed, state=True) == [("AAPL", 0, 10, 11, 10, 11, 200, 2, 10.5, "updated")]
    frame.amend([correct(trades[2], 9, 50)], received_ns=OPEN)
    extend(frame, make_trade(91, 13))
    assert table(candles.read(), state=True) == [
        ("AAPL", 0, 10, 10, 9, 9, 150, 2, 9.666667, "updated"),
        ("AAPL", 60, 12, 13, 12, 13, 200, 2, 12.5, "provisional"),
    ]
    assert candles.read().epoch == before.epoch


def test_a_candle_that_is_no_more() -> None:
    """A candle whose only trade is cancelled is gone, and the epoch tells those who showed it."""
    trade = make_trade(0)
    frame = make_frame(trade, make_trade(60))
    candles = follow(frame)
    before = candles.read()
    frame.amend([cancel(trade)], received_ns=OPEN)
    after = candles.changed_since(before.version)
    assert after.epoch != before.epoch
    assert [row[1] for row in table(candles.read())] == [60]
    extend(frame, make_trade(3, 12))
    assert [row[1] for row in table(candles.read())] == [0, 60]


def test_history() -> None:
    """Rows that fill a gap change the candles they belong to, and no other."""
    frame = make_frame(make_trade(0, 10), make_trade(200, 10))
    candles = follow(frame)
    version = candles.read().version
    frame.fill([make_trade(30, 12), make_trade(100, 11)], received_ns=OPEN)
    assert table(candles.changed_since(version), state=True) == [
        ("AAPL", 0, 10, 12, 10, 12, 200, 2, 11, "updated"),
        ("AAPL", 60, 11, 11, 11, 11, 100, 1, 11, "updated"),
    ]
    frame.fill([make_trade(40, 9, symbol="MSFT")], received_ns=OPEN)
    assert_same(table(candles.read()), table(candles_of(frame.snapshot(), "1min")))


def test_a_frame_that_drops_its_trades() -> None:
    """Candles outlive their trades, and what is left of these can still be corrected."""
    trades = [make_trade(i, 10 + i) for i in range(8)]
    frame = make_frame(*trades[:4], maxlen=4)
    candles = follow(frame)
    assert len(candles) == 1
    extend(frame, *trades[4:7])
    assert table(candles.read()) == [("AAPL", 0, 10, 16, 10, 16, 700, 7, 13)]
    frame.amend([cancel(trades[6]), correct(trades[4], 5, 100)], received_ns=OPEN)
    assert table(candles.read()) == [("AAPL", 0, 10, 15, 5, 15, 600, 6, 11.0)]
    extend(frame, trades[7])
    assert table(candles.read())[0][2:8] == (10, 17, 5, 17, 700, 7)
    assert candles.missed == 0


def test_trades_that_nobody_counted() -> None:
    """Trades that were dropped before anybody looked are counted as missed."""
    frame = make_frame(*(make_trade(i) for i in range(10)), maxlen=4)
    candles = follow(frame)
    assert candles.read().missed == candles.missed == 6
    extend(frame, *(make_trade(i) for i in range(10, 20)))
    assert table(candles.read())[0][6:8] == (800, 8)
    assert candles.missed == 12
    # The same, and rows changed meanwhile.
    more = [make_trade(i) for i in range(20, 30)]
    extend(frame, *more)
    frame.amend([cancel(more[-1])], received_ns=OPEN)
    assert table(candles.read())[0][6:8] == (1_100, 11)
    assert candles.missed == 18


def test_a_frame_that_is_cleared() -> None:
    """Candles of before are gone, and codes mean what they mean now."""
    frame = make_frame(make_trade(0, symbol="A"), make_trade(1, symbol="B"))
    candles = follow(frame)
    before = candles.read()
    frame.clear()
    assert len(candles.read()) == 0
    extend(frame, make_trade(2, symbol="B"))
    after = candles.changed_since(-1)
    assert after.epoch != before.epoch
    assert [row[0] for row in table(after)] == ["B"]


def test_snapshots_of_before() -> None:
    """Rows that were counted already, handed in again or in another order, change nothing."""
    frame = make_frame(make_trade(0))
    old = frame.snapshot()
    extend(frame, make_trade(1))
    candles = LiveCandles("1min")
    for rows in (frame.snapshot(), old, frame.snapshot()):
        candles.update(rows)
    version = candles.read().version
    frame.amend([cancel(make_trade(0)), cancel(make_trade(2))], received_ns=OPEN)
    candles.update(frame.snapshot())
    candles.update(old)
    assert table(candles.read())[0][6:8] == (200, 2)
    assert len(candles.changed_since(version)) == 0


def test_few_candles_are_kept() -> None:
    """The newest are kept; trades for those that were dropped bring none of them back."""
    frame = make_frame(*(make_trade(i) for i in range(5_000)))
    candles = follow(frame, "1s", maxlen=100)
    assert [row[1] for row in table(candles.read())] == list(range(4_900, 5_000))
    extend(frame, make_trade(3, 99), make_trade(4_950, 99), make_trade(5_000, 9))
    rows = table(candles.read(), state=True)
    assert [row[1] for row in rows] == list(range(4_901, 5_001))
    assert [(row[1], row[3], row[-1]) for row in rows if row[3] == 99] == [(4_950, 99, "updated")]
    for start in range(5_001, 9_000, 500):
        extend(frame, *(make_trade(i) for i in range(start, start + 500)))
        assert len(candles) == 100
    assert states(candles)[-12:] == ["final"] + ["provisional"] * 11
    frame.fill([make_trade(2.5, 77), make_trade(8_990.5, 77)], received_ns=OPEN)
    assert [row[1] for row in table(candles.read()) if row[3] == 77] == [8_990]


def test_time_stamps_that_are_far_off() -> None:
    """A time stamp of zero or of another century costs no other candle."""
    frame = make_frame(make_trade(0), make_trade(0, timestamp=0), make_trade(1, 11))
    candles = follow(frame)
    extend(frame, make_trade(0, timestamp=time_ns("2190-01-01T00:00:00Z")), make_trade(2, 12))
    assert table(candles.read())[1] == ("AAPL", 0, 10, 12, 10, 12, 300, 3, 11)
    assert states(candles) == ["updated", "updated", "provisional"]
    assert_same(table(candles.read()), table(candles_of(frame.snapshot(), "1min")))


def test_any_thread_may_read() -> None:
    """Readers on several threads see every trade once, while a frame grows."""
    frame = make_frame()
    candles = follow(frame, "1s")
    problems: list[str] = []
    done = threading.Event()

    def read() -> None:
        version = -1
        while not done.is_set():
            changed = candles.changed_since(version)
            version = changed.version
            now = candles.read()
            if (now["volume"] != 100 * now["trade_count"]).any():
                problems.append("torn")

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for start in range(0, 4_000, 20):
        extend(frame, *(make_trade(i / 40) for i in range(start, start + 20)))
    done.set()
    for thread in threads:
        thread.join()
    assert problems == []
    assert table(candles.read()) == table(candles_of(frame.snapshot(), "1s"))


# -- what cannot be used -----------------------------------------------------------------


@pytest.mark.parametrize("interval", ["0min", "2d", 60, None, dt.timedelta(0), "ten"])
def test_intervals_are_checked(interval: Any) -> None:
    """What is no interval is refused, at once and with what is allowed."""
    with pytest.raises(BadInputError, match="from 1 s to 1 d"):
        LiveCandles(interval)
    with pytest.raises(BadInputError, match="from 1 s to 1 d"):
        candles_of(make_frame().snapshot(), interval)


def test_options_are_checked() -> None:
    """So are the other arguments."""
    for late_s in (-1, float("nan"), "10", True):
        with pytest.raises(BadInputError, match="late_s is a number of seconds"):
            LiveCandles("1min", late_s=late_s)  # type: ignore[arg-type]
    for maxlen in (0, -1, 1.5, True):
        with pytest.raises(BadInputError, match="maxlen is how many candles"):
            LiveCandles("1min", maxlen=maxlen)  # type: ignore[arg-type]
    assert repr(LiveCandles("1min", late_s=float("inf"), session="regular")) == (
        "LiveCandles(60 s, regular session)"
    )
    assert bool(LiveCandles("1min")) is True
    assert len(LiveCandles("1min")) == 0


def test_only_trades_make_candles() -> None:
    """Rows of another channel are refused when the candles are asked for, not later."""
    quotes = LiveFrame("quotes", "*")
    quotes.extend([Quote(symbol="A", bid_price=1, ask_price=2, timestamp=OPEN)], received_ns=OPEN)
    for ask in (
        lambda: follow(quotes),
        lambda: LiveCandles("1min").update(quotes.snapshot()),
        lambda: candles_of(quotes.snapshot(), "1min"),
        lambda: candles_of(quotes.df, "1min"),
    ):
        with pytest.raises(BadInputError, match="These are no trades: there is no price, size"):
            ask()


# -- three ways, one result --------------------------------------------------------------

TRADES = st.builds(
    lambda *args: args,
    st.integers(0, 300),
    st.integers(1, 40).map(float) | st.sampled_from([0.0, -1.0, float("nan")]),
    st.integers(1, 500) | st.just(0),
    st.sampled_from(["@", "@I", "@M", "@T", "@4", "@F", "", "@9", "@FT"]),
    st.sampled_from("ABC"),
)
INTERVALS = st.sampled_from([1, 5, 60, 3_900])


@settings(max_examples=150, deadline=None)
@given(st.lists(TRADES, max_size=80), st.data(), INTERVALS)
def test_three_ways_give_the_same(
    values: list[tuple[Any, ...]], data: st.DataObject, interval_s: int
) -> None:
    """Vectorised, grown in random pieces with late rows and amendments, and one by one."""
    trades = [make_trade(*each) for each in values]
    frame, rest = make_frame(), list(trades)
    candles = follow(frame, f"{interval_s}s")
    sent: list[Trade[int]] = []
    while rest:
        count = data.draw(st.integers(1, len(rest)), label="rows")
        some, rest = rest[:count], rest[count:]
        if data.draw(st.booleans(), label="fills a gap"):
            frame.fill(sorted(some, key=lambda trade: trade.timestamp), received_ns=OPEN)
        else:
            extend(frame, *some)
        sent += some
        if data.draw(st.booleans(), label="amended"):
            trade = data.draw(st.sampled_from(sent), label="which")
            to = data.draw(st.sampled_from([None, 3.0, 55.0]), label="corrected to")
            amendment = cancel(trade) if to is None else correct(trade, to, 77)
            frame.amend([amendment], received_ns=OPEN)
        if data.draw(st.booleans(), label="read"):
            candles.read()
    at_once = table(candles_of(frame.snapshot(), f"{interval_s}s"))
    assert_same(table(candles.read()), at_once)
    assert_same(at_once, one_by_one(standing(frame), interval_s))


def standing(frame: LiveFrame) -> list[Trade[int]]:
    """The trades of a frame that count, in the order of its rows."""
    df = frame.df.reset_index().astype({"timestamp": "int64"})
    return [
        Trade(
            symbol=row.symbol,
            price=row.price,
            size=row.size,
            conditions=row.conditions.split(","),
            tape=row.tape,
            timestamp=row.timestamp,
        )
        for row in df.itertuples()
        if row.amended not in VOID
    ]


@settings(max_examples=100, deadline=None)
@given(st.lists(TRADES, max_size=60), st.data(), st.sampled_from([0.0, 10.0]))
def test_states_do_not_depend_on_who_looks(
    values: list[tuple[Any, ...]], data: st.DataObject, late_s: float
) -> None:
    """However often candles are read while a frame grows, they end in the same states."""
    frame, rest = make_frame(), [make_trade(*each) for each in values]
    candles = follow(frame, "5s", late_s=late_s)
    told: dict[Row, Row] = {}
    version = -1
    while rest:
        count = data.draw(st.integers(1, len(rest)))
        extend(frame, *rest[:count])
        rest = rest[count:]
        changed = candles.changed_since(version)
        version = changed.version
        told |= {row[:2]: row for row in table(changed, state=True)}
    at_once = table(candles_of(frame.snapshot(), "5s", late_s=late_s), state=True)
    assert table(candles.read(), state=True) == at_once
    assert sorted(told.values(), key=lambda row: (row[1], row[0])) == at_once


@settings(max_examples=100, deadline=None)
@given(st.lists(TRADES, max_size=80), st.data(), INTERVALS)
def test_what_a_frame_dropped_stays_counted(
    values: list[tuple[Any, ...]], data: st.DataObject, interval_s: int
) -> None:
    """A frame of few rows and one of many give the same, if they are read in time."""
    small, large = make_frame(maxlen=20), make_frame()
    candles = follow(small, f"{interval_s}s")
    rest = [make_trade(*each) for each in values]
    held: list[Trade[int]] = []
    while rest:
        count = data.draw(st.integers(1, 15), label="rows")
        for frame in (small, large):
            extend(frame, *rest[:count])
        held, rest = [*held, *rest[:count]][-20:], rest[count:]
        if data.draw(st.booleans(), label="read in between"):
            candles.read()
            if data.draw(st.booleans(), label="amended"):
                trade = data.draw(st.sampled_from(held), label="which")
                for frame in (small, large):
                    frame.amend([cancel(trade)], received_ns=OPEN)
        else:
            candles.read()
    assert candles.missed == 0
    assert_same(table(candles.read()), table(candles_of(large.snapshot(), f"{interval_s}s")))


def test_rows_seen_twice_by_numpy() -> None:
    """Nothing that was handed out changes when the candles grow."""
    frame = make_frame(make_trade(0))
    candles = follow(frame)
    before = candles.read()
    kept = {column.name: before[column.name].copy() for column in COLUMNS}
    extend(frame, make_trade(1, 99), make_trade(60))
    assert len(candles) == 2
    assert all(np.array_equal(before[name], values) for name, values in kept.items())
