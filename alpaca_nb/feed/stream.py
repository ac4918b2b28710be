"""The stream itself: Alpaca's protocol over a transport, kept alive, shared by many consumers.

A `Stream` is one connection to one endpoint. It is told what to deliver where (`Route`),
makes the server's subscriptions follow, and reconnects and resubscribes after a loss.
All of it happens on one event loop; the few methods that other threads may call say so.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from alpaca_nb.clock import SYSTEM_CLOCK, Clock
from alpaca_nb.credentials import Credentials
from alpaca_nb.data.status import SourceOrigin, State, StreamStatus
from alpaca_nb.errors import (
    AlpacaError,
    BadInputError,
    ConnectError,
    ConnectionLostError,
    ProtocolError,
    ServerError,
    StreamError,
)
from alpaca_nb.feed.meter import Meter
from alpaca_nb.feed.routes import Deliver, Route, Table, make_tables
from alpaca_nb.feed.transport import (
    Closed,
    Connection,
    Connector,
    check_url,
    connect_websocket,
    display_url,
)
from alpaca_nb.wire.codec import CODECS, time_ns
from alpaca_nb.wire.endpoints import STREAM_HOST, Endpoint
from alpaca_nb.wire.messages import (
    Message,
    Quote,
    Trade,
)
from alpaca_nb.wire.protocol import (
    Authenticated,
    ClientEvent,
    ClientProtocol,
    DataReceived,
    ErrorReceived,
    Subscriptions,
    SubscriptionsChanged,
    SubscriptionsRefused,
    UnreadableReceived,
    Verdict,
    Welcomed,
)

STREAM_URL_VARIABLE = "ALPACA_NB_STREAM_URL"
SIMULATOR_HEADER = "Alpaca-Nb-Simulator"

GREETING_TIMEOUT_S = 10.0
"""How long a server may take for each step before the subscriptions."""
ANSWER_TIMEOUT_S = 5.0
"""How long a server may take to acknowledge a subscription before the next one is sent."""
PATIENCE_S = 120.0
"""How long a taken place (406) or throttling (429) is waited out."""


@dataclass(slots=True)
class ReconnectPolicy:
    """How a lost connection is made again: exponential backoff with full jitter."""

    max_attempts: int = 10
    delay_s: float = 1.0
    max_delay_s: float = 60.0

    def delays(self, uniform: Callable[[float, float], float]) -> Iterator[float]:
        """The waits before each attempt; ends when the attempts are used up.

        Reads the settings anew for each, so that a change counts at once.
        """
        attempt = 0
        while attempt < self.max_attempts:
            # Capped before it is raised: 2 ** 2000 is no float.
            ceiling = min(self.max_delay_s, self.delay_s * 2.0 ** min(attempt, 60))
            yield uniform(0.0, ceiling)
            attempt += 1


def stream_url(endpoint: Endpoint, url: str | None = None) -> str:
    """Where to connect: the exact `url`, else the environment's base, else Alpaca."""
    if url is not None:
        return check_url(url)
    base = os.environ.get(STREAM_URL_VARIABLE)
    return check_url((base or STREAM_HOST).rstrip("/") + endpoint.path)


