"""The WebSocket transports against real sockets on loopback: both keep the same promises."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import socket as sockets
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from alpaca_nb.errors import BadInputError, ConnectError
from alpaca_nb.feed import transport_common
from alpaca_nb.feed.transport import (
    Closed,
    check_url,
    connect_websocket,
    display_url,
    proxy_for,
    transport_name,
)

Handler = Callable[[ServerConnection], Any]
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

KEY = "PKKEYINTESTS0000"
PROXIES = ("http_proxy", "https_proxy", "ws_proxy", "wss_proxy", "socks_proxy", "no_proxy")


@pytest.fixture(params=["websockets", "picows"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have connections made by one library, then by the other."""
    if request.param == "picows":
        pytest.importorskip("picows")
    monkeypatch.setenv("ALPACA_NB_TRANSPORT", request.param)
    return str(request.param)


both = pytest.mark.usefixtures("library")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the proxies of whoever runs the tests."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


# -- servers -----------------------------------------------------------------------------


@asynccontextmanager
async def running(handler: Handler, **options: Any) -> AsyncIterator[str]:
    """A proper server: its address."""
    async with serve(handler, "127.0.0.1", 0, **options) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        scheme = "wss" if "ssl" in options else "ws"
        yield f"{scheme}://127.0.0.1:{port}/v2/iex?secret=1"


@asynccontextmanager
async def listening(talk: Talk) -> AsyncIterator[str]:
    """A server of any kind on a bare socket: its address."""
    serving: set[Any] = set()

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await talk(reader, writer)
        with suppress(ConnectionError):
            writer.close()
            await writer.wait_closed()

    async with await asyncio.start_server(serve_one, "127.0.0.1", 0) as server:
        yield "ws://127.0.0.1:{1}/v2/iex?secret=1".format(*server.sockets[0].getsockname())
        await asyncio.wait_for(asyncio.gather(*serving), 5)


async def accept(reader: asyncio.StreamReader, extra: bytes = b"") -> bytes:
    """Read a handshake; returns the answer that opens the connection."""
    request = await reader.readuntil(b"\r\n\r\n")
    fields = dict(line.split(": ", 1) for line in request.decode().split("\r\n")[1:-2])
    key = {name.lower(): value for name, value in fields.items()}["sec-websocket-key"]
    digest = hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n" + extra + b"\r\n"
    )


def frame(payload: bytes, head: int = 0x82) -> bytes:
    """A frame as a server spells it, a whole binary one unless the first byte says otherwise."""
    size = len(payload)
    if size < 126:
        return bytes([head, size]) + payload
    if size < 1 << 16:
        return bytes([head, 126]) + struct.pack("!H", size) + payload
    return bytes([head, 127]) + struct.pack("!Q", size) + payload


GOODBYE = frame(b"\x03\xe8", 0x88)


