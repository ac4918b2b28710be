"""Thousands of wishes at once: does what the server sends end as what was wanted?

Threads and handlers subscribe and unsubscribe at random through one client, against a server in
a process of its own that keeps Alpaca's rules. At the end all is quiet, and the server's set must
be the wanted one; anything else is an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import websockets

from alpaca_nb import StreamClient
from alpaca_nb.wire.codec import codec_for
from alpaca_nb.wire.endpoints import ENDPOINTS
from alpaca_nb.wire.messages import Quote
from alpaca_nb.wire.protocol import ServerProtocol
from benchmarks.measuring import child
from benchmarks.results import Table

ABOUT = "A storm of subscriptions"

CHANNELS = ("quotes", "trades", "bars")
QUIET_S = 60.0
"""How long the server may take to follow once nobody changes anything any more."""


# -- the server, in a process of its own -------------------------------------------------


def serve(pipe: Connection) -> None:
    """Keep Alpaca's rules, send a quote of a subscribed symbol now and then, tell on request."""
    asyncio.run(_serve(pipe))


async def _serve(pipe: Connection) -> None:
    protocols: list[ServerProtocol] = []

    async def converse(connection: Any) -> None:
        headers = connection.request.headers
        codec = codec_for(headers.get("Content-Type"))
        protocol = ServerProtocol(ENDPOINTS["iex"], codec, authenticate=lambda *_: None)
        protocols.append(protocol)
        protocol.start()
        ticking = asyncio.create_task(tick(connection, protocol, codec.text))
        with contextlib.suppress(websockets.ConnectionClosed):
            await flush(connection, protocol, codec.text)
            async for data in connection:
                protocol.receive(data)
                await flush(connection, protocol, codec.text)
        ticking.cancel()

    async def flush(connection: Any, protocol: ServerProtocol, text: bool) -> None:
        for data in protocol.data_to_send():
            await connection.send(data, text=text)

    async def tick(connection: Any, protocol: ServerProtocol, text: bool) -> None:
        rng = random.Random(7)
        while True:
            await asyncio.sleep(0.01)
            symbols = sorted(protocol.subscriptions["quotes"])
            if symbols:
                now_ns = time.time_ns()
                symbol = rng.choice(symbols)
                quote = Quote[int](symbol=symbol, bid_price=1.0, ask_price=1.1, timestamp=now_ns)
                protocol.send_data([quote])
                await flush(connection, protocol, text)

    async with websockets.serve(converse, "127.0.0.1", 0, max_size=None) as server:
        pipe.send(next(iter(server.sockets)).getsockname()[1])
        while (asked := await asyncio.to_thread(pipe.recv)) is not None:
            assert asked == "subscriptions"
            pipe.send(protocols[-1].subscriptions if protocols else {})


# -- the storm ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What came of a storm."""

    changes: int
    from_handlers: int
    slowest_s: float
    """The longest that a call took."""
    quiet_s: float
    """From the last change until the server's set was the wanted one."""
    subscribed: int
    differs: dict[str, int]
    """How many symbols of a channel are on one side only."""


class Storm:
    """Random changes through one client, from threads and from a handler."""

    def __init__(self, client: StreamClient, symbols: Sequence[str]) -> None:
        self._client = client
        self._symbols = symbols
        idle: list[Callable[[Any], None]] = [lambda _: None for _ in range(3)]
        self._handlers = [*idle, self._in_a_handler]
        self._stop = threading.Event()
        self._changes: Counter[str] = Counter()
        self._slowest_s = 0.0

    def run(self, threads: int, seconds: float) -> None:
        """Change at random for so long."""
        self._client.subscribe_quotes(self._symbols[:50], self._in_a_handler)
        workers = [threading.Thread(target=self._work, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        self._stop.wait(seconds)
        self._stop.set()
        for worker in workers:
            worker.join(timeout=30)
            if worker.is_alive():
                raise RuntimeError("a thread hangs in a call: that is a deadlock")

    def outcome(self, served: Callable[[], dict[str, frozenset[str]]]) -> Outcome:
        """Wait until the server has followed, and compare."""
        ended_s = time.monotonic()
        while True:
            wanted, sent = self._client.subscriptions, served()
            differs = {
                name: len(wanted[name] ^ sent.get(name, frozenset()))
                for name in CHANNELS
                if wanted[name] ^ sent.get(name, frozenset())
            }
            quiet_s = time.monotonic() - ended_s
            if not differs or quiet_s > QUIET_S:
                break
            time.sleep(0.05)
        return Outcome(
            changes=self._changes.total(),
            from_handlers=self._changes["handler"],
            slowest_s=self._slowest_s,
            quiet_s=quiet_s,
            subscribed=sum(len(sent.get(name, ())) for name in CHANNELS),
            differs=differs,
        )

    def _work(self, number: int) -> None:
        rng = random.Random(number)
        while not self._stop.is_set():
            self._change(rng, "thread")
            time.sleep(0.001)

    def _in_a_handler(self, quote: Any) -> None:
        if not self._stop.is_set():
            self._change(random.Random(quote.timestamp_ns), "handler")

    def _change(self, rng: random.Random, who: str) -> None:
        channel = rng.choice(CHANNELS)
        some = rng.sample(self._symbols, rng.choice((1, 1, 1, 10, min(500, len(self._symbols)))))
        begun_s = time.monotonic()
        if rng.random() < 0.55:
            self._client.subscribe(channel, some, rng.choice(self._handlers))
        else:
            self._client.unsubscribe(channel, some)
        self._slowest_s = max(self._slowest_s, time.monotonic() - begun_s)
        self._changes[who] += 1


def storm(*, symbols: int, threads: int, seconds: float) -> Outcome:
    """Let a storm pass over a client and say what is left."""
    with child(serve) as pipe:
        url = f"ws://127.0.0.1:{pipe.recv()}/v2/iex"
        names = [f"S{number:05}" for number in range(symbols)]

        def served() -> dict[str, frozenset[str]]:
            pipe.send("subscriptions")
            return pipe.recv()  # type: ignore[no-any-return]

        with StreamClient(api_key="key", api_secret="secret", url=url) as client:
            weather = Storm(client, names)
            weather.run(threads, seconds)
            outcome = weather.outcome(served)
            # What the client believes is what the server says.
            for name in CHANNELS:
                if client.confirmed.get(name, frozenset()) != served().get(name, frozenset()):
                    outcome.differs[f"{name}, as the client believes"] = 1
        return outcome


def measure(*, small: bool) -> list[Table]:
    """One storm. Raises AssertionError if the server's set is not the wanted one."""
    symbols, seconds = (500, 1.0) if small else (10_000, 20.0)
    outcome = storm(symbols=symbols, threads=8, seconds=seconds)
    if outcome.differs:
        raise AssertionError(f"the server sends other symbols than wanted: {outcome.differs}")
    table = Table(
        f"A storm of wishes for {symbols:,} symbols from 8 threads and a handler",
        "ms",
        about="In the end the server's subscriptions were the wanted ones.",
    )
    table.add("the slowest call", [outcome.slowest_s * 1000], "ours")
    table.figure("changes", [outcome.changes], "changes")
    table.figure("of them in handlers", [outcome.from_handlers], "changes")
    table.figure("subscribed in the end", [outcome.subscribed], "pairs of channel and symbol")
    table.figure("from the last change until the server had followed", [outcome.quiet_s], "s")
    return [table]
