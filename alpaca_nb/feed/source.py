"""Where the history that belongs to a stream can be asked for."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from alpaca_nb.clock import Clock
from alpaca_nb.credentials import Credentials
from alpaca_nb.feed.history import history_feed
from alpaca_nb.feed.transport import display_url
from alpaca_nb.wire.endpoints import SANDBOX_DATA_HOST

if TYPE_CHECKING:
    from alpaca_nb.feed.rest import RestClient


@dataclass(frozen=True, slots=True)
class Source:
    """A REST interface, and the stream's feed whose data is asked for."""

    rest: RestClient
    feed: str


class HistorySource:
    """The REST interface that belongs to a stream; connected when it is first needed."""

    def __init__(self, feed: str, url: str, credentials: Credentials, clock: Clock) -> None:
        self._feed = feed
        self._url = url
        self._credentials = credentials
        self._clock = clock
        self._rest: RestClient | None = None
        self.is_tape = False
        """Whether the stream is a simulator's, which serves history where it serves the stream."""

    def get(self) -> Source | str:
        """The interface, or one sentence on why there is none."""
        if history_feed(self._feed) is None:
            return f"Alpaca keeps no history of the feed {self._feed}."
        if self._rest is None:
            hosts = self._hosts()
            if hosts is None:
                return (
                    f"No REST address is known for {display_url(self._url)}; set "
                    "ALPACA_NB_DATA_URL to one."
                )
            from alpaca_nb.feed.rest import RestClient  # an HTTP library: only when needed

            self._rest = RestClient(
                self._credentials, data_url=hosts[0], trading_url=hosts[1], clock=self._clock
            )
        return Source(self._rest, self._feed)

    async def close(self) -> None:
        """Close its connections; a later request makes new ones."""
        rest, self._rest = self._rest, None
        if rest is not None:
            with suppress(Exception):  # there is nothing to be done about it
                await rest.aclose()

    def _hosts(self) -> tuple[str | None, str | None] | None:
        """The data and the trading host.

        (None, None) leaves it to the environment and to Alpaca's own addresses, which is
        right for Alpaca's streams only: keys for somebody else's server are none of
        Alpaca's business, nor the other way round.
        """
        parts = urlsplit(self._url)
        host = parts.hostname or ""
        if self.is_tape:
            scheme = "https" if parts.scheme == "wss" else "http"
            base = f"{scheme}://{parts.netloc.rpartition('@')[2]}"
            return base, base
        if host.endswith("data.sandbox.alpaca.markets"):
            return SANDBOX_DATA_HOST, None
        if host.endswith(".alpaca.markets") or os.getenv("ALPACA_NB_DATA_URL"):
            return None, None
        return None
