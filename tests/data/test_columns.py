"""Storage: what is written stays, snapshots never change, and pandas gets no copy."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpaca_nb.data.columns import (
    Change,
    Column,
    ColumnStore,
    Kind,
    Snapshot,
    Tally,
    Vocabulary,
    columns_of,
    group,
)
from alpaca_nb.wire.messages import CHANNELS, Bar, Quote, Trade

COLUMNS = (
    Column("timestamp", Kind.TIME),
    Column("symbol", Kind.CATEGORY),
    Column("price", Kind.FLOAT),
    Column("size", Kind.INT),
    Column("trade_id", Kind.IDENTIFIER),
    Column("conditions", Kind.LABELS),
)

Row = tuple[int, str, float, int, int, list[str]]


def make_row(i: int, symbol: str = "AAPL") -> Row:
    return (1_790_000_000_000_000_000 + i, symbol, i / 4, -i, 2**64 - 1 - i, ["@", "I"])


def encode(store: ColumnStore, rows: Sequence[Row]) -> list[Any]:
    values = list(zip(*rows, strict=True)) or [()] * len(COLUMNS)
    return [store.encode(i, column) for i, column in enumerate(values)]


def make_store(rows: Sequence[Row] = (), *, maxlen: int = 1_000) -> ColumnStore:
    store = ColumnStore(COLUMNS, maxlen=maxlen)
    store.append(encode(store, rows))
    return store


def rows_of(snapshot: Snapshot) -> list[Row]:
    """The snapshot as it would stand in a list."""
    columns = [snapshot[column.name].tolist() for column in COLUMNS]
    columns[1] = [snapshot.categories("symbol")[code] for code in columns[1]]
    conditions = snapshot.categories("conditions")
    columns[5] = [conditions[code].split(",") if conditions[code] else [] for code in columns[5]]
    return list(zip(*columns, strict=True))


def pandas_memory(values: Any) -> Any:
    """The numbers behind a pandas column or index, without a copy."""
    if isinstance(values, pd.Series):
        values = values.array
    if isinstance(values, pd.Categorical):
        return values.codes
    return values.asi8 if hasattr(values, "asi8") else np.asarray(values)


# -- columns from message types ----------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "names"),
    [
        (
            Quote,
            "timestamp symbol bid_price bid_size ask_price ask_size bid_exchange ask_exchange "
            "conditions tape",
        ),
        (Trade, "timestamp symbol price size exchange trade_id conditions tape"),
        (Bar, "timestamp symbol open high low close volume trade_count vwap"),
    ],
)
def test_reading_order(message: Any, names: str) -> None:
    """Columns stand in the order in which people read them."""
    assert [column.name for column in columns_of(message)] == names.split()


@pytest.mark.parametrize("channel", CHANNELS.values(), ids=list(CHANNELS))
def test_every_channel_has_columns(channel: Any) -> None:
    """Every field of every message type has a column of a kind that can hold it."""
    columns = columns_of(channel.message)
    assert {column.name for column in columns} == set(channel.message.__struct_fields__)
    assert columns[:2] == (Column("timestamp", Kind.TIME), Column("symbol", Kind.CATEGORY))


def test_kinds_follow_field_types() -> None:
    """A field's type alone decides how it is stored."""
    kinds = {column.name: column.kind for column in columns_of(Trade)}
    assert kinds["trade_id"] is Kind.IDENTIFIER
    assert kinds["size"] is Kind.INT
    assert kinds["price"] is Kind.FLOAT
    assert kinds["conditions"] is Kind.LABELS
    assert kinds["tape"] is Kind.CATEGORY


# -- categories --------------------------------------------------------------------------


def test_codes_are_given_in_order_of_occurrence() -> None:
    """A text keeps the code of its first occurrence."""
    vocabulary = Vocabulary(["live"])
    assert vocabulary.encode(["B", "A", "B", "live"]).tolist() == [1, 2, 1, 0]
    assert vocabulary.categories.names == ("live", "B", "A")


@pytest.mark.parametrize("count", [1, 126, 127, 128, 32_766, 32_767])
def test_code_type_is_the_one_pandas_uses(count: int) -> None:
    """Codes have the type pandas would convert them to, so that it need not."""
    names = [str(i) for i in range(count)]
    codes = Vocabulary().encode(names)
    assert codes.dtype == pd.Categorical(names).codes.dtype


def test_a_category_must_be_text() -> None:
    """What is no text gets no code."""
    with pytest.raises(TypeError, match="text, not int"):
        Vocabulary().encode(["A", 1])  # type: ignore[list-item]


