"""When the next request may go out: the server's limit, and waits between tries; no IO."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from alpaca_nb.clock import Clock

LONGEST_WAIT_S: Final = 65.0
"""Limits are counted by the minute, so that a longer wait can only be a mistake."""

_RETRIES: Final = 3
_THROTTLED_RETRIES: Final = 4
_NOTHING_S: Final = 1e-6
"""Less than this is no wait: clocks round."""


class Budget:
    """How many requests one host still takes in this minute, by its own account."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._left: int | None = None
        self._refilled_s = 0.0
        self._in_flight = 0

    @property
    def remaining(self) -> int | None:
        """Requests that may still be sent now; None where the server did not say."""
        return self._left if self._left is None or self._clock_s < self._refilled_s else None

    @property
    def wait_s(self) -> float:
        """Seconds until the next request may go out; 0 for at once."""
        wait_s = self._refilled_s - self._clock_s
        return wait_s if self.remaining == 0 and wait_s > _NOTHING_S else 0.0

    def begin(self) -> None:
        """Count a request that goes out."""
        self._in_flight += 1
        if self._left:
            self._left -= 1

    def end(self) -> None:
        """Count it as answered, or lost; whatever came of it."""
        self._in_flight -= 1

    def note(self, headers: Mapping[str, str], server_s: float) -> None:
        """Take the limit from an answer's headers; `server_s` is the server's own time (Unix).

        Times are compared on the server's clock, so that ours may be wrong.
        """
        left = _number(headers.get("x-ratelimit-remaining"))
        resets_s = _number(headers.get("x-ratelimit-reset"))
        if left is None or resets_s is None:
            return
        # The server may not have seen the others that are on their way.
        self._left = max(0, left - max(0, self._in_flight - 1))
        self._refilled_s = self._clock_s + min(max(0.0, resets_s - server_s), LONGEST_WAIT_S)

    def exhaust(self, wait_s: float) -> None:
        """Let nothing out for so long: the server said that it was too much."""
        self._left = 0
        self._refilled_s = self._clock_s + min(wait_s, LONGEST_WAIT_S)

    @property
    def _clock_s(self) -> float:
        return self._clock.monotonic()


class Waits:
    """The waits between the tries of one request: a few, each longer than the one before."""

    def __init__(self, uniform: Callable[[float, float], float]) -> None:
        self._uniform = uniform
        self._troubles = self._throttlings = 0

    def after_trouble(self) -> float | None:
        """The wait after a lost connection or a server in trouble; None to give up."""
        if self._troubles == _RETRIES:
            return None
        self._troubles += 1
        longest_s = 0.5 * 2.0**self._troubles
        return self._uniform(longest_s / 2, longest_s)

    def after_throttling(self, told_s: float) -> float | None:
        """The wait after "too many requests"; `told_s` is what the headers said, if anything."""
        if self._throttlings == _THROTTLED_RETRIES:
            return None
        self._throttlings += 1
        return told_s or 2.0 ** (self._throttlings - 1)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None
