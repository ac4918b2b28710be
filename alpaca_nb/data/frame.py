"""LiveFrame: messages go in on the feed's thread, DataFrames come out on any other."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from alpaca_nb.clock import SYSTEM_CLOCK, Clock
from alpaca_nb.data.amend import Notice, notice_of
from alpaca_nb.data.batch import Batch, Lexicon, layout_of
from alpaca_nb.data.columns import (
    AnyArray,
    Change,
    ColumnStore,
    Groups,
    Snapshot,
    Tally,
    columns_of,
    group,
)
from alpaca_nb.data.export import to_arrow, to_polars
from alpaca_nb.data.gaps import Gap, GapLog
from alpaca_nb.data.index import SymbolIndex, check_symbol
from alpaca_nb.data.intervals import Hours, usual_hours
from alpaca_nb.data.latest import LatestRows, Update
from alpaca_nb.data.merge import places
from alpaca_nb.data.readers import BatchReader, MessageReader, joined
from alpaca_nb.data.retention import Keep, keep_ns
from alpaca_nb.data.rules import Arrays, BarRules, Known, Plan, TradeRules, rules_of
from alpaca_nb.data.status import GapCounts, StreamStatus
from alpaca_nb.errors import BadInputError
from alpaca_nb.wire.messages import Message, check_symbols, find_channel

if TYPE_CHECKING:
    import pandas as pd

    from alpaca_nb.data.live_candles import LiveCandles

Origin = Literal["live", "backfill", "replay", "simulated"]
"""How a row came here: from a live stream, filled in after a gap, from a recording, or
from the simulator's made-up market."""

_WRITE_MESSAGES_AT: Final = 1_000
_WRITE_ROWS_AT: Final = 4_000
"""Messages, and rows of batches, that are staged before they are written: more would leave
the processor's cache, fewer would cost more per row."""
_WRITE_PIECES_AT: Final = 512
"""The same of batches, or parts of them: where each has a row or two, itself is most of it."""


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
    duplicates: int = 0
    """Messages that were sent twice and are stored once."""
    backfilled: int = 0
    """Rows that were filled in after a gap."""
    amended: int = 0
    """Changes of rows: trades corrected or cancelled, bars sent anew."""


@dataclass(frozen=True, slots=True)
class Fill:
    """What has become of rows from history that were to fill a gap."""

    added: int = 0
    """Rows that were missing and are here now."""
    duplicates: int = 0
    """Rows that were here already."""
    amended: int = 0
    """Rows that history knew to be corrected, cancelled or updated."""
    unknown: int = 0
    """Rows the stream brought in the overlap that history lacks: it has not caught up."""
    rows: Mapping[str, int] = field(default_factory=dict)
    """The rows added, by symbol."""


class _Staged(Struct, gc=False):
    """What waits to be written; `offset` counts the messages handed in before it."""

    # A Struct, because at one message a call this is made for every message.
    offset: int
    content: Any
    """Messages, or a batch if there is a lexicon."""
    received_ns: int
    """When messages came; a batch says it itself."""
    origin: Origin
    lexicon: Lexicon | None = None
    start: int = 0
    stop: int = 0
    """Which rows of a batch: from, and up to (not included)."""


_KIND: Final = attrgetter("origin", "lexicon")
"""What is equal for all that is written together."""


class _Next(Struct, frozen=True):
    """Rows that are just being published, and what goes with them."""

    rows: Snapshot
    known: Known
    latest: LatestRows
    update: Update | None = None


