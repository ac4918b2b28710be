"""Holes made whole again: what a loss left out is asked for over REST and put into the frame.

A hole lies between the last message before the loss and the moment the server confirmed the
subscription again, both in the exchange's time. It is asked for with some room on both sides,
because prints are reported late and clocks are not exact; what the frame has already is left
out. What cannot be had now is asked for again when it can, and what never can stays on record
with the reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from alpaca_nb.clock import Clock
from alpaca_nb.data.gaps import Gap
from alpaca_nb.errors import AlpacaError, RecentDataError, RestError
from alpaca_nb.feed.exchange import Time
from alpaca_nb.feed.routes import Route
from alpaca_nb.feed.seams import Seams
from alpaca_nb.feed.source import Source
from alpaca_nb.wire.codec import time_ns
from alpaca_nb.wire.messages import Message

SETTLE_S = 2.0
"""How long after a return a hole is asked for: so long the history may lag behind the stream."""

_BEYOND_NS = 60 * 1_000_000_000
"""How far beyond the return is asked for; what the stream brings as well is left out."""
_WAITS_FOR_DATA = 3
"""How many times that long the first message after a return is waited for."""

SYMBOLS_AT_ONCE = 100
RECENT_NS = 15 * 60 * 1_000_000_000
"""How old data of the consolidated tape must be for a plan without real-time access to it."""

_SECOND_NS = 1_000_000_000
_MINUTE_NS = 60 * _SECOND_NS
_NEVER_NS = 1 << 63

LOOK_BACK_NS = {
    # Off-exchange prints may be reported ten seconds late; corrections come later still.
    "trades": 30 * _SECOND_NS,
    # Quotes come in order, but not without jitter.
    "quotes": _SECOND_NS,
    # A bar may have been updated half a minute after it came.
    "bars": 150 * _SECOND_NS,
}
"""How far before the last message known the history is read again."""

RETRY_S = (5.0, 15.0, 60.0, 300.0)
"""Waits after an answer that may be better later; the last one goes on for an hour."""
_TRIES = len(RETRY_S) + 12
_CATCH_UP_TRIES = 4
"""How often history that lacks what the stream brought is asked again."""

_FINAL = frozenset({400, 401, 403, 404, 422})
"""Answers that asking again does not change."""


class Repair:
    """Fills the holes of routes, on the stream's loop.

    `source` gives the REST interface, or one sentence on why there is none.
    """

    def __init__(
        self,
        source: Callable[[], Source | str],
        time: Time,
        clock: Clock,
        *,
        settle_s: float = SETTLE_S,
        retry_s: Sequence[float] = RETRY_S,
    ) -> None:
        self._source = source
        self._time = time
        self._clock = clock
        self._settle_s = settle_s
        self._retry_s = retry_s
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> bool:
        """Whether anything is being repaired or waits for it."""
        return bool(self._tasks)

    def add(self, route: Route, gaps: Sequence[Gap]) -> None:
        """Repair these losses of a route, which are over; returns at once."""
        for first in range(0, len(gaps), SYMBOLS_AT_ONCE):
            some = gaps[first : first + SYMBOLS_AT_ONCE]
            task = asyncio.get_running_loop().create_task(
                self._repair(route, some), name="alpaca_nb repair"
            )
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """End what is under way; those losses stay unsettled."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _repair(self, route: Route, gaps: Sequence[Gap]) -> None:
        seams, frame = route.seams, route.frame
        assert seams is not None
        hopeless = [gap for gap in gaps if gap.symbol == "*"]
        gaps = [gap for gap in gaps if gap.symbol != "*"]
        seams.change(
            hopeless, state="missed", detail="Symbols that had not occurred before are unknown."
        )
        if not gaps:
            return
        reason = None
        if frame is None:
            reason = "Only handlers listened, and a handler gets nothing late."
        elif route.channel.name not in LOOK_BACK_NS:
            reason = f"Alpaca keeps no history of {route.channel.name}."
        if reason is not None:
            seams.change(gaps, state="missed", detail=reason)
            return
        try:
            await self._fill(route, seams, gaps)
        except asyncio.CancelledError:
            numbers = {gap.number for gap in gaps}
            waiting = [gap for gap in seams.unsettled if gap.number in numbers]
            seams.change(waiting, state="waiting", detail="")
            raise
        except AlpacaError as error:
            seams.change(gaps, state="missed", detail=str(error))
        except Exception as error:  # a defect: the record says so, and the stream lives on
            seams.change(gaps, state="missed", detail=f"The repair failed: {error!r}.")

    async def _fill(self, route: Route, seams: Seams, gaps: Sequence[Gap]) -> None:
        await self._clock.sleep(self._settle_s)
        failures = behind = refusals = 0
        while True:
            gaps = await self._place(seams, gaps)
            source = self._source()
            if isinstance(source, str):
                raise RestError(source)
            try:
                # Where fresh data is not given, not a second more than is missing is asked for.
                beyond_ns = _SECOND_NS if refusals else _BEYOND_NS
                holes = self._holes(route, seams, gaps, beyond_ns)
                lacking = await self._ask(route, source, holes)
            except RecentDataError:
                gaps = await self._wait_until_old(seams, gaps, refusals)
                refusals += 1
                continue
            except RestError as error:
                if error.status in _FINAL or failures >= _TRIES:
                    raise
                gaps = await self._wait(seams, gaps, failures, str(error))
                failures += 1
                continue
            if not lacking.unknown or behind >= _CATCH_UP_TRIES:
                break
            behind += 1
            gaps = await self._wait(
                seams, gaps, behind - 1, "The history has not caught up with the stream yet."
            )
        for symbol, until_ns in lacking.newest_ns.items():
            seams.cover(symbol, until_ns)
        told = ""
        if lacking.unknown:
            told = f"The history lacks {lacking.unknown} of the rows the stream brought."
        seams.note(
            replace(gap, state="repaired", detail=told, rows=lacking.rows.get(gap.symbol, 0))
            for gap in gaps
        )

    async def _ask(self, route: Route, source: Source, holes: Sequence[_Hole]) -> _Lacking:
        """Fetch everything first, so that the frame is rewritten once."""
        frame = route.frame
        assert frame is not None
        messages: list[Message[Any]] = []
        newest_ns: dict[str, int] = {}
        updates: dict[int, str] = {}
        # What came on the stream before history was asked must be in it.
        there_ns = self._time.newest_ns() or 0
        asked_ns = self._clock.now_ns()
        by_symbol = {hole.symbol: hole for hole in holes}
        async for page in source.rest.history(
            route.channel.name,
            list(by_symbol),
            min(hole.start_ns for hole in holes),
            max(hole.end_ns for hole in holes),
            feed=source.feed,
        ):
            for i, message in enumerate(page.messages):
                hole, at_ns = by_symbol.get(message.symbol), time_ns(message.timestamp)
                if hole is None or not hole.start_ns <= at_ns <= hole.end_ns:
                    continue
                newest_ns[message.symbol] = max(at_ns, newest_ns.get(message.symbol, 0))
                if i in page.updates:
                    updates[len(messages)] = page.updates[i]
                messages.append(message)
        fill = frame.fill(
            messages,
            received_ns=self._clock.now_ns(),
            asked_ns=asked_ns,
            updates=updates,
            symbols=list(by_symbol),
            overlap=None
            if route.channel.name == "bars"
            else (
                max(hole.back_ns for hole in holes),
                min(there_ns, *(hole.end_ns for hole in holes)),
            ),
        )
        return _Lacking(fill.unknown, fill.rows, newest_ns)

    async def _place(self, seams: Seams, gaps: Sequence[Gap]) -> list[Gap]:
        """Give the losses their bounds in the exchange's time; waits until that is known.

        The time of the return is an estimate, and may be too early; the first message after
        it tells. A stream on which nothing comes is not waited for long.
        """
        time, tries = self._time, 0
        while not all(map(seams.is_proven, gaps)) and tries < _WAITS_FOR_DATA:
            await self._clock.sleep(self._settle_s)
            tries += 1
        tries = 0
        while True:
            bounds = [seams.bounds(gap, time.exchange_at) for gap in gaps]
            known = [each for each in bounds if each is not None]
            if len(known) == len(gaps):
                break
            if tries >= _TRIES:
                raise RestError("Nothing has come since, so that the time of the loss is unknown.")
            await self._clock.sleep(self._retry_s[min(tries, len(self._retry_s) - 1)])
            tries += 1
        placed = [
            replace(gap, start_ns=start_ns, end_ns=end_ns, state="repairing", detail="")
            for gap, (start_ns, end_ns) in zip(gaps, known, strict=True)
        ]
        seams.note(placed)
        return placed

    def _holes(
        self, route: Route, seams: Seams, gaps: Sequence[Gap], beyond_ns: int
    ) -> list[_Hole]:
        exchange_at, first_ns = self._time.exchange_at, _first_ns(route)
        # When a symbol was first asked for is an estimate; what the frame begins with bounds it.
        return [
            self._hole(
                gap,
                min(seams.owed_from(gap.symbol, exchange_at), first_ns or _NEVER_NS),
                # Of what was unsubscribed meanwhile nothing is owed beyond that moment.
                beyond_ns if seams.is_wanted(gap.symbol) else 0,
            )
            for gap in gaps
        ]

    def _hole(self, gap: Gap, owed_ns: int, beyond_ns: int) -> _Hole:
        """What to ask for so that nothing of a loss is left out."""
        start_ns, back_ns = gap.start_ns, gap.end_ns
        assert back_ns is not None
        speed, is_bar = self._time.speed(), gap.channel == "bars"
        # A bar comes when its minute is over, and is named by its beginning.
        back_by_ns = round(LOOK_BACK_NS[gap.channel] * max(speed, 1.0))
        start_ns = max(start_ns - back_by_ns, min(owed_ns - is_bar * _MINUTE_NS, start_ns))
        # Usually up to what there is now: the return is an estimate, and may be too early.
        end_ns = back_ns
        if beyond_ns >= _BEYOND_NS:
            end_ns = max(end_ns, self._time.newest_ns() or 0)
        end_ns += round(beyond_ns * max(speed, 1.0))
        end_ns -= is_bar * _MINUTE_NS
        return _Hole(gap.symbol, max(start_ns, 0), back_ns, max(end_ns, start_ns, 0))

    async def _wait(self, seams: Seams, gaps: Sequence[Gap], turn: int, why: str) -> list[Gap]:
        wait_s = self._retry_s[min(turn, len(self._retry_s) - 1)]
        waiting = seams.change(
            gaps, state="waiting", detail=f"{why} It is asked for again in {wait_s:.0f} s."
        )
        await self._clock.sleep(wait_s)
        return waiting

    async def _wait_until_old(self, seams: Seams, gaps: Sequence[Gap], refusals: int) -> list[Gap]:
        """Data of the consolidated tape is free for everybody once it is 15 minutes old.

        The first time it may have been the room around the loss that was too fresh: a
        delayed feed is old enough as it comes.
        """
        wait_s = self._retry_s[min(refusals, 2)]
        if refusals == 1:
            time = self._time
            latest_ns = max(gap.end_ns or 0 for gap in gaps)
            left_ns = latest_ns + RECENT_NS - (time.now_ns() or latest_ns)
            wait_s += max(left_ns / _SECOND_NS / (time.speed() or 1.0), 0.0)
        after = f"{wait_s / 60:.0f} min" if wait_s >= 90 else f"{wait_s:.0f} s"
        waiting = seams.change(
            gaps,
            state="waiting",
            detail="The plan gives data of this feed when it is 15 minutes old; it is asked for "
            f"again in {after}.",
        )
        await self._clock.sleep(wait_s)
        return waiting


def _first_ns(route: Route) -> int | None:
    """The time stamp with which a frame begins."""
    assert route.frame is not None
    times = route.frame.snapshot()["timestamp"]
    return int(times[0]) if len(times) else None


@dataclass(frozen=True, slots=True)
class _Hole:
    """What is asked for of one symbol, in the exchange's time, both ends included."""

    symbol: str
    start_ns: int
    back_ns: int
    """From here on the stream brought everything."""
    end_ns: int


@dataclass(frozen=True, slots=True)
class _Lacking:
    unknown: int
    """Rows of the stream that the history should have and has not."""
    rows: Mapping[str, int]
    """Rows that were filled in, by symbol."""
    newest_ns: Mapping[str, int]
    """The latest time stamp that history has, by symbol."""
