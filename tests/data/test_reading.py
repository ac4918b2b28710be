"""What a frame hands out beside `df`: the rows of a symbol, Arrow, polars, a Bokeh source."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from bokeh.models import ColumnDataSource

import alpaca_nb.view  # noqa: F401 - teaches frames to be a source
from alpaca_nb.data.frame import LiveFrame
from alpaca_nb.errors import BadInputError
from alpaca_nb.wire.messages import Quote, Trade

NOW = 1_790_000_000_000_000_000


def quotes(*symbols: str, of: Any = ("AAPL", "MSFT"), maxlen: int = 1_000_000) -> LiveFrame:
    """A frame with one quote of each symbol in turn."""
    frame = LiveFrame("quotes", of, maxlen=maxlen)
    frame.extend(
        [
            Quote(symbol=symbol, bid_price=float(i), ask_price=i + 1.0, timestamp=NOW + i)
            for i, symbol in enumerate(symbols)
        ],
        received_ns=NOW,
    )
    return frame


def test_the_rows_of_a_symbol() -> None:
    """`symbol` is `df` without the other symbols: same columns, index, order and types."""
    frame = quotes("AAPL", "MSFT", "AAPL")
    one = frame.symbol("aapl")
    pd.testing.assert_frame_equal(one, frame.df[frame.df["symbol"] == "AAPL"])
    assert str(one.index.dtype) == "datetime64[ns, America/New_York]"


def test_the_index_and_all_rows_agree() -> None:
    """Of more rows than are looked at one by one, the same rows are found."""
    names = [f"S{i % 77}" for i in range(100_000)]
    frame = quotes(*names, of="*", maxlen=90_000)
    for symbol in ("S0", "S76"):
        pd.testing.assert_frame_equal(frame.symbol(symbol), frame.df[frame.df["symbol"] == symbol])
    frame.clear()
    assert len(frame.symbol("S0")) == 0


def test_a_symbol_without_rows() -> None:
    """A symbol that was asked for and has no rows yet is an empty DataFrame, no error."""
    frame = quotes("AAPL")
    assert len(frame.symbol("MSFT")) == 0
    assert list(frame.symbol("MSFT").columns) == list(frame.df.columns)
    assert len(quotes("AAPL", of="*").symbol("TSLA")) == 0


def test_a_symbol_that_the_frame_does_not_have() -> None:
    """Any other symbol is one sentence that names those there are."""
    with pytest.raises(BadInputError, match="not asked for TSLA; it has AAPL, MSFT"):
        quotes("AAPL").symbol("TSLA")


def test_writing_to_it_does_not_reach_the_frame() -> None:
    """The DataFrame of a symbol belongs to the caller."""
    frame = quotes("AAPL", "AAPL")
    one = frame.symbol("AAPL")
    one.loc[:, "bid_price"] = 99.0
    assert frame.df["bid_price"].tolist() == [0.0, 1.0]


def test_arrow_and_polars() -> None:
    """Both are the rows of this moment; Arrow's table says of what."""
    frame = quotes("AAPL", "MSFT")
    table, polars = frame.to_arrow(), frame.to_polars()
    assert table.schema.metadata[b"channel"] == b"quotes"
    assert table["bid_price"].to_pylist() == polars["bid_price"].to_list() == [0.0, 1.0]
    assert np.shares_memory(table["bid_price"].chunks[0].to_numpy(), frame.snapshot()["bid_price"])


def test_candles() -> None:
    """They follow the frame, and know the hours that it was given."""

    def early(date: dt.date) -> tuple[int, int] | None:
        opens = pd.Timestamp(date).tz_localize("America/New_York") + pd.Timedelta("9h30min")
        return opens.value, opens.value + 3_600_000_000_000

    opens = pd.Timestamp("2026-09-21 09:30", tz="America/New_York").value
    frame = LiveFrame("trades", "AAPL", hours=early)
    candles = frame.candles("65min", session="regular")
    assert len(candles.df) == 0
    for minutes in (5, 30, 61):  # the last one comes after the close
        sale = Trade(symbol="AAPL", price=10.0, size=7, timestamp=opens + minutes * 60 * 10**9)
        frame.extend([sale], received_ns=NOW)
    (candle,) = candles.df.itertuples()
    assert (candle.Index.value, candle.volume, candle.trade_count) == (opens, 14, 2)


def test_candles_of_anything_but_trades() -> None:
    """A frame of quotes has none, and says so."""
    with pytest.raises(BadInputError, match="trades"):
        quotes("AAPL").candles("1min")


def test_a_source() -> None:
    """`source` is a Bokeh source of the frame; `refresh` takes in what came since."""
    frame = quotes("AAPL", "MSFT")
    source = frame.source(["bid_price"], symbol="AAPL")
    assert isinstance(source, ColumnDataSource)
    assert list(source.data) == ["timestamp", "bid_price"]
    assert source.data["bid_price"].tolist() == [0.0]


def test_a_source_without_the_magics() -> None:
    """A frame made in Python can be a source; Bokeh is loaded when it is asked for."""
    code = (
        "import sys; from alpaca_nb import LiveFrame\n"
        "frame = LiveFrame('quotes', ['AAPL'])\n"
        "assert 'bokeh' not in sys.modules\n"
        "print(list(frame.source('bid_price', rollover=5).data))\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "['timestamp', 'bid_price']\n"
