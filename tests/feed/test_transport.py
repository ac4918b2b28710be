"""The WebSocket transport against real sockets on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from alpaca_nb.errors import BadInputError, ConnectError
from alpaca_nb.feed.transport import Closed, connect_websocket, display_url

Handler = Callable[[ServerConnection], Any]


@asynccontextmanager
async def running(handler: Handler, **options: Any) -> AsyncIterator[str]:
    async with serve(handler, "127.0.0.1", 0, **options) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}/v2/iex?secret=1"


async def connect(url: str, frames: list[bytes] | None = None) -> Any:
    kept = [] if frames is None else frames
    return await connect_websocket(url, headers={"X-Test": "1"}, on_frames=kept.extend)


async def test_frames_arrive_in_order_as_bytes() -> None:
    """Text and binary frames, small and over a mebibyte, reach the callback as bytes."""
    big = b"x" * (1 << 21)

    async def handler(socket: ServerConnection) -> None:
        assert socket.request is not None
        assert socket.request.headers["X-Test"] == "1"
        await socket.send("text")
        await socket.send(b"binary")
        await socket.send(big)

    frames: list[bytes] = []
    async with running(handler) as url:
        connection = await connect(url, frames)
        closed = await connection.wait_closed()
    assert frames == [b"text", b"binary", big]
    assert closed == Closed(1000, "")


async def test_what_is_sent_keeps_its_kind() -> None:
    """Str goes out as text, bytes as binary; a gone connection swallows both."""
    received: list[Any] = []

    async def handler(socket: ServerConnection) -> None:
        received.append(await socket.recv())
        received.append(await socket.recv())

    async with running(handler) as url:
        connection = await connect(url)
        await connection.send("text")
        await connection.send(b"binary")
        await connection.wait_closed()
        await connection.send("nobody hears this")
    assert received == ["text", b"binary"]


async def test_close_says_goodbye_and_may_be_repeated() -> None:
    """The server sees a proper close frame."""
    codes: list[Any] = []

    async def handler(socket: ServerConnection) -> None:
        await socket.wait_closed()
        codes.append(socket.close_code)

    async with running(handler) as url:
        connection = await connect(url)
        await connection.close()
        await connection.close()
        await asyncio.sleep(0.05)
    assert codes == [1000]


async def test_a_cut_wire_is_told_apart_from_a_goodbye() -> None:
    """A connection that breaks has no close code."""

    async def handler(socket: ServerConnection) -> None:
        socket.transport.abort()

    async with running(handler) as url:
        closed = await (await connect(url)).wait_closed()
    assert closed.code is None
    assert "without a goodbye" in str(closed)


@pytest.mark.parametrize(
    ("status", "text"),
    [(404, "no such feed"), (429, "too many"), (401, "credentials"), (503, "in trouble")],
)
async def test_a_refused_handshake_names_status_and_address(status: int, text: str) -> None:
    """The error holds the HTTP status and the address without its query string."""

    def refuse(socket: ServerConnection, request: Any) -> Any:
        return socket.respond(HTTPStatus(status), "no\n")

    async with running(lambda socket: None, process_request=refuse) as url:
        with pytest.raises(ConnectError, match=text) as caught:
            await connect(url)
    assert caught.value.status == status
    assert "secret" not in str(caught.value)


async def test_a_redirect_is_not_followed() -> None:
    """The headers, and keys in them, go to no other address than the one that was given."""
    asked: list[Any] = []

    def note(socket: ServerConnection, request: Any) -> None:
        asked.append(request)

    async with running(lambda socket: None, process_request=note) as other:

        def redirect(socket: ServerConnection, request: Any) -> Any:
            response = socket.respond(HTTPStatus.FOUND, "")
            response.headers["Location"] = other
            return response

        async with running(lambda socket: None, process_request=redirect) as url:
            with pytest.raises(ConnectError, match="at another address") as caught:
                await connect(url)
    assert caught.value.status == 302
    assert asked == []


async def test_nobody_there() -> None:
    """A closed port is named, with the way out."""
    async with running(lambda socket: None) as url:
        pass
    with pytest.raises(
        ConnectError, match=r"Nobody answers at ws://127\.0\.0\.1:\d+/v2/iex \(Connection refused\)"
    ) as caught:
        await connect(url)
    assert caught.value.status is None


async def test_something_else_answers() -> None:
    """A server that does not speak WebSocket is said to be one."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConnectError, match="ws://127"):
            await connect(f"ws://127.0.0.1:{port}/")


async def test_a_bad_address() -> None:
    """What is no WebSocket address never reaches the network."""
    with pytest.raises(BadInputError):
        await connect("http://127.0.0.1:1/")


def test_an_address_is_shown_without_secrets() -> None:
    """User information and query string are left out."""
    assert display_url("wss://user:pass@host:81/v2/iex?key=1") == "wss://host:81/v2/iex"
