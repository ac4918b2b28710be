"""The numbers and names of the badge."""

from __future__ import annotations

import json
from typing import Any

from alpaca_nb.data.status import (
    Freshness,
    GapCounts,
    MarketStatus,
    StreamStatus,
    SymbolStatus,
    TradingStatus,
)
from alpaca_nb.view.badge import LISTED, NAMED, Tally, badge

NOW = 1_790_000_000_000_000_000
TRADES = TradingStatus()


def symbol(
    name: str,
    freshness: Freshness = "live",
    *,
    channel: str = "quotes",
    trading: TradingStatus = TRADES,
) -> SymbolStatus:
    return SymbolStatus(channel, name, "confirmed", freshness=freshness, trading=trading)


def tell(
    *symbols: SymbolStatus, channel: str = "quotes", shown: tuple[str, ...] = ()
) -> dict[str, Any]:
    return Tally(channel).tell(symbols, shown, now_ns=NOW)


def test_times_are_told_as_ages() -> None:
    """The browser's clock need not agree with ours, so it is told an age."""
    status = StreamStatus(state="live", feed="iex", last_received_ns=NOW - 1_500_000_000)
    assert badge(status, now_ns=NOW)["age_s"] == 1.5


def test_an_age_is_never_negative() -> None:
    """A clock that was set back does not make a message come from the future."""
    status = StreamStatus(state="live", feed="iex", last_received_ns=NOW + 1)
    assert badge(status, now_ns=NOW)["age_s"] == 0


def test_what_is_unknown_stays_unknown() -> None:
    """No data yet is not an age of zero, and no lag is not a lag of zero."""
    told = badge(StreamStatus(state="connecting", feed="sip"), now_ns=NOW)
    unknown = ("age_s", "lag_s", "lag_p99_s", "lag_now_s", "skew_s", "waits_s")
    assert [told[name] for name in unknown] == [None] * len(unknown)
    assert told["market"] == {"phase": "unknown", "opens_ms": None, "closes_ms": None}


def test_the_origin_and_the_reason_are_told() -> None:
    """Simulated data and errors reach whoever looks, in words that JSON can carry."""
    status = StreamStatus(state="failed", feed="iex", origin="simulated", detail="Wrong keys.")
    told = json.loads(json.dumps(badge(status, now_ns=NOW, coalesced=7)))
    assert (told["state"], told["origin"], told["detail"]) == ("failed", "simulated", "Wrong keys.")
    assert told["coalesced"] == 7


