"""What handlers receive: the data models of the streaming guide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from alpaca_nb.wire.codec import time_ns
from alpaca_nb.wire.messages import Bar, DailyBar, Message, Quote, Trade, UpdatedBar


@dataclass(slots=True)
class QuoteData:
    """Best bid and ask; sizes in shares, `timestamp` in UTC (cut to microseconds)."""

    symbol: str
    timestamp: datetime
    bid_price: float
    bid_size: int
    ask_price: float
    ask_size: int
    bid_exchange: str
    ask_exchange: str
    conditions: list[str]
    timestamp_ns: int = field(default=0, kw_only=True)
    """The exact time: nanoseconds since 1970, UTC."""


@dataclass(slots=True)
class TradeData:
    """One sale; `timestamp` in UTC (cut to microseconds)."""

    symbol: str
    timestamp: datetime
    price: float
    size: int
    exchange: str
    trade_id: str
    conditions: list[str]
    timestamp_ns: int = field(default=0, kw_only=True)
    """The exact time: nanoseconds since 1970, UTC."""


@dataclass(slots=True)
class BarData:
    """One bar; `timestamp` is its left edge, in UTC."""

    symbol: str
    timestamp: datetime
    open: float
    high: float
    low: float
    close: float
    volume: int
    trade_count: int
    vwap: float
    timestamp_ns: int = field(default=0, kw_only=True)
    """The exact time: nanoseconds since 1970, UTC."""


Model = QuoteData | TradeData | BarData


def utc_datetime(ns: int) -> datetime:
    """The time as an aware datetime; digits past the microsecond are cut."""
    seconds, fraction_ns = divmod(ns, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=fraction_ns // 1000)


def _quote(message: Quote[Any]) -> QuoteData:
    ns = time_ns(message.timestamp)
    return QuoteData(
        symbol=message.symbol,
        timestamp=utc_datetime(ns),
        bid_price=message.bid_price,
        bid_size=message.bid_size,
        ask_price=message.ask_price,
        ask_size=message.ask_size,
        bid_exchange=message.bid_exchange,
        ask_exchange=message.ask_exchange,
        conditions=message.conditions,
        timestamp_ns=ns,
    )


def _trade(message: Trade[Any]) -> TradeData:
    ns = time_ns(message.timestamp)
    return TradeData(
        symbol=message.symbol,
        timestamp=utc_datetime(ns),
        price=message.price,
        size=message.size,
        exchange=message.exchange,
        trade_id=str(message.trade_id),
        conditions=message.conditions,
        timestamp_ns=ns,
    )


def _bar(message: Bar[Any]) -> BarData:
    ns = time_ns(message.timestamp)
    return BarData(
        symbol=message.symbol,
        timestamp=utc_datetime(ns),
        open=message.open,
        high=message.high,
        low=message.low,
        close=message.close,
        volume=message.volume,
        trade_count=message.trade_count,
        vwap=message.vwap,
        timestamp_ns=ns,
    )


_CONVERTERS: dict[type[Any], Callable[[Any], Model]] = {
    Quote: _quote,
    Trade: _trade,
    Bar: _bar,
    UpdatedBar: _bar,
    DailyBar: _bar,
}


def to_model(message: Message[Any]) -> Model | Message[Any]:
    """The guide's data model of a quote, trade or bar; other messages as they are.

    Raises ValueError when the message's time is none.
    """
    convert = _CONVERTERS.get(type(message))
    return message if convert is None else convert(message)
