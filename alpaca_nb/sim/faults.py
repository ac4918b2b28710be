"""What can go wrong between a client and Alpaca, on demand.

A fault is armed for a moment and happens to whoever reaches that moment next:

    simulator.faults.add(Cut(mid_frame=True), at="data", after=100)

The moments:

    handshake   a WebSocket handshake has arrived and is to be answered
    welcome     the greeting is to be sent
    auth        the answer to credentials is to be sent
    ack         the acknowledgement of a change of subscriptions is to be sent
    data        the next message of market data is to be sent, `after` so many others
    rest        a request for market data has arrived over REST; what happens to streams
                then happens to all that are open: the client is busy with its backfill
    now         at once, to all streams that are open

Faults for the same moment happen one after the other, in the order in which they were
armed: the second waits until the first has happened as often as it should.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

from alpaca_nb.errors import BadInputError, SimulatorError

Moment = Literal["handshake", "welcome", "auth", "ack", "data", "rest", "now"]
"""When a fault happens; see above."""

MOMENTS: tuple[str, ...] = get_args(Moment)

MOST_DUPLICATES = 1000

_ALWAYS = ("welcome", "auth", "ack", "data", "rest", "now")
_AFTER_LOGIN = ("ack", "data", "rest", "now")


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong; one of the classes below."""

    moments: ClassVar[tuple[str, ...]] = ()
    """When it can happen."""


# -- the connection ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cut(Fault):
    """The TCP connection ends without a goodbye; in mid-frame, half a frame arrives before."""

    moments: ClassVar = ("handshake", *_ALWAYS)
    mid_frame: bool = False


@dataclass(frozen=True, slots=True)
class Mute(Fault):
    """Nothing is sent any more, for so many seconds or for ever, though pings are answered.

    What should have been sent in the meantime is lost, the message at hand included. In
    the handshake it is the answer that comes so much later, or never.
    """

    moments: ClassVar = ("handshake", *_ALWAYS)
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.seconds is not None:
            _check_seconds(self.seconds)


@dataclass(frozen=True, slots=True)
class Pause(Fault):
    """Nothing is sent for so many seconds; then all of it, in order, and nothing is lost."""

    moments: ClassVar = ("handshake", *_ALWAYS)
    seconds: float

    def __post_init__(self) -> None:
        _check_seconds(self.seconds)


@dataclass(frozen=True, slots=True)
class HoldSession(Fault):
    """When the connection ends, however it does, its place stays taken: 406 for so long."""

    moments: ClassVar = _ALWAYS
    seconds: float = 90.0

    def __post_init__(self) -> None:
        _check_seconds(self.seconds)


@dataclass(frozen=True, slots=True)
class RefuseHandshake(Fault):
    """The WebSocket handshake is answered with an HTTP error instead of 101."""

    moments: ClassVar = ("handshake",)
    status: int = 429

    def __post_init__(self) -> None:
        _check_status(self.status)


@dataclass(frozen=True, slots=True)
class SlowClient(Fault):
    """The server drops the client for reading too slowly, with 407 before or without."""

    moments: ClassVar = _AFTER_LOGIN
    warn: bool = True


@dataclass(frozen=True, slots=True)
class SendError(Fault):
    """The server sends an error.

    At `auth` it is the answer to the credentials, which are not accepted (402 is an
    expired key); at `ack` it refuses the change, which does not take place. Afterwards
    the connection is closed where Alpaca's would be.
    """

    moments: ClassVar = ("auth", *_AFTER_LOGIN)
    code: int = 500

    def __post_init__(self) -> None:
        _check_whole("An error code", self.code)


# -- what is sent ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Garbage(Fault):
    """A frame that is no message comes before the next one: bytes as binary, text as text.

    In the handshake it comes instead of an answer, and the connection ends.
    """

    moments: ClassVar = ("handshake", *_ALWAYS)
    data: bytes | str = b"\xc1no message\xff"

    def __post_init__(self) -> None:
        data: object = self.data
        if not isinstance(data, bytes | str):
            raise BadInputError(f"Garbage is bytes or text, not {type(data).__name__}.")


