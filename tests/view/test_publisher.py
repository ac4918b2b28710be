"""The frame clock and the flow control, moved by hand."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from alpaca_nb.clock import ManualClock
from alpaca_nb.view.delta import Cursor, Delta
from alpaca_nb.view.publisher import WINDOW, Publisher


class Screen:
    """A view that remembers what it was told to send, and the page in front of it."""

    def __init__(self) -> None:
        self.position = 0
        self.status: dict[str, Any] = {
            "state": "live", "feed": "iex", "origin": "live", "detail": "",
        }  # fmt: skip
        self.sent: list[dict[str, Any]] = []
        self.broken: Exception | None = None
        self.buffers: list[bytes] = []

    def collect(self, cursor: Cursor | None) -> Delta | None:
        if self.broken is not None:
            raise self.broken
        if cursor is not None and cursor.position == self.position:
            return None
        base = cursor.position if cursor else self.position
        skipped = max(self.position - base - 1, 0)
        header = {"epoch": 0, "rows": 1, "skipped": skipped, "position": self.position}
        kind = "snapshot" if cursor is None else "delta"
        return Delta(kind, header, b"rows", Cursor(0, self.position, {}))  # type: ignore[arg-type]

    def badge(self) -> dict[str, Any]:
        return dict(self.status)

    def transmit(self, message: dict[str, Any], buffers: list[bytes]) -> None:
        self.sent.append(message)
        self.buffers += buffers

    @property
    def data(self) -> list[dict[str, Any]]:
        return [message for message in self.sent if message["kind"] != "status"]

    @property
    def last_status(self) -> dict[str, Any]:
        return next(message["status"] for message in reversed(self.sent) if "status" in message)


class Stage:
    """A publisher with one screen, and a hand on the clock."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.publisher = Publisher(clock=self.clock, threaded=False)
        self.screen = Screen()
        self.publisher.add(self.screen)

    def say(self, kind: str, view: str = "page", **fields: Any) -> None:
        self.publisher.deliver(self.screen, {"kind": kind, "view": view} | fields)

    async def run(self, seconds: float, *, new_rows: bool = False) -> None:
        """Let the time pass in steps of 10 ms, with or without something happening."""
        for _ in range(round(seconds * 100)):
            self.screen.position += new_rows
            self.publisher.tick()
            await self.clock.advance(0.01)

    async def open(self) -> None:
        self.say("hello", visible=True, interval_ms=100)
        await self.run(0.01)


@pytest.fixture
def stage() -> Stage:
    return Stage()


async def test_nothing_is_sent_before_somebody_says_hello(stage: Stage) -> None:
    """A notebook executed without a browser gets no message, whatever happens."""
    await stage.run(3, new_rows=True)
    assert stage.screen.sent == []
    assert not stage.publisher.running


async def test_hello_is_answered_by_a_snapshot_with_the_status(stage: Stage) -> None:
    """The first word gets everything: rows and badge, in one message."""
    await stage.open()
    (message,) = stage.screen.sent
    assert (message["kind"], message["seq"]) == ("snapshot", 1)
    assert message["status"]["state"] == "live"
    assert stage.screen.buffers == [b"rows"]


async def test_ten_frames_a_second_however_much_happens(stage: Stage) -> None:
    """Frames are coalesced; what was left out of the messages is counted."""
    await stage.open()
    for _ in range(20):
        await stage.run(0.1, new_rows=True)
        stage.say("ack", seq=stage.screen.data[-1]["seq"], draw_ms=1)
    assert 17 <= len(stage.screen.data) <= 21
    sequence = [message["seq"] for message in stage.screen.data]
    assert sequence == list(range(1, len(sequence) + 1))
    skipped = sum(message["skipped"] for message in stage.screen.data)
    assert stage.screen.last_status["coalesced"] <= skipped
    assert stage.screen.last_status["coalesced"] > 100


async def test_nothing_is_sent_when_nothing_changes(stage: Stage) -> None:
    """An idle view costs one sign of life a second."""
    await stage.open()
    stage.screen.sent.clear()
    await stage.run(10)
    assert stage.screen.data == []
    assert 9 <= len(stage.screen.sent) <= 10


async def test_a_change_of_state_is_told_soon(stage: Stage) -> None:
    """A failure reaches the badge within half a second, without any row."""
    await stage.open()
    await stage.run(0.5)
    stage.screen.status |= {"state": "failed", "detail": "Wrong keys."}
    await stage.run(0.1)
    assert stage.screen.sent[-1]["kind"] == "status"
    assert stage.screen.last_status["detail"] == "Wrong keys."


async def test_a_state_that_flickers_does_not_flood(stage: Stage) -> None:
    """Changes of state are told twice a second at most."""
    await stage.open()
    for i in range(500):
        stage.screen.status["detail"] = str(i)
        await stage.run(0.01)
    assert len(stage.screen.sent) <= 11


async def test_the_kernel_does_not_run_ahead_of_a_browser_that_answers(stage: Stage) -> None:
    """With acknowledgements coming in, no more than a window of messages is on its way."""
    await stage.open()
    for _ in range(30):
        await stage.run(0.2, new_rows=True)
        # A slow page: it is always six messages behind, but it answers.
        acked = max(stage.screen.data[-1]["seq"] - 6, 0)
        stage.say("ack", seq=acked, draw_ms=1)
        assert stage.screen.data[-1]["seq"] - acked <= WINDOW


async def test_frames_go_on_when_no_answer_can_come(stage: Stage) -> None:
    """In a busy cell no acknowledgement arrives; frames go on at five a second."""
    await stage.open()
    await stage.run(2, new_rows=True)
    stage.screen.sent.clear()
    await stage.run(10, new_rows=True)
    assert 45 <= len(stage.screen.data) <= 51


