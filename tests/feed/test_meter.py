"""Rate and lag by a hand-moved clock."""

from __future__ import annotations

import asyncio
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpaca_nb.clock import ManualClock
from alpaca_nb.feed.meter import Meter


async def test_rate_is_of_the_last_seconds() -> None:
    """The rate follows what came lately and falls to zero in silence."""
    clock = ManualClock()
    meter = Meter(clock)
    for _ in range(100):
        meter.count(10, clock.now_ns(), None)
        await clock.advance(0.1)
    assert meter.rate == pytest.approx(100, rel=0.05)
    assert meter.received == 1000
    await clock.advance(5)
    assert meter.rate == 0


async def test_lag_is_the_median_and_is_forgotten() -> None:
    """One slow message does not move the lag, and old ones do not count."""
    clock = ManualClock()
    meter = Meter(clock)
    assert meter.lag_s is None
    for delay_ms in (10, 10, 900, 10, 10):
        meter.count(1, clock.now_ns(), clock.now_ns() - delay_ms * 1_000_000)
        await clock.advance(0.2)
    assert meter.lag_s == pytest.approx(0.010)
    await clock.advance(10)
    assert meter.lag_s is None


async def test_a_tapes_lag_is_against_its_quickest_message() -> None:
    """A tape of another day at another speed has a lag all the same."""
    clock = ManualClock()
    meter = Meter(clock, speed=20.0)
    for late_ms in (0, 0, 40, 40, 40):
        tape_ns = round(clock.monotonic() * 20e9)
        meter.count(1, clock.now_ns() + late_ms * 1_000_000, tape_ns)
        await clock.advance(0.2)
    assert meter.lag_s == pytest.approx(0.040, abs=1e-6)


async def test_as_fast_as_possible_has_no_lag() -> None:
    """With speed 0 time stamps and arrival have nothing to do with each other."""
    clock = ManualClock()
    meter = Meter(clock, speed=0.0)
    meter.count(1, clock.now_ns(), 5)
    assert meter.lag_s is None


S = 1_000_000_000
MS = 1_000_000


def live(clock: ManualClock, meter: Meter, delay_ns: int, *, ahead_ns: int = 0) -> int:
    """Let a message arrive after `delay_ns` at a machine whose clock is ahead; its time stamp."""
    exchange_ns = clock.now_ns() - ahead_ns - delay_ns
    meter.count(1, clock.now_ns(), exchange_ns)
    return exchange_ns


async def test_the_tail_and_the_newest() -> None:
    """One frame in fifty is late: the median does not show it, p99 and the newest do."""
    clock = ManualClock()
    meter = Meter(clock)
    assert (meter.lag_p99_s, meter.lag_now_s) == (None, None)
    for number in range(200):
        live(clock, meter, 900 * MS if number % 50 == 49 else 10 * MS)
        await clock.advance(0.02)
    assert meter.lag_s == pytest.approx(0.010)
    assert meter.lag_p99_s == pytest.approx(0.900)
    assert meter.lag_now_s == pytest.approx(0.900)
    live(clock, meter, 20 * MS)
    assert meter.lag_now_s == pytest.approx(0.020)
    await clock.advance(5)
    assert (meter.lag_s, meter.lag_p99_s, meter.lag_now_s) == (None, None, None)


async def test_a_flood_is_sampled_fairly() -> None:
    """At 20,000 frames a second the quantiles are right, also where busy and calm times mix."""
    clock = ManualClock()
    meter = Meter(clock)
    for _ in range(200):  # 2 s, and all of the 2 % late frames are in every hundred
        for number in range(200):
            live(clock, meter, 500 * MS if number % 50 == 7 else (10 + number % 3) * MS)
        await clock.advance(0.01)
    for _ in range(25):  # 2.5 s with few frames, which must not weigh as much
        live(clock, meter, 70 * MS)
        await clock.advance(0.1)
    assert meter.lag_s == pytest.approx(0.011, abs=0.0011)
    assert meter.lag_p99_s == pytest.approx(0.500)


async def test_a_flood_takes_no_memory() -> None:
    """What is kept does not grow with the number of frames."""
    clock = ManualClock()
    meter = Meter(clock)

    async def flood() -> None:
        for _ in range(120):
            for _ in range(100):
                live(clock, meter, 10 * MS)
            await clock.advance(0.1)

    await flood()
    tracemalloc.start()
    try:
        await flood()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 500_000


async def test_reading_again_is_cheap_and_not_stale() -> None:
    """A summary is used again only while it still describes the last seconds."""
    clock = ManualClock()
    meter = Meter(clock)
    live(clock, meter, 10 * MS)
    assert meter.lag_s == pytest.approx(0.010)
    live(clock, meter, 30 * MS)
    live(clock, meter, 30 * MS)
    assert meter.lag_s == pytest.approx(0.030)
    await clock.advance(4.9)
    assert meter.lag_s == pytest.approx(0.030)
    await clock.advance(0.2)
    assert meter.lag_s is None


