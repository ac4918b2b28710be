"""Connections made by the websockets library, which this module is the home of.

The library opens, secures, answers and closes them. Whole frames of data go past its parser
and its queue: see `framing`.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, cast

import websockets.asyncio.client as client
from websockets.client import ClientProtocol
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidStatus,
    InvalidURI,
    ProxyError,
)
from websockets.frames import DATA_OPCODES, Frame
from websockets.protocol import OPEN, Event

from alpaca_nb.errors import AlpacaError
from alpaca_nb.feed import transport as seam
from alpaca_nb.feed.framing import frame_length, is_wrong, take_frames
from alpaca_nb.feed.transport_common import Delivery, keep_alive

_BUFFER_BYTES = 1 << 20
"""As much as is read at once.

Each read gives up the interpreter for a moment, and next to a busy thread it takes up to 5 ms
to get it back: a few large reads cost a fraction of many small ones. Memory that no read has
filled yet is not taken from the system.
"""

_END_OF_HEADERS = b"\r\n\r\n"

# On the level DEBUG the library would log every frame, and one of them holds the keys. The
# filter is for those who set the level of every logger there is.
_LOGGER = logging.getLogger("alpaca_nb.websockets")
_LOGGER.setLevel(logging.INFO)
_LOGGER.addFilter(lambda record: record.levelno > logging.DEBUG)


async def connect(
    url: str,
    *,
    headers: Mapping[str, str],
    on_frames: Callable[[list[bytes]], None],
    compression: bool,
    open_timeout_s: float,
) -> seam.Connection:
    """Connect with the websockets library; see `Connector`."""
    proxy = seam.proxy_for(url)
    try:
        socket = await _Connect(
            url,
            additional_headers=headers,
            compression="deflate" if compression else None,
            open_timeout=open_timeout_s,
            close_timeout=seam.CLOSE_TIMEOUT_S,
            ping_interval=None,  # `keep_alive` does it
            max_size=None,
            logger=_LOGGER,
            proxy=proxy,
            create_connection=cast(Any, functools.partial(_Socket, on_frames)),
        )
    # What comes out of the library holds the request, and with it the keys: neither an error
    # nor its traceback may go on from here.
    except Exception as error:
        failure = _explain(error, url, open_timeout_s)
    except asyncio.CancelledError as error:
        error.__cause__ = error.__context__ = error.__traceback__ = None
        raise error
    else:
        if socket.request is not None:
            socket.request.headers.clear()  # the library would keep them
        return WebSocket(cast(_Socket, socket))
    raise failure


class _Connect(client.connect):
    """The library's way to connect, but it goes nowhere else.

    The library takes the headers with the keys along to whatever host a redirect names.
    """

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class _Socket(client.ClientConnection, asyncio.BufferedProtocol):
    """The library's connection, which sees only what is no whole frame of data.

    It is fed up to the end of the handshake, then one whole frame at a time, so that its
    parser stands between two frames whenever plain ones are found. Where it has negotiated
    an extension, or found a mistake, or is about to close, it gets all that comes.
    """

    def __init__(
        self, on_frames: Callable[[list[bytes]], None], protocol: ClientProtocol, **options: Any
    ) -> None:
        super().__init__(protocol, **options)
        self.delivery = Delivery(on_frames, self.abort)
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._held: list[bytes] = []
        """The beginning of a frame whose end has not come."""
        self._lacking = 0
        """How many bytes at least have to come before it is looked at again."""
        self._fragments: list[bytes] = []
        """The beginning of a message that comes in several frames."""
        self._deadline: asyncio.TimerHandle | None = None

    def abort(self) -> None:
        """Cut the wire."""
        self.transport.abort()

    # -- what asyncio calls --

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next read goes."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """A read has ended."""
        self.data_received(bytes(self._buffer[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Take what was read; for loops that read into no buffer, too."""
        if self.response is None:
            data = self._shake_hands(data)
        if len(data) < self._lacking:
            self._held.append(data)
            self._lacking -= len(data)
        elif data:
            if self._held:
                self._held.append(data)
                data = b"".join(self._held)
                self._held.clear()
            self._lacking = 0
            self._receive(data)
        if self._deadline is None and self.protocol.close_expected():
            # The goodbyes are said; a server that keeps the wire open is not waited for.
            self._deadline = self.loop.call_later(seam.CLOSE_TIMEOUT_S, self.abort)
        self.delivery.deliver()

    def connection_lost(self, exc: Exception | None) -> None:
        """The wire is gone."""
        super().connection_lost(exc)
        if self._deadline is not None:
            self._deadline.cancel()

    # -- what the library calls --

    def process_event(self, event: Event) -> None:
        """Take what the library made of its share."""
        if not isinstance(event, Frame) or event.opcode not in DATA_OPCODES:
            super().process_event(event)
            return
        if event.fin and not self._fragments:
            self.delivery.frames.append(bytes(event.data))
            return
        self._fragments.append(bytes(event.data))
        if event.fin:
            self.delivery.frames.append(b"".join(self._fragments))
            self._fragments.clear()

    # -- the two ways --

    def _shake_hands(self, data: bytes) -> bytes:
        """Give the library its share of the handshake; returns what came behind it."""
        # The end of the headers may be spread over two reads.
        before = self._held.pop() if self._held else b""
        end = (before + data).find(_END_OF_HEADERS)
        if end < 0:
            self._held.append((before + data)[1 - len(_END_OF_HEADERS) :])
            super().data_received(data)
            return b""
        rest = end + len(_END_OF_HEADERS) - len(before)
        super().data_received(data[:rest])
        return data[rest:]

    def _receive(self, data: bytes) -> None:
        if not self._is_plain():
            super().data_received(data)
            return
        at = 0
        while True:
            if not self._fragments:
                at = take_frames(data, at, self.delivery.frames)
            length = frame_length(data, at)
            if length is not None and is_wrong(data, at):
                break  # the library says what is wrong, and ends it
            if length is None or at + length > len(data):
                self._hold(data[at:], length)
                return
            super().data_received(data[at : at + length])
            at += length
            if not self._is_plain():
                break
        super().data_received(data[at:])

    def _is_plain(self) -> bool:
        return self.protocol.state is OPEN and not self.protocol.extensions

    def _hold(self, data: bytes, length: int | None) -> None:
        if data:
            self._held.append(data)
            self._lacking = 1 if length is None else length - len(data)


