"""Candles that grow with a frame of trades, and change with it when trades are corrected.

A frame only appends until its epoch changes. What was appended is added to the candles of its
intervals. When the epoch changes, the rows are compared with those seen before, and only the
candles with rows that differ are made anew.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from alpaca_nb.data.aggregate import SaleFlags, due_times, keys_of, parts_of
from alpaca_nb.data.candle_table import LONG_AGO, Candles, CandleTable
from alpaca_nb.data.columns import Snapshot
from alpaca_nb.data.intervals import Grid, Hours, Session, Times, usual_hours
from alpaca_nb.data.lengths import SECOND_NS
from alpaca_nb.data.rows import TRADES, columns_in
from alpaca_nb.errors import BadInputError

if TYPE_CHECKING:
    import pandas as pd


def candles_of(
    trades: Snapshot | pd.DataFrame,
    interval: Any,
    *,
    session: Session | None = None,
    hours: Hours = usual_hours,
    late_s: float = 10.0,
) -> Candles:
    """The candles of trades, all at once, from a snapshot or a DataFrame of a frame.

    See `LiveCandles` for the other arguments. Raises BadInputError for rows that are no trades,
    and for an interval or a session that there is not.
    """
    grid = Grid(interval, session=session, hours=hours)
    late_ns = _checked_late_ns(late_s)
    rows = columns_in(trades, TRADES, "trades")
    times = rows["timestamp"]
    table = CandleTable(late_ns=late_ns, maxlen=max(len(times), 1))
    due = due_times(times, newest=LONG_AGO, late_ns=late_ns)
    table.add(parts_of(rows, SaleFlags(daily=grid.is_daily), grid, due=due))
    newest = int(times.max()) if len(times) else LONG_AGO
    return Candles(0, 0, 0, table.arrays(-1, newest=newest), rows.categories("symbol"))


class LiveCandles:
    """The candles of a frame of trades, which bring themselves up to date when they are read.

    `interval` is from one second to one day: "5s", "1min", "65min", "1h", "1d", a timedelta or
    an offset of pandas. Intervals are counted from midnight in New York, or with a `session`
    ("regular" or "extended") from its beginning, and then trades outside it do not count.
    `hours` tells the regular hours of a date, so that holidays and early closes are right;
    without it they are 09:30 to 16:00 from Monday to Friday. Candles of "1d" follow the rules
    of daily bars, all others those of minute bars.

    A candle is "provisional" until a trade was seen (of any symbol) that is `late_s` younger
    than its end: trades have to be reported within 10 seconds. Then it is "final", and
    "updated" if a trade that comes still later changes it, or a correction or cancellation
    does. An interval without a trade that sets prices and volume has no candle.

    `source` gives the rows, as `frame.snapshot` does; without it, hand them to `update`. Any
    thread may read; none waits for the network, and the network's thread for none of them.
    The newest `maxlen` candles are kept. Trades are kept by the frame, not here, so read
    before it drops them: those that it dropped unread are counted in `missed`.

    Raises BadInputError for an interval or a session that there is not, and for a source whose
    rows are no trades.
    """

    def __init__(
        self,
        interval: Any,
        *,
        session: Session | None = None,
        hours: Hours = usual_hours,
        late_s: float = 10.0,
        maxlen: int = 1_000_000,
        source: Callable[[], Snapshot] | None = None,
    ) -> None:
        if type(maxlen) is not int or maxlen < 1:
            raise BadInputError(
                f"maxlen is how many candles are kept: a whole number from 1 on, not {maxlen!r}."
            )
        self._grid = Grid(interval, session=session, hours=hours)
        self._late_ns = _checked_late_ns(late_s)
        self._maxlen = maxlen
        self._source = source
        self._lock = threading.Lock()
        self._version = self._epoch = 0
        self._seen: Snapshot | None = None
        self._read: Candles | None = None
        self._begin()
        if source is not None:
            columns_in(source(), TRADES, "trades")

    def __repr__(self) -> str:
        seconds = self._grid.length_ns // SECOND_NS
        session = f", {self._grid.session} session" if self._grid.session else ""
        return f"LiveCandles({seconds} s{session})"

    def __len__(self) -> int:
        """Candles held now."""
        return len(self.read())

    def __bool__(self) -> bool:
        """True, also while there are none."""
        return True

    @property
    def df(self) -> pd.DataFrame:
        """The candles now, as a DataFrame; see `Candles.to_frame`."""
        return self.read().to_frame()

    @property
    def missed(self) -> int:
        """Trades that the frame had dropped before they could be counted."""
        return self._missed

    def read(self) -> Candles:
        """The candles now, as columns."""
        with self._lock:
            self._pull()
            if self._read is None or self._read.version != self._version:
                self._read = self._candles(-1)
            return self._read

    def changed_since(self, version: int) -> Candles:
        """The candles that came, grew or became final after this version, as columns.

        Go on with `version` of the result. When its `epoch` is another than before, start again
        from -1: some that were told are no more.
        """
        with self._lock:
            self._pull()
            return self._candles(version)

    def update(self, rows: Snapshot) -> None:
        """Count what is new in a frame of trades; `rows` are all that it holds now.

        Rows of before what was counted already change nothing.
        """
        columns_in(rows, TRADES, "trades")
        with self._lock:
            self._update(rows)

    # -- counting ------------------------------------------------------------------------

    def _begin(self) -> None:
        """Begin with nothing."""
        self._flags = SaleFlags(daily=self._grid.is_daily)
        self._table = CandleTable(late_ns=self._late_ns, maxlen=self._maxlen)
        self._newest = LONG_AGO
        self._missed = 0

    def _pull(self) -> None:
        if self._source is not None:
            self._update(self._source())

    def _candles(self, version: int) -> Candles:
        arrays = self._table.arrays(version, newest=self._newest)
        symbols = () if self._seen is None else self._seen.categories("symbol")
        return Candles(self._version, self._epoch, self._missed, arrays, symbols)

    def _update(self, rows: Snapshot) -> None:
        seen = self._seen
        if seen is not None:
            if rows.epoch < seen.epoch or (rows.epoch == seen.epoch and rows.last <= seen.last):
                return
            if _beginning(rows) != _beginning(seen):
                # The frame was cleared.
                self._begin()
                self._epoch += 1
                seen = None
        self._version += 1
        self._table.version = self._version
        if seen is None:
            self._missed += rows.dropped
            self._append(rows)
        else:
            self._missed += max(rows.first - seen.last, 0)
            self._leave(seen, min(rows.first, seen.last) - seen.first)
            if rows.epoch == seen.epoch or rows.first >= seen.last:
                self._append(rows.since(seen.last))
            else:
                self._revise(seen, rows)
        self._seen = rows
        self._table.settle(self._newest)

    def _append(self, rows: Snapshot) -> None:
        """Count rows that stand behind all others."""
        due = self._due(rows["timestamp"])
        self._table.add(parts_of(rows, self._flags, self._grid, due=due))

    def _leave(self, seen: Snapshot, count: int) -> None:
        """Note what the first rows add, which the frame holds no more."""
        if count > 0:
            self._table.keep(parts_of(seen, self._flags, self._grid, chosen=slice(count)))

    def _revise(self, seen: Snapshot, rows: Snapshot) -> None:
        """Make those candles anew whose rows are not the same as before."""
        # Rows before the first that was put between others kept their positions.
        before, count = seen.since(rows.first), len(rows)
        kept = min(len(before), count)
        differs = np.flatnonzero(_differs(before, rows, kept))
        there = np.append(differs, np.arange(kept, count))
        times, symbols = rows["timestamp"], rows["symbol"]
        newest, due = self._newest, np.full(count, LONG_AGO)
        # What was appended may be late as any other.
        due[kept:] = self._due(times[kept:])
        concerned = np.append(before["symbol"][differs], symbols[there])
        edges = self._grid.edges(np.append(before["timestamp"][differs], times[there]))
        if edges.inside is not None:
            edges, concerned = edges.take(edges.inside), concerned[edges.inside]
        if not len(concerned):
            return
        keys = np.unique(keys_of(concerned, edges.left))
        wanted = np.zeros(len(rows.categories("symbol")), bool)
        wanted[concerned] = True
        begin, end = edges.left.min(), edges.right.max()
        chosen = np.flatnonzero(wanted[symbols] & (times >= begin) & (times < end))
        parts = parts_of(rows, self._flags, self._grid, chosen=chosen, due=due[chosen])
        parts = parts.take(np.isin(parts.keys, keys))
        if self._table.renew(keys, parts, newest=newest):
            self._epoch += 1

    def _due(self, times: Times) -> Times:
        due = due_times(times, newest=self._newest, late_ns=self._late_ns)
        if len(times):
            self._newest = max(self._newest, int(times.max()))
        return due


def _beginning(rows: Snapshot) -> int:
    """The position at which a frame began, or was cleared."""
    return rows.first - rows.dropped


def _differs(before: Snapshot, after: Snapshot, count: int) -> NDArray[np.bool_]:
    """Which of the first rows of two snapshots are not the same."""
    differs = np.zeros(count, bool)
    for name in TRADES:
        ours, theirs = before[name][:count], after[name][:count]
        if ours.ctypes.data != theirs.ctypes.data:
            differs |= ours != theirs
    return differs


def _checked_late_ns(late_s: float) -> int:
    if type(late_s) not in (int, float) or not late_s >= 0:
        raise BadInputError(f"late_s is a number of seconds from 0 on, not {late_s!r}.")
    return round(min(late_s, 86_400.0) * SECOND_NS)
