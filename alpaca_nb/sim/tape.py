"""What the simulator plays: a synthetic market, or a recording.

A tape is read by position, in nanoseconds from its start, and keeps no state about its
readers: the same question always has the same answer. Who plays it, how fast, and to
whom is the server's business.

What was played can be asked for again by time (`history`, `latest`, `truth`), which is
how the REST twin serves what the stream has sent, as it stands by now.
"""

from __future__ import annotations

import datetime as dt
import os
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from typing import Any, Generic, Literal, TypeVar

import msgspec
import numpy as np

from alpaca_nb.errors import BadInputError
from alpaca_nb.sim.amendments import HORIZON_NS, by_time, corrected_trade
from alpaca_nb.sim.market import (
    DEFAULT_DATE,
    DEFAULT_SEED,
    MINUTE_NS,
    SESSION_MINUTES,
    SyntheticMarket,
)
from alpaca_nb.sim.recording import read_recording
from alpaca_nb.wire.messages import (
    Bar,
    CancelError,
    Correction,
    Message,
    Quote,
    Trade,
    UpdatedBar,
    check_symbols,
)
from alpaca_nb.wire.protocol import Subscriptions

LONGEST_PAUSE_NS = 3_600_000_000_000
"""A longer pause in a recording (a night, a weekend) is played as one second."""
_SHORT_PAUSE_NS = 1_000_000_000

_MESSAGES_AT_ONCE = 1000
_TAPE_AT_ONCE_NS = 1_000_000_000
_MESSAGES_KEPT = 60_000
"""How much of what was played is kept made, for those who ask for it again."""
_SESSION_NS = SESSION_MINUTES * MINUTE_NS

HISTORY_CHANNELS = ("trades", "quotes", "bars")
"""What can be asked for again."""

TimeT = TypeVar("TimeT")


class AmendedTrade(Trade[TimeT], Generic[TimeT], tag="t", kw_only=True, rename={"update": "u"}):
    """A trade of the history that does not stand as it was reported, or was put right.

    `update` is "canceled", "incorrect" (and a corrected one follows) or "corrected".
    """

    update: str


class Tape(ABC):
    """What the server needs of a source of market data."""

    @property
    @abstractmethod
    def origin(self) -> Literal["simulated", "replay"]:
        """What a client should be told about where the data comes from."""

    @abstractmethod
    def between(
        self, feed: str, wanted: Subscriptions, after: int, until: int
    ) -> list[Message[int]]:
        """What is due after one position up to and including another, in order.

        `wanted` says what anybody has subscribed on the feed. More than that may be
        returned; less may not.
        """

    @abstractmethod
    def prepare(self, feed: str, wanted: Subscriptions, after: int, until: int) -> bool:
        """Do a small piece of the work for `between`; False when there is none left."""

    @abstractmethod
    def next_stop(self, position: int) -> int | None:
        """How far to go next when there is no clock to follow; None at the end."""

    @abstractmethod
    def time_ns(self, position: int) -> int:
        """What time it is on the tape, in nanoseconds since 1970."""

    @abstractmethod
    def history(
        self,
        feed: str,
        channel: str,
        symbol: str,
        *,
        start_ns: int,
        end_ns: int,
        position: int,
        newest_first: bool = False,
    ) -> Iterator[list[Message[int]]]:
        """What has been played of a symbol up to a position, as it stands there.

        Both bounds are inclusive. It comes in pieces, each small enough to be made at
        once, in order: by time, trades with the same time by venue and number. Trades
        that were cancelled or corrected are among it as `AmendedTrade`, bars are as they
        were updated last.
        """

    @abstractmethod
    def latest_quote(self, feed: str, symbol: str, position: int) -> Quote[int] | None:
        """The quote that stands at a position; the first one there is before any stands."""

    @abstractmethod
    def _private(self) -> Tape:
        """The same tape, for a reader on another thread."""

    def latest(self, feed: str, channel: str, symbol: str, position: int) -> Message[int] | None:
        """The last quote, trade or bar of a symbol at a position; None if there is none.

        Before the first quote was played, the first one there will be stands in for it.
        """
        if channel == "quotes":
            return self.latest_quote(feed, symbol, position)
        pieces = self.history(
            feed,
            channel,
            symbol,
            start_ns=0,
            end_ns=self.time_ns(position),
            position=position,
            newest_first=True,
        )
        return next((each for piece in pieces for each in piece if _stands(each)), None)

    def truth(
        self, feed: str, channel: str, symbols: str | Iterable[str], until_position: int
    ) -> list[Message[int]]:
        """What somebody who missed nothing knows at a position: what the REST twin serves.

        Quotes as they were sent, trades without the cancelled ones and with the
        corrections applied, bars as they were updated last; by symbol, then time. May be
        called from any thread.
        """
        tape = self._private()
        return [
            _plain(message)
            for symbol in sorted(check_symbols(symbols))
            for piece in tape.history(
                feed,
                channel,
                symbol,
                start_ns=0,
                end_ns=tape.time_ns(until_position),
                position=until_position,
            )
            for message in piece
            if _stands(message)
        ]


