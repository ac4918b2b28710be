"""Rate and lag over the last seconds, at a cost per frame and not per message."""

from __future__ import annotations

from collections import deque
from statistics import median

from alpaca_nb.clock import Clock

_BUCKET_S = 0.1
_WINDOW_S = 5.0
_BASE_WINDOW_S = 60.0


class _Bucket:
    __slots__ = ("count", "delay_ns", "fastest_ns", "start_s")

    def __init__(self, start_s: float) -> None:
        self.start_s = start_s
        self.count = 0
        self.delay_ns: float | None = None
        self.fastest_ns: float | None = None


class Meter:
    """Counts what arrives.

    `speed` is None for live data, whose lag is arrival minus exchange time. A tape that is
    played has a time of its own; with its `speed` the lag is measured against the
    quickest message of the last minute, and with speed 0 (as fast as possible) there is
    none. Read and written on the thread that receives; reading from others is safe.
    """

    def __init__(self, clock: Clock, *, speed: float | None = None) -> None:
        self._clock = clock
        self._speed = speed
        self._start_s = clock.monotonic()
        self._buckets: deque[_Bucket] = deque(maxlen=round(_BASE_WINDOW_S / _BUCKET_S))
        self.received = 0
        self.last_received_ns: int | None = None

    def count(self, messages: int, received_ns: int, exchange_ns: int | None) -> None:
        """Count one frame; `exchange_ns` is the time stamp of one of its quotes or trades."""
        bucket = self._bucket_now()
        bucket.count += messages
        self.received += messages
        self.last_received_ns = received_ns
        if exchange_ns is None or self._speed == 0:
            return
        # In integers where it can be: a float of nanoseconds since 1970 is 128 ns coarse.
        tape_ns = exchange_ns if self._speed is None else exchange_ns / self._speed
        delay_ns = received_ns - tape_ns
        bucket.delay_ns = delay_ns
        if bucket.fastest_ns is None or delay_ns < bucket.fastest_ns:
            bucket.fastest_ns = delay_ns

    def set_speed(self, speed: float | None) -> None:
        """Say what kind of time the next messages carry; earlier delays are forgotten."""
        self._speed = speed
        self._buckets.clear()

    @property
    def rate(self) -> float:
        """Messages a second over the last five seconds."""
        now = self._clock.monotonic()
        recent = [bucket for bucket in list(self._buckets) if now - bucket.start_s < _WINDOW_S]
        window_s = min(_WINDOW_S, max(now - self._start_s, _BUCKET_S))
        return sum(bucket.count for bucket in recent) / window_s

    @property
    def lag_s(self) -> float | None:
        """Seconds from exchange to here, median of the last five seconds; None while unknown."""
        now = self._clock.monotonic()
        buckets = list(self._buckets)
        delays = [
            bucket.delay_ns
            for bucket in buckets
            if bucket.delay_ns is not None and now - bucket.start_s < _WINDOW_S
        ]
        if not delays:
            return None
        if self._speed is None:
            return median(delays) / 1e9
        fastest = min(bucket.fastest_ns for bucket in buckets if bucket.fastest_ns is not None)
        return (median(delays) - fastest) / 1e9

    def _bucket_now(self) -> _Bucket:
        now = self._clock.monotonic()
        if not self._buckets or now - self._buckets[-1].start_s >= _BUCKET_S:
            self._buckets.append(_Bucket(now))
        return self._buckets[-1]
