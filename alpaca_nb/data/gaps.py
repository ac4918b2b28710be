"""What was missed: the times in which a frame's symbols were not being received."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import pandas as pd

from alpaca_nb.data.columns import TIME_ZONE


@dataclass(frozen=True, slots=True)
class Gap:
    """One loss. Times are arrivals here (ns since 1970, UTC); `end_ns` is None while it lasts."""

    symbols: tuple[str, ...]
    start_ns: int
    end_ns: int | None
    reason: str


class GapLog:
    """The losses of one frame, oldest first. Written by one thread, read by any."""

    def __init__(self) -> None:
        self._gaps: tuple[Gap, ...] = ()

    def __len__(self) -> int:
        return len(self._gaps)

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """What has been noted up to now; never changes afterwards."""
        return self._gaps

    def begin(self, symbols: Iterable[str], start_ns: int, reason: str) -> None:
        """Note that nothing has come since `start_ns`; a loss that lasts already goes on."""
        if not self._is_open:
            self._gaps = (*self._gaps, Gap(tuple(symbols), start_ns, None, reason))

    def end(self, end_ns: int) -> None:
        """Note that everything comes again from `end_ns` on; nothing, if nothing was lost."""
        if self._is_open:
            self._gaps = (*self._gaps[:-1], replace(self._gaps[-1], end_ns=end_ns))

    def to_frame(self) -> pd.DataFrame:
        """One row per loss and symbol: symbol, start, end (NaT while it lasts), reason, state.

        Times are in New York. `state` is "open" while nothing comes, and "missed" after.
        """
        rows = [(symbol, gap) for gap in self._gaps for symbol in gap.symbols]
        return pd.DataFrame(
            {
                "symbol": pd.Series([symbol for symbol, _ in rows], dtype="str"),
                "start": _times([gap.start_ns for _, gap in rows]),
                "end": _times([gap.end_ns for _, gap in rows]),
                "reason": pd.Series([gap.reason for _, gap in rows], dtype="str"),
                "state": pd.Series(
                    ["open" if gap.end_ns is None else "missed" for _, gap in rows], dtype="str"
                ),
            }
        )

    @property
    def _is_open(self) -> bool:
        return bool(self._gaps) and self._gaps[-1].end_ns is None


def _times(values: list[int | None]) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(pd.array(values, "Int64").astype("M8[ns]"), tz="UTC").tz_convert(
        TIME_ZONE
    )
