"""Which rows are the same, and where a row belongs that comes late.

Pure: encoded columns in, row numbers out. Nothing here goes through rows one by one except
where two of them may be the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from alpaca_nb.data.columns import AnyArray, Groups, Snapshot

Rows = NDArray[np.intp]
"""Numbers of rows."""
Key = tuple[int, ...]
"""What two rows have in common exactly if they are the same."""

NEW: Final = -1
"""Instead of the row held that a new one repeats: there is none."""
AGAIN: Final = -2
"""The same: it repeats another of the new ones."""


def places(held: AnyArray, times: AnyArray) -> Rows:
    """Before which of the rows held each new one belongs; both arrays are time stamps.

    Rows held may be out of order, because they stand as they came. A new one goes behind all
    that are not younger, up to the first that shows that the stream was already further.
    """
    return np.searchsorted(np.maximum.accumulate(held), times, side="right")


def is_in(values: AnyArray, wanted: AnyArray, *, ascending: bool = False) -> NDArray[np.bool_]:
    """Which of the values are among the wanted, which may be ascending; both are of one type."""
    if not len(wanted):
        return np.zeros(len(values), bool)
    # Faster than numpy's own for few that are wanted among many.
    wanted = wanted if ascending else np.unique(wanted)
    found = np.searchsorted(wanted, values)
    found[found == len(wanted)] = 0
    equal: NDArray[np.bool_] = wanted[found] == values
    return equal


def is_younger(groups: Groups, newest: AnyArray) -> bool:
    """Whether every row is younger than all before it of its symbol.

    `newest` is the highest time stamp before, for each group.
    """
    return groups.ascending and bool((groups.oldest > newest).all())


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes two rows of a channel the same one. Columns are named by their number."""

    record: tuple[int, ...]
    """The columns of the message, timestamp and symbol first."""
    key: tuple[int, ...] | None = None
    """Those that are enough, if there are any: then a second row with them is no other one.

    Without, the same record may stand for several events, which are told by their count.
    """
    number: int | None = None
    """A column of the key without which (0) only the whole record tells."""

    def keys(self, arrays: Sequence[AnyArray], rows: Rows) -> list[Key]:
        """The keys of some rows."""
        keys = _tuples(arrays, self.key or self.record, rows)
        if self.key is not None and self.number is not None:
            bare = np.flatnonzero(arrays[self.number][rows] == 0)
            for i, key in zip(bare, _tuples(arrays, self.record, rows[bare]), strict=True):
                keys[i] = key
        return keys

    def pair(self, held: Sequence[AnyArray], new: Sequence[AnyArray]) -> Rows:
        """For each new row the row held that it repeats, NEW, or AGAIN.

        Of equal records that may stand for several events, each is paired with another.
        """
        pairs = np.full(len(new[0]), NEW)
        candidates = _at_the_same_time(self.record, held, new)
        unpaired: dict[Key, list[int]] = {}
        for row, key in zip(candidates.tolist(), self.keys(held, candidates), strict=True):
            unpaired.setdefault(key, []).append(row)
        for i, key in enumerate(self.keys(new, np.arange(len(pairs)))):
            rows = unpaired.get(key)
            if self._is_one(key):
                pairs[i] = rows[0] if rows else NEW
                if not rows:
                    unpaired[key] = [AGAIN]
            elif rows:
                pairs[i] = rows.pop(0)
        return pairs

    def repeated(
        self, held: Snapshot, new: Sequence[AnyArray], groups: Groups, newest: AnyArray
    ) -> NDArray[np.bool_] | None:
        """Which of the new rows were sent before: among the last ones held, or here.

        None says quickly that none was, as nearly always: a row that was sent before is not
        younger than the youngest of its symbol, which `newest` tells for each of the groups
        as of before, and `groups` among themselves.
        """
        if is_younger(groups, newest):
            return None
        times, symbols = new[self.record[0]], new[self.record[1]]
        not_younger = times <= newest[np.searchsorted(groups.symbols, symbols)]
        window = _recent(held, times[not_younger])
        if self.key is None and not (_has_fine_times(times) or _has_fine_times(window[0])):
            return None
        ours, theirs = self._sieved(new), np.sort(self._sieved(window))
        doubtful = np.zeros(len(ours), bool)
        doubtful[not_younger] = is_in(ours[not_younger], theirs, ascending=True)
        if not groups.ascending:
            doubtful |= _stand_twice(ours)
        if not doubtful.any():
            return None
        doubted = np.unique(ours[doubtful])
        return self._compare(
            window,
            np.flatnonzero(is_in(self._sieved(window), doubted, ascending=True)),
            new,
            np.flatnonzero(is_in(ours, doubted, ascending=True)),
        )

    def _compare(
        self, window: Sequence[AnyArray], theirs: Rows, new: Sequence[AnyArray], ours: Rows
    ) -> NDArray[np.bool_]:
        """Which of our rows are among theirs, or among ours before."""
        seen = set(self.keys(window, theirs))
        again = np.zeros(len(new[0]), bool)
        for row, key in zip(ours.tolist(), self.keys(new, ours), strict=True):
            again[row] = key in seen and (self.key is None or self._is_one(key))
            seen.add(key)
        return again

    def _sieved(self, arrays: Sequence[AnyArray]) -> NDArray[np.uint64]:
        """A number per row that is equal for equal rows, and nearly always another for others."""
        time, symbol = self.record[:2]
        other = arrays[symbol if self.number is None else self.number]
        mixed: NDArray[np.uint64] = arrays[time].view(np.uint64) * _MIXER
        return mixed + other.astype(np.uint64)

    def _is_one(self, key: Key) -> bool:
        return self.key is not None and len(key) == len(self.key)


