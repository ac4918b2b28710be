"""Typed, append-only, bounded storage: rows are written in bulk, read without a lock.

A store keeps one array per column in a block. Rows are written past the end and what was
written never changes, so a snapshot is a view of the first n rows: it costs the same at
any length, needs no lock and stays valid for ever. When a block is full, the rows that
retention keeps move to a new block; old snapshots keep the old one alive.
"""

from __future__ import annotations

import copy
import functools
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar, get_args, get_origin

import msgspec
import numpy as np
from numpy.typing import NDArray

from alpaca_nb.wire.codec import times_ns
from alpaca_nb.wire.messages import Message

if TYPE_CHECKING:
    import pandas as pd

# pandas is imported where a DataFrame is made: a kernel that only shows a table never
# pays for it.

AnyArray = NDArray[Any]
"""The values of one column; categories as their codes."""

TIME_ZONE: Final = "America/New_York"
"""The zone DataFrames show; the store itself holds UTC."""


class Kind(Enum):
    """What a column holds, and so how it is stored."""

    TIME = "int64, nanoseconds since 1970 in UTC"
    FLOAT = "float64"
    INT = "int64"
    IDENTIFIER = "uint64"
    CATEGORY = "text as a code"
    LABELS = "a list of texts, joined by commas, as one code"

    @property
    def is_coded(self) -> bool:
        """Whether the stored values are codes of categories."""
        return self in (Kind.CATEGORY, Kind.LABELS)


@dataclass(frozen=True, slots=True)
class Column:
    """A column's name and kind; `categories` are those a coded one starts with."""

    name: str
    kind: Kind
    categories: tuple[str, ...] = ()


# -- from message types to columns -------------------------------------------------------

_READING_ORDER: Final = (
    "symbol", "price", "size", "bid_price", "bid_size", "ask_price", "ask_size",
    "bid_exchange", "ask_exchange", "exchange",
)  # fmt: skip
"""What people look for first; every other field follows in the order of its message."""


def columns_of(message: type[Message[Any]]) -> tuple[Column, ...]:
    """The columns of a message type: `timestamp` first, then the fields in reading order."""
    kinds = {field.name: _kind_of(field.type) for field in msgspec.structs.fields(message)}
    leading = [name for name in ("timestamp", *_READING_ORDER) if name in kinds]
    names = dict.fromkeys([*leading, *kinds])
    return tuple(Column(name, kinds[name]) for name in names)


def _kind_of(field_type: Any) -> Kind:
    if isinstance(field_type, TypeVar):
        return Kind.TIME
    if get_origin(field_type) is Annotated:
        plain, meta = get_args(field_type)[:2]
        return Kind.IDENTIFIER if getattr(meta, "title", "") == "identifier" else _kind_of(plain)
    return _KIND_OF_TYPE[field_type]


_KIND_OF_TYPE: Final[dict[Any, Kind]] = {
    float: Kind.FLOAT,
    int: Kind.INT,
    str: Kind.CATEGORY,
    list[str]: Kind.LABELS,
}


# -- categories --------------------------------------------------------------------------


class Categories:
    """The texts behind a column's codes, as of one moment."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    @functools.cached_property
    def codes(self) -> dict[str, int]:
        """The code of each text."""
        return {name: code for code, name in enumerate(self.names)}

    @functools.cached_property
    def dtype(self) -> pd.CategoricalDtype:
        """The same for pandas; made once, because thousands of names take milliseconds."""
        import pandas as pd

        return pd.CategoricalDtype(pd.Index(self.names, dtype="str"))


class Vocabulary:
    """Texts numbered in the order they first occurred; numbers are never given twice."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._codes = Codes()
        self.encode(names)
        self._categories = Categories(tuple(self._codes))

    def encode(self, names: Iterable[str]) -> AnyArray:
        """The codes of the texts; new texts get the next ones. TypeError for what is no text."""
        codes = list(map(self._codes.__getitem__, names))
        return np.array(codes, self.code_type)

    @property
    def code_type(self) -> type[np.signedinteger[Any]]:
        """The smallest type for all codes, by the rule of pandas, which else would copy."""
        return _code_type(len(self._codes))

    @property
    def categories(self) -> Categories:
        """What the codes mean now."""
        if len(self._categories.names) != len(self._codes):
            self._categories = Categories(tuple(self._codes))
        return self._categories


