"""Spreads, volume-weighted prices and signs of trades, against plain Python."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpaca_nb.data import measures
from alpaca_nb.data.candles import CandleBuilder, sale_rule
from alpaca_nb.data.frame import LiveFrame
from alpaca_nb.data.measures import RollingVwap, RunningVwap, TradeSigns
from alpaca_nb.errors import BadInputError
from alpaca_nb.wire.codec import time_ns
from alpaca_nb.wire.messages import CancelError, Quote, Trade

SECOND = 1_000_000_000
OPEN = time_ns("2026-09-21T13:30:00Z")
NAN = float("nan")


def make_quote(at_s: float, bid: float, ask: float, symbol: str = "A", **sizes: int) -> Quote[int]:
    return Quote(
        symbol=symbol,
        bid_price=bid,
        ask_price=ask,
        bid_size=sizes.get("bid_size", 100),
        ask_size=sizes.get("ask_size", 300),
        timestamp=OPEN + round(at_s * SECOND),
    )


def make_trade(
    at_s: float,
    price: float,
    size: int = 100,
    conditions: str = "@",
    symbol: str = "A",
    **changes: Any,
) -> Trade[int]:
    values: dict[str, Any] = {
        "symbol": symbol,
        "trade_id": int(abs(at_s) * 1_000),
        "price": price,
        "size": size,
        "conditions": list(conditions),
        "tape": "C",
        "timestamp": OPEN + round(at_s * SECOND),
    }
    return Trade(**values | changes)


def frame_of(channel: str, messages: Any) -> LiveFrame:
    frame = LiveFrame(channel, "*")
    frame.extend(list(messages), received_ns=OPEN)
    return frame


def quotes_of(*quotes: Quote[int]) -> LiveFrame:
    return frame_of("quotes", quotes)


def trades_of(*trades: Trade[int]) -> LiveFrame:
    return frame_of("trades", trades)


def approx(values: Any) -> Any:
    return pytest.approx(values, nan_ok=True)


# -- quotes ------------------------------------------------------------------------------

QUOTE_MEASURES = [
    (measures.spread, 0.04),
    (measures.mid, 10.02),
    (measures.spread_bps, 39.92015968),
    (measures.imbalance, -0.5),
    (measures.microprice, 10.01),
]


@pytest.mark.parametrize(("measure", "expected"), QUOTE_MEASURES, ids=lambda it: str(it))
def test_quotes(measure: Any, expected: float) -> None:
    """Each measure is what its name says, of a DataFrame, a snapshot and plain arrays."""
    frame = quotes_of(make_quote(0, 10, 10.04))
    arrays = {"bid_price": [10], "ask_price": [10.04], "bid_size": [100], "ask_size": [300]}
    series = measure(frame.df)
    assert isinstance(series, pd.Series)
    assert (series.name, series.index.equals(frame.df.index)) == (measure.__name__, True)
    assert series.tolist() == approx([expected])
    assert measure(frame.snapshot()).tolist() == measure(arrays).tolist() == approx([expected])
    assert measure.__doc__


@pytest.mark.parametrize("measure", [measure for measure, _ in QUOTE_MEASURES])
@pytest.mark.parametrize(
    ("bid", "ask"), [(0, 10), (10, 0), (0, 0), (NAN, 10), (10, math.inf), (-1, 10)]
)
def test_one_sided_quotes(measure: Any, bid: float, ask: float) -> None:
    """Where a side is missing or is no price, there is no value."""
    frame = quotes_of(make_quote(0, bid, ask), make_quote(1, 10, 11))
    assert np.isnan(measure(frame.snapshot())).tolist() == [True, False]


def test_quotes_without_sizes() -> None:
    """Without any size there is no imbalance and no microprice; a crossed spread is negative."""
    frame = quotes_of(make_quote(0, 10, 9.5, bid_size=0, ask_size=0))
    assert measures.imbalance(frame.df).isna().all()
    assert measures.microprice(frame.df).isna().all()
    assert measures.spread(frame.df).tolist() == [-0.5]
    assert measures.spread(LiveFrame("quotes", "*").df).tolist() == []


@pytest.mark.parametrize("rows", [{}, {"bid_price": [1]}, None, "quotes", pd.DataFrame({"a": [1]})])
def test_what_are_no_quotes(rows: Any) -> None:
    """Anything without both sides is refused, with what is needed."""
    with pytest.raises(BadInputError, match="Quotes have the columns bid_price, ask_price"):
        measures.mid(rows)


# -- volume-weighted prices --------------------------------------------------------------


def test_rolling_vwap() -> None:
    """The window ends with the trade and leaves out what is as old as the window."""
    frame = trades_of(
        make_trade(0, 10), make_trade(30, 20), make_trade(60, 30, 200), make_trade(200, 40)
    )
    assert measures.rolling_vwap(frame.df, "1min").tolist() == [10, 15, approx(80 / 3), 40]
    assert measures.rolling_vwap(frame.snapshot(), "1min")[1] == 15


def test_vwap_follows_the_sale_conditions() -> None:
    """An odd lot or official price does not count, nor does a trade that was cancelled."""
    trades = [
        make_trade(0, 99, 100, "@I"), make_trade(1, 10), make_trade(2, 99, 100, "@M"),
        make_trade(3, 50), make_trade(4, NAN), make_trade(5, 20, 0), make_trade(6, math.inf),
    ]  # fmt: skip
    frame = trades_of(*trades)
    frame.amend(
        [CancelError(symbol="A", trade_id=3_000, price=50, size=100, action="C", timestamp=OPEN)],
        received_ns=OPEN,
    )
    for values in (measures.rolling_vwap(frame.df, "1h"), measures.running_vwap(frame.df)):
        assert values.tolist() == approx([NAN, *[10] * 6])


def test_running_vwap_is_that_of_the_daily_bar() -> None:
    """At each trade it is the `vwap` of the daily bar so far, which begins anew each day."""
    trades = [
        make_trade(i * 7_200, 10 + i % 5, 100 + i, "@T" if i % 3 == 0 else "@", "AB"[i % 2])
        for i in range(-4, 40)
    ]
    values = measures.running_vwap(trades_of(*trades).snapshot())
    builder = CandleBuilder()
    for trade, value in zip(trades, values, strict=True):
        builder.add(trade)
        bar = builder.daily_bar(trade.symbol)
        if bar is None:
            assert math.isnan(value)
        else:
            assert bar.vwap == pytest.approx(value, abs=1e-6)


def test_running_vwap_of_a_session() -> None:
    """With a session it begins with it, and trades outside have none; nor have those of before."""
    trades = [
        make_trade(-1, 5), make_trade(0, 10), make_trade(60, 20), make_trade(6.5 * 3600, 9),
        make_trade(86_400, 7), make_trade(70, 8), make_trade(86_401, 9),
    ]  # fmt: skip
    values = measures.running_vwap(trades_of(*trades).df, session="regular")
    assert values.tolist() == approx([NAN, 10, 15, NAN, 7, NAN, 8])


TRADES = st.lists(
    st.builds(
        make_trade,
        st.integers(0, 200),
        st.integers(1, 40).map(float) | st.just(NAN),
        st.integers(0, 500),
        st.sampled_from(["@", "@I", "@M", "@F"]),
        st.sampled_from("ABC"),
    ),
    max_size=60,
)
CUTS = st.lists(st.integers(0, 60), max_size=4)


def pieces(frame: LiveFrame, cuts: list[int]) -> list[pd.DataFrame]:
    edges = [0, *sorted(min(cut, len(frame)) for cut in cuts), len(frame)]
    return [frame.df.iloc[a:b] for a, b in itertools.pairwise(edges)]


@settings(max_examples=80, deadline=None)
@given(TRADES, CUTS, st.sampled_from([1, 5, 60]))
def test_vwap_in_pieces(trades: list[Trade[int]], cuts: list[int], window_s: int) -> None:
    """At once, in pieces and by plain sums: the same, also where time goes backwards."""
    frame = trades_of(*({trade.trade_id: trade for trade in trades}).values())
    rolling, running = RollingVwap(f"{window_s}s"), RunningVwap()
    parts = [(rolling.update(some), running.update(some)) for some in pieces(frame, cuts)]
    at_once = measures.rolling_vwap(frame.snapshot(), f"{window_s}s")
    assert np.concatenate([part for part, _ in parts]) == approx(at_once)
    assert np.concatenate([part for _, part in parts]) == approx(
        measures.running_vwap(frame.snapshot())
    )
    assert at_once == approx(plain_rolling_vwap(frame, window_s))


def plain_rolling_vwap(frame: LiveFrame, window_s: int) -> list[float]:
    values, seen = [], {}  # type: ignore[var-annotated]
    for row in frame.df.reset_index().itertuples():
        past = seen.setdefault(row.symbol, [])
        at = max([row.timestamp.value, *(time for time, _, _ in past)])
        counts = sale_rule(row.conditions.split(","), row.tape).minute
        size = row.size if counts.high_low and counts.volume and row.price > 0 else 0
        past.append((at, row.price if size else 0.0, size))
        window = [(p, s) for t, p, s in past if t > at - window_s * SECOND]
        total = sum(s for _, s in window)
        values.append(sum(p * s for p, s in window) / total if total else NAN)
    return values


def test_a_long_window_forgets() -> None:
    """What has left the window is not kept, and sums stay exact however much there was."""
    rolling = RollingVwap("1s")
    for start in range(0, 50_000, 1_000):
        trades = trades_of(
            *(make_trade(i / 100, 1e6 + i % 7, 10_000) for i in range(start, start + 1_000))
        )
        values = rolling.update(trades.snapshot())
    assert values[-1] == pytest.approx(np.mean([1e6 + i % 7 for i in range(49_900, 50_000)]))
    assert len(rolling._past["A"].times) < 2_000


@pytest.mark.parametrize("window", ["0s", "2d", 5, None, "soon"])
def test_windows_are_checked(window: Any) -> None:
    """A window is a length from a second to a day."""
    with pytest.raises(BadInputError, match="A window is a whole number of seconds"):
        measures.rolling_vwap(LiveFrame("trades", "*").df, window)


def test_what_are_no_trades() -> None:
    """Rows without prices are refused, whatever is asked of them."""
    quotes = quotes_of(make_quote(0, 1, 2))
    for ask in (
        lambda: measures.rolling_vwap(quotes.df, "1min"),
        lambda: measures.running_vwap(quotes.snapshot()),
        lambda: measures.trade_signs(quotes.df, quotes.df),
    ):
        with pytest.raises(BadInputError, match="These are no trades"):
            ask()
    with pytest.raises(BadInputError, match="These are no quotes: there is no bid_price"):
        measures.trade_signs(trades_of(make_trade(0, 1)).df, trades_of(make_trade(0, 1)).df)


# -- signs -------------------------------------------------------------------------------


def test_the_quote_rule() -> None:
    """Above the mid is bought, below is sold, in the spread and outside it."""
    quotes = quotes_of(make_quote(0, 10, 11))
    prices = [11, 10, 10.6, 10.4, 12, 9]
    trades = trades_of(*(make_trade(1 + i, price) for i, price in enumerate(prices)))
    signs = measures.trade_signs(trades.df, quotes.df)
    assert isinstance(signs, pd.Series)
    assert signs.tolist() == [1, -1, 1, -1, 1, -1]
    assert measures.trade_signs(trades.snapshot(), quotes.snapshot()).tolist() == signs.tolist()


def test_the_tick_rule() -> None:
    """At the mid, without a quote or with half of one, the last other price decides."""
    quotes = quotes_of(make_quote(5, 10, 11), make_quote(8, 0, 11))
    trades = trades_of(
        make_trade(0, 10), make_trade(1, 10), make_trade(2, 11), make_trade(3, 11),
        make_trade(4, 10.5), make_trade(6, 10.5), make_trade(7, 10.5), make_trade(9, 10.6),
        make_trade(10, 10.6),
    )  # fmt: skip
    assert measures.trade_signs(trades.df, quotes.df).tolist() == [0, 0, 1, 1, -1, -1, -1, 1, 1]


def test_the_quote_then_standing() -> None:
    """It is the last that is older than the trade, of its symbol, wherever the rows stand."""
    quotes = quotes_of(make_quote(5, 20, 21), make_quote(1, 10, 11), make_quote(1, 1, 2, "B"))
    trades = trades_of(
        make_trade(5, 11), make_trade(5.001, 20), make_trade(6, 2, symbol="B"), make_trade(1, 11)
    )
    assert measures.trade_signs(trades.df, quotes.df).tolist() == [1, -1, 1, -1]


def test_what_has_no_sign() -> None:
    """A price that is none has no sign and does not disturb the others."""
    trades = trades_of(
        make_trade(0, 10), make_trade(1, NAN), make_trade(2, 0), make_trade(3, 10), make_trade(4, 9)
    )
    nothing = LiveFrame("quotes", "*")
    assert measures.trade_signs(trades.df, nothing.df).tolist() == [0, 0, 0, 0, -1]
    assert measures.trade_signs(LiveFrame("trades", "*").df, nothing.df).tolist() == []


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 6), st.sampled_from("AB"), st.integers(0, 5)), max_size=60),
    CUTS,
)
def test_signs_in_pieces(steps: list[tuple[int, str, int]], cuts: list[int]) -> None:
    """Quotes and trades that come in pieces give the signs of all at once, and of plain Python."""
    quotes, trades, expected = [], [], []
    standing: dict[str, float] = {}
    last: dict[str, tuple[float, int]] = {}
    for i, (price, symbol, half) in enumerate(steps):
        if i % 2:
            quotes.append(make_quote(i, price, price + half, symbol))
            standing[symbol] = price + half / 2
            continue
        trades.append(make_trade(i, price, symbol=symbol))
        before, sign = last.get(symbol, (price, 0))
        sign = int(np.sign(price - before)) or sign
        last[symbol] = price, sign
        by_quote = np.sign(price - standing[symbol]) if symbol in standing else 0
        expected.append(int(by_quote) or sign)
    all_trades, all_quotes = trades_of(*trades), quotes_of(*quotes)
    assert measures.trade_signs(all_trades.df, all_quotes.df).tolist() == expected
    signs, told, at = TradeSigns(keep_s=0), [], -1
    for some in pieces(all_trades, cuts):
        until = int(some.index[-1].value) if len(some) else at
        index = all_quotes.df.index.as_unit("ns").asi8
        told += signs.update(some, all_quotes.df[(index > at) & (index <= until)]).tolist()
        at = until
    assert told == expected


def test_quotes_are_kept_for_a_while() -> None:
    """A late trade finds its quote within `keep_s`, and the tick rule after that."""
    quotes = [make_quote(i, 10 + i, 11 + i) for i in range(100)]
    signs = TradeSigns(keep_s=10)
    signs.update(trades_of(make_trade(100, 500)).df, quotes_of(*quotes).df)
    late = trades_of(make_trade(95.5, 105.9), make_trade(5.5, 15.1)).df
    nothing = LiveFrame("quotes", "*").df
    assert signs.update(late, nothing).tolist() == [1, -1]
    for keep_s in (-1, NAN, "60", 1e9):
        with pytest.raises(BadInputError, match="keep_s is a number of seconds"):
            TradeSigns(keep_s=keep_s)  # type: ignore[arg-type]


# -- rows --------------------------------------------------------------------------------


def test_dataframes_that_were_worked_on() -> None:
    """Rows may be selected, and texts be plain or missing; times may have lost their zone."""
    frame = trades_of(make_trade(0, 10), make_trade(1, 20, symbol="B"), make_trade(2, 30))
    df = frame.df[frame.df["symbol"] == "A"].astype({"symbol": "str", "conditions": "object"})
    df.loc[df.index[0], "conditions"] = None
    df.index = df.index.tz_convert("UTC").tz_localize(None).as_unit("us")
    assert measures.rolling_vwap(df, "1min").tolist() == [10, 20]


@pytest.mark.realdata
def test_a_real_day(real_data: Path) -> None:
    """Quotes before a trade explain it better than those of its own millisecond do."""
    parquet = pytest.importorskip("pyarrow.parquet")
    file = real_data / "lean_ticks_20131007.parquet"
    columns = ["T", "S", "t", "p", "bp", "ap"]
    rows = parquet.read_table(file, columns=columns, filters=[("S", "=", "IBM")]).to_pandas()
    quotes, trades = rows[rows["T"] == "q"], rows[rows["T"] == "t"]
    times = quotes["t"].astype("int64").to_numpy()
    at_touch = {}
    for side in ("left", "right"):
        at = np.searchsorted(times, trades["t"].astype("int64").to_numpy(), side=side) - 1
        known, at = at >= 0, np.maximum(at, 0)
        prices = trades["p"].to_numpy()
        bid, ask = quotes["bp"].to_numpy()[at], quotes["ap"].to_numpy()[at]
        at_touch[side] = float((known & ((prices == bid) | (prices == ask))).mean())
    assert at_touch == pytest.approx({"left": 0.67, "right": 0.50}, abs=0.01)
