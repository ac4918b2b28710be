"""Trades that are cancelled, corrected or reported late, and the bars that change with them.

What becomes of a minute's trades is decided with the minute: whoever asks for it, in
whatever order, gets the same cancels, corrections and updated bars. They go out at most
`HORIZON_NS` after the minute is over, and never after the close of the day.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter

import msgspec
import numpy as np

from alpaca_nb.wire.messages import (
    Bar,
    CancelError,
    Correction,
    Message,
    Trade,
    UpdatedBar,
)

Due = tuple[int, Message[int]]
"""A message, and the time at which it goes out."""

BarOf = Callable[[Iterable[Trade[int]]], Bar[int] | None]
"""Makes a minute's bar from its trades; None if none of them qualifies."""

HORIZON_NS = 90_000_000_000
"""How long after its end a minute may still lead to messages."""

_HALF_MINUTE_NS = 30_000_000_000
_MINUTE_NS = 60_000_000_000
_SOONEST_NS = 300_000_000
_LONGEST_NS = 50_000_000_000
_CORRECTED_IDS = 500_000
"""More than any minute has trades, so that a corrected trade's new number is its own."""


@dataclass(frozen=True, slots=True)
class _Change:
    """At a time, one trade ceases to stand, or another begins to."""

    due_ns: int
    gone: Trade[int] | None = None
    new: Trade[int] | None = None


def amend(
    ticks: Sequence[Message[int]],
    rng: np.random.Generator,
    share: float,
    *,
    end_ns: int,
    close_ns: int,
    bar_of: BarOf,
) -> list[Due]:
    """All that a minute's ticks lead to when a share of the trades is amended, in order.

    `end_ns` is the end of the minute, where its bar is due, `close_ns` that of the day.
    """
    sent: list[Due] = []
    changes: list[_Change] = []
    trades = [message for message in ticks if type(message) is Trade]
    amended = {
        id(trade): amendment
        for trade, amendment in zip(trades, _draw(rng, trades, share), strict=True)
        if amendment is not None and _fits(amendment, trade, end_ns, close_ns)
    }
    for message in ticks:
        amendment = amended.get(id(message))
        due_ns = message.timestamp
        if amendment is not None and amendment.late:
            due_ns = amendment.due_ns(due_ns, end_ns)
        sent.append((due_ns, message))
        if type(message) is Trade:
            changes.append(_Change(due_ns, new=message))
            if amendment is not None and not amendment.late:
                when_ns = amendment.due_ns(due_ns, end_ns)
                notice, standing = amendment.of(message, when_ns)
                sent.append((when_ns, notice))
                changes.append(_Change(when_ns, gone=message, new=standing))
    sent += _bars(changes, end_ns, bar_of)
    sent.sort(key=itemgetter(0))
    return sent


def standing_trades(messages: Iterable[Message[int]]) -> list[Trade[int]]:
    """The trades that stand after these messages: cancels taken out, corrections applied."""
    standing: dict[tuple[str, str, int], Trade[int]] = {}
    for message in messages:
        if type(message) is Trade:
            standing[message.symbol, message.exchange, message.trade_id] = message
        elif type(message) is CancelError:
            standing.pop((message.symbol, message.exchange, message.trade_id), None)
        elif type(message) is Correction:
            key = message.symbol, message.exchange, message.original_trade_id
            original = standing.pop(key, None)
            if original is not None:
                corrected = corrected_trade(original, message)
                standing[corrected.symbol, corrected.exchange, corrected.trade_id] = corrected
    return sorted(standing.values(), key=by_time)


def corrected_trade(original: Trade[int], correction: Correction[int]) -> Trade[int]:
    """The trade as it should have been reported; time, venue and tape stay."""
    return msgspec.structs.replace(
        original,
        trade_id=correction.corrected_trade_id,
        price=correction.corrected_price,
        size=correction.corrected_size,
        conditions=correction.corrected_conditions,
    )


def by_time(trade: Trade[int]) -> tuple[int, str, int]:
    """The order of trades in Alpaca's history: by time, then venue and number."""
    return trade.timestamp, trade.exchange, trade.trade_id


