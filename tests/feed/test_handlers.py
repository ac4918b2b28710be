"""Callbacks in order, isolated, bounded and counted."""

from __future__ import annotations

import asyncio
import functools
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from alpaca_nb.clock import ManualClock
from alpaca_nb.errors import BadInputError
from alpaca_nb.feed import handlers as module
from alpaca_nb.feed.handlers import (
    ERRORS_KEPT,
    FRAMES_KEPT,
    Counts,
    HandlerThread,
    check_handler,
)
from alpaca_nb.feed.models import QuoteData
from alpaca_nb.wire.messages import Quote


def quotes(*prices: float, symbol: str = "A") -> list[Quote[int]]:
    return [Quote[int](symbol=symbol, bid_price=p, ask_price=p, timestamp=0) for p in prices]


class Gate:
    """A handler that notes what it gets, and waits at a gate with each."""

    def __init__(self) -> None:
        self.entered, self.gate = threading.Event(), threading.Event()
        self.seen: list[float] = []

    def __call__(self, quote: QuoteData) -> None:
        self.entered.set()
        assert self.gate.wait(5)
        self.seen.append(quote.bid_price)


@pytest.fixture(name="make")
def make_fixture() -> Iterator[Callable[..., HandlerThread]]:
    """Makes handlers' threads that are stopped after the test."""
    made: list[HandlerThread] = []

    def make(**options: Any) -> HandlerThread:
        made.append(HandlerThread(**options))
        return made[-1]

    yield make
    for each in made:
        each.stop()


def test_messages_come_in_order_as_models_on_another_thread() -> None:
    """Handlers get the guide's models, one by one, and never on the caller's thread."""
    handlers = HandlerThread()
    seen: list[Any] = []
    threads: set[int] = set()

    def handler(quote: QuoteData) -> None:
        seen.append(quote)
        threads.add(threading.get_ident())

    handlers.push(handler, quotes(1, 2))
    handlers.push(handler, quotes(3))
    assert handlers.drain(5)
    assert [quote.bid_price for quote in seen] == [1, 2, 3]
    assert all(isinstance(quote, QuoteData) for quote in seen)
    assert threading.get_ident() not in threads
    handlers.stop()


def test_an_exception_costs_nothing_but_itself() -> None:
    """What a handler raises is kept with its message; the next message still comes."""
    handlers = HandlerThread()
    seen: list[float] = []

    def handler(quote: QuoteData) -> None:
        if quote.bid_price == 2:
            raise SystemExit("enough")
        seen.append(quote.bid_price)

    handlers.push(handler, quotes(1, 2, 3))
    assert handlers.drain(5)
    assert seen == [1, 3]
    (error,) = handlers.errors
    assert isinstance(error.exception, SystemExit)
    assert error.exception.__traceback__ is not None
    assert "handler" in error.handler
    handlers.stop()


def test_coroutine_handlers_are_awaited() -> None:
    """A handler may be a coroutine function."""
    handlers = HandlerThread()
    seen: list[float] = []

    async def handler(quote: QuoteData) -> None:
        seen.append(quote.bid_price)

    handlers.push(handler, quotes(1, 2))
    assert handlers.drain(5)
    assert seen == [1, 2]
    handlers.stop()


def test_a_slow_handler_loses_the_oldest_and_they_are_counted() -> None:
    """The queue is bounded; what is dropped is counted to the message."""
    handlers = HandlerThread(limit=10)
    gate, entered = threading.Event(), threading.Event()
    seen: list[float] = []

    def handler(quote: QuoteData) -> None:
        entered.set()
        gate.wait(5)
        seen.append(quote.bid_price)

    handlers.push(handler, quotes(0))
    assert entered.wait(5)
    handlers.push(handler, quotes(*range(1, 8)))
    handlers.push(handler, quotes(*range(8, 26)))
    assert handlers.dropped == 15
    gate.set()
    assert handlers.drain(5)
    assert seen == [0, *range(16, 26)]
    handlers.stop()


