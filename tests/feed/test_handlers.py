"""Callbacks in order, isolated, bounded and counted."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from alpaca_nb.errors import BadInputError
from alpaca_nb.feed.handlers import HandlerThread, check_handler
from alpaca_nb.feed.models import QuoteData
from alpaca_nb.wire.messages import Quote


def quotes(*prices: float) -> list[Quote[int]]:
    return [Quote[int](symbol="A", bid_price=p, ask_price=p, timestamp=0) for p in prices]


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
