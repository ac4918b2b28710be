"""The REST twin: what it answers, without a socket."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from alpaca_nb.sim import rest
from alpaca_nb.sim.market import MINUTE_NS, SESSION_MINUTES
from alpaca_nb.sim.plans import Plan
from alpaca_nb.sim.tape import RecordedTape, SyntheticTape, Tape
from alpaca_nb.wire.codec import JSON, format_time, time_ns
from alpaca_nb.wire.messages import Bar, Message, Quote, Trade

SYMBOLS = ["AAPL", "IBM", "QXQX"]
TWO_MINUTES = 2 * MINUTE_NS
SECOND_NS = 1_000_000_000


class Twin:
    """A tape that has been played up to a position, and a plan."""

    def __init__(
        self, tape: Tape | None = None, position: int = TWO_MINUTES, plan: Plan | None = None
    ) -> None:
        self.tape = SyntheticTape() if tape is None else tape
        self.position = position
        self.plan = Plan() if plan is None else plan
        self.endless = False

    def ask(self, path: str, **query: object) -> tuple[int, Any]:
        steps = rest.answer(
            f"{path}?{urlencode(query)}" if query else path,
            self.tape,
            self.position,
            self.plan,
            endless=self.endless,
        )
        while True:
            try:
                next(steps)
            except StopIteration as done:
                return done.value.status, json.loads(done.value.body)

    def get(self, path: str, **query: object) -> Any:
        status, body = self.ask(path, **query)
        assert status == 200, body
        return body

    def refusal(self, path: str, **query: object) -> tuple[int, str]:
        status, body = self.ask(path, **query)
        return status, body["message"]

    def pages(self, path: str, **query: object) -> list[dict[str, Any]]:
        pages = [self.get(path, **query)]
        while pages[-1]["next_page_token"] is not None:
            pages.append(self.get(path, **query, page_token=pages[-1]["next_page_token"]))
        return pages


def spelled(messages: list[Message[int]]) -> list[dict[str, Any]]:
    """Messages as the stream spells them, less type and symbol."""
    return [
        {key: value for key, value in each.items() if key not in ("T", "S")}
        for each in json.loads(JSON.encode(messages))
    ]


@pytest.fixture
def twin() -> Twin:
    """Two minutes of the usual market have been played."""
    return Twin()


CHANNELS = [("quotes", {}), ("trades", {}), ("bars", {"timeframe": "1Min"})]


# -- history -----------------------------------------------------------------------------


@pytest.mark.parametrize(("channel", "more"), CHANNELS)
def test_a_history_is_what_was_played(twin, channel, more):
    """Every item of each symbol, as the stream spelled it, by symbol and time."""
    body = twin.get(
        f"/v2/stocks/{channel}", symbols="IBM,AAPL,QXQX", feed="iex", limit=10_000, **more
    )
    assert list(body) == [channel, "next_page_token"]
    assert list(body[channel]) == SYMBOLS
    for symbol in SYMBOLS:
        truth = twin.tape.truth("iex", channel, symbol, TWO_MINUTES)
        assert truth
        assert body[channel][symbol] == spelled(truth)
    assert body["next_page_token"] is None


@pytest.mark.parametrize(("channel", "more"), CHANNELS)
def test_a_single_symbol_has_a_shape_of_its_own(twin, channel, more):
    """The list stands beside the symbol, and is null where there is nothing."""
    several = twin.get(f"/v2/stocks/{channel}", symbols="IBM", feed="iex", **more)
    body = twin.get(f"/v2/stocks/IBM/{channel}", feed="iex", **more)
    assert list(body) == [channel, "symbol", "next_page_token"]
    assert (body["symbol"], body[channel]) == ("IBM", several[channel]["IBM"])
    nothing = twin.get(f"/v2/stocks/IBM/{channel}", feed="iex", start="2026-10-01", **more)
    assert nothing == {channel: None, "symbol": "IBM", "next_page_token": None}
    nothing = twin.get(f"/v2/stocks/{channel}", symbols="IBM", start="2026-10-01", **more)
    assert nothing == {channel: {}, "next_page_token": None}


@pytest.mark.parametrize("channel", ["quotes", "trades"])
@pytest.mark.parametrize("sort", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 97, 1000])
def test_pages_make_up_the_whole(channel, sort, limit):
    """However it is cut into pages, every item comes once, in order, symbol after symbol."""
    twin = Twin(SyntheticTape(rate=0.1, amendments=0.2))
    query = {"symbols": "AAPL,IBM,QXQX", "feed": "sip", "sort": sort}
    path = f"/v2/stocks/{channel}"
    whole = twin.get(path, limit=10_000, **query)
    joined: dict[str, list[Any]] = {}
    for page in twin.pages(path, limit=limit, **query):
        assert sum(map(len, page[channel].values())) <= limit
        for symbol, items in page[channel].items():
            joined.setdefault(symbol, []).extend(items)
    assert joined == whole[channel]
    times = [item["t"] for item in whole[channel]["AAPL"]]
    assert [time_ns(each) for each in times] == sorted(
        (time_ns(each) for each in times), reverse=sort == "desc"
    )


@pytest.mark.parametrize("sort", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 2, 3, 4])
def test_pages_may_end_between_items_of_the_same_time(tmp_path, limit, sort):
    """Many at one nanosecond are neither lost nor doubled; trades are by venue and number."""
    moment = "2026-09-21T14:13:20Z"
    quotes = [{"T": "q", "S": "A", "bp": n, "ap": 9, "t": moment} for n in range(5)]
    trades = [
        {"T": "t", "S": "A", "i": n, "x": venue, "p": 1, "s": 1, "t": moment}
        for venue, n in (("V", 2), ("D", 7), ("V", 1), ("V", 2), ("D", 3))
    ]
    path = tmp_path / "tape.jsonl"
    path.write_text("\n".join(map(json.dumps, quotes + trades)))
    twin = Twin(RecordedTape(path), position=SECOND_NS)
    query: dict[str, Any] = {"symbols": "A", "feed": "iex", "sort": sort, "limit": limit}
    found = [
        each["bp"]
        for page in twin.pages("/v2/stocks/quotes", start=moment, end=moment, **query)
        for each in page["quotes"].get("A", [])
    ]
    assert found == sorted(range(5), reverse=sort == "desc")
    found = [
        (each["x"], each["i"])
        for page in twin.pages("/v2/stocks/trades", start=moment, end=moment, **query)
        for each in page["trades"].get("A", [])
    ]
    in_order = [("D", 3), ("D", 7), ("V", 1), ("V", 2), ("V", 2)]
    assert found == (in_order if sort == "asc" else in_order[::-1])


def test_bounds_are_inclusive(twin):
    """An item exactly at start or end is in, one nanosecond further it is not."""
    trades = twin.tape.truth("iex", "trades", "AAPL", TWO_MINUTES)
    low, high = trades[3].timestamp, trades[7].timestamp

    def ids(start_ns: int, end_ns: int) -> list[int]:
        body = twin.get(
            "/v2/stocks/AAPL/trades",
            feed="iex",
            start=format_time(start_ns),
            end=format_time(end_ns),
        )
        return [each["i"] for each in body["trades"]]

    numbers = [trade.trade_id for trade in trades]
    assert ids(low, high) == numbers[3:8]
    assert ids(low + 1, high - 1) == numbers[4:7]
    assert ids(low, low) == numbers[3:4]


@pytest.mark.parametrize(
    "start",
    [
        "2026-09-21T13:31:00Z",
        "2026-09-21T13:31:00.000000000Z",
        "2026-09-21T09:31:00-04:00",
        "2026-09-21T15:31:00+02:00",
    ],
)
def test_times_may_be_written_with_any_offset(twin, start):
    """RFC 3339 with any offset means the same moment, also when "+" was not escaped."""
    path = "/v2/stocks/AAPL/quotes?feed=iex&limit=1&start="
    expected = twin.get(path + "2026-09-21T13:31:00Z")
    assert expected["quotes"][0]["t"].startswith("2026-09-21T13:31:00")
    assert twin.get(path + start) == expected
    assert twin.get("/v2/stocks/AAPL/quotes", feed="iex", limit=1, start=start) == expected


def test_a_plain_date_is_a_day_in_new_york(twin):
    """As start it is its first moment, as end its last."""
    query = {"feed": "iex", "limit": 10_000}
    whole = twin.get("/v2/stocks/IBM/quotes", **query)
    assert twin.get("/v2/stocks/IBM/quotes", start="2026-09-21", end="2026-09-21", **query) == whole
    assert twin.get("/v2/stocks/IBM/quotes", end="2026-09-20", start="2026-09-01", **query) == {
        "quotes": None,
        "symbol": "IBM",
        "next_page_token": None,
    }


def test_nothing_is_served_before_it_was_played():
    """At any position there is what is due by then, and a bar not before its minute is over."""
    for position in (0, 1, 7 * SECOND_NS, MINUTE_NS - 1, MINUTE_NS):
        twin = Twin(position=position)
        body = twin.get("/v2/stocks/AAPL/quotes", feed="iex", end="2027-01-01", limit=10_000)
        now = twin.tape.time_ns(position)
        times = [time_ns(each["t"]) for each in body["quotes"] or []]
        assert all(each <= now for each in times)
        assert bool(times) == (position > 1)
        query = {"feed": "iex", "timeframe": "1Min"}
        bars = twin.get("/v2/stocks/AAPL/bars", **query)["bars"]
        assert bool(bars) == (position == MINUTE_NS)


def test_amended_trades_say_so():
    """A cancelled one is listed as such, a corrected one twice: as it was and as it is."""
    tape = SyntheticTape(amendments=0.2, minutes=2)
    twin = Twin(tape, position=5 * MINUTE_NS)
    items = twin.get("/v2/stocks/AAPL/trades", feed="iex", limit=10_000)["trades"]
    updates = {each.get("u") for each in items}
    assert updates == {None, "canceled", "incorrect", "corrected"}
    corrected = [each for each in items if each.get("u") == "corrected"]
    incorrect = [each for each in items if each.get("u") == "incorrect"]
    assert sorted((each["t"], each["x"]) for each in corrected) == sorted(
        (each["t"], each["x"]) for each in incorrect
    )
    standing = [each for each in items if each.get("u") not in ("canceled", "incorrect")]
    truth = tape.truth("iex", "trades", "AAPL", 5 * MINUTE_NS)
    assert [{k: v for k, v in each.items() if k != "u"} for each in standing] == spelled(truth)


def test_symbols_may_be_any(twin):
    """Lower case, spaces and repetitions are put right, as is a symbol with a dot."""
    body = twin.get("/v2/stocks/quotes", symbols="ibm, BRK.B,IBM,", feed="iex", limit=10_000)
    assert list(body["quotes"]) == ["BRK.B", "IBM"]
    assert twin.get("/v2/stocks/BRK.B/quotes", feed="iex")["quotes"]


def test_the_currency_is_told_when_it_is_asked_for(twin):
    """As at Alpaca, the answer names it only then."""
    body = twin.get("/v2/stocks/quotes", symbols="IBM", feed="iex", limit=1, currency="USD")
    assert body["currency"] == "USD"


@pytest.mark.parametrize(
    ("timeframe", "starts"),
    [
        ("1Min", ["13:30", "13:31", "13:32", "13:33", "13:34", "13:35", "13:36"]),
        ("1T", ["13:30", "13:31", "13:32", "13:33", "13:34", "13:35", "13:36"]),
        ("3Min", ["13:30", "13:33", "13:36"]),
        ("5T", ["13:30", "13:35"]),
        ("30Min", ["13:30"]),
        ("1Hour", ["13:00"]),
        ("1H", ["13:00"]),
        ("1Day", ["04:00"]),
        ("1D", ["04:00"]),
        ("1Week", ["04:00"]),
        ("1Month", ["04:00"]),
        ("3M", ["04:00"]),
    ],
)
def test_longer_bars_are_made_of_minutes(timeframe, starts):
    """Each length has its left edges, and the volume is the same in all."""
    twin = Twin(position=7 * MINUTE_NS)
    query = {"feed": "iex", "start": "2026-01-01"}
    minutes = twin.get("/v2/stocks/AAPL/bars", timeframe="1Min", **query)["bars"]
    bars = twin.get("/v2/stocks/AAPL/bars", timeframe=timeframe, **query)["bars"]
    assert [bar["t"][11:16] for bar in bars] == starts
    assert sum(bar["v"] for bar in bars) == sum(bar["v"] for bar in minutes)
    assert sum(bar["n"] for bar in bars) == sum(bar["n"] for bar in minutes)
    assert (bars[0]["o"], bars[-1]["c"]) == (minutes[0]["o"], minutes[-1]["c"])
    assert max(bar["h"] for bar in bars) == max(bar["h"] for bar in minutes)
    backwards = twin.pages(
        "/v2/stocks/AAPL/bars", timeframe=timeframe, sort="desc", limit=2, **query
    )
    assert [bar for page in backwards for bar in page["bars"] or []] == bars[::-1]


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ({"symbols": ""}, "No symbol"),
        ({"symbols": "*"}, "invalid symbol"),
        ({"symbols": "a b"}, "not a symbol"),
        ({"feed": "moon"}, "invalid feed"),
        ({"feed": "delayed_sip"}, "invalid feed"),
        ({"start": "yesterday"}, "invalid start"),
        ({"start": "2026-02-30"}, "invalid start"),
        ({"end": "2026-09-21T25:00:00Z"}, "invalid end"),
        ({"end": "2026-09-21T13:30:00"}, "invalid end"),
        ({"start": "2026-09-22", "end": "2026-09-21"}, "before start"),
        ({"limit": "0"}, "limit"),
        ({"limit": "10001"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"sort": "up"}, "sort"),
        ({"page_token": "??"}, "page_token"),
        ({"page_token": "W10"}, "page_token"),
        ({"currency": "EUR"}, "USD"),
    ],
)
def test_bad_parameters_are_400_with_a_reason(twin, query, reason):
    """Each names what is wrong with it."""
    given = {"symbols": "AAPL", "feed": "iex"} | query
    status, message = twin.refusal("/v2/stocks/quotes", **given)
    assert status == 400
    assert reason in message


@pytest.mark.parametrize(
    "timeframe", ["", "1", "Min", "0Min", "60Min", "24Hour", "2Day", "2Week", "5Month", "1Year"]
)
def test_bad_timeframes_are_400(twin, timeframe):
    """A length that Alpaca does not have is refused, as is none at all."""
    status, message = twin.refusal("/v2/stocks/AAPL/bars", feed="iex", timeframe=timeframe)
    assert (status, "timeframe" in message) == (400, True)
    assert twin.refusal("/v2/stocks/AAPL/bars", feed="iex")[0] == 400


@pytest.mark.parametrize(
    "path",
    [
        *("/v2/stocks/AAPL/dividends", "/v2/stocks/", "/v2/stocks/AAPL", "/v2/stocks/latest"),
        *("/v2/stocks/a/b/quotes", "/v2/stocks/AAPL/quotes/first"),
    ],
)
def test_other_paths_are_404(twin, path):
    """What is not there is said so."""
    assert twin.refusal(path) == (404, "endpoint not found.")


def test_what_was_just_played_is_not_made_again(monkeypatch):
    """What a client backfills (3 symbols, 2 minutes) is there already, and so takes no time."""
    tape = SyntheticTape(symbols=SYMBOLS)
    tape.between("iex", {"quotes": frozenset(SYMBOLS)}, 0, TWO_MINUTES)
    tape.between("iex", {"quotes": frozenset(SYMBOLS)}, TWO_MINUTES, TWO_MINUTES + SECOND_NS)
    monkeypatch.setattr(SyntheticTape, "_make_chunk", None)
    query = {"symbols": "AAPL,IBM,QXQX", "feed": "iex", "limit": 10_000}
    assert Twin(tape).get("/v2/stocks/trades", **query)["trades"]


def test_a_long_history_is_made_in_pieces():
    """A whole day never holds up whoever else wants something for long."""
    twin = Twin(position=SESSION_MINUTES * MINUTE_NS)
    steps = rest.answer(
        "/v2/stocks/AAPL/bars?timeframe=1Day&feed=iex&start=2026-09-21",
        twin.tape,
        twin.position,
        twin.plan,
    )
    count = 0
    while True:
        try:
            next(steps)
        except StopIteration as done:
            (bar,) = json.loads(done.value.body)["bars"]
            break
        count += 1
    assert count >= SESSION_MINUTES
    assert bar["v"] > 0


# -- a page that never ends --------------------------------------------------------------


def test_endless_pages_never_end_and_can_be_ended(twin):
    """After the true page come empty ones with ever new tokens; later the rest follows."""
    path, query = "/v2/stocks/IBM/quotes", {"feed": "iex", "limit": 100}
    whole = [each for page in twin.pages(path, **query) for each in page["quotes"] or []]
    twin.endless = True
    tokens = []
    body = twin.get(path, **query)
    found = body["quotes"]
    assert len(found) == 100
    for _ in range(5):
        tokens.append(body["next_page_token"])
        body = twin.get(path, **query, page_token=tokens[-1])
        assert body["quotes"] is None
    assert len(set(tokens)) == 5
    twin.endless = False
    while body["next_page_token"]:
        body = twin.get(path, **query, page_token=body["next_page_token"])
        found += body["quotes"] or []
    assert found == whole


def test_endless_pages_after_the_last_item_end_with_nothing(twin):
    """A token that was given behind the end leads to an empty last page."""
    twin.endless = True
    body = twin.get("/v2/stocks/IBM/bars", feed="iex", timeframe="1Min")
    twin.endless = False
    token = body["next_page_token"]
    body = twin.get("/v2/stocks/IBM/bars", feed="iex", timeframe="1Min", page_token=token)
    assert body == {"bars": None, "symbol": "IBM", "next_page_token": None}


# -- latest ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channel", "one"), [("quotes", "quote"), ("trades", "trade"), ("bars", "bar")]
)
def test_the_latest_is_the_last_of_the_history(twin, channel, one):
    """For one symbol and for several, on every feed that has it."""
    for feed in ("iex", "sip", "delayed_sip", "overnight", "boats", "otc"):
        last = {
            symbol: spelled(twin.tape.truth(feed, channel, symbol, TWO_MINUTES)[-1:])[0]
            for symbol in SYMBOLS
        }
        several = twin.get(f"/v2/stocks/{channel}/latest", symbols="AAPL,IBM,QXQX", feed=feed)
        assert several == {channel: last}
        single = twin.get(f"/v2/stocks/IBM/{channel}/latest", feed=feed)
        assert single == {"symbol": "IBM", one: last["IBM"]}


def test_before_the_first_trade_there_is_no_latest_one():
    """A trade or a bar that was not played is 404; a first quote stands in for none."""
    twin = Twin(position=0)
    assert twin.refusal("/v2/stocks/IBM/trades/latest") == (404, "no trade found for IBM")
    assert twin.get("/v2/stocks/bars/latest", symbols="IBM") == {"bars": {}}
    assert twin.get("/v2/stocks/IBM/quotes/latest")["quote"]["bp"] > 0


def test_a_cancelled_trade_is_not_the_latest():
    """The last trade that stands is, if need be the one in its corrected version."""
    tape = SyntheticTape(amendments=1.0)
    for position in range(20 * SECOND_NS, 60 * SECOND_NS, 3 * SECOND_NS):
        truth = tape.truth("iex", "trades", "AAPL", position)
        latest = Twin(tape, position).get("/v2/stocks/AAPL/trades/latest", feed="iex")["trade"]
        assert {key: value for key, value in latest.items() if key != "u"} == spelled(truth)[-1]


# -- plans -------------------------------------------------------------------------------

RECENT_SIP = "subscription does not permit querying recent SIP data"


def test_recent_sip_data_is_403_on_the_free_plan():
    """An end within the last 15 minutes of the tape's time is refused; earlier is served."""
    twin = Twin(position=20 * MINUTE_NS, plan=Plan.basic())
    now = twin.tape.time_ns(twin.position)
    query = {"feed": "sip", "start": "2026-09-21"}
    for end_ns in (now, now - 15 * MINUTE_NS + 1):
        end = format_time(end_ns)
        assert twin.refusal("/v2/stocks/IBM/quotes", end=end, **query) == (403, RECENT_SIP)
    old = twin.get("/v2/stocks/IBM/quotes", end=format_time(now - 15 * MINUTE_NS), **query)
    assert old["quotes"]
    assert twin.refusal("/v2/stocks/IBM/quotes/latest", feed="sip") == (403, RECENT_SIP)
    paid = Twin(position=20 * MINUTE_NS, plan=Plan.plus())
    assert paid.get("/v2/stocks/IBM/quotes", end=format_time(now), **query)["quotes"]


