"""What handlers print: into a log, and not into whichever cell happens to run.

In a Jupyter kernel `sys.stdout` belongs to the cell that runs, whoever writes. So while
handlers run, a router stands in for it (and for `sys.stderr`): it sends what is written by
a handler, or by a task that a handler started, to the log, and everything else on to where
it would have gone. Outside of a kernel nothing is replaced: handlers print to the terminal.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar, Token
from typing import Any, Literal

from alpaca_nb.clock import SYSTEM_CLOCK, Clock
from alpaca_nb.data.status import LogLine

LINES_KEPT = 500
"""How many lines a log holds; older ones are only counted."""

LINE_LENGTH = 1_000
"""How many characters of a line are kept."""

Level = Literal["output", "info", "error"]
"""What kind of line it is; see LogLine."""


class OutputLog:
    """The newest lines of what handlers printed and of what went wrong; for any thread."""

    def __init__(self, *, limit: int = LINES_KEPT, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._limit = limit
        self._lines: deque[LogLine] = deque(maxlen=limit)
        self._version = 0
        # Reentrant: collecting garbage while a line is added may run somebody's __del__,
        # and that may print.
        self._lock = threading.RLock()

    @property
    def version(self) -> int:
        """How many lines there have been; it tells whether it is worth looking again."""
        return self._version

    @property
    def dropped(self) -> int:
        """How many lines are no longer kept."""
        with self._lock:
            return self._version - len(self._lines)

    @property
    def lines(self) -> tuple[LogLine, ...]:
        """The lines that are kept, oldest first."""
        with self._lock:
            return tuple(self._lines)

    def add(self, source: str, text: str, level: Level = "info") -> None:
        """Add a text, line by line; what is too long is cut and says so."""
        self._add_lines(source, text.splitlines(), level)

    def capture(self, source: str) -> Capture:
        """While this context lasts, what its code prints becomes lines under this source.

        Its code is what runs inside, and the asyncio tasks that it starts, for as long as
        they run. It has an effect inside `routed_output` only.
        """
        return Capture(self, source)

    def _add_lines(self, source: str, lines: list[str], level: Level) -> None:
        with self._lock:
            # Of a flood only those lines are made that are kept.
            kept = lines[-self._limit :]
            self._version += len(lines) - len(kept)
            for line in kept:
                self._add_line(source, _Line(line).take(), level)

    def _add_line(self, source: str, text: str, level: Level) -> None:
        with self._lock:
            self._lines.append(LogLine(self._clock.now_ns(), source, text, level))
            self._version += 1


class Capture:
    """What one source prints, on its way into a log."""

    def __init__(self, log: OutputLog, source: str) -> None:
        self._log = log
        self._source = source
        self._begun: dict[str, _Line] = {}
        self._token: Token[Capture | None] | None = None

    def __enter__(self) -> None:
        if _routing.threads:
            _place_routers()
        self._token = _CAPTURE.set(self)

    def __exit__(self, *_: object) -> None:
        assert self._token is not None
        _CAPTURE.reset(self._token)
        if self._begun:
            self._end_lines()

    def write(self, stream: str, text: str) -> int:
        """Take what was written to the stream of this name; lines go on when they are complete."""
        with self._log._lock:
            line = self._begun.setdefault(stream, _Line())
            first, *others = text.split("\n")
            line.append(first)
            if others:
                *complete, rest = others
                self._log._add_line(self._source, line.take(), "output")
                self._log._add_lines(self._source, complete, "output")
                line.append(rest)
        return len(text)

    def _end_lines(self) -> None:
        """Nothing stays unseen because its line was not ended."""
        with self._log._lock:
            for line in self._begun.values():
                if line:
                    self._log._add_line(self._source, line.take(), "output")
            self._begun.clear()


class _Line:
    """A line that grows, bounded however long it gets."""

    def __init__(self, text: str = "") -> None:
        self._text = ""
        self._more = 0
        self.append(text)

    def __bool__(self) -> bool:
        return bool(self._text)

    def append(self, text: str) -> None:
        """Write on; after a carriage return the line starts anew, as progress bars have it."""
        text = self._text + text
        body = text.rstrip("\r")
        if "\r" in body:
            text = text[body.rindex("\r") + 1 :]
            self._more = 0
        self._more += max(0, len(text) - LINE_LENGTH)
        self._text = text[:LINE_LENGTH]

    def take(self) -> str:
        """What there is, and begin again."""
        text = self._text.rstrip("\r")
        if self._more:
            text += f"… ({self._more:,} more characters)"
        self._text, self._more = "", 0
        return text


# -- where sys.stdout leads ----------------------------------------------------------------

_CAPTURE: ContextVar[Capture | None] = ContextVar("alpaca_nb output of handlers", default=None)


class _Router:
    """Stands in for `sys.stdout` or `sys.stderr`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stream: Any = None
        """Where everything goes that no handler writes; set when it is put in place."""
        self._write = _Write(self, None)

    @property
    def write(self) -> _Write:
        return self._write

    @write.setter
    def write(self, write: Callable[[str], Any]) -> None:
        # IPython wraps `sys.stdout.write` for each cell, to record what the cell printed,
        # and sets it back after. Handlers must not go through the wrapping.
        self._write = write if isinstance(write, _Write) else _Write(self, write)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        # A kernel's stream makes other threads wait until it has sent.
        if _CAPTURE.get() is None:
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class _Write:
    """A router's `write`: to the log what a handler writes, everything else on."""

    def __init__(self, router: _Router, pass_on: Callable[[str], Any] | None) -> None:
        self._router = router
        self._pass_on = pass_on

    def __call__(self, text: str) -> Any:
        capture = _CAPTURE.get()
        if capture is None:
            return (self._pass_on or self._router.stream.write)(text)
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        return capture.write(self._router.name, text)


