"""The streaming guide's synchronous face: PyAlpacaAPI and StreamClient.

Thin: every call posts to the feed thread and, where it must answer, waits for it.
"""

from __future__ import annotations

import dataclasses
import functools
import heapq
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from alpaca_nb.credentials import Credentials, Secret, hide, require_credentials
from alpaca_nb.data.frame import LiveFrame
from alpaca_nb.data.gaps import Gap, GapLog
from alpaca_nb.data.retention import Keep
from alpaca_nb.data.status import GapCounts, SourceOrigin, StreamStatus, SymbolStatus
from alpaca_nb.errors import AlpacaError, BadInputError, ServerError
from alpaca_nb.feed.calendar import CALENDAR
from alpaca_nb.feed.handlers import (
    QUEUE_LIMIT,
    Counts,
    Handler,
    HandlerError,
    HandlerThread,
    Policy,
    check_handler,
)
from alpaca_nb.feed.output import OutputLog
from alpaca_nb.feed.retry import ReconnectPolicy
from alpaca_nb.feed.routes import Route, routes_into
from alpaca_nb.feed.seams import Seams
from alpaca_nb.feed.shared import STREAMS
from alpaca_nb.feed.stream import LOG_SHOWN, ON_REQUEST, Stream, stream_url
from alpaca_nb.feed.thread import FEED_THREAD
from alpaca_nb.wire.endpoints import find_endpoint
from alpaca_nb.wire.messages import Channel, Message, check_symbols, find_channel
from alpaca_nb.wire.protocol import Subscriptions

if TYPE_CHECKING:
    import pandas as pd

    from alpaca_nb.feed.queues import Queue
    from alpaca_nb.feed.rest import LatestBar, LatestQuote, LatestTrade, RestClient

Codec = Literal["msgpack", "json"]


@dataclasses.dataclass(slots=True, eq=False)
class _Subscribed:
    """One handler with the route that feeds it."""

    handler: Handler
    route: Route
    queue: Queue | None
    """Its own, or None for the client's."""


@dataclasses.dataclass(slots=True, eq=False)
class _Framed:
    """One frame with the routes that feed and amend it."""

    frame: LiveFrame
    routes: list[Route]


