"""What runs in this kernel: streams by feed and frames by name.

Everything the magics do is a call on `session`; a script can make the same calls.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alpaca_nb.clock import SYSTEM_CLOCK
from alpaca_nb.credentials import Credentials, Secret, find_credentials, require_credentials
from alpaca_nb.data.frame import LiveFrame
from alpaca_nb.data.retention import Keep
from alpaca_nb.data.status import GapCounts, StreamStatus
from alpaca_nb.errors import BadInputError, StreamError
from alpaca_nb.feed.calendar import describe
from alpaca_nb.feed.client import StreamClient
from alpaca_nb.feed.stream import STREAM_URL_VARIABLE
from alpaca_nb.feed.transport import check_url, is_loopback
from alpaca_nb.wire.endpoints import find_endpoint
from alpaca_nb.wire.messages import check_symbols, find_channel

if TYPE_CHECKING:
    from alpaca_nb.sim.server import LocalSimulator

CONNECT_WAIT_S = 3.0
"""How long a call waits for a new connection before it goes on in the background: long
enough for wrong keys to be told in the same cell, too short to count as a blocked kernel."""

_SIMULATOR_KEYS = Credentials(Secret("simulator"), Secret("simulator"))
DEFAULT_FEED = "iex"


@dataclass(frozen=True, slots=True)
class FrameReport:
    """One named frame, as `session.status()` tells it."""

    name: str
    channel: str
    feed: str
    symbols: tuple[str, ...]
    pending: tuple[str, ...]
    """Asked for, and not yet answered by the server."""
    refused: dict[str, str]
    """Why a symbol will not come."""
    rows: int
    rate: float
    gaps: GapCounts
    """What was lost of its symbols, and what became of it."""
    stale: tuple[str, ...]
    """Symbols of which nothing comes although something should."""
    halted: tuple[str, ...]
    """Symbols whose trading is halted."""
    closed: bool


@dataclass(frozen=True, slots=True)
class SessionReport:
    """Streams and frames of this kernel at one moment."""

    streams: tuple[StreamStatus, ...]
    frames: tuple[FrameReport, ...]

    def __str__(self) -> str:
        if not self.streams:
            return "Not connected. %alpaca_subscribe quotes AAPL connects and subscribes."
        lines = [describe_stream(status) for status in self.streams]
        lines += [_describe_frame(frame) for frame in self.frames]
        return "\n".join(lines)


class Session:
    """Start, stop and look up what runs in this kernel."""

    def __init__(self) -> None:
        self._clients: dict[str, StreamClient] = {}
        self._frames: dict[str, tuple[LiveFrame, StreamClient]] = {}
        self._simulator: LocalSimulator | None = None

    def __repr__(self) -> str:
        return f"Session({', '.join(self._frames) or 'empty'})"

    @property
    def frames(self) -> dict[str, LiveFrame]:
        """The frames by name."""
        return {name: frame for name, (frame, _) in self._frames.items()}

    @property
    def known_symbols(self) -> list[str]:
        """Symbols that can be offered for completion: those in use, then the simulator's."""
        known = {symbol: None for frame in self.frames.values() for symbol in frame.symbols}
        if self._simulator is not None:
            from alpaca_nb.sim.market import DEFAULT_SYMBOLS

            known |= dict.fromkeys(DEFAULT_SYMBOLS)
        return list(known)

    def connect(self, feed: str = DEFAULT_FEED, *, url: str | None = None) -> StreamClient:
        """Connect to a feed, or go on with the connection there is.

        With no keys anywhere, a simulator in this kernel takes Alpaca's place. Returns
        after three seconds at the latest; a connection that takes longer goes on in the
        background and its status tells. Raises what `StreamClient.connect` raises.
        """
        find_endpoint(feed)
        if url is not None:
            check_url(url)
        client = self._clients.get(feed)
        if client is None:
            client = self._make_client(feed, url)
        elif url is not None and not client.is_at(url):
            raise BadInputError(
                f"{feed} is connected to another address; %alpaca_disconnect comes first."
            )
        client.connect(wait=CONNECT_WAIT_S)
        self._clients[feed] = client
        return client

    def subscribe(
        self,
        channel: str,
        symbols: str | Iterable[str],
        *,
        name: str | None = None,
        feed: str | None = None,
        maxlen: int = 1_000_000,
        keep: Keep = None,
    ) -> LiveFrame:
        """Subscribe, and keep what comes in the frame of that name (the channel's by default).

        A name that exists already gets the symbols it lacks and stays the same frame.
        """
        kind = find_channel(channel)
        wanted = check_symbols(symbols)
        name = check_name(name or kind.name)
        frame, client = self._frames.get(name, (None, None))
        if frame is None or client is None or frame.closed:
            client = self.connect(feed or DEFAULT_FEED)
            frame = client.frame(kind.name, wanted, maxlen=maxlen, keep=keep)
            frame.name = name
            self._frames[name] = frame, client
            return frame
        if frame.channel != kind.name or feed not in (None, client.feed):
            raise BadInputError(
                f"{name} is already a frame of {frame.channel} from {client.feed}; give the new "
                "one a name of its own with --as NAME."
            )
        client.connect(wait=CONNECT_WAIT_S)
        client.set_symbols(frame, dict.fromkeys((*frame.symbols, *wanted)))
        return frame

    def unsubscribe(self, name: str, symbols: str | Iterable[str] | None = None) -> LiveFrame:
        """Take symbols away from a frame, or close it; the rows it has stay readable."""
        frame = self.frame(name)
        client = self._frames[frame.name][1]
        gone = set(frame.symbols if symbols is None else check_symbols(symbols))
        unknown = gone - set(frame.symbols)
        if unknown:
            raise BadInputError(
                f"{name} has no {', '.join(sorted(unknown))}; it has {', '.join(frame.symbols)}."
            )
        left = [symbol for symbol in frame.symbols if symbol not in gone]
        if left:
            client.set_symbols(frame, left)
        else:
            frame.close()
            del self._frames[frame.name]
        return frame

    def frame(self, name: str) -> LiveFrame:
        """The frame of that name; raises BadInputError with the names there are."""
        if name not in self._frames:
            there_are = ", ".join(self._frames) or "none yet; %alpaca_subscribe makes one"
            raise BadInputError(f"There is no frame {name!r}; frames: {there_are}.")
        return self._frames[name][0]

    def chart(self, name: str, symbol: str | None = None) -> Any:
        """A live chart of a frame, of one of its symbols if named."""
        options = {} if symbol is None else {"symbol": check_symbols(symbol)[0]}
        return self.frame(name).chart(**options)

    def status(self) -> SessionReport:
        """What runs here, at this moment."""
        return SessionReport(
            tuple(client.status for client in self._clients.values()),
            tuple(_report(name, *pair) for name, pair in self._frames.items()),
        )

    def disconnect(self, feed: str | None = None) -> None:
        """Close the connections, or one of them; frames stay and go on after `connect`."""
        if feed is not None and feed not in self._clients:
            connected = ", ".join(self._clients) or "none"
            raise BadInputError(f"{feed!r} is not connected; connected feeds: {connected}.")
        for client in [self._clients[feed]] if feed else self._clients.values():
            client.disconnect()

    def close(self) -> None:
        """End everything: connections, frames, the simulator."""
        self.disconnect()
        for frame in self.frames.values():
            frame.close()
        self._frames.clear()
        self._clients.clear()
        if self._simulator is not None:
            self._simulator.stop()
            self._simulator = None

    def raise_if_failed(self) -> None:
        """Raise what ended a stream, if one failed; the next magic says it again."""
        for client in self._clients.values():
            if client.status.state == "failed":
                raise client.failure or StreamError(client.status.detail)

    def _make_client(self, feed: str, url: str | None) -> StreamClient:
        credentials = find_credentials()
        address = url or os.getenv(STREAM_URL_VARIABLE)
        if credentials is None and not address:
            endpoint = find_endpoint(feed)
            url = self._local_simulator().url + endpoint.path
            credentials = _SIMULATOR_KEYS
        elif credentials is None and address and is_loopback(address):
            credentials = _SIMULATOR_KEYS  # a simulator of this machine takes any keys
        credentials = credentials or require_credentials()
        return StreamClient(feed, api_key=credentials.key, api_secret=credentials.secret, url=url)

    def _local_simulator(self) -> LocalSimulator:
        if self._simulator is None:
            from alpaca_nb.sim.server import LocalSimulator

            simulator = LocalSimulator()
            simulator.start()
            self._simulator = simulator
        return self._simulator


