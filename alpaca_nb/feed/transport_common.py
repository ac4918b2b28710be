"""What the transports share: how frames reach their consumer, and how a dead peer is noticed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

PING_INTERVAL_S = 10.0
PING_TIMEOUT_S = 20.0


class Delivery:
    """Hands over what a connection reads, chunk by chunk, and notes what goes wrong with that.

    A transport appends to `frames` and calls `deliver` at the end of each chunk. Nothing is
    handed over before `start`, nor during a pause, nor after the consumer has failed once.
    """

    def __init__(self, on_frames: Callable[[list[bytes]], None], abort: Callable[[], None]) -> None:
        self.frames: list[bytes] = []
        """What is complete and was not handed over yet."""
        self.failure: Exception | None = None
        """What the consumer raised; it ended the connection."""
        self.paused = False
        self._on_frames = on_frames
        self._abort = abort
        self._loop = asyncio.get_running_loop()
        self._started = False
        self.heard_s = self._loop.time()
        """When something was read last, on the loop's clock."""

    def start(self) -> None:
        """Hand over from the loop's next turn on, when the caller holds its connection."""
        self._started = True
        self._loop.call_soon(self._hand_over)

    def pause(self) -> None:
        """Hand over nothing until `resume`."""
        self.paused = True

    def resume(self) -> None:
        """Hand over again, first what was left, on the loop's next turn."""
        self.paused = False
        self._loop.call_soon(self._hand_over)

    def deliver(self) -> None:
        """The chunk has ended: hand over its frames."""
        self.heard_s = self._loop.time()
        if self.frames:
            self._hand_over()

    def _hand_over(self) -> None:
        if not self.frames or self.paused or not self._started:
            return
        frames, self.frames = self.frames, []
        if self.failure is not None:
            return
        # With a consumer that fails, the connection would be open and mute: end it.
        try:
            self._on_frames(frames)
        except Exception as error:
            self.failure = error
            self._abort()
        except BaseException:
            self._abort()
            raise


class Peer(Protocol):
    """What `keep_alive` needs of a connection."""

    @property
    def delivery(self) -> Delivery:
        """Where it puts what it reads."""
        ...

    async def ping(self) -> None:
        """Ask for an answer of any kind."""
        ...

    def abort(self) -> None:
        """Cut the wire."""
        ...


async def keep_alive(
    peer: Peer, *, interval_s: float = PING_INTERVAL_S, timeout_s: float = PING_TIMEOUT_S
) -> None:
    """Ping now and then, and cut the wire to a peer of which nothing has come for too long.

    Whatever comes is a sign of life, so that an answer behind much data is not missed. While
    the connection is paused nothing can come, and nothing is asked.
    """
    loop = asyncio.get_running_loop()
    asked_s: float | None = None
    while True:
        await asyncio.sleep(interval_s)
        delivery, now_s = peer.delivery, loop.time()
        if delivery.paused:
            asked_s = None
            continue
        if asked_s is None or delivery.heard_s > asked_s:
            asked_s = now_s
        elif now_s - asked_s >= timeout_s:
            break
        try:
            async with asyncio.timeout(timeout_s):
                await peer.ping()
        except TimeoutError:  # not even that could be sent
            break
    peer.abort()
