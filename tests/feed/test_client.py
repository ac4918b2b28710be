"""The guide's client over real sockets: everything that the streaming guide shows, and sharing."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from datetime import UTC
from typing import Any

import pytest
from waiting import until

import alpaca_nb as anb
from alpaca_nb.errors import (
    AuthenticationError,
    BadInputError,
    ConnectError,
    UnknownChannelError,
    UnknownFeedError,
)
from alpaca_nb.feed.stream import Stream

KEY, SECRET = "PKTESTKEY0000", "sEcReTtExT0000"


@pytest.fixture(scope="module")
def simulator() -> Iterator[anb.LocalSimulator]:
    """A market in which a minute passes in half a second."""
    with anb.LocalSimulator(speed=120, rate=0.2, key=KEY, secret=SECRET) as running:
        yield running


@pytest.fixture
def api(simulator: anb.LocalSimulator, monkeypatch: pytest.MonkeyPatch) -> anb.PyAlpacaAPI:
    """The guide's entry point, pointed at the simulator by the environment."""
    monkeypatch.setenv("ALPACA_NB_STREAM_URL", simulator.url)
    monkeypatch.setenv("ALPACA_NB_DATA_URL", simulator.url.replace("ws:", "http:"))
    return anb.PyAlpacaAPI(api_key=KEY, api_secret=SECRET, api_paper=True)


@pytest.fixture
def stream(api: anb.PyAlpacaAPI) -> Iterator[anb.StreamClient]:
    """A client that the test connects."""
    client = api.create_stream_client(feed="iex")
    yield client
    client.disconnect()


# -- what the guide shows ----------------------------------------------------------------


def test_quick_start(stream: anb.StreamClient) -> None:
    """Connect, subscribe quotes, trades and bars with a handler each, and disconnect."""
    quotes: list[Any] = []
    trades: list[Any] = []
    bars: list[Any] = []
    stream.connect()
    stream.subscribe_quotes(["AAPL", "GOOGL"], quotes.append)
    stream.subscribe_trades(["MSFT"], trades.append)
    stream.subscribe_bars(["SPY"], bars.append)
    until(lambda: {q.symbol for q in quotes} == {"AAPL", "GOOGL"} and trades and bars)
    stream.disconnect()
    assert {type(each) for each in quotes} == {anb.QuoteData}
    assert {type(each) for each in trades} == {anb.TradeData}
    assert {type(each) for each in bars} == {anb.BarData}
    assert {each.symbol for each in trades} == {"MSFT"}
    assert {each.symbol for each in bars} == {"SPY"}
    assert quotes[0].timestamp.tzinfo is UTC
    assert isinstance(trades[0].trade_id, str)
    assert bars[0].low <= bars[0].vwap <= bars[0].high


def test_context_manager(api: anb.PyAlpacaAPI) -> None:
    """The with statement connects and disconnects, also when the body raises."""
    with api.create_stream_client() as stream:
        assert stream.is_connected
        seen: list[Any] = []
        stream.subscribe_quotes(["AAPL"], seen.append)
        until(lambda: seen)
    assert not stream.is_connected
    with pytest.raises(ZeroDivisionError), api.create_stream_client() as stream:
        raise ZeroDivisionError
    assert not stream.is_connected


def test_multiple_handlers(stream: anb.StreamClient) -> None:
    """Several handlers of one symbol all get every message, in the same order."""
    first: list[Any] = []
    second: list[Any] = []
    stream.subscribe_quotes(["AAPL"], first.append)
    stream.subscribe_quotes(["AAPL"], second.append)
    stream.connect()
    until(lambda: len(second) > 20)
    stream.disconnect()
    shared = min(len(first), len(second))
    assert first[:shared] == second[:shared]


def test_the_same_handler_twice_is_called_once(stream: anb.StreamClient) -> None:
    """A cell that is run again does not double its handler."""
    seen: list[Any] = []

    def handler(quote: anb.QuoteData) -> None:
        seen.append((quote.timestamp_ns, quote.bid_price, quote.ask_price, quote.bid_size))

    stream.subscribe_quotes(["AAPL"], handler)
    stream.subscribe_quotes(["AAPL", "MSFT"], handler)
    assert stream.subscriptions["quotes"] == {"AAPL", "MSFT"}
    stream.unsubscribe_quotes(["MSFT"])
    stream.connect()
    until(lambda: len(seen) > 50)
    stream.disconnect()
    assert len({each[0] for each in seen}) == len(seen)


