"""Alpaca's REST interface, as far as streaming needs it: history, latest, the market's clock."""

from __future__ import annotations

import asyncio
import os
import random
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar, Final, Generic, NamedTuple, TypedDict, TypeVar, overload
from urllib.parse import urlsplit

import httpx
import msgspec

from alpaca_nb.clock import SYSTEM_CLOCK, Clock
from alpaca_nb.credentials import Credentials
from alpaca_nb.errors import BadInputError, RecentDataError, RestError
from alpaca_nb.feed.history import (
    PAGE_ROWS,
    Page,
    PageGuard,
    history_params,
    read_latest,
    read_page,
)
from alpaca_nb.feed.models import BarData, QuoteData, TradeData, to_model
from alpaca_nb.feed.pace import Budget, Waits
from alpaca_nb.feed.thread import FEED_THREAD
from alpaca_nb.feed.transport import display_url, is_loopback
from alpaca_nb.wire.endpoints import DATA_HOST, LIVE_TRADING_HOST, PAPER_TRADING_HOST
from alpaca_nb.wire.messages import Message, check_symbols

DATA_URL_VARIABLE = "ALPACA_NB_DATA_URL"
TRADING_URL_VARIABLE = "ALPACA_NB_TRADING_URL"

SYMBOLS_PER_REQUEST: Final = 100
"""Keeps the address of a request short enough for every server and proxy on the way."""
TIMEOUT_S: Final = 10.0
"""For the connection, and for each silence within an answer."""
ANSWER_TIMEOUT_S: Final = 60.0
"""For an answer as a whole: one that trickles in for ever is none."""
ANSWER_BYTES: Final = 64_000_000
"""The largest answer that is read; a full page has about one and a half million bytes."""
_PARALLEL: Final = 2
_TROUBLE: Final = (None, 500, 502, 503, 504)
"""Outcomes that another try may change; None is no answer at all."""

_LATEST_FEEDS = ("iex", "sip", "delayed_sip", "otc", "boats", "overnight")

Params = dict[str, str | int]


class ServerTime(NamedTuple):
    """What a server's clock showed, to the second, between two moments of ours."""

    server_ns: int
    """The whole second (ns since 1970, UTC) in which the answer was made."""
    sent_ns: int
    """When the request was sent, by our clock."""
    answered_ns: int
    """When the answer began, by our clock."""


class MarketClock(TypedDict):
    """What `GET /v2/clock` says; times are RFC 3339 with New York's offset."""

    timestamp: str
    is_open: bool
    next_open: str
    next_close: str


