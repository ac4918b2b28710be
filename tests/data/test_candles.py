"""Bars from trades, by the sale-condition rules."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpaca_nb.data.candles import REGULAR, Allowed, CandleBuilder, SaleRule, Updates, sale_rule
from alpaca_nb.errors import BadInputError
from alpaca_nb.wire.codec import format_time, time_ns
from alpaca_nb.wire.messages import Bar, DailyBar, Trade, UpdatedBar

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
OPEN = time_ns("2026-09-21T13:30:00Z")

ALL = Updates(Allowed.YES, high_low=True, volume=True)
VOLUME = Updates(Allowed.NO, high_low=False, volume=True)
NOTHING = Updates(Allowed.NO, high_low=False, volume=False)
LATE = Updates(Allowed.IF_FIRST, high_low=True, volume=True)
OFFICIAL = Updates(Allowed.YES, high_low=True, volume=False)


def make_trade(
    at_s: float, price: float, size: int = 100, conditions: str = "@", **changes: Any
) -> Trade[int]:
    """A trade some seconds after the open; each letter is a condition."""
    values: dict[str, Any] = {
        "symbol": "AAPL",
        "exchange": "V",
        "price": price,
        "size": size,
        "conditions": list(conditions),
        "tape": "C",
        "timestamp": OPEN + round(at_s * SECOND),
    }
    return Trade(**values | changes)


def make_bar(
    kind: Any,
    ohlc: tuple[float, float, float, float],
    volume: int,
    count: int,
    vwap: float,
    **at: Any,
) -> Any:
    names = ("open", "high", "low", "close")
    values = dict(zip(names, ohlc, strict=True)) | {"symbol": "AAPL", "timestamp": OPEN} | at
    return kind(volume=volume, trade_count=count, vwap=vwap, **values)


def build(*trades: Trade[int], **options: Any) -> CandleBuilder:
    builder = CandleBuilder(**options)
    for trade in trades:
        builder.add(trade)
    return builder


# -- the rules ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conditions", "tapes", "minute", "daily"),
    [
        (" E", "AB", ALL, ALL),
        ("@", "CO", ALL, ALL),
        ("AD", "C", ALL, ALL),
        ("FKLO56X", "ABCO", ALL, ALL),
        ("Y", "C", ALL, ALL),
        ("B", "C", ALL, ALL),
        ("B", "AB", VOLUME, VOLUME),
        ("W", "CO", VOLUME, VOLUME),
        ("CHINRUV7", "ABCO", VOLUME, VOLUME),
        ("MQ", "ABCO", NOTHING, NOTHING),
        ("T", "ABCO", ALL, VOLUME),
        ("G", "C", VOLUME, LATE),
        ("PZ4", "ABCO", VOLUME, LATE),
        ("9", "ABCO", NOTHING, OFFICIAL),
    ],
)
def test_rules(conditions: str, tapes: str, minute: Updates, daily: Updates) -> None:
    """Each condition lets a trade change what Alpaca's table says, tape by tape."""
    for condition in conditions:
        for tape in tapes:
            assert sale_rule([condition], tape) == SaleRule(minute, daily), (condition, tape)


@pytest.mark.parametrize(
    ("conditions", "tape", "minute", "daily"),
    [
        ("", "A", ALL, ALL),
        (" T", "A", ALL, VOLUME),
        (" TI", "A", VOLUME, VOLUME),
        (" 4B", "A", VOLUME, VOLUME),
        ("@4", "C", VOLUME, LATE),
        ("@4T", "C", VOLUME, VOLUME),
        ("@9I", "C", NOTHING, NOTHING),
        ("@9P", "C", NOTHING, Updates(Allowed.IF_FIRST, high_low=True, volume=False)),
        ("@M", "C", NOTHING, NOTHING),
    ],
)
def test_the_strictest_wins(conditions: str, tape: str, minute: Updates, daily: Updates) -> None:
    """A trade with several conditions changes only what each of them allows."""
    assert sale_rule([*conditions], tape) == SaleRule(minute, daily)


def test_conditions_without_a_rule() -> None:
    """Unknown conditions restrict nothing; on an unknown tape all meanings count."""
    assert sale_rule(["?", ""], "A") == REGULAR
    assert sale_rule(["B"], "N") == SaleRule(VOLUME, VOLUME)
    assert sale_rule(["@"], "") == REGULAR