def saying(*pieces: bytes) -> Talk:
    """A server that opens the connection and sends these bytes, each in a write of its own."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await accept(reader))
        for piece in pieces:
            await writer.drain()
            await asyncio.sleep(0.01)  # or the pieces would be read as one
            writer.write(piece)
        await reader.read(1)

    return talk


# -- clients -----------------------------------------------------------------------------


class Chunks(list[list[bytes]]):
    """What was handed over: one list of frames per call."""

    @property
    def frames(self) -> list[bytes]:
        return [each for chunk in self for each in chunk]

    async def have(self, count: int) -> None:
        """Return when so many frames have come."""
        async with asyncio.timeout(5):
            while len(self.frames) < count:
                await asyncio.sleep(0.002)


async def connect(url: str, on_frames: Any = None, **options: Any) -> Any:
    return await connect_websocket(
        url, headers={"X-Test": KEY}, on_frames=on_frames or Chunks().append, **options
    )


async def ending(connection: Any) -> Any:
    return await asyncio.wait_for(connection.wait_closed(), 5)


async def received(talk: Talk, **options: Any) -> tuple[Chunks, Closed]:
    """All that comes from a server until the connection ends, and how it ended."""
    chunks = Chunks()
    async with listening(talk) as url:
        closed = await ending(await connect(url, chunks.append, **options))
    return chunks, closed


# -- frames ------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("compression", [False, True])
async def test_frames_arrive_in_order_as_bytes(compression: bool) -> None:
    """Text and binary frames, empty, small and over mebibytes, reach the callback as bytes."""
    sent = ["text", b"binary", b"", b"x" * 125, b"x" * 126, b"x" * 65_536, b"x" * 5_000_000, "é"]

    async def handler(socket: ServerConnection) -> None:
        assert socket.request is not None
        assert socket.request.headers["X-Test"] == KEY
        assert ("Sec-WebSocket-Extensions" in socket.request.headers) is compression
        for each in sent:
            await socket.send(each)

    chunks = Chunks()
    async with running(handler) as url:
        connection = await connect(url, chunks.append, compression=compression)
        closed = await ending(connection)
    assert chunks.frames == [each.encode() if isinstance(each, str) else each for each in sent]
    assert {type(each) for each in chunks.frames} == {bytes}
    assert closed == Closed(1000, "")


@both
async def test_one_call_per_chunk() -> None:
    """What one read completed comes in one call, whatever stands between the frames."""
    first = frame(b"a") + frame(b"ping", 0x89) + frame(b"b") + frame(b"pong", 0x8A)
    second = frame(b"c", 0x81) + frame(b"d" * 300) + frame(b"e")[:1]
    third = frame(b"e")[1:] + frame(b"f", 0x02) + frame(b"g", 0x80) + GOODBYE
    chunks, _ = await received(saying(first, second, third))
    assert chunks == [[b"a", b"b"], [b"c", b"d" * 300], [b"e", b"fg"]]


@both
@pytest.mark.parametrize("size", [1, 2, 3, 7])
async def test_frames_in_the_smallest_pieces(size: int) -> None:
    """Wherever the network cuts a frame, and the end of the handshake, the frame is whole."""
    payloads = [b"a", b"b" * 126, b"c" * 200]
    spelled = b"".join(map(frame, payloads)) + GOODBYE

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.get_extra_info("socket").setsockopt(
            sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1
        )
        answer = await accept(reader)
        for at in range(0, len(answer), 50):
            writer.write(answer[at : at + 50])
            await asyncio.sleep(0)
        for at in range(0, len(spelled), size):
            writer.write(spelled[at : at + size])
            await asyncio.sleep(0)
        await reader.read(1)

    chunks, closed = await received(talk)
    assert chunks.frames == payloads
    assert closed == Closed(1000, "")


@both
async def test_frames_right_behind_the_handshake() -> None:
    """They are handed over only when the caller has its connection."""
    holding: list[bool] = []
    connection: Any = None

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await accept(reader) + frame(b"a") + frame(b"b") + GOODBYE)
        await reader.read(1)

    chunks = Chunks()

    def take(frames: list[bytes]) -> None:
        holding.append(connection is not None)
        chunks.append(frames)

    async with listening(talk) as url:
        connection = await connect(url, take)
        assert await ending(connection) == Closed(1000, "")
    assert chunks == [[b"a", b"b"]]
    assert holding == [True]


@both
async def test_fragments_are_one_message() -> None:
    """Also with a ping between them, with empty ones, and spread over reads."""
    start, middle = frame(b"one ", 0x01), frame(b"", 0x00) + frame(b"hello", 0x89)
    end = frame(b"message", 0x80) + frame(b"next")
    chunks, closed = await received(saying(start, middle, end, GOODBYE))
    assert chunks == [[b"one message", b"next"]]
    assert closed == Closed(1000, "")


@both
@pytest.mark.parametrize(
    "wrong",
    [
        frame(b"x", 0x83),
        frame(b"x", 0x80),
        frame(b"x", 0x01) + frame(b"y"),
        b"\x82\x81mask1",
        frame(b"x", 0x09),
        frame(b"\x03", 0x88),
        frame(b"\x03\xed", 0x88),
        frame(b"x" * 126, 0x89),
    ],
    ids=["opcode", "continuation", "fragments", "mask", "ping in parts", "close", "code", "ping"],
)
async def test_a_server_that_breaks_the_rules(wrong: bytes) -> None:
    """The frames before are handed over, and the connection ends like one that broke."""
    goodbyes: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await accept(reader) + frame(b"good"))
        await writer.drain()
        await asyncio.sleep(0.01)
        writer.write(wrong)
        goodbyes.append(await reader.read(100))

    chunks, closed = await received(talk)
    assert chunks == [[b"good"]]
    assert closed == Closed(None, "")
    assert goodbyes[0][:1] == b"\x88"


@both
async def test_a_ping_is_answered() -> None:
    """With its own payload, at once."""
    answers: list[bytes] = []

    async def handler(socket: ServerConnection) -> None:
        await asyncio.wait_for(await socket.ping(b"are you there"), 2)
        answers.append(b"pong")

    async with running(handler, ping_interval=None) as url:
        await ending(await connect(url))
    assert answers == [b"pong"]


# -- sending -----------------------------------------------------------------------------


@both
async def test_what_is_sent_keeps_its_kind() -> None:
    """Str goes out as text, bytes as binary; a gone connection swallows both."""
    got: list[Any] = []

    async def handler(socket: ServerConnection) -> None:
        got.append(await socket.recv())
        got.append(await socket.recv())

    async with running(handler) as url:
        connection = await connect(url)
        await connection.send("text")
        await connection.send(b"binary")
        await ending(connection)
        await connection.send("nobody hears this")
    assert got == ["text", b"binary"]


@both
async def test_a_server_that_does_not_read() -> None:
    """Whoever sends more than the network takes waits, and is let go when the wire is cut."""
    cut = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await accept(reader))
        writer.transport.pause_reading()
        await cut.wait()
        writer.transport.abort()

    async with listening(talk) as url:
        connection = await connect(url)
        sent = 0

        async def send() -> None:
            nonlocal sent
            while not cut.is_set():
                await connection.send(bytes(1_000_000))
                sent += 1
                await asyncio.sleep(0)

        sender = asyncio.ensure_future(send())
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.1)
        assert sent < 100
        cut.set()
        await asyncio.wait_for(sender, 5)
        assert (await ending(connection)).code is None


# -- endings -----------------------------------------------------------------------------


@both
async def test_close_says_goodbye_and_may_be_repeated() -> None:
    """The server sees a proper close frame; ours tells how it ended."""
    codes: asyncio.Queue[Any] = asyncio.Queue()

    async def handler(socket: ServerConnection) -> None:
        await socket.wait_closed()
        codes.put_nowait(socket.close_code)

    async with running(handler) as url:
        connection = await connect(url)
        await connection.close()
        await connection.close()
        assert await asyncio.wait_for(codes.get(), 5) == 1000
    assert await ending(connection) == Closed(1000, "")


@both
@pytest.mark.parametrize(
    ("code", "reason"), [(1001, "going"), (1011, ""), (4000, "own words é"), (3999, "")]
)
async def test_a_goodbye_is_told(code: int, reason: str) -> None:
    """With the server's code and reason, known codes or not."""

    async def handler(socket: ServerConnection) -> None:
        await socket.close(code, reason)

    async with running(handler) as url:
        assert await ending(await connect(url)) == Closed(code, reason)


