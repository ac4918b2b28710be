"""What was missed: one record per loss, channel and symbol, and what became of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from alpaca_nb.data.columns import TIME_ZONE
from alpaca_nb.data.status import GapCounts

GapState = Literal["open", "waiting", "repairing", "repaired", "missed"]
"""What became of a loss.

open: nothing comes now. waiting: it is over, and will be asked for at a later time, because
it cannot be had yet. repairing: it is being asked for. repaired: all of it is here.
missed: it cannot be had; `detail` says why.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """One loss of one symbol on one channel.

    `start_ns` and `end_ns` are times of the exchange (ns since 1970, UTC), as the time stamps
    of the rows are: whatever is not here and should be lies between them, both included.
    `end_ns` is None while the loss lasts.
    """

    number: int
    """Counted by the stream; the same loss keeps it while its state changes."""
    channel: str
    symbol: str
    start_ns: int
    end_ns: int | None = None
    state: GapState = "open"
    reason: str = ""
    """Why it came about."""
    detail: str = ""
    """What became of it, where the state does not say it: why it is missed or waits."""
    rows: int = 0
    """Rows that were filled in."""
    lost_ns: int = 0
    """When it was noticed, by the clock of this machine."""
    back_ns: int | None = None
    """When the server confirmed the subscription again, by the clock of this machine."""


class GapLog:
    """The losses that concern one reader, oldest first. Written by one thread, read by any."""
