"""The simulator as a client sees it, over real sockets on loopback."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import msgpack
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from alpaca_nb.clock import ManualClock
from alpaca_nb.errors import BadInputError, RecordingError, SimulatorError
from alpaca_nb.sim import client as client_module
from alpaca_nb.sim.market import MINUTE_NS, SyntheticMarket
from alpaca_nb.sim.plans import Plan
from alpaca_nb.sim.recording import read_recording
from alpaca_nb.sim.server import QUIET_S, LocalSimulator, SimulatorServer
from alpaca_nb.sim.tape import RecordedTape, SyntheticTape
from alpaca_nb.wire.codec import JSON, decode, format_time, time_ns
from alpaca_nb.wire.messages import Bar, Quote, Trade

REAL_DATA = os.environ.get("ALPACA_NB_REAL_DATA")
MSGPACK = {"Content-Type": "application/msgpack"}
KEYS = {"APCA-API-KEY-ID": "k", "APCA-API-SECRET-KEY": "s"}


def line(symbol: str, at_s: float, *, trade_id: int = 1) -> str:
    moment = format_time(1_790_000_000_000_000_000 + round(at_s * 1e9))
    return json.dumps(
        {"T": "t", "S": symbol, "i": trade_id, "p": 1.5, "s": 2, "c": ["@"], "z": "C", "t": moment}
    )


def recording(folder: Path, *lines: str) -> Path:
    path = folder / "tape.jsonl"
    path.write_text("\n".join(lines))
    return path


class Talk:
    """A plain client of the test: speaks one codec, takes messages one by one."""

    def __init__(self, connection: ClientConnection, *, packed: bool = False) -> None:
        self.connection = connection
        self._packed = packed
        self._received: list[dict[str, Any]] = []
        self.frames: list[int] = []

    async def next(self) -> dict[str, Any]:
        while not self._received:
            async with asyncio.timeout(5):
                data = await self.connection.recv()
            assert isinstance(data, bytes) == self._packed
            read = msgpack.unpackb if self._packed else json.loads
            self._received = read(data)
            self.frames.append(len(self._received))
        return self._received.pop(0)

    async def say(self, **request: object) -> None:
        await self.connection.send(msgpack.packb(request) if self._packed else json.dumps(request))

    async def ask(self, **request: object) -> dict[str, Any]:
        await self.say(**request)
        return await self.next()

    async def log_in(self, key: str = "k", secret: str = "s") -> None:
        assert (await self.next())["msg"] == "connected"
        answer = await self.ask(action="auth", key=key, secret=secret)
        assert answer == {"T": "success", "msg": "authenticated"}

    async def error(self) -> int:
        message = await self.next()
        assert message["T"] == "error", message
        return int(message["code"])


@contextlib.asynccontextmanager
async def talk(server: Any, path: str = "/v2/iex", **options: Any):
    headers = options.pop("headers", {})
    packed = headers.get("Content-Type") == MSGPACK["Content-Type"]
    # A test may leave data unread; no goodbye gets through behind that.
    options = {"max_queue": None, "close_timeout": 0.2} | options
    async with connect(server.url + path, additional_headers=headers, **options) as connection:
        yield Talk(connection, packed=packed)


async def read_to_the_end(client: Talk) -> tuple[list[dict[str, Any]], ConnectionClosed]:
    """Everything until the server closes, and how it closed."""
    messages: list[dict[str, Any]] = []
    try:
        while True:
            messages.append(await client.next())
    except ConnectionClosed as closed:
        return messages, closed


async def play(clock: ManualClock, seconds: float) -> None:
    """Let the quiet pass after which the tape starts, then so much of the server's time."""
    await clock.advance(QUIET_S)
    while clock.sleepers < 2:  # the player, and the timer of the one client
        await asyncio.sleep(0.001)
    await clock.advance(seconds)


@pytest.fixture
async def server():
    """A synthetic market on a free port."""
    async with SimulatorServer(SyntheticTape()) as running:
        yield running


async def fetch(url: str, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    """A plain HTTP GET, off the loop that the server runs on."""
    status, _, body = await fetch_all(url, headers)
    return status, body


async def fetch_all(
    url: str, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], Any]:
    """The same with the headers of the answer."""

    def get() -> tuple[int, dict[str, str], Any]:
        request = urllib.request.Request(url, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=5) as response:
                return response.status, dict(response.headers), json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, dict(error.headers), json.load(error)

    return await asyncio.to_thread(get)


# -- handshake ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        *("/v2/iex", "/v2/sip", "/v2/otc", "/v2/delayed_sip", "/v2/test", "/v2/iex/"),
        *("/v1beta1/boats", "/v2/boats", "/v1beta1/overnight", "/v2/overnight", "/v2/iex?x=1"),
    ],
)
async def test_every_stock_feed_has_its_path(server, path):
    """Each endpoint greets at its documented path and at the one other clients use."""
    async with talk(server, path) as client:
        assert await client.next() == {"T": "success", "msg": "connected"}


async def test_an_unknown_path_is_404(server):
    """As with Alpaca, a wrong feed is refused in the handshake."""
    with pytest.raises(InvalidStatus) as caught:
        async with talk(server, "/v2/nyse"):
            pass
    assert caught.value.response.status_code == 404


async def test_the_answer_says_that_it_is_a_simulator(server):
    """A client can label simulated data without a word on the WebSocket."""
    async with talk(server) as client:
        response = client.connection.response
        assert response is not None
        assert response.headers["Alpaca-Nb-Simulator"] == "origin=simulated; speed=1"


async def test_the_answer_says_that_it_is_a_replay(tmp_path):
    """A recording is labelled as such, with its speed."""
    tape = RecordedTape(recording(tmp_path, line("A", 0)))
    async with SimulatorServer(tape, speed=2.5) as server, talk(server) as client:
        response = client.connection.response
        assert response is not None
        assert response.headers["Alpaca-Nb-Simulator"] == "origin=replay; speed=2.5"


