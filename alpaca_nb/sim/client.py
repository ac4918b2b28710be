"""One client of the simulator: what it is sent, when, and what goes wrong on the way.

Nothing here knows a socket: the server hands a `Line`, which it makes of one.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Protocol

from alpaca_nb.clock import Clock
from alpaca_nb.credentials import Credentials, Secret
from alpaca_nb.sim.faults import (
    MOST_DUPLICATES,
    Cut,
    DelayAcks,
    Duplicate,
    Fault,
    Faults,
    Garbage,
    HoldSession,
    LateData,
    Mute,
    Oversize,
    Pause,
    SendError,
    SlowClient,
    Truncated,
    UnknownMessage,
)
from alpaca_nb.sim.frames import oversize_frame, unknown_message, with_unknown_key
from alpaca_nb.sim.plans import Plan
from alpaca_nb.wire.codec import Codec
from alpaca_nb.wire.endpoints import Endpoint
from alpaca_nb.wire.messages import CHANNEL_OF, Message
from alpaca_nb.wire.protocol import (
    CLOSING_CODES,
    ServerProtocol,
    Subscriptions,
    SubscriptionsChanged,
)

SLOW_CLIENT_MESSAGES = 100_000
"""A client for which more than this is waiting is told 407 and dropped."""
FAREWELL_S = 0.4
"""How long a client may take to answer a goodbye."""

_ROOM_MESSAGES = 10_000
"""At speed 0 the tape waits while more than this is waiting for any client."""
_FRAME_MESSAGES = 2_000
"""Keeps a frame well under 1 MiB, which is where many clients stop reading."""
_POLICY_VIOLATION = 1008
_GOING_AWAY = 1001

_LOGGER = logging.getLogger("alpaca_nb.sim")

_Frame = tuple[bytes, bool]
"""What a frame holds, and whether it is a text frame."""


class LineGone(Exception):  # noqa: N818 - an event, and never one that a user sees
    """The connection has ended; nothing can be sent any more."""


class Line(Protocol):
    """A WebSocket connection as a client's other side sees it."""

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        """What arrives, until the connection ends, however it does."""
        ...

    async def send(self, data: bytes, *, text: bool) -> None:
        """Send a frame; raises LineGone if that is not possible any more."""
        ...

    async def close(self, code: int) -> None:
        """Say goodbye, and return when it was answered."""
        ...

    def abort(self) -> None:
        """End it without a goodbye."""
        ...

    def cut(self, data: bytes, *, text: bool) -> None:
        """Send the first half of the bytes of a frame, if it holds anything, and abort."""
        ...


class Host(Protocol):
    """What a client needs of its server."""

    clock: Clock
    faults: Faults

    def admit(self, client: Client, key: str, secret: str) -> int | None:
        """Decide on credentials: None for yes, or Alpaca's error code."""
        ...

    def note_change(self) -> None:
        """A client has changed what it wants."""
        ...

    async def time_is_up(self) -> None:
        """Return when a client should have authenticated."""
        ...


