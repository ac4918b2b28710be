"""The live table: the newest row of each symbol, or the newest rows first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import traitlets

from alpaca_nb.errors import BadInputError
from alpaca_nb.view.delta import Cursor, Delta, keyed, start_of, tape
from alpaca_nb.view.widget import LiveView, script

if TYPE_CHECKING:
    from alpaca_nb.data.frame import LiveFrame

_KEYED: Final = frozenset({"quotes", "daily_bars", "statuses", "lulds"})
"""Channels of which people want to know how things stand; of the others, what happened."""

_NOT_SHOWN: Final = frozenset({"received", "source"})
"""Columns that are for calculating; the badge tells both for the whole stream."""


class LiveTable(LiveView):
    """A table of a frame that keeps itself up to date in the page.

    Quotes, daily bars, statuses and price bands have one row per symbol; trades, bars and
    the rest are a tape with the newest row on top. `height` is in pixels; by default the
    table is as high as it needs to be, up to a dozen rows or so.
    """

    _esm = script("table.js")

    height = traitlets.Int(None, allow_none=True).tag(sync=True)

    kind = "table"

    def __init__(self, frame: LiveFrame, height: int | None = None, **options: Any) -> None:
        if height is not None and height < 100:
            raise BadInputError(f"A table needs a height of at least 100 pixels, not {height}.")
        super().__init__(frame, height=height, **options)

    def collect(self, cursor: Cursor | None) -> Delta | None:
        """What changed since the cursor, as one row per symbol or as rows of the tape."""
        now = self.frame.snapshot()
        if cursor is not None and (now.epoch, now.last) == (cursor.epoch, cursor.position):
            return None
        columns = {column.name for column in now.columns} - _NOT_SHOWN
        if self.channel not in _KEYED:
            return tape(now, cursor, columns=columns)
        changed = self.frame.latest_rows(start_of(cursor, now.epoch))
        if changed.epoch != now.epoch:
            # The frame started again between the two calls: all there is, is news.
            cursor, changed = None, self.frame.latest_rows()
        return keyed(changed, cursor, columns=columns)
