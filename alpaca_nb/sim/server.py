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
import functools
import logging
import os
import threading
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.protocol import State

from alpaca_nb.clock import SYSTEM_CLOCK, Clock
from alpaca_nb.credentials import Credentials, Secret, hide
from alpaca_nb.errors import SimulatorError
from alpaca_nb.sim import rest
from alpaca_nb.sim.client import FAREWELL_S, Client, LineGone
from alpaca_nb.sim.faults import (
    OF_REST,
    Cut,
    CutRest,
    Fault,
    Faults,
    Garbage,
    HtmlRest,
    Mute,
    Pause,
    RefuseHandshake,
    RefuseRest,
    SlowRest,
)
from alpaca_nb.sim.market import DEFAULT_DATE, DEFAULT_SEED
from alpaca_nb.sim.options import (
    cannot_listen,
    check_credentials,
    check_host,
    check_port,
    check_speed,
    overridden,
)
from alpaca_nb.sim.plans import Plan
from alpaca_nb.sim.tape import RecordedTape, SyntheticTape, Tape
from alpaca_nb.wire.codec import codec_for
from alpaca_nb.wire.endpoints import ENDPOINTS, Endpoint, endpoint_at
from alpaca_nb.wire.messages import Message
from alpaca_nb.wire.protocol import Subscriptions

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

_LOOK_AHEAD_NS = 60_000_000_000
"""How far ahead of the tape its messages are made."""
_REST_STEP_S = 0.005
"""A long answer over REST lets everything else happen after so much work."""
_MAX_REQUEST_BYTES = 1 << 20

# A library is silent unless its user configures logging; without a handler of our own
# Python would print warnings into whichever cell is running.
_LOGGER = logging.getLogger("alpaca_nb.sim")
_LOGGER.addHandler(logging.NullHandler())
# On the level DEBUG the library would log what clients send, and some of it is their keys. The
# filter is for those who set the level of every logger there is.
_SOCKET_LOGGER = _LOGGER.getChild("websockets")
_SOCKET_LOGGER.setLevel(logging.INFO)
_SOCKET_LOGGER.addFilter(lambda record: record.levelno > logging.DEBUG)

_OAUTH_KEYS = (Secret("oauth"), Secret("access_token"))

_WEB_PAGE = b"<!DOCTYPE html><html><head><title>Log in</title></head><body>Log in</body></html>"


EVERYTHING = Plan()
"""The plan of an account unless another is given."""