def test_more_categories_than_a_byte_holds() -> None:
    """The codes widen when needed; earlier rows and earlier snapshots keep their texts."""
    rows = [make_row(i, f"S{i}") for i in range(40_000)]
    store = make_store(rows[:100], maxlen=50_000)
    early = store.snapshot()
    assert early["symbol"].dtype == np.int8
    store.append(encode(store, rows[100:200]))
    assert store.snapshot()["symbol"].dtype == np.int16
    store.append(encode(store, rows[200:]))
    now = store.snapshot()
    assert now["symbol"].dtype == np.int32
    assert rows_of(now) == rows
    assert rows_of(early) == rows[:100]
    assert np.shares_memory(pandas_memory(now.to_frame()["symbol"]), now["symbol"])


# -- values ------------------------------------------------------------------------------


def test_odd_numbers_are_kept() -> None:
    """NaN, infinity, zero, negative prices and time going backwards are stored as they are."""
    prices = [float("nan"), float("inf"), 0.0, -0.0, -1.5, 5e-324]
    rows = [(-i, "AAPL", price, 2**63 - 1, 0, []) for i, price in enumerate(prices)]
    held = make_store(rows).snapshot()
    np.testing.assert_array_equal(held["price"], prices)
    assert np.signbit(held["price"][3])
    assert held["timestamp"].tolist() == [0, -1, -2, -3, -4, -5]
    assert held["size"].tolist() == [2**63 - 1] * 6


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("trade_id", 2**64),
        ("trade_id", -1),
        ("size", 2**63),
        ("size", 1.5),
        ("price", "1.5"),
        ("price", None),
        ("symbol", None),
        ("symbol", ["AAPL"]),
        ("conditions", None),
        ("conditions", [1]),
        ("timestamp", "yesterday"),
    ],
)
def test_unstorable_values_are_refused(name: str, value: Any) -> None:
    """A value that would not come out as it went in is an error, never a silent change."""
    store = make_store()
    i = [column.name for column in COLUMNS].index(name)
    with pytest.raises((TypeError, ValueError, OverflowError)):
        store.encode(i, [value])


# -- snapshots ---------------------------------------------------------------------------


def test_a_snapshot_never_changes() -> None:
    """An old snapshot keeps its rows while the store grows, moves and is cleared."""
    store = make_store([make_row(i) for i in range(10)], maxlen=100)
    old = store.snapshot()
    for i in range(10, 5_000, 70):
        store.append(encode(store, [make_row(j) for j in range(i, i + 70)]))
    store.clear()
    assert rows_of(old) == [make_row(i) for i in range(10)]
    assert (old.first, old.last) == (0, 10)


def test_retention_keeps_the_newest() -> None:
    """Exactly `maxlen` rows are held, and positions still count all of them."""
    store = make_store(maxlen=300)
    for i in range(0, 4_000, 100):
        store.append(encode(store, [make_row(j) for j in range(i, i + 100)]))
    held = store.snapshot()
    assert (len(held), held.first, held.last, held.dropped) == (300, 3_700, 4_000, 3_700)
    assert rows_of(held) == [make_row(i) for i in range(3_700, 4_000)]


@pytest.mark.parametrize("maxlen", [1, 2, 7])
def test_a_batch_longer_than_retention(maxlen: int) -> None:
    """Of a batch that is longer than what is kept, the end is kept."""
    held = make_store([make_row(i) for i in range(5_000)], maxlen=maxlen).snapshot()
    assert rows_of(held) == [make_row(i) for i in range(5_000 - maxlen, 5_000)]
    assert held.last == 5_000


def test_memory_is_bounded() -> None:
    """A block never holds more than twice what is retained."""
    store = make_store(maxlen=2_000)
    for i in range(0, 20_000, 500):
        store.append(encode(store, [make_row(j) for j in range(i, i + 500)]))
        assert store.snapshot()._block.capacity <= 4_000


def test_since() -> None:
    """`since` gives the rows from a position on and says how many of them are gone."""
    store = make_store([make_row(i) for i in range(30)], maxlen=20)
    held = store.snapshot()
    later = held.since(25)
    assert rows_of(later) == [make_row(i) for i in range(25, 30)]
    assert (later.first, later.last, later.missed) == (25, 30, 0)
    assert (len(held.since(0)), held.since(0).missed) == (20, 10)
    assert (len(held.since(30)), held.since(30).last) == (0, 30)
    assert (len(held.since(99)), held.since(99).last) == (0, 99)


