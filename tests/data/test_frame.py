"""LiveFrame: messages in on one thread, DataFrames out on any."""

from __future__ import annotations

import contextlib
import linecache
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from alpaca_nb.clock import ManualClock
from alpaca_nb.data.batch import Lexicon, batch_of
from alpaca_nb.data.columns import columns_of
from alpaca_nb.data.frame import LiveFrame
from alpaca_nb.data.status import StreamStatus
from alpaca_nb.errors import BadInputError, ConnectionLostError, UnknownChannelError
from alpaca_nb.wire.codec import MSGPACK, decode, format_time, time_ns
from alpaca_nb.wire.messages import (
    CHANNELS,
    Bar,
    CancelError,
    Correction,
    Imbalance,
    Message,
    Quote,
    Trade,
    UpdatedBar,
)

NOW = 1_790_000_000_000_000_000
SECOND = 1_000_000_000


def make_trade(i: int, symbol: str = "AAPL", **changes: Any) -> Trade[Any]:
    trade = Trade(
        symbol=symbol,
        trade_id=i,
        exchange="V",
        price=100 + i / 4,
        size=i,
        conditions=["@", "I"],
        tape="C",
        timestamp=NOW + i,
    )
    return structs.replace(trade, **changes) if changes else trade


def make_quote(i: int, symbol: str = "AAPL") -> Quote[Any]:
    return Quote(symbol=symbol, bid_price=i, ask_price=i + 0.5, bid_size=i, timestamp=NOW + i)


def make_frame(messages: Sequence[Message[Any]] = (), **options: Any) -> LiveFrame:
    frame = LiveFrame("trades", "*", **options)
    frame.extend(messages, received_ns=NOW)
    return frame


def ids(frame: pd.DataFrame) -> list[int]:
    return frame["trade_id"].tolist()


# -- making one --------------------------------------------------------------------------


@pytest.mark.parametrize("maxlen", [0, -1, 1.5, "many", None, True])
def test_maxlen_must_be_positive(maxlen: Any) -> None:
    """A retention that would keep nothing is refused before anything starts."""
    with pytest.raises(BadInputError, match="a whole number from 1 on"):
        LiveFrame("trades", ["AAPL"], maxlen=maxlen)


def test_channel_and_symbols_are_checked() -> None:
    """Unknown channels and what is no symbol are refused with what is allowed."""
    with pytest.raises(UnknownChannelError, match="quotes"):
        LiveFrame("qoutes", ["AAPL"])
    with pytest.raises(BadInputError, match="symbol"):
        LiveFrame("quotes", ["not a symbol"])
    with pytest.raises(BadInputError, match="symbol"):
        LiveFrame("quotes", [])


def test_names() -> None:
    """Symbols are upper-cased, and the key on the wire names the same channel."""
    frame = LiveFrame("updatedBars", ["aapl", "AAPL", "brk.b"], name="mine")
    assert (frame.channel, frame.symbols, frame.name) == (
        "updated_bars",
        ("AAPL", "BRK.B"),
        "mine",
    )


def test_repr() -> None:
    """The text of a frame says what it is, the same at any time."""
    frame = LiveFrame("quotes", ["AAPL", "MSFT"])
    assert repr(frame) == "LiveFrame(quotes: AAPL, MSFT)"
    frame.extend([make_quote(1)], received_ns=NOW)
    assert repr(frame) == "LiveFrame(quotes: AAPL, MSFT)"
    many = LiveFrame("quotes", [f"S{i}" for i in range(9)])
    assert repr(many) == "LiveFrame(quotes: S0, S1, S2, S3, S4, S5, S6, S7, …)"


def test_an_empty_frame_is_true() -> None:
    """`frame or other` must not depend on whether a row has come."""
    assert LiveFrame("quotes", "AAPL")
    assert len(LiveFrame("quotes", "AAPL")) == 0


# -- messages in, rows out ---------------------------------------------------------------


def test_rows_equal_the_messages() -> None:
    """Every field of every message comes out as it went in, to the nanosecond."""
    frame = make_frame([make_trade(i) for i in range(2_500)])
    df = frame.df
    assert [*df.columns] == [
        "symbol", "price", "size", "exchange", "trade_id", "conditions", "tape",
        "received", "source", "amended",
    ]  # fmt: skip
    assert ids(df) == list(range(2_500))
    assert df["price"].tolist() == [100 + i / 4 for i in range(2_500)]
    assert set(df["conditions"]) == {"@,I"}
    assert df.index.asi8.tolist() == [NOW + i for i in range(2_500)]
    assert (df["received"] == pd.Timestamp(NOW, tz="UTC")).all()
    assert set(df["source"]) == {"live"}


