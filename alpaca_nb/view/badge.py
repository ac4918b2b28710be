"""The truth about a view's data, in the few numbers that its badge shows.

The words and colours are the browser's (js/src/badge.ts), which goes on counting the age when
no message comes.
"""

from __future__ import annotations

from typing import Any

from alpaca_nb.data.status import StreamStatus


def badge(status: StreamStatus, *, now_ns: int, coalesced: int = 0) -> dict[str, Any]:
    """A status as the browser reads it (docs/formats.md).

    Times are told as ages, so that two machines whose clocks differ agree; `coalesced` is
    how many rows the view was not sent one by one because newer ones overtook them.
    """
    last_ns = status.last_received_ns
    return {
        "state": status.state,
        "feed": status.feed,
        "origin": status.origin,
        "detail": status.detail,
        "rate": round(status.rate, 1),
        "lag_s": None if status.lag_s is None else round(status.lag_s, 4),
        "age_s": None if last_ns is None else round(max(now_ns - last_ns, 0) / 1e9, 3),
        "received": status.received,
        "unreadable": status.unreadable,
        "reconnects": status.reconnects,
        "coalesced": coalesced,
    }
