"""Who gets what of a batch: columns cut for frames, messages in the order they came."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from alpaca_nb.data.batch import Batch, Lexicon, batch_of
from alpaca_nb.feed.distribution import distribute, distribute_odd
from alpaca_nb.feed.routes import Route, Routes
from alpaca_nb.wire.messages import Bar, Message, Quote, Trade, find_channel

SECOND = 1_000_000_000


def quote(symbol: str, time: int) -> Quote[int]:
    return Quote(symbol=symbol, bid_price=1.0, ask_price=2.0, timestamp=time)


def trade(symbol: str, time: int) -> Trade[int]:
    return Trade(symbol=symbol, price=1.0, size=1, timestamp=time)


class Brought:
    """A haul of these messages, each of which came a second after the one before."""

    def __init__(self, lexicon: Lexicon, *messages: Message[Any]) -> None:
        self._all = messages
        self._rows: dict[str, list[int]] = {}
        self.made: list[Message[Any]] = []
        self.batches: list[Batch] = []
        self.newest = np.zeros(0, np.int64)
        for kind in (Quote, Trade, Bar):
            rows = [i for i, message in enumerate(messages) if type(message) is kind]
            if rows:
                received = np.array(rows, np.int64) * SECOND
                batch = batch_of([messages[i] for i in rows], received, lexicon)
                self._rows[batch.layout.channel] = rows
                self.batches.append(batch)

    def sequence(self, batch: Batch) -> NDArray[np.int64]:
        return np.array(self._rows[batch.layout.channel], np.int64)

    def messages(self, batch: Batch, rows: NDArray[np.intp]) -> list[Message[Any]]:
        some = [self._all[self._rows[batch.layout.channel][i]] for i in rows]
        self.made += some
        return some


class Market:
    """Routes and what they were given."""

    def __init__(self) -> None:
        self.lexicon = Lexicon()
        self.routes = Routes(lexicon=self.lexicon)
        self.log: list[tuple[str, list[int]]] = []
        """Who got messages with which times, in the order of the deliveries."""
        self.columns: dict[str, list[tuple[str, int]]] = {}
        """The symbol and time of each row that came as columns."""

    def listener(self, name: str, channel: str, *symbols: str) -> Route:
        def take(messages: Sequence[Message[Any]], received_ns: int, origin: object) -> None:
            self.log.append((name, [message.timestamp for message in messages]))

        route = Route(find_channel(channel), take)
        self.routes.add(route, symbols)
        return route

    def frame(self, name: str, channel: str, *symbols: str) -> Route:
        def take(batch: Batch, *, origin: object, start: int = 0, stop: int | None = None) -> None:
            rows = self.columns.setdefault(name, [])
            texts = [self.lexicon.texts[code] for code in batch.symbols[start:stop].tolist()]
            rows += zip(texts, batch.times[start:stop].tolist(), strict=True)

        def count(messages: Sequence[Message[Any]], received_ns: int, origin: object) -> None:
            self.log.append((name, [message.timestamp for message in messages]))

        route = Route(find_channel(channel), count, take=take)
        self.routes.add(route, symbols)
        return route

    def bring(self, *messages: Message[Any]) -> Brought:
        haul = Brought(self.lexicon, *messages)
        distribute(haul, self.routes, "live")
        return haul


@pytest.fixture
def market() -> Market:
    return Market()


def test_a_frame_gets_its_symbols_in_order(market: Market) -> None:
    """Frames that share symbols each get all of theirs, in the order they came."""
    market.frame("one", "quotes", "A")
    market.frame("both", "quotes", "A", "B")
    market.frame("other", "quotes", "B")
    market.bring(*(quote(symbol, i) for i, symbol in enumerate("ABACB")))
    assert market.columns == {
        "one": [("A", 0), ("A", 2)],
        "both": [("A", 0), ("B", 1), ("A", 2), ("B", 4)],
        "other": [("B", 1), ("B", 4)],
    }


def test_all_of_a_batch_is_handed_over_uncut(market: Market) -> None:
    """Where one consumer wants everything, nothing is copied."""
    taken: list[Batch] = []
    route = Route(
        find_channel("quotes"), lambda *_: None, take=lambda batch, **_: taken.append(batch)
    )
    market.routes.add(route, ["*"])
    haul = market.bring(quote("A", 0), quote("B", 1))
    assert taken == haul.batches


def test_a_listener_cuts_nobodys_columns(market: Market) -> None:
    """Whoever takes all that has come gets it uncopied, also beside others that want some."""
    taken: list[Batch] = []
    everything = Route(
        find_channel("quotes"), lambda *_: None, take=lambda batch, **_: taken.append(batch)
    )
    market.routes.add(everything, ["A", "B", "C"])
    market.listener("ear", "quotes", "B")
    market.frame("some", "quotes", "C", "A")
    market.frame("one", "quotes", "C")
    haul = market.bring(*(quote(symbol, i) for i, symbol in enumerate("ABCAB")))
    assert taken == haul.batches
    assert market.log == [("ear", [1, 4])]
    assert market.columns == {"some": [("A", 0), ("C", 2), ("A", 3)], "one": [("C", 2)]}


def test_who_gets_little_keeps_little(market: Market) -> None:
    """A row among thousands is handed over without them: it may have to wait for long."""
    taken: dict[str, Batch] = {}

    def take(batch: Batch, **_: object) -> None:
        taken["A"] = batch

    market.routes.add(Route(find_channel("quotes"), lambda *_: None, take=take), ["A"])
    market.frame("others", "quotes", "B")
    market.bring(*(quote("B", i) for i in range(1000)), quote("A", 1000))
    assert taken["A"].times.tolist() == [1000]
    assert taken["A"].numbers.base is taken["A"].prices.base is taken["A"].codes.base is None
    assert len(market.columns["others"]) == 1000


def test_nobody_gets_what_nobody_wants(market: Market) -> None:
    """Symbols without a route, and channels without one, are passed over."""
    market.frame("one", "quotes", "A")
    market.bring(quote("B", 0), trade("A", 1))
    assert market.columns == {}
    assert [slot.pulse.count for _, _, slot in market.routes.slots()] == [0]


def test_messages_are_made_only_where_somebody_listens(market: Market) -> None:
    """A thousand rows for a frame and one for a handler make one message."""
    market.frame("all", "quotes", "*")
    market.listener("A", "quotes", "A")
    haul = market.bring(*(quote("B", i) for i in range(1000)), quote("A", 1000))
    assert market.log == [("A", [1000])]
    assert len(haul.made) == 1
    assert len(market.columns["all"]) == 1001


def test_listeners_share_one_message(market: Market) -> None:
    """What two of them hear is the same object, made once."""
    market.listener("first", "quotes", "A")
    market.listener("second", "quotes", "*")
    haul = market.bring(quote("A", 0), quote("B", 1))
    assert market.log == [("first", [0]), ("second", [0, 1])] or market.log == [
        ("second", [0, 1]),
        ("first", [0]),
    ]
    assert len(haul.made) == 2


def test_channels_are_heard_as_they_came(market: Market) -> None:
    """A trade is heard after the quotes before it, and before those after it."""
    market.listener("quotes", "quotes", "A")
    market.listener("trades", "trades", "*")
    market.bring(
        quote("A", 0), quote("B", 1), trade("A", 2), quote("A", 3), trade("B", 4), trade("A", 5)
    )
    assert market.log == [("quotes", [0]), ("trades", [2]), ("quotes", [3]), ("trades", [4, 5])]


def test_random_routes_each_get_their_own(market: Market) -> None:
    """Whatever the routes are, and while they change, each gets just what it wants."""
    rng = random.Random(11)
    names = ["A", "B", "C", "D", "E", "*"]
    wishes: dict[str, tuple[Route, set[str]]] = {}
    for i in range(12):
        make = market.frame if i % 2 else market.listener
        wishes[str(i)] = (make(str(i), "quotes"), set())
    clock = 0
    for _ in range(300):
        for route, wants in rng.sample(list(wishes.values()), 3):
            name = rng.choice(names)
            if name in wants:
                wants.discard(name)
                market.routes.drop(route, [name])
            else:
                wants.add(name)
                market.routes.add(route, [name])
        market.log.clear()
        market.columns.clear()
        sent = [(rng.choice(names[:-1]), clock + i) for i in range(rng.choice([1, 3, 20]))]
        clock += 20
        market.bring(*(quote(*each) for each in sent))
        for name, (_, wants) in wishes.items():
            its = [each for each in sent if each[0] in wants or "*" in wants]
            heard = [time for who, times in market.log if who == name for time in times]
            assert market.columns.get(name, []) == (its if int(name) % 2 else [])
            assert heard == ([] if int(name) % 2 else [time for _, time in its])


def test_the_pulse_knows_what_came(market: Market) -> None:
    """Number, last time stamp (not the highest) and arrival, when somebody looks."""
    market.frame("all", "quotes", "*")
    market.bring(quote("A", 5), quote("B", 7), quote("A", 3))
    market.bring(quote("B", 9))
    found = {slot.pulse.symbol: slot.pulse for _, _, slot in market.routes.slots()}
    assert {name: (p.count, p.last_ns, p.received_ns) for name, p in found.items()} == {
        "A": (2, 3, 2 * SECOND),
        "B": (2, 9, 0),
    }


def test_a_pulse_begins_anew_with_the_next_wish(market: Market) -> None:
    """What came for somebody who has left does not count for who comes later."""
    route = market.frame("one", "quotes", "A")
    market.bring(quote("A", 1))
    market.routes.drop(route, ["A"])
    market.bring(quote("A", 2))
    market.routes.add(route, ["A"])
    [(_, _, slot)] = market.routes.slots()
    assert (slot.pulse.count, slot.pulse.last_ns) == (0, None)


def test_what_has_no_columns_is_handed_out_as_it_is(market: Market) -> None:
    """Frames count it, listeners hear it, the pulse beats."""
    market.frame("frame", "trades", "A")
    market.listener("listener", "trades", "A")
    distribute_odd([trade("A", 1), trade("B", 2)], market.routes, 77, "live")
    assert market.log == [("frame", [1]), ("listener", [1])]
    [(_, _, slot)] = market.routes.slots()
    assert (slot.pulse.count, slot.pulse.last_ns, slot.pulse.received_ns) == (1, None, 77)


def test_parties_of_long_ago_are_forgotten(market: Market) -> None:
    """Ten thousand changes of who wants what leave no trace and cost no row."""
    route = market.frame("one", "quotes", "A")
    for i in range(10_000):
        other = market.listener("other", "quotes", "A")
        market.bring(quote("A", i))
        market.routes.drop(other, ["A"])
    assert len(market.columns["one"]) == 10_000
    table = market.routes.tables[Quote]
    assert len(table._hearers) < 5_000
    assert market.routes.symbols_of(route) == {"A"}