async def test_compression_is_used_if_offered(server):
    """permessage-deflate is negotiated, and left out for those who do not want it."""
    async with talk(server) as client:
        response = client.connection.response
        assert response is not None
        assert "permessage-deflate" in response.headers["Sec-WebSocket-Extensions"]
    async with talk(server, compression=None) as client:
        response = client.connection.response
        assert response is not None
        assert "Sec-WebSocket-Extensions" not in response.headers


# -- authentication ----------------------------------------------------------------------


async def test_the_welcome_is_exact(server):
    """Alpaca's Go client compares it; the bytes are those of the protocol sheet."""
    async with talk(server, headers=MSGPACK) as client:
        welcome = "9182a154a773756363657373a36d7367a9636f6e6e6563746564"
        assert await client.connection.recv() == bytes.fromhex(welcome)
    async with talk(server) as client:
        assert await client.connection.recv() == '[{"T":"success","msg":"connected"}]'


@pytest.mark.parametrize(
    "headers",
    [
        KEYS,
        {"Authorization": "Bearer token"},
        {"Authorization": "Basic " + base64.b64encode(b"k:s").decode()},
    ],
    ids=["keys", "bearer", "basic"],
)
async def test_headers_authenticate(server, headers):
    """With credentials in the handshake the server authenticates unprompted."""
    async with talk(server, headers=headers) as client:
        assert (await client.next())["msg"] == "connected"
        assert (await client.next())["msg"] == "authenticated"
        answer = await client.ask(action="auth", key="k", secret="s")
        assert (answer["code"], answer["msg"]) == (403, "already authenticated")
        assert (await client.ask(action="subscribe", bars=["A"]))["T"] == "subscription"


async def test_before_authentication_there_is_nothing(server):
    """A request without authentication is 401, and the connection stays open."""
    async with talk(server) as client:
        await client.next()
        assert (await client.ask(action="subscribe", quotes=["AAPL"]))["code"] == 401
        assert (await client.ask(action="auth", key="k", secret="s"))["msg"] == "authenticated"


@pytest.mark.parametrize("credentials", [("k", "wrong"), ("wrong", "s"), ("", "")])
async def test_wrong_keys_are_402_and_the_end(credentials):
    """With a key given, nothing else is accepted."""
    async with SimulatorServer(SyntheticTape(), key="k", secret="s") as server:
        async with talk(server) as client:
            await client.next()
            key, secret = credentials
            assert (await client.ask(action="auth", key=key, secret=secret))["code"] == 402
            with pytest.raises(ConnectionClosed):
                await client.next()
        async with talk(server) as client:
            await client.log_in()


async def test_wrong_keys_in_the_handshake_are_told_after_the_greeting():
    """The greeting comes first, then 402, and only then the end."""
    async with SimulatorServer(SyntheticTape(), key="k", secret="s") as server:
        wrong = {"APCA-API-KEY-ID": "k", "APCA-API-SECRET-KEY": "wrong"}
        async with talk(server, headers=wrong) as client:
            messages, closed = await read_to_the_end(client)
            assert [message.get("code") for message in messages] == [None, 402]
            assert closed.rcvd is not None
            assert closed.rcvd.code == 1008


async def test_a_token_stands_for_the_secret():
    """OAuth clients send a literal word as key and the token as secret."""
    async with SimulatorServer(SyntheticTape(), key="k", secret="token") as server:
        for word in ("oauth", "access_token"):
            async with talk(server, f"/v2/{'iex' if word == 'oauth' else 'sip'}") as client:
                await client.log_in(word, "token")


async def test_who_does_not_authenticate_is_timed_out():
    """Ten seconds of the server's clock, then 404 and the end."""
    clock = ManualClock()
    async with SimulatorServer(SyntheticTape(), clock=clock) as server, talk(server) as client:
        await client.next()
        await clock.advance(9.9)
        assert (await client.ask(action="subscribe"))["code"] == 401
        await clock.advance(0.2)
        assert await client.error() == 404
        with pytest.raises(ConnectionClosed):
            await client.next()


async def test_who_has_authenticated_is_not_timed_out():
    """The timer is for the authentication only."""
    clock = ManualClock()
    async with SimulatorServer(SyntheticTape(), clock=clock) as server, talk(server) as client:
        await client.log_in()
        await clock.advance(11)
        assert (await client.ask(action="subscribe", bars=["A"]))["T"] == "subscription"


async def test_one_connection_per_account_and_endpoint(server):
    """The second is told 406, stays open, and gets the place when the first has gone."""
    async with talk(server) as second:
        await second.next()
        async with talk(server) as first:
            await first.log_in()
            assert (await second.ask(action="auth", key="k", secret="s"))["code"] == 406
            async with talk(server, "/v2/sip") as elsewhere:
                await elsewhere.log_in()
            async with talk(server) as another:
                await another.log_in(key="someone else")
        async with asyncio.timeout(5):
            while "code" in (answer := await second.ask(action="auth", key="k", secret="s")):
                assert answer["code"] == 406
                await asyncio.sleep(0.01)
        assert answer["msg"] == "authenticated"


async def test_connections_can_be_raised():
    """A broker's plan has several connections."""
    async with (
        SimulatorServer(SyntheticTape(), connections=2) as server,
        talk(server) as one,
        talk(server) as two,
        talk(server) as three,
    ):
        await one.log_in()
        await two.log_in()
        await three.next()
        assert (await three.ask(action="auth", key="k", secret="s"))["code"] == 406


# -- requests ----------------------------------------------------------------------------


