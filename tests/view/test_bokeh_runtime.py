"""The carrier of BokehJS: one per kernel, the installed wheel's script, reproducible."""

from __future__ import annotations

import gzip
from pathlib import Path

import bokeh
import ipywidgets
import pytest

from alpaca_nb.errors import AlpacaError
from alpaca_nb.view import bokeh_runtime
from alpaca_nb.view.bokeh_runtime import bokeh_runtime as get_runtime
from alpaca_nb.view.bokeh_runtime import compressed_script


def test_there_is_one_carrier_for_all_charts() -> None:
    """Asking twice gives the same widget, so a page evaluates BokehJS once."""
    assert get_runtime() is get_runtime()


def test_it_carries_the_script_of_the_installed_wheel() -> None:
    """Unpacked, the bytes are the installed bokeh's own script, named by its version."""
    runtime = get_runtime()
    script = Path(bokeh.__file__).parent / "server/static/js/bokeh.min.js"
    assert gzip.decompress(runtime.script) == script.read_bytes()
    assert runtime.version == bokeh.__version__


def test_its_bytes_are_reproducible() -> None:
    """No time of day gets into the bytes, so a notebook run twice stores the same state."""
    first = compressed_script()
    compressed_script.cache_clear()
    assert compressed_script() == first
    assert len(first) < 400_000


def test_a_closed_carrier_is_replaced() -> None:
    """After `Widget.close_all()` the next chart gets a carrier that is alive."""
    before = get_runtime()
    ipywidgets.Widget.close_all()
    after = get_runtime()
    assert after is not before
    assert after.comm is not None
    assert get_runtime() is after


def test_its_repr_is_the_same_in_every_run() -> None:
    """The text form holds no address, so stored notebook outputs can be compared."""
    assert repr(get_runtime()) == f"BokehRuntime({bokeh.__version__})"


def test_a_wheel_without_javascript_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A damaged bokeh installation ends in one sentence that says what to do."""
    monkeypatch.setattr(bokeh_runtime, "_SCRIPT", tmp_path / "bokeh.min.js")
    compressed_script.cache_clear()
    try:
        with pytest.raises(AlpacaError, match="pip install --force-reinstall bokeh"):
            compressed_script()
    finally:
        compressed_script.cache_clear()