class Stream:
    """One connection to one endpoint, for as many consumers as like.

    Make it, start it and stop it on one event loop. `add`, `remove`, `status`, `confirmed`
    and `refused` may be used from any thread.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: Credentials,
        *,
        url: str | None = None,
        codec: Literal["msgpack", "json"] = "msgpack",
        header_auth: bool = False,
        compression: bool = False,
        policy: ReconnectPolicy | None = None,
        connect: Connector = connect_websocket,
        clock: Clock = SYSTEM_CLOCK,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        if codec not in CODECS:
            raise BadInputError(f"There is no codec {codec!r}; choose 'msgpack' or 'json'.")
        self.endpoint = endpoint
        self.url = stream_url(endpoint, url)
        self.policy = policy or ReconnectPolicy()
        self._codec = CODECS[codec]
        self._compression = compression
        self._connect = connect
        self._clock = clock
        self._uniform = uniform
        self._headers = {"Content-Type": self._codec.content_type}
        self._credentials = credentials
        self._header_auth = header_auth
        self._protocol = ClientProtocol(
            self._codec,
            key=credentials.key.reveal(),
            secret=credentials.secret.reveal(),
            header_auth=header_auth,
        )
        self._routes: list[Route] = []
        self._tables: dict[type[Any], Table] = {}
        self._meter = Meter(clock)
        self._origin: SourceOrigin = "live"
        self._loop: asyncio.AbstractEventLoop | None = None
        self._life: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[None] | None = None
        self._state: State = "stopped"
        self._detail = ""
        self._patience_ends_s: float | None = None
        self._signals: asyncio.Queue[_Signal] = asyncio.Queue()
        self._outbound: asyncio.Queue[bytes] = asyncio.Queue()
        self._timed: object = None
        self._attempts = 0
        self._data_flowed = False
        self._was_up = False
        self._live_since_ns = 0
        self._reconnects = 0
        self._unreadable = 0
        self.errors: deque[AlpacaError] = deque(maxlen=100)
        """What went wrong lately, oldest first; refused subscriptions too."""

    def __repr__(self) -> str:
        return f"Stream({self.endpoint.feed} at {display_url(self.url)}, {self._state})"

    # -- life --

    async def start(self) -> None:
        """Connect and return once authenticated; legal again after any end.

        Raises ConnectError or ServerError when the first connection cannot be made. A
        taken place (406) and throttling (429) are waited out for up to 120 s.
        """
        if self._life is None or self._life.done():
            self._begin()
        assert self._ready is not None
        # Shielded: one caller that gives up must not end the attempt for the others.
        await asyncio.shield(self._ready)

    async def stop(self) -> None:
        """Close with a proper goodbye, in under a second; may be called at any time."""
        life, self._life = self._life, None
        if life is None:
            return
        life.cancel()
        with suppress(asyncio.CancelledError):
            await life
        if self._state != "failed":
            self._set_state("stopped")

    async def wait_for(self, event: asyncio.Event) -> bool:
        """Wait for an event of this loop; False when the stream was stopped first.

        Raises the stream's error when it failed, or was never started.
        """
        life = self._life
        if life is None:
            raise StreamError("The stream is not connected; call connect() first.")
        waiting = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait({waiting, life}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if not event.is_set() and self._state == "failed":
            raise self.errors[-1]
        return event.is_set()

    # -- consumers: from any thread --

    def replace(self, old: Sequence[Route], new: Sequence[Route]) -> None:
        """Deliver to `new` in place of `old`, and let the subscriptions follow.

        What nobody wants any more is unsubscribed; no message goes to both or to neither.
        """
        for route in new:
            self.endpoint.check(route.channel)
        loop = self._loop
        if loop is None or loop.is_closed() or _running_loop() is loop:
            self._replace(old, new)
        else:
            loop.call_soon_threadsafe(self._replace, old, new)

    def add(self, route: Route) -> None:
        """Deliver to this route from now on, and subscribe what it names."""
        self.replace([], [route])

    def remove(self, route: Route) -> None:
        """Deliver to this route no longer, and unsubscribe what nobody else wants."""
        self.replace([route], [])

    @property
    def status(self) -> StreamStatus:
        """The stream as it is now."""
        return StreamStatus(
            state=self._state,
            feed=self.endpoint.feed,
            origin=self._origin,
            detail=self._describe(),
            rate=self._meter.rate,
            lag_s=self._meter.lag_s,
            last_received_ns=self._meter.last_received_ns,
            received=self._meter.received,
            unreadable=self._unreadable,
            reconnects=self._reconnects,
        )

    @property
    def reconnect_attempts(self) -> int:
        """Attempts made since data last flowed."""
        return self._attempts

    @property
    def authenticated(self) -> bool:
        """Whether the connection is up and the keys were accepted."""
        return self._state == "live" and self._protocol.authenticated

    @property
    def confirmed(self) -> Subscriptions:
        """What the server says it sends, by channel."""
        return self._protocol.confirmed if self.authenticated else {}

    @property
    def refused(self) -> dict[tuple[str, str], ServerError]:
        """Why a wanted (channel, symbol) will not come."""
        return dict(self._protocol.refused)

    # -- the life of the connection --

    def _begin(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready = self._loop.create_future()
        # Nobody may be waiting any more when it fails; the status tells as well.
        self._ready.add_done_callback(lambda ready: ready.cancelled() or ready.exception())
        self._was_up = False
        self._attempts = 0
        self._set_state("connecting")
        self._life = asyncio.create_task(self._live(), name="alpaca_nb stream")

    async def _live(self) -> None:
        assert self._ready is not None
        try:
            await self._keep_connected()
        except AlpacaError as error:
            if self._was_up:
                self._note_loss(str(error))
            self._fail(error)
        except asyncio.CancelledError:
            if not self._ready.done():
                self._ready.set_exception(StreamError("The stream was stopped while it connected."))
            raise
        except Exception as error:  # ours or a library's: it must be seen, not vanish in a task
            self._fail(StreamError(f"The stream ended by an internal error: {error!r}."), error)

    def _fail(self, error: AlpacaError, cause: BaseException | None = None) -> None:
        error.__cause__ = error.__cause__ or cause
        self.errors.append(error)
        self._set_state("failed", str(error))
        assert self._ready is not None
        if not self._ready.done():
            self._ready.set_exception(error)

    async def _keep_connected(self) -> None:
        delays = self.policy.delays(self._uniform)
        patience = _Patience(self._clock)
        while True:
            failure = await self._one_connection(patience)
            self.errors.append(failure)
            if self._was_up:
                self._note_loss(str(failure))
            if self._data_flowed:
                # Only data proves that a connection was any good.
                delays = self.policy.delays(self._uniform)
                self._attempts = 0
            throttled = _is_throttled(failure) or (
                # Some servers close after 406; the place is still what we wait for.
                patience.ends_s is not None and isinstance(failure, ConnectionLostError)
            )
            if throttled and (wait_s := patience.next_wait()) is not None:
                self._patience_ends_s = patience.ends_s
                self._set_state("waiting", str(failure))
                await self._clock.sleep(wait_s)
                continue
            if not self._was_up or not _is_worth_a_retry(failure):
                raise failure
            delay_s = next(delays, None)
            if delay_s is None:
                raise ConnectionLostError(
                    f"The connection was lost and {self._attempts} attempts to make it again "
                    f"failed; the last one said: {failure} Call connect() to try again."
                ) from failure
            self._set_state("reconnecting", f"{failure} Trying again in {delay_s:.1f} s.")
            await self._clock.sleep(delay_s)
            self._attempts += 1

    async def _one_connection(self, patience: _Patience) -> StreamError:
        """Make a connection and stay on it; returns why it ended. Fatal errors are raised."""
        self._data_flowed = False
        self._protocol.reset()
        self._signals = asyncio.Queue()
        self._outbound = asyncio.Queue()
        headers = self._headers | (self._credentials.headers if self._header_auth else {})
        try:
            connection = await self._connect(
                self.url, headers=headers, on_frame=self._on_frame, compression=self._compression
            )
        except ConnectError as error:
            return error
        sender = asyncio.create_task(self._send_outbound(connection), name="alpaca_nb sender")
        watcher = asyncio.create_task(self._watch(connection), name="alpaca_nb watcher")
        try:
            self._recognise(connection.headers)
            return await self._converse(patience)
        finally:
            sender.cancel()
            # Shielded: a cancelled stream still says goodbye.
            await asyncio.shield(self._close(connection, watcher))

    def _note_loss(self, reason: str) -> None:
        """Tell the frames that nothing came after the last frame of the connection."""
        since_ns = max(self._meter.last_received_ns or 0, self._live_since_ns)
        for route in self._routes:
            if route.frame is not None:
                route.frame.lost(since_ns, reason)

    def _note_return(self) -> None:
        """Tell the frames whose symbols the server sends again that their loss is over."""
        for route in self._routes:
            if route.frame is not None and self._protocol.is_sent(
                route.channel.name, route.symbols
            ):
                route.frame.back(self._clock.now_ns())

    async def _close(self, connection: Connection, watcher: asyncio.Task[None]) -> None:
        with suppress(Exception):  # how it ended is what the watcher tells
            async with asyncio.timeout(0.8):
                await connection.close()
        watcher.cancel()
        self._protocol.reset()

    async def _converse(self, patience: _Patience) -> StreamError:
        while True:
            timeout_s = None if self._protocol.authenticated else GREETING_TIMEOUT_S
            try:
                signal = await asyncio.wait_for(self._signals.get(), timeout_s)
            except TimeoutError:
                return ConnectError(
                    f"{display_url(self.url)} accepted the connection but did not answer as "
                    "Alpaca's stream does.",
                    url=display_url(self.url),
                )
            if isinstance(signal, Closed):
                told = str(signal)
                return ConnectionLostError(f"{told[0].upper()}{told[1:]}.")
            if isinstance(signal, ProtocolError):
                return signal
            if isinstance(signal, Exception):
                raise signal
            if isinstance(signal, Authenticated):
                patience.reset()
                self._become_live()
            elif isinstance(signal, ErrorReceived):
                failure = await self._take_error(signal, patience)
                if failure is not None:
                    return failure

    async def _take_error(self, signal: ErrorReceived, patience: _Patience) -> StreamError | None:
        error = signal.error
        if signal.verdict is Verdict.FATAL:
            raise error
        if signal.verdict is Verdict.REFUSED:
            self.errors.append(error)
            return None
        if signal.verdict is not Verdict.WAIT:
            return error
        wait_s = patience.next_wait()
        if wait_s is None:
            raise error
        self._patience_ends_s = patience.ends_s
        self._set_state("waiting", str(error))
        await self._clock.sleep(wait_s)
        self._protocol.authenticate()
        self._flush()
        return None

    def _become_live(self) -> None:
        if self._was_up:
            self._reconnects += 1
        self._was_up = True
        self._live_since_ns = self._clock.now_ns()
        self._set_state("live")
        self._flush()
        assert self._ready is not None
        if not self._ready.done():
            self._ready.set_result(None)

    def _recognise(self, headers: Mapping[str, str]) -> None:
        """A simulator says in the handshake what it is and how fast its time goes."""
        told = headers.get(SIMULATOR_HEADER, "")
        facts = dict(part.strip().split("=", 1) for part in told.split(";") if "=" in part)
        origin = facts.get("origin", "live")
        self._origin = "replay" if origin == "replay" else "simulated" if told else "live"
        try:
            speed = float(facts.get("speed", "1")) if told else None
        except ValueError:
            speed = 1.0
        self._meter.set_speed(speed)

    def _set_state(self, state: State, detail: str = "") -> None:
        if state != "waiting":
            self._patience_ends_s = None
        self._state = state
        self._detail = detail

    def _describe(self) -> str:
        ends_s = self._patience_ends_s
        if ends_s is None:
            return self._detail
        left_s = max(0.0, ends_s - self._clock.monotonic())
        return f"{self._detail} Trying again for {left_s:.0f} s more."

    # -- frames in, frames out --

    def _on_frame(self, data: bytes) -> None:
        try:
            events = self._protocol.receive(data)
        except ProtocolError as error:
            self._signals.put_nowait(error)
            return
        for event in events:
            self._on_event(event)
        self._flush()

    def _on_event(self, event: ClientEvent) -> None:
        if isinstance(event, DataReceived):
            self._distribute(event.messages)
        elif isinstance(event, UnreadableReceived):
            self._unreadable += len(event.messages)
        elif isinstance(event, SubscriptionsRefused):
            self.errors.append(event.error)
        elif isinstance(event, Welcomed | Authenticated | ErrorReceived):
            self._signals.put_nowait(event)
        else:
            assert isinstance(event, SubscriptionsChanged)
            self._note_return()

    def _distribute(self, messages: list[Message[Any]]) -> None:
        received_ns = self._clock.now_ns()
        self._data_flowed = True
        self._attempts = 0
        self._meter.count(len(messages), received_ns, _exchange_ns(messages[-1]))
        parcels: dict[Deliver, list[Message[Any]]] = {}
        for message in messages:
            table = self._tables.get(type(message))
            if table is None:
                continue  # late data of something just unsubscribed, or sent unasked
            for deliver in table.by_symbol.get(message.symbol, table.for_all):
                parcels.setdefault(deliver, []).append(message)
        for deliver, parcel in parcels.items():
            deliver(parcel, received_ns, self._origin)

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            self._outbound.put_nowait(data)
        request = self._protocol.in_flight
        if request is not None and request is not self._timed:
            self._timed = request
            asyncio.get_running_loop().call_later(ANSWER_TIMEOUT_S, self._skip_answer, request)

    def _skip_answer(self, request: object) -> None:
        if self._protocol.in_flight is request:
            self._protocol.skip_answer()
            self._note_return()
            self._flush()

    async def _send_outbound(self, connection: Connection) -> None:
        outbound = self._outbound
        while True:
            data = await outbound.get()
            await connection.send(data.decode() if self._protocol.codec.text else data)

    async def _watch(self, connection: Connection) -> None:
        signals = self._signals
        try:
            signals.put_nowait(await connection.wait_closed())
        except Exception as error:  # a defect while reading: without this nobody would hear of it
            signals.put_nowait(error)

    def _replace(self, old: Sequence[Route], new: Sequence[Route]) -> None:
        leaving = [route for route in old if route in self._routes]
        self._routes = [route for route in self._routes if route not in leaving] + list(new)
        self._tables = make_tables(self._routes)
        # Wanted before unwanted, so that what is in both is never unsubscribed.
        for route in new:
            self._protocol.want(route.channel.name, route.symbols)
        for route in leaving:
            self._protocol.unwant(route.channel.name, route.symbols)
        self._flush()


_Signal = Welcomed | Authenticated | ErrorReceived | Closed | Exception


class _Patience:
    """Waits that grow from 0.5 s to 5 s and end after two minutes; all 406 and 429 share it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        self.ends_s: float | None = None
        self._waits = 0

    def next_wait(self) -> float | None:
        """The next wait, or None when the patience is at its end."""
        now = self._clock.monotonic()
        if self.ends_s is None:
            self.ends_s = now + PATIENCE_S
        if now >= self.ends_s:
            return None
        self._waits += 1
        return min(0.5 * self._waits, 5.0, self.ends_s - now)


def _is_throttled(failure: StreamError) -> bool:
    return isinstance(failure, ConnectError) and failure.status == 429


def _is_worth_a_retry(failure: StreamError) -> bool:
    """Whether a new connection may fare better than the one that ended so."""
    if isinstance(failure, ConnectError):
        return failure.status is None or failure.status >= 500 or failure.status == 429
    return isinstance(failure, ConnectionLostError | ProtocolError | ServerError)


def _exchange_ns(message: Message[Any]) -> int | None:
    """The exchange's time of a tick; a bar's time is its left edge and says nothing of lag."""
    if type(message) is not Quote and type(message) is not Trade:
        return None
    try:
        return time_ns(message.timestamp)
    except ValueError:
        return None


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