# -- what happens to a trade -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Amendment:
    """What becomes of one trade, in numbers drawn for it alone."""

    kind: float
    """Up to 0.3 a cancel, up to 0.7 a correction, above that a late report."""
    wait: float
    """How late it comes, between the soonest and the latest."""
    change: float
    """What a correction does to price and size."""

    @property
    def late(self) -> bool:
        return self.kind >= 0.7

    def due_ns(self, traded_ns: int, end_ns: int) -> int:
        """When the notice, or the late trade itself, goes out."""
        wait_ns = _SOONEST_NS + int(self.wait * (_LONGEST_NS - _SOONEST_NS))
        return (end_ns if self.late else traded_ns) + wait_ns

    def of(self, trade: Trade[int], due_ns: int) -> tuple[Message[int], Trade[int] | None]:
        """The notice, and the trade that stands instead, if any."""
        if self.kind < 0.3:
            return self._cancel(trade, due_ns), None
        notice = self._correction(trade, due_ns)
        return notice, corrected_trade(trade, notice)

    def _cancel(self, trade: Trade[int], due_ns: int) -> CancelError[int]:
        return CancelError(
            symbol=trade.symbol,
            trade_id=trade.trade_id,
            exchange=trade.exchange,
            price=trade.price,
            size=trade.size,
            action="E" if self.kind < 0.1 else "C",
            tape=trade.tape,
            timestamp=due_ns,
        )

    def _correction(self, trade: Trade[int], due_ns: int) -> Correction[int]:
        # Up to three ticks either way, never none, and never under a tick.
        ticks = math.floor(self.change * 6) - 3
        tick = 0.01 if trade.price >= 1 else 0.0001
        price = round(trade.price + (ticks + (ticks >= 0)) * tick, 4)
        size = trade.size if self.kind < 0.5 else trade.size + 100
        conditions = [each for each in trade.conditions if each != "I"]
        return Correction(
            symbol=trade.symbol,
            exchange=trade.exchange,
            original_trade_id=trade.trade_id,
            original_price=trade.price,
            original_size=trade.size,
            original_conditions=trade.conditions,
            corrected_trade_id=trade.trade_id + _CORRECTED_IDS,
            corrected_price=max(price, tick),
            corrected_size=size,
            corrected_conditions=[*conditions, "I"] if size < 100 else conditions,
            tape=trade.tape,
            timestamp=due_ns,
        )


def _draw(
    rng: np.random.Generator, trades: Sequence[Trade[int]], share: float
) -> list[_Amendment | None]:
    # All numbers are drawn for all trades: a greater share amends more, and the same ones.
    chances, kinds, waits, changes = rng.random((4, len(trades))).tolist()
    return [
        _Amendment(kind, wait, change) if chance < share else None
        for chance, kind, wait, change in zip(chances, kinds, waits, changes, strict=True)
    ]


def _fits(amendment: _Amendment, trade: Trade[int], end_ns: int, close_ns: int) -> bool:
    """Whether the day is long enough for the amendment and the bar it changes."""
    due_ns = amendment.due_ns(trade.timestamp, end_ns)
    return due_ns <= end_ns or _next_mark(due_ns, end_ns) <= close_ns


# -- the bars ----------------------------------------------------------------------------


def _next_mark(due_ns: int, end_ns: int) -> int:
    """The half-minute at which a bar goes out again."""
    first = end_ns + _HALF_MINUTE_NS
    return first if due_ns <= first else first + _MINUTE_NS


def _bars(changes: list[_Change], end_ns: int, bar_of: BarOf) -> Iterator[Due]:
    """The bar at the end of the minute, and again at each half-minute that finds it changed."""
    changes.sort(key=lambda change: change.due_ns)
    standing: dict[int, Trade[int]] = {}
    told: Bar[int] | None = None
    done = 0
    for mark_ns in (end_ns, end_ns + _HALF_MINUTE_NS, end_ns + HORIZON_NS):
        before = done
        while done < len(changes) and changes[done].due_ns <= mark_ns:
            change = changes[done]
            if change.gone is not None:
                del standing[id(change.gone)]
            if change.new is not None:
                standing[id(change.new)] = change.new
            done += 1
        if done == before:
            continue
        bar = bar_of(sorted(standing.values(), key=by_time))
        if bar is None or bar == told:
            continue
        yield mark_ns, bar if mark_ns == end_ns else _updated(bar)
        told = bar


def _updated(bar: Bar[int]) -> UpdatedBar[int]:
    return UpdatedBar(**msgspec.structs.asdict(bar))
