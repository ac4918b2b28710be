"""A server in the same loop: the other end of a stream's transport, driven by the test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from alpaca_nb.clock import ManualClock
from alpaca_nb.credentials import Credentials, Secret
from alpaca_nb.feed.retry import ReconnectPolicy
from alpaca_nb.feed.stream import Stream
from alpaca_nb.feed.transport import Closed
from alpaca_nb.wire.codec import codec_for
from alpaca_nb.wire.endpoints import ENDPOINTS
from alpaca_nb.wire.protocol import ServerProtocol


class FakeConnection:
    """One connection; what the client sends is answered by Alpaca's rules at once."""

    def __init__(self, server: FakeServer, headers: Mapping[str, str], on_frames: Any) -> None:
        self.protocol = ServerProtocol(
            ENDPOINTS["iex"],
            codec_for(headers.get("Content-Type")),
            authenticate=server.authenticate,
            limit=server.limit,
        )
        self.headers = server.headers
        self.requests: list[Any] = []
        self._on_frames = on_frames
        self._closed: asyncio.Future[Closed] = asyncio.get_running_loop().create_future()
        self.said_goodbye = False
        self.paused = False
        self.deaf = False
        """Whether what the client sends has no effect."""
        self.protocol.start()
        self._deliver()

    async def send(self, data: bytes | str) -> None:
        if not self._closed.done() and not self.deaf:
            self.protocol.receive(data)
            self._deliver()

    async def close(self) -> None:
        self.said_goodbye = not self._closed.done()
        self.drop(1000, "")

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    async def wait_closed(self) -> Closed:
        return await asyncio.shield(self._closed)

    # -- what a test does to the client --

    def send_frame(self, data: bytes) -> None:
        """Let a raw frame arrive at the client."""
        if not self._closed.done():
            self._on_frames([data])

    def send_data(self, *messages: Any) -> None:
        """Let market data arrive, filtered by what is subscribed."""
        self.protocol.send_data(messages)
        self._deliver()

    def fail(self, code: int) -> None:
        """Let an error arrive."""
        self.protocol.fail(code)
        self._deliver()

    def drop(self, code: int | None = None, reason: str = "") -> None:
        """End the connection; without a code, as when the wire is cut."""
        if not self._closed.done():
            self._closed.set_result(Closed(code, reason))

    def _deliver(self) -> None:
        for data in self.protocol.data_to_send():
            asyncio.get_running_loop().call_soon(self.send_frame, data)


class FakeServer:
    """What a stream's connector connects to."""

    def __init__(self) -> None:
        self.connections: list[FakeConnection] = []
        self.refusals: list[Exception] = []
        """What the next handshakes are refused with."""
        self.auth_answers: list[int | None] = []
        """Error codes for the next authentications; None accepts."""
        self.headers: dict[str, str] = {}
        self.limit: int | None = None
        self.asked: list[tuple[str, dict[str, str]]] = []

    async def connect(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        on_frames: Callable[[list[bytes]], None],
        compression: bool = False,
    ) -> FakeConnection:
        self.asked.append((url, dict(headers)))
        if self.refusals:
            raise self.refusals.pop(0)
        self.connections.append(FakeConnection(self, headers, on_frames))
        return self.connections[-1]

    def authenticate(self, key: str, secret: str) -> int | None:
        return self.auth_answers.pop(0) if self.auth_answers else None

    @property
    def last(self) -> FakeConnection:
        """The newest connection."""
        return self.connections[-1]


CREDENTIALS = Credentials(Secret("KEY-IN-TESTS"), Secret("SECRET-IN-TESTS"))


@pytest.fixture
def server() -> FakeServer:
    """A server that accepts everybody."""
    return FakeServer()


@pytest.fixture
def clock() -> ManualClock:
    """A clock that the test moves."""
    return ManualClock()


@pytest.fixture
def make_stream(server: FakeServer, clock: ManualClock) -> Callable[..., Stream]:
    """Make streams to the fake server, with the longest waits that the backoff allows."""

    def make(**options: Any) -> Stream:
        options.setdefault("policy", ReconnectPolicy(max_attempts=3, delay_s=1, max_delay_s=60))
        return Stream(
            ENDPOINTS["iex"],
            CREDENTIALS,
            url="ws://test.invalid/v2/iex",
            connect=server.connect,
            clock=clock,
            uniform=lambda low, high: high,
            # A manual clock does not know the time of the loop.
            **{"wait_s": 0.0, **options},
        )

    return make


async def settle() -> None:
    """Let everything that can happen without time passing happen."""
    for _ in range(50):
        await asyncio.sleep(0)


@pytest.fixture(name="settle")
def settle_fixture() -> Callable[[], Any]:
    """The function that lets everything happen."""
    return settle
