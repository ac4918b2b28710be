"""Holes filled from history: what is asked, what becomes of it, and when it is asked again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from alpaca_nb.clock import ManualClock
from alpaca_nb.data.frame import LiveFrame
from alpaca_nb.errors import RecentDataError, RestError
from alpaca_nb.feed.history import Page
from alpaca_nb.feed.repair import Repair
from alpaca_nb.feed.routes import routes_into
from alpaca_nb.feed.source import Source
from alpaca_nb.wire.codec import format_time
from alpaca_nb.wire.endpoints import ENDPOINTS
from alpaca_nb.wire.messages import Bar, Quote, Trade

SECOND = 1_000_000_000
START_NS = 1_790_000_000 * SECOND


def trade(symbol: str, at_ns: int, trade_id: int) -> Trade[Any]:
    return Trade(symbol=symbol, price=1.0, size=1, trade_id=trade_id, timestamp=format_time(at_ns))


class History:
    """A REST interface that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[str, ...], int, int, str]] = []
        self.rows: list[Any] = []
        self.updates: dict[int, str] = {}
        self.answers: list[Exception | None] = []
        """What happens to the next requests; None for an answer."""

    async def history(
        self, channel: str, symbols: list[str], start_ns: int, end_ns: int, *, feed: str
    ) -> AsyncIterator[Page]:
        self.asked.append((channel, tuple(symbols), start_ns, end_ns, feed))
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer
        yield Page(messages=self.rows, updates=self.updates, unreadable=0, next_token=None)


class Desk:
    """A frame with a loss, a history, and a repair between them."""

    def __init__(self, channel: str = "trades", *symbols: str, feed: str = "iex") -> None:
        self.clock = ManualClock(START_NS)
        self.rest = History()
        self.source: Source | str = Source(self.rest, feed)  # type: ignore[arg-type]
        self.newest_ns = START_NS
        self.speed = 1.0
        self.frame = LiveFrame(channel, symbols or ("AAPL",), clock=self.clock)
        self.route = routes_into(self.frame, ENDPOINTS["iex"])[0]
        self.repair = Repair(
            lambda: self.source,
            SimpleNamespace(  # type: ignore[arg-type]
                exchange_at=lambda local_ns: local_ns,
                now_ns=self.clock.now_ns,
                speed=lambda: self.speed,
                newest_ns=lambda: self.newest_ns,
            ),
            self.clock,
        )

    async def lose(self, seconds: float = 10, *, after: float = 60) -> None:
        """Let a connection be lost for so long, and the repair begin."""
        seams = self.route.seams
        assert seams is not None
        times = {"exchange_at": lambda local_ns: local_ns}
        seams.confirm(self.frame.symbols, now_ns=self.clock.now_ns(), **times)
        await self.clock.advance(after)
        self.newest_ns = self.clock.now_ns()
        seams.lose("Cut.", last_ns=lambda _: self.newest_ns, now_ns=self.clock.now_ns(), **times)
        await self.clock.advance(seconds)
        ended = seams.confirm(self.frame.symbols, now_ns=self.clock.now_ns(), **times)
        self.repair.add(self.route, ended)

    async def run(self, seconds: float) -> None:
        """Let time pass, and frames come that prove the connection."""
        await self.settle()
        assert self.route.seams is not None
        for _ in range(5):
            self.route.seams.came(self.clock.now_ns())
        for _ in range(round(seconds * 2)):
            await self.clock.advance(0.5)
            await self.settle()

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    @property
    def gap(self) -> Any:
        (gap,) = self.frame.gaps.itertuples()
        return gap


@pytest.fixture
async def make_desk() -> AsyncIterator[Callable[..., Desk]]:
    """Make desks whose repairs end with the test."""
    desks: list[Desk] = []

    def make(*arguments: Any, **options: Any) -> Desk:
        desks.append(Desk(*arguments, **options))
        return desks[-1]

    yield make
    for desk in desks:
        await desk.repair.stop()


async def test_a_hole_is_filled(make_desk: Callable[..., Desk]) -> None:
    """The span is asked for by name of the feed, and its rows stand in the frame, marked."""
    desk = make_desk()
    lost_ns = START_NS + 60 * SECOND
    desk.rest.rows = [trade("AAPL", lost_ns + k * SECOND, k) for k in range(1, 4)]
    await desk.lose()
    await desk.run(3)
    ((channel, symbols, start_ns, end_ns, feed),) = desk.rest.asked
    assert (channel, symbols, feed) == ("trades", ("AAPL",), "iex")
    assert start_ns <= lost_ns - 30 * SECOND, "prints are reported late"
    assert end_ns >= lost_ns + 10 * SECOND, "the return is an estimate"
    assert desk.frame.df["source"].tolist() == ["backfill"] * 3
    assert (desk.gap.state, desk.gap.rows, desk.gap.reason) == ("repaired", 3, "Cut.")
    assert not desk.repair.busy


