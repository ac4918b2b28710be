"""What there is to say about each (channel, symbol) of a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from alpaca_nb.clock import Clock
from alpaca_nb.data.status import Freshness, Phase, SymbolStatus
from alpaca_nb.feed.routes import Routes
from alpaca_nb.feed.trading import TradingBook
from alpaca_nb.wire.messages import Channel
from alpaca_nb.wire.protocol import ClientProtocol

_EVERY_S = 1.0


class SymbolBoard:
    """The status of each symbol, made anew at most once a second; read from any thread."""

    def __init__(
        self,
        routes: Routes,
        protocol: ClientProtocol,
        trading: TradingBook,
        clock: Clock,
        *,
        phase: Callable[[], Phase],
    ) -> None:
        self._routes = routes
        self._protocol = protocol
        self._trading = trading
        self._clock = clock
        self._phase = phase
        self._made: tuple[float, tuple[SymbolStatus, ...]] = (float("-inf"), ())

    def forget(self) -> None:
        """Make it anew when it is asked for next: the connection has changed."""
        self._made = float("-inf"), ()

    def now(self) -> tuple[SymbolStatus, ...]:
        """Each (channel, symbol) that somebody asked for, as of the last second."""
        now_s = self._clock.monotonic()
        made_s, symbols = self._made
        if now_s - made_s >= _EVERY_S:
            self._routes.settle()
            symbols = (*self._wishes_for_all(), *self._each(now_s))
            self._made = now_s, symbols
        return symbols

    def _wishes_for_all(self) -> Iterator[SymbolStatus]:
        """The wish for all symbols of a channel; each that has occurred has a status besides."""
        for table in list(self._routes.tables.values()):
            if any(route.seams is not None for route in table.for_all):
                came = any(slot.pulse.count for slot in list(table.slots.values()))
                yield self._describe(table.channel, "*", "live" if came else "waiting")

    def _each(self, now_s: float) -> Iterator[SymbolStatus]:
        phase = self._phase()
        for channel, symbol, slot in self._routes.slots():
            if not any(route.seams is not None for route in slot.routes):
                continue  # it only accompanies others
            pulse, halted = slot.pulse, self._trading.of(symbol).halted
            freshness = pulse.verdict(now_s, phase)
            yield self._describe(
                channel,
                symbol,
                # A halted symbol is silent for a reason.
                "quiet" if halted and freshness == "stale" else freshness,
                rate=pulse.rate,
                received=pulse.count,
                last_received_ns=pulse.received_ns,
            )

    def _describe(
        self,
        channel: Channel,
        symbol: str,
        freshness: Freshness,
        *,
        rate: float = 0.0,
        received: int = 0,
        last_received_ns: int | None = None,
    ) -> SymbolStatus:
        error = self._protocol.refused.get((channel.name, symbol))
        ready = self._protocol.authenticated
        return SymbolStatus(
            channel=channel.name,
            symbol=symbol,
            subscription=self._protocol.state(channel.name, symbol) if ready else "pending",
            reason=str(error) if error is not None else "",
            # While the server is not there, or was not asked yet, nothing else can be said.
            freshness=freshness if ready else "waiting",
            rate=rate,
            received=received,
            last_received_ns=last_received_ns,
            trading=self._trading.of(symbol),
        )