async def test_acknowledgements_hold_the_whole_state(server):
    """Additive, subtractive, complete, in the documented order; trades bring two more."""
    async with talk(server) as client:
        await client.log_in()
        await client.ask(action="subscribe", trades=["NVDA"], bars=["*"])
        answer = await client.ask(action="subscribe", quotes=["AMD", "AAPL"])
        assert list(answer)[:10] == [
            *("T", "trades", "quotes", "bars", "updatedBars", "dailyBars"),
            *("statuses", "lulds", "corrections", "cancelErrors"),
        ]
        assert sorted(answer["quotes"]) == ["AAPL", "AMD"]
        assert answer["corrections"] == answer["cancelErrors"] == answer["trades"] == ["NVDA"]
        await client.say(action="unsubscribe", trades=["NVDA"], quotes=["AMD", "XYZ"])
        while (answer := await client.next())["T"] != "subscription":
            pass
        assert (answer["trades"], answer["corrections"]) == ([], [])
        assert (answer["quotes"], answer["bars"]) == (["AAPL"], ["*"])


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"action": "subscribe", "quotes": ["no such"]}, 400),
        ({"action": "subscribe", "quotes": [7]}, 400),
        ({"action": "subscribe", "quotes": "AAPL"}, 400),
        ({"action": "dance"}, 400),
        ({}, 400),
        ({"action": "subscribe", "orderbooks": ["AAPL"]}, 410),
        ({"action": "subscribe", "news": ["*"]}, 410),
    ],
)
async def test_bad_requests_change_nothing(server, request_, code):
    """Each is answered with its code, and the connection and its subscriptions stay."""
    async with talk(server) as client:
        await client.log_in()
        assert (await client.ask(action="subscribe", bars=["A"]))["bars"] == ["A"]
        assert (await client.ask(**request_))["code"] == code
        assert (await client.ask(action="subscribe", bars=["B"]))["bars"] == ["A", "B"]


@pytest.mark.parametrize("data", ["{", "[]", "null", b"\x81\xa6action", ""])
async def test_noise_is_invalid_syntax(server, data):
    """What is no request at all is 400, not the end."""
    async with talk(server) as client:
        await client.log_in()
        await client.connection.send(data)
        assert await client.error() == 400


async def test_the_codec_holds_both_ways(server):
    """JSON where MessagePack was agreed is invalid syntax."""
    async with talk(server, headers=MSGPACK) as client:
        await client.log_in()
        await client.connection.send('{"action":"subscribe","bars":["A"]}')
        assert await client.error() == 400


async def test_opcode_and_fragments_do_not_matter(server):
    """JSON in a binary frame, and a request in many fragments, are read like any other."""
    request = b'{"action":"auth","key":"k","secret":"s"}'
    async with talk(server) as client:
        await client.next()
        await client.connection.send([request[:9], request[9:], b""])
        assert (await client.next())["msg"] == "authenticated"


async def test_unused_channels_may_be_null(server):
    """Alpaca's Go client sends every channel it knows, most of them nil."""
    async with talk(server, headers=MSGPACK) as client:
        await client.log_in()
        answer = await client.ask(
            action="subscribe", bars=["A"], news=None, orderbooks=[], quotes=None
        )
        assert answer["bars"] == ["A"]


async def test_the_symbol_limit_is_all_or_nothing():
    """A request over the limit is 405 and leaves the earlier subscriptions as they were."""
    async with SimulatorServer(SyntheticTape(), symbol_limit=3) as server, talk(server) as client:
        await client.log_in()
        await client.ask(action="subscribe", statuses=["A"], bars=["A", "B", "C", "D"])
        assert (await client.ask(action="subscribe", trades=list("ABCD")))["code"] == 405
        answer = await client.ask(action="subscribe", trades=["A", "B"], quotes=["A"])
        assert (answer["trades"], answer["quotes"]) == (["A", "B"], ["A"])


# -- plans -------------------------------------------------------------------------------


async def test_a_feed_that_is_not_in_the_plan_is_409():
    """The keys are right, the feed is not theirs: 409 in answer to either way to log in."""
    async with SimulatorServer(SyntheticTape(), plan=Plan.basic()) as server:
        for headers in ({}, KEYS):
            async with talk(server, "/v2/sip", headers=headers) as client:
                await client.next()
                if not headers:
                    await client.say(action="auth", key="k", secret="s")
                messages, _ = await read_to_the_end(client)
                assert [message["code"] for message in messages] == [409]
        async with talk(server, "/v2/iex") as client:
            await client.log_in()


async def test_a_star_may_be_beyond_the_plan():
    """For trades and quotes it is 405 and nothing changes; bars and the rest are free."""
    async with (
        SimulatorServer(SyntheticTape(), plan=Plan.basic()) as server,
        talk(server) as client,
    ):
        await client.log_in()
        await client.ask(action="subscribe", trades=["A"])
        for channel in ("trades", "quotes"):
            refused = await client.ask(action="subscribe", bars=["B"], **{channel: ["*"]})
            assert refused["code"] == 405
        answer = await client.ask(action="subscribe", bars=["*"], statuses=["*"])
        assert (answer["trades"], answer["quotes"], answer["bars"]) == (["A"], [], ["*"])
        answer = await client.ask(action="unsubscribe", trades=["*"])
        assert answer["trades"] == ["A"]


@pytest.mark.parametrize(("places", "code"), [(30, None), (31, 405)])
async def test_the_free_plan_has_thirty_places(places, code):
    """Trades and quotes count together, a symbol once for each."""
    names = [f"A{number}" for number in range(places)]
    async with (
        SimulatorServer(SyntheticTape(), plan=Plan.basic()) as server,
        talk(server) as client,
    ):
        await client.log_in()
        answer = await client.ask(action="subscribe", trades=names[:10], quotes=names[10:])
        assert answer.get("code") == code


