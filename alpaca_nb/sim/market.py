"""Seeded synthetic trading that looks like a market: same seed, same day, byte for byte.

Everything is drawn from a hash of what it is about, never from what was drawn before:

    level of a symbol on a date   (seed, symbol, date)
    the day's path, minute marks  (seed, date, symbol), on one market factor per date
    the ticks of one minute       (seed, date, symbol, minute), as a bridge between two marks
    what is amended of its trades the same, by numbers of its own

So any minute of any symbol can be made alone, whichever other symbols are simulated, and
whoever asks again (a second feed, a REST twin) gets the same tape. "Same" holds for one
NumPy release: its generators are stable across platforms, not promised across versions.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from alpaca_nb.data.candles import Candle, CandleBuilder, sale_rule
from alpaca_nb.errors import BadInputError
from alpaca_nb.sim.amendments import HORIZON_NS, Due, amend, standing_trades
from alpaca_nb.wire.endpoints import find_endpoint
from alpaca_nb.wire.messages import (
    Bar,
    DailyBar,
    Imbalance,
    Message,
    PriceBand,
    Quote,
    Status,
    Trade,
    check_symbols,
)

NEW_YORK = ZoneInfo("America/New_York")
SESSION_MINUTES = 390
"""09:30 to 16:00 in New York."""
MINUTE_NS = 60_000_000_000
DEFAULT_DATE = dt.date(2026, 9, 21)
"""A Monday, fixed so that a run today and a run next year give the same bytes."""
DEFAULT_SEED = 7
MAX_RATE = 100.0
_LONG_AFTER_NS = 1 << 62
_TRADES_A_MINUTE = 1_000_000
"""More than any minute has, so that trade ids increase from each minute to the next."""

_Integers = NDArray[np.int64]
_Floats = NDArray[np.float64]
_Truths = NDArray[np.bool_]


# -- what a symbol is like ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Profile:
    """The temper of one symbol. Levels are invented, only their order of size is real."""

    symbol: str
    price: float
    volatility: float
    """Standard deviation of a day's return."""
    activity: float
    """Quotes and trades in an average minute at rate 1."""
    spread: float
    """Usual spread as a part of the price; never under one tick."""
    tape: str

    @property
    def regular_sale(self) -> str:
        """The condition of an ordinary trade, which differs by tape."""
        return "@" if self.tape == "C" else " "


def _known(tape: str, rows: str) -> dict[str, Profile]:
    profiles = {}
    for row in rows.strip().splitlines():
        symbol, price, volatility, activity, spread = row.split()
        profiles[symbol] = Profile(
            symbol, float(price), float(volatility), float(activity), float(spread), tape
        )
    return profiles


_KNOWN: dict[str, Profile] = (
    _known(
        "C",
        """
        AAPL   231.40 0.015 480 0.00004
        MSFT   512.30 0.014 360 0.00006
        NVDA   178.20 0.026 720 0.00005
        AMZN   229.10 0.018 380 0.00005
        GOOGL  205.60 0.017 330 0.00005
        META   748.90 0.019 300 0.00010
        TSLA   334.70 0.034 640 0.00006
        AMD    163.80 0.030 420 0.00006
        AVGO   301.50 0.025 260 0.00010
        NFLX  1204.00 0.020 150 0.00025
        COST   958.00 0.013 110 0.00025
        INTC    24.80 0.026 240 0.00040
        QQQ    574.20 0.012 560 0.00002
        PLTR   158.30 0.036 360 0.00007
        MSTR   338.00 0.048 220 0.00030
        SOFI    25.60 0.037 180 0.00040
        """,
    )
    | _known(
        "A",
        """
        JPM    298.70 0.014 200 0.00008
        IBM    242.10 0.014 120 0.00012
        BAC     49.90 0.015 190 0.00020
        WMT    101.20 0.012 150 0.00010
        XOM    112.40 0.014 160 0.00009
        KO      69.10 0.009 110 0.00015
        DIS    117.60 0.016 130 0.00009
        V      348.20 0.011 120 0.00012
        UNH    308.90 0.020 130 0.00020
        GE     272.30 0.018 110 0.00015
        F       11.70 0.020 150 0.00085
        NIO      6.30 0.040 140 0.00160
        BRK.B  491.00 0.010  90 0.00015
        GME     23.10 0.036 100 0.00045
        FAKEPACA 132.60 0.020 120 0.00030
        """,
    )
    | _known(
        "B",
        """
        SPY    661.40 0.009 780 0.00002
        IWM    241.20 0.013 340 0.00005
        DIA    462.80 0.009 140 0.00006
        GLD    338.90 0.010 140 0.00004
        TLT     88.60 0.009 160 0.00012
        XLF     53.70 0.011 130 0.00019
        VTI    324.90 0.009 100 0.00006
        EEM     52.30 0.011 110 0.00020
        """,
    )
)

