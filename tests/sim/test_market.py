"""Synthetic trading: always the same, and plausible."""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools

import pytest

from alpaca_nb.errors import BadInputError, UnknownFeedError
from alpaca_nb.sim.market import (
    DEFAULT_SYMBOLS,
    MINUTE_NS,
    SESSION_MINUTES,
    SyntheticMarket,
    next_trading_day,
    profile_of,
)
from alpaca_nb.wire.codec import JSON, MSGPACK
from alpaca_nb.wire.messages import Bar, Imbalance, Message, PriceBand, Quote, Status, Trade

SYMBOLS = ("AAPL", "SPY", "F", "NFLX", "BRK.B", "QXQX")
MINUTES = (0, 7, 195, 389)
PINNED_DIGEST = "3dc1de65f353117a5ea6d172842a109d032f0b5fe2aacd0da93656059e021e8a"
PINNED_QUOTE = Quote(
    symbol="AAPL",
    bid_exchange="Q",
    bid_price=232.53,
    bid_size=600,
    ask_exchange="V",
    ask_price=232.57,
    ask_size=700,
    conditions=["R"],
    tape="C",
    timestamp=1789997400003133300,
)


def ticks(messages: list[Message[int]]) -> list[Message[int]]:
    """All but the bar, which is stamped with the start of its minute."""
    return [message for message in messages if type(message) is not Bar]


@pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=["json", "msgpack"])
def test_same_seed_is_the_same_day_byte_for_byte(codec):
    """Two markets with the same seed say the same bytes, minute after minute."""
    first = codec.encode(SyntheticMarket(7).messages(SYMBOLS, range(3)))
    second = codec.encode(SyntheticMarket(7).messages(SYMBOLS, range(3)))
    assert first == second


def test_a_minute_does_not_depend_on_what_was_made_before():
    """Any minute can be made alone, in any order, whatever other symbols there are."""
    forwards = SyntheticMarket(symbols=SYMBOLS)
    backwards = SyntheticMarket(symbols=["AAPL"])
    expected = [forwards.minute("AAPL", minute) for minute in MINUTES]
    for symbol in SYMBOLS:
        backwards.minute(symbol, 5)
    made = [backwards.minute("AAPL", minute) for minute in reversed(MINUTES)]
    assert made[::-1] == expected


@pytest.mark.parametrize(
    "other",
    [
        SyntheticMarket(8),
        SyntheticMarket(7, "2026-09-22"),
        SyntheticMarket(7, rate=1.5),
    ],
    ids=["seed", "date", "rate"],
)
def test_another_seed_date_or_rate_is_another_tape(other):
    """Nothing but the symbols and the feed may be changed without changing the tape."""
    assert other.minute("AAPL", 3) != SyntheticMarket(7).minute("AAPL", 3)


def test_the_first_bytes_are_pinned():
    """A change of the market shows here: it changes every stored output that uses a seed."""
    quote = next(m for m in SyntheticMarket(7).minute("AAPL", 0) if type(m) is Quote)
    assert quote == PINNED_QUOTE
    messages = SyntheticMarket(7).messages(["AAPL", "BRK.B", "QXQX"], [0, 200])
    assert hashlib.sha256(JSON.encode(messages)).hexdigest() == PINNED_DIGEST


@pytest.mark.parametrize("minute", MINUTES)
@pytest.mark.parametrize("symbol", SYMBOLS)
def test_times_are_strictly_in_order_within_the_minute(symbol, minute):
    """No two messages of a symbol share a nanosecond, and none is outside its minute."""
    market = SyntheticMarket()
    times = [message.timestamp for message in ticks(market.minute(symbol, minute))]
    start = market.open_ns + minute * MINUTE_NS
    assert all(earlier < later for earlier, later in itertools.pairwise(times))
    assert start < times[0]
    assert times[-1] < start + MINUTE_NS


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_trades_are_inside_the_standing_quote(symbol):
    """Every trade's price lies between the bid and the ask that stood at its time."""
    market = SyntheticMarket()
    for minute in MINUTES:
        standing = None
        for message in market.minute(symbol, minute):
            if type(message) is Quote:
                standing = message
            elif type(message) is Trade:
                assert standing is not None
                assert standing.bid_price <= message.price <= standing.ask_price


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_quotes_are_plausible(symbol):
    """Bid under ask, whole ticks, round lots, and the right tape and venue codes."""
    for minute in MINUTES:
        for message in SyntheticMarket(feed="sip").minute(symbol, minute):
            if type(message) is not Quote:
                continue
            assert 0 < message.bid_price < message.ask_price
            assert message.bid_price == round(message.bid_price, 2)
            assert message.ask_price == round(message.ask_price, 2)
            assert message.bid_size % 100 == message.ask_size % 100 == 0
            assert message.bid_size > 0 < message.ask_size
            assert message.conditions == ["R"]
            assert message.tape == profile_of(symbol).tape
            assert len(message.bid_exchange) == len(message.ask_exchange) == 1


