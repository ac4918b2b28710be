"""Connections that are open and mute: suspected by rhythm, proven by history, else left alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from alpaca_nb.clock import ManualClock
from alpaca_nb.data.frame import LiveFrame
from alpaca_nb.errors import RestError
from alpaca_nb.feed.routes import Route, Routes, routes_into
from alpaca_nb.feed.seams import Seams
from alpaca_nb.feed.source import Source
from alpaca_nb.feed.watch import Watch
from alpaca_nb.wire.codec import format_time, time_ns
from alpaca_nb.wire.endpoints import ENDPOINTS
from alpaca_nb.wire.messages import Quote, find_channel

SECOND = 1_000_000_000
MONDAY_NOON_NS = 1_790_006_400 * SECOND
"""2026-09-21, 12:00 in New York."""


class Rest:
    """A REST interface with a market of its own."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.newest_ns = 0
        self.failure: Exception | None = None
        self.open = True
        self.asked = 0
        self.server_time: Any = None

    async def latest(
        self, channel: str, symbols: list[str], *, feed: str, patient: bool
    ) -> dict[str, Any]:
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        time = format_time(self.newest_ns)
        return {
            each: Quote(symbol=each, bid_price=1.0, ask_price=1.1, timestamp=time)
            for each in symbols
        }

    async def market_clock(self) -> dict[str, Any]:
        if self.failure is not None:
            raise self.failure
        soon = format_time(self._clock.now_ns() + 3600 * SECOND)
        later = format_time(self._clock.now_ns() + 7200 * SECOND)
        opens, closes = (later, soon) if self.open else (soon, later)
        return {
            "timestamp": format_time(self._clock.now_ns()),
            "is_open": self.open,
            "next_open": opens,
            "next_close": closes,
        }


class Desk:
    """A stream's routes with a watch over them."""

    def __init__(self) -> None:
        self.clock = ManualClock(MONDAY_NOON_NS)
        self.rest = Rest(self.clock)
        self.source: Source | str = Source(self.rest, "iex")  # type: ignore[arg-type]
        self.routes = Routes()
        self.mute: list[str] = []
        self.live = True
        self.halted: set[str] = set()
        self.told_ns: list[int] = []
        self.watch = Watch(
            self.routes,
            lambda: self.source,
            SimpleNamespace(  # type: ignore[arg-type]
                exchange_at=lambda local_ns: local_ns,
                now_ns=self.clock.now_ns,
                speed=lambda: 1.0,
                newest_ns=lambda: None,
            ),
            self.clock,
            is_live=lambda: self.live,
            is_halted=self.halted.__contains__,
            on_mute=self.mute.append,
            on_sweep=lambda: None,
            on_server_time=lambda *_: None,
            on_exchange_time=self.told_ns.append,
        )
        self.watch.restart(None)
        self.task = asyncio.get_running_loop().create_task(self.watch.run())

    def frame(self, *symbols: str) -> LiveFrame:
        frame = LiveFrame("quotes", symbols, clock=self.clock)
        for route in routes_into(frame, ENDPOINTS["iex"]):
            self.routes.add(route, symbols)
        return frame

    async def trade(self, seconds: int, *symbols: str, a_second: int = 5) -> None:
        """Let quotes arrive regularly for so long."""
        for _ in range(seconds * a_second):
            await self.clock.advance(1 / a_second)
            for symbol in symbols:
                self.arrive(symbol, self.clock.now_ns())
            await self.settle()

    def arrive(self, symbol: str, at_ns: int) -> None:
        quote = Quote[int](symbol=symbol, bid_price=1.0, ask_price=1.1, timestamp=at_ns)
        table = self.routes.tables[Quote]
        slot = table.slot(symbol)
        assert slot is not None
        slot.pulse.count += 1
        slot.pulse.last_ns, slot.pulse.received_ns = time_ns(quote.timestamp), self.clock.now_ns()
        for route in slot.routes:
            route.deliver([quote], self.clock.now_ns(), "live")
        self.rest.newest_ns = max(self.rest.newest_ns, at_ns)

    async def silence(self, seconds: int, *, elsewhere: bool) -> None:
        """Let nothing arrive for so long, while the market goes on, or does not."""
        for _ in range(seconds * 2):
            await self.clock.advance(0.5)
            if elsewhere:
                self.rest.newest_ns = self.clock.now_ns() - SECOND // 10
            await self.settle()

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)