class SimulatorServer:
    """Alpaca's stream endpoints on a local port, all fed by one tape.

    Use it with `async with`, or call `start` and `stop`. `speed` multiplies time; 0 is
    as fast as the slowest client reads. `key` and `secret`, given together, are the only
    credentials accepted; without them any pair will do. `plan` says what an account may
    do; `connections`, `symbol_limit` and `rest_limit` (requests a minute) override what
    it says of them. `faults` is what goes wrong, also while it runs.

    REST is served on the same port: history, latest data, clock and calendar of what the
    tape has played.

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
        key: str | Secret | None = None,
        secret: str | Secret | None = None,
        plan: Plan = EVERYTHING,
        connections: int | None = None,
        symbol_limit: int | None = None,
        rest_limit: int | None = None,
        auth_timeout_s: float = 10.0,
        clock: Clock = SYSTEM_CLOCK,
        faults: Faults | None = None,
    ) -> None:
        key, secret = hide(key), hide(secret)
        self._server: Server | None = None
        self.faults = Faults() if faults is None else faults
        """What goes wrong; empty unless somebody arms something."""
        self.goodbyes: list[int | None] = []
        """The close code that each connection ended with, as the client sent it; None
        where it went without one. In the order in which they ended."""
        self.tape = tape
        """What is played."""
        self.clock = clock
        self._host = check_host(host)
        self._asked_port = check_port(port)
        self._speed = check_speed(speed)
        self._credentials = check_credentials(key, secret)
        self._plan = overridden(plan, connections, symbol_limit, rest_limit)
        self._rate = rest.RateLimit(self._plan.rest_per_minute)
        self._auth_timeout_s = auth_timeout_s

        self._clients: set[Client] = set()
        self._opened: weakref.WeakSet[ServerConnection] = weakref.WeakSet()
        self._player: asyncio.Task[None] | None = None
        # Places that are taken by nobody: account, endpoint, and until when.
        self._held: list[tuple[Secret, Endpoint, float]] = []
        self._position = 0
        self._wanted: dict[str, Subscriptions] = {}
        self._subscribed = asyncio.Event()
        self._changed_at = 0.0

    def __repr__(self) -> str:
        where = self.url if self._server is not None else "not started"
        return f"SimulatorServer({where}, {self.tape!r})"

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

    @property
    def rest_url(self) -> str:
        """The same for REST, of market data and of the clock."""
        return _rest_url(self.url)

    @property
    def position(self) -> int:
        """How much of the tape has been played, in nanoseconds."""
        return self._position

    @property
    def now_ns(self) -> int:
        """What time it is on the tape, in nanoseconds since 1970."""
        return self.tape.time_ns(self._position)

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
                # Whoever never finishes a handshake is gone with the server at the latest.
                open_timeout=None,
                max_size=_MAX_REQUEST_BYTES,
                close_timeout=FAREWELL_S,
                logger=_SOCKET_LOGGER,
            )
        except OSError as error:
            raise cannot_listen(self._host, self._asked_port, error) from error
        self._player = asyncio.create_task(self._play())
        loop = asyncio.get_running_loop()
        self.faults.attach(lambda fault: _call(loop, self._strike, fault))

    async def stop(self) -> None:
        """Say goodbye to every client and stop listening; may be called again."""
        server, self._server = self._server, None
        if server is None:
            return
        self.faults.attach(None)
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

    def _process_request(
        self, connection: ServerConnection, request: Request
    ) -> Awaitable[Response | None] | Response | None:
        path = request.path.partition("?")[0]
        if endpoint_at(path) is not None:
            fault = self.faults.take("handshake")
            return None if fault is None else self._disturb_handshake(connection, request, fault)
        if path == "/":
            return _json_response(HTTPStatus.OK, self._describe())
        if rest.serves(path):
            return self._answer_rest(connection, request)
        known = ", ".join(endpoint.path for endpoint in ENDPOINTS.values())
        return _json_response(
            HTTPStatus.NOT_FOUND, {"message": f"nothing is served at {path}; streams: {known}"}
        )

    async def _disturb_handshake(
        self, connection: ServerConnection, request: Request, fault: Fault
    ) -> Response | None:
        match fault:
            case RefuseHandshake(status=status):
                return _json_response(status, {"message": _phrase(status)})
            case Mute(seconds=seconds) | Pause(seconds=seconds):
                await self._wait(connection, seconds)
            case Cut(mid_frame=True):
                answer = connection.protocol.accept(request).serialize()
                await self._hang_up(connection, answer[: len(answer) // 2])
            case Garbage(data=data):
                await self._hang_up(connection, data.encode() if isinstance(data, str) else data)
            case _:
                await self._hang_up(connection)
        return None

    async def _wait(self, connection: ServerConnection, seconds: float | None) -> None:
        """Wait, but no longer than there is somebody to wait with."""
        waits = [asyncio.ensure_future(connection.wait_closed())]
        if seconds is not None:
            waits.append(asyncio.ensure_future(self.clock.sleep(seconds)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _hang_up(self, connection: ServerConnection, data: bytes = b"") -> None:
        if data:
            connection.transport.write(data)
        connection.transport.abort()
        await connection.wait_closed()

    def _process_response(
        self, connection: ServerConnection, request: Request, response: Response
    ) -> None:
        if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            response.headers[SIMULATOR_HEADER] = f"origin={self.tape.origin}; speed={self._speed:g}"

    def _describe(self) -> dict[str, object]:
        return {
            "service": "alpaca_nb simulator",
            "origin": self.tape.origin,
            "speed": self._speed,
            "clients": len(self._clients),
            "streams": {feed: self.url + each.path for feed, each in ENDPOINTS.items()},
        }

    # -- REST ----------------------------------------------------------------------------

    async def _answer_rest(self, connection: ServerConnection, request: Request) -> Response | None:
        credentials = _header_credentials(request.headers)
        if credentials is None:
            return _json_response(HTTPStatus.UNAUTHORIZED, {"message": "unauthorized."})
        if not self._accepts(credentials):
            return _json_response(HTTPStatus.FORBIDDEN, {"message": "forbidden."})
        of_data = request.path.startswith(rest.DATA_PATH)
        # At Alpaca these are two hosts, and each counts for itself.
        account = _account(credentials), of_data
        too_many, headers = self._rate.count(account, self.clock.now_ns())
        fault = self.faults.take("rest") if of_data else None
        if fault is not None and not isinstance(fault, OF_REST):
            self._strike(fault)
            fault = None
        if too_many:
            return _response(rest.json_answer(429, {"message": "too many requests."}), headers)
        if isinstance(fault, RefuseRest):
            if fault.status == HTTPStatus.TOO_MANY_REQUESTS:
                headers |= rest.come_back(self.clock.now_ns(), fault.reset_s)
            return _response(_refusal(fault), headers)
        if isinstance(fault, HtmlRest):
            return _response(rest.Answer(fault.status, _WEB_PAGE), headers, kind="text/html")
        if isinstance(fault, SlowRest):
            await self._wait(connection, fault.seconds)
        response = _response(await self._work_out(request.path), headers)
        if isinstance(fault, CutRest):
            whole = response.serialize() if fault.mid_answer else b""
            await self._hang_up(connection, whole[: len(whole) // 2])
            return None
        return response

    async def _work_out(self, target: str) -> rest.Answer:
        """Make an answer, a few milliseconds at a time."""
        steps = rest.answer(
            target, self.tape, self._position, self._plan, endless=self.faults.endless
        )
        started = time.perf_counter()
        while True:
            try:
                next(steps)
            except StopIteration as done:
                answer: rest.Answer = done.value
                return answer
            if time.perf_counter() - started > _REST_STEP_S:
                await asyncio.sleep(0)
                started = time.perf_counter()

    # -- clients -------------------------------------------------------------------------

    async def _serve_client(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        endpoint = endpoint_at(connection.request.path.partition("?")[0])
        assert endpoint is not None  # _process_request let nothing else through
        headers = connection.request.headers
        client = Client(
            self,
            _Line(connection),
            endpoint,
            codec_for(headers.get("Content-Type")),
            plan=self._plan,
            credentials=_header_credentials(headers),
        )
        self._clients.add(client)
        try:
            await client.run()
        finally:
            self._clients.discard(client)
            goodbye = connection.protocol.close_rcvd
            self.goodbyes.append(None if goodbye is None else goodbye.code)
            if client.account is not None and client.hold_s is not None:
                until = self.clock.monotonic() + client.hold_s
                self._held.append((client.account, endpoint, until))
            self.note_change()

    def admit(self, client: Client, key: str, secret: str) -> int | None:
        """Decide on credentials: None for yes, or Alpaca's error code."""
        credentials = Credentials(Secret(key), Secret(secret))
        if not self._accepts(credentials):
            return 402
        if not self._plan.streams(client.endpoint.feed):
            return 409
        account = _account(credentials)
        if self._places_taken(account, client) >= self._plan.connections:
            return 406
        client.account = account
        return None

    def _places_taken(self, account: Secret, client: Client) -> int:
        now = self.clock.monotonic()
        self._held = [held for held in self._held if held[2] > now]
        taken = [(other.account, other.endpoint) for other in self._clients if other is not client]
        taken += [(held, endpoint) for held, endpoint, _ in self._held]
        return taken.count((account, client.endpoint))

    def _accepts(self, given: Credentials) -> bool:
        wanted = self._credentials
        if wanted is None:
            return bool(given.key and given.secret)
        return given.secret == wanted.secret and given.key in (wanted.key, *_OAUTH_KEYS)

    async def time_is_up(self) -> None:
        """Return when a client should have authenticated."""
        await self.clock.sleep(self._auth_timeout_s)

    def _strike(self, fault: Fault) -> None:
        """Let a fault happen to every stream at once."""
        for client in tuple(self._clients):
            client.strike(fault)

    def note_change(self) -> None:
        """A client came, went, or changed its subscriptions."""
        self._changed_at = self.clock.monotonic()
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
            quiet_s = self.clock.monotonic() - self._changed_at
            if quiet_s >= QUIET_S:
                return
            await self.clock.sleep(QUIET_S - quiet_s)

    async def _play_by_the_clock(self) -> None:
        started = previous = self.clock.monotonic()
        while self.tape.next_stop(self._position) is not None:
            await self.clock.sleep(TICK_S)
            now = self.clock.monotonic()
            started += max(0.0, now - previous - LONGEST_STEP_S)
            previous = now
            self._deliver(until=round((now - started) * self._speed * 1e9))
            # One small piece of the next minute each time: the interpreter lock is
            # never held for long, and the minute mark finds everything ready.
            self._prepare(ahead_ns=_LOOK_AHEAD_NS)

    async def _play_as_read(self) -> None:
        while (stop := self.tape.next_stop(self._position)) is not None:
            # Nothing is lost on a client that comes late or comes back.
            await self._subscribed.wait()
            self._deliver(until=stop)
            await asyncio.sleep(0)
            await asyncio.gather(*(client.room() for client in tuple(self._clients)))

    def _prepare(self, *, ahead_ns: int) -> bool:
        return any(
            self.tape.prepare(feed, wanted, self._position, self._position + ahead_ns)
            for feed, wanted in self._wanted.items()
        )

    def _deliver(self, until: int) -> None:
        after, self._position = self._position, max(until, self._position)
        for feed, wanted in self._wanted.items():
            messages = self.tape.between(feed, wanted, after, self._position)
            if messages:
                for client in self._clients:
                    if client.endpoint.feed == feed:
                        client.offer(messages, bounded=self._speed > 0)


