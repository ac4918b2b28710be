"""A session with faults: what a frame holds at the end, beside what really happened.

A bounded synthetic day is played to a stream while things go wrong on purpose. Both sides run on
one clock that goes ten times as fast as the world's, so that the waits of the real protocol are
short and stay what they are.
"""

from __future__ import annotations

import asyncio
import functools
import random
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from alpaca_nb.credentials import Credentials, Secret
from alpaca_nb.data.frame import LiveFrame
from alpaca_nb.errors import AlpacaError
from alpaca_nb.feed.repair import LOOK_BACK_NS
from alpaca_nb.feed.retry import ReconnectPolicy
from alpaca_nb.feed.routes import routes_into
from alpaca_nb.feed.stream import Stream
from alpaca_nb.feed.transport import connect_websocket
from alpaca_nb.sim.faults import Cut, EndlessPages, Fault, LateData, Moment, Mute
from alpaca_nb.sim.plans import Plan
from alpaca_nb.sim.server import SimulatorServer
from alpaca_nb.sim.tape import SyntheticTape
from alpaca_nb.wire.endpoints import ENDPOINTS
from alpaca_nb.wire.messages import Bar, Quote, Trade, UpdatedBar

HASTE = 10.0
SPEED = 6.0
SYMBOLS = ("AAPL", "MSFT", "SOFI")
CHANNELS = ("quotes", "trades", "bars")
MINUTES = 2
QUIET_S = 25.0
"""Of the quick clock: longer than a mute connection takes to be noticed and proven."""
PATIENCE_S = 900.0
"""Of the quick clock: how long a session may take to heal."""

_COLUMNS = {
    "quotes": (
        "symbol", "bid_price", "bid_size", "ask_price", "ask_size", "bid_exchange",
        "ask_exchange", "conditions", "tape",
    ),
    "trades": ("symbol", "price", "size", "exchange", "trade_id", "conditions", "tape"),
    "bars": ("symbol", "open", "high", "low", "close", "volume", "trade_count", "vwap"),
}  # fmt: skip


class QuickClock:
    """The machine's clock, ten times as fast."""

    def __init__(self) -> None:
        self._start_ns, self._start_s = time.time_ns(), time.monotonic()

    def now_ns(self) -> int:
        return self._start_ns + round((time.time_ns() - self._start_ns) * HASTE)

    def monotonic(self) -> float:
        return (time.monotonic() - self._start_s) * HASTE

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s / HASTE)


@dataclass(frozen=True)
class Planned:
    """One fault with its moment."""

    fault: Fault
    at: Moment
    after: int = 0
    times: int = 1


@dataclass
class Outcome:
    """What is left after a session."""

    missing: dict[str, Counter[tuple[Any, ...]]] = field(default_factory=dict)
    """By channel: what really happened and is not in the frame, gaps or not."""
    unexplained: dict[str, Counter[tuple[Any, ...]]] = field(default_factory=dict)
    """Those of them that no gap on record tells of."""
    invented: dict[str, Counter[tuple[Any, ...]]] = field(default_factory=dict)
    """By channel: what is in the frame and never happened, or not so often.

    What did happen and was changed later is none, if the change may lie in a gap on record.
    """
    happened: list[tuple[Fault, str]] = field(default_factory=list)
    never_happened: list[Fault] = field(default_factory=list)
    """What was planned and found no moment; such a session has tried nothing."""
    late_rows: int = 0
    """Rows of a symbol that came into its frame after it was unsubscribed."""
    states: Counter[str] = field(default_factory=Counter)
    reconnects: int = 0
    backfilled: int = 0
    settled: bool = True
    errors: list[str] = field(default_factory=list)

    @property
    def is_true(self) -> bool:
        """Whether the frames are the tape, or differ exactly by what their gaps say."""
        wrong = any(self.unexplained.values()) or any(self.invented.values())
        return self.settled and not wrong and not self.late_rows

    def __str__(self) -> str:
        def few(found: dict[str, Counter[tuple[Any, ...]]]) -> str:
            return "; ".join(
                f"{sum(rows.values())} {name}, such as {next(iter(rows))}"
                for name, rows in found.items()
                if rows
            )

        return (
            f"settled: {self.settled}, gaps: {dict(self.states)}, reconnects: {self.reconnects}, "
            f"filled in: {self.backfilled}\n"
            f"never happened: {self.never_happened}, late rows: {self.late_rows}\n"
            f"unexplained: {few(self.unexplained)}\ninvented: {few(self.invented)}\n"
            f"happened: {self.happened}\nerrors: {self.errors}"
        )