@pytest.mark.parametrize("channel", CHANNELS.values(), ids=list(CHANNELS))
def test_every_channel_can_be_stored(channel: Any) -> None:
    """A message of each type makes a row with the columns of its type."""
    values = {"str": "A", "float": 1.5, "int": 3}
    made = {
        field.name: values.get(getattr(field.type, "__name__", ""))
        for field in structs.fields(channel.message)
    }
    for column in columns_of(channel.message):
        if made[column.name] is None:
            made[column.name] = {"LABELS": ["@"], "IDENTIFIER": 7, "TIME": NOW}[column.kind.name]
    message = channel.message(**made)
    frame = LiveFrame(channel.name, "*")
    frame.extend([message], received_ns=NOW)
    row = frame.df.reset_index().iloc[0]
    assert frame.stats.rejected == 0
    assert row["symbol"] == message.symbol
    assert row["timestamp"].value == NOW


@pytest.mark.parametrize("spelling", ["text", "extension", "number"])
def test_times_in_every_spelling(spelling: str) -> None:
    """Times are exact, however the wire spelled them."""
    times = [NOW, NOW + 1, NOW + 500_000_000, NOW - 10**18 + 123_456_789]
    made = [make_trade(i, timestamp=t) for i, t in enumerate(times)]
    if spelling == "text":
        made = [make_trade(i, timestamp=format_time(t)) for i, t in enumerate(times)]
    if spelling == "extension":
        made = decode(MSGPACK.encode(made))  # type: ignore[assignment]
        assert time_ns(made[0].timestamp) == NOW
    assert make_frame(made).df.index.asi8.tolist() == times


def test_staged_rows_are_seen_at_once() -> None:
    """A reader sees a row as soon as `extend` has returned, staged or written."""
    frame = make_frame()
    for i in range(2_100):
        frame.extend([make_trade(i)], received_ns=NOW + i)
        if i % 300 == 0:
            assert frame.position == len(frame) == i + 1
    assert ids(frame.df) == list(range(2_100))


def test_writing_happens_in_bulk() -> None:
    """Columns are written when a thousand rows are staged, or when somebody looks."""
    frame = make_frame()
    for i in range(999):
        frame.extend([make_trade(i)], received_ns=NOW)
    assert frame._store.snapshot().last == 0
    frame.extend([make_trade(999)], received_ns=NOW)
    assert frame._store.snapshot().last == 1_000


def test_origins() -> None:
    """Each row says where it came from, and when."""
    frame = make_frame([make_trade(0), make_trade(1)])
    frame.extend([make_trade(2)], received_ns=NOW + 5, origin="simulated")
    frame.extend([make_trade(3)], received_ns=NOW + 6, origin="backfill")
    assert frame.df["source"].tolist() == ["live", "live", "simulated", "backfill"]
    assert frame.snapshot()["received"].tolist() == [NOW, NOW, NOW + 5, NOW + 6]


@pytest.mark.parametrize(
    "bad",
    [
        make_trade(1, trade_id=2**64),
        make_trade(1, price="1.5"),
        make_trade(1, size=2**63),
        make_trade(1, symbol=None),
        make_trade(1, conditions=None),
        make_trade(1, timestamp="noon"),
        make_quote(1),
        None,
    ],
    ids=["id", "price", "size", "symbol", "conditions", "time", "type", "nothing"],
)
@pytest.mark.parametrize("at", [0, 3, 5])
def test_an_unstorable_message_costs_no_other(bad: Any, at: int) -> None:
    """What cannot be stored is counted, and the rest of its batch is stored."""
    messages: list[Any] = [make_trade(i) for i in range(5)]
    messages.insert(at, bad)
    frame = make_frame(messages)
    frame.extend([make_trade(5)], received_ns=NOW + 1)
    assert ids(frame.df) == [0, 1, 2, 3, 4, 5]
    assert frame.snapshot()["received"].tolist() == [NOW] * 5 + [NOW + 1]
    assert (frame.stats.rejected, frame.position) == (1, 6)
    assert ids(frame.latest) == [5]


