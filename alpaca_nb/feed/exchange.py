"""The exchange's time, which is neither this machine's nor, on a tape, anywhere near it."""

from __future__ import annotations

from typing import Protocol

from alpaca_nb.clock import Clock
from alpaca_nb.feed.meter import Meter


class Time(Protocol):
    """How the times of a source are told: a live exchange, or a tape with a pace of its own.

    All are ns since 1970, UTC; None while unknown.
    """

    def now_ns(self) -> int | None:
        """The exchange's time now."""
        ...

    def exchange_at(self, local_ns: int) -> int | None:
        """The exchange's time at a time of this machine's clock."""
        ...

    def newest_ns(self) -> int | None:
        """The latest of the exchange's time stamps that was received."""
        ...

    def speed(self) -> float:
        """Seconds of the exchange in one of ours; 0 for a tape that knows no pace."""
        ...


class ExchangeTime:
    """The time of a stream's source, from what was received and from what its REST clock told."""

    def __init__(self, meter: Meter, clock: Clock) -> None:
        self._meter = meter
        self._clock = clock
        self._told: tuple[int, int] | None = None
        self.pace: float | None = None
        """The speed of a tape; None for a live exchange."""

    def set_pace(self, pace: float | None) -> None:
        """Say what kind of time the next messages carry."""
        self.pace = pace
        self._meter.set_speed(pace)

    def note_told(self, exchange_ns: int) -> None:
        """Take what the exchange's clock just said; it serves until something was received."""
        self._told = exchange_ns, self._clock.now_ns()

    def now_ns(self) -> int | None:
        """The exchange's time now."""
        now_ns = self._meter.exchange_now_ns()
        if now_ns is not None or self._told is None:
            return now_ns
        exchange_ns, local_ns = self._told
        return exchange_ns + round((self._clock.now_ns() - local_ns) * self.speed())

    def exchange_at(self, local_ns: int) -> int | None:
        """The exchange's time at a time of this machine's clock."""
        now_ns = self.now_ns()
        if now_ns is None:
            return None
        if self.pace == 0:
            # Such a tape has no pace to count back with: from its beginning, then.
            last_ns = self._meter.last_received_ns
            return now_ns if last_ns is None or local_ns >= last_ns else 0
        return now_ns - round((self._clock.now_ns() - local_ns) * self.speed())

    def newest_ns(self) -> int | None:
        """The latest of the exchange's time stamps that was received."""
        return self._meter.newest_ns

    def speed(self) -> float:
        """Seconds of the exchange in one of ours; 0 for a tape that knows no pace."""
        return 1.0 if self.pace is None else self.pace