class StreamClient:
    """Live quotes, trades and bars, as in the streaming guide.

    Every method may be called from any thread, cell or handler. Subscriptions are a
    wish: they may be made before `connect`, return at once, and are kept up across
    reconnects. Clients with the same feed and keys share one connection.

    `on_gap` is called with a `Gap` when data is lost and whenever that changes: when the
    loss is over, repaired, or given up. `handler_policy` says what becomes of messages when
    handlers fall behind: "drop_oldest" (past `handler_limit` waiting), "latest" (only the
    newest of each symbol waits) or "block" (nothing is dropped, the socket is not read).
    """

    _made = False  # a traceback from the constructor shows the client as it is then

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
        handler_policy: Policy = "drop_oldest",
        handler_limit: int = QUEUE_LIMIT,
        on_gap: Callable[[Gap], Any] | None = None,
    ) -> None:
        api_key, api_secret, oauth_token = hide(api_key), hide(api_secret), hide(oauth_token)
        self._endpoint = find_endpoint(feed)
        self._credentials = require_credentials(api_key, api_secret, oauth_token=oauth_token)
        self._url = stream_url(self._endpoint, url)
        self._options: dict[str, Any] = {
            "codec": codec,
            "header_auth": header_auth,
            "compression": compression,
        }
        self.reconnect_policy = ReconnectPolicy()
        """How a lost connection is made again; the guide's three settings are its numbers."""
        self._key = (self._url, self._credentials)
        self._lock = threading.RLock()
        self._stream: Stream | None = None
        self._last_status: StreamStatus | None = None
        self._subscribed: dict[str, list[_Subscribed]] = {}
        self._frames: list[_Framed] = []
        self.log = OutputLog()
        """What handlers printed in a notebook, their errors, and what was missed."""
        self._handlers = HandlerThread(
            policy=handler_policy, limit=handler_limit, log=self.log, on_full=self._on_full
        )
        self._handler_gaps = GapLog()
        # News of losses never overtake each other, whatever the policy for messages.
        self._gap_queue = self._handlers.make_queue("drop_oldest")
        self.on_gap = on_gap
        # Made once to find bad options now and not in connect().
        self._make_stream()
        self._made = True

    def __repr__(self) -> str:
        if not self._made:
            return "StreamClient(not made)"
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
        stream, newly = self.attach()
        try:
            FEED_THREAD.run(stream.start(), timeout_s=wait)
        except TimeoutError:
            return
        except BaseException:
            if newly or stream.status.state == "failed":
                self.disconnect()
            raise

    def attach(self) -> tuple[Stream, bool]:
        """Take hold of the shared stream, without starting it; tells whether it is new to us."""
        with self._lock:
            newly = self._stream is None
            if self._stream is None:
                self._stream = STREAMS.acquire(
                    self._key, id(self), self._make_stream, self._options
                )
                for route in self._routes:
                    self._stream.add(route)
            self._stream.policy = self.reconnect_policy
            return self._stream, newly

    def disconnect(self) -> None:
        """Close with a proper goodbye, in under a second; may be called at any time.

        Handlers and frames stay: a later `connect` goes on with them.
        """
        with self._lock:
            stream, self._stream = self._stream, None
            if stream is None:
                return
            for route in self._routes:
                stream.remove(route, ON_REQUEST)
            stream.resume(self)
            self._last_status = stream.status
        STREAMS.release(self._key, id(self))
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
        return self._stream is not None and self._stream.state == "live"

    @property
    def is_authenticated(self) -> bool:
        """Whether the server accepted the keys on the present connection."""
        return self._stream is not None and self._stream.authenticated

    @property
    def status(self) -> StreamStatus:
        """The stream as it is now: state, market, lag, each symbol, losses, what happened."""
        stream = self._stream
        status = (
            stream.status
            if stream is not None
            else _ended(self._last_status) or StreamStatus(state="stopped", feed=self.feed)
        )
        told = self.log.lines[-LOG_SHOWN:]
        lines = tuple(heapq.merge(status.log, told, key=lambda line: line.time_ns))
        return dataclasses.replace(
            status,
            dropped=self.dropped,
            gaps=self._gap_counts,
            log=lines[-LOG_SHOWN:],
            logged=status.logged + self.log.version,
        )

    # -- reconnect settings, under the guide's names --

    @property
    def reconnect_attempts(self) -> int:
        """Attempts to reconnect since data last flowed."""
        return self._stream.reconnect_attempts if self._stream is not None else 0

    @property
    def max_reconnect_attempts(self) -> int:
        """Attempts before a lost stream gives up."""
        return self.reconnect_policy.max_attempts

    @max_reconnect_attempts.setter
    def max_reconnect_attempts(self, attempts: int) -> None:
        self.reconnect_policy.max_attempts = _check_count("max_reconnect_attempts", attempts)

    @property
    def reconnect_delay(self) -> float:
        """Seconds before the first attempt at most; doubles with each."""
        return self.reconnect_policy.delay_s

    @reconnect_delay.setter
    def reconnect_delay(self, delay_s: float) -> None:
        self.reconnect_policy.delay_s = _check_seconds("reconnect_delay", delay_s)

    @property
    def max_reconnect_delay(self) -> float:
        """Seconds before any attempt at most."""
        return self.reconnect_policy.max_delay_s

    @max_reconnect_delay.setter
    def max_reconnect_delay(self, delay_s: float) -> None:
        self.reconnect_policy.max_delay_s = _check_seconds("max_reconnect_delay", delay_s)

    # -- subscriptions --

    def subscribe(
        self,
        channel: str,
        symbols: str | Iterable[str],
        handler: Handler,
        *,
        policy: Policy | None = None,
        limit: int | None = None,
    ) -> None:
        """Call `handler` with each message of a channel; returns at once.

        Handlers, plain functions or coroutine functions, run on a thread of their own, in
        order; several may listen to a symbol. What they raise is kept in `errors` and stops
        nothing, and what they print in a notebook goes to `log`. "*" is every symbol.
        `policy` and `limit` declare a queue of its own for this handler; without them it
        shares the client's.
        """
        check_handler(handler)
        kind = self.check_channel(channel)
        names = check_symbols(symbols)
        own = policy is not None or limit is not None
        queue = self._handlers.make_queue(policy, limit) if own else None
        with self._lock:
            subscribed = self._find(kind, handler)
            if subscribed is None:
                route = Route(
                    kind,
                    self._deliver_to(handler, queue),
                    seams=Seams(kind.name, self._put_handler_gaps),
                )
                subscribed = _Subscribed(handler, route, queue)
                self._subscribed.setdefault(kind.name, []).append(subscribed)
            elif queue is not None and not _alike(queue, subscribed.queue):
                raise BadInputError(
                    f"This handler listens to {kind.name} with another policy or limit; "
                    "unsubscribe it first."
                )
            route = subscribed.route
            new = [name for name in names if name not in route.symbols]
            route.symbols.update(dict.fromkeys(new))
            if self._stream is not None:
                self._stream.change(route, added=new)

    def unsubscribe(self, channel: str, symbols: str | Iterable[str]) -> None:
        """Take symbols away from all handlers of a channel; frames keep theirs."""
        kind = find_channel(channel)
        names = check_symbols(symbols)
        with self._lock:
            listening = self._subscribed.get(kind.name, [])
            for each in listening:
                gone = [name for name in names if name in each.route.symbols]
                for name in gone:
                    del each.route.symbols[name]
                if gone and self._stream is not None:
                    self._stream.change(each.route, dropped=gone)
            self._subscribed[kind.name] = [each for each in listening if each.route.symbols]

    def subscribe_quotes(
        self,
        symbols: str | Iterable[str],
        handler: Handler,
        *,
        policy: Policy | None = None,
        limit: int | None = None,
    ) -> None:
        """Call `handler` with a QuoteData for each quote; see `subscribe`."""
        self.subscribe("quotes", symbols, handler, policy=policy, limit=limit)

    def subscribe_trades(
        self,
        symbols: str | Iterable[str],
        handler: Handler,
        *,
        policy: Policy | None = None,
        limit: int | None = None,
    ) -> None:
        """Call `handler` with a TradeData for each trade; see `subscribe`."""
        self.subscribe("trades", symbols, handler, policy=policy, limit=limit)

    def subscribe_bars(
        self,
        symbols: str | Iterable[str],
        handler: Handler,
        *,
        policy: Policy | None = None,
        limit: int | None = None,
    ) -> None:
        """Call `handler` with a BarData for each minute bar; see `subscribe`."""
        self.subscribe("bars", symbols, handler, policy=policy, limit=limit)

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
        self,
        channel: str,
        symbols: str | Iterable[str],
        *,
        maxlen: int = 1_000_000,
        keep: Keep = None,
    ) -> LiveFrame:
        """Subscribe, and keep what comes in a LiveFrame of at most `maxlen` rows.

        With `keep`, such as "1h", rows go earlier, when they are older than that.
        Corrections, cancellations and updated bars change its rows; what a loss of the
        connection left out is filled in, where the plan allows, and told in `frame.gaps`.
        Closing the frame unsubscribes. Each call makes a new frame.
        """
        kind = self.check_channel(channel)
        names = check_symbols(symbols)
        status = _FrameStatus(self)
        frame = LiveFrame(
            kind.name,
            names,
            maxlen=maxlen,
            keep=keep,
            status=status,
            on_close=lambda: self._remove(framed),
            hours=CALENDAR.hours,
        )
        status.frame = frame
        framed = _Framed(frame, routes_into(frame, self._endpoint, self._tell_of_gaps))
        with self._lock:
            self._frames.append(framed)
            for route in framed.routes:
                if self._stream is not None:
                    self._stream.add(route)
        return frame

    def set_symbols(self, frame: LiveFrame, symbols: str | Iterable[str]) -> None:
        """Let a frame of this client have these symbols from now on; rows it has stay."""
        names = check_symbols(symbols)
        with self._lock:
            framed = next((each for each in self._frames if each.frame is frame), None)
            if framed is None:
                raise BadInputError("This frame is closed, or belongs to another client.")
            for route in framed.routes:
                wanted = dict.fromkeys(names)
                added = [name for name in names if name not in route.symbols]
                dropped = [name for name in route.symbols if name not in wanted]
                route.symbols = wanted
                if self._stream is not None:
                    self._stream.change(route, added=added, dropped=dropped)
            frame.symbols = names

    @property
    def subscriptions(self) -> dict[str, set[str]]:
        """What this client has asked for: symbols by channel; "quotes", "trades", "bars" always."""
        wanted: dict[str, set[str]] = {"quotes": set(), "trades": set(), "bars": set()}
        with self._lock:
            for route in self._routes:
                if route.seams is not None:
                    wanted.setdefault(route.channel.name, set()).update(route.symbols)
        return wanted

    @property
    def confirmed(self) -> Subscriptions:
        """What the server says it sends on this connection; other clients' share included."""
        return self._stream.confirmed if self._stream is not None else {}

    @property
    def refused(self) -> dict[tuple[str, str], ServerError]:
        """Why a (channel, symbol) that was asked for will not come."""
        if self._stream is None:
            return {}
        wanted = self.subscriptions
        return {
            (channel, symbol): error
            for (channel, symbol), error in self._stream.refused.items()
            if symbol in wanted.get(channel, ())
        }

    @property
    def gaps(self) -> pd.DataFrame:
        """Every loss of this client's frames and handlers, one row per channel and symbol.

        As `LiveFrame.gaps`, with the column channel; what only handlers listened to is missed
        for good. Two frames with the same symbol have a row each.
        """
        import pandas as pd

        tables = [self._handler_gaps.to_frame(channel=True)]
        for each in list(self._frames):
            table = each.frame.gaps
            table.insert(0, "channel", each.frame.channel)
            tables.append(table)
        # Of tables without rows pandas could not tell the types.
        filled = [table for table in tables if len(table)] or tables[:1]
        joined: pd.DataFrame = pd.concat(filled, ignore_index=True)
        return joined.sort_values("lost", kind="stable", ignore_index=True)

    @property
    def errors(self) -> list[HandlerError | AlpacaError]:
        """What went wrong lately: in handlers, then on the connection."""
        stream_errors = list(self._stream.errors) if self._stream is not None else []
        return [*self._handlers.errors, *stream_errors]

    @property
    def failure(self) -> AlpacaError | None:
        """What ended the stream, if an error did."""
        stream = self._stream
        if stream is None or stream.state != "failed":
            return None
        return stream.errors[-1]

    @property
    def dropped(self) -> int:
        """Messages that handlers never saw because they fell behind; frames have them."""
        return self._handlers.dropped

    @property
    def handler_counts(self) -> Counts:
        """What became of the messages for handlers."""
        return self._handlers.counts

    @property
    def repairing(self) -> bool:
        """Whether a hole is being filled, or waits until it can be."""
        return self._stream is not None and self._stream.repairing

    def check_channel(self, name: str) -> Channel:
        """The channel of this name; raises UnknownChannelError if it cannot be subscribed."""
        channel = find_channel(name)
        self._endpoint.check(channel)
        return channel

    # -- inside --

    @property
    def _routes(self) -> list[Route]:
        handled = [each.route for some in self._subscribed.values() for each in some]
        return handled + [route for framed in self._frames for route in framed.routes]

    def _make_stream(self) -> Stream:
        return Stream(
            self._endpoint,
            self._credentials,
            url=self._url,
            policy=self.reconnect_policy,
            **self._options,
        )

    def _find(self, channel: Channel, handler: Handler) -> _Subscribed | None:
        listening = self._subscribed.get(channel.name, [])
        return next((each for each in listening if each.handler == handler), None)

    def _deliver_to(
        self, handler: Handler, queue: Queue | None
    ) -> Callable[[list[Message[Any]], int, Any], None]:
        def deliver(messages: list[Message[Any]], received_ns: int, origin: SourceOrigin) -> None:
            self._handlers.push(handler, messages, queue)

        return deliver

    def _remove(self, framed: _Framed) -> None:
        with self._lock:
            if framed not in self._frames:
                return
            self._frames.remove(framed)
            for route in framed.routes:
                if self._stream is not None:
                    self._stream.remove(route)

    def _on_full(self, full: bool) -> None:
        stream = self._stream
        if stream is not None:
            (stream.pause if full else stream.resume)(self)

    def _put_handler_gaps(self, gaps: list[Gap]) -> None:
        self._handler_gaps.put_all(gaps)
        # That nothing comes is in the log already, from the stream or from a frame.
        self._tell_of_gaps(gaps, [gap for gap in gaps if gap.state == "missed"])

    def _tell_of_gaps(self, gaps: list[Gap], logged: list[Gap] | None = None) -> None:
        """Log what a person wants to know, and call `on_gap`, on the handlers' thread."""
        for text in _describe_gaps(gaps if logged is None else logged):
            self.log.add("stream", text)
        if self.on_gap is not None:
            self._handlers.push(self.on_gap, gaps, self._gap_queue)  # type: ignore[arg-type]

    @property
    def _gap_counts(self) -> GapCounts:
        counts = [self._handler_gaps.counts]
        counts += [each.frame.gap_counts for each in list(self._frames)]
        return GapCounts(
            open=sum(each.open for each in counts),
            pending=sum(each.pending for each in counts),
            repaired=sum(each.repaired for each in counts),
            missed=sum(each.missed for each in counts),
        )


