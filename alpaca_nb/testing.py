"""What you need to test a notebook or a program of your own without Alpaca.

A market on this machine, the same for every run with the same seed:

    from alpaca_nb.testing import LocalSimulator

    def test_my_strategy():
        with LocalSimulator(seed=7, speed=20, symbols=["AAPL", "MSFT"]) as simulator:
            ...  # connect to simulator.url with any key and secret

or as a pytest fixture, once `conftest.py` says `from alpaca_nb.testing import simulator`:

    def test_my_strategy(simulator):
        ...  # connect to simulator.url

`SyntheticMarket` gives the messages of any minute without a server, and `ManualClock` is
a clock that stands still until a test moves it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from alpaca_nb.clock import ManualClock
from alpaca_nb.sim.market import SyntheticMarket
from alpaca_nb.sim.server import LocalSimulator

__all__ = ["LocalSimulator", "ManualClock", "SyntheticMarket", "simulator"]


def _simulator() -> Iterator[LocalSimulator]:
    """A simulator on a free port with the default market at its usual pace."""
    with LocalSimulator() as running:
        yield running


simulator: Any = None
"""The pytest fixture; None where pytest, which is no dependency, is not installed."""
try:
    import pytest
except ImportError:
    pass
else:
    simulator = pytest.fixture(name="simulator")(_simulator)
