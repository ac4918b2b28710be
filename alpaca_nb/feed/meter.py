"""Rate, lag and the exchange's time over the last seconds, at a cost per frame.

Three clocks are involved: the exchange's, which stamps each quote and trade; this
machine's, which may be wrong; and the server's, which the Date header of an HTTP answer
tells to the second. What is measured directly is the delay, arrival here minus the time
stamp: the way from the exchange plus what this machine's clock is ahead of the
exchange's.
"""

from __future__ import annotations

from collections import deque
from itertools import repeat
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alpaca_nb.clock import Clock

_BUCKET_S = 0.1
_WINDOW_S = 5.0
_SAMPLES = 20
"""Delays kept of one bucket, whatever the number of its frames."""
_FEW = 4
"""So many frames are measured one by one as quickly as all at once."""
_BASE_SECONDS = 60
_SECOND_NS = 1_000_000_000
_TELLABLE_NS = _SECOND_NS
"""A difference of two clocks below this is not told apart from rounding and jitter."""
_CONFIRMATIONS = 3
_LATE_NS = 5 * _SECOND_NS
"""A feed that is known to be prompt is not believed to be later than this."""
_ANSWERS = 8

_Bounds = tuple[int, int]
"""Between which two values (ns) a difference of two clocks lies."""


class _Bucket:
    """A tenth of a second: what came, and a fair sample of its delays."""

    __slots__ = ("count", "frames", "samples", "start_s")

    def __init__(self, start_s: float) -> None:
        self.start_s = start_s
        self.count = 0
        self.frames = 0
        self.samples: list[float] = []


class _Second:
    """The quickest message of a second."""

    __slots__ = ("delay_ns", "exchange_ns", "received_ns", "start_s")

    def __init__(self, start_s: float, delay_ns: float, exchange_ns: int, received_ns: int) -> None:
        self.start_s = start_s
        self.delay_ns = delay_ns
        self.exchange_ns = exchange_ns
        self.received_ns = received_ns


