"""Alpaca's stock feeds: their names, their paths, and what each carries."""

from __future__ import annotations

from dataclasses import dataclass

from alpaca_nb.errors import UnknownChannelError, UnknownFeedError
from alpaca_nb.wire.messages import CHANNELS, Channel

STREAM_HOST = "wss://stream.data.alpaca.markets"
DATA_HOST = "https://data.alpaca.markets"
SANDBOX_DATA_HOST = "https://data.sandbox.alpaca.markets"
PAPER_TRADING_HOST = "https://paper-api.alpaca.markets"
LIVE_TRADING_HOST = "https://api.alpaca.markets"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One WebSocket endpoint."""

    feed: str
    path: str
    other_paths: tuple[str, ...] = ()
    """Paths under which other clients look for the same feed."""
    channels: tuple[Channel, ...] = tuple(CHANNELS.values())

    def check(self, channel: Channel) -> None:
        """Raise UnknownChannelError unless the channel can be subscribed on this feed."""
        if channel.automatic:
            raise UnknownChannelError(
                f"{channel.name} cannot be asked for; they come along with trades."
            )
        if channel not in self.channels:
            allowed = ", ".join(each.name for each in self.channels if not each.automatic)
            raise UnknownChannelError(
                f"The feed {self.feed!r} has no {channel.name}; it has {allowed}."
            )


ENDPOINTS: dict[str, Endpoint] = {
    endpoint.feed: endpoint
    for endpoint in (
        Endpoint("iex", "/v2/iex"),
        Endpoint("sip", "/v2/sip"),
        Endpoint("otc", "/v2/otc"),
        Endpoint("delayed_sip", "/v2/delayed_sip"),
        # The documentation has these two under v1beta1, the official Go and C# clients under v2.
        Endpoint("boats", "/v1beta1/boats", ("/v2/boats",)),
        Endpoint("overnight", "/v1beta1/overnight", ("/v2/overnight",)),
        Endpoint(
            "test",
            "/v2/test",
            channels=tuple(CHANNELS[name] for name in ("trades", "quotes", "bars")),
        ),
    )
}
"""Every stock feed, by name."""

_BY_PATH = {
    path: endpoint
    for endpoint in ENDPOINTS.values()
    for path in (endpoint.path, *endpoint.other_paths)
}


def find_endpoint(feed: str) -> Endpoint:
    """Look a feed up by name; raises UnknownFeedError with the names there are."""
    try:
        return ENDPOINTS[feed]
    except (KeyError, TypeError):
        allowed = ", ".join(ENDPOINTS)
        raise UnknownFeedError(f"There is no feed {feed!r}; choose one of {allowed}.") from None


def endpoint_at(path: str) -> Endpoint | None:
    """The endpoint a server offers at this path, or None."""
    return _BY_PATH.get(path.rstrip("/"))
