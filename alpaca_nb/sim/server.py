"""The simulator: a WebSocket server on this machine that speaks Alpaca's protocol.

`SimulatorServer` runs on an event loop; `LocalSimulator` brings its own thread and loop,
so that a notebook or a test starts it with one call. Both play a `sim.tape.Tape`, one
tape for all clients, from the moment the first subscription stands.

On the WebSocket everything is Alpaca's. That this is a simulator is said once, in a
header of the handshake's answer, so that a client can label what it shows.
"""

from __future__ import annotations

import asyncio
import atexit
import base64
import binascii
import contextlib
import datetime as dt
import errno
import functools
import logging
import math
import os
import threading
import weakref
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from alpaca_nb.clock import SYSTEM_CLOCK, Clock
from alpaca_nb.errors import BadInputError, SimulatorError
from alpaca_nb.sim import rest
from alpaca_nb.sim.market import DEFAULT_DATE, DEFAULT_SEED
from alpaca_nb.sim.tape import RecordedTape, SyntheticTape, Tape
from alpaca_nb.wire.codec import Codec, codec_for
from alpaca_nb.wire.endpoints import ENDPOINTS, Endpoint, endpoint_at
from alpaca_nb.wire.messages import Message, Quote
from alpaca_nb.wire.protocol import ServerProtocol, Subscriptions, SubscriptionsChanged

SIMULATOR_HEADER = "Alpaca-Nb-Simulator"
"""Header of the handshake's answer: `origin=simulated; speed=1`."""

TICK_S = 0.02
"""How often the tape moves on; what falls due in between travels as one array."""
QUIET_S = 0.2
"""How long the first subscriptions must stand unchanged before the tape starts.

A client that subscribes trades and then quotes misses nothing of either.
"""
LONGEST_STEP_S = 1.0
"""After a longer standstill (a suspended laptop, a busy kernel) the tape waits, not leaps."""
SLOW_CLIENT_MESSAGES = 100_000
"""A client for which more than this is waiting is told 407 and dropped."""

_ROOM_MESSAGES = 10_000
"""At speed 0 the tape waits while more than this is waiting for any client."""
_FRAME_MESSAGES = 2_000
"""Keeps a frame well under 1 MiB, which is where many clients stop reading."""
_LOOK_AHEAD_NS = 60_000_000_000
"""How far ahead of the tape its messages are made."""
_FAREWELL_S = 0.4
"""How long a client may take to answer a goodbye."""
_MAX_REQUEST_BYTES = 1 << 20
_POLICY_VIOLATION = 1008
_GOING_AWAY = 1001

# A library is silent unless its user configures logging; without a handler of our own
# Python would print warnings into whichever cell is running.
_LOGGER = logging.getLogger("alpaca_nb.sim")
_LOGGER.addHandler(logging.NullHandler())
# On the level DEBUG the library would log what clients send, and some of it is their keys.
_SOCKET_LOGGER = _LOGGER.getChild("websockets")
_SOCKET_LOGGER.setLevel(logging.INFO)

_OAUTH_KEYS = ("oauth", "access_token")