def test_tail() -> None:
    """`tail` gives the newest rows, however many are asked for."""
    held = make_store([make_row(i) for i in range(30)]).snapshot()
    assert rows_of(held.tail(2)) == [make_row(28), make_row(29)]
    assert (held.tail(2).first, held.tail(2).last) == (28, 30)
    assert len(held.tail(99)) == 30
    assert len(held.tail(0)) == 0


def test_rows_of_one_symbol() -> None:
    """`of` gives one symbol's rows, which keep their positions in `since` and `tail`."""
    rows = [make_row(i, "AAPL" if i % 3 else "MSFT") for i in range(30)]
    msft = make_store(rows).snapshot().since(1).of("MSFT")
    assert rows_of(msft) == rows[3::3]
    assert (msft.first, msft.last) == (1, 30)
    assert rows_of(msft.since(10)) == rows[12::3]
    assert rows_of(msft.tail(2)) == rows[24::3]
    assert rows_of(msft.tail(2).since(25)) == rows[27::3]
    assert len(msft.of("AAPL")) == len(msft.of("TSLA")) == 0


def test_views_are_read_only() -> None:
    """A reader cannot write into the store by mistake."""
    held = make_store([make_row(0)]).snapshot()
    with pytest.raises(ValueError, match="read-only"):
        held["price"][0] = 1.0


def test_unknown_columns() -> None:
    """A name that is no column, and numbers asked for categories, are a KeyError."""
    held = make_store([make_row(0)]).snapshot()
    with pytest.raises(KeyError, match="colour"):
        held["colour"]
    with pytest.raises(KeyError, match="price"):
        held.categories("price")
    assert held.code("symbol", "AAPL") == 0
    assert held.code("symbol", "TSLA") == -1


def test_clear() -> None:
    """After `clear` nothing is held, categories start anew, and positions go on."""
    store = make_store([make_row(i) for i in range(5)])
    store.clear()
    held = store.snapshot()
    assert (len(held), held.first, held.last, held.epoch, held.dropped) == (0, 5, 5, 1, 0)
    assert held.categories("symbol") == ()
    store.append(encode(store, [make_row(9, "TSLA")]))
    assert rows_of(store.snapshot()) == [make_row(9, "TSLA")]
    assert store.snapshot().first == 5


@settings(max_examples=60, deadline=None)
@given(
    maxlen=st.integers(1, 40),
    batches=st.lists(
        st.lists(st.tuples(st.integers(0, 200), st.floats()), max_size=60), max_size=30
    ),
)
def test_like_a_list(maxlen: int, batches: list[list[tuple[int, float]]]) -> None:
    """Any appends leave what a plain list would hold, and all snapshots on the way stand."""
    store = ColumnStore(COLUMNS, maxlen=maxlen)
    # Smaller blocks than in use, so that a few rows fill them.
    store._max_capacity = 2 * maxlen
    store._restart(first=0, epoch=0, tally=Tally())
    model: list[Row] = []
    seen: list[tuple[Snapshot, list[Row]]] = []
    for batch in batches:
        rows: list[Row] = [(i, f"S{i}", price, i, i, [str(i)]) for i, price in batch]
        store.append(encode(store, rows))
        model += rows
        seen.append((store.snapshot(), model[-maxlen:]))
    for snapshot, expected in seen:
        np.testing.assert_equal(rows_of(snapshot), expected)
        assert snapshot.last - snapshot.first == len(snapshot) == len(expected)


