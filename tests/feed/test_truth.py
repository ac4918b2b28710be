"""What a user of the guide's client is told: losses, refusals, wrong clocks, slow handlers."""

from __future__ import annotations

import asyncio
import importlib
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from waiting import until

import alpaca_nb as anb
from alpaca_nb.clock import SYSTEM_CLOCK
from alpaca_nb.data.gaps import Gap
from alpaca_nb.errors import AuthenticationError, BadInputError, PlanError
from alpaca_nb.testing import Cut, Mute, Plan, RefuseRest, SendError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def client(simulator: anb.LocalSimulator, feed: str = "iex", **options: Any) -> anb.StreamClient:
    stream = anb.StreamClient(
        feed, api_key="k", api_secret="s", url=f"{simulator.url}/v2/{feed}", **options
    )
    stream.reconnect_delay = 0.1
    return stream


def test_on_gap_hears_what_becomes_of_a_loss() -> None:
    """It is called when data is lost, when it comes again, and when the hole is filled."""
    heard: list[Gap] = []
    with anb.LocalSimulator(speed=10, symbols=["AAPL"]) as simulator:
        stream = client(simulator, on_gap=heard.append)
        frame = stream.frame("quotes", "AAPL")
        with stream:
            frame.wait(50)
            simulator.faults.add(Cut(mid_frame=True), at="now")
            until(lambda: any(gap.state == "repaired" for gap in heard))
            assert [gap.state for gap in heard][:2] == ["open", "repairing"]
            assert len({gap.number for gap in heard}) == 1
            assert stream.gaps["state"].tolist() == ["repaired"]
            assert stream.gaps["channel"].tolist() == ["quotes"]
            assert frame.stats.backfilled == heard[-1].rows
            assert stream.status.gaps.repaired == frame.status.gaps.repaired == 1
            truth = simulator.truth("quotes", ["AAPL"])
            held = set(frame.df.index.asi8.tolist())
            newest = max(held)
            assert {each.timestamp for each in truth if each.timestamp <= newest} == held


def test_what_handlers_missed_is_on_record() -> None:
    """A handler gets nothing late; that it missed something is told all the same."""
    seen: list[Any] = []
    with anb.LocalSimulator(speed=10, symbols=["AAPL"]) as simulator:
        stream = client(simulator)
        stream.subscribe_quotes("AAPL", seen.append)
        with stream:
            until(lambda: seen)
            simulator.faults.add(Cut(), at="now")
            until(lambda: stream.gaps["state"].tolist() == ["missed"])
            assert "Only handlers listened" in stream.gaps["detail"].iloc[0]
            assert stream.status.gaps.missed == 1


def test_a_mute_connection_is_made_anew() -> None:
    """Open, answering pings, and silent: it is noticed, proven by REST, and repaired."""
    with anb.LocalSimulator(speed=5, symbols=["AAPL", "MSFT"], rate=3) as simulator:
        stream = client(simulator)
        frame = stream.frame("quotes", ["AAPL", "MSFT"])
        with stream:
            frame.wait(500, timeout=30)
            simulator.faults.add(Mute(), at="now")
            until(lambda: stream.status.reconnects == 1, timeout_s=60)
            until(lambda: frame.gap_counts.repaired == 2, timeout_s=30)
            assert any("open and mute" in str(error) for error in stream.errors)


def test_expired_keys_end_the_stream() -> None:
    """Keys that were good and are refused at a reconnect are said so, and not tried again."""
    with anb.LocalSimulator(symbols=["AAPL"]) as simulator:
        stream = client(simulator)
        frame = stream.frame("quotes", "AAPL")
        with stream:
            frame.wait(5)
            simulator.faults.add(SendError(402), at="auth")
            simulator.faults.add(Cut(), at="now")
            until(lambda: stream.status.state == "failed")
            assert isinstance(stream.failure, AuthenticationError)
            assert "check the API key" in stream.status.detail
            assert frame.gaps["state"].tolist() == ["open"]
            # Mended, it goes on where it was.
            stream.connect()
            until(lambda: frame.gap_counts.repaired == 1)


def test_a_plan_without_the_feed_is_raised() -> None:
    """The error names the feed that is free."""
    with (
        anb.LocalSimulator(plan=Plan.basic()) as simulator,
        pytest.raises(PlanError, match="feed='iex' is free"),
    ):
        client(simulator, "sip").connect()


def test_symbols_beyond_the_plan_are_refused_one_by_one() -> None:
    """Of a hundred symbols on a plan of thirty, thirty come, and seventy say why not."""
    names = [f"S{number:02}" for number in range(100)]
    with anb.LocalSimulator(plan=Plan.basic(), symbols=names, rate=0.1) as simulator:
        stream = client(simulator)
        frame = stream.frame("quotes", names)
        with stream:
            until(lambda: len(stream.refused) == 70)
            assert len(stream.confirmed["quotes"]) == 30
            assert {error.code for error in stream.refused.values()} == {405}
            # Places that are given up go to those who wait for one.
            stream.set_symbols(frame, names[5:])
            until(lambda: stream.confirmed["quotes"] == frozenset(names[5:35]))
            assert len(stream.refused) == 65
            refused = [each for each in stream.status.symbols if each.subscription == "refused"]
            assert all("symbol limit" in each.reason for each in refused)


