"""The live chart: what it tells the page, and what it refuses."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import ipywidgets
import numpy as np
import pytest

from alpaca_nb.data.frame import LiveFrame
from alpaca_nb.errors import BadInputError, UnknownChannelError
from alpaca_nb.view.bokeh_runtime import bokeh_runtime
from alpaca_nb.view.chart import LiveChart
from alpaca_nb.view.delta import Delta
from alpaca_nb.view.publisher import Publisher
from alpaca_nb.wire.messages import CancelError, Quote, Trade

OPEN_NS = 1_790_170_200_000_000_000


def quotes_frame(symbols: object = ("AAPL", "MSFT")) -> LiveFrame:
    """An empty frame of quotes."""
    return LiveFrame("quotes", symbols)  # type: ignore[arg-type]


def add(frame: LiveFrame, symbol: str, *bids: float) -> None:
    """Append quotes of one symbol with these bids, a second apart."""
    start = frame.position
    messages = [
        Quote(
            symbol=symbol,
            bid_price=bid,
            bid_size=100,
            ask_price=bid + 0.02,
            ask_size=200,
            timestamp=OPEN_NS + (start + i) * 10**9,
        )
        for i, bid in enumerate(bids)
    ]
    frame.extend(messages, received_ns=OPEN_NS)


def chart_of(frame: LiveFrame, **options: Any) -> LiveChart:
    """A chart that no frame clock serves."""
    return LiveChart(frame, publisher=Publisher(threaded=False), **options)


def bids(message: Delta | None) -> list[float]:
    """The bids that a message carries."""
    assert message is not None
    (offset,) = [
        column["offset"] for column in message.header["columns"] if column["name"] == "bid_price"
    ]
    return np.frombuffer(message.buffer, "<f8", message.rows, offset).tolist()


def amended(message: Delta) -> list[str]:
    """The words of the column `amended` that a message carries."""
    (offset,) = [
        column["offset"] for column in message.header["columns"] if column["name"] == "amended"
    ]
    codes = np.frombuffer(message.buffer, "<i4", message.rows, offset)
    names = message.header["categories"]["amended"]["names"]
    return [names[code] for code in codes]


# -- what the page is told ---------------------------------------------------------------


def test_a_snapshot_holds_the_rows_of_the_symbol_only() -> None:
    """A page that shows AAPL is not sent MSFT, and only the columns that are drawn."""
    frame = quotes_frame()
    add(frame, "AAPL", 10.0)
    add(frame, "MSFT", 400.0)
    add(frame, "AAPL", 10.5)
    message = chart_of(frame).collect(None)
    assert message is not None
    assert message.kind == "snapshot"
    assert message.header["symbol"] == "AAPL"
    assert bids(message) == [10.0, 10.5]
    assert {column["name"] for column in message.header["columns"]} == {
        "timestamp",
        "bid_price",
        "bid_size",
        "ask_price",
        "ask_size",
    }


def test_a_cancelled_trade_is_told_as_one_that_does_not_count() -> None:
    """The page draws neither its price nor its size, and is told of it without asking."""
    frame = LiveFrame("trades", ["AAPL"])
    chart = chart_of(frame)
    trade = Trade(symbol="AAPL", price=999.0, size=100, trade_id=7, exchange="V", timestamp=OPEN_NS)
    frame.extend([trade], received_ns=OPEN_NS)
    first = chart.collect(None)
    assert first is not None
    assert amended(first) == [""]
    cancelled = CancelError(
        symbol="AAPL", price=999.0, size=100, trade_id=7, exchange="V", action="C",
        timestamp=OPEN_NS,
    )  # fmt: skip
    frame.amend([cancelled], received_ns=OPEN_NS)
    second = chart.collect(first.cursor)
    assert second is not None
    assert (second.kind, amended(second)) == ("snapshot", ["canceled"])


def test_a_delta_goes_on_where_the_last_message_ended() -> None:
    """Each row is told once, and nothing is told when only other symbols moved."""
    frame = quotes_frame()
    chart = chart_of(frame)
    add(frame, "AAPL", 10.0)
    first = chart.collect(None)
    assert first is not None
    add(frame, "MSFT", 400.0, 401.0)
    assert chart.collect(first.cursor) is None
    add(frame, "AAPL", 10.5)
    second = chart.collect(first.cursor)
    assert second is not None
    assert second.kind == "delta"
    assert bids(second) == [10.5]
    assert chart.collect(second.cursor) is None


def test_rows_of_other_symbols_are_not_counted_as_left_out() -> None:
    """The badge counts what the chart missed, not what it does not show."""
    frame = quotes_frame()
    add(frame, "AAPL", 10.0)
    add(frame, "MSFT", *[400.0] * 50)
    message = chart_of(frame).collect(None)
    assert message is not None
    assert message.skipped == 0


def test_only_the_newest_rows_that_fit_are_sent_and_the_others_counted() -> None:
    """A chart never gets more than it can hold."""
    frame = quotes_frame()
    chart = chart_of(frame)
    chart.capacity = 3
    add(frame, "AAPL", 1.0)
    first = chart.collect(None)
    assert first is not None
    add(frame, "AAPL", 2.0, 3.0, 4.0, 5.0, 6.0)
    message = chart.collect(first.cursor)
    assert bids(message) == [4.0, 5.0, 6.0]
    assert message is not None
    assert message.skipped == 2


def test_another_symbol_begins_with_a_snapshot() -> None:
    """Choosing a symbol shows all there is of it, also when nothing new arrives."""
    frame = quotes_frame()
    chart = chart_of(frame)
    add(frame, "AAPL", 10.0)
    add(frame, "MSFT", 400.0, 401.0)
    first = chart.collect(None)
    assert first is not None
    chart.symbol = "MSFT"
    second = chart.collect(first.cursor)
    assert second is not None
    assert second.kind == "snapshot"
    assert second.header["symbol"] == "MSFT"
    assert bids(second) == [400.0, 401.0]
    assert chart.title == "MSFT quotes"


def test_a_cleared_frame_empties_the_chart() -> None:
    """An epoch that ended leaves nothing of itself on the screen."""
    frame = quotes_frame()
    chart = chart_of(frame)
    add(frame, "AAPL", 10.0)
    first = chart.collect(None)
    assert first is not None
    frame.clear()
    second = chart.collect(first.cursor)
    assert second is not None
    assert (second.kind, second.rows) == ("snapshot", 0)


def test_an_empty_frame_can_be_charted() -> None:
    """A chart may be there before its first row."""
    message = chart_of(quotes_frame()).collect(None)
    assert message is not None
    assert message.rows == 0


# -- figure and state --------------------------------------------------------------------


def test_a_change_of_the_figure_is_there_when_it_is_displayed_next() -> None:
    """The figure is the user's to change; displaying describes it anew."""
    chart = chart_of(quotes_frame())
    chart.figure.title.text = "Mine"
    assert "Mine" not in str(chart.spec)
    chart._repr_mimebundle_()
    assert "Mine" in str(chart.spec)