@both
async def test_a_goodbye_without_a_code() -> None:
    """It is one, by the number that the standard keeps for it, and is answered alike."""
    answers: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await accept(reader) + frame(b"", 0x88))
        answers.append(await reader.readexactly(6))

    _, closed = await received(talk)
    assert closed == Closed(1005, "")
    assert answers[0][:2] == b"\x88\x80"


@both
async def test_nothing_counts_behind_a_goodbye() -> None:
    """Frames after the close frame are dropped, also in the same chunk."""
    chunks, closed = await received(saying(frame(b"a") + GOODBYE + frame(b"b"), frame(b"c")))
    assert chunks.frames == [b"a"]
    assert closed == Closed(1000, "")


@both
@pytest.mark.parametrize("speaks", [True, False])
async def test_a_server_that_never_hangs_up(speaks: bool) -> None:
    """It is not waited for, whoever said goodbye."""
    done = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await accept(reader) + (GOODBYE if speaks else b""))
        await done.wait()

    async with listening(talk) as url:
        connection = await connect(url)
        if speaks:
            assert await asyncio.wait_for(ending(connection), 1.5) == Closed(1000, "")
        else:
            await asyncio.wait_for(connection.close(), 1.5)
            assert await ending(connection) == Closed(None, "")
        done.set()