def test_without_an_end_the_free_plan_gets_what_it_may_have():
    """The default end is 15 minutes ago, and the default feed the one the plan has."""
    twin = Twin(position=20 * MINUTE_NS, plan=Plan.basic())
    now = twin.tape.time_ns(twin.position)
    old = twin.get("/v2/stocks/IBM/quotes", feed="sip", sort="desc", limit=1)["quotes"][0]
    assert now - 16 * MINUTE_NS < time_ns(old["t"]) <= now - 15 * MINUTE_NS
    new = twin.get("/v2/stocks/IBM/quotes", sort="desc", limit=1)["quotes"][0]
    assert new["bx"] == "V"
    assert time_ns(new["t"]) > now - MINUTE_NS


def test_a_feed_that_is_not_in_the_plan_is_403():
    """What the stream would refuse with 409, REST refuses too."""
    status, message = Twin(plan=Plan.basic()).refusal("/v2/stocks/IBM/quotes", feed="otc")
    assert (status, "otc" in message) == (403, True)


# -- clock and calendar ------------------------------------------------------------------


def test_the_clock_is_the_tapes():
    """While the tape plays the market is open, and the times are New York's."""
    assert Twin(position=90 * SECOND_NS + 5).get("/v2/clock") == {
        "timestamp": "2026-09-21T09:31:30.000000005-04:00",
        "is_open": True,
        "next_open": "2026-09-22T09:30:00-04:00",
        "next_close": "2026-09-21T16:00:00-04:00",
    }


