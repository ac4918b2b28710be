"""Which consumers share which symbols, and what of a batch goes to each.

Consumers that want a symbol are a party. There are few of them, however many symbols and rows
there are, so a batch is sorted by party once and handed out in pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Member = TypeVar("Member")
Rows = NDArray[np.intp]
"""Numbers of rows."""

_UNKNOWN: Final = -1
_MOST: Final = 4096
"""Parties that are remembered; more are only left from changes long ago."""
_NO_ROWS: Final = np.empty(0, np.intp)


@dataclass(frozen=True, slots=True)
class Cut(Generic[Member]):
    """What of some rows goes to whom. Nobody is named twice."""

    whole: Sequence[Member]
    """Who gets all of them."""
    rows: Rows = field(default_factory=lambda: _NO_ROWS)
    """Those that go to the next, party by party, those of each in ascending order."""
    pieces: Sequence[tuple[Member, int, int]] = ()
    """Who gets which part of `rows`: from, and up to (not included)."""
    picks: Sequence[tuple[Member, Rows]] = ()
    """Who gets rows of several parties: which, in ascending order."""


@dataclass(frozen=True, slots=True)
class _Plan(Generic[Member]):
    """Who gets what where rows of just these parties are present, in ascending order."""

    present: list[int]
    whole: list[Member]
    single: list[tuple[Member, int]]
    several: list[tuple[Member, list[int]]]
    wanted: bool
    """Whether anybody wants some of them only."""
    is_wanted: NDArray[np.bool_] | None
    """By party, whether any of these wants it; None: each is wanted."""


class Parties(Generic[Member]):
    """The party of each symbol, by its code; looked up when its first row comes.

    Parties are told by number; 0 is that of nobody.
    """

    def __init__(self, wanted_by: Callable[[int], Iterable[Member]]) -> None:
        """`wanted_by` tells who wants a symbol, by its code."""
        self._wanted_by = wanted_by
        self._number = np.empty(0, np.int32)
        self._plan: _Plan[Member]
        self._begin_anew()

    def __len__(self) -> int:
        """How many are remembered, that of nobody among them."""
        return len(self._members)

    def forget(self, code: int) -> None:
        """Look this symbol's party up anew: others want it now."""
        if code < len(self._number):
            self._number[code] = _UNKNOWN

    def forget_all(self) -> None:
        """Look all of them up anew."""
        self._number.fill(_UNKNOWN)

    def of(self, codes: NDArray[np.int32]) -> NDArray[np.int32]:
        """The party of each row, by the codes of their symbols."""
        if len(self._members) > _MOST:
            self._begin_anew()
        try:
            numbers = self._number.take(codes)
        except IndexError:
            self._make_room(int(codes.max()) + 1)
            numbers = self._number.take(codes)
        if numbers.min(initial=0) == _UNKNOWN:
            for code in np.unique(codes[numbers == _UNKNOWN]).tolist():
                self._number[code] = self._find(code)
            numbers = self._number.take(codes)
        return numbers

    def cut(self, numbers: NDArray[np.int32]) -> Cut[Member]:
        """What of these rows, at least one, goes to whom; their parties are those of `of`."""
        first = int(numbers[0])
        if (numbers == first).all():
            return Cut(self._members[first])
        counts = np.bincount(numbers)
        plan = self._planned(np.flatnonzero(counts).tolist())
        if not plan.wanted:
            return Cut(plan.whole)
        # Numbers of two bytes are sorted by counting.
        small = numbers.astype(np.int16)
        if plan.is_wanted is None:
            rows = small.argsort(kind="stable")
        else:
            counts[~plan.is_wanted] = 0
            some = np.flatnonzero(plan.is_wanted[numbers])
            rows = some[small[some].argsort(kind="stable")]
        stops = counts.cumsum().tolist()
        starts = [0, *stops]
        picks = []
        for member, its in plan.several:
            parts = [rows[starts[number] : stops[number]] for number in its]
            picks.append((member, np.sort(np.concatenate(parts))))
        pieces = [(member, starts[number], stops[number]) for member, number in plan.single]
        return Cut(plan.whole, rows, pieces, picks)

    def _planned(self, present: list[int]) -> _Plan[Member]:
        """Who gets what of rows of these parties; mostly the same as last time."""
        if present != self._plan.present:
            self._plan = self._plan_of(present)
        return self._plan

    def _plan_of(self, present: list[int]) -> _Plan[Member]:
        parties_of: dict[Member, list[int]] = {}
        for number in present:
            for member in self._members[number]:
                parties_of.setdefault(member, []).append(number)
        whole, single, several = [], [], []
        for member, its in parties_of.items():
            if len(its) == len(present):
                whole.append(member)
            elif len(its) == 1:
                single.append((member, its[0]))
            else:
                several.append((member, its))
        wanted = {number for _, number in single}.union(*(its for _, its in several))
        is_wanted = None
        if len(wanted) < len(present):
            is_wanted = np.zeros(present[-1] + 1, bool)
            is_wanted[list(wanted)] = True
        return _Plan(present, whole, single, several, bool(wanted), is_wanted)

    def _find(self, code: int) -> int:
        members = tuple(self._wanted_by(code))
        number = self._number_of.setdefault(members, len(self._members))
        if number == len(self._members):
            self._members.append(members)
        return number

    def _begin_anew(self) -> None:
        self._members: list[tuple[Member, ...]] = [()]
        self._number_of: dict[tuple[Member, ...], int] = {(): 0}
        self._plan = self._plan_of([])
        self._number.fill(_UNKNOWN)

    def _make_room(self, codes: int) -> None:
        more = np.full(max(2 * codes, 64) - len(self._number), _UNKNOWN, np.int32)
        self._number = np.append(self._number, more)