async def test_nothing_from_before_the_frame_is_looked_back_for(
    make_desk: Callable[..., Desk],
) -> None:
    """Looking back for late reports brings nothing that is older than the frame."""
    desk = make_desk()
    first = Trade[int](symbol="AAPL", price=1.0, size=1, trade_id=1, timestamp=START_NS + SECOND)
    desk.frame.extend([first], received_ns=START_NS)
    desk.rest.rows = [trade("AAPL", START_NS - SECOND, 99), trade("AAPL", START_NS + 2 * SECOND, 2)]
    await desk.lose(after=20)
    await desk.run(3)
    assert desk.frame.df["trade_id"].tolist() == [1, 2]


async def test_marks_of_history_are_handed_on(make_desk: Callable[..., Desk]) -> None:
    """Rows out of the span are left out, and the marks stay with their rows."""
    desk = make_desk()
    at_ns = START_NS + 61 * SECOND
    desk.rest.rows = [
        trade("AAPL", START_NS - 10**6 * SECOND, 1),
        trade("AAPL", at_ns, 2),
        trade("AAPL", at_ns + 1, 3),
    ]
    desk.rest.updates = {1: "canceled", 2: "corrected"}
    await desk.lose()
    await desk.run(3)
    assert desk.frame.df[["trade_id", "amended"]].to_numpy().tolist() == [[3, "corrected"]]


async def test_history_that_lags_behind_is_asked_again(make_desk: Callable[..., Desk]) -> None:
    """Rows that the stream brought after the return prove whether history has caught up."""
    desk = make_desk()
    await desk.lose()
    await desk.settle()
    back_ns = desk.clock.now_ns()
    live = Trade[int](symbol="AAPL", price=1.0, size=1, trade_id=5, timestamp=back_ns + SECOND)
    desk.frame.extend([live], received_ns=back_ns)
    desk.newest_ns = back_ns + SECOND
    await desk.run(3)
    assert desk.gap.state == "waiting"
    assert "not caught up" in desk.gap.detail
    desk.rest.rows = [trade("AAPL", back_ns - SECOND, 4), trade("AAPL", back_ns + SECOND, 5)]
    await desk.run(6)
    assert (desk.gap.state, desk.gap.rows) == ("repaired", 1)
    assert len(desk.rest.asked) == 2


async def test_a_history_that_never_catches_up_is_told_of(make_desk: Callable[..., Desk]) -> None:
    """After some tries it is taken as it is, and the record says what it lacks."""
    desk = make_desk()
    await desk.lose()
    await desk.settle()
    back_ns = desk.clock.now_ns()
    live = Trade[int](symbol="AAPL", price=1.0, size=1, trade_id=5, timestamp=back_ns + SECOND)
    desk.frame.extend([live], received_ns=back_ns)
    desk.newest_ns = back_ns + SECOND
    await desk.run(400)
    assert desk.gap.state == "repaired"
    assert "lacks 1 of the rows" in desk.gap.detail


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_a_refusal_for_good_is_a_gap_with_its_reason(
    make_desk: Callable[..., Desk], status: int
) -> None:
    """Asking again would change nothing, so it is not asked again."""
    desk = make_desk()
    desk.rest.answers = [RestError("Expired keys.", status=status)]
    await desk.lose()
    await desk.run(1000)
    assert (desk.gap.state, desk.gap.detail) == ("missed", "Expired keys.")
    assert len(desk.rest.asked) == 1


async def test_trouble_is_waited_out(make_desk: Callable[..., Desk]) -> None:
    """A server in trouble is asked again, later and later, and the record says when."""
    desk = make_desk()
    desk.rest.answers = [RestError("In trouble.", status=503), RestError("Nobody answers.")]
    await desk.lose()
    await desk.run(3)
    assert desk.gap.state == "waiting"
    assert desk.gap.detail == "In trouble. It is asked for again in 5 s."
    await desk.run(5)
    assert desk.gap.detail == "Nobody answers. It is asked for again in 15 s."
    await desk.run(16)
    assert desk.gap.state == "repaired"


async def test_trouble_that_does_not_end_is_given_up(make_desk: Callable[..., Desk]) -> None:
    """After an hour or so the loss is missed, with the last answer as its reason."""
    desk = make_desk()
    desk.rest.answers = [RestError("In trouble.", status=503)] * 100
    await desk.lose()
    for _ in range(20):
        await desk.clock.advance(300)
        await desk.settle()
    assert (desk.gap.state, desk.gap.detail) == ("missed", "In trouble.")
    assert not desk.repair.busy


async def test_recent_data_is_asked_for_when_it_is_old_enough(
    make_desk: Callable[..., Desk],
) -> None:
    """Without the plan for it, data of the consolidated tape can be had after 15 minutes."""
    desk = make_desk(feed="sip")
    desk.rest.answers = [RecentDataError("Not permitted.", status=403)] * 2
    await desk.lose()
    await desk.run(8)
    assert desk.gap.state == "waiting"
    assert "15 minutes old" in desk.gap.detail
    assert "again in 15 min" in desk.gap.detail
    await desk.run(14 * 60)
    assert len(desk.rest.asked) == 2
    await desk.run(2 * 60)
    assert (desk.gap.state, len(desk.rest.asked)) == ("repaired", 3)


