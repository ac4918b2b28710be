"""The async face of a stream, for those who want the loop."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, Literal, Self

from alpaca_nb.credentials import Secret, hide
from alpaca_nb.data.frame import LiveFrame
from alpaca_nb.data.retention import Keep
from alpaca_nb.data.status import SourceOrigin, StreamStatus
from alpaca_nb.feed.client import StreamClient
from alpaca_nb.feed.retry import ReconnectPolicy
from alpaca_nb.feed.routes import Route
from alpaca_nb.feed.thread import FEED_THREAD
from alpaca_nb.wire.messages import Message, check_symbols


class AsyncStreamClient:
    """Alpaca's stream for those who want the loop.

    >>> async with AsyncStreamClient(feed="iex") as stream:
    ...     async for batch in stream.batches("trades", ["AAPL"]):
    ...         ...

    The connection itself lives on the feed thread and is shared with all clients of this
    process that have the same feed and keys, so that neither a second client nor a busy
    loop disturbs it. Keys default to the environment.
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
        api_key, api_secret, oauth_token = hide(api_key), hide(api_secret), hide(oauth_token)
        self._client = StreamClient(
            feed,
            api_key=api_key,
            api_secret=api_secret,
            oauth_token=oauth_token,
            url=url,
            codec=codec,
            header_auth=header_auth,
            compression=compression,
        )
        if policy is not None:
            self._client.reconnect_policy = policy
        self.dropped = 0
        """Messages that readers of `batches` never saw because they fell behind."""

    def __repr__(self) -> str:
        client = getattr(self, "_client", "StreamClient(not made)")  # its own errors show it so
        return f"Async{client}"

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
        stream, newly = self._client.attach()
        try:
            await asyncio.wrap_future(FEED_THREAD.submit(stream.start()))
        except BaseException:
            if newly or stream.state == "failed":
                await self.disconnect()
            raise

    async def disconnect(self) -> None:
        """Close with a proper goodbye; may be called at any time."""
        await asyncio.to_thread(self._client.disconnect)

    @property
    def status(self) -> StreamStatus:
        """The stream as it is now."""
        return self._client.status

    def frame(
        self,
        channel: str,
        symbols: str | Iterable[str],
        *,
        maxlen: int = 1_000_000,
        keep: Keep = None,
    ) -> LiveFrame:
        """Subscribe, and keep what comes in a LiveFrame; see `StreamClient.frame`."""
        return self._client.frame(channel, symbols, maxlen=maxlen, keep=keep)

    async def batches(
        self, channel: str, symbols: str | Iterable[str], *, limit: int = 100_000
    ) -> AsyncIterator[list[Message[Any]]]:
        """Subscribe, and yield what came since the last turn, as lists of wire messages.

        A slow reader finds larger lists; past `limit` waiting messages the oldest are
        dropped and counted in `dropped`. Ends when the stream is stopped, or fails, then by
        raising its error. Leaving the loop unsubscribes.
        """
        kind, names = self._client.check_channel(channel), dict.fromkeys(check_symbols(symbols))
        inbox = _Inbox(limit)
        route = Route(kind, inbox.put, names)
        stream, _ = self._client.attach()
        ending = asyncio.ensure_future(asyncio.wrap_future(FEED_THREAD.submit(stream.wait_ended())))
        stream.add(route)
        try:
            while await self._more(inbox, ending):
                messages, dropped = inbox.take()
                self.dropped += dropped
                yield messages
        finally:
            stream.remove(route)
            ending.cancel()

    @staticmethod
    async def _more(inbox: _Inbox, ending: asyncio.Future[None]) -> bool:
        """Wait for messages; False when the stream was stopped first."""
        arrived = asyncio.ensure_future(inbox.arrived.wait())
        waiting: set[asyncio.Future[Any]] = {arrived, ending}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            arrived.cancel()
        if not inbox.arrived.is_set():
            with suppress(asyncio.CancelledError):
                await ending
            return False
        return True


class _Inbox:
    """Messages waiting for one reader of `batches`; filled on the feed thread."""

    def __init__(self, limit: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._messages: deque[Message[Any]] = deque(maxlen=limit)
        self._dropped = 0
        self._told = False
        self.arrived = asyncio.Event()

    def put(self, messages: list[Message[Any]], received_ns: int, origin: SourceOrigin) -> None:
        with self._lock:
            limit = self._messages.maxlen or 0
            self._dropped += max(0, len(self._messages) + len(messages) - limit)
            self._messages.extend(messages)
            told, self._told = self._told, True
        if not told:
            with suppress(RuntimeError):  # the reader's loop has ended
                self._loop.call_soon_threadsafe(self.arrived.set)

    def take(self) -> tuple[list[Message[Any]], int]:
        """What waits, and how many messages were dropped before it."""
        with self._lock:
            messages, dropped = list(self._messages), self._dropped
            self._messages.clear()
            self._dropped = 0
            self._told = False
            self.arrived.clear()
        return messages, dropped