@both
@pytest.mark.parametrize("cut", [frame(b"half")[:3], frame(b"x" * 70_000)[:5], b""])
async def test_a_cut_wire_is_told_apart_from_a_goodbye(cut: bytes) -> None:
    """A connection that breaks, between frames or in one, has no close code."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await accept(reader) + frame(b"whole") + cut)
        await writer.drain()
        await asyncio.sleep(0.02)

    chunks, closed = await received(talk)
    assert chunks.frames == [b"whole"]
    assert closed == Closed(None, "")
    assert "without a goodbye" in str(closed)


@both
async def test_a_wire_that_is_reset() -> None:
    """The same where the other side's system says that it is gone."""

    async def handler(socket: ServerConnection) -> None:
        wire = socket.transport.get_extra_info("socket")
        wire.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, struct.pack("ii", 1, 0))
        socket.transport.abort()

    async with running(handler) as url:
        assert await ending(await connect(url)) == Closed(None, "")


@both
async def test_a_consumer_that_fails_ends_the_connection() -> None:
    """What it raised reaches whoever waits for the end, and it is not called again."""
    calls: list[list[bytes]] = []

    def fail(frames: list[bytes]) -> None:
        calls.append(frames)
        raise LookupError("no such thing")

    async def handler(socket: ServerConnection) -> None:
        with suppress(Exception):
            while True:
                await socket.send(b"x")
                await asyncio.sleep(0.001)

    async with running(handler) as url:
        connection = await connect(url, fail)
        with pytest.raises(LookupError, match="no such thing"):
            await ending(connection)
    assert len(calls) == 1


# -- pauses ------------------------------------------------------------------------------


@both
async def test_a_pause_stops_the_server_and_loses_nothing() -> None:
    """The network fills up until the server has to wait; all of it comes after `resume`."""
    count, piece = 400, bytes(100_000)
    written = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(await accept(reader) + frame(b"first"))
        for number in range(count):
            writer.write(frame(struct.pack("!I", number) + piece))
            await writer.drain()
            written += 1
        writer.write(GOODBYE)
        await reader.read(1)

    chunks = Chunks()
    connection: Any = None

    def take(frames: list[bytes]) -> None:
        chunks.append(frames)
        if len(chunks) == 1:
            connection.pause()

    async with listening(talk) as url:
        connection = await connect(url, take)
        await chunks.have(1)
        before = -1
        while before != written:
            before = written
            await asyncio.sleep(0.1)
        assert written < count
        assert len(chunks) == 1
        connection.pause()  # twice is as good as once
        connection.resume()
        connection.resume()
        assert await asyncio.wait_for(ending(connection), 10) == Closed(1000, "")
    frames = chunks.frames
    assert frames[0] == b"first"
    assert [struct.unpack("!I", each[:4])[0] for each in frames[1:]] == list(range(count))


