"""The stream itself: Alpaca's protocol over a transport, kept alive, shared by many consumers.

A `Stream` is one connection to one endpoint. It is told what to deliver where (`Route`),
makes the server's subscriptions follow, reconnects and resubscribes after a loss, has the
holes filled, and notices when an open connection carries nothing. All of it happens on one
event loop; the few methods that other threads may call say so.
"""

from __future__ import annotations

import asyncio
import functools
import os
import random
import threading
from collections import ChainMap, Counter, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from alpaca_nb.clock import SYSTEM_CLOCK, Clock
from alpaca_nb.credentials import Credentials
from alpaca_nb.data.batch import Lexicon
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
from alpaca_nb.feed.calendar import CALENDAR, load_calendar
from alpaca_nb.feed.coverage import Coverage
from alpaca_nb.feed.distribution import distribute, distribute_odd
from alpaca_nb.feed.exchange import ExchangeTime
from alpaca_nb.feed.freshness import Pulse
from alpaca_nb.feed.intake import PATIENT_S, WAIT_S, Haul, Intake
from alpaca_nb.feed.meter import Meter
from alpaca_nb.feed.output import OutputLog
from alpaca_nb.feed.repair import SETTLE_S, Repair
from alpaca_nb.feed.retry import Patience, ReconnectPolicy, is_throttled, is_worth_a_retry
from alpaca_nb.feed.routes import Route, Routes
from alpaca_nb.feed.source import HistorySource
from alpaca_nb.feed.symbols import SymbolBoard
from alpaca_nb.feed.trading import TradingBook
from alpaca_nb.feed.transport import (
    Closed,
    Connection,
    Connector,
    check_url,
    connect_websocket,
    display_url,
)
from alpaca_nb.feed.watch import SWEEP_S, Watch
from alpaca_nb.wire.codec import CODECS
from alpaca_nb.wire.endpoints import STREAM_HOST, Endpoint
from alpaca_nb.wire.messages import Message
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
LEAVE_OFF_S = 1.0
"""How long the end of a stream may wait for repairs and REST connections to end."""
PULL_LIMIT_S = 0.25
"""How long who reads a frame waits for what has come to be decoded."""
LOG_SHOWN = 50
"""How many of the newest lines of the log a status holds."""

ON_REQUEST = "Disconnected on request."
"""The reason of a loss that somebody wished for."""

_TRADING_CHANNELS = ("statuses", "lulds")
"""What a frame of ticks or bars is subscribed besides: whether its symbols may trade at all."""
_DELAYS_S = {"delayed_sip": 900.0}
"""Feeds that are late by design."""


def stream_url(endpoint: Endpoint, url: str | None = None) -> str:
    """Where to connect: the exact `url`, else the environment's base, else Alpaca."""
    if url is not None:
        return check_url(url)
    base = os.getenv(STREAM_URL_VARIABLE)
    return check_url((base or STREAM_HOST).rstrip("/") + endpoint.path)