async def test_after_a_busy_cell_the_full_pace_returns(stage: Stage) -> None:
    """The first acknowledgement after the silence brings back ten frames a second."""
    await stage.open()
    await stage.run(5, new_rows=True)
    stage.say("ack", seq=stage.screen.data[-1]["seq"], draw_ms=1)
    stage.screen.sent.clear()
    await stage.run(0.5, new_rows=True)
    assert len(stage.screen.data) >= 4


async def test_a_browser_that_draws_slowly_sets_the_pace(stage: Stage) -> None:
    """A page that takes 200 ms to draw gets a frame every 400 ms."""
    await stage.open()
    for _ in range(20):
        await stage.run(0.2, new_rows=True)
        stage.say("ack", seq=stage.screen.data[-1]["seq"], draw_ms=200)
    assert 9 <= len(stage.screen.data) <= 13


async def test_a_host_may_ask_for_a_slower_pace(stage: Stage) -> None:
    """The interval in hello is kept to, and cannot be quicker than the clock."""
    stage.say("hello", visible=True, interval_ms=500)
    for _ in range(20):
        await stage.run(0.1, new_rows=True)
        stage.say("ack", seq=max(len(stage.screen.data), 1), draw_ms=0)
    assert len(stage.screen.data) == 4


async def test_nothing_is_sent_to_a_hidden_view(stage: Stage) -> None:
    """Hidden means silent, and coming back means one message with all that happened."""
    await stage.open()
    stage.say("visibility", visible=False)
    stage.screen.sent.clear()
    await stage.run(60, new_rows=True)
    assert stage.screen.sent == []
    stage.say("visibility", visible=True)
    await stage.run(0.01)
    (message,) = stage.screen.sent
    assert message["kind"] == "delta"
    assert message["position"] == stage.screen.position


async def test_resync_is_answered_by_a_snapshot(stage: Stage) -> None:
    """A page that misses a message is told everything again, and then goes on."""
    await stage.open()
    await stage.run(0.5, new_rows=True)
    stage.say("resync", seq=2)
    await stage.run(0.11)
    assert stage.screen.data[-1]["kind"] == "snapshot"
    await stage.run(0.2, new_rows=True)
    assert stage.screen.data[-1]["kind"] == "delta"


async def test_a_reloaded_page_does_not_hold_up_the_new_one(stage: Stage) -> None:
    """A reader that fell silent while another one answers is forgotten."""
    await stage.open()
    await stage.run(0.5, new_rows=True)
    stage.say("hello", view="reloaded", visible=True, interval_ms=100)
    for _ in range(70):
        await stage.run(0.1, new_rows=True)
        stage.say("ack", view="reloaded", seq=stage.screen.data[-1]["seq"], draw_ms=1)
    stage.screen.sent.clear()
    for _ in range(10):
        await stage.run(0.1, new_rows=True)
        stage.say("ack", view="reloaded", seq=stage.screen.data[-1]["seq"], draw_ms=1)
    assert len(stage.screen.data) >= 9


async def test_a_view_that_fails_says_so_and_does_not_disturb_others(stage: Stage) -> None:
    """An exception in one view is shown in its badge; the clock and the others go on."""
    other = Screen()
    stage.publisher.add(other)
    stage.publisher.deliver(other, {"kind": "hello", "view": "page"})
    await stage.open()
    stage.screen.broken = ValueError("no such column")
    for _ in range(30):
        other.position += 1
        await stage.run(0.1, new_rows=True)
        stage.publisher.deliver(other, {"kind": "ack", "view": "page", "seq": len(other.data)})
    assert stage.screen.last_status["state"] == "failed"
    assert "no such column" in stage.screen.last_status["detail"]
    assert len(other.data) > 20
    stage.screen.broken = None
    await stage.run(15, new_rows=True)
    assert stage.screen.last_status["state"] == "live"


@pytest.mark.parametrize(
    "message",
    [
        None, 7, "hello", {}, {"kind": "hello"}, {"kind": "nonsense", "view": "page"},
        {"kind": "ack", "view": 3}, {"kind": "ack", "view": "page", "seq": "x", "draw_ms": None},
        {"kind": "hello", "view": "page", "interval_ms": "soon"},
    ],
)  # fmt: skip
async def test_nonsense_from_the_browser_does_no_harm(stage: Stage, message: object) -> None:
    """Whatever arrives, the clock goes on and nothing is raised."""
    await stage.open()
    stage.publisher.deliver(stage.screen, message)
    await stage.run(1, new_rows=True)
    assert len(stage.screen.data) > 3


async def test_a_removed_view_is_sent_nothing(stage: Stage) -> None:
    """After removal, which may be repeated, neither rows nor answers."""
    await stage.open()
    stage.publisher.remove(stage.screen)
    stage.publisher.remove(stage.screen)
    stage.screen.sent.clear()
    stage.say("hello")
    await stage.run(1, new_rows=True)
    assert stage.screen.sent == []


def test_the_thread_lives_from_the_first_word_to_the_last_view() -> None:
    """One thread serves all views; it starts when it is needed and ends with the last one."""

    class Notified(Screen):
        told = threading.Event()

        def transmit(self, message: dict[str, Any], buffers: list[bytes]) -> None:
            super().transmit(message, buffers)
            self.told.set()

    publisher, screen = Publisher(), Notified()
    publisher.add(screen)
    assert not publisher.running
    publisher.deliver(screen, {"kind": "hello", "view": "page"})
    assert screen.told.wait(5)
    (thread,) = (each for each in threading.enumerate() if each.name == "alpaca_nb views")
    assert thread.daemon
    publisher.remove(screen)
    thread.join(5)
    assert not thread.is_alive()
    assert not publisher.running
