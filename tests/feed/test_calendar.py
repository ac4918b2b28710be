"""Holidays, early closes, nights and clock changes, and what Alpaca's clock has to say."""

from __future__ import annotations

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from alpaca_nb.data.status import MarketStatus
from alpaca_nb.feed.calendar import CALENDAR, TradingCalendar, describe
from alpaca_nb.wire.codec import format_time, time_ns


@pytest.fixture(scope="module")
def loaded() -> TradingCalendar:
    calendar = TradingCalendar()
    assert not calendar.loaded
    calendar.load()
    assert calendar.loaded
    return calendar


def told(status: MarketStatus) -> tuple[str, str | None, str | None]:
    """A status with its times spelled."""
    opens, closes = (
        None if ns is None else format_time(ns) for ns in (status.opens_ns, status.closes_ns)
    )
    return status.phase, opens, closes


MON = "2026-11-23T14:30:00Z"
WED, WED_CLOSE = "2026-11-25T14:30:00Z", "2026-11-25T21:00:00Z"
FRI, FRI_CLOSE = "2026-11-27T14:30:00Z", "2026-11-27T18:00:00Z"
NEXT_MON = "2026-11-30T14:30:00Z"


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        pytest.param("2026-11-22T15:00:00Z", ("closed", MON, None), id="sunday"),
        pytest.param("2026-11-25T08:59:59.999999999Z", ("closed", WED, None), id="before-04:00"),
        pytest.param("2026-11-25T09:00:00Z", ("pre", WED, None), id="04:00"),
        pytest.param("2026-11-25T14:29:59.999999999Z", ("pre", WED, None), id="before-the-open"),
        pytest.param("2026-11-25T14:30:00Z", ("open", None, WED_CLOSE), id="the-open"),
        pytest.param("2026-11-25T20:59:59Z", ("open", None, WED_CLOSE), id="before-the-close"),
        pytest.param("2026-11-25T21:00:00Z", ("post", FRI, None), id="the-close"),
        pytest.param("2026-11-26T01:00:00Z", ("closed", FRI, None), id="20:00"),
        pytest.param("2026-11-26T16:00:00Z", ("closed", FRI, None), id="thanksgiving"),
        pytest.param("2026-11-27T17:59:59Z", ("open", None, FRI_CLOSE), id="short-friday"),
        pytest.param("2026-11-27T18:00:00Z", ("post", NEXT_MON, None), id="early-close"),
        pytest.param("2026-11-27T21:59:59Z", ("post", NEXT_MON, None), id="17:00-after-it"),
        pytest.param("2026-11-27T22:00:00Z", ("closed", NEXT_MON, None), id="after-17:00"),
    ],
)
def test_a_week_with_a_holiday(
    loaded: TradingCalendar, time: str, expected: tuple[str, str | None, str | None]
) -> None:
    """Each moment has its phase and the next change, also around a holiday and early close."""
    assert told(loaded.at(time_ns(time))) == expected


@pytest.mark.parametrize(
    ("friday", "monday"),
    [
        ("2026-03-06T14:30:00Z", "2026-03-09T13:30:00Z"),
        ("2026-10-30T13:30:00Z", "2026-11-02T14:30:00Z"),
    ],
)
def test_a_weekend_when_the_clocks_change(
    loaded: TradingCalendar, friday: str, monday: str
) -> None:
    """The core session opens at 09:30 in New York on both sides of a clock change."""
    assert loaded.at(time_ns(friday)).phase == "open"
    assert loaded.at(time_ns(friday) - 1).phase == "pre"
    weekend = loaded.at(time_ns(friday) + 30 * 3_600_000_000_000)
    assert told(weekend) == ("closed", monday, None)
    pre_ns = time_ns(monday) - 5 * 3_600_000_000_000 - 1_800_000_000_000
    assert [loaded.at(pre_ns + d).phase for d in (-1, 0)] == ["closed", "pre"]


@pytest.mark.parametrize("time", ["1987-10-19T15:00:00Z", "2199-01-04T15:00:00Z"])
@pytest.mark.parametrize("feed", ["iex", "boats"])
def test_what_is_out_of_range_is_unknown(loaded: TradingCalendar, time: str, feed: str) -> None:
    """The calendar does not guess beyond what it knows."""
    assert loaded.at(time_ns(time), feed=feed) == MarketStatus()


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("2026-11-23T00:59:59Z", ("closed", "2026-11-23T01:00:00Z", None)),  # Sunday evening
        ("2026-11-23T01:00:00Z", ("open", None, "2026-11-23T09:00:00Z")),
        ("2026-11-23T09:00:00Z", ("closed", "2026-11-24T01:00:00Z", None)),
        ("2026-11-23T15:00:00Z", ("closed", "2026-11-24T01:00:00Z", None)),
        # The night before Thanksgiving, and the one after it.
        ("2026-11-26T03:00:00Z", ("closed", "2026-11-27T01:00:00Z", None)),
        ("2026-11-27T03:00:00Z", ("open", None, "2026-11-27T09:00:00Z")),
        ("2026-11-28T03:00:00Z", ("closed", "2026-11-30T01:00:00Z", None)),
    ],
)
@pytest.mark.parametrize("feed", ["boats", "overnight"])
def test_the_night_feeds_trade_at_night(
    loaded: TradingCalendar, time: str, expected: tuple[str, str | None, str | None], feed: str
) -> None:
    """Overnight trading is open in the nights before trading days and closed otherwise."""
    assert told(loaded.at(time_ns(time), feed=feed)) == expected


