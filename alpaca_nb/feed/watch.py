"""Whether what a stream says is still true: how fresh each symbol is, and what the market does.

A connection can be open, answer pings, and carry nothing. Once a second each (channel, symbol)
is judged by its own rhythm and by the trading calendar. A suspicion is checked against the REST
interface, and only a proven miss is a reason to make the connection anew.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable

from alpaca_nb.clock import Clock
from alpaca_nb.data.status import MarketStatus
from alpaca_nb.errors import AlpacaError
from alpaca_nb.feed.calendar import TradingCalendar
from alpaca_nb.feed.exchange import Time
from alpaca_nb.feed.freshness import Pulse, joint_silence
from alpaca_nb.feed.repair import LOOK_BACK_NS
from alpaca_nb.feed.routes import Routes, Slot
from alpaca_nb.feed.source import Source
from alpaca_nb.wire.codec import time_ns
from alpaca_nb.wire.messages import CHANNELS

SWEEP_S = 1.0
WAITING_S = 15.0
"""How long a symbol may be without its first message before it is checked."""
CHECK_EVERY_S = 5.0
"""How often at most the REST interface is asked about a suspicion."""
CLOCK_EVERY_S = 900.0
"""How often the exchange's clock is asked for."""

_CHECKED_AT_ONCE = 50
_CHECKED_CHANNELS = ("quotes", "trades", "bars")
_SECOND_NS = 1_000_000_000


