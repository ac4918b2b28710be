"""REST answers, good and bad: over a transport that never leaves the test, and over loopback."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from email.utils import formatdate
from typing import Any

import httpx
import pytest

from alpaca_nb.clock import ManualClock
from alpaca_nb.credentials import Credentials, Secret
from alpaca_nb.errors import BadInputError, RecentDataError, RestError
from alpaca_nb.feed import rest as rest_module
from alpaca_nb.feed.history import Page
from alpaca_nb.feed.models import BarData, QuoteData, TradeData
from alpaca_nb.feed.rest import LatestBar, LatestQuote, LatestTrade, RestClient
from alpaca_nb.feed.thread import FEED_THREAD

ITEM = {"t": "2026-09-21T14:13:20.535000001Z", "bx": "V", "bp": 161.44, "bs": 300, "ax": "V",
        "ap": 162, "as": 100, "c": ["R"], "z": "C"}  # fmt: skip
MARKET_CLOCK = {"timestamp": "2026-09-21T10:13:20.5-04:00", "is_open": True,
                "next_open": "2026-09-22T09:30:00-04:00",
                "next_close": "2026-09-21T16:00:00-04:00"}  # fmt: skip
CREDENTIALS = Credentials(Secret("KEY-IN-TESTS"), Secret("SECRET-IN-TESTS"))
SERVER_S = 1_700_000_000
"""The server's time (Unix): years before the test clock's, which must not matter."""

Outcome = httpx.Response | Exception


class SkippingClock(ManualClock):
    """A clock on which every wait is over at once, and noted."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    async def sleep(self, delay_s: float) -> None:
        self.slept.append(delay_s)
        await self.advance(delay_s)


class Api:
    """A server that gives the outcomes of a list, the last one for ever, and notes requests."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = list(outcomes)
        self.requests: list[httpx.Request] = []
        self.clock = SkippingClock()
        self.rest = RestClient(
            CREDENTIALS,
            data_url="http://data.test",
            trading_url="http://trading.test/",
            transport=httpx.MockTransport(self.answer),
            clock=self.clock,
            uniform=lambda low, high: high,
        )

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        # A response can be sent once.
        return httpx.Response(outcome.status_code, headers=outcome.headers, content=outcome.content)

    async def history(self, symbols: Any = "AMD", **options: Any) -> list[Page]:
        options = {"feed": "iex"} | options
        return [page async for page in self.rest.history("quotes", symbols, 0, 1, **options)]

    async def latest(self) -> Any:
        return await self.rest.latest("quotes", "AMD", feed="iex")


def page(rows: Any = (ITEM,), token: str | None = None, **headers: str) -> httpx.Response:
    body = {"quotes": {"AMD": list(rows)}, "next_page_token": token}
    return httpx.Response(200, json=body, headers=headers)


def limit(left: int, resets_in_s: int, *, status: int = 200) -> httpx.Response:
    headers = {
        "Date": formatdate(SERVER_S, usegmt=True),
        "X-RateLimit-Remaining": str(left),
        "X-RateLimit-Reset": str(SERVER_S + resets_in_s),
    }
    return httpx.Response(status, json={"quotes": {"AMD": ITEM}}, headers=headers)


LATEST = httpx.Response(200, json={"quotes": {"AMD": ITEM}})
THROTTLED = httpx.Response(429, json={"message": "too many requests."})


# -- history -----------------------------------------------------------------------------


async def test_history_goes_on_until_there_is_no_token() -> None:
    """Short and empty pages that carry a token are followed; the keys are in headers only."""
    api = Api(page(token="a"), page([], "b"), page([ITEM, ITEM, {"odd": 1}], "c"), page([]))
    pages = await api.history("amd")
    assert [(len(page.messages), page.unreadable) for page in pages] == [(1, 0), (2, 1)]
    assert [request.url.params.get("page_token") for request in api.requests] == [
        None, "a", "b", "c",
    ]  # fmt: skip
    first = api.requests[0]
    assert str(first.url) == (
        "http://data.test/v2/stocks/quotes?symbols=AMD&start=1970-01-01T00%3A00%3A00Z"
        "&end=1970-01-01T00%3A00%3A00.000000001Z&feed=iex&limit=10000"
    )
    assert first.headers["APCA-API-KEY-ID"] == "KEY-IN-TESTS"
    assert not any("IN-TESTS" in str(request.url) for request in api.requests)


async def test_many_symbols_come_in_chunks() -> None:
    """No request names more than a hundred symbols, and each is named once."""
    api = Api(page(["no row"]))
    symbols = [f"S{number}" for number in range(250)]
    await api.history(symbols)
    asked = [request.url.params["symbols"].split(",") for request in api.requests]
    assert [len(each) for each in asked] == [100, 100, 50]
    assert [symbol for each in asked for symbol in each] == symbols


async def test_history_tells_how_many_requests_are_left() -> None:
    """A page says what the server's headers said."""
    api = Api(page(**{"X-RateLimit-Remaining": "7", "X-RateLimit-Reset": "9999999999"}), page())
    assert [page.remaining for page in await api.history()] == [7]