class _Line:
    """A connection of the WebSocket library; see `client.Line`."""

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection
        self.abort = connection.transport.abort

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        with contextlib.suppress(ConnectionClosed):
            async for data in self._connection:
                yield data

    async def send(self, data: bytes, *, text: bool) -> None:
        try:
            await self._connection.send(data, text=text)
        except ConnectionClosed as closed:
            raise LineGone from closed

    async def close(self, code: int) -> None:
        await self._connection.close(code)

    def cut(self, data: bytes, *, text: bool) -> None:
        protocol, transport = self._connection.protocol, self._connection.transport
        if data and protocol.state is State.OPEN:
            (protocol.send_text if text else protocol.send_binary)(data)
            spelled = b"".join(protocol.data_to_send())
            transport.write(spelled[: len(spelled) // 2])
        transport.abort()


class LocalSimulator:
    """The simulator on a thread of its own, for notebooks and tests.

    Without `play` the tape is a synthetic market made from `seed`, `date`, `symbols`,
    `rate` and `amendments`, of so many `minutes` or without an end; with it, a recording.
    The other options are those of `SimulatorServer`.
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
        amendments: float = 0.0,
        minutes: int | None = None,
        play: str | os.PathLike[str] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        key: str | Secret | None = None,
        secret: str | Secret | None = None,
        plan: Plan = EVERYTHING,
        connections: int | None = None,
        symbol_limit: int | None = None,
        rest_limit: int | None = None,
        auth_timeout_s: float = 10.0,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        key, secret = hide(key), hide(secret)
        self._url: str | None = None
        self.faults = Faults()
        """What goes wrong; empty unless somebody arms something."""
        self._make_tape = functools.partial(
            SyntheticTape, seed, date, symbols, rate, amendments=amendments, minutes=minutes
        )
        self._play = play
        self._make_server = functools.partial(
            SimulatorServer,
            host=host,
            port=port,
            speed=speed,
            key=key,
            secret=secret,
            plan=plan,
            connections=connections,
            symbol_limit=symbol_limit,
            rest_limit=rest_limit,
            auth_timeout_s=auth_timeout_s,
            clock=clock,
            faults=self.faults,
        )
        self._make_server(self._make_tape())  # checks the options

        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._server: SimulatorServer | None = None

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

    @property
    def rest_url(self) -> str:
        """The same for REST, of market data and of the clock, like http://127.0.0.1:8765."""
        return _rest_url(self.url)

    @property
    def position(self) -> int:
        """How much of the tape has been played, in nanoseconds; stays when it is stopped."""
        return 0 if self._server is None else self._server.position

    @property
    def now_ns(self) -> int:
        """What time it is on the tape, in nanoseconds since 1970."""
        return self._started().now_ns

    @property
    def goodbyes(self) -> list[int | None]:
        """The close code that each connection ended with; see `SimulatorServer.goodbyes`."""
        return [] if self._server is None else list(self._server.goodbyes)

    def truth(
        self, channel: str, symbols: str | Iterable[str], *, feed: str = "iex"
    ) -> list[Message[int]]:
        """What somebody who missed nothing knows by now: see `Tape.truth`."""
        server = self._started()
        return server.tape.truth(feed, channel, symbols, server.position)

    def _started(self) -> SimulatorServer:
        if self._server is None:
            raise SimulatorError("The simulator has never run; call start() first.")
        return self._server

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
            tape = self._make_tape() if self._play is None else RecordedTape(self._play)
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
            self._server = server
            self._url = server.url
            listening.set()
            await self._stopping.wait()


# -- helpers -----------------------------------------------------------------------------


def _union(clients: Iterable[Client]) -> dict[str, Subscriptions]:
    """What anybody has subscribed, by feed and channel."""
    wanted: dict[str, Subscriptions] = {}
    for client in clients:
        for channel, symbols in client.subscriptions.items():
            if symbols:
                channels = wanted.setdefault(client.endpoint.feed, {})
                channels[channel] = channels.get(channel, frozenset()) | symbols
    return wanted


def _header_credentials(headers: Headers) -> Credentials | None:
    """Key and secret from a handshake or a REST request, in any of Alpaca's three ways."""
    key, secret = headers.get("APCA-API-KEY-ID"), headers.get("APCA-API-SECRET-KEY")
    if key is not None and secret is not None:
        return Credentials(Secret(key), Secret(secret))
    scheme, _, value = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return Credentials(_OAUTH_KEYS[0], Secret(value.strip()))
    if scheme.lower() == "basic":
        try:
            key, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            key = secret = ""
        return Credentials(Secret(key), Secret(secret))
    return None


def _account(credentials: Credentials) -> Secret:
    """Who somebody is: with a token, the key is a literal word and the token says it."""
    return credentials.secret if credentials.key in _OAUTH_KEYS else credentials.key


def _rest_url(url: str) -> str:
    return "http" + url.removeprefix("ws")


def _call(loop: asyncio.AbstractEventLoop, act: Callable[[Fault], None], fault: Fault) -> None:
    """Have it done on the loop, at once if that is where we are."""
    try:
        here = asyncio.get_running_loop()
    except RuntimeError:
        here = None
    if here is loop:
        act(fault)
    else:
        loop.call_soon_threadsafe(act, fault)


def _refusal(fault: RefuseRest) -> rest.Answer:
    if fault.body is not None:
        return rest.Answer(fault.status, fault.body.encode())
    return rest.json_answer(fault.status, {"message": _phrase(fault.status)})


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def _json_response(status: int, body: object) -> Response:
    return _response(rest.json_answer(status, body), {})


def _response(
    answer: rest.Answer, more: dict[str, str], *, kind: str = "application/json"
) -> Response:
    headers = Headers(
        {
            "Content-Type": kind,
            "Content-Length": str(len(answer.body)),
            "Connection": "close",
        }
    )
    headers.update(more)
    return Response(answer.status, _phrase(answer.status), headers, answer.body)
