"""User callbacks: on a thread of their own, in order, isolated, bounded and counted.

Nothing a handler does can slow the reader of the socket. When handlers fall behind, the
declared policy (`feed.queues`) says what becomes of the messages, and each one that no
handler saw is counted; frames never lose any. The handlers of a client share one thread: a
slow one delays the others.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import threading
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from alpaca_nb.clock import SYSTEM_CLOCK, Clock
from alpaca_nb.errors import BadInputError
from alpaca_nb.feed.models import to_model
from alpaca_nb.feed.output import OutputLog, routed_output
from alpaca_nb.feed.queues import (
    QUEUE_LIMIT,
    Backlog,
    Counts,
    Handler,
    Policy,
    Queue,
    check_limit,
    check_policy,
)
from alpaca_nb.wire.messages import Message

__all__ = [
    "QUEUE_LIMIT",
    "Counts",
    "Handler",
    "HandlerError",
    "HandlerThread",
    "Policy",
    "Queue",
    "check_handler",
    "check_policy",
]

logger = logging.getLogger("alpaca_nb.handlers")

ERRORS_KEPT = 100
FRAMES_KEPT = 10
"""How many of the errors keep the frames of their traceback, and all that those refer to."""
TRACEBACK_LENGTH = 20_000
"""Characters of a traceback's text that are kept; of a longer one, the end."""

STOP_WAIT_S = 0.1
"""How long `stop` waits for the call that is under way."""
CANCEL_AFTER_S = 0.5
"""How long after `stop` an awaiting handler is cancelled."""
REPEAT_S = 1.0
"""How often the same kind of error of the same handler is told to the log."""
OVERLAP_WAIT_S = 1.0
"""How long a new thread waits for the last call of the one before it, so that two calls
never overlap unless the first one hangs."""


@dataclass(frozen=True, slots=True)
class HandlerError:
    """One exception that a handler raised.

    The newest ten exceptions keep their `__traceback__`, for a debugger; from older ones it
    is removed, because it keeps alive whatever the handler's variables held. The text stays.
    """

    handler: str
    """The handler's name."""
    exception: BaseException
    message: Any
    """What the handler was given; None if it was a task that a handler had started."""
    time_ns: int
    """When (ns since 1970, UTC)."""
    traceback: str = field(default="", repr=False)
    """The traceback as Python prints it."""


def check_handler(handler: object) -> Handler:
    """Return the handler; raises BadInputError unless it can be called with one message."""
    if not callable(handler):
        raise BadInputError(
            f"A handler is a function that takes one message, not {type(handler).__name__}; "
            "to keep the data without a handler, use stream.frame(...)."
        )
    if any(
        test(each)
        for test in (inspect.isgeneratorfunction, inspect.isasyncgenfunction)
        for each in (handler, handler.__call__)
    ):
        raise BadInputError(
            f"The handler {_name_of(handler)} has a yield in it, so calling it would run "
            "nothing; use a function without yield."
        )
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):  # some built-in functions do not say
        return handler
    try:
        signature.bind(None)
    except TypeError as error:
        raise BadInputError(
            f"The handler {_name_of(handler)} cannot be called with one message: {error}."
        ) from None
    return handler


