"""Lengths of time, read once for all who take them."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpaca_nb.data.lengths import DAY_NS, SECOND_NS, ns_of


@pytest.mark.parametrize(
    ("length", "ns"),
    [
        ("1s", SECOND_NS),
        (" 15 min ", 900 * SECOND_NS),
        ("5m", 300 * SECOND_NS),
        ("2 Hours", 7_200 * SECOND_NS),
        ("0.5d", DAY_NS // 2),
        ("0.000000001s", 1),
        ("0s", 0),
        (dt.timedelta(seconds=-1), -SECOND_NS),
        (dt.timedelta.max, (10**9 - 1) * DAY_NS + DAY_NS - 1_000),
        (pd.Timedelta(1, "ns"), 1),
        (np.timedelta64(3, "W"), 21 * DAY_NS),
        (np.timedelta64(5, "10ms"), 50_000_000),
        (np.timedelta64(2**62, "D"), 2**62 * DAY_NS),
    ],
)
def test_lengths(length: Any, ns: int) -> None:
    """Texts and timedeltas are nanoseconds, exact also where int64 would overflow."""
    assert ns_of(length) == ns


@pytest.mark.parametrize(
    "length",
    [
        "", "1", "h", "-1h", "1h30", "1 month", "1M", "500ms", "1.h", ".5h",
        "9" * 5_000 + "d", b"1h", 1, 1.5, True, None, [], pd.NaT,
        np.timedelta64("NaT"), np.timedelta64("NaT", "s"), np.timedelta64(1, "Y"),
        np.timedelta64(1, "M"), np.timedelta64(5),
    ],
    ids=lambda length: repr(length)[:20],
)  # fmt: skip
def test_what_is_no_length(length: Any) -> None:
    """Anything else is none: other units, numbers alone, months, what is not a time."""
    assert ns_of(length) is None


@given(st.text())
def test_any_text(text: str) -> None:
    """No text does more than be none."""
    assert ns_of(text) is None or ns_of(text) >= 0