class _FrameStatus:
    """The status of a client as a frame sees it: its own symbols, its own losses."""

    def __init__(self, client: StreamClient) -> None:
        self._client = client
        self._seen: tuple[SymbolStatus, ...] = ()
        self._its: tuple[SymbolStatus, ...] = ()
        self.frame: LiveFrame | None = None

    def __call__(self) -> StreamStatus:
        status, frame = self._client.status, self.frame
        if frame is None:
            return status
        if status.symbols is not self._seen:
            symbols = set(frame.symbols)
            self._its = tuple(
                each
                for each in status.symbols
                if each.channel == frame.channel and (each.symbol in symbols or "*" in symbols)
            )
            self._seen = status.symbols
        return dataclasses.replace(status, symbols=self._its, gaps=frame.gap_counts)


def _describe_gaps(gaps: Sequence[Gap]) -> list[str]:
    """One line for each kind of news, however many symbols it concerns."""
    lines = []
    for channel in dict.fromkeys(gap.channel for gap in gaps):
        its = [gap for gap in gaps if gap.channel == channel]
        for state, count in Counter(gap.state for gap in its).items():
            told = [gap for gap in its if gap.state == state]
            names = ", ".join(gap.symbol for gap in told[:3])
            names += f" and {count - 3} more" if count > 3 else ""
            what = f"{channel.replace('_', ' ')} of {names}"
            if state == "open":
                # Whoever ended the connection on purpose need not be told of it.
                if told[0].reason != ON_REQUEST:
                    lines.append(f"No {what} come: {told[0].reason}")
            elif state == "repaired":
                rows = sum(gap.rows for gap in told)
                lines.append(
                    f"{rows:,} {what} were filled in." if rows else f"No {what} are missing."
                )
            elif told[0].detail and state in ("missed", "waiting"):
                lines.append(f"Some {what} are missing: {told[0].detail}")
    return lines


