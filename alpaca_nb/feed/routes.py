"""Who gets which messages."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Set
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from alpaca_nb.data.batch import Batch, Lexicon
from alpaca_nb.data.frame import LiveFrame
from alpaca_nb.data.gaps import Gap
from alpaca_nb.data.status import SourceOrigin
from alpaca_nb.feed.freshness import Pulse
from alpaca_nb.feed.parties import Cut, Parties, Rows
from alpaca_nb.feed.seams import Seams
from alpaca_nb.wire.endpoints import Endpoint
from alpaca_nb.wire.messages import CHANNELS, Channel, Message

Deliver = Callable[[list[Message[Any]], int, SourceOrigin], None]
"""Takes messages of one channel, their arrival (ns, UTC) and their origin; called on the
stream's loop, so it only puts them aside."""


class Take(Protocol):
    """The same for messages as columns: the rows `start` to `stop` of a batch, None for its end."""

    def __call__(
        self, batch: Batch, *, origin: SourceOrigin, start: int = 0, stop: int | None = None
    ) -> None:
        """Put them aside."""
        ...


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
    eager: bool = True
    """Whether it wants what comes at once; a frame has it decoded when somebody reads it."""


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
        Route(
            channel,
            extend,
            dict.fromkeys(symbols),
            frame,
            Seams(channel.name, put_gaps),
            frame.take,
            eager=False,
        ),
        *(
            Route(each, amend, dict.fromkeys(symbols), eager=False)
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
class Shares:
    """Who gets what of a batch."""

    columns: Cut[Route]
    """Those who take columns."""
    messages: dict[Route, Rows]
    """Those who take messages, and of which rows."""


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
        # Two kinds, so that whoever wants messages of some rows cuts nobody's columns.
        self._takers = Parties(lambda code: self._wanted_by(code, columns=True))
        self._hearers = Parties(lambda code: self._wanted_by(code, columns=False))
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

    def share(self, batch: Batch) -> Shares:
        """Note what has come, and say who gets what of it; rows stay in order."""
        takers, hearers = self._takers.of(batch.symbols), self._hearers.of(batch.symbols)
        self._note(batch)
        return Shares(self._takers.cut(takers), self._heard(hearers))

    def note_odd(self, symbol: str, received_ns: int) -> None:
        """Note what has come of a symbol without columns."""
        code = self._code(symbol)
        self._received[code] = received_ns
        self._counts[code] += 1

    def _note(self, batch: Batch) -> None:
        symbols = batch.symbols
        # Of several rows of a symbol, the last one stays.
        self._last[symbols] = batch.times
        self._received[symbols] = batch.received
        # Last, so that whoever sees the count finds the others as new at least.
        np.add.at(self._counts, symbols, 1)

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
                self._forget_all()
                reached = list(self.slots.values())
            else:
                reached = [self.slots.get(symbol) or self._make(symbol)]
                self._forget(symbol)
            for slot in reached:
                if route not in slot.routes:
                    slot.routes.append(route)

    def drop(self, route: Route, symbols: Iterable[str], kept: Container[str]) -> None:
        """Let a route have these symbols no more, while it keeps others."""
        for symbol in symbols:
            if symbol == "*":
                self.for_all = [each for each in self.for_all if each is not route]
                self._forget_all()
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
        self._forget(symbol)
        if not slot.routes:
            del self.slots[symbol]

    def _wanted_by(self, code: int, *, columns: bool) -> list[Route]:
        slot = self.slot(self._lexicon.texts[code])
        routes = slot.routes if slot is not None else []
        return [route for route in routes if (route.take is not None) == columns]

    def _heard(self, parties: NDArray[np.int32]) -> dict[Route, Rows]:
        some = np.flatnonzero(parties)
        if not len(some):
            return {}
        cut = self._hearers.cut(parties[some])
        heard = dict.fromkeys(cut.whole, some)
        heard.update((route, some[cut.rows[start:stop]]) for route, start, stop in cut.pieces)
        heard.update((route, some[rows]) for route, rows in cut.picks)
        return heard

    def _forget(self, symbol: str) -> None:
        """Find out anew who wants a symbol."""
        code = self._code(symbol)
        self._takers.forget(code)
        self._hearers.forget(code)

    def _forget_all(self) -> None:
        self._takers.forget_all()
        self._hearers.forget_all()

    def _code(self, symbol: str) -> int:
        code = self._lexicon.code(symbol)
        if code >= len(self._counts):
            self._make_room()
        return code

    def _make_room(self) -> None:
        more = max(2 * len(self._lexicon), 64) - len(self._counts)
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