class LiveFrame:
    """The messages of one channel, as a table that grows while you look at it.

    One thread writes (`extend`), any thread reads. Reading never waits for the network,
    and what was read never changes: `df` is a DataFrame of this moment that costs the same
    at any length, and writing to it does not reach the frame.

    Every row ever appended has a position, counted from 0; `since` and `rows_since` give
    the rows from a position on, so that a reader sees each row once.

    No more than `maxlen` rows are held, and with `keep` ("1h", a timedelta, seconds) none
    that is older than that: its time stamp before the newest one, so a frame on which nothing
    comes any more keeps what it has. Rows go in the order in which they stand, so one that
    came late goes after those before it. A time stamp later than its arrival counts as that.
    `latest` has the last row of each symbol all the same.

    What was sent twice is stored once. Rows that a gap left out are put where they belong
    (`fill`), and what is said of a trade or a bar later changes its row (`amend`), which then
    says so in its column `amended`. Both change rows that were read before: `epoch` tells.

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
    source_factory: ClassVar[Callable[..., Any] | None] = None
    """What `source` makes; installed by `alpaca_nb.view`."""

    def __init__(
        self,
        channel: str,
        symbols: str | Sequence[str],
        *,
        maxlen: int = 1_000_000,
        keep: Keep = None,
        name: str | None = None,
        status: Callable[[], StreamStatus] | None = None,
        on_close: Callable[[], None] | None = None,
        clock: Clock = SYSTEM_CLOCK,
        pull: Callable[[], None] | None = None,
        hours: Hours = usual_hours,
    ) -> None:
        if type(maxlen) is not int or maxlen < 1:
            raise BadInputError(
                f"maxlen is how many rows are kept: a whole number from 1 on, not {maxlen!r}."
            )
        kept_ns = keep_ns(keep)
        kind = find_channel(channel)
        self.channel = kind.name
        self.symbols = check_symbols(symbols)
        self.maxlen = maxlen
        self.keep = keep
        self.hours = hours
        """When the exchanges are open, for the candles of its trades."""
        self.name = name or kind.name
        self.pull = pull
        """Called before anything is read or changed, so that what whoever feeds this frame
        still has to decode gets here first. Holds no lock of the frame, may `take` and
        `amend`, and is not called again from within."""
        rules = rules_of(kind.name)
        self.columns = columns_of(kind.message) + rules.extra
        self._status = status
        self._on_close = on_close
        self._clock = clock
        self._layout = layout_of(kind.message)
        self._messages = MessageReader(self._layout)
        self._batches = BatchReader(self._layout)
        self._store = ColumnStore(self.columns, maxlen=maxlen, keep_ns=kept_ns)
        self._index = SymbolIndex()
        self._gap_log = GapLog()
        self._latest = LatestRows(self.columns)
        self._rules = rules(self.columns, self._store)
        self._at = {column.name: i for i, column in enumerate(self.columns)}
        # What goes with a snapshot that is just being published; see `_publish`.
        self._next: _Next | None = None
        # Staged by the writer, written by whoever holds the lock.
        self._staged: deque[_Staged] = deque()
        # Messages handed in, counted by the writer, and those dealt with, under the lock.
        self._offered = self._consumed = 0
        self._lock = threading.Lock()
        self._arrived = threading.Condition()
        self._waiting = 0
        self._closed = False
        self._error: Exception | None = None
        # Threads that are in `pull` now.
        self._pulling: set[int] = set()

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
        self._staged.append(_Staged(self._offered, messages, received_ns, origin))
        self._offered += len(messages)
        if self._offered - self._consumed >= _WRITE_MESSAGES_AT:
            self._write_staged()
        if self._waiting:
            self._wake()

    def take(
        self, batch: Batch, *, origin: Origin = "live", start: int = 0, stop: int | None = None
    ) -> None:
        """Append rows of a batch of this frame's channel. For the same thread as `extend`.

        All of them, or those from `start` up to `stop` (not included). What the batch is made
        of must not change until its rows are written. Does nothing on a closed frame.
        """
        if batch.layout is not self._layout:
            raise BadInputError(
                f"A frame of {self.channel} takes batches of {self.channel}, "
                f"not of {batch.layout.channel}."
            )
        if stop is None:
            stop = len(batch)
        if self._closed or stop <= start:
            return
        offset = self._offered
        self._staged.append(_Staged(offset, batch, 0, origin, batch.lexicon, start, stop))
        self._offered = offset = offset + stop - start
        if offset - self._consumed >= _WRITE_ROWS_AT or len(self._staged) >= _WRITE_PIECES_AT:
            self._write_staged()
        if self._waiting:
            self._wake()

    def fill(
        self,
        messages: Sequence[Message[Any]],
        *,
        received_ns: int,
        asked_ns: int | None = None,
        updates: Mapping[int, str] | None = None,
        overlap: tuple[int, int] | None = None,
        symbols: Collection[str] | None = None,
    ) -> Fill:
        """Put rows from history where they belong in time. For the feed's thread.

        The messages are those of this frame's channel, of any number of symbols, each symbol's
        in the order of time. Those that are here already are left out: trades by symbol,
        exchange, number and time, bars by symbol and time, others by the whole record, as
        often as it is here. Rows held keep their order. A bar with other values replaces the
        one held. Rows that retention would drop first are not taken in: where the frame is
        full, those older than all that is held.

        `received_ns` says when the answer came and `asked_ns` when it was asked for, the same
        if left out: what the stream said of a bar in between, or shortly before, stands.

        `updates` are the marks of history, by index in `messages`: trades that are "canceled"
        or "incorrect" are not added, and marked if they are here; "corrected" ones are added
        as such. `overlap` is a span of time (both ends included) that the stream has brought
        too: rows of it that history lacks, of `symbols` (None: all), are `unknown`.

        Unless all new rows stand behind those held, `epoch` changes. Does nothing on a closed
        frame.
        """
        if self._closed:
            return Fill()
        self._pull()
        with self._lock:
            self._write_all()
            if asked_ns is None:
                asked_ns = received_ns
            filled = self._fill(messages, received_ns, asked_ns, updates or {}, overlap, symbols)
        if self._waiting:
            self._wake()
        return filled

    def amend(self, messages: Sequence[Message[Any]], *, received_ns: int) -> None:
        """Apply what is said of rows that were sent before. For the feed's thread.

        Corrections and cancellations are for a frame of trades. The row of a corrected trade
        gets the right values, that of a cancelled one stays as it is; `amended` says what it
        became. Updated bars are for a frame of bars and replace the bar of their minute, or
        are stored if there is none. All of it is told in `amendments`, with what it was before.

        What concerns a trade that is not held applies to it if it comes later. Whatever was
        said already changes nothing. Rows that change give the frame another `epoch`. A
        message of another kind, or one that could not be stored, is counted (`stats.rejected`).
        Does nothing on a closed frame.
        """
        if self._closed or not messages:
            return
        self._pull()
        with self._lock:
            self._write_all()
            if isinstance(self._rules, TradeRules):
                self._amend_trades(self._rules, messages, received_ns)
            elif isinstance(self._rules, BarRules):
                self._amend_bars(self._rules, messages, received_ns)
            else:
                tally = self._store.snapshot().tally.plus(rejected=len(messages))
                self._carry_out(Plan(self._no_rows(), self._rules.known), tally)
        if self._waiting:
            self._wake()

    def put_gaps(self, gaps: Iterable[Gap]) -> None:
        """Note losses in `gaps`, or what has become of them; does nothing on a closed frame."""
        if not self._closed:
            self._gap_log.put_all(gaps)

    def clear(self) -> None:
        """Forget all rows and `latest`. Positions go on, `epoch` changes."""
        self._pull()
        with self._lock:
            self._write_all()
            self._latest.clear()
            self._batches.forget()
            self._store.clear()

    def close(self, error: Exception | None = None) -> None:
        """Take no more rows; those here stay readable. May be called twice.

        Whoever waits in `wait` is woken; with an error, that error is raised there.
        """
        try:
            self._pull()
        finally:
            self._close(error)

    def _close(self, error: Exception | None) -> None:
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

    def symbol(self, symbol: str) -> pd.DataFrame:
        """The rows of one symbol, as a DataFrame of this moment that is the caller's own.

        Costs as much as the symbol has rows, however many the others have. Raises BadInputError
        for a symbol that the frame was not asked for and has no rows of.
        """
        return self.rows_of(symbol).to_frame()

    def since(self, position: int) -> pd.DataFrame:
        """The rows from `position` on; nothing is copied.

        `attrs["position"]` of the result is where to go on, `attrs["missed"]` how many of
        the rows asked for were dropped before. When `attrs["epoch"]` is another than before,
        rows before the position have changed or were put in between: start again from 0.
        """
        rows = self.rows_since(position)
        frame = rows.to_frame()
        frame.attrs.update(position=rows.last, missed=rows.missed, epoch=rows.epoch)
        return frame

    @property
    def gaps(self) -> pd.DataFrame:
        """What was missed: one row per loss of the connection and symbol, oldest first.

        Columns symbol, start, end, state, rows (filled in), reason, detail, lost, back; see
        `data.gaps`. A frame whose connection never broke has none.
        """
        self._pull()
        return self._gap_log.to_frame()

    @property
    def gap_counts(self) -> GapCounts:
        """How many losses there were, by what became of them."""
        self._pull()
        return self._gap_log.counts

    @property
    def amendments(self) -> pd.DataFrame:
        """What was said of rows after they were sent, oldest first; the newest 10,000 or so.

        Columns time (of arrival), symbol, kind, timestamp (of the row), exchange, trade_id,
        old_price, old_size, new_price, new_size, matched (False while there is no such row).
        For a bar, price and size are its close and volume.
        """
        self._pull()
        with self._lock:
            self._write_all()
            log = self._rules.known.log
        return log.to_frame()

    @property
    def stats(self) -> FrameStats:
        """Counts, rate and lag; taken from the rows, so that they cost the feed nothing."""
        rows = self.snapshot()
        recent, tally = rows.tail(_RECENT_ROWS), rows.tally
        from_stream = _from_stream(recent)
        now_ns = self._clock.now_ns()
        return FrameStats(
            rows=len(rows),
            position=rows.last,
            rate=_rate(from_stream, now_ns, is_all=not recent.first),
            lag_s=None if "bars" in self.channel else _median_lag(from_stream, now_ns),
            last_received_ns=int(recent["received"].max()) if len(rows) else None,
            rejected=tally.rejected,
            dropped=rows.dropped,
            duplicates=tally.duplicates,
            backfilled=tally.filled,
            amended=tally.amended,
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
        self._pull()
        return self._store.snapshot().epoch

    def snapshot(self) -> Snapshot:
        """All rows held, as raw columns."""
        self._pull()
        return self._written()

    def rows_since(self, position: int) -> Snapshot:
        """The rows from `position` on, as raw columns; costs the same for any number of them.

        Go on at `last`; `missed` rows were dropped before they were asked for.
        """
        _check_count(position, "position")
        return self.snapshot().since(position)

    def rows_of(self, symbol: str) -> Snapshot:
        """The rows of one symbol, as raw columns; see `symbol`."""
        now = self.snapshot()
        return now.take(self._index.rows(now, check_symbol(symbol, self.symbols, now)))

    def candles(self, interval: Any, **options: Any) -> LiveCandles:
        """Candles of these trades, which bring themselves up to date when they are read.

        `interval` is "1s" to "1d", such as "65min"; with `session="regular"` it counts from
        the open, else from midnight in New York. See `data.live_candles`. Raises BadInputError
        for what is no interval, and on a frame of anything but trades.
        """
        from alpaca_nb.data.live_candles import LiveCandles

        return LiveCandles(interval, source=self.snapshot, **{"hours": self.hours, **options})

    def to_arrow(self) -> Any:
        """All rows held, as a `pyarrow.Table` on the same memory; see `data.export`.

        Raises AlpacaError if pyarrow is not installed.
        """
        return to_arrow(self.snapshot(), channel=self.channel)

    def to_polars(self) -> Any:
        """All rows held, as a `polars.DataFrame`; see `data.export`.

        Raises AlpacaError if polars or pyarrow is not installed.
        """
        return to_polars(self.snapshot())

    def latest_rows(self, since: int = 0) -> Snapshot:
        """The last row of each symbol that has a row at position `since` or later.

        As raw columns, in the order of the codes of `symbol`: such a code is a stable row
        number for its symbol until `epoch` changes. Go on at `last`.
        """
        _check_count(since, "since")
        self._pull()
        with self._lock:
            self._write_all()
            return self._latest.since(since, of=self._store.snapshot())

    def wait(self, rows: int = 1, timeout: float | None = 10.0) -> None:
        """Return once `rows` rows were ever appended; at once if they were.

        Raises TimeoutError after `timeout` seconds (None: never), or as soon as the frame
        is closed with fewer rows; the error it was closed with, if there was one.
        """
        _check_count(rows, "rows")
        self._pull()
        with self._arrived:
            self._waiting += 1
            try:
                enough = self._arrived.wait_for(
                    lambda: self._closed or self._written().last >= rows, timeout
                )
            finally:
                self._waiting -= 1
        if self._written().last < rows:
            self._raise_too_few(rows, timeout if not enough else None)

    # -- display -------------------------------------------------------------------------

    def table(self, **options: Any) -> Any:
        """A live table of this frame."""
        return self._view(type(self).table_factory, options)

    def chart(self, **options: Any) -> Any:
        """A live chart of this frame."""
        return self._view(type(self).chart_factory, options)

    def source(self, columns: str | Iterable[str] | None = None, **options: Any) -> Any:
        """A Bokeh ColumnDataSource of this frame, for a figure of your own; `refresh` updates it.

        `columns` are those it has beside `timestamp`; of the options, `rollover` is how many
        rows it holds and `symbol` the only one it shows. See `view.source`.
        """
        return self._view(type(self).source_factory, {"columns": columns, **options})

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        view_factory = type(self).view_factory
        if view_factory is None:
            return {"text/plain": repr(self)}
        return view_factory(self)._repr_mimebundle_(include=include, exclude=exclude)

    def _view(self, factory: Callable[..., Any] | None, options: dict[str, Any]) -> Any:
        if factory is None:
            raise BadInputError("Nothing displays frames yet; import alpaca_nb.view first.")
        return factory(self, **options)

    # -- from what is staged to columns --------------------------------------------------

    def _pull(self) -> None:
        pull, thread = self.pull, threading.get_ident()
        if pull is None or self._closed or thread in self._pulling:
            return
        try:
            self._pulling.add(thread)
            pull()
        finally:
            self._pulling.discard(thread)

    def _written(self) -> Snapshot:
        """All rows that were handed in, without asking for more."""
        self._write_staged()
        return self._store.snapshot()

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
        self._settle()
        self._forget_written()
        staged = [self._staged[i] for i in range(len(self._staged))]
        for (origin, _), some in groupby(staged, key=_KIND):
            self._write(list(some), origin)
        self._forget_written()

    def _forget_written(self) -> None:
        staged = self._staged
        self._consumed = consumed = self._store.snapshot().tally.taken
        while staged and staged[0].offset < consumed:
            staged.popleft()

    def _write(self, staged: Sequence[_Staged], origin: Origin) -> None:
        arrays, taken = self._columns_of(staged, origin)
        held, late = self._store.snapshot(), origin == "backfill"
        groups = group(arrays[self._at["symbol"]], arrays[self._at["timestamp"]])
        plan = self._rules.take(arrays, held, groups, self._latest.newest(groups))
        tally = held.tally.plus(
            taken=taken,
            rejected=taken - len(arrays[0]),
            duplicates=plan.duplicates,
            amended=plan.amended,
        )
        if len(plan.rows):
            self._carry_out(plan, tally, late=late)
        else:
            is_whole = len(plan.new[0]) == len(arrays[0])
            self._append(plan, tally, late=late, groups=groups if is_whole else None)

    def _append(
        self, plan: Plan, tally: Tally, *, late: bool, groups: Groups | None = None
    ) -> None:
        """Store the new rows of a plan behind those held; `groups` are theirs, if known."""
        held = self._store.snapshot()
        rows = self._store.appended(plan.new, tally=tally)
        update = self._latest.appended(plan.new, held=held, now=rows, late=late, groups=groups)
        self._publish(_Next(rows, plan.known, self._latest, update))

    def _columns_of(self, staged: Sequence[_Staged], origin: Origin) -> tuple[Arrays, int]:
        """All columns of what is staged, and how many messages that was."""
        if staged[0].lexicon is not None:
            batch = joined([(each.content, each.start, each.stop) for each in staged])
            arrays = self._batches.read(batch, self._store)
            return self._with_extra(arrays, batch.received, origin), len(batch)
        messages = [message for each in staged for message in each.content]
        received = np.repeat(
            np.array([each.received_ns for each in staged], np.int64),
            [len(each.content) for each in staged],
        )
        return self._read(messages, received, origin)[0], len(messages)

    def _read(
        self, messages: Sequence[Message[Any]], received: AnyArray, origin: Origin
    ) -> tuple[Arrays, AnyArray | None]:
        """All columns of the messages that can be stored, and which these are (None: all)."""
        arrays, kept = self._messages.read(messages, self._store)
        return self._with_extra(arrays, received if kept is None else received[kept], origin), kept

    def _with_extra(self, arrays: Arrays, received: AnyArray, origin: Origin) -> Arrays:
        """The columns of messages and those that say how they came."""
        source = self._store.encode(self._at["source"], [origin])
        arrays += [received, np.repeat(source, len(received))]
        if "amended" in self._at:
            arrays.append(np.zeros(len(received), np.int8))
        return arrays

    def _no_rows(self) -> Arrays:
        return [self._store.encode(i, []) for i in range(len(self.columns))]

    # -- history and amendments ----------------------------------------------------------

    def _fill(
        self,
        messages: Sequence[Message[Any]],
        received_ns: int,
        asked_ns: int,
        updates: Mapping[int, str],
        overlap: tuple[int, int] | None,
        symbols: Collection[str] | None,
    ) -> Fill:
        held = self._store.snapshot()
        received = np.full(len(messages), received_ns, np.int64)
        arrays, kept = self._read(messages, received, "backfill")
        order = arrays[self._at["timestamp"]].argsort(kind="stable")
        new = [values[order] for values in arrays]
        there = [held[column.name] for column in self.columns]
        marks = _marks(updates, len(messages), kept, order)
        keep, plan = self._rules.fill(new, there, marks, received_ns=received_ns, asked_ns=asked_ns)
        plan.new = [values[keep] for values in new]
        unknown = 0
        if overlap is not None:
            asked = self._from_stream_in(held, overlap, symbols)
            unknown = self._rules.missing(there, asked, new, plan.pairs)
        tally = held.tally.plus(
            rejected=len(messages) - len(order), amended=plan.amended, filled=len(plan.new[0])
        )
        unfit = self._carry_out(plan, tally, in_time=True)
        names = self._store.names(self._at["symbol"])
        counts = np.bincount(plan.new[self._at["symbol"]][unfit:], minlength=len(names))
        return Fill(
            added=len(plan.new[0]) - unfit,
            duplicates=plan.duplicates,
            amended=plan.amended,
            unknown=unknown,
            rows={names[code]: int(counts[code]) for code in np.flatnonzero(counts)},
        )

    def _from_stream_in(
        self, held: Snapshot, span: tuple[int, int], symbols: Collection[str] | None
    ) -> AnyArray:
        """The rows held that the stream brought for a span of time."""
        times = held["timestamp"]
        rows: AnyArray = np.flatnonzero((times >= span[0]) & (times <= span[1]))
        rows = rows[held["source"][rows] != held.code("source", "backfill")]
        if symbols is not None:
            codes = [held.code("symbol", symbol) for symbol in symbols]
            rows = rows[np.isin(held["symbol"][rows], codes)]
        return rows

    def _amend_trades(
        self, rules: TradeRules, messages: Sequence[Message[Any]], received_ns: int
    ) -> None:
        notices: list[Notice] = []
        for message in messages:
            try:
                notices.append(notice_of(message, received_ns))
            except Exception:  # as with any message: one that is wrong costs no other
                continue
        held = self._store.snapshot()
        plan, concerned = rules.amend(notices, [held[column.name] for column in self.columns])
        plan.new = self._no_rows()
        symbols, arrays = self._latest.not_held(held)
        latest = None
        if len(symbols):
            rows, values = rules.settle(arrays, concerned, plan.known)
            latest = symbols[rows], values
        tally = held.tally.plus(rejected=len(messages) - len(notices), amended=plan.amended)
        self._carry_out(plan, tally, latest=latest)

    def _amend_bars(
        self, rules: BarRules, messages: Sequence[Message[Any]], received_ns: int
    ) -> None:
        held = self._store.snapshot()
        received = np.full(len(messages), received_ns, np.int64)
        arrays, _ = self._read(messages, received, "live")
        order = arrays[self._at["timestamp"]].argsort(kind="stable")
        new = [values[order] for values in arrays]
        plan = rules.amend(new, [held[column.name] for column in self.columns])
        symbols, last = self._latest.not_held(held)
        latest = None
        if len(symbols):
            rows, values = rules.replaced(last, new)
            latest = symbols[rows], values
        tally = held.tally.plus(rejected=len(messages) - len(order), amended=plan.amended)
        self._carry_out(plan, tally, in_time=True, latest=latest)

    def _carry_out(
        self,
        plan: Plan,
        tally: Tally,
        *,
        in_time: bool = False,
        late: bool = False,
        latest: tuple[AnyArray, Arrays] | None = None,
    ) -> int:
        """Do what a plan says, all at once; returns how many rows were too old to take in.

        New rows go where they belong in time, or to the end. `latest` are symbols whose last
        rows are not held but change, and to what.
        """
        held, new, unfit = self._store.snapshot(), plan.new, 0
        if in_time:
            times = new[self._at["timestamp"]]
            unfit = int(np.searchsorted(times, self._store.horizon(new)))
            new = [values[unfit:] for values in new]
            at = places(held["timestamp"], times[unfit:])
        else:
            at = np.full(len(new[0]), len(held))
        change = Change(new, at, plan.rows, plan.values)
        placed = change.placed(held, maxlen=self.maxlen)
        if in_time:
            new = [values[placed.unfit :] for values in new]
            unfit += placed.unfit
            tally = replace(tally, filled=max(tally.filled - unfit, held.tally.filled))
        after = self._latest
        if latest is not None and len(latest[0]):
            after = after.replaced(*latest, held=held)
        if len(plan.rows) or (at[placed.unfit :] < len(held)).any():
            after = after.changed(change, placed, held=held)
            rows = self._store.changed(change, placed, tally=tally)
            self._publish(_Next(rows, plan.known, after))
        else:
            rows = self._store.appended(new, tally=tally)
            update = after.appended(new, held=held, now=rows, late=late or in_time)
            self._publish(_Next(rows, plan.known, after, update))
        return unfit

    def _publish(self, what: _Next) -> None:
        """Make rows visible together with what goes with them.

        An interrupt may come between the two. Which snapshot is the current one then says
        whether the rest is still to be done.
        """
        self._next = what
        self._store.publish(what.rows)
        self._settle()

    def _settle(self) -> None:
        what = self._next
        if what is not None:
            if self._store.snapshot() is what.rows:
                if what.update is not None:
                    what.latest.apply(what.update)
                self._latest, self._rules.known = what.latest, what.known
            self._next = None

    # -- waiting -------------------------------------------------------------------------

    def _wake(self) -> None:
        with self._arrived:
            self._arrived.notify_all()

    def _raise_too_few(self, rows: int, timeout: float | None) -> None:
        if self._error is not None:
            raise self._error
        seen = f"{self._written().last} of {rows} rows of {self!r} arrived"
        if timeout is None:
            raise TimeoutError(f"Only {seen}, and it was closed.")
        raise TimeoutError(f"Only {seen} within {timeout:g} s. {self.status.detail}".rstrip())


def _marks(
    updates: Mapping[int, str], messages: int, kept: AnyArray | None, order: AnyArray
) -> dict[int, str]:
    """Marks by index among messages, as marks by row once some are left out and all sorted."""
    if not updates:
        return {}
    row_of = np.full(messages, -1)
    row_of[np.arange(messages) if kept is None else np.flatnonzero(kept)] = order.argsort()
    return {int(row_of[i]): mark for i, mark in updates.items() if row_of[i] >= 0}


# -- measures of the last seconds --------------------------------------------------------

_RECENT_ROWS: Final = 100_000
_RECENT_NS: Final = 10_000_000_000
_HOUR_S: Final = 3600.0

_Times = tuple[AnyArray, AnyArray]
"""When rows arrived, and their time stamps."""


def _from_stream(rows: Snapshot) -> _Times:
    """The times of rows that were not filled in: of these, arrivals ascend."""
    received, timestamps = rows["received"], rows["timestamp"]
    is_filled = rows["source"] == rows.code("source", "backfill")
    if is_filled.any():
        return received[~is_filled], timestamps[~is_filled]
    return received, timestamps


def _recent(times: _Times, now_ns: int) -> _Times:
    """Those of the rows that arrived in the last ten seconds."""
    start = int(np.searchsorted(times[0], now_ns - _RECENT_NS))
    return times[0][start:], times[1][start:]


def _rate(times: _Times, now_ns: int, *, is_all: bool) -> float:
    """Rows a second; `is_all` if there were none before these."""
    received, _ = _recent(times, now_ns)
    if not len(received):
        return 0.0
    if len(received) < len(times[0]):
        return len(received) * 1e9 / _RECENT_NS
    # Rows from before are not held, or there were none. A stream that has only begun
    # counts as a second old, or its first rows would look like a storm.
    shortest_ns = 1_000_000_000 if is_all else 1_000_000
    span_ns = max(now_ns - int(received[0]), shortest_ns)
    return len(received) * 1e9 / span_ns


def _median_lag(times: _Times, now_ns: int) -> float | None:
    received, timestamps = _recent(times, now_ns)
    if not len(received):
        return None
    lag_s = float(np.median(received - timestamps)) / 1e9
    return lag_s if abs(lag_s) <= _HOUR_S else None


def _check_count(rows: int, what: str) -> None:
    if type(rows) is not int or rows < 0:
        raise BadInputError(f"{what} counts rows: a whole number from 0 on, not {rows!r}.")
