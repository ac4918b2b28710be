"""A loss is one record, whatever becomes of it, and is told as a DataFrame."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpaca_nb.data.frame import LiveFrame
from alpaca_nb.data.gaps import Gap, GapLog
from alpaca_nb.data.status import GapCounts

NS = 1_790_000_000_000_000_000
COLUMNS = ["symbol", "start", "end", "state", "rows", "reason", "detail", "lost", "back"]


def make_gap(number: int, symbol: str = "AAPL", **values: Any) -> Gap:
    known = {"channel": "quotes", "start_ns": NS + number, "lost_ns": NS + number + 5}
    return Gap(number=number, symbol=symbol, **{**known, **values})


def numbers(log: GapLog) -> list[int]:
    return [gap.number for gap in log.gaps]


def test_a_frame_that_lost_nothing_has_no_gaps() -> None:
    """The DataFrame is empty, with the columns and types it will have."""
    frame = LiveFrame("quotes", ["AAPL"])
    assert frame.gaps.columns.tolist() == COLUMNS
    assert frame.gap_counts == GapCounts()
    frame_types = frame.gaps.dtypes
    frame.put_gaps([make_gap(1)])
    assert frame.gaps.dtypes.equals(frame_types)
    assert str(frame_types["start"]) == "datetime64[ns, America/New_York]"


def test_a_loss_is_one_row_whatever_becomes_of_it() -> None:
    """A record replaces the one with its number and keeps its place; times not known are NaT."""
    frame = LiveFrame("quotes", ["AAPL", "MSFT"])
    frame.put_gaps([make_gap(1, reason="The wire was cut."), make_gap(2, "MSFT")])
    assert frame.gaps["end"].isna().all()
    assert frame.gaps["back"].isna().all()
    assert frame.gap_counts == GapCounts(open=2)
    frame.put_gaps(
        [
            make_gap(
                1,
                state="repaired",
                end_ns=NS + 5_000_000_002,
                rows=7,
                reason="The wire was cut.",
                back_ns=NS + 9,
            )
        ]
    )
    gaps = frame.gaps
    assert gaps["symbol"].tolist() == ["AAPL", "MSFT"]
    assert gaps["state"].tolist() == ["repaired", "open"]
    assert gaps["start"][0] == pd.Timestamp(NS + 1, tz="America/New_York")
    assert (gaps["end"] - gaps["start"])[0] == pd.Timedelta(5_000_000_001)
    assert (gaps["lost"][0].value, gaps["back"][0].value) == (NS + 6, NS + 9)
    assert (gaps["rows"][0], gaps["reason"][0]) == (7, "The wire was cut.")
    assert frame.gap_counts == GapCounts(open=1, repaired=1)


def test_the_channel_comes_first_if_asked_for() -> None:
    """A table of several channels says of each row which it is."""
    log = GapLog()
    log.put(make_gap(1, channel="trades"))
    frame = log.to_frame(channel=True)
    assert frame.columns.tolist() == ["channel", *COLUMNS]
    assert frame["channel"].tolist() == ["trades"]


def test_a_closed_frame_misses_nothing() -> None:
    """What is closed on purpose has no gap."""
    frame = LiveFrame("quotes", ["AAPL"])
    frame.close()
    frame.put_gaps([make_gap(1)])
    assert frame.gaps.empty


def test_what_was_read_does_not_change() -> None:
    """A tuple of gaps stays as it is while states change."""
    log = GapLog()
    log.put(make_gap(1))
    before = log.gaps
    assert log.gaps is before
    log.put(make_gap(1, state="missed"))
    assert [gap.state for gap in before] == ["open"]
    assert [gap.state for gap in log.gaps] == ["missed"]


def test_those_repaired_first_are_let_go_first() -> None:
    """When there are too many records, the repaired ones go before any that is not."""
    log = GapLog(most=4)
    log.put_all(make_gap(i) for i in range(4))
    log.put(make_gap(2, state="repaired"))
    log.put(make_gap(1, state="repaired"))
    log.put(make_gap(1, state="missed"))
    log.put(make_gap(4))
    assert numbers(log) == [0, 1, 3, 4]
    log.put(make_gap(5))
    assert numbers(log) == [1, 3, 4, 5]
    assert (log.forgotten, len(log)) == (2, 4)
    # The open one that was let go is no longer counted; the repaired one was repaired.
    assert log.counts == GapCounts(open=3, repaired=1, missed=1)


def test_losses_of_a_stretch_of_time() -> None:
    """Both ends belong to a loss and to the question; one that lasts has no end."""
    log = GapLog(most=3)
    log.put_all(
        [
            make_gap(1, start_ns=10, end_ns=20),
            make_gap(2, start_ns=30),
            make_gap(3, "MSFT", start_ns=10, end_ns=20),
        ]
    )

    def found(start: int, end: int) -> list[int]:
        return [gap.number for gap in log.overlapping("AAPL", start, end)]

    assert [found(0, 9), found(0, 10), found(20, 29)] == [[], [1], [1]]
    assert [found(20, 30), found(21, 29), found(99, 99)] == [[1, 2], [], [2]]
    assert log.overlapping("TSLA", 0, 99) == ()
    log.put(make_gap(4, start_ns=40))
    assert found(0, 99) == [2, 4]


@given(st.lists(st.tuples(st.integers(0, 12), st.sampled_from(["open", "waiting", "repaired"]))))
def test_counts_are_those_of_the_records(steps: list[tuple[int, Any]]) -> None:
    """Whatever is put, the counts say what the records say as long as none is let go."""
    log, model = GapLog(), dict[int, Gap]()
    for number, state in steps:
        gap = make_gap(number, state=state)
        log.put(gap)
        model[number] = gap
    states = [gap.state for gap in model.values()]
    assert log.gaps == tuple(model.values())
    assert log.counts == GapCounts(
        open=states.count("open"),
        pending=states.count("waiting"),
        repaired=states.count("repaired"),
    )


@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["open", "repaired"])), max_size=60),
    st.integers(1, 6),
)
def test_memory_is_bounded(steps: list[tuple[int, Any]], most: int) -> None:
    """Never more records than allowed, and none of them is lost from the index by symbol."""
    log = GapLog(most=most)
    for number, state in steps:
        log.put(make_gap(number, f"S{number % 3}", state=state))
        assert len(log) <= most
    found = [gap for i in range(3) for gap in log.overlapping(f"S{i}", NS, NS + 99)]
    assert sorted(gap.number for gap in found) == sorted(numbers(log))


def test_every_symbol_at_once() -> None:
    """Ten thousand losses at once, again and again, cost a few milliseconds each time."""
    log = GapLog()
    gaps = [make_gap(i, f"S{i}") for i in range(10_000)]
    fastest = float("inf")
    for state in ("open", "repairing", "repaired", "open"):
        started = time.perf_counter()
        log.put_all([replace(gap, state=state) for gap in gaps])
        fastest = min(fastest, time.perf_counter() - started)
    assert log.counts == GapCounts(open=10_000)
    assert fastest < 0.5


def test_letting_go_stays_cheap() -> None:
    """A full log takes new records as fast as an empty one."""
    log = GapLog(most=20_000)
    log.put_all(make_gap(i, f"S{i % 100}", state="repaired") for i in range(20_000))
    started = time.perf_counter()
    log.put_all(make_gap(i, f"S{i % 100}") for i in range(20_000, 60_000))
    assert time.perf_counter() - started < 5
    assert numbers(log)[0] == 40_000


@pytest.mark.parametrize("read", ["gaps", "counts"])
def test_readers_beside_a_writer(read: str) -> None:
    """Readers on other threads see whole batches while one thread writes."""
    log, done = GapLog(), threading.Event()
    failures: list[object] = []

    def write() -> None:
        for round_ in range(60):
            log.put_all(make_gap(round_ * 50 + i) for i in range(50))
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        seen = len(log.gaps) if read == "gaps" else log.counts.open
        if seen % 50:
            failures.append(seen)
    writer.join()
    assert not failures
