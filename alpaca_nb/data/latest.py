"""The last row of each symbol, whatever retention has dropped since."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from alpaca_nb.data.columns import (
    AnyArray,
    Change,
    Column,
    Groups,
    Placed,
    Snapshot,
    group,
)

_LONG_AGO: Final = np.iinfo(np.int64).min


class Update(msgspec.Struct, frozen=True, eq=False):
    """What appended rows change; `LatestRows.apply` may be done again after an interrupt."""

    symbols: AnyArray
    """Those whose last row is another now."""
    positions: NDArray[np.int64]
    """And its position."""
    seen: AnyArray
    newest: NDArray[np.int64]
    """The highest time stamp of each symbol seen."""
    stored_from: int
    aside: Sequence[tuple[AnyArray, Sequence[AnyArray]]] = ()
    """Rows whose memory goes: symbols and values."""


class LatestRows:
    """Where the last row of each symbol is: only its position is noted when rows come.

    The values lie in the store, and are put aside when it gives up their memory. Not for
    concurrent use: its owner guards it with one lock, and asks with the snapshot it belongs to.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        names = [column.name for column in columns]
        self._symbol, self._time = names.index("symbol"), names.index("timestamp")
        self.clear()

    def clear(self) -> None:
        """Forget every symbol."""
        # Indexed by symbol code, as all arrays here: the position of its last row, or -1,
        # and the highest time stamp it ever had.
        self._position = np.empty(0, np.int64)
        self._newest = np.empty(0, np.int64)
        # Last rows at positions before this one lie here.
        self._stored_from = 0
        self._aside: list[AnyArray] = []

    def newest(self, groups: Groups) -> NDArray[np.int64]:
        """The highest time stamp that the symbol of each group ever had."""
        symbols = groups.symbols
        if len(symbols) and symbols[-1] >= len(self._newest):
            self._make_room(int(symbols[-1]) + 1)
        return self._newest.take(symbols)

    def appended(
        self,
        arrays: Sequence[AnyArray],
        *,
        held: Snapshot,
        now: Snapshot,
        late: bool,
        groups: Groups | None = None,
    ) -> Update:
        """What changes by rows that were appended to those of `held`, which became `now`.

        Rows normally count in the order of their arrival. Late ones, which repair a gap,
        only count if they are not older than what is there. `groups` are those of the rows,
        if they are known.
        """
        groups = groups or group(arrays[self._symbol], arrays[self._time])
        newest = np.maximum(self.newest(groups), groups.newest)
        symbols, rows = groups.symbols, groups.last
        aside = []
        if now.stored_from > self._stored_from:
            aside.append(self._leaving(held, now.stored_from))
        if late:
            known = self._position[symbols] >= 0
            counts = ~known | (arrays[self._time][rows] >= self._times_of(symbols, known, held))
            symbols, rows = symbols[counts], rows[counts]
        positions = rows + held.last
        if len(positions) and now.stored_from > held.last:
            gone = positions < now.stored_from
            aside.append((symbols[gone], [values[rows[gone]] for values in arrays]))
        return Update(symbols, positions, groups.symbols, newest, now.stored_from, aside)

    def apply(self, update: Update) -> None:
        """Do what `appended` has found."""
        for symbols, values in update.aside:
            self._put_aside(symbols, values)
        self._newest[update.seen] = update.newest
        self._position[update.symbols] = update.positions
        self._stored_from = max(self._stored_from, update.stored_from)

    def changed(self, change: Change, placed: Placed, *, held: Snapshot) -> LatestRows:
        """The same after a change of the rows held.

        New rows count if they are younger than what is there.
        """
        after = self._copy()
        # From here on positions are those after the change, and only rows that stay are stored.
        first = held.first + placed.dropped
        after._put_aside(*self._leaving(held, first))
        after._stored_from = first
        rows = np.flatnonzero(change.rows < placed.dropped)
        if len(rows):
            symbols = change.values[self._symbol][rows]
            rows = rows[self._position[symbols] == change.rows[rows] + held.first]
            values = [values[rows] for values in change.values]
            after._put_aside(values[self._symbol], values)
        stays = self._position >= first
        moved = placed.moved(self._position - held.first) + placed.first
        after._position = np.where(stays, moved, self._position)
        after._take_in([values[placed.unfit :] for values in change.new], placed, self, held)
        return after

    def replaced(
        self, symbols: AnyArray, values: Sequence[AnyArray], *, held: Snapshot
    ) -> LatestRows:
        """The same with other values in the last rows of some symbols, which are not held."""
        after = self._copy()
        after._put_aside(*self._leaving(held, held.first))
        after._stored_from = max(self._stored_from, held.first)
        after._put_aside(symbols, values)
        return after

    def not_held(self, held: Snapshot) -> tuple[AnyArray, list[AnyArray]]:
        """The symbols whose last row retention has dropped, and these rows."""
        symbols = np.flatnonzero((self._position >= 0) & (self._position < held.first))
        return symbols, self._values(symbols, held)

    def since(self, position: int, *, of: Snapshot) -> Snapshot:
        """The last rows of the symbols that have a row at `position` or later.

        In the order of the symbols' codes, copied; `of` is the snapshot they belong to.
        """
        symbols = np.flatnonzero(self._position >= max(position, 0))
        values = self._values(symbols, of)
        return of.with_rows(values, self._position[symbols], first=position)

    def _copy(self) -> LatestRows:
        other = object.__new__(LatestRows)
        other._symbol, other._time = self._symbol, self._time
        other._position, other._newest = self._position.copy(), self._newest.copy()
        other._stored_from = self._stored_from
        other._aside = [values.copy() for values in self._aside]
        return other

    def _values(self, symbols: AnyArray, of: Snapshot) -> list[AnyArray]:
        positions = self._position[symbols]
        is_stored = positions >= self._stored_from
        stored = of.stored(positions[is_stored])
        if is_stored.all():
            return stored
        values = []
        for mine, theirs in zip(self._aside, stored, strict=True):
            both = np.empty(len(symbols), np.promote_types(mine.dtype, theirs.dtype))
            both[is_stored] = theirs
            both[~is_stored] = mine[symbols[~is_stored]]
            values.append(both)
        return values

    def _times_of(self, symbols: AnyArray, known: AnyArray, of: Snapshot) -> NDArray[np.int64]:
        """The time stamps of last rows; anything where there is none."""
        times = np.empty(len(symbols), np.int64)
        times[known] = self._values(symbols[known], of)[self._time]
        return times

    def _leaving(self, held: Snapshot, stored_from: int) -> tuple[AnyArray, list[AnyArray]]:
        """The symbols whose last row the store gives up, and these rows."""
        leaves = (self._position >= self._stored_from) & (self._position < stored_from)
        symbols = np.flatnonzero(leaves)
        return symbols, held.stored(self._position[symbols])

    def _take_in(
        self, new: Sequence[AnyArray], placed: Placed, before: LatestRows, held: Snapshot
    ) -> None:
        groups = group(new[self._symbol], new[self._time])
        if not len(groups.symbols):
            return
        symbols, rows = groups.symbols, groups.last
        newest = np.maximum(self.newest(groups), groups.newest)
        self._newest[symbols] = newest
        positions, at = placed.targets[rows] + placed.first, self._position[symbols]
        known = at >= 0
        times, known_times = new[self._time][rows], before._times_of(symbols, known, held)
        # Of one time are those first that stand first.
        counts = (times > known_times) | ((times == known_times) & (positions > at)) | ~known
        self._position[symbols[counts]] = positions[counts]

    def _put_aside(self, symbols: AnyArray, values: Sequence[AnyArray]) -> None:
        if not len(symbols):
            return
        capacity = len(self._position)
        if not self._aside:
            self._aside = [np.empty(0, each.dtype) for each in values]
        for i, each in enumerate(values):
            mine = self._aside[i]
            if len(mine) < capacity or mine.dtype != each.dtype:
                wide = np.empty(capacity, np.promote_types(mine.dtype, each.dtype))
                wide[: len(mine)] = mine
                self._aside[i] = mine = wide
            mine[symbols] = each

    def _make_room(self, symbols: int) -> None:
        room = max(symbols, 2 * len(self._position)) - len(self._position)
        newest = np.concatenate([self._newest, np.full(room, _LONG_AGO)])
        self._position = np.concatenate([self._position, np.full(room, -1)])
        self._newest = newest
