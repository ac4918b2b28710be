"""Which rows are whose: found in the time it takes to read a symbol's rows, not all of them.

Built when somebody asks and from then on kept up by whoever asks, so it costs the feed
nothing, and a frame that is never asked for a symbol has none. Rows are sorted by symbol in
runs. A run swallows those before it that are no longer than itself, so a row is sorted a few
times at most and there are only a few runs to look into.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from alpaca_nb.data.columns import AnyArray, Snapshot
from alpaca_nb.errors import BadInputError
from alpaca_nb.wire.messages import check_symbols

_SCANNED: Final = 1 << 16
"""To compare so many rows takes microseconds, so they are not worth sorting."""

_LONGEST: Final = 1 << 20
"""More rows would take longer to sort each, and stay longer when retention has dropped them."""

_SHOWN: Final = 10
"""Symbols that an error message lists."""

_NOTHING: Final = np.empty(0, np.intp)


@dataclass(frozen=True, slots=True)
class _Run:
    """Rows with the positions `first` to `last`, by symbol."""

    first: int
    last: int
    codes: AnyArray
    """The symbols that occur, ascending."""
    bounds: NDArray[np.intp]
    """Where the rows of each begin in `order`, and the end."""
    order: NDArray[np.int32]
    """Rows counted from `first`: symbol by symbol, those of a symbol ascending."""

    def rows(self, code: int, first: int, last: int) -> NDArray[np.intp]:
        """The rows of a symbol at positions `first` to `last`, counted from `first`."""
        if code > self.codes[-1]:
            return _NOTHING
        # A number of any other type would have all codes converted to it first.
        at = int(self.codes.searchsorted(self.codes.dtype.type(code)))
        if self.codes[at] != code:
            return _NOTHING
        rows = self.order[self.bounds[at] : self.bounds[at + 1]] + np.intp(self.first - first)
        if first > self.first:
            rows = rows[rows.searchsorted(0) :]
        return rows[: rows.searchsorted(last - first)] if last < self.last else rows


@dataclass(frozen=True, slots=True)
class _Runs:
    """Runs that follow each other without a hole; true for one epoch."""

    epoch: int
    runs: tuple[_Run, ...] = ()

    @property
    def last(self) -> int:
        return self.runs[-1].last if self.runs else 0


class SymbolIndex:
    """The rows of each symbol of a frame; for any number of threads.

    Takes four bytes a row once it has been asked, until retention drops the rows. Up to
    `scanned` rows at the end are compared one by one; a run has no more than `longest`.
    """

    def __init__(self, *, scanned: int = _SCANNED, longest: int = _LONGEST) -> None:
        self._scanned, self._longest = scanned, longest
        self._lock = threading.Lock()
        self._known = _Runs(epoch=-1)

    def rows(self, held: Snapshot, symbol: str) -> NDArray[np.intp]:
        """Which rows of `held` are the symbol's, in ascending order.

        `held` are all rows that the frame holds, or held at an earlier moment.
        """
        code = held.code("symbol", symbol)
        if code < 0:
            return _NOTHING
        runs = self._runs(held)
        if not runs:
            return _scan(held, code, held.first, held.last)
        between = [run.rows(code, held.first, held.last) for run in runs]
        # A snapshot from earlier may begin before the runs, or end before some of them.
        before = _scan(held, code, held.first, runs[0].first)
        return np.concatenate([before, *between, _scan(held, code, runs[-1].last, held.last)])

    def clear(self) -> None:
        """Forget everything; it is built again when somebody asks."""
        with self._lock:
            self._known = _Runs(epoch=-1)

    def _runs(self, held: Snapshot) -> tuple[_Run, ...]:
        """Runs that hold all rows but a few, brought up to date if need be."""
        known = self._known
        if not self._is_enough(known, held):
            with self._lock:
                if not self._is_enough(self._known, held):
                    self._known = self._extended(held)
                known = self._known
        return _overlapping(known, held)

    def _is_enough(self, known: _Runs, held: Snapshot) -> bool:
        if held.epoch != known.epoch:
            # Nobody asks for rows of an earlier epoch for long: they are worth no index.
            return held.epoch < known.epoch
        return held.last - max(known.last, held.first) <= self._scanned

    def _extended(self, held: Snapshot) -> _Runs:
        """Runs of all rows held, and none of which no row is held any more."""
        runs = list(_overlapping(self._known, held))
        begin = runs[-1].last if runs else held.first
        if held.last - begin <= self._scanned:
            begin = held.last
        for start in range(begin, held.last, self._longest):
            first, last = start, min(start + self._longest, held.last)
            while runs and last - runs[-1].first <= min(2 * (last - first), self._longest):
                first = max(runs.pop().first, held.first)
            runs.append(_sorted(held, first, last))
        return _Runs(held.epoch, tuple(runs))


def _overlapping(known: _Runs, held: Snapshot) -> tuple[_Run, ...]:
    if known.epoch != held.epoch:
        return ()
    return tuple(run for run in known.runs if run.last > held.first and run.first < held.last)


def _sorted(held: Snapshot, first: int, last: int) -> _Run:
    codes = held["symbol"][first - held.first : last - held.first]
    order = _argsort(codes)
    codes = codes[order]
    begins = np.append(0, np.flatnonzero(codes[1:] != codes[:-1]) + 1)
    bounds = np.append(begins, len(codes))
    return _Run(first, last, codes[begins], bounds, order.astype(np.int32))


def _argsort(codes: AnyArray) -> NDArray[np.intp]:
    if codes.dtype.itemsize <= 2:
        return codes.argsort(kind="stable")
    # Of 16 bits numpy makes a radix sort, which is several times faster even twice.
    low = codes.astype(np.uint16).argsort(kind="stable")
    return low[(codes >> 16).astype(np.int16)[low].argsort(kind="stable")]


def _scan(held: Snapshot, code: int, first: int, last: int) -> NDArray[np.intp]:
    """The rows of a symbol between two positions, found by looking at each."""
    start, stop = max(first - held.first, 0), max(last - held.first, 0)
    return np.flatnonzero(held["symbol"][start:stop] == code) + start


def check_symbol(symbol: str, symbols: Sequence[str], held: Snapshot) -> str:
    """A symbol that a frame was asked for, or has rows of, in upper case.

    `symbols` are those the frame was asked for. Raises BadInputError for any other.
    """
    (name,) = check_symbols([symbol])
    if name == "*":
        raise BadInputError("One symbol by name is needed here, such as 'AAPL', not '*'.")
    if name in symbols or "*" in symbols or held.code("symbol", name) >= 0:
        return name
    others = f" and {len(symbols) - _SHOWN} more" if len(symbols) > _SHOWN else ""
    raise BadInputError(
        f"This frame was not asked for {name}; it has {', '.join(symbols[:_SHOWN])}{others}."
    )
