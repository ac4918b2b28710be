"""The streaming guide's synchronous face: PyAlpacaAPI and StreamClient.

Thin: every call posts to the feed thread and, where it must answer, waits for it.
"""

from __future__ import annotations

import atexit
import dataclasses
import functools
import math
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from alpaca_nb.clock import SYSTEM_CLOCK
from alpaca_nb.credentials import Credentials, Secret, require_credentials
from alpaca_nb.data.frame import LiveFrame
from alpaca_nb.data.status import SourceOrigin, StreamStatus
from alpaca_nb.errors import AlpacaError, BadInputError, ServerError
from alpaca_nb.feed.handlers import Handler, HandlerError, HandlerThread, check_handler
from alpaca_nb.feed.routes import Route, make_frame
from alpaca_nb.feed.stream import ReconnectPolicy, Stream, stream_url
from alpaca_nb.feed.thread import FEED_THREAD
from alpaca_nb.wire.endpoints import find_endpoint
from alpaca_nb.wire.messages import Channel, Message, check_symbols, find_channel
from alpaca_nb.wire.protocol import Subscriptions

if TYPE_CHECKING:
    from alpaca_nb.feed.rest import LatestQuote, RestClient

STOP_TIMEOUT_S = 1.0

Codec = Literal["msgpack", "json"]


