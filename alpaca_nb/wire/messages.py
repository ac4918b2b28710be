"""The vocabulary of Alpaca's market-data stream: one type per message, one channel table.

Field names are written out here; the one- and two-letter keys of the wire appear in
this module only. Every type is generic in how its time is spelled: `str` (RFC 3339) in
JSON, `msgspec.msgpack.Ext` (type -1) in MessagePack, and `int` nanoseconds since 1970
(UTC) for messages made in this process. `datetime` is never used on this level because
it would drop the nanoseconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

from msgspec import Meta, Struct

from alpaca_nb.errors import BadInputError, UnknownChannelError

TimeT = TypeVar("TimeT")
"""How a message spells its time: str, msgspec.msgpack.Ext or int nanoseconds."""

TradeId = Annotated[int, Meta(ge=0, title="identifier")]
"""Unsigned, up to 64 bits; unique only together with symbol, exchange and day."""


class Message(Struct, Generic[TimeT], gc=False, kw_only=True, tag_field="T"):
    """What every data message of a stock feed has: a symbol and a time."""

    # Inherited fields would be written first, so each type declares these two where
    # Alpaca writes them (its own Go client reads keys by position).
    if TYPE_CHECKING:
        symbol: str
        timestamp: TimeT


_COMMON = {"symbol": "S", "timestamp": "t", "tape": "z"}


class Quote(
    Message[TimeT],
    Generic[TimeT],
    tag="q",
    kw_only=True,
    rename=_COMMON
    | {
        "bid_exchange": "bx",
        "bid_price": "bp",
        "bid_size": "bs",
        "ask_exchange": "ax",
        "ask_price": "ap",
        "ask_size": "as",
        "conditions": "c",
    },
):
    """Best bid and ask. Sizes are shares; a missing side has price 0 and exchange " "."""

    symbol: str
    bid_exchange: str = ""
    bid_price: float
    bid_size: int = 0
    ask_exchange: str = ""
    ask_price: float
    ask_size: int = 0
    conditions: list[str] = []
    tape: str = ""
    timestamp: TimeT


class Trade(
    Message[TimeT],
    Generic[TimeT],
    tag="t",
    kw_only=True,
    rename=_COMMON
    | {"trade_id": "i", "exchange": "x", "price": "p", "size": "s", "conditions": "c"},
):
    """One sale. A condition may be a single space, which is a value and not padding."""

    symbol: str
    trade_id: TradeId = 0
    exchange: str = ""
    price: float
    size: int
    conditions: list[str] = []
    tape: str = ""
    timestamp: TimeT


_BAR_KEYS = _COMMON | {
    "open": "o",
    "high": "h",
    "low": "l",
    "close": "c",
    "volume": "v",
    "trade_count": "n",
    "vwap": "vw",
}


class Bar(Message[TimeT], Generic[TimeT], tag="b", kw_only=True, rename=_BAR_KEYS):
    """One minute. `timestamp` is the left edge: the bar covers [t, t + 60 s)."""

    symbol: str
    open: float
    high: float
    low: float
    close: float
    volume: int
    timestamp: TimeT
    trade_count: int = 0
    vwap: float = 0.0


class UpdatedBar(Bar[TimeT], Generic[TimeT], tag="u"):
    """A minute bar sent again, whole, because a late trade changed it."""


class DailyBar(Bar[TimeT], Generic[TimeT], tag="d"):
    """The running bar of the day. `timestamp` is midnight in New York."""


class Status(
    Message[TimeT],
    Generic[TimeT],
    tag="s",
    kw_only=True,
    rename=_COMMON
    | {
        "status_code": "sc",
        "status_message": "sm",
        "reason_code": "rc",
        "reason_message": "rm",
    },
):
    """A halt, a resumption, or another change of a symbol's trading status."""

    symbol: str
    status_code: str = ""
    status_message: str = ""
    reason_code: str = ""
    reason_message: str = ""
    timestamp: TimeT
    tape: str = ""


class PriceBand(
    Message[TimeT],
    Generic[TimeT],
    tag="l",
    kw_only=True,
    rename=_COMMON | {"limit_up": "u", "limit_down": "d", "indicator": "i"},
):
    """The limit-up limit-down (LULD) band of a symbol."""

    symbol: str
    limit_up: float
    limit_down: float
    indicator: str = ""
    timestamp: TimeT
    tape: str = ""


class Imbalance(
    Message[TimeT], Generic[TimeT], tag="i", kw_only=True, rename=_COMMON | {"price": "p"}
):
    """An order imbalance, usually during a LULD halt."""

    symbol: str
    price: float
    tape: str = ""
    timestamp: TimeT


class Correction(
    Message[TimeT],
    Generic[TimeT],
    tag="c",
    kw_only=True,
    rename=_COMMON
    | {
        "exchange": "x",
        "original_trade_id": "oi",
        "original_price": "op",
        "original_size": "os",
        "original_conditions": "oc",
        "corrected_trade_id": "ci",
        "corrected_price": "cp",
        "corrected_size": "cs",
        "corrected_conditions": "cc",
    },
):
    """A trade that was reported wrongly, before and after."""

    symbol: str
    exchange: str = ""
    original_trade_id: TradeId
    original_price: float
    original_size: int
    original_conditions: list[str] = []
    corrected_trade_id: TradeId
    corrected_price: float
    corrected_size: int
    corrected_conditions: list[str] = []
    tape: str = ""
    timestamp: TimeT


