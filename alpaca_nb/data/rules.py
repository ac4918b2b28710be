"""What the rows of a channel are to each other: which are the same, and what changes them.

For each channel the rules answer three questions, with a plan and without doing anything:
what is to be stored of messages that came (`take`), of history that fills a gap (`fill`), and
what becomes of the rows by what is said of them later (`amend`). Everything they know lies in
`Known`, which its owner replaces when a plan has been carried out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from alpaca_nb.data.amend import (
    AMENDED,
    VOID,
    Amendment,
    AmendmentLog,
    Notice,
    TradeBook,
    TradeKey,
    Verdict,
    amendment_of,
    day_of,
    forget_oldest,
    note_match,
)
from alpaca_nb.data.columns import AnyArray, Column, ColumnStore, Groups, Kind, Snapshot
from alpaca_nb.data.merge import NEW, Identity, Rows, differ, is_in, is_younger

Arrays = list[AnyArray]
"""Encoded rows, one array per column."""

RECEIVED: Final = (
    Column("received", Kind.TIME),
    Column("source", Kind.CATEGORY, ("live", "backfill", "replay", "simulated")),
)
"""The columns that say how a row came here; they follow those of the message."""

_AMENDED_COLUMN: Final = Column("amended", Kind.CATEGORY, AMENDED)
_UPDATED: Final = AMENDED.index("updated")
_BACKFILL: Final = RECEIVED[1].categories.index("backfill")

_LATE_NS: Final = 10_000_000_000
"""How long history may still hold a bar that the stream has sent anew."""


@dataclass(slots=True)
class Known:
    """What was said of rows. Replaced, not changed, once a plan may have read it."""

    log: AmendmentLog = field(default_factory=AmendmentLog)
    book: TradeBook = field(default_factory=TradeBook)
    overruled: dict[Any, int] = field(default_factory=dict)
    """When (ns) the stream replaced which values of a bar."""

    def copy(self) -> Known:
        """Another that may be changed."""
        return Known(self.log.copy(), self.book.copy(), self.overruled.copy())


_NONE: Final = np.empty(0, np.intp)


@dataclass(slots=True)
class Plan:
    """What is to be done to the rows held."""

    new: Arrays
    """Rows to store."""
    known: Known
    """What is known afterwards."""
    rows: Rows = field(default_factory=lambda: _NONE)
    """Rows held that change."""
    values: Arrays = field(default_factory=list)
    """What they become."""
    duplicates: int = 0
    amended: int = 0
    pairs: Rows = field(default_factory=lambda: _NONE)
    """Of a fill: the rows held that are among its messages, each at least once."""


class Rules:
    """Those of records that nothing changes later, such as quotes."""

    extra: tuple[Column, ...] = RECEIVED
    """The columns that follow those of the message."""
    drops_repeated = False
    """Whether a record that was sent twice is stored once."""

    def __init__(self, columns: Sequence[Column], store: ColumnStore) -> None:
        names = [column.name for column in columns]
        self._at = {name: i for i, name in enumerate(names)}
        self._store = store
        self._record = tuple(i for i, name in enumerate(names) if name not in _NOT_OF_THE_MESSAGE)
        self.identity = self._identity()
        self.known = Known()

    def take(self, new: Arrays, held: Snapshot, groups: Groups, newest: AnyArray) -> Plan:
        """What to do with rows that a stream brought.

        `groups` are theirs, `newest` the highest time stamp that each had before.
        """
        repeated = None
        if self.drops_repeated:
            repeated = self.identity.repeated(held, new, groups, newest)
        if repeated is None:
            return Plan(new, self.known)
        return Plan(_only(new, ~repeated), self.known, duplicates=int(repeated.sum()))

    def fill(
        self,
        new: Arrays,
        held: Arrays,
        marks: Mapping[int, str],
        *,
        received_ns: int,
        asked_ns: int,
    ) -> tuple[NDArray[np.bool_], Plan]:
        """Which of the rows from history to store, and what to do besides."""
        pairs = self.identity.pair(held, new)
        keep = pairs == NEW
        plan = Plan([], self.known, duplicates=len(keep) - int(keep.sum()), pairs=pairs[pairs >= 0])
        return keep, plan

    def missing(self, held: Arrays, rows: Rows, new: Arrays, pairs: Rows) -> int:
        """How many of these rows held are not among the new ones."""
        return len(np.setdiff1d(rows, pairs))

    def _identity(self) -> Identity:
        return Identity(self._record)


_NOT_OF_THE_MESSAGE: Final = {"received", "source", "amended"}


class QuoteRules(Rules):
    """Those of quotes."""

    drops_repeated = True


# -- trades ------------------------------------------------------------------------------


class TradeRules(Rules):
    """Those of trades, which are known by symbol, exchange, number and day."""

    extra = (*RECEIVED, _AMENDED_COLUMN)
    drops_repeated = True

    def take(self, new: Arrays, held: Snapshot, groups: Groups, newest: AnyArray) -> Plan:
        """What to do with trades; what was said of them before is true of them now."""
        if not len(self.known.book):
            return super().take(new, held, groups, newest)
        hits = self._find(new, np.arange(len(new[0])), self.known.book)
        if not hits:
            return super().take(new, held, groups, newest)
        known = self.known.copy()
        again = self._apply(new, hits, _arrays(held), known)
        amended = len(hits) - int(again.sum())
        repeated = self.identity.repeated(held, new, groups, newest)
        if repeated is not None:
            amended -= sum(1 for row in hits if repeated[row] and not again[row])
            again |= repeated
        return Plan(_only(new, ~again), known, duplicates=int(again.sum()), amended=amended)

    def fill(
        self,
        new: Arrays,
        held: Arrays,
        marks: Mapping[int, str],
        *,
        received_ns: int,
        asked_ns: int,
    ) -> tuple[NDArray[np.bool_], Plan]:
        """Which of the trades from history to store.

        `marks` are those that history itself gives a trade: void ones are not stored, and if
        they are held they are marked there.
        """
        known, count, marked = self.known.copy(), len(new[0]), list(marks)
        keys = dict(zip(marked, self._keys(new, np.array(marked, np.intp)), strict=True))
        corrected = {i for i, mark in marks.items() if mark == "corrected"}
        stand = {keys[i] for i in corrected}
        void = {i for i, mark in marks.items() if mark in VOID}
        # A corrected trade may keep its number; then the void one tells nothing of it.
        concerned: set[TradeKey] = set()
        for i in void:
            if keys[i] not in stand:
                concerned |= known.book.add(self._notice(new, i, keys[i], marks[i], received_ns))
        new[self._at["amended"]][list(corrected)] = AMENDED.index("corrected")
        valid = np.ones(count, bool)
        valid[list(void)] = False
        hits = self._find(new, np.flatnonzero(valid), known.book) if len(known.book) else {}
        again = self._apply(new, hits, held, known)
        pairs = np.full(count, NEW)
        pairs[valid] = self.identity.pair(held, _only(new, valid))
        keep = valid & ~again & (pairs == NEW)
        rows, values, seen = self._settle(held, concerned, known)
        more_rows, more_values = self._corrected_in_place(new, held, pairs, corrected)
        fresh = ~np.isin(more_rows, rows)
        rows = np.append(rows, more_rows[fresh])
        values = _joined(values, _only(more_values, fresh))
        in_frame = np.concatenate([pairs[pairs >= 0], seen])
        amended = len(rows) + int((new[self._at["amended"]][keep] != 0).sum())
        duplicates = int((valid & ~keep).sum()) - int(fresh.sum())
        return keep, Plan([], known, rows, values, duplicates, amended, in_frame)

    def missing(self, held: Arrays, rows: Rows, new: Arrays, pairs: Rows) -> int:
        """How many of these rows are not among the new ones; history may lack amended ones."""
        rows = np.setdiff1d(rows[held[self._at["amended"]][rows] == 0], pairs)
        if not len(rows):
            return 0
        there = set(self.identity.keys(new, np.arange(len(new[0]))))
        return sum(key not in there for key in self.identity.keys(held, rows))

    def amend(self, notices: Collection[Notice], held: Arrays) -> tuple[Plan, set[TradeKey]]:
        """What to do about words on trades, and which trades they concern."""
        known = self.known.copy()
        concerned: set[TradeKey] = set()
        for notice in notices:
            concerned |= known.book.add(notice)
            if known.log.get(notice.identity) is None:
                known.log.put(notice.identity, amendment_of(notice))
        rows, values, _ = self._settle(held, concerned, known)
        return Plan([], known, rows, values, amended=len(rows)), concerned

    def settle(self, arrays: Arrays, concerned: set[TradeKey], known: Known) -> tuple[Rows, Arrays]:
        """Which of some other rows change by what is known of these trades, and to what."""
        changed, values, _ = self._settle(arrays, concerned, known)
        return changed, values

    def _identity(self) -> Identity:
        names = ("timestamp", "symbol", "exchange", "trade_id")
        key = tuple(self._at[name] for name in names)
        return Identity(self._record, key, number=self._at["trade_id"])

    def _keys(self, arrays: Arrays, rows: Rows) -> list[TradeKey]:
        symbol, exchange = self._at["symbol"], self._at["exchange"]
        symbols, exchanges = self._store.names(symbol), self._store.names(exchange)
        columns = (symbol, exchange, self._at["trade_id"], self._at["timestamp"])
        return [
            TradeKey(symbols[s], exchanges[e], number, day_of(time))
            for s, e, number, time in zip(*(arrays[i][rows].tolist() for i in columns), strict=True)
        ]

    def _find(self, arrays: Arrays, rows: Rows, book: TradeBook) -> dict[int, Verdict]:
        """Those of the rows of which something is known, and what."""
        numbers = arrays[self._at["trade_id"]][rows]
        rows = rows[is_in(numbers, book.numbers, ascending=True)]
        found = zip(rows.tolist(), map(book.verdict, self._keys(arrays, rows)), strict=True)
        return {row: verdict for row, verdict in found if verdict is not None}

    def _apply(
        self, new: Arrays, hits: Mapping[int, Verdict], held: Arrays, known: Known
    ) -> NDArray[np.bool_]:
        """Change new rows to what is known of them; returns which of them are there already."""
        again = np.zeros(len(new[0]), bool)
        if not hits:
            return again
        numbers = {number for verdict in hits.values() for number in verdict.numbers}
        rows = self._with_numbers(held, numbers)
        there = {verdict.root for verdict in self._find(held, rows, known.book).values()}
        fresh: list[int] = []
        for row, verdict in hits.items():
            again[row] = verdict.root in there
            if not again[row]:
                there.add(verdict.root)
                fresh.append(row)
        rows = np.array(fresh, np.intp)
        changed = self._values(new, rows, [hits[row] for row in fresh], known)
        for i, values in enumerate(changed):
            # Codes of conditions that are new may not fit into the array.
            new[i] = new[i].astype(np.promote_types(new[i].dtype, values.dtype))
            new[i][rows] = values
        return again

    def _settle(
        self, held: Arrays, concerned: set[TradeKey], known: Known
    ) -> tuple[Rows, Arrays, Rows]:
        """Rows that change because of what is known of these trades, and what they become.

        The third are all rows of these trades.
        """
        rows = self._with_numbers(held, {key.trade_id for key in concerned})
        trades: dict[TradeKey, list[tuple[int, TradeKey, Verdict]]] = {}
        for row, key in zip(rows.tolist(), self._keys(held, rows), strict=True):
            verdict = known.book.verdict(key) if key in concerned else None
            if verdict is not None:
                trades.setdefault(verdict.root, []).append((row, key, verdict))
        chosen, verdicts = [], []
        for found in trades.values():
            # Where the trade came under both its numbers, one of the rows stands for it.
            final = found[0][2].key
            standing = next((row for row, key, _ in found if key == final), found[0][0])
            for row, _, verdict in found:
                if row != standing:
                    verdict = replace(verdict, terms=None, label=_void_label(verdict.label))
                chosen.append(row)
                verdicts.append(verdict)
        seen = np.array(chosen, np.intp)
        values = self._values(held, seen, verdicts, known)
        changes = differ(values, _taken(held, seen), range(len(values)))
        return seen[changes], _only(values, changes), seen

    def _values(
        self, arrays: Arrays, rows: Rows, verdicts: Sequence[Verdict], known: Known
    ) -> Arrays:
        """What rows become by what is known of them; notes that they were found."""
        values, at = _taken(arrays, rows), self._at
        keys = self._keys(arrays, rows)
        texts = self._store.names(at["conditions"])
        numbers, prices, sizes, times = (
            values[at[name]].tolist() for name in ("trade_id", "price", "size", "timestamp")
        )
        conditions = [texts[code] for code in values[at["conditions"]].tolist()]
        labels = [AMENDED[code] for code in values[at["amended"]].tolist()]
        for i, verdict in enumerate(verdicts):
            note_match(
                known.log,
                verdict.notices,
                keys[i],
                timestamp=times[i],
                price=prices[i],
                size=sizes[i],
            )
            labels[i] = verdict.label
            if verdict.terms is not None:
                numbers[i], prices[i], sizes[i], conditions[i] = verdict.terms
        encode = self._store.encode
        values[at["trade_id"]] = encode(at["trade_id"], numbers)
        values[at["price"]] = encode(at["price"], prices)
        values[at["size"]] = encode(at["size"], sizes)
        values[at["conditions"]] = encode(at["conditions"], [[text] for text in conditions])
        values[at["amended"]] = encode(at["amended"], labels)
        return values

    def _corrected_in_place(
        self, new: Arrays, held: Arrays, pairs: Rows, corrected: Collection[int]
    ) -> tuple[Rows, Arrays]:
        """Rows held that history gives the same number and other values, as corrected."""
        ours = np.array([i for i in corrected if pairs[i] >= 0], np.intp)
        rows = pairs[ours]
        fresh = held[self._at["amended"]][rows] == 0
        rows, values = rows[fresh], _taken(new, ours[fresh])
        for name in ("received", "source"):
            values[self._at[name]] = held[self._at[name]][rows]
        return rows, values

    def _with_numbers(self, arrays: Arrays, numbers: Collection[int]) -> Rows:
        wanted = np.array(list(numbers), np.uint64)
        return np.flatnonzero(is_in(arrays[self._at["trade_id"]], wanted))

    def _notice(
        self, arrays: Arrays, row: int, key: TradeKey, label: str, received_ns: int
    ) -> Notice:
        return Notice(
            label=label,
            key=key,
            timestamp=int(arrays[self._at["timestamp"]][row]),
            received_ns=received_ns,
            old_price=float(arrays[self._at["price"]][row]),
            old_size=int(arrays[self._at["size"]][row]),
        )


def _void_label(label: str) -> str:
    return label if label in VOID else "incorrect"


# -- bars --------------------------------------------------------------------------------

_IsLate = Callable[[Rows, Rows], NDArray[np.bool_]]
"""Of some pairs of a row held and a new one, where the new one is the older word."""


class BarRules(Rules):
    """Those of minute bars: one per symbol and minute, and the last word on it stands."""

    extra = (*RECEIVED, _AMENDED_COLUMN)

    def take(self, new: Arrays, held: Snapshot, groups: Groups, newest: AnyArray) -> Plan:
        """What to do with bars that a stream brought, each of which is the first word."""
        if is_younger(groups, newest):
            return Plan(new, self.known)
        there = _arrays(held)

        def is_late(rows: Rows, ours: Rows) -> NDArray[np.bool_]:
            """A first word after a second one, or after history that knew as much."""
            late: NDArray[np.bool_] = there[self._at["source"]][rows] == _BACKFILL
            for name in ("trade_count", "volume"):
                late &= there[self._at[name]][rows] >= new[self._at[name]][ours]
            late |= there[self._at["amended"]][rows] != 0
            return late

        return self._overlay(new, there, is_late)[1]

    def fill(
        self,
        new: Arrays,
        held: Arrays,
        marks: Mapping[int, str],
        *,
        received_ns: int,
        asked_ns: int,
    ) -> tuple[NDArray[np.bool_], Plan]:
        """Which of the bars from history to store; those held follow it."""

        def is_late(rows: Rows, ours: Rows) -> NDArray[np.bool_]:
            """It was overruled while the answer was on its way, or had hardly been."""
            values = self._values_of(new, ours)
            before_ns, overruled = asked_ns - _LATE_NS, self.known.overruled
            return np.array([overruled.get(value, before_ns) > before_ns for value in values], bool)

        keep, plan = self._overlay(new, held, is_late)
        # Only the stream overrules: what history replaces may be what it has next time.
        plan.known.overruled = self.known.overruled
        return keep, plan

    def amend(self, new: Arrays, held: Arrays) -> Plan:
        """What to do with bars that were sent anew."""
        new[self._at["amended"]][:] = _UPDATED
        return self._overlay(new, held, None)[1]

    def replaced(self, arrays: Arrays, new: Arrays) -> tuple[Rows, Arrays]:
        """Which of some other rows the new bars replace, and by what."""
        pairs = self.identity.pair(arrays, new)
        # Of several that replace one, the last stands.
        by_row = {row: i for i, row in enumerate(pairs.tolist()) if row >= 0}
        ours = np.array(list(by_row.values()), np.intp)
        theirs = np.array(list(by_row), np.intp)
        return theirs, self._in_place(new, ours, arrays, theirs)

    def _identity(self) -> Identity:
        return Identity(self._record, (self._at["timestamp"], self._at["symbol"]))

    def _overlay(
        self, new: Arrays, held: Arrays, is_late: _IsLate | None
    ) -> tuple[NDArray[np.bool_], Plan]:
        """Store bars of minutes that are not held, and let the others replace those held.

        `is_late` says which of some pairs of a row held and a new one leave the held one.
        Without, new bars always stand. Of several bars of one minute here, the first gets the
        values of the last.
        """
        ones, changed_here = self._unite(new)
        pairs = self.identity.pair(held, new)
        keep = np.zeros(len(pairs), bool)
        keep[ones[pairs[ones] < 0]] = True
        ours = ones[pairs[ones] >= 0]
        rows = pairs[ours]
        columns = [*self._record] if is_late else [*self._record, self._at["amended"]]
        better = differ(_taken(held, rows), _taken(new, ours), columns)
        if is_late is not None:
            better &= ~is_late(rows, ours)
        rows, ours = rows[better], ours[better]
        values = self._in_place(new, ours, held, rows)
        known = self._note(held, rows, values, new[self._at["received"]][ours])
        duplicates = len(pairs) - int(keep.sum()) - len(rows) - changed_here
        plan = Plan(
            _only(new, keep),
            known,
            rows,
            values,
            duplicates=duplicates,
            amended=len(rows) + int((new[self._at["amended"]][keep] != 0).sum()),
            pairs=pairs[pairs >= 0],
        )
        return keep, plan

    def _unite(self, new: Arrays) -> tuple[Rows, int]:
        """Give the first bar of each minute the values of the last.

        Returns these first ones, and how many of them changed.
        """
        everything = np.arange(len(new[0]))
        first: dict[Any, int] = {}
        last: dict[int, int] = {}
        for i, key in enumerate(self.identity.keys(new, everything)):
            last[first.setdefault(key, i)] = i
        ones = np.array(list(last), np.intp)
        if len(ones) == len(everything):
            return ones, 0
        lasts = np.array(list(last.values()), np.intp)
        differs = differ(_taken(new, ones), _taken(new, lasts), self._record)
        for i in self._record:
            new[i][ones] = new[i][lasts]
        new[self._at["amended"]][ones[differs]] = _UPDATED
        return ones, int(differs.sum())

    def _in_place(self, new: Arrays, ours: Rows, held: Arrays, rows: Rows) -> Arrays:
        values = _taken(new, ours)
        for name in ("received", "source"):
            values[self._at[name]] = held[self._at[name]][rows]
        values[self._at["amended"]] = np.full_like(values[self._at["amended"]], _UPDATED)
        return values

    def _note(self, held: Arrays, rows: Rows, values: Arrays, received_ns: AnyArray) -> Known:
        if not len(rows):
            return self.known
        known, before = self.known.copy(), _taken(held, rows)
        symbols = self._store.names(self._at["symbol"])
        for i, was in enumerate(self._values_of(before, np.arange(len(rows)))):
            known.overruled[was] = at_ns = int(received_ns[i])
            old, new = ({n: each[self._at[n]][i] for n in _LOGGED} for each in (before, values))
            known.log.put(
                (was, self._values_of(values, np.array([i]))[0]),
                Amendment(
                    time_ns=at_ns,
                    symbol=symbols[old["symbol"]],
                    kind="updated",
                    timestamp=int(old["timestamp"]),
                    exchange="",
                    trade_id=0,
                    old_price=float(old["close"]),
                    old_size=int(old["volume"]),
                    new_price=float(new["close"]),
                    new_size=int(new["volume"]),
                    matched=True,
                ),
            )
        forget_oldest(known.overruled)
        return known

    def _values_of(self, arrays: Arrays, rows: Rows) -> list[Any]:
        return Identity(self._record).keys(arrays, rows)


_LOGGED: Final = ("symbol", "timestamp", "close", "volume")


# -- which rules, and arrays -------------------------------------------------------------

_RULES: Final[dict[str, type[Rules]]] = {
    "quotes": QuoteRules,
    "trades": TradeRules,
    "bars": BarRules,
}


def rules_of(channel: str) -> type[Rules]:
    """The rules of a channel, by its name."""
    return _RULES.get(channel, Rules)


def _arrays(rows: Snapshot) -> Arrays:
    return [rows[column.name] for column in rows.columns]


def _taken(arrays: Sequence[AnyArray], rows: Rows) -> Arrays:
    return [values[rows] for values in arrays]


def _only(arrays: Sequence[AnyArray], which: NDArray[np.bool_]) -> Arrays:
    return [values[which] for values in arrays]


def _joined(first: Arrays, second: Arrays) -> Arrays:
    return [np.concatenate(pair) for pair in zip(first, second, strict=True)]
