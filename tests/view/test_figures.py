"""The figures of live charts: what each channel shows, and colours that can change."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from bokeh.embed import json_item
from bokeh.models import ColumnDataSource, GlyphRenderer, SaveTool

from alpaca_nb.errors import BadInputError
from alpaca_nb.view import figures
from alpaca_nb.view.figures import LIGHT, Panels, find_kind, make_panels, pruned_paint

CHANNELS = ("quotes", "trades", "bars", "updated_bars", "daily_bars")


def panels(channel: str, **changes: object) -> Panels:
    """A figure of a channel, with ordinary sizes."""
    options = {"window_s": 60.0, "height": 320, "width": None, "file_name": "AAPL"} | changes
    return make_panels(find_kind(channel), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_figure_is_described_in_a_few_kilobytes_without_data(channel: str) -> None:
    """The page gets an empty figure: one source, float64 columns, not one value in it."""
    layout = panels(channel).layout
    (source,) = layout.select({"type": ColumnDataSource})
    assert source.name == figures.SOURCE
    assert tuple(source.data) == find_kind(channel).columns
    for values in source.data.values():
        assert values.dtype == np.float64
        assert np.isnan(values).all()
    assert len(str(json_item(layout))) < 30_000


@pytest.mark.parametrize("channel", CHANNELS)
def test_every_glyph_reads_a_column_that_there_is(channel: str) -> None:
    """A glyph naming another column would leave the page with an empty panel."""
    made = panels(channel)
    for renderer in made.layout.select({"type": GlyphRenderer}):
        assert renderer.data_source.name == figures.SOURCE
        fields = {
            value["field"]
            for value in renderer.glyph.properties_with_values().values()
            if isinstance(value, dict) and "field" in value
        }
        assert fields <= set(find_kind(channel).columns)


def test_the_panels_of_one_chart_share_their_time_axis() -> None:
    """Panning the prices pans the volumes under them."""
    price, volume = panels("trades").layout.children
    assert price.x_range is volume.x_range
    assert price.x_range.name == figures.TIME_RANGE
    assert volume.y_range.name == figures.VOLUME_RANGE
    assert price.height + volume.height == 320


def test_a_low_chart_leaves_room_for_the_volumes() -> None:
    """The labels of the time axis are under them, however low the chart is."""
    price, volume = panels("trades", height=200).layout.children
    assert volume.height >= 70
    assert price.height + volume.height == 200


def test_a_figure_never_asks_for_webgl_and_shows_no_logo() -> None:
    """The canvas is what draws fast without a graphics card, and the figure is ours."""
    price = panels("quotes").price
    assert price.output_backend == "canvas"
    assert price.toolbar_location is None


def test_the_picture_has_a_file_name() -> None:
    """Without one Bokeh opens a prompt, which some hosts do not have."""
    (tool,) = panels("quotes", file_name="BRK.B-quotes").price.select({"type": SaveTool})
    assert tool.filename == "BRK.B-quotes"


def test_the_width_is_that_of_the_page_or_fixed() -> None:
    """A chart stretches unless it was given pixels."""
    assert panels("quotes").price.sizing_mode == "stretch_width"
    assert panels("quotes", width=500).price.width == 500


@pytest.mark.parametrize("channel", ["statuses", "lulds", "corrections"])
def test_a_channel_without_prices_is_refused(channel: str) -> None:
    """The error says which channels can be drawn."""
    with pytest.raises(BadInputError, match=r"quotes, trades, bars"):
        find_kind(channel)


def test_a_colour_that_the_user_set_loses_its_role() -> None:
    """The page recolours by role, so a user's colour must have none; others keep theirs."""
    made = panels("quotes")
    (edge,) = [
        each.glyph
        for each in made.price.renderers
        if each.glyph.tags[0]["paint"].get("line_color") == "bid"
    ]
    edge.line_color = "red"
    pruned_paint(made.layout)
    assert edge.tags == [{"paint": {}}]
    assert made.price.yaxis[0].tags[0]["paint"]["major_label_text_color"] == "muted"


def test_the_light_colours_are_the_design_tokens() -> None:
    """A figure shown outside the page's theme looks like the views beside it."""
    css = (Path(__file__).parents[2] / "js/src/theme.css").read_text(encoding="utf-8")
    light = css.partition('[data-theme="dark"]')[0]
    for role in ("text", "muted", "line", "bid", "ask"):
        token = re.search(rf"--anb-{role}: (#\w+);", light)
        assert token is not None
        assert LIGHT[role] == token[1]
    assert (LIGHT["up"], LIGHT["down"]) == (LIGHT["bid"], LIGHT["ask"])
