"""What users get for their own tests."""

from __future__ import annotations

import socket

from alpaca_nb import testing
from alpaca_nb.testing import simulator  # noqa: F401 - a fixture is imported to be used by name


def test_the_public_names():
    """These names are promised; anything else may change."""
    assert testing.__all__ == ["LocalSimulator", "ManualClock", "SyntheticMarket", "simulator"]
    assert all(hasattr(testing, name) for name in testing.__all__)


def test_the_fixture_is_a_running_simulator(simulator):  # noqa: F811 - that is how fixtures work
    """One import in conftest.py, and a test has a market."""
    assert simulator.running
    with socket.create_connection(("127.0.0.1", simulator.port)):
        pass