class Codes(dict[str, int]):
    """A dictionary that numbers a text when it is first asked for."""

    def __missing__(self, name: str) -> int:
        if not isinstance(name, str):
            raise TypeError(f"a category is text, not {type(name).__name__}")
        code = self[name] = len(self)
        return code


def _code_type(count: int) -> type[np.signedinteger[Any]]:
    if count < np.iinfo(np.int8).max:
        return np.int8
    return np.int16 if count < np.iinfo(np.int16).max else np.int32


# -- one moment of a store ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tally:
    """What has become of the messages handed in, from the first one on."""

    taken: int = 0
    """Messages dealt with, whatever became of them; those that fill a gap are not among them."""
    rejected: int = 0
    """Messages whose values no column could hold."""
    duplicates: int = 0
    """Messages that repeated a row held, or one another."""
    filled: int = 0
    """Rows that filled a gap."""
    amended: int = 0
    """Changes of rows by a correction, a cancellation or a newer bar."""

    def plus(
        self,
        *,
        taken: int = 0,
        rejected: int = 0,
        duplicates: int = 0,
        filled: int = 0,
        amended: int = 0,
    ) -> Tally:
        """The tally after more of it."""
        return Tally(
            self.taken + taken,
            self.rejected + rejected,
            self.duplicates + duplicates,
            self.filled + filled,
            self.amended + amended,
        )


@dataclass(frozen=True, slots=True)
class _Block:
    """One array per column, all of one length; row i has position `first` + i."""

    arrays: tuple[AnyArray, ...]
    first: int

    @property
    def capacity(self) -> int:
        return len(self.arrays[0])


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Snapshot:
    """Rows of one moment. Immutable, valid for ever, readable from any thread.

    A position counts the rows ever appended, so it stays true while retention drops rows.
    `first` (included) to `last` (excluded) are the positions these rows speak for: all of
    their rows or, as in `of` and `LiveFrame.latest_rows`, those that were asked for. Go on
    reading at `last`. Codes of categories keep their meaning, and rows once read stay
    true, until `epoch` changes; then start again from nothing.
    """

    columns: tuple[Column, ...]
    first: int
    last: int
    epoch: int
    tally: Tally
    """What has become of all messages up to here."""
    dropped: int
    """Rows that retention has dropped in this epoch."""
    missed: int
    """Rows that `since` was asked for but retention had dropped."""
    _block: _Block
    _start: int
    _stop: int
    _categories: tuple[Categories | None, ...]
    _positions: NDArray[np.int64] | None = None
    """The position of each row, where they do not follow each other."""

    def __len__(self) -> int:
        return self._stop - self._start

    def __repr__(self) -> str:
        return f"Snapshot({len(self)} rows, positions {self.first} to {self.last})"

    def __getitem__(self, name: str) -> AnyArray:
        """The values of a column, read-only and not copied; KeyError for an unknown name.

        Times are int64 nanoseconds in UTC, categories are their codes.
        """
        return self._values(self._index(name))

    def categories(self, name: str) -> tuple[str, ...]:
        """The texts behind a coded column's codes; later snapshots only add to them."""
        return self._coded(name).names

    def code(self, name: str, category: str) -> int:
        """The code of a text in a coded column, or -1 if it has not occurred."""
        return self._coded(name).codes.get(category, -1)

    def since(self, position: int) -> Snapshot:
        """The rows from `position` on; `missed` says how many of them are gone.

        A position that is still to come gives no rows and is kept as the place to go on.
        """
        first = max(position, self.first)
        missed = max(0, self.first - position)
        rest = replace(self, first=first, last=max(first, self.last), missed=missed)
        if self._positions is not None:
            return rest._only(np.flatnonzero(self._positions >= first), self._positions)
        return replace(rest, _start=min(self._start + first - self.first, self._stop))

    def tail(self, rows: int) -> Snapshot:
        """The last `rows` rows, or all if there are fewer."""
        skipped = max(0, len(self) - rows)
        if self._positions is not None:
            return self._only(np.arange(skipped, len(self)), self._positions)
        return replace(self, first=self.first + skipped, _start=self._start + skipped)

    def of(self, symbol: str) -> Snapshot:
        """The rows of one symbol, copied; they speak for the same positions."""
        rows = np.flatnonzero(self["symbol"] == self.code("symbol", symbol))
        if self._positions is not None:
            return self._only(rows, self._positions)
        return self._only(rows, np.arange(self.first, self.first + len(self)))

    def to_frame(self) -> pd.DataFrame:
        """A DataFrame on the same memory: nothing is copied until somebody writes to it.

        The index is `timestamp` in New York's time; times stay exact to the nanosecond.
        """
        import pandas as pd

        data: dict[str, Any] = {}
        for i, column in enumerate(self.columns):
            data[column.name] = self._pandas_values(i)
        index = pd.DatetimeIndex(data.pop("timestamp"), name="timestamp", copy=False)
        return _copied_on_write(pd.DataFrame(data, index=index, copy=False))

    def _only(self, rows: NDArray[np.intp], positions: NDArray[np.int64]) -> Snapshot:
        """Copies of some rows; `positions` are those of all rows here."""
        arrays = tuple(self._values(i)[rows] for i in range(len(self.columns)))
        return replace(
            self,
            _block=_Block(arrays, self.first),
            _start=0,
            _stop=len(rows),
            _positions=positions[rows],
        )

    def _pandas_values(self, i: int) -> Any:
        import pandas as pd

        values, categories = self._values(i), self._categories[i]
        if categories is not None:
            return pd.Categorical.from_codes(values, dtype=categories.dtype, validate=False)
        if self.columns[i].kind is Kind.TIME:
            dtype = pd.DatetimeTZDtype("ns", TIME_ZONE)
            return pd.DatetimeIndex(values, dtype=dtype, copy=False).array
        return values

    def _values(self, i: int) -> AnyArray:
        view = self._block.arrays[i][self._start : self._stop]
        view.flags.writeable = False
        return view

    def _index(self, name: str) -> int:
        for i, column in enumerate(self.columns):
            if column.name == name:
                return i
        raise KeyError(name)

    def _coded(self, name: str) -> Categories:
        categories = self._categories[self._index(name)]
        if categories is None:
            raise KeyError(f"{name} is a column of numbers and has no categories")
        return categories