def test_all_of_the_stream_is_told() -> None:
    """Market, gaps, drops, lags and the wait, in the units that the names say."""
    status = StreamStatus(
        state="waiting", feed="iex", lag_p99_s=0.25, lag_now_s=0.01, skew_s=-1.25, waits_s=87.44,
        dropped=3, market=MarketStatus("closed", opens_ns=NOW), gaps=GapCounts(1, 2, 3, 4),
    )  # fmt: skip
    told = badge(status, now_ns=NOW)
    assert (told["lag_p99_s"], told["lag_now_s"], told["skew_s"]) == (0.25, 0.01, -1.25)
    assert (told["waits_s"], told["dropped"]) == (87.4, 3)
    assert told["market"] == {"phase": "closed", "opens_ms": NOW // 1_000_000, "closes_ms": None}
    assert told["gaps"] == {"open": 1, "pending": 2, "repaired": 3, "missed": 4}


def test_symbols_are_counted_by_what_the_server_said() -> None:
    """What is not confirmed has no freshness to count, and a refusal comes with its reason."""
    told = tell(
        symbol("AAPL"),
        symbol("MSFT", "quiet"),
        SymbolStatus("quotes", "SPY", "pending", freshness="stale"),
        SymbolStatus("trades", "XYZ", "refused", "x" * 1000),
    )
    assert told["stale"]["count"] == 0
    assert told["subscriptions"] == {"confirmed": 2, "pending": 1, "refused": 1}
    assert told["freshness"] == {"live": 1, "quiet": 1, "stale": 0, "waiting": 0, "closed": 0}
    (refused,) = told["refused"]
    assert (refused["channel"], refused["symbol"]) == ("trades", "XYZ")
    assert len(refused["reason"]) < 250


def test_a_few_are_named_and_all_are_counted() -> None:
    """A thousand symbols make a badge no larger than a dozen."""
    halt = TradingStatus(halted=True)
    many = [symbol(f"S{i}", "stale", trading=halt) for i in range(1000)]
    told = tell(*many, *(SymbolStatus("quotes", f"R{i}", "refused", "no") for i in range(1000)))
    assert told["stale"] == {"count": 1000, "first": ["S0", "S1", "S2", "S3", "S4"]}
    assert (told["trading"]["halted"], len(told["trading"]["first"])) == (1000, NAMED)
    assert (told["subscriptions"]["refused"], len(told["refused"])) == (1000, NAMED)
    assert len(json.dumps(told)) < 2000


def test_a_symbol_is_named_once() -> None:
    """Two channels of a symbol that is halted or stale are one name."""
    halt = TradingStatus(halted=True)
    told = tell(
        symbol("GME", "stale", trading=halt), symbol("GME", "stale", channel="trades", trading=halt)
    )
    assert told["stale"] == {"count": 1, "first": ["GME"]}
    assert told["trading"]["halted"] == 1


def test_what_a_view_shows_is_named_first() -> None:
    """Whoever looks at SPY wants to know about SPY."""
    symbols = [symbol(f"S{i}", "stale") for i in range(9)]
    assert tell(*symbols, shown=("S7",))["stale"]["first"][0] == "S7"
    assert tell(*symbols, shown=("S7",), channel="trades")["stale"]["first"][0] == "S0"


def test_a_view_is_stale_when_all_that_it_shows_is() -> None:
    """One live symbol of the view, and it is not; others of the stream do not matter."""
    symbols = (symbol("AAPL", "stale"), symbol("MSFT"), symbol("AAPL", channel="trades"))
    assert tell(*symbols, shown=("AAPL",))["all_stale"] is True
    assert tell(*symbols, shown=("AAPL", "MSFT"))["all_stale"] is False
    assert tell(*symbols, shown=("*",))["all_stale"] is False
    assert tell(*symbols, shown=("MSFT",))["all_stale"] is False
    assert tell(*symbols, shown=("IBM",))["all_stale"] is False


def test_halts_come_before_bands() -> None:
    """Where not all can be told, those are that stop the trading."""
    bands = [
        symbol(f"S{i}", trading=TradingStatus(limit_up=11.0, limit_down=9.0)) for i in range(9)
    ]
    halt = TradingStatus(True, "Trading Halt", "News pending", NOW)
    trading = tell(*bands, symbol("GME", trading=halt))["trading"]
    assert (trading["halted"], trading["count"]) == (1, 10)
    assert trading["first"][0] == {
        "symbol": "GME", "halted": True, "message": "Trading Halt", "reason": "News pending",
        "since_ms": NOW // 1_000_000, "limit_up": None, "limit_down": None,
    }  # fmt: skip
    assert (trading["first"][1]["limit_down"], trading["first"][1]["limit_up"]) == (9.0, 11.0)


def test_the_same_symbols_are_counted_once() -> None:
    """Ten thousand symbols cost nothing until the stream has something new about them."""
    tally = Tally("quotes")
    symbols = (symbol("AAPL"),)

    def counted(symbols: tuple[SymbolStatus, ...], shown: str) -> Any:
        return tally.tell(symbols, (shown,), now_ns=NOW)["trading"]

    told = counted(symbols, "AAPL")
    assert counted(symbols, "AAPL") is told
    assert counted((symbol("AAPL", "stale"),), "AAPL") is not told
    assert counted(symbols, "MSFT") is not told


def test_the_symbols_of_a_view_are_told_one_by_one() -> None:
    """In the view's order, of its channel only, with the age of the last message now."""
    band = TradingStatus(limit_up=11.0, limit_down=9.0)
    aapl = SymbolStatus(
        "quotes", "AAPL", "confirmed",
        freshness="quiet", rate=0.126, last_received_ns=NOW, trading=band,
    )  # fmt: skip
    symbols = (aapl, symbol("MSFT"), symbol("MSFT", channel="trades"), symbol("SPY"))
    tally = Tally("quotes")
    tally.tell(symbols, ("MSFT", "AAPL"), now_ns=NOW)
    shown = tally.tell(symbols, ("MSFT", "AAPL"), now_ns=NOW + 2_500_000_000)["shown"]
    assert shown["count"] == 2
    assert [each["symbol"] for each in shown["first"]] == ["MSFT", "AAPL"]
    assert shown["first"][1] == {
        "symbol": "AAPL", "subscription": "confirmed", "freshness": "quiet", "rate": 0.13,
        "age_s": 2.5, "halted": False, "limit_up": 11.0, "limit_down": 9.0,
    }  # fmt: skip
    assert shown["first"][0]["age_s"] is None


def test_a_view_of_everything_lists_a_few() -> None:
    """Ten thousand symbols are counted, and the first of them told."""
    shown = tell(*(symbol(f"S{i}") for i in range(10_000)), shown=("*",))["shown"]
    assert (shown["count"], len(shown["first"])) == (10_000, LISTED)
