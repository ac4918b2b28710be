"""What waits for handlers: in order, bounded by a declared policy, counted to the message.

No thread, no lock and no clock: `feed.handlers` brings those.
"""

from __future__ import annotations

import heapq
import itertools
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from alpaca_nb.errors import BadInputError
from alpaca_nb.wire.messages import Message

Handler = Callable[[Any], Any]
"""Called with a QuoteData, TradeData or BarData; may be a coroutine function."""

Policy = Literal["drop_oldest", "latest", "block"]
"""What becomes of messages when handlers fall behind.

drop_oldest: the oldest that wait are dropped. latest: of each handler, kind of message and
symbol only the newest waits. block: nothing is dropped, and the socket is not read until
there is room again, which delays everything else on the connection and in the end makes
the server cut it.
"""

QUEUE_LIMIT = 100_000
"""Messages that may wait for handlers unless another limit is declared."""


def check_policy(policy: object) -> Policy:
    """Return the policy; raises BadInputError for any other value."""
    for known in get_args(Policy):
        if policy == known:
            return known  # type: ignore[no-any-return]
    raise BadInputError(
        f"There is no policy {policy!r} for handlers; choose 'drop_oldest', 'latest' or 'block'."
    )


def check_limit(limit: object) -> int:
    """Return the limit; raises BadInputError unless it is a whole number from 1 on."""
    if type(limit) is not int or limit < 1:
        raise BadInputError(
            f"The limit of messages that wait for handlers is a whole number from 1 on, "
            f"not {limit!r}."
        )
    return limit


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the messages for handlers; pushed = handled + dropped + waiting, always."""

    pushed: int = 0
    handled: int = 0
    """Given to a handler; the one it is busy with included."""
    failed: int = 0
    """Those of the handled ones at which it raised."""
    dropped: int = 0
    """Never seen by the handler: it fell behind, or was stopped first."""
    waiting: int = 0


class Queue(ABC):
    """What waits under one policy and limit; made by `Backlog.make_queue`."""

    def __init__(self, policy: Policy, limit: int) -> None:
        self.policy = policy
        self.limit = limit
        self.full = False
        """Whether the reader should pause; only ever with the policy "block"."""
        self.listed = False
        """Whether the backlog knows that something waits here."""

    @abstractmethod
    def __len__(self) -> int:
        """How many messages wait."""

    @property
    @abstractmethod
    def first(self) -> int:
        """The number of the push from which the next message is."""

    @abstractmethod
    def put(self, number: int, handler: Handler, messages: Sequence[Message[Any]]) -> int:
        """Let messages wait; returns how many were dropped for it."""

    @abstractmethod
    def take(self) -> tuple[Handler, Message[Any]]:
        """The next message with its handler."""

    @abstractmethod
    def clear(self) -> None:
        """Forget everything."""


class _InOrder(Queue):
    """Every message in the order it came; with "drop_oldest", no more than the limit."""

    def __init__(self, policy: Policy, limit: int) -> None:
        super().__init__(policy, limit)
        # A push is kept whole until its turn comes, so that it costs the reader one append
        # however many messages it has, and dropping costs nothing per message.
        self._parcels: deque[tuple[int, Handler, tuple[Message[Any], ...]]] = deque()
        self._opened: list[Message[Any]] = []
        """What is left of the parcel whose turn it is, last message first."""
        self._opened_number = 0
        self._opened_handler: Handler | None = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def first(self) -> int:
        return self._opened_number if self._opened else self._parcels[0][0]

    def put(self, number: int, handler: Handler, messages: Sequence[Message[Any]]) -> int:
        self._parcels.append((number, handler, tuple(messages)))
        self._count += len(messages)
        if self.policy == "block" or self._count <= self.limit:
            return 0
        return self._drop(self._count - self.limit)

    def take(self) -> tuple[Handler, Message[Any]]:
        if not self._opened:
            self._open()
        self._count -= 1
        assert self._opened_handler is not None
        return self._opened_handler, self._opened.pop()

    def clear(self) -> None:
        self._parcels.clear()
        self._opened.clear()
        self._opened_handler = None
        self._count = 0

    def _open(self) -> None:
        self._opened_number, self._opened_handler, messages = self._parcels.popleft()
        self._opened = list(reversed(messages))

    def _drop(self, surplus: int) -> int:
        left = surplus
        while left:
            if not self._opened:
                messages = self._parcels[0][2]
                if len(messages) <= left:
                    self._parcels.popleft()
                    left -= len(messages)
                    continue
                self._open()
            cut = min(left, len(self._opened))
            del self._opened[-cut:]
            left -= cut
        self._count -= surplus
        return surplus


class _Latest(Queue):
    """The newest message of each handler, kind and symbol, in the order their first ones came."""

    def __init__(self, policy: Policy, limit: int) -> None:
        super().__init__(policy, limit)
        # Ordered, not a plain dict: taking the first out of one again and again is quadratic.
        self._waiting: OrderedDict[
            tuple[int, type[Any], str], tuple[int, Handler, Message[Any]]
        ] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def first(self) -> int:
        return next(iter(self._waiting.values()))[0]

    def put(self, number: int, handler: Handler, messages: Sequence[Message[Any]]) -> int:
        waiting = self._waiting
        before = len(waiting)
        for message in messages:
            # By identity: a handler need not be hashable. What waits keeps it alive.
            key = (id(handler), type(message), message.symbol)
            older = waiting.get(key)
            waiting[key] = (number if older is None else older[0], handler, message)
        while len(waiting) > self.limit:
            waiting.popitem(last=False)
        return before + len(messages) - len(waiting)

    def take(self) -> tuple[Handler, Message[Any]]:
        _, (_, handler, message) = self._waiting.popitem(last=False)
        return handler, message

    def clear(self) -> None:
        self._waiting.clear()


class Backlog:
    """All queues of one handlers' thread, emptied in the order in which their messages came."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        # The queues in which something waits, by the number of their first push. Dropping
        # makes a queue's number grow behind our back; that is noticed when its turn comes.
        self._order: list[tuple[int, int, Queue]] = []
        self._full = 0
        self.pushed = 0
        self.handled = 0
        self.dropped = 0

    @property
    def waiting(self) -> int:
        """How many messages wait in all queues."""
        return sum(len(queue) for _, _, queue in self._order)

    @property
    def full(self) -> bool:
        """Whether more waits than a queue that drops nothing should hold."""
        return self._full > 0

    @staticmethod
    def make_queue(policy: Policy, limit: int) -> Queue:
        """A queue to push to; it is forgotten by itself when it is empty."""
        kind = _Latest if policy == "latest" else _InOrder
        return kind(policy, limit)

    def put(self, queue: Queue, handler: Handler, messages: Sequence[Message[Any]]) -> None:
        """Let messages wait in a queue."""
        if not messages:
            return
        number = next(self._numbers)
        self.pushed += len(messages)
        self.dropped += queue.put(number, handler, messages)
        if not queue.listed:
            queue.listed = True
            heapq.heappush(self._order, (queue.first, id(queue), queue))
        if queue.policy == "block" and not queue.full and len(queue) > queue.limit:
            queue.full = True
            self._full += 1

    def take(self) -> tuple[Handler, Message[Any]] | None:
        """The message that came first, with its handler; None when nothing waits."""
        while self._order:
            number, _, queue = self._order[0]
            if number != queue.first:
                heapq.heapreplace(self._order, (queue.first, id(queue), queue))
                continue
            item = queue.take()
            self.handled += 1
            if not queue:
                heapq.heappop(self._order)
                queue.listed = False
            if queue.full and len(queue) * 2 < queue.limit:
                queue.full = False
                self._full -= 1
            return item
        return None

    def clear(self) -> None:
        """Forget everything that waits; it counts as dropped."""
        self.dropped += self.waiting
        for _, _, queue in self._order:
            queue.clear()
            queue.listed = queue.full = False
        self._order.clear()
        self._full = 0
