"""When the exchanges are open: the rules of their calendar, corrected by Alpaca's clock."""

from __future__ import annotations

import datetime as dt
import threading
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from alpaca_nb.data.columns import TIME_ZONE
from alpaca_nb.data.intervals import usual_hours
from alpaca_nb.data.status import MarketStatus, Phase
from alpaca_nb.wire.codec import time_ns

_SECOND_NS = 1_000_000_000
_HOUR_NS = 3_600 * _SECOND_NS
_PRE_NS = 5 * _HOUR_NS + _HOUR_NS // 2
"""From 04:00 in New York to the open at 09:30."""
_POST_NS = 4 * _HOUR_NS
"""From the close at 16:00 to 20:00; after an early close at 13:00 it ends at 17:00."""
_NIGHT_NS = 8 * _HOUR_NS
"""From 20:00 to 04:00, before each trading day; clocks are never changed in such a night."""
_NIGHT_FEEDS = ("boats", "overnight")
_ENDLESS_FEEDS = ("test",)
_BELIEVED_NS = 10 * 24 * _HOUR_NS
"""No weekend with holidays lasts longer; a clock that says so is not believed."""
_EARLIER_NS = 60 * _SECOND_NS
"""How long before an answer it is taken to hold: what is asked about lies a little back."""
_CLOSES_NS = (13 * _HOUR_NS, 20 * _HOUR_NS)
"""Between an early close and the end of all trading, as times of the day."""
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_PHASES: dict[Phase, str] = {
    "open": "market open",
    "pre": "pre-market",
    "post": "after hours",
    "closed": "market closed",
    "unknown": "market hours unknown",
}

_Days = tuple[Sequence[int], Sequence[int]]
"""The open and the close of each trading day (ns since 1970, UTC), in order."""


@dataclass(frozen=True, slots=True)
class _Told:
    """An answer of Alpaca's clock."""

    asked_ns: int
    received_ns: int
    is_open: bool
    opens_ns: int
    closes_ns: int

    @property
    def holds_until_ns(self) -> int:
        return self.closes_ns if self.is_open else self.opens_ns


class TradingCalendar:
    """The hours of the US exchanges.

    Before `load`, and for times outside the calendar's range (20 years back, one ahead),
    the phase is "unknown", unless Alpaca's clock has told it. Reading is safe from any
    thread and takes microseconds.
    """

    def __init__(self) -> None:
        self._days: _Days | None = None
        self._told: _Told | None = None
        self._loading = threading.Lock()

    @property
    def loaded(self) -> bool:
        """Whether the calendar's rules are known."""
        return self._days is not None

    def load(self) -> None:
        """Learn the calendar's rules; takes a second or so, hence for a thread that may wait.

        May be called again, and from several threads: only the first call works.
        """
        with self._loading:
            if self._days is None:
                self._days = _load_days()

    def hours(self, date: dt.date) -> tuple[int, int] | None:
        """The open and close of a date in New York (ns since 1970, UTC); None on a holiday.

        The usual ones from Monday to Friday as long as the rules are not loaded, and outside
        of their range.
        """
        usual, days = usual_hours(date), self._days
        if days is None or not days[0]:
            return usual
        opens, closes = days
        midnight_ns = round(datetime.combine(date, dt.time(), ZoneInfo(TIME_ZONE)).timestamp())
        at = bisect_right(opens, midnight_ns * _SECOND_NS)
        if at == len(opens) or (at == 0 and opens[0] - midnight_ns * _SECOND_NS > 24 * _HOUR_NS):
            return usual
        is_that_day = _in_new_york(opens[at]).date() == date
        return (opens[at], closes[at]) if is_that_day else None

    def note_clock(self, payload: Mapping[str, object], received_ns: int) -> bool:
        """Take an answer of Alpaca's clock (`GET /v2/clock`), received at `received_ns`.

        It is preferred to the calendar until the next change that it names, for the calendar
        does not know of an unscheduled closing. Returns False, and changes nothing, when it
        is no such answer or older than the last.
        """
        told = _read_clock(payload, received_ns)
        if told is None or (self._told is not None and received_ns < self._told.received_ns):
            return False
        self._told = told
        return True

    def at(self, ns: int, *, feed: str = "") -> MarketStatus:
        """What the exchanges do at a time (ns since 1970, UTC).

        Each feed has its hours: those of "boats" and "overnight" are the nights before
        trading days, 20:00 to 04:00 in New York, and "test" never closes.
        """
        if feed in _ENDLESS_FEEDS:
            return MarketStatus("open")
        days = self._days
        if feed in _NIGHT_FEEDS:
            return _in_the_night(days, ns)
        status = _by_day(days, ns)
        told = self._told
        if told is None or ns < told.asked_ns - _EARLIER_NS:
            return status
        if ns < told.holds_until_ns:
            return _as_told(told, ns, status)
        return _as_foretold(told, ns) if status.phase == "unknown" else status


CALENDAR = TradingCalendar()
"""The calendar of this process; it is loaded once, by whoever needs it first."""


def load_calendar() -> None:
    """Let the calendar of this process be loaded in the background; returns at once."""
    if not CALENDAR.loaded:
        # Not daemonic: a thread that is killed in the middle of an import may take the
        # interpreter's end with it, and this one lasts a second.
        threading.Thread(target=_load_quietly, name="alpaca_nb calendar").start()


