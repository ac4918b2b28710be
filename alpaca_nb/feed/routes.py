"""Who gets which messages."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Set
from dataclasses import dataclass, field
from typing import Any

from alpaca_nb.data.frame import LiveFrame
from alpaca_nb.data.gaps import Gap
from alpaca_nb.data.status import SourceOrigin
from alpaca_nb.feed.freshness import Pulse
from alpaca_nb.feed.seams import Seams
from alpaca_nb.wire.endpoints import Endpoint
from alpaca_nb.wire.messages import CHANNELS, Channel, Message

Deliver = Callable[[list[Message[Any]], int, SourceOrigin], None]
"""Takes messages of one channel, their arrival (ns, UTC) and their origin; called on the
stream's loop, so it only puts them aside."""

MakePulse = Callable[[str, str], Pulse]
"""Makes the pulse of a (channel, symbol)."""


@dataclass(slots=True, eq=False)
class Route:
    """Which messages go to one consumer.

    `symbols` is what the consumer wants and belongs to whoever made the route; a stream is
    told of changes (`Stream.change`).
    """

    channel: Channel
    deliver: Deliver
    symbols: dict[str, None] = field(default_factory=dict)
    """A set that keeps its order: who was wanted first gets the plan's last places."""
    frame: LiveFrame | None = None
    """The frame that it fills."""
    seams: Seams | None = None
    """Where its losses are noted; None for what only accompanies another route."""


_AMENDED_BY = {"trades": ("corrections", "cancel_errors"), "bars": ("updated_bars",)}
"""Channels whose messages change rows of another one."""


def routes_into(
    frame: LiveFrame, endpoint: Endpoint, on_gaps: Callable[[list[Gap]], None] | None = None
) -> list[Route]:
    """The routes that fill a frame with its symbols and keep its rows true.

    `on_gaps` hears of its losses after the frame.
    """

    def extend(messages: list[Message[Any]], received_ns: int, origin: SourceOrigin) -> None:
        frame.extend(messages, received_ns=received_ns, origin=origin)

    def amend(messages: list[Message[Any]], received_ns: int, origin: SourceOrigin) -> None:
        frame.amend(messages, received_ns=received_ns)

    def put_gaps(gaps: list[Gap]) -> None:
        frame.put_gaps(gaps)
        if on_gaps is not None:
            on_gaps(gaps)

    channel, symbols = CHANNELS[frame.channel], frame.symbols
    amending = [CHANNELS[name] for name in _AMENDED_BY.get(frame.channel, ())]
    return [
        Route(channel, extend, dict.fromkeys(symbols), frame, Seams(channel.name, put_gaps)),
        *(
            Route(each, amend, dict.fromkeys(symbols))
            for each in amending
            if each in endpoint.channels
        ),
    ]


@dataclass(slots=True, eq=False)
class Slot:
    """One (channel, symbol): who gets its messages, and how it has been lately."""

    routes: list[Route]
    pulse: Pulse


class Table:
    """Who gets the messages of one channel, by symbol."""

    def __init__(self, channel: Channel, make_pulse: MakePulse) -> None:
        self.channel = channel
        self._make_pulse = make_pulse
        self.slots: dict[str, Slot] = {}
        self.for_all: list[Route] = []

    def slot(self, symbol: str) -> Slot | None:
        """Who gets messages of this symbol; None when nobody does.

        Where somebody wants all symbols, a symbol gets its slot with its first message.
        """
        slot = self.slots.get(symbol)
        if slot is None and self.for_all:
            slot = self._make(symbol)
        return slot

    def add(self, route: Route, symbols: Iterable[str]) -> None:
        """Let a route have these symbols too; it gets each message once."""
        for symbol in symbols:
            if symbol == "*":
                self.for_all.append(route)
                reached = list(self.slots.values())
            else:
                reached = [self.slots.get(symbol) or self._make(symbol)]
            for slot in reached:
                if route not in slot.routes:
                    slot.routes.append(route)

    def drop(self, route: Route, symbols: Iterable[str], kept: Container[str]) -> None:
        """Let a route have these symbols no more, while it keeps others."""
        for symbol in symbols:
            if symbol == "*":
                self.for_all = [each for each in self.for_all if each is not route]
                for each in list(self.slots):
                    if each not in kept:
                        self._leave(each, route)
            elif route not in self.for_all:
                self._leave(symbol, route)

    def _make(self, symbol: str) -> Slot:
        slot = self.slots[symbol] = Slot(
            list(self.for_all), self._make_pulse(self.channel.name, symbol)
        )
        return slot

    def _leave(self, symbol: str, route: Route) -> None:
        slot = self.slots.get(symbol)
        if slot is None:
            return
        slot.routes = [each for each in slot.routes if each is not route]
        if not slot.routes:
            del self.slots[symbol]


class Routes:
    """All routes of a stream, found by message type and symbol; a change costs what it changes."""

    def __init__(self, make_pulse: MakePulse = Pulse) -> None:
        self._make_pulse = make_pulse
        self.tables: dict[type[Any], Table] = {}
        # Dictionaries as sets that keep the order of the wish.
        self._routes: dict[Route, dict[str, None]] = {}

    def __iter__(self) -> Iterator[Route]:
        return iter(list(self._routes))

    def symbols_of(self, route: Route) -> Set[str]:
        """What a route gets now, in the order of the wish."""
        return self._routes.get(route, {}).keys()

    def add(self, route: Route, symbols: Iterable[str]) -> list[str]:
        """Let a route have these too; returns those it did not have."""
        has = self._routes.setdefault(route, {})
        new = [symbol for symbol in dict.fromkeys(symbols) if symbol not in has]
        has.update(dict.fromkeys(new))
        self._table(route.channel).add(route, new)
        return new

    def drop(self, route: Route, symbols: Iterable[str]) -> list[str]:
        """Let a route have these no more; returns those it had."""
        has = self._routes.get(route, {})
        gone = [symbol for symbol in dict.fromkeys(symbols) if symbol in has]
        for symbol in gone:
            del has[symbol]
        self._table(route.channel).drop(route, gone, has)
        if not has:
            self._routes.pop(route, None)
        return gone

    def slots(self) -> Iterator[tuple[Channel, str, Slot]]:
        """Every (channel, symbol) that anybody gets."""
        for table in list(self.tables.values()):
            for symbol, slot in list(table.slots.items()):
                yield table.channel, symbol, slot

    def _table(self, channel: Channel) -> Table:
        table = self.tables.get(channel.message)
        if table is None:
            table = self.tables[channel.message] = Table(channel, self._make_pulse)
        return table
