"""What changed since a cursor: headers and bytes."""

from __future__ import annotations

import runpy
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from alpaca_nb.data.frame import LiveFrame
from alpaca_nb.view.delta import Cursor, Delta, keyed, start_of, tape
from alpaca_nb.wire.messages import CancelError, Quote, Trade

_WRITER = runpy.run_path(str(Path(__file__).with_name("write_fixtures.py")))
fixtures, FOLDER = _WRITER["fixtures"], _WRITER["FOLDER"]

T0 = 1_790_000_000_123_456_789


def quote(symbol: str, bid: float, *, at: int = T0) -> Quote[int]:
    return Quote(symbol=symbol, bid_price=bid, bid_size=100, ask_price=bid + 0.01, timestamp=at)


_IDS = count(1)


def trade(symbol: str, price: float, *, trade_id: int | None = None, size: int = 100) -> Trade[int]:
    """A trade of its own: a frame keeps one that it has already only once."""
    number = next(_IDS) if trade_id is None else trade_id
    return Trade(symbol=symbol, price=price, size=size, trade_id=number, timestamp=T0)


def filled(channel: str, *messages: Quote[int] | Trade[int]) -> LiveFrame:
    frame = LiveFrame(channel, "*")
    frame.extend(messages, received_ns=T0)
    return frame


def keyed_of(frame: LiveFrame, cursor: Cursor | None) -> Delta | None:
    return keyed(frame.latest_rows(start_of(cursor, frame.epoch)), cursor)


_DTYPES = {"float64": "<f8", "time": "<f8", "category": "<i4", "uint64": "<u8"}


def columns(delta: Delta) -> dict[str, list[object]]:
    """The columns as the browser reads them: codes stay codes."""
    buffer, rows = delta.buffer + bytes(8), delta.header["rows"]
    return {
        column["name"]: np.frombuffer(
            buffer, _DTYPES[column["dtype"]], rows, column["offset"]
        ).tolist()
        for column in delta.header["columns"]
    }


def test_a_first_message_is_a_snapshot_of_the_newest_rows() -> None:
    """Without a cursor, the newest rows up to the limit come as a snapshot."""
    frame = filled("trades", *(trade("AAPL", 100 + i) for i in range(5)))
    delta = tape(frame.snapshot(), None, limit=3)
    assert delta is not None
    assert delta.kind == "snapshot"
    assert columns(delta)["price"] == [102, 103, 104]
    assert (delta.header["base"], delta.header["position"], delta.skipped) == (2, 5, 0)


def test_a_tape_goes_on_where_it_was() -> None:
    """A delta holds the rows appended since the cursor, each once."""
    frame = filled("trades", trade("AAPL", 1))
    first = tape(frame.snapshot(), None)
    assert first is not None
    frame.extend([trade("AAPL", 2), trade("MSFT", 3)], received_ns=T0)
    second = tape(frame.snapshot(), first.cursor)
    assert second is not None
    assert second.kind == "delta"
    assert columns(second)["price"] == [2, 3]
    assert tape(frame.snapshot(), second.cursor) is None


def test_a_long_backlog_is_cut_and_the_rest_counted() -> None:
    """However much was missed, a delta is bounded and says how many rows it leaves out."""
    frame = filled("trades", trade("AAPL", 1))
    first = tape(frame.snapshot(), None)
    assert first is not None
    frame.extend([trade("AAPL", i) for i in range(50)], received_ns=T0)
    delta = tape(frame.snapshot(), first.cursor, limit=10)
    assert delta is not None
    assert (delta.rows, delta.skipped) == (10, 40)
    assert columns(delta)["price"] == list(range(40, 50))


def test_rows_that_retention_dropped_count_as_skipped() -> None:
    """Rows that nobody can send any more are counted too."""
    frame = LiveFrame("trades", "*", maxlen=4)
    frame.extend([trade("AAPL", 1)], received_ns=T0)
    first = tape(frame.snapshot(), None)
    assert first is not None
    frame.extend([trade("AAPL", i) for i in range(10)], received_ns=T0)
    delta = tape(frame.snapshot(), first.cursor)
    assert delta is not None
    assert (delta.rows, delta.skipped) == (4, 6)


