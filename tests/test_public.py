"""The public names, pinned."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib.metadata import version

import alpaca_nb

PUBLIC = [
    "AlpacaError",
    "AsyncStreamClient",
    "AuthenticationError",
    "BadInputError",
    "BarData",
    "ConnectError",
    "ConnectionLimitError",
    "ConnectionLostError",
    "CredentialsError",
    "Gap",
    "LiveFrame",
    "LocalSimulator",
    "PlanError",
    "ProtocolError",
    "PyAlpacaAPI",
    "QuoteData",
    "RecentDataError",
    "RecordingError",
    "RestError",
    "ServerError",
    "Session",
    "SimulatorError",
    "StreamClient",
    "StreamError",
    "StreamStatus",
    "SubscriptionError",
    "TradeData",
    "UnknownChannelError",
    "UnknownFeedError",
    "load_ipython_extension",
    "measures",
    "session",
    "unload_ipython_extension",
]


def test_the_public_names_are_these() -> None:
    """Nobody adds or removes a public name by accident."""
    assert sorted(alpaca_nb.__all__) == sorted(PUBLIC)


def test_every_public_name_is_there_and_explains_itself() -> None:
    """A public name can be imported and has a docstring."""
    for name in PUBLIC:
        assert inspect.getdoc(getattr(alpaca_nb, name)), name


def test_measures_are_those_of_the_data() -> None:
    """`alpaca_nb.measures` is the module of measures, and tells what it has."""
    from alpaca_nb import measures

    assert measures.__name__ == "alpaca_nb.data.measures"
    assert {
        "spread", "mid", "spread_bps", "imbalance", "microprice", "RollingVwap", "RunningVwap",
        "rolling_vwap", "running_vwap", "TradeSigns", "trade_signs",
    } == set(measures.__all__)  # fmt: skip
    for name in measures.__all__:
        assert inspect.getdoc(getattr(measures, name)), name


def test_the_version_is_told_once() -> None:
    """The installed package has the version that the module tells."""
    assert version("alpaca-nb") == alpaca_nb.__version__


def test_a_frame_shows_itself_without_the_magics() -> None:
    """A frame made in Python is a live table when displayed; nothing else has to be imported."""
    code = (
        "import sys; from alpaca_nb import LiveFrame\n"
        "frame = LiveFrame('quotes', ['AAPL'])\n"
        "assert 'bokeh' not in sys.modules and 'anywidget' not in sys.modules\n"
        "data, _ = frame._repr_mimebundle_()\n"
        "assert 'application/vnd.jupyter.widget-view+json' in data\n"
        "print(data['text/plain'], frame.chart())\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "LiveTable(quotes: AAPL) LiveChart(AAPL quotes)\n"
