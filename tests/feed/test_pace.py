"""The server's limit and the waits between tries, without a request."""

from __future__ import annotations

import pytest

from alpaca_nb.clock import ManualClock
from alpaca_nb.feed.pace import LONGEST_WAIT_S, Budget, Waits

SERVER_S = 1_700_000_000.0
"""Far from the test clock's 2026: what counts is the server's own time."""


def headers(left: object, resets_in_s: float = 30) -> dict[str, str]:
    return {
        "x-ratelimit-remaining": str(left),
        "x-ratelimit-reset": str(round(SERVER_S + resets_in_s)),
    }


@pytest.fixture
def budget(clock: ManualClock) -> Budget:
    return Budget(clock)


async def test_nothing_left_until_the_limit_is_renewed(budget: Budget, clock: ManualClock) -> None:
    """Without requests left the next one waits for the reset, counted on the server's clock."""
    assert (budget.remaining, budget.wait_s) == (None, 0)
    budget.note(headers(1), SERVER_S)
    assert (budget.remaining, budget.wait_s) == (1, 0)
    budget.begin()
    assert (budget.remaining, budget.wait_s) == (0, 30)
    await clock.advance(29)
    assert budget.wait_s == 1
    await clock.advance(1)
    assert (budget.remaining, budget.wait_s) == (None, 0)


def test_requests_on_their_way_count(budget: Budget) -> None:
    """What the server has left is shared with the requests that it may not have seen."""
    budget.begin()
    budget.begin()
    budget.note(headers(5), SERVER_S)
    assert budget.remaining == 4
    budget.end()
    budget.note(headers(4), SERVER_S)
    assert budget.remaining == 4
    budget.end()


@pytest.mark.parametrize("odd", ["", "-1", "x", "1.5", "٣"])
def test_odd_headers_limit_nothing(budget: Budget, odd: str) -> None:
    """What is no number is not taken for one."""
    budget.note(headers(odd), SERVER_S)
    budget.note({"x-ratelimit-remaining": "0", "x-ratelimit-reset": odd}, SERVER_S)
    budget.note({"x-ratelimit-remaining": "0"}, SERVER_S)
    budget.note({}, SERVER_S)
    assert budget.wait_s == 0


@pytest.mark.parametrize(("resets_in_s", "wait_s"), [(1e6, LONGEST_WAIT_S), (-1e6, 0)])
def test_an_absurd_reset_is_bounded(budget: Budget, resets_in_s: float, wait_s: float) -> None:
    """A reset in milliseconds, or in the past, cannot stop us for ever."""
    budget.note(headers(0, resets_in_s), SERVER_S)
    assert budget.wait_s == wait_s


def test_waits_grow_and_end() -> None:
    """Three more tries after trouble, each wait up to twice the one before."""
    longest, shortest = Waits(lambda low, high: high), Waits(lambda low, high: low)
    assert [longest.after_trouble() for _ in range(4)] == [1, 2, 4, None]
    assert [shortest.after_trouble() for _ in range(4)] == [0.5, 1, 2, None]


def test_throttling_has_its_own_waits() -> None:
    """As long as the server says, else growing; four more tries, whatever troubles there were."""
    waits = Waits(lambda low, high: high)
    waits.after_trouble()
    told_s = (0, 30.0, 0, 0, 0)
    assert [waits.after_throttling(wait_s) for wait_s in told_s] == [1, 30, 4, 8, None]
