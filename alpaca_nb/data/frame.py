"""LiveFrame: messages go in on the feed's thread, DataFrames come out on any other."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import numpy as np
from msgspec import Struct
from msgspec.structs import astuple, fields

from alpaca_nb.clock import SYSTEM_CLOCK, Clock
from alpaca_nb.data.columns import (
    AnyArray,
    Column,
    ColumnStore,
    Kind,
    LatestRows,
    Snapshot,
    columns_of,
)
from alpaca_nb.data.gaps import Gap, GapLog
from alpaca_nb.data.status import GapCounts, StreamStatus
from alpaca_nb.errors import BadInputError
from alpaca_nb.wire.messages import Message, check_symbols, find_channel

if TYPE_CHECKING:
    import pandas as pd

Origin = Literal["live", "backfill", "replay", "simulated"]
"""How a row came here: from a live stream, filled in after a gap, from a recording, or
from the simulator's made-up market."""

_RECEIVED: Final = (
    Column("received", Kind.TIME),
    Column("source", Kind.CATEGORY, ("live", "backfill", "replay", "simulated")),
)
"""The columns that say how a row came here; they follow those of the message."""

_WRITE_AT: Final = 1_000
"""Rows that are staged before they are written: more would leave the processor's cache,
fewer would cost more per row."""


@dataclass(frozen=True, slots=True)
class FrameStats:
    """What a frame has seen, at one moment."""

    rows: int
    """Rows held now."""
    position: int
    """Rows ever appended."""
    rate: float
    """Rows a second over the last ten seconds."""
    lag_s: float | None
    """Seconds from the time stamp to arrival here, median over the last ten seconds.

    None without live rows, where the time stamp is not that of an event (bars), and where
    it is more than an hour from the arrival (a recording being played)."""
    last_received_ns: int | None
    """When the last row arrived (ns since 1970, UTC)."""
    rejected: int
    """Messages that could not be stored, such as a trade id of more than 64 bits."""
    dropped: int
    """Rows that retention has dropped since the frame was made or cleared."""


class _Batch(Struct, gc=False):
    """Messages that wait to be written; `offset` counts those handed in before them."""

    # A Struct, because at one message a batch this is made for every message.
    offset: int
    messages: Sequence[Message[Any]]
    received_ns: int
    origin: Origin


