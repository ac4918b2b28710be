"""The truth about a view's data, in the few numbers and names that its badge shows.

The words and colours are the browser's (js/src/badge.ts and what it imports), which goes on
counting ages when no message comes. However many symbols a stream has, a badge stays small:
counts of all, and the names of a few.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any, Final

from alpaca_nb.data.status import MarketStatus, StreamStatus, SymbolStatus, TradingStatus

NAMED: Final = 5
"""So many symbols are told by name; of the others, how many there are."""

LISTED: Final = 8
"""So many of the symbols that a view shows are told one by one."""

_LONGEST: Final = 200
"""Characters of what a server or an exchange says about one symbol."""

_FRESHNESS: Final = ("live", "quiet", "stale", "waiting", "closed")

_SUBSCRIPTIONS: Final = ("confirmed", "pending", "refused")


def badge(
    status: StreamStatus,
    *,
    now_ns: int,
    symbols: dict[str, Any] | None = None,
    coalesced: int = 0,
) -> dict[str, Any]:
    """A status as the browser reads it (docs/formats.md).

    Times are told as ages, so that two machines whose clocks differ agree; `symbols` is what
    a `Tally` says of the stream's, all of them alike unless given; `coalesced` is how many
    rows the view was not sent one by one because newer ones overtook them.
    """
    told = Tally("").tell(status.symbols, (), now_ns=now_ns) if symbols is None else symbols
    return {
        "state": status.state,
        "feed": status.feed,
        "origin": status.origin,
        "detail": status.detail,
        "waits_s": _rounded(status.waits_s, 1),
        "rate": round(status.rate, 1),
        "lag_s": _rounded(status.lag_s, 4),
        "lag_p99_s": _rounded(status.lag_p99_s, 4),
        "lag_now_s": _rounded(status.lag_now_s, 4),
        "skew_s": _rounded(status.skew_s, 3),
        "age_s": _age(status.last_received_ns, now_ns),
        "received": status.received,
        "unreadable": status.unreadable,
        "reconnects": status.reconnects,
        "dropped": status.dropped,
        "coalesced": coalesced,
        "market": _market(status.market),
        "gaps": asdict(status.gaps),
        **told,
    }


class Tally:
    """What one view says about the symbols of its stream.

    Those that the view shows itself are named first. The same symbols are counted once,
    however often they are asked for: a stream makes a new tuple of them once a second, and a
    badge is made more often.
    """

    def __init__(self, channel: str) -> None:
        self._channel = channel
        self._counted: tuple[SymbolStatus, ...] | None = None
        self._shown: tuple[str, ...] = ()
        self._own: list[SymbolStatus] = []
        self._told: dict[str, Any] = {}

    def tell(
        self, symbols: tuple[SymbolStatus, ...], shown: Sequence[str], *, now_ns: int
    ) -> dict[str, Any]:
        """The counts and names; `shown` are the view's own symbols, "*" among them means all."""
        wanted = tuple(shown)
        if symbols is not self._counted or wanted != self._shown:
            self._counted, self._shown = symbols, wanted
            self._own = _own(symbols, self._channel, wanted)
            self._told = self._count(symbols, self._own)
        listed = [_listed(each, now_ns) for each in self._own[:LISTED]]
        return self._told | {"shown": {"count": len(self._own), "first": listed}}

    @staticmethod
    def _count(symbols: tuple[SymbolStatus, ...], own: list[SymbolStatus]) -> dict[str, Any]:
        ranked = symbols if len(own) in {0, len(symbols)} else (*own, *symbols)
        subscriptions = Counter(each.subscription for each in symbols)
        # What is not confirmed is not expected to come.
        confirmed = [each for each in ranked if each.subscription == "confirmed"]
        freshness = Counter(each.freshness for each in symbols if each.subscription == "confirmed")
        return {
            "subscriptions": {name: subscriptions[name] for name in _SUBSCRIPTIONS},
            "refused": _refused(ranked),
            "freshness": {name: freshness[name] for name in _FRESHNESS},
            "stale": _named(each.symbol for each in confirmed if each.freshness == "stale"),
            "all_stale": _all_stale(own),
            "trading": _trading(ranked),
        }


def _own(
    symbols: Iterable[SymbolStatus], channel: str, shown: tuple[str, ...]
) -> list[SymbolStatus]:
    """Those that the view shows, in its order."""
    order = {name: place for place, name in enumerate(shown)}
    own = [each for each in symbols if each.channel == channel]
    if "*" not in order:
        own = [each for each in own if each.symbol in order]
    return sorted(own, key=lambda each: order.get(each.symbol, len(order)))


def _all_stale(own: Iterable[SymbolStatus]) -> bool:
    """Nothing comes of all that the view shows, although something should."""
    judged = {each.freshness for each in own if each.subscription == "confirmed"}
    return "stale" in judged and judged <= {"stale", "waiting"}


def _listed(each: SymbolStatus, now_ns: int) -> dict[str, Any]:
    """One symbol of the view."""
    return {
        "symbol": each.symbol,
        "subscription": each.subscription,
        "freshness": each.freshness,
        "rate": round(each.rate, 2),
        "age_s": _age(each.last_received_ns, now_ns),
        "halted": each.trading.halted,
        "limit_up": each.trading.limit_up,
        "limit_down": each.trading.limit_down,
    }


def _named(symbols: Iterable[str]) -> dict[str, Any]:
    names = list(dict.fromkeys(symbols))
    return {"count": len(names), "first": names[:NAMED]}


def _refused(symbols: Iterable[SymbolStatus]) -> list[dict[str, str]]:
    """The first that the server refused; how many they are stands with the subscriptions."""
    refused = {
        (each.channel, each.symbol): each.reason
        for each in symbols
        if each.subscription == "refused"
    }
    return [
        {"channel": channel, "symbol": symbol, "reason": _cut(reason)}
        for (channel, symbol), reason in list(refused.items())[:NAMED]
    ]


def _trading(symbols: Iterable[SymbolStatus]) -> dict[str, Any]:
    """Halts and price bands by symbol, the halts first."""
    known = {each.symbol: each.trading for each in symbols if each.trading != TradingStatus()}
    halted = [symbol for symbol, trading in known.items() if trading.halted]
    first = list(dict.fromkeys((*halted, *known)))[:NAMED]
    return {
        "halted": len(halted),
        "count": len(known),
        "first": [_told(symbol, known[symbol]) for symbol in first],
    }


def _told(symbol: str, trading: TradingStatus) -> dict[str, Any]:
    return {
        "symbol": symbol,
        "halted": trading.halted,
        "message": _cut(trading.message),
        "reason": _cut(trading.reason),
        "since_ms": _ms(trading.since_ns),
        "limit_up": trading.limit_up,
        "limit_down": trading.limit_down,
    }


def _market(market: MarketStatus) -> dict[str, Any]:
    return {
        "phase": market.phase,
        "opens_ms": _ms(market.opens_ns),
        "closes_ms": _ms(market.closes_ns),
    }


def _age(last_ns: int | None, now_ns: int) -> float | None:
    return None if last_ns is None else round(max(now_ns - last_ns, 0) / 1e9, 3)


def _ms(time_ns: int | None) -> int | None:
    return None if time_ns is None else time_ns // 1_000_000


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
