"""The state of a source of data, as views and people read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["connecting", "waiting", "live", "reconnecting", "stopped", "failed"]
"""What a stream is doing.

connecting: the first connection is being made. waiting: the server asked us to wait (a
taken slot, throttling). live: authenticated. reconnecting: it was live and is being made
again. stopped: ended on request. failed: ended by an error.
"""

SourceOrigin = Literal["live", "simulated", "replay"]
"""Where a stream's data comes from; anything but "live" must be said to whoever looks."""


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """One moment of a stream; cheap to make and safe to keep."""

    state: State
    feed: str
    """The feed's name, such as "iex"."""
    origin: SourceOrigin = "live"
    detail: str = ""
    """One sentence for a person: what went wrong, or what is being waited for."""
    rate: float = 0.0
    """Messages a second over the last seconds."""
    lag_s: float | None = None
    """Seconds from the exchange's time stamp to arrival here, median of the last seconds;
    None while unknown (nothing received yet, or a tape that plays as fast as it can)."""
    last_received_ns: int | None = None
    """When the last data message arrived (ns since 1970, UTC)."""
    received: int = 0
    """Data messages since the stream was made."""
    unreadable: int = 0
    """Messages that were none of Alpaca's, or of another shape; they are not in any frame."""
    reconnects: int = 0
    """How often a lost connection was made again."""
