"""The connections of this process, shared: Alpaca allows an account one per endpoint."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from alpaca_nb.credentials import Credentials
from alpaca_nb.errors import BadInputError
from alpaca_nb.feed.stream import Stream
from alpaca_nb.feed.thread import FEED_THREAD

STOP_TIMEOUT_S = 1.0


@dataclass(slots=True)
class _Held:
    stream: Stream
    options: Mapping[str, Any]
    holders: set[int] = field(default_factory=set)


class Streams:
    """One stream per address and account, for as long as anybody holds it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[tuple[str, Credentials], _Held] = {}

    def acquire(
        self,
        key: tuple[str, Credentials],
        holder: int,
        make: Callable[[], Stream],
        options: Mapping[str, Any],
    ) -> Stream:
        """The stream for an address and account, made if nobody holds one yet.

        Raises BadInputError when it is held with other options: a second connection would
        be refused by the server.
        """
        with self._lock:
            held = self._held.get(key)
            if held is None:
                held = self._held[key] = _Held(make(), options)
            for name, value in options.items():
                if held.options[name] != value:
                    raise BadInputError(
                        f"This process is connected to {held.stream.endpoint.feed} already, with "
                        f"{name}={held.options[name]!r}, and an account has one connection to a "
                        "feed; use the same option, or disconnect the other client first."
                    )
            held.holders.add(holder)
            return held.stream

    def release(self, key: tuple[str, Credentials], holder: int) -> None:
        """Give the stream back; the last to do so closes it, in under a second."""
        with self._lock:
            held = self._held.get(key)
            if held is None:
                return
            held.holders.discard(holder)
            if held.holders:
                return
            del self._held[key]
        _stop(held.stream)

    def stop_all(self) -> None:
        """Say goodbye on every connection, before the interpreter ends."""
        with self._lock:
            streams = [held.stream for held in self._held.values()]
            self._held.clear()
        for stream in streams:
            _stop(stream)


def _stop(stream: Stream) -> None:
    if FEED_THREAD.is_current:
        # A handler of ours never runs here; a callback of a future may.
        FEED_THREAD.submit(stream.stop())
        return
    with suppress(TimeoutError):
        FEED_THREAD.run(stream.stop(), timeout_s=STOP_TIMEOUT_S)


STREAMS = Streams()
"""The connections of this process."""

atexit.register(STREAMS.stop_all)
