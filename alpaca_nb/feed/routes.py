"""Who gets which messages."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from alpaca_nb.data.batch import Batch, Lexicon
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

Take = Callable[[Batch, SourceOrigin], None]
"""The same for messages as columns."""

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
    take: Take | None = None
    """Takes columns, so that no messages need be made for it but those that are no columns."""


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

    def take(batch: Batch, origin: SourceOrigin) -> None:
        frame.take(batch, origin=origin)

    def amend(messages: list[Message[Any]], received_ns: int, origin: SourceOrigin) -> None:
        frame.amend(messages, received_ns=received_ns)

    def put_gaps(gaps: list[Gap]) -> None:
        frame.put_gaps(gaps)
        if on_gaps is not None:
            on_gaps(gaps)

    channel, symbols = CHANNELS[frame.channel], frame.symbols
    amending = [CHANNELS[name] for name in _AMENDED_BY.get(frame.channel, ())]
    return [
        Route(channel, extend, dict.fromkeys(symbols), frame, Seams(channel.name, put_gaps), take),
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


@dataclass(frozen=True, slots=True)
class Share:
    """What some consumers get of a batch."""

    routes: Sequence[Route]
    batch: Batch
    rows: NDArray[np.intp] | None
    """Which rows of the whole these are; None: all of them."""


_UNKNOWN: Final = -1
_MOST_PARTIES: Final = 4096
"""Sets of consumers that are remembered; more are only left from changes long ago."""


class Table:
    """Who gets the messages of one channel, by symbol, and what has come of each.

    What has come is noted in arrays, by the symbol's number in the lexicon, and copied into
    the pulses when somebody wants to know (`settle`).
    """

    def __init__(self, channel: Channel, make_pulse: MakePulse, lexicon: Lexicon) -> None:
        self.channel = channel
        self._make_pulse = make_pulse
        self._lexicon = lexicon
        self.slots: dict[str, Slot] = {}
        self.for_all: list[Route] = []
        # Which party each symbol's messages go to, looked up when the first one comes. A
        # party is a set of routes; party 0 is nobody.
        self._party = np.empty(0, np.int32)
        self._parties: list[tuple[Route, ...]] = [()]
        self._number_of: dict[tuple[Route, ...], int] = {(): 0}
        self._counts = np.empty(0, np.int64)
        self._last = np.empty(0, np.int64)
        self._received = np.empty(0, np.int64)
        self._settled = np.empty(0, np.int64)

    def settle(self) -> None:
        """Let the pulses know what has come."""
        counts, settled = self._counts, self._settled
        known = min(len(counts), len(settled))  # they grow one after the other
        texts = self._lexicon.texts
        for code in np.flatnonzero(counts[:known] != settled[:known]).tolist():
            settled[code] = count = int(counts[code])
            slot = self.slots.get(texts[code])
            if slot is not None:
                # The last time stamp is unknown where nothing but the odd has come.
                last_ns = int(self._last[code])
                slot.pulse.last_ns = None if last_ns == _NO_TIME else last_ns
                slot.pulse.received_ns = int(self._received[code])
                slot.pulse.count = count

    def share(self, batch: Batch) -> Iterator[Share]:
        """Note what has come, and cut it into what goes to whom; rows stay in order."""
        parties = self._parties_of(batch)
        self._note(batch)
        first = int(parties[0])
        if (parties != first).any():
            yield from self._cut(batch, parties)
        elif first:
            yield Share(self._parties[first], batch, None)

    def note_odd(self, symbol: str, received_ns: int) -> None:
        """Note what has come of a symbol without columns."""
        code = self._code(symbol)
        self._received[code] = received_ns
        self._counts[code] += 1

    def _parties_of(self, batch: Batch) -> NDArray[np.int32]:
        if len(self._parties) > _MOST_PARTIES:
            self._parties, self._number_of = [()], {(): 0}
            self._party.fill(_UNKNOWN)
        if len(self._party) < len(self._lexicon):
            self._make_room()
        parties = self._party[batch.symbols]
        if parties.min(initial=0) == _UNKNOWN:
            unknown = np.unique(batch.symbols[parties == _UNKNOWN])
            for code in unknown.tolist():
                self._party[code] = self._find_party(self._lexicon.texts[code])
            parties = self._party[batch.symbols]
        return parties

    def _note(self, batch: Batch) -> None:
        symbols = batch.symbols
        # Of several rows of a symbol, the last one stays.
        self._last[symbols] = batch.times
        self._received[symbols] = batch.received
        # Last, so that whoever sees the count finds the others as new at least.
        np.add.at(self._counts, symbols, 1)

    def _cut(self, batch: Batch, parties: NDArray[np.int32]) -> Iterator[Share]:
        order = parties.astype(np.int16).argsort(kind="stable")
        sorted_parties = parties[order]
        starts = np.flatnonzero(np.diff(sorted_parties, prepend=-1)).tolist()
        present = sorted_parties[starts].tolist()
        stops = [*starts[1:], len(order)]
        member_of: dict[Route, list[int]] = {}
        for party in present:
            for route in self._parties[party]:
                member_of.setdefault(route, []).append(party)
        whole = batch.take(order)
        for party, start, stop in zip(present, starts, stops, strict=True):
            alone = [route for route in self._parties[party] if len(member_of[route]) == 1]
            if alone:
                yield Share(alone, whole.piece(start, stop), order[start:stop])
        for route, its in member_of.items():
            if len(its) > 1:
                rows = np.flatnonzero(np.isin(parties, its))
                yield Share([route], batch.take(rows), rows)

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
                self._party.fill(_UNKNOWN)
                reached = list(self.slots.values())
            else:
                reached = [self.slots.get(symbol) or self._make(symbol)]
                self._party[self._code(symbol)] = _UNKNOWN
            for slot in reached:
                if route not in slot.routes:
                    slot.routes.append(route)

    def drop(self, route: Route, symbols: Iterable[str], kept: Container[str]) -> None:
        """Let a route have these symbols no more, while it keeps others."""
        for symbol in symbols:
            if symbol == "*":
                self.for_all = [each for each in self.for_all if each is not route]
                self._party.fill(_UNKNOWN)
                for each in list(self.slots):
                    if each not in kept:
                        self._leave(each, route)
            elif route not in self.for_all:
                self._leave(symbol, route)

    def _make(self, symbol: str) -> Slot:
        slot = self.slots[symbol] = Slot(
            list(self.for_all), self._make_pulse(self.channel.name, symbol)
        )
        code = self._code(symbol)
        self._counts[code] = self._settled[code] = 0
        self._last[code] = _NO_TIME
        return slot

    def _leave(self, symbol: str, route: Route) -> None:
        slot = self.slots.get(symbol)
        if slot is None:
            return
        slot.routes = [each for each in slot.routes if each is not route]
        self._party[self._code(symbol)] = _UNKNOWN
        if not slot.routes:
            del self.slots[symbol]

    def _find_party(self, symbol: str) -> int:
        slot = self.slot(symbol)
        routes = tuple(slot.routes) if slot is not None else ()
        number = self._number_of.setdefault(routes, len(self._parties))
        if number == len(self._parties):
            self._parties.append(routes)
        return number

    def _code(self, symbol: str) -> int:
        code = self._lexicon.code(symbol)
        if code >= len(self._counts):
            self._make_room()
        return code

    def _make_room(self) -> None:
        more = max(2 * len(self._lexicon), 64) - len(self._counts)
        self._party = np.append(self._party, np.full(more, _UNKNOWN, np.int32))
        self._last = np.append(self._last, np.full(more, _NO_TIME))
        self._received = np.append(self._received, np.zeros(more, np.int64))
        self._settled = np.append(self._settled, np.zeros(more, np.int64))
        self._counts = np.append(self._counts, np.zeros(more, np.int64))


_NO_TIME: Final = np.iinfo(np.int64).min


class Routes:
    """All routes of a stream, found by message type and symbol; a change costs what it changes."""

    def __init__(self, make_pulse: MakePulse = Pulse, lexicon: Lexicon | None = None) -> None:
        self._make_pulse = make_pulse
        self._lexicon = Lexicon() if lexicon is None else lexicon
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

    def settle(self) -> None:
        """Let the pulses know what has come. From any thread."""
        for table in list(self.tables.values()):
            table.settle()

    def slots(self) -> Iterator[tuple[Channel, str, Slot]]:
        """Every (channel, symbol) that anybody gets, with what has come of it."""
        self.settle()
        for table in list(self.tables.values()):
            for symbol, slot in list(table.slots.items()):
                yield table.channel, symbol, slot

    def _table(self, channel: Channel) -> Table:
        table = self.tables.get(channel.message)
        if table is None:
            table = Table(channel, self._make_pulse, self._lexicon)
            self.tables[channel.message] = table
        return table
