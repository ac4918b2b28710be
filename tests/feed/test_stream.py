"""The life of a connection, with a hand-moved clock and a server in the same loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from alpaca_nb.clock import ManualClock
from alpaca_nb.data.frame import LiveFrame
from alpaca_nb.errors import (
    AuthenticationError,
    BadInputError,
    ConnectError,
    ConnectionLimitError,
    ConnectionLostError,
    PlanError,
    StreamError,
)
from alpaca_nb.feed.retry import ReconnectPolicy
from alpaca_nb.feed.routes import Route, routes_into
from alpaca_nb.feed.seams import Seams
from alpaca_nb.feed.stream import Stream, stream_url
from alpaca_nb.wire.endpoints import ENDPOINTS
from alpaca_nb.wire.messages import (
    Bar,
    CancelError,
    Correction,
    PriceBand,
    Quote,
    Status,
    Trade,
    find_channel,
)

Make = Callable[..., Stream]


def quote(symbol: str, price: float = 1.0, timestamp: int = 0) -> Quote[int]:
    return Quote[int](symbol=symbol, bid_price=price, ask_price=price + 1, timestamp=timestamp)


class Sink:
    """A consumer that keeps what it gets."""

    def __init__(self, channel: str, *symbols: str) -> None:
        self.messages: list[Any] = []
        self.origins: set[str] = set()
        self.route = Route(find_channel(channel), self.take, dict.fromkeys(symbols))

    def take(self, messages: list[Any], received_ns: int, origin: str) -> None:
        self.messages += messages
        self.origins.add(origin)

    @property
    def symbols(self) -> list[str]:
        return [message.symbol for message in self.messages]


async def test_start_returns_once_authenticated(make_stream: Make, server: Any) -> None:
    """After start the stream is live, and it asked for MessagePack without showing its keys."""
    stream = make_stream()
    await stream.start()
    assert stream.status.state == "live"
    assert stream.authenticated
    ((_, headers),) = server.asked
    assert headers == {"Content-Type": "application/msgpack"}
    assert "IN-TESTS" not in repr(stream)
    await stream.stop()
    assert stream.status.state == "stopped"
    assert server.last.said_goodbye


async def test_header_authentication_puts_keys_into_the_handshake(
    make_stream: Make, server: Any
) -> None:
    """With header_auth the keys travel in the handshake."""
    stream = make_stream(header_auth=True, codec="json")
    life = asyncio.ensure_future(stream.start())
    await asyncio.sleep(0.01)
    ((_, headers),) = server.asked
    assert headers["APCA-API-KEY-ID"] == "KEY-IN-TESTS"
    assert headers["Content-Type"] == "application/json"
    await stream.stop()
    with pytest.raises(StreamError):
        await life


async def test_messages_go_where_they_are_wanted(
    make_stream: Make, server: Any, settle: Any
) -> None:
    """Each consumer gets its channel and symbols once, '*' gets all, late data goes nowhere."""
    stream = make_stream()
    apple, everything = Sink("quotes", "AAPL"), Sink("quotes", "*")
    both, trades = Sink("quotes", "AAPL", "*"), Sink("trades", "MSFT")
    for sink in (apple, everything, both, trades):
        stream.add(sink.route)
    await stream.start()
    await settle()
    trade = Trade[int](symbol="MSFT", price=1.0, size=1, timestamp=0)
    server.last.send_data(quote("AAPL"), quote("TSLA"), trade)
    await settle()
    assert apple.symbols == ["AAPL"]
    assert everything.symbols == both.symbols == ["AAPL", "TSLA"]
    assert trades.symbols == ["MSFT"]
    stream.remove(trades.route)
    server.last.send_data(trade)
    await settle()
    assert trades.symbols == ["MSFT"]
    assert server.last.protocol.subscriptions["trades"] == set()
    await stream.stop()


async def test_subscriptions_are_counted_across_consumers(
    make_stream: Make, server: Any, settle: Any
) -> None:
    """A symbol stays subscribed while anybody wants it."""
    stream = make_stream()
    first, second = Sink("quotes", "AAPL", "MSFT"), Sink("quotes", "AAPL")
    stream.add(first.route)
    stream.add(second.route)
    await stream.start()
    await settle()
    stream.remove(first.route)
    await settle()
    assert server.last.protocol.subscriptions["quotes"] == {"AAPL"}
    assert stream.confirmed["quotes"] == {"AAPL"}
    await stream.stop()


async def test_an_unreachable_server_raises_at_once(make_stream: Make, server: Any) -> None:
    """The first connection is not retried: the caller hears what is wrong."""
    server.refusals = [ConnectError("Nobody answers.", url="ws://test.invalid")]
    stream = make_stream()
    with pytest.raises(ConnectError, match="Nobody answers"):
        await stream.start()
    assert stream.status.state == "failed"
    assert "Nobody answers" in stream.status.detail
    assert len(server.asked) == 1
    await stream.start()
    assert stream.status.state == "live"
    await stream.stop()


@pytest.mark.parametrize(("code", "kind"), [(402, AuthenticationError), (409, PlanError)])
async def test_refused_keys_are_raised_and_not_retried(
    make_stream: Make, server: Any, code: int, kind: type[Exception]
) -> None:
    """Wrong keys and the wrong plan end the attempt with their own exception."""
    server.auth_answers = [code]
    stream = make_stream()
    with pytest.raises(kind, match=str(code)):
        await stream.start()
    assert stream.status.state == "failed"
    assert len(server.connections) == 1


async def test_a_taken_place_is_waited_for_on_the_same_connection(
    make_stream: Make, server: Any, clock: ManualClock, settle: Any
) -> None:
    """After 406 the credentials are sent again, slowly, with a countdown to be seen."""
    server.auth_answers = [406, 406, None]
    stream = make_stream()
    starting = asyncio.ensure_future(stream.start())
    await settle()
    assert stream.status.state == "waiting"
    assert "holds the only place" in stream.status.detail
    assert stream.status.waits_s == 120
    await clock.advance(0.5)
    assert stream.status.waits_s == 119.5
    await settle()
    assert stream.status.state == "waiting"
    await clock.advance(0.9)
    await settle()
    assert not starting.done()
    await clock.advance(0.1)
    await starting
    assert len(server.connections) == 1
    assert stream.status.detail == ""
    assert stream.status.waits_s is None
    await stream.stop()


async def test_patience_ends_after_two_minutes(
    make_stream: Make, server: Any, clock: ManualClock, settle: Any
) -> None:
    """A place that never frees is raised as what it is, after 120 s and few attempts."""
    server.auth_answers = [406] * 1000
    stream = make_stream()
    starting = asyncio.ensure_future(stream.start())
    for _ in range(121):
        await settle()
        await clock.advance(1)
    with pytest.raises(ConnectionLimitError):
        await starting
    assert 20 < 1000 - len(server.auth_answers) < 50


async def test_throttling_at_the_handshake_is_waited_out(
    make_stream: Make, server: Any, clock: ManualClock, settle: Any
) -> None:
    """HTTP 429 is no failure but a request to slow down."""
    throttled = ConnectError("Too many.", url="ws://test.invalid", status=429)
    server.refusals = [throttled, throttled]
    stream = make_stream()
    starting = asyncio.ensure_future(stream.start())
    await settle()
    assert stream.status.state == "waiting"
    await clock.advance(0.5)
    await settle()
    await clock.advance(1.0)
    await starting
    assert len(server.asked) == 3
    await stream.stop()


async def test_a_lost_connection_is_made_again_and_resubscribed(
    make_stream: Make, server: Any, clock: ManualClock, settle: Any
) -> None:
    """After a loss everything wanted is subscribed again and data goes on."""
    stream = make_stream()
    sink = Sink("quotes", "AAPL")
    stream.add(sink.route)
    await stream.start()
    await settle()
    server.last.send_data(quote("AAPL", 1))
    await settle()
    server.last.drop()
    await settle()
    assert stream.status.state == "reconnecting"
    assert "Trying again in 1.0 s" in stream.status.detail
    await clock.advance(1)
    await settle()
    assert stream.status.state == "live"
    assert stream.status.reconnects == 1
    assert stream.reconnect_attempts == 1
    server.last.send_data(quote("AAPL", 2))
    await settle()
    assert [message.bid_price for message in sink.messages] == [1, 2]
    assert stream.reconnect_attempts == 0
    await stream.stop()


async def test_a_loss_is_noted_in_the_frames(
    make_stream: Make, server: Any, clock: ManualClock, settle: Any
) -> None:
    """A frame knows from when to when its symbols were not received, and why."""
    stream = make_stream()
    frame = LiveFrame("quotes", "AAPL", clock=clock)
    seams = Seams("quotes", frame.put_gaps)
    stream.add(Route(find_channel("quotes"), lambda *_: None, {"AAPL": None}, frame, seams))
    await stream.start()
    await settle()
    await clock.advance(5)
    last_ns = clock.now_ns()
    server.last.send_data(quote("AAPL", timestamp=last_ns))
    await settle()
    await clock.advance(3)
    assert frame.gaps.empty
    server.refusals = [ConnectError("Nobody answers.", url="ws://test.invalid")]
    server.last.drop()
    await settle()
    assert frame.gaps["state"].tolist() == ["open"]
    await clock.advance(1)
    await settle()
    await clock.advance(2)
    await settle()
    (gap,) = frame.gaps.itertuples()
    assert gap.start.value == last_ns
    assert gap.end.value == clock.now_ns() == last_ns + 6_000_000_000
    assert "without a goodbye" in gap.reason
    await stream.stop()


async def test_reconnects_end_when_they_are_used_up(
    make_stream: Make, server: Any, clock: ManualClock, settle: Any
) -> None:
    """Only data resets the count; when the attempts are gone the stream says so and rests."""
    stream = make_stream()
    await stream.start()
    for delay_s in (1, 2, 4):
        server.last.drop(1006)
        await settle()
        assert f"{delay_s:.1f} s" in stream.status.detail
        await clock.advance(delay_s)
        await settle()
        assert stream.status.state == "live"
    server.last.drop(1006)
    await settle()
    assert stream.status.state == "failed"
    assert stream.reconnect_attempts == 3
    assert isinstance(stream.errors[-1], ConnectionLostError)
    assert "connect()" in stream.status.detail
    await stream.start()
    assert stream.status.state == "live"
    assert stream.reconnect_attempts == 0
    await stream.stop()


async def test_slow_client_and_garbage_reconnect(
    make_stream: Make, server: Any, clock: ManualClock, settle: Any
) -> None:
    """407 and a frame that is no message both lead to a new connection."""
    stream = make_stream()
    await stream.start()
    server.last.fail(407)
    await settle()
    assert "407" in stream.status.detail
    await clock.advance(1)
    await settle()
    server.last.send_frame(b"<html>")
    await settle()
    assert stream.status.state == "reconnecting"
    await clock.advance(2)
    await settle()
    assert stream.status.state == "live"
    await stream.stop()


async def test_unknown_messages_are_counted_and_harm_nothing(
    make_stream: Make, server: Any, settle: Any
) -> None:
    """What cannot be read is counted in the status."""
    stream = make_stream(codec="json")
    await stream.start()
    server.last.send_frame(b'[{"T":"zz"},{"T":"t"}]')
    await settle()
    assert stream.status.unreadable == 2
    assert stream.status.state == "live"
    await stream.stop()


async def test_refused_symbols_are_known_and_the_rest_flows(
    make_stream: Make, server: Any, settle: Any
) -> None:
    """A plan's symbol limit costs the new symbols only."""
    server.limit = 1
    stream = make_stream()
    first, second = Sink("quotes", "AAPL"), Sink("quotes", "MSFT")
    stream.add(first.route)
    await stream.start()
    await settle()
    stream.add(second.route)
    await settle()
    assert stream.refused[("quotes", "MSFT")].code == 405
    assert stream.confirmed["quotes"] == {"AAPL"}
    assert stream.status.state == "live"
    await stream.stop()


