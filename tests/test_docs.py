"""What the documentation says is so."""

from __future__ import annotations

import ast
import json
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

import alpaca_nb
from alpaca_nb.testing import LocalSimulator

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("*/*.md"))]
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))


def blocks(path: Path, language: str) -> Iterator[str]:
    """The fenced blocks of a language in a document."""
    for found in re.finditer(rf"^```{language}\n(.*?)^```", path.read_text(), re.M | re.S):
        yield found[1]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_local_links_lead_somewhere(path: Path) -> None:
    """A link to a file of this repository names one that is there."""
    for target in re.findall(r"\]\(([^)#]+)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_python_blocks_are_python(path: Path) -> None:
    """Every Python block of the documentation can be parsed."""
    for block in blocks(path, "python"):
        ast.parse(block)


@pytest.mark.parametrize("path", [*DOCUMENTS, *NOTEBOOKS], ids=lambda path: path.name)
def test_magics_that_are_named_exist(path: Path) -> None:
    """Every magic that a document or a notebook names is one that loading the extension brings."""
    shell = InteractiveShell.instance()
    alpaca_nb.load_ipython_extension(shell)
    try:
        magics = set(shell.magics_manager.magics["line"])
    finally:
        alpaca_nb.unload_ipython_extension(shell)
        InteractiveShell.clear_instance()
    assert set(re.findall(r"%(alpaca_\w+)", path.read_text())) <= magics


def test_what_the_readme_does_with_frames_works() -> None:
    """The README's example runs, line by line, on frames that are fed by the simulator."""
    of_quotes, of_trades, *_ = blocks(ROOT / "README.md", "python")
    with LocalSimulator(speed=0) as simulator:
        stream = alpaca_nb.StreamClient(
            "iex", api_key="any", api_secret="any", url=f"{simulator.url}/v2/iex"
        )
        quotes = stream.frame("quotes", ["AAPL", "MSFT"])
        trades = stream.frame("trades", ["AAPL"], keep="1h")
        names = {"quotes": quotes, "trades": trades}
        try:
            stream.connect()
            for block in (of_quotes, of_trades):
                exec(compile(block, "README.md", "exec"), names)
        finally:
            stream.disconnect()
    assert len(quotes) >= 300
    assert len(names["candles"]) >= 1


def test_the_stages_are_described() -> None:
    """CONTRIBUTING describes the stages of `dev.py test`, all of them and in their order."""
    dev = runpy.run_path(str(ROOT / "dev.py"))
    told = re.findall(r"^\| `(\w+)` \|", (ROOT / "CONTRIBUTING.md").read_text(), re.M)
    assert told == [*dev["STAGES"], *dev["ON_REQUEST"]]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_tidy(path: Path) -> None:
    """A notebook holds no widget state and no path of the machine it was made on."""
    notebook = json.loads(path.read_text())
    assert "widgets" not in notebook["metadata"]
    assert str(Path.home()) not in path.read_text()
    assert all(
        cell["outputs"] != [] or cell["source"][0].startswith("%load_ext")
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
    )