def test_only_unstorable_messages() -> None:
    """A batch of which nothing can be stored leaves the frame as it was."""
    frame = make_frame([make_trade(0, trade_id=-1), make_trade(1, trade_id=2**64)])
    frame.extend([Imbalance(symbol="AAPL", price=1.0, timestamp=NOW)], received_ns=NOW)
    assert (len(frame), frame.position, frame.stats.rejected) == (0, 0, 3)
    assert len(frame.latest) == 0
    frame.extend([make_trade(2)], received_ns=NOW)
    assert ids(frame.df) == [2]


def test_an_interrupted_reader_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the cell that happens to write the rows neither loses nor doubles any."""
    frame = make_frame([make_trade(i) for i in range(10)])
    publish = frame._store.publish

    def before(*args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    def after(*args: Any, **options: Any) -> None:
        publish(*args, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(frame._store, "publish", before)
    with pytest.raises(KeyboardInterrupt):
        _ = frame.df
    monkeypatch.setattr(frame._store, "publish", after)
    with pytest.raises(KeyboardInterrupt):
        _ = frame.df
    monkeypatch.undo()
    frame.extend([make_trade(10)], received_ns=NOW)
    assert ids(frame.df) == list(range(11))
    assert ids(frame.latest) == [10]


# -- positions ---------------------------------------------------------------------------


def test_since_continues() -> None:
    """A reader that goes on at `attrs["position"]` sees every row once."""
    frame = make_frame([make_trade(i) for i in range(5)])
    first = frame.since(0)
    frame.extend([make_trade(i) for i in range(5, 8)], received_ns=NOW)
    second = frame.since(first.attrs["position"])
    assert ids(first) + ids(second) == list(range(8))
    assert second.attrs == {"position": 8, "missed": 0, "epoch": 0}
    assert len(frame.since(8)) == 0


def test_since_tells_what_it_missed() -> None:
    """Rows that retention dropped before they were asked for are counted."""
    frame = make_frame([make_trade(i) for i in range(50)], maxlen=20)
    rows = frame.since(10)
    assert (ids(rows)[0], rows.attrs) == (30, {"position": 50, "missed": 20, "epoch": 0})
    assert (frame.stats.dropped, frame.stats.rows, frame.position) == (30, 20, 50)


@pytest.mark.parametrize("position", [-1, 1.5, "0", None, True])
def test_positions_are_checked(position: Any) -> None:
    """What cannot be a position is refused."""
    frame = make_frame()
    for read in (frame.since, frame.rows_since, frame.latest_rows, frame.wait):
        with pytest.raises(BadInputError, match="counts rows"):
            read(position)


def test_raw_rows() -> None:
    """Views get columns as arrays, and the place where to go on."""
    frame = make_frame([make_trade(i, "MSFT" if i % 2 else "AAPL") for i in range(10)])
    rows = frame.rows_since(7)
    assert rows["trade_id"].tolist() == [7, 8, 9]
    assert [rows.categories("symbol")[code] for code in rows["symbol"]] == ["MSFT", "AAPL", "MSFT"]
    assert (rows.first, rows.last, rows.missed) == (7, 10, 0)
    assert rows.of("AAPL")["trade_id"].tolist() == [8]


def test_clear() -> None:
    """After `clear` the frame is empty, positions go on, and views see another epoch."""
    frame = make_frame([make_trade(i) for i in range(5)])
    frame.clear()
    assert (len(frame), len(frame.latest), frame.position, frame.epoch) == (0, 0, 5, 1)
    assert (frame.stats.dropped, frame.stats.last_received_ns) == (0, None)
    frame.extend([make_trade(9, "TSLA")], received_ns=NOW)
    assert ids(frame.since(5)) == [9]
    assert frame.latest["symbol"].tolist() == ["TSLA"]


@settings(max_examples=50, deadline=None)
@given(
    maxlen=st.integers(1, 50),
    steps=st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["read", "clear", "none"]))),
)
def test_like_a_list(maxlen: int, steps: list[tuple[int, str]]) -> None:
    """Any order of appends, reads and clears gives what a plain list would."""
    frame = make_frame(maxlen=maxlen)
    model: list[int] = []
    appended = read_to = 0
    for count, action in steps:
        frame.extend([make_trade(appended + i, f"S{i}") for i in range(count)], received_ns=NOW)
        model = (model + list(range(appended, appended + count)))[-maxlen:]
        appended += count
        if action == "clear":
            frame.clear()
            model = []
        if action == "read":
            rows = frame.since(read_to)
            expected = [i for i in model if i >= read_to]
            assert ids(rows) == expected
            assert rows.attrs["missed"] == appended - read_to - len(expected)
            read_to = rows.attrs["position"]
    assert ids(frame.df) == model
    assert frame.position == appended


# -- the latest row per symbol -----------------------------------------------------------


def test_latest() -> None:
    """One row per symbol, the last that came, in the order symbols first occurred."""
    frame = make_frame([make_trade(i, "ABC"[i % 3]) for i in range(10)])
    assert frame.latest["symbol"].tolist() == ["A", "B", "C"]
    assert ids(frame.latest) == [9, 7, 8]
    assert [*frame.latest.columns] == [*frame.df.columns]
    assert frame.latest.index.dtype == frame.df.index.dtype


def test_latest_survives_retention() -> None:
    """A symbol that trades rarely keeps its row when retention has dropped it."""
    frame = make_frame([make_trade(0, "RARE")], maxlen=10)
    for i in range(1, 4_000, 100):
        frame.extend([make_trade(i + j) for j in range(100)], received_ns=NOW)
    assert "RARE" not in set(frame.df["symbol"])
    assert ids(frame.latest) == [0, 4_000]


def test_latest_changes() -> None:
    """A table asks for the symbols that changed since it last looked."""
    frame = make_frame([make_trade(i, "ABC"[i % 3]) for i in range(9)])
    seen = frame.latest_rows()
    assert (len(seen), seen.last) == (3, 9)
    assert len(frame.latest_rows(seen.last)) == 0
    frame.extend([make_trade(9, "B"), make_trade(10, "D"), make_trade(11, "B")], received_ns=NOW)
    changed = frame.latest_rows(seen.last)
    assert changed["trade_id"].tolist() == [11, 10]
    assert changed["symbol"].tolist() == [1, 3]
    assert changed.categories("symbol") == ("A", "B", "C", "D")
    assert changed.last == 12


def test_backfill_does_not_replace_newer_rows() -> None:
    """A row that fills a gap is the latest only if nothing newer is there."""
    frame = make_frame([make_trade(100, "A")])
    late = [make_trade(50, "A"), make_trade(60, "B")]
    frame.extend(late, received_ns=NOW, origin="backfill")
    assert ids(frame.latest) == [100, 60]
    frame.extend([make_trade(110, "A")], received_ns=NOW, origin="backfill")
    frame.extend([make_trade(105, "A")], received_ns=NOW)
    assert ids(frame.latest) == [105, 60]
    assert len(frame) == 5


# -- history and amendments, seen from outside -------------------------------------------


def cancel(i: int) -> CancelError[Any]:
    return CancelError(
        symbol="AAPL", exchange="V", trade_id=i, price=1.0, size=i, action="C", timestamp=NOW + i
    )


def test_readers_start_again_after_a_change() -> None:
    """A reader that goes by epoch and position sees every row that is there, each once."""
    frame = make_frame([make_trade(i) for i in (0, 1, 2, 7, 8)])
    first = frame.since(0)
    frame.fill([make_trade(i) for i in range(3, 7)], received_ns=NOW)
    second = frame.since(first.attrs["position"])
    assert second.attrs == {"position": 9, "missed": 0, "epoch": 1}
    assert second.attrs["epoch"] != first.attrs["epoch"]
    assert ids(frame.since(0)) == list(range(9))
    frame.extend([make_trade(9)], received_ns=NOW)
    assert ids(frame.since(9)) == [9]
    assert (frame.rows_since(9).epoch, frame.latest_rows(9)["trade_id"].tolist()) == (1, [9])
    frame.amend([cancel(9), cancel(99)], received_ns=NOW)
    assert (frame.epoch, frame.position) == (2, 10)
    assert [row["amended"] for _, row in frame.since(9).iterrows()] == ["canceled"]
    frame.amend([cancel(98)], received_ns=NOW)
    assert frame.epoch == 2


def test_views_see_the_symbols_that_changed() -> None:
    """After a fill `latest_rows` goes on by position like after any row."""
    frame = make_frame([make_trade(1, "A"), make_trade(2, "B"), make_trade(9, "A")])
    frame.fill([make_trade(5, "B"), make_trade(6, "C")], received_ns=NOW)
    seen = frame.latest_rows()
    assert (seen["trade_id"].tolist(), seen.last, seen.epoch) == ([9, 5, 6], 5, 1)
    frame.extend([make_trade(10, "C")], received_ns=NOW)
    changed = frame.latest_rows(seen.last)
    assert (changed["trade_id"].tolist(), changed.last) == ([10], 6)
    frame.fill([make_trade(7, "B")], received_ns=NOW)
    frame.extend([make_trade(11, "A")], received_ns=NOW)
    assert frame.latest_rows()["trade_id"].tolist() == [11, 7, 10]
    assert frame.latest_rows(7)["trade_id"].tolist() == [11]


def test_more_texts_than_a_byte_holds_by_a_fill() -> None:
    """Codes widen as with any row; rows held, `latest` and old snapshots keep their texts."""
    frame = make_frame([make_trade(i, f"S{i}", conditions=[f"c{i}"]) for i in range(0, 200, 2)])
    before = frame.df
    fill = [make_trade(i, f"S{i}", conditions=[f"c{i}"]) for i in range(1, 200, 2)]
    frame.fill(fill, received_ns=NOW)
    correction = Correction(
        symbol="S3",
        exchange="V",
        original_trade_id=3,
        original_price=1.0,
        original_size=3,
        corrected_trade_id=3,
        corrected_price=1.0,
        corrected_size=3,
        corrected_conditions=["new"],
        timestamp=NOW,
    )
    frame.amend([correction], received_ns=NOW)
    df = frame.df
    assert df["symbol"].tolist() == [f"S{i}" for i in range(200)]
    assert df["conditions"].tolist() == ["c0", "c1", "c2", "new", *(f"c{i}" for i in range(4, 200))]
    assert sorted(frame.latest["conditions"]) == sorted(df["conditions"])
    assert before["conditions"].tolist() == [f"c{i}" for i in range(0, 200, 2)]


def test_wait_counts_filled_rows() -> None:
    """Who waits for rows is woken by a fill too; what was sent twice does not count."""
    frame = make_frame([make_trade(1), make_trade(1)])
    with pytest.raises(TimeoutError, match="1 of 2"):
        frame.wait(2, timeout=0.01)
    feed = threading.Timer(0.02, lambda: frame.fill([make_trade(0)], received_ns=NOW))
    feed.start()
    frame.wait(2, timeout=10)
    feed.join()


def test_clear_and_what_is_known() -> None:
    """After `clear` rows can come again, and what was said of them is still true."""
    frame = make_frame([make_trade(i) for i in range(1, 4)])
    frame.amend([cancel(2)], received_ns=NOW)
    frame.clear()
    frame.extend([make_trade(2), make_trade(3)], received_ns=NOW)
    assert frame.df["amended"].tolist() == ["canceled", ""]
    assert (frame.epoch, frame.position, frame.stats.duplicates) == (2, 5, 0)


class _Interrupt:
    """Raises KeyboardInterrupt, once, at the n-th line that is run in `alpaca_nb/data`.

    Not at a `with`: there the interpreter sees to it that no signal comes between taking
    a lock and giving it back.
    """

    def __init__(self, line: int) -> None:
        self._left = line
        self.struck = False

    def __enter__(self) -> _Interrupt:
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _trace(self, frame: Any, event: str, arg: Any) -> Any:
        if "alpaca_nb/data/" not in frame.f_code.co_filename.replace("\\", "/"):
            return None
        code = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and not code.lstrip().startswith("with "):
            self._left -= 1
            if self._left < 0 and not self.struck:
                self.struck = True
                raise KeyboardInterrupt
        return self._trace


def _state(frame: LiveFrame) -> str:
    """All that a reader can see."""
    parts = (frame.snapshot(), frame.latest_rows())
    values = [part[column.name].tolist() for part in parts for column in part.columns]
    log = frame._rules.known.log._amendments
    return repr((values, log, frame.position, frame.snapshot().tally))


@pytest.mark.parametrize("channel", ["trades", "bars"])
@pytest.mark.parametrize("action", ["read", "read batches", "fill", "amend"])
def test_an_interrupt_anywhere_leaves_all_or_nothing(channel: str, action: str) -> None:
    """Ctrl-C at any line of a write, a fill or an amendment: it happened whole, or not at all.

    Rows that were handed in are written by the next reader, so there all is done in the end.
    """

    def make(i: int) -> Any:
        if channel == "trades":
            return make_trade(i)
        return Bar(
            symbol="AAPL", open=i, high=i, low=i, close=i, volume=i, timestamp=NOW + i % 1_000
        )

    def say(i: int) -> Any:
        if channel == "trades":
            return cancel(i)
        return UpdatedBar(**structs.asdict(make(1_000 + i)))

    def start() -> LiveFrame:
        frame = LiveFrame(channel, "*", maxlen=7, clock=ManualClock(NOW))
        frame.extend([make(i) for i in (1, 2, 3, 8, 9)], received_ns=NOW)
        frame.amend([say(4), say(2)], received_ns=NOW)
        again: list[Any] = [make(i) for i in (9, 4, 10, 2)]
        if action == "read":
            frame.extend(again, received_ns=NOW)
        if action == "read batches":
            frame.take(batch_of(again, np.full(4, NOW, np.int64), Lexicon()))
        return frame

    def act(frame: LiveFrame) -> None:
        if action.startswith("read"):
            frame.snapshot()
        elif action == "fill":
            frame.fill([make(i) for i in range(1, 9)], received_ns=NOW)
        else:
            frame.amend([say(i) for i in (1, 5, 9)], received_ns=NOW)

    before, after, line, seen = _state(start()), start(), 0, set()
    act(after)
    done = _state(after)
    while True:
        frame = start()
        with _Interrupt(line) as interrupt, contextlib.suppress(KeyboardInterrupt):
            act(frame)
        if not interrupt.struck:
            break
        state = _state(frame)
        assert state in (before, done), line
        seen.add(state == done)
        position = frame.position
        frame.extend([make(100)], received_ns=NOW)
        assert frame.position == position + 1
        line += 1
    assert line > 50
    assert seen == ({True} if action.startswith("read") else {False, True})


# -- what is still on its way ------------------------------------------------------------

READS = {
    "df": lambda frame: frame.df,
    "latest": lambda frame: frame.latest,
    "since": lambda frame: frame.since(0),
    "rows_since": lambda frame: frame.rows_since(0),
    "latest_rows": lambda frame: frame.latest_rows(),
    "snapshot": lambda frame: frame.snapshot(),
    "stats": lambda frame: frame.stats,
    "position": lambda frame: frame.position,
    "len": len,
    "epoch": lambda frame: frame.epoch,
    "amendments": lambda frame: frame.amendments,
    "gaps": lambda frame: frame.gaps,
    "gap_counts": lambda frame: frame.gap_counts,
    "wait": lambda frame: frame.wait(1, timeout=0),
    "fill": lambda frame: frame.fill([make_trade(1)], received_ns=NOW),
    "amend": lambda frame: frame.amend([cancel(2)], received_ns=NOW),
    "clear": lambda frame: frame.clear(),
    "close": lambda frame: frame.close(),
}


@pytest.mark.parametrize("read", READS.values(), ids=list(READS))
def test_who_feeds_it_is_asked_before_anything_is_read_or_changed(read: Any) -> None:
    """What still has to be decoded gets here first, once, on the thread that asks."""
    frame = make_frame()
    pulls: list[None] = []

    def pull() -> None:
        pulls.append(None)
        frame.extend([make_trade(1)], received_ns=NOW)
        frame.amend([cancel(2)], received_ns=NOW)
        assert frame.position == 1

    frame.pull = pull
    read(frame)
    assert len(pulls) == 1
    frame.pull = None
    assert frame.position == 1
    assert len(frame.amendments) == 1


def test_whoever_waits_does_not_ask_while_it_is_woken() -> None:
    """`wait` asks once, before it waits: the feed's thread may be about to wake it."""
    frame, pulls = make_frame(), []
    frame.pull = lambda: pulls.append(threading.get_ident())

    def feed() -> None:
        for i in range(1, 4):
            frame.extend([make_trade(i)], received_ns=NOW)

    timer = threading.Timer(0.02, feed)
    timer.start()
    frame.wait(3, timeout=10)
    timer.join()
    assert pulls == [threading.get_ident()]


