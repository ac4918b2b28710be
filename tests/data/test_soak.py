"""Under full load no reader ever sees a torn row. ALPACA_NB_SOAK=60 makes a minute of it."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from alpaca_nb.data.batch import Batch, Lexicon, layout_of
from alpaca_nb.data.columns import Snapshot
from alpaca_nb.data.frame import LiveFrame
from alpaca_nb.wire.messages import Quote

SECONDS = float(os.environ.get("ALPACA_NB_SOAK", "1"))
NOW = 1_790_000_000_000_000_001
SYMBOLS = 400
"""More than a byte holds, so codes widen on the way."""
LAYOUT = layout_of(Quote)


def batch(first: int, rows: int, lexicon: Lexicon) -> Batch:
    """Quotes of which each value follows from the position."""
    at = np.arange(first, first + rows)
    blocks = (
        np.empty((LAYOUT.rows[0], rows), np.int64),
        np.empty((LAYOUT.rows[1], rows), np.float64),
        np.empty((LAYOUT.rows[2], rows), np.int32),
    )
    values: dict[str, Any] = {
        "timestamp": NOW + at * 1_000,
        "symbol": lexicon.encode(f"S{i}" for i in symbol_of(at).tolist()),
        "bid_price": at / 4,
        "bid_size": at * 3,
        "ask_price": at / 4 + 0.01,
        "ask_size": -at,
        "bid_exchange": lexicon.code("V"),
        "ask_exchange": lexicon.code("Q"),
        "conditions": lexicon.code("R"),
        "tape": lexicon.encode("ABC"[i] for i in (at % 3).tolist()),
    }
    for column, (block, row) in zip(LAYOUT.columns, LAYOUT.places, strict=True):
        blocks[block][row] = values[column.name]
    blocks[0][-1] = NOW + at * 1_000 + 7
    return Batch(LAYOUT, lexicon, *blocks)


def symbol_of(at: Any) -> Any:
    # Ever more of them in the beginning, then in an order that does not repeat soon.
    return (at * 7 + at // 1_000) % np.minimum(SYMBOLS, 1 + at // 50)


def check(rows: Snapshot, at: Any = None) -> None:
    """Every row is what its position says."""
    if at is None:
        assert len(rows) == rows.last - rows.first
        at = np.arange(rows.first, rows.last)
    assert (rows["timestamp"] == NOW + at * 1_000).all()
    assert (rows["received"] == NOW + at * 1_000 + 7).all()
    assert (rows["bid_price"] == at / 4).all()
    assert (rows["ask_price"] == at / 4 + 0.01).all()
    assert (rows["bid_size"] == at * 3).all()
    assert (rows["ask_size"] == -at).all()
    for name, texts in (
        ("symbol", [f"S{i}" for i in range(SYMBOLS)]),
        ("tape", ["A", "B", "C"]),
        ("bid_exchange", ["V"]),
        ("conditions", ["R"]),
    ):
        names = rows.categories(name)
        number = np.array([texts.index(each) for each in names] or [0])
        codes = rows[name]
        assert not len(codes) or 0 <= codes.min() <= codes.max() < len(names)
        expected = {"symbol": symbol_of(at), "tape": at % 3}.get(name, 0)
        assert (number[codes] == expected).all()


def read_all(frame: LiveFrame) -> Iterator[Snapshot]:
    before: deque[Snapshot] = deque(maxlen=30)
    while True:
        rows = frame.snapshot()
        check(rows)
        before.append(rows)
        check(before[0])
        yield rows


def read_on(frame: LiveFrame) -> Iterator[Snapshot]:
    position = 0
    while True:
        rows = frame.rows_since(position)
        assert rows.first == max(position + rows.missed, rows.first) >= position
        check(rows)
        position = rows.last
        yield rows


def read_latest(frame: LiveFrame) -> Iterator[Snapshot]:
    last: dict[int, int] = {}
    while True:
        latest = frame.latest_rows()
        at = latest["bid_size"] // 3
        check(latest, at)
        now = dict(zip(latest["symbol"].tolist(), at.tolist(), strict=True))
        assert all(now.get(symbol, -1) >= before for symbol, before in last.items())
        last = now
        yield latest


def read_frames(frame: LiveFrame) -> Iterator[Snapshot]:
    while True:
        rows = frame.snapshot()
        df = rows.to_frame()
        if len(rows):
            before = rows["bid_price"][0]
            df.iloc[0, df.columns.get_loc("bid_price")] = -1.0
            df["ask_size"] += 1
            assert df["bid_price"].iloc[0] == -1.0
            assert rows["bid_price"][0] == before
        check(rows)
        yield rows


READERS: list[Callable[[LiveFrame], Iterator[Snapshot]]] = [
    read_all, read_on, read_latest, read_frames,
]  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [{"maxlen": 60_000}, {"maxlen": 200_000, "keep": 0.03}],
    ids=["by rows", "by time"],
)
def test_no_reader_ever_sees_a_torn_row(options: dict[str, Any]) -> None:
    """While one thread writes as fast as it can, all rows that others read are whole and true.

    Also those that were read long ago: snapshots never change.
    """
    frame, done = LiveFrame("quotes", "*", **options), threading.Event()
    lexicon, total = Lexicon(), 0
    failures: list[str] = []
    kept: list[Snapshot] = []
    looks = [0] * len(READERS)

    def run(number: int) -> None:
        try:
            for rows in READERS[number](frame):
                looks[number] += 1
                if number < 2 and len(kept) < 40 and looks[number] % 10 == 1:
                    kept.append(rows)
                if done.is_set():
                    return
        except BaseException as error:
            failures.append(f"{READERS[number].__name__}: {error!r}")

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(READERS))]
    for thread in threads:
        thread.start()
    deadline, random = time.monotonic() + SECONDS, np.random.default_rng(1)
    while time.monotonic() < deadline and not failures:
        rows = int(random.integers(1, 3_000))
        frame.take(batch(total, rows, lexicon))
        total += rows
    done.set()
    for thread in threads:
        thread.join()
    assert not failures
    for rows in kept:
        check(rows)
    check(frame.snapshot())
    assert frame.position == total
    assert min(looks) > 2


def test_a_frame_shares_all_its_memory() -> None:
    """Whatever the length, a DataFrame copies not one column, nor the index, nor any codes."""
    frame, lexicon = LiveFrame("quotes", "*"), Lexicon()
    for first in range(0, 300_000, 30_000):
        frame.take(batch(first, 30_000, lexicon))
        for df, rows in ((frame.df, frame.snapshot()), (frame.since(7), frame.rows_since(7))):
            assert np.shares_memory(df.index.asi8, rows["timestamp"])
            for name in df.columns:
                values: Any = df[name].array
                if isinstance(values, pd.Categorical):
                    values = values.codes
                elif hasattr(values, "asi8"):
                    values = values.asi8
                assert np.shares_memory(np.asarray(values), rows[name]), name
