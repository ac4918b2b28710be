"""Lengths of time as people write them: "90s", "1.5 hours", a timedelta of any library."""

from __future__ import annotations

import datetime as dt
import math
import re
from typing import Any, Final

import numpy as np

SECOND_NS: Final = 1_000_000_000
DAY_NS: Final = 86_400 * SECOND_NS

_UNITS: Final = {
    "s": SECOND_NS, "sec": SECOND_NS, "second": SECOND_NS, "seconds": SECOND_NS,
    "m": 60 * SECOND_NS, "min": 60 * SECOND_NS, "minute": 60 * SECOND_NS,
    "minutes": 60 * SECOND_NS,
    "h": 3_600 * SECOND_NS, "hour": 3_600 * SECOND_NS, "hours": 3_600 * SECOND_NS,
    "d": DAY_NS, "day": DAY_NS, "days": DAY_NS,
}  # fmt: skip
_UNITS_OF_NUMPY: Final = {
    "ns": 1, "us": 1_000, "ms": 1_000_000, "s": SECOND_NS, "m": 60 * SECOND_NS,
    "h": 3_600 * SECOND_NS, "D": DAY_NS, "W": 7 * DAY_NS,
}  # fmt: skip
_TEXT: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)")


def ns_of(length: Any) -> int | None:
    """The nanoseconds of a length of time, of any sign and size; None for what is none."""
    if isinstance(length, str):
        return _ns_of_text(length.strip())
    if isinstance(length, np.timedelta64):
        return _ns_of_numpy(length)
    if isinstance(length, dt.timedelta):
        # A Timedelta of pandas is one, too, and has nanoseconds besides.
        microseconds = length // dt.timedelta(microseconds=1)
        return microseconds * 1_000 + int(getattr(length, "nanoseconds", 0))
    return None


def _ns_of_text(text: str) -> int | None:
    found = _TEXT.fullmatch(text)
    # An M alone is a month to pandas.
    unit = _UNITS.get(found[2].lower()) if found and found[2] != "M" else None
    if found is None or unit is None:
        return None
    length = float(found[1]) * unit
    return round(length) if math.isfinite(length) else None


def _ns_of_numpy(length: np.timedelta64) -> int | None:
    # By hand: NumPy's own conversion overflows without a word.
    name, count = np.datetime_data(length.dtype)
    unit = _UNITS_OF_NUMPY.get(name)
    if unit is None or np.isnat(length):
        return None  # months and years have no length
    return int(length.astype(np.int64)) * count * unit
