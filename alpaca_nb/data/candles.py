"""Bars from trades: what each sale condition lets a trade change, and bars that grow.

The rules are those Alpaca publishes for its own bars. A trade with several conditions may
change what all of them allow.
"""

from __future__ import annotations

import datetime as dt
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple, TypeVar

from alpaca_nb.data.intervals import NEW_YORK, midnight_ns
from alpaca_nb.data.lengths import SECOND_NS
from alpaca_nb.errors import BadInputError
from alpaca_nb.wire.messages import Bar, DailyBar, Trade, UpdatedBar

# -- the rules ---------------------------------------------------------------------------


class Allowed(IntEnum):
    """Whether a trade may change a bar's open and close; the strictest is the least."""

    NO = 0
    IF_FIRST = 1
    """Only while the bar has no open, as for a trade reported late."""
    YES = 2


class Updates(NamedTuple):
    """What of a bar a trade changes."""

    open_close: Allowed
    high_low: bool
    volume: bool

    def both(self, other: Updates) -> Updates:
        """What this and the other allow."""
        return Updates(
            min(self.open_close, other.open_close),
            self.high_low and other.high_low,
            self.volume and other.volume,
        )


class SaleRule(NamedTuple):
    """What a trade changes in the bar of its minute (or any interval), and of its day."""

    minute: Updates
    daily: Updates

    def both(self, other: SaleRule) -> SaleRule:
        """The stricter of this and the other, part by part."""
        return SaleRule(self.minute.both(other.minute), self.daily.both(other.daily))


_ALL = Updates(Allowed.YES, high_low=True, volume=True)
_VOLUME = Updates(Allowed.NO, high_low=False, volume=True)
_NOTHING = Updates(Allowed.NO, high_low=False, volume=False)
_LATE = Updates(Allowed.IF_FIRST, high_low=True, volume=True)
_OFFICIAL = Updates(Allowed.YES, high_low=True, volume=False)

REGULAR: Final = SaleRule(_ALL, _ALL)
"""A sale without a condition, or with one that has no rule."""

_ANY_TAPE = "ABCO"
_CTA, _UTP, _UTP_OTC = "AB", "C", "CO"

_RULES: Final[tuple[tuple[str, str, SaleRule], ...]] = (
    # conditions, tapes on which they mean this, rule
    (" E", _CTA, REGULAR),
    ("@", _UTP_OTC, REGULAR),
    ("ABDY", _UTP, REGULAR),
    ("FKLOX56", _ANY_TAPE, REGULAR),
    ("B", _CTA, SaleRule(_VOLUME, _VOLUME)),  # average price
    ("W", _UTP_OTC, SaleRule(_VOLUME, _VOLUME)),  # average price
    ("CHINRUV7", _ANY_TAPE, SaleRule(_VOLUME, _VOLUME)),  # cash, odd lot, contingent, ...
    ("MQ", _ANY_TAPE, SaleRule(_NOTHING, _NOTHING)),  # the venue's official close and open
    ("T", _ANY_TAPE, SaleRule(_ALL, _VOLUME)),  # outside regular hours
    ("G", _UTP, SaleRule(_VOLUME, _LATE)),  # bunched and sold
    ("PZ4", _ANY_TAPE, SaleRule(_VOLUME, _LATE)),  # prior price, out of sequence, derived
    ("9", _ANY_TAPE, SaleRule(_NOTHING, _OFFICIAL)),  # corrected consolidated close
)
"""The one table of what each sale condition means."""


def sale_rule(conditions: Sequence[str], tape: str) -> SaleRule:
    """What a trade with these conditions changes.

    A condition without a rule restricts nothing. On an unknown tape a condition has all
    its meanings, and so the strictest.
    """
    return _combined_rule(tuple(conditions), tape)


@functools.lru_cache(maxsize=4096)
def _combined_rule(conditions: tuple[str, ...], tape: str) -> SaleRule:
    known = tape if tape and tape in _ANY_TAPE else _ANY_TAPE
    rules = (
        rule
        for codes, tapes, rule in _RULES
        if set(tapes) & set(known)
        for condition in conditions
        if condition and condition in codes
    )
    return functools.reduce(SaleRule.both, rules, REGULAR)


# -- one bar that grows ------------------------------------------------------------------


@dataclass(slots=True)
class Candle:
    """Open, high, low, close, volume, count and VWAP of the trades added so far."""

    open: float = 0.0
    high: float = 0.0
    low: float = 0.0
    close: float = 0.0
    volume: int = 0
    trade_count: int = 0
    """Trades that count in the volume."""
    _priced_volume: int = 0
    _turnover: float = 0.0
    _has_open: bool = False
    _has_range: bool = False

    def add(self, price: float, size: int, updates: Updates) -> bool:
        """Apply what the trade may change; returns whether that is anything."""
        open_close, high_low, volume = updates
        if high_low:
            self._stretch(price)
        if open_close and (open_close is Allowed.YES or not self._has_open):
            self._move(price)
        if volume:
            self.volume += size
            self.trade_count += 1
            if high_low:
                self._priced_volume += size
                self._turnover += price * size
        return bool(open_close or high_low or volume)

    @property
    def vwap(self) -> float:
        """Volume-weighted price of the trades that count in range and volume; 0 without any."""
        return round(self._turnover / self._priced_volume, 6) if self._priced_volume else 0.0

    @property
    def is_complete(self) -> bool:
        """Whether no field is 0; Alpaca publishes no other bar."""
        prices = self.open and self.high and self.low and self.close
        return bool(prices and self.volume and self.trade_count and self.vwap)

    def _stretch(self, price: float) -> None:
        if not self._has_range:
            self.high = self.low = price
            self._has_range = True
        elif price > self.high:
            self.high = price
        elif price < self.low:
            self.low = price

    def _move(self, price: float) -> None:
        if not self._has_open:
            self.open = price
            self._has_open = True
        self.close = price


