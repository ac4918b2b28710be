"""A server that is never the limit: it holds Alpaca's conversation, then sends prepared bytes.

It runs in a process of its own, on a core of its own, and is told over a pipe what to send
to whom. Several clients may be connected; one is served at a time.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
import zlib
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol as WebSocket

from alpaca_nb.wire.codec import codec_for
from alpaca_nb.wire.endpoints import ENDPOINTS
from alpaca_nb.wire.protocol import ServerProtocol
from benchmarks.measuring import SERVER_CORE, pin
from benchmarks.quotes import Tape, header

AT_ONCE = 20_000
"""How many messages are made before they are sent."""
TICK_S = 0.001
"""How often something is sent when it is sent at a pace."""


@dataclass(frozen=True)
class Send:
    """Send quotes `start` to `stop` of the tape, as fast as it goes or at `rate` a second."""

    client: int
    tape: Tape
    start: int
    stop: int
    per_frame: int
    rate: float | None = None


@dataclass(frozen=True)
class SendUntilTold:
    """Send quotes from `start` on, as fast as they are taken, until anything comes by the pipe."""

    client: int
    tape: Tape
    start: int
    per_frame: int


@dataclass
class _Client:
    """One connection, and how far its conversation is."""

    socket: socket.socket
    websocket: WebSocket
    alpaca: ServerProtocol | None = None
    deflate: Any = None
    """The compressor whose window both sides know, where compression was agreed."""
    number: int = field(default=-1)


def serve(pipe: Connection) -> None:
    """Tell the port; then take orders. An order is answered with the number that was sent last.

    A client that has subscribed is told over the pipe too, as its number.
    """
    pin(SERVER_CORE)
    with socket.create_server(("127.0.0.1", 0)) as listener, selectors.DefaultSelector() as ready:
        ready.register(listener, selectors.EVENT_READ)
        ready.register(pipe, selectors.EVENT_READ)
        pipe.send(listener.getsockname()[1])
        clients: list[_Client] = []
        while True:
            for key, _ in ready.select():
                if key.fileobj is listener:
                    accepted = _accept(listener)
                    ready.register(accepted.socket, selectors.EVENT_READ, accepted)
                elif key.fileobj is pipe:
                    order = pipe.recv()
                    if order is None:
                        return
                    pipe.send(_carry_out(order, clients[order.client], pipe))
                elif not _converse(key.data):
                    ready.unregister(key.fileobj)
                    key.data.socket.close()
                elif key.data.number < 0 and _has_subscribed(key.data):
                    key.data.number = len(clients)
                    clients.append(key.data)
                    pipe.send(key.data.number)


def _accept(listener: socket.socket) -> _Client:
    connection, _ = listener.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    websocket = WebSocket(extensions=[ServerPerMessageDeflateFactory()], max_size=None)
    return _Client(connection, websocket)


def _converse(client: _Client) -> bool:
    """Take what a client sent and answer; False when it has gone."""
    try:
        data = client.socket.recv(1 << 16)
    except OSError:
        return False
    if not data:
        return False
    client.websocket.receive_data(data)
    for event in client.websocket.events_received():
        if isinstance(event, Request):
            _welcome(client, event)
        elif isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.BINARY):
            assert client.alpaca is not None
            client.alpaca.receive(bytes(event.data))
    data = b"".join(client.websocket.data_to_send())
    if client.alpaca is not None:
        # Plain, also where compression was agreed: the window begins with the data.
        data += b"".join(header(len(each)) + each for each in client.alpaca.data_to_send())
    with contextlib.suppress(OSError):
        client.socket.sendall(data)
    return True


def _welcome(client: _Client, request: Request) -> None:
    client.websocket.send_response(client.websocket.accept(request))
    if client.websocket.extensions:
        (agreed,) = client.websocket.extensions
        client.deflate = zlib.compressobj(wbits=-int(agreed.local_max_window_bits))  # type: ignore[attr-defined]
    codec = codec_for(request.headers.get("Content-Type"))
    client.alpaca = ServerProtocol(ENDPOINTS["sip"], codec, authenticate=lambda *_: None)
    client.alpaca.start()


def _has_subscribed(client: _Client) -> bool:
    return client.alpaca is not None and bool(client.alpaca.subscriptions["quotes"])


def _carry_out(order: Send | SendUntilTold, client: _Client, pipe: Connection) -> int:
    if isinstance(order, SendUntilTold):
        return _send_until_told(order, client, pipe)
    if order.rate is not None:
        return _send_at_a_pace(order, client)
    # All of it is made first, so that making it takes nothing from the client.
    chunks = [
        _bytes_of(order, client, start, min(start + AT_ONCE, order.stop))
        for start in range(order.start, order.stop, AT_ONCE)
    ]
    for chunk in chunks:
        client.socket.sendall(chunk)
    return order.stop


def _send_at_a_pace(order: Send, client: _Client) -> int:
    assert order.rate is not None
    begun_s, sent = time.monotonic(), order.start
    while sent < order.stop:
        time.sleep(TICK_S)
        due = order.start + int((time.monotonic() - begun_s) * order.rate)
        due = min(due - due % order.per_frame, order.stop)
        if due > sent:
            client.socket.sendall(_bytes_of(order, client, sent, due))
            sent = due
    return sent


def _send_until_told(order: SendUntilTold, client: _Client, pipe: Connection) -> int:
    sent = order.start
    while not pipe.poll():
        client.socket.sendall(_bytes_of(order, client, sent, sent + AT_ONCE))
        sent += AT_ONCE
    pipe.recv()
    return sent


def _bytes_of(order: Send | SendUntilTold, client: _Client, start: int, stop: int) -> bytes:
    frames = order.tape.frames(start, stop, order.per_frame)
    if client.deflate is None:
        return frames.tobytes()
    length = len(header(frames.shape[1] - 2)) if frames.shape[1] < 128 else 4
    parts = []
    for frame in frames:
        data = client.deflate.compress(frame[length:].tobytes())
        data += client.deflate.flush(zlib.Z_SYNC_FLUSH)
        data = data[:-4]  # as the extension wants it
        parts += (header(len(data), compressed=True), data)
    return b"".join(parts)