class SimulatorServer:
    """Alpaca's stream endpoints on a local port, all fed by one tape.

    Use it with `async with`, or call `start` and `stop`. `speed` multiplies time; 0 is
    as fast as the slowest client reads. `key` and `secret`, given together, are the only
    credentials accepted; without them any pair will do. `connections` is how many an
    account may have on each endpoint, `symbol_limit` how many trade and quote symbols
    each of them may subscribe.

    A client that cannot keep up is sent bigger arrays, then 407, and is dropped; at
    speed 0 the tape waits for it instead.
    """

    def __init__(
        self,
        tape: Tape,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        speed: float = 1.0,
        key: str | None = None,
        secret: str | None = None,
        connections: int = 1,
        symbol_limit: int | None = None,
        auth_timeout_s: float = 10.0,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._tape = tape
        self._host = _check_host(host)
        self._asked_port = _check_port(port)
        self._speed = _check_speed(speed)
        self._credentials = _check_credentials(key, secret)
        self._connections = _check_count("connections", connections)
        self._symbol_limit = (
            None if symbol_limit is None else _check_count("symbol limit", symbol_limit)
        )
        self._auth_timeout_s = auth_timeout_s
        self._clock = clock

        self._clients: set[_Client] = set()
        self._opened: weakref.WeakSet[ServerConnection] = weakref.WeakSet()
        self._server: Server | None = None
        self._player: asyncio.Task[None] | None = None
        self._position = 0
        self._wanted: dict[str, Subscriptions] = {}
        self._subscribed = asyncio.Event()
        self._changed_at = 0.0

    def __repr__(self) -> str:
        where = self.url if self._server is not None else "not started"
        return f"SimulatorServer({where}, {self._tape!r})"

    @property
    def port(self) -> int:
        """The port it listens on, also when 0 was asked for."""
        if self._server is None:
            raise SimulatorError("The simulator is not running; start it first.")
        return int(next(iter(self._server.sockets)).getsockname()[1])

    @property
    def url(self) -> str:
        """The address without a path, as a client's base URL."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"ws://{host}:{self.port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; SimulatorError with the way out if the port cannot be had."""
        try:
            self._server = await serve(
                self._serve_client,
                self._host,
                self._asked_port,
                process_request=self._process_request,
                process_response=self._process_response,
                # Declared as a class, used as a factory.
                create_connection=self._make_connection,  # type: ignore[arg-type]
                server_header=None,
                max_size=_MAX_REQUEST_BYTES,
                close_timeout=_FAREWELL_S,
                logger=_SOCKET_LOGGER,
            )
        except OSError as error:
            raise _cannot_listen(self._host, self._asked_port, error) from error
        self._player = asyncio.create_task(self._play())

    async def stop(self) -> None:
        """Say goodbye to every client and stop listening; may be called again."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close(close_connections=False)
        if self._player is not None:
            self._player.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._player
        await asyncio.gather(*(client.dismiss() for client in tuple(self._clients)))
        # Those that are still in the handshake, or never began it.
        for connection in tuple(self._opened):
            connection.transport.abort()
        await server.wait_closed()

    # -- handshakes ----------------------------------------------------------------------

    def _make_connection(self, *args: Any, **options: Any) -> ServerConnection:
        connection = ServerConnection(*args, **options)
        self._opened.add(connection)
        return connection

    def _process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        path = request.path.partition("?")[0]
        if endpoint_at(path) is not None:
            return None
        if path == "/":
            return _json_response(HTTPStatus.OK, self._describe())
        if path.startswith("/v2/stocks/"):
            return self._answer_rest(request)
        known = ", ".join(endpoint.path for endpoint in ENDPOINTS.values())
        return _json_response(
            HTTPStatus.NOT_FOUND, {"message": f"nothing is served at {path}; streams: {known}"}
        )

    def _process_response(
        self, connection: ServerConnection, request: Request, response: Response
    ) -> None:
        if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            response.headers[SIMULATOR_HEADER] = (
                f"origin={self._tape.origin}; speed={self._speed:g}"
            )

    def _describe(self) -> dict[str, object]:
        return {
            "service": "alpaca_nb simulator",
            "origin": self._tape.origin,
            "speed": self._speed,
            "clients": len(self._clients),
            "streams": {feed: self.url + each.path for feed, each in ENDPOINTS.items()},
        }

    def _answer_rest(self, request: Request) -> Response:
        credentials = _header_credentials(request.headers)
        if credentials is None:
            return _json_response(HTTPStatus.UNAUTHORIZED, {"message": "unauthorized."})
        if not self._accepts(*credentials):
            return _json_response(HTTPStatus.FORBIDDEN, {"message": "forbidden."})
        answered = rest.answer(request.path, self._latest_quote)
        if answered is None:
            return _json_response(HTTPStatus.NOT_FOUND, {"message": "endpoint not found."})
        status, body = answered
        return _json_response(HTTPStatus(status), body)

    def _latest_quote(self, feed: str, symbol: str) -> Quote[int] | None:
        return self._tape.latest_quote(feed, symbol, self._position)

    # -- clients -------------------------------------------------------------------------

    async def _serve_client(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        endpoint = endpoint_at(connection.request.path.partition("?")[0])
        assert endpoint is not None  # _process_request let nothing else through
        client = _Client(self, connection, endpoint)
        self._clients.add(client)
        try:
            await client.run()
        finally:
            self._clients.discard(client)
            self.note_change()

    def admit(self, client: _Client, key: str, secret: str) -> int | None:
        """Decide on credentials: None for yes, or Alpaca's error code."""
        if not self._accepts(key, secret):
            return 402
        # With a token, the key is a literal word and the token is who it is.
        account = secret if key in _OAUTH_KEYS else key
        taken = sum(
            other.account == account and other.endpoint is client.endpoint
            for other in self._clients
            if other is not client
        )
        if taken >= self._connections:
            return 406
        client.account = account
        return None

    def _accepts(self, key: str, secret: str) -> bool:
        if self._credentials is None:
            return bool(key and secret)
        wanted_key, wanted_secret = self._credentials
        return secret == wanted_secret and key in (wanted_key, *_OAUTH_KEYS)

    def protocol_for(self, client: _Client, codec: Codec, headers: Headers) -> ServerProtocol:
        """The server's side of a conversation with this client."""
        return ServerProtocol(
            client.endpoint,
            codec,
            authenticate=lambda key, secret: self.admit(client, key, secret),
            header_credentials=_header_credentials(headers),
            limit=self._symbol_limit,
        )

    async def time_is_up(self) -> None:
        """Return when a client should have authenticated."""
        await self._clock.sleep(self._auth_timeout_s)

    def note_change(self) -> None:
        """A client came, went, or changed its subscriptions."""
        self._changed_at = self._clock.monotonic()
        self._wanted = _union(self._clients)
        if self._wanted:
            self._subscribed.set()
        else:
            self._subscribed.clear()

    # -- the tape ------------------------------------------------------------------------

    async def _play(self) -> None:
        await self._first_subscription()
        while self._prepare(ahead_ns=1):
            await asyncio.sleep(0)
        if self._speed:
            await self._play_by_the_clock()
        else:
            await self._play_as_read()

    async def _first_subscription(self) -> None:
        while True:
            await self._subscribed.wait()
            quiet_s = self._clock.monotonic() - self._changed_at
            if quiet_s >= QUIET_S:
                return
            await self._clock.sleep(QUIET_S - quiet_s)

    async def _play_by_the_clock(self) -> None:
        started = previous = self._clock.monotonic()
        while self._tape.next_stop(self._position) is not None:
            await self._clock.sleep(TICK_S)
            now = self._clock.monotonic()
            started += max(0.0, now - previous - LONGEST_STEP_S)
            previous = now
            self._deliver(until=round((now - started) * self._speed * 1e9))
            # One small piece of the next minute each time: the interpreter lock is
            # never held for long, and the minute mark finds everything ready.
            self._prepare(ahead_ns=_LOOK_AHEAD_NS)

    async def _play_as_read(self) -> None:
        while (stop := self._tape.next_stop(self._position)) is not None:
            # Nothing is lost on a client that comes late or comes back.
            await self._subscribed.wait()
            self._deliver(until=stop)
            await asyncio.sleep(0)
            await asyncio.gather(*(client.room() for client in tuple(self._clients)))

    def _prepare(self, *, ahead_ns: int) -> bool:
        return any(
            self._tape.prepare(feed, wanted, self._position, self._position + ahead_ns)
            for feed, wanted in self._wanted.items()
        )

    def _deliver(self, until: int) -> None:
        after, self._position = self._position, max(until, self._position)
        for feed, wanted in self._wanted.items():
            messages = self._tape.between(feed, wanted, after, self._position)
            if messages:
                for client in self._clients:
                    if client.endpoint.feed == feed:
                        client.offer(messages, bounded=self._speed > 0)


class _Client:
    """One connection: a reader (`run`), a writer, and the messages between tape and writer.

    All that goes out passes `_write`, and all market data passes `offer`: whoever wants
    to disturb a connection does it there.
    """

    def __init__(
        self, server: SimulatorServer, connection: ServerConnection, endpoint: Endpoint
    ) -> None:
        assert connection.request is not None
        headers = connection.request.headers
        self._server = server
        self._connection = connection
        self._codec = codec_for(headers.get("Content-Type"))
        self.endpoint = endpoint
        self.account: str | None = None
        """Who has authenticated; holds a place on the endpoint."""
        self.protocol = server.protocol_for(self, self._codec, headers)
        self._waiting: list[Message[int]] = []
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._writer: asyncio.Task[None] | None = None
        self._gone = False

    async def run(self) -> None:
        """Serve the connection until it is closed."""
        self._writer = asyncio.create_task(self._write())
        timer = asyncio.create_task(self._expire())
        try:
            self.protocol.start()
            self._wake.set()
            async for data in self._connection:
                events = self.protocol.receive(data)
                self._wake.set()
                if any(isinstance(event, SubscriptionsChanged) for event in events):
                    self._server.note_change()
        except ConnectionClosed:
            pass
        finally:
            self._gone = True
            self._room.set()
            timer.cancel()
            self._writer.cancel()
            await asyncio.gather(timer, self._writer, return_exceptions=True)

    def offer(self, messages: Iterable[Message[int]], *, bounded: bool) -> None:
        """Queue what this client has subscribed; a bounded queue that is full ends in 407."""
        if self._gone or self.protocol.closing:
            return
        wants = self.protocol.wants
        self._waiting += [message for message in messages if wants(message)]
        if bounded and len(self._waiting) > SLOW_CLIENT_MESSAGES:
            self._fail(407)
        elif self._waiting:
            self._wake.set()
            if len(self._waiting) > _ROOM_MESSAGES:
                self._room.clear()

    async def room(self) -> None:
        """Return when more may be offered, or the connection is gone."""
        await self._room.wait()

    async def dismiss(self) -> None:
        """Close in good order if the client plays along, in any case soon."""
        if self._writer is not None:
            self._writer.cancel()
        await self._close(_GOING_AWAY)

    async def _write(self) -> None:
        try:
            while not self.protocol.closing:
                await self._wake.wait()
                self._wake.clear()
                while frames := self._next_frames():
                    for frame in frames:
                        await self._connection.send(frame, text=self._codec.text)
            await self._close(_POLICY_VIOLATION)
        except ConnectionClosed:
            pass
        except Exception:
            # Better a client that sees its line cut than one that waits for ever.
            _LOGGER.exception("a client could not be written to")
            self._connection.transport.abort()

    def _next_frames(self) -> Sequence[bytes]:
        """Answers first, then a piece of the waiting data."""
        while True:
            frames = self.protocol.data_to_send()
            if frames or not self._waiting:
                return frames
            batch = self._waiting[:_FRAME_MESSAGES]
            del self._waiting[:_FRAME_MESSAGES]
            if len(self._waiting) <= _ROOM_MESSAGES:
                self._room.set()
            self.protocol.send_data(batch)

    async def _expire(self) -> None:
        await self._server.time_is_up()
        if not self.protocol.authenticated:
            self._fail(404)

    def _fail(self, code: int) -> None:
        """Send an error that ends the connection; what was waiting is dropped."""
        self._waiting.clear()
        self._room.set()
        self.protocol.fail(code)
        self._wake.set()
        # The writer may be stuck on a full socket: it gets a moment, then the line is cut.
        asyncio.get_running_loop().call_later(2 * _FAREWELL_S, self._connection.transport.abort)

    async def _close(self, code: int) -> None:
        try:
            async with asyncio.timeout(_FAREWELL_S):
                await self._connection.close(code)
        except TimeoutError:
            self._connection.transport.abort()


class LocalSimulator:
    """The simulator on a thread of its own, for notebooks and tests.

    Without `play` the tape is a synthetic market made from `seed`, `date`, `symbols` and
    `rate`; with it, a recording. The other options are those of `SimulatorServer`.
    Arguments are checked at once, a recording is read and the port taken by `start`.
    Nothing is ever printed.

        with LocalSimulator(seed=7, speed=20) as simulator:
            ...  # connect to simulator.url
    """

    def __init__(
        self,
        *,
        seed: int = DEFAULT_SEED,
        rate: float = 1.0,
        speed: float = 1.0,
        symbols: str | Iterable[str] | None = None,
        date: dt.date | str = DEFAULT_DATE,
        play: str | os.PathLike[str] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        key: str | None = None,
        secret: str | None = None,
        connections: int = 1,
        symbol_limit: int | None = None,
        auth_timeout_s: float = 10.0,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._synthetic = SyntheticTape(seed, date, symbols, rate)
        self._play = play
        self._make_server = functools.partial(
            SimulatorServer,
            host=host,
            port=port,
            speed=speed,
            key=key,
            secret=secret,
            connections=connections,
            symbol_limit=symbol_limit,
            auth_timeout_s=auth_timeout_s,
            clock=clock,
        )
        self._make_server(self._synthetic)  # checks the options

        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._url: str | None = None

    def __repr__(self) -> str:
        return f"LocalSimulator({self._url or 'stopped'})"

    @property
    def running(self) -> bool:
        """Whether it listens."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def url(self) -> str:
        """The address without a path, like ws://127.0.0.1:8765."""
        if self._url is None:
            raise SimulatorError("The simulator is not running; call start() first.")
        return self._url

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.url.rpartition(":")[2])

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Start and return when it listens; does nothing if it runs already.

        Raises RecordingError for a file that cannot be played and SimulatorError when the
        port cannot be had; nothing is left running then.
        """
        with self._lock:
            if self.running:
                return self
            tape: Tape = self._synthetic if self._play is None else RecordedTape(self._play)
            listening = threading.Event()
            failed: list[BaseException] = []
            self._thread = threading.Thread(
                target=self._run,
                args=(tape, listening, failed),
                name="alpaca-nb-simulator",
                daemon=True,
            )
            self._thread.start()
            listening.wait()
            if failed:
                self._thread.join()
                self._thread = None
                raise failed[0]
            # Before the interpreter takes the thread away in the middle of something.
            atexit.register(self.stop)
            return self

    def stop(self) -> None:
        """Close every connection and the port; returns within a second, may be called again."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is None:
                return
            atexit.unregister(self.stop)
            if self._loop is not None and self._stopping is not None:
                with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                    self._loop.call_soon_threadsafe(self._stopping.set)
            thread.join(timeout=5)
            self._url = None

    def _run(self, tape: Tape, listening: threading.Event, failed: list[BaseException]) -> None:
        try:
            asyncio.run(self._serve(tape, listening))
        except BaseException as error:  # whatever it is, the caller of start() gets it
            failed.append(error)
        finally:
            listening.set()

    async def _serve(self, tape: Tape, listening: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        async with self._make_server(tape) as server:
            self._url = server.url
            listening.set()
            await self._stopping.wait()


# -- helpers -----------------------------------------------------------------------------


def _union(clients: Iterable[_Client]) -> dict[str, Subscriptions]:
    """What anybody has subscribed, by feed and channel."""
    wanted: dict[str, Subscriptions] = {}
    for client in clients:
        for channel, symbols in client.protocol.subscriptions.items():
            if symbols:
                channels = wanted.setdefault(client.endpoint.feed, {})
                channels[channel] = channels.get(channel, frozenset()) | symbols
    return wanted


def _header_credentials(headers: Headers) -> tuple[str, str] | None:
    """Key and secret from a handshake or a REST request, in any of Alpaca's three ways."""
    key, secret = headers.get("APCA-API-KEY-ID"), headers.get("APCA-API-SECRET-KEY")
    if key is not None and secret is not None:
        return key, secret
    scheme, _, value = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return "oauth", value.strip()
    if scheme.lower() == "basic":
        try:
            key, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return "", ""
        return key, secret
    return None


def _json_response(status: HTTPStatus, body: object) -> Response:
    data = msgspec.json.encode(body)
    headers = Headers(
        {
            "Content-Type": "application/json",
            "Content-Length": str(len(data)),
            "Connection": "close",
        }
    )
    return Response(status.value, status.phrase, headers, data)


def _cannot_listen(host: str, port: int, error: OSError) -> SimulatorError:
    if error.errno == errno.EADDRINUSE:
        return SimulatorError(
            f"Port {port} on {host} is in use; stop what runs there, choose another port, or "
            "use port 0 for any that is free."
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return SimulatorError(
            f"Port {port} may not be used without special rights; choose one from 1024 up, or "
            "0 for any that is free."
        )
    return SimulatorError(f"The simulator cannot listen on {host}, port {port}: {error}.")


def _check_host(host: object) -> str:
    if not isinstance(host, str) or not host:
        raise BadInputError(f"The host is an address such as 127.0.0.1, not {host!r}.")
    return host


def _check_port(port: object) -> int:
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65_535:
        raise BadInputError(f"A port is a whole number from 0 to 65535, not {port!r}.")
    return port


def _check_speed(speed: object) -> float:
    if (
        isinstance(speed, bool)
        or not isinstance(speed, int | float)
        or not math.isfinite(speed)
        or not 0 <= speed <= 10_000
    ):
        raise BadInputError(
            f"The speed is a number from 0 (as fast as possible) to 10000, not {speed!r}."
        )
    return float(speed)


def _check_credentials(key: str | None, secret: str | None) -> tuple[str, str] | None:
    if not key and not secret:
        return None
    if not key or not secret:
        raise BadInputError("Give key and secret together, or neither to accept any pair.")
    return key, secret


def _check_count(name: str, count: object) -> int:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise BadInputError(f"The number for {name} is a whole number from 1 up, not {count!r}.")
    return count