async def test_options_override_the_plan():
    """What is given for itself counts, the rest is the plan's."""
    options: dict[str, Any] = {"symbol_limit": 2, "connections": 2, "rest_limit": 7}
    async with SimulatorServer(SyntheticTape(), plan=Plan.basic(), **options) as server:
        async with talk(server) as one, talk(server) as two:
            await one.log_in()
            await two.log_in()
            assert (await one.ask(action="subscribe", trades=list("ABC")))["code"] == 405
        _, headers, _ = await fetch_all(server.rest_url + "/v2/clock", KEYS)
        assert headers["X-RateLimit-Limit"] == "7"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Plan(feeds=["iex", "moon"]), "no feed 'moon'"),
        (lambda: Plan(connections=0), "connections"),
        (lambda: Plan(symbol_limit=0), "symbol limit"),
        (lambda: Plan(rest_per_minute=-1), "REST requests"),
        (lambda: LocalSimulator(plan="free"), "Plan.basic()"),
    ],
)
def test_bad_plans_are_explained(make, reason):
    """What is no plan is refused at once, in one sentence."""
    with pytest.raises(BadInputError, match=reason):
        make()


def test_plans_are_values():
    """Feeds may be given as a list; equal plans are equal and can be keys."""
    assert Plan(feeds=["iex", "sip"]) == Plan(feeds=frozenset({"sip", "iex"}))  # type: ignore[arg-type]
    assert len({Plan(), Plan(), Plan.basic(), Plan.plus()}) == 3


# -- the synthetic tape ------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{}, MSGPACK], ids=["json", "msgpack"])
async def test_what_is_sent_is_the_market(headers):
    """The socket carries the market's messages of the subscribed channels, all and only those."""
    clock = ManualClock()
    async with (
        SimulatorServer(SyntheticTape(seed=3), speed=100, clock=clock) as server,
        talk(server, headers=headers, max_size=None) as client,
    ):
        await client.log_in()
        await client.ask(action="subscribe", quotes=["AAPL", "XYZQ"], bars=["AAPL"])
        await play(clock, 60.5 / 100)  # a minute and a little of the tape
        expected = [
            message
            for symbol in ("AAPL", "XYZQ")
            for message in SyntheticMarket(3, feed="iex").minute(symbol, 0)
            if type(message).__name__ == "Quote"
            or (symbol, "Bar") == ("AAPL", type(message).__name__)
        ]
        expected.sort(key=lambda m: m.timestamp + (type(m).__name__ == "Bar") * MINUTE_NS)
        seen: list[Any] = []
        while len(seen) < len(expected):
            async with asyncio.timeout(5):
                seen += decode(await client.connection.recv())
        assert JSON.encode(with_times(seen[: len(expected)])) == JSON.encode(expected)


def with_times(messages: list[Any]) -> list[Any]:
    for message in messages:
        message.timestamp = time_ns(message.timestamp)
    return messages


async def first_bytes(seconds: float) -> bytes:
    clock = ManualClock()
    async with (
        SimulatorServer(SyntheticTape(seed=11), clock=clock) as server,
        talk(server) as client,
    ):
        await client.log_in()
        await client.ask(action="subscribe", quotes=["*"], trades=["*"])
        await play(clock, seconds)
        data = []
        with contextlib.suppress(TimeoutError):
            while True:
                async with asyncio.timeout(0.3):
                    data.append(await client.connection.recv(decode=False))
        return b"".join(data).replace(b"][", b",")


async def test_two_runs_are_equal_byte_for_byte():
    """The same seed gives the same bytes on the wire, whenever it is run."""
    first = await first_bytes(3.0)
    assert len(first) > 20_000
    assert first == await first_bytes(3.0)


async def test_the_tape_waits_for_the_subscriptions_to_settle():
    """A second subscription within 0.2 s puts the start off, so it misses nothing."""
    clock = ManualClock()
    async with SimulatorServer(SyntheticTape(), clock=clock) as server, talk(server) as client:
        await client.log_in()
        await client.ask(action="subscribe", quotes=["SPY"])
        await clock.advance(0.19)
        await client.ask(action="subscribe", trades=["SPY"])
        await clock.advance(0.19)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.connection.recv()
        await play(clock, 2.0)
        market = SyntheticMarket(feed="iex").minute("SPY", 0)
        kinds = {Quote: "q", Trade: "t"}
        expected = [kinds[type(m)] for m in market if type(m) in kinds][:40]
        assert [(await client.next())["T"] for _ in expected] == expected


async def test_the_test_feed_carries_fakepaca_only():
    """Whatever is asked for on /v2/test, FAKEPACA is what comes."""
    async with (
        SimulatorServer(SyntheticTape(rate=5), speed=20) as server,
        talk(server, "/v2/test") as client,
    ):
        await client.log_in()
        answer = await client.ask(action="subscribe", quotes=["*", "AAPL"])
        assert answer["quotes"] == ["*", "AAPL"]
        assert {(await client.next())["S"] for _ in range(50)} == {"FAKEPACA"}
        await client.say(action="subscribe", lulds=["*"])
        while (answer := await client.next())["T"] == "q":
            pass
        assert answer["code"] == 410


async def test_a_star_is_the_configured_list():
    """'*' means the simulator's symbols, each message once even if named as well."""
    tape = SyntheticTape(symbols=["IBM", "KO"])
    async with SimulatorServer(tape, speed=30) as server, talk(server) as client:
        await client.log_in()
        await client.ask(action="subscribe", trades=["*", "KO"])
        seen = [await client.next() for _ in range(100)]
        assert {message["S"] for message in seen} == {"IBM", "KO"}
        assert len({(message["S"], message["i"]) for message in seen}) == 100


@pytest.mark.parametrize("headers", [{}, MSGPACK], ids=["json", "msgpack"])
async def test_types_are_mixed_in_arrays_with_the_type_first(headers):
    """What falls due together travels together, and T is the first key of every message."""
    tape = SyntheticTape(symbols=["SPY"], amendments=0.3, minutes=2)
    channels = ("trades", "quotes", "bars", "updatedBars", "dailyBars", "statuses", "lulds")
    seen: set[str] = set()
    mixed = 0
    async with SimulatorServer(tape, speed=0) as server, talk(server, headers=headers) as client:
        await client.log_in()
        await client.say(action="subscribe", **{channel: ["*"] for channel in channels})
        read = msgpack.unpackb if headers else json.loads
        while not seen >= set("tqbuldcx"):
            async with asyncio.timeout(5):
                messages = read(await client.connection.recv())
            assert all(next(iter(message)) == "T" for message in messages)
            tags = {message["T"] for message in messages}
            seen |= tags
            mixed += len(tags) > 1
    assert mixed