async def test_pages_that_never_end() -> None:
    """A server that promises another page for ever is left, with the pages until then."""
    api = Api(page(token="again"))
    with pytest.raises(RestError, match="never end"):
        await api.history()
    assert len(api.requests) == 2
    api = Api(*(page([], f"token {number}") for number in range(100)))
    with pytest.raises(RestError, match="never end"):
        await api.history()
    assert len(api.requests) < 30


async def test_history_as_html() -> None:
    """A log-in page in place of data is named as such."""
    api = Api(httpx.Response(200, html="<html>log in</html>"))
    with pytest.raises(
        RestError, match=r"http://data\.test/v2/stocks/quotes answered with no page"
    ):
        await api.history()


@pytest.mark.parametrize("symbols", ["*", "", [], ["AMD", "*"]])
async def test_history_is_by_symbol(symbols: Any) -> None:
    """What names no symbols never reaches the network."""
    api = Api(page())
    with pytest.raises(BadInputError):
        await api.history(symbols)
    with pytest.raises(BadInputError):
        await api.history(feed="overnight")
    assert api.requests == []


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (403, {"message": "subscription does not permit querying recent SIP data"}),
        (403, {"code": 42210000, "message": "no"}),
        (422, {"code": 42210000, "message": "Subscription does not permit recent SIP data."}),
    ],
)
async def test_data_that_is_too_fresh_for_the_plan(status: int, body: Any) -> None:
    """Recent SIP data without the plan has an error of its own, raised at once."""
    api = Api(httpx.Response(status, json=body))
    with pytest.raises(RecentDataError, match="older") as caught:
        await api.history(feed="sip")
    assert caught.value.status == status
    assert len(api.requests) == 1


# -- latest, clock -----------------------------------------------------------------------


async def test_latest_by_symbol() -> None:
    """Each symbol has its message; those without a readable one, or not asked for, are absent."""
    rows = {"AMD": ITEM, "NVDA": None, "MSFT": {"bp": "x"}, "TSLA": ITEM}
    api = Api(httpx.Response(200, json={"quotes": rows}))
    found = await api.rest.latest("quotes", ["NVDA", "MSFT", "AMD"], feed="sip")
    assert list(found) == ["AMD"]
    assert (found["AMD"].symbol, found["AMD"].timestamp) == ("AMD", ITEM["t"])
    with pytest.raises(BadInputError):
        await api.rest.latest("statuses", "AMD", feed="sip")
    with pytest.raises(BadInputError):
        await api.rest.latest("quotes", "AMD", feed="test")
    assert len(api.requests) == 1


