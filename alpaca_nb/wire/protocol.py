"""Both sides of Alpaca's conversation as state machines, without any input or output.

Each side is fed the frames that arrived (`receive`), answers with events, and is asked
what to send (`data_to_send`). Nothing here knows a socket, a loop or the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from msgspec.structs import asdict

from alpaca_nb.credentials import Credentials
from alpaca_nb.errors import BadInputError, ProtocolError, ServerError, server_error
from alpaca_nb.wire.codec import Codec, codec_of, decode
from alpaca_nb.wire.endpoints import Endpoint
from alpaca_nb.wire.messages import (
    CHANNEL_BY_KEY,
    CHANNEL_OF,
    CHANNELS,
    Error,
    Message,
    Subscription,
    Success,
    Unreadable,
    check_symbols,
)
from alpaca_nb.wire.subscriptions import DesiredSubscriptions, SubscriptionState
from alpaca_nb.wire.subscriptions import Subscriptions as Subscriptions
from alpaca_nb.wire.subscriptions import SubscriptionsChanged as SubscriptionsChanged
from alpaca_nb.wire.subscriptions import SubscriptionsRefused as SubscriptionsRefused

_DENIALS = 3
"""How often credentials are sent again because of 401 before any subscription was acknowledged."""

_EMPTY: frozenset[str] = frozenset()


class Verdict(Enum):
    """What an error of the server means for the connection."""

    IGNORE = auto()
    """Harmless."""
    REFUSED = auto()
    """The request in flight was refused; everything else stays in force."""
    REAUTHENTICATE = auto()
    """Send the credentials again on the same connection, at once."""
    WAIT = auto()
    """The account's place is taken: send the credentials again on this connection, slowly."""
    RECONNECT = auto()
    """This connection is lost; a new one may succeed."""
    FATAL = auto()
    """Trying again cannot help."""


_VERDICTS = {
    400: Verdict.REFUSED,
    401: Verdict.REAUTHENTICATE,
    402: Verdict.FATAL,
    403: Verdict.IGNORE,
    404: Verdict.RECONNECT,
    405: Verdict.REFUSED,
    406: Verdict.WAIT,
    407: Verdict.RECONNECT,
    408: Verdict.FATAL,
    409: Verdict.FATAL,
    410: Verdict.REFUSED,
    411: Verdict.FATAL,
    412: Verdict.FATAL,
    413: Verdict.REFUSED,
    500: Verdict.RECONNECT,
}


def judge(code: int) -> Verdict:
    """Decide what an error code means; unknown ones are worth another connection."""
    return _VERDICTS.get(code, Verdict.RECONNECT)


# -- events ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Welcomed:
    """The server greeted us; the credentials are on their way."""


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The credentials were accepted. `key` is set on the server's side."""

    key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class DataReceived:
    """Market data, in the order it stood in the frame."""

    messages: list[Message[Any]]


@dataclass(frozen=True, slots=True)
class UnreadableReceived:
    """Messages that are none of ours; worth counting, not worth stopping for."""

    messages: list[Unreadable]


@dataclass(frozen=True, slots=True)
class ErrorReceived:
    """The server reported an error that concerns the connection itself."""

    error: ServerError
    verdict: Verdict


ClientEvent = (
    Welcomed
    | Authenticated
    | SubscriptionsChanged
    | SubscriptionsRefused
    | DataReceived
    | UnreadableReceived
    | ErrorReceived
)
ServerEvent = Authenticated | SubscriptionsChanged


# -- the client's side -------------------------------------------------------------------


class _ClientState(Enum):
    GREETING = auto()
    AUTHENTICATING = auto()
    READY = auto()


