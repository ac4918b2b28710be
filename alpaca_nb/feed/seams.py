"""Where one consumer's data has holes: its losses, and what became of each.

Pure bookkeeping: the stream says what was lost and what comes again, the repair says what
came of it, and each change goes to whoever keeps the records.

Two kinds of time meet here. What happens to a connection has a time by this machine's
clock; the rows that are missing have times of the exchange. A stream converts one into the
other (`ExchangeAt`) as soon as it has received something, on a tape not before.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from alpaca_nb.data.gaps import Gap

PutGaps = Callable[[list[Gap]], None]
"""Takes gaps that are new or have changed."""

ExchangeAt = Callable[[int], int | None]
"""The exchange's time at a time of this machine's clock (both ns); None while unknown."""

_NUMBERS = itertools.count(1)

_PROVING_FRAMES = 5
"""Frames after a return that tell its time; one alone may hold a trade reported late."""


class Seams:
    """The losses of one route. Used on the stream's loop only."""

    def __init__(self, channel: str, put: PutGaps) -> None:
        self._channel = channel
        self._put = put
        # By symbol, in this machine's time: since when it comes, and when it first came.
        self._since: dict[str, int] = {}
        self._first: dict[str, int] = {}
        self._open: dict[str, Gap] = {}
        self._over: dict[int, Gap] = {}
        # By symbol, in the exchange's time: up to where everything is here or on record.
        self._covered: dict[str, int] = {}
        # By number, in this machine's time: where a loss begins at which nothing had come.
        self._began: dict[int, int] = {}
        # By number: for how many more frames the end of a loss is looked for in their time.
        self._unproven: dict[int, int] = {}

    @property
    def unsettled(self) -> list[Gap]:
        """Losses that are over and neither repaired nor given up."""
        return list(self._over.values())

    @property
    def open(self) -> Mapping[str, Gap]:
        """The losses that last, by symbol."""
        return self._open

    def ask(self, symbols: Iterable[str], *, now_ns: int) -> None:
        """Note that the server is being asked for these: what it does not send is missing."""
        for symbol in symbols:
            self._since.setdefault(symbol, now_ns)
            self._first.setdefault(symbol, now_ns)

    def refuse(
        self, symbols: Iterable[str], reason: str, *, now_ns: int, exchange_at: ExchangeAt
    ) -> None:
        """Note that the server will not send these; nothing of them is owed any more."""
        gone = list(symbols)
        ended = self.leave(gone, now_ns=now_ns, exchange_at=exchange_at)
        self.change(ended, state="missed", detail=reason)

    def confirm(self, symbols: Iterable[str], *, now_ns: int, exchange_at: ExchangeAt) -> list[Gap]:
        """Note that these come from now on; returns the losses that are over with it."""
        ended = []
        symbols = list(symbols)
        self.ask(symbols, now_ns=now_ns)
        for symbol in symbols:
            gap = self._open.pop(symbol, None)
            if gap is not None:
                known_ns = exchange_at(now_ns)
                end_ns = now_ns if known_ns is None else max(known_ns, gap.start_ns)
                ended.append(replace(gap, end_ns=end_ns, state="repairing", back_ns=now_ns))
        self._unproven.update((gap.number, _PROVING_FRAMES) for gap in ended)
        self.note(ended)
        return ended

    @property
    def unproven(self) -> bool:
        """Whether the end of any loss is an estimate still."""
        return bool(self._unproven)

    def came(self, exchange_ns: int) -> None:
        """Take the time of a frame that has come: what was lost before it ends no later."""
        for number, frames in list(self._unproven.items()):
            gap = self._over.get(number)
            if gap is not None and gap.end_ns is not None and gap.end_ns < exchange_ns:
                self._over[number] = replace(gap, end_ns=exchange_ns)
            if frames > 1:
                self._unproven[number] = frames - 1
            else:
                del self._unproven[number]

    def is_proven(self, gap: Gap) -> bool:
        """Whether frames that came since have told when the loss was over."""
        return self._unproven.get(gap.number, 0) < _PROVING_FRAMES

    def seen(self, symbols: Iterable[str]) -> None:
        """Note that these have been coming as part of all symbols ("*")."""
        since_ns, first_ns = self._since.get("*"), self._first.get("*")
        if since_ns is None or first_ns is None:
            return
        for symbol in symbols:
            self._since.setdefault(symbol, since_ns)
            self._first.setdefault(symbol, first_ns)

    def lose(
        self,
        reason: str,
        *,
        last_ns: Callable[[str], int | None],
        now_ns: int,
        exchange_at: ExchangeAt,
        symbols: Iterable[str] | None = None,
    ) -> None:
        """Note that these (None: all) come no more; a loss that lasts already goes on.

        `last_ns` gives the exchange's time up to which all of a symbol has come; None while
        that is unknown.
        """
        begun = []
        for symbol in list(self._since) if symbols is None else symbols:
            since_ns = self._since.pop(symbol, None)
            if since_ns is None or symbol in self._open:
                continue
            number = next(_NUMBERS)
            start_ns = last_ns(symbol)
            if start_ns is None:
                start_ns = exchange_at(since_ns)
            if start_ns is None:
                self._began[number] = start_ns = since_ns
            gap = Gap(
                number=number,
                channel=self._channel,
                symbol=symbol,
                start_ns=start_ns,
                reason=reason,
                lost_ns=now_ns,
            )
            self._open[symbol] = gap
            begun.append(gap)
        if begun:
            self._put(begun)

    def leave(self, symbols: Iterable[str], *, now_ns: int, exchange_at: ExchangeAt) -> list[Gap]:
        """Note that these are not wanted any more; returns the losses that end with that."""
        gone = list(symbols)
        lost = [symbol for symbol in gone if symbol in self._open]
        ended = self.confirm(lost, now_ns=now_ns, exchange_at=exchange_at)
        for gap in ended:
            del self._unproven[gap.number]  # frames that come later are none of its symbols'
        for symbol in gone:
            self._since.pop(symbol, None)
            self._first.pop(symbol, None)
            self._covered.pop(symbol, None)
        return ended

    def bounds(self, gap: Gap, exchange_at: ExchangeAt) -> tuple[int, int] | None:
        """Between which of the exchange's times rows are missing; None while that is unknown."""
        began_ns, back_ns = self._began.get(gap.number), gap.back_ns
        gap = self._over.get(gap.number, gap)  # its end may have been corrected since
        assert gap.end_ns is not None
        if back_ns is None or exchange_at(back_ns) is None:
            return None
        start_ns = gap.start_ns if began_ns is None else exchange_at(began_ns)
        end_ns = gap.end_ns if gap.end_ns != back_ns else exchange_at(back_ns)
        if start_ns is None or end_ns is None:
            return None
        return start_ns, max(start_ns, end_ns)

    def is_wanted(self, symbol: str) -> bool:
        """Whether the symbol is asked for still, so that the stream brings what is newer."""
        return symbol in self._since or symbol in self._open

    def owed_from(self, symbol: str, exchange_at: ExchangeAt) -> int:
        """The exchange's time before which nothing of this symbol is owed."""
        first_ns = self._first.get(symbol)
        return (exchange_at(first_ns) if first_ns is not None else None) or 0

    def cover(self, symbol: str, until_ns: int) -> None:
        """Note that a symbol is dealt with up to a time of the exchange: here, or on record."""
        self._covered[symbol] = max(until_ns, self._covered.get(symbol, 0))

    def covered_until(self, symbol: str) -> int | None:
        """Up to when a symbol is here or on record, 0 without a loss; None while in repair."""
        if any(gap.symbol == symbol and gap.state == "repairing" for gap in self.unsettled):
            return None
        return self._covered.get(symbol, 0)

    def note(self, gaps: Iterable[Gap]) -> None:
        """Take over what became of losses that are over."""
        changed = list(gaps)
        for gap in changed:
            if gap.state in ("repaired", "missed"):
                self._over.pop(gap.number, None)
                self._began.pop(gap.number, None)
                self._unproven.pop(gap.number, None)
            else:
                self._over[gap.number] = gap
            if gap.state in ("waiting", "missed") and gap.end_ns not in (None, gap.back_ns):
                # Not where the end is told in this machine's time for want of a better one; and
                # of what was repaired, the history knows better than the estimate.
                self.cover(gap.symbol, gap.end_ns or 0)
        if changed:
            self._put(changed)

    def change(self, gaps: Iterable[Gap], **changes: Any) -> list[Gap]:
        """Make the same change to several losses, as they are now; returns them."""
        changed = [replace(self._over.get(gap.number, gap), **changes) for gap in gaps]
        self.note(changed)
        return changed
