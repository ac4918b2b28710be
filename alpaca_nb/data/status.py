"""The state of a source of data, as views and people read it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

State = Literal["connecting", "waiting", "live", "reconnecting", "stopped", "failed"]
"""What a stream is doing.

connecting: the first connection is being made. waiting: the server asked us to wait (a
taken slot, throttling). live: authenticated. reconnecting: it was live and is being made
again. stopped: ended on request. failed: ended by an error.
"""

SourceOrigin = Literal["live", "simulated", "replay"]
"""Where a stream's data comes from; anything but "live" must be said to whoever looks."""

Phase = Literal["open", "pre", "post", "closed", "unknown"]
"""What the exchanges are doing: the core session, the hours before and after it in which
there is trading too, or none. Unknown until the calendar is loaded."""

Freshness = Literal["waiting", "live", "quiet", "stale", "closed"]
"""How much a symbol's last message can be trusted to be the newest there is.

waiting: nothing has come yet. live: it comes as usual. quiet: silent for longer than
usual, which is normal. stale: silent for so long that something is wrong. closed: the
market is closed.
"""

Subscription = Literal["pending", "confirmed", "refused"]
"""What the server has said to the wish for a symbol."""


@dataclass(frozen=True, slots=True)
class MarketStatus:
    """What the exchanges are doing; times are ns since 1970, UTC, None where unknown."""

    phase: Phase = "unknown"
    opens_ns: int | None = None
    """When the next core session opens; None while one is open."""
    closes_ns: int | None = None
    """When the core session that is open closes."""


@dataclass(frozen=True, slots=True)
class TradingStatus:
    """Whether a symbol may trade, and between which prices."""

    halted: bool = False
    message: str = ""
    """What the exchange called it, such as "Trading Halt"."""
    reason: str = ""
    since_ns: int | None = None
    """The exchange's time of the last change (ns since 1970, UTC)."""
    limit_up: float | None = None
    """The price band (LULD) in force; None while unknown."""
    limit_down: float | None = None


@dataclass(frozen=True, slots=True)
class SymbolStatus:
    """One (channel, symbol) of a stream at one moment."""

    channel: str
    symbol: str
    subscription: Subscription
    reason: str = ""
    """Why it was refused."""
    freshness: Freshness = "waiting"
    rate: float = 0.0
    """Messages a second it has had lately, when it had any."""
    received: int = 0
    """Messages since it was subscribed."""
    last_received_ns: int | None = None
    """When the last one arrived (ns since 1970, UTC)."""
    trading: TradingStatus = TradingStatus()


@dataclass(frozen=True, slots=True)
class GapCounts:
    """How many losses of (channel, symbol) there are, by what became of them."""

    open: int = 0
    """Lasting now."""
    pending: int = 0
    """Being repaired, or waiting until they can be."""
    repaired: int = 0
    missed: int = 0
    """What cannot be repaired."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of what happened: an error, or what a handler printed."""

    time_ns: int
    source: str
    """Who says it: "stream", or the handler's name."""
    text: str
    level: Literal["output", "info", "error"] = "output"


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """One moment of a stream; cheap to make and safe to keep."""

    state: State
    feed: str
    """The feed's name, such as "iex"."""
    origin: SourceOrigin = "live"
    detail: str = ""
    """One sentence for a person: what went wrong, or what is being waited for."""
    rate: float = 0.0
    """Messages a second over the last seconds."""
    lag_s: float | None = None
    """Seconds from the exchange's time stamp to arrival here, median of the last seconds;
    None while unknown (nothing received yet, or a tape that plays as fast as it can)."""
    lag_p99_s: float | None = None
    """The same, exceeded by one frame in a hundred."""
    lag_now_s: float | None = None
    """The same, of the newest frame."""
    skew_s: float | None = None
    """Seconds that this machine's clock is ahead of the server's (negative: behind); None
    while unknown or too small to tell. The lags are corrected for it."""
    last_received_ns: int | None = None
    """When the last data message arrived (ns since 1970, UTC)."""
    received: int = 0
    """Data messages since the stream was made."""
    unreadable: int = 0
    """Messages that were none of Alpaca's, or of another shape; they are not in any frame."""
    reconnects: int = 0
    """How often a lost connection was made again."""
    dropped: int = 0
    """Messages that handlers never saw because they fell behind; frames have them."""
    market: MarketStatus = MarketStatus()
    symbols: tuple[SymbolStatus, ...] = ()
    """Each subscribed (channel, symbol), as of the last second."""
    gaps: GapCounts = GapCounts()
    log: tuple[LogLine, ...] = ()
    """The newest lines, oldest first: errors, and what handlers printed."""
    waits_s: float | None = None
    """Seconds for which a taken place or a throttling server is still waited out; None when
    nothing is."""
    logged: int = 0
    """How many lines there have been in the log; 0 where they are not counted."""

    @property
    def stale(self) -> tuple[str, ...]:
        """The symbols of which nothing comes although something should."""
        return _names(each.symbol for each in self.symbols if each.freshness == "stale")

    @property
    def halted(self) -> tuple[str, ...]:
        """The symbols whose trading is halted."""
        return _names(each.symbol for each in self.symbols if each.trading.halted)


def _names(symbols: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(symbols))
