"""What the browser gets. Importing this package teaches frames to show themselves."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from alpaca_nb.data.frame import LiveFrame

if TYPE_CHECKING:
    from alpaca_nb.view.chart import LiveChart
    from alpaca_nb.view.source import FrameSource
    from alpaca_nb.view.table import LiveTable
    from alpaca_nb.view.widget import LiveView

_ViewT = TypeVar("_ViewT", bound="LiveView")

# A view holds its frame, so a key stays true for as long as its view lives.
_VIEWS: weakref.WeakValueDictionary[tuple[object, ...], LiveView] = weakref.WeakValueDictionary()


def table_of(frame: LiveFrame, height: int | None = None) -> LiveTable:
    """The live table of a frame; the same one when asked again.

    So a cell that is run again shows the widget that is there, and leaves none behind.
    """
    from alpaca_nb.view.table import LiveTable

    return _reused(LiveTable, frame, {"height": height})


def chart_of(frame: LiveFrame, **options: Any) -> LiveChart:
    """The live chart of a frame; the same one when asked again with the same options."""
    from alpaca_nb.view.chart import LiveChart

    return _reused(LiveChart, frame, options)


def source_of(
    frame: LiveFrame, columns: str | Iterable[str] | None = None, **options: Any
) -> FrameSource:
    """A Bokeh data source of a frame, for a figure of the user's own; a new one each time."""
    from alpaca_nb.view.source import FrameSource

    return FrameSource(frame, columns, **options)


def _reused(kind: type[_ViewT], frame: LiveFrame, options: dict[str, Any]) -> _ViewT:
    key = (kind, id(frame), repr(sorted(options.items())))
    view = _VIEWS.get(key)
    if not isinstance(view, kind) or view.comm is None:
        view = _VIEWS[key] = kind(frame, **options)
    return view


LiveFrame.view_factory = table_of
LiveFrame.table_factory = table_of
LiveFrame.chart_factory = chart_of
LiveFrame.source_factory = source_of