def test_stop_forgets_what_waits_and_push_starts_again() -> None:
    """Stopping drops what is queued; the thread comes back with the next message."""
    handlers = HandlerThread()
    gate, entered = threading.Event(), threading.Event()
    seen: list[float] = []

    def handler(quote: QuoteData) -> None:
        entered.set()
        gate.wait(5)
        seen.append(quote.bid_price)

    handlers.push(handler, quotes(1, 2, 3))
    assert entered.wait(5)
    handlers.stop()
    handlers.push(handler, quotes(4))
    gate.set()
    assert handlers.drain(5)
    assert seen == [1, 4]
    handlers.stop()
    handlers.stop()


@pytest.mark.parametrize("bad", [None, 5, "print"])
def test_a_handler_must_be_callable(bad: object) -> None:
    """The sentence says what a handler is, and what to use without one."""
    with pytest.raises(BadInputError, match=r"stream\.frame"):
        check_handler(bad)


def test_a_handler_that_could_never_work_is_refused_at_once() -> None:
    """A wrong number of parameters, or a yield, would show only when a message comes."""

    def none() -> None: ...

    def two(quote: Any, more: Any, *, key: str = "hidden") -> None: ...

    def yields(quote: Any) -> Any:
        yield quote

    async def yields_too(quote: Any) -> Any:
        yield quote

    class Yielding:
        def __call__(self, quote: Any) -> Any:
            yield quote

    for bad in (none, two):
        with pytest.raises(BadInputError, match="cannot be called with one message") as caught:
            check_handler(bad)
        assert "hidden" not in str(caught.value)
    for bad in (yields, yields_too, Yielding(), functools.partial(yields)):
        with pytest.raises(BadInputError, match="yield"):
            check_handler(bad)


@pytest.mark.parametrize(
    "good", [print, [].append, functools.partial(print, "quote"), lambda *_: 1, max, int]
)
def test_whatever_takes_one_message_is_a_handler(good: Any) -> None:
    """Functions, methods, built-in ones and partial ones."""
    assert check_handler(good) is good


# -- policies and counts -------------------------------------------------------------------


def test_each_message_is_accounted_for_while_a_handler_hangs(make: Any) -> None:
    """What was pushed was handled, dropped, or waits, at any moment; only the limit waits."""
    handlers, gate = make(limit=10), Gate()
    handlers.push(gate, quotes(0))
    assert gate.entered.wait(5)
    for i in range(1, 501):
        handlers.push(gate, quotes(*[i] * 10))
        counts = handlers.counts
        assert counts.pushed == 1 + 10 * i == counts.handled + counts.dropped + counts.waiting
    assert handlers.counts == Counts(pushed=5001, handled=1, dropped=4990, waiting=10)
    gate.gate.set()
    assert handlers.drain(5)
    assert handlers.counts == Counts(pushed=5001, handled=11, dropped=4990)
    assert gate.seen == [0, *[500] * 10]


class Symbol(str):
    """A symbol that counts how many of its kind there are."""

    alive = 0

    def __new__(cls) -> Symbol:
        cls.alive += 1
        return super().__new__(cls, "A")

    def __del__(self) -> None:
        type(self).alive -= 1


@pytest.mark.parametrize("policy", ["drop_oldest", "latest"])
def test_memory_does_not_grow_behind_a_slow_handler(make: Any, policy: str) -> None:
    """No more message objects are alive than may wait, however many were pushed."""
    handlers, gate = make(policy=policy, limit=100), Gate()
    handlers.push(gate, quotes(0))
    assert gate.entered.wait(5)
    for _ in range(300):
        handlers.push(gate, [quotes(1, symbol=Symbol())[0] for _ in range(70)])
        assert Symbol.alive <= 100
    handlers.stop(wait_s=0)
    assert Symbol.alive == 0
    assert handlers.counts == Counts(pushed=21_001, handled=1, dropped=21_000)
    gate.gate.set()


