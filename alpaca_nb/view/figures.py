"""The figures that live charts show: Bokeh models only, described once and empty.

Each figure reads one ColumnDataSource named `SOURCE`, whose columns are float64 arrays
without a value; `js/src/series.ts` fills them in the page under the same names. Times on the axis
are New York wall time as milliseconds since 1970, which is what Bokeh shows unshifted.

Colours are written as roles (`bid`, `up`, `line`, ...). A model carries its light colours,
so the figure is right wherever Bokeh shows it, and a tag with the roles, from which the
page recolours it when the host's theme changes. Whoever sets another colour keeps it:
`pruned_paint` drops the roles whose colour is no longer ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from bokeh.layouts import column
from bokeh.model import Model
from bokeh.models import (
    BasicTicker,
    ColumnDataSource,
    CrosshairTool,
    DataRange1d,
    DatetimeTicker,
    DatetimeTickFormatter,
    LinearColorMapper,
    NumeralTickFormatter,
    PanTool,
    Range1d,
    SaveTool,
    WheelZoomTool,
)
from bokeh.models.annotations import Span
from bokeh.models.layouts import LayoutDOM
from bokeh.plotting import figure as bokeh_figure

from alpaca_nb.errors import BadInputError

SOURCE = "rows"
"""The name of the data source that the page streams into."""

TIME_RANGE = "time"
"""The name of the time axis's range, which the page moves along with the data."""

VOLUME_RANGE = "volume"
"""The name of the volume panel's range, which the page fits to what is in view."""

LAST_LINE = "last"
"""The name of the line at the newest price."""

LIGHT = {
    "surface": "#ffffff",
    "text": "#1b2128",
    "muted": "#69737f",
    "line": "#e4e8ec",
    "bid": "#0a5fae",
    "ask": "#b4490b",
    "up": "#0a5fae",
    "down": "#b4490b",
}
"""The light colour of each role. The roles are design tokens of `js/src/theme.css`, where the
page finds the colours of the theme it is in."""

_LEAST_VOLUME = 72
"""Pixels of the volume panel at least: half of them are labels of the time axis."""

_PAINT = "paint"


@dataclass(frozen=True, slots=True)
class Kind:
    """How the rows of a channel are drawn."""

    frame_columns: frozenset[str]
    """What is read from the frame; by `amended` the page leaves out what does not count."""
    columns: tuple[str, ...]
    """The source's columns, the time first."""
    draw: Callable[[Any, ColumnDataSource, Kind], None]
    """Adds the glyphs to the price panel."""
    volume: str | None = None
    """The column drawn in a panel beneath, if there is one."""
    interval_ms: float = 0.0
    """How long one row lasts; 0 where it is a moment."""
    window_s: float = 300.0
    """How much time is shown unless somebody says otherwise."""


@dataclass(frozen=True, slots=True)
class Panels:
    """What `make_panels` made."""

    layout: LayoutDOM
    """What is embedded: the price panel, and the volume panel where there is one."""
    price: Any
    """The price panel, a `bokeh.plotting.figure`."""


def find_kind(channel: str) -> Kind:
    """Return how a channel is drawn; BadInputError for one that has no price to draw."""
    try:
        return _KINDS[channel]
    except KeyError:
        raise BadInputError(
            f"There is no chart for {channel!r}: its rows have no course of prices. "
            f"A chart can show {', '.join(_KINDS)}."
        ) from None