class _Streams:
    """The streams of this process, shared: Alpaca allows one connection per endpoint."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._streams: dict[Any, tuple[Stream, set[int]]] = {}

    def acquire(self, key: Any, holder: int, make: Callable[[], Stream]) -> Stream:
        """The stream for this key, made if nobody holds one yet."""
        with self._lock:
            if key not in self._streams:
                self._streams[key] = (make(), set())
            stream, holders = self._streams[key]
            holders.add(holder)
            return stream

    def release(self, key: Any, holder: int) -> None:
        """Give the stream back; the last to do so closes it."""
        with self._lock:
            stream, holders = self._streams.get(key, (None, set()))
            holders.discard(holder)
            if stream is None or holders:
                return
            del self._streams[key]
        _stop(stream)

    def stop_all(self) -> None:
        """Say goodbye on every connection, before the interpreter ends."""
        with self._lock:
            streams = [stream for stream, _ in self._streams.values()]
            self._streams.clear()
        for stream in streams:
            _stop(stream)


def _stop(stream: Stream) -> None:
    with suppress(TimeoutError):
        FEED_THREAD.run(stream.stop(), timeout_s=STOP_TIMEOUT_S)


_STREAMS = _Streams()
atexit.register(_STREAMS.stop_all)


@dataclasses.dataclass(frozen=True, slots=True)
class _Subscribed:
    """One handler with the route that feeds it."""

    handler: Handler
    route: Route


class StreamClient:
    """Live quotes, trades and bars, as in the streaming guide.

    Every method may be called from any thread, cell or handler. Subscriptions are a
    wish: they may be made before `connect`, return at once, and are kept up across
    reconnects. Clients with the same feed and keys share one connection.
    """

    def __init__(
        self,
        feed: str = "iex",
        *,
        api_key: str | Secret | None = None,
        api_secret: str | Secret | None = None,
        oauth_token: str | Secret | None = None,
        url: str | None = None,
        codec: Codec = "msgpack",
        header_auth: bool = False,
        compression: bool = False,
    ) -> None:
        self._endpoint = find_endpoint(feed)
        self._credentials = require_credentials(api_key, api_secret, oauth_token=oauth_token)
        self._url = stream_url(self._endpoint, url)
        self._options: dict[str, Any] = {
            "codec": codec,
            "header_auth": header_auth,
            "compression": compression,
        }
        self._policy = ReconnectPolicy()
        self._key = (self._url, self._credentials, *self._options.values())
        self._lock = threading.RLock()
        self._stream: Stream | None = None
        self._last_status: StreamStatus | None = None
        self._subscribed: list[_Subscribed] = []
        self._frame_routes: list[Route] = []
        self._handlers = HandlerThread()
        # Made once to find bad options now and not in connect().
        self._make_stream()

    def __repr__(self) -> str:
        return f"StreamClient({self.feed}, {self.status.state})"

    # -- connection --

    def connect(self, *, wait: float | None = None) -> None:
        """Connect, and return once authenticated, or after `wait` seconds at the latest.

        Without `wait` it returns only when the outcome is known; with it, the attempt goes
        on in the background and `status` tells. Raises ConnectError when nobody answers or
        the handshake is refused, and AuthenticationError or PlanError when the keys or the
        plan are. A place taken by another connection (406) and throttling (429) are waited
        out, up to two minutes.
        Nothing is left running when it raises. Does nothing when connected.
        """
        with self._lock:
            newly = self._stream is None
            if self._stream is None:
                stream = _STREAMS.acquire(self._key, id(self), self._make_stream)
                self._stream = stream
                stream.replace([], self._routes)
            stream = self._stream
            stream.policy = self._policy
        try:
            FEED_THREAD.run(stream.start(), timeout_s=wait)
        except TimeoutError:
            return
        except BaseException:
            if newly or stream.status.state == "failed":
                self.disconnect()
            raise

    def disconnect(self) -> None:
        """Close with a proper goodbye, in under a second; may be called at any time.

        Handlers and frames stay: a later `connect` goes on with them.
        """
        with self._lock:
            stream, self._stream = self._stream, None
            if stream is None:
                return
            stream.replace(self._routes, [])
            if stream.authenticated:
                for route in self._frame_routes:
                    assert route.frame is not None
                    route.frame.lost(SYSTEM_CLOCK.now_ns(), "Disconnected on request.")
            self._last_status = stream.status
        _STREAMS.release(self._key, id(self))
        self._handlers.stop()

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.disconnect()

    def is_at(self, url: str) -> bool:
        """Whether this client connects to exactly this address."""
        return self._url == url

    @property
    def feed(self) -> str:
        """The feed's name."""
        return self._endpoint.feed

    @property
    def is_connected(self) -> bool:
        """Whether the stream is up: connected and authenticated."""
        return self._stream is not None and self._stream.status.state == "live"

    @property
    def is_authenticated(self) -> bool:
        """Whether the server accepted the keys on the present connection."""
        return self._stream is not None and self._stream.authenticated

    @property
    def status(self) -> StreamStatus:
        """The stream as it is now: state, feed, rate, lag, counts."""
        stream = self._stream
        if stream is not None:
            return stream.status
        return _ended(self._last_status) or StreamStatus(state="stopped", feed=self.feed)

    # -- reconnect settings, under the guide's names --

    @property
    def reconnect_attempts(self) -> int:
        """Attempts to reconnect since data last flowed."""
        return self._stream.reconnect_attempts if self._stream is not None else 0

    @property
    def max_reconnect_attempts(self) -> int:
        """Attempts before a lost stream gives up."""
        return self._policy.max_attempts

    @max_reconnect_attempts.setter
    def max_reconnect_attempts(self, attempts: int) -> None:
        self._policy.max_attempts = _check_count("max_reconnect_attempts", attempts)

    @property
    def reconnect_delay(self) -> float:
        """Seconds before the first attempt at most; doubles with each."""
        return self._policy.delay_s

    @reconnect_delay.setter
    def reconnect_delay(self, delay_s: float) -> None:
        self._policy.delay_s = _check_seconds("reconnect_delay", delay_s)

    @property
    def max_reconnect_delay(self) -> float:
        """Seconds before any attempt at most."""
        return self._policy.max_delay_s

    @max_reconnect_delay.setter
    def max_reconnect_delay(self, delay_s: float) -> None:
        self._policy.max_delay_s = _check_seconds("max_reconnect_delay", delay_s)

    # -- subscriptions --

    def subscribe(self, channel: str, symbols: str | Iterable[str], handler: Handler) -> None:
        """Call `handler` with each message of a channel; returns at once.

        Handlers run on a thread of their own, in order; several may listen to a symbol.
        What they raise is kept in `errors` and stops nothing. "*" is every symbol.
        """
        check_handler(handler)
        kind = find_channel(channel)
        self._endpoint.check(kind)
        names = frozenset(check_symbols(symbols))
        with self._lock:
            heard: set[str] = set()
            for each in self._handlers_of(kind):
                if each.handler == handler:
                    heard |= each.route.symbols
            if names <= heard:
                return
            route = Route(kind, names - heard, self._deliver_to(handler))
            self._subscribed.append(_Subscribed(handler, route))
            self._replace([], [route])

    def unsubscribe(self, channel: str, symbols: str | Iterable[str]) -> None:
        """Take symbols away from all handlers of a channel; frames keep theirs."""
        kind = find_channel(channel)
        names = frozenset(check_symbols(symbols))
        with self._lock:
            old = [each for each in self._handlers_of(kind) if each.route.symbols & names]
            new = [
                _Subscribed(each.handler, Route(kind, left, each.route.deliver))
                for each in old
                if (left := each.route.symbols - names)
            ]
            self._subscribed = [each for each in self._subscribed if each not in old] + new
            self._replace([each.route for each in old], [each.route for each in new])

    def subscribe_quotes(self, symbols: str | Iterable[str], handler: Handler) -> None:
        """Call `handler` with a QuoteData for each quote; see `subscribe`."""
        self.subscribe("quotes", symbols, handler)

    def subscribe_trades(self, symbols: str | Iterable[str], handler: Handler) -> None:
        """Call `handler` with a TradeData for each trade; see `subscribe`."""
        self.subscribe("trades", symbols, handler)

    def subscribe_bars(self, symbols: str | Iterable[str], handler: Handler) -> None:
        """Call `handler` with a BarData for each minute bar; see `subscribe`."""
        self.subscribe("bars", symbols, handler)

    def unsubscribe_quotes(self, symbols: str | Iterable[str]) -> None:
        """Take these symbols away from all quote handlers."""
        self.unsubscribe("quotes", symbols)

    def unsubscribe_trades(self, symbols: str | Iterable[str]) -> None:
        """Take these symbols away from all trade handlers."""
        self.unsubscribe("trades", symbols)

    def unsubscribe_bars(self, symbols: str | Iterable[str]) -> None:
        """Take these symbols away from all bar handlers."""
        self.unsubscribe("bars", symbols)

    def frame(
        self, channel: str, symbols: str | Iterable[str], *, maxlen: int = 1_000_000
    ) -> LiveFrame:
        """Subscribe, and keep what comes in a LiveFrame of at most `maxlen` rows.

        Closing the frame unsubscribes. Each call makes a new frame.
        """
        self._endpoint.check(find_channel(channel))
        return make_frame(
            channel,
            symbols,
            maxlen=maxlen,
            status=lambda: self.status,
            add=self._add_frame_route,
            remove=self._remove_frame,
        )

    def set_symbols(self, frame: LiveFrame, symbols: str | Iterable[str]) -> None:
        """Let a frame of this client have these symbols from now on; rows it has stay."""
        names = check_symbols(symbols)
        with self._lock:
            old = next((each for each in self._frame_routes if each.frame is frame), None)
            if old is None:
                raise BadInputError("This frame is closed, or belongs to another client.")
            new = dataclasses.replace(old, symbols=frozenset(names))
            self._frame_routes[self._frame_routes.index(old)] = new
            self._replace([old], [new])
            frame.symbols = names

    @property
    def subscriptions(self) -> dict[str, set[str]]:
        """What this client has asked for: symbols by channel; "quotes", "trades", "bars" always."""
        wanted: dict[str, set[str]] = {"quotes": set(), "trades": set(), "bars": set()}
        with self._lock:
            for route in self._routes:
                wanted.setdefault(route.channel.name, set()).update(route.symbols)
        return wanted

    @property
    def confirmed(self) -> Subscriptions:
        """What the server says it sends on this connection; other clients' share included."""
        return self._stream.confirmed if self._stream is not None else {}

    @property
    def refused(self) -> dict[tuple[str, str], ServerError]:
        """Why a (channel, symbol) that was asked for will not come."""
        return self._stream.refused if self._stream is not None else {}

    @property
    def errors(self) -> list[HandlerError | AlpacaError]:
        """What went wrong lately: in handlers, then on the connection."""
        stream_errors = list(self._stream.errors) if self._stream is not None else []
        return [*self._handlers.errors, *stream_errors]

    @property
    def failure(self) -> AlpacaError | None:
        """What ended the stream, if an error did."""
        stream = self._stream
        if stream is None or stream.status.state != "failed":
            return None
        return stream.errors[-1]

    @property
    def dropped(self) -> int:
        """Messages that handlers never saw because they fell behind; frames have them."""
        return self._handlers.dropped

    # -- inside --

    @property
    def _routes(self) -> list[Route]:
        return [each.route for each in self._subscribed] + self._frame_routes

    def _make_stream(self) -> Stream:
        return Stream(
            self._endpoint, self._credentials, url=self._url, policy=self._policy, **self._options
        )

    def _handlers_of(self, channel: Channel) -> list[_Subscribed]:
        return [each for each in self._subscribed if each.route.channel is channel]

    def _deliver_to(self, handler: Handler) -> Callable[[list[Message[Any]], int, Any], None]:
        def deliver(messages: list[Message[Any]], received_ns: int, origin: SourceOrigin) -> None:
            self._handlers.push(handler, messages)

        return deliver

    def _replace(self, old: list[Route], new: list[Route]) -> None:
        if self._stream is not None:
            self._stream.replace(old, new)

    def _add_frame_route(self, route: Route) -> None:
        with self._lock:
            self._frame_routes.append(route)
            self._replace([], [route])

    def _remove_frame(self, frame: LiveFrame) -> None:
        with self._lock:
            gone = [route for route in self._frame_routes if route.frame is frame]
            self._frame_routes = [route for route in self._frame_routes if route not in gone]
            self._replace(gone, [])


