"""Rate and lag by a hand-moved clock."""

from __future__ import annotations

import pytest

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
