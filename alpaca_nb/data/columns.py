"""Typed, append-only, bounded storage: rows are written in bulk, read without a lock.

A store keeps one array per column in a block. Rows are written past the end and what was
written never changes, so a snapshot is a view of the first n rows: it costs the same at
any length, needs no lock and stays valid for ever. When a block is full, the rows that
retention keeps move to a new block; old snapshots keep the old one alive.
"""

from __future__ import annotations

import contextlib
import functools
import mmap
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar, get_args, get_origin

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from alpaca_nb.data.compiled import kernels
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

    def __len__(self) -> int:
        return len(self._codes)

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
    if count < 0x7F:
        return np.int8
    return np.int16 if count < 0x7FFF else np.int32


# -- one moment of a store ---------------------------------------------------------------


class Tally(msgspec.Struct, frozen=True, gc=False):
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


class _Block(msgspec.Struct, frozen=True):
    """One array per column, all of one length; row i has position `first` + i."""

    arrays: tuple[AnyArray, ...]
    first: int

    @property
    def capacity(self) -> int:
        return len(self.arrays[0])


class Snapshot(msgspec.Struct, frozen=True, eq=False):
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
    _texts: int
    """How many texts all categories are."""
    _newest: int
    """The highest time that any row had so far, where retention goes by time."""
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
            return rest.take(np.flatnonzero(self._positions >= first))
        return replace(rest, _start=min(self._start + first - self.first, self._stop))

    def tail(self, rows: int) -> Snapshot:
        """The last `rows` rows, or all if there are fewer."""
        skipped = max(0, len(self) - rows)
        if self._positions is not None:
            return self.take(np.arange(skipped, len(self)))
        return replace(self, first=self.first + skipped, _start=self._start + skipped)

    def of(self, symbol: str) -> Snapshot:
        """The rows of one symbol, copied; they speak for the same positions."""
        return self.take(np.flatnonzero(self["symbol"] == self.code("symbol", symbol)))

    def take(self, rows: NDArray[np.intp]) -> Snapshot:
        """Some rows in ascending order, copied; they speak for the same positions."""
        positions = rows + self.first if self._positions is None else self._positions[rows]
        return replace(
            self,
            _block=_Block(
                tuple(self._values(i)[rows] for i in range(len(self.columns))), self.first
            ),
            _start=0,
            _stop=len(rows),
            _positions=positions,
        )

    @property
    def stored_from(self) -> int:
        """The position of the first row that `stored` gives: older than what is held."""
        return self._block.first

    def stored(self, positions: NDArray[np.int64]) -> list[AnyArray]:
        """Copies of rows at `stored_from` or later, also if retention has dropped them."""
        rows = positions - self._block.first
        return [values[rows] for values in self._block.arrays]

    def with_rows(
        self, arrays: Sequence[AnyArray], positions: NDArray[np.int64], *, first: int
    ) -> Snapshot:
        """Other rows of the same columns, which speak for the positions from `first` on."""
        return replace(
            self,
            first=first,
            last=max(first, self.last),
            missed=0,
            _block=_Block(tuple(arrays), first),
            _start=0,
            _stop=len(positions),
            _positions=positions,
        )

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
_SPARE_ROWS: Final = 16_384
"""So many rows that time has dropped are not worth moving the others for."""
_LONG_AGO: Final = int(np.iinfo(np.int64).min)
_EVERYTHING: Final = slice(None)


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

    No more than `maxlen` rows are held and, with `keep_ns`, none that is older than that
    before the newest, unless a younger one stands before it. A row is as old as its time
    stamp, or as its arrival if that was earlier: no row comes from the future.
    """

    def __init__(
        self, columns: Sequence[Column], *, maxlen: int, keep_ns: int | None = None
    ) -> None:
        self.columns = tuple(columns)
        self.maxlen = maxlen
        self.keep_ns = keep_ns
        self._max_capacity = max(2 * maxlen - maxlen // 8, _SMALLEST_BLOCK)
        names = [column.name for column in columns]
        self._times = [names.index(name) for name in ("timestamp", "received") if name in names]
        self._vocabularies: dict[int, Vocabulary]
        """Those of the coded columns."""
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
        now, added = self._snapshot, len(arrays[0])
        newest = self._newest_of(now, arrays)
        skipped = max(added - self.maxlen, 0)
        if skipped:
            arrays = [values[skipped:] for values in arrays]
        block, start = self._with_room(self._widened(now), now, added, skipped)
        stop = now.last + skipped - block.first
        _write(block, stop, arrays)
        stop += added - skipped
        start = self._kept_from(block, max(start, stop - self.maxlen), stop, newest)
        return self._following(now, block, start, stop, tally or now.tally, newest=newest)

    def changed(self, change: Change, placed: Placed, *, tally: Tally) -> Snapshot:
        """The rows after a change, in a new epoch; nobody sees them before `publish`.

        `placed` is what `change.placed` says of the rows held now.
        """
        now = self._snapshot
        base = self._widened(now)
        if len(placed.targets):
            block, start = self._inserted(base, change, placed), 0
        else:
            block, start = base, now._start + placed.dropped
        stop = start + placed.last - placed.first
        block = _rewritten(block, start, stop, change, placed)
        newest = self._newest_of(now, change.new)
        start = self._kept_from(block, start, stop, newest)
        return self._following(now, block, start, stop, tally, newest=newest, epoch=now.epoch + 1)

    def horizon(self, arrays: Sequence[AnyArray] = ()) -> int:
        """The time before which no row is taken in, once these rows are; lower than any without."""
        if self.keep_ns is None:
            return _LONG_AGO
        return max(self._newest_of(self._snapshot, arrays) - self.keep_ns, _LONG_AGO)

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
        vocabularies = {
            i: Vocabulary(column.categories)
            for i, column in enumerate(self.columns)
            if column.kind.is_coded
        }
        capacity = min(_SMALLEST_BLOCK, self._max_capacity)
        types = [
            vocabularies[i].code_type if i in vocabularies else _DTYPES[column.kind]
            for i, column in enumerate(self.columns)
        ]
        snapshot = Snapshot(
            columns=self.columns,
            first=first,
            last=first,
            epoch=epoch,
            tally=tally,
            dropped=0,
            missed=0,
            _block=_Block(tuple(_room(capacity, np.dtype(each)) for each in types), first),
            _start=0,
            _stop=0,
            _categories=_categories(vocabularies, len(types)),
            _texts=sum(map(len, vocabularies.values())),
            _newest=_LONG_AGO,
        )
        # Both or none: an interrupt comes between two calls, not here.
        self._vocabularies, self._snapshot = vocabularies, snapshot

    def _following(
        self,
        now: Snapshot,
        block: _Block,
        start: int,
        stop: int,
        tally: Tally,
        *,
        newest: int,
        epoch: int | None = None,
    ) -> Snapshot:
        """The snapshot after `now`: the rows `start` to `stop` of a block."""
        first, texts, categories = block.first + start, self._texts(), now._categories
        if texts != now._texts:
            categories = _categories(self._vocabularies, len(self.columns))
        return Snapshot(
            self.columns,
            first,
            block.first + stop,
            now.epoch if epoch is None else epoch,
            tally,
            now.dropped + first - now.first,
            0,
            block,
            start,
            stop,
            categories,
            texts,
            newest,
        )

    def _texts(self) -> int:
        return sum(map(len, self._vocabularies.values()))

    def _widened(self, now: Snapshot) -> _Block:
        """The block, with code columns of the type that the categories now need."""
        block = now._block
        if self._texts() == now._texts:
            return block
        wider = {
            i: vocabulary.code_type
            for i, vocabulary in self._vocabularies.items()
            if block.arrays[i].dtype != vocabulary.code_type
        }
        if not wider:
            return block
        # The other columns are shared with the old block: its readers stop before our rows.
        arrays = [
            _moved(values[: now._stop], block.capacity, np.dtype(wider[i]))
            if i in wider
            else values
            for i, values in enumerate(block.arrays)
        ]
        return _Block(tuple(arrays), block.first)

    def _with_room(
        self, block: _Block, now: Snapshot, added: int, skipped: int
    ) -> tuple[_Block, int]:
        """A block with room for more rows, and where the kept ones begin: this, or another.

        The first `skipped` of those added are not kept.
        """
        start, stop = now._start, now._stop
        fits = stop + added - skipped <= block.capacity
        if fits and not skipped and start <= max(_SPARE_ROWS, stop - start):
            return block, start
        kept = min(stop - start, self.maxlen - added + skipped)
        # Room that is not written to costs nothing, as long as it is not for what is dropped.
        rows = (2 if start else 8) * (kept + added - skipped)
        capacity = min(max(rows, _SMALLEST_BLOCK), self._max_capacity)
        tail = slice(stop - kept, stop)
        arrays = tuple(_moved(values[tail], capacity, values.dtype) for values in block.arrays)
        return _Block(arrays, block.first + stop - kept + skipped), 0

    def _newest_of(self, now: Snapshot, arrays: Sequence[AnyArray]) -> int:
        if self.keep_ns is None or not arrays or not len(arrays[0]):
            return now._newest
        return max(now._newest, int(self._row_times(arrays).max()))

    def _row_times(self, arrays: Sequence[AnyArray], rows: slice = _EVERYTHING) -> AnyArray:
        """How old rows are; no row comes from the future."""
        times: AnyArray = arrays[self._times[0]][rows]
        for i in self._times[1:]:
            times = np.minimum(times, arrays[i][rows])
        return times

    def _kept_from(self, block: _Block, start: int, stop: int, newest: int) -> int:
        """The first row that is young enough; all before it may go."""
        if self.keep_ns is None:
            return start
        horizon, step = max(newest - self.keep_ns, _LONG_AGO), 1
        while start < stop:
            # Ever longer steps: one look is enough mostly, and each row is looked at once.
            end = min(start + step, stop)
            young = self._row_times(block.arrays, slice(start, end)) >= horizon
            if young.any():
                return start + int(young.argmax())
            start, step = end, min(4 * step, 1 << 16)
        return stop

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
            merged, rest = _room(capacity, values.dtype), values[held]
            merged[:lead] = rest[:lead]
            merged[lead:total][is_held] = rest[lead:]
            merged[placed.targets] = new[placed.unfit :]
            arrays.append(merged)
        return _Block(tuple(arrays), placed.first)


def _write(block: _Block, stop: int, arrays: Sequence[AnyArray]) -> None:
    rows = slice(stop, stop + len(arrays[0]))
    for column, values in zip(block.arrays, arrays, strict=True):
        column[rows] = values


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
    moved = _room(capacity, dtype)
    moved[: len(values)] = values
    return moved


def _categories(vocabularies: dict[int, Vocabulary], columns: int) -> tuple[Categories | None, ...]:
    return tuple(vocabularies[i].categories if i in vocabularies else None for i in range(columns))


_OWN_PAGES: Final = 1 << 22
"""Bytes from which an array has memory of its own."""
_PRIVATE: Final[dict[str, int]] = (
    {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
)


def _room(rows: int, dtype: np.dtype[Any]) -> AnyArray:
    """An array for so many rows. Large ones take no more memory than is written to.

    NumPy's own come in pages of 2 MB, which are half empty at the end of each column and, in
    a virtual machine, expensive when they are first touched. And the allocator would keep
    the memory of a block for others, when blocks are ever larger.
    """
    size = rows * dtype.itemsize
    if size < _OWN_PAGES:
        return np.empty(rows, dtype)
    memory = mmap.mmap(-1, size, **_PRIVATE)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without large pages
            memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, dtype)


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


# -- rows by symbol ----------------------------------------------------------------------

_COMPILED_AT_MOST: Final = 1 << 16
"""Rows that compiled code is given at once: it holds the interpreter lock meanwhile."""


class Groups(msgspec.Struct, frozen=True, eq=False):
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
    compiled = kernels()
    if compiled is not None and len(codes) <= _COMPILED_AT_MOST:
        rows = np.ascontiguousarray(codes), np.ascontiguousarray(times)
        return Groups(*compiled.group_rows(*rows))
    order = codes.argsort(kind="stable")
    symbols, times = codes[order], times[order]
    goes_on = symbols[1:] == symbols[:-1]
    ascending = not bool((goes_on & (times[1:] <= times[:-1])).any())
    if not len(symbols):
        return Groups(symbols, order, times, times, ascending)
    last = np.append(np.flatnonzero(~goes_on), len(symbols) - 1)
    first = np.append(0, last[:-1] + 1)
    if ascending:
        return Groups(symbols[last], order[last], times[first], times[last], ascending)
    oldest, newest = np.minimum.reduceat(times, first), np.maximum.reduceat(times, first)
    return Groups(symbols[last], order[last], oldest, newest, ascending)