class HandlerThread:
    """Runs the handlers of one client, in the order the messages came.

    What handlers print in a Jupyter kernel, and one line for each exception, goes to `log`.
    With the policy "block" nothing bounds what waits but whoever reads the socket:
    `on_full(True)` asks them to pause, `on_full(False)` to go on. It is called by `push`, by
    `stop` and from the handlers' thread, must return at once, and is always called last with
    what is the case.
    """

    def __init__(
        self,
        *,
        policy: Policy = "drop_oldest",
        limit: int = QUEUE_LIMIT,
        clock: Clock = SYSTEM_CLOCK,
        log: OutputLog | None = None,
        on_full: Callable[[bool], None] | None = None,
    ) -> None:
        self._policy = check_policy(policy)
        self._limit = check_limit(limit)
        self._clock = clock
        self._on_full = on_full
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._rest = threading.Condition(self._lock)
        self._backlog = Backlog()
        self._queue = self._backlog.make_queue(self._policy, self._limit)
        self._failed = 0
        self._repeats = _Repeats(clock)
        self._worker: _Worker | None = None
        self._previous: threading.Thread | None = None
        self._telling = threading.RLock()
        self._told_full = False
        self.log = log if log is not None else OutputLog(clock=clock)
        """What handlers printed and how they failed."""
        self.errors: deque[HandlerError] = deque(maxlen=ERRORS_KEPT)
        """The last exceptions that handlers raised, oldest first."""

    def make_queue(self, policy: Policy | None = None, limit: int | None = None) -> Queue:
        """A queue for handlers that want a policy or limit of their own.

        Give it to `push`. What is left out is as for all; raises BadInputError.
        """
        return self._backlog.make_queue(
            self._policy if policy is None else check_policy(policy),
            self._limit if limit is None else check_limit(limit),
        )

    def push(
        self, handler: Handler, messages: Sequence[Message[Any]], queue: Queue | None = None
    ) -> None:
        """Queue messages for a handler and return at once. Never waits for a handler.

        Without a queue of its own they share one with all others. A thread that was
        stopped starts again.
        """
        with self._lock:
            self._backlog.put(self._queue if queue is None else queue, handler, messages)
            if self._worker is None or self._worker.ended:
                self._start()
            else:
                self._worker.wake()
        self._tell_full()

    def drain(self, timeout_s: float) -> bool:
        """Wait until nothing waits or runs; False when that took too long."""
        with self._lock:
            return self._rest.wait_for(self._is_at_rest, timeout_s)

    def stop(self, *, wait_s: float = STOP_WAIT_S) -> None:
        """Forget what waits, counted as dropped, and end the thread; may be called twice.

        Waits up to `wait_s` seconds for the call that is under way, except when that call
        itself stops it. An awaiting handler that goes on for longer is cancelled half a
        second after this; one that hangs in plain code cannot be ended, and its thread is
        left behind.
        """
        with self._lock:
            self._backlog.clear()
            worker, self._worker = self._worker, None
            if worker is not None:
                worker.stop()
            self._rest.notify_all()
        self._tell_full()
        if worker is not None and worker.thread is not threading.current_thread():
            worker.thread.join(wait_s)

    @property
    def counts(self) -> Counts:
        """What became of the messages so far."""
        with self._lock:
            return Counts(
                pushed=self._backlog.pushed,
                handled=self._backlog.handled,
                failed=self._failed,
                dropped=self._backlog.dropped,
                waiting=self._backlog.waiting,
            )

    @property
    def dropped(self) -> int:
        """Messages that handlers never saw because they fell behind or were stopped."""
        return self._backlog.dropped

    @property
    def full(self) -> bool:
        """Whether so much waits under the policy "block" that the reader should pause."""
        return self._backlog.full

    def _start(self) -> None:
        worker = _Worker(self, self._previous)
        worker.thread.start()
        self._worker, self._previous = worker, worker.thread

    def _is_at_rest(self) -> bool:
        busy = self._worker is not None and self._worker.busy
        return not busy and not self._backlog.waiting

    def _tell_full(self) -> None:
        """Tell how it is now.

        Outside of the lock, because it is somebody else's code, and yet in order: whoever
        comes late tells again if what was told is no longer so.
        """
        if self._backlog.full is self._told_full:
            return
        with self._telling:
            while (full := self._backlog.full) is not self._told_full:
                self._told_full = full
                if self._on_full is not None:
                    self._on_full(full)

    def _note(self, handler: str, exception: BaseException, message: Any) -> None:
        """Keep what was raised, tell the log, and let go of what old errors hold."""
        _cut_own_frames(exception)
        text = "".join(traceback.format_exception(exception))[-TRACEBACK_LENGTH:]
        error = HandlerError(handler, exception, message, self._clock.now_ns(), text)
        with self._lock:
            self._failed += message is not None
            self.errors.append(error)
            if len(self.errors) > FRAMES_KEPT:
                _release_frames(self.errors[-FRAMES_KEPT - 1].exception)
            held_back = self._repeats.admit((handler, type(exception)))
        if held_back is not None:
            more = f" (and {held_back:,} more like it)" if held_back else ""
            self.log.add(handler, f"raised {_summary(exception)}{more}", "error")
            logger.warning("handler %s raised%s:\n%s", handler, more, text)