def test_dynamic_subscriptions(stream: anb.StreamClient) -> None:
    """Symbols come and go while the stream runs, and `subscriptions` tells."""
    seen: deque[str] = deque(maxlen=1000)

    def handler(quote: anb.QuoteData) -> None:
        seen.append(quote.symbol)

    stream.connect()
    stream.subscribe_quotes(["AAPL", "GOOGL"], handler)
    stream.subscribe_quotes(["MSFT", "AMZN"], handler)
    until(lambda: set(seen) == {"AAPL", "GOOGL", "MSFT", "AMZN"})
    stream.unsubscribe_quotes(["AAPL"])
    assert stream.subscriptions == {
        "quotes": {"GOOGL", "MSFT", "AMZN"}, "trades": set(), "bars": set(),
    }  # fmt: skip
    until(lambda: stream.confirmed.get("quotes") == {"GOOGL", "MSFT", "AMZN"})
    time.sleep(0.1)
    seen.clear()
    until(lambda: len(seen) > 20)
    assert "AAPL" not in seen


def test_handler_errors_do_not_stop_the_stream(stream: anb.StreamClient) -> None:
    """An exception is kept in `errors`, and the other handlers go on."""
    seen: list[Any] = []

    def bad(quote: anb.QuoteData) -> None:
        raise KeyError("a defect of the user")

    stream.subscribe_quotes(["AAPL"], bad)
    stream.subscribe_quotes(["AAPL"], seen.append)
    stream.connect()
    until(lambda: len(seen) > 5)
    assert stream.is_connected
    assert any(isinstance(getattr(error, "exception", None), KeyError) for error in stream.errors)


def test_collecting_data_under_a_lock(stream: anb.StreamClient) -> None:
    """Handlers run off the main thread, so that a buffer with a lock works as shown."""
    buffer: deque[dict[str, Any]] = deque(maxlen=1000)
    lock = threading.Lock()

    def collect(quote: anb.QuoteData) -> None:
        with lock:
            buffer.append({"symbol": quote.symbol, "bid": quote.bid_price})

    stream.connect()
    stream.subscribe_quotes(["SPY"], collect)
    until(lambda: len(buffer) > 5)
    with lock:
        assert buffer[0]["symbol"] == "SPY"


@pytest.mark.parametrize("feed", ["iex", "sip", "otc"])
def test_feeds(api: anb.PyAlpacaAPI, feed: str) -> None:
    """Each of the guide's feeds connects to its own endpoint."""
    with api.create_stream_client(feed=feed) as stream:
        assert stream.is_connected
        assert stream.status.feed == feed


def test_connection_status(stream: anb.StreamClient) -> None:
    """The three attributes tell the state before, during and after."""
    assert (stream.is_connected, stream.is_authenticated) == (False, False)
    stream.connect()
    assert (stream.is_connected, stream.is_authenticated) == (True, True)
    assert stream.reconnect_attempts == 0
    assert stream.status.origin == "simulated"
    stream.disconnect()
    stream.disconnect()
    assert (stream.is_connected, stream.is_authenticated) == (False, False)
    stream.connect()
    assert stream.is_connected


def test_reconnection_settings(stream: anb.StreamClient) -> None:
    """The three settings can be set and read, and refuse what makes no sense."""
    stream.max_reconnect_attempts = 20
    stream.reconnect_delay = 2
    stream.max_reconnect_delay = 60
    assert stream.max_reconnect_attempts == 20
    assert stream.reconnect_delay == 2
    assert stream.max_reconnect_delay == 60
    for name in ("max_reconnect_attempts", "reconnect_delay", "max_reconnect_delay"):
        for bad in (-1, "2", None, float("nan"), float("inf"), True):
            with pytest.raises(BadInputError, match=name):
                setattr(stream, name, bad)


def test_vwap_from_trades(stream: anb.StreamClient) -> None:
    """A bound method is a handler; sizes and prices are numbers that can be summed."""
    totals: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])

    class Calculator:
        def on_trade(self, trade: anb.TradeData) -> None:
            totals[trade.symbol][0] += trade.price * trade.size
            totals[trade.symbol][1] += trade.size

    stream.connect()
    stream.subscribe_trades(["AAPL", "GOOGL"], Calculator().on_trade)
    until(lambda: len(totals) == 2)
    assert all(value / volume > 1 for value, volume in totals.values())