def test_keyed_rows_are_the_newest_of_each_changed_symbol() -> None:
    """A keyed delta has one row per changed symbol and counts those that were overtaken."""
    frame = filled("quotes", quote("AAPL", 1), quote("MSFT", 2), quote("SPY", 3))
    first = keyed_of(frame, None)
    assert first is not None
    assert columns(first)["bid_price"] == [1, 2, 3]
    frame.extend([quote("MSFT", 4), quote("AAPL", 5), quote("MSFT", 6)], received_ns=T0)
    delta = keyed_of(frame, first.cursor)
    assert delta is not None
    assert columns(delta)["symbol"] == [0, 1]
    assert columns(delta)["bid_price"] == [5, 6]
    assert delta.skipped == 1
    assert keyed_of(frame, delta.cursor) is None


def test_a_new_epoch_starts_again() -> None:
    """When earlier rows are no longer true, the next message is a snapshot."""
    for shape in ("quotes", "trades"):
        frame = filled(shape, quote("AAPL", 1) if shape == "quotes" else trade("AAPL", 1))
        first = keyed_of(frame, None) if shape == "quotes" else tape(frame.snapshot(), None)
        assert first is not None
        frame.clear()
        frame.extend([quote("F", 9) if shape == "quotes" else trade("F", 9)], received_ns=T0)
        again = (
            keyed_of(frame, first.cursor)
            if shape == "quotes"
            else tape(frame.snapshot(), first.cursor)
        )
        assert again is not None
        assert again.kind == "snapshot"
        assert again.header["categories"]["symbol"] == {"from": 0, "names": ["F"]}


def test_an_epoch_that_keeps_its_strings_is_told_whole() -> None:
    """After a fill or an amendment codes mean what they did, and yet all of it is told again."""
    frame = filled("trades", trade("AAPL", 1, trade_id=1), trade("MSFT", 2, trade_id=2))
    first = tape(frame.snapshot(), None)
    assert first is not None
    late = structs.replace(trade("SPY", 3, trade_id=3), timestamp=T0 - 1)
    frame.fill([late], received_ns=T0)
    second = tape(frame.snapshot(), first.cursor)
    assert second is not None
    assert (second.kind, second.header["base"], second.header["position"]) == ("snapshot", 0, 3)
    assert columns(second)["price"] == [3, 1, 2]
    names = {"from": 0, "names": ["AAPL", "MSFT", "SPY"]}
    assert second.header["categories"]["symbol"] == names
    gone = CancelError(symbol="MSFT", trade_id=2, price=2.0, size=100, action="C", timestamp=T0)
    frame.amend([gone], received_ns=T0)
    third = tape(frame.snapshot(), second.cursor)
    assert third is not None
    assert (third.kind, third.skipped, third.header["position"]) == ("snapshot", 0, 3)
    assert columns(third)["amended"] == [0, 0, 2]
    assert third.header["categories"]["symbol"] == names
    frame.extend([trade("AAPL", 4)], received_ns=T0)
    fourth = tape(frame.snapshot(), third.cursor)
    assert fourth is not None
    assert (fourth.kind, fourth.header["base"], columns(fourth)["price"]) == ("delta", 3, [4])
    assert fourth.header["categories"] == {}


def test_a_keyed_view_starts_again_after_a_fill() -> None:
    """The newest rows come as a snapshot, and deltas go on from there."""
    frame = filled("quotes", quote("AAPL", 1), quote("MSFT", 2, at=T0 + 9))
    first = keyed_of(frame, None)
    assert first is not None
    frame.fill([quote("AAPL", 3, at=T0 + 5)], received_ns=T0)
    second = keyed_of(frame, first.cursor)
    assert second is not None
    assert (second.kind, columns(second)["bid_price"]) == ("snapshot", [3, 2])
    frame.extend([quote("MSFT", 4, at=T0 + 10)], received_ns=T0)
    third = keyed_of(frame, second.cursor)
    assert third is not None
    assert (third.kind, columns(third)["bid_price"], third.skipped) == ("delta", [4], 0)


