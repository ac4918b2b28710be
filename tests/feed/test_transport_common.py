"""How frames reach a consumer, and how a dead peer is noticed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from alpaca_nb.feed.transport_common import Delivery, keep_alive


class FakePeer:
    """A peer whose wire is this object; it answers pings when it is told to."""

    def __init__(self, *, answers: bool = True) -> None:
        self.calls: list[list[bytes]] = []
        self.delivery = Delivery(self.calls.append, self.abort)
        self.answers = answers
        self.stuck = False
        self.pings = 0
        self.aborted = False

    async def ping(self) -> None:
        self.pings += 1
        if self.stuck:
            await asyncio.Event().wait()
        if self.answers:
            asyncio.get_running_loop().call_soon(self.delivery.deliver)

    def abort(self) -> None:
        self.aborted = True


async def test_frames_wait_for_the_start() -> None:
    """Then all come in one call, on the loop's next turn; a chunk without frames is no call."""
    peer = FakePeer()
    peer.delivery.frames += [b"a", b"b"]
    peer.delivery.deliver()
    peer.delivery.start()
    assert peer.calls == []
    await asyncio.sleep(0)
    assert peer.calls == [[b"a", b"b"]]
    peer.delivery.deliver()
    peer.delivery.frames.append(b"c")
    peer.delivery.deliver()
    assert peer.calls == [[b"a", b"b"], [b"c"]]


async def test_frames_wait_for_the_end_of_a_pause() -> None:
    """In their order, also when more come before the loop's next turn."""
    peer = FakePeer()
    peer.delivery.start()
    peer.delivery.pause()
    peer.delivery.frames.append(b"a")
    peer.delivery.deliver()
    await asyncio.sleep(0)
    assert peer.calls == []
    peer.delivery.resume()
    peer.delivery.frames.append(b"b")
    peer.delivery.deliver()
    await asyncio.sleep(0)
    assert peer.calls == [[b"a", b"b"]]


@pytest.mark.parametrize("error", [ValueError("odd"), KeyboardInterrupt()])
async def test_a_consumer_that_fails(error: BaseException) -> None:
    """The wire is cut; an error is kept for whoever waits, an interruption goes on its way."""
    aborted: list[int] = []

    def fail(frames: list[bytes]) -> None:
        raise error

    delivery = Delivery(fail, lambda: aborted.append(1))
    delivery.start()
    await asyncio.sleep(0)
    delivery.frames.append(b"a")
    if isinstance(error, Exception):
        delivery.deliver()
        assert delivery.failure is error
        delivery.frames.append(b"b")
        delivery.deliver()
        assert delivery.frames == []
    else:
        with pytest.raises(KeyboardInterrupt):
            delivery.deliver()
    assert aborted == [1]


async def watch(peer: FakePeer, **options: Any) -> None:
    """Keep a peer alive for half a second at most, on a clock of hundredths of seconds."""
    task = asyncio.ensure_future(keep_alive(peer, interval_s=0.01, timeout_s=0.05, **options))
    await asyncio.wait([task], timeout=0.5)
    assert task.done() is peer.aborted
    task.cancel()


async def test_a_peer_that_answers_is_kept() -> None:
    """It is asked again and again."""
    peer = FakePeer()
    await watch(peer)
    assert peer.pings > 5
    assert not peer.aborted


async def test_a_peer_that_is_silent_is_cut_off() -> None:
    """When nothing at all has come for the time that it has."""
    peer = FakePeer(answers=False)
    await watch(peer)
    assert peer.pings >= 2
    assert peer.aborted


async def test_a_peer_that_takes_nothing_is_cut_off() -> None:
    """Not even the ping can be sent."""
    peer = FakePeer(answers=False)
    peer.stuck = True
    await watch(peer)
    assert peer.pings == 1
    assert peer.aborted


async def test_nothing_is_asked_during_a_pause() -> None:
    """The answer could not be read."""
    peer = FakePeer(answers=False)
    peer.delivery.pause()
    await watch(peer)
    assert peer.pings == 0
    assert not peer.aborted