def test_the_test_feed_never_closes() -> None:
    """The test feed has data on a Sunday, and needs no calendar for it."""
    assert TradingCalendar().at(time_ns("2026-11-22T15:00:00Z"), feed="test").phase == "open"


def test_nothing_is_known_before_it_is_loaded() -> None:
    """Without a calendar and a clock the phase is unknown, and the process shares one calendar."""
    assert TradingCalendar().at(time_ns(WED)) == MarketStatus()
    assert TradingCalendar().at(time_ns(WED), feed="overnight") == MarketStatus()
    assert isinstance(CALENDAR, TradingCalendar)


def test_the_hours_of_a_date(loaded: TradingCalendar) -> None:
    """Holidays have none, early closes are early; without rules every weekday is as usual."""

    def hours(calendar: TradingCalendar, *date: int) -> list[str] | None:
        found = calendar.hours(dt.date(*date))
        zone = ZoneInfo("America/New_York")
        return found and [f"{dt.datetime.fromtimestamp(ns / 1e9, zone):%d %H:%M}" for ns in found]

    assert hours(loaded, 2026, 11, 25) == ["25 09:30", "25 16:00"]
    assert hours(loaded, 2026, 11, 26) is None
    assert hours(loaded, 2026, 11, 27) == ["27 09:30", "27 13:00"]
    assert hours(loaded, 2026, 11, 28) is None
    assert hours(loaded, 2026, 3, 9) == ["09 09:30", "09 16:00"]
    for distant in ((1950, 1, 3), (2099, 1, 5)):
        assert hours(loaded, *distant) == hours(TradingCalendar(), *distant)
        assert hours(loaded, *distant) is not None
    assert hours(TradingCalendar(), 2026, 11, 26) == ["26 09:30", "26 16:00"]


