"""Halts and price bands."""

from __future__ import annotations

import pytest

from alpaca_nb.feed.trading import UNKNOWN, TradingBook
from alpaca_nb.wire.messages import PriceBand, Status


def status(code: str, timestamp: int = 5, **texts: str) -> Status[int]:
    return Status[int](symbol="GME", status_code=code, timestamp=timestamp, **texts)


def test_nothing_is_known_until_an_exchange_has_spoken() -> None:
    """A symbol of which nothing was said is not halted and has no band."""
    assert TradingBook().of("GME") is UNKNOWN


@pytest.mark.parametrize(("halt", "resumption"), [("2", "3"), ("H", "T"), ("P", "T")])
def test_a_halt_lasts_until_trading_resumes(halt: str, resumption: str) -> None:
    """Both families of codes say halt and resumption."""
    book = TradingBook()
    book.take(
        [status(halt, status_message="Trading Halt", reason_message="News pending")], 0, "live"
    )
    told = book.of("GME")
    assert (told.halted, told.message, told.reason, told.since_ns) == (
        True,
        "Trading Halt",
        "News pending",
        5,
    )
    book.take([status(resumption, 9)], 0, "live")
    assert (book.of("GME").halted, book.of("GME").since_ns) == (False, 9)


def test_quoting_resumes_before_trading() -> None:
    """While there are only quotes again, the halt lasts."""
    book = TradingBook()
    book.take([status("H"), status("Q")], 0, "live")
    assert book.of("GME").halted


def test_other_announcements_halt_nothing() -> None:
    """An imbalance or a short sale restriction leaves trading as it is."""
    book = TradingBook()
    book.take([status("H"), status("E"), status("7")], 0, "live")
    assert book.of("GME").halted
    book.take([status("T"), status("E")], 0, "live")
    assert not book.of("GME").halted


def test_the_band_is_the_newest() -> None:
    """A price band replaces the one before and says nothing of halts."""
    book = TradingBook()
    book.take([status("H")], 0, "live")
    for up in (5.0, 5.5):
        band = PriceBand[int](symbol="GME", limit_up=up, limit_down=4.5, timestamp=1)
        book.take([band], 0, "live")
    told = book.of("GME")
    assert (told.limit_up, told.limit_down, told.halted) == (5.5, 4.5, True)


def test_an_unreadable_time_costs_only_the_time() -> None:
    """The halt counts even when its time stamp is none."""
    book = TradingBook()
    book.take([Status[str](symbol="GME", status_code="H", timestamp="soon")], 0, "live")
    assert (book.of("GME").halted, book.of("GME").since_ns) == (True, None)