async def play(
    planned: Sequence[Planned],
    *,
    seed: int = 7,
    codec: Any = "msgpack",
    feed: str = "iex",
    plan: Plan | None = None,
    amendments: float = 0.03,
    at_start: bool = False,
    wait_repairs: bool = True,
) -> Outcome:
    """Play a session in which these things go wrong, and wait until it has healed.

    `at_start` arms them before the first connection, else they wait for it to stand. Repairs
    that never end are not waited for.
    """
    wait_repairs = wait_repairs and not any(
        isinstance(each.fault, EndlessPages) for each in planned
    )
    clock = QuickClock()
    tape = SyntheticTape(seed, symbols=SYMBOLS, rate=0.2, amendments=amendments, minutes=MINUTES)
    plan = plan or Plan(rest_per_minute=None)
    async with SimulatorServer(tape, speed=SPEED, plan=plan, clock=clock) as server:
        stream = Stream(
            ENDPOINTS[feed],
            Credentials(Secret("key"), Secret("secret")),
            url=server.url + ENDPOINTS[feed].path,
            codec=codec,
            policy=ReconnectPolicy(max_attempts=100, delay_s=0.5, max_delay_s=2),
            connect=functools.partial(connect_websocket, open_timeout_s=1.0),
            clock=clock,
            uniform=random.Random(seed).uniform,
        )
        frames = {name: LiveFrame(name, SYMBOLS) for name in CHANNELS}
        for frame in frames.values():
            for route in routes_into(frame, ENDPOINTS[feed]):
                stream.add(route)
        if at_start:
            _arm(server, planned)
        try:
            await _connect(stream, clock)
            late = None
            if any(isinstance(each.fault, LateData) for each in planned):
                # First, because after a cut there is nothing to unsubscribe.
                if not at_start:
                    _arm(server, [each for each in planned if isinstance(each.fault, LateData)])
                late = await _unsubscribe_something(stream, clock)
            if not at_start:
                _arm(server, [each for each in planned if not isinstance(each.fault, LateData)])
            settled = await _heal(stream, server, tape, frames, clock, wait_repairs=wait_repairs)
            outcome = _compare(server, tape, frames, feed)
            if not outcome.is_true and any(isinstance(each.fault, Mute) for each in planned):
                # That a connection is mute is proven by what is newer elsewhere, and at the end
                # of the tape there is nothing: as on a market that closes, with the next
                # connection it is found.
                server.faults.add(Cut(), at="now")
                settled = await _heal(
                    stream, server, tape, frames, clock, wait_repairs=wait_repairs
                )
                outcome = _compare(server, tape, frames, feed)
        finally:
            await stream.stop()
        outcome.settled = settled
        outcome.happened = server.faults.happened
        faults = [fault for fault, _ in outcome.happened]
        outcome.never_happened = [each.fault for each in planned if each.fault not in faults]
        if late is not None:
            frame, position = late
            # What a loss before the unsubscription had cost may come later, and rightly.
            outcome.late_rows = int((frame.df["source"] != "backfill").sum()) - position
        outcome.reconnects = stream.status.reconnects
        outcome.errors = [str(error) for error in stream.errors]
        return outcome


def _arm(server: SimulatorServer, planned: Iterable[Planned]) -> None:
    for each in planned:
        server.faults.add(each.fault, at=each.at, after=each.after, times=each.times)


async def _connect(stream: Stream, clock: QuickClock) -> None:
    """As a person would: again, when the first connection fails."""
    for _ in range(20):
        try:
            await stream.start()
        except AlpacaError:
            await clock.sleep(1.0)
        else:
            return
    raise AssertionError("the stream never connected")