# -- bars --------------------------------------------------------------------------------


def test_a_minute() -> None:
    """A minute's bar holds its trades, from its left edge up to the next one."""
    builder = build(
        make_trade(0, 10, 100),
        make_trade(20, 12, 200),
        make_trade(40, 9, 100),
        make_trade(59.999999999, 11, 100),
        make_trade(60, 50, 100),
    )
    assert builder.close(OPEN + MINUTE - 1) == []
    assert builder.close(OPEN + MINUTE) == [make_bar(Bar, (10, 12, 9, 11), 500, 4, 10.8)]
    assert builder.close(OPEN + MINUTE) == []
    (second,) = builder.close(OPEN + 2 * MINUTE)
    assert (second.timestamp, second.open) == (OPEN + MINUTE, 50)


def test_what_conditions_leave_out() -> None:
    """An odd lot counts in volume and number only; an official price in nothing."""
    builder = build(make_trade(0, 99, 7, "@I"), make_trade(1, 10, 100), make_trade(2, 1, 900, "@M"))
    assert builder.close(OPEN + MINUTE) == [make_bar(Bar, (10, 10, 10, 10), 107, 2, 10.0)]


@pytest.mark.parametrize(
    "trade", [make_trade(0, 10, 5, "@I"), make_trade(0, 0.0), make_trade(0, 10, 0)]
)
def test_no_bar_with_a_zero(trade: Trade[int]) -> None:
    """A bar of which any field would be 0 is not given, nor is that of its day."""
    builder = build(trade)
    assert builder.close(OPEN + MINUTE) == []
    assert builder.daily_bar("AAPL") is None


def test_order_of_bars() -> None:
    """Bars come by time, then by symbol; a minute without trades has none."""
    builder = build(
        make_trade(130, 1), make_trade(10, 1, symbol="MSFT"), make_trade(5, 1, symbol="AAPL")
    )
    bars = builder.close(OPEN + 3 * MINUTE)
    assert [(bar.symbol, bar.timestamp - OPEN) for bar in bars] == [
        ("AAPL", 0),
        ("MSFT", 0),
        ("AAPL", 2 * MINUTE),
    ]


def test_late_trades() -> None:
    """A trade for a minute already given changes that bar, which is given again, whole."""
    builder = build(make_trade(0, 10))
    builder.close(OPEN + MINUTE)
    builder.add(make_trade(59, 12, 300))
    builder.add(make_trade(61, 11))
    assert builder.updated() == [make_bar(UpdatedBar, (10, 12, 10, 12), 400, 2, 11.5)]
    assert builder.updated() == []
    builder.add(make_trade(58, 1, 100, "@M"))
    assert builder.updated() == []
    (second,) = builder.close(OPEN + 2 * MINUTE)
    assert (second.open, second.volume) == (11, 100)


def test_a_late_first_trade() -> None:
    """A minute that had no bar gets one when its only trade comes late."""
    builder = build(make_trade(0, 10))
    builder.close(OPEN + 2 * MINUTE)
    builder.add(make_trade(70, 12))
    (bar,) = builder.updated()
    assert (bar.timestamp, bar.close) == (OPEN + MINUTE, 12)


def test_too_late_trades() -> None:
    """What is later than `keep_s` only counts in the day, so memory stays bounded."""
    builder = build(make_trade(0, 10), keep_s=120)
    builder.close(OPEN + MINUTE)
    builder.add(make_trade(1, 11))
    builder.close(OPEN + 3 * MINUTE)
    assert builder.updated() == []
    builder.add(make_trade(2, 12))
    assert builder.updated() == []
    daily = builder.daily_bar("AAPL")
    assert daily is not None
    assert (daily.trade_count, daily.close) == (3, 12)


# -- days --------------------------------------------------------------------------------


def test_the_day() -> None:
    """The day's bar runs from midnight in New York; extended hours count as volume only."""
    midnight = time_ns("2026-09-21T04:00:00Z")
    builder = build(
        make_trade(-3600, 20, 100, "@T"),
        make_trade(0, 10, 100),
        make_trade(1, 12, 100, "@4"),
        make_trade(2, 11, 100),
    )
    expected = make_bar(DailyBar, (10, 12, 10, 11), 400, 4, 11.0, timestamp=midnight)
    assert builder.daily_bar("AAPL") == expected
    assert builder.daily_bars() == [expected]
    assert builder.daily_bar("MSFT") is None