async def test_bars_and_daily_bars_come_at_the_minute():
    """After each minute its bar comes, and the bar of the day so far."""
    async with SimulatorServer(SyntheticTape(), speed=600) as server, talk(server) as client:
        await client.log_in()
        await client.ask(action="subscribe", bars=["AAPL"], dailyBars=["AAPL"])
        seen = [await client.next() for _ in range(4)]
        assert [message["T"] for message in seen] == ["b", "d", "b", "d"]
        assert [seen[0]["t"], seen[2]["t"]] == ["2026-09-21T13:30:00Z", "2026-09-21T13:31:00Z"]
        assert seen[1]["t"] == seen[3]["t"] == "2026-09-21T04:00:00Z"
        assert seen[3]["v"] == seen[0]["v"] + seen[2]["v"]


def test_the_next_day_follows_at_once():
    """At the close the tape goes on with the open of the next weekday."""
    tape = SyntheticTape(date="2026-09-25")
    wanted = {"bars": frozenset({"AAPL"})}
    close = 390 * MINUTE_NS
    last, first = (
        message
        for message in tape.between("iex", wanted, close - 1, close + MINUTE_NS)
        if type(message) is Bar
    )
    assert format_time(last.timestamp) == "2026-09-25T19:59:00Z"
    assert format_time(first.timestamp) == "2026-09-28T13:30:00Z"


def test_cutting_the_tape_elsewhere_changes_nothing():
    """However the tape is stepped through, the messages and their order are the same."""
    wanted = {"quotes": frozenset({"AAPL", "SPY"}), "bars": frozenset({"*"})}
    end = 2 * MINUTE_NS + 17
    whole = SyntheticTape().between("sip", wanted, 0, end)
    tape = SyntheticTape()
    pieces, position = [], 0
    for step in [1, 7_000_000_011, MINUTE_NS - 7_000_000_012, 1, MINUTE_NS, 16]:
        while tape.prepare("sip", wanted, position, position + step):
            pass
        pieces += tape.between("sip", wanted, position, position + step)
        position += step
    assert position == end
    assert pieces == whole


async def test_two_clients_see_one_tape(server):
    """Who comes later joins the tape where it is."""
    async with talk(server) as first:
        await first.log_in()
        await first.ask(action="subscribe", quotes=["SPY"])
        early = await first.next()
        for _ in range(20):
            await first.next()
        async with talk(server, "/v2/sip") as second:
            await second.log_in()
            await second.ask(action="subscribe", quotes=["SPY"])
            assert (await second.next())["t"] > early["t"]


# -- recordings --------------------------------------------------------------------------


async def test_a_recording_is_sent_in_the_files_order_then_quiet(tmp_path):
    """At speed 0 everything subscribed comes at once, in the file's order, and once."""
    path = recording(
        tmp_path,
        *(line("A" if n % 3 else "B", n % 7, trade_id=n) for n in range(5000)),
    )
    async with SimulatorServer(RecordedTape(path), speed=0) as server, talk(server) as client:
        await client.log_in()
        await client.ask(action="subscribe", trades=["A"])
        wanted = [n for n in range(5000) if n % 3]
        assert [(await client.next())["i"] for _ in wanted] == wanted
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.connection.recv()
        assert (await client.ask(action="unsubscribe", trades=["A"]))["trades"] == []
        assert max(client.frames) > 100


async def test_a_recording_is_timed_by_its_times(tmp_path):
    """At speed 10 a second of the file takes a tenth of one; nights are left out."""
    path = recording(tmp_path, line("A", 0), line("A", 1), line("A", 0.5), line("A", 50_000))
    clock = ManualClock()
    tape = RecordedTape(path)
    async with SimulatorServer(tape, speed=10, clock=clock) as server, talk(server) as client:
        await client.log_in()
        await client.ask(action="subscribe", trades=["A"])
        await play(clock, 0.05)
        assert (await client.next())["t"] == format_time(1_790_000_000 * 10**9)
        await clock.advance(0.02)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.connection.recv()
        await clock.advance(0.05)
        assert [(await client.next())["t"][-5:] for _ in range(2)] == ["3:21Z", "20.5Z"]
        await clock.advance(0.12)
        assert (await client.next())["t"] == format_time(1_790_050_000 * 10**9)


async def test_a_client_that_reads_slowly_loses_nothing_at_speed_0(tmp_path):
    """As fast as possible means as fast as the client reads."""
    count = 60_000
    path = recording(tmp_path, *(line("A", 0, trade_id=n) for n in range(count)))
    async with (
        SimulatorServer(RecordedTape(path), speed=0) as server,
        talk(server, compression=None, max_queue=1) as client,
    ):
        await client.log_in()
        await client.ask(action="subscribe", trades=["*"])
        await asyncio.sleep(0.3)
        assert [(await client.next())["i"] for _ in range(count)] == list(range(count))