def test_after_the_close_the_market_is_closed():
    """A tape that ends with the day ends closed; Friday is followed by Monday."""
    tape = SyntheticTape(date="2026-10-30", minutes=SESSION_MINUTES)
    assert Twin(tape, position=400 * MINUTE_NS).get("/v2/clock") == {
        "timestamp": "2026-10-30T16:00:00-04:00",
        "is_open": False,
        "next_open": "2026-11-02T09:30:00-05:00",
        "next_close": "2026-11-02T16:00:00-05:00",
    }


@pytest.mark.parametrize(
    ("moment", "is_open", "next_open", "next_close"),
    [
        ("2026-09-21T11:00:00Z", False, "2026-09-21T09:30", "2026-09-21T16:00"),
        ("2026-09-21T14:00:00Z", True, "2026-09-22T09:30", "2026-09-21T16:00"),
        ("2026-09-19T14:00:00Z", False, "2026-09-21T09:30", "2026-09-21T16:00"),
    ],
)
def test_a_recording_has_the_hours_of_its_own_day(
    tmp_path: Path, moment: str, is_open: bool, next_open: str, next_close: str
) -> None:
    """Before the open and at the weekend the market is closed, as the recording's time says."""
    path = tmp_path / "tape.jsonl"
    path.write_text(json.dumps({"T": "q", "S": "A", "bp": 1, "ap": 2, "t": moment}))
    clock = Twin(RecordedTape(path), position=1).get("/v2/clock")
    assert clock["is_open"] is is_open
    assert clock["next_open"].startswith(next_open)
    assert clock["next_close"].startswith(next_close)