def test_many_threads_may_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading again does nothing, also when several threads do it at once."""
    loads = []
    monkeypatch.setattr("alpaca_nb.feed.calendar._load_days", lambda: loads.append(1) or ([1], [2]))
    calendar = TradingCalendar()
    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(calendar.load) for _ in range(8)]:
            done.result()
    assert loads == [1]


# -- Alpaca's clock --


def clock(timestamp: str, is_open: Any, next_open: str, next_close: str) -> dict[str, Any]:
    return {
        "timestamp": timestamp,
        "is_open": is_open,
        "next_open": next_open,
        "next_close": next_close,
    }


OPEN = clock(
    "2026-09-21T10:13:20.535001123456-04:00",
    True,
    "2026-09-22T09:30:00-04:00",
    "2026-09-21T16:00:00-04:00",
)
CLOSED = clock(
    "2026-11-25T12:00:00-05:00", False, "2026-11-27T09:30:00-05:00", "2026-11-27T13:00:00-05:00"
)


def test_the_clock_alone_tells_today_and_tomorrow() -> None:
    """Without a calendar an open clock is enough until the next open that it names."""
    calendar = TradingCalendar()
    assert calendar.note_clock(OPEN, time_ns("2026-09-21T14:13:21Z"))
    close, opens = "2026-09-21T20:00:00Z", "2026-09-22T13:30:00Z"
    expected = {
        "2026-09-21T14:00:00Z": ("unknown", None, None),
        "2026-09-21T14:13:20Z": ("open", None, close),
        "2026-09-21T19:59:59Z": ("open", None, close),
        close: ("post", opens, None),
        "2026-09-22T00:00:00Z": ("closed", opens, None),
        "2026-09-22T08:00:00Z": ("pre", opens, None),
        opens: ("unknown", None, None),
    }
    assert {time: told(calendar.at(time_ns(time))) for time in expected} == expected


def test_a_closed_clock_alone() -> None:
    """Without a calendar, a closed afternoon may be after hours, and a morning is not."""
    calendar = TradingCalendar()
    assert calendar.note_clock(CLOSED, 0)
    opens, close = "2026-11-27T14:30:00Z", "2026-11-27T18:00:00Z"
    expected = {
        "2026-11-25T17:00:00Z": ("closed", opens, None),
        "2026-11-25T22:00:00Z": ("unknown", opens, None),
        "2026-11-26T01:00:00Z": ("closed", opens, None),
        "2026-11-27T09:00:00Z": ("pre", opens, None),
        opens: ("open", None, close),
        close: ("unknown", None, None),
    }
    assert {time: told(calendar.at(time_ns(time))) for time in expected} == expected


def test_the_clock_is_preferred_to_the_calendar() -> None:
    """A day of mourning is closed although the calendar knows nothing of it, and then it ends."""
    calendar = TradingCalendar()
    calendar.load()
    assert calendar.note_clock(CLOSED, 0)
    wednesday = {
        "2026-11-25T18:00:00Z": "closed",  # in the session that the calendar expects
        "2026-11-25T22:00:00Z": "post",  # the calendar knows better what the evening is
        "2026-11-27T12:00:00Z": "pre",
        "2026-11-27T15:00:00Z": "open",
        "2026-11-27T18:00:00Z": "post",  # the clock's answer is used up
    }
    assert {time: calendar.at(time_ns(time)).phase for time in wednesday} == wednesday
    # What happened before the answer is the calendar's business.
    assert calendar.at(time_ns("2026-11-25T15:00:00Z")).phase == "open"


def test_an_unexpected_session_is_open() -> None:
    """When the clock says open, a holiday of the calendar is none."""
    calendar = TradingCalendar()
    calendar.load()
    thanksgiving = clock(
        "2026-11-26T10:00:00-05:00", True, "2026-11-27T09:30:00-05:00", "2026-11-26T16:00:00-05:00"
    )
    assert calendar.note_clock(thanksgiving, 0)
    status = calendar.at(time_ns("2026-11-26T17:00:00Z"))
    assert told(status) == ("open", None, "2026-11-26T21:00:00Z")
    assert calendar.at(time_ns("2026-11-26T21:00:00Z")).phase == "closed"


def test_an_old_answer_does_not_replace_a_new_one() -> None:
    """Answers that overtake each other are sorted out by when they were received."""
    calendar = TradingCalendar()
    assert calendar.note_clock(OPEN, 2)
    assert not calendar.note_clock(CLOSED, 1)
    assert calendar.at(time_ns("2026-09-21T15:00:00Z")).phase == "open"


@pytest.mark.parametrize(
    "change",
    [
        {"is_open": "true"},
        {"is_open": None},
        {"timestamp": None},
        {"timestamp": 1_790_000_000},
        {"timestamp": "now"},
        {"timestamp": "2026-99-21T10:13:20-04:00"},
        {"next_open": ""},
        {"next_close": "2026-09-21"},
        {"next_close": "2026-09-21T10:13:20-04:00"},  # past
        {"next_close": "2026-09-23T16:00:00-04:00"},  # after the next open
        {"next_close": "2099-09-21T16:00:00-04:00", "next_open": "2099-09-22T09:30:00-04:00"},
        {"is_open": False},  # then the next open comes first
    ],
)
def test_garbage_is_ignored(change: dict[str, Any]) -> None:
    """What cannot be an answer of the clock changes nothing."""
    calendar = TradingCalendar()
    assert not calendar.note_clock(OPEN | change, 0)
    assert not calendar.note_clock({}, 0)
    assert calendar.at(time_ns("2026-09-21T15:00:00Z")) == MarketStatus()


# -- in words --


@pytest.mark.parametrize(
    ("time", "text"),
    [
        ("2026-11-25T15:00:00Z", "market open, closes 16:00 ET"),
        ("2026-11-27T15:00:00Z", "market open, closes 13:00 ET"),
        ("2026-11-25T10:00:00Z", "pre-market, opens 09:30 ET"),
        ("2026-11-25T22:00:00Z", "after hours, opens Fri 09:30 ET"),
        ("2026-11-28T15:00:00Z", "market closed, opens Mon 09:30 ET"),
        ("2199-01-04T15:00:00Z", "market hours unknown"),
    ],
)
def test_the_market_in_words(loaded: TradingCalendar, time: str, text: str) -> None:
    """A person reads the phase and the next change, in the exchange's time."""
    ns = time_ns(time)
    assert describe(loaded.at(ns), ns) == text


def test_far_and_endless_in_words() -> None:
    """An opening a week or more away has its date, and what never closes has no close."""
    now_ns = time_ns("2026-11-20T22:00:00Z")
    status = MarketStatus("closed", opens_ns=time_ns("2026-11-30T14:30:00Z"))
    assert describe(status, now_ns) == "market closed, opens Mon 2026-11-30 09:30 ET"
    assert describe(MarketStatus("open"), now_ns) == "market open"
