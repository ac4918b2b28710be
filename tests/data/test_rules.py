"""History that fills gaps, amendments, and what is sent twice: frames end up as the truth is."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from alpaca_nb.data.frame import Fill, LiveFrame
from alpaca_nb.wire.messages import (
    Bar,
    CancelError,
    Correction,
    DailyBar,
    Message,
    Quote,
    Trade,
    UpdatedBar,
)

NOW = 1_790_000_000_000_000_001
MINUTE = 60_000_000_000
DAY = 86_400_000_000_000
VOID = {"canceled", "error", "incorrect"}


def make_trade(i: int, symbol: str = "AAPL", **changes: Any) -> Trade[int]:
    trade = Trade(
        symbol=symbol,
        trade_id=i,
        exchange="V",
        price=100 + i / 4,
        size=i,
        conditions=["@"],
        tape="C",
        timestamp=NOW + i,
    )
    return structs.replace(trade, **changes) if changes else trade


def make_quote(i: int, symbol: str = "AAPL", *, at: int | None = None) -> Quote[int]:
    when = NOW + i if at is None else at
    return Quote(symbol=symbol, bid_price=i, ask_price=i + 0.5, bid_size=i, timestamp=when)


def make_bar(minute: int, symbol: str = "AAPL", *, trades: int = 10, kind: Any = Bar) -> Any:
    return kind(
        symbol=symbol,
        open=1.0,
        high=2.0,
        low=0.5,
        close=1 + trades / 100,
        volume=100 * trades,
        trade_count=trades,
        vwap=1.25,
        timestamp=NOW // MINUTE * MINUTE + minute * MINUTE,
    )


def correct(trade: Trade[int], number: int, **changes: Any) -> Correction[int]:
    """The trade's number becomes another one, and its price 99."""
    correction = Correction(
        symbol=trade.symbol,
        exchange=trade.exchange,
        original_trade_id=trade.trade_id,
        original_price=trade.price,
        original_size=trade.size,
        original_conditions=trade.conditions,
        corrected_trade_id=number,
        corrected_price=99.0,
        corrected_size=trade.size + 5,
        corrected_conditions=["@", "Z"],
        timestamp=trade.timestamp + 1_000,
    )
    return structs.replace(correction, **changes) if changes else correction


def cancel(trade: Trade[int], action: str = "C", **changes: Any) -> CancelError[int]:
    message = CancelError(
        symbol=trade.symbol,
        trade_id=trade.trade_id,
        exchange=trade.exchange,
        price=trade.price,
        size=trade.size,
        action=action,
        timestamp=trade.timestamp + 1_000,
    )
    return structs.replace(message, **changes) if changes else message


def make_frame(messages: Sequence[Message[Any]] = (), **options: Any) -> LiveFrame:
    channels: dict[Any, str] = {Quote: "quotes", Bar: "bars", DailyBar: "daily_bars"}
    channel = options.pop("channel", channels.get(type(messages[0]) if messages else None))
    frame = LiveFrame(channel or "trades", "*", **options)
    frame.extend(messages, received_ns=NOW)
    return frame


def fill(frame: LiveFrame, messages: Sequence[Message[Any]], **options: Any) -> Fill:
    return frame.fill(messages, received_ns=NOW + 1, **options)


def amend(frame: LiveFrame, *messages: Message[Any]) -> None:
    frame.amend(messages, received_ns=NOW + 2)


def ids(frame: LiveFrame) -> list[int]:
    return frame.df["trade_id"].tolist()


def labels(frame: LiveFrame) -> list[str]:
    return frame.df["amended"].tolist()


def records(frame: LiveFrame) -> list[tuple[Any, ...]]:
    """Every field of the rows but how they came here."""
    df = frame.df.drop(columns=["received", "source"]).reset_index()
    return list(df.astype({"timestamp": "int64"}).itertuples(index=False, name=None))


def as_record(message: Message[Any], *, amended: str | None = None) -> tuple[Any, ...]:
    """A message as `records` tells it."""
    frame = make_frame([message])
    (record,) = records(frame)
    return record if amended is None else (*record[:-1], amended)


# -- history -----------------------------------------------------------------------------


def test_missing_rows_are_put_where_they_belong() -> None:
    """A hole is filled in the order of time, and each row says how it came."""
    frame = make_frame([make_trade(i) for i in (1, 2, 3, 8, 9)])
    filled = fill(frame, [make_trade(i) for i in range(2, 9)])
    assert filled == Fill(added=4, duplicates=3, rows={"AAPL": 4})
    assert ids(frame) == list(range(1, 10))
    assert frame.df["source"].tolist() == ["live"] * 3 + ["backfill"] * 4 + ["live"] * 2
    assert set(frame.df["received"][3:7]) == {pd.Timestamp(NOW + 1, tz="UTC")}
    assert (frame.position, frame.epoch, frame.stats.backfilled) == (9, 1, 4)