class Meter:
    """Counts what arrives.

    `speed` is None for live data, whose lag is arrival minus exchange time, corrected by
    what is known of this machine's clock. A feed that is late by design (`delay_s`) has
    that lag, too. A tape that is played has a time of its own; with its `speed` the lag
    is measured against the quickest message of the last minute in which something came,
    and with speed 0 (as fast as possible) there is none.

    Written on the thread that receives; reading from others is safe, needs no lock, and
    costs little however often it is done.
    """

    def __init__(self, clock: Clock, *, speed: float | None = None, delay_s: float = 0.0) -> None:
        self._clock = clock
        self._speed = speed
        self._designed_delay_ns = round(delay_s * 1e9)
        self._start_s = clock.monotonic()
        # Seeded: which frames are sampled must not differ from run to run.
        self._random = Random(0).random
        self._many = np.random.default_rng(0).random
        self._answers: deque[_Bounds] = deque(maxlen=_ANSWERS)
        self._dated: _Bounds | None = None
        self.received = 0
        self.last_received_ns: int | None = None
        self._forget()

    def _forget(self) -> None:
        self._buckets: deque[_Bucket] = deque(maxlen=round(_WINDOW_S / _BUCKET_S))
        self._seconds: deque[_Second] = deque(maxlen=_BASE_SECONDS)
        self._frames = 0
        self._last_delay: tuple[float, float] | None = None
        self._newest_ns: int | None = None
        self._earliest_delay_ns = 0
        self._leaps = 0
        self._summary: _Summary | None = None

    # -- written by the thread that receives --

    def count(self, messages: int, received_ns: int, exchange_ns: int | None) -> None:
        """Count one frame; `exchange_ns` is the time stamp of one of its quotes or trades."""
        now = self._clock.monotonic()
        bucket = self._count(now, messages, received_ns)
        if exchange_ns is not None:
            self._measure(bucket, now, received_ns, exchange_ns)

    def count_all(
        self, messages: int, received: NDArray[np.int64], exchange: NDArray[np.int64]
    ) -> None:
        """Count several frames at once, at least one; the arrays have an entry for each."""
        now = self._clock.monotonic()
        bucket = self._count(now, messages, int(received[-1]))
        if self._speed == 0:
            self._note_newest(int(exchange.max()))
            return
        if len(received) <= _FEW:
            for received_ns, exchange_ns in zip(received.tolist(), exchange.tolist(), strict=True):
                self._measure(bucket, now, received_ns, exchange_ns)
            return
        speed = self._speed
        delays = received - (exchange if speed is None else exchange / speed)
        quickest = int(delays.argmin())
        if speed is None and delays[quickest] < self._earliest_delay_ns - _TELLABLE_NS:
            for received_ns, exchange_ns in zip(received.tolist(), exchange.tolist(), strict=True):
                self._measure(bucket, now, received_ns, exchange_ns)
            return
        self._leaps = 0
        self._note_newest(int(exchange.max()))
        self._sample_all(bucket, now, delays)
        self._note_quickest(
            now, delays[quickest].item(), int(exchange[quickest]), int(received[quickest])
        )

    def _count(self, now: float, messages: int, received_ns: int) -> _Bucket:
        buckets = self._buckets
        if not buckets or now - buckets[-1].start_s >= _BUCKET_S:
            buckets.append(_Bucket(now))
        bucket = buckets[-1]
        bucket.count += messages
        self.received += messages
        self.last_received_ns = received_ns
        return bucket

    def _measure(self, bucket: _Bucket, now: float, received_ns: int, exchange_ns: int) -> None:
        speed = self._speed
        if speed == 0:
            self._note_newest(exchange_ns)
            return
        # In integers where it can be: a float of nanoseconds since 1970 is 128 ns coarse.
        delay_ns = received_ns - (exchange_ns if speed is None else exchange_ns / speed)
        if speed is None and delay_ns < self._earliest_delay_ns - _TELLABLE_NS:
            if not self._is_confirmed(delay_ns):
                return
        elif self._leaps:
            self._leaps = 0
        self._note_newest(exchange_ns)
        self._sample(bucket, now, delay_ns)
        self._note_quickest(now, delay_ns, exchange_ns, received_ns)

    def _note_quickest(
        self, now: float, delay_ns: float, exchange_ns: int, received_ns: int
    ) -> None:
        seconds = self._seconds
        if not seconds or now - seconds[-1].start_s >= 1.0:
            seconds.append(_Second(now, delay_ns, exchange_ns, received_ns))
        elif delay_ns < seconds[-1].delay_ns:
            seconds[-1] = _Second(seconds[-1].start_s, delay_ns, exchange_ns, received_ns)

    def note_server_time(self, server_ns: int, sent_ns: int, answered_ns: int) -> None:
        """Compare clocks: the Date of an HTTP answer, and when it was asked for and came.

        Date is cut to the second, so one answer tells the difference to a second and the
        round trip; several in agreement tell it better. One that contradicts the earlier
        ones replaces them: this machine's clock was set.
        """
        if answered_ns < sent_ns:
            return  # the clock was set while the request was on its way
        low, high = sent_ns - server_ns - _SECOND_NS, answered_ns - server_ns
        self._answers.append((low, high))
        for earlier in list(self._answers)[-2::-1]:
            common = max(low, earlier[0]), min(high, earlier[1])
            if common[0] > common[1]:
                break
            low, high = common
        self._dated = low, high
        self._summary = None

    def set_speed(self, speed: float | None) -> None:
        """Say what kind of time the next messages carry; after a change delays are forgotten."""
        if speed != self._speed:
            self._speed = speed
            self._forget()

    # -- read from any thread --

    @property
    def rate(self) -> float:
        """Messages a second over the last five seconds."""
        now = self._clock.monotonic()
        recent = [bucket for bucket in list(self._buckets) if now - bucket.start_s < _WINDOW_S]
        window_s = min(_WINDOW_S, max(now - self._start_s, _BUCKET_S))
        return sum(bucket.count for bucket in recent) / window_s

    @property
    def lag_s(self) -> float | None:
        """Seconds from exchange to here, median of the last five seconds; None while unknown.

        Without a Date to compare with, an old feed and a clock that is ahead look the
        same, and the delay is reported as it is.
        """
        summary = self._summarise()
        return self._as_lag(summary, summary.median_ns)

    @property
    def lag_p99_s(self) -> float | None:
        """The same, exceeded by one frame in a hundred."""
        summary = self._summarise()
        return self._as_lag(summary, summary.p99_ns)

    @property
    def lag_now_s(self) -> float | None:
        """The same, of the newest frame; None when it is older than five seconds."""
        last = self._last_delay
        if last is None or self._clock.monotonic() - last[0] >= _WINDOW_S:
            return None
        return self._as_lag(self._summarise(), last[1])

    @property
    def skew_s(self) -> float | None:
        """Seconds that this machine's clock is ahead of the server's (negative: behind).

        None while unknown or too small to tell (about a second), and for a tape. It comes
        from `note_server_time`; failing that, messages that seem to arrive before they
        were made prove that this clock is behind, by that much or a little more. That it
        is ahead cannot be told from messages.
        """
        skew_ns = self._summarise().skew_ns
        return skew_ns / 1e9 if skew_ns else None

    def exchange_now_ns(self) -> int | None:
        """The exchange's time of whatever would arrive now; None while a tape's is unknown.

        An estimate: it goes on with this machine's clock from the quickest message of the
        last minute in which something came, so late messages do not move it. For a tape
        played as fast as possible it is the latest time stamp there was. It is never before
        a time stamp already received, except that of a lone message from the future.
        """
        speed, newest_ns = self._speed, self._newest_ns
        if speed == 0:
            return newest_ns
        now_ns = self._clock.now_ns()
        quickest = self._quickest()
        if quickest is None:
            if speed is not None:
                return newest_ns
            estimate_ns = now_ns - self._summarise().skew_ns - self._designed_delay_ns
        else:
            elapsed_ns = now_ns - quickest.received_ns
            scaled_ns = elapsed_ns if speed is None else round(elapsed_ns * speed)
            estimate_ns = quickest.exchange_ns + scaled_ns
            if speed is None and self._dated is not None:
                # The clock is known, so the quickest message may have been merely a late one.
                true_ns = now_ns - self._summarise().skew_ns
                late_ns = self._designed_delay_ns + _LATE_NS
                estimate_ns = min(max(estimate_ns, true_ns - late_ns), true_ns + _TELLABLE_NS)
        return estimate_ns if newest_ns is None else max(estimate_ns, newest_ns)

    @property
    def newest_ns(self) -> int | None:
        """The latest time stamp received (ns since 1970, UTC)."""
        return self._newest_ns

    # -- inside --

    def _note_newest(self, exchange_ns: int) -> None:
        if self._newest_ns is None or exchange_ns > self._newest_ns:
            self._newest_ns = exchange_ns

    def _is_confirmed(self, delay_ns: float) -> bool:
        """Whether so many in a row come from the future that this clock must be behind.

        A lone wrong time stamp would otherwise move every estimate for good.
        """
        self._leaps += 1
        if self._leaps < _CONFIRMATIONS:
            return False
        self._leaps = 0
        self._earliest_delay_ns = round(delay_ns)
        return True

    def _sample(self, bucket: _Bucket, now: float, delay_ns: float) -> None:
        """Keep a delay such that each frame of the bucket is as likely to be kept."""
        self._last_delay = (now, delay_ns)
        self._frames += 1
        bucket.frames += 1
        if bucket.frames <= _SAMPLES:
            bucket.samples.append(delay_ns)
        elif (place := int(self._random() * bucket.frames)) < _SAMPLES:
            bucket.samples[place] = delay_ns

    def _sample_all(self, bucket: _Bucket, now: float, delays: NDArray[Any]) -> None:
        """The same for several at once."""
        self._last_delay = (now, delays[-1].item())
        before, count = bucket.frames, len(delays)
        self._frames += count
        bucket.frames += count
        free = max(_SAMPLES - before, 0)
        bucket.samples += delays[:free].tolist()
        places = self._many(count - min(free, count)) * np.arange(
            before + min(free, count) + 1, before + count + 1
        )
        for i in np.flatnonzero(places < _SAMPLES).tolist():
            bucket.samples[int(places[i])] = delays[free + i].item()

    def _quickest(self) -> _Second | None:
        return min(list(self._seconds), key=lambda second: second.delay_ns, default=None)

    def _last_quickest(self) -> float | None:
        seconds = list(self._seconds)
        return seconds[-1].delay_ns if seconds else None

    def _as_lag(self, summary: _Summary, delay_ns: float | None) -> float | None:
        if delay_ns is None:
            return None
        return max(0.0, (delay_ns - summary.base_ns) / 1e9)

    def _summarise(self) -> _Summary:
        """What the window says; made anew when it moved or grew by a twentieth."""
        now = self._clock.monotonic()
        frames = self._frames
        summary = self._summary
        if summary is not None and summary.holds(now, frames):
            return summary
        summary = _Summary(now, frames)
        recent = [bucket for bucket in list(self._buckets) if now - bucket.start_s < _WINDOW_S]
        weighted = sorted(
            pair
            for bucket in recent
            if (samples := list(bucket.samples))
            for pair in zip(samples, repeat(bucket.frames / len(samples)), strict=False)
        )
        summary.weight = sum(weight for _, weight in weighted)
        if weighted:
            summary.median_ns = _quantile(weighted, 0.5 * summary.weight)
            summary.p99_ns = _quantile(weighted, 0.99 * summary.weight)
        if self._speed is None:
            summary.skew_ns = self._skew_ns(weighted[0][0] if weighted else self._last_quickest())
            summary.base_ns = summary.skew_ns
        elif (quickest := self._quickest()) is not None:
            summary.base_ns = quickest.delay_ns
        self._summary = summary
        return summary

    def _skew_ns(self, quickest_ns: float | None) -> int:
        """How far this clock is ahead, 0 where that cannot be told.

        Nothing arrives before it was made, so the quickest delay is an upper bound. Where
        it contradicts the Dates they are out of date: the bound is from the last seconds.
        """
        bounds = self._dated
        if quickest_ns is not None:
            bound_ns = round(quickest_ns)
            if bounds is None or bounds[0] > bound_ns:
                return bound_ns if bound_ns < -_TELLABLE_NS else 0
            bounds = bounds[0], min(bounds[1], bound_ns)
        if bounds is None:
            return 0
        low, high = bounds
        return (low + high) // 2 if low > _TELLABLE_NS or high < -_TELLABLE_NS else 0


class _Summary:
    """What one look at the window found; `base_ns` is the delay that is no lag."""

    __slots__ = ("base_ns", "frames", "made_s", "median_ns", "p99_ns", "skew_ns", "weight")

    def __init__(self, made_s: float, frames: int) -> None:
        self.made_s = made_s
        self.frames = frames
        self.weight = 0.0
        self.median_ns: float | None = None
        self.p99_ns: float | None = None
        self.skew_ns = 0
        self.base_ns = 0.0

    def holds(self, now: float, frames: int) -> bool:
        """Whether it still describes the window well."""
        return now - self.made_s < _BUCKET_S and (frames - self.frames) * 20 <= self.weight


def _quantile(weighted: list[tuple[float, float]], share: float) -> float:
    """The smallest value whose weight, with that of all below, reaches the share."""
    reached = 0.0
    for value, weight in weighted:
        reached += weight
        if reached >= share:
            return value
    return weighted[-1][0]