def test_open_and_close_of_a_late_report() -> None:
    """A late report sets open and close only where it is the first trade of the day."""
    first = build(make_trade(0, 10, 100, "@Z"), make_trade(1, 12, 100, "@Z")).daily_bar("AAPL")
    assert first == make_bar(
        DailyBar, (10, 12, 10, 10), 200, 2, 11.0, timestamp=time_ns("2026-09-21T04:00:00Z")
    )


@pytest.mark.parametrize(
    ("moment", "midnight"),
    [
        ("2026-01-15T04:59:59.9Z", "2026-01-14T05:00:00Z"),
        ("2026-01-15T05:00:00Z", "2026-01-15T05:00:00Z"),
        ("2026-07-15T04:00:00Z", "2026-07-15T04:00:00Z"),
        ("2026-11-01T23:00:00Z", "2026-11-01T04:00:00Z"),
        ("2026-11-02T04:30:00Z", "2026-11-01T04:00:00Z"),
        ("2026-03-09T03:59:59Z", "2026-03-08T05:00:00Z"),
    ],
)
def test_midnight_in_new_york(moment: str, midnight: str) -> None:
    """Days are New York's, also those with 23 and 25 hours."""
    bar = build(make_trade(0, 10, timestamp=time_ns(moment))).daily_bar("AAPL")
    assert bar is not None
    assert format_time(bar.timestamp) == midnight


def test_a_new_day() -> None:
    """The next day starts a new bar, and yesterday's late trades do not change it."""
    builder = build(make_trade(0, 10), make_trade(86_400, 20), make_trade(5, 99))
    bar = builder.daily_bar("AAPL")
    assert bar is not None
    assert (bar.open, bar.volume) == (20, 100)


# -- intervals ---------------------------------------------------------------------------


@pytest.mark.parametrize(("interval_s", "left"), [(1, 14_399), (300, 14_100), (3_900, 11_700)])
def test_intervals(interval_s: int, left: int) -> None:
    """Intervals of any length are counted from midnight in New York."""
    midnight = time_ns("2026-09-21T04:00:00Z")
    builder = build(make_trade(0, 10, timestamp=midnight + 14_399 * SECOND), interval_s=interval_s)
    (bar,) = builder.close(midnight + 86_400 * SECOND)
    assert bar.timestamp == midnight + left * SECOND


@pytest.mark.parametrize("interval_s", [0, -60, 1.5, 86_401, "60"])
def test_intervals_are_checked(interval_s: Any) -> None:
    """What is no length of a bar is refused."""
    with pytest.raises(BadInputError, match="interval_s"):
        CandleBuilder(interval_s)


TRADES = st.builds(
    make_trade,
    st.integers(0, 600),
    st.integers(1, 40).map(float),
    st.integers(1, 500),
    st.sampled_from(["@", "@I", "@M", "@T", "@4", "@F"]),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(TRADES, max_size=60), st.lists(st.integers(0, 660), max_size=5))
def test_closing_at_any_moment(trades: list[Trade[int]], moments: list[int]) -> None:
    """Whenever bars are closed, the last word on each minute is the same."""
    at_once = build(*trades)
    expected = {bar.timestamp: bar for bar in at_once.close(OPEN + 11 * MINUTE)}
    builder = CandleBuilder()
    told: dict[int, Bar[int]] = {}
    for i, trade in enumerate(trades):
        builder.add(trade)
        if i < len(moments):
            closed = builder.close(OPEN + moments[i] * SECOND)
            told |= {bar.timestamp: bar for bar in (*closed, *builder.updated())}
    rest = (*builder.close(OPEN + 11 * MINUTE), *builder.updated())
    told |= {bar.timestamp: bar for bar in rest}
    assert {at: fields(bar) for at, bar in told.items()} == {
        at: fields(bar) for at, bar in expected.items()
    }
    assert builder.daily_bars() == at_once.daily_bars()


def fields(bar: Bar[int]) -> list[Any]:
    return [getattr(bar, name) for name in bar.__struct_fields__]