DEFAULT_SYMBOLS = (
    *("AAPL", "MSFT", "NVDA", "AMZN", "GOOGL", "META"),
    *("TSLA", "AMD", "SPY", "QQQ", "JPM", "IBM"),
)
"""What is simulated, and what "*" means, unless symbols are given."""

TEST_SYMBOLS = ("FAKEPACA",)
"""All there is on the feed `test`."""


@functools.lru_cache(maxsize=16_384)
def profile_of(symbol: str) -> Profile:
    """What a symbol is like: looked up if it is well known, else made up from its name."""
    if symbol in _KNOWN:
        return _KNOWN[symbol]
    rng = _generator("profile", symbol)
    price = round(float(4.0 * math.exp(1.3 * rng.standard_normal() + 1.8)), 2)
    if rng.random() < 0.05:
        price = round(float(rng.uniform(0.12, 0.95)), 4)
    # The smaller a company the more it moves, the less it trades, the wider it is quoted.
    size = float(rng.random())
    return Profile(
        symbol,
        price=max(price, 0.12),
        volatility=0.014 + 0.03 * (1 - size),
        activity=4.0 + 90.0 * size**3,
        spread=0.0004 + 0.004 * (1 - size) ** 2,
        # Up to three letters is the custom of the New York exchange, four that of Nasdaq.
        tape="A" if len(symbol) <= 3 or "." in symbol else "C",
    )


# -- venues ------------------------------------------------------------------------------

_VENUES: dict[str, tuple[tuple[str, ...], tuple[float, ...]]] = {
    "A": (("N", "P", "Q", "Z", "K", "V", "U"), (0.34, 0.17, 0.15, 0.12, 0.09, 0.05, 0.08)),
    "B": (("P", "Q", "Z", "K", "V", "U", "N"), (0.33, 0.21, 0.15, 0.12, 0.05, 0.09, 0.05)),
    "C": (("Q", "P", "Z", "K", "V", "U", "N"), (0.37, 0.20, 0.14, 0.12, 0.06, 0.08, 0.03)),
}
"""Who quotes on each tape, the listing exchange first, and how often."""

_OFF_EXCHANGE = "D"
_ONE_VENUE = {"iex": "V", "boats": "B", "overnight": "O"}
"""Feeds that carry a single venue."""


# -- randomness --------------------------------------------------------------------------


def _generator(*about: object) -> np.random.Generator:
    """A generator that depends on nothing but what its numbers are about."""
    name = "\x1f".join(map(str, about)).encode()
    seed = int.from_bytes(hashlib.blake2b(name, digest_size=16).digest(), "little")
    return np.random.Generator(np.random.PCG64(seed))


def _normal(*about: object) -> float:
    return float(_generator(*about).standard_normal())


def _carry_forward(values: _Integers, fresh: _Truths) -> _Integers:
    """Each value stands until the next fresh one; the first is always fresh."""
    positions = np.where(fresh, np.arange(len(values)), 0)
    return values[np.maximum.accumulate(positions)]


def _level(seed: int, profile: Profile, date: dt.date) -> float:
    """Where a symbol stands at the open of a date, without walking there from another.

    Noise of every octave from two days to two years, each straight between its knots,
    adds up to something near a random walk, and can be read at any date.
    """
    distance = date.toordinal() - DEFAULT_DATE.toordinal()
    total = _octaves(seed, profile.symbol, distance) - _octaves(seed, profile.symbol, 0)
    # No symbol leaves a factor of three around its usual level.
    swing = 1.1 * math.tanh(total * profile.volatility)
    return max(profile.price * math.exp(swing), 0.05)


