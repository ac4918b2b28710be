"""What it costs to keep quotes and to look at them, beside tables that others keep.

Memory is what a fresh process grows by. What is looked at is there already: building it is not
part of the time.
"""

from __future__ import annotations

import gc
import itertools
import os
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from msgspec.structs import asdict

from alpaca_nb.data.batch import Batch, Lexicon, batch_of
from alpaca_nb.data.frame import LiveFrame
from alpaca_nb.sim.recording import read_recording
from alpaca_nb.wire.codec import MSGPACK, decode, time_ns
from alpaca_nb.wire.messages import Message, Quote, Trade
from benchmarks.measuring import child, growth_of, resident_bytes, rounds_of
from benchmarks.quotes import STEP_NS, Tape
from benchmarks.results import Table

ABOUT = "Keeping quotes, and looking at them"

START_NS = 1_790_000_000_000_000_001
TAPE = Tape(START_NS)
REAL_DATA = "ALPACA_NB_REAL_DATA"
DAY = "lean_ticks_20131007.parquet"


# -- the containers ----------------------------------------------------------------------


def make_batches(rows: int, tape: Tape = TAPE) -> list[Batch]:
    """Batches as the stream makes them, of 1,000 quotes each."""
    lexicon = Lexicon()
    return [_batch(messages, lexicon) for messages in tape.batches(rows)]


def _batch(messages: list[Message[Any]], lexicon: Lexicon) -> Batch:
    return batch_of(messages, np.full(len(messages), START_NS, np.int64), lexicon)


def make_frame(rows: int, tape: Tape = TAPE, *, maxlen: int | None = None) -> LiveFrame:
    """A frame filled as a stream fills it."""
    frame, lexicon = LiveFrame("quotes", tape.names, maxlen=maxlen or rows), Lexicon()
    for messages in tape.batches(rows):
        frame.take(_batch(messages, lexicon))
    frame.snapshot()  # nothing waits to be written
    return frame


def make_frame_twice_retained(rows: int) -> LiveFrame:
    """A frame through which twice as much has come as it keeps: with all its slack."""
    return make_frame(2 * rows, maxlen=rows)