class ClientProtocol:
    """The client's side: greets, authenticates, and makes the server's set follow the wanted one.

    Subscriptions are a desired state: `want` and `unwant` may be called at any time, also
    before the connection is made; `wire.subscriptions` has the rules. After a loss, `reset`
    starts a new conversation that asks for everything again.
    """

    def __init__(
        self, codec: Codec, credentials: Credentials, *, header_auth: bool = False
    ) -> None:
        self._asked_for = codec
        self._credentials = credentials
        self._header_auth = header_auth
        self._subscriptions = DesiredSubscriptions()
        self.reset()

    def __repr__(self) -> str:
        return f"ClientProtocol({self._state.name.lower()})"

    def reset(self) -> None:
        """Start a new conversation; what is wanted stays wanted."""
        self._state = _ClientState.GREETING
        self._was_ready = False
        self._denials = 0
        self.codec = self._asked_for
        """What requests are written in: the codec of the server's greeting once it came."""
        self._subscriptions.restart()
        # Requests wait as what they are: in a frame the keys could be read.
        self._outbox: list[dict[str, Any]] = []

    @property
    def authenticated(self) -> bool:
        """Whether the server accepted the credentials on this connection."""
        return self._state is _ClientState.READY

    @property
    def settled(self) -> bool:
        """Whether everything wanted is confirmed or refused, and nothing else is confirmed."""
        return self._subscriptions.settled

    @property
    def wanted(self) -> Subscriptions:
        """What has been asked for, by channel."""
        return self._subscriptions.wanted

    @property
    def confirmed(self) -> Subscriptions:
        """What the server said it sends, automatic channels included."""
        return self._subscriptions.confirmed

    @property
    def refused(self) -> dict[tuple[str, str], ServerError]:
        """Why a wanted (channel, symbol) will not come."""
        return self._subscriptions.refused

    @property
    def in_flight(self) -> object:
        """The request that waits for its answer, or None; another object for each request."""
        return self._subscriptions.in_flight

    def state(self, channel: str, symbol: str) -> SubscriptionState:
        """What the server has said to the wish for a symbol; cheap, from any thread."""
        return self._subscriptions.state(channel, symbol)

    def is_sent(self, channel: str, symbols: frozenset[str]) -> bool:
        """Whether the server sends all of these, as far as it has said or must be assumed."""
        return self._subscriptions.is_sent(channel, symbols)

    def want(self, channel: str, symbols: Iterable[str]) -> None:
        """Ask for symbols; each call counts, and is undone by one `unwant`.

        Wanting again what was refused asks for it again. Raises UnknownChannelError.
        """
        self._subscriptions.want(channel, symbols)
        self._follow()

    def unwant(self, channel: str, symbols: Iterable[str]) -> None:
        """Undo one `want` of each symbol; the last one unsubscribes it."""
        self._subscriptions.unwant(channel, symbols)
        self._follow()

    def skip_answer(self) -> list[ClientEvent]:
        """Go on without the answer to the request in flight: some proxies never acknowledge.

        What it asked for is taken as done, and reported so, but not as confirmed.
        """
        events: list[ClientEvent] = list(self._subscriptions.skip())
        self._follow()
        return events

    def authenticate(self) -> None:
        """Send the credentials (again), as after 406 on the same connection."""
        key, secret = self._credentials.key, self._credentials.secret
        self._outbox.append({"action": "auth", "key": key, "secret": secret})

    def data_to_send(self) -> list[bytes]:
        """Take the frames that are waiting to be sent."""
        outbox, self._outbox = self._outbox, []
        return [self.codec.encode_request(request) for request in outbox]

    def receive(self, data: bytes | str) -> list[ClientEvent]:
        """Take a frame and say what happened.

        Raises ProtocolError for what no Alpaca server sends, and nothing else; the
        connection is then of no use any more.
        """
        if self._state is _ClientState.GREETING:
            # A server that does not know our codec greets in its own: answer in that.
            self.codec = codec_of(data)
        events: list[ClientEvent] = []
        messages: list[Message[Any]] = []
        unreadable: list[Unreadable] = []
        for message in decode(data):
            if type(message) in CHANNEL_OF:
                messages.append(message)  # type: ignore[arg-type]
            elif isinstance(message, Unreadable):
                unreadable.append(message)
            else:
                events += self._receive_control(message)
        if messages:
            events.append(DataReceived(messages))
        if unreadable:
            events.append(UnreadableReceived(unreadable))
        return events

    def _receive_control(self, message: Any) -> Sequence[ClientEvent]:
        if isinstance(message, Success):
            return self._receive_success(message.message)
        if isinstance(message, Subscription):
            return self._receive_acknowledgement(message)
        return self._receive_error(message)

    def _receive_success(self, text: str) -> Sequence[ClientEvent]:
        if text == "connected" and self._state is _ClientState.GREETING:
            self._state = _ClientState.AUTHENTICATING
            if not self._header_auth:
                self.authenticate()
            return [Welcomed()]
        if text == "authenticated":
            return self._become_ready()
        return []

    def _become_ready(self) -> Sequence[ClientEvent]:
        if self._state is _ClientState.READY:
            return []
        self._state = _ClientState.READY
        self._was_ready = True
        self._follow()
        return [Authenticated()]

    def _receive_acknowledgement(self, message: Subscription) -> Sequence[ClientEvent]:
        self._denials = 0
        events = self._subscriptions.acknowledge(asdict(message))
        self._follow()
        return events

    def _receive_error(self, message: Error) -> Sequence[ClientEvent]:
        error = server_error(message.code, self._credentials.without_keys(message.message))
        verdict = judge(message.code)
        if verdict is Verdict.IGNORE:
            # 403, already authenticated: header and message credentials were both sent.
            return self._become_ready()
        if verdict is Verdict.REFUSED:
            return self._receive_refusal(error)
        if verdict is Verdict.REAUTHENTICATE:
            return self._receive_denial(error)
        if verdict is Verdict.WAIT:
            self._lose_authentication()
        return [ErrorReceived(error, verdict)]

    def _receive_refusal(self, error: ServerError) -> Sequence[ClientEvent]:
        events = self._subscriptions.refuse(error)
        if events is not None:
            self._follow()
            return events
        # Before the first request it can only be about the connection or the credentials.
        return [ErrorReceived(error, Verdict.REFUSED if self._was_ready else Verdict.FATAL)]

    def _receive_denial(self, error: ServerError) -> Sequence[ClientEvent]:
        self._lose_authentication()
        self._denials += 1
        if self._denials > _DENIALS:
            return [ErrorReceived(error, Verdict.RECONNECT)]
        self.authenticate()
        return []

    def _lose_authentication(self) -> None:
        """Ask for nothing until the server says again that we are in."""
        self._state = _ClientState.AUTHENTICATING
        self._subscriptions.forget_request()

    def _follow(self) -> None:
        """Send the next change that brings the confirmed set closer to the wanted one."""
        if self._state is not _ClientState.READY:
            return
        if self._subscriptions.in_flight is not None:
            return
        change = self._subscriptions.next_change()
        if change is None:
            return
        request = {CHANNELS[name].key: sorted(names) for name, names in change.symbols.items()}
        self._outbox.append({"action": change.action} | request)


