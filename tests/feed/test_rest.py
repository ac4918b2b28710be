"""REST answers, good and bad, over a transport that never leaves the test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from alpaca_nb.credentials import Credentials, Secret
from alpaca_nb.errors import BadInputError, RestError
from alpaca_nb.feed.models import QuoteData
from alpaca_nb.feed.rest import LatestQuote, RestClient

ITEM = {"t": "2026-09-21T14:13:20.535000001Z", "bx": "V", "bp": 161.44, "bs": 300, "ax": "V",
        "ap": 162, "as": 100, "c": ["R"], "z": "C"}  # fmt: skip
CREDENTIALS = Credentials(Secret("KEY-IN-TESTS"), Secret("SECRET-IN-TESTS"))


def latest(answer: Callable[[httpx.Request], httpx.Response]) -> LatestQuote:
    transport = httpx.MockTransport(answer)
    rest = RestClient(CREDENTIALS, data_url="http://data.test", transport=transport)
    return LatestQuote(rest)


def test_one_symbol() -> None:
    """The latest quote comes as the model that a handler gets, with keys in headers only."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"quotes": {"AMD": ITEM}})

    quote = latest(answer).get("amd")
    assert isinstance(quote, QuoteData)
    assert (quote.symbol, quote.bid_price, quote.ask_price) == ("AMD", 161.44, 162.0)
    assert quote.timestamp_ns % 10 == 1
    (request,) = seen
    assert str(request.url) == "http://data.test/v2/stocks/quotes/latest?symbols=AMD&feed=iex"
    assert request.headers["APCA-API-KEY-ID"] == "KEY-IN-TESTS"
    assert "IN-TESTS" not in str(request.url)


def test_several_symbols() -> None:
    """A list of symbols gives a list of quotes in its order."""

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.params["symbols"] == "B,A"
        return httpx.Response(200, json={"quotes": {"A": ITEM, "B": {**ITEM, "bp": 1}}})

    quotes: Any = latest(answer).get(["B", "A"])
    assert [quote.symbol for quote in quotes] == ["B", "A"]


@pytest.mark.parametrize(
    ("status", "expected"),
    [(401, "check the API key"), (403, "plan includes"), (404, "check the symbol"),
     (429, "too many requests"), (500, "try again later")],
)  # fmt: skip
def test_a_refusal_says_what_to_do(status: int, expected: str) -> None:
    """Each refusal is one sentence with the server's words and the way out, without keys."""
    answer = httpx.Response(status, json={"message": "forbidden."})
    with pytest.raises(RestError, match=expected) as caught:
        latest(lambda request: answer).get("AMD")
    assert caught.value.status == status
    assert "forbidden" in str(caught.value)
    assert "IN-TESTS" not in str(caught.value)


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(200, text="<html>log in</html>"),
        httpx.Response(200, json=[]),
        httpx.Response(200, json={"quotes": None}),
        httpx.Response(200, json={"quotes": {"AMD": None}}),
        httpx.Response(200, json={"quotes": {"AMD": {"bp": "x"}}}),
        httpx.Response(200, json={"quotes": {"AMD": {**ITEM, "t": "noon"}}}),
        httpx.Response(200, json={"quotes": {"MSFT": ITEM}}),
    ],
)
def test_an_answer_of_another_shape(response: httpx.Response) -> None:
    """HTML, a list, no quote and a broken quote all raise RestError."""
    with pytest.raises(RestError):
        latest(lambda request: response).get("AMD")


def test_nobody_answers() -> None:
    """An unreachable host is named."""

    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(RestError, match=r"http://data\.test"):
        latest(answer).get("AMD")


@pytest.mark.parametrize(
    ("symbol", "feed"), [("*", "iex"), ("", "iex"), ("AMD", "nasdaq"), ([], "iex")]
)
def test_bad_input(symbol: Any, feed: str) -> None:
    """A bad symbol or feed never reaches the network."""
    with pytest.raises(BadInputError):
        latest(lambda request: pytest.fail("asked")).get(symbol, feed)