@pytest.fixture
async def make_desk() -> AsyncIterator[Callable[[], Desk]]:
    """Make desks whose watch ends with the test."""
    desks: list[Desk] = []

    def make() -> Desk:
        desks.append(Desk())
        return desks[-1]

    yield make
    for desk in desks:
        desk.task.cancel()
        await asyncio.gather(desk.task, return_exceptions=True)


async def test_a_mute_connection_is_proven(make_desk: Callable[[], Desk]) -> None:
    """When a busy symbol goes silent and history goes on, the reason says what was missed."""
    desk = make_desk()
    desk.frame("AAPL")
    await desk.trade(60, "AAPL")
    assert desk.rest.asked == 0
    await desk.silence(25, elsewhere=True)
    assert desk.mute
    assert "AAPL quotes have gone on" in desk.mute[0]


async def test_a_silence_that_history_shares_is_none(make_desk: Callable[[], Desk]) -> None:
    """A symbol that is silent everywhere is quiet, and not asked about every second."""
    desk = make_desk()
    desk.frame("AAPL")
    await desk.trade(60, "AAPL")
    await desk.silence(120, elsewhere=False)
    assert desk.mute == []
    assert 0 < desk.rest.asked < 12


async def test_without_history_it_stays_a_suspicion(make_desk: Callable[[], Desk]) -> None:
    """Nothing is proven by a REST interface that fails, or is not there."""
    desk = make_desk()
    desk.frame("AAPL")
    await desk.trade(60, "AAPL")
    desk.rest.failure = RestError("Nobody answers.")
    await desk.silence(30, elsewhere=True)
    desk.source = "No REST address is known."
    await desk.silence(30, elsewhere=True)
    assert desk.mute == []
    (pulse,) = [slot.pulse for channel, _, slot in desk.routes.slots() if channel.name == "quotes"]
    assert pulse.verdict(desk.clock.monotonic(), "open") == "stale"


async def test_a_closed_market_is_silent_by_right(make_desk: Callable[[], Desk]) -> None:
    """When the exchange's clock says closed, nobody asks."""
    desk = make_desk()
    desk.rest.open = False
    desk.frame("AAPL")
    await desk.trade(60, "AAPL")
    await desk.silence(60, elsewhere=True)
    assert (desk.mute, desk.rest.asked) == ([], 0)
    assert desk.watch.market.phase != "open"


async def test_a_halted_symbol_is_silent_by_right(make_desk: Callable[[], Desk]) -> None:
    """A halt explains a silence."""
    desk = make_desk()
    desk.frame("GME")
    await desk.trade(60, "GME")
    desk.halted.add("GME")
    await desk.silence(60, elsewhere=True)
    assert desk.rest.asked == 0


async def test_a_connection_that_is_not_up_is_not_judged(make_desk: Callable[[], Desk]) -> None:
    """While it waits for its place or is being made again, silence says nothing."""
    desk = make_desk()
    desk.frame("AAPL")
    await desk.trade(60, "AAPL")
    desk.live = False
    await desk.silence(60, elsewhere=True)
    assert (desk.mute, desk.rest.asked) == ([], 0)


