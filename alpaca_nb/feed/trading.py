"""Halts and price bands, as far as the stream has told of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from alpaca_nb.data.status import TradingStatus
from alpaca_nb.wire.codec import time_ns
from alpaca_nb.wire.messages import Message, PriceBand, Status

UNKNOWN = TradingStatus()

# The exchanges' status codes: digits on tapes A and B, letters on C and O. A resumption of
# quoting ("Q") is not yet one of trading; all other codes leave trading as it is.
_HALTED = frozenset({"2", "H", "P"})
_RESUMED = frozenset({"3", "T"})


class TradingBook:
    """The trading status of each symbol. Written by one thread, read by any."""

    def __init__(self) -> None:
        self._by_symbol: dict[str, TradingStatus] = {}

    def of(self, symbol: str) -> TradingStatus:
        """What is known of a symbol; nothing is known until an exchange has said something."""
        return self._by_symbol.get(symbol, UNKNOWN)

    def take(self, messages: Iterable[Message[Any]], received_ns: int, origin: object) -> None:
        """Take in status and price band messages; as a route's consumer."""
        for message in messages:
            before = self.of(message.symbol)
            if isinstance(message, PriceBand):
                after = replace(before, limit_up=message.limit_up, limit_down=message.limit_down)
            elif isinstance(message, Status):
                after = _with_status(before, message)
            else:
                continue
            self._by_symbol[message.symbol] = after


def _with_status(before: TradingStatus, status: Status[Any]) -> TradingStatus:
    code = status.status_code
    if code not in _HALTED and code not in _RESUMED and code != "Q":
        return before
    try:
        since_ns = time_ns(status.timestamp)
    except ValueError:
        since_ns = None
    return replace(
        before,
        halted=code not in _RESUMED,
        message=status.status_message,
        reason=status.reason_message or status.reason_code,
        since_ns=since_ns,
    )