def check_name(name: str) -> str:
    """Return a name that a frame may have: one that can be a variable."""
    if not name.isidentifier():
        raise BadInputError(f"{name!r} cannot be a variable's name; try --as my_quotes.")
    return name


def describe_stream(status: StreamStatus) -> str:
    """One line about a stream, without figures that change by themselves."""
    label = {"simulated": " (SIMULATED)", "replay": " (REPLAY)"}.get(status.origin, "")
    detail = f": {status.detail}" if status.detail else ""
    if status.waits_s is not None:
        detail += f" It is tried again for {status.waits_s:.0f} s more."
    market = status.market
    if status.origin == "live" and market.phase not in ("open", "unknown"):
        detail += f" · {describe(market, SYSTEM_CLOCK.now_ns())}"
    return f"{status.feed}{label} {status.state}{detail}"


def _describe_frame(frame: FrameReport) -> str:
    shown = ", ".join(frame.symbols[:8]) + (", …" if len(frame.symbols) > 8 else "")
    line = f"  {frame.name}: {frame.channel} {shown} · {frame.rows:,} rows · {frame.rate:,.1f}/s"
    if told := _describe_gaps(frame.gaps):
        line += f" · {told}, see {frame.name}.gaps"
    if frame.stale:
        line += f" · STALE: {', '.join(frame.stale)}"
    if frame.halted:
        line += f" · HALTED: {', '.join(frame.halted)}"
    if frame.pending:
        line += f" · waiting for {', '.join(frame.pending)}"
    for symbol, reason in frame.refused.items():
        line += f"\n    {symbol} refused: {reason}"
    return line