async def test_a_client_that_does_not_read_is_dropped_in_real_time(tmp_path, monkeypatch):
    """With a clock to follow, a full buffer ends in 407 or a cut line, and costs nobody else."""
    monkeypatch.setattr(client_module, "SLOW_CLIENT_MESSAGES", 1000)
    count, a_step = 20_000, 200
    # A kilobyte each: more in all than the sockets' buffers hold.
    lines = [
        json.loads(line("A", n / 10_000, trade_id=n)) | {"c": ["@"] * 250} for n in range(count)
    ]
    path = recording(tmp_path, *map(json.dumps, lines))
    clock = ManualClock()
    async with SimulatorServer(RecordedTape(path), connections=2, clock=clock) as server:
        options: dict[str, Any] = {"compression": None}
        async with talk(server, max_queue=1, **options) as slow, talk(server, **options) as quick:
            for client in (slow, quick):
                await client.log_in()
                await client.ask(action="subscribe", trades=["*"])
            await clock.advance(QUIET_S)
            while clock.sleepers < 3:  # the player, and the timers of two clients
                await asyncio.sleep(0.001)
            read: list[int] = []
            for due in range(0, count + 1, a_step):
                # The clock waits for the quick client, so that the machine's pace is no matter.
                await clock.advance(a_step / 10_000)
                while len(read) < due:
                    read.append((await quick.next())["i"])
            assert read == list(range(count))
            received, _ = await read_to_the_end(slow)
            assert len(received) < count
            assert {message.get("code") for message in received} <= {None, 407}


async def test_a_client_that_reads_slowly_is_sent_bigger_arrays(tmp_path):
    """What waits for a slow reader travels in fewer, bigger frames, and none of it is lost."""
    count = 20_000
    path = recording(tmp_path, *(line("A", n / 20_000, trade_id=n) for n in range(count)))
    async with (
        SimulatorServer(RecordedTape(path)) as server,
        talk(server, compression=None) as client,
    ):
        await client.log_in()
        await client.ask(action="subscribe", trades=["*"])
        await client.next()
        client.connection.transport.pause_reading()
        await asyncio.sleep(0.5)
        client.connection.transport.resume_reading()
        assert [(await client.next())["i"] for _ in range(1, count)] == list(range(1, count))


def test_tape_of_a_recording_is_checked_before_it_is_played(tmp_path):
    """A mistake on the last line is found at the start, not in the middle."""
    with pytest.raises(RecordingError, match="line 2"):
        RecordedTape(recording(tmp_path, line("A", 0), "oops"))


@pytest.mark.realdata
@pytest.mark.skipif(REAL_DATA is None, reason="ALPACA_NB_REAL_DATA is not set")
@pytest.mark.parametrize("headers", [{}, MSGPACK], ids=["json", "msgpack"])
def test_the_real_opening_arrives_whole(headers):
    """136,762 messages through the socket equal the file field for field, in order, once."""
    path = Path(str(REAL_DATA)) / "lean_ticks_20131007_open35m.jsonl.gz"
    expected = list(read_recording(path))

    async def receive(url: str) -> list[Any]:
        seen: list[Any] = []
        options: dict[str, Any] = {"max_size": None, "additional_headers": headers | KEYS}
        async with connect(url + "/v2/sip", **options) as connection:
            request = {"action": "subscribe", "trades": ["*"], "quotes": ["*"]}
            await connection.send(msgpack.packb(request) if headers else json.dumps(request))
            for _ in range(3):  # connected, authenticated, subscription
                await connection.recv()
            while len(seen) < len(expected):
                async with asyncio.timeout(20):
                    seen += decode(await connection.recv())
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await connection.recv()
        return seen

    with LocalSimulator(play=path, speed=0) as simulator:
        seen = with_times(asyncio.run(receive(simulator.url)))
    assert len(seen) == len(expected) == 136_762
    assert seen == expected


# -- plain HTTP --------------------------------------------------------------------------


async def test_a_person_with_a_browser_is_told_what_this_is(server):
    """GET / answers with the streams there are."""
    status, body = await fetch(server.url.replace("ws:", "http:") + "/")
    assert status == 200
    assert body["streams"]["iex"] == server.url + "/v2/iex"


async def test_latest_quotes_are_those_of_the_tape(server):
    """REST and stream tell the same story, for one symbol or several."""
    base = server.url.replace("ws:", "http:")
    first = next(m for m in SyntheticMarket(feed="iex").minute("AAPL", 0) if type(m) is Quote)
    status, body = await fetch(base + "/v2/stocks/AAPL/quotes/latest?feed=iex", KEYS)
    assert (status, body["symbol"]) == (200, "AAPL")
    (spelled,) = json.loads(JSON.encode([first]))
    assert {"T": "q", "S": "AAPL"} | body["quote"] == spelled
    status, body = await fetch(base + "/v2/stocks/quotes/latest?symbols=AAPL,BRK.B&feed=iex", KEYS)
    assert status == 200
    assert set(body["quotes"]) == {"AAPL", "BRK.B"}


async def test_the_latest_quote_moves_with_the_tape():
    """After some time, REST gives the last quote that was streamed."""
    clock = ManualClock()
    async with SimulatorServer(SyntheticTape(), clock=clock) as server, talk(server) as client:
        await client.log_in()
        await client.ask(action="subscribe", quotes=["SPY"])
        await play(clock, 1.0)
        base = server.url.replace("ws:", "http:")
        _, body = await fetch(base + "/v2/stocks/SPY/quotes/latest?feed=iex", KEYS)
        while (quote := await client.next())["t"] != body["quote"]["t"]:
            pass
        assert body["quote"].items() <= quote.items()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.next()


@pytest.mark.parametrize(
    ("target", "headers", "status"),
    [
        ("/v2/stocks/AAPL/quotes/latest", {}, 401),
        ("/v2/stocks/AAPL/quotes/latest", {"Authorization": "Basic ?"}, 403),
        ("/v2/stocks/AAPL/quotes/latest", KEYS | {"APCA-API-KEY-ID": "x"}, 403),
        ("/v2/stocks/AAPL/quotes/latest?feed=moon", KEYS, 400),
        ("/v2/stocks/a%20b/quotes/latest", KEYS, 400),
        ("/v2/stocks/*/quotes/latest", KEYS, 400),
        ("/v2/stocks/quotes/latest", KEYS, 400),
        ("/v2/stocks/AAPL/dividends", KEYS, 404),
        ("/v9", KEYS, 404),
    ],
)
async def test_bad_rest_requests_have_a_message(target, headers, status):
    """Each refusal is JSON with a message."""
    async with SimulatorServer(SyntheticTape(), key="k", secret="s") as server:
        answered, body = await fetch(server.url.replace("ws:", "http:") + target, headers)
    assert answered == status
    assert body["message"]