def _ended(status: StreamStatus | None) -> StreamStatus | None:
    """The last status of a stream that this client let go of."""
    if status is None:
        return None
    state: Literal["failed", "stopped"] = "failed" if status.state == "failed" else "stopped"
    detail = status.detail if state == "failed" else ""
    return dataclasses.replace(status, state=state, detail=detail, rate=0.0)


def _check_count(name: str, value: object) -> int:
    if type(value) is not int or value < 0:
        raise BadInputError(f"{name} is a whole number from 0 on, not {value!r}.")
    return value


def _check_seconds(name: str, value: object) -> float:
    if type(value) not in (int, float) or not 0 <= value < math.inf:  # type: ignore[operator]
        raise BadInputError(f"{name} is a number of seconds from 0 on, not {value!r}.")
    return float(value)  # type: ignore[arg-type]


class _Stock:
    """What `api.stock` offers."""

    def __init__(self, rest: RestClient) -> None:
        from alpaca_nb.feed.rest import LatestQuote

        self.latest_quote: LatestQuote = LatestQuote(rest)


class PyAlpacaAPI:
    """The guide's entry point: keys once, then stream clients and latest quotes.

    Keys default to the environment. Paper keys and live keys use the same market data;
    `api_paper` only names the account's kind.
    """

    def __init__(
        self,
        api_key: str | Secret | None = None,
        api_secret: str | Secret | None = None,
        api_paper: bool = True,
        *,
        oauth_token: str | Secret | None = None,
    ) -> None:
        self._credentials: Credentials = require_credentials(
            api_key, api_secret, oauth_token=oauth_token
        )
        self.api_paper = bool(api_paper)

    def __repr__(self) -> str:
        return f"PyAlpacaAPI({'paper' if self.api_paper else 'live'})"

    def create_stream_client(
        self,
        feed: str = "iex",
        *,
        url: str | None = None,
        codec: Codec = "msgpack",
        header_auth: bool = False,
        compression: bool = False,
    ) -> StreamClient:
        """A client for a feed: "iex" (default, free), "sip", "otc", and the others there are.

        `url` is an exact address to use in place of Alpaca's. Raises UnknownFeedError.
        """
        return StreamClient(
            feed,
            api_key=self._credentials.key,
            api_secret=self._credentials.secret,
            url=url,
            codec=codec,
            header_auth=header_auth,
            compression=compression,
        )

    @functools.cached_property
    def stock(self) -> _Stock:
        """Requests about stocks: `stock.latest_quote.get("AAPL")`."""
        from alpaca_nb.feed.rest import RestClient  # brings in an HTTP library; streams need none

        return _Stock(RestClient(self._credentials))
