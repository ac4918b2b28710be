"""What a slow handler costs the reader of the socket: lag, memory, and what was not seen.

A server in a process of its own sends quotes with the time at which it sends them; a client
in another one receives them into a frame and gives them to a handler. The lag is from there
to the arrival in the client, beside that of the same client without a handler. Every message
must be accounted for; if one is not, the status is 1.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import websockets

from alpaca_nb import StreamClient
from alpaca_nb.data.frame import LiveFrame
from alpaca_nb.feed.handlers import Counts
from alpaca_nb.wire.codec import codec_for
from alpaca_nb.wire.endpoints import ENDPOINTS
from alpaca_nb.wire.messages import Quote
from alpaca_nb.wire.protocol import ServerProtocol
from benchmarks.measuring import child, resident_bytes
from benchmarks.results import Table

ABOUT = "What a slow handler costs the reader"

SYMBOLS = [f"S{number:02}" for number in range(50)]
LIMIT = 10_000
"""Messages that may wait for the handler; small, so that memory is at its bound soon."""
SAMPLE_S = 0.5
WARM_UP_S = 2.0
"""What is not measured: a client's first seconds, in which it imports what it needs later."""


# -- the server, in a process of its own -------------------------------------------------


def serve(pipe: Connection, rate: int) -> None:
    """Send quotes from when they are subscribed until told to stop; tell how many it were."""
    asyncio.run(_serve(pipe, rate))


async def _serve(pipe: Connection, rate: int) -> None:
    stopping = asyncio.Event()
    sent = 0

    async def converse(connection: Any) -> None:
        codec = codec_for(connection.request.headers.get("Content-Type"))
        protocol = ServerProtocol(ENDPOINTS["iex"], codec, authenticate=lambda *_: None)
        protocol.start()
        sending = None
        with suppress(websockets.ConnectionClosed):
            await flush(connection, protocol)
            async for data in connection:
                protocol.receive(data)
                await flush(connection, protocol)
                if sending is None and protocol.subscriptions["quotes"]:
                    sending = asyncio.create_task(send(connection, protocol))

    async def send(connection: Any, protocol: ServerProtocol) -> None:
        nonlocal sent
        begun_s = time.monotonic()
        while not stopping.is_set():
            await asyncio.sleep(0.002)
            due = int((time.monotonic() - begun_s) * rate)
            protocol.send_data([make_quote(number) for number in range(sent, due)])
            sent = max(sent, due)
            await flush(connection, protocol)

    async def flush(connection: Any, protocol: ServerProtocol) -> None:
        for data in protocol.data_to_send():
            await connection.send(data)

    async with websockets.serve(converse, "127.0.0.1", 0) as server:
        pipe.send(next(iter(server.sockets)).getsockname()[1])
        await asyncio.to_thread(pipe.recv)
        stopping.set()
        await asyncio.sleep(0.1)
        pipe.send(sent)
        await asyncio.to_thread(pipe.recv)


def make_quote(number: int) -> Quote[int]:
    return Quote(
        symbol=SYMBOLS[number % len(SYMBOLS)],
        bid_price=100.0,
        bid_size=100,
        bid_exchange="V",
        ask_price=100.1,
        ask_size=100,
        ask_exchange="V",
        conditions=["R"],
        tape="C",
        timestamp=time.time_ns(),
    )


# -- the client, in a process of its own --------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A client with a handler, or without one."""

    name: str
    handler: Callable[[Any], object] | None = None
    policy: str = "drop_oldest"


def at_once(quote: Any) -> None:
    """A handler that keeps up."""


def asleep(quote: Any) -> None:
    """A handler that never can."""
    time.sleep(1.0)


CASES = (
    Case("no handler"),
    Case("a handler that returns at once", at_once),
    Case("a handler that sleeps 1 s, drop_oldest", asleep),
    Case("a handler that sleeps 1 s, latest", asleep, "latest"),
)


@dataclass(frozen=True)
class Outcome:
    """What one case came to."""

    lags_ms: tuple[float, float, float]
    """Median, 99th percentile and the longest."""
    memory_mb: tuple[float, float]
    """What the process held after a third of the time, and at the end."""
    counts: Counts
    sent: int
    received: int

    @property
    def exact(self) -> bool:
        """Whether each message that was sent is accounted for."""
        counts = self.counts
        told = counts.handled + counts.dropped + counts.waiting
        return self.sent == self.received and counts.pushed == told


def listen(pipe: Connection, case: Case, port: int, seconds: float) -> None:
    """Receive for so long; once the server has stopped, tell what came."""
    client = StreamClient(api_key="key", api_secret="secret", url=f"ws://127.0.0.1:{port}/v2/iex")
    if case.handler is not None:
        client.subscribe("quotes", SYMBOLS, case.handler, policy=case.policy, limit=LIMIT)
    frame = client.frame("quotes", SYMBOLS, maxlen=2 * LIMIT)
    with client:
        lags, memory = watch(frame, seconds)
        pipe.send("enough")
        sent = pipe.recv()
        until_s = time.monotonic() + 10
        while frame.position < sent and time.monotonic() < until_s:
            time.sleep(0.05)
        counts = client.handler_counts
        median, high = np.percentile(lags, [50, 99])
        pipe.send(
            Outcome(
                lags_ms=(float(median), float(high), float(lags.max())),
                memory_mb=(memory[len(memory) // 3], memory[-1]),
                counts=counts,
                sent=sent,
                received=frame.position,
            )
        )


def watch(frame: LiveFrame, seconds: float) -> tuple[np.ndarray[Any, Any], list[float]]:
    """The lag of each quote (ms) and what the process holds (MB), for so long."""
    time.sleep(WARM_UP_S)
    lags, memory, position = [], [], frame.position
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        time.sleep(SAMPLE_S)
        rows = frame.rows_since(position)
        position = rows.last
        lags.append((rows["received"] - rows["timestamp"]) / 1e6)
        memory.append(resident_bytes() / 1e6)
    return np.concatenate(lags), memory


# -- both ----------------------------------------------------------------------------------


def outcome_of(case: Case, *, rate: int, seconds: float) -> Outcome:
    """One case, in processes of its own."""
    with child(serve, rate) as to_server:
        port = to_server.recv()
        with child(listen, case, port, seconds) as to_client:
            for pipe, other in ((to_client, to_server), (to_server, to_client)):
                other.send(pipe.recv())
            outcome: Outcome = to_client.recv()
            to_server.send("goodbye")
            return outcome


def measure(*, small: bool) -> list[Table]:
    """Lag and memory of each case. Raises AssertionError if a message is not accounted for."""
    rate, seconds = 5_000, (0.5 if small else 10.0)
    about = (
        f"{rate:,} quotes a second for {seconds:g} s, at most {LIMIT:,} messages wait for a "
        "handler. Every message is accounted for, or this would be an error."
    )
    lag = Table("Lag of the reader: from sending to arrival", "ms", base=CASES[0].name, about=about)
    memory = Table("Growth of the client's memory, from a third of the time to the end", "MB")
    for case in CASES[:3:2] if small else CASES:
        outcome = outcome_of(case, rate=rate, seconds=seconds)
        if not outcome.exact:
            raise AssertionError(f"{case.name}: messages are not accounted for: {outcome}")
        lag.add(case.name, outcome.lags_ms[:1], "ours")
        lag.figure(f"{case.name}: 99 of 100 within", outcome.lags_ms[1:2], "ms")
        before, after = outcome.memory_mb
        memory.add(case.name, [after - before], "ours")
    return [lag, memory]
