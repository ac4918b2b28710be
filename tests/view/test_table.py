"""The live table: what it sends, what it stores, how it shows itself without a browser."""

from __future__ import annotations

import gc
import json
from typing import Any

import pytest
from comm.base_comm import BaseComm

import alpaca_nb.view  # noqa: F401  (teaches frames to show themselves)
from alpaca_nb.clock import ManualClock
from alpaca_nb.data.frame import LiveFrame
from alpaca_nb.data.status import LogLine, StreamStatus
from alpaca_nb.errors import BadInputError
from alpaca_nb.view import widget as widget_module
from alpaca_nb.view.publisher import Publisher
from alpaca_nb.view.table import LiveTable
from alpaca_nb.wire.messages import CHANNELS, Quote

T0 = 1_790_000_000_000_000_000


def quotes(*symbols: str) -> list[Quote[int]]:
    return [Quote(symbol=s, bid_price=1.0, ask_price=1.1, timestamp=T0) for s in symbols]


def live_frame(channel: str = "quotes") -> LiveFrame:
    return LiveFrame(
        channel, ["AAPL", "MSFT"], status=lambda: StreamStatus(state="live", feed="iex")
    )


class Browser:
    """A table, and what reaches the page in front of it."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, frame: LiveFrame, clock: ManualClock | None = None
    ) -> None:
        self.received: list[tuple[dict[str, Any], list[bytes]]] = []
        self.publisher = Publisher(clock=clock or ManualClock(), threaded=False)
        self.table = LiveTable(frame, publisher=self.publisher)
        monkeypatch.setattr(
            self.table, "send", lambda content, buffers: self.received.append((content, buffers))
        )

    def say(self, **message: Any) -> None:
        """What JupyterLab would deliver to the widget's comm."""
        data = {"method": "custom", "content": {"view": "page"} | message}
        self.table.comm.handle_msg({"content": {"data": data}, "buffers": []})


@pytest.mark.parametrize("channel", sorted(CHANNELS))
def test_each_channel_has_its_shape(channel: str) -> None:
    """How things stand is keyed by symbol; what happened is a tape."""
    table = LiveTable(live_frame(channel), publisher=Publisher(threaded=False))
    delta = table.collect(None)
    assert delta is not None
    keyed = channel in {"quotes", "daily_bars", "statuses", "lulds"}
    assert delta.header["shape"] == ("keyed" if keyed else "tape")
    names = [column["name"] for column in delta.header["columns"]]
    assert names[:2] == ["timestamp", "symbol"]
    assert not {"received", "source"} & set(names)


def test_a_table_tells_what_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """From hello on: a snapshot, then only the symbols that changed."""
    frame = live_frame()
    frame.extend(quotes("AAPL", "MSFT"), received_ns=T0)
    browser = Browser(monkeypatch, frame)
    browser.say(kind="hello", visible=True, interval_ms=100)
    browser.publisher.tick()
    ((snapshot, buffers),) = browser.received
    assert (snapshot["kind"], snapshot["rows"]) == ("snapshot", 2)
    assert snapshot["status"]["feed"] == "iex"
    assert all(type(buffer) is bytes for buffer in buffers)
    first = browser.table.collect(None)
    assert first is not None
    assert browser.table.collect(first.cursor) is None
    frame.extend(quotes("MSFT"), received_ns=T0)
    delta = browser.table.collect(first.cursor)
    assert delta is not None
    assert (delta.kind, delta.rows) == ("delta", 1)


def test_a_frame_that_starts_again_is_told_again() -> None:
    """After `clear` the table holds the new rows only."""
    frame = live_frame()
    frame.extend(quotes("AAPL", "MSFT"), received_ns=T0)
    table = LiveTable(frame, publisher=Publisher(threaded=False))
    first = table.collect(None)
    assert first is not None
    frame.clear()
    frame.extend(quotes("MSFT"), received_ns=T0)
    again = table.collect(first.cursor)
    assert again is not None
    assert (again.kind, again.rows) == ("snapshot", 1)


def test_nothing_is_sent_without_a_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook that is executed headless gets the widget and no message after it."""
    frame = live_frame()
    browser = Browser(monkeypatch, frame)
    for _ in range(10):
        frame.extend(quotes("AAPL"), received_ns=T0)
        browser.publisher.tick()
    assert browser.received == []


def test_no_market_data_in_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a saved notebook keeps of a table is its configuration and its program."""
    frame = live_frame()
    browser = Browser(monkeypatch, frame)
    before = browser.table.get_state()
    frame.extend(quotes("AAPL", "MSFT"), received_ns=T0)
    browser.say(kind="hello", visible=True, interval_ms=100)
    browser.publisher.tick()
    after = browser.table.get_state()
    assert after == before
    program = len(after.pop("_esm"))
    assert program < 150_000
    assert len(json.dumps(after, default=str)) < 1_500