# -- live repetitions --------------------------------------------------------------------

_WINDOW: Final = 4_096
"""Rows in which a repetition is normally found: a few seconds of a busy stream."""
_WIDE_WINDOW: Final = 65_536
"""Where the rows in question are older than that, such as what a slow reader still has to
read when a gap was filled already."""

_MILLISECOND_NS: Final = 1_000_000


def _recent(held: Snapshot, times: AnyArray) -> list[AnyArray]:
    """The columns of the last rows held, as far back as these times may need."""
    recent = held.tail(_WINDOW)
    if len(times) and len(recent) and times.min() < recent["timestamp"].min():
        recent = held.tail(_WIDE_WINDOW)
    return [recent[column.name] for column in held.columns]


def _has_fine_times(times: AnyArray) -> bool:
    """Whether these time stamps tell more than milliseconds.

    Where they do not, two equal quotes of one time are usual (8 % of a recording of 2013, in
    a busy half hour); where they do, Alpaca's streams have none, and an equal one was sent
    twice. What the others around it tell decides, because one in a million of exact times
    falls on a millisecond, too.
    """
    return bool((times % _MILLISECOND_NS).any())


_MIXER: Final = np.uint64(0x9E3779B97F4A7C15)


def _stand_twice(values: AnyArray) -> NDArray[np.bool_]:
    """Which of the values stand somewhere else, too."""
    ascending = np.sort(values)
    twice = ascending[1:][ascending[1:] == ascending[:-1]]
    return is_in(values, twice, ascending=True)


# -- rows and keys -----------------------------------------------------------------------


def _bits(values: AnyArray) -> AnyArray:
    """Numbers of which those are equal that were, also where a float is none (NaN)."""
    return values.view(np.int64) if values.dtype == np.float64 else values


def _tuples(arrays: Sequence[AnyArray], columns: Sequence[int], rows: Rows) -> list[Any]:
    return list(zip(*(_bits(arrays[i][rows]).tolist() for i in columns), strict=True))


def _at_the_same_time(
    record: Sequence[int], held: Sequence[AnyArray], new: Sequence[AnyArray]
) -> Rows:
    """The rows held that have the time of a new one, and a symbol that is among theirs."""
    time, symbol = record[:2]
    wanted = np.unique(new[time])
    if not len(wanted):
        return np.empty(0, np.intp)
    near = np.flatnonzero((held[time] >= wanted[0]) & (held[time] <= wanted[-1]))
    near = near[is_in(held[time][near], wanted, ascending=True)]
    return near[is_in(held[symbol][near], new[symbol])]


def differ(
    ours: Sequence[AnyArray], theirs: Sequence[AnyArray], columns: Sequence[int]
) -> NDArray[np.bool_]:
    """In which rows any of the columns differs."""
    different = np.zeros(len(ours[0]), bool)
    for i in columns:
        different |= _bits(ours[i]) != _bits(theirs[i])
    return different
