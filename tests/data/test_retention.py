"""Retention by time: rows go in their order, by what they say of their time, and memory follows."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpaca_nb.data.columns import Column, ColumnStore, Kind
from alpaca_nb.data.frame import LiveFrame
from alpaca_nb.data.retention import keep_ns
from alpaca_nb.errors import BadInputError
from alpaca_nb.wire.messages import CancelError, Trade

NOW = 1_790_000_000_000_000_000
SECOND = 1_000_000_000
HOUR = 3_600 * SECOND


def make_trade(i: int, at: int, symbol: str = "AAPL") -> Trade[int]:
    """Trade `i`, `at` seconds from the beginning."""
    return Trade(
        symbol=symbol,
        trade_id=i,
        exchange="V",
        price=100 + i / 4,
        size=i,
        conditions=[],
        tape="C",
        timestamp=NOW + at * SECOND,
    )


def make_frame(keep: Any = "1h", **options: Any) -> LiveFrame:
    return LiveFrame("trades", "*", keep=keep, **options)


def put(frame: LiveFrame, *trades: Trade[int], at: int | None = None) -> None:
    """Let trades come at some second: by default when they happen."""
    for trade in trades:
        received_ns = trade.timestamp if at is None else NOW + at * SECOND
        frame.extend([trade], received_ns=received_ns)


def ids(frame: LiveFrame) -> list[int]:
    return frame.df["trade_id"].tolist()


# -- what may be said --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keep", "seconds"),
    [
        ("1h", 3_600),
        ("90 s", 90),
        ("15min", 900),
        ("15m", 900),
        ("1.5 Hours", 5_400),
        ("2d", 172_800),
        (dt.timedelta(minutes=5), 300),
        (pd.Timedelta("1h") + pd.Timedelta(1, "ns"), 3_600 + 1e-9),
        (np.timedelta64(3, "m"), 180),
        (60, 60),
        (0.5, 0.5),
        (np.float64(2), 2),
        (None, None),
    ],
)
def test_lengths(keep: Any, seconds: float | None) -> None:
    """Texts, timedeltas and seconds are lengths of time."""
    assert keep_ns(keep) == (None if seconds is None else round(seconds * 1e9))


@pytest.mark.parametrize(
    "keep",
    [
        0, -1, "0h", "", "1", "h", "an hour", "-1h", "1h30", "1 month", True, [1], b"1h",
        float("nan"), float("inf"), -0.5, 1e300, 10**400, 1j, np.complex128(1), "1M",
        "9e9d", "9" * 400 + "d",
        dt.timedelta(0), dt.timedelta(hours=-1), np.timedelta64("NaT"), np.timedelta64(1, "Y"),
        pd.NaT,
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_length_is_refused(keep: Any) -> None:
    """Nonsense, and what would keep nothing, is refused with what is allowed."""
    with pytest.raises(BadInputError, match="'15min', '1h'"):
        make_frame(keep)


# -- which rows go -----------------------------------------------------------------------


def test_rows_older_than_that_go_when_newer_ones_come() -> None:
    """An hour before the newest time stamp is kept, to the nanosecond; counts stay true."""
    frame = make_frame()
    put(frame, make_trade(0, 0), make_trade(1, 1), make_trade(2, 3_599))
    assert ids(frame) == [0, 1, 2]
    put(frame, make_trade(3, 3_600))
    assert ids(frame) == [0, 1, 2, 3]
    put(frame, make_trade(4, 3_601))
    assert ids(frame) == [1, 2, 3, 4]
    put(frame, make_trade(5, 20_000))
    assert ids(frame) == [5]
    assert (frame.stats.dropped, frame.position, len(frame)) == (5, 6, 1)
    assert frame.since(2).attrs["missed"] == 3
    assert frame.latest["trade_id"].tolist() == [5]


def test_an_idle_frame_keeps_what_it_has() -> None:
    """Only newer rows push old ones out, not a clock."""
    frame = make_frame(1)
    put(frame, make_trade(0, 0))
    assert ids(frame) == ids(frame) == [0]


def test_rows_that_come_late() -> None:
    """A late row goes after those before it; a batch of late ones pushes nothing out."""
    frame = make_frame(10)
    put(frame, make_trade(0, 100), make_trade(1, 70), make_trade(2, 101))
    assert ids(frame) == [0, 1, 2]
    put(frame, make_trade(3, 20), at=102)
    assert ids(frame) == [0, 1, 2, 3]
    put(frame, make_trade(4, 111))
    assert ids(frame) == [2, 3, 4]
    put(frame, make_trade(5, 112))
    assert ids(frame) == [4, 5]


def test_a_time_stamp_from_the_future() -> None:
    """A wrong time stamp neither pushes everything out nor stays for ever."""
    frame = make_frame(10)
    put(frame, make_trade(0, 100))
    put(frame, make_trade(1, 10_000_000), at=101)
    assert ids(frame) == [0, 1]
    put(frame, make_trade(2, 111))
    assert ids(frame) == [1, 2]
    put(frame, make_trade(3, 112))
    assert ids(frame) == [2, 3]


def test_a_tape_from_the_past_goes_by_its_own_time() -> None:
    """A recording played fast keeps an hour of its own day, not what came within an hour."""
    frame = make_frame()
    put(frame, *(make_trade(i, 60 * i) for i in range(200)), at=10**6)
    assert ids(frame) == list(range(139, 200))


def test_together_with_a_number_of_rows() -> None:
    """Whichever of the two limits is reached first counts."""
    frame = make_frame(10, maxlen=5)
    put(frame, *(make_trade(i, i) for i in range(8)))
    assert ids(frame) == [3, 4, 5, 6, 7]
    put(frame, make_trade(8, 16))
    assert ids(frame) == [6, 7, 8]


def test_latest_survives() -> None:
    """The last row of a symbol is known also if time has dropped it, and can be amended."""
    frame = make_frame(1)
    put(frame, make_trade(0, 0, "RARE"), *(make_trade(i, i) for i in range(1, 40)))
    assert frame.latest["trade_id"].tolist() == [0, 39]
    said = CancelError(
        symbol="RARE", exchange="V", trade_id=0, price=1.0, size=1, action="C", timestamp=NOW
    )
    frame.amend([said], received_ns=NOW)
    assert frame.latest["amended"].tolist() == ["canceled", ""]


def test_clear() -> None:
    """After `clear` an older time may begin."""
    frame = make_frame(10)
    put(frame, make_trade(0, 1_000))
    frame.clear()
    put(frame, make_trade(1, 1), make_trade(2, 2))
    assert ids(frame) == [1, 2]


def test_history_that_is_too_old_is_not_taken_in() -> None:
    """A fill adds what retention would keep; it may be what is newest itself."""
    frame = make_frame(100)
    put(frame, make_trade(200, 200), make_trade(210, 210))
    filled = frame.fill(
        [make_trade(i, i) for i in (50, 109, 110, 150, 205)], received_ns=NOW + 211 * SECOND
    )
    assert (filled.added, dict(filled.rows), ids(frame)) == (
        3,
        {"AAPL": 3},
        [110, 150, 200, 205, 210],
    )
    assert (frame.stats.backfilled, frame.stats.dropped, frame.position) == (3, 0, 5)
    filled = frame.fill([make_trade(i, i) for i in (207, 208, 306)], received_ns=NOW + HOUR)
    assert (filled.added, ids(frame)) == (3, [207, 208, 210, 306])
    assert (frame.stats.dropped, frame.position) == (4, 8)
    assert frame.latest["trade_id"].tolist() == [306]


def test_a_fill_of_an_empty_frame() -> None:
    """Of history alone, too, the last hour is kept."""
    frame = make_frame()
    filled = frame.fill([make_trade(i, 60 * i) for i in range(100)], received_ns=NOW + 2 * HOUR)
    assert (filled.added, ids(frame)) == (61, list(range(39, 100)))


COLUMNS = (
    Column("timestamp", Kind.TIME),
    Column("symbol", Kind.CATEGORY),
    Column("received", Kind.TIME),
)


@settings(max_examples=150, deadline=None)
@given(
    maxlen=st.integers(1, 40),
    keep=st.integers(1, 30),
    batches=st.lists(
        st.lists(st.tuples(st.integers(-5, 60), st.integers(-5, 60)), max_size=50), max_size=20
    ),
)
def test_like_a_list(maxlen: int, keep: int, batches: list[list[tuple[int, int]]]) -> None:
    """Any times in any order leave what going through a plain list would."""
    store = ColumnStore(COLUMNS, maxlen=maxlen, keep_ns=keep)
    model: list[tuple[int, int]] = []
    newest, position, seen = -(10**9), 0, []
    for batch in batches:
        times = [time for time, _ in batch]
        received = [came for _, came in batch]
        texts = [f"S{position + i}" for i in range(len(batch))]
        store.append([store.encode(i, v) for i, v in enumerate((times, texts, received))])
        model, position = (model + batch)[-maxlen:], position + len(batch)
        newest = max([newest, *(min(row) for row in batch)])
        while model and min(model[0]) < newest - keep:
            model.pop(0)
        seen.append((store.snapshot(), model[:], position))
    for held, rows, last in seen:
        got = zip(held["timestamp"].tolist(), held["received"].tolist(), strict=True)
        assert list(got) == rows
        assert (held.last, held.first, held.dropped) == (last, last - len(rows), last - len(rows))
        names = held.categories("symbol")
        assert [names[code] for code in held["symbol"]] == [
            f"S{i}" for i in range(held.first, held.last)
        ]


def test_memory_follows() -> None:
    """After a storm that time has dropped, the block is as small as what is held."""
    store = ColumnStore(COLUMNS, maxlen=1_000_000, keep_ns=1_000)
    sizes = []
    for i, step in [(i, 1) for i in range(100)] + [(100 + i, 1_000) for i in range(40)]:
        rows = 1_000 if step == 1 else 10
        times = np.full(rows, i * step, np.int64)
        store.append([times, store.encode(1, ["A"] * rows), times])
        held = store.snapshot()
        sizes.append(held._block.capacity)
        assert i == 100 or held._stop <= 2 * len(held) + 20_000
    assert max(sizes) > 100_000
    assert sizes[-1] < 20_000
