"""Pages of past quotes, trades and bars, read as the stream would have sent them; no IO."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from alpaca_nb.errors import BadInputError, ProtocolError, RestError
from alpaca_nb.wire.codec import Incoming, decode, format_time, times_ns
from alpaca_nb.wire.messages import CHANNELS, Message

PAGE_ROWS: Final = 10_000
"""The most rows that Alpaca puts on a page, over all symbols."""

_CHANNELS: Final = ("quotes", "trades", "bars")
_FEEDS: Final = {"iex": "iex", "sip": "sip", "delayed_sip": "sip", "otc": "otc", "boats": "boats"}

_IDLE_PAGES: Final = 20
"""Pages in a row without anything new before the server is taken to go round in circles."""
_PAGES: Final = 10_000
"""Pages of one request at most: a hundred million rows."""


def history_feed(feed: str) -> str | None:
    """The feed under which REST keeps the history of a stream's feed; None where it has none.

    It has to be named in every request: REST's own default differs from the stream's.
    """
    return _FEEDS.get(feed)


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the rows that were asked for, in the order of the answer: by symbol, then time."""

    messages: list[Message[str]]
    """As the stream would have sent them."""
    updates: dict[int, str]
    """What became of trades since: "canceled", "incorrect" or "corrected", by index in `messages`.

    REST tells it with the trade, where the stream sends a second message.
    """
    unreadable: int
    """Rows left out because they were of another shape."""
    next_token: str | None
    """What to ask for the next page with; None on the last page."""
    remaining: int | None = None
    """Requests left in this minute, as far as the server said."""


def history_params(
    channel: str, symbols: Iterable[str], start_ns: int, end_ns: int, *, feed: str, limit: int
) -> dict[str, str | int]:
    """The query of a request for history; both ends of the time span are part of it.

    Raises BadInputError for a channel or feed without history and for an impossible span.
    """
    if channel not in _CHANNELS:
        raise BadInputError(f"There is no history of {channel}; it is of {', '.join(_CHANNELS)}.")
    kept_as = history_feed(feed)
    if kept_as is None:
        raise BadInputError(
            f"The feed {feed!r} has no history; there is one of {', '.join(_FEEDS)}."
        )
    if end_ns < start_ns:
        raise BadInputError("History cannot end before it starts.")
    if not 1 <= limit <= PAGE_ROWS:
        raise BadInputError(f"A page has 1 to {PAGE_ROWS} rows, not {limit}.")
    params: dict[str, str | int] = {
        "symbols": ",".join(symbols),
        "start": format_time(start_ns),
        "end": format_time(end_ns),
        "feed": kept_as,
        "limit": limit,
    }
    return params | ({"timeframe": "1Min"} if channel == "bars" else {})


# -- reading -----------------------------------------------------------------------------


class _Update(msgspec.Struct):
    u: str | None = None


_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ROWS = msgspec.json.Decoder(dict[str, list[msgspec.Raw] | None] | None)
_LATEST = msgspec.json.Decoder(dict[str, msgspec.Raw] | None)
_TOKEN = msgspec.json.Decoder(str | None)
_UPDATE = msgspec.json.Decoder(_Update)
_NULL = msgspec.Raw(b"null")


def read_page(
    body: bytes,
    channel: str,
    symbols: Container[str],
    *,
    where: str = "The server",
    remaining: int | None = None,
) -> Page:
    """Read the answer to a request for history; rows of other symbols are left out.

    Raises RestError, which names `where` it came from, for what is no page.
    """
    try:
        answer = _OBJECT.decode(body)
        rows = _ROWS.decode(answer[channel]) or {}
        token = _TOKEN.decode(answer.get("next_page_token", _NULL)) or None
        spelled = _spell(
            channel, {symbol: items or () for symbol, items in rows.items() if symbol in symbols}
        )
        incoming = decode(b"[%s]" % b",".join(spelled))
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, ProtocolError) as error:
        raise _no(f"page of {channel}", where, error) from None
    messages: list[Message[str]] = []
    updates: dict[int, str] = {}
    for message, data in zip(_readable(incoming), spelled, strict=True):
        if message is None:
            continue
        if b'"u"' in data:
            try:
                update = _UPDATE.decode(data).u
            except msgspec.DecodeError:
                continue  # whether this trade still counts cannot be told
            if update:
                updates[len(messages)] = update
        messages.append(message)
    unreadable = len(incoming) - len(messages)
    return Page(messages, updates, unreadable, token, remaining)


def read_latest(body: bytes, channel: str, *, where: str = "The server") -> dict[str, Message[str]]:
    """Read the answer to a request for the latest of each symbol; RestError for anything else.

    Symbols whose latest is null or cannot be read are left out.
    """
    try:
        rows = _LATEST.decode(_OBJECT.decode(body)[channel]) or {}
        spelled = _spell(channel, {symbol: [item] for symbol, item in rows.items()})
        incoming = decode(b"[%s]" % b",".join(spelled))
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, ProtocolError) as error:
        raise _no(f"latest {channel}", where, error) from None
    found = zip(rows, _readable(incoming), strict=True)
    return {symbol: message for symbol, message in found if message is not None}


def _readable(incoming: Iterable[Incoming]) -> list[Message[str] | None]:
    """The messages, with None in place of what is none or has no time."""
    messages = [each if isinstance(each, Message) else None for each in incoming]
    if not _have_times(messages):
        messages = [each if _have_times([each]) else None for each in messages]
    return messages


def _have_times(messages: Iterable[Message[str] | None]) -> bool:
    try:
        times_ns([message.timestamp for message in messages if message is not None])
    except ValueError:
        return False
    return True


def _spell(channel: str, rows: Mapping[str, Iterable[msgspec.Raw]]) -> list[bytes]:
    """Each row with the type and the symbol that REST leaves out; the type must come first."""
    lead = b'{"T":"%s",' % str(CHANNELS[channel].message.__struct_config__.tag).encode()
    spelled: list[bytes] = []
    for symbol, items in rows.items():
        end = b'"S":%s}' % msgspec.json.encode(symbol)
        for item in items:
            data = bytes(item)
            if not data.startswith(b"{"):
                spelled.append(data)  # the codec will find that it is no message
                continue
            inner = data[1:-1].strip()
            spelled.append(lead + inner + b"," + end if inner else lead + end)
    return spelled


def _no(wanted: str, where: str, error: Exception) -> RestError:
    if isinstance(error, KeyError):
        reason = f"it has no {error.args[0]!r}"
    elif isinstance(error, msgspec.ValidationError):
        reason = str(error)
    else:
        reason = "it is no JSON object; perhaps a log-in page or a proxy is in between"
    return RestError(f"{where} answered with no {wanted}: {reason}.")


# -- pages without an end ----------------------------------------------------------------


class PageGuard:
    """Tells pages that never end from many pages."""

    def __init__(self) -> None:
        self._tokens: set[str] = set()
        self._ends: object = None
        self._idle = 0

    def check(self, page: Page) -> None:
        """Take each page in turn; raises RestError when going on would never end."""
        token, rows = page.next_token, page.messages
        if token is None:
            return
        # A page's length, first and last row stand for the whole of it.
        ends = (len(rows), rows[:1], rows[-1:])
        is_new = bool(rows) and ends != self._ends
        self._idle = 0 if is_new else self._idle + 1
        self._ends = ends if rows else self._ends
        if token in self._tokens or self._idle > _IDLE_PAGES or len(self._tokens) >= _PAGES:
            raise RestError(
                "The server's pages never end: it keeps promising another one without bringing "
                "anything new; try again later, or ask for a shorter time."
            )
        self._tokens.add(token)