async def test_a_simulator_says_what_it_is(
    make_stream: Make, server: Any, clock: ManualClock, settle: Any
) -> None:
    """The origin reaches the status and the consumers; lag is measured on the tape's time."""
    server.headers = {"Alpaca-Nb-Simulator": "origin=simulated; speed=2"}
    stream = make_stream()
    sink = Sink("quotes", "AAPL")
    stream.add(sink.route)
    await stream.start()
    await settle()
    server.last.send_data(quote("AAPL", timestamp=0))
    await settle()
    await clock.advance(1.25)
    server.last.send_data(quote("AAPL", timestamp=2_000_000_000))
    await settle()
    assert sink.origins == {"simulated"}
    assert stream.status.origin == "simulated"
    assert stream.status.lag_now_s == pytest.approx(0.25)
    await stream.stop()


async def test_live_lag_is_arrival_minus_exchange_time(
    make_stream: Make, server: Any, clock: ManualClock, settle: Any
) -> None:
    """Quotes and trades tell the lag; a bar's left edge does not."""
    stream = make_stream()
    stream.add(Sink("quotes", "AAPL").route)
    stream.add(Sink("bars", "AAPL").route)
    await stream.start()
    await settle()
    values = {"open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0, "volume": 1}
    bar = Bar[int](symbol="AAPL", timestamp=clock.now_ns() - 60 * 10**9, **values)
    server.last.send_data(bar)
    await settle()
    assert stream.status.lag_s is None
    server.last.send_data(quote("AAPL", timestamp=clock.now_ns() - 250_000_000))
    await settle()
    assert stream.status.lag_s == pytest.approx(0.25)
    assert stream.status.received == 2
    assert stream.status.last_received_ns == clock.now_ns()
    await stream.stop()


async def test_stop_is_legal_at_any_time(make_stream: Make, server: Any, settle: Any) -> None:
    """Stopping before, during and after a connection ends quietly."""
    stream = make_stream()
    await stream.stop()
    server.auth_answers = [406]
    starting = asyncio.ensure_future(stream.start())
    await settle()
    await stream.stop()
    with pytest.raises(StreamError):
        await starting
    assert stream.status.state == "stopped"
    await stream.start()
    await stream.stop()
    await stream.stop()


async def test_an_internal_error_is_seen(make_stream: Make, server: Any, settle: Any) -> None:
    """A defect on the stream's loop does not vanish in a task."""
    stream = make_stream()
    server.refusals = [RuntimeError("a defect")]
    with pytest.raises(StreamError, match="a defect"):
        await stream.start()
    assert stream.status.state == "failed"


async def test_a_defect_in_the_clearing_up_is_seen(
    make_stream: Make, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even then does anybody wait for ever for the stream to start."""
    stream = make_stream()
    server.refusals = [ConnectError("nobody is there", url="")]

    def fail(reason: str) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(stream._coverage, "lost", fail)
    with pytest.raises(StreamError, match="a defect"):
        await asyncio.wait_for(stream.start(), 5)
    assert stream.status.state == "failed"


async def test_a_goodbye_that_repeats_the_keys(make_stream: Make, server: Any, settle: Any) -> None:
    """What a server says when it closes is told without them."""
    stream = make_stream()
    await stream.start()
    server.last.drop(1008, "SECRET-IN-TESTS is stale")
    await settle()
    assert "(Secret(…) is stale)" in stream.status.detail
    await stream.stop()


async def test_stopped_before_it_began(make_stream: Make) -> None:
    """A stop in the same turn of the loop ends the wait for the start."""
    stream = make_stream()
    starting = asyncio.ensure_future(stream.start())
    stopping = asyncio.ensure_future(stream.stop())
    with pytest.raises(StreamError, match="stopped"):
        await asyncio.wait_for(starting, 5)
    await stopping
    assert stream.status.state == "stopped"


async def test_a_defect_in_sending_is_heard_of(make_stream: Make, server: Any, settle: Any) -> None:
    """The connection is lost then; the error shows nothing of what was to be sent."""
    stream = make_stream()
    await stream.start()

    async def send(data: bytes | str) -> None:
        raise TypeError(repr(data))

    server.last.send = send
    stream.add(Route(find_channel("quotes"), lambda *_: None, {"AAPL"}))
    await settle()
    assert "Sending failed (TypeError)" in stream.status.detail
    await stream.stop()


def test_backoff_doubles_to_its_ceiling() -> None:
    """Each wait is drawn from zero to a ceiling that doubles; settings count at once."""
    policy = ReconnectPolicy(max_attempts=5, delay_s=2, max_delay_s=10)
    ranges: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        ranges.append((low, high))
        return high

    assert list(policy.delays(uniform)) == [2, 4, 8, 10, 10]
    assert {low for low, _ in ranges} == {0}
    assert list(ReconnectPolicy(max_attempts=0).delays(uniform)) == []
    assert max(ReconnectPolicy(max_attempts=5000).delays(uniform)) == 60


def test_where_to_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exact address wins, then the environment's base, then Alpaca."""
    iex = ENDPOINTS["iex"]
    monkeypatch.delenv("ALPACA_NB_STREAM_URL", raising=False)
    assert stream_url(iex) == "wss://stream.data.alpaca.markets/v2/iex"
    monkeypatch.setenv("ALPACA_NB_STREAM_URL", "ws://127.0.0.1:8765/")
    assert stream_url(iex) == "ws://127.0.0.1:8765/v2/iex"
    assert stream_url(iex, "ws://host/x?y=1") == "ws://host/x?y=1"
    for bad in ("http://host", "host:80", "", "ws://", "ws://host:99999"):
        with pytest.raises(BadInputError, match="ws://"):
            stream_url(iex, bad)


def test_an_unknown_codec_is_refused(make_stream: Make) -> None:
    """The sentence names the two there are."""
    with pytest.raises(BadInputError, match="'msgpack' or 'json'"):
        make_stream(codec="xml")


# -- subscriptions and losses ------------------------------------------------------------


def framed(frame: LiveFrame) -> list[Route]:
    return routes_into(frame, ENDPOINTS["iex"])


async def test_a_frame_is_told_of_halts_bands_and_amendments(
    make_stream: Make, server: Any, settle: Any
) -> None:
    """With trades come their corrections, halts and price bands; all of it is known by symbol."""
    stream, frame = make_stream(), LiveFrame("trades", "GME")
    for route in framed(frame):
        stream.add(route)
    await stream.start()
    await settle()
    assert server.last.protocol.subscriptions["statuses"] == {"GME"}
    assert server.last.protocol.subscriptions["lulds"] == {"GME"}
    server.last.send_data(
        Trade[int](symbol="GME", price=20.0, size=5, trade_id=7, exchange="V", timestamp=10**18),
        Trade[int](symbol="GME", price=21.0, size=5, trade_id=8, exchange="V", timestamp=10**18),
        Status[int](symbol="GME", status_code="H", status_message="Halt", timestamp=10**18),
        PriceBand[int](symbol="GME", limit_up=22.0, limit_down=18.0, timestamp=10**18),
        CancelError[int](
            symbol="GME", trade_id=7, exchange="V", price=20.0, size=5, action="C", timestamp=10**18
        ),
        Correction[int](
            symbol="GME",
            exchange="V",
            original_trade_id=8,
            original_price=21.0,
            original_size=5,
            corrected_trade_id=9,
            corrected_price=20.5,
            corrected_size=6,
            timestamp=10**18,
        ),
    )
    await settle()
    assert frame.df["amended"].tolist() == ["canceled", "corrected"]
    assert frame.df["price"].tolist() == [20.0, 20.5]
    assert stream.status.halted == ("GME",)
    (symbol,) = stream.status.symbols
    assert (symbol.channel, symbol.trading.limit_up) == ("trades", 22.0)
    for route in framed(frame):
        stream.remove(route)
    await stream.stop()


async def test_halts_are_unsubscribed_with_the_last_frame(
    make_stream: Make, server: Any, settle: Any
) -> None:
    """What only accompanies a frame goes when no frame has the symbol any more."""
    stream = make_stream()
    routes = [framed(LiveFrame(channel, "GME"))[0] for channel in ("quotes", "trades")]
    for route in routes:
        stream.add(route)
    await stream.start()
    await settle()
    stream.remove(routes[0])
    await settle()
    assert server.last.protocol.subscriptions["lulds"] == {"GME"}
    stream.remove(routes[1])
    await settle()
    assert server.last.protocol.subscriptions["lulds"] == set()
    await stream.stop()


async def test_frames_after_a_defect_in_the_stream_do_not_count(
    make_stream: Make, server: Any, clock: ManualClock, settle: Any
) -> None:
    """What still arrives on a connection that was given up would hide where the loss begins."""
    stream, frame = make_stream(), LiveFrame("quotes", "AAPL", clock=clock)
    for route in framed(frame):
        stream.add(route)
    await stream.start()
    await settle()
    first_ns = clock.now_ns()
    server.last.send_data(quote("AAPL", timestamp=first_ns))
    await settle()
    server.last.send_frame(b"\xc1")
    later = server.last.protocol
    later.send_data([quote("AAPL", timestamp=first_ns + 10**9)])
    for data in later.data_to_send():
        server.last.send_frame(data)
    await settle()
    (gap,) = frame.gaps.itertuples()
    assert gap.start.value == first_ns
    assert len(frame) == 1
    await stream.stop()


async def test_a_loss_before_the_acknowledgement_is_a_loss(
    make_stream: Make, server: Any, clock: ManualClock, settle: Any
) -> None:
    """From the moment the server was asked, what does not come is missing."""
    stream, frame = make_stream(), LiveFrame("quotes", "AAPL", clock=clock)
    await stream.start()
    server.last.deaf = True
    for route in framed(frame):
        stream.add(route)
    await settle()
    asked_ns = clock.now_ns()
    await clock.advance(3)
    server.last.drop()
    await settle()
    (gap,) = frame.gaps.itertuples()
    assert (gap.start.value, gap.state) == (asked_ns, "open")
    await stream.stop()


async def test_what_is_refused_is_no_loss(make_stream: Make, server: Any, settle: Any) -> None:
    """A symbol for which the plan has no place is refused, and nothing of it is missing."""
    server.limit = 1
    stream, frame = make_stream(), LiveFrame("quotes", ["AAPL", "MSFT"])
    for route in framed(frame):
        stream.add(route)
    await stream.start()
    await settle()
    refused = {pair for pair, error in stream.refused.items() if error.code == 405}
    assert refused == {("quotes", "MSFT")}
    states = {each.symbol: each.subscription for each in stream.status.symbols}
    assert states == {"AAPL": "confirmed", "MSFT": "refused"}
    server.last.drop()
    await settle()
    assert frame.gaps["symbol"].tolist() == ["AAPL"]
    await stream.stop()


async def test_a_stream_that_is_stopped_with_a_hole_goes_on_with_it(
    make_stream: Make, server: Any, clock: ManualClock, settle: Any
) -> None:
    """A repair that was under way when the stream was stopped is taken up by the next."""
    stream, frame = make_stream(), LiveFrame("quotes", "AAPL", clock=clock)
    routes = framed(frame)
    for route in routes:
        stream.add(route)
    await stream.start()
    await settle()
    server.last.drop()
    await settle()
    await clock.advance(1)
    await settle()
    assert frame.gaps["state"].tolist() == ["repairing"]
    for route in routes:
        stream.remove(route, "Disconnected on request.")
    await stream.stop()
    assert frame.gaps["state"].tolist() == ["waiting", "open"]
    other = make_stream()
    for route in routes:
        other.add(route)
    await other.start()
    await settle()
    await clock.advance(10)
    await settle()
    # This server is not Alpaca's, and no REST address is known for it.
    assert frame.gaps["state"].tolist() == ["missed", "missed"]
    assert "ALPACA_NB_DATA_URL" in frame.gaps["detail"].iloc[0]
    await other.stop()


async def test_reading_pauses_for_whoever_needs_time(
    make_stream: Make, server: Any, settle: Any
) -> None:
    """The socket is read again when the last who asked for a pause has resumed, also anew."""
    stream = make_stream()
    await stream.start()
    stream.pause("one")
    stream.pause("other")
    await settle()
    assert server.last.paused
    stream.resume("one")
    await settle()
    assert server.last.paused
    stream.resume("other")
    await settle()
    assert not server.last.paused
    await stream.stop()


async def test_a_symbol_that_went_mute_alone_is_lost_from_its_own_last_message(
    make_stream: Make, server: Any, clock: ManualClock, settle: Any
) -> None:
    """That other symbols went on says nothing of one that was kept back."""
    stream, frame = make_stream(), LiveFrame("quotes", ["AAPL", "MSFT"], clock=clock)
    for route in framed(frame):
        stream.add(route)
    await stream.start()
    await settle()
    first_ns = clock.now_ns()
    server.last.send_data(quote("AAPL", timestamp=first_ns))
    await settle()
    await clock.advance(240)
    last_ns = clock.now_ns()
    server.last.send_data(quote("MSFT", timestamp=last_ns))
    await settle()
    stream._on_mute("AAPL quotes have gone on without reaching us.")
    await settle()
    starts = {gap.symbol: gap.start.value for gap in frame.gaps.itertuples()}
    assert starts == {"AAPL": first_ns, "MSFT": last_ns}
    await stream.stop()


async def test_a_client_that_pauses_leaves_the_others_alone(
    make_stream: Make, server: Any, settle: Any
) -> None:
    """A pause of one consumer is a loss of that one only."""
    stream = make_stream()
    frames = [LiveFrame("quotes", "AAPL") for _ in range(2)]
    routes = [framed(frame)[0] for frame in frames]
    for route in routes:
        stream.add(route)
    await stream.start()
    await settle()
    stream.remove(routes[0], "Disconnected on request.")
    await settle()
    assert [len(frame.gaps) for frame in frames] == [1, 0]
    await stream.stop()


@pytest.mark.parametrize("skew_s", [3600, -3600])
async def test_a_wrong_clock_bounds_no_loss(
    make_stream: Make, server: Any, clock: ManualClock, settle: Any, skew_s: int
) -> None:
    """However wrong this machine's clock is, a loss has the exchange's times."""
    stream, frame = make_stream(), LiveFrame("quotes", "AAPL", clock=clock)
    for route in framed(frame):
        stream.add(route)
    await stream.start()
    await settle()
    for _ in range(5):
        await clock.advance(1)
        server.last.send_data(quote("AAPL", timestamp=clock.now_ns() - skew_s * 10**9))
        await settle()
    last_ns = clock.now_ns() - skew_s * 10**9
    server.last.drop()
    await settle()
    await clock.advance(1)
    await settle()
    (gap,) = frame.gaps.itertuples()
    assert (gap.start.value, gap.end.value) == (last_ns, last_ns + 10**9)
    await stream.stop()


async def test_where_nobody_listens_frames_may_wait(make_stream: Callable[..., Stream]) -> None:
    """A frame is asked before it is read; a handler waits for nothing but a moment."""
    stream = make_stream(wait_s=None)
    frame = LiveFrame("trades", "AAPL")
    for route in routes_into(frame, ENDPOINTS["iex"]):
        stream.add(route)
    patient_s = stream._intake.wait_s
    handler = Sink("quotes", "AAPL")
    stream.add(handler.route)
    assert stream._intake.wait_s < patient_s
    stream.remove(handler.route)
    assert stream._intake.wait_s == patient_s