@both
async def test_a_pause_from_the_first_moment() -> None:
    """What came along with the handshake waits as well."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await accept(reader) + frame(b"a"))
        await asyncio.sleep(0.02)
        writer.write(frame(b"b") + GOODBYE)
        await reader.read(1)

    chunks = Chunks()
    async with listening(talk) as url:
        connection = await connect(url, chunks.append)
        connection.pause()
        await asyncio.sleep(0.06)
        assert chunks == []
        connection.resume()
        assert await ending(connection) == Closed(1000, "")
    assert chunks.frames == [b"a", b"b"]


@both
async def test_close_during_a_pause() -> None:
    """The goodbye of the other side is read all the same; a pause of what is gone is none."""

    async def handler(socket: ServerConnection) -> None:
        await socket.send(b"x")
        await socket.wait_closed()

    async with running(handler) as url:
        connection = await connect(url)
        connection.pause()
        await asyncio.wait_for(connection.close(), 2)
        assert await ending(connection) == Closed(1000, "")
        connection.pause()
        connection.resume()


# -- signs of life -----------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ping every few hundredths of a second instead of seconds."""
    monkeypatch.setitem(transport_common.keep_alive.__kwdefaults__, "interval_s", 0.03)
    monkeypatch.setitem(transport_common.keep_alive.__kwdefaults__, "timeout_s", 0.06)


@both
@pytest.mark.usefixtures("impatient")
async def test_a_peer_without_a_sign_of_life() -> None:
    """A server that answers no ping is given up; a pause does not count, nor who answers."""
    done = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await accept(reader))
        await done.wait()

    async with listening(talk) as url:
        connection = await connect(url)
        connection.pause()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connection.wait_closed(), 0.3)
        connection.resume()
        assert await asyncio.wait_for(ending(connection), 2) == Closed(None, "")
        done.set()


@both
@pytest.mark.usefixtures("impatient")
async def test_a_quiet_peer_that_answers() -> None:
    """Its pongs keep the connection."""

    async def handler(socket: ServerConnection) -> None:
        await asyncio.sleep(0.4)
        await socket.close(1001)

    async with running(handler, ping_interval=None) as url:
        assert await ending(await connect(url)) == Closed(1001, "")


# -- connecting --------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    ("status", "text"),
    [(400, "was refused"), (401, "credentials"), (403, "forbidden"), (404, "no such feed"),
     (429, "too many"), (500, "in trouble"), (503, "in trouble"), (520, "in trouble"),
     (200, "was refused")],
)  # fmt: skip
async def test_a_refused_handshake_names_status_and_address(status: int, text: str) -> None:
    """The error holds the HTTP status and the address without its query string."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 %d Because\r\nContent-Length: 3\r\n\r\nno\n" % status)
        await reader.read()

    async with listening(talk) as url:
        with pytest.raises(ConnectError, match=text) as caught:
            await connect(url)
    assert caught.value.status == status
    assert "secret" not in str(caught.value)


@both
@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    """The headers, and keys in them, go to no other address than the one that was given."""
    asked: list[Any] = []

    def note(socket: ServerConnection, request: Any) -> None:
        asked.append(request)

    async with running(lambda socket: None, process_request=note) as other:

        def redirect(socket: ServerConnection, request: Any) -> Any:
            response = socket.respond(HTTPStatus(status), "")
            response.headers["Location"] = other
            return response

        async with running(lambda socket: None, process_request=redirect) as url:
            with pytest.raises(ConnectError, match="at another address") as caught:
                await connect(url)
    assert caught.value.status == status
    assert asked == []


@both
async def test_nobody_there() -> None:
    """A closed port is named, with the way out."""
    async with running(lambda socket: None) as url:
        pass
    with pytest.raises(
        ConnectError, match=r"Nobody answers at ws://127\.0\.0\.1:\d+/v2/iex \(Connection refused\)"
    ) as caught:
        await connect(url)
    assert caught.value.status is None


@both
@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"",
        b"\x00\xff\x00\xff" * 5000,
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
        b"HTTP/1.1 banana\r\n\r\n",
    ],
    ids=["ssh", "hangs up", "noise", "no upgrade", "wrong proof", "no status"],
)
async def test_something_else_answers(answer: bytes) -> None:
    """A server that does not speak WebSocket is said to be one."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    async with listening(talk) as url:
        with pytest.raises(ConnectError, match="answered, but not as a WebSocket") as caught:
            await connect(url)
    assert caught.value.status is None


