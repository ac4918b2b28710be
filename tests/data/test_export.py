"""Rows as Arrow and polars: the same values on the same memory, and no change ever after."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpaca_nb.data.columns import Column, ColumnStore, Kind, Snapshot
from alpaca_nb.data.export import to_arrow, to_polars
from alpaca_nb.data.frame import LiveFrame
from alpaca_nb.wire.messages import CHANNELS, Trade

NOW = 1_790_000_000_000_000_001
ZONE = pa.timestamp("ns", "America/New_York")
NOT_A_TIME = np.iinfo(np.int64).min

COLUMNS = (
    Column("timestamp", Kind.TIME),
    Column("symbol", Kind.CATEGORY),
    Column("price", Kind.FLOAT),
    Column("size", Kind.INT),
    Column("trade_id", Kind.IDENTIFIER),
    Column("conditions", Kind.LABELS),
)


def make_store(*rows: tuple[Any, ...], maxlen: int = 1_000_000) -> ColumnStore:
    store = ColumnStore(COLUMNS, maxlen=maxlen)
    append(store, *rows)
    return store


def append(store: ColumnStore, *rows: tuple[Any, ...]) -> None:
    values = list(zip(*rows, strict=True)) or [()] * len(COLUMNS)
    store.append([store.encode(i, column) for i, column in enumerate(values)])


def make_row(i: int, symbol: str = "AAPL") -> tuple[Any, ...]:
    return (NOW + i, symbol, i / 4, i, 2**64 - 1 - i, ["@", "I"])


def trades(count: int = 3) -> LiveFrame:
    """A frame of trades, with all the columns that a frame has."""
    frame = LiveFrame("trades", ["AAPL", "MSFT"])
    messages: list[Trade[Any]] = [
        Trade(
            symbol="AAPL" if i % 2 else "MSFT",
            trade_id=i,
            exchange="V",
            price=100 + i / 4,
            size=i,
            conditions=["@", "I"],
            tape="C",
            timestamp=NOW + i,
        )
        for i in range(count)
    ]
    frame.extend(messages, received_ns=NOW)
    return frame


def memory(column: Any) -> Any:
    """The numbers behind an Arrow column, without a copy."""
    (chunk,) = column.chunks
    if isinstance(chunk, pa.DictionaryArray):
        chunk = chunk.indices
    width = chunk.type.bit_width // 8
    return np.frombuffer(chunk.buffers()[1], f"V{width}")[chunk.offset :]


def assert_same(table: Any, rows: Snapshot) -> None:
    """The table holds exactly these rows."""
    assert table.column_names == [column.name for column in rows.columns]
    for column in rows.columns:
        values = rows[column.name]
        if column.kind.is_coded:
            names = rows.categories(column.name)
            assert table[column.name].to_pylist() == [names[code] for code in values]
        elif column.kind is Kind.TIME:
            known = values[values != NOT_A_TIME]
            assert table[column.name].drop_null().cast(pa.int64()).to_pylist() == known.tolist()
        else:
            np.testing.assert_array_equal(table[column.name].to_numpy(), values)


# -- values ------------------------------------------------------------------------------

_ROWS = st.lists(
    st.tuples(
        st.integers(-(2**63), 2**63 - 1),
        st.text(max_size=4),
        st.floats(),
        st.integers(-(2**63), 2**63 - 1),
        st.integers(0, 2**64 - 1),
        st.lists(st.sampled_from("@IT6"), max_size=3),
    ),
    max_size=20,
)


@settings(max_examples=100, deadline=None)
@given(rows=_ROWS, since=st.integers(0, 20), maxlen=st.integers(1, 15))
def test_values_come_out_as_they_went_in(
    rows: list[tuple[Any, ...]], since: int, maxlen: int
) -> None:
    """Every number, time and text is the same, to the last bit, in both libraries."""
    held = make_store(*rows, maxlen=maxlen).snapshot().since(since)
    table = to_arrow(held)
    table.validate(full=True)
    assert_same(table, held)
    assert_same(to_polars(held).to_arrow(), held)


@pytest.mark.parametrize("channel", CHANNELS)
def test_every_channel(channel: str) -> None:
    """A frame of any channel can be exported, also while it is empty."""
    frame = LiveFrame(channel, ["AAPL"])
    table, polars = to_arrow(frame.snapshot()), to_polars(frame.snapshot())
    names = [column.name for column in frame.columns]
    assert table.num_rows == polars.height == 0
    assert table.column_names == polars.columns == names
    assert table.schema.field("timestamp").type == ZONE
    assert polars.schema["timestamp"] == pl.Datetime("ns", "America/New_York")


def test_types() -> None:
    """Each kind of column has the type that other tools expect of it."""
    schema = to_arrow(trades().snapshot()).schema
    assert schema.field("timestamp").type == schema.field("received").type == ZONE
    assert schema.field("price").type == pa.float64()
    assert schema.field("size").type == pa.int64()
    assert schema.field("trade_id").type == pa.uint64()
    for name in ("symbol", "exchange", "conditions", "tape", "source", "amended"):
        assert schema.field(name).type == pa.dictionary(pa.int8(), pa.string()), name


def test_polars_types() -> None:
    """Texts are categorical, so that they compare and join as texts do."""
    frame = to_polars(trades().snapshot())
    assert frame.schema["symbol"] == pl.Categorical
    assert frame.filter(pl.col("symbol") == "AAPL")["trade_id"].to_list() == [1]
    assert frame["conditions"].cast(pl.String).to_list() == ["@,I"] * 3
    assert frame["timestamp"].dt.timestamp("ns").to_list() == [NOW, NOW + 1, NOW + 2]


def test_what_is_none_and_what_is_not() -> None:
    """A time that is none is null; NaN is a number as anywhere else."""
    held = make_store(
        (NOW, "A", float("nan"), 0, 0, []), (NOT_A_TIME, "", 1.0, 0, 0, [])
    ).snapshot()
    table = to_arrow(held)
    assert table["timestamp"].null_count == 1
    assert table["timestamp"].is_null().to_pylist() == [False, True]
    assert [table[name].null_count for name in table.column_names[1:]] == [0] * 5
    assert to_polars(held)["timestamp"].null_count() == 1
    assert np.isnan(to_polars(held)["price"][0])


@pytest.mark.parametrize(
    ("count", "codes"),
    [(126, pa.int8()), (128, pa.int16()), (32_766, pa.int16()), (40_000, pa.int32())],
)
def test_many_categories(count: int, codes: Any) -> None:
    """However many texts there are, their codes are those of the frame."""
    held = make_store(*(make_row(i, f"S{i}") for i in range(count))).snapshot()
    table = to_arrow(held)
    assert table.schema.field("symbol").type == pa.dictionary(codes, pa.string())
    assert table["symbol"].to_pylist() == [f"S{i}" for i in range(count)]
    (chunk,) = table["symbol"].chunks
    np.testing.assert_array_equal(chunk.indices.to_numpy(), held["symbol"])
    assert to_polars(held)["symbol"].cast(pl.String).to_list() == [f"S{i}" for i in range(count)]


def test_pandas_from_arrow_is_the_frame() -> None:
    """Who goes on from Arrow to pandas has the same DataFrame as `df`."""
    frame = trades(200)
    told = to_arrow(frame.snapshot()).to_pandas().set_index("timestamp")
    # Arrow leaves their order open.
    texts = list(told.select_dtypes("category"))
    there = frame.df.astype(dict.fromkeys(texts, "str"))
    pd.testing.assert_frame_equal(told.astype(dict.fromkeys(texts, "str")), there)


def test_metadata() -> None:
    """The table says where to go on reading, and what it is of if that is known."""
    frame = trades(3)
    metadata = to_arrow(frame.snapshot().since(1), channel=frame.channel).schema.metadata
    assert metadata == {b"position": b"3", b"epoch": b"0", b"channel": b"trades"}
    assert b"channel" not in to_arrow(frame.snapshot()).schema.metadata


# -- memory ------------------------------------------------------------------------------


def test_nothing_is_copied() -> None:
    """Numbers, times and codes lie where the frame has them."""
    held = trades(5_000).snapshot().since(100)
    table, polars = to_arrow(held), to_polars(held)
    for column in held.columns:
        assert np.shares_memory(memory(table[column.name]), held[column.name]), column.name
    for name in ("price", "size", "trade_id"):
        assert np.shares_memory(polars[name].to_numpy(allow_copy=False), held[name]), name


def test_a_table_never_changes() -> None:
    """What is written, dropped or cleared later does not reach a table; it outlives the store."""
    store = make_store(*(make_row(i) for i in range(900)), maxlen=1_000)
    held = store.snapshot()
    table, polars = to_arrow(held), to_polars(held)
    whole = pa.table({name: pa.concat_arrays(table[name].chunks) for name in table.column_names})
    before = pa.ipc.new_stream(sink := pa.BufferOutputStream(), whole.schema)
    before.write_table(whole)
    before.close()
    for i in range(900, 20_000, 90):
        append(store, *(make_row(j, f"S{j}") for j in range(i, i + 90)))
    store.clear()
    del store, held
    after = pa.ipc.open_stream(sink.getvalue()).read_all()
    assert table.equals(after)
    assert polars.to_arrow()["price"].to_pylist() == after["price"].to_pylist()


def test_while_another_thread_extends_the_frame() -> None:
    """A table is whole and true at any moment, while messages come as fast as they can."""
    frame, ended = LiveFrame("trades", "*", maxlen=20_000), threading.Event()
    names = [f"S{i}" for i in range(500)]

    def write() -> None:
        i = 0
        while not ended.is_set():
            messages: list[Trade[Any]] = [
                Trade(symbol=names[j % 500], trade_id=j, price=float(j), size=j, timestamp=NOW + j)
                for j in range(i, i + 200)
            ]
            frame.extend(messages, received_ns=NOW)
            i += 200

    writer = threading.Thread(target=write)
    writer.start()
    try:
        frame.wait(1)
        kept: list[tuple[Any, int]] = []
        end = time.monotonic() + 2
        while time.monotonic() < end:
            held = frame.snapshot()
            kept = [*kept[-3:], (to_arrow(held), held.first)]
            for table, first in kept:
                count = table.num_rows
                ids = np.arange(first, first + count)
                np.testing.assert_array_equal(table["trade_id"].to_numpy(), ids)
                np.testing.assert_array_equal(table["price"].to_numpy(), ids)
                assert table["symbol"][count - 1].as_py() == names[(first + count - 1) % 500]
            last = to_polars(held.tail(1))
            assert last["symbol"].to_list() == [names[(held.last - 1) % 500]]
    finally:
        ended.set()
        writer.join()
    assert frame.position > 20_000


# -- optional packages -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "missing"),
    [("to_arrow", "pyarrow"), ("to_polars", "polars"), ("to_polars", "pyarrow")],
)
def test_a_missing_package_is_named(
    function: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the package there is one sentence that says how to get it."""
    from alpaca_nb.data import export
    from alpaca_nb.errors import AlpacaError

    held = trades().snapshot()
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(AlpacaError, match=f"{missing}, which is not installed: pip install"):
        getattr(export, function)(held)


def test_neither_is_loaded_before_it_is_needed() -> None:
    """The module itself costs a kernel neither pyarrow nor polars."""
    code = "import sys, alpaca_nb.data.export; print({'pyarrow', 'polars'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
