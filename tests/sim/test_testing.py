"""What users get for their own tests."""

from __future__ import annotations

import dataclasses
import re
import socket
import subprocess
import sys
from pathlib import Path

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


# -- docs/testing.md ---------------------------------------------------------------------

DOCUMENT = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()


def test_the_examples_run(tmp_path):
    """Every Python block of the document runs as it stands, and its tests pass."""
    blocks = re.findall(r"^```python\n(.*?)^```", DOCUMENT, re.M | re.S)
    for number, block in enumerate(blocks):
        (tmp_path / f"test_block_{number}.py").write_text(block)
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["alpaca_nb.testing"]\n')
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:asyncio"]
    done = subprocess.run([*command, tmp_path], capture_output=True, text=True, check=False)
    tests = sum(block.count("\ndef test_") + block.startswith("def test_") for block in blocks)
    assert f"{tests} passed" in done.stdout, done.stdout
    assert done.returncode == 0


def test_every_fault_is_described_with_its_moments():
    """The table has one row a fault, with its options and exactly the moments it can have."""
    rows = re.findall(r"^\| `(\w+)\((.*)\)` \| .* \| ([a-z, ]+) \|$", DOCUMENT, re.M)
    assert [name for name, _, _ in rows] == FAULTS
    for name, options, moments in rows:
        kind = getattr(faults, name)
        assert tuple(moments.split(", ")) == kind.moments
        told = [option.partition("=")[0] for option in options.split(", ") if option]
        assert told == [field.name for field in dataclasses.fields(kind)]


def test_every_moment_is_described():
    """So has the table of moments."""
    rows = re.findall(r"^\| `(\w+)` \|", DOCUMENT.partition("| moment |")[2], re.M)
    assert tuple(rows[: len(faults.MOMENTS)]) == faults.MOMENTS


def test_every_option_of_a_plan_is_described():
    """The account's table names all that a plan can refuse."""
    rows = re.findall(r"^\| `(\w+)` \|", DOCUMENT.partition("| a plan's |")[2], re.M)
    options = {field.name for field in dataclasses.fields(testing.Plan)}
    assert set(rows[: len(options)]) == options
