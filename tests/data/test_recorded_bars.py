"""A day of real trades against the minute bars that were recorded of them (docs/candles.md).

The recording follows rules of its own. They are written down here, and give every one of its
2,309 bars, so each difference to ours is a difference of rules that has a name.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from alpaca_nb.data.aggregate import SaleFlags, parts_of
from alpaca_nb.data.candles import CandleBuilder, sale_rule
from alpaca_nb.data.frame import LiveFrame
from alpaca_nb.data.intervals import Grid
from alpaca_nb.data.live_candles import LiveCandles, candles_of
from alpaca_nb.wire.codec import format_time, time_ns
from alpaca_nb.wire.messages import Trade

pytestmark = pytest.mark.realdata

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
DAY = time_ns("2013-10-07T04:00:00Z")
OPEN = time_ns("2013-10-07T13:30:00Z")
CLOSE = time_ns("2013-10-07T20:00:00Z")

Key = tuple[int, str]
"""The left edge of a minute, and a symbol."""


class Bar(NamedTuple):
    open: float
    high: float
    low: float
    close: float
    volume: int


class Day(NamedTuple):
    trades: list[Trade[int]]
    frame: LiveFrame
    recorded: dict[Key, Bar]


@pytest.fixture(scope="module")
def day(real_data: Path) -> Day:
    trades = list(read_trades(real_data / "lean_ticks_20131007.parquet"))
    frame = LiveFrame("trades", "*")
    for begin in range(0, len(trades), 5_000):
        frame.extend(trades[begin : begin + 5_000], received_ns=OPEN)
    return Day(trades, frame, dict(read_bars(real_data / "lean_bars_1m.jsonl.gz")))


def read_trades(file: Path) -> Iterator[Trade[int]]:
    parquet = pytest.importorskip("pyarrow.parquet")
    wanted = ["S", "i", "x", "p", "s", "c", "z", "t"]
    table = parquet.read_table(file, columns=wanted, filters=[("T", "=", "t")])
    columns = table.set_column(7, "t", table["t"].cast("int64")).to_pydict()
    for symbol, id_, exchange, price, size, conditions, tape, at in zip(
        *(columns[name] for name in wanted), strict=True
    ):
        yield Trade(
            symbol=symbol,
            trade_id=int(id_),
            exchange=exchange,
            price=price,
            size=int(size),
            conditions=list(conditions),
            tape=tape,
            timestamp=at,
        )


def read_bars(file: Path) -> Iterator[tuple[Key, Bar]]:
    with gzip.open(file, "rt") as lines:
        for bar in map(json.loads, lines):
            at = time_ns(bar["t"])
            if DAY <= at < DAY + 86_400 * SECOND:
                yield (at, bar["S"]), Bar(*(bar[key] for key in "ohlcv"))


def ours(day: Day) -> dict[Key, Bar]:
    candles = candles_of(day.frame.snapshot(), "1min")
    names = candles.categories("symbol")
    columns = [candles[name].tolist() for name in ("timestamp", "symbol", *Bar._fields)]
    return {(at, names[code]): Bar(*bar) for at, code, *bar in zip(*columns, strict=True)}


def minute_and_symbol(key: Key) -> tuple[str, str]:
    return format_time(key[0])[11:16], key[1]


# -- volumes -----------------------------------------------------------------------------

CLOSING_AUCTION = {"AIG": 253_146, "BAC": 2_000_995, "IBM": 151_665}
"""The trade of condition 6 on each stock's own exchange."""

VOLUMES = {
    # The cross of Nasdaq (OX) is left out.
    ("13:30", "AIG"): -1_200,
    # The opening trade of NYSE (O) came in the second minute, and is left out.
    ("13:31", "AIG"): -48_146,
    # Of hundreds of opening trades on Arca (O), 239,616 shares, only the first, of 1,750, is
    # in; the cross of Nasdaq (OX, 400) is left out.
    ("13:30", "SPY"): -(239_616 - 1_750) - 400,
    # The bar holds those of 17:47, too, which has none of its own.
    ("17:46", "AIG"): 1_500,
    # The closing auction is counted in the last minute of the session, not in that of its
    # report a few seconds later; a cross of Nasdaq (6X, 330) is left out.
    ("19:59", "AIG"): CLOSING_AUCTION["AIG"],
    ("20:00", "AIG"): -CLOSING_AUCTION["AIG"],
    ("19:59", "BAC"): CLOSING_AUCTION["BAC"],
    ("20:00", "BAC"): -CLOSING_AUCTION["BAC"] - 330,
    ("19:59", "IBM"): CLOSING_AUCTION["IBM"],
    ("20:01", "IBM"): -CLOSING_AUCTION["IBM"],
    # Of the closing trades on Arca (6), 672,873 shares, only the first, of 3,500, is in.
    ("19:59", "SPY"): 3_500,
    ("20:00", "SPY"): -672_873,
}
"""By how much the recorded volume differs, for each bar for which it does."""


def test_volumes(day: Day) -> None:
    """2,297 of 2,309 recorded volumes are ours; the other twelve differ by known trades."""
    rows = day.frame.snapshot()
    parts = parts_of(rows, SaleFlags(), Grid("1min"))
    names = rows.categories("symbol")
    counted = {
        (at, names[code]): volume
        for at, code, volume in zip(
            parts.left.tolist(), parts.symbols.tolist(), parts.sums.volume.tolist(), strict=True
        )
    }
    assert len(day.recorded) == 2_309
    different = {
        minute_and_symbol(key): bar.volume - counted[key]
        for key, bar in day.recorded.items()
        if bar.volume != counted[key]
    }
    assert different == VOLUMES
    assert all(bar.volume == counted[key] for key, bar in ours(day).items())