def _copied_on_write(frame: pd.DataFrame) -> pd.DataFrame:
    """Tell pandas that the frame's memory is shared, so that a write copies it first.

    pandas copies before a write if another object refers to the same memory, but it can
    only count its own objects: on memory of ours it would try to write in place, and fail
    because our views are read-only. So we enter one that is never freed.
    """
    for block in frame._mgr.blocks:
        block.refs.add_reference(_reader_of_everything())
    return frame


@functools.cache
def _reader_of_everything() -> Any:
    import pandas as pd

    return pd.DataFrame({"": [0]})._mgr.blocks[0]


# -- the store ---------------------------------------------------------------------------

_SMALLEST_BLOCK: Final = 1024


@dataclass(frozen=True, slots=True)
class Change:
    """Rows to put between those held, and other values for some that are held.

    Rows are counted among those held, from 0; the arrays are encoded, one per column.
    """

    new: Sequence[AnyArray]
    at: NDArray[np.intp]
    """For each new row, in ascending order, before which row it stands; the number of rows
    held is the end."""
    rows: NDArray[np.intp]
    """Those that change, each once."""
    values: Sequence[AnyArray]
    """What they are to be, in the same order."""

    def placed(self, now: Snapshot, *, maxlen: int) -> Placed:
        """Where the rows come to stand when no more than `maxlen` are kept.

        The oldest go. A new row that would be one of them is not taken in, so that it costs
        no row that is newer.
        """
        held, added = len(now), len(self.at)
        gone = max(held + added - maxlen, 0)
        unfit = int(np.count_nonzero(self.at + np.arange(added) < gone))
        dropped, at = gone - unfit, self.at[unfit:]
        return Placed(
            first=now.first + dropped,
            last=now.last + added - unfit,
            dropped=dropped,
            unfit=unfit,
            targets=at - dropped + np.arange(len(at)),
            before=at - dropped,
        )


