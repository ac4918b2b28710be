"""The magics in a real IPython shell."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from alpaca_nb.data.frame import LiveFrame
from alpaca_nb.notebook.session import session


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    """A shell with the magics loaded, and unloaded in the end."""
    running = InteractiveShell.instance()  # display() asks for the one there is
    running.run_line_magic("load_ext", "alpaca_nb")
    yield running
    running.run_line_magic("unload_ext", "alpaca_nb")
    InteractiveShell.clear_instance()


def offered(shell: InteractiveShell, line: str) -> set[str]:
    """What the Tab key offers at the end of a line."""
    with provisionalcompleter():
        return {each.text for each in shell.Completer.completions(line, len(line))}


class Cell:
    """What came of a cell."""

    def __init__(self, shell: InteractiveShell, text: str) -> None:
        with capture_output() as captured:
            self.result = shell.run_cell(text)
        self.out = captured.stdout + captured.stderr
        self.shown = captured.outputs
        self.error = self.result.error_in_exec


def test_subscribe_binds_shows_and_does_not_block(shell: InteractiveShell) -> None:
    """One line gives a variable with a fresh DataFrame and a table below the cell."""
    cell = Cell(shell, "%alpaca_subscribe quotes AAPL MSFT")
    assert cell.error is None
    (shown,) = cell.shown
    assert shown.data["text/plain"] == "LiveTable(quotes: AAPL, MSFT)"
    assert "application/vnd.jupyter.widget-view+json" in shown.data
    quotes = shell.user_ns["quotes"]
    assert isinstance(quotes, LiveFrame)
    quotes.wait(10)
    assert {"bid_price", "ask_price"} <= set(quotes.df.columns)


def test_a_frame_keeps_rows_for_as_long_as_it_is_told(shell: InteractiveShell) -> None:
    """What --keep says is the frame's, and the session's in Python as well."""
    assert Cell(shell, "%alpaca_subscribe quotes AAPL --keep 5min").error is None
    assert shell.user_ns["quotes"].keep == "5min"
    assert session.subscribe("trades", "AAPL", keep=60).keep == 60


def test_the_same_cell_again_shows_the_same_widget(shell: InteractiveShell) -> None:
    """Running a cell again leaves one subscription and one widget."""
    view = "application/vnd.jupyter.widget-view+json"
    first = Cell(shell, "%alpaca_subscribe quotes AAPL")
    frame = shell.user_ns["quotes"]
    start = time.monotonic()
    again = Cell(shell, "%alpaca_subscribe quotes AAPL")
    assert time.monotonic() - start < 1
    assert shell.user_ns["quotes"] is frame
    assert first.shown[0].data[view]["model_id"] == again.shown[0].data[view]["model_id"]
    assert len(session.frames) == 1


def test_chart_status_unsubscribe_disconnect(shell: InteractiveShell) -> None:
    """The other magics do their one call and say what came of it."""
    assert "SIMULATED" in Cell(shell, "%alpaca_connect").out
    Cell(shell, "%alpaca_subscribe trades AAPL SPY --as tape --maxlen 100")
    (shown,) = Cell(shell, "%alpaca_chart tape SPY").shown
    assert "LiveChart" in shown.data["text/plain"]
    assert "SPY" in shown.data["text/plain"]
    shell.user_ns["tape"].wait(1)
    assert "tape: trades AAPL, SPY" in Cell(shell, "%alpaca_status").out
    assert "receives AAPL." in Cell(shell, "%alpaca_unsubscribe tape SPY").out
    assert "nothing any more" in Cell(shell, "%alpaca_unsubscribe tape").out
    assert Cell(shell, "%alpaca_disconnect").out == ""
    assert "stopped" in Cell(shell, "%alpaca_status").out


@pytest.mark.parametrize(
    ("line", "kind", "expected"),
    [
        ("%alpaca_subscribe", "UsageError", "required: channel, SYMBOL"),
        ("%alpaca_subscribe quotes", "UsageError", "-h shows how"),
        ("%alpaca_subscribe quotes 'AAPL", "UsageError", "cannot be read"),
        ("%alpaca_subscribe quote AAPL", "UnknownChannelError", "quotes"),
        ("%alpaca_subscribe quotes AA$PL", "BadInputError", "not a symbol"),
        ("%alpaca_subscribe quotes AAPL --feed nasdaq", "UnknownFeedError", "iex"),
        ("%alpaca_subscribe quotes AAPL --maxlen -5", "BadInputError", "maxlen"),
        ("%alpaca_subscribe quotes AAPL --maxlen many", "UsageError", "invalid int"),
        ("%alpaca_subscribe quotes AAPL --keep long", "BadInputError", "'1h'"),
        ("%alpaca_subscribe quotes AAPL --keep 0s", "BadInputError", "more than nothing"),
        ("%alpaca_subscribe corrections AAPL", "UnknownChannelError", "along with trades"),
        ("%alpaca_connect nasdaq", "UnknownFeedError", "sip"),
        ("%alpaca_connect iex --url http://x", "BadInputError", "ws://"),
        ("%alpaca_unsubscribe quotes", "BadInputError", "no frame"),
        ("%alpaca_chart quotes", "BadInputError", "%alpaca_subscribe"),
        ("%alpaca_disconnect sip", "BadInputError", "not connected"),
    ],
)
def test_bad_input_is_one_sentence(
    shell: InteractiveShell, line: str, kind: str, expected: str
) -> None:
    """Each mistake is answered in one line with the way out, typed, and leaves nothing."""
    cell = Cell(shell, line)
    assert type(cell.error).__name__ == kind
    assert expected in str(cell.error)
    assert "Traceback" not in cell.out
    assert len(cell.out.strip().splitlines()) == 1
    assert session.frames == {}


def test_a_users_variable_is_not_overwritten(shell: InteractiveShell) -> None:
    """A name that holds something else is refused, with the way out."""
    shell.user_ns["trades"] = [1, 2]
    cell = Cell(shell, "%alpaca_subscribe trades AAPL")
    assert "--as NAME" in cell.out
    assert shell.user_ns["trades"] == [1, 2]
    assert session.frames == {}


@pytest.mark.parametrize(
    "name", ["connect", "subscribe", "unsubscribe", "chart", "status", "disconnect"]
)
def test_every_magic_explains_itself(shell: InteractiveShell, name: str) -> None:
    """-h prints how it is used, with an example, and does nothing else."""
    cell = Cell(shell, f"%alpaca_{name} -h")
    assert cell.error is None
    assert f"usage: %alpaca_{name}" in cell.out
    assert "Example:" in cell.out
    assert session.status().streams == ()


@pytest.mark.parametrize(
    ("line", "expected", "absent"),
    [
        ("%alpaca_subscribe ", {"quotes", "trades", "bars"}, {"corrections"}),
        ("%alpaca_subscribe quotes ", {"AAPL", "SPY"}, {"quotes"}),
        ("%alpaca_subscribe quotes aapl ", {"SPY"}, {"AAPL"}),
        ("%alpaca_subscribe quotes --as x AAPL ", {"SPY"}, {"AAPL"}),
        ("%alpaca_unsubscribe ", {"quotes"}, {"AAPL"}),
        ("%alpaca_unsubscribe quotes ", {"AAPL", "MSFT"}, {"SPY"}),
        ("%alpaca_chart quotes m", {"MSFT"}, {"AAPL"}),
        ("%alpaca_subscribe quotes ", {"SPY"}, {"and", "if"}),
        ("%alpaca_connect ", {"iex", "sip", "otc"}, set()),
    ],
)
def test_completion(
    shell: InteractiveShell, line: str, expected: set[str], absent: set[str]
) -> None:
    """Channels, known symbols, frames and feeds are offered where they belong."""
    Cell(shell, "%alpaca_subscribe quotes AAPL MSFT")
    candidates = offered(shell, line)
    assert expected <= candidates
    assert not absent & candidates


def test_the_shell_completes(shell: InteractiveShell) -> None:
    """Pressing Tab in a real shell offers the channels."""
    assert "lulds" in offered(shell, "%alpaca_subscribe lu")


def test_a_failed_stream_is_told_by_the_next_magic(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ended a stream in the background is raised in the cell that wants it next."""
    Cell(shell, "%alpaca_subscribe quotes AAPL")
    client = session.connect()
    monkeypatch.setattr(client, "max_reconnect_attempts", 0)
    simulator: Any = session._simulator
    simulator.stop()
    deadline = time.monotonic() + 5
    while client.status.state != "failed" and time.monotonic() < deadline:
        time.sleep(0.01)
    cell = Cell(shell, "%alpaca_chart quotes")
    assert type(cell.error).__name__ == "ConnectionLostError"
    assert "connect()" in cell.out


def test_unloading_undoes_loading() -> None:
    """After unload no magic, no completion, no thread of a simulator and no stream is left."""
    shell = InteractiveShell()
    shell.run_line_magic("load_ext", "alpaca_nb")
    Cell(shell, "%alpaca_subscribe quotes AAPL")
    frame = shell.user_ns["quotes"]
    shell.run_line_magic("unload_ext", "alpaca_nb")
    assert frame.closed
    assert not [name for name in shell.magics_manager.magics["line"] if "alpaca" in name]
    assert "simulator" not in " ".join(thread.name for thread in threading.enumerate())
    assert session.status().streams == ()
    assert "lulds" not in offered(shell, "%alpaca_subscribe lu")
    shell.run_line_magic("load_ext", "alpaca_nb")
    assert Cell(shell, "%alpaca_status").error is None
    shell.run_line_magic("unload_ext", "alpaca_nb")
