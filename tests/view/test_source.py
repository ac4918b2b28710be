"""A frame as a Bokeh source: what a figure holds, and what travels when more rows come."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import numpy as np
import pandas as pd
import pytest
from bokeh.document import Document
from bokeh.document.events import ColumnDataChangedEvent, ColumnsStreamedEvent
from bokeh.embed import json_item
from bokeh.io.notebook import CommsHandle, push_notebook
from bokeh.models import ColumnDataSource, DataTable, TableColumn
from bokeh.plotting import figure

from alpaca_nb.data.frame import LiveFrame
from alpaca_nb.errors import BadInputError
from alpaca_nb.view.source import FrameSource, wall_ms
from alpaca_nb.wire.messages import CHANNELS, CancelError, Quote, Trade

OPEN_NS = 1_790_170_200_000_000_000
"""9:30 in New York on 23 September 2026."""

OPEN_MS = pd.Timestamp("2026-09-23 09:30").value / 1e6


def quotes_frame(*bids: float, maxlen: int = 1_000) -> LiveFrame:
    frame = LiveFrame("quotes", ["AAPL", "MSFT"], maxlen=maxlen)
    add(frame, "AAPL", *bids)
    return frame


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
            conditions=["R"],
            timestamp=OPEN_NS + (start + i) * 10**9,
        )
        for i, bid in enumerate(bids)
    ]
    frame.extend(messages, received_ns=OPEN_NS)


def make_trade(number: int) -> Trade[Any]:
    return Trade(
        symbol="AAPL", trade_id=number, exchange="V", price=1.0, size=10, timestamp=OPEN_NS
    )


class Shown:
    """A source in a figure of a real document, and what goes to the page from now on."""

    def __init__(self, source: FrameSource) -> None:
        self.source = source
        self.document = Document()
        self.events: list[Any] = []
        plot = figure(x_axis_type="datetime")
        plot.line("timestamp", "bid_price", source=source)
        self.document.add_root(plot)
        self.document.on_change(self.events.append)

    def bids_sent(self) -> list[float]:
        """The bids of the one message that has been sent since the last look."""
        (event,) = self.events
        self.events.clear()
        assert isinstance(event, ColumnsStreamedEvent)
        return [float(bid) for bid in event.data["bid_price"]]


def bids(source: ColumnDataSource) -> list[float]:
    return [float(bid) for bid in source.data["bid_price"]]


# -- what it holds -----------------------------------------------------------------------


def test_it_holds_the_rows_of_the_frame() -> None:
    """All columns under the frame's names; numbers as numbers, texts as texts."""
    frame = quotes_frame(10.0, 10.5)
    source = FrameSource(frame)
    assert list(source.data) == [column.name for column in frame.columns]
    assert bids(source) == [10.0, 10.5]
    assert list(source.data["symbol"]) == ["AAPL", "AAPL"]
    assert list(source.data["conditions"]) == ["R", "R"]
    assert list(source.data["source"]) == ["live", "live"]
    assert source.data["bid_size"].dtype == np.float64
    assert (source.frame, source.position, source.symbol) == (frame, 2, None)


@pytest.mark.parametrize("channel", CHANNELS)
def test_every_channel(channel: str) -> None:
    """A frame of any channel can be a source, also while it is empty."""
    frame = LiveFrame(channel, ["AAPL"])
    source = FrameSource(frame)
    assert [len(values) for values in source.data.values()] == [0] * len(frame.columns)
    assert source.refresh() == 0


def test_times_are_wall_time() -> None:
    """The open is at 9:30 on a datetime axis, in summer and in winter, to the microsecond."""
    assert FrameSource(quotes_frame(10.0)).data["timestamp"].tolist() == [OPEN_MS]
    texts = ["2026-07-01 09:30:00.000001", "2026-12-01 16:00", "1969-12-31 19:00"]
    wall = pd.DatetimeIndex(texts).as_unit("ns")
    times = wall.tz_localize("America/New_York").asi8
    assert wall_ms(times).tolist() == (wall.asi8 / 1e6).tolist()
    assert np.isnan(wall_ms(np.array([np.iinfo(np.int64).min])))


def test_identifiers_keep_all_their_digits() -> None:
    """A trade's number is text: the page's numbers could not hold it."""
    frame = LiveFrame("trades", ["AAPL"])
    trade = make_trade(2**64 - 1)
    frame.extend([trade], received_ns=OPEN_NS)
    assert FrameSource(frame).data["trade_id"].tolist() == ["18446744073709551615"]


