"""No key shows in what an error leaves behind, however much of it somebody prints."""

from __future__ import annotations

import ast
import asyncio
import functools
import gc
import logging
import re
import traceback
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import CodeType, FunctionType, ModuleType, TracebackType
from typing import Any

import httpx
import pytest
from IPython.core.ultratb import VerboseTB

import alpaca_nb
from alpaca_nb.credentials import Credentials, Secret, find_credentials, require_credentials
from alpaca_nb.errors import AlpacaError, BadInputError, ConnectError, RestError, StreamError
from alpaca_nb.feed.async_client import AsyncStreamClient
from alpaca_nb.feed.client import StreamClient
from alpaca_nb.feed.rest import LatestQuote, RestClient
from alpaca_nb.feed.transport import connect_websocket
from alpaca_nb.sim.plans import Plan
from alpaca_nb.sim.server import LocalSimulator

KEY, SECRET = "PKKEYINTESTS0000", "sEcReTiNtEsTs0000"
CREDENTIALS = Credentials(Secret(KEY), Secret(SECRET))


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and all that it hangs on, also what a traceback would not print."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += [each.__cause__, each.__context__]


def without_tests(frames: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame that is none of this file's, which names the keys."""
    while frames is not None and Path(frames.tb_frame.f_code.co_filename) == Path(__file__):
        frames = frames.tb_next
    return frames


def shown(error: BaseException) -> str:
    """All that anybody prints of an error: texts, attributes, tracebacks with local variables."""
    texts: list[str] = []
    for each in causes(error):
        frames = without_tests(each.__traceback__)
        told = traceback.TracebackException(type(each), each, frames, capture_locals=True)
        texts += [str(each), repr(each), repr(each.args), repr(vars(each)), *told.format()]
        if frames is not None:
            verbose = VerboseTB(include_vars=True).text(type(each), each, frames)
            texts.append(re.sub(r"\x1b\[[0-9;]*m", "", verbose))
    return "\n".join(texts)


def assert_hidden(text: str) -> None:
    """No key, secret or token of these tests is in the text."""
    lines = text.splitlines()
    assert [line for line in lines if re.search("KEYINTESTS|sEcReTiNtEsTs", line)] == []


def test_the_check_can_fail() -> None:
    """A key in a local variable of a frame in between is found."""

    def leak(secret: str) -> None:
        re.compile("(" + secret)

    with pytest.raises(re.error) as caught:
        leak(SECRET)
    assert SECRET in shown(caught.value)


# -- REST --------------------------------------------------------------------------------


def respond(*args: Any, **kwargs: Any) -> Callable[[httpx.Request], httpx.Response]:
    return lambda request: httpx.Response(*args, **kwargs)


def fail(kind: type[httpx.RequestError]) -> Callable[[httpx.Request], httpx.Response]:
    def answer(request: httpx.Request) -> httpx.Response:
        headers = dict(request.headers)
        raise kind(f"with the request {headers}", request=request)

    return answer


@pytest.mark.parametrize(
    "answer",
    [respond(401, json={"message": f"unknown key {KEY}"}), respond(403, text=f"<p>{SECRET}</p>"),
     respond(200, text="<p>log in</p>"), respond(200, json={"quotes": 5}), respond(429),
     respond(500), fail(httpx.ConnectError), fail(httpx.ReadTimeout),
     fail(httpx.LocalProtocolError), respond(200, headers={"Content-Encoding": "gzip"}, text="x")],
)  # fmt: skip
def test_a_failed_request(answer: Callable[[httpx.Request], httpx.Response]) -> None:
    """Whatever the server says and the library raises, the error holds no key."""
    rest = RestClient(CREDENTIALS, data_url="http://a.test", transport=httpx.MockTransport(answer))
    with pytest.raises(RestError) as caught:
        LatestQuote(rest).get("AMD")
    assert_hidden(shown(caught.value) + repr(rest))


@asynccontextmanager
async def server(reply: bytes) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """A server that sends the same to every request: its address, and whether it was asked."""
    asked = asyncio.Event()
    serving: set[Any] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        with suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            asked.set()
            writer.write(reply)
            await reader.read()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        yield "http://{}:{}".format(*listening.sockets[0].getsockname()), asked
        await asyncio.gather(*serving)


@pytest.mark.parametrize("secret", [f"{SECRET}\nx", f"{SECRET}é", f"{SECRET}\udcff"])
async def test_a_key_that_no_header_can_hold(secret: str) -> None:
    """The library's error quotes such a key; ours does not."""
    hidden = Credentials(Secret(KEY), Secret(secret))
    del secret
    async with server(b"") as (url, _):
        rest = RestClient(hidden, data_url=url)
        with pytest.raises(RestError) as caught:
            await rest.latest("quotes", "AMD", feed="iex", patient=False)
        await rest.aclose()
    assert_hidden(shown(caught.value))


async def test_a_cancelled_request() -> None:
    """Interrupted while it waits for an answer, the library's frames do not come along."""
    async with server(b"") as (url, asked):
        rest = RestClient(CREDENTIALS, data_url=url)
        task = asyncio.ensure_future(rest.latest("quotes", "AMD", feed="iex"))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        await rest.aclose()
    told = shown(caught.value)
    assert "_ask" in told
    assert "httpcore" not in told
    assert_hidden(told)


async def test_no_request_is_logged_with_its_keys(caplog: pytest.LogCaptureFixture) -> None:
    """On the lowest level of every logger, requests are without their headers."""
    caplog.set_level(logging.DEBUG)
    async with server(b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"quotes":{}}') as (url, _):
        rest = RestClient(CREDENTIALS, data_url=url)
        assert await rest.latest("quotes", "AMD", feed="iex") == {}
        await rest.aclose()
    assert "HTTP Request: GET" in caplog.text
    assert "send_request_headers" in caplog.text
    assert_hidden(caplog.text)


# -- where keys are passed in ------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        functools.partial(find_credentials, KEY),
        functools.partial(require_credentials, None, SECRET),
        functools.partial(require_credentials, KEY, f"{SECRET}é"),
        functools.partial(require_credentials, KEY, oauth_token=SECRET),
        functools.partial(require_credentials, oauth_token=f"{SECRET}\n{SECRET}"),
    ],
    ids=["no secret", "no key", "odd secret", "both", "odd token"],
)
def test_keys_that_cannot_be_used(call: Callable[[], Any]) -> None:
    """The error about bad keys holds none of them, nor do the frames that it passes."""
    with pytest.raises(AlpacaError) as caught:
        call()
    assert_hidden(shown(caught.value))


