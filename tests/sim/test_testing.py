"""What users get for their own tests."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from alpaca_nb import testing
from alpaca_nb.sim import faults
from alpaca_nb.testing import make_simulator, simulator  # noqa: F401 - fixtures, used by name

FAULTS = [
    *("Cut", "Mute", "Pause", "HoldSession", "RefuseHandshake", "SlowClient", "SendError"),
    *("Garbage", "Truncated", "Oversize", "UnknownMessage", "Duplicate", "LateData"),
    *("DelayAcks", "RefuseRest", "HtmlRest", "EndlessPages", "SlowRest", "CutRest"),
]


def test_the_public_names():
    """These names are promised; anything else may change."""
    assert testing.__all__ == [
        *("LocalSimulator", "SimulatorServer", "SyntheticTape", "RecordedTape"),
        *("SyntheticMarket", "ManualClock", "Plan", "Fault", "Faults"),
        *FAULTS,
        *("simulator", "make_simulator"),
    ]
    assert all(hasattr(testing, name) for name in testing.__all__)
    assert set(testing.__all__) <= set(dir(testing))


def test_every_fault_is_among_them():
    """There is no fault that a user's test could not import."""
    kinds = {kind.__name__ for kind in faults.Fault.__subclasses__()}
    # A dataclass with slots is made twice; the names are what counts.
    assert kinds == set(FAULTS)


def test_the_fixture_is_a_running_simulator(simulator):  # noqa: F811 - that is how fixtures work
    """One import in conftest.py, and a test has a market."""
    assert simulator.running
    with socket.create_connection(("127.0.0.1", simulator.port)):
        pass


def test_the_other_fixture_makes_simulators_with_options(make_simulator):  # noqa: F811
    """As many as a test likes, each with options of its own, all of them started."""
    one, other = make_simulator(minutes=1, speed=0), make_simulator(key="k", secret="s")
    assert one.running
    assert other.running
    assert one.port != other.port


def test_a_pytest_run_is_not_slowed_down_by_it():
    """As a plugin it is imported in every run, and loads nothing big until it is used."""
    slow = {"websockets", "numpy", "msgspec", "pandas", "httpx"}
    code = f"import sys, alpaca_nb.testing; print(*({slow!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_what_is_not_there_is_an_attribute_error():
    """A typing mistake is told as for any module."""
    with pytest.raises(AttributeError, match="LocalSimulatr"):
        _ = testing.LocalSimulatr