class RestClient:
    """Requests to the market-data and trading hosts.

    Where these are is passed in, else told by ALPACA_NB_DATA_URL and ALPACA_NB_TRADING_URL,
    else Alpaca. Connections are made with the first request and kept, for each event loop
    that asks. Two requests run at a time, and no more than the server's headers
    allow: the others wait for their turn.

    A server in trouble, a lost connection and throttling are waited out and tried again; a
    refusal is raised at once. Unless said otherwise, methods raise RestError, and
    BadInputError before anything is asked.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        data_url: str | None = None,
        trading_url: str | None = None,
        paper: bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Clock = SYSTEM_CLOCK,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._credentials = credentials
        self._data = _Host(data_url, DATA_URL_VARIABLE, DATA_HOST, clock)
        trading_host = PAPER_TRADING_HOST if paper else LIVE_TRADING_HOST
        self._trading = _Host(trading_url, TRADING_URL_VARIABLE, trading_host, clock)
        self._transport = transport
        self._clock = clock
        self._uniform = uniform
        self._connections: dict[asyncio.AbstractEventLoop, _Connections] = {}
        self.server_time: ServerTime | None = None
        """What the last answer said about the server's clock."""

    def __repr__(self) -> str:
        return f"RestClient({display_url(self._data.url)})"

    async def history(
        self,
        channel: str,
        symbols: str | Iterable[str],
        start_ns: int,
        end_ns: int,
        *,
        feed: str,
        limit: int = PAGE_ROWS,
    ) -> AsyncIterator[Page]:
        """The quotes, trades or minute bars of a time span, both ends included, page by page.

        `feed` is the stream's; its history is asked for under the name that REST has for it
        (`history_feed`). Symbols come a hundred at a time, each hundred in order of symbol
        and time. Raises RecentDataError when the plan has no right to data this fresh.
        """
        names = _named(symbols)
        for chunk in _chunks(names):
            params = history_params(channel, chunk, start_ns, end_ns, feed=feed, limit=limit)
            guard = PageGuard()
            while True:
                answer = await self._get(self._data, f"/v2/stocks/{channel}", params)
                page = read_page(
                    answer.body,
                    channel,
                    chunk,
                    where=answer.where,
                    remaining=self._data.budget.remaining,
                )
                guard.check(page)
                if page.messages or page.unreadable:
                    yield page
                if page.next_token is None:
                    break
                params["page_token"] = page.next_token

    async def latest(
        self, channel: str, symbols: str | Iterable[str], *, feed: str, patient: bool = True
    ) -> dict[str, Message[str]]:
        """The latest quote, trade or minute bar by symbol; symbols that have none are left out.

        Not `patient`, it raises where it would wait: for a server in trouble, and for the
        limit of requests.
        """
        names = _named(symbols)
        if channel not in ("quotes", "trades", "bars"):
            raise BadInputError(f"There are no latest {channel}; choose quotes, trades or bars.")
        if feed not in _LATEST_FEEDS:
            raise BadInputError(
                f"There is no feed {feed!r}; choose one of {', '.join(_LATEST_FEEDS)}."
            )
        found: dict[str, Message[str]] = {}
        for chunk in _chunks(names):
            params: Params = {"symbols": ",".join(chunk), "feed": feed}
            path = f"/v2/stocks/{channel}/latest"
            answer = await self._get(self._data, path, params, patient=patient)
            items = read_latest(answer.body, channel, where=answer.where)
            found |= {symbol: items[symbol] for symbol in chunk if symbol in items}
        return found

    async def market_clock(self) -> MarketClock:
        """Whether the core session is open, and when it opens and closes next."""
        answer = await self._get(self._trading, "/v2/clock", {})
        try:
            return msgspec.json.decode(answer.body, type=MarketClock)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise RestError(
                f"{answer.where} answered with something that is no market clock; check the "
                f"variable {TRADING_URL_VARIABLE}."
            ) from None

    async def aclose(self) -> None:
        """Close the connections; a later request makes new ones."""
        connections, self._connections = self._connections, {}
        for each in connections.values():
            await each.close()

    # -- one request -----------------------------------------------------------------------

    async def _get(
        self, host: _Host, path: str, params: Params, *, patient: bool = True
    ) -> _Answer:
        """Ask until there is an answer, a refusal, or no point in asking again."""
        waits = Waits(self._uniform)
        while True:
            if not patient and host.budget.wait_s:
                raise _failure(_Answer(host, path, 429), self._credentials)
            answer = await self._ask(host, path, params)
            if answer.status == 200 and not answer.problem:
                return answer
            wait_s = None
            if answer.status == 429:
                wait_s = waits.after_throttling(host.budget.wait_s)
                if wait_s is not None:
                    host.budget.exhaust(wait_s)
            elif answer.status in _TROUBLE:
                wait_s = waits.after_trouble()
            if wait_s is None or not patient:
                raise _failure(answer, self._credentials)
            await self._clock.sleep(wait_s)

    async def _ask(self, host: _Host, path: str, params: Params) -> _Answer:
        """Ask once, when it is this request's turn."""
        connections = await self._connect()
        async with connections.places:
            while wait_s := host.budget.wait_s:
                await self._clock.sleep(wait_s)
            host.budget.begin()
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    return await self._exchange(connections.client, host, path, params)
            # What comes out of the library holds the request, and with it the keys: neither
            # an error nor its traceback may go on from here.
            except Exception as error:
                return _Answer(host, path, problem=_reason(error))
            except asyncio.CancelledError as error:
                error.__cause__ = error.__context__ = error.__traceback__ = None
                raise error
            finally:
                host.budget.end()

    async def _exchange(
        self, client: httpx.AsyncClient, host: _Host, path: str, params: Params
    ) -> _Answer:
        sent_ns = self._clock.now_ns()
        async with client.stream("GET", host.url + path, params=params) as response:
            answered_ns = self._clock.now_ns()
            server_s = _date_s(response.headers.get("date"))
            if server_s is not None:
                self.server_time = ServerTime(server_s * 1_000_000_000, sent_ns, answered_ns)
            host.budget.note(response.headers, server_s or answered_ns / 1e9)
            body = bytearray()
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > ANSWER_BYTES:
                    return _Answer(host, path, response.status_code, problem="it is too long")
            return _Answer(host, path, response.status_code, bytes(body))

    async def _connect(self) -> _Connections:
        loop = asyncio.get_running_loop()
        if loop not in self._connections:
            if self._transport is None:
                # Reading the certificates takes too long for a loop that has a stream to read.
                client = await asyncio.to_thread(self._make_client)
            else:
                client = self._make_client()
            if loop in self._connections:  # another request was faster
                return self._connections[loop]
            for ended in [each for each in self._connections if each.is_closed()]:
                del self._connections[ended]
            self._connections[loop] = _Connections(self, loop, client)
        return self._connections[loop]

    def _make_client(self) -> httpx.AsyncClient:
        hosts = [urlsplit(host.url).hostname for host in self._hosts if is_loopback(host.url)]
        return httpx.AsyncClient(
            auth=_KeyAuth(self._credentials),
            transport=self._transport,
            # A proxy of the environment cannot reach this machine's own addresses.
            mounts={f"all://{_bracketed(host)}": None for host in hosts},
            timeout=TIMEOUT_S,
        )

    @property
    def _hosts(self) -> tuple[_Host, _Host]:
        return self._data, self._trading


