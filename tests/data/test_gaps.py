"""Losses are noted once, ended once, and told as a DataFrame."""

from __future__ import annotations

import pandas as pd

from alpaca_nb.data.frame import LiveFrame
from alpaca_nb.data.gaps import GapLog

NS = 1_790_000_000_000_000_000


def test_a_frame_that_lost_nothing_has_no_gaps() -> None:
    """The DataFrame is empty, with its columns."""
    gaps = LiveFrame("quotes", ["AAPL"]).gaps
    assert gaps.empty
    assert gaps.columns.tolist() == ["symbol", "start", "end", "reason", "state"]


def test_a_loss_is_one_row_per_symbol() -> None:
    """From the last message to the return, in New York time, with its reason."""
    frame = LiveFrame("quotes", ["AAPL", "MSFT"])
    frame.lost(NS, "The wire was cut.")
    assert frame.gaps["state"].tolist() == ["open", "open"]
    assert frame.gaps["end"].isna().all()
    frame.back(NS + 5_000_000_001)
    gaps = frame.gaps
    assert gaps["symbol"].tolist() == ["AAPL", "MSFT"]
    assert set(gaps["state"]) == {"missed"}
    assert gaps["start"][0] == pd.Timestamp(NS, tz="America/New_York")
    assert (gaps["end"] - gaps["start"])[0] == pd.Timedelta(5_000_000_001)
    assert gaps["reason"][0] == "The wire was cut."


def test_a_loss_that_lasts_is_not_counted_twice() -> None:
    """Failed attempts to reconnect belong to the same loss; a return without one is nothing."""
    log = GapLog()
    log.end(NS)
    log.begin(["A"], NS, "first")
    log.begin(["A"], NS + 1, "second")
    log.end(NS + 2)
    log.end(NS + 3)
    log.begin(["A", "B"], NS + 4, "third")
    assert [(gap.start_ns - NS, gap.end_ns, gap.reason) for gap in log.gaps] == [
        (0, NS + 2, "first"),
        (4, None, "third"),
    ]


def test_a_closed_frame_misses_nothing() -> None:
    """What is closed on purpose has no gap."""
    frame = LiveFrame("quotes", ["AAPL"])
    frame.close()
    frame.lost(NS, "The wire was cut.")
    assert frame.gaps.empty
