"""Who gets which messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from alpaca_nb.data.frame import LiveFrame
from alpaca_nb.data.status import SourceOrigin, StreamStatus
from alpaca_nb.wire.messages import Channel, Message, check_symbols, find_channel

Deliver = Callable[[list[Message[Any]], int, SourceOrigin], None]
"""Takes messages of one channel, their arrival (ns, UTC) and their origin; called on the
stream's loop, so it only puts them aside."""


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """Which messages go to one consumer."""

    channel: Channel
    symbols: frozenset[str]
    deliver: Deliver
    frame: LiveFrame | None = None
    """The frame that it fills, which wants to know what it missed."""


@dataclass(slots=True)
class Table:
    """Who gets the messages of one type."""

    by_symbol: dict[str, list[Deliver]]
    for_all: list[Deliver]


def make_tables(routes: Iterable[Route]) -> dict[type[Any], Table]:
    """The tables by message type; a message goes to each consumer once."""
    tables: dict[type[Any], Table] = {}
    routes = list(routes)
    for route in routes:
        table = tables.setdefault(route.channel.message, Table({}, []))
        if "*" in route.symbols:
            table.for_all.append(route.deliver)
        for symbol in route.symbols - {"*"}:
            table.by_symbol.setdefault(symbol, [])
    for route in routes:
        table = tables[route.channel.message]
        everything = "*" in route.symbols
        for symbol, delivers in table.by_symbol.items():
            if everything or symbol in route.symbols:
                delivers.append(route.deliver)
    return tables


def make_frame(
    channel: str,
    symbols: str | Iterable[str],
    *,
    maxlen: int,
    status: Callable[[], StreamStatus],
    add: Callable[[Route], None],
    remove: Callable[[LiveFrame], None],
) -> LiveFrame:
    """Make a frame and add the route that fills it; closing the frame calls `remove`."""

    def deliver(messages: list[Message[Any]], received_ns: int, origin: SourceOrigin) -> None:
        frame.extend(messages, received_ns=received_ns, origin=origin)

    frame = LiveFrame(
        channel,
        check_symbols(symbols),
        maxlen=maxlen,
        status=status,
        on_close=lambda: remove(frame),
    )
    add(Route(find_channel(channel), frozenset(frame.symbols), deliver, frame))
    return frame
