"""The REST twin: history, latest data, clock and calendar of the tape that is being played.

No input or output here: a request's path goes in, a status and a JSON body come out. A
long history is made in pieces, and whoever asks may do something else in between.
"""

from __future__ import annotations

import base64
import datetime as dt
import re
from collections.abc import Generator, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from alpaca_nb.errors import BadInputError
from alpaca_nb.sim.market import MINUTE_NS, NEW_YORK, SESSION_MINUTES, session_open_ns
from alpaca_nb.sim.market import next_trading_day as next_day
from alpaca_nb.sim.plans import Plan
from alpaca_nb.sim.tape import HISTORY_CHANNELS, Tape
from alpaca_nb.wire.codec import JSON, time_ns
from alpaca_nb.wire.messages import Bar, Message, Trade, check_symbols

DATA_PATH = "/v2/stocks/"
"""Where market data is served; the rest is the trading host's."""

HISTORY_FEEDS = ("sip", "iex", "boats", "otc")
LATEST_FEEDS = (*HISTORY_FEEDS, "delayed_sip", "overnight")

MOST_ITEMS = 10_000
USUAL_ITEMS = 1_000
RECENT_NS = 15 * MINUTE_NS

_SECOND_NS = 1_000_000_000
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_TRADING_PATHS = ("/v2/clock", "/v2/calendar")
_ONE_OF = {"trades": "trade", "quotes": "quote", "bars": "bar"}
_RECENT_SIP = "subscription does not permit querying recent SIP data"


class Answer(NamedTuple):
    """An HTTP status and a JSON body."""

    status: int
    body: bytes


Steps = Generator[None, None, Answer]
"""An answer in the making; each step is a few milliseconds at most."""


class _RefusedError(Exception):
    """The request cannot be answered: a status and what Alpaca would say."""

    def __init__(self, status: int, message: str, **more: object) -> None:
        super().__init__(message)
        self.status = status
        self.body = more | {"message": message}


def serves(path: str) -> bool:
    """Whether a path is of this interface, and needs credentials."""
    return path.startswith(DATA_PATH) or path in _TRADING_PATHS


def answer(target: str, tape: Tape, position: int, plan: Plan, *, endless: bool = False) -> Steps:
    """Answer a GET request with what the tape has played up to a position.

    While it is `endless`, no history comes to its last page.
    """
    try:
        return (yield from _route(target, tape, position, plan, endless))
    except _RefusedError as refused:
        return json_answer(refused.status, refused.body)


def json_answer(status: int, body: object) -> Answer:
    """An answer with anything that can be written as JSON."""
    return Answer(status, msgspec.json.encode(body))


def _route(target: str, tape: Tape, position: int, plan: Plan, endless: bool) -> Steps:
    parts = urlsplit(target)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if parts.path == "/v2/clock":
        return json_answer(200, _clock(tape.time_ns(position)))
    if parts.path == "/v2/calendar":
        return json_answer(200, _calendar(query))
    words = [unquote(word) for word in parts.path.removeprefix(DATA_PATH).split("/")]
    latest = words[-1] == "latest"
    if latest:
        words.pop()
    if not words or len(words) > 2 or words[-1] not in HISTORY_CHANNELS:
        raise _RefusedError(404, "endpoint not found.")
    channel = words.pop()
    symbols = _symbols(words or query.get("symbols", "").split(","))
    asked = _Asked(channel, symbols, single=bool(words))
    if latest:
        return _latest(asked, query, tape, position, plan)
    return (yield from _history(asked, query, tape, position, plan, endless))


# -- what is asked for -------------------------------------------------------------------


class _Asked(NamedTuple):
    channel: str
    symbols: Sequence[str]
    single: bool


def _symbols(names: Sequence[str]) -> list[str]:
    try:
        symbols = check_symbols([name for name in names if name.strip()])
    except BadInputError as error:
        raise _RefusedError(400, str(error)) from None
    if "*" in symbols:
        raise _RefusedError(400, "invalid symbol: *")
    return sorted(symbols)


def _feed(query: Mapping[str, str], plan: Plan, allowed: Sequence[str]) -> str:
    # The best that the plan allows, as Alpaca has it.
    feed = query.get("feed", "sip" if plan.recent_sip else "iex")
    if feed not in allowed:
        raise _RefusedError(400, f"invalid feed: {feed[:40]}")
    # Old SIP data is for everybody; how old is another question.
    if feed != "sip" and not plan.streams(feed):
        raise _RefusedError(403, f"subscription does not permit querying {feed} data")
    return feed


