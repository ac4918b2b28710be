"""Every exception that alpaca_nb raises on purpose.

AlpacaError
├── BadInputError (ValueError)       what the caller gave cannot be used; nothing was started
│   ├── UnknownFeedError
│   ├── UnknownChannelError
│   └── RecordingError               a file that is missing, cut off or of another shape
├── CredentialsError                 no keys, or half a pair
├── StreamError                      the live connection
│   ├── ConnectError                 nobody answered, or the handshake was refused
│   ├── ConnectionLostError          it was up, and the reconnects are used up
│   ├── ProtocolError                the other side does not speak Alpaca's protocol
│   └── ServerError                  Alpaca answered with an error code
│       ├── AuthenticationError      402, 411
│       ├── PlanError                409
│       ├── ConnectionLimitError     406
│       └── SubscriptionError        400, 405, 410, 412, 413
├── RestError                        the REST interface refused or did not answer
│   └── RecentDataError              the plan has no right to the last 15 minutes
└── SimulatorError                   the local simulator could not start
"""

from __future__ import annotations


class AlpacaError(Exception):
    """Any error that alpaca_nb raises on purpose."""


class BadInputError(AlpacaError, ValueError):
    """Something the caller passed in cannot be used; the message says what is allowed."""


class UnknownFeedError(BadInputError):
    """A feed name that Alpaca does not offer."""


class UnknownChannelError(BadInputError):
    """A channel name that the feed does not carry."""


class RecordingError(BadInputError):
    """A file of market data is missing, cut off, or not in Alpaca's message shape.

    `path` is the file, `line` the line (or row) counted from 1 where it is known.
    """

    def __init__(self, text: str, *, path: str, line: int | None = None) -> None:
        super().__init__(text)
        self.path = path
        self.line = line


class CredentialsError(AlpacaError):
    """No API keys were found where they are needed, or only half of a pair."""


class StreamError(AlpacaError):
    """Something went wrong with the live connection."""


class ConnectError(StreamError):
    """Nobody answered at the address, or the WebSocket handshake was refused.

    `url` is the address without its query string; `status` the HTTP status of a
    refused handshake, or None where nothing answered.
    """

    def __init__(self, text: str, *, url: str, status: int | None = None) -> None:
        super().__init__(text)
        self.url = url
        self.status = status


class ConnectionLostError(StreamError):
    """A stream that was up went down and its reconnect attempts are used up."""


class ProtocolError(StreamError):
    """The other side sent something that is no part of Alpaca's protocol."""


class ServerError(StreamError):
    """Alpaca answered with an error; `code` and `message` are what it sent."""

    def __init__(self, code: int, message: str, advice: str = "") -> None:
        text = f"Alpaca answered {code} ({message})"
        super().__init__(f"{text}: {advice}." if advice else f"{text}.")
        self.code = code
        self.message = message
        self.advice = advice


class AuthenticationError(ServerError):
    """The keys were refused, or the token lacks the scope."""


class PlanError(ServerError):
    """The keys are right, but the account's plan does not include this feed."""


class ConnectionLimitError(ServerError):
    """Another connection of the same account holds the only place on this endpoint."""


class SubscriptionError(ServerError):
    """A subscription was refused; the earlier ones stay in force."""


class RestError(AlpacaError):
    """The REST interface refused a request or did not answer; `status` is its HTTP status."""

    def __init__(self, text: str, *, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class RecentDataError(RestError):
    """The plan has no right to SIP data of the last 15 minutes; ask again when it is older."""


class SimulatorError(AlpacaError):
    """The local simulator could not start."""


_ADVICE: dict[int, tuple[type[ServerError], str]] = {
    400: (SubscriptionError, "the request was malformed; check the symbols"),
    401: (AuthenticationError, "the connection is not authenticated"),
    402: (AuthenticationError, "check the API key and secret, and that they belong together"),
    404: (AuthenticationError, "no valid credentials arrived in time; connect again"),
    405: (SubscriptionError, "the plan's symbol limit is reached; unsubscribe something first"),
    406: (
        ConnectionLimitError,
        "another connection of this account holds the only place on this feed; close it, "
        "or wait about 90 s if it died without a goodbye",
    ),
    407: (ServerError, "the server dropped us for reading too slowly"),
    409: (PlanError, "the account's plan does not include this feed; feed='iex' is free"),
    410: (SubscriptionError, "this feed does not carry that channel"),
    411: (AuthenticationError, "the token lacks the scope for market data"),
    412: (SubscriptionError, "this endpoint needs MessagePack; leave the codec at 'msgpack'"),
    413: (SubscriptionError, "'*' is not allowed for option quotes; name the contracts"),
}


def server_error(code: int, message: str) -> ServerError:
    """Make the exception for an error message of Alpaca, with its advice."""
    kind, advice = _ADVICE.get(code, (ServerError, ""))
    return kind(code, message, advice)