@dataclass(frozen=True, slots=True)
class Placed:
    """Where the rows of a change come to stand. Row 0 is then the one with position `first`."""

    first: int
    last: int
    dropped: int
    """Rows held that go, from the front."""
    unfit: int
    """New rows that are not taken in, from the front."""
    targets: NDArray[np.intp]
    """The rows that the new ones become."""
    before: NDArray[np.intp]

    def moved(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """The rows that these rows become; negative for those that go."""
        kept = rows - self.dropped
        return np.where(kept < 0, kept, kept + np.searchsorted(self.before, kept, side="right"))


class ColumnStore:
    """Bounded columns with one writer and any number of readers.

    A writer encodes values (`encode`) and appends the arrays (`append`); readers take
    `snapshot()`. The only thing that ever changes is which snapshot is the current one,
    and that is a single assignment after its rows are written: a writer that is
    interrupted half-way has changed nothing, and can do the same again.

    Rows that were once visible are never written to. To change them, or to put others
    between them, `changed` makes a snapshot on other memory, and `publish` makes it visible.
    """

    def __init__(self, columns: Sequence[Column], *, maxlen: int) -> None:
        self.columns = tuple(columns)
        self.maxlen = maxlen
        self._max_capacity = max(2 * maxlen, _SMALLEST_BLOCK)
        self._snapshot: Snapshot
        self._restart(first=0, epoch=0, tally=Tally())

    def snapshot(self) -> Snapshot:
        """The rows held now. Costs the same at any length; needs no lock."""
        return self._snapshot

    def encode(self, i: int, values: Sequence[Any]) -> AnyArray:
        """Values of column `i` as they are stored.

        Raises TypeError, ValueError or OverflowError if any of them cannot be stored.
        """
        kind = self.columns[i].kind
        if kind is Kind.CATEGORY:
            return self._vocabularies[i].encode(values)
        if kind is Kind.LABELS:
            return self._vocabularies[i].encode(map(",".join, values))
        return encode_numbers(kind, values)

    def encode_texts(self, i: int, texts: Iterable[str]) -> AnyArray:
        """The codes of texts in coded column `i`; labels joined by commas."""
        return self._vocabularies[i].encode(texts)

    def names(self, i: int) -> tuple[str, ...]:
        """The texts behind all codes of column `i` that `encode` has given."""
        return self._vocabularies[i].categories.names

    def append(self, arrays: Sequence[AnyArray], *, tally: Tally | None = None) -> None:
        """Write rows, one encoded array per column, and make them visible all at once.

        The tally becomes visible with them.
        """
        self.publish(self.appended(arrays, tally=tally))

    def appended(self, arrays: Sequence[AnyArray], *, tally: Tally | None = None) -> Snapshot:
        """The rows after others were written behind them; nobody sees them before `publish`."""
        now = self._snapshot
        block, stop = self._widened(now._block), now._stop
        # A piece never exceeds what is retained, so every piece fits into one block.
        for begin in range(0, len(arrays[0]), self.maxlen):
            piece = [values[begin : begin + self.maxlen] for values in arrays]
            block, stop = self._with_room(block, stop, len(piece[0]))
            _write(block, stop, piece)
            stop += len(piece[0])
        start = max(stop - self.maxlen, 0)
        return replace(
            now,
            first=block.first + start,
            last=block.first + stop,
            tally=tally or now.tally,
            dropped=now.dropped + block.first + start - now.first,
            _block=block,
            _start=start,
            _stop=stop,
            _categories=self._categories(),
        )

    def changed(self, change: Change, placed: Placed, *, tally: Tally) -> Snapshot:
        """The rows after a change, in a new epoch; nobody sees them before `publish`.

        `placed` is what `change.placed` says of the rows held now.
        """
        now = self._snapshot
        base = self._widened(now._block)
        if len(placed.targets):
            block, start = self._inserted(base, change, placed), 0
        else:
            block, start = base, now._start + placed.dropped
        block = _rewritten(block, start, start + placed.last - placed.first, change, placed)
        return replace(
            now,
            first=placed.first,
            last=placed.last,
            epoch=now.epoch + 1,
            tally=tally,
            dropped=now.dropped + placed.dropped,
            _block=block,
            _start=start,
            _stop=start + placed.last - placed.first,
            _categories=self._categories(),
        )

    def publish(self, snapshot: Snapshot) -> None:
        """Make a snapshot from `appended` or `changed` the current one.

        Nothing else may have been published in between.
        """
        self._snapshot = snapshot

    def clear(self) -> None:
        """Forget all rows and categories. Positions go on; the epoch changes."""
        now = self._snapshot
        self._restart(first=now.last, epoch=now.epoch + 1, tally=now.tally)

    def _restart(self, *, first: int, epoch: int, tally: Tally) -> None:
        self._vocabularies = {
            i: Vocabulary(column.categories)
            for i, column in enumerate(self.columns)
            if column.kind.is_coded
        }
        capacity = min(_SMALLEST_BLOCK, self._max_capacity)
        block = _Block(tuple(np.empty(capacity, self._dtype(i)) for i in self._all()), first)
        self._snapshot = Snapshot(
            columns=self.columns,
            first=first,
            last=first,
            epoch=epoch,
            tally=tally,
            dropped=0,
            missed=0,
            _block=block,
            _start=0,
            _stop=0,
            _categories=self._categories(),
        )

    def _all(self) -> range:
        return range(len(self.columns))

    def _categories(self) -> tuple[Categories | None, ...]:
        known = self._vocabularies
        return tuple(known[i].categories if i in known else None for i in self._all())

    def _dtype(self, i: int) -> type[np.generic]:
        coded = self._vocabularies.get(i)
        return coded.code_type if coded is not None else _DTYPES[self.columns[i].kind]

    def _with_room(self, block: _Block, stop: int, rows: int) -> tuple[_Block, int]:
        """A block with room for `rows` more and its end: this one, or one that follows it."""
        if stop + rows <= block.capacity:
            return block, stop
        kept = min(stop, self.maxlen - rows)
        capacity = min(max(2 * block.capacity, kept + rows), self._max_capacity)
        tail = slice(stop - kept, stop)
        arrays = tuple(_moved(values[tail], capacity, values.dtype) for values in block.arrays)
        return _Block(arrays, block.first + stop - kept), kept

    def _inserted(self, base: _Block, change: Change, placed: Placed) -> _Block:
        """A new block with the rows that stay and the new ones between them, from index 0."""
        now, total = self._snapshot, placed.last - placed.first
        held = slice(now._start + placed.dropped, now._stop)
        capacity = min(max(base.capacity, 2 * total), self._max_capacity)
        # Before the first new row everything stays as it is, which is faster to copy.
        lead = int(placed.targets[0])
        is_held = np.ones(total - lead, bool)
        is_held[placed.targets - lead] = False
        arrays = []
        for values, new in zip(base.arrays, change.new, strict=True):
            merged, rest = np.empty(capacity, values.dtype), values[held]
            merged[:lead] = rest[:lead]
            merged[lead:total][is_held] = rest[lead:]
            merged[placed.targets] = new[placed.unfit :]
            arrays.append(merged)
        return _Block(tuple(arrays), placed.first)

    def _widened(self, block: _Block) -> _Block:
        """The same block, with code columns of the type that the categories now need."""
        wider = {
            i: values.astype(self._dtype(i))
            for i, values in enumerate(block.arrays)
            if i in self._vocabularies and values.dtype != self._dtype(i)
        }
        if not wider:
            return block
        # The other columns are shared with the old block: its readers stop before our rows.
        return _Block(tuple(wider.get(i, block.arrays[i]) for i in self._all()), block.first)


def _write(block: _Block, stop: int, arrays: Sequence[AnyArray]) -> None:
    for column, values in zip(block.arrays, arrays, strict=True):
        column[stop : stop + len(values)] = values


def _rewritten(block: _Block, start: int, stop: int, change: Change, placed: Placed) -> _Block:
    """The same block, with the columns replaced in which rows held are to be different."""
    rows = placed.moved(change.rows)
    kept = rows >= 0
    rows = rows[kept] + start
    if not len(rows):
        return block
    arrays = list(block.arrays)
    for i, values in enumerate(change.values):
        if (arrays[i][rows] != values[kept]).any():
            # The other columns are shared with the old block, which nobody writes any more.
            arrays[i] = _moved(arrays[i][:stop], block.capacity, arrays[i].dtype)
            arrays[i][rows] = values[kept]
    return _Block(tuple(arrays), block.first)


def _moved(values: AnyArray, capacity: int, dtype: np.dtype[Any]) -> AnyArray:
    moved = np.empty(capacity, dtype)
    moved[: len(values)] = values
    return moved


def _strictly(typecode: str) -> Callable[[Sequence[Any]], AnyArray]:
    # NumPy would read "1.5" as a number and cut 1.5 to an integer; `array` refuses both.
    return lambda values: np.asarray(array(typecode, values))


_ENCODERS: Final[dict[Kind, Callable[[Sequence[Any]], AnyArray]]] = {
    Kind.TIME: times_ns,
    Kind.FLOAT: _strictly("d"),
    Kind.INT: _strictly("q"),
    Kind.IDENTIFIER: _strictly("Q"),
}


def encode_numbers(kind: Kind, values: Sequence[Any]) -> AnyArray:
    """Values of a column that holds no texts, as they are stored.

    Raises TypeError, ValueError or OverflowError if any of them cannot be stored.
    """
    return _ENCODERS[kind](values)


_DTYPES: Final[dict[Kind, type[np.generic]]] = {
    Kind.TIME: np.int64,
    Kind.FLOAT: np.float64,
    Kind.INT: np.int64,
    Kind.IDENTIFIER: np.uint64,
}


# -- the last row of each ----------------------------------------------------------------

_LONG_AGO: Final = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class Groups:
    """Rows by symbol: one entry per symbol that occurs, in the order of the codes."""

    symbols: AnyArray
    last: NDArray[np.intp]
    """The last row of each."""
    oldest: NDArray[np.int64]
    """The lowest time stamp of each."""
    newest: NDArray[np.int64]
    """The highest time stamp of each."""
    ascending: bool
    """Whether the time stamps of each symbol rise from row to row."""


def group(codes: AnyArray, times: NDArray[np.int64]) -> Groups:
    """Rows by symbol; both arrays have one entry per row."""
    order = codes.argsort(kind="stable")
    symbols, times = codes[order], times[order]
    goes_on = symbols[1:] == symbols[:-1]
    ascending = not (goes_on & (times[1:] <= times[:-1])).any()
    if not len(symbols):
        return Groups(symbols, order, times, times, ascending)
    last = np.append(np.flatnonzero(~goes_on), len(symbols) - 1)
    first = np.append(0, last[:-1] + 1)
    if ascending:
        return Groups(symbols[last], order[last], times[first], times[last], ascending)
    oldest, newest = np.minimum.reduceat(times, first), np.maximum.reduceat(times, first)
    return Groups(symbols[last], order[last], oldest, newest, ascending)


class LatestRows:
    """The last row per symbol, whatever retention has dropped since.

    Not for concurrent use: its owner guards it with one lock.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        names = [column.name for column in columns]
        self._symbol, self._time = names.index("symbol"), names.index("timestamp")
        self.clear()

    def clear(self) -> None:
        """Forget every symbol."""
        self._arrays: list[AnyArray] = []
        # Indexed by symbol code, as all arrays here: the position of its last row, or -1,
        # and the highest time stamp it ever had.
        self._position = np.empty(0, np.int64)
        self._newest = np.empty(0, np.int64)

    def newest(self, groups: Groups) -> NDArray[np.int64]:
        """The highest time stamp that the symbol of each group ever had."""
        symbols = groups.symbols
        if len(symbols) and symbols[-1] >= len(self._newest):
            self._make_room((), int(symbols[-1]) + 1)
        return self._newest[symbols]

    def update(
        self,
        arrays: Sequence[AnyArray],
        *,
        position: int,
        late: bool,
        groups: Groups | None = None,
    ) -> None:
        """Take over encoded rows behind all others; the first of them has this position.

        Rows normally count in the order of their arrival. Late ones, which repair a gap,
        only count if they are not older than what is there. `groups` are those of the rows,
        if they are known.
        """
        groups = groups or group(arrays[self._symbol], arrays[self._time])
        symbols, rows = groups.symbols, groups.last
        if not len(symbols):
            return
        self._make_room(arrays, int(symbols[-1]) + 1)
        self._newest[symbols] = np.maximum(self._newest[symbols], groups.newest)
        if late:
            known, times = self._position[symbols] >= 0, arrays[self._time][rows]
            counts = ~known | (times >= self._arrays[self._time][symbols])
            symbols, rows = symbols[counts], rows[counts]
        self._put(symbols, arrays, rows, position + rows)

    def copy(self) -> LatestRows:
        """Another with the same rows."""
        other = copy.copy(self)
        other._arrays = [values.copy() for values in self._arrays]
        other._position, other._newest = self._position.copy(), self._newest.copy()
        return other

    def changed(self, change: Change, placed: Placed, *, first: int) -> LatestRows:
        """The same after a change of the rows held, the first of which has position `first`.

        New rows count if they are younger than what is there.
        """
        after = self.copy()
        after._move(placed, first)
        if len(change.rows):
            after._make_room(change.values)
            symbols = change.values[self._symbol]
            are_last = self._position[symbols] == change.rows + first
            rows = np.flatnonzero(are_last)
            after._put(symbols[rows], change.values, rows, after._position[symbols[rows]])
        after._take_in([values[placed.unfit :] for values in change.new], placed)
        return after

    def replaced(self, rows: NDArray[np.intp], values: Sequence[AnyArray]) -> LatestRows:
        """The same with other values in some rows, counted in the order of the codes."""
        after = self.copy()
        after._make_room(values)
        after._put(rows, values, np.arange(len(rows)), self._position[rows])
        return after

    def arrays(self) -> tuple[list[AnyArray], NDArray[np.int64]]:
        """The columns by symbol code and the positions of the rows; -1 where there is no row."""
        known = len(self._arrays[0]) if self._arrays else 0
        return self._arrays, self._position[:known]

    def since(self, position: int, *, of: Snapshot) -> Snapshot:
        """The last rows of the symbols that have a row at `position` or later.

        In the order of the symbols' codes, copied; `of` is the snapshot they belong to.
        """
        empty = replace(of.tail(0), first=position, last=max(position, of.last))
        if not self._arrays:
            return empty
        symbols = np.flatnonzero(self._position >= max(position, 0))
        return replace(
            empty,
            _block=_Block(tuple(values[symbols] for values in self._arrays), position),
            _start=0,
            _stop=len(symbols),
            _positions=self._position[symbols],
        )

    def _move(self, placed: Placed, first: int) -> None:
        moved = placed.moved(self._position - first)
        stay = (self._position >= first) & (moved >= 0)
        self._position = np.where(stay, moved + placed.first, self._position)

    def _take_in(self, new: Sequence[AnyArray], placed: Placed) -> None:
        groups = group(new[self._symbol], new[self._time])
        if not len(groups.symbols):
            return
        symbols, rows = groups.symbols, groups.last
        self._make_room(new, int(symbols[-1]) + 1)
        self._newest[symbols] = np.maximum(self._newest[symbols], groups.newest)
        positions, known = placed.targets[rows] + placed.first, self._position[symbols]
        times, known_times = new[self._time][rows], self._arrays[self._time][symbols]
        # Of one time are those first that stand first.
        counts = (times > known_times) | ((times == known_times) & (positions > known))
        counts |= known < 0
        self._put(symbols[counts], new, rows[counts], positions[counts])

    def _put(
        self,
        symbols: AnyArray,
        arrays: Sequence[AnyArray],
        rows: NDArray[np.intp],
        positions: NDArray[np.int64],
    ) -> None:
        for mine, values in zip(self._arrays, arrays, strict=True):
            mine[symbols] = values[rows]
        self._position[symbols] = positions

    def _make_room(self, arrays: Sequence[AnyArray], symbols: int = 0) -> None:
        """Room for this many symbols, and for values of the types of these arrays."""
        if not self._arrays:
            self._arrays = [np.empty(0, values.dtype) for values in arrays]
        capacity = len(self._position)
        if symbols > capacity:
            capacity = max(symbols, 2 * capacity)
            unseen = capacity - len(self._position)
            self._position = np.concatenate([self._position, np.full(unseen, -1)])
            self._newest = np.concatenate([self._newest, np.full(unseen, _LONG_AGO)])
        for i, values in enumerate(arrays):
            mine = self._arrays[i]
            if len(mine) < capacity or mine.dtype != values.dtype:
                dtype = np.promote_types(mine.dtype, values.dtype)
                self._arrays[i] = _moved(mine, max(capacity, len(mine)), dtype)
