"""When views are sent something: one frame clock for all, and flow control for each.

Nothing between here and the page pushes back: what is sent is queued without bound, or dropped.
So the kernel bounds it. Per view at most `WINDOW` messages are unacknowledged while the browser
answers; while it cannot (a busy cell holds its answers up) frames go on at a slower, fixed pace,
because a view that stands still during a long cell would be worth little. What a frame leaves out
is part of the next one; nothing is queued.

`Pace` holds these rules and knows no thread, comm or clock. `Publisher` applies them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from alpaca_nb.clock import SYSTEM_CLOCK, Clock
from alpaca_nb.view.delta import Cursor, Delta

FRAME_S = 0.1
"""The frame clock: no view is sent data more often."""

UNHEARD_S = 0.2
"""The pace while the browser's answers do not come through."""

WINDOW = 8
"""Data messages that may be unacknowledged; the browser acknowledges every fourth."""

PATIENCE_S = 0.6
"""How long a full window waits for an answer before the pace no longer depends on it."""

GONE_S = 5.0
"""A reader this much longer silent than another one has gone (its page was reloaded)."""

SLOWEST_S = 1.0
"""A browser that draws slowly slows its view down, but not beyond this."""

LONGEST_RETRY_S = 10.0
"""A view that raises is tried again after 0.2 s, then less and less often down to this."""

HEARTBEAT_S = 1.0
"""A visible view hears the status this often even when nothing happens."""

STATUS_S = 0.5
"""And not more often than this when the state changes."""


@dataclass(slots=True)
class _Reader:
    """One page that shows a view."""

    visible: bool
    acked: int
    heard: float
    interval_s: float = FRAME_S
    draw_s: float = 0.0

    @property
    def pace_s(self) -> float:
        return min(max(self.interval_s, 2 * self.draw_s, FRAME_S), SLOWEST_S)


class Pace:
    """When one view may be sent its next message.

    Every method is given the time, in seconds of any clock that does not go backwards.
    """

    def __init__(self) -> None:
        self.sequence = 0
        """Data messages sent; the number of the last one."""
        self.wants_snapshot = False
        """A page has asked to be told everything."""
        self._readers: dict[str, _Reader] = {}
        self._sent = float("-inf")
        self._status_sent = float("-inf")

    @property
    def watched(self) -> bool:
        """Somebody can see the view."""
        return any(reader.visible for reader in self._readers.values())

    def hear(self, message: Mapping[str, Any], now: float) -> None:
        """Take in one message of a browser; what is not understood is ignored."""
        name, kind = message.get("view"), message.get("kind")
        if not isinstance(name, str):
            return
        if kind == "hello":
            interval_s = _number(message.get("interval_ms"), 0.0) / 1000
            visible = message.get("visible", True) is True
            self._readers[name] = _Reader(visible, self.sequence, now, interval_s)
            self.wants_snapshot = True
            return
        reader = self._readers.get(name)
        if reader is None:
            # It was forgotten, or its hello was lost; a snapshot puts things right.
            if kind in {"ack", "resync", "visibility"}:
                visible = message.get("visible", True) is True
                self._readers[name] = _Reader(visible, self.sequence, now)
                self.wants_snapshot = True
            return
        reader.heard = now
        if kind == "ack":
            sequence = int(_number(message.get("seq"), 0))
            reader.acked = min(max(reader.acked, sequence), self.sequence)
            reader.draw_s = _number(message.get("draw_ms"), 0.0) / 1000
        elif kind == "visibility":
            reader.visible = message.get("visible") is True
            reader.acked = self.sequence
        elif kind == "resync":
            reader.acked = self.sequence
            self.wants_snapshot = True
        self._forget_the_gone()

    def data_due(self) -> float:
        """The time from which the next data message may go; infinity while nobody watches."""
        watching = [reader for reader in self._readers.values() if reader.visible]
        if not watching:
            return float("inf")
        due = self._sent + max(reader.pace_s for reader in watching)
        for reader in watching:
            if self.sequence - reader.acked >= WINDOW:
                due = max(due, reader.heard + PATIENCE_S, self._sent + UNHEARD_S)
        return due

    def status_due(self, *, changed: bool) -> float:
        """The time from which the next status may go; infinity while nobody watches."""
        if not self.watched:
            return float("inf")
        return self._status_sent + (STATUS_S if changed else HEARTBEAT_S)

    def data_sent(self, now: float) -> int:
        """Note that a data message goes out; returns its sequence number."""
        self._sent = now
        self.wants_snapshot = False
        self.sequence += 1
        return self.sequence

    def status_sent(self, now: float) -> None:
        """Note that a status goes out, alone or with data."""
        self._status_sent = now

    def _forget_the_gone(self) -> None:
        """A page that is gone says no goodbye; one forgotten by mistake is told everything."""
        newest = max(reader.heard for reader in self._readers.values())
        self._readers = {
            name: reader
            for name, reader in self._readers.items()
            if newest - reader.heard < GONE_S or (reader.visible and reader.acked == self.sequence)
        }


def _number(value: object, default: float) -> float:
    return float(value) if isinstance(value, int | float) else default