def test_a_refused_repair_says_why() -> None:
    """What REST refuses stays a gap with the reason, and rows go on coming."""
    with anb.LocalSimulator(speed=10, symbols=["AAPL"]) as simulator:
        stream = client(simulator)
        frame = stream.frame("trades", "AAPL")
        with stream:
            frame.wait(20)
            simulator.faults.add(RefuseRest(401), at="rest", times=None)
            simulator.faults.add(Cut(), at="now")
            until(lambda: frame.gap_counts.missed == 1)
            assert "HTTP 401" in frame.gaps["detail"].iloc[0]
            frame.wait(frame.position + 20)


class _HourAhead:
    """A clock that somebody set wrong."""

    def now_ns(self) -> int:
        return SYSTEM_CLOCK.now_ns() + 3600 * 10**9

    def monotonic(self) -> float:
        return SYSTEM_CLOCK.monotonic()

    async def sleep(self, delay_s: float) -> None:
        await SYSTEM_CLOCK.sleep(delay_s)


async def test_a_clock_that_is_an_hour_ahead_bounds_no_hole_wrongly() -> None:
    """Losses are bounded in the exchange's time, so a wrong clock fills them all the same."""
    from healing import CHANNELS, SYMBOLS

    from alpaca_nb.credentials import Credentials, Secret
    from alpaca_nb.data.frame import LiveFrame
    from alpaca_nb.feed.retry import ReconnectPolicy
    from alpaca_nb.feed.routes import routes_into
    from alpaca_nb.feed.stream import Stream
    from alpaca_nb.wire.endpoints import ENDPOINTS

    with anb.LocalSimulator(speed=10, symbols=SYMBOLS) as simulator:
        stream = Stream(
            ENDPOINTS["iex"],
            Credentials(Secret("k"), Secret("s")),
            url=simulator.url + "/v2/iex",
            policy=ReconnectPolicy(delay_s=0.1),
            clock=_HourAhead(),
        )
        frames = [LiveFrame(channel, SYMBOLS) for channel in CHANNELS]
        for frame in frames:
            for route in routes_into(frame, ENDPOINTS["iex"]):
                stream.add(route)
        await stream.start()
        while frames[0].position < 100:
            await asyncio.sleep(0.05)
        simulator.faults.add(Cut(), at="now")
        while any(frame.gap_counts.repaired < len(SYMBOLS) for frame in frames):
            await asyncio.sleep(0.05)
        newest_ns = max(frames[0].df.index.asi8)
        held = set(frames[0].df.index.asi8.tolist())
        truth = simulator.truth("quotes", SYMBOLS)
        assert {each.timestamp for each in truth if each.timestamp <= newest_ns - 10**9} <= held
        await stream.stop()


# -- handlers ----------------------------------------------------------------------------


def test_a_blocking_handler_drops_nothing() -> None:
    """With the policy "block" the reader waits for the handler, and each message is seen."""
    seen: list[Any] = []
    with anb.LocalSimulator(speed=30, symbols=["AAPL"], minutes=1) as simulator:
        stream = client(simulator, handler_policy="block", handler_limit=20)
        frame = stream.frame("quotes", "AAPL")

        def slowly(quote: Any) -> None:
            time.sleep(0.001)
            seen.append(quote)

        stream.subscribe_quotes("AAPL", slowly)
        with stream:
            until(lambda: len(seen) == len(simulator.truth("quotes", ["AAPL"])) > 300)
            assert stream.handler_counts.dropped == stream.dropped == 0
            assert len(seen) == frame.position


def test_a_latest_handler_sees_the_newest() -> None:
    """With the policy "latest" nothing a handler gets is old, and what it skipped is counted."""
    gate, seen = threading.Event(), list[Any]()
    with anb.LocalSimulator(speed=30, symbols=["AAPL", "MSFT"], minutes=1) as simulator:
        stream = client(simulator)
        frame = stream.frame("quotes", ["AAPL", "MSFT"])

        def slowly(quote: Any) -> None:
            gate.wait(10)
            seen.append(quote)

        stream.subscribe_quotes(["AAPL", "MSFT"], slowly, policy="latest")
        with stream:
            until(lambda: frame.position > 400)
            gate.set()
            until(lambda: stream.handler_counts.waiting == 0)
            counts = stream.handler_counts
            assert counts.pushed == counts.handled + counts.dropped
            assert counts.dropped > 0
            assert stream.status.dropped == counts.dropped


def test_a_handler_has_one_policy() -> None:
    """Subscribing more symbols with another policy is refused, in words."""
    with anb.LocalSimulator() as simulator:
        stream = client(simulator)
        handler = list[Any]().append
        stream.subscribe_quotes("AAPL", handler)
        stream.subscribe_quotes("MSFT", handler)
        with pytest.raises(BadInputError, match="another policy"):
            stream.subscribe("quotes", "TSLA", handler, policy="block")
        with pytest.raises(BadInputError, match="There is no policy"):
            stream.subscribe("quotes", "TSLA", handler, policy="drop")  # type: ignore[arg-type]


def test_a_storm_of_subscriptions_ends_as_it_was_wished(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads and handlers change wishes at random, and in the end the server has followed."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    outcome = importlib.import_module("subscriptions").storm(symbols=400, threads=8, seconds=3)
    assert outcome.differs == {}
    assert outcome.changes > 100
    assert outcome.from_handlers > 0