def test_several_symbols_at_once() -> None:
    """Messages of several symbols, one after the other, are merged into one order of time."""
    frame = make_frame([make_trade(1, "A"), make_trade(2, "B"), make_trade(9, "A")])
    filled = fill(frame, [make_trade(i, "A") for i in (1, 3, 5)] + [make_trade(4, "B")])
    assert ids(frame) == [1, 2, 3, 4, 5, 9]
    assert filled.rows == {"A": 2, "B": 1}


def test_nothing_new_changes_nothing() -> None:
    """What is here already leaves rows, positions and epoch as they are."""
    frame = make_frame([make_trade(i) for i in range(5)])
    assert fill(frame, [make_trade(i) for i in range(1, 5)]) == Fill(duplicates=4)
    assert fill(frame, []) == Fill()
    assert (frame.epoch, frame.position, frame.stats.duplicates) == (0, 5, 0)


def test_rows_behind_all_others_are_only_appended() -> None:
    """What stands behind the rows held takes nothing back that was read."""
    frame = make_frame([make_trade(1)])
    assert fill(frame, [make_trade(2), make_trade(3)]).added == 2
    assert (frame.epoch, ids(frame)) == (0, [1, 2, 3])
    empty = make_frame(channel="trades")
    fill(empty, [make_trade(2), make_trade(3)])
    assert (empty.epoch, ids(empty), ids_of_latest(empty)) == (0, [2, 3], [3])


def ids_of_latest(frame: LiveFrame) -> list[int]:
    return frame.latest["trade_id"].tolist()


def test_live_rows_keep_their_order() -> None:
    """Rows that came out of order stay so; a new one stands before the first that is younger."""
    frame = make_frame([make_trade(1), make_trade(7), make_trade(3), make_trade(9)])
    fill(frame, [make_trade(5), make_trade(8)])
    assert ids(frame) == [1, 5, 7, 3, 8, 9]


def test_filled_rows_are_the_latest_only_where_nothing_newer_is() -> None:
    """`latest` follows a fill by the order in which the rows then stand."""
    frame = make_frame([make_trade(1, "A"), make_trade(9, "A"), make_trade(2, "B")])
    fill(frame, [make_trade(5, "A"), make_trade(6, "B"), make_trade(7, "C")])
    assert dict(zip(frame.latest["symbol"], ids_of_latest(frame), strict=True)) == {
        "A": 9,
        "B": 6,
        "C": 7,
    }
    frame.extend([make_trade(11, "B")], received_ns=NOW)
    assert ids_of_latest(frame) == [9, 11, 7]


def test_snapshots_of_before_stay() -> None:
    """Who read before a fill or an amendment keeps what was read."""
    frame = make_frame([make_trade(i) for i in (1, 2, 8, 9)])
    before, seen = frame.snapshot(), frame.df
    fill(frame, [make_trade(5)])
    amend(frame, cancel(make_trade(1)))
    frame.extend([make_trade(10)], received_ns=NOW)
    assert before["trade_id"].tolist() == seen["trade_id"].tolist() == [1, 2, 8, 9]
    assert set(seen["amended"]) == {""}
    assert ids(frame) == [1, 2, 5, 8, 9, 10]


def test_a_full_frame_keeps_its_newest_rows() -> None:
    """Rows older than all held are not taken in; others push the oldest out, which are counted."""
    frame = make_frame([make_trade(i) for i in range(10, 20)], maxlen=10)
    assert fill(frame, [make_trade(i) for i in range(5)]) == Fill()
    assert (frame.epoch, ids(frame)) == (0, list(range(10, 20)))
    between = [make_trade(100 + i, timestamp=NOW + 12) for i in range(3)]
    filled = fill(frame, [make_trade(3), *between])
    assert (filled.added, filled.rows) == (3, {"AAPL": 3})
    assert ids(frame) == [100, 101, 102, *range(13, 20)]
    assert (frame.stats.dropped, frame.stats.backfilled) == (3, 3)
    rows = frame.snapshot()
    assert (rows.first, rows.last, rows.last - rows.first) == (3, 13, 10)


def test_a_frame_that_becomes_full() -> None:
    """Of more rows than fit, the newest are kept, whether they were held or not."""
    frame = make_frame([make_trade(i) for i in range(0, 20, 2)], maxlen=12)
    filled = fill(frame, [make_trade(i) for i in range(1, 20, 2)])
    assert ids(frame) == list(range(8, 20))
    assert (filled.added, frame.stats.dropped, frame.position) == (6, 4, 16)


def test_quotes_are_told_by_the_whole_record() -> None:
    """Two quotes of one time are two unless all is equal, and then as often as history has it."""
    ms = NOW // 1_000_000 * 1_000_000
    held, other = make_quote(1, at=ms), make_quote(2, at=ms)
    frame = make_frame([held, make_quote(9)])
    assert fill(frame, [held, held, other]).added == 2
    assert frame.df["bid_price"].tolist() == [1, 1, 2, 9]
    assert fill(frame, [held, held, other]) == Fill(duplicates=3)