async def _unsubscribe_something(stream: Stream, clock: QuickClock) -> tuple[LiveFrame, int]:
    """Have one more symbol for a while; returns its frame, and the rows it had at the end."""
    frame = LiveFrame("quotes", "IBM")
    (route,) = routes_into(frame, stream.endpoint)
    stream.add(route)
    for _ in range(120):
        if frame.position:
            break
        await clock.sleep(0.5)
    stream.remove(route)
    return frame, frame.position


async def _heal(
    stream: Stream,
    server: SimulatorServer,
    tape: SyntheticTape,
    frames: dict[str, LiveFrame],
    clock: QuickClock,
    *,
    wait_repairs: bool,
) -> bool:
    """Wait for the end of the tape, and until nothing changes any more; False if that fails."""
    deadline_s = clock.monotonic() + PATIENCE_S
    quiet_since_s, before = clock.monotonic(), None
    while clock.monotonic() < deadline_s:
        await clock.sleep(0.5)
        if stream.state == "failed":
            await _connect(stream, clock)
        now = _picture(stream, frames)
        if now != before:
            quiet_since_s, before = clock.monotonic(), now
        ended = tape.next_stop(server.position) is None
        counts = [frame.gap_counts for frame in frames.values()]
        open_ones = sum(each.open + (each.pending if wait_repairs else 0) for each in counts)
        # Longer than a mute connection needs to be noticed and proven to be one.
        quiet = clock.monotonic() - quiet_since_s > QUIET_S
        if ended and stream.state == "live" and not open_ones and quiet:
            return True
    return False


def _picture(stream: Stream, frames: dict[str, LiveFrame]) -> tuple[Any, ...]:
    return (
        stream.state,
        stream.status.reconnects,
        *((frame.position, frame.epoch, frame.gap_counts) for frame in frames.values()),
    )


def _compare(
    server: SimulatorServer, tape: SyntheticTape, frames: dict[str, LiveFrame], feed: str
) -> Outcome:
    outcome = Outcome()
    for name, frame in frames.items():
        truth = Counter(
            _row(name, each) for each in tape.truth(feed, name, SYMBOLS, server.position)
        )
        held = Counter(_rows(frame))
        outcome.missing[name] = truth - held
        gaps = frame.gaps
        unrepaired = set(gaps["symbol"][gaps["state"] != "repaired"])
        once = Counter(_row(name, each) for each in _sent(tape, feed, name, server.position))
        outcome.invented[name] = Counter(
            {
                row: count
                for row, count in (held - truth).items()
                if row[1] not in unrepaired or held[row] > once[row]
            }
        )
        unexplained = Counter[tuple[Any, ...]]()
        for row, count in outcome.missing[name].items():
            told = gaps[(gaps["symbol"] == row[1]) & (gaps["state"] != "repaired")]
            start = told["start"].astype("int64") - LOOK_BACK_NS[name] * SPEED
            end = told["end"].astype("int64")
            if not ((start <= row[0]) & ((row[0] <= end) | told["end"].isna())).any():
                unexplained[row] = count
        outcome.unexplained[name] = unexplained
        outcome.states.update(gaps["state"])
        outcome.backfilled += frame.stats.backfilled
    return outcome


def _sent(tape: SyntheticTape, feed: str, channel: str, position: int) -> Iterable[Any]:
    """Every version of a row that the stream was sent."""
    wanted = {
        name: frozenset(SYMBOLS)
        for name in ("quotes", "trades", "bars", "updated_bars", "corrections", "cancel_errors")
    }
    kinds = {"quotes": (Quote,), "trades": (Trade,), "bars": (Bar, UpdatedBar)}[channel]
    for message in tape.between(feed, wanted, 0, position):
        if type(message) in kinds and message.symbol in SYMBOLS:
            yield message


def _row(channel: str, message: Any) -> tuple[Any, ...]:
    values = [getattr(message, name) for name in _COLUMNS[channel]]
    return (
        message.timestamp,
        *(",".join(value) if isinstance(value, list) else value for value in values),
    )


def _rows(frame: LiveFrame) -> Iterable[tuple[Any, ...]]:
    df = frame.df
    if frame.channel == "trades":
        df = df[~df["amended"].isin(["canceled", "error", "incorrect"])]
    names = _COLUMNS[frame.channel]
    return zip(df.index.asi8.tolist(), *(df[name].tolist() for name in names), strict=True)