def test_chosen_columns() -> None:
    """The time is always there; the others as named, in the order of the frame."""
    frame = quotes_frame(10.0)
    assert list(FrameSource(frame, ["ask_price", "bid_price"]).data) == [
        "timestamp",
        "bid_price",
        "ask_price",
    ]
    assert list(FrameSource(frame, "bid_price").data) == ["timestamp", "bid_price"]
    assert list(FrameSource(frame, []).data) == ["timestamp"]


def test_the_newest_rows_only() -> None:
    """No more rows than asked for, and no more than the frame holds."""
    frame = quotes_frame(*range(10))
    assert bids(FrameSource(frame, rollover=3)) == [7, 8, 9]
    assert FrameSource(frame).rollover == frame.maxlen


def test_one_symbol() -> None:
    """Of a frame of several symbols the rows of one, the newest of these."""
    frame = quotes_frame(1, 2, 3)
    add(frame, "MSFT", 400, 401)
    assert bids(FrameSource(frame, symbol="aapl", rollover=2)) == [2, 3]
    assert FrameSource(frame, symbol="aapl").symbol == "AAPL"


def test_the_frame_is_out_of_reach() -> None:
    """Whoever writes into the source's arrays changes no row of the frame."""
    frame = quotes_frame(10.0)
    source = FrameSource(frame)
    for name in ("bid_price", "bid_size", "timestamp"):
        assert not np.shares_memory(source.data[name], frame.snapshot()[name])
    source.patch({"bid_price": [(0, 99.0)]})
    assert frame.df["bid_price"].tolist() == [10.0]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"columns": ["price"]}, "no column price; it has timestamp, symbol, bid_price"),
        ({"columns": [7]}, "no column 7"),
        ({"symbol": "TSLA"}, "not asked for TSLA; it has AAPL, MSFT"),
        ({"rollover": 0}, "a whole number from 1 on, not 0"),
        ({"rollover": 1.5}, "a whole number from 1 on"),
    ],
)
def test_what_the_frame_does_not_have(options: dict[str, Any], says: str) -> None:
    """Unknown columns and symbols are refused at once, with those there are."""
    with pytest.raises(BadInputError, match=says):
        FrameSource(quotes_frame(), **options)


# -- how it grows ------------------------------------------------------------------------


def test_only_new_rows_travel() -> None:
    """Each refresh sends what came since the last one, once."""
    frame = quotes_frame(1, 2)
    shown = Shown(FrameSource(frame))
    add(frame, "AAPL", 3, 4)
    assert shown.source.refresh() == 2
    assert shown.bids_sent() == [3, 4]
    add(frame, "AAPL", 5)
    assert shown.source.refresh() == 1
    assert shown.bids_sent() == [5]
    assert bids(shown.source) == [1, 2, 3, 4, 5]
    assert shown.source.data["timestamp"].tolist() == [OPEN_MS + 1000 * i for i in range(5)]
    assert shown.source.position == 5


def test_nothing_new_sends_nothing() -> None:
    """Without new rows, or with rows of other symbols only, the page hears nothing."""
    frame = quotes_frame(1)
    shown = Shown(FrameSource(frame, symbol="AAPL"))
    assert shown.source.refresh() == 0
    add(frame, "MSFT", 400)
    assert shown.source.refresh() == 0
    assert shown.events == []
    assert shown.source.position == 2


def test_rows_of_the_symbol_only() -> None:
    """A source of one symbol is sent no row of another."""
    frame = quotes_frame(1)
    shown = Shown(FrameSource(frame, symbol="AAPL"))
    add(frame, "MSFT", 400)
    add(frame, "AAPL", 2)
    assert shown.source.refresh() == 1
    assert shown.bids_sent() == [2]


def test_a_symbol_without_rows_yet() -> None:
    """A source may be made before the first row comes."""
    frame = quotes_frame()
    source = FrameSource(frame, symbol="MSFT")
    add(frame, "MSFT", 400)
    source.refresh()
    assert bids(source) == [400]


def test_old_rows_make_room() -> None:
    """The source holds the newest rows, however many come at once."""
    frame = quotes_frame(1, 2)
    shown = Shown(FrameSource(frame, rollover=3))
    add(frame, "AAPL", 3, 4)
    shown.source.refresh()
    assert shown.events[0].rollover == 3
    assert bids(shown.source) == [2, 3, 4]
    add(frame, "AAPL", *range(5, 20))
    assert shown.source.refresh() == 3
    assert bids(shown.source) == [17, 18, 19]


def test_retention_between_two_looks() -> None:
    """Of rows that came and went unseen only those still held are shown."""
    frame = quotes_frame(1, 2, maxlen=3)
    source = FrameSource(frame)
    add(frame, "AAPL", *range(10, 20))
    source.refresh()
    assert bids(source) == [17, 18, 19]