def test_polling(api: anb.PyAlpacaAPI) -> None:
    """The latest quote can be asked for, and is what a handler would get."""
    quote = api.stock.latest_quote.get("AAPL")
    assert isinstance(quote, anb.QuoteData)
    assert quote.symbol == "AAPL"
    assert quote.ask_price >= quote.bid_price > 0


# -- what users do beside that -----------------------------------------------------------


def test_subscribing_inside_a_handler(stream: anb.StreamClient) -> None:
    """A handler may subscribe, unsubscribe and disconnect; nothing waits for itself."""
    seen: list[str] = []

    def on_trade(trade: anb.TradeData) -> None:
        seen.append(trade.symbol)
        stream.disconnect()

    def on_quote(quote: anb.QuoteData) -> None:
        stream.unsubscribe_quotes("AAPL")
        stream.subscribe_trades("MSFT", on_trade)

    stream.connect()
    stream.subscribe_quotes("AAPL", on_quote)
    until(lambda: seen and not stream.is_connected)


def test_clients_of_one_account_share_a_connection(api: anb.PyAlpacaAPI) -> None:
    """Two clients live on the one connection that Alpaca allows, each with its own symbols."""
    first, second = api.create_stream_client(), api.create_stream_client()
    mine: list[Any] = []
    first.subscribe_quotes("AAPL", mine.append)
    first.connect()
    second.connect()
    frame = second.frame("quotes", ["AAPL", "MSFT"])
    frame.wait(20)
    until(lambda: mine)
    first.disconnect()
    count = frame.position
    frame.wait(count + 20)
    assert second.is_connected
    assert not first.is_connected
    assert second.subscriptions["quotes"] == {"AAPL", "MSFT"}
    second.disconnect()


def test_a_frame_fills_and_closing_it_unsubscribes(stream: anb.StreamClient) -> None:
    """A frame may be made before the connection; its status is the stream's."""
    frame = stream.frame("trades", ["AAPL", "SPY"], maxlen=50)
    assert frame.status.state == "stopped"
    stream.connect()
    frame.wait(80)
    assert len(frame) == 50
    assert frame.status.state == "live"
    stream.set_symbols(frame, ["SPY"])
    assert stream.subscriptions["trades"] == {"SPY"}
    frame.close()
    assert stream.subscriptions["trades"] == set()
    with pytest.raises(BadInputError):
        stream.set_symbols(frame, ["AAPL"])


def test_a_frame_keeps_rows_for_a_time(stream: anb.StreamClient) -> None:
    """Rows older than that go, and are counted."""
    frame = stream.frame("quotes", "AAPL", keep="1s")
    stream.connect()
    until(lambda: frame.stats.dropped > 0)
    times = frame.df.index
    assert (times.max() - times.min()).total_seconds() <= 1.0
    with pytest.raises(BadInputError, match="'1h'"):
        stream.frame("quotes", "AAPL", keep=0)


def test_a_pause_is_a_gap(stream: anb.StreamClient) -> None:
    """What was missed between disconnect and connect is on record, and filled in."""
    frame = stream.frame("quotes", ["AAPL"])
    stream.connect()
    frame.wait(1)
    assert frame.gaps.empty
    stream.disconnect()
    assert frame.gaps["state"].tolist() == ["open"]
    stream.connect()
    frame.wait(frame.position + 1)
    until(lambda: frame.gaps["state"].tolist() == ["repaired"])
    (gap,) = frame.gaps.itertuples()
    assert gap.reason == "Disconnected on request."
    assert (frame.df["source"] == "backfill").sum() == gap.rows
    assert stream.status.gaps.repaired == 1
    told = f"{gap.rows:,} quotes of AAPL were" if gap.rows else "No quotes of AAPL are missing"
    assert any(told in line.text for line in stream.status.log)


def test_disconnect_is_quick_and_says_goodbye(stream: anb.StreamClient) -> None:
    """The slot is free at once: the next connection is not made to wait."""
    stream.connect()
    start = time.monotonic()
    stream.disconnect()
    stream.connect()
    assert time.monotonic() - start < 5
    assert stream.is_connected


