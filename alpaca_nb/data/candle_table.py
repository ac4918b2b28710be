"""Candles of any number of symbols by interval: where each is, and what changed when."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from alpaca_nb.data.aggregate import Ints, Parts, Sums
from alpaca_nb.data.columns import TIME_ZONE, AnyArray, Column, Kind

if TYPE_CHECKING:
    import pandas as pd

STATES: Final = ("provisional", "final", "updated")
"""What a candle is: one that still grows, one whose interval is over, and one that was over
and then changed."""

COLUMNS: Final = (
    Column("timestamp", Kind.TIME),
    Column("symbol", Kind.CATEGORY),
    Column("open", Kind.FLOAT),
    Column("high", Kind.FLOAT),
    Column("low", Kind.FLOAT),
    Column("close", Kind.FLOAT),
    Column("volume", Kind.INT),
    Column("trade_count", Kind.INT),
    Column("vwap", Kind.FLOAT),
    Column("state", Kind.CATEGORY, STATES),
)

PRICES: Final = ("open", "high", "low", "close", "volume", "trade_count", "vwap")
LONG_AGO: Final = -(1 << 62)
_NEVER: Final = 1 << 62
_SYMBOL: Final = (1 << 30) - 1
"""The bits of a key that are the code of the symbol."""


# -- candles of one moment ---------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Candles:
    """Candles of one moment, ordered by time and then by symbol. Nobody writes to them.

    Read like a snapshot of a frame: columns by name, times as nanoseconds (the left edge of the
    interval), texts as codes. Ask for what changed later with `version`. When `epoch` is
    another than before, candles are gone or codes mean something else: start again.
    """

    version: int
    epoch: int
    missed: int
    """Trades that the frame had dropped before they could be counted."""
    _arrays: dict[str, AnyArray]
    _symbols: tuple[str, ...]

    columns = COLUMNS

    def __len__(self) -> int:
        return len(self._arrays["timestamp"])

    def __repr__(self) -> str:
        return f"Candles({len(self)} rows, version {self.version})"

    def __getitem__(self, name: str) -> AnyArray:
        """The values of a column, read-only; KeyError for an unknown name."""
        return self._arrays[name]

    def categories(self, name: str) -> tuple[str, ...]:
        """The texts behind the codes of `symbol` or `state`; KeyError for other columns."""
        return {"symbol": self._symbols, "state": STATES}[name]

    def code(self, name: str, category: str) -> int:
        """The code of a text, or -1 if there is none."""
        names = self.categories(name)
        return names.index(category) if category in names else -1

    def of(self, symbol: str) -> Candles:
        """Those of one symbol."""
        rows = self["symbol"] == self.code("symbol", symbol)
        return replace(self, _arrays={name: self[name][rows] for name in self._arrays})

    def to_frame(self) -> pd.DataFrame:
        """A DataFrame of its own; the index `timestamp` is the left edge in New York's time."""
        import pandas as pd

        data: dict[str, Any] = {}
        for column in COLUMNS[1:]:
            data[column.name] = self[column.name]
            if column.kind.is_coded:
                dtype = pd.CategoricalDtype(pd.Index(self.categories(column.name), dtype="str"))
                data[column.name] = pd.Categorical.from_codes(data[column.name], dtype=dtype)
        zone = pd.DatetimeTZDtype("ns", TIME_ZONE)
        index = pd.DatetimeIndex(self["timestamp"], dtype=zone, name="timestamp")
        return pd.DataFrame(data, index=index)


# -- where they are ----------------------------------------------------------------------

_PER_CANDLE: Final = ("_keys", "_left", "_right", "_changed", "_was_updated")