def test_under_a_dollar_a_tick_is_a_hundredth_of_a_cent():
    """Cheap shares are quoted with four digits."""
    names = ("".join(letters) for letters in itertools.product("XYZW", repeat=4))
    cheap = next(name for name in names if profile_of(name).price < 0.7)
    quotes = [m for m in SyntheticMarket().minute(cheap, 5) if type(m) is Quote]
    assert all(quote.ask_price == round(quote.ask_price, 4) < 1 for quote in quotes)
    assert any(quote.ask_price != round(quote.ask_price, 2) for quote in quotes)


@pytest.mark.parametrize(("symbol", "regular"), [("AAPL", "@"), ("IBM", " "), ("SPY", " ")])
def test_conditions_follow_tape_and_size(symbol, regular):
    """The regular sale is "@" on tape C, else a space; odd lots, and only they, have "I"."""
    trades = [m for m in SyntheticMarket().minute(symbol, 2) if type(m) is Trade]
    assert {trade.conditions[0] for trade in trades} == {regular}
    assert all(("I" in trade.conditions) == (trade.size < 100) for trade in trades)
    assert any(trade.size < 100 for trade in trades)


def test_trade_ids_are_unique_and_increase():
    """A symbol's trade ids increase over the whole day."""
    market = SyntheticMarket()
    ids = [
        message.trade_id
        for minute in range(5)
        for message in market.minute("AAPL", minute)
        if type(message) is Trade
    ]
    assert all(earlier < later for earlier, later in itertools.pairwise(ids))


def test_iex_is_one_venue_and_sip_is_many():
    """The feeds differ in who quotes; prices and times are the same."""
    iex = [m for m in SyntheticMarket(feed="iex").minute("AAPL", 1) if type(m) is Quote]
    sip = [m for m in SyntheticMarket(feed="sip").minute("AAPL", 1) if type(m) is Quote]
    assert {quote.bid_exchange for quote in iex} == {"V"}
    assert len({quote.bid_exchange for quote in sip}) > 3
    assert [(q.timestamp, q.bid_price) for q in iex] == [(q.timestamp, q.bid_price) for q in sip]


def test_the_test_feed_has_fakepaca():
    """On the feed `test` there is the symbol that Alpaca has there."""
    assert SyntheticMarket(feed="test").symbols == ("FAKEPACA",)
    assert SyntheticMarket(feed="test").minute("FAKEPACA", 0)


def test_activity_has_a_burst_at_the_open_and_a_u_shape():
    """The first minute is the busiest, and noon is quieter than morning and close."""
    market = SyntheticMarket()

    def busy(minutes: range) -> float:
        return sum(
            len(market.minute(symbol, minute)) for symbol in DEFAULT_SYMBOLS for minute in minutes
        ) / len(minutes)

    opening, morning, noon, close = (
        busy(minutes)
        for minutes in (range(1), range(10, 30, 4), range(190, 206, 4), range(387, 390))
    )
    assert opening > 2 * morning
    assert morning > 1.3 * noon
    assert close > 1.3 * noon


def test_events_come_in_bursts():
    """Gaps between events vary more than they would if events knew nothing of each other."""
    times = [m.timestamp for m in ticks(SyntheticMarket().minute("MSFT", 60))]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    mean = sum(gaps) / len(gaps)
    variance = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)
    assert variance > 2 * mean**2  # 1 for independent events


def test_minutes_join():
    """A minute begins about where the one before it ended."""
    market = SyntheticMarket()
    for minute in (0, 100, 388):
        before = [m for m in market.minute("SPY", minute) if type(m) is Quote][-1]
        after = next(m for m in market.minute("SPY", minute + 1) if type(m) is Quote)
        assert after.bid_price == pytest.approx(before.bid_price, rel=2e-3)


def test_days_join():
    """A day opens near where the one before it closed, though each is made alone."""
    market = SyntheticMarket()
    for _ in range(3):
        following = market.day(1)
        close = market.minute("MSFT", SESSION_MINUTES - 1)[-1]
        opening = next(m for m in following.minute("MSFT", 0) if type(m) is Quote)
        assert isinstance(close, Bar)
        assert opening.bid_price == pytest.approx(close.close, rel=0.03)
        market = following


def test_friday_is_followed_by_monday():
    """The simulated week has five days."""
    assert next_trading_day(dt.date(2026, 9, 25)) == dt.date(2026, 9, 28)
    assert SyntheticMarket(date="2026-09-25").day(1).date == dt.date(2026, 9, 28)


def test_the_clock_change_moves_the_open():
    """09:30 in New York is another hour of UTC in winter."""
    summer = SyntheticMarket(date="2026-07-01").open_ns // 10**9 % 86_400
    winter = SyntheticMarket(date="2026-12-01").open_ns // 10**9 % 86_400
    assert (summer, winter) == (13.5 * 3600, 14.5 * 3600)