async def test_a_late_report_is_no_proof(make_desk: Callable[[], Desk]) -> None:
    """The last to arrive may be an old one: what is in the frame counts, whatever its order."""
    desk = make_desk()
    desk.frame("AAPL")
    await desk.trade(60, "AAPL")
    newest_ns = desk.clock.now_ns()
    desk.arrive("AAPL", newest_ns - 20 * SECOND)
    desk.rest.newest_ns = newest_ns
    await desk.silence(30, elsewhere=False)
    assert desk.rest.asked > 0
    assert desk.mute == []


async def test_without_a_frame_a_late_report_may_explain_it(make_desk: Callable[[], Desk]) -> None:
    """Where only handlers listen, it takes more than a little to prove a miss, and then it does."""
    desk = make_desk()
    channel = find_channel("quotes")
    route = Route(channel, lambda *_: None, {"AAPL": None}, seams=Seams("quotes", lambda _: None))
    desk.routes.add(route, ["AAPL"])
    await desk.trade(60, "AAPL")
    desk.rest.newest_ns = desk.clock.now_ns() + SECOND // 2
    await desk.silence(20, elsewhere=False)
    assert desk.mute == []
    await desk.silence(60, elsewhere=True)
    assert desk.mute


async def test_what_is_being_repaired_is_not_missed(make_desk: Callable[[], Desk]) -> None:
    """While a hole is being filled, and up to where it was, history proves nothing."""
    desk = make_desk()
    frame = desk.frame("AAPL")
    await desk.trade(60, "AAPL")
    (route,) = [each for each in desk.routes if each.frame is frame and each.seams is not None]
    assert route.seams is not None
    times = {"exchange_at": lambda local_ns: local_ns}
    last_ns = desk.clock.now_ns()
    route.seams.confirm(["AAPL"], now_ns=last_ns, **times)
    route.seams.lose("Cut.", last_ns=lambda _: last_ns, now_ns=last_ns, **times)
    await desk.clock.advance(5)
    (gap,) = route.seams.confirm(["AAPL"], now_ns=desk.clock.now_ns(), **times)
    await desk.silence(30, elsewhere=True)
    assert desk.mute == []
    until_ns = desk.rest.newest_ns
    route.seams.cover("AAPL", until_ns)
    route.seams.change([gap], state="repaired")
    await desk.silence(60, elsewhere=False)
    assert desk.mute == []
    await desk.silence(60, elsewhere=True)
    assert desk.mute


async def test_a_symbol_that_never_began_is_proven_by_two_looks(
    make_desk: Callable[[], Desk],
) -> None:
    """Where nothing has ever come, what happens between two looks at history should have."""
    desk = make_desk()
    desk.frame("AAPL")
    desk.rest.newest_ns = desk.clock.now_ns()
    await desk.silence(40, elsewhere=False)
    assert desk.rest.asked >= 2
    assert desk.mute == []
    await desk.silence(20, elsewhere=True)
    assert desk.mute


async def test_a_clock_that_does_not_answer_holds_up_nothing(
    make_desk: Callable[[], Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection is judged while the exchange's clock is being asked."""

    async def never() -> Any:
        await asyncio.get_running_loop().create_future()

    desk = make_desk()
    monkeypatch.setattr(desk.rest, "market_clock", never)
    desk.watch.calendar.note_clock(
        {
            "timestamp": format_time(desk.clock.now_ns()),
            "is_open": True,
            "next_open": format_time(desk.clock.now_ns() + 7200 * SECOND),
            "next_close": format_time(desk.clock.now_ns() + 3600 * SECOND),
        },
        desk.clock.now_ns(),
    )
    desk.frame("AAPL")
    await desk.trade(60, "AAPL")
    await desk.silence(25, elsewhere=True)
    assert desk.mute


async def test_the_exchanges_clock_is_told(make_desk: Callable[[], Desk]) -> None:
    """Its time is handed on, and asked for again only now and then."""
    desk = make_desk()
    await desk.silence(60, elsewhere=False)
    assert len(desk.told_ns) == 1
    assert desk.told_ns[0] < desk.clock.now_ns()
