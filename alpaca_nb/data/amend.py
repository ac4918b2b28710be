"""What was said about trades and bars after they were sent: corrected, cancelled, sent anew.

What is known of a trade is kept apart from the rows, and may come before its trade, after it,
or after the trade was left out by a fill. So the rows become the same in every order.
"""

from __future__ import annotations

import datetime as dt
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from alpaca_nb.data.columns import TIME_ZONE
from alpaca_nb.wire.codec import time_ns
from alpaca_nb.wire.messages import CancelError, Correction, Message

if TYPE_CHECKING:
    import pandas as pd

AMENDED: Final = ("", "corrected", "canceled", "error", "incorrect", "updated")
"""What a row can have become; the first is as it was sent.

corrected: the values are the right ones now. canceled, error: the trade does not count; the
values are those that were reported. incorrect: neither does it, another stands for it.
updated: a bar that was sent again.
"""

VOID: Final = ("incorrect", "canceled", "error")
"""Trades that do not count. Of several words on one, the last in this order stands."""

_MOST: Final = 10_000
"""Amendments that are remembered: many days of all US stocks."""

_NEW_YORK: Final = ZoneInfo(TIME_ZONE)


# -- the record of them ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Amendment:
    """One change of a row, or the announcement of one to a row that is not held.

    For a bar, price and size are its close and volume.
    """

    time_ns: int
    """When it arrived."""
    symbol: str
    kind: str
    timestamp: int
    """That of the row; while it is not held, that of the announcement."""
    exchange: str
    trade_id: int
    old_price: float
    old_size: int
    new_price: float
    """NaN for a trade that does not count any more."""
    new_size: int
    matched: bool
    """Whether the row was held, or came later."""


class AmendmentLog:
    """The amendments of one frame, oldest first, each once; a bounded number."""

    def __init__(self, amendments: dict[Any, Amendment] | None = None) -> None:
        self._amendments = amendments or {}

    def copy(self) -> AmendmentLog:
        """Another with the same content."""
        return AmendmentLog(self._amendments.copy())

    def __len__(self) -> int:
        return len(self._amendments)

    def get(self, identity: Any) -> Amendment | None:
        """The amendment noted under an identity."""
        return self._amendments.get(identity)

    def put(self, identity: Any, amendment: Amendment) -> None:
        """Note an amendment, or replace the one of the same identity."""
        self._amendments[identity] = amendment
        forget_oldest(self._amendments)

    def to_frame(self) -> pd.DataFrame:
        """One row per amendment, oldest first; times are in New York."""
        import pandas as pd

        rows = list(self._amendments.values())
        columns: dict[str, Any] = {
            "time": _times([row.time_ns for row in rows]),
            "symbol": pd.Series([row.symbol for row in rows], dtype="str"),
            "kind": pd.Series([row.kind for row in rows], dtype="str"),
            "timestamp": _times([row.timestamp for row in rows]),
            "exchange": pd.Series([row.exchange for row in rows], dtype="str"),
            "trade_id": np.array([row.trade_id for row in rows], np.uint64),
            "old_price": np.array([row.old_price for row in rows], np.float64),
            "old_size": np.array([row.old_size for row in rows], np.int64),
            "new_price": np.array([row.new_price for row in rows], np.float64),
            "new_size": np.array([row.new_size for row in rows], np.int64),
            "matched": np.array([row.matched for row in rows], bool),
        }
        return pd.DataFrame(columns)


def _times(values: list[int]) -> pd.DatetimeIndex:
    import pandas as pd

    return pd.DatetimeIndex(np.array(values, "M8[ns]"), tz="UTC").tz_convert(TIME_ZONE)


