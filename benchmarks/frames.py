"""What it costs to keep quotes in a LiveFrame and to get a DataFrame out of it.

    python benchmarks/frames.py             a million quotes, about a minute
    python benchmarks/frames.py --rows 20000 --rounds 2

Each figure stands beside that of a named peer or limit from the same run; only ratios
within a run mean anything. Rounds are interleaved and medians are shown.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from msgspec.structs import asdict, astuple

from alpaca_nb.data.frame import LiveFrame
from alpaca_nb.wire.codec import MSGPACK, decode, time_ns
from alpaca_nb.wire.messages import Message, Quote

SYMBOLS = [f"S{i:02}" for i in range(100)]
START_NS = 1_790_000_000_000_000_001
BATCH = 1_000


def make_quote(i: int) -> Quote[int]:
    bid = 100 + i % 977 / 100
    return Quote(
        symbol=SYMBOLS[i * 7 % 100],
        bid_price=bid,
        bid_size=100 + i % 9 * 100,
        bid_exchange="VQPZ"[i % 4],
        ask_price=bid + 0.01,
        ask_size=100 + i % 7 * 100,
        ask_exchange="ZPQV"[i % 4],
        conditions=["R"],
        tape="C",
        timestamp=START_NS + i * 123_457,
    )


def make_batches(rows: int) -> Iterator[list[Message[Any]]]:
    """Quotes as the wire gives them: decoded from MessagePack, in batches."""
    for begin in range(0, rows, BATCH):
        quotes = [make_quote(i) for i in range(begin, min(begin + BATCH, rows))]
        yield decode(MSGPACK.encode(quotes))  # type: ignore[misc]


def as_dict(quote: Message[Any]) -> dict[str, Any]:
    return asdict(quote) | {"timestamp": time_ns(quote.timestamp)}


def make_frame(rows: int, *, maxlen: int | None = None) -> LiveFrame:
    frame = LiveFrame("quotes", SYMBOLS, maxlen=maxlen or rows)
    for batch in make_batches(rows):
        frame.extend(batch, received_ns=START_NS)
    return frame


# -- measuring ---------------------------------------------------------------------------


def seconds(work: Callable[[], object]) -> float:
    gc.collect()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def medians(cases: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median seconds of each case, over interleaved rounds."""
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, work in cases.items():
            taken[name].append(seconds(work))
    return {name: statistics.median(values) for name, values in taken.items()}


def show(title: str, figures: dict[str, float], unit: str, scale: float) -> None:
    """A table, with every figure as a multiple of the first one."""
    print(f"\n{title}")
    base = next(iter(figures.values()))
    for name, value in figures.items():
        print(f"  {name:<52}{value * scale:>14,.1f} {unit:<10}{value / base:>10,.2f}x")


# -- the benchmarks ----------------------------------------------------------------------


def benchmark_snapshot(rows: int, rounds: int) -> None:
    frame = make_frame(rows)
    dicts = [as_dict(quote) for batch in make_batches(rows) for quote in batch]
    held = frame.snapshot()
    arrays = {column.name: held[column.name] for column in held.columns}
    cases: dict[str, Callable[[], object]] = {
        "frame.df": lambda: frame.df,
        "limit: the same columns in a dict of arrays": lambda: [
            frame.snapshot()[column.name] for column in held.columns
        ],
        "pd.DataFrame(columns), copied": lambda: pd.DataFrame(arrays, copy=True),
        "pd.DataFrame(list of dicts)": lambda: pd.DataFrame(dicts),
        "frame.since(the last 1,000)": lambda: frame.since(rows - 1_000),
        "frame.latest": lambda: frame.latest,
        "frame.stats": lambda: frame.stats,
    }
    show(f"A DataFrame of {rows:,} quotes", medians(cases, rounds), "us", 1e6)
    names = [column.name for column in held.columns if column.name != "timestamp"]
    copied = [name for name in names if not shares_memory(frame.df[name], held[name])]
    print(f"  columns of frame.df that were copied: {', '.join(copied) or 'none'}")


