"""Who gets which messages, while wishes change."""

from __future__ import annotations

import random
from typing import Any

from alpaca_nb.feed.routes import Route, Routes
from alpaca_nb.wire.messages import Quote, find_channel


def route(channel: str = "quotes") -> Route:
    return Route(find_channel(channel), lambda *_: None)


def reached(routes: Routes, symbol: str) -> list[Route]:
    table = routes.tables.get(Quote)
    slot = table.slot(symbol) if table is not None else None
    return slot.routes if slot is not None else []


def test_a_route_gets_its_symbols() -> None:
    """Only those, and only until they are dropped."""
    routes, one = Routes(), route()
    assert routes.add(one, ["AAPL", "MSFT", "AAPL"]) == ["AAPL", "MSFT"]
    assert reached(routes, "AAPL") == [one]
    assert reached(routes, "TSLA") == []
    assert routes.drop(one, ["AAPL", "TSLA"]) == ["AAPL"]
    assert reached(routes, "AAPL") == []
    assert routes.symbols_of(one) == {"MSFT"}


def test_who_wants_all_gets_each_once() -> None:
    """The star and a symbol of its own together are one delivery, in order of the wishes."""
    routes, first, everything = Routes(), route(), route()
    routes.add(first, ["AAPL"])
    routes.add(everything, ["AAPL", "*"])
    assert reached(routes, "AAPL") == [first, everything]
    assert reached(routes, "TSLA") == [everything]
    routes.drop(everything, ["*"])
    assert reached(routes, "AAPL") == [first, everything]
    assert reached(routes, "TSLA") == []


def test_a_symbol_of_its_own_may_go_while_all_are_wanted() -> None:
    """Dropping a symbol punches no hole into the star."""
    routes, everything = Routes(), route()
    routes.add(everything, ["AAPL", "*"])
    routes.drop(everything, ["AAPL"])
    assert reached(routes, "AAPL") == [everything]


def test_the_pulse_belongs_to_the_symbol() -> None:
    """It goes on beating while consumers come and go, and ends with the last."""
    routes, one, other = Routes(), route(), route()
    routes.add(one, ["AAPL"])
    pulse = routes.tables[Quote].slots["AAPL"].pulse
    routes.add(other, ["AAPL"])
    routes.drop(one, ["AAPL"])
    assert routes.tables[Quote].slots["AAPL"].pulse is pulse
    routes.drop(other, ["AAPL"])
    assert list(routes.slots()) == []


def test_any_order_of_changes_ends_the_same() -> None:
    """After random changes each symbol reaches just those who want it."""
    rng = random.Random(7)
    routes, wishes = Routes(), {route(): set[Any]() for _ in range(6)}
    names = ["*", "A", "B", "C", "D"]
    for _ in range(2_000):
        who, name = rng.choice(list(wishes)), rng.choice(names)
        if rng.random() < 0.5:
            routes.add(who, [name])
            wishes[who].add(name)
        else:
            routes.drop(who, [name])
            wishes[who].discard(name)
        for symbol in "ABCD":
            wanted = {each for each, has in wishes.items() if {symbol, "*"} & has}
            found = reached(routes, symbol)
            assert set(found) == wanted
            assert len(found) == len(wanted)