def test_readers_see_whole_rows() -> None:
    """While a writer appends, every snapshot another thread takes is consistent."""
    store = ColumnStore(COLUMNS, maxlen=500)
    done = threading.Event()
    failures: list[str] = []

    def write() -> None:
        deadline, i = time.monotonic() + 1.0, 0
        while time.monotonic() < deadline:
            step = 1 + i % 90
            store.append(encode(store, [make_row(j, f"S{j % 997}") for j in range(i, i + step)]))
            i += step
        done.set()

    def check(now: Snapshot) -> None:
        positions = np.arange(now.first, now.last)
        names = np.array(now.categories("symbol"))
        consistent = (
            len(now) == min(now.last, 500)
            and (now["size"] == -positions).all()
            and (now["price"] == positions / 4).all()
            and (names[now["symbol"]] == [f"S{j % 997}" for j in positions]).all()
        )
        if not consistent:
            failures.append(repr(now))

    writer = threading.Thread(target=write)
    writer.start()
    taken: list[Snapshot] = []
    while not done.is_set():
        now = store.snapshot()
        if now.last:
            check(now)
            taken.append(now)
    writer.join()
    for now in taken[:: max(len(taken) // 50, 1)]:
        check(now)
    assert not failures
    assert len(taken) > 10


def test_an_interrupted_writer_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that is interrupted half-way can append the same rows again, once."""
    store = make_store([make_row(0)], maxlen=2)
    monkeypatch.setattr("alpaca_nb.data.columns._write", _interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.append(encode(store, [make_row(1), make_row(2)]))
    assert rows_of(store.snapshot()) == [make_row(0)]
    monkeypatch.undo()
    store.append(encode(store, [make_row(1), make_row(2)]))
    assert rows_of(store.snapshot()) == [make_row(1), make_row(2)]


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


# -- changes of what is held -------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(
    held=st.integers(0, 30),
    at=st.lists(st.integers(0, 30), max_size=20),
    changed=st.sets(st.integers(0, 29), max_size=5),
    maxlen=st.integers(1, 60),
    after=st.integers(0, 20),
)
def test_changes_like_a_list(
    held: int, at: list[int], changed: set[int], maxlen: int, after: int
) -> None:
    """Rows put in between and rows replaced are those of a plain list, of which the end is kept.

    Nothing is seen before it is published, and older snapshots stay as they are.
    """
    rows = [make_row(i, f"S{i % 7}") for i in range(held)]
    store = make_store(rows, maxlen=maxlen)
    before = store.snapshot()
    rows = rows_of(before)
    places = sorted(min(i, len(rows)) for i in at)
    new = [make_row(1_000 + i, f"N{i}") for i in range(len(places))]
    replaced = {i: make_row(2_000 + i, rows[i][1]) for i in changed if i < len(rows)}
    change = Change(
        new=encode(store, new),
        at=np.array(places, np.intp),
        rows=np.array(list(replaced), np.intp),
        values=encode(store, list(replaced.values())),
    )
    placed = change.placed(before, maxlen=maxlen)
    snapshot = store.changed(change, placed, tally=before.tally.plus(filled=1))
    assert store.snapshot() is before
    store.publish(snapshot)
    merged: list[tuple[Row, bool]] = []
    for i in range(len(rows) + 1):
        merged += [(row, True) for row, place in zip(new, places, strict=True) if place == i]
        if i < len(rows):
            merged.append((replaced.get(i, rows[i]), False))
    kept = merged[-maxlen:]
    added = sum(is_new for _, is_new in kept)
    dropped = len(rows) - sum(not is_new for _, is_new in kept)
    assert rows_of(snapshot) == [row for row, _ in kept]
    assert (snapshot.first, snapshot.last) == (before.first + dropped, before.last + added)
    assert snapshot.dropped == before.dropped + dropped
    assert (snapshot.epoch, snapshot.tally.filled) == (before.epoch + 1, 1)
    assert placed.unfit == len(new) - added
    more = [make_row(3_000 + i) for i in range(after)]
    store.append(encode(store, more))
    assert rows_of(store.snapshot()) == ([row for row, _ in kept] + more)[-maxlen:]
    assert rows_of(before) == rows
    assert rows_of(snapshot) == [row for row, _ in kept]


def test_a_change_of_values_shares_what_stays() -> None:
    """Columns of which no value changes are not copied."""
    store = make_store([make_row(i) for i in range(10)])
    before = store.snapshot()
    values = [values[[3]].copy() for values in (before[column.name] for column in COLUMNS)]
    values[2] = np.array([99.0])
    nothing = encode(store, [])
    change = Change(nothing, np.empty(0, np.intp), np.array([3]), values)
    after = store.changed(change, change.placed(before, maxlen=1_000), tally=before.tally)
    assert after["price"].tolist()[2:5] == [0.5, 99.0, 1.0]
    shared = [c.name for c in COLUMNS if np.shares_memory(before[c.name], after[c.name])]
    assert shared == ["timestamp", "symbol", "size", "trade_id", "conditions"]


# -- DataFrames --------------------------------------------------------------------------


def test_frame_types() -> None:
    """A DataFrame has New York's time as its index and one plain type per column."""
    frame = make_store([make_row(1)]).snapshot().to_frame()
    assert frame.index.name == "timestamp"
    assert str(frame.index.dtype) == "datetime64[ns, America/New_York]"
    assert frame.dtypes.astype(str).to_dict() == {
        "symbol": "category",
        "price": "float64",
        "size": "int64",
        "trade_id": "uint64",
        "conditions": "category",
    }
    assert frame.index[0] == pd.Timestamp("2026-09-21T14:13:20.000000001Z")
    assert frame["symbol"].iloc[0] == "AAPL"
    assert frame["conditions"].iloc[0] == "@,I"


def test_an_empty_frame_has_the_same_types() -> None:
    """Without rows the columns are there, of the types they will have."""
    empty, full = (
        make_store().snapshot().to_frame(),
        make_store([make_row(1)]).snapshot().to_frame(),
    )
    assert [str(t) for t in empty.dtypes] == [str(t) for t in full.dtypes]
    assert empty.index.dtype == full.index.dtype


def test_frames_copy_nothing() -> None:
    """Floats, integers, codes and times of a DataFrame lie in the store's own memory."""
    held = make_store([make_row(i) for i in range(100)]).snapshot()
    for snapshot in (held, held.since(40)):
        frame = snapshot.to_frame()
        assert np.shares_memory(pandas_memory(frame.index), snapshot["timestamp"])
        for name in frame.columns:
            assert np.shares_memory(pandas_memory(frame[name]), snapshot[name]), name


def write_float(frame: pd.DataFrame) -> None:
    frame.iloc[0, frame.columns.get_loc("price")] = 99.0


def write_int(frame: pd.DataFrame) -> None:
    frame.iloc[0, frame.columns.get_loc("size")] = 99


def write_identifier(frame: pd.DataFrame) -> None:
    frame.loc[frame.index[0], "trade_id"] = 99


def write_category(frame: pd.DataFrame) -> None:
    frame.iloc[0, frame.columns.get_loc("symbol")] = "MSFT"


def write_column(frame: pd.DataFrame) -> None:
    frame["price"] += 1.0


def write_series(frame: pd.DataFrame) -> None:
    prices = frame["price"]
    prices.iloc[0] = 99.0


def write_slice(frame: pd.DataFrame) -> None:
    part = frame[:2]
    part.iloc[0, 1] = 99.0


def write_index(frame: pd.DataFrame) -> None:
    frame.index = frame.index + pd.Timedelta("1s")


def write_index_as_column(frame: pd.DataFrame) -> None:
    flat = frame.reset_index()
    flat.loc[0, "timestamp"] = pd.Timestamp("2020-01-01", tz="America/New_York")


def write_mask(frame: pd.DataFrame) -> None:
    frame.loc[frame["size"] < 0, "price"] = 0.0


@pytest.mark.parametrize(
    "write",
    [
        write_float,
        write_int,
        write_identifier,
        write_category,
        write_column,
        write_series,
        write_slice,
        write_index,
        write_index_as_column,
        write_mask,
    ],
)
def test_writing_to_a_frame_copies(write: Any) -> None:
    """A DataFrame can be written to like any other; the store keeps what it had."""
    rows = [make_row(i, "AAPL" if i % 2 == 0 else "MSFT") for i in range(10)]
    store = make_store(rows)
    frame = store.snapshot().to_frame()
    write(frame)
    assert rows_of(store.snapshot()) == rows


def test_a_series_that_outlives_its_frame() -> None:
    """Also the last object that refers to a column copies before it writes."""
    store = make_store([make_row(i) for i in range(3)])
    prices = store.snapshot().to_frame()["price"]
    prices.iloc[0] = 99.0
    assert prices.iloc[0] == 99.0
    assert rows_of(store.snapshot())[0] == make_row(0)


def test_the_index_cannot_be_written() -> None:
    """The times behind the index are read-only, also past pandas."""
    frame = make_store([make_row(0)]).snapshot().to_frame()
    with pytest.raises(ValueError, match="read-only"):
        frame.index.asi8[0] = 1


def test_written_values_are_seen() -> None:
    """What was written to a DataFrame is what it shows."""
    frame = make_store([make_row(i) for i in range(3)]).snapshot().to_frame()
    write_float(frame)
    write_int(frame)
    assert (frame["price"].iloc[0], frame["size"].iloc[0]) == (99.0, 99)
    assert frame["price"].iloc[1] == 0.25


# -- rows by symbol ----------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9))))
def test_groups(rows: list[tuple[int, int]]) -> None:
    """Rows by symbol: the last one, the time stamps' ends, and whether they rise."""
    groups = group(
        np.array([symbol for symbol, _ in rows], np.int8), np.array([t for _, t in rows], np.int64)
    )
    times = {symbol: [t for each, t in rows if each == symbol] for symbol, _ in sorted(rows)}
    assert groups.symbols.tolist() == list(times)
    assert groups.oldest.tolist() == [min(each) for each in times.values()]
    assert groups.newest.tolist() == [max(each) for each in times.values()]
    assert groups.last.tolist() == [
        max(i for i, row in enumerate(rows) if row[0] == symbol) for symbol in times
    ]
    rising = all(a < b for each in times.values() for a, b in itertools.pairwise(each))
    assert groups.ascending == rising