def test_a_closed_frame_asks_no_more() -> None:
    """What comes after the end has no place here; a frame is closed even if asking failed."""
    frame, pulls = make_frame([make_trade(1)]), []

    def pull() -> None:
        pulls.append(None)
        raise RuntimeError("cannot decode")

    frame.pull = pull
    with pytest.raises(RuntimeError):
        frame.close()
    assert frame.closed
    assert ids(frame.df) == [1]
    assert len(pulls) == 1


def test_asking_may_fail_and_be_tried_again() -> None:
    """After an error or Ctrl-C while asking, the next read asks again."""
    frame = make_frame()

    def interrupted() -> None:
        raise KeyboardInterrupt

    frame.pull = interrupted
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            _ = frame.df
    frame.pull = lambda: frame.extend([make_trade(len(frame))], received_ns=NOW)
    assert [ids(frame.df), ids(frame.df)] == [[0], [0, 1]]


# -- statistics --------------------------------------------------------------------------


async def test_stats() -> None:
    """Rate and lag are those of the last ten seconds; a silent stream falls to zero."""
    clock = ManualClock(NOW)
    frame = LiveFrame("trades", "AAPL", clock=clock)
    assert (frame.stats.rate, frame.stats.lag_s, frame.stats.last_received_ns) == (0.0, None, None)
    for i in range(30):
        received = clock.now_ns()
        trades = [make_trade(10 * i + j, timestamp=received - 40_000_000) for j in range(10)]
        frame.extend(trades, received_ns=received)
        await clock.advance(1)
    stats = frame.stats
    assert stats.rate == pytest.approx(10, rel=0.11)
    assert stats.lag_s == pytest.approx(0.040)
    assert stats.last_received_ns == NOW + 29 * SECOND
    assert (stats.rows, stats.position) == (300, 300)
    await clock.advance(60)
    assert (frame.stats.rate, frame.stats.lag_s) == (0.0, None)