# -- the server's side -------------------------------------------------------------------

_MESSAGES = {
    400: "invalid syntax",
    401: "not authenticated",
    402: "auth failed",
    403: "already authenticated",
    404: "auth timeout",
    405: "symbol limit exceeded",
    406: "connection limit exceeded",
    407: "slow client",
    408: "v2 not enabled",
    409: "insufficient subscription",
    410: "invalid subscribe action for this feed",
    411: "insufficient scope",
    412: "option messages are only available in MsgPack format",
    413: "star subscription is not allowed for option quotes",
    500: "internal error",
}
"""Alpaca's text for each error code; clients compare them."""

CLOSING_CODES = frozenset({402, 404, 407, 409, 411, 412})
"""Errors after which a server closes; only 407 is documented, the rest is the likelier guess."""

_CHANNEL_KEYS = CHANNEL_BY_KEY.keys() | {"news", "orderbooks", "pricing"}


class ServerProtocol:
    """The server's side of one connection.

    `authenticate` is asked with key and secret and answers None for yes, or an error
    code; `refuse` is asked before a change of subscriptions takes place and answers
    likewise. `limit` is the number of (trades or quotes, symbol) pairs that the plan
    allows, `star` whether "*" may be among them. Once `closing` is true, send what is
    left in `data_to_send` and close.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        codec: Codec,
        *,
        authenticate: Callable[[str, str], int | None],
        header_credentials: Credentials | None = None,
        limit: int | None = None,
        star: bool = True,
        refuse: Callable[[], int | None] | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._codec = codec
        self._check = authenticate
        self._header_credentials = header_credentials
        self._limit = limit
        self._star = star
        self._refuse = refuse
        self._outbox: list[bytes] = []
        self._subscriptions: dict[str, set[str]] = {c.name: set() for c in endpoint.channels}
        self.authenticated = False
        self.closing = False

    @property
    def subscriptions(self) -> Subscriptions:
        """What the client has subscribed, automatic channels included."""
        return {name: frozenset(symbols) for name, symbols in self._subscriptions.items()}

    def start(self) -> list[ServerEvent]:
        """Greet the client, and authenticate it if its handshake carried credentials."""
        self._send(Success("connected"))
        if self._header_credentials is None:
            return []
        key, secret = self._header_credentials.key, self._header_credentials.secret
        return self._authenticate(key.reveal(), secret.reveal())

    def receive(self, data: bytes | str) -> list[ServerEvent]:
        """Take a request, answer it, and say what changed. Never raises on what a client sends."""
        try:
            request = self._codec.decode_request(data)
        except ProtocolError:
            return self.fail(400)
        action = request.get("action")
        if action == "auth":
            return self._receive_auth(request)
        if action not in ("subscribe", "unsubscribe"):
            return self.fail(400)
        if not self.authenticated:
            return self.fail(401)
        return self._receive_change(action, request)

    def fail(self, code: int) -> list[ServerEvent]:
        """Send an error; some of them end the connection (`closing`)."""
        self._send(Error(code, _MESSAGES.get(code, "internal error")))
        self.closing = self.closing or code in CLOSING_CODES
        return []

    def wants(self, message: Message[Any]) -> bool:
        """Whether the client has subscribed this message."""
        symbols = self._subscriptions.get(CHANNEL_OF[type(message)].name, _EMPTY)
        return message.symbol in symbols or "*" in symbols

    def send_data(self, messages: Iterable[Message[Any]]) -> None:
        """Send those of the messages that the client has subscribed, as one array."""
        wanted = [message for message in messages if self.wants(message)]
        if wanted:
            self._outbox.append(self._codec.encode(wanted))

    def data_to_send(self) -> list[bytes]:
        """Take the frames that are waiting to be sent."""
        outbox, self._outbox = self._outbox, []
        return outbox

    def _send(self, message: Success | Error | Subscription) -> None:
        self._outbox.append(self._codec.encode([message]))

    def _receive_auth(self, request: Mapping[str, Any]) -> list[ServerEvent]:
        if self.authenticated:
            return self.fail(403)
        key, secret = request.get("key"), request.get("secret")
        if not isinstance(key, str) or not isinstance(secret, str):
            return self.fail(400)
        return self._authenticate(key, secret)

    def _authenticate(self, key: str, secret: str) -> list[ServerEvent]:
        code = self._check(key, secret)
        if code is not None:
            return self.fail(code)
        self.authenticated = True
        self._send(Success("authenticated"))
        return [Authenticated(key)]

    def _receive_change(self, action: str, request: Mapping[str, Any]) -> list[ServerEvent]:
        changed = {name: set(symbols) for name, symbols in self._subscriptions.items()}
        for key, symbols in request.items():
            # Unused channels come as nil or [] from Alpaca's own Go and JS clients.
            if key == "action" or not symbols:
                continue
            channel = CHANNEL_BY_KEY.get(key)
            if channel is None or channel.name not in changed:
                return self.fail(410 if key in _CHANNEL_KEYS else 400)
            if channel.automatic:
                continue
            try:
                names = check_symbols(symbols) if isinstance(symbols, list) else None
            except BadInputError:
                names = None
            if names is None:
                return self.fail(400)
            if action == "subscribe":
                changed[channel.name].update(names)
            else:
                changed[channel.name].difference_update(names)
        if action == "subscribe" and not self._fits(changed):
            return self.fail(405)
        code = self._refuse() if self._refuse is not None else None
        if code is not None:
            return self.fail(code)
        return self._accept(changed)

    def _fits(self, changed: Mapping[str, set[str]]) -> bool:
        """Whether the plan allows so much."""
        if not self._star and any("*" in changed.get(name, ()) for name in _LIMITED):
            return False
        return self._limit is None or _places(changed) <= self._limit

    def _accept(self, changed: dict[str, set[str]]) -> list[ServerEvent]:
        for channel in self._endpoint.channels:
            if channel.automatic:
                changed[channel.name] = set(changed["trades"])
        self._subscriptions = changed
        # Go's client sorts nothing and promises nothing; sorted makes one day like the next.
        listed = {name: sorted(symbols) for name, symbols in changed.items()}
        # The documentation's acknowledgement leaves imbalances out unless they are used.
        if not listed.get("imbalances"):
            listed.pop("imbalances", None)
        self._send(Subscription(**listed))
        return [SubscriptionsChanged(self.subscriptions)]


_LIMITED = ("trades", "quotes")


def _places(subscriptions: Mapping[str, set[str]]) -> int:
    """How much of a plan's limit is used: bars are free."""
    return sum(len(subscriptions.get(name, ())) for name in _LIMITED)