def forget_oldest(known: dict[Any, Any], most: int = _MOST) -> None:
    """Keep a dictionary bounded. A tenth at once: taking single ones is ever slower."""
    if len(known) > most:
        for key in list(known)[: len(known) - most + most // 10]:
            del known[key]


# -- what is said of a trade -------------------------------------------------------------


class TradeKey(NamedTuple):
    """What makes a trade unique; numbers begin anew each day, in New York."""

    symbol: str
    exchange: str
    trade_id: int
    day: int


class Terms(NamedTuple):
    """What a correction changes."""

    trade_id: int
    price: float
    size: int
    conditions: str
    """Joined by commas, as they are stored."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One word on one trade."""

    label: str
    key: TradeKey
    timestamp: int
    received_ns: int
    old_price: float
    old_size: int
    terms: Terms | None = None
    """What the trade should have been, if it is corrected."""

    @property
    def identity(self) -> Any:
        """The same for the same word heard again."""
        return (self.label, self.key, self.terms)

    @property
    def successor(self) -> TradeKey:
        """The trade that stands after a correction."""
        assert self.terms is not None
        return self.key._replace(trade_id=self.terms.trade_id)


def day_of(timestamp: int) -> int:
    """The day of a time in New York, counted; -1 for a time beyond the calendar."""
    try:
        return dt.datetime.fromtimestamp(timestamp // 1_000_000_000, _NEW_YORK).toordinal()
    except (ValueError, OverflowError, OSError):
        return -1


def notice_of(message: Message[Any], received_ns: int) -> Notice:
    """What a message says of a trade; TypeError and the like for what cannot be."""
    if isinstance(message, Correction):
        terms = Terms(
            message.corrected_trade_id,
            message.corrected_price,
            message.corrected_size,
            ",".join(message.corrected_conditions),
        )
        number, price, size = (
            message.original_trade_id,
            message.original_price,
            message.original_size,
        )
        label = "corrected"
    elif isinstance(message, CancelError):
        terms, number, price, size = None, message.trade_id, message.price, message.size
        label = "canceled" if message.action == "C" else "error"
    else:
        raise TypeError(f"{type(message).__name__} is no word on a trade")
    sizes, prices = [size], [price]
    numbers = [number]
    if terms is not None:
        sizes.append(terms.size)
        prices.append(terms.price)
        numbers.append(terms.trade_id)
    # These refuse what no column could hold.
    texts: list[Any] = [message.symbol, message.exchange]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("a symbol and an exchange are text")
    array("q", sizes), array("d", prices), array("Q", numbers)
    timestamp = time_ns(message.timestamp)
    key = TradeKey(message.symbol, message.exchange, number, day_of(timestamp))
    return Notice(label, key, timestamp, received_ns, price, size, terms)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a trade is after everything said of it."""

    root: TradeKey
    """The number under which it was first reported; the same for all its numbers."""
    key: TradeKey
    """The number it has in the end."""
    label: str
    terms: Terms | None
    notices: tuple[Notice, ...]
    """All that is known of it, the earliest number first."""
    numbers: tuple[int, ...]
    """All trade ids it ever had."""


class TradeBook:
    """What was said of trades, whether they are held or not; a bounded number of words."""

    def __init__(self) -> None:
        self._corrections: dict[TradeKey, Notice] = {}
        self._ends: dict[TradeKey, Notice] = {}
        self._origins: dict[TradeKey, TradeKey] = {}
        self._numbers: NDArray[np.uint64] | None = None

    def __len__(self) -> int:
        return len(self._corrections) + len(self._ends)

    def copy(self) -> TradeBook:
        """Another that knows the same."""
        other = TradeBook()
        other._corrections = self._corrections.copy()
        other._ends = self._ends.copy()
        other._origins = self._origins.copy()
        other._numbers = self._numbers
        return other

    @property
    def numbers(self) -> NDArray[np.uint64]:
        """The trade ids of which something is known, ascending."""
        if self._numbers is None:
            keys = {*self._corrections, *self._ends, *self._origins}
            self._numbers = np.unique(np.array([key.trade_id for key in keys], np.uint64))
        return self._numbers

    def add(self, notice: Notice) -> set[TradeKey]:
        """Take in a word; returns all the names of the trade it concerns."""
        concerned = {notice.key, *self._chain(notice.key)}
        if notice.terms is None:
            self._add_end(notice)
        else:
            self._add_correction(notice)
        self._numbers = None
        for known in (self._corrections, self._ends, self._origins):
            forget_oldest(known)
        return concerned.union(self._chain(notice.key))

    def verdict(self, key: TradeKey) -> Verdict | None:
        """What the trade with this number is to be; None if nothing was said of it."""
        chain = self._chain(key)
        notices: list[Notice] = []
        last, label = None, ""
        for each in chain:
            correction, end = self._corrections.get(each), self._ends.get(each)
            if correction is not None:
                notices.append(correction)
                last, label = correction, label or "corrected"
            if end is not None and not (end.label == "incorrect" and correction is not None):
                # That a corrected trade was incorrect is no news.
                notices.append(end)
                label = max(label, end.label, key=_rank)
        if not notices:
            return None
        final, terms = (key, None) if last is None else (last.successor, last.terms)
        numbers = tuple(each.trade_id for each in chain)
        return Verdict(chain[0], final, label, terms, tuple(notices), numbers)

    def _chain(self, key: TradeKey) -> list[TradeKey]:
        """All numbers of a trade, from the first one on."""
        seen = {key}
        while (origin := self._origins.get(key)) is not None and origin not in seen:
            seen.add(origin)
            key = origin
        chain = [key]
        while (correction := self._corrections.get(key)) is not None:
            key = correction.successor
            if key in chain:
                break
            chain.append(key)
        return chain

    def _add_end(self, notice: Notice) -> None:
        known = self._ends.get(notice.key)
        if known is None or _rank(notice.label) > _rank(known.label):
            self._ends[notice.key] = notice

    def _add_correction(self, notice: Notice) -> None:
        chain, successor = self._chain(notice.key), notice.successor
        # A trade may keep its number, or get an earlier one again.
        goes_back = successor in chain
        at = successor if goes_back else notice.key
        known = self._corrections.get(at)
        if known is not None and known.timestamp > notice.timestamp:
            return
        self._corrections[at] = notice
        if not goes_back:
            self._origins[successor] = notice.key


def _rank(label: str) -> int:
    return VOID.index(label) if label in VOID else -1


def note_match(
    log: AmendmentLog,
    notices: Iterable[Notice],
    row_key: TradeKey,
    *,
    timestamp: int,
    price: float,
    size: int,
) -> None:
    """Note that the row of these words is there, and what it was before."""
    for notice in notices:
        known = log.get(notice.identity) or amendment_of(notice)
        if not known.matched:
            known = replace(known, timestamp=timestamp, matched=True)
            if notice.key == row_key:
                known = replace(known, old_price=price, old_size=size)
            log.put(notice.identity, known)


def amendment_of(notice: Notice) -> Amendment:
    """A word as it is noted before its trade is found."""
    terms = notice.terms
    return Amendment(
        time_ns=notice.received_ns,
        symbol=notice.key.symbol,
        kind=notice.label,
        timestamp=notice.timestamp,
        exchange=notice.key.exchange,
        trade_id=notice.key.trade_id,
        old_price=notice.old_price,
        old_size=notice.old_size,
        new_price=terms.price if terms else float("nan"),
        new_size=terms.size if terms else 0,
        matched=False,
    )
