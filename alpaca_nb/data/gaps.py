"""What was missed: one record per loss, channel and symbol, and what became of it."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from alpaca_nb.data.columns import TIME_ZONE
from alpaca_nb.data.status import GapCounts

if TYPE_CHECKING:
    import pandas as pd

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


_MOST_GAPS: Final = 100_000
"""Records a log holds: ten losses of every symbol there is, a few hundred bytes each."""


class GapLog:
    """The losses that concern one reader, oldest first. Written by one thread, read by any.

    It holds at most `most` records. Beyond that it lets go of the one that was repaired
    first, and only when none is repaired of the oldest; `forgotten` counts them.
    """

    def __init__(self, *, most: int = _MOST_GAPS) -> None:
        self._most = most
        # By number. Ordered, because a plain dictionary finds its first entry ever more
        # slowly when entries are removed from its front.
        self._gaps: OrderedDict[int, Gap] = OrderedDict()
        self._repaired: OrderedDict[int, None] = OrderedDict()
        self._of_symbol: dict[str, dict[int, None]] = {}
        self._states: Counter[str] = Counter()
        self._forgotten = 0
        # What `gaps` returns, made when somebody asks after a change.
        self._listed: tuple[Gap, ...] | None = ()
        # Held for one record, or while a reader copies.
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._gaps)

    def put(self, gap: Gap) -> None:
        """Take in a loss, or what has become of one that is here: `number` tells."""
        with self._lock:
            self._put(gap)

    def put_all(self, gaps: Iterable[Gap]) -> None:
        """Take in many; readers see all of them or none."""
        with self._lock:
            for gap in gaps:
                self._put(gap)

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """The losses on record now, oldest first; never changes afterwards."""
        with self._lock:
            if self._listed is None:
                self._listed = tuple(self._gaps.values())
            return self._listed

    @property
    def counts(self) -> GapCounts:
        """How many there were, by what became of them; repaired ones count for ever."""
        with self._lock:
            states = self._states
            return GapCounts(
                open=states["open"],
                pending=states["waiting"] + states["repairing"],
                repaired=states["repaired"],
                missed=states["missed"],
            )

    @property
    def forgotten(self) -> int:
        """Records that were let go because there were too many."""
        return self._forgotten

    def overlapping(self, symbol: str, start_ns: int, end_ns: int) -> tuple[Gap, ...]:
        """The losses of a symbol that touch a stretch of time, both ends included."""
        with self._lock:
            gaps = [self._gaps[number] for number in self._of_symbol.get(symbol, ())]
        return tuple(
            gap
            for gap in gaps
            if gap.start_ns <= end_ns and (gap.end_ns is None or gap.end_ns >= start_ns)
        )

    def to_frame(self, *, channel: bool = False) -> pd.DataFrame:
        """One row per loss, oldest first.

        Columns symbol, start, end, state, rows, reason, detail, lost, back, after channel
        if that is asked for. Times are in New York; NaT is a time that has not come yet.
        """
        import pandas as pd

        gaps = self.gaps
        columns: dict[str, Any] = {
            "channel": _texts([gap.channel for gap in gaps]),
            "symbol": _texts([gap.symbol for gap in gaps]),
            "start": _times([gap.start_ns for gap in gaps]),
            "end": _times([gap.end_ns for gap in gaps]),
            "state": _texts([gap.state for gap in gaps]),
            "rows": pd.Series([gap.rows for gap in gaps], dtype="int64"),
            "reason": _texts([gap.reason for gap in gaps]),
            "detail": _texts([gap.detail for gap in gaps]),
            "lost": _times([gap.lost_ns for gap in gaps]),
            "back": _times([gap.back_ns for gap in gaps]),
        }
        if not channel:
            del columns["channel"]
        return pd.DataFrame(columns)

    def _put(self, gap: Gap) -> None:
        number, known = gap.number, self._gaps.get(gap.number)
        if known is not None:
            self._states[known.state] -= 1
        else:
            if len(self._gaps) >= self._most:
                self._forget_one()
            self._of_symbol.setdefault(gap.symbol, {})[number] = None
        self._gaps[number] = gap
        self._states[gap.state] += 1
        if gap.state == "repaired":
            self._repaired[number] = None
        else:
            self._repaired.pop(number, None)
        self._listed = None

    def _forget_one(self) -> None:
        number = next(iter(self._repaired or self._gaps))
        gap = self._gaps.pop(number)
        self._repaired.pop(number, None)
        del self._of_symbol[gap.symbol][number]
        if not self._of_symbol[gap.symbol]:
            del self._of_symbol[gap.symbol]
        if gap.state != "repaired":
            # Nothing is repaired twice, so those may go on being counted. The others could
            # still change, and would then be counted in two states.
            self._states[gap.state] -= 1
        self._forgotten += 1


def _texts(values: list[str]) -> Any:
    import pandas as pd

    return pd.Series(values, dtype="str")


def _times(values: list[int | None]) -> pd.DatetimeIndex:
    import pandas as pd

    times = pd.DatetimeIndex(pd.array(values, "Int64").astype("M8[ns]"), tz="UTC")
    return times.tz_convert(TIME_ZONE)
