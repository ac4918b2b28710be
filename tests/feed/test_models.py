"""The data models have exactly the guide's fields, and exact times beside them."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import pytest

from alpaca_nb.feed.models import BarData, QuoteData, TradeData, to_model
from alpaca_nb.wire.messages import Bar, Quote, Status, Trade, UpdatedBar

NS = 1_790_000_000_535_000_001
WHEN = datetime(2026, 9, 21, 14, 13, 20, 535000, UTC)


def fields(model: type) -> dict[str, object]:
    return {field.name: field.type for field in dataclasses.fields(model) if not field.kw_only}


def test_fields_and_types_are_the_guides() -> None:
    """Positional fields have the guide's names, types and order; ours are keyword-only."""
    assert fields(QuoteData) == {
        "symbol": "str", "timestamp": "datetime", "bid_price": "float", "bid_size": "int",
        "ask_price": "float", "ask_size": "int", "bid_exchange": "str", "ask_exchange": "str",
        "conditions": "list[str]",
    }  # fmt: skip
    assert fields(TradeData) == {
        "symbol": "str", "timestamp": "datetime", "price": "float", "size": "int",
        "exchange": "str", "trade_id": "str", "conditions": "list[str]",
    }  # fmt: skip
    assert fields(BarData) == {
        "symbol": "str", "timestamp": "datetime", "open": "float", "high": "float",
        "low": "float", "close": "float", "volume": "int", "trade_count": "int", "vwap": "float",
    }  # fmt: skip


def test_a_quote() -> None:
    """Every field of a quote arrives under its full name."""
    message = Quote[int](
        symbol="AAPL", bid_exchange="V", bid_price=1.0, bid_size=2, ask_exchange="Q",
        ask_price=3.0, ask_size=4, conditions=["R"], tape="C", timestamp=NS,
    )  # fmt: skip
    quote = to_model(message)
    assert quote == QuoteData("AAPL", WHEN, 1.0, 2, 3.0, 4, "V", "Q", ["R"], timestamp_ns=NS)
    assert dataclasses.asdict(quote)["timestamp"].tzinfo is UTC


def test_a_trade_has_a_text_id() -> None:
    """A trade's id is text, also when it has more digits than a float can hold."""
    message = Trade[int](
        symbol="AAPL", trade_id=2**64 - 1, exchange="V", price=1.0, size=2, conditions=["@"],
        timestamp=NS,
    )  # fmt: skip
    expected = TradeData("AAPL", WHEN, 1.0, 2, "V", str(2**64 - 1), ["@"], timestamp_ns=NS)
    assert to_model(message) == expected


@pytest.mark.parametrize("kind", [Bar, UpdatedBar])
def test_a_bar(kind: type) -> None:
    """Bars and updated bars share a model."""
    message = kind(
        symbol="SPY", open=1.0, high=4.0, low=0.5, close=2.0, volume=9, trade_count=3, vwap=1.5,
        timestamp=NS,
    )  # fmt: skip
    assert to_model(message) == BarData("SPY", WHEN, 1.0, 4.0, 0.5, 2.0, 9, 3, 1.5, timestamp_ns=NS)


def test_times_before_1970_are_whole() -> None:
    """Go's zero time, which servers send for an unset time, is a datetime too."""
    quote = to_model(
        Quote[str](symbol="A", bid_price=0, ask_price=0, timestamp="0001-01-01T00:00:00Z")
    )
    assert isinstance(quote, QuoteData)
    assert quote.timestamp == datetime(1, 1, 1, tzinfo=UTC)


def test_other_messages_stay_what_they_are() -> None:
    """What the guide has no model for is handed over as it is."""
    status = Status[int](symbol="A", timestamp=0)
    assert to_model(status) is status