def test_the_first_rows_are_no_storm() -> None:
    """A stream that has only begun is not reported at thousands of rows a second."""
    frame = make_frame([make_trade(i) for i in range(20)], clock=ManualClock(NOW + 1_000_000))
    assert frame.stats.rate == 20


def test_rate_with_little_retention() -> None:
    """The rate is right also when less than ten seconds are held."""
    frame = make_frame(maxlen=100, clock=ManualClock(NOW))
    for i in range(1_000):
        frame.extend([make_trade(i)], received_ns=NOW - SECOND + i * 1_000_000)
    assert frame.stats.rate == pytest.approx(1_000, rel=0.01)


def test_no_lag_for_recordings_and_bars() -> None:
    """No lag is reported where the time stamp does not say when something was sent."""
    old = make_frame([make_trade(0, timestamp=NOW - 2 * 3600 * SECOND)], clock=ManualClock(NOW))
    assert old.stats.lag_s is None
    bars = LiveFrame("bars", "AAPL", clock=ManualClock(NOW))
    bar = Bar(symbol="AAPL", open=1, high=1, low=1, close=1, volume=1, timestamp=NOW - SECOND)
    bars.extend([bar], received_ns=NOW)
    assert bars.stats.lag_s is None


async def test_filled_rows_are_no_part_of_rate_and_lag() -> None:
    """Rows from history came at once and late; the stream's own pace and lag are told."""
    clock = ManualClock(NOW)
    frame = LiveFrame("trades", "AAPL", clock=clock)
    await clock.advance(100)
    start = clock.now_ns()
    for i in range(20):
        at = start - (20 - i) * SECOND // 2
        frame.extend([make_trade(i, timestamp=at - 40_000_000)], received_ns=at)
    before = frame.stats
    history = [make_trade(100 + i, timestamp=start - 40 * SECOND + i) for i in range(500)]
    history += [make_trade(1_000 + i, timestamp=start - SECOND + i) for i in range(500)]
    assert frame.fill(history, received_ns=start).added == 1_000
    stats = frame.stats
    assert (stats.rate, stats.lag_s) == (before.rate, before.lag_s) == (2, pytest.approx(0.04))
    assert (stats.rows, stats.backfilled, stats.last_received_ns) == (1_020, 1_000, start)
    only = LiveFrame("trades", "AAPL", clock=clock)
    only.fill(history, received_ns=start)
    assert (only.stats.rate, only.stats.lag_s) == (0.0, None)