def test_a_handler_may_have_a_policy_of_its_own(make: Any) -> None:
    """Its queue is apart from the shared one, and still all come in order."""
    handlers, gate = make(), Gate()
    seen: list[tuple[str, float]] = []

    def patient(quote: QuoteData) -> None:
        seen.append(("patient", quote.bid_price))

    def hasty(quote: QuoteData) -> None:
        seen.append(("hasty", quote.bid_price))

    own = handlers.make_queue(policy="latest")
    short = handlers.make_queue(limit=1)
    handlers.push(gate, quotes(0))
    assert gate.entered.wait(5)
    for price in (1, 2, 3):
        handlers.push(hasty, quotes(price), own)
        handlers.push(patient, quotes(price))
    handlers.push(hasty, quotes(4, 5), short)
    gate.gate.set()
    assert handlers.drain(5)
    assert seen == [("hasty", 3), *(("patient", price) for price in (1, 2, 3)), ("hasty", 5)]
    assert handlers.dropped == 3


def test_block_asks_the_reader_to_pause_and_to_go_on(make: Any) -> None:
    """Nothing is dropped; pausing is asked for by push, going on from the handlers' thread."""
    told: list[tuple[bool, bool]] = []
    here = threading.get_ident()
    handlers = make(
        policy="block",
        limit=4,
        on_full=lambda full: told.append((full, threading.get_ident() == here)),
    )
    gate = Gate()
    handlers.push(gate, quotes(0))
    assert gate.entered.wait(5)
    handlers.push(gate, quotes(1, 2, 3, 4))
    assert (handlers.full, told) == (False, [])
    handlers.push(gate, quotes(5))
    assert (handlers.full, told) == (True, [(True, True)])
    handlers.push(gate, quotes(6, 7))
    gate.gate.set()
    assert handlers.drain(5)
    assert told == [(True, True), (False, False)]
    assert gate.seen == list(range(8))
    assert handlers.dropped == 0


def test_stopping_lets_the_reader_go_on(make: Any) -> None:
    """A reader that was asked to pause is not left behind."""
    told: list[bool] = []
    handlers, gate = make(policy="block", limit=1, on_full=told.append), Gate()
    handlers.push(gate, quotes(1, 2, 3, 4))
    assert gate.entered.wait(5)
    handlers.stop(wait_s=0)
    assert told == [True, False]
    gate.gate.set()