# -- prices ------------------------------------------------------------------------------

RULES = ("auctions", "sweeps", "volume only")
"""What the recording does otherwise:

auctions: the first opening trade in the first minute of the session (O) sets its open; the
first closing trade (6) belongs to the last minute of the session, and the others set no price.
And 17:47 of AIG is in 17:46.
sweeps: in the session, intermarket sweep orders (F) set no price.
volume only: trades that Alpaca counts only in the volume set prices, too; in the session not
those at an average or derived price (B, 4).

Where no trade is left to set a price, all do.
"""


def as_recorded(trades: Mapping[Key, list[Trade[int]]], key: Key, rules: Collection[str]) -> Any:
    """Open, high, low and close of a minute by Alpaca's rules, and these of the recording."""
    rows, opening = trades[key], None
    if "auctions" in rules:
        rows, opening = auctions_as_recorded(trades, key)
    in_session = OPEN <= key[0] < CLOSE
    left_out = set()
    if in_session and "sweeps" in rules:
        left_out |= {"F"}
    if in_session and "volume only" in rules:
        left_out |= {"B", "4"}
    rows = [trade for trade in rows if not {"M", "Q"} & {*trade.conditions}]
    if "volume only" not in rules:
        rows = [row for row in rows if sale_rule(row.conditions, row.tape).minute.high_low]
    prices = [row.price for row in rows if not left_out & {*row.conditions}]
    prices = prices or [row.price for row in rows]
    if not prices:
        return None
    return opening or prices[0], max(prices), min(prices), prices[-1]


def auctions_as_recorded(
    trades: Mapping[Key, list[Trade[int]]], key: Key
) -> tuple[list[Trade[int]], float | None]:
    at, symbol = key
    rows = list(trades[key])
    if minute_and_symbol(key) == ("17:46", "AIG"):
        rows += trades[at + MINUTE, symbol]
    opening = next((row.price for row in rows if at == OPEN and is_auction(row, "O")), None)
    rows = [row for row in rows if not is_auction(row, "6")]
    if at == CLOSE - MINUTE:
        after = [*trades[CLOSE, symbol], *trades[CLOSE + MINUTE, symbol]]
        rows.append(next(row for row in after if is_auction(row, "6")))
    return rows, opening


def is_auction(trade: Trade[int], condition: str) -> bool:
    return condition in trade.conditions and "X" not in trade.conditions


def test_prices(day: Day) -> None:
    """The rules of the recording give all its prices, and tell why 494 of them are not ours."""
    trades: dict[Key, list[Trade[int]]] = defaultdict(list)
    for trade in day.trades:
        trades[trade.timestamp - trade.timestamp % MINUTE, trade.symbol].append(trade)
    found = ours(day)
    reasons: Counter[tuple[str, ...]] = Counter()
    for key, bar in day.recorded.items():
        assert as_recorded(trades, key, RULES) == bar[:4], minute_and_symbol(key)
        mine = found[key][:4] if key in found else None
        assert as_recorded(trades, key, ()) == mine, minute_and_symbol(key)
        reasons[() if mine == bar[:4] else reason(trades, key, bar)] += 1
    assert reasons == {
        (): 1_815,
        ("sweeps",): 445,
        ("volume only",): 38,
        ("auctions",): 4,
        ("auctions", "sweeps"): 4,
        ("sweeps", "volume only"): 3,
    }
    # Alpaca gives no bar for a minute of trades that count only in the volume.
    assert sum(key not in found for key in day.recorded) == 18
    assert [minute_and_symbol(key) for key in found if key not in day.recorded] == [
        ("17:47", "AIG")
    ]


def reason(trades: Mapping[Key, list[Trade[int]]], key: Key, bar: Bar) -> tuple[str, ...]:
    """The fewest rules of the recording that give its prices."""
    sets = [(rule,) for rule in RULES] + [
        ("auctions", "sweeps"),
        ("sweeps", "volume only"),
    ]
    return next(some for some in sets if as_recorded(trades, key, some) == bar[:4])


# -- the other ways of counting ----------------------------------------------------------


def test_one_by_one_and_in_pieces(day: Day) -> None:
    """The same trades give the same bars one after the other, and as a frame grows."""
    builder = CandleBuilder()
    for trade in day.trades:
        builder.add(trade)
    one_by_one = {
        (bar.timestamp, bar.symbol): Bar(bar.open, bar.high, bar.low, bar.close, bar.volume)
        for bar in builder.close(DAY + 86_400 * SECOND)
    }
    assert ours(day) == one_by_one
    frame = LiveFrame("trades", "*", maxlen=20_000)
    candles = LiveCandles("1min", source=frame.snapshot)
    for begin in range(0, len(day.trades), 7_001):
        frame.extend(day.trades[begin : begin + 7_001], received_ns=OPEN)
        candles.read()
    grown = candles.read()
    at_once = candles_of(day.frame.snapshot(), "1min")
    for column in at_once.columns:
        assert (grown[column.name] == at_once[column.name]).all(), column.name
    assert candles.missed == 0
