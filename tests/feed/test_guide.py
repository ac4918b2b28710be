"""The code blocks of the streaming guide itself, run against the simulator.

The guide is another project's text and no part of this one. It is looked for beside the
real market data; where it is not there, these tests are skipped. Only the import is
changed. A block that goes on for ever is ended by its own `time.sleep`.
"""

from __future__ import annotations

import ast
import dataclasses
import logging
import re
import time
import types
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import alpaca_nb as anb

PATIENCE_S = 5.0
SLEEPS = 2


class EnoughError(Exception):
    """A block has slept as often as a test waits for it."""


@pytest.fixture(scope="module")
def blocks(real_data: Path) -> list[str]:
    """The guide's Python blocks, in order."""
    guide = real_data.parent / "GUIDE.md"
    if not guide.exists():
        pytest.skip("the streaming guide is not here")
    found = re.findall(r"```python\n(.*?)```", guide.read_text(), re.DOTALL)
    assert found
    return found


@pytest.fixture(scope="module")
def simulator() -> Iterator[anb.LocalSimulator]:
    """A market in which a minute passes in half a second; it takes any keys."""
    with anb.LocalSimulator(speed=120, rate=0.3) as running:
        yield running


def find(blocks: list[str], *words: str) -> str:
    """The one block that holds all the words."""
    (block,) = [each for each in blocks if all(word in each for word in words)]
    return block


class Run:
    """Runs one block with the names that the guide takes for granted."""

    def __init__(self, api: anb.PyAlpacaAPI, stream: anb.StreamClient) -> None:
        self.quotes: list[Any] = []
        self.slept: list[float] = []
        clock = types.SimpleNamespace(sleep=self.sleep)
        self.names: dict[str, Any] = {
            "alpaca": api,
            "stream": stream,
            "handler": self.quotes.append,
            "process_quote": self.quotes.append,
            "place_order": lambda symbol: None,
            "threshold": 0,
            "logger": logging.getLogger("guide"),
            "time": clock,
            "pd": pd,
            "dataclass": dataclass,
            "datetime": datetime,
            "__name__": "guide",
        }

    def sleep(self, seconds: float) -> None:
        """Wait a moment in place of a minute; end a loop that sleeps again and again."""
        self.slept.append(seconds)
        if len(self.slept) > SLEEPS:
            raise EnoughError
        time.sleep(min(seconds, 2.0))

    def block(self, source: str) -> dict[str, Any]:
        """Run the block statement by statement, so that what follows an endless loop runs too."""
        source = source.replace("from py_alpaca_api import", "from alpaca_nb import")
        for statement in ast.parse(source).body:
            if isinstance(statement, ast.Import) and statement.names[0].name == "time":
                continue
            code = _compile(statement)
            if "import time" in ast.unparse(statement):
                code = _without_import_of_time(statement)
            try:
                exec(code, self.names)
            except EnoughError:
                continue
        return self.names


def _without_import_of_time(statement: ast.stmt) -> types.CodeType:
    class Remove(ast.NodeTransformer):
        def visit_Import(self, node: ast.Import) -> ast.AST | None:
            return None if node.names[0].name == "time" else node

    return _compile(ast.fix_missing_locations(Remove().visit(statement)))


def _compile(statement: ast.stmt) -> types.CodeType:
    # Not with this file's own "from __future__ import annotations".
    return compile(ast.Module([statement], []), "guide", "exec", dont_inherit=True)


