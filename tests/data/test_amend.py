"""What is said of trades, kept apart from the rows, and the record of it."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpaca_nb.data.amend import (
    Amendment,
    AmendmentLog,
    Notice,
    Terms,
    TradeBook,
    TradeKey,
    Verdict,
    amendment_of,
    day_of,
    forget_oldest,
    note_match,
    notice_of,
)
from alpaca_nb.wire.messages import CancelError, Correction

NS = 1_790_000_000_000_000_000
HOUR = 3_600_000_000_000


def key(number: int) -> TradeKey:
    return TradeKey("AAPL", "V", number, 1)


def make_notice(label: str, number: int, becomes: int | None = None, at: int = NS) -> Notice:
    terms = None if becomes is None else Terms(becomes, float(becomes), becomes, "@")
    return Notice(label, key(number), at, NS + 5, 10.0, 100, terms)


def correction(number: int, becomes: int, at: int = NS) -> Notice:
    return make_notice("corrected", number, becomes, at)


def verdict(book: TradeBook, number: int) -> Verdict:
    found = book.verdict(key(number))
    assert found is not None
    return found


# -- one word ----------------------------------------------------------------------------


def test_a_day_is_one_in_new_york() -> None:
    """Half past eleven in the evening and half past midnight are two days; any time has one."""
    midnight = pd.Timestamp("2026-09-22", tz="America/New_York").value
    assert day_of(midnight) == day_of(midnight - 1) + 1
    assert day_of(midnight + 23 * HOUR) == day_of(midnight)
    assert day_of(2**63 - 1) == day_of(2**63 - 1)
    assert day_of(-(10**30)) == -1


def test_messages_become_words() -> None:
    """A correction names the trade and its new terms, a cancellation only the trade."""
    told = Correction(
        symbol="AAPL",
        exchange="V",
        original_trade_id=7,
        original_price=1.5,
        original_size=2,
        corrected_trade_id=8,
        corrected_price=2.5,
        corrected_size=3,
        corrected_conditions=["@", "I"],
        timestamp=NS,
    )
    notice = notice_of(told, NS + 1)
    assert (notice.label, notice.key) == ("corrected", TradeKey("AAPL", "V", 7, day_of(NS)))
    assert notice.terms == Terms(8, 2.5, 3, "@,I")
    assert notice.successor.trade_id == 8
    gone = CancelError(symbol="AAPL", trade_id=7, exchange="V", price=1.5, size=2, timestamp=NS)
    assert notice_of(gone, NS).label == "error"
    with pytest.raises(TypeError):
        notice_of(told.symbol, NS)  # type: ignore[arg-type]


# -- all words on a trade ----------------------------------------------------------------


def test_nothing_is_known_of_a_trade_nobody_spoke_of() -> None:
    """A book has no verdict on other trades."""
    book = TradeBook()
    book.add(correction(1, 2))
    assert book.verdict(key(3)) is None
    assert len(book) == 1
    assert book.numbers.tolist() == [1, 2]


def test_all_numbers_of_a_trade_lead_to_one_verdict() -> None:
    """Whatever number a row has, it gets the last terms and the gravest label."""
    book = TradeBook()
    assert book.add(correction(2, 3)) == {key(2), key(3)}
    assert book.add(correction(1, 2)) == {key(1), key(2), key(3)}
    assert book.add(make_notice("canceled", 2)) == {key(1), key(2), key(3)}
    found = [verdict(book, number) for number in (1, 2, 3)]
    assert {(each.root, each.key, each.label) for each in found} == {(key(1), key(3), "canceled")}
    assert found[0].terms == Terms(3, 3.0, 3, "@")
    assert found[0].numbers == (1, 2, 3)
    assert [notice.label for notice in found[0].notices] == ["corrected", "corrected", "canceled"]


def test_the_gravest_label_stands() -> None:
    """Of several words the order does not matter; that a corrected trade was wrong is no news."""
    labels = ["canceled", "error", "incorrect"]
    for some in (labels, labels[::-1]):
        book = TradeBook()
        for label in some:
            book.add(make_notice(label, 1))
        assert verdict(book, 1).label == "error"
    book = TradeBook()
    book.add(make_notice("incorrect", 1))
    assert verdict(book, 1).label == "incorrect"
    book.add(correction(1, 2))
    assert verdict(book, 1).label == verdict(book, 2).label == "corrected"


def test_the_later_of_two_corrections_stands() -> None:
    """By the exchange's time, not by the order of arrival."""
    for order in ([0, 1], [1, 0]):
        words = [correction(1, 5, NS), correction(1, 6, NS + 1)]
        book = TradeBook()
        for i in order:
            book.add(words[i])
        assert verdict(book, 1).key == key(6)