class CancelError(
    Message[TimeT],
    Generic[TimeT],
    tag="x",
    kw_only=True,
    rename=_COMMON | {"trade_id": "i", "exchange": "x", "price": "p", "size": "s", "action": "a"},
):
    """A trade that was cancelled (`action` "C") or was an error ("E")."""

    symbol: str
    trade_id: TradeId
    exchange: str = ""
    price: float
    size: int
    action: str = ""
    tape: str = ""
    timestamp: TimeT


class Success(Struct, gc=False, tag_field="T", tag="success", rename={"message": "msg"}):
    """The server's "connected" or "authenticated"."""

    message: str


class Error(Struct, gc=False, tag_field="T", tag="error", rename={"message": "msg"}):
    """An error of the server; it never says which request it answers."""

    code: int
    message: str = ""


class Subscription(
    Struct,
    omit_defaults=True,
    tag_field="T",
    tag="subscription",
    rename={
        "updated_bars": "updatedBars",
        "daily_bars": "dailyBars",
        "cancel_errors": "cancelErrors",
    },
):
    """The complete state of a connection's subscriptions, in the server's order.

    None means that the server did not mention the channel, which counts as empty.
    """

    trades: list[str] | None = None
    quotes: list[str] | None = None
    bars: list[str] | None = None
    updated_bars: list[str] | None = None
    daily_bars: list[str] | None = None
    statuses: list[str] | None = None
    lulds: list[str] | None = None
    corrections: list[str] | None = None
    cancel_errors: list[str] | None = None
    imbalances: list[str] | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A message that is none of ours: an unknown type, or a known one of another shape.

    `tag` is its type as far as it could be read, `reason` what was wrong with it.
    """

    tag: str
    reason: str


@dataclass(frozen=True, slots=True)
class Channel:
    """A kind of data that can be subscribed, and the message type that carries it."""

    name: str
    """As users and the rest of the package call it."""
    key: str
    """As requests and acknowledgements on the wire call it."""
    message: type[Message[Any]]
    automatic: bool = False
    """Comes along with `trades`; never requested, never dropped on its own."""


CHANNELS: dict[str, Channel] = {
    channel.name: channel
    for channel in (
        # The order is that of Alpaca's subscription acknowledgement.
        Channel("trades", "trades", Trade),
        Channel("quotes", "quotes", Quote),
        Channel("bars", "bars", Bar),
        Channel("updated_bars", "updatedBars", UpdatedBar),
        Channel("daily_bars", "dailyBars", DailyBar),
        Channel("statuses", "statuses", Status),
        Channel("lulds", "lulds", PriceBand),
        Channel("corrections", "corrections", Correction, automatic=True),
        Channel("cancel_errors", "cancelErrors", CancelError, automatic=True),
        Channel("imbalances", "imbalances", Imbalance),
    )
}
"""Every channel of the stock feeds, by name."""

CHANNEL_OF: dict[type[Any], Channel] = {channel.message: channel for channel in CHANNELS.values()}
"""The channel that a data message belongs to, by the message's type."""

CHANNEL_BY_KEY: dict[str, Channel] = {channel.key: channel for channel in CHANNELS.values()}
"""The channel behind a key of the wire."""


def find_channel(name: str) -> Channel:
    """Look a channel up by its name, or by its key on the wire ("updatedBars").

    Raises UnknownChannelError with the names there are.
    """
    channel = CHANNELS.get(name) or CHANNEL_BY_KEY.get(name)
    if channel is None:
        allowed = ", ".join(name for name, each in CHANNELS.items() if not each.automatic)
        raise UnknownChannelError(f"There is no channel {name!r}; choose one of {allowed}.")
    return channel


_SYMBOL = re.compile(r"[A-Z0-9][A-Z0-9./\-]{0,20}")


def check_symbols(symbols: str | Iterable[str]) -> tuple[str, ...]:
    """Return the symbols upper-cased, each once, in the order given.

    A single string is one symbol; "*" is every symbol. Raises BadInputError for what
    cannot be a symbol, and for an empty list.
    """
    names = [symbols] if isinstance(symbols, str) else list(symbols)
    if not names:
        raise BadInputError("No symbol was given; name at least one, such as 'AAPL', or '*'.")
    checked: dict[str, None] = {}
    for name in names:
        if not isinstance(name, str):
            raise BadInputError(f"A symbol is text such as 'AAPL', not {type(name).__name__}.")
        symbol = name.strip().upper()
        if symbol != "*" and not _SYMBOL.fullmatch(symbol):
            raise BadInputError(
                f"{name!r} is not a symbol; symbols look like AAPL, BRK.B or BTC/USD, "
                "and '*' means all of them."
            )
        checked[symbol] = None
    return tuple(checked)
