"""User callbacks: on a thread of their own, in order, isolated, bounded and counted.

Nothing a handler does can slow the reader of the socket. When handlers fall behind, the
oldest waiting messages are dropped and counted; frames never lose them.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from alpaca_nb.clock import SYSTEM_CLOCK, Clock
from alpaca_nb.errors import BadInputError
from alpaca_nb.feed.models import to_model
from alpaca_nb.wire.messages import Message

logger = logging.getLogger("alpaca_nb.handlers")

Handler = Callable[[Any], Any]
"""Called with a QuoteData, TradeData or BarData; may be a coroutine function."""

QUEUE_LIMIT = 100_000
"""Messages that may wait for handlers before the oldest are dropped."""

ERRORS_KEPT = 100


@dataclass(frozen=True, slots=True)
class HandlerError:
    """One exception that a handler raised; its traceback is in `exception`."""

    handler: str
    exception: BaseException
    message: Any
    time_ns: int


def check_handler(handler: object) -> Handler:
    """Return the handler; raises BadInputError unless it can be called."""
    if not callable(handler):
        raise BadInputError(
            f"A handler is a function that takes one message, not {type(handler).__name__}; "
            "to keep the data without a handler, use stream.frame(...)."
        )
    return handler


class HandlerThread:
    """Runs the handlers of one client, in the order the messages came."""

    def __init__(self, *, limit: int = QUEUE_LIMIT, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._limit = limit
        self._waiting: deque[tuple[Handler, deque[Message[Any]]]] = deque()
        self._count = 0
        self._busy = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self.dropped = 0
        """Messages that handlers never saw because they fell behind."""
        self.errors: deque[HandlerError] = deque(maxlen=ERRORS_KEPT)
        """The last exceptions that handlers raised."""

    def push(self, handler: Handler, messages: Sequence[Message[Any]]) -> None:
        """Queue messages for a handler and return at once. Never blocks."""
        with self._changed:
            self._waiting.append((handler, deque(messages)))
            self._count += len(messages)
            self._drop_oldest()
            self._stopping = False
            if self._thread is None or not self._thread.is_alive():
                self._start()
            self._changed.notify_all()

    def drain(self, timeout_s: float) -> bool:
        """Wait until nothing is queued or running; False when that took too long."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._busy and not self._waiting, timeout_s)

    def stop(self) -> None:
        """Forget what is queued and end the thread after the call it is in; may be called twice."""
        with self._changed:
            self._waiting.clear()
            self._count = 0
            self._stopping = True
            self._changed.notify_all()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="alpaca_nb handlers", daemon=True)
        self._thread.start()

    def _drop_oldest(self) -> None:
        while self._count > self._limit:
            _, messages = self._waiting[0]
            surplus = min(self._count - self._limit, len(messages))
            for _ in range(surplus):
                messages.popleft()
            self._count -= surplus
            self.dropped += surplus
            if not messages:
                self._waiting.popleft()

    def _run(self) -> None:
        # A loop of its own for coroutine handlers, made when the first one comes.
        with asyncio.Runner() as runner:
            while (item := self._take()) is not None:
                self._call(runner, *item)

    def _take(self) -> tuple[Handler, Message[Any]] | None:
        with self._changed:
            self._busy = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._waiting or self._stopping)
            if self._stopping:
                self._thread = None
                return None
            handler, messages = self._waiting[0]
            message = messages.popleft()
            self._count -= 1
            if not messages:
                self._waiting.popleft()
            self._busy = True
            return handler, message

    def _call(self, runner: asyncio.Runner, handler: Handler, message: Message[Any]) -> None:
        try:
            result = handler(to_model(message))
            if inspect.iscoroutine(result):
                runner.run(result)
        except BaseException as error:  # a handler may not end the thread, not even by SystemExit
            name = getattr(handler, "__qualname__", repr(handler))
            self.errors.append(HandlerError(name, error, message, self._clock.now_ns()))
            logger.warning("handler %s raised %s", name, type(error).__name__, exc_info=error)