async def test_a_recording_has_latest_quotes_where_it_has_quotes(tmp_path):
    """A symbol without a quote in the file is 404."""
    quote = '{"T":"q","S":"B","bp":1,"ap":2,"t":"2026-09-21T14:13:20Z"}'
    tape = RecordedTape(recording(tmp_path, line("A", 0), quote))
    async with SimulatorServer(tape) as server:
        base = server.url.replace("ws:", "http:") + "/v2/stocks/"
        assert (await fetch(base + "A/quotes/latest", KEYS))[0] == 404
        assert (await fetch(base + "B/quotes/latest", KEYS))[1]["quote"]["ap"] == 2


async def test_history_is_what_the_stream_has_sent():
    """Trades that were streamed are the same over REST, number by number."""
    async with (
        SimulatorServer(SyntheticTape(minutes=1), speed=0) as server,
        talk(server) as client,
    ):
        await client.log_in()
        await client.ask(action="subscribe", trades=["IBM"], bars=["IBM"])
        seen = [await client.next()]
        while seen[-1]["T"] != "b":
            seen.append(await client.next())
        path = "/v2/stocks/trades?symbols=IBM&feed=iex&limit=10000"
        status, headers, body = await fetch_all(server.rest_url + path, KEYS)
        assert (status, headers["Content-Type"]) == (200, "application/json")
        assert [{"T": "t", "S": "IBM"} | each for each in body["trades"]["IBM"]] == seen[:-1]
        _, body = await fetch(server.rest_url + "/v2/stocks/IBM/bars?timeframe=1Min&feed=iex", KEYS)
        assert [{"T": "b", "S": "IBM"} | each for each in body["bars"]] == seen[-1:]
        assert server.position == MINUTE_NS
        assert server.now_ns == SyntheticMarket().open_ns + MINUTE_NS


async def test_the_clock_goes_with_the_tape():
    """Its time is that of the tape, and the market is open."""
    async with SimulatorServer(SyntheticTape()) as server:
        status, body = await fetch(server.rest_url + "/v2/clock", KEYS)
        assert (status, body["is_open"]) == (200, True)
        assert time_ns(body["timestamp"]) == server.now_ns
        assert (await fetch(server.rest_url + "/v2/clock"))[0] == 401
        status, body = await fetch(
            server.rest_url + "/v2/calendar?start=2026-09-21&end=2026-09-21", KEYS
        )
        assert [day["date"] for day in body] == ["2026-09-21"]


async def test_too_many_requests_are_429_until_the_minute_is_over():
    """The headers say how many are left and when there are more; the clock counts for itself."""
    clock = ManualClock()
    async with SimulatorServer(SyntheticTape(), rest_limit=2, clock=clock) as server:
        url = server.rest_url + "/v2/stocks/IBM/quotes/latest"
        answers = [await fetch_all(url, KEYS) for _ in range(3)]
        assert [status for status, _, _ in answers] == [200, 200, 429]
        assert [headers["X-RateLimit-Remaining"] for _, headers, _ in answers] == ["1", "0", "0"]
        assert all(headers["X-RateLimit-Limit"] == "2" for _, headers, _ in answers)
        assert answers[-1][2]["message"]
        assert (await fetch(server.rest_url + "/v2/clock", KEYS))[0] == 200
        assert (await fetch(url, KEYS | {"APCA-API-KEY-ID": "another"}))[0] == 200
        reset_s = int(answers[-1][1]["X-RateLimit-Reset"])
        await clock.advance(reset_s - clock.now_ns() / 1e9)
        assert (await fetch(url, KEYS))[0] == 200


async def test_bad_requests_are_counted_and_say_so(server):
    """A 400 has the headers of the limit too."""
    url = server.rest_url + "/v2/stocks/quotes?symbols=IBM&limit=none"
    status, headers, _ = await fetch_all(url, KEYS)
    assert (status, headers["X-RateLimit-Remaining"]) == (400, "199")


async def test_a_long_history_holds_nobody_up(server):
    """While a day is worked out for one, another is answered many times."""
    server._position = 390 * MINUTE_NS
    path = "/v2/stocks/AAPL/bars?timeframe=1Day&feed=iex&start=2026-09-21"
    long = asyncio.create_task(fetch(server.rest_url + path, KEYS))
    answered = 0
    while not long.done():
        await fetch(server.rest_url + "/v2/clock", KEYS)
        answered += 1
    assert (await long)[0] == 200
    assert answered > 5


# -- goodbyes ----------------------------------------------------------------------------


async def test_the_server_knows_how_each_connection_ended(server):
    """The code of a proper goodbye, None for a line that was cut."""
    async with talk(server) as client:
        await client.log_in()
        await client.connection.close(4321)
    async with talk(server) as client:
        await client.log_in()
        client.connection.transport.abort()
    async with asyncio.timeout(5):
        while len(server.goodbyes) < 2:
            await asyncio.sleep(0.001)
    assert server.goodbyes == [4321, None]


async def test_many_servers_start_and_stop_side_by_side():
    """Nothing is left of them: no task, no connection."""
    before = asyncio.all_tasks()

    async def one(seed: int) -> int:
        tape = SyntheticTape(seed, symbols=["IBM"], minutes=1)
        async with SimulatorServer(tape, speed=0) as server, talk(server) as client:
            await client.log_in()
            await client.ask(action="subscribe", bars=["*"])
            return int((await client.next())["v"])

    assert len(set(await asyncio.gather(*(one(seed) for seed in range(50))))) == 50
    assert asyncio.all_tasks() == before


# -- starting and stopping ---------------------------------------------------------------