def _time(query: Mapping[str, str], name: str, *, end_of_day: bool = False) -> int | None:
    """A bound in nanoseconds since 1970; a plain date is a day in New York."""
    text = query.get(name)
    if text is None:
        return None
    try:
        if _DATE.fullmatch(text):
            date = dt.date.fromisoformat(text)
            if end_of_day:
                return _midnight_ns(date + dt.timedelta(days=1)) - 1
            return _midnight_ns(date)
        # A "+" that was not escaped has become a space.
        return time_ns(text.replace(" ", "+"))
    except (ValueError, OverflowError):
        raise _RefusedError(
            400, f"invalid {name}: {text[:40]!r}; write RFC-3339 or YYYY-MM-DD"
        ) from None


def _midnight_ns(date: dt.date) -> int:
    return int(dt.datetime.combine(date, dt.time(), NEW_YORK).timestamp()) * _SECOND_NS


def _date_of(time_ns: int) -> dt.date:
    return dt.datetime.fromtimestamp(time_ns // _SECOND_NS, NEW_YORK).date()


def _limit(query: Mapping[str, str]) -> int:
    text = query.get("limit", str(USUAL_ITEMS))
    if not re.fullmatch(r"\d{1,9}", text) or not 1 <= int(text) <= MOST_ITEMS:
        raise _RefusedError(400, f"limit must be between 1 and {MOST_ITEMS}")
    return int(text)


# -- latest ------------------------------------------------------------------------------


def _latest(
    asked: _Asked, query: Mapping[str, str], tape: Tape, position: int, plan: Plan
) -> Answer:
    feed = _feed(query, plan, LATEST_FEEDS)
    if feed == "sip" and not plan.recent_sip:
        raise _RefusedError(403, _RECENT_SIP)
    found = {
        symbol: msgspec.Raw(_spell(symbol, [message]))
        for symbol in asked.symbols
        if (message := tape.latest(feed, asked.channel, symbol, position)) is not None
    }
    if not asked.single:
        return json_answer(200, {asked.channel: found})
    (symbol,) = asked.symbols
    one = _ONE_OF[asked.channel]
    if symbol not in found:
        raise _RefusedError(404, f"no {one} found for {symbol}")
    return json_answer(200, {"symbol": symbol, one: found[symbol]})


def _spell(symbol: str, messages: Sequence[Message[int]]) -> bytes:
    """Messages as the stream spells them, less type and symbol, without the brackets."""
    spelled = JSON.encode(messages)[1:-1]
    tag = messages[0].__struct_config__.tag
    # A quotation mark inside a value would have a backslash before it.
    return spelled.replace(f'{{"T":"{tag}","S":"{symbol}",'.encode(), b"{")


# -- history -----------------------------------------------------------------------------


class _Mark(msgspec.Struct, array_like=True):
    """Where a page ended: after the `count`-th item that sorts like this one."""

    symbol: str
    key: tuple[int, str, int]
    count: int


class _Token(msgspec.Struct, array_like=True):
    """What a page token says: where to go on, and how many empty pages there have been.

    No mark, and nothing is left.
    """

    mark: _Mark | None
    empty: int = 0


class _Span(NamedTuple):
    """What of a tape is asked for."""

    feed: str
    start_ns: int
    end_ns: int
    newest_first: bool


def _history(
    asked: _Asked,
    query: Mapping[str, str],
    tape: Tape,
    position: int,
    plan: Plan,
    endless: bool,
) -> Steps:
    now_ns = tape.time_ns(position)
    span = _span(query, now_ns, plan)
    limit = _limit(query)
    token = _read_token(query.get("page_token"))
    mark = token.mark if token is not None else None
    timeframe = _timeframe(query) if asked.channel == "bars" else None
    if query.get("currency", "USD") != "USD":
        raise _RefusedError(400, "the simulator trades in USD only")
    page = _Page(limit)
    if token is not None and token.empty and (endless or mark is None):
        following = _Token(mark, token.empty + 1) if endless else None
        return Answer(200, _body(asked, page, query, following))
    for symbol in asked.symbols:
        if mark is not None and symbol < mark.symbol:
            continue
        after = mark if mark is not None and symbol == mark.symbol else None
        pieces = _pieces(tape, asked.channel, symbol, _from_mark(span, after), position, timeframe)
        for piece in pieces:
            if page.add(symbol, piece, after):
                break
            yield
        if page.full:
            break
    following = _Token(page.mark) if page.full else None
    if endless:
        following = _Token(page.mark if page.full else None, 1)
    return Answer(200, _body(asked, page, query, following))


def _span(query: Mapping[str, str], now_ns: int, plan: Plan) -> _Span:
    feed = _feed(query, plan, HISTORY_FEEDS)
    start_ns, end_ns = _time(query, "start"), _time(query, "end", end_of_day=True)
    newest_ns = now_ns
    if feed == "sip" and not plan.recent_sip:
        newest_ns -= RECENT_NS
        if end_ns is not None and end_ns > newest_ns:
            raise _RefusedError(403, _RECENT_SIP)
    if end_ns is None:
        end_ns = newest_ns
    if start_ns is None:
        start_ns = min(_midnight_ns(_date_of(now_ns)), newest_ns)
    elif start_ns > end_ns and "end" in query:
        raise _RefusedError(400, "end should not be before start")
    sort = query.get("sort", "asc")
    if sort not in ("asc", "desc"):
        raise _RefusedError(400, f"invalid sort: {sort[:40]}; choose asc or desc")
    return _Span(feed, start_ns, end_ns, sort == "desc")


def _from_mark(span: _Span, mark: _Mark | None) -> _Span:
    """What is left to be looked at when a page has ended there."""
    if mark is None:
        return span
    if span.newest_first:
        return span._replace(end_ns=min(span.end_ns, mark.key[0]))
    return span._replace(start_ns=max(span.start_ns, mark.key[0]))


def _pieces(
    tape: Tape,
    channel: str,
    symbol: str,
    span: _Span,
    position: int,
    timeframe: _Timeframe | None,
) -> Iterator[list[Message[int]]]:
    longer = timeframe is not None and not timeframe.is_minute
    pieces = tape.history(
        span.feed,
        channel,
        symbol,
        start_ns=span.start_ns,
        # A longer bar that begins in time has minutes that do not.
        end_ns=tape.time_ns(position) if longer else span.end_ns,
        position=position,
        newest_first=span.newest_first and not longer,
    )
    if timeframe is None or timeframe.is_minute:
        return pieces
    return _aggregated(pieces, span, timeframe)


@dataclass(slots=True)
class _Page:
    """Items of one page, spelled as they come."""

    limit: int
    count: int = 0
    items: dict[str, list[bytes]] = field(default_factory=dict)
    mark: _Mark | None = None

    @property
    def full(self) -> bool:
        return self.count >= self.limit

    def add(self, symbol: str, piece: list[Message[int]], after: _Mark | None) -> bool:
        """Take what there is room for; True when there is no more."""
        if after is not None:
            piece = _after(piece, after)
        piece = piece[: self.limit - self.count]
        if piece:
            self.items.setdefault(symbol, []).append(_spell(symbol, piece))
            self.count += len(piece)
            self.mark = self._mark_after(symbol, piece, after)
        return self.full

    def _mark_after(self, symbol: str, piece: list[Message[int]], after: _Mark | None) -> _Mark:
        key = _sort_key(piece[-1])
        same = 0
        while same < len(piece) and _sort_key(piece[-1 - same]) == key:
            same += 1
        before = self.mark if self.mark is not None and self.mark.symbol == symbol else after
        if same == len(piece) and before is not None and before.key == key:
            same += before.count
        return _Mark(symbol, key, same)


def _after(piece: list[Message[int]], mark: _Mark) -> list[Message[int]]:
    """What of a piece comes after the mark; all of it, if it does not reach back to it."""
    for place, message in enumerate(piece):
        if message.timestamp != mark.key[0]:
            return piece[place:]
        if _sort_key(message) == mark.key:
            same = [
                each for each in piece[place : place + mark.count] if _sort_key(each) == mark.key
            ]
            return piece[place + len(same) :]
    return []


def _sort_key(message: Message[int]) -> tuple[int, str, int]:
    if isinstance(message, Trade):
        return message.timestamp, message.exchange, message.trade_id
    return message.timestamp, "", 0


def _body(asked: _Asked, page: _Page, query: Mapping[str, str], following: _Token | None) -> bytes:
    """The page, put together from pieces that are JSON already."""
    lists = {symbol: b"[" + b",".join(parts) + b"]" for symbol, parts in page.items.items()}
    token = None if following is None else _write_token(following)
    body: dict[str, Any] = {"next_page_token": token}
    if asked.single:
        (symbol,) = asked.symbols
        items = msgspec.Raw(lists[symbol]) if symbol in lists else None
        body = {asked.channel: items, "symbol": symbol} | body
    else:
        body = {asked.channel: {each: msgspec.Raw(lists[each]) for each in lists}} | body
    if "currency" in query:
        body["currency"] = query["currency"]
    return msgspec.json.encode(body)


def _write_token(token: _Token) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(token)).decode().rstrip("=")