class _Host:
    """One of the two hosts: where it is, and what it lets us ask."""

    def __init__(self, url: str | None, variable: str, default: str, clock: Clock) -> None:
        self.url = _check_url(url or os.getenv(variable) or default, variable)
        self.variable = variable
        self.budget = Budget(clock)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came of asking once; without a status, nothing did."""

    host: _Host
    path: str
    status: int | None = None
    body: bytes = field(default=b"", repr=False)
    problem: str = ""

    @property
    def where(self) -> str:
        """The address, as it may be shown."""
        return display_url(self.host.url + self.path)


class _Connections:
    """Open connections of one event loop, and the places for requests on them."""

    def __init__(
        self, owner: RestClient, loop: asyncio.AbstractEventLoop, client: httpx.AsyncClient
    ) -> None:
        self.client = client
        self.places = asyncio.Semaphore(_PARALLEL)
        self._loop = loop
        # A client that nobody holds any more leaves no connection behind.
        self._leftover = weakref.finalize(owner, _close_elsewhere, client, loop)
        self._leftover.atexit = False

    async def close(self) -> None:
        """Close them, from whichever loop."""
        self._leftover.detach()
        if self._loop is asyncio.get_running_loop():
            await self.client.aclose()
        else:
            _close_elsewhere(self.client, self._loop)


def _close_elsewhere(client: httpx.AsyncClient, loop: asyncio.AbstractEventLoop) -> None:
    if loop.is_running():
        asyncio.run_coroutine_threadsafe(client.aclose(), loop)


class _KeyAuth(httpx.Auth):
    """Puts the keys into a request on its way out, so that nobody else holds them as text."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers.update(self._credentials.headers)
        yield request


# -- what went wrong ---------------------------------------------------------------------

_ADVICE = {
    401: "check the API key and secret; they may have expired",
    403: "check the API key and secret, and whether the plan includes this feed",
    404: "there is nothing at this address; check the symbol",
    422: "check the symbol and the other arguments",
    429: "too many requests; wait a minute",
}
_RECENT = "recent sip data"
_RECENT_CODE = 42210000