def _stands(message: Message[int]) -> bool:
    return not isinstance(message, AmendedTrade) or message.update == "corrected"


def _plain(message: Message[int]) -> Message[int]:
    if isinstance(message, AmendedTrade):
        values = {name: getattr(message, name) for name in Trade.__struct_fields__}
        return Trade(**values)
    return message


# -- as it stands ------------------------------------------------------------------------

_TYPE_OF: dict[str, tuple[type[Message[Any]], ...]] = {
    "trades": (Trade, CancelError, Correction),
    "quotes": (Quote,),
    "bars": (Bar, UpdatedBar),
}
_AMENDMENTS = (CancelError, Correction)
_by_timestamp = attrgetter("timestamp")


def _as_it_stands(channel: str, sent: list[Message[int]]) -> list[Message[int]]:
    """What messages of one symbol amount to, in the order of a history."""
    if channel == "bars":
        return _standing_bars(sent)
    if channel == "quotes":
        return sorted((each for each in sent if type(each) is Quote), key=_by_timestamp)
    if any(type(each) in _AMENDMENTS for each in sent):
        return _reported_trades(sent)
    return [*sorted((each for each in sent if type(each) is Trade), key=by_time)]


def _reported_trades(sent: Iterable[Message[int]]) -> list[Message[int]]:
    """All trades that were reported, those that were amended marked as such."""
    trades: dict[tuple[str, int], list[Trade[int]]] = {}
    for message in sent:
        if type(message) is Trade:
            trades.setdefault((message.exchange, message.trade_id), []).append(message)
        elif type(message) is CancelError:
            _mark(trades.get((message.exchange, message.trade_id)), "canceled")
        elif type(message) is Correction:
            original = _mark(trades.get((message.exchange, message.original_trade_id)), "incorrect")
            if original is not None:
                corrected = _amended(corrected_trade(original, message), "corrected")
                key = corrected.exchange, corrected.trade_id
                trades.setdefault(key, []).append(corrected)
    return sorted((each for same in trades.values() for each in same), key=by_time)  # type: ignore[arg-type]


def _mark(reported: list[Trade[int]] | None, update: str) -> Trade[int] | None:
    """Mark the last report of a trade; returns it as it was."""
    if not reported:
        return None
    trade = reported[-1]
    reported[-1] = _amended(trade, update)
    return trade


def _amended(trade: Trade[int], update: str) -> AmendedTrade[int]:
    values = {name: getattr(trade, name) for name in Trade.__struct_fields__}
    return AmendedTrade(**values, update=update)


def _standing_bars(sent: Iterable[Message[int]]) -> list[Message[int]]:
    bars: dict[int, Message[int]] = {}
    for message in sent:
        if type(message) is Bar:
            bars[message.timestamp] = message
        elif type(message) is UpdatedBar:
            bars[message.timestamp] = Bar(**msgspec.structs.asdict(message))
    return [bars[time_ns] for time_ns in sorted(bars)]