async def test_a_delayed_feed_says_so() -> None:
    """A feed that is fifteen minutes late has that lag, and the exchange's time is that old."""
    clock = ManualClock()
    meter = Meter(clock, delay_s=900)
    assert meter.exchange_now_ns() == clock.now_ns() - 900 * S
    meter.note_server_time(clock.now_ns(), clock.now_ns(), clock.now_ns())
    for _ in range(10):
        live(clock, meter, 900 * S + 40 * MS)
        await clock.advance(0.2)
    assert meter.lag_s == pytest.approx(900.04)
    assert meter.skew_s is None
    assert meter.exchange_now_ns() == clock.now_ns() - 900 * S - 40 * MS


# -- this machine's clock --


def date(meter: Meter, clock: ManualClock, *, ahead_ns: int, trip_ns: int = 80 * MS) -> None:
    """Note the Date of an answer that came just now, from a server whose clock is right."""
    sent_ns = clock.now_ns() - trip_ns
    answered_by_server_ns = sent_ns + trip_ns // 2 - ahead_ns
    meter.note_server_time(answered_by_server_ns // S * S, sent_ns, clock.now_ns())


@pytest.mark.parametrize("ahead_s", [3600, -3600, 5, -5])
async def test_a_wrong_clock_is_found_out_by_one_date(ahead_s: int) -> None:
    """One answer tells the error to a second, and the lag is corrected by it."""
    clock = ManualClock()
    meter = Meter(clock)
    date(meter, clock, ahead_ns=ahead_s * S)
    assert meter.skew_s == pytest.approx(ahead_s, abs=0.6)
    expected_ns = clock.now_ns() - ahead_s * S
    assert meter.exchange_now_ns() == pytest.approx(expected_ns, abs=600 * MS)
    for _ in range(10):
        live(clock, meter, 30 * MS, ahead_ns=ahead_s * S)
        await clock.advance(0.1)
    assert meter.lag_s == pytest.approx(0.03, abs=0.6)
    now_ns = clock.now_ns() - ahead_s * S - 30 * MS
    assert meter.exchange_now_ns() == now_ns


async def test_many_dates_tell_it_better() -> None:
    """Dates of different moments narrow the error down to the round trip."""
    clock = ManualClock()
    meter = Meter(clock)
    for _ in range(8):
        date(meter, clock, ahead_ns=7 * S + 300 * MS)
        await clock.advance(1.13)
    assert meter.skew_s == pytest.approx(7.3, abs=0.15)
    live(clock, meter, 30 * MS, ahead_ns=7 * S + 300 * MS)
    assert meter.lag_s == pytest.approx(0.03, abs=0.15)


async def test_a_good_clock_is_not_corrected() -> None:
    """An error that may be rounding is no error."""
    clock = ManualClock()
    meter = Meter(clock)
    assert meter.skew_s is None
    for _ in range(20):
        date(meter, clock, ahead_ns=-200 * MS, trip_ns=1500 * MS)
        await clock.advance(0.7)
        live(clock, meter, 20 * MS)
    assert meter.skew_s is None
    assert meter.lag_s == pytest.approx(0.02)


async def test_a_clock_that_is_set_is_noticed() -> None:
    """A Date that contradicts the earlier ones is believed; an impossible one is not."""
    clock = ManualClock()
    meter = Meter(clock)
    for _ in range(4):
        date(meter, clock, ahead_ns=120 * S)
        await clock.advance(1)
    assert meter.skew_s == pytest.approx(120, abs=0.6)
    meter.note_server_time(clock.now_ns() - 500 * S, clock.now_ns() + 1, clock.now_ns())
    assert meter.skew_s == pytest.approx(120, abs=0.6)
    date(meter, clock, ahead_ns=0)
    assert meter.skew_s is None


async def test_messages_correct_an_old_date() -> None:
    """The clock was set since the last Date: messages prove it at once."""
    clock = ManualClock()
    meter = Meter(clock)
    date(meter, clock, ahead_ns=3600 * S)
    assert meter.skew_s == pytest.approx(3600, abs=0.6)
    live(clock, meter, 20 * MS)
    assert meter.skew_s is None
    assert meter.lag_s == pytest.approx(0.02)


async def test_messages_from_the_future_prove_a_clock_behind() -> None:
    """Without any Date, messages that come before they are made tell how far it is behind."""
    clock = ManualClock()
    meter = Meter(clock)
    for _ in range(20):
        newest_ns = live(clock, meter, 20 * MS, ahead_ns=-3600 * S)
        await clock.advance(0.1)
    assert meter.skew_s == pytest.approx(-3600, abs=0.1)
    assert meter.lag_s == pytest.approx(0, abs=0.1)
    assert meter.exchange_now_ns() == newest_ns + 100 * MS
    await clock.advance(60)
    assert meter.skew_s == pytest.approx(-3600, abs=0.1)


async def test_one_wrong_time_stamp_moves_nothing() -> None:
    """A lone message from the year 2100 is not proof of anything, and leaves no trace."""
    clock = ManualClock()
    meter = Meter(clock)
    for number in range(20):
        live(clock, meter, 20 * MS)
        if number in (0, 5, 6, 12):
            live(clock, meter, -2_000_000_000 * S)
        await clock.advance(0.1)
    assert meter.skew_s is None
    assert meter.lag_s == meter.lag_now_s == pytest.approx(0.02)
    assert meter.exchange_now_ns() == clock.now_ns() - 20 * MS


async def test_an_hour_late_without_a_date_is_lag() -> None:
    """An old feed and a clock that is ahead cannot be told apart: the delay is reported."""
    clock = ManualClock()
    meter = Meter(clock)
    live(clock, meter, 3600 * S)
    assert meter.skew_s is None
    assert meter.lag_s == pytest.approx(3600)


# -- the exchange's time --


async def test_the_exchanges_time_goes_on_in_silence() -> None:
    """From the quickest message on it follows the clock, whatever comes late."""
    clock = ManualClock()
    meter = Meter(clock)
    assert meter.exchange_now_ns() == clock.now_ns()
    live(clock, meter, 20 * MS)
    assert meter.exchange_now_ns() == clock.now_ns() - 20 * MS
    for _ in range(50):
        await clock.advance(1.0)
        live(clock, meter, 30 * S)
        assert meter.exchange_now_ns() == clock.now_ns() - 20 * MS
    await clock.advance(10_000)
    assert meter.exchange_now_ns() == clock.now_ns() - 20 * MS


async def test_a_first_message_that_is_late_does_not_drag_it_back() -> None:
    """When the clock is known, a trade reported late does not look like a late feed."""
    clock = ManualClock()
    meter = Meter(clock)
    date(meter, clock, ahead_ns=0)
    live(clock, meter, 900 * S)
    assert meter.exchange_now_ns() == clock.now_ns() - 5 * S


async def test_a_tapes_time_runs_at_its_speed() -> None:
    """The time of a tape is unknown before its first message and then goes on at its speed."""
    clock = ManualClock()
    meter = Meter(clock, speed=20.0)
    assert meter.exchange_now_ns() is None
    tape_ns = 1_381_152_600 * S
    meter.count(1, clock.now_ns(), tape_ns)
    await clock.advance(0.5)
    assert meter.exchange_now_ns() == tape_ns + 10 * S
    meter.count(1, clock.now_ns(), tape_ns + 7 * S)  # late by 3 s of the tape
    assert meter.exchange_now_ns() == tape_ns + 10 * S
    assert meter.lag_s == pytest.approx(0.0, abs=1e-6)
    assert meter.lag_now_s == pytest.approx(0.15, abs=1e-6)
    await clock.advance(10)
    assert meter.exchange_now_ns() == tape_ns + 210 * S
    assert meter.skew_s is None


async def test_a_reconnect_to_the_same_source_keeps_its_time() -> None:
    """Only another speed makes another time of it."""
    clock = ManualClock()
    meter = Meter(clock, speed=2.0)
    meter.count(1, clock.now_ns(), 1000 * S)
    meter.set_speed(2.0)
    await clock.advance(1)
    assert meter.exchange_now_ns() == 1002 * S
    meter.set_speed(None)
    assert meter.exchange_now_ns() == clock.now_ns()


async def test_as_fast_as_possible_its_time_is_the_highest_time_stamp() -> None:
    """Without a speed, only what was received tells how far the tape is."""
    clock = ManualClock()
    meter = Meter(clock, speed=0.0)
    assert meter.exchange_now_ns() is None
    for stamp_ns in (5 * S, 9 * S, 7 * S):
        meter.count(1, clock.now_ns(), stamp_ns)
        await clock.advance(1)
    assert meter.exchange_now_ns() == 9 * S


@given(
    speed=st.sampled_from([None, 0.0, 0.5, 1.0, 60.0]),
    ahead_s=st.sampled_from([0, 0, 40, 3600]),
    steps=st.lists(
        st.tuples(st.integers(-900, 20_000), st.integers(0, 3000), st.booleans()), max_size=30
    ),
)
def test_it_is_never_before_what_was_received(
    speed: float | None, ahead_s: int, steps: list[tuple[int, int, bool]]
) -> None:
    """Whatever comes however late, the estimate is not before any time stamp received."""

    async def play() -> None:
        clock = ManualClock()
        meter = Meter(clock, speed=speed)
        highest_ns = 0
        for delay_ms, pause_ms, dated in steps:
            highest_ns = max(highest_ns, live(clock, meter, delay_ms * MS, ahead_ns=ahead_s * S))
            if dated:
                date(meter, clock, ahead_ns=ahead_s * S)
            estimate_ns = meter.exchange_now_ns()
            assert estimate_ns is not None
            assert estimate_ns >= highest_ns
            await clock.advance(pause_ms / 1000)

    asyncio.run(play())
