"""What traders compute from quotes and trades: spreads, volume-weighted prices, signs of trades.

Every function takes rows of a frame, as a DataFrame (`frame.df`) or as raw columns
(`frame.snapshot()`), and gives one value per row: a Series with the same index, or an array.
Where a value needs what was before (VWAP, signs), a class of the same name does it for rows
that come in pieces: `update` takes the next rows and gives their values. A value once given is
not taken back when rows of before change; to have it right, begin anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, overload

import numpy as np
from numpy.typing import NDArray

from alpaca_nb.data.aggregate import HIGH_LOW, VOLUME, SaleFlags
from alpaca_nb.data.columns import AnyArray, Snapshot
from alpaca_nb.data.intervals import Grid, Hours, Session, Times, length_ns, usual_hours
from alpaca_nb.data.rows import QUOTES, TRADES, Columns, columns_in
from alpaca_nb.errors import BadInputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "spread",
    "mid",
    "spread_bps",
    "imbalance",
    "microprice",
    "RollingVwap",
    "RunningVwap",
    "rolling_vwap",
    "running_vwap",
    "TradeSigns",
    "trade_signs",
]

Floats = NDArray[np.float64]
Signs = NDArray[np.int8]

# -- of each quote -----------------------------------------------------------------------

_SIDES: Final = ("bid_price", "ask_price", "bid_size", "ask_size")


class QuoteMeasure:
    """A number for each quote, computed from its two sides.

    NaN where a side is missing, which Alpaca tells by a price of 0.
    """

    def __init__(self, compute: Callable[[Floats, Floats, Floats, Floats], Floats]) -> None:
        self.__doc__, self.__name__ = compute.__doc__, compute.__name__
        self._compute = compute

    @overload
    def __call__(self, quotes: pd.DataFrame) -> pd.Series[float]: ...

    @overload
    def __call__(self, quotes: Snapshot | Mapping[str, Any]) -> Floats: ...

    def __call__(self, quotes: Any) -> Any:
        """The values of quotes: a DataFrame, a snapshot, or arrays by name of column."""
        try:
            sides = [np.asarray(quotes[name], np.float64) for name in _SIDES]
        except (KeyError, TypeError, ValueError):
            raise BadInputError(
                f"Quotes have the columns {', '.join(_SIDES)}, with numbers; take the rows of a "
                "frame of quotes, such as frame.df or frame.snapshot()."
            ) from None
        bid, ask = sides[:2]
        two_sided = (bid > 0) & (ask > 0) & np.isfinite(bid) & np.isfinite(ask)
        with np.errstate(all="ignore"):
            values = np.where(two_sided, self._compute(*sides), np.nan)
        return _like(quotes, values, self.__name__)


@QuoteMeasure
def spread(bid: Floats, ask: Floats, bid_size: Floats, ask_size: Floats) -> Floats:
    """Ask less bid; negative in a crossed market."""
    return ask - bid


@QuoteMeasure
def mid(bid: Floats, ask: Floats, bid_size: Floats, ask_size: Floats) -> Floats:
    """The middle between bid and ask."""
    return (bid + ask) / 2


@QuoteMeasure
def spread_bps(bid: Floats, ask: Floats, bid_size: Floats, ask_size: Floats) -> Floats:
    """The spread in hundredths of a percent of the mid."""
    return (ask - bid) / ((bid + ask) / 2) * 10_000


@QuoteMeasure
def imbalance(bid: Floats, ask: Floats, bid_size: Floats, ask_size: Floats) -> Floats:
    """(bid size - ask size) / (bid size + ask size): 1 if all size is bid, -1 if all is asked.

    NaN where both sizes are 0.
    """
    return _finite((bid_size - ask_size) / (bid_size + ask_size))


@QuoteMeasure
def microprice(bid: Floats, ask: Floats, bid_size: Floats, ask_size: Floats) -> Floats:
    """The mid weighted by sizes, nearer to the side with less: where the price is pushed to.

    NaN where both sizes are 0.
    """
    return _finite((bid * ask_size + ask * bid_size) / (bid_size + ask_size))


def _finite(values: Floats) -> Floats:
    return np.where(np.isfinite(values), values, np.nan)


# -- volume-weighted prices --------------------------------------------------------------


class RollingVwap:
    """The VWAP of the last while (such as "5min") at each trade, per symbol, piece by piece.

    The window of a trade ends with it and begins just after `window` before it. A trade counts
    by the rules of minute bars: with its price and size if its conditions let it change the
    range and the volume. At one that does not count, the value is that of the others. Where a
    time stamp goes backwards, the highest before it holds. NaN while there is nothing.
    """

    def __init__(self, window: Any) -> None:
        self._window_ns = length_ns(window, what="A window")
        self._past: dict[str, _Past] = {}

    @overload
    def update(self, trades: pd.DataFrame) -> pd.Series[float]: ...

    @overload
    def update(self, trades: Snapshot) -> Floats: ...

    def update(self, trades: Any) -> Any:
        """The values of the trades that come next."""
        rows = columns_in(trades, TRADES, "trades")
        times, (turnover, volume) = rows["timestamp"], _weighed(rows, SaleFlags()(rows))
        values = np.full(len(times), np.nan)
        for symbol, at in _by_symbol(rows):
            past = self._past.setdefault(symbol, _Past())
            past.append(times[at], turnover[at], volume[at])
            values[at] = past.vwap(len(at), self._window_ns)
            past.forget(self._window_ns)
        return _like(trades, values, "vwap")


@dataclass(slots=True)
class _Past:
    """The trades of one symbol in the window, with sums from the first on; one entry is before."""

    times: Times = field(default_factory=lambda: np.array([_LONG_AGO]))
    turnover: Floats = field(default_factory=lambda: np.zeros(1))
    volume: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))

    def append(self, times: Times, turnover: Floats, volume: NDArray[np.int64]) -> None:
        times = np.maximum(np.maximum.accumulate(times), self.times[-1])
        self.times = np.append(self.times, times)
        self.turnover = np.append(self.turnover, self.turnover[-1] + turnover.cumsum())
        self.volume = np.append(self.volume, self.volume[-1] + volume.cumsum())

    def vwap(self, count: int, window_ns: int) -> Floats:
        """At the last trades."""
        before = self.times.searchsorted(self.times[-count:] - window_ns, side="right") - 1
        volume = self.volume[-count:] - self.volume[before]
        return _divided(self.turnover[-count:] - self.turnover[before], volume)

    def forget(self, window_ns: int) -> None:
        first = int(self.times.searchsorted(self.times[-1] - window_ns, side="right")) - 1
        if first > len(self.times) // 2:
            # From zero again, so that the sums stay exact.
            self.times = self.times[first:].copy()
            self.turnover = self.turnover[first:] - self.turnover[first]
            self.volume = self.volume[first:] - self.volume[first]


class RunningVwap:
    """The VWAP of the day so far at each trade, per symbol, piece by piece.

    A day begins at midnight in New York, or with the `session` ("regular" or "extended"; `hours`
    tells the regular hours of a date), and trades outside have NaN. Trades count by the rules of
    daily bars, in which those in extended hours have no price: at each moment the value is the
    `vwap` of the running daily bar. A trade of an earlier day than one before it has NaN.
    """

    def __init__(self, *, session: Session | None = None, hours: Hours = usual_hours) -> None:
        self._grid = Grid("1d", session=session, hours=hours)
        # Per symbol the beginning of its day, and turnover and volume since.
        self._days: dict[str, tuple[int, float, int]] = {}

    @overload
    def update(self, trades: pd.DataFrame) -> pd.Series[float]: ...

    @overload
    def update(self, trades: Snapshot) -> Floats: ...

    def update(self, trades: Any) -> Any:
        """The values of the trades that come next."""
        rows = columns_in(trades, TRADES, "trades")
        turnover, volume = _weighed(rows, SaleFlags(daily=True)(rows))
        edges = self._grid.edges(rows["timestamp"])
        values = np.full(len(turnover), np.nan)
        for symbol, at in _by_symbol(rows):
            if edges.inside is not None:
                at = at[edges.inside[at]]
            for day, of_day in _by_day(edges.left[at], at):
                begin, money, shares = self._days.get(symbol, (_LONG_AGO, 0.0, 0))
                if day < begin:
                    continue
                if day > begin:
                    money, shares = 0.0, 0
                monies = money + turnover[of_day].cumsum()
                counts = shares + volume[of_day].cumsum()
                values[of_day] = _divided(monies, counts)
                self._days[symbol] = (day, float(monies[-1]), int(counts[-1]))
        return _like(trades, values, "vwap")


def rolling_vwap(trades: Any, window: Any) -> Any:
    """The VWAP of the last while (such as "5min") at each trade; see `RollingVwap`."""
    return RollingVwap(window).update(trades)


def running_vwap(trades: Any, *, session: Session | None = None, hours: Hours = usual_hours) -> Any:
    """The VWAP of the day or session so far at each trade; see `RunningVwap`."""
    return RunningVwap(session=session, hours=hours).update(trades)


# -- who traded with whom ----------------------------------------------------------------


class TradeSigns:
    """Whether the buyer (1) or the seller (-1) crossed the spread, trade by trade; 0: unknown.

    The rule of Lee and Ready (1991) without their delay of five seconds: a trade above the mid
    of the quote then standing was bought, one below was sold. Where it is exactly the mid, or
    there is no quote with two sides, the tick rule decides: bought if the price is above the
    last other price of the symbol, sold if below. A price that is none has 0.

    The quote then standing is the last of the symbol that is older than the trade. One of the
    same time stamp may be what the trade left behind: on a real day with stamps of
    milliseconds, two thirds of the trades of IBM are at the bid or ask by this definition, and
    half if quotes of the same time count.

    `keep_s` is how long quotes are kept for trades that come late.
    """

    def __init__(self, *, keep_s: float = 60.0) -> None:
        if type(keep_s) not in (int, float) or not 0 <= keep_s <= 86_400:
            raise BadInputError(f"keep_s is a number of seconds from 0 to 86400, not {keep_s!r}.")
        self._keep_ns = round(keep_s * 1_000_000_000)
        self._quotes: dict[str, _Mids] = {}
        # Per symbol the last price, and the sign of the last change.
        self._ticks: dict[str, tuple[float, int]] = {}

    @overload
    def update(self, trades: pd.DataFrame, quotes: Any) -> pd.Series[int]: ...

    @overload
    def update(self, trades: Snapshot, quotes: Any) -> Signs: ...

    def update(self, trades: Any, quotes: Any) -> Any:
        """The signs of the trades that come next; `quotes` are all that came in the meantime.

        Read the trades first and the quotes then, so that none that stood is missing.
        """
        rows = columns_in(trades, TRADES[:3], "trades")
        self._add(columns_in(quotes, QUOTES, "quotes"))
        times, prices = rows["timestamp"], np.asarray(rows["price"], np.float64)
        signs = np.zeros(len(times), np.int8)
        for symbol, at in _by_symbol(rows):
            at = at[(prices[at] > 0) & np.isfinite(prices[at])]
            by_tick = self._tick_signs(symbol, prices[at])
            known = self._quotes.get(symbol)
            mids = known.at(times[at]) if known else np.full(len(at), np.nan)
            off_mid = np.sign(prices[at] - mids)
            decided = np.abs(off_mid) == 1
            signs[at] = np.where(decided, off_mid, by_tick).astype(np.int8)
        for known in self._quotes.values():
            known.forget(self._keep_ns)
        return _like(trades, signs, "sign")

    def _add(self, quotes: Columns) -> None:
        times = quotes["timestamp"]
        bid, ask = (np.asarray(quotes[name], np.float64) for name in QUOTES[2:])
        two_sided = (bid > 0) & (ask > 0) & np.isfinite(bid) & np.isfinite(ask)
        mids = np.where(two_sided, (bid + ask) / 2, np.nan)
        for symbol, at in _by_symbol(quotes):
            self._quotes.setdefault(symbol, _Mids()).append(times[at], mids[at])

    def _tick_signs(self, symbol: str, prices: Floats) -> NDArray[np.int64]:
        if not len(prices):
            return np.zeros(0, np.int64)
        last, sign = self._ticks.get(symbol, (float(prices[0]), 0))
        changes = np.sign(np.diff(prices, prepend=last)).astype(np.int64)
        # Where the price is the same, the last change goes on.
        at = np.maximum.accumulate(np.where(changes != 0, np.arange(len(changes)), -1))
        signs = np.where(at >= 0, changes[at], sign)
        self._ticks[symbol] = (float(prices[-1]), int(signs[-1]))
        return signs


@dataclass(slots=True)
class _Mids:
    """The mids of one symbol in the order of time."""

    times: Times = field(default_factory=lambda: np.empty(0, np.int64))
    mids: Floats = field(default_factory=lambda: np.empty(0))

    def append(self, times: Times, mids: Floats) -> None:
        self.times, self.mids = np.append(self.times, times), np.append(self.mids, mids)
        if (self.times[1:] < self.times[:-1]).any():
            order = self.times.argsort(kind="stable")
            self.times, self.mids = self.times[order], self.mids[order]

    def at(self, times: Times) -> Floats:
        """The mid that stood before each of these times; NaN if there was none."""
        if not len(self.times):
            return np.full(len(times), np.nan)
        before = self.times.searchsorted(times, side="left") - 1
        return np.where(before >= 0, self.mids[before], np.nan)

    def forget(self, keep_ns: int) -> None:
        # The one that stood at the beginning is kept.
        first = int(self.times.searchsorted(self.times[-1] - keep_ns, side="right")) - 1
        if first > len(self.times) // 2:
            self.times, self.mids = self.times[first:].copy(), self.mids[first:].copy()


def trade_signs(trades: Any, quotes: Any) -> Any:
    """Whether each trade was bought (1) or sold (-1) at the quote then standing; 0: unknown.

    See `TradeSigns` for the rule.
    """
    return TradeSigns().update(trades, quotes)


# -- what they share ---------------------------------------------------------------------

_LONG_AGO: Final = -(1 << 62)


def _like(rows: Any, values: AnyArray, name: str) -> Any:
    """Values as a Series where the rows are a DataFrame."""
    if isinstance(rows, Snapshot) or not hasattr(rows, "index"):
        return values
    import pandas as pd

    return pd.Series(values, index=rows.index, name=name)


def _weighed(rows: Columns, flags: AnyArray) -> tuple[Floats, NDArray[np.int64]]:
    """Price times size and size of each trade, 0 for those that do not count."""
    counts = (flags & (HIGH_LOW | VOLUME)) == HIGH_LOW | VOLUME
    sizes = np.where(counts, rows["size"], 0).astype(np.int64)
    # Prices that are none would make NaN of 0.
    return np.where(counts, rows["price"], 0.0) * sizes, sizes


def _divided(turnover: Floats, volume: AnyArray) -> Floats:
    divided = np.full(len(turnover), np.nan)
    np.divide(turnover, volume, out=divided, where=volume > 0)
    return divided


def _by_symbol(rows: Columns) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """Each symbol with its rows, in their order."""
    codes, names = rows["symbol"], rows.categories("symbol")
    order = codes.argsort(kind="stable")
    codes = codes[order]
    for at in np.split(order, np.flatnonzero(codes[1:] != codes[:-1]) + 1):
        if len(at):
            yield names[int(rows["symbol"][at[0]])], at


def _by_day(days: Times, at: NDArray[np.intp]) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Rows that follow each other and are of one day."""
    starts = np.flatnonzero(days[1:] != days[:-1]) + 1
    for some in np.split(np.arange(len(at)), starts):
        if len(some):
            yield int(days[some[0]]), at[some]
