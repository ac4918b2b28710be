"""The clock that a test moves."""

from __future__ import annotations

import asyncio

from alpaca_nb.clock import SYSTEM_CLOCK, ManualClock


async def test_sleepers_wake_in_order_at_their_own_times() -> None:
    """Moving the clock far wakes each sleeper at the time it asked for."""
    clock = ManualClock(start_ns=0)
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, delay_s: float) -> None:
        await clock.sleep(delay_s)
        woken.append((name, clock.monotonic()))

    tasks = [asyncio.ensure_future(sleeper(name, s)) for name, s in (("b", 2.0), ("a", 1.0))]
    await asyncio.sleep(0)
    assert clock.sleepers == 2
    await clock.advance(1.5)
    assert woken == [("a", 1.0)]
    await clock.advance(10)
    await asyncio.gather(*tasks)
    assert woken == [("a", 1.0), ("b", 2.0)]
    assert clock.now_ns() == 11_500_000_000
    assert clock.sleepers == 0


async def test_no_time_is_a_turn_of_the_loop() -> None:
    """Sleeping for nothing gives the others a turn and returns."""
    await ManualClock().sleep(0)


async def test_the_machines_clock_runs() -> None:
    """The real clock moves and sleeps."""
    start_ns, start_s = SYSTEM_CLOCK.now_ns(), SYSTEM_CLOCK.monotonic()
    await SYSTEM_CLOCK.sleep(0.001)
    assert SYSTEM_CLOCK.now_ns() > start_ns
    assert SYSTEM_CLOCK.monotonic() > start_s
