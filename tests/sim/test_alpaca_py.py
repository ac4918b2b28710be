"""Alpaca's own Python client consumes the simulator and cannot tell the difference."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgpack
import pytest

from alpaca_nb.sim.market import SyntheticMarket
from alpaca_nb.sim.server import LocalSimulator
from alpaca_nb.wire.codec import time_ns
from alpaca_nb.wire.messages import Bar, Quote, Trade

websocket_module = pytest.importorskip("alpaca.data.live.websocket")
live = pytest.importorskip("alpaca.data.live.stock")

pytestmark = [
    # alpaca-py is written for the older interface of websockets.
    pytest.mark.filterwarnings("ignore:websockets.*:DeprecationWarning"),
]


class JsonInsteadOfMsgpack:
    """Stands in for the `msgpack` module inside alpaca-py, which never asks for JSON.

    Its whole machinery stays as it is; only the two calls with which it packs and
    unpacks speak the other codec, and times are given the type it expects.
    """

    Timestamp = msgpack.Timestamp

    @staticmethod
    def packb(value: Any) -> bytes:
        return json.dumps(value).encode()

    @staticmethod
    def unpackb(data: bytes | str) -> Any:
        assert isinstance(data, str), "JSON travels in text frames"
        messages = json.loads(data)
        for message in messages:
            if "t" in message:
                message["t"] = msgpack.Timestamp.from_unix_nano(time_ns(message["t"]))
        return messages


@pytest.fixture(params=["msgpack", "json"])
def codec(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make alpaca-py speak one codec or the other."""
    if request.param == "json":
        monkeypatch.setattr(websocket_module, "msgpack", JsonInsteadOfMsgpack)
        connect = websocket_module.websockets_legacy.connect

        def connect_for_json(url: str, extra_headers: dict[str, str], **options: Any) -> Any:
            headers = extra_headers | {"Content-Type": "application/json"}
            return connect(url, extra_headers=headers, **options)

        monkeypatch.setattr(websocket_module.websockets_legacy, "connect", connect_for_json)
    return str(request.param)


@pytest.fixture
def simulator() -> Iterator[LocalSimulator]:
    """Two minutes of market in about a second."""
    with LocalSimulator(seed=5, speed=100, symbols=["AAPL", "IBM"]) as running:
        yield running


class Run:
    """A StockDataStream on a thread, as its `run()` is meant to be used, until it has enough."""

    def __init__(self, url: str, *, enough: int = 3) -> None:
        self.stream = live.StockDataStream("key", "secret", url_override=url)
        self.quotes: list[Any] = []
        self.trades: list[Any] = []
        self.bars: list[Any] = []
        self._bars = enough
        self._enough = threading.Event()

    async def on_quote(self, quote: Any) -> None:
        self.quotes.append(quote)

    async def on_trade(self, trade: Any) -> None:
        self.trades.append(trade)

    async def on_bar(self, bar: Any) -> None:
        self.bars.append(bar)
        if len(self.bars) >= self._bars:
            self._enough.set()

    def until_enough(self) -> None:
        thread = threading.Thread(target=self.stream.run, daemon=True)
        thread.start()
        try:
            assert self._enough.wait(timeout=20)
        finally:
            self.stream.stop()
            thread.join(timeout=10)
        assert not thread.is_alive()


def test_quotes_trades_and_bars_arrive_as_they_are_in_the_market(codec, simulator):
    """Every quote and trade of the first minute, field for field, and the bars made of them."""
    run = Run(simulator.url + "/v2/iex")
    run.stream.subscribe_quotes(run.on_quote, "AAPL")
    run.stream.subscribe_trades(run.on_trade, "AAPL", "IBM")
    run.stream.subscribe_bars(run.on_bar, "*")
    run.until_enough()

    market = SyntheticMarket(5, feed="iex")
    apple, ibm = market.minute("AAPL", 0), market.minute("IBM", 0)
    quotes = [message for message in apple if type(message) is Quote]
    assert [fields_of_quote(quote) for quote in run.quotes[: len(quotes)]] == [
        (
            *(quote.symbol, moment(quote.timestamp)),
            *(quote.bid_exchange, quote.bid_price, quote.bid_size),
            *(quote.ask_exchange, quote.ask_price, quote.ask_size),
            *(quote.conditions, quote.tape),
        )
        for quote in quotes
    ]
    trades = sorted(
        (message for message in (*apple, *ibm) if type(message) is Trade),
        key=lambda trade: trade.timestamp,
    )
    assert [fields_of_trade(trade) for trade in run.trades[: len(trades)]] == [
        (
            *(trade.symbol, moment(trade.timestamp), trade.trade_id, trade.exchange),
            *(trade.price, trade.size, trade.conditions, trade.tape),
        )
        for trade in trades
    ]
    bars = [message for message in (apple[-1], ibm[-1]) if type(message) is Bar]
    assert [(b.symbol, b.open, b.high, b.low, b.close, b.volume) for b in run.bars[:2]] == [
        (b.symbol, b.open, b.high, b.low, b.close, b.volume) for b in bars
    ]
    assert run.bars[0].timestamp.isoformat() == "2026-09-21T13:30:00+00:00"
    assert run.bars[0].trade_count == bars[0].trade_count
    assert run.bars[0].vwap == bars[0].vwap


def test_a_wrong_key_is_refused_as_by_alpaca(codec):
    """alpaca-py raises what it raises for Alpaca's own refusal."""
    with LocalSimulator(key="right", secret="right") as simulator:
        stream = live.StockDataStream("wrong", "wrong", url_override=simulator.url + "/v2/iex")
        with pytest.raises(ValueError, match="auth failed"):
            asyncio.run(stream._start_ws())