class Stream:
    """One connection to one endpoint, for as many consumers as like.

    Make it, start it and stop it on one event loop. `change`, `add`, `remove`, `status`,
    `confirmed` and `refused` may be used from any thread.
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
        settle_s: float = SETTLE_S,
        sweep_s: float = SWEEP_S,
        wait_s: float | None = None,
    ) -> None:
        # First what a repr shows: a traceback of an error in here may ask for it.
        self.endpoint = endpoint
        self.url = stream_url(endpoint, url)
        self._state: State = "stopped"
        if codec not in CODECS:
            raise BadInputError(f"There is no codec {codec!r}; choose 'msgpack' or 'json'.")
        self.policy = policy or ReconnectPolicy()
        self._codec = CODECS[codec]
        self._compression = compression
        self._connect = connect
        self._clock = clock
        self._uniform = uniform
        self._headers: Mapping[str, str] = {"Content-Type": self._codec.content_type}
        if header_auth:
            self._headers = ChainMap({**self._headers}, credentials.headers)  # type: ignore[arg-type]
        self._credentials = credentials
        self._protocol = ClientProtocol(self._codec, credentials, header_auth=header_auth)
        self.log = OutputLog(clock=clock)
        """What happened to the connection, for people to read."""
        self.trading = TradingBook()
        """Halts and price bands of the symbols that frames have."""
        lexicon = Lexicon()
        self._intake = Intake(lexicon, self, clock.now_ns)
        self._wait_s = wait_s
        self._routes = Routes(self._make_pulse, lexicon)
        self._accompanied: Counter[str] = Counter()
        self._trading_routes = [
            Route(channel, self.trading.take, eager=False)
            for channel in endpoint.channels
            if channel.name in _TRADING_CHANNELS
        ]
        self._meter = Meter(clock, delay_s=_DELAYS_S.get(endpoint.feed, 0.0))
        self._time = ExchangeTime(self._meter, clock)
        self._history = HistorySource(endpoint.feed, self.url, credentials, clock)
        self._repair = Repair(self._history.get, self._time, clock, settle_s=settle_s)
        self._coverage = Coverage(self._routes, self._repair, self._time, clock)
        self._watch = Watch(
            self._routes,
            self._history.get,
            self._time,
            clock,
            is_live=lambda: self.authenticated,
            is_halted=lambda symbol: self.trading.of(symbol).halted,
            on_mute=self._on_mute,
            on_sweep=self._coverage.look,
            on_server_time=self._meter.note_server_time,
            on_exchange_time=self._time.note_told,
            sweep_s=sweep_s,
        )
        self._watch.feed = endpoint.feed
        self._board = SymbolBoard(
            self._routes,
            self._protocol,
            self.trading,
            clock,
            phase=lambda: self._watch.market.phase,
        )
        self._changing = threading.Lock()
        self._changes: dict[Route, dict[str, bool]] = {}
        self._change_is_due = False
        self._pausing: set[object] = set()
        self._connection: Connection | None = None
        self._origin: SourceOrigin = "live"
        self._loop: asyncio.AbstractEventLoop | None = None
        self._life: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[None] | None = None
        self._detail = ""
        self._patience_ends_s: float | None = None
        self._signals: asyncio.Queue[_Signal] = asyncio.Queue()
        self._unsent = asyncio.Event()
        self._timed: object = None
        self._timer: asyncio.Task[None] | None = None
        self._attempts = 0
        self._data_flowed = False
        self._given_up = self._was_mute = False
        self._was_up = False
        self._reconnects = 0
        self._unreadable = 0
        self.errors: deque[AlpacaError] = deque(maxlen=100)
        """What went wrong lately, oldest first; refused subscriptions too."""
        self._set_patience()

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

    async def wait_ended(self) -> None:
        """Return when the stream was stopped; raises its error when it failed.

        Raises StreamError when it was never started.
        """
        life = self._life
        if life is None:
            raise StreamError("The stream is not connected; call connect() first.")
        await asyncio.wait({life})
        if self._state == "failed":
            raise self.errors[-1]

    # -- consumers: from any thread --

    def change(
        self, route: Route, *, added: Iterable[str] = (), dropped: Iterable[str] = ()
    ) -> None:
        """Let a route have other symbols; subscriptions follow, and what is in both stays.

        Returns at once; changes made by one thread happen in their order. Raises
        UnknownChannelError for a channel that this feed does not carry.
        """
        if not route.channel.automatic:
            self.endpoint.check(route.channel)
        with self._changing:
            # Only the last word on a symbol counts: however many changes there are, the loop
            # has no more work than there are symbols.
            wishes = self._changes.setdefault(route, {})
            for wanted, symbols in ((True, added), (False, dropped)):
                for symbol in symbols:
                    wishes.pop(symbol, None)
                    wishes[symbol] = wanted
            if self._change_is_due and not self._is_here():
                return
            self._change_is_due = True
        self._here(self._take_changes)

    def add(self, route: Route) -> None:
        """Deliver to this route from now on, and subscribe what it wants."""
        self.change(route, added=route.symbols)

    def remove(self, route: Route, reason: str = "") -> None:
        """Deliver to this route no longer, and unsubscribe what nobody else wants.

        With a reason it is a pause that the route's records tell of.
        """
        self._here(self._remove, route, reason)

    def pause(self, who: object) -> None:
        """Read nothing more until `resume`: the server has to wait, and may drop us for it."""
        self._post(self._pause, who)

    def resume(self, who: object) -> None:
        """Go on reading once nobody pauses any more."""
        self._post(self._resume, who)

    def _is_here(self) -> bool:
        """Whether what belongs to the loop may be done at once: on it, or when there is none."""
        loop = self._loop
        return loop is None or loop.is_closed() or _running_loop() is loop

    def _here(self, call: Callable[..., None], *arguments: object) -> None:
        """Call on the stream's loop, at once if possible."""
        if self._is_here():
            call(*arguments)
        else:
            assert self._loop is not None
            self._loop.call_soon_threadsafe(call, *arguments)

    def _post(self, call: Callable[[object], None], argument: object) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(call, argument)

    @property
    def state(self) -> State:
        """What the stream is doing."""
        return self._state

    @property
    def status(self) -> StreamStatus:
        """The stream as it is now."""
        if self._is_here():
            self._intake.flush()
        meter, ends_s = self._meter, self._patience_ends_s
        return StreamStatus(
            state=self._state,
            feed=self.endpoint.feed,
            origin=self._origin,
            detail=self._detail,
            rate=meter.rate,
            lag_s=meter.lag_s,
            lag_p99_s=meter.lag_p99_s,
            lag_now_s=meter.lag_now_s,
            skew_s=meter.skew_s,
            last_received_ns=meter.last_received_ns,
            received=meter.received,
            unreadable=self._unreadable,
            reconnects=self._reconnects,
            market=self._watch.market,
            symbols=self._board.now(),
            log=self.log.lines[-LOG_SHOWN:],
            logged=self.log.version,
            waits_s=None if ends_s is None else max(0.0, ends_s - self._clock.monotonic()),
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

    @property
    def repairing(self) -> bool:
        """Whether a hole is being filled, or waits for it."""
        return self._repair.busy

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
        self._life.add_done_callback(functools.partial(self._note_end, self._ready))

    async def _live(self) -> None:
        failure: AlpacaError | None = None
        for route in self._routes:
            self._coverage.resume(route)
        try:
            await self._keep_connected()
        except AlpacaError as error:
            failure = error
        except asyncio.CancelledError:
            self._end(StreamError("The stream was stopped while it connected."))
            raise
        except Exception as error:  # ours or a library's: it must be seen, not vanish in a task
            failure = _internal(error)
        finally:
            reason = ON_REQUEST if failure is None else str(failure)
            self._intake.flush()
            self._coverage.lost(reason)
            # Shielded: a cancelled stream still leaves its records in order.
            await asyncio.shield(self._leave_off())
        self._note_error(failure)
        self._set_state("failed", str(failure))
        # Last, so that whoever is told may start again at once.
        self._end(failure)

    def _note_end(self, ready: asyncio.Future[None], life: asyncio.Task[None]) -> None:
        """Whatever ended a life, the status says so and nobody waits for ever for its start."""
        error = None if life.cancelled() else life.exception()
        failure = StreamError("The stream was stopped while it connected.")
        if error is not None:  # a defect in what comes after every end
            failure = _internal(error)
            self._note_error(failure)
            self._set_state("failed", str(failure))
        if not ready.done():  # also when it was stopped before it began
            ready.set_exception(failure)

    async def _leave_off(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_OFF_S):
                await self._repair.stop()
                await self._history.close()

    def _end(self, failure: AlpacaError) -> None:
        assert self._ready is not None
        if not self._ready.done():
            self._ready.set_exception(failure)

    async def _keep_connected(self) -> NoReturn:
        delays = self.policy.delays(self._uniform)
        patience = Patience(self._clock)
        while True:
            failure = await self._one_connection(patience)
            self._intake.flush()
            self._note_error(failure)
            self._coverage.lost(str(failure), was_mute=self._was_mute)
            if self._data_flowed:
                # Only data proves that a connection was any good.
                delays = self.policy.delays(self._uniform)
                self._attempts = 0
            throttled = is_throttled(failure) or (
                # Some servers close after 406; the place is still what we wait for.
                patience.ends_s is not None and isinstance(failure, ConnectionLostError)
            )
            if throttled and (wait_s := patience.next_wait()) is not None:
                self._patience_ends_s = patience.ends_s
                self._set_state("waiting", str(failure))
                await self._clock.sleep(wait_s)
                continue
            if not self._was_up or not is_worth_a_retry(failure):
                raise failure
            delay_s = next(delays, None)
            if delay_s is None:
                raise ConnectionLostError(
                    f"The connection was lost and {self._attempts} attempts to make it again "
                    f"failed; the last one said: {failure} Call connect() to try again."
                ) from failure
            when = f"in {delay_s:.1f} s" if delay_s >= 0.05 else "now"
            self._set_state("reconnecting", f"{failure} Trying again {when}.")
            await self._clock.sleep(delay_s)
            self._attempts += 1

    async def _one_connection(self, patience: Patience) -> StreamError:
        """Make a connection and stay on it; returns why it ended. Fatal errors are raised."""
        self._data_flowed = False
        self._given_up = self._was_mute = False
        self._intake.reset()
        self._protocol.reset()
        self._signals = asyncio.Queue()
        self._unsent = asyncio.Event()
        try:
            connection = await self._connect(
                self.url,
                headers=self._headers,
                on_frames=self._on_frames,
                compression=self._compression,
            )
        except ConnectError as error:
            return error
        self._connection = connection
        if self._pausing:
            connection.pause()
        tasks = [
            asyncio.create_task(self._send_outbound(connection), name="alpaca_nb sender"),
            asyncio.create_task(self._watch.run(), name="alpaca_nb watch"),
        ]
        watcher = asyncio.create_task(self._wait_for_end(connection), name="alpaca_nb watcher")
        try:
            self._recognise(connection.headers)
            return await self._converse(patience)
        finally:
            self._connection = None
            if self._timer is not None:
                tasks.append(self._timer)
                self._timer = None
            for task in tasks:
                task.cancel()
            # Shielded: a cancelled stream still says goodbye.
            await asyncio.shield(self._close(connection, watcher))
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _close(self, connection: Connection, watcher: asyncio.Task[None]) -> None:
        with suppress(Exception):  # how it ended is what the watcher tells
            async with asyncio.timeout(0.8):
                await connection.close()
        watcher.cancel()
        self._protocol.reset()

    async def _converse(self, patience: Patience) -> StreamError:
        while True:
            signal = await self._next_signal()
            if signal is None:
                return ConnectError(
                    f"{display_url(self.url)} accepted the connection but did not answer as "
                    "Alpaca's stream does.",
                    url=display_url(self.url),
                )
            if isinstance(signal, Closed):
                told = self._credentials.without_keys(str(signal))
                return ConnectionLostError(f"{told[0].upper()}{told[1:]}.")
            if isinstance(signal, ProtocolError | ConnectionLostError):
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

    async def _next_signal(self) -> _Signal | None:
        """What happens next; None when a server that is not known yet says nothing."""
        signals = self._signals
        if self._protocol.authenticated:
            return await signals.get()
        arriving = asyncio.ensure_future(signals.get())
        waiting = asyncio.ensure_future(self._clock.sleep(GREETING_TIMEOUT_S))
        both: set[asyncio.Future[Any]] = {arriving, waiting}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            return arriving.result() if arriving.done() else None
        finally:
            arriving.cancel()
            waiting.cancel()

    async def _take_error(self, signal: ErrorReceived, patience: Patience) -> StreamError | None:
        error = signal.error
        if signal.verdict is Verdict.FATAL:
            raise error
        if signal.verdict is Verdict.REFUSED:
            self._note_error(error)
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
        self._watch.restart(self._time.pace)
        self._coverage.began()
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
            pace = float(facts.get("speed", "1")) if told else None
        except ValueError:
            pace = 1.0
        self._time.set_pace(pace)
        self._history.is_tape = bool(told)
        if not told:
            # A tape has a market of its own, whose clock its REST interface tells.
            self._watch.calendar = CALENDAR
            load_calendar()

    def _set_state(self, state: State, detail: str = "") -> None:
        if state != "waiting":
            self._patience_ends_s = None
        if state != self._state:
            self._board.forget()
            # What made a connection end is in the log already.
            said = {"live": "Connected.", "stopped": "Stopped.", "waiting": detail}.get(state)
            if said:
                self.log.add("stream", said)
        self._state = state
        self._detail = detail

    # -- frames in, frames out --

    def pull(self) -> None:
        """Have all decoded that has come. From any thread; waits for the loop, but not long."""
        if not self._intake.waiting:
            return
        if self._is_here():
            self._intake.flush()
            return
        done = threading.Event()

        def flush() -> None:
            self._intake.flush()
            done.set()

        assert self._loop is not None
        with suppress(RuntimeError):  # the loop has just been closed
            self._loop.call_soon_threadsafe(flush)
            done.wait(PULL_LIMIT_S)

    def _on_frames(self, frames: list[bytes]) -> None:
        if not self._given_up:  # or the loss would seem to begin later than it does
            self._intake.put(frames)

    def take_frame(self, frame: bytes, received_ns: int) -> bool:
        """Take a frame that is not, or not only, market data; see `feed.intake`."""
        try:
            events = self._protocol.receive(frame)
        except ProtocolError as error:
            self._give_up(error)
            return False
        for event in events:
            if isinstance(event, DataReceived):
                self._intake.take(event.messages, received_ns)
            else:
                self._on_event(event)
        self._flush()
        return True

    def take_haul(self, haul: Haul, received: NDArray[np.int64]) -> None:
        """Take market data; see `feed.intake`."""
        self._data_flowed = True
        self._attempts = 0
        count = sum(map(len, haul.batches))
        if len(received):
            self._meter.count_all(count, received, haul.newest)
            if self._coverage.unproven:
                self._prove(haul.newest)
        else:
            newest_ns = max(int(batch.received[-1]) for batch in haul.batches)
            self._meter.count(count, newest_ns, None)
        distribute(haul, self._routes, self._origin)

    def _prove(self, newest: NDArray[np.int64]) -> None:
        """Correct the ends of losses by what came first after them, frame by frame."""
        for exchange_ns in newest.tolist():
            if not self._coverage.unproven:
                return
            self._coverage.came(exchange_ns)

    def take_odd(self, messages: list[Message[Any]], received_ns: int) -> None:
        """Take market data that no column can hold; see `feed.intake`."""
        self._data_flowed = True
        self._attempts = 0
        self._meter.count(len(messages), received_ns, None)
        distribute_odd(messages, self._routes, received_ns, self._origin)

    def take_defect(self, error: Exception) -> None:
        """Take an error that ends the stream; see `feed.intake`."""
        self._given_up = True
        self._signals.put_nowait(error)

    def _on_event(self, event: ClientEvent) -> None:
        if isinstance(event, UnreadableReceived):
            self._unreadable += len(event.messages)
        elif isinstance(event, SubscriptionsRefused):
            if event.action == "subscribe":
                self._coverage.refused(event.refused, str(event.error))
            self._note_refusal(event)
        elif isinstance(event, Welcomed | Authenticated | ErrorReceived):
            self._signals.put_nowait(event)
        else:
            assert isinstance(event, SubscriptionsChanged)
            self._coverage.dropped(event.removed)
            self._coverage.confirmed(event.added, self._protocol.confirmed)

    def _flush(self) -> None:
        self._unsent.set()
        request = self._protocol.in_flight
        if request is not None and request is not self._timed:
            self._timed = request
            if self._timer is not None:
                self._timer.cancel()
            self._timer = asyncio.get_running_loop().create_task(
                self._skip_answer(request), name="alpaca_nb answer"
            )

    async def _skip_answer(self, request: object) -> None:
        """Go on without the answer to a request when it does not come."""
        await self._clock.sleep(ANSWER_TIMEOUT_S)
        self._timer = None
        if self._protocol.in_flight is request:
            for event in self._protocol.skip_answer():
                if isinstance(event, SubscriptionsChanged):
                    self._coverage.assumed(event.added)
            self._flush()

    async def _send_outbound(self, connection: Connection) -> None:
        unsent = self._unsent
        try:
            while True:
                await unsent.wait()
                unsent.clear()
                for data in self._protocol.data_to_send():
                    await connection.send(data.decode() if self._protocol.codec.text else data)
        except Exception as error:  # a defect: without this nobody would hear of it
            # Not the error itself: its frames hold what was sent, the keys among it.
            reason = type(error).__name__
            self._signals.put_nowait(ConnectionLostError(f"Sending failed ({reason})."))

    async def _wait_for_end(self, connection: Connection) -> None:
        signals = self._signals
        try:
            closed = await connection.wait_closed()
            self._intake.flush()  # what the server said before may tell why
            signals.put_nowait(closed)
        except Exception as error:  # a defect while reading: without this nobody would hear of it
            signals.put_nowait(error)

    # -- routes, on the loop --

    def _take_changes(self) -> None:
        self._intake.flush()
        with self._changing:
            changes, self._changes = self._changes, {}
            self._change_is_due = False
        for route, wishes in changes.items():
            added = [symbol for symbol, wanted in wishes.items() if wanted]
            dropped = [symbol for symbol, wanted in wishes.items() if not wanted]
            self._change(route, added, dropped)
        self._set_patience()

    def _change(self, route: Route, added: list[str], dropped: list[str]) -> None:
        is_new = not self._routes.symbols_of(route)
        if route.frame is not None:
            route.frame.pull = self.pull
        # Wanted before unwanted, so that what is in both is never unsubscribed.
        added = self._routes.add(route, added)
        self._want(route, added)
        if is_new and self._loop is not None:
            self._coverage.resume(route)
        if self.authenticated:
            self._coverage.joined(route, added, self._protocol.confirmed)
        self._drop(route, dropped)
        self._flush()

    def _remove(self, route: Route, reason: str) -> None:
        self._take_changes()
        if reason:
            self._coverage.paused(route, reason)
        symbols = list(self._routes.symbols_of(route))
        if reason:
            self._routes.drop(route, symbols)
            self._unwant(route, symbols)
        else:
            self._drop(route, symbols)
        self._set_patience()
        self._flush()

    def _set_patience(self) -> None:
        if self._wait_s is None:
            eager = any(route.eager for route in self._routes)
            self._intake.wait_s = WAIT_S if eager else PATIENT_S
        else:
            self._intake.wait_s = self._wait_s

    def _drop(self, route: Route, symbols: list[str]) -> None:
        gone = self._routes.drop(route, symbols)
        self._coverage.left(route, gone)
        self._unwant(route, gone)

    def _want(self, route: Route, symbols: list[str]) -> None:
        if not route.channel.automatic:
            self._protocol.want(route.channel.name, symbols)
        if route.frame is not None and route.channel.name in _TICKS_AND_BARS:
            for each in self._trading_routes:
                self._routes.add(each, symbols)
                self._protocol.want(each.channel.name, symbols)
            self._accompanied.update(symbols)

    def _unwant(self, route: Route, symbols: list[str]) -> None:
        if not route.channel.automatic:
            self._protocol.unwant(route.channel.name, symbols)
        if route.frame is not None and route.channel.name in _TICKS_AND_BARS:
            self._accompanied.subtract(symbols)
            unneeded = [symbol for symbol in symbols if not self._accompanied[symbol]]
            for each in self._trading_routes:
                self._protocol.unwant(each.channel.name, symbols)
                self._routes.drop(each, unneeded)
            for symbol in unneeded:
                del self._accompanied[symbol]

    def _note_refusal(self, event: SubscriptionsRefused) -> None:
        """Say what was refused, unless nobody has asked for it by name."""
        asked_for = {route.channel.name for route in self._routes if route.seams is not None}
        if asked_for & event.refused.keys():
            self._note_error(event.error)

    def _note_error(self, error: AlpacaError) -> None:
        self.errors.append(error)
        self.log.add("stream", str(error), "error")

    def _pause(self, who: object) -> None:
        self._pausing.add(who)
        if self._connection is not None:
            self._connection.pause()

    def _resume(self, who: object) -> None:
        self._pausing.discard(who)
        if self._connection is not None and not self._pausing:
            self._connection.resume()

    # -- what the history and the watch need to know --

    def _make_pulse(self, channel: str, symbol: str) -> Pulse:
        return Pulse(channel, symbol, speed=self._time.pace)

    def _on_mute(self, reason: str) -> None:
        self._was_mute = True
        self._give_up(ConnectionLostError(reason))

    def _give_up(self, error: StreamError) -> None:
        """Take nothing more from this connection, and let it be made anew."""
        self._given_up = True
        self._signals.put_nowait(error)


_TICKS_AND_BARS = ("trades", "quotes", "bars")

_Signal = Welcomed | Authenticated | ErrorReceived | Closed | Exception


def _internal(error: BaseException) -> StreamError:
    failure = StreamError(f"The stream ended by an internal error: {error!r}.")
    failure.__cause__ = error
    return failure


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
