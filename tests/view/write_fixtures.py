"""Write the messages that the TypeScript tests read, so that both sides agree on the bytes.

Run it after a change of the format: `python tests/view/write_fixtures.py`. A test fails while
the files differ from what the code writes.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from alpaca_nb.data.frame import LiveFrame
from alpaca_nb.data.status import (
    Freshness,
    GapCounts,
    LogLine,
    MarketStatus,
    StreamStatus,
    SymbolStatus,
    TradingStatus,
)
from alpaca_nb.view.badge import Tally, badge
from alpaca_nb.view.delta import Cursor, Delta, keyed, start_of, tape
from alpaca_nb.view.log import LogTail
from alpaca_nb.wire.messages import Message, Quote, Trade

FOLDER = Path(__file__).parents[2] / "js" / "tests" / "fixtures"

T0 = 1_790_000_001_123_456_789
"""2026-09-21 10:13:21.123456789 in New York."""


def fixtures() -> dict[str, str]:
    """The text of every fixture, by file name."""
    return {
        "tape.json": _text(_tape()),
        "keyed.json": _text(_keyed()),
        "status.json": _text(_statuses()),
    }


def _tape() -> list[dict[str, Any]]:
    return _told(
        LiveFrame("trades", ["AAPL", "MSFT", "SPY"]),
        lambda frame, cursor: tape(frame.snapshot(), cursor, limit=3),
        [
            [_trade("AAPL", 227.12, 1), _trade("MSFT", 415.2, 2)],
            [_trade("AAPL", 227.13, 2**63 + 1), _trade("SPY", 561.0045, 4), _trade("MSFT", 415, 5)],
            [_trade("AAPL", 227 + i, 10 + i, size=3_000_000_000) for i in range(5)],
        ],
    )


def _keyed() -> list[dict[str, Any]]:
    return _told(
        LiveFrame("quotes", ["MSFT", "AAPL"]),
        lambda frame, cursor: keyed(frame.latest_rows(start_of(cursor, frame.epoch)), cursor),
        [
            [_quote("AAPL", 227.12, 227.14)],
            [_quote("MSFT", 415.2, 0.0), _quote("AAPL", 227.13, 227.14)],
            [_quote("AAPL", 227.1, 227.14), _quote("AAPL", 227.11, 227.15)],
        ],
    )


def _statuses() -> dict[str, Any]:
    """Statuses by what is the matter, as a table of AAPL's and MSFT's quotes is told them."""
    return {name: _badge(status) for name, status in _states().items()}


def _badge(status: StreamStatus) -> dict[str, Any]:
    symbols = Tally("quotes").tell(status.symbols, ("AAPL", "MSFT"), now_ns=T0)
    told = badge(status, now_ns=T0, symbols=symbols, coalesced=310)
    log = LogTail()
    log.see(status.log)
    news = log.news()
    return told if news is None else told | {"log": news}


def _states() -> dict[str, StreamStatus]:
    opens_ns, closes_ns = 1_790_083_800_000_000_000, 1_790_020_800_000_000_000
    return {
        "live": StreamStatus(
            state="live", feed="iex", rate=412.5, lag_s=0.012, lag_p99_s=0.04, lag_now_s=0.011,
            last_received_ns=T0 - 200_000_000, received=18_233,
            market=MarketStatus("open", closes_ns=closes_ns),
            symbols=(_symbol("AAPL"), _symbol("MSFT", "quiet")),
        ),
        "waiting": StreamStatus(
            state="waiting", feed="sip", waits_s=87.4,
            detail="Another connection of this account holds the only place.",
        ),
        "closed": StreamStatus(
            state="live", feed="iex", origin="replay", last_received_ns=T0 - 50_000_000_000_000,
            received=5, market=MarketStatus("closed", opens_ns=opens_ns),
            symbols=(_symbol("AAPL", "closed"), _symbol("MSFT", "closed")),
        ),
        "troubled": StreamStatus(
            state="live", feed="sip", origin="simulated", rate=95.0, lag_s=0.02, lag_p99_s=1.25,
            lag_now_s=0.019, skew_s=3600.2, last_received_ns=T0 - 100_000_000, received=90_210,
            unreadable=2, reconnects=3, dropped=1_204,
            market=MarketStatus("open", closes_ns=closes_ns),
            symbols=(
                *(_symbol(name, "stale") for name in ("F", "GM", "KO", "PEP", "T", "MSFT")),
                _symbol("AAPL", trading=_HALT), _symbol("SPY"), _symbol("IBM", "waiting"),
                SymbolStatus("trades", "QQQ", "pending"),
                SymbolStatus("trades", "XYZ", "refused", "The plan allows 30 symbols."),
            ),
            gaps=GapCounts(open=0, pending=2, repaired=4, missed=1), log=_LOG,
        ),
    }  # fmt: skip


_TRADES = TradingStatus()

_COMING = {"live": (12.5, T0 - 200_000_000), "quiet": (0.25, T0 - 9_000_000_000)}
"""The rate and the last message of a symbol that comes."""

_HALT = TradingStatus(True, "Trading Halt", "Volatility pause", T0 - 60_000_000_000, 240.5, 217.6)

_LOG = (
    LogLine(T0 - 2_000_000_000, "on_quote", "AAPL 227.12"),
    LogLine(T0 - 1_000_000_000, "stream", "The connection was made again.", "info"),
    LogLine(T0, "on_quote", "Traceback (most recent call last):\nValueError: <b>no</b>", "error"),
)


def _symbol(
    name: str, freshness: Freshness = "live", trading: TradingStatus = _TRADES
) -> SymbolStatus:
    rate, last_ns = _COMING.get(freshness, (0.0, None))
    return SymbolStatus(
        "quotes", name, "confirmed",
        freshness=freshness, rate=rate, last_received_ns=last_ns, trading=trading,
    )  # fmt: skip


def _trade(symbol: str, price: float, trade_id: int, *, size: int = 100) -> Trade[int]:
    return Trade(
        symbol=symbol, price=price, size=size, trade_id=trade_id, exchange="V",
        conditions=["@", "I"], tape="C", timestamp=T0 + 1_000_000 * (trade_id % 1000),
    )  # fmt: skip


def _quote(symbol: str, bid: float, ask: float) -> Quote[int]:
    return Quote(
        symbol=symbol, bid_price=bid, bid_size=200, ask_price=ask, ask_size=300,
        bid_exchange="V", ask_exchange="V", conditions=["R"], tape="C", timestamp=T0,
    )  # fmt: skip


def _told(
    frame: LiveFrame,
    collect: Callable[[LiveFrame, Cursor | None], Delta | None],
    batches: list[list[Message[int]]],
) -> list[dict[str, Any]]:
    """What a browser is sent while these batches arrive, with what it should read in it."""
    cursor, told = None, []
    for sequence, batch in enumerate(batches, 1):
        frame.extend(batch, received_ns=T0 + 5_000_000, origin="simulated")
        delta = collect(frame, cursor)
        assert delta is not None
        cursor = delta.cursor
        told.append(
            {
                "message": {"kind": delta.kind, "seq": sequence} | delta.header,
                "buffer": base64.b64encode(delta.buffer).decode(),
                "expected": _expected(delta, collect(frame, None)),
            }
        )
    return told


_DTYPES = {"float64": "<f8", "time": "<f8", "category": "<i4", "uint64": "<u8"}


def _expected(delta: Delta, everything: Delta | None) -> dict[str, list[float | str]]:
    """The columns in clear: numbers, the strings of categories, identifiers as text."""
    assert everything is not None
    expected: dict[str, list[float | str]] = {}
    for column in delta.header["columns"]:
        name, dtype = column["name"], column["dtype"]
        values = np.frombuffer(delta.buffer, _DTYPES[dtype], delta.rows, column["offset"]).tolist()
        if dtype == "category":
            names = everything.header["categories"][name]["names"]
            expected[name] = [names[code] for code in values]
        else:
            expected[name] = [str(value) for value in values] if dtype == "uint64" else values
    return expected


def _text(told: object) -> str:
    return json.dumps(told, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write every fixture."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in fixtures().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
