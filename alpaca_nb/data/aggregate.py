"""Candles from columns: what many trades add to the candles of their intervals, in a few steps.

The rules are those of `data.candles`, looked up once per combination of conditions and tape.
Trades count in the order of their rows. On the tape that is the order in which the exchanges'
processor reported them, which is what decides on open and close; a sale that was reported too
late to do so says it by its conditions.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from alpaca_nb.data.amend import VOID
from alpaca_nb.data.candles import Allowed, Updates, sale_rule
from alpaca_nb.data.columns import AnyArray
from alpaca_nb.data.intervals import Grid, Times
from alpaca_nb.data.lengths import SECOND_NS
from alpaca_nb.data.rows import Columns

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.uint8]

# -- what each trade may change ----------------------------------------------------------

OPEN_CLOSE: Final = 0b0011
"""The bits that hold an `Allowed`."""
HIGH_LOW: Final = 0b0100
VOLUME: Final = 0b1000
_UNKNOWN: Final = 0xFF


def flags_of(updates: Updates) -> int:
    """A rule as bits."""
    return int(updates.open_close) | HIGH_LOW * updates.high_low | VOLUME * updates.volume


class SaleFlags:
    """What each row of a frame of trades may change, as bits; 0 for nothing.

    Trades that do not count any more change nothing, and neither do those without a price and
    a size above zero. Remembers what it looked up, so it is good for one epoch of a frame.
    """

    def __init__(self, *, daily: bool = False) -> None:
        self._daily = daily
        self._table = np.full((0, 0), _UNKNOWN, np.uint8)

    def __call__(self, rows: Columns, chosen: AnyArray | slice = slice(None)) -> Flags:
        """The bits of each row, or of the chosen ones."""
        conditions, tapes = rows["conditions"][chosen], rows["tape"][chosen]
        if not len(conditions):
            return np.empty(0, np.uint8)
        self._make_room(int(conditions.max()) + 1, int(tapes.max()) + 1)
        # One number for both is several times faster to look up than two.
        codes = conditions * np.int64(self._table.shape[1]) + tapes
        flags: Flags = self._table.ravel()[codes]
        if (flags == _UNKNOWN).any():
            occurs = np.zeros(self._table.size, bool)
            occurs[codes] = True
            self._learn(np.flatnonzero(occurs), rows)
            flags = self._table.ravel()[codes]
        useless = _useless(rows, chosen)
        return np.where(useless, np.uint8(0), flags) if useless.any() else flags

    def _learn(self, codes: AnyArray, rows: Columns) -> None:
        conditions, tapes = rows.categories("conditions"), rows.categories("tape")
        width = self._table.shape[1]
        for code in codes.tolist():
            rule = sale_rule(conditions[code // width].split(","), tapes[code % width])
            self._table[code // width, code % width] = flags_of(
                rule.daily if self._daily else rule.minute
            )

    def _make_room(self, conditions: int, tapes: int) -> None:
        height, width = self._table.shape
        if conditions > height or tapes > width:
            shape = max(2 * height, conditions), max(width, tapes)
            table = np.full(shape, _UNKNOWN, np.uint8)
            table[:height, :width] = self._table
            self._table = table


def _useless(rows: Columns, chosen: AnyArray | slice) -> NDArray[np.bool_]:
    """Which rows are no trades, or none any more."""
    prices, amended = rows["price"][chosen], rows["amended"][chosen]
    useless: NDArray[np.bool_] = ~((prices > 0) & (prices < np.inf) & (rows["size"][chosen] > 0))
    if amended.any():
        useless |= np.isin(amended, [rows.code("amended", mark) for mark in VOID])
    return useless


# -- what trades add to candles ----------------------------------------------------------


@dataclass(slots=True)
class Sums:
    """What trades make of candles, one entry per candle.

    `open` is NaN without a trade that may set it, `close` without one that always may; high
    and low are infinite without a price. `priced` and `turnover` are volume and price times
    volume of the trades that count in the VWAP.
    """

    open: Floats
    high: Floats
    low: Floats
    close: Floats
    turnover: Floats
    volume: Ints
    trade_count: Ints
    priced: Ints

    @classmethod
    def empty(cls, count: int) -> Sums:
        """Candles without a trade."""
        floats = (np.full(count, value) for value in (np.nan, -np.inf, np.inf, np.nan, 0.0))
        return cls(*floats, *(np.zeros(count, np.int64) for _ in range(3)))

    def __len__(self) -> int:
        return len(self.open)

    def take(self, at: AnyArray) -> Sums:
        """Copies of some."""
        return Sums(*(getattr(self, name)[at] for name in _SUMS))

    def put(self, at: AnyArray, other: Sums) -> None:
        """Replace some."""
        for name in _SUMS:
            getattr(self, name)[at] = getattr(other, name)

    def grown(self, capacity: int) -> Sums:
        """The same with room for more."""
        grown = Sums.empty(capacity)
        grown.put(slice(len(self)), self)  # type: ignore[arg-type]
        return grown

    def add(self, at: AnyArray, more: Sums) -> None:
        """Let trades that come behind all others change these candles, each named once."""
        opens = self.open[at]
        is_first = np.isnan(opens)
        self.open[at] = np.where(is_first, more.open, opens)
        # What may only set a close while there is no open sets it by being the first.
        closes = np.where(is_first, more.open, self.close[at])
        self.close[at] = np.where(np.isnan(more.close), closes, more.close)
        self.high[at] = np.maximum(self.high[at], more.high)
        self.low[at] = np.minimum(self.low[at], more.low)
        self.turnover[at] += more.turnover
        self.volume[at] += more.volume
        self.trade_count[at] += more.trade_count
        self.priced[at] += more.priced

    def differ(self, other: Sums) -> NDArray[np.bool_]:
        """Which candles are not the same in both."""
        differ = np.zeros(len(self), bool)
        for name in _SUMS:
            ours, theirs = getattr(self, name), getattr(other, name)
            differ |= ~((ours == theirs) | ((ours != ours) & (theirs != theirs)))
        return differ

    @property
    def complete(self) -> NDArray[np.bool_]:
        """Which have open, high, low, close, volume and VWAP; there is no other candle."""
        # Sizes and prices that count are above zero, so what is set is not zero.
        complete: NDArray[np.bool_] = ~np.isnan(self.open) & (self.priced > 0)
        return complete

    @property
    def vwap(self) -> Floats:
        """Volume-weighted price; NaN where no trade counts in it."""
        with np.errstate(invalid="ignore"):
            vwap: Floats = np.round(self.turnover / self.priced, 6)
        return vwap


_SUMS: Final = tuple(field.name for field in fields(Sums))


@dataclass(frozen=True, slots=True)
class Parts:
    """What some rows add to candles, each candle once: ordered by symbol, then by time."""

    symbols: Ints
    left: Times
    right: Times
    late: NDArray[np.bool_]
    """Whether any of its trades came later than `due` allows."""
    sums: Sums

    def __len__(self) -> int:
        return len(self.symbols)

    @property
    def keys(self) -> Ints:
        """One number for symbol and interval, ascending with time."""
        return keys_of(self.symbols, self.left)

    def take(self, at: AnyArray) -> Parts:
        """Some of them."""
        return Parts(
            self.symbols[at], self.left[at], self.right[at], self.late[at], self.sums.take(at)
        )


def keys_of(symbols: AnyArray, left: Times) -> Ints:
    """One number for a symbol's code and the left edge of an interval, ascending with time."""
    keys: Ints = (left // SECOND_NS << 30) | symbols
    return keys


def due_times(times: Times, *, newest: int, late_ns: int) -> Times:
    """When the interval of each trade must not have ended yet for it to be in time.

    That is `late_ns` before the highest time stamp so far; `newest` is the one before these.
    """
    due = np.empty(len(times) + 1, np.int64)
    due[0], due[1:] = newest, times
    return (np.maximum.accumulate(due, out=due) - late_ns)[:-1]


def parts_of(
    rows: Columns,
    flags: SaleFlags,
    grid: Grid,
    *,
    chosen: AnyArray | slice = slice(None),
    due: Times | None = None,
) -> Parts:
    """What trades add to the candles of their intervals.

    `due` are the `due_times` of the chosen rows; without them none is late.
    """
    return _parts(
        rows["symbol"][chosen],
        rows["timestamp"][chosen],
        rows["price"][chosen],
        rows["size"][chosen],
        flags(rows, chosen),
        grid,
        due,
    )


def _parts(
    symbols: AnyArray,
    times: Times,
    prices: Floats,
    sizes: AnyArray,
    flags: Flags,
    grid: Grid,
    due: Times | None,
) -> Parts:
    if not flags.all():
        counted = np.flatnonzero(flags)
        symbols, sizes = symbols[counted], sizes[counted]
        times, prices, flags = times[counted], prices[counted], flags[counted]
        due = None if due is None else due[counted]
    edges = grid.edges(times)
    order, starts = _groups(symbols, edges.left, edges.inside)
    flags = flags[order]
    late = np.zeros(len(starts), bool)
    if due is not None:
        is_late = edges.right <= due
        if is_late.any() and len(starts):
            late = np.logical_or.reduceat(is_late[order], starts)
    first = order[starts]
    return Parts(
        symbols[first].astype(np.int64),
        edges.left[first],
        edges.right[first],
        late,
        _sums(prices[order], sizes[order], flags, starts),
    )


def _groups(
    symbols: AnyArray, left: Times, inside: NDArray[np.bool_] | None
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows by symbol and interval, in their order within each, and where each of these begins."""
    if symbols.dtype.itemsize > 2 and (not len(symbols) or symbols.max() <= np.iinfo(np.int16).max):
        # numpy sorts numbers of 16 bits in a tenth of the time.
        symbols = symbols.astype(np.int16)
    if inside is None:
        order = symbols.argsort(kind="stable")
    else:
        rows = np.flatnonzero(inside)
        order = rows[symbols[rows].argsort(kind="stable")]
    if not len(order):
        return order, order
    by_symbol, by_left = symbols[order], left[order]
    goes_on = by_symbol[1:] == by_symbol[:-1]
    if (goes_on & (by_left[1:] < by_left[:-1])).any():
        # Some came after one of a later interval.
        in_time = order[by_left.argsort(kind="stable")]
        order = in_time[symbols[in_time].argsort(kind="stable")]
        by_left = left[order]
    goes_on &= by_left[1:] == by_left[:-1]
    return order, np.append(0, np.flatnonzero(~goes_on) + 1)


def _sums(prices: Floats, sizes: AnyArray, flags: Flags, starts: NDArray[np.intp]) -> Sums:
    """The sums of groups of rows that begin at these places."""
    if not len(starts):
        return Sums.empty(0)
    open_close, ends = flags & OPEN_CLOSE, np.append(starts[1:], len(prices))
    high_low, volume = (flags & HIGH_LOW) != 0, (flags & VOLUME) != 0
    # Which rows open and close is looked up: cheaper than to compare every row.
    may, always = np.flatnonzero(open_close), np.flatnonzero(open_close == Allowed.YES)
    first, last = may.searchsorted(starts), always.searchsorted(ends) - 1
    opens = np.append(may, len(prices))[first]
    closes = np.append(always, -1)[last]
    sized = sizes.astype(np.int64)
    if not volume.all():
        sized[~volume] = 0
    priced = sized * high_low
    return Sums(
        open=np.where(opens < ends, np.append(prices, np.nan)[opens], np.nan),
        high=np.maximum.reduceat(np.where(high_low, prices, -np.inf), starts),
        low=np.minimum.reduceat(np.where(high_low, prices, np.inf), starts),
        close=np.where(closes >= starts, prices[closes], np.nan),
        turnover=np.add.reduceat(prices * priced, starts),
        volume=np.add.reduceat(sized, starts),
        trade_count=np.add.reduceat(volume, starts, dtype=np.int64),
        priced=np.add.reduceat(priced, starts),
    )