# -- all bars of a stream ----------------------------------------------------------------


class CandleBuilder:
    """Bars and running daily bars of any number of symbols, from their trades.

    Time is what the caller says it is: `add` takes trades as they come, `close` says that
    a moment has passed and gives the bars that ended by then, `updated` those that late
    trades have changed since. Intervals are counted from midnight in New York, and a day
    is a day there.

    A trade that is more than `keep_s` late changes no bar but that of its day.
    """

    def __init__(self, interval_s: int = 60, *, keep_s: int = 3600) -> None:
        if type(interval_s) is not int or not 1 <= interval_s <= 86_400:
            raise BadInputError(
                f"interval_s is the length of a bar, from 1 to 86400 seconds, not {interval_s!r}."
            )
        self._interval_ns = interval_s * SECOND_NS
        self._keep_ns = keep_s * SECOND_NS
        self._closed_ns: int | None = None
        # Bars by left edge and symbol: those still running, and those closed but kept.
        self._running: dict[tuple[int, str], Candle] = {}
        self._kept: dict[tuple[int, str], Candle] = {}
        self._changed: dict[tuple[int, str], None] = {}
        self._days: dict[str, tuple[int, Candle]] = {}
        self._day = _Day(0, 0)

    def add(self, trade: Trade[int]) -> None:
        """Let a trade change the bar of its interval and that of its day.

        A trade counts if it has a price and a size above zero.
        """
        if not (0 < trade.price < math.inf and trade.size > 0):
            return
        rule = sale_rule(trade.conditions, trade.tape)
        if not self._day.start_ns <= trade.timestamp < self._day.end_ns:
            self._day = _day_of(trade.timestamp)
        self._add_to_interval(trade, rule.minute)
        self._add_to_day(trade, rule.daily)

    def close(self, now_ns: int) -> list[Bar[int]]:
        """The bars that ended by `now_ns` and have not been given yet, oldest first.

        An interval without a qualifying trade has no bar. Trades that come later for what
        is closed here show in `updated`.
        """
        ended = sorted(key for key in self._running if self._end_ns(key) <= now_ns)
        candles = {key: self._running.pop(key) for key in ended}
        self._kept.update(candles)
        self._closed_ns = max(now_ns, self._closed_ns or now_ns)
        self._forget_old()
        return [_bar(Bar, *key, c) for key, c in candles.items() if c.is_complete]

    def updated(self) -> list[UpdatedBar[int]]:
        """The closed bars that late trades have changed since the last call, oldest first."""
        changed = sorted(key for key in self._changed if self._kept[key].is_complete)
        self._changed.clear()
        return [_bar(UpdatedBar, *key, self._kept[key]) for key in changed]

    def daily_bar(self, symbol: str) -> DailyBar[int] | None:
        """The bar of the symbol's day so far; None before a qualifying trade."""
        start_ns, candle = self._days.get(symbol, (0, None))
        if candle is None or not candle.is_complete:
            return None
        return _bar(DailyBar, start_ns, symbol, candle)

    def daily_bars(self) -> list[DailyBar[int]]:
        """The bars of all symbols' days so far, in the order of first trades."""
        bars = map(self.daily_bar, self._days)
        return [bar for bar in bars if bar is not None]

    def _add_to_interval(self, trade: Trade[int], updates: Updates) -> None:
        start_ns = self._day.start_ns
        offset_ns = trade.timestamp - start_ns
        key = (start_ns + offset_ns - offset_ns % self._interval_ns, trade.symbol)
        if self._closed_ns is None or self._end_ns(key) > self._closed_ns:
            self._running.setdefault(key, Candle()).add(trade.price, trade.size, updates)
        elif self._end_ns(key) > self._closed_ns - self._keep_ns:
            candle = self._kept.setdefault(key, Candle())
            if candle.add(trade.price, trade.size, updates):
                self._changed[key] = None

    def _add_to_day(self, trade: Trade[int], updates: Updates) -> None:
        start_ns, candle = self._days.get(trade.symbol, (-1, None))
        if candle is None or start_ns < self._day.start_ns:
            candle = Candle()
            self._days[trade.symbol] = (self._day.start_ns, candle)
        elif start_ns > self._day.start_ns:
            return  # a trade of yesterday; that bar has been given for the last time
        candle.add(trade.price, trade.size, updates)

    def _end_ns(self, key: tuple[int, str]) -> int:
        return key[0] + self._interval_ns

    def _forget_old(self) -> None:
        assert self._closed_ns is not None
        oldest_ns = self._closed_ns - self._keep_ns
        # In the order they were closed, so the old ones come first.
        for key in list(self._kept):
            if self._end_ns(key) > oldest_ns:
                break
            del self._kept[key]
            self._changed.pop(key, None)


class _Day(NamedTuple):
    """A day in New York, of 23 to 25 hours."""

    start_ns: int
    end_ns: int


def _day_of(time_ns: int) -> _Day:
    date = dt.datetime.fromtimestamp(time_ns // SECOND_NS, NEW_YORK).date()
    return _Day(midnight_ns(date), midnight_ns(date + dt.timedelta(days=1)))


BarT = TypeVar("BarT", bound=Bar[int])


def _bar(kind: type[BarT], start_ns: int, symbol: str, candle: Candle) -> BarT:
    return kind(
        symbol=symbol,
        timestamp=start_ns,
        open=candle.open,
        high=candle.high,
        low=candle.low,
        close=candle.close,
        volume=candle.volume,
        trade_count=candle.trade_count,
        vwap=candle.vwap,
    )
