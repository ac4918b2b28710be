"""The live chart: one symbol of a frame as a Bokeh figure that moves in the page."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import traitlets
from anywidget import WidgetTrait
from bokeh.embed import json_item

from alpaca_nb.errors import BadInputError
from alpaca_nb.view.bokeh_runtime import bokeh_runtime
from alpaca_nb.view.delta import Cursor, Delta, start_of, tape
from alpaca_nb.view.figures import find_kind, make_panels, pruned_paint
from alpaca_nb.view.widget import LiveView, script
from alpaca_nb.wire.messages import check_symbols

if TYPE_CHECKING:
    from alpaca_nb.data.frame import LiveFrame

CAPACITY: Final = 5_000
"""Rows a chart holds: about two per pixel of a wide screen."""

_SMALLEST: Final = 120
"""Pixels below which a chart's axes leave no room for its lines."""


class LiveChart(LiveView):
    """A chart of a frame's symbol that keeps itself up to date in the page.

    Quotes are drawn as bid and ask with the spread between them, trades as prices with
    their sizes beneath, bars as candles with their volume. `symbol` is the first of the
    frame's unless given; in the page it can be changed among `choices`. `window` is how
    much time is in view while the chart follows the data: seconds, a timedelta or text
    such as "10min". `width` is "stretch" or pixels, `height` is pixels.

    `figure` is the price panel, a Bokeh figure: what is added to it or changed in it is
    there when the chart is displayed next. Raises BadInputError for a channel without
    prices, for a symbol the frame does not have, and for sizes that cannot be drawn.
    """

    _esm = script("chart.js")

    kind = "chart"

    spec = traitlets.Dict().tag(sync=True)
    """The figure as `bokeh.embed.json_item` describes it; its sources are empty."""
    bokeh = WidgetTrait().tag(sync=True)
    """The carrier of BokehJS."""
    symbol = traitlets.Unicode().tag(sync=True)
    """What is drawn now; setting it, here or in the page, changes the chart."""
    choices = traitlets.List(traitlets.Unicode()).tag(sync=True)
    """What can be drawn."""
    capacity = traitlets.Int(CAPACITY).tag(sync=True)
    window_ms = traitlets.Float().tag(sync=True)
    interval_ms = traitlets.Float().tag(sync=True)
    height = traitlets.Int().tag(sync=True)
    width = traitlets.Int(None, allow_none=True).tag(sync=True)

    def __init__(
        self,
        frame: LiveFrame,
        *,
        symbol: str | None = None,
        symbols: str | Iterable[str] | None = None,
        window: float | str | timedelta | None = None,
        height: int = 320,
        width: int | str = "stretch",
        **options: Any,
    ) -> None:
        look = find_kind(frame.channel)
        choice = _choose_symbols(frame, symbol, symbols)
        window_s = look.window_s if window is None else _seconds(window)
        width_px = None if width == "stretch" else _pixels("width", width)
        self._columns = look.frame_columns
        self._panels = make_panels(
            look,
            window_s=window_s,
            height=_pixels("height", height),
            width=width_px,
            file_name=f"{choice[0].replace('/', '-')}-{frame.channel}",
        )
        # What the page was told last, and up to where nothing of the symbol followed.
        self._told_symbol = ""
        self._offers_all = symbols is None and "*" not in frame.symbols
        self._searched = 0
        super().__init__(
            frame,
            bokeh=bokeh_runtime(),
            spec=self._describe(),
            symbol=choice[0],
            choices=list(choice),
            window_ms=window_s * 1000,
            interval_ms=look.interval_ms,
            height=height,
            width=width_px,
            **options,
        )

    @property
    def figure(self) -> Any:
        """The price panel, a `bokeh.plotting.figure`."""
        return self._panels.price

    def collect(self, cursor: Cursor | None) -> Delta | None:
        """The symbol's rows since the cursor, of these the newest that the chart can hold."""
        now, symbol = self.frame.snapshot(), self.symbol
        if symbol != self._told_symbol or cursor is None or cursor.epoch != now.epoch:
            cursor, self._searched = None, 0
        start = max(start_of(cursor, now.epoch), self._searched)
        if cursor is not None and now.last <= start:
            return None
        rows = now.since(start).of(symbol)
        if cursor is not None and not len(rows):
            self._searched = now.last
            return None
        message = tape(rows, cursor, limit=self.capacity, columns=self._columns)
        if message is None:
            return None
        self._told_symbol = symbol
        # Rows of other symbols are not missing here, so they are not counted as skipped.
        skipped = len(rows) - message.rows
        return replace(message, header=message.header | {"symbol": symbol, "skipped": skipped})

    def _shown(self) -> tuple[str, ...]:
        return (self.symbol,)

    def _follow_symbols(self) -> None:
        symbols = list(self.frame.symbols)
        if symbols == self.symbols:
            return
        self.symbols = symbols
        if self._offers_all:
            # What is on the screen stays a choice, also when nothing more comes for it.
            there = {self.symbol, *symbols}
            self.choices = list(dict.fromkeys(s for s in (*self.choices, *symbols) if s in there))

    def _describe(self) -> dict[str, Any]:
        pruned_paint(self._panels.layout)
        return dict(json_item(self._panels.layout))

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        self.spec = self._describe()
        return super()._repr_mimebundle_(**kwargs)

    @traitlets.validate("symbol")
    def _check_symbol(self, proposal: Any) -> str:
        symbol: str = proposal["value"]
        if self.choices and symbol not in self.choices:
            raise BadInputError(_not_there(symbol, self.choices))
        return symbol

    @traitlets.observe("symbol")
    def _name(self, _: object) -> None:
        self.title = f"{self.symbol} {self.channel.replace('_', ' ')}"


def _choose_symbols(
    frame: LiveFrame, symbol: str | None, symbols: str | Iterable[str] | None
) -> tuple[str, ...]:
    """The symbols to choose from, the one to begin with first."""
    if symbol is not None and symbols is not None:
        raise BadInputError("Give either symbol= or symbols=, not both.")
    there = tuple(frame.symbols)
    wanted = symbols if symbols is not None else symbol
    if wanted is None:
        if "*" in there:
            raise BadInputError(
                "This frame receives every symbol; say which to chart, such as symbol='AAPL'."
            )
        return there
    chosen = check_symbols(wanted)
    if "*" in chosen:
        raise BadInputError("A chart shows symbols by name; '*' is none.")
    for name in chosen:
        if "*" not in there and name not in there:
            raise BadInputError(_not_there(name, there))
    if symbols is not None or "*" in there:
        return chosen
    return (*chosen, *(name for name in there if name not in chosen))


def _not_there(symbol: str, there: Iterable[str]) -> str:
    names = list(there)
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"{symbol} is not among the symbols to chart: {', '.join(names[:10])}{more}."


def _seconds(window: float | str | timedelta) -> float:
    try:
        if isinstance(window, str):
            window = pd.Timedelta(window)
        seconds = window.total_seconds() if isinstance(window, timedelta) else float(window)
    except (TypeError, ValueError):
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 1):
        raise BadInputError(
            f"window={window!r} is no stretch of time to show; give at least one second, "
            "as a number of seconds, a timedelta, or text such as '10min'."
        )
    return seconds


def _pixels(name: str, value: object) -> int:
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= _SMALLEST:
        return int(value)
    stretch = ", or 'stretch'" if name == "width" else ""
    raise BadInputError(
        f"{name}={value!r} cannot be drawn; give whole pixels, {_SMALLEST} or more{stretch}."
    )