def _alike(one: Queue, other: Queue | None) -> bool:
    return other is not None and (one.policy, one.limit) == (other.policy, other.limit)


def _ended(status: StreamStatus | None) -> StreamStatus | None:
    """The last status of a stream that this client let go of."""
    if status is None:
        return None
    state: Literal["failed", "stopped"] = "failed" if status.state == "failed" else "stopped"
    detail = status.detail if state == "failed" else ""
    symbols = tuple(
        dataclasses.replace(each, subscription="pending", freshness="waiting")
        for each in status.symbols
    )
    return dataclasses.replace(status, state=state, detail=detail, rate=0.0, symbols=symbols)


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
        from alpaca_nb.feed.rest import LatestBar, LatestQuote, LatestTrade

        self.latest_quote: LatestQuote = LatestQuote(rest)
        self.latest_trade: LatestTrade = LatestTrade(rest)
        self.latest_bar: LatestBar = LatestBar(rest)


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
        api_key, api_secret, oauth_token = hide(api_key), hide(api_secret), hide(oauth_token)
        self.api_paper = bool(api_paper)
        self._credentials: Credentials = require_credentials(
            api_key, api_secret, oauth_token=oauth_token
        )

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
        handler_policy: Policy = "drop_oldest",
        handler_limit: int = QUEUE_LIMIT,
        on_gap: Callable[[Gap], Any] | None = None,
    ) -> StreamClient:
        """A client for a feed: "iex" (default, free), "sip", "otc", and the others there are.

        `url` is an exact address to use in place of Alpaca's. See `StreamClient` for the
        other options. Raises UnknownFeedError.
        """
        return StreamClient(
            feed,
            api_key=self._credentials.key,
            api_secret=self._credentials.secret,
            url=url,
            codec=codec,
            header_auth=header_auth,
            compression=compression,
            handler_policy=handler_policy,
            handler_limit=handler_limit,
            on_gap=on_gap,
        )

    @functools.cached_property
    def stock(self) -> _Stock:
        """Requests about stocks: `stock.latest_quote.get("AAPL")`."""
        from alpaca_nb.feed.rest import RestClient  # brings in an HTTP library; streams need none

        return _Stock(RestClient(self._credentials, paper=self.api_paper))