@pytest.mark.parametrize("broken", ["APCA_API_KEY_ID", "APCA_API_SECRET_KEY"])
def test_keys_of_the_environment_that_cannot_be_used(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for those of the environment."""
    monkeypatch.setenv("APCA_API_KEY_ID", KEY)
    monkeypatch.setenv("APCA_API_SECRET_KEY", SECRET)
    monkeypatch.setenv(broken, " ")
    with pytest.raises(AlpacaError) as caught:
        require_credentials()
    assert_hidden(shown(caught.value))


def test_no_line_names_the_environment_as_a_whole() -> None:
    """A traceback with variables would print all of it, the keys among it."""
    modules = Path(alpaca_nb.__file__).parent.rglob("*.py")
    assert not [path.name for path in modules if re.search(r"environ\b", _code(path))]


def _code(path: Path) -> str:
    return ast.unparse(ast.parse(path.read_text("utf-8")))


# -- streams -----------------------------------------------------------------------------


REFUSED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
MOVED = b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"
NO_WEBSOCKET = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"


def connecting(url: str) -> Coroutine[Any, Any, Any]:
    """A handshake with keys in its headers."""
    return connect_websocket(
        "ws" + url.removeprefix("http"),
        headers=CREDENTIALS.headers,
        on_frames=lambda frames: None,
        open_timeout_s=0.2,
    )


@pytest.mark.parametrize("reply", [REFUSED, MOVED, NO_WEBSOCKET, b"SSH-2.0\r\n\r\n", b""])
async def test_a_handshake_that_fails(reply: bytes) -> None:
    """The library's request, with keys in its headers, does not come along with the error."""
    async with server(reply) as (url, _):
        with pytest.raises(ConnectError) as caught:
            await connecting(url)
    assert_hidden(shown(caught.value))


async def test_a_handshake_with_nobody() -> None:
    """The same where nobody listens."""
    async with server(b"") as (url, _):
        pass
    with pytest.raises(ConnectError) as caught:
        await connecting(url)
    assert_hidden(shown(caught.value))


async def test_a_cancelled_handshake() -> None:
    """The same when the wait for an answer is interrupted."""
    async with server(b"") as (url, asked):
        task = asyncio.ensure_future(connecting(url))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
    told = shown(caught.value)
    assert "connect_websocket" in told
    assert "websockets/asyncio" not in told
    assert_hidden(told)


def held(thing: Any) -> Iterator[Any]:
    """Every object that can be reached from a thing, but for what a Secret hides."""
    seen: set[int] = set()
    waiting = [thing]
    while waiting:
        each = waiting.pop()
        # Nothing of ours is in a compiler and what it has made.
        if type(each).__module__.startswith(("numba", "llvmlite", "weakref")):
            continue
        if type(each) in (weakref.ProxyType, weakref.CallableProxyType):
            continue
        # A logger leads to the records that pytest keeps, and to the server that they tell of.
        if id(each) in seen or isinstance(each, type | ModuleType | CodeType | logging.Logger):
            continue
        seen.add(id(each))
        yield each
        if isinstance(each, FunctionType):
            if each.__qualname__ != "Secret.__init__.<locals>.<lambda>":
                waiting += each.__closure__ or ()
        else:
            waiting += gc.get_referents(each)


OPTIONS = pytest.mark.parametrize("options", [{}, {"header_auth": True}, {"codec": "json"}])
KEYS = pytest.mark.parametrize(
    "keys", [{"api_key": KEY, "api_secret": SECRET}, {"oauth_token": SECRET}], ids=["keys", "token"]
)


@OPTIONS
@KEYS
@pytest.mark.parametrize("rules", [{"key": "other", "secret": "other"}, {"plan": Plan.basic()}])
def test_a_refused_stream(keys: Any, options: Any, rules: Any) -> None:
    """Keys that the server refuses are in neither the error nor the client."""
    with LocalSimulator(speed=20, **rules) as simulator:
        client = StreamClient("sip", url=f"{simulator.url}/v2/sip", **keys, **options)
        with pytest.raises(StreamError) as caught:
            client.connect()
    told = [
        shown(error) for error in (caught.value, *client.errors) if isinstance(error, Exception)
    ]
    assert_hidden("\n".join([*told, repr(client), repr(vars(client)), repr(client.status)]))


@KEYS
async def test_a_refused_async_stream(keys: Any) -> None:
    """The same for the async client."""
    with LocalSimulator(speed=20, key="other", secret="other") as simulator:
        client = AsyncStreamClient(url=f"{simulator.url}/v2/iex", **keys)
        with pytest.raises(StreamError) as caught:
            await client.connect()
    assert_hidden(shown(caught.value) + repr(client) + repr(vars(client)))


@OPTIONS
@KEYS
def test_nothing_that_a_client_holds_is_a_key(keys: Any, options: Any) -> None:
    """Once connected, the keys are in no attribute, queue or waiting call of any object of it."""
    with LocalSimulator(speed=20) as simulator:
        client = StreamClient(url=f"{simulator.url}/v2/iex", **keys, **options)
        frame = client.frame("quotes", "AAPL")
        with client:
            frame.wait(1, 20)
            everything = list(held(client))
    assert any(type(each).__name__ in ("WebSocket", "PicowsConnection") for each in everything)
    texts = [each for each in everything if isinstance(each, str | bytes | bytearray)]
    assert_hidden("\n".join(map(str, texts)))


@OPTIONS
@KEYS
def test_no_stream_is_logged_with_its_keys(
    keys: Any, options: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever sets every logger there is to its lowest level sees no keys in the log."""
    for name in [None, *logging.root.manager.loggerDict]:
        caplog.set_level(logging.DEBUG, name)
    with LocalSimulator(speed=20, key=KEY if "api_key" in keys else "other", secret=SECRET) as it:
        client = StreamClient(url=f"{it.url}/v2/iex", **keys, **options)
        frame = client.frame("quotes", "AAPL")
        with client:
            frame.wait(1, 20)
    assert "connection open" in caplog.text
    assert_hidden(caplog.text)


BAD_OPTIONS = [{"feed": "nasdaq"}, {"url": "http://x"}, {"codec": "xml"}, {"handler_limit": 0}]


@pytest.mark.parametrize("options", BAD_OPTIONS)
@KEYS
def test_a_client_that_cannot_be_made(keys: Any, options: Any) -> None:
    """An error about something else does not show the keys that were passed along."""
    with pytest.raises(BadInputError) as caught:
        StreamClient(**keys, **options)
    assert_hidden(shown(caught.value))
    with pytest.raises((BadInputError, TypeError)) as caught_too:
        AsyncStreamClient(**keys, **options)
    assert_hidden(shown(caught_too.value))


@pytest.mark.parametrize("options", [{"speed": -1}, {"host": ""}, {"plan": 1}])
def test_a_simulator_that_cannot_be_made(options: Any) -> None:
    """The simulator's own keys may be somebody's real ones."""
    with pytest.raises(BadInputError) as caught:
        LocalSimulator(key=KEY, secret=SECRET, **options)
    assert_hidden(shown(caught.value))


def test_a_simulator_does_not_show_its_keys() -> None:
    """Neither its repr nor its attributes do."""
    simulator = LocalSimulator(key=KEY, secret=SECRET)
    assert_hidden(repr(simulator) + repr(vars(simulator)))