class LiveFrame:
    """The messages of one channel, as a table that grows while you look at it.

    One thread writes (`extend`), any thread reads. Reading never waits for the network,
    and what was read never changes: `df` is a DataFrame of this moment that costs the same
    at any length, and writing to it does not reach the frame.

    Every row ever appended has a position, counted from 0; `since` and `rows_since` give
    the rows from a position on, so that a reader sees each row once. `maxlen` rows are
    held, older ones are dropped.

    Views read raw columns instead of DataFrames: `rows_since(position)` for what was
    appended (tape, chart), `latest_rows(position)` for the symbols that changed (table).
    Both return a `Snapshot`: go on at its `last`, and start again from 0 when its `epoch`
    is another than before.
    """

    view_factory: ClassVar[Callable[[LiveFrame], Any] | None] = None
    """What displays a frame in a notebook; installed by `alpaca_nb.view`."""
    table_factory: ClassVar[Callable[..., Any] | None] = None
    """What `table` makes; installed by `alpaca_nb.view`."""
    chart_factory: ClassVar[Callable[..., Any] | None] = None
    """What `chart` makes; installed by `alpaca_nb.view`."""

    def __init__(
        self,
        channel: str,
        symbols: str | Sequence[str],
        *,
        maxlen: int = 1_000_000,
        name: str | None = None,
        status: Callable[[], StreamStatus] | None = None,
        on_close: Callable[[], None] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if type(maxlen) is not int or maxlen < 1:
            raise BadInputError(
                f"maxlen is how many rows are kept: a whole number from 1 on, not {maxlen!r}."
            )
        kind = find_channel(channel)
        self.channel = kind.name
        self.symbols = check_symbols(symbols)
        self.maxlen = maxlen
        self.name = name or kind.name
        self.columns = columns_of(kind.message) + _RECEIVED
        self._status = status
        self._on_close = on_close
        self._clock = clock
        self._reader = _MessageReader(kind.message)
        self._store = ColumnStore(self.columns, maxlen=maxlen)
        self._gap_log = GapLog()
        self._latest = LatestRows(self.columns)
        # Staged by the writer, written by whoever holds the lock.
        self._staged: deque[_Batch] = deque()
        # Messages handed in, counted by the writer, and those dealt with, under the lock.
        self._offered = self._consumed = 0
        self._lock = threading.Lock()
        self._arrived = threading.Condition()
        self._waiting = 0
        self._closed = False
        self._error: Exception | None = None

    def __repr__(self) -> str:
        shown = ", ".join(self.symbols[:8]) + (", …" if len(self.symbols) > 8 else "")
        return f"LiveFrame({self.channel}: {shown})"

    def __len__(self) -> int:
        """Rows held now."""
        return len(self.snapshot())

    def __bool__(self) -> bool:
        """True, also while it is empty."""
        return True

    # -- writing -------------------------------------------------------------------------

    def extend(
        self,
        messages: Sequence[Message[Any]],
        *,
        received_ns: int,
        origin: Origin = "live",
    ) -> None:
        """Append messages of this frame's channel. For one thread, the feed's.

        The sequence is kept as it is until its rows are written, so leave it alone. Rows
        marked "backfill" do not replace a newer row in `latest`. A message that cannot be
        stored is counted (`stats.rejected`) and costs none of the others. Does nothing on a
        closed frame.
        """
        if self._closed or not messages:
            return
        self._staged.append(_Batch(self._offered, messages, received_ns, origin))
        self._offered += len(messages)
        if self._offered - self._consumed >= _WRITE_AT:
            self._write_staged()
        if self._waiting:
            self._wake()

    def put_gaps(self, gaps: Iterable[Gap]) -> None:
        """Note losses in `gaps`, or what has become of them; does nothing on a closed frame."""
        if not self._closed:
            self._gap_log.put_all(gaps)

    def clear(self) -> None:
        """Forget all rows and `latest`. Positions go on, `epoch` changes."""
        with self._lock:
            self._write_all()
            self._latest.clear()
            self._store.clear()

    def close(self, error: Exception | None = None) -> None:
        """Take no more rows; those here stay readable. May be called twice.

        Whoever waits in `wait` is woken; with an error, that error is raised there.
        """
        with self._arrived:
            if self._closed:
                return
            self._error = error
            self._closed = True
            self._arrived.notify_all()
        if self._on_close is not None:
            self._on_close()

    @property
    def closed(self) -> bool:
        """Whether no more rows will come."""
        return self._closed

    # -- reading -------------------------------------------------------------------------

    @property
    def df(self) -> pd.DataFrame:
        """All rows held, as a DataFrame of this moment; nothing is copied."""
        return self.snapshot().to_frame()

    @property
    def latest(self) -> pd.DataFrame:
        """The last row of each symbol, also of those that retention has dropped."""
        return self.latest_rows().to_frame()

    def since(self, position: int) -> pd.DataFrame:
        """The rows from `position` on; nothing is copied.

        `attrs["position"]` of the result is where to go on, `attrs["missed"]` how many of
        the rows asked for were dropped before.
        """
        rows = self.rows_since(position)
        frame = rows.to_frame()
        frame.attrs.update(position=rows.last, missed=rows.missed)
        return frame

    @property
    def gaps(self) -> pd.DataFrame:
        """What was missed: one row per loss of the connection and symbol, oldest first.

        Columns symbol, start, end, state, rows (filled in), reason, detail, lost, back; see
        `data.gaps`. A frame whose connection never broke has none.
        """
        return self._gap_log.to_frame()

    @property
    def gap_counts(self) -> GapCounts:
        """How many losses there were, by what became of them."""
        return self._gap_log.counts

    @property
    def stats(self) -> FrameStats:
        """Counts, rate and lag; taken from the rows, so that they cost the feed nothing."""
        rows = self.snapshot()
        recent = rows.tail(_RECENT_ROWS)
        now_ns = self._clock.now_ns()
        return FrameStats(
            rows=len(rows),
            position=rows.last,
            rate=_rate(recent, now_ns),
            lag_s=None if "bars" in self.channel else _median_lag(recent, now_ns),
            last_received_ns=int(rows["received"][-1]) if len(rows) else None,
            rejected=rows.rejected,
            dropped=rows.dropped,
        )

    @property
    def status(self) -> StreamStatus:
        """The state of the stream that feeds this frame; stopped if there is none."""
        return self._status() if self._status else StreamStatus(state="stopped", feed="")

    @property
    def position(self) -> int:
        """Rows ever appended, which is the position of the next one."""
        return self.snapshot().last

    @property
    def epoch(self) -> int:
        """Changes when rows once read are no longer true, as after `clear`."""
        return self._store.snapshot().epoch

    def snapshot(self) -> Snapshot:
        """All rows held, as raw columns."""
        self._write_staged()
        return self._store.snapshot()

    def rows_since(self, position: int) -> Snapshot:
        """The rows from `position` on, as raw columns; costs the same for any number of them.

        Go on at `last`; `missed` rows were dropped before they were asked for.
        """
        _check_count(position, "position")
        return self.snapshot().since(position)

    def latest_rows(self, since: int = 0) -> Snapshot:
        """The last row of each symbol that has a row at position `since` or later.

        As raw columns, in the order of the codes of `symbol`: such a code is a stable row
        number for its symbol until `epoch` changes. Go on at `last`.
        """
        _check_count(since, "since")
        with self._lock:
            self._write_all()
            return self._latest.since(since, of=self._store.snapshot())

    def wait(self, rows: int = 1, timeout: float | None = 10.0) -> None:
        """Return once `rows` rows were ever appended; at once if they were.

        Raises TimeoutError after `timeout` seconds (None: never), or as soon as the frame
        is closed with fewer rows; the error it was closed with, if there was one.
        """
        _check_count(rows, "rows")
        with self._arrived:
            self._waiting += 1
            try:
                enough = self._arrived.wait_for(
                    lambda: self._closed or self.position >= rows, timeout
                )
            finally:
                self._waiting -= 1
        if self.position < rows:
            self._raise_too_few(rows, timeout if not enough else None)

    # -- display -------------------------------------------------------------------------

    def table(self, **options: Any) -> Any:
        """A live table of this frame."""
        return self._view(type(self).table_factory, options)

    def chart(self, **options: Any) -> Any:
        """A live chart of this frame."""
        return self._view(type(self).chart_factory, options)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        view_factory = type(self).view_factory
        if view_factory is None:
            return {"text/plain": repr(self)}
        return view_factory(self)._repr_mimebundle_(include=include, exclude=exclude)

    def _view(self, factory: Callable[..., Any] | None, options: dict[str, Any]) -> Any:
        if factory is None:
            raise BadInputError("Nothing displays frames yet; import alpaca_nb.view first.")
        return factory(self, **options)

    # -- from staged batches to columns --------------------------------------------------

    def _write_staged(self) -> None:
        if self._staged:
            with self._lock:
                self._write_all()

    def _write_all(self) -> None:
        """Write what is staged; the caller holds the lock.

        An interrupt (Ctrl-C in the cell that reads) may come anywhere in here. A batch
        therefore stays staged until its rows are visible, which is one assignment in the
        store, and is recognised afterwards by its offset.
        """
        self._forget_written()
        batches = [self._staged[i] for i in range(len(self._staged))]
        for origin, group in groupby(batches, key=attrgetter("origin")):
            self._write(list(group), origin)
        self._forget_written()

    def _forget_written(self) -> None:
        rows, staged = self._store.snapshot(), self._staged
        self._consumed = consumed = rows.last + rows.rejected
        while staged and staged[0].offset < consumed:
            staged.popleft()

    def _write(self, batches: Sequence[_Batch], origin: Origin) -> None:
        messages = [message for batch in batches for message in batch.messages]
        arrays, kept = self._reader.read(messages, self._store)
        received = np.repeat(
            np.array([batch.received_ns for batch in batches], np.int64),
            [len(batch.messages) for batch in batches],
        )
        source = np.repeat(self._store.encode(len(self.columns) - 1, [origin]), len(messages))
        arrays += [received, source] if kept is None else [received[kept], source[kept]]
        position, late = self._store.snapshot().last, origin == "backfill"
        self._latest.update(arrays, position=position, late=late)
        self._store.append(arrays, rejected=len(messages) - len(arrays[0]))

    # -- waiting -------------------------------------------------------------------------

    def _wake(self) -> None:
        with self._arrived:
            self._arrived.notify_all()

    def _raise_too_few(self, rows: int, timeout: float | None) -> None:
        if self._error is not None:
            raise self._error
        seen = f"{self.position} of {rows} rows of {self!r} arrived"
        if timeout is None:
            raise TimeoutError(f"Only {seen}, and it was closed.")
        raise TimeoutError(f"Only {seen} within {timeout:g} s. {self.status.detail}".rstrip())


class _MessageReader:
    """Takes messages of one type apart into encoded columns."""

    def __init__(self, message: type[Message[Any]]) -> None:
        self._message = message
        names = [field.name for field in fields(message)]
        self._order = [names.index(column.name) for column in columns_of(message)]

    def read(
        self, messages: Sequence[Message[Any]], store: ColumnStore
    ) -> tuple[list[AnyArray], AnyArray | None]:
        """One array per column, and which messages could be stored (None: all of them)."""
        try:
            return self._encode(messages, store), None
        except Exception:  # whatever is wrong with one message must not cost the others
            kept = np.array([self._can_store(message, store) for message in messages], bool)
            good = [message for message, keep in zip(messages, kept, strict=True) if keep]
            return self._encode(good, store), kept

    def _encode(self, messages: Sequence[Message[Any]], store: ColumnStore) -> list[AnyArray]:
        columns: Iterable[Sequence[Any]] = zip(*map(astuple, messages), strict=True)
        values = list(columns) or [()] * len(self._order)
        return [store.encode(i, values[field]) for i, field in enumerate(self._order)]

    def _can_store(self, message: Message[Any], store: ColumnStore) -> bool:
        if not isinstance(message, self._message):
            return False
        try:
            self._encode([message], store)
        except Exception:
            return False
        return True


# -- measures of the last seconds --------------------------------------------------------

_RECENT_ROWS: Final = 100_000
_RECENT_NS: Final = 10_000_000_000
_HOUR_S: Final = 3600.0


def _recent(rows: Snapshot, now_ns: int) -> Snapshot:
    """Those of the rows that arrived in the last ten seconds."""
    received = rows["received"]
    return rows.tail(len(rows) - int(np.searchsorted(received, now_ns - _RECENT_NS)))


def _rate(rows: Snapshot, now_ns: int) -> float:
    recent = _recent(rows, now_ns)
    if not len(recent):
        return 0.0
    if len(recent) < len(rows):
        return len(recent) * 1e9 / _RECENT_NS
    # Rows from before are not held, or there were none. A stream that has only begun
    # counts as a second old, or its first rows would look like a storm.
    shortest_ns = 1_000_000 if rows.first else 1_000_000_000
    span_ns = max(now_ns - int(recent["received"][0]), shortest_ns)
    return len(recent) * 1e9 / span_ns


def _median_lag(rows: Snapshot, now_ns: int) -> float | None:
    recent = _recent(rows, now_ns)
    live = recent["source"] != recent.code("source", "backfill")
    lags = (recent["received"] - recent["timestamp"])[live]
    if not len(lags):
        return None
    lag_s = float(np.median(lags)) / 1e9
    return lag_s if abs(lag_s) <= _HOUR_S else None


def _check_count(rows: int, what: str) -> None:
    if type(rows) is not int or rows < 0:
        raise BadInputError(f"{what} counts rows: a whole number from 0 on, not {rows!r}.")