def test_the_calendar_lists_weekdays(twin):
    """Hours with and without a colon, as Alpaca spells them, and no weekends."""
    days = twin.get("/v2/calendar", start="2026-09-18", end="2026-09-22")
    assert [day["date"] for day in days] == ["2026-09-18", "2026-09-21", "2026-09-22"]
    assert days[0] == {
        "date": "2026-09-18",
        "open": "09:30",
        "close": "16:00",
        "session_open": "0400",
        "session_close": "2000",
        "settlement_date": "2026-09-21",
    }
    assert twin.get("/v2/calendar", start="2026-09-19", end="2026-09-20") == []
    assert twin.get("/v2/calendar", start="2026-09-18T00:00:00Z", end="2026-09-18") == days[:1]


def test_the_calendar_goes_from_1970_to_2029(twin):
    """Without bounds it is all there is."""
    days = twin.get("/v2/calendar")
    assert (days[0]["date"], days[-1]["date"]) == ("1970-01-01", "2029-12-31")
    assert all(dt.date.fromisoformat(day["date"]).weekday() < 5 for day in days)


@pytest.mark.parametrize("query", [{"start": "soon"}, {"end": "x"}, {"date_type": "LUNAR"}])
def test_a_bad_calendar_request_is_422(twin, query):
    """The trading host's code for what it cannot process, with a number and a message."""
    status, body = twin.ask("/v2/calendar", **query)
    assert status == 422
    assert body["code"] == 42210000
    assert body["message"]