def _read_token(token: str | None) -> _Token | None:
    if not token:
        return None
    try:
        data = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        return msgspec.json.decode(data, type=_Token)
    except (ValueError, msgspec.DecodeError):
        raise _RefusedError(400, "invalid page_token") from None


# -- longer bars -------------------------------------------------------------------------

_TIMEFRAME = re.compile(r"(\d{1,2})(Min|T|Hour|H|Day|D|Week|W|Month|M)")
_LENGTHS = {
    "Min": range(1, 60),
    "Hour": range(1, 24),
    "Day": range(1, 2),
    "Week": range(1, 2),
    "Month": (1, 2, 3, 4, 6, 12),
}
_LONG_NAMES = {"T": "Min", "H": "Hour", "D": "Day", "W": "Week", "M": "Month"}


class _Timeframe(NamedTuple):
    """How long a bar is."""

    number: int
    unit: str

    @property
    def is_minute(self) -> bool:
        return self == (1, "Min")

    def start_of(self, time_ns: int) -> int:
        """The left edge of the bar in which a time lies."""
        date = _date_of(time_ns)
        midnight_ns = _midnight_ns(date)
        if self.unit in ("Min", "Hour"):
            length_ns = self.number * MINUTE_NS * (60 if self.unit == "Hour" else 1)
            return time_ns - (time_ns - midnight_ns) % length_ns
        if self.unit == "Day":
            return midnight_ns
        if self.unit == "Week":
            return _midnight_ns(date - dt.timedelta(days=date.weekday()))
        month = date.month - 1 - (date.month - 1) % self.number
        return _midnight_ns(date.replace(month=month + 1, day=1))


