"""How long rows are kept: what a caller may say, and what it means in nanoseconds."""

from __future__ import annotations

import datetime as dt
import math
import re
from typing import Any, Final

import numpy as np

from alpaca_nb.errors import BadInputError

Keep = str | dt.timedelta | float | None
"""A length of time: "1h", a timedelta, seconds as a number; None for any."""

_SECONDS: Final = {
    "s": 1, "sec": 1, "second": 1, "seconds": 1,
    "m": 60, "min": 60, "minute": 60, "minutes": 60,
    "h": 3_600, "hour": 3_600, "hours": 3_600,
    "d": 86_400, "day": 86_400, "days": 86_400,
}  # fmt: skip
_ALL_TIME_NS: Final = 2**63
_TEXT: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*")


def keep_ns(keep: Any) -> int | None:
    """The nanoseconds for which rows are kept, None without a limit.

    Raises BadInputError for what is no length of time, or none that keeps anything.
    """
    if keep is None:
        return None
    length = _length_ns(keep)
    if length is None or not 0 < length < _ALL_TIME_NS:
        raise BadInputError(
            "keep is for how long rows are kept: a text such as '30s', '15min', '1h' or '2d', "
            f"a timedelta or a number of seconds, and more than nothing; not {keep!r}."
        )
    return length


def _length_ns(keep: Any) -> int | None:
    if isinstance(keep, dt.timedelta):
        # A Timedelta of pandas is one, too, and has nanoseconds besides.
        microseconds = keep // dt.timedelta(microseconds=1)
        return microseconds * 1_000 + int(getattr(keep, "nanoseconds", 0))
    length = _seconds(keep) * 1e9
    return round(length) if math.isfinite(length) else None


def _seconds(keep: Any) -> float:
    """NaN for what is no length of time."""
    if isinstance(keep, bool):
        return math.nan
    if isinstance(keep, np.timedelta64):
        try:
            return float(keep / np.timedelta64(1, "s"))
        except TypeError:  # years, which have no length
            return math.nan
    if isinstance(keep, str):
        found = _TEXT.fullmatch(keep.lower())
        unit = _SECONDS.get(found[2]) if found else None
        return math.nan if found is None or unit is None else float(found[1]) * unit
    return float(keep) if isinstance(keep, int | float | np.number) else math.nan