class WebSocket:
    """A `Connection` of the websockets library."""

    def __init__(self, socket: _Socket) -> None:
        self.delivery = socket.delivery
        self._socket = socket
        self._end = asyncio.create_task(self._follow(), name="alpaca_nb connection")
        self.delivery.start()

    @property
    def headers(self) -> Mapping[str, str]:
        """The response headers of the handshake."""
        response = self._socket.response
        return response.headers if response is not None else {}

    async def send(self, data: bytes | str) -> None:
        """Send one frame, text for str; a connection that is gone swallows it."""
        with suppress(ConnectionClosed):  # wait_closed tells
            await self._socket.send(data)

    async def close(self) -> None:
        """Say goodbye and close; may be called twice."""
        self.resume()  # or the end would never be read
        await self._socket.close()
        await self.wait_closed()

    def pause(self) -> None:
        """Read nothing until `resume`; the other side notices that it has to wait."""
        self.delivery.pause()
        self._socket.transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        self.delivery.resume()
        self._socket.transport.resume_reading()

    async def wait_closed(self) -> seam.Closed:
        """Return when the connection has ended, whoever ended it."""
        return await asyncio.shield(self._end)

    async def ping(self) -> None:
        """Ask for a pong."""
        with suppress(ConnectionClosed):
            await self._socket.ping()

    def abort(self) -> None:
        """Cut the wire."""
        self._socket.abort()

    async def _follow(self) -> seam.Closed:
        pings = asyncio.create_task(keep_alive(self), name="alpaca_nb pings")
        try:
            await self._socket.wait_closed()
        finally:
            pings.cancel()
            await asyncio.wait([pings])
        if self.delivery.failure is not None:
            raise self.delivery.failure
        frame = self._socket.protocol.close_rcvd
        return seam.Closed(None, "") if frame is None else seam.Closed(frame.code, frame.reason)


def _explain(error: Exception, url: str, open_timeout_s: float) -> AlpacaError:
    """Why there is no connection, from what the library raised."""
    if isinstance(error, InvalidURI):
        return seam.not_an_address(url)
    if isinstance(error, InvalidStatus):
        return seam.refused(url, error.response.status_code)
    if isinstance(error, ProxyError):
        return seam.refused_by_proxy(url)
    if isinstance(error, InvalidHandshake):
        return seam.not_a_websocket(url)
    return seam.unreachable(url, error, open_timeout_s)
