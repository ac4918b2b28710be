"""How long rows are kept: what a caller may say, and what it means in nanoseconds."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any, Final

import numpy as np

from alpaca_nb.data.lengths import SECOND_NS, ns_of
from alpaca_nb.errors import BadInputError

Keep = str | dt.timedelta | float | None
"""A length of time: "1h", a timedelta, seconds as a number; None for any."""

_ALL_TIME_NS: Final = 2**63


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
    if isinstance(keep, bool | np.timedelta64):  # which are numbers, too
        return ns_of(keep)
    if isinstance(keep, int | np.integer):
        return int(keep) * SECOND_NS
    if isinstance(keep, float | np.floating):
        length = float(keep) * SECOND_NS
        return round(length) if math.isfinite(length) else None
    return ns_of(keep)