def _failure(answer: _Answer, credentials: Credentials) -> RestError:
    """The error for anything but a good answer, in one sentence with the way out."""
    status = answer.status
    if status is None:
        return RestError(
            f"No answer came from {display_url(answer.host.url)} ({answer.problem}); check the "
            f"network and the variable {answer.host.variable}."
        )
    if answer.problem:
        return RestError(f"The answer of {answer.where} is no use: {answer.problem}.")
    code, said = _words(answer.body)
    # Before it is cut: half a key would not be found.
    said = credentials.without_keys(said)[:200]
    told = f"{answer.where} answered HTTP {status}" + (f" ({said})" if said else "")
    if _RECENT in said.lower() or (status == 403 and code == _RECENT_CODE):
        return RecentDataError(
            f"{told}: the plan has no SIP data of the last 15 minutes; ask again when it is "
            "older, or use feed='iex'.",
            status=status,
        )
    trouble = "the server is in trouble; try again later"
    advice = _ADVICE.get(status, trouble if status >= 500 else "the request was refused")
    return RestError(f"{told}: {advice}.", status=status)


def _words(body: bytes) -> tuple[object, str]:
    """Alpaca's code and message in the body of a refusal, if that is what it is."""
    try:
        told = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None, ""
    return told.get("code"), " ".join(str(told.get("message", "")).split())


def _reason(error: BaseException) -> str:
    """Why there was no answer, in the system's words where it has some."""
    if isinstance(error, httpx.TimeoutException):
        return f"silent for {TIMEOUT_S:.0f} s"
    if isinstance(error, TimeoutError):
        return f"not done within {ANSWER_TIMEOUT_S:.0f} s"
    cause: BaseException | None = error
    while cause is not None:
        number = getattr(cause, "errno", None)
        if isinstance(number, int) and number > 0:
            return os.strerror(number)
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__


def _check_url(url: str, variable: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except (ValueError, AttributeError, TypeError):
        usable = False
    if not usable:
        raise BadInputError(
            "The address of the REST interface starts with http:// or https:// and names a host, "
            f"such as {DATA_HOST}; check the variable {variable}."
        )
    return url.rstrip("/")


def _bracketed(host: str | None) -> str:
    return f"[{host}]" if host and ":" in host else str(host)


def _date_s(text: str | None) -> int | None:
    try:
        moment = parsedate_to_datetime(text or "")
    except (ValueError, TypeError, OverflowError):
        return None
    return int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp())


def _named(symbols: str | Iterable[str]) -> tuple[str, ...]:
    names = check_symbols(symbols)
    if "*" in names:
        raise BadInputError("REST is asked by symbol; '*' works on streams only.")
    return names


def _chunks(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), SYMBOLS_PER_REQUEST):
        yield names[start : start + SYMBOLS_PER_REQUEST]


# -- the guide's synchronous face --------------------------------------------------------

ModelT = TypeVar("ModelT", QuoteData, TradeData, BarData)


class _Latest(Generic[ModelT]):
    """The last of something, asked for once: what polling uses."""

    _channel: ClassVar[str]
    _noun: ClassVar[str]

    def __init__(self, rest: RestClient) -> None:
        self._rest = rest

    @overload
    def get(self, symbol: str, feed: str = "iex") -> ModelT: ...

    @overload
    def get(self, symbol: list[str], feed: str = "iex") -> list[ModelT]: ...

    def get(self, symbol: str | list[str], feed: str = "iex") -> ModelT | list[ModelT]:
        """The latest of a symbol, or a list of them for a list of symbols.

        Waits for the answer, but neither for a server in trouble nor for the limit of
        requests. Raises RestError, and BadInputError for a bad symbol or feed. Not for
        async handlers' loops and callbacks on the feed thread: there it raises RuntimeError.
        """
        names = _named(symbol)
        found = FEED_THREAD.run(self._rest.latest(self._channel, names, feed=feed, patient=False))
        models: list[ModelT] = [self._model(name, found.get(name)) for name in names]
        return models[0] if isinstance(symbol, str) else models

    def _model(self, symbol: str, message: Message[str] | None) -> ModelT:
        if message is None:
            raise RestError(f"There is no latest {self._noun} of {symbol} that can be read.")
        return to_model(message)  # type: ignore[return-value]


class LatestQuote(_Latest[QuoteData]):
    """The last quote of a symbol: `api.stock.latest_quote`."""

    _channel, _noun = "quotes", "quote"


class LatestTrade(_Latest[TradeData]):
    """The last trade of a symbol."""

    _channel, _noun = "trades", "trade"


class LatestBar(_Latest[BarData]):
    """The last minute bar of a symbol."""

    _channel, _noun = "bars", "bar"