@pytest.fixture
def run(simulator: anb.LocalSimulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """A fresh set of names, with a stream that the block may connect."""
    monkeypatch.setenv("ALPACA_NB_STREAM_URL", simulator.url)
    monkeypatch.setenv("ALPACA_NB_DATA_URL", simulator.url.replace("ws:", "http:"))
    api = anb.PyAlpacaAPI(api_key="your_api_key", api_secret="your_secret_key")
    with api.create_stream_client() as stream:
        running = Run(api, stream)
        yield running
        for value in list(running.names.values()):
            if isinstance(value, anb.StreamClient):
                assert not value.errors
                value.disconnect()


def until(condition: Any) -> None:
    """Wait for something another thread does."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def test_quick_start(run: Run, blocks: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The first example prints quotes, trades and bars, and ends disconnected."""
    names = run.block(find(blocks, "def on_bar", "time.sleep(60)"))
    printed = capsys.readouterr().out
    assert "Quote: AAPL - Bid: $" in printed
    assert "Trade: MSFT - Price: $" in printed
    assert "Bar: SPY - OHLC: $" in printed
    assert not names["stream"].is_connected


def test_context_manager(run: Run, blocks: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The with statement streams and disconnects at its end."""
    names = run.block(find(blocks, "with alpaca.create_stream_client()"))
    assert "Quote received: QuoteData(symbol='AAPL'" in capsys.readouterr().out
    assert not names["stream"].is_connected


def test_multiple_handlers(run: Run, blocks: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """Both handlers of one symbol are called."""
    ordered: list[str] = []
    run.names["place_order"] = ordered.append
    with caplog.at_level(logging.INFO, "guide"):
        run.block(find(blocks, "def log_quote"))
        until(lambda: ordered and caplog.records)


def test_dynamic_subscriptions(
    run: Run, blocks: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Symbols are added and removed, and the subscriptions can be printed."""
    run.block(find(blocks, 'unsubscribe_quotes(["AAPL"])'))
    assert "MSFT" in capsys.readouterr().out
    until(lambda: {quote.symbol for quote in run.quotes} >= {"GOOGL", "MSFT", "AMZN"})
    assert run.names["stream"].subscriptions["quotes"] == {"GOOGL", "MSFT", "AMZN"}


def test_error_handling(run: Run, blocks: list[str]) -> None:
    """The safe handler processes quotes."""
    run.block(find(blocks, "def safe_quote_handler"))
    until(lambda: run.quotes)


def test_collecting_data(run: Run, blocks: list[str]) -> None:
    """The buffer fills under its lock and becomes a DataFrame."""
    names = run.block(find(blocks, "quotes_buffer"))
    until(lambda: names["quotes_buffer"])
    names["process_buffer"]()


@pytest.mark.parametrize("name", ["QuoteData", "TradeData", "BarData"])
def test_data_models(run: Run, blocks: list[str], name: str) -> None:
    """Ours have the guide's fields in its order, with its types."""
    theirs = run.block(find(blocks, f"class {name}:"))[name]
    expected = [(f.name, f.type) for f in dataclasses.fields(theirs)]
    ours = [(f.name, f.type) for f in dataclasses.fields(getattr(anb, name)) if not f.kw_only]
    assert [(n, t if isinstance(t, str) else getattr(t, "__name__", str(t))) for n, t in ours] == [
        (n, str(t) if hasattr(t, "__args__") else t.__name__)  # type: ignore[union-attr]
        for n, t in expected
    ]


def test_feeds(run: Run, blocks: list[str]) -> None:
    """Clients for the three feeds are made."""
    names = run.block(find(blocks, 'feed="otc"'))
    feeds = [names[f"stream_{feed}"].feed for feed in ("iex", "sip", "otc")]
    assert feeds == ["iex", "sip", "otc"]


def test_connection_status(run: Run, blocks: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The three attributes are printed."""
    run.block(find(blocks, "is_authenticated"))
    printed = capsys.readouterr().out
    assert "Stream is connected" in printed
    assert "Stream is authenticated" in printed
    assert "Reconnect attempts: 0" in printed


def test_reconnection_settings(run: Run, blocks: list[str]) -> None:
    """The settings are taken, and the stream connects with them."""
    stream = run.block(find(blocks, "max_reconnect_delay"))["stream"]
    assert stream.is_connected
    settings = stream.max_reconnect_attempts, stream.reconnect_delay, stream.max_reconnect_delay
    assert settings == (20, 2, 60)


def test_vwap(run: Run, blocks: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The calculator prints the VWAP as trades come."""
    run.block(find(blocks, "class VWAPCalculator"))
    printed: list[str] = []
    until(lambda: printed.append(capsys.readouterr().out) or "VWAP: $" in "".join(printed))


def test_migration_from_polling(run: Run, blocks: list[str]) -> None:
    """Polling returns what streaming delivers; the second half streams."""
    run.block(find(blocks, "Old way - Polling"))
    assert len(run.slept) == SLEEPS + 1
    polled = run.quotes[: SLEEPS + 1]
    assert {type(quote) for quote in polled} == {anb.QuoteData}
    until(lambda: len(run.quotes) > SLEEPS + 3)


def test_every_block_is_run(blocks: list[str]) -> None:
    """No block of the guide is left out of this file."""
    marks = ["def on_bar", "with alpaca.create", "def log_quote", 'unsubscribe_quotes(["AAPL"])',
             "def safe_quote_handler", "quotes_buffer", "class QuoteData:", "class TradeData:",
             "class BarData:", 'feed="otc"', "is_authenticated", "max_reconnect_delay",
             "class VWAPCalculator", "Old way - Polling"]  # fmt: skip
    assert [sum(mark in block for mark in marks) for block in blocks] == [1] * len(blocks)