def test_status() -> None:
    """A frame shows the state of the stream behind it, and that it has none."""
    assert LiveFrame("trades", "AAPL").status == StreamStatus(state="stopped", feed="")
    live = StreamStatus(state="live", feed="iex")
    assert LiveFrame("trades", "AAPL", status=lambda: live).status is live


# -- waiting and closing -----------------------------------------------------------------


def test_wait_returns_when_rows_are_there() -> None:
    """`wait` returns as soon as another thread has appended enough."""
    frame = make_frame([make_trade(0)])
    frame.wait(1, timeout=0)
    feed = threading.Thread(
        target=lambda: [frame.extend([make_trade(i)], received_ns=NOW) for i in range(1, 4)]
    )
    feed.start()
    frame.wait(4, timeout=10)
    feed.join()
    assert len(frame) == 4


def test_wait_times_out() -> None:
    """A timeout says what was waited for, and what the stream says about itself."""
    status = StreamStatus(state="waiting", feed="iex", detail="The server asked us to wait.")
    frame = LiveFrame("trades", "AAPL", status=lambda: status)
    with pytest.raises(TimeoutError, match=r"0 of 2 rows of LiveFrame\(trades: AAPL\).*asked us"):
        frame.wait(2, timeout=0.01)


def test_wait_ends_when_the_frame_is_closed() -> None:
    """Nobody waits for a stream that has ended; its error reaches who waits."""
    frame = make_frame([make_trade(0)])
    threading.Timer(0.02, frame.close).start()
    with pytest.raises(TimeoutError, match="it was closed"):
        frame.wait(2)
    broken = make_frame()
    broken.close(ConnectionLostError("The connection is gone."))
    with pytest.raises(ConnectionLostError):
        broken.wait(1)