async def test_a_delayed_feed_is_old_enough_as_it_comes(make_desk: Callable[..., Desk]) -> None:
    """When only the room around the loss was too fresh, it is asked for without that."""
    desk = make_desk(feed="delayed_sip")
    desk.rest.answers = [RecentDataError("Not permitted.", status=403)]
    await desk.lose()
    await desk.run(8)
    assert desk.gap.state == "repaired"
    first, second = (asked[3] for asked in desk.rest.asked)
    assert first - second > 30 * SECOND
    assert second >= desk.gap.end.value


async def test_what_has_no_history_is_missed(make_desk: Callable[..., Desk]) -> None:
    """Neither a channel without history nor a server without a REST address is asked."""
    desk = make_desk("statuses")
    await desk.lose()
    await desk.run(1)
    assert (desk.gap.state, desk.gap.detail) == ("missed", "Alpaca keeps no history of statuses.")
    desk = make_desk()
    desk.source = "No REST address is known."
    await desk.lose()
    await desk.run(3)
    assert (desk.gap.state, desk.gap.detail) == ("missed", "No REST address is known.")


async def test_only_known_symbols_can_be_asked_for(make_desk: Callable[..., Desk]) -> None:
    """Of all symbols, those that had occurred are repaired; the others stay on record."""
    desk = make_desk("quotes", "*")
    seams = desk.route.seams
    assert seams is not None
    times = {"exchange_at": lambda local_ns: local_ns}
    seams.confirm(["*"], now_ns=START_NS, **times)
    seams.seen(["AAPL"])
    seams.lose("Cut.", last_ns=lambda _: START_NS, now_ns=START_NS + SECOND, **times)
    ended = seams.confirm(["*", *seams.open], now_ns=START_NS + 5 * SECOND, **times)
    desk.repair.add(desk.route, ended)
    await desk.run(3)
    states = dict(zip(desk.frame.gaps["symbol"], desk.frame.gaps["state"], strict=True))
    assert states == {"*": "missed", "AAPL": "repaired"}


async def test_a_bar_is_asked_for_by_its_beginning(make_desk: Callable[..., Desk]) -> None:
    """The bar of the minute in which the connection was lost, and those before it."""
    desk = make_desk("bars")
    minute = START_NS // (60 * SECOND) * 60 * SECOND
    values = {"open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0, "volume": 1}
    desk.rest.rows = [Bar(symbol="AAPL", timestamp=format_time(minute), **values)]
    await desk.lose(120)
    await desk.run(3)
    assert len(desk.frame) == 1
    assert desk.gap.rows == 1


async def test_a_repair_that_is_stopped_stays_open_to_be_resumed(
    make_desk: Callable[..., Desk],
) -> None:
    """Stopping ends the work, not the record: the loss is unsettled and can be added again."""
    desk = make_desk()
    await desk.lose()
    await desk.settle()
    await desk.repair.stop()
    assert desk.gap.state == "waiting"
    assert desk.route.seams is not None
    desk.repair.add(desk.route, desk.route.seams.unsettled)
    await desk.run(3)
    assert desk.gap.state == "repaired"


async def test_a_defect_is_told_in_the_record(make_desk: Callable[..., Desk]) -> None:
    """An error that nobody foresaw ends one repair, not the stream."""
    desk = make_desk()
    desk.rest.answers = [ZeroDivisionError("oops")]
    await desk.lose()
    await desk.run(3)
    assert desk.gap.state == "missed"
    assert "ZeroDivisionError" in desk.gap.detail


async def test_thousands_of_symbols_are_asked_for_by_the_hundred(
    make_desk: Callable[..., Desk],
) -> None:
    """Each request names a hundred, and each symbol has its own record."""
    names = [f"S{number:03}" for number in range(250)]
    desk = make_desk("quotes", *names)
    desk.rest.rows = [
        Quote(
            symbol=name, bid_price=1.0, ask_price=1.1, timestamp=format_time(START_NS + 61 * SECOND)
        )
        for name in names
    ]
    await desk.lose()
    await desk.run(3)
    assert sorted(len(asked[1]) for asked in desk.rest.asked) == [50, 100, 100]
    assert desk.frame.gap_counts.repaired == 250
    assert len(desk.frame) == 250


async def test_nothing_is_owed_beyond_an_unsubscription(make_desk: Callable[..., Desk]) -> None:
    """A loss that ended with the wish is filled up to that moment, and no further."""
    desk = make_desk()
    seams = desk.route.seams
    assert seams is not None
    times = {"exchange_at": lambda local_ns: local_ns}
    seams.confirm(["AAPL"], now_ns=START_NS, **times)
    seams.lose("Cut.", last_ns=lambda _: START_NS, now_ns=START_NS, **times)
    await desk.clock.advance(10)
    left_ns = desk.clock.now_ns()
    desk.repair.add(desk.route, seams.leave(["AAPL"], now_ns=left_ns, **times))
    desk.rest.rows = [trade("AAPL", left_ns - SECOND, 1), trade("AAPL", left_ns + SECOND, 2)]
    await desk.clock.advance(10)
    desk.newest_ns = desk.clock.now_ns()
    await desk.run(8)
    assert desk.frame.df["trade_id"].tolist() == [1]
