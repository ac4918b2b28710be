"""Connections made by picows, which this module is the home of: `alpaca-nb[fast]`."""

from __future__ import annotations

import asyncio
import logging
import platform
import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import picows
from picows import WSFrame, WSListener, WSMsgType, WSTransport
from python_socks import ProxyError

from alpaca_nb.errors import AlpacaError
from alpaca_nb.feed import transport as seam
from alpaca_nb.feed.transport_common import Delivery, keep_alive

_BUFFER_BYTES = 1 << 20
"""As much as is read at once, for the reason that `websockets_transport` gives."""

_NO_LIMIT = 1 << 62

_TEXT, _BINARY, _CONTINUATION = WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION
_PING, _CLOSE = WSMsgType.PING, WSMsgType.CLOSE
_PROTOCOL_ERROR = picows.WSCloseCode.PROTOCOL_ERROR
_NORMAL = (1000).to_bytes(2)
_NO_CODE = 1005

# On its lowest level the library logs the handshake with the keys. The filter is for those who
# set the level of every logger there is; it sees all records only through an adapter, because
# the library makes a child of its own of what is a Logger.
_LOGGER = logging.getLogger("alpaca_nb.picows")
_LOGGER.setLevel(logging.INFO)
_LOGGER.addFilter(lambda record: record.levelno > logging.DEBUG)
_LOG = logging.LoggerAdapter(_LOGGER, {})


async def connect(
    url: str,
    *,
    headers: Mapping[str, str],
    on_frames: Callable[[list[bytes]], None],
    compression: bool,
    open_timeout_s: float,
) -> seam.Connection:
    """Connect with picows; see `Connector`. It knows no compression."""
    assert not compression
    proxy = seam.proxy_for(url)
    wire = _Wire()
    agent = f"Python/{platform.python_version()} picows"
    sent = [("User-Agent", agent), *headers.items()]
    try:
        async with asyncio.timeout(open_timeout_s):
            transport, listener = await picows.ws_connect(
                lambda: PicowsConnection(on_frames),
                url,
                ssl_context=ssl.create_default_context() if url.startswith("wss:") else None,
                websocket_handshake_timeout=None,  # the same clock for all that takes time
                logger_name=_LOG,
                enable_auto_ping=False,  # `keep_alive` does it
                enable_auto_pong=False,  # or the last frame of a chunk might never be seen
                max_frame_size=_NO_LIMIT,
                extra_headers=sent,
                max_redirects=0,  # the keys go nowhere else
                proxy=_spelled(proxy),
                read_buffer_init_size=_BUFFER_BYTES,
                socket_factory=wire.open,
            )
    # What comes out of the library holds the request, and with it the keys: neither an error
    # nor its traceback may go on from here.
    except Exception as error:
        wire.cut()
        failure = _explain(error, url, open_timeout_s)
    except asyncio.CancelledError as error:
        wire.cut()
        error.__cause__ = error.__context__ = error.__traceback__ = None
        raise error
    else:
        # The library's answer where the other side hung up instead of answering.
        if isinstance(listener, PicowsConnection):
            listener.start(transport)
            return listener
        failure = seam.not_a_websocket(url)
    finally:
        sent.clear()  # the library would keep them
    raise failure