def test_closed_frames_stay_readable() -> None:
    """Closing tells its owner once, ends appending, and leaves the rows."""
    closed: list[None] = []
    frame = LiveFrame("trades", "*", on_close=lambda: closed.append(None))
    frame.extend([make_trade(0)], received_ns=NOW)
    assert not frame.closed
    frame.close()
    frame.close()
    frame.extend([make_trade(1)], received_ns=NOW)
    assert (frame.closed, ids(frame.df), len(closed)) == (True, [0], 1)


# -- threads -----------------------------------------------------------------------------


def test_readers_beside_a_writer() -> None:
    """While one thread appends, others read rows that are whole, in order, and all there."""
    frame = make_frame(maxlen=3_000)
    total, done = [0], threading.Event()
    failures: list[str] = []

    def write() -> None:
        deadline, i = time.monotonic() + 1.0, 0
        while time.monotonic() < deadline:
            step = 1 + i % 40
            frame.extend(
                [make_trade(i + j, f"S{(i + j) % 7}") for j in range(step)], received_ns=NOW
            )
            i += step
        total[0] = i
        done.set()

    def read() -> None:
        position = 0
        while not done.is_set():
            rows, latest = frame.rows_since(position), frame.latest_rows()
            expected = np.arange(rows.first, rows.last)
            if (rows["trade_id"] != expected).any() or (rows["size"] != expected).any():
                failures.append(f"rows {rows!r}")
            if len(set((latest["trade_id"] % 7).tolist())) != len(latest):
                failures.append(f"latest {latest!r}")
            position = rows.last

    threads = [threading.Thread(target=each) for each in (write, read, read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert frame.position == total[0]
    assert ids(frame.df) == list(range(max(0, total[0] - 3_000), total[0]))


# -- display -----------------------------------------------------------------------------


def test_display_without_views() -> None:
    """Where nothing displays frames, a notebook shows their text, and views say why not."""
    frame = LiveFrame("quotes", ["AAPL"])
    bare = type("Bare", (LiveFrame,), dict.fromkeys(FACTORIES))
    assert bare("quotes", "AAPL")._repr_mimebundle_() == {"text/plain": repr(frame)}
    with pytest.raises(BadInputError, match=r"alpaca_nb\.view"):
        bare("quotes", "AAPL").chart()


FACTORIES = ("view_factory", "table_factory", "chart_factory")


def test_display_through_views(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is installed as a factory makes the views and is handed their options."""

    class View:
        def __init__(self, frame: LiveFrame, **options: Any) -> None:
            self.made_of = (frame, options)

        def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
            return {"text/plain": "a view"}

    for name in FACTORIES:
        monkeypatch.setattr(LiveFrame, name, lambda frame, **options: View(frame, **options))
    frame = LiveFrame("quotes", ["AAPL"])
    assert frame._repr_mimebundle_() == {"text/plain": "a view"}
    assert frame.table().made_of == (frame, {})
    assert frame.chart(symbol="AAPL").made_of == (frame, {"symbol": "AAPL"})