class CandleTable:
    """Candles that change, numbered in the order of their creation.

    The newest `maxlen` are kept. For one thread at a time.
    """

    def __init__(self, *, late_ns: int, maxlen: int) -> None:
        self.version = 0
        """What is changed now is noted as changed in this version."""
        self._late_ns = late_ns
        self._maxlen = maxlen
        self._place: dict[int, int] = {}
        self._count = 0
        self._keys = np.empty(0, np.int64)
        self._left = np.empty(0, np.int64)
        self._right = np.empty(0, np.int64)
        self._changed = np.empty(0, np.int64)
        self._was_updated = np.empty(0, bool)
        self._sums = Sums.empty(0)
        # What rows added that the frame holds no more.
        self._gone = Sums.empty(0)
        # Those that are not final, and the first end of one of them.
        self._running = np.empty(0, np.intp)
        self._next_end = _NEVER
        # Candles whose keys are less than this were dropped.
        self._oldest = LONG_AGO

    def add(self, parts: Parts) -> None:
        """Let trades that stand behind all others change their candles."""
        parts = self._without_dropped(parts)
        at = self._places(parts)
        self._sums.add(at, parts.sums)
        self._changed[at] = self.version
        self._was_updated[at] |= parts.late

    def keep(self, parts: Parts) -> None:
        """Note what trades have added that cannot be read again, to be able to `renew` the rest."""
        at = self._at(parts.keys)
        known = at >= 0
        self._gone.add(at[known], parts.sums.take(known))

    def renew(self, keys: Ints, parts: Parts, *, newest: int) -> bool:
        """Make candles anew; `parts` are all that their trades that are held add to them.

        `newest` is the time stamp up to which candles were told before. Returns whether one of
        them is no more.
        """
        parts = self._without_dropped(parts)
        at = self._at(keys)
        held, first = at[at >= 0], self._count
        told = self._sums.take(held)
        self._sums.put(held, self._gone.take(held))
        at = self._places(parts)
        self._sums.add(at, parts.sums)
        self._was_updated[at] |= parts.late
        now = self._sums.take(held)
        changed = np.append(held[now.differ(told)], np.arange(first, self._count))
        self._changed[changed] = self.version
        self._was_updated[changed] |= self._right[changed] <= newest - self._late_ns
        return bool((told.complete & ~now.complete).any())

    def settle(self, newest: int) -> None:
        """Note which have become final now that this time stamp was seen; drop the oldest."""
        final_ns = newest - self._late_ns
        if self._next_end <= final_ns:
            ends = self._right[self._running]
            over = ends <= final_ns
            self._changed[self._running[over]] = self.version
            self._running = self._running[~over]
            self._next_end = int(ends[~over].min()) if len(self._running) else _NEVER
        # Now and then many at once, because all others get new numbers.
        if self._count > self._maxlen + max(self._maxlen // 4, 1_000):
            self._forget_oldest()

    def arrays(self, since: int, *, newest: int) -> dict[str, AnyArray]:
        """The columns of candles that changed after a version, by time and symbol; copied."""
        count = self._count
        chosen = self._sums.complete[:count]
        if since >= 0:
            chosen &= self._changed[:count] > since
        at = np.flatnonzero(chosen)
        at = at[self._keys[at].argsort(kind="stable")][-self._maxlen :]
        sums, is_final = self._sums.take(at), self._right[at] <= newest - self._late_ns
        arrays: dict[str, AnyArray] = {
            "timestamp": self._left[at],
            "symbol": (self._keys[at] & _SYMBOL).astype(np.int32),
            **{name: getattr(sums, name) for name in PRICES},
            "state": np.where(self._was_updated[at], 2, is_final).astype(np.int8),
        }
        for values in arrays.values():
            values.flags.writeable = False
        return arrays

    def _at(self, keys: Ints) -> NDArray[np.intp]:
        """The numbers of candles, -1 for those that are not there."""
        place = self._place
        return np.array([place.get(key, -1) for key in keys.tolist()], np.intp)

    def _without_dropped(self, parts: Parts) -> Parts:
        if self._oldest == LONG_AGO:
            return parts
        return parts.take(np.flatnonzero(parts.keys >= self._oldest))

    def _places(self, parts: Parts) -> NDArray[np.intp]:
        """The numbers of the candles of these parts, made where they are not there yet."""
        keys = parts.keys
        at = self._at(keys)
        new = np.flatnonzero(at < 0)
        if not len(new):
            return at
        first, self._count = self._count, self._count + len(new)
        self._make_room()
        numbers = np.arange(first, self._count)
        at[new] = numbers
        self._place.update(zip(keys[new].tolist(), numbers.tolist(), strict=True))
        self._keys[numbers], self._left[numbers] = keys[new], parts.left[new]
        self._right[numbers] = parts.right[new]
        self._changed[numbers] = self.version
        self._running = np.concatenate([self._running, numbers])
        self._next_end = min(self._next_end, int(parts.right[new].min()))
        return at

    def _make_room(self) -> None:
        if self._count <= len(self._keys):
            return
        capacity = max(2 * len(self._keys), self._count, 256)
        for name in _PER_CANDLE:
            values = getattr(self, name)
            grown = np.zeros(capacity, values.dtype)
            grown[: len(values)] = values
            setattr(self, name, grown)
        self._sums, self._gone = self._sums.grown(capacity), self._gone.grown(capacity)

    def _forget_oldest(self) -> None:
        count = self._count
        kept = np.sort(self._keys[:count].argsort(kind="stable")[-self._maxlen :])
        number = np.full(count, -1)
        number[kept] = np.arange(len(kept))
        running = number[self._running]
        self._running = running[running >= 0]
        for name in _PER_CANDLE:
            setattr(self, name, getattr(self, name)[kept])
        self._sums, self._gone = self._sums.take(kept), self._gone.take(kept)
        self._count, self._oldest = len(kept), int(self._keys.min())
        self._place = dict(zip(self._keys.tolist(), range(len(kept)), strict=True))