class _Routing:
    """How many threads run handlers in a kernel."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.threads = 0


_routing = _Routing()


@contextmanager
def routed_output() -> Iterator[None]:
    """Let captures of this thread take effect while it lasts, if this is a Jupyter kernel."""
    app = _kernel_app()
    if app is None:
        yield
        return
    _catch_displays(app)
    with _routing.lock:
        _routing.threads += 1
    try:
        yield
    finally:
        with _routing.lock:
            _routing.threads -= 1
            if not _routing.threads:
                _remove_routers()


def _kernel_app() -> Any:
    """The kernel that this process is, or None; looks only at what is imported already."""
    kind = getattr(sys.modules.get("ipykernel.kernelapp"), "IPKernelApp", None)
    return kind.instance() if kind is not None and kind.initialized() else None


def _place_routers() -> None:
    """Put routers in place, unless they are.

    Done before each call: `%%capture` and the like put something else there for a time.
    """
    # Straight lines, without a call between reading and setting: the interpreter changes
    # threads only at calls and jumps back, and another thread may just now put back what
    # it had replaced.
    if sys.stdout.__class__ is not _Router and sys.stdout is not None:
        router: Any = _Router("stdout")
        router.stream = sys.stdout
        sys.stdout = router
    if sys.stderr.__class__ is not _Router and sys.stderr is not None:
        router = _Router("stderr")
        router.stream = sys.stderr
        sys.stderr = router


def _remove_routers() -> None:
    """Put back what was there, unless somebody else has replaced the routers."""
    # Straight lines again. A router that somebody puts back later only passes on.
    out: Any = sys.stdout
    if out.__class__ is _Router:
        sys.stdout = out.stream
    err: Any = sys.stderr
    if err.__class__ is _Router:
        sys.stderr = err.stream


def _catch_displays(app: Any) -> None:
    """Let `display(...)` in a handler write its text: the publisher has hooks for each thread."""
    with suppress(AttributeError):
        app.shell.display_pub.register_hook(_log_display)


def _log_display(message: dict[str, Any]) -> dict[str, Any] | None:
    capture = _CAPTURE.get()
    if capture is None:
        return message
    # A wish to clear the output has no data; it must not clear a cell's either.
    if (data := message.get("content", {}).get("data")) is not None:
        capture.write("display", data.get("text/plain", "") + "\n")
    return None