def _describe_gaps(gaps: GapCounts) -> str:
    """Such as "3 gaps (2 repaired, 1 missed)"; empty if there are none."""
    parts = {
        "open": gaps.open,
        "being repaired": gaps.pending,
        "repaired": gaps.repaired,
        "missed": gaps.missed,
    }
    total = sum(parts.values())
    if not total:
        return ""
    told = ", ".join(f"{count} {what}" for what, count in parts.items() if count)
    return f"{total} gap{'s' if total > 1 else ''} ({told})"


def _report(name: str, frame: LiveFrame, client: StreamClient) -> FrameReport:
    confirmed = client.confirmed.get(frame.channel, frozenset())
    refused = {
        symbol: str(error)
        for (channel, symbol), error in client.refused.items()
        if channel == frame.channel and symbol in frame.symbols
    }
    pending = [each for each in frame.symbols if each not in confirmed and each not in refused]
    stats, status = frame.stats, frame.status
    return FrameReport(
        name=name,
        channel=frame.channel,
        feed=client.feed,
        symbols=tuple(frame.symbols),
        pending=tuple(pending),
        refused=refused,
        rows=stats.rows,
        rate=stats.rate,
        gaps=frame.gap_counts,
        stale=status.stale,
        halted=status.halted,
        closed=frame.closed,
    )


session = Session()
"""The session of this kernel."""