def make_panels(
    kind: Kind, *, window_s: float, height: int, width: int | None, file_name: str
) -> Panels:
    """Make the empty figure of a kind; without a width it takes all there is."""
    # One row of nothing, because BokehJS 3.9 never ends drawing a stepped area of no rows.
    nothing = np.full(1, np.nan)
    source = ColumnDataSource(data=dict.fromkeys(kind.columns, nothing), name=SOURCE)
    time_range = Range1d(start=0, end=window_s * 1000, name=TIME_RANGE)
    volume_height = max(round(height * 0.24), _LEAST_VOLUME) if kind.volume else 0
    crosshair_x = _paint(Span(dimension="height", line_width=1, line_dash="dotted"), line="muted")

    price = _panel(
        time_range, crosshair_x, height=height - volume_height, ticks=5, numbers="0,0.00[00]"
    )
    price.y_range.range_padding = 0.12
    kind.draw(price, source, kind)
    last = Span(dimension="width", line_dash=[2, 3], line_width=1, visible=False, name=LAST_LINE)
    price.add_layout(_paint(last, line="muted"))
    price.add_tools(SaveTool(filename=file_name))
    panels = [price]

    if kind.volume:
        volume = _panel(time_range, crosshair_x, height=volume_height, ticks=2, numbers="0.[0]a")
        volume.y_range = Range1d(start=0, end=1, name=VOLUME_RANGE)
        _draw_volume(volume, source, kind)
        price.xaxis.visible = False
        panels.append(volume)

    sizing: dict[str, Any] = {"sizing_mode": "stretch_width"} if width is None else {"width": width}
    for panel in panels:
        panel.update(**sizing)
    layout = price if len(panels) == 1 else column(panels, spacing=0, **sizing)
    return Panels(layout, price)


def pruned_paint(root: Model) -> None:
    """Drop the roles of colours that were changed since, so that a change is kept."""
    for model in root.references():
        for tag in model.tags:
            if isinstance(tag, dict) and _PAINT in tag:
                roles = tag[_PAINT]
                for name in [name for name, role in roles.items() if not _is(model, name, role)]:
                    del roles[name]


def _is(model: Model, name: str, role: str | list[str]) -> bool:
    value = getattr(model, name)
    if isinstance(role, list):
        return list(value) == [LIGHT[each] for each in role]
    return bool(value == LIGHT[role])


def _paint(model: Any, **roles: str | list[str]) -> Any:
    """Colour a model by roles: `line="bid"` sets its `line_color`, `palette=[...]` a palette."""
    properties = {
        name if name == "palette" else f"{name}_color": role for name, role in roles.items()
    }
    for name, role in properties.items():
        colour = [LIGHT[each] for each in role] if isinstance(role, list) else LIGHT[role]
        setattr(model, name, colour)
    model.tags = [*model.tags, {_PAINT: properties}]
    return model


def _panel(time_range: Range1d, crosshair_x: Span, *, height: int, ticks: int, numbers: str) -> Any:
    panel = bokeh_figure(
        height=height,
        x_axis_type="datetime",
        x_range=time_range,
        y_range=DataRange1d(default_span=0.1, min_interval=0.02),
        y_axis_location="right",
        # The price axis fits what is in view, not all that was ever received.
        window_axis="x",
        # Without this, panning would thin out the points of a full chart.
        lod_threshold=None,
        toolbar_location=None,
        output_backend="canvas",
        # Room for half a label of the time axis.
        min_border_left=16,
        # The same on every panel, so that their time axes are in line.
        min_border_right=64,
        min_border_top=6,
        min_border_bottom=4,
    )
    panel.tools = []
    wheel = WheelZoomTool(dimensions="width", maintain_focus=False)
    crosshair_y = _paint(Span(dimension="width", line_width=1, line_dash="dotted"), line="muted")
    panel.add_tools(
        PanTool(dimensions="width"),
        wheel,
        CrosshairTool(overlay=(crosshair_y, crosshair_x)),
    )
    panel.toolbar.active_scroll = wheel

    _paint(panel, background_fill="surface", border_fill="surface")
    panel.outline_line_color = None
    for axis in panel.axis:
        _paint(axis, axis_line="line", major_label_text="muted")
        axis.major_tick_line_color = None
        axis.minor_tick_line_color = None
        axis.major_label_text_font_size = "11px"
        axis.major_label_standoff = 6
    panel.yaxis.axis_line_color = None
    for grid in panel.grid:
        _paint(grid, grid_line="line")
    panel.xgrid.grid_line_color = None
    panel.yaxis.ticker = BasicTicker(desired_num_ticks=ticks)
    panel.yaxis.formatter = NumeralTickFormatter(format=numbers)
    panel.xaxis.ticker = DatetimeTicker(desired_num_ticks=6)
    panel.xaxis.formatter = _time_formatter()
    return panel