def test_what_cannot_be_stored_costs_no_other() -> None:
    """A row of history that no column can hold is counted, and marks stay with their trades."""
    frame = make_frame([make_trade(9)])
    bad: list[Any] = [make_trade(1, trade_id=-1), make_trade(2), make_trade(3), make_trade(4)]
    filled = fill(frame, bad, updates={0: "canceled", 2: "corrected", 3: "canceled"})
    assert (filled.added, ids(frame), labels(frame)) == (2, [2, 3, 9], ["", "corrected", ""])
    assert frame.stats.rejected == 1


def test_a_closed_frame_takes_nothing() -> None:
    """After `close` neither history nor amendments change anything."""
    frame = make_frame([make_trade(1)])
    frame.close()
    assert fill(frame, [make_trade(2)]) == Fill()
    amend(frame, cancel(make_trade(1)))
    assert (ids(frame), labels(frame)) == ([1], [""])


def test_other_channels_are_filled_by_record() -> None:
    """Any channel can be filled; several records of one day are several rows."""
    frame = make_frame([make_bar(0, kind=DailyBar), make_bar(0, trades=11, kind=DailyBar)])
    assert "amended" not in frame.df
    filled = fill(frame, [make_bar(0, trades=t, kind=DailyBar) for t in (10, 11, 12)])
    assert (filled.added, len(frame)) == (1, 3)


def test_rows_that_history_lacks() -> None:
    """Rows the stream brought in the overlap and history has not say that it lags behind."""
    frame = make_frame([make_trade(i, "AB"[i % 2]) for i in range(10)])
    history = [make_trade(i, "AB"[i % 2]) for i in (5, 6)]
    span = (NOW + 5, NOW + 9)
    assert fill(frame, history, overlap=span).unknown == 3
    assert fill(frame, history, overlap=span, symbols=["A"]).unknown == 1
    assert fill(frame, history, overlap=span, symbols=["TSLA"]).unknown == 0
    assert fill(frame, history).unknown == 0
    assert fill(frame, [], overlap=span).unknown == 5
    # What was filled in is not what the stream brought, and amended rows may be left out.
    fill(frame, [make_trade(7, "Z", timestamp=NOW + 8)])
    amend(frame, cancel(make_trade(9, "B")))
    assert fill(frame, history, overlap=span).unknown == 2


@pytest.mark.parametrize("make", [make_quote, make_bar])
def test_rows_that_history_lacks_of_other_channels(make: Any) -> None:
    """The same for quotes by record, and for bars by minute whatever their values."""
    frame = make_frame([make(i) for i in range(1, 5)])
    whole = (0, NOW + 10 * MINUTE)
    assert fill(frame, [make(1), make(3)], overlap=whole).unknown == 2


Ticks = list[tuple[int, str]]


@st.composite
def losses(draw: st.DrawFn) -> tuple[Ticks, list[bool], list[tuple[int, int]], int]:
    """Times and symbols of all there was, what of it arrived, spans of history, retention."""
    steps = draw(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("ABC")), max_size=40))
    times = list(itertools.accumulate(step for step, _ in steps))
    ticks = [(time, symbol) for time, (_, symbol) in zip(times, steps, strict=True)]
    arrived = draw(st.lists(st.booleans(), min_size=len(ticks), max_size=len(ticks)))
    last = times[-1] if times else 0
    span = st.tuples(st.integers(0, last), st.integers(0, last)).map(sorted).map(tuple)
    return ticks, arrived, draw(st.lists(span, max_size=4)), draw(st.sampled_from([3, 10, 100]))