@both
async def test_a_server_that_says_nothing() -> None:
    """The wait for a handshake ends, and the wire is cut."""
    gone = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.read()
        gone.set()

    async with listening(talk) as url:
        with pytest.raises(ConnectError, match="did not answer within 0 s; check the network"):
            await connect(url, open_timeout_s=0.1)
        await asyncio.wait_for(gone.wait(), 2)


@both
async def test_connecting_may_be_cancelled() -> None:
    """The wire is cut at once, and no key shows in what is raised."""
    asked, gone = asyncio.Event(), asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.read()
        gone.set()

    async with listening(talk) as url:
        task = asyncio.ensure_future(connect(url))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(gone.wait(), 2)


@both
@pytest.mark.parametrize("address", ["http://127.0.0.1:1/", "ws://127.0.0.1:1/#part"])
async def test_a_bad_address(address: str) -> None:
    """What is no WebSocket address never reaches the network."""
    with pytest.raises(BadInputError):
        await connect(address)


@both
@pytest.mark.parametrize("value", ["two\r\nlines", "é", "\udcff", "\0"])
async def test_a_header_that_cannot_be_sent(value: str) -> None:
    """Its name is in the error, its value is not."""
    with pytest.raises(BadInputError, match="No header can hold the characters of X-Key") as caught:
        await connect_websocket("ws://127.0.0.1:1/", headers={"X-Key": value}, on_frames=print)
    assert repr(value)[1:-1] not in str(caught.value)


@both
async def test_the_user_in_an_address() -> None:
    """It is sent as a header, and neither in the request's line nor as the host."""
    requests: list[Any] = []

    def note(socket: ServerConnection, request: Any) -> None:
        requests.append(request)

    async with running(lambda socket: None, process_request=note) as url:
        await ending(await connect(url.replace("ws://", "ws://me:hidden@")))
    assert (
        requests[0].headers["Authorization"] == "Basic " + base64.b64encode(b"me:hidden").decode()
    )
    assert "hidden" not in requests[0].headers["Host"]


@both
async def test_response_headers() -> None:
    """Those of the handshake can be read, in any case."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await accept(reader, b"X-Simulator: yes\r\n") + GOODBYE)
        await reader.read(1)

    async with listening(talk) as url:
        connection = await connect(url)
        assert connection.headers["x-simulator"] == "yes"
        assert connection.headers.get("X-None") is None
        await ending(connection)


@both
@pytest.mark.parametrize("level", [logging.DEBUG, 1])
async def test_no_key_is_logged(level: int, caplog: pytest.LogCaptureFixture) -> None:
    """Not on the lowest level of every logger there is, handshakes and frames included."""

    async def handler(socket: ServerConnection) -> None:
        await socket.recv()

    quiet = logging.getLogger("a server")
    quiet.setLevel(logging.CRITICAL)
    async with running(handler, logger=quiet) as url:
        await ending(await _with_a_frame(url))  # so that all loggers exist
        for name in [None, *logging.root.manager.loggerDict]:
            if name != "a server":
                caplog.set_level(level, name)
        await ending(await _with_a_frame(url))
    assert KEY not in caplog.text


async def _with_a_frame(url: str) -> Any:
    connection = await connect(url)
    await connection.send(f'{{"action":"auth","key":"{KEY}"}}')
    return connection


# -- TLS ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for this machine that nobody vouches for, with its key."""
    folder = tmp_path_factory.mktemp("tls")
    both_in = folder / "both.pem"
    try:
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-keyout", "key.pem", "-out", "certificate.pem", "-days", "2",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
            check=True, cwd=folder, capture_output=True,
        )  # fmt: skip
    except FileNotFoundError:
        pytest.skip("there is no openssl to make a certificate with")
    both_in.write_text(
        (folder / "key.pem").read_text("ascii") + (folder / "certificate.pem").read_text("ascii"),
        "ascii",
    )
    return both_in


def server_context(certificate: Path) -> Any:
    ssl = pytest.importorskip("ssl")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@both
