"""A frame as a data source of the user's own Bokeh figure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from bokeh.core.has_props import Local
from bokeh.models import ColumnDataSource

from alpaca_nb.data.columns import TIME_ZONE, AnyArray, Column, Kind, Snapshot
from alpaca_nb.data.index import check_symbol
from alpaca_nb.errors import BadInputError

if TYPE_CHECKING:
    from alpaca_nb.data.frame import LiveFrame


class FrameSource(ColumnDataSource, Local):
    """A Bokeh data source that holds a frame's newest rows; `refresh` brings it up to date.

    Its columns are those of the frame, or `timestamp` and the `columns` that are named. They hold
    what a browser can show: times as New York's wall time in milliseconds, for a figure with
    `x_axis_type="datetime"`; numbers as float64; texts and identifiers as text.

    `rollover` is how many rows it holds at most, as many as the frame unless given; with `symbol`
    only those of this one. `properties` are Bokeh's, such as `name`. Raises BadInputError for
    columns and symbols that the frame does not have.
    """

    # For the page it is a ColumnDataSource; what it adds is for the kernel only.
    __view_model__ = "ColumnDataSource"
    __view_module__ = "bokeh.models.sources"

    def __init__(
        self,
        frame: LiveFrame,
        columns: str | Iterable[str] | None = None,
        *,
        rollover: int | None = None,
        symbol: str | None = None,
        **properties: Any,
    ) -> None:
        now = frame.snapshot()
        self._frame = frame
        self._columns = _chosen(frame, columns)
        self._rollover = _checked(rollover, frame.maxlen)
        self._symbol = None if symbol is None else check_symbol(symbol, frame.symbols, now)
        self._position, self._epoch = now.last, now.epoch
        super().__init__(data=self._values(now), **properties)

    @property
    def frame(self) -> LiveFrame:
        """Whose rows these are."""
        return self._frame

    @property
    def symbol(self) -> str | None:
        """The only symbol that is shown, if it is only one."""
        return self._symbol

    @property
    def rollover(self) -> int:
        """The most rows that are held."""
        return self._rollover

    @property
    def position(self) -> int:
        """Up to which position of the frame the rows are here."""
        return self._position

    def refresh(self) -> int:
        """Take in what the frame has received since; returns how many rows that were.

        Only the new rows travel to the page. If rows that are here have changed (a corrected
        trade, a gap filled, a frame cleared), all are sent again. Call it on the thread of the
        source's document: in a cell before `push_notebook`, or as a periodic callback of a
        Bokeh server.
        """
        now = self._frame.snapshot()
        anew = now.epoch != self._epoch
        data = self._values(now if anew else now.since(self._position))
        if anew:
            self.data = data
        elif len(data["timestamp"]):
            self.stream(data, self._rollover)
        self._position, self._epoch = now.last, now.epoch
        return len(data["timestamp"])

    def _values(self, rows: Snapshot) -> dict[str, Any]:
        """The columns of the rows that are shown."""
        if self._symbol is not None:
            rows = rows.of(self._symbol)
        rows = rows.tail(self._rollover)
        return {column.name: _shown(rows, column) for column in self._columns}


def _chosen(frame: LiveFrame, names: str | Iterable[str] | None) -> tuple[Column, ...]:
    """The columns of these names in the frame's order; the time is always among them."""
    if names is None:
        return frame.columns
    wanted = {names} if isinstance(names, str) else set(names)
    there = [column.name for column in frame.columns]
    if unknown := sorted(map(str, wanted.difference(there))):
        raise BadInputError(
            f"This frame has no column {', '.join(unknown)}; it has {', '.join(there)}."
        )
    return tuple(column for column in frame.columns if column.name in {"timestamp", *wanted})


def _checked(rollover: int | None, most: int) -> int:
    if rollover is None:
        return most
    if type(rollover) is not int or rollover < 1:
        raise BadInputError(
            f"rollover is how many rows are shown: a whole number from 1 on, not {rollover!r}."
        )
    return rollover


def _shown(rows: Snapshot, column: Column) -> AnyArray:
    """A column's values as BokehJS takes them; never the memory of the frame."""
    values = rows[column.name]
    if column.kind is Kind.TIME:
        return wall_ms(values)
    if column.kind.is_coded:
        texts = rows.categories(column.name)
        return np.array([texts[code] for code in values.tolist()], object)
    if column.kind is Kind.IDENTIFIER:
        # JavaScript's numbers hold 53 bits of them.
        return np.array([str(number) for number in values.tolist()], object)
    return values.astype(np.float64)


def wall_ms(times: AnyArray) -> AnyArray:
    """New York's wall time of UTC nanoseconds, in milliseconds as Bokeh's axes show them."""
    utc = pd.DatetimeIndex(times, dtype=pd.DatetimeTZDtype("ns", TIME_ZONE))
    wall = utc.tz_localize(None)
    milliseconds: AnyArray = wall.asi8 / 1e6
    milliseconds[wall.isna()] = np.nan
    return milliseconds