def _octaves(seed: int, symbol: str, day: int) -> float:
    total = 0.0
    for octave in range(1, 10):
        period = 1 << octave
        knot, rest = divmod(day, period)
        low, high = (_normal(seed, "level", symbol, octave, index) for index in (knot, knot + 1))
        share = rest / period
        total += 0.45 * math.sqrt(period) * (low * (1 - share) + high * share)
    return total


# -- one day of one symbol ---------------------------------------------------------------

_MINUTES = np.arange(SESSION_MINUTES)
_FROM_NOON = ((_MINUTES - 195) / 195.0) ** 2
_BUSY = 0.62 + 0.75 * _FROM_NOON + 2.2 * np.exp(-_MINUTES / 3.0)
_BUSY += 1.1 * np.exp(-(SESSION_MINUTES - 1 - _MINUTES) / 6.0)
_LIVELY = 0.75 + 0.35 * _FROM_NOON + 1.5 * np.exp(-_MINUTES / 12.0)
_WIDE = 1.0 + 2.5 * np.exp(-_MINUTES / 6.0)
_HALT_MINUTES = 5


@dataclass(frozen=True, slots=True)
class _Day:
    profile: Profile
    open_ns: int
    marks: _Floats
    """The fair price at each minute mark, both ends included."""
    busy: _Floats
    """Expected quotes and trades of each minute."""
    halt: int | None
    """The minute in which trading is paused, on the rare day that has one."""

    def halted(self, minute: int) -> bool:
        return self.halt is not None and self.halt <= minute < self.halt + _HALT_MINUTES


@functools.lru_cache(maxsize=64)
def _market_factor(seed: int, date: dt.date) -> _Floats:
    """What moves all symbols together, minute by minute."""
    return _generator(seed, date, "market").standard_normal(SESSION_MINUTES)


@functools.lru_cache(maxsize=16_384)
def _day(seed: int, date: dt.date, rate: float, symbol: str) -> _Day:
    profile = profile_of(symbol)
    rng = _generator(seed, date, symbol)
    own = rng.standard_normal(SESSION_MINUTES)
    jumps = rng.standard_normal(SESSION_MINUTES) * (rng.random(SESSION_MINUTES) < 0.008) * 4.0
    shared = 0.45 + 0.35 * rng.random()
    moves = shared * _market_factor(seed, date) + math.sqrt(1 - shared**2) * (own + jumps)
    per_minute = profile.volatility / math.sqrt(SESSION_MINUTES)
    path = np.concatenate(([0.0], np.cumsum(moves * _LIVELY * per_minute)))
    # The day ends near where the next one opens, whichever of the two is made first.
    opens_at = _level(seed, profile, date) * math.exp(
        0.3 * profile.volatility * float(rng.standard_normal())
    )
    overnight = 0.3 * profile.volatility * float(rng.standard_normal())
    closes_at = _level(seed, profile, next_trading_day(date)) * math.exp(overnight)
    share = np.arange(SESSION_MINUTES + 1) / SESSION_MINUTES
    path += share * (math.log(closes_at / opens_at) - path[-1])
    # Busy minutes come in spells, and a minute that moves is a busy one.
    spells = np.convolve(rng.standard_normal(SESSION_MINUTES + 4), [0.5] * 5, "valid")
    busy = rate * profile.activity * _BUSY * np.exp(0.3 * spells) * (0.7 + 0.35 * np.abs(moves))
    halt = int(rng.integers(20, 360)) if rng.random() < 0.01 else None
    return _Day(profile, session_open_ns(date), opens_at * np.exp(path), busy, halt)


def session_open_ns(date: dt.date) -> int:
    """09:30 in New York on a date, in nanoseconds since 1970."""
    opens = dt.datetime.combine(date, dt.time(9, 30), NEW_YORK)
    return int(opens.timestamp()) * 1_000_000_000


def _midnight_ns(date: dt.date) -> int:
    midnight = dt.datetime.combine(date, dt.time(), NEW_YORK)
    return int(midnight.timestamp()) * 1_000_000_000


def next_trading_day(date: dt.date) -> dt.date:
    """The next weekday; the simulator knows no holidays."""
    return date + dt.timedelta(days={4: 3, 5: 2}.get(date.weekday(), 1))