async def test_the_market_clock_is_on_the_trading_host() -> None:
    """It comes as it is, from the other host."""
    api = Api(httpx.Response(200, json=MARKET_CLOCK | {"new": 1}))
    assert await api.rest.market_clock() == MARKET_CLOCK
    assert [str(request.url) for request in api.requests] == ["http://trading.test/v2/clock"]


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"is_open": "yes"}'])
async def test_a_market_clock_of_another_shape(body: bytes) -> None:
    """What is no clock raises RestError with the variable to check."""
    api = Api(httpx.Response(200, content=body))
    with pytest.raises(RestError, match="ALPACA_NB_TRADING_URL"):
        await api.rest.market_clock()


async def test_the_servers_time() -> None:
    """The Date of each answer, good or bad, stands between our times of asking and hearing."""
    api = Api(limit(9, 60, status=404), LATEST)
    assert api.rest.server_time is None
    with pytest.raises(RestError):
        await api.latest()
    now_ns = api.clock.now_ns()
    expected = (SERVER_S * 1_000_000_000, now_ns, now_ns)
    assert api.rest.server_time == expected
    await api.latest()
    assert api.rest.server_time == expected


@pytest.mark.parametrize("date", ["", "noon", "Mon, 99 Foo 2026 99:99:99 GMT"])
async def test_an_odd_date_is_no_time(date: str) -> None:
    """A Date that is none says nothing and breaks nothing."""
    api = Api(httpx.Response(200, json={"quotes": {}}, headers={"Date": date}))
    assert await api.latest() == {}
    assert api.rest.server_time is None


# -- limits and trouble ------------------------------------------------------------------


async def test_no_request_goes_out_when_none_is_left() -> None:
    """The request after the last one waits for the reset, told by the server's own clock."""
    api = Api(limit(1, 40), limit(0, 30), LATEST)
    for _ in range(3):
        await api.latest()
    assert api.clock.slept == [30]


async def test_throttled_until_the_reset() -> None:
    """429 waits as long as the headers say and asks again."""
    api = Api(limit(0, 17, status=429), LATEST)
    assert "AMD" in await api.latest()
    assert api.clock.slept == [17]


async def test_throttled_without_a_reset() -> None:
    """429 without headers waits longer each time, five tries in all."""
    api = Api(THROTTLED)
    with pytest.raises(RestError, match="too many requests") as caught:
        await api.latest()
    assert caught.value.status == 429
    assert api.clock.slept == [1, 2, 4, 8]
    assert len(api.requests) == 5


@pytest.mark.parametrize(
    "trouble",
    [*(httpx.Response(status) for status in (500, 502, 503, 504)), httpx.ConnectError("no"),
     httpx.ReadTimeout("late"), httpx.RemoteProtocolError("cut"), httpx.DecodingError("gzip")],
)  # fmt: skip
async def test_trouble_is_tried_again(trouble: Outcome) -> None:
    """A server in trouble and a lost connection get three more tries with growing waits."""
    api = Api(trouble, trouble, trouble, LATEST)
    assert "AMD" in await api.latest()
    assert api.clock.slept == [1, 2, 4]
    api = Api(trouble)
    with pytest.raises(RestError, match=r"http://data\.test"):
        await api.latest()
    assert len(api.requests) == 4


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 422, 302, 204])
async def test_a_refusal_is_final(status: int) -> None:
    """What will be refused again is raised at once, in one sentence without keys."""
    api = Api(httpx.Response(status, json={"message": "not\nyou, SECRET-IN-TESTS"}))
    with pytest.raises(RestError) as caught:
        await api.latest()
    assert caught.value.status == status
    assert len(api.requests) == 1
    assert "\n" not in str(caught.value)
    assert "IN-TESTS" not in str(caught.value)


async def test_two_requests_at_a_time(settle: Callable[[], Any]) -> None:
    """However many ask, two requests are on their way; a cancelled one makes room."""
    running: list[int] = []
    release = asyncio.Event()

    async def answer(request: httpx.Request) -> httpx.Response:
        running.append(1)
        await release.wait()
        return httpx.Response(200, json={"quotes": {"AMD": ITEM}})

    rest = RestClient(CREDENTIALS, transport=httpx.MockTransport(answer))
    tasks = [asyncio.ensure_future(rest.latest("quotes", "AMD", feed="iex")) for _ in range(5)]
    await settle()
    assert len(running) == 2
    tasks[0].cancel()
    await settle()
    assert len(running) == 3
    release.set()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(done[0], asyncio.CancelledError)
    assert all("AMD" in each for each in done[1:])  # type: ignore[operator]