def test_it_shows_itself_the_same_every_time() -> None:
    """Text and HTML of two tables of the same frame are equal: no address, count or time."""
    frame = live_frame()
    tables = [LiveTable(frame, publisher=Publisher(threaded=False)) for _ in range(2)]
    frame.extend(quotes("AAPL"), received_ns=T0)
    assert repr(tables[0]) == repr(tables[1]) == "LiveTable(quotes: AAPL, MSFT)"
    one, two = (table._repr_mimebundle_()[0] for table in tables)  # type: ignore[index]
    assert one["text/plain"] == two["text/plain"] == repr(tables[0])
    assert one["text/html"] == two["text/html"]
    assert "quotes: AAPL, MSFT" in one["text/html"]
    assert "application/vnd.jupyter.widget-view+json" in one


def test_many_symbols_make_a_short_title() -> None:
    """A title names the first symbols and how many more there are."""
    frame = LiveFrame("trades", [f"S{i}" for i in range(500)])
    table = LiveTable(frame, publisher=Publisher(threaded=False))
    assert table.title == "trades: S0, S1, S2, S3, S4, S5 and 494 more"
    everything = LiveTable(LiveFrame("trades", "*"), publisher=Publisher(threaded=False))
    assert everything.title == "trades: all symbols"


def test_it_follows_the_frames_symbols() -> None:
    """A frame that gets other symbols while it is shown changes title and rows with them."""
    frame = live_frame()
    table = LiveTable(frame, publisher=Publisher(threaded=False))
    frame.symbols = ("TSLA",)
    table.badge()
    assert table.title == "quotes: TSLA"
    assert table.symbols == ["TSLA"]


async def test_the_log_goes_with_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """New lines are told once, and all of them to a page that is loaded again."""
    log = [LogLine(T0, "handler", "one")]
    status = lambda: StreamStatus(state="live", feed="iex", log=tuple(log))  # noqa: E731
    clock = ManualClock()
    browser = Browser(monkeypatch, LiveFrame("quotes", "AAPL", status=status), clock)

    async def told() -> list[str]:
        """The lines that one more second brings to the page."""
        browser.received.clear()
        await clock.advance(1.0)
        browser.publisher.tick()
        logs = [message.get("status", {}).get("log") for message, _ in browser.received]
        return [line["text"] for each in logs if each for line in each["lines"]]

    browser.say(kind="hello", visible=True)
    assert await told() == ["one"]
    assert await told() == []
    log.append(LogLine(T0, "handler", "two"))
    assert await told() == ["two"]
    browser.say(kind="hello", visible=True)
    assert await told() == ["one", "two"]


def test_a_displayed_frame_is_one_table() -> None:
    """Displaying a frame again, as a cell that is run again does, makes no second widget."""
    frame = live_frame()
    first = frame.table()
    assert frame.table() is first
    assert "LiveTable" in frame._repr_mimebundle_()[0]["text/plain"]
    assert frame.table(height=300) is not first
    first.close()
    second = frame.table()
    assert second is not first
    other = live_frame()
    assert other.table() is not second
    for table in (second, other.table(), frame.table(height=300)):
        table.close()
    gc.collect()


def test_closing_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed table is served no more; closing twice is no mistake."""
    frame = live_frame()
    browser = Browser(monkeypatch, frame)
    browser.say(kind="hello", visible=True, interval_ms=100)
    browser.table.close()
    browser.table.close()
    browser.publisher.tick()
    assert browser.received == []


def test_a_height_must_leave_room_for_a_row() -> None:
    """A height that shows nothing is refused with a sentence that says what is possible."""
    with pytest.raises(BadInputError, match="at least 100 pixels"):
        LiveTable(live_frame(), height=20, publisher=Publisher(threaded=False))


def test_a_message_of_the_browser_does_not_end_a_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """IPython's hooks of a cell's end do not run: one would show half-drawn figures."""
    browser = Browser(monkeypatch, live_frame())
    monkeypatch.setattr(BaseComm, "handle_msg", lambda *_: pytest.fail("the hooks would run"))
    browser.say(kind="hello", visible=True, interval_ms=100)
    browser.publisher.tick()
    assert len(browser.received) == 1


def test_a_kernel_may_choose_its_thread_for_our_messages() -> None:
    """Where ipykernel would hold messages up until the cell ends, it is told not to."""

    class Comm(BaseComm):
        def _reply_subshell_for(self, data: object, default: object) -> object:
            return None

        def publish_msg(self, *_: Any, **__: Any) -> None:
            pass

    comm, handled = Comm(), []
    widget_module._unhitch(comm, handled.append)
    assert comm._reply_subshell_for is None
    comm.handle_msg({"content": {}})
    assert handled == [{"content": {}}]


def test_without_its_browser_half_it_says_so() -> None:
    """From a source tree that is not built, the cell's output names the command."""
    assert "npm run build" in str(widget_module.script("no-such-view.js"))
