"""What time it is, and how to wait: the real clock, and one that a test moves by hand."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from typing import Protocol


class Clock(Protocol):
    """Time as the rest of the package sees it."""

    def now_ns(self) -> int:
        """Nanoseconds since 1970, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go backwards, from an arbitrary start."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Return after `delay_s` seconds of this clock."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ns(self) -> int:
        """Nanoseconds since 1970, UTC."""
        return time.time_ns()

    def monotonic(self) -> float:
        """Seconds that never go backwards, from an arbitrary start."""
        return time.monotonic()

    async def sleep(self, delay_s: float) -> None:
        """Return after `delay_s` seconds."""
        await asyncio.sleep(delay_s)


SYSTEM_CLOCK = SystemClock()


class ManualClock:
    """A clock that stands still until a test calls `advance`.

    All sleepers must be on one event loop, and `advance` is called on that loop.
    """

    def __init__(self, start_ns: int = 1_790_000_000_000_000_000) -> None:
        self._start_ns = start_ns
        self._now_ns = start_ns
        self._order = itertools.count()
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []

    def now_ns(self) -> int:
        """Nanoseconds since 1970, UTC, as moved by hand."""
        return self._now_ns

    def monotonic(self) -> float:
        """Seconds since this clock was made, as moved by hand."""
        return (self._now_ns - self._start_ns) / 1e9

    async def sleep(self, delay_s: float) -> None:
        """Return once `advance` has moved the clock by `delay_s` seconds."""
        if delay_s <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        due_ns = self._now_ns + round(delay_s * 1e9)
        heapq.heappush(self._sleepers, (due_ns, next(self._order), woken))
        await woken

    @property
    def sleepers(self) -> int:
        """How many are asleep; a test waits for this before it advances."""
        return sum(not woken.done() for _, _, woken in self._sleepers)

    async def advance(self, seconds: float) -> None:
        """Move the clock, waking each sleeper at its own time, in order."""
        end_ns = self._now_ns + round(seconds * 1e9)
        while self._sleepers and self._sleepers[0][0] <= end_ns:
            due_ns, _, woken = heapq.heappop(self._sleepers)
            self._now_ns = due_ns
            if not woken.done():
                woken.set_result(None)
            # Twice: once for the sleeper to wake, once for what it started.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        self._now_ns = end_ns
