"""The async face of a stream, for those who want the loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Any, Literal, Self

from alpaca_nb.credentials import Secret, require_credentials
from alpaca_nb.data.frame import LiveFrame
from alpaca_nb.data.status import SourceOrigin, StreamStatus
from alpaca_nb.feed.routes import Route, make_frame
from alpaca_nb.feed.stream import ReconnectPolicy, Stream
from alpaca_nb.wire.endpoints import find_endpoint
from alpaca_nb.wire.messages import Message, check_symbols, find_channel


class AsyncStreamClient:
    """Alpaca's stream for those who want the loop.

    >>> async with AsyncStreamClient(feed="iex") as stream:
    ...     async for batch in stream.batches("trades", ["AAPL"]):
    ...         ...

    Runs wholly on the loop that connects it. Keys default to the environment.
    """

    def __init__(
        self,
        feed: str = "iex",
        *,
        api_key: str | Secret | None = None,
        api_secret: str | Secret | None = None,
        oauth_token: str | Secret | None = None,
        url: str | None = None,
        codec: Literal["msgpack", "json"] = "msgpack",
        header_auth: bool = False,
        compression: bool = False,
        policy: ReconnectPolicy | None = None,
    ) -> None:
        endpoint = find_endpoint(feed)
        credentials = require_credentials(api_key, api_secret, oauth_token=oauth_token)
        self._stream = Stream(
            endpoint,
            credentials,
            url=url,
            codec=codec,
            header_auth=header_auth,
            compression=compression,
            policy=policy,
        )
        self._frame_routes: list[Route] = []

    def __repr__(self) -> str:
        return f"Async{self._stream!r}"

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.disconnect()

    async def connect(self) -> None:
        """Connect and return once authenticated; see `StreamClient.connect` for the errors."""
        await self._stream.start()

    async def disconnect(self) -> None:
        """Close with a proper goodbye; may be called at any time."""
        await self._stream.stop()

    @property
    def status(self) -> StreamStatus:
        """The stream as it is now."""
        return self._stream.status

    def frame(
        self, channel: str, symbols: str | Iterable[str], *, maxlen: int = 1_000_000
    ) -> LiveFrame:
        """Subscribe, and keep what comes in a LiveFrame; closing the frame unsubscribes."""
        return make_frame(
            channel,
            symbols,
            maxlen=maxlen,
            status=lambda: self._stream.status,
            add=self._add_frame_route,
            remove=self._remove_frame,
        )

    def _add_frame_route(self, route: Route) -> None:
        self._stream.add(route)
        self._frame_routes.append(route)

    def _remove_frame(self, frame: LiveFrame) -> None:
        for route in [each for each in self._frame_routes if each.frame is frame]:
            self._frame_routes.remove(route)
            self._stream.remove(route)

    async def batches(
        self, channel: str, symbols: str | Iterable[str], *, limit: int = 100_000
    ) -> AsyncIterator[list[Message[Any]]]:
        """Subscribe, and yield what came since the last turn, as lists of wire messages.

        A slow reader finds larger lists; past `limit` waiting messages the oldest are
        dropped and counted in `dropped`. Ends when the stream fails, by raising its error.
        Leaving the loop unsubscribes.
        """
        inbox = _Inbox(limit)
        route = Route(find_channel(channel), frozenset(check_symbols(symbols)), inbox.put)
        self._stream.add(route)
        try:
            while await self._stream.wait_for(inbox.arrived):
                messages = inbox.take()
                self.dropped += inbox.take_dropped()
                yield messages
        finally:
            self._stream.remove(route)

    dropped: int = 0
    """Messages that readers of `batches` never saw because they fell behind."""


class _Inbox:
    """Messages waiting for one reader of `batches`."""

    def __init__(self, limit: int) -> None:
        self._messages: deque[Message[Any]] = deque(maxlen=limit)
        self._dropped = 0
        self.arrived = asyncio.Event()

    def put(self, messages: list[Message[Any]], received_ns: int, origin: SourceOrigin) -> None:
        limit = self._messages.maxlen or 0
        self._dropped += max(0, len(self._messages) + len(messages) - limit)
        self._messages.extend(messages)
        self.arrived.set()

    def take(self) -> list[Message[Any]]:
        messages = list(self._messages)
        self._messages.clear()
        self.arrived.clear()
        return messages

    def take_dropped(self) -> int:
        dropped, self._dropped = self._dropped, 0
        return dropped