@pytest.mark.parametrize("symbol", ["AAPL", "IBM", "QXQX"])
def test_bars_equal_those_from_the_minutes_own_trades(symbol):
    """The bar ends the minute, and opens, peaks and counts as its regular trades do."""
    market = SyntheticMarket()
    messages = market.minute(symbol, 4)
    bar = messages[-1]
    assert type(bar) is Bar
    trades = [message for message in messages if type(message) is Trade]
    regular = [trade for trade in trades if "I" not in trade.conditions]
    assert bar.timestamp == market.open_ns + 4 * MINUTE_NS
    assert (bar.open, bar.close) == (regular[0].price, regular[-1].price)
    assert bar.high == max(trade.price for trade in regular)
    assert bar.low == min(trade.price for trade in regular)
    assert bar.volume == sum(trade.size for trade in trades)
    assert bar.trade_count == len(trades)
    value = sum(trade.price * trade.size for trade in regular)
    assert bar.vwap == pytest.approx(value / sum(trade.size for trade in regular), abs=1e-5)


def test_the_daily_bar_is_the_same_however_it_is_asked_for():
    """Minute after minute or at once, the day's bar agrees with the minutes' bars."""
    step_by_step, at_once = SyntheticMarket(), SyntheticMarket()
    steps = [step_by_step.daily_bar("AAPL", minute) for minute in range(4)]
    assert at_once.daily_bar("AAPL", 3) == steps[-1]
    assert at_once.daily_bar("AAPL", 1) == steps[1]
    bars = [bar for minute in range(4) for bar in at_once.minute("AAPL", minute)[-1:]]
    assert steps[-1] is not None
    assert steps[-1].volume == sum(bar.volume for bar in bars if isinstance(bar, Bar))
    assert steps[-1].timestamp == SyntheticMarket().open_ns - 34_200 * 10**9


def test_every_minute_has_a_price_band_around_the_price():
    """A LULD band is there before the first quote of a minute, and trades respect it."""
    for minute in MINUTES:
        band, *rest = SyntheticMarket().minute("AAPL", minute)
        assert type(band) is PriceBand
        prices = [message.price for message in rest if type(message) is Trade]
        assert band.limit_down < min(prices) <= max(prices) < band.limit_up


@pytest.mark.parametrize(
    ("seed", "symbol", "minute", "codes"),
    [(47, "AMZN", 84, ("H", "T")), (46, "JPM", 292, ("2", "3"))],
)
def test_a_volatility_pause_halts_trading_for_five_minutes(seed, symbol, minute, codes):
    """On the rare day with a pause: halt, imbalances, no trading, then a resumption."""
    market = SyntheticMarket(seed)
    assert any(type(message) is Trade for message in market.minute(symbol, minute - 1))
    first, *following = (market.minute(symbol, minute + later) for later in range(6))
    assert isinstance(first[0], Status)
    assert (first[0].status_code, first[0].status_message) == (codes[0], "Trading Halt")
    for paused in (first[1:], *following[:4]):
        assert [type(message) for message in paused] == [Imbalance]
    resumed = following[4]
    assert isinstance(resumed[0], Status)
    assert resumed[0].status_code == codes[1]
    assert any(type(message) is Quote for message in resumed)


def test_rate_multiplies_what_happens():
    """Five times the rate is about five times as many messages."""
    usual = len(SyntheticMarket().minute("AAPL", 60))
    assert 4 * usual < len(SyntheticMarket(rate=5).minute("AAPL", 60)) < 6 * usual


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"seed": -1}, "seed"),
        ({"seed": "x"}, "seed"),
        ({"rate": 0}, "rate"),
        ({"rate": float("nan")}, "rate"),
        ({"date": "soon"}, "2026-09-21"),
        ({"date": "2026-09-20"}, "Sunday"),
        ({"date": "1066-10-14"}, "range|weekdays"),
        ({"symbols": []}, "No symbol"),
        ({"symbols": ["?"]}, "not a symbol"),
        ({"symbols": "*"}, "no symbol"),
    ],
)
def test_bad_arguments_are_explained(options, reason):
    """Whatever cannot be simulated is refused in one sentence, at once."""
    with pytest.raises(BadInputError, match=reason):
        SyntheticMarket(**options)


def test_bad_questions_are_explained():
    """No such minute, symbol or feed: an error says what there is."""
    with pytest.raises(BadInputError, match="0 to 389"):
        SyntheticMarket().minute("AAPL", 390)
    with pytest.raises(BadInputError, match="not a symbol"):
        SyntheticMarket().minute("a b", 0)
    with pytest.raises(BadInputError, match="one at a time"):
        SyntheticMarket().minute("*", 0)
    with pytest.raises(UnknownFeedError):
        SyntheticMarket(feed="opra")


def test_several_symbols_come_as_one_stream():
    """Merged by time; each minute ends with the bars, then the bars of the day."""
    messages = list(SyntheticMarket().messages(["AAPL", "SPY"], [0]))
    names = [type(message).__name__ for message in messages[-4:]]
    assert names == ["Bar", "Bar", "DailyBar", "DailyBar"]
    times = [message.timestamp for message in messages[:-4]]
    assert times == sorted(times)