def test_only_new_strings_travel() -> None:
    """A delta names the strings that were not there before, and says from which code on."""
    frame = filled("trades", trade("AAPL", 1), trade("MSFT", 1))
    first = tape(frame.snapshot(), None)
    assert first is not None
    assert first.header["categories"]["symbol"] == {"from": 0, "names": ["AAPL", "MSFT"]}
    frame.extend([trade("SPY", 1)], received_ns=T0)
    second = tape(frame.snapshot(), first.cursor)
    assert second is not None
    assert second.header["categories"] == {"symbol": {"from": 2, "names": ["SPY"]}}


def test_times_keep_their_microseconds() -> None:
    """A time is milliseconds since 1970 with its fraction, to a quarter of a microsecond."""
    delta = tape(filled("trades", trade("AAPL", 1)).snapshot(), None)
    assert delta is not None
    (ms,) = columns(delta)["timestamp"]
    assert ms == pytest.approx(T0 / 1e6, abs=0.00025, rel=0)


def test_numbers_survive_the_journey() -> None:
    """Identifiers of 64 bits and sizes beyond 32 bits arrive as they are."""
    frame = filled("trades", trade("AAPL", 0.1, trade_id=2**64 - 1, size=3_000_000_000))
    delta = tape(frame.snapshot(), None)
    assert delta is not None
    there = columns(delta)
    assert there["trade_id"] == [2**64 - 1]
    assert there["size"] == [3_000_000_000.0]
    assert there["price"] == [0.1]


def test_only_the_columns_asked_for_travel() -> None:
    """A view names its columns and is sent no other, strings included."""
    delta = tape(filled("trades", trade("AAPL", 1)).snapshot(), None, columns={"price"})
    assert delta is not None
    assert [column["name"] for column in delta.header["columns"]] == ["price"]
    assert delta.header["categories"] == {}


def test_the_buffer_does_not_change_with_the_frame() -> None:
    """What was handed to the sender stays as it is while the frame goes on."""
    frame = LiveFrame("trades", "*", maxlen=2)
    frame.extend([trade("AAPL", 1)], received_ns=T0)
    delta = tape(frame.snapshot(), None)
    assert delta is not None
    before = columns(delta)
    frame.extend([trade("MSFT", 2) for _ in range(5_000)], received_ns=T0)
    assert isinstance(delta.buffer, bytes)
    assert columns(delta) == before


@given(rows=st.integers(0, 9))
def test_every_column_begins_at_a_multiple_of_eight(rows: int) -> None:
    """Whatever the number of rows, a typed array can be laid over each column."""
    delta = tape(filled("trades", *(trade("AAPL", 1) for _ in range(rows))).snapshot(), None)
    assert delta is not None
    assert all(column["offset"] % 8 == 0 for column in delta.header["columns"])
    assert len(delta.buffer) % 8 == 0


def test_an_empty_frame_has_an_empty_snapshot() -> None:
    """A frame without rows is shown as such, columns and all."""
    for delta in (tape(filled("trades").snapshot(), None), keyed_of(filled("quotes"), None)):
        assert delta is not None
        assert (delta.kind, delta.rows, delta.buffer) == ("snapshot", 0, b"")


@pytest.mark.parametrize("name", ["tape.json", "keyed.json"])
def test_the_browser_tests_read_what_this_code_writes(name: str) -> None:
    """The fixtures of the TypeScript tests are up to date: run write_fixtures.py if not."""
    written = (FOLDER / name).read_text(encoding="utf-8")
    assert written == fixtures()[name]