class _Worker:
    """One thread that runs handlers until it is stopped."""

    def __init__(self, owner: HandlerThread, previous: threading.Thread | None) -> None:
        self._owner = owner
        self._previous = previous
        self._stopped = False
        self._runner = asyncio.Runner()
        # Made when the first coroutine comes. From then on the thread waits in it, so that
        # tasks which handlers started go on while no messages come.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken: asyncio.Future[None] | None = None
        self._task: asyncio.Task[Any] | None = None
        self.busy = False
        self.ended = False
        self.thread = threading.Thread(target=self._run, name="alpaca_nb handlers", daemon=True)

    # -- called with the owner's lock held, from any thread --

    def wake(self) -> None:
        """Something waits, or it is time to stop."""
        if self._woken is None:
            self._owner._work.notify_all()
        else:
            assert self._loop is not None
            self._loop.call_soon_threadsafe(_set, self._woken)
            self._woken = None

    def stop(self) -> None:
        """End after the present call."""
        self._stopped = True
        self.wake()
        if self._task is not None and threading.current_thread() is not self.thread:
            assert self._loop is not None
            self._loop.call_soon_threadsafe(self._loop.call_later, CANCEL_AFTER_S, self._cancel)

    # -- on its own thread --

    def _run(self) -> None:
        if self._previous is not None:
            self._previous.join(OVERLAP_WAIT_S)
            self._previous = None
        try:
            with routed_output():
                while (item := self._next()) is not None:
                    self._owner._tell_full()
                    self._call(*item)
                    del item  # or it would be kept until the next one comes
                self._close()
        finally:
            with self._owner._lock:
                self.ended = True
                self.busy = False
                self._owner._rest.notify_all()

    def _next(self) -> tuple[Handler, Message[Any]] | None:
        """The next message, once there is one; None when it is time to stop."""
        owner = self._owner
        while True:
            with owner._lock:
                self.busy = False
                if self._stopped:
                    return None
                if (item := owner._backlog.take()) is not None:
                    self.busy = True
                    return item
                owner._rest.notify_all()
                if self._loop is None or self._loop.is_closed():
                    owner._work.wait()
                    continue
                self._woken = woken = self._loop.create_future()
            self._run_loop(self._loop, woken)

    def _call(self, handler: Handler, message: Message[Any]) -> None:
        name = _name_of(handler)
        given: Any = message
        with self._owner.log.capture(name):
            try:
                given = to_model(message)
                result = handler(given)
                error = self._await(result) if inspect.isawaitable(result) else None
            # Whatever it is: a handler may not end the thread, not even by SystemExit.
            except BaseException as raised:
                error = raised
        if error is None or (self._stopped and isinstance(error, asyncio.CancelledError)):
            return
        self._owner._note(name, error, given)

    def _await(self, awaitable: Awaitable[Any]) -> BaseException | None:
        loop = self._open_loop()
        with self._owner._lock:
            self._loop = loop
            self._task = task = loop.create_task(_outcome(awaitable))
            if self._stopped:  # in the middle of the call, before there was a task to cancel
                loop.call_later(CANCEL_AFTER_S, self._cancel)
        try:
            self._run_loop(loop, task)
        finally:
            with self._owner._lock:
                self._task = None
        return task.result()

    def _open_loop(self) -> asyncio.AbstractEventLoop:
        loop = self._runner.get_loop()
        if loop.is_closed():  # by a handler; it is this thread's current one, so any can
            self._runner = asyncio.Runner()
            loop = self._runner.get_loop()
        loop.set_exception_handler(self._note_loop_error)
        return loop

    def _run_loop(self, loop: asyncio.AbstractEventLoop, until: asyncio.Future[Any]) -> None:
        while not until.done():
            try:
                loop.run_until_complete(until)
            except BaseException as error:
                # Unless it is how `until` ended: a task that a handler started tried to end
                # the whole program, or somebody stopped the loop.
                if not until.done():
                    self._owner._note(_SOME_TASK, error, None)

    def _close(self) -> None:
        """Cancel the tasks that handlers left, and wait for their end."""
        if self._loop is None or self._loop.is_closed():
            return
        try:
            self._runner.close()
        except BaseException as error:  # there is nobody to raise it to
            self._owner._note(_SOME_TASK, error, None)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _note_loop_error(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Keep what a task raised that nobody waits for."""
        error = context.get("exception") or RuntimeError(context.get("message"))
        self._owner._note(_SOME_TASK, error, None)


_SOME_TASK = "a task of a handler"


async def _outcome(awaitable: Awaitable[Any]) -> BaseException | None:
    """What it raised; as a result, because asyncio lets some exceptions through its loop."""
    try:
        await awaitable
    except BaseException as error:
        return error
    return None


def _set(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)


def _name_of(handler: object) -> str:
    """What to call a handler; for objects, the name of their class."""
    for each in (handler, getattr(handler, "func", None), type(handler)):
        name = getattr(each, "__qualname__", None)
        if isinstance(name, str):
            return name
    return "handler"


def _cut_own_frames(error: BaseException) -> None:
    """Let the traceback begin in the handler's code; ours says nothing and holds our objects."""
    first = error.__traceback__
    while first is not None and first.tb_frame.f_code.co_filename == __file__:
        first = first.tb_next
    error.__traceback__ = first


def _release_frames(error: BaseException | None) -> None:
    """Remove the tracebacks of an exception and of those that led to it."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        each.__traceback__ = None
        waiting += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions


def _summary(error: BaseException) -> str:
    """The line of a traceback that says what was raised."""
    name = type(error).__name__
    lines = "".join(traceback.format_exception_only(error)).splitlines()
    return next((line for line in lines if name in line), name)


class _Repeats:
    """Lets one of a kind through each second and counts the others."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kinds: dict[Hashable, tuple[float, int]] = {}

    def admit(self, kind: Hashable) -> int | None:
        """How many were held back since the last one was let through; None to hold this back."""
        now = self._clock.monotonic()
        since, held = self._kinds.get(kind, (-math.inf, 0))
        if now - since < REPEAT_S:
            self._kinds[kind] = (since, held + 1)
            return None
        if len(self._kinds) >= ERRORS_KEPT:
            self._kinds.clear()
        self._kinds[kind] = (now, 0)
        return held
