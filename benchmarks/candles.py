"""What it costs to make candles of trades, all at once and as they come.

The peers group by symbol and minute and compute open, high, low, close, volume, count and VWAP.
They know nothing of sale conditions, late trades or corrections; ours do all of it.

python -m benchmarks.candles [--small]    this part alone
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from alpaca_nb.data import measures
from alpaca_nb.data.batch import Batch, Lexicon, batch_of
from alpaca_nb.data.candles import CandleBuilder
from alpaca_nb.data.columns import Snapshot
from alpaca_nb.data.frame import LiveFrame
from alpaca_nb.data.live_candles import LiveCandles, candles_of
from alpaca_nb.wire.messages import Trade
from benchmarks.measuring import rounds_of
from benchmarks.results import Table, show

ABOUT = "Candles of trades"

START_NS = 1_790_000_000_000_000_000
SYMBOLS = [f"S{i:02}" for i in range(100)]
CONDITIONS = (["@"], ["@", "I"], ["@", "F"], ["@", "F", "I"], ["@", "T"], ["@", "4"])
STEP = 1_000
"""Trades that come between two looks."""


def make_trades(rows: int) -> list[Trade[int]]:
    """Trades of 100 symbols over a trading day; two fifths are odd lots, as on a real one."""
    random = np.random.default_rng(7)
    times = START_NS + np.sort(random.integers(0, 23_400_000_000_000, rows))
    symbols = random.integers(0, len(SYMBOLS), rows)
    kinds = random.choice(len(CONDITIONS), rows, p=[0.3, 0.3, 0.25, 0.1, 0.03, 0.02])
    prices = np.round(100 + random.normal(0, 0.02, rows).cumsum() % 5, 2)
    sizes = random.integers(1, 400, rows)
    return [
        Trade(
            symbol=SYMBOLS[symbol],
            trade_id=i,
            exchange="VQPZ"[i % 4],
            price=price,
            size=size,
            conditions=CONDITIONS[kind],
            tape="C",
            timestamp=time,
        )
        for i, (time, symbol, kind, price, size) in enumerate(
            zip(*(it.tolist() for it in (times, symbols, kinds, prices, sizes)), strict=True)
        )
    ]


def make_batches(trades: list[Trade[int]], step: int) -> list[Batch]:
    """Batches as a stream makes them."""
    lexicon = Lexicon()
    return [
        batch_of(some, np.full(len(some), START_NS, np.int64), lexicon)
        for some in (trades[i : i + step] for i in range(0, len(trades), step))
    ]


def snapshots(trades: list[Trade[int]], step: int) -> list[Snapshot]:
    """What a frame holds after each batch."""
    frame, moments = LiveFrame("trades", "*"), []
    for batch in make_batches(trades, step):
        frame.take(batch)
        moments.append(frame.snapshot())
    return moments


# -- all at once -------------------------------------------------------------------------


def with_pandas(df: pd.DataFrame) -> pd.DataFrame:
    """Grouped by symbol and resampled, as in every tutorial."""
    df = df.assign(turnover=df["price"] * df["size"])
    groups = df.groupby("symbol", observed=True).resample("1min")
    candles = groups["price"].ohlc()
    candles["volume"] = groups["size"].sum()
    candles["trade_count"] = groups["size"].count()
    candles["vwap"] = groups["turnover"].sum() / candles["volume"]
    return candles


def with_pandas_floor(df: pd.DataFrame) -> pd.DataFrame:
    """Grouped once by symbol and minute: the faster way, if one knows it."""
    df = df.assign(turnover=df["price"] * df["size"], minute=df.index.floor("1min"))
    candles = df.groupby(["symbol", "minute"], observed=True).agg(
        open=("price", "first"),
        high=("price", "max"),
        low=("price", "min"),
        close=("price", "last"),
        volume=("size", "sum"),
        trade_count=("size", "count"),
        turnover=("turnover", "sum"),
    )
    return candles.assign(vwap=candles["turnover"] / candles["volume"])


def with_polars(df: Any) -> Any:
    """Polars' own grouping by time, on all cores it has."""
    import polars as pl

    price, size = pl.col("price"), pl.col("size")
    return df.group_by_dynamic("timestamp", every="1m", group_by="symbol").agg(
        open=price.first(),
        high=price.max(),
        low=price.min(),
        close=price.last(),
        volume=size.sum(),
        trade_count=pl.len(),
        vwap=(price * size).sum() / size.sum(),
    )


