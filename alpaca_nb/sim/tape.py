"""What the simulator plays: an endless synthetic market, or a recording.

A tape is read by position, in nanoseconds from its start, and keeps no state about its
readers: the same question always has the same answer. Who plays it, how fast, and to
whom is the server's business.
"""

from __future__ import annotations

import datetime as dt
import os
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from operator import itemgetter
from typing import Literal, Protocol

import numpy as np

from alpaca_nb.sim.market import (
    DEFAULT_DATE,
    DEFAULT_SEED,
    MINUTE_NS,
    SESSION_MINUTES,
    SyntheticMarket,
)
from alpaca_nb.sim.recording import read_recording
from alpaca_nb.wire.messages import Bar, Message, Quote
from alpaca_nb.wire.protocol import Subscriptions

LONGEST_PAUSE_NS = 3_600_000_000_000
"""A longer pause in a recording (a night, a weekend) is played as one second."""
_SHORT_PAUSE_NS = 1_000_000_000

_MESSAGES_AT_ONCE = 1000
_TAPE_AT_ONCE_NS = 1_000_000_000


class Tape(Protocol):
    """What the server needs of a source of market data."""

    @property
    def origin(self) -> Literal["simulated", "replay"]:
        """What a client should be told about where the data comes from."""
        ...

    def between(
        self, feed: str, wanted: Subscriptions, after: int, until: int
    ) -> list[Message[int]]:
        """What is due after one position up to and including another, in order.

        `wanted` says what anybody has subscribed on the feed. More than that may be
        returned; less may not.
        """
        ...

    def prepare(self, feed: str, wanted: Subscriptions, after: int, until: int) -> bool:
        """Do a small piece of the work for `between`; False when there is none left."""
        ...

    def next_stop(self, position: int) -> int | None:
        """How far to go next when there is no clock to follow; None at the end."""
        ...

    def latest_quote(self, feed: str, symbol: str, position: int) -> Quote[int] | None:
        """The quote that stands at a position; the first one there is before any stands."""
        ...


# -- synthetic ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A minute of one symbol, and the position at which each message is due."""

    messages: list[Message[int]]
    due: list[int]