@settings(max_examples=150, deadline=None)
@given(losses(), st.sampled_from(["trades", "quotes", "bars"]), st.booleans(), st.randoms())
def test_a_filled_frame_is_the_truth(
    loss: tuple[Ticks, list[bool], list[tuple[int, int]], int],
    channel: str,
    in_order: bool,
    random: Any,
) -> None:
    """Whatever was lost and whatever overlapping history fills it, the rows are all there were.

    Rows that arrived keep their order, those filled in stand in time, positions count all.
    """
    ticks, arrived, spans, maxlen = loss

    def make(i: int) -> Any:
        time, symbol = ticks[i]
        if channel == "quotes":
            # Few values and times of milliseconds: equal records happen.
            return make_quote(i % 3, symbol, at=(NOW + time * 1_000_000) // 1_000_000 * 1_000_000)
        if channel == "bars":
            return make_bar(i, symbol)
        return make_trade(i + 1, symbol, timestamp=NOW + time)

    truth = [make(i) for i in range(len(ticks))]
    live = [message for message, came in zip(truth, arrived, strict=True) if came]
    if not in_order:
        random.shuffle(live)

    def told(messages: list[Any]) -> list[tuple[Any, ...]]:
        return records(make_frame(messages, channel=channel))

    frame = LiveFrame(channel, "*", maxlen=maxlen)
    for message in live:
        frame.extend([message], received_ns=NOW)
        if random.random() < 0.3:
            len(frame)
    expected = Counter(told(live))
    for first, last in [*spans, (0, ticks[-1][0] if ticks else 0)]:
        some = [m for m, (time, _) in zip(truth, ticks, strict=True) if first <= time <= last]
        before = frame.position
        filled = fill(frame, sorted(some, key=lambda message: message.symbol))
        assert frame.position == before + filled.added
        assert filled.added == sum(filled.rows.values())
        expected |= Counter(told(some))
        assert len(frame) == min(sum(expected.values()), maxlen) or frame.stats.dropped
    if maxlen == 100:
        assert Counter(records(frame)) == Counter(told(truth)) == expected
    held = frame.df
    rows = zip(records(frame), held["source"], strict=True)
    kept = [row for row, source in rows if source == "live"]
    assert kept == told(live)[len(live) - len(kept) :]
    if in_order:
        assert held.index.is_monotonic_increasing
    if in_order and maxlen == 100:
        last_of_each = held.groupby("symbol", observed=True).tail(1)
        assert sorted(_positions(frame.latest)) == sorted(_positions(last_of_each))


def _positions(frame: pd.DataFrame) -> list[tuple[Any, ...]]:
    return list(frame.reset_index().astype(str).itertuples(index=False, name=None))


# -- what is said of trades --------------------------------------------------------------


def test_a_correction_changes_the_row() -> None:
    """The row gets the right values and stays where it is; what it was is on record."""
    frame = make_frame([make_trade(i) for i in range(1, 5)])
    amend(frame, correct(make_trade(2), 77))
    row = frame.df.iloc[1]
    assert (row["trade_id"], row["price"], row["size"]) == (77, 99.0, 7)
    assert (row["conditions"], row["amended"], row["source"]) == ("@,Z", "corrected", "live")
    assert row.name == pd.Timestamp(NOW + 2, tz="UTC")
    assert (frame.epoch, frame.position, frame.stats.amended) == (1, 4, 1)
    (told,) = frame.amendments.to_dict("records")
    assert (told["kind"], told["trade_id"], told["matched"]) == ("corrected", 2, True)
    assert (told["old_price"], told["old_size"]) == (100.5, 2)
    assert (told["new_price"], told["new_size"]) == (99.0, 7)
    assert told["timestamp"] == row.name
    assert told["time"] == pd.Timestamp(NOW + 2, tz="UTC")


@pytest.mark.parametrize(("action", "label"), [("C", "canceled"), ("E", "error"), ("X", "error")])
def test_a_cancelled_trade_stays_and_says_so(action: str, label: str) -> None:
    """The values stay as they were reported; the column tells that they do not count."""
    frame = make_frame([make_trade(i) for i in range(1, 5)])
    amend(frame, cancel(make_trade(3), action))
    assert records(frame)[2] == as_record(make_trade(3), amended=label)
    told = frame.amendments.iloc[0]
    assert (told["kind"], told["new_size"], told["matched"]) == (label, 0, True)
    assert pd.isna(told["new_price"])


def test_amendments_of_one_call_cost_one_rewrite() -> None:
    """Readers start again once, however many rows of one message change."""
    frame = make_frame([make_trade(i) for i in range(1, 9)])
    amend(frame, *(cancel(make_trade(i)) for i in range(1, 9)))
    assert (frame.epoch, set(labels(frame)), frame.stats.amended) == (1, {"canceled"}, 8)


def test_staged_rows_are_amended_too() -> None:
    """A correction finds its trade also in the moment after it came."""
    frame = make_frame()
    frame.extend([make_trade(1)], received_ns=NOW)
    amend(frame, cancel(make_trade(1)))
    assert labels(frame) == ["canceled"]


def test_the_same_word_twice_is_one() -> None:
    """A repeated amendment changes nothing and is on record once."""
    frame = make_frame([make_trade(1), make_trade(2)])
    for _ in range(3):
        amend(frame, correct(make_trade(1), 77), cancel(make_trade(2)), cancel(make_trade(9)))
    assert (frame.epoch, frame.stats.amended, len(frame.amendments)) == (1, 2, 3)
    assert frame.amendments["matched"].tolist() == [True, True, False]
    assert frame.amendments["old_price"].tolist()[0] == 100.25


@pytest.mark.parametrize("late", ["extend", "fill"])
def test_an_amendment_waits_for_its_trade(late: str) -> None:
    """What was said of a trade that is not here is true of it when it comes."""
    frame = make_frame([make_trade(9)])
    amend(frame, correct(make_trade(1), 77), cancel(make_trade(2)), cancel(make_trade(5), "E"))
    assert (frame.epoch, set(frame.amendments["matched"])) == (0, {False})
    trades = [make_trade(i) for i in range(1, 4)]
    if late == "fill":
        fill(frame, trades)
        assert ids(frame) == [77, 2, 3, 9]
    else:
        frame.extend(trades, received_ns=NOW)
        assert ids(frame) == [9, 77, 2, 3]
    assert Counter(labels(frame)) == {"corrected": 1, "canceled": 1, "": 2}
    assert frame.amendments["matched"].tolist() == [True, True, False]
    assert frame.amendments["timestamp"].tolist()[0] == pd.Timestamp(NOW + 1, tz="UTC")
    assert frame.stats.amended == 2


def test_numbers_belong_to_an_exchange_a_symbol_and_a_day() -> None:
    """A correction does not reach a trade that happens to have the same number."""
    others = [
        make_trade(1, "MSFT"),
        make_trade(1, exchange="Q"),
        make_trade(1, timestamp=NOW - DAY),
        make_trade(1, timestamp=NOW + DAY),
    ]
    frame = make_frame(others)
    amend(frame, cancel(make_trade(1)))
    fill(frame, [make_trade(1, timestamp=NOW + 2 * DAY)])
    assert set(labels(frame)) == {""}
    frame.extend([make_trade(1)], received_ns=NOW)
    assert Counter(labels(frame)) == {"": 5, "canceled": 1}


def test_a_chain_of_words() -> None:
    """A corrected trade can be corrected again, and cancelled under any of its numbers."""
    words = [
        correct(make_trade(1), 77),
        correct(make_trade(77, timestamp=NOW + 1), 78, corrected_price=98.0),
        cancel(make_trade(78, timestamp=NOW + 1)),
    ]
    for order in itertools.permutations(words):
        for cancelled in (1, 77, 78):
            named = [
                structs.replace(word, trade_id=cancelled) if word is words[2] else word
                for word in order
            ]
            for at in range(4):
                frame = make_frame([make_trade(2)])
                for i, word in enumerate([*named, None]):
                    if i == at:
                        frame.extend([make_trade(1)], received_ns=NOW)
                    if word is not None:
                        amend(frame, word)
                row = frame.df.iloc[1]
                assert (row["trade_id"], row["price"]) == (78, 98.0), (named, at)
                assert row["amended"] == "canceled"
                assert frame.amendments["matched"].all()
                assert len(frame) == 2


def test_a_number_that_stays_or_comes_back() -> None:
    """A correction may keep the number, or give one back; the last word stands."""
    frame = make_frame([make_trade(1)])
    amend(frame, correct(make_trade(1), 1))
    assert records(frame)[0][2:4] == (99.0, 6)
    amend(frame, correct(make_trade(1), 77, corrected_price=50.0))
    later = NOW + 5_000
    amend(frame, correct(make_trade(77), 1, corrected_price=60.0, timestamp=later))
    assert (ids(frame), frame.df["price"].tolist()) == ([1], [60.0])
    # An earlier word that comes late does not undo it.
    amend(frame, correct(make_trade(1), 1, corrected_price=40.0))
    frame.extend([make_trade(1)], received_ns=NOW)
    assert (ids(frame), frame.df["price"].tolist()) == ([1], [60.0])


def test_a_corrected_trade_that_comes_again() -> None:
    """History or a server that still tell the original do not bring the trade a second time."""
    frame = make_frame([make_trade(1), make_trade(9)])
    amend(frame, correct(make_trade(1), 77))
    assert fill(frame, [make_trade(1)]) == Fill(duplicates=1)
    frame.extend([make_trade(1)], received_ns=NOW)
    assert ids(frame) == [77, 9]
    assert frame.stats.duplicates == 1


def test_latest_follows_an_amendment() -> None:
    """The last row of a symbol is amended with it, also when retention has dropped it."""
    frame = make_frame([make_trade(1, "RARE"), *(make_trade(i) for i in range(2, 9))], maxlen=3)
    amend(frame, correct(make_trade(1, "RARE"), 77), cancel(make_trade(8)))
    latest = frame.latest.set_index("symbol")
    assert latest.loc["RARE", ["trade_id", "price", "amended"]].tolist() == [77, 99.0, "corrected"]
    assert latest.loc["AAPL", "amended"] == "canceled"
    assert labels(frame) == ["", "", "canceled"]
    assert frame.amendments["matched"].all()


def test_words_that_are_none() -> None:
    """Other messages, and numbers no column holds, are counted and cost no other."""
    frame = make_frame([make_trade(1)])
    bad: list[Any] = [
        make_trade(1),
        cancel(make_trade(1), trade_id=2**64),
        cancel(make_trade(1), trade_id=-1),
        correct(make_trade(1), 2**64),
        correct(make_trade(1), 2, corrected_size=2**63),
        correct(make_trade(1), 2, corrected_price="9"),
        correct(make_trade(1), 2, corrected_conditions=[1]),
        cancel(make_trade(1), symbol=None),
        cancel(make_trade(1), timestamp="noon"),
        make_bar(1, kind=UpdatedBar),
        None,
    ]
    amend(frame, *bad[:5], cancel(make_trade(1)), *bad[5:])
    assert (labels(frame), frame.stats.rejected) == (["canceled"], len(bad))
    assert len(frame.amendments) == 1
    quotes = make_frame([make_quote(1)])
    amend(quotes, cancel(make_trade(1)))
    assert (quotes.stats.rejected, quotes.epoch, quotes.amendments.empty) == (1, 0, True)


def test_memory_for_amendments_is_bounded() -> None:
    """However much is said of trades that never come, only the newest words are remembered."""
    frame = make_frame([make_trade(1)])
    for start in range(0, 30_000, 5_000):
        trades = [make_trade(2 + start + i, timestamp=NOW) for i in range(5_000)]
        amend(frame, *map(cancel, trades))
    told = frame.amendments
    assert 9_000 <= len(told) <= 10_000
    assert told["trade_id"].iloc[-1] == 30_001
    frame.extend([make_trade(30_001, timestamp=NOW)], received_ns=NOW)
    assert labels(frame) == ["", "canceled"]


# -- marks of history --------------------------------------------------------------------


@pytest.mark.parametrize("mark", ["canceled", "incorrect"])
def test_void_trades_of_history_are_not_added(mark: str) -> None:
    """A void trade is left out; if it is held, or comes later, it is marked."""
    frame = make_frame([make_trade(1), make_trade(9)])
    history = [make_trade(i) for i in range(1, 5)]
    filled = fill(frame, history, updates={0: mark, 1: mark})
    assert filled == Fill(added=2, amended=1, rows={"AAPL": 2})
    assert (ids(frame), labels(frame)) == ([1, 3, 4, 9], [mark, "", "", ""])
    assert frame.amendments["kind"].tolist() == [mark]
    frame.extend([make_trade(2)], received_ns=NOW)
    assert labels(frame)[-1] == mark
    assert fill(frame, history, updates={0: mark, 1: mark}) == Fill(duplicates=2)


def test_corrected_trades_of_history_are_added_as_such() -> None:
    """A trade that history marks as corrected says so; others of its marks change nothing."""
    frame = make_frame([make_trade(9)])
    filled = fill(frame, [make_trade(1), make_trade(2)], updates={0: "corrected", 1: "?"})
    assert (filled.added, filled.amended) == (2, 1)
    assert labels(frame) == ["corrected", "", ""]


def test_a_corrected_trade_that_kept_its_number() -> None:
    """History that has both, under one number, leaves one row with the right values."""
    frame = make_frame([make_trade(1), make_trade(9)])
    right = make_trade(1, price=55.0)
    filled = fill(frame, [make_trade(1), right], updates={0: "incorrect", 1: "corrected"})
    assert filled == Fill(amended=1)
    assert (ids(frame), labels(frame)) == ([1, 9], ["corrected", ""])
    assert frame.df["price"].iloc[0] == 55.0
    assert frame.df["source"].iloc[0] == "live"


@st.composite
def stories(draw: st.DrawFn) -> tuple[list[str], list[tuple[int, str]]]:
    """What becomes of a few trades, and everything that is told of them in any order.

    A piece of the story is a trade's index and what comes: the trade, the word on it, or
    history with or without marks.
    """
    fates = draw(st.lists(st.sampled_from(["", "C", "E", "c", "cC"]), min_size=1, max_size=4))
    pieces = [(i, kind) for i, fate in enumerate(fates) for kind in ("live", *fate)]
    pieces += draw(
        st.lists(
            st.tuples(st.integers(0, len(fates) - 1), st.sampled_from(["live", "past", *"CEc"])),
            max_size=5,
        )
    )
    pieces = [(i, kind) for i, kind in pieces if kind not in "CEc" or kind in fates[i]]
    return fates, draw(st.permutations(pieces))


@settings(max_examples=200, deadline=None)
@given(stories(), st.randoms())
def test_amendments_in_any_order(
    story: tuple[list[str], list[tuple[int, str]]], random: Any
) -> None:
    """Whether a word comes before its trade, after it, or around a fill: the same rows."""
    fates, pieces = story
    frame = make_frame([make_trade(500, "X")])
    for i, kind in pieces:
        _tell(frame, i, kind)
        if random.random() < 0.3:
            len(frame)
    expected = {as_record(make_trade(500, "X"))}
    for i, fate in enumerate(fates):
        trade = make_trade(i + 1)
        if "c" in fate:
            trade = _corrected(trade)
        label = "corrected" if "c" in fate else ""
        label = "canceled" if "C" in fate else "error" if "E" in fate else label
        expected.add(as_record(trade, amended=label))
    told = records(frame)
    assert (set(told), len(told)) == (expected, len(fates) + 1)
    words = {(i, kind) for i, kind in pieces if kind in "CEc"}
    assert len(frame.amendments) == len(words)
    assert frame.amendments["matched"].all()


def _tell(frame: LiveFrame, i: int, kind: str) -> None:
    trade = make_trade(i + 1)
    if kind == "live":
        frame.extend([trade], received_ns=NOW)
    elif kind == "past":
        fill(frame, [trade])
    elif kind == "c":
        amend(frame, correct(trade, i + 101))
    else:
        amend(frame, cancel(trade, kind))


def _corrected(trade: Trade[int]) -> Trade[int]:
    return structs.replace(
        trade,
        trade_id=trade.trade_id + 100,
        price=99.0,
        size=trade.size + 5,
        conditions=["@", "Z"],
    )


MARKED = ["live", "past", "c", "marked"]


@pytest.mark.parametrize("order", list(itertools.permutations(MARKED)), ids="-".join)
@pytest.mark.parametrize("later_ns", [0, 700])
def test_a_correction_and_marked_history_in_any_order(
    order: tuple[str, ...], later_ns: int
) -> None:
    """The stream's correction and history's marks agree: one valid row, in every order.

    History may give the corrected trade a time of its own.
    """
    frame = make_frame([make_trade(500, "X")])
    trade = make_trade(1)
    right = structs.replace(_corrected(trade), timestamp=trade.timestamp + later_ns)
    for kind in order:
        if kind == "marked":
            fill(frame, [trade, right], updates={0: "incorrect", 1: "corrected"})
        elif kind != "past" or order.index("past") < order.index("marked"):
            # History does not forget again what it knew.
            _tell(frame, 0, kind)
    df = frame.df[frame.df["symbol"] == "AAPL"]
    valid = df[~df["amended"].isin(VOID)]
    assert valid["trade_id"].tolist() == [101], records(frame)
    assert valid["price"].tolist() == [99.0]
    assert valid["amended"].tolist() == ["corrected"]
    assert set(df["amended"]) <= {"corrected", "incorrect"}


@pytest.mark.parametrize(
    "order", list(itertools.permutations(["live", "C", "marked"])), ids="-".join
)
def test_a_cancellation_and_marked_history_in_any_order(order: tuple[str, ...]) -> None:
    """A trade that both the stream and history call void is void, in every order."""
    frame = make_frame([make_trade(500, "X")])
    for kind in order:
        if kind == "marked":
            fill(frame, [make_trade(1)], updates={0: "canceled"})
        else:
            _tell(frame, 0, kind)
    assert [row[-1] for row in records(frame) if row[1] == "AAPL"] == ["canceled"]


# -- bars --------------------------------------------------------------------------------


def test_an_updated_bar_replaces_its_minute() -> None:
    """The row of the minute gets the new values and says so; what it was is on record."""
    frame = make_frame([make_bar(i) for i in range(3)])
    amend(frame, make_bar(1, trades=12, kind=UpdatedBar))
    assert records(frame)[1] == as_record(make_bar(1, trades=12), amended="updated")
    assert (len(frame), frame.epoch, frame.stats.amended) == (3, 1, 1)
    (told,) = frame.amendments.to_dict("records")
    assert (told["kind"], told["matched"], told["trade_id"]) == ("updated", True, 0)
    assert (told["old_price"], told["old_size"]) == (1.10, 1000)
    assert (told["new_price"], told["new_size"]) == (1.12, 1200)
    amend(frame, make_bar(1, trades=12, kind=UpdatedBar))
    assert (frame.epoch, len(frame.amendments)) == (1, 1)


def test_an_updated_bar_of_an_unknown_minute_is_stored() -> None:
    """It is the first that is heard of that minute, and stands in time."""
    frame = make_frame([make_bar(0), make_bar(3)])
    amend(frame, make_bar(4, kind=UpdatedBar), make_bar(1, kind=UpdatedBar))
    assert labels(frame) == ["", "updated", "", "updated"]
    assert frame.df.index.is_monotonic_increasing
    assert (frame.position, len(frame.amendments)) == (4, 0)
    assert frame.latest["amended"].tolist() == ["updated"]
    # The bar itself comes late: the word on it stands.
    frame.extend([make_bar(1, trades=9)], received_ns=NOW)
    assert (len(frame), frame.stats.duplicates) == (4, 1)


def test_a_minute_that_is_sent_again() -> None:
    """The same bar twice is one row; other values are the newer ones."""
    frame = make_frame([make_bar(0), make_bar(1), make_bar(0)])
    assert (len(frame), frame.stats.duplicates, frame.epoch) == (2, 1, 0)
    frame.extend([make_bar(1, trades=11), make_bar(2), make_bar(2)], received_ns=NOW)
    assert records(frame)[1] == as_record(make_bar(1, trades=11), amended="updated")
    assert (len(frame), frame.stats.duplicates, frame.epoch) == (3, 2, 1)
    frame.extend([make_bar(3), make_bar(3, trades=12)], received_ns=NOW)
    assert records(frame)[3] == as_record(make_bar(3, trades=12), amended="updated")
    assert frame.latest["trade_count"].tolist() == [12]
    assert frame.stats.amended == 2


def test_bars_of_history_replace_those_held() -> None:
    """History is asked for later than a bar was sent, and knows better, also downwards."""
    frame = make_frame([make_bar(i) for i in (0, 1, 3)])
    filled = fill(frame, [make_bar(0), make_bar(1, trades=8), make_bar(2)])
    assert filled == Fill(added=1, duplicates=1, amended=1, rows={"AAPL": 1})
    assert frame.df["trade_count"].tolist() == [10, 8, 10, 10]
    assert labels(frame) == ["", "updated", "", ""]
    assert frame.df["source"].tolist() == ["live", "live", "backfill", "live"]


def test_history_that_was_overtaken_by_an_update() -> None:
    """An answer that still has the values from before an update does not bring them back."""
    frame = make_frame([make_bar(0), make_bar(1)])
    amend(frame, make_bar(0, trades=12, kind=UpdatedBar))
    assert fill(frame, [make_bar(0), make_bar(1)]) == Fill(duplicates=2)
    assert frame.df["trade_count"].tolist() == [12, 10]
    # However long it took, if it was asked for before.
    slow = frame.fill([make_bar(0)], received_ns=NOW + 60_000_000_000, asked_ns=NOW - 1)
    assert (slow.duplicates, frame.df["trade_count"].tolist()) == (1, [12, 10])
    # Asked for much later, it is no answer that was on its way.
    later = frame.fill([make_bar(0)], received_ns=NOW + 60_000_000_000)
    assert (later.amended, frame.df["trade_count"].tolist()) == (1, [10, 10])


BAR_STORY = ["bar", "past", "update", "past update"]


@pytest.mark.parametrize(
    "order",
    [
        order
        for order in itertools.permutations(BAR_STORY)
        if order.index("past") < order.index("past update")
    ],
    ids=",".join,
)
@pytest.mark.parametrize("trades", [9, 10, 13])
def test_bars_in_any_order(order: tuple[str, ...], trades: int) -> None:
    """The first word, the second and history end with the second, in every order there is."""
    frame = make_frame([make_bar(0), make_bar(5)])
    first, second = make_bar(2), make_bar(2, trades=trades)
    second.vwap = 1.5
    for kind in order:
        if kind == "bar":
            frame.extend([first], received_ns=NOW)
        elif kind == "update":
            amend(frame, UpdatedBar(**structs.asdict(second)))
        else:
            fill(frame, [first if kind == "past" else second])
    assert as_record(second, amended="updated") in records(frame)
    assert len(frame) == 3


def test_the_latest_bar_follows_when_it_is_not_held() -> None:
    """A symbol whose bar retention has dropped is updated in `latest`."""
    frame = make_frame([make_bar(0, "RARE"), *(make_bar(i) for i in range(1, 9))], maxlen=3)
    amend(frame, make_bar(0, "RARE", trades=12, kind=UpdatedBar))
    assert len(frame) == 3
    rare = frame.latest.set_index("symbol").loc["RARE"]
    assert (rare["trade_count"], rare["amended"]) == (12, "updated")


# -- what is sent twice ------------------------------------------------------------------


@pytest.mark.parametrize("make", [make_trade, make_quote])
def test_messages_sent_twice_are_stored_once(make: Any) -> None:
    """In one batch or in another, also of what was filled in; and they are counted."""
    frame = make_frame([make(1), make(2), make(1), make(9)])
    fill(frame, [make(i) for i in range(1, 9)])
    frame.extend([make(9), make(5), make(10)], received_ns=NOW)
    assert len(frame) == 10
    assert (frame.stats.duplicates, frame.position) == (3, 10)
    assert frame.latest.index.tolist() == [pd.Timestamp(NOW + 10, tz="UTC")]


def test_quotes_of_a_coarse_clock_may_be_equal() -> None:
    """A tape with times of milliseconds has equal quotes; every one of them is stored."""
    ms = NOW // 1_000_000 * 1_000_000
    frame = make_frame([make_quote(1, at=ms), make_quote(1, at=ms), make_quote(2, at=ms)])
    frame.extend([make_quote(2, at=ms)], received_ns=NOW)
    assert (len(frame), frame.stats.duplicates) == (4, 0)


def test_other_channels_keep_what_is_sent_twice() -> None:
    """Running bars of a day have one time and may stand still; all of them are kept."""
    frame = make_frame([make_bar(0, kind=DailyBar)] * 3)
    assert (len(frame), frame.stats.duplicates) == (3, 0)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_server_that_repeats_itself(data: st.DataObject) -> None:
    """Whatever is sent again and when, each trade and each quote is stored once, in order."""
    make = data.draw(st.sampled_from([make_trade, make_quote]))
    frame = make_frame(channel="trades" if make is make_trade else "quotes")
    sent: list[int] = []
    for i in range(1, 30):
        again = data.draw(st.lists(st.sampled_from([*sent, i]), max_size=3))
        frame.extend([make(j, "AB"[j % 2]) for j in [i, *again]], received_ns=NOW)
        sent.append(i)
        if data.draw(st.booleans()):
            len(frame)
    assert frame.df["size" if make is make_trade else "bid_size"].tolist() == sent
