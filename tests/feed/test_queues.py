"""What waits for handlers: order, policies, bounds and counts, without a thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpaca_nb.errors import BadInputError
from alpaca_nb.feed.queues import Backlog, Policy, Queue, check_limit, check_policy
from alpaca_nb.wire.messages import Message, Quote, Trade


def one(_: Any) -> None:
    """A handler."""


def two(_: Any) -> None:
    """Another handler."""


def quotes(*prices: float, symbol: str = "A") -> list[Message[int]]:
    return [Quote[int](symbol=symbol, bid_price=p, ask_price=p, timestamp=0) for p in prices]


def trade(price: float, symbol: str = "A") -> Trade[int]:
    return Trade[int](symbol=symbol, price=price, size=1, timestamp=0)


def price(message: Any) -> float:
    return message.bid_price if isinstance(message, Quote) else message.price


def take_all(backlog: Backlog) -> list[tuple[Callable[[Any], Any], float]]:
    """Everything that waits, as (handler, price)."""
    taken = []
    while (item := backlog.take()) is not None:
        taken.append((item[0], price(item[1])))
    return taken


def make(policy: Policy, limit: int) -> tuple[Backlog, Queue]:
    backlog = Backlog()
    return backlog, backlog.make_queue(policy, limit)


def test_messages_come_out_in_the_order_they_went_in() -> None:
    """Across handlers and across queues the order is that of the pushes."""
    backlog, shared = make("drop_oldest", 100)
    own = backlog.make_queue("latest", 100)
    backlog.put(shared, one, quotes(1, 2))
    backlog.put(own, two, quotes(3))
    backlog.put(shared, two, quotes(4))
    backlog.put(own, two, quotes(5, symbol="B"))
    assert take_all(backlog) == [(one, 1), (one, 2), (two, 3), (two, 4), (two, 5)]
    assert backlog.take() is None


def test_the_oldest_are_dropped_wherever_a_push_is_cut() -> None:
    """Whole pushes go, then the beginning of the next one, even if its turn has come."""
    backlog, queue = make("drop_oldest", 4)
    backlog.put(queue, one, quotes(1, 2, 3))
    assert backlog.take() is not None  # 1
    backlog.put(queue, one, quotes(4, 5, 6))
    assert backlog.dropped == 1  # 2
    backlog.put(queue, two, quotes(7))
    assert backlog.dropped == 2  # 3
    backlog.put(queue, two, quotes(8, 9))
    assert (backlog.dropped, backlog.waiting) == (4, 4)  # 4 and 5
    assert take_all(backlog) == [(one, 6), (two, 7), (two, 8), (two, 9)]


def test_a_push_larger_than_the_limit_keeps_its_end() -> None:
    """One enormous frame is bounded like many small ones."""
    backlog, queue = make("drop_oldest", 3)
    backlog.put(queue, one, quotes(0))
    backlog.put(queue, one, quotes(*range(1, 1001)))
    assert backlog.dropped == 998
    assert [p for _, p in take_all(backlog)] == [998, 999, 1000]


def test_latest_keeps_the_newest_of_each_kind_symbol_and_handler() -> None:
    """The replaced ones count as dropped; the turn is that of the first one."""
    backlog, queue = make("latest", 100)
    backlog.put(queue, one, [*quotes(1), *quotes(2, symbol="B")])
    backlog.put(queue, two, quotes(3))
    backlog.put(queue, one, [trade(4), *quotes(5, 6)])
    assert (backlog.dropped, backlog.waiting) == (2, 4)
    assert take_all(backlog) == [(one, 6), (one, 2), (two, 3), (one, 4)]
    backlog.put(queue, one, quotes(7))
    assert take_all(backlog) == [(one, 7)]


def test_latest_is_bounded_by_its_limit_too() -> None:
    """More symbols than the limit: the oldest of them are dropped."""
    backlog, queue = make("latest", 2)
    for i in range(5):
        backlog.put(queue, one, quotes(i, symbol=f"S{i}"))
    assert (backlog.dropped, backlog.waiting) == (3, 2)
    assert take_all(backlog) == [(one, 3), (one, 4)]


class Unhashable:
    """A handler that has no hash, as a dataclass with __eq__ has none."""

    __hash__ = None  # type: ignore[assignment]

    def __call__(self, message: Any) -> None: ...


def test_a_handler_need_not_be_hashable() -> None:
    """Two equal handlers are two handlers."""
    backlog, queue = make("latest", 10)
    for handler in (Unhashable(), Unhashable()):
        backlog.put(queue, handler, quotes(1, 2))
    assert (backlog.waiting, backlog.dropped) == (2, 2)


def test_block_drops_nothing_and_says_when_it_is_full() -> None:
    """Full from more than the limit on until less than half of it waits."""
    backlog, queue = make("block", 4)
    backlog.put(queue, one, quotes(1, 2, 3, 4))
    assert not backlog.full
    backlog.put(queue, one, quotes(5, 6))
    assert backlog.full
    for left in (5, 4, 3, 2):
        backlog.take()
        assert (backlog.waiting, backlog.full) == (left, True)
    backlog.take()
    assert not backlog.full
    assert backlog.dropped == 0
    assert take_all(backlog) == [(one, 6)]


def test_full_as_long_as_any_queue_is() -> None:
    """One queue with room does not hide that another has none."""
    backlog, first = make("block", 1)
    second = backlog.make_queue("block", 1)
    backlog.put(first, one, quotes(1, 2))
    backlog.put(second, one, quotes(3, 4))
    backlog.take()
    backlog.take()
    assert backlog.full
    backlog.take()
    backlog.take()
    assert not backlog.full


def test_forgetting_counts() -> None:
    """What is forgotten counts as dropped, and everything can be used again."""
    backlog, queue = make("block", 1)
    own = backlog.make_queue("latest", 5)
    backlog.put(queue, one, quotes(1, 2))
    backlog.put(own, one, quotes(3))
    backlog.take()
    backlog.clear()
    assert (backlog.waiting, backlog.dropped, backlog.handled, backlog.full) == (0, 2, 1, False)
    backlog.put(own, one, quotes(4))
    backlog.put(queue, two, quotes(5, 6))
    assert backlog.full
    assert take_all(backlog) == [(one, 4), (two, 5), (two, 6)]


def test_an_empty_push_is_none() -> None:
    """A push without messages leaves nothing that could be taken."""
    backlog, queue = make("drop_oldest", 1)
    backlog.put(queue, one, [])
    assert backlog.take() is None
    assert backlog.pushed == 0


POLICIES: list[Policy] = ["drop_oldest", "latest", "block"]


@given(
    st.lists(st.tuples(st.sampled_from(POLICIES), st.integers(1, 6)), min_size=1, max_size=3),
    st.lists(
        st.one_of(
            st.just("take"),
            st.sampled_from(["clear", "take", "take"]),
            st.tuples(st.integers(0, 2), st.integers(0, 8)),
        ),
        max_size=60,
    ),
)
def test_every_message_is_accounted_for(
    kinds: list[tuple[Policy, int]], steps: list[str | tuple[int, int]]
) -> None:
    """Whatever is pushed and taken in which order: counts add up, bounds hold, order holds."""
    backlog = Backlog()
    queues = [backlog.make_queue(policy, limit) for policy, limit in kinds]
    pushed = 0
    taken: dict[int, list[float]] = {}
    for step in steps:
        if step == "clear":
            backlog.clear()
        elif step == "take":
            if (item := backlog.take()) is not None:
                taken.setdefault(int(item[1].symbol), []).append(price(item[1]))
        elif isinstance(step, tuple):
            which = step[0] % len(queues)
            numbers = range(pushed, pushed + step[1])
            backlog.put(queues[which], one, quotes(*numbers, symbol=str(which)))
            pushed += step[1]
        assert backlog.pushed == pushed == backlog.handled + backlog.dropped + backlog.waiting
        for queue in queues:
            assert queue.policy == "block" or len(queue) <= queue.limit
    assert all(prices == sorted(prices) for prices in taken.values())
    while backlog.take() is not None:
        pass
    assert not backlog.full
    assert pushed == backlog.handled + backlog.dropped


def test_a_declared_policy_and_limit_are_checked() -> None:
    """The sentence names what there is."""
    assert [check_policy(policy) for policy in POLICIES] == POLICIES
    assert check_limit(1) == 1
    for bad in ("newest", None, [], 1):
        with pytest.raises(BadInputError, match="'drop_oldest', 'latest' or 'block'"):
            check_policy(bad)
    for bad in (0, -1, 1.5, True, None, "7"):
        with pytest.raises(BadInputError, match="from 1 on"):
            check_limit(bad)
