"""What an account may do: its feeds, its limits, and what REST lets it see."""

from __future__ import annotations

from dataclasses import dataclass

from alpaca_nb.errors import BadInputError
from alpaca_nb.wire.endpoints import find_endpoint

_BASIC_FEEDS = frozenset({"iex", "delayed_sip", "overnight", "test"})
_PLUS_FEEDS = _BASIC_FEEDS | {"sip", "boats"}


@dataclass(frozen=True, slots=True)
class Plan:
    """What an account may do; the defaults allow everything that the simulator has.

    `Plan.basic()` and `Plan.plus()` are Alpaca's plans as far as they are documented.
    """

    feeds: frozenset[str] | None = None
    """The streams it may open, others are 409; None for all."""
    symbol_limit: int | None = None
    """Trade and quote symbols a connection may subscribe, more are 405; None for any number."""
    connections: int = 1
    """Connections an endpoint accepts, more are 406."""
    recent_sip: bool = True
    """Whether REST serves the last 15 minutes of the feed `sip`; without, they are 403."""
    rest_per_minute: int | None = 200
    """REST requests in a minute, more are 429; None for any number."""
    star: bool = True
    """Whether `*` may be subscribed for trades and quotes; without, it is 405."""

    def __post_init__(self) -> None:
        if self.feeds is not None:
            # A list of feeds is what people write, and a plan can be a key.
            feeds = frozenset(find_endpoint(feed).feed for feed in self.feeds)
            object.__setattr__(self, "feeds", feeds)
        check_count("connections", self.connections)
        if self.symbol_limit is not None:
            check_count("symbol limit", self.symbol_limit)
        if self.rest_per_minute is not None:
            check_count("REST requests a minute", self.rest_per_minute)

    @classmethod
    def basic(cls) -> Plan:
        """Alpaca's free plan: IEX, 30 symbols, no `*` for quotes and trades, no recent SIP."""
        return cls(_BASIC_FEEDS, symbol_limit=30, recent_sip=False, star=False)

    @classmethod
    def plus(cls) -> Plan:
        """Algo Trader Plus: the whole market in real time, 10,000 REST requests a minute."""
        return cls(_PLUS_FEEDS, rest_per_minute=10_000)

    def streams(self, feed: str) -> bool:
        """Whether it may open the stream of a feed."""
        return self.feeds is None or feed in self.feeds


def check_count(name: str, count: object) -> int:
    """A whole number from 1 up; BadInputError in one sentence for anything else."""
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise BadInputError(f"The number for {name} is a whole number from 1 up, not {count!r}.")
    return count
