"""What has been decoded, to whoever wants it: columns to frames, messages to all others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np

from alpaca_nb.data.batch import Batch
from alpaca_nb.data.status import SourceOrigin
from alpaca_nb.feed.intake import Haul
from alpaca_nb.feed.parties import Cut, Rows
from alpaca_nb.feed.routes import Route, Routes
from alpaca_nb.wire.messages import Message


def distribute(haul: Haul, routes: Routes, origin: SourceOrigin) -> None:
    """Hand out what came at once.

    Messages are made only of rows that somebody wants as such. They are handed out in the
    order they came, also those of different channels.
    """
    orders = []
    for batch in haul.batches:
        table = routes.tables.get(batch.layout.message)
        if table is None:
            continue  # late data of something just unsubscribed, or sent unasked
        shares = table.share(batch)
        _hand_columns(batch, shares.columns, origin)
        if shares.messages:
            orders.append(_Order(batch, shares.messages))
    for order, first, last in _runs(haul, orders):
        order.hand_out(first, last, origin)


def distribute_odd(
    messages: Iterable[Message[Any]], routes: Routes, received_ns: int, origin: SourceOrigin
) -> None:
    """Hand out messages that have no columns; frames count them."""
    for message in messages:
        table = routes.tables.get(type(message))
        slot = table.slot(message.symbol) if table is not None else None
        if table is None or slot is None:
            continue
        table.note_odd(message.symbol, received_ns)
        for route in slot.routes:
            route.deliver([message], received_ns, origin)


_KEPT_AT_MOST: Final = 64
"""Whoever gets less of a batch than this part has its rows copied: it keeps what it is given
until that is enough to write, which may be long, and would keep all the others with it."""


def _hand_columns(batch: Batch, cut: Cut[Route], origin: SourceOrigin) -> None:
    for route in cut.whole:
        if route.take is not None:
            route.take(batch, origin=origin)
    if cut.pieces:
        by_party = batch.take(cut.rows)
        for route, start, stop in cut.pieces:
            if route.take is None:
                continue
            if (stop - start) * _KEPT_AT_MOST < len(by_party):
                route.take(batch.take(cut.rows[start:stop]), origin=origin)
            else:
                route.take(by_party, origin=origin, start=start, stop=stop)
    for route, rows in cut.picks:
        if route.take is not None:
            route.take(batch.take(rows), origin=origin)


class _Order:
    """The rows of a batch that are wanted as messages, and by whom."""

    def __init__(self, batch: Batch, rows_of: dict[Route, Rows]) -> None:
        self.batch = batch
        self.rows_of = rows_of
        self.rows = np.empty(0, np.intp)
        """All that somebody wants, in ascending order."""
        self._messages: list[Message[Any]] = []

    def make(self, haul: Haul) -> None:
        """Make the messages, each once."""
        self.rows = np.unique(np.concatenate(list(self.rows_of.values())))
        self._messages = haul.messages(self.batch, self.rows)

    def hand_out(self, first: int, last: int, origin: SourceOrigin) -> None:
        """Hand out those between two of the rows (the second not included)."""
        for route, rows in self.rows_of.items():
            some = rows[np.searchsorted(rows, first) : np.searchsorted(rows, last)]
            if len(some):
                places = np.searchsorted(self.rows, some).tolist()
                messages = [self._messages[i] for i in places]
                route.deliver(messages, int(self.batch.received[some[0]]), origin)


def _runs(haul: Haul, orders: list[_Order]) -> Iterator[tuple[_Order, int, int]]:
    """Which rows to hand out one after the other, so that all go in the order they came."""
    for order in orders:
        order.make(haul)
    if len(orders) == 1:
        yield orders[0], 0, len(orders[0].batch)
        return
    if not orders:
        return
    whose = np.repeat(np.arange(len(orders)), [len(order.rows) for order in orders])
    rows = np.concatenate([order.rows for order in orders])
    came = np.concatenate([haul.sequence(order.batch)[order.rows] for order in orders])
    by_arrival = came.argsort(kind="stable")
    whose, rows = whose[by_arrival], rows[by_arrival]
    starts = np.flatnonzero(np.diff(whose, prepend=-1)).tolist()
    for start, stop in zip(starts, [*starts[1:], len(whose)], strict=True):
        yield orders[whose[start]], int(rows[start]), int(rows[stop - 1]) + 1