def test_a_copy_is_another_book() -> None:
    """What one learns the other does not know."""
    book = TradeBook()
    book.add(correction(1, 2))
    other = book.copy()
    other.add(make_notice("canceled", 9))
    assert book.verdict(key(9)) is None
    assert verdict(other, 1) == verdict(book, 1)
    assert other.numbers.tolist() == [1, 2, 9]


@given(
    st.lists(
        st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(0, 3), st.booleans()),
        max_size=20,
    )
)
def test_contradictions_never_hang_or_raise(words: list[tuple[int, int, int, bool]]) -> None:
    """Corrections in circles, to each other's numbers and twice: there is always a verdict."""
    book = TradeBook()
    for number, becomes, at, is_end in words:
        word = make_notice("error", number) if is_end else correction(number, becomes, NS + at)
        concerned = book.add(word)
        assert word.key in concerned
        for each in range(1, 7):
            found = book.verdict(key(each))
            assert found is None or found.label in {"corrected", "error"}


# -- the record --------------------------------------------------------------------------


def test_a_word_is_matched_once() -> None:
    """The record says what the row was when it was found first, and keeps that."""
    log, notice = AmendmentLog(), correction(1, 2)
    log.put(notice.identity, amendment_of(notice))
    assert not log.to_frame()["matched"].any()
    note_match(log, [notice], key(1), timestamp=NS + 9, price=11.0, size=7)
    note_match(log, [notice], key(1), timestamp=NS + 10, price=99.0, size=9)
    told = log.to_frame().iloc[0]
    assert (told["old_price"], told["old_size"], told["matched"]) == (11.0, 7, True)
    assert told["timestamp"].value == NS + 9


def test_a_row_under_another_number_does_not_tell_what_it_was() -> None:
    """What the message said of the original stays where the row has moved on already."""
    log, notice = AmendmentLog(), correction(1, 2)
    note_match(log, [notice], key(2), timestamp=NS, price=99.0, size=9)
    assert log.to_frame()["old_price"].tolist() == [10.0]


def test_an_empty_record_has_its_columns() -> None:
    """The DataFrame has the same types with rows and without."""
    empty = AmendmentLog().to_frame()
    assert [*empty.columns] == [
        "time", "symbol", "kind", "timestamp", "exchange", "trade_id",
        "old_price", "old_size", "new_price", "new_size", "matched",
    ]  # fmt: skip
    log = AmendmentLog()
    log.put("x", amendment_of(make_notice("error", 2**64 - 1)))
    assert log.to_frame().dtypes.equals(empty.dtypes)
    assert log.to_frame()["trade_id"].tolist() == [2**64 - 1]
    assert math.isnan(log.to_frame()["new_price"][0])


def test_the_record_is_bounded() -> None:
    """The oldest go, some at a time, and the newest always stay."""
    known: dict[int, Any] = {}
    for i in range(1_000):
        known[i] = None
        forget_oldest(known, 50)
        assert i in known
        assert len(known) <= 50
    assert list(known) == list(range(1_000 - len(known), 1_000))
    log = AmendmentLog()
    row = amendment_of(make_notice("error", 1))
    for i in range(10_500):
        log.put(i, row)
    assert len(log) <= 10_000
    assert isinstance(log.get(10_499), Amendment)
    assert log.get(0) is None