def _load_quietly() -> None:
    # Without its rules the market's phase is unknown, and shown as that; a thread of ours
    # never prints.
    with suppress(Exception):
        CALENDAR.load()


def describe(status: MarketStatus, now_ns: int) -> str:
    """Say it to a person, such as "market closed, opens Mon 09:30 ET"."""
    text = _PHASES[status.phase]
    if status.phase == "open":
        return text if status.closes_ns is None else f"{text}, closes {_when(status.closes_ns)} ET"
    if status.opens_ns is None:
        return text
    opens, now = _in_new_york(status.opens_ns), _in_new_york(now_ns)
    days = (opens.date() - now.date()).days
    day = "" if days == 0 else _DAYS[opens.weekday()] + " "
    if days >= 7:
        day += f"{opens:%Y-%m-%d} "
    return f"{text}, opens {day}{_when(status.opens_ns)} ET"


# -- from the calendar --


def _load_days() -> _Days:
    # Imported here: with its calendars it takes the better part of a second.
    import exchange_calendars  # type: ignore[import-untyped]

    schedule = exchange_calendars.get_calendar("XNYS").schedule
    opens, closes = (
        schedule[column].dt.as_unit("ns").astype("int64").tolist() for column in ("open", "close")
    )
    return opens, closes


def _by_day(days: _Days | None, ns: int) -> MarketStatus:
    if days is None:
        return MarketStatus()
    opens, closes = days
    # The day whose hours, from 04:00 on, began last.
    today = bisect_right(opens, ns + _PRE_NS) - 1
    if today < 0:
        return MarketStatus()
    if ns < opens[today]:
        return MarketStatus("pre", opens_ns=opens[today])
    if ns < closes[today]:
        return MarketStatus("open", closes_ns=closes[today])
    if today + 1 == len(opens):
        return MarketStatus()
    phase: Phase = "post" if ns < closes[today] + _POST_NS else "closed"
    return MarketStatus(phase, opens_ns=opens[today + 1])


def _in_the_night(days: _Days | None, ns: int) -> MarketStatus:
    if days is None:
        return MarketStatus()
    opens, _ = days
    tomorrow = bisect_right(opens, ns + _PRE_NS)
    if tomorrow in (0, len(opens)):
        return MarketStatus()
    ends_ns = opens[tomorrow] - _PRE_NS
    if ns >= ends_ns - _NIGHT_NS:
        return MarketStatus("open", closes_ns=ends_ns)
    return MarketStatus("closed", opens_ns=ends_ns - _NIGHT_NS)


# -- from Alpaca's clock --


def _read_clock(payload: Mapping[str, object], received_ns: int) -> _Told | None:
    is_open = payload.get("is_open")
    spelled = [payload.get(key) for key in ("timestamp", "next_open", "next_close")]
    if not isinstance(is_open, bool):
        return None
    try:
        asked_ns, opens_ns, closes_ns = (time_ns(text) for text in spelled if isinstance(text, str))
    except (ValueError, OverflowError):
        return None
    told = _Told(asked_ns, received_ns, is_open, opens_ns, closes_ns)
    in_order = closes_ns < opens_ns if is_open else opens_ns < closes_ns
    is_near = asked_ns < told.holds_until_ns <= asked_ns + _BELIEVED_NS
    return told if in_order and is_near else None


def _as_told(told: _Told, ns: int, status: MarketStatus) -> MarketStatus:
    """What the clock said, with what only the calendar knows: the hours around the session."""
    if told.is_open:
        return MarketStatus("open", closes_ns=told.closes_ns)
    return MarketStatus(_phase_while_closed(told, ns, status.phase), opens_ns=told.opens_ns)


def _phase_while_closed(told: _Told, ns: int, by_day: Phase) -> Phase:
    if ns >= told.opens_ns - _PRE_NS:
        return "pre"
    if by_day == "post":
        return "post"
    moment = _in_new_york(ns)
    time_of_day_ns = (moment.hour * 60 + moment.minute) * 60 * _SECOND_NS
    may_be_post = moment.weekday() < 5 and _CLOSES_NS[0] <= time_of_day_ns < _CLOSES_NS[1]
    # Without a calendar, an afternoon without a session may be a holiday or after hours.
    return "unknown" if by_day == "unknown" and may_be_post else "closed"


def _as_foretold(told: _Told, ns: int) -> MarketStatus:
    """What follows from the clock's last answer once the first change it named is past."""
    if not told.is_open:
        is_open = ns < told.closes_ns
        return MarketStatus("open", closes_ns=told.closes_ns) if is_open else MarketStatus()
    if ns >= told.opens_ns:
        return MarketStatus()
    phase: Phase = "closed"
    if ns < told.closes_ns + _POST_NS:
        phase = "post"
    elif ns >= told.opens_ns - _PRE_NS:
        phase = "pre"
    return MarketStatus(phase, opens_ns=told.opens_ns)


def _in_new_york(ns: int) -> datetime:
    return datetime.fromtimestamp(ns // _SECOND_NS, UTC).astimezone(ZoneInfo(TIME_ZONE))


def _when(ns: int) -> str:
    return f"{_in_new_york(ns):%H:%M}"
