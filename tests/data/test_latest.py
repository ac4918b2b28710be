"""The last row of each symbol: whatever retention drops, its values stay what they were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from alpaca_nb.data.columns import Column, ColumnStore, Groups, Kind, Snapshot, group
from alpaca_nb.data.latest import LatestRows

COLUMNS = (
    Column("timestamp", Kind.TIME),
    Column("symbol", Kind.CATEGORY),
    Column("price", Kind.FLOAT),
)
NOW = 1_790_000_000_000_000_000

Row = tuple[int, str, float]


def make_row(i: int, symbol: str = "AAPL") -> Row:
    return (NOW + i, symbol, i / 4)


class Held:
    """A store and the last rows of its symbols, written to as a frame does."""

    def __init__(self, maxlen: int) -> None:
        self.store = ColumnStore(COLUMNS, maxlen=maxlen)
        # Smaller blocks than in use, so that a few rows fill them.
        self.store._max_capacity = maxlen + maxlen // 2
        self.store._restart(first=0, epoch=0, tally=self.now.tally)
        self.latest = LatestRows(COLUMNS)

    @property
    def now(self) -> Snapshot:
        return self.store.snapshot()

    def encode(self, rows: Sequence[Row]) -> list[Any]:
        values = list(zip(*rows, strict=True)) or [()] * len(COLUMNS)
        return [self.store.encode(i, column) for i, column in enumerate(values)]

    def append(self, rows: Sequence[Row], *, late: bool = False, times: int = 1) -> None:
        arrays, held = self.encode(rows), self.now
        now = self.store.appended(arrays)
        update = self.latest.appended(arrays, held=held, now=now, late=late)
        self.store.publish(now)
        for _ in range(times):
            self.latest.apply(update)

    def last_rows(self, since: int = 0) -> dict[str, Row]:
        found = self.latest.since(since, of=self.now)
        names = found.categories("symbol")
        rows = zip(*(found[column.name].tolist() for column in COLUMNS), strict=True)
        return {names[code]: (time, names[code], price) for time, code, price in rows}


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.lists(st.integers(0, 300), max_size=20), st.booleans()), max_size=12),
    st.integers(0, 100),
    st.integers(1, 40),
)
def test_latest(batches: list[tuple[list[int], bool]], asked: int, maxlen: int) -> None:
    """The last row per symbol and who changed since, late rows only where not older."""
    held = Held(maxlen)
    model: dict[str, tuple[int, Row]] = {}
    position = 0
    for numbers, late in batches:
        rows = [make_row(i, f"S{i % 150}") for i in numbers]
        # Twice, as after an interrupt.
        held.append(rows, late=late, times=2)
        before = {symbol: row[0] for symbol, (_, row) in model.items()}
        for row in {row[1]: row for row in rows}.values():
            index = max(i for i, each in enumerate(rows) if each[1] == row[1])
            if not late or row[0] >= before.get(row[1], row[0]):
                model[row[1]] = (position + index, row)
        position += len(rows)
        assert held.last_rows() == {symbol: row for symbol, (_, row) in model.items()}
    changed = held.latest.since(asked, of=held.now)
    expected = {symbol: row for symbol, (at, row) in model.items() if at >= asked}
    assert held.last_rows(asked) == expected
    assert changed.last == max(position, asked)
    assert (np.diff(changed["symbol"].astype(int)) > 0).all()


def test_the_newest_time_of_each_symbol() -> None:
    """The highest time stamp a symbol ever had, whatever came last, and none before the first."""
    held = Held(10)
    arrays = held.encode([make_row(5, "A"), make_row(3, "A"), make_row(4, "B")])
    groups: Groups = group(arrays[1], arrays[0])
    assert (held.latest.newest(groups) < 0).all()
    held.append([make_row(5, "A"), make_row(3, "A"), make_row(4, "B")])
    assert held.latest.newest(groups).tolist() == [NOW + 5, NOW + 4]
    assert held.last_rows() == {"A": make_row(3, "A"), "B": make_row(4, "B")}


def test_rows_that_are_not_held() -> None:
    """Those that retention has dropped are named, and can get other values."""
    held = Held(4)
    held.append([make_row(i, f"S{i}") for i in range(3)])
    for i in range(3, 9, 2):
        held.append([make_row(i, "S3"), make_row(i + 1, "S4")])
        symbols, arrays = held.latest.not_held(held.now)
        gone = min(max(i - 2, 0), 3)
        assert (symbols.tolist(), arrays[0].tolist()) == (
            [*range(gone)],
            [NOW + j for j in range(gone)],
        )
        held.latest = held.latest.replaced(symbols, [*arrays[:2], arrays[2] + 100.0], held=held.now)
    rows = held.last_rows()
    assert [rows[f"S{i}"][2] for i in range(3)] == [300.0, 200.25, 200.5]
    assert (rows["S3"], rows["S4"]) == (make_row(7, "S3"), make_row(8, "S4"))


def test_more_symbols_than_a_byte_holds() -> None:
    """Rows that were put aside keep their values when codes widen."""
    held = Held(10)
    for i in range(300):
        held.append([make_row(i, f"S{i}")])
    assert held.last_rows() == {f"S{i}": make_row(i, f"S{i}") for i in range(300)}
