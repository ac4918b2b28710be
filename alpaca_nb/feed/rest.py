"""Alpaca's REST interface, as far as streaming needs it."""

from __future__ import annotations

import os
from typing import Any

import httpx
import msgspec

from alpaca_nb.credentials import Credentials
from alpaca_nb.errors import BadInputError, RestError
from alpaca_nb.feed.models import QuoteData, to_model
from alpaca_nb.wire.codec import decode
from alpaca_nb.wire.endpoints import DATA_HOST
from alpaca_nb.wire.messages import CHANNELS, Message, Unreadable, check_symbols

DATA_URL_VARIABLE = "ALPACA_NB_DATA_URL"
TIMEOUT_S = 10.0
_FEEDS = ("iex", "sip", "delayed_sip", "otc", "boats", "overnight")


class RestClient:
    """Requests to the market-data host; where it is comes from the environment, else Alpaca."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        url: str | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._credentials = credentials
        self._url = (url or os.environ.get(DATA_URL_VARIABLE) or DATA_HOST).rstrip("/")
        self._transport = transport

    def __repr__(self) -> str:
        return f"RestClient({self._url})"

    def get(self, path: str, **params: str | int | None) -> dict[str, Any]:
        """Get one JSON object; raises RestError with the way out."""
        given = {name: value for name, value in params.items() if value is not None}
        try:
            with httpx.Client(transport=self._transport, timeout=TIMEOUT_S) as client:
                response = client.get(
                    self._url + path, params=given, headers=self._credentials.headers
                )
        except httpx.HTTPError as error:
            raise RestError(
                f"Nobody answers at {self._url} ({type(error).__name__}); check the network and "
                f"the variable {DATA_URL_VARIABLE}."
            ) from error
        if response.status_code != 200:
            raise _refusal(response)
        return _as_object(response)


def _as_object(response: httpx.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise RestError(
            f"{response.url.host} answered {response.url.path} with something that is no JSON "
            "object; is a proxy or a log-in page in between?",
            status=response.status_code,
        )
    return answer


_ADVICE = {
    401: "check the API key and secret",
    403: "check the API key and secret, and whether the plan includes this feed",
    404: "there is nothing at this address; check the symbol",
    422: "check the symbol and the other arguments",
    429: "too many requests; wait a minute",
}


def _refusal(response: httpx.Response) -> RestError:
    try:
        said = str(response.json().get("message", ""))[:200]
    except (ValueError, AttributeError):
        said = ""
    advice = _ADVICE.get(response.status_code, "the server is in trouble; try again later")
    told = f" ({said})" if said else ""
    return RestError(
        f"{response.url.host} answered HTTP {response.status_code}{told}: {advice}.",
        status=response.status_code,
    )


def as_message(channel: str, symbol: str, item: dict[str, Any]) -> Message[Any]:
    """A REST item as the stream would have sent it; REST leaves type and symbol out."""
    tag = CHANNELS[channel].message.__struct_config__.tag
    data = msgspec.json.encode([{"T": tag, "S": symbol} | item])
    message = decode(data)[0]
    if isinstance(message, Unreadable):
        raise RestError(f"The answer for {symbol} is not in Alpaca's shape: {message.reason}.")
    return message  # type: ignore[return-value]


class LatestQuote:
    """The last quote of a symbol, asked for once: what polling uses."""

    def __init__(self, rest: RestClient) -> None:
        self._rest = rest

    def get(self, symbol: str | list[str], feed: str = "iex") -> QuoteData | list[QuoteData]:
        """The latest quote of a symbol, or a list of them for a list of symbols.

        Raises RestError, and BadInputError for a bad symbol or feed.
        """
        if feed not in _FEEDS:
            raise BadInputError(f"There is no feed {feed!r}; choose one of {', '.join(_FEEDS)}.")
        symbols = check_symbols(symbol)
        if "*" in symbols:
            raise BadInputError("Latest quotes are asked for by symbol; '*' works on streams only.")
        if not isinstance(symbol, str):
            return self._get_many(symbols, feed)
        answer = self._rest.get(f"/v2/stocks/{symbols[0]}/quotes/latest", feed=feed)
        return self._quote(symbols[0], answer.get("quote"))

    def _get_many(self, symbols: tuple[str, ...], feed: str) -> list[QuoteData]:
        answer = self._rest.get("/v2/stocks/quotes/latest", symbols=",".join(symbols), feed=feed)
        quotes = answer.get("quotes") or {}
        return [self._quote(symbol, quotes.get(symbol)) for symbol in symbols]

    @staticmethod
    def _quote(symbol: str, item: Any) -> QuoteData:
        if not isinstance(item, dict):
            raise RestError(f"There is no latest quote of {symbol}.")
        quote = to_model(as_message("quotes", symbol, item))
        assert isinstance(quote, QuoteData)
        return quote