class SyntheticTape:
    """A synthetic market, one day after another, minute by minute on demand."""

    origin: Literal["simulated"] = "simulated"

    def __init__(
        self,
        seed: int = DEFAULT_SEED,
        date: dt.date | str = DEFAULT_DATE,
        symbols: str | Iterable[str] | None = None,
        rate: float = 1.0,
    ) -> None:
        self._first = SyntheticMarket(seed, date, symbols, rate)
        self._markets: dict[tuple[str, int], SyntheticMarket] = {}
        # The last answer of _names by feed: it is asked for with every tick.
        self._named: dict[str, tuple[Subscriptions, list[str], frozenset[str]]] = {}
        # (feed, daily bars too, symbol) to chunk, for the current minute and the next.
        self._chunks: dict[int, dict[tuple[str, bool, str], _Chunk]] = {}

    def __repr__(self) -> str:
        return f"SyntheticTape({self._first!r})"

    def between(
        self, feed: str, wanted: Subscriptions, after: int, until: int
    ) -> list[Message[int]]:
        """What is due after one position up to and including another, in order."""
        self._forget(before=after // MINUTE_NS)
        found: list[tuple[int, Message[int]]] = []
        symbols, daily = self._names(feed, wanted)
        for minute in _minutes(after, until):
            for symbol in symbols:
                chunk = self._chunk(feed, symbol in daily, symbol, minute)
                low, high = bisect_right(chunk.due, after), bisect_right(chunk.due, until)
                if low < high:
                    found += zip(chunk.due[low:high], chunk.messages[low:high], strict=True)
        # Stable: what is due together (the bars) keeps the order of the symbols.
        found.sort(key=itemgetter(0))
        return [message for _, message in found]

    def prepare(self, feed: str, wanted: Subscriptions, after: int, until: int) -> bool:
        """Make one minute of one symbol, if there is one still to be made."""
        symbols, daily = self._names(feed, wanted)
        for minute in _minutes(after, until):
            made = self._chunks.get(minute, {})
            for symbol in symbols:
                if (feed, symbol in daily, symbol) not in made:
                    self._chunk(feed, symbol in daily, symbol, minute)
                    return True
        return False

    def next_stop(self, position: int) -> int | None:
        """One second on; this tape has no end."""
        return position + _TAPE_AT_ONCE_NS

    def latest_quote(self, feed: str, symbol: str, position: int) -> Quote[int] | None:
        """The quote that stands at a position; in a trading pause, the last one before."""
        for minute in range(position // MINUTE_NS, -1, -1):
            chunk = self._chunk(feed, False, symbol, minute, keep=False)
            quotes = [
                (due, message)
                for due, message in zip(chunk.due, chunk.messages, strict=True)
                if type(message) is Quote
            ]
            if quotes:
                standing = [quote for due, quote in quotes if due <= position]
                return standing[-1] if standing else quotes[0][1]
        return None

    def _names(self, feed: str, wanted: Subscriptions) -> tuple[list[str], frozenset[str]]:
        known = self._named.get(feed)
        if known is not None and known[0] is wanted:
            return known[1:]
        everything = frozenset(self._market(feed, 0).symbols)
        named = {symbol for symbols in wanted.values() for symbol in symbols}
        if "*" in named:
            named |= everything
        if feed == "test":
            named &= everything
        daily = wanted.get("daily_bars", frozenset())
        if "*" in daily:
            daily |= everything
        self._named[feed] = wanted, sorted(named - {"*"}), daily
        return self._named[feed][1:]

    def _market(self, feed: str, day: int) -> SyntheticMarket:
        market = self._markets.get((feed, day))
        if market is None:
            first = self._first
            same = SyntheticMarket(first.seed, first.date, first.symbols, first.rate, feed=feed)
            market = self._markets[feed, day] = same.day(day)
        return market

    def _chunk(
        self, feed: str, daily: bool, symbol: str, minute: int, *, keep: bool = True
    ) -> _Chunk:
        made = self._chunks.get(minute, {})
        chunk = made.get((feed, daily, symbol))
        if chunk is None:
            chunk = self._make_chunk(feed, daily, symbol, minute)
            if keep:
                self._chunks.setdefault(minute, {})[feed, daily, symbol] = chunk
        return chunk

    def _make_chunk(self, feed: str, daily: bool, symbol: str, minute: int) -> _Chunk:
        day, index = divmod(minute, SESSION_MINUTES)
        market = self._market(feed, day)
        messages = market.minute(symbol, index)
        # The nights between the days are left out of the tape.
        shift = day * SESSION_MINUTES * MINUTE_NS - market.open_ns
        ends = (minute + 1) * MINUTE_NS
        due = [ends if type(message) is Bar else message.timestamp + shift for message in messages]
        if daily:
            bar = market.daily_bar(symbol, index)
            if bar is not None:
                messages.append(bar)
                due.append(ends)
        return _Chunk(messages, due)

    def _forget(self, before: int) -> None:
        for minute in [minute for minute in self._chunks if minute < before]:
            del self._chunks[minute]
        today = before // SESSION_MINUTES
        for feed, day in [key for key in self._markets if 0 < key[1] < today]:
            del self._markets[feed, day]


def _minutes(after: int, until: int) -> range:
    # A bar is due at the very end of its minute: minutes are (start, end].
    return range(after // MINUTE_NS, (until - 1) // MINUTE_NS + 1)


# -- recorded ----------------------------------------------------------------------------


class RecordedTape:
    """A recording, played in the file's order, each message when its time has come.

    A message with an earlier time than the one before it is due together with that one.
    The whole file is read, and checked, before anything is played.
    """

    origin: Literal["replay"] = "replay"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        self._messages = list(read_recording(path))
        times = np.array([message.timestamp for message in self._messages], np.int64)
        pauses = np.diff(np.maximum.accumulate(times), prepend=times[0])
        pauses[pauses > LONGEST_PAUSE_NS] = _SHORT_PAUSE_NS
        # Positions start at 1, so that "after 0" includes the first message.
        self._due: list[int] = (np.cumsum(pauses) + 1).tolist()

    def __repr__(self) -> str:
        return f"RecordedTape({self._path!r}: {len(self._messages)} messages)"

    def __len__(self) -> int:
        return len(self._messages)

    def between(
        self, feed: str, wanted: Subscriptions, after: int, until: int
    ) -> list[Message[int]]:
        """What is due after one position up to and including another, in the file's order."""
        return self._messages[bisect_right(self._due, after) : bisect_right(self._due, until)]

    def prepare(self, feed: str, wanted: Subscriptions, after: int, until: int) -> bool:
        """Nothing is left to be done; the file was read at the start."""
        return False

    def next_stop(self, position: int) -> int | None:
        """About a thousand messages on; None at the end."""
        passed = bisect_right(self._due, position)
        if passed == len(self._due):
            return None
        return self._due[min(passed + _MESSAGES_AT_ONCE, len(self._due)) - 1]

    def latest_quote(self, feed: str, symbol: str, position: int) -> Quote[int] | None:
        """The symbol's last quote up to a position; its first one while none was played."""
        passed = bisect_right(self._due, position)
        # Backwards through what was played, then forwards through what will be.
        for index in (*range(passed - 1, -1, -1), *range(passed, len(self._messages))):
            message = self._messages[index]
            if type(message) is Quote and message.symbol == symbol:
                return message
        return None
