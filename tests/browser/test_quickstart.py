"""The quickstart notebook in JupyterLab, as a person sees it."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

pytestmark = pytest.mark.browser

REPLAYED = "lean_ticks_20131007_open35m.jsonl.gz"


def rows(view: Locator) -> Locator:
    """The rows that a table draws."""
    return view.locator(".anb-row:visible")


def readout(view: Locator) -> Locator:
    """What a chart says about its newest row."""
    return view.locator(".anb-readout")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_quickstart(open_notebook: Any, theme: str) -> None:
    """The table ticks, the chart moves while a later cell is busy, and nothing complains."""
    notebook = open_notebook("01_quickstart.ipynb", theme=theme)
    notebook.run_cell("load")

    table = notebook.run_cell("subscribe").locator(".anb-view")
    expect(table.locator(".anb-state")).to_have_text("Live", timeout=10_000)
    expect(table.locator('[data-kind="origin"]')).to_have_text("SIMULATED")
    expect(rows(table)).to_have_count(2)
    for symbol in ("AAPL", "MSFT"):
        expect(rows(table).filter(has_text=symbol)).to_have_count(1)
    notebook.expect_motion(rows(table).first)

    notebook.run_cell("first")
    notebook.run_cell("spread")

    chart = notebook.run_cell("chart").locator(".anb-view")
    expect(chart.locator("canvas").first).to_be_visible(timeout=20_000)
    notebook.expect_motion(readout(chart))

    chart.scroll_into_view_if_needed()
    told, drawn = set(), set()
    busy = notebook.start_cell("busy")
    expect(busy.locator(".jp-InputArea-prompt")).to_contain_text("*")
    while notebook.is_busy(busy):
        told.add(readout(chart).inner_text())
        drawn.add(chart.locator("canvas").first.evaluate("canvas => canvas.toDataURL()"))
        time.sleep(0.1)
    assert len(told) > 2, "no points arrived while a cell was running"
    assert len(drawn) > 2, "the chart did not move while a cell was running"
    notebook.screenshot(f"quickstart-{theme}")
    notebook.finish_cell(busy)

    tape = notebook.run_cell("trades").locator(".anb-view")
    expect(tape.locator(".anb-scroll")).to_have_attribute("data-shape", "tape")
    expect(rows(tape).nth(2)).to_be_visible(timeout=30_000)
    notebook.run_cell("vwap")
    status = notebook.run_cell("status")
    expect(status).to_contain_text("quotes AAPL, MSFT")
    notebook.screenshot(f"quickstart-{theme}-trades")
    assert notebook.complaints == []


def test_reload(open_notebook: Any, lab: Any) -> None:
    """A page that is loaded again while the kernel runs shows its views again, and they tick."""
    cells = {
        "load": "%load_ext alpaca_nb",
        "subscribe": "%alpaca_subscribe quotes AAPL MSFT",
        "chart": "%alpaca_chart quotes",
        "end": "%alpaca_disconnect",
    }
    lab.write_notebook("reload.ipynb", cells)
    notebook = open_notebook("reload.ipynb")
    for cell in ("load", "subscribe", "chart"):
        notebook.run_cell(cell)
    notebook.save()
    notebook.page.reload()
    notebook.wait_until_ready()
    table = notebook.page.locator(".anb-view").nth(0)
    expect(rows(table)).to_have_count(2, timeout=30_000)
    notebook.expect_motion(rows(table).first)
    chart = notebook.page.locator(".anb-view").nth(1)
    chart.scroll_into_view_if_needed()
    expect(chart.locator("canvas").first).to_be_visible(timeout=20_000)
    notebook.expect_motion(readout(chart))
    notebook.run_cell("end")
    expect(chart.locator(".anb-state")).to_have_text("Stopped", timeout=10_000)
    assert notebook.complaints == []


@pytest.mark.realdata
def test_recorded_morning(open_notebook: Any, lab: Any, real_data: Path) -> None:
    """A recorded morning at twenty times its pace keeps table and chart moving."""
    shutil.copy(real_data / REPLAYED, lab.folder)
    cells = {
        "start": f"""
            import os
            import alpaca_nb as anb
            simulator = anb.LocalSimulator(play="{REPLAYED}", speed=20)
            simulator.start()
            os.environ["ALPACA_NB_STREAM_URL"] = simulator.url
            %load_ext alpaca_nb
        """,
        "quotes": "%alpaca_subscribe quotes *",
        "chart": """
            quotes.wait(5000, timeout=60)
            quotes.chart(symbol=quotes.df["symbol"].value_counts().idxmax())
        """,
        "trades": "%alpaca_subscribe trades *",
        "count": "len(quotes), len(trades)",
        "end": "%alpaca_disconnect\nsimulator.stop()",
    }
    lab.write_notebook("recorded.ipynb", cells)
    notebook = open_notebook("recorded.ipynb")
    notebook.run_cell("start")
    quotes = notebook.run_cell("quotes").locator(".anb-view")
    chart = notebook.run_cell("chart").locator(".anb-view")
    chart.scroll_into_view_if_needed()
    expect(quotes.locator('[data-kind="origin"]')).to_have_text("REPLAY", timeout=10_000)
    expect(chart.locator("canvas").first).to_be_visible(timeout=20_000)
    notebook.expect_motion(readout(chart), during_s=10, values=20)
    notebook.expect_motion(rows(quotes).first, during_s=5, values=5)
    expect(quotes).to_be_in_viewport()
    expect(chart).to_be_in_viewport()
    notebook.screenshot("recorded")
    notebook.run_cell("trades")
    notebook.run_cell("count")
    notebook.run_cell("end")
    assert notebook.complaints == []