# -- how often ---------------------------------------------------------------------------


def test_the_rate_limit_counts_by_account_and_minute():
    """So many in a minute; one more is too many until the minute is over."""
    limit, now = rest.RateLimit(2), 1_000 * SECOND_NS + 1
    for left in ("1", "0"):
        too_many, headers = limit.count("a", now)
        assert not too_many
        assert headers == {
            "X-RateLimit-Limit": "2",
            "X-RateLimit-Remaining": left,
            "X-RateLimit-Reset": "1061",
        }
    assert limit.count("a", now + 59 * SECOND_NS)[0]
    assert not limit.count("b", now)[0]
    assert not limit.count("a", 1061 * SECOND_NS)[0]


def test_without_a_limit_there_are_no_headers():
    """Nothing is counted, and nothing is told."""
    assert rest.RateLimit(None).count("a", 0) == (False, {})


def test_what_is_spelled_without_type_and_symbol_is_whole():
    """Cutting the two keys off leaves everything else, whatever the values are."""
    quote: Quote[int] = Quote(symbol="A", bid_price=1, ask_price=2, conditions=['"'], timestamp=0)
    trade: Trade[int] = Trade(symbol="A", price=1, size=2, conditions=['{"T":"t"'], timestamp=0)
    bar: Bar[int] = Bar(symbol="A", open=1, high=1, low=1, close=1, volume=1, timestamp=0)
    for message in (quote, trade, bar):
        items = json.loads(b"[" + rest._spell("A", [message, message]) + b"]")
        assert items == spelled([message, message])