@dataclass(frozen=True, slots=True)
class Truncated(Fault):
    """The next frame arrives as a whole frame, but half of what it should hold is missing."""

    moments: ClassVar = _ALWAYS


@dataclass(frozen=True, slots=True)
class Oversize(Fault):
    """A frame of so many bytes comes before the next one: messages of an unknown type."""

    moments: ClassVar = _ALWAYS
    size: int = 3 << 20

    def __post_init__(self) -> None:
        _check_whole("A size in bytes", self.size)


@dataclass(frozen=True, slots=True)
class UnknownMessage(Fault):
    """A message of an unknown type comes first, and the next frame's have an unknown key."""

    moments: ClassVar = _ALWAYS
    tag: str = "zz"


@dataclass(frozen=True, slots=True)
class Duplicate(Fault):
    """The last so many data messages that this client was sent are sent again."""

    moments: ClassVar = _AFTER_LOGIN
    messages: int = 10

    def __post_init__(self) -> None:
        _check_whole("The number of messages", self.messages, most=MOST_DUPLICATES)


@dataclass(frozen=True, slots=True)
class LateData(Fault):
    """After an unsubscription its data keeps coming for so many seconds."""

    moments: ClassVar = ("ack",)
    seconds: float = 1.0

    def __post_init__(self) -> None:
        _check_seconds(self.seconds)


@dataclass(frozen=True, slots=True)
class DelayAcks(Fault):
    """An acknowledgement comes so many seconds late; the change is in force, data may come."""

    moments: ClassVar = ("ack",)
    seconds: float = 1.0

    def __post_init__(self) -> None:
        _check_seconds(self.seconds)


# -- REST --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RefuseRest(Fault):
    """A REST request is answered with an HTTP error, and Alpaca's shape of message or `body`.

    With 429, the headers say that the limit is lifted after `reset_s` seconds.
    """

    moments: ClassVar = ("rest",)
    status: int = 500
    body: str | None = None
    reset_s: float = 1.0

    def __post_init__(self) -> None:
        _check_status(self.status)
        _check_seconds(self.reset_s)


@dataclass(frozen=True, slots=True)
class HtmlRest(Fault):
    """A REST request is answered with a web page, as by a proxy that wants a log-in."""

    moments: ClassVar = ("rest",)
    status: int = 200

    def __post_init__(self) -> None:
        if self.status != 200:
            _check_status(self.status)


@dataclass(frozen=True, slots=True)
class EndlessPages(Fault):
    """A history never ends: after its page, ever more empty ones, each with another token."""

    moments: ClassVar = ("rest",)


@dataclass(frozen=True, slots=True)
class SlowRest(Fault):
    """A REST request is answered so many seconds late."""

    moments: ClassVar = ("rest",)
    seconds: float = 1.0

    def __post_init__(self) -> None:
        _check_seconds(self.seconds)


@dataclass(frozen=True, slots=True)
class CutRest(Fault):
    """The connection of a REST request ends without an answer, or in the middle of it."""

    moments: ClassVar = ("rest",)
    mid_answer: bool = True


OF_REST = (RefuseRest, HtmlRest, EndlessPages, SlowRest, CutRest)
"""What happens to a REST request itself; every other fault happens to streams."""


# -- the table ---------------------------------------------------------------------------


@dataclass(slots=True)
class _Armed:
    fault: Fault
    moment: Moment
    times: int | None
    after: int
    left: int = field(init=False)
    """Data messages to be sent before it happens the next time."""

    def __post_init__(self) -> None:
        self.left = self.after


