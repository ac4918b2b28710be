"""The start of a REST twin: latest quotes of the tape that the stream is playing.

No input or output here: a request's path goes in, a status and a JSON body come out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from alpaca_nb.errors import BadInputError
from alpaca_nb.wire.codec import JSON
from alpaca_nb.wire.endpoints import find_endpoint
from alpaca_nb.wire.messages import Quote, check_symbols

LatestQuote = Callable[[str, str], Quote[int] | None]
"""The latest quote of a symbol on a feed."""

Answer = tuple[int, dict[str, Any]]
"""An HTTP status and a JSON body."""

_ONE = re.compile(r"/v2/stocks/([^/]+)/quotes/latest")
_SEVERAL = "/v2/stocks/quotes/latest"


def answer(target: str, latest_quote: LatestQuote) -> Answer | None:
    """Answer a GET request; None for a path that is not of this interface."""
    parts = urlsplit(target)
    one = _ONE.fullmatch(parts.path)
    if one is None and parts.path != _SEVERAL:
        return None
    query = parse_qs(parts.query)
    names = [unquote(one[1])] if one else ",".join(query.get("symbols", [])).split(",")
    try:
        feed = find_endpoint(query.get("feed", ["sip"])[-1]).feed
        symbols = check_symbols(name for name in names if name)
    except BadInputError as error:
        return 400, {"message": str(error)}
    if "*" in symbols:
        return 400, {"message": "invalid symbol: *"}
    found = {symbol: latest_quote(feed, symbol) for symbol in symbols}
    quotes = {symbol: _without_symbol(quote) for symbol, quote in found.items() if quote}
    if one is None:
        return 200, {"quotes": quotes}
    if not quotes:
        return 404, {"message": f"no quote found for {symbols[0]}"}
    return 200, {"symbol": symbols[0], "quote": quotes[symbols[0]]}


def _without_symbol(quote: Quote[int]) -> dict[str, Any]:
    """As the stream spells it, less the two keys that REST leaves out."""
    (spelled,) = msgspec.json.decode(JSON.encode([quote]))
    return {key: value for key, value in spelled.items() if key not in ("T", "S")}
