"""The seam to the network: what a connection must offer, and the WebSocket one.

A stream is handed a `Connector`. The live socket is one; a recording, a test double or
another WebSocket library are others.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import websockets.asyncio.client as websockets_client
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidStatus,
    InvalidURI,
    ProxyError,
)

from alpaca_nb.errors import AlpacaError, BadInputError, ConnectError

OPEN_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 0.5
"""A disconnect ends within a second, also when the other side is gone."""
PING_INTERVAL_S = 10.0
PING_TIMEOUT_S = 20.0


# On the level DEBUG the library would log every frame, and one of them holds the keys. The
# filter is for those who set the level of every logger there is.
_LOGGER = logging.getLogger("alpaca_nb.websockets")
_LOGGER.setLevel(logging.INFO)
_LOGGER.addFilter(lambda record: record.levelno > logging.DEBUG)


@dataclass(frozen=True, slots=True)
class Closed:
    """How a connection ended; `code` is None when no close frame came."""

    code: int | None
    reason: str

    def __str__(self) -> str:
        if self.code is None:
            return "the connection broke without a goodbye"
        return f"the server closed with {self.code}" + (f" ({self.reason})" if self.reason else "")


class Connection(Protocol):
    """An open connection. Frames arrive through the callback given to its connector."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The response headers of the handshake."""
        ...

    async def send(self, data: bytes | str) -> None:
        """Send one frame, text for str; a connection that is gone swallows it."""
        ...

    async def close(self) -> None:
        """Say goodbye and close; may be called twice."""
        ...

    def pause(self) -> None:
        """Read nothing until `resume`; the other side notices that it has to wait."""
        ...

    def resume(self) -> None:
        """Read on."""
        ...

    async def wait_closed(self) -> Closed:
        """Return when the connection has ended, whoever ended it."""
        ...


class Connector(Protocol):
    """Makes connections.

    `headers` may hold keys: neither an error nor its traceback may show their values.
    """

    async def __call__(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        on_frames: Callable[[list[bytes]], None],
        compression: bool,
    ) -> Connection:
        """Connect, and call `on_frames` on this loop with the frames of each chunk, in order.

        There is one call for all that one read from the network completed, text as bytes too.

        Raises ConnectError where nobody answers or the handshake is refused, and
        BadInputError for an address that is none.
        """
        ...


def display_url(url: str) -> str:
    """The address as it may be shown: without query string and user information."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path}"


def check_url(url: str) -> str:
    """Return the address; raises BadInputError unless it is a ws:// or wss:// one."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("ws", "wss") and bool(parts.hostname) and parts.port != 0
    except (ValueError, AttributeError, TypeError):
        usable = False
    if not usable:
        raise BadInputError(
            "A stream's address starts with ws:// or wss:// and names a host, such as "
            "ws://127.0.0.1:8765/v2/iex."
        )
    return url


async def connect_websocket(
    url: str,
    *,
    headers: Mapping[str, str],
    on_frames: Callable[[list[bytes]], None],
    compression: bool = False,
    open_timeout_s: float = OPEN_TIMEOUT_S,
) -> Connection:
    """Connect with the websockets library; see `Connector`."""
    try:
        socket = await _Connect(
            url,
            additional_headers=headers,
            compression="deflate" if compression else None,
            open_timeout=open_timeout_s,
            close_timeout=CLOSE_TIMEOUT_S,
            ping_interval=PING_INTERVAL_S,
            ping_timeout=PING_TIMEOUT_S,
            max_size=None,
            logger=_LOGGER,
            proxy=None if is_loopback(url) else True,
        )
    # What comes out of the library holds the request, and with it the keys: neither an error
    # nor its traceback may go on from here.
    except Exception as error:
        failure = _explain(error, display_url(url), open_timeout_s)
    except asyncio.CancelledError as error:
        error.__cause__ = error.__context__ = error.__traceback__ = None
        raise error
    else:
        if socket.request is not None:
            socket.request.headers.clear()  # the library would keep them
        return _WebSocket(socket, on_frames)
    raise failure


class _Connect(websockets_client.connect):
    """The library's connection, but it goes nowhere else.

    The library takes the headers with the keys along to whatever host a redirect names.
    """

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class _WebSocket:
    def __init__(
        self,
        socket: websockets_client.ClientConnection,
        on_frames: Callable[[list[bytes]], None],
    ) -> None:
        self._socket = socket
        self._on_frames = on_frames
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._reader = asyncio.create_task(self._read(), name="alpaca_nb reader")

    @property
    def headers(self) -> Mapping[str, str]:
        response = self._socket.response
        return response.headers if response is not None else {}

    async def send(self, data: bytes | str) -> None:
        with suppress(ConnectionClosed):  # wait_closed tells
            await self._socket.send(data)

    async def close(self) -> None:
        self._may_read.set()  # a reader that is paused would never see the end
        await self._socket.close()
        await self.wait_closed()

    def pause(self) -> None:
        # What the library has read ahead waits in its own short queue; then it stops reading.
        self._may_read.clear()

    def resume(self) -> None:
        self._may_read.set()

    async def wait_closed(self) -> Closed:
        return await asyncio.shield(self._reader)

    async def _read(self) -> Closed:
        try:
            while True:
                if not self._may_read.is_set():
                    await self._may_read.wait()
                # Text is not decoded to str on the way: the codec takes bytes.
                self._on_frames([await self._socket.recv(decode=False)])
        except ConnectionClosed as error:
            return _how_closed(error)
        except BaseException:
            # Without a reader the connection would be open and mute: end it.
            self._socket.transport.abort()
            raise


def _how_closed(error: ConnectionClosed) -> Closed:
    frame: Any = error.rcvd
    return Closed(frame.code, frame.reason) if frame is not None else Closed(None, "")


def _explain(error: Exception, shown: str, open_timeout_s: float) -> AlpacaError:
    """Why there is no connection, from what the library raised."""
    if isinstance(error, InvalidURI):
        return BadInputError(f"{shown} is not an address of a WebSocket.")
    if isinstance(error, InvalidStatus):
        return _refused(shown, error.response.status_code)
    if isinstance(error, ProxyError):
        text = f"The proxy on the way to {shown} refused."
    elif isinstance(error, InvalidHandshake):
        text = f"{shown} answered, but not as a WebSocket."
    elif isinstance(error, TimeoutError):
        text = f"{shown} did not answer within {open_timeout_s:.0f} s; check the network."
    else:
        text = (
            f"Nobody answers at {shown} ({_reason(error)}); check the address, and that the "
            "server runs."
        )
    return ConnectError(text, url=shown)


_REFUSALS = {
    401: "the credentials in the handshake were refused",
    403: "access is forbidden; check the address and the plan",
    404: "there is no such feed at this address",
    429: "too many connections in a short time",
}


def _refused(shown: str, status: int) -> ConnectError:
    reason = _REFUSALS.get(status, "the handshake was refused")
    if status >= 500:
        reason = "the server is in trouble"
    elif 300 <= status < 400:
        reason = "the stream is at another address; check this one"
    return ConnectError(f"{shown} answered HTTP {status}: {reason}.", url=shown, status=status)


def _reason(error: Exception) -> str:
    """Why a connection was not made, in the system's words and without numbers."""
    number = getattr(error, "errno", None)
    if number is not None and number > 0:
        return os.strerror(number)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def is_loopback(url: str) -> bool:
    """Whether an address means this machine."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")
