"""From raw frames to columns, in bulk.

A frame that has come is only put aside. What waits is decoded together: a call of the
compiled decoder, and each step of numpy, costs microseconds, whether it is for one message or
for a thousand. Nothing waits for longer than `wait_s`, nothing waits when little comes, and
whoever wants to know all (a change of the routes, the end of the connection, somebody who
reads a frame) has it decoded first. The order of things stays what it was: an answer of the
server is handed over between what came before it and after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from alpaca_nb.data import compiled
from alpaca_nb.data.batch import Batch, Lexicon, batch_of, layout_of
from alpaca_nb.data.scan import Scanner
from alpaca_nb.errors import ProtocolError
from alpaca_nb.wire.codec import decode, decode_all
from alpaca_nb.wire.messages import CHANNEL_OF, Message, Quote, Trade

WAIT_S: Final = 0.005
"""How long a frame waits to be decoded with others, at the longest."""
PATIENT_S: Final = 0.025
"""The same where nobody listens, and all who want something ask for it."""
_BYTES_AT_ONCE: Final = 131_072
"""So much is decoded without waiting for more: several hundred messages at least."""
_RUN_BYTES: Final = 40_960
_RUN_FRAMES: Final = 340
"""What msgspec is given at once: some 500 messages.

Each brings one or two lists along. Python's garbage collector comes when 700 more of such
objects have been made than have gone, takes those for old that are alive just then, and
looks through the whole kernel when there are many old ones. So they are gone before it comes;
with three times as much at once, half of the time was the collector's.
"""
_BYTES_COMPILED: Final = 262_144
"""The same where the decoder is compiled, and four times as fast at least."""
_BUSY: Final = 5_000
"""Messages in a second from which on it pays to compile."""
_LONGEST_RUN: Final = 1_024
"""Frames that the compiled decoder is not asked about after it refused as many."""

_DATA_TYPES: Final = frozenset(CHANNEL_OF)
_TICKS: Final = (Quote, Trade)


class Haul(Protocol):
    """What was decoded at once: market data only, as columns."""

    batches: list[Batch]
    """At most one per channel; their rows are in the order they came."""
    newest: NDArray[np.int64]
    """The time stamp (ns, UTC) of the last message of each frame that ended in a quote or trade."""

    def sequence(self, batch: Batch) -> NDArray[np.int64]:
        """A number per row that tells how the rows of all batches came one after the other."""
        ...

    def messages(self, batch: Batch, rows: NDArray[np.intp]) -> list[Message[Any]]:
        """The messages of some rows."""
        ...


class Consumer(Protocol):
    """Who gets what was decoded, in the order it came."""

    def take_haul(self, haul: Haul, received: NDArray[np.int64]) -> None:
        """Market data; `received` (ns, UTC) has one entry per entry of `haul.newest`."""
        ...

    def take_odd(self, messages: list[Message[Any]], received_ns: int) -> None:
        """Market data with values that no column can hold."""
        ...

    def take_frame(self, frame: bytes, received_ns: int) -> bool:
        """A frame in which something is no market data, or that cannot be read.

        Returns whether anything that comes after it is wanted.
        """
        ...

    def take_defect(self, error: Exception) -> None:
        """An error in here, or where things were handed over. Nothing comes after it."""
        ...


class Intake:
    """The frames of one connection after the other; used on the stream's loop."""

    def __init__(
        self,
        lexicon: Lexicon,
        consumer: Consumer,
        now_ns: Callable[[], int],
        *,
        wait_s: float = WAIT_S,
    ) -> None:
        self._lexicon = lexicon
        self._consumer = consumer
        self._now_ns = now_ns
        self.wait_s = wait_s
        """How long a frame waits for others, at the longest."""
        self._scanner = Scanner(lexicon)
        self._broken = False
        self._loop: asyncio.AbstractEventLoop | None = None
        # What waits: frames, how many bytes they are, and when how many of them came.
        self._frames: list[bytes] = []
        self._bytes = 0
        self._arrivals: list[tuple[int, int]] = []
        self._flushed_s = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        # The compiled decoder is not asked for so many frames, twice as many each time.
        self._run = 1
        # Nor is msgspec given more frames than these.
        self._most = 1
        self._second_s = float("-inf")
        self._this_second = 0

    @property
    def waiting(self) -> bool:
        """Whether anything is to be decoded yet; may be asked from any thread."""
        return bool(self._frames)

    def reset(self) -> None:
        """Forget what waits, because another connection begins."""
        self._frames, self._bytes, self._arrivals = [], 0, []
        self._broken = False
        self._loop = None

    def put(self, frames: list[bytes]) -> None:
        """Take the frames of one look at the socket, at least one."""
        # Those of a chunk are much alike.
        self._bytes += len(frames) * len(frames[-1])
        self._arrivals.append((self._now_ns(), len(frames)))
        self._frames += frames
        loop = self._loop or self._find_loop()
        enough = _BYTES_AT_ONCE if compiled.kernels() is None else _BYTES_COMPILED
        if self._bytes >= enough or loop.time() - self._flushed_s >= self.wait_s:
            self.flush()
        elif self._timer is None:
            self._timer = loop.call_at(self._flushed_s + self.wait_s, self.flush)

    def flush(self) -> None:
        """Decode all that waits, and hand it over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._frames:
            return
        frames, self._frames = self._frames, []
        fitting = _RUN_BYTES * len(frames) // max(1, self._bytes)
        self._most = max(1, min(fitting, _RUN_FRAMES))
        self._bytes = 0
        arrivals, self._arrivals = self._arrivals, []
        received = np.repeat(*np.array(arrivals, np.int64).T)
        start = 0
        try:
            while start < len(frames) and not self._broken:
                start += self._decode_some(frames, received, start)
        except Exception as error:  # a defect: whoever flushes has not caused it
            self._broken = True
            self._consumer.take_defect(error)
        self._flushed_s = now_s = (self._loop or self._find_loop()).time()
        if self._this_second > _BUSY:
            compiled.warm_up()
        if now_s - self._second_s >= 1.0:
            self._second_s, self._this_second = now_s, 0

    def _find_loop(self) -> asyncio.AbstractEventLoop:
        self._loop = asyncio.get_running_loop()
        return self._loop

    def _decode_some(self, frames: list[bytes], received: NDArray[np.int64], start: int) -> int:
        """Decode the frames from `start` on, as far as one step goes; returns how many."""
        stop = min(start + self._most, len(frames))
        if compiled.kernels() is not None:
            scanned = self._scanner.scan(frames, received, start)
            if scanned.frames:
                self._run = 1
                self._hand_over(scanned, received[start : start + scanned.frames])
                return scanned.frames
            # If it refuses many in a row, it is asked less and less often.
            stop = min(start + self._run, stop)
            self._run = min(2 * self._run, _LONGEST_RUN)
        self._read(frames[start:stop], received[start:stop])
        return stop - start

    def _read(self, frames: Sequence[bytes], received: NDArray[np.int64]) -> None:
        """Decode frames of any kind."""
        decoded = decode_all(frames)
        if decoded is not None:
            messages: list[Any] = list(chain.from_iterable(decoded))
            kinds = set(map(type, messages))
            if kinds <= _DATA_TYPES:
                lengths = np.fromiter(map(len, decoded), np.int64, len(decoded))
                self._take(messages, kinds, lengths, received)
                return
        self._read_singly(frames, received)

    def _read_singly(self, frames: Sequence[bytes], received: NDArray[np.int64]) -> None:
        for frame, received_ns in zip(frames, received.tolist(), strict=True):
            if self._broken:
                return
            try:
                messages: list[Any] = decode(frame)
            except ProtocolError:
                kinds = None
            else:
                kinds = set(map(type, messages))
            if kinds is not None and kinds <= _DATA_TYPES:
                self.take(messages, received_ns)
            else:
                self._broken = not self._consumer.take_frame(frame, received_ns)

    def take(self, messages: list[Message[Any]], received_ns: int) -> None:
        """Hand over market data of one frame that was decoded elsewhere."""
        kinds, lengths = set(map(type, messages)), np.array([len(messages)])
        self._take(messages, kinds, lengths, np.array([received_ns]))

    def _take(
        self,
        messages: list[Any],
        kinds: set[type[Message[Any]]],
        lengths: NDArray[np.int64],
        received: NDArray[np.int64],
    ) -> None:
        if not lengths.all():
            received, lengths = received[lengths > 0], lengths[lengths > 0]
        if not messages:
            return
        haul = _Messages(messages, kinds, lengths, received, self._lexicon)
        if haul.batches:
            self._hand_over(haul, received[haul.ends_in_tick])
        for received_ns, odd in haul.odd():
            self._consumer.take_odd(odd, received_ns)

    def _hand_over(self, haul: Haul, received: NDArray[np.int64]) -> None:
        self._this_second += sum(map(len, haul.batches))
        self._consumer.take_haul(haul, received)


class _Messages:
    """A haul of messages that msgspec has made."""

    def __init__(
        self,
        messages: list[Message[Any]],
        kinds: set[type[Message[Any]]],
        lengths: NDArray[np.int64],
        received: NDArray[np.int64],
        lexicon: Lexicon,
    ) -> None:
        self._messages = messages
        self._received = received
        if len(messages) > len(lengths):
            self._received = np.repeat(received, lengths)
        self._lexicon = lexicon
        self._odd: list[int] = []
        self._rows: dict[str, NDArray[np.intp]] = {}
        self.batches: list[Batch] = []
        everything = np.arange(len(messages))
        for kind in kinds:
            rows = everything
            if len(kinds) > 1:
                rows = np.array([i for i in everything.tolist() if type(messages[i]) is kind])
            self._add(kind, rows)
        self.ends_in_tick, self.newest = self._newest(np.cumsum(lengths) - 1)

    def sequence(self, batch: Batch) -> NDArray[np.int64]:
        """A number per row that tells how the rows of all batches came one after the other."""
        return self._rows[batch.layout.channel]

    def messages(self, batch: Batch, rows: NDArray[np.intp]) -> list[Message[Any]]:
        """The messages of some rows."""
        return [self._messages[i] for i in self._rows[batch.layout.channel][rows].tolist()]

    def odd(self) -> Iterator[tuple[int, list[Message[Any]]]]:
        """When those came that no column can hold, and these."""
        for i in self._odd:
            yield int(self._received[i]), [self._messages[i]]

    def _add(self, kind: type[Message[Any]], rows: NDArray[np.intp]) -> None:
        everything = len(rows) == len(self._messages)
        some = self._messages if everything else [self._messages[i] for i in rows.tolist()]
        try:
            batch = batch_of(some, self._received[rows], self._lexicon)
        except (TypeError, ValueError, OverflowError):
            # One that is wrong costs no other.
            fits = np.array([self._fits(message) for message in some], bool)
            self._odd += rows[~fits].tolist()
            if fits.any():
                self._add(kind, rows[fits])
            return
        self.batches.append(batch)
        self._rows[layout_of(kind).channel] = rows

    def _fits(self, message: Message[Any]) -> bool:
        try:
            batch_of([message], np.zeros(1, np.int64), self._lexicon)
        except (TypeError, ValueError, OverflowError):
            return False
        return True

    def _newest(self, ends: NDArray[np.intp]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Which of the frames end in a quote or trade, and the time stamps of these."""
        times = np.zeros(len(self._messages), np.int64)
        known = np.zeros(len(self._messages), bool)
        for batch in self.batches:
            if batch.layout.message in _TICKS:
                rows = self._rows[batch.layout.channel]
                times[rows], known[rows] = batch.times, True
        there = known[ends]
        return there, times[ends[there]]
