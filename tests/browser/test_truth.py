"""What a person is told when the connection fails: a notebook that breaks it on purpose."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Locator, expect

pytestmark = pytest.mark.browser

CELLS = {
    "start": """
        import os
        import alpaca_nb as anb
        from alpaca_nb.testing import Cut, HoldSession, LocalSimulator, SlowRest
        simulator = LocalSimulator(seed=7, symbols=["AAPL", "MSFT"], speed=10, amendments=0.05)
        simulator.start()
        os.environ["ALPACA_NB_STREAM_URL"] = simulator.url
        os.environ["ALPACA_NB_DATA_URL"] = simulator.rest_url
        os.environ["ALPACA_NB_TRADING_URL"] = simulator.rest_url
        stream = anb.StreamClient("iex", api_key="any", api_secret="any")
        stream.reconnect_delay = 0.2
        trades = stream.frame("trades", ["AAPL", "MSFT"])
    """,
    "table": "trades.table(height=150)",
    "chart": "trades.chart(symbol='MSFT', height=200)",
    "connect": "stream.connect()",
    "handlers": """
        stream.subscribe_trades("MSFT", lambda trade: print("I saw", trade.symbol))
        stream.subscribe_trades("AAPL", lambda trade: 1 / 0)
    """,
    "busy": """
        import time
        time.sleep(2)
    """,
    # A repair that takes its time is seen by slow eyes, too.
    "cut": """
        simulator.faults.add(SlowRest(2), at="rest", times=None)
        simulator.faults.add(Cut(), at="now")
    """,
    "hold": """
        simulator.faults.clear()
        simulator.faults.add(HoldSession(7), at="now")
        simulator.faults.add(Cut(), at="now")
    """,
    "told": "trades.gap_counts.repaired >= 4, trades.gap_counts.missed",
    "end": """
        stream.disconnect()
        simulator.stop()
    """,
}


def test_a_bad_day(open_notebook: Any, lab: Any) -> None:
    """A loss is counted and repaired, a wait is counted down, and no handler writes in a cell."""
    lab.write_notebook("truth.ipynb", CELLS)
    notebook = open_notebook("truth.ipynb")
    # What is out of sight is told nothing.
    notebook.page.set_viewport_size({"width": 1280, "height": 2000})
    notebook.run_cell("start")
    table = notebook.run_cell("table").locator(".anb-view")
    chart = notebook.run_cell("chart").locator(".anb-view")
    notebook.run_cell("connect")
    expect(state(table)).to_have_text("Live", timeout=10_000)
    notebook.run_cell("handlers")

    details = open_details(table)
    expect(details.locator(".anb-log")).to_contain_text("I saw MSFT", timeout=10_000)
    expect(details.locator(".anb-log")).to_contain_text("ZeroDivisionError", timeout=10_000)
    notebook.run_cell("busy")
    expect(notebook.page.locator(".jp-OutputArea-output pre")).to_have_count(0)
    expect(details.locator(".anb-symbol")).to_have_count(2)
    expect(details.locator(".anb-symbol").first).to_contain_text("AAPL")

    notebook.run_cell("cut")
    expect(warnings(table)).to_contain_text("2 gaps", timeout=10_000)
    expect(warnings(table)).to_contain_text("2 gaps repaired", timeout=30_000)
    expect(chart.locator("canvas").first).to_be_visible(timeout=20_000)
    expect(chart.get_by_role("button", name="Follow")).to_be_hidden()
    notebook.expect_motion(chart.locator(".anb-readout"))
    expect(table.locator(".anb-head")).to_contain_text("Amended", timeout=20_000)

    notebook.run_cell("hold")
    expect(state(table)).to_have_text("Waiting", timeout=10_000)
    expect(table.locator(".anb-detail")).to_contain_text("406")
    countdown = table.locator(".anb-fact").first
    expect(countdown).to_contain_text("gives up in")
    notebook.expect_motion(countdown, values=2)
    notebook.screenshot("truth-waiting")
    expect(state(table)).to_have_text("Live", timeout=20_000)
    expect(warnings(table)).to_contain_text("4 gaps repaired", timeout=20_000)
    expect(notebook.run_cell("told").locator("pre").last).to_have_text("(True, 0)")

    notebook.run_cell("end")
    expect(state(table)).to_have_text("Stopped", timeout=10_000)
    assert notebook.complaints == []


def state(view: Locator) -> Locator:
    """What the badge calls the stream's state."""
    return view.locator(".anb-state")


def warnings(view: Locator) -> Locator:
    """What the badge warns of."""
    return view.locator(".anb-warnings")


def open_details(view: Locator) -> Locator:
    """Click the badge; returns what opens below it."""
    view.locator(".anb-toggle").click()
    details = view.locator(".anb-details")
    expect(details).to_be_visible()
    return details
