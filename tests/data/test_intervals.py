"""Intervals of any length, by day and by session."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpaca_nb.data.intervals import Grid, length_ns, usual_hours
from alpaca_nb.data.lengths import DAY_NS, SECOND_NS
from alpaca_nb.errors import BadInputError
from alpaca_nb.wire.codec import format_time, time_ns

MINUTE = 60 * SECOND_NS
HOUR = 60 * MINUTE


def left_of(moment: str, interval: Any, **options: Any) -> str | None:
    """The left edge of the interval of a moment, or None if it belongs to none."""
    edges = Grid(interval, **options).edges(np.array([time_ns(moment)]))
    if edges.inside is not None and not edges.inside[0]:
        return None
    return format_time(int(edges.left[0]))


def right_of(moment: str, interval: Any, **options: Any) -> str:
    edges = Grid(interval, **options).edges(np.array([time_ns(moment)]))
    return format_time(int(edges.right[0]))


# -- lengths -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interval", "seconds"),
    [
        ("1s", 1), ("5s", 5), ("s", 1), ("30 seconds", 30), ("1min", 60), ("5m", 300),
        ("65min", 3_900), ("1.5min", 90), ("1h", 3_600), ("1H", 3_600),
        ("1d", 86_400), ("D", 86_400), ("24h", 86_400),
        (dt.timedelta(minutes=2), 120), (pd.Timedelta("90s"), 90), (np.timedelta64(5, "m"), 300),
        (pd.offsets.Minute(5), 300), (pd.offsets.Hour(1), 3_600), (pd.offsets.Day(1), 86_400),
        (pd.offsets.Second(15), 15),
    ],
)  # fmt: skip
def test_lengths(interval: Any, seconds: int) -> None:
    """A length is a text, a timedelta or an offset of pandas."""
    assert length_ns(interval) == seconds * SECOND_NS


@pytest.mark.parametrize(
    "interval",
    [
        "0s", "0min", "25h", "2d", "500ms", "1.5s", "-1min", "1M", "1ME", "", "min5", "1 fortnight",
        0, 60, 1.5, True, None, [], dt.timedelta(0), dt.timedelta(seconds=-5),
        dt.timedelta(milliseconds=1_500), dt.timedelta(days=1, seconds=1), dt.timedelta.max,
        pd.Timedelta("1s") + pd.Timedelta("1ns"), pd.NaT, np.timedelta64("NaT"),
        pd.offsets.MonthEnd(1), pd.offsets.Milli(5), "9" * 30 + "s", np.nan,
        np.timedelta64(2**62, "D"),
    ],
)  # fmt: skip
def test_what_is_no_length(interval: Any) -> None:
    """Anything else, and what is shorter than a second or longer than a day, is refused."""
    with pytest.raises(BadInputError, match="from 1 s to 1 d, such as '5s'"):
        length_ns(interval)


# -- days --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "interval", "left"),
    [
        ("2026-09-21T13:30:59.999999999Z", "1min", "2026-09-21T13:30:00Z"),
        ("2026-09-21T13:31:00Z", "1min", "2026-09-21T13:31:00Z"),
        ("2026-09-21T13:30:00Z", "1s", "2026-09-21T13:30:00Z"),
        # Counted from midnight in New York, which is 04:00 or 05:00.
        ("2026-09-21T05:10:00Z", "65min", "2026-09-21T05:05:00Z"),
        ("2026-01-21T06:10:00Z", "65min", "2026-01-21T06:05:00Z"),
        ("2026-09-22T03:59:59Z", "1d", "2026-09-21T04:00:00Z"),
        ("2026-09-22T04:00:00Z", "1d", "2026-09-22T04:00:00Z"),
        # 23 hours, then 25.
        ("2026-03-09T03:59:59Z", "1d", "2026-03-08T05:00:00Z"),
        ("2026-11-02T04:59:59Z", "1d", "2026-11-01T04:00:00Z"),
        ("2026-11-02T04:30:00Z", "1h", "2026-11-02T04:00:00Z"),
        ("2026-03-08T07:30:00Z", "1h", "2026-03-08T07:00:00Z"),
        ("1970-01-01T00:00:00Z", "1d", "1969-12-31T05:00:00Z"),
    ],
)
def test_edges(moment: str, interval: str, left: str) -> None:
    """An interval begins at a whole number of lengths after midnight in New York."""
    assert left_of(moment, interval) == left


def test_the_last_interval_of_a_day_ends_with_it() -> None:
    """A length that does not divide the day leaves a shorter interval at its end."""
    assert right_of("2026-09-22T03:58:00Z", "65min") == "2026-09-22T04:00:00Z"
    assert right_of("2026-03-08T12:00:00Z", "1d") == "2026-03-09T04:00:00Z"


@given(
    st.lists(st.datetimes(dt.datetime(2020, 1, 1), dt.datetime(2029, 1, 1)), min_size=1),
    st.sampled_from(["1s", "7min", "65min", "1h", "1d"]),
    st.sampled_from([None, "regular", "extended"]),
)
def test_many_at_once(moments: list[dt.datetime], interval: str, session: Any) -> None:
    """Times of many days get what each gets alone, and lie in their interval."""
    times = np.array([int(moment.timestamp()) * SECOND_NS for moment in moments])
    edges = Grid(interval, session=session).edges(times)
    inside = np.ones(len(times), bool) if edges.inside is None else edges.inside
    for i, time in enumerate(times):
        alone = Grid(interval, session=session).edges(times[i : i + 1])
        assert inside[i] == (alone.inside is None)
        if inside[i]:
            assert (edges.left[i], edges.right[i]) == (alone.left[0], alone.right[0])
            assert edges.left[i] <= time < edges.right[i]


def test_a_grid_looks_up_what_comes() -> None:
    """Days far apart, earlier and later ones, and none at all."""
    grid = Grid("1d")
    assert len(grid.edges(np.empty(0, np.int64)).left) == 0
    for moment in ("2026-09-21T12:00:00Z", "1990-01-05T12:00:00Z"):
        times = np.array([time_ns(moment)])
        assert 0 <= times[0] - grid.edges(times).left[0] < DAY_NS
    far = np.array([0, time_ns("2026-09-21T12:00:00Z"), time_ns("2200-01-01T12:00:00Z")])
    assert [format_time(int(left))[:10] for left in grid.edges(far).left] == [
        "1969-12-31", "2026-09-21", "2200-01-01",
    ]  # fmt: skip


# -- sessions ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "session", "left"),
    [
        ("2026-09-21T13:29:59.999Z", "regular", None),
        ("2026-09-21T13:30:00Z", "regular", "2026-09-21T13:30:00Z"),
        ("2026-09-21T14:34:59Z", "regular", "2026-09-21T13:30:00Z"),
        ("2026-09-21T14:35:00Z", "regular", "2026-09-21T14:35:00Z"),
        ("2026-09-21T19:59:59Z", "regular", "2026-09-21T18:55:00Z"),
        ("2026-09-21T20:00:00Z", "regular", None),
        ("2026-01-21T14:30:00Z", "regular", "2026-01-21T14:30:00Z"),
        ("2026-09-21T07:59:59Z", "extended", None),
        ("2026-09-21T08:00:00Z", "extended", "2026-09-21T08:00:00Z"),
        ("2026-09-21T23:59:59Z", "extended", "2026-09-21T23:10:00Z"),
        ("2026-09-22T00:00:00Z", "extended", None),
        ("2026-09-20T15:00:00Z", "regular", None),
        ("2026-09-19T15:00:00Z", "extended", None),
    ],
)
def test_sessions(moment: str, session: Any, left: str | None) -> None:
    """With a session, intervals are counted from its beginning, and nothing outside counts."""
    assert left_of(moment, "65min", session=session) == left


def test_six_bars_of_65_minutes() -> None:
    """A normal day has exactly six of them."""
    times = time_ns("2026-09-21T13:30:00Z") + np.arange(390) * MINUTE
    edges = Grid("65min", session="regular").edges(times)
    assert (edges.inside, len(np.unique(edges.left))) == (None, 6)
    assert set(edges.right - edges.left) == {65 * MINUTE}


def early_close(date: dt.date) -> tuple[int, int] | None:
    """The day after Thanksgiving ends at 13:00; the day itself is a holiday."""
    if date == dt.date(2026, 11, 26):
        return None
    hours = usual_hours(date)
    if date == dt.date(2026, 11, 27) and hours is not None:
        return hours[0], hours[1] - 3 * HOUR
    return hours


@pytest.mark.parametrize(
    ("moment", "session", "left", "right"),
    [
        ("2026-11-27T17:59:59Z", "regular", "2026-11-27T17:30:00Z", "2026-11-27T18:00:00Z"),
        ("2026-11-27T18:00:00Z", "regular", None, None),
        ("2026-11-27T18:00:00Z", "extended", "2026-11-27T18:00:00Z", "2026-11-27T19:00:00Z"),
        ("2026-11-27T22:00:00Z", "extended", None, None),
        ("2026-11-26T16:00:00Z", "regular", None, None),
        ("2026-11-25T20:30:00Z", "regular", "2026-11-25T20:30:00Z", "2026-11-25T21:00:00Z"),
    ],
)
def test_a_calendar(moment: str, session: Any, left: str | None, right: str | None) -> None:
    """A function of the date says which days are holidays and which end early."""
    assert left_of(moment, "1h", session=session, hours=early_close) == left
    if right is not None:
        assert right_of(moment, "1h", session=session, hours=early_close) == right


def test_a_session_as_an_interval() -> None:
    """With a session, an interval of a day is the session."""
    assert left_of("2026-11-27T15:00:00Z", "1d", session="regular") == "2026-11-27T14:30:00Z"
    assert right_of("2026-11-27T15:00:00Z", "1d", session="regular", hours=early_close) == (
        "2026-11-27T18:00:00Z"
    )


@pytest.mark.parametrize("session", ["night", "", 5, True, "REGULAR"])
def test_what_is_no_session(session: Any) -> None:
    """A session that there is not is refused, and the message names those there are."""
    with pytest.raises(BadInputError, match="'regular', 'extended' or None"):
        Grid("1min", session=session)


@pytest.mark.parametrize("answer", [(5, 3), (0, 10), "ab", (1,), 7, (10**30, 10**30 + 1)])
def test_hours_are_checked(answer: Any) -> None:
    """Hours that are none of that day are refused, with what they are to be."""
    grid = Grid("1min", session="regular", hours=lambda date: answer)
    with pytest.raises(BadInputError, match="the open and close of that day"):
        grid.edges(np.array([time_ns("2026-09-21T15:00:00Z")]))
    with pytest.raises(BadInputError, match="hours is a function"):
        Grid("1min", hours="09:30")  # type: ignore[arg-type]


def test_what_a_grid_says_of_itself() -> None:
    """The text of a grid tells length and session."""
    assert repr(Grid("5min", session="regular")) == "Grid(300 s, session='regular')"
    assert Grid("24h").is_daily
    assert length_ns("1d") == DAY_NS
