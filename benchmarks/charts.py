"""One frame of a chart, on the kernel's side: ours against Bokeh's own streaming.

Rows have come; a message about them goes to the browser. Sending it is not part of the time.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from alpaca_nb.clock import SystemClock
from alpaca_nb.data.batch import Lexicon, batch_of
from alpaca_nb.data.frame import LiveFrame
from alpaca_nb.view.chart import LiveChart
from alpaca_nb.view.publisher import FRAME_S, Publisher
from benchmarks.quotes import Tape
from benchmarks.results import Kind, Table

ABOUT = "One frame of a chart, in Python"

SHOWN = 10_000
"""Points that a chart holds."""
START_NS = 1_790_000_000_000_000_001
COLUMNS = ("bid_price", "ask_price", "bid_size", "ask_size")


class _Clock(SystemClock):
    """Shows when the next frame is due."""

    seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


class OurChart:
    """A chart as the publisher serves it, up to where a message would be sent."""

    name, kind = "alpaca_nb: one message, one buffer", "ours"

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._tape, self._lexicon = Tape(START_NS, 1), Lexicon()
        self._frame = LiveFrame("quotes", self._tape.names, maxlen=1_000_000)
        self._clock = _Clock()
        self._publisher = Publisher(clock=self._clock, threaded=False)
        self._chart = LiveChart(self._frame, publisher=self._publisher)
        self._chart.transmit = self._keep  # type: ignore[method-assign]
        self.sent: list[tuple[dict[str, Any], list[bytes]]] = []
        self._sequence = 0
        self._append(SHOWN)
        self._say(kind="hello", visible=True, interval_ms=100)
        self._publisher.tick()

    def prepare(self) -> None:
        """New rows come, and the browser has drawn those before."""
        self._append(self._rows)
        self._clock.seconds += FRAME_S
        self._say(kind="ack", seq=self._sequence, draw_ms=5)
        self.sent.clear()

    def frame(self) -> None:
        """What the frame clock does."""
        self._publisher.tick()

    def weigh(self) -> tuple[int, int]:
        """Messages and bytes of the last frame."""
        size = sum(len(json.dumps(m)) + sum(map(len, buffers)) for m, buffers in self.sent)
        return len(self.sent), size

    def _append(self, rows: int) -> None:
        for messages in self._tape.batches(rows):
            received = np.full(len(messages), START_NS, np.int64)
            self._frame.take(batch_of(messages, received, self._lexicon))
        self._tape = Tape(self._tape.start_ns + rows * 1_000_000, 1)

    def _say(self, **message: object) -> None:
        self._publisher.deliver(self._chart, {"view": "page", **message})

    def _keep(self, message: dict[str, Any], buffers: list[bytes]) -> None:
        self.sent.append((message, buffers))
        self._sequence = message.get("seq", self._sequence)


class BokehChart:
    """`ColumnDataSource.stream`, and the message of `push_notebook` about it."""

    kind = "peer"

    def __init__(self, rows: int, *, lists: bool) -> None:
        from bokeh.document import Document
        from bokeh.models import ColumnDataSource
        from bokeh.plotting import figure

        self.name = f"Bokeh: stream + PATCH-DOC, columns of {'lists' if lists else 'numpy'}"
        self._rows, self._lists, self._end = rows, lists, SHOWN
        self._source = ColumnDataSource(self._columns(0, SHOWN))
        plot = figure(width=600, height=250)
        for name in ("bid_price", "ask_price"):
            plot.step("timestamp", name, source=self._source)
        self._document = Document()
        self._document.add_root(plot)
        self._document.hold()
        self._message: Any = None

    def prepare(self) -> None:
        """New rows come."""
        self._new = self._columns(self._end, self._end + self._rows)
        self._end += self._rows

    def frame(self) -> None:
        """What `push_notebook` does, but for sending."""
        from bokeh.protocol import Protocol

        self._source.stream(self._new, rollover=SHOWN)
        events = list(self._document.callbacks._held_events)
        self._document.callbacks._held_events = []
        message = Protocol().create("PATCH-DOC", events)
        self._texts = (message.header_json, message.metadata_json, message.content_json)
        self._message = message

    def weigh(self) -> tuple[int, int]:
        """Messages and bytes of the last frame; each part is a comm message of its own."""
        size = sum(map(len, self._texts))
        for buffer in self._message.buffers:
            size += len(json.dumps(buffer.ref)) + len(buffer.to_bytes())
        return len(self._texts) + 2 * len(self._message.buffers), size

    def _columns(self, start: int, stop: int) -> dict[str, Any]:
        numbers = np.arange(start, stop, dtype=float)
        columns = {"timestamp": numbers, **dict.fromkeys(COLUMNS, numbers % 97)}
        return {k: v.tolist() for k, v in columns.items()} if self._lists else columns


def frame_of(rows: int, *, small: bool) -> Table:
    """One frame with so many new rows."""
    rounds = 5 if small else 60
    table = Table(
        f"A chart of {SHOWN:,} points gets {rows:,} new rows",
        "µs",
        about="Ours goes from the frame to the message, with the status twice a second. Bokeh is "
        "handed columns that are cut already, and is asked for the message only.",
    )
    makers: list[Callable[[], Any]] = [
        lambda: OurChart(rows),
        lambda: BokehChart(rows, lists=False),
        lambda: BokehChart(rows, lists=True),
    ]
    charts = [make() for make in makers]
    taken: list[list[float]] = [[] for _ in charts]
    for _ in range(rounds + 2):
        for chart, values in zip(charts, taken, strict=True):
            chart.prepare()
            gc.collect(0)
            start = time.perf_counter()
            chart.frame()
            values.append((time.perf_counter() - start) * 1e6)
    if charts[0].weigh()[0] == 0:
        raise AssertionError("our chart sent nothing")
    for chart, values in zip(charts, taken, strict=True):
        kind: Kind = chart.kind
        table.add(chart.name, values[2:], kind)
        messages, size = chart.weigh()
        table.figure(f"{chart.name}: messages", [messages], "a frame")
        table.figure(f"{chart.name}: bytes", [size], "a frame")
    table.base = charts[0].name
    return table


def measure(*, small: bool) -> list[Table]:
    """All of it."""
    return [frame_of(rows, small=small) for rows in ((10,) if small else (10, 100, 1_000))]