class _Wire:
    """The socket to the server or the proxy, to be cut where the library would leave it open."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None

    async def open(self, address: Any) -> socket.socket:
        """Connect to the first of a host's addresses that answers, as asyncio does."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        failure = OSError(f"{address.host} has no address")
        for family, kind, protocol, _, where in found:
            wire = socket.socket(family, kind, protocol)
            wire.setblocking(False)
            try:
                await loop.sock_connect(wire, where)
            except OSError as error:
                wire.close()
                failure = error
            except BaseException:
                wire.close()
                raise
            else:
                self._socket = wire
                return wire
        raise failure

    def cut(self) -> None:
        """End it for both sides; whoever reads from it closes it then."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)


class PicowsConnection(WSListener):
    """A `Connection` of picows."""

    def __init__(self, on_frames: Callable[[list[bytes]], None]) -> None:
        self.delivery = Delivery(on_frames, self.abort)
        self._fragments: list[bytes] = []
        """The beginning of a message that comes in several frames."""
        self._takes_plain = True
        """Whether a whole frame of data is a message: not amid fragments or behind a goodbye."""
        self._closed = seam.Closed(None, "")
        self._is_closing = False
        self._deadline: asyncio.TimerHandle | None = None
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._transport: WSTransport
        self._end: asyncio.Task[seam.Closed]

    def start(self, transport: WSTransport) -> None:
        """Begin to hand over."""
        transport.request.headers.clear()  # the library would keep them
        self._end = asyncio.create_task(self._follow(), name="alpaca_nb connection")
        self.delivery.start()

    # -- Connection --

    @property
    def headers(self) -> Mapping[str, str]:
        """The response headers of the handshake."""
        return self._transport.response.headers

    async def send(self, data: bytes | str) -> None:
        """Send one frame, text for str; a connection that is gone swallows it."""
        await self._may_write.wait()
        if not self._is_closing:
            self._transport.send(_TEXT if isinstance(data, str) else _BINARY, data)

    async def close(self) -> None:
        """Say goodbye and close; may be called twice."""
        self.resume()  # or the end would never be read
        self._say_goodbye(_NORMAL)
        await self.wait_closed()

    def pause(self) -> None:
        """Read nothing until `resume`; the other side notices that it has to wait."""
        self.delivery.pause()
        self._transport.underlying_transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        self.delivery.resume()
        self._transport.underlying_transport.resume_reading()

    async def wait_closed(self) -> seam.Closed:
        """Return when the connection has ended, whoever ended it."""
        return await asyncio.shield(self._end)

    async def ping(self) -> None:
        """Ask for a pong."""
        if not self._is_closing:
            self._transport.send_ping(b"")

    def abort(self) -> None:
        """Cut the wire."""
        self._transport.underlying_transport.abort()

    # -- what picows calls --

    def on_ws_connected(self, transport: WSTransport) -> None:
        """The handshake is done."""
        self._transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take one frame; its bytes are the library's, and are overwritten."""
        kind = frame.msg_type
        if self._takes_plain and frame.fin and (kind is _BINARY or kind is _TEXT):
            self.delivery.frames.append(frame.get_payload_as_bytes())
        else:
            self._take_other(kind, frame)
        if frame.last_in_buffer:
            self.delivery.deliver()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The wire is gone."""
        self._is_closing = True
        self._may_write.set()
        if self._deadline is not None:
            self._deadline.cancel()

    def pause_writing(self) -> None:
        """The other side reads too slowly."""
        self._may_write.clear()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._may_write.set()

    # -- inside --

    def _take_other(self, kind: WSMsgType, frame: WSFrame) -> None:
        payload = frame.get_payload_as_bytes()
        if self._closed.code is not None:
            return
        if kind is _CLOSE:
            self._takes_plain = False
            code = int.from_bytes(payload[:2]) if payload else _NO_CODE
            self._closed = seam.Closed(code, payload[2:].decode())
            self._say_goodbye(payload)
        elif kind is _PING:
            self._transport.send_pong(payload)
        elif kind in (_TEXT, _BINARY, _CONTINUATION):
            self._take_fragment(kind is _CONTINUATION, payload, is_last=frame.fin)

    def _take_fragment(self, continues: bool, payload: bytes, *, is_last: bool) -> None:
        if continues is not bool(self._fragments):
            raise picows.WSProtocolError(_PROTOCOL_ERROR, "fragments out of order")
        self._fragments.append(payload)
        if is_last:
            self.delivery.frames.append(b"".join(self._fragments))
            self._fragments.clear()
        self._takes_plain = is_last

    def _say_goodbye(self, payload: bytes) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._transport.send(_CLOSE, payload)
            # The server closes the wire; one that does not is not waited for.
            loop = asyncio.get_running_loop()
            self._deadline = loop.call_later(seam.CLOSE_TIMEOUT_S, self.abort)

    async def _follow(self) -> seam.Closed:
        pings = asyncio.create_task(keep_alive(self), name="alpaca_nb pings")
        try:
            with suppress(picows.WSProtocolError):  # the library has logged it
                await self._transport.wait_disconnected()
        finally:
            pings.cancel()
            await asyncio.wait([pings])
        if self.delivery.failure is not None:
            raise self.delivery.failure
        return self._closed


def _spelled(proxy: str | None) -> str | None:
    """A proxy's address as the library wants it: it looks up no names itself anyway."""
    if proxy is None:
        return None
    scheme, _, rest = proxy.partition("://")
    return f"{ {'socks5h': 'socks5', 'socks4a': 'socks4'}.get(scheme, scheme) }://{rest}"


def _explain(error: Exception, url: str, open_timeout_s: float) -> AlpacaError:
    """Why there is no connection, from what the library raised."""
    if isinstance(error, picows.WSInvalidURL):
        return seam.not_an_address(url)
    if isinstance(error, picows.WSHandshakeError):
        status = _status(error)
        return seam.not_a_websocket(url) if status is None else seam.refused(url, status)
    if isinstance(error, ProxyError):
        return seam.refused_by_proxy(url)
    return seam.unreachable(url, error, open_timeout_s)


def _status(error: picows.WSHandshakeError) -> int | None:
    """The HTTP status of an answer that is no handshake.

    From the answer itself: the library knows only the statuses that have a name.
    """
    version, _, rest = (error.raw_header or b"").partition(b" ")
    digits = rest[:3]
    if not version.startswith(b"HTTP/1.") or not digits.isdigit() or len(digits) < 3:
        return None
    status = int(digits)
    return None if status == 101 else status