def test_displaying_again_describes_the_same() -> None:
    """An unchanged figure is not drawn anew in the pages that show it."""
    chart = chart_of(quotes_frame())
    chart._repr_mimebundle_()
    before = chart.spec
    chart._repr_mimebundle_()
    assert chart.spec == before


def test_charts_share_one_carrier_and_weigh_little() -> None:
    """A further chart costs a saved notebook less than 50 kB beside its module."""
    first, second = chart_of(quotes_frame()), chart_of(quotes_frame())
    assert first.bokeh is second.bokeh is bokeh_runtime()
    state = second.get_state()
    state.pop("_esm")
    assert state["bokeh"] == f"anywidget:{bokeh_runtime().model_id}"
    assert len(str(state)) < 50_000


def test_a_chart_made_after_close_all_has_a_carrier_that_is_alive() -> None:
    """Closing every widget of the kernel does not end charts for good."""
    chart_of(quotes_frame())
    ipywidgets.Widget.close_all()
    assert chart_of(quotes_frame()).bokeh.comm is not None


def test_its_text_is_the_same_in_every_run() -> None:
    """Stored outputs can be compared: no address, no count."""
    bundle = chart_of(quotes_frame())._repr_mimebundle_()
    assert bundle is not None
    assert bundle[0]["text/plain"] == "LiveChart(AAPL quotes)"