def make_long_frame(rows: int) -> LiveFrame:
    """A frame of many rows, made in little time: the same quotes again, later."""
    frame, step = LiveFrame("quotes", TAPE.names, maxlen=rows), min(rows, 100_000)
    (batch,) = (_batch([m for ms in TAPE.batches(step) for m in ms], Lexicon()),)
    for i in range(rows // step):
        numbers = batch.numbers.copy()
        numbers[batch.layout.time] += i * step * STEP_NS
        frame.take(Batch(batch.layout, batch.lexicon, numbers, batch.prices, batch.codes))
    frame.snapshot()
    return frame


def as_dict(quote: Message[Any]) -> dict[str, Any]:
    """A quote as alpaca-py's raw data has it."""
    return asdict(quote) | {"timestamp": time_ns(quote.timestamp)}


def make_dicts(rows: int) -> list[dict[str, Any]]:
    """What most programs keep."""
    return [as_dict(quote) for batch in TAPE.batches(rows) for quote in batch]


def make_messages(rows: int) -> list[Any]:
    """Structs in a list."""
    return [quote for batch in TAPE.batches(rows) for quote in batch]


def make_models(rows: int) -> list[Any]:
    """alpaca-py's models in a list."""
    from alpaca.data.models import Quote

    models = []
    for batch in TAPE.batches(rows):
        for quote in batch:
            raw = {
                "t": pd.Timestamp(time_ns(quote.timestamp), tz="UTC").to_pydatetime(warn=False),
                "bp": quote.bid_price,
                "bs": quote.bid_size,
                "bx": quote.bid_exchange,
                "ap": quote.ask_price,
                "as": quote.ask_size,
                "ax": quote.ask_exchange,
                "c": quote.conditions,
                "z": quote.tape,
            }
            models.append(Quote(quote.symbol, raw))
    return models


def _columns(batch: list[Message[Any]]) -> dict[str, Any]:
    """Ten plain columns, for libraries that take them."""
    quotes: list[Any] = batch
    return {
        "timestamp": np.array([time_ns(q.timestamp) for q in quotes], "M8[ns]"),
        "symbol": [q.symbol for q in quotes],
        "bid_price": np.array([q.bid_price for q in quotes]),
        "bid_size": np.array([q.bid_size for q in quotes], np.uint32),
        "bid_exchange": [q.bid_exchange for q in quotes],
        "ask_price": np.array([q.ask_price for q in quotes]),
        "ask_size": np.array([q.ask_size for q in quotes], np.uint32),
        "ask_exchange": [q.ask_exchange for q in quotes],
        "conditions": [",".join(q.conditions) for q in quotes],
        "tape": [q.tape for q in quotes],
    }


TEXTS = ("symbol", "bid_exchange", "ask_exchange", "conditions", "tape")


def make_polars(rows: int) -> Any:
    """A polars DataFrame with categories for texts."""
    import polars as pl

    dtypes = dict.fromkeys(TEXTS, pl.Categorical)
    frames = [pl.DataFrame(_columns(b), schema_overrides=dtypes) for b in TAPE.batches(rows)]
    return pl.concat(frames, rechunk=True)


def make_arrow(rows: int) -> Any:
    """A pyarrow Table with dictionaries for texts."""
    import pyarrow as pa

    def table(batch: list[Message[Any]]) -> Any:
        columns = _columns(batch)
        for name in TEXTS:
            columns[name] = pa.array(columns[name]).dictionary_encode()
        return pa.table(columns)

    tables = [table(batch) for batch in TAPE.batches(rows)]
    return pa.concat_tables(tables).unify_dictionaries().combine_chunks()


def make_perspective(rows: int, *, index: str | None = None) -> Any:
    """A perspective Table, fed in batches as a stream would; the server lives as long as it."""
    import perspective

    client = perspective.Server().new_local_client()
    schema: dict[str, str] = {
        "timestamp": "datetime",
        **dict.fromkeys(TEXTS, "string"),
        **dict.fromkeys(("bid_price", "ask_price"), "float"),
        **dict.fromkeys(("bid_size", "ask_size"), "integer"),
    }
    table = client.table(schema, index=index) if index else client.table(schema)
    for batch in TAPE.batches(rows):
        columns = _columns(batch)
        columns["timestamp"] = columns["timestamp"].astype("M8[ms]").astype(np.int64)
        table.update({k: v if isinstance(v, list) else v.tolist() for k, v in columns.items()})
    table.size()  # until it has taken everything in
    return client, table


# -- memory ------------------------------------------------------------------------------


def memory(*, small: bool) -> Table:
    """Bytes per quote."""
    rows, rounds = (20_000, 1) if small else (1_000_000, 1)
    table = Table(
        f"Memory per quote, {rows:,} quotes",
        "bytes",
        about="What only the process itself holds (USS), in a fresh process each, filled as a "
        "stream would fill it.",
    )
    cases: dict[str, Callable[[int], object]] = {
        "LiveFrame": make_frame,
        "LiveFrame through which twice as much has come": make_frame_twice_retained,
        "pyarrow Table": make_arrow,
        "polars DataFrame": make_polars,
        "perspective Table": make_perspective,
        "list of msgspec Structs": make_messages,
        "list of dicts (alpaca-py, raw)": make_dicts,
    }
    if not small:
        cases["list of models (alpaca-py)"] = make_models
    for name, make in cases.items():
        values = [growth_of(make, rows) / rows for _ in range(rounds)]
        table.add(name, values, "ours" if name.startswith("LiveFrame") else "peer")
    snapshot = make_frame(1_000).snapshot()
    row = sum(snapshot[column.name].itemsize for column in snapshot.columns)
    table.add("floor: the columns of a LiveFrame themselves", [row], "floor")
    table.base = "LiveFrame"
    if not small:
        full, slack = "LiveFrame", "LiveFrame through which twice as much has come"
        table.figure("Memory per quote kept", table.row(full).values, "bytes", at_most=60)
        table.figure("Memory per quote with slack", table.row(slack).values, "bytes", at_most=110)
    return table


# -- looking -----------------------------------------------------------------------------


def snapshots(*, small: bool) -> Table:
    """A DataFrame of everything, of what is new, and of the last of each symbol."""
    rows, rounds = (20_000, 2) if small else (1_000_000, 7)
    frame = make_frame(rows)
    dicts = make_dicts(min(rows, 100_000))
    table = Table(f"Looking at {rows:,} quotes", "µs", base="frame.df")
    import polars as pl

    arrow, polars = make_arrow(rows), make_polars(rows)
    client, perspective = make_perspective(rows)
    newest = rows - 1_000
    cases: dict[str, Callable[[], object]] = {
        "frame.df": lambda: frame.df,
        "frame.since(the last 1,000)": lambda: frame.since(newest),
        "frame.latest": lambda: frame.latest,
        "frame.symbol(one of 100)": lambda: frame.symbol(ONE),
        "frame.to_arrow()": frame.to_arrow,
        "frame.to_polars()": frame.to_polars,
        'pandas, the same symbol: df[df["symbol"] == ...]': lambda: _one_of(frame.df),
        "floor: the columns as numpy arrays": lambda: _arrays(frame),
        "pyarrow Table.to_pandas()": arrow.to_pandas,
        "polars DataFrame.to_pandas()": polars.to_pandas,
        "polars, the last 1,000 to pandas": lambda: polars.tail(1_000).to_pandas(),
        "polars, the last of each symbol": lambda: polars.group_by("symbol").agg(pl.all().last()),
        "perspective, the last 1,000 as Arrow": lambda: _perspective_tail(perspective, newest),
    }
    taken = rounds_of(cases, rounds, scale=1e6)
    few: dict[str, Callable[[], object]] = {
        f"pd.DataFrame(list of {len(dicts):,} dicts)": lambda: pd.DataFrame(dicts)
    }
    taken |= rounds_of(few, max(rounds // 2, 1), scale=1e6)
    for name, values in taken.items():
        kind = "ours" if name.startswith("frame") else "floor" if "floor" in name else "peer"
        table.add(name, values, kind)  # type: ignore[arg-type]
    del client
    return table


ONE = "S07"


def _one_of(df: pd.DataFrame) -> pd.DataFrame:
    return df[df["symbol"] == ONE]


def _arrays(frame: LiveFrame) -> list[Any]:
    rows = frame.snapshot()
    return [rows[column.name] for column in rows.columns]


def _perspective_tail(table: Any, start: int) -> Any:
    view = table.view()
    try:
        return view.to_arrow(start_row=start)
    finally:
        view.delete()


def long_frame(*, small: bool) -> Table:
    """The same at ten million rows: nothing grows, nothing is copied."""
    rows, rounds = (100_000, 2) if small else (10_000_000, 15)
    frame = make_long_frame(rows)
    table = Table(f"Looking at {rows:,} quotes", "µs", base="frame.df")
    cases: dict[str, Callable[[], object]] = {"frame.df": lambda: frame.df}
    for new in (100, 10_000, 1_000_000):
        if new <= rows:
            cases[f"frame.since(the last {new:,})"] = lambda new=new: frame.since(rows - new)
    for name, values in rounds_of(cases, rounds, scale=1e6).items():
        table.add(name, values, "ours")
    held, df = frame.snapshot(), frame.df
    copied = [
        column.name
        for column in held.columns
        if column.name != "timestamp" and not _shares(df[column.name], held[column.name])
    ]
    if not _shares(df.index, held["timestamp"]):
        copied.append("timestamp")
    if not small:
        milliseconds = [value / 1000 for value in table.row("frame.df").values]
        table.figure(f"frame.df at {rows:,} rows", milliseconds, "ms", at_most=1)
    table.figure("columns of frame.df that were copied", [len(copied)], "columns", at_most=0)
    return table


def _shares(column: Any, values: Any) -> bool:
    array = column.array
    if isinstance(array, pd.Categorical):
        return bool(np.shares_memory(array.codes, values))
    return bool(np.shares_memory(array.asi8 if hasattr(array, "asi8") else array, values))


def latest(*, small: bool) -> Table:
    """The last quote of each of 11,000 symbols."""
    symbols, rows, rounds = (500, 5_000, 2) if small else (11_000, 200_000, 15)
    tape = Tape(START_NS, symbols)
    frame = make_frame(rows, tape, maxlen=1_000_000)
    table = Table(f"The last quote of each of {symbols:,} symbols", "µs", base="frame.latest")
    df = frame.df
    cases: dict[str, Callable[[], object]] = {
        "frame.latest": lambda: frame.latest,
        "frame.latest_rows(): columns": frame.latest_rows,
        'pandas: df.groupby("symbol").tail(1)': lambda: df.groupby("symbol", observed=True).tail(1),
    }
    for name, values in rounds_of(cases, rounds, scale=1e6).items():
        table.add(name, values, "ours" if name.startswith("frame") else "peer")
    if not small:
        milliseconds = [value / 1000 for value in table.row("frame.latest").values]
        table.figure(f"frame.latest over {symbols:,} symbols", milliseconds, "ms", at_most=2)
    return table


def writing(*, small: bool) -> Table:
    """What it costs a frame to take a quote in."""
    rows, rounds = (5_000, 2) if small else (200_000, 7)
    messages = list(TAPE.batches(rows))
    batches = make_batches(rows)
    data = [TAPE.packed(start, start + 1_000) for start in range(0, rows, 1_000)]
    table = Table("Taking a quote into a frame", "ns", base="frame.take, batches of 1,000")

    def take() -> None:
        frame = LiveFrame("quotes", TAPE.names, maxlen=1_000_000)
        for batch in batches:
            frame.take(batch)
        frame.snapshot()

    def extend() -> None:
        frame = LiveFrame("quotes", TAPE.names, maxlen=1_000_000)
        for batch in messages:
            frame.extend(batch, received_ns=START_NS)
        frame.snapshot()

    cases: dict[str, Callable[[], object]] = {
        "frame.take, batches of 1,000": take,
        "frame.extend, 1,000 messages a call": extend,
        "only make batches of messages": lambda: [_batch(m, Lexicon()) for m in messages],
        "only decode them (msgspec, MessagePack)": lambda: [decode(each) for each in data],
        "a list of dicts": lambda: [as_dict(quote) for batch in messages for quote in batch],
    }
    for name, values in rounds_of(cases, rounds, scale=1e9 / rows).items():
        table.add(name, values, "ours" if name.startswith("frame") else "peer")
    return table


# -- a real day --------------------------------------------------------------------------


def real_day() -> Table | None:
    """The ticks of a real day in two frames, where there are any."""
    folder = os.environ.get(REAL_DATA)
    if not folder or not (Path(folder) / DAY).exists():
        return None
    with child(_keep_day) as pipe:
        for packed in _day(Path(folder) / DAY):
            pipe.send(packed)
        pipe.send(b"")
        count, before, after = pipe.recv()
    table = Table(f"A real day: {count:,} trades and quotes", "MB")
    megabytes = (after - before) / 1e6
    table.add("resident memory above the empty kernel", [megabytes], "ours")
    table.figure("A day of real ticks, resident memory", [megabytes], "MB", at_most=150)
    return table


def _day(path: Path) -> Iterator[bytes]:
    """The recording as the wire would bring it."""
    messages = iter(read_recording(path))
    while batch := list(itertools.islice(messages, 1_000)):
        yield MSGPACK.encode(batch)


def _keep_day(pipe: Connection) -> None:
    """Keep what comes in frames of trades and of quotes; reading it is left to another process."""
    make_frame(2_000)
    frames = {
        kind: LiveFrame(channel, "*", maxlen=2_000_000)
        for kind, channel in ((Quote, "quotes"), (Trade, "trades"))
    }
    lexicon, count = Lexicon(), 0
    gc.collect()
    before = resident_bytes()
    while packed := pipe.recv():
        messages: list[Any] = decode(packed)
        for kind, frame in frames.items():
            if some := [message for message in messages if type(message) is kind]:
                frame.take(_batch(some, lexicon))
        count += len(messages)
    for frame in frames.values():
        frame.snapshot()
    gc.collect()
    pipe.send((count, before, resident_bytes()))


def measure(*, small: bool) -> list[Table]:
    """All of it."""
    tables = [memory(small=small), snapshots(small=small), long_frame(small=small)]
    tables += [latest(small=small), writing(small=small)]
    if not small and (day := real_day()) is not None:
        tables.append(day)
    return tables