def test_changed_rows_are_sent_again() -> None:
    """A cancelled trade changes a row that is there, so the page is told everything anew."""
    frame = LiveFrame("trades", ["AAPL"])
    frame.extend([make_trade(i) for i in range(3)], received_ns=OPEN_NS)
    source = FrameSource(frame, ["price", "amended"])
    document, events = Document(), []
    document.add_root(source)
    document.on_change(events.append)
    cancel: CancelError[Any] = CancelError(
        symbol="AAPL", trade_id=1, exchange="V", price=1.0, size=10, action="C", tape="C",
        timestamp=OPEN_NS + 5,
    )  # fmt: skip
    frame.amend([cancel], received_ns=OPEN_NS)
    assert source.refresh() == 3
    (event,) = events
    assert isinstance(event, ColumnDataChangedEvent)
    assert event.cols is None
    assert list(source.data["amended"]) == list(frame.df["amended"].astype(str))
    assert source.refresh() == 0


def test_a_cleared_frame() -> None:
    """What was forgotten leaves the page too, and the source goes on."""
    frame = quotes_frame(1, 2)
    source = FrameSource(frame)
    frame.clear()
    add(frame, "MSFT", 400)
    source.refresh()
    assert bids(source) == [400]
    assert list(source.data["symbol"]) == ["MSFT"]


def test_while_another_thread_extends_the_frame() -> None:
    """Each row is there once and in order, while messages come as fast as they can."""
    frame, ended = LiveFrame("quotes", "*", maxlen=50_000), threading.Event()

    def write() -> None:
        i = 0
        while not ended.is_set():
            add(frame, f"S{i // 300 % 3}", *range(i, i + 300))
            i += 300

    writer = threading.Thread(target=write)
    writer.start()
    try:
        source = FrameSource(frame, ["symbol", "bid_price"], rollover=5_000)
        one = FrameSource(frame, ["symbol", "bid_price"], rollover=5_000, symbol="S1")
        end = time.monotonic() + 2
        while time.monotonic() < end:
            source.refresh()
            rows = bids(source)
            assert rows == [float(i) for i in range(source.position - len(rows), source.position)]
            assert list(source.data["symbol"]) == [f"S{int(bid) // 300 % 3}" for bid in rows]
            one.refresh()
            assert set(one.data["symbol"]) <= {"S1"}
            assert all(i // 300 % 3 == 1 for i in bids(one))
            assert bids(one) == sorted(set(bids(one)))
    finally:
        ended.set()
        writer.join()
    assert frame.position > 5_000


# -- in Bokeh ----------------------------------------------------------------------------


def test_for_the_page_it_is_a_plain_source() -> None:
    """BokehJS is told of a ColumnDataSource: it has no model of any other name."""
    source = FrameSource(quotes_frame(1), name="rows")
    plot = figure(x_axis_type="datetime")
    plot.line("timestamp", "bid_price", source=source)
    text = json.dumps(json_item(plot))
    assert '"name": "ColumnDataSource"' in text
    assert "FrameSource" not in text
    assert "alpaca_nb" not in text
    assert source.name == "rows"
    assert isinstance(source, ColumnDataSource)


def test_a_copy_of_the_document_is_a_plain_source() -> None:
    """A document that was saved and read again shows the rows it had."""
    document = Document()
    document.add_root(FrameSource(quotes_frame(1, 2), "bid_price"))
    (source,) = Document.from_json(document.to_json()).roots
    assert type(source) is ColumnDataSource
    assert bids(source) == [1, 2]


def test_push_notebook() -> None:
    """In a classic Bokeh notebook cell, `push_notebook` sends the refreshed rows and no more."""
    frame = quotes_frame(*range(1_000))
    source = FrameSource(frame, "bid_price")
    plot = figure()
    plot.line("timestamp", "bid_price", source=source)
    document = Document()
    document.add_root(plot)
    handle = CommsHandle(comms := Comms(), document)
    add(frame, "AAPL", 7.5)
    source.refresh()
    push_notebook(handle=handle)
    assert "ColumnsStreamed" in comms.sent
    assert len(comms.sent) < 5_000


class Comms:
    """Takes what Bokeh sends to the page."""

    def __init__(self) -> None:
        self.sent = ""

    def send(self, data: str = "", buffers: Any = None) -> None:
        self.sent += data


def test_a_table_and_a_plot_can_share_it() -> None:
    """It is used as any other source: in several models of one document."""
    frame = quotes_frame(1)
    source = FrameSource(frame)
    table = DataTable(source=source, columns=[TableColumn(field="symbol")])
    plot = figure()
    plot.scatter("timestamp", "ask_price", source=source)
    document = Document()
    document.add_root(table)
    document.add_root(plot)
    document.add_periodic_callback(source.refresh, 100)
    document.validate()