def test_many_threads_may_push(make: Any) -> None:
    """Counts stay exact, and nothing stays behind, whoever pushes while handlers run."""
    told: list[bool] = []
    handlers = make(policy="block", limit=50, on_full=told.append)
    own = handlers.make_queue("drop_oldest", 20)
    calls = 0

    def handler(_: QuoteData) -> None:
        nonlocal calls
        calls += 1

    def push() -> None:
        for i in range(400):
            handlers.push(handler, quotes(*range(i % 7)), own if i % 2 else None)

    threads = [threading.Thread(target=push) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert handlers.drain(10)
    counts = handlers.counts
    assert counts.pushed == 4 * sum(i % 7 for i in range(400)) == counts.handled + counts.dropped
    assert counts.handled == calls
    assert told == [True, False] * (len(told) // 2)


# -- coroutines ----------------------------------------------------------------------------


def test_whatever_returns_a_coroutine_is_awaited(make: Any) -> None:
    """Objects with an async __call__, partial ones and lambdas are as good as functions."""
    handlers = make()
    seen: list[tuple[str, float]] = []

    async def function(name: str, quote: QuoteData) -> None:
        await asyncio.sleep(0)
        seen.append((name, quote.bid_price))

    class Object:
        async def __call__(self, quote: QuoteData) -> None:
            await function("object", quote)

    class Awaitable:
        def __await__(self) -> Any:
            yield from asyncio.sleep(0).__await__()
            seen.append(("awaitable", 0))

    handlers.push(functools.partial(function, "partial"), quotes(1, 2))
    handlers.push(Object(), quotes(3))
    handlers.push(lambda quote: function("lambda", quote), quotes(4))
    handlers.push(lambda _: Awaitable(), quotes(5))
    assert handlers.drain(5)
    assert seen == [("partial", 1), ("partial", 2), ("object", 3), ("lambda", 4), ("awaitable", 0)]
    assert not handlers.errors


def test_a_plain_handler_may_run_a_loop_of_its_own(make: Any) -> None:
    """asyncio.run works in a handler, also after a coroutine handler; even closing ours does."""
    handlers = make()
    seen: list[float] = []

    async def note(quote: QuoteData) -> None:
        seen.append(quote.bid_price)

    def closes(_: QuoteData) -> None:
        asyncio.get_event_loop().close()

    handlers.push(note, quotes(1))
    handlers.push(lambda quote: asyncio.run(note(quote)), quotes(2))
    handlers.push(note, quotes(3))
    assert handlers.drain(5)

    async def install(_: QuoteData) -> None:
        asyncio.set_event_loop(asyncio.get_running_loop())

    handlers.push(install, quotes(0))
    handlers.push(closes, quotes(0))
    handlers.push(note, quotes(4))
    assert handlers.drain(5)
    handlers.push(note, quotes(5))
    assert handlers.drain(5)
    assert seen == [1, 2, 3, 4, 5]
    assert not handlers.errors


def test_tasks_that_a_handler_started_go_on_without_messages(make: Any) -> None:
    """The handlers' loop runs while it waits; new messages still come at once."""
    handlers = make()
    tasks: list[asyncio.Task[None]] = []
    ended, proceed = threading.Event(), asyncio.Event()
    seen: list[float] = []

    async def background() -> None:
        for _ in range(20):
            await asyncio.sleep(0.001)
        await proceed.wait()
        ended.set()

    async def handler(quote: QuoteData) -> None:
        seen.append(quote.bid_price)
        if len(seen) == 1:
            tasks.append(asyncio.create_task(background()))
        else:
            proceed.set()

    handlers.push(handler, quotes(1))
    assert handlers.drain(5)
    handlers.push(handler, quotes(2))
    assert ended.wait(5)
    assert seen == [1, 2]


# -- what handlers raise -------------------------------------------------------------------

ENDS = [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError, StopIteration]


@pytest.mark.parametrize("kind", ENDS)
def test_nothing_a_handler_raises_ends_the_thread(make: Any, kind: type[BaseException]) -> None:
    """Plain or coroutine, at once or after an await: the next message comes."""
    handlers = make()
    seen: list[float] = []

    def plain(quote: QuoteData) -> None:
        seen.append(quote.bid_price)
        raise kind

    async def at_once(quote: QuoteData) -> None:
        plain(quote)

    async def later(quote: QuoteData) -> None:
        await asyncio.sleep(0)
        plain(quote)

    for handler in (plain, at_once, later):
        handlers.push(handler, quotes(1, 2))
    assert handlers.drain(5)
    assert seen == [1, 2] * 3
    assert handlers.counts == Counts(pushed=6, handled=6, failed=6)


def test_a_task_that_fails_is_told_and_harms_nobody(make: Any) -> None:
    """What a task of a handler raises is kept, also when it tries to end the program."""
    handlers = make()
    seen: list[float] = []
    tasks = []

    async def quits() -> None:
        raise SystemExit("from a task")

    async def fails() -> None:
        raise ValueError("from a task")

    async def handler(quote: QuoteData) -> None:
        tasks.append(asyncio.create_task(quits()))
        asyncio.create_task(fails())  # noqa: RUF006 - nobody waits for it, that is the point
        await asyncio.sleep(0.001)
        seen.append(quote.bid_price)
        with pytest.raises(SystemExit):
            await tasks.pop()

    handlers.push(handler, quotes(1, 2))
    assert handlers.drain(5)
    assert seen == [1, 2]
    assert {error.handler for error in handlers.errors} == {"a task of a handler"}
    assert {str(error.exception) for error in handlers.errors} == {"from a task"}
    assert handlers.counts.failed == 0


def test_a_message_that_cannot_be_converted_is_a_failure(make: Any) -> None:
    """A time that is none costs that message only."""
    handlers = make()
    seen: list[Any] = []
    bad = Quote(symbol="A", bid_price=1, ask_price=1, timestamp="yesterday")
    handlers.push(seen.append, [bad, *quotes(2)])
    assert handlers.drain(5)
    assert [quote.bid_price for quote in seen] == [2]
    (error,) = handlers.errors
    assert error.message is bad
    assert handlers.counts == Counts(pushed=2, handled=2, failed=1)


def test_the_traceback_is_text_and_begins_in_the_handler(make: Any) -> None:
    """Text that stays, for plain and coroutine handlers; our own frames are not in it."""
    handlers = make()

    def plain(quote: QuoteData) -> None:
        raise ValueError("bad quote") from KeyError("why")

    async def coroutine(quote: QuoteData) -> None:
        await asyncio.sleep(0)
        plain(quote)

    handlers.push(plain, quotes(1))
    handlers.push(coroutine, quotes(1))
    handlers.push(lambda: None, quotes(1))  # type: ignore[arg-type]
    assert handlers.drain(5)
    first, second, third = handlers.errors
    assert first.traceback.endswith("ValueError: bad quote\n")
    assert "KeyError: 'why'" in first.traceback
    assert 'in plain\n    raise ValueError("bad quote")' in first.traceback
    assert "in coroutine" in second.traceback
    assert third.traceback.startswith("TypeError: ")
    assert all("feed/handlers.py" not in error.traceback for error in handlers.errors)
    assert isinstance(first.message, QuoteData)
    assert "Traceback" not in repr(first)


class Big:
    """Something that a handler's frame holds."""


def test_only_the_newest_errors_keep_what_their_frames_hold(make: Any) -> None:
    """The text of an old error stays; its variables, and those of its causes, are let go."""
    handlers = make()
    held: list[weakref.ref[Big]] = []

    def handler(quote: QuoteData) -> None:
        big = Big()
        held.append(weakref.ref(big))
        try:
            raise KeyError("cause")
        except KeyError:
            raise ExceptionGroup("group", [ValueError(quote.bid_price)]) from None

    handlers.push(handler, quotes(*range(150)))
    assert handlers.drain(5)
    assert len(handlers.errors) == ERRORS_KEPT
    assert sum(each() is not None for each in held) == FRAMES_KEPT
    assert all(each() is not None for each in held[-FRAMES_KEPT:])
    assert all("ValueError" in error.traceback for error in handlers.errors)
    assert handlers.errors[0].exception.__traceback__ is None
    assert handlers.errors[-1].exception.__traceback__ is not None


def test_the_log_tells_an_error_once_a_second(make: Any) -> None:
    """A handler that fails at every message does not wash everything else out of the log."""
    clock = ManualClock()
    handlers = make(clock=clock)

    def handler(quote: QuoteData) -> None:
        if quote.bid_price == 7:
            raise KeyError("another kind")
        raise ValueError("first line\nsecond line")

    handlers.push(handler, quotes(1, 2, 7, 3))
    assert handlers.drain(5)
    asyncio.run(clock.advance(1))
    handlers.push(handler, quotes(4, 5))
    assert handlers.drain(5)
    assert [line.text for line in handlers.log.lines] == [
        "raised ValueError: first line",
        "raised KeyError: 'another kind'",
        "raised ValueError: first line (and 2 more like it)",
    ]
    assert {line.level for line in handlers.log.lines} == {"error"}
    assert "handler" in handlers.log.lines[0].source
    assert handlers.counts.failed == 6


def test_names_of_handlers(make: Any) -> None:
    """A function has its name, a partial one that of its function, an object its class."""
    handlers = make()

    def fails(_: QuoteData) -> None:
        raise ValueError

    class Fails:
        def __call__(self, quote: QuoteData) -> None:
            fails(quote)

    for handler in (fails, functools.partial(fails), Fails()):
        handlers.push(handler, quotes(1))
    assert handlers.drain(5)
    names = [error.handler.rpartition(".")[2] for error in handlers.errors]
    assert names == ["fails", "fails", "Fails"]


# -- stopping ------------------------------------------------------------------------------


def threads_of(handlers: HandlerThread) -> list[threading.Thread]:
    """Collect, through a handler, the thread that runs it."""
    found: list[threading.Thread] = []
    handlers.push(lambda _: found.append(threading.current_thread()), quotes(0))
    assert handlers.drain(5)
    return found


def test_stop_ends_the_thread(make: Any) -> None:
    """Idle, in plain code or in its loop, the thread is gone when stop returns."""
    handlers = make()
    (thread,) = threads_of(handlers)
    handlers.stop(wait_s=5)
    assert not thread.is_alive()

    async def coroutine(_: QuoteData) -> None: ...

    handlers.push(coroutine, quotes(1))
    (thread,) = threads_of(handlers)
    handlers.stop(wait_s=5)
    assert not thread.is_alive()


def test_stop_cancels_a_handler_that_awaits_for_ever(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may clean up; that it was cancelled is no failure. Its tasks end with it."""
    monkeypatch.setattr(module, "CANCEL_AFTER_S", 0.0)
    handlers = make()
    entered = threading.Event()
    ended: list[str] = []
    threads: list[threading.Thread] = []

    async def wait(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    async def handler(_: QuoteData) -> None:
        threads.append(threading.current_thread())
        task = asyncio.create_task(wait("task"))
        await asyncio.sleep(0)
        entered.set()
        await wait("handler")
        await task

    handlers.push(handler, quotes(1, 2, 3))
    assert entered.wait(5)
    handlers.stop(wait_s=5)
    assert not threads[0].is_alive()
    assert ended == ["handler", "task"]
    assert not handlers.errors
    assert handlers.counts == Counts(pushed=3, handled=1, dropped=2)


def test_a_handler_that_hangs_is_left_behind(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop returns, and the next message runs on another thread; the old one ends some day."""
    monkeypatch.setattr(module, "OVERLAP_WAIT_S", 0.0)
    handlers, gate = make(), Gate()
    handlers.push(gate, quotes(1, 2))
    assert gate.entered.wait(5)
    handlers.stop(wait_s=0)
    (thread,) = threads_of(handlers)
    assert thread.is_alive()
    assert gate.seen == []
    gate.gate.set()
    assert handlers.drain(5)
    assert handlers.counts == Counts(pushed=3, handled=2, dropped=1)


def test_calls_do_not_overlap_when_the_first_only_takes_its_time(make: Any) -> None:
    """After stop and a new message the call that was under way ends first."""
    handlers, gate = make(), Gate()
    seen: list[int] = []
    handlers.push(gate, quotes(1))
    assert gate.entered.wait(5)
    handlers.stop(wait_s=0)
    handlers.push(lambda _: seen.append(len(gate.seen)), quotes(2))
    gate.gate.set()
    assert handlers.drain(5)
    assert seen == [1]


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_a_handler_may_stop_its_own_thread_and_go_on(make: Any, kind: str) -> None:
    """Disconnecting in a handler neither waits for itself nor cancels itself."""
    handlers = make()
    done = threading.Event()
    threads: list[threading.Thread] = []

    def plain(quote: QuoteData) -> None:
        threads.append(threading.current_thread())
        handlers.stop()
        handlers.stop(wait_s=60)
        assert handlers.counts.waiting == 0
        if quote.bid_price == 1:
            handlers.push(handler, quotes(2))
        else:
            done.set()

    async def coroutine(quote: QuoteData) -> None:
        plain(quote)
        await asyncio.sleep(0.001)
        seen.append(quote.bid_price)

    seen: list[float] = []
    handler = plain if kind == "plain" else coroutine
    handlers.push(handler, quotes(1, 99, 99))
    assert done.wait(5)
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    assert len(threads) == 2
    assert seen == ([] if kind == "plain" else [1, 2])
    assert not handlers.errors