# -- one minute of one symbol ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Ticks:
    """The quotes and trades of a minute as columns, prices in ticks, one row an event."""

    time_ns: _Integers
    is_quote: _Truths
    bid: _Integers
    ask: _Integers
    bid_lots: _Integers
    ask_lots: _Integers
    bid_venue: _Integers
    ask_venue: _Integers
    half_ticks: _Integers
    """The price of a trade, in half ticks so that a trade between the quotes has one."""
    size: _Integers
    sweep: _Truths
    per_unit: int
    """Ticks in one dollar."""


def _make_ticks(seed: int, date: dt.date, day: _Day, minute: int) -> _Ticks:
    profile = day.profile
    rng = _generator(seed, date, profile.symbol, minute)
    count = 2 + int(rng.poisson(day.busy[minute]))
    times = day.open_ns + minute * MINUTE_NS + _event_times(rng, count, minute)

    is_quote = rng.random(count) < 0.77
    is_quote[0] = True  # so that no trade needs the quotes of the minute before
    start, end = float(day.marks[minute]), float(day.marks[minute + 1])
    per_unit = 100 if min(start, end) >= 1.0 else 10_000
    middle = _bridge(rng, start * per_unit, end * per_unit, count, profile)

    usual = max(1.0, profile.spread * start * per_unit * float(_WIDE[minute]))
    extra = rng.geometric(min(0.85, 1.6 / (usual + 1.0)), count).astype(np.int64) - 1
    spread = int(usual) + _carry_forward(extra, rng.random(count) < 0.25)
    bid = np.maximum(np.floor(middle - (spread - 1) / 2.0).astype(np.int64), 1)
    bid = _carry_forward(bid, is_quote)
    ask = bid + _carry_forward(spread, is_quote)

    # A quote renews one side or both; the other side's size and venue stand.
    depth = 0.28 if profile.activity > 300 else 0.45
    sides = rng.random(count)
    bid_moved = np.diff(bid, prepend=bid[0] - 1) != 0
    ask_moved = np.diff(ask, prepend=ask[0] - 1) != 0
    fresh_bid = is_quote & ((sides < 0.55) | bid_moved)
    fresh_ask = is_quote & ((sides >= 0.45) | ask_moved)
    venues = rng.choice(len(_VENUES[profile.tape][0]), (2, count), p=_VENUES[profile.tape][1])
    lots = rng.geometric(depth, (2, count)).astype(np.int64)

    buys = rng.random(count) < 0.5
    moves = np.append(np.diff(middle), 0.0)
    informed = rng.random(count) < 0.6
    buys = np.where(informed & (moves != 0), moves > 0, buys)
    half_ticks = np.where(buys, ask, bid) * 2
    hidden = rng.random(count)
    half_ticks = np.where(hidden < 0.14, bid + ask, half_ticks)
    improved = (hidden > 0.88) & (ask - bid >= 3)
    half_ticks = np.where(improved, np.where(buys, ask - 1, bid + 1) * 2, half_ticks)

    return _Ticks(
        times,
        is_quote,
        bid,
        ask,
        _carry_forward(lots[0], fresh_bid),
        _carry_forward(lots[1], fresh_ask),
        _carry_forward(venues[0], fresh_bid),
        _carry_forward(venues[1], fresh_ask),
        half_ticks,
        _trade_sizes(rng, count, start),
        rng.random(count) < 0.12,
        per_unit,
    )