class Client:
    """One connection: a reader (`run`), a writer, and the messages between tape and writer.

    All that goes out passes `_write`, and all market data passes `offer`. What goes wrong
    is decided where a frame becomes due, and happens in `_disturb`.
    """

    def __init__(
        self,
        host: Host,
        line: Line,
        endpoint: Endpoint,
        codec: Codec,
        *,
        plan: Plan,
        credentials: Credentials | None = None,
    ) -> None:
        self._host = host
        self._clock = host.clock
        self._faults = host.faults
        self._line = line
        self._codec = codec
        self.endpoint = endpoint
        self.account: Secret | None = None
        """Who has authenticated; holds a place on the endpoint."""
        self.hold_s: float | None = None
        """How long the place stays taken when the connection has ended."""
        self.protocol = ServerProtocol(
            endpoint,
            codec,
            authenticate=self._authenticate,
            header_credentials=credentials,
            limit=plan.symbol_limit,
            star=plan.star,
            refuse=self._refuse,
        )
        self._answers: deque[_Frame] = deque()
        self._waiting: list[Message[int]] = []
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._writer: asyncio.Task[None] | None = None
        self._gone = False

        self._reached: str | None = None
        self._recent: deque[Message[int]] = deque(maxlen=MOST_DUPLICATES)
        self._late: Subscriptions = {}
        self._answers_held = 0
        self._paused_until = self._muted_until = -math.inf
        self._timers: set[asyncio.Task[None]] = set()

    @property
    def subscriptions(self) -> Subscriptions:
        """What is sent: what is subscribed, and what keeps coming all the same."""
        subscriptions = self.protocol.subscriptions
        for channel, symbols in self._late.items():
            subscriptions[channel] = subscriptions.get(channel, frozenset()) | symbols
        return subscriptions

    async def run(self) -> None:
        """Serve the connection until it is closed."""
        self._writer = asyncio.create_task(self._write())
        timer = asyncio.create_task(self._expire())
        try:
            self.protocol.start()
            self._disturb_start()
            self._wake.set()
            async for data in self._line:
                before = self.protocol.subscriptions if self._faults.armed else {}
                events = self.protocol.receive(data)
                self._disturb_answer(before)
                self._wake.set()
                if any(isinstance(event, SubscriptionsChanged) for event in events):
                    self._host.note_change()
        finally:
            self._gone = True
            self._room.set()
            tasks = (timer, self._writer, *self._timers)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def offer(self, messages: Iterable[Message[int]], *, bounded: bool) -> None:
        """Queue what this client has subscribed; a bounded queue that is full ends in 407."""
        if self._gone or self.protocol.closing or self._mute:
            return
        self._waiting += self._wanted(messages)
        if bounded and len(self._waiting) > SLOW_CLIENT_MESSAGES:
            self._fail(407)
        elif self._waiting:
            self._wake.set()
            if len(self._waiting) > _ROOM_MESSAGES:
                self._room.clear()

    async def room(self) -> None:
        """Return when more may be offered, or the connection is gone."""
        await self._room.wait()

    def strike(self, fault: Fault) -> None:
        """Let a fault happen at once."""
        self._answers += self._disturb(fault, None)
        self._wake.set()

    async def dismiss(self) -> None:
        """Close in good order if the client plays along, in any case soon."""
        if self._writer is not None:
            self._writer.cancel()
        await self._close(_GOING_AWAY)

    # -- writing -------------------------------------------------------------------------

    async def _write(self) -> None:
        try:
            closing = False
            while not closing:
                await self._wake.wait()
                self._wake.clear()
                # Asked before, not after: what is said with a goodbye is sent first.
                closing = self.protocol.closing
                while frames := self._next_frames():
                    for frame in frames:
                        await self._send(*frame)
            await self._close(_POLICY_VIOLATION)
        except LineGone:
            pass
        except Exception:
            # Better a client that sees its line cut than one that waits for ever.
            _LOGGER.exception("a client could not be written to")
            self._line.abort()

    async def _send(self, data: bytes, text: bool) -> None:
        if (pause_s := self._paused_until - self._clock.monotonic()) > 0:
            await self._clock.sleep(pause_s)
        if not self._mute:
            await self._line.send(data, text=text)

    def _next_frames(self) -> list[_Frame]:
        """Answers first, then a piece of the waiting data."""
        while True:
            frames = self._take_answers()
            if frames or not self._waiting:
                return frames
            batch = self._take_batch()
            if batch and (frames := self._data_frames(batch)):
                return frames

    def _take_answers(self) -> list[_Frame]:
        if self._answers_held and not self.protocol.closing:
            return []
        answers = [*self._answers, *map(self._frame, self.protocol.data_to_send())]
        self._answers.clear()
        return answers

    def _take_batch(self) -> list[Message[int]]:
        size = _FRAME_MESSAGES
        if self._faults.armed:
            # A batch ends where the next fault is due, which then hits one message.
            size = max(1, min(size, self._faults.room(size)))
        batch = self._wanted(self._waiting[:size])
        del self._waiting[:size]
        if len(self._waiting) <= _ROOM_MESSAGES:
            self._room.set()
        return batch

    def _data_frames(self, batch: list[Message[int]]) -> list[_Frame]:
        frame = self._frame(self._codec.encode(batch))
        frames = [frame]
        if self._faults.armed:
            fault = self._faults.take("data")
            if fault is None:
                self._faults.count(len(batch))
            else:
                frames = self._disturb(fault, frame)
        if frame in frames:
            self._recent.extend(batch)
        return frames

    def _frame(self, data: bytes) -> _Frame:
        return data, self._codec.text

    def _wanted(self, messages: Iterable[Message[int]]) -> list[Message[int]]:
        wants = self._wants_late if self._late else self.protocol.wants
        return [message for message in messages if wants(message)]

    def _wants_late(self, message: Message[int]) -> bool:
        late = self._late.get(CHANNEL_OF[type(message)].name, ())
        return self.protocol.wants(message) or message.symbol in late or "*" in late

    # -- what the protocol asks ----------------------------------------------------------

    def _authenticate(self, key: str, secret: str) -> int | None:
        """Decide on credentials: None for yes, or an error code."""
        fault = self._faults.take("auth", SendError)
        if isinstance(fault, SendError):
            return fault.code
        self._reached = "auth"
        return self._host.admit(self, key, secret)

    def _refuse(self) -> int | None:
        """Decide on a change of subscriptions that would be in order: None for yes."""
        fault = self._faults.take("ack", SendError)
        if isinstance(fault, SendError):
            return fault.code
        self._reached = "ack"
        return None

    # -- what goes wrong -----------------------------------------------------------------

    @property
    def _mute(self) -> bool:
        return self._muted_until > self._clock.monotonic()

    def _disturb_start(self) -> None:
        """The greeting is to be sent, and an answer if the handshake had credentials."""
        reached, self._reached = self._reached, None
        if not self._faults.armed:
            return
        greeting, *answers = map(self._frame, self.protocol.data_to_send())
        self._send_disturbed("welcome", greeting)
        for answer in answers:
            self._send_disturbed(reached, answer)

    def _disturb_answer(self, before: Subscriptions) -> None:
        """The answer to a request is to be sent."""
        reached, self._reached = self._reached, None
        if reached is None or not self._faults.armed:
            return
        if reached == "ack":
            self._keep_coming(before)
        *earlier, answer = map(self._frame, self.protocol.data_to_send())
        self._answers += earlier
        self._send_disturbed(reached, answer)

    def _send_disturbed(self, moment: str | None, frame: _Frame) -> None:
        fault = None if moment is None else self._faults.take(moment)
        self._answers += [frame] if fault is None else self._disturb(fault, frame)

    def _disturb(self, fault: Fault, frame: _Frame | None) -> list[_Frame]:
        """Let a fault happen, and say what is to be sent instead of a frame."""
        frames = [] if frame is None else [frame]
        match fault:
            case Cut(mid_frame=mid_frame):
                data, text = frame or self._unknown()
                self._line.cut(data if mid_frame else b"", text=text)
                return []
            case Mute(seconds=seconds):
                self._muted_until = self._after(math.inf if seconds is None else seconds)
                self._waiting.clear()
                self._room.set()
                return []
            case Pause(seconds=seconds):
                self._paused_until = self._after(seconds)
            case HoldSession(seconds=seconds):
                self.hold_s = seconds
            case SlowClient(warn=warn):
                self._fail(407 if warn else None)
                return []
            case SendError(code=code) if code in CLOSING_CODES:
                self._fail(code)
                return []
            case SendError(code=code):
                self.protocol.fail(code)
            case Garbage(data=str(data)):
                return [(data.encode(), True), *frames]
            case Garbage(data=bytes(data)):
                return [(data, False), *frames]
            case Truncated():
                data, text = frame or self._unknown()
                return [(data[: len(data) // 2], text)]
            case Oversize(size=size):
                return [self._frame(oversize_frame(self._codec, size)), *frames]
            case UnknownMessage(tag=tag):
                known = [self._frame(with_unknown_key(self._codec, each)) for each, _ in frames]
                return [self._unknown(tag), *known]
            case Duplicate(messages=count) if self._recent:
                again = list(self._recent)[-count:]
                return [self._frame(self._codec.encode(again)), *frames]
            case DelayAcks(seconds=seconds):
                self._answers += frames
                self._hold_answers(seconds)
                return []
        return frames

    def _unknown(self, tag: str = "zz") -> _Frame:
        return self._frame(unknown_message(self._codec, tag))

    def _after(self, seconds: float) -> float:
        return self._clock.monotonic() + seconds

    def _hold_answers(self, seconds: float) -> None:
        def release() -> None:
            self._answers_held -= 1
            self._wake.set()

        self._answers_held += 1
        self._later(seconds, release)

    def _keep_coming(self, before: Subscriptions) -> None:
        """Go on with what has just been unsubscribed, if that is to go wrong."""
        now = self.protocol.subscriptions
        gone = {channel: symbols - now[channel] for channel, symbols in before.items()}
        if not any(gone.values()):
            return
        fault = self._faults.take("late")
        if isinstance(fault, LateData):
            self._late = gone
            self._later(fault.seconds, self._stop_coming)

    def _stop_coming(self) -> None:
        self._late = {}
        self._host.note_change()

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        async def wait() -> None:
            await self._clock.sleep(seconds)
            act()

        timer = asyncio.create_task(wait())
        self._timers.add(timer)
        timer.add_done_callback(self._timers.discard)

    # -- the end -------------------------------------------------------------------------

    async def _expire(self) -> None:
        await self._host.time_is_up()
        if not self.protocol.authenticated:
            self._fail(404)

    def _fail(self, code: int | None) -> None:
        """End the connection, with an error or without; what was waiting is dropped."""
        self._waiting.clear()
        self._room.set()
        if code is not None:
            self.protocol.fail(code)
        self.protocol.closing = True
        self._wake.set()
        # The writer may be stuck on a full socket: it gets a moment, then the line is cut.
        asyncio.get_running_loop().call_later(2 * FAREWELL_S, self._line.abort)

    async def _close(self, code: int) -> None:
        try:
            async with asyncio.timeout(FAREWELL_S):
                await self._line.close(code)
        except TimeoutError:
            self._line.abort()