async def test_a_secure_connection(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames, pauses and goodbyes are as on a plain one."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    sent = [struct.pack("!I", number) + bytes(50_000) for number in range(200)]
    hello: list[Any] = []

    async def handler(socket: ServerConnection) -> None:
        hello.append(await socket.recv())
        for each in sent:
            await socket.send(each)

    chunks = Chunks()
    connection: Any = None

    def take(frames: list[bytes]) -> None:
        chunks.append(frames)
        if len(chunks) in (1, 5):
            connection.pause()
            asyncio.get_running_loop().call_later(0.03, connection.resume)

    async with running(handler, ssl=server_context(certificate)) as url:
        connection = await connect(url, take)
        await connection.send("hello")
        assert await ending(connection) == Closed(1000, "")
    assert chunks.frames == sent
    assert hello == ["hello"]


@both
async def test_a_certificate_that_nobody_vouches_for(certificate: Path) -> None:
    """The connection is refused by us, with the reason; no key has been sent."""
    requests: list[Any] = []

    def note(socket: ServerConnection, request: Any) -> None:
        requests.append(request)

    async with running(
        lambda socket: None, ssl=server_context(certificate), process_request=note
    ) as url:
        with pytest.raises(ConnectError, match=r"does not prove who it is \(self.signed"):
            await connect(url)
    assert requests == []


@both
async def test_a_server_without_tls() -> None:
    """It is said that no secure connection came about."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with listening(talk) as url:
        with pytest.raises(ConnectError, match="no secure connection came about"):
            await connect(url.replace("ws://", "wss://"))


# -- proxies -----------------------------------------------------------------------------


def tunnel(answer: bytes, port: int, seen: list[bytes]) -> Talk:
    """A proxy that answers every request alike, and leads to one port of this machine."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
        writer.close()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        if b" 200 " in answer:
            there, back = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(pump(reader, back), pump(there, writer))

    return talk


FAR = "ws://stream.test:81/v2/iex"


@both
async def test_the_way_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's proxy is asked, with its own password, and does not see the keys."""
    requests: list[Any] = []
    seen: list[bytes] = []

    async def handler(socket: ServerConnection) -> None:
        requests.append(socket.request)
        await socket.send(b"through")

    chunks = Chunks()
    async with running(handler) as url:
        port = int(url.split(":")[2].split("/")[0])
        async with listening(tunnel(b"HTTP/1.1 200 OK\r\n\r\n", port, seen)) as proxy:
            address = proxy.replace("ws://", "http://me:word@").split("/v2")[0]
            monkeypatch.setenv("http_proxy", address)
            connection = await connect(FAR, chunks.append)
            assert await ending(connection) == Closed(1000, "")
    assert chunks.frames == [b"through"]
    assert requests[0].headers["Host"] == "stream.test:81"
    assert seen[0].startswith(b"CONNECT stream.test:81 ")
    assert base64.b64encode(b"me:word") in seen[0]
    assert KEY.encode() not in seen[0]


@both
@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", b"SSH-2.0\r\n\r\n", b""]
)
async def test_a_proxy_that_refuses(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the proxy that is named as the one who refused, without its password."""
    async with listening(tunnel(answer, 0, [])) as proxy:
        address = proxy.replace("ws://", "http://me:word@").split("/v2")[0]
        monkeypatch.setenv("http_proxy", address)
        with pytest.raises(ConnectError, match="proxy on the way to ws://stream.test:81") as caught:
            await connect(FAR)
    assert "word" not in str(caught.value)


@both
async def test_the_way_through_a_socks_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy looks up the name."""
    pytest.importorskip("python_socks")
    asked: list[bytes] = []

    async def handler(socket: ServerConnection) -> None:
        await socket.send(b"through")

    async with running(handler) as url:
        port = int(url.split(":")[2].split("/")[0])

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(2 + (await _first_two(reader))[1] - 2)
            writer.write(b"\x05\x00")
            head = await reader.readexactly(5)
            asked.append(await reader.readexactly(head[4] + 2))
            writer.write(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50")
            there, back = await asyncio.open_connection("127.0.0.1", port)

            async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
                while data := await source.read(1 << 16):
                    sink.write(data)
                sink.close()

            await asyncio.gather(pump(reader, back), pump(there, writer))

        async def _first_two(reader: asyncio.StreamReader) -> bytes:
            return await reader.readexactly(2)

        chunks = Chunks()
        async with listening(talk) as proxy:
            monkeypatch.setenv("ws_proxy", proxy.replace("ws://", "socks5h://").split("/v2")[0])
            assert await ending(await connect(FAR, chunks.append)) == Closed(1000, "")
    assert chunks.frames == [b"through"]
    assert asked == [b"stream.test" + struct.pack("!H", 81)]


@both
@pytest.mark.parametrize("proxy", ["ftp://127.0.0.1:1", "127.0.0.1:1", "http://", "http://x:y"])
async def test_a_proxy_that_is_none(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is named as the place of the mistake."""
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(ConnectError, match="The proxy that the environment names"):
        await connect(FAR)


def test_which_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """One for WebSockets goes first; this machine and exceptions are reached without."""
    assert proxy_for("wss://stream.test/") is None
    monkeypatch.setenv("http_proxy", "http://plain:1")
    assert proxy_for("wss://stream.test/") is None
    assert proxy_for("ws://stream.test/") == "http://plain:1"
    monkeypatch.setenv("https_proxy", "http://secure:1")
    assert proxy_for("wss://stream.test/") == "http://secure:1"
    monkeypatch.setenv("socks_proxy", "http://socks:1")
    assert proxy_for("wss://stream.test/") == "socks5h://socks:1"
    monkeypatch.setenv("wss_proxy", "http://own:1")
    assert proxy_for("wss://stream.test/") == "http://own:1"
    monkeypatch.setenv("no_proxy", "stream.test")
    assert proxy_for("wss://stream.test/") is None
    assert proxy_for("ws://127.0.0.1:8765/") is None
    assert proxy_for("ws://localhost/") is None


# -- the choice --------------------------------------------------------------------------


def test_picows_is_taken_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a word in the environment."""
    pytest.importorskip("picows")
    monkeypatch.delenv("ALPACA_NB_TRANSPORT", raising=False)
    assert transport_name() == "picows"


def test_websockets_is_taken_where_picows_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """And whoever asks for picows then is told how to get it."""
    monkeypatch.delitem(sys.modules, "alpaca_nb.feed.picows_transport", raising=False)
    monkeypatch.delattr("alpaca_nb.feed.picows_transport", raising=False)
    monkeypatch.setitem(sys.modules, "picows", None)
    monkeypatch.delenv("ALPACA_NB_TRANSPORT", raising=False)
    assert transport_name() == "websockets"
    monkeypatch.setenv("ALPACA_NB_TRANSPORT", "picows")
    with pytest.raises(BadInputError, match=r"not installed: pip install alpaca-nb\[fast\]"):
        transport_name()


@both
def test_the_environment_names_the_library(library: str) -> None:
    """Either of the two."""
    assert transport_name() == library


async def test_a_library_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the variable and what it may hold."""
    monkeypatch.setenv("ALPACA_NB_TRANSPORT", "carrier pigeon")
    with pytest.raises(BadInputError, match="ALPACA_NB_TRANSPORT is 'carrier pigeon', but it is"):
        await connect("ws://127.0.0.1:1/")


def test_no_library_is_loaded_before_it_is_used() -> None:
    """Importing the seam loads neither of them, nor TLS."""
    code = (
        "import sys, alpaca_nb.feed.transport;"
        "print(*({'websockets', 'picows', 'ssl', 'asyncio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_an_address_is_shown_without_secrets() -> None:
    """User information and query string are left out."""
    assert display_url("wss://user:pass@host:81/v2/iex?key=1") == "wss://host:81/v2/iex"


@pytest.mark.parametrize("address", ["ws://", "http://host/", "wss://host:0/", "ws://host:x/", ""])
def test_an_address_that_is_none(address: str) -> None:
    """The error says what one looks like."""
    with pytest.raises(BadInputError, match="starts with ws://"):
        check_url(address)