class Source(Protocol):
    """What the publisher asks of a view."""

    def collect(self, cursor: Cursor | None) -> Delta | None:
        """What changed since the cursor; everything when it is None; None for nothing."""
        ...

    def badge(self) -> dict[str, Any]:
        """The status now, as the browser reads it."""
        ...

    def transmit(self, message: dict[str, Any], buffers: list[bytes]) -> None:
        """Send one message to every page that shows the view."""
        ...


@dataclass(slots=True)
class _Slot:
    """What the publisher remembers of one view."""

    source: Source
    pace: Pace = field(default_factory=Pace)
    inbox: deque[Mapping[str, Any]] = field(default_factory=lambda: deque(maxlen=1000))
    cursor: Cursor | None = None
    coalesced: int = 0
    told: object = None
    error: str = ""
    failures: int = 0
    retry_at: float = float("-inf")

    def failed(self, error: Exception, now: float) -> None:
        """Try again later and later, so that a view that always fails costs nothing."""
        self.error = f"{type(error).__name__}: {error}"
        self.failures += 1
        self.retry_at = now + min(FRAME_S * 2**self.failures, LONGEST_RETRY_S)


class Publisher:
    """One frame clock for every view of a kernel.

    Its thread starts with the first word from a browser and ends with the last view, so a
    notebook that is executed without a browser starts none and is sent nothing. It never
    raises or prints; what goes wrong is shown in the badge of the view it went wrong in.
    """

    def __init__(self, *, clock: Clock = SYSTEM_CLOCK, threaded: bool = True) -> None:
        self._clock = clock
        self._threaded = threaded
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._slots: dict[int, _Slot] = {}
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """The clock's thread is alive."""
        return self._thread is not None

    def add(self, source: Source) -> None:
        """Serve a view, as soon as a browser asks for it."""
        with self._lock:
            self._slots[id(source)] = _Slot(source)

    def remove(self, source: Source) -> None:
        """Serve a view no more; it may be removed twice."""
        with self._lock:
            self._slots.pop(id(source), None)
        self._wake.set()

    def deliver(self, source: Source, message: object) -> None:
        """Take a message of a browser, from any thread; it is acted on in the clock's thread."""
        slot = self._slots.get(id(source))
        if slot is None or not isinstance(message, Mapping):
            return
        slot.inbox.append(message)
        self._wake.set()
        if self._threaded and self._thread is None:
            self._start()

    def tick(self) -> float:
        """Send what is due; returns the seconds until something can be due again.

        Infinity means: not before the next word from a browser.
        """
        with self._lock:
            slots = list(self._slots.values())
        now = self._clock.monotonic()
        due = float("inf")
        for slot in slots:
            try:
                due = min(due, self._serve(slot, now))
            except Exception as error:
                slot.failed(error, now)
                due = min(due, slot.retry_at)
        return max(due - self._clock.monotonic(), 0.0)

    def _serve(self, slot: _Slot, now: float) -> float:
        """Send one view what is due; returns the time from which something can be due again."""
        pace = slot.pace
        while slot.inbox:
            pace.hear(slot.inbox.popleft(), now)
        if not pace.watched:
            return float("inf")
        delta = self._collect(slot, now)
        badge = self._due_badge(slot, now)
        if delta is not None:
            message = {"kind": delta.kind, "seq": pace.data_sent(now)} | delta.header
            if badge is not None:
                message["status"] = badge
            slot.source.transmit(message, [delta.buffer])
        elif badge is not None:
            slot.source.transmit({"kind": "status", "status": badge}, [])
        # Where nothing had happened, the clock looks again sooner than a frame later.
        return max(pace.data_due(), now + FRAME_S / 2)

    def _collect(self, slot: _Slot, now: float) -> Delta | None:
        if now < max(slot.pace.data_due(), slot.retry_at):
            return None
        try:
            delta = slot.source.collect(None if slot.pace.wants_snapshot else slot.cursor)
        except Exception as error:
            slot.failed(error, now)
            return None
        slot.error, slot.failures = "", 0
        if delta is not None:
            slot.cursor = delta.cursor
            slot.coalesced += delta.skipped
        return delta

    def _due_badge(self, slot: _Slot, now: float) -> dict[str, Any] | None:
        """The status to send now, or None; what cannot be due is not even asked for."""
        pace = slot.pace
        if now < pace.status_due(changed=True):
            return None
        badge = self._badge(slot)
        told = (badge["state"], badge["feed"], badge["origin"], badge["detail"])
        if now < pace.status_due(changed=told != slot.told):
            return None
        pace.status_sent(now)
        slot.told = told
        return badge

    def _badge(self, slot: _Slot) -> dict[str, Any]:
        badge = slot.source.badge() | {"coalesced": slot.coalesced}
        if slot.error:
            badge |= {"state": "failed", "detail": f"This view cannot go on: {slot.error}"}
        return badge

    def _start(self) -> None:
        with self._lock:
            if self._thread is not None or not self._slots:
                return
            self._thread = threading.Thread(target=self._run, name="alpaca_nb views", daemon=True)
            self._thread.start()

    def _finished(self) -> bool:
        with self._lock:
            if self._slots:
                return False
            self._thread = None
            return True

    def _run(self) -> None:
        while not self._finished():
            self._wake.clear()
            self._wake.wait(min(self.tick(), threading.TIMEOUT_MAX))


PUBLISHER = Publisher()
"""The frame clock of this kernel."""