# -- choices -----------------------------------------------------------------------------


def test_the_symbol_given_comes_first_and_the_others_can_be_chosen() -> None:
    """`symbol` says where to begin; `symbols` also what there is to choose."""
    frame = quotes_frame(("AAPL", "MSFT", "NVDA"))
    assert chart_of(frame).choices == ["AAPL", "MSFT", "NVDA"]
    assert chart_of(frame, symbol="nvda").choices == ["NVDA", "AAPL", "MSFT"]
    assert chart_of(frame, symbols=["NVDA", "MSFT"]).choices == ["NVDA", "MSFT"]
    assert chart_of(quotes_frame("*"), symbol="TSLA").symbol == "TSLA"


@pytest.mark.parametrize(
    ("window", "milliseconds"),
    [(None, 300_000), (90, 90_000), ("10min", 600_000), (timedelta(hours=1), 3_600_000)],
)
def test_a_window_is_seconds_text_or_a_timedelta(window: Any, milliseconds: float) -> None:
    """Whichever is given, the page gets milliseconds."""
    assert chart_of(quotes_frame(), window=window).window_ms == milliseconds


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"symbol": "TSLA"}, "AAPL, MSFT"),
        ({"symbols": ["AAPL", "TSLA"]}, "TSLA is not among"),
        ({"symbol": "*"}, "by name"),
        ({"symbol": "AAPL", "symbols": ["AAPL"]}, "not both"),
        ({"window": 0}, "at least one second"),
        ({"window": "soon"}, "'10min'"),
        ({"window": float("nan")}, "at least one second"),
        ({"height": 20}, "120 or more"),
        ({"height": 320.5}, "whole pixels"),
        ({"width": "wide"}, "'stretch'"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_sentence(options: Any, said: str) -> None:
    """The error names what was given, or what is allowed."""
    with pytest.raises(BadInputError, match=said):
        chart_of(quotes_frame(), **options)


def test_a_frame_of_everything_needs_a_symbol() -> None:
    """With "*" there is no first symbol to begin with."""
    with pytest.raises(BadInputError, match="symbol='AAPL'"):
        chart_of(quotes_frame("*"))


def test_a_channel_without_prices_has_no_chart() -> None:
    """The error is ours and says what can be charted."""
    with pytest.raises(BadInputError, match="quotes, trades, bars") as caught:
        chart_of(LiveFrame("statuses", ["AAPL"]))
    assert not isinstance(caught.value, UnknownChannelError)


def test_a_symbol_set_later_is_checked_too() -> None:
    """The page, or a person, cannot choose what the frame does not receive."""
    chart = chart_of(quotes_frame())
    with pytest.raises(BadInputError, match="TSLA is not among"):
        chart.symbol = "TSLA"
    assert chart.symbol == "AAPL"


def test_symbols_that_join_the_frame_can_be_chosen() -> None:
    """A chart offers what its frame gets later, and keeps its own symbol whatever happens."""
    frame = quotes_frame()
    chart = chart_of(frame, symbol="MSFT")
    frame.symbols = ("AAPL", "TSLA")
    chart.badge()
    assert chart.choices == ["MSFT", "AAPL", "TSLA"]
    assert chart.title == "MSFT quotes"
    fixed = chart_of(frame, symbols=["AAPL"])
    frame.symbols = ("AAPL", "TSLA", "SPY")
    fixed.badge()
    assert fixed.choices == ["AAPL"]