def _time_formatter() -> DatetimeTickFormatter:
    """Label times by their own unit, and below one of them the day and whose time it is."""
    return DatetimeTickFormatter(
        microseconds="%H:%M:%S.%f",
        milliseconds="%H:%M:%S.%3N",
        seconds="%H:%M:%S",
        minsec="%H:%M:%S",
        minutes="%H:%M",
        hourmin="%H:%M",
        hours="%H:%M",
        days="%b %d",
        months="%b %Y",
        years="%Y",
        context="%a %b %d, New York",
        context_which="center",
        context_location="below",
        hide_repeats=False,
    )


def _draw_quotes(panel: Any, source: ColumnDataSource, kind: Kind) -> None:
    band = panel.varea_step(
        "time", "bid_price", "ask_price", source=source, step_mode="after", fill_alpha=0.10
    )
    _paint(band.glyph, fill="muted")
    mid = panel.step("time", "mid", source=source, mode="after", line_dash=[1, 3], line_alpha=0.8)
    _paint(mid.glyph, line="muted")
    for side in ("bid", "ask"):
        edge = panel.step("time", f"{side}_price", source=source, mode="after", line_width=1.5)
        _paint(edge.glyph, line=side)


def _draw_trades(panel: Any, source: ColumnDataSource, kind: Kind) -> None:
    line = panel.line("time", "price", source=source, line_alpha=0.6, line_join="round")
    _paint(line.glyph, line="text")
    dots = panel.scatter("time", "price", source=source, size=3.2, line_color=None, fill_alpha=0.9)
    _paint(dots.glyph, fill="text")


def _draw_candles(panel: Any, source: ColumnDataSource, kind: Kind) -> None:
    # Up and down differ by colour and by filling: a rising candle is hollow.
    colour = {"field": "up", "transform": _up_or_down()}
    panel.segment("time", "high", "time", "body_high", source=source, line_color=colour)
    panel.segment("time", "low", "time", "body_low", source=source, line_color=colour)
    panel.vbar(
        "time",
        kind.interval_ms * 0.7,
        "body_high",
        "body_low",
        source=source,
        line_color=colour,
        fill_color=colour,
        fill_alpha="filled",
    )


def _draw_volume(panel: Any, source: ColumnDataSource, kind: Kind) -> None:
    if kind.interval_ms:
        colour = {"field": "up", "transform": _up_or_down()}
        panel.vbar(
            "time",
            kind.interval_ms * 0.7,
            kind.volume,
            source=source,
            line_color=None,
            fill_color=colour,
            fill_alpha=0.45,
        )
    else:
        # A trade lasts no time, so its size is a line and not a bar.
        stems = panel.segment("time", 0, "time", kind.volume, source=source, line_width=1.5)
        _paint(stems.glyph, line="muted")


def _up_or_down() -> LinearColorMapper:
    return _paint(LinearColorMapper(low=0, high=1), palette=["down", "up"])  # type: ignore[no-any-return]


_BAR_COLUMNS = (
    *("time", "open", "high", "low", "close", "volume"),
    *("body_low", "body_high", "up", "filled"),
)


def _bars(interval_s: float, bars_shown: int) -> Kind:
    return Kind(
        frame_columns=frozenset({"timestamp", "open", "high", "low", "close", "volume"}),
        columns=_BAR_COLUMNS,
        draw=_draw_candles,
        volume="volume",
        interval_ms=interval_s * 1000,
        window_s=interval_s * bars_shown,
    )


_KINDS = {
    "quotes": Kind(
        frame_columns=frozenset({"timestamp", "bid_price", "bid_size", "ask_price", "ask_size"}),
        columns=("time", "bid_price", "bid_size", "ask_price", "ask_size", "mid"),
        draw=_draw_quotes,
    ),
    "trades": Kind(
        frame_columns=frozenset({"timestamp", "price", "size", "amended"}),
        columns=("time", "price", "size"),
        draw=_draw_trades,
        volume="size",
    ),
    "bars": _bars(60, bars_shown=120),
    "updated_bars": _bars(60, bars_shown=120),
    "daily_bars": _bars(86_400, bars_shown=120),
}