def test_nothing_is_printed_by_our_threads(
    stream: anb.StreamClient, capfd: pytest.CaptureFixture[str]
) -> None:
    """Errors of handlers and of the stream go to `errors`, never to a terminal or a cell."""

    def bad(quote: anb.QuoteData) -> None:
        raise ValueError("a defect of the user")

    stream.subscribe_quotes("AAPL", bad)
    stream.connect()
    until(lambda: stream.errors)
    stream.disconnect()
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_a_defect_while_reading_is_seen(
    stream: anb.StreamClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error on the reader's side ends the stream with its reason, and leaves none hanging."""

    def broken(self: Stream, haul: Any, received: Any) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(Stream, "take_haul", broken)
    stream.connect()
    stream.frame("quotes", "AAPL")
    until(lambda: stream.status.state == "failed")
    assert "a defect" in stream.status.detail
    monkeypatch.undo()
    stream.disconnect()
    assert not stream.is_connected


def test_no_secret_is_logged(
    stream: anb.StreamClient, api: anb.PyAlpacaAPI, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even with every logger of the process on DEBUG, on either side of the socket."""
    with caplog.at_level(logging.DEBUG):
        stream.connect()
        stream.frame("quotes", "AAPL").wait(1)
        api.stock.latest_quote.get("AAPL")
        stream.disconnect()
    assert KEY not in caplog.text
    assert SECRET not in caplog.text


# -- bad input ---------------------------------------------------------------------------


def test_wrong_keys(api: anb.PyAlpacaAPI, simulator: anb.LocalSimulator) -> None:
    """Wrong keys raise from connect, show no key, and leave nothing behind."""
    wrong = anb.PyAlpacaAPI("WRONGKEY0000", "WRONGSECRET0000").create_stream_client()
    with pytest.raises(AuthenticationError, match="check the API key") as caught:
        wrong.connect()
    assert "WRONG" not in f"{caught.value} {wrong!r} {wrong.status} {wrong.errors}"
    assert wrong.status.state == "failed"
    assert not wrong.is_connected


def test_no_server(unused_tcp_port: int) -> None:
    """An address where nobody listens is named at once."""
    url = f"ws://127.0.0.1:{unused_tcp_port}/v2/iex"
    client = anb.PyAlpacaAPI(KEY, SECRET).create_stream_client(url=url)
    frame = client.frame("quotes", ["AAPL"])
    start = time.monotonic()
    with pytest.raises(ConnectError, match=url):
        client.connect()
    assert time.monotonic() - start < 5
    assert frame.gaps.empty, "what never began was not lost"


def test_no_such_path(simulator: anb.LocalSimulator) -> None:
    """A path that the server does not know is told as such."""
    client = anb.PyAlpacaAPI(KEY, SECRET).create_stream_client(url=simulator.url + "/v9/iex")
    with pytest.raises(ConnectError, match="no such feed") as caught:
        client.connect()
    assert caught.value.status == 404


def test_bad_arguments(api: anb.PyAlpacaAPI, stream: anb.StreamClient) -> None:
    """Each is refused with its own type before anything starts."""
    with pytest.raises(UnknownFeedError, match="iex, sip, otc"):
        api.create_stream_client(feed="nasdaq")
    with pytest.raises(BadInputError, match="function"):
        stream.subscribe_quotes(["AAPL"], None)  # type: ignore[arg-type]
    with pytest.raises(BadInputError, match="not a symbol"):
        stream.subscribe_quotes(["AA PL"], print)
    with pytest.raises(BadInputError, match="No symbol"):
        stream.subscribe_quotes([], print)
    with pytest.raises(UnknownChannelError, match="quotes"):
        stream.subscribe("quote", ["AAPL"], print)
    with pytest.raises(UnknownChannelError, match="trades, quotes, bars"):
        api.create_stream_client(feed="test").frame("lulds", ["FAKEPACA"])
    for bad in (0, -1, 1.5, "10"):
        with pytest.raises(BadInputError, match="maxlen"):
            stream.frame("quotes", ["AAPL"], maxlen=bad)  # type: ignore[arg-type]
    with pytest.raises(BadInputError, match="ws://"):
        api.create_stream_client(url="https://example.test")
    with pytest.raises(BadInputError, match="'msgpack' or 'json'"):
        api.create_stream_client(codec="xml")  # type: ignore[arg-type]
    assert stream.subscriptions == {"quotes": set(), "trades": set(), "bars": set()}
