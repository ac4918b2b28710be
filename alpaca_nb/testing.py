"""What you need to test a notebook or a program of your own without Alpaca.

A market on this machine, the same for every run with the same seed:

    from alpaca_nb.testing import LocalSimulator

    def test_my_strategy():
        with LocalSimulator(seed=7, speed=20, symbols=["AAPL", "MSFT"]) as simulator:
            ...  # connect to simulator.url with any key and secret

or as pytest fixtures, once `conftest.py` says `pytest_plugins = ["alpaca_nb.testing"]`:

    def test_my_strategy(simulator):
        ...  # connect to simulator.url

    def test_a_bad_line(make_simulator):
        simulator = make_simulator(minutes=1, speed=30)
        simulator.faults.add(Cut(), at="data", after=100)

`docs/testing.md` tells the rest. `SyntheticMarket` gives the messages of any minute
without a server, and `ManualClock` is a clock that stands still until a test moves it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alpaca_nb.clock import ManualClock
    from alpaca_nb.sim.faults import (
        Cut,
        CutRest,
        DelayAcks,
        Duplicate,
        EndlessPages,
        Fault,
        Faults,
        Garbage,
        HoldSession,
        HtmlRest,
        LateData,
        Mute,
        Oversize,
        Pause,
        RefuseHandshake,
        RefuseRest,
        SendError,
        SlowClient,
        SlowRest,
        Truncated,
        UnknownMessage,
    )
    from alpaca_nb.sim.market import SyntheticMarket
    from alpaca_nb.sim.plans import Plan
    from alpaca_nb.sim.server import LocalSimulator, SimulatorServer
    from alpaca_nb.sim.tape import RecordedTape, SyntheticTape

_HOMES = {
    "alpaca_nb.sim.server": ("LocalSimulator", "SimulatorServer"),
    "alpaca_nb.sim.tape": ("SyntheticTape", "RecordedTape"),
    "alpaca_nb.sim.market": ("SyntheticMarket",),
    "alpaca_nb.clock": ("ManualClock",),
    "alpaca_nb.sim.plans": ("Plan",),
    "alpaca_nb.sim.faults": (
        *("Fault", "Faults"),
        *("Cut", "Mute", "Pause", "HoldSession", "RefuseHandshake", "SlowClient", "SendError"),
        *("Garbage", "Truncated", "Oversize", "UnknownMessage", "Duplicate", "LateData"),
        *("DelayAcks", "RefuseRest", "HtmlRest", "EndlessPages", "SlowRest", "CutRest"),
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "LocalSimulator",
    "SimulatorServer",
    "SyntheticTape",
    "RecordedTape",
    "SyntheticMarket",
    "ManualClock",
    "Plan",
    "Fault",
    "Faults",
    "Cut",
    "Mute",
    "Pause",
    "HoldSession",
    "RefuseHandshake",
    "SlowClient",
    "SendError",
    "Garbage",
    "Truncated",
    "Oversize",
    "UnknownMessage",
    "Duplicate",
    "LateData",
    "DelayAcks",
    "RefuseRest",
    "HtmlRest",
    "EndlessPages",
    "SlowRest",
    "CutRest",
    "simulator",
    "make_simulator",
]


def __getattr__(name: str) -> Any:
    """Load a name with its first use: as a pytest plugin, this module is in every run."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _simulator() -> Iterator[LocalSimulator]:
    """A simulator on a free port with the default market at its usual pace."""
    from alpaca_nb.sim.server import LocalSimulator

    with LocalSimulator() as running:
        yield running


def _make_simulator() -> Iterator[Callable[..., LocalSimulator]]:
    """Starts simulators with the options of `LocalSimulator`; they stop with the test."""
    from alpaca_nb.sim.server import LocalSimulator

    with contextlib.ExitStack() as running:
        yield lambda **options: running.enter_context(LocalSimulator(**options))


simulator: Any = None
"""The pytest fixture; None where pytest, which is no dependency, is not installed."""
make_simulator: Any = None
"""The pytest fixture that makes simulators with options of your own."""
try:
    import pytest
except ImportError:
    pass
else:
    simulator = pytest.fixture(name="simulator")(_simulator)
    make_simulator = pytest.fixture(name="make_simulator")(_make_simulator)