def test_thousands_of_symbols_in_one_subscription(codec):
    """alpaca-py sends it as one message in fragments; the simulator puts it together."""
    names = [
        a + b + c + d for a in "ABCDEFGH" for b in "ABCDEFGH" for c in "AB" for d in "ABCDEFGH"
    ]

    async def subscribe(url: str) -> Any:
        stream = live.StockDataStream("key", "secret", url_override=url)
        stream._handlers["bars"] = dict.fromkeys(names)
        await stream._start_ws()
        await stream._send_subscribe_msg()
        answer = websocket_module.msgpack.unpackb(await stream._ws.recv())
        await stream.close()
        return answer

    with LocalSimulator() as simulator:
        (answer,) = asyncio.run(subscribe(simulator.url + "/v2/sip"))
    assert answer["T"] == "subscription"
    assert sorted(answer["bars"]) == sorted(names)


def test_its_rest_client_gets_latest_quotes():
    """The other half of alpaca-py asks the same simulator over REST."""
    historical = pytest.importorskip("alpaca.data.historical.stock")
    requests = pytest.importorskip("alpaca.data.requests")
    with LocalSimulator(seed=5) as simulator:
        url = simulator.url.replace("ws:", "http:")
        client = historical.StockHistoricalDataClient("key", "secret", url_override=url)
        request = requests.StockLatestQuoteRequest(symbol_or_symbols=["AAPL", "F"], feed="iex")
        latest = client.get_stock_latest_quote(request)
        client._session.close()
    market = SyntheticMarket(5, feed="iex")
    for symbol in ("AAPL", "F"):
        first = next(m for m in market.minute(symbol, 0) if type(m) is Quote)
        assert (latest[symbol].bid_price, latest[symbol].timestamp) == (
            first.bid_price,
            moment(first.timestamp),
        )


def moment(ns: int) -> datetime:
    """The time as alpaca-py gives it, to the microsecond."""
    return msgpack.Timestamp.from_unix_nano(ns).to_datetime()


def fields_of_quote(quote: Any) -> tuple[Any, ...]:
    return (
        *(quote.symbol, quote.timestamp),
        *(quote.bid_exchange, quote.bid_price, quote.bid_size),
        *(quote.ask_exchange, quote.ask_price, quote.ask_size),
        *(quote.conditions, quote.tape),
    )


def fields_of_trade(trade: Any) -> tuple[Any, ...]:
    return (
        *(trade.symbol, trade.timestamp, trade.id, trade.exchange),
        *(trade.price, trade.size, trade.conditions, trade.tape),
    )


@pytest.fixture
def played() -> Iterator[LocalSimulator]:
    """A minute of market that has been played to its end."""
    with LocalSimulator(seed=5, speed=0, symbols=["AAPL", "IBM"], minutes=1) as running:
        run = Run(running.url + "/v2/iex", enough=2)
        run.stream.subscribe_bars(run.on_bar, "*")
        run.until_enough()
        yield running


def test_its_rest_client_gets_the_history(played):
    """Quotes, trades and bars of several symbols, in pages, are those of the market."""
    historical = pytest.importorskip("alpaca.data.historical.stock")
    requests = pytest.importorskip("alpaca.data.requests")
    timeframe = pytest.importorskip("alpaca.data.timeframe")
    client = historical.StockHistoricalDataClient("key", "secret", url_override=played.rest_url)
    names = ["AAPL", "IBM"]
    query = {"symbol_or_symbols": names, "feed": "iex", "start": datetime(2026, 9, 21)}
    quotes = client.get_stock_quotes(requests.StockQuotesRequest(**query)).data
    trades = client.get_stock_trades(requests.StockTradesRequest(**query)).data
    minute = timeframe.TimeFrame.Minute
    bars = client.get_stock_bars(requests.StockBarsRequest(timeframe=minute, **query)).data
    latest = client.get_stock_latest_trade(
        requests.StockLatestTradeRequest(symbol_or_symbols="IBM", feed="iex")
    )
    client._session.close()
    market = SyntheticMarket(5, feed="iex")
    for symbol in names:
        messages = market.minute(symbol, 0)
        expected = [message for message in messages if type(message) is Quote]
        assert [(each.timestamp, each.bid_price, each.ask_size) for each in quotes[symbol]] == [
            (moment(each.timestamp), each.bid_price, each.ask_size) for each in expected
        ]
        sales = [message for message in messages if type(message) is Trade]
        assert [(each.id, each.price, each.conditions) for each in trades[symbol]] == [
            (each.trade_id, each.price, each.conditions) for each in sales
        ]
        (bar,) = bars[symbol]
        assert (bar.close, bar.volume) == (messages[-1].close, messages[-1].volume)
    assert latest["IBM"].id == trades["IBM"][-1].id


def test_its_trading_client_gets_clock_and_calendar(played):
    """The trading host's half of the twin reads like Alpaca's."""
    trading = pytest.importorskip("alpaca.trading.client")
    requests = pytest.importorskip("alpaca.trading.requests")
    client = trading.TradingClient("key", "secret", url_override=played.rest_url)
    clock = client.get_clock()
    day = datetime(2026, 9, 21).date()
    days = client.get_calendar(requests.GetCalendarRequest(start=day, end=day))
    client._session.close()
    assert clock.is_open
    assert clock.timestamp.isoformat() == "2026-09-21T09:31:00-04:00"
    assert clock.next_close.isoformat() == "2026-09-21T16:00:00-04:00"
    assert [(each.date, each.open.hour, each.close.hour) for each in days] == [(day, 9, 16)]