# -- where it is -------------------------------------------------------------------------


async def test_the_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument, else the variable, else Alpaca; trading is on paper unless said otherwise."""
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(f"{request.url.scheme}://{request.url.netloc.decode()}")
        return httpx.Response(200, json={"quotes": {}} | MARKET_CLOCK)

    async def ask(**options: Any) -> list[str]:
        rest = RestClient(CREDENTIALS, transport=httpx.MockTransport(answer), **options)
        await rest.latest("quotes", "AMD", feed="iex")
        await rest.market_clock()
        return asked[-2:]

    alpaca = "https://data.alpaca.markets"
    assert await ask() == [alpaca, "https://paper-api.alpaca.markets"]
    assert await ask(paper=False) == [alpaca, "https://api.alpaca.markets"]
    monkeypatch.setenv("ALPACA_NB_DATA_URL", "http://a.test:8000/")
    monkeypatch.setenv("ALPACA_NB_TRADING_URL", "http://b.test")
    assert await ask() == ["http://a.test:8000", "http://b.test"]
    assert await ask(data_url="http://c.test", trading_url="http://d.test") == [
        "http://c.test",
        "http://d.test",
    ]


@pytest.mark.parametrize("url", ["a.test", "ws://a.test", "http://", "http://a.test:0", "http://["])
def test_an_address_that_is_none(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad address is found at once and names the variable that it may have come from."""
    with pytest.raises(BadInputError, match="ALPACA_NB_TRADING_URL"):
        RestClient(CREDENTIALS, trading_url=url)
    monkeypatch.setenv("ALPACA_NB_DATA_URL", url)
    with pytest.raises(BadInputError, match="ALPACA_NB_DATA_URL"):
        RestClient(CREDENTIALS)


def test_an_address_with_a_password_does_not_show_it() -> None:
    """Neither the repr nor an error shows user information in an address."""
    transport = httpx.MockTransport(lambda request: httpx.Response(404))
    rest = RestClient(CREDENTIALS, data_url="http://me:hidden@data.test", transport=transport)
    with pytest.raises(RestError) as caught:
        LatestQuote(rest).get("AMD")
    assert "hidden" not in repr(rest) + str(caught.value)


# -- over loopback -----------------------------------------------------------------------

Serve = Callable[[asyncio.StreamWriter], Any]