def _event_times(rng: np.random.Generator, count: int, minute: int) -> _Integers:
    """Nanoseconds into the minute, in order, in bursts, no two the same.

    Integers are drawn as integers: a float's last bit may differ between platforms.
    """
    # A millisecond is kept free at the start (price bands) and at the end (bars).
    span = MINUTE_NS - 2_000_000 - count
    centres = rng.integers(0, span, max(1, count // 5))
    if minute == 0:
        # At the open many of the minute's bursts are in its first seconds.
        squeezed = ((centres / span) ** 2 * span).astype(np.int64)
        centres = np.where(np.arange(len(centres)) % 2, centres, squeezed)
    offsets = np.floor(rng.standard_exponential(count) * 70_000.0).astype(np.int64) * 1000
    offsets += rng.integers(0, 1000, count)
    times = np.sort((centres[rng.integers(0, len(centres), count)] + offsets) % span)
    steps = np.arange(count)
    in_order: _Integers = np.maximum.accumulate(times - steps) + steps + 1_000_000
    return in_order


def _bridge(
    rng: np.random.Generator, start: float, end: float, count: int, profile: Profile
) -> _Floats:
    """A walk from one minute mark to the next, in ticks, one step an event."""
    deviation = start * profile.volatility / math.sqrt(SESSION_MINUTES * count)
    walk = np.cumsum(rng.standard_normal(count) * deviation)
    share = np.arange(1, count + 1) / count
    path: _Floats = start + walk + share * (end - start - walk[-1])
    return path


def _trade_sizes(rng: np.random.Generator, count: int, price: float) -> _Integers:
    """Odd lots, the more of them the dearer the share, round lots, and some in between."""
    kind = rng.random(count)
    odd = np.minimum(rng.geometric(0.035, count), 99)
    lots = rng.geometric(0.55 if price > 100 else 0.3, count) * 100
    mixed = lots + rng.integers(1, 100, count)
    odd_share = min(0.62, 0.12 + price / 600)
    sizes = np.where(kind < odd_share, odd, np.where(kind < odd_share + 0.12, mixed, lots))
    blocks = rng.random(count) < 0.002
    sized: _Integers = np.where(blocks, lots * 40, sizes).astype(np.int64)
    return sized


# -- the market --------------------------------------------------------------------------


_MINUTES_OPEN = 1 + -(-HORIZON_NS // MINUTE_NS)
"""How many minutes, the last one included, may still be amended."""


@dataclass(slots=True)
class _RunningDay:
    """The daily bar so far; kept because it needs all the minutes before."""

    minutes: int = 0
    builder: CandleBuilder = field(default_factory=CandleBuilder)


@dataclass(slots=True)
class _AmendedDay:
    """The same where trades are amended: of the minutes that nothing changes any more."""

    minutes: int = 0
    candle: Candle = field(default_factory=Candle)


class SyntheticMarket:
    """A stock market that is always open and always the same for a seed.

    `symbols` is what "*" means; any other valid symbol can be asked for as well. `rate`
    multiplies how much happens, not how fast time goes. `feed` decides which venues
    quote: `iex` is one of them, `sip` is all; prices and times are the same on each.
    `amendments` is the share of trades that are cancelled, corrected or reported late,
    all of it within 90 seconds after the minute; the other trades stay what they are.

    A day has 390 minutes, 09:30 to 16:00 in New York. `day(1)` is the market of the
    weekday after `date`.
    """

    def __init__(
        self,
        seed: int = DEFAULT_SEED,
        date: dt.date | str = DEFAULT_DATE,
        symbols: str | Iterable[str] | None = None,
        rate: float = 1.0,
        *,
        feed: str = "sip",
        amendments: float = 0.0,
    ) -> None:
        self.seed = _check_seed(seed)
        self.date = _check_date(date)
        self.rate = _check_rate(rate)
        self.feed = find_endpoint(feed).feed
        self.amendments = _check_share(amendments)
        if feed == "test":
            self.symbols: tuple[str, ...] = TEST_SYMBOLS
        else:
            self.symbols = DEFAULT_SYMBOLS if symbols is None else check_symbols(symbols)
        if "*" in self.symbols:
            raise BadInputError("'*' is no symbol to simulate; name some, such as 'AAPL'.")
        self._running: dict[str, _RunningDay] = {}
        self._amended: dict[str, _AmendedDay] = {}

    def __repr__(self) -> str:
        names = ", ".join(self.symbols)
        return f"SyntheticMarket(seed={self.seed}, date={self.date}, {self.feed}: {names})"

    @property
    def open_ns(self) -> int:
        """When the day's first minute starts, in nanoseconds since 1970."""
        return session_open_ns(self.date)

    def day(self, offset: int) -> SyntheticMarket:
        """The same market some weekdays later."""
        date = self.date
        for _ in range(offset):
            date = next_trading_day(date)
        return self._same(date, self.feed)

    def on(self, feed: str) -> SyntheticMarket:
        """The same market as another feed carries it."""
        return self._same(self.date, feed)

    def _same(self, date: dt.date, feed: str) -> SyntheticMarket:
        return SyntheticMarket(
            self.seed, date, self.symbols, self.rate, feed=feed, amendments=self.amendments
        )

    def minute(self, symbol: str, index: int) -> list[Message[int]]:
        """All that goes out about a symbol in a minute, in order, its bar last.

        Everything but the bar has a time of its own within the minute, no two the same.
        The bar is due when the minute is over; a minute without a qualifying trade has
        none. With amendments, those of the two minutes before are among it, and a trade
        reported late has an earlier time than its neighbours. Raises BadInputError for
        what is no symbol or no minute of the day.
        """
        return [message for _, message in self._sent_in(symbol, index)]

    def events(self, symbol: str, index: int) -> list[Due]:
        """All that a minute of a symbol leads to, in order, each with the time it goes out.

        That is the minute itself, and what is amended of it afterwards.
        """
        symbol = self._check(symbol, index)
        end_ns = self.open_ns + (index + 1) * MINUTE_NS
        ticks = self._ticks(symbol, index)
        if not self.amendments:
            bar = _minute_bar(ticks)
            sent: list[Due] = [(message.timestamp, message) for message in ticks]
            return sent if bar is None else [*sent, (end_ns, bar)]
        return amend(
            ticks,
            _generator(self.seed, self.date, symbol, index, "amendments"),
            self.amendments,
            end_ns=end_ns,
            close_ns=self.open_ns + SESSION_MINUTES * MINUTE_NS,
            bar_of=_minute_bar,
        )

    def _sent_in(self, symbol: str, index: int) -> list[Due]:
        sent = self.events(symbol, index)
        if self.amendments:
            start_ns = self.open_ns + index * MINUTE_NS
            earlier = range(max(0, index + 1 - _MINUTES_OPEN), index)
            sent += [due for minute in earlier for due in self.events(symbol, minute)]
            end_ns = start_ns + MINUTE_NS
            sent = [(due_ns, each) for due_ns, each in sent if start_ns < due_ns <= end_ns]
            sent.sort(key=itemgetter(0))
        return sent

    def daily_bar(self, symbol: str, index: int) -> DailyBar[int] | None:
        """The day's bar as it stands when a minute is over.

        Cheap when asked minute after minute; otherwise the day is gone through again.
        """
        symbol = self._check(symbol, index)
        if self.amendments:
            return self._amended_daily_bar(symbol, index)
        running = self._running.get(symbol)
        if running is None or running.minutes > index + 1:
            running = self._running[symbol] = _RunningDay()
        day = _day(self.seed, self.date, self.rate, symbol)
        for minute in range(running.minutes, index + 1):
            if not day.halted(minute):
                ticks = _make_ticks(self.seed, self.date, day, minute)
                for trade in self._trades(day.profile, ticks, minute):
                    running.builder.add(trade)
        running.minutes = index + 1
        return running.builder.daily_bar(symbol)

    def _amended_daily_bar(self, symbol: str, index: int) -> DailyBar[int] | None:
        settled = self._amended.get(symbol)
        if settled is None or settled.minutes > index + 1 - _MINUTES_OPEN:
            settled = self._amended[symbol] = _AmendedDay()
        now_ns = self.open_ns + (index + 1) * MINUTE_NS
        for minute in range(settled.minutes, index + 1 - _MINUTES_OPEN):
            self._add_to_day(settled.candle, symbol, minute, now_ns)
            settled.minutes = minute + 1
        candle = replace(settled.candle)
        for minute in range(settled.minutes, index + 1):
            self._add_to_day(candle, symbol, minute, now_ns)
        if not candle.is_complete:
            return None
        return DailyBar(
            symbol=symbol,
            timestamp=_midnight_ns(self.date),
            open=candle.open,
            high=candle.high,
            low=candle.low,
            close=candle.close,
            volume=candle.volume,
            trade_count=candle.trade_count,
            vwap=candle.vwap,
        )

    def _add_to_day(self, candle: Candle, symbol: str, minute: int, now_ns: int) -> None:
        sent = [each for due_ns, each in self.events(symbol, minute) if due_ns <= now_ns]
        for trade in standing_trades(sent):
            candle.add(trade.price, trade.size, sale_rule(trade.conditions, trade.tape).daily)

    def messages(
        self, symbols: str | Sequence[str] | None = None, minutes: Iterable[int] | None = None
    ) -> Iterator[Message[int]]:
        """Several symbols in one stream, by time; bars and daily bars at each minute mark."""
        names = self.symbols if symbols is None else check_symbols(symbols)
        for index in range(SESSION_MINUTES) if minutes is None else minutes:
            parts = [self._sent_in(symbol, index) for symbol in names]
            bars = [part.pop()[1] for part in parts if part and type(part[-1][1]) is Bar]
            ticks = sorted(itertools.chain.from_iterable(parts), key=itemgetter(0))
            yield from (message for _, message in ticks)
            yield from bars
            for symbol in names:
                daily = self.daily_bar(symbol, index)
                if daily is not None:
                    yield daily

    def _check(self, symbol: str, index: int) -> str:
        if not 0 <= index < SESSION_MINUTES:
            raise BadInputError(f"A day has the minutes 0 to {SESSION_MINUTES - 1}, not {index}.")
        (checked,) = check_symbols(symbol)
        if checked == "*":
            raise BadInputError("'*' is no symbol; ask for one at a time, such as 'AAPL'.")
        return checked

    def _ticks(self, symbol: str, minute: int) -> list[Message[int]]:
        day = _day(self.seed, self.date, self.rate, symbol)
        if day.halted(minute):
            return _paused(day, minute)
        messages: list[Message[int]] = []
        if day.halt is not None and minute == day.halt + _HALT_MINUTES:
            messages.append(_status(day, minute, halted=False))
        messages.append(_price_band(day, minute))
        messages += self._quotes_and_trades(day, minute)
        return messages

    def _quotes_and_trades(self, day: _Day, minute: int) -> Iterator[Message[int]]:
        ticks = _make_ticks(self.seed, self.date, day, minute)
        quotes = self._quotes(day.profile, ticks)
        trades = self._trades(day.profile, ticks, minute)
        for is_quote in ticks.is_quote.tolist():
            yield next(quotes) if is_quote else next(trades)

    def _quotes(self, profile: Profile, ticks: _Ticks) -> Iterator[Quote[int]]:
        symbol, tape, conditions = profile.symbol, profile.tape, ["R"]
        rows = ticks.is_quote
        venues = self._venues(profile)
        for time_ns, bid, ask, bid_lots, ask_lots, bid_venue, ask_venue in zip(
            ticks.time_ns[rows].tolist(),
            (ticks.bid[rows] / ticks.per_unit).tolist(),
            (ticks.ask[rows] / ticks.per_unit).tolist(),
            (ticks.bid_lots[rows] * 100).tolist(),
            (ticks.ask_lots[rows] * 100).tolist(),
            ticks.bid_venue[rows].tolist(),
            ticks.ask_venue[rows].tolist(),
            strict=True,
        ):
            yield Quote(
                symbol=symbol,
                bid_exchange=venues[bid_venue],
                bid_price=bid,
                bid_size=bid_lots,
                ask_exchange=venues[ask_venue],
                ask_price=ask,
                ask_size=ask_lots,
                conditions=conditions,
                tape=tape,
                timestamp=time_ns,
            )

    def _trades(self, profile: Profile, ticks: _Ticks, minute: int) -> Iterator[Trade[int]]:
        symbol, tape, regular = profile.symbol, profile.tape, profile.regular_sale
        rows = ~ticks.is_quote
        venues = self._venues(profile)
        off_exchange = _ONE_VENUE.get(self.feed, _OFF_EXCHANGE)
        at_quote = (ticks.half_ticks == ticks.bid * 2) | (ticks.half_ticks == ticks.ask * 2)
        for number, (time_ns, price, size, sweep, venue, shown) in enumerate(
            zip(
                ticks.time_ns[rows].tolist(),
                (ticks.half_ticks[rows] / (2 * ticks.per_unit)).tolist(),
                ticks.size[rows].tolist(),
                ticks.sweep[rows].tolist(),
                ticks.bid_venue[rows].tolist(),
                at_quote[rows].tolist(),
                strict=True,
            ),
            start=1 + (minute + 1) * _TRADES_A_MINUTE,
        ):
            conditions = [regular]
            if sweep:
                conditions.append("F")
            if size < 100:
                conditions.append("I")
            yield Trade(
                symbol=symbol,
                trade_id=number,
                exchange=venues[venue] if shown else off_exchange,
                price=price,
                size=size,
                conditions=conditions,
                tape=tape,
                timestamp=time_ns,
            )

    def _venues(self, profile: Profile) -> Sequence[str]:
        names = _VENUES[profile.tape][0]
        only = _ONE_VENUE.get(self.feed)
        return [only] * len(names) if only else names


def _minute_bar(messages: Iterable[Message[int]]) -> Bar[int] | None:
    """The bar of a minute's trades, which are in order; None without a qualifying one."""
    builder = CandleBuilder()
    for message in messages:
        if type(message) is Trade:
            builder.add(message)
    bars = builder.close(_LONG_AFTER_NS)
    return bars[0] if bars else None


# -- bands, halts ------------------------------------------------------------------------


def _price_band(day: _Day, minute: int) -> PriceBand[int]:
    """The LULD band of a minute: 5 % around the price, twice that near open and close."""
    width = 0.05 if 15 <= minute < 365 else 0.10
    price = float(day.marks[minute])
    digits = 2 if price >= 1.0 else 4
    return PriceBand(
        symbol=day.profile.symbol,
        limit_up=round(price * (1 + width), digits),
        limit_down=round(price * (1 - width), digits),
        indicator="B",
        timestamp=day.open_ns + minute * MINUTE_NS + 500_000,
        tape=day.profile.tape,
    )


def _paused(day: _Day, minute: int) -> list[Message[int]]:
    """A minute of a volatility pause: the announcement, then imbalances and no trading."""
    messages: list[Message[int]] = []
    if minute == day.halt:
        messages.append(_status(day, minute, halted=True))
    imbalance: Imbalance[int] = Imbalance(
        symbol=day.profile.symbol,
        price=round(float(day.marks[minute]), 2),
        tape=day.profile.tape,
        timestamp=day.open_ns + minute * MINUTE_NS + 5_000_000_000,
    )
    return [*messages, imbalance]


def _status(day: _Day, minute: int, *, halted: bool) -> Status[int]:
    if day.profile.tape == "C":
        code, reason = ("H" if halted else "T"), "LUDP"
        text = "Trading Halt" if halted else "Trading Resumption"
    else:
        code, reason = ("2" if halted else "3"), "M"
        text = "Trading Halt" if halted else "Resume"
    return Status(
        symbol=day.profile.symbol,
        status_code=code,
        status_message=text,
        reason_code=reason,
        reason_message="Volatility Trading Pause",
        timestamp=day.open_ns + minute * MINUTE_NS + 100_000,
        tape=day.profile.tape,
    )


# -- arguments ---------------------------------------------------------------------------


def _check_seed(seed: object) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise BadInputError(f"A seed is a whole number from 0 up, not {seed!r}.")
    return seed


def _check_rate(rate: object) -> float:
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate <= MAX_RATE:
        raise BadInputError(f"The rate is a number above 0 up to {MAX_RATE:g}, not {rate!r}.")
    return float(rate)


def _check_share(share: object) -> float:
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise BadInputError(
            f"The share of amended trades is a number from 0 to 1, such as 0.02, not {share!r}."
        )
    return float(share)


def _check_date(date: object) -> dt.date:
    if isinstance(date, str):
        try:
            date = dt.date.fromisoformat(date)
        except ValueError:
            raise BadInputError(f"{date!r} is no date; write it like 2026-09-21.") from None
    if not isinstance(date, dt.date) or isinstance(date, dt.datetime):
        raise BadInputError(f"A date is a datetime.date or text like 2026-09-21, not {date!r}.")
    if date.weekday() > 4:
        raise BadInputError(f"{date} is a {date:%A}; the market opens on weekdays.")
    if not 1990 <= date.year <= 2200:
        raise BadInputError(f"{date} is out of range; choose a date from 1990 to 2200.")
    return date