def _timeframe(query: Mapping[str, str]) -> _Timeframe:
    text = query.get("timeframe", "")
    match = _TIMEFRAME.fullmatch(text)
    if match is not None:
        timeframe = _Timeframe(int(match[1]), _LONG_NAMES.get(match[2], match[2]))
        if timeframe.number in _LENGTHS[timeframe.unit]:
            return timeframe
    raise _RefusedError(400, f"invalid timeframe: {text[:40]!r}; write 1Min, 5Min, 1Hour or 1Day")


def _aggregated(
    pieces: Iterator[list[Message[int]]], span: _Span, timeframe: _Timeframe
) -> Iterator[list[Message[int]]]:
    """Longer bars out of minutes, those that begin inside the bounds."""
    bars: dict[int, list[Bar[int]]] = {}
    for piece in pieces:
        for minute in piece:
            start_ns = timeframe.start_of(minute.timestamp)
            if span.start_ns <= start_ns <= span.end_ns:
                assert isinstance(minute, Bar)
                bars.setdefault(start_ns, []).append(minute)
        yield []
    found: list[Message[int]] = [_joined(start, minutes) for start, minutes in bars.items()]
    yield found[::-1] if span.newest_first else found


def _joined(start_ns: int, minutes: list[Bar[int]]) -> Bar[int]:
    volume = sum(bar.volume for bar in minutes)
    turnover = sum(bar.vwap * bar.volume for bar in minutes)
    return Bar(
        symbol=minutes[0].symbol,
        open=minutes[0].open,
        high=max(bar.high for bar in minutes),
        low=min(bar.low for bar in minutes),
        close=minutes[-1].close,
        volume=volume,
        timestamp=start_ns,
        trade_count=sum(bar.trade_count for bar in minutes),
        vwap=round(turnover / volume, 6) if volume else 0.0,
    )