def _cut(
    messages: list[Message[int]], start_ns: int, end_ns: int, *, newest_first: bool
) -> list[Message[int]]:
    low = bisect_left(messages, start_ns, key=_by_timestamp)
    high = bisect_right(messages, end_ns, key=_by_timestamp)
    return messages[low:high][::-1] if newest_first else messages[low:high]


# -- synthetic ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A minute of one symbol, and the position at which each message is due."""

    messages: list[Message[int]]
    due: list[int]


class SyntheticTape(Tape):
    """A synthetic market, one day after another, minute by minute on demand.

    With `minutes` it ends after so many of them; what is still to be said about them
    (the last bars, amendments) comes after that. The other options are those of
    `SyntheticMarket`.
    """

    origin: Literal["simulated"] = "simulated"

    def __init__(
        self,
        seed: int = DEFAULT_SEED,
        date: dt.date | str = DEFAULT_DATE,
        symbols: str | Iterable[str] | None = None,
        rate: float = 1.0,
        *,
        amendments: float = 0.0,
        minutes: int | None = None,
    ) -> None:
        self._first = SyntheticMarket(seed, date, symbols, rate, amendments=amendments)
        self._minutes = _check_minutes(minutes)
        # How many minutes back there may be something that is due now.
        self._back = -(-HORIZON_NS // MINUTE_NS) if amendments else 0
        self._end = self._end_after(self._minutes)
        self._markets: dict[tuple[str, int], SyntheticMarket] = {}
        # The last answer of _names by feed: it is asked for with every tick.
        self._named: dict[str, tuple[Subscriptions, list[str], frozenset[str]]] = {}
        # (feed, daily bars too, symbol) to chunk, for the current minute and the next.
        self._chunks: dict[int, dict[tuple[str, bool, str], _Chunk]] = {}
        # (feed, symbol, minute) to chunk, those used last at the end.
        self._past: OrderedDict[tuple[str, str, int], _Chunk] = OrderedDict()
        self._past_messages = 0

    def __repr__(self) -> str:
        return f"SyntheticTape({self._first!r})"

    def between(
        self, feed: str, wanted: Subscriptions, after: int, until: int
    ) -> list[Message[int]]:
        """What is due after one position up to and including another, in order."""
        self._forget(before=after // MINUTE_NS - self._back)
        found: list[tuple[int, Message[int]]] = []
        symbols, daily = self._names(feed, wanted)
        for minute in self._minutes_of(after, until):
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
        for minute in self._minutes_of(after, until):
            made = self._chunks.get(minute, {})
            for symbol in symbols:
                if (feed, symbol in daily, symbol) not in made:
                    self._chunk(feed, symbol in daily, symbol, minute)
                    return True
        return False

    def next_stop(self, position: int) -> int | None:
        """One second on; None at the end, if this tape has one."""
        if self._end is None:
            return position + _TAPE_AT_ONCE_NS
        return min(position + _TAPE_AT_ONCE_NS, self._end) if position < self._end else None

    def time_ns(self, position: int) -> int:
        """What time it is on the tape; the nights between the days take none."""
        if self._end is not None:
            position = min(position, self._end)
        # The last moment of a day belongs to it, and not to the next one's morning.
        day = max(0, position - 1) // _SESSION_NS
        return self._market("sip", day).open_ns + position - day * _SESSION_NS

    def history(
        self,
        feed: str,
        channel: str,
        symbol: str,
        *,
        start_ns: int,
        end_ns: int,
        position: int,
        newest_first: bool = False,
    ) -> Iterator[list[Message[int]]]:
        """What has been played of a symbol, a minute at a time; see `Tape.history`."""
        if feed == "test" and symbol not in self._market(feed, 0).symbols:
            return
        started = self._minutes_started(position)
        first = self._minute_at(start_ns)
        minutes = range(first, min(started, self._minute_at(end_ns) + 1))
        for minute in reversed(minutes) if newest_first else minutes:
            chunk = self._read(feed, symbol, minute)
            played = chunk.messages[: bisect_right(chunk.due, position)]
            messages = _as_it_stands(channel, played)
            yield _cut(messages, start_ns, end_ns, newest_first=newest_first)

    def latest_quote(self, feed: str, symbol: str, position: int) -> Quote[int] | None:
        """The quote that stands at a position; in a trading pause, the last one before."""
        if feed == "test" and symbol not in self._market(feed, 0).symbols:
            return None
        for minute in range(max(1, self._minutes_started(position)) - 1, -1, -1):
            chunk = self._read(feed, symbol, minute)
            quotes = [
                (due, message)
                for due, message in zip(chunk.due, chunk.messages, strict=True)
                if type(message) is Quote
            ]
            standing = [quote for due, quote in quotes if due <= position]
            if standing:
                return standing[-1]
            if quotes and minute == 0:
                return quotes[0][1]
        return None

    def _private(self) -> SyntheticTape:
        first = self._first
        return SyntheticTape(
            first.seed,
            first.date,
            first.symbols,
            first.rate,
            amendments=first.amendments,
            minutes=self._minutes,
        )

    def _end_after(self, minutes: int | None) -> int | None:
        if minutes is None:
            return None
        # No day has anything after its close.
        close = -(-minutes // SESSION_MINUTES) * _SESSION_NS
        return min(minutes * MINUTE_NS + (HORIZON_NS if self._back else 0), close)

    def _minutes_started(self, position: int) -> int:
        started = -(-position // MINUTE_NS)
        return started if self._minutes is None else min(started, self._minutes)

    def _minutes_of(self, after: int, until: int) -> range:
        # A bar is due at the very end of its minute: minutes are (start, end].
        first = max(0, after // MINUTE_NS - self._back)
        return range(first, self._minutes_started(until))

    def _minute_at(self, time_ns: int) -> int:
        """The minute in which a time lies; the first one after it for a time at night."""
        day = 0
        while True:
            offset_ns = time_ns - self._market("sip", day).open_ns
            if offset_ns < _SESSION_NS:
                return day * SESSION_MINUTES + max(0, offset_ns) // MINUTE_NS
            if self._market("sip", day + 1).open_ns > time_ns:
                return (day + 1) * SESSION_MINUTES
            day += 1

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
            market = self._markets[feed, day] = self._first.on(feed).day(day)
        return market

    def _chunk(self, feed: str, daily: bool, symbol: str, minute: int) -> _Chunk:
        made = self._chunks.setdefault(minute, {})
        chunk = made.get((feed, daily, symbol))
        if chunk is None:
            chunk = made[feed, daily, symbol] = self._make_chunk(feed, daily, symbol, minute)
        return chunk

    def _read(self, feed: str, symbol: str, minute: int) -> _Chunk:
        """A minute that was played already; those read last are kept."""
        made = self._chunks.get(minute, {})
        chunk = made.get((feed, False, symbol)) or made.get((feed, True, symbol))
        if chunk is not None:
            return chunk
        chunk = self._past.pop((feed, symbol, minute), None)
        if chunk is None:
            chunk = self._make_chunk(feed, False, symbol, minute)
            self._past_messages += len(chunk.messages)
        self._past[feed, symbol, minute] = chunk
        self._trim()
        return chunk

    def _make_chunk(self, feed: str, daily: bool, symbol: str, minute: int) -> _Chunk:
        day, index = divmod(minute, SESSION_MINUTES)
        market = self._market(feed, day)
        # The nights between the days are left out of the tape.
        shift = day * _SESSION_NS - market.open_ns
        sent = market.events(symbol, index)
        due = [time_ns + shift for time_ns, _ in sent]
        messages = [message for _, message in sent]
        bar = market.daily_bar(symbol, index) if daily else None
        if bar is not None:
            ends = (minute + 1) * MINUTE_NS
            place = bisect_right(due, ends)
            due.insert(place, ends)
            messages.insert(place, bar)
        return _Chunk(messages, due)

    def _forget(self, before: int) -> None:
        for minute in [minute for minute in self._chunks if minute < before]:
            for (feed, _, symbol), chunk in self._chunks.pop(minute).items():
                known = self._past.pop((feed, symbol, minute), None)
                self._past[feed, symbol, minute] = chunk
                self._past_messages += len(chunk.messages) - (len(known.messages) if known else 0)
            self._trim()

    def _trim(self) -> None:
        while self._past_messages > _MESSAGES_KEPT and len(self._past) > 1:
            _, oldest = self._past.popitem(last=False)
            self._past_messages -= len(oldest.messages)


def _check_minutes(minutes: object) -> int | None:
    if minutes is None:
        return None
    if isinstance(minutes, bool) or not isinstance(minutes, int) or minutes < 1:
        raise BadInputError(
            f"The number of minutes is a whole number from 1 up, not {minutes!r}; leave it out "
            "for a market without an end."
        )
    return minutes


# -- recorded ----------------------------------------------------------------------------


class RecordedTape(Tape):
    """A recording, played in the file's order, each message when its time has come.

    A message with an earlier time than the one before it is due together with that one.
    The whole file is read, and checked, before anything is played. Whatever feed is asked
    for, it is what the file holds.
    """

    origin: Literal["replay"] = "replay"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        self._messages = list(read_recording(path))
        times = np.array([message.timestamp for message in self._messages], np.int64)
        latest = np.maximum.accumulate(times)
        pauses = np.diff(latest, prepend=times[0])
        pauses[pauses > LONGEST_PAUSE_NS] = _SHORT_PAUSE_NS
        # Positions start at 1, so that "after 0" includes the first message.
        self._due: list[int] = (np.cumsum(pauses) + 1).tolist()
        self._times: list[int] = latest.tolist()
        self._places = _places(self._messages)

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

    def time_ns(self, position: int) -> int:
        """What time it is on the tape: the latest time played, and what has passed since."""
        passed = bisect_right(self._due, position)
        if not passed:
            return self._times[0]
        time_ns = self._times[passed - 1] + position - self._due[passed - 1]
        return min(time_ns, self._times[passed]) if passed < len(self._times) else time_ns

    def history(
        self,
        feed: str,
        channel: str,
        symbol: str,
        *,
        start_ns: int,
        end_ns: int,
        position: int,
        newest_first: bool = False,
    ) -> Iterator[list[Message[int]]]:
        """What has been played of a symbol; see `Tape.history`."""
        places = self._places.get((channel, symbol), [])
        # Up to its first message of that time, all that the file has is older.
        first = bisect_left(places, bisect_left(self._times, start_ns))
        end = bisect_left(places, bisect_right(self._due, position))
        played = map(self._messages.__getitem__, places[first:end])
        # An amendment has another time than what it amends, but never an earlier place.
        asked = [
            message
            for message in played
            if start_ns <= message.timestamp <= end_ns or type(message) in _AMENDMENTS
        ]
        standing = _as_it_stands(channel, asked)
        if newest_first:
            standing.reverse()
        for low in range(0, len(standing), _MESSAGES_AT_ONCE):
            yield standing[low : low + _MESSAGES_AT_ONCE]

    def latest_quote(self, feed: str, symbol: str, position: int) -> Quote[int] | None:
        """The symbol's last quote up to a position; its first one while none was played."""
        places = self._places.get(("quotes", symbol), [])
        passed = bisect_left(places, bisect_right(self._due, position))
        if not places:
            return None
        message = self._messages[places[max(0, passed - 1)]]
        assert type(message) is Quote
        return message

    def _private(self) -> RecordedTape:
        return self


def _places(messages: Sequence[Message[int]]) -> dict[tuple[str, str], list[int]]:
    """Where in the file the messages of each channel and symbol are."""
    channel_of = {kind: name for name, kinds in _TYPE_OF.items() for kind in kinds}
    places: dict[tuple[str, str], list[int]] = {}
    for place, message in enumerate(messages):
        channel = channel_of.get(type(message))
        if channel is not None:
            places.setdefault((channel, message.symbol), []).append(place)
    return places