def test_local_simulator_starts_stops_and_starts_again():
    """One call each, as often as one likes; the port is closed afterwards."""
    simulator = LocalSimulator()
    assert not simulator.running
    assert simulator.start() is simulator.start()
    url = simulator.url
    assert url == f"ws://127.0.0.1:{simulator.port}"
    assert simulator.running
    simulator.stop()
    simulator.stop()
    assert not simulator.running
    with (
        pytest.raises(OSError, match="refused"),
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))),
    ):
        pass
    with simulator, socket.create_connection(("127.0.0.1", simulator.port)):
        pass
    with pytest.raises(SimulatorError, match="start"):
        _ = simulator.url


def test_a_local_simulator_tells_what_is_true():
    """Where REST is, how far it is, what time it is there, and what a client should know by now."""
    simulator = LocalSimulator(minutes=1, speed=0, symbols=["IBM"])
    assert (simulator.position, simulator.goodbyes) == (0, [])
    with pytest.raises(SimulatorError, match="never run"):
        _ = simulator.now_ns

    async def listen() -> list[dict[str, Any]]:
        async with talk(simulator) as client:
            await client.log_in()
            await client.ask(action="subscribe", quotes=["IBM"], bars=["IBM"])
            seen = [await client.next()]
            while seen[-1]["T"] != "b":
                seen.append(await client.next())
            return seen

    with simulator:
        assert simulator.rest_url == f"http://127.0.0.1:{simulator.port}"
        assert simulator.truth("quotes", "IBM") == []
        seen = asyncio.run(listen())
        assert simulator.position >= MINUTE_NS
        assert simulator.now_ns == SyntheticMarket().open_ns + simulator.position
    for channel, tag in (("quotes", "q"), ("bars", "b")):
        truth = json.loads(JSON.encode(simulator.truth(channel, ["IBM"])))
        assert [message for message in seen if message["T"] == tag] == truth
    assert simulator.goodbyes == [1000]


def test_local_simulator_stops_quickly_with_a_proper_goodbye():
    """A client is told that the server goes away, and all is over in under a second."""
    simulator = LocalSimulator().start()
    silent = socket.create_connection(("127.0.0.1", simulator.port))

    async def hold() -> None:
        async with talk(simulator) as client:
            await client.log_in()
            await client.ask(action="subscribe", quotes=["*"])
            await client.next()
            started = time.monotonic()
            await asyncio.to_thread(simulator.stop)
            assert time.monotonic() - started < 1.0
            _, closed = await read_to_the_end(client)
            assert closed.rcvd is not None
            assert closed.rcvd.code == 1001

    with silent:  # it connected and never shook hands
        asyncio.run(hold())
    assert not any(thread.name == "alpaca-nb-simulator" for thread in threading.enumerate())


def test_local_simulator_stops_quickly_with_a_stuck_client():
    """A client that does not read cannot hold the simulator up."""
    simulator = LocalSimulator(speed=0).start()

    async def hold() -> None:
        async with talk(simulator, max_queue=1) as client:
            await client.log_in()
            await client.ask(action="subscribe", quotes=["*"])
            await client.next()
            await asyncio.sleep(0.5)  # until every buffer on the way is full
            started = time.monotonic()
            await asyncio.to_thread(simulator.stop)
            assert time.monotonic() - started < 1.0

    asyncio.run(hold())


def test_local_simulator_is_silent(capfd):
    """Nothing is printed: not by garbage on the port, not by a client that vanishes."""
    with LocalSimulator() as simulator:
        with socket.create_connection(("127.0.0.1", simulator.port)) as garbage:
            garbage.sendall(b"\x00\x01hello\r\n\r\n")
            garbage.recv(100)

        async def vanish() -> None:
            async with talk(simulator) as client:
                await client.log_in()
                await client.ask(action="subscribe", quotes=["*"])
                client.connection.transport.abort()

        asyncio.run(vanish())
    assert capfd.readouterr() == ("", "")


def test_a_program_that_forgets_to_stop_it_ends_anyway():
    """The thread neither holds the interpreter up nor complains when it goes."""
    program = "from alpaca_nb.sim.server import LocalSimulator; LocalSimulator().start()"
    ended = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        timeout=20,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")


def test_a_port_in_use_is_explained():
    """The error names the port and the way out, and nothing is left running."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        simulator = LocalSimulator(port=port)
        with pytest.raises(SimulatorError, match=f"Port {port} .* in use.*another port"):
            simulator.start()
        assert not simulator.running
    with simulator:
        assert simulator.port == port


def test_a_bad_file_starts_nothing(tmp_path):
    """A recording is checked before a thread or a port is taken."""
    before = Counter(thread.name for thread in threading.enumerate())
    with pytest.raises(RecordingError, match="no file"):
        LocalSimulator(play=tmp_path / "none.jsonl").start()
    assert Counter(thread.name for thread in threading.enumerate()) == before


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"port": 70_000}, "port"),
        ({"port": "8765"}, "port"),
        ({"host": ""}, "host"),
        ({"speed": -1}, "speed"),
        ({"speed": float("inf")}, "speed"),
        ({"rate": -2}, "rate"),
        ({"seed": 1.5}, "seed"),
        ({"key": "k"}, "together"),
        ({"secret": "s"}, "together"),
        ({"connections": 0}, "connections"),
        ({"symbol_limit": 0}, "symbol limit"),
        ({"rest_limit": 0}, "REST requests"),
        ({"minutes": 0}, "minutes"),
        ({"amendments": 2}, "from 0 to 1"),
        ({"symbols": ["not a symbol"]}, "not a symbol"),
        ({"date": "tomorrow"}, "date"),
    ],
)
def test_bad_options_are_explained_at_once(options, reason):
    """Each is refused when the simulator is made, in one sentence."""
    with pytest.raises(BadInputError, match=reason):
        LocalSimulator(**options)


def test_no_address_of_this_machine_is_explained():
    """A host that is not ours cannot be listened on, and the error says so."""
    with pytest.raises(SimulatorError, match="cannot listen"):
        LocalSimulator(host="192.0.2.1").start()
