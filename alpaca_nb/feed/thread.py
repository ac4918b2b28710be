"""The one daemon thread, with its own event loop, on which all live IO of this process runs.

The kernel's loop is never used: tasks on it stand still while a cell runs.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class FeedThread:
    """A thread that runs an event loop; started on first use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, work: Coroutine[Any, Any, T], *, timeout_s: float | None = None) -> T:
        """Run a coroutine there and wait for its result, from any other thread.

        Raises TimeoutError when it takes longer, and cancels the coroutine then, as it
        does when the wait is interrupted from the keyboard.
        """
        if self.is_current:
            work.close()
            raise RuntimeError("This call waits for the feed thread and was made on it.")
        future = self.submit(work)
        try:
            return future.result(timeout_s)
        except BaseException:
            future.cancel()
            raise

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine there and return at once, from any thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    @property
    def is_current(self) -> bool:
        """Whether this is called on the feed thread."""
        return threading.current_thread() is self._thread

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The thread's loop."""
        with self._lock:
            if self._loop is None or self._thread is None or not self._thread.is_alive():
                self._loop = asyncio.new_event_loop()
                started = threading.Event()
                self._thread = threading.Thread(
                    target=self._serve,
                    args=(self._loop, started),
                    name="alpaca_nb feed",
                    daemon=True,
                )
                self._thread.start()
                started.wait()
            return self._loop

    @staticmethod
    def _serve(loop: asyncio.AbstractEventLoop, started: threading.Event) -> None:
        asyncio.set_event_loop(loop)
        loop.call_soon(started.set)
        loop.run_forever()


FEED_THREAD = FeedThread()
"""The thread of this process."""
