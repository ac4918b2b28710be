"""A Jupyter notebook as a live market-data desk.

What needs pandas, a WebSocket or a widget is loaded on first use, so that
`import alpaca_nb` stays fast.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

from alpaca_nb.errors import (
    AlpacaError,
    AuthenticationError,
    BadInputError,
    ConnectError,
    ConnectionLimitError,
    ConnectionLostError,
    CredentialsError,
    PlanError,
    ProtocolError,
    RecentDataError,
    RecordingError,
    RestError,
    ServerError,
    SimulatorError,
    StreamError,
    SubscriptionError,
    UnknownChannelError,
    UnknownFeedError,
)

if TYPE_CHECKING:
    from alpaca_nb.data import measures
    from alpaca_nb.data.frame import LiveFrame
    from alpaca_nb.data.gaps import Gap
    from alpaca_nb.data.status import StreamStatus
    from alpaca_nb.feed.async_client import AsyncStreamClient
    from alpaca_nb.feed.client import PyAlpacaAPI, StreamClient
    from alpaca_nb.feed.models import BarData, QuoteData, TradeData
    from alpaca_nb.notebook.session import Session, session
    from alpaca_nb.sim.server import LocalSimulator

__version__ = "0.1.0"

__all__ = [
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

_LAZY = {
    "AsyncStreamClient": "alpaca_nb.feed.async_client",
    "BarData": "alpaca_nb.feed.models",
    "Gap": "alpaca_nb.data.gaps",
    "LiveFrame": "alpaca_nb.data.frame",
    "LocalSimulator": "alpaca_nb.sim.server",
    "PyAlpacaAPI": "alpaca_nb.feed.client",
    "QuoteData": "alpaca_nb.feed.models",
    "Session": "alpaca_nb.notebook.session",
    "StreamClient": "alpaca_nb.feed.client",
    "StreamStatus": "alpaca_nb.data.status",
    "TradeData": "alpaca_nb.feed.models",
    "session": "alpaca_nb.notebook.session",
}
_LAZY_MODULES = {"measures": "alpaca_nb.data.measures"}

# A library writes no log unless its user asks for one; a thread's line would land in
# whichever cell is running.
logging.getLogger("alpaca_nb").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    home = _LAZY.get(name) or _LAZY_MODULES.get(name)
    if home is None:
        raise AttributeError(f"module 'alpaca_nb' has no attribute {name!r}")
    module = importlib.import_module(home)
    value = globals()[name] = getattr(module, name) if name in _LAZY else module
    if home.startswith(("alpaca_nb.data", "alpaca_nb.feed")):
        _teach_frames()
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _teach_frames() -> None:
    """Let frames show themselves; widgets are loaded when the first one does."""
    from alpaca_nb.data.frame import LiveFrame

    def source(frame: LiveFrame, **options: Any) -> Any:
        importlib.import_module("alpaca_nb.view")
        return frame.source(**options)

    def table(frame: LiveFrame, **options: Any) -> Any:
        importlib.import_module("alpaca_nb.view")  # takes the place of these three
        return frame.table(**options)

    def chart(frame: LiveFrame, **options: Any) -> Any:
        importlib.import_module("alpaca_nb.view")
        return frame.chart(**options)

    if LiveFrame.view_factory is None:
        LiveFrame.view_factory = LiveFrame.table_factory = table
        LiveFrame.chart_factory, LiveFrame.source_factory = chart, source


def load_ipython_extension(shell: Any) -> None:
    """Install the magics: what `%load_ext alpaca_nb` calls."""
    from alpaca_nb.notebook.magics import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Remove the magics and close what they opened: what `%unload_ext alpaca_nb` calls."""
    from alpaca_nb.notebook.magics import unload

    unload(shell)
