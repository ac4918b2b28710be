"""The async face, on the test's own loop, against the simulator."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from alpaca_nb import AsyncStreamClient, LocalSimulator
from alpaca_nb.errors import AuthenticationError, CredentialsError, StreamError
from alpaca_nb.wire.messages import Quote, Trade


@pytest.fixture(scope="module")
def simulator() -> Iterator[LocalSimulator]:
    """A fast market that accepts one pair of keys."""
    with LocalSimulator(speed=20, key="K", secret="S", connections=10) as running:
        yield running


def client(simulator: LocalSimulator, secret: str = "S", **options: object) -> AsyncStreamClient:
    url = simulator.url + "/v2/iex"
    return AsyncStreamClient(api_key="K", api_secret=secret, url=url, **options)  # type: ignore[arg-type]


async def test_batches_of_messages(simulator: LocalSimulator) -> None:
    """A loop over batches sees the subscribed symbols, and leaving it unsubscribes."""
    async with client(simulator) as stream:
        seen: list[str] = []
        async for batch in stream.batches("trades", ["AAPL", "MSFT"]):
            assert all(type(message) is Trade for message in batch)
            seen += [message.symbol for message in batch]
            if len(seen) > 20:
                break
        assert set(seen) <= {"AAPL", "MSFT"}
        assert stream.dropped == 0
    assert stream.status.state == "stopped"


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_frames_on_the_callers_loop(simulator: LocalSimulator, codec: str) -> None:
    """A frame fills while the loop runs, and closing it ends its subscription."""
    async with client(simulator, codec=codec, compression=True) as stream:
        frame = stream.frame("quotes", "AAPL")
        while frame.position < 50:
            await asyncio.sleep(0.01)
        frame.close()
        count = frame.position
        other = stream.batches("quotes", ["AAPL"])
        assert type((await anext(other))[0]) is Quote
        await other.aclose()
        assert frame.position == count
        assert set(frame.df["source"]) == {"simulated"}


async def test_batches_end_with_the_stream(simulator: LocalSimulator) -> None:
    """Stopping ends the loop; a client that is not connected says so."""
    stream = client(simulator)
    with pytest.raises(StreamError, match="connect"):
        await anext(stream.batches("quotes", ["AAPL"]))
    await stream.connect()
    reading = stream.batches("statuses", ["NONE"])
    waiting = asyncio.ensure_future(anext(reading, None))
    await asyncio.sleep(0.05)
    await stream.disconnect()
    assert await waiting is None


async def test_wrong_keys(simulator: LocalSimulator) -> None:
    """Wrong keys raise, missing ones too; neither shows them."""
    with pytest.raises(AuthenticationError) as caught:
        async with client(simulator, secret="wrong-secret"):
            pass
    assert "wrong-secret" not in str(caught.value)
    with pytest.raises(CredentialsError):
        AsyncStreamClient()