def at_once(trades: list[Trade[int]], rounds: int) -> Table:
    """A day of trades to one-minute candles."""
    (rows,) = snapshots(trades, len(trades))
    df = rows.to_frame()
    cases: dict[str, Callable[[], object]] = {
        "candles_of(rows, '1min')": lambda: candles_of(rows, "1min"),
        "candles_of(rows, '1s')": lambda: candles_of(rows, "1s"),
        "candles_of(rows, '1d')": lambda: candles_of(rows, "1d"),
        "pandas: groupby, resample": lambda: with_pandas(df),
        "pandas: groupby on floored times": lambda: with_pandas_floor(df),
    }
    try:
        import polars as pl
    except ImportError:
        pass
    else:
        columns = pl.from_pandas(df[["symbol", "price", "size"]].reset_index())
        cases["polars: group_by_dynamic"] = lambda: with_polars(columns)
    taken = rounds_of(cases, rounds, scale=1e3)
    table = Table(f"{len(trades):,} trades to candles", "ms", base="candles_of(rows, '1min')")
    for name, values in taken.items():
        table.add(name, values, "ours" if name.startswith("candles_of") else "peer")
    if len(trades) >= 1_000_000:
        ours = taken["candles_of(rows, '1min')"]
        table.figure("1,000,000 trades to one-minute candles", ours, "ms", at_most=250)
    for peer in list(cases)[3:]:
        table.ratio(f"{peer} over ours", peer, "candles_of(rows, '1min')")
    return table


# -- as they come ------------------------------------------------------------------------


def grow(moments: list[Snapshot], interval: str) -> LiveCandles:
    """Candles that look at a frame after each batch."""
    candles = LiveCandles(interval)
    for rows in moments:
        candles.update(rows)
    return candles


def one_by_one(trades: list[Trade[int]]) -> CandleBuilder:
    """The way of the simulator, trade by trade."""
    builder = CandleBuilder()
    for trade in trades:
        builder.add(trade)
    return builder


def as_they_come(trades: list[Trade[int]], rounds: int) -> Table:
    """What each trade costs while a frame grows."""
    thousands = snapshots(trades, STEP)
    few = trades[: max(len(trades) // 50, 100)]
    singles, tens = snapshots(few, 1), snapshots(few, 10)
    steps = [rows.since(max(rows.last - STEP, 0)).to_frame() for rows in thousands[:100]]
    grouped = sum(map(len, steps))
    frames = f"looking every {STEP:,} trades"
    cases: dict[str, tuple[Callable[[], object], int]] = {
        f"LiveCandles('1min'), {frames}": (lambda: grow(thousands, "1min"), len(trades)),
        f"LiveCandles('1s'), {frames}": (lambda: grow(thousands, "1s"), len(trades)),
        "LiveCandles('1min'), every 10": (lambda: grow(tens, "1min"), len(few)),
        "LiveCandles('1min'), at each": (lambda: grow(singles, "1min"), len(few)),
        "CandleBuilder, one by one (minute and day)": (lambda: one_by_one(few), len(few)),
        f"pandas: only group {STEP:,} new ones, merge nothing": (
            lambda: [with_pandas_floor(df) for df in steps],
            grouped,
        ),
    }
    works = {name: work for name, (work, _) in cases.items()}
    table = Table("A trade, while the frame grows", "µs", base=next(iter(cases)))
    for name, values in rounds_of(works, rounds, scale=1e6).items():
        per_trade = [value / cases[name][1] for value in values]
        table.add(name, per_trade, "peer" if name.startswith("pandas") else "ours")
    first = table.rows[0]
    table.figure(f"a trade, {frames}", first.values, "µs", at_most=0.5)
    table.ratio("pandas over ours", table.rows[-1].name, first.name)
    return table


# -- measures ----------------------------------------------------------------------------


def pandas_rolling_vwap(df: pd.DataFrame) -> pd.Series[float]:
    """Two rolling sums for each symbol."""
    df = df.assign(turnover=df["price"] * df["size"])
    sums = df.groupby("symbol", observed=True)[["turnover", "size"]].rolling("5min").sum()
    return sums["turnover"] / sums["size"]


def of_trades(trades: list[Trade[int]], rounds: int) -> Table:
    """VWAPs of a day of trades."""
    (rows,) = snapshots(trades, len(trades))
    df = rows.to_frame()
    cases: dict[str, Callable[[], object]] = {
        "measures.rolling_vwap(rows, '5min')": lambda: measures.rolling_vwap(rows, "5min"),
        "measures.running_vwap(rows)": lambda: measures.running_vwap(rows),
        "pandas: groupby, rolling('5min')": lambda: pandas_rolling_vwap(df),
    }
    table = Table(f"VWAP at each of {len(trades):,} trades", "ms", base=next(iter(cases)))
    for name, values in rounds_of(cases, rounds, scale=1e3).items():
        table.add(name, values, "peer" if name.startswith("pandas") else "ours")
    table.ratio("pandas over ours", table.rows[-1].name, table.rows[0].name)
    return table


def measure(*, small: bool = False) -> list[Table]:
    """All of it; small: only to see that it runs."""
    trades = make_trades(5_000 if small else 1_000_000)
    rounds = 1 if small else 7
    return [at_once(trades, rounds), as_they_come(trades, rounds), of_trades(trades, rounds)]


def main() -> None:
    """Run this part alone, and print it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--small", action="store_true", help="only to see that it runs")
    options = parser.parse_args()
    print(f"Python {platform.python_version()}, numpy {np.__version__}, pandas {pd.__version__}")
    for table in measure(small=options.small):
        show(table)


if __name__ == "__main__":
    main()