class Server:
    """A raw server: what it does with a connection's requests is the test's."""

    def __init__(self, *scripts: Serve) -> None:
        self.scripts = list(scripts)
        self.connections = 0
        self.open = 0
        self.port = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
                await script(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Serve, and give the address."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            self.port = server.sockets[0].getsockname()[1]
            yield f"http://127.0.0.1:{self.port}"


BODY = json.dumps({"quotes": {"AMD": ITEM}}).encode()


def head(length: int = len(BODY)) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length


async def good(writer: asyncio.StreamWriter) -> None:
    writer.write(head() + BODY)


async def cut(writer: asyncio.StreamWriter) -> None:
    writer.write(head() + BODY[:50])
    await writer.drain()
    writer.transport.abort()


async def mute(writer: asyncio.StreamWriter) -> None:
    writer.write(head())


async def trickle(writer: asyncio.StreamWriter) -> None:
    writer.write(head(10_000))
    while not writer.transport.is_closing():
        writer.write(b" ")
        await asyncio.sleep(0.02)


async def endless(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not writer.transport.is_closing():
        writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
        await writer.drain()


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


def over_loopback(url: str) -> RestClient:
    return RestClient(CREDENTIALS, data_url=url, clock=SkippingClock())


async def ask(rest: RestClient, count: int = 1) -> None:
    for _ in range(count):
        assert "AMD" in await rest.latest("quotes", "AMD", feed="iex")


async def test_one_connection_is_kept() -> None:
    """Requests share a connection; after `aclose`, as often as it is called, there is a new one."""
    server = Server(good)
    async with server.running() as url:
        rest = over_loopback(url)
        await rest.aclose()
        await ask(rest, 3)
        assert server.connections == 1
        await rest.aclose()
        await rest.aclose()
        await eventually(lambda: server.open == 0)
        await ask(rest)
        assert server.connections == 2
        await rest.aclose()


async def test_a_client_that_nobody_holds_leaves_no_connection() -> None:
    """Without `aclose` too, connections end with the client that made them."""
    server = Server(good)
    async with server.running() as url:
        rest = over_loopback(url)
        await ask(rest)
        assert server.open == 1
        del rest
        gc.collect()
        await eventually(lambda: server.open == 0)


async def test_a_client_on_two_loops() -> None:
    """A cell's request and one in the background may share a client; `aclose` ends both."""
    server = Server(good)
    async with server.running() as url:
        rest = over_loopback(url)
        for _ in range(2):
            await asyncio.to_thread(FEED_THREAD.run, ask(rest))
            await ask(rest)
        assert (server.connections, server.open) == (2, 2)
        await rest.aclose()
        await eventually(lambda: server.open == 0)


@pytest.mark.parametrize("trouble", [cut, mute, trickle])
async def test_an_answer_that_does_not_end(trouble: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut in the middle, mute, or trickling for ever: given up, asked again, then answered."""
    monkeypatch.setattr(rest_module, "TIMEOUT_S", 0.2)
    monkeypatch.setattr(rest_module, "ANSWER_TIMEOUT_S", 0.4)
    server = Server(trouble, good)
    async with server.running() as url:
        rest = over_loopback(url)
        await ask(rest)
        assert server.connections == 2
        await rest.aclose()


async def test_an_answer_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer larger than any page is left off, once."""
    monkeypatch.setattr(rest_module, "ANSWER_BYTES", 1_000_000)
    server = Server(endless)
    async with server.running() as url:
        rest = over_loopback(url)
        with pytest.raises(RestError, match="too long"):
            await ask(rest)
        assert server.connections == 1
        await eventually(lambda: server.open == 0)
        await rest.aclose()


async def test_nobody_listens() -> None:
    """A port where nobody listens is named with the system's reason and the way out."""
    async with Server(good).running() as url:
        pass
    with pytest.raises(RestError, match=rf"{url} \(Connection refused\).*ALPACA_NB_DATA_URL"):
        await ask(over_loopback(url))


async def test_no_proxy_to_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback is reached directly, whatever proxies the environment names."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with Server(good).running() as url:
        rest = over_loopback(url)
        await ask(rest)
        await rest.aclose()


# -- the guide's face --------------------------------------------------------------------


def latest(answer: Callable[[httpx.Request], httpx.Response]) -> LatestQuote:
    transport = httpx.MockTransport(answer)
    rest = RestClient(CREDENTIALS, data_url="http://data.test", transport=transport)
    return LatestQuote(rest)


def test_one_symbol() -> None:
    """The latest quote comes as the model that a handler gets, with keys in headers only."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"quotes": {"AMD": ITEM}})

    quote = latest(answer).get("amd")
    assert isinstance(quote, QuoteData)
    assert (quote.symbol, quote.bid_price, quote.ask_price) == ("AMD", 161.44, 162.0)
    assert quote.timestamp_ns % 10 == 1
    (request,) = seen
    assert str(request.url) == "http://data.test/v2/stocks/quotes/latest?symbols=AMD&feed=iex"
    assert request.headers["APCA-API-KEY-ID"] == "KEY-IN-TESTS"
    assert "IN-TESTS" not in str(request.url)


def test_several_symbols() -> None:
    """A list of symbols gives a list of quotes in its order."""

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.params["symbols"] == "B,A"
        return httpx.Response(200, json={"quotes": {"A": ITEM, "B": {**ITEM, "bp": 1}}})

    quotes: Any = latest(answer).get(["B", "A"])
    assert [quote.symbol for quote in quotes] == ["B", "A"]


@pytest.mark.parametrize(
    ("status", "expected"),
    [(401, "check the API key"), (403, "plan includes"), (404, "check the symbol"),
     (429, "too many requests"), (500, "try again later")],
)  # fmt: skip
def test_a_refusal_says_what_to_do(status: int, expected: str) -> None:
    """Each refusal is one sentence with the server's words and the way out, without keys."""
    answer = httpx.Response(status, json={"message": "forbidden."})
    with pytest.raises(RestError, match=expected) as caught:
        latest(lambda request: answer).get("AMD")
    assert caught.value.status == status
    assert "forbidden" in str(caught.value)
    assert "IN-TESTS" not in str(caught.value)


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(200, text="<html>log in</html>"),
        httpx.Response(200, json=[]),
        httpx.Response(200, json={"quotes": None}),
        httpx.Response(200, json={"quotes": {"AMD": None}}),
        httpx.Response(200, json={"quotes": {"AMD": {"bp": "x"}}}),
        httpx.Response(200, json={"quotes": {"AMD": {**ITEM, "t": "noon"}}}),
        httpx.Response(200, json={"quotes": {"MSFT": ITEM}}),
    ],
)
def test_an_answer_of_another_shape(response: httpx.Response) -> None:
    """HTML, a list, no quote and a broken quote all raise RestError."""
    with pytest.raises(RestError):
        latest(lambda request: response).get("AMD")


def test_nobody_answers() -> None:
    """An unreachable host is named."""

    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(RestError, match=r"http://data\.test"):
        latest(answer).get("AMD")


@pytest.mark.parametrize(
    ("symbol", "feed"), [("*", "iex"), ("", "iex"), ("AMD", "nasdaq"), ([], "iex")]
)
def test_bad_input(symbol: Any, feed: str) -> None:
    """A bad symbol or feed never reaches the network."""
    with pytest.raises(BadInputError):
        latest(lambda request: pytest.fail("asked")).get(symbol, feed)


@pytest.mark.parametrize(
    ("latest_of", "channel", "item", "model"),
    [
        (LatestTrade, "trades", {"t": "2026-09-21T14:13:20Z", "p": 1, "s": 2, "i": 3}, TradeData),
        (LatestBar, "bars", {"t": "2026-09-21T14:13:00Z", "o": 1, "h": 1, "l": 1, "c": 1, "v": 1},
         BarData),
    ],
)  # fmt: skip
def test_latest_trades_and_bars(latest_of: Any, channel: str, item: Any, model: type) -> None:
    """Trades and bars are asked for in the same way, and come as a handler's models."""
    api = Api(httpx.Response(200, json={channel: {"AMD": item}}))
    assert type(latest_of(api.rest).get("AMD")) is model
    assert api.requests[0].url.path == f"/v2/stocks/{channel}/latest"


@pytest.mark.parametrize("trouble", [THROTTLED, httpx.Response(503), httpx.ConnectError("no")])
def test_a_cell_does_not_wait_for_better_times(trouble: Outcome) -> None:
    """What would be worth a wait in the background is raised at once in a cell."""
    api = Api(trouble)
    with pytest.raises(RestError):
        LatestQuote(api.rest).get("AMD")
    assert (len(api.requests), api.clock.slept) == (1, [])


def test_a_cell_does_not_wait_for_the_limit() -> None:
    """With no request left, the next one is raised without being sent."""
    api = Api(limit(0, 30))
    LatestQuote(api.rest).get("AMD")
    with pytest.raises(RestError, match="too many requests"):
        LatestQuote(api.rest).get("AMD")
    assert len(api.requests) == 1


def test_a_call_on_the_feed_thread_is_refused() -> None:
    """It would wait for itself for ever; it raises instead."""

    async def call() -> None:
        LatestQuote(Api(LATEST).rest).get("AMD")

    with pytest.raises(RuntimeError, match="feed thread"):
        FEED_THREAD.run(call(), timeout_s=5)
