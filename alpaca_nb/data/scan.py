"""Frames of quotes and trades straight into batches, by compiled code.

It decodes what nearly all frames are: MessagePack arrays that hold nothing but quotes and
trades with every field they have, in ASCII. For any other frame it says so, and
`wire.codec.decode` takes it; both give the same.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from alpaca_nb.data import compiled
from alpaca_nb.data.batch import Batch, Layout, Lexicon, layout_of
from alpaca_nb.data.columns import Kind
from alpaca_nb.data.compiled import Kernels
from alpaca_nb.wire.codec import decode
from alpaca_nb.wire.messages import Message, Quote, Trade

MOST_ROWS: Final = 8192
"""How many messages one scan decodes, less if a frame ends before; half a millisecond or less."""

MOST_BYTES: Final = 1 << 19
"""How many bytes of frames one scan looks at, more if the first is longer."""

LONGEST_FRAME: Final = 1 << 23
"""A longer frame is left to msgspec, which needs no room for it beforehand."""

MOST_TEXTS: Final = 1 << 17
"""How many texts are known by their bytes; a frame with more new ones is left to msgspec."""

_TYPES: Final[tuple[type[Message[Any]], ...]] = (Quote, Trade)
_ARRAY_32: Final = 0xDD


@dataclass(frozen=True, slots=True)
class _Part:
    """Where the columns of a message type lie in the arrays that both types share."""

    layout: Layout
    numbers: slice
    prices: slice
    codes: slice
    starts: int
    stops: int


@dataclass(frozen=True, slots=True)
class _Plan:
    """What the compiled code needs to know of quotes and trades."""

    parts: tuple[_Part, ...]
    number_rows: int
    text_rows: int
    fields: NDArray[np.int16]
    shapes: NDArray[np.int64]


@functools.cache
def _plan(kernels: Kernels) -> _Plan:
    """Everything that follows from how the two messages and their batches are declared."""
    constants = kernels.constants
    fields = np.zeros((len(_TYPES), constants.FIELDS), np.int16)
    shapes = np.zeros((len(_TYPES), 5), np.int64)
    parts: list[_Part] = []
    number_row = text_row = 0
    for i, message in enumerate(_TYPES):
        part = _part_of(layout_of(message), number_row, text_row)
        number_row, text_row = part.prices.stop, part.stops + 1
        _describe(part, fields[i], shapes[i], constants)
        parts.append(part)
    return _Plan(tuple(parts), number_row, text_row, fields, shapes)


def _part_of(layout: Layout, number_row: int, text_row: int) -> _Part:
    """Where the columns lie if these are the first rows that are free."""
    numbers, prices, codes = layout.rows
    price_row, place_row = number_row + numbers, text_row + codes
    return _Part(
        layout,
        slice(number_row, price_row),
        slice(price_row, price_row + prices),
        slice(text_row, place_row),
        place_row,
        place_row + 1,
    )


def _describe(
    part: _Part, fields: NDArray[np.int16], shape: NDArray[np.int64], constants: Any
) -> None:
    """Fill in what `data.kernels` wants to know of a message type."""
    holds = {
        Kind.TIME: constants.TIME,
        Kind.INT: constants.INT,
        Kind.IDENTIFIER: constants.IDENTIFIER,
        Kind.FLOAT: constants.FLOAT,
        Kind.CATEGORY: constants.TEXT,
        Kind.LABELS: constants.LABELS,
    }
    layout = part.layout
    firsts = (part.numbers.start, part.prices.start, part.codes.start)
    keys = [field.encode_name for field in msgspec.structs.fields(layout.message)]
    columns = zip(layout.columns, layout.places, layout.fields, strict=True)
    for number, (column, (block, row), field) in enumerate(columns):
        entry = holds[column.kind] | firsts[block] + row << 3 | number << 8
        fields[_index_of(keys[field], constants)] = entry
    fields[_index_of("T", constants)] = constants.AGAIN
    tag = cast(str, layout.message.__struct_config__.tag)
    shape[constants.TAG] = int.from_bytes(b"\xa1T\xa1" + tag.encode(), "big")
    shape[constants.COMPLETE] = (1 << len(layout.columns)) - 1
    shape[constants.RECEIVED] = part.numbers.stop - 1
    shape[constants.STARTS] = part.starts
    shape[constants.STOPS] = part.stops


def _index_of(key: str, constants: Any) -> int:
    index = int.from_bytes(key.encode(), "big")
    return index + constants.ONE_BYTE_KEYS if len(key) == 1 else index


class Scanned:
    """What a scan has decoded."""

    def __init__(
        self,
        frames: int,
        refused: bool,
        newest: NDArray[np.int64],
        data: bytes,
        parts: Sequence[tuple[Batch, NDArray[np.int32], NDArray[np.int32]]],
    ) -> None:
        self.frames = frames
        """How many frames are decoded, counted from the start."""
        self.refused = refused
        """Whether the frame behind them is one for `wire.codec.decode`; else scan on."""
        self.newest = newest
        """The time stamp of the last message of each frame decoded."""
        self.batches: list[Batch] = [batch for batch, _, _ in parts]
        """At most one of quotes and one of trades, the messages of each in the order they came."""
        self._data = data
        self._places = {id(batch.layout): (starts, stops) for batch, starts, stops in parts}

    def __repr__(self) -> str:
        return f"Scanned({self.frames} frames, {self.batches})"

    def sequence(self, batch: Batch) -> NDArray[np.int64]:
        """A number for each row that puts the rows of all batches in the order they came."""
        starts, _ = self._places[id(batch.layout)]
        return starts.astype(np.int64)

    def messages(self, batch: Batch, rows: NDArray[np.intp]) -> list[Message[Any]]:
        """Some rows of a batch as `wire.codec.decode` has them, in the order they are named."""
        starts, stops = self._places[id(batch.layout)]
        data = self._data
        spans = zip(starts[rows].tolist(), stops[rows].tolist(), strict=True)
        header = bytes((_ARRAY_32, *len(rows).to_bytes(4, "big")))
        return cast(list[Message[Any]], decode(header + b"".join([data[a:b] for a, b in spans])))


class Scanner:
    """Decodes frames as long as they are of the usual shape.

    Every text gets its number in the lexicon, so what is decoded here and elsewhere fits
    together. For one thread.
    """

    def __init__(self, lexicon: Lexicon) -> None:
        self._lexicon = lexicon
        self._texts: _Texts | None = None
        # How many frames are worth a look: few, where one in a few is refused or a few are
        # as much as one scan takes.
        self._reach = MOST_ROWS

    def scan(
        self,
        frames: Sequence[bytes],
        received: Sequence[int] | NDArray[np.int64],
        start: int = 0,
    ) -> Scanned:
        """Decode frames from `start` on, up to the first that is not of the usual shape.

        `received` says when each came. One call decodes no more than about 8,192 messages,
        to keep the interpreter lock for less than a millisecond. So go on with the frame
        behind those decoded, and with `wire.codec.decode` where that was `refused`. Without
        compiled code every frame is.
        """
        kernels = compiled.kernels()
        if kernels is None or start >= len(frames):
            return _nothing(refused=start < len(frames))
        part = frames[start : start + self._reach]
        stops = np.fromiter(map(len, part), np.int64, len(part)).cumsum()
        if stops[0] > LONGEST_FRAME:
            return _nothing(refused=True)
        if stops[-1] > MOST_BYTES:
            count = max(1, int(stops.searchsorted(MOST_BYTES, side="right")))
            part, stops = part[:count], stops[:count]
        came = np.array(received[start : start + len(part)], np.int64)
        scanned = self._scan(kernels, part, stops, came)
        if scanned.refused:
            self._reach = 2 * scanned.frames + 8
        elif scanned.frames < len(part):
            self._reach = scanned.frames * 9 // 8 + 8
        else:
            self._reach = min(2 * self._reach, MOST_ROWS)
        return scanned

    def _scan(
        self,
        kernels: Kernels,
        frames: Sequence[bytes],
        stops: NDArray[np.int64],
        received: NDArray[np.int64],
    ) -> Scanned:
        constants, plan = kernels.constants, _plan(kernels)
        if self._texts is None:
            self._texts = _Texts(kernels, self._lexicon)
        texts = self._texts
        data = b"".join([*frames, bytes(constants.PADDING)])
        array = np.frombuffer(data, np.uint8)
        smallest = constants.SMALLEST_MESSAGE
        room = max(min(MOST_ROWS, int(stops[-1]) // smallest), int(stops[0]) // smallest) + 1
        numbers = np.empty((plan.number_rows, room), np.int64)
        codes = np.empty((plan.text_rows, room), np.int32)
        newest = np.empty(len(frames), np.int64)
        while True:
            state = texts.state
            state[constants.FRAMES :] = 0
            why = kernels.scan(
                *(array, stops, received, numbers, codes, newest, plan.fields, plan.shapes),
                *(texts.slots, texts.entries, texts.arena, texts.letters, state),
            )
            done, *counts = state[constants.FRAMES :].tolist()
            # If not even one frame went in, it is worth another try with more room.
            if done or why != constants.NO_PLACE or not texts.grow():
                break
        new = texts.learn()
        parts = []
        for part, count in zip(plan.parts, counts, strict=True):
            if not count:
                continue
            coded = codes[part.codes, :count]
            if new:
                texts.settle(coded)
            batch = Batch(
                part.layout,
                self._lexicon,
                numbers[part.numbers, :count],
                numbers[part.prices, :count].view(np.float64),
                coded,
            )
            parts.append((batch, codes[part.starts, :count], codes[part.stops, :count]))
        refused = why == constants.REFUSED or not done
        return Scanned(done, refused, newest[:done], data, parts)


def _nothing(*, refused: bool) -> Scanned:
    return Scanned(0, refused, np.empty(0, np.int64), b"", ())


class _Texts:
    """Texts by their packed bytes, as the compiled code looks them up."""

    def __init__(self, kernels: Kernels, lexicon: Lexicon) -> None:
        self._kernels, self._lexicon = kernels, lexicon
        self.state = np.zeros(5, np.int64)
        self.letters = np.full(256, -1, np.int32)
        self.entries = np.empty((0, 4), np.int64)
        self.arena = np.empty(0, np.uint8)
        self._learned = 0
        self._make_room(1 << 10)

    def __len__(self) -> int:
        return int(self.state[self._kernels.constants.ENTRIES])

    def grow(self) -> bool:
        """Make room for twice as many texts, if so many are allowed."""
        texts = 2 * len(self.entries)
        if texts > MOST_TEXTS:
            return False
        self._make_room(texts)
        return True

    def _make_room(self, texts: int) -> None:
        constants = self._kernels.constants
        entries = np.empty((texts, 4), np.int64)
        entries[: len(self.entries)] = self.entries
        arena = np.empty(texts * constants.LONGEST_TEXT // 4, np.uint8)
        arena[: len(self.arena)] = self.arena
        slots = np.empty(2 * texts, np.int32)
        self.slots, self.entries, self.arena = slots, entries, arena
        self._kernels.rehash(slots, entries, len(self))

    def learn(self) -> bool:
        """Number the texts that are new; whether there are any."""
        if self._learned == len(self):
            return False
        constants = self._kernels.constants
        for entry in self.entries[self._learned : len(self)]:
            start = int(entry[constants.START])
            packed = self.arena[start >> 8 : (start >> 8) + (start & 0xFF)].tobytes()
            value = msgspec.msgpack.decode(packed)
            text = value if isinstance(value, str) else ",".join(value)
            entry[constants.CODE] = code = self._lexicon.code(text)
            if entry[constants.PLACE] < 0:
                self.letters[-1 - entry[constants.PLACE]] = code
        self._learned = len(self)
        if 2 * self._learned > len(self.entries):
            self.grow()
        return True

    def settle(self, codes: NDArray[np.int32]) -> None:
        """Replace the provisional numbers of texts that were new."""
        provisional = codes < 0
        if provisional.any():
            entries = -2 - codes[provisional]
            codes[provisional] = self.entries[entries, self._kernels.constants.CODE]
