"""Into which interval a moment falls: of any length, by the day in New York or by the session.

Lengths count in elapsed time from the left edge of the day or session, so they are right on
the two days of a year on which clocks are changed.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from alpaca_nb.data.lengths import DAY_NS, SECOND_NS, ns_of
from alpaca_nb.errors import BadInputError

NEW_YORK: Final = ZoneInfo("America/New_York")

Times = NDArray[np.int64]
"""Nanoseconds since 1970, UTC."""

Session = Literal["regular", "extended"]
"""Which part of a day counts: 09:30 to 16:00 in New York, or 04:00 to 20:00."""

Hours = Callable[[dt.date], "tuple[int, int] | None"]
"""The regular hours of a date in New York: open and close (ns since 1970, UTC), or None.

So a calendar says which days are holidays and which end early.
"""


# -- lengths -----------------------------------------------------------------------------


def length_ns(interval: Any, *, what: str = "An interval") -> int:
    """The length of an interval in nanoseconds, from "5s", "65min", "1h", "1d" or a timedelta.

    Offsets of pandas are taken, too. Raises BadInputError for anything else, and for what is
    no whole number of seconds from one second to one day.
    """
    length = _ns_of_interval(interval)
    if length is None or not SECOND_NS <= length <= DAY_NS or length % SECOND_NS:
        raise BadInputError(
            f"{what} is a whole number of seconds from 1 s to 1 d, such as '5s', '1min', "
            f"'65min', '1h', '1d' or a timedelta, not {interval!r}."
        )
    return length


def _ns_of_interval(interval: Any) -> int | None:
    # An offset of pandas is known by the text that stands for it, which may be a unit alone.
    text = getattr(interval, "freqstr", interval)
    if isinstance(text, str) and text[:1].isalpha():
        text = f"1{text}"
    return ns_of(text)


# -- days and sessions -------------------------------------------------------------------


def midnight_ns(date: dt.date) -> int:
    """The beginning of a date in New York."""
    return _moment_ns(date, dt.time())


def _moment_ns(date: dt.date, time: dt.time) -> int:
    return int(dt.datetime.combine(date, time, NEW_YORK).timestamp()) * SECOND_NS


_OPEN, _CLOSE = dt.time(9, 30), dt.time(16)
_BEFORE_OPEN_NS: Final = 5 * 3_600 * SECOND_NS + 1_800 * SECOND_NS
"""From 04:00 to the open."""
_AFTER_CLOSE_NS: Final = 4 * 3_600 * SECOND_NS
"""From the close to 20:00; after an early close at 13:00 it is until 17:00."""


def usual_hours(date: dt.date) -> tuple[int, int] | None:
    """From 09:30 to 16:00 in New York from Monday to Friday; knows no holidays."""
    if date.weekday() >= 5:
        return None
    return _moment_ns(date, _OPEN), _moment_ns(date, _CLOSE)


@dataclass(frozen=True, slots=True)
class Edges:
    """The interval of each moment; where a moment belongs to none, `inside` is False."""

    left: Times
    right: Times
    """The first moment that does not belong to it."""
    inside: NDArray[np.bool_] | None
    """None where all moments belong to an interval."""

    def take(self, at: NDArray[np.bool_]) -> Edges:
        """Those of some moments that belong to one."""
        return Edges(self.left[at], self.right[at], None)


class Grid:
    """All intervals of one length.

    Without a session they are counted from midnight in New York and cover the whole day. With
    one they are counted from its beginning, the last ends with it, and moments outside belong
    to none. `hours` says when the regular session of a date is; by default 09:30 to 16:00
    from Monday to Friday. The extended one begins 5.5 hours earlier and ends 4 hours later.

    Raises BadInputError for a length or a session that there is not.
    """

    def __init__(
        self, interval: Any, *, session: Session | None = None, hours: Hours = usual_hours
    ) -> None:
        if session not in (None, "regular", "extended"):
            raise BadInputError(
                f"session is 'regular', 'extended' or None for the whole day, not {session!r}."
            )
        if not callable(hours):
            raise BadInputError(
                "hours is a function of a date that returns its open and close in nanoseconds, "
                f"or None, not {hours!r}."
            )
        self.length_ns = length_ns(interval)
        self.session = session
        self._hours = hours
        # Days or sessions that were looked up, by UTC day; those that exist, in order of time.
        self._known: set[int] = set()
        self._spans: dict[dt.date, tuple[int, int] | None] = {}
        self._begin = self._end = np.empty(0, np.int64)

    def __repr__(self) -> str:
        return f"Grid({self.length_ns // SECOND_NS} s, session={self.session!r})"

    @property
    def is_daily(self) -> bool:
        """Whether an interval is a whole day or session."""
        return self.length_ns == DAY_NS

    def edges(self, times: Times) -> Edges:
        """The interval of each time."""
        if not len(times):
            return Edges(times, times, None)
        low, high = int(times.min()), int(times.max())
        self._look_up(times, low, high)
        at: Any = self._begin.searchsorted((low, high), side="right") - 1
        if at[0] == at[1] >= 0 and high < self._end[at[1]]:
            # All in one day, as nearly always.
            begin, end, inside = self._begin[at[0]], self._end[at[0]], None
        else:
            if not len(self._begin):
                return Edges(times, times, np.zeros(len(times), bool))
            found = self._begin.searchsorted(times, side="right") - 1
            begin, end = self._begin[found], self._end[found]
            inside = (found >= 0) & (times < end)
        if self.is_daily:
            # A day with a change of clocks has 23 or 25 hours.
            left, right = (np.broadcast_to(edge, times.shape) for edge in (begin, end))
        else:
            left = times - (times - begin) % self.length_ns
            right = np.minimum(left + self.length_ns, end)
        return Edges(left, right, None if inside is None or inside.all() else inside)

    def _look_up(self, times: Times, low: int, high: int) -> None:
        first, last = low // DAY_NS, high // DAY_NS
        days: Sequence[int]
        if last - first <= 400:
            days = range(first, last + 1)
        else:
            # Such as a time stamp of zero among those of today.
            days = np.unique(times // DAY_NS).tolist()
        new = [day for day in days if day not in self._known]
        if not new:
            return
        for day in new:
            # A UTC day begins in the evening of the day before in New York.
            date = dt.date(1970, 1, 1) + dt.timedelta(days=day)
            for local in (date - dt.timedelta(days=1), date):
                if local not in self._spans:
                    self._spans[local] = self._span(local)
        self._known.update(new)
        spans = sorted(span for span in self._spans.values() if span is not None)
        self._begin, self._end = np.array(spans, np.int64).reshape(-1, 2).T.copy()

    def _span(self, date: dt.date) -> tuple[int, int] | None:
        if self.session is None:
            return midnight_ns(date), midnight_ns(date + dt.timedelta(days=1))
        span = self._hours(date)
        if span is None:
            return None
        opens, closes = self._checked(date, span)
        if self.session == "extended":
            return opens - _BEFORE_OPEN_NS, closes + _AFTER_CLOSE_NS
        return opens, closes

    def _checked(self, date: dt.date, span: Any) -> tuple[int, int]:
        midnight = midnight_ns(date)
        try:
            opens, closes = map(int, span)
        except (TypeError, ValueError):
            opens = closes = 0
        if not midnight <= opens < closes <= midnight + DAY_NS + 3_600 * SECOND_NS:
            raise BadInputError(
                f"hours({date}) is to be the open and close of that day in nanoseconds since "
                f"1970 (UTC), the earlier first, or None, not {span!r}."
            )
        return opens, closes