class Faults:
    """The faults that are armed, and those that have happened; usable from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._armed: dict[str, deque[_Armed]] = {}
        self._happened: list[tuple[Fault, Moment]] = []
        self._strike: Callable[[Fault], None] | None = None
        self.armed = False
        """Whether any fault is waiting for its moment."""
        self.endless = False
        """Whether histories have no end at present."""

    def __repr__(self) -> str:
        with self._lock:
            waiting = [each for queue in self._armed.values() for each in queue]
        told = ", ".join(f"{each.fault!r} at {each.moment}" for each in waiting)
        return f"Faults({told})"

    @property
    def happened(self) -> list[tuple[Fault, Moment]]:
        """What has happened so far, in order, each with its moment."""
        with self._lock:
            return list(self._happened)

    def add(self, fault: Fault, *, at: Moment, times: int | None = 1, after: int = 0) -> None:
        """Arm a fault for the next `times` times that its moment comes; None for always.

        At `data`, it happens after that many data messages have been sent to anybody
        since its turn came, and again after as many.

        Raises BadInputError for a fault that cannot happen at that moment, and
        SimulatorError for `now` while no simulator is running.
        """
        _check(fault, at, times, after)
        if at == "now":
            self._strike_now(fault)
            return
        with self._lock:
            # Its moment is that of an unsubscription: other faults must not wait for it.
            queue = "late" if isinstance(fault, LateData) else at
            self._armed.setdefault(queue, deque()).append(_Armed(fault, at, times, after))
            self.armed = True

    def clear(self) -> None:
        """Disarm everything; what has happened stays, in effect and on record."""
        with self._lock:
            self._armed.clear()
            self.armed = self.endless = False

    # -- what the server asks ------------------------------------------------------------

    def attach(self, strike: Callable[[Fault], None] | None) -> None:
        """Say what makes a fault happen at once, or that nothing is running any more."""
        self._strike = strike

    def take(self, moment: str, kind: type[Fault] = Fault) -> Fault | None:
        """The fault that happens now that its moment has come, if it is of that kind."""
        if not self.armed:
            return None
        with self._lock:
            queue = self._armed.get(moment)
            if not queue or queue[0].left or not isinstance(queue[0].fault, kind):
                return None
            armed = queue[0]
            armed.left = armed.after
            if armed.times is not None:
                armed.times -= 1
                if not armed.times:
                    queue.popleft()
                    self.armed = any(self._armed.values())
            if isinstance(armed.fault, EndlessPages):
                self.endless = True
            self._happened.append((armed.fault, armed.moment))
            return armed.fault

    def room(self, most: int) -> int:
        """How many data messages may be sent before the next fault is due."""
        with self._lock:
            queue = self._armed.get("data")
            return min(queue[0].left, most) if queue else most

    def count(self, messages: int) -> None:
        """Say that data messages have been sent."""
        with self._lock:
            queue = self._armed.get("data")
            if queue:
                queue[0].left = max(0, queue[0].left - messages)

    def _strike_now(self, fault: Fault) -> None:
        strike = self._strike
        if strike is None:
            raise SimulatorError(
                "The simulator is not running, so nothing can happen to it now; start it first."
            )
        with self._lock:
            self._happened.append((fault, "now"))
        strike(fault)


def _check(fault: object, at: object, times: object, after: object) -> None:
    if not isinstance(fault, Fault):
        raise BadInputError(f"A fault is one such as Cut(), not {fault!r}.")
    if at not in MOMENTS:
        raise BadInputError(f"There is no moment {at!r}; choose one of {', '.join(MOMENTS)}.")
    if at not in fault.moments:
        allowed = ", ".join(fault.moments)
        raise BadInputError(
            f"{type(fault).__name__} cannot happen at {at!r}; choose one of {allowed}."
        )
    if times is not None:
        _check_whole("times=, unless it is None for always,", times)
    _check_whole("after=, which counts data messages,", after, least=0)
    if after and at != "data":
        raise BadInputError(f"after= counts data messages; it goes with at='data', not {at!r}.")
    if times != 1 and at == "now":
        raise BadInputError("What happens now happens once; leave out times=.")


def _check_seconds(seconds: object) -> None:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
        raise BadInputError(f"A time is a number of seconds from 0 up, not {seconds!r}.")


def _check_status(status: object) -> None:
    if isinstance(status, bool) or not isinstance(status, int) or not 400 <= status <= 599:
        raise BadInputError(f"An HTTP error is a number from 400 to 599, not {status!r}.")


def _check_whole(name: str, value: object, *, least: int = 1, most: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise BadInputError(f"{name} is a whole number from {least} up, not {value!r}.")
    if most is not None and value > most:
        raise BadInputError(f"{name} is {most} at most, not {value!r}.")
