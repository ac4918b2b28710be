"""Pages of history, well-formed and not, and pages that never end."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from alpaca_nb.errors import BadInputError, RestError
from alpaca_nb.feed.history import Page, PageGuard, history_feed, history_params, read_page
from alpaca_nb.wire.messages import Bar, Quote, Trade

QUOTE = {"t": "2026-09-21T14:13:20.535000001Z", "bx": "V", "bp": 161.44, "bs": 300, "ax": "V",
         "ap": 162, "as": 100, "c": ["R"], "z": "C"}  # fmt: skip
TRADE = {"t": "2026-09-21T14:13:20.5Z", "x": "V", "p": 161.5, "s": 10, "c": [" "], "i": 7, "z": "C"}
BAR = {"t": "2026-09-21T14:13:00Z", "o": 1, "h": 3, "l": 0.5, "c": 2, "v": 10, "n": 3, "vw": 1.5}


def page(channel: str, rows: Any, token: str | None = None) -> Page:
    body = json.dumps({channel: rows, "next_page_token": token}).encode()
    return read_page(body, channel, ("AMD", "NVDA"))


def check_all(guard: PageGuard, pages: Iterable[Page]) -> None:
    for each in pages:
        guard.check(each)


def test_rows_are_the_streams_messages() -> None:
    """Each row gets the type and symbol that REST leaves out; order and nanoseconds are kept."""
    found = page("quotes", {"AMD": [QUOTE, {**QUOTE, "bp": 1}], "NVDA": [QUOTE]}, "next")
    assert [type(message) for message in found.messages] == [Quote] * 3
    assert [message.symbol for message in found.messages] == ["AMD", "AMD", "NVDA"]
    assert found.messages[0].timestamp == QUOTE["t"]
    assert (found.messages[1].bid_price, found.messages[1].conditions) == (1.0, ["R"])  # type: ignore[attr-defined]
    assert found.next_token == "next"
    (trade,) = page("trades", {"AMD": [TRADE]}).messages
    assert isinstance(trade, Trade)
    assert (trade.trade_id, trade.conditions) == (7, [" "])
    (bar,) = page("bars", {"AMD": [BAR]}).messages
    assert isinstance(bar, Bar)
    assert (bar.close, bar.vwap) == (2.0, 1.5)


def test_what_became_of_trades() -> None:
    """The update mark of a trade stands under its place among the messages that are kept."""
    rows = [TRADE, {"odd": 1}, {**TRADE, "u": "canceled"}, {**TRADE, "c": ["u"]},
            {**TRADE, "u": "corrected"}, {**TRADE, "u": None}, {**TRADE, "u": 5}]  # fmt: skip
    found = page("trades", {"AMD": rows})
    assert found.updates == {1: "canceled", 3: "corrected"}
    assert (len(found.messages), found.unreadable) == (5, 2)


@pytest.mark.parametrize(
    "odd",
    [
        None,
        5,
        "text",
        [],
        {},
        {"bp": "x"},
        {"T": "t"},
        {"S": 3},
        {**QUOTE, "as": 1.5},
        {**QUOTE, "t": "noon"},
    ],
)
def test_an_odd_row_costs_no_other(odd: Any) -> None:
    """A row of another shape is counted, and its neighbours are kept."""
    found = page("quotes", {"AMD": [QUOTE, odd, QUOTE]})
    assert (len(found.messages), found.unreadable) == (2, 1)


@pytest.mark.parametrize("rows", [None, {}, {"AMD": None}, {"AMD": []}, {"TSLA": [QUOTE]}])
def test_an_empty_page(rows: Any) -> None:
    """Null in place of a map or list is empty, and so is a symbol that nobody asked for."""
    assert page("quotes", rows, "").messages == []
    assert page("quotes", rows, "").next_token is None
    assert page("quotes", rows, "more").next_token == "more"


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>log in</html>", b"[]", b"null", b"{}", b'{"quotes":[]}', b'{"quotes":{"AMD":5}}',
     b'{"quotes":{},"next_page_token":5}', b'{"quotes":{"AMD":[{"t":}]}}', b'{"quotes":{"A',
     b'{"quotes":{"AMD":[{"bx":"\xff"}]}}', b'\xff{"quotes":{}}'],
)  # fmt: skip
def test_what_is_no_page(body: bytes) -> None:
    """Anything else raises RestError in one sentence that names who answered."""
    with pytest.raises(RestError, match=r"^data\.test answered with no page of quotes: [^\n]+\.$"):
        read_page(body, "quotes", ("AMD",), where="data.test")


def test_the_feed_of_history() -> None:
    """Each stream's feed has its own history, a delayed one that of SIP, some none."""
    names = ("iex", "sip", "delayed_sip", "otc", "boats", "overnight", "test", "nasdaq")
    expected = ["iex", "sip", "sip", "otc", "boats", None, None, None]
    assert [history_feed(name) for name in names] == expected


