"""When a connection is made again, and when that is no use any more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from alpaca_nb.clock import Clock
from alpaca_nb.errors import (
    ConnectError,
    ConnectionLostError,
    ProtocolError,
    ServerError,
    StreamError,
)

PATIENCE_S = 120.0
"""How long a taken place (406) or throttling (429) is waited out."""


@dataclass(slots=True)
class ReconnectPolicy:
    """How a lost connection is made again: exponential backoff with full jitter."""

    max_attempts: int = 10
    delay_s: float = 1.0
    max_delay_s: float = 60.0

    def delays(self, uniform: Callable[[float, float], float]) -> Iterator[float]:
        """The waits before each attempt; ends when the attempts are used up.

        Reads the settings anew for each, so that a change counts at once.
        """
        attempt = 0
        while attempt < self.max_attempts:
            # Capped before it is raised: 2 ** 2000 is no float.
            ceiling = min(self.max_delay_s, self.delay_s * 2.0 ** min(attempt, 60))
            yield uniform(0.0, ceiling)
            attempt += 1


class Patience:
    """Waits that grow from 0.5 s to 5 s and end after two minutes; all 406 and 429 share it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """Begin anew: what was waited for has come."""
        self.ends_s: float | None = None
        self._waits = 0

    def next_wait(self) -> float | None:
        """The next wait, or None when the patience is at its end."""
        now = self._clock.monotonic()
        if self.ends_s is None:
            self.ends_s = now + PATIENCE_S
        if now >= self.ends_s:
            return None
        self._waits += 1
        return min(0.5 * self._waits, 5.0, self.ends_s - now)


def is_throttled(failure: StreamError) -> bool:
    """Whether a server refused the handshake for there having been too many."""
    return isinstance(failure, ConnectError) and failure.status == 429


def is_worth_a_retry(failure: StreamError) -> bool:
    """Whether a new connection may fare better than the one that ended so."""
    if isinstance(failure, ConnectError):
        return failure.status is None or failure.status >= 500 or failure.status == 429
    return isinstance(failure, ConnectionLostError | ProtocolError | ServerError)