# -- clock and calendar ------------------------------------------------------------------

_FIRST_DAY, _LAST_DAY = dt.date(1970, 1, 1), dt.date(2029, 12, 31)
_SESSION_NS = SESSION_MINUTES * MINUTE_NS


def _clock(now_ns: int) -> dict[str, object]:
    """The tape's own time; the simulated market trades every weekday."""
    date = _date_of(now_ns)
    if date.weekday() > 4:
        opens_ns = session_open_ns(next_day(date))
        return _clock_answer(now_ns, False, opens_ns, opens_ns + _SESSION_NS)
    opens_ns = session_open_ns(date)
    closes_ns = opens_ns + _SESSION_NS
    next_opens_ns = session_open_ns(next_day(date))
    if now_ns < opens_ns:
        return _clock_answer(now_ns, False, opens_ns, closes_ns)
    if now_ns < closes_ns:
        return _clock_answer(now_ns, True, next_opens_ns, closes_ns)
    return _clock_answer(now_ns, False, next_opens_ns, next_opens_ns + _SESSION_NS)


def _clock_answer(
    now_ns: int, is_open: bool, next_open_ns: int, next_close_ns: int
) -> dict[str, object]:
    return {
        "timestamp": _in_new_york(now_ns),
        "is_open": is_open,
        "next_open": _in_new_york(next_open_ns),
        "next_close": _in_new_york(next_close_ns),
    }


def _in_new_york(time_ns: int) -> str:
    """RFC 3339 with New York's offset, to the nanosecond where there is any."""
    seconds, rest = divmod(time_ns, _SECOND_NS)
    text = dt.datetime.fromtimestamp(seconds, NEW_YORK).isoformat()
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return text[:19] + fraction + text[19:]


def _calendar(query: Mapping[str, str]) -> list[dict[str, str]]:
    if query.get("date_type", "TRADING") not in ("TRADING", "SETTLEMENT"):
        raise _RefusedError(422, "date_type is TRADING or SETTLEMENT", code=42210000)
    date = max(_calendar_date(query, "start", _FIRST_DAY), _FIRST_DAY)
    last = min(_calendar_date(query, "end", _LAST_DAY), _LAST_DAY)
    if date.weekday() > 4:
        date = next_day(date)
    days = []
    while date <= last:
        following = next_day(date)
        days.append(
            {
                "date": date.isoformat(),
                "open": "09:30",
                "close": "16:00",
                "session_open": "0400",
                "session_close": "2000",
                "settlement_date": following.isoformat(),
            }
        )
        date = following
    return days


def _calendar_date(query: Mapping[str, str], name: str, default: dt.date) -> dt.date:
    text = query.get(name)
    if text is None:
        return default
    try:
        # Typed as a time, but plain dates are what everybody sends.
        return dt.date.fromisoformat(text[:10])
    except ValueError:
        raise _RefusedError(422, f"invalid {name}: {text[:40]!r}", code=42210000) from None


# -- how often ---------------------------------------------------------------------------


class RateLimit:
    """Counts each account's requests in windows of a minute."""

    def __init__(self, per_minute: int | None) -> None:
        self._per_minute = per_minute
        self._windows: dict[Hashable, tuple[int, int]] = {}

    def count(self, account: Hashable, now_ns: int) -> tuple[bool, dict[str, str]]:
        """Count a request: whether it is one too many, and the headers that tell about it."""
        if self._per_minute is None:
            return False, {}
        ends_ns, used = self._windows.get(account, (0, 0))
        if now_ns >= ends_ns:
            ends_ns, used = now_ns + MINUTE_NS, 0
        self._windows[account] = ends_ns, used + 1
        return used >= self._per_minute, {
            "X-RateLimit-Limit": str(self._per_minute),
            "X-RateLimit-Remaining": str(max(0, self._per_minute - used - 1)),
            "X-RateLimit-Reset": _second_after(ends_ns),
        }


def come_back(now_ns: int, reset_s: float) -> dict[str, str]:
    """The headers that go with a 429 that ends so soon."""
    reset = _second_after(now_ns + round(reset_s * _SECOND_NS))
    return {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset}


def _second_after(time_ns: int) -> str:
    # Rounded up: who comes back then is let in.
    return str(-(-time_ns // _SECOND_NS))