def test_the_query_of_a_span() -> None:
    """Both ends go out to the nanosecond, the feed always, the interval with bars only."""
    start_ns, end_ns = 1_790_000_000_000_000_001, 1_790_000_001_500_000_000
    params = history_params("bars", ["AMD", "NVDA"], start_ns, end_ns, feed="delayed_sip", limit=5)
    assert params == {
        "symbols": "AMD,NVDA",
        "start": "2026-09-21T14:13:20.000000001Z",
        "end": "2026-09-21T14:13:21.5Z",
        "feed": "sip",
        "limit": 5,
        "timeframe": "1Min",
    }
    assert "timeframe" not in history_params("quotes", ["A"], 0, 0, feed="iex", limit=1)


@pytest.mark.parametrize(
    ("channel", "feed", "end_ns", "limit"),
    [("lulds", "iex", 1, 10), ("quotes", "test", 1, 10), ("quotes", "nasdaq", 1, 10),
     ("quotes", "iex", -1, 10), ("quotes", "iex", 1, 0), ("quotes", "iex", 1, 10_001)],
)  # fmt: skip
def test_a_span_that_cannot_be_asked_for(channel: str, feed: str, end_ns: int, limit: int) -> None:
    """No history of this channel or feed, an end before the start, an odd limit."""
    with pytest.raises(BadInputError):
        history_params(channel, ["AMD"], 0, end_ns, feed=feed, limit=limit)


def test_many_pages_are_not_too_many() -> None:
    """New rows on each page, with a few empty ones between, may go on for long."""
    guard = PageGuard()
    for number in range(1000):
        rows = [] if number % 3 else [{**QUOTE, "bs": number}]
        guard.check(page("quotes", {"AMD": rows}, f"token {number}"))
    guard.check(page("quotes", {}, None))


@pytest.mark.parametrize(
    "rows",
    [pytest.param([], id="empty"), pytest.param([QUOTE, QUOTE], id="the same rows again")],
)
def test_pages_that_bring_nothing_new(rows: list[Any]) -> None:
    """Tokens that change without anything new behind them end with an error, and soon."""
    guard = PageGuard()
    pages = (page("quotes", {"AMD": rows}, f"token {number}") for number in range(30))
    with pytest.raises(RestError, match="never end"):
        check_all(guard, pages)


def test_a_token_that_comes_again() -> None:
    """A token that was there before would lead round in a circle."""
    guard = PageGuard()
    guard.check(page("quotes", {"AMD": [QUOTE]}, "a"))
    guard.check(page("quotes", {"AMD": [{**QUOTE, "bs": 1}]}, "b"))
    with pytest.raises(RestError, match="never end"):
        guard.check(page("quotes", {"AMD": [{**QUOTE, "bs": 2}]}, "a"))


def test_an_absurd_number_of_pages() -> None:
    """Rows and tokens that change for ever end too."""
    guard = PageGuard()
    (one,) = page("quotes", {"AMD": [QUOTE]}).messages
    other = page("quotes", {"AMD": [QUOTE | {"bs": 1}]}).messages[0]
    pages = (Page([one, other][i % 2 :][:1], {}, 0, f"token {i}") for i in range(20_000))
    with pytest.raises(RestError, match="never end"):
        check_all(guard, pages)