def shares_memory(column: pd.Series[Any], values: Any) -> bool:
    held: Any = column.array
    if isinstance(held, pd.Categorical):
        return np.shares_memory(held.codes, values)
    return np.shares_memory(held.asi8 if hasattr(held, "asi8") else np.asarray(held), values)


def benchmark_writing(rows: int, rounds: int) -> None:
    rows = min(rows, 200_000)
    batches = list(make_batches(rows))
    frames = [MSGPACK.encode([make_quote(i) for i in range(BATCH)])]
    per_message = len(batches) * BATCH

    def write() -> None:
        frame = LiveFrame("quotes", SYMBOLS, maxlen=50_000)
        for batch in batches:
            frame.extend(batch, received_ns=START_NS)

    def write_singly() -> None:
        frame = LiveFrame("quotes", SYMBOLS, maxlen=50_000)
        for batch in batches:
            for quote in batch:
                frame.extend([quote], received_ns=START_NS)

    cases: dict[str, Callable[[], object]] = {
        "LiveFrame.extend, 1,000 messages a call": write,
        "LiveFrame.extend, 1 message a call": write_singly,
        "limit: only take the messages apart": lambda: [
            list(zip(*map(astuple, batch), strict=True)) for batch in batches
        ],
        "peer: only decode them (msgspec, MessagePack)": lambda: [
            decode(frames[0]) for _ in batches
        ],
        "peer: a list of dicts": lambda: [asdict(quote) for batch in batches for quote in batch],
    }
    figures = medians(cases, rounds)
    show(f"Writing a quote (of {rows:,})", figures, "ns", 1e9 / per_message)


def benchmark_memory(rows: int) -> None:
    cases: dict[str, Callable[[int], object]] = {
        "LiveFrame, as a stream fills it": make_frame,
        "LiveFrame, twice what it retains": _twice_retained,
        "peer: a list of messages": _messages,
        "peer: a list of dicts": _dicts,
    }
    figures = {name: float(_growth(make, rows)) / rows for name, make in cases.items()}
    show(f"Memory per quote kept (of {rows:,})", figures, "bytes", 1.0)
    held = make_frame(min(rows, 10_000)).snapshot()
    row = sum(held[column.name].itemsize for column in held.columns)
    print(f"  limit: the columns themselves, {row} bytes a row")


def _twice_retained(rows: int) -> LiveFrame:
    frame = LiveFrame("quotes", SYMBOLS, maxlen=rows)
    for _ in range(2):
        for batch in make_batches(rows):
            frame.extend(batch, received_ns=START_NS)
    return frame


def _messages(rows: int) -> list[Any]:
    return [quote for batch in make_batches(rows) for quote in batch]


def _dicts(rows: int) -> list[Any]:
    return [as_dict(quote) for batch in make_batches(rows) for quote in batch]


def _growth(make: Callable[[int], object], rows: int) -> int:
    """Bytes of resident memory that something takes, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    answer: SimpleQueue[int] = context.SimpleQueue()
    process = context.Process(target=_measure_growth, args=(make, rows, answer))
    process.start()
    process.join()
    return answer.get()


def _measure_growth(make: Callable[[int], object], rows: int, answer: SimpleQueue[int]) -> None:
    make(2_000)
    gc.collect()
    before = _resident()
    kept = make(rows)
    gc.collect()
    answer.put(_resident() - before)
    del kept


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    print(
        f"Python {platform.python_version()}, numpy {np.__version__}, "
        f"pandas {pd.__version__}, msgspec {msgspec.__version__}"
    )
    benchmark_writing(options.rows, options.rounds)
    benchmark_snapshot(options.rows, options.rounds)
    if Path("/proc/self/statm").exists():
        benchmark_memory(options.rows)


if __name__ == "__main__":
    main()
