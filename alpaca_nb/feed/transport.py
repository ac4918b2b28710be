"""The seam to the network: what a connection must offer, and which library makes it.

A stream is handed a `Connector`. The live socket is one; a recording, a test double or
another WebSocket library are others. Two libraries are known: websockets, which always is
there, and picows, which comes with `alpaca-nb[fast]`. Each is loaded with its first use.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from alpaca_nb.errors import AlpacaError, BadInputError, ConnectError

OPEN_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 0.5
"""A disconnect ends within a second, also when the other side is gone."""

TRANSPORT_VARIABLE = "ALPACA_NB_TRANSPORT"
"""The environment variable that names the library to connect with."""


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
    """Connect with picows where it is installed, else with websockets; see `Connector`.

    The variable ALPACA_NB_TRANSPORT names one of the two. What picows does not know, such as
    compression, goes through websockets all the same. Raises BadInputError for an unknown
    name, one that is not installed, and headers that cannot be sent.
    """
    name = transport_name()
    _check_headers(headers)
    if name == "picows" and not compression and not _is_unusual(url):
        from alpaca_nb.feed import picows_transport

        dial = picows_transport.connect
    else:
        from alpaca_nb.feed import websockets_transport

        dial = websockets_transport.connect
    return await dial(
        url,
        headers=headers,
        on_frames=on_frames,
        compression=compression,
        open_timeout_s=open_timeout_s,
    )


def transport_name() -> str:
    """The library that connections are made with: "picows" or "websockets".

    Raises BadInputError where ALPACA_NB_TRANSPORT names none that can be used.
    """
    asked = os.getenv(TRANSPORT_VARIABLE, "")
    if asked not in ("", "websockets", "picows"):
        raise BadInputError(
            f"{TRANSPORT_VARIABLE} is {asked!r}, but it is 'websockets', 'picows' or not set."
        )
    if asked == "websockets" or (not asked and not _has_picows()):
        return "websockets"
    if not _has_picows():
        raise BadInputError(
            f"{TRANSPORT_VARIABLE} asks for picows, which is not installed: "
            "pip install alpaca-nb[fast]"
        )
    return "picows"


def _has_picows() -> bool:
    """Whether it is there and can be loaded."""
    try:
        from alpaca_nb.feed import picows_transport  # noqa: F401
    except ImportError:
        return False
    return True


def _is_unusual(url: str) -> bool:
    """Whether an address holds what picows does not know: a user, letters beyond ASCII."""
    return "@" in urlsplit(url).netloc or not url.isascii()


def _check_headers(headers: Mapping[str, str]) -> None:
    odd = [name for name in headers if not _can_be_sent(name, headers)]
    if odd:
        raise BadInputError(f"No header can hold the characters of {', '.join(odd)}.")


def _can_be_sent(name: str, headers: Mapping[str, str]) -> bool:
    return headers[name].isascii() and headers[name].isprintable()


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for an address; never one for this machine.

    Raises ConnectError where what it names is no proxy.
    """
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    is_secure = parts.scheme == "wss"
    port = parts.port or (443 if is_secure else 80)
    if is_loopback(url) or proxy_bypass(f"{parts.hostname}:{port}"):
        return None
    proxies = getproxies()
    # A proxy of their own, then one that can tunnel anything, then those for HTTP.
    for kind in ("wss", "socks", "https") if is_secure else ("ws", "socks", "https", "http"):
        if kind in proxies:
            proxy = proxies[kind]
            if kind == "socks" and proxy.startswith("http://"):
                proxy = "socks5h://" + proxy.removeprefix("http://")  # how some systems say it
            _check_proxy(proxy, url)
            return proxy
    return None


def _check_proxy(proxy: str, url: str) -> None:
    try:
        parts = urlsplit(proxy)
        usable = parts.scheme in _PROXIES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConnectError(
            f"The proxy that the environment names for {display_url(url)} is none: its address "
            f"starts with one of {', '.join(_PROXIES)}, such as http://127.0.0.1:3128.",
            url=display_url(url),
        )


_PROXIES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")


# -- why there is no connection, in the same words whatever library says it --


def not_an_address(url: str) -> AlpacaError:
    """The library takes the address for none."""
    return BadInputError(f"{display_url(url)} is not an address of a WebSocket.")


def refused_by_proxy(url: str) -> AlpacaError:
    """A proxy answered, and makes no way."""
    shown = display_url(url)
    return ConnectError(f"The proxy on the way to {shown} refused.", url=shown)


def not_a_websocket(url: str) -> AlpacaError:
    """Something answered that does not speak WebSocket."""
    shown = display_url(url)
    return ConnectError(f"{shown} answered, but not as a WebSocket.", url=shown)


def unreachable(url: str, error: Exception, open_timeout_s: float) -> AlpacaError:
    """No connection was made, or none that is secure."""
    import ssl

    shown = display_url(url)
    if isinstance(error, TimeoutError):
        text = f"{shown} did not answer within {open_timeout_s:.0f} s; check the network."
    elif isinstance(error, ssl.SSLCertVerificationError):
        text = (
            f"{shown} answered with a certificate that does not prove who it is "
            f"({error.verify_message}); check the address and this machine's certificates."
        )
    elif isinstance(error, ssl.SSLError):
        text = (
            f"{shown} answered, but no secure connection came about "
            f"({error.reason or 'it broke off'}); check the address."
        )
    elif isinstance(error, ImportError):
        text = (
            f"The way to {shown} leads through a SOCKS proxy, for which a package is missing: "
            "pip install python-socks"
        )
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


def refused(url: str, status: int) -> AlpacaError:
    """The server answered the handshake with another HTTP status."""
    shown = display_url(url)
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