class Watch:
    """Judges the freshness of a stream's symbols; runs on the stream's loop.

    `on_mute` is called with the reason when it is proven that something did not come.
    """

    def __init__(
        self,
        routes: Routes,
        source: Callable[[], Source | str],
        time: Time,
        clock: Clock,
        *,
        is_live: Callable[[], bool],
        is_halted: Callable[[str], bool],
        on_mute: Callable[[str], None],
        on_sweep: Callable[[], None],
        on_server_time: Callable[[int, int, int], None],
        on_exchange_time: Callable[[int], None],
        sweep_s: float = SWEEP_S,
    ) -> None:
        self._routes = routes
        self._source = source
        self._time = time
        self._clock = clock
        self._is_live = is_live
        self._is_halted = is_halted
        self._on_mute = on_mute
        self._on_sweep = on_sweep
        self._on_server_time = on_server_time
        self._on_exchange_time = on_exchange_time
        self._sweep_s = sweep_s
        self.calendar = TradingCalendar()
        self.feed = ""
        self._checked_s = float("-inf")
        self._live_s: float | None = None
        # What REST had of symbols of which nothing has come yet: time stamps by pulse.
        self._elsewhere: dict[Pulse, int] = {}

    @property
    def market(self) -> MarketStatus:
        """What the exchanges are doing; unknown until the calendar is loaded or asked."""
        now_ns = self._time.now_ns()
        return MarketStatus() if now_ns is None else self.calendar.at(now_ns, feed=self.feed)

    def restart(self, speed: float | None) -> None:
        """Count every silence from now on, in the time of a source with this speed."""
        now_s = self._live_s = self._clock.monotonic()
        self._elsewhere.clear()
        for _, _, slot in self._routes.slots():
            slot.pulse.set_speed(speed)
            slot.pulse.restart(now_s)

    async def run(self) -> None:
        """Judge every second, for as long as the connection lives."""
        # Beside the judging: a host that does not answer must not hold it up.
        asking = asyncio.get_running_loop().create_task(self._keep_time(), name="alpaca_nb time")
        try:
            await self._judge()
        finally:
            asking.cancel()

    async def _judge(self) -> None:
        while True:
            await self._clock.sleep(self._sweep_s)
            if not self._is_live():
                continue
            now_s = self._clock.monotonic()
            self._on_sweep()
            silent = self._beat(now_s)
            if silent and now_s - self._checked_s >= min(CHECK_EVERY_S, 5 * self._sweep_s):
                self._checked_s = now_s
                await self._check(silent)

    def _beat(self, now_s: float) -> list[Pulse]:
        """Move every pulse on; returns those whose silence wants to be checked."""
        phase = self.market.phase
        pulses = []
        stale = []
        # On a tape that has told no time yet, nobody knows whether its market is open.
        begun = self._live_s is not None and now_s - self._live_s >= WAITING_S
        nothing_yet = begun and phase in ("open", "unknown")
        for channel, _, slot in self._routes.slots():
            slot.pulse.beat(now_s)
            if channel.name in _CHECKED_CHANNELS and not self._is_halted(slot.pulse.symbol):
                pulses.append(slot.pulse)
                verdict = slot.pulse.verdict(now_s, phase)
                if verdict == "stale" or (verdict == "waiting" and nothing_yet):
                    stale.append(slot.pulse)
        if not stale and phase == "open" and joint_silence(pulses, now_s):
            # No one of them is suspicious, all of them together are.
            return pulses
        return stale

    async def _keep_time(self) -> None:
        while True:
            await self._clock.sleep(self._sweep_s)
            if self._is_live():
                await self._ask_the_time()
                await self._clock.sleep(CLOCK_EVERY_S)

    async def _ask_the_time(self) -> None:
        source = self._source()
        if isinstance(source, str):
            return
        try:
            payload = await source.rest.market_clock()
        except AlpacaError:
            return  # the calendar knows without
        finally:
            if source.rest.server_time is not None:
                self._on_server_time(*source.rest.server_time)
        if self.calendar.note_clock(payload, self._clock.now_ns()):
            self._on_exchange_time(time_ns(payload["timestamp"]))

    async def _check(self, silent: list[Pulse]) -> None:
        source = self._source()
        if isinstance(source, str):
            return  # nothing to check against: it stays a suspicion, and is shown as one
        by_channel: dict[str, list[Pulse]] = defaultdict(list)
        for pulse in sorted(silent, key=lambda each: each.rate, reverse=True)[:_CHECKED_AT_ONCE]:
            by_channel[pulse.channel].append(pulse)
        for channel, pulses in by_channel.items():
            before = {pulse.symbol: pulse.count for pulse in pulses}
            try:
                latest = await source.rest.latest(
                    channel, list(before), feed=source.feed, patient=False
                )
            except AlpacaError:
                continue
            # What REST has may be on its way to us.
            await self._clock.sleep(min(1.0, self._sweep_s))
            self._routes.settle()
            for pulse in pulses:
                message = latest.get(pulse.symbol)
                if message is None or pulse.count != before[pulse.symbol]:
                    continue
                try:
                    missed_ns = self._missed_ns(channel, pulse, time_ns(message.timestamp))
                except ValueError:
                    continue  # a time that is none proves nothing
                if missed_ns > 0:
                    missed_s = missed_ns / _SECOND_NS / (self._time.speed() or 1.0)
                    self._on_mute(
                        f"The connection was open and mute: {pulse.symbol} {pulse.channel} have "
                        f"gone on for {missed_s:.1f} s without reaching us."
                    )
                    return
                pulse.note_verified(self._clock.monotonic())

    def _missed_ns(self, channel: str, pulse: Pulse, latest_ns: int) -> int:
        """For how long the market has gone on without us; 0 if that is not proven."""
        slot = self._routes.tables[CHANNELS[channel].message].slots.get(pulse.symbol)
        if slot is None:
            return 0
        if pulse.last_ns is None:
            # Nothing has come yet: what happened between two looks at REST should have.
            return latest_ns - self._elsewhere.setdefault(pulse, latest_ns)
        known_ns = _newest_ns(slot, pulse, pulse.last_ns)
        for route in slot.routes:
            if route.seams is not None:
                until_ns = route.seams.covered_until(pulse.symbol)
                if until_ns is None:
                    return 0  # a repair is under way that may bring it
                known_ns = max(known_ns, until_ns)
        return max(0, latest_ns - known_ns)


def _newest_ns(slot: Slot, pulse: Pulse, last_ns: int) -> int:
    """The latest time stamp of a symbol that is here.

    The last message to come need not be the latest: trades are reported late. A frame knows;
    without one, what late reports may explain is no proof.
    """
    newest_ns = [
        int(times.max())
        for route in slot.routes
        if route.frame is not None
        and len(times := route.frame.snapshot().of(pulse.symbol)["timestamp"])
    ]
    return max(newest_ns) if newest_ns else last_ns + LOOK_BACK_NS[pulse.channel]
